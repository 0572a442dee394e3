/*
 * Emulation of a host with AMD SEV, SEV-ES and SEV-SNP (TCG only)
 *
 * What one processor keeps is in CPUX86State. Here is what all of them share:
 * the reverse map table (RMP), the representation of encrypted memory, the
 * keys, and what the security processor (hw/i386/amd-psp.c) needs of both.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef I386_SNP_HOST_H
#define I386_SNP_HOST_H

#include "cpu.h"
#include "exec/hwaddr.h"
#include "exec/memory.h"

/*
 * Locking. "Exclusive" means that no vCPU executes: in work queued by
 * async_safe_run_on_cpu(), or between start_exclusive() and end_exclusive().
 * The RMP, the views and the keys are changed only then; a vCPU that executes
 * may read them without a lock. A vCPU that waits for exclusivity itself has to
 * look again afterwards: snp_host->generation tells whether anything has
 * changed.
 */

#define SNP_CBIT_POS        51
#define SNP_CBIT            (1ULL << SNP_CBIT_POS)
#define SNP_MAX_ASID        63      /* CPUID 0x8000001f ECX */
/* CPUID 0x8000001f EDX; ES and SNP guests have 1..31 */
#define SNP_MIN_SEV_ASID    32
#define SNP_NUM_VMPLS       4

/* An RMP entry as it lies in memory; Zen 3 and Zen 4. */
typedef struct RmpEntry {
    uint64_t lo;
    uint64_t hi;
} RmpEntry;

#define RMP_ASSIGNED        (1ULL << 0)
#define RMP_PAGESIZE_2M     (1ULL << 1)
#define RMP_IMMUTABLE       (1ULL << 2)
/* 9 bits, in the entry of a 2M-aligned page only */
#define RMP_SUBCOUNT_SHIFT  3
#define RMP_SUBCOUNT_MASK   (0x1ffULL << RMP_SUBCOUNT_SHIFT)
/* gpa >> 12 in bits 50:12, so the field reads as the address */
#define RMP_GPA_SHIFT       12
#define RMP_GPA_MASK        (((1ULL << 39) - 1) << RMP_GPA_SHIFT)
#define RMP_ASID_SHIFT      51
#define RMP_ASID_MASK       (0x3ffULL << RMP_ASID_SHIFT)
#define RMP_VMSA            (1ULL << 61)
#define RMP_VALIDATED       (1ULL << 62)
#define RMP_LOCK            (1ULL << 63)

/* Permissions of VMPL n are byte n of RmpEntry.hi. */
#define RMP_PERM_READ       (1u << 0)
#define RMP_PERM_WRITE      (1u << 1)
#define RMP_PERM_EXEC_USER  (1u << 2)
#define RMP_PERM_EXEC_SUPER (1u << 3)
#define RMP_PERM_SSS        (1u << 4)
#define RMP_PERM_ALL        0x1fu

/* one 64-bit counter for each ASID; entries follow */
#define RMP_BOOKKEEPING     0x4000

static inline uint32_t rmp_asid(RmpEntry e)
{
    return (e.lo & RMP_ASID_MASK) >> RMP_ASID_SHIFT;
}

static inline uint64_t rmp_gpa(RmpEntry e)
{
    return e.lo & RMP_GPA_MASK;
}

static inline uint8_t rmp_perms(RmpEntry e, int vmpl)
{
    return e.hi >> (8 * vmpl);
}

/* Derived from the entry alone, as firmware does it. */
typedef enum SnpPageState {
    SNP_PAGE_DEFAULT,           /* not covered by the RMP */
    SNP_PAGE_HYPERVISOR,
    SNP_PAGE_HV_FIXED,
    SNP_PAGE_FIRMWARE,
    SNP_PAGE_FIRMWARE_IOMMU,
    SNP_PAGE_CONTEXT,
    SNP_PAGE_RECLAIM,
    SNP_PAGE_PRE_GUEST,
    SNP_PAGE_PRE_SWAP,
    SNP_PAGE_GUEST_INVALID,
    SNP_PAGE_GUEST_VALID,
} SnpPageState;

/* bits 50:12 of Firmware-IOMMU pages */
#define RMP_IOMMU_MARKER    0x2000000001ULL

typedef struct SnpHost {
    /* Configuration; constant once the machine runs. */
    /* of the whole table, with the bookkeeping area */
    hwaddr rmp_base;
    uint64_t rmp_size;          /* RMP_END = rmp_base + rmp_size - 1 */
    uint8_t *rmp;               /* host address of rmp_base */
    /* number of entries: page frames 0..pages-1 are covered */
    uint64_t pages;
    /* off: instructions and PSP work, no access is ever refused */
    bool enforce;
    /* 1 in N RMPUPDATE and PSMASH return "in use"; 0: none */
    uint32_t in_use_one_in;

    /* State. */
    uint64_t generation;        /* counts changes of RMP or views; see above */
    /* for each page frame: SNP_VIEW_RAW, or the ASID; see snp_view() */
    uint32_t *view;
    uint64_t *key;              /* for each ASID; 0: none */
    uint64_t keys_made;
    bool *asid_enabled;         /* for each ASID: the PSP lets it VMRUN */
    uint32_t in_use_count;
} SnpHost;

