// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the conversion of guest_memfd memory between private and shared, in
 * place, i.e. without the memory changing its pages.
 *
 * Most tests come in one of these settings:
 *
 *  - "gmem":	a small file, bound to a memslot of a VM without vCPUs, and mapped
 *  - "guest":	a file that is just larger than 2 MiB, and a vCPU that does to it
 *		what it is told to
 *  - "sparse":	large files without any memory, for the state alone
 *  - "pin":	a small file, and the ways in which the host can hold on to pages
 *  - "race":	as "guest", but with several vCPUs
 *
 * Those with vCPUs are for x86 only, as their guests use memory in whatever state the
 * host has put it.  To a guest of arm64's pKVM all memory is private until it shares
 * it, see arm64/guest_memfd_pkvm_test.c.
 */
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <linux/sizes.h>

#include "guest_memfd.h"
#include "kvm_syscalls.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "numaif.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

/*
 * Out of the way of slot 0, which holds the test itself, and of everything that
 * is special about the first 4 GiB.
 */
#define TEST_GPA	((gpa_t)SZ_4G)
#define TEST_SLOT	10
#define OTHER_GPA	(TEST_GPA + SZ_1G)
#define OTHER_SLOT	11

#define NR_PAGES	16

#define MAX_VCPUS	3

/* What the debugging parameter of KVM fills memory with. */
#define POISON_BYTE	0xa5
#define POISON_PARAM	"/sys/module/kvm/parameters/gmem_poison_unspecified"

/*
 * What differs between types of VMs: what the VM rather than the file can keep track
 * of, and how it turns down ioctls that it doesn't know.
 */
#ifdef __x86_64__
static const u64 vm_attributes = PRIVATE;
static const int no_vm_ioctl = ENOTTY;
#elif defined(__aarch64__)
static const u64 vm_attributes;
static const int no_vm_ioctl = EINVAL;
#endif

static size_t page_size;

kvm_static_assert(sizeof(struct kvm_memory_attributes2) == 128);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, address) == 0);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, offset) == 0);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, size) == 8);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, attributes) == 16);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, flags) == 24);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, error_offset) == 32);
kvm_static_assert(offsetof(struct kvm_memory_attributes2, reserved) == 40);

/* The head of the struct is that of its predecessor. */
kvm_static_assert(offsetof(struct kvm_memory_attributes, address) == 0);
kvm_static_assert(offsetof(struct kvm_memory_attributes, size) == 8);
kvm_static_assert(offsetof(struct kvm_memory_attributes, attributes) == 16);
kvm_static_assert(offsetof(struct kvm_memory_attributes, flags) == 24);

static char poison_param_before[4];

static bool poison_param_set(const char *val)
{
	if (!read_str(POISON_PARAM, poison_param_before, sizeof(poison_param_before)))
		return false;
	return write_str(POISON_PARAM, val);
}

/* For tests that fail, this is called by the teardown of their fixture. */
static void poison_param_restore(void)
{
	if (poison_param_before[0])
		write_str(POISON_PARAM, poison_param_before);
	poison_param_before[0] = '\0';
}

static void gmem_bind(struct gmem *g)
{
	vm_set_user_memory_region2(g->vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA,
				   g->size, g->mem, g->fd, 0);
}

/*
 * The uAPI
 */
TEST(abi_cap_macros)
{
	const u64 cap = 0x02030201;

	EXPECT_EQ(ZERO, KVM_MEMORY_ATTRIBUTES2_TO_SHARED(cap));
	EXPECT_EQ(PRESERVE, KVM_MEMORY_ATTRIBUTES2_TO_PRIVATE(cap));
	EXPECT_EQ(ZERO | PRESERVE, KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_SHARED(cap));
	EXPECT_EQ(PRESERVE, KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_PRIVATE(cap));
	EXPECT_EQ(252, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES);
	EXPECT_EQ(253, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS);
	EXPECT_EQ(0xc080aed2u, (u32)KVM_SET_MEMORY_ATTRIBUTES2);
}

TEST(caps_dev_kvm)
{
	const unsigned int flags = 0x02030203;

	EXPECT_EQ(PRIVATE, kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));

	/* Other types of VMs may be able to do more. */
	EXPECT_EQ(flags, kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS) & flags);
}

TEST(caps_vm)
{
	struct kvm_vm *vm = vm_create_barebones_type(IN_PLACE_VM_TYPE);
	u64 flags = vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS);

	EXPECT_EQ(PRIVATE, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	EXPECT_EQ(0x02030203, flags);
	EXPECT_EQ(ZERO | PRESERVE, KVM_MEMORY_ATTRIBUTES2_TO_SHARED(flags));
	EXPECT_EQ(PRESERVE, KVM_MEMORY_ATTRIBUTES2_TO_PRIVATE(flags));
	EXPECT_EQ(ZERO | PRESERVE, KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_SHARED(flags));
	EXPECT_EQ(PRESERVE, KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_PRIVATE(flags));
	EXPECT_EQ(IN_PLACE, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS));

	/* What a VMM that doesn't convert in place wants to know is as ever. */
	EXPECT_EQ(vm_attributes, vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES));
	EXPECT_EQ(vm_attributes, kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES));

	kvm_vm_free(vm);
}

TEST(caps_vm_without_private_memory)
{
	struct kvm_vm *vm = vm_create_barebones();

	EXPECT_EQ(0, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	EXPECT_EQ(0, vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS));
	EXPECT_EQ(0, vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES));
	EXPECT_EQ(IN_PLACE, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS));

	kvm_vm_free(vm);
}

TEST(einval_vm_without_private_memory)
{
	struct gmem g = { .size = NR_PAGES * page_size };

	g.vm = vm_create_barebones();
	g.fd = vm_create_guest_memfd(g.vm, g.size, IN_PLACE);
	gmem_map(&g);
	host_fill(&g, 0, NR_PAGES, 0x1000);

	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &g, 0, 1, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &g, 0, 1, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &g, 0, 1, SHARED, UNSPECIFIED);
	ASSERT_HOST_SEES(&g, 0, NR_PAGES, 0x1000);

	gmem_close(&g);
}

TEST(enotty_file_without_own_state)
{
	struct gmem g = {};

	gmem_open(&g, NR_PAGES * page_size, 0);

	ASSERT_CONVERT_FAILS(ENOTTY, UNTOUCHED, &g, 0, 1, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERT_FAILS(ENOTTY, UNTOUCHED, &g, 0, 1, SHARED, UNSPECIFIED);

	/* ENOTTY comes before EFAULT and EINVAL. */
	ASSERT_CONVERT_FAILS(ENOTTY, UNTOUCHED, &g, NR_PAGES, 1, PRIVATE, BIT(5));
	ASSERT_EQ(-1, ioctl(g.fd, KVM_SET_MEMORY_ATTRIBUTES2, NULL));
	ASSERT_EQ(ENOTTY, errno);

	gmem_close(&g);
}

/* Files that don't track their own state are private, and can't be mapped. */
TEST(init_shared)
{
	struct gmem g = {};

	gmem_open(&g, NR_PAGES * page_size, GUEST_MEMFD_FLAG_MMAP);
	gmem_map(&g);
	ASSERT_STATE(&g, 0, NR_PAGES, PRIVATE);
	ASSERT_EQ(0, nr_allocated(&g));
	ASSERT_CONVERTS(&g, 0, NR_PAGES, SHARED, UNSPECIFIED);
	ASSERT_STATE(&g, 0, NR_PAGES, SHARED);
	ASSERT_HOST_SEES_BYTE(&g, 0, NR_PAGES, 0);
	gmem_close(&g);

	memset(&g, 0, sizeof(g));
	gmem_open(&g, NR_PAGES * page_size, IN_PLACE);
	gmem_map(&g);
	ASSERT_STATE(&g, 0, NR_PAGES, SHARED);
	ASSERT_HOST_SEES_BYTE(&g, 0, NR_PAGES, 0);
	ASSERT_CONVERTS(&g, 0, NR_PAGES, PRIVATE, UNSPECIFIED);
	ASSERT_STATE(&g, 0, NR_PAGES, PRIVATE);
	gmem_close(&g);
}

/*
 * A file that starts out shared but can't be mapped: it knows the state of its pages,
 * while what is shared is other memory.  So contents are exchanged, not kept.
 */
TEST(init_shared_without_mmap)
{
	struct gmem g = {};

	gmem_open(&g, NR_PAGES * page_size, GUEST_MEMFD_FLAG_INIT_SHARED);
	ASSERT_EQ(MAP_FAILED, mmap(NULL, g.size, PROT_READ, MAP_SHARED, g.fd, 0));
	ASSERT_EQ(ENODEV, errno);

	ASSERT_EQ(0, first_shared(g.fd, 0, g.size));
	kvm_fallocate(g.fd, FALLOC_FL_KEEP_SIZE, 0, g.size);
	ASSERT_CONVERTS(&g, 2, 3, PRIVATE, UNSPECIFIED);
	ASSERT_FALSE(is_private(g.fd, page_size));
	ASSERT_EQ(5 * page_size, first_shared(g.fd, 2 * page_size, g.size - 2 * page_size));

	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 5, &g, 2, 8, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 5, &g, 2, 8, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 2, &g, 0, 8, SHARED, PRESERVE);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 2, &g, 0, 8, SHARED, ZERO);

	/* Nothing to do is nothing to keep. */
	ASSERT_CONVERTS(&g, 2, 3, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&g, 5, 3, SHARED, ZERO);

	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &g, NR_PAGES, 1, SHARED, UNSPECIFIED);
	ASSERT_CONVERTS(&g, 0, NR_PAGES, SHARED, UNSPECIFIED);
	ASSERT_EQ(0, first_shared(g.fd, 0, g.size));

#ifdef __aarch64__
	/* Memslots of arm64 have one backing. */
	ASSERT_EQ(-1, __vm_set_user_memory_region2(g.vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD,
						   TEST_GPA, g.size, NULL, g.fd, 0));
	ASSERT_EQ(EINVAL, errno);
#endif
	gmem_close(&g);

	/* A VM without private memory makes a difference in the error only. */
	memset(&g, 0, sizeof(g));
	g.vm = vm_create_barebones();
	g.fd = vm_create_guest_memfd(g.vm, page_size, GUEST_MEMFD_FLAG_INIT_SHARED);
	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &g, 0, 1, PRIVATE, UNSPECIFIED);
	gmem_close(&g);
}

FIXTURE(gmem)
{
	struct gmem g;
};

FIXTURE_SETUP(gmem)
{
	gmem_open(&self->g, NR_PAGES * page_size, IN_PLACE);
	gmem_map(&self->g);
	gmem_bind(&self->g);
}

FIXTURE_TEARDOWN(gmem)
{
	poison_param_restore();
	gmem_close(&self->g);
}

TEST_F(gmem, enotty_other_ioctls)
{
	struct kvm_memory_attributes2 attr = {
		.size = page_size,
		.attributes = PRIVATE,
		.error_offset = UNTOUCHED,
	};
	unsigned long cmds[] = {
		KVM_SET_MEMORY_ATTRIBUTES,
		KVM_GET_API_VERSION,
		KVM_CREATE_GUEST_MEMFD,
		_IO(KVMIO, _IOC_NR(KVM_SET_MEMORY_ATTRIBUTES2)),
		_IOWR(KVMIO, _IOC_NR(KVM_SET_MEMORY_ATTRIBUTES2), __u64),
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		ASSERT_EQ(-1, ioctl(self->g.fd, cmds[i], &attr));
		ASSERT_EQ(ENOTTY, errno);
	}

	/* It is an ioctl of the file, not of the VM. */
	ASSERT_EQ(-1, ioctl(self->g.vm->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr));
	ASSERT_EQ(no_vm_ioctl, errno);
	ASSERT_EQ(-1, ioctl(self->g.vm->kvm_fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr));
	ASSERT_NE(0, errno);

	ASSERT_EQ(UNTOUCHED, attr.error_offset);
	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);
}

TEST_F(gmem, efault)
{
	struct kvm_memory_attributes2 *attr;
	u8 *mem;

	ASSERT_EQ(-1, ioctl(self->g.fd, KVM_SET_MEMORY_ATTRIBUTES2, NULL));
	ASSERT_EQ(EFAULT, errno);

	mem = kvm_mmap(2 * page_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	/* The last word of the struct can't be read, be it zero or not. */
	attr = (void *)(mem + page_size + 8 - sizeof(*attr));
	attr->size = page_size;
	attr->attributes = PRIVATE;
	attr->error_offset = UNTOUCHED;
	kvm_munmap(mem + page_size, page_size);
	ASSERT_EQ(-1, ioctl(self->g.fd, KVM_SET_MEMORY_ATTRIBUTES2, attr));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(UNTOUCHED, attr->error_offset);

	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);
	kvm_munmap(mem, page_size);
}

/* A conversion that has happened isn't reported as failed, and vice versa. */
TEST_F(gmem, struct_not_writable)
{
	struct kvm_memory_attributes2 *attr;

	attr = kvm_mmap(page_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1);
	attr->size = 2 * page_size;
	attr->attributes = PRIVATE;
	attr->flags = PRESERVE;
	ASSERT_EQ(0, mprotect(attr, page_size, PROT_READ));
	ASSERT_EQ(0, ioctl(self->g.fd, KVM_SET_MEMORY_ATTRIBUTES2, attr));
	ASSERT_STATE(&self->g, 0, 2, PRIVATE);
	ASSERT_STATE(&self->g, 2, NR_PAGES - 2, SHARED);

	ASSERT_EQ(0, mprotect(attr, page_size, PROT_READ | PROT_WRITE));
	attr->offset = page_size;
	attr->flags = ZERO;
	ASSERT_EQ(0, mprotect(attr, page_size, PROT_READ));
	ASSERT_EQ(-1, ioctl(self->g.fd, KVM_SET_MEMORY_ATTRIBUTES2, attr));
	ASSERT_EQ(EOPNOTSUPP, errno);
	ASSERT_STATE(&self->g, 0, 2, PRIVATE);
	ASSERT_STATE(&self->g, 2, NR_PAGES - 2, SHARED);

	kvm_munmap(attr, page_size);
}

TEST_F(gmem, einval_flags)
{
	u64 flag;

	for (flag = BIT(2); flag; flag <<= 1) {
		ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, 1, PRIVATE, flag);
		ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, 1, PRIVATE,
				     flag | PRESERVE);
		/* Be there anything to do or not. */
		ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, 1, SHARED, flag);
	}

	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, 1, PRIVATE, ZERO | PRESERVE);
	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, 1, SHARED, ZERO | PRESERVE);
	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);
}

TEST_F(gmem, einval_reserved)
{
	struct kvm_memory_attributes2 attr;
	int i;

	for (i = 0; i < ARRAY_SIZE(attr.reserved); i++) {
		memset(&attr, 0, sizeof(attr));
		attr.size = page_size;
		attr.attributes = PRIVATE;
		attr.error_offset = UNTOUCHED;
		attr.reserved[i] = BIT_ULL(i * 5);
		ASSERT_EQ(-1, ioctl(self->g.fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr));
		ASSERT_EQ(EINVAL, errno);
		ASSERT_EQ(UNTOUCHED, attr.error_offset);
	}
	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);
}

TEST_F(gmem, einval_attributes)
{
	u64 attribute;

	for (attribute = 1; attribute; attribute <<= 1) {
		if (attribute == PRIVATE)
			continue;

		ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, 1, attribute,
				     UNSPECIFIED);
		ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, 1,
				     attribute | PRIVATE, UNSPECIFIED);
	}
	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);
}

TEST_F(gmem, einval_range)
{
	const u64 size = self->g.size;
	const struct {
		u64 offset;
		u64 size;
	} ranges[] = {
		{ 0, 0 },
		{ page_size, 0 },
		{ 0, 1 },
		{ 0, page_size - 1 },
		{ 0, page_size + 1 },
		{ 1, page_size },
		{ page_size - 1, page_size },
		{ page_size / 2, page_size / 2 },
		{ size, page_size },
		{ size, 0 },
		{ 0, size + page_size },
		{ page_size, size },
		{ size - page_size, 2 * page_size },
		{ 0, BIT_ULL(63) },
		{ BIT_ULL(63), page_size },
		{ 0, -page_size },
		{ page_size, -page_size },
		{ 2 * page_size, -page_size },
		{ -page_size, page_size },
		{ -page_size, 2 * page_size },
		{ -1ull, 1 },
	};
	u64 attributes, where;
	int i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		for (attributes = SHARED; attributes <= PRIVATE; attributes += PRIVATE) {
			ASSERT_EQ(EINVAL, convert(self->g.fd, ranges[i].offset,
						  ranges[i].size, attributes,
						  PRESERVE, &where)) {
				TH_LOG("offset 0x%lx, size 0x%lx", ranges[i].offset,
				       ranges[i].size);
			}
			ASSERT_EQ(UNTOUCHED, where);
		}
	}
	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);
}

/* All that is wrong with the arguments comes before what is wrong with the mode. */
TEST_F(gmem, einval_before_eopnotsupp)
{
	struct kvm_memory_attributes2 attr = {
		.size = page_size,
		.attributes = PRIVATE,
		.flags = ZERO,
		.error_offset = UNTOUCHED,
		.reserved[10] = 1,
	};

	ASSERT_EQ(-1, ioctl(self->g.fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(UNTOUCHED, attr.error_offset);

	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, 0, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, NR_PAGES + 1, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, 1, PRIVATE | 1, ZERO);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, &self->g, 0, 1, PRIVATE, ZERO);
}

/* error_offset is an output, and only of calls that fail. */
TEST_F(gmem, error_offset_on_success)
{
	u64 where = 0;

	ASSERT_EQ(0, convert(self->g.fd, 0, self->g.size, PRIVATE, UNSPECIFIED, &where));
	ASSERT_EQ(UNTOUCHED, where);
	ASSERT_EQ(0, convert(self->g.fd, 0, self->g.size, PRIVATE, UNSPECIFIED, &where));
	ASSERT_EQ(UNTOUCHED, where);
	ASSERT_EQ(0, convert(self->g.fd, 0, self->g.size, SHARED, ZERO, &where));
	ASSERT_EQ(UNTOUCHED, where);
}

