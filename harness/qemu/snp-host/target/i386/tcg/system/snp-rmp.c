/*
 * Emulation of a host with AMD SEV-SNP: the reverse map table
 *
 * Sources: AMD64 Architecture Programmer's Manual (APM), volume 2, section
 * 15.36; Microsoft's C++ documentation of the intrinsics rmpupdate, psmash,
 * pvalidate, rmpadjust and rmpquery (MS); the order of RMPUPDATE's checks as
 * quoted from the APM by S. Christopherson, <YPIoaoDCjNVzn2ZM@google.com>.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "cpu.h"
#include "exec/cputlb.h"
#include "exec/page-protection.h"
#include "snp-host.h"

#define SIZE_2M             (2 * MiB)
#define PAGES_2M            (SIZE_2M / TARGET_PAGE_SIZE)

static hwaddr region_of(hwaddr spa)
{
    return QEMU_ALIGN_DOWN(spa, SIZE_2M);
}

static bool is_2m(RmpEntry e)
{
    return (e.lo & RMP_ASSIGNED) && (e.lo & RMP_PAGESIZE_2M);
}

static uint8_t *entry_ptr(hwaddr spa)
{
    return snp_host->rmp + RMP_BOOKKEEPING +
           (spa >> TARGET_PAGE_BITS) * sizeof(RmpEntry);
}

static void write_entry(hwaddr spa, RmpEntry e)
{
    uint8_t *p = entry_ptr(spa);

    stq_le_p(p, e.lo);
    stq_le_p(p + 8, e.hi);
}

static void count_pages(uint32_t asid, int64_t n)
{
    uint8_t *p = snp_host->rmp + asid * sizeof(uint64_t);

    if (asid) {
        stq_le_p(p, ldq_le_p(p) + n);
    }
}

bool snp_rmp_covers(hwaddr spa)
{
    return spa >> TARGET_PAGE_BITS < snp_host->pages;
}

RmpEntry snp_rmp_get(hwaddr spa)
{
    RmpEntry e = { };

    if (snp_rmp_covers(spa)) {
        e.lo = ldq_le_p(entry_ptr(spa));
        e.hi = ldq_le_p(entry_ptr(spa) + 8);
    }
    return e;
}

RmpEntry snp_rmp_lookup(hwaddr spa, bool *level2m)
{
    RmpEntry head = snp_rmp_get(region_of(spa));

    *level2m = is_2m(head);
    if (*level2m) {
        head.lo += QEMU_ALIGN_DOWN(spa, TARGET_PAGE_SIZE) - region_of(spa);
        return head;
    }
    return snp_rmp_get(spa);
}

/*
 * A 2M entry lies in the entry of its first page, with a sub-page count of 0;
 * the other 511 have nothing but the assigned bit.  The sub-page count of a
 * region without a 2M entry is the number of its assigned pages other than the
 * first.  A 2M entry counts as 512 pages of its ASID: not documented, only zero
 * matters.
 */
void snp_rmp_set(hwaddr spa, RmpEntry e)
{
    RmpEntry old = snp_rmp_get(spa);
    hwaddr region = region_of(spa), next;

    assert(snp_rmp_covers(spa));
    spa = QEMU_ALIGN_DOWN(spa, TARGET_PAGE_SIZE);

    e.lo &= ~(RMP_SUBCOUNT_MASK | RMP_LOCK);
    if (!(e.lo & RMP_ASSIGNED)) {
        e.lo &= ~RMP_PAGESIZE_2M;
    } else if (e.lo & RMP_IMMUTABLE) {
        e.lo |= RMP_LOCK;
    }

    if (is_2m(e) || is_2m(old)) {
        RmpEntry shadow = { .lo = e.lo & RMP_ASSIGNED };

        assert(spa == region && (is_2m(e) || !(e.lo & RMP_ASSIGNED)));
        for (next = spa + TARGET_PAGE_SIZE; next < spa + SIZE_2M;
             next += TARGET_PAGE_SIZE) {
            count_pages(rmp_asid(snp_rmp_get(next)), -1);
            write_entry(next, shadow);
        }
        next = spa + SIZE_2M;
    } else {
        if (spa == region) {
            e.lo |= old.lo & RMP_SUBCOUNT_MASK;
        } else {
            RmpEntry head = snp_rmp_get(region);
            uint64_t one = 1ULL << RMP_SUBCOUNT_SHIFT;

            assert(!is_2m(head));
            head.lo += (e.lo & RMP_ASSIGNED ? one : 0) -
                       (old.lo & RMP_ASSIGNED ? one : 0);
            write_entry(region, head);
        }
        next = spa + TARGET_PAGE_SIZE;
    }

    count_pages(rmp_asid(old), -(int64_t)(is_2m(old) ? PAGES_2M : 1));
    count_pages(rmp_asid(e), is_2m(e) ? PAGES_2M : 1);
    write_entry(spa, e);
    snp_host->generation++;

    /*
     * DRAM keeps its contents, so the host finds the ciphertext of a page that
     * is taken from a guest.  Convert it now instead of at the host's first
     * access, because a device may be the first to write to it.
     */
    if (!(e.lo & RMP_ASSIGNED)) {
        for (; spa < next; spa += TARGET_PAGE_SIZE) {
            snp_view_set(spa, SNP_VIEW_RAW);
        }
    }
}

