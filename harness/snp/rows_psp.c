// SPDX-License-Identifier: GPL-2.0
/*
 * SNP commands of the security processor.
 */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/smp.h>
#include <asm/cpuid/api.h>
#include <asm/special_insns.h>
#include "snp_rows.h"

/* ---- the state of a page operand ---- */

enum operand {
	GCTX_CREATE, START_GCTX, UPDATE_GCTX, FINISH_GCTX, ACTIVATE_GCTX, DECOMMISSION_GCTX, DBG_GCTX, REQUEST_GCTX,
	UPDATE_PAGE, RECLAIM_PAGE, DBG_SRC, DBG_DST, STATUS_BUF, FEATURE_BUF, RESPONSE_BUF,
};

/* A guest that runs, made when first needed. */
static struct sguest running;

static bool need_running(void)
{
	return running.gctx ||
	       (sguest_start(&running, POLICY) && sguest_activate(&running, ASID_GUEST) && sguest_finish(&running));
}

static u32 command(enum operand op, u64 pa, u32 want)
{
	switch (op) {
	case GCTX_CREATE: {
		struct sev_data_snp_addr c = { .address = pa };

		return psp_want(SEV_CMD_SNP_GCTX_CREATE, &c, sizeof(c), want);
	}
	case START_GCTX: {
		struct sev_data_snp_launch_start c = { .gctx_paddr = pa, .policy = POLICY };

		return psp_want(SEV_CMD_SNP_LAUNCH_START, &c, sizeof(c), want);
	}
	case UPDATE_GCTX:
	case UPDATE_PAGE: {
		struct sev_data_snp_launch_update c = {
			.gctx_paddr = op == UPDATE_GCTX ? pa : launch.gctx,
			.address = op == UPDATE_GCTX ? region.pa : pa,
			.page_type = SNP_PAGE_TYPE_NORMAL,
		};

		return psp_want(SEV_CMD_SNP_LAUNCH_UPDATE, &c, sizeof(c), want);
	}
	case FINISH_GCTX: {
		struct sev_data_snp_launch_finish c = { .gctx_paddr = pa };

		return psp_want(SEV_CMD_SNP_LAUNCH_FINISH, &c, sizeof(c), want);
	}
	case ACTIVATE_GCTX: {
		struct sev_data_snp_activate c = { .gctx_paddr = pa, .asid = ASID_OTHER };

		return psp_want(SEV_CMD_SNP_ACTIVATE, &c, sizeof(c), want);
	}
	case DECOMMISSION_GCTX: {
		struct sev_data_snp_addr c = { .address = pa };

		return psp_want(SEV_CMD_SNP_DECOMMISSION, &c, sizeof(c), want);
	}
	case DBG_GCTX:
	case DBG_SRC:
	case DBG_DST: {
		struct sev_data_snp_dbg c = { .gctx_paddr = launch.gctx };
		u64 src = op == DBG_SRC ? 0 : state_page(ST_VALID), dst = op == DBG_DST ? 0 : state_page(ST_FIRMWARE);
		u32 status;

		c.src_addr = src ?: pa;
		c.dst_addr = dst ?: pa;
		if (op == DBG_GCTX)
			c.gctx_paddr = pa;
		status = psp_want(SEV_CMD_SNP_DBG_DECRYPT, &c, sizeof(c), want);
		page_free(src);
		page_free(dst);
		return status;
	}
	case RECLAIM_PAGE: {
		struct sev_data_snp_page_reclaim c = { .paddr = pa };

		return psp_want(SEV_CMD_SNP_PAGE_RECLAIM, &c, sizeof(c), want);
	}
	case STATUS_BUF: {
		struct sev_data_snp_addr c = { .address = pa };

		return psp_want(SEV_CMD_SNP_PLATFORM_STATUS, &c, sizeof(c), want);
	}
	case FEATURE_BUF: {
		struct sev_data_snp_feature_info c = { .length = 16, .feature_info_paddr = pa };

		return psp_want(SEV_CMD_SNP_FEATURE_INFO, &c, sizeof(c), want);
	}
	case REQUEST_GCTX:
	case RESPONSE_BUF: {
		u64 req = page_alloc(), res = op == REQUEST_GCTX ? state_page(ST_FIRMWARE) : 0;
		struct sev_data_snp_guest_request c = { .req_paddr = req };
		u32 status;

		c.gctx_paddr = op == REQUEST_GCTX ? pa : running.gctx;
		c.res_paddr = res ?: pa;
		status = psp_want(SEV_CMD_SNP_GUEST_REQUEST, &c, sizeof(c), want);
		page_free(req);
		page_free(res);
		return status;
	}
	}
	return 0;
}

/* a: operand, b: state of the page, c: status, d: state afterwards */
static void page_state(const struct row *r)
{
	u64 pa = state_page(r->b), before, want;

	if (r->a == RESPONSE_BUF && !need_running()) {
		state_free(pa, r->b);
		return;
	}
	if (!pa) {
		check(pa);
		return;
	}
	before = rmp_lo(pa);
	same("status", command(r->a, pa, r->c), r->c);
	switch (r->d) {
	case ST_RECLAIM: want = LO_ASSIGNED; break;
	case ST_CONTEXT: want = LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK | LO_VMSA; break;
	case ST_FIRMWARE: want = LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK; break;
	case ST_INVALID: want = lo_entry(ASID_LAUNCH, ST_GPA, false); break;
	case ST_VALID: want = lo_entry(ASID_LAUNCH, ST_GPA, false) | LO_VALIDATED; break;
	default: want = before; break;
	}
	same("entry", rmp_lo(pa), want);
	state_free(pa, r->b);
}

#define SAME	ST_MAX

/* ---- PAGE_RECLAIM besides states ---- */

/* a: bits of the address, b: status; 0 also turns every entry of the region mutable */
static void reclaim_large(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .immutable = 1 };
	struct sev_data_snp_page_reclaim c = { .paddr = region.pa | r->a };

	rmpupdate_raw(region.pa, a);
	same("status", psp_want(SEV_CMD_SNP_PAGE_RECLAIM, &c, sizeof(c), r->b), r->b);
	same("head", rmp_read(region.pa).lo,
	     LO_ASSIGNED | LO_2M | (r->b ? LO_IMMUTABLE | LO_LOCK : 0));
	block_reset(&region);
}

static void reclaim_addr(const struct row *r)
{
	struct sev_data_snp_page_reclaim c = { .paddr = r->a };

	same("status", psp_want(SEV_CMD_SNP_PAGE_RECLAIM, &c, sizeof(c), r->b), r->b);
}

/* 2M asked, 4K entry */
static void reclaim_small_as_large(const struct row *r)
{
	struct sev_data_snp_page_reclaim c = { .paddr = region.pa | 1 };

	assign(region.pa, 0, 0, true);
	same("status", psp_want(SEV_CMD_SNP_PAGE_RECLAIM, &c, sizeof(c), 0x19), 0x19);
	same("entry", rmp_lo(region.pa), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK);
	block_reset(&region);
}

/* ---- LAUNCH_START ---- */

/* a: policy, b: status, c: reserved bits of the command */
static void start(const struct row *r)
{
	struct sev_data_snp_launch_start c = { .policy = r->a, .rsvd = r->c };
	struct sguest g;
	u32 want = r->b;

	if (!(r->a & POLICY_SMT) && want == 7 && (r->a & POLICY_RSVD1) && !(cpuid_ebx(0x8000001e) >> 8 & 0xff))
		want = 0;
	sguest_create(&g);
	c.gctx_paddr = g.gctx;
	same("status", psp_want(SEV_CMD_SNP_LAUNCH_START, &c, sizeof(c), want), want);
	/* Refused: nothing has happened, and a good one works. */
	if (want) {
		c.policy = POLICY;
		c.rsvd = 0;
		psp_ok(SEV_CMD_SNP_LAUNCH_START, &c, sizeof(c));
	}
	sguest_destroy(&g);
}

