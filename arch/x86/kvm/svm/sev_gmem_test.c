// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for guest_memfd of SNP VMs: what becomes of the RMP, and in which
 * order.  This is part of sev.c.
 *
 * The RMP and the firmware are replaced by a model.  It fails the test on any step
 * that would crash the host, never end, hand a page to the wrong owner, or is
 * useless.  Pages that the guest has touched are filled with "ciphertext".
 *
 * The model is written from what hardware and firmware are specified to do.  The
 * sources are named where a rule is:
 *
 * [APM]  AMD64 Architecture Programmer's Manual, volume 2, chapter 15
 * [ABI]  SEV Secure Nested Paging Firmware ABI Specification
 * [FW]   AMD's published firmware for Genoa, version 1.55.25, where the ABI is silent
 * [RMP]  Pseudocode of RMPUPDATE, Message-ID: <YPIoaoDCjNVzn2ZM@google.com>
 */
#include <linux/jhash.h>

#include "../../../../virt/kvm/guest_memfd_kunit.h"

#define SNP_TEST_ASID	5
#define CIPHERTEXT	0xc5
#define SECRETS		0x5e

/* The only value of CPUID leaf 1, register EAX, that firmware accepts. */
#define CPUID_1_EAX	0x00a20f12

/* What RMPUPDATE and PSMASH return, besides what the kernel has a name for. */
#define RMP_FAIL_INPUT		1
#define RMP_FAIL_PERMISSION	2
#define PSMASH_FAIL_BADADDR	7

/* Of the pages of the file that are assigned.  All others are the host's. */
struct rmp_model_entry {
	kvm_pfn_t pfn;
	u64 gpa;
	u32 asid;
	bool immutable;
	bool validated;
	/* Of the page as it was left by its last legitimate writer. */
	u32 hash;
	/* The byte that the guest finds all over the page, or -1 if that is noise. */
	int plain;
};

/* What firmware has put into the launch digest, for a page. */
struct snp_measurement {
	u8 type;
	u64 gpa;
	/* First byte of the contents, or -1 if they aren't part of it. */
	int contents;
};

struct snp_test {
	struct gmem_kunit g;	/* first, see there */
	struct kvm_svm *svm;

	/* Assigned pages by pfn, and pfns that the guest maps by gfn. */
	struct xarray rmp;
	struct xarray npt;
	/* By pfn, the number of TLB flushes so far when it was last unmapped. */
	struct xarray tlb;
	/* The first pfn of 2MiB with one RMP entry for all of it, or 0. */
	kvm_pfn_t large;

	/* Of the calls so far. */
	int nr_lookup, nr_private, nr_shared, nr_psmash, nr_launch, nr_reclaim;
	/* How often the guest had to validate a page that it touched. */
	int nr_validated;

	/* Whether LAUNCH_FINISH succeeded, and the measurements before. */
	bool running;
	struct snp_measurement measured[GMEM_KUNIT_PAGES];
	int nr_measured;

	/* Make this call on this pfn fail. */
	kvm_pfn_t fail_private, fail_shared, fail_reclaim;
	/* The status to be returned by the call. */
	int fail_psmash, fail_launch;
	/* Another CPU uses this page while RMPUPDATE is tried for that many times. */
	kvm_pfn_t in_use;
	int nr_in_use;
	/* There is no RMP entry for this pfn. */
	kvm_pfn_t no_entry;
	/* Another CPU is faster. */
	bool lose_entry, lose_psmash;
	/* A memory error in this page, as soon as the guest has lost it. */
	kvm_pfn_t break_page;
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

static bool model_is_large(struct snp_test *t, kvm_pfn_t pfn)
{
	return t->large && ALIGN_DOWN(pfn, PTRS_PER_PMD) == t->large;
}

/*
 * The pages after the first one have assigned 4K entries in a real 2M entry as well
 * [FW], and its size is to be looked up in the first one's.
 */
static int model_lookup(u64 pfn, bool *assigned, int *level, u64 *gpa)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);
	struct rmp_model_entry *e;

	t->nr_lookup++;
	/* Memory may be beyond what the RMP covers, and is the host's then [APM 15.36.4]. */
	if (pfn == t->no_entry)
		return -EFAULT;

	e = xa_load(&t->rmp, pfn);
	*assigned = e;
	*gpa = e ? e->gpa : 0;
	/* Present when guest_memfd looks, and gone for whoever looks next. */
	if (*assigned && t->lose_entry)
		xa_erase(&t->rmp, pfn);
	*level = model_is_large(t, pfn) ? PG_LEVEL_2M : PG_LEVEL_4K;
	return 0;
}

static u32 model_hash(kvm_pfn_t pfn)
{
	return jhash2(pfn_to_kaddr(pfn), PAGE_SIZE / sizeof(u32), 0);
}

static void model_encrypt(struct rmp_model_entry *e)
{
	memset(pfn_to_kaddr(e->pfn), CIPHERTEXT, PAGE_SIZE);
	e->hash = model_hash(e->pfn);
}

/* No access of the guest may be going on: unmapped, and TLBs flushed after that. */
static void model_expect_unused(struct kunit *test, kvm_pfn_t pfn)
{
	struct snp_test *t = snp_test_of(test);
	unsigned long gfn;
	void *entry;

	xa_for_each(&t->npt, gfn, entry)
		KUNIT_EXPECT_NE_MSG(test, xa_to_value(entry), (unsigned long)pfn,
				    "gfn 0x%lx still maps the page", gfn);

	entry = xa_load(&t->tlb, pfn);
	if (entry)
		KUNIT_EXPECT_GT_MSG(test, t->g.kvm->stat.generic.remote_tlb_flush_requests,
				    (u64)xa_to_value(entry), "TLBs still have the page");
}

/* Where the memslots have the page, which is where the guest looks for it. */
static gfn_t model_gfn_of(struct snp_test *t, struct folio *folio)
{
	struct kvm_memory_slot *slot = &t->g.slot;

	if (folio->mapping->host != t->g.inode)
		slot = &t->g.vm_slot;
	return slot->base_gfn + folio->index - slot->gmem.pgoff;
}

