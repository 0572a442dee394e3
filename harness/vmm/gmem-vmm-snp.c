// SPDX-License-Identifier: GPL-2.0
/*
 * A small VMM for an SNP VM that is launched from memory which the VMM has written
 * to, and whose memory is converted between private and shared in place, at the
 * guest's request.
 *
 * Together with demo.c it needs nothing but <linux/kvm.h>, and it is meant to be read:
 * what a VMM has to do is in the first half (vm_create() to vcpu_run_to_answer(), with
 * area_convert_in_place() in demo.c), what this program shows with it in the
 * second.
 *
 * The second half also looks behind the scenes, as root can: at physical memory, which
 * is what the host sees of a private page, and at the RMP, which is where the processor
 * looks up whose page it is.  That takes /dev/mem for all memory, and /dev/cpu/0/msr.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <linux/perf_event.h>

#include "demo.h"

/*
 * Guest physical addresses: the guest's program, its mailbox, and the memory that is
 * converted.  The mailbox is ordinary memory, which is always shared.
 */
#define IMAGE_GPA	0x100000UL
#define MAIL_GPA	0x200000UL
#define AREA_GPA	0x10000000UL
#define AREA_SIZE	(8 * MIB)

/* The guest maps its first GiB twice: with the C-bit, and above that without. */
#define SHARED_OFFSET	0x40000000UL

#define IMAGE_SLOT	0
#define MAIL_SLOT	1
#define AREA_SLOT	2

/* Pages of the image */
enum {
	IMAGE_CODE,
	IMAGE_PML4,
	IMAGE_PDPT,
	IMAGE_PD_PRIVATE,
	IMAGE_PD_SHARED,
	IMAGE_TABLES,		/* GDT, and from the middle on, IDT */
	IMAGE_STACK,
	IMAGE_PAGES,
};

/* What the guest can be told to do. */
#define OP_READ		0
#define OP_WRITE	1
#define OP_PVALIDATE	2
#define OP_PSC		3

/* The GHCB MSR, its protocol, and fields of the GHCB; see asm/sev-common.h and asm/svm.h. */
#define MSR_GHCB	0xc0010130
#define GHCB_REG_GPA	0x012
#define GHCB_PSC	0x014
#define PSC_PRIVATE	1
#define PSC_SHARED	2
#define DOORBELL	0x5e

#define VC_VECTOR	29
#define VC_UNVALIDATED	0x404

/* The page of the mailbox before it is the GHCB. */
struct mailbox {
	/* What the guest reads, ... */
	uint64_t op;
	uint64_t addr;
	uint64_t pages;
	uint64_t arg;
	/* ... and where it writes an answer, or the error code of #VC. */
	uint64_t answer;
	uint64_t exception;
};

#define STRING(x)	STRING_(x)
#define STRING_(x)	#x

/*
 * The guest.  RBX points to the mailbox, R12 to the GHCB, R13 has the latter's guest
 * physical address, and R14 points to GDT and IDT.
 */