SnpPageState snp_page_state(hwaddr spa)
{
    bool level2m;
    RmpEntry e = snp_rmp_lookup(spa, &level2m);

    if (!snp_rmp_covers(spa)) {
        return SNP_PAGE_DEFAULT;
    }
    if (!(e.lo & RMP_ASSIGNED)) {
        return e.lo & RMP_IMMUTABLE ? SNP_PAGE_HV_FIXED : SNP_PAGE_HYPERVISOR;
    }
    if (rmp_asid(e)) {
        if (e.lo & RMP_IMMUTABLE) {
            return e.lo & RMP_VALIDATED ? SNP_PAGE_PRE_SWAP
                                        : SNP_PAGE_PRE_GUEST;
        }
        return e.lo & RMP_VALIDATED ? SNP_PAGE_GUEST_VALID
                                    : SNP_PAGE_GUEST_INVALID;
    }
    if (!(e.lo & RMP_IMMUTABLE)) {
        return SNP_PAGE_RECLAIM;
    }
    if (e.lo & RMP_VMSA) {
        return SNP_PAGE_CONTEXT;
    }
    if (rmp_gpa(e) >> RMP_GPA_SHIFT == RMP_IOMMU_MARKER) {
        return SNP_PAGE_FIRMWARE_IOMMU;
    }
    return SNP_PAGE_FIRMWARE;
}

const char *snp_page_state_name(SnpPageState s)
{
    static const char *const names[] = {
        [SNP_PAGE_DEFAULT]          = "default",
        [SNP_PAGE_HYPERVISOR]       = "hypervisor",
        [SNP_PAGE_HV_FIXED]         = "hv-fixed",
        [SNP_PAGE_FIRMWARE]         = "firmware",
        [SNP_PAGE_FIRMWARE_IOMMU]   = "firmware-iommu",
        [SNP_PAGE_CONTEXT]          = "context",
        [SNP_PAGE_RECLAIM]          = "reclaim",
        [SNP_PAGE_PRE_GUEST]        = "pre-guest",
        [SNP_PAGE_PRE_SWAP]         = "pre-swap",
        [SNP_PAGE_GUEST_INVALID]    = "guest-invalid",
        [SNP_PAGE_GUEST_VALID]      = "guest-valid",
    };

    return names[s];
}

uint64_t snp_rmp_asid_count(uint32_t asid)
{
    return ldq_le_p(snp_host->rmp + asid * sizeof(uint64_t));
}

void snp_flush_all(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        tlb_flush(cs);
    }
}

/*
 * Access checks: APM table 15-39.
 */

static bool snp_active(CPUX86State *env)
{
    return snp_host->enforce && (env->msr_syscfg & SYSCFG_SNP_EN);
}

/*
 * A large mapping may be written to only if nothing of its 2M region is
 * assigned; larger mappings count as 2M.
 */
static bool hypervisor_owned(hwaddr spa, uint64_t map_size)
{
    RmpEntry head = snp_rmp_get(region_of(spa));

    if (is_2m(head)) {
        return false;
    }
    if (map_size >= SIZE_2M) {
        return !(head.lo & (RMP_ASSIGNED | RMP_SUBCOUNT_MASK));
    }
    return !(snp_rmp_get(spa).lo & RMP_ASSIGNED);
}

SnpFault snp_check_host(CPUX86State *env, hwaddr spa, uint64_t map_size,
                        MMUAccessType access, int *prot, uint64_t *error_code)
{
    if (!snp_active(env) || hypervisor_owned(spa, map_size)) {
        return SNP_FAULT_NONE;
    }
    if (access == MMU_DATA_STORE) {
        *error_code |= SNP_ERROR_RMP;
        return SNP_FAULT_RMP;
    }
    *prot &= ~PAGE_WRITE;
    return SNP_FAULT_NONE;
}

