// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for guest_memfd of TDX VMs: what becomes of the S-EPT.  This is part of
 * tdx.c.
 *
 * The TDX module is replaced, at the SEAMCALL instruction, by a model of what a TD's
 * memory has to do with: S-EPT leaf entries, the type of each page (PAMT), TLB tracking,
 * and the TD's life cycle.  A vCPU runs in the TD whenever KVM lets it.  The model fails
 * the test on any step that the TDX module would refuse, unless the test has asked for
 * an error, and on host accesses to a page of the guest, which it finds out as it fills
 * such pages with "ciphertext".  KVM's page tables are replaced too; the code between
 * them and the TDX module is the real one.
 *
 * The rules are from the "Intel TDX Module Base Architecture Specification" (BAS) and the
 * "Intel TDX Module ABI Reference Specification" (ABI), of which the name of the SEAMCALL
 * is the section.
 */
#include "../../virt/vmx/tdx/tdx.h"
#include "../../virt/vmx/tdx/seamcall_internal.h"
#include "../../../../virt/kvm/guest_memfd_kunit.h"

#define TDX_TEST_HKID		33
#define TDX_TEST_TDCS_PAGES	2
#define CIPHERTEXT		0xc5

/* ABI, "Page Types"; PT_NDA: no page of a TD. */
#define PT_REG			3
#define PT_TDR			4
#define PT_TDCX			5

/* ABI, "Interface Function Completion Status Codes", as far as KVM doesn't know them. */
#define TDX_TD_ASSOCIATED_PAGES_EXIST	0xC000040000000000ULL
#define TDX_LIFECYCLE_STATE_INCORRECT	0xC000060700000000ULL
#define TDX_OP_STATE_INCORRECT		0xC000060800000000ULL
#define TDX_WBCACHE_NOT_COMPLETE	0x8000081700000000ULL
#define TDX_GPA_RANGE_NOT_BLOCKED	0xC0000B0600000000ULL
#define TDX_TLB_TRACKING_NOT_DONE	0xC0000B0800000000ULL

#define NR_LEAVES		64

/* BAS, "TD Life Cycle State Machine" */
enum model_life_cycle {
	MODEL_KEYS_CONFIGURED,
	MODEL_BLOCKED,
	MODEL_TEARDOWN,
};

struct model_sept_entry {
	kvm_pfn_t pfn;
	bool blocked;
	u8 image;
	/* KVM's page table has it too. */
	bool mirrored;
};

struct model_page {
	u8 type;
	/* The TD's epoch when the page was blocked. */
	u64 bepoch;
};

struct tdx_test {
	struct gmem_kunit g;	/* first, see there */
	struct kvm_tdx *tdx;
	struct vcpu_tdx *vcpu;

	/* By gfn: what the S-EPT maps, and what KVM's page table for shared memory does. */
	struct xarray sept;
	struct xarray shared;
	/* By pfn: pages of the TD; lines of the TD's key, and of key 0, in the caches. */
	struct xarray pages;
	struct xarray dirty;
	struct xarray flushed;

	enum model_life_cycle life_cycle;
	bool finalized, caches_written, key_free;
	unsigned long child_count;
	u64 epoch;

	/* The vCPU runs when it may; what it holds then, as an operand ID, makes these busy. */
	bool vcpu_runs;
	u64 vcpu_epoch;
	u64 vcpu_holds[NR_LEAVES];

	/* Of each SEAMCALL: how often it was called and was successful, what to return once. */
	int called[NR_LEAVES], done[NR_LEAVES];
	u64 fail[NR_LEAVES];

	/* What was added, by the first byte of each page, and what of that was measured. */
	u8 image[GMEM_KUNIT_PAGES], measured[GMEM_KUNIT_PAGES];
	int nr_measured;
	struct page *source;

	/* A page that KVM keeps as it can't be unmapped. */
	kvm_pfn_t kept;
	/* What goes wrong at the end: unmapping it, reclaiming it, freeing the key. */
	bool kept_at_exit, never_reclaimed, key_leaked;
};

static struct tdx_test *tdx_test_of(struct kunit *test)
{
	return test->priv;
}

/* Whether the guest executes.  TDH.VP.ENTER joins the TD's present epoch. */
static bool model_vcpu_is_in_guest(struct tdx_test *t)
{
	if (!t->vcpu_runs)
		return false;

	/* It has not been kicked out since it was looked at. */
	if (t->vcpu->vcpu.mode == IN_GUEST_MODE)
		return true;

	if (t->tdx->wait_for_sept_zap)
		return false;

	t->vcpu->vcpu.mode = IN_GUEST_MODE;
	t->vcpu_epoch = t->epoch;
	return true;
}

/* Whether a vCPU runs with addresses that were translated in @epoch or before it. */
static bool model_vcpus_run_in(struct tdx_test *t, u64 epoch)
{
	return model_vcpu_is_in_guest(t) && t->vcpu_epoch <= epoch;
}

static u8 model_page_type(struct tdx_test *t, kvm_pfn_t pfn)
{
	struct model_page *page = xa_load(&t->pages, pfn);

	return page ? page->type : PT_NDA;
}

static void model_set_page_type(struct kunit *test, kvm_pfn_t pfn, u8 type)
{
	struct tdx_test *t = tdx_test_of(test);
	struct model_page *page;

	if (type == PT_NDA) {
		kfree(xa_erase(&t->pages, pfn));
		return;
	}

	page = kzalloc_obj(*page, GFP_ATOMIC);
	KUNIT_ASSERT_NOT_NULL(test, page);
	page->type = type;
	KUNIT_ASSERT_EQ(test, 0, xa_err(xa_store(&t->pages, pfn, page, GFP_ATOMIC)));
}

