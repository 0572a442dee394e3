// SPDX-License-Identifier: GPL-2.0
/*
 * What the host's own accesses meet: APM 15.36.10, table 15-39; and MSRs.
 */
#include <linux/mm.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <asm/msr.h>
#include <asm/svm.h>
#include "snp_rows.h"

/* Present, write, RMP; not user. */
#define PF_WRITE	0x80000003ULL
#define PF_RMP		BIT_ULL(31)


static void faults(u64 va, u64 value)
{
	announce("host-fault");
	host_op(OP_STORE, value, 0, 0, va);
	same("vector", host_mbox->vector, 14);
	same("error code", host_mbox->error, PF_WRITE);
	same("CR2", host_mbox->cr2, va);
}

static void works(u64 va, u64 value)
{
	host_op(OP_STORE, value, 0, 0, va);
	same("vector", host_mbox->vector, -1);
	same("value", host_op(OP_LOAD, 0, 0, 0, va), value);
}

/* a: state */
static void write_4k(const struct row *r)
{
	u64 pa = state_page(r->a), va, before;

	va = host_map(pa + 0x18);
	before = host_op(OP_LOAD, 0, 0, 0, va);
	same("vector of the read", host_mbox->vector, -1);
	faults(va, 0x1122334455667788);
	same("contents", host_op(OP_LOAD, 0, 0, 0, va), before);
	state_free(pa, r->a);
}

static void fetch(const struct row *r)
{
	u8 *p = page_va(region.pa);

	*p = 0xc3;
	state_make(region.pa, r->a);
	host_op(OP_CALL, 0, 0, 0, HOST_4K_VA);
	same("vector", host_mbox->vector, -1);
	page_reset(region.pa);
	*p = 0;
}

static void hypervisor_page(const struct row *r)
{
	works(HOST_4K_VA + 0x1008, 0x1234);
	works(HOST_2M_VA + 0x1008, 0x12345);
	works(HOST_1G_VA + (region.pa & 0x3fffffff) + 0x1008, 0x123456);
}

static void neighbours(const struct row *r)
{
	assign(region.pa + 5 * PAGE_SIZE, 0, 0, true);
	works(HOST_4K_VA + 4 * PAGE_SIZE, 1);
	works(HOST_4K_VA + 6 * PAGE_SIZE, 2);
	works(HOST_4K_VA, 3);
	page_reset(region.pa + 5 * PAGE_SIZE);
}

/* Across the boundary: an 8-byte write that begins in the hypervisor's page. */
static void crossing(const struct row *r)
{
	u64 va = HOST_4K_VA + 5 * PAGE_SIZE - 4;

	assign(region.pa + 5 * PAGE_SIZE, 0, 0, true);
	host_op(OP_STORE, 0, 0, 0, HOST_4K_VA + 4 * PAGE_SIZE + 0xff8);
	announce("host-fault");
	host_op(OP_STORE, ~0ULL, 0, 0, va);
	same("vector", host_mbox->vector, 14);
	same("error code", host_mbox->error, PF_WRITE);
	same("CR2", host_mbox->cr2, va + 4);
	same("first half", host_op(OP_LOAD, 0, 0, 0, HOST_4K_VA + 4 * PAGE_SIZE + 0xff8), 0);
	page_reset(region.pa + 5 * PAGE_SIZE);
}

/* a: assigned page, b: page written through the 2M mapping, c: 1: by the 1G mapping */
static void write_large(const struct row *r)
{
	u64 base = r->c ? HOST_1G_VA + (region.pa & 0x3fffffff) : HOST_2M_VA;

	assign(region.pa + r->a * PAGE_SIZE, 0, 0, true);
	faults(base + r->b * PAGE_SIZE + 0x40, 7);
	host_op(OP_LOAD, 0, 0, 0, base + r->b * PAGE_SIZE);
	same("vector of the read", host_mbox->vector, -1);
	page_reset(region.pa + r->a * PAGE_SIZE);
	works(base + r->b * PAGE_SIZE + 0x40, 8);
}

