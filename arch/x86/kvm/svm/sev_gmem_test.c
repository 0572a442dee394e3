// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for guest_memfd of SNP VMs: what becomes of the RMP, and in which
 * order.  This is part of sev.c.
 *
 * The RMP is replaced by a model that knows who owns each page and who maps it.  It
 * fails the test on any step that would crash the host, hand a page to the wrong
 * owner, or is useless.  Pages of the guest are filled with "ciphertext", so that
 * the model can tell that the host has written to them.
 */
#include "../../../../virt/kvm/guest_memfd_kunit.h"

#define SNP_TEST_ASID	5
#define CIPHERTEXT	0xc5
#define CORRECTED	0x3c

struct rmp_model_entry {
	kvm_pfn_t pfn;
	u64 gpa;
	bool immutable;
	bool reclaimed;
};

struct snp_test {
	struct gmem_kunit g;	/* first, see there */
	struct kvm_svm *svm;

	/* Assigned pages by pfn, and pfns that the guest maps by gfn. */
	struct xarray rmp;
	struct xarray npt;
	/* The page whose RMP entry is one for 2MiB, according to the RMP. */
	kvm_pfn_t large;

	/* Of the calls so far. */
	int nr_lookup, nr_private, nr_shared, nr_psmash, nr_launch, nr_reclaim;
	/* What firmware has measured, by the first byte of the page. */
	u8 measured[GMEM_KUNIT_PAGES];
	int nr_measured;

	/* Make this call on this pfn fail. */
	kvm_pfn_t fail_private, fail_shared, fail_psmash, fail_reclaim;
	int fail_launch;
	bool lose_entry;
	/* Of what the last removal of mappings was about. */
	enum kvm_gfn_range_filter filter;
};

static struct snp_test *snp_test_of(struct kunit *test)
{
	return test->priv;
}

static bool model_has_rmp(void)
{
	return true;
}

static int model_lookup(u64 pfn, bool *assigned, int *level)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);

	t->nr_lookup++;
	*assigned = xa_load(&t->rmp, pfn);
	/* Present when guest_memfd looks, and gone for whoever looks next. */
	if (*assigned && t->lose_entry)
		xa_erase(&t->rmp, pfn);
	*level = pfn == t->large ? PG_LEVEL_2M : PG_LEVEL_4K;
	return 0;
}

static void model_encrypt(kvm_pfn_t pfn)
{
	memset(pfn_to_kaddr(pfn), CIPHERTEXT, PAGE_SIZE);
}

static int model_make_private(u64 pfn, u64 gpa, enum pg_level level, u32 asid,
			      bool immutable)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);
	struct rmp_model_entry *e;
	struct folio *folio = pfn_folio(pfn);

	t->nr_private++;
	if (pfn == t->fail_private)
		return -EFAULT;

	KUNIT_EXPECT_NULL_MSG(test, xa_load(&t->rmp, pfn), "page is assigned already");
	KUNIT_EXPECT_EQ(test, (int)level, PG_LEVEL_4K);
	KUNIT_EXPECT_EQ(test, asid, SNP_TEST_ASID);
	KUNIT_EXPECT_FALSE_MSG(test, folio_mapped(folio), "the host still maps the page");
	if (gpa_to_gfn(gpa) < GMEM_KUNIT_VM_GFN)
		KUNIT_EXPECT_EQ(test, gpa_to_gfn(gpa), GMEM_KUNIT_GFN + folio->index);

	e = kunit_kzalloc(test, sizeof(*e), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, e);
	e->pfn = pfn;
	e->gpa = gpa;
	e->immutable = immutable;
	KUNIT_ASSERT_EQ(test, xa_err(xa_store(&t->rmp, pfn, e, GFP_KERNEL)), 0);

	/* Firmware has yet to look at the contents of immutable pages. */
	if (!immutable)
		model_encrypt(pfn);
	return 0;
}

static bool model_is_mapped(struct snp_test *t, kvm_pfn_t pfn)
{
	unsigned long gfn;
	void *entry;

	xa_for_each(&t->npt, gfn, entry) {
		if (xa_to_value(entry) == pfn)
			return true;
	}
	return false;
}