asm(".pushsection .rodata\n"
    ".code64\n"
    "guest_code:\n"
    /* Have the tables mapped, or else #VC would be taken once more for that. */
    "	mov	(%r14), %rax\n"
    /* Say where the GHCB is. */
    "	lea	" STRING(GHCB_REG_GPA) "(%r13), %rax\n"
    "	call	guest_vmgexit\n"

    /*
     * An OUT to the doorbell: exit code, two words of information and RAX, and in
     * the bitmap, that these fields are valid.
     */
    "guest_next:\n"
    "	movq	$0x7b, 0x390(%r12)\n"
    "	movq	$(" STRING(DOORBELL) " << 16 | 0x240), 0x398(%r12)\n"
    "	movq	$0, 0x3a0(%r12)\n"
    "	movq	$0, 0x1f8(%r12)\n"
    "	movabs	$(1 << 63), %rax\n"
    "	mov	%rax, 0x3f0(%r12)\n"
    "	movabs	$(7 << 50), %rax\n"
    "	mov	%rax, 0x3f8(%r12)\n"
    "	mov	%r13, %rax\n"
    "	call	guest_vmgexit\n"

    /* Get what there is to do. */
    "	mov	(%rbx), %rdi\n"
    "	mov	8(%rbx), %rsi\n"
    "	mov	16(%rbx), %r8\n"
    "	mov	24(%rbx), %r9\n"
    "	xor	%ebp, %ebp\n"
    "	cmp	$" STRING(OP_READ) ", %rdi\n"
    "	je	guest_read\n"
    "	cmp	$" STRING(OP_WRITE) ", %rdi\n"
    "	je	guest_write\n"
    "	cmp	$" STRING(OP_PVALIDATE) ", %rdi\n"
    "	je	guest_pvalidate\n"
    "	cmp	$" STRING(OP_PSC) ", %rdi\n"
    "	je	guest_psc\n"
    "guest_answer:\n"
    "	mov	%rbp, 32(%rbx)\n"
    "	jmp	guest_next\n"

    /* Write RAX to the GHCB MSR, and exit. */
    "guest_vmgexit:\n"
    "	mov	$" STRING(MSR_GHCB) ", %ecx\n"
    "	mov	%rax, %rdx\n"
    "	shr	$32, %rdx\n"
    "	wrmsr\n"
    "	rep; vmmcall\n"
    "	ret\n"

    /* Answer with the word at the address. */
    "guest_read:\n"
    "	mov	(%rsi), %ebp\n"
    "	jmp	guest_answer\n"

    /* Write the argument to the word at the address of each page. */
    "guest_write:\n"
    "	mov	%r9d, (%rsi)\n"
    "	add	$4096, %rsi\n"
    "	dec	%r8\n"
    "	jnz	guest_write\n"
    "	jmp	guest_answer\n"

    /* Validate or rescind pages, and count those that were not so before. */
    "guest_pvalidate:\n"
    "	mov	%rsi, %rax\n"
    "	xor	%ecx, %ecx\n"
    "	mov	%r9d, %edx\n"
    "	.byte	0xf2, 0x0f, 0x01, 0xff\n"
    "	jc	1f\n"
    "	test	%eax, %eax\n"
    "	jnz	1f\n"
    "	inc	%rbp\n"
    "1:	add	$4096, %rsi\n"
    "	dec	%r8\n"
    "	jnz	guest_pvalidate\n"
    "	jmp	guest_answer\n"

    /* Ask for pages, by guest physical address, and count those that have changed. */
    "guest_psc:\n"
    "	mov	%r9, %rax\n"
    "	shl	$52, %rax\n"
    "	lea	" STRING(GHCB_PSC) "(%rax,%rsi), %rax\n"
    "	call	guest_vmgexit\n"
    "	rdmsr\n"
    "	test	%edx, %edx\n"
    "	jnz	1f\n"
    "	inc	%rbp\n"
    "1:	add	$4096, %rsi\n"
    "	dec	%r8\n"
    "	jnz	guest_psc\n"
    "	jmp	guest_answer\n"

    /* #VC: drop error code and frame, and with it what was being done. */
    "guest_vc:\n"
    "	pop	%rax\n"
    "	mov	%rax, 40(%rbx)\n"
    "	add	$40, %rsp\n"
    "	jmp	guest_answer\n"

    "guest_code_end:\n"
    ".popsection\n");

extern const char guest_code[], guest_code_end[], guest_vc[];

struct vm {
	int kvm;
	int fd;
	int sev;
	int vcpu;
	struct kvm_run *run;
	size_t run_size;
	struct area image;
	struct area *area;
	uint8_t *mail;
	uint64_t cbit;
	uint64_t mode_to_shared;
};

/* ------------------------------------------------------------------------ */
/* Creating a VM								*/

/* Returns 0 or -errno, and what firmware says. */
static int sev_op(struct vm *vm, uint32_t id, void *data, uint32_t *fw_error)
{
	struct kvm_sev_cmd cmd = {
		.id = id,
		.data = (uintptr_t)data,
		.sev_fd = vm->sev,
	};
	int ret;

	ret = ioctl(vm->fd, KVM_MEMORY_ENCRYPT_OP, &cmd) ? -errno : 0;
	if (fw_error)
		*fw_error = cmd.error;
	return ret;
}

/*
 * Guest memory in place: a guest_memfd that userspace may map, all of it shared at
 * first.
 */
static void area_create(struct area *area, struct vm *vm, uint64_t gpa, size_t size, int slot)
{
	*area = (struct area){ .vm = vm, .gpa = gpa, .size = size };
	area->gmem = create_gmem(vm->fd, size, GUEST_MEMFD_FLAG_MMAP |
					       GUEST_MEMFD_FLAG_INIT_SHARED);
	if (area->gmem < 0)
		err(1, "KVM_CREATE_GUEST_MEMFD");
	area->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, area->gmem, 0);
	if (area->host == MAP_FAILED)
		err(1, "mmap of guest memory");
	area_add(area, vm->fd, slot);
}

static void mail_create(struct vm *vm)
{
	struct kvm_userspace_memory_region region = {
		.slot = MAIL_SLOT,
		.guest_phys_addr = MAIL_GPA,
		.memory_size = 2 * PAGE,
	};

	vm->mail = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	if (vm->mail == MAP_FAILED)
		err(1, "mmap of the mailbox");
	region.userspace_addr = (uintptr_t)vm->mail;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		err(1, "KVM_SET_USER_MEMORY_REGION");
}

static uint64_t *image_page(struct vm *vm, int page)
{
	return (uint64_t *)(vm->image.host + page * PAGE);
}

static uint64_t image_gpa(int page)
{
	return IMAGE_GPA + page * PAGE;
}

