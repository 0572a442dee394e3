// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test what guest_memfd memory that is converted in place has to get on with: memslots
 * of all kinds, calls of memory management, memory errors, a lack of memory, other
 * processes, other VMs, and what KVM itself writes to the guest's memory.
 *
 * The conversion itself is for guest_memfd_conversions_test, the requests of pKVM's
 * guests are for arm64/guest_memfd_pkvm_test.
 *
 * The guest does what the host tells it to, one operation after the other.  The two talk
 * by MMIO alone, as a protected VM shares no memory by itself.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <linux/falloc.h>
#include <linux/sizes.h>

#ifdef __x86_64__
#include <asm/pvclock-abi.h>
#elif defined(__aarch64__)
#include <linux/arm-smccc.h>
#endif

#include "guest_memfd.h"
#include "kvm_syscalls.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define TEST_GPA	((gpa_t)SZ_1G)
#define TEST_SLOT	10
#define OTHER_SLOT	11
/* As large as what is at TEST_GPA. */
#define ALIAS_GPA	(TEST_GPA + SZ_256M)
#define ALIAS_SLOT	12
#define MMIO_GPA	((gpa_t)SZ_256M + SZ_512M)

#define NR_PAGES	16
#define NR_VCPUS	2

/* EAGAIN is the answer as long as a reference of GUP is seen, the loop has to end. */
#define MAX_RETRIES	1000

/* See Documentation/virt/kvm/arm/hypercalls.rst and pvtime.rst. */
#define MEM_SHARE	0xc6000003
#define MEM_UNSHARE	0xc6000004
#define PV_TIME_ST	0xc5000021

static size_t page_size;

/*
 * The guest
 */
enum guest_op {
	OP_READ,	/* the first word of a page */
	OP_WRITE,	/* the first and the last word of a page */
	OP_LOOP,	/* write to the first word of @val pages, until told to stop */
	OP_HVC,		/* the hypercall @val; arm64 */
};

/* What the guest reads, and where it writes its answer. */
struct mmio_regs {
	u64 op;
	u64 addr;
	u64 val;
	u64 go_on;
	u64 result;
};

#ifdef __x86_64__
static u64 mmio_read(u64 offset)
{
	u64 val;

	asm volatile("movq (%1), %0" : "=r" (val) : "r" (MMIO_GPA + offset) : "memory");
	return val;
}

static void mmio_write(u64 offset, u64 val)
{
	asm volatile("movq %0, (%1)" : : "r" (val), "r" (MMIO_GPA + offset) : "memory");
}

static u64 guest_hvc(u64 func, gpa_t gpa)
{
	return -1ull;
}
#elif defined(__aarch64__)
static u64 mmio_read(u64 offset)
{
	u64 val;

	asm volatile("ldr %0, [%1]" : "=r" (val) : "r" (MMIO_GPA + offset) : "memory");
	return val;
}

static void mmio_write(u64 offset, u64 val)
{
	asm volatile("str %0, [%1]" : : "r" (val), "r" (MMIO_GPA + offset) : "memory");
}

static u64 guest_hvc(u64 func, gpa_t gpa)
{
	struct arm_smccc_res res;

	smccc_hvc(func, gpa, 0, 0, 0, 0, 0, 0, &res);
	return res.a0;
}
#endif

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
		case OP_LOOP:
			for (i = 0; mmio_read(offsetof(struct mmio_regs, go_on)); i++)
				WRITE_ONCE(*(u64 *)(addr + i % val * SZ_4K), i);
			result = i;
			break;
		case OP_HVC:
			result = guest_hvc(val, addr);
			break;
		}

		mmio_write(offsetof(struct mmio_regs, result), result);
	}
}

struct guest {
	struct gmem g;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct mmio_regs regs[NR_VCPUS];
	/* How often the guest has read go_on. */
	u64 rounds[NR_VCPUS];
};

/* A VM with two vCPUs, without memory at TEST_GPA, but with the addresses for it, twice. */
static void guest_create_vm(struct guest *s, u64 size)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = IN_PLACE_VM_TYPE,
#ifdef __aarch64__
		.in_place = true,
#endif
	};
	int i;

	*s = (struct guest) { .g.size = size, .g.fd = -1 };
	s->g.vm = __vm_create(shape, NR_VCPUS, 0);
	virt_map(s->g.vm, TEST_GPA, TEST_GPA, 2 * size / page_size);
	virt_map(s->g.vm, ALIAS_GPA, ALIAS_GPA, size / page_size);
	virt_map(s->g.vm, MMIO_GPA, MMIO_GPA, 1);

	for (i = 0; i < NR_VCPUS; i++)
		s->vcpus[i] = vm_vcpu_add(s->g.vm, i, guest_code);
	kvm_arch_vm_finalize_vcpus(s->g.vm);

#ifdef __aarch64__
	gmem_set_private(memslot2region(s->g.vm, 0)->region.guest_memfd, 0,
			 memslot2region(s->g.vm, 0)->region.memory_size, PRESERVE);
#endif
}

static void guest_create(struct guest *s, u64 size)
{
	guest_create_vm(s, size);
	s->g.fd = vm_create_guest_memfd(s->g.vm, size, IN_PLACE);
	gmem_map(&s->g);
	vm_set_user_memory_region2(s->g.vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, size,
				   s->g.mem, s->g.fd, 0);
}

/* Go on with what the vCPU was told to do.  Return 0 once it's done, or the errno. */
static int vcpu_continue(struct guest *s, int cpu)
{
	struct kvm_run *run = s->vcpus[cpu]->run;
	u64 offset, val;
	int ret;

	for (;;) {
		ret = __vcpu_run(s->vcpus[cpu]) ? errno : 0;
		if (ret == EINTR)
			continue;
		if (ret)
			return ret;

		TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO && run->mmio.len == 8,
			    "exit_reason %u (%s)", run->exit_reason,
			    exit_reason_str(run->exit_reason));
		offset = run->mmio.phys_addr - MMIO_GPA;
		TEST_ASSERT(offset < sizeof(struct mmio_regs), "MMIO at 0x%llx",
			    run->mmio.phys_addr);
		if (run->mmio.is_write) {
			memcpy((u8 *)&s->regs[cpu] + offset, run->mmio.data, 8);
			return 0;
		}
		if (offset == offsetof(struct mmio_regs, go_on))
			WRITE_ONCE(s->rounds[cpu], s->rounds[cpu] + 1);
		val = READ_ONCE(*(u64 *)((u8 *)&s->regs[cpu] + offset));
		memcpy(run->mmio.data, &val, 8);
	}
}

static int vcpu_do(struct guest *s, int cpu, enum guest_op op, gpa_t gpa, u64 val)
{
	s->rounds[cpu] = 0;
	s->regs[cpu] = (struct mmio_regs) {
		.op = op, .addr = gpa, .val = val, .go_on = 1, .result = UNTOUCHED,
	};
	return vcpu_continue(s, cpu);
}

static gpa_t gpa_of(u64 page)
{
	return TEST_GPA + page * page_size;
}

static gpa_t alias_of(u64 page)
{
	return ALIAS_GPA + page * page_size;
}

/* The counterparts of host_fill() and host_match(). */
static void guest_fill(struct guest *s, u64 page, u64 nr, u64 seed)
{
	int ret;
	u64 i;

	for (i = page; i < page + nr; i++) {
		ret = vcpu_do(s, 0, OP_WRITE, gpa_of(i), seed + i);
		TEST_ASSERT(!ret, "The guest can't write page %lu, errno = %d", i, ret);
	}
}

static u64 guest_match(struct guest *s, u64 page, u64 nr, u64 seed)
{
	u64 i;

	for (i = page; i < page + nr; i++) {
		if (vcpu_do(s, 0, OP_READ, gpa_of(i), 0) || s->regs[0].result != seed + i)
			return i;
	}
	return ALL;
}

/* As above, but with the same word in all pages. */
static u64 guest_match_word(struct guest *s, u64 page, u64 nr, u64 word)
{
	u64 i;

	for (i = page; i < page + nr; i++) {
		if (vcpu_do(s, 0, OP_READ, gpa_of(i), 0) || s->regs[0].result != word)
			return i;
	}
	return ALL;
}

#define ASSERT_GUEST_SEES(s, page, nr, seed) \
	ASSERT_EQ(ALL, guest_match(s, page, nr, seed))
#define ASSERT_GUEST_SEES_WORD(s, page, nr, word) \
	ASSERT_EQ(ALL, guest_match_word(s, page, nr, word))

/*
 * Make private pages, which hold what the guest left there, shared for both sides.  That
 * takes just a conversion, but for a protected VM of arm64, whose guest has to ask for it.
 */
static void guest_share(struct guest *s, u64 page, u64 nr)
{
	u64 i;

	for (i = page; i < page + nr; i++) {
#ifdef __aarch64__
		struct kvm_run *run = s->vcpus[0]->run;
		int ret = vcpu_do(s, 0, OP_HVC, gpa_of(i), MEM_SHARE);

		TEST_ASSERT(ret == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
			    !run->memory_fault.flags,
			    "MEM_SHARE of page %lu: errno = %d", i, ret);
#endif
		gmem_set_shared(s->g.fd, i * page_size, page_size, PRESERVE);
#ifdef __aarch64__
		ret = vcpu_continue(s, 0);
		TEST_ASSERT(!ret && !s->regs[0].result, "MEM_SHARE failed, errno = %d, 0x%lx",
			    ret, s->regs[0].result);
#endif
	}
}

/* A vCPU in a thread of its own, which is to go on until it's told to stop. */
struct runner {
	struct guest *s;
	int cpu;
	pthread_t thread;
	int ret;
};

static void *runner_thread(void *__r)
{
	struct runner *r = __r;

	r->ret = vcpu_continue(r->s, r->cpu);
	return NULL;
}

static void runner_start(struct runner *r, struct guest *s, int cpu, u64 page, u64 nr)
{
	*r = (struct runner) { .s = s, .cpu = cpu };

	s->rounds[cpu] = 0;
	s->regs[cpu] = (struct mmio_regs) {
		.op = OP_LOOP, .addr = gpa_of(page), .val = nr, .go_on = 1,
	};
	kvm_pthread_create(&r->thread, NULL, runner_thread, r);
}

static int runner_stop(struct runner *r)
{
	WRITE_ONCE(r->s->regs[r->cpu].go_on, 0);
	kvm_pthread_join(r->thread, NULL);
	return r->ret;
}

/* Convert, and be patient with references that are about to be dropped. */
static int convert_patiently(struct gmem *g, u64 page, u64 nr, u64 attributes)
{
	int ret, i;

	for (i = 0; i < MAX_RETRIES; i++) {
		ret = convert_pages(g, page, nr, attributes, PRESERVE, NULL);
		if (ret != EAGAIN)
			break;
	}
	return ret;
}

FIXTURE(host)
{
	struct gmem g;
};