static int model_make_shared(u64 pfn, enum pg_level level)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);
	struct rmp_model_entry *e;

	t->nr_shared++;
	if (pfn == t->fail_shared)
		return -EFAULT;

	e = xa_load(&t->rmp, pfn);
	KUNIT_EXPECT_NOT_NULL_MSG(test, e, "page is the host's already");
	KUNIT_EXPECT_EQ(test, (int)level, PG_LEVEL_4K);
	KUNIT_EXPECT_FALSE_MSG(test, model_is_mapped(t, pfn), "the guest still maps the page");

	/* RMPUPDATE fails in real life as well. */
	if (pfn == t->large) {
		KUNIT_EXPECT_EQ_MSG(test, t->fail_psmash, pfn, "no PSMASH");
		return -EFAULT;
	}

	/* Pages in the hands of firmware have to be reclaimed first. */
	if (e && e->immutable)
		return -EFAULT;

	if (e && !e->reclaimed)
		KUNIT_EXPECT_TRUE_MSG(test, gmem_kunit_page_is(pfn, CIPHERTEXT),
				      "the host has written to the guest's page");
	xa_erase(&t->rmp, pfn);
	return 0;
}

static int model_psmash(u64 pfn)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);

	t->nr_psmash++;
	KUNIT_EXPECT_EQ(test, pfn, ALIGN_DOWN(t->large, PTRS_PER_PMD));
	if (t->large && t->large == t->fail_psmash)
		return -EIO;
	t->large = 0;
	return 0;
}

static int model_issue_cmd(int fd, int id, void *data, int *error)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);
	struct sev_data_snp_launch_update *args = data;
	struct rmp_model_entry *e;
	kvm_pfn_t pfn;

	KUNIT_ASSERT_EQ(test, id, SEV_CMD_SNP_LAUNCH_UPDATE);
	t->nr_launch++;

	pfn = __sme_clr(args->address) >> PAGE_SHIFT;
	e = xa_load(&t->rmp, pfn);
	KUNIT_ASSERT_NOT_NULL_MSG(test, e, "firmware gets a page of the host's");
	KUNIT_EXPECT_TRUE(test, e->immutable);

	*error = t->fail_launch;
	if (t->fail_launch) {
		if (args->page_type == KVM_SEV_SNP_PAGE_TYPE_CPUID)
			memset(pfn_to_kaddr(pfn), CORRECTED, PAGE_SIZE);
		return -EIO;
	}

	t->measured[t->nr_measured++] = *(u8 *)pfn_to_kaddr(pfn);
	e->immutable = false;
	model_encrypt(pfn);
	return 0;
}

static int model_reclaim_cmd(u64 pfn, int *fw_err)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);
	struct rmp_model_entry *e;

	t->nr_reclaim++;
	e = xa_load(&t->rmp, pfn);
	KUNIT_ASSERT_NOT_NULL(test, e);
	if (pfn == t->fail_reclaim)
		return -EIO;
	e->immutable = false;
	e->reclaimed = true;
	return 0;
}

/* That links pages through a field which is in use while guest_memfd has them. */
static void model_leak_pages(u64 pfn, unsigned int npages, bool dump_rmp)
{
	KUNIT_FAIL(kunit_get_current_test(), "pfn 0x%llx is on the list of leaked pages", pfn);
}

static bool model_unmap(struct kvm *kvm, struct kvm_gfn_range *range)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);
	unsigned long gfn;
	void *entry;

	t->filter = range->attr_filter;
	kvm_gmem_kunit_invalidated(kvm, range->start, range->end);

	xa_for_each_range(&t->npt, gfn, entry, range->start, range->end - 1)
		xa_erase(&t->npt, gfn);
	return false;
}

static int model_map(struct kunit *test, gfn_t gfn, kvm_pfn_t pfn, bool private)
{
	struct snp_test *t = snp_test_of(test);

	if (t->svm->kvm.arch.vm_type == KVM_X86_SNP_VM)
		KUNIT_EXPECT_EQ(test, !!xa_load(&t->rmp, pfn), private);
	return xa_err(xa_store(&t->npt, gfn, xa_mk_value(pfn), GFP_ATOMIC));
}

static int convert(struct kunit *test, pgoff_t first, unsigned long nr, bool to_private,
		   u64 mode)
{
	return gmem_kunit_convert(test, first, nr, to_private, mode, NULL);
}

static bool is_assigned(struct kunit *test, pgoff_t index)
{
	struct snp_test *t = snp_test_of(test);

	return xa_load(&t->rmp, gmem_kunit_pfn(&t->g, index));
}

static int nr_calls(struct snp_test *t)
{
	return t->nr_private + t->nr_shared + t->nr_psmash + t->nr_launch + t->nr_reclaim;
}

static void snp_test_free(void *svm)
{
	vfree(svm);
}

