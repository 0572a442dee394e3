// SPDX-License-Identifier: GPL-2.0-only
/*
 * SNP VM whose memory is one guest_memfd, launched from it and converted in place as
 * the guest asks for it.
 *
 * The guest has no exception handlers and no ucalls; it tells how far it got by the
 * reason code of its request for termination.
 */
#include <sys/mman.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "sev.h"
#include "sparsebit.h"

#define PRESERVE	KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE
#define ZERO		KVM_SET_MEMORY_ATTRIBUTES2_ZERO
#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE

#define FROM_HOST	0xbeefbeefbeefbeefull
#define FROM_GUEST	0xcafecafecafecafeull
#define SECRET		0x5ec2e75ec2e75ec2ull

/* Where the guest maps its test page as shared; the private mapping is the library's. */
#define SHARED_GVA	0xc0000000ul

static void guest_check(bool ok, u64 step)
{
	if (ok)
		return;

	for (;;) {
		wrmsr(MSR_AMD64_SEV_ES_GHCB, step << 16 | GHCB_MSR_TERM_REQ);
		vmgexit();
	}
}

static void guest_code(u64 *private, gpa_t gpa)
{
	u64 *shared = (u64 *)SHARED_GVA;

	/* Part of the measured image, and so valid from the start. */
	guest_check(READ_ONCE(private[0]) == FROM_HOST, 1);
	WRITE_ONCE(private[0], SECRET);

	/* To shared, which the VMM does with ZERO. */
	guest_check(!pvalidate(private, false), 2);
	guest_check(snp_page_state_change(gpa, GHCB_MSR_PSC_SHARED), 3);
	guest_check(!READ_ONCE(shared[0]), 4);
	guest_check(!READ_ONCE(shared[511]), 5);
	WRITE_ONCE(shared[0], FROM_GUEST);

	/* To private, where nothing of it can be relied on. */
	guest_check(snp_page_state_change(gpa, GHCB_MSR_PSC_PRIVATE), 6);
	guest_check(!pvalidate(private, true), 7);
	WRITE_ONCE(private[0], SECRET);
	guest_check(READ_ONCE(private[0]) == SECRET, 8);

	/* To shared once more, without a content mode. */
	guest_check(!pvalidate(private, false), 9);
	guest_check(snp_page_state_change(gpa, GHCB_MSR_PSC_SHARED), 10);
	WRITE_ONCE(shared[0], FROM_GUEST);

	guest_check(false, 0);
}

/* The page becomes the GHCB, for an exit that ends up in userspace. */
static void guest_code_ghcb(u64 *private, gpa_t gpa)
{
	u64 *shared = (u64 *)SHARED_GVA;

	guest_check(!pvalidate(private, false), 1);
	guest_check(snp_page_state_change(gpa, GHCB_MSR_PSC_SHARED), 2);
	guest_check(ghcb_register(gpa), 3);
	ghcb_exit(shared, gpa, SVM_VMGEXIT_TERM_REQUEST);

	/* Back in the guest: KVM has let go of the page. */
	guest_check(false, 0);
}

static u64 offset_of(struct kvm_vm *vm, gpa_t gpa)
{
	struct userspace_mem_region *region = memslot2region(vm, 0);

	return region->region.guest_memfd_offset + gpa - region->region.guest_phys_addr;
}

static int gmem_of(struct kvm_vm *vm)
{
	return memslot2region(vm, 0)->region.guest_memfd;
}

/* The number of pages that the guest_memfd holds, private or shared. */
static u64 nr_allocated(struct kvm_vm *vm)
{
	struct userspace_mem_region *region = memslot2region(vm, 0);
	u64 i, n = 0, nr_pages = region->region.memory_size / PAGE_SIZE;
	unsigned char *vec = malloc(nr_pages);

	TEST_ASSERT(vec, "malloc() failed");
	TEST_ASSERT(!mincore(region->host_mem, region->region.memory_size, vec),
		    "mincore() failed, errno = %d (%s)", errno, strerror(errno));
	for (i = 0; i < nr_pages; i++)
		n += vec[i] & 1;
	free(vec);

	return n;
}

static void expect_unsupported(struct kvm_vm *vm, gpa_t gpa, u64 attributes, u64 mode)
{
	u64 error_offset = -1ull;
	int r;

	r = __gmem_set_memory_attributes(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE,
					 attributes, mode, &error_offset);
	TEST_ASSERT(r == -1 && errno == EOPNOTSUPP, "Wanted EOPNOTSUPP, got %d, errno = %d (%s)",
		    r, errno, strerror(errno));
	TEST_ASSERT_EQ(error_offset, offset_of(vm, gpa));
}