static void start_twice(const struct row *r)
{
	same("status", command(START_GCTX, launch.gctx, 2), 2);
}

static void start_running(const struct row *r)
{
	if (need_running())
		same("status", command(START_GCTX, running.gctx, 2), 2);
}

/* ---- ACTIVATE ---- */

/* a: asid, b: status */
static void activate(const struct row *r)
{
	struct sev_data_snp_activate c = { .asid = r->a };
	struct sguest g;

	sguest_start(&g, POLICY);
	c.gctx_paddr = g.gctx;
	same("status", psp_want(SEV_CMD_SNP_ACTIVATE, &c, sizeof(c), r->b), r->b);
	sguest_destroy(&g);
}

static void activate_not_started(const struct row *r)
{
	struct sguest g;

	sguest_create(&g);
	same("status", command(ACTIVATE_GCTX, g.gctx, 2), 2);
	sguest_destroy(&g);
}

/* a: asid, b: status */
static void activate_again(const struct row *r)
{
	struct sev_data_snp_activate c = { .gctx_paddr = launch.gctx, .asid = r->a };

	same("status", psp_want(SEV_CMD_SNP_ACTIVATE, &c, sizeof(c), r->b), r->b);
}

static void activate_in_use(const struct row *r)
{
	if (need_running())
		activate(r);
}

static void activate_with_pages(const struct row *r)
{
	struct sguest g;

	assign(region.pa, ASID_OTHER, ST_GPA, false);
	sguest_start(&g, POLICY);
	same("status", command(ACTIVATE_GCTX, g.gctx, 3), 3);
	unassign(region.pa);
	same("status without the page", command(ACTIVATE_GCTX, g.gctx, 0), 0);
	sguest_destroy(&g);
}

/* ---- ASIDs and DF_FLUSH ---- */

static void make_dirty(u32 asid)
{
	struct sguest g;

	sguest_start(&g, POLICY);
	sguest_activate(&g, asid);
	sguest_finish(&g);
	g.in_use = false;
	sguest_destroy(&g);
}

static void asid_dirty(const struct row *r)
{
	struct sguest g;

	make_dirty(ASID_OTHER);
	sguest_start(&g, POLICY);
	same("status", command(ACTIVATE_GCTX, g.gctx, 0xf), 0xf);
	df_flush();
	same("status after DF_FLUSH", command(ACTIVATE_GCTX, g.gctx, 0), 0);
	sguest_destroy(&g);
}

/* An ASID that no guest has used falls back to clean. */
static void asid_stays_clean(const struct row *r)
{
	struct sguest g;

	sguest_start(&g, POLICY);
	sguest_activate(&g, ASID_OTHER);
	sguest_destroy(&g);
	sguest_start(&g, POLICY);
	same("status", command(ACTIVATE_GCTX, g.gctx, 0), 0);
	sguest_destroy(&g);
}

static void wbinvd_one(void *unused)
{
	wbinvd();
}

/* a: command, b: number of processors that flush: 0, 1, all (2) */
static void df_flush_markers(const struct row *r)
{
	u32 want = r->b == 2 ? 0 : 0xe;

	if (r->b == 1 && num_online_cpus() == 1) {
		row_skip("one processor");
		return;
	}
	make_dirty(ASID_OTHER);
	if (r->b == 1)
		smp_call_function_single(0, wbinvd_one, NULL, 1);
	else if (r->b == 2)
		wbinvd_all();
	if (want)
		announce("psp:%s", psp_name(r->a));
	same("status", psp_raw(r->a, 0), want);
	df_flush();
}

static void df_flush_idle(const struct row *r)
{
	/* All markers stay set while no ASID that was in use is given up. */
	df_flush();
	same("status", psp_raw(SEV_CMD_SNP_DF_FLUSH, 0), 0);
}

/* ---- LAUNCH_UPDATE ---- */

static bool pre_guest(u64 pa)
{
	memset(page_va(pa), 0x3c, PAGE_SIZE);
	return assign(pa, ASID_LAUNCH, ST_GPA, true);
}

/* a: type, b: status, c: imi, d: reserved bits */
static void update_type(const struct row *r)
{
	struct sev_data_snp_launch_update c = {
		.gctx_paddr = launch.gctx, .address = region.pa, .page_type = r->a, .imi_page = r->c, .rsvd = r->d,
	};

	pre_guest(region.pa);
	if (r->a == SNP_PAGE_TYPE_CPUID)
		memset(page_va(spare.pa), 0, PAGE_SIZE);
	same("status", psp_want(SEV_CMD_SNP_LAUNCH_UPDATE, &c, sizeof(c), r->b), r->b);
	same("entry", rmp_lo(region.pa), r->b ? lo_entry(ASID_LAUNCH, ST_GPA, true) :
	     lo_entry(ASID_LAUNCH, ST_GPA, false) | LO_VALIDATED | (r->a == SNP_PAGE_TYPE_VMSA ? LO_VMSA : 0));
	/* Refused: the page is as it was. */
	if (r->b)
		check(!memchr_inv(page_va(region.pa), 0x3c, PAGE_SIZE));
	else
		check(memchr_inv(page_va(region.pa), 0x3c, PAGE_SIZE));
	page_reset(region.pa);
}

/* a: type, b: status */
static void update_large(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .immutable = 1, .asid = ASID_LAUNCH, .gpa = 0x40000000 };
	struct sev_data_snp_launch_update c = {
		.gctx_paddr = launch.gctx, .address = region.pa, .page_type = r->a, .page_size = 1,
	};

	rmpupdate_raw(region.pa, a);
	same("status", psp_want(SEV_CMD_SNP_LAUNCH_UPDATE, &c, sizeof(c), r->b), r->b);
	same("head", rmp_read(region.pa).lo, lo_entry(ASID_LAUNCH, 0x40000000, r->b) | LO_2M |
	     (r->b ? 0 : LO_VALIDATED));
	block_reset(&region);
}

/* a: size asked, b: size of the entry */
static void update_size(const struct row *r)
{
	struct rmpupdate_arg a = {
		.assigned = 1, .size = r->b, .immutable = 1, .asid = ASID_LAUNCH, .gpa = 0x40000000
	};
	struct sev_data_snp_launch_update c = {
		.gctx_paddr = launch.gctx, .address = region.pa, .page_type = SNP_PAGE_TYPE_NORMAL, .page_size = r->a,
	};

	rmpupdate_raw(region.pa, a);
	same("status", psp_want(SEV_CMD_SNP_LAUNCH_UPDATE, &c, sizeof(c), 0x19), 0x19);
	block_reset(&region);
}

static void update_misaligned(const struct row *r)
{
	struct sev_data_snp_launch_update c = {
		.gctx_paddr = launch.gctx, .address = region.pa + 0x10, .page_type = SNP_PAGE_TYPE_NORMAL,
	};

	pre_guest(region.pa);
	same("status", psp_want(SEV_CMD_SNP_LAUNCH_UPDATE, &c, sizeof(c), 0x16), 0x16);
	page_reset(region.pa);
}

