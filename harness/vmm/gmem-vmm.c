// SPDX-License-Identifier: GPL-2.0
/*
 * A small VMM that converts guest memory between private and shared in place.
 *
 * It needs nothing but <linux/kvm.h> and is meant to be read: what a VMM has
 * to do is in the first half (vm_create() to area_convert()), what this program
 * shows with it in the second.  The VM is of type KVM_X86_SW_PROTECTED_VM,
 * which has private memory but no encryption, so any machine with nested
 * paging will do.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>

#define PAGE		4096UL
#define MIB		(1UL << 20)

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
};

/*
 * The part of guest memory that is converted.  In place, @host maps @gmem.
 * With two backings, @host is other memory, and @gmem holds the private pages.
 */
struct area {
	struct vm *vm;
	uint8_t *host;
	size_t size;
	int gmem;
	bool in_place;
	bool discard;		/* two backings: free the side that is left */
};

/*
 * Host memory handed to a device or a system call that holds its pages.  A VMM
 * must know these, because a page that is held cannot become private.
 */
struct pin {
	int fd;
	bool ring;
	uint64_t offset;
	uint64_t size;
};

#define MAX_PINS	4
static struct pin pins[MAX_PINS];
static int nr_pins;

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

	vm->run_size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		       vm->vcpu, 0);
	if (vm->run == MAP_FAILED)
		err(1, "mmap of kvm_run");

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

static int vm_create_gmem(struct vm *vm, size_t size, uint64_t flags)
{
	struct kvm_create_guest_memfd gmem = {
		.size = size,
		.flags = flags,
	};

	return ioctl(vm->fd, KVM_CREATE_GUEST_MEMFD, &gmem);
}

/*
 * Give the VM memory at AREA_GPA, all of it shared at first.
 *
 * In place: a guest_memfd which userspace may map.  Such a file keeps track of
 * which of its pages are private.  userspace_addr is a mapping of the same file,
 * so that KVM too finds shared memory where the VMM sees it.
 */
static void area_create(struct area *area, struct vm *vm, size_t size, bool in_place)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = AREA_SLOT,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = AREA_GPA,
		.memory_size = size,
	};

	memset(area, 0, sizeof(*area));
	area->vm = vm;
	area->size = size;
	area->in_place = in_place;
	area->discard = true;

	if (in_place) {
		area->gmem = vm_create_gmem(vm, size, GUEST_MEMFD_FLAG_MMAP |
						      GUEST_MEMFD_FLAG_INIT_SHARED);
		area->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
				  area->gmem, 0);
	} else {
		area->gmem = vm_create_gmem(vm, size, 0);
		area->host = mmap(NULL, size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		/* guest_memfd has small pages only: compare like with like. */
		madvise(area->host, size, MADV_NOHUGEPAGE);
	}
	if (area->gmem < 0)
		errx(1, "KVM_CREATE_GUEST_MEMFD failed");
	if (area->host == MAP_FAILED)
		err(1, "mmap of guest memory");

	region.userspace_addr = (uintptr_t)area->host;
	region.guest_memfd = area->gmem;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region))
		err(1, "KVM_SET_USER_MEMORY_REGION2");

	vm->area = area;
}

static void area_destroy(struct area *area)
{
	munmap(area->host, area->size);
	close(area->gmem);
}

/* ------------------------------------------------------------------------ */
/* Converting								*/

/* One attempt, as the kernel answers it: 0 or -errno, and the error's offset. */
static int convert_once(struct area *area, uint64_t offset, uint64_t size,
			bool private, uint64_t mode, uint64_t *error_offset)
{
	struct kvm_memory_attributes2 attr = {
		.offset = offset,
		.size = size,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
		.flags = mode,
		.error_offset = UINT64_MAX,
	};
	int ret;

	ret = ioctl(area->gmem, KVM_SET_MEMORY_ATTRIBUTES2, &attr) ? -errno : 0;
	*error_offset = attr.error_offset;
	return ret;
}