/* RMPUPDATE of one page, [RMP] but where noted. */
static int model_rmpupdate_insn(u64 pfn, struct rmp_state *new)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);
	struct rmp_model_entry *old = xa_load(&t->rmp, pfn), *e;
	struct folio *folio = pfn_folio(pfn);

	/* guest_memfd has no large folios. */
	KUNIT_EXPECT_EQ(test, new->pagesize, RMP_PG_SIZE_4K);
	KUNIT_EXPECT_EQ(test, new->rsvd, 0);

	if (!new->assigned && (new->immutable || new->asid)) {
		KUNIT_FAIL(test, "RMPUPDATE to an owner, but unassigned");
		return RMP_FAIL_INPUT;
	}

	if (pfn == t->no_entry)
		return RMP_FAIL_INPUT;

	/* E.g. the VMSA of a vCPU, until that leaves the guest [APM 15.36.12]. */
	if (pfn == t->in_use && t->nr_in_use) {
		t->nr_in_use--;
		return RMPUPDATE_FAIL_INUSE;
	}

	if (pfn == (new->assigned ? t->fail_private : t->fail_shared))
		return RMP_FAIL_PERMISSION;

	/* Pages in the hands of firmware have to be reclaimed first. */
	if (old && old->immutable)
		return RMP_FAIL_PERMISSION;

	/*
	 * RMPUPDATE_FAIL_OVERLAP, for as long as the entry isn't split, which rmpupdate()
	 * can't tell from an update of another page of the 2MiB that is going on.  So it
	 * would never return.  Have the test end, though.
	 */
	if (model_is_large(t, pfn)) {
		KUNIT_FAIL(test, "pfn 0x%llx is within a 2M entry; rmpupdate() never returns",
			   pfn);
		return RMP_FAIL_PERMISSION;
	}

	model_expect_unused(test, pfn);

	if (!new->assigned) {
		KUNIT_EXPECT_NOT_NULL_MSG(test, old, "page is the host's already");
		if (old)
			KUNIT_EXPECT_EQ_MSG(test, model_hash(pfn), old->hash,
					    "the host has written to the guest's page");
		xa_erase(&t->rmp, pfn);
		return 0;
	}

	KUNIT_EXPECT_EQ(test, new->asid, SNP_TEST_ASID);
	KUNIT_EXPECT_FALSE_MSG(test, folio_mapped(folio), "the host still maps the page");
	KUNIT_EXPECT_EQ(test, gpa_to_gfn(new->gpa), model_gfn_of(t, folio));
	if (old) {
		KUNIT_EXPECT_FALSE_MSG(test, old->gpa == new->gpa && old->asid == new->asid,
				       "page is assigned already");
		KUNIT_EXPECT_EQ_MSG(test, old->asid, new->asid, "page is another VM's");
	}

	e = kunit_kzalloc(test, sizeof(*e), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, e);
	e->pfn = pfn;
	e->gpa = new->gpa;
	e->asid = new->asid;
	e->immutable = new->immutable;
	/* Not validated, whatever it was, as the owner has changed [APM 15.36.6]. */
	e->validated = false;
	/* Contents stay as they are, until the guest or firmware writes to the page. */
	e->hash = old ? old->hash : model_hash(pfn);
	e->plain = -1;
	KUNIT_ASSERT_EQ(test, xa_err(xa_store(&t->rmp, pfn, e, GFP_KERNEL)), 0);
	return 0;
}

/* Leaves out the direct map of a host that has an RMP, and the report of failures. */
static int model_rmpupdate(u64 pfn, struct rmp_state *new)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);

	if (new->assigned)
		t->nr_private++;
	else
		t->nr_shared++;

	return rmpupdate_retry(pfn, new) ? -EFAULT : 0;
}

/* Splits all of a 2M entry, and keeps everything else about it [APM 15.36.11]. */
static int model_psmash(u64 pfn)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);

	t->nr_psmash++;
	if (!IS_ALIGNED(pfn, PTRS_PER_PMD)) {
		KUNIT_FAIL(test, "PSMASH of pfn 0x%llx, which isn't aligned to 2M", pfn);
		return RMP_FAIL_INPUT;
	}

	KUNIT_EXPECT_EQ_MSG(test, pfn, t->large, "no need for a PSMASH");
	if (t->fail_psmash)
		return t->fail_psmash;

	t->large = 0;
	return t->lose_psmash ? PSMASH_FAIL_BADADDR : 0;
}

/* The guest touches a page, and validates it first if it has to. */
static void model_touch(struct kunit *test, struct rmp_model_entry *e)
{
	struct snp_test *t = snp_test_of(test);

	if (!e->validated) {
		t->nr_validated++;
		e->validated = true;
	}
	model_encrypt(e);
}

/*
 * Firmware checks the registers of leaves that it knows, and wants zeros in those that
 * it doesn't.  It corrects registers, and nothing else: a table that is too long or
 * has reserved fields set is left alone, as are reserved fields of an entry [FW].
 */
static int model_check_cpuid(struct snp_cpuid_table *table)
{
	bool valid = true;
	int i;

	/* [ABI], PAGE_TYPE_CPUID, has the limit. */
	if (table->count > SNP_CPUID_COUNT_MAX || table->__reserved1 || table->__reserved2)
		return SEV_RET_INVALID_PARAM;

	for (i = 0; i < table->count; i++) {
		struct snp_cpuid_fn *fn = &table->fn[i];

		if (fn->__reserved) {
			valid = false;
		} else if (fn->eax_in == 1) {
			valid &= fn->eax == CPUID_1_EAX;
			fn->eax = CPUID_1_EAX;
		} else if ((fn->eax_in & 0x7fffffff) <= 0xffff) {
			valid &= !fn->eax && !fn->ebx && !fn->ecx && !fn->edx;
			fn->eax = 0;
			fn->ebx = 0;
			fn->ecx = 0;
			fn->edx = 0;
		}
	}

	return valid ? 0 : SEV_RET_INVALID_PARAM;
}