static void update_gctx_misaligned(const struct row *r)
{
	struct sev_data_snp_launch_update c = {
		.gctx_paddr = launch.gctx + 8, .address = region.pa, .page_type = SNP_PAGE_TYPE_NORMAL,
	};

	pre_guest(region.pa);
	same("status", psp_want(SEV_CMD_SNP_LAUNCH_UPDATE, &c, sizeof(c), 0x16), 0x16);
	page_reset(region.pa);
}

static void update_owner(const struct row *r)
{
	assign(region.pa, ASID_OTHER, ST_GPA, true);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 0x1c);
	same("entry", rmp_lo(region.pa), lo_entry(ASID_OTHER, ST_GPA, true));
	page_reset(region.pa);
}

static void update_inactive(const struct row *r)
{
	struct sguest g;

	sguest_start(&g, POLICY);
	assign(region.pa, ASID_OTHER, ST_GPA, true);
	launch_update(&g, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 8);
	page_reset(region.pa);
	sguest_destroy(&g);
}

/* a: 0 not started, 1 running */
static void update_guest_state(const struct row *r)
{
	struct sguest g;

	if (r->a) {
		if (!need_running())
			return;
		assign(region.pa, ASID_GUEST, ST_GPA, true);
		launch_update(&running, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 2);
		page_reset(region.pa);
		return;
	}
	sguest_create(&g);
	assign(region.pa, ASID_OTHER, ST_GPA, true);
	launch_update(&g, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 2);
	page_reset(region.pa);
	sguest_destroy(&g);
}

static void update_permissions(const struct row *r)
{
	pre_guest(region.pa);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_NORMAL, false, r->a, 0);
	same("VMPL1 to 3", rmp_read(region.pa).hi >> 8 & 0xffffff, r->a);
	same("VMPL0", rmp_read(region.pa).hi & 0xf, 0xf);
	page_reset(region.pa);
}

/* What the guest finds in the page. a: type, b: byte before, c: byte expected */
static void update_contents(const struct row *r)
{
	u8 *p = page_va(region.pa), *seen = page_va(spare.pa), *raw = page_va(spare.pa + PAGE_SIZE);

	memset(p, r->b, PAGE_SIZE);
	assign(region.pa, ASID_LAUNCH, ST_GPA, true);
	launch_update(&launch, region.pa, r->a, false, 0, 0);
	guest_peek(&launch, region.pa, seen);
	/* The first bytes of a secrets page have the firmware's secrets. */
	check(!memchr_inv(seen + 0x800, r->c, 0x800));
	if (r->a == SNP_PAGE_TYPE_ZERO || r->a == SNP_PAGE_TYPE_NORMAL || r->a == SNP_PAGE_TYPE_UNMEASURED)
		check(!memchr_inv(seen, r->c, 0x800));
	memcpy(raw, p, PAGE_SIZE);
	check(memchr_inv(raw, r->c, PAGE_SIZE));
	check(!memcmp(raw, p, PAGE_SIZE));
	page_reset(region.pa);
}

static void update_vmsa_contents(const struct row *r)
{
	u8 *p = page_va(region.pa), *seen = page_va(spare.pa);

	memset(p, 0x77, PAGE_SIZE);
	assign(region.pa, ASID_LAUNCH, ST_GPA, true);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_VMSA, false, 0, 0);
	guest_peek(&launch, region.pa, seen);
	same("offset 0x380", *(u64 *)(seen + 0x380), 0);
	same("offset 0x388", *(u64 *)(seen + 0x388), ~0ULL);
	check(!memchr_inv(seen, 0x77, 0x380));
	check(!memchr_inv(seen + 0x390, 0x77, PAGE_SIZE - 0x390));
	page_reset(region.pa);
}

/* ---- CPUID page ---- */

struct cpuid_fn {
	u32 eax_in, ecx_in;
	u64 xcr0, xss;
	u32 eax, ebx, ecx, edx;
	u64 reserved;
} __packed;

struct cpuid_page {
	u32 count, reserved1;
	u64 reserved2;
	struct cpuid_fn fn[64];
} __packed;

enum cpuid_case {
	CPUID_EMPTY, CPUID_GOOD, CPUID_COUNT_65, CPUID_RESERVED, CPUID_UNKNOWN_LEAF_ZERO, CPUID_UNKNOWN_LEAF,
	CPUID_EXTRA_BIT, CPUID_ENTRY_RESERVED, CPUID_COUNT_64,
};

/* a: case, b: status, c: the page comes back: 0 untouched, 1 corrected */
static void cpuid_table(const struct row *r)
{
	struct cpuid_page *t = page_va(region.pa), *copy = page_va(spare.pa);
	u32 eax, ebx, ecx, edx;

	memset(t, 0, PAGE_SIZE);
	cpuid(0x80000000, &eax, &ebx, &ecx, &edx);
	switch (r->a) {
	case CPUID_EMPTY:
		break;
	case CPUID_GOOD:
	case CPUID_COUNT_65:
	case CPUID_RESERVED:
	case CPUID_ENTRY_RESERVED:
		/* The vendor: a leaf that is compared exactly. */
		t->count = 1;
		t->fn[0] = (struct cpuid_fn){ .eax_in = 0x80000000, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx };
		if (r->a == CPUID_COUNT_65)
			t->count = 65;
		if (r->a == CPUID_RESERVED)
			t->reserved1 = 1;
		if (r->a == CPUID_ENTRY_RESERVED)
			t->fn[0].reserved = 1;
		break;
	case CPUID_COUNT_64:
		t->count = 64;
		break;
	case CPUID_UNKNOWN_LEAF_ZERO:
	case CPUID_UNKNOWN_LEAF:
		t->count = 1;
		t->fn[0].eax_in = 0xff00;
		t->fn[0].ebx = r->a == CPUID_UNKNOWN_LEAF ? 0x12345 : 0;
		break;
	case CPUID_EXTRA_BIT:
		cpuid(1, &eax, &ebx, &ecx, &edx);
		t->count = 1;
		/* ECX bit 5 is VMX: no processor of AMD's has it. */
		t->fn[0] = (struct cpuid_fn){ .eax_in = 1, .eax = eax, .ebx = ebx, .ecx = ecx | BIT(5), .edx = edx };
		break;
	}
	if (r->a == CPUID_COUNT_64)
		for (int i = 0; i < 64; i++)
			t->fn[i].eax_in = 0xff00 + i;
	memcpy(copy, t, PAGE_SIZE);
	assign(region.pa, ASID_LAUNCH, ST_GPA, true);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_CPUID, false, 0, r->b);
	if (!r->b) {
		same("entry", rmp_lo(region.pa), lo_entry(ASID_LAUNCH, ST_GPA, false) | LO_VALIDATED);
	} else {
		same("entry", rmp_lo(region.pa), lo_entry(ASID_LAUNCH, ST_GPA, true));
		if (r->c) {
			/* In plain text, and without what was wrong. */
			same("count", t->count, copy->count);
			same("leaf", t->fn[0].eax_in, copy->fn[0].eax_in);
			if (r->a == CPUID_EXTRA_BIT)
				same("VMX", t->fn[0].ecx & BIT(5), 0);
			else
				same("EBX", t->fn[0].ebx, 0);
			/* What was corrected is taken. */
			launch_update(&launch, region.pa, SNP_PAGE_TYPE_CPUID, false, 0, 0);
		} else {
			check(!memcmp(t, copy, PAGE_SIZE));
		}
	}
	page_reset(region.pa);
}

/* ---- LAUNCH_FINISH, DECOMMISSION ---- */

static void finish_not_started(const struct row *r)
{
	struct sguest g;

	sguest_create(&g);
	same("status", command(FINISH_GCTX, g.gctx, 2), 2);
	sguest_destroy(&g);
}

