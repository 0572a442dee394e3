// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test guest_memfd as the memory of pKVM's protected VMs, and its conversion between
 * private and shared in place, at the guest's request and not.
 *
 * The guest does what the host tells it to, one operation after the other. Its own
 * code, stack and page tables are private, so the two talk by MMIO alone.
 */
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/aio_abi.h>
#include <linux/arm-smccc.h>
#include <linux/falloc.h>
#include <linux/sizes.h>

#include "kvm_syscalls.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#include "../../../../../mm/gup_test.h"

#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE
#define SHARED		0ull

#define UNSPECIFIED	KVM_SET_MEMORY_ATTRIBUTES2_MODE_UNSPECIFIED
#define ZERO		KVM_SET_MEMORY_ATTRIBUTES2_ZERO
#define PRESERVE	KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE

#define IN_PLACE	(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)

/* See Documentation/virt/kvm/arm/hypercalls.rst. */
#define MEM_SHARE	0xc6000003
#define MEM_UNSHARE	0xc6000004

#define SMCCC_SUCCESS	0ull
#define SMCCC_INVALID	((u64)-3)

#define TEST_GPA	((gpa_t)SZ_1G)
#define TEST_SLOT	10
#define ALIAS_GPA	(TEST_GPA + SZ_256M)
#define ALIAS_SLOT	11
/* Ordinary memory. */
#define PLAIN_GPA	(TEST_GPA + SZ_512M)
#define PLAIN_SLOT	12
#define NOWHERE_GPA	(TEST_GPA + SZ_512M + SZ_256M)
#define MMIO_GPA	((gpa_t)SZ_256M + SZ_512M)

#define NR_PAGES	16
#define MAX_VCPUS	2

#define UNTOUCHED	0xdeadbeefcafef00dull
#define SECRET		0x5ec2e7c0de5ec2e7ull

enum guest_op {
	OP_READ,	/* the first word of a page */
	OP_WRITE,	/* the first and the last word of a page */
	OP_WRITE_NOT,	/* the same with the complement, which the VMM never sees */
	OP_SHARE,	/* MEM_SHARE, and so on */
	OP_UNSHARE,
	OP_SHARE_ARG2,	/* with an argument that must be 0 */
	OP_UNSHARE_ARG2,
	OP_SWEEP,	/* share, write, unshare a page, many times */
	OP_WAIT,	/* for a word in a page that someone else writes */
	OP_SHARE_EACH,	/* share many pages, each at the same time as */
	OP_READ_EACH,	/* another vCPU reads it */
};

/* What the guest reads, and where it writes its answer. */
struct mmio_regs {
	u64 op;
	u64 addr;
	u64 val;
	u64 result;
};

static size_t page_size;

/*
 * The guest
 */
static u64 mmio_read(u64 offset)
{
	u64 val;

	asm volatile("ldr %0, [%1]" : "=r" (val) : "r" (MMIO_GPA + offset) : "memory");
	return val;
}

static void mmio_write(u64 offset, u64 val)
{
	asm volatile("str %0, [%1]" :: "r" (val), "r" (MMIO_GPA + offset) : "memory");
}

static u64 guest_hvc(u32 func, gpa_t gpa, u64 arg2)
{
	struct arm_smccc_res res;

	smccc_hvc(func, gpa, arg2, 0, 0, 0, 0, 0, &res);
	return res.a0;
}

/* Two vCPUs meet here; @me is 0 for one and 1 for the other. */
static void guest_meet(int me)
{
	static u64 count[2];
	u64 mine = READ_ONCE(count[me]) + 1;

	WRITE_ONCE(count[me], mine);
	while (READ_ONCE(count[!me]) < mine)
		cpu_relax();
}

static void guest_code(void)
{
	u64 addr, val, result, i;

	for (;;) {
		addr = mmio_read(offsetof(struct mmio_regs, addr));
		val = mmio_read(offsetof(struct mmio_regs, val));
		result = 0;

		switch (mmio_read(offsetof(struct mmio_regs, op))) {
		case OP_READ:
			result = READ_ONCE(*(u64 *)addr);
			break;
		case OP_WRITE:
			WRITE_ONCE(*(u64 *)addr, val);
			WRITE_ONCE(*(u64 *)(addr + SZ_4K - sizeof(u64)), val);
			break;
		case OP_WRITE_NOT:
			WRITE_ONCE(*(u64 *)addr, ~val);
			WRITE_ONCE(*(u64 *)(addr + SZ_4K - sizeof(u64)), ~val);
			break;
		case OP_SHARE:
			result = guest_hvc(MEM_SHARE, addr, 0);
			break;
		case OP_UNSHARE:
			result = guest_hvc(MEM_UNSHARE, addr, 0);
			break;
		case OP_SHARE_ARG2:
			result = guest_hvc(MEM_SHARE, addr, 1);
			break;
		case OP_UNSHARE_ARG2:
			result = guest_hvc(MEM_UNSHARE, addr, 1);
			break;
		case OP_SWEEP:
			for (i = 0; i < val; i++) {
				result |= guest_hvc(MEM_SHARE, addr, 0);
				WRITE_ONCE(*(u64 *)addr, i);
				result |= guest_hvc(MEM_UNSHARE, addr, 0);
			}
			break;
		case OP_WAIT:
			while (READ_ONCE(*(u64 *)addr) != val)
				cpu_relax();
			break;
		case OP_SHARE_EACH:
			for (i = 0; i < val; i++) {
				guest_meet(0);
				result |= guest_hvc(MEM_SHARE, addr + i * SZ_4K, 0);
			}
			break;
		case OP_READ_EACH:
			for (i = 0; i < val; i++) {
				guest_meet(1);
				result |= READ_ONCE(*(u64 *)(addr + i * SZ_4K));
			}
			break;
		}

		mmio_write(offsetof(struct mmio_regs, result), result);
	}
}

/* Accesses that the hypervisor turns down come back as an external abort. */
static void guest_abort_handler(struct ex_regs *regs)
{
	mmio_write(offsetof(struct mmio_regs, result), UNTOUCHED);
	regs->pc = (u64)guest_code;
}

/*
 * The VM
 */
struct pvm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	struct mmio_regs regs[MAX_VCPUS];
	int fd;
	u8 *mem;
	u8 *plain;
	u64 size;
};

enum exit {
	EXIT_DONE,	/* with the result in regs */
	EXIT_PRIVATE,	/* KVM_EXIT_MEMORY_FAULT, asking for private memory */
	EXIT_SHARED,	/* the same, asking for shared memory */
	EXIT_LOST,	/* the same with EHWPOISON */
	EXIT_OTHER,	/* with an errno in regs */
};

static struct vm_shape protected_shape(void)
{
	return (struct vm_shape) {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_VM_TYPE_ARM_PROTECTED,
		.in_place = true,
	};
}

/* @flags and @nr_pages: of the guest_memfd */
static void __pvm_create(struct pvm *p, u64 flags, u64 nr_pages)
{
	struct userspace_mem_region *slot0;
	int i;

	*p = (struct pvm) { .size = nr_pages * page_size };

	p->vm = __vm_create(protected_shape(), MAX_VCPUS, 0);

	p->fd = vm_create_guest_memfd(p->vm, p->size, flags);
	p->mem = kvm_mmap(p->size, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd);
	vm_set_user_memory_region2(p->vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA,
				   p->size, p->mem, p->fd, 0);
	virt_map(p->vm, TEST_GPA, TEST_GPA, nr_pages + 1);

	p->plain = kvm_mmap(NR_PAGES * page_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1);
	vm_set_user_memory_region(p->vm, PLAIN_SLOT, 0, PLAIN_GPA, NR_PAGES * page_size,
				  p->plain);
	virt_map(p->vm, PLAIN_GPA, PLAIN_GPA, NR_PAGES);

	virt_map(p->vm, ALIAS_GPA, ALIAS_GPA, NR_PAGES);
	virt_map(p->vm, NOWHERE_GPA, NOWHERE_GPA, 1);
	virt_map(p->vm, MMIO_GPA, MMIO_GPA, 1);

	vm_init_descriptor_tables(p->vm);
	vm_install_sync_handler(p->vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_DABT_CUR,
				guest_abort_handler);

	for (i = 0; i < MAX_VCPUS; i++) {
		p->vcpus[i] = vm_vcpu_add(p->vm, i, guest_code);
		vcpu_init_descriptor_tables(p->vcpus[i]);
	}
	kvm_arch_vm_finalize_vcpus(p->vm);

	/* The guest's own memory is complete. */
	slot0 = memslot2region(p->vm, 0);
	gmem_set_private(slot0->region.guest_memfd, 0, slot0->region.memory_size, PRESERVE);
}

static void pvm_create(struct pvm *p, u64 flags)
{
	__pvm_create(p, flags, NR_PAGES);
}

static void pvm_destroy(struct pvm *p)
{
	if (p->fd >= 0) {
		kvm_munmap(p->mem, p->size);
		kvm_close(p->fd);
	}
	kvm_vm_free(p->vm);
	kvm_munmap(p->plain, NR_PAGES * page_size);
}

/* Go on with what the vCPU was told to do. */
static enum exit vcpu_continue(struct pvm *p, int cpu)
{
	struct kvm_vcpu *vcpu = p->vcpus[cpu];
	struct kvm_run *run = vcpu->run;
	u64 offset;
	int ret;

	for (;;) {
		ret = __vcpu_run(vcpu) ? errno : 0;

		if (ret == EINTR)
			continue;

		if (ret == EHWPOISON && run->exit_reason == KVM_EXIT_MEMORY_FAULT)
			return EXIT_LOST;

		if (ret == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
			TEST_ASSERT(run->memory_fault.size == page_size &&
				    !(run->memory_fault.gpa % page_size),
				    "gpa 0x%llx, size 0x%llx", run->memory_fault.gpa,
				    run->memory_fault.size);
			if (!run->memory_fault.flags)
				return EXIT_SHARED;
			TEST_ASSERT_EQ(run->memory_fault.flags, KVM_MEMORY_EXIT_FLAG_PRIVATE);
			return EXIT_PRIVATE;
		}

		if (ret) {
			p->regs[cpu].result = ret;
			return EXIT_OTHER;
		}

		TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO && run->mmio.len == 8 &&
			    run->mmio.phys_addr >= MMIO_GPA &&
			    run->mmio.phys_addr < MMIO_GPA + sizeof(struct mmio_regs),
			    "exit_reason %u, phys_addr 0x%llx", run->exit_reason,
			    run->mmio.phys_addr);
		offset = run->mmio.phys_addr - MMIO_GPA;
		if (run->mmio.is_write) {
			memcpy((u8 *)&p->regs[cpu] + offset, run->mmio.data, 8);
			return EXIT_DONE;
		}
		memcpy(run->mmio.data, (u8 *)&p->regs[cpu] + offset, 8);
	}
}

