// SPDX-License-Identifier: GPL-2.0
/*
 * A small VMM for protected VMs of arm64 (pKVM), whose memory is converted between
 * private and shared in place, at the guest's request.
 *
 * Together with demo.c it needs nothing but <linux/kvm.h>, and it is meant to be read:
 * what a VMM has to do is in the first half (vm_create() to vcpu_run_to_answer(), with
 * area_convert_in_place() in demo.c), what this program shows with it in the
 * second.
 *
 * Nothing is encrypted here.  It is the hypervisor at EL2 that keeps the host from
 * the guest's memory, so it takes the guest's consent to share a page.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/kvm.h>

#include "demo.h"

/*
 * Guest physical addresses: code and page table, the memory that is converted, and
 * the mailbox, where there is no memory.
 */
#define MAILBOX_GPA	0x10000000
#define CODE_GPA	0x40000000UL
#define AREA_GPA	0x50000000UL
#define MAX_AREA_MIB	512

#define CODE_SLOT	0
#define AREA_SLOT	1

/* Hypercalls of the guest, see Documentation/virt/kvm/arm/hypercalls.rst. */
#define MEM_SHARE	0xc6000003
#define MEM_UNSHARE	0xc6000004

/* What the guest can be told to do. */
#define OP_READ		0
#define OP_WRITE	1
#define OP_PASS		2
#define OP_HYPERCALL	3

/*
 * How host and guest talk to each other: by MMIO.  All memory of the guest is private
 * to begin with, and its registers are none of the host's business.
 */
struct mailbox {
	/* What the guest reads, ... */
	uint64_t op;
	uint64_t addr;
	uint64_t pages;
	uint64_t arg[2];
	/* ... and where it writes an answer, or which exception it took. */
	uint64_t answer;
	uint64_t exception;
};

#define STRING(x)	STRING_(x)
#define STRING_(x)	#x

/*
 * The guest.  It sets up its MMU first, as its memory has to be cacheable like the
 * host's mapping of it, or else the two would not see the same.
 */
asm(".pushsection .rodata\n"
    ".balign 2048\n"
    /* Global, or else the linker takes both addresses from one GOT entry. */
    ".global guest_code, guest_code_end\n"
    "guest_code:\n"
    "	mov	x19, #" STRING(MAILBOX_GPA) "\n"
    "	adr	x0, guest_vectors\n"
    "	msr	vbar_el1, x0\n"

    /* The page table is in the page behind the code. */
    "	adr	x0, guest_code + 4096\n"
    "	msr	ttbr0_el1, x0\n"
    /* Memory of index 0 is normal and cacheable, of index 1 a device. */
    "	mov	x0, #0x00ff\n"
    "	msr	mair_el1, x0\n"
    /*
     * Addresses of 39 bits, 4K granule: a table of 512 entries for 1 GiB each.
     * Cacheable table walks.  No second table.
     */
    "	.set	TCR, 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23\n"
    "	mov	x0, #(TCR & 0xffff)\n"
    "	movk	x0, #(TCR >> 16), lsl #16\n"
    "	msr	tcr_el1, x0\n"
    "	isb\n"
    "	tlbi	vmalle1\n"
    "	dsb	nsh\n"
    "	isb\n"
    /* MMU and caches on. */
    "	mrs	x0, sctlr_el1\n"
    "	mov	x1, #(1 << 0 | 1 << 2 | 1 << 12)\n"
    "	orr	x0, x0, x1\n"
    "	msr	sctlr_el1, x0\n"
    "	isb\n"

    /*
     * Get what there is to do.  One register at a time, so that KVM is told which
     * one the access is from.
     */
    "guest_next:\n"
    "	ldr	x9, [x19]\n"
    "	ldr	x20, [x19, #8]\n"
    "	ldr	x21, [x19, #16]\n"
    "	ldr	x22, [x19, #24]\n"
    "	ldr	x23, [x19, #32]\n"
    "	mov	x24, #0\n"
    "	cmp	x9, #" STRING(OP_READ) "\n"
    "	b.eq	guest_read\n"
    "	cmp	x9, #" STRING(OP_WRITE) "\n"
    "	b.eq	guest_write\n"
    "	cmp	x9, #" STRING(OP_PASS) "\n"
    "	b.eq	guest_pass\n"
    "	cmp	x9, #" STRING(OP_HYPERCALL) "\n"
    "	b.eq	guest_hypercall\n"
    "guest_answer:\n"
    "	str	x24, [x19, #40]\n"
    "	b	guest_next\n"

    /* Answer with the word at the address. */
    "guest_read:\n"
    "	ldr	w24, [x20]\n"
    "	b	guest_answer\n"

    /* Write the first argument to the word at the address. */
    "guest_write:\n"
    "	str	w22, [x20]\n"
    "	b	guest_answer\n"

    /*
     * In each page from the address on, expect the first argument + address in
     * the first word and replace it by the second one + address.  Answer with the
     * number of pages that differ.
     */
    "guest_pass:\n"
    "	ldr	w0, [x20]\n"
    "	add	w1, w22, w20\n"
    "	cmp	w0, w1\n"
    "	cinc	x24, x24, ne\n"
    "	add	w1, w23, w20\n"
    "	str	w1, [x20]\n"
    "	add	x20, x20, #4096\n"
    "	subs	x21, x21, #1\n"
    "	b.ne	guest_pass\n"
    "	b	guest_answer\n"

    /*
     * For each page from the address on, make the hypercall in the first argument.
     * Answer with 0 if all returned 0.
     */
    "guest_hypercall:\n"
    "	mov	x0, x22\n"
    "	mov	x1, x20\n"
    "	mov	x2, #0\n"
    "	mov	x3, #0\n"
    "	hvc	#0\n"
    "	orr	x24, x24, x0\n"
    "	add	x20, x20, #4096\n"
    "	subs	x21, x21, #1\n"
    "	b.ne	guest_hypercall\n"
    "	b	guest_answer\n"

    /* Say that something went wrong.  Only synchronous exceptions of EL1 happen. */
    ".balign 2048\n"
    "guest_vectors:\n"
    ".skip 0x200\n"
    "	mrs	x0, esr_el1\n"
    "	str	x0, [x19, #48]\n"
    "	b	.\n"
    "guest_code_end:\n"
    ".popsection\n");

