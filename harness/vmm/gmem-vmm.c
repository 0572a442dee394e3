// SPDX-License-Identifier: GPL-2.0
/*
 * A small VMM that converts guest memory between private and shared in place.
 *
 * Together with demo.c it needs nothing but <linux/kvm.h>, and it is meant to be
 * read: what a VMM has to do is in the first half (vm_create() to area_convert(), with
 * area_convert_in_place() in demo.c), what this program shows with it in the
 * second.  The VM is of type KVM_X86_SW_PROTECTED_VM, which has private memory but no
 * encryption, so any machine with nested paging will do.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>

#include "demo.h"

/* Guest physical addresses: a page of code, and the memory that is converted. */
#define CODE_GPA	0x1000UL
#define AREA_GPA	0x10000000UL
#define MAX_AREA_MIB	2048

#define CODE_SLOT	0
#define AREA_SLOT	1

/*
 * The guest.  It runs in 32-bit protected mode without paging, so an address
 * is a guest physical address.  Each routine takes its arguments in registers,
 * which the VMM sets before it enters the guest, and ends in HLT, after which
 * the VMM reads the results from the registers.
 */
asm(".pushsection .rodata\n"
    ".code32\n"
    "guest_code:\n"

    /* Read the word at ESI into EAX. */
    "guest_read:\n"
    "	mov	(%esi), %eax\n"
    "	hlt\n"

    /* Write EAX to the word at ESI. */
    "guest_write:\n"
    "	mov	%eax, (%esi)\n"
    "	hlt\n"

    /*
     * In each of ECX pages from ESI on, expect EAX + address in the first word
     * and replace it by EBX + address.  EDI counts the pages that differ.
     */
    "guest_pass:\n"
    "	xor	%edi, %edi\n"
    "1:	lea	(%eax,%esi), %edx\n"
    "	cmp	%edx, (%esi)\n"
    "	je	2f\n"
    "	inc	%edi\n"
    "2:	lea	(%ebx,%esi), %edx\n"
    "	mov	%edx, (%esi)\n"
    "	add	$4096, %esi\n"
    "	dec	%ecx\n"
    "	jnz	1b\n"
    "	hlt\n"

    /* Hypercall EAX with arguments EBX, ECX, EDX.  The answer is in EAX. */
    "guest_hypercall:\n"
    "	vmcall\n"
    "	hlt\n"

    "guest_code_end:\n"
    ".code64\n"
    ".popsection\n");

extern const char guest_code[], guest_code_end[];
extern const char guest_read[], guest_write[], guest_pass[], guest_hypercall[];

struct vm {
	int kvm;
	int fd;
	int vcpu;
	struct kvm_run *run;
	size_t run_size;
	void *code;
	struct area *area;
	/*
	 * With two backings, @area->host is other memory, and @area->gmem holds the
	 * private pages.
	 */
	bool in_place;
	bool discard;		/* two backings: free the side that is left */
};

/* ------------------------------------------------------------------------ */
/* Creating a VM								*/

static void vcpu_set_flat_mode(struct vm *vm)
{
	struct kvm_segment flat = {
		.limit = 0xffffffff, .selector = 0x10, .type = 3,
		.present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_sregs sregs;

	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs))
		err(1, "KVM_GET_SREGS");

	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
	sregs.cs = flat;
	sregs.cs.selector = 0x08;
	sregs.cs.type = 11;
	sregs.cr0 |= 1;		/* protected mode */

	if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs))
		err(1, "KVM_SET_SREGS");
}

static void vm_add_code(struct vm *vm)
{
	struct kvm_userspace_memory_region region = {
		.slot = CODE_SLOT,
		.guest_phys_addr = CODE_GPA,
		.memory_size = PAGE,
	};

	vm->code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->code == MAP_FAILED)
		err(1, "mmap of the guest's code");
	memcpy(vm->code, guest_code, guest_code_end - guest_code);

	region.userspace_addr = (uintptr_t)vm->code;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		err(1, "KVM_SET_USER_MEMORY_REGION");
}