static int __snp_test_init(struct kunit *test, u64 flags)
{
	struct snp_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	struct kvm_sev_info *sev;

	if (!t)
		return -ENOMEM;
	test->priv = t;

	if (!kvm_caps.supported_vm_types || !boot_cpu_has(X86_FEATURE_SVM))
		kunit_skip(test, "needs kvm_amd, which this machine doesn't let load");

	xa_init(&t->rmp);
	xa_init(&t->npt);

	t->svm = vzalloc(sizeof(*t->svm));
	if (!t->svm)
		return -ENOMEM;
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, snp_test_free, t->svm), 0);

	sev = &t->svm->sev_info;
	sev->active = true;
	sev->es_active = true;
	sev->vmsa_features = SVM_SEV_FEAT_SNP_ACTIVE;
	sev->asid = SNP_TEST_ASID;
	sev->snp_context = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);

	kunit_activate_static_stub(test, snp_has_rmp, model_has_rmp);
	kunit_activate_static_stub(test, snp_lookup_rmpentry, model_lookup);
	kunit_activate_static_stub(test, rmp_make_private, model_make_private);
	kunit_activate_static_stub(test, rmp_make_shared, model_make_shared);
	kunit_activate_static_stub(test, psmash, model_psmash);
	kunit_activate_static_stub(test, __sev_issue_cmd, model_issue_cmd);
	kunit_activate_static_stub(test, snp_page_reclaim_cmd, model_reclaim_cmd);
	kunit_activate_static_stub(test, __snp_leak_pages, model_leak_pages);
	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, model_unmap);

	t->g.map = model_map;
	gmem_kunit_init(test, &t->g, &t->svm->kvm, KVM_X86_SNP_VM, flags);
	/* Once launched; the tests of the launch take it back. */
	t->svm->kvm.arch.pre_fault_allowed = true;
	return 0;
}

static int snp_test_init(struct kunit *test)
{
	return __snp_test_init(test, GUEST_MEMFD_FLAG_INIT_SHARED);
}

static int snp_launch_test_init(struct kunit *test)
{
	int r = __snp_test_init(test, GUEST_MEMFD_FLAG_INIT_SHARED);

	if (!r)
		snp_test_of(test)->g.kvm->arch.pre_fault_allowed = false;
	return r;
}

static void snp_test_exit(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct rmp_model_entry *e;
	unsigned long pfn;

	if (!t || !t->g.file)
		return;

	gmem_kunit_exit(test, &t->g);

	xa_for_each(&t->rmp, pfn, e)
		KUNIT_FAIL(test, "pfn 0x%lx of gpa 0x%llx is lost", pfn, e->gpa);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->npt));
	xa_destroy(&t->rmp);
	xa_destroy(&t->npt);
}

/* ---- when the RMP is told, and when it isn't ---- */

static void private_fault_assigns(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct rmp_model_entry *e;

	KUNIT_ASSERT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 3, true), 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 1);

	e = xa_load(&t->rmp, gmem_kunit_pfn(&t->g, 3));
	KUNIT_ASSERT_NOT_NULL(test, e);
	KUNIT_EXPECT_EQ(test, e->gpa, gfn_to_gpa(GMEM_KUNIT_GFN + 3));
	KUNIT_EXPECT_FALSE(test, e->immutable);
}

static void second_fault_does_not(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 1);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 1);
}

static void shared_fault_tells_nothing(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_EQ(test, t->nr_lookup, 0);
}

static void wrong_fault_tells_nothing(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EACCES);
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), -EACCES);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_EQ(test, t->nr_lookup, 0);
}

static void to_private_tells_nothing(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 1, false), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_EQ(test, t->nr_lookup, 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), -EFAULT);
}

static void to_shared_tells(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 4, 3);
	KUNIT_EXPECT_EQ(test, convert(test, 4, 3, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 3);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->rmp));
	/* What the host sees is nothing that it could make use of. */
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 5), CIPHERTEXT);
}

static void to_shared_of_untouched(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	/* The guest has never touched these pages; the RMP has no idea of them. */
	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 7));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 2, true, 0), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, false, 0), 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 7);
}

static void no_change_tells_nothing(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	int calls, lookups;

	gmem_kunit_give(test, 0, 2);
	calls = nr_calls(t);
	lookups = t->nr_lookup;

	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, true, 0), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 2, 2, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), calls);
	KUNIT_EXPECT_EQ(test, t->nr_lookup, lookups);
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 0));
}