/* TDH.MEM.PAGE.ADD and TDH.MEM.PAGE.AUG, of pages of 4K */
static u64 model_map_page(struct kunit *test, struct tdx_module_args *args, u8 image)
{
	struct tdx_test *t = tdx_test_of(test);
	gfn_t gfn = gpa_to_gfn(args->rcx);
	kvm_pfn_t pfn = PHYS_PFN(args->r8);
	struct model_sept_entry *e;

	/* Of the S-EPT entry FREE is required, of the page PT_NDA. */
	if (xa_load(&t->sept, gfn))
		return TDX_EPT_ENTRY_STATE_INCORRECT | TDX_OPERAND_ID_RCX;
	if (model_page_type(t, pfn) != PT_NDA)
		return TDX_PAGE_METADATA_INCORRECT;

	KUNIT_EXPECT_FALSE_MSG(test, folio_mapped(pfn_folio(pfn)), "the host still maps the page");
	KUNIT_EXPECT_NULL_MSG(test, xa_load(&t->dirty, pfn), "page was never written back");
	/* BAS, "Platform Configuration": required if CLFLUSH_BEFORE_ALLOC says so. */
	KUNIT_EXPECT_NOT_NULL_MSG(test, xa_erase(&t->flushed, pfn), "the host's lines are cached");

	e = kzalloc_obj(*e, GFP_ATOMIC);
	KUNIT_ASSERT_NOT_NULL(test, e);
	e->pfn = pfn;
	e->image = image;
	e->mirrored = true;
	KUNIT_ASSERT_EQ(test, 0, xa_err(xa_store(&t->sept, gfn, e, GFP_ATOMIC)));
	model_set_page_type(test, pfn, PT_REG);
	t->child_count++;
	memset(pfn_to_kaddr(pfn), CIPHERTEXT, PAGE_SIZE);
	return TDX_SUCCESS;
}

static u64 model_mem_page_add(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);
	struct page *source = pfn_to_page(PHYS_PFN(args->r9));
	u8 image = *(u8 *)page_address(source);
	u64 err;

	/* Only before TDH.MR.FINALIZE, see ABI. */
	if (t->finalized)
		return TDX_OP_STATE_INCORRECT;

	err = model_map_page(test, args, image);
	if (!err) {
		t->source = source;
		t->image[t->done[TDH_MEM_PAGE_ADD]] = image;
	}
	return err;
}

static u64 model_mem_page_aug(struct kunit *test, struct tdx_module_args *args)
{
	if (!tdx_test_of(test)->finalized)
		return TDX_OP_STATE_INCORRECT;
	return model_map_page(test, args, 0);
}

/* A chunk of 256 bytes of a page that was added. */
static u64 model_mr_extend(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);
	struct model_sept_entry *e = xa_load(&t->sept, gpa_to_gfn(args->rcx));

	if (t->finalized)
		return TDX_OP_STATE_INCORRECT;
	if (!e || e->blocked)
		return TDX_EPT_ENTRY_STATE_INCORRECT | TDX_OPERAND_ID_RCX;
	if (!offset_in_page(args->rcx))
		t->measured[t->nr_measured++] = e->image;
	return TDX_SUCCESS;
}

static u64 model_mr_finalize(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);

	if (t->finalized)
		return TDX_OP_STATE_INCORRECT;
	t->finalized = true;
	return TDX_SUCCESS;
}

static u64 model_mem_range_block(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);
	struct model_sept_entry *e = xa_load(&t->sept, gpa_to_gfn(args->rcx));
	struct model_page *page;

	if (!e || e->blocked)
		return TDX_EPT_ENTRY_STATE_INCORRECT | TDX_OPERAND_ID_RCX;

	e->blocked = true;
	page = xa_load(&t->pages, e->pfn);
	page->bepoch = t->epoch;
	return TDX_SUCCESS;
}

/* BAS, "TLB Tracking": of two epochs only, the last and the present one, vCPUs are counted. */
static u64 model_mem_track(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);

	if (model_vcpus_run_in(t, t->epoch - 1))
		return TDX_PREVIOUS_TLB_EPOCH_BUSY;
	t->epoch++;
	return TDX_SUCCESS;
}

static u64 model_mem_page_remove(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);
	gfn_t gfn = gpa_to_gfn(args->rcx);
	struct model_sept_entry *e = xa_load(&t->sept, gfn);
	struct model_page *page;

	if (!e)
		return TDX_EPT_ENTRY_STATE_INCORRECT | TDX_OPERAND_ID_RCX;

	/* Nothing runs before TDH.MR.FINALIZE, so that there is nothing to track. */
	page = xa_load(&t->pages, e->pfn);
	if (t->finalized) {
		if (!e->blocked)
			return TDX_GPA_RANGE_NOT_BLOCKED | TDX_OPERAND_ID_RCX;
		if (page->bepoch >= t->epoch || model_vcpus_run_in(t, page->bepoch))
			return TDX_TLB_TRACKING_NOT_DONE | TDX_OPERAND_ID_RCX;
	}

	KUNIT_EXPECT_TRUE_MSG(test, gmem_kunit_page_is(e->pfn, CIPHERTEXT),
			      "the host has written to the guest's page");

	KUNIT_ASSERT_EQ(test, 0, xa_err(xa_store(&t->dirty, e->pfn, xa_mk_value(1), GFP_ATOMIC)));
	model_set_page_type(test, e->pfn, PT_NDA);
	t->child_count--;
	xa_erase(&t->sept, gfn);
	kfree(e);
	return TDX_SUCCESS;
}

/* The HKID is above the physical address. */
static u64 model_phymem_page_wbinvd(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);
	u64 hkid = args->rcx >> boot_cpu_data.x86_phys_bits;
	kvm_pfn_t pfn = PHYS_PFN(args->rcx & (BIT_ULL(boot_cpu_data.x86_phys_bits) - 1));

	if (model_page_type(t, pfn) != PT_NDA)
		return TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_ID_RCX;

	/* The TDR is encrypted with the TDX module's own key. */
	if (pfn == page_to_pfn(t->tdx->td.tdr_page))
		return TDX_SUCCESS;

	KUNIT_EXPECT_EQ(test, hkid, TDX_TEST_HKID);
	KUNIT_EXPECT_NOT_NULL_MSG(test, xa_erase(&t->dirty, pfn), "page was not removed before");
	KUNIT_EXPECT_TRUE_MSG(test, gmem_kunit_page_is(pfn, CIPHERTEXT),
			      "the host has written to the page too early");
	return TDX_SUCCESS;
}