/* The guest's program and its tables, written where the guest will have them. */
static void image_write(struct vm *vm)
{
	const uint64_t table = vm->cbit | 0x3, page = 0x83, handler = image_gpa(IMAGE_CODE) +
								     (guest_vc - guest_code);
	uint64_t *idt = image_page(vm, IMAGE_TABLES) + 256;
	int i;

	memcpy(image_page(vm, IMAGE_CODE), guest_code, guest_code_end - guest_code);

	image_page(vm, IMAGE_PML4)[0] = image_gpa(IMAGE_PDPT) | table;
	image_page(vm, IMAGE_PDPT)[0] = image_gpa(IMAGE_PD_PRIVATE) | table;
	image_page(vm, IMAGE_PDPT)[1] = image_gpa(IMAGE_PD_SHARED) | table;
	for (i = 0; i < 512; i++) {
		image_page(vm, IMAGE_PD_PRIVATE)[i] = i * 2 * MIB | page | vm->cbit;
		image_page(vm, IMAGE_PD_SHARED)[i] = i * 2 * MIB | page;
	}

	/* A code segment of 64 bits, and an interrupt gate. */
	image_page(vm, IMAGE_TABLES)[1] = 0x00209b0000000000;
	idt[2 * VC_VECTOR] = (handler & 0xffff) | 0x8 << 16 | 0x8e00UL << 32 |
			     (handler & 0xffff0000) << 32;
	idt[2 * VC_VECTOR + 1] = handler >> 32;
}

/* Registers are the guest's own business as soon as it is launched. */
static void vcpu_init(struct vm *vm)
{
	struct kvm_regs regs = {
		.rip = image_gpa(IMAGE_CODE),
		.rsp = image_gpa(IMAGE_STACK) + PAGE,
		.rflags = 2,	/* always set */
		.rbx = SHARED_OFFSET + MAIL_GPA,
		.r12 = SHARED_OFFSET + MAIL_GPA + PAGE,
		.r13 = MAIL_GPA + PAGE,
		.r14 = image_gpa(IMAGE_TABLES),
	};
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 0x10, .type = 3,
		.present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_cpuid2 *cpuid;
	struct kvm_sregs sregs;

	cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	if (!cpuid)
		err(1, "no memory");
	cpuid->nent = 256;
	if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) ||
	    ioctl(vm->vcpu, KVM_SET_CPUID2, cpuid))
		err(1, "KVM_SET_CPUID2");
	free(cpuid);

	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs))
		err(1, "KVM_GET_SREGS");
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cs = data;
	sregs.cs.selector = 0x08;
	sregs.cs.type = 11;
	sregs.cs.db = 0;
	sregs.cs.l = 1;
	sregs.gdt.base = image_gpa(IMAGE_TABLES);
	sregs.gdt.limit = 2 * 8 - 1;
	sregs.idt.base = image_gpa(IMAGE_TABLES) + PAGE / 2;
	sregs.idt.limit = 32 * 16 - 1;
	sregs.cr0 |= 1 | 1UL << 31;	/* protected mode, paging */
	sregs.cr4 |= 1 << 5;		/* PAE */
	sregs.cr3 = image_gpa(IMAGE_PML4);
	sregs.efer |= 1 << 8 | 1 << 10;	/* long mode */
	if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs))
		err(1, "KVM_SET_SREGS");
	if (ioctl(vm->vcpu, KVM_SET_REGS, &regs))
		err(1, "KVM_SET_REGS");
}

static void vm_create(struct vm *vm)
{
	struct kvm_enable_cap exit_hypercall = {
		.cap = KVM_CAP_EXIT_HYPERCALL,
		.args = { 1UL << KVM_HC_MAP_GPA_RANGE },
	};
	struct kvm_sev_init init = { };
	unsigned int eax, ebx, ecx, edx;

	*vm = (struct vm){ .mode_to_shared = ZERO };

	__cpuid(0x8000001f, eax, ebx, ecx, edx);
	vm->cbit = 1UL << (ebx & 0x3f);

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		err(1, "/dev/kvm");
	vm->sev = open("/dev/sev", O_RDWR | O_CLOEXEC);
	if (vm->sev < 0)
		err(1, "/dev/sev");
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, KVM_X86_SNP_VM);
	if (vm->fd < 0)
		err(1, "KVM_CREATE_VM of type KVM_X86_SNP_VM");
	if (sev_op(vm, KVM_SEV_INIT2, &init, NULL))
		err(1, "KVM_SEV_INIT2");

	/* The guest asks for a conversion: pass it on to us. */
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &exit_hypercall))
		err(1, "KVM_CAP_EXIT_HYPERCALL");

	area_create(&vm->image, vm, IMAGE_GPA, IMAGE_PAGES * PAGE, IMAGE_SLOT);
	mail_create(vm);

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0)
		err(1, "KVM_CREATE_VCPU");
	vm->run = map_run(vm->kvm, vm->vcpu, &vm->run_size);
	vcpu_init(vm);
	image_write(vm);
}

