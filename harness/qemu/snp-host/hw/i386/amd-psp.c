/*
 * AMD security processor (PSP) of a SEV-SNP host
 *
 * A PCI device with a mailbox: the driver writes the physical address of a
 * command buffer and then the number of the command; the PSP executes it,
 * stores a status, and raises an interrupt if the driver asked for one. Here
 * are the commands of SEV, SEV-ES and SEV-SNP that a host needs to start and
 * run guests and to shut down again.
 *
 * Sources: "Secure Encrypted Virtualization API" (AMD 55766), "SEV Secure
 * Nested Paging Firmware ABI Specification" (AMD 56860), and, where those
 * leave the order of checks open, the behaviour of firmware 1.55.25 that AMD
 * has published. What isn't implemented is INVALID_COMMAND; what is but cannot
 * be done without AMD's keys is refused, with the reason in the log.
 *
 * Locking: the mailbox registers are under the BQL. Commands run with all
 * vCPUs stopped (async_safe_run_on_cpu()) and without the BQL; no other code
 * uses the rest of the state.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/guest-random.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/queue.h"
#include "qemu/units.h"
#include "crypto/hash.h"
#include "hw/core/cpu.h"
#include "hw/boards.h"
#include "hw/i386/x86.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci_device.h"
#include "migration/vmstate.h"
#include "cpu.h"
#include "target/i386/snp-host.h"
#include "amd-psp.h"

#define TYPE_AMD_PSP "amd-psp"
OBJECT_DECLARE_SIMPLE_TYPE(AMDPSPState, AMD_PSP)

#define PSP_DEVICE_ID       0x14ca
#define PSP_BAR             2
#define PSP_BAR_SIZE        (1 * MiB)
#define PSP_MSIX_BAR        5
#define PSP_MSIX_VECTORS    2

/* Registers; drivers/crypto/ccp/sp-pci.c has the same numbers for 1022:14ca. */
#define PSP_INTEN           0x10690     /* P2CMSG_INTEN */
#define PSP_INTSTS          0x10694     /* P2CMSG_INTSTS */
#define PSP_CMDRESP         0x10980     /* C2PMSG_32 */
#define PSP_CMDBUF_LO       0x109e0     /* C2PMSG_56 */
#define PSP_CMDBUF_HI       0x109e4     /* C2PMSG_57 */
#define PSP_TEE_VERSION     0x109e8     /* C2PMSG_58 */
#define PSP_BL_VERSION      0x109ec     /* C2PMSG_59 */
#define PSP_FEATURES        0x109fc     /* C2PMSG_63 */

#define PSP_FEATURE_SEV     BIT(0)
#define PSP_INT_COMPLETE    BIT(1)
#define PSP_CMD_IOC         BIT(0)
#define PSP_CMD_RESPONSE    BIT(31)

/* The interface version that is emulated. */
#define PSP_API_MAJOR       1
#define PSP_API_MINOR       55
#define PSP_API_BUILD       25
/*
 * TCB version: only the component of the SNP firmware (byte 6 on Zen 3 and 4).
 * From 0x1b on, no SEV-ES guests are supported beside SNP (AMD-SB-3023).
 */
#define PSP_TCB             (0x16ULL << 48)

typedef enum PspStatus {
    PSP_SUCCESS                 = 0x00,
    PSP_INVALID_PLATFORM_STATE  = 0x01,
    PSP_INVALID_GUEST_STATE     = 0x02,
    PSP_INVALID_CONFIG          = 0x03,
    PSP_INVALID_LENGTH          = 0x04,
    PSP_POLICY_FAILURE          = 0x07,
    PSP_INACTIVE                = 0x08,
    PSP_INVALID_ADDRESS         = 0x09,
    PSP_BAD_MEASUREMENT         = 0x0b,
    PSP_ASID_OWNED              = 0x0c,
    PSP_INVALID_ASID            = 0x0d,
    PSP_WBINVD_REQUIRED         = 0x0e,
    PSP_DFFLUSH_REQUIRED        = 0x0f,
    PSP_INVALID_GUEST           = 0x10,
    PSP_INVALID_COMMAND         = 0x11,
    PSP_ACTIVE                  = 0x12,
    PSP_HARDWARE_PLATFORM       = 0x13,
    PSP_UNSUPPORTED             = 0x15,
    PSP_INVALID_PARAM           = 0x16,
    PSP_INVALID_PAGE_SIZE       = 0x19,
    PSP_INVALID_PAGE_STATE      = 0x1a,
    PSP_INVALID_PAGE_OWNER      = 0x1c,
    PSP_AEAD_OFLOW              = 0x1d,
    PSP_RMP_INIT_REQUIRED       = 0x20,
    /* The command buffer itself is in a wrong page state. */
    PSP_INVALID_BUFFER_STATE    = 0x5a,
} PspStatus;

typedef enum SevState {
    SEV_UNINIT,
    SEV_INIT,
    SEV_WORKING,
} SevState;

typedef enum SevGuestState {
    SEV_GUEST_UNINIT,
    SEV_GUEST_LUPDATE,
    SEV_GUEST_LSECRET,
    SEV_GUEST_RUNNING,
} SevGuestState;

typedef enum SnpGuestState {
    SNP_GUEST_INIT,
    SNP_GUEST_LAUNCH,
    SNP_GUEST_RUNNING,
} SnpGuestState;

/* dirty -(DF_FLUSH)-> clean -(ACTIVATE)-> allocated -(LAUNCH_FINISH)-> used */
typedef enum AsidState {
    ASID_DIRTY,
    ASID_CLEAN,
    ASID_ALLOCATED,
    ASID_IN_USE,
} AsidState;

/* Bits of the SEV and the SNP policy. */
#define SEV_POLICY_NODBG            BIT(0)
#define SEV_POLICY_ES               BIT(2)
#define SNP_POLICY_SMT              BIT_ULL(16)
#define SNP_POLICY_ONE              BIT_ULL(17)
#define SNP_POLICY_DEBUG            BIT_ULL(19)
#define SNP_POLICY_KNOWN            MAKE_64BIT_MASK(0, 21)

/* Page types of SNP_LAUNCH_UPDATE. */
enum {
    SNP_TYPE_NORMAL = 1,
    SNP_TYPE_VMSA,
    SNP_TYPE_ZERO,
    SNP_TYPE_UNMEASURED,
    SNP_TYPE_SECRETS,
    SNP_TYPE_CPUID,
};

#define PSP_PAGE            4096ULL
#define PSP_LARGE_PAGE      (2 * MiB)
#define PSP_MAX_ARGS        64
#define PSP_SHA256_LEN      32
#define PSP_SHA384_LEN      48
#define PSP_TMR_SIZE        (1 * MiB)
#define PSP_TMR_SIZE_SNP    (2 * MiB)
#define PSP_NV_SIZE         (32 * KiB)

/*
 * Firmware keeps an SNP guest's context encrypted in its context page. That it
 * cannot be changed there by anybody else is what the page state ensures; here
 * it is kept outside of guest memory.
 */
typedef struct PspGuest {
    QLIST_ENTRY(PspGuest) next;
    bool snp;
    hwaddr gctx;                    /* SNP: the context page */
    uint32_t handle;                /* SEV: from 1 */
    uint32_t asid;                  /* 0: inactive */
    uint64_t key;                   /* 0: not activated so far */
    uint64_t policy;
    int state;                      /* SnpGuestState or SevGuestState */
    uint8_t digest[PSP_SHA384_LEN]; /* SNP: launch digest */
    QCryptoHash *hash;              /* SEV: of all that was launched */
} PspGuest;

struct AMDPSPState {
    PCIDevice parent_obj;

    /* Under the BQL. */
    MemoryRegion mmio;
    QEMUBH *done_bh;
    uint32_t inten;
    uint32_t intsts;
    uint32_t cmdresp;
    uint32_t cmdbuf_lo;
    uint32_t cmdbuf_hi;
    bool busy;                      /* from the command to the response */
    uint32_t status;                /* of a finished command, for done_bh */

    /* Of the commands. */
    SevState sev_state;
    bool sev_es;
    hwaddr tmr;
    uint64_t tmr_len;               /* 0: none */
    bool snp_init;
    bool rmp_init;
    SnpIommuInfo iommu;             /* what is in state Firmware-IOMMU */
    uint64_t reported_tcb;
    uint32_t snp_flags;             /* MASK_CHIP_ID and MASK_CHIP_KEY */
    AsidState asid[SNP_MAX_ASID + 1];
    uint32_t last_handle;
    QLIST_HEAD(, PspGuest) guests;
};

/* A command that is being executed. */
typedef struct PspRun {
    AMDPSPState *s;
    CPUState *cs;                   /* the vCPU that rang */
    const struct PspCommand *cmd;
    hwaddr buf;
    uint8_t args[PSP_MAX_ARGS];     /* copy of the command buffer */
    bool rmp_changed;
} PspRun;

typedef struct PspCommand {
    uint16_t id;
    uint8_t len;                    /* of the command buffer; 0: none */
    bool writes;                    /* the command buffer is written back */
    const char *name;
    PspStatus (*run)(PspRun *r);
} PspCommand;

#define PSP_FIRST_SNP_COMMAND   0x81

/* --- tools --- */

static uint32_t arg32(PspRun *r, int offset)
{
    return ldl_le_p(r->args + offset);
}

static uint64_t arg64(PspRun *r, int offset)
{
    return ldq_le_p(r->args + offset);
}

/* Page address; without the C-bit, which only the host's own key is about. */
static hwaddr page_addr(uint64_t arg)
{
    return arg & ~SNP_CBIT & ~(PSP_PAGE - 1);
}

static PspStatus G_GNUC_PRINTF(4, 5)
refuse(PspRun *r, PspStatus status, hwaddr spa, const char *fmt, ...)
{
    g_autofree char *op = g_strdup_printf("psp:%s", r->cmd->name);
    g_autofree char *why = NULL;
    va_list ap;

    va_start(ap, fmt);
    why = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    snp_log(r->cs, op, spa, "status 0x%x: %s", status, why);
    return status;
}

/* For reserved fields, and bits of addresses that have to be zero. */
static PspStatus need_zero(PspRun *r, uint64_t bits)
{
    if (bits) {
        return refuse(r, PSP_INVALID_PARAM, r->buf, "reserved bits are set");
    }
    return PSP_SUCCESS;
}

static PspStatus need_zero_args(PspRun *r, int offset, int len)
{
    return need_zero(r, !buffer_is_zero(r->args + offset, len));
}