extern const char guest_code[], guest_code_end[];

/* Descriptors of 1 GiB for its page table. */
#define GIB_SHIFT	30
#define BLOCK		(1UL << 0 | 1UL << 10)		/* valid, accessed */
#define BLOCK_MEMORY	(BLOCK | 0UL << 2 | 3UL << 8)	/* MAIR index 0, inner shareable */
#define BLOCK_DEVICE	(BLOCK | 1UL << 2 | 3UL << 53)	/* MAIR index 1, execute never */

struct vm {
	int kvm;
	int fd;
	int vcpu;
	struct kvm_run *run;
	size_t run_size;
	struct mailbox box;
	struct area code;
	struct area *area;
	unsigned long served;	/* conversions at the guest's request */
};

/* ------------------------------------------------------------------------ */
/* Creating a VM								*/

static unsigned long vm_type(int kvm)
{
	int ipa_bits = check_cap(kvm, KVM_CAP_ARM_VM_IPA_SIZE);

	/* All of a protected VM's address space is walked when the VM is closed. */
	return KVM_VM_TYPE_ARM_IPA_SIZE(ipa_bits < 40 ? ipa_bits : 40);
}

/*
 * Give the VM memory, all of it shared at first: a guest_memfd which userspace may
 * map.  Such a file keeps track of which of its pages are private.
 */
static void area_create(struct area *area, struct vm *vm, int slot, uint64_t gpa,
			size_t size)
{
	area->vm = vm;
	area->gpa = gpa;
	area->size = size;

	area->gmem = create_gmem(vm->fd, size, GUEST_MEMFD_FLAG_MMAP |
					       GUEST_MEMFD_FLAG_INIT_SHARED);
	if (area->gmem < 0)
		err(1, "KVM_CREATE_GUEST_MEMFD");
	area->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, area->gmem, 0);
	if (area->host == MAP_FAILED)
		err(1, "mmap of guest memory");

	area_add(area, vm->fd, slot);
}