static void vm_destroy(struct vm *vm)
{
	area_destroy(&vm->image);
	munmap(vm->run, vm->run_size);
	munmap(vm->mail, 2 * PAGE);
	close(vm->vcpu);
	close(vm->fd);
	close(vm->sev);
	close(vm->kvm);
}

/* ------------------------------------------------------------------------ */
/* Launching								*/

/* From here on, firmware measures and encrypts pages. */
static void launch_start(struct vm *vm)
{
	struct kvm_sev_snp_launch_start start = {
		.policy = 1 << 16 | 1 << 17,	/* SMT is allowed; always set */
	};

	if (sev_op(vm, KVM_SEV_SNP_LAUNCH_START, &start, NULL))
		err(1, "KVM_SEV_SNP_LAUNCH_START");
}

/*
 * Launch private pages with their present contents, where they are: no source is
 * given.  They have been converted to private with PRESERVE before.
 */
static int launch_update(struct area *area, uint64_t offset, uint64_t size, int type,
			 uint32_t *fw_error)
{
	struct kvm_sev_snp_launch_update update = {
		.gfn_start = (area->gpa + offset) / PAGE,
		.len = size,
		.type = type,
	};

	return sev_op(area->vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update, fw_error);
}

static void launch_finish(struct vm *vm)
{
	struct kvm_sev_snp_launch_finish finish = { };
	int ret;

	ret = area_convert_in_place(&vm->image, 0, vm->image.size, true, PRESERVE);
	if (!ret)
		ret = launch_update(&vm->image, 0, vm->image.size,
				    KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL);
	if (!ret)
		ret = sev_op(vm, KVM_SEV_SNP_LAUNCH_FINISH, &finish, NULL);
	if (ret)
		errx(1, "the launch fails: %s", strerror(-ret));
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

	/* These numbers come from the guest.  Trust none of them. */
	if (run->hypercall.args[0] < AREA_GPA || offset >= vm->area->size ||
	    run->hypercall.args[1] > vm->area->size / PAGE ||
	    size > vm->area->size - offset) {
		run->hypercall.ret = EINVAL;
		return;
	}

	/* Nothing can be kept once the VM is launched, but zeros can be had. */
	run->hypercall.ret = area_convert_in_place(vm->area, offset, size, private,
						   private ? 0 : vm->mode_to_shared) ?
			     EINVAL : 0;
}