FIXTURE_SETUP(host)
{
	gmem_open(&self->g, NR_PAGES * page_size, IN_PLACE);
	gmem_map(&self->g);
	vm_set_user_memory_region2(self->g.vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA,
				   self->g.size, self->g.mem, self->g.fd, 0);
}

FIXTURE_TEARDOWN(host)
{
	gmem_close(&self->g);
}

FIXTURE(guest)
{
	struct guest s;
};

FIXTURE_SETUP(guest)
{
	guest_create(&self->s, NR_PAGES * page_size);
}

FIXTURE_TEARDOWN(guest)
{
	gmem_close(&self->s.g);
}

/*
 * Memslots
 */
static int set_slot(struct gmem *g, u32 slot, u32 flags, gpa_t gpa, u64 size, void *mem,
		    u64 offset)
{
	return __vm_set_user_memory_region2(g->vm, slot, flags, gpa, size, mem, g->fd,
					    offset) ? errno : 0;
}

/* Return the first change of the slot that isn't refused, or ALL. */
static u64 slot_changes(struct gmem *g)
{
	const u64 size = g->size;
	const struct {
		u32 flags;
		gpa_t gpa;
		u64 size;
		void *mem;
		u64 offset;
	} changes[] = {
		/* Nothing changes at all. */
		{ KVM_MEM_GUEST_MEMFD, TEST_GPA, size, g->mem },
		{ KVM_MEM_GUEST_MEMFD | KVM_MEM_READONLY, TEST_GPA, size, g->mem },
		{ KVM_MEM_GUEST_MEMFD | KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA, size, g->mem },
		{ 0, TEST_GPA, size, g->mem },
		{ KVM_MEM_READONLY, TEST_GPA, size, g->mem },
		{ KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA, size, g->mem },
		{ KVM_MEM_GUEST_MEMFD, ALIAS_GPA, size, g->mem },
		{ 0, ALIAS_GPA, size, g->mem },
		{ KVM_MEM_GUEST_MEMFD, TEST_GPA + page_size, size, g->mem },
		{ KVM_MEM_GUEST_MEMFD, TEST_GPA, size - page_size, g->mem },
		{ KVM_MEM_GUEST_MEMFD, TEST_GPA, size / 2, g->mem, size / 2 },
		{ KVM_MEM_GUEST_MEMFD, TEST_GPA, size, g->mem + size },
	};
	u64 i;

	for (i = 0; i < ARRAY_SIZE(changes); i++) {
		if (set_slot(g, TEST_SLOT, changes[i].flags, changes[i].gpa, changes[i].size,
			     changes[i].mem, changes[i].offset) != EINVAL)
			return i;
	}

	/* Nor is there such a slot to begin with. */
	if (set_slot(g, OTHER_SLOT, KVM_MEM_GUEST_MEMFD | KVM_MEM_READONLY, ALIAS_GPA, size,
		     g->mem, 0) != EINVAL)
		return i;
	i++;
	if (set_slot(g, OTHER_SLOT, KVM_MEM_GUEST_MEMFD | KVM_MEM_LOG_DIRTY_PAGES, ALIAS_GPA,
		     size, g->mem, 0) != EINVAL)
		return i;
	return ALL;
}

TEST_F(host, slot_changes_refused)
{
	struct gmem *g = &self->g;

	host_fill(g, 0, NR_PAGES, 0x1000);
	ASSERT_EQ(ALL, slot_changes(g));
	ASSERT_STATE(g, 0, NR_PAGES, SHARED);

	ASSERT_CONVERTS(g, 4, 8, PRIVATE, PRESERVE);
	ASSERT_EQ(ALL, slot_changes(g));
	ASSERT_STATE(g, 0, 4, SHARED);
	ASSERT_STATE(g, 4, 8, PRIVATE);
	ASSERT_STATE(g, 12, 4, SHARED);

	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(ALL, slot_changes(g));
	ASSERT_STATE(g, 0, NR_PAGES, PRIVATE);

	ASSERT_CONVERTS(g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, NR_PAGES, 0x1000);
}

/* A change that is refused changes nothing of what the guest sees. */
TEST_F(guest, slot_changes_refused)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
#ifdef __x86_64__
	u64 pages;
#endif

	host_fill(g, 0, NR_PAGES, 0x1100);
	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(s, 0, NR_PAGES, 0x1100);
	guest_fill(s, 0, NR_PAGES, 0x1200);
	guest_share(s, 8, 4);
	ASSERT_HOST_SEES(g, 8, 4, 0x1200);
	ASSERT_GUEST_SEES(s, 0, NR_PAGES, 0x1200);

#ifdef __x86_64__
	pages = vm_get_stat(g->vm, pages_4k);
#endif
	ASSERT_EQ(ALL, slot_changes(g));
#ifdef __x86_64__
	ASSERT_EQ(pages, vm_get_stat(g->vm, pages_4k));
#endif

	ASSERT_STATE(g, 0, 8, PRIVATE);
	ASSERT_STATE(g, 8, 4, SHARED);
	ASSERT_STATE(g, 12, 4, PRIVATE);
	ASSERT_GUEST_SEES(s, 0, NR_PAGES, 0x1200);
	host_fill(g, 8, 4, 0x1300);
	ASSERT_GUEST_SEES(s, 8, 4, 0x1300);
	ASSERT_EQ(NR_PAGES, nr_allocated(g));
}

#ifdef __x86_64__
/*
 * A second slot that has the file's mapping for its memory, i.e. what the host sees: the
 * same pages as long as they are shared, and nothing once they are private.
 */
TEST_F(guest, slot_on_the_mapping)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 i;

	vm_set_user_memory_region(g->vm, ALIAS_SLOT, 0, ALIAS_GPA, g->size, g->mem);

	host_fill(g, 0, 8, 0x2000);
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, vcpu_do(s, 1, OP_READ, alias_of(i), 0));
		ASSERT_EQ(0x2000 + i, s->regs[1].result);
		ASSERT_EQ(0, vcpu_do(s, 1, OP_WRITE, alias_of(i), 0x2100 + i));
	}
	ASSERT_HOST_SEES(g, 0, 8, 0x2100);
	ASSERT_GUEST_SEES(s, 0, 8, 0x2100);

	/* A page that has never been touched. */
	ASSERT_EQ(0, vcpu_do(s, 1, OP_READ, alias_of(9), 0));
	ASSERT_EQ(0, s->regs[1].result);
	ASSERT_EQ(9, nr_allocated(g));

	/* The page can be converted while the guest maps it there. */
	ASSERT_CONVERTS(g, 2, 4, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(s, 0, 8, 0x2100);
	guest_fill(s, 2, 4, 0x2200);

	/* The access is repeated, and succeeds when the page is shared again. */
	ASSERT_EQ(EFAULT, vcpu_do(s, 1, OP_READ, alias_of(2), 0));
	ASSERT_EQ(EFAULT, vcpu_continue(s, 1));
	ASSERT_EQ(UNTOUCHED, s->regs[1].result);
	ASSERT_STATE(g, 2, 4, PRIVATE);
	ASSERT_GUEST_SEES(s, 2, 4, 0x2200);
	ASSERT_CONVERTS(g, 2, 4, SHARED, PRESERVE);
	ASSERT_EQ(0, vcpu_continue(s, 1));
	ASSERT_EQ(0x2202, s->regs[1].result);
	ASSERT_HOST_SEES(g, 2, 4, 0x2200);

	/* The other pages are there all the time, a hole is one here, too. */
	ASSERT_CONVERTS(g, 2, 4, PRIVATE, PRESERVE);
	ASSERT_EQ(0, vcpu_do(s, 1, OP_READ, alias_of(1), 0));
	ASSERT_EQ(0x2101, s->regs[1].result);
	punch_hole(g, 0, 8);
	ASSERT_EQ(0, vcpu_do(s, 1, OP_READ, alias_of(1), 0));
	ASSERT_EQ(0, s->regs[1].result);
	ASSERT_EQ(2, nr_allocated(g));
}

struct alias_reader {
	struct guest *s;
	pthread_t thread;
	bool stop;
	u64 nr_reads;
	u64 nr_refused;
	u64 nr_odd;
	int ret;
};

static void *alias_reader_thread(void *__r)
{
	struct alias_reader *r = __r;
	struct guest *s = r->s;
	int ret;

	while (!READ_ONCE(r->stop)) {
		ret = vcpu_do(s, 1, OP_READ, alias_of(3), 0);
		while (ret == EFAULT && !READ_ONCE(r->stop)) {
			WRITE_ONCE(r->nr_refused, r->nr_refused + 1);
			ret = vcpu_continue(s, 1);
		}
		if (ret) {
			r->ret = ret == EFAULT ? 0 : ret;
			break;
		}
		r->nr_odd += s->regs[1].result & 1;
		WRITE_ONCE(r->nr_reads, r->nr_reads + 1);
	}
	return NULL;
}

/*
 * One vCPU reads the page through the mapping all the time, the other one leaves odd
 * numbers in it as long as it is private, and only then.
 */
TEST_F(guest, slot_on_the_mapping_race)
{
	struct alias_reader r = { .s = &self->s };
	struct guest *s = &self->s;
	u64 i;

	vm_set_user_memory_region(s->g.vm, ALIAS_SLOT, 0, ALIAS_GPA, s->g.size, s->g.mem);
	guest_fill(s, 3, 1, 0);
	kvm_pthread_create(&r.thread, NULL, alias_reader_thread, &r);

	for (i = 0; i < 20 || (i < 500 && !READ_ONCE(r.ret) &&
			       (!READ_ONCE(r.nr_reads) || !READ_ONCE(r.nr_refused))); i++) {
		ASSERT_EQ(0, convert_patiently(&s->g, 2, 3, PRIVATE));
		ASSERT_EQ(0, vcpu_do(s, 0, OP_WRITE, gpa_of(3), 2 * i + 1));
		ASSERT_EQ(0, vcpu_do(s, 0, OP_READ, gpa_of(3), 0));
		ASSERT_EQ(2 * i + 1, s->regs[0].result);
		ASSERT_EQ(0, vcpu_do(s, 0, OP_WRITE, gpa_of(3), 2 * i));
		ASSERT_CONVERTS(&s->g, 2, 3, SHARED, PRESERVE);
		ASSERT_EQ(2 * i, *first_word(s->g.mem + 3 * page_size));
	}

	WRITE_ONCE(r.stop, true);
	kvm_pthread_join(r.thread, NULL);
	ASSERT_EQ(0, r.ret);
	ASSERT_EQ(0, r.nr_odd);
	ASSERT_LT(0, r.nr_reads);
	ASSERT_EQ(1, nr_allocated(&s->g));
}
#else
/*
 * pKVM donates ordinary memory to the guest for good, which the pages of a file aren't
 * there for.  They are refused, and not even a reference is left behind.
 */