/* Give back every pin that covers @offset.  Returns how many there were. */
static int drop_pins(uint64_t offset)
{
	int i, dropped = 0;

	for (i = 0; i < nr_pins; ) {
		struct pin *pin = &pins[i];

		if (offset < pin->offset || offset - pin->offset >= pin->size) {
			i++;
			continue;
		}

		/* Closing a ring unpins its buffers some time later, this at once. */
		if (pin->ring)
			syscall(__NR_io_uring_register, pin->fd,
				IORING_UNREGISTER_BUFFERS, NULL, 0);
		close(pin->fd);
		*pin = pins[--nr_pins];
		dropped++;
	}
	return dropped;
}

/*
 * Convert a range of the file.  A conversion is all or nothing: after an error
 * every page has the state and the contents that it had before, and the same
 * call may simply be repeated.
 *
 * EAGAIN: a page on its way to private is in use, error_offset says which.  Drop
 * what this VMM holds there.  If it holds nothing, somebody else does, or the
 * release is still under way: give it a moment, but not for ever.  A VMM which
 * maps guest memory for devices unmaps the range from the IOMMU before it is
 * made private, and maps it again after it has been made shared.
 *
 * EINTR: a signal came before anything was done.
 *
 * ENOMEM may be repeated too, once there is memory again.  The other errors
 * tell of a wrong call, a dead VM or broken memory: repeating mends none of it.
 */
static int area_convert_in_place(struct area *area, uint64_t offset, uint64_t size,
				 bool private, uint64_t mode)
{
	const struct timespec moment = { .tv_nsec = 1000 * 1000 };
	int ret, tries = 1000;
	uint64_t where;

	for (;;) {
		ret = convert_once(area, offset, size, private, mode, &where);
		if (ret == -EINTR)
			continue;
		if (ret != -EAGAIN || !tries--)
			return ret;
		if (!drop_pins(where))
			nanosleep(&moment, NULL);
	}
}

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
	if (!area->discard)
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
	if (area->in_place)
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
static size_t guest_touch(struct area *area, uint32_t expect, uint32_t leave)
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

static size_t host_touch(struct area *area, uint32_t expect, uint32_t leave)
{
	size_t offset, wrong = 0;

	for (offset = 0; offset < area->size; offset += PAGE) {
		volatile uint32_t *word = (uint32_t *)(area->host + offset);
		uint32_t gpa = AREA_GPA + offset;

		wrong += *word != expect + gpa;
		*word = leave + gpa;
	}
	return wrong;
}

/* ------------------------------------------------------------------------ */
/* The table								*/

static int nr_passed, nr_failed;

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A string for a table cell.  This program is too short-lived to free them. */
static char *text(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		err(1, "no memory");
	va_end(ap);
	return s;
}

static void heading(const char *title)
{
	printf("\n%-56s  %-22s  %-22s\n", title, "expected", "seen");
	printf("--------------------------------------------------------"
	       "  ----------------------  ----------------------  ----\n");
}

static void row(const char *what, const char *want, const char *seen, bool pass)
{
	printf("%-56s  %-22s  %-22s  %s\n", what, want, seen, pass ? "pass" : "FAIL");
	fflush(stdout);
	if (pass)
		nr_passed++;
	else
		nr_failed++;
}

/* A row passes if what was seen reads like what was expected. */
static void expect(const char *what, const char *want, const char *seen)
{
	row(what, want, seen, !strcmp(want, seen));
}

static void note(const char *what, const char *seen)
{
	printf("%-56s  %-22s  %-22s  skip\n", what, "", seen);
}

static const char *answer(int ret)
{
	return ret ? strerrorname_np(-ret) : "done";
}

/* The answer to a conversion that fails for a page, and which page. */
static const char *answer_at(int ret, uint64_t where)
{
	return ret ? text("%s at 0x%lx", strerrorname_np(-ret), where) : "done";
}