/* The guest's first program.  It is the guest's alone once it has been launched. */
static void vm_add_code(struct vm *vm)
{
	uint64_t *table;

	area_create(&vm->code, vm, CODE_SLOT, CODE_GPA, 2 * PAGE);
	memcpy(vm->code.host, guest_code, guest_code_end - guest_code);

	/* Addresses are the same before and after translation. */
	table = (uint64_t *)(vm->code.host + PAGE);
	table[MAILBOX_GPA >> GIB_SHIFT] = BLOCK_DEVICE;
	table[CODE_GPA >> GIB_SHIFT] = (CODE_GPA >> GIB_SHIFT << GIB_SHIFT) | BLOCK_MEMORY;
}

static void vm_add_vcpu(struct vm *vm)
{
	uint64_t pc = CODE_GPA;
	struct kvm_one_reg reg = {
		.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
		      KVM_REG_ARM_CORE_REG(regs.pc),
		.addr = (uintptr_t)&pc,
	};
	struct kvm_vcpu_init init;

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0)
		err(1, "KVM_CREATE_VCPU");

	vm->run = map_run(vm->kvm, vm->vcpu, &vm->run_size);

	if (ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init))
		err(1, "KVM_ARM_PREFERRED_TARGET");
	init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
	if (ioctl(vm->vcpu, KVM_ARM_VCPU_INIT, &init))
		err(1, "KVM_ARM_VCPU_INIT");

	/* Where it starts.  The guest does everything else by itself. */
	if (ioctl(vm->vcpu, KVM_SET_ONE_REG, &reg))
		err(1, "KVM_SET_ONE_REG of the program counter");
}

static void vm_create(struct vm *vm)
{
	memset(vm, 0, sizeof(*vm));

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		err(1, "/dev/kvm");

	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM,
		       KVM_VM_TYPE_ARM_PROTECTED | vm_type(vm->kvm));
	if (vm->fd < 0)
		err(1, "KVM_CREATE_VM of type KVM_VM_TYPE_ARM_PROTECTED");

	vm_add_code(vm);
	vm_add_vcpu(vm);
}

static void vm_add_area(struct vm *vm, struct area *area, size_t size)
{
	area_create(area, vm, AREA_SLOT, AREA_GPA, size);
	vm->area = area;
}

/*
 * The guest starts with what the host has written.  To the guest, all memory is
 * private until it shares it, so all of it is made private before it runs.
 */
static int area_launch(struct area *area)
{
	return area_convert_in_place(area, 0, area->size, true, PRESERVE);
}

static void vm_launch(struct vm *vm)
{
	if (area_launch(&vm->code) || area_launch(vm->area))
		errx(1, "the guest's memory cannot be made private");
}

static void vm_destroy(struct vm *vm)
{
	munmap(vm->run, vm->run_size);
	close(vm->vcpu);
	area_destroy(&vm->code);
	if (vm->area)
		area_destroy(vm->area);
	close(vm->fd);
	close(vm->kvm);
}

/* ------------------------------------------------------------------------ */
/* Running the guest							*/

/* Returns true if that was the answer. */
static bool handle_mmio(struct vm *vm)
{
	uint64_t offset = vm->run->mmio.phys_addr - MAILBOX_GPA;
	uint8_t *box = (uint8_t *)&vm->box;

	/* These numbers come from the guest.  Trust none of them. */
	if (offset > sizeof(vm->box) - 8 || vm->run->mmio.len != 8)
		errx(1, "unexpected access to 0x%llx", vm->run->mmio.phys_addr);

	if (!vm->run->mmio.is_write) {
		memcpy(vm->run->mmio.data, box + offset, 8);
		return false;
	}

	memcpy(box + offset, vm->run->mmio.data, 8);
	if (vm->box.exception)
		errx(1, "the guest took an exception, ESR 0x%lx", vm->box.exception);
	return offset == offsetof(struct mailbox, answer);
}

/* Run the guest until it has an answer (0) or KVM_RUN fails (-errno). */
static int vcpu_run(struct vm *vm)
{
	for (;;) {
		if (ioctl(vm->vcpu, KVM_RUN, 0)) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (vm->run->exit_reason != KVM_EXIT_MMIO)
			errx(1, "unexpected exit reason %u", vm->run->exit_reason);
		if (handle_mmio(vm))
			return 0;
	}
}

