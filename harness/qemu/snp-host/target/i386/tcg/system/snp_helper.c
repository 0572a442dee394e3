/*
 * Instructions of AMD SEV-SNP
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "exec/cpu_ldst.h"
#include "tcg/helper-tcg.h"
#include "snp-host.h"

/*
 * What the sources (see snp-rmp.c) do not say, or say at second hand only:
 */

/* PVALIDATE at a VMPL other than 0 */
#define PVALIDATE_VMPL_EXCEPTION    EXCP0D_GPF
/*
 * RMPQUERY: is its own VMPL, or a more privileged one, refused as by RMPADJUST?
 * MS has status 2, but the reason given there is that of RMPUPDATE.
 */
#define RMPQUERY_LOWER_VMPLS_ONLY   true

/* The status, and the flags that go with it */
static void set_result(CPUX86State *env, SnpStatus status, bool set_cf, bool cf)
{
    uint32_t eflags = cpu_cc_compute_all(env) & CC_C;

    if (set_cf) {
        eflags = cf ? CC_C : 0;
    }
    /* All fit in 4 bits: never negative. */
    eflags |= compute_pf(status) | (status ? 0 : CC_Z);
    CC_SRC = eflags;
    CC_OP = CC_OP_EFLAGS;
    env->regs[R_EAX] = status;
}

static void check_snp_insn(CPUX86State *env, bool guest, uintptr_t ra)
{
    if (!snp_host || !(env->msr_syscfg & SYSCFG_SNP_EN) ||
        (guest && !env->sev_snp)) {
        raise_exception_ra(env, EXCP06_ILLOP, ra);
    }
    if (env->hflags & HF_CPL_MASK) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    }
}

void helper_rmpupdate(CPUX86State *env, target_ulong addr)
{
    CPUState *cs = env_cpu(env);
    uintptr_t ra = GETPC();
    RmpUpdate new;
    SnpStatus status;
    SnpExclusive x;
    uint64_t lo, hi;

    check_snp_insn(env, false, ra);
    lo = cpu_ldq_data_ra(env, addr, ra);
    hi = cpu_ldq_data_ra(env, addr + 8, ra);
    new = (RmpUpdate) {
        .gpa = lo,
        .assigned = hi & 1,
        .size_2m = extract64(hi, 8, 1),
        .immutable = extract64(hi, 16, 1),
        .asid = hi >> 32,
    };

    snp_exclusive_begin(cs, &x);
    status = snp_rmpupdate(env, env->regs[R_EAX], &new);
    snp_exclusive_end(cs, &x);
    set_result(env, status, false, false);
}

void helper_psmash(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);
    SnpStatus status;
    SnpExclusive x;

    check_snp_insn(env, false, GETPC());
    snp_exclusive_begin(cs, &x);
    status = snp_psmash(env, env->regs[R_EAX]);
    snp_exclusive_end(cs, &x);
    set_result(env, status, false, false);
}

/*
 * Translates the operand and becomes exclusive.  Another vCPU may have changed
 * the RMP before that: then once more.
 */
static void translate_operand(CPUX86State *env, target_ulong va,
                              SnpGuestPage *page, SnpExclusive *x,
                              uintptr_t ra)
{
    CPUState *cs = env_cpu(env);

    for (;;) {
        uint64_t generation;

        x86_snp_translate(env, va, page, ra);
        generation = snp_host->generation;
        snp_exclusive_begin(cs, x);
        if (generation == snp_host->generation) {
            return;
        }
        snp_exclusive_end(cs, x);
    }
}

static bool operand_ok(CPUX86State *env, const char *op, target_ulong va)
{
    bool size_2m = env->regs[R_ECX] & 1;

    if ((uint32_t)env->regs[R_ECX] > 1) {
        snp_log(env_cpu(env), op, 0, "status %d: size %d", SNP_STATUS_INPUT,
                (int)env->regs[R_ECX]);
        return false;
    }
    if (size_2m && va & (2 * MiB - 1) & TARGET_PAGE_MASK) {
        snp_log(env_cpu(env), op, 0, "status %d: address " TARGET_FMT_lx
                " is not aligned", SNP_STATUS_INPUT, va);
        return false;
    }
    return true;
}