static PspStatus need_page_addr(PspRun *r, int offset)
{
    return need_zero(r, arg64(r, offset) & (PSP_PAGE - 1));
}

static PspStatus need_snp(PspRun *r)
{
    if (!r->s->snp_init) {
        return refuse(r, PSP_INVALID_PLATFORM_STATE, r->buf,
                      "SNP is not initialised");
    }
    return PSP_SUCCESS;
}

static PspStatus need_sev(PspRun *r, SevState at_least)
{
    if (r->s->sev_state < at_least) {
        return refuse(r, PSP_INVALID_PLATFORM_STATE, r->buf,
                      at_least == SEV_INIT ? "SEV is not initialised"
                                           : "there is no SEV guest");
    }
    return PSP_SUCCESS;
}

static bool overlaps(hwaddr a, uint64_t alen, hwaddr b, uint64_t blen)
{
    return alen && blen && a < b + blen && b < a + alen;
}

/* Whether the range is RAM of one of the two regions, below and above 4G. */
static bool in_dram(hwaddr spa, uint64_t len)
{
    X86MachineState *x86ms = X86_MACHINE(qdev_get_machine());
    hwaddr end = spa + len;

    return end >= spa &&
           (end <= x86ms->below_4g_mem_size ||
            (spa >= x86ms->above_4g_mem_start &&
             end <= x86ms->above_4g_mem_start + x86ms->above_4g_mem_size));
}

/*
 * May the PSP use this range at all? Not what belongs to SMM (ASEG; SeaBIOS
 * sets up no TSEG), its own memory, and the RMP.
 */
static PspStatus need_range(PspRun *r, hwaddr spa, uint64_t len)
{
    AMDPSPState *s = r->s;

    if (overlaps(spa, len, 0xa0000, 0x20000) ||
        overlaps(spa, len, s->tmr, s->tmr_len) ||
        overlaps(spa, len, snp_host->rmp_base, snp_host->rmp_size)) {
        return refuse(r, PSP_INVALID_ADDRESS, spa,
                      "SMM, TMR or RMP, %" PRIu64 " bytes", len);
    }
    if (!in_dram(spa, len)) {
        return refuse(r, PSP_INVALID_CONFIG, spa,
                      "not in one region of DRAM, %" PRIu64 " bytes", len);
    }
    return PSP_SUCCESS;
}

/*
 * With x-snp-enforce=off, a page in a wrong state, of a wrong size or owner
 * is no reason to refuse a command, and its RMP entry is left alone if it
 * isn't in the state that the command would change. Everything else is as
 * usual.
 */
static bool in_state(hwaddr spa, uint32_t states)
{
    return BIT(snp_page_state(spa)) & states;
}

#define PAGE_FIRMWARE   BIT(SNP_PAGE_FIRMWARE)
/* Where the PSP may write: Firmware, or not covered by the RMP. */
#define PAGE_OUTPUT     (PAGE_FIRMWARE | BIT(SNP_PAGE_DEFAULT))
#define PAGE_GUEST      (BIT(SNP_PAGE_PRE_GUEST) | BIT(SNP_PAGE_PRE_SWAP) | \
                         BIT(SNP_PAGE_GUEST_INVALID) | \
                         BIT(SNP_PAGE_GUEST_VALID))

static PspStatus need_state(PspRun *r, hwaddr spa, uint32_t states)
{
    /* The RMP's own pages are no operand of any command. */
    if (overlaps(spa, PSP_PAGE, snp_host->rmp_base, snp_host->rmp_size)) {
        return refuse(r, PSP_INVALID_PARAM, spa, "in the RMP");
    }
    if (!in_state(spa, states) && snp_host->enforce) {
        return refuse(r, PSP_INVALID_PAGE_STATE, spa, "page state");
    }
    return PSP_SUCCESS;
}

/* Buffers that the PSP writes, once the RMP is in force. */
static PspStatus need_output(PspRun *r, hwaddr spa, uint64_t len)
{
    hwaddr page;

    if (!r->s->snp_init) {
        return PSP_SUCCESS;
    }
    for (page = page_addr(spa); page < spa + len; page += PSP_PAGE) {
        PspStatus st = need_state(r, page, PAGE_OUTPUT);

        if (st) {
            return st;
        }
    }
    return PSP_SUCCESS;
}

/* A small structure that the PSP writes. */
static PspStatus need_output_struct(PspRun *r, hwaddr spa, uint64_t len)
{
    if ((spa & (PSP_PAGE - 1)) + len > PSP_PAGE) {
        return refuse(r, PSP_INVALID_PARAM, spa, "crosses a page");
    }
    return need_range(r, spa, len) ?: need_output(r, spa, len);
}

static PspStatus need_size(PspRun *r, hwaddr spa, bool large)
{
    bool is_large;

    snp_rmp_lookup(spa, &is_large);
    if (is_large != large && snp_host->enforce) {
        return refuse(r, PSP_INVALID_PAGE_SIZE, spa, "%s page in the RMP",
                      is_large ? "2M" : "4K");
    }
    return PSP_SUCCESS;
}

/*
 * A page within a 2M page has no state of its own that could change; commands
 * that would have to are refused, except with x-snp-enforce=off.
 */
static void set_rmp(PspRun *r, hwaddr spa, uint64_t lo, uint64_t hi)
{
    uint64_t keep = RMP_SUBCOUNT_MASK | RMP_PAGESIZE_2M;
    bool large;
    RmpEntry e = snp_rmp_lookup(spa, &large);

    if (large && !QEMU_IS_ALIGNED(spa, PSP_LARGE_PAGE)) {
        return;
    }
    e.lo = (e.lo & keep) | (lo & ~keep);
    e.hi = hi;
    snp_rmp_set(spa, e);
    r->rmp_changed = true;
}

/* Firmware, if the page is in one of @from. */
static void make_firmware(PspRun *r, hwaddr spa, uint32_t from)
{
    if (in_state(spa, from)) {
        set_rmp(r, spa, RMP_ASSIGNED | RMP_IMMUTABLE | RMP_LOCK, 0);
    }
}

static void make_reclaim(PspRun *r, hwaddr spa, uint32_t from)
{
    if (in_state(spa, from)) {
        set_rmp(r, spa, RMP_ASSIGNED, 0);
    }
}

static PspGuest *find_gctx(AMDPSPState *s, hwaddr gctx)
{
    PspGuest *g;

    QLIST_FOREACH(g, &s->guests, next) {
        if (g->snp && g->gctx == gctx) {
            return g;
        }
    }
    return NULL;
}

static PspGuest *find_handle(AMDPSPState *s, uint32_t handle)
{
    PspGuest *g;

    QLIST_FOREACH(g, &s->guests, next) {
        if (!g->snp && g->handle == handle) {
            return g;
        }
    }
    return NULL;
}

static uint32_t count_guests(AMDPSPState *s, bool snp)
{
    PspGuest *g;
    uint32_t n = 0;

    QLIST_FOREACH(g, &s->guests, next) {
        /* SNP guests count from LAUNCH_START. */
        n += g->snp == snp && (!snp || g->state != SNP_GUEST_INIT);
    }
    return n;
}

/* The SNP guest whose context page's address is at @offset. */
static PspStatus need_gctx(PspRun *r, int offset, PspGuest **g)
{
    hwaddr gctx = page_addr(arg64(r, offset));

    if (overlaps(gctx, PSP_PAGE, snp_host->rmp_base, snp_host->rmp_size)) {
        return refuse(r, PSP_INVALID_PARAM, gctx, "in the RMP");
    }
    *g = find_gctx(r->s, gctx);
    if (!*g || !in_state(gctx, BIT(SNP_PAGE_CONTEXT))) {
        return refuse(r, PSP_INVALID_GUEST, gctx, "not a guest context");
    }
    return PSP_SUCCESS;
}

/* The SEV guest whose handle is at the start of the command buffer. */
static PspStatus need_handle(PspRun *r, PspGuest **g)
{
    *g = find_handle(r->s, arg32(r, 0));
    if (!*g) {
        return refuse(r, PSP_INVALID_GUEST, r->buf, "no guest with handle %u",
                      arg32(r, 0));
    }
    return PSP_SUCCESS;
}

static PspStatus need_guest_state(PspRun *r, PspGuest *g, int state)
{
    if (g->state != state) {
        return refuse(r, PSP_INVALID_GUEST_STATE, g->gctx,
                      "guest is in state %d, not %d", g->state, state);
    }
    return PSP_SUCCESS;
}

static PspStatus need_active(PspRun *r, PspGuest *g)
{
    if (!g->asid) {
        return refuse(r, PSP_INACTIVE, g->gctx, "guest is not active");
    }
    return PSP_SUCCESS;
}

static PspStatus need_owner(PspRun *r, PspGuest *g, hwaddr spa)
{
    bool large;
    RmpEntry e = snp_rmp_lookup(spa, &large);

    if (rmp_asid(e) != g->asid && snp_host->enforce) {
        return refuse(r, PSP_INVALID_PAGE_OWNER, spa, "page of ASID %u, not %u",
                      rmp_asid(e), g->asid);
    }
    return PSP_SUCCESS;
}

static PspStatus read_phys(PspRun *r, hwaddr spa, void *data, size_t len)
{
    if (!snp_phys_read(spa, data, len)) {
        return refuse(r, PSP_INVALID_ADDRESS, spa, "cannot be read");
    }
    return PSP_SUCCESS;
}

static PspStatus write_phys(PspRun *r, hwaddr spa, const void *data,
                            size_t len)
{
    if (!snp_phys_write(spa, data, len)) {
        return refuse(r, PSP_INVALID_ADDRESS, spa, "cannot be written");
    }
    return PSP_SUCCESS;
}

/* --- ASIDs --- */

/* DF_FLUSH needs a WBINVD on each processor after this. */
static void clear_wbinvd_done(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        cpu_env(cs)->wbinvd_done = false;
    }
}

static void make_asids_dirty(AMDPSPState *s)
{
    int i;

    for (i = 1; i <= SNP_MAX_ASID; i++) {
        s->asid[i] = ASID_DIRTY;
    }
    clear_wbinvd_done();
}

/*
 * Bind the guest to the ASID, if that is free. Its memory key is used from now
 * on for all that is accessed with this ASID.
 */