/* The memory that KVM_EXIT_MEMORY_FAULT is about. */
static struct area *fault_area(struct vm *vm, uint64_t *offset)
{
	uint64_t gpa = vm->run->memory_fault.gpa;
	struct area *area = &vm->code;

	if (vm->area && gpa >= AREA_GPA)
		area = vm->area;

	*offset = gpa - area->gpa;
	if (*offset >= area->size || vm->run->memory_fault.size > area->size - *offset)
		errx(1, "memory fault at 0x%lx", gpa);
	return area;
}

/*
 * The guest takes memory for private or shared which is not.  Either it makes use of
 * it, or it asks for it:
 *
 * It shares a page: the hypervisor has already shared it, as the guest agrees.  The
 * guest's call returns when the page is shared for the VMM as well.
 *
 * It takes a page back: it still shares it, and does so until the VMM has made the
 * page private and runs the guest again.  That may take as long as somebody here uses
 * the page: the guest waits.
 *
 * A VMM with more than one vCPU ignores EPERM here.  It means that another vCPU took
 * the page back already.  Running on is always right: if there is still something to
 * do, then the guest asks again.
 */
static void handle_memory_fault(struct vm *vm)
{
	bool private = vm->run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE;
	struct area *area;
	uint64_t offset;
	int ret;

	area = fault_area(vm, &offset);
	ret = area_convert_in_place(area, offset, vm->run->memory_fault.size, private,
				    PRESERVE);
	if (ret)
		errx(1, "conversion at 0x%lx: %s", offset, answer(ret));
	vm->served++;
}

static void vcpu_run_to_answer(struct vm *vm)
{
	int ret;

	while ((ret = vcpu_run(vm))) {
		if (ret != -EFAULT || vm->run->exit_reason != KVM_EXIT_MEMORY_FAULT)
			errx(1, "KVM_RUN: %s, exit reason %u", answer(ret),
			     vm->run->exit_reason);
		handle_memory_fault(vm);
	}
}

/* ------------------------------------------------------------------------ */
/* Telling the guest what to do						*/

/* Only leave a message.  The guest finds it when it is run. */
static void guest_tell(struct area *area, uint64_t op, uint64_t offset, uint64_t pages,
		       uint32_t arg0, uint32_t arg1)
{
	area->vm->box = (struct mailbox) {
		.op = op,
		.addr = AREA_GPA + offset,
		.pages = pages,
		.arg = { arg0, arg1 },
	};
}

static uint32_t guest_get(struct area *area, uint64_t offset)
{
	guest_tell(area, OP_READ, offset, 0, 0, 0);
	vcpu_run_to_answer(area->vm);
	return area->vm->box.answer;
}

static void guest_set(struct area *area, uint64_t offset, uint32_t value)
{
	guest_tell(area, OP_WRITE, offset, 0, value, 0);
	vcpu_run_to_answer(area->vm);
}

static void guest_tell_to_ask(struct area *area, uint64_t offset, uint64_t pages, bool private)
{
	guest_tell(area, OP_HYPERCALL, offset, pages, private ? MEM_UNSHARE : MEM_SHARE, 0);
}

/* The guest asks for conversions, and gets them.  Returns what its calls returned. */
static int64_t guest_ask(struct area *area, uint64_t offset, uint64_t pages, bool private)
{
	guest_tell_to_ask(area, offset, pages, private);
	vcpu_run_to_answer(area->vm);
	return area->vm->box.answer;
}

size_t guest_touch(struct area *area, uint32_t expect, uint32_t leave)
{
	guest_tell(area, OP_PASS, 0, area->size / PAGE, expect, leave);
	vcpu_run_to_answer(area->vm);
	return area->vm->box.answer;
}

/* Run the guest, without doing anything about what it wants.  Says how that ends. */
static const char *run_once(struct vm *vm)
{
	int ret = vcpu_run(vm);
	uint64_t offset;

	if (!ret)
		return text("returns %ld", (int64_t)vm->box.answer);
	if (vm->run->exit_reason != KVM_EXIT_MEMORY_FAULT)
		return answer(ret);

	fault_area(vm, &offset);
	if (ret != -EFAULT)
		return answer_at(ret, offset);
	return text("EFAULT, %s 0x%lx", vm->run->memory_fault.flags &
		    KVM_MEMORY_EXIT_FLAG_PRIVATE ? "private" : "shared", offset);
}