static void write_1g_elsewhere(const struct row *r)
{
	if (region.pa >> 30 != spare.pa >> 30) {
		row_skip("no two blocks in one GiB");
		return;
	}
	assign(region.pa, 0, 0, true);
	works(HOST_1G_VA + (spare.pa & 0x3fffffff) + 0x100, 9);
	page_reset(region.pa);
}

static void write_rmp_2m(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .asid = ASID_LAUNCH, .gpa = 0x40000000 };

	rmpupdate_raw(region.pa, a);
	faults(HOST_4K_VA + r->a * PAGE_SIZE, 7);
	faults(HOST_2M_VA + r->a * PAGE_SIZE, 7);
	block_reset(&region);
	works(HOST_2M_VA + r->a * PAGE_SIZE, 8);
}

static void rmp_page(const struct row *r)
{
	u64 pa = rmp_base + r->a, va = host_map(pa & PAGE_MASK), before;

	va += pa & ~PAGE_MASK;
	before = host_op(OP_LOAD, 0, 0, 0, va);
	same("vector of the read", host_mbox->vector, -1);
	faults(va, before + 1);
	same("contents", host_op(OP_LOAD, 0, 0, 0, va), before);
	same("state", rmp_lo(pa), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK);
}

static void iommu_pages(const struct row *r)
{
	u64 pa = state_page(ST_IOMMU);

	if (!check(pa))
		return;
	same("entry", rmp_lo(pa), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK | 0x2000000001ULL << 12);
	faults(host_map(pa), 0);
}

/* a: table whose page is assigned; b: 1 write */
static void table_access(const struct row *r)
{
	u64 table = r->a ? host_pd : host_pt;

	assign(table, ASID_LAUNCH, ST_GPA, false);
	announce("host-fault");
	host_op(r->b ? OP_STORE : OP_LOAD, 0, 0, 0, HOST_PT_VA + 0x3000);
	same("vector", host_mbox->vector, 14);
	same("RMP bit", host_mbox->error & PF_RMP, PF_RMP);
	same("present bit", host_mbox->error & 1, 1);
	same("CR2", host_mbox->cr2, HOST_PT_VA + 0x3000);
	unassign(table);
	works(HOST_PT_VA + 0x3000, 5);
}

static void tlb(const struct row *r)
{
	int i;

	for (i = 0; i < 3; i++) {
		works(HOST_4K_VA + 0x2000, i);
		assign(region.pa + 0x2000, ASID_LAUNCH, ST_GPA, false);
		faults(HOST_4K_VA + 0x2000, 99);
		unassign(region.pa + 0x2000);
	}
}

/* copy_to_kernel_nofault() isn't exported; this is what it is made of. */
static int put_nofault(u64 *p, u64 v)
{
	__put_kernel_nofault(p, &v, u64, fault);
	return 0;
fault:
	return -EFAULT;
}

/* The other processor writes through a mapping that it has in its TLB until the page is gone. */
struct writer {
	struct work_struct work;
	u64 *p;
	bool started, stop, faulted;
	u64 n;
};

static void writes(struct work_struct *work)
{
	struct writer *w = container_of(work, struct writer, work);
	u64 v;

	while (!READ_ONCE(w->stop) && !w->faulted) {
		v = w->n + 1;
		if (put_nofault(w->p, v))
			w->faulted = true;
		else
			w->n = v;
		WRITE_ONCE(w->started, true);
	}
}

static void tlb_other(const struct row *r)
{
	struct writer w = { .p = page_va(region.pa + 0x3000) };
	int cpu, i;
	u64 v;

	migrate_disable();
	cpu = cpumask_any_but(cpu_online_mask, smp_processor_id());
	if (cpu >= nr_cpu_ids) {
		row_skip("one processor");
		migrate_enable();
		return;
	}
	INIT_WORK_ONSTACK(&w.work, writes);
	schedule_work_on(cpu, &w.work);
	for (i = 0; i < 10000000 && !READ_ONCE(w.started); i++)
		cpu_relax();
	check(READ_ONCE(w.started));
	announce("host-fault");
	assign(region.pa + 0x3000, ASID_LAUNCH, ST_GPA, false);
	/* What the page has after RMPUPDATE must stay. */
	v = READ_ONCE(*w.p);
	for (i = 0; i < 10000000 && !READ_ONCE(w.faulted); i++)
		cpu_relax();
	check(w.faulted);
	same("contents", READ_ONCE(*w.p), v);
	WRITE_ONCE(w.stop, true);
	flush_work(&w.work);
	destroy_work_on_stack(&w.work);
	unassign(region.pa + 0x3000);
	migrate_enable();
}