static enum exit vcpu_do(struct pvm *p, int cpu, enum guest_op op, gpa_t gpa, u64 val)
{
	p->regs[cpu] = (struct mmio_regs) {
		.op = op, .addr = gpa, .val = val, .result = UNTOUCHED,
	};
	return vcpu_continue(p, cpu);
}

static gpa_t gpa_of(u64 page)
{
	return TEST_GPA + page * page_size;
}

static u64 *host_page(struct pvm *p, u64 page)
{
	return (u64 *)(p->mem + page * page_size);
}

static enum exit guest(struct pvm *p, enum guest_op op, u64 page, u64 val)
{
	return vcpu_do(p, 0, op, gpa_of(page), val);
}

static u64 exit_page(struct pvm *p)
{
	return (p->vcpus[0]->run->memory_fault.gpa - TEST_GPA) / page_size;
}

/* Return 0 or the errno. */
static int convert(struct pvm *p, u64 page, u64 nr, u64 attributes, u64 flags,
		   u64 *error_page)
{
	u64 where = UNTOUCHED;
	int ret;

	ret = __gmem_set_memory_attributes(p->fd, page * page_size, nr * page_size,
					   attributes, flags, &where) ? errno : 0;
	if (error_page)
		*error_page = where == UNTOUCHED ? UNTOUCHED : where / page_size;
	return ret;
}

#define ASSERT_CONVERTS(p, page, nr, attributes, flags) \
	ASSERT_EQ(0, convert(p, page, nr, attributes, flags, NULL))

#define ASSERT_CONVERT_FAILS(err, error_page, p, page, nr, attributes, flags)	\
do {										\
	u64 __where;								\
										\
	ASSERT_EQ(err, convert(p, page, nr, attributes, flags, &__where));	\
	ASSERT_EQ(error_page, __where);						\
} while (0)

#define ASSERT_GUEST_READS(p, page, value)					\
do {										\
	struct pvm *__p = (p);							\
										\
	ASSERT_EQ(EXIT_DONE, guest(__p, OP_READ, page, 0));			\
	ASSERT_EQ(value, __p->regs[0].result);					\
} while (0)

#define ASSERT_GUEST_WRITES(p, page, value) \
	ASSERT_EQ(EXIT_DONE, guest(p, OP_WRITE, page, value))

/* The guest asks, and the VMM does what it is asked for. */
#define ASSERT_SERVES(p, page, op, exit, attributes, flags)			\
do {										\
	u64 __page = (page);							\
	struct pvm *__p = (p);							\
										\
	ASSERT_EQ(exit, guest(__p, op, __page, 0));				\
	ASSERT_EQ(__page, exit_page(__p));					\
	ASSERT_CONVERTS(__p, __page, 1, attributes, flags);			\
	ASSERT_EQ(EXIT_DONE, vcpu_continue(__p, 0));				\
	ASSERT_EQ(SMCCC_SUCCESS, __p->regs[0].result);				\
} while (0)

#define ASSERT_SHARES(p, page, flags) \
	ASSERT_SERVES(p, page, OP_SHARE, EXIT_SHARED, SHARED, flags)
#define ASSERT_UNSHARES(p, page, flags) \
	ASSERT_SERVES(p, page, OP_UNSHARE, EXIT_PRIVATE, PRIVATE, flags)

static sigjmp_buf sigbus_jmpbuf;

static void sigbus_handler(int sig)
{
	siglongjmp(sigbus_jmpbuf, 1);
}

static bool can_access(u64 *addr)
{
	struct sigaction sa = { .sa_handler = sigbus_handler };

	TEST_ASSERT(!sigaction(SIGBUS, &sa, NULL), "sigaction() failed");
	if (sigsetjmp(sigbus_jmpbuf, 1)) {
		signal(SIGBUS, SIG_DFL);
		return false;
	}

	WRITE_ONCE(*addr, READ_ONCE(*addr));
	signal(SIGBUS, SIG_DFL);
	return true;
}

/* Whether a page holds nothing but @word. */
static bool page_is(const u64 *page, u64 word)
{
	size_t i;

	for (i = 0; i < page_size / sizeof(u64); i++) {
		if (READ_ONCE(page[i]) != word)
			return false;
	}
	return true;
}

static u64 host_pfn(const void *addr)
{
	u64 entry = 0;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY);
	TEST_ASSERT(fd >= 0 && pread(fd, &entry, sizeof(entry), (uintptr_t)addr /
				     page_size * sizeof(entry)) == sizeof(entry),
		    "Can't read pagemap");
	close(fd);
	return entry & BIT(63) ? entry & GENMASK(54, 0) : 0;
}

static u64 locked_kb(void)
{
	char line[128];
	u64 kb = UNTOUCHED;
	FILE *f;

	f = fopen("/proc/self/status", "r");
	TEST_ASSERT(f, "No /proc/self/status");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmLck: %lu kB", &kb) == 1)
			break;
	}
	fclose(f);
	TEST_ASSERT(kb != UNTOUCHED, "No VmLck");
	return kb;
}

static void punch_hole(struct pvm *p, u64 page, u64 nr)
{
	kvm_fallocate(p->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
		      page * page_size, nr * page_size);
}

#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"
#define POISON_PARAM	"/sys/module/kvm/parameters/gmem_poison_unspecified"

/*
 * What userspace can find out, and what it can't do
 */
TEST(capabilities)
{
	struct kvm_vm *pvm = ____vm_create(protected_shape());
	struct kvm_vm *vm = vm_create_barebones();
	int modes;

	ASSERT_EQ(PRIVATE, kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(PRIVATE, vm_check_cap(pvm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(0, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));

	modes = vm_check_cap(pvm, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS);
	ASSERT_EQ(modes, kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS));
	ASSERT_EQ(ZERO | PRESERVE, KVM_MEMORY_ATTRIBUTES2_TO_SHARED(modes));
	ASSERT_EQ(PRESERVE, KVM_MEMORY_ATTRIBUTES2_TO_PRIVATE(modes));
	ASSERT_EQ(ZERO | PRESERVE, KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_SHARED(modes));
	ASSERT_EQ(PRESERVE, KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_PRIVATE(modes));
	ASSERT_EQ(0, vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS));

	/* Per-VM attributes are not for arm64. */
	ASSERT_EQ(0, vm_check_cap(pvm, KVM_CAP_MEMORY_ATTRIBUTES));

	kvm_vm_free(pvm);
	kvm_vm_free(vm);
}

TEST(plain_vm_does_not_convert)
{
	struct kvm_vm *vm = vm_create_barebones();
	int fd = vm_create_guest_memfd(vm, 4 * page_size, IN_PLACE);

	ASSERT_EQ(-1, __gmem_set_memory_attributes(fd, 0, page_size, PRIVATE, PRESERVE, NULL));
	ASSERT_EQ(EINVAL, errno);
	kvm_close(fd);
	kvm_vm_free(vm);
}

/* A file that the host can't map isn't ignored, but refused. */
TEST(unmappable_file_refused)
{
	struct kvm_vm *vm = ____vm_create(protected_shape());
	u8 *mem = kvm_mmap(4 * page_size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int fd = vm_create_guest_memfd(vm, 4 * page_size, 0);

	ASSERT_EQ(-1, __vm_set_user_memory_region2(vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD,
						   TEST_GPA, 4 * page_size, mem, fd, 0));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(-1, __gmem_set_memory_attributes(fd, 0, page_size, SHARED, PRESERVE, NULL));
	ASSERT_EQ(ENOTTY, errno);

	kvm_close(fd);
	kvm_munmap(mem, 4 * page_size);
	kvm_vm_free(vm);
}

/*
 * A VM with a guest_memfd that is shared to begin with, and ordinary memory
 */
FIXTURE(pvm)
{
	struct pvm p;
};

FIXTURE_SETUP(pvm)
{
	pvm_create(&self->p, IN_PLACE);
}

FIXTURE_TEARDOWN(pvm)
{
	pvm_destroy(&self->p);
}

/* What the host has written before is what the guest starts with, in the same page. */
TEST_F(pvm, payload)
{
	struct pvm *p = &self->p;
	u64 i;

	for (i = 0; i < NR_PAGES; i++)
		*host_page(p, i) = 0x100 + i;
	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);

	for (i = 0; i < NR_PAGES; i++)
		ASSERT_GUEST_READS(p, i, 0x100 + i);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_FALSE(can_access(host_page(p, i)));
}

TEST_F(pvm, never_used_memory_reads_zero)
{
	ASSERT_CONVERTS(&self->p, 0, NR_PAGES, PRIVATE, UNSPECIFIED);
	ASSERT_GUEST_READS(&self->p, 3, 0);
	kvm_fallocate(self->p.fd, FALLOC_FL_KEEP_SIZE, 0, self->p.size);
	ASSERT_GUEST_READS(&self->p, 4, 0);
}

/* Memory of the VM isn't pinned, nor is it charged as if it were. */
TEST_F(pvm, nothing_is_locked)
{
	struct pvm *p = &self->p;
	u64 before, i;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 0, 1);
	before = locked_kb();

	for (i = 1; i < NR_PAGES; i++)
		ASSERT_GUEST_WRITES(p, i, 1);
	ASSERT_EQ(before, locked_kb());

	/* Unlike ordinary memory. */
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, OP_WRITE, PLAIN_GPA, 1));
	ASSERT_EQ(before + page_size / SZ_1K, locked_kb());
}