/* ------------------------------------------------------------------------ */
/* What is shown: conversions						*/

#define SECRET	0x5ec7e7

/* KiB of this process that are locked or pinned. */
static long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	long kib, sum = 0;
	char line[128];

	if (!f)
		err(1, "/proc/self/status");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmLck: %ld", &kib) == 1 ||
		    sscanf(line, "VmPin: %ld", &kib) == 1)
			sum += kib;
	fclose(f);
	return sum;
}

static void show_launch_modes(struct vm *vm)
{
	int cap = check_cap(vm->fd, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS);

	expect("this VM: content modes to shared, before launch", "ZERO, PRESERVE",
	       modes(KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_SHARED(cap)));
	expect("this VM: content modes to private, before launch", "PRESERVE",
	       modes(KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_PRIVATE(cap)));
}

/* Returns the physical page, which the host can tell as long as it has the page. */
static uint64_t show_launch(struct area *area)
{
	const uint64_t page = 3 * PAGE;
	struct vm *vm = area->vm;
	long locked = locked_kib();
	uint64_t pfn;

	heading("Launch, from memory that the host has written");

	host_set(area, page, 0xbeef);
	get_pfns(area->host + page, 1, &pfn);
	expect("host reads the guest's first instruction",
	       hex(*(const uint32_t *)guest_code), host_get(&vm->code, 0));
	expect("run the guest while its memory is shared", "EFAULT, private 0x0",
	       run_once(vm));
	expect("convert its code and page table to private, PRESERVE", "done",
	       answer(area_launch(&vm->code)));
	expect("convert the rest of its memory to private, PRESERVE", "done",
	       answer(area_launch(area)));
	expect("guest runs, and reads what the host has written", "0xbeef",
	       hex(guest_get(area, page)));
	expect("host touches that page", "SIGBUS", host_get(area, page));
	expect("host touches the guest's code", "SIGBUS", host_get(&vm->code, 0));
	expect("read() of the host stores to that page", "EFAULT",
	       host_read_syscall(area, page));
	expect("guest still reads", "0xbeef", hex(guest_get(area, page)));
	expect("memory that is locked for all this", "0 KiB",
	       text("%ld KiB", locked_kib() - locked));
	return pfn;
}

/* @pfn: the page at launch */
static void show_share(struct area *area, uint64_t pfn)
{
	const uint64_t page = 3 * PAGE;
	struct vm *vm = area->vm;

	heading("The guest shares a page");

	guest_set(area, page - PAGE, 0x1111);
	guest_set(area, page + PAGE, 0x2222);
	guest_set(area, page, 0xcafe);
	guest_tell_to_ask(area, page, 1, false);
	expect("guest calls MEM_SHARE for page 3", text("EFAULT, shared 0x%lx", page),
	       run_once(vm));
	expect("run it again, with nothing converted", text("EFAULT, shared 0x%lx", page),
	       run_once(vm));
	expect("host touches the page", "SIGBUS", host_get(area, page));
	expect("convert to shared, PRESERVE", "done",
	       answer(area_convert_in_place(area, page, PAGE, false, PRESERVE)));
	expect("run it again, the guest's call", "returns 0", run_once(vm));
	expect("host reads what the guest wrote", "0xcafe", host_get(area, page));
	expect_pfn(pfn, area->host + page);

	host_set(area, page, 0xd00d);
	expect("host writes 0xd00d, guest reads", "0xd00d", hex(guest_get(area, page)));
	guest_set(area, page, 0xf00d);
	expect("guest writes 0xf00d, host reads", "0xf00d", host_get(area, page));

	expect("host touches the page before it", "SIGBUS", host_get(area, page - PAGE));
	expect("host touches the page after it", "SIGBUS", host_get(area, page + PAGE));
	expect("guest reads the page before it", "0x1111", hex(guest_get(area, page - PAGE)));
	expect("guest reads the page after it", "0x2222", hex(guest_get(area, page + PAGE)));
}