#ifdef __x86_64__
static long ioctl32(int fd, u32 cmd, void *arg)
{
	long ret;

	/* What an ioctl() of a 32-bit process does, except for the bitness. */
	asm volatile("int $0x80"
		     : "=a" (ret)
		     : "a" (54), "b" (fd), "c" (cmd), "d" (arg)
		     : "r8", "r9", "r10", "r11", "memory");
	return (int)ret;
}

static int has_ia32_syscalls(void *fd)
{
	/* The kernel raises SIGSEGV if it doesn't know of 32-bit processes. */
	signal(SIGSEGV, _exit);
	return ioctl32(*(int *)fd, KVM_GET_API_VERSION, NULL) == -ENOTTY ? 0 : 1;
}

TEST_F(gmem, compat_ioctl)
{
	struct kvm_memory_attributes2 *attr;

	if (run_in_child(has_ia32_syscalls, &self->g.fd))
		SKIP(return, "No 32-bit system calls (CONFIG_IA32_EMULATION)");

	host_fill(&self->g, 0, NR_PAGES, 0x3200);

	attr = kvm_mmap(page_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1);
	attr->offset = page_size;
	attr->size = page_size;
	attr->attributes = PRIVATE;
	attr->flags = PRESERVE;
	ASSERT_EQ(0, ioctl32(self->g.fd, KVM_SET_MEMORY_ATTRIBUTES2, attr));
	ASSERT_STATE(&self->g, 0, 1, SHARED);
	ASSERT_STATE(&self->g, 1, 1, PRIVATE);
	ASSERT_STATE(&self->g, 2, NR_PAGES - 2, SHARED);

	attr->size = 2 * page_size;
	attr->flags = ZERO;
	ASSERT_EQ(-EOPNOTSUPP, ioctl32(self->g.fd, KVM_SET_MEMORY_ATTRIBUTES2, attr));
	ASSERT_EQ(2 * page_size, attr->error_offset);

	attr->attributes = SHARED;
	attr->flags = PRESERVE;
	ASSERT_EQ(0, ioctl32(self->g.fd, KVM_SET_MEMORY_ATTRIBUTES2, attr));
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x3200);

	kvm_munmap(attr, page_size);
}
#endif

/*
 * The state, and what the host makes of it
 */
TEST_F(gmem, host_access)
{
	u8 *second;

	second = __kvm_mmap(4 * page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    self->g.fd, 4 * page_size);
	host_fill(&self->g, 0, NR_PAGES, 0x100);
	ASSERT_TRUE(can_write(second + page_size));

	ASSERT_CONVERTS(&self->g, 5, 2, PRIVATE, PRESERVE);

	ASSERT_FALSE(can_read(self->g.mem + 5 * page_size));
	ASSERT_FALSE(can_write(self->g.mem + 5 * page_size));
	ASSERT_FALSE(can_read(self->g.mem + 7 * page_size - 1));
	ASSERT_FALSE(can_write(self->g.mem + 7 * page_size - 1));
	ASSERT_TRUE(can_read(self->g.mem + 5 * page_size - 1));
	ASSERT_TRUE(can_write(self->g.mem + 7 * page_size));

	/* What is true of one mapping is true of all of them. */
	ASSERT_TRUE(can_read(second));
	ASSERT_FALSE(can_read(second + page_size));
	ASSERT_FALSE(can_write(second + 2 * page_size));
	ASSERT_TRUE(can_write(second + 3 * page_size));
	kvm_munmap(second, 4 * page_size);

	/* And of those that are yet to come. */
	second = __kvm_mmap(4 * page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    self->g.fd, 4 * page_size);
	ASSERT_FALSE(can_read(second + page_size));

	ASSERT_CONVERTS(&self->g, 5, 2, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x100);
	ASSERT_EQ(0x105, *first_word(second + page_size));
	kvm_munmap(second, 4 * page_size);
}

TEST_F(gmem, private_mapping_refused)
{
	ASSERT_EQ(MAP_FAILED, mmap(NULL, page_size, PROT_READ, MAP_PRIVATE,
				   self->g.fd, 0));
	ASSERT_EQ(EINVAL, errno);
}

TEST_F(gmem, system_calls_efault)
{
	u8 *private = self->g.mem + 3 * page_size;
	u8 buf[8] = "convert";
	struct iovec local = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct iovec remote = { .iov_base = private, .iov_len = sizeof(buf) };
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	host_fill(&self->g, 0, NR_PAGES, 0x200);
	ASSERT_CONVERTS(&self->g, 3, 1, PRIVATE, PRESERVE);

	ASSERT_EQ(-1, write(fds[1], private, sizeof(buf)));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(sizeof(buf), write(fds[1], buf, sizeof(buf)));
	ASSERT_EQ(-1, read(fds[0], private, sizeof(buf)));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, vmsplice(fds[1], &remote, 1, 0));
	ASSERT_EQ(EFAULT, errno);

	ASSERT_EQ(-1, syscall(__NR_futex, private, FUTEX_WAKE, 1, NULL, NULL, 0));
	ASSERT_EQ(EFAULT, errno);

	ASSERT_EQ(-1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	ASSERT_EQ(EFAULT, errno);

	ASSERT_CONVERTS(&self->g, 3, 1, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x200);
	ASSERT_EQ(sizeof(buf), process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	ASSERT_EQ(0, memcmp(private, buf, sizeof(buf)));

	close(fds[0]);
	close(fds[1]);
}

TEST_F(gmem, mlocked_mapping)
{
	host_fill(&self->g, 0, NR_PAGES / 2, 0x300);
	ASSERT_EQ(0, mlock(self->g.mem, self->g.size));

	ASSERT_CONVERTS(&self->g, 2, NR_PAGES - 4, PRIVATE, PRESERVE);
	ASSERT_STATE(&self->g, 2, NR_PAGES - 4, PRIVATE);
	ASSERT_CONVERTS(&self->g, 2, NR_PAGES - 4, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES / 2, 0x300);

	ASSERT_EQ(0, munlock(self->g.mem, self->g.size));
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
}

TEST_F(gmem, madvise)
{
	ASSERT_CONVERTS(&self->g, 4, 1, PRIVATE, UNSPECIFIED);

	ASSERT_EQ(-1, madvise(self->g.mem, self->g.size, MADV_POPULATE_WRITE));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(4, nr_host_mapped(&self->g));
	ASSERT_EQ(-1, madvise(self->g.mem + 4 * page_size, page_size,
			      MADV_POPULATE_READ));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(0, madvise(self->g.mem + 5 * page_size, self->g.size - 5 * page_size,
			     MADV_POPULATE_READ));
	ASSERT_EQ(NR_PAGES - 1, nr_host_mapped(&self->g));
	ASSERT_EQ(NR_PAGES - 1, nr_allocated(&self->g));

	/* It is the mappings that go, not the contents. */
	host_fill(&self->g, 5, NR_PAGES - 5, 0x400);
	ASSERT_EQ(0, madvise(self->g.mem, self->g.size, MADV_DONTNEED));
	ASSERT_EQ(0, nr_host_mapped(&self->g));
	ASSERT_HOST_SEES(&self->g, 5, NR_PAGES - 5, 0x400);
	ASSERT_STATE(&self->g, 4, 1, PRIVATE);
}

static int child_converts(void *__g)
{
	struct gmem *g = __g;

	return convert_pages(g, 1, 2, PRIVATE, PRESERVE, NULL);
}

/* Whoever has the file may convert its memory. */
TEST_F(gmem, other_owners_of_the_file)
{
	struct gmem g = self->g;

	host_fill(&self->g, 0, NR_PAGES, 0x500);
	ASSERT_EQ(0, run_in_child(child_converts, &self->g));
	ASSERT_STATE(&self->g, 0, 1, SHARED);
	ASSERT_STATE(&self->g, 1, 2, PRIVATE);
	ASSERT_STATE(&self->g, 3, NR_PAGES - 3, SHARED);

	g.fd = kvm_dup(self->g.fd);
	kvm_close(self->g.fd);
	self->g.fd = g.fd;
	ASSERT_CONVERTS(&g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&g, 0, NR_PAGES, 0x500);
}

struct forked {
	struct gmem *g;
	int to_child[2];
	int to_parent[2];
};

static int child_loses_page(void *__f)
{
	struct forked *f = __f;
	u8 *mem = f->g->mem;
	char c = 0;

	/* Not mapped here before, even if the parent had it mapped. */
	if (host_match(f->g, 0, NR_PAGES, 0x600) != ALL)
		return 1;
	if (write(f->to_parent[1], &c, 1) != 1 || read(f->to_child[0], &c, 1) != 1)
		return 2;
	if (!can_read(mem + 5 * page_size) || can_read(mem + 6 * page_size) ||
	    can_write(mem + 6 * page_size) || !can_write(mem + 7 * page_size))
		return 3;
	return 0;
}

TEST_F(gmem, forked_mapping)
{
	struct forked f = { .g = &self->g };
	int status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(f.to_child));
	ASSERT_EQ(0, pipe(f.to_parent));
	host_fill(&self->g, 0, NR_PAGES, 0x600);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(child_loses_page(&f));

	close(f.to_parent[1]);
	ASSERT_EQ(1, read(f.to_parent[0], &c, 1));
	ASSERT_CONVERTS(&self->g, 6, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(1, write(f.to_child[1], &c, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	ASSERT_CONVERTS(&self->g, 6, 1, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x600);
}

/* Convert all kinds of ranges, in both directions, and look at the whole file. */
TEST_F(gmem, neighbours)
{
	const struct {
		u64 page;
		u64 nr;
	} ranges[] = {
		{ 0, 1 }, { NR_PAGES - 1, 1 }, { 7, 1 }, { 0, 3 }, { 3, 8 },
		{ NR_PAGES - 5, 5 }, { 0, NR_PAGES },
	};
	u64 page, nr;
	int i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		page = ranges[i].page;
		nr = ranges[i].nr;

		host_fill(&self->g, 0, NR_PAGES, 0x700);
		ASSERT_CONVERTS(&self->g, page, nr, PRIVATE, PRESERVE);
		ASSERT_STATE(&self->g, 0, page, SHARED);
		ASSERT_STATE(&self->g, page, nr, PRIVATE);
		ASSERT_STATE(&self->g, page + nr, NR_PAGES - page - nr, SHARED);
		ASSERT_HOST_SEES(&self->g, 0, page, 0x700);
		ASSERT_HOST_SEES(&self->g, page + nr, NR_PAGES - page - nr, 0x700);

		ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
		ASSERT_CONVERTS(&self->g, page, nr, SHARED, PRESERVE);
		ASSERT_STATE(&self->g, 0, page, PRIVATE);
		ASSERT_STATE(&self->g, page, nr, SHARED);
		ASSERT_STATE(&self->g, page + nr, NR_PAGES - page - nr, PRIVATE);
		ASSERT_HOST_SEES(&self->g, page, nr, 0x700);

		ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
		ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x700);
	}
}

TEST_F(gmem, alternate_pages)
{
	u64 i;

	host_fill(&self->g, 0, NR_PAGES, 0x800);
	for (i = 1; i < NR_PAGES; i += 2)
		ASSERT_CONVERTS(&self->g, i, 1, PRIVATE, PRESERVE);
	for (i = 0; i < NR_PAGES; i++) {
		ASSERT_STATE(&self->g, i, 1, i & 1 ? PRIVATE : SHARED);
		if (!(i & 1))
			ASSERT_HOST_SEES(&self->g, i, 1, 0x800);
	}

	/* Swap them, a pair at a time. */
	for (i = 0; i < NR_PAGES; i += 2) {
		ASSERT_CONVERTS(&self->g, i, 1, PRIVATE, PRESERVE);
		ASSERT_CONVERTS(&self->g, i + 1, 1, SHARED, PRESERVE);
	}
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_STATE(&self->g, i, 1, i & 1 ? SHARED : PRIVATE);

	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_STATE(&self->g, 0, NR_PAGES, PRIVATE);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x800);
}

/* The physical pages, and their number, are the same before and after. */
TEST_F(gmem, same_physical_page)
{
	u64 pfns[NR_PAGES], i;

	host_fill(&self->g, 0, NR_PAGES, 0x900);
	for (i = 0; i < NR_PAGES; i++)
		pfns[i] = PM_PFN(pagemap_entry(self->g.mem + i * page_size));
	if (!pfns[0])
		SKIP(return, "Page frame numbers are not to be had");

	ASSERT_EQ(NR_PAGES, nr_allocated(&self->g));
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(NR_PAGES, nr_allocated(&self->g));
	ASSERT_EQ(0, nr_host_mapped(&self->g));
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_EQ(NR_PAGES, nr_allocated(&self->g));

	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x900);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(pfns[i], PM_PFN(pagemap_entry(self->g.mem + i * page_size)));
}

/*
 * Content modes
 */
TEST_F(gmem, eopnotsupp_zero_to_private)
{
	host_fill(&self->g, 0, NR_PAGES, 0xa00);

	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, &self->g, 0, NR_PAGES, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 9, &self->g, 9, 2, PRIVATE, ZERO);

	/* It is the first page that would change that is told. */
	ASSERT_CONVERTS(&self->g, 0, 4, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 4, &self->g, 0, NR_PAGES, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 4, &self->g, 3, 2, PRIVATE, ZERO);

	ASSERT_STATE(&self->g, 0, 4, PRIVATE);
	ASSERT_STATE(&self->g, 4, NR_PAGES - 4, SHARED);
	ASSERT_CONVERTS(&self->g, 0, 4, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0xa00);
}

/* Nothing to do is a success in any mode, and touches nothing. */
TEST_F(gmem, noop)
{
	host_fill(&self->g, 0, NR_PAGES, 0xb00);

	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, UNSPECIFIED);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, ZERO);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_EQ(NR_PAGES, nr_host_mapped(&self->g));
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0xb00);

	ASSERT_CONVERTS(&self->g, 2, 3, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 2, 3, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERTS(&self->g, 2, 3, PRIVATE, ZERO);
	ASSERT_CONVERTS(&self->g, 2, 3, PRIVATE, PRESERVE);
	ASSERT_STATE(&self->g, 2, 3, PRIVATE);
	ASSERT_CONVERTS(&self->g, 2, 3, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0xb00);
}

/* A VMM that repeats a call must not lose what has been written since. */
TEST_F(gmem, zero_again)
{
	host_fill(&self->g, 0, NR_PAGES, 0xc00);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);

	ASSERT_CONVERTS(&self->g, 4, 4, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(&self->g, 4, 4, 0);
	host_fill(&self->g, 4, 4, 0xc80);

	ASSERT_CONVERTS(&self->g, 4, 4, SHARED, ZERO);
	ASSERT_HOST_SEES(&self->g, 4, 4, 0xc80);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(&self->g, 0, 4, 0);
	ASSERT_HOST_SEES(&self->g, 4, 4, 0xc80);
	ASSERT_HOST_SEES_BYTE(&self->g, 8, NR_PAGES - 8, 0);
}

TEST_F(gmem, zero_only_what_changes)
{
	u64 i;

	host_fill(&self->g, 0, NR_PAGES, 0xd00);
	for (i = 1; i < NR_PAGES; i += 3)
		ASSERT_CONVERTS(&self->g, i, 1, PRIVATE, PRESERVE);

	/* Leave the private pages at both ends alone. */
	ASSERT_CONVERTS(&self->g, 2, NR_PAGES - 4, SHARED, ZERO);
	ASSERT_STATE(&self->g, 1, 1, PRIVATE);
	for (i = 2; i < NR_PAGES - 2; i++) {
		ASSERT_EQ(ALL, i % 3 == 1 ? host_match_byte(&self->g, i, 1, 0) :
					    host_match(&self->g, i, 1, 0xd00));
	}

	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, 4, 0xd00);
	ASSERT_HOST_SEES(&self->g, NR_PAGES - 2, 2, 0xd00);
}

/* Memory that nobody has used reads zero, and converting it allocates none. */
TEST_F(gmem, never_allocated)
{
	const u64 modes[] = { UNSPECIFIED, ZERO, PRESERVE };
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE,
				modes[i] == ZERO ? PRESERVE : modes[i]);
		ASSERT_EQ(0, nr_allocated(&self->g));
		ASSERT_EQ(self->g.size, first_shared(self->g.fd, 0, self->g.size));
		ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, modes[i]);
		ASSERT_EQ(0, nr_allocated(&self->g));
		ASSERT_EQ(0, first_shared(self->g.fd, 0, self->g.size));

		ASSERT_HOST_SEES_BYTE(&self->g, 0, NR_PAGES, 0);
		ASSERT_EQ(NR_PAGES, nr_allocated(&self->g));
		host_fill(&self->g, 0, NR_PAGES, 0xe00);
		punch_hole(&self->g, 0, NR_PAGES);
		ASSERT_EQ(0, nr_allocated(&self->g));
	}
}

/* Memory that has been allocated but never used reads zero, too. */
TEST_F(gmem, allocated_but_never_used)
{
	const u64 modes[] = { UNSPECIFIED, ZERO, PRESERVE };
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		kvm_fallocate(self->g.fd, FALLOC_FL_KEEP_SIZE, 0, self->g.size);
		ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
		ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, modes[i]);
		ASSERT_HOST_SEES_BYTE(&self->g, 0, NR_PAGES, 0);
		host_fill(&self->g, 0, NR_PAGES, 0xf00);
		punch_hole(&self->g, 0, NR_PAGES);
	}
}