static void finish_inactive(const struct row *r)
{
	struct sguest g;

	sguest_start(&g, POLICY);
	same("status", command(FINISH_GCTX, g.gctx, 8), 8);
	sguest_destroy(&g);
}

static void finish_twice(const struct row *r)
{
	if (need_running())
		same("status", command(FINISH_GCTX, running.gctx, 2), 2);
}

static void finish_id_block(const struct row *r)
{
	u64 block = page_alloc(), auth = page_alloc();
	struct sev_data_snp_launch_finish c = { .id_block_paddr = block, .id_auth_paddr = auth, .id_block_en = 1 };
	struct sguest g;

	/* Nothing has been launched, and that measures zero. */
	memset(page_va(block), 1, 48);
	sguest_start(&g, POLICY);
	sguest_activate(&g, ASID_OTHER);
	c.gctx_paddr = g.gctx;
	same("status", psp_want(SEV_CMD_SNP_LAUNCH_FINISH, &c, sizeof(c), 0xb), 0xb);
	page_free(block);
	page_free(auth);
	sguest_destroy(&g);
}

/*
 * A block that fits, of a guest of which nothing has been launched. a: 1 but for the policy, 2 but for the version;
 * b: status, c: the signature is what is refused
 */
static void finish_id_block_fits(const struct row *r)
{
	u64 block = page_alloc(), auth = page_alloc();
	struct sev_data_snp_launch_finish c = { .id_block_paddr = block, .id_auth_paddr = auth, .id_block_en = 1 };
	struct sguest g;
	u32 status;

	*(u32 *)(page_va(block) + 0x50) = r->a == 2 ? 2 : 1;
	*(u64 *)(page_va(block) + 0x58) = r->a == 1 ? POLICY ^ POLICY_DEBUG : POLICY;
	sguest_start(&g, POLICY);
	sguest_activate(&g, ASID_OTHER);
	c.gctx_paddr = g.gctx;
	if (r->c)
		status = psp_refuses(SEV_CMD_SNP_LAUNCH_FINISH, &c, sizeof(c), "signatures of ID blocks are not emulated");
	else
		status = psp_want(SEV_CMD_SNP_LAUNCH_FINISH, &c, sizeof(c), r->b);
	same("status", status, r->b);
	/* Not finished: without a block it can be. */
	check(sguest_finish(&g));
	page_free(block);
	page_free(auth);
	sguest_destroy(&g);
}

static void finish_author(const struct row *r)
{
	struct sev_data_snp_launch_finish c = { .auth_key_en = 1 };
	struct sguest g;

	sguest_start(&g, POLICY);
	sguest_activate(&g, ASID_OTHER);
	c.gctx_paddr = g.gctx;
	same("status", psp_want(SEV_CMD_SNP_LAUNCH_FINISH, &c, sizeof(c), 0x16), 0x16);
	sguest_destroy(&g);
}

/* a: 0 right after GCTX_CREATE, 1 LAUNCH, 2 LAUNCH and active, 3 RUNNING */
static void decommission(const struct row *r)
{
	struct sguest g;

	if (r->a == 0)
		sguest_create(&g);
	else
		sguest_start(&g, POLICY);
	if (r->a >= 2)
		sguest_activate(&g, ASID_OTHER);
	if (r->a == 3)
		sguest_finish(&g);
	same("status", command(DECOMMISSION_GCTX, g.gctx, 0), 0);
	same("context page", rmp_lo(g.gctx), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK);
	same("status of another one", command(DECOMMISSION_GCTX, g.gctx, 0x10), 0x10);
	page_free(g.gctx);
	if (r->a == 3)
		df_flush();
}

static void decommission_with_pages(const struct row *r)
{
	struct sguest g;

	sguest_start(&g, POLICY);
	sguest_activate(&g, ASID_OTHER);
	assign(region.pa, ASID_OTHER, ST_GPA, true);
	launch_update(&g, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 0);
	sguest_destroy(&g);
	same("entry", rmp_lo(region.pa), lo_entry(ASID_OTHER, ST_GPA, false) | LO_VALIDATED);
	page_reset(region.pa);
}

static void gctx_zeroed(const struct row *r)
{
	u64 pa = page_alloc();
	struct sguest g = {};

	/* Whatever the page had. */
	memset(page_va(pa), 0x11, PAGE_SIZE);
	state_make(pa, ST_CONTEXT);
	g.gctx = pa;
	same("status of LAUNCH_START", command(START_GCTX, pa, 0), 0);
	sguest_destroy(&g);
}

static void gctx_size(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .immutable = 1 };

	rmpupdate_raw(region.pa, a);
	same("status", command(GCTX_CREATE, region.pa, 0x19), 0x19);
	block_reset(&region);
}

static void gctx_misaligned(const struct row *r)
{
	u64 pa = state_page(ST_FIRMWARE);

	same("status", command(GCTX_CREATE, pa + 0x40, 0x16), 0x16);
	page_free(pa);
}

/* ---- status, features ---- */

static void platform_status(const struct row *r)
{
	u64 pa = state_page(ST_FIRMWARE);
	u8 *p = page_va(pa);

	need_running();
	same("status", command(STATUS_BUF, pa, 0), 0);
	check(p[0] > 1 || (p[0] == 1 && p[1] >= 51));
	same("state", p[2], 1);
	same("RMP initialised", p[3] & 1, 1);
	/* The one whose launch goes on and the one that runs. */
	same("guests", *(u32 *)(p + 12), 2);
	page_free(pa);
}

static void status_crossing(const struct row *r)
{
	u64 pa = state_page(ST_FIRMWARE);

	same("status", command(STATUS_BUF, pa + PAGE_SIZE - 16, 0x16), 0x16);
	page_free(pa);
}

/* a: length, b: ecx, c: offset, d: status */
static void feature_info(const struct row *r)
{
	u64 pa = state_page(ST_FIRMWARE);
	struct sev_data_snp_feature_info c = { .length = r->a, .ecx_in = r->b, .feature_info_paddr = pa + r->c };
	u32 *p = page_va(pa);

	same("status", psp_want(SEV_CMD_SNP_FEATURE_INFO, &c, sizeof(c), r->d), r->d);
	if (!r->d && !r->b)
		same("highest leaf", p[0], 1);
	page_free(pa);
}

/* ---- DBG_DECRYPT ---- */

static void dbg_owner(const struct row *r)
{
	u64 dst = state_page(ST_FIRMWARE);
	struct sev_data_snp_dbg c = { .gctx_paddr = launch.gctx, .src_addr = region.pa, .dst_addr = dst };

	assign(region.pa, ASID_OTHER, ST_GPA, false);
	same("status", psp_want(SEV_CMD_SNP_DBG_DECRYPT, &c, sizeof(c), 0x1c), 0x1c);
	page_free(dst);
	page_reset(region.pa);
}

static void dbg_policy(const struct row *r)
{
	u64 dst = state_page(ST_FIRMWARE);
	struct sev_data_snp_dbg c = { .src_addr = region.pa, .dst_addr = dst };
	struct sguest g;

	sguest_start(&g, POLICY & ~POLICY_DEBUG);
	sguest_activate(&g, ASID_OTHER);
	c.gctx_paddr = g.gctx;
	assign(region.pa, ASID_OTHER, ST_GPA, true);
	launch_update(&g, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 0);
	same("status", psp_want(SEV_CMD_SNP_DBG_DECRYPT, &c, sizeof(c), 7), 7);
	page_free(dst);
	page_reset(region.pa);
	sguest_destroy(&g);
}