/* To the guest, memory is private until it shares it. */
TEST_F(pvm, fault_on_shared_memory)
{
	struct pvm *p = &self->p;

	*host_page(p, 2) = 0x22;

	ASSERT_EQ(EXIT_PRIVATE, guest(p, OP_READ, 2, 0));
	ASSERT_EQ(2, exit_page(p));
	ASSERT_EQ(EXIT_PRIVATE, vcpu_continue(p, 0));
	*host_page(p, 2) = 0x23;
	ASSERT_CONVERTS(p, 2, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_EQ(0x23, p->regs[0].result);

	ASSERT_EQ(EXIT_PRIVATE, guest(p, OP_WRITE, 5, 0x55));
	ASSERT_EQ(5, exit_page(p));
	ASSERT_CONVERTS(p, 5, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_GUEST_READS(p, 5, 0x55);
}

/* A round trip, in one and the same page of memory, seen from both sides. */
TEST_F(pvm, share_and_unshare)
{
	struct pvm *p = &self->p;
	u64 pfn, i;

	*host_page(p, 6) = 0x66;
	pfn = host_pfn(host_page(p, 6));
	if (!pfn)
		TH_LOG("pfns are for CAP_SYS_ADMIN only, so not compared");
	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(0, host_pfn(host_page(p, 6)));
	ASSERT_GUEST_READS(p, 6, 0x66);

	for (i = 0; i < 3; i++) {
		ASSERT_GUEST_WRITES(p, 6, 0x1000 + i);
		ASSERT_FALSE(can_access(host_page(p, 6)));

		ASSERT_SHARES(p, 6, PRESERVE);
		ASSERT_EQ(0x1000 + i, *host_page(p, 6));
		ASSERT_EQ(pfn, host_pfn(host_page(p, 6)));

		/* Both write, both see it, and nobody converts anything. */
		WRITE_ONCE(*host_page(p, 6), 0x2000 + i);
		ASSERT_GUEST_READS(p, 6, 0x2000 + i);
		ASSERT_GUEST_WRITES(p, 6, 0x3000 + i);
		ASSERT_EQ(0x3000 + i, READ_ONCE(*host_page(p, 6)));

		WRITE_ONCE(*host_page(p, 6), 0x4000 + i);
		ASSERT_UNSHARES(p, 6, PRESERVE);
		ASSERT_GUEST_READS(p, 6, 0x4000 + i);
		ASSERT_FALSE(can_access(host_page(p, 6)));
	}

	/* Nobody else was concerned. */
	ASSERT_FALSE(can_access(host_page(p, 5)));
	ASSERT_FALSE(can_access(host_page(p, 7)));
}

/* A VMM that just runs on gets the same exit again. */
TEST_F(pvm, requests_are_repeated)
{
	struct pvm *p = &self->p;
	int i;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 1, 0x11);

	ASSERT_EQ(EXIT_SHARED, guest(p, OP_SHARE, 1, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(EXIT_SHARED, vcpu_continue(p, 0));
		ASSERT_EQ(1, exit_page(p));
		ASSERT_FALSE(can_access(host_page(p, 1)));
	}
	ASSERT_CONVERTS(p, 1, 1, SHARED, PRESERVE);
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);

	ASSERT_EQ(EXIT_PRIVATE, guest(p, OP_UNSHARE, 1, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(EXIT_PRIVATE, vcpu_continue(p, 0));
		ASSERT_EQ(1, exit_page(p));
		/* The host has the page until it has been converted. */
		ASSERT_TRUE(can_access(host_page(p, 1)));
	}
	ASSERT_CONVERTS(p, 1, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	ASSERT_GUEST_READS(p, 1, 0x11);
}

/* What the guest wants is the case already, so there is nothing to tell the VMM. */
TEST_F(pvm, requests_for_the_present_state)
{
	struct pvm *p = &self->p;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 0, 1);

	ASSERT_EQ(EXIT_DONE, guest(p, OP_UNSHARE, 0, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);

	ASSERT_SHARES(p, 0, PRESERVE);
	ASSERT_EQ(EXIT_DONE, guest(p, OP_SHARE, 0, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);

	/* The VMM was faster. */
	ASSERT_CONVERTS(p, 0, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_DONE, guest(p, OP_UNSHARE, 0, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	ASSERT_GUEST_READS(p, 0, 1);
	ASSERT_CONVERT_FAILS(EPERM, 0, p, 0, 1, SHARED, PRESERVE);
}

/* Memory that the guest shares before it has ever touched it. */
TEST_F(pvm, share_untouched_memory)
{
	struct pvm *p = &self->p;

	*host_page(p, 8) = 0x88;
	*host_page(p, 9) = 0x99;
	ASSERT_CONVERTS(p, 8, 1, PRIVATE, PRESERVE);

	ASSERT_SHARES(p, 8, PRESERVE);
	ASSERT_EQ(0x88, *host_page(p, 8));
	ASSERT_GUEST_READS(p, 8, 0x88);

	/* It takes a private page to share it. */
	ASSERT_EQ(EXIT_PRIVATE, guest(p, OP_SHARE, 9, 0));
	ASSERT_EQ(9, exit_page(p));
	ASSERT_CONVERTS(p, 9, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_SHARED, vcpu_continue(p, 0));
	ASSERT_EQ(9, exit_page(p));
	ASSERT_CONVERTS(p, 9, 1, SHARED, PRESERVE);
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	ASSERT_EQ(0x99, *host_page(p, 9));

	/* And one that nobody has touched can't be unshared. */
	ASSERT_EQ(EXIT_DONE, guest(p, OP_UNSHARE, 10, 0));
	ASSERT_EQ(SMCCC_INVALID, p->regs[0].result);
}

TEST_F(pvm, invalid_requests)
{
	struct pvm *p = &self->p;
	const enum guest_op ops[] = { OP_SHARE, OP_UNSHARE };
	const enum guest_op ops_arg2[] = { OP_SHARE_ARG2, OP_UNSHARE_ARG2 };
	int i;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, NR_PAGES - 1, 1);

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, ops[i], gpa_of(NR_PAGES - 1) + 8, 0));
		ASSERT_EQ(SMCCC_INVALID, p->regs[0].result);
		ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, ops_arg2[i], gpa_of(NR_PAGES - 1), 0));
		ASSERT_EQ(SMCCC_INVALID, p->regs[0].result);
	}

	/* The last page of a slot is fine, the one behind it is nothing. */
	ASSERT_SHARES(p, NR_PAGES - 1, PRESERVE);
	ASSERT_UNSHARES(p, NR_PAGES - 1, PRESERVE);
	ASSERT_EQ(EXIT_DONE, guest(p, OP_UNSHARE, NR_PAGES, 0));
	ASSERT_EQ(SMCCC_INVALID, p->regs[0].result);
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, OP_UNSHARE, NOWHERE_GPA, 0));
	ASSERT_EQ(SMCCC_INVALID, p->regs[0].result);

	/* Sharing memory that isn't there is an external abort. */
	ASSERT_EQ(EXIT_DONE, guest(p, OP_SHARE, NR_PAGES, 0));
	ASSERT_EQ(UNTOUCHED, p->regs[0].result);
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, OP_SHARE, NOWHERE_GPA, 0));
	ASSERT_EQ(UNTOUCHED, p->regs[0].result);
	ASSERT_GUEST_READS(p, NR_PAGES - 1, 1);
}

/* For ordinary memory there is nothing that the VMM could convert. */
TEST_F(pvm, ordinary_memory)
{
	struct pvm *p = &self->p;
	u64 *plain = (u64 *)p->plain;

	plain[0] = 0x77;
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, OP_READ, PLAIN_GPA, 0));
	ASSERT_EQ(0x77, p->regs[0].result);

	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, OP_SHARE, PLAIN_GPA, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, OP_WRITE, PLAIN_GPA, 0x78));
	ASSERT_EQ(0x78, READ_ONCE(plain[0]));
	WRITE_ONCE(plain[0], 0x79);
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, OP_UNSHARE, PLAIN_GPA, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, OP_READ, PLAIN_GPA, 0));
	ASSERT_EQ(0x79, p->regs[0].result);

	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 0, OP_SHARE, PLAIN_GPA + page_size, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	ASSERT_EQ(0, READ_ONCE(plain[page_size / sizeof(u64)]));
}

/*
 * Conversions that nobody asked for
 */
TEST_F(pvm, eperm)
{
	struct pvm *p = &self->p;
	const u64 modes[] = { UNSPECIFIED, ZERO, PRESERVE };
	int i;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 4, SECRET);

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		ASSERT_CONVERT_FAILS(EPERM, 4, p, 4, 1, SHARED, modes[i]);
		ASSERT_CONVERT_FAILS(EPERM, 4, p, 0, NR_PAGES, SHARED, modes[i]);
		ASSERT_CONVERT_FAILS(EPERM, 4, p, 3, 2, SHARED, modes[i]);
		ASSERT_FALSE(can_access(host_page(p, 4)));
	}

	/* Neither has the state of others changed, nor any contents. */
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_FALSE(can_access(host_page(p, i)));
	ASSERT_GUEST_READS(p, 4, SECRET);

	/* Those that were never the guest's are the VMM's to convert. */
	ASSERT_CONVERTS(p, 0, 4, SHARED, PRESERVE);
	ASSERT_CONVERTS(p, 5, NR_PAGES - 5, SHARED, ZERO);
	ASSERT_TRUE(can_access(host_page(p, 3)));
	ASSERT_TRUE(can_access(host_page(p, 5)));
	ASSERT_FALSE(can_access(host_page(p, 4)));
}

TEST_F(pvm, eperm_at_the_first_page)
{
	struct pvm *p = &self->p;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 12, 12);
	ASSERT_GUEST_WRITES(p, 9, 9);
	ASSERT_GUEST_WRITES(p, 2, 2);

	/* Offered, but not converted yet. */
	ASSERT_EQ(EXIT_SHARED, guest(p, OP_SHARE, 2, 0));

	ASSERT_CONVERT_FAILS(EPERM, 9, p, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_CONVERT_FAILS(EPERM, 12, p, 10, 6, SHARED, ZERO);
	ASSERT_CONVERTS(p, 0, 9, SHARED, PRESERVE);
	ASSERT_EQ(2, *host_page(p, 2));
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);

	ASSERT_UNSHARES(p, 2, PRESERVE);
	ASSERT_CONVERT_FAILS(EPERM, 2, p, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_GUEST_READS(p, 2, 2);
	ASSERT_GUEST_READS(p, 9, 9);
	ASSERT_GUEST_READS(p, 12, 12);
}