/* SNP_LAUNCH_UPDATE, [ABI]; the order of the checks is [FW]. */
static int model_launch_update(struct kunit *test,
			       const struct sev_data_snp_launch_update *args)
{
	struct snp_test *t = snp_test_of(test);
	kvm_pfn_t pfn = __sme_clr(args->address) >> PAGE_SHIFT;
	struct rmp_model_entry *e = xa_load(&t->rmp, pfn);
	u8 *page = pfn_to_kaddr(pfn);
	int r, contents = -1;

	t->nr_launch++;

	/* All of this is up to KVM, and never userspace's fault. */
	KUNIT_EXPECT_FALSE(test, args->rsvd || args->rsvd2 || args->rsvd3 || args->rsvd4);
	KUNIT_EXPECT_FALSE(test, args->imi_page);
	KUNIT_EXPECT_TRUE(test, PAGE_ALIGNED(args->address));
	KUNIT_EXPECT_EQ_MSG(test, args->gctx_paddr,
			    __psp_pa(t->svm->sev_info.snp_context),
			    "not the context of the guest");
	KUNIT_ASSERT_NOT_NULL_MSG(test, e, "firmware gets a page of the host's");
	KUNIT_EXPECT_TRUE_MSG(test, e->immutable && !e->validated, "page isn't pre-guest");
	KUNIT_EXPECT_EQ(test, (int)args->page_size,
			model_is_large(t, pfn) ? RMP_PG_SIZE_2M : RMP_PG_SIZE_4K);
	KUNIT_EXPECT_EQ(test, e->asid, SNP_TEST_ASID);
	KUNIT_EXPECT_EQ_MSG(test, model_hash(pfn), e->hash,
			    "the host has written to a page in the hands of firmware");

	if (t->running)
		return SEV_RET_INVALID_GUEST_STATE;
	/* On errors, the page and the digest stay what they are [FW], but see below. */
	if (t->fail_launch)
		return t->fail_launch;

	/* Contents are measured of NORMAL pages only [ABI], structure PAGE_INFO. */
	switch (args->page_type) {
	case SNP_PAGE_TYPE_NORMAL:
		contents = page[0];
		break;
	case SNP_PAGE_TYPE_UNMEASURED:
		break;
	case SNP_PAGE_TYPE_ZERO:
		memset(page, 0, PAGE_SIZE);
		break;
	case SNP_PAGE_TYPE_SECRET:
		memset(page, SECRETS, PAGE_SIZE);
		break;
	case SNP_PAGE_TYPE_CPUID:
		r = model_check_cpuid((void *)page);
		if (r) {
			/* In the clear [ABI]; the page is pre-guest as before. */
			e->hash = model_hash(pfn);
			return r;
		}
		break;
	default:
		KUNIT_FAIL(test, "page type %d", args->page_type);
		return SEV_RET_INVALID_PARAM;
	}

	KUNIT_ASSERT_LT(test, t->nr_measured, (int)ARRAY_SIZE(t->measured));
	t->measured[t->nr_measured++] = (struct snp_measurement) {
		.type = args->page_type,
		.gpa = e->gpa,
		.contents = contents,
	};
	e->plain = page[0];
	e->immutable = false;
	e->validated = true;
	model_encrypt(e);
	return 0;
}

static int model_issue_cmd(int fd, int id, void *data, int *error)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);

	switch (id) {
	case SEV_CMD_SNP_LAUNCH_UPDATE:
		*error = model_launch_update(test, data);
		break;
	case SEV_CMD_SNP_LAUNCH_FINISH:
		*error = t->running ? SEV_RET_INVALID_GUEST_STATE : 0;
		t->running = true;
		break;
	default:
		KUNIT_FAIL(test, "command 0x%x", id);
		*error = SEV_RET_INVALID_COMMAND;
	}

	return *error ? -EIO : 0;
}

/* The page stays the guest's: pre-guest becomes guest-invalid [FW]. */
static int model_reclaim_cmd(u64 pfn, int *fw_err)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);
	struct rmp_model_entry *e = xa_load(&t->rmp, pfn);

	t->nr_reclaim++;
	KUNIT_ASSERT_NOT_NULL(test, e);
	KUNIT_EXPECT_TRUE_MSG(test, e->immutable, "nothing to reclaim");

	*fw_err = 0;
	if (pfn == t->fail_reclaim) {
		*fw_err = SEV_RET_INVALID_PAGE_STATE;
		return -EIO;
	}

	e->immutable = false;
	return 0;
}

/* That links pages through a field which is in use while guest_memfd has them. */
static void model_leak_pages(u64 pfn, unsigned int npages, bool dump_rmp)
{
	KUNIT_FAIL(kunit_get_current_test(), "pfn 0x%llx is on the list of leaked pages", pfn);
}

static bool model_zap(struct kvm *kvm, struct kvm_gfn_range *range)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);
	u64 nr_flushes = kvm->stat.generic.remote_tlb_flush_requests;
	bool flush = false;
	unsigned long gfn;
	void *entry;

	xa_for_each_range(&t->npt, gfn, entry, range->start, range->end - 1) {
		KUNIT_EXPECT_EQ(test, 0, xa_err(xa_store(&t->tlb, xa_to_value(entry),
							 xa_mk_value(nr_flushes),
							 GFP_ATOMIC)));
		xa_erase(&t->npt, gfn);
		flush = true;
	}
	if (t->break_page)
		folio_set_hwpoison(pfn_folio(t->break_page));
	return flush;
}

static bool model_unmap(struct kvm *kvm, struct kvm_gfn_range *range)
{
	snp_test_of(kunit_get_current_test())->filter = range->attr_filter;
	kvm_gmem_kunit_invalidated(kvm, range->start, range->end);
	return model_zap(kvm, range);
}

/*
 * The guest touches the page as soon as it is mapped.  Any mismatch is an RMP fault
 * [APM 15.36.10], and as nothing else is wrong with the mapping, there is no end to it.
 */
static int model_map(struct kunit *test, gfn_t gfn, kvm_pfn_t pfn, bool private)
{
	struct snp_test *t = snp_test_of(test);
	struct rmp_model_entry *e = xa_load(&t->rmp, pfn);

	if (t->svm->kvm.arch.vm_type == KVM_X86_SNP_VM) {
		KUNIT_EXPECT_EQ(test, !!e, private);
		if (e && private) {
			KUNIT_EXPECT_EQ_MSG(test, e->gpa, gfn_to_gpa(gfn),
					    "page is assigned to another gfn");
			KUNIT_EXPECT_EQ(test, e->asid, SNP_TEST_ASID);
			KUNIT_EXPECT_FALSE(test, e->immutable);
			KUNIT_EXPECT_FALSE(test, model_is_large(t, pfn));
			model_touch(test, e);
		}
	}
	return xa_err(xa_store(&t->npt, gfn, xa_mk_value(pfn), GFP_ATOMIC));
}

static int convert(struct kunit *test, pgoff_t first, unsigned long nr, bool to_private,
		   u64 mode)
{
	return gmem_kunit_convert(test, first, nr, to_private, mode, NULL);
}

static struct rmp_model_entry *entry_of(struct kunit *test, pgoff_t index)
{
	struct snp_test *t = snp_test_of(test);

	return xa_load(&t->rmp, gmem_kunit_pfn(&t->g, index));
}

static bool is_assigned(struct kunit *test, pgoff_t index)
{
	return entry_of(test, index);
}

/* What an access of the guest's finds. */
static int guest_reads(struct kunit *test, pgoff_t index)
{
	struct rmp_model_entry *e = entry_of(test, index);

	return e && e->validated ? e->plain : -1;
}

/* Have one RMP entry for the 2MiB around a page, which the guest owns altogether. */
static void make_large(struct kunit *test, pgoff_t index)
{
	struct snp_test *t = snp_test_of(test);
	kvm_pfn_t large = ALIGN_DOWN(gmem_kunit_pfn(&t->g, index), PTRS_PER_PMD);
	pgoff_t i;

	for (i = 0; i < GMEM_KUNIT_PAGES; i++) {
		kvm_pfn_t pfn = gmem_kunit_pfn(&t->g, i);

		if (pfn && ALIGN_DOWN(pfn, PTRS_PER_PMD) == large)
			KUNIT_ASSERT_TRUE(test, is_assigned(test, i));
	}
	t->large = large;
}