/* There is no vCPU that was ever associated with a processor. */
static u64 model_mng_vpflushdone(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);

	if (t->life_cycle != MODEL_KEYS_CONFIGURED)
		return TDX_LIFECYCLE_STATE_INCORRECT;
	t->life_cycle = MODEL_BLOCKED;
	return TDX_SUCCESS;
}

/* Of all keys that no vCPU uses any more, on the one package that there is. */
static u64 model_phymem_cache_wb(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);

	if (t->life_cycle != MODEL_BLOCKED || t->caches_written)
		return TDX_NO_HKID_READY_TO_WBCACHE;
	t->caches_written = true;
	xa_destroy(&t->dirty);
	return TDX_SUCCESS;
}

static u64 model_mng_key_freeid(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);

	if (t->life_cycle != MODEL_BLOCKED)
		return TDX_LIFECYCLE_STATE_INCORRECT;
	if (!t->caches_written)
		return TDX_WBCACHE_NOT_COMPLETE;
	t->life_cycle = MODEL_TEARDOWN;
	return TDX_SUCCESS;
}

/*
 * Any page of a TD in teardown, whatever its S-EPT says; the TDR only after all others
 * (BAS, "Reclaiming Physical Pages"; TDR.CHLDCNT).
 */
static u64 model_phymem_page_reclaim(struct kunit *test, struct tdx_module_args *args)
{
	struct tdx_test *t = tdx_test_of(test);
	kvm_pfn_t pfn = PHYS_PFN(args->rcx);
	u8 type = model_page_type(t, pfn);

	if (type == PT_NDA)
		return TDX_PAGE_METADATA_INCORRECT | TDX_OPERAND_ID_RCX;
	if (t->life_cycle != MODEL_TEARDOWN)
		return TDX_LIFECYCLE_STATE_INCORRECT;
	if (type != PT_TDR)
		t->child_count--;
	else if (t->child_count)
		return TDX_TD_ASSOCIATED_PAGES_EXIST;
	model_set_page_type(test, pfn, PT_NDA);
	return TDX_SUCCESS;
}

static u64 (*const model_leaves[NR_LEAVES])(struct kunit *test, struct tdx_module_args *args) = {
	[TDH_MEM_PAGE_ADD]		= model_mem_page_add,
	[TDH_MEM_PAGE_AUG]		= model_mem_page_aug,
	[TDH_MR_EXTEND]			= model_mr_extend,
	[TDH_MR_FINALIZE]		= model_mr_finalize,
	[TDH_MEM_RANGE_BLOCK]		= model_mem_range_block,
	[TDH_MEM_TRACK]			= model_mem_track,
	[TDH_MEM_PAGE_REMOVE]		= model_mem_page_remove,
	[TDH_PHYMEM_PAGE_WBINVD]	= model_phymem_page_wbinvd,
	[TDH_MNG_VPFLUSHDONE]		= model_mng_vpflushdone,
	[TDH_PHYMEM_CACHE_WB]		= model_phymem_cache_wb,
	[TDH_MNG_KEY_FREEID]		= model_mng_key_freeid,
	[TDH_PHYMEM_PAGE_RECLAIM]	= model_phymem_page_reclaim,
};

static u64 model_seamcall(u64 fn, struct tdx_module_args *args)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);
	u64 tdr = page_to_phys(t->tdx->td.tdr_page);
	u64 err;

	if (fn >= NR_LEAVES || !model_leaves[fn]) {
		KUNIT_FAIL(test, "SEAMCALL %llu is not in the model", fn);
		return TDX_SW_ERROR;
	}

	switch (fn) {
	case TDH_MEM_PAGE_ADD:
	case TDH_MEM_PAGE_AUG:
	case TDH_MEM_RANGE_BLOCK:
	case TDH_MEM_PAGE_REMOVE:
		/* The level is in the lowest bits, and 0 for a page of 4K. */
		KUNIT_EXPECT_EQ(test, offset_in_page(args->rcx), 0);
		fallthrough;
	case TDH_MR_EXTEND:
		KUNIT_EXPECT_EQ(test, args->rdx, tdr);
		break;
	case TDH_MR_FINALIZE:
	case TDH_MEM_TRACK:
	case TDH_MNG_VPFLUSHDONE:
	case TDH_MNG_KEY_FREEID:
		KUNIT_EXPECT_EQ(test, args->rcx, tdr);
		break;
	}

	t->called[fn]++;
	if (t->fail[fn]) {
		err = t->fail[fn];
		t->fail[fn] = 0;
		return err;
	}
	if (t->vcpu_holds[fn] && model_vcpu_is_in_guest(t))
		return TDX_OPERAND_BUSY | t->vcpu_holds[fn];

	err = model_leaves[fn](test, args);
	/* An error that follows from one that the test has asked for is no surprise. */
	if (err && err != TDX_NO_HKID_READY_TO_WBCACHE && !t->g.kvm->vm_bugged)
		KUNIT_FAIL(test, "SEAMCALL %llu: 0x%llx", fn, err);
	if (!err)
		t->done[fn]++;
	return err;
}

static void model_clflush(u64 pfn)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_EQ(test, 0, xa_err(xa_store(&t->flushed, pfn, xa_mk_value(1), GFP_ATOMIC)));
}

/* The key may be another TD's from now on. */
static void model_keyid_free(unsigned int keyid)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_EXPECT_EQ(test, keyid, TDX_TEST_HKID);
	KUNIT_EXPECT_EQ(test, (int)t->life_cycle, MODEL_TEARDOWN);
	KUNIT_EXPECT_FALSE(test, t->key_free);
	t->key_free = true;
}

static u64 model_spte(kvm_pfn_t pfn)
{
	return pfn_to_hpa(pfn) | VMX_EPT_RWX_MASK;
}