TEST_F(pvm, content_modes)
{
	struct pvm *p = &self->p;

	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, p, 0, NR_PAGES, PRIVATE, ZERO);
	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);

	ASSERT_GUEST_WRITES(p, 3, 0x33);
	ASSERT_EQ(EXIT_SHARED, guest(p, OP_SHARE, 3, 0));
	ASSERT_CONVERTS(p, 3, 1, SHARED, ZERO);
	ASSERT_TRUE(page_is(host_page(p, 3), 0));
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_GUEST_READS(p, 3, 0);

	/* Once shared, it isn't zeroed again. */
	ASSERT_GUEST_WRITES(p, 3, 0x34);
	ASSERT_CONVERTS(p, 3, 1, SHARED, ZERO);
	ASSERT_EQ(0x34, *host_page(p, 3));

	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 3, p, 3, 1, PRIVATE, ZERO);
	ASSERT_UNSHARES(p, 3, UNSPECIFIED);
	ASSERT_GUEST_READS(p, 3, 0x34);
	ASSERT_SHARES(p, 3, UNSPECIFIED);
	ASSERT_EQ(0x34, *host_page(p, 3));
}

#define POISON		0xa5a5a5a5a5a5a5a5ull

/* What nobody promises to keep can be made to get lost, for testing VMMs. */
TEST_F(pvm, poison_unspecified)
{
	struct pvm *p = &self->p;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 3, 0x33);
	ASSERT_GUEST_WRITES(p, 4, 0x44);
	ASSERT_EQ(EXIT_SHARED, guest(p, OP_SHARE, 3, 0));

	if (!write_str(POISON_PARAM, "Y"))
		SKIP(return, "Can't set " POISON_PARAM);
	EXPECT_EQ(EPERM, convert(p, 4, 1, SHARED, UNSPECIFIED, NULL));
	EXPECT_EQ(0, convert(p, 3, 1, SHARED, UNSPECIFIED, NULL));
	EXPECT_TRUE(page_is(host_page(p, 3), POISON));
	EXPECT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	EXPECT_EQ(EXIT_DONE, guest(p, OP_WRITE, 3, 0x34));
	EXPECT_EQ(EXIT_PRIVATE, guest(p, OP_UNSHARE, 3, 0));
	EXPECT_EQ(0, convert(p, 3, 1, PRIVATE, UNSPECIFIED, NULL));
	write_str(POISON_PARAM, "N");

	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_GUEST_READS(p, 3, POISON);
	ASSERT_GUEST_READS(p, 4, 0x44);
}

/*
 * A host that holds on to pages
 */
TEST_F(pvm, pinned_by_pipe)
{
	struct pvm *p = &self->p;
	struct iovec iov;
	u64 word;
	int fds[2], i;

	ASSERT_EQ(0, pipe(fds));
	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 7, 0x70);
	ASSERT_SHARES(p, 7, PRESERVE);

	iov = (struct iovec) { .iov_base = host_page(p, 7), .iov_len = page_size };
	ASSERT_EQ(page_size, vmsplice(fds[1], &iov, 1, 0));

	ASSERT_EQ(EXIT_PRIVATE, guest(p, OP_UNSHARE, 7, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_CONVERT_FAILS(EAGAIN, 7, p, 7, 1, PRIVATE, PRESERVE);
		/* The guest waits. */
		ASSERT_EQ(EXIT_PRIVATE, vcpu_continue(p, 0));
	}
	ASSERT_EQ(sizeof(word), read(fds[0], &word, sizeof(word)));
	ASSERT_EQ(0x70, word);

	close(fds[0]);
	close(fds[1]);
	ASSERT_CONVERTS(p, 7, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	ASSERT_GUEST_READS(p, 7, 0x70);
}

TEST_F(pvm, pinned_for_dma)
{
	struct pvm *p = &self->p;
	struct pin_longterm_test args = {
		.addr = (uintptr_t)host_page(p, 7),
		.size = page_size,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	};
	int fd = open("/sys/kernel/debug/gup_test", O_RDWR);

	if (fd < 0)
		SKIP(return, "CONFIG_GUP_TEST or root is missing");

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 7, 0x71);
	ASSERT_SHARES(p, 7, PRESERVE);
	ASSERT_EQ(0, ioctl(fd, PIN_LONGTERM_TEST_START, &args));

	ASSERT_EQ(EXIT_PRIVATE, guest(p, OP_UNSHARE, 7, 0));
	ASSERT_CONVERT_FAILS(EAGAIN, 7, p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_PRIVATE, vcpu_continue(p, 0));

	ASSERT_EQ(0, ioctl(fd, PIN_LONGTERM_TEST_STOP));
	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_GUEST_READS(p, 7, 0x71);
	close(fd);
}

/* Direct I/O that writes to the page as the guest wants it back. */
TEST_F(pvm, pinned_by_direct_io)
{
	struct iocb iocb = {}, *iocbs[1] = { &iocb };
	struct pvm *p = &self->p;
	aio_context_t ctx = 0;
	struct io_event event = {};
	int fd, ret = -1;
	enum exit exit;
	u64 nr = 0;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 7, 0x72);
	ASSERT_SHARES(p, 7, PRESERVE);

	fd = slow_disk_create();
	if (fd < 0)
		SKIP(return, "No null_blk (CONFIG_BLK_DEV_NULL_BLK, configfs)");
	if (syscall(__NR_io_setup, 1, &ctx)) {
		close(fd);
		slow_disk_destroy();
		SKIP(return, "No asynchronous I/O (CONFIG_AIO)");
	}

	iocb.aio_lio_opcode = IOCB_CMD_PREAD;
	iocb.aio_fildes = fd;
	iocb.aio_buf = (uintptr_t)host_page(p, 7);
	iocb.aio_nbytes = page_size;
	exit = guest(p, OP_UNSHARE, 7, 0);
	EXPECT_EQ(EXIT_PRIVATE, exit);

	/* Convert at once, as it takes a second only. */
	if (syscall(__NR_io_submit, ctx, 1, iocbs) == 1) {
		while ((ret = convert(p, 7, 1, PRIVATE, PRESERVE, NULL)) == EAGAIN &&
		       nr++ < 200 && exit == EXIT_PRIVATE) {
			/* The guest waits. */
			exit = vcpu_continue(p, 0);
			usleep(50000);
		}
		EXPECT_EQ(1, syscall(__NR_io_getevents, ctx, 1, 1, &event, NULL));
	}
	EXPECT_EQ(0, ret);
	EXPECT_LT(0, nr);
	EXPECT_EQ(EXIT_PRIVATE, exit);
	EXPECT_EQ(page_size, event.res);
	syscall(__NR_io_destroy, ctx);
	close(fd);
	slow_disk_destroy();

	/* The disk is empty, and what was read from it is what the guest gets. */
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	ASSERT_GUEST_READS(p, 7, 0);
	ASSERT_FALSE(can_access(host_page(p, 7)));
}

/*
 * Pages that leave the file
 */
TEST_F(pvm, hole_in_private_memory)
{
	struct pvm *p = &self->p;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 4, SECRET);
	ASSERT_GUEST_WRITES(p, 5, SECRET);
	punch_hole(p, 4, 1);

	/* The guest mustn't find anything else in its place. */
	ASSERT_EQ(EXIT_LOST, guest(p, OP_READ, 4, 0));
	ASSERT_EQ(4, exit_page(p));
	ASSERT_EQ(EXIT_LOST, vcpu_continue(p, 0));

	ASSERT_CONVERTS(p, 4, 1, SHARED, PRESERVE);
	ASSERT_TRUE(page_is(host_page(p, 4), 0));
	*host_page(p, 4) = 0xbad;
	ASSERT_EQ(EXIT_LOST, vcpu_continue(p, 0));
	ASSERT_CONVERTS(p, 4, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_LOST, vcpu_continue(p, 0));

	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 1, OP_READ, gpa_of(5), 0));
	ASSERT_EQ(SECRET, p->regs[1].result);
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 1, OP_SHARE, gpa_of(4), 0));
	ASSERT_EQ(SMCCC_INVALID, p->regs[1].result);
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 1, OP_UNSHARE, gpa_of(4), 0));
	ASSERT_EQ(SMCCC_INVALID, p->regs[1].result);
}

/* Where the guest shares memory it goes on sharing it, whatever page is there. */
TEST_F(pvm, hole_in_shared_memory)
{
	struct pvm *p = &self->p;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 4, 0x44);
	ASSERT_SHARES(p, 4, PRESERVE);
	punch_hole(p, 4, 1);

	ASSERT_GUEST_READS(p, 4, 0);
	ASSERT_GUEST_WRITES(p, 4, 0x45);
	ASSERT_EQ(0x45, READ_ONCE(*host_page(p, 4)));

	/* The same if the VMM makes the memory private of its own accord. */
	punch_hole(p, 4, 1);
	ASSERT_CONVERTS(p, 4, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_SHARED, guest(p, OP_READ, 4, 0));
	ASSERT_CONVERTS(p, 4, 1, SHARED, PRESERVE);
	*host_page(p, 4) = 0x46;
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_EQ(0x46, p->regs[0].result);

	ASSERT_UNSHARES(p, 4, PRESERVE);
	ASSERT_GUEST_READS(p, 4, 0x46);
	ASSERT_CONVERT_FAILS(EPERM, 4, p, 4, 1, SHARED, PRESERVE);
}