static void vcpu_run_to_answer(struct vm *vm)
{
	for (;;) {
		if (ioctl(vm->vcpu, KVM_RUN, 0)) {
			if (errno == EINTR)
				continue;
			err(1, "KVM_RUN, exit reason %u", vm->run->exit_reason);
		}

		switch (vm->run->exit_reason) {
		case KVM_EXIT_IO:
			if (vm->run->io.port == DOORBELL)
				return;
			errx(1, "unexpected port 0x%x", vm->run->io.port);
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

/* Have the guest do something, and return what it answers. */
static uint64_t guest_do(struct area *area, int op, uint64_t addr, uint64_t pages, uint64_t arg)
{
	struct mailbox *mail = (struct mailbox *)area->vm->mail;

	*mail = (struct mailbox){ .op = op, .addr = addr, .pages = pages, .arg = arg };
	vcpu_run_to_answer(area->vm);
	return mail->answer;
}

static const char *guest_get(struct area *area, uint64_t addr)
{
	struct mailbox *mail = (struct mailbox *)area->vm->mail;
	uint32_t value = guest_do(area, OP_READ, addr, 1, 0);

	return mail->exception ? text("#VC 0x%lx", mail->exception) : hex(value);
}

/* The guest's two views of the memory */
static uint64_t private(struct area *area, uint64_t offset)
{
	return area->gpa + offset;
}

static uint64_t shared(struct area *area, uint64_t offset)
{
	return area->gpa + offset + SHARED_OFFSET;
}

static const char *guest_validate(struct area *area, uint64_t offset, uint64_t pages, bool valid)
{
	return text("%lu", guest_do(area, OP_PVALIDATE, private(area, offset), pages, valid));
}

static const char *guest_ask(struct area *area, uint64_t offset, uint64_t pages, int state)
{
	return text("%lu", guest_do(area, OP_PSC, area->gpa + offset, pages, state));
}

/* What demo.c wants to flip large areas with, see show_round_trip() for SNP's own. */
int flip_area(struct area *area, bool to_private)
{
	return area_convert_in_place(area, 0, area->size, to_private, to_private ? 0 : ZERO);
}

size_t guest_touch(struct area *area, uint32_t expect, uint32_t leave)
{
	(void)expect;
	guest_do(area, OP_WRITE, private(area, 0), area->size / PAGE, leave);
	return 0;
}

/* ------------------------------------------------------------------------ */
/* Behind the scenes							*/

static int mem = -1;
static uint64_t rmp_base;

static void open_memory(void)
{
	int msr = open("/dev/cpu/0/msr", O_RDONLY);

	if (msr < 0 || pread(msr, &rmp_base, 8, 0xc0010132) != 8)
		err(1, "/dev/cpu/0/msr (CONFIG_X86_MSR)");
	close(msr);
	mem = open("/dev/mem", O_RDWR);
	if (mem < 0)
		err(1, "/dev/mem (CONFIG_DEVMEM)");
}

/* The physical address of a page, which has to be shared for us to learn it. */
static uint64_t physical(struct area *area, uint64_t offset)
{
	uint64_t pfn;

	*(volatile uint8_t *)(area->host + offset);
	get_pfns(area->host + offset, 1, &pfn);
	if (!pfn)
		errx(1, "/proc/self/pagemap tells no addresses");
	return pfn * PAGE;
}

/* The word that is in memory, be it readable for the host or not. */
static uint32_t physical_word(uint64_t address)
{
	uint32_t value;

	if (pread(mem, &value, sizeof(value), address) != sizeof(value))
		err(1, "/dev/mem (CONFIG_STRICT_DEVMEM)");
	return value;
}

/* Whose page it is, by the RMP: 16 bytes a page behind 16 KiB (APM volume 2, 15.36). */
static const char *rmp(uint64_t address)
{
	uint64_t at = rmp_base + 0x4000 + address / PAGE * 16, entry;
	volatile uint64_t *page;

	/* The RMP isn't RAM as far as the kernel is concerned, so it has to be mapped. */
	page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, mem, at & ~(PAGE - 1));
	if (page == MAP_FAILED)
		err(1, "mmap of the RMP");
	entry = page[at % PAGE / 8];
	munmap((void *)page, PAGE);

	if (!(entry & 1))
		return "host";
	if (!(entry >> 51 & 0x3ff))
		return text("firmware 0x%lx", entry);
	return text("guest 0x%lx%s%s", entry & 0x7fffffffff000,
		    entry & 4 ? " immutable" : "", entry >> 62 & 1 ? " valid" : "");
}

static const char *guests(struct area *area, uint64_t offset, const char *valid)
{
	return text("guest 0x%lx%s", area->gpa + offset, valid);
}

/* Tell the emulator's log that a line with this text is to be expected. */
static void announce(const char *what)
{
	const char *p = text("expect: %s\n", what);

	if (ioperm(0xe9, 1, 1))
		return;
	for (; *p; p++)
		outb(*p, 0xe9);
	ioperm(0xe9, 1, 0);
}

/* ------------------------------------------------------------------------ */
/* What is shown							*/

static void show_modes(struct vm *vm)
{
	int cap = check_cap(vm->fd, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS);

	heading("What the kernel says it can do");

	expect("this VM: attributes that a file may hold", "0x8 (private)",
	       text("0x%x (private)", check_cap(vm->fd, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES)));
	expect("before launch is final: content modes to shared", "ZERO, PRESERVE",
	       modes(KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_SHARED(cap)));
	expect("before launch is final: content modes to private", "PRESERVE",
	       modes(KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_PRIVATE(cap)));
	expect("once launched: content modes to shared", "ZERO",
	       modes(KVM_MEMORY_ATTRIBUTES2_TO_SHARED(cap)));
	expect("once launched: content modes to private", "none",
	       modes(KVM_MEMORY_ATTRIBUTES2_TO_PRIVATE(cap)));
}

/* Offsets of pages in the area, and where they are in physical memory */
#define PAGE_BEEF	(3 * PAGE)
#define PAGE_CPUID	(5 * PAGE)

static uint64_t beef;

static void show_launch(struct area *area)
{
	uint64_t where;
	int ret;

	heading("A page that the host has written, launched in place");

	host_set(area, PAGE_BEEF - PAGE, 0x1111);
	host_set(area, PAGE_BEEF + PAGE, 0x2222);
	host_set(area, PAGE_BEEF, 0xbeef);
	beef = physical(area, PAGE_BEEF);
	expect("host writes 0xbeef, host reads", "0xbeef", host_get(area, PAGE_BEEF));
	expect("physical memory", "0xbeef", hex(physical_word(beef)));
	expect("RMP", "host", rmp(beef));

	expect("convert to private, PRESERVE", "done",
	       answer(area_convert_in_place(area, PAGE_BEEF, PAGE, true, PRESERVE)));
	expect("host touches it", "SIGBUS", host_get(area, PAGE_BEEF));
	expect("RMP, which isn't told", "host", rmp(beef));
	expect("convert to shared, PRESERVE", "done",
	       answer(area_convert_in_place(area, PAGE_BEEF, PAGE, false, PRESERVE)));
	expect("host reads", "0xbeef", host_get(area, PAGE_BEEF));

	expect("launch the page while it is shared", "EIO",
	       answer(launch_update(area, PAGE_BEEF, PAGE, KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL)));
	expect("convert to private, PRESERVE", "done",
	       answer(area_convert_in_place(area, PAGE_BEEF, PAGE, true, PRESERVE)));
	expect("launch it, in place", "done",
	       answer(launch_update(area, PAGE_BEEF, PAGE, KVM_SEV_SNP_PAGE_TYPE_NORMAL, NULL)));
	expect("RMP", guests(area, PAGE_BEEF, " valid"), rmp(beef));
	row("physical memory", "ciphertext", hex(physical_word(beef)),
	    physical_word(beef) != 0xbeef);
	ret = convert_once(area, PAGE_BEEF, PAGE, false, PRESERVE, &where);
	expect("convert to shared, PRESERVE", text("EOPNOTSUPP at 0x%lx", PAGE_BEEF),
	       answer_at(ret, where));
}

/* The page that firmware looks into: CPUID leaves, see the ABI specification, 8.14.2.6. */
static void show_cpuid(struct area *area)
{
	uint64_t page = physical(area, PAGE_CPUID);
	uint32_t *words = (uint32_t *)(area->host + PAGE_CPUID), fw_error;
	const uint32_t leaf[] = { 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0xffffffff };

	heading("A CPUID page that firmware rejects");

	memcpy(words, leaf, sizeof(leaf));
	expect("convert to private, PRESERVE", "done",
	       answer(area_convert_in_place(area, PAGE_CPUID, PAGE, true, PRESERVE)));
	announce("psp:SNP_LAUNCH_UPDATE");
	expect("launch it with features that no processor has", "EIO",
	       answer(launch_update(area, PAGE_CPUID, PAGE, KVM_SEV_SNP_PAGE_TYPE_CPUID,
				    &fw_error)));
	expect("firmware's error", "0x16", hex(fw_error));
	expect("RMP", "host", rmp(page));
	expect("convert to shared, PRESERVE", "done",
	       answer(area_convert_in_place(area, PAGE_CPUID, PAGE, false, PRESERVE)));
	row("host reads what firmware would take", "not 0xffffffff",
	    host_get(area, PAGE_CPUID + 11 * 4), words[11] != 0xffffffff);
	expect("convert to private, PRESERVE", "done",
	       answer(area_convert_in_place(area, PAGE_CPUID, PAGE, true, PRESERVE)));
	expect("launch it", "done",
	       answer(launch_update(area, PAGE_CPUID, PAGE, KVM_SEV_SNP_PAGE_TYPE_CPUID, NULL)));
	expect("RMP", guests(area, PAGE_CPUID, " valid"), rmp(page));
}

static void show_private(struct area *area)
{
	uint32_t before, after;

	heading("The guest has it");

	expect("guest reads", "0xbeef", guest_get(area, private(area, PAGE_BEEF)));
	before = physical_word(beef);
	guest_do(area, OP_WRITE, private(area, PAGE_BEEF), 1, 0xcafe);
	expect("guest writes 0xcafe, guest reads", "0xcafe",
	       guest_get(area, private(area, PAGE_BEEF)));
	after = physical_word(beef);
	row("physical memory, other than before", "ciphertext", hex(after),
	    after != 0xcafe && after != 0xbeef && after != before);
	expect("host touches it", "SIGBUS", host_get(area, PAGE_BEEF));
	expect("read() of the host stores to it", "EFAULT", host_read_syscall(area, PAGE_BEEF));
	expect("host reads the page before it", "0x1111", host_get(area, PAGE_BEEF - PAGE));
	expect("host reads the page after it", "0x2222", host_get(area, PAGE_BEEF + PAGE));
	expect("RMP", guests(area, PAGE_BEEF, " valid"), rmp(beef));
}

static void show_shared(struct area *area)
{
	heading("The guest shares the page: ZERO");

	expect("guest rescinds the page: pages", "1", guest_validate(area, PAGE_BEEF, 1, false));
	expect("RMP", guests(area, PAGE_BEEF, ""), rmp(beef));
	expect("guest asks, and the VMM converts: pages", "1",
	       guest_ask(area, PAGE_BEEF, 1, PSC_SHARED));
	expect("RMP", "host", rmp(beef));
	expect("host reads", "0x0", host_get(area, PAGE_BEEF));
	expect("bytes of that page that are not zero", "0",
	       text("%zu", nonzero_bytes(area->host + PAGE_BEEF, PAGE)));
	expect_pfn(beef / PAGE, area->host + PAGE_BEEF);
	host_set(area, PAGE_BEEF, 0xbeef);
	expect("host writes 0xbeef, guest reads", "0xbeef",
	       guest_get(area, shared(area, PAGE_BEEF)));
	guest_do(area, OP_WRITE, shared(area, PAGE_BEEF), 1, 0xf00d);
	expect("guest writes 0xf00d, host reads", "0xf00d", host_get(area, PAGE_BEEF));
	expect("physical memory", "0xf00d", hex(physical_word(beef)));
}

static void show_private_again(struct area *area)
{
	const char *seen;
	uint64_t where;
	int ret;

	heading("The guest takes it back: no content mode");

	ret = convert_once(area, PAGE_BEEF, PAGE, true, PRESERVE, &where);
	expect("convert to private, PRESERVE", text("EOPNOTSUPP at 0x%lx", PAGE_BEEF),
	       answer_at(ret, where));
	ret = convert_once(area, PAGE_BEEF, PAGE, true, ZERO, &where);
	expect("convert to private, ZERO", text("EOPNOTSUPP at 0x%lx", PAGE_BEEF),
	       answer_at(ret, where));
	expect("host reads, nothing has changed", "0xf00d", host_get(area, PAGE_BEEF));
	expect("guest asks, and the VMM converts: pages", "1",
	       guest_ask(area, PAGE_BEEF, 1, PSC_PRIVATE));
	expect("host touches it", "SIGBUS", host_get(area, PAGE_BEEF));
	expect("RMP, which isn't told", "host", rmp(beef));
	announce("vc-404");
	expect("guest touches it without validating it", text("#VC 0x%x", VC_UNVALIDATED),
	       guest_get(area, private(area, PAGE_BEEF)));
	expect("RMP, since the guest's first access", guests(area, PAGE_BEEF, ""), rmp(beef));
	expect("guest validates: pages that were not valid", "1",
	       guest_validate(area, PAGE_BEEF, 1, true));
	expect("RMP", guests(area, PAGE_BEEF, " valid"), rmp(beef));
	seen = guest_get(area, private(area, PAGE_BEEF));
	row("guest reads", "neither of both", seen, strcmp(seen, "0xf00d") &&
	    strcmp(seen, "0xcafe"));
	guest_do(area, OP_WRITE, private(area, PAGE_BEEF), 1, 0x5ec7e7);
	expect("guest writes a secret, guest reads", "0x5ec7e7",
	       guest_get(area, private(area, PAGE_BEEF)));
}

static sigjmp_buf sigtrap_env;

static void on_sigtrap(int sig)
{
	(void)sig;
	siglongjmp(sigtrap_env, 1);
}

/*
 * A store to physical memory, which knows nothing of private pages.  The kernel has
 * no answer to an RMP fault of such a mapping, and would have it repeated for ever.  So
 * count page faults, and have a signal sent at the first one.
 */
static const char *store_physical(uint64_t address)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_PAGE_FAULTS,
		.sample_period = 1,
		.disabled = 1,
		.exclude_kernel = 1,
		.sigtrap = 1,
		.remove_on_exec = 1,
	};
	struct sigaction sa = { .sa_handler = on_sigtrap };
	volatile uint32_t *word;
	const char *seen;
	int faults;

	faults = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
	if (faults < 0)
		err(1, "perf_event_open (CONFIG_PERF_EVENTS)");
	word = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, mem, address);
	if (word == MAP_FAILED)
		err(1, "mmap of physical memory");
	sigaction(SIGTRAP, &sa, NULL);

	if (sigsetjmp(sigtrap_env, 1)) {
		seen = "fault";
	} else {
		ioctl(faults, PERF_EVENT_IOC_ENABLE, 0);
		*word = 0xbadbad;
		ioctl(faults, PERF_EVENT_IOC_DISABLE, 0);
		seen = "done";
	}

	munmap((void *)word, PAGE);
	close(faults);
	return seen;
}