/* What zapping leaf SPTEs of the mirror and of the direct root comes down to. */
static bool model_unmap(struct kvm *kvm, struct kvm_gfn_range *range)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);
	struct model_sept_entry *e;
	unsigned long gfn;
	void *entry;

	lockdep_assert_held_write(&kvm->mmu_lock);
	kvm_gmem_kunit_invalidated(kvm, range->start, range->end);

	if (range->attr_filter & KVM_FILTER_PRIVATE) {
		xa_for_each_range(&t->sept, gfn, e, range->start, range->end - 1) {
			if (!e->mirrored)
				continue;
			/* Gone for KVM, whatever the TDX module says. */
			e->mirrored = false;
			tdx_sept_remove_leaf_spte(kvm, gfn, PG_LEVEL_4K, model_spte(e->pfn));
		}
	}

	if (range->attr_filter & KVM_FILTER_SHARED) {
		xa_for_each_range(&t->shared, gfn, entry, range->start, range->end - 1)
			xa_erase(&t->shared, gfn);
	}
	return false;
}

/* As for a vCPU, an SPTE that is there already is fine, and a busy one is tried again. */
static int model_map(struct kunit *test, gfn_t gfn, kvm_pfn_t pfn, bool private)
{
	struct tdx_test *t = tdx_test_of(test);
	struct model_sept_entry *e;
	int r;

	if (!private)
		return xa_err(xa_store(&t->shared, gfn, xa_mk_value(pfn), GFP_ATOMIC));

	e = xa_load(&t->sept, gfn);
	if (e && e->mirrored)
		return 0;
	do {
		r = tdx_sept_map_leaf_spte(&t->tdx->kvm, gfn, PG_LEVEL_4K, model_spte(pfn));
	} while (r == -EBUSY);
	return r;
}

/* kvm_tdp_mmu_map_private_pfn() regards an SPTE that is there already as an error. */
static int model_map_private_pfn(struct kvm_vcpu *vcpu, gfn_t gfn, kvm_pfn_t pfn)
{
	struct kunit *test = kunit_get_current_test();
	struct model_sept_entry *e;
	int r;

	lockdep_assert_held(&vcpu->kvm->slots_lock);
	read_lock(&vcpu->kvm->mmu_lock);
	e = xa_load(&tdx_test_of(test)->sept, gfn);
	if (e && e->mirrored)
		r = -EIO;
	else
		r = model_map(test, gfn, pfn, true);
	read_unlock(&vcpu->kvm->mmu_lock);
	return r;
}

static int convert(struct kunit *test, pgoff_t first, unsigned long nr, bool to_private,
		   u64 mode)
{
	return gmem_kunit_convert(test, first, nr, to_private, mode, NULL);
}

static bool is_in_sept(struct kunit *test, pgoff_t index)
{
	return xa_load(&tdx_test_of(test)->sept, GMEM_KUNIT_GFN + index);
}

static int nr_seamcalls(struct tdx_test *t)
{
	int i, nr = 0;

	for (i = 0; i < NR_LEAVES; i++)
		nr += t->called[i];
	return nr;
}

/*
 * A vCPU that is in the guest whenever KVM doesn't keep it out, and in the way of @leaf
 * then, holding @operand.
 */
static void run_vcpu(struct tdx_test *t, u64 leaf, u64 operand)
{
	t->vcpu_runs = true;
	t->vcpu_holds[leaf] = operand;
}

static void tdx_test_free(void *tdx)
{
	vfree(tdx);
}

static int tdx_test_init(struct kunit *test)
{
	struct tdx_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	struct tdx_td *td;
	int i;

	if (!t)
		return -ENOMEM;
	test->priv = t;

	if (!kvm_caps.supported_vm_types)
		kunit_skip(test, "no vendor module has initialized KVM");

	xa_init(&t->sept);
	xa_init(&t->shared);
	xa_init(&t->pages);
	xa_init(&t->dirty);
	xa_init(&t->flushed);
	t->epoch = 1;
	t->finalized = true;

	t->tdx = vzalloc(sizeof(*t->tdx));
	if (!t->tdx)
		return -ENOMEM;
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, tdx_test_free, t->tdx), 0);
	t->tdx->hkid = TDX_TEST_HKID;
	t->tdx->state = TD_STATE_RUNNABLE;
	t->tdx->kvm.arch.gfn_direct_bits = TDX_SHARED_BIT_PWL_4;
	xa_init(&t->tdx->kept_pages);

	t->vcpu = vzalloc(sizeof(*t->vcpu));
	if (!t->vcpu)
		return -ENOMEM;
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, tdx_test_free, t->vcpu), 0);
	t->vcpu->vcpu.kvm = &t->tdx->kvm;
	t->vcpu->vcpu.cpu = -1;
	t->vcpu->state = VCPU_TD_STATE_INITIALIZED;

	kunit_activate_static_stub(test, __seamcall_ret, model_seamcall);
	kunit_activate_static_stub(test, tdx_clflush_pfn, model_clflush);
	kunit_activate_static_stub(test, tdx_guest_keyid_free, model_keyid_free);
	kunit_activate_static_stub(test, kvm_tdp_mmu_map_private_pfn, model_map_private_pfn);
	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, model_unmap);

	t->g.map = model_map;
	gmem_kunit_init(test, &t->g, &t->tdx->kvm, KVM_X86_TDX_VM, GUEST_MEMFD_FLAG_INIT_SHARED);
	t->tdx->kvm.arch.pre_fault_allowed = true;

	KUNIT_ASSERT_EQ(test, 0, xa_err(xa_store(&t->g.kvm->vcpu_array, 0, &t->vcpu->vcpu,
						 GFP_KERNEL)));
	atomic_set(&t->g.kvm->online_vcpus, 1);

	td = &t->tdx->td;
	td->tdr_page = alloc_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, td->tdr_page);
	model_set_page_type(test, page_to_pfn(td->tdr_page), PT_TDR);
	td->tdcs_pages = kzalloc_objs(*td->tdcs_pages, TDX_TEST_TDCS_PAGES);
	KUNIT_ASSERT_NOT_NULL(test, td->tdcs_pages);
	td->tdcs_nr_pages = TDX_TEST_TDCS_PAGES;
	for (i = 0; i < TDX_TEST_TDCS_PAGES; i++) {
		td->tdcs_pages[i] = alloc_page(GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, td->tdcs_pages[i]);
		model_set_page_type(test, page_to_pfn(td->tdcs_pages[i]), PT_TDCX);
		t->child_count++;
	}
	return 0;
}

