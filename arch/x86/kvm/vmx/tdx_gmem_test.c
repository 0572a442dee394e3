// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for guest_memfd of TDX VMs: what becomes of the S-EPT.  This is part of
 * tdx.c.
 *
 * The TDX module is replaced by a model that knows which page is mapped where in the
 * S-EPT.  It fails the test on any step that the TDX module would refuse, and on host
 * accesses to a page of the guest, which it finds out as it fills such pages with
 * "ciphertext".  KVM's page tables are replaced too; the code between them and the
 * TDX module is the real one.
 */
#include "../../../../virt/kvm/guest_memfd_kunit.h"

#define TDX_TEST_HKID	33
#define CIPHERTEXT	0xc5

enum sept_model_state {
	SEPT_MAPPED,
	SEPT_BLOCKED,
	SEPT_TRACKED,
};

struct sept_model_entry {
	kvm_pfn_t pfn;
	enum sept_model_state state;
	/* KVM's page table has it too. */
	bool mirrored;
};

struct tdx_test {
	struct gmem_kunit g;	/* first, see there */
	struct kvm_tdx *tdx;
	struct vcpu_tdx *vcpu;

	/* By gfn: what the S-EPT maps, and what KVM's page table for shared memory does. */
	struct xarray sept;
	struct xarray shared;
	/* Pages that are removed and whose cache lines are not yet written back. */
	struct xarray dirty;

	/* Of the calls so far. */
	int nr_add, nr_aug, nr_block, nr_track, nr_remove, nr_wbinvd, nr_extend;
	/* What has been measured, by the first byte of the page. */
	u8 measured[GMEM_KUNIT_PAGES];
	struct page *source;

	/* A page that the TDX module doesn't let go of. */
	kvm_pfn_t lost;

	/* Return this once. */
	u64 fail_add, fail_aug, fail_extend, fail_block, fail_remove, fail_wbinvd;
};

static struct tdx_test *tdx_test_of(struct kunit *test)
{
	return test->priv;
}

static u64 fail_once(u64 *fail)
{
	u64 err = *fail;

	*fail = 0;
	return err;
}

static u64 model_map_page(struct kunit *test, u64 gpa, kvm_pfn_t pfn)
{
	struct tdx_test *t = tdx_test_of(test);
	struct sept_model_entry *e;

	KUNIT_EXPECT_NULL_MSG(test, xa_load(&t->sept, gpa_to_gfn(gpa)), "gpa is mapped already");
	KUNIT_EXPECT_FALSE_MSG(test, folio_mapped(pfn_folio(pfn)), "the host still maps the page");
	KUNIT_EXPECT_NULL_MSG(test, xa_load(&t->dirty, pfn), "page was never written back");

	e = kzalloc_obj(*e, GFP_ATOMIC);
	KUNIT_ASSERT_NOT_NULL(test, e);
	e->pfn = pfn;
	e->mirrored = true;
	KUNIT_ASSERT_EQ(test, 0, xa_err(xa_store(&t->sept, gpa_to_gfn(gpa), e, GFP_ATOMIC)));
	memset(pfn_to_kaddr(pfn), CIPHERTEXT, PAGE_SIZE);
	return 0;
}

static u64 model_page_add(struct tdx_td *td, u64 gpa, kvm_pfn_t pfn, struct page *source,
			  u64 *ext_err1, u64 *ext_err2)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);
	u64 err;

	err = fail_once(&t->fail_add);
	if (err)
		return err;

	KUNIT_EXPECT_PTR_EQ(test, td, &t->tdx->td);
	KUNIT_EXPECT_NE(test, (int)t->tdx->state, TD_STATE_RUNNABLE);
	t->source = source;
	t->measured[t->nr_add++] = *(u8 *)page_address(source);
	return model_map_page(test, gpa, pfn);
}

static u64 model_page_aug(struct tdx_td *td, u64 gpa, enum pg_level level, kvm_pfn_t pfn,
			  u64 *ext_err1, u64 *ext_err2)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);
	u64 err;

	err = fail_once(&t->fail_aug);
	if (err)
		return err;

	KUNIT_EXPECT_PTR_EQ(test, td, &t->tdx->td);
	KUNIT_EXPECT_EQ(test, (int)t->tdx->state, TD_STATE_RUNNABLE);
	KUNIT_EXPECT_EQ(test, (int)level, PG_LEVEL_4K);
	t->nr_aug++;
	return model_map_page(test, gpa, pfn);
}