static void show_unshare(struct area *area)
{
	const uint64_t page = 3 * PAGE;
	struct vm *vm = area->vm;

	heading("The guest takes the page back");

	host_set(area, page, 0x1a57);
	guest_tell_to_ask(area, page, 1, true);
	expect("guest calls MEM_UNSHARE", text("EFAULT, private 0x%lx", page), run_once(vm));
	expect("run it again, with nothing converted", text("EFAULT, private 0x%lx", page),
	       run_once(vm));
	expect("host has the page still, and reads", "0x1a57", host_get(area, page));
	expect("convert to private, PRESERVE", "done",
	       answer(area_convert_in_place(area, page, PAGE, true, PRESERVE)));
	expect("host touches the page", "SIGBUS", host_get(area, page));
	expect("run it again, the guest's call", "returns 0", run_once(vm));
	expect("guest reads what the host wrote last", "0x1a57", hex(guest_get(area, page)));
}

static void show_zero(struct area *area)
{
	const uint64_t page = 5 * PAGE;
	struct vm *vm = area->vm;
	uint64_t where;
	int ret;

	heading("ZERO, and what cannot be promised");

	guest_set(area, page, SECRET);
	guest_tell_to_ask(area, page, 1, false);
	expect("guest writes a secret and calls MEM_SHARE",
	       text("EFAULT, shared 0x%lx", page), run_once(vm));
	expect("convert to shared, ZERO", "done",
	       answer(area_convert_in_place(area, page, PAGE, false, ZERO)));
	expect("run it again, the guest's call", "returns 0", run_once(vm));
	expect("host reads", "0x0", host_get(area, page));
	expect("bytes of that page that are not zero", "0",
	       text("%zu", nonzero_bytes(area->host + page, PAGE)));
	expect("guest reads", "0x0", hex(guest_get(area, page)));

	host_set(area, page, 0xd00d);
	ret = convert_once(area, page, PAGE, true, ZERO, &where);
	expect("convert to private, ZERO", text("EOPNOTSUPP at 0x%lx", page),
	       answer_at(ret, where));
	expect("host reads, nothing has changed", "0xd00d", host_get(area, page));
	ret = convert_once(area, page, PAGE, true, ZERO | PRESERVE, &where);
	expect("ZERO and PRESERVE at once", "EINVAL", answer(ret));
	expect("guest calls MEM_UNSHARE", "0", text("%ld", guest_ask(area, page, 1, true)));
}

static void show_pin(struct area *area, const char *who,
		     int (*pin)(struct area *area, uint64_t offset))
{
	const uint64_t first = 8 * PAGE, size = 8 * PAGE, page = 13 * PAGE;
	struct vm *vm = area->vm;
	uint64_t where;
	int ret;

	heading(text("A page in use: %s", who));

	expect("guest calls MEM_SHARE for page 13", "0",
	       text("%ld", guest_ask(area, page, 1, false)));
	host_set(area, page, 0xf00d0000);
	ret = pin(area, page);
	if (ret) {
		note("pin it", answer(ret));
		guest_ask(area, page, 1, true);
		return;
	}

	guest_tell_to_ask(area, page, 1, true);
	expect("it is pinned, guest calls MEM_UNSHARE", text("EFAULT, private 0x%lx", page),
	       run_once(vm));
	ret = convert_once(area, first, size, true, PRESERVE, &where);
	expect("convert eight pages to private, it is the sixth",
	       text("EAGAIN at 0x%lx", page), answer_at(ret, where));
	expect("run it again, the guest waits", text("EFAULT, private 0x%lx", page),
	       run_once(vm));
	expect("host reads", "0xf00d0000", host_get(area, page));

	expect("convert again, dropping pins on EAGAIN", "done",
	       answer(area_convert_in_place(area, first, size, true, PRESERVE)));
	expect("pins left", "0", text("%d", pins_left()));
	expect("run it again, the guest's call", "returns 0", run_once(vm));
	expect("guest reads", "0xf00d0000", hex(guest_get(area, page)));
}