static int tdx_launch_test_init(struct kunit *test)
{
	int r = tdx_test_init(test);

	if (!r) {
		tdx_test_of(test)->finalized = false;
		tdx_test_of(test)->tdx->state = TD_STATE_INITIALIZED;
		tdx_test_of(test)->tdx->kvm.arch.pre_fault_allowed = false;
	}
	return r;
}

/*
 * Destroy the TD as kvm_arch_pre_destroy_vm() and kvm_arch_destroy_vm() do.  The caches are
 * written back by a function call on one processor of each package, and the model only
 * sees what this thread does.
 */
static void tdx_test_destroy_td(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	int one_cpu = cpumask_first(cpu_online_mask);

	t->vcpu_runs = false;
	KUNIT_ASSERT_EQ(test, set_cpus_allowed_ptr(current, cpumask_of(one_cpu)), 0);
	if (t->key_leaked)
		t->fail[TDH_MNG_KEY_FREEID] = TDX_SW_ERROR;
	tdx_mmu_release_hkid(t->g.kvm);
	if (t->never_reclaimed) {
		t->fail[TDH_PHYMEM_PAGE_RECLAIM] = TDX_SW_ERROR;
		kunit_warning_suppress(test)
			tdx_vm_destroy(t->g.kvm);
	} else {
		tdx_vm_destroy(t->g.kvm);
	}
	set_cpus_allowed_ptr(current, cpu_possible_mask);
}

static void tdx_test_exit(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	struct model_sept_entry *e;
	struct model_page *page;
	bool lost, destroyed = false;
	unsigned long i;
	void *entry;

	if (!t || !t->g.file)
		return;

	if (t->kept_at_exit) {
		kunit_warning_suppress(test)
			gmem_kunit_exit(test, &t->g);
	} else {
		gmem_kunit_exit(test, &t->g);
	}

	KUNIT_EXPECT_TRUE(test, xa_empty(&t->shared));
	xa_for_each(&t->dirty, i, entry) {
		if (i != t->kept)
			KUNIT_FAIL(test, "pfn 0x%lx was never written back", i);
	}
	xa_for_each(&t->sept, i, e) {
		if (e->pfn != t->kept)
			KUNIT_FAIL(test, "gfn 0x%lx is still in the S-EPT", i);
		kfree(e);
	}

	if (t->kept) {
		struct folio *folio = pfn_folio(t->kept);

		KUNIT_EXPECT_NULL(test, folio->mapping);
		KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
		KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(t->kept, CIPHERTEXT));
		folio_get(folio);
	}

	lost = t->never_reclaimed || t->key_leaked;
	if (topology_max_packages() == 1) {
		tdx_test_destroy_td(test);
		destroyed = true;
		KUNIT_EXPECT_EQ(test, t->key_free, !t->key_leaked);
		KUNIT_EXPECT_EQ(test, t->child_count,
				lost + (t->key_leaked ? TDX_TEST_TDCS_PAGES : 0));
		KUNIT_EXPECT_EQ(test, !!t->tdx->td.tdr_page, lost);
		KUNIT_EXPECT_EQ(test, !!t->tdx->td.tdcs_pages, t->key_leaked);
		KUNIT_EXPECT_TRUE(test, xa_empty(&t->tdx->kept_pages));
		/* The TDX module isn't asked for the TDR as long as it has other pages. */
		if (t->never_reclaimed)
			KUNIT_EXPECT_EQ(test, t->called[TDH_PHYMEM_PAGE_RECLAIM],
					1 + TDX_TEST_TDCS_PAGES);
		if (t->kept)
			KUNIT_EXPECT_EQ(test, folio_ref_count(pfn_folio(t->kept)), 1 + lost);
	}

	/* What KVM has leaked on purpose. */
	if (t->kept) {
		if (lost || !destroyed)
			folio_put(pfn_folio(t->kept));
		folio_put(pfn_folio(t->kept));
	}
	if (t->tdx->td.tdcs_pages) {
		for (i = 0; i < TDX_TEST_TDCS_PAGES; i++)
			__free_page(t->tdx->td.tdcs_pages[i]);
		kfree(t->tdx->td.tdcs_pages);
	}
	if (t->tdx->td.tdr_page)
		__free_page(t->tdx->td.tdr_page);

	xa_for_each(&t->pages, i, page)
		kfree(page);
	xa_destroy(&t->tdx->kept_pages);
	xa_destroy(&t->tdx->kvm.vcpu_array);
	xa_destroy(&t->sept);
	xa_destroy(&t->shared);
	xa_destroy(&t->pages);
	xa_destroy(&t->dirty);
	xa_destroy(&t->flushed);
}

/* ---- once launched ---- */

static void private_fault_maps(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 0, 1);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_AUG], 1);
	KUNIT_EXPECT_EQ(test, nr_seamcalls(t), 1);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), -EFAULT);
}

static void shared_fault_is_none_of_its_business(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EACCES);
	KUNIT_EXPECT_EQ(test, nr_seamcalls(t), 0);
}

static void to_private_calls_nothing(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 1, false), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, nr_seamcalls(t), 0);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->shared));
}

static void to_shared_removes(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 0, 4);
	KUNIT_EXPECT_EQ(test, convert(test, 1, 2, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_RANGE_BLOCK], 2);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_REMOVE], 2);
	KUNIT_EXPECT_EQ(test, t->done[TDH_PHYMEM_PAGE_WBINVD], 2);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
	KUNIT_EXPECT_FALSE(test, is_in_sept(test, 1));
	KUNIT_EXPECT_FALSE(test, is_in_sept(test, 2));
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 3));
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 1, false), 0);
}

/* Removing a page from the S-EPT destroys what the guest has in it. */
static void what_stays_private_stays_mapped(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	pgoff_t i;

	gmem_kunit_give(test, 2, 3);
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_REMOVE], 0);
	for (i = 2; i < 5; i++) {
		KUNIT_EXPECT_TRUE(test, is_in_sept(test, i));
		KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(gmem_kunit_pfn(&t->g, i), CIPHERTEXT));
	}
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->shared));
}