TEST_F(gmem, mixed_allocation)
{
	u64 i;

	for (i = 0; i < NR_PAGES; i += 4)
		host_fill(&self->g, i, 2, 0x1100);
	ASSERT_EQ(NR_PAGES / 2, nr_allocated(&self->g));

	ASSERT_CONVERTS(&self->g, 1, NR_PAGES - 2, PRIVATE, PRESERVE);
	ASSERT_EQ(NR_PAGES / 2, nr_allocated(&self->g));
	ASSERT_CONVERTS(&self->g, 1, NR_PAGES - 2, SHARED, PRESERVE);
	ASSERT_EQ(NR_PAGES / 2, nr_allocated(&self->g));

	for (i = 0; i < NR_PAGES; i += 4) {
		ASSERT_HOST_SEES(&self->g, i, 2, 0x1100);
		ASSERT_HOST_SEES_BYTE(&self->g, i + 2, 2, 0);
	}
}

/*
 * A page that only a per-CPU batch of the LRU holds is waited for.  The mappings of
 * those before it are none the less looked at.
 */
TEST_F(gmem, fresh_page_behind_mapped_ones)
{
	host_fill(&self->g, 0, 4, 0x980);
	ASSERT_CONVERTS(&self->g, 0, 4, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 0, 4, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, 4, 0x980);
	host_fill(&self->g, 4, 1, 0x980);
	ASSERT_EQ(0, madvise(self->g.mem + 4 * page_size, page_size, MADV_DONTNEED));
	ASSERT_EQ(4, nr_host_mapped(&self->g));

	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(0, nr_host_mapped(&self->g));
	ASSERT_STATE(&self->g, 0, NR_PAGES, PRIVATE);

	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, 5, 0x980);
}

TEST_F(gmem, unspecified_keeps_contents_in_fact)
{
	char param[4] = "";

	if (read_str(POISON_PARAM, param, sizeof(param)) && param[0] == 'Y')
		SKIP(return, "KVM has been told not to");

	host_fill(&self->g, 0, NR_PAGES, 0x1200);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, UNSPECIFIED);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x1200);
}

/*
 * Holes
 */
TEST_F(gmem, punch_hole)
{
	u64 i;

	host_fill(&self->g, 0, NR_PAGES, 0x1300);
	for (i = 0; i < NR_PAGES; i += 4)
		ASSERT_CONVERTS(&self->g, i, 2, PRIVATE, PRESERVE);

	/* 5 is private, 6 and 7 are shared, 8 is private. */
	punch_hole(&self->g, 5, 4);
	ASSERT_EQ(NR_PAGES - 4, nr_allocated(&self->g));
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_STATE(&self->g, i, 1, i % 4 < 2 ? PRIVATE : SHARED);

	ASSERT_HOST_SEES_BYTE(&self->g, 6, 2, 0);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, 5, 0x1300);
	ASSERT_HOST_SEES_BYTE(&self->g, 5, 4, 0);
	ASSERT_HOST_SEES(&self->g, 9, NR_PAGES - 9, 0x1300);
}

TEST_F(gmem, state_outlives_memory)
{
	host_fill(&self->g, 0, NR_PAGES, 0x1400);
	ASSERT_CONVERTS(&self->g, 3, 4, PRIVATE, PRESERVE);

	punch_hole(&self->g, 0, NR_PAGES);
	ASSERT_EQ(0, nr_allocated(&self->g));
	ASSERT_EQ(7 * page_size, first_shared(self->g.fd, 3 * page_size, 8 * page_size));
	kvm_fallocate(self->g.fd, FALLOC_FL_KEEP_SIZE, 0, self->g.size);

	ASSERT_STATE(&self->g, 0, 3, SHARED);
	ASSERT_STATE(&self->g, 3, 4, PRIVATE);
	ASSERT_STATE(&self->g, 7, NR_PAGES - 7, SHARED);
	ASSERT_CONVERTS(&self->g, 3, 4, SHARED, PRESERVE);
	ASSERT_HOST_SEES_BYTE(&self->g, 0, NR_PAGES, 0);
}

/*
 * The end of files, mappings, memslots and VMs
 */
TEST_F(gmem, mapping_outlives_file)
{
	host_fill(&self->g, 0, NR_PAGES, 0x1500);
	ASSERT_CONVERTS(&self->g, 3, 4, PRIVATE, PRESERVE);

	kvm_close(self->g.fd);
	self->g.fd = -1;

	ASSERT_HOST_SEES(&self->g, 0, 3, 0x1500);
	ASSERT_FALSE(can_read(self->g.mem + 3 * page_size));
	ASSERT_FALSE(can_write(self->g.mem + 7 * page_size - 1));
	ASSERT_HOST_SEES(&self->g, 7, NR_PAGES - 7, 0x1500);
}

TEST_F(gmem, file_outlives_vm)
{
	host_fill(&self->g, 0, NR_PAGES, 0x1600);
	ASSERT_CONVERTS(&self->g, 3, 4, PRIVATE, PRESERVE);

	kvm_vm_free(self->g.vm);
	self->g.vm = NULL;

	ASSERT_STATE(&self->g, 3, 4, PRIVATE);
	ASSERT_CONVERTS(&self->g, 5, 5, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x1600);
}

TEST(close_in_any_order)
{
	static const char * const orders[] = { "fmv", "fvm", "mfv", "mvf", "vfm", "vmf" };
	const char *step;
	struct gmem g;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		memset(&g, 0, sizeof(g));
		gmem_open(&g, NR_PAGES * page_size, IN_PLACE);
		gmem_map(&g);
		if (i & 1)
			gmem_bind(&g);
		host_fill(&g, 0, NR_PAGES, 0x1700);
		for (j = 0; j < NR_PAGES; j += 2)
			ASSERT_CONVERTS(&g, j, 1, PRIVATE, PRESERVE);

		for (step = orders[i]; *step; step++) {
			if (*step == 'f') {
				kvm_close(g.fd);
				g.fd = -1;
			} else if (*step == 'm') {
				kvm_munmap(g.mem, g.size);
				g.mem = NULL;
			} else {
				kvm_vm_free(g.vm);
				g.vm = NULL;
			}

			if (g.mem) {
				ASSERT_HOST_SEES(&g, 1, 1, 0x1700);
				ASSERT_FALSE(can_read(g.mem));
			}
			if (g.fd >= 0) {
				ASSERT_TRUE(is_private(g.fd, 2 * page_size));
				ASSERT_CONVERTS(&g, 2, 1, SHARED, ZERO);
				ASSERT_FALSE(is_private(g.fd, 2 * page_size));
				ASSERT_CONVERTS(&g, 2, 1, PRIVATE, PRESERVE);
			}
		}
	}
}

/*
 * Memslots
 */
static int set_vm_attributes(struct kvm_vm *vm, gpa_t gpa, u64 size, u64 attributes)
{
	struct kvm_memory_attributes attr = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
	};

	return __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attr) ? errno : 0;
}

#ifdef __x86_64__
/* Memory isn't to be private by two accounts. */
TEST_F(gmem, vm_attributes_refused)
{
	struct kvm_vm *vm = self->g.vm;
	const u64 size = self->g.size;

	ASSERT_EQ(EINVAL, set_vm_attributes(vm, TEST_GPA, size, PRIVATE));
	ASSERT_EQ(EINVAL, set_vm_attributes(vm, TEST_GPA, page_size, PRIVATE));
	ASSERT_EQ(EINVAL, set_vm_attributes(vm, TEST_GPA + size - page_size, size, PRIVATE));
	ASSERT_EQ(EINVAL, set_vm_attributes(vm, TEST_GPA - size, size + page_size, PRIVATE));
	ASSERT_EQ(EINVAL, set_vm_attributes(vm, 0, TEST_GPA + SZ_1G, PRIVATE));
	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);

	/* Neither next to the slot, nor when it asks for what is there anyway. */
	ASSERT_EQ(0, set_vm_attributes(vm, TEST_GPA - size, size, PRIVATE));
	ASSERT_EQ(0, set_vm_attributes(vm, TEST_GPA + size, size, PRIVATE));
	ASSERT_EQ(0, set_vm_attributes(vm, TEST_GPA - size, 3 * size, SHARED));

	/* The state of the file is none of the VM's business, either. */
	ASSERT_CONVERTS(&self->g, 2, 2, PRIVATE, PRESERVE);
	ASSERT_EQ(0, set_vm_attributes(vm, TEST_GPA, size, SHARED));
	ASSERT_STATE(&self->g, 2, 2, PRIVATE);
	ASSERT_STATE(&self->g, 4, NR_PAGES - 4, SHARED);

	/* Once the slot is gone, there is nothing left to protect. */
	vm_set_user_memory_region2(vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, 0,
				   self->g.mem, self->g.fd, 0);
	ASSERT_EQ(0, set_vm_attributes(vm, TEST_GPA, size, PRIVATE));
}

TEST_F(gmem, slot_on_private_gfns_refused)
{
	const gpa_t gpa = OTHER_GPA;
	struct gmem g = self->g;

	g.fd = vm_create_guest_memfd(g.vm, g.size, IN_PLACE);
	ASSERT_EQ(0, set_vm_attributes(g.vm, gpa + g.size - page_size, page_size, PRIVATE));

	ASSERT_NE(0, __vm_set_user_memory_region2(g.vm, OTHER_SLOT, KVM_MEM_GUEST_MEMFD,
						  gpa, g.size, g.mem, g.fd, 0));
	ASSERT_EQ(EINVAL, errno);

	/* Next to them, fine. */
	ASSERT_EQ(0, __vm_set_user_memory_region2(g.vm, OTHER_SLOT, KVM_MEM_GUEST_MEMFD,
						  gpa, g.size - page_size, g.mem, g.fd, 0));
	ASSERT_EQ(0, __vm_set_user_memory_region2(g.vm, OTHER_SLOT, KVM_MEM_GUEST_MEMFD,
						  gpa, 0, g.mem, g.fd, 0));

	ASSERT_EQ(0, set_vm_attributes(g.vm, gpa, g.size, SHARED));
	ASSERT_EQ(0, __vm_set_user_memory_region2(g.vm, OTHER_SLOT, KVM_MEM_GUEST_MEMFD,
						  gpa, g.size, g.mem, g.fd, 0));
	kvm_close(g.fd);
}
#else
TEST_F(gmem, no_vm_attributes)
{
	struct kvm_vm *vm = self->g.vm;
	const u64 size = self->g.size;

	ASSERT_EQ(no_vm_ioctl, set_vm_attributes(vm, TEST_GPA, size, PRIVATE));
	ASSERT_EQ(no_vm_ioctl, set_vm_attributes(vm, TEST_GPA, size, SHARED));
	ASSERT_EQ(no_vm_ioctl, set_vm_attributes(vm, TEST_GPA + size, size, PRIVATE));
	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);
}
#endif /* __x86_64__ */

/*
 * Sparse files: nothing but state
 */
FIXTURE(sparse)
{
	struct gmem g;
};

FIXTURE_VARIANT(sparse)
{
	u64 size;
	/* How many runs of how many alternate pages to spread over the file. */
	u64 nr_chunks;
	u64 nr_alternate;
};

FIXTURE_VARIANT_ADD(sparse, 64M)
{
	.size = SZ_64M,
	.nr_chunks = 1,
	.nr_alternate = SZ_64M / SZ_4K / 2,
};

FIXTURE_VARIANT_ADD(sparse, 1G)
{
	.size = SZ_1G,
	.nr_chunks = 8,
	.nr_alternate = 4096,
};

FIXTURE_VARIANT_ADD(sparse, 1T)
{
	.size = 1024ull * SZ_1G,
	.nr_chunks = 128,
	.nr_alternate = 64,
};

FIXTURE_SETUP(sparse)
{
	gmem_open(&self->g, variant->size, IN_PLACE);
}

FIXTURE_TEARDOWN(sparse)
{
	gmem_close(&self->g);
}

/* Scatter the state as much as can be, and leave it to close() to clean up. */
TEST_F_TIMEOUT(sparse, alternate_pages, 60)
{
	const u64 chunk_size = variant->size / variant->nr_chunks;
	u64 chunk, offset, nr, i;

	nr = min_t(u64, variant->nr_alternate, chunk_size / page_size / 2);

	for (chunk = 0; chunk < variant->size; chunk += chunk_size) {
		for (i = 0; i < nr; i++) {
			offset = chunk + (2 * i + 1) * page_size;
			ASSERT_EQ(0, convert(self->g.fd, offset, page_size, PRIVATE,
					     UNSPECIFIED, NULL));
		}
	}

	for (chunk = 0; chunk < variant->size; chunk += chunk_size) {
		for (i = 0; i < 2 * nr; i += 1 + nr / 8) {
			offset = chunk + i * page_size;
			ASSERT_EQ(i & 1, is_private(self->g.fd, offset));
		}
		if (2 * nr * page_size < chunk_size)
			ASSERT_FALSE(is_private(self->g.fd,
						chunk + 2 * nr * page_size + page_size));
	}
	ASSERT_FALSE(is_private(self->g.fd, variant->size - page_size) &&
		     variant->nr_chunks > 1);

	/* Nobody else looks after the state now. */
	kvm_close(self->g.fd);
	self->g.fd = vm_create_guest_memfd(self->g.vm, variant->size, IN_PLACE);
	ASSERT_EQ(0, first_shared(self->g.fd, 0, variant->size));
}

/* Merge what has been scattered, and see that there is nothing left of it. */
TEST_F(sparse, whole_file)
{
	const u64 size = variant->size;
	u64 i;

	ASSERT_EQ(0, convert(self->g.fd, 0, size, PRIVATE, UNSPECIFIED, NULL));
	ASSERT_EQ(size, first_shared(self->g.fd, 0, size));
	ASSERT_EQ(0, convert(self->g.fd, 0, size, SHARED, UNSPECIFIED, NULL));
	ASSERT_EQ(0, first_shared(self->g.fd, 0, size));
	ASSERT_EQ(size - page_size, first_shared(self->g.fd, size - page_size, page_size));

	for (i = 0; i < 64; i++)
		ASSERT_EQ(0, convert(self->g.fd, size / 64 * i + i * page_size, page_size,
				     PRIVATE, UNSPECIFIED, NULL));
	ASSERT_EQ(0, convert(self->g.fd, 0, size, PRIVATE, PRESERVE, NULL));
	ASSERT_EQ(size, first_shared(self->g.fd, 0, size));

	for (i = 0; i < 64; i++)
		ASSERT_EQ(0, convert(self->g.fd, size / 64 * i + i * page_size, page_size,
				     SHARED, UNSPECIFIED, NULL));
	ASSERT_EQ(size / 2 + 32 * page_size,
		  first_shared(self->g.fd, size / 2, size / 2));
	ASSERT_EQ(0, convert(self->g.fd, 0, size, SHARED, PRESERVE, NULL));
	for (i = 0; i < 64; i++)
		ASSERT_FALSE(is_private(self->g.fd, size / 64 * i + (i ^ 1) * page_size));
}

/* Ranges that end at, begin at, or lie across borders that may be special. */
TEST_F(sparse, borders)
{
	const u64 borders[] = {
		SZ_2M, SZ_16M, SZ_32M, SZ_128M, SZ_512M, 8ull * SZ_1G, 512ull * SZ_1G,
		variant->size / 2, variant->size,
	};
	const int fd = self->g.fd;
	u64 start, end, i;
	int b, first, last;

	for (b = 0; b < ARRAY_SIZE(borders); b++) {
		if (borders[b] > variant->size)
			continue;

		for (first = -3; first <= 1; first++) {
			for (last = first + 1; last <= 2; last += 2) {
				start = borders[b] + first * page_size;
				end = borders[b] + last * page_size;
				if (end > variant->size)
					continue;

				ASSERT_EQ(0, convert(fd, start, end - start, PRIVATE,
						     UNSPECIFIED, NULL));
				for (i = start - page_size; i <= end; i += page_size) {
					if (i == variant->size)
						break;
					ASSERT_EQ(i >= start && i < end, is_private(fd, i));
				}
				ASSERT_EQ(0, convert(fd, start, end - start, SHARED,
						     UNSPECIFIED, NULL));
				ASSERT_EQ(start, first_shared(fd, start, end - start));
			}
		}

		/* The other way round, with nothing shared but the range. */
		ASSERT_EQ(0, convert(fd, 0, variant->size, PRIVATE, UNSPECIFIED, NULL));
		start = borders[b] - page_size;
		end = min(borders[b] + page_size, variant->size);
		ASSERT_EQ(0, convert(fd, start, end - start, SHARED, UNSPECIFIED, NULL));
		ASSERT_EQ(start, first_shared(fd, 0, variant->size));
		ASSERT_TRUE(end == variant->size ||
			    first_shared(fd, end, variant->size - end) == variant->size);
		ASSERT_EQ(0, convert(fd, 0, variant->size, SHARED, UNSPECIFIED, NULL));
	}
}

/* Convert at random, and compare with a model that is too simple to be wrong. */
TEST_F_TIMEOUT(sparse, random, 60)
{
	struct kvm_random_state rng = new_kvm_random_state(0x7e57);
	/* From 1 MiB below the middle to 1 MiB above it. */
	const u64 nr_pages = min_t(u64, SZ_2M / page_size, 1024);
	const u64 base = variant->size / 2 - nr_pages / 2 * page_size;
	bool model[1024] = {};
	u64 i, j, page, nr;
	bool private;

	for (i = 0; i < 300; i++) {
		page = kvm_random_u64(&rng) % nr_pages;
		nr = 1 + kvm_random_u64(&rng) % (i & 1 ? 4 : nr_pages - page);
		nr = min(nr, nr_pages - page);
		private = kvm_random_u64(&rng) & 1;

		ASSERT_EQ(0, convert(self->g.fd, base + page * page_size, nr * page_size,
				     private ? PRIVATE : SHARED, UNSPECIFIED, NULL));
		for (j = page; j < page + nr; j++)
			model[j] = private;

		/* Where the first shared page is tells of a whole run. */
		for (j = kvm_random_u64(&rng) % nr_pages, nr = j; nr < nr_pages; nr++) {
			if (!model[nr])
				break;
		}
		ASSERT_EQ(base + nr * page_size,
			  first_shared(self->g.fd, base + j * page_size,
				       (nr_pages - j) * page_size));

		if (i % 100 != 99)
			continue;
		for (j = 0; j < nr_pages; j++)
			ASSERT_EQ(model[j], is_private(self->g.fd, base + j * page_size));
	}

	ASSERT_EQ(0, first_shared(self->g.fd, 0, base));
	ASSERT_FALSE(is_private(self->g.fd, base - page_size));
	ASSERT_FALSE(is_private(self->g.fd, base + nr_pages * page_size));
}