static PspStatus activate(PspRun *r, PspGuest *g, uint32_t asid)
{
    AMDPSPState *s = r->s;
    bool es = g->snp || (g->policy & SEV_POLICY_ES);

    if (asid < 1 || asid > SNP_MAX_ASID) {
        return refuse(r, PSP_INVALID_ASID, g->gctx, "ASID %u", asid);
    }
    if (s->asid[asid] >= ASID_ALLOCATED) {
        return refuse(r, PSP_ASID_OWNED, g->gctx, "ASID %u", asid);
    }
    if (g->asid) {
        return refuse(r, PSP_ACTIVE, g->gctx, "guest has ASID %u", g->asid);
    }
    if (s->asid[asid] == ASID_DIRTY) {
        return refuse(r, PSP_DFFLUSH_REQUIRED, g->gctx, "ASID %u", asid);
    }
    if (es != (asid < SNP_MIN_SEV_ASID)) {
        return refuse(r, PSP_INVALID_ASID, g->gctx,
                      "ASID %u is for guests with%s encrypted state", asid,
                      es ? "out" : "");
    }

    g->asid = asid;
    snp_key_new(asid);
    if (g->key) {
        snp_host->key[asid] = g->key;
    } else {
        g->key = snp_host->key[asid];
    }
    s->asid[asid] = ASID_ALLOCATED;
    return PSP_SUCCESS;
}

/* From now on VMRUN accepts the ASID. */
static void start_guest(AMDPSPState *s, PspGuest *g, int state)
{
    g->state = state;
    s->asid[g->asid] = ASID_IN_USE;
    snp_asid_enable(g->asid, true);
}

/*
 * The key stays until the ASID's next activation. An ASID that was never in use
 * has nothing in caches and needs no flush.
 */
static void deactivate(AMDPSPState *s, PspGuest *g)
{
    if (s->asid[g->asid] == ASID_IN_USE) {
        s->asid[g->asid] = ASID_DIRTY;
        clear_wbinvd_done();
    } else {
        s->asid[g->asid] = ASID_CLEAN;
    }
    snp_asid_enable(g->asid, false);
    g->asid = 0;
}

static void free_guest(AMDPSPState *s, PspGuest *g)
{
    if (g->asid) {
        deactivate(s, g);
    }
    QLIST_REMOVE(g, next);
    qcrypto_hash_free(g->hash);
    g_free(g);
}

static void free_guests(AMDPSPState *s, bool snp)
{
    PspGuest *g, *next;

    QLIST_FOREACH_SAFE(g, &s->guests, next, next) {
        if (g->snp == snp) {
            free_guest(s, g);
        }
    }
}

/* Of SEV and SNP alike. */
static PspStatus df_flush(PspRun *r)
{
    CPUState *cs;
    int i;

    CPU_FOREACH(cs) {
        if (!cpu_env(cs)->wbinvd_done) {
            return refuse(r, PSP_WBINVD_REQUIRED, 0, "WBINVD on cpu%d",
                          cs->cpu_index);
        }
    }
    for (i = 1; i <= SNP_MAX_ASID; i++) {
        if (r->s->asid[i] == ASID_DIRTY) {
            r->s->asid[i] = ASID_CLEAN;
        }
    }
    return PSP_SUCCESS;
}

/* --- SNP: platform --- */

/*
 * { u64 address } -> { u8 major, minor, state, rmp_init; u32 build, flags,
 * guests; u64 tcb, reported_tcb }
 */
static PspStatus snp_platform_status(PspRun *r)
{
    AMDPSPState *s = r->s;
    hwaddr spa = arg64(r, 0) & ~SNP_CBIT;
    uint8_t out[32] = { PSP_API_MAJOR, PSP_API_MINOR, s->snp_init,
                        s->rmp_init };

    stl_le_p(out + 4, PSP_API_BUILD);
    stl_le_p(out + 8, s->snp_flags | BIT(3) /* SNP_FEATURE_INFO exists */);
    stl_le_p(out + 12, count_guests(s, true));
    stq_le_p(out + 16, PSP_TCB);
    stq_le_p(out + 24, s->reported_tcb);
    return need_output_struct(r, spa, sizeof(out)) ?:
           write_phys(r, spa, out, sizeof(out));
}

/*
 * { u32 length, ecx_in; u64 address } -> EAX..EDX of CPUID 0x80000024. None of
 * the optional features: no x86 shutdown, ciphertext hiding, TIO, mitigations.
 */
static PspStatus snp_feature_info(PspRun *r)
{
    hwaddr spa = arg64(r, 8) & ~SNP_CBIT;
    uint32_t ecx_in = arg32(r, 4);
    uint8_t out[16] = { };
    PspStatus st;

    if (arg32(r, 0) != r->cmd->len) {
        return refuse(r, PSP_INVALID_PARAM, r->buf, "length %u", arg32(r, 0));
    }
    if ((spa & 3) || (spa & (PSP_PAGE - 1)) + sizeof(out) > PSP_PAGE) {
        return refuse(r, PSP_INVALID_ADDRESS, spa, "alignment");
    }
    st = need_range(r, spa, sizeof(out)) ?: need_output(r, spa, sizeof(out));
    if (st) {
        return st;
    }
    if (ecx_in > 1) {
        return refuse(r, PSP_INVALID_PARAM, r->buf, "leaf %u", ecx_in);
    }
    if (ecx_in == 0) {
        stl_le_p(out, 1);       /* highest leaf */
    }
    return write_phys(r, spa, out, sizeof(out));
}

/* SNP_INIT_EX wants all processors alike, and prepared. */
static PspStatus check_processors(PspRun *r, bool init_rmp)
{
    const uint64_t syscfg = SYSCFG_MEM_ENCRYPT | SYSCFG_SNP_EN |
                            SYSCFG_VMPL_EN;
    CPUX86State *first = cpu_env(first_cpu);
    uint64_t end = snp_host->rmp_base + snp_host->rmp_size - 1;
    CPUState *cs;

    CPU_FOREACH(cs) {
        if ((cpu_env(cs)->msr_syscfg & syscfg) != syscfg) {
            return refuse(r, PSP_INVALID_CONFIG, 0, "SYSCFG of cpu%d: %" PRIx64,
                          cs->cpu_index, cpu_env(cs)->msr_syscfg);
        }
    }
    CPU_FOREACH(cs) {
        if (cpu_env(cs)->msr_syscfg != first->msr_syscfg ||
            !(first->msr_syscfg & SYSCFG_MTRR_FIX_DRAM_MOD_EN)) {
            return refuse(r, PSP_INVALID_CONFIG, 0, "SYSCFG of cpu%d: %" PRIx64
                          ", no MFDM or not as cpu%d", cs->cpu_index,
                          cpu_env(cs)->msr_syscfg, first_cpu->cpu_index);
        }
    }
    CPU_FOREACH(cs) {
        if (cpu_env(cs)->msr_hwcr != first->msr_hwcr ||
            !(first->msr_hwcr & HWCR_SMMLOCK)) {
            return refuse(r, PSP_INVALID_CONFIG, 0, "HWCR of cpu%d: %" PRIx64
                          ", no SMMLOCK or not as cpu%d", cs->cpu_index,
                          cpu_env(cs)->msr_hwcr, first_cpu->cpu_index);
        }
    }
    CPU_FOREACH(cs) {
        CPUX86State *env = cpu_env(cs);

        if (env->msr_rmp_base != first->msr_rmp_base ||
            env->msr_rmp_end != first->msr_rmp_end ||
            !QEMU_IS_ALIGNED(env->msr_rmp_base & ~SNP_CBIT, MiB) ||
            !QEMU_IS_ALIGNED((env->msr_rmp_end & ~SNP_CBIT) + 1, MiB)) {
            return refuse(r, PSP_INVALID_CONFIG, env->msr_rmp_base,
                          "RMP_BASE or RMP_END of cpu%d", cs->cpu_index);
        }
        if ((env->msr_rmp_base | env->msr_rmp_end) & SNP_CBIT) {
            return refuse(r, PSP_UNSUPPORTED, env->msr_rmp_base,
                          "C-bit in RMP_BASE or RMP_END of cpu%d",
                          cs->cpu_index);
        }
        /* Elsewhere is no RAM, or RAM that e820 gives away. */
        if (env->msr_rmp_base != snp_host->rmp_base ||
            env->msr_rmp_end != end) {
            return refuse(r, PSP_INVALID_CONFIG, env->msr_rmp_base,
                          "RMP is not where the machine has it");
        }
    }
    CPU_FOREACH(cs) {
        if (init_rmp && cpu_env(cs)->vm_hsave) {
            return refuse(r, PSP_INVALID_CONFIG, cpu_env(cs)->vm_hsave,
                          "VM_HSAVE_PA of cpu%d", cs->cpu_index);
        }
    }
    return PSP_SUCCESS;
}

static PspStatus check_iommu(PspRun *r, SnpIommuInfo *info)
{
    *info = amdvi_snp_info();
    if (!info->present || !info->enabled) {
        return refuse(r, PSP_HARDWARE_PLATFORM, 0, "IOMMU is %s",
                      info->present ? "not enabled" : "without SNP");
    }
    if ((info->evt_len && !in_dram(info->evt_base, info->evt_len)) ||
        (info->ppr_len && !in_dram(info->ppr_base, info->ppr_len)) ||
        (info->cwb_len && !in_dram(info->cwb_base, info->cwb_len))) {
        return refuse(r, PSP_INVALID_CONFIG, info->evt_base, "IOMMU buffers");
    }
    return PSP_SUCCESS;
}

static void set_iommu_range(PspRun *r, hwaddr base, uint64_t len, bool on)
{
    hwaddr spa;

    for (spa = page_addr(base); spa < base + len; spa += PSP_PAGE) {
        if (on) {
            set_rmp(r, spa, RMP_ASSIGNED | RMP_IMMUTABLE | RMP_LOCK |
                            RMP_IOMMU_MARKER << RMP_GPA_SHIFT, 0);
        } else {
            make_reclaim(r, spa, BIT(SNP_PAGE_FIRMWARE_IOMMU));
        }
    }
}

static void set_iommu_pages(PspRun *r, bool on)
{
    SnpIommuInfo *info = &r->s->iommu;

    set_iommu_range(r, info->evt_base, info->evt_len, on);
    set_iommu_range(r, info->ppr_base, info->ppr_len, on);
    set_iommu_range(r, info->cwb_base, info->cwb_len, on);
}

/* Hypervisor or HV-fixed, without regard to what was there. */
static void fill_rmp(hwaddr base, hwaddr end, bool fixed)
{
    uint64_t i = base / PSP_PAGE;
    uint64_t last = MIN(DIV_ROUND_UP(end, PSP_PAGE), snp_host->pages);

    for (; i < last; i++) {
        uint8_t *entry = snp_host->rmp + RMP_BOOKKEEPING + i * sizeof(RmpEntry);

        stq_le_p(entry, fixed ? RMP_IMMUTABLE : 0);
        stq_le_p(entry + 8, 0);
    }
}