static void what_stays_shared_stays_mapped(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 2, 2);
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, false, 0), 0);
	KUNIT_EXPECT_NOT_NULL(test, xa_load(&t->shared, GMEM_KUNIT_GFN));
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_REMOVE], 2);
}

static void no_change_calls_nothing(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	int calls;

	gmem_kunit_give(test, 0, 2);
	calls = nr_seamcalls(t);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, true, 0), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 2, 8, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, nr_seamcalls(t), calls);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 1));
}

static void zero_of_mapped(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	/* The model looks whether the host writes before the page is written back. */
	gmem_kunit_give(test, 0, 4);
	KUNIT_EXPECT_EQ(test, convert(test, 1, 2, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 2), 0);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(gmem_kunit_pfn(&t->g, 0), CIPHERTEXT));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(gmem_kunit_pfn(&t->g, 3), CIPHERTEXT));
}

/* The TDX module has never seen the page, so only guest_memfd clears it. */
static void zero_of_never_mapped(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 7));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
	KUNIT_EXPECT_EQ(test, nr_seamcalls(t), 0);
}

static void modes_once_launched(struct kunit *test)
{
	gmem_kunit_give(test, 0, 4);
	gmem_kunit_unsupported(test, false, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_ZERO);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
	KUNIT_EXPECT_EQ(test, kvm_arch_gmem_content_modes(tdx_test_of(test)->g.kvm), 0x02010001);
}

static void round_trips(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	int i;

	for (i = 1; i <= 5; i++) {
		gmem_kunit_give(test, 0, 1);
		KUNIT_ASSERT_EQ(test, convert(test, 0, 1, false, 0), 0);
		KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
		KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_AUG], i);
		KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_REMOVE], i);
	}
}

/* The vCPU's fault is tried again, and nothing is left behind of the first attempt. */
static void aug_is_busy(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->fail[TDH_MEM_PAGE_AUG] = TDX_OPERAND_BUSY | TDX_OPERAND_ID_SEPT;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, t->called[TDH_MEM_PAGE_AUG], 2);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_REMOVE], 1);
}

/*
 * Nothing that a guest does keeps KVM from unmapping a page: a vCPU that is in the way is
 * kicked out, and kept out for as long as it takes.
 */
static void unmapping_is_busy(struct kunit *test, u64 leaf, u64 operand)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 0, 2);
	run_vcpu(t, leaf, operand);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->called[leaf], 4);
	KUNIT_EXPECT_EQ(test, t->done[leaf], 2);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_REMOVE], 2);
	KUNIT_EXPECT_FALSE(test, t->tdx->wait_for_sept_zap);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
}

static void block_is_busy(struct kunit *test)
{
	unmapping_is_busy(test, TDH_MEM_RANGE_BLOCK, TDX_OPERAND_ID_SEPT);
}

static void track_is_busy(struct kunit *test)
{
	unmapping_is_busy(test, TDH_MEM_TRACK, TDX_OPERAND_ID_TD_EPOCH);
}

static void remove_is_busy(struct kunit *test)
{
	unmapping_is_busy(test, TDH_MEM_PAGE_REMOVE, TDX_OPERAND_ID_RCX);
}

/* A vCPU that runs all the time has left the epoch in which the page was blocked. */
static void vcpu_runs(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	t->vcpu_runs = true;
	gmem_kunit_give(test, 0, 4);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 4, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->called[TDH_MEM_RANGE_BLOCK], 4);
	KUNIT_EXPECT_EQ(test, t->called[TDH_MEM_TRACK], 4);
	KUNIT_EXPECT_EQ(test, t->called[TDH_MEM_PAGE_REMOVE], 4);
	KUNIT_EXPECT_EQ(test, t->epoch, 5);
}

/* Whatever of it fails, a page may still be the guest's: the host must reach none of them. */
static void unmapping_fails(struct kunit *test, u64 *fail)
{
	struct tdx_test *t = tdx_test_of(test);
	pgoff_t error, i;

	gmem_kunit_give(test, 0, 4);
	*fail = TDX_SW_ERROR;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 4, false,
							 KVM_SET_MEMORY_ATTRIBUTES2_ZERO,
							 &error), -EIO);
	}

	KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(gmem_kunit_pfn(&t->g, 0), CIPHERTEXT));
	for (i = 0; i < 4; i++) {
		KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, i));
		KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, i), -EFAULT);
	}
	KUNIT_EXPECT_EQ(test, t->g.kvm->mmu_invalidate_in_progress, 0);
	KUNIT_EXPECT_EQ(test, convert(test, 1, 1, false, 0), -EIO);

	/* tdx_test_exit() sees that it is kept until the TD is destroyed. */
	t->kept = gmem_kunit_pfn(&t->g, 0);
}

static void block_fails(struct kunit *test)
{
	unmapping_fails(test, &tdx_test_of(test)->fail[TDH_MEM_RANGE_BLOCK]);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
}

/* Then the page can't be removed either. */
static void track_fails(struct kunit *test)
{
	unmapping_fails(test, &tdx_test_of(test)->fail[TDH_MEM_TRACK]);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
	KUNIT_EXPECT_EQ(test, tdx_test_of(test)->called[TDH_MEM_PAGE_REMOVE], 4);
	KUNIT_EXPECT_EQ(test, tdx_test_of(test)->done[TDH_MEM_PAGE_REMOVE], 3);
}

static void remove_fails(struct kunit *test)
{
	unmapping_fails(test, &tdx_test_of(test)->fail[TDH_MEM_PAGE_REMOVE]);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
}

static void wbinvd_fails(struct kunit *test)
{
	unmapping_fails(test, &tdx_test_of(test)->fail[TDH_PHYMEM_PAGE_WBINVD]);
	KUNIT_EXPECT_FALSE(test, is_in_sept(test, 0));
}