extern SnpHost *snp_host;       /* NULL unless the machine has x-snp-host=on */

/*
 * Called by the machine before CPUs are created. @rmp is RAM of @size bytes
 * that lies at @base, both multiples of 2 MiB.
 */
void snp_host_init(MemoryRegion *rmp, hwaddr base, uint64_t size,
                   uint64_t pages,
                   bool enforce, uint32_t in_use_one_in);

/*
 * One line in QEMU's log (-d guest_errors): processor, rip, operation, address,
 * RMP entry, reason.
 */
void G_GNUC_PRINTF(4, 5) snp_log(CPUState *cs, const char *op, hwaddr spa,
                                 const char *fmt, ...);

/*
 * MSRs that only an SNP host has, and its rules for others.  @env is that of
 * the vCPU that executes the instruction, after all intercepts.
 */
typedef enum SnpMsrResult {
    SNP_MSR_OTHER,              /* none of these, or nothing against it */
    SNP_MSR_DONE,
    SNP_MSR_GP,
} SnpMsrResult;

SnpMsrResult snp_host_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val);
SnpMsrResult snp_host_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val);

/* --- the RMP: target/i386/tcg/system/snp-rmp.c --- */

bool snp_rmp_covers(hwaddr spa);
/* The page's own entry; all zero if there is none. */
RmpEntry snp_rmp_get(hwaddr spa);
/*
 * The entry that counts for the page: if a 2M entry covers it, that entry with
 * the gpa of this 4K page, and *level2m set.
 */
RmpEntry snp_rmp_lookup(hwaddr spa, bool *level2m);
/*
 * Exclusive. Writes the entry, and keeps the ASID's counter and the sub-page
 * count of the region. No flush.
 */
void snp_rmp_set(hwaddr spa, RmpEntry e);
SnpPageState snp_page_state(hwaddr spa);
const char *snp_page_state_name(SnpPageState s);
/* Number of pages that the table's first 16 KiB have for the ASID. */
uint64_t snp_rmp_asid_count(uint32_t asid);
/*
 * Exclusive. After RMP or views have changed: nothing of it may stay in a TLB.
 */
void snp_flush_all(void);

/*
 * May this access be done? Called when a TLB entry is filled, with the size
 * that the (nested) page tables give the page. Accesses to page tables come as
 * MMU_DATA_STORE, reads too. On success, may take PAGE_WRITE from *prot so that
 * a later write asks again. On a fault, *error_code gets the bits that say why.
 */
typedef enum SnpFault {
    SNP_FAULT_NONE,
    SNP_FAULT_RMP,              /* #PF or #NPF */
    SNP_FAULT_NOT_VALIDATED,    /* #VC(0x404) in the guest */
} SnpFault;

/* Bits of error codes (APM 15.36.10); those above 31 of #NPF only. */
#define SNP_ERROR_RMP       (1ULL << 31)
#define SNP_ERROR_ENC       (1ULL << 34)    /* the access was private */
/* PVALIDATE, RMPADJUST: size mismatch */
#define SNP_ERROR_SIZEM     (1ULL << 35)
#define SNP_ERROR_VMPL      (1ULL << 36)

/* Host, and guests that are not SNP. */
SnpFault snp_check_host(CPUX86State *env, hwaddr spa, uint64_t map_size,
                        MMUAccessType access, int *prot, uint64_t *error_code);
/*
 * SNP guests; @c: the access is private. @user: CPL 3, for the execute
 * permissions of VMPLs.
 */
SnpFault snp_check_guest(CPUX86State *env, hwaddr spa, hwaddr gpa,
                         uint64_t map_size, MMUAccessType access, bool user,
                         bool c, int *prot, uint64_t *error_code);

/* EAX of the instructions (MS) */
typedef enum SnpStatus {
    SNP_STATUS_OK,
    SNP_STATUS_INPUT,
    SNP_STATUS_PERMISSION,
    SNP_STATUS_IN_USE,
    SNP_STATUS_OVERLAP,
    SNP_STATUS_SIZE_MISMATCH = 6,
    SNP_STATUS_NOT_2M = 7,
} SnpStatus;

/* The memory operand of RMPUPDATE */
typedef struct RmpUpdate {
    uint64_t gpa;
    bool assigned;
    bool size_2m;
    bool immutable;
    uint32_t asid;
} RmpUpdate;

/*
 * Exclusive. What the instructions do after their operands have been read and
 * translated. They flush, and log a status other than 0.
 */
SnpStatus snp_rmpupdate(CPUX86State *env, hwaddr spa, const RmpUpdate *new);
SnpStatus snp_psmash(CPUX86State *env, hwaddr spa);