FIXTURE(pin)
{
	struct gmem g;
};

FIXTURE_VARIANT(pin)
{
	enum pin_type type;
};

FIXTURE_VARIANT_ADD(pin, gup)
{
	.type = PIN_GUP,
};

FIXTURE_VARIANT_ADD(pin, gup_write)
{
	.type = PIN_GUP_WRITE,
};

FIXTURE_VARIANT_ADD(pin, gup_fast)
{
	.type = PIN_GUP_FAST,
};

FIXTURE_VARIANT_ADD(pin, io_uring)
{
	.type = PIN_IO_URING,
};

FIXTURE_VARIANT_ADD(pin, vmsplice)
{
	.type = PIN_VMSPLICE,
};

FIXTURE_SETUP(pin)
{
	const char *reason;
	struct pin p;

	gmem_open(&self->g, NR_PAGES * page_size, IN_PLACE);
	gmem_map(&self->g);
	gmem_bind(&self->g);
	host_fill(&self->g, 0, NR_PAGES, 0x2000);

	reason = pin_take(&p, variant->type, self->g.mem, page_size);
	if (reason)
		SKIP(return, "%s", reason);
	pin_drop(&p);
}

FIXTURE_TEARDOWN(pin)
{
	gmem_close(&self->g);
}

TEST_F(pin, one_page)
{
	struct pin p;

	pin_pages(&p, variant->type, &self->g, 6, 1);

	ASSERT_CONVERT_FAILS(EAGAIN, 6, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EAGAIN, 6, &self->g, 6, 1, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EAGAIN, 6, &self->g, 5, 3, PRIVATE, UNSPECIFIED);

	/* Nothing has changed, the mappings included. */
	ASSERT_EQ(NR_PAGES, nr_host_mapped(&self->g));
	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x2000);

	/* Others may be converted, as close as they are. */
	ASSERT_CONVERTS(&self->g, 0, 6, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 7, NR_PAGES - 7, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EAGAIN, 6, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);

	/* Pages that are shared already aren't looked at. */
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x2000);

	pin_drop(&p);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_STATE(&self->g, 0, NR_PAGES, PRIVATE);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x2000);
}

TEST_F(pin, many_pages)
{
	u8 *buf = malloc(8 * page_size);
	struct pin p;
	u64 i;

	ASSERT_NE(NULL, buf);
	pin_pages(&p, variant->type, &self->g, 4, 8);

	ASSERT_CONVERT_FAILS(EAGAIN, 4, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EAGAIN, 7, &self->g, 7, 2, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EAGAIN, 11, &self->g, 11, 5, PRIVATE, PRESERVE);
	ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);

	/* Whoever holds the pages sees what the host sees. */
	host_fill(&self->g, 0, NR_PAGES, 0x2100);
	if (variant->type != PIN_IO_URING) {
		pin_read(&p, buf, 8 * page_size);
		for (i = 0; i < 8; i++) {
			ASSERT_EQ(0x2104 + i, *first_word(buf + i * page_size));
			ASSERT_EQ(0x2104 + i, *last_word(buf + i * page_size));
		}
	}

	pin_drop(&p);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x2100);
	free(buf);
}

/* error_offset is about the first one, whichever was there first. */
TEST_F(pin, several_users)
{
	struct pin p[3];

	pin_pages(&p[0], variant->type, &self->g, 9, 2);
	pin_pages(&p[1], variant->type, &self->g, 3, 2);
	pin_pages(&p[2], variant->type, &self->g, 4, 1);

	ASSERT_CONVERT_FAILS(EAGAIN, 3, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EAGAIN, 9, &self->g, 5, NR_PAGES - 5, PRIVATE, PRESERVE);
	pin_drop(&p[1]);
	ASSERT_CONVERT_FAILS(EAGAIN, 4, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	pin_drop(&p[2]);
	ASSERT_CONVERT_FAILS(EAGAIN, 9, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	pin_drop(&p[0]);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
}

/* What can't be done for other reasons isn't about users. */
TEST_F(pin, order_of_checks)
{
	struct pin p;

	pin_pages(&p, variant->type, &self->g, 2, 1);

	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, &self->g, 0, NR_PAGES + 1, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, &self->g, 0, NR_PAGES, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 2, &self->g, 2, 1, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EAGAIN, 2, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);

	pin_drop(&p);
}

/* A hole takes the page out of the file, and with it what keeps it busy. */
TEST_F(pin, punched_page)
{
	struct pin p;

	pin_pages(&p, variant->type, &self->g, 6, 1);
	punch_hole(&self->g, 6, 1);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES_BYTE(&self->g, 6, 1, 0);
	pin_drop(&p);
}

static int child_dies_converting(void *__g)
{
	/* Long enough to be killed, short enough not to be missed. */
	alarm(5);
	for (;;)
		convert_pages(__g, 0, NR_PAGES, PRIVATE, PRESERVE, NULL);
	return 0;
}

/* A signal may end the wait for a user of a page, but changes nothing. */
TEST_F(pin, killed_waiting)
{
	int status, i;
	struct pin p;
	pid_t pid;

	pin_pages(&p, variant->type, &self->g, NR_PAGES - 1, 1);

	for (i = 0; i < 3; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(child_dies_converting(&self->g));

		usleep(20000 + i * 7000);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

		ASSERT_STATE(&self->g, 0, NR_PAGES, SHARED);
		ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x2000);
	}

	pin_drop(&p);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
}

/* The same without users: a child that converts all of the file, and dies. */
TEST_F(gmem, killed_converting)
{
	u64 first, attributes;
	int status, i;
	pid_t pid;

	host_fill(&self->g, 0, NR_PAGES, 0x2200);

	for (i = 0; i < 5; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			alarm(5);
			for (;;) {
				convert_pages(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE, NULL);
				convert_pages(&self->g, 0, NR_PAGES, SHARED, PRESERVE, NULL);
			}
		}

		usleep(10000 + i * 1700);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

		/* All or nothing. */
		first = first_shared(self->g.fd, 0, self->g.size);
		ASSERT_TRUE(first == 0 || first == self->g.size);
		attributes = first ? PRIVATE : SHARED;
		ASSERT_STATE(&self->g, 0, NR_PAGES, attributes);

		ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
		ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x2200);
	}
}

struct host_reader {
	struct gmem *g;
	pthread_t thread;
	bool *stop;
	u64 count;
};

static void *host_reader(void *__r)
{
	struct host_reader *r = __r;
	u64 i;

	for (i = 0; !READ_ONCE(*r->stop); i = (i + 1) % NR_PAGES) {
		can_read(r->g->mem + i * page_size);
		WRITE_ONCE(r->count, r->count + 1);
	}
	return NULL;
}

/* However hard the host tries, private pages aren't mapped. */
TEST_F(gmem, host_faults_race)
{
	struct host_reader readers[2] = {};
	bool stop = false;
	int i, j, ret = 0;
	u64 count;

	host_fill(&self->g, 0, NR_PAGES, 0x990);
	for (i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i].g = &self->g;
		readers[i].stop = &stop;
		kvm_pthread_create(&readers[i].thread, NULL, host_reader, &readers[i]);
	}

	for (i = 0; i < 40; i++) {
		/* Faults in flight are waited for, unless they are too many. */
		for (j = 0; j < 1000; j++) {
			ret = convert_pages(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE, NULL);
			if (ret != EAGAIN)
				break;
		}
		EXPECT_EQ(0, ret);
		EXPECT_EQ(0, nr_host_mapped(&self->g));

		EXPECT_EQ(0, convert_pages(&self->g, 0, NR_PAGES, SHARED, PRESERVE, NULL));
		for (j = 0; j < ARRAY_SIZE(readers); j++) {
			count = READ_ONCE(readers[j].count);
			while (!(i % 10) && READ_ONCE(readers[j].count) == count)
				sched_yield();
		}
	}

	WRITE_ONCE(stop, true);
	for (i = 0; i < ARRAY_SIZE(readers); i++)
		kvm_pthread_join(readers[i].thread, NULL);
	ASSERT_HOST_SEES(&self->g, 0, NR_PAGES, 0x990);
}

/*
 * Kernel code that has a reference to pages for a while, and that the VMM may not even
 * know of
 */
enum disturber {
	DISTURB_FAULTS,
	DISTURB_MIGRATION,
	DISTURB_PAGEOUT,
	DISTURB_CACHES,
};

FIXTURE(disturb)
{
	struct gmem g;
};

FIXTURE_VARIANT(disturb)
{
	enum disturber disturber;
};

FIXTURE_VARIANT_ADD(disturb, faults)
{
	.disturber = DISTURB_FAULTS,
};

FIXTURE_VARIANT_ADD(disturb, migration)
{
	.disturber = DISTURB_MIGRATION,
};

FIXTURE_VARIANT_ADD(disturb, pageout)
{
	.disturber = DISTURB_PAGEOUT,
};

FIXTURE_VARIANT_ADD(disturb, caches)
{
	.disturber = DISTURB_CACHES,
};

FIXTURE_SETUP(disturb)
{
	gmem_open(&self->g, NR_PAGES * page_size, IN_PLACE);
	gmem_map(&self->g);
	gmem_bind(&self->g);
}

FIXTURE_TEARDOWN(disturb)
{
	gmem_close(&self->g);
}

struct disturb {
	struct gmem *g;
	enum disturber disturber;
	pthread_t thread;
	bool *stop;
	u64 count, nr_moves;
};

static void *disturb_thread(void *__d)
{
	struct disturb *d = __d;
	struct gmem *g = d->g;
	unsigned long node;
	u64 i;

	for (i = 0; !READ_ONCE(*d->stop); i++) {
		switch (d->disturber) {
		case DISTURB_FAULTS:
			can_read(g->mem + i % NR_PAGES * page_size);
			break;
		case DISTURB_MIGRATION:
			node = BIT(i & 1);
			if (!mbind(g->mem, g->size, MPOL_BIND, &node, 8 * sizeof(node),
				   MPOL_MF_MOVE))
				d->nr_moves++;
			break;
		case DISTURB_PAGEOUT:
			madvise(g->mem, g->size, MADV_PAGEOUT);
			break;
		case DISTURB_CACHES:
			write_str("/proc/sys/vm/drop_caches", "1");
			break;
		}
		WRITE_ONCE(d->count, d->count + 1);
		/* Let others have the mmap lock, and the processor. */
		usleep(d->disturber == DISTURB_FAULTS ? 0 : 200);
	}
	return NULL;
}

/* Such references are waited for, or gone a little later. */
TEST_F(disturb, conversions)
{
	u64 i, j, where, nr_eagain = 0, most = 0;
	struct disturb d = {
		.g = &self->g,
		.disturber = variant->disturber,
	};
	struct timespec start;
	bool stop = false;
	int ret;

	d.stop = &stop;
	kvm_pthread_create(&d.thread, NULL, disturb_thread, &d);
	clock_gettime(CLOCK_MONOTONIC, &start);

	/* As often as can be done in two seconds, and not less than a few times. */
	for (i = 0; i < 200; i++) {
		host_fill(&self->g, 0, NR_PAGES, i << 16);

		for (j = 0; j < 100; j++) {
			ret = convert_pages(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE, &where);
			if (ret != EAGAIN)
				break;
			EXPECT_GT(NR_PAGES, where);
			nr_eagain++;
			usleep(1000);
		}
		most = max(most, j);
		EXPECT_EQ(0, ret);
		EXPECT_EQ(0, convert_pages(&self->g, 0, NR_PAGES, SHARED, PRESERVE, NULL));
		EXPECT_EQ(ALL, host_match(&self->g, 0, NR_PAGES, i << 16));

		if (i >= 3 && READ_ONCE(d.count) >= 3 &&
		    timespec_elapsed(start).tv_sec >= 2)
			break;
	}

	WRITE_ONCE(stop, true);
	kvm_pthread_join(d.thread, NULL);
	if (variant->disturber == DISTURB_MIGRATION) {
		TH_LOG("%lu of %lu calls of mbind() succeeded", d.nr_moves, d.count);
		EXPECT_TRUE(d.nr_moves || access("/sys/devices/system/node", F_OK));
	}
	TH_LOG("%lu rounds, %lu conversions, EAGAIN %lu times, at most %lu times in a row",
	       d.count, i, nr_eagain, most);
}

/*
 * Direct I/O
 */
static int open_direct(void)
{
	int fd = open("/dev/ram0", O_RDWR | O_DIRECT);

	if (fd < 0)
		fd = open("/tmp", O_RDWR | O_DIRECT | O_TMPFILE, 0600);
	if (fd < 0)
		fd = open("/var/tmp", O_RDWR | O_DIRECT | O_TMPFILE, 0600);
	return fd;
}

TEST_F(gmem, direct_io)
{
	u8 *mem = self->g.mem;
	int fd;

	fd = open_direct();
	if (fd < 0)
		SKIP(return, "Nothing to do direct I/O with");

	host_fill(&self->g, 0, 4, 0x2300);
	ASSERT_EQ(4 * page_size, pwrite(fd, mem, 4 * page_size, 0));
	ASSERT_CONVERTS(&self->g, 0, 4, PRIVATE, PRESERVE);
	ASSERT_EQ(-1, pwrite(fd, mem, 4 * page_size, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, pread(fd, mem, 4 * page_size, 0));
	ASSERT_EQ(EFAULT, errno);

	/* Read into memory that has been private. */
	ASSERT_CONVERTS(&self->g, 4, 8, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 4, 8, SHARED, ZERO);
	ASSERT_EQ(4 * page_size, pread(fd, mem + 4 * page_size, 4 * page_size, 0));
	ASSERT_HOST_SEES(&self->g, 4, 4, 0x2300 - 4);
	ASSERT_HOST_SEES_BYTE(&self->g, 8, 4, 0);

	/* What isn't under way any more is in nobody's way. */
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, 4, 0x2300);
	ASSERT_HOST_SEES(&self->g, 4, 4, 0x2300 - 4);
	close(fd);
}

TEST_F(gmem, direct_io_under_way)
{
	struct iocb iocb = {}, *iocbs[1] = { &iocb };
	aio_context_t ctx = 0;
	struct io_event event;
	int fd;

	fd = slow_disk_create();
	if (fd < 0)
		SKIP(return, "No null_blk (CONFIG_BLK_DEV_NULL_BLK, configfs)");
	if (syscall(__NR_io_setup, 1, &ctx)) {
		close(fd);
		slow_disk_destroy();
		SKIP(return, "No asynchronous I/O (CONFIG_AIO)");
	}

	host_fill(&self->g, 0, NR_PAGES, 0x2400);
	iocb.aio_lio_opcode = IOCB_CMD_PREAD;
	iocb.aio_fildes = fd;
	iocb.aio_buf = (uintptr_t)(self->g.mem + 6 * page_size);
	iocb.aio_nbytes = page_size;
	EXPECT_EQ(1, syscall(__NR_io_submit, ctx, 1, iocbs));

	EXPECT_EQ(EAGAIN, convert_pages(&self->g, 6, 1, PRIVATE, PRESERVE, NULL));
	EXPECT_EQ(0, convert_pages(&self->g, 0, 6, PRIVATE, PRESERVE, NULL));
	EXPECT_EQ(6 * page_size, first_shared(self->g.fd, 0, self->g.size));

	EXPECT_EQ(1, syscall(__NR_io_getevents, ctx, 1, 1, &event, NULL));
	EXPECT_EQ(page_size, event.res);
	syscall(__NR_io_destroy, ctx);
	close(fd);
	slow_disk_destroy();

	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, 6, 0x2400);
	ASSERT_HOST_SEES_BYTE(&self->g, 6, 1, 0);
	ASSERT_HOST_SEES(&self->g, 7, NR_PAGES - 7, 0x2400);
}

