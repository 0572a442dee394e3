// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of the tests, the RMP, and single instructions on the host.
 */
#include <linux/bitmap.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <asm/desc.h>
#include <asm/msr.h>
#include <asm/tlbflush.h>
#include "snp_rows.h"

#define MSR_RMP_BASE	0xc0010132
#define MSR_RMP_END	0xc0010133
#define RMP_ENTRIES	0x4000		/* APM 15.36.4: the counters come first */
#define IOMMU_MARKER	(0x2000000001ULL << 12)

struct block region, guest_mem, spare;
static struct block pool;
static DECLARE_BITMAP(pool_used, BLOCK_PAGES);

u64 rmp_base, rmp_end, rmp_pages;
static u8 *rmp_table;
static u64 iommu_page;

u64 host_pt, host_pd;
struct mbox *host_mbox;
static u64 host_pgd, host_entry;
static gate_desc *host_idt;

extern char ops_begin[], ops_end[], ops_call[], ops_vectors[];

static int block_alloc(struct block *b)
{
	struct page **pages;
	int i;

	b->page = alloc_pages(GFP_KERNEL | __GFP_ZERO, 9);
	pages = kmalloc_array(BLOCK_PAGES, sizeof(*pages), GFP_KERNEL);
	if (!b->page || !pages)
		return -ENOMEM;
	for (i = 0; i < BLOCK_PAGES; i++)
		pages[i] = b->page + i;
	b->pa = page_to_phys(b->page);
	b->va = vmap(pages, BLOCK_PAGES, VM_MAP, PAGE_KERNEL);
	kfree(pages);
	return b->va ? 0 : -ENOMEM;
}

static void block_free(struct block *b)
{
	if (!b->va)
		return;
	/* A page that the hypervisor doesn't own must not go back to the kernel. */
	if (block_reset(b)) {
		vunmap(b->va);
		__free_pages(b->page, 9);
	}
	b->va = NULL;
}

u64 page_alloc(void)
{
	int i = find_first_zero_bit(pool_used, BLOCK_PAGES);

	if (i >= BLOCK_PAGES)
		panic("snp_rows: out of pages");
	__set_bit(i, pool_used);
	memset(pool.va + i * PAGE_SIZE, 0, PAGE_SIZE);
	return pool.pa + i * PAGE_SIZE;
}

void page_free(u64 pa)
{
	if (pa && check_at(__LINE__, "a page goes back to the pool unassigned", page_reset(pa)))
		__clear_bit((pa - pool.pa) / PAGE_SIZE, pool_used);
}

void *page_va(u64 pa)
{
	struct block *all[] = { &pool, &region, &guest_mem, &spare };
	int i;

	for (i = 0; i < ARRAY_SIZE(all); i++)
		if (pa >= all[i]->pa && pa < all[i]->pa + BLOCK_PAGES * PAGE_SIZE)
			return all[i]->va + (pa - all[i]->pa);
	return NULL;
}

/* ---- the RMP ---- */

struct rmp rmp_read(u64 pa)
{
	struct rmp r = {}, *e = (struct rmp *)(rmp_table + RMP_ENTRIES) + (pa >> PAGE_SHIFT);

	if (pa >> PAGE_SHIFT < rmp_pages) {
		r.lo = READ_ONCE(e->lo);
		r.hi = READ_ONCE(e->hi);
	}
	return r;
}

u64 rmp_count(u32 asid)
{
	return READ_ONCE(((u64 *)rmp_table)[asid]);
}

static const char * const state_names[ST_MAX] = {
	"hypervisor", "firmware", "reclaim", "pre_guest", "pre_swap", "guest_invalid", "guest_valid", "context",
	"hv_fixed", "firmware_iommu", "rmp",
};

const char *state_name(enum state s)
{
	return state_names[s];
}

bool assign(u64 pa, u32 asid, u64 gpa, bool immutable)
{
	struct rmpupdate_arg a = { .gpa = gpa, .assigned = 1, .immutable = immutable, .asid = asid };

	return same_at(__LINE__, "RMPUPDATE (assign)", rmpupdate_raw(pa, a), 0);
}

bool unassign(u64 pa)
{
	struct rmpupdate_arg a = {};

	return same_at(__LINE__, "RMPUPDATE (unassign)", rmpupdate_raw(pa, a), 0);
}

