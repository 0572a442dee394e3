// SPDX-License-Identifier: GPL-2.0
/*
 * RMPUPDATE and PSMASH on the host.
 */
#include <linux/mm.h>
#include <asm/cpuid/api.h>
#include "snp_rows.h"

#define OTHER_GPA	0x456000ULL
#define HPET		0xfed00000ULL
#define SIZE_2M		0x200000ULL

/* ---- every state, every request ---- */

enum request { TO_HV, TO_FIRMWARE, TO_RECLAIM, TO_PRE_GUEST, TO_GUEST, TO_OTHER_GPA, TO_OTHER_ASID };

static const struct rmpupdate_arg requests[] = {
	[TO_HV] = {},
	[TO_FIRMWARE] = { .assigned = 1, .immutable = 1 },
	[TO_RECLAIM] = { .assigned = 1 },
	[TO_PRE_GUEST] = { .assigned = 1, .immutable = 1, .asid = ASID_LAUNCH, .gpa = ST_GPA },
	[TO_GUEST] = { .assigned = 1, .asid = ASID_LAUNCH, .gpa = ST_GPA },
	[TO_OTHER_GPA] = { .assigned = 1, .asid = ASID_LAUNCH, .gpa = OTHER_GPA },
	[TO_OTHER_ASID] = { .assigned = 1, .asid = ASID_OTHER, .gpa = ST_GPA },
};

/* a: state, b: request, c: status, d: validated afterwards */
static void transition(const struct row *r)
{
	const struct rmpupdate_arg *a = &requests[r->b];
	u64 pa = state_page(r->a), before = rmp_lo(pa), want;

	if (!pa) {
		check(pa);
		return;
	}
	same("status", rmpupdate_want(pa, *a, r->c), r->c);
	if (r->c)
		want = before;
	else if (a->assigned)
		want = lo_entry(a->asid, a->gpa, a->immutable) | (r->d ? LO_VALIDATED : 0);
	else
		want = 0;
	same("entry", rmp_lo(pa) & ~(want & LO_ASSIGNED ? 0 : LO_GPA), want);
	state_free(pa, r->a);
}

#define T(from, to, n, status, validated, source) \
	{ "rmpupdate." n, source, transition, from, to, status, validated }

/* ---- input ---- */

/* a: flags of the request (1 assigned, 2 size, 4 immutable), b: asid, c: offset of the page in the region */
static void bad_input(const struct row *r)
{
	struct rmpupdate_arg a = {
		.assigned = r->a & 1, .size = !!(r->a & 2), .immutable = !!(r->a & 4), .asid = r->b,
	};
	u64 pa = region.pa + r->c;

	same("status", rmpupdate_want(pa, a, 1), 1);
	same("entry", rmp_lo(pa), 0);
}

static void not_covered(const struct row *r)
{
	u64 pa = (rmp_pages << PAGE_SHIFT) + (r->a ? 1ULL << 39 : 0);

	if (r->b)
		same("status", psmash_want(pa & ~(SIZE_2M - 1), 1), 1);
	else
		same("status", rmpupdate_want(pa, requests[TO_GUEST], 1), 1);
}

/* Pages that the firmware made HV-fixed when it built the table. a: address */
static void fixed(const struct row *r)
{
	same("status", rmpupdate_want(r->a, requests[TO_GUEST], 2), 2);
	same("entry", rmp_lo(r->a), LO_IMMUTABLE);
}

static void e820_reserved(const struct row *r)
{
	/* The BIOS, which lies below 1 MiB and below 4 GiB. */
	same("status", rmpupdate_want(0xffff0000ULL, requests[TO_GUEST], 2), 2);
}

static void gpa_without_assigned(const struct row *r)
{
	struct rmpupdate_arg a = { .gpa = OTHER_GPA };

	same("status", rmpupdate_raw(region.pa, a), 0);
	same("assigned", rmp_read(region.pa).lo & LO_ASSIGNED, 0);
	unassign(region.pa);
}

/* ---- 2 MiB ---- */

static const struct rmpupdate_arg large = { .assigned = 1, .size = 1, .asid = ASID_LAUNCH, .gpa = 0x40000000 };
static const struct rmpupdate_arg large_none = { .size = 1 };
static const struct rmpupdate_arg large_pre = {
	.assigned = 1, .size = 1, .immutable = 1, .asid = ASID_LAUNCH, .gpa = 0x40000000
};