static int nr_calls(struct snp_test *t)
{
	return t->nr_private + t->nr_shared + t->nr_psmash + t->nr_launch + t->nr_reclaim;
}

static void snp_test_free(void *p)
{
	vfree(p);
}

/* A vCPU that isn't running, as far as the VM and its VMSA are concerned. */
static struct vcpu_svm *make_vcpu(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct vcpu_svm *svm = vzalloc(sizeof(*svm));

	KUNIT_ASSERT_NOT_NULL(test, svm);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, snp_test_free, svm), 0);

	svm->vmcb = kunit_kzalloc(test, sizeof(*svm->vmcb), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, svm->vmcb);
	svm->vmcb->control.vmsa_pa = INVALID_PAGE;
	svm->sev_es.snp_guest_vmsa_gpa = INVALID_PAGE;
	mutex_init(&svm->sev_es.snp_vmsa_mutex);
	rcuwait_init(&svm->vcpu.wait);
	svm->vcpu.kvm = t->g.kvm;
	svm->vcpu.cpu = -1;

	KUNIT_ASSERT_EQ(test, xa_err(xa_store(&t->g.kvm->vcpu_array, 0, &svm->vcpu,
					      GFP_KERNEL)), 0);
	atomic_set(&t->g.kvm->online_vcpus, 1);
	return svm;
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
	xa_init(&t->tlb);

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
	kunit_activate_static_stub(test, snp_lookup_rmpentry_gpa, model_lookup);
	kunit_activate_static_stub(test, rmpupdate, model_rmpupdate);
	kunit_activate_static_stub(test, __rmpupdate, model_rmpupdate_insn);
	kunit_activate_static_stub(test, psmash, model_psmash);
	kunit_activate_static_stub(test, __sev_issue_cmd, model_issue_cmd);
	kunit_activate_static_stub(test, snp_page_reclaim_cmd, model_reclaim_cmd);
	kunit_activate_static_stub(test, __snp_leak_pages, model_leak_pages);
	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, model_unmap);

	t->g.map = model_map;
	gmem_kunit_init(test, &t->g, &t->svm->kvm, KVM_X86_SNP_VM, flags);
	/* Once launched; the tests of the launch take it back. */
	t->svm->kvm.arch.pre_fault_allowed = true;
	t->running = true;
	return 0;
}

static int snp_test_init(struct kunit *test)
{
	return __snp_test_init(test, GUEST_MEMFD_FLAG_INIT_SHARED);
}

static int snp_launch_test_init(struct kunit *test)
{
	int r = __snp_test_init(test, GUEST_MEMFD_FLAG_INIT_SHARED);

	if (!r) {
		snp_test_of(test)->g.kvm->arch.pre_fault_allowed = false;
		snp_test_of(test)->running = false;
	}
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
	xa_destroy(&t->tlb);
	xa_destroy(&t->g.kvm->vcpu_array);
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
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_ZERO);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 8, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 8, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
}

static void modes_are_announced(struct kunit *test)
{
	struct kvm *kvm = snp_test_of(test)->g.kvm;

	KUNIT_EXPECT_EQ(test, kvm_arch_gmem_content_modes(kvm), 0x02030001);
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
	make_large(test, 1);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 3, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_psmash, 1);
	KUNIT_EXPECT_EQ(test, t->large, 0);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 3);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);
}

/* An RMP fault of a neighbor has the entry split at the same time. */
static void psmash_loses_race(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 3);
	make_large(test, 1);
	t->lose_psmash = true;
	KUNIT_EXPECT_EQ(test, convert(test, 1, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_psmash, 1);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 1);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);
}

/* The model fails the test if the page is updated all the same. */
static void psmash_fails(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	pgoff_t error;

	gmem_kunit_give(test, 1, 1);
	make_large(test, 1);
	t->fail_psmash = RMP_FAIL_PERMISSION;

	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 3, false,
							 KVM_SET_MEMORY_ATTRIBUTES2_ZERO,
							 &error), -EIO);
	}
	KUNIT_EXPECT_EQ(test, t->nr_psmash, 1);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 0);
	KUNIT_EXPECT_EQ(test, error, 1);
	KUNIT_EXPECT_TRUE(test, t->g.kvm->vm_dead);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, 1));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), -EFAULT);
	t->fail_psmash = 0;
}

static void psmash_fails_for_hole(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct folio *folio;
	kvm_pfn_t pfn;

	gmem_kunit_give(test, 0, 1);
	pfn = gmem_kunit_pfn(&t->g, 0);
	folio = pfn_folio(pfn);
	make_large(test, 0);
	t->fail_psmash = RMP_FAIL_PERMISSION;

	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 0, 1), 0);
	}
	KUNIT_EXPECT_EQ(test, t->nr_shared, 0);
	KUNIT_EXPECT_NULL(test, folio->mapping);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);

	/* Give back what the test has borrowed. */
	t->fail_psmash = 0;
	t->large = 0;
	xa_erase(&t->rmp, pfn);
	folio_put(folio);
}

static void close_with_large_entry(struct kunit *test)
{
	gmem_kunit_give(test, 0, 8);
	make_large(test, 0);
}

/* Memory that the RMP doesn't cover can't be given to a guest, and isn't. */
static void no_rmp_entry(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 7));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->no_entry = gmem_kunit_pfn(&t->g, 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -ENOENT);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->npt));

	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 7);
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

static void page_in_use(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 2);
	t->in_use = gmem_kunit_pfn(&t->g, 1);
	t->nr_in_use = 100;
	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_in_use, 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);

	KUNIT_ASSERT_EQ(test, convert(test, 1, 1, true, 0), 0);
	t->nr_in_use = 1;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 1, true), 0);
	KUNIT_EXPECT_EQ(test, t->nr_in_use, 0);
}

static void page_in_use_for_ever(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	pgoff_t error;

	gmem_kunit_give(test, 0, 2);
	t->in_use = gmem_kunit_pfn(&t->g, 1);
	t->nr_in_use = INT_MAX;

	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 2, false, 0, &error), -EIO);
	}
	KUNIT_EXPECT_EQ(test, error, 1);
	KUNIT_EXPECT_TRUE(test, t->g.kvm->vm_dead);
	t->nr_in_use = 0;
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