/* A 4K page inside a 2M entry. */
static void dbg_large(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .immutable = 1, .asid = ASID_LAUNCH, .gpa = 0x40000000 };
	u8 *p = page_va(region.pa), *seen = page_va(spare.pa);

	memset(p, 0x21, PAGE_SIZE);
	memset(p + 17 * PAGE_SIZE, 0x42, PAGE_SIZE);
	rmpupdate_raw(region.pa, a);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_UNMEASURED, true, 0, 0);
	guest_peek(&launch, region.pa + 17 * PAGE_SIZE, seen);
	check(!memchr_inv(seen, 0x42, PAGE_SIZE));
	block_reset(&region);
}

/* ---- GUEST_REQUEST ---- */

static void request_not_running(const struct row *r)
{
	same("status", command(REQUEST_GCTX, launch.gctx, 2), 2);
}

static void request_header(const struct row *r)
{
	if (need_running())
		same("status", command(REQUEST_GCTX, running.gctx, 0x16), 0x16);
}

/*
 * A request with a correct header, as Linux' sev-guest makes it: algorithm and versions 1, key 0.
 * a: sequence number, b: status
 */
static void request_message(const struct row *r)
{
	u64 req = page_alloc(), res = state_page(ST_FIRMWARE);
	struct sev_data_snp_guest_request c = { .req_paddr = req, .res_paddr = res };
	u8 *hdr = page_va(req);
	u32 status;

	if (need_running()) {
		*(u64 *)(hdr + 0x20) = r->a;
		hdr[0x30] = 1;
		hdr[0x31] = 1;
		hdr[0x32] = 0x60;
		hdr[0x34] = 5;
		hdr[0x35] = 1;
		hdr[0x36] = 0x60;
		c.gctx_paddr = running.gctx;
		if (r->b == 0x16)
			status = psp_refuses(SEV_CMD_SNP_GUEST_REQUEST, &c, sizeof(c),
					     "the cipher of guest messages is not emulated");
		else
			status = psp_want(SEV_CMD_SNP_GUEST_REQUEST, &c, sizeof(c), r->b);
		same("status", status, r->b);
		check(!memchr_inv(page_va(res), 0, PAGE_SIZE));
	}
	page_free(req);
	page_free(res);
}

/* ---- the mailbox ---- */

/* a: command, b: status */
static void bare_command(const struct row *r)
{
	announce("psp:%s", psp_name(r->a));
	same("status", psp_raw(r->a, region.pa), r->b);
}

static void shutdown_sev_init(const struct row *r)
{
	struct sev_data_snp_shutdown_ex c = { .len = sizeof(c) };

	same("status", psp_want(SEV_CMD_SNP_SHUTDOWN_EX, &c, sizeof(c), 1), 1);
}

static void snp_init_again(const struct row *r)
{
	struct sev_data_snp_init_ex c = { .init_rmp = 1 };

	same("status", psp_want(SEV_CMD_SNP_INIT_EX, &c, sizeof(c), 1), 1);
}

static void sev_init_again(const struct row *r)
{
	struct sev_data_init c = {};

	same("status", psp_want(SEV_CMD_INIT, &c, sizeof(c), 1), 1);
}

/* ---- contents: RMPUPDATE and keys ---- */

static void leaves_ciphertext(const struct row *r)
{
	u8 *p = page_va(region.pa), *raw = page_va(spare.pa);

	memset(p, 0x99, PAGE_SIZE);
	assign(region.pa, ASID_LAUNCH, ST_GPA, true);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 0);
	memcpy(raw, p, PAGE_SIZE);
	unassign(region.pa);
	check(memchr_inv(p, 0x99, PAGE_SIZE));
	check(!memcmp(p, raw, PAGE_SIZE));
}

/* Back to the guest, without a launch: the same ciphertext with the same key is the same text. */
static void survives_conversion(const struct row *r)
{
	u8 *p = page_va(region.pa), *seen = page_va(spare.pa);

	memset(p, 0x99, PAGE_SIZE);
	assign(region.pa, ASID_LAUNCH, ST_GPA, true);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 0);
	unassign(region.pa);
	if (r->a)
		memset(p, 0, PAGE_SIZE);
	assign(region.pa, ASID_LAUNCH, ST_GPA, false);
	guest_peek(&launch, region.pa, seen);
	same("old contents are there", !memchr_inv(seen, 0x99, PAGE_SIZE), !r->a);
	/* Zeroes of the host's aren't zeroes of the guest's. */
	check(memchr_inv(seen, 0, PAGE_SIZE));
	unassign(region.pa);
	memset(p, 0, PAGE_SIZE);
}

/* The same text at two addresses, or with two keys, gives different ciphertext. */
static void ciphertext_differs(const struct row *r)
{
	u64 other = region.pa + PAGE_SIZE;
	struct sguest g = {};

	memset(page_va(region.pa), 0x42, PAGE_SIZE);
	memset(page_va(other), 0x42, PAGE_SIZE);
	assign(region.pa, ASID_LAUNCH, ST_GPA, true);
	launch_update(&launch, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 0);
	if (r->a) {
		u8 *raw = page_va(spare.pa);

		memcpy(raw, page_va(region.pa), PAGE_SIZE);
		page_reset(region.pa);
		memset(page_va(region.pa), 0x42, PAGE_SIZE);
		sguest_start(&g, POLICY);
		sguest_activate(&g, ASID_OTHER);
		assign(region.pa, ASID_OTHER, ST_GPA, true);
		launch_update(&g, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 0);
		check(memcmp(raw, page_va(region.pa), PAGE_SIZE));
		page_reset(region.pa);
		sguest_destroy(&g);
	} else {
		assign(other, ASID_LAUNCH, ST_GPA + PAGE_SIZE, true);
		launch_update(&launch, other, SNP_PAGE_TYPE_NORMAL, false, 0, 0);
		check(memcmp(page_va(region.pa), page_va(other), PAGE_SIZE));
	}
	page_reset(region.pa);
	page_reset(other);
}

/* The key is replaced by the next ACTIVATE. */
static void key_replaced(const struct row *r)
{
	struct sguest g;
	u8 *raw = page_va(spare.pa);
	int i;

	for (i = 0; i < 2; i++) {
		memset(page_va(region.pa), 0x42, PAGE_SIZE);
		sguest_start(&g, POLICY);
		sguest_activate(&g, ASID_OTHER);
		assign(region.pa, ASID_OTHER, ST_GPA, true);
		launch_update(&g, region.pa, SNP_PAGE_TYPE_NORMAL, false, 0, 0);
		if (i)
			check(memcmp(raw, page_va(region.pa), PAGE_SIZE));
		memcpy(raw, page_va(region.pa), PAGE_SIZE);
		page_reset(region.pa);
		sguest_destroy(&g);
	}
}

static int init(void)
{
	return launch_init();
}

static void done(void)
{
	sguest_destroy(&running);
	launch_exit();
}

#define F(f)	"FW " f
#define P(n, op, state, status, after, src)	{ "psp." n, src, page_state, op, state, status, after }