static const char *hex(uint32_t value)
{
	return text("0x%x", value);
}

/* ------------------------------------------------------------------------ */
/* Host accesses that may fail						*/

static sigjmp_buf sigbus_env;

static void on_sigbus(int sig)
{
	(void)sig;
	siglongjmp(sigbus_env, 1);
}

/* What the host sees at @offset of the file: a value, or SIGBUS. */
static const char *host_get(struct area *area, uint64_t offset)
{
	if (sigsetjmp(sigbus_env, 1))
		return "SIGBUS";

	return hex(*(volatile uint32_t *)(area->host + offset));
}

static void host_set(struct area *area, uint64_t offset, uint32_t value)
{
	*(volatile uint32_t *)(area->host + offset) = value;
}

/* A system call that stores to @offset of the file. */
static const char *host_read_syscall(struct area *area, uint64_t offset)
{
	int pipefd[2], ret;

	if (pipe(pipefd) || write(pipefd[1], "beef", 4) != 4)
		err(1, "pipe");
	ret = read(pipefd[0], area->host + offset, 4) == 4 ? 0 : -errno;
	close(pipefd[0]);
	close(pipefd[1]);
	return answer(ret);
}

static size_t nonzero_bytes(const uint8_t *p, size_t size)
{
	size_t i, n = 0;

	for (i = 0; i < size; i++)
		n += p[i] != 0;
	return n;
}

/*
 * The physical pages behind a host mapping that has been touched, 0 where the
 * kernel does not tell (it tells root only).
 */
static void get_pfns(const void *addr, size_t pages, uint64_t *pfns)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	size_t i;

	memset(pfns, 0, pages * sizeof(*pfns));
	if (fd < 0)
		return;
	if (pread(fd, pfns, pages * sizeof(*pfns),
		  (uintptr_t)addr / PAGE * sizeof(*pfns)) < 0)
		warn("/proc/self/pagemap");
	close(fd);

	/* Bit 63: present.  Bits 0-54: page frame number. */
	for (i = 0; i < pages; i++)
		pfns[i] = pfns[i] >> 63 ? pfns[i] & ((1ULL << 55) - 1) : 0;
}

/* ------------------------------------------------------------------------ */
/* Pins									*/

static void remember_pin(int fd, bool ring, uint64_t offset, uint64_t size)
{
	if (nr_pins == MAX_PINS)
		errx(1, "too many pins");
	pins[nr_pins++] = (struct pin){
		.fd = fd, .ring = ring, .offset = offset, .size = size,
	};
}

/* A pipe holds the page until somebody reads it. */
static int pin_in_pipe(struct area *area, uint64_t offset)
{
	struct iovec iov = { .iov_base = area->host + offset, .iov_len = PAGE };
	int pipefd[2];

	if (pipe(pipefd))
		return -errno;
	if (vmsplice(pipefd[1], &iov, 1, 0) != (ssize_t)PAGE)
		return -errno;
	close(pipefd[1]);
	remember_pin(pipefd[0], false, offset, PAGE);
	return 0;
}

/* A registered buffer is pinned for good, as for DMA. */
static int pin_in_ring(struct area *area, uint64_t offset)
{
	struct iovec iov = { .iov_base = area->host + offset, .iov_len = PAGE };
	struct io_uring_params params = { };
	int ring;

	ring = syscall(__NR_io_uring_setup, 1, &params);
	if (ring < 0)
		return -errno;
	if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1)) {
		int ret = -errno;

		close(ring);
		return ret;
	}
	remember_pin(ring, true, offset, PAGE);
	return 0;
}

/* ------------------------------------------------------------------------ */
/* What is shown: capabilities						*/

static const char *modes(uint64_t mask)
{
	switch (mask) {
	case 0:
		return "none";
	case KVM_SET_MEMORY_ATTRIBUTES2_ZERO:
		return "ZERO";
	case KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE:
		return "PRESERVE";
	case KVM_SET_MEMORY_ATTRIBUTES2_ZERO | KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE:
		return "ZERO, PRESERVE";
	default:
		return text("0x%lx", mask);
	}
}