TEST_F(guest, slot_on_the_mapping)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	vm_set_user_memory_region(g->vm, ALIAS_SLOT, 0, ALIAS_GPA, g->size, g->mem);
	host_fill(g, 0, 8, 0x2000);

	ASSERT_EQ(EIO, vcpu_do(s, 1, OP_READ, alias_of(2), 0));
	ASSERT_EQ(EIO, vcpu_continue(s, 1));
	ASSERT_HOST_SEES(g, 0, 8, 0x2000);

	ASSERT_CONVERTS(g, 0, 8, PRIVATE, PRESERVE);
	ASSERT_EQ(EFAULT, vcpu_continue(s, 1));
	ASSERT_GUEST_SEES(s, 0, 8, 0x2000);
	ASSERT_EQ(EFAULT, vcpu_continue(s, 1));
	ASSERT_EQ(UNTOUCHED, s->regs[1].result);

	/* Shared by the guest is something else than shared with another address. */
	guest_fill(s, 2, 1, 0x2100);
	guest_share(s, 2, 1);
	ASSERT_EQ(EIO, vcpu_continue(s, 1));
	ASSERT_HOST_SEES(g, 2, 1, 0x2100);
	ASSERT_EQ(UNTOUCHED, s->regs[1].result);
	ASSERT_EQ(8, nr_allocated(g));
}
#endif /* __x86_64__ */

/*
 * The guest asks for a range of two files to be private, and there is a user of the second
 * one's pages: the VMM takes back what it did to the first one.
 */
TEST_F(guest, two_files_undone)
{
	struct guest *s = &self->s;
	struct gmem *a = &s->g, b = {};
	struct pin p;

	b.vm = a->vm;
	b.size = a->size;
	b.fd = vm_create_guest_memfd(b.vm, b.size, IN_PLACE);
	gmem_map(&b);
	vm_set_user_memory_region2(b.vm, OTHER_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA + a->size,
				   b.size, b.mem, b.fd, 0);
#ifdef __x86_64__
	/* What is shared is shared with the guest. */
	guest_fill(s, 0, 2 * NR_PAGES, 0x3000);
#else
	host_fill(a, 0, NR_PAGES, 0x3000);
	host_fill(&b, 0, NR_PAGES, 0x3000 + NR_PAGES);
#endif
	ASSERT_HOST_SEES(a, 0, NR_PAGES, 0x3000);
	ASSERT_HOST_SEES(&b, 0, NR_PAGES, 0x3000 + NR_PAGES);

	ASSERT_EQ(NULL, pin_take(&p, PIN_VMSPLICE, b.mem + 5 * page_size, page_size));

	ASSERT_CONVERTS(a, 8, 8, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EAGAIN, 5, &b, 0, 8, PRIVATE, PRESERVE);
	ASSERT_STATE(a, 0, 8, SHARED);
	ASSERT_STATE(a, 8, 8, PRIVATE);
	ASSERT_STATE(&b, 0, NR_PAGES, SHARED);
	ASSERT_CONVERTS(a, 8, 8, SHARED, PRESERVE);

	/* As if nothing had been asked for. */
	ASSERT_STATE(a, 0, NR_PAGES, SHARED);
	ASSERT_HOST_SEES(a, 0, NR_PAGES, 0x3000);
	ASSERT_HOST_SEES(&b, 0, NR_PAGES, 0x3000 + NR_PAGES);
#ifdef __x86_64__
	ASSERT_GUEST_SEES(s, 0, 2 * NR_PAGES, 0x3000);
#endif
	host_fill(a, 8, 8, 0x3100);
	host_fill(&b, 0, 8, 0x3100 + NR_PAGES);
	ASSERT_EQ(NR_PAGES, nr_allocated(a));
	ASSERT_EQ(NR_PAGES, nr_allocated(&b));

	/* And again, with the user gone. */
	pin_drop(&p);
	ASSERT_CONVERTS(a, 8, 8, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(&b, 0, 8, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(s, 8, NR_PAGES, 0x3100);
	ASSERT_STATE(a, 0, 8, SHARED);
	ASSERT_STATE(&b, 8, 8, SHARED);

	/* To shared nothing stands in the way. */
	guest_fill(s, 8, 8, 0x3200);
	guest_share(s, 8, 8);
	ASSERT_HOST_SEES(a, 8, 8, 0x3200);

	kvm_munmap(b.mem, b.size);
	kvm_close(b.fd);
}

#ifdef __x86_64__
static int set_vm_attributes(struct kvm_vm *vm, gpa_t gpa, u64 size, u64 attributes)
{
	struct kvm_memory_attributes attr = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
	};

	return __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attr) ? errno : 0;
}

/* What a huge page could hold is half an in-place slot, and half one with two backings. */
TEST(both_kinds_in_2M)
{
	const u64 nr = SZ_1M / page_size, first = nr - 8;
	const gpa_t gpa = TEST_GPA + SZ_1M;
	struct guest s;
	struct gmem *g = &s.g;
	u64 pages, i;
	u8 *anon;

	kvm_static_assert(!(TEST_GPA & (SZ_2M - 1)));

	guest_create_vm(&s, SZ_2M);
	g->size = SZ_1M;
	g->fd = vm_create_guest_memfd(g->vm, SZ_1M, IN_PLACE);
	gmem_map(g);
	vm_set_user_memory_region2(g->vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, SZ_1M,
				   g->mem, g->fd, 0);
	vm_mem_add(g->vm, VM_MEM_SRC_ANONYMOUS, gpa, OTHER_SLOT, nr, KVM_MEM_GUEST_MEMFD, -1, 0);
	anon = addr_gpa2hva(g->vm, gpa);

	guest_fill(&s, first, 16, 0x4000);
	ASSERT_HOST_SEES(g, first, 8, 0x4000);
	for (i = 0; i < 8; i++)
		ASSERT_EQ(0x4000 + nr + i, *first_word(anon + i * page_size));

	/* The old way: what is next to it isn't even unmapped. */
	pages = vm_get_stat(g->vm, pages_4k);
	ASSERT_EQ(0, set_vm_attributes(g->vm, gpa, SZ_1M, PRIVATE));
	ASSERT_EQ(pages - 8, vm_get_stat(g->vm, pages_4k));
	ASSERT_GUEST_SEES(&s, first, 8, 0x4000);
	ASSERT_GUEST_SEES_WORD(&s, nr, 8, 0);
	guest_fill(&s, nr, 8, 0x4100);

	/* The new way: the same. */
	ASSERT_EQ(pages, vm_get_stat(g->vm, pages_4k));
	ASSERT_CONVERTS(g, 0, nr, PRIVATE, PRESERVE);
	ASSERT_EQ(pages - 8, vm_get_stat(g->vm, pages_4k));
	ASSERT_GUEST_SEES(&s, first, 8, 0x4000);
	ASSERT_GUEST_SEES(&s, nr, 8, 0x4100);

	/* Alternate pages on both sides of the border. */
	for (i = 0; i < 8; i += 2) {
		ASSERT_EQ(0, set_vm_attributes(g->vm, gpa + i * page_size, page_size, SHARED));
		ASSERT_CONVERTS(g, first + i, 1, SHARED, PRESERVE);
	}
	for (i = 0; i < 8; i++) {
		ASSERT_STATE(g, first + i, 1, i & 1 ? PRIVATE : SHARED);
		ASSERT_GUEST_SEES(&s, nr + i, 1, i & 1 ? 0x4100 : 0x4000);
	}
	ASSERT_GUEST_SEES(&s, first, 8, 0x4000);
	ASSERT_EQ(EINVAL, set_vm_attributes(g->vm, gpa - page_size, 2 * page_size, PRIVATE));

	/* All of it shared: old news for one half, and no news for the other. */
	guest_fill(&s, first, 16, 0x4200);
	pages = vm_get_stat(g->vm, pages_4k);
	ASSERT_EQ(0, set_vm_attributes(g->vm, TEST_GPA, SZ_2M, SHARED));
	ASSERT_LE(pages - 8, vm_get_stat(g->vm, pages_4k));
	for (i = 0; i < 8; i++)
		ASSERT_STATE(g, first + i, 1, i & 1 ? PRIVATE : SHARED);
	ASSERT_GUEST_SEES(&s, first, 8, 0x4200);
	for (i = 0; i < 8; i++)
		ASSERT_GUEST_SEES(&s, nr + i, 1, i & 1 ? 0x4000 : 0x4200);
	ASSERT_CONVERTS(g, 0, nr, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, first, 8, 0x4200);
	ASSERT_EQ(8, nr_allocated(g));

	/* Neither of them is ever mapped by more than a page. */
	ASSERT_EQ(0, vm_get_stat(g->vm, pages_2m));
	gmem_close(g);
}

struct pre_faulter {
	struct guest *s;
	pthread_t thread;
	bool stop;
	u64 nr_calls;
	u64 nr_again;
	int ret;
};

static void *pre_fault_thread(void *__p)
{
	struct pre_faulter *p = __p;
	struct kvm_pre_fault_memory range;
	u64 page;
	int ret;

	/* A call for many pages hides the error if it isn't the first page's. */
	for (page = 0; !READ_ONCE(p->stop); page = (page + 1) % NR_PAGES) {
		range = (struct kvm_pre_fault_memory) {
			.gpa = gpa_of(page),
			.size = page_size,
		};
		ret = __vcpu_ioctl(p->s->vcpus[1], KVM_PRE_FAULT_MEMORY, &range) ? errno : 0;
		WRITE_ONCE(p->nr_calls, p->nr_calls + 1);
		if (ret == EAGAIN)
			WRITE_ONCE(p->nr_again, p->nr_again + 1);

		/* A page on the move, and a slot on the move, and no other reason to fail. */
		if (ret && ret != EAGAIN && ret != ENOENT && ret != EINTR) {
			WRITE_ONCE(p->ret, ret);
			break;
		}
	}
	return NULL;
}

/*
 * One vCPU pre-faults memory while it's converted all the time, first beside another one
 * that writes to it, then beside a slot that comes and goes.  No conversion fails, and
 * pre-faulting only for reasons that are transient.
 */