/* A page that breaks too late for the conversion to fail is the host's all the same. */
static void poisoned_meanwhile(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	kvm_pfn_t pfn;

	gmem_kunit_give(test, 0, 4);
	pfn = gmem_kunit_pfn(&t->g, 2);
	t->break_page = pfn;

	KUNIT_EXPECT_EQ(test, convert(test, 0, 4, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	t->break_page = 0;
	KUNIT_EXPECT_TRUE(test, folio_test_hwpoison(pfn_folio(pfn)));
	KUNIT_EXPECT_EQ(test, t->nr_shared, 4);
	KUNIT_EXPECT_FALSE(test, is_assigned(test, 2));
	KUNIT_EXPECT_FALSE(test, gmem_kunit_is_private(test, 2));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 3), 0);

	/* Nobody touches it, nor lets anybody else. */
	KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(pfn, CIPHERTEXT));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 2), -EFAULT);

	/* It was a false alarm, and what the caller was promised holds. */
	folio_clear_hwpoison(pfn_folio(pfn));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 2), 0);
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

/* ---- other memslots ---- */

#define OTHER_GFN	(GMEM_KUNIT_GFN + 0x800)

/* Delete the memslot, and create it again at another gfn with the same file. */
static void rebind(struct kunit *test, gfn_t base_gfn)
{
	struct snp_test *t = snp_test_of(test);
	struct kvm_gfn_range range = {
		.slot = &t->g.slot,
		.start = t->g.slot.base_gfn,
		.end = t->g.slot.base_gfn + t->g.slot.npages,
	};

	/* As kvm_arch_flush_shadow_memslot() does. */
	KVM_MMU_LOCK(t->g.kvm);
	model_zap(t->g.kvm, &range);
	kvm_flush_remote_tlbs(t->g.kvm);
	KVM_MMU_UNLOCK(t->g.kvm);

	KUNIT_ASSERT_EQ(test, kvm_gmem_kunit_rebind(t->g.kvm, &t->g.slot, t->g.file,
						    base_gfn), 0);
}

static void bound_elsewhere(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	kvm_pfn_t pfn;

	gmem_kunit_give(test, 0, 2);
	pfn = gmem_kunit_pfn(&t->g, 0);
	KUNIT_EXPECT_EQ(test, t->nr_validated, 2);

	/* The page is assigned to where the guest finds it now, and isn't valid there. */
	rebind(test, OTHER_GFN);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, 0));
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_pfn(&t->g, 0), pfn);
	KUNIT_EXPECT_EQ(test, entry_of(test, 0)->gpa, gfn_to_gpa(OTHER_GFN));
	KUNIT_EXPECT_EQ(test, t->nr_private, 3);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 0);
	KUNIT_EXPECT_EQ(test, t->nr_validated, 3);

	/* Once. */
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, t->nr_private, 3);
	KUNIT_EXPECT_EQ(test, t->nr_validated, 3);

	/* Page 1 wasn't touched at the other gfn, and so is as it was when this is over. */
	rebind(test, GMEM_KUNIT_GFN);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 1, true), 0);
	KUNIT_EXPECT_EQ(test, t->nr_private, 3);
	KUNIT_EXPECT_EQ(test, t->nr_validated, 3);

	/* Whoever it is assigned to, the host gets it back. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->rmp));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
}

static void bound_elsewhere_large(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 1);
	make_large(test, 0);
	rebind(test, OTHER_GFN);
	t->fail_psmash = RMP_FAIL_PERMISSION;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EIO);
	}
	KUNIT_EXPECT_EQ(test, t->nr_private, 1);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->npt));

	t->fail_psmash = 0;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, t->nr_private, 2);
	KUNIT_EXPECT_EQ(test, entry_of(test, 0)->gpa, gfn_to_gpa(OTHER_GFN));
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
	gmem_kunit_mixture(test);
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

/* KVM_SEV_SNP_LAUNCH_FINISH, without vCPUs */
static void launch_finish(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct kvm_sev_cmd cmd = {
		.id = KVM_SEV_SNP_LAUNCH_FINISH,
		.data = (unsigned long)t->g.args,
	};

	KUNIT_ASSERT_EQ(test, 0, clear_user(t->g.args,
					    sizeof(struct kvm_sev_snp_launch_finish)));
	mutex_lock(&t->g.kvm->lock);
	KUNIT_EXPECT_EQ(test, snp_launch_finish(t->g.kvm, &cmd), 0);
	mutex_unlock(&t->g.kvm->lock);
	KUNIT_EXPECT_TRUE(test, t->running);
}

/* A table of two leaves, the first of which firmware has an opinion about. */
static struct snp_cpuid_table *make_cpuid(struct kunit *test)
{
	struct snp_cpuid_table *table = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, table);
	table->count = 2;
	table->fn[0].eax_in = 1;
	table->fn[0].eax = CPUID_1_EAX;
	table->fn[0].ebx = 0x1234;
	/* Not known to firmware. */
	table->fn[1].eax_in = 0x8000fff0;
	return table;
}

static void write_cpuid(struct kunit *test, pgoff_t index, const struct snp_cpuid_table *table)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_EQ(test, 0, copy_to_user(t->g.mem + (index << PAGE_SHIFT), table,
					      PAGE_SIZE));
}

static void expect_cpuid(struct kunit *test, const void __user *where,
			 const struct snp_cpuid_table *table)
{
	void *page = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_ASSERT_EQ(test, 0, copy_from_user(page, where, PAGE_SIZE));
	KUNIT_EXPECT_MEMEQ(test, page, table, PAGE_SIZE);
}

static void expect_measured(struct kunit *test, int i, u8 type, gfn_t gfn, int contents)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_LT(test, i, t->nr_measured);
	KUNIT_EXPECT_EQ(test, t->measured[i].type, type);
	KUNIT_EXPECT_EQ(test, t->measured[i].gpa, gfn_to_gpa(gfn));
	KUNIT_EXPECT_EQ(test, t->measured[i].contents, contents);
}