static int check_cap(int fd, long cap)
{
	int ret = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	return ret < 0 ? 0 : ret;
}

static void show_capabilities(struct vm *vm)
{
	int attrs = KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES;
	int flags = KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS;
	int plain, host, cap;

	heading("What the kernel says it can do");
	plain = ioctl(vm->kvm, KVM_CREATE_VM, KVM_X86_DEFAULT_VM);

	expect("/dev/kvm: attributes that a file may hold", "0x8 (private)",
	       text("0x%x (private)", check_cap(vm->kvm, attrs)));
	expect("this VM: attributes that a file may hold", "0x8 (private)",
	       text("0x%x (private)", check_cap(vm->fd, attrs)));
	expect("a VM without private memory: the same", "0x0",
	       text("0x%x", check_cap(plain, attrs)));

	cap = check_cap(vm->fd, flags);
	expect("this VM: content modes to shared", "ZERO, PRESERVE",
	       modes(KVM_MEMORY_ATTRIBUTES2_TO_SHARED(cap)));
	expect("this VM: content modes to private", "PRESERVE",
	       modes(KVM_MEMORY_ATTRIBUTES2_TO_PRIVATE(cap)));

	host = check_cap(vm->kvm, flags);
	row("/dev/kvm: at least these modes", text("0x%x", cap), text("0x%x", host),
	    host && (host & cap) == cap);

	expect("this VM: files that can be mapped and start shared", "0x3",
	       text("0x%x", check_cap(vm->fd, KVM_CAP_GUEST_MEMFD_FLAGS)));
	close(plain);
}

/* ------------------------------------------------------------------------ */
/* What is shown: conversions						*/

#define PRESERVE	KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE
#define ZERO		KVM_SET_MEMORY_ATTRIBUTES2_ZERO

static void show_preserve(struct area *area)
{
	const uint64_t page = 3 * PAGE;
	uint64_t before, after;

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
	get_pfns(area->host + page, 1, &after);
	if (before)
		expect("physical page", text("pfn 0x%lx", before), text("pfn 0x%lx", after));
	else
		note("physical page", "not root");
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
	expect("pins left", "0", text("%d", nr_pins));
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

	other.gmem = vm_create_gmem(area->vm, PAGE, 0);
	ret = convert_once(&other, 0, PAGE, false, 0, &where);
	expect("this ioctl on a file that the VM keeps track of", "ENOTTY", answer(ret));
	close(other.gmem);
}

/* ------------------------------------------------------------------------ */
/* What is shown: a large area flipped back and forth			*/

enum step {
	TO_PRIVATE,
	GUEST_PRIVATE,
	TO_SHARED,
	HOST_SHARED,
	GUEST_SHARED,
	NR_STEPS,
};

static const char * const step_name[NR_STEPS] = {
	[TO_PRIVATE]	= "convert to private",
	[GUEST_PRIVATE]	= "guest touches every page",
	[TO_SHARED]	= "convert to shared",
	[HOST_SHARED]	= "host touches every page",
	[GUEST_SHARED]	= "guest touches every page",
};

struct flips {
	const char *name;
	double best[NR_STEPS];		/* ms */
	double conversions, total;	/* ms */
	long rest, peak, after, closed;	/* KiB of guest memory held */
	size_t wrong;			/* pages whose contents did not survive */
	size_t moved;			/* pages that are other physical pages */
	bool pfns_known;
	int ret;
};

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

/*
 * Pages that hold guest memory: those of guest_memfd are file pages, the other
 * backing is anonymous memory.  Counted for the whole machine, because the
 * private pages of the two-backings way belong to no process's counters.
 */
static long backing_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	long kib, sum = 0;
	char line[128];

	if (!f)
		err(1, "/proc/meminfo");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Cached: %ld", &kib) == 1 ||
		    sscanf(line, "AnonPages: %ld", &kib) == 1)
			sum += kib;
	fclose(f);
	return sum;
}