/* Returns the direction that the guest wants, having checked that it is about @gpa. */
static bool wants_private(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT(run->exit_reason == KVM_EXIT_HYPERCALL,
		    "Wanted a page state change, got %s (reason code of the guest: 0x%llx)",
		    exit_reason_str(run->exit_reason),
		    run->exit_reason == KVM_EXIT_SYSTEM_EVENT ?
		    run->system_event.data[0] >> 16 : 0);
	TEST_ASSERT_EQ(run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	TEST_ASSERT_EQ(run->hypercall.args[0], gpa);
	TEST_ASSERT_EQ(run->hypercall.args[1], 1);
	run->hypercall.ret = 0;

	return run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED;
}

static struct kvm_vm *create(struct kvm_vcpu **vcpu, void *code, gva_t *gva, gpa_t *gpa,
			     u64 **hva)
{
	struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SNP_VM,
		.in_place = true,
	};
	struct userspace_mem_region *region;
	struct kvm_vm *vm;

	vm = __vm_create_with_vcpus(shape, 1, 0, code, vcpu);

	*gva = vm_alloc_page(vm);
	*gpa = addr_gva2gpa(vm, *gva);
	*hva = addr_gpa2hva(vm, *gpa);

	/* The second mapping of the page, without the C-bit. */
	region = memslot2region(vm, 0);
	sparsebit_clear(region->protected_phy_pages, *gpa >> vm->page_shift);
	virt_pg_map(vm, SHARED_GVA, *gpa);
	sparsebit_set(region->protected_phy_pages, *gpa >> vm->page_shift);

	vcpu_args_set(*vcpu, 2, *gva, *gpa);
	return vm;
}

static void test_conversions(void)
{
	u64 nr_pages;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	gva_t gva;
	gpa_t gpa;
	u64 *hva;

	vm = create(&vcpu, guest_code, &gva, &gpa, &hva);
	hva[0] = FROM_HOST;

	vm_sev_launch(vm, snp_default_policy(), NULL);
	nr_pages = nr_allocated(vm);
	TEST_ASSERT(nr_pages, "The image should be in the page cache");
	TEST_EXPECT_SIGBUS((void)READ_ONCE(hva[0]));

	/* Neither zeros nor plain text can be had now. */
	expect_unsupported(vm, gpa, 0, PRESERVE);

	vcpu_run(vcpu);
	TEST_ASSERT(!wants_private(vcpu, gpa), "The guest should want the page shared");
	gmem_set_shared(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE, ZERO);
	TEST_ASSERT_EQ(READ_ONCE(hva[0]), 0);

	expect_unsupported(vm, gpa, PRIVATE, PRESERVE);
	expect_unsupported(vm, gpa, PRIVATE, ZERO);

	vcpu_run(vcpu);
	TEST_ASSERT(wants_private(vcpu, gpa), "The guest should want the page private");
	/* The same page: what the guest wrote is here without anybody's copying. */
	TEST_ASSERT_EQ(READ_ONCE(hva[0]), FROM_GUEST);
	gmem_set_private(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE, 0);
	TEST_EXPECT_SIGBUS((void)READ_ONCE(hva[0]));

	vcpu_run(vcpu);
	TEST_ASSERT(!wants_private(vcpu, gpa), "The guest should want the page shared again");
	gmem_set_shared(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE, 0);
	TEST_ASSERT(READ_ONCE(hva[0]) != SECRET, "The host reads the guest's secret");

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(vcpu->run->system_event.type, KVM_SYSTEM_EVENT_SEV_TERM);
	TEST_ASSERT_EQ(vcpu->run->system_event.data[0], GHCB_MSR_TERM_REQ);
	TEST_ASSERT_EQ(READ_ONCE(hva[0]), FROM_GUEST);

	/* No page came or went. */
	TEST_ASSERT_EQ(nr_allocated(vm), nr_pages);

	kvm_vm_free(vm);
}

/*
 * KVM holds on to the GHCB while userspace handles the exit, so the page can't become
 * private, however often that is tried.
 */
