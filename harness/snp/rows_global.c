// SPDX-License-Identifier: GPL-2.0
/*
 * The platform: everything before SNP_INIT_EX, the command itself, shutdown. The driver shuts both firmwares
 * down before the first row and initialises them again after the last one; KVM has no VM meanwhile.
 */
#include <linux/mm.h>
#include <linux/smp.h>
#include <asm/msr.h>
#include "snp_rows.h"

static DEFINE_PER_CPU(u64, hsave);

static void hsave_clear(void *unused)
{
	u64 v;

	rdmsrq(MSR_VM_HSAVE_PA, v);
	__this_cpu_write(hsave, v);
	wrmsrq(MSR_VM_HSAVE_PA, 0);
}

static void hsave_restore(void *unused)
{
	wrmsrq(MSR_VM_HSAVE_PA, __this_cpu_read(hsave));
}

static u32 snp_shutdown_ex(bool iommu, u32 want)
{
	struct sev_data_snp_shutdown_ex c = { .len = sizeof(c), .iommu_snp_shutdown = iommu };

	return psp_want(SEV_CMD_SNP_SHUTDOWN_EX, &c, sizeof(c), want);
}

static u32 snp_init_ex(bool init_rmp, u64 list, u32 reserved, u32 want)
{
	struct sev_data_snp_init_ex c = {
		.init_rmp = init_rmp, .list_paddr_en = !!list, .list_paddr = list, .rsvd = reserved
	};

	return psp_want(SEV_CMD_SNP_INIT_EX, &c, sizeof(c), want);
}

static int init(void)
{
	sev_platform_shutdown();
	snp_up = false;
	on_each_cpu(hsave_clear, NULL, 1);
	return 0;
}

static void done(void)
{
	struct sev_platform_init_args args = {};
	int ret = sev_platform_init(&args);

	on_each_cpu(hsave_restore, NULL, 1);
	snp_up = true;
	check_at(__LINE__, "the driver initialises SNP and SEV again", !ret && !args.error);
}

/* SNP initialised for one row, all ASIDs clean. */
static bool snp_init_all(void)
{
	return same("SNP_INIT_EX", snp_init_ex(true, 0, 0, 0), 0) && df_flush();
}

static void snp_shutdown_all(void)
{
	wbinvd_all();
	psp_raw(SEV_CMD_SNP_DF_FLUSH, 0);
	same("SNP_SHUTDOWN_EX", snp_shutdown_ex(true, 0), 0);
}

/* a: command; SNP is not initialised */
static void uninit(const struct row *r)
{
	u64 buf[32] = { region.pa };

	same("status", psp_want(r->a, buf, sizeof(buf), 1), 1);
}

static void shutdown_uninit(const struct row *r)
{
	same("status", snp_shutdown_ex(false, 0), 0);
}

static void status_uninit(const struct row *r)
{
	struct sev_data_snp_addr c = { .address = region.pa };
	u8 *p = page_va(region.pa);

	/* A page of the hypervisor's will do. */
	same("status", psp_want(SEV_CMD_SNP_PLATFORM_STATUS, &c, sizeof(c), 0), 0);
	same("state", p[2], 0);
	same("RMP initialised", p[3] & 1, 0);
	memset(p, 0, 32);
}

static void platform_status_uninit(const struct row *r)
{
	struct sev_user_data_status s = {};
	u64 pa = page_alloc();

	/* The command page stays the hypervisor's. */
	same("status", psp_raw(SEV_CMD_PLATFORM_STATUS, pa), 0);
	memcpy(&s, page_va(pa), sizeof(s));
	same("state", s.state, 0);
	same("entry", rmp_lo(pa), 0);
	page_free(pa);
}

/* Both markers and pages: after the driver's shutdown. */
static void iommu_pages_reclaimed(const struct row *r)
{
	u64 pa = state_page(ST_IOMMU);

	snp_init_all();
	same("entry", rmp_lo(pa), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK | 0x2000000001ULL << 12);
	wbinvd_all();
	psp_raw(SEV_CMD_SNP_DF_FLUSH, 0);
	same("SNP_SHUTDOWN_EX", snp_shutdown_ex(true, 0), 0);
	same("entry", rmp_lo(pa) & ~LO_GPA, LO_ASSIGNED);
	same("the RMP's own", rmp_lo(rmp_base), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK);
}

/* a: init_rmp, b: list, c: reserved, d: status */
static void init_ex(const struct row *r)
{
	same("status", snp_init_ex(r->a, r->b ? region.pa : 0, r->c, r->d), r->d);
}