/* { u32 count, reserved; { u64 base; u32 pages, reserved } range[] } */
static void fill_rmp_from_list(hwaddr list)
{
    uint8_t buf[PSP_PAGE];
    uint32_t i, n;

    if (!snp_phys_read(list, buf, sizeof(buf))) {
        return;
    }
    n = ldl_le_p(buf);
    if (n > (sizeof(buf) - 8) / 16) {
        return;
    }
    for (i = 0; i < n; i++) {
        hwaddr base = page_addr(ldq_le_p(buf + 8 + 16 * i));
        uint64_t len = ldl_le_p(buf + 16 + 16 * i) * PSP_PAGE;

        fill_rmp(base, base + len, true);
    }
}

/*
 * Everything HV-fixed but DRAM; and of that what the list names, the legacy VGA
 * range, and the range of HyperTransport. The RMP itself becomes Firmware.
 */
static void build_rmp(PspRun *r, bool list_en, hwaddr list)
{
    X86MachineState *x86ms = X86_MACHINE(qdev_get_machine());
    hwaddr spa;

    memset(snp_host->rmp, 0, RMP_BOOKKEEPING);
    fill_rmp(0, snp_host->pages * PSP_PAGE, true);
    fill_rmp(0, x86ms->below_4g_mem_size, false);
    fill_rmp(x86ms->above_4g_mem_start,
             x86ms->above_4g_mem_start + x86ms->above_4g_mem_size, false);
    if (list_en) {
        fill_rmp_from_list(list);
    }
    fill_rmp(0xa0000, 0xc0000, true);
    fill_rmp(0xfd00000000, 0xfe00000000, true);

    for (spa = snp_host->rmp_base;
         spa < snp_host->rmp_base + snp_host->rmp_size; spa += PSP_PAGE) {
        if (snp_rmp_covers(spa)) {
            set_rmp(r, spa, RMP_ASSIGNED | RMP_IMMUTABLE | RMP_LOCK, 0);
        }
    }
    set_iommu_pages(r, true);
}

static PspStatus do_snp_init(PspRun *r, bool init_rmp, bool list_en,
                             hwaddr list)
{
    AMDPSPState *s = r->s;
    SnpIommuInfo info;
    PspStatus st;

    if (s->snp_init || s->sev_state != SEV_UNINIT) {
        return refuse(r, PSP_INVALID_PLATFORM_STATE, r->buf,
                      "%s is initialised", s->snp_init ? "SNP" : "SEV");
    }
    if (!init_rmp && !s->rmp_init) {
        return refuse(r, PSP_RMP_INIT_REQUIRED, r->buf, "without INIT_RMP");
    }
    if (list_en && !init_rmp) {
        return refuse(r, PSP_INVALID_PARAM, r->buf, "list without INIT_RMP");
    }
    st = check_processors(r, init_rmp) ?: check_iommu(r, &info);
    if (st) {
        return st;
    }

    s->iommu = info;
    if (init_rmp) {
        build_rmp(r, list_en, list);
    } else {
        set_iommu_pages(r, true);
    }
    make_asids_dirty(s);
    s->rmp_init = true;
    s->snp_init = true;
    r->rmp_changed = true;
    return PSP_SUCCESS;
}

static PspStatus snp_init(PspRun *r)
{
    return do_snp_init(r, true, false, 0);
}

/*
 * { u32 flags, reserved; u64 list; u16 max_snp_asid; u8 reserved[46] }; flags:
 * 0 INIT_RMP, 1 list is valid, the others belong to features that aren't here
 */
static PspStatus snp_init_ex(PspRun *r)
{
    uint32_t flags = arg32(r, 0);

    return need_zero(r, flags & ~3u) ?:
           need_zero_args(r, 4, 4) ?:
           need_page_addr(r, 8) ?:
           need_zero_args(r, 16, 48) ?:
           do_snp_init(r, flags & 1, flags & 2, page_addr(arg64(r, 8)));
}

static PspStatus snp_df_flush(PspRun *r)
{
    return need_snp(r) ?: df_flush(r);
}

/* { u32 length, flags }; flags: 0 IOMMU_SNP_SHUTDOWN */
static PspStatus snp_shutdown_ex(PspRun *r)
{
    AMDPSPState *s = r->s;
    PspStatus st;
    int i;

    if (s->sev_state != SEV_UNINIT) {
        return refuse(r, PSP_INVALID_PLATFORM_STATE, r->buf,
                      "SEV is initialised");
    }
    if (!s->snp_init) {
        return PSP_SUCCESS;
    }
    for (i = 1; i <= SNP_MAX_ASID; i++) {
        /*
         * The regular way to learn that a flush is needed, so it isn't logged
         * as a refusal.
         */
        if (s->asid[i] != ASID_CLEAN) {
            return PSP_DFFLUSH_REQUIRED;
        }
    }
    if (arg32(r, 0) != r->cmd->len) {
        return refuse(r, PSP_INVALID_PARAM, r->buf, "length %u", arg32(r, 0));
    }
    st = need_zero(r, arg32(r, 4) & ~1u);
    if (st) {
        return st;
    }

    free_guests(s, true);
    if (arg32(r, 4) & 1) {
        set_iommu_pages(r, false);
        s->rmp_init = false;
    }
    s->snp_init = false;
    return PSP_SUCCESS;
}

/* { u64 tcb; u32 flags; u8 reserved[52] }; flags: 0 MASK_CHIP_ID, 1 .._KEY */
static PspStatus snp_config(PspRun *r)
{
    uint64_t tcb = arg64(r, 0);
    PspStatus st;

    st = need_snp(r) ?:
         need_zero(r, arg32(r, 8) & ~3u) ?:
         need_zero_args(r, 12, 52);
    if (st) {
        return st;
    }
    if (tcb > PSP_TCB) {
        return refuse(r, PSP_INVALID_PARAM, r->buf, "TCB is not committed");
    }
    r->s->reported_tcb = tcb ?: PSP_TCB;
    r->s->snp_flags = arg32(r, 8);
    return PSP_SUCCESS;
}

/* { u32 length }; the running version is the committed one already. */
static PspStatus snp_commit(PspRun *r)
{
    if (arg32(r, 0) != r->cmd->len) {
        return refuse(r, PSP_INVALID_LENGTH, r->buf, "length %u", arg32(r, 0));
    }
    r->s->reported_tcb = PSP_TCB;
    return PSP_SUCCESS;
}

/* { u64 address }; bit 0: 2M. Makes a page mutable again. */
static PspStatus snp_page_reclaim(PspRun *r)
{
    hwaddr spa = page_addr(arg64(r, 0));
    bool large = arg64(r, 0) & 1;
    RmpEntry e;
    PspStatus st;

    st = need_zero(r, arg64(r, 0) & 0xffe) ?:
         need_snp(r) ?:
         need_range(r, spa, PSP_PAGE) ?:
         need_size(r, spa, large);
    if (st) {
        return st;
    }
    if (large && !QEMU_IS_ALIGNED(spa, PSP_LARGE_PAGE)) {
        return refuse(r, PSP_INVALID_ADDRESS, spa, "alignment");
    }

    e = snp_rmp_get(spa);
    if (!(e.lo & RMP_IMMUTABLE)) {
        return PSP_SUCCESS;
    }
    switch (snp_page_state(spa)) {
    case SNP_PAGE_FIRMWARE:
        make_reclaim(r, spa, PAGE_FIRMWARE);
        return PSP_SUCCESS;
    case SNP_PAGE_PRE_GUEST:
    case SNP_PAGE_PRE_SWAP:
        set_rmp(r, spa, e.lo & ~(RMP_IMMUTABLE | RMP_LOCK), e.hi);
        return PSP_SUCCESS;
    default:
        return refuse(r, PSP_INVALID_PAGE_STATE, spa, "page state");
    }
}

/* --- SNP: guests --- */

/* { u64 gctx } */
static PspStatus snp_gctx_create(PspRun *r)
{
    static const uint8_t zero[PSP_PAGE];
    hwaddr gctx = page_addr(arg64(r, 0));
    PspGuest *g;
    PspStatus st;

    st = need_page_addr(r, 0) ?:
         need_snp(r) ?:
         need_state(r, gctx, PAGE_FIRMWARE) ?:
         need_size(r, gctx, false) ?:
         need_range(r, gctx, PSP_PAGE) ?:
         write_phys(r, gctx, zero, sizeof(zero));
    if (st) {
        return st;
    }
    g = find_gctx(r->s, gctx);
    if (g) {
        /* x-snp-enforce=off: the page was taken back without DECOMMISSION. */
        free_guest(r->s, g);
    }
    g = g_new0(PspGuest, 1);
    g->snp = true;
    g->gctx = gctx;
    g->state = SNP_GUEST_INIT;
    QLIST_INSERT_HEAD(&r->s->guests, g, next);
    set_rmp(r, gctx, RMP_ASSIGNED | RMP_IMMUTABLE | RMP_LOCK | RMP_VMSA, 0);
    return PSP_SUCCESS;
}

static PspStatus check_snp_policy(PspRun *r, uint64_t policy)
{
    uint32_t api = extract64(policy, 8, 8) << 8 | extract64(policy, 0, 8);

    if (!(policy & SNP_POLICY_ONE) ||
        (!(policy & SNP_POLICY_SMT) && first_cpu->nr_threads > 1) ||
        api > (PSP_API_MAJOR << 8 | PSP_API_MINOR) ||
        (policy & ~SNP_POLICY_KNOWN)) {
        return refuse(r, PSP_POLICY_FAILURE, r->buf, "policy %" PRIx64, policy);
    }
    return PSP_SUCCESS;
}

/*
 * { u64 gctx, policy, ma_gctx; u32 flags, tsc_khz; u8 gosvw[16] }; flags:
 * 0 migration agent, 1 incoming migration image
 */
static PspStatus snp_launch_start(PspRun *r)
{
    PspGuest *g;
    PspStatus st;

    st = need_page_addr(r, 0) ?:
         need_page_addr(r, 16) ?:
         need_zero(r, arg32(r, 24) & ~3u) ?:
         need_snp(r) ?:
         need_gctx(r, 0, &g) ?:
         need_guest_state(r, g, SNP_GUEST_INIT) ?:
         check_snp_policy(r, arg64(r, 8));
    if (st) {
        return st;
    }
    if (arg32(r, 24)) {
        return refuse(r, PSP_UNSUPPORTED, g->gctx, "migration agents");
    }
    g->policy = arg64(r, 8);
    g->state = SNP_GUEST_LAUNCH;
    return PSP_SUCCESS;
}