/* Is the page this guest's, at this address? */
static bool guest_owned(CPUX86State *env, RmpEntry e, hwaddr gpa)
{
    return (e.lo & RMP_ASSIGNED) && rmp_asid(e) == env->sev_asid &&
           rmp_gpa(e) == QEMU_ALIGN_DOWN(gpa, TARGET_PAGE_SIZE) &&
           !(e.lo & RMP_IMMUTABLE);
}

static int prot_of_perms(uint8_t perms, bool user)
{
    uint8_t exec = user ? RMP_PERM_EXEC_USER : RMP_PERM_EXEC_SUPER;

    return (perms & RMP_PERM_READ ? PAGE_READ : 0) |
           (perms & RMP_PERM_WRITE ? PAGE_WRITE : 0) |
           (perms & exec ? PAGE_EXEC : 0);
}

SnpFault snp_check_guest(CPUX86State *env, hwaddr spa, hwaddr gpa,
                         uint64_t map_size, MMUAccessType access, bool user,
                         bool c, int *prot, uint64_t *error_code)
{
    bool level2m;
    RmpEntry e;
    int allowed;

    if (!c) {
        return snp_check_host(env, spa, map_size, access, prot, error_code);
    }
    if (!snp_active(env)) {
        return SNP_FAULT_NONE;
    }

    e = snp_rmp_lookup(spa, &level2m);
    if (!guest_owned(env, e, gpa) || level2m != (map_size >= SIZE_2M)) {
        *error_code |= SNP_ERROR_RMP | SNP_ERROR_ENC;
        return SNP_FAULT_RMP;
    }
    if (!(e.lo & RMP_VALIDATED)) {
        return SNP_FAULT_NOT_VALIDATED;
    }
    allowed = prot_of_perms(rmp_perms(e, env->sev_vmpl), user);
    if (!(allowed & (1 << access))) {
        *error_code |= SNP_ERROR_RMP | SNP_ERROR_ENC | SNP_ERROR_VMPL;
        return SNP_FAULT_RMP;
    }
    *prot &= allowed;
    return SNP_FAULT_NONE;
}

/*
 * Instructions.
 *
 * What the sources do not say:
 */

/* RMPUPDATE that keeps ASID, GPA and size: do the permissions stay as well? */
#define UPDATE_KEEPS_PERMISSIONS    true
/* PSMASH of an immutable 2M entry; RMPUPDATE refuses to change one. */
#define PSMASH_IMMUTABLE_STATUS     SNP_STATUS_PERMISSION

#define ENTRY_2M_FIELDS     (RMP_GPA_MASK | RMP_ASID_MASK | RMP_PAGESIZE_2M)

static SnpStatus refuse(CPUX86State *env, const char *op, hwaddr spa,
                        SnpStatus status, const char *reason)
{
    snp_log(env_cpu(env), op, spa, "status %d: %s", status, reason);
    return status;
}

/*
 * VMCB and VMSA are in use from VMRUN to #VMEXIT (APM 15.36.12).  The rest of
 * status "in use" cannot occur here: no other vCPU changes the entry meanwhile.
 */
static bool in_use(CPUX86State *env, hwaddr spa, uint64_t size)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        CPUX86State *other = cpu_env(cs);

        if (other != env && (other->hflags & HF_GUEST_MASK) &&
            (other->vm_vmcb - spa < size ||
             (other->sev_es && other->sev_vmsa - spa < size))) {
            return true;
        }
    }
    return false;
}

static bool inject_in_use(void)
{
    return snp_host->in_use_one_in &&
           ++snp_host->in_use_count % snp_host->in_use_one_in == 0;
}

static bool any_in_region(hwaddr region, uint64_t bits)
{
    for (hwaddr p = region; p < region + SIZE_2M; p += TARGET_PAGE_SIZE) {
        if (snp_rmp_get(p).lo & bits) {
            return true;
        }
    }
    return false;
}