static void init_hsave(const struct row *r)
{
	int cpu = cpumask_last(cpu_online_mask);

	smp_call_function_single(cpu, hsave_restore, NULL, 1);
	if (!per_cpu(hsave, cpu)) {
		row_skip("KVM hasn't set VM_HSAVE_PA");
		return;
	}
	same("status", snp_init_ex(true, 0, 0, 3), 3);
	smp_call_function_single(cpu, hsave_clear, NULL, 1);
	same("status without", snp_init_ex(true, 0, 0, 0), 0);
	snp_shutdown_all();
}

static void init_again(const struct row *r)
{
	snp_init_all();
	same("status", snp_init_ex(true, 0, 0, 1), 1);
	snp_shutdown_all();
}

/* Whatever the table had, it is built anew. */
static void init_builds(const struct row *r)
{
	int i, bad = 0;

	snp_init_all();
	assign(region.pa, ASID_OTHER, ST_GPA, true);
	assign(region.pa + PAGE_SIZE, ASID_OTHER, ST_GPA + PAGE_SIZE, false);
	check(rmp_count(ASID_OTHER) != 0);
	snp_shutdown_all();
	snp_init_all();
	for (i = 0; i < BLOCK_PAGES; i++)
		bad += rmp_read(region.pa + i * PAGE_SIZE).lo != 0;
	same("entries that aren't zero", bad, 0);
	same("counter", rmp_count(ASID_OTHER), 0);
	same("VGA hole", rmp_lo(0xa0000), LO_IMMUTABLE);
	same("RMP", rmp_lo(rmp_base), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK);
	same("last page of the RMP", rmp_lo(rmp_end & PAGE_MASK), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK);
	snp_shutdown_all();
}

static void list_fill(u64 base, u32 pages)
{
	struct sev_data_range_list *l = page_va(spare.pa);

	l->num_elements = 1;
	l->ranges[0].base = base;
	l->ranges[0].page_count = pages;
}

static void init_list(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .asid = ASID_OTHER, .gpa = ST_GPA };
	struct sev_data_snp_page_reclaim c = { .paddr = region.pa + 4 * PAGE_SIZE };

	list_fill(region.pa + 4 * PAGE_SIZE, 2);
	same("status", snp_init_ex(true, spare.pa, 0, 0), 0);
	df_flush();
	same("before the range", rmp_lo(region.pa + 3 * PAGE_SIZE), 0);
	same("first page", rmp_lo(region.pa + 4 * PAGE_SIZE), LO_IMMUTABLE);
	same("last page", rmp_lo(region.pa + 5 * PAGE_SIZE), LO_IMMUTABLE);
	same("behind the range", rmp_lo(region.pa + 6 * PAGE_SIZE), 0);
	same("RMPUPDATE", rmpupdate_want(region.pa + 4 * PAGE_SIZE, a, 2), 2);
	same("SNP_PAGE_RECLAIM", psp_want(SEV_CMD_SNP_PAGE_RECLAIM, &c, sizeof(c), 0x1a), 0x1a);
	/* Not assigned: the host may write. */
	host_op(OP_STORE, 5, 0, 0, HOST_4K_VA + 4 * PAGE_SIZE);
	same("vector of a write", host_mbox->vector, -1);
	host_op(OP_STORE, 0, 0, 0, HOST_4K_VA + 4 * PAGE_SIZE);
	snp_shutdown_all();
	/* The next table has them as memory again. */
	snp_init_all();
	same("in the next table", rmp_lo(region.pa + 4 * PAGE_SIZE), 0);
	snp_shutdown_all();
}

static void init_list_in_rmp(const struct row *r)
{
	list_fill(rmp_base, 2);
	same("status", snp_init_ex(true, spare.pa, 0, 0), 0);
	same("RMP", rmp_lo(rmp_base), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK);
	snp_shutdown_all();
}

/* All ASIDs are dirty, and no processor's caches count as written back. */
static void init_dirty(const struct row *r)
{
	struct sev_data_snp_activate a = { .asid = ASID_OTHER };
	struct sguest g;

	same("SNP_INIT_EX", snp_init_ex(true, 0, 0, 0), 0);
	sguest_start(&g, POLICY);
	a.gctx_paddr = g.gctx;
	same("SNP_ACTIVATE", psp_want(SEV_CMD_SNP_ACTIVATE, &a, sizeof(a), 0xf), 0xf);
	announce("psp:SNP_DF_FLUSH");
	same("SNP_DF_FLUSH without WBINVD", psp_raw(SEV_CMD_SNP_DF_FLUSH, 0), 0xe);
	df_flush();
	same("SNP_ACTIVATE after SNP_DF_FLUSH", psp_want(SEV_CMD_SNP_ACTIVATE, &a, sizeof(a), 0), 0);
	sguest_destroy(&g);
	snp_shutdown_all();
}

