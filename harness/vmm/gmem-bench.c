// SPDX-License-Identifier: GPL-2.0
/*
 * What conversions cost, in instructions of the host kernel and of this program.
 *
 * Runs in a VM whose time stamp counter counts executed instructions (QEMU's
 * -icount shift=0), so that the numbers repeat on any machine, however busy. The
 * memory belongs to a VM of type KVM_X86_SW_PROTECTED_VM. Each line is the median
 * of several rounds, and how far the rounds are apart.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <linux/kvm.h>

#define PAGE		4096UL
#define PAGES		16384UL			/* 64 MiB */
#define SIZE		(PAGES * PAGE)
#define GPA		0x10000000UL
#define VM_GPA		0x40000000UL		/* memory with two backings */
#define ROUNDS		5
#define EMPTY_SIZE	(1UL << 40)

static int kvm, vm, vcpu;
static int gmem;
static uint8_t *mem;

static int xioctl(int fd, unsigned long request, const void *arg, const char *what)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		err(1, "%s", what);
	return r;
}

static uint64_t instructions(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static int try_convert(int fd, uint64_t offset, uint64_t size, uint64_t attributes)
{
	struct kvm_memory_attributes2 a = {
		.offset = offset,
		.size = size,
		.attributes = attributes,
	};

	return ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &a);
}

static void convert(int fd, uint64_t offset, uint64_t size, uint64_t attributes)
{
	if (try_convert(fd, offset, size, attributes))
		err(1, "KVM_SET_MEMORY_ATTRIBUTES2");
}

static void to_private(void)
{
	convert(gmem, 0, SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

static void to_shared(void)
{
	convert(gmem, 0, SIZE, 0);
}

static void touch(void)
{
	for (unsigned long i = 0; i < SIZE; i += PAGE)
		*(volatile uint8_t *)(mem + i) = 1;
}

static void look(void)
{
	for (unsigned long i = 0; i < SIZE; i += PAGE)
		(void)*(volatile uint8_t *)(mem + i);
}

/* Takes the host's mappings away, and leaves the pages. */
static void forget(void)
{
	if (madvise(mem, SIZE, MADV_DONTNEED))
		err(1, "MADV_DONTNEED");
}

static void guest_faults(uint64_t gpa)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = SIZE };

	while (range.size) {
		if (ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range) && errno != EINTR && errno != EAGAIN)
			err(1, "KVM_PRE_FAULT_MEMORY");
	}
}

static void guest_faults_in_place(void)
{
	guest_faults(GPA);
}

static void guest_faults_two_backings(void)
{
	guest_faults(VM_GPA);
}

static void set_vm_attributes(uint64_t attributes)
{
	struct kvm_memory_attributes a = {
		.address = VM_GPA,
		.size = SIZE,
		.attributes = attributes,
	};

	xioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &a, "KVM_SET_MEMORY_ATTRIBUTES");
}