SnpStatus snp_rmpupdate(CPUX86State *env, hwaddr spa, const RmpUpdate *new)
{
    uint64_t size = new->size_2m ? SIZE_2M : TARGET_PAGE_SIZE;
    RmpEntry old, e = { };
    bool level2m;

    spa = QEMU_ALIGN_DOWN(spa, TARGET_PAGE_SIZE);
    if (env->hflags & HF_GUEST_MASK) {
        return refuse(env, "rmpupdate", spa, SNP_STATUS_PERMISSION,
                      "in a guest");
    }
    if (new->size_2m && spa != region_of(spa)) {
        return refuse(env, "rmpupdate", spa, SNP_STATUS_INPUT,
                      "2M page is not aligned");
    }
    if (!new->assigned && (new->immutable || new->asid)) {
        return refuse(env, "rmpupdate", spa, SNP_STATUS_INPUT,
                      "unassigned, with ASID or immutable");
    }
    if (!snp_rmp_covers(spa) || !snp_rmp_covers(spa + size - 1)) {
        return refuse(env, "rmpupdate", spa, SNP_STATUS_INPUT,
                      "no entry for the page");
    }

    old = snp_rmp_lookup(spa, &level2m);
    if (old.lo & RMP_IMMUTABLE) {
        return refuse(env, "rmpupdate", spa, SNP_STATUS_PERMISSION,
                      "immutable");
    }
    if (!new->size_2m && level2m) {
        return refuse(env, "rmpupdate", spa, SNP_STATUS_OVERLAP,
                      "4K page within a 2M page");
    }
    if (new->size_2m && !level2m) {
        if (any_in_region(spa, RMP_ASSIGNED)) {
            return refuse(env, "rmpupdate", spa, SNP_STATUS_OVERLAP,
                          "2M page over assigned 4K pages");
        }
        /* Follows from what immutable means, though the APM does not say it. */
        if (any_in_region(spa, RMP_IMMUTABLE)) {
            return refuse(env, "rmpupdate", spa, SNP_STATUS_PERMISSION,
                          "2M page over immutable 4K pages");
        }
    }
    if (in_use(env, spa, size)) {
        return refuse(env, "rmpupdate", spa, SNP_STATUS_IN_USE,
                      "VMCB or VMSA of a running vCPU");
    }
    if (inject_in_use()) {
        return refuse(env, "rmpupdate", spa, SNP_STATUS_IN_USE, "injected");
    }

    if (new->assigned) {
        e.lo = RMP_ASSIGNED | (new->size_2m ? RMP_PAGESIZE_2M : 0) |
               (new->immutable ? RMP_IMMUTABLE : 0) |
               (new->gpa & RMP_GPA_MASK) |
               ((uint64_t)new->asid << RMP_ASID_SHIFT & RMP_ASID_MASK);
        /* APM 15.36.7: VMPL0 has everything, the others nothing. */
        e.hi = RMP_PERM_ALL;
        /* APM 15.36.6, 15.36.11 */
        if ((old.lo & RMP_ASSIGNED) &&
            !((old.lo ^ e.lo) & ENTRY_2M_FIELDS)) {
            e.lo |= old.lo & (RMP_VALIDATED | RMP_VMSA);
            if (UPDATE_KEEPS_PERMISSIONS) {
                e.hi = old.hi;
            }
        }
    }
    /* Without a 2M entry, all of the region is unassigned already. */
    if (new->assigned || !new->size_2m || level2m) {
        snp_rmp_set(spa, e);
        snp_flush_all();
    }
    return SNP_STATUS_OK;
}

SnpStatus snp_psmash(CPUX86State *env, hwaddr spa)
{
    RmpEntry head, e;
    bool level2m;

    if (env->hflags & HF_GUEST_MASK) {
        return refuse(env, "psmash", spa, SNP_STATUS_PERMISSION, "in a guest");
    }
    if (spa != region_of(spa)) {
        return refuse(env, "psmash", spa, SNP_STATUS_INPUT, "not aligned");
    }
    if (!snp_rmp_covers(spa)) {
        return refuse(env, "psmash", spa, SNP_STATUS_INPUT,
                      "no entry for the page");
    }
    head = snp_rmp_lookup(spa, &level2m);
    if (!level2m) {
        return refuse(env, "psmash", spa, SNP_STATUS_NOT_2M, "not a 2M page");
    }
    if (head.lo & RMP_IMMUTABLE) {
        return refuse(env, "psmash", spa, PSMASH_IMMUTABLE_STATUS,
                      "immutable");
    }
    if (in_use(env, spa, SIZE_2M)) {
        return refuse(env, "psmash", spa, SNP_STATUS_IN_USE,
                      "VMCB or VMSA of a running vCPU");
    }
    if (inject_in_use()) {
        return refuse(env, "psmash", spa, SNP_STATUS_IN_USE, "injected");
    }

    /* APM 15.36.11: all fields, with consecutive guest addresses */
    e = head;
    e.lo &= ~RMP_PAGESIZE_2M;
    for (int i = 1; i < PAGES_2M; i++) {
        e.lo += TARGET_PAGE_SIZE;
        write_entry(spa + i * TARGET_PAGE_SIZE, e);
    }
    head.lo &= ~RMP_PAGESIZE_2M;
    head.lo |= (PAGES_2M - 1) << RMP_SUBCOUNT_SHIFT;
    write_entry(spa, head);
    snp_host->generation++;
    snp_flush_all();
    return SNP_STATUS_OK;
}