static void large_assign(const struct row *r)
{
	int i, bad = 0;

	same("status", rmpupdate_raw(region.pa, large), 0);
	same("head", rmp_read(region.pa).lo, lo_entry(ASID_LAUNCH, 0x40000000, false) | LO_2M);
	for (i = 1; i < BLOCK_PAGES; i++)
		bad += rmp_read(region.pa + i * PAGE_SIZE).lo != LO_ASSIGNED;
	same("followers that aren't assigned alone", bad, 0);
	block_reset(&region);
}

static void large_unassign(const struct row *r)
{
	int i, bad = 0;

	rmpupdate_raw(region.pa, large);
	same("status", rmpupdate_raw(region.pa, large_none), 0);
	for (i = 0; i < BLOCK_PAGES; i++)
		bad += !!(rmp_read(region.pa + i * PAGE_SIZE).lo & (LO_ASSIGNED | LO_2M | LO_IMMUTABLE | LO_ASID));
	same("entries left", bad, 0);
	block_reset(&region);
}

static void large_rewrite(const struct row *r)
{
	struct rmpupdate_arg a = large;

	a.gpa = 0x60000000;
	rmpupdate_raw(region.pa, large);
	same("status", rmpupdate_raw(region.pa, a), 0);
	same("head", rmp_read(region.pa).lo, lo_entry(ASID_LAUNCH, 0x60000000, false) | LO_2M);
	block_reset(&region);
}

static void large_immutable(const struct row *r)
{
	rmpupdate_raw(region.pa, large_pre);
	same("status", rmpupdate_want(region.pa, large_none, 2), 2);
	same("head", rmp_read(region.pa).lo, lo_entry(ASID_LAUNCH, 0x40000000, true) | LO_2M);
	block_reset(&region);
}

/* a: page in the region, b: 1 to unassign it */
static void small_in_large(const struct row *r)
{
	u64 pa = region.pa + r->a * PAGE_SIZE;

	rmpupdate_raw(region.pa, large);
	same("status", rmpupdate_want(pa, requests[r->b ? TO_HV : TO_GUEST], 4), 4);
	same("head", rmp_read(region.pa).lo, lo_entry(ASID_LAUNCH, 0x40000000, false) | LO_2M);
	block_reset(&region);
}

/* a: page of the region that is assigned */
static void large_over_small(const struct row *r)
{
	u64 pa = region.pa + r->a * PAGE_SIZE;

	assign(pa, ASID_LAUNCH, ST_GPA, false);
	same("status", rmpupdate_want(region.pa, large, 4), 4);
	same("entry", rmp_lo(pa), lo_entry(ASID_LAUNCH, ST_GPA, false));
	block_reset(&region);
}

static void large_after_small(const struct row *r)
{
	assign(region.pa + 7 * PAGE_SIZE, ASID_LAUNCH, ST_GPA, false);
	unassign(region.pa + 7 * PAGE_SIZE);
	same("status", rmpupdate_raw(region.pa, large), 0);
	block_reset(&region);
}

/* ---- bookkeeping ---- */

/* a: first page, b: number of pages, c: count expected */
static void subpages(const struct row *r)
{
	int i;

	for (i = 0; i < r->b; i++)
		assign(region.pa + (r->a + i) * PAGE_SIZE, 0, 0, true);
	same("sub-page count", rmp_subcount(region.pa), r->c);
	block_reset(&region);
	same("sub-page count at the end", rmp_subcount(region.pa), 0);
}

static void subpages_dump(const struct row *r)
{
	int i;

	/* A 1 MiB firmware range at the head of its region, as a dump of real hardware shows it. */
	for (i = 0; i < 256; i++)
		assign(region.pa + i * PAGE_SIZE, 0, 0, true);
	same("low bits of the head", rmp_read(region.pa).lo & 0xfff, 0x7fd);
	block_reset(&region);
}

static void subpages_large(const struct row *r)
{
	rmpupdate_raw(region.pa, large);
	same("sub-page count", rmp_subcount(region.pa), 0);
	block_reset(&region);
}

static void lock_bit(const struct row *r)
{
	assign(region.pa, ASID_LAUNCH, ST_GPA, r->a);
	same("lock", !!(rmp_read(region.pa).lo & LO_LOCK), r->a);
	page_reset(region.pa);
}