/* Takes the guest's mappings away, and leaves all else. */
static void vm_unmap(void)
{
	set_vm_attributes(0);
	set_vm_attributes(KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

static void nothing(void)
{
}

static void shared_mapped(void)
{
	to_shared();
	touch();
}

static void shared_guest_mapped(void)
{
	shared_mapped();
	guest_faults_in_place();
}

static void shared_unmapped(void)
{
	to_shared();
	forget();
}

static void private_guest_mapped(void)
{
	to_private();
	guest_faults_in_place();
}

static void round_trip(void)
{
	to_private();
	to_shared();
	touch();
}

static void round_trip_look(void)
{
	to_private();
	to_shared();
	look();
}

static void alternate_first_half(void)
{
	to_shared();
	forget();
	for (unsigned long i = 0; i < PAGES / 2; i += 2)
		convert(gmem, i * PAGE, PAGE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

static void alternate_second_half(void)
{
	for (unsigned long i = PAGES / 2; i < PAGES; i += 2)
		convert(gmem, i * PAGE, PAGE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

/* One page at the end is held by a pipe. */
static int pipe_fds[2];

static void hold_last_page(void)
{
	struct iovec iov = { mem + SIZE - PAGE, PAGE };

	shared_mapped();
	if (vmsplice(pipe_fds[1], &iov, 1, 0) != (ssize_t)PAGE)
		err(1, "vmsplice");
}

static void busy(void)
{
	if (try_convert(gmem, 0, SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE) != -1 || errno != EAGAIN)
		errx(1, "a page that is in use was converted");
}

static void release_page(void)
{
	static char page[PAGE];

	if (read(pipe_fds[0], page, PAGE) != (ssize_t)PAGE)
		err(1, "read");
}

static int empty;

static void empty_to_private(void)
{
	convert(empty, 0, EMPTY_SIZE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

static void empty_to_shared(void)
{
	convert(empty, 0, EMPTY_SIZE, 0);
}

struct step {
	const char *name;
	void (*before)(void);		/* not counted */
	void (*what)(void);
	void (*after)(void);		/* not counted */
	unsigned long divisor;
	const char *unit;
};

static const struct step steps[] = {
	{ "to private, host-mapped", shared_mapped, to_private, nothing, PAGES, "page" },
	{ "to private, host- and guest-mapped", shared_guest_mapped, to_private, nothing, PAGES, "page" },
	{ "to private, mapped by nobody", shared_unmapped, to_private, nothing, PAGES, "page" },
	{ "to shared, not guest-mapped", to_private, to_shared, nothing, PAGES, "page" },
	{ "to shared, guest-mapped", private_guest_mapped, to_shared, nothing, PAGES, "page" },
	{ "host writes again", to_shared, touch, forget, PAGES, "page" },
	{ "host reads again", to_shared, look, forget, PAGES, "page" },
	{ "round trip, host writes", shared_mapped, round_trip, nothing, PAGES, "page" },
	{ "round trip, host reads", shared_mapped, round_trip_look, nothing, PAGES, "page" },
	{ "nothing to change", to_private, to_private, nothing, 1, "call" },
	{ "alternate pages, not mapped", alternate_first_half, alternate_second_half, nothing,
	  PAGES / 4, "call" },
	{ "EAGAIN for the last page", hold_last_page, busy, release_page, PAGES, "page" },
	{ "guest fault, in place", to_private, guest_faults_in_place, to_shared, PAGES, "page" },
	{ "guest fault, two backings", vm_unmap, guest_faults_two_backings, nothing, PAGES, "page" },
	{ "empty file of 1 TiB to private", nothing, empty_to_private, nothing, 1, "call" },
	{ "empty file of 1 TiB to shared", empty_to_private, empty_to_shared, nothing, 1, "call" },
};

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void measure(const struct step *s)
{
	uint64_t count[ROUNDS], t;

	/* One more round at the beginning, for all that is allocated once. */
	for (int i = -1; i < ROUNDS; i++) {
		s->before();
		t = instructions();
		s->what();
		t = instructions() - t;
		s->after();
		if (i >= 0)
			count[i] = t;
	}
	qsort(count, ROUNDS, sizeof(*count), compare);
	printf("%-36s %10.1f a %-5s +- %.2f %%\n", s->name,
	       (double)count[ROUNDS / 2] / s->divisor, s->unit,
	       50.0 * (count[ROUNDS - 1] - count[0]) / count[ROUNDS / 2]);
	fflush(stdout);
}

static int create_gmem(uint64_t size, uint64_t flags)
{
	struct kvm_create_guest_memfd create = { .size = size, .flags = flags };

	return xioctl(vm, KVM_CREATE_GUEST_MEMFD, &create, "KVM_CREATE_GUEST_MEMFD");
}

static void add_slot(uint32_t slot, uint64_t gpa, void *host, int fd)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = gpa,
		.memory_size = SIZE,
		.userspace_addr = (uintptr_t)host,
		.guest_memfd = fd,
	};

	xioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region, "KVM_SET_USER_MEMORY_REGION2");
}

/* Says so if the counter is a clock: then the numbers are times, and nobody should compare them. */
static void check_counter(void)
{
	uint64_t a = instructions(), n;

	for (volatile int i = 0; i < 1000; i++)
		;
	n = instructions() - a;
	if (n < 2000 || n > 20000)
		errx(1, "this is not a machine that counts instructions: %lu for 1000 rounds of a loop",
		     (unsigned long)n);
}

int main(void)
{
	void *other;

	check_counter();

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(1, "/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, (void *)KVM_X86_SW_PROTECTED_VM);
	if (vm < 0)
		err(1, "KVM_CREATE_VM");
	vcpu = xioctl(vm, KVM_CREATE_VCPU, (void *)0, "KVM_CREATE_VCPU");

	gmem = create_gmem(SIZE, GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, gmem, 0);
	other = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	if (mem == MAP_FAILED || other == MAP_FAILED)
		err(1, "mmap");
	add_slot(0, GPA, mem, gmem);
	add_slot(1, VM_GPA, other, create_gmem(SIZE, 0));
	set_vm_attributes(KVM_MEMORY_ATTRIBUTE_PRIVATE);

	empty = create_gmem(EMPTY_SIZE, GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
	if (mmap(NULL, EMPTY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, empty, 0) == MAP_FAILED)
		err(1, "mmap");
	if (pipe(pipe_fds))
		err(1, "pipe");

	printf("Instructions, %lu MiB of memory, %d rounds\n\n", SIZE >> 20, ROUNDS);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++)
		measure(&steps[i]);

	return 0;
}