static void only_what_changes(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	pgoff_t i;

	gmem_kunit_give(test, 0, 16);
	for (i = 1; i < 16; i += 2)
		KUNIT_ASSERT_EQ(test, convert(test, i, 1, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 8);

	/* The odd pages are private again, and the even ones never were anything else. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, 16, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 8);
	for (i = 0; i < 16; i++) {
		KUNIT_EXPECT_EQ(test, is_assigned(test, i), i % 2 == 0);
		if (i % 2)
			continue;
		KUNIT_EXPECT_NOT_NULL(test, xa_load(&t->npt, GMEM_KUNIT_GFN + i));
		KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(gmem_kunit_pfn(&t->g, i),
							   CIPHERTEXT));
	}
	KUNIT_EXPECT_EQ(test, (int)t->filter, KVM_FILTER_SHARED);

	KUNIT_EXPECT_EQ(test, convert(test, 0, 16, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 16);
	KUNIT_EXPECT_EQ(test, (int)t->filter, KVM_FILTER_PRIVATE);
}

static void round_trips(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	int i;

	for (i = 1; i <= 5; i++) {
		kvm_pfn_t pfn = gmem_kunit_pfn(&t->g, 0);

		gmem_kunit_give(test, 0, 1);
		if (pfn)
			KUNIT_EXPECT_EQ(test, gmem_kunit_pfn(&t->g, 0), pfn);
		KUNIT_ASSERT_EQ(test, convert(test, 0, 1, false, 0), 0);
		KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
		KUNIT_EXPECT_EQ(test, t->nr_private, i);
		KUNIT_EXPECT_EQ(test, t->nr_shared, i);
	}
}

/* ---- contents ---- */

static void zero_comes_last(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	pgoff_t i;

	/* The model looks whether anybody has written before rmp_make_shared(). */
	gmem_kunit_give(test, 0, 6);
	KUNIT_EXPECT_EQ(test, convert(test, 1, 4, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 4);
	for (i = 1; i < 5; i++)
		KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, i), 0);
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 0));
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 5));
}

static void zero_of_untouched(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 7));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 2, true, 0), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);
}

/* For the page to be overwritten, it must be the host's. */
static void poison_comes_last(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 2);
	kvm_gmem_kunit_poison(true);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 1, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	kvm_gmem_kunit_poison(false);

	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0xa5);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);
}

static void modes_once_launched(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 4);
	gmem_kunit_unsupported(test, false, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_ZERO);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 8, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 4);
}

static void modes_before_launch(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, convert(test, 0, 4, true, 0), 0);
	gmem_kunit_unsupported(test, false, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_ZERO);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 8, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 8, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
}

static void modes_are_announced(struct kunit *test)
{
	struct kvm *kvm = snp_test_of(test)->g.kvm;

	KUNIT_EXPECT_EQ(test, kvm_arch_gmem_content_modes(kvm), 0x02010001);
	KUNIT_EXPECT_TRUE(test, kvm_arch_supports_gmem_in_place(kvm));
	KUNIT_EXPECT_TRUE(test, kvm_arch_supports_gmem_init_shared(kvm));

	/* These have no private memory. */
	kvm->arch.has_private_mem = false;
	kvm->arch.vm_type = KVM_X86_SEV_VM;
	KUNIT_EXPECT_EQ(test, kvm_arch_gmem_content_modes(kvm), 0);
	KUNIT_EXPECT_FALSE(test, kvm_arch_supports_gmem_in_place(kvm));
	kvm->arch.vm_type = KVM_X86_SEV_ES_VM;
	KUNIT_EXPECT_EQ(test, kvm_arch_gmem_content_modes(kvm), 0);
	KUNIT_EXPECT_FALSE(test, kvm_arch_supports_gmem_in_place(kvm));
}

/* ---- 2MiB entries ---- */

static void splits_large_entries(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 3);
	t->large = gmem_kunit_pfn(&t->g, 1);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 3, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_psmash, 1);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 3);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);
}

static void psmash_fails(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	pgoff_t error;

	gmem_kunit_give(test, 0, 3);
	t->large = gmem_kunit_pfn(&t->g, 1);
	t->fail_psmash = t->large;

	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 3, false,
							 KVM_SET_MEMORY_ATTRIBUTES2_ZERO,
							 &error), -EIO);
	}
	KUNIT_EXPECT_EQ(test, error, 1);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, 1));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), -EFAULT);
	t->fail_psmash = 0;
}

/* ---- failures ---- */

static void make_private_fails(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_EQ(test, gmem_kunit_allocate(&t->g, 0, 1), 0);
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->fail_private = gmem_kunit_pfn(&t->g, 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EINVAL);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->npt));

	/* The fault has left no trace: the page can be converted, and back, and used. */
	t->fail_private = 0;
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 0);
	gmem_kunit_give(test, 0, 1);
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 0));
}