static void counter(const struct row *r)
{
	u64 before = rmp_count(ASID_OTHER);

	same("counter before", before, 0);
	if (r->a) {
		struct rmpupdate_arg a = large;

		a.asid = ASID_OTHER;
		rmpupdate_raw(region.pa, a);
	} else {
		assign(region.pa, ASID_OTHER, ST_GPA, false);
	}
	check(rmp_count(ASID_OTHER) != 0);
	block_reset(&region);
	same("counter at the end", rmp_count(ASID_OTHER), 0);
}

static void counter_moves(const struct row *r)
{
	assign(region.pa, ASID_OTHER, ST_GPA, false);
	assign(region.pa, ASID_OTHER + 1, ST_GPA, false);
	same("counter of the old ASID", rmp_count(ASID_OTHER), 0);
	same("counter of the new ASID", rmp_count(ASID_OTHER + 1), 1);
	page_reset(region.pa);
}

static void permissions(const struct row *r)
{
	assign(region.pa, ASID_LAUNCH, ST_GPA, false);
	same("VMPL0", rmp_read(region.pa).hi & 0xf, 0xf);
	same("VMPL1 to 3", rmp_read(region.pa).hi & 0xffffff00, 0);
	page_reset(region.pa);
}

static void permissions_again(const struct row *r)
{
	/* Launched with permissions for VMPL1; another assignment takes them away. */
	assign(region.pa, ASID_LAUNCH, ST_GPA, true);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_UNMEASURED, false, 0x3, 0);
	same("VMPL1 as launched", rmp_read(region.pa).hi >> 8 & 0xff, 0x3);
	assign(region.pa, ASID_LAUNCH, OTHER_GPA, false);
	same("VMPL1 to 3", rmp_read(region.pa).hi & 0xffffff00, 0);
	page_reset(region.pa);
}

static void contents_stay(const struct row *r)
{
	u8 *p = page_va(region.pa);

	memset(p, 0x5a, PAGE_SIZE);
	assign(region.pa, ASID_LAUNCH, ST_GPA, false);
	check(!memchr_inv(p, 0x5a, PAGE_SIZE));
	unassign(region.pa);
	check(!memchr_inv(p, 0x5a, PAGE_SIZE));
	memset(p, 0, PAGE_SIZE);
}

/* a: the page is rewritten with immutable set */
static void vmsa_bit(const struct row *r)
{
	assign(region.pa, ASID_LAUNCH, ST_GPA, true);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_VMSA, false, 0, 0);
	same("entry as launched", rmp_lo(region.pa),
	     lo_entry(ASID_LAUNCH, ST_GPA, false) | LO_VMSA | LO_VALIDATED);
	if (r->a) {
		assign(region.pa, ASID_LAUNCH, ST_GPA, true);
		same("entry", rmp_lo(region.pa), lo_entry(ASID_LAUNCH, ST_GPA, true) | LO_VMSA | LO_VALIDATED);
	} else {
		unassign(region.pa);
		same("entry", rmp_lo(region.pa) & ~LO_GPA, 0);
	}
	page_reset(region.pa);
}

static void size_change(const struct row *r)
{
	/* A validated 2M page, split, is validated; made 4K of another size by RMPUPDATE it is not. */
	rmpupdate_raw(region.pa, large_pre);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_UNMEASURED, true, 0, 0);
	same("head as launched", rmp_read(region.pa).lo,
	     lo_entry(ASID_LAUNCH, 0x40000000, false) | LO_2M | LO_VALIDATED);
	psmash_raw(region.pa);
	unassign(region.pa + 3 * PAGE_SIZE);
	assign(region.pa + 3 * PAGE_SIZE, ASID_LAUNCH, 0x40003000, false);
	same("entry 3", rmp_lo(region.pa + 3 * PAGE_SIZE), lo_entry(ASID_LAUNCH, 0x40003000, false));
	same("entry 4", rmp_lo(region.pa + 4 * PAGE_SIZE),
	     lo_entry(ASID_LAUNCH, 0x40004000, false) | LO_VALIDATED);
	block_reset(&region);
}

/* ---- PSMASH ---- */