/* The page that PVALIDATE and RMPADJUST translated */
typedef struct SnpGuestPage {
    hwaddr spa;
    hwaddr gpa;
    uint64_t map_size;          /* of the nested page tables */
} SnpGuestPage;

/* As above, or a fault as snp_check_guest(). */
SnpFault snp_pvalidate(CPUX86State *env, const SnpGuestPage *page,
                       bool size_2m, bool validate, SnpStatus *status,
                       bool *unchanged, uint64_t *error_code);
SnpFault snp_rmpadjust(CPUX86State *env, const SnpGuestPage *page,
                       bool size_2m, int vmpl, uint8_t perms, bool vmsa,
                       SnpStatus *status, uint64_t *error_code);

/* What RMPQUERY tells of a page */
typedef struct SnpRmpQuery {
    uint8_t perms;
    bool vmsa;
    bool size_2m;
} SnpRmpQuery;
SnpFault snp_rmpquery(CPUX86State *env, const SnpGuestPage *page, int vmpl,
                      SnpRmpQuery *result, uint64_t *error_code);

/* --- translation: target/i386/tcg/system/excp_helper.c --- */

/*
 * The operand of PVALIDATE or RMPADJUST, translated as for a read. Raises the
 * faults of page tables, but what the RMP has of the page itself is left to the
 * instruction, with the second function to raise it.
 */
void x86_snp_translate(CPUX86State *env, vaddr addr, SnpGuestPage *page,
                       uintptr_t retaddr);
G_NORETURN void x86_snp_raise_fault(CPUX86State *env, vaddr addr,
                                    const SnpGuestPage *page, SnpFault fault,
                                    uint64_t error_code, uintptr_t retaddr);

/* --- contents: target/i386/tcg/system/snp-view.c --- */

/*
 * QEMU's RAM has each page in one of two representations. RAW is what DRAM
 * would hold: what the host, devices and the PSP see, and a guest without the
 * C-bit. Otherwise it is what the guest of that ASID sees with the C-bit. A TLB
 * entry may exist only for the page's present view, so whoever asks for another
 * one has all TLBs flushed and the page converted by flipping it: RAW = XOR
 * with a keystream of key and address, which is its own inverse.
 */
#define SNP_VIEW_RAW    0

uint32_t snp_view(hwaddr spa);
/* Exclusive. Converts the contents if the page is in another view. */
void snp_view_set(hwaddr spa, uint32_t asid);
/* Whether a TLB entry may be made: the page is in that view, or is not RAM. */
bool snp_view_is(hwaddr spa, uint32_t asid);
/*
 * Exclusive. The contents stay, byte by byte, and are from now on taken for
 * what that ASID sees: encryption in place.
 */
void snp_view_relabel(hwaddr spa, uint32_t asid);
/*
 * On the thread of @cs, within cpu_exec(), with or without the BQL: stops the
 * other vCPUs if the page has to be flipped. What was translated before may be
 * stale afterwards.
 */
void snp_view_want(CPUState *cs, hwaddr spa, uint32_t asid);
/*
 * On the thread of @cs, within cpu_exec(), with or without the BQL: exclusive
 * from begin to end. In cpu_exec_step_atomic() the vCPU is so already.
 */
typedef struct SnpExclusive {
    bool nested;
    bool bql;
} SnpExclusive;
void snp_exclusive_begin(CPUState *cs, SnpExclusive *x);
void snp_exclusive_end(CPUState *cs, SnpExclusive *x);
/*
 * Exclusive. A new key for the ASID; all of its pages go RAW with the old one
 * first.
 */
void snp_key_new(uint32_t asid);
/*
 * Exclusive. Off: its pages go RAW, so that devices can use them. To be called
 * by every DEACTIVATE and DECOMMISSION.
 */
void snp_asid_enable(uint32_t asid, bool on);
bool snp_asid_enabled(uint32_t asid);

/*
 * --- for the PSP; exclusive. RAW memory, never through an IOMMU, no RMP
 * checks. ---
 */
bool snp_phys_read(hwaddr spa, void *buf, size_t len);
bool snp_phys_write(hwaddr spa, const void *buf, size_t len);
/* As the guest with that ASID sees it. */
bool snp_guest_read(uint32_t asid, hwaddr spa, void *buf, size_t len);
bool snp_guest_write(uint32_t asid, hwaddr spa, const void *buf, size_t len);

/* --- of hw/i386/amd_iommu.c, for the PSP --- */
typedef struct SnpIommuInfo {
    bool present;               /* an amd-iommu with x-snp=on */
    bool enabled;               /* the driver has enabled translation */
    uint64_t evt_base, evt_len; /* 0 length: off */
    uint64_t ppr_base, ppr_len;
    /* completion wait: the exclusion range registers */
    uint64_t cwb_base, cwb_len;
} SnpIommuInfo;
SnpIommuInfo amdvi_snp_info(void);

#endif