/*
 * What if the kernel took the page for shared, but had not told the RMP?  The host
 * would get as far as this.
 */
static void show_rmp_fault(struct area *area)
{
	uint64_t other = physical(area, PAGE_BEEF + PAGE);

	heading("The host stores to a page that is the guest's in the RMP");

	announce("host-fault");
	expect("a store to physical memory", "fault", store_physical(beef));
	expect("guest reads", "0x5ec7e7", guest_get(area, private(area, PAGE_BEEF)));
	expect("RMP", guests(area, PAGE_BEEF, " valid"), rmp(beef));
	expect("a store where the RMP says that the page is the host's", "done",
	       store_physical(other));
	expect("host reads", "0xbadbad", host_get(area, PAGE_BEEF + PAGE));
}

static void show_pin(struct area *area, const char *who,
		     int (*pin)(struct area *area, uint64_t offset))
{
	const uint64_t first = 8 * PAGE, pages = 8, page = 13 * PAGE;
	uint64_t offset, where;
	int ret, wrong = 0;

	heading(text("A page in use: %s", who));

	for (offset = first; offset < first + pages * PAGE; offset += PAGE)
		host_set(area, offset, 0xf00d0000 + offset / PAGE);
	ret = pin(area, page);
	if (ret) {
		note("pin one page of eight", answer(ret));
		return;
	}

	ret = convert_once(area, first, pages * PAGE, true, 0, &where);
	expect("convert eight pages to private, the sixth is pinned",
	       text("EAGAIN at 0x%lx", page), answer_at(ret, where));
	for (offset = first; offset < first + pages * PAGE; offset += PAGE)
		wrong += strcmp(host_get(area, offset), hex(0xf00d0000 + offset / PAGE)) != 0;
	expect("pages of these whose state or contents changed", "0", text("%d", wrong));

	expect("convert again, dropping pins on EAGAIN", "done",
	       answer(area_convert_in_place(area, first, pages * PAGE, true, 0)));
	expect("pins left", "0", text("%d", pins_left()));
	expect("guest validates: pages that were not valid", "8",
	       guest_validate(area, first, pages, true));
	guest_do(area, OP_WRITE, private(area, first), pages, 0x5ec7e7);
	expect("guest writes, and reads the page that was pinned", "0x5ec7e7",
	       guest_get(area, private(area, page)));
	expect("guest rescinds: pages", "8", guest_validate(area, first, pages, false));
	expect("guest asks for them to be shared: pages", "8",
	       guest_ask(area, first, pages, PSC_SHARED));
}