/* { u64 gctx; u32 asid } */
static PspStatus snp_activate(PspRun *r)
{
    uint32_t asid = arg32(r, 8);
    PspGuest *g;
    PspStatus st;

    st = need_page_addr(r, 0) ?:
         need_snp(r) ?:
         need_gctx(r, 0, &g);
    if (st) {
        return st;
    }
    if (g->state == SNP_GUEST_INIT) {
        return need_guest_state(r, g, SNP_GUEST_LAUNCH);
    }
    if (asid <= SNP_MAX_ASID && snp_rmp_asid_count(asid) &&
        snp_host->enforce) {
        return refuse(r, PSP_INVALID_CONFIG, g->gctx,
                      "%" PRIu64 " pages still belong to ASID %u",
                      snp_rmp_asid_count(asid), asid);
    }
    return activate(r, g, asid);
}

/*
 * The launch digest: SHA-384 over PAGE_INFO, which has the previous digest, the
 * digest of the contents, and where and with what permissions the guest has the
 * page (SEV-SNP firmware ABI, LAUNCH_UPDATE). 2M pages count as 512 of 4K.
 */
static void measure(PspGuest *g, int type, hwaddr gpa, const uint8_t *contents,
                    uint32_t perms)
{
    uint8_t info[0x70] = { };
    uint8_t *digest = info + PSP_SHA384_LEN;
    size_t len = PSP_SHA384_LEN;

    memcpy(info, g->digest, PSP_SHA384_LEN);
    if (contents) {
        qcrypto_hash_bytes(QCRYPTO_HASH_ALGO_SHA384, (const char *)contents,
                           PSP_PAGE, &digest, &len, &error_abort);
    }
    stw_le_p(info + 0x60, sizeof(info));
    info[0x62] = type;
    stl_le_p(info + 0x64, perms);               /* as in the command */
    stq_le_p(info + 0x68, gpa);

    digest = g->digest;
    len = PSP_SHA384_LEN;
    qcrypto_hash_bytes(QCRYPTO_HASH_ALGO_SHA384, (const char *)info,
                       sizeof(info), &digest, &len, &error_abort);
}

/* Keys that only the guest has: not usable, see snp_guest_request(). */
static void make_secrets(CPUX86State *env, uint8_t *page)
{
    uint32_t fms, unused;

    memset(page, 0, PSP_PAGE);
    stl_le_p(page, 3);                          /* version */
    cpu_x86_cpuid(env, 1, 0, &fms, &unused, &unused, &unused);
    stl_le_p(page + 8, fms);
    qemu_guest_getrandom_nofail(page + 0x20, 4 * 32);
}

/* Returns what the page is to contain and what of it is measured. */
static PspStatus prepare_contents(PspRun *r, int type, hwaddr spa,
                                  uint8_t *page, bool *change, bool *measured)
{
    PspCpuidPage *cpuid = (PspCpuidPage *)page;
    PspStatus st;

    *measured = type == SNP_TYPE_NORMAL || type == SNP_TYPE_VMSA;
    *change = false;
    st = read_phys(r, spa, page, PSP_PAGE);
    if (st) {
        return st;
    }

    switch (type) {
    case SNP_TYPE_ZERO:
        memset(page, 0, PSP_PAGE);
        *change = true;
        break;
    case SNP_TYPE_SECRETS:
        make_secrets(cpu_env(r->cs), page);
        *change = true;
        break;
    case SNP_TYPE_CPUID:
        if (cpuid->reserved1 || cpuid->reserved2 ||
            le32_to_cpu(cpuid->count) > PSP_CPUID_ENTRIES) {
            return refuse(r, PSP_INVALID_PARAM, spa, "CPUID page: header");
        }
        if (!psp_cpuid_check(cpu_env(r->cs), cpuid)) {
            /* The corrected page goes back in plain text. */
            return write_phys(r, spa, page, PSP_PAGE) ?:
                   refuse(r, PSP_INVALID_PARAM, spa, "CPUID page: corrected");
        }
        break;
    }
    return PSP_SUCCESS;
}

static PspStatus launch_page(PspRun *r, PspGuest *g, int type, hwaddr spa,
                             hwaddr gpa, uint32_t perms)
{
    uint8_t page[PSP_PAGE];
    bool change, measured;
    PspStatus st;

    st = prepare_contents(r, type, spa, page, &change, &measured);
    if (st) {
        return st;
    }
    measure(g, type, gpa, measured ? page : NULL, perms);
    if (type == SNP_TYPE_VMSA) {
        stq_le_p(page + 0x380, 0);
        stq_le_p(page + 0x388, -1);
        change = true;
    }
    if (change) {
        st = write_phys(r, spa, page, PSP_PAGE);
        if (st) {
            return st;
        }
    }
    snp_view_relabel(spa, g->asid);
    return PSP_SUCCESS;
}

/*
 * { u64 gctx; u32 flags, reserved; u64 address; u8 reserved, vmpl1_perms,
 * vmpl2_perms, vmpl3_perms; u32 reserved }; flags: 0 2M, 3:1 type, 4 IMI
 */
static PspStatus snp_launch_update(PspRun *r)
{
    uint32_t flags = arg32(r, 8);
    bool large = flags & 1;
    int type = extract32(flags, 1, 3);
    hwaddr spa = page_addr(arg64(r, 16));
    uint32_t perms = arg32(r, 24);
    uint64_t offset, size = large ? PSP_LARGE_PAGE : PSP_PAGE;
    RmpEntry e;
    PspGuest *g;
    PspStatus st;

    st = need_page_addr(r, 0) ?:
         need_zero(r, flags & ~0x1fu) ?:
         need_zero_args(r, 12, 4) ?:
         need_page_addr(r, 16) ?:
         need_zero_args(r, 24, 1) ?:
         need_zero_args(r, 28, 4) ?:
         need_snp(r) ?:
         need_gctx(r, 0, &g) ?:
         need_state(r, spa, BIT(SNP_PAGE_PRE_GUEST)) ?:
         need_size(r, spa, large);
    if (st) {
        return st;
    }
    if (large && !QEMU_IS_ALIGNED(spa, PSP_LARGE_PAGE)) {
        return refuse(r, PSP_INVALID_ADDRESS, spa, "alignment");
    }
    if (type < SNP_TYPE_NORMAL || type > SNP_TYPE_CPUID) {
        return refuse(r, PSP_INVALID_PARAM, spa, "page type %d", type);
    }
    if (large && (type == SNP_TYPE_VMSA || type == SNP_TYPE_SECRETS ||
                  type == SNP_TYPE_CPUID)) {
        return refuse(r, PSP_INVALID_PAGE_SIZE, spa, "2M page of type %d",
                      type);
    }
    st = need_guest_state(r, g, SNP_GUEST_LAUNCH) ?:
         need_active(r, g) ?:
         need_owner(r, g, spa);
    if (st) {
        return st;
    }
    if (flags & BIT(4)) {
        return refuse(r, PSP_INVALID_PARAM, spa, "guest has no IMI");
    }

    e = snp_rmp_get(spa);
    for (offset = 0; offset < size; offset += PSP_PAGE) {
        st = launch_page(r, g, type, spa + offset, rmp_gpa(e) + offset, perms);
        if (st) {
            return st;
        }
    }
    if (in_state(spa, BIT(SNP_PAGE_PRE_GUEST))) {
        e.lo &= ~(RMP_IMMUTABLE | RMP_LOCK);
        e.lo |= RMP_VALIDATED | (type == SNP_TYPE_VMSA ? RMP_VMSA : 0);
        /* VMPL1..3 are bytes 1..3 of both. */
        e.hi = deposit64(e.hi, 8, 24, perms >> 8);
        set_rmp(r, spa, e.lo, e.hi);
    }
    return PSP_SUCCESS;
}

/*
 * The ID block has to have the guest's digest and policy and a signature. The
 * signature (ECDSA P-384) cannot be verified here, so none is accepted.
 */
static PspStatus check_id_block(PspRun *r, PspGuest *g)
{
    hwaddr spa = arg64(r, 8) & ~SNP_CBIT;
    uint8_t block[0x60];
    PspStatus st;

    st = need_range(r, spa, sizeof(block)) ?:
         read_phys(r, spa, block, sizeof(block));
    if (st) {
        return st;
    }
    if (memcmp(block, g->digest, PSP_SHA384_LEN)) {
        return refuse(r, PSP_BAD_MEASUREMENT, spa, "digest of the ID block");
    }
    if (ldq_le_p(block + 0x58) != g->policy) {
        return refuse(r, PSP_POLICY_FAILURE, spa, "policy of the ID block");
    }
    if (ldl_le_p(block + 0x50) != 1) {
        return refuse(r, PSP_INVALID_PARAM, spa, "version of the ID block");
    }
    return refuse(r, PSP_UNSUPPORTED, spa,
                  "signatures of ID blocks are not emulated");
}

/*
 * { u64 gctx, id_block, id_auth, flags; u8 host_data[32] }; flags: 0 ID block,
 * 1 author key, 2 no VCEK
 */
static PspStatus snp_launch_finish(PspRun *r)
{
    uint64_t flags = arg64(r, 24);
    PspGuest *g;
    PspStatus st;

    st = need_page_addr(r, 0) ?:
         need_zero(r, flags & ~7ULL) ?:
         need_snp(r) ?:
         need_gctx(r, 0, &g) ?:
         need_guest_state(r, g, SNP_GUEST_LAUNCH) ?:
         need_active(r, g);
    if (st) {
        return st;
    }
    if (flags & 1) {
        st = check_id_block(r, g);
    } else if (flags & 2) {
        st = refuse(r, PSP_INVALID_PARAM, r->buf, "author without ID block");
    }
    if (st) {
        return st;
    }
    start_guest(r->s, g, SNP_GUEST_RUNNING);
    return PSP_SUCCESS;
}

/* { u64 gctx, address } -> { u64 policy; u32 asid; u8 state } */
static PspStatus snp_guest_status(PspRun *r)
{
    hwaddr spa = arg64(r, 8) & ~SNP_CBIT;
    uint8_t out[32] = { };
    PspGuest *g;
    PspStatus st;

    st = need_page_addr(r, 0) ?:
         need_snp(r) ?:
         need_gctx(r, 0, &g) ?:
         need_output_struct(r, spa, sizeof(out));
    if (st) {
        return st;
    }
    stq_le_p(out, g->policy);
    stl_le_p(out + 8, g->asid);
    out[12] = g->state;
    return write_phys(r, spa, out, sizeof(out));
}