static void shutdown_dirty(const struct row *r)
{
	same("SNP_INIT_EX", snp_init_ex(true, 0, 0, 0), 0);
	same("SNP_SHUTDOWN_EX", snp_shutdown_ex(false, 0xf), 0xf);
	snp_shutdown_all();
}

static void shutdown_allocated(const struct row *r)
{
	struct sguest g;

	snp_init_all();
	sguest_start(&g, POLICY);
	sguest_activate(&g, ASID_OTHER);
	same("SNP_SHUTDOWN_EX", snp_shutdown_ex(false, 0xf), 0xf);
	sguest_destroy(&g);
	snp_shutdown_all();
}

/* a: length, b: reserved, with all ASIDs clean */
static void shutdown_input(const struct row *r)
{
	struct sev_data_snp_shutdown_ex c = { .len = r->a, .rsvd1 = r->b };

	snp_init_all();
	same("status", psp_want(SEV_CMD_SNP_SHUTDOWN_EX, &c, sizeof(c), 0x16), 0x16);
	snp_shutdown_all();
}

static void shutdown_plain(const struct row *r)
{
	snp_init_all();
	same("SNP_SHUTDOWN_EX", snp_shutdown_ex(false, 0), 0);
	/* The table stays good: no need to build it again. */
	same("a list without init_rmp", snp_init_ex(false, spare.pa, 0, 0x16), 0x16);
	same("SNP_INIT_EX without init_rmp", snp_init_ex(false, 0, 0, 0), 0);
	snp_shutdown_all();
}

static void shutdown_iommu(const struct row *r)
{
	snp_init_all();
	wbinvd_all();
	same("SNP_SHUTDOWN_EX", snp_shutdown_ex(true, 0), 0);
	same("SNP_INIT_EX without init_rmp", snp_init_ex(false, 0, 0, 0x20), 0x20);
}

static void sev_init_uninit_rmp(const struct row *r)
{
	struct sev_data_init c = {};

	/* SNP_EN is set, and no table is. */
	same("status", psp_want(SEV_CMD_INIT, &c, sizeof(c), 1), 1);
}

static u32 tmr_reclaim(void)
{
	struct sev_data_snp_page_reclaim c = { .paddr = region.pa };

	return psp_want(SEV_CMD_SNP_PAGE_RECLAIM, &c, sizeof(c), 9);
}

/* a: flags, b: status, c: TMR: 0 none, 1 firmware, 2 hypervisor, 3 misaligned, 4 short */
static void sev_init(const struct row *r)
{
	struct sev_data_init c = { .flags = r->a };
	struct page *big = NULL;
	int i;

	snp_init_all();
	if (r->c) {
		c.tmr_address = region.pa;
		c.tmr_len = r->c == 4 ? 0x100000 : 0x200000;
		if (r->c == 3) {
			/* All of it has to be firmware's, or else that is what is refused. */
			big = alloc_pages(GFP_KERNEL, 10);
			if (!check(big))
				goto out;
			c.tmr_address = page_to_phys(big) + PAGE_SIZE;
		}
		for (i = 0; r->c != 2 && i < BLOCK_PAGES; i++)
			assign(c.tmr_address + i * PAGE_SIZE, 0, 0, true);
	}
	same("status", psp_want(SEV_CMD_INIT, &c, sizeof(c), r->b), r->b);
	if (!r->b) {
		struct sev_data_init again = {};

		same("INIT again", psp_want(SEV_CMD_INIT, &again, sizeof(again), 1), 1);
		same("SNP_SHUTDOWN_EX", snp_shutdown_ex(false, 1), 1);
		if (r->c)
			same("SNP_PAGE_RECLAIM of the TMR", tmr_reclaim(), 9);
		wbinvd_all();
		same("DF_FLUSH", psp_raw(SEV_CMD_DF_FLUSH, 0), 0);
		same("SHUTDOWN", psp_raw(SEV_CMD_SHUTDOWN, 0), 0);
	}
	check(block_reset(&region));
	if (big) {
		struct block low = { .pa = page_to_phys(big) };
		struct block high = { .pa = low.pa + BLOCK_PAGES * PAGE_SIZE };

		if (check(block_reset(&low)) && check(block_reset(&high)))
			__free_pages(big, 10);
	}
out:
	snp_shutdown_all();
}