static void test_ghcb(void)
{
	u64 error_offset;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	gva_t gva;
	gpa_t gpa;
	u64 *hva;
	int i, r;

	vm = create(&vcpu, guest_code_ghcb, &gva, &gpa, &hva);
	vm_sev_launch(vm, snp_default_policy(), NULL);

	vcpu_run(vcpu);
	TEST_ASSERT(!wants_private(vcpu, gpa), "The guest should want the page shared");
	gmem_set_shared(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE, ZERO);

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(vcpu->run->system_event.type, KVM_SYSTEM_EVENT_SEV_TERM);
	TEST_ASSERT_EQ(vcpu->run->system_event.data[0], gpa);
	TEST_ASSERT_EQ(READ_ONCE(hva[GHCB_SW_EXIT_CODE]), SVM_VMGEXIT_TERM_REQUEST);

	for (i = 0; i < 3; i++) {
		error_offset = -1ull;
		r = __gmem_set_memory_attributes(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE,
						 PRIVATE, 0, &error_offset);
		TEST_ASSERT(r == -1 && errno == EAGAIN,
			    "Wanted EAGAIN, got %d, errno = %d (%s)", r, errno, strerror(errno));
		TEST_ASSERT_EQ(error_offset, offset_of(vm, gpa));
	}

	vcpu_run(vcpu);
	TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_SYSTEM_EVENT);
	TEST_ASSERT_EQ(vcpu->run->system_event.data[0], GHCB_MSR_TERM_REQ);
	gmem_set_private(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE, 0);

	kvm_vm_free(vm);
}

/* A VMM that converts the wrong way, or not at all, is told so. */
static void test_mismatch(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	gva_t gva;
	gpa_t gpa;
	u64 *hva;

	vm = create(&vcpu, guest_code, &gva, &gpa, &hva);
	hva[0] = FROM_HOST;
	vm_sev_launch(vm, snp_default_policy(), NULL);

	/* The guest's first access is a private one. */
	gmem_set_shared(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE, 0);
	TEST_ASSERT_EQ(_vcpu_run(vcpu), -1);
	TEST_ASSERT_EQ(errno, EFAULT);
	TEST_ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(vcpu->run->memory_fault.gpa, gpa);
	TEST_ASSERT_EQ(vcpu->run->memory_fault.flags, KVM_MEMORY_EXIT_FLAG_PRIVATE);

	kvm_vm_free(vm);
}

static void test_launch_errors(void)
{
	struct kvm_sev_snp_launch_update update = { .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	gva_t gva;
	gpa_t gpa;
	u64 *hva;
	int r;

	vm = create(&vcpu, guest_code, &gva, &gpa, &hva);
	vm_mem_add(vm, VM_MEM_SRC_ANONYMOUS, 1ul << 32, 1, 1, KVM_MEM_GUEST_MEMFD, -1, 0);
	vm_mem_set_private(vm, 1ul << 32, PAGE_SIZE);
	snp_vm_launch_start(vm, snp_default_policy());

	/* Nobody can have written to memory that the VM keeps track of. */
	update.gfn_start = (1ul << 32) >> PAGE_SHIFT;
	update.len = PAGE_SIZE;
	r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update);
	TEST_ASSERT(r == -1 && errno == EINVAL, "Wanted EINVAL, got %d, errno = %d", r, errno);

	/* The page is still shared. */
	update.gfn_start = gpa >> PAGE_SHIFT;
	r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update);
	TEST_ASSERT(r == -1 && errno == EIO, "Wanted EIO, got %d, errno = %d", r, errno);

	expect_unsupported(vm, gpa, PRIVATE, ZERO);

	/* The page is as it was, until firmware takes it. */
	hva[0] = FROM_HOST;
	gmem_set_private(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE, PRESERVE);
	gmem_set_shared(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE, PRESERVE);
	TEST_ASSERT_EQ(READ_ONCE(hva[0]), FROM_HOST);
	gmem_set_private(gmem_of(vm), offset_of(vm, gpa), PAGE_SIZE, PRESERVE);

	r = __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update);
	TEST_ASSERT(!r, "Launch in place failed, errno = %d", errno);
	TEST_ASSERT_EQ(update.len, 0);
	TEST_ASSERT_EQ(update.uaddr, 0);
	expect_unsupported(vm, gpa, 0, PRESERVE);

	kvm_vm_free(vm);
}

static void test_capabilities(void)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SNP_VM);
	int modes = vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS);

	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES), PRIVATE);
	TEST_ASSERT_EQ(KVM_MEMORY_ATTRIBUTES2_TO_SHARED(modes), ZERO);
	TEST_ASSERT_EQ(KVM_MEMORY_ATTRIBUTES2_TO_PRIVATE(modes), 0);
	TEST_ASSERT_EQ(KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_SHARED(modes), ZERO | PRESERVE);
	TEST_ASSERT_EQ(KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_PRIVATE(modes), PRESERVE);
	TEST_ASSERT(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS) & GUEST_MEMFD_FLAG_INIT_SHARED,
		    "Memory of an SNP VM should be allowed to start out shared");

	kvm_vm_free(vm);
}

int main(void)
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SNP_VM));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));

	test_capabilities();
	test_launch_errors();
	test_conversions();
	test_ghcb();
	test_mismatch();

	return 0;
}