static void make_shared_fails(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	pgoff_t error, i;

	gmem_kunit_give(test, 0, 8);
	t->fail_shared = gmem_kunit_pfn(&t->g, 5);

	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 2, 6, false,
							 KVM_SET_MEMORY_ATTRIBUTES2_ZERO,
							 &error), -EIO);
	}
	KUNIT_EXPECT_EQ(test, error, 5);
	KUNIT_EXPECT_TRUE(test, t->g.kvm->vm_dead);
	for (i = 0; i < 8; i++) {
		KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, i));
		KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, i), -EFAULT);
	}
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 5));
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 6));
	KUNIT_EXPECT_EQ(test, t->g.kvm->mmu_invalidate_in_progress, 0);

	/* No way back, but for freeing the memory. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), -EIO);
	t->fail_shared = 0;
}

static void reclaim_fails(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct folio *folio;
	kvm_pfn_t pfn;

	gmem_kunit_give(test, 0, 3);
	pfn = gmem_kunit_pfn(&t->g, 1);
	folio = pfn_folio(pfn);
	t->fail_shared = pfn;

	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 0, 3), 0);
	}

	/* It is nobody's page now, and nobody gets it. */
	KUNIT_EXPECT_NULL(test, folio->mapping);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(pfn, CIPHERTEXT));
	KUNIT_EXPECT_NOT_NULL(test, xa_load(&t->rmp, pfn));

	/* A new page takes its place. */
	t->fail_shared = 0;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 1, true), 0);
	KUNIT_EXPECT_NE(test, gmem_kunit_pfn(&t->g, 1), pfn);

	/* Give back what the test has borrowed. */
	xa_erase(&t->rmp, pfn);
	folio_put(folio);
}

static void poisoned_page(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct folio *folio;
	pgoff_t error;

	gmem_kunit_give(test, 0, 4);
	folio = pfn_folio(gmem_kunit_pfn(&t->g, 2));
	folio_set_hwpoison(folio);

	KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 4, false, 0, &error),
			-EHWPOISON);
	KUNIT_EXPECT_EQ(test, error, 2);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 0);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, 0));

	folio_clear_hwpoison(folio);
}

static void busy_page(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct folio *folio;
	pgoff_t error;

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 2, 9));
	folio = filemap_get_folio(t->g.inode->i_mapping, 2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(folio));

	KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 4, true, 0, &error), -EAGAIN);
	KUNIT_EXPECT_EQ(test, error, 2);
	KUNIT_EXPECT_FALSE(test, gmem_kunit_is_private(test, 0));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 2), 9);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);

	folio_put(folio);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 4, true, 0), 0);
}

/* ---- freeing ---- */

static void punch_hole_private(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 4);
	KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 1, 2), 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 2);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, 1));

	/* Another page, perhaps, and the RMP is told again. */
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 1, true), 0);
	KUNIT_EXPECT_EQ(test, t->nr_private, 5);
}

static void punch_hole_shared(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 0, 1), 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->npt));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
}

/* snp_test_exit() sees that everything is given back. */
static void close_in_every_state(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_mixture(test);
	t->large = gmem_kunit_pfn(&t->g, 0);
}

static void others_are_not_converted(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_add_vm_slot(test, &t->g);

	/* What has no MMAP is no business of the ioctl. */
	KUNIT_EXPECT_FALSE(test, kvm_memslot_is_gmem_in_place(&t->g.vm_slot));
	KUNIT_EXPECT_EQ(test, t->g.vm_file->f_op->unlocked_ioctl(t->g.vm_file,
								 KVM_SET_MEMORY_ATTRIBUTES2,
								 (unsigned long)t->g.args),
			-ENOTTY);
	KUNIT_EXPECT_TRUE(test, kvm_slot_mem_is_private(t->g.kvm, &t->g.vm_slot,
							GMEM_KUNIT_VM_GFN));
}

/* ---- launch ---- */

static int launch(struct kunit *test, gfn_t gfn, unsigned long nr, u64 uaddr, u8 type,
		  struct kvm_sev_snp_launch_update *after)
{
	struct kvm_sev_snp_launch_update params = {
		.gfn_start = gfn,
		.len = nr << PAGE_SHIFT,
		.uaddr = uaddr,
		.type = type,
	};
	struct snp_test *t = snp_test_of(test);
	struct kvm_sev_cmd cmd = {
		.id = KVM_SEV_SNP_LAUNCH_UPDATE,
		.data = (unsigned long)t->g.args,
	};
	int r;

	KUNIT_ASSERT_EQ(test, 0, copy_to_user(t->g.args, &params, sizeof(params)));

	mutex_lock(&t->g.kvm->lock);
	r = snp_launch_update(t->g.kvm, &cmd);
	mutex_unlock(&t->g.kvm->lock);

	if (after)
		KUNIT_ASSERT_EQ(test, 0, copy_from_user(after, t->g.args, sizeof(*after)));
	return r;
}