/* All of the second half of the area, back and forth. */
static void show_round_trip(struct area *area)
{
	const uint64_t first = area->size / 2, pages = first / PAGE;
	uint64_t *before = calloc(pages, 8), *after = calloc(pages, 8), i, moved = 0, wrong = 0;

	if (!before || !after)
		err(1, "no memory");

	heading(text("%lu MiB back and forth", first / MIB));

	for (i = 0; i < pages; i++)
		host_set(area, first + i * PAGE, i + 1);
	get_pfns(area->host + first, pages, before);
	expect("guest asks for private pages", text("%lu", pages),
	       guest_ask(area, first, pages, PSC_PRIVATE));
	expect("guest validates: pages that were not valid", text("%lu", pages),
	       guest_validate(area, first, pages, true));
	guest_do(area, OP_WRITE, private(area, first), pages, 0xb0b);
	for (i = 0; i < pages; i++)
		wrong += physical_word(before[i] * PAGE) == 0xb0b;
	expect("pages in which the host finds what the guest wrote", "0", text("%lu", wrong));
	expect("guest rescinds: pages", text("%lu", pages),
	       guest_validate(area, first, pages, false));
	expect("guest asks for shared pages", text("%lu", pages),
	       guest_ask(area, first, pages, PSC_SHARED));
	for (i = wrong = 0; i < pages; i++)
		wrong += *(volatile uint32_t *)(area->host + first + i * PAGE) != 0;
	expect("pages that the host does not find zeroed", "0", text("%lu", wrong));
	get_pfns(area->host + first, pages, after);
	for (i = 0; i < pages; i++)
		moved += before[i] != after[i];
	expect("pages that are other physical pages now", "0", text("%lu", moved));
	for (i = wrong = 0; i < pages; i++)
		wrong += strcmp(rmp(after[i] * PAGE), "host") != 0;
	expect("pages that are not the host's in the RMP", "0", text("%lu", wrong));

	free(before);
	free(after);
}