/* The kernel's own way to survive such a fault. */
static void nofault(const struct row *r)
{
	u64 v = 1;
	u64 *p = page_va(region.pa);

	assign(region.pa, ASID_LAUNCH, ST_GPA, false);
	if (r->a) {
		announce("host-fault");
		same("__put_kernel_nofault", put_nofault(p, v), -EFAULT);
	} else {
		same("copy_from_kernel_nofault", copy_from_kernel_nofault(&v, p, sizeof(v)), 0);
	}
	unassign(region.pa);
}

/* a: state of the page, b: vector or -1 */
static void vmsave(const struct row *r)
{
	u64 pa = page_alloc();

	state_make(pa, r->a);
	if ((s64)r->b >= 0)
		announce("vmsave");
	host_op(OP_VMSAVE, pa, 0, 0, 0);
	same("vector", host_mbox->vector, r->b);
	if ((s64)r->b >= 0)
		same("error code", host_mbox->error, 0);
	page_free(pa);
}

static void hsave(const struct row *r)
{
	u64 pa = page_alloc(), old;
	unsigned long flags;

	state_make(pa, r->a);
	local_irq_save(flags);
	rdmsrq(MSR_VM_HSAVE_PA, old);
	if ((s64)r->b >= 0)
		announce("wrmsr");
	host_op(OP_WRMSR, lower_32_bits(pa), MSR_VM_HSAVE_PA, upper_32_bits(pa), 0);
	same("vector", host_mbox->vector, r->b);
	wrmsrq(MSR_VM_HSAVE_PA, old);
	local_irq_restore(flags);
	page_free(pa);
}

/* a: MSR, b: 1 if it is only to be read */
static void msr_gp(const struct row *r)
{
	u64 old = 0;

	host_op(OP_RDMSR, 0, r->a, 0, 0);
	if (HOST_OK)
		old = (host_mbox->out_rdx & 0xffffffff) << 32 | (host_mbox->out_rax & 0xffffffff);
	if (r->b)
		same("vector of RDMSR", host_mbox->vector, 13);
	else
		announce("wrmsr");
	host_op(OP_WRMSR, lower_32_bits(old), r->a, upper_32_bits(old), 0);
	same("vector", host_mbox->vector, 13);
	same("error code", host_mbox->error, 0);
}

static void syscfg_locked(const struct row *r)
{
	u64 v, now;

	rdmsrq(MSR_AMD64_SYSCFG, v);
	same("MEM_ENCRYPT, SNP_EN, VMPL_EN, MFDM", v & (BIT(23) | BIT(24) | BIT(25) | BIT(19)),
	     BIT(23) | BIT(24) | BIT(25) | BIT(19));
	host_op(OP_WRMSR, lower_32_bits(v ^ r->a), MSR_AMD64_SYSCFG, upper_32_bits(v), 0);
	same("vector", host_mbox->vector, -1);
	rdmsrq(MSR_AMD64_SYSCFG, now);
	same("SYSCFG", now, v);
}

static void smmlock(const struct row *r)
{
	u64 v;

	rdmsrq(MSR_K7_HWCR, v);
	same("SMMLOCK", v & 1, 1);
}

#define T39	"APM 15.36.10, table 15-39"