/* How much there is above @base.  The counters lag a little, either way. */
static long held_kib(long base)
{
	long kib = backing_kib() - base;

	return kib > 0 ? kib : 0;
}

static void do_step(struct area *area, enum step step, struct flips *flips)
{
	/* Each side leaves something else, so that stale contents show. */
	const uint32_t by_host = 0xa0000000, by_guest = 0xb0000000;

	switch (step) {
	case TO_PRIVATE:
		flips->ret = area_convert(area, 0, area->size, true, PRESERVE);
		break;
	case GUEST_PRIVATE:
		flips->wrong += guest_touch(area, by_host, by_guest);
		break;
	case TO_SHARED:
		flips->ret = area_convert(area, 0, area->size, false, PRESERVE);
		break;
	case HOST_SHARED:
		flips->wrong += host_touch(area, by_guest, by_host);
		break;
	case GUEST_SHARED:
		flips->wrong += guest_touch(area, by_host, by_host);
		break;
	default:
		break;
	}
}

static void flip(struct flips *flips, size_t size, int rounds, bool in_place, bool discard)
{
	uint64_t *before = calloc(size / PAGE, sizeof(*before));
	uint64_t *after = calloc(size / PAGE, sizeof(*after));
	long base, held;
	struct area area;
	struct vm vm;
	enum step step;
	int round;
	size_t i;

	if (!before || !after)
		err(1, "no memory");

	/* Have these arrays counted before, not as guest memory. */
	memset(before, 1, size / PAGE * sizeof(*before));
	memset(after, 1, size / PAGE * sizeof(*after));

	base = backing_kib();
	vm_create(&vm);
	area_create(&area, &vm, size, in_place);
	area.discard = discard;

	/* Start populated, and mapped by host and guest. */
	do_step(&area, HOST_SHARED, flips);
	do_step(&area, GUEST_SHARED, flips);
	flips->wrong = 0;
	get_pfns(area.host, size / PAGE, before);
	flips->rest = held_kib(base);
	flips->peak = flips->rest;

	for (round = 0; round < rounds && !flips->ret; round++) {
		for (step = 0; step < NR_STEPS && !flips->ret; step++) {
			double start = now_ms(), ms;

			do_step(&area, step, flips);
			ms = now_ms() - start;
			if (!round || ms < flips->best[step])
				flips->best[step] = ms;

			held = held_kib(base);
			if (held > flips->peak)
				flips->peak = held;
		}
	}
	for (step = 0; step < NR_STEPS; step++)
		flips->total += flips->best[step];
	flips->conversions = flips->best[TO_PRIVATE] + flips->best[TO_SHARED];

	flips->after = held_kib(base);
	get_pfns(area.host, size / PAGE, after);
	flips->pfns_known = before[0];
	for (i = 0; i < size / PAGE; i++)
		flips->moved += before[i] != after[i];

	area_destroy(&area);
	vm_destroy(&vm);
	flips->closed = held_kib(base);
	free(before);
	free(after);
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

static void progress(const char *what)
{
	fputs(what, stdout);
	fflush(stdout);
}

static void show_flips(size_t size, int rounds)
{
	struct flips ways[NR_WAYS] = {
		{ .name = "in place" },
		{ .name = "two backings" },
		{ .name = "two backings" },
	};
	struct flips *in_place = &ways[0];
	/* The kernel's counters are exact to some pages for each CPU only. */
	const long slack = 4 * 1024, size_kib = size / 1024;

	printf("\nFlipping %zu MiB back and forth, round trips: %d\n", size / MIB, rounds);
	progress("  in place ...\n");
	flip(&ways[0], size, rounds, true, false);
	progress("  with two backings, the one that is left freed by hand ...\n");
	flip(&ways[1], size, rounds, false, true);
	progress("  with two backings, both kept ...\n");
	flip(&ways[2], size, rounds, false, false);
	print_ways(ways, size, rounds);

	heading(text("%zu MiB in place", size / MIB));
	expect(text("%d conversions", 2 * rounds), "done", answer(in_place->ret));
	expect("pages whose contents were lost on the way", "0", text("%zu", in_place->wrong));
	if (in_place->pfns_known)
		expect("pages that are other physical pages now", "0",
		       text("%zu", in_place->moved));
	else
		note("pages that are other physical pages now", "not root");
	row("memory held at most", text("up to %ld MiB", (size_kib + slack) / 1024),
	    text("%.0f MiB", in_place->peak / 1024.0), in_place->peak <= size_kib + slack);
	row("memory held after closing", text("up to %ld MiB", slack / 1024),
	    text("%.0f MiB", in_place->closed / 1024.0), in_place->closed <= slack);
	expect("the two-backings ways ran too", "done, done",
	       text("%s, %s", answer(ways[1].ret), answer(ways[2].ret)));
}

/* ------------------------------------------------------------------------ */

static void usage(FILE *to)
{
	fprintf(to,
		"usage: gmem-vmm [--size MiB] [--rounds N] [--help]\n"
		"\n"
		"Shows how a guest_memfd is converted in place between private and shared.\n"
		"\n"
		"  --size MiB   guest memory to flip back and forth, 1 to %d (256)\n"
		"  --rounds N   round trips to make with it (3)\n"
		"  --help       this text\n"
		"\n"
		"The exit status is 0 if everything is as expected.\n", MAX_AREA_MIB);
}

static long number(const char *arg, long max)
{
	char *end;
	long n = strtol(arg, &end, 0);

	if (end == arg || *end || n < 1 || n > max) {
		usage(stderr);
		exit(2);
	}
	return n;
}

/* Without the capability nothing below makes sense. */
static void require_capability(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	const char *problem = NULL;

	if (kvm < 0)
		problem = text("There is no usable /dev/kvm: %s.", strerror(errno));
	else if (!(check_cap(kvm, KVM_CAP_VM_TYPES) & (1 << KVM_X86_SW_PROTECTED_VM)))
		problem = "KVM has no VM type KVM_X86_SW_PROTECTED_VM here: it wants "
			  "CONFIG_KVM_SW_PROTECTED_VM=y and nested paging.";
	else if (!(check_cap(kvm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES) &
		   KVM_MEMORY_ATTRIBUTE_PRIVATE))
		problem = "This kernel cannot convert a guest_memfd in place: "
			  "KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES is missing.";

	if (kvm >= 0)
		close(kvm);
	if (problem) {
		printf("%s\n0 passed, 1 failed\n", problem);
		exit(1);
	}
}

int main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct sigaction sa = { .sa_handler = on_sigbus };
	size_t size = 256 * MIB;
	int opt, rounds = 3;
	struct area area;
	struct vm vm;

	while ((opt = getopt_long(argc, argv, "s:r:h", options, NULL)) != -1) {
		switch (opt) {
		case 's':
			size = number(optarg, MAX_AREA_MIB) * MIB;
			break;
		case 'r':
			rounds = number(optarg, 1000);
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind != argc) {
		usage(stderr);
		return 2;
	}

	require_capability();
	sigaction(SIGBUS, &sa, NULL);

	vm_create(&vm);
	show_capabilities(&vm);

	area_create(&area, &vm, MIB, true);
	show_preserve(&area);
	show_zero(&area);
	show_hypercall(&area);
	show_pin(&area, "a pipe (vmsplice)", pin_in_pipe);
	show_pin(&area, "an io_uring buffer", pin_in_ring);
	show_both_kinds(&area);
	area_destroy(&area);
	vm_destroy(&vm);

	show_flips(size, rounds);

	printf("\n%d passed, %d failed\n", nr_passed, nr_failed);
	return nr_failed ? 1 : 0;
}