/*
 * { u64 gctx, request, response }. Requests are encrypted with a key of the
 * secrets page (AES-256-GCM), which QEMU's crypto layer does not have: one with
 * a correct header is refused as if it were forged.
 */
static PspStatus snp_guest_request(PspRun *r)
{
    hwaddr req = page_addr(arg64(r, 8));
    hwaddr rsp = page_addr(arg64(r, 16));
    uint8_t hdr[0x60];
    PspGuest *g;
    PspStatus st;

    st = need_page_addr(r, 0) ?:
         need_page_addr(r, 8) ?:
         need_page_addr(r, 16) ?:
         need_snp(r) ?:
         need_gctx(r, 0, &g) ?:
         need_state(r, rsp, PAGE_FIRMWARE) ?:
         need_size(r, req, false) ?:
         need_size(r, rsp, false) ?:
         need_guest_state(r, g, SNP_GUEST_RUNNING) ?:
         need_range(r, req, PSP_PAGE) ?:
         read_phys(r, req, hdr, sizeof(hdr));
    if (st) {
        return st;
    }
    /* Algorithm, versions, size of the header, key; see Linux' sev-guest. */
    if (hdr[0x30] != 1 || hdr[0x31] != 1 ||
        lduw_le_p(hdr + 0x32) != sizeof(hdr) ||
        lduw_le_p(hdr + 0x36) > PSP_PAGE - sizeof(hdr) || hdr[0x3c] > 3) {
        return refuse(r, PSP_INVALID_PARAM, req, "message header");
    }
    if (ldq_le_p(hdr + 0x20) == UINT64_MAX) {
        return refuse(r, PSP_AEAD_OFLOW, req, "message sequence number");
    }
    return refuse(r, PSP_INVALID_PARAM, req,
                  "the cipher of guest messages is not emulated");
}

/* { u64 gctx } */
static PspStatus snp_decommission(PspRun *r)
{
    PspGuest *g;
    PspStatus st;

    st = need_page_addr(r, 0) ?:
         need_snp(r) ?:
         need_gctx(r, 0, &g);
    if (st) {
        return st;
    }
    make_firmware(r, g->gctx, BIT(SNP_PAGE_CONTEXT));
    free_guest(r->s, g);
    return PSP_SUCCESS;
}

/* A page of the guest, and that the guest may be debugged. */
static PspStatus need_debug(PspRun *r, PspGuest *g, hwaddr spa)
{
    PspStatus st = need_owner(r, g, spa);

    if (st) {
        return st;
    }
    if (!(g->policy & SNP_POLICY_DEBUG)) {
        return refuse(r, PSP_POLICY_FAILURE, spa, "guest forbids debugging");
    }
    return need_active(r, g);
}

static PspStatus decrypt(PspRun *r, PspGuest *g, hwaddr src, hwaddr dst,
                         size_t len)
{
    g_autofree uint8_t *data = g_malloc(len);

    if (!snp_guest_read(g->asid, src, data, len)) {
        return refuse(r, PSP_INVALID_ADDRESS, src, "cannot be read");
    }
    return write_phys(r, dst, data, len);
}

static PspStatus encrypt(PspRun *r, PspGuest *g, hwaddr src, hwaddr dst,
                         size_t len)
{
    g_autofree uint8_t *data = g_malloc(len);
    PspStatus st = read_phys(r, src, data, len);

    if (st) {
        return st;
    }
    if (!snp_guest_write(g->asid, dst, data, len)) {
        return refuse(r, PSP_INVALID_ADDRESS, dst, "cannot be written");
    }
    return PSP_SUCCESS;
}

/* { u64 gctx, source, destination }; 4K, also of a 2M page */
static PspStatus snp_dbg_decrypt(PspRun *r)
{
    hwaddr src = page_addr(arg64(r, 8));
    hwaddr dst = page_addr(arg64(r, 16));
    PspGuest *g;

    return need_page_addr(r, 0) ?:
           need_page_addr(r, 8) ?:
           need_page_addr(r, 16) ?:
           need_snp(r) ?:
           need_gctx(r, 0, &g) ?:
           need_state(r, src, PAGE_GUEST) ?:
           need_state(r, dst, PAGE_FIRMWARE) ?:
           need_debug(r, g, src) ?:
           decrypt(r, g, src, dst, PSP_PAGE);
}

/*
 * { u64 gctx, source, destination }. The PSP writes a guest's page only while
 * that is immutable.
 */
static PspStatus snp_dbg_encrypt(PspRun *r)
{
    hwaddr src = page_addr(arg64(r, 8));
    hwaddr dst = page_addr(arg64(r, 16));
    PspGuest *g;

    return need_page_addr(r, 0) ?:
           need_page_addr(r, 8) ?:
           need_page_addr(r, 16) ?:
           need_snp(r) ?:
           need_gctx(r, 0, &g) ?:
           need_state(r, dst, BIT(SNP_PAGE_PRE_GUEST) |
                              BIT(SNP_PAGE_PRE_SWAP)) ?:
           need_size(r, dst, false) ?:
           need_range(r, src, PSP_PAGE) ?:
           need_debug(r, g, dst) ?:
           encrypt(r, g, src, dst, PSP_PAGE);
}

/* --- SEV and SEV-ES --- */

/* -> { u8 major, minor, state; u32 flags; u8 build; u32 guests } */
static PspStatus sev_platform_status(PspRun *r)
{
    AMDPSPState *s = r->s;

    r->args[0] = PSP_API_MAJOR;
    r->args[1] = PSP_API_MINOR;
    r->args[2] = s->sev_state;
    stl_le_p(r->args + 3, s->sev_es ? BIT(8) : 0);
    r->args[7] = PSP_API_BUILD;
    stl_le_p(r->args + 8, count_guests(s, false));
    return PSP_SUCCESS;
}

/* The memory that the PSP wants for itself, for SEV-ES. */
static PspStatus check_tmr(PspRun *r, hwaddr tmr, uint32_t len)
{
    bool snp = r->s->rmp_init;
    uint64_t size = snp ? PSP_TMR_SIZE_SNP : PSP_TMR_SIZE;
    PspStatus st = need_output(r, tmr, len);

    if (st) {
        return st;
    }
    if (snp ? len != size : len < size) {
        return refuse(r, PSP_INVALID_LENGTH, tmr, "TMR of %u bytes", len);
    }
    if (!QEMU_IS_ALIGNED(tmr, size)) {
        return refuse(r, PSP_INVALID_ADDRESS, tmr, "alignment of the TMR");
    }
    return need_range(r, tmr, len);
}

static PspStatus do_sev_init(PspRun *r, uint32_t flags, uint64_t reserved,
                             hwaddr tmr, uint32_t tmr_len)
{
    AMDPSPState *s = r->s;
    bool es = flags & 1;
    CPUState *cs;

    if (s->sev_state != SEV_UNINIT) {
        return refuse(r, PSP_INVALID_PLATFORM_STATE, r->buf,
                      "SEV is initialised");
    }
    CPU_FOREACH(cs) {
        uint64_t syscfg = cpu_env(cs)->msr_syscfg;

        if (!(syscfg & SYSCFG_MEM_ENCRYPT)) {
            return refuse(r, PSP_HARDWARE_PLATFORM, r->buf,
                          "SYSCFG of cpu%d: %" PRIx64, cs->cpu_index, syscfg);
        }
    }
    if ((flags & ~1u) || reserved) {
        return refuse(r, PSP_INVALID_CONFIG, r->buf, "flags %x", flags);
    }
    CPU_FOREACH(cs) {
        if ((cpu_env(cs)->msr_syscfg & SYSCFG_SNP_EN) && !s->rmp_init) {
            return refuse(r, PSP_INVALID_PLATFORM_STATE, r->buf,
                          "SNP_EN without an RMP");
        }
    }
    if (es) {
        PspStatus st = check_tmr(r, tmr, tmr_len);

        if (st) {
            return st;
        }
        s->tmr = tmr;
        s->tmr_len = tmr_len;
    }
    if (!s->snp_init) {
        make_asids_dirty(s);
    }
    s->sev_es = es;
    s->sev_state = SEV_INIT;
    return PSP_SUCCESS;
}

/* { u32 flags, reserved; u64 tmr; u32 tmr_len } */
static PspStatus sev_init(PspRun *r)
{
    return do_sev_init(r, arg32(r, 0), arg32(r, 4), arg64(r, 8) & ~SNP_CBIT,
                       arg32(r, 16));
}

/*
 * { u32 length, flags; u64 tmr; u32 tmr_len, reserved; u64 nv; u32 nv_len }
 * There is nothing to keep, so the non-volatile memory is left as it is.
 */
static PspStatus sev_init_ex(PspRun *r)
{
    hwaddr nv = arg64(r, 24) & ~SNP_CBIT;
    PspStatus st;

    if (arg32(r, 0) != r->cmd->len || arg32(r, 32) != PSP_NV_SIZE) {
        return refuse(r, PSP_INVALID_LENGTH, r->buf, "length %u or %u",
                      arg32(r, 0), arg32(r, 32));
    }
    if (nv & (PSP_PAGE - 1)) {
        return refuse(r, PSP_INVALID_ADDRESS, nv, "alignment");
    }
    st = need_range(r, nv, PSP_NV_SIZE) ?: need_output(r, nv, PSP_NV_SIZE);
    if (st) {
        return st;
    }
    return do_sev_init(r, arg32(r, 4), arg32(r, 20), arg64(r, 8) & ~SNP_CBIT,
                       arg32(r, 16));
}

static PspStatus sev_shutdown(PspRun *r)
{
    AMDPSPState *s = r->s;

    free_guests(s, false);
    s->sev_state = SEV_UNINIT;
    s->sev_es = false;
    s->tmr_len = 0;
    return PSP_SUCCESS;
}

static PspStatus sev_df_flush(PspRun *r)
{
    return need_sev(r, SEV_INIT) ?: df_flush(r);
}

/*
 * { u32 handle, policy; u64 cert; u32 cert_len, reserved; u64 session; u32
 * session_len } -> handle
 */