static const struct row rows[] = {
	{ "host.write_firmware", T39, write_4k, ST_FIRMWARE },
	{ "host.write_context", T39, write_4k, ST_CONTEXT },
	{ "host.write_reclaim", T39, write_4k, ST_RECLAIM },
	{ "host.write_pre_guest", T39, write_4k, ST_PRE_GUEST },
	{ "host.write_pre_swap", T39, write_4k, ST_PRE_SWAP },
	{ "host.write_guest_invalid", T39, write_4k, ST_INVALID },
	{ "host.write_guest_valid", T39, write_4k, ST_VALID },
	{ "host.write_hypervisor", T39, hypervisor_page },
	{ "host.write_neighbours", T39, neighbours },
	{ "host.write_across_pages", T39, crossing },
	{ "host.fetch_firmware", T39, fetch, ST_FIRMWARE },
	{ "host.fetch_guest_invalid", T39, fetch, ST_INVALID },
	{ "host.write_2m_other_page", T39 " (2 MiB)", write_large, 9, 0 },
	{ "host.write_2m_same_page", T39 " (2 MiB)", write_large, 9, 9 },
	{ "host.write_2m_only_head_assigned", T39 " (2 MiB); amdsev#245", write_large, 0, 511 },
	{ "host.write_2m_only_last_assigned", T39 " (2 MiB)", write_large, 511, 0 },
	{ "host.write_1g_same_2m", T39 " (1 GiB as 2 MiB)", write_large, 9, 0, 1 },
	{ "host.write_1g_elsewhere", T39 " (1 GiB as 2 MiB)", write_1g_elsewhere },
	{ "host.write_2m_entry_head", T39, write_rmp_2m, 0 },
	{ "host.write_2m_entry_middle", T39, write_rmp_2m, 77 },
	{ "host.write_rmp_entries", "FW configure_rmp; " T39, rmp_page, 0x4000 },
	{ "host.write_rmp_counters", "FW configure_rmp; " T39, rmp_page, 0x8 },
	{ "host.write_iommu_log", "FW set_iommu_table_state; amdsev#109", iommu_pages },
	{ "host.page_table_read", T39 " (page-table access)", table_access, 0, 0 },
	{ "host.page_table_write", T39 " (page-table access)", table_access, 0, 1 },
	{ "host.page_directory_read", T39 " (page-table access)", table_access, 1, 0 },
	{ "host.tlb_flushed", "MIT 1721.1/164204", tlb },
	{ "host.tlb_flushed_elsewhere", "MIT 1721.1/164204", tlb_other },
	{ "host.put_kernel_nofault", T39, nofault, 1 },
	{ "host.copy_from_kernel_nofault", T39, nofault, 0 },
	{ "host.vmsave_hypervisor", "APM 15.36.12", vmsave, ST_HV, -1ULL },
	{ "host.vmsave_firmware", "APM 15.36.12", vmsave, ST_FIRMWARE, 13 },
	{ "host.vmsave_guest", "APM 15.36.12", vmsave, ST_INVALID, 13 },
	{ "host.hsave_hypervisor", "APM 15.36.12", hsave, ST_HV, -1ULL },
	{ "host.hsave_firmware", "APM 15.36.12", hsave, ST_FIRMWARE, 13 },
	{ "host.hsave_guest", "APM 15.36.12", hsave, ST_VALID, 13 },
	{ "msr.ghcb_in_host", "APM 15.35.7", msr_gp, 0xc0010130, 1 },
	{ "msr.fixed_mtrr_64k", "APM 15.36.2", msr_gp, 0x250 },
	{ "msr.fixed_mtrr_4k", "APM 15.36.2", msr_gp, 0x26f },
	{ "msr.iorr_base", "APM 15.36.2", msr_gp, 0xc0010016 },
	{ "msr.top_mem", "APM 15.36.2", msr_gp, 0xc001001a },
	{ "msr.top_mem2", "APM 15.36.2", msr_gp, 0xc001001d },
	{ "msr.smm_key", "APM 15.36.2", msr_gp, 0xc0010119 },
	{ "msr.syscfg_snp_locked", "APM 15.36.2", syscfg_locked, BIT(24) },
	{ "msr.syscfg_mfdm_locked", "APM 15.36.2", syscfg_locked, BIT(19) },
	{ "msr.syscfg_mem_encrypt_locked", "APM 15.36.2", syscfg_locked, BIT(23) },
	{ "msr.hwcr_smmlock", "APM 15.34.3", smmlock },
};

const struct group group_host = { "host", rows, ARRAY_SIZE(rows), launch_init, launch_exit };