static void launch_in_place(struct kunit *test)
{
	static const u8 types[] = {
		KVM_SEV_SNP_PAGE_TYPE_NORMAL, KVM_SEV_SNP_PAGE_TYPE_UNMEASURED,
		KVM_SEV_SNP_PAGE_TYPE_SECRETS, KVM_SEV_SNP_PAGE_TYPE_CPUID,
	};
	struct snp_test *t = snp_test_of(test);
	struct kvm_sev_snp_launch_update after;
	int i, n = ARRAY_SIZE(types);

	for (i = 0; i < n; i++)
		KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, i, 0x10 + i));
	KUNIT_ASSERT_EQ(test, convert(test, 0, n, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);

	for (i = 0; i < n; i++) {
		kvm_pfn_t pfn = gmem_kunit_pfn(&t->g, i);

		KUNIT_ASSERT_EQ(test, launch(test, GMEM_KUNIT_GFN + i, 1, 0, types[i], &after), 0);
		KUNIT_EXPECT_EQ(test, after.len, 0);
		KUNIT_EXPECT_EQ(test, after.uaddr, 0);
		KUNIT_EXPECT_EQ(test, after.gfn_start, GMEM_KUNIT_GFN + i + 1);
		KUNIT_EXPECT_EQ(test, t->measured[i], 0x10 + i);
		KUNIT_EXPECT_EQ(test, gmem_kunit_pfn(&t->g, i), pfn);
	}
	KUNIT_EXPECT_EQ(test, t->nr_private, n);
	KUNIT_EXPECT_EQ(test, t->nr_launch, n);

	/* The guest finds them assigned. */
	t->g.kvm->arch.pre_fault_allowed = true;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, t->nr_private, n);
}

static void launch_in_place_range(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct kvm_sev_snp_launch_update after;
	int i;

	/* One of them was never touched, and is measured as zeros. */
	for (i = 0; i < 8; i++) {
		if (i != 3)
			KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, i, 0x20 + i));
	}
	KUNIT_ASSERT_EQ(test, convert(test, 0, 8, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 8, 0, KVM_SEV_SNP_PAGE_TYPE_NORMAL,
				     &after), 0);
	KUNIT_EXPECT_EQ(test, after.uaddr, 0);
	KUNIT_EXPECT_EQ(test, after.len, 0);
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_EQ(test, t->measured[i], i == 3 ? 0 : 0x20 + i);
}

static void launch_from_source(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	u64 src = (unsigned long)t->g.args + PAGE_SIZE;
	struct kvm_sev_snp_launch_update after;

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_ASSERT_EQ(test, 0, put_user((u8)0x77, (u8 __user *)u64_to_user_ptr(src)));

	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, src, KVM_SEV_SNP_PAGE_TYPE_NORMAL,
				     &after), 0);
	KUNIT_EXPECT_EQ(test, t->measured[0], 0x77);
	KUNIT_EXPECT_EQ(test, after.uaddr, src + PAGE_SIZE);
}

static void launch_zero_page(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0, KVM_SEV_SNP_PAGE_TYPE_ZERO,
				     NULL), 0);
	KUNIT_EXPECT_EQ(test, t->nr_launch, 1);
}

static void launch_needs_a_source_elsewhere(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	u64 src = (unsigned long)t->g.args + PAGE_SIZE;

	gmem_kunit_add_vm_slot(test, &t->g);
	KUNIT_ASSERT_EQ(test, 0, put_user((u8)0x78, (u8 __user *)u64_to_user_ptr(src)));

	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_VM_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_VM_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_ZERO, NULL), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_VM_GFN + 1, 1, src,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), 0);
	KUNIT_EXPECT_EQ(test, t->measured[1], 0x78);
}

static void launch_of_shared_page(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), -EIO);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 1);
}

static void launch_twice(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), -EIO);
	KUNIT_EXPECT_EQ(test, t->nr_private, 1);
	KUNIT_EXPECT_EQ(test, t->nr_launch, 1);
}

static void launch_again_after_converting(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), 0);

	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 1);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 2));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), 0);
	KUNIT_EXPECT_EQ(test, t->measured[1], 2);
}

static void rejected_cpuid_page(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);

	t->fail_launch = SEV_RET_INVALID_PARAM;
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL), -EIO);
	KUNIT_EXPECT_EQ(test, t->nr_reclaim, 1);
	KUNIT_EXPECT_FALSE(test, is_assigned(test, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, 0));

	/*
	 * The VMM takes the page back and reads what firmware would have accepted,
	 * even if it is being tested for relying on contents that nobody promised.
	 */
	kvm_gmem_kunit_poison(true);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	kvm_gmem_kunit_poison(false);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 1);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), CORRECTED);

	/* And tries once more. */
	t->fail_launch = 0;
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL), 0);
	KUNIT_EXPECT_EQ(test, t->measured[0], CORRECTED);
}