TEST_F(guest, pre_fault_races)
{
	struct pre_faulter p = { .s = &self->s };
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 i, page, calls;
	struct runner r;

	if (!kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "No KVM_PRE_FAULT_MEMORY");

	/* The guest overwrites the first word of each page only. */
	guest_fill(s, 0, NR_PAGES, 0x5000);

	runner_start(&r, s, 0, 0, NR_PAGES);
	kvm_pthread_create(&p.thread, NULL, pre_fault_thread, &p);
	for (i = 0; !READ_ONCE(p.ret); i++) {
		ASSERT_EQ(0, convert_pages(g, 0, NR_PAGES, i & 1 ? SHARED : PRIVATE, PRESERVE,
					   NULL));
		/* Until they have met, if that's what they do. */
		if (i >= 40 && (i >= 200 || READ_ONCE(p.nr_again)) &&
		    READ_ONCE(p.nr_calls) >= 100 && READ_ONCE(s->rounds[0]) >= 20)
			break;
	}
	ASSERT_EQ(0, runner_stop(&r));

	calls = READ_ONCE(p.nr_calls);
	for (i = 0; !READ_ONCE(p.ret); i++) {
		ASSERT_EQ(0, set_slot(g, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, 0, g->mem, 0));
		ASSERT_EQ(0, convert_pages(g, 0, NR_PAGES / 2, i & 1 ? SHARED : PRIVATE, PRESERVE,
					   NULL));
		ASSERT_EQ(0, set_slot(g, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, g->size,
				      g->mem, 0));
		ASSERT_EQ(0, convert_pages(g, NR_PAGES / 4, NR_PAGES / 2, i & 1 ? PRIVATE : SHARED,
					   PRESERVE, NULL));
		if (i >= 8 && READ_ONCE(p.nr_calls) >= calls + 100)
			break;
	}

	WRITE_ONCE(p.stop, true);
	kvm_pthread_join(p.thread, NULL);
	ASSERT_EQ(0, p.ret);

	/* With nothing on the move it succeeds at once. */
	for (page = 0; page < NR_PAGES; page++) {
		struct kvm_pre_fault_memory range = { .gpa = gpa_of(page), .size = page_size };

		ASSERT_EQ(0, __vcpu_ioctl(s->vcpus[1], KVM_PRE_FAULT_MEMORY, &range));
	}
	for (page = 0; page < NR_PAGES; page++) {
		ASSERT_EQ(0, vcpu_do(s, 0, OP_READ, gpa_of(page) + page_size - sizeof(u64), 0));
		ASSERT_EQ(0x5000 + page, s->regs[0].result);
	}
	ASSERT_CONVERTS(g, 0, NR_PAGES, SHARED, PRESERVE);
	for (page = 0; page < NR_PAGES; page++)
		ASSERT_EQ(0x5000 + page, *last_word(g->mem + page * page_size));
	ASSERT_EQ(NR_PAGES, nr_allocated(g));
}
#endif /* __x86_64__ */

/*
 * Memory management
 */
#define THP_ENABLED	"/sys/kernel/mm/transparent_hugepage/enabled"

/* Neither of a range that is back from private nor of one that is private is there a huge page. */
TEST(collapse)
{
	const u64 nr_huge = SZ_2M / page_size;
	char was[64] = "", *word;
	struct gmem g = {};
	u64 pfns[4], i;
	u8 *reserved;
	int round;

	if (!read_str(THP_ENABLED, was, sizeof(was)) || !write_str(THP_ENABLED, "always"))
		SKIP(return, "No transparent huge pages");

	gmem_open(&g, 2 * SZ_2M, IN_PLACE);
	reserved = kvm_mmap(g.size + SZ_2M, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	g.mem = mmap((void *)align_up((uintptr_t)reserved, SZ_2M), g.size,
		     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, g.fd, 0);
	EXPECT_NE(MAP_FAILED, (void *)g.mem);
	EXPECT_EQ(0, madvise(g.mem, g.size, MADV_HUGEPAGE));
	EXPECT_EQ(0, mlock(g.mem, SZ_2M));

	host_fill(&g, 0, nr_huge, 0x6000);
	for (i = 0; i < ARRAY_SIZE(pfns); i++)
		pfns[i] = pagemap_entry(g.mem + i * 100 * page_size) & (PM_PRESENT | PM_PFN(-1ull));

	for (round = 0; round < 3; round++) {
		EXPECT_EQ(0, convert_pages(&g, 0, nr_huge, PRIVATE, PRESERVE, NULL));
		EXPECT_EQ(-1, madvise(g.mem, SZ_2M, MADV_COLLAPSE));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_FALSE(can_read(g.mem + round * page_size));

		/* With a private page in the midst of it, and with none. */
		EXPECT_EQ(0, convert_pages(&g, 0, 200, SHARED, PRESERVE, NULL));
		EXPECT_EQ(0, convert_pages(&g, 201, nr_huge - 201, SHARED, PRESERVE, NULL));
		EXPECT_EQ(ALL, host_match(&g, 0, 200, 0x6000));
		EXPECT_EQ(-1, madvise(g.mem, SZ_2M, MADV_COLLAPSE));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_FALSE(can_read(g.mem + 200 * page_size));
		EXPECT_EQ(0, convert_pages(&g, 200, 1, SHARED, PRESERVE, NULL));
		EXPECT_EQ(ALL, host_match(&g, 0, nr_huge, 0x6000));
		EXPECT_EQ(-1, madvise(g.mem, SZ_2M, MADV_COLLAPSE));
		EXPECT_EQ(EINVAL, errno);

		EXPECT_EQ(ALL, host_match(&g, 0, nr_huge, 0x6000));
		for (i = 0; i < ARRAY_SIZE(pfns); i++)
			EXPECT_EQ(pfns[i], pagemap_entry(g.mem + i * 100 * page_size) &
					   (PM_PRESENT | PM_PFN(-1ull)));
		/* The other 2 MiB have never been touched. */
		EXPECT_EQ(-1, madvise(g.mem + SZ_2M, SZ_2M, MADV_COLLAPSE));
		EXPECT_EQ(nr_huge, nr_allocated(&g));
	}

	/* "always [madvise] never" */
	word = strchr(was, '[');
	if (word && strchr(word, ']')) {
		*strchr(word, ']') = '\0';
		write_str(THP_ENABLED, word + 1);
	}
	kvm_munmap(reserved, g.size + SZ_2M);
	g.mem = NULL;
	gmem_close(&g);
}

/* madvise() can punch holes, too, and doesn't ask whether the pages are mapped there. */
TEST_F(guest, madv_remove)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	guest_fill(s, 0, NR_PAGES, 0x7000);
	guest_share(s, 8, 8);
	ASSERT_HOST_SEES(g, 8, 8, 0x7000);

	/* Locked mappings are spared, which isn't about their pages. */
	ASSERT_EQ(0, mlock2(g->mem, g->size, MLOCK_ONFAULT));
	ASSERT_EQ(-1, madvise(g->mem + 4 * page_size, 8 * page_size, MADV_REMOVE));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(0, munlock(g->mem, g->size));
	ASSERT_EQ(NR_PAGES, nr_allocated(g));
	ASSERT_GUEST_SEES(s, 0, NR_PAGES, 0x7000);

	/* Four private pages, and four shared ones. */
	ASSERT_EQ(0, madvise(g->mem + 4 * page_size, 8 * page_size, MADV_REMOVE));
	ASSERT_EQ(NR_PAGES - 8, nr_allocated(g));
	ASSERT_STATE(g, 0, 8, PRIVATE);
	ASSERT_HOST_SEES_BYTE(g, 8, 4, 0);
	ASSERT_HOST_SEES(g, 12, 4, 0x7000);
	ASSERT_STATE(g, 8, 8, SHARED);

	ASSERT_GUEST_SEES(s, 0, 4, 0x7000);
	ASSERT_GUEST_SEES_WORD(s, 8, 4, 0);
	ASSERT_GUEST_SEES(s, 12, 4, 0x7000);
#ifdef __x86_64__
	ASSERT_GUEST_SEES_WORD(s, 4, 4, 0);
#else
	/* A protected VM mustn't find something else where its own memory has been. */
	ASSERT_EQ(EHWPOISON, vcpu_do(s, 1, OP_READ, gpa_of(4), 0));
	ASSERT_EQ(UNTOUCHED, s->regs[1].result);
#endif

	/* What comes after is one memory again. */
	guest_fill(s, 8, 4, 0x7100);
	ASSERT_HOST_SEES(g, 8, 4, 0x7100);
	host_fill(g, 8, 4, 0x7200);
	ASSERT_GUEST_SEES(s, 8, 4, 0x7200);
#ifdef __x86_64__
	guest_fill(s, 4, 4, 0x7300);
	ASSERT_CONVERTS(g, 4, 4, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 4, 4, 0x7300);
	ASSERT_EQ(NR_PAGES, nr_allocated(g));
#endif
}

/*
 * Faults
 */
static bool is_present(struct gmem *g, u64 page)
{
	return pagemap_entry(g->mem + page * page_size) & PM_PRESENT;
}

/* How many bytes around the address that is read are mapped, if that is known. */
static u64 bytes_around(void)
{
	u64 bytes = SZ_64K;
	FILE *f;

	f = fopen("/sys/kernel/debug/fault_around_bytes", "r");
	if (f) {
		if (fscanf(f, "%lu", &bytes) != 1)
			bytes = 0;
		fclose(f);
	}
	return bytes;
}