static void vm_create(struct vm *vm)
{
	struct kvm_enable_cap exit_hypercall = {
		.cap = KVM_CAP_EXIT_HYPERCALL,
		.args = { 1UL << KVM_HC_MAP_GPA_RANGE },
	};

	memset(vm, 0, sizeof(*vm));

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		err(1, "/dev/kvm");

	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM);
	if (vm->fd < 0)
		err(1, "KVM_CREATE_VM of type KVM_X86_SW_PROTECTED_VM");

	/* The guest asks for a conversion with a hypercall: pass it on to us. */
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &exit_hypercall))
		err(1, "KVM_CAP_EXIT_HYPERCALL");

	vm_add_code(vm);

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0)
		err(1, "KVM_CREATE_VCPU");

	vm->run = map_run(vm->kvm, vm->vcpu, &vm->run_size);

	vcpu_set_flat_mode(vm);
}

static void vm_destroy(struct vm *vm)
{
	munmap(vm->run, vm->run_size);
	munmap(vm->code, PAGE);
	close(vm->vcpu);
	close(vm->fd);
	close(vm->kvm);
}

/*
 * Give the VM memory at AREA_GPA, all of it shared at first.
 *
 * In place: a guest_memfd which userspace may map.  Such a file keeps track of
 * which of its pages are private.
 */
static void area_create(struct area *area, struct vm *vm, size_t size, bool in_place)
{
	memset(area, 0, sizeof(*area));
	area->vm = vm;
	area->gpa = AREA_GPA;
	area->size = size;
	vm->in_place = in_place;
	vm->discard = true;

	if (in_place) {
		area->gmem = create_gmem(vm->fd, size, GUEST_MEMFD_FLAG_MMAP |
						       GUEST_MEMFD_FLAG_INIT_SHARED);
		area->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
				  area->gmem, 0);
	} else {
		area->gmem = create_gmem(vm->fd, size, 0);
		area->host = mmap(NULL, size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		/* guest_memfd has small pages only: compare like with like. */
		madvise(area->host, size, MADV_NOHUGEPAGE);
	}
	if (area->gmem < 0)
		errx(1, "KVM_CREATE_GUEST_MEMFD failed");
	if (area->host == MAP_FAILED)
		err(1, "mmap of guest memory");

	area_add(area, vm->fd, AREA_SLOT);
	vm->area = area;
}

/* ------------------------------------------------------------------------ */
/* Converting								*/

/*
 * What Linux 7.3 offers: KVM keeps the state for the VM, and the memory that
 * is left has to be freed by hand, contents and all.
 */
static int area_convert_two_backings(struct area *area, uint64_t offset, uint64_t size,
				     bool private)
{
	struct kvm_memory_attributes attr = {
		.address = AREA_GPA + offset,
		.size = size,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};
	int ret;

	if (ioctl(area->vm->fd, KVM_SET_MEMORY_ATTRIBUTES, &attr))
		return -errno;
	if (!area->vm->discard)
		return 0;

	if (private)
		ret = madvise(area->host + offset, size, MADV_DONTNEED);
	else
		ret = fallocate(area->gmem, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				offset, size);
	return ret ? -errno : 0;
}

static int area_convert(struct area *area, uint64_t offset, uint64_t size,
			bool private, uint64_t mode)
{
	if (area->vm->in_place)
		return area_convert_in_place(area, offset, size, private, mode);

	return area_convert_two_backings(area, offset, size, private);
}

/* ------------------------------------------------------------------------ */
/* Running the guest							*/