/* a: 1 validated */
static void smash(const struct row *r)
{
	u64 v = r->a ? LO_VALIDATED : 0, hi;
	int i, bad = 0, bad_hi = 0;

	rmpupdate_raw(region.pa, r->a ? large_pre : large);
	if (r->a)
		launch_update(&launch, region.pa, SNP_PAGE_TYPE_UNMEASURED, true, 0x030701, 0);
	hi = rmp_read(region.pa).hi & 0xffffffff;
	same("status", psmash_raw(region.pa), 0);
	for (i = 0; i < BLOCK_PAGES; i++) {
		u64 pa = region.pa + i * PAGE_SIZE;

		bad += rmp_lo(pa) != (lo_entry(ASID_LAUNCH, 0x40000000 + i * PAGE_SIZE, false) | v);
		bad_hi += (rmp_read(pa).hi & 0xffffffff) != hi;
	}
	same("wrong entries", bad, 0);
	same("wrong permissions", bad_hi, 0);
	if (r->a)
		same("permissions", hi >> 8, 0x030701);
	same("sub-page count", rmp_subcount(region.pa), 511);
	block_reset(&region);
}

static void smash_4k(const struct row *r)
{
	assign(region.pa, ASID_LAUNCH, ST_GPA, false);
	same("status", psmash_want(region.pa, 7), 7);
	same("entry", rmp_lo(region.pa), lo_entry(ASID_LAUNCH, ST_GPA, false));
	page_reset(region.pa);
}

static void smash_twice(const struct row *r)
{
	rmpupdate_raw(region.pa, large);
	psmash_raw(region.pa);
	same("status", psmash_want(region.pa, 7), 7);
	block_reset(&region);
}

static void smash_unaligned(const struct row *r)
{
	rmpupdate_raw(region.pa, large);
	same("status", psmash_want(region.pa + PAGE_SIZE, 1), 1);
	same("head", rmp_read(region.pa).lo, lo_entry(ASID_LAUNCH, 0x40000000, false) | LO_2M);
	block_reset(&region);
}

static void smash_counter(const struct row *r)
{
	struct rmpupdate_arg a = large;

	a.asid = ASID_OTHER;
	rmpupdate_raw(region.pa, a);
	psmash_raw(region.pa);
	check(rmp_count(ASID_OTHER) != 0);
	block_reset(&region);
	same("counter at the end", rmp_count(ASID_OTHER), 0);
}

/* Not SNP: RMPADJUST, RMPQUERY and PVALIDATE are for guests. b: CPUID bit of RMPREAD, which is for the host */
static void undefined(const struct row *r)
{
	u32 eax = cpuid_eax(0x8000001f);

	if (r->b && (eax & BIT(r->b))) {
		row_skip("the processor has the instruction");
		return;
	}
	host_op(r->a, HOST_4K_VA, 0, 0, 0);
	same("vector", host_mbox->vector, 6);
}

#define L	"list YPIoaoDCjNVzn2ZM"
#define APM6	"APM 15.36.6 and 15.36.11"
#define STATES	"FW rmp_entry_get_state"