TEST_F(gmem, hwpoison_to_private)
{
	struct pin p;

	host_fill(&self->g, 0, NR_PAGES, 0x2500);
	if (!poison_shared(&self->g, 5))
		SKIP(return, "No MADV_HWPOISON (CONFIG_MEMORY_FAILURE, root)");
	ASSERT_TRUE(poison_shared(&self->g, 9));
	ASSERT_FALSE(can_read(self->g.mem + 5 * page_size));

	ASSERT_CONVERT_FAILS(EHWPOISON, 5, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EHWPOISON, 5, &self->g, 0, NR_PAGES, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERT_FAILS(EHWPOISON, 9, &self->g, 6, NR_PAGES - 6, PRIVATE, PRESERVE);
	ASSERT_EQ(0, first_shared(self->g.fd, 0, self->g.size));
	ASSERT_HOST_SEES(&self->g, 0, 5, 0x2500);

	/* EOPNOTSUPP comes before, EAGAIN after EHWPOISON. */
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, &self->g, 0, NR_PAGES, PRIVATE, ZERO);
	if (!pin_take(&p, PIN_VMSPLICE, self->g.mem + 2 * page_size, page_size)) {
		ASSERT_CONVERT_FAILS(EHWPOISON, 5, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
		ASSERT_CONVERT_FAILS(EAGAIN, 2, &self->g, 0, 5, PRIVATE, PRESERVE);
		pin_drop(&p);
	}
	if (!pin_take(&p, PIN_GUP, self->g.mem + 2 * page_size, page_size)) {
		ASSERT_CONVERT_FAILS(EHWPOISON, 5, &self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
		pin_drop(&p);
	}

	/* Nothing to convert is nothing to check. */
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, ZERO);

	/* Those around aren't affected. */
	ASSERT_CONVERTS(&self->g, 0, 5, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 6, 3, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 10, NR_PAGES - 10, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, 5, 0x2500);
	ASSERT_HOST_SEES(&self->g, 6, 3, 0x2500);

	/* A hole gets rid of the page. */
	punch_hole(&self->g, 5, 1);
	punch_hole(&self->g, 9, 1);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
}

/*
 * A hole gives a fresh page to everybody but the mappings that knew the broken one, as
 * with any other file.
 */
TEST_F(gmem, hwpoison_and_hole)
{
	u8 *page = self->g.mem + 5 * page_size;
	u8 *other;

	host_fill(&self->g, 0, NR_PAGES, 0x2580);
	if (!poison_shared(&self->g, 5))
		SKIP(return, "No MADV_HWPOISON (CONFIG_MEMORY_FAILURE, root)");

	punch_hole(&self->g, 5, 1);
	ASSERT_FALSE(can_read(page));
	other = kvm_mmap(self->g.size, PROT_READ | PROT_WRITE, MAP_SHARED, self->g.fd);
	ASSERT_TRUE(can_write(other + 5 * page_size));
	ASSERT_EQ(0, *first_word(other + 5 * page_size));
	*first_word(other + 5 * page_size) = 0xbeef;

	/* Conversions don't change that, neither for better nor for worse. */
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_FALSE(can_read(other + 5 * page_size));
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_FALSE(can_read(page));
	ASSERT_EQ(0xbeef, *first_word(other + 5 * page_size));

	ASSERT_EQ(0, madvise(page, page_size, MADV_DONTNEED));
	ASSERT_EQ(0xbeef, *first_word(page));
	ASSERT_HOST_SEES(&self->g, 0, 5, 0x2580);
	ASSERT_HOST_SEES(&self->g, 6, NR_PAGES - 6, 0x2580);
	kvm_munmap(other, self->g.size);
}

TEST_F(gmem, hwpoison_to_shared)
{
	char param[4] = "";
	u64 pfn;

	host_fill(&self->g, 0, NR_PAGES, 0x2600);
	pfn = PM_PFN(pagemap_entry(self->g.mem + 5 * page_size));
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, PRIVATE, PRESERVE);
	if (!poison_pfn(pfn))
		SKIP(return, "No hwpoison/corrupt-pfn (CONFIG_HWPOISON_INJECT, root)");

	/* Only zeroing would have to touch the page. */
	ASSERT_CONVERT_FAILS(EHWPOISON, 5, &self->g, 0, NR_PAGES, SHARED, ZERO);
	ASSERT_STATE(&self->g, 0, NR_PAGES, PRIVATE);
	ASSERT_CONVERTS(&self->g, 6, 2, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(&self->g, 6, 2, 0);

	ASSERT_CONVERTS(&self->g, 4, 2, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 4, 1, 0x2600);
	ASSERT_FALSE(can_read(self->g.mem + 5 * page_size));
	ASSERT_CONVERT_FAILS(EHWPOISON, 5, &self->g, 4, 2, PRIVATE, PRESERVE);

	if (!read_str(POISON_PARAM, param, sizeof(param)) || param[0] != 'Y')
		ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, UNSPECIFIED);
	ASSERT_CONVERTS(&self->g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 0, 5, 0x2600);
	ASSERT_HOST_SEES(&self->g, 8, NR_PAGES - 8, 0x2600);
}

/*
 * The debugging parameter
 */
TEST_F(gmem, poison_unspecified)
{
	if (!poison_param_set("Y"))
		SKIP(return, "Can't set " POISON_PARAM);

	host_fill(&self->g, 0, 8, 0x2700);
	/* Allocated, but never used. */
	kvm_fallocate(self->g.fd, FALLOC_FL_KEEP_SIZE, 8 * page_size, 2 * page_size);

	/* To private: look at it without another overwriting conversion. */
	EXPECT_EQ(0, convert_pages(&self->g, 0, 2, PRIVATE, UNSPECIFIED, NULL));
	EXPECT_EQ(0, convert_pages(&self->g, 0, 2, SHARED, PRESERVE, NULL));
	EXPECT_EQ(ALL, host_match_byte(&self->g, 0, 2, POISON_BYTE));

	/* To shared. */
	EXPECT_EQ(0, convert_pages(&self->g, 2, 2, PRIVATE, PRESERVE, NULL));
	EXPECT_EQ(0, convert_pages(&self->g, 2, 2, SHARED, UNSPECIFIED, NULL));
	EXPECT_EQ(ALL, host_match_byte(&self->g, 2, 2, POISON_BYTE));

	/* What has been asked for is kept. */
	EXPECT_EQ(0, convert_pages(&self->g, 4, 4, PRIVATE, PRESERVE, NULL));
	EXPECT_EQ(0, convert_pages(&self->g, 4, 2, SHARED, PRESERVE, NULL));
	EXPECT_EQ(0, convert_pages(&self->g, 6, 2, SHARED, ZERO, NULL));
	EXPECT_EQ(ALL, host_match(&self->g, 4, 2, 0x2700));
	EXPECT_EQ(ALL, host_match_byte(&self->g, 6, 2, 0));

	/* What isn't converted isn't touched. */
	EXPECT_EQ(0, convert_pages(&self->g, 4, 2, SHARED, UNSPECIFIED, NULL));
	EXPECT_EQ(ALL, host_match(&self->g, 4, 2, 0x2700));

	/* What has never been used reads zero, be it allocated or not. */
	EXPECT_EQ(0, convert_pages(&self->g, 8, 4, PRIVATE, UNSPECIFIED, NULL));
	EXPECT_EQ(0, convert_pages(&self->g, 8, 4, SHARED, UNSPECIFIED, NULL));
	EXPECT_EQ(ALL, host_match_byte(&self->g, 8, 4, 0));

	/* Nor does a call that fails touch anything. */
	EXPECT_EQ(EOPNOTSUPP, convert_pages(&self->g, 0, NR_PAGES, PRIVATE, ZERO, NULL));
	EXPECT_EQ(EINVAL, convert_pages(&self->g, 0, NR_PAGES + 1, PRIVATE, UNSPECIFIED, NULL));
	EXPECT_EQ(ALL, host_match(&self->g, 4, 2, 0x2700));

	poison_param_restore();

	ASSERT_CONVERTS(&self->g, 4, 2, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&self->g, 4, 2, SHARED, PRESERVE);
	ASSERT_HOST_SEES(&self->g, 4, 2, 0x2700);
}

#ifdef __x86_64__
/*
 * The guest
 */
enum guest_op {
	OP_FILL,
	OP_MATCH,
	OP_MATCH_BYTE,
	OP_READ,
	OP_COUNT,
	OP_ADD,
	OP_TOUCH,
};

struct guest_cmd {
	u64 op;
	gpa_t gpa;
	u64 nr;
	u64 val;
	u64 stride;
	u64 page_size;
	u64 ret;
	u64 stop;
	u64 progress;
};

static struct guest_cmd guest_cmds[MAX_VCPUS];

static u64 guest_do_count(struct guest_cmd *cmd)
{
	u64 round, i, *word;

	/* Nobody but this vCPU writes to its pages. */
	for (round = 0; !READ_ONCE(cmd->stop); round++) {
		WRITE_ONCE(cmd->progress, round);
		for (i = 0; i < cmd->nr; i++) {
			word = (u64 *)(cmd->gpa + i * cmd->stride);
			GUEST_ASSERT_EQ(READ_ONCE(*word), round);
			WRITE_ONCE(*word, round + 1);
		}
	}
	return round;
}

static u64 guest_do_add(struct guest_cmd *cmd)
{
	u64 round;

	for (round = 0; !READ_ONCE(cmd->stop); round++) {
		WRITE_ONCE(cmd->progress, round);
		__atomic_fetch_add((u64 *)(cmd->gpa + (round % cmd->nr) * cmd->stride), 1,
				   __ATOMIC_SEQ_CST);
	}
	return round;
}

static u64 guest_do_touch(struct guest_cmd *cmd)
{
	u64 round;

	for (round = 0; !READ_ONCE(cmd->stop); round++) {
		u64 *word = (u64 *)(cmd->gpa + (round % cmd->nr) * cmd->stride);

		WRITE_ONCE(cmd->progress, round);
		WRITE_ONCE(*word, round);
		(void)READ_ONCE(*word);
	}
	return round;
}

/* Return the first page that isn't as it should be, or @nr. */
static u64 guest_do_match_byte(struct guest_cmd *cmd)
{
	u64 word = cmd->val * 0x0101010101010101ull;
	u64 i, j, *page;

	for (i = 0; i < cmd->nr; i++) {
		page = (u64 *)(cmd->gpa + i * cmd->page_size);
		for (j = 0; j < cmd->page_size / sizeof(u64); j++) {
			if (READ_ONCE(page[j]) != word)
				return i;
		}
	}
	return i;
}

static u64 guest_do_fill_or_match(struct guest_cmd *cmd, bool fill)
{
	u64 *first, *last, i;

	for (i = 0; i < cmd->nr; i++) {
		first = (u64 *)(cmd->gpa + i * cmd->page_size);
		last = (u64 *)(cmd->gpa + (i + 1) * cmd->page_size) - 1;

		if (fill) {
			WRITE_ONCE(*first, cmd->val + i);
			WRITE_ONCE(*last, cmd->val + i);
		} else if (READ_ONCE(*first) != cmd->val + i ||
			   READ_ONCE(*last) != cmd->val + i) {
			break;
		}
	}
	return i;
}

static u64 guest_do(struct guest_cmd *cmd)
{
	switch (READ_ONCE(cmd->op)) {
	case OP_FILL:
		return guest_do_fill_or_match(cmd, true);
	case OP_MATCH:
		return guest_do_fill_or_match(cmd, false);
	case OP_MATCH_BYTE:
		return guest_do_match_byte(cmd);
	case OP_READ:
		return READ_ONCE(*(u64 *)cmd->gpa);
	case OP_COUNT:
		return guest_do_count(cmd);
	case OP_ADD:
		return guest_do_add(cmd);
	case OP_TOUCH:
		return guest_do_touch(cmd);
	}
	GUEST_FAIL("What is 0x%lx?", cmd->op);
	return -1ull;
}

static void guest_code(u64 id)
{
	struct guest_cmd *cmd = &guest_cmds[id];

	for (;;) {
		barrier();
		WRITE_ONCE(cmd->ret, guest_do(cmd));
		GUEST_SYNC(id);
	}
}

struct guest {
	struct gmem g;
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	/* The guest's copy of the commands. */
	struct guest_cmd *cmds;
};

static void guest_create_vm(struct guest *s, int nr_vcpus, u64 size)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = IN_PLACE_VM_TYPE,
	};
	int i;

	s->g.size = size;
	s->g.vm = __vm_create_with_vcpus(shape, nr_vcpus, 2 * size / page_size,
					 guest_code, s->vcpus);
	s->cmds = addr_gva2hva(s->g.vm, (gva_t)guest_cmds);
	virt_map(s->g.vm, TEST_GPA, TEST_GPA, size / s->g.vm->page_size);
	for (i = 0; i < nr_vcpus; i++)
		vcpu_args_set(s->vcpus[i], 1, i);
}

static void guest_create(struct guest *s, int nr_vcpus, u64 size)
{
	guest_create_vm(s, nr_vcpus, size);
	s->g.fd = vm_create_guest_memfd(s->g.vm, size, IN_PLACE);
	vm_mem_add_in_place(s->g.vm, TEST_GPA, TEST_SLOT, size / s->g.vm->page_size,
			    s->g.fd, 0);
	s->g.mem = addr_gpa2hva(s->g.vm, TEST_GPA);
}

static void guest_destroy(struct guest *s)
{
	if (s->g.fd >= 0)
		kvm_close(s->g.fd);
	kvm_vm_free(s->g.vm);
}

static void guest_set_cmd(struct guest *s, int id, enum guest_op op, gpa_t gpa,
			  u64 nr, u64 val)
{
	struct guest_cmd *cmd = &s->cmds[id];

	memset(cmd, 0, sizeof(*cmd));
	cmd->op = op;
	cmd->gpa = gpa;
	cmd->nr = nr;
	cmd->val = val;
	cmd->stride = page_size;
	cmd->page_size = page_size;
}

static void vcpu_check_ucall(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Exit reason %u (%s), ucall 0x%lx", vcpu->run->exit_reason,
			  exit_reason_str(vcpu->run->exit_reason), uc.cmd);
	}
}

static u64 guest_run_at(struct guest *s, enum guest_op op, gpa_t gpa, u64 nr, u64 val)
{
	guest_set_cmd(s, 0, op, gpa, nr, val);
	vcpu_run(s->vcpus[0]);
	vcpu_check_ucall(s->vcpus[0]);
	return READ_ONCE(s->cmds[0].ret);
}

/* The counterparts of host_fill(), host_match() and host_match_byte(). */
static void guest_fill(struct guest *s, u64 page, u64 nr, u64 seed)
{
	guest_run_at(s, OP_FILL, TEST_GPA + page * page_size, nr, seed + page);
}

static u64 guest_match(struct guest *s, u64 page, u64 nr, u64 seed)
{
	u64 i = guest_run_at(s, OP_MATCH, TEST_GPA + page * page_size, nr, seed + page);

	return i == nr ? ALL : page + i;
}

static u64 guest_match_byte(struct guest *s, u64 page, u64 nr, u8 byte)
{
	u64 i = guest_run_at(s, OP_MATCH_BYTE, TEST_GPA + page * page_size, nr, byte);

	return i == nr ? ALL : page + i;
}

#define ASSERT_GUEST_SEES(s, page, nr, seed) \
	ASSERT_EQ(ALL, guest_match(s, page, nr, seed))
#define ASSERT_GUEST_SEES_BYTE(s, page, nr, byte) \
	ASSERT_EQ(ALL, guest_match_byte(s, page, nr, byte))

FIXTURE(guest)
{
	struct guest s;
};

FIXTURE_SETUP(guest)
{
	guest_create(&self->s, 1, SZ_2M + NR_PAGES * page_size);
}

FIXTURE_TEARDOWN(guest)
{
	poison_param_restore();
	guest_destroy(&self->s);
}

/* The central promise: one memory, seen by both, and kept by conversions. */
TEST_F(guest, preserve_to_private)
{
	struct gmem *g = &self->s.g;

	*first_word(g->mem) = 0xbeef;
	ASSERT_CONVERTS(g, 0, 1, PRIVATE, PRESERVE);
	ASSERT_FALSE(can_read(g->mem));
	ASSERT_EQ(0xbeef, guest_run_at(&self->s, OP_READ, TEST_GPA, 1, 0));

	host_fill(g, 1, NR_PAGES, 0x3000);
	ASSERT_CONVERTS(g, 1, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&self->s, 1, NR_PAGES, 0x3000);
	ASSERT_STATE(g, 0, NR_PAGES + 1, PRIVATE);
	ASSERT_EQ(NR_PAGES + 1, nr_allocated(g));
}

TEST_F(guest, preserve_to_shared)
{
	struct gmem *g = &self->s.g;

	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	guest_fill(&self->s, 0, NR_PAGES, 0x3100);
	ASSERT_EQ(NR_PAGES, nr_allocated(g));
	ASSERT_CONVERTS(g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, NR_PAGES, 0x3100);
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES, 0x3100);
	ASSERT_EQ(NR_PAGES, nr_allocated(g));
}

/* Shared memory is the same memory on both sides without any conversion. */
TEST_F(guest, shared_is_shared)
{
	struct gmem *g = &self->s.g;

	host_fill(g, 0, 4, 0x3200);
	ASSERT_GUEST_SEES(&self->s, 0, 4, 0x3200);
	guest_fill(&self->s, 0, 8, 0x3280);
	ASSERT_HOST_SEES(g, 0, 8, 0x3280);
	host_fill(g, 0, 8, 0x3300);
	ASSERT_GUEST_SEES(&self->s, 0, 8, 0x3300);
	ASSERT_EQ(8, nr_allocated(g));
}

TEST_F(guest, round_trips)
{
	struct gmem *g = &self->s.g;
	u64 i, pfn;

	host_fill(g, 0, 4, 0x3400);
	pfn = PM_PFN(pagemap_entry(g->mem + 2 * page_size));

	for (i = 0; i < 5; i++) {
		ASSERT_HOST_SEES(g, 0, 4, 0x3400 + 2 * i);
		ASSERT_EQ(pfn, PM_PFN(pagemap_entry(g->mem + 2 * page_size)));
		ASSERT_CONVERTS(g, 0, 4, PRIVATE, PRESERVE);
		ASSERT_GUEST_SEES(&self->s, 0, 4, 0x3400 + 2 * i);
		guest_fill(&self->s, 0, 4, 0x3401 + 2 * i);
		ASSERT_CONVERTS(g, 0, 4, SHARED, PRESERVE);
		ASSERT_HOST_SEES(g, 0, 4, 0x3401 + 2 * i);
		host_fill(g, 0, 4, 0x3402 + 2 * i);
	}
	ASSERT_EQ(4, nr_allocated(g));
}

TEST_F(guest, zero_to_shared)
{
	struct gmem *g = &self->s.g;

	host_fill(g, 0, NR_PAGES, 0x3500);
	ASSERT_CONVERTS(g, 2, 8, PRIVATE, PRESERVE);
	guest_fill(&self->s, 2, 8, 0x3600);

	ASSERT_CONVERTS(g, 4, 4, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 4, 4, 0);
	ASSERT_GUEST_SEES_BYTE(&self->s, 4, 4, 0);
	ASSERT_GUEST_SEES(&self->s, 2, 2, 0x3600);
	ASSERT_GUEST_SEES(&self->s, 8, 2, 0x3600);
	ASSERT_GUEST_SEES(&self->s, 10, NR_PAGES - 10, 0x3500);
	ASSERT_EQ(NR_PAGES, nr_allocated(g));

	/* The guest may be the next to read as well. */
	ASSERT_CONVERTS(g, 2, 2, SHARED, ZERO);
	ASSERT_GUEST_SEES_BYTE(&self->s, 2, 2, 0);
}