static void launch_in_place(struct kunit *test)
{
	/* What is measured of a page, and what the guest finds there. */
	static const struct {
		u8 type;
		int contents;
		int plain;
	} pages[] = {
		{ KVM_SEV_SNP_PAGE_TYPE_NORMAL, 0x10, 0x10 },
		{ KVM_SEV_SNP_PAGE_TYPE_UNMEASURED, -1, 0x11 },
		{ KVM_SEV_SNP_PAGE_TYPE_SECRETS, -1, SECRETS },
		{ KVM_SEV_SNP_PAGE_TYPE_ZERO, -1, 0 },
		{ KVM_SEV_SNP_PAGE_TYPE_CPUID, -1, 2 },
	};
	struct snp_test *t = snp_test_of(test);
	struct kvm_sev_snp_launch_update after;
	int i, n = ARRAY_SIZE(pages);

	for (i = 0; i < n; i++)
		KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, i, 0x10 + i));
	write_cpuid(test, n - 1, make_cpuid(test));
	KUNIT_ASSERT_EQ(test, convert(test, 0, n, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);

	for (i = 0; i < n; i++) {
		kvm_pfn_t pfn = gmem_kunit_pfn(&t->g, i);

		KUNIT_ASSERT_EQ(test, launch(test, GMEM_KUNIT_GFN + i, 1, 0, pages[i].type,
					     &after), 0);
		KUNIT_EXPECT_EQ(test, after.len, 0);
		KUNIT_EXPECT_EQ(test, after.uaddr, 0);
		KUNIT_EXPECT_EQ(test, after.gfn_start, GMEM_KUNIT_GFN + i + 1);
		expect_measured(test, i, pages[i].type, GMEM_KUNIT_GFN + i, pages[i].contents);
		KUNIT_EXPECT_EQ(test, guest_reads(test, i), pages[i].plain);
		KUNIT_EXPECT_EQ(test, gmem_kunit_pfn(&t->g, i), pfn);
	}
	KUNIT_EXPECT_EQ(test, t->nr_private, n);
	KUNIT_EXPECT_EQ(test, t->nr_launch, n);

	/* The guest finds them assigned and validated. */
	launch_finish(test);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, t->nr_private, n);
	KUNIT_EXPECT_EQ(test, t->nr_validated, 0);
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
	expect_measured(test, 1, SNP_PAGE_TYPE_NORMAL, GMEM_KUNIT_VM_GFN + 1, 0x78);
}

/* A file that tracks the state but can't be mapped: the VMM can't have written to it. */
static void launch_needs_a_source_without_mmap(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->g.slot.flags &= ~KVM_MEMSLOT_GMEM_ONLY;
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, nr_calls(t), 0);
	t->g.slot.flags |= KVM_MEMSLOT_GMEM_ONLY;
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), 0);
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

static void launch_once_running(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct kvm_sev_snp_launch_update after;

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	launch_finish(test);

	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, &after), -EIO);
	KUNIT_EXPECT_EQ(test, after.len, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, t->nr_measured, 0);
	KUNIT_EXPECT_EQ(test, t->nr_reclaim, 1);
	KUNIT_EXPECT_FALSE(test, is_assigned(test, 0));
	KUNIT_EXPECT_FALSE(test, t->g.kvm->vm_dead);

	/* The guest gets the page as any other, and has to validate it. */
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, t->nr_validated, 1);
}

/* Firmware has no use for a page that it rejects, nor has the launch digest. */
static void rejected_page(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct kvm_sev_snp_launch_update after;

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 1, 2));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 2, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);

	t->fail_launch = SEV_RET_RESOURCE_LIMIT;
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 2, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, &after), -EIO);
	KUNIT_EXPECT_EQ(test, after.gfn_start, GMEM_KUNIT_GFN);
	KUNIT_EXPECT_EQ(test, t->nr_launch, 1);
	KUNIT_EXPECT_EQ(test, t->nr_reclaim, 1);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->rmp));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, 0));

	/* Written again, as nothing is promised about it, and tried again. */
	t->fail_launch = 0;
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 3));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 2, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), 0);
	expect_measured(test, 0, SNP_PAGE_TYPE_NORMAL, GMEM_KUNIT_GFN, 3);
	expect_measured(test, 1, SNP_PAGE_TYPE_NORMAL, GMEM_KUNIT_GFN + 1, 2);
}

/* A page is rejected in the middle: success, as far as it went, and then an error. */
static void rejected_page_of_range(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct kvm_sev_snp_launch_update after;
	struct snp_cpuid_table *table = make_cpuid(test);

	write_cpuid(test, 0, table);
	table->fn[0].eax = 0;
	write_cpuid(test, 1, table);
	KUNIT_ASSERT_EQ(test, convert(test, 0, 2, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);

	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 2, 0, KVM_SEV_SNP_PAGE_TYPE_CPUID,
				     &after), 0);
	KUNIT_EXPECT_EQ(test, after.gfn_start, GMEM_KUNIT_GFN + 1);
	KUNIT_EXPECT_EQ(test, after.len, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, after.uaddr, 0);
	KUNIT_EXPECT_EQ(test, t->nr_launch, 2);
	KUNIT_EXPECT_EQ(test, t->nr_reclaim, 1);
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 0));
	KUNIT_EXPECT_FALSE(test, is_assigned(test, 1));
	KUNIT_EXPECT_EQ(test, t->nr_measured, 1);
}

static void rejected_cpuid_page(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	struct snp_cpuid_table *table = make_cpuid(test);

	table->fn[0].eax = 0xffff;
	table->fn[1].edx = 1;
	write_cpuid(test, 0, table);
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);

	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL), -EIO);
	KUNIT_EXPECT_EQ(test, t->nr_reclaim, 1);
	KUNIT_EXPECT_FALSE(test, is_assigned(test, 0));
	KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, 0));

	/*
	 * The VMM takes the page back and reads what firmware would have accepted,
	 * which it has to ask for: the switch for debugging makes no exception.
	 */
	kvm_gmem_kunit_poison(true);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	kvm_gmem_kunit_poison(false);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 1);
	expect_cpuid(test, t->g.mem, make_cpuid(test));

	/* And tries once more. */
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL), 0);
	expect_measured(test, 0, SNP_PAGE_TYPE_CPUID, GMEM_KUNIT_GFN, -1);
	KUNIT_EXPECT_EQ(test, t->nr_measured, 1);
}

/* Of four pages that were to be launched, firmware has taken the third. */
static void preserved_unless_taken(struct kunit *test)
{
	const u64 preserve = KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE;
	struct snp_test *t = snp_test_of(test);
	struct folio *folio;
	pgoff_t error;
	int i, calls;

	for (i = 0; i < 4; i++)
		KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, i, i + 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 8, true, preserve), 0);
	KUNIT_ASSERT_EQ(test, launch(test, GMEM_KUNIT_GFN + 2, 1, 0,
				     KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL), 0);
	calls = nr_calls(t);

	/* Nothing is changed, and a poisoned page is no earlier reason. */
	folio = pfn_folio(gmem_kunit_pfn(&t->g, 1));
	folio_set_hwpoison(folio);
	KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 8, false, preserve, &error),
			-EOPNOTSUPP);
	folio_clear_hwpoison(folio);
	KUNIT_EXPECT_EQ(test, error, 2);
	KUNIT_EXPECT_EQ(test, nr_calls(t), calls);
	KUNIT_EXPECT_TRUE(test, is_assigned(test, 2));
	for (i = 0; i < 8; i++)
		KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, i));

	/* Promised, and so for the switch to keep its hands off. */
	kvm_gmem_kunit_poison(true);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, false, preserve), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 3, 5, false, preserve), 0);
	kvm_gmem_kunit_poison(false);
	for (i = 0; i < 8; i++) {
		if (i != 2)
			KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, i), i < 4 ? i + 1 : 0);
	}
	KUNIT_EXPECT_EQ(test, nr_calls(t), calls);

	/* Ciphertext isn't worth keeping. */
	KUNIT_EXPECT_EQ(test, convert(test, 2, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 2), 0);

	/* Once launched, no page is as the host left it. */
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, preserve), 0);
	t->g.kvm->arch.pre_fault_allowed = true;
	KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 1, false, preserve, &error),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, error, 0);
}