void helper_pvalidate(CPUX86State *env, target_ulong va)
{
    CPUState *cs = env_cpu(env);
    uintptr_t ra = GETPC();
    SnpStatus status = SNP_STATUS_INPUT;
    uint64_t error_code = 0;
    bool unchanged = false;
    SnpGuestPage page;
    SnpExclusive x;
    SnpFault fault;

    check_snp_insn(env, true, ra);
    if (env->sev_vmpl) {
        raise_exception_err_ra(env, PVALIDATE_VMPL_EXCEPTION, 0, ra);
    }
    if (operand_ok(env, "pvalidate", va)) {
        translate_operand(env, va, &page, &x, ra);
        fault = snp_pvalidate(env, &page, env->regs[R_ECX] & 1,
                              env->regs[R_EDX] & 1, &status, &unchanged,
                              &error_code);
        snp_exclusive_end(cs, &x);
        if (fault != SNP_FAULT_NONE) {
            x86_snp_raise_fault(env, va, &page, fault, error_code, ra);
        }
    }
    set_result(env, status, true, unchanged);
}

void helper_rmpadjust(CPUX86State *env, target_ulong va)
{
    CPUState *cs = env_cpu(env);
    uintptr_t ra = GETPC();
    SnpStatus status = SNP_STATUS_INPUT;
    target_ulong rdx = env->regs[R_EDX];
    int vmpl = rdx & 0xff;
    uint8_t perms = rdx >> 8;
    bool vmsa = extract64(rdx, 16, 1);
    uint64_t error_code = 0;
    SnpGuestPage page;
    SnpExclusive x;
    SnpFault fault;

    check_snp_insn(env, true, ra);
    if (!operand_ok(env, "rmpadjust", va)) {
        /* status is set */
    } else if (vmpl >= SNP_NUM_VMPLS || (perms & ~RMP_PERM_ALL) ||
               (perms && !(perms & RMP_PERM_READ))) {
        snp_log(cs, "rmpadjust", 0, "status %d: VMPL%d permissions %x",
                status, vmpl, perms);
    } else if (vmpl <= env->sev_vmpl) {
        status = SNP_STATUS_PERMISSION;
        snp_log(cs, "rmpadjust", 0, "status %d: VMPL%d at VMPL%d", status,
                vmpl, env->sev_vmpl);
    } else {
        translate_operand(env, va, &page, &x, ra);
        fault = snp_rmpadjust(env, &page, env->regs[R_ECX] & 1, vmpl, perms,
                              vmsa, &status, &error_code);
        snp_exclusive_end(cs, &x);
        if (fault != SNP_FAULT_NONE) {
            x86_snp_raise_fault(env, va, &page, fault, error_code, ra);
        }
    }
    set_result(env, status, false, false);
}

void helper_rmpquery(CPUX86State *env, target_ulong va)
{
    CPUState *cs = env_cpu(env);
    uintptr_t ra = GETPC();
    SnpStatus status = SNP_STATUS_OK;
    int vmpl = env->regs[R_EDX] & 0xff;
    uint64_t error_code = 0;
    SnpRmpQuery result;
    SnpGuestPage page;
    SnpExclusive x;
    SnpFault fault;

    check_snp_insn(env, true, ra);
    if (vmpl >= SNP_NUM_VMPLS ||
        (RMPQUERY_LOWER_VMPLS_ONLY && vmpl <= env->sev_vmpl)) {
        status = SNP_STATUS_PERMISSION;
        snp_log(cs, "rmpquery", 0, "status %d: VMPL%d at VMPL%d", status,
                vmpl, env->sev_vmpl);
    } else {
        translate_operand(env, va, &page, &x, ra);
        fault = snp_rmpquery(env, &page, vmpl, &result, &error_code);
        snp_exclusive_end(cs, &x);
        if (fault != SNP_FAULT_NONE) {
            x86_snp_raise_fault(env, va, &page, fault, error_code, ra);
        }
        env->regs[R_ECX] = result.size_2m;
        env->regs[R_EDX] = vmpl | result.perms << 8 | result.vmsa << 16;
    }
    set_result(env, status, false, false);
}