/* The guest is the first to touch the memory, in either state. */
TEST_F(guest, first_use)
{
	struct gmem *g = &self->s.g;

	ASSERT_CONVERTS(g, 0, 4, PRIVATE, UNSPECIFIED);
	ASSERT_GUEST_SEES_BYTE(&self->s, 0, 8, 0);
	ASSERT_EQ(8, nr_allocated(g));
	ASSERT_HOST_SEES_BYTE(g, 4, 4, 0);

	/* The same for memory that has been allocated, but not been used. */
	kvm_fallocate(g->fd, FALLOC_FL_KEEP_SIZE, 8 * page_size, 8 * page_size);
	ASSERT_CONVERTS(g, 8, 4, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES_BYTE(&self->s, 8, 8, 0);
}

TEST_F(guest, punch_hole)
{
	struct gmem *g = &self->s.g;

	guest_fill(&self->s, 0, 8, 0x3700);
	ASSERT_CONVERTS(g, 0, 4, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&self->s, 0, 8, 0x3700);

	punch_hole(g, 2, 4);
	ASSERT_EQ(4, nr_allocated(g));
	ASSERT_GUEST_SEES(&self->s, 0, 2, 0x3700);
	ASSERT_GUEST_SEES_BYTE(&self->s, 2, 4, 0);
	ASSERT_GUEST_SEES(&self->s, 6, 2, 0x3700);
	ASSERT_STATE(g, 0, 4, PRIVATE);
	ASSERT_STATE(g, 4, 4, SHARED);

	guest_fill(&self->s, 2, 2, 0x3800);
	ASSERT_CONVERTS(g, 2, 2, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 2, 2, 0x3800);
}

/* A file that is private to begin with. */
TEST(guest_first_use_of_private_file)
{
	struct guest s = {};
	struct gmem *g = &s.g;

	guest_create_vm(&s, 1, NR_PAGES * page_size);
	g->fd = vm_create_guest_memfd(g->vm, g->size, GUEST_MEMFD_FLAG_MMAP);
	vm_mem_add_in_place(g->vm, TEST_GPA, TEST_SLOT, NR_PAGES, g->fd, 0);
	g->mem = addr_gpa2hva(g->vm, TEST_GPA);

	ASSERT_GUEST_SEES_BYTE(&s, 0, 4, 0);
	guest_fill(&s, 0, 8, 0x3880);
	ASSERT_STATE(g, 0, NR_PAGES, PRIVATE);
	ASSERT_CONVERTS(g, 2, 4, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 2, 4, 0x3880);
	ASSERT_GUEST_SEES(&s, 0, 8, 0x3880);
	ASSERT_STATE(g, 0, 2, PRIVATE);
	ASSERT_STATE(g, 6, NR_PAGES - 6, PRIVATE);

	guest_destroy(&s);
}

/* Alternate pages to both sides of 2 MiB, then swap them, then all of them. */
TEST_F(guest, alternate_pages)
{
	const u64 base = SZ_2M / page_size - 8;
	struct gmem *g = &self->s.g;
	u64 i;

	guest_fill(&self->s, base, 16, 0x3900);
	for (i = base; i < base + 16; i += 2)
		ASSERT_CONVERTS(g, i, 1, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&self->s, base, 16, 0x3900);
	for (i = base; i < base + 16; i++)
		ASSERT_STATE(g, i, 1, i & 1 ? SHARED : PRIVATE);
	guest_fill(&self->s, base, 16, 0x3a00);

	for (i = base; i < base + 16; i += 2) {
		ASSERT_CONVERTS(g, i, 1, SHARED, PRESERVE);
		ASSERT_CONVERTS(g, i + 1, 1, PRIVATE, PRESERVE);
		ASSERT_HOST_SEES(g, i, 1, 0x3a00);
	}
	ASSERT_GUEST_SEES(&self->s, base, 16, 0x3a00);

	ASSERT_CONVERTS(g, 0, g->size / page_size, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&self->s, base, 16, 0x3a00);
	ASSERT_CONVERTS(g, 0, g->size / page_size, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, base, 16, 0x3a00);
	ASSERT_EQ(16, nr_allocated(g));
}

/* The whole file, of which just a part is populated, and used by both sides. */
TEST_F(guest, whole_file)
{
	struct gmem *g = &self->s.g;
	const u64 nr_pages = g->size / page_size;

	guest_fill(&self->s, 0, nr_pages / 2, 0x3b00);
	ASSERT_CONVERTS(g, 0, nr_pages, PRIVATE, PRESERVE);
	ASSERT_EQ(nr_pages / 2, nr_allocated(g));
	ASSERT_GUEST_SEES(&self->s, 0, nr_pages / 2, 0x3b00);
	guest_fill(&self->s, nr_pages - 2, 2, 0x3b00);
	ASSERT_CONVERTS(g, 0, nr_pages, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, nr_pages / 2, 0x3b00);
	ASSERT_HOST_SEES(g, nr_pages - 2, 2, 0x3b00);
	ASSERT_EQ(nr_pages / 2 + 2, nr_allocated(g));
}

TEST_F(guest, poison_unspecified)
{
	struct gmem *g = &self->s.g;

	if (!poison_param_set("Y"))
		SKIP(return, "Can't set " POISON_PARAM);

	guest_fill(&self->s, 0, 8, 0x3c00);
	EXPECT_EQ(0, convert_pages(g, 0, 2, PRIVATE, UNSPECIFIED, NULL));
	EXPECT_EQ(0, convert_pages(g, 2, 6, PRIVATE, PRESERVE, NULL));
	EXPECT_EQ(ALL, guest_match_byte(&self->s, 0, 2, POISON_BYTE));
	EXPECT_EQ(ALL, guest_match(&self->s, 2, 6, 0x3c00));
	EXPECT_EQ(0, convert_pages(g, 4, 2, SHARED, UNSPECIFIED, NULL));
	EXPECT_EQ(ALL, guest_match_byte(&self->s, 4, 2, POISON_BYTE));
	EXPECT_EQ(ALL, guest_match(&self->s, 6, 2, 0x3c00));
	EXPECT_EQ(0, convert_pages(g, 8, 8, PRIVATE, UNSPECIFIED, NULL));
	EXPECT_EQ(ALL, guest_match_byte(&self->s, 8, 8, 0));
}

/* A pin neither changes what the guest sees, nor is the guest in its way. */
TEST_F(guest, pinned)
{
	struct gmem *g = &self->s.g;
	struct pin p;

	host_fill(g, 0, NR_PAGES, 0x3d00);
	ASSERT_EQ(NULL, pin_take(&p, PIN_VMSPLICE, g->mem + 5 * page_size, page_size));
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES, 0x3d00);
	ASSERT_CONVERT_FAILS(EAGAIN, 5, g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES, 0x3d00);
	guest_fill(&self->s, 0, NR_PAGES, 0x3e00);
	ASSERT_HOST_SEES(g, 0, NR_PAGES, 0x3e00);
	pin_drop(&p);
	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES, 0x3e00);
}

/* The guest isn't a user that a conversion would have to wait for. */
TEST_F(guest, mapped_by_guest_and_host)
{
	const u64 nr_pages = SZ_2M / page_size;
	struct gmem *g = &self->s.g;

	guest_fill(&self->s, 0, nr_pages, 0x3f00);
	ASSERT_HOST_SEES(g, 0, nr_pages, 0x3f00);
	ASSERT_CONVERTS(g, 0, nr_pages, PRIVATE, PRESERVE);
	ASSERT_EQ(0, nr_host_mapped(g));
	ASSERT_GUEST_SEES(&self->s, 0, nr_pages, 0x3f00);
	ASSERT_CONVERTS(g, 0, nr_pages, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, nr_pages, 0x3f00);
}

/*
 * How precise it is: what KVM unmaps from the guest
 */
static u64 guest_pages(struct guest *s)
{
	return vm_get_stat(s->g.vm, pages_4k);
}

static u64 guest_faults(struct guest *s)
{
	return vcpu_get_stat(s->vcpus[0], pf_fixed);
}

TEST_F(guest, unmaps_what_changes)
{
	struct gmem *g = &self->s.g;
	u64 pages, faults, i;

	for (i = 0; i < NR_PAGES; i += 2)
		ASSERT_CONVERTS(g, i, 1, PRIVATE, PRESERVE);
	guest_fill(&self->s, 0, NR_PAGES + 4, 0x4000);
	pages = guest_pages(&self->s);
	faults = guest_faults(&self->s);

	/* Half of them are shared already. */
	ASSERT_CONVERTS(g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_EQ(pages - NR_PAGES / 2, guest_pages(&self->s));
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES + 4, 0x4000);
	ASSERT_EQ(pages, guest_pages(&self->s));
	ASSERT_EQ(faults + NR_PAGES / 2, guest_faults(&self->s));

	/* And now a quarter of them is private already. */
	for (i = 0; i < NR_PAGES; i += 4)
		ASSERT_CONVERTS(g, i, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(pages - NR_PAGES / 4, guest_pages(&self->s));
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES + 4, 0x4000);
	faults = guest_faults(&self->s);
	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(pages - NR_PAGES * 3 / 4, guest_pages(&self->s));
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES + 4, 0x4000);
	ASSERT_EQ(faults + NR_PAGES * 3 / 4, guest_faults(&self->s));
}

TEST_F(guest, noop_unmaps_nothing)
{
	struct gmem *g = &self->s.g;
	u64 pages, faults, mapped;

	ASSERT_CONVERTS(g, 4, 4, PRIVATE, PRESERVE);
	guest_fill(&self->s, 0, NR_PAGES, 0x4100);
	ASSERT_HOST_SEES(g, 0, 4, 0x4100);
	pages = guest_pages(&self->s);
	faults = guest_faults(&self->s);
	mapped = nr_host_mapped(g);
	ASSERT_LE(4, mapped);

	ASSERT_CONVERTS(g, 4, 4, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(g, 4, 4, PRIVATE, ZERO);
	ASSERT_CONVERTS(g, 0, 4, SHARED, ZERO);
	ASSERT_CONVERTS(g, 8, g->size / page_size - 8, SHARED, UNSPECIFIED);

	ASSERT_EQ(mapped, nr_host_mapped(g));
	ASSERT_EQ(pages, guest_pages(&self->s));
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES, 0x4100);
	ASSERT_EQ(faults, guest_faults(&self->s));
}

#ifdef __x86_64__
/*
 * Attributes of the VM that change in a range with an in-place slot in it.  Unmapping
 * private memory destroys its contents on TDX.
 */
TEST_F(guest, vm_attributes_unmap_nothing)
{
	struct gmem *g = &self->s.g;
	u64 pages, faults;

	ASSERT_CONVERTS(g, 0, 4, PRIVATE, PRESERVE);
	guest_fill(&self->s, 0, NR_PAGES, 0x4180);
	pages = guest_pages(&self->s);
	faults = guest_faults(&self->s);

	/* One gfn behind the slot is what changes. */
	ASSERT_EQ(0, set_vm_attributes(g->vm, TEST_GPA + g->size, page_size, PRIVATE));
	ASSERT_EQ(0, set_vm_attributes(g->vm, TEST_GPA, g->size + page_size, SHARED));

	ASSERT_EQ(pages, guest_pages(&self->s));
	ASSERT_STATE(g, 0, 4, PRIVATE);
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES, 0x4180);
	ASSERT_EQ(faults, guest_faults(&self->s));
}
#endif

/* An error costs neither the host nor the guest a single mapping. */
TEST_F(guest, errors_unmap_nothing)
{
	struct gmem *g = &self->s.g;
	u64 pages, faults;
	struct pin p;

	host_fill(g, 0, NR_PAGES, 0x4200);
	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES, 0x4200);
	pages = guest_pages(&self->s);
	faults = guest_faults(&self->s);

	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, g, 0, NR_PAGES, PRIVATE, ZERO);
	ASSERT_EQ(NR_PAGES, nr_host_mapped(g));
	ASSERT_EQ(pages, guest_pages(&self->s));

	ASSERT_EQ(NULL, pin_take(&p, PIN_VMSPLICE, g->mem + (NR_PAGES - 1) * page_size,
				 page_size));
	ASSERT_CONVERT_FAILS(EAGAIN, NR_PAGES - 1, g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(NR_PAGES, nr_host_mapped(g));
	ASSERT_EQ(pages, guest_pages(&self->s));
	pin_drop(&p);

	if (!pin_take(&p, PIN_GUP_WRITE, g->mem + (NR_PAGES - 1) * page_size, page_size)) {
		ASSERT_CONVERT_FAILS(EAGAIN, NR_PAGES - 1, g, 0, NR_PAGES, PRIVATE, PRESERVE);
		ASSERT_EQ(NR_PAGES, nr_host_mapped(g));
		ASSERT_EQ(pages, guest_pages(&self->s));
		pin_drop(&p);
	}

	ASSERT_GUEST_SEES(&self->s, 0, NR_PAGES, 0x4200);
	ASSERT_EQ(faults, guest_faults(&self->s));
}

/*
 * Exits
 */
static void pre_fault(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size)
{
	struct kvm_pre_fault_memory range = {
		.gpa = gpa,
		.size = size,
	};
	int ret;

	do {
		ret = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
	} while (range.size && (!ret || errno == EINTR));

	TEST_ASSERT(!range.size, "KVM_PRE_FAULT_MEMORY failed, errno = %d", errno);
}

TEST_F(guest, pre_fault_memory)
{
	struct gmem *g = &self->s.g;
	u64 pages, faults;

	if (!kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "No KVM_PRE_FAULT_MEMORY");

	/* Let the guest fault in all that it takes to be there at all. */
	guest_fill(&self->s, NR_PAGES, 1, 0x4300);

	ASSERT_CONVERTS(g, 0, 4, PRIVATE, PRESERVE);
	pages = guest_pages(&self->s);
	pre_fault(self->s.vcpus[0], TEST_GPA, 8 * page_size);
	ASSERT_EQ(pages + 8, guest_pages(&self->s));
	ASSERT_EQ(9, nr_allocated(g));

	faults = guest_faults(&self->s);
	guest_fill(&self->s, 0, 8, 0x4300);
	ASSERT_EQ(faults, guest_faults(&self->s));

	/* Neither state is in the way of the other. */
	ASSERT_CONVERTS(g, 0, 4, SHARED, PRESERVE);
	ASSERT_CONVERTS(g, 4, 4, PRIVATE, PRESERVE);
	ASSERT_EQ(pages, guest_pages(&self->s));
	pre_fault(self->s.vcpus[0], TEST_GPA, 8 * page_size);
	ASSERT_GUEST_SEES(&self->s, 0, 8, 0x4300);
	ASSERT_HOST_SEES(g, 0, 4, 0x4300);
	ASSERT_FALSE(can_read(g->mem + 4 * page_size));
}

/* Run the vCPU until it exits for an access to @gpa that nobody answers. */
static void guest_run_expect_exit(struct guest *s, gpa_t gpa, int expected_errno,
				  u32 exit_reason)
{
	struct kvm_vcpu *vcpu = s->vcpus[0];
	int ret;

	guest_set_cmd(s, 0, OP_READ, gpa, 1, 0);
	ret = _vcpu_run(vcpu);
	TEST_ASSERT(ret == (expected_errno ? -1 : 0) &&
		    (!ret || errno == expected_errno),
		    "KVM_RUN: %d, errno = %d, expected %d", ret, errno, expected_errno);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, exit_reason);
}

/* Without a memslot a gfn isn't private, whatever the file says. */
TEST_F(guest, memslot_deleted)
{
	struct userspace_mem_region *region = memslot2region(self->s.g.vm, TEST_SLOT);
	struct kvm_userspace_memory_region2 r = region->region;
	struct kvm_run *run = self->s.vcpus[0]->run;
	struct gmem *g = &self->s.g;

	guest_fill(&self->s, 0, 8, 0x4400);
	ASSERT_CONVERTS(g, 0, 4, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&self->s, 0, 8, 0x4400);

	r.memory_size = 0;
	vm_ioctl(g->vm, KVM_SET_USER_MEMORY_REGION2, &r);

	guest_run_expect_exit(&self->s, TEST_GPA + page_size, 0, KVM_EXIT_MMIO);
	ASSERT_EQ(TEST_GPA + page_size, run->mmio.phys_addr);
	ASSERT_EQ(8, run->mmio.len);
	ASSERT_FALSE(run->mmio.is_write);
	*(u64 *)run->mmio.data = 0xf00d;
	vcpu_run(self->s.vcpus[0]);
	vcpu_check_ucall(self->s.vcpus[0]);
	ASSERT_EQ(0xf00d, self->s.cmds[0].ret);

	/* The state and the contents are the file's, and may change meanwhile. */
	ASSERT_STATE(g, 0, 4, PRIVATE);
	ASSERT_STATE(g, 4, 4, SHARED);
	ASSERT_CONVERTS(g, 3, 2, SHARED, PRESERVE);
	ASSERT_CONVERTS(g, 5, 1, PRIVATE, PRESERVE);

	vm_ioctl(g->vm, KVM_SET_USER_MEMORY_REGION2, &region->region);
	ASSERT_GUEST_SEES(&self->s, 0, 8, 0x4400);
	ASSERT_STATE(g, 0, 3, PRIVATE);
	ASSERT_STATE(g, 3, 2, SHARED);
	ASSERT_STATE(g, 5, 1, PRIVATE);
	ASSERT_CONVERTS(g, 0, 8, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, 8, 0x4400);
}