static u64 model_mr_extend(struct tdx_td *td, u64 gpa, u64 *ext_err1, u64 *ext_err2)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_EXPECT_NOT_NULL(test, xa_load(&t->sept, gpa_to_gfn(gpa)));
	t->nr_extend++;
	return fail_once(&t->fail_extend);
}

static u64 model_range_block(struct tdx_td *td, u64 gpa, enum pg_level level,
			     u64 *ext_err1, u64 *ext_err2)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);
	struct sept_model_entry *e;
	u64 err = fail_once(&t->fail_block);

	if (err)
		return err;

	t->nr_block++;
	e = xa_load(&t->sept, gpa_to_gfn(gpa));
	KUNIT_ASSERT_NOT_NULL(test, e);
	KUNIT_EXPECT_EQ(test, (int)e->state, SEPT_MAPPED);
	/* Nobody runs the TD before that, so there is nothing to track. */
	e->state = t->tdx->state == TD_STATE_RUNNABLE ? SEPT_BLOCKED : SEPT_TRACKED;
	return 0;
}

static u64 model_track(struct tdx_td *td)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);
	struct sept_model_entry *e;
	unsigned long gfn;

	t->nr_track++;
	xa_for_each(&t->sept, gfn, e) {
		if (e->state == SEPT_BLOCKED)
			e->state = SEPT_TRACKED;
	}
	return 0;
}

static u64 model_page_remove(struct tdx_td *td, u64 gpa, enum pg_level level,
			     u64 *ext_err1, u64 *ext_err2)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);
	struct sept_model_entry *e;
	u64 err;

	err = fail_once(&t->fail_remove);
	if (err)
		return err;

	t->nr_remove++;
	e = xa_load(&t->sept, gpa_to_gfn(gpa));
	KUNIT_ASSERT_NOT_NULL(test, e);
	KUNIT_EXPECT_EQ(test, (int)e->state, SEPT_TRACKED);
	KUNIT_EXPECT_TRUE_MSG(test, gmem_kunit_page_is(e->pfn, CIPHERTEXT),
			      "the host has written to the guest's page");

	KUNIT_ASSERT_EQ(test, 0, xa_err(xa_store(&t->dirty, e->pfn, xa_mk_value(1), GFP_ATOMIC)));
	xa_erase(&t->sept, gpa_to_gfn(gpa));
	kfree(e);
	return 0;
}

static u64 model_wbinvd(u64 hkid, kvm_pfn_t pfn)
{
	struct kunit *test = kunit_get_current_test();
	struct tdx_test *t = tdx_test_of(test);
	u64 err = fail_once(&t->fail_wbinvd);

	if (err)
		return err;

	t->nr_wbinvd++;
	KUNIT_EXPECT_EQ(test, hkid, TDX_TEST_HKID);
	KUNIT_EXPECT_NOT_NULL_MSG(test, xa_erase(&t->dirty, pfn), "page was not removed before");
	KUNIT_EXPECT_TRUE_MSG(test, gmem_kunit_page_is(pfn, CIPHERTEXT),
			      "the host has written to the page too early");
	return 0;
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
	struct sept_model_entry *e;
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

static int model_map(struct kunit *test, gfn_t gfn, kvm_pfn_t pfn, bool private)
{
	struct tdx_test *t = tdx_test_of(test);

	if (!private)
		return xa_err(xa_store(&t->shared, gfn, xa_mk_value(pfn), GFP_ATOMIC));
	if (xa_load(&t->sept, gfn))
		return 0;
	return tdx_sept_map_leaf_spte(&t->tdx->kvm, gfn, PG_LEVEL_4K, model_spte(pfn));
}

static int model_map_private_pfn(struct kvm_vcpu *vcpu, gfn_t gfn, kvm_pfn_t pfn)
{
	int r;

	lockdep_assert_held(&vcpu->kvm->slots_lock);
	read_lock(&vcpu->kvm->mmu_lock);
	r = model_map(kunit_get_current_test(), gfn, pfn, true);
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
	return t->nr_add + t->nr_aug + t->nr_block + t->nr_track + t->nr_remove +
	       t->nr_wbinvd + t->nr_extend;
}

static void tdx_test_free(void *tdx)
{
	vfree(tdx);
}

static int tdx_test_init(struct kunit *test)
{
	struct tdx_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	if (!t)
		return -ENOMEM;
	test->priv = t;

	if (!kvm_caps.supported_vm_types)
		kunit_skip(test, "no vendor module has initialized KVM");

	xa_init(&t->sept);
	xa_init(&t->shared);
	xa_init(&t->dirty);

	t->tdx = vzalloc(sizeof(*t->tdx));
	if (!t->tdx)
		return -ENOMEM;
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, tdx_test_free, t->tdx), 0);
	t->tdx->hkid = TDX_TEST_HKID;
	t->tdx->state = TD_STATE_RUNNABLE;
	t->tdx->kvm.arch.gfn_direct_bits = TDX_SHARED_BIT_PWL_4;

	t->vcpu = vzalloc(sizeof(*t->vcpu));
	if (!t->vcpu)
		return -ENOMEM;
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, tdx_test_free, t->vcpu), 0);
	t->vcpu->vcpu.kvm = &t->tdx->kvm;
	t->vcpu->state = VCPU_TD_STATE_INITIALIZED;

	kunit_activate_static_stub(test, tdh_mem_page_add, model_page_add);
	kunit_activate_static_stub(test, tdh_mem_page_aug, model_page_aug);
	kunit_activate_static_stub(test, tdh_mr_extend, model_mr_extend);
	kunit_activate_static_stub(test, tdh_mem_range_block, model_range_block);
	kunit_activate_static_stub(test, tdh_mem_track, model_track);
	kunit_activate_static_stub(test, tdh_mem_page_remove, model_page_remove);
	kunit_activate_static_stub(test, tdh_phymem_page_wbinvd_hkid, model_wbinvd);
	kunit_activate_static_stub(test, kvm_tdp_mmu_map_private_pfn, model_map_private_pfn);
	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, model_unmap);

	t->g.map = model_map;
	gmem_kunit_init(test, &t->g, &t->tdx->kvm, KVM_X86_TDX_VM, GUEST_MEMFD_FLAG_INIT_SHARED);
	t->tdx->kvm.arch.pre_fault_allowed = true;
	return 0;
}

