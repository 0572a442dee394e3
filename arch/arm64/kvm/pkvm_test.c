// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for the hypercalls by which the host gives memory to a protected guest
 * and takes it back: what the hypervisor makes of a host that calls them at the wrong
 * time, for the wrong VM or with the wrong arguments.
 *
 * This is part of pkvm.c. The VMs are real ones to the hypervisor, but no vCPU is ever
 * entered, i.e. no guest has asked for anything. What a guest asks for is for the
 * hypervisor's own tests, see pkvm_ownership_selftest(), and for selftests.
 */
#include <kunit/test.h>

#include <linux/kthread.h>

#include <asm/kvm_mmu.h>

#define TEST_GFN	0x80000ull
#define PATTERN		0x5a
#define NR_RACES	200

struct pkvm_test_vm {
	struct kvm *kvm;
	struct kvm_vcpu *vcpu;
	bool dying;
};

KUNIT_DEFINE_ACTION_WRAPPER(kunit_free_page, __free_page, struct page *);

static void destroy_vm(void *data)
{
	struct pkvm_test_vm *vm = data;

	if (vm->kvm->arch.pkvm.is_created && !vm->dying)
		WARN_ON(kvm_call_hyp_nvhe(__pkvm_start_teardown_vm,
					  vm->kvm->arch.pkvm.handle));
	__pkvm_destroy_hyp_vm(vm->kvm);
	free_hyp_memcache(&vm->vcpu->arch.pkvm_memcache);
	kvm_unshare_hyp(vm->vcpu, vm->vcpu + 1);
	kvm_unshare_hyp(vm->kvm, vm->kvm + 1);
	free_pages_exact(vm->vcpu, sizeof(*vm->vcpu));
	free_pages_exact(vm->kvm, sizeof(*vm->kvm));
}

/* As much of a VM as the hypervisor looks at. */
static struct pkvm_test_vm *create_vm(struct kunit *test, unsigned long type)
{
	struct pkvm_test_vm *vm = kunit_kzalloc(test, sizeof(*vm), GFP_KERNEL);
	struct kvm *kvm;

	KUNIT_ASSERT_NOT_NULL(test, vm);
	kvm = alloc_pages_exact(sizeof(*kvm), GFP_KERNEL | __GFP_ZERO);
	vm->kvm = kvm;
	vm->vcpu = alloc_pages_exact(sizeof(*vm->vcpu), GFP_KERNEL | __GFP_ZERO);
	if (!kvm || !vm->vcpu) {
		if (kvm)
			free_pages_exact(kvm, sizeof(*kvm));
		if (vm->vcpu)
			free_pages_exact(vm->vcpu, sizeof(*vm->vcpu));
		KUNIT_FAIL_AND_ABORT(test, "no memory");
	}

	mutex_init(&kvm->slots_lock);
	mutex_init(&kvm->arch.config_lock);
	kvm->created_vcpus = 1;
	kvm->arch.mmu.arch = &kvm->arch;
	kvm->arch.mmu.vtcr = kvm_get_vtcr(read_sanitised_ftr_reg(SYS_ID_AA64MMFR0_EL1),
					  read_sanitised_ftr_reg(SYS_ID_AA64MMFR1_EL1),
					  get_kvm_ipa_limit());
	set_bit(KVM_ARCH_FLAG_ID_REGS_INITIALIZED, &kvm->arch.flags);
	vm->vcpu->kvm = kvm;
	vm->vcpu->arch.hw_mmu = &kvm->arch.mmu;

	KUNIT_ASSERT_EQ(test, kvm_share_hyp(kvm, kvm + 1), 0);
	KUNIT_ASSERT_EQ(test, kvm_share_hyp(vm->vcpu, vm->vcpu + 1), 0);
	KUNIT_ASSERT_EQ(test, pkvm_init_host_vm(kvm, type), 0);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, destroy_vm, vm), 0);
	KUNIT_ASSERT_EQ(test, pkvm_create_hyp_vm(kvm), 0);
	KUNIT_ASSERT_EQ(test, pkvm_create_hyp_vcpu(vm->vcpu), 0);

	return vm;
}

static struct page *new_page(struct kunit *test)
{
	struct page *page = alloc_page(GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, kunit_free_page, page), 0);
	memset(page_address(page), PATTERN, PAGE_SIZE);

	return page;
}