static PspStatus sev_launch_start(PspRun *r)
{
    AMDPSPState *s = r->s;
    uint32_t policy = arg32(r, 4);
    PspGuest *g;
    PspStatus st;

    st = need_sev(r, SEV_INIT);
    if (st) {
        return st;
    }
    if (arg32(r, 0)) {
        /* The memory key of another guest. */
        return need_handle(r, &g) ?:
               refuse(r, PSP_UNSUPPORTED, r->buf, "shared memory keys");
    }
    if ((extract32(policy, 16, 8) << 8 | extract32(policy, 24, 8)) >
        (PSP_API_MAJOR << 8 | PSP_API_MINOR)) {
        return refuse(r, PSP_POLICY_FAILURE, r->buf, "policy %x", policy);
    }
    if ((policy & SEV_POLICY_ES) && !s->sev_es) {
        return refuse(r, PSP_UNSUPPORTED, r->buf,
                      "SEV-ES is not initialised");
    }
    if (arg32(r, 16) || arg32(r, 32)) {
        return refuse(r, PSP_UNSUPPORTED, r->buf,
                      "a session needs the platform's certificates");
    }

    g = g_new0(PspGuest, 1);
    g->handle = ++s->last_handle;
    g->policy = policy;
    g->state = SEV_GUEST_LUPDATE;
    g->hash = qcrypto_hash_new(QCRYPTO_HASH_ALGO_SHA256, &error_abort);
    QLIST_INSERT_HEAD(&s->guests, g, next);
    s->sev_state = SEV_WORKING;
    stl_le_p(r->args, g->handle);
    return PSP_SUCCESS;
}

/* { u32 handle, asid } */
static PspStatus sev_activate(PspRun *r)
{
    PspGuest *g;
    PspStatus st;

    st = need_sev(r, SEV_WORKING) ?:
         need_handle(r, &g) ?:
         activate(r, g, arg32(r, 4));
    if (!st && g->state == SEV_GUEST_RUNNING) {
        start_guest(r->s, g, SEV_GUEST_RUNNING);
    }
    return st;
}

/* { u32 handle } */
static PspStatus sev_deactivate(PspRun *r)
{
    PspGuest *g;
    PspStatus st;

    st = need_sev(r, SEV_WORKING) ?:
         need_handle(r, &g) ?:
         need_active(r, g);
    if (st) {
        return st;
    }
    deactivate(r->s, g);
    return PSP_SUCCESS;
}

/* { u32 handle } */
static PspStatus sev_decommission(PspRun *r)
{
    AMDPSPState *s = r->s;
    PspGuest *g;
    PspStatus st;

    st = need_sev(r, SEV_WORKING) ?: need_handle(r, &g);
    if (st) {
        return st;
    }
    if (g->asid) {
        return refuse(r, PSP_ACTIVE, r->buf, "guest has ASID %u", g->asid);
    }
    free_guest(s, g);
    if (!count_guests(s, false)) {
        s->sev_state = SEV_INIT;
    }
    return PSP_SUCCESS;
}

/* { u32 handle } -> { u32 handle, policy, asid; u8 state } */
static PspStatus sev_guest_status(PspRun *r)
{
    PspGuest *g;
    PspStatus st = need_sev(r, SEV_INIT);

    if (st) {
        return st;
    }
    g = find_handle(r->s, arg32(r, 0));
    stl_le_p(r->args + 4, g ? g->policy : 0);
    stl_le_p(r->args + 8, g ? g->asid : 0);
    r->args[12] = g ? g->state : SEV_GUEST_UNINIT;
    return PSP_SUCCESS;
}

/* Encrypt in place. */
static PspStatus launch_update(PspRun *r, PspGuest *g, hwaddr spa,
                               uint32_t len)
{
    g_autofree uint8_t *data = NULL;
    PspStatus st;

    st = need_active(r, g);
    if (st) {
        return st;
    }
    if (spa & 15) {
        return refuse(r, PSP_INVALID_ADDRESS, spa, "alignment");
    }
    if (!len || (len & 15)) {
        return refuse(r, PSP_INVALID_LENGTH, spa, "length %u", len);
    }
    st = need_range(r, spa, len) ?: need_output(r, spa, len);
    if (st) {
        return st;
    }

    data = g_malloc(len);
    st = read_phys(r, spa, data, len);
    if (st) {
        return st;
    }
    qcrypto_hash_update(g->hash, (const char *)data, len, &error_abort);
    if (!snp_guest_write(g->asid, spa, data, len)) {
        return refuse(r, PSP_INVALID_ADDRESS, spa, "cannot be written");
    }
    return PSP_SUCCESS;
}

/* { u32 handle, reserved; u64 address; u32 len } */
static PspStatus sev_launch_update_data(PspRun *r)
{
    PspGuest *g;

    return need_sev(r, SEV_WORKING) ?:
           need_handle(r, &g) ?:
           need_guest_state(r, g, SEV_GUEST_LUPDATE) ?:
           launch_update(r, g, arg64(r, 8) & ~SNP_CBIT, arg32(r, 16));
}

/* { u32 handle, reserved; u64 address; u32 len } */
static PspStatus sev_launch_update_vmsa(PspRun *r)
{
    PspGuest *g;
    PspStatus st;

    st = need_sev(r, SEV_WORKING) ?:
         need_handle(r, &g) ?:
         need_guest_state(r, g, SEV_GUEST_LUPDATE);
    if (st) {
        return st;
    }
    if (!(g->policy & SEV_POLICY_ES)) {
        return refuse(r, PSP_UNSUPPORTED, arg64(r, 8), "not a SEV-ES guest");
    }
    return launch_update(r, g, arg64(r, 8) & ~SNP_CBIT, arg32(r, 16));
}

/*
 * { u32 handle, reserved; u64 address; u32 len } -> len. The measurement is an
 * HMAC with a key that came with the session, and then a nonce. There are no
 * sessions here: it is the plain SHA-256 of what was launched, and zeroes.
 */
static PspStatus sev_launch_measure(PspRun *r)
{
    uint8_t out[PSP_SHA256_LEN + 16] = { };
    hwaddr spa = arg64(r, 8) & ~SNP_CBIT;
    uint32_t len = arg32(r, 16);
    uint8_t *digest = out;
    size_t digest_len = PSP_SHA256_LEN;
    PspGuest *g;
    PspStatus st;

    st = need_sev(r, SEV_WORKING) ?:
         need_handle(r, &g) ?:
         need_guest_state(r, g, SEV_GUEST_LUPDATE);
    if (st) {
        return st;
    }
    stl_le_p(r->args + 16, sizeof(out));
    if (!len) {
        /* A question for the length, not an error. */
        return PSP_INVALID_LENGTH;
    }
    if (len < sizeof(out)) {
        return refuse(r, PSP_INVALID_LENGTH, spa, "length %u", len);
    }
    st = need_range(r, spa, sizeof(out)) ?: need_output(r, spa, sizeof(out));
    if (st) {
        return st;
    }
    qcrypto_hash_finalize_bytes(g->hash, &digest, &digest_len, &error_abort);
    g->state = SEV_GUEST_LSECRET;
    return write_phys(r, spa, out, sizeof(out));
}

/*
 * { u32 handle, reserved; u64 header; u32 header_len, reserved; u64 address;
 * u32 len, reserved; u64 data; u32 data_len }
 * Packets are encrypted and signed with keys of the session that LAUNCH_START
 * has set up. There are no sessions, so no packet can be authentic.
 */
static PspStatus sev_launch_secret(PspRun *r)
{
    PspGuest *g;

    return need_sev(r, SEV_WORKING) ?:
           need_handle(r, &g) ?:
           need_guest_state(r, g, SEV_GUEST_LSECRET) ?:
           need_active(r, g) ?:
           refuse(r, PSP_BAD_MEASUREMENT, arg64(r, 8),
                  "launch secrets are not emulated");
}

/* { u32 handle } */
static PspStatus sev_launch_finish(PspRun *r)
{
    PspGuest *g;
    PspStatus st;

    st = need_sev(r, SEV_WORKING) ?:
         need_handle(r, &g) ?:
         need_guest_state(r, g, SEV_GUEST_LSECRET) ?:
         need_active(r, g);
    if (st) {
        return st;
    }
    start_guest(r->s, g, SEV_GUEST_RUNNING);
    return PSP_SUCCESS;
}

/* { u32 handle, reserved; u64 source, destination; u32 len } */
static PspStatus sev_dbg(PspRun *r, PspGuest **g)
{
    hwaddr src = arg64(r, 8) & ~SNP_CBIT;
    hwaddr dst = arg64(r, 16) & ~SNP_CBIT;
    uint32_t len = arg32(r, 24);
    PspStatus st = need_sev(r, SEV_WORKING);

    if (st) {
        return st;
    }
    if ((src | dst) & 15) {
        return refuse(r, PSP_INVALID_ADDRESS, src | dst, "alignment");
    }
    if (!len || (len & 15)) {
        return refuse(r, PSP_INVALID_LENGTH, src, "length %u", len);
    }
    st = need_handle(r, g);
    if (st) {
        return st;
    }
    if ((*g)->policy & SEV_POLICY_NODBG) {
        return refuse(r, PSP_POLICY_FAILURE, r->buf, "guest forbids debugging");
    }
    return need_range(r, src, len) ?:
           need_range(r, dst, len) ?:
           need_output(r, dst, len) ?:
           need_active(r, *g);
}

static PspStatus sev_dbg_decrypt(PspRun *r)
{
    PspGuest *g;

    return sev_dbg(r, &g) ?:
           decrypt(r, g, arg64(r, 8) & ~SNP_CBIT, arg64(r, 16) & ~SNP_CBIT,
                   arg32(r, 24));
}

static PspStatus sev_dbg_encrypt(PspRun *r)
{
    PspGuest *g;

    return sev_dbg(r, &g) ?:
           encrypt(r, g, arg64(r, 8) & ~SNP_CBIT, arg64(r, 16) & ~SNP_CBIT,
                   arg32(r, 24));
}

/* --- mailbox --- */