static int tdx_launch_test_init(struct kunit *test)
{
	int r = tdx_test_init(test);

	if (!r) {
		tdx_test_of(test)->tdx->state = TD_STATE_INITIALIZED;
		tdx_test_of(test)->tdx->kvm.arch.pre_fault_allowed = false;
	}
	return r;
}

static void tdx_test_exit(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	struct sept_model_entry *e;
	unsigned long gfn;

	if (!t || !t->g.file)
		return;

	gmem_kunit_exit(test, &t->g);

	xa_for_each(&t->sept, gfn, e) {
		if (e->pfn != t->lost)
			KUNIT_FAIL(test, "gfn 0x%lx is still in the S-EPT", gfn);
		kfree(e);
	}
	if (t->lost) {
		struct folio *folio = pfn_folio(t->lost);

		KUNIT_EXPECT_NULL(test, folio->mapping);
		KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
		KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(t->lost, CIPHERTEXT));
		xa_erase(&t->dirty, t->lost);
		folio_put(folio);
	}
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->shared));
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->dirty));
	xa_destroy(&t->sept);
	xa_destroy(&t->shared);
	xa_destroy(&t->dirty);
}

/* ---- once launched ---- */

static void private_fault_maps(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 0, 1);
	KUNIT_EXPECT_EQ(test, t->nr_aug, 1);
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
	KUNIT_EXPECT_EQ(test, t->nr_block, 2);
	KUNIT_EXPECT_EQ(test, t->nr_remove, 2);
	KUNIT_EXPECT_EQ(test, t->nr_wbinvd, 2);
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
	KUNIT_EXPECT_EQ(test, t->nr_remove, 0);
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
	KUNIT_EXPECT_EQ(test, t->nr_remove, 2);
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

	/* The model looks whether anybody writes before the page is written back. */
	gmem_kunit_give(test, 0, 4);
	KUNIT_EXPECT_EQ(test, convert(test, 1, 2, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 2), 0);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(gmem_kunit_pfn(&t->g, 0), CIPHERTEXT));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(gmem_kunit_pfn(&t->g, 3), CIPHERTEXT));
}

/* The TDX module has never seen the page, so nobody else clears it. */
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

/* All of it is between KVM's page tables and the TDX module. */
static void needs_no_hooks(struct kunit *test)
{
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_CONVERT
	KUNIT_EXPECT_FALSE(test, kvm_arch_gmem_needs_make_shared(tdx_test_of(test)->g.kvm));
#else
	kunit_skip(test, "this kernel has no such hooks");
#endif
}