/* What nobody asked for isn't kept, before the launch is final as ever. */
static void poison_before_launch(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	kvm_gmem_kunit_poison(true);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	kvm_gmem_kunit_poison(false);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0xa5);
}

static void rejected_cpuid_page_with_source(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	void __user *src = t->g.args + PAGE_SIZE;
	struct snp_cpuid_table *table = make_cpuid(test);

	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	table->fn[0].eax = 0xffff;
	KUNIT_ASSERT_EQ(test, 0, copy_to_user(src, table, PAGE_SIZE));

	KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN, 1, (unsigned long)src,
				     KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL), -EIO);
	expect_cpuid(test, src, make_cpuid(test));
}

/*
 * A table that isn't one is rejected as it is, so trying again with what was left in the
 * page fails for ever.
 */
static void malformed_cpuid_page(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);
	void __user *src = t->g.args + PAGE_SIZE;
	struct snp_cpuid_table *table;
	int i;

	for (i = 0; i < 4; i++) {
		table = make_cpuid(test);
		if (i == 0)
			table->count = SNP_CPUID_COUNT_MAX + 1;
		else if (i == 1)
			table->__reserved1 = 1;
		else if (i == 2)
			table->__reserved2 = 1;
		else
			table->fn[0].__reserved = 1;
		/* To be corrected, but for the other mistake. */
		if (i < 3)
			table->fn[0].eax = 0;

		write_cpuid(test, i, table);
		KUNIT_ASSERT_EQ(test, convert(test, i, 1, true,
					      KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
		KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN + i, 1, 0,
					     KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL), -EIO);
		KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN + i, 1, 0,
					     KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL), -EIO);
		KUNIT_EXPECT_EQ(test, convert(test, i, 1, false, 0), 0);
		expect_cpuid(test, t->g.mem + (i << PAGE_SHIFT), table);

		KUNIT_ASSERT_EQ(test, convert(test, i, 1, true, 0), 0);
		KUNIT_ASSERT_EQ(test, 0, copy_to_user(src, table, PAGE_SIZE));
		KUNIT_EXPECT_EQ(test, launch(test, GMEM_KUNIT_GFN + i, 1, (unsigned long)src,
					     KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL), -EIO);
		expect_cpuid(test, src, table);
	}
	KUNIT_EXPECT_EQ(test, t->nr_measured, 0);
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
	expect_measured(test, 0, SNP_PAGE_TYPE_NORMAL, GMEM_KUNIT_GFN, 1);
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
	sev_handle_rmp_fault(vcpu, gfn_to_gpa(t->g.slot.base_gfn + index),
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
	make_large(test, 0);
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

/* An RMP fault is no way around it: it finds the entry right, and maps nothing. */
static void rmp_fault_of_page_bound_elsewhere(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 1);
	rebind(test, OTHER_GFN);
	snp_test_rmp_fault(test, 0);
	KUNIT_EXPECT_EQ(test, entry_of(test, 0)->gpa, gfn_to_gpa(OTHER_GFN));
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->npt));
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, t->nr_private, 2);
}

/* The page is freed or converted at the wrong moment, which makes PSMASH fail. */
static int model_psmash_lost_race(u64 pfn)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);

	t->nr_psmash++;
	xa_erase(&t->rmp, gmem_kunit_pfn(&t->g, 0));
	return RMP_FAIL_PERMISSION;
}

/* No reason to remove any mapping, which would raise the sequence. */
static void expect_benign_rmp_fault(struct kunit *test, int nr_psmash)
{
	struct snp_test *t = snp_test_of(test);
	unsigned long seq;

	gmem_kunit_give(test, 0, 1);
	make_large(test, 0);
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

static void convert_to_shared(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
}

static void convert_to_private(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, true, 0), 0);
}

/* A page is looked up, converted, and only then about to be mapped. */
static void fault_loses_race(struct kunit *test)
{
	struct snp_test *t = snp_test_of(test);

	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->g.before_map = convert_to_shared;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EAGAIN);
	KUNIT_EXPECT_EQ(test, t->nr_private, 1);
	KUNIT_EXPECT_EQ(test, t->nr_shared, 1);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->npt));
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EACCES);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);

	t->g.before_map = convert_to_private;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), -EAGAIN);
	KUNIT_EXPECT_TRUE(test, xa_empty(&t->npt));
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), -EACCES);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
}

/* ---- what KVM itself does with guest memory ---- */

static void reload_vmsa(struct kunit *test, struct vcpu_svm *svm)
{
	kvm_clear_request(KVM_REQ_VMSA_PAGE_RELOAD, &svm->vcpu);
	/* Both are held in another way by a vCPU that runs. */
	mutex_lock(&svm->vcpu.kvm->lock);
	mutex_lock(&svm->vcpu.kvm->slots_lock);
	sev_snp_reload_vmsa(&svm->vcpu);
	mutex_unlock(&svm->vcpu.kvm->slots_lock);
	mutex_unlock(&svm->vcpu.kvm->lock);
}

static bool wants_vmsa(struct vcpu_svm *svm)
{
	return kvm_test_request(KVM_REQ_VMSA_PAGE_RELOAD, &svm->vcpu);
}

/* A vCPU whose VMSA is page 2 of pages 0 to 4, all of which are the guest's. */
static struct vcpu_svm *make_vcpu_with_vmsa(struct kunit *test)
{
	struct vcpu_svm *svm = make_vcpu(test);
	struct snp_test *t = snp_test_of(test);

	gmem_kunit_give(test, 0, 5);
	svm->sev_es.snp_guest_vmsa_gpa = gfn_to_gpa(GMEM_KUNIT_GFN + 2);
	reload_vmsa(test, svm);
	KUNIT_EXPECT_EQ(test, svm->vmcb->control.vmsa_pa,
			(u64)gmem_kunit_pfn(&t->g, 2) << PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, svm->sev_es.snp_guest_vmsa_gpa,
			gfn_to_gpa(GMEM_KUNIT_GFN + 2));
	KUNIT_EXPECT_FALSE(test, wants_vmsa(svm));
	return svm;
}