static const struct row rows[] = {
	{ "platform.gctx_create_uninit", "FW snp_mcmd_gctx_create", uninit, SEV_CMD_SNP_GCTX_CREATE },
	{ "platform.launch_start_uninit", "FW snp_mcmd_launch_start", uninit, SEV_CMD_SNP_LAUNCH_START },
	{ "platform.launch_update_uninit", "FW snp_mcmd_launch_update", uninit, SEV_CMD_SNP_LAUNCH_UPDATE },
	{ "platform.launch_finish_uninit", "FW snp_mcmd_launch_finish", uninit, SEV_CMD_SNP_LAUNCH_FINISH },
	{ "platform.activate_uninit", "FW activate_common", uninit, SEV_CMD_SNP_ACTIVATE },
	{ "platform.decommission_uninit", "FW snp_decommission_common", uninit, SEV_CMD_SNP_DECOMMISSION },
	{ "platform.reclaim_uninit", "FW snp_mcmd_page_reclaim", uninit, SEV_CMD_SNP_PAGE_RECLAIM },
	{ "platform.dbg_decrypt_uninit", "FW snp_mcmd_dbg_decrypt", uninit, SEV_CMD_SNP_DBG_DECRYPT },
	{ "platform.sev_activate_uninit", "FW sev_mcmd_activate", uninit, SEV_CMD_ACTIVATE },
	{ "platform.guest_status_uninit", "FW sev_mcmd_guest_status", uninit, SEV_CMD_GUEST_STATUS },
	{ "platform.status_uninit", "FW snp_mcmd_platform_status", status_uninit },
	{ "platform.sev_status_uninit", "FW sev_dispatch_master", platform_status_uninit },
	{ "platform.shutdown_uninit", "FW snp_mcmd_shutdown_ex", shutdown_uninit },
	{ "platform.sev_init_without_rmp", "FW sev_mcmd_init_common", sev_init_uninit_rmp },
	{ "platform.init_reserved", "FW snp_mcmd_init_common", init_ex, 1, 0, 1, 0x16 },
	{ "platform.init_without_rmp", "FW snp_mcmd_init_common", init_ex, 0, 0, 0, 0x20 },
	{ "platform.init_hsave", "FW snp_mcmd_init_common", init_hsave },
	{ "platform.init_again", "FW snp_mcmd_init_common", init_again },
	{ "platform.init_builds_table", "FW snp_mcmd_init_common", init_builds },
	{ "platform.init_list", "FW snp_mcmd_init_common", init_list },
	{ "platform.init_list_in_rmp", "FW snp_mcmd_init_common", init_list_in_rmp },
	{ "platform.init_makes_dirty", "FW snp_mcmd_init_common; FW mcmd_df_flush_common", init_dirty },
	{ "platform.shutdown_dirty", "FW snp_mcmd_shutdown_ex", shutdown_dirty },
	{ "platform.shutdown_allocated", "FW snp_mcmd_shutdown_ex", shutdown_allocated },
	{ "platform.shutdown_length", "FW snp_mcmd_shutdown_ex", shutdown_input, 4, 0 },
	{ "platform.shutdown_reserved", "FW snp_mcmd_shutdown_ex", shutdown_input, 8, 1 },
	{ "platform.shutdown_keeps_table", "FW snp_mcmd_shutdown_ex", shutdown_plain },
	{ "platform.shutdown_iommu", "FW snp_mcmd_shutdown_ex", shutdown_iommu },
	{ "platform.iommu_pages", "FW set_iommu_table_state; FW snp_mcmd_shutdown_ex", iommu_pages_reclaimed },
	{ "platform.sev_init", "FW sev_mcmd_init_common", sev_init, 0, 0 },
	{ "platform.sev_init_flags", "FW sev_mcmd_init_common", sev_init, 2, 3 },
	{ "platform.sev_init_es", "FW sev_mcmd_init_common; FW validate_address_range", sev_init, 1, 0, 1 },
	{ "platform.sev_init_es_hypervisor", "FW sev_mcmd_init_common", sev_init, 1, 0x1a, 2 },
	{ "platform.sev_init_es_misaligned", "FW sev_mcmd_init_common", sev_init, 1, 9, 3 },
	{ "platform.sev_init_es_short", "FW sev_mcmd_init_common", sev_init, 1, 4, 4 },
};

const struct group group_global = { "platform", rows, ARRAY_SIZE(rows), init, done };
