/*
 * Emulation of a host with AMD SEV-SNP: configuration, MSRs and log
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/log.h"
#include "cpu.h"
#include "exec/cputlb.h"
#include "exec/memory.h"
#include "snp-host.h"

SnpHost *snp_host;

void snp_host_init(MemoryRegion *rmp, hwaddr base, uint64_t size,
                   uint64_t pages, bool enforce, uint32_t in_use_one_in)
{
    SnpHost *h = g_new0(SnpHost, 1);

    assert(!snp_host);
    h->rmp_base = base;
    h->rmp_size = size;
    h->rmp = memory_region_get_ram_ptr(rmp);
    h->pages = pages;
    h->enforce = enforce;
    h->in_use_one_in = in_use_one_in;
    h->view = g_new0(uint32_t, pages);
    h->key = g_new0(uint64_t, SNP_MAX_ASID + 1);
    h->asid_enabled = g_new0(bool, SNP_MAX_ASID + 1);
    snp_host = h;
}

void snp_log(CPUState *cs, const char *op, hwaddr spa, const char *fmt, ...)
{
    g_autofree char *reason = NULL;
    RmpEntry e = snp_rmp_get(spa);
    va_list ap;

    if (!qemu_loglevel_mask(LOG_GUEST_ERROR)) {
        return;
    }

    va_start(ap, fmt);
    reason = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    /* A single call, so that lines of different vCPUs do not mix.  */
    qemu_log("snp: cpu%d rip %016" PRIx64 " %s spa %" HWADDR_PRIx
             " rmp %016" PRIx64 ":%016" PRIx64 " %s: %s\n",
             cs ? cs->cpu_index : -1, cs ? (uint64_t)cpu_env(cs)->eip : 0,
             op, spa, e.lo, e.hi, snp_page_state_name(snp_page_state(spa)),
             reason);
}

/*
 * Whether RMP_BASE and RMP_END keep their values once SNP_EN is set; found in
 * no public text.
 */
#define SNP_RMP_MSRS_LOCKED     true

#define SYSCFG_WRITABLE                                                 \
    (SYSCFG_MTRR_FIX_DRAM_EN | SYSCFG_MTRR_FIX_DRAM_MOD_EN |            \
     SYSCFG_MTRR_VAR_DRAM_EN | SYSCFG_MTRR_TOM2_EN |                    \
     SYSCFG_TOM2_FORCE_WB | SYSCFG_MEM_ENCRYPT | SYSCFG_SNP_EN |        \
     SYSCFG_VMPL_EN)

/*
 * APM volume 2, 15.36.4: the RMP has to be zero when the first processor
 * enables SNP.  Which processor that is can be told only until firmware has
 * initialized the table, so look at the others.
 */
static void snp_check_rmp_zero(CPUX86State *env)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (qatomic_read(&cpu_env(cs)->msr_syscfg) & SYSCFG_SNP_EN) {
            return;
        }
    }
    if (!buffer_is_zero(snp_host->rmp, snp_host->rmp_size)) {
        snp_log(env_cpu(env), "wrmsr", snp_host->rmp_base,
                "SYSCFG.SNP_EN set with an RMP that is not zero");
    }
}

SnpMsrResult snp_host_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val)
{
    switch (msr) {
    case MSR_AMD64_SYSCFG:
        *val = env->msr_syscfg;
        return SNP_MSR_DONE;
    case MSR_K7_HWCR:
        *val = env->msr_hwcr;
        return SNP_MSR_DONE;
    case MSR_RMP_BASE:
        *val = env->msr_rmp_base;
        return SNP_MSR_DONE;
    case MSR_RMP_END:
        *val = env->msr_rmp_end;
        return SNP_MSR_DONE;
    case MSR_SEV_ES_GHCB:
        /* APM volume 2, 15.35.7: for SEV-ES guests only.  */
        if (!env->sev_es) {
            return SNP_MSR_GP;
        }
        *val = env->msr_sev_ghcb;
        return SNP_MSR_DONE;
    case MSR_SEV_STATUS:
        *val = env->sev_status;
        return SNP_MSR_DONE;
    case MSR_VM_PAGE_FLUSH:
        return SNP_MSR_GP;      /* write-only: APM volume 2, 15.34.9 */
    default:
        return SNP_MSR_OTHER;
    }
}

SnpMsrResult snp_host_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val)
{
    bool snp_en = env->msr_syscfg & SYSCFG_SNP_EN;

    switch (msr) {
    case MSR_AMD64_SYSCFG:
        /* APM volume 2, 15.36.2: with SNP_EN all writes are ignored.  */
        if (snp_en) {
            return SNP_MSR_DONE;
        }
        if (val & ~SYSCFG_WRITABLE) {
            return SNP_MSR_GP;
        }
        if (val & SYSCFG_SNP_EN) {
            snp_check_rmp_zero(env);
            /* What has been filled so far was not checked.  */
            tlb_flush(env_cpu(env));
        }
        qatomic_set(&env->msr_syscfg, val);
        return SNP_MSR_DONE;

    case MSR_K7_HWCR:
        env->msr_hwcr = val | (env->msr_hwcr & HWCR_SMMLOCK);
        return SNP_MSR_DONE;

    /*
     * The emulated table lies where the machine has put it; other values are
     * kept for firmware to refuse.
     */
    case MSR_RMP_BASE:
    case MSR_RMP_END:
        if (snp_en && SNP_RMP_MSRS_LOCKED) {
            return SNP_MSR_DONE;
        }
        if (msr == MSR_RMP_BASE) {
            env->msr_rmp_base = val;
        } else {
            env->msr_rmp_end = val;
        }
        return SNP_MSR_DONE;

    /* APM volume 2, 15.36.2 */
    case MSR_MTRRfix64K_00000:
    case MSR_MTRRfix16K_80000:
    case MSR_MTRRfix16K_A0000:
    case MSR_MTRRfix4K_C0000 ... MSR_MTRRfix4K_F8000:
    case MSR_IORR_BASE0 ... MSR_IORR_MASK1:
    case MSR_TOP_MEM:
    case MSR_TOP_MEM2:
    case MSR_SMM_KEY:
        if (snp_en) {
            snp_log(env_cpu(env), "wrmsr", 0, "MSR %x is locked by SNP_EN",
                    msr);
            return SNP_MSR_GP;
        }
        return SNP_MSR_OTHER;

    case MSR_VM_HSAVE_PA:
        /* APM volume 2, 15.36.12 */
        if (snp_en && (snp_rmp_get(val).lo & RMP_ASSIGNED)) {
            snp_log(env_cpu(env), "wrmsr", val,
                    "VM_HSAVE_PA is not a hypervisor page");
            return SNP_MSR_GP;
        }
        return SNP_MSR_OTHER;

    case MSR_VM_PAGE_FLUSH:
        /* There are no caches; APM volume 2, 15.34.9: ASID 0 is refused.  */
        return val & 0xfff ? SNP_MSR_DONE : SNP_MSR_GP;

    case MSR_SEV_ES_GHCB:
        if (!env->sev_es) {
            return SNP_MSR_GP;
        }
        env->msr_sev_ghcb = val;
        return SNP_MSR_DONE;

    case MSR_SEV_STATUS:
        return SNP_MSR_GP;

    default:
        return SNP_MSR_OTHER;
    }
}