static void remove_fails_for_hole(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 0, 2);
	t->kept = gmem_kunit_pfn(&t->g, 0);
	t->fail[TDH_MEM_PAGE_REMOVE] = TDX_SW_ERROR;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 0, 2), 0);
	}
	KUNIT_EXPECT_EQ(test, folio_ref_count(pfn_folio(t->kept)), 1);
	KUNIT_EXPECT_FALSE(test, is_in_sept(test, 1));
}

static void punch_hole(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 0, 4);
	KUNIT_ASSERT_EQ(test, convert(test, 2, 1, false, 0), 0);
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 2, false), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 1, 2), 0);
	KUNIT_EXPECT_FALSE(test, is_in_sept(test, 1));
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->shared));
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_REMOVE], 2);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 3));
}

/* The page is the guest's when the last reference to the file goes. */
static void remove_fails_at_the_end(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 0, 2);
	t->kept = gmem_kunit_pfn(&t->g, 0);
	t->fail[TDH_MEM_PAGE_REMOVE] = TDX_SW_ERROR;
	t->kept_at_exit = true;
}

/* If the page can't be had even then, neither can the TDR, and nothing else is lost. */
static void reclaim_fails(struct kunit *test)
{
	remove_fails_for_hole(test);
	tdx_test_of(test)->never_reclaimed = true;
}

/* The key is still in use: no page can be had back. */
static void key_is_leaked(struct kunit *test)
{
	remove_fails_for_hole(test);
	tdx_test_of(test)->key_leaked = true;
}

/* tdx_test_exit() sees that nothing remains. */
static void close_in_every_state(struct kunit *test)
{
	gmem_kunit_mixture(test);
}

/* ---- launch ---- */

static int init_mem(struct kunit *test, gfn_t gfn, unsigned long nr, u64 source, u32 flags,
		    struct kvm_tdx_init_mem_region *after)
{
	struct kvm_tdx_init_mem_region region = {
		.source_addr = source,
		.gpa = gfn_to_gpa(gfn),
		.nr_pages = nr,
	};
	struct tdx_test *t = tdx_test_of(test);
	struct kvm_tdx_cmd cmd = {
		.id = KVM_TDX_INIT_MEM_REGION,
		.flags = flags,
		.data = (unsigned long)t->g.args,
	};
	int r;

	KUNIT_ASSERT_EQ(test, 0, copy_to_user(t->g.args, &region, sizeof(region)));

	mutex_lock(&t->g.kvm->lock);
	mutex_lock(&t->g.kvm->slots_lock);
	r = tdx_vcpu_init_mem_region(&t->vcpu->vcpu, &cmd);
	mutex_unlock(&t->g.kvm->slots_lock);
	mutex_unlock(&t->g.kvm->lock);

	KUNIT_ASSERT_EQ(test, 0, copy_from_user(&region, t->g.args, sizeof(region)));
	if (after)
		*after = region;
	return r;
}

static void modes_before_launch(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, convert(test, 0, 4, true, 0), 0);
	gmem_kunit_unsupported(test, false, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_ZERO);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 8, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
}

static void launch_in_place(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	struct kvm_tdx_init_mem_region after;
	kvm_pfn_t last;
	int i;

	/* One of them was never touched, and is measured as zeros. */
	for (i = 0; i < 4; i++) {
		if (i != 2)
			KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, i, 0x10 + i));
	}
	last = gmem_kunit_pfn(&t->g, 3);
	KUNIT_ASSERT_EQ(test, convert(test, 0, 4, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);

	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 4, 0, KVM_TDX_MEASURE_MEMORY_REGION,
				       &after), 0);
	KUNIT_EXPECT_EQ(test, after.nr_pages, 0);
	KUNIT_EXPECT_EQ(test, after.source_addr, 0);
	KUNIT_EXPECT_EQ(test, after.gpa, gfn_to_gpa(GMEM_KUNIT_GFN + 4));
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_ADD], 4);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MR_EXTEND], 4 * PAGE_SIZE / TDX_EXTENDMR_CHUNKSIZE);
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_EQ(test, t->measured[i], i == 2 ? 0 : 0x10 + i);

	/* The page is its own source, and stays the same page. */
	KUNIT_EXPECT_PTR_EQ(test, t->source, pfn_to_page(last));
	KUNIT_EXPECT_EQ(test, gmem_kunit_pfn(&t->g, 3), last);
	KUNIT_EXPECT_NULL(test, t->tdx->page_add_src);
}

static void launch_from_source(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	u64 src = (unsigned long)t->g.args + PAGE_SIZE;
	struct kvm_tdx_init_mem_region after;

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_ASSERT_EQ(test, 0, put_user((u8)0x77, (u8 __user *)u64_to_user_ptr(src)));

	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, src, 0, &after), 0);
	KUNIT_EXPECT_EQ(test, t->image[0], 0x77);
	KUNIT_EXPECT_EQ(test, t->nr_measured, 0);
	KUNIT_EXPECT_EQ(test, after.source_addr, src + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MR_EXTEND], 0);
}

static void launch_needs_a_source_elsewhere(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	struct kvm_tdx_init_mem_region after;

	gmem_kunit_add_vm_slot(test, &t->g);
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_VM_GFN, 2, 0, 0, &after), -EINVAL);
	KUNIT_EXPECT_EQ(test, after.nr_pages, 2);
	/* There is no memslot at all behind the end of the first one. */
	KUNIT_ASSERT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN + GMEM_KUNIT_PAGES - 1, 2, 0, 0,
				       &after), -EINVAL);
	KUNIT_EXPECT_EQ(test, after.nr_pages, 1);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_ADD], 1);
}

static void launch_of_vm_slot(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	u64 src = (unsigned long)t->g.args + PAGE_SIZE;

	gmem_kunit_add_vm_slot(test, &t->g);
	KUNIT_ASSERT_EQ(test, 0, put_user((u8)0x78, (u8 __user *)u64_to_user_ptr(src)));
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_VM_GFN, 1, src, 0, NULL), 0);
	KUNIT_EXPECT_EQ(test, t->image[0], 0x78);
}