TEST_F(guest, hwpoison)
{
	struct kvm_run *run = self->s.vcpus[0]->run;
	struct gmem *g = &self->s.g;
	u64 pfn;

	host_fill(g, 0, 8, 0x4500);
	ASSERT_GUEST_SEES(&self->s, 0, 8, 0x4500);
	pfn = PM_PFN(pagemap_entry(g->mem + 2 * page_size));
	if (!poison_shared(g, 5))
		SKIP(return, "No MADV_HWPOISON (CONFIG_MEMORY_FAILURE, root)");

	ASSERT_GUEST_SEES(&self->s, 0, 5, 0x4500);
	guest_run_expect_exit(&self->s, TEST_GPA + 5 * page_size, EHWPOISON,
			      KVM_EXIT_MEMORY_FAULT);
	ASSERT_EQ(TEST_GPA + 5 * page_size, run->memory_fault.gpa);
	ASSERT_EQ(0, run->memory_fault.flags);

	ASSERT_CONVERT_FAILS(EHWPOISON, 5, g, 0, 8, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(g, 0, 5, PRIVATE, PRESERVE);

	/* The guest repeats the access, and comes here again. */
	if (!poison_pfn(pfn))
		return;
	punch_hole(g, 5, 1);
	vcpu_run(self->s.vcpus[0]);
	vcpu_check_ucall(self->s.vcpus[0]);
	ASSERT_EQ(0, self->s.cmds[0].ret);
	guest_run_expect_exit(&self->s, TEST_GPA + 2 * page_size, EHWPOISON,
			      KVM_EXIT_MEMORY_FAULT);
	ASSERT_EQ(TEST_GPA + 2 * page_size, run->memory_fault.gpa);
	ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, run->memory_fault.flags);
}

/* The file is gone but for the memslot: nobody knows of a private page. */
TEST(file_closed_under_memslot)
{
	struct guest s = {};
	struct kvm_run *run;
	u8 *anon;

	guest_create_vm(&s, 1, NR_PAGES * page_size);
	run = s.vcpus[0]->run;
	s.g.fd = vm_create_guest_memfd(s.g.vm, s.g.size, IN_PLACE);
	anon = kvm_mmap(s.g.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	vm_set_user_memory_region2(s.g.vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA,
				   s.g.size, anon, s.g.fd, 0);

	guest_fill(&s, 0, 8, 0x4600);
	ASSERT_CONVERTS(&s.g, 0, 4, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&s, 0, 8, 0x4600);

	kvm_close(s.g.fd);
	s.g.fd = -1;
	guest_run_expect_exit(&s, TEST_GPA + page_size, EFAULT, KVM_EXIT_MEMORY_FAULT);
	ASSERT_EQ(TEST_GPA + page_size, run->memory_fault.gpa);
	ASSERT_EQ(0, run->memory_fault.flags);

	kvm_munmap(anon, s.g.size);
	guest_destroy(&s);
}

/*
 * Several memslots, and several kinds of them
 */
TEST(two_slots_of_one_file)
{
	struct guest s = {};
	struct gmem *g = &s.g;

	/* Sixteen pages of the file, of which the guest sees 4-7 after 8-11. */
	guest_create_vm(&s, 1, NR_PAGES * page_size);
	s.g.fd = vm_create_guest_memfd(s.g.vm, s.g.size, IN_PLACE);
	gmem_map(g);
	vm_mem_add_in_place(g->vm, TEST_GPA, TEST_SLOT, 4, g->fd, 8 * page_size);
	vm_mem_add_in_place(g->vm, TEST_GPA + 4 * page_size, OTHER_SLOT, 4, g->fd,
			    4 * page_size);

	host_fill(g, 0, NR_PAGES, 0x4700);
	ASSERT_CONVERTS(g, 6, 4, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&s, 0, 4, 0x4708);
	ASSERT_GUEST_SEES(&s, 4, 4, 0x4700);
	guest_fill(&s, 0, 8, 0x4800);
	ASSERT_STATE(g, 0, 6, SHARED);
	ASSERT_STATE(g, 6, 4, PRIVATE);
	ASSERT_STATE(g, 10, NR_PAGES - 10, SHARED);
	ASSERT_EQ(0x4804, *first_word(g->mem + 4 * page_size));
	ASSERT_EQ(0x4803, *first_word(g->mem + 11 * page_size));

	/* The slots' gfns are adjacent, but what is converted is the file. */
	vm_guest_mem_set_shared(g->vm, TEST_GPA + page_size, 5 * page_size, ZERO);
	ASSERT_STATE(g, 4, 2, SHARED);
	ASSERT_STATE(g, 6, 3, PRIVATE);
	ASSERT_HOST_SEES_BYTE(g, 9, 1, 0);
	ASSERT_GUEST_SEES_BYTE(&s, 1, 1, 0);

	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&s, 2, 6, 0x4800);
	ASSERT_CONVERTS(g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 4, 4, 0x4800);
	ASSERT_HOST_SEES(g, 10, 2, 0x4800 - 8);
	ASSERT_HOST_SEES(g, 0, 4, 0x4700);
	ASSERT_HOST_SEES(g, 12, 4, 0x4700);

	kvm_munmap(g->mem, g->size);
	guest_destroy(&s);
}

/* An in-place slot at TEST_GPA, and behind it one with two backings. */
TEST(both_kinds_in_one_vm)
{
	struct guest s = {};
	struct gmem *g = &s.g;
	gpa_t gpa;
	u8 *anon;

	guest_create_vm(&s, 1, 2 * NR_PAGES * page_size);
	g->size = NR_PAGES * page_size;
	vm_mem_add_in_place(g->vm, TEST_GPA, TEST_SLOT, NR_PAGES, -1, 0);
	g->fd = kvm_dup(memslot2region(g->vm, TEST_SLOT)->region.guest_memfd);
	g->mem = addr_gpa2hva(g->vm, TEST_GPA);
	gpa = TEST_GPA + g->size;
	vm_mem_add(g->vm, VM_MEM_SRC_ANONYMOUS, gpa, OTHER_SLOT, NR_PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	anon = addr_gpa2hva(g->vm, gpa);

	guest_fill(&s, 0, 2 * NR_PAGES, 0x4900);

	/* Each has its own way, and none has the other's. */
	ASSERT_EQ(ENOTTY, convert(memslot2region(g->vm, OTHER_SLOT)->region.guest_memfd,
				  0, page_size, PRIVATE, UNSPECIFIED, NULL));
	ASSERT_EQ(EINVAL, set_vm_attributes(g->vm, TEST_GPA, 2 * g->size, PRIVATE));
	ASSERT_EQ(EINVAL, set_vm_attributes(g->vm, TEST_GPA, g->size, PRIVATE));
	ASSERT_GUEST_SEES(&s, 0, 2 * NR_PAGES, 0x4900);
	ASSERT_EQ(0, set_vm_attributes(g->vm, gpa, g->size, PRIVATE));
	ASSERT_GUEST_SEES(&s, 0, NR_PAGES, 0x4900);
	ASSERT_GUEST_SEES_BYTE(&s, NR_PAGES, NR_PAGES, 0);
	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&s, 0, NR_PAGES, 0x4900);
	guest_fill(&s, 0, 2 * NR_PAGES, 0x4a00);

	/* To shared: in one go for the old, which doesn't touch the new. */
	ASSERT_EQ(0, set_vm_attributes(g->vm, TEST_GPA, 2 * g->size, SHARED));
	ASSERT_STATE(g, 0, NR_PAGES, PRIVATE);
	ASSERT_GUEST_SEES(&s, 0, NR_PAGES, 0x4a00);
	ASSERT_GUEST_SEES(&s, NR_PAGES, NR_PAGES, 0x4900);
	ASSERT_EQ(0x4900 + NR_PAGES, *first_word(anon));
	ASSERT_CONVERTS(g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, NR_PAGES, 0x4a00);

	/* A private access without a slot is an error of old. */
	ASSERT_EQ(0, set_vm_attributes(g->vm, gpa, g->size, PRIVATE));
	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	vm_mem_region_delete(g->vm, OTHER_SLOT);
	vm_mem_region_delete(g->vm, TEST_SLOT);
	guest_run_expect_exit(&s, gpa, EFAULT, KVM_EXIT_MEMORY_FAULT);
	ASSERT_EQ(gpa, s.vcpus[0]->run->memory_fault.gpa);
	ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, s.vcpus[0]->run->memory_fault.flags);

	guest_destroy(&s);
}

/*
 * The file knows the state of the gfns, and has the private memory.  What is shared is
 * other memory, even if it comes in huge pages of which some would be private.
 */