static bool page_is(struct page *page, u8 byte)
{
	return !memchr_inv(page_address(page), byte, PAGE_SIZE);
}

static void load(struct pkvm_test_vm *vm)
{
	preempt_disable();
	kvm_call_hyp_nvhe(__pkvm_vcpu_load, vm->kvm->arch.pkvm.handle, 0, HCR_TWI);
}

static void put(struct pkvm_test_vm *vm)
{
	kvm_call_hyp_nvhe(__pkvm_vcpu_put);
	preempt_enable();
}

static int donate(struct kunit *test, struct pkvm_test_vm *vm, struct page *page, u64 gfn)
{
	int ret;

	ret = topup_hyp_memcache(&vm->vcpu->arch.pkvm_memcache,
				 kvm_mmu_cache_min_pages(&vm->kvm->arch.mmu));
	KUNIT_ASSERT_EQ(test, ret, 0);

	load(vm);
	ret = kvm_call_hyp_nvhe(__pkvm_host_donate_guest, page_to_pfn(page), gfn);
	put(vm);

	return ret;
}

static int reclaim(struct pkvm_test_vm *vm, u64 gfn)
{
	return kvm_call_hyp_nvhe(__pkvm_reclaim_guest_page, vm->kvm->arch.pkvm.handle, gfn);
}

/* Nothing is loaded that could have asked. */
static void test_no_vcpu(struct kunit *test)
{
	create_vm(test, KVM_VM_TYPE_ARM_PROTECTED);

	preempt_disable();
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_vcpu_share_host, true), -EINVAL);
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_vcpu_share_host, false), -EINVAL);
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_vcpu_unshare_host), -EINVAL);
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_host_donate_guest, 0, TEST_GFN), -EINVAL);
	preempt_enable();
}

/* The guest hasn't asked, so its page stays what it is: the host can't have it shared. */
static void test_no_request(struct kunit *test)
{
	struct pkvm_test_vm *vm = create_vm(test, KVM_VM_TYPE_ARM_PROTECTED);
	struct page *page = new_page(test);

	KUNIT_ASSERT_EQ(test, donate(test, vm, page, TEST_GFN), 0);

	load(vm);
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_vcpu_share_host, true), -EINVAL);
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_vcpu_share_host, false), -EINVAL);
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_vcpu_unshare_host), -EINVAL);
	put(vm);

	/* A shared one wouldn't be scrubbed. */
	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN), 0);
	KUNIT_EXPECT_TRUE(test, page_is(page, 0));
}

/* VMs that aren't protected own no memory. */
static void test_not_protected(struct kunit *test)
{
	struct pkvm_test_vm *vm = create_vm(test, 0);
	struct page *page = new_page(test);

	load(vm);
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_vcpu_share_host, true), -EINVAL);
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_vcpu_unshare_host), -EINVAL);
	put(vm);

	KUNIT_EXPECT_EQ(test, donate(test, vm, page, TEST_GFN), -EINVAL);
	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN), -EINVAL);
	KUNIT_EXPECT_TRUE(test, page_is(page, PATTERN));
}

/* Once a private page was taken back, nothing can be put in its place. */
static void test_reclaim(struct kunit *test)
{
	struct pkvm_test_vm *vm = create_vm(test, KVM_VM_TYPE_ARM_PROTECTED);
	struct page *page = new_page(test);

	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN), -ENOENT);
	KUNIT_ASSERT_EQ(test, donate(test, vm, page, TEST_GFN), 0);
	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN + 1), -ENOENT);

	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN), 0);
	KUNIT_EXPECT_TRUE(test, page_is(page, 0));

	/* Neither is the page scrubbed again, now that it is the host's. */
	memset(page_address(page), PATTERN, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN), 0);
	KUNIT_EXPECT_TRUE(test, page_is(page, PATTERN));

	KUNIT_EXPECT_EQ(test, donate(test, vm, page, TEST_GFN), -EPERM);
	KUNIT_EXPECT_TRUE(test, page_is(page, PATTERN));

	/* Elsewhere is fine. */
	KUNIT_EXPECT_EQ(test, donate(test, vm, page, TEST_GFN + 1), 0);
	KUNIT_EXPECT_EQ(test, donate(test, vm, page, TEST_GFN + 2), -EPERM);
	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN + 1), 0);
	KUNIT_EXPECT_TRUE(test, page_is(page, 0));
}