/*
 * APM table 15-40 and 15.36.6: what PVALIDATE and RMPADJUST check of the page.
 * Both sizes, of the RMP entry and of the nested mapping, have to be the one
 * that the guest asks for.  Larger is a fault, so that the hypervisor can split
 * the page; smaller is the guest's business.
 */
static SnpFault check_operand(CPUX86State *env, const char *op,
                              const SnpGuestPage *page, bool size_2m,
                              RmpEntry *e, SnpStatus *status,
                              uint64_t *error_code)
{
    bool level2m, map2m = page->map_size >= SIZE_2M;

    *status = SNP_STATUS_OK;
    *e = snp_rmp_lookup(page->spa, &level2m);
    if (!guest_owned(env, *e, page->gpa)) {
        *error_code |= SNP_ERROR_RMP | SNP_ERROR_ENC;
        return SNP_FAULT_RMP;
    }
    if (!size_2m && (level2m || map2m)) {
        *error_code |= SNP_ERROR_RMP | SNP_ERROR_ENC | SNP_ERROR_SIZEM;
        return SNP_FAULT_RMP;
    }
    if (size_2m &&
        !(level2m && map2m && page->spa == region_of(page->spa))) {
        *status = refuse(env, op, page->spa, SNP_STATUS_SIZE_MISMATCH,
                         "2M page asked for, 4K page found");
    }
    return SNP_FAULT_NONE;
}

SnpFault snp_pvalidate(CPUX86State *env, const SnpGuestPage *page,
                       bool size_2m, bool validate, SnpStatus *status,
                       bool *unchanged, uint64_t *error_code)
{
    RmpEntry e;
    SnpFault fault = check_operand(env, "pvalidate", page, size_2m, &e,
                                   status, error_code);

    *unchanged = false;
    if (fault != SNP_FAULT_NONE || *status != SNP_STATUS_OK) {
        return fault;
    }
    *unchanged = validate == !!(e.lo & RMP_VALIDATED);
    if (!*unchanged) {
        e.lo ^= RMP_VALIDATED;
        snp_rmp_set(page->spa, e);
        snp_flush_all();
    }
    return SNP_FAULT_NONE;
}

SnpFault snp_rmpadjust(CPUX86State *env, const SnpGuestPage *page,
                       bool size_2m, int vmpl, uint8_t perms, bool vmsa,
                       SnpStatus *status, uint64_t *error_code)
{
    RmpEntry e;
    SnpFault fault = check_operand(env, "rmpadjust", page, size_2m, &e,
                                   status, error_code);

    if (fault != SNP_FAULT_NONE || *status != SNP_STATUS_OK) {
        return fault;
    }
    if (!(e.lo & RMP_VALIDATED)) {
        return SNP_FAULT_NOT_VALIDATED;
    }
    if (perms & ~rmp_perms(e, env->sev_vmpl)) {
        *status = refuse(env, "rmpadjust", page->spa, SNP_STATUS_PERMISSION,
                         "more permissions than its own");
        return SNP_FAULT_NONE;
    }

    e.hi = deposit64(e.hi, 8 * vmpl, 8, perms);
    if (env->sev_vmpl == 0) {
        e.lo = vmsa ? e.lo | RMP_VMSA : e.lo & ~RMP_VMSA;
    }
    snp_rmp_set(page->spa, e);
    snp_flush_all();
    return SNP_FAULT_NONE;
}

/*
 * The page's size is not an operand but a result, so the sizes of RMP entry and
 * nested mapping may differ: no text says that this is checked.
 */
SnpFault snp_rmpquery(CPUX86State *env, const SnpGuestPage *page, int vmpl,
                      SnpRmpQuery *result, uint64_t *error_code)
{
    bool level2m;
    RmpEntry e = snp_rmp_lookup(page->spa, &level2m);

    if (!guest_owned(env, e, page->gpa)) {
        *error_code |= SNP_ERROR_RMP | SNP_ERROR_ENC;
        return SNP_FAULT_RMP;
    }
    if (!(e.lo & RMP_VALIDATED)) {
        return SNP_FAULT_NOT_VALIDATED;
    }
    *result = (SnpRmpQuery) {
        .perms = rmp_perms(e, vmpl),
        .vmsa = e.lo & RMP_VMSA,
        .size_2m = level2m,
    };
    return SNP_FAULT_NONE;
}