static const struct row rows[] = {
	T(ST_HV, TO_HV, "hypervisor_to_hypervisor", 0, 0, L),
	T(ST_HV, TO_FIRMWARE, "hypervisor_to_firmware", 0, 0, "MS rmpupdate; " STATES),
	T(ST_HV, TO_RECLAIM, "hypervisor_to_reclaim", 0, 0, L "; " STATES),
	T(ST_HV, TO_PRE_GUEST, "hypervisor_to_pre_guest", 0, 0, "MS rmpupdate; " STATES),
	T(ST_HV, TO_GUEST, "hypervisor_to_guest", 0, 0, "MS rmpupdate; " STATES),
	T(ST_FIRMWARE, TO_HV, "firmware_to_hypervisor", 2, 0, L "; mail 28142723656"),
	T(ST_FIRMWARE, TO_FIRMWARE, "firmware_to_firmware", 2, 0, L),
	T(ST_FIRMWARE, TO_RECLAIM, "firmware_to_reclaim", 2, 0, L),
	T(ST_FIRMWARE, TO_PRE_GUEST, "firmware_to_pre_guest", 2, 0, L),
	T(ST_FIRMWARE, TO_GUEST, "firmware_to_guest", 2, 0, L),
	T(ST_CONTEXT, TO_HV, "context_to_hypervisor", 2, 0, L "; " STATES),
	T(ST_CONTEXT, TO_FIRMWARE, "context_to_firmware", 2, 0, L "; " STATES),
	T(ST_CONTEXT, TO_GUEST, "context_to_guest", 2, 0, L "; " STATES),
	T(ST_RECLAIM, TO_HV, "reclaim_to_hypervisor", 0, 0, L "; " STATES),
	T(ST_RECLAIM, TO_FIRMWARE, "reclaim_to_firmware", 0, 0, L "; " STATES),
	T(ST_RECLAIM, TO_RECLAIM, "reclaim_to_reclaim", 0, 0, L "; " STATES),
	T(ST_RECLAIM, TO_PRE_GUEST, "reclaim_to_pre_guest", 0, 0, L "; " STATES),
	T(ST_RECLAIM, TO_GUEST, "reclaim_to_guest", 0, 0, L "; " STATES),
	T(ST_PRE_GUEST, TO_HV, "pre_guest_to_hypervisor", 2, 0, L "; " STATES),
	T(ST_PRE_GUEST, TO_FIRMWARE, "pre_guest_to_firmware", 2, 0, L),
	T(ST_PRE_GUEST, TO_PRE_GUEST, "pre_guest_to_pre_guest", 2, 0, L),
	T(ST_PRE_GUEST, TO_GUEST, "pre_guest_to_guest", 2, 0, L),
	T(ST_PRE_SWAP, TO_HV, "pre_swap_to_hypervisor", 2, 0, L "; " STATES),
	T(ST_PRE_SWAP, TO_GUEST, "pre_swap_to_guest", 2, 0, L),
	T(ST_INVALID, TO_HV, "guest_invalid_to_hypervisor", 0, 0, L "; " STATES),
	T(ST_INVALID, TO_FIRMWARE, "guest_invalid_to_firmware", 0, 0, L),
	T(ST_INVALID, TO_RECLAIM, "guest_invalid_to_reclaim", 0, 0, L),
	T(ST_INVALID, TO_PRE_GUEST, "guest_invalid_to_pre_guest", 0, 0, L "; " STATES),
	T(ST_INVALID, TO_GUEST, "guest_invalid_unchanged", 0, 0, L),
	T(ST_INVALID, TO_OTHER_GPA, "guest_invalid_to_other_gpa", 0, 0, L),
	T(ST_INVALID, TO_OTHER_ASID, "guest_invalid_to_other_asid", 0, 0, L),
	T(ST_VALID, TO_HV, "guest_valid_to_hypervisor", 0, 0, APM6),
	T(ST_VALID, TO_FIRMWARE, "guest_valid_to_firmware", 0, 0, APM6),
	T(ST_VALID, TO_RECLAIM, "guest_valid_to_reclaim", 0, 0, APM6),
	T(ST_VALID, TO_PRE_GUEST, "guest_valid_to_pre_swap", 0, 1, APM6 "; FW (states of SWAP_OUT)"),
	T(ST_VALID, TO_GUEST, "guest_valid_unchanged", 0, 1, APM6),
	T(ST_VALID, TO_OTHER_GPA, "guest_valid_to_other_gpa", 0, 0, APM6),
	T(ST_VALID, TO_OTHER_ASID, "guest_valid_to_other_asid", 0, 0, APM6),
	T(ST_IOMMU, TO_HV, "firmware_iommu_to_hypervisor", 2, 0, L "; FW set_iommu_table_state"),
	T(ST_RMP, TO_HV, "rmp_to_hypervisor", 2, 0, L "; FW configure_rmp"),
	T(ST_RMP, TO_GUEST, "rmp_to_guest", 2, 0, L "; FW configure_rmp"),
	T(ST_FIXED, TO_HV, "hv_fixed_to_hypervisor", 2, 0, L "; mail 28142723656"),

	{ "rmpupdate.unassigned_with_asid", L, bad_input, 0, ASID_LAUNCH, 0 },
	{ "rmpupdate.unassigned_immutable", L, bad_input, 4, 0, 0 },
	{ "rmpupdate.large_unaligned", "MS rmpupdate", bad_input, 3, ASID_LAUNCH, 0x1000 },
	{ "rmpupdate.large_unaligned_high", "MS rmpupdate", bad_input, 3, ASID_LAUNCH, 0x100000 },
	{ "rmpupdate.first_page_not_covered", "APM 15.36.4; " L, not_covered, 0 },
	{ "rmpupdate.far_page_not_covered", "APM 15.36.4; " L, not_covered, 1 },
	{ "rmpupdate.vga_hole", "FW snp_mcmd_init_common", fixed, 0xa0000 },
	{ "rmpupdate.vga_hole_end", "FW snp_mcmd_init_common", fixed, 0xbf000 },
	{ "rmpupdate.mmio", "FW snp_mcmd_init_common", fixed, HPET },
	{ "rmpupdate.bios", "FW snp_mcmd_init_common; mail 28142723656", e820_reserved },
	{ "rmpupdate.unassigned_with_gpa", L, gpa_without_assigned },

	{ "rmpupdate.large", "FW snp_mcmd_page_unsmash", large_assign },
	{ "rmpupdate.large_to_hypervisor", L, large_unassign },
	{ "rmpupdate.large_rewritten", L, large_rewrite },
	{ "rmpupdate.large_immutable", L, large_immutable },
	{ "rmpupdate.small_at_head_of_large", L, small_in_large, 0 },
	{ "rmpupdate.small_in_large", "mail 39173950816", small_in_large, 100 },
	{ "rmpupdate.small_at_end_of_large", "mail 39173950816", small_in_large, 511 },
	{ "rmpupdate.small_in_large_to_hypervisor", "mail 39173950816", small_in_large, 100, 1 },
	{ "rmpupdate.large_over_first", "MS rmpupdate", large_over_small, 0 },
	{ "rmpupdate.large_over_middle", "MS rmpupdate", large_over_small, 300 },
	{ "rmpupdate.large_over_last", "MS rmpupdate", large_over_small, 511 },
	{ "rmpupdate.large_after_small", "MS rmpupdate", large_after_small },

	{ "rmp.subcount_head_only", "amdsev#245; FW set_rmp_sub_page_count", subpages, 0, 1, 0 },
	{ "rmp.subcount_one", "amdsev#245; FW set_rmp_sub_page_count", subpages, 9, 1, 1 },
	{ "rmp.subcount_last", "amdsev#245; FW set_rmp_sub_page_count", subpages, 511, 1, 1 },
	{ "rmp.subcount_all", "amdsev#245; FW set_rmp_sub_page_count", subpages, 0, 512, 511 },
	{ "rmp.subcount_dump", "amdsev#245", subpages_dump },
	{ "rmp.subcount_large", "FW snp_mcmd_page_unsmash", subpages_large },
	{ "rmp.lock_with_immutable", "amdsev#245; FW sev_rmp.h", lock_bit, 1 },
	{ "rmp.no_lock_without_immutable", "FW sev_rmp.h", lock_bit, 0 },
	{ "rmp.asid_counter", "FW check_rmp_for_asid", counter, 0 },
	{ "rmp.asid_counter_large", "FW check_rmp_for_asid", counter, 1 },
	{ "rmp.asid_counter_moves", "FW check_rmp_for_asid", counter_moves },
	{ "rmp.permissions_of_new_page", "APM 15.36.7", permissions },
	{ "rmp.permissions_taken_away", "APM 15.36.7", permissions_again },
	{ "rmp.contents_stay", "MIT 1721.1/164204", contents_stay },
	{ "rmp.vmsa_kept", APM6, vmsa_bit, 1 },
	{ "rmp.vmsa_cleared", APM6, vmsa_bit, 0 },
	{ "rmp.validated_in_parts", APM6, size_change },

	{ "psmash.large", "MS psmash; APM 15.36.11", smash, 0 },
	{ "psmash.large_validated", "MS psmash; APM 15.36.11", smash, 1 },
	{ "psmash.small", "MS psmash", smash_4k },
	{ "psmash.twice", "MS psmash", smash_twice },
	{ "psmash.unaligned", "MS psmash", smash_unaligned },
	{ "psmash.not_covered", "MS psmash; APM 15.36.4", not_covered, 0, 1 },
	{ "psmash.asid_counter", "APM 15.36.11; FW check_rmp_for_asid", smash_counter },

	{ "host.pvalidate_undefined", "assumed, in no public text", undefined, OP_PVALIDATE },
	{ "host.rmpadjust_undefined", "assumed, in no public text", undefined, OP_RMPADJUST },
	{ "host.rmpquery_undefined", "assumed, in no public text", undefined, OP_RMPQUERY },
	{ "host.rmpread_undefined", "assumed, in no public text", undefined, OP_RMPREAD, 21 },
};

const struct group group_rmp = { "rmp", rows, ARRAY_SIZE(rows), launch_init, launch_exit };