struct reclaimer {
	struct pkvm_test_vm *vm;
	/* What is below has been taken back. */
	u64 next;
	unsigned long nr_absent;
	int error;
	bool stop;
	struct completion done;
};

/* Take one page after the other as soon as the guest has it, and not later. */
static int reclaim_in_loop(void *arg)
{
	struct reclaimer *r = arg;
	int ret;

	while (!READ_ONCE(r->stop) && r->next < TEST_GFN + NR_RACES) {
		ret = reclaim(r->vm, r->next);
		if (!ret) {
			/* Scrubbed before that, see test_reclaim_races_with_donate(). */
			smp_store_release(&r->next, r->next + 1);
		} else if (ret == -ENOENT) {
			r->nr_absent++;
		} else {
			r->error = ret;
		}
		cond_resched();
	}

	complete(&r->done);
	return 0;
}

/*
 * One CPU gives a page while another one takes it back. It has been scrubbed each time
 * that the host has it again, and can be given away once more.
 */
static void test_reclaim_races_with_donate(struct kunit *test)
{
	struct pkvm_test_vm *vm = create_vm(test, KVM_VM_TYPE_ARM_PROTECTED);
	struct reclaimer r = { .vm = vm, .next = TEST_GFN };
	struct page *page = new_page(test);
	struct task_struct *task;
	unsigned int nr_dirty = 0;
	int i, ret = 0;
	u64 gfn;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two processors");

	init_completion(&r.done);
	task = kthread_run(reclaim_in_loop, &r, "pkvm-reclaim");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));

	for (gfn = TEST_GFN; gfn < TEST_GFN + NR_RACES; gfn++) {
		ret = topup_hyp_memcache(&vm->vcpu->arch.pkvm_memcache,
					 kvm_mmu_cache_min_pages(&vm->kvm->arch.mmu));
		if (ret)
			break;

		load(vm);
		ret = kvm_call_hyp_nvhe(__pkvm_host_donate_guest, page_to_pfn(page), gfn);
		put(vm);
		if (ret)
			break;

		/* Pairs with reclaim_in_loop(). The page isn't the host's before that. */
		for (i = 0; i < 5000 && smp_load_acquire(&r.next) <= gfn; i++)
			fsleep(i < 100 ? 10 : 1000);
		if (r.next <= gfn) {
			ret = -ETIMEDOUT;
			break;
		}
		nr_dirty += !page_is(page, 0);
		memset(page_address(page), PATTERN, PAGE_SIZE);
	}

	WRITE_ONCE(r.stop, true);
	wait_for_completion(&r.done);

	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_EQ(test, gfn, TEST_GFN + NR_RACES);
	KUNIT_EXPECT_EQ(test, nr_dirty, 0);
	KUNIT_EXPECT_EQ(test, r.error, 0);
	/* Or else nothing was in a race with anything. */
	KUNIT_EXPECT_GT(test, r.nr_absent, NR_RACES);
}

static void test_reclaim_bad_handle(struct kunit *test)
{
	struct pkvm_test_vm *vm = create_vm(test, KVM_VM_TYPE_ARM_PROTECTED);
	const pkvm_handle_t handle = vm->kvm->arch.pkvm.handle;
	struct page *page = new_page(test);
	int reserved;

	KUNIT_ASSERT_EQ(test, donate(test, vm, page, TEST_GFN), 0);

	reserved = kvm_call_hyp_nvhe(__pkvm_reserve_vm);
	KUNIT_EXPECT_GT(test, reserved, 0);

	const pkvm_handle_t handles[] = {
		0, 1, handle - 1, reserved, reserved + 1, handle ^ BIT(15), (pkvm_handle_t)~0
	};

	for (int i = 0; i < ARRAY_SIZE(handles); i++)
		KUNIT_EXPECT_EQ_MSG(test, kvm_call_hyp_nvhe(__pkvm_reclaim_guest_page,
							    handles[i], TEST_GFN),
				    -EINVAL, "handle 0x%x", handles[i]);
	kvm_call_hyp_nvhe(__pkvm_unreserve_vm, reserved);

	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN), 0);
}