static void round_trips(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);
	int i;

	for (i = 1; i <= 5; i++) {
		gmem_kunit_give(test, 0, 1);
		KUNIT_ASSERT_EQ(test, convert(test, 0, 1, false, 0), 0);
		KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
		KUNIT_EXPECT_EQ(test, t->nr_aug, i);
		KUNIT_EXPECT_EQ(test, t->nr_remove, i);
	}
}

static void aug_is_busy(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->fail_aug = TDX_OPERAND_BUSY;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EBUSY);

	/* No reference and no mapping is left behind. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_remove, 0);
	gmem_kunit_give(test, 0, 1);
}

static void remove_is_busy(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 0, 1);
	t->fail_remove = TDX_OPERAND_BUSY;
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_remove, 1);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
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

	/* tdx_test_exit() sees that nobody gets it. */
	t->lost = gmem_kunit_pfn(&t->g, 0);
}

static void block_fails(struct kunit *test)
{
	unmapping_fails(test, &tdx_test_of(test)->fail_block);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
}

static void remove_fails(struct kunit *test)
{
	unmapping_fails(test, &tdx_test_of(test)->fail_remove);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
}

static void wbinvd_fails(struct kunit *test)
{
	unmapping_fails(test, &tdx_test_of(test)->fail_wbinvd);
	KUNIT_EXPECT_FALSE(test, is_in_sept(test, 0));
}

static void remove_fails_for_hole(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	gmem_kunit_give(test, 0, 2);
	t->lost = gmem_kunit_pfn(&t->g, 0);
	t->fail_remove = TDX_SW_ERROR;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 0, 2), 0);
	}
	KUNIT_EXPECT_EQ(test, folio_ref_count(pfn_folio(t->lost)), 1);
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
	KUNIT_EXPECT_EQ(test, t->nr_remove, 2);
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 0));
	KUNIT_EXPECT_TRUE(test, is_in_sept(test, 3));
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
	KUNIT_EXPECT_EQ(test, t->nr_add, 4);
	KUNIT_EXPECT_EQ(test, t->nr_extend, 4 * PAGE_SIZE / TDX_EXTENDMR_CHUNKSIZE);
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
	KUNIT_EXPECT_EQ(test, t->measured[0], 0x77);
	KUNIT_EXPECT_EQ(test, after.source_addr, src + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, t->nr_extend, 0);
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
	KUNIT_EXPECT_EQ(test, t->nr_add, 1);
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
	t->fail_add = TDX_OPERAND_BUSY;
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, 0, 0, NULL), -EBUSY);
	KUNIT_EXPECT_NULL(test, t->tdx->page_add_src);
	KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, 0, 0, NULL), 0);
	KUNIT_EXPECT_EQ(test, t->measured[0], 5);
}

static void extend_fails(struct kunit *test)
{
	struct tdx_test *t = tdx_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 5));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->fail_extend = TDX_SW_ERROR;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, init_mem(test, GMEM_KUNIT_GFN, 1, 0,
					       KVM_TDX_MEASURE_MEMORY_REGION, NULL), -EIO);
	}
	KUNIT_EXPECT_TRUE(test, t->g.kvm->vm_dead);
	KUNIT_EXPECT_EQ(test, t->nr_extend, 1);
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
	KUNIT_EXPECT_EQ(test, t->nr_track, 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
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
	KUNIT_CASE(needs_no_hooks),
	KUNIT_CASE(round_trips),
	KUNIT_CASE(aug_is_busy),
	KUNIT_CASE(remove_is_busy),
	KUNIT_CASE(block_fails),
	KUNIT_CASE(remove_fails),
	KUNIT_CASE(wbinvd_fails),
	KUNIT_CASE(remove_fails_for_hole),
	KUNIT_CASE(punch_hole),
	KUNIT_CASE(close_in_every_state),
	{}
};

static struct kunit_case tdx_launch_test_cases[] = {
	KUNIT_CASE(modes_before_launch),
	KUNIT_CASE(launch_in_place),
	KUNIT_CASE(launch_from_source),
	KUNIT_CASE(launch_needs_a_source_elsewhere),
	KUNIT_CASE(launch_of_shared_page),
	KUNIT_CASE(add_is_busy),
	KUNIT_CASE(extend_fails),
	KUNIT_CASE(launch_then_convert),
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