bool state_make(u64 pa, enum state s)
{
	struct sev_data_snp_addr addr = { .address = pa };

	switch (s) {
	case ST_HV:
		return true;
	case ST_FIRMWARE:
		return assign(pa, 0, 0, true);
	case ST_RECLAIM:
		return assign(pa, 0, 0, true) && same_at(__LINE__, "PAGE_RECLAIM", snp_reclaim(pa, false), 0);
	case ST_PRE_GUEST:
		return assign(pa, ASID_LAUNCH, ST_GPA, true);
	case ST_INVALID:
		return assign(pa, ASID_LAUNCH, ST_GPA, false);
	case ST_VALID:
	case ST_PRE_SWAP:
		if (!assign(pa, ASID_LAUNCH, ST_GPA, true) ||
		    launch_update(&launch, pa, SNP_PAGE_TYPE_UNMEASURED, false, 0, 0))
			return false;
		return s == ST_VALID || assign(pa, ASID_LAUNCH, ST_GPA, true);
	case ST_CONTEXT:
		return assign(pa, 0, 0, true) && psp_ok(SEV_CMD_SNP_GCTX_CREATE, &addr, sizeof(addr));
	default:
		return false;
	}
}

u64 state_page(enum state s)
{
	u64 pa;

	switch (s) {
	case ST_FIXED:
		return 0xa0000;
	case ST_IOMMU:
		return iommu_page;
	case ST_RMP:
		return rmp_base + 2 * PAGE_SIZE;
	default:
		pa = page_alloc();
		state_make(pa, s);
		return pa;
	}
}

void state_free(u64 pa, enum state s)
{
	if (s < ST_FIXED)
		page_free(pa);
}

bool page_reset(u64 pa)
{
	struct rmpupdate_arg none = {};
	struct rmp e = rmp_read(pa);

	if (!(e.lo & LO_ASSIGNED))
		return !(e.lo & LO_IMMUTABLE);
	if (e.lo & LO_IMMUTABLE) {
		if (!(e.lo & LO_ASID) && (e.lo & LO_VMSA))
			snp_decommission(pa);
		snp_reclaim(pa, false);
	}
	rmpupdate_raw(pa, none);
	return !(rmp_read(pa).lo & (LO_ASSIGNED | LO_IMMUTABLE));
}

bool block_reset(struct block *b)
{
	struct rmp e = rmp_read(b->pa);
	bool ok = true;
	int i;

	if ((e.lo & LO_ASSIGNED) && (e.lo & LO_2M)) {
		if (e.lo & LO_IMMUTABLE)
			snp_reclaim(b->pa, true);
		psmash_raw(b->pa);
	}
	for (i = 0; i < BLOCK_PAGES; i++)
		ok &= page_reset(b->pa + i * PAGE_SIZE);
	return ok;
}

/* ---- instructions on the host ---- */

#define PTE_RW		(_PAGE_PRESENT | _PAGE_RW | _PAGE_ACCESSED | _PAGE_DIRTY)
#define PTE_TABLE	(_PAGE_PRESENT | _PAGE_RW | _PAGE_ACCESSED)

static void put(u64 table, u64 va, int level, u64 pte)
{
	((u64 *)page_va(table))[(va >> (12 + 9 * level)) & 511] = pte;
}

/* The table below, made if it isn't there. */
static u64 below(u64 table, u64 va, int level)
{
	u64 *e = (u64 *)page_va(table) + ((va >> (12 + 9 * level)) & 511);

	if (!(*e & _PAGE_PRESENT))
		*e = page_alloc() | PTE_TABLE;
	return *e & GENMASK_ULL(51, 12);
}

static u64 map_4k(u64 va, u64 pa)
{
	u64 t = below(below(below(host_pgd, va, 3), va, 2), va, 1);

	put(t, va, 0, pa | PTE_RW);
	return t;
}

u64 host_map(u64 pa)
{
	map_4k(HOST_ANY_VA, pa & PAGE_MASK);
	return HOST_ANY_VA + (pa & ~PAGE_MASK);
}

static int host_tables(void)
{
	u64 code = page_alloc(), code2 = page_alloc(), mbox = page_alloc(), idt = page_alloc();
	u64 *kernel, *mine, t;
	int i;

	host_pgd = page_alloc();
	mine = page_va(host_pgd);
	kernel = __va(__read_cr3() & GENMASK_ULL(51, 12));
	for (i = 256; i < 512; i++)
		mine[i] = kernel[i];

	memcpy(page_va(code), ops_begin, min_t(size_t, ops_end - ops_begin, PAGE_SIZE));
	if (ops_end - ops_begin > PAGE_SIZE)
		return -E2BIG;
	map_4k(CODE_VA, code);
	map_4k(CODE_VA + PAGE_SIZE, code2);
	map_4k(MBOX_VA, mbox);
	host_mbox = page_va(mbox);
	host_entry = CODE_VA + (ops_call - ops_begin);

	for (i = 0; i < BLOCK_PAGES; i++) {
		map_4k(HOST_4K_VA + i * PAGE_SIZE, region.pa + i * PAGE_SIZE);
		host_pt = map_4k(HOST_PT_VA + i * PAGE_SIZE, region.pa + i * PAGE_SIZE);
	}
	t = below(below(host_pgd, HOST_2M_VA, 3), HOST_2M_VA, 2);
	put(t, HOST_2M_VA, 1, region.pa | PTE_RW | _PAGE_PSE);
	host_pd = t;
	t = below(host_pgd, HOST_1G_VA, 3);
	put(t, HOST_1G_VA, 2, (region.pa & GENMASK_ULL(51, 30)) | PTE_RW | _PAGE_PSE);

	host_idt = page_va(idt);
	for (i = 0; i < 32; i++)
		pack_gate(&host_idt[i], GATE_INTERRUPT, CODE_VA + (ops_vectors - ops_begin) + 16 * i, 0, 0,
			  __KERNEL_CS);
	return 0;
}