/* A read maps the neighbours that are there and shared, and no others. */
TEST_F(host, reads_map_neighbours)
{
	struct gmem *g = &self->g;
	const u64 mask = ~(bytes_around() - 1);
	u64 i, near = 0, reads = 0;

	if (~mask + 1 < 4 * page_size)
		SKIP(return, "fault_around_bytes is too small");

	/* Pages 4 and 5 are private, 9 was never used, and 10 is private and was neither. */
	host_fill(g, 0, 9, 0x9000);
	host_fill(g, 11, NR_PAGES - 11, 0x9000);
	ASSERT_CONVERTS(g, 4, 2, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(g, 10, 1, PRIVATE, UNSPECIFIED);
	ASSERT_EQ(NR_PAGES - 2, nr_allocated(g));

	ASSERT_EQ(0, madvise(g->mem, g->size, MADV_DONTNEED));
	ASSERT_EQ(0, nr_host_mapped(g));
	ASSERT_EQ(0x9007, READ_ONCE(*(u64 *)(g->mem + 7 * page_size)));
	ASSERT_TRUE(is_present(g, 7));

	for (i = 0; i < NR_PAGES; i++) {
		if (i == 4 || i == 5 || i == 9 || i == 10) {
			ASSERT_FALSE(is_present(g, i)) {
				TH_LOG("page %lu", i);
			}
		} else if (!(((uintptr_t)(g->mem + i * page_size) ^
			      (uintptr_t)(g->mem + 7 * page_size)) & mask)) {
			near++;
			ASSERT_TRUE(is_present(g, i)) {
				TH_LOG("page %lu", i);
			}
		}
	}
	ASSERT_LT(1, near);
	ASSERT_EQ(NR_PAGES - 2, nr_allocated(g));
	ASSERT_HOST_SEES(g, 0, 4, 0x9000);
	ASSERT_HOST_SEES(g, 6, 3, 0x9000);
	ASSERT_HOST_SEES(g, 11, NR_PAGES - 11, 0x9000);

	/* A conversion unmaps them again, and finds nobody that uses them. */
	ASSERT_CONVERTS(g, 0, 4, PRIVATE, PRESERVE);
	for (i = 0; i < 6; i++)
		ASSERT_FALSE(is_present(g, i));
	ASSERT_TRUE(is_present(g, 7));

	/* To read all of it takes fewer faults than there are pages. */
	ASSERT_CONVERTS(g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_EQ(0, madvise(g->mem, g->size, MADV_DONTNEED));
	for (i = 0; i < NR_PAGES; i++) {
		reads += !is_present(g, i);
		(void)READ_ONCE(*(u64 *)(g->mem + i * page_size));
	}
	ASSERT_GT(NR_PAGES / 2, reads);
	ASSERT_HOST_SEES(g, 4, 2, 0x9000);
}

/*
 * Memory errors
 */
static siginfo_t mce_info;
static sigjmp_buf mce_jmpbuf;
static int nr_mce;

static void mce_handler(int sig, siginfo_t *info, void *context)
{
	mce_info = *info;
	nr_mce++;
	/* There is no access to skip when the signal announces the error. */
	if (info->si_code != BUS_MCEERR_AO)
		siglongjmp(mce_jmpbuf, 1);
}

/* Touch a page, and return the si_code of the SIGBUS that this brings, or 0. */
static int mce_touch(u8 *addr)
{
	if (sigsetjmp(mce_jmpbuf, 1))
		return mce_info.si_code;
	(void)READ_ONCE(*addr);
	return 0;
}

/* With PR_MCE_KILL_LATE it's the access that is answered, not the error. */
TEST_F(host, kill_late)
{
	struct sigaction sa = { .sa_sigaction = mce_handler, .sa_flags = SA_SIGINFO };
	struct gmem *g = &self->g;
	u64 pfn;

	host_fill(g, 0, NR_PAGES, 0x8000);
	pfn = PM_PFN(pagemap_entry(g->mem + 5 * page_size));
	ASSERT_EQ(0, sigaction(SIGBUS, &sa, NULL));
	ASSERT_EQ(0, prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0));

	if (!poison_pfn(pfn))
		SKIP(return, "No hwpoison/corrupt-pfn (CONFIG_HWPOISON_INJECT, root)");
	ASSERT_EQ(0, nr_mce);
	ASSERT_CONVERT_FAILS(EHWPOISON, 5, g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(0, nr_mce);

	ASSERT_EQ(BUS_MCEERR_AR, mce_touch(g->mem + 5 * page_size + 8));
	ASSERT_EQ(g->mem + 5 * page_size + 8, mce_info.si_addr);
	ASSERT_EQ(12, mce_info.si_addr_lsb);
	ASSERT_EQ(0, mce_touch(g->mem + 6 * page_size));

	/* As long as the page is private, it's just that, and the error comes back later. */
	ASSERT_CONVERTS(g, 8, 4, PRIVATE, PRESERVE);
	ASSERT_EQ(BUS_ADRERR, mce_touch(g->mem + 8 * page_size));

	/* And with PR_MCE_KILL_EARLY it's the error. */
	pfn = PM_PFN(pagemap_entry(g->mem + 6 * page_size));
	ASSERT_EQ(0, prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
	nr_mce = 0;
	ASSERT_TRUE(poison_pfn(pfn));
	ASSERT_EQ(1, nr_mce);
	ASSERT_EQ(BUS_MCEERR_AO, mce_info.si_code);
	ASSERT_EQ(g->mem + 6 * page_size, mce_info.si_addr);
	ASSERT_CONVERT_FAILS(EHWPOISON, 5, g, 0, NR_PAGES, PRIVATE, PRESERVE);

	/* The rest is as it was. */
	ASSERT_CONVERTS(g, 8, 4, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, 5, 0x8000);
	ASSERT_HOST_SEES(g, 7, NR_PAGES - 7, 0x8000);
	ASSERT_EQ(0, prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0));
}

#define UNPOISON	"/sys/kernel/debug/hwpoison/unpoison-pfn"

static bool unpoison_pfn(u64 pfn)
{
	char str[32];

	snprintf(str, sizeof(str), "0x%lx", pfn);
	return write_str(UNPOISON, str);
}

static u64 nr_poisoned_kb(void)
{
	static char meminfo[8192];
	u64 kb = -1ull;
	char *line;

	TEST_ASSERT(read_str("/proc/meminfo", meminfo, sizeof(meminfo)), "No meminfo");
	line = strstr(meminfo, "HardwareCorrupted:");
	TEST_ASSERT(line && sscanf(line, "HardwareCorrupted: %lu", &kb) == 1,
		    "No HardwareCorrupted in meminfo");
	return kb;
}

/*
 * A page is poisoned for as long as the file has it, in whichever state, and can be
 * unpoisoned once it hasn't.  What is in its place is a page like any other.
 */
TEST_F(host, unpoison)
{
	struct gmem *g = &self->g;
	u64 pfns[2], before;
	int i;

	if (access(UNPOISON, W_OK))
		SKIP(return, "No hwpoison/unpoison-pfn (CONFIG_HWPOISON_INJECT, root)");

	host_fill(g, 0, NR_PAGES, 0x9000);
	before = nr_poisoned_kb();
	pfns[0] = PM_PFN(pagemap_entry(g->mem + 5 * page_size));
	pfns[1] = PM_PFN(pagemap_entry(g->mem + 9 * page_size));
	ASSERT_CONVERTS(g, 8, 4, PRIVATE, PRESERVE);
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(poison_pfn(pfns[i]));
		ASSERT_FALSE(unpoison_pfn(pfns[i]));
	}
	ASSERT_EQ(before + 2 * page_size / SZ_1K, nr_poisoned_kb());

	ASSERT_CONVERT_FAILS(EHWPOISON, 5, g, 4, 4, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EHWPOISON, 9, g, 8, 4, SHARED, ZERO);
	ASSERT_STATE(g, 8, 4, PRIVATE);

	punch_hole(g, 5, 1);
	punch_hole(g, 9, 1);
	ASSERT_EQ(NR_PAGES - 2, nr_allocated(g));
	for (i = 0; i < 2; i++)
		ASSERT_TRUE(unpoison_pfn(pfns[i]));
	ASSERT_EQ(before, nr_poisoned_kb());

	/* The mapping has to forget about the error as well. */
	ASSERT_EQ(0, madvise(g->mem, g->size, MADV_DONTNEED));
	ASSERT_HOST_SEES_BYTE(g, 5, 1, 0);
	ASSERT_CONVERTS(g, 4, 4, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(g, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, 5, 0x9000);
	ASSERT_HOST_SEES_BYTE(g, 5, 1, 0);
	ASSERT_HOST_SEES(g, 6, 3, 0x9000);
	ASSERT_HOST_SEES_BYTE(g, 9, 1, 0);
	ASSERT_HOST_SEES(g, 10, NR_PAGES - 10, 0x9000);
	host_fill(g, 0, NR_PAGES, 0x9100);
	ASSERT_HOST_SEES(g, 0, NR_PAGES, 0x9100);
	ASSERT_EQ(NR_PAGES, nr_allocated(g));
}

/*
 * Control groups
 */
#define CGROUP		"/sys/fs/cgroup"

/* Return NULL if there's no memory controller. */
static const char *cgroup_create(const char *name)
{
	static char path[64];
	struct stat st;
	char file[80];

	snprintf(path, sizeof(path), CGROUP "/%s", name);
	write_str(CGROUP "/cgroup.subtree_control", "+memory");
	rmdir(path);
	if (mkdir(path, 0755))
		return NULL;

	snprintf(file, sizeof(file), "%s/memory.current", path);
	if (!stat(file, &st))
		return path;
	rmdir(path);
	return NULL;
}

static bool cgroup_write(const char *cgroup, const char *file, const char *str)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	return write_str(path, str);
}

static u64 cgroup_current(const char *cgroup)
{
	char path[128], str[32];

	snprintf(path, sizeof(path), "%s/memory.current", cgroup);
	TEST_ASSERT(read_str(path, str, sizeof(str)), "Can't read %s", path);
	return strtoull(str, NULL, 0);
}

/* The directory of the cgroup that the task is in. */
static void cgroup_of_self(char *path, size_t size)
{
	char str[128] = "", *dir;

	read_str("/proc/self/cgroup", str, sizeof(str));
	dir = strchr(str, '/');
	str[strcspn(str, "\n")] = '\0';
	snprintf(path, size, CGROUP "%s", dir ?: "/");
}

/*
 * Exits
 */
#define ASSERT_MEMORY_FAULT(s, cpu, page, __flags)				\
do {										\
	struct kvm_run *__run = (s)->vcpus[cpu]->run;				\
										\
	ASSERT_EQ(KVM_EXIT_MEMORY_FAULT, __run->exit_reason);			\
	ASSERT_EQ(gpa_of(page), __run->memory_fault.gpa);			\
	ASSERT_EQ(page_size, __run->memory_fault.size);				\
	ASSERT_EQ(__flags, __run->memory_fault.flags);				\
} while (0)

/* The page is broken: no use in converting it, or in coming back later. */
TEST_F(guest, exit_poisoned)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 pfns[2];

	host_fill(g, 0, NR_PAGES, 0xa000);
	pfns[0] = PM_PFN(pagemap_entry(g->mem + 2 * page_size));
	pfns[1] = PM_PFN(pagemap_entry(g->mem + 3 * page_size));
	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(s, 0, NR_PAGES, 0xa000);
	guest_share(s, 3, 1);

	if (!poison_pfn(pfns[0]))
		SKIP(return, "No hwpoison/corrupt-pfn (CONFIG_HWPOISON_INJECT, root)");
	ASSERT_TRUE(poison_pfn(pfns[1]));

	ASSERT_EQ(EHWPOISON, vcpu_do(s, 1, OP_READ, gpa_of(2), 0));
	ASSERT_MEMORY_FAULT(s, 1, 2, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	ASSERT_EQ(EHWPOISON, vcpu_continue(s, 1));
	ASSERT_MEMORY_FAULT(s, 1, 2, KVM_MEMORY_EXIT_FLAG_PRIVATE);

	ASSERT_EQ(EHWPOISON, vcpu_do(s, 0, OP_READ, gpa_of(3), 0));
	ASSERT_MEMORY_FAULT(s, 0, 3, 0);

	/* A hole is the way out, but for a protected VM that has lost what was its own. */
	punch_hole(g, 2, 2);
	ASSERT_EQ(0, vcpu_continue(s, 0));
	ASSERT_EQ(0, s->regs[0].result);
#ifdef __x86_64__
	ASSERT_EQ(0, vcpu_continue(s, 1));
	ASSERT_EQ(0, s->regs[1].result);
#else
	ASSERT_EQ(EHWPOISON, vcpu_continue(s, 1));
#endif
	ASSERT_GUEST_SEES(s, 4, NR_PAGES - 4, 0xa000);
}

/* Let the vCPU read a page within a cgroup, and return the errno. */
static int vcpu_read_in_cgroup(struct guest *s, u64 page, const char *cgroup, const char *home)
{
	char procs[192];
	int ret, fd, root;

	/* Once in there, files can't be opened, not even by the kernel. */
	root = open(CGROUP "/cgroup.procs", O_RDONLY);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", home);
	fd = open(procs, O_WRONLY);
	if (root < 0 || fd < 0 || !cgroup_write(cgroup, "cgroup.procs", "0"))
		_exit(100);
	ret = vcpu_do(s, 0, OP_READ, gpa_of(page), 0);
	if (write(fd, "0", 1) != 1)
		_exit(101);
	close(fd);
	close(root);
	return ret;
}

static int child_without_memory(const char *cgroup)
{
	struct guest s;
#ifdef __x86_64__
	struct kvm_run *run;
#endif
	char home[160];

	alarm(20);
	if (!write_str("/proc/self/oom_score_adj", "-1000"))
		return 1;
	cgroup_of_self(home, sizeof(home));

	guest_create(&s, NR_PAGES * page_size);
	gmem_set_private(s.g.fd, 0, s.g.size, PRESERVE);
	guest_fill(&s, 0, 4, 0xa100);

	/* Allocate all that it takes but for the page of the guest. */
	if (mlockall(MCL_CURRENT) || vcpu_read_in_cgroup(&s, 4, cgroup, home))
		return 2;
	if (nr_allocated(&s.g) != 5 || rmdir(cgroup) || mkdir(cgroup, 0755) ||
	    !cgroup_write(cgroup, "memory.max", "0"))
		return 3;

	if (vcpu_read_in_cgroup(&s, 5, cgroup, home) != ENOMEM)
		return 4;
#ifdef __x86_64__
	/* On arm64 there is no memory for the record of the page in the first place. */
	run = s.vcpus[0]->run;
	if (run->exit_reason != KVM_EXIT_MEMORY_FAULT || run->memory_fault.gpa != gpa_of(5) ||
	    run->memory_fault.flags != KVM_MEMORY_EXIT_FLAG_PRIVATE)
		return 5;
#endif
	if (nr_allocated(&s.g) != 5)
		return 6;

	if (vcpu_continue(&s, 0) || s.regs[0].result || nr_allocated(&s.g) != 6)
		return 7;
	if (guest_match(&s, 0, 4, 0xa100) != ALL || first_shared(s.g.fd, 0, s.g.size) != s.g.size)
		return 8;
	gmem_close(&s.g);
	return 0;
}

#define PRINTK		"/proc/sys/kernel/printk"

/*
 * There is no memory now: come back later, and there is.
 *
 * A child does it, which is exempt from the OOM killer.  What the latter reports is kept
 * off the console.
 */
TEST(exit_without_memory)
{
	char printk[64] = "";
	const char *cgroup;
	int status = -1;
	pid_t pid;

	cgroup = cgroup_create("gmem_without_memory");
	if (!cgroup)
		SKIP(return, "No memory controller in " CGROUP);

	read_str(PRINTK, printk, sizeof(printk));
	write_str(PRINTK, "1");
	pid = fork();
	if (!pid)
		_exit(child_without_memory(cgroup));
	waitpid(pid, &status, 0);
	write_str(PRINTK, printk);
	rmdir(cgroup);
	ASSERT_EQ(0, status);
}

/* The page is in the other state: convert it, or tell the guest that it's mistaken. */
TEST_F(guest, exit_to_convert)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	host_fill(g, 0, NR_PAGES, 0xa200);
	ASSERT_CONVERTS(g, 0, 4, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(s, 0, 4, 0xa200);
#ifdef __x86_64__
	/*
	 * The guest of a software-protected VM is never mistaken about a page of the file.
	 * But it is if there is no page.
	 */
	ASSERT_EQ(0, set_slot(g, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, 0, g->mem, 0));
	ASSERT_EQ(0, set_vm_attributes(g->vm, TEST_GPA, g->size, PRIVATE));
#endif
	ASSERT_EQ(EFAULT, vcpu_do(s, 0, OP_READ, gpa_of(5), 0));
	ASSERT_MEMORY_FAULT(s, 0, 5, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	ASSERT_EQ(EFAULT, vcpu_continue(s, 0));
	ASSERT_MEMORY_FAULT(s, 0, 5, KVM_MEMORY_EXIT_FLAG_PRIVATE);
#ifdef __x86_64__
	ASSERT_EQ(0, set_vm_attributes(g->vm, TEST_GPA, g->size, SHARED));
	ASSERT_EQ(0, set_slot(g, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, g->size, g->mem, 0));
#else
	ASSERT_CONVERTS(g, 5, 1, PRIVATE, PRESERVE);
#endif
	ASSERT_EQ(0, vcpu_continue(s, 0));
	ASSERT_EQ(0xa205, s->regs[0].result);
	ASSERT_GUEST_SEES(s, 0, 4, 0xa200);
}

/*
 * Processes
 */
struct vmm {
	const char *cgroup;
	u64 size;
	int ready[2];
};

/* A VMM in full swing: a vCPU that runs, and a file that is converted all the time. */
static void vmm_run(struct vmm *v)
{
	const u64 nr = v->size / page_size;
	struct runner r;
	struct guest s;
	char c = 0;
	u64 i;

	/* In case that the parent dies first. */
	alarm(20);
	if (!cgroup_write(v->cgroup, "cgroup.procs", "0"))
		_exit(1);

	guest_create(&s, v->size);
	for (i = 0; i < nr; i++)
		*first_word(s.g.mem + i * page_size) = i;
	gmem_set_private(s.g.fd, 0, v->size / 2, PRESERVE);
	runner_start(&r, &s, 0, 0, nr / 8);
	while (READ_ONCE(s.rounds[0]) < nr / 8)
		usleep(1000);

	if (write(v->ready[1], &c, 1) != 1)
		_exit(1);
	for (;;) {
		gmem_set_private(s.g.fd, v->size / 2, v->size / 2, PRESERVE);
		gmem_set_shared(s.g.fd, v->size / 2, v->size / 2, PRESERVE);
	}
}

/* By the time that a VMM which was killed is gone, so is its memory, whatever its state. */
TEST(killed_vmm)
{
	struct vmm v = { .size = SZ_2M };
	/* What CPUs keep for the cgroup, but less than half the file. */
	const u64 slack = v.size * 3 / 8;
	u64 with, after;
	int status;
	pid_t pid;
	char c;

	v.cgroup = cgroup_create("gmem_killed_vmm");
	if (!v.cgroup)
		SKIP(return, "No memory controller in " CGROUP);

	ASSERT_EQ(0, pipe(v.ready));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		vmm_run(&v);
	close(v.ready[1]);

	EXPECT_EQ(1, read(v.ready[0], &c, 1));
	with = cgroup_current(v.cgroup);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	after = cgroup_current(v.cgroup);

	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_LE(v.size, with);
	EXPECT_GE(slack, after) {
		TH_LOG("%lu KiB before, %lu KiB after", with / SZ_1K, after / SZ_1K);
	}
	close(v.ready[0]);
	rmdir(v.cgroup);
}

/*
 * Waiting
 */
FIXTURE(waits) {
};

FIXTURE_SETUP(waits)
{
}

FIXTURE_TEARDOWN(waits)
{
}

/* Seconds; these handle much memory, and on a machine that has other work as well. */
#define WAITS_TIMEOUT	180

struct worker {
	struct gmem *g;
	u64 from;
	int mode;
	int ret;
	bool begun;
	bool done;
};

static void *fallocate_thread(void *__w)
{
	struct worker *w = __w;

	w->ret = fallocate(w->g->fd, w->mode | FALLOC_FL_KEEP_SIZE, page_size,
			   w->g->size - page_size) ? errno : 0;
	WRITE_ONCE(w->done, true);
	return NULL;
}

/*
 * How often the first page is converted while all others are allocated or freed, that
 * is when some of them are there and some aren't.
 */
static u64 conversions_during(struct worker *w)
{
	const u64 all = w->g->size / page_size - 1;
	pthread_t thread;
	u64 nr = 0, there;

	WRITE_ONCE(w->done, false);
	pthread_create(&thread, NULL, fallocate_thread, w);
	while (!READ_ONCE(w->done)) {
		gmem_set_private(w->g->fd, 0, page_size, 0);
		gmem_set_shared(w->g->fd, 0, page_size, 0);
		there = nr_allocated(w->g);
		if (there && there < all)
			nr++;
	}
	pthread_join(thread, NULL);
	return nr;
}

/* fallocate() of a large range lets others have the file now and then. */
TEST_F_TIMEOUT(waits, fallocate_lets_others_in, WAITS_TIMEOUT)
{
	u64 allocating = 0, punching = 0;
	struct gmem g = {};
	struct worker w = { .g = &g };
	int i;

	gmem_open(&g, SZ_128M, IN_PLACE);
	for (i = 0; i < 3 && (allocating < 4 || punching < 4); i++) {
		w.mode = 0;
		allocating = max(allocating, conversions_during(&w));
		ASSERT_EQ(0, w.ret);
		ASSERT_EQ(g.size / page_size - 1, nr_allocated(&g));

		w.mode = FALLOC_FL_PUNCH_HOLE;
		punching = max(punching, conversions_during(&w));
		ASSERT_EQ(0, w.ret);
		ASSERT_EQ(0, nr_allocated(&g));
	}
	TH_LOG("%lu conversions back and forth during allocation, %lu while punching a hole",
	       allocating, punching);
	EXPECT_LE(4, allocating);
	EXPECT_LE(4, punching);
	gmem_close(&g);
}

static void *zero_thread(void *__w)
{
	struct worker *w = __w;

	WRITE_ONCE(w->begun, true);
	w->ret = convert(w->g->fd, w->from, w->g->size - w->from, SHARED, ZERO, NULL);
	WRITE_ONCE(w->done, true);
	return NULL;
}

/* While all other pages are converted, the first one is, again and again. */
TEST_F_TIMEOUT(waits, conversion_lets_others_in, WAITS_TIMEOUT)
{
	struct gmem g = {};
	struct worker w = { .g = &g, .from = page_size };
	pthread_t thread;
	u64 nr, most = 0;
	int i;

	gmem_open(&g, SZ_128M, IN_PLACE);
	gmem_map(&g);
	ASSERT_EQ(0, fallocate(g.fd, FALLOC_FL_KEEP_SIZE, 0, g.size));
	for (i = 0; i < 5 && most < 8; i++) {
		memset(g.mem, 0x5a, g.size);
		gmem_set_private(g.fd, 0, g.size, 0);
		w.begun = false;
		w.done = false;

		pthread_create(&thread, NULL, zero_thread, &w);
		while (!READ_ONCE(w.begun))
			;
		for (nr = 0; !READ_ONCE(w.done); nr++) {
			gmem_set_shared(g.fd, 0, page_size, 0);
			ASSERT_EQ(0x5a, *g.mem);
			gmem_set_private(g.fd, 0, page_size, 0);
		}
		pthread_join(thread, NULL);
		most = max(most, nr);

		ASSERT_EQ(0, w.ret);
		gmem_set_shared(g.fd, 0, page_size, 0);
		ASSERT_EQ(0x5a, *g.mem);
		ASSERT_EQ(0, g.mem[page_size]);
		ASSERT_EQ(0, g.mem[g.size - page_size]);
	}
	TH_LOG("%lu conversions back and forth beside another", most);
	EXPECT_LE(8, most);
	gmem_close(&g);
}

/* A VMM that touches a page, itself or by its guest, when it is told to. */
static void touch_in_turn(bool guest, u64 size, int from, int to)
{
	struct guest s;
	char c;
	u64 i;

	/* In case that the parent dies first. */
	alarm(WAITS_TIMEOUT);
	guest_create_vm(&s, NR_PAGES * page_size);
	s.g.size = size;
	s.g.fd = vm_create_guest_memfd(s.g.vm, s.g.size, IN_PLACE);
	gmem_map(&s.g);
	vm_set_user_memory_region2(s.g.vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA,
				   NR_PAGES * page_size, s.g.mem, s.g.fd, 0);
	for (i = 0; i < s.g.size / page_size; i++)
		*first_word(s.g.mem + i * page_size) = i;
	gmem_set_private(s.g.fd, 0, s.g.size, PRESERVE);

	if (write(to, &s.g.fd, sizeof(s.g.fd)) != sizeof(s.g.fd) || read(from, &c, 1) != 1)
		_exit(1);
	if (guest)
		vcpu_do(&s, 0, OP_READ, gpa_of(3), 0);
	else
		READ_ONCE(*first_word(s.g.mem + 3 * page_size));
	_exit(0);
}

/*
 * Kill a VMM that waits for a conversion by this process.  Return 1 if it is gone well
 * before the conversion is over, 0 if it isn't, and -1 if it didn't get to wait.
 */
static int kill_while_converting(struct __test_metadata *_metadata, bool guest, u64 size)
{
	int to_child[2], to_parent[2], status, fd;
	struct gmem g = { .size = size };
	struct worker w = { .g = &g };
	bool converting;
	pthread_t thread;
	pid_t pid;
	char c = 0;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		touch_in_turn(guest, size, to_child[0], to_parent[1]);
	close(to_child[0]);
	close(to_parent[1]);

	ASSERT_EQ(sizeof(fd), read(to_parent[0], &fd, sizeof(fd)));
	g.fd = syscall(__NR_pidfd_getfd, syscall(__NR_pidfd_open, pid, 0), fd, 0);
	ASSERT_LE(0, g.fd);

	pthread_create(&thread, NULL, zero_thread, &w);
	usleep(10000);
	ASSERT_EQ(1, write(to_child[1], &c, 1));
	usleep(20000);
	converting = !READ_ONCE(w.done);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	usleep(10000);
	if (!converting || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		status = -1;
	else
		status = !READ_ONCE(w.done);

	pthread_join(thread, NULL);
	close(g.fd);
	close(to_child[1]);
	close(to_parent[0]);
	return status;
}

static void kill_waiting(struct __test_metadata *_metadata, bool guest)
{
	int ret = -1;
	u64 size;

	/* As large as it takes for the conversion to be the slower one. */
	for (size = SZ_32M; size <= SZ_512M && ret != 1; size *= 2)
		ret = kill_while_converting(_metadata, guest, size);
	if (ret < 0)
		SKIP(return, "Conversions are too fast here");
	EXPECT_EQ(1, ret);
}

/* A fatal signal ends the wait for a conversion, whether it is the VMM's or its guest's. */
TEST_F_TIMEOUT(waits, killed_waiting_vmm, WAITS_TIMEOUT)
{
	kill_waiting(_metadata, false);
}

TEST_F_TIMEOUT(waits, killed_waiting_guest, WAITS_TIMEOUT)
{
	kill_waiting(_metadata, true);
}

/* What the child does that has the file, but not the VM. */
static int other_process_does(struct gmem *own, int from, int to)
{
	char c = 0;

	if (own->fd < 0)
		return 1;
	gmem_map(own);

	if (host_match(own, 0, NR_PAGES, 0xb000) != ALL)
		return 2;
	if (convert_pages(own, 2, 4, PRIVATE, PRESERVE, NULL))
		return 3;
	if (can_read(own->mem + 2 * page_size) || !can_read(own->mem + 6 * page_size))
		return 4;
	if (write(to, &c, 1) != 1 || read(from, &c, 1) != 1)
		return 5;

	/* The guest has been there meanwhile, and has shared two of them again. */
	if (is_private(own->fd, 4 * page_size) || !is_private(own->fd, 3 * page_size))
		return 6;
	if (host_match(own, 4, 2, 0xb100) != ALL)
		return 7;
	host_fill(own, 4, 2, 0xb200);
	if (write(to, &c, 1) != 1 || read(from, &c, 1) != 1)
		return 8;

	/* The other one, the VM and its mappings are gone. */
	if (!is_private(own->fd, 2 * page_size) || can_read(own->mem + 2 * page_size))
		return 9;
	if (convert_pages(own, 8, 8, PRIVATE, PRESERVE, NULL))
		return 10;
#ifdef __aarch64__
	/* The file keeps the VM alive, and the guest's pages the guest's, unless punched. */
	if (convert_pages(own, 0, NR_PAGES, SHARED, PRESERVE, NULL) != EPERM)
		return 10;
	punch_hole(own, 2, 2);
#endif
	if (convert_pages(own, 0, NR_PAGES, SHARED, PRESERVE, NULL))
		return 10;
	if (host_match(own, 0, 2, 0xb000) != ALL || host_match(own, 8, 8, 0xb000) != ALL ||
	    host_match(own, 4, 2, 0xb200) != ALL)
		return 11;
#ifdef __x86_64__
	if (host_match(own, 2, 2, 0xb100) != ALL)
		return 12;
#else
	if (host_match_byte(own, 2, 2, 0) != ALL)
		return 12;
#endif
	return nr_allocated(own) == NR_PAGES ? 0 : 13;
}

/*
 * A process that holds the file may convert, even if it has nothing else of the VM and
 * got the file after all was set up.
 */
TEST(other_process)
{
	int to_child[2], to_parent[2], status, fd;
	struct guest s;
	struct gmem *g = &s.g;
	pid_t pid;
	char c = 0;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct gmem own = { .size = NR_PAGES * page_size, .fd = -1 };

		close(to_child[1]);
		close(to_parent[0]);
		if (read(to_child[0], &fd, sizeof(fd)) == sizeof(fd))
			own.fd = syscall(__NR_pidfd_getfd,
					 syscall(__NR_pidfd_open, getppid(), 0), fd, 0);
		_exit(other_process_does(&own, to_child[0], to_parent[1]));
	}
	close(to_child[0]);
	close(to_parent[1]);

	guest_create(&s, NR_PAGES * page_size);
	host_fill(g, 0, NR_PAGES, 0xb000);
	ASSERT_EQ(sizeof(g->fd), write(to_child[1], &g->fd, sizeof(g->fd)));

	ASSERT_EQ(1, read(to_parent[0], &c, 1));
	ASSERT_STATE(g, 0, 2, SHARED);
	ASSERT_STATE(g, 2, 4, PRIVATE);
	ASSERT_STATE(g, 6, NR_PAGES - 6, SHARED);
	ASSERT_GUEST_SEES(&s, 2, 4, 0xb000);
	guest_fill(&s, 2, 4, 0xb100);
	guest_share(&s, 4, 2);
	ASSERT_EQ(1, write(to_child[1], &c, 1));

	ASSERT_EQ(1, read(to_parent[0], &c, 1));
	ASSERT_HOST_SEES(g, 4, 2, 0xb200);
	ASSERT_GUEST_SEES(&s, 4, 2, 0xb200);
	ASSERT_GUEST_SEES(&s, 2, 2, 0xb100);
	gmem_close(g);
	ASSERT_EQ(1, write(to_child[1], &c, 1));

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status) {
		TH_LOG("The other process failed at step %d", WEXITSTATUS(status));
	}
	close(to_child[1]);
	close(to_parent[0]);
}

/* A VM is gone, its file and the mapping of it aren't, and there's a new VM. */
TEST_F(guest, new_vm_beside_old_file)
{
	struct gmem *old = &self->s.g;
	struct guest new;
	u8 *mem;

	host_fill(old, 0, NR_PAGES, 0xc000);
	ASSERT_CONVERTS(old, 0, 8, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&self->s, 0, 4, 0xc000);
	guest_fill(&self->s, 0, 4, 0xc100);

	kvm_vm_free(old->vm);
	old->vm = NULL;
	guest_create(&new, NR_PAGES * page_size);

	/* The file is the old VM's for ever. */
	mem = old->mem;
	ASSERT_EQ(EINVAL, __vm_set_user_memory_region2(new.g.vm, OTHER_SLOT, KVM_MEM_GUEST_MEMFD,
						       ALIAS_GPA, old->size, mem, old->fd, 0) ?
			  errno : 0);

	/* Neither VM's memory is any business of the other one. */
	ASSERT_STATE(&new.g, 0, NR_PAGES, SHARED);
	ASSERT_STATE(old, 0, 8, PRIVATE);
	ASSERT_STATE(old, 8, 8, SHARED);
	ASSERT_HOST_SEES(old, 8, 8, 0xc000);
	ASSERT_CONVERTS(&new.g, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES_WORD(&new, 0, NR_PAGES, 0);
	guest_fill(&new, 0, NR_PAGES, 0xc200);
	ASSERT_HOST_SEES(old, 8, 8, 0xc000);
	ASSERT_CONVERTS(old, 4, 12, PRIVATE, PRESERVE);
	ASSERT_GUEST_SEES(&new, 0, NR_PAGES, 0xc200);
#ifdef __aarch64__
	/* The file keeps the VM alive, and the guest's pages the guest's, unless punched. */
	ASSERT_CONVERT_FAILS(EPERM, 0, old, 0, NR_PAGES, SHARED, PRESERVE);
	punch_hole(old, 0, 4);
#endif
	ASSERT_CONVERTS(old, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_HOST_SEES(old, 4, 12, 0xc000);
#ifdef __x86_64__
	ASSERT_HOST_SEES(old, 0, 4, 0xc100);
#else
	ASSERT_HOST_SEES_BYTE(old, 0, 4, 0);
#endif
	ASSERT_STATE(&new.g, 0, NR_PAGES, PRIVATE);
	ASSERT_GUEST_SEES(&new, 0, NR_PAGES, 0xc200);

#ifdef __x86_64__
	/* By address the new one gets what the host sees, and as long as it does. */
	host_fill(old, 0, NR_PAGES, 0xc300);
	vm_set_user_memory_region(new.g.vm, ALIAS_SLOT, 0, ALIAS_GPA, old->size, mem);
	ASSERT_EQ(0, vcpu_do(&new, 1, OP_READ, alias_of(7), 0));
	ASSERT_EQ(0xc307, new.regs[1].result);
	ASSERT_CONVERTS(old, 0, NR_PAGES, PRIVATE, PRESERVE);
	ASSERT_EQ(EFAULT, vcpu_do(&new, 1, OP_READ, alias_of(7), 0));
	ASSERT_CONVERTS(old, 0, NR_PAGES, SHARED, PRESERVE);
	ASSERT_EQ(0, vcpu_continue(&new, 1));
	ASSERT_EQ(0xc307, new.regs[1].result);
#endif
	ASSERT_EQ(NR_PAGES, nr_allocated(old));
	ASSERT_EQ(NR_PAGES, nr_allocated(&new.g));
	gmem_close(&new.g);
}

/*
 * What KVM writes to the guest's memory by itself
 */
#ifdef __x86_64__
/* Each vCPU has a clock and its stolen time in page 0. */
#define CLOCK_OFFSET(cpu)	(64 * (cpu))
#define STEAL_OFFSET(cpu)	(1024 + 64 * (cpu))

static u32 clock_version(struct guest *s, int cpu)
{
	struct pvclock_vcpu_time_info *pvti = (void *)(s->g.mem + CLOCK_OFFSET(cpu));

	return READ_ONCE(pvti->version);
}

static u32 steal_version(struct guest *s, int cpu)
{
	struct kvm_steal_time *st = (void *)(s->g.mem + STEAL_OFFSET(cpu));

	return READ_ONCE(st->version);
}

/* Have the vCPU run, with all reason to update both. */
static int run_and_update(struct guest *s, int cpu)
{
	vcpu_ioctl(s->vcpus[cpu], KVM_KVMCLOCK_CTRL, NULL);
	return vcpu_do(s, cpu, OP_READ, gpa_of(4), 0);
}

static u64 guest_word(struct guest *s, gpa_t gpa)
{
	int ret = vcpu_do(s, 0, OP_READ, gpa, 0);

	TEST_ASSERT(!ret, "The guest can't read 0x%lx, errno = %d", gpa, ret);
	return s->regs[0].result;
}

TEST_F(guest, clock_and_stolen_time)
{
	/* The guest's words: a version, and what's behind it. */
	const u64 canary = 0x1111222233334444;
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	const gpa_t steal_gpa = TEST_GPA + STEAL_OFFSET(0) +
				offsetof(struct kvm_steal_time, version);
	u32 clock, steal;
	struct kvm_clock_data now = {};
	struct runner r[NR_VCPUS];
	u64 i, cpu, before;

	for (cpu = 0; cpu < NR_VCPUS; cpu++) {
		vcpu_set_msr(s->vcpus[cpu], MSR_KVM_SYSTEM_TIME_NEW,
			     (TEST_GPA + CLOCK_OFFSET(cpu)) | 1);
		vcpu_set_msr(s->vcpus[cpu], MSR_KVM_STEAL_TIME,
			     (TEST_GPA + STEAL_OFFSET(cpu)) | KVM_MSR_ENABLED);
	}

	for (i = 0; i < 3; i++) {
		/* Shared: KVM writes, and both see it. */
		ASSERT_EQ(0, run_and_update(s, 0));
		clock = clock_version(s, 0);
		steal = steal_version(s, 0);
		ASSERT_EQ(0, run_and_update(s, 0));
		ASSERT_NE(clock, clock_version(s, 0));
		ASSERT_NE(steal, steal_version(s, 0));
		clock = clock_version(s, 0);
		ASSERT_EQ(clock, (u32)guest_word(s, TEST_GPA + CLOCK_OFFSET(0)));

		/* Private: KVM doesn't get there, and doesn't mind. */
		ASSERT_CONVERTS(g, 0, 1, PRIVATE, PRESERVE);
		ASSERT_EQ(0, vcpu_do(s, 0, OP_WRITE, TEST_GPA + CLOCK_OFFSET(0), canary + i));
		ASSERT_EQ(0, vcpu_do(s, 0, OP_WRITE, TEST_GPA + STEAL_OFFSET(0), canary + i));
		before = guest_word(s, steal_gpa);
		ASSERT_EQ(0, run_and_update(s, 0));
		ASSERT_EQ(0, run_and_update(s, 0));
		ASSERT_STATE(g, 0, 1, PRIVATE);
		ASSERT_EQ(canary + i, guest_word(s, TEST_GPA + CLOCK_OFFSET(0)));
		ASSERT_EQ(canary + i, guest_word(s, TEST_GPA + STEAL_OFFSET(0)));
		ASSERT_EQ(before, guest_word(s, steal_gpa));

		/* The host gets to see what the guest has left there. */
		ASSERT_CONVERTS(g, 0, 1, SHARED, PRESERVE);
		ASSERT_EQ(canary + i, *(u64 *)(g->mem + CLOCK_OFFSET(0)));
		ASSERT_EQ(canary + i, *(u64 *)(g->mem + STEAL_OFFSET(0)));
	}

	/* The same while the vCPUs run, and have KVM write all the time. */
	for (cpu = 0; cpu < NR_VCPUS; cpu++)
		runner_start(&r[cpu], s, cpu, 4, 8);
	for (i = 0; i < 50 || READ_ONCE(s->rounds[0]) < 50 || READ_ONCE(s->rounds[1]) < 50; i++) {
		vm_ioctl(g->vm, KVM_SET_CLOCK, &now);
		ASSERT_EQ(0, convert_patiently(g, 0, 1, PRIVATE));
		vm_ioctl(g->vm, KVM_SET_CLOCK, &now);
		ASSERT_CONVERTS(g, 0, 1, SHARED, PRESERVE);
	}
	for (cpu = 0; cpu < NR_VCPUS; cpu++)
		ASSERT_EQ(0, runner_stop(&r[cpu]));

	for (cpu = 0; cpu < NR_VCPUS; cpu++) {
		clock = clock_version(s, cpu);
		steal = steal_version(s, cpu);
		ASSERT_EQ(0, run_and_update(s, cpu));
		ASSERT_EQ(0, run_and_update(s, cpu));
		ASSERT_NE(clock, clock_version(s, cpu));
		ASSERT_NE(steal, steal_version(s, cpu));
	}
}
#else
/* Start the stolen time of a vCPU anew, and return whether the guest got its address. */
static bool pv_time_st(struct guest *s, int cpu)
{
	int ret = vcpu_do(s, cpu, OP_HVC, 0, PV_TIME_ST);

	TEST_ASSERT(!ret, "PV_TIME_ST failed, errno = %d", ret);
	return s->regs[cpu].result == TEST_GPA + 64 * cpu;
}

TEST_F(guest, clock_and_stolen_time)
{
	const u64 canary = 0x1111222233334444;
	struct kvm_device_attr dev = {
		.group = KVM_ARM_VCPU_PVTIME_CTRL,
		.attr = KVM_ARM_VCPU_PVTIME_IPA,
	};
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 i, cpu, ipa;
	struct runner r;

	if (__vcpu_ioctl(s->vcpus[0], KVM_HAS_DEVICE_ATTR, &dev))
		SKIP(return, "No stolen time (CONFIG_SCHED_INFO)");
	for (cpu = 0; cpu < NR_VCPUS; cpu++) {
		ipa = TEST_GPA + 64 * cpu;
		dev.addr = (uintptr_t)&ipa;
		vcpu_ioctl(s->vcpus[cpu], KVM_SET_DEVICE_ATTR, &dev);
	}

	ASSERT_CONVERTS(g, 0, NR_PAGES, PRIVATE, PRESERVE);
	for (i = 0; i < 3; i++) {
		/* Private: KVM doesn't get there, and doesn't mind. */
		ASSERT_EQ(0, vcpu_do(s, 0, OP_WRITE, TEST_GPA, canary + i));
		ASSERT_EQ(0, vcpu_do(s, 0, OP_WRITE, TEST_GPA + 64, canary + i));
		ASSERT_TRUE(pv_time_st(s, 0));
		ASSERT_TRUE(pv_time_st(s, 1));
		ASSERT_STATE(g, 0, 1, PRIVATE);
		ASSERT_EQ(0, vcpu_do(s, 0, OP_READ, TEST_GPA, 0));
		ASSERT_EQ(canary + i, s->regs[0].result);
		ASSERT_EQ(0, vcpu_do(s, 0, OP_READ, TEST_GPA + 64, 0));
		ASSERT_EQ(canary + i, s->regs[0].result);

		/* Shared: KVM writes, and both see it. */
		guest_share(s, 0, 1);
		ASSERT_EQ(canary + i, *(u64 *)g->mem);
		ASSERT_TRUE(pv_time_st(s, 0));
		ASSERT_EQ(0, *(u64 *)g->mem);
		ASSERT_EQ(canary + i, *(u64 *)(g->mem + 64));
		ASSERT_EQ(0, vcpu_do(s, 0, OP_READ, TEST_GPA, 0));
		ASSERT_EQ(0, s->regs[0].result);

		/* The state of the file is what counts for the host, and that's the VMM's. */
		ASSERT_CONVERTS(g, 0, 1, PRIVATE, PRESERVE);
		ASSERT_EQ(0, vcpu_do(s, 0, OP_WRITE, TEST_GPA, canary + i));
		ASSERT_TRUE(pv_time_st(s, 0));
		ASSERT_EQ(0, vcpu_do(s, 0, OP_READ, TEST_GPA, 0));
		ASSERT_EQ(canary + i, s->regs[0].result);

		/* Leave it shared by the guest's account, so that it can be converted freely. */
		if (i == 2)
			break;
		ASSERT_EQ(0, vcpu_do(s, 0, OP_HVC, TEST_GPA, MEM_UNSHARE));
		ASSERT_EQ(0, s->regs[0].result);
	}

	/* The same while a vCPU runs, and has KVM write each time that it enters the guest. */
	runner_start(&r, s, 1, 4, 8);
	for (i = 0; i < 50 || READ_ONCE(s->rounds[1]) < 50; i++) {
		ASSERT_CONVERTS(g, 0, 1, SHARED, PRESERVE);
		ASSERT_EQ(0, convert_patiently(g, 0, 1, PRIVATE));
	}
	ASSERT_EQ(0, runner_stop(&r));
	ASSERT_EQ(0, vcpu_do(s, 0, OP_READ, TEST_GPA, 0));
	ASSERT_EQ(canary + 2, s->regs[0].result);
	ASSERT_STATE(g, 0, NR_PAGES, PRIVATE);
}
#endif /* __x86_64__ */

int main(int argc, char *argv[])
{
	page_size = getpagesize();
	gmem_require_in_place();

	return test_harness_run(argc, argv);
}