/* To take memory back, there must be some. */
TEST_F(pvm, unshare_a_hole)
{
	struct pvm *p = &self->p;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_SHARES(p, 4, PRESERVE);
	ASSERT_SHARES(p, 5, PRESERVE);
	punch_hole(p, 4, 2);

	ASSERT_UNSHARES(p, 4, PRESERVE);
	ASSERT_GUEST_READS(p, 4, 0);
	ASSERT_FALSE(can_access(host_page(p, 4)));

	ASSERT_EQ(EXIT_DONE, guest(p, OP_SHARE, 5, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	*host_page(p, 5) = 0x55;
	ASSERT_GUEST_READS(p, 5, 0x55);

	/* The VMM was faster, so there is nothing to ask it for. */
	punch_hole(p, 5, 1);
	ASSERT_CONVERTS(p, 5, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_DONE, guest(p, OP_UNSHARE, 5, 0));
	ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	ASSERT_CONVERT_FAILS(EPERM, 5, p, 5, 1, SHARED, PRESERVE);
	ASSERT_GUEST_READS(p, 5, 0);

	/* What is the guest's own again is lost when it is taken away. */
	punch_hole(p, 5, 1);
	ASSERT_EQ(EXIT_LOST, guest(p, OP_READ, 5, 0));
}

/*
 * A VMM that punches a hole with each conversion, as one does that has two backings.
 * The guest gets another page each time, but is not kept waiting.
 */
TEST_F(pvm, punching_vmm)
{
	struct pvm *p = &self->p;
	u64 i;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 4, 0x44);

	for (i = 0; i < 6; i++) {
		/* Before the conversion in one round, after it in the next. */
		ASSERT_EQ(EXIT_SHARED, guest(p, OP_SHARE, 4, 0));
		if (i & 1)
			punch_hole(p, 4, 1);
		ASSERT_CONVERTS(p, 4, 1, SHARED, PRESERVE);
		if (!(i & 1))
			punch_hole(p, 4, 1);
		ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
		ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
		ASSERT_GUEST_READS(p, 4, 0);
		ASSERT_GUEST_WRITES(p, 4, 0x100 + i);
		ASSERT_EQ(0x100 + i, READ_ONCE(*host_page(p, 4)));

		ASSERT_EQ(EXIT_PRIVATE, guest(p, OP_UNSHARE, 4, 0));
		if (i & 1)
			punch_hole(p, 4, 1);
		ASSERT_CONVERTS(p, 4, 1, PRIVATE, PRESERVE);
		if (!(i & 1))
			punch_hole(p, 4, 1);
		ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
		ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
		ASSERT_FALSE(can_access(host_page(p, 4)));
		ASSERT_CONVERT_FAILS(EPERM, 4, p, 4, 1, SHARED, PRESERVE);
		ASSERT_GUEST_READS(p, 4, 0);
		ASSERT_GUEST_WRITES(p, 4, 0x200 + i);
	}
	ASSERT_SHARES(p, 4, PRESERVE);
	ASSERT_EQ(0x200 + i - 1, *host_page(p, 4));
}

TEST_F(pvm, file_closed)
{
	struct pvm *p = &self->p;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 0, SECRET);
	ASSERT_GUEST_WRITES(p, 1, 0x11);
	ASSERT_SHARES(p, 1, PRESERVE);

	kvm_munmap(p->mem, p->size);
	kvm_close(p->fd);
	p->fd = -1;

	ASSERT_EQ(EXIT_LOST, guest(p, OP_READ, 0, 0));
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 1, OP_READ, PLAIN_GPA, 0));
	ASSERT_EQ(EXIT_SHARED, vcpu_do(p, 1, OP_READ, gpa_of(1), 0));
	ASSERT_EQ(EXIT_SHARED, vcpu_continue(p, 1));
}

/* Memory that the guest has never touched is private to it, whatever it is or was. */
TEST_F(pvm, file_closed_before_use)
{
	struct pvm *p = &self->p;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	kvm_munmap(p->mem, p->size);
	kvm_close(p->fd);
	p->fd = -1;

	ASSERT_EQ(EXIT_PRIVATE, guest(p, OP_READ, 0, 0));
	ASSERT_EQ(EXIT_PRIVATE, vcpu_continue(p, 0));
}

TEST_F(pvm, memslot_stays)
{
	struct pvm *p = &self->p;

	ASSERT_EQ(0, __vm_set_user_memory_region2(p->vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD,
						  TEST_GPA, 0, p->mem, p->fd, 0));
	vm_set_user_memory_region2(p->vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA,
				   p->size, p->mem, p->fd, 0);

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 0, 1);
	ASSERT_EQ(-1, __vm_set_user_memory_region2(p->vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD,
						   TEST_GPA, 0, p->mem, p->fd, 0));
	ASSERT_EQ(EPERM, errno);
	ASSERT_GUEST_READS(p, 0, 1);
}

/* A page is at one address of the guest only. */
TEST_F(pvm, two_slots_of_one_file)
{
	struct pvm *p = &self->p;

	ASSERT_EQ(-1, __vm_set_user_memory_region2(p->vm, ALIAS_SLOT, KVM_MEM_GUEST_MEMFD,
						   ALIAS_GPA, p->size, p->mem, p->fd, 0));
	ASSERT_EQ(EEXIST, errno);
}

/*
 * Memory errors
 */
static bool memory_fails(u64 pfn)
{
	const char *path = "/sys/kernel/debug/hwpoison/corrupt-pfn";
	char str[32];

	if (!pfn || access(path, W_OK))
		return false;

	/* That the page stays in its file makes this an error, so look at what it does. */
	snprintf(str, sizeof(str), "0x%lx", pfn);
	write_str(path, str);
	return true;
}

/* The page is lost to the guest, and the host gets no use of it either. */
TEST_F(pvm, memory_error_in_private_page)
{
	struct pvm *p = &self->p;
	u64 pfn;

	*host_page(p, 3) = 0;
	pfn = host_pfn(host_page(p, 3));
	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 3, SECRET);
	ASSERT_GUEST_WRITES(p, 4, 0x44);
	if (!memory_fails(pfn))
		SKIP(return, "No hwpoison/corrupt-pfn (CONFIG_HWPOISON_INJECT, root)");

	ASSERT_EQ(EXIT_LOST, guest(p, OP_READ, 3, 0));
	ASSERT_EQ(3, exit_page(p));
	ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, p->vcpus[0]->run->memory_fault.flags);
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 1, OP_READ, gpa_of(4), 0));
	ASSERT_EQ(0x44, p->regs[1].result);

	ASSERT_CONVERT_FAILS(EHWPOISON, 3, p, 3, 1, SHARED, ZERO);
	ASSERT_CONVERTS(p, 3, 1, SHARED, PRESERVE);
	ASSERT_FALSE(can_access(host_page(p, 3)));
	ASSERT_CONVERT_FAILS(EHWPOISON, 3, p, 3, 1, PRIVATE, PRESERVE);

	/* Another page is of use to the host only. */
	punch_hole(p, 3, 1);
	ASSERT_TRUE(can_access(host_page(p, 3)));
	ASSERT_NE(pfn, host_pfn(host_page(p, 3)));
	ASSERT_CONVERTS(p, 3, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_LOST, vcpu_continue(p, 0));
}

TEST_F(pvm, memory_error_in_shared_page)
{
	struct pvm *p = &self->p;
	u64 pfn;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 3, 0x33);
	ASSERT_SHARES(p, 3, PRESERVE);
	ASSERT_EQ(0x33, *host_page(p, 3));
	pfn = host_pfn(host_page(p, 3));
	/* Who has the page mapped gets a SIGBUS at once. */
	ASSERT_EQ(0, madvise(host_page(p, 3), page_size, MADV_DONTNEED));
	if (!memory_fails(pfn))
		SKIP(return, "No hwpoison/corrupt-pfn (CONFIG_HWPOISON_INJECT, root)");

	ASSERT_FALSE(can_access(host_page(p, 3)));
	ASSERT_EQ(EXIT_LOST, guest(p, OP_READ, 3, 0));
	ASSERT_EQ(3, exit_page(p));
	ASSERT_EQ(0, p->vcpus[0]->run->memory_fault.flags);
	ASSERT_EQ(EXIT_LOST, vcpu_continue(p, 0));

	/* Neither is it the guest's again, nor can it become. */
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 1, OP_READ, gpa_of(0), 0));
	ASSERT_CONVERT_FAILS(EHWPOISON, 3, p, 3, 1, PRIVATE, PRESERVE);

	punch_hole(p, 3, 1);
	ASSERT_EQ(EXIT_DONE, vcpu_continue(p, 0));
	ASSERT_EQ(0, p->regs[0].result);
	ASSERT_GUEST_WRITES(p, 3, 0x34);
	ASSERT_EQ(0x34, READ_ONCE(*host_page(p, 3)));
}

/*
 * The end. What the guest had in its memory is gone, in the very pages that held it, and
 * nothing is left that the host couldn't access.
 */