/* The guest wants @run->hypercall.args[1] pages from args[0] on converted. */
static void handle_map_gpa_range(struct vm *vm)
{
	struct kvm_run *run = vm->run;
	uint64_t offset = run->hypercall.args[0] - AREA_GPA;
	uint64_t size = run->hypercall.args[1] * PAGE;
	bool private = run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED;
	int ret;

	/* These numbers come from the guest.  Trust none of them. */
	if (run->hypercall.args[0] < AREA_GPA || offset >= vm->area->size ||
	    run->hypercall.args[1] > vm->area->size / PAGE ||
	    size > vm->area->size - offset) {
		run->hypercall.ret = -KVM_EINVAL;
		return;
	}

	ret = area_convert(vm->area, offset, size, private,
			   KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	run->hypercall.ret = ret ? -KVM_EINVAL : 0;
}

static void vcpu_run_to_halt(struct vm *vm)
{
	for (;;) {
		if (ioctl(vm->vcpu, KVM_RUN, 0)) {
			if (errno == EINTR)
				continue;
			err(1, "KVM_RUN, exit reason %u", vm->run->exit_reason);
		}

		switch (vm->run->exit_reason) {
		case KVM_EXIT_HLT:
			return;
		case KVM_EXIT_HYPERCALL:
			if (vm->run->hypercall.nr != KVM_HC_MAP_GPA_RANGE)
				errx(1, "unexpected hypercall");
			handle_map_gpa_range(vm);
			break;
		default:
			errx(1, "unexpected exit reason %u", vm->run->exit_reason);
		}
	}
}

/* Run one of the guest's routines with @regs, which are updated. */
static void guest_call(struct vm *vm, const char *routine, struct kvm_regs *regs)
{
	regs->rip = CODE_GPA + (routine - guest_code);
	regs->rflags = 2;	/* always set */

	if (ioctl(vm->vcpu, KVM_SET_REGS, regs))
		err(1, "KVM_SET_REGS");
	vcpu_run_to_halt(vm);
	if (ioctl(vm->vcpu, KVM_GET_REGS, regs))
		err(1, "KVM_GET_REGS");
}

static uint32_t guest_get(struct area *area, uint64_t offset)
{
	struct kvm_regs regs = { .rsi = AREA_GPA + offset };

	guest_call(area->vm, guest_read, &regs);
	return regs.rax;
}

static void guest_set(struct area *area, uint64_t offset, uint32_t value)
{
	struct kvm_regs regs = { .rsi = AREA_GPA + offset, .rax = value };

	guest_call(area->vm, guest_write, &regs);
}

/* The guest asks for a conversion.  Returns what its hypercall returned. */
static int32_t guest_ask(struct area *area, uint64_t offset, uint64_t pages, bool private)
{
	struct kvm_regs regs = {
		.rax = KVM_HC_MAP_GPA_RANGE,
		.rbx = AREA_GPA + offset,
		.rcx = pages,
		.rdx = private ? KVM_MAP_GPA_RANGE_ENCRYPTED : KVM_MAP_GPA_RANGE_DECRYPTED,
	};

	guest_call(area->vm, guest_hypercall, &regs);
	return regs.rax;
}

/* Guest and host go through all pages alike: check one value, leave another. */
size_t guest_touch(struct area *area, uint32_t expect, uint32_t leave)
{
	struct kvm_regs regs = {
		.rsi = AREA_GPA,
		.rcx = area->size / PAGE,
		.rax = expect,
		.rbx = leave,
	};

	guest_call(area->vm, guest_pass, &regs);
	return regs.rdi;
}

/* ------------------------------------------------------------------------ */
/* What is shown: conversions						*/

static void show_preserve(struct area *area)
{
	const uint64_t page = 3 * PAGE;
	uint64_t before;

	heading("The same page, private and shared, contents kept");

	host_set(area, page - PAGE, 0x1111);
	host_set(area, page + PAGE, 0x2222);
	host_set(area, page, 0xbeef);
	get_pfns(area->host + page, 1, &before);
	expect("host writes 0xbeef, host reads", "0xbeef", host_get(area, page));
	expect("guest reads it while it is shared", "0xbeef", hex(guest_get(area, page)));

	expect("convert to private, PRESERVE", "done",
	       answer(area_convert(area, page, PAGE, true, PRESERVE)));
	expect("guest reads", "0xbeef", hex(guest_get(area, page)));
	guest_set(area, page, 0xcafe);
	expect("guest writes 0xcafe, guest reads", "0xcafe", hex(guest_get(area, page)));
	expect("host touches it", "SIGBUS", host_get(area, page));
	expect("read() of the host stores to it", "EFAULT", host_read_syscall(area, page));
	expect("guest still reads", "0xcafe", hex(guest_get(area, page)));
	expect("host reads the page before it", "0x1111", host_get(area, page - PAGE));
	expect("host reads the page after it", "0x2222", host_get(area, page + PAGE));

	expect("convert to shared, PRESERVE", "done",
	       answer(area_convert(area, page, PAGE, false, PRESERVE)));
	expect("host reads through the mapping it had", "0xcafe", host_get(area, page));
	expect_pfn(before, area->host + page);
}

static void show_zero(struct area *area)
{
	const uint64_t page = 3 * PAGE;
	uint64_t where;
	int ret;

	heading("ZERO, and what cannot be promised");

	ret = convert_once(area, page, PAGE, true, ZERO, &where);
	expect("convert to private, ZERO", text("EOPNOTSUPP at 0x%lx", page),
	       answer_at(ret, where));
	expect("host reads, nothing has changed", "0xcafe", host_get(area, page));

	expect("convert to private, PRESERVE", "done",
	       answer(area_convert(area, page, PAGE, true, PRESERVE)));
	guest_set(area, page, 0x5ec7e7);
	expect("guest writes a secret, guest reads", "0x5ec7e7", hex(guest_get(area, page)));
	expect("convert to shared, ZERO", "done",
	       answer(area_convert(area, page, PAGE, false, ZERO)));
	expect("host reads", "0x0", host_get(area, page));
	expect("bytes of that page that are not zero", "0",
	       text("%zu", nonzero_bytes(area->host + page, PAGE)));
	expect("guest reads", "0x0", hex(guest_get(area, page)));

	ret = convert_once(area, page, PAGE, true, ZERO | PRESERVE, &where);
	expect("ZERO and PRESERVE at once", "EINVAL", answer(ret));
}

static void show_hypercall(struct area *area)
{
	const uint64_t page = 3 * PAGE;

	heading("The guest asks");

	host_set(area, page, 0xd00d);
	expect("guest asks for a private page, hypercall returns", "0",
	       text("%d", guest_ask(area, page, 1, true)));
	expect("host touches it", "SIGBUS", host_get(area, page));
	expect("guest reads", "0xd00d", hex(guest_get(area, page)));
	expect("guest asks for it to be shared again", "0",
	       text("%d", guest_ask(area, page, 1, false)));
	expect("host reads", "0xd00d", host_get(area, page));
	expect("guest asks for memory that is not there", "-22",
	       text("%d", guest_ask(area, area->size, 1, true)));
}

static void show_pin(struct area *area, const char *who,
		     int (*pin)(struct area *area, uint64_t offset))
{
	const uint64_t first = 8 * PAGE, size = 8 * PAGE, page = 13 * PAGE;
	uint64_t offset, where;
	int ret, wrong = 0;

	heading(text("A page in use: %s", who));

	for (offset = first; offset < first + size; offset += PAGE)
		host_set(area, offset, 0xf00d0000 + offset / PAGE);

	ret = pin(area, page);
	if (ret) {
		note("pin one page of eight", answer(ret));
		return;
	}

	ret = convert_once(area, first, size, true, PRESERVE, &where);
	expect("convert eight pages to private, the sixth is pinned",
	       text("EAGAIN at 0x%lx", page), answer_at(ret, where));
	for (offset = first; offset < first + size; offset += PAGE)
		wrong += strcmp(host_get(area, offset), hex(0xf00d0000 + offset / PAGE)) != 0;
	expect("pages of these whose state or contents changed", "0", text("%d", wrong));

	expect("convert again, dropping pins on EAGAIN", "done",
	       answer(area_convert(area, first, size, true, PRESERVE)));
	expect("pins left", "0", text("%d", pins_left()));
	expect("guest reads the page that was pinned", hex(0xf00d0000 + page / PAGE),
	       hex(guest_get(area, page)));
	expect("convert back", "done",
	       answer(area_convert(area, first, size, false, PRESERVE)));
}

static void show_both_kinds(struct area *area)
{
	struct kvm_memory_attributes attr = {
		.address = AREA_GPA,
		.size = PAGE,
		.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE,
	};
	struct area other = { .vm = area->vm };
	uint64_t where;
	int ret;

	heading("Who keeps the state");

	ret = ioctl(area->vm->fd, KVM_SET_MEMORY_ATTRIBUTES, &attr) ? -errno : 0;
	expect("per-VM attributes on memory that a file keeps track of", "EINVAL",
	       answer(ret));

	other.gmem = create_gmem(area->vm->fd, PAGE, 0);
	ret = convert_once(&other, 0, PAGE, false, 0, &where);
	expect("this ioctl on a file that the VM keeps track of", "ENOTTY", answer(ret));
	close(other.gmem);
}

/* ------------------------------------------------------------------------ */
/* What is shown: a large area flipped back and forth			*/

int flip_area(struct area *area, bool private)
{
	return area_convert(area, 0, area->size, private, PRESERVE);
}

static void flip(struct flips *flips, size_t size, int rounds, bool in_place, bool discard)
{
	struct area area;
	struct vm vm;

	flips_begin(flips, size);
	vm_create(&vm);
	area_create(&area, &vm, size, in_place);
	vm.discard = discard;

	flips_run(flips, &area, rounds);

	area_destroy(&area);
	vm_destroy(&vm);
	flips_end(flips);
}

#define NR_WAYS	3

/* A time, and how it compares with that of the first way. */
static void print_times(const char *what, struct flips *ways, size_t member)
{
	double first = *(double *)((char *)&ways[0] + member);
	int i;

	printf("%-32s", what);
	for (i = 0; i < NR_WAYS; i++)
		printf("  %13.2f ms", *(double *)((char *)&ways[i] + member));
	printf("\n%-32s", "  compared with in place");
	for (i = 0; i < NR_WAYS; i++)
		printf("  %14.2f x", *(double *)((char *)&ways[i] + member) / first);
	printf("\n");
}

static void print_memory(const char *what, struct flips *ways, size_t member)
{
	int i;

	printf("%-32s", what);
	for (i = 0; i < NR_WAYS; i++)
		printf("  %12.1f MiB", *(long *)((char *)&ways[i] + member) / 1024.0);
	printf("\n");
}

static void print_ways(struct flips *ways, size_t size, int rounds)
{
	enum step step;
	int i;

	printf("\n%-32s", text("%zu MiB, best of %d", size / MIB, rounds));
	for (i = 0; i < NR_WAYS; i++)
		printf("  %16s", ways[i].name);
	printf("\n%-32s  %16s  %16s  %16s\n", "", "", "freed by hand", "both kept");
	printf("--------------------------------"
	       "  ----------------  ----------------  ----------------\n");

	for (step = 0; step < NR_STEPS; step++) {
		printf("%-32s", step_name[step]);
		for (i = 0; i < NR_WAYS; i++)
			printf("  %13.2f ms", ways[i].best[step]);
		printf("\n");
	}
	print_times("both conversions", ways, offsetof(struct flips, conversions));
	print_times("the whole round trip", ways, offsetof(struct flips, total));

	print_memory("memory held before", ways, offsetof(struct flips, rest));
	print_memory("memory held at most", ways, offsetof(struct flips, peak));
	print_memory("memory held afterwards", ways, offsetof(struct flips, after));
	print_memory("memory held after closing", ways, offsetof(struct flips, closed));

	printf("%-32s", "contents after a conversion");
	for (i = 0; i < NR_WAYS; i++)
		printf("  %16s", ways[i].wrong ? "lost" : "kept");
	printf("\n");
}

static void show_flips(size_t size, int rounds)
{
	struct flips ways[NR_WAYS] = {
		{ .name = "in place" },
		{ .name = "two backings" },
		{ .name = "two backings" },
	};

	printf("\nFlipping %zu MiB back and forth, round trips: %d\n", size / MIB, rounds);
	progress("  in place ...\n");
	flip(&ways[0], size, rounds, true, false);
	progress("  with two backings, the one that is left freed by hand ...\n");
	flip(&ways[1], size, rounds, false, true);
	progress("  with two backings, both kept ...\n");
	flip(&ways[2], size, rounds, false, false);
	print_ways(ways, size, rounds);

	heading(text("%zu MiB in place", size / MIB));
	flips_expect(&ways[0], text("%d conversions", 2 * rounds));
	expect("the two-backings ways ran too", "done, done",
	       text("%s, %s", answer(ways[1].ret), answer(ways[2].ret)));
}

/* ------------------------------------------------------------------------ */

static const char *no_vm_type(int kvm)
{
	if (check_cap(kvm, KVM_CAP_VM_TYPES) & (1 << KVM_X86_SW_PROTECTED_VM))
		return NULL;
	return "KVM has no VM type KVM_X86_SW_PROTECTED_VM here: it wants "
	       "CONFIG_KVM_SW_PROTECTED_VM=y and nested paging.";
}

int main(int argc, char *argv[])
{
	struct options options = {
		.program = "gmem-vmm", .max_mib = MAX_AREA_MIB, .mib = 256, .rounds = 3,
	};
	struct area area;
	struct vm vm;
	int plain;

	parse_options(&options, argc, argv);
	require_capability(no_vm_type);
	catch_sigbus();

	vm_create(&vm);
	plain = ioctl(vm.kvm, KVM_CREATE_VM, KVM_X86_DEFAULT_VM);
	show_capabilities(vm.kvm, vm.fd, plain);
	close(plain);

	area_create(&area, &vm, MIB, true);
	show_preserve(&area);
	show_zero(&area);
	show_hypercall(&area);
	show_pin(&area, "a pipe (vmsplice)", pin_in_pipe);
	show_pin(&area, "an io_uring buffer", pin_in_ring);
	show_both_kinds(&area);
	area_destroy(&area);
	vm_destroy(&vm);

	show_flips(options.mib * MIB, options.rounds);

	return sum_up();
}