TEST(two_backings_and_state_in_file)
{
	const u64 nr = SZ_4M / page_size;
	struct guest s = {};
	struct gmem *g = &s.g;

	guest_create_vm(&s, 1, SZ_4M);
	g->fd = vm_create_guest_memfd(g->vm, g->size, GUEST_MEMFD_FLAG_INIT_SHARED);
	vm_mem_add(g->vm, VM_MEM_SRC_ANONYMOUS_THP, TEST_GPA, TEST_SLOT, nr,
		   KVM_MEM_GUEST_MEMFD, g->fd, 0);
	g->mem = addr_gpa2hva(g->vm, TEST_GPA);
	host_fill(g, 0, nr, 0x10000);

	/* The guest comes to the neighbours of the private pages first. */
	ASSERT_CONVERTS(g, 2, 2, PRIVATE, UNSPECIFIED);
	ASSERT_GUEST_SEES(&s, 0, 2, 0x10000);
	ASSERT_GUEST_SEES(&s, 4, nr - 4, 0x10000);
	ASSERT_GUEST_SEES_BYTE(&s, 2, 2, 0);
	guest_fill(&s, 2, 2, 0x20000);
	ASSERT_HOST_SEES(g, 0, nr, 0x10000);
	ASSERT_EQ(EINVAL, set_vm_attributes(g->vm, TEST_GPA, page_size, PRIVATE));

	/* It has all of them by now, of which some become private. */
	ASSERT_CONVERTS(g, 1, 7, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERTS(g, nr - 2, 1, PRIVATE, UNSPECIFIED);
	ASSERT_GUEST_SEES_BYTE(&s, 1, 1, 0);
	ASSERT_GUEST_SEES_BYTE(&s, nr - 2, 1, 0);
	guest_fill(&s, 0, nr, 0x30000);
	ASSERT_HOST_SEES(g, 0, 1, 0x30000);
	ASSERT_HOST_SEES(g, 1, 7, 0x10000);
	ASSERT_HOST_SEES(g, 8, nr - 10, 0x30000);
	ASSERT_HOST_SEES(g, nr - 2, 1, 0x10000);

	/* A hole in the file is none in shared memory. */
	punch_hole(g, 0, 2);
	ASSERT_GUEST_SEES(&s, 0, 1, 0x30000);
	ASSERT_GUEST_SEES_BYTE(&s, 1, 1, 0);

	host_fill(g, 1, 7, 0x40000);
	ASSERT_GUEST_SEES(&s, 2, 6, 0x30000);
	ASSERT_CONVERTS(g, 0, nr, SHARED, UNSPECIFIED);
	ASSERT_GUEST_SEES(&s, 1, 7, 0x40000);
	ASSERT_GUEST_SEES(&s, nr - 2, 1, 0x10000);

	guest_destroy(&s);
}

/* As file_closed_under_memslot: what is left is the shared memory. */
TEST(two_backings_file_closed)
{
	struct guest s = {};
	struct gmem *g = &s.g;

	guest_create_vm(&s, 1, NR_PAGES * page_size);
	g->fd = vm_create_guest_memfd(g->vm, g->size, GUEST_MEMFD_FLAG_INIT_SHARED);
	g->mem = kvm_mmap(g->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	gmem_bind(g);

	host_fill(g, 0, NR_PAGES, 0x4680);
	ASSERT_CONVERTS(g, 0, 4, PRIVATE, UNSPECIFIED);
	guest_fill(&s, 0, 8, 0x4690);
	ASSERT_HOST_SEES(g, 0, 4, 0x4680);
	ASSERT_HOST_SEES(g, 4, 4, 0x4690);

	kvm_close(g->fd);
	g->fd = -1;
	ASSERT_GUEST_SEES(&s, 0, 4, 0x4680);
	ASSERT_GUEST_SEES(&s, 4, 4, 0x4690);

	guest_destroy(&s);
}

/*
 * Races
 */
FIXTURE(race)
{
	struct guest s;
};

FIXTURE_SETUP(race)
{
	guest_create(&self->s, MAX_VCPUS, 2 * NR_PAGES * page_size);
}

FIXTURE_TEARDOWN(race)
{
	guest_destroy(&self->s);
}

struct race {
	struct guest *s;
	int id;
	pthread_t thread;
	/* MMIO exits are part of the game. */
	bool mmio;
	bool *stop;
	u64 count;
	u64 errors;
};

static void *vcpu_thread(void *__r)
{
	struct race *r = __r;
	struct kvm_vcpu *vcpu = r->s->vcpus[r->id];

	for (;;) {
		vcpu_run(vcpu);
		if (!r->mmio || vcpu->run->exit_reason != KVM_EXIT_MMIO)
			break;
		r->count++;
	}
	vcpu_check_ucall(vcpu);
	return NULL;
}

static void vcpu_stop(struct race *r)
{
	WRITE_ONCE(r->s->cmds[r->id].stop, 1);
	kvm_pthread_join(r->thread, NULL);
}

/* Flip a random part of the file. */
static int flip(struct gmem *g, struct kvm_random_state *rng)
{
	const u64 nr_pages = g->size / page_size;
	u64 page = kvm_random_u64(rng) % nr_pages;
	u64 nr = 1 + kvm_random_u64(rng) % (nr_pages - page);

	return convert_pages(g, page, nr, kvm_random_u64(rng) & 1 ? PRIVATE : SHARED,
			     PRESERVE, NULL);
}

/* Guest faults never get into the way of conversions, nor do those lose data. */
TEST_F_TIMEOUT(race, vcpus, 60)
{
	struct kvm_random_state rng = new_kvm_random_state(0xace);
	struct race vcpus[MAX_VCPUS] = {};
	struct guest *s = &self->s;
	u64 i, page;

	for (i = 0; i < MAX_VCPUS; i++) {
		guest_set_cmd(s, i, OP_COUNT, TEST_GPA + i * page_size, 8, 0);
		s->cmds[i].stride = MAX_VCPUS * page_size;
		vcpus[i].s = s;
		vcpus[i].id = i;
		kvm_pthread_create(&vcpus[i].thread, NULL, vcpu_thread, &vcpus[i]);
	}

	for (i = 0; i < 200; i++)
		ASSERT_EQ(0, flip(&s->g, &rng));

	/* And on until everybody has seen something of it. */
	for (i = 0; i < MAX_VCPUS; i++) {
		while (READ_ONCE(s->cmds[i].progress) < 50)
			ASSERT_EQ(0, flip(&s->g, &rng));
	}

	for (i = 0; i < MAX_VCPUS; i++)
		vcpu_stop(&vcpus[i]);

	ASSERT_CONVERTS(&s->g, 0, 2 * NR_PAGES, SHARED, PRESERVE);
	for (page = 0; page < MAX_VCPUS * 8; page++)
		ASSERT_EQ(s->cmds[page % MAX_VCPUS].ret, *first_word(s->g.mem + page * page_size));
}

/* Wait until a vCPU that runs OP_TOUCH has been at each of its pages since. */
static void wait_for_touches(struct guest *s, int nr_vcpus)
{
	u64 before;
	int i;

	for (i = 0; i < nr_vcpus; i++) {
		before = READ_ONCE(s->cmds[i].progress);
		while (READ_ONCE(s->cmds[i].progress) < before + s->cmds[i].nr + 2)
			cpu_relax();
	}
}

/* No vCPU has a shared page any more once it is private, or the other way round. */
TEST(race_two_backings)
{
	struct race vcpus[2] = {};
	struct guest s = {};
	struct gmem *g = &s.g;
	u64 i, page, *word;

	guest_create_vm(&s, 2, 4 * page_size);
	g->fd = vm_create_guest_memfd(g->vm, g->size, GUEST_MEMFD_FLAG_INIT_SHARED);
	g->mem = kvm_mmap(g->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	gmem_bind(g);

	for (i = 0; i < 2; i++) {
		guest_set_cmd(&s, i, OP_TOUCH, TEST_GPA, 4, 0);
		vcpus[i].s = &s;
		vcpus[i].id = i;
		kvm_pthread_create(&vcpus[i].thread, NULL, vcpu_thread, &vcpus[i]);
	}

	for (i = 0; i < 100; i++) {
		ASSERT_CONVERTS(g, 0, 4, PRIVATE, UNSPECIFIED);
		for (page = 0; page < 4; page++)
			WRITE_ONCE(*first_word(g->mem + page * page_size), ALL);
		wait_for_touches(&s, 2);
		for (page = 0; page < 4; page++)
			ASSERT_EQ(ALL, READ_ONCE(*first_word(g->mem + page * page_size)));

		ASSERT_CONVERTS(g, 0, 4, SHARED, UNSPECIFIED);
		wait_for_touches(&s, 2);
		for (page = 0; page < 4; page++) {
			word = first_word(g->mem + page * page_size);
			ASSERT_NE(ALL, READ_ONCE(*word));
		}
	}

	vcpu_stop(&vcpus[0]);
	vcpu_stop(&vcpus[1]);
	kvm_close(g->fd);
	g->fd = -1;
	guest_destroy(&s);
}

struct flip_args {
	struct gmem *g;
	/* The VM keeps the state of this memory, else the file does. */
	bool vm_attributes;
	bool stop;
	u64 count;
};

static void *flip_thread(void *__f)
{
	struct flip_args *f = __f;
	u64 attributes, i;
	int ret;

	for (i = 0; !READ_ONCE(f->stop); i++) {
		attributes = i & 1 ? SHARED : PRIVATE;
		if (f->vm_attributes)
			ret = set_vm_attributes(f->g->vm, TEST_GPA, page_size, attributes);
		else
			ret = convert_pages(f->g, 0, 1, attributes, UNSPECIFIED, NULL);
		TEST_ASSERT(!ret, "Conversion failed, errno = %d", ret);
		WRITE_ONCE(f->count, i + 1);
	}
	return NULL;
}

/*
 * A prefault takes memory as it is, i.e. nobody is wrong if it changes meanwhile: an
 * error says to try again, and not that the access is to be fixed.
 */
static void do_race_pre_fault(struct guest *s, bool vm_attributes)
{
	struct flip_args f = { .g = &s->g, .vm_attributes = vm_attributes };
	struct kvm_pre_fault_memory range;
	pthread_t thread;
	u64 i;
	int ret;

	kvm_pthread_create(&thread, NULL, flip_thread, &f);

	for (i = 0; i < 2000 || READ_ONCE(f.count) < 200; i++) {
		range = (struct kvm_pre_fault_memory) {
			.gpa = TEST_GPA,
			.size = page_size,
		};
		ret = __vcpu_ioctl(s->vcpus[0], KVM_PRE_FAULT_MEMORY, &range);
		TEST_ASSERT(!ret || errno == EAGAIN || errno == EINTR,
			    "Prefault %lu failed, errno = %d (%s)", i, errno, strerror(errno));
	}

	WRITE_ONCE(f.stop, true);
	kvm_pthread_join(thread, NULL);
	pre_fault(s->vcpus[0], TEST_GPA, page_size);
}

TEST_F_TIMEOUT(race, pre_fault, 60)
{
	if (!kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "No KVM_PRE_FAULT_MEMORY");

	do_race_pre_fault(&self->s, false);
}

TEST(race_pre_fault_vm_attributes)
{
	struct guest s = { .g.fd = -1 };

	if (!kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "No KVM_PRE_FAULT_MEMORY");

	guest_create_vm(&s, 1, NR_PAGES * page_size);
	vm_mem_add(s.g.vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, NR_PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	do_race_pre_fault(&s, true);
	guest_destroy(&s);
}

static void *host_add_thread(void *__r)
{
	struct race *r = __r;
	struct gmem *g = &r->s->g;
	u64 i, *word;

	for (i = 0; !READ_ONCE(*r->stop); i++) {
		word = first_word(g->mem + (i % 8) * page_size);
		if (host_access(HOST_ADD, word))
			WRITE_ONCE(r->count, r->count + 1);
		else
			r->errors++;
	}
	return NULL;
}

/* With a host that touches what flips there may be EAGAIN, but no loss. */
TEST_F_TIMEOUT(race, vcpus_and_host, 60)
{
	struct kvm_random_state rng = new_kvm_random_state(0xface);
	struct race vcpu = { .s = &self->s }, host = { .s = &self->s };
	struct guest *s = &self->s;
	u64 i, retries, sum = 0;
	bool stop = false;
	int ret;

	guest_set_cmd(s, 0, OP_ADD, TEST_GPA, 8, 0);
	host.stop = &stop;
	kvm_pthread_create(&vcpu.thread, NULL, vcpu_thread, &vcpu);
	kvm_pthread_create(&host.thread, NULL, host_add_thread, &host);

	for (i = 0; i < 200 || READ_ONCE(s->cmds[0].progress) < 50 ||
	     READ_ONCE(host.count) < 50; i++) {
		u64 page = kvm_random_u64(&rng) % 8;

		for (retries = 0; retries < 1000; retries++) {
			ret = convert_pages(&s->g, page, 8 - page, i & 1 ? SHARED : PRIVATE,
					    PRESERVE, NULL);
			if (ret != EAGAIN)
				break;
		}
		ASSERT_EQ(0, ret);
		ASSERT_FALSE((i & 1) && retries);
	}

	WRITE_ONCE(stop, true);
	vcpu_stop(&vcpu);
	kvm_pthread_join(host.thread, NULL);

	ASSERT_CONVERTS(&s->g, 0, 8, SHARED, PRESERVE);
	for (i = 0; i < 8; i++)
		sum += *first_word(s->g.mem + i * page_size);
	ASSERT_EQ(sum, host.count + s->cmds[0].ret);
	ASSERT_EQ(8, nr_allocated(&s->g));
}

static void *punch_thread(void *__r)
{
	struct kvm_random_state rng = new_kvm_random_state(0xdeaf);
	struct race *r = __r;
	u64 page;

	while (!READ_ONCE(*r->stop)) {
		page = kvm_random_u64(&rng) % (2 * NR_PAGES);
		punch_hole(&r->s->g, page, min_t(u64, 4, 2 * NR_PAGES - page));
		page = kvm_random_u64(&rng) % (2 * NR_PAGES);
		kvm_fallocate(r->s->g.fd, FALLOC_FL_KEEP_SIZE, page * page_size, page_size);
		WRITE_ONCE(r->count, r->count + 1);
	}
	return NULL;
}

static void *memslot_thread(void *__r)
{
	struct race *r = __r;

	while (!READ_ONCE(*r->stop)) {
		vm_mem_region_reload(r->s->g.vm, TEST_SLOT);
		WRITE_ONCE(r->count, r->count + 1);
		usleep(1000);
	}
	return NULL;
}

/* Everything that changes what a gfn is backed by, all at once. */
TEST_F_TIMEOUT(race, punch_hole_and_memslot, 60)
{
	struct kvm_random_state rng = new_kvm_random_state(0xcafe);
	struct race vcpu = { .s = &self->s, .mmio = true };
	struct race punch = { .s = &self->s }, memslot = { .s = &self->s };
	struct guest *s = &self->s;
	bool stop = false;
	int i;

	punch.stop = &stop;
	memslot.stop = &stop;
	guest_set_cmd(s, 0, OP_TOUCH, TEST_GPA, 2 * NR_PAGES, 0);
	kvm_pthread_create(&vcpu.thread, NULL, vcpu_thread, &vcpu);
	kvm_pthread_create(&punch.thread, NULL, punch_thread, &punch);
	kvm_pthread_create(&memslot.thread, NULL, memslot_thread, &memslot);

	/* The pages are nobody's but the guest's here, too. */
	for (i = 0; i < 200 || READ_ONCE(punch.count) < 20 ||
	     READ_ONCE(memslot.count) < 20; i++)
		ASSERT_EQ(0, flip(&s->g, &rng));

	WRITE_ONCE(stop, true);
	kvm_pthread_join(punch.thread, NULL);
	kvm_pthread_join(memslot.thread, NULL);
	vcpu_stop(&vcpu);

	punch_hole(&s->g, 0, 2 * NR_PAGES);
	ASSERT_EQ(0, nr_allocated(&s->g));
	ASSERT_CONVERTS(&s->g, 0, 2 * NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES_BYTE(s, 0, 2 * NR_PAGES, 0);
	ASSERT_CONVERTS(&s->g, 0, 2 * NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES_BYTE(&s->g, 0, 2 * NR_PAGES, 0);
}

static void *to_private_thread(void *__r)
{
	struct race *r = __r;

	for (r->count = 0; r->count < 200; r->count++)
		r->errors += !!convert_pages(&r->s->g, 0, 2 * NR_PAGES, PRIVATE, PRESERVE, NULL);
	return NULL;
}

/* Conversions are atomic with respect to each other. */
TEST_F_TIMEOUT(race, opposite_directions, 60)
{
	struct race other = { .s = &self->s };
	struct guest *s = &self->s;
	u64 first;
	int i;

	guest_fill(s, 0, 2 * NR_PAGES, 0x5000);
	kvm_pthread_create(&other.thread, NULL, to_private_thread, &other);
	for (i = 0; i < 200; i++) {
		ASSERT_CONVERTS(&s->g, 0, 2 * NR_PAGES, SHARED, PRESERVE);
		first = first_shared(s->g.fd, 0, s->g.size);
		ASSERT_TRUE(first == 0 || first == s->g.size);
	}
	kvm_pthread_join(other.thread, NULL);
	ASSERT_EQ(0, other.errors);

	first = first_shared(s->g.fd, 0, s->g.size);
	ASSERT_STATE(&s->g, 0, 2 * NR_PAGES, first ? PRIVATE : SHARED);
	ASSERT_GUEST_SEES(s, 0, 2 * NR_PAGES, 0x5000);
}
#endif /* __x86_64__ */

/*
 * The memory that the state takes
 */
#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define FAIL_NTH	"/proc/thread-self/fail-nth"

static const struct {
	const char *path;
	const char *val;
} fail_params[] = {
	/* The allocations of interest may all sleep.  And keep quiet about it. */
	{ FAILSLAB "ignore-gfp-wait", "N" },
	{ FAILSLAB "verbose", "0" },
	{ "/sys/kernel/debug/fail_usercopy/verbose", "0" },
	{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
};

/*
 * Convert with the @nth thing that can fail failing.  Return whether there was
 * such a thing.
 */
static bool convert_fail_nth(struct gmem *g, int nth, u64 page, u64 nr,
			     u64 attributes, int *ret, u64 *where)
{
	char str[16];
	int fd, len;

	fd = open(FAIL_NTH, O_RDWR);
	TEST_ASSERT(fd >= 0, "Can't open " FAIL_NTH);

	len = snprintf(str, sizeof(str), "%d", nth);
	TEST_ASSERT(write(fd, str, len) == len, "Can't write to " FAIL_NTH);
	*ret = convert_pages(g, page, nr, attributes, PRESERVE, where);
	len = pread(fd, str, sizeof(str) - 1, 0);

	/* If it's this what fails, then there is nothing left that could. */
	(void)!pwrite(fd, "0", 1, 0);
	close(fd);

	/* The same holds for the read, and if so the conversion had less to fail. */
	if (len <= 0)
		return false;
	str[len] = '\0';
	return !atoi(str);
}

TEST_F(gmem, enomem)
{
	char before[ARRAY_SIZE(fail_params)][16];
	int nr_enomem = 0, nth, ret, i;
	struct gmem *g = &self->g;
	struct gmem big = {};
	u64 where, other, back;
	struct pin p;

	if (access(FAIL_NTH, W_OK) || access(FAILSLAB "verbose", W_OK))
		SKIP(return, "No failslab (CONFIG_FAILSLAB, FAULT_INJECTION_DEBUG_FS)");

	for (i = 0; i < ARRAY_SIZE(fail_params); i++) {
		before[i][0] = '\0';
		if (read_str(fail_params[i].path, before[i], sizeof(before[i])))
			write_str(fail_params[i].path, fail_params[i].val);
	}

	/* Pages in the midst of a block that's all shared take most memory, once. */
	big.vm = g->vm;
	big.size = SZ_1G;
	big.fd = vm_create_guest_memfd(g->vm, big.size, IN_PLACE);
	other = SZ_256M / page_size + 1000;
	back = SZ_512M / page_size + 1000;
	gmem_map(&big);
	host_fill(&big, 1000, 3, 0x6000);
	host_fill(&big, other, 3, 0x6000);

	for (nth = 1; nth < 100; nth++) {
		if (!convert_fail_nth(&big, nth, 1000, 3, PRIVATE, &ret, &where))
			break;

		/* Reading the arguments may be what has failed. */
		EXPECT_TRUE(!ret || ret == ENOMEM || ret == EFAULT);
		if (ret == ENOMEM) {
			nr_enomem++;
			EXPECT_TRUE(where >= 1000 && where < 1003);
		}
		if (!ret)
			EXPECT_EQ(0, convert_pages(&big, 1000, 3, SHARED, PRESERVE, NULL));
		EXPECT_EQ(0, first_shared(big.fd, 0, big.size));
		EXPECT_EQ(ALL, host_match_state(&big, 998, 4, SHARED));
		EXPECT_EQ(ALL, host_match(&big, 1000, 3, 0x6000));
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(0, nr_enomem);
	EXPECT_EQ(ALL, host_match_state(&big, 1000, 3, PRIVATE));

	/* A page in use is of no interest before there is memory. */
	EXPECT_EQ(0, convert_pages(&big, 0, SZ_1G / page_size, SHARED, PRESERVE, NULL));
	pin_take(&p, PIN_VMSPLICE, big.mem + (other + 1) * page_size, page_size);
	for (nth = 1, nr_enomem = 0; nth < 100; nth++) {
		if (!convert_fail_nth(&big, nth, other, 3, PRIVATE, &ret, NULL))
			break;
		EXPECT_TRUE(ret == EAGAIN || ret == ENOMEM || ret == EFAULT);
		nr_enomem += ret == ENOMEM;
		EXPECT_EQ(0, first_shared(big.fd, 0, big.size));
	}
	EXPECT_EQ(EAGAIN, ret);
	EXPECT_LT(0, nr_enomem);
	pin_drop(&p);
	EXPECT_EQ(ALL, host_match(&big, other, 3, 0x6000));

	/* And the other way round. */
	EXPECT_EQ(0, convert_pages(&big, 0, SZ_1G / page_size, PRIVATE, PRESERVE, NULL));
	for (nth = 1, nr_enomem = 0; nth < 100; nth++) {
		if (!convert_fail_nth(&big, nth, back, 3, SHARED, &ret, &where))
			break;

		EXPECT_TRUE(!ret || ret == ENOMEM || ret == EFAULT);
		if (ret == ENOMEM) {
			nr_enomem++;
			EXPECT_TRUE(where >= back && where < back + 3);
		}
		if (!ret)
			EXPECT_EQ(0, convert_pages(&big, back, 3, PRIVATE, PRESERVE, NULL));
		EXPECT_EQ(big.size, first_shared(big.fd, 0, big.size));
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(0, nr_enomem);
	EXPECT_EQ(ALL, host_match(&big, other, 3, 0x6000));

	for (i = 0; i < ARRAY_SIZE(fail_params); i++) {
		if (before[i][0])
			write_str(fail_params[i].path, before[i]);
	}

	kvm_munmap(big.mem, big.size);
	kvm_close(big.fd);
}

#define CGROUP		"/sys/fs/cgroup"
#define TEST_CGROUP	CGROUP "/gmem_conversions_test"

/* The kernel's slab memory on account of the cgroup. */
static u64 cgroup_slab(void)
{
	static char stat[16384];
	u64 slab = 0;
	char *line;

	TEST_ASSERT(read_str(TEST_CGROUP "/memory.stat", stat, sizeof(stat)),
		    "Can't read memory.stat");
	line = strstr(stat, "\nslab ");
	TEST_ASSERT(line && sscanf(line, "\nslab %lu", &slab) == 1, "No slab in memory.stat");
	return slab;
}

/* Wait for RCU, and for the counters of all CPUs to be added up. */
static u64 wait_for_cgroup_slab(u64 min, u64 max)
{
	u64 slab = 0;
	int i;

	for (i = 0; i < 100; i++) {
		slab = cgroup_slab();
		if (slab >= min && slab <= max)
			break;
		usleep(100000);
	}
	return slab;
}

TEST_F_TIMEOUT(gmem, state_memory, 60)
{
	/* A page every 2 MiB, which is as bad as it gets without alternating. */
	const u64 nr = 4096, size = nr * SZ_2M;
	/* A bit for each page, at the least, and at the most four. */
	const u64 least = size / page_size / 8, most = 4 * least;
	u64 before, i;
	char pid[16];
	struct pin p;
	u8 *mem;
	int fd;

	write_str(CGROUP "/cgroup.subtree_control", "+memory");
	rmdir(TEST_CGROUP);
	if (mkdir(TEST_CGROUP, 0755))
		SKIP(return, "Can't create " TEST_CGROUP);
	snprintf(pid, sizeof(pid), "%d", getpid());
	if (access(TEST_CGROUP "/memory.stat", R_OK) ||
	    !write_str(TEST_CGROUP "/cgroup.procs", pid)) {
		rmdir(TEST_CGROUP);
		SKIP(return, "No memory controller in " TEST_CGROUP);
	}

	fd = vm_create_guest_memfd(self->g.vm, size, IN_PLACE);
	before = cgroup_slab();

	/* Uniform files are free. */
	EXPECT_EQ(0, convert(fd, 0, size, PRIVATE, UNSPECIFIED, NULL));
	EXPECT_EQ(0, convert(fd, 0, size, SHARED, UNSPECIFIED, NULL));
	EXPECT_GT(before + least / 2, cgroup_slab());

	/* A conversion that fails after it got its memory takes no more when repeated. */
	mem = __kvm_mmap(page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, SZ_1M);
	if (!pin_take(&p, PIN_GUP, mem, page_size)) {
		for (i = 0; i < 1000; i++)
			EXPECT_EQ(EAGAIN, convert(fd, SZ_1M, page_size, PRIVATE, UNSPECIFIED,
						  NULL));
		EXPECT_GT(before + least / 2, wait_for_cgroup_slab(0, before + least / 2 - 1));
		pin_drop(&p);
	}
	kvm_munmap(mem, page_size);

	for (i = 0; i < nr; i++)
		EXPECT_EQ(0, convert(fd, i * SZ_2M + SZ_1M, page_size, PRIVATE, UNSPECIFIED,
				     NULL));
	EXPECT_LE(before + least, wait_for_cgroup_slab(before + least, -1ull));
	EXPECT_GE(before + most, cgroup_slab());

	/* Alternating within the same 2 MiB comes at no further cost. */
	for (i = 0; i < 512; i++)
		EXPECT_EQ(0, convert(fd, i * 2 * page_size, page_size, PRIVATE, UNSPECIFIED,
				     NULL));
	EXPECT_GE(before + most, cgroup_slab());

	/* Nor does anything else: what has been taken is taken until the file goes. */
	EXPECT_EQ(0, convert(fd, 0, size, PRIVATE, UNSPECIFIED, NULL));
	for (i = 0; i < nr; i++)
		EXPECT_EQ(0, convert(fd, i * SZ_2M + SZ_1M, page_size, SHARED, UNSPECIFIED,
				     NULL));
	EXPECT_LE(before + least, wait_for_cgroup_slab(before + least, -1ull));
	EXPECT_GE(before + most, cgroup_slab());
	kvm_close(fd);
	EXPECT_GT(before + least / 2, wait_for_cgroup_slab(0, before + least / 2 - 1));

	write_str(CGROUP "/cgroup.procs", pid);
	rmdir(TEST_CGROUP);
}

int main(int argc, char *argv[])
{
	page_size = getpagesize();

	gmem_require_in_place();

	return test_harness_run(argc, argv);
}