static void rejected_cpuid_page_with_source(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	u8 __user *src = t->g.args + PAGE_SIZE;
	u8 byte = 0;

	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_ASSERT_EQ(test, 0, put_user((u8)1, src));

	t->fail_launch = SEV_RET_INVALID_PARAM;
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, (unsigned long)src,
				     KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL), -EIO);
	KUNIT_EXPECT_EQ(test, 0, get_user(byte, src));
	KUNIT_EXPECT_EQ(test, byte, CORRECTED);
}

/* Firmware keeps the page. */
static void launch_reclaim_fails(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct folio *folio;
	kvm_pfn_t pfn;

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	pfn = gmem_kunit_pfn(&t->g, 0);
	folio = pfn_folio(pfn);

	t->fail_launch = SEV_RET_INVALID_PARAM;
	t->fail_reclaim = pfn;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
					     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), -EIO);
	}
	KUNIT_EXPECT_TRUE(test, t->g.kvm->vm_dead);
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 0));
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), -EIO);

	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 0, 1), 0);
	}
	KUNIT_EXPECT_NULL(test, folio->mapping);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);

	/* Give back what the test has borrowed. */
	xa_erase(&t->rmp, pfn);
	folio_put(folio);
}

static void launch_make_private_fails(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->fail_private = gmem_kunit_pfn(&t->g, 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), -EIO);
	KUNIT_EXPECT_EQ(test, t->nr_launch, 0);
	KUNIT_EXPECT_FALSE(test, is_assigned(test, 0));

	t->fail_private = 0;
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), 0);
	KUNIT_EXPECT_EQ(test, t->measured[0], 1);
}

/* ---- races ---- */

static void snp_test_rmp_fault(struct kunit *test, pgoff_t index)
{
	struct snp_test *t = snp_test_of(test);
	struct kvm_vcpu *vcpu = kunit_kzalloc(test, sizeof(*vcpu), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, vcpu);
	vcpu->kvm = t->g.kvm;

	mutex_lock(&t->g.kvm->lock);
	mutex_lock(&t->g.kvm->slots_lock);
	sev_handle_rmp_fault(vcpu, gfn_to_gpa(GMEM_KUNIT_GFN + index),
			     PFERR_GUEST_RMP_MASK | PFERR_GUEST_ENC_MASK);
	mutex_unlock(&t->g.kvm->slots_lock);
	mutex_unlock(&t->g.kvm->lock);
}

static void rmp_fault_splits(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	unsigned long seq;

	if (!npt_enabled)
		kunit_skip(test, "needs nested paging, as SNP does");

	gmem_kunit_give(test, 0, 1);
	t->large = gmem_kunit_pfn(&t->g, 0);
	seq = t->g.kvm->mmu_invalidate_seq;
	snp_test_rmp_fault(test, 0);
	KUNIT_EXPECT_EQ(test, t->nr_psmash, 1);
	KUNIT_EXPECT_EQ(test, t->large, 0);
	/* The mapping goes, to come back in the size of the entry. */
	KUNIT_EXPECT_NE(test, t->g.kvm->mmu_invalidate_seq, seq);
}

static void rmp_fault_of_converted_page(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	int calls, lookups;

	gmem_kunit_give(test, 0, 1);
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, false, 0), 0);
	calls = nr_calls(t);
	lookups = t->nr_lookup;
	snp_test_rmp_fault(test, 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), calls);
	KUNIT_EXPECT_EQ(test, t->nr_lookup, lookups);
	KUNIT_EXPECT_FALSE(test, is_assigned(test, 0));
}

/* The page is freed or converted at the wrong moment, which makes PSMASH fail. */
static int model_psmash_lost_race(u64 pfn)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);

	t->nr_psmash++;
	xa_erase(&t->rmp, t->large);
	return -EIO;
}

/* No reason to remove any mapping, which would raise the sequence. */
static void expect_benign_rmp_fault(struct kunit *test, int nr_psmash)
{
	struct snp_test *t = snp_test_of(test);
	unsigned long seq;

	gmem_kunit_give(test, 0, 1);
	t->large = gmem_kunit_pfn(&t->g, 0);
	seq = t->g.kvm->mmu_invalidate_seq;
	snp_test_rmp_fault(test, 0);

	KUNIT_EXPECT_EQ(test, t->nr_psmash, nr_psmash);
	KUNIT_EXPECT_EQ(test, t->g.kvm->mmu_invalidate_seq, seq);
	t->large = 0;
}

static void rmp_entry_vanishes_before_psmash(struct kunit *test)
{
	kunit_activate_static_stub(test, psmash, model_psmash_lost_race);
	expect_benign_rmp_fault(test, 1);
}