static void test_bad_gfn(struct kunit *test)
{
	struct pkvm_test_vm *vm = create_vm(test, KVM_VM_TYPE_ARM_PROTECTED);
	const u64 limit = BIT_ULL(get_kvm_ipa_limit() - PAGE_SHIFT);
	const u64 gfns[] = { limit, limit + 1, limit + TEST_GFN, BIT_ULL(52) + TEST_GFN,
			     BIT_ULL(63), ~0ull - 1, ~0ull };
	struct page *page = new_page(test);

	/* Of these, what is left when the address overflows is a good gfn. */
	KUNIT_ASSERT_EQ(test, donate(test, vm, page, TEST_GFN), 0);

	for (int i = 0; i < ARRAY_SIZE(gfns); i++) {
		if (gfns[i] << PAGE_SHIFT == TEST_GFN << PAGE_SHIFT)
			continue;
		KUNIT_EXPECT_LT_MSG(test, reclaim(vm, gfns[i]), 0, "gfn 0x%llx", gfns[i]);
		KUNIT_EXPECT_LT_MSG(test, donate(test, vm, page, gfns[i]), 0,
				    "gfn 0x%llx", gfns[i]);
	}

	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN), 0);
	KUNIT_EXPECT_TRUE(test, page_is(page, 0));
}

/* Two VMs: neither gets at what the other one has. */
static void test_other_vm(struct kunit *test)
{
	struct pkvm_test_vm *vm = create_vm(test, KVM_VM_TYPE_ARM_PROTECTED);
	struct pkvm_test_vm *other = create_vm(test, KVM_VM_TYPE_ARM_PROTECTED);
	struct page *page = new_page(test);

	KUNIT_ASSERT_EQ(test, donate(test, vm, page, TEST_GFN), 0);
	KUNIT_EXPECT_EQ(test, reclaim(other, TEST_GFN), -ENOENT);
	KUNIT_EXPECT_EQ(test, donate(test, other, page, TEST_GFN), -EPERM);
	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN), 0);
	KUNIT_EXPECT_TRUE(test, page_is(page, 0));
}

/* A VM that is being torn down loses its pages in the same state. */
static void test_dying(struct kunit *test)
{
	struct pkvm_test_vm *vm = create_vm(test, KVM_VM_TYPE_ARM_PROTECTED);
	pkvm_handle_t handle = vm->kvm->arch.pkvm.handle;
	struct page *page = new_page(test);

	KUNIT_ASSERT_EQ(test, donate(test, vm, page, TEST_GFN), 0);
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_reclaim_dying_guest_page, handle, TEST_GFN),
			-EINVAL);

	KUNIT_ASSERT_EQ(test, kvm_call_hyp_nvhe(__pkvm_start_teardown_vm, handle), 0);
	vm->dying = true;

	/* There is no vCPU to be loaded any more. */
	KUNIT_EXPECT_EQ(test, donate(test, vm, page, TEST_GFN + 1), -EINVAL);

	KUNIT_EXPECT_EQ(test, reclaim(vm, TEST_GFN), 0);
	KUNIT_EXPECT_TRUE(test, page_is(page, 0));
	KUNIT_EXPECT_EQ(test, kvm_call_hyp_nvhe(__pkvm_reclaim_dying_guest_page, handle, TEST_GFN),
			0);
}

static int pkvm_test_init(struct kunit *test)
{
	if (!is_protected_kvm_enabled() || !is_kvm_arm_initialised())
		kunit_skip(test, "needs kvm-arm.mode=protected");

	return 0;
}

static struct kunit_case pkvm_test_cases[] = {
	KUNIT_CASE(test_no_vcpu),
	KUNIT_CASE(test_no_request),
	KUNIT_CASE(test_not_protected),
	KUNIT_CASE(test_reclaim),
	KUNIT_CASE(test_reclaim_races_with_donate),
	KUNIT_CASE(test_reclaim_bad_handle),
	KUNIT_CASE(test_bad_gfn),
	KUNIT_CASE(test_other_vm),
	KUNIT_CASE(test_dying),
	{}
};

static struct kunit_suite pkvm_test_suite = {
	.name = "pkvm_host",
	.init = pkvm_test_init,
	.test_cases = pkvm_test_cases,
};

kunit_test_suite(pkvm_test_suite);