TEST(scrubbed_after_teardown)
{
	struct pvm child, heir = {};
	int to_parent[2], to_child[2], status, pidfd, ret;
	struct {
		int fd;
		u64 pfn[2];
	} msg;
	pid_t pid;
	u64 *mem, i;
	char c;

	ASSERT_EQ(0, pipe(to_parent));
	ASSERT_EQ(0, pipe(to_child));

	pid = fork();
	ASSERT_LE(0, pid);
	close(pid ? to_parent[1] : to_parent[0]);
	close(pid ? to_child[0] : to_child[1]);
	if (!pid) {
		pvm_create(&child, IN_PLACE);
		for (i = 0; i < 4; i++)
			*host_page(&child, i) = 0;
		msg.fd = child.fd;
		msg.pfn[0] = host_pfn(host_page(&child, 0));
		msg.pfn[1] = host_pfn(host_page(&child, 1));
		if (convert(&child, 0, NR_PAGES, PRIVATE, PRESERVE, NULL))
			_exit(1);
		for (i = 0; i < 4; i++) {
			if (guest(&child, OP_WRITE, i, SECRET))
				_exit(2);
		}
		/* One shared and converted, one shared only, two private. */
		if (guest(&child, OP_SHARE, 2, 0) != EXIT_SHARED ||
		    convert(&child, 2, 1, SHARED, PRESERVE, NULL) ||
		    vcpu_continue(&child, 0) ||
		    guest(&child, OP_SHARE, 3, 0) != EXIT_SHARED)
			_exit(3);

		if (write(to_parent[1], &msg, sizeof(msg)) != sizeof(msg) ||
		    read(to_child[0], &c, 1) != 1)
			_exit(4);
		_exit(0);
	}

	ASSERT_EQ(sizeof(msg), read(to_parent[0], &msg, sizeof(msg)));
	pidfd = syscall(__NR_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	heir.fd = syscall(__NR_pidfd_getfd, pidfd, msg.fd, 0);
	ASSERT_LE(0, heir.fd);

	/*
	 * With its process gone the VM is torn down, but the file is still there. Until
	 * the guest's pages are taken back, they are the guest's.
	 */
	ASSERT_CONVERT_FAILS(EPERM, 0, &heir, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_EQ(1, write(to_child[1], "x", 1));
	do {
		sched_yield();
		ret = convert(&heir, 0, NR_PAGES, SHARED, PRESERVE, NULL);
	} while (ret == EPERM);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	mem = kvm_mmap(NR_PAGES * page_size, PROT_READ | PROT_WRITE, MAP_SHARED, heir.fd);
	ASSERT_TRUE(page_is(mem, 0));
	ASSERT_TRUE(page_is(mem + page_size / 8, 0));
	if (!msg.pfn[0])
		TH_LOG("pfns are for CAP_SYS_ADMIN only, so not compared");
	ASSERT_EQ(msg.pfn[0], host_pfn(mem));
	ASSERT_EQ(msg.pfn[1], host_pfn(mem + page_size / 8));
	ASSERT_EQ(SECRET, mem[2 * page_size / 8]);
	ASSERT_EQ(SECRET, mem[3 * page_size / 8]);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_TRUE(can_access(mem + i * page_size / 8));

	kvm_munmap(mem, NR_PAGES * page_size);
	close(heir.fd);
	close(pidfd);
	close(to_parent[0]);
	close(to_child[1]);
}

/*
 * What else gets at a process's memory
 */
TEST_F(pvm, system_calls)
{
	struct pvm *p = &self->p;
	u64 *private = host_page(p, 3), word = 0;
	struct iovec local = { .iov_base = &word, .iov_len = sizeof(word) };
	struct iovec remote = { .iov_base = private, .iov_len = sizeof(word) };
	char path[64];
	int fds[2], fd;

	ASSERT_EQ(0, pipe(fds));
	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 3, SECRET);

	ASSERT_EQ(-1, write(fds[1], private, sizeof(word)));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(sizeof(word), write(fds[1], &word, sizeof(word)));
	ASSERT_EQ(-1, read(fds[0], private, sizeof(word)));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, vmsplice(fds[1], &remote, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	ASSERT_EQ(EFAULT, errno);

	snprintf(path, sizeof(path), "/proc/%d/mem", getpid());
	fd = open(path, O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_GE(0, pread(fd, &word, sizeof(word), (uintptr_t)private));
	ASSERT_GE(0, pwrite(fd, &word, sizeof(word), (uintptr_t)private));
	close(fd);

	ASSERT_GUEST_READS(p, 3, SECRET);
	close(fds[0]);
	close(fds[1]);
}

/* A child has the mapping but not the page, nor has whoever traces it. */
TEST_F(pvm, fork_and_ptrace)
{
	struct pvm *p = &self->p;
	u64 *private = host_page(p, 3);
	int status;
	pid_t pid;

	*host_page(p, 4) = 0x44;
	*private = 0;
	ASSERT_CONVERTS(p, 3, 1, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 3, SECRET);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (can_access(private) || READ_ONCE(*host_page(p, 4)) != 0x44)
			_exit(1);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	errno = 0;
	ASSERT_EQ(-1, ptrace(PTRACE_PEEKDATA, pid, private, NULL));
	ASSERT_NE(0, errno);
	ASSERT_EQ(-1, ptrace(PTRACE_POKEDATA, pid, private, 0x1234));
	errno = 0;
	ASSERT_EQ(0x44, ptrace(PTRACE_PEEKDATA, pid, host_page(p, 4), NULL));
	ASSERT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	ASSERT_GUEST_READS(p, 3, SECRET);
}

TEST_F(pvm, core_dump)
{
	struct rlimit limit = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
	bool secret = false, open_word = false;
	struct pvm *p = &self->p;
	char buf[SZ_4K] __aligned(8), core[64];
	/* So that nothing but the memory in question holds the words themselves. */
	u64 not_secret = SECRET, not_open = 0x4444000044440000;
	int status, fd, i;
	ssize_t len;
	pid_t pid;

	*host_page(p, 4) = ~READ_ONCE(not_open);
	*host_page(p, 3) = 0;
	ASSERT_CONVERTS(p, 3, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EXIT_DONE, guest(p, OP_WRITE_NOT, 3, SECRET));

	if (!write_str(CORE_PATTERN, "/tmp/gmem-core.%p"))
		SKIP(return, "Can't choose where a core dump goes");

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* The mapping of a file isn't dumped unless asked for. */
		int filter = open("/proc/self/coredump_filter", O_WRONLY);

		if (write(filter, "0xff", 4) != 4 || setrlimit(RLIMIT_CORE, &limit))
			_exit(1);
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status));

	snprintf(core, sizeof(core), "/tmp/gmem-core.%d", pid);
	fd = open(core, O_RDONLY);
	ASSERT_LE(0, fd);
	unlink(core);
	while ((len = read(fd, buf, sizeof(buf))) > 0) {
		for (i = 0; i < len / 8; i++) {
			secret |= ~((u64 *)buf)[i] == READ_ONCE(not_secret);
			open_word |= ~((u64 *)buf)[i] == READ_ONCE(not_open);
		}
	}
	close(fd);
	ASSERT_FALSE(secret);
	/* Or else this would prove nothing. */
	ASSERT_TRUE(open_word);

	ASSERT_GUEST_READS(p, 3, ~SECRET);
}

/*
 * Races
 */
struct racer {
	struct pvm *p;
	int cpu;
	enum guest_op op;
	u64 page;
	u64 nr_pages;
	u64 rounds;
	u64 exits;
	int error;
	bool done;
};

static bool racers_stop;

/* Let a vCPU do one thing, with a VMM that counts the exits and does nothing else. */
static void *run_once(void *__r)
{
	struct racer *r = __r;
	enum exit exit;

	exit = vcpu_do(r->p, r->cpu, r->op, gpa_of(r->page), r->rounds);
	while (exit == EXIT_SHARED || exit == EXIT_PRIVATE) {
		r->exits++;
		exit = vcpu_continue(r->p, r->cpu);
	}
	if (exit != EXIT_DONE)
		r->error = 1000 + exit;
	WRITE_ONCE(r->done, true);
	return NULL;
}

/* The same with one page after the other, until it is told to stop. */
static void *run_many(void *__r)
{
	struct racer *r = __r;
	u64 first = r->page;

	while (!READ_ONCE(racers_stop) && !r->error) {
		run_once(r);
		r->page = first + (r->page - first + 1) % r->nr_pages;
	}
	return NULL;
}

/* Serve one vCPU the way a VMM would. */
static void *serve(void *__r)
{
	struct racer *r = __r;
	struct pvm *p = r->p;
	enum exit exit;
	u64 page;
	int ret, i;

	exit = vcpu_do(p, r->cpu, OP_SWEEP, gpa_of(r->page), r->rounds);
	while (exit == EXIT_SHARED || exit == EXIT_PRIVATE) {
		r->exits++;
		page = (p->vcpus[r->cpu]->run->memory_fault.gpa - TEST_GPA) / page_size;
		for (i = 0; i < 100; i++) {
			ret = convert(p, page, 1, exit == EXIT_PRIVATE ? PRIVATE : SHARED,
				      PRESERVE, NULL);
			if (ret != EAGAIN)
				break;
			usleep(1000);
		}
		/* The other vCPU took the page back before this one was served. */
		if (ret && !(ret == EPERM && exit == EXIT_SHARED)) {
			r->error = ret;
			break;
		}
		exit = vcpu_continue(p, r->cpu);
	}
	if (!r->error)
		r->error = exit == EXIT_DONE ? 0 : 1000 + exit;
	WRITE_ONCE(r->done, true);
	return NULL;
}

/* Two vCPUs share and unshare neighbours, and then one and the same page. */
TEST_F_TIMEOUT(pvm, vcpus_race, 120)
{
	struct pvm *p = &self->p;
	struct racer r[MAX_VCPUS];
	pthread_t threads[MAX_VCPUS];
	int i, pass;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);

	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < MAX_VCPUS; i++) {
			r[i] = (struct racer) {
				.p = p, .cpu = i, .page = pass ? 7 : 5 + i, .rounds = 100,
			};
			pthread_create(&threads[i], NULL, serve, &r[i]);
		}
		for (i = 0; i < MAX_VCPUS; i++) {
			pthread_join(threads[i], NULL);
			ASSERT_EQ(0, r[i].error);
			ASSERT_EQ(SMCCC_SUCCESS, p->regs[i].result);
			ASSERT_LT(pass ? 0 : 199, r[i].exits);
		}
	}

	for (i = 5; i < 8; i++) {
		ASSERT_CONVERT_FAILS(EPERM, i, p, i, 1, SHARED, PRESERVE);
		ASSERT_GUEST_READS(p, i, 99);
	}
}

/*
 * Two vCPUs share and unshare memory while their threads are moved from one CPU to
 * another all the time, also between a guest's call and the host's that carries it
 * out.  Then the other vCPU may be loaded where this one was.  With a page for each,
 * no request may be taken for the other one's, or else there'd be fewer exits.
 */