/* ------------------------------------------------------------------------ */

static const char *no_vm_type(int kvm)
{
	if (check_cap(kvm, KVM_CAP_VM_TYPES) & (1 << KVM_X86_SNP_VM))
		return NULL;
	return "KVM has no VM type KVM_X86_SNP_VM here: it wants a processor with SEV-SNP.";
}

int main(int argc, char *argv[])
{
	struct area area;
	struct vm vm;

	if (argc > 1) {
		fprintf(stderr, "usage: %s\n", argv[0]);
		return 2;
	}

	require_capability(no_vm_type);
	catch_sigbus();
	open_memory();

	vm_create(&vm);
	area_create(&area, &vm, AREA_GPA, AREA_SIZE, AREA_SLOT);
	vm.area = &area;
	show_modes(&vm);

	launch_start(&vm);
	show_launch(&area);
	show_cpuid(&area);
	launch_finish(&vm);

	/* The guest says that it is there. */
	vcpu_run_to_answer(&vm);
	show_private(&area);
	show_shared(&area);
	show_private_again(&area);
	show_rmp_fault(&area);
	show_pin(&area, "a pipe (vmsplice)", pin_in_pipe);
	show_pin(&area, "an io_uring buffer", pin_in_ring);
	show_round_trip(&area);

	area_destroy(&area);
	vm_destroy(&vm);
	heading("When all is closed");
	expect("RMP", "host", rmp(beef));

	return sum_up();
}