/* A file that tracks the state but can't be mapped: the VMM can't have written to it. */
static void launch_needs_a_source_without_mmap(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->g.slot.flags &= ~KVM_MEMSLOT_GMEM_ONLY;
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, 0, 0, NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, nr_seamcalls(t), 0);
	t->g.slot.flags |= KVM_MEMSLOT_GMEM_ONLY;
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, 0, 0, NULL), 0);
}

static void launch_of_shared_page(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, 0, 0, NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, nr_seamcalls(t), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 1);
}

static void add_is_busy(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 5));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->fail[TDH_MEM_PAGE_ADD] = TDX_OPERAND_BUSY | TDX_OPERAND_ID_TDR;
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, 0, 0, NULL), 0);
	KUNIT_EXPECT_EQ(test, t->called[TDH_MEM_PAGE_ADD], 2);
	KUNIT_EXPECT_EQ(test, t->image[0], 5);
	KUNIT_EXPECT_NULL(test, t->tdx->page_add_src);
}

/* What was added can't be added again: by now it is ciphertext. */
static void add_twice(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	struct kvm_tdx_init_mem_region after;

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 5));
	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 1, 6));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 2, true, 0), 0);
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN + 1, 1, 0,
				       KVM_TDX_MEASURE_MEMORY_REGION, NULL), 0);

	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 2, 0, KVM_TDX_MEASURE_MEMORY_REGION,
				       &after), -EIO);
	KUNIT_EXPECT_EQ(test, after.nr_pages, 1);
	KUNIT_EXPECT_EQ(test, after.gpa, gfn_to_gpa(GMEM_KUNIT_GFN + 1));
	KUNIT_EXPECT_EQ(test, t->called[TDH_MEM_PAGE_ADD], 2);
	KUNIT_EXPECT_EQ(test, t->nr_measured, 2);
	KUNIT_EXPECT_EQ(test, t->measured[0], 6);
	KUNIT_EXPECT_EQ(test, t->measured[1], 5);
	KUNIT_EXPECT_FALSE(test, t->g.kvm->vm_bugged);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 1));
}

static void extend_fails(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 5));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->fail[TDH_MR_EXTEND] = TDX_SW_ERROR;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, 0,
					       KVM_TDX_MEASURE_MEMORY_REGION, NULL), -EIO);
	}
	KUNIT_EXPECT_TRUE(test, t->g.kvm->vm_dead);
	KUNIT_EXPECT_EQ(test, t->called[TDH_MR_EXTEND], 1);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), -EFAULT);
}

static void launch_then_convert(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 5));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_ASSERT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, 0, 0, NULL), 0);

	/* More memory becomes private, and the image is still there. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));

	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_FALSE(test, is_in_sept(test, 0));
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_TRACK], 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
}

/* From then on a vCPU may run, so that unmapping has to wait for it. */
static void finalize_then_convert(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	struct kvm_tdx_cmd cmd = {};
	pgoff_t i;

	for (i = 0; i < 2; i++)
		KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, i, 5));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 2, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_ASSERT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 2, 0, 0, NULL), 0);
	KUNIT_ASSERT_EQ(test, tdx_td_finalize(t->g.kvm, &cmd), 0);

	t->vcpu_runs = true;
	KUNIT_EXPECT_EQ(test, convert(test, 2, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, convert(test, 2, 1, true, 0), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 2, true), 0);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_PAGE_AUG], 1);
	KUNIT_EXPECT_EQ(test, convert(test, 1, 2, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->done[TDH_MEM_TRACK], 2);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
	KUNIT_EXPECT_FALSE(test, is_in_sept(test, 1));
}

static struct kunit_case tdx_test_cases[] = {
	KUNIT_CASE(private_fault_maps),
	KUNIT_CASE(shared_fault_is_none_of_its_business),
	KUNIT_CASE(to_private_calls_nothing),
	KUNIT_CASE(to_shared_removes),
	KUNIT_CASE(what_stays_private_stays_mapped),
	KUNIT_CASE(what_stays_shared_stays_mapped),
	KUNIT_CASE(no_change_calls_nothing),
	KUNIT_CASE(zero_of_mapped),
	KUNIT_CASE(zero_of_never_mapped),
	KUNIT_CASE(modes_once_launched),
	KUNIT_CASE(round_trips),
	KUNIT_CASE(aug_is_busy),
	KUNIT_CASE(block_is_busy),
	KUNIT_CASE(track_is_busy),
	KUNIT_CASE(remove_is_busy),
	KUNIT_CASE(vcpu_runs),
	KUNIT_CASE(block_fails),
	KUNIT_CASE(track_fails),
	KUNIT_CASE(remove_fails),
	KUNIT_CASE(wbinvd_fails),
	KUNIT_CASE(remove_fails_for_hole),
	KUNIT_CASE(remove_fails_at_the_end),
	KUNIT_CASE(reclaim_fails),
	KUNIT_CASE(key_is_leaked),
	KUNIT_CASE(punch_hole),
	KUNIT_CASE(close_in_every_state),
	{}
};

static struct kunit_case tdx_launch_test_cases[] = {
	KUNIT_CASE(modes_before_launch),
	KUNIT_CASE(launch_in_place),
	KUNIT_CASE(launch_from_source),
	KUNIT_CASE(launch_needs_a_source_elsewhere),
	KUNIT_CASE(launch_of_vm_slot),
	KUNIT_CASE(launch_needs_a_source_without_mmap),
	KUNIT_CASE(launch_of_shared_page),
	KUNIT_CASE(add_is_busy),
	KUNIT_CASE(add_twice),
	KUNIT_CASE(extend_fails),
	KUNIT_CASE(launch_then_convert),
	KUNIT_CASE(finalize_then_convert),
	{}
};

static struct kunit_suite tdx_test_suite = {
	.name = "guest_memfd_tdx",
	.init = tdx_test_init,
	.exit = tdx_test_exit,
	.test_cases = tdx_test_cases,
};

static struct kunit_suite tdx_launch_test_suite = {
	.name = "guest_memfd_tdx_launch",
	.init = tdx_launch_test_init,
	.exit = tdx_test_exit,
	.test_cases = tdx_launch_test_cases,
};

kunit_test_suites(&tdx_test_suite, &tdx_launch_test_suite);

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