TEST_F_TIMEOUT(pvm, requests_race_with_migration, 240)
{
	struct pvm *p = &self->p;
	struct racer r[MAX_VCPUS];
	pthread_t threads[MAX_VCPUS];
	cpu_set_t allowed, one;
	int cpus[2], nr_cpus = 0;
	const u64 rounds = 300;
	u64 moves = 0;
	int i, ret, pass;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(allowed), &allowed));
	for (i = 0; i < CPU_SETSIZE && nr_cpus < 2; i++) {
		if (CPU_ISSET(i, &allowed))
			cpus[nr_cpus++] = i;
	}
	if (nr_cpus < 2)
		SKIP(return, "Needs two CPUs");

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);

	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < MAX_VCPUS; i++) {
			r[i] = (struct racer) {
				.p = p, .cpu = i, .page = pass ? 7 : 5 + i, .rounds = rounds,
			};
			pthread_create(&threads[i], NULL, serve, &r[i]);
		}
		while (!READ_ONCE(r[0].done) || !READ_ONCE(r[1].done)) {
			for (i = 0; i < MAX_VCPUS; i++) {
				CPU_ZERO(&one);
				CPU_SET(cpus[random() & 1], &one);
				ret = pthread_setaffinity_np(threads[i], sizeof(one), &one);
				ASSERT_TRUE(!ret || ret == ESRCH);
				moves += !ret;
			}
			usleep(random() % 500);
		}
		for (i = 0; i < MAX_VCPUS; i++) {
			pthread_join(threads[i], NULL);
			ASSERT_EQ(0, r[i].error);
			ASSERT_EQ(SMCCC_SUCCESS, p->regs[i].result);
			if (!pass)
				ASSERT_LE(2 * rounds, r[i].exits);
		}
		TH_LOG("%lu moves, %lu and %lu exits", moves, r[0].exits, r[1].exits);
	}
	ASSERT_LT(20, moves);

	for (i = 5; i < 8; i++) {
		ASSERT_CONVERT_FAILS(EPERM, i, p, i, 1, SHARED, PRESERVE);
		ASSERT_GUEST_READS(p, i, rounds - 1);
	}
}

/*
 * Holes in memory that the guest shares, and that two vCPUs access all the time. The
 * file has it as shared all the time, too, so there is nothing to exit for.
 */
TEST_F_TIMEOUT(pvm, vcpus_race_for_shared_hole, 120)
{
	struct racer r[MAX_VCPUS];
	pthread_t threads[MAX_VCPUS];
	struct pvm *p = &self->p;
	int i;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_SHARES(p, 3, PRESERVE);

	for (i = 0; i < MAX_VCPUS; i++) {
		r[i] = (struct racer) {
			.p = p, .cpu = i, .op = OP_WAIT, .page = 3, .rounds = 0x33,
		};
		pthread_create(&threads[i], NULL, run_once, &r[i]);
	}
	for (i = 0; i < 300; i++) {
		punch_hole(p, 3, 1);
		usleep(1000);
	}
	WRITE_ONCE(*host_page(p, 3), 0x33);

	for (i = 0; i < MAX_VCPUS; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, r[i].error);
		EXPECT_EQ(0, r[i].exits);
	}
	ASSERT_EQ(EXIT_DONE, vcpu_do(p, 1, OP_WRITE, gpa_of(3), 0x34));
	ASSERT_EQ(0x34, READ_ONCE(*host_page(p, 3)));
}

static bool busy_stop;

static void *be_busy(void *unused)
{
	while (!READ_ONCE(busy_stop))
		cpu_relax();
	return NULL;
}

#define NR_BUSY		2
#define MANY_PAGES	256

/* How often a VMM that serves several vCPUs has converted, see pkvm.rst. */
static pthread_mutex_t serve_lock = PTHREAD_MUTEX_INITIALIZER;
static u64 serve_count;

/*
 * Serve one vCPU of several that use the same pages: convert nothing if there was a
 * conversion since the vCPU was entered, as the exit may be out of date.
 */
static void *serve_in_turn(void *__r)
{
	struct racer *r = __r;
	struct pvm *p = r->p;
	bool started = false;
	enum exit exit;
	u64 count, page;

	for (;;) {
		pthread_mutex_lock(&serve_lock);
		count = serve_count;
		pthread_mutex_unlock(&serve_lock);

		exit = started ? vcpu_continue(p, r->cpu) :
				 vcpu_do(p, r->cpu, r->op, gpa_of(r->page), r->rounds);
		started = true;
		if (exit != EXIT_SHARED && exit != EXIT_PRIVATE)
			break;

		r->exits++;
		page = (p->vcpus[r->cpu]->run->memory_fault.gpa - TEST_GPA) / page_size;

		pthread_mutex_lock(&serve_lock);
		if (serve_count == count) {
			serve_count++;
			r->error = convert(p, page, 1, exit == EXIT_PRIVATE ? PRIVATE : SHARED,
					   PRESERVE, NULL);
		}
		pthread_mutex_unlock(&serve_lock);
		if (r->error)
			return NULL;
	}
	if (exit != EXIT_DONE)
		r->error = 1000 + exit;
	return NULL;
}

/*
 * Two vCPUs touch each page at the same time, and one of them to share it. Whether the
 * memory was private before or was not, the host can access each page afterwards.
 */
static void race_for_untouched(struct __test_metadata *_metadata, struct pvm *p,
			       bool private)
{
	pthread_t threads[MAX_VCPUS], busy[NR_BUSY];
	struct racer r[MAX_VCPUS];
	u64 i, wrong = 0;

	pvm_destroy(p);
	__pvm_create(p, IN_PLACE, MANY_PAGES);
	for (i = 0; i < MANY_PAGES; i++)
		*host_page(p, i) = 0x100 + i;
	if (private)
		ASSERT_CONVERTS(p, 0, MANY_PAGES, PRIVATE, PRESERVE);

	WRITE_ONCE(busy_stop, false);
	for (i = 0; i < NR_BUSY; i++)
		pthread_create(&busy[i], NULL, be_busy, NULL);
	for (i = 0; i < MAX_VCPUS; i++) {
		r[i] = (struct racer) {
			.p = p, .cpu = i, .op = i ? OP_READ_EACH : OP_SHARE_EACH,
			.rounds = MANY_PAGES,
		};
		pthread_create(&threads[i], NULL, serve_in_turn, &r[i]);
	}
	for (i = 0; i < MAX_VCPUS; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, r[i].error);
	}
	WRITE_ONCE(busy_stop, true);
	for (i = 0; i < NR_BUSY; i++)
		pthread_join(busy[i], NULL);

	EXPECT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	for (i = 0; i < MANY_PAGES; i++) {
		if (!can_access(host_page(p, i)) || *host_page(p, i) != 0x100 + i)
			wrong++;
	}
	EXPECT_EQ(0, wrong);

	if (private) {
		/* One exit for each page, to have it shared, and none for reading it. */
		EXPECT_EQ(MANY_PAGES, r[0].exits);
		EXPECT_EQ(0, r[1].exits);
	} else {
		TH_LOG("%lu and %lu exits", r[0].exits, r[1].exits);
	}
}

TEST_F_TIMEOUT(pvm, vcpus_race_for_private_page, 120)
{
	race_for_untouched(_metadata, &self->p, true);
}

TEST_F_TIMEOUT(pvm, vcpus_race_for_shared_page, 120)
{
	race_for_untouched(_metadata, &self->p, false);
}

/*
 * One vCPU shares memory and takes it back, with a hole while it is shared, and the
 * other one reads it all the time: that is nothing to exit for.
 */
TEST_F_TIMEOUT(pvm, vcpus_race_for_hole_to_unshare, 120)
{
	struct racer reader = {
		.p = &self->p, .cpu = 1, .op = OP_WAIT, .page = 3, .rounds = SECRET,
	};
	pthread_t thread, busy[NR_BUSY];
	struct pvm *p = &self->p;
	const u64 rounds = 100;
	u64 exits = 0, i;
	enum exit exit;
	int ret = 0;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	WRITE_ONCE(busy_stop, false);
	for (i = 0; i < NR_BUSY; i++)
		pthread_create(&busy[i], NULL, be_busy, NULL);
	pthread_create(&thread, NULL, run_once, &reader);

	exit = guest(p, OP_SWEEP, 3, rounds);
	while (!ret && (exit == EXIT_SHARED || exit == EXIT_PRIVATE)) {
		exits++;
		ret = convert(p, 3, 1, exit == EXIT_PRIVATE ? PRIVATE : SHARED, PRESERVE, NULL);
		if (exit == EXIT_SHARED)
			punch_hole(p, 3, 1);
		exit = vcpu_continue(p, 0);
	}
	EXPECT_EQ(0, ret);
	EXPECT_EQ(EXIT_DONE, exit);
	EXPECT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	EXPECT_EQ(2 * rounds, exits);

	EXPECT_EQ(EXIT_DONE, guest(p, OP_WRITE, 3, SECRET));
	pthread_join(thread, NULL);
	WRITE_ONCE(busy_stop, true);
	for (i = 0; i < NR_BUSY; i++)
		pthread_join(busy[i], NULL);
	EXPECT_EQ(0, reader.error);
	EXPECT_EQ(0, reader.exits);
	EXPECT_FALSE(can_access(host_page(p, 3)));
}

/*
 * Convert page by page to shared and back, as fast as can be, in the hope that the page
 * is about to become the guest's.
 */
static void *flip(void *__r)
{
	struct racer *r = __r;
	u64 page;
	int ret;

	while (!READ_ONCE(racers_stop)) {
		for (page = 0; page < NR_PAGES; page++) {
			ret = convert(r->p, page, 1, SHARED, ZERO, NULL);
			if (ret == EPERM)
				continue;
			r->exits++;
			if (!ret) {
				/* Fatal if the page is the guest's. */
				WRITE_ONCE(*host_page(r->p, page), 0xbad);
				ret = convert(r->p, page, 1, PRIVATE, PRESERVE, NULL);
			}
			if (ret) {
				r->error = ret;
				return NULL;
			}
		}
	}
	return NULL;
}

/*
 * First faults race with a conversion to shared. Whoever wins, the host must never
 * get a page that is the guest's: what the guest wrote would be zeroed, or lost when
 * the host accesses it.
 */
TEST_F_TIMEOUT(pvm, fault_races_with_conversion, 180)
{
	struct pvm *p = &self->p;
	pthread_t thread, reader;
	struct racer r, other;
	enum exit exit;
	u64 round, i;

	for (round = 0; round < 8; round++) {
		r = (struct racer) { .p = p };
		other = (struct racer) {
			.p = p, .cpu = 1, .op = OP_READ, .nr_pages = NR_PAGES,
		};
		WRITE_ONCE(racers_stop, false);
		ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
		pthread_create(&thread, NULL, flip, &r);
		while (!READ_ONCE(r.exits) && !READ_ONCE(r.error))
			sched_yield();
		pthread_create(&reader, NULL, run_many, &other);
		for (i = 0; i < NR_PAGES; i++) {
			/* The last page first, for not to run in step. */
			exit = guest(p, OP_WRITE, NR_PAGES - 1 - i, SECRET + i);
			while (exit == EXIT_PRIVATE)
				exit = vcpu_continue(p, 0);
			ASSERT_EQ(EXIT_DONE, exit);
		}
		WRITE_ONCE(racers_stop, true);
		pthread_join(thread, NULL);
		pthread_join(reader, NULL);
		ASSERT_EQ(0, r.error);
		ASSERT_EQ(0, other.error);

		for (i = 0; i < NR_PAGES; i++) {
			ASSERT_CONVERT_FAILS(EPERM, i, p, i, 1, SHARED, PRESERVE);
			ASSERT_GUEST_READS(p, NR_PAGES - 1 - i, SECRET + i);
		}

		pvm_destroy(p);
		pvm_create(p, IN_PLACE);
	}
}