void host_run(void)
{
	struct desc_ptr idt = { .size = 32 * sizeof(gate_desc) - 1, .address = (unsigned long)host_idt };
	struct desc_ptr old;
	unsigned long flags, cr3;

	host_mbox->flags = X86_EFLAGS_FIXED;
	local_irq_save(flags);
	store_idt(&old);
	cr3 = __read_cr3();
	load_idt(&idt);
	native_write_cr3(host_pgd);
	((void (*)(void))host_entry)();
	native_write_cr3(cr3);
	load_idt(&old);
	local_irq_restore(flags);
}

u64 host_op(int op, u64 rax, u64 rcx, u64 rdx, u64 rdi)
{
	host_mbox->op = op;
	host_mbox->rax = rax;
	host_mbox->rcx = rcx;
	host_mbox->rdx = rdx;
	host_mbox->rdi = rdi;
	host_run();
	return host_mbox->out_rax;
}

u64 rmpupdate_raw(u64 spa, struct rmpupdate_arg a)
{
	/* On the kernel's stack, which is mapped in both. */
	u64 s = host_op(OP_RMPUPDATE, spa, (unsigned long)&a, 0, 0);

	return HOST_OK ? s & 0xffffffff : ~0ULL;
}

u64 rmpupdate_want(u64 spa, struct rmpupdate_arg a, u64 want)
{
	if (want)
		announce("rmpupdate spa %llx rmp", spa);
	return rmpupdate_raw(spa, a);
}

u64 psmash_raw(u64 spa)
{
	u64 s = host_op(OP_PSMASH, spa, 0, 0, 0);

	return HOST_OK ? s & 0xffffffff : ~0ULL;
}

u64 psmash_want(u64 spa, u64 want)
{
	if (want)
		announce("psmash spa %llx rmp", spa);
	return psmash_raw(spa);
}

static void find_iommu_page(void)
{
	u64 pa;

	for (pa = 0; pa < rmp_pages << PAGE_SHIFT; pa += PAGE_SIZE) {
		u64 lo = rmp_read(pa).lo;

		if ((lo & LO_ASSIGNED) && (lo & LO_GPA) == IOMMU_MARKER) {
			iommu_page = pa;
			return;
		}
	}
}

/* VMRUN, VMSAVE and the like work whether or not KVM has switched them on. */
static DEFINE_PER_CPU(u64, old_efer);

static void svm_on(void *unused)
{
	u64 efer;

	rdmsrq(MSR_EFER, efer);
	__this_cpu_write(old_efer, efer);
	wrmsrq(MSR_EFER, efer | EFER_SVME);
}

static void svm_restore(void *unused)
{
	wrmsrq(MSR_EFER, __this_cpu_read(old_efer));
}

int rows_mem_init(void)
{
	int ret;

	rdmsrq(MSR_RMP_BASE, rmp_base);
	rdmsrq(MSR_RMP_END, rmp_end);
	if (!rmp_base || rmp_end <= rmp_base) {
		pr_err("snp_rows: no RMP\n");
		return -ENODEV;
	}
	rmp_pages = (rmp_end + 1 - rmp_base - RMP_ENTRIES) / 16;
	rmp_table = memremap(rmp_base, rmp_end + 1 - rmp_base, MEMREMAP_WB);
	if (!rmp_table)
		return -ENOMEM;
	ret = block_alloc(&pool) ?: block_alloc(&region) ?: block_alloc(&guest_mem) ?: block_alloc(&spare);
	if (!ret)
		ret = host_tables();
	if (!ret) {
		find_iommu_page();
		on_each_cpu(svm_on, NULL, 1);
	}
	return ret;
}

void rows_mem_exit(void)
{
	if (host_idt)
		on_each_cpu(svm_restore, NULL, 1);
	/* The pool last: resetting the others takes the instructions, whose page tables lie there. */
	block_free(&region);
	block_free(&guest_mem);
	block_free(&spare);
	if (pool.va) {
		bool ok = host_mbox && block_reset(&pool);

		if (!host_mbox || ok) {
			vunmap(pool.va);
			__free_pages(pool.page, 9);
		}
	}
	if (rmp_table)
		memunmap(rmp_table);
}