static const struct row rows[] = {
	P("gctx_create_firmware", GCTX_CREATE, ST_FIRMWARE, 0, ST_CONTEXT, F("snp_mcmd_gctx_create")),
	P("gctx_create_hypervisor", GCTX_CREATE, ST_HV, 0x1a, SAME, F("snp_mcmd_gctx_create")),
	P("gctx_create_hv_fixed", GCTX_CREATE, ST_FIXED, 0x1a, SAME, F("snp_mcmd_gctx_create")),
	P("gctx_create_context", GCTX_CREATE, ST_CONTEXT, 0x1a, SAME, F("snp_mcmd_gctx_create")),
	P("gctx_create_reclaim", GCTX_CREATE, ST_RECLAIM, 0x1a, SAME, F("snp_mcmd_gctx_create")),
	P("gctx_create_pre_guest", GCTX_CREATE, ST_PRE_GUEST, 0x1a, SAME, F("snp_mcmd_gctx_create")),
	P("gctx_create_guest_valid", GCTX_CREATE, ST_VALID, 0x1a, SAME, F("snp_mcmd_gctx_create")),
	P("gctx_create_firmware_iommu", GCTX_CREATE, ST_IOMMU, 0x1a, SAME, F("snp_mcmd_gctx_create")),
	P("gctx_create_rmp", GCTX_CREATE, ST_RMP, 0x16, SAME, F("rmp_entry_get_state")),
	{ "psp.gctx_create_large", F("snp_mcmd_gctx_create"), gctx_size },
	{ "psp.gctx_create_misaligned", F("snp_mcmd_gctx_create"), gctx_misaligned },
	{ "psp.gctx_create_zeroes", F("snp_mcmd_gctx_create"), gctx_zeroed },

	P("launch_start_hypervisor", START_GCTX, ST_HV, 0x10, SAME, F("snp_mcmd_launch_start")),
	P("launch_start_firmware", START_GCTX, ST_FIRMWARE, 0x10, SAME, F("snp_mcmd_launch_start")),
	P("launch_start_pre_guest", START_GCTX, ST_PRE_GUEST, 0x10, SAME, F("snp_mcmd_launch_start")),
	P("launch_update_gctx_hypervisor", UPDATE_GCTX, ST_HV, 0x10, SAME, F("snp_mcmd_launch_update")),
	P("launch_update_gctx_firmware", UPDATE_GCTX, ST_FIRMWARE, 0x10, SAME, F("snp_mcmd_launch_update")),
	P("launch_finish_firmware", FINISH_GCTX, ST_FIRMWARE, 0x10, SAME, F("snp_mcmd_launch_finish")),
	P("launch_finish_guest_valid", FINISH_GCTX, ST_VALID, 0x10, SAME, F("snp_mcmd_launch_finish")),
	P("activate_firmware", ACTIVATE_GCTX, ST_FIRMWARE, 0x10, SAME, F("activate_common")),
	P("activate_reclaim", ACTIVATE_GCTX, ST_RECLAIM, 0x10, SAME, F("activate_common")),
	P("decommission_hypervisor", DECOMMISSION_GCTX, ST_HV, 0x10, SAME, F("snp_decommission_common")),
	P("decommission_firmware", DECOMMISSION_GCTX, ST_FIRMWARE, 0x10, SAME, F("snp_decommission_common")),
	P("dbg_decrypt_gctx_firmware", DBG_GCTX, ST_FIRMWARE, 0x10, SAME, F("snp_mcmd_dbg_decrypt")),
	P("guest_request_firmware", REQUEST_GCTX, ST_FIRMWARE, 0x10, SAME, F("snp_mcmd_guest_request")),

	P("launch_update_hypervisor", UPDATE_PAGE, ST_HV, 0x1a, SAME, F("snp_mcmd_launch_update")),
	P("launch_update_hv_fixed", UPDATE_PAGE, ST_FIXED, 0x1a, SAME, F("snp_mcmd_launch_update")),
	P("launch_update_firmware", UPDATE_PAGE, ST_FIRMWARE, 0x1a, SAME, F("snp_mcmd_launch_update")),
	P("launch_update_context", UPDATE_PAGE, ST_CONTEXT, 0x1a, SAME, F("snp_mcmd_launch_update")),
	P("launch_update_reclaim", UPDATE_PAGE, ST_RECLAIM, 0x1a, SAME, F("snp_mcmd_launch_update")),
	P("launch_update_pre_guest", UPDATE_PAGE, ST_PRE_GUEST, 0, ST_VALID, F("snp_mcmd_launch_update")),
	P("launch_update_pre_swap", UPDATE_PAGE, ST_PRE_SWAP, 0x1a, SAME, F("snp_mcmd_launch_update")),
	P("launch_update_guest_invalid", UPDATE_PAGE, ST_INVALID, 0x1a, SAME, F("snp_mcmd_launch_update")),
	P("launch_update_guest_valid", UPDATE_PAGE, ST_VALID, 0x1a, SAME, F("snp_mcmd_launch_update")),

	P("reclaim_firmware", RECLAIM_PAGE, ST_FIRMWARE, 0, ST_RECLAIM, F("snp_mcmd_page_reclaim")),
	P("reclaim_pre_guest", RECLAIM_PAGE, ST_PRE_GUEST, 0, ST_INVALID, F("snp_mcmd_page_reclaim")),
	P("reclaim_pre_swap", RECLAIM_PAGE, ST_PRE_SWAP, 0, ST_VALID, F("snp_mcmd_page_reclaim")),
	P("reclaim_hypervisor", RECLAIM_PAGE, ST_HV, 0, SAME, F("snp_mcmd_page_reclaim")),
	P("reclaim_reclaim", RECLAIM_PAGE, ST_RECLAIM, 0, SAME, F("snp_mcmd_page_reclaim")),
	P("reclaim_guest_invalid", RECLAIM_PAGE, ST_INVALID, 0, SAME, F("snp_mcmd_page_reclaim")),
	P("reclaim_guest_valid", RECLAIM_PAGE, ST_VALID, 0, SAME, F("snp_mcmd_page_reclaim")),
	P("reclaim_context", RECLAIM_PAGE, ST_CONTEXT, 0x1a, SAME, F("snp_mcmd_page_reclaim")),
	P("reclaim_firmware_iommu", RECLAIM_PAGE, ST_IOMMU, 0x1a, SAME, F("snp_mcmd_page_reclaim; amdsev#109")),
	P("reclaim_rmp", RECLAIM_PAGE, ST_RMP, 9, SAME, F("validate_address_range")),
	{ "psp.reclaim_large", F("snp_mcmd_page_reclaim"), reclaim_large, 1, 0 },
	{ "psp.reclaim_large_as_small", F("snp_mcmd_page_reclaim"), reclaim_large, 0, 0x19 },
	{ "psp.reclaim_small_as_large", F("snp_mcmd_page_reclaim"), reclaim_small_as_large },
	{ "psp.reclaim_reserved_bits", F("snp_mcmd_page_reclaim"), reclaim_large, 0x803, 0x16 },
	{ "psp.reclaim_not_dram", F("validate_address_range"), reclaim_addr, 0xfe000000000ULL, 3 },
	{ "psp.reclaim_vga_hole", F("validate_address_range"), reclaim_addr, 0xa0000, 9 },

	{ "psp.launch_start_good", F("snp_mcmd_launch_start"), start, POLICY, 0 },
	{ "psp.launch_start_bit17_clear", F("snp_mcmd_launch_start"), start, POLICY & ~POLICY_RSVD1, 7 },
	{ "psp.launch_start_smt_clear", F("snp_mcmd_launch_start"), start, POLICY & ~POLICY_SMT, 7 },
	{ "psp.launch_start_abi_major", F("snp_mcmd_launch_start"), start, POLICY | 0xff00, 7 },
	{ "psp.launch_start_abi_minor", F("snp_mcmd_launch_start"), start, POLICY | 0x01ff, 7 },
	{ "psp.launch_start_abi_older", F("snp_mcmd_launch_start"), start, POLICY | 0x0033, 0 },
	{ "psp.launch_start_bit21", F("snp_mcmd_launch_start"), start, POLICY | BIT(21), 7 },
	{ "psp.launch_start_bit63", F("snp_mcmd_launch_start"), start, POLICY | BIT_ULL(63), 7 },
	{ "psp.launch_start_single_socket", F("activate_common"), start, POLICY | BIT(20), 0 },
	{ "psp.launch_start_reserved", F("snp_mcmd_launch_start"), start, POLICY, 0x16, 1 },
	{ "psp.launch_start_twice", F("snp_mcmd_launch_start"), start_twice },
	{ "psp.launch_start_running", F("snp_mcmd_launch_start"), start_running },

	{ "psp.activate_lowest", F("activate_common"), activate, 1, 0 },
	{ "psp.activate_highest", F("sev_es_validate_asid"), activate, MIN_SEV_ASID - 1, 0 },
	{ "psp.activate_asid_0", F("activate_common"), activate, 0, 0xd },
	{ "psp.activate_sev_asid", F("sev_es_validate_asid"), activate, MIN_SEV_ASID, 0xd },
	{ "psp.activate_last_sev_asid", F("sev_es_validate_asid"), activate, MAX_ASID, 0xd },
	{ "psp.activate_asid_out_of_range", F("activate_common"), activate, MAX_ASID + 1, 0xd },
	{ "psp.activate_asid_huge", F("activate_common"), activate, 0x80000000, 0xd },
	{ "psp.activate_not_started", F("activate_common"), activate_not_started },
	{ "psp.activate_allocated", F("activate_common"), activate, ASID_LAUNCH, 0xc },
	{ "psp.activate_in_use", F("activate_common"), activate_in_use, ASID_GUEST, 0xc },
	{ "psp.activate_active_guest", F("activate_common"), activate_again, ASID_OTHER, 0x12 },
	{ "psp.activate_same_again", F("activate_common"), activate_again, ASID_LAUNCH, 0xc },
	{ "psp.activate_with_pages", F("check_rmp_for_asid"), activate_with_pages },
	{ "psp.activate_dirty", F("activate_common"), asid_dirty },
	{ "psp.unused_asid_stays_clean", F("sev_guest_deactivate"), asid_stays_clean },
	{ "psp.df_flush_no_wbinvd", F("mcmd_df_flush_common"), df_flush_markers, SEV_CMD_SNP_DF_FLUSH, 0 },
	{ "psp.df_flush_one_wbinvd", F("mcmd_df_flush_common"), df_flush_markers, SEV_CMD_SNP_DF_FLUSH, 1 },
	{ "psp.df_flush_all_wbinvd", F("mcmd_df_flush_common"), df_flush_markers, SEV_CMD_SNP_DF_FLUSH, 2 },
	{ "psp.legacy_df_flush_no_wbinvd", F("mcmd_df_flush_common"), df_flush_markers, SEV_CMD_DF_FLUSH, 0 },
	{ "psp.legacy_df_flush_all_wbinvd", F("mcmd_df_flush_common"), df_flush_markers, SEV_CMD_DF_FLUSH, 2 },
	{ "psp.df_flush_again", F("mcmd_df_flush_common"), df_flush_idle },

	{ "psp.launch_update_normal", F("snp_mcmd_launch_update"), update_type, SNP_PAGE_TYPE_NORMAL, 0 },
	{ "psp.launch_update_vmsa", F("snp_mcmd_launch_update"), update_type, SNP_PAGE_TYPE_VMSA, 0 },
	{ "psp.launch_update_zero", F("snp_mcmd_launch_update"), update_type, SNP_PAGE_TYPE_ZERO, 0 },
	{ "psp.launch_update_unmeasured", F("snp_mcmd_launch_update"), update_type, SNP_PAGE_TYPE_UNMEASURED, 0 },
	{ "psp.launch_update_secrets", F("snp_mcmd_launch_update"), update_type, SNP_PAGE_TYPE_SECRET, 0 },
	{ "psp.launch_update_type_0", F("snp_mcmd_launch_update"), update_type, 0, 0x16 },
	{ "psp.launch_update_type_7", F("snp_mcmd_launch_update"), update_type, 7, 0x16 },
	{ "psp.launch_update_imi", F("snp_mcmd_launch_update"), update_type, SNP_PAGE_TYPE_NORMAL, 0x16, 1 },
	{ "psp.launch_update_reserved", F("snp_mcmd_launch_update"), update_type, SNP_PAGE_TYPE_NORMAL, 0x16, 0, 1 },
	{ "psp.launch_update_large_normal", F("snp_mcmd_launch_update"), update_large, SNP_PAGE_TYPE_NORMAL, 0 },
	{ "psp.launch_update_large_zero", F("snp_mcmd_launch_update"), update_large, SNP_PAGE_TYPE_ZERO, 0 },
	{ "psp.launch_update_large_vmsa", F("snp_mcmd_launch_update"), update_large, SNP_PAGE_TYPE_VMSA, 0x19 },
	{ "psp.launch_update_large_secrets", F("snp_mcmd_launch_update"), update_large, SNP_PAGE_TYPE_SECRET, 0x19 },
	{ "psp.launch_update_large_cpuid", F("snp_mcmd_launch_update"), update_large, SNP_PAGE_TYPE_CPUID, 0x19 },
	{ "psp.launch_update_small_as_large", F("snp_mcmd_launch_update"), update_size, 1, 0 },
	{ "psp.launch_update_large_as_small", F("snp_mcmd_launch_update"), update_size, 0, 1 },
	{ "psp.launch_update_misaligned", F("snp_mcmd_launch_update"), update_misaligned },
	{ "psp.launch_update_gctx_misaligned", F("snp_mcmd_launch_update"), update_gctx_misaligned },
	{ "psp.launch_update_owner", F("snp_mcmd_launch_update"), update_owner },
	{ "psp.launch_update_inactive", F("snp_mcmd_launch_update"), update_inactive },
	{ "psp.launch_update_not_started", F("snp_mcmd_launch_update"), update_guest_state, 0 },
	{ "psp.launch_update_running", F("snp_mcmd_launch_update"), update_guest_state, 1 },
	{ "psp.launch_update_permissions", F("snp_mcmd_launch_update"), update_permissions, 0x0f0301 },
	{ "psp.launch_update_permissions_unchecked", F("snp_mcmd_launch_update"), update_permissions, 0x020406 },
	{ "psp.launch_update_vmsa_contents", F("snp_mcmd_launch_update"), update_vmsa_contents },

	{ "psp.cpuid_empty", F("sanitize_cpuid_list"), cpuid_table, CPUID_EMPTY, 0 },
	{ "psp.cpuid_good", F("sanitize_cpuid_list"), cpuid_table, CPUID_GOOD, 0 },
	{ "psp.cpuid_count_64", F("sanitize_cpuid_list"), cpuid_table, CPUID_COUNT_64, 0 },
	{ "psp.cpuid_count_65", F("sanitize_cpuid_list"), cpuid_table, CPUID_COUNT_65, 0x16, 0 },
	{ "psp.cpuid_reserved", F("sanitize_cpuid_list"), cpuid_table, CPUID_RESERVED, 0x16, 0 },
	{ "psp.cpuid_entry_reserved", F("sanitize_cpuid_list"), cpuid_table, CPUID_ENTRY_RESERVED, 0x16, 0 },
	{ "psp.cpuid_unknown_leaf_zero", F("sanitize_cpuid_list"), cpuid_table, CPUID_UNKNOWN_LEAF_ZERO, 0 },
	{ "psp.cpuid_unknown_leaf_corrected", F("sanitize_cpuid_list"), cpuid_table, CPUID_UNKNOWN_LEAF, 0x16, 1 },
	{ "psp.cpuid_extra_bit_corrected", F("sanitize_cpuid_list"), cpuid_table, CPUID_EXTRA_BIT, 0x16, 1 },

	{ "psp.launch_finish_not_started", F("snp_mcmd_launch_finish"), finish_not_started },
	{ "psp.launch_finish_inactive", F("snp_mcmd_launch_finish"), finish_inactive },
	{ "psp.launch_finish_twice", F("snp_mcmd_launch_finish"), finish_twice },
	{ "psp.launch_finish_id_block", F("snp_mcmd_launch_finish"), finish_id_block },
	{ "psp.launch_finish_id_block_policy", F("snp_mcmd_launch_finish"), finish_id_block_fits, 1, 7 },
	{ "psp.launch_finish_id_block_version", F("snp_mcmd_launch_finish"), finish_id_block_fits, 2, 0x16 },
	{ "psp.launch_finish_id_block_signed", "not emulated", finish_id_block_fits, 0, 0x15, 1 },
	{ "psp.launch_finish_author_alone", F("snp_mcmd_launch_finish"), finish_author },
	{ "psp.decommission_init", F("snp_decommission_common"), decommission, 0 },
	{ "psp.decommission_launch", F("snp_decommission_common"), decommission, 1 },
	{ "psp.decommission_active", F("snp_decommission_common"), decommission, 2 },
	{ "psp.decommission_running", F("snp_decommission_common"), decommission, 3 },
	{ "psp.decommission_leaves_pages", F("snp_decommission_common"), decommission_with_pages },

	P("status_hypervisor", STATUS_BUF, ST_HV, 0x1a, SAME, F("snp_mcmd_platform_status")),
	P("status_guest_valid", STATUS_BUF, ST_VALID, 0x1a, SAME, F("snp_mcmd_platform_status")),
	P("status_reclaim", STATUS_BUF, ST_RECLAIM, 0x1a, SAME, F("snp_mcmd_platform_status")),
	{ "psp.status_contents", F("snp_mcmd_platform_status"), platform_status },
	{ "psp.status_crosses_page", F("snp_mcmd_platform_status"), status_crossing },
	P("feature_info_hypervisor", FEATURE_BUF, ST_HV, 0x1a, SAME, F("snp_mcmd_feature_info")),
	P("feature_info_firmware", FEATURE_BUF, ST_FIRMWARE, 0, SAME, F("snp_mcmd_feature_info")),
	{ "psp.feature_info_leaf_0", F("snp_mcmd_feature_info"), feature_info, 16, 0, 0, 0 },
	{ "psp.feature_info_leaf_1", F("snp_mcmd_feature_info"), feature_info, 16, 1, 0x100, 0 },
	{ "psp.feature_info_leaf_2", F("snp_mcmd_feature_info"), feature_info, 16, 2, 0, 0x16 },
	{ "psp.feature_info_length", F("snp_mcmd_feature_info"), feature_info, 15, 0, 0, 0x16 },
	{ "psp.feature_info_misaligned", F("snp_mcmd_feature_info"), feature_info, 16, 0, 2, 9 },
	{ "psp.feature_info_crosses_page", F("snp_mcmd_feature_info"), feature_info, 16, 0, 0xff8, 9 },

	P("dbg_decrypt_guest_valid", DBG_SRC, ST_VALID, 0, SAME, F("snp_mcmd_dbg_decrypt")),
	P("dbg_decrypt_guest_invalid", DBG_SRC, ST_INVALID, 0, SAME, F("snp_mcmd_dbg_decrypt")),
	P("dbg_decrypt_pre_guest", DBG_SRC, ST_PRE_GUEST, 0, SAME, F("snp_mcmd_dbg_decrypt")),
	P("dbg_decrypt_pre_swap", DBG_SRC, ST_PRE_SWAP, 0, SAME, F("snp_mcmd_dbg_decrypt")),
	P("dbg_decrypt_hypervisor", DBG_SRC, ST_HV, 0x1a, SAME, F("snp_mcmd_dbg_decrypt")),
	P("dbg_decrypt_firmware", DBG_SRC, ST_FIRMWARE, 0x1a, SAME, F("snp_mcmd_dbg_decrypt")),
	P("dbg_decrypt_to_firmware", DBG_DST, ST_FIRMWARE, 0, SAME, F("snp_mcmd_dbg_decrypt")),
	P("dbg_decrypt_to_hypervisor", DBG_DST, ST_HV, 0x1a, SAME, F("snp_mcmd_dbg_decrypt")),
	P("dbg_decrypt_to_guest", DBG_DST, ST_INVALID, 0x1a, SAME, F("snp_mcmd_dbg_decrypt")),
	{ "psp.dbg_decrypt_owner", F("snp_mcmd_dbg_decrypt"), dbg_owner },
	{ "psp.dbg_decrypt_policy", F("snp_mcmd_dbg_decrypt"), dbg_policy },
	{ "psp.dbg_decrypt_in_large", F("snp_mcmd_dbg_decrypt"), dbg_large },

	P("guest_request_to_hypervisor", RESPONSE_BUF, ST_HV, 0x1a, SAME, F("snp_mcmd_guest_request")),
	P("guest_request_to_guest", RESPONSE_BUF, ST_VALID, 0x1a, SAME, F("snp_mcmd_guest_request")),
	{ "psp.guest_request_launch", F("snp_mcmd_guest_request"), request_not_running },
	{ "psp.guest_request_header", F("snp_mcmd_guest_request"), request_header },
	{ "psp.guest_request_sequence", F("snp_mcmd_guest_request"), request_message, ~0ULL, 0x1d },
	{ "psp.guest_request_message", "not emulated", request_message, 1, 0x16 },

	{ "psp.unknown_command", F("sev_dispatch_master"), bare_command, 0x7f, 0x11 },
	{ "psp.unknown_snp_command", F("sev_dispatch_master"), bare_command, 0xff, 0x11 },
	{ "psp.snp_init_again", F("snp_mcmd_init_common"), snp_init_again },
	{ "psp.init_again", F("sev_mcmd_init_common"), sev_init_again },
	{ "psp.snp_shutdown_while_sev", F("snp_mcmd_shutdown_ex"), shutdown_sev_init },

	{ "contents.launch_normal", "FW snp_mcmd_launch_update", update_contents, SNP_PAGE_TYPE_NORMAL, 0x66, 0x66 },
	{ "contents.launch_unmeasured", "FW snp_mcmd_launch_update", update_contents, SNP_PAGE_TYPE_UNMEASURED, 0x66,
	  0x66 },
	{ "contents.launch_zero", "FW snp_mcmd_launch_update", update_contents, SNP_PAGE_TYPE_ZERO, 0x66, 0 },
	{ "contents.launch_secrets", "FW snp_mcmd_launch_update", update_contents, SNP_PAGE_TYPE_SECRET, 0x66, 0 },
	{ "contents.unassigned_is_ciphertext", "MIT 1721.1/164204", leaves_ciphertext },
	{ "contents.assigned_again", "MIT 1721.1/164204", survives_conversion, 0 },
	{ "contents.zeroed_by_host", "MIT 1721.1/164204", survives_conversion, 1 },
	{ "contents.differs_by_address", "APM 15.34.1", ciphertext_differs, 0 },
	{ "contents.differs_by_guest", "APM 15.34.1", ciphertext_differs, 1 },
	{ "contents.key_of_next_activate", "FW sev_guest_activate", key_replaced },
};

const struct group group_psp = { "psp", rows, ARRAY_SIZE(rows), init, done };