/*
 * Pages leave the file under a guest that shares them, takes them back and writes to
 * them, and reads them on another vCPU. Either the guest goes on or it has lost its
 * page for good.
 */
TEST_F_TIMEOUT(pvm, holes_race_with_requests, 120)
{
	struct pvm *p = &self->p;
	pthread_t thread, reader;
	struct racer r, other;
	u64 page, result, lost = 0;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);

	for (page = 0; page < NR_PAGES; page++) {
		r = (struct racer) { .p = p, .page = page, .rounds = 20 };
		other = (struct racer) {
			.p = p, .cpu = 1, .op = OP_READ, .page = page, .nr_pages = 1,
		};
		WRITE_ONCE(racers_stop, false);
		pthread_create(&thread, NULL, serve, &r);
		pthread_create(&reader, NULL, run_many, &other);
		while (!READ_ONCE(r.done)) {
			punch_hole(p, page, 1);
			usleep(page * 500);
		}
		WRITE_ONCE(racers_stop, true);
		pthread_join(thread, NULL);
		pthread_join(reader, NULL);
		result = p->regs[0].result;

		/*
		 * A page that was lost as it was taken back is no success, nor is
		 * one that was lost after the last round and that the other vCPU
		 * has met.  In either case it has to be lost for both of them.
		 */
		if (!r.error &&
		    (other.error || result == SMCCC_INVALID) &&
		    guest(p, OP_READ, page, 0) == EXIT_LOST)
			r.error = 1000 + EXIT_LOST;
		ASSERT_TRUE(!other.error || other.error == 1000 + EXIT_LOST);
		if (r.error == 1000 + EXIT_LOST) {
			lost++;
			ASSERT_EQ(EXIT_LOST, vcpu_continue(p, 0));
			/* The guest can't be made to do anything else now. */
			pvm_destroy(p);
			pvm_create(p, IN_PLACE);
			ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
			continue;
		}
		ASSERT_EQ(0, r.error);
		ASSERT_EQ(0, other.error);
		ASSERT_EQ(SMCCC_SUCCESS, result);
	}
	TH_LOG("%lu of %u pages lost", lost, NR_PAGES);
}

/* An attempt to delete a memslot, which fails, is nothing that a guest notices. */
static void *delete_memslot(void *__r)
{
	struct racer *r = __r;
	struct pvm *p = r->p;

	while (!READ_ONCE(racers_stop)) {
		if (!__vm_set_user_memory_region2(p->vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD,
						  TEST_GPA, 0, p->mem, p->fd, 0) ||
		    errno != EPERM) {
			r->error = 1;
			break;
		}
		r->exits++;
	}
	return NULL;
}

TEST_F_TIMEOUT(pvm, memslot_deletion_races_with_faults, 120)
{
	struct racer other = {
		.p = &self->p, .cpu = 1, .op = OP_READ, .page = 1, .nr_pages = NR_PAGES - 1,
	};
	struct pvm *p = &self->p;
	struct racer r = { .p = p };
	pthread_t thread, reader;
	u64 round, i;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_WRITES(p, 0, 1);
	for (i = 1; i < NR_PAGES; i++)
		ASSERT_SHARES(p, i, PRESERVE);

	WRITE_ONCE(racers_stop, false);
	pthread_create(&thread, NULL, delete_memslot, &r);
	pthread_create(&reader, NULL, run_many, &other);
	while (!READ_ONCE(r.exits) && !READ_ONCE(r.error))
		sched_yield();
	for (round = 0; round < 20; round++) {
		/* There is nothing mapped after this, so that each access is a fault. */
		punch_hole(p, 1, NR_PAGES - 1);
		for (i = 1; i < NR_PAGES; i++) {
			EXPECT_EQ(EXIT_DONE, guest(p, OP_READ, i, 0));
			EXPECT_EQ(0, p->regs[0].result);
		}
		EXPECT_EQ(EXIT_DONE, guest(p, OP_SHARE, 1, 0));
		EXPECT_EQ(SMCCC_SUCCESS, p->regs[0].result);
	}
	WRITE_ONCE(racers_stop, true);
	pthread_join(thread, NULL);
	pthread_join(reader, NULL);
	ASSERT_EQ(0, r.error);
	ASSERT_EQ(0, other.error);
	ASSERT_EQ(0, other.exits);
}

/*
 * Convert a page to shared and back, as fast as can be, until the guest has taken it
 * back: then it must be the guest's alone.
 */
static void *flip_until_unshared(void *__r)
{
	struct racer *r = __r;
	int ret;

	do {
		ret = convert(r->p, r->page, 1, SHARED, UNSPECIFIED, NULL);
		if (ret)
			break;
		/* Fatal if the page is the guest's. */
		WRITE_ONCE(host_page(r->p, r->page)[1], 0xbad);
		do {
			ret = convert(r->p, r->page, 1, PRIVATE, UNSPECIFIED, NULL);
		} while (ret == EAGAIN);
	} while (!ret && !READ_ONCE(racers_stop));

	r->error = ret == EPERM ? 0 : ret ?: 1;
	return NULL;
}

/*
 * MEM_UNSHARE races with conversions of one page in both directions: it completes only
 * when the file has the page as private.
 */
TEST_F_TIMEOUT(pvm, unshare_races_with_conversion, 120)
{
	struct pvm *p = &self->p;
	pthread_t thread, reader;
	struct racer r, other;
	u64 round, tries = 0;
	enum exit exit;

	ASSERT_CONVERTS(p, 0, NR_PAGES, PRIVATE, PRESERVE);

	for (round = 0; round < 50; round++) {
		ASSERT_SHARES(p, 3, PRESERVE);

		r = (struct racer) { .p = p, .page = 3 };
		other = (struct racer) {
			.p = p, .cpu = 1, .op = OP_READ, .page = 3, .nr_pages = 1,
		};
		WRITE_ONCE(racers_stop, false);
		pthread_create(&thread, NULL, flip_until_unshared, &r);
		pthread_create(&reader, NULL, run_many, &other);

		exit = guest(p, OP_UNSHARE, 3, 0);
		for (; exit == EXIT_PRIVATE && tries < 100000; tries++)
			exit = vcpu_continue(p, 0);
		ASSERT_EQ(EXIT_DONE, exit);
		ASSERT_EQ(SMCCC_SUCCESS, p->regs[0].result);
		ASSERT_EQ(0, host_pfn(host_page(p, 3)));
		ASSERT_FALSE(can_access(host_page(p, 3)));
		ASSERT_GUEST_WRITES(p, 3, SECRET);
		pthread_join(thread, NULL);
		WRITE_ONCE(racers_stop, true);
		pthread_join(reader, NULL);
		ASSERT_EQ(0, r.error);
		ASSERT_EQ(0, other.error);
		ASSERT_EQ(0, other.exits);
		ASSERT_GUEST_READS(p, 3, SECRET);
	}
	TH_LOG("%lu exits for %lu requests", tries, round);
}

/* A VMM that dies while the guest waits for it. */
TEST_F(pvm, killed_in_a_request)
{
	struct pvm child;
	int status, fds[2], i;
	pid_t pid;
	char c;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pipe(fds));
		pid = fork();
		ASSERT_LE(0, pid);
		close(pid ? fds[1] : fds[0]);
		if (!pid) {
			pvm_create(&child, IN_PLACE);
			if (convert(&child, 0, NR_PAGES, PRIVATE, PRESERVE, NULL) ||
			    guest(&child, OP_WRITE, 0, SECRET) != EXIT_DONE ||
			    guest(&child, OP_SHARE, 0, 0) != EXIT_SHARED)
				_exit(1);
			if ((i & 1) &&
			    (convert(&child, 0, 1, SHARED, PRESERVE, NULL) ||
			     vcpu_continue(&child, 0) != EXIT_DONE ||
			     guest(&child, OP_UNSHARE, 0, 0) != EXIT_PRIVATE))
				_exit(1);
			if (write(fds[1], "x", 1) != 1)
				_exit(1);
			for (;;)
				vcpu_continue(&child, 0);
		}
		ASSERT_EQ(1, read(fds[0], &c, 1));
		usleep(i / 2 * 3000);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		close(fds[0]);
	}
}

/* A file that is private to begin with. */
TEST(private_file)
{
	struct pvm p;

	pvm_create(&p, GUEST_MEMFD_FLAG_MMAP);
	ASSERT_FALSE(can_access(host_page(&p, 0)));
	ASSERT_GUEST_WRITES(&p, 0, 0x10);
	ASSERT_SHARES(&p, 0, PRESERVE);
	ASSERT_EQ(0x10, *host_page(&p, 0));
	ASSERT_FALSE(can_access(host_page(&p, 1)));
	pvm_destroy(&p);
}

int main(int argc, char *argv[])
{
	char core_pattern[128], poison[4];
	bool had_pattern, had_poison;
	int ret;

	page_size = getpagesize();

	TEST_REQUIRE(page_size == SZ_4K);
	__TEST_REQUIRE(kvm_has_protected_vms(),
		       "protected VMs need kvm-arm.mode=protected");
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));

	/* What belongs to the whole host is put right here, however a test ends. */
	had_pattern = read_str(CORE_PATTERN, core_pattern, sizeof(core_pattern));
	had_poison = read_str(POISON_PARAM, poison, sizeof(poison));

	ret = test_harness_run(argc, argv);

	if (had_pattern)
		write_str(CORE_PATTERN, core_pattern);
	if (had_poison)
		write_str(POISON_PARAM, poison);
	slow_disk_destroy();
	return ret;
}