static void show_eperm(struct area *area)
{
	const uint64_t first = 16 * PAGE, size = 8 * PAGE, page = 20 * PAGE;
	uint64_t where;
	int ret;

	heading("A host that does not wait to be asked");

	guest_set(area, page, SECRET);
	ret = convert_once(area, page, PAGE, false, PRESERVE, &where);
	expect("convert the guest's secret to shared, PRESERVE",
	       text("EPERM at 0x%lx", page), answer_at(ret, where));
	ret = convert_once(area, page, PAGE, false, ZERO, &where);
	expect("the same, ZERO", text("EPERM at 0x%lx", page), answer_at(ret, where));
	ret = convert_once(area, first, size, false, PRESERVE, &where);
	expect("eight pages, of which the guest has used the fifth",
	       text("EPERM at 0x%lx", page), answer_at(ret, where));
	expect("host touches the page", "SIGBUS", host_get(area, page));
	expect("host touches the first page of the eight", "SIGBUS", host_get(area, first));
	expect("guest reads", hex(SECRET), hex(guest_get(area, page)));

	ret = convert_once(area, page + PAGE, PAGE, false, PRESERVE, &where);
	expect("convert a page that the guest has never used", "done", answer_at(ret, where));
	expect("host reads", "0x0", host_get(area, page + PAGE));
	ret = convert_once(area, page + PAGE, PAGE, true, PRESERVE, &where);
	expect("convert it back", "done", answer_at(ret, where));
}

static int punch_hole(struct area *area, uint64_t offset)
{
	return fallocate(area->gmem, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 offset, PAGE) ? -errno : 0;
}

/* The guest does not get over the second one. */
static void show_holes(struct area *area)
{
	const uint64_t shared = 32 * PAGE, private = 33 * PAGE;
	struct vm *vm = area->vm;

	heading("Punching holes");

	guest_set(area, shared, 0xcafe);
	expect("guest writes 0xcafe and calls MEM_SHARE", "0",
	       text("%ld", guest_ask(area, shared, 1, false)));
	expect("punch a hole there", "done", answer(punch_hole(area, shared)));
	expect("guest reads, from another page that is shared", "0x0",
	       hex(guest_get(area, shared)));
	guest_set(area, shared, 0xf00d);
	expect("guest writes 0xf00d, host reads", "0xf00d", host_get(area, shared));

	guest_set(area, private, SECRET);
	expect("punch a hole in private memory", "done", answer(punch_hole(area, private)));
	guest_tell(area, OP_READ, private, 0, 0, 0);
	expect("guest reads what it wrote there", text("EHWPOISON at 0x%lx", private),
	       run_once(vm));
	expect("convert to shared, PRESERVE", "done",
	       answer(area_convert_in_place(area, private, PAGE, false, PRESERVE)));
	expect("host reads, from another page", "0x0", host_get(area, private));
	expect("run it again: the guest gets no page of the host's",
	       text("EHWPOISON at 0x%lx", private), run_once(vm));
}

/* ------------------------------------------------------------------------ */
/* What is shown: a large area flipped back and forth			*/

int flip_area(struct area *area, bool private)
{
	return guest_ask(area, 0, area->size / PAGE, private) ? -EINVAL : 0;
}

static void show_flips(size_t size, int rounds)
{
	const unsigned long conversions = 2UL * rounds * (size / PAGE);
	struct flips flips = {};
	unsigned long served;
	struct area area;
	enum step step;
	struct vm vm;

	printf("\nFlipping %zu MiB back and forth, page by page as the guest asks, round trips: %d\n",
	       size / MIB, rounds);
	progress("  please wait ...\n");

	flips_begin(&flips, size);
	vm_create(&vm);
	vm_add_area(&vm, &area, size);
	vm_launch(&vm);

	flips.ret = flip_area(&area, false);
	served = vm.served;
	if (!flips.ret)
		flips_run(&flips, &area, rounds);
	served = vm.served - served;

	vm_destroy(&vm);
	flips_end(&flips);

	printf("\n%-32s  %16s  %16s\n", text("%zu MiB, best of %d", size / MIB, rounds),
	       "all pages", "each");
	printf("--------------------------------  ----------------  ----------------\n");
	for (step = 0; step < NR_STEPS; step++)
		printf("%-32s  %13.2f ms  %13.2f us\n", step_name[step], flips.best[step],
		       flips.best[step] * 1000 / (size / PAGE));

	heading(text("%zu MiB, page by page", size / MIB));
	expect("conversions that the guest asked for", text("%lu", conversions),
	       text("%lu", served));
	flips_expect(&flips, "all its calls");
}

/* ------------------------------------------------------------------------ */
/* What is shown: the end							*/