static void vmsa_is_converted(struct kunit *test)
{
	struct vcpu_svm *svm = make_vcpu_with_vmsa(test);
	struct snp_test *t = snp_test_of(test);

	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, false, 0), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 3, 2, false, 0), 0);
	/* Nor is it touched by a conversion that it has no part in. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, 5, true, 0), 0);
	KUNIT_EXPECT_FALSE(test, wants_vmsa(svm));

	KUNIT_EXPECT_EQ(test, convert(test, 1, 3, false, 0), 0);
	KUNIT_EXPECT_TRUE(test, wants_vmsa(svm));

	/* There is none, and the vCPU doesn't enter the guest. */
	reload_vmsa(test, svm);
	KUNIT_EXPECT_EQ(test, svm->vmcb->control.vmsa_pa, INVALID_PAGE);
	KUNIT_EXPECT_FALSE(test, wants_vmsa(svm));
	KUNIT_EXPECT_FALSE(test, is_assigned(test, 2));
	KUNIT_EXPECT_EQ(test, t->svm->kvm.mmu_invalidate_in_progress, 0);
}

static void vmsa_is_punched_out(struct kunit *test)
{
	struct vcpu_svm *svm = make_vcpu_with_vmsa(test);

	KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&snp_test_of(test)->g, 3, 1), 0);
	KUNIT_EXPECT_FALSE(test, wants_vmsa(svm));
	KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&snp_test_of(test)->g, 2, 1), 0);
	KUNIT_EXPECT_TRUE(test, wants_vmsa(svm));
}

/* The page is looked up, and gone when its address is about to be used. */
static int model_lookup_then_invalidate(u64 pfn, bool *assigned, int *level, u64 *gpa)
{
	struct kunit *test = kunit_get_current_test();
	struct snp_test *t = snp_test_of(test);

	kunit_activate_static_stub(test, snp_lookup_rmpentry_gpa, model_lookup);
	kvm_gmem_kunit_invalidate(t->g.kvm, GMEM_KUNIT_GFN + 2, GMEM_KUNIT_GFN + 3);
	return model_lookup(pfn, assigned, level, gpa);
}

static void vmsa_reload_loses_race(struct kunit *test)
{
	struct vcpu_svm *svm = make_vcpu_with_vmsa(test);
	struct snp_test *t = snp_test_of(test);

	kunit_activate_static_stub(test, snp_lookup_rmpentry_gpa,
				   model_lookup_then_invalidate);
	reload_vmsa(test, svm);
	KUNIT_EXPECT_EQ(test, svm->vmcb->control.vmsa_pa, INVALID_PAGE);
	KUNIT_EXPECT_TRUE(test, wants_vmsa(svm));

	/* The address isn't forgotten. */
	reload_vmsa(test, svm);
	KUNIT_EXPECT_EQ(test, svm->vmcb->control.vmsa_pa,
			(u64)gmem_kunit_pfn(&t->g, 2) << PAGE_SHIFT);
	KUNIT_EXPECT_FALSE(test, wants_vmsa(svm));
}

/*
 * From a VMGEXIT until the vCPU enters the guest again, KVM has the GHCB pinned.  What
 * the exit asks for can't be done to the GHCB itself, however often it is tried.
 */
static void ghcb_is_pinned(struct kunit *test)
{
	struct vcpu_svm *svm = make_vcpu(test);
	struct snp_test *t = snp_test_of(test);
	pgoff_t error;
	int i;

	t->g.slot.userspace_addr = (unsigned long)t->g.mem;
	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 1, 6));

	/* As sev_handle_vmgexit() does. */
	mutex_lock(&t->g.kvm->slots_lock);
	KUNIT_ASSERT_EQ(test, kvm_vcpu_map(&svm->vcpu, GMEM_KUNIT_GFN + 1,
					   &svm->sev_es.ghcb_map), 0);
	svm->sev_es.ghcb = svm->sev_es.ghcb_map.hva;
	mutex_unlock(&t->g.kvm->slots_lock);

	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 3, true, 0, &error),
				-EAGAIN);
		KUNIT_EXPECT_EQ(test, error, 1);
		KUNIT_EXPECT_FALSE(test, gmem_kunit_is_private(test, 0));
	}
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 6);
	KUNIT_EXPECT_EQ(test, convert(test, 2, 1, true, 0), 0);

	/* The vCPU enters the guest.  No vCPU of this VM runs, which KVM is surprised at. */
	mutex_lock(&t->g.kvm->slots_lock);
	kunit_warning_suppress(test) {
		__sev_es_unmap_ghcb(svm);
	}
	mutex_unlock(&t->g.kvm->slots_lock);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 3, true, 0), 0);
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
	KUNIT_CASE(psmash_loses_race),
	KUNIT_CASE(psmash_fails),
	KUNIT_CASE(psmash_fails_for_hole),
	KUNIT_CASE(close_with_large_entry),
	KUNIT_CASE(no_rmp_entry),
	KUNIT_CASE(make_private_fails),
	KUNIT_CASE(make_shared_fails),
	KUNIT_CASE(page_in_use),
	KUNIT_CASE(page_in_use_for_ever),
	KUNIT_CASE(reclaim_fails),
	KUNIT_CASE(poisoned_page),
	KUNIT_CASE(poisoned_meanwhile),
	KUNIT_CASE(busy_page),
	KUNIT_CASE(bound_elsewhere),
	KUNIT_CASE(bound_elsewhere_large),
	KUNIT_CASE(punch_hole_private),
	KUNIT_CASE(punch_hole_shared),
	KUNIT_CASE(close_in_every_state),
	KUNIT_CASE(others_are_not_converted),
	KUNIT_CASE(rmp_fault_splits),
	KUNIT_CASE(rmp_fault_of_converted_page),
	KUNIT_CASE(rmp_fault_of_page_bound_elsewhere),
	KUNIT_CASE(rmp_entry_vanishes_before_psmash),
	KUNIT_CASE(rmp_entry_vanishes_before_lookup),
	KUNIT_CASE(fault_loses_race),
	KUNIT_CASE(vmsa_is_converted),
	KUNIT_CASE(vmsa_is_punched_out),
	KUNIT_CASE(vmsa_reload_loses_race),
	KUNIT_CASE(ghcb_is_pinned),
	KUNIT_CASE(other_vm_types_call_nothing),
	{}
};

static struct kunit_case snp_launch_test_cases[] = {
	KUNIT_CASE(modes_before_launch),
	KUNIT_CASE(launch_in_place),
	KUNIT_CASE(launch_needs_a_source_elsewhere),
	KUNIT_CASE(launch_needs_a_source_without_mmap),
	KUNIT_CASE(launch_of_shared_page),
	KUNIT_CASE(launch_twice),
	KUNIT_CASE(launch_once_running),
	KUNIT_CASE(rejected_page),
	KUNIT_CASE(rejected_page_of_range),
	KUNIT_CASE(rejected_cpuid_page),
	KUNIT_CASE(preserved_unless_taken),
	KUNIT_CASE(poison_before_launch),
	KUNIT_CASE(rejected_cpuid_page_with_source),
	KUNIT_CASE(malformed_cpuid_page),
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