static const PspCommand commands[] = {
    { 0x001, 20, false, "INIT",               sev_init },
    { 0x002,  0, false, "SHUTDOWN",           sev_shutdown },
    { 0x004, 12, true,  "PLATFORM_STATUS",    sev_platform_status },
    { 0x00a,  0, false, "DF_FLUSH",           sev_df_flush },
    { 0x00d, 36, false, "INIT_EX",            sev_init_ex },
    { 0x020,  4, false, "DECOMMISSION",       sev_decommission },
    { 0x021,  8, false, "ACTIVATE",           sev_activate },
    { 0x022,  4, false, "DEACTIVATE",         sev_deactivate },
    { 0x023, 13, true,  "GUEST_STATUS",       sev_guest_status },
    { 0x030, 36, true,  "LAUNCH_START",       sev_launch_start },
    { 0x031, 20, false, "LAUNCH_UPDATE_DATA", sev_launch_update_data },
    { 0x032, 20, false, "LAUNCH_UPDATE_VMSA", sev_launch_update_vmsa },
    { 0x033, 20, true,  "LAUNCH_MEASURE",     sev_launch_measure },
    { 0x034, 52, false, "LAUNCH_SECRET",      sev_launch_secret },
    { 0x035,  4, false, "LAUNCH_FINISH",      sev_launch_finish },
    { 0x060, 28, false, "DBG_DECRYPT",        sev_dbg_decrypt },
    { 0x061, 28, false, "DBG_ENCRYPT",        sev_dbg_encrypt },
    { 0x081,  0, false, "SNP_INIT",           snp_init },
    { 0x083,  8, false, "SNP_PLATFORM_STATUS", snp_platform_status },
    { 0x084,  0, false, "SNP_DF_FLUSH",       snp_df_flush },
    { 0x085, 64, false, "SNP_INIT_EX",        snp_init_ex },
    { 0x086,  8, false, "SNP_SHUTDOWN_EX",    snp_shutdown_ex },
    { 0x090,  8, false, "SNP_DECOMMISSION",   snp_decommission },
    { 0x091, 12, false, "SNP_ACTIVATE",       snp_activate },
    { 0x092, 16, false, "SNP_GUEST_STATUS",   snp_guest_status },
    { 0x093,  8, false, "SNP_GCTX_CREATE",    snp_gctx_create },
    { 0x094, 24, false, "SNP_GUEST_REQUEST",  snp_guest_request },
    { 0x0a0, 48, false, "SNP_LAUNCH_START",   snp_launch_start },
    { 0x0a1, 32, false, "SNP_LAUNCH_UPDATE",  snp_launch_update },
    { 0x0a2, 64, false, "SNP_LAUNCH_FINISH",  snp_launch_finish },
    { 0x0b0, 24, false, "SNP_DBG_DECRYPT",    snp_dbg_decrypt },
    { 0x0b1, 24, false, "SNP_DBG_ENCRYPT",    snp_dbg_encrypt },
    { 0x0c7,  8, false, "SNP_PAGE_RECLAIM",   snp_page_reclaim },
    { 0x0c9, 64, false, "SNP_CONFIG",         snp_config },
    { 0x0cb,  4, false, "SNP_COMMIT",         snp_commit },
    { 0x0ce, 16, false, "SNP_FEATURE_INFO",   snp_feature_info },
};

static const PspCommand unknown_command = { .name = "UNKNOWN" };

static const PspCommand *find_command(uint32_t id)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(commands); i++) {
        if (commands[i].id == id) {
            return &commands[i];
        }
    }
    return NULL;
}

static PspStatus run_command(PspRun *r, uint32_t id)
{
    AMDPSPState *s = r->s;
    bool legacy = id < PSP_FIRST_SNP_COMMAND;
    bool own_buffer;
    PspStatus st;

    r->cmd = find_command(id);
    if (!r->cmd) {
        r->cmd = &unknown_command;
        return refuse(r, PSP_INVALID_COMMAND, r->buf, "command 0x%x", id);
    }
    if (!r->cmd->len) {
        return r->cmd->run(r);
    }

    st = need_range(r, r->buf, r->cmd->len);
    if (st) {
        return st;
    }
    /*
     * With SNP, the buffers of SEV commands that write to them have to be given
     * to the firmware, and are Reclaim after the command, whatever its status.
     */
    own_buffer = s->snp_init && legacy && r->cmd->writes;
    if (own_buffer && !in_state(page_addr(r->buf), PAGE_OUTPUT) &&
        snp_host->enforce) {
        return refuse(r, PSP_INVALID_BUFFER_STATE, r->buf, "command buffer");
    }

    st = read_phys(r, r->buf, r->args, r->cmd->len) ?: r->cmd->run(r);
    if (r->cmd->writes && (!st || st == PSP_INVALID_LENGTH)) {
        st = write_phys(r, r->buf, r->args, r->cmd->len) ?: st;
    }
    if (own_buffer) {
        make_reclaim(r, page_addr(r->buf), PAGE_FIRMWARE);
    }
    return st;
}

/* All vCPUs are stopped; the BQL isn't held. */
static void psp_run(CPUState *cs, run_on_cpu_data data)
{
    AMDPSPState *s = data.host_ptr;
    PspRun r = {
        .s = s,
        .cs = cs,
        .buf = ((uint64_t)s->cmdbuf_hi << 32 | s->cmdbuf_lo) & ~SNP_CBIT,
    };

    if (!s->busy) {
        return;                 /* there was a reset */
    }
    s->status = run_command(&r, extract32(s->cmdresp, 16, 11));
    if (r.rmp_changed) {
        snp_flush_all();
    }
    qemu_bh_schedule(s->done_bh);
}

static void psp_done(void *opaque)
{
    AMDPSPState *s = opaque;
    PCIDevice *pci = PCI_DEVICE(s);
    bool ioc = s->cmdresp & PSP_CMD_IOC;

    s->cmdresp = PSP_CMD_RESPONSE | s->status;
    s->busy = false;
    if (!ioc) {
        return;
    }
    s->intsts |= PSP_INT_COMPLETE;
    if (!(s->inten & PSP_INT_COMPLETE)) {
        return;
    }
    if (msix_enabled(pci)) {
        msix_notify(pci, 0);
    } else if (msi_enabled(pci)) {
        msi_notify(pci, 0);
    }
}

static uint64_t psp_read(void *opaque, hwaddr addr, unsigned size)
{
    AMDPSPState *s = opaque;

    switch (addr) {
    case PSP_INTEN:
        return s->inten;
    case PSP_INTSTS:
        return s->intsts;
    case PSP_CMDRESP:
        return s->cmdresp;
    case PSP_CMDBUF_LO:
        return s->cmdbuf_lo;
    case PSP_CMDBUF_HI:
        return s->cmdbuf_hi;
    case PSP_FEATURES:
        return PSP_FEATURE_SEV;
    case PSP_BL_VERSION:
    case PSP_TEE_VERSION:
    default:
        return 0;
    }
}

static void psp_write(void *opaque, hwaddr addr, uint64_t val, unsigned size)
{
    AMDPSPState *s = opaque;
    CPUState *cs = current_cpu ?: first_cpu;

    switch (addr) {
    case PSP_INTEN:
        s->inten = val;
        break;
    case PSP_INTSTS:
        s->intsts &= ~val;
        break;
    case PSP_CMDBUF_LO:
    case PSP_CMDBUF_HI:
    case PSP_CMDRESP:
        if (s->busy) {
            snp_log(cs, "psp:mailbox", 0, "write of %" PRIx64 " to register %"
                    HWADDR_PRIx " while a command is executed", val, addr);
        } else if (addr == PSP_CMDBUF_LO) {
            s->cmdbuf_lo = val;
        } else if (addr == PSP_CMDBUF_HI) {
            s->cmdbuf_hi = val;
        } else if (!(val & PSP_CMD_RESPONSE)) {
            s->cmdresp = val;
            s->busy = true;
            async_safe_run_on_cpu(cs, psp_run, RUN_ON_CPU_HOST_PTR(s));
        }
        break;
    }
}

static const MemoryRegionOps psp_ops = {
    .read = psp_read,
    .write = psp_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid.min_access_size = 4,
    .valid.max_access_size = 4,
    .impl.min_access_size = 4,
    .impl.max_access_size = 4,
};

/*
 * The RMP's contents and the guests' keys survive a reset, as in hardware;
 * SNP_INIT_EX builds a new RMP.
 */
static void psp_reset(DeviceState *dev)
{
    AMDPSPState *s = AMD_PSP(dev);
    int i;

    qemu_bh_cancel(s->done_bh);
    free_guests(s, false);
    free_guests(s, true);
    s->inten = 0;
    s->intsts = 0;
    s->cmdresp = PSP_CMD_RESPONSE;
    s->cmdbuf_lo = 0;
    s->cmdbuf_hi = 0;
    s->busy = false;
    s->sev_state = SEV_UNINIT;
    s->sev_es = false;
    s->tmr_len = 0;
    s->snp_init = false;
    s->rmp_init = false;
    s->iommu = (SnpIommuInfo) { };
    s->reported_tcb = PSP_TCB;
    s->snp_flags = 0;
    s->last_handle = 0;
    for (i = 0; i <= SNP_MAX_ASID; i++) {
        s->asid[i] = ASID_DIRTY;
    }
}

static void psp_realize(PCIDevice *pci, Error **errp)
{
    AMDPSPState *s = AMD_PSP(pci);

    if (!snp_host) {
        error_setg(errp, "%s needs a machine with x-snp-host=on",
                   TYPE_AMD_PSP);
        return;
    }
    if (msix_init_exclusive_bar(pci, PSP_MSIX_VECTORS, PSP_MSIX_BAR, errp)) {
        return;
    }
    if (msi_init(pci, 0, 1, true, false, errp)) {
        msix_uninit_exclusive_bar(pci);
        return;
    }
    msix_vector_use(pci, 0);
    memory_region_init_io(&s->mmio, OBJECT(s), &psp_ops, s, TYPE_AMD_PSP,
                          PSP_BAR_SIZE);
    pci_register_bar(pci, PSP_BAR, PCI_BASE_ADDRESS_SPACE_MEMORY, &s->mmio);
    QLIST_INIT(&s->guests);
    s->done_bh = qemu_bh_new_guarded(psp_done, s,
                                     &DEVICE(s)->mem_reentrancy_guard);
}

static void psp_exit(PCIDevice *pci)
{
    AMDPSPState *s = AMD_PSP(pci);

    qemu_bh_delete(s->done_bh);
    free_guests(s, false);
    free_guests(s, true);
    msi_uninit(pci);
    msix_uninit_exclusive_bar(pci);
}

static const VMStateDescription vmstate_psp = {
    .name = TYPE_AMD_PSP,
    .unmigratable = 1,
};

static void psp_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);

    pc->realize = psp_realize;
    pc->exit = psp_exit;
    pc->vendor_id = PCI_VENDOR_ID_AMD;
    pc->device_id = PSP_DEVICE_ID;
    pc->class_id = PCI_CLASS_CRYPT_OTHER;
    dc->desc = "AMD security processor of a SEV-SNP host";
    dc->vmsd = &vmstate_psp;
    dc->hotpluggable = false;
    device_class_set_legacy_reset(dc, psp_reset);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo psp_types[] = {
    {
        .name = TYPE_AMD_PSP,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(AMDPSPState),
        .class_init = psp_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_CONVENTIONAL_PCI_DEVICE },
            { }
        },
    },
};

DEFINE_TYPES(psp_types)