/* A VMM of which nothing but the guest_memfd is left. */
static void show_teardown(void)
{
	struct {
		int gmem;
		uint64_t pfn;
	} *told;
	struct area heir = { .size = MIB };
	int status, ret, pidfd;
	uint64_t where;
	pid_t pid;

	heading("The VMM is killed, another process has the file");

	told = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		err(1, "mmap");
	fflush(stdout);

	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		struct area area;
		struct vm vm;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		vm_create(&vm);
		vm_add_area(&vm, &area, heir.size);
		host_set(&area, 0, 0);
		get_pfns(area.host, 1, &told->pfn);
		vm_launch(&vm);
		guest_set(&area, 0, SECRET);
		guest_set(&area, PAGE, 0xcafe);
		guest_ask(&area, PAGE, 1, false);
		told->gmem = area.gmem;
		for (;;)
			raise(SIGSTOP);
	}

	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		errx(1, "the other VMM failed");
	pidfd = syscall(__NR_pidfd_open, pid, 0);
	heir.gmem = syscall(__NR_pidfd_getfd, pidfd, told->gmem, 0);
	if (heir.gmem < 0)
		err(1, "pidfd_getfd");
	close(pidfd);
	heir.host = mmap(NULL, heir.size, PROT_READ | PROT_WRITE, MAP_SHARED, heir.gmem, 0);
	if (heir.host == MAP_FAILED)
		err(1, "mmap of guest memory");

	expect("host touches the guest's secret", "SIGBUS", host_get(&heir, 0));
	expect("host reads what the guest shares", "0xcafe", host_get(&heir, PAGE));
	ret = convert_once(&heir, 0, heir.size, false, PRESERVE, &where);
	expect("convert all to shared, PRESERVE", "EPERM at 0x0", answer_at(ret, where));

	if (kill(pid, SIGKILL) || waitpid(pid, &status, 0) != pid)
		err(1, "kill");
	expect("the VMM is dead, host touches the secret", "SIGBUS", host_get(&heir, 0));
	ret = convert_once(&heir, 0, heir.size, false, PRESERVE, &where);
	expect("convert all to shared, PRESERVE", "done", answer_at(ret, where));
	expect("host reads", "0x0", host_get(&heir, 0));
	expect("bytes of that page that are not zero", "0",
	       text("%zu", nonzero_bytes(heir.host, PAGE)));
	expect_pfn(told->pfn, heir.host);
	expect("host reads what the guest shared", "0xcafe", host_get(&heir, PAGE));

	area_destroy(&heir);
	munmap(told, PAGE);
}

/* ------------------------------------------------------------------------ */

static const char *no_vm_type(int kvm)
{
	int fd = ioctl(kvm, KVM_CREATE_VM, KVM_VM_TYPE_ARM_PROTECTED | vm_type(kvm));

	if (fd >= 0) {
		close(fd);
		return NULL;
	}
	return text("KVM creates no VM of type KVM_VM_TYPE_ARM_PROTECTED here (%s): the "
		    "kernel has to be booted at EL2, with kvm-arm.mode=protected.",
		    strerror(errno));
}

int main(int argc, char *argv[])
{
	struct options options = {
		.program = "gmem-vmm-arm64", .max_mib = MAX_AREA_MIB, .mib = 16, .rounds = 3,
	};
	struct area area;
	uint64_t pfn;
	struct vm vm;
	int plain;

	parse_options(&options, argc, argv);
	require_capability(no_vm_type);
	catch_sigbus();

	vm_create(&vm);
	plain = ioctl(vm.kvm, KVM_CREATE_VM, vm_type(vm.kvm));
	show_capabilities(vm.kvm, vm.fd, plain);
	show_launch_modes(&vm);
	close(plain);

	vm_add_area(&vm, &area, MIB);
	pfn = show_launch(&area);
	show_share(&area, pfn);
	show_unshare(&area);
	show_zero(&area);
	show_pin(&area, "a pipe (vmsplice)", pin_in_pipe);
	show_pin(&area, "an io_uring buffer", pin_in_ring);
	show_eperm(&area);
	show_holes(&area);
	vm_destroy(&vm);

	show_flips(options.mib * MIB, options.rounds);
	show_teardown();

	return sum_up();
}