static void rmp_entry_vanishes_before_lookup(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	t->lose_entry = true;
	expect_benign_rmp_fault(test, 0);
}

static int model_map_late(struct kunit *test, gfn_t gfn, kvm_pfn_t pfn, bool private)
{
	KUNIT_FAIL(test, "a stale pfn is mapped");
	return 0;
}

/* A page is looked up, converted, and only then about to be mapped. */
static int model_lookup_then_convert(u64 pfn, bool *assigned, int *level)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);

	kunit_activate_static_stub(test, snp_lookup_rmpentry, model_lookup);
	/*
	 * The conversion itself waits for the lock that the fault holds; all that it
	 * does to a fault is this.
	 */
	kvm_gmem_kunit_invalidate(t->g.kvm, GMEM_KUNIT_GFN, GMEM_KUNIT_GFN + 1);
	return model_lookup(pfn, assigned, level);
}

static void fault_loses_race(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	kunit_activate_static_stub(test, snp_lookup_rmpentry, model_lookup_then_convert);
	t->g.map = model_map_late;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EAGAIN);

	t->g.map = model_map;

	/* The RMP was told, nothing is mapped, and no reference is left behind. */
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 0));
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_EXPECT_FALSE(test, is_assigned(test, 0));
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, true, 0), 0);
}

/* ---- others ---- */

static void other_vm_types_call_nothing(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	t->g.kvm->arch.vm_type = KVM_X86_SW_PROTECTED_VM;

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_EXPECT_EQ(test, convert(test, 0, 4, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 1, true), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 1, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 1);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_EQ(test, t->nr_lookup, 0);
}

static struct kunit_case snp_test_cases[] = {
	KUNIT_CASE(private_fault_assigns),
	KUNIT_CASE(second_fault_does_not),
	KUNIT_CASE(shared_fault_tells_nothing),
	KUNIT_CASE(wrong_fault_tells_nothing),
	KUNIT_CASE(to_private_tells_nothing),
	KUNIT_CASE(to_shared_tells),
	KUNIT_CASE(to_shared_of_untouched),
	KUNIT_CASE(no_change_tells_nothing),
	KUNIT_CASE(only_what_changes),
	KUNIT_CASE(round_trips),
	KUNIT_CASE(zero_comes_last),
	KUNIT_CASE(zero_of_untouched),
	KUNIT_CASE(poison_comes_last),
	KUNIT_CASE(modes_once_launched),
	KUNIT_CASE(modes_are_announced),
	KUNIT_CASE(splits_large_entries),
	KUNIT_CASE(psmash_fails),
	KUNIT_CASE(make_private_fails),
	KUNIT_CASE(make_shared_fails),
	KUNIT_CASE(reclaim_fails),
	KUNIT_CASE(poisoned_page),
	KUNIT_CASE(busy_page),
	KUNIT_CASE(punch_hole_private),
	KUNIT_CASE(punch_hole_shared),
	KUNIT_CASE(close_in_every_state),
	KUNIT_CASE(others_are_not_converted),
	KUNIT_CASE(rmp_fault_splits),
	KUNIT_CASE(rmp_fault_of_converted_page),
	KUNIT_CASE(rmp_entry_vanishes_before_psmash),
	KUNIT_CASE(rmp_entry_vanishes_before_lookup),
	KUNIT_CASE(fault_loses_race),
	KUNIT_CASE(other_vm_types_call_nothing),
	{}
};

static struct kunit_case snp_launch_test_cases[] = {
	KUNIT_CASE(modes_before_launch),
	KUNIT_CASE(launch_in_place),
	KUNIT_CASE(launch_in_place_range),
	KUNIT_CASE(launch_from_source),
	KUNIT_CASE(launch_zero_page),
	KUNIT_CASE(launch_needs_a_source_elsewhere),
	KUNIT_CASE(launch_of_shared_page),
	KUNIT_CASE(launch_twice),
	KUNIT_CASE(launch_again_after_converting),
	KUNIT_CASE(rejected_cpuid_page),
	KUNIT_CASE(rejected_cpuid_page_with_source),
	KUNIT_CASE(launch_reclaim_fails),
	KUNIT_CASE(launch_make_private_fails),
	{}
};

static struct kunit_suite snp_test_suite = {
	.name = "guest_memfd_snp",
	.init = snp_test_init,
	.exit = snp_test_exit,
	.test_cases = snp_test_cases,
};

static struct kunit_suite snp_launch_test_suite = {
	.name = "guest_memfd_snp_launch",
	.init = snp_launch_test_init,
	.exit = snp_test_exit,
	.test_cases = snp_launch_test_cases,
};

kunit_test_suites(&snp_test_suite, &snp_launch_test_suite);

MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
