// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test what a VMM does to the memory of an SNP VM that is one guest_memfd, converted
 * in place: it launches the VM from what it has written to the memory, converts pages
 * as the guest asks for it, holds on to pages, punches holes, and goes away.
 *
 * Most tests come in one of these settings:
 *
 *  - "image":	a VM without vCPUs whose launch has been started, for what firmware
 *		and KVM make of pages before the launch is final
 *  - "launch":	as "image", but with vCPUs, and the guest's program ready to be launched
 *  - "guest":	a launched VM with two vCPUs, each of which does what it is told to
 *
 * The guest maps the memory under test twice, with the C-bit and without.  The two
 * sides talk by way of pages that are always shared, and of exits through the GHCB.
 *
 * The conversion itself is for guest_memfd_conversions_test.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/falloc.h>
#include <linux/sizes.h>

#include "guest_memfd.h"
#include "kvm_syscalls.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "sev.h"
#include "sparsebit.h"
#include "test_util.h"

#define TEST_GPA	((gpa_t)SZ_4G)
#define TEST_SLOT	10
#define OTHER_GPA	(TEST_GPA + SZ_1G)
#define OTHER_SLOT	11

/* Where the guest has the memory at TEST_GPA and, to the same extent, at OTHER_GPA. */
#define PRIVATE_GVA	((gva_t)SZ_4G)
#define SHARED_GVA	((gva_t)SZ_4G + SZ_2G)

/* 2 MiB, and some. */
#define NR_HUGE		512ul
#define NR_PAGES	(NR_HUGE + 64)

/* The first pages are launched with what the host has written to them. */
#define NR_LAUNCHED	4ul
#define LAUNCH_SEED	0x1000

#define NR_VCPUS	2

#define SECRET		0x5ec2e75ec2e75ec2ull

#define DOORBELL	0x5e

#define RMP_VALIDATED	true
#define RMP_RESCINDED	false

/* A VM, a hundred pages, and a debug kernel on an emulated processor. */
#define SECONDS		120

/*
 * The guest
 */
enum guest_op {
	OP_FILL,		/* the first and the last word of pages */
	OP_MATCH,		/* find the first page that isn't so filled */
	OP_MATCH_BYTE,		/* find the first page with another byte in it */
	OP_READ,		/* the first word of a page, which may raise an exception */
	OP_WRITE,		/* likewise */
	OP_PVALIDATE,		/* pages, until one fails */
	OP_PVALIDATE_2M,
	OP_PSC_MSR,		/* one request for each page by the MSR protocol */
	OP_PSC,			/* a list of requests */
	OP_SHARE,		/* all that it takes to make pages shared */
	OP_UNSHARE,		/* ... and private */
	OP_TERMINATE,		/* exit through the GHCB for the end of the VM */
	OP_LOOP,		/* fill and match pages until told to stop */
	OP_LOOP_READ,		/* read pages, whatever they hold, until told to stop */
	OP_LOOP_CONVERT,	/* share and unshare pages until told to stop */
	OP_RMPADJUST,
	OP_AP_CREATE,		/* make a page the VMSA of the other vCPU, and start it */
	OP_AP_REQUEST,		/* SVM_VMGEXIT_AP_CREATION */
	OP_HV_FEATURES,
};

/* What a vCPU is told, and what it answers. */
struct guest_cmd {
	u64 op;
	gva_t gva;
	u64 nr;
	u64 val;
	u64 go_on;

	u64 ret;
	u64 index;
	u64 vector;
	u64 error_code;
	u64 rounds;

	/* How often this vCPU was started by the other one. */
	u64 nr_starts;

	/* The other vCPU. */
	u64 apic_id;
	gva_t stack;
	struct guest_cmd *ap_cmd;
	u64 *ap_ghcb;
	gpa_t ap_ghcb_gpa;

	struct snp_psc psc;
};

static u64 *guest_page(gva_t gva, u64 i)
{
	return (u64 *)(gva + i * PAGE_SIZE);
}

static gva_t guest_shared(gva_t gva)
{
	return gva - PRIVATE_GVA + SHARED_GVA;
}

static gpa_t guest_gpa(gva_t gva)
{
	return TEST_GPA + gva - (gva >= SHARED_GVA ? SHARED_GVA : PRIVATE_GVA);
}

static void guest_fill_pages(gva_t gva, u64 nr, u64 seed)
{
	u64 i;

	for (i = 0; i < nr; i++) {
		WRITE_ONCE(guest_page(gva, i)[0], seed + i);
		WRITE_ONCE(guest_page(gva, i)[511], seed + i);
	}
}

/* Return the first page that isn't as above, or ALL. */
static u64 guest_match_pages(gva_t gva, u64 nr, u64 seed)
{
	u64 i;

	for (i = 0; i < nr; i++) {
		if (READ_ONCE(guest_page(gva, i)[0]) != seed + i ||
		    READ_ONCE(guest_page(gva, i)[511]) != seed + i)
			return i;
	}
	return ALL;
}

static u64 guest_match_bytes(gva_t gva, u64 nr, u8 byte)
{
	u64 i, j;

	for (i = 0; i < nr; i++) {
		for (j = 0; j < 512; j++) {
			if (READ_ONCE(guest_page(gva, i)[j]) != byte * 0x0101010101010101ull)
				return i;
		}
	}
	return ALL;
}

static u64 guest_read(struct guest_cmd *c, u64 *addr)
{
	u64 val = 0, error_code;
	u8 vector;

	asm volatile(KVM_ASM_SAFE("movq (%[addr]), %[val]")
		     : KVM_ASM_SAFE_OUTPUTS(vector, error_code), [val] "+&r"(val)
		     : [addr] "r"(addr)
		     : KVM_ASM_SAFE_CLOBBERS, "memory");
	c->vector = vector;
	c->error_code = error_code;
	return val;
}

static void guest_write(struct guest_cmd *c, u64 *addr, u64 val)
{
	u64 error_code;
	u8 vector;

	asm volatile(KVM_ASM_SAFE("movq %[val], (%[addr])")
		     : KVM_ASM_SAFE_OUTPUTS(vector, error_code)
		     : [addr] "r"(addr), [val] "r"(val)
		     : KVM_ASM_SAFE_CLOBBERS, "memory");
	c->vector = vector;
	c->error_code = error_code;
}

/* Return 0 or what PVALIDATE says about c->index. */
static u64 guest_pvalidate(struct guest_cmd *c, gva_t gva, u64 nr, bool validate)
{
	u64 i;
	int r;

	for (i = 0; i < nr; i++) {
		r = pvalidate(guest_page(gva, i), validate);
		if (r) {
			c->index = i;
			return r;
		}
	}
	return 0;
}

static u64 guest_psc_list(struct guest_cmd *c, u64 *ghcb, gpa_t ghcb_gpa, gva_t gva, u64 nr,
			  u64 operation)
{
	u64 i;

	c->psc.cur_entry = 0;
	c->psc.end_entry = nr - 1;
	for (i = 0; i < nr; i++)
		c->psc.entries[i] = (struct snp_psc_entry) {
			.gfn = (guest_gpa(gva) >> PAGE_SHIFT) + i,
			.operation = operation,
		};

	return ghcb_page_state_change(ghcb, ghcb_gpa, &c->psc);
}

static u64 guest_share_pages(struct guest_cmd *c, u64 *ghcb, gpa_t ghcb_gpa, gva_t gva,
			     u64 nr)
{
	return guest_pvalidate(c, gva, nr, RMP_RESCINDED) ?:
	       guest_psc_list(c, ghcb, ghcb_gpa, gva, nr, SNP_PSC_OP_SHARED);
}

static u64 guest_unshare_pages(struct guest_cmd *c, u64 *ghcb, gpa_t ghcb_gpa, gva_t gva,
			       u64 nr)
{
	return guest_psc_list(c, ghcb, ghcb_gpa, gva, nr, SNP_PSC_OP_PRIVATE) ?:
	       guest_pvalidate(c, gva, nr, RMP_VALIDATED);
}

static void guest_ap_main(struct guest_cmd *c, u64 *ghcb, gpa_t ghcb_gpa);

static u64 guest_do(struct guest_cmd *c, u64 *ghcb, gpa_t ghcb_gpa)
{
	const u64 sev_features = rdmsr(MSR_AMD64_SEV) >> 2;
	gva_t gva = READ_ONCE(c->gva);
	u64 nr = READ_ONCE(c->nr);
	u64 val = READ_ONCE(c->val);
	u64 i, ret = 0;

	switch (READ_ONCE(c->op)) {
	case OP_FILL:
		guest_fill_pages(gva, nr, val);
		return 0;
	case OP_MATCH:
		return guest_match_pages(gva, nr, val);
	case OP_MATCH_BYTE:
		return guest_match_bytes(gva, nr, val);
	case OP_READ:
		return guest_read(c, guest_page(gva, 0));
	case OP_WRITE:
		guest_write(c, guest_page(gva, 0), val);
		return 0;
	case OP_PVALIDATE:
		return guest_pvalidate(c, gva, nr, val);
	case OP_PVALIDATE_2M:
		return __pvalidate(guest_page(gva, 0), RMP_PG_SIZE_2M, val);
	case OP_PSC_MSR:
		for (i = 0; i < nr; i++) {
			if (!snp_page_state_change(guest_gpa(gva) + i * PAGE_SIZE, val))
				ret++;
		}
		return ret;
	case OP_PSC:
		return ghcb_page_state_change(ghcb, ghcb_gpa, &c->psc);
	case OP_SHARE:
		return guest_share_pages(c, ghcb, ghcb_gpa, gva, nr);
	case OP_UNSHARE:
		return guest_unshare_pages(c, ghcb, ghcb_gpa, gva, nr);
	case OP_TERMINATE:
		ghcb_exit(ghcb, ghcb_gpa, SVM_VMGEXIT_TERM_REQUEST);
		return 0;
	case OP_LOOP:
		for (i = 0; READ_ONCE(c->go_on); i++) {
			guest_fill_pages(gva, nr, val + i);
			if (guest_match_pages(gva, nr, val + i) != ALL)
				ret++;
			WRITE_ONCE(c->rounds, i + 1);
		}
		return ret;
	case OP_LOOP_READ:
		for (i = 0; READ_ONCE(c->go_on); i++) {
			guest_read(c, guest_page(gva, i % nr));
			if (c->vector && (c->vector != VC_VECTOR ||
					  c->error_code != SVM_EXIT_NOT_VALIDATED))
				ret++;
			WRITE_ONCE(c->rounds, i + 1);
		}
		return ret;
	case OP_LOOP_CONVERT:
		for (i = 0; READ_ONCE(c->go_on); i++) {
			ret = guest_share_pages(c, ghcb, ghcb_gpa, gva, nr);
			if (ret)
				return ret;
			if (guest_match_bytes(guest_shared(gva), nr, 0) != ALL)
				return i + 1;
			guest_fill_pages(guest_shared(gva), nr, val + i);
			if (guest_match_pages(guest_shared(gva), nr, val + i) != ALL)
				return i + 1;
			ret = guest_unshare_pages(c, ghcb, ghcb_gpa, gva, nr);
			if (ret)
				return ret;
			guest_fill_pages(gva, nr, val - i);
			if (guest_match_pages(gva, nr, val - i) != ALL)
				return i + 1;
			WRITE_ONCE(c->rounds, i + 1);
		}
		return 0;
	case OP_RMPADJUST:
		return rmpadjust(guest_page(gva, 0), val);
	case OP_AP_CREATE:
		snp_vmsa_init(guest_page(gva, 0), guest_ap_main, c->stack, (u64)c->ap_cmd,
			      (u64)c->ap_ghcb, c->ap_ghcb_gpa);
		ret = rmpadjust(guest_page(gva, 0), RMPADJUST_VMPL(1) | RMPADJUST_VMSA);
		if (ret)
			return ret;
		val = SVM_VMGEXIT_AP_CREATE;
		fallthrough;
	case OP_AP_REQUEST:
		/* Without @nr, for the features that the VM has. */
		return ghcb_ap_creation(ghcb, ghcb_gpa, val, c->apic_id, guest_gpa(gva),
					sev_features ^ nr);
	case OP_HV_FEATURES:
		return ghcb_hv_features();
	}

	return -1ull;
}

static void guest_main(struct guest_cmd *c, u64 *ghcb, gpa_t ghcb_gpa)
{
	if (!ghcb_register(ghcb_gpa))
		sev_es_terminate(0);

	for (;;) {
		ghcb_port_out(ghcb, ghcb_gpa, DOORBELL, 0);
		WRITE_ONCE(c->ret, guest_do(c, ghcb, ghcb_gpa));
	}
}

/* What a vCPU starts with whose VMSA the guest has made. */
static void guest_ap_main(struct guest_cmd *c, u64 *ghcb, gpa_t ghcb_gpa)
{
	WRITE_ONCE(c->nr_starts, READ_ONCE(c->nr_starts) + 1);
	guest_main(c, ghcb, ghcb_gpa);
}

/*
 * The host
 */
struct request {
	int cpu;
	u64 page;
	u64 nr;
	bool private;
};

#define MAX_REQUESTS	64

struct guest {
	struct gmem g;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct guest_cmd *cmds[NR_VCPUS];
	gpa_t ghcbs[NR_VCPUS];
	bool started[NR_VCPUS];

	/* What the guest has asked for. */
	struct request requests[MAX_REQUESTS];
	u64 nr_requests;

	/* How it is answered. */
	u64 mode_to_shared;
	u64 mode_to_private;
	u64 refused_page;

	/* The host converts pages as it likes: repeat accesses that it gets in the way of. */
	bool repeat_faults;
	u64 nr_faults;
};

/* Map memory in both ways, neither of which makes it part of the image. */
static void map_both_ways(struct kvm_vm *vm, u32 slot)
{
	struct userspace_mem_region *region = memslot2region(vm, slot);
	const gpa_t gpa = region->region.guest_phys_addr;
	const u64 nr = region->region.memory_size / PAGE_SIZE;
	u64 i;

	for (i = 0; i < nr; i++)
		virt_pg_map(vm, gpa - TEST_GPA + SHARED_GVA + i * PAGE_SIZE,
			    gpa + i * PAGE_SIZE);

	sparsebit_set_num(region->protected_phy_pages, gpa >> PAGE_SHIFT, nr);
	for (i = 0; i < nr; i++)
		virt_pg_map(vm, gpa - TEST_GPA + PRIVATE_GVA + i * PAGE_SIZE,
			    gpa + i * PAGE_SIZE);
	sparsebit_clear_num(region->protected_phy_pages, gpa >> PAGE_SHIFT, nr);
}

/* A VM whose launch has been started, and all of whose memory is shared yet. */
static void guest_create(struct guest *s)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SNP_VM,
		.in_place = true,
	};
	struct kvm_vm *vm;
	gva_t cmd, ghcb;
	int i;

	*s = (struct guest) {
		.g.size = NR_PAGES * PAGE_SIZE,
		.mode_to_shared = ZERO,
		.refused_page = ALL,
	};

	vm = __vm_create_with_vcpus(shape, NR_VCPUS, 2 * NR_PAGES, guest_main, s->vcpus);
	vm_enable_cap(vm, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE));

	s->g.vm = vm;
	s->g.fd = vm_create_guest_memfd(vm, s->g.size, IN_PLACE);
	vm_mem_add_in_place(vm, TEST_GPA, TEST_SLOT, NR_PAGES, s->g.fd, 0);
	s->g.mem = addr_gpa2hva(vm, TEST_GPA);
	map_both_ways(vm, TEST_SLOT);

	for (i = 0; i < NR_VCPUS; i++) {
		cmd = vm_alloc_shared(vm, sizeof(**s->cmds), KVM_UTIL_MIN_VADDR,
				      MEM_REGION_TEST_DATA);
		ghcb = vm_alloc_shared(vm, PAGE_SIZE, KVM_UTIL_MIN_VADDR,
				       MEM_REGION_TEST_DATA);
		s->cmds[i] = addr_gva2hva(vm, cmd);
		s->ghcbs[i] = addr_gva2gpa(vm, ghcb);
		memset(s->cmds[i], 0, sizeof(**s->cmds));
		memset(addr_gva2hva(vm, ghcb), 0, PAGE_SIZE);
		vcpu_args_set(s->vcpus[i], 3, cmd, ghcb, s->ghcbs[i]);
		if (i == 1) {
			s->cmds[0]->apic_id = i;
			s->cmds[0]->stack = vm_alloc_page(vm) + PAGE_SIZE - 8;
			s->cmds[0]->ap_cmd = (void *)cmd;
			s->cmds[0]->ap_ghcb = (void *)ghcb;
			s->cmds[0]->ap_ghcb_gpa = s->ghcbs[i];
		}
	}

	snp_vm_launch_start(vm, snp_default_policy());
}

static int launch(struct gmem *g, u64 page, u64 nr, u8 type)
{
	return snp_vm_launch_page(g->vm, TEST_GPA + page * PAGE_SIZE, nr * PAGE_SIZE, type,
				  NULL);
}

/* The guest's program, and then nothing can be launched any more. */
static void guest_finish(struct guest *s)
{
	snp_vm_launch_update(s->g.vm);
	snp_vm_launch_finish(s->g.vm);
}

static void guest_answer(struct guest *s, int cpu)
{
	struct kvm_run *run = s->vcpus[cpu]->run;
	struct request r = {
		.cpu = cpu,
		.page = (run->hypercall.args[0] - TEST_GPA) / PAGE_SIZE,
		.nr = run->hypercall.args[1],
		.private = run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED,
	};
	u64 i = __atomic_fetch_add(&s->nr_requests, 1, __ATOMIC_SEQ_CST), where;
	int ret;

	TEST_ASSERT(run->hypercall.nr == KVM_HC_MAP_GPA_RANGE &&
		    run->hypercall.args[0] >= TEST_GPA && r.page + r.nr <= NR_PAGES,
		    "Hypercall %llu: 0x%llx, 0x%llx", run->hypercall.nr,
		    run->hypercall.args[0], run->hypercall.args[1]);

	if (i < MAX_REQUESTS)
		s->requests[i] = r;

	if (s->refused_page >= r.page && s->refused_page < r.page + r.nr) {
		run->hypercall.ret = EINVAL;
		return;
	}

	ret = convert_pages(&s->g, r.page, r.nr, r.private ? PRIVATE : SHARED,
			    r.private ? s->mode_to_private : s->mode_to_shared, &where);
	TEST_ASSERT(!ret, "Conversion of pages %lu to %lu failed at %lu, errno = %d", r.page,
		    r.page + r.nr - 1, where, ret);
	run->hypercall.ret = 0;
}

/*
 * Go on with what the vCPU was told to do.  Return 0 once it's done, or the errno, or
 * the negated exit reason if the exit is the caller's to handle.
 */
static int vcpu_continue(struct guest *s, int cpu)
{
	struct kvm_run *run = s->vcpus[cpu]->run;
	int ret;

	for (;;) {
		ret = __vcpu_run(s->vcpus[cpu]) ? errno : 0;
		if (ret == EINTR)
			continue;
		if (ret == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
		    READ_ONCE(s->repeat_faults)) {
			__atomic_fetch_add(&s->nr_faults, 1, __ATOMIC_SEQ_CST);
			sched_yield();
			continue;
		}
		if (ret)
			return ret;

		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			TEST_ASSERT_EQ(run->io.port, DOORBELL);
			return 0;
		case KVM_EXIT_HYPERCALL:
			guest_answer(s, cpu);
			break;
		case KVM_EXIT_SYSTEM_EVENT:
			TEST_ASSERT((run->system_event.data[0] & 0xfff) != GHCB_MSR_TERM_REQ,
				    "vCPU %d: exception %llu at 0x%llx", cpu,
				    run->system_event.data[0] >> 16 & 0xff,
				    run->system_event.data[0] >> 24);
			fallthrough;
		default:
			return -run->exit_reason;
		}
	}
}

/* Let the vCPU say that it is there. */
static void vcpu_start(struct guest *s, int cpu)
{
	int ret = vcpu_continue(s, cpu);

	TEST_ASSERT(!ret, "vCPU %d doesn't start: %d", cpu, ret);
	s->started[cpu] = true;
}

static void vcpu_tell(struct guest *s, int cpu, enum guest_op op, gva_t gva, u64 nr, u64 val)
{
	struct guest_cmd *c = s->cmds[cpu];

	if (!s->started[cpu])
		vcpu_start(s, cpu);

	c->op = op;
	c->gva = gva;
	c->nr = nr;
	c->val = val;
	c->go_on = 1;
	c->ret = UNTOUCHED;
	c->index = 0;
	c->vector = 0;
	c->error_code = 0;
	c->rounds = 0;
}

static int vcpu_do(struct guest *s, int cpu, enum guest_op op, gva_t gva, u64 nr, u64 val)
{
	vcpu_tell(s, cpu, op, gva, nr, val);
	return vcpu_continue(s, cpu);
}

/* As above, for what must not fail, and return what the guest does. */
static u64 guest_op(struct guest *s, enum guest_op op, gva_t gva, u64 nr, u64 val)
{
	int ret = vcpu_do(s, 0, op, gva, nr, val);

	TEST_ASSERT(!ret, "Operation %d at 0x%lx: %d, errno or exit reason", op, gva, ret);
	return s->cmds[0]->ret;
}

static gva_t private_gva(u64 page)
{
	return PRIVATE_GVA + page * PAGE_SIZE;
}

static gva_t shared_gva(u64 page)
{
	return SHARED_GVA + page * PAGE_SIZE;
}

static gpa_t gpa_of(u64 page)
{
	return TEST_GPA + page * PAGE_SIZE;
}

/* What the guest sees of its private memory, and of shared memory. */
static u64 guest_match(struct guest *s, u64 page, u64 nr, u64 seed)
{
	u64 i = guest_op(s, OP_MATCH, private_gva(page), nr, seed + page);

	return i == ALL ? ALL : page + i;
}

static u64 guest_match_shared(struct guest *s, u64 page, u64 nr, u64 seed)
{
	u64 i = guest_op(s, OP_MATCH, shared_gva(page), nr, seed + page);

	return i == ALL ? ALL : page + i;
}

static void guest_fill(struct guest *s, u64 page, u64 nr, u64 seed)
{
	guest_op(s, OP_FILL, private_gva(page), nr, seed + page);
}

static void guest_fill_shared(struct guest *s, u64 page, u64 nr, u64 seed)
{
	guest_op(s, OP_FILL, shared_gva(page), nr, seed + page);
}

static u64 guest_read_page(struct guest *s, u64 page)
{
	return guest_op(s, OP_READ, private_gva(page), 1, 0);
}

/* A private page that the guest hasn't validated tells so by #VC. */
static bool guest_has_validated(struct guest *s, u64 page)
{
	struct guest_cmd *c = s->cmds[0];

	guest_read_page(s, page);
	TEST_ASSERT(!c->vector ||
		    (c->vector == VC_VECTOR && c->error_code == SVM_EXIT_NOT_VALIDATED),
		    "Exception %lu, error code 0x%lx", c->vector, c->error_code);
	return !c->vector;
}

static int guest_validate(struct guest *s, u64 page, u64 nr)
{
	return guest_op(s, OP_PVALIDATE, private_gva(page), nr, RMP_VALIDATED);
}

static int guest_rescind(struct guest *s, u64 page, u64 nr)
{
	return guest_op(s, OP_PVALIDATE, private_gva(page), nr, RMP_RESCINDED);
}

#define ASSERT_GUEST_SEES(s, page, nr, seed) \
	ASSERT_EQ(ALL, guest_match(s, page, nr, seed))
#define ASSERT_GUEST_SEES_SHARED(s, page, nr, seed) \
	ASSERT_EQ(ALL, guest_match_shared(s, page, nr, seed))
#define ASSERT_GUEST_SHARES(s, page, nr) \
	ASSERT_EQ(0, guest_op(s, OP_SHARE, private_gva(page), nr, 0))
#define ASSERT_GUEST_UNSHARES(s, page, nr) \
	ASSERT_EQ(0, guest_op(s, OP_UNSHARE, private_gva(page), nr, 0))

/* Make shared pages private on behalf of a guest that has asked for it elsewhere. */
static void make_private(struct guest *s, u64 page, u64 nr, u64 seed)
{
	TEST_ASSERT(!convert_pages(&s->g, page, nr, PRIVATE, UNSPECIFIED, NULL),
		    "Conversion to private failed, errno = %d", errno);
	TEST_ASSERT(!guest_validate(s, page, nr), "PVALIDATE of page %lu failed",
		    page + s->cmds[0]->index);
	guest_fill(s, page, nr, seed);
}

/* Of a page that is shared. */
static u64 pfn_of(struct gmem *g, u64 page)
{
	(void)READ_ONCE(*first_word(g->mem + page * PAGE_SIZE));
	return PM_PFN(pagemap_entry(g->mem + page * PAGE_SIZE));
}

/* Is the word anywhere in what the host sees of the page? */
static bool host_finds(struct gmem *g, u64 page, u64 word)
{
	u64 *words = (u64 *)(g->mem + page * PAGE_SIZE);
	int i;

	for (i = 0; i < 512; i++) {
		if (READ_ONCE(words[i]) == word)
			return true;
	}
	return false;
}

/* A vCPU in a thread of its own, which is to go on until it's told to stop. */
struct runner {
	struct guest *s;
	int cpu;
	pthread_t thread;
	bool done;
	int ret;
};

/* What runner_stop() returns after an exit that the test has to handle. */
#define VCPU_FAILED(exit_reason)	((u64)-(exit_reason))

static void *runner_thread(void *__r)
{
	struct runner *r = __r;

	r->ret = vcpu_continue(r->s, r->cpu);
	WRITE_ONCE(r->done, true);
	return NULL;
}

static void runner_start(struct runner *r, struct guest *s, int cpu, enum guest_op op,
			 u64 page, u64 nr, u64 val)
{
	*r = (struct runner) { .s = s, .cpu = cpu };

	vcpu_tell(s, cpu, op, private_gva(page), nr, val);
	kvm_pthread_create(&r->thread, NULL, runner_thread, r);
}

static bool runner_has_come_far(struct runner *r, u64 rounds)
{
	return READ_ONCE(r->s->cmds[r->cpu]->rounds) >= rounds || READ_ONCE(r->done);
}

/* Return what KVM_RUN returns, or what the guest has counted. */
static u64 runner_stop(struct runner *r)
{
	struct guest_cmd *c = r->s->cmds[r->cpu];

	WRITE_ONCE(c->go_on, 0);
	kvm_pthread_join(r->thread, NULL);
	return r->ret ? (u64)r->ret : c->ret;
}

/*
 * Before the launch
 */
TEST(capabilities)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SNP_VM);
	int modes = vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS);

	ASSERT_EQ(PRIVATE, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(ZERO, KVM_MEMORY_ATTRIBUTES2_TO_SHARED(modes));
	ASSERT_EQ(0, KVM_MEMORY_ATTRIBUTES2_TO_PRIVATE(modes));
	ASSERT_EQ(ZERO | PRESERVE, KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_SHARED(modes));
	ASSERT_EQ(PRESERVE, KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_PRIVATE(modes));
	ASSERT_EQ(IN_PLACE, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS) & IN_PLACE);
	ASSERT_EQ(modes, kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS) & modes);

	kvm_vm_free(vm);
}

/* A VM whose launch has been started, with memory that is shared, and without vCPUs. */
static void image_create(struct gmem *g)
{
	*g = (struct gmem) { .size = NR_PAGES * PAGE_SIZE };
	g->vm = vm_create_barebones_type(KVM_X86_SNP_VM);
	snp_vm_init(g->vm);
	g->fd = vm_create_guest_memfd(g->vm, g->size, IN_PLACE);
	gmem_map(g);
	vm_set_user_memory_region2(g->vm, TEST_SLOT, KVM_MEM_GUEST_MEMFD, TEST_GPA, g->size,
				   g->mem, g->fd, 0);
	snp_vm_launch_start(g->vm, snp_default_policy());
}

FIXTURE(image)
{
	struct gmem g;
};

FIXTURE_SETUP(image)
{
	image_create(&self->g);
}

FIXTURE_TEARDOWN(image)
{
	gmem_close(&self->g);
}

/* Each mode in each direction, as the documentation has it for this phase. */
TEST_F_TIMEOUT(image, modes_to_private, SECONDS)
{
	struct gmem *g = &self->g;

	host_fill(g, 0, 8, 0x100);
	ASSERT_CONVERTS(g, 2, 1, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(g, 4, 1, PRIVATE, UNSPECIFIED);

	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 3, g, 2, 6, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 5, g, 4, 4, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, g, 0, 8, PRIVATE, ZERO | PRESERVE);
	ASSERT_STATE(g, 2, 1, PRIVATE);
	ASSERT_STATE(g, 3, 1, SHARED);
	ASSERT_STATE(g, 4, 1, PRIVATE);
	ASSERT_STATE(g, 5, 3, SHARED);

	ASSERT_CONVERTS(g, 0, 8, PRIVATE, PRESERVE);
	ASSERT_STATE(g, 0, 8, PRIVATE);
	ASSERT_STATE(g, 8, 8, SHARED);
	ASSERT_EQ(16, nr_allocated(g));
}

TEST_F_TIMEOUT(image, modes_to_shared, SECONDS)
{
	struct gmem *g = &self->g;
	u64 pfn;

	host_fill(g, 0, 8, 0x200);
	pfn = pfn_of(g, 3);
	ASSERT_CONVERTS(g, 0, 10, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(g, 0, 4, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, 4, 0x200);
	ASSERT_EQ(pfn, pfn_of(g, 3));

	ASSERT_CONVERTS(g, 4, 2, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 4, 2, 0);
	ASSERT_CONVERTS(g, 6, 1, SHARED, UNSPECIFIED);
	ASSERT_TRUE(can_write(g->mem + 6 * PAGE_SIZE));
	ASSERT_STATE(g, 7, 3, PRIVATE);

	/* Never used, and zeros in any mode. */
	ASSERT_CONVERTS(g, 8, 1, SHARED, PRESERVE);
	ASSERT_CONVERTS(g, 9, 1, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 8, 2, 0);
	ASSERT_CONVERTS(g, 0, 8, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 7, 1, 0x200);
	ASSERT_EQ(10, nr_allocated(g));
}

/* What firmware has taken isn't for the host to read any more. */
TEST_F_TIMEOUT(image, preserve_stops_at_what_is_launched, SECONDS)
{
	struct gmem *g = &self->g;

	host_fill(g, 0, 8, 0x300);
	ASSERT_CONVERTS(g, 0, 8, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 3, 2, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	ASSERT_STATE(g, 0, 8, PRIVATE);

	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 3, g, 0, 8, SHARED, PRESERVE);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 4, g, 4, 1, SHARED, PRESERVE);
	ASSERT_STATE(g, 0, 8, PRIVATE);
	ASSERT_CONVERTS(g, 0, 3, SHARED, PRESERVE);
	ASSERT_CONVERTS(g, 5, 3, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, 3, 0x300);
	ASSERT_HOST_SEES(g, 5, 3, 0x300);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 3, g, 0, 8, SHARED, PRESERVE);

	/* But the VMM may change its mind. */
	ASSERT_CONVERTS(g, 3, 1, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 3, 1, 0);
	ASSERT_CONVERTS(g, 4, 1, SHARED, UNSPECIFIED);
	ASSERT_FALSE(host_finds(g, 4, 0x304));
	ASSERT_TRUE(can_write(g->mem + 4 * PAGE_SIZE));
	host_fill(g, 3, 2, 0x380);
	ASSERT_CONVERTS(g, 3, 2, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 3, 2, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	ASSERT_EQ(8, nr_allocated(g));
}

TEST_F_TIMEOUT(image, shared_page_is_not_launched, SECONDS)
{
	struct gmem *g = &self->g;

	host_fill(g, 0, 2, 0x400);
	ASSERT_EQ(EIO, launch(g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	ASSERT_EQ(EIO, launch(g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_ZERO));
	ASSERT_EQ(EIO, launch(g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_CPUID));
	ASSERT_HOST_SEES(g, 0, 2, 0x400);
	ASSERT_STATE(g, 0, 2, SHARED);

	/* Nothing is in the way of doing it right. */
	ASSERT_CONVERTS(g, 0, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
}

TEST_F_TIMEOUT(image, page_is_launched_once, SECONDS)
{
	struct gmem *g = &self->g;

	host_fill(g, 0, 2, 0x500);
	ASSERT_CONVERTS(g, 0, 2, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	ASSERT_EQ(EIO, launch(g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	ASSERT_EQ(EIO, launch(g, 0, 2, KVM_SEV_SNP_PAGE_TYPE_ZERO));
	ASSERT_EQ(0, launch(g, 1, 1, KVM_SEV_SNP_PAGE_TYPE_UNMEASURED));
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, g, 0, 2, SHARED, PRESERVE);
}

/* A range is launched up to the first page that can't be, and the struct says so. */
TEST_F_TIMEOUT(image, launch_stops_at_shared_page, SECONDS)
{
	struct kvm_sev_snp_launch_update update = {
		.gfn_start = TEST_GPA >> PAGE_SHIFT,
		.len = 4 * PAGE_SIZE,
		.type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
	};
	struct gmem *g = &self->g;

	host_fill(g, 0, 4, 0x600);
	ASSERT_CONVERTS(g, 0, 2, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(g, 3, 1, PRIVATE, PRESERVE);

	ASSERT_EQ(0, __vm_sev_ioctl(g->vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update));
	ASSERT_EQ((TEST_GPA >> PAGE_SHIFT) + 2, update.gfn_start);
	ASSERT_EQ(2 * PAGE_SIZE, update.len);
	ASSERT_EQ(0, update.uaddr);

	ASSERT_EQ(-1, __vm_sev_ioctl(g->vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update));
	ASSERT_EQ(EIO, errno);
	ASSERT_HOST_SEES(g, 2, 1, 0x600);
	ASSERT_CONVERTS(g, 3, 1, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 3, 1, 0x600);

	ASSERT_CONVERTS(g, 2, 2, PRIVATE, PRESERVE);
	ASSERT_EQ(0, __vm_sev_ioctl(g->vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update));
	ASSERT_EQ(0, update.len);
	ASSERT_EQ(0, update.uaddr);
}

TEST_F_TIMEOUT(image, launch_arguments, SECONDS)
{
	const u64 gfn = TEST_GPA >> PAGE_SHIFT;
	const struct kvm_sev_snp_launch_update bad[] = {
		{ .gfn_start = gfn, .len = 0, .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL },
		{ .gfn_start = gfn, .len = 1, .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL },
		{ .gfn_start = gfn, .len = PAGE_SIZE, .type = 0 },
		{ .gfn_start = gfn, .len = PAGE_SIZE, .type = 2 },
		{ .gfn_start = gfn, .len = PAGE_SIZE, .type = 7 },
		{ .gfn_start = gfn, .len = PAGE_SIZE, .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
		  .flags = 1 },
		{ .gfn_start = gfn, .len = PAGE_SIZE, .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
		  .uaddr = 1 },
		/* No memslot. */
		{ .gfn_start = gfn - 1, .len = PAGE_SIZE,
		  .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL },
		{ .gfn_start = gfn + NR_PAGES, .len = PAGE_SIZE,
		  .type = KVM_SEV_SNP_PAGE_TYPE_NORMAL },
	};
	struct kvm_sev_snp_launch_update update;
	struct gmem *g = &self->g;
	int i;

	host_fill(g, 0, 1, 0x700);
	ASSERT_CONVERTS(g, 0, 1, PRIVATE, PRESERVE);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		update = bad[i];
		ASSERT_EQ(-1, __vm_sev_ioctl(g->vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update)) {
			TH_LOG("arguments %d", i);
		}
		ASSERT_EQ(EINVAL, errno) {
			TH_LOG("arguments %d", i);
		}
	}
	ASSERT_CONVERTS(g, 0, 1, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, 1, 0x700);
}

/* Memory that the host can't have written to in place needs a source. */
TEST_F_TIMEOUT(image, source_of_other_slots, SECONDS)
{
	struct gmem *g = &self->g, other = { .vm = g->vm, .size = SZ_64K };
	struct kvm_sev_snp_launch_update update = {
		.gfn_start = OTHER_GPA >> PAGE_SHIFT,
		.len = PAGE_SIZE,
		.type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
	};
	u8 *anon;

	anon = kvm_mmap(other.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memset(anon, 0x5a, other.size);

	/* Its state is kept by the VM. */
	other.fd = vm_create_guest_memfd(g->vm, other.size, 0);
	vm_set_user_memory_region2(g->vm, OTHER_SLOT, KVM_MEM_GUEST_MEMFD, OTHER_GPA,
				   other.size, anon, other.fd, 0);
	vm_mem_set_private(g->vm, OTHER_GPA, other.size);
	ASSERT_EQ(-1, __vm_sev_ioctl(g->vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update));
	ASSERT_EQ(EINVAL, errno);
	update.uaddr = (u64)anon;
	ASSERT_EQ(0, __vm_sev_ioctl(g->vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update));
	ASSERT_EQ((u64)anon + PAGE_SIZE, update.uaddr);
	ASSERT_EQ(ENOTTY, convert(other.fd, 0, PAGE_SIZE, PRIVATE, 0, NULL));
	vm_set_user_memory_region2(g->vm, OTHER_SLOT, KVM_MEM_GUEST_MEMFD, OTHER_GPA, 0,
				   NULL, other.fd, 0);
	vm_mem_set_shared(g->vm, OTHER_GPA, other.size);
	kvm_close(other.fd);

	/* Its state is kept by the file, but its shared memory is elsewhere. */
	other.fd = vm_create_guest_memfd(g->vm, other.size, GUEST_MEMFD_FLAG_INIT_SHARED);
	vm_set_user_memory_region2(g->vm, OTHER_SLOT, KVM_MEM_GUEST_MEMFD, OTHER_GPA,
				   other.size, anon, other.fd, 0);
	ASSERT_CONVERTS(&other, 0, 2, PRIVATE, UNSPECIFIED);
	update = (struct kvm_sev_snp_launch_update) {
		.gfn_start = OTHER_GPA >> PAGE_SHIFT,
		.len = PAGE_SIZE,
		.type = KVM_SEV_SNP_PAGE_TYPE_NORMAL,
	};
	ASSERT_EQ(-1, __vm_sev_ioctl(g->vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update));
	ASSERT_EQ(EINVAL, errno);
	update.uaddr = (u64)anon;
	ASSERT_EQ(0, __vm_sev_ioctl(g->vm, KVM_SEV_SNP_LAUNCH_UPDATE, &update));

	kvm_close(other.fd);
	kvm_munmap(anon, other.size);
}

TEST_F_TIMEOUT(image, pinned_before_launch, SECONDS)
{
	static const enum pin_type types[] = {
		PIN_GUP, PIN_GUP_WRITE, PIN_GUP_FAST, PIN_IO_URING, PIN_VMSPLICE,
	};
	struct gmem *g = &self->g;
	struct pin p;
	int i, n = 0;

	host_fill(g, 0, 8, 0x800);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		const char *reason = pin_take(&p, types[i], g->mem + 5 * PAGE_SIZE, PAGE_SIZE);

		if (reason) {
			TH_LOG("%s", reason);
			continue;
		}
		ASSERT_CONVERT_FAILS(EAGAIN, 5, g, 0, 8, PRIVATE, PRESERVE);
		ASSERT_STATE(g, 0, 8, SHARED);
		ASSERT_HOST_SEES(g, 0, 8, 0x800);
		pin_drop(&p);
		n++;
	}
	ASSERT_LE(1, n);

	ASSERT_CONVERTS(g, 0, 8, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 0, 8, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
}

/* The kernel's own accesses on behalf of the host, too, end at what is launched. */
TEST_F_TIMEOUT(image, host_access, SECONDS)
{
	struct gmem *g = &self->g;
	u8 buf[8] = "launch";
	struct iovec iov = { .iov_base = g->mem + PAGE_SIZE, .iov_len = sizeof(buf) };
	struct iovec local = { .iov_base = buf, .iov_len = sizeof(buf) };
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	host_fill(g, 0, 3, 0x900);
	ASSERT_CONVERTS(g, 1, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 1, 1, KVM_SEV_SNP_PAGE_TYPE_NORMAL));

	ASSERT_FALSE(can_read(g->mem + PAGE_SIZE));
	ASSERT_FALSE(can_write(g->mem + 2 * PAGE_SIZE - 1));
	ASSERT_TRUE(can_write(g->mem + PAGE_SIZE - 1));
	ASSERT_TRUE(can_write(g->mem + 2 * PAGE_SIZE));
	ASSERT_EQ(-1, write(fds[1], iov.iov_base, sizeof(buf)));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(sizeof(buf), write(fds[1], buf, sizeof(buf)));
	ASSERT_EQ(-1, read(fds[0], iov.iov_base, sizeof(buf)));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, vmsplice(fds[1], &iov, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, process_vm_readv(getpid(), &local, 1, &iov, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, process_vm_writev(getpid(), &local, 1, &iov, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, madvise(g->mem, 3 * PAGE_SIZE, MADV_POPULATE_WRITE));
	ASSERT_EQ(EFAULT, errno);

	close(fds[0]);
	close(fds[1]);
}

/* A leaf that processors have but for the features in @ebx. */
static void cpuid_page_init(struct snp_cpuid_page *page, u32 ebx)
{
	memset(page, 0, sizeof(*page));
	page->count = 1;
	page->fn[0].eax_in = 7;
	page->fn[0].ebx = ebx;
}

TEST_F_TIMEOUT(image, cpuid_page_rejected, SECONDS)
{
	struct gmem *g = &self->g;
	struct snp_cpuid_page *page = (void *)(g->mem + 2 * PAGE_SIZE);
	u32 fw_error, ebx;
	u64 pfn;

	host_fill(g, 0, 4, 0xa00);
	/* No processor has all of these. */
	cpuid_page_init(page, -1u);
	pfn = pfn_of(g, 2);
	ASSERT_CONVERTS(g, 1, 3, PRIVATE, PRESERVE);
	ASSERT_EQ(EIO, snp_vm_launch_page(g->vm, gpa_of(2), PAGE_SIZE,
					  KVM_SEV_SNP_PAGE_TYPE_CPUID, &fw_error));
	ASSERT_EQ(SEV_RET_INVALID_PARAM, fw_error);

	/* Firmware hasn't taken the page, and has written to it what it would take. */
	ASSERT_STATE(g, 1, 3, PRIVATE);
	ASSERT_CONVERTS(g, 0, 4, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, 2, 0xa00);
	ASSERT_HOST_SEES(g, 3, 1, 0xa00);
	ASSERT_EQ(pfn, pfn_of(g, 2));
	ASSERT_EQ(1, page->count);
	ASSERT_EQ(7, page->fn[0].eax_in);
	ASSERT_NE(-1u, page->fn[0].ebx);
	ebx = page->fn[0].ebx;

	/* Once more the wrong one: nothing of the first attempt is left. */
	cpuid_page_init(page, -1u);
	ASSERT_CONVERTS(g, 2, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EIO, launch(g, 2, 1, KVM_SEV_SNP_PAGE_TYPE_CPUID));
	ASSERT_CONVERTS(g, 2, 1, SHARED, PRESERVE);
	ASSERT_EQ(ebx, page->fn[0].ebx);

	ASSERT_CONVERTS(g, 2, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 2, 1, KVM_SEV_SNP_PAGE_TYPE_CPUID));
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 2, g, 0, 4, SHARED, PRESERVE);
	ASSERT_EQ(4, nr_allocated(g));
}

/* A rejected page is the host's, and so it can go the ways that others can. */
TEST_F_TIMEOUT(image, cpuid_page_rejected_and_gone, SECONDS)
{
	struct gmem *g = &self->g;
	int i;

	for (i = 0; i < 4; i++) {
		cpuid_page_init((void *)(g->mem + i * PAGE_SIZE), -1u);
		ASSERT_CONVERTS(g, i, 1, PRIVATE, PRESERVE);
		ASSERT_EQ(EIO, launch(g, i, 1, KVM_SEV_SNP_PAGE_TYPE_CPUID));
	}

	ASSERT_CONVERTS(g, 0, 1, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 0, 1, 0);
	punch_hole(g, 1, 1);
	ASSERT_STATE(g, 1, 1, PRIVATE);
	ASSERT_CONVERTS(g, 1, 1, SHARED, PRESERVE);
	ASSERT_HOST_SEES_BYTE(g, 1, 1, 0);
	/* As another type. */
	ASSERT_EQ(0, launch(g, 2, 1, KVM_SEV_SNP_PAGE_TYPE_UNMEASURED));
	/* The last one is left to the end of the VM. */
}

TEST_F_TIMEOUT(image, never_used_page, SECONDS)
{
	struct gmem *g = &self->g;

	ASSERT_CONVERTS(g, 0, 4, PRIVATE, PRESERVE);
	kvm_fallocate(g->fd, FALLOC_FL_KEEP_SIZE, PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(0, launch(g, 0, 3, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	ASSERT_EQ(3, nr_allocated(g));
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, g, 0, 4, SHARED, PRESERVE);
	ASSERT_CONVERTS(g, 0, 4, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 0, 4, 0);
}

/* Holes in what firmware has taken, and has not. */
TEST_F_TIMEOUT(image, punch_hole, SECONDS)
{
	struct gmem *g = &self->g;

	host_fill(g, 0, 8, 0xb00);
	ASSERT_CONVERTS(g, 0, 6, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 0, 4, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	punch_hole(g, 2, 5);
	ASSERT_EQ(3, nr_allocated(g));
	ASSERT_STATE(g, 0, 6, PRIVATE);
	ASSERT_STATE(g, 6, 2, SHARED);

	/* New pages, which firmware knows nothing of. */
	ASSERT_CONVERTS(g, 2, 1, SHARED, PRESERVE);
	ASSERT_HOST_SEES_BYTE(g, 2, 1, 0);
	ASSERT_EQ(0, launch(g, 3, 2, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	ASSERT_HOST_SEES_BYTE(g, 6, 1, 0);
	ASSERT_HOST_SEES(g, 7, 1, 0xb00);
	punch_hole(g, 0, 8);
	ASSERT_EQ(0, nr_allocated(g));
}

FIXTURE(none)
{
};

FIXTURE_SETUP(none)
{
}

FIXTURE_TEARDOWN(none)
{
}

/*
 * A page that is left assigned to the ASID of a VM that is gone makes SNP_ACTIVATE fail
 * for the next VM that gets the ASID.  There are far less than 256 of these on some
 * machines, and no more than 1006 on any.
 */
TEST_F_TIMEOUT(none, asids_are_used_again, 2 * SECONDS)
{
	struct gmem g;
	int i;

	for (i = 0; i < 80; i++) {
		image_create(&g);
		host_fill(&g, 0, 3, 0xc00);
		ASSERT_CONVERTS(&g, 0, 2, PRIVATE, PRESERVE);
		ASSERT_EQ(0, launch(&g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
		ASSERT_EQ(0, launch(&g, 1, 1, KVM_SEV_SNP_PAGE_TYPE_ZERO));
		if (i & 1)
			snp_vm_launch_finish(g.vm);
		gmem_close(&g);
	}
}

/*
 * The launch, and what the guest finds
 */
FIXTURE(launch)
{
	struct guest s;
};

FIXTURE_SETUP(launch)
{
	guest_create(&self->s);
}

FIXTURE_TEARDOWN(launch)
{
	kvm_vm_free(self->s.g.vm);
	kvm_close(self->s.g.fd);
}

TEST_F_TIMEOUT(launch, normal_pages, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 allocated;

	host_fill(g, 0, 8, 0x1000);
	ASSERT_CONVERTS(g, 0, 8, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 0, 8, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	allocated = nr_allocated(g);
	guest_finish(s);

	ASSERT_GUEST_SEES(s, 0, 8, 0x1000);
	guest_fill(s, 0, 8, 0x1100);
	ASSERT_GUEST_SEES(s, 0, 8, 0x1100);
	ASSERT_EQ(allocated, nr_allocated(g));
	ASSERT_EQ(8, allocated);
	ASSERT_STATE(g, 0, 8, PRIVATE);
	ASSERT_STATE(g, 8, 8, SHARED);
}

TEST_F_TIMEOUT(launch, unmeasured_pages, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	host_fill(g, 0, 4, 0x1200);
	ASSERT_CONVERTS(g, 1, 2, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 1, 2, KVM_SEV_SNP_PAGE_TYPE_UNMEASURED));
	guest_finish(s);

	ASSERT_GUEST_SEES(s, 1, 2, 0x1200);
	ASSERT_HOST_SEES(g, 0, 1, 0x1200);
	ASSERT_HOST_SEES(g, 3, 1, 0x1200);
}

TEST_F_TIMEOUT(launch, zero_pages, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	/* Two that the host has written to, and one that was never used. */
	host_fill(g, 0, 2, 0x1300);
	ASSERT_CONVERTS(g, 0, 3, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 0, 3, KVM_SEV_SNP_PAGE_TYPE_ZERO));

	/* A source is allowed, but doesn't matter. */
	host_fill(g, 3, 2, 0x1380);
	ASSERT_CONVERTS(g, 3, 1, PRIVATE, PRESERVE);
	snp_launch_update_data(g->vm, gpa_of(3), (u64)g->mem + 4 * PAGE_SIZE, PAGE_SIZE,
			       KVM_SEV_SNP_PAGE_TYPE_ZERO);
	guest_finish(s);

	ASSERT_EQ(ALL, guest_op(s, OP_MATCH_BYTE, private_gva(0), 4, 0));
	ASSERT_HOST_SEES(g, 4, 1, 0x1380);
	ASSERT_EQ(5, nr_allocated(g));
}

TEST_F_TIMEOUT(launch, never_used_pages, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	ASSERT_CONVERTS(g, 0, 2, PRIVATE, UNSPECIFIED);
	ASSERT_EQ(0, launch(g, 0, 2, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	guest_finish(s);

	ASSERT_EQ(ALL, guest_op(s, OP_MATCH_BYTE, private_gva(0), 2, 0));
}

TEST_F_TIMEOUT(launch, secrets_page, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	host_fill(g, 0, 1, 0x1400);
	ASSERT_CONVERTS(g, 0, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_SECRETS));
	guest_finish(s);

	/* The version of the layout is in the first word, the rest of the page reserved. */
	ASSERT_NE(0x1400, guest_read_page(s, 0));
	ASSERT_EQ(0, s->cmds[0]->vector);
	ASSERT_NE(0, (u32)guest_read_page(s, 0));
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, g, 0, 1, SHARED, PRESERVE);
}

TEST_F_TIMEOUT(launch, cpuid_page, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct snp_cpuid_page *page = (void *)g->mem;
	u64 i, words[8];

	cpuid_page_init(page, -1u);
	ASSERT_CONVERTS(g, 0, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(EIO, launch(g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_CPUID));
	ASSERT_CONVERTS(g, 0, 1, SHARED, PRESERVE);
	memcpy(words, page, sizeof(words));
	ASSERT_NE(-1u, page->fn[0].ebx);
	ASSERT_CONVERTS(g, 0, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_CPUID));
	guest_finish(s);

	/* The guest has the page that the host has read, after it was corrected. */
	for (i = 0; i < ARRAY_SIZE(words); i++)
		ASSERT_EQ(words[i], guest_op(s, OP_READ, private_gva(0) + i * 8, 1, 0));
}

/* A source may be given all the same, be it ordinary memory or shared guest memory. */
TEST_F_TIMEOUT(launch, copied_pages, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u8 *anon;

	anon = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	*first_word(anon) = 0x1500;
	*last_word(anon) = 0x1500;
	*first_word(anon + PAGE_SIZE) = 0x1501;
	*last_word(anon + PAGE_SIZE) = 0x1501;
	host_fill(g, 0, 8, 0x1600);
	ASSERT_CONVERTS(g, 0, 4, PRIVATE, PRESERVE);

	snp_launch_update_data(g->vm, gpa_of(0), (u64)anon, 2 * PAGE_SIZE,
			       KVM_SEV_SNP_PAGE_TYPE_NORMAL);
	snp_launch_update_data(g->vm, gpa_of(2), (u64)g->mem + 6 * PAGE_SIZE, PAGE_SIZE,
			       KVM_SEV_SNP_PAGE_TYPE_NORMAL);
	ASSERT_EQ(0, launch(g, 3, 1, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	guest_finish(s);

	ASSERT_GUEST_SEES(s, 0, 2, 0x1500);
	ASSERT_GUEST_SEES(s, 2, 1, 0x1604);
	ASSERT_GUEST_SEES(s, 3, 1, 0x1600);
	ASSERT_HOST_SEES(g, 4, 4, 0x1600);
	kvm_munmap(anon, 2 * PAGE_SIZE);
}

/* The VMM changes its mind about a page that firmware has taken. */
TEST_F_TIMEOUT(launch, launched_again, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 pfn;

	host_fill(g, 0, 3, 0x1700);
	pfn = pfn_of(g, 1);
	ASSERT_CONVERTS(g, 0, 3, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 0, 3, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	ASSERT_CONVERTS(g, 1, 1, SHARED, ZERO);
	ASSERT_EQ(pfn, pfn_of(g, 1));
	host_fill(g, 1, 1, 0x1800);
	ASSERT_CONVERTS(g, 1, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(g, 1, 1, KVM_SEV_SNP_PAGE_TYPE_NORMAL));

	/* And about one that it leaves to the guest then. */
	ASSERT_CONVERTS(g, 2, 1, SHARED, UNSPECIFIED);
	ASSERT_CONVERTS(g, 2, 1, PRIVATE, UNSPECIFIED);
	guest_finish(s);

	ASSERT_GUEST_SEES(s, 0, 1, 0x1700);
	ASSERT_GUEST_SEES(s, 1, 1, 0x1800);
	ASSERT_FALSE(guest_has_validated(s, 2));
	ASSERT_EQ(3, nr_allocated(g));
}

/* What isn't launched can't become the guest's before the launch is final. */
TEST_F_TIMEOUT(launch, nothing_runs_before_the_end, SECONDS)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa_of(0), .size = PAGE_SIZE };
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	host_fill(g, 0, 1, 0x1900);
	ASSERT_CONVERTS(g, 0, 1, PRIVATE, PRESERVE);
	if (kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY)) {
		ASSERT_EQ(-1, __vcpu_ioctl(s->vcpus[0], KVM_PRE_FAULT_MEMORY, &range));
		ASSERT_EQ(EOPNOTSUPP, errno);
	}
	ASSERT_CONVERTS(g, 0, 1, SHARED, PRESERVE);
	ASSERT_HOST_SEES(g, 0, 1, 0x1900);
}

/* With the launch go the modes that it had, for pages of any state. */
TEST_F_TIMEOUT(launch, modes_end_with_the_launch, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	host_fill(g, 0, 4, 0x1a00);
	ASSERT_CONVERTS(g, 0, 2, PRIVATE, PRESERVE);
	guest_finish(s);

	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, g, 0, 4, SHARED, PRESERVE);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 2, g, 0, 4, PRIVATE, PRESERVE);
	ASSERT_STATE(g, 0, 2, PRIVATE);
	ASSERT_STATE(g, 2, 2, SHARED);

	/* The guest owns nothing of what it hasn't validated. */
	ASSERT_FALSE(guest_has_validated(s, 0));
	ASSERT_CONVERTS(g, 0, 2, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 0, 2, 0);
}

/*
 * A guest that runs
 */
FIXTURE(guest)
{
	struct guest s;
};

/* Pages up to NR_LAUNCHED are launched, the others shared and without memory. */
static void guest_launch(struct guest *s)
{
	guest_create(s);
	host_fill(&s->g, 0, NR_LAUNCHED, LAUNCH_SEED);
	gmem_set_private(s->g.fd, 0, NR_LAUNCHED * PAGE_SIZE, PRESERVE);
	TEST_ASSERT(!launch(&s->g, 0, NR_LAUNCHED, KVM_SEV_SNP_PAGE_TYPE_NORMAL),
		    "Launch in place failed, errno = %d", errno);
	guest_finish(s);
}

FIXTURE_SETUP(guest)
{
	guest_launch(&self->s);
}

FIXTURE_TEARDOWN(guest)
{
	kvm_vm_free(self->s.g.vm);
	kvm_close(self->s.g.fd);
}

/* Each mode in each direction, as the documentation has it once launched. */
TEST_F_TIMEOUT(guest, modes_to_shared, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	make_private(s, 8, 4, 0x2000);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 0, g, 0, 12, SHARED, PRESERVE);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 8, g, 4, 8, SHARED, PRESERVE);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 9, g, 9, 1, SHARED, PRESERVE);
	ASSERT_CONVERT_FAILS(EINVAL, UNTOUCHED, g, 0, 12, SHARED, ZERO | PRESERVE);
	ASSERT_STATE(g, 0, NR_LAUNCHED, PRIVATE);
	ASSERT_STATE(g, 8, 4, PRIVATE);
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);
	ASSERT_GUEST_SEES(s, 8, 4, 0x2000);

	ASSERT_CONVERTS(g, 9, 1, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 9, 1, 0);
	ASSERT_CONVERTS(g, 10, 1, SHARED, UNSPECIFIED);
	ASSERT_FALSE(host_finds(g, 10, 0x200a));
	ASSERT_GUEST_SEES(s, 8, 1, 0x2000);
	ASSERT_GUEST_SEES(s, 11, 1, 0x2000);

	/* What is shared already is as it was, in any mode. */
	host_fill(g, 9, 2, 0x2080);
	ASSERT_CONVERTS(g, 9, 2, SHARED, PRESERVE);
	ASSERT_CONVERTS(g, 9, 2, SHARED, ZERO);
	ASSERT_HOST_SEES(g, 9, 2, 0x2080);
	ASSERT_CONVERTS(g, 8, 4, SHARED, ZERO);
	ASSERT_HOST_SEES(g, 9, 2, 0x2080);
	ASSERT_HOST_SEES_BYTE(g, 8, 1, 0);
	ASSERT_HOST_SEES_BYTE(g, 11, 1, 0);
	ASSERT_EQ(NR_LAUNCHED + 4, nr_allocated(g));
}

TEST_F_TIMEOUT(guest, modes_to_private, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	host_fill(g, 4, 8, 0x2100);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, NR_LAUNCHED, g, 0, 12, PRIVATE, PRESERVE);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, NR_LAUNCHED, g, 0, 12, PRIVATE, ZERO);
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, 7, g, 7, 1, PRIVATE, ZERO);
	ASSERT_STATE(g, NR_LAUNCHED, 8, SHARED);
	ASSERT_HOST_SEES(g, 4, 8, 0x2100);

	/* Nothing to do is nothing to keep. */
	ASSERT_CONVERTS(g, 0, NR_LAUNCHED, PRIVATE, PRESERVE);
	ASSERT_CONVERTS(g, 0, NR_LAUNCHED, PRIVATE, ZERO);
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);

	ASSERT_CONVERTS(g, 6, 2, PRIVATE, UNSPECIFIED);
	ASSERT_STATE(g, 6, 2, PRIVATE);
	ASSERT_HOST_SEES(g, 4, 2, 0x2100);
	ASSERT_HOST_SEES(g, 8, 4, 0x2100);
	ASSERT_FALSE(guest_has_validated(s, 6));
}

/* The same page on either side, and from one state to the other. */
TEST_F_TIMEOUT(guest, same_page, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 i, pfn, allocated;

	host_fill(g, 8, 1, 0x2200);
	pfn = pfn_of(g, 8);
	allocated = nr_allocated(g);
	ASSERT_GUEST_SEES_SHARED(s, 8, 1, 0x2200);

	for (i = 0; i < 5; i++) {
		guest_fill_shared(s, 8, 1, 0x2300 + i);
		ASSERT_HOST_SEES(g, 8, 1, 0x2300 + i);
		ASSERT_EQ(pfn, pfn_of(g, 8));

		ASSERT_GUEST_UNSHARES(s, 8, 1);
		ASSERT_STATE(g, 8, 1, PRIVATE);
		guest_fill(s, 8, 1, SECRET + i);
		ASSERT_GUEST_SEES(s, 8, 1, SECRET + i);
		ASSERT_GUEST_SHARES(s, 8, 1);
		ASSERT_HOST_SEES_BYTE(g, 8, 1, 0);
		ASSERT_EQ(pfn, pfn_of(g, 8));

		host_fill(g, 8, 1, 0x2400 + i);
		ASSERT_GUEST_SEES_SHARED(s, 8, 1, 0x2400 + i);
	}
	ASSERT_EQ(allocated, nr_allocated(g));
	ASSERT_EQ(10, s->nr_requests);
}

TEST_F_TIMEOUT(guest, host_access, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u8 buf[8] = "running";
	struct iovec iov = { .iov_base = g->mem + 8 * PAGE_SIZE, .iov_len = sizeof(buf) };
	struct iovec local = { .iov_base = buf, .iov_len = sizeof(buf) };
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	host_fill(g, 7, 3, 0x2500);
	make_private(s, 8, 1, SECRET);

	ASSERT_FALSE(can_read(iov.iov_base));
	ASSERT_FALSE(can_write(iov.iov_base));
	ASSERT_EQ(-1, write(fds[1], iov.iov_base, sizeof(buf)));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(sizeof(buf), write(fds[1], buf, sizeof(buf)));
	ASSERT_EQ(-1, read(fds[0], iov.iov_base, sizeof(buf)));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, vmsplice(fds[1], &iov, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, process_vm_readv(getpid(), &local, 1, &iov, 1, 0));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(-1, process_vm_writev(getpid(), &local, 1, &iov, 1, 0));
	ASSERT_EQ(EFAULT, errno);

	ASSERT_GUEST_SEES(s, 8, 1, SECRET);
	ASSERT_HOST_SEES(g, 7, 1, 0x2500);
	ASSERT_HOST_SEES(g, 9, 1, 0x2500);
	close(fds[0]);
	close(fds[1]);
}

/* Without a mode, what the host gets to see isn't what the guest wrote. */
TEST_F_TIMEOUT(guest, host_sees_ciphertext, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 i;

	s->mode_to_shared = UNSPECIFIED;
	make_private(s, 8, 2, SECRET);
	for (i = 0; i < 512; i += 8)
		guest_op(s, OP_WRITE, private_gva(8) + i * 8, 1, SECRET);
	ASSERT_GUEST_SHARES(s, 8, 2);
	ASSERT_FALSE(host_finds(g, 8, SECRET));
	ASSERT_FALSE(host_finds(g, 9, SECRET + 9));

	/* And of the image. */
	ASSERT_GUEST_SHARES(s, 0, NR_LAUNCHED);
	for (i = 0; i < NR_LAUNCHED; i++)
		ASSERT_FALSE(host_finds(g, i, LAUNCH_SEED + i));
}

/*
 * A page that has been shared meanwhile isn't validated any more, even if the guest
 * doesn't know of it.
 */
TEST_F_TIMEOUT(guest, old_contents_are_not_validated, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);
	make_private(s, 8, 2, SECRET);

	/* The host does it behind the guest's back. */
	ASSERT_CONVERTS(g, 0, 1, SHARED, ZERO);
	ASSERT_CONVERTS(g, 0, 1, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERTS(g, 1, 1, SHARED, UNSPECIFIED);
	ASSERT_CONVERTS(g, 1, 1, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERTS(g, 8, 1, SHARED, ZERO);
	ASSERT_CONVERTS(g, 8, 1, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERTS(g, 9, 1, SHARED, UNSPECIFIED);
	ASSERT_CONVERTS(g, 9, 1, PRIVATE, UNSPECIFIED);
	ASSERT_FALSE(guest_has_validated(s, 0));
	ASSERT_FALSE(guest_has_validated(s, 1));
	ASSERT_FALSE(guest_has_validated(s, 8));
	ASSERT_FALSE(guest_has_validated(s, 9));
	ASSERT_GUEST_SEES(s, 2, NR_LAUNCHED - 2, LAUNCH_SEED);

	/* Should the guest validate it nevertheless, then what was zeroed is gone. */
	ASSERT_EQ(0, guest_validate(s, 0, 1));
	ASSERT_EQ(0, guest_validate(s, 8, 1));
	ASSERT_EQ(0, guest_match(s, 0, 1, LAUNCH_SEED));
	ASSERT_EQ(8, guest_match(s, 8, 1, SECRET));

	/* At the guest's request, it is just the same. */
	ASSERT_EQ(0, guest_validate(s, 9, 1));
	guest_fill(s, 9, 1, SECRET);
	ASSERT_GUEST_SHARES(s, 9, 1);
	host_fill(g, 9, 1, 0x2600);
	ASSERT_EQ(0, guest_op(s, OP_PSC_MSR, private_gva(9), 1, GHCB_MSR_PSC_PRIVATE));
	ASSERT_FALSE(guest_has_validated(s, 9));
	ASSERT_EQ(0, guest_validate(s, 9, 1));
	ASSERT_EQ(9, guest_match(s, 9, 1, SECRET));
	ASSERT_EQ(9, guest_match(s, 9, 1, 0x2600));
}

/* Whereas a page that stays private keeps its contents, validated or not. */
TEST_F_TIMEOUT(guest, rescinded_and_validated_again, SECONDS)
{
	struct guest *s = &self->s;

	make_private(s, 8, 2, SECRET);
	ASSERT_EQ(0, guest_rescind(s, 8, 1));
	ASSERT_FALSE(guest_has_validated(s, 8));
	ASSERT_TRUE(guest_has_validated(s, 9));
	ASSERT_EQ(-1, guest_rescind(s, 8, 1));
	ASSERT_EQ(0, guest_validate(s, 8, 1));
	ASSERT_EQ(-1, guest_validate(s, 8, 1));
	ASSERT_GUEST_SEES(s, 8, 2, SECRET);

	/* The same for a page of the image. */
	ASSERT_EQ(0, guest_rescind(s, 0, 1));
	ASSERT_EQ(0, guest_validate(s, 0, 1));
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);
}

/*
 * Zeros for the host
 */
TEST_F_TIMEOUT(guest, zero_before_first_use, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	/* Not allocated; never used; not validated. */
	kvm_fallocate(g->fd, FALLOC_FL_KEEP_SIZE, 9 * PAGE_SIZE, PAGE_SIZE);
	ASSERT_CONVERTS(g, 8, 3, PRIVATE, UNSPECIFIED);
	ASSERT_FALSE(guest_has_validated(s, 10));
	ASSERT_EQ(NR_LAUNCHED + 2, nr_allocated(g));
	ASSERT_CONVERTS(g, 8, 3, SHARED, ZERO);
	ASSERT_EQ(NR_LAUNCHED + 2, nr_allocated(g));
	ASSERT_HOST_SEES_BYTE(g, 8, 3, 0);
	ASSERT_EQ(ALL, guest_op(s, OP_MATCH_BYTE, shared_gva(8), 3, 0));

	/* The guest may be the first to see the zeros. */
	ASSERT_CONVERTS(g, 12, 1, PRIVATE, UNSPECIFIED);
	ASSERT_CONVERTS(g, 12, 1, SHARED, ZERO);
	ASSERT_EQ(ALL, guest_op(s, OP_MATCH_BYTE, shared_gva(12), 1, 0));
}

TEST_F_TIMEOUT(guest, zero_after_use, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	make_private(s, 8, 4, SECRET);
	ASSERT_GUEST_SHARES(s, 9, 2);
	ASSERT_HOST_SEES_BYTE(g, 9, 2, 0);
	ASSERT_EQ(ALL, guest_op(s, OP_MATCH_BYTE, shared_gva(9), 2, 0));
	ASSERT_GUEST_SEES(s, 8, 1, SECRET);
	ASSERT_GUEST_SEES(s, 11, 1, SECRET);

	/* A page of the image, and the guest looks first. */
	ASSERT_GUEST_SHARES(s, 1, 1);
	ASSERT_EQ(ALL, guest_op(s, OP_MATCH_BYTE, shared_gva(1), 1, 0));
	ASSERT_HOST_SEES_BYTE(g, 1, 1, 0);
	ASSERT_GUEST_SEES(s, 2, 2, LAUNCH_SEED);
}

/*
 * Requests of the guest
 */
TEST_F_TIMEOUT(guest, msr_protocol, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 i;

	host_fill(g, 8, 4, 0x2700);
	ASSERT_EQ(0, guest_op(s, OP_PSC_MSR, private_gva(8), 4, GHCB_MSR_PSC_PRIVATE));
	ASSERT_EQ(4, s->nr_requests);
	ASSERT_STATE(g, 8, 4, PRIVATE);
	ASSERT_EQ(0, guest_validate(s, 8, 4));
	guest_fill(s, 8, 4, SECRET);

	ASSERT_EQ(0, guest_rescind(s, 9, 2));
	ASSERT_EQ(0, guest_op(s, OP_PSC_MSR, private_gva(9), 2, GHCB_MSR_PSC_SHARED));
	ASSERT_EQ(6, s->nr_requests);
	ASSERT_STATE(g, 9, 2, SHARED);
	ASSERT_HOST_SEES_BYTE(g, 9, 2, 0);
	ASSERT_GUEST_SEES(s, 8, 1, SECRET);
	ASSERT_GUEST_SEES(s, 11, 1, SECRET);

	for (i = 0; i < 6; i++) {
		ASSERT_EQ(i < 4 ? 8 + i : 5 + i, s->requests[i].page);
		ASSERT_EQ(1, s->requests[i].nr);
		ASSERT_EQ(i < 4, s->requests[i].private);
	}
}

TEST_F_TIMEOUT(guest, msr_protocol_errors, SECONDS)
{
	struct guest *s = &self->s;

	s->refused_page = 9;
	ASSERT_EQ(1, guest_op(s, OP_PSC_MSR, private_gva(8), 4, GHCB_MSR_PSC_PRIVATE));
	ASSERT_EQ(4, s->nr_requests);
	ASSERT_STATE(&s->g, 8, 1, PRIVATE);
	ASSERT_STATE(&s->g, 9, 1, SHARED);
	ASSERT_STATE(&s->g, 10, 2, PRIVATE);

	/* KVM doesn't know these. */
	ASSERT_EQ(2, guest_op(s, OP_PSC_MSR, private_gva(8), 2, SNP_PSC_OP_SMASH));
	ASSERT_EQ(2, guest_op(s, OP_PSC_MSR, private_gva(8), 2, 0));
	ASSERT_EQ(4, s->nr_requests);
}

static void psc_add(struct guest *s, u64 page, u64 operation)
{
	struct snp_psc *psc = &s->cmds[0]->psc;

	psc->entries[psc->end_entry++] = (struct snp_psc_entry) {
		.gfn = gpa_of(page) >> PAGE_SHIFT,
		.operation = operation,
	};
}

/* Return what the guest is told. */
static u64 psc_run(struct guest *s)
{
	s->cmds[0]->psc.end_entry--;
	return guest_op(s, OP_PSC, private_gva(0), 0, 0);
}

/* As many entries as there can be, for every other page, from the last to the first. */
TEST_F_TIMEOUT(guest, list_of_many_pages, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct snp_psc *psc = &s->cmds[0]->psc;
	const u64 first = NR_PAGES - 2 * SNP_PSC_MAX_ENTRIES;
	u64 i;

	vcpu_start(s, 0);
	for (i = 0; i < SNP_PSC_MAX_ENTRIES; i++)
		psc_add(s, NR_PAGES - 2 * (i + 1), SNP_PSC_OP_PRIVATE);
	ASSERT_EQ(0, psc_run(s));
	ASSERT_EQ(SNP_PSC_MAX_ENTRIES, s->nr_requests);
	ASSERT_EQ(SNP_PSC_MAX_ENTRIES, psc->cur_entry);
	ASSERT_EQ(SNP_PSC_MAX_ENTRIES - 1, psc->end_entry);
	for (i = 0; i < SNP_PSC_MAX_ENTRIES; i++)
		ASSERT_EQ(1, (u64)psc->entries[i].cur_page);
	for (i = 0; i < MAX_REQUESTS; i++) {
		ASSERT_EQ(NR_PAGES - 2 * (i + 1), s->requests[i].page);
		ASSERT_EQ(1, s->requests[i].nr);
		ASSERT_TRUE(s->requests[i].private);
	}
	for (i = first; i < NR_PAGES; i++)
		ASSERT_EQ(i % 2 == first % 2, is_private(g->fd, i * PAGE_SIZE));

	/* What the guest makes of them, and the pages in between. */
	for (i = first; i < first + 32; i += 2) {
		ASSERT_EQ(0, guest_validate(s, i, 1));
		guest_fill(s, i, 1, SECRET);
		guest_fill_shared(s, i + 1, 1, 0x2800);
	}
	for (i = first; i < first + 32; i += 2) {
		ASSERT_GUEST_SEES(s, i, 1, SECRET);
		ASSERT_HOST_SEES(g, i + 1, 1, 0x2800);
	}
}

/* Pages that follow each other are one request to the VMM. */
TEST_F_TIMEOUT(guest, list_of_ranges, SECONDS)
{
	static const struct request want[] = {
		{ .page = 8, .nr = 4, .private = true },
		{ .page = 12, .nr = 2 },
		{ .page = 20, .nr = 1, .private = true },
		{ .page = 19, .nr = 1, .private = true },
		{ .page = 30, .nr = 8, .private = true },
	};
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 i, j;

	make_private(s, 12, 2, SECRET);
	for (i = 0; i < ARRAY_SIZE(want); i++) {
		for (j = 0; j < want[i].nr; j++)
			psc_add(s, want[i].page + j, want[i].private ?
				SNP_PSC_OP_PRIVATE : SNP_PSC_OP_SHARED);
	}
	ASSERT_EQ(0, guest_rescind(s, 12, 2));
	ASSERT_EQ(0, psc_run(s));
	ASSERT_EQ(ARRAY_SIZE(want), s->nr_requests);
	for (i = 0; i < ARRAY_SIZE(want); i++) {
		ASSERT_EQ(want[i].page, s->requests[i].page);
		ASSERT_EQ(want[i].nr, s->requests[i].nr);
		ASSERT_EQ(want[i].private, s->requests[i].private);
		ASSERT_STATE(g, want[i].page, want[i].nr, want[i].private ? PRIVATE : SHARED);
	}
	ASSERT_HOST_SEES_BYTE(g, 12, 2, 0);
	ASSERT_EQ(0, guest_validate(s, 30, 8));
	guest_fill(s, 30, 8, SECRET);
	ASSERT_GUEST_SEES(s, 30, 8, SECRET);
}

/* The VMM refuses one of them: the guest is told which, and may go on from there. */
TEST_F_TIMEOUT(guest, list_refused, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct snp_psc *psc = &s->cmds[0]->psc;

	vcpu_start(s, 0);
	s->refused_page = 12;
	psc_add(s, 8, SNP_PSC_OP_PRIVATE);
	psc_add(s, 10, SNP_PSC_OP_PRIVATE);
	psc_add(s, 12, SNP_PSC_OP_PRIVATE);
	psc_add(s, 14, SNP_PSC_OP_PRIVATE);
	ASSERT_EQ(SNP_PSC_ERROR_GENERIC, psc_run(s));
	ASSERT_EQ(2, psc->cur_entry);
	ASSERT_EQ(1, (u64)psc->entries[1].cur_page);
	ASSERT_EQ(0, (u64)psc->entries[2].cur_page);
	ASSERT_STATE(g, 8, 1, PRIVATE);
	ASSERT_STATE(g, 10, 1, PRIVATE);
	ASSERT_STATE(g, 11, 5, SHARED);

	s->refused_page = ALL;
	psc->end_entry++;
	ASSERT_EQ(0, psc_run(s));
	ASSERT_EQ(4, psc->cur_entry);
	ASSERT_EQ(5, s->nr_requests);
	ASSERT_STATE(g, 12, 1, PRIVATE);
	ASSERT_STATE(g, 13, 1, SHARED);
	ASSERT_STATE(g, 14, 1, PRIVATE);
}

TEST_F_TIMEOUT(guest, list_errors, SECONDS)
{
	struct guest *s = &self->s;
	struct snp_psc *psc = &s->cmds[0]->psc;

	vcpu_start(s, 0);
	psc->end_entry = SNP_PSC_MAX_ENTRIES + 1;
	ASSERT_EQ(SNP_PSC_ERROR_INVALID_HDR, psc_run(s));

	/* A huge page that isn't aligned, and one that is beyond its end. */
	memset(psc, 0, sizeof(*psc));
	psc_add(s, 8, SNP_PSC_OP_PRIVATE);
	psc_add(s, 1, SNP_PSC_OP_PRIVATE);
	psc->entries[1].huge = 1;
	ASSERT_EQ(SNP_PSC_ERROR_INVALID_ENTRY, psc_run(s));
	ASSERT_EQ(1, psc->cur_entry);
	ASSERT_STATE(&s->g, 8, 1, PRIVATE);

	memset(psc, 0, sizeof(*psc));
	psc_add(s, 9, SNP_PSC_OP_PRIVATE);
	psc->entries[0].cur_page = 2;
	ASSERT_EQ(SNP_PSC_ERROR_INVALID_ENTRY, psc_run(s));
	ASSERT_STATE(&s->g, 9, 1, SHARED);
	ASSERT_EQ(1, s->nr_requests);

	/* KVM takes what is no change of state for done, and doesn't ask the VMM. */
	memset(psc, 0, sizeof(*psc));
	psc_add(s, 9, SNP_PSC_OP_SMASH);
	psc_add(s, 10, SNP_PSC_OP_UNSMASH);
	psc_add(s, 11, SNP_PSC_OP_PRIVATE);
	psc_add(s, 12, 0);
	ASSERT_EQ(0, psc_run(s));
	ASSERT_EQ(2, s->nr_requests);
	ASSERT_STATE(&s->g, 9, 2, SHARED);
	ASSERT_STATE(&s->g, 11, 1, PRIVATE);
	ASSERT_STATE(&s->g, 12, 1, SHARED);

	/* There is nothing left to do in a list that is done. */
	psc->entries[2].cur_page = 1;
	psc->cur_entry = 0;
	psc->end_entry++;
	ASSERT_EQ(0, psc_run(s));
	ASSERT_EQ(2, s->nr_requests);
}

/* One request for 2 MiB, of pages which the guest has to validate one by one. */
TEST_F_TIMEOUT(guest, list_of_huge_pages, 2 * SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct snp_psc *psc = &s->cmds[0]->psc;

	vcpu_start(s, 0);
	host_fill(g, 500, NR_PAGES - 500, 0x2900);
	psc_add(s, 0, SNP_PSC_OP_SHARED);
	psc->entries[0].huge = 1;
	ASSERT_EQ(0, guest_rescind(s, 0, NR_LAUNCHED));
	ASSERT_EQ(0, psc_run(s));
	ASSERT_EQ(1, s->nr_requests);
	ASSERT_EQ(0, s->requests[0].page);
	ASSERT_EQ(NR_HUGE, s->requests[0].nr);
	ASSERT_FALSE(s->requests[0].private);
	ASSERT_EQ(NR_HUGE, (u64)psc->entries[0].cur_page);
	ASSERT_STATE(g, 0, NR_LAUNCHED, SHARED);
	ASSERT_HOST_SEES_BYTE(g, 0, NR_LAUNCHED, 0);
	ASSERT_HOST_SEES(g, 500, NR_PAGES - 500, 0x2900);

	memset(psc, 0, sizeof(*psc));
	psc_add(s, 0, SNP_PSC_OP_PRIVATE);
	psc_add(s, NR_HUGE, SNP_PSC_OP_PRIVATE);
	psc->entries[0].huge = 1;
	ASSERT_EQ(0, psc_run(s));
	ASSERT_EQ(3, s->nr_requests);
	ASSERT_EQ(NR_HUGE, s->requests[1].nr);
	ASSERT_EQ(1, s->requests[2].nr);
	ASSERT_TRUE(s->requests[1].private);
	ASSERT_EQ((NR_HUGE + 1) * PAGE_SIZE, first_shared(g->fd, 0, g->size));
	ASSERT_HOST_SEES(g, NR_HUGE + 1, NR_PAGES - NR_HUGE - 1, 0x2900);

	ASSERT_EQ(RMP_FAIL_SIZE_MISMATCH,
		  guest_op(s, OP_PVALIDATE_2M, private_gva(0), 1, RMP_VALIDATED));
	ASSERT_FALSE(guest_has_validated(s, 0));
	ASSERT_EQ(0, guest_validate(s, 0, NR_HUGE + 1));
	guest_fill(s, 0, NR_HUGE + 1, SECRET);
	ASSERT_GUEST_SEES(s, 0, NR_HUGE + 1, SECRET);
	ASSERT_EQ(RMP_FAIL_SIZE_MISMATCH,
		  guest_op(s, OP_PVALIDATE_2M, private_gva(0), 1, RMP_RESCINDED));
	ASSERT_GUEST_SEES(s, 0, NR_HUGE + 1, SECRET);

	/* Of which some are back already. */
	ASSERT_GUEST_SHARES(s, 100, 2);
	memset(psc, 0, sizeof(*psc));
	psc_add(s, 0, SNP_PSC_OP_SHARED);
	psc->entries[0].huge = 1;
	psc->entries[0].cur_page = 102;
	ASSERT_EQ(0, guest_rescind(s, 102, NR_HUGE - 102));
	ASSERT_EQ(0, psc_run(s));
	ASSERT_EQ(5, s->nr_requests);
	ASSERT_EQ(102, s->requests[4].page);
	ASSERT_EQ(NR_HUGE - 102, s->requests[4].nr);
	ASSERT_GUEST_SEES(s, 0, 100, SECRET);
	ASSERT_GUEST_SEES(s, NR_HUGE, 1, SECRET);
	ASSERT_HOST_SEES_BYTE(g, 100, NR_HUGE - 100, 0);
}

TEST_F_TIMEOUT(guest, neighbours, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 i;

	/* Across the border of 2 MiB; shared, private and not allocated pages besides. */
	make_private(s, 504, 16, SECRET);
	host_fill(g, 500, 4, 0x2a00);
	for (i = 505; i < 520; i += 2)
		ASSERT_GUEST_SHARES(s, i, 1);
	for (i = 504; i < 520; i += 2) {
		ASSERT_GUEST_SEES(s, i, 1, SECRET);
		ASSERT_STATE(g, i, 1, PRIVATE);
		ASSERT_HOST_SEES_BYTE(g, i + 1, 1, 0);
		ASSERT_STATE(g, i + 1, 1, SHARED);
	}
	host_fill(g, 505, 1, 0x2a00);

	/* The other way round, in one go each. */
	ASSERT_CONVERTS(g, 500, 20, SHARED, ZERO);
	ASSERT_HOST_SEES(g, 500, 4, 0x2a00);
	ASSERT_HOST_SEES(g, 505, 1, 0x2a00);
	ASSERT_HOST_SEES_BYTE(g, 504, 1, 0);
	ASSERT_CONVERTS(g, 506, 8, PRIVATE, UNSPECIFIED);
	ASSERT_EQ(0, guest_validate(s, 506, 8));
	guest_fill(s, 506, 8, SECRET);
	ASSERT_CONVERTS(g, 500, 40, PRIVATE, UNSPECIFIED);
	ASSERT_GUEST_SEES(s, 506, 8, SECRET);
	ASSERT_FALSE(guest_has_validated(s, 505));
	ASSERT_FALSE(guest_has_validated(s, 514));
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);
	ASSERT_EQ(NR_LAUNCHED + 20, nr_allocated(g));
}

/* KVM holds on to the GHCB while the VMM handles the exit. */
TEST_F_TIMEOUT(guest, ghcb_in_use, SECONDS)
{
	struct guest *s = &self->s;
	struct userspace_mem_region *region = memslot2region(s->g.vm, 0);
	const int fd = region->region.guest_memfd;
	u64 offset = s->ghcbs[0] - region->region.guest_phys_addr, where;
	struct kvm_run *run = s->vcpus[0]->run;
	int i;

	/* At an OUT instruction. */
	vcpu_start(s, 0);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(EAGAIN, convert(fd, offset, PAGE_SIZE, PRIVATE, UNSPECIFIED, &where));
		ASSERT_EQ(offset, where);
	}

	/* At a request for the end of the VM, which need not be the end. */
	ASSERT_EQ(-KVM_EXIT_SYSTEM_EVENT, vcpu_do(s, 0, OP_TERMINATE, private_gva(0), 1, 0));
	ASSERT_EQ(KVM_SYSTEM_EVENT_SEV_TERM, run->system_event.type);
	ASSERT_EQ(s->ghcbs[0], run->system_event.data[0]);
	ASSERT_EQ(EAGAIN, convert(fd, offset, PAGE_SIZE, PRIVATE, UNSPECIFIED, &where));
	ASSERT_EQ(offset, where);
	ASSERT_EQ(0, vcpu_continue(s, 0));

	/* At a request by the MSR, KVM has let go of the page. */
	vcpu_tell(s, 0, OP_PSC_MSR, private_gva(8), 1, GHCB_MSR_PSC_PRIVATE);
	vcpu_run(s->vcpus[0]);
	ASSERT_EQ(KVM_EXIT_HYPERCALL, run->exit_reason);
	ASSERT_EQ(0, convert(fd, offset, PAGE_SIZE, PRIVATE, UNSPECIFIED, &where));
	ASSERT_EQ(0, convert(fd, offset, PAGE_SIZE, SHARED, ZERO, &where));
	guest_answer(s, 0);
	ASSERT_EQ(0, vcpu_continue(s, 0));
	ASSERT_EQ(0, s->cmds[0]->ret);
	ASSERT_STATE(&s->g, 8, 1, PRIVATE);
}

/*
 * Accesses that don't match the state
 */
TEST_F_TIMEOUT(guest, private_access_to_shared_page, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct kvm_run *run = s->vcpus[0]->run;
	const enum guest_op ops[] = { OP_READ, OP_WRITE, OP_PVALIDATE };
	u64 page;
	int i;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		page = 8 + i;
		host_fill(g, page, 1, 0x2b00);
		ASSERT_EQ(EFAULT, vcpu_do(s, 0, ops[i], private_gva(page), 1, 1));
		ASSERT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
		ASSERT_EQ(gpa_of(page), run->memory_fault.gpa);
		ASSERT_EQ(PAGE_SIZE, run->memory_fault.size);
		ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, run->memory_fault.flags);
		/* Again, as long as the VMM does nothing about it. */
		ASSERT_EQ(EFAULT, vcpu_continue(s, 0));
		ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, run->memory_fault.flags);
		ASSERT_HOST_SEES(g, page, 1, 0x2b00);

		/* An implicit conversion. */
		ASSERT_CONVERTS(g, page, 1, PRIVATE, UNSPECIFIED);
		ASSERT_EQ(0, vcpu_continue(s, 0));
		if (ops[i] == OP_PVALIDATE) {
			ASSERT_EQ(0, s->cmds[0]->ret);
			ASSERT_TRUE(guest_has_validated(s, page));
		} else {
			ASSERT_EQ(VC_VECTOR, s->cmds[0]->vector);
			ASSERT_EQ(SVM_EXIT_NOT_VALIDATED, s->cmds[0]->error_code);
		}
	}
}

/* With the state of a page goes what the guest has mapped. */
TEST_F_TIMEOUT(guest, private_access_to_converted_page, SECONDS)
{
	const enum guest_op ops[] = { OP_READ, OP_WRITE, OP_PVALIDATE };
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct kvm_run *run = s->vcpus[0]->run;
	u64 page;
	int i;

	make_private(s, 8, ARRAY_SIZE(ops), SECRET);
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		page = 8 + i;
		ASSERT_CONVERTS(g, page, 1, SHARED, ZERO);
		ASSERT_EQ(EFAULT, vcpu_do(s, 0, ops[i], private_gva(page), 1, 1));
		ASSERT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
		ASSERT_EQ(gpa_of(page), run->memory_fault.gpa);
		ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, run->memory_fault.flags);
		ASSERT_HOST_SEES_BYTE(g, page, 1, 0);

		/* Let the vCPU go on. */
		ASSERT_CONVERTS(g, page, 1, PRIVATE, UNSPECIFIED);
		ASSERT_EQ(0, vcpu_continue(s, 0));
	}
}

TEST_F_TIMEOUT(guest, shared_access_to_private_page, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct kvm_run *run = s->vcpus[0]->run;
	const struct {
		enum guest_op op;
		u64 page;
	} accesses[] = {
		/* Validated, of the image, and not mapped by the guest. */
		{ OP_WRITE, 8 },
		{ OP_WRITE, 0 },
		{ OP_WRITE, 10 },
		{ OP_READ, 11 },
	};
	u64 page;
	int i;

	make_private(s, 8, 2, SECRET);
	ASSERT_CONVERTS(g, 10, 2, PRIVATE, UNSPECIFIED);
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);
	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		page = accesses[i].page;
		ASSERT_EQ(EFAULT, vcpu_do(s, 0, accesses[i].op, shared_gva(page), 1, 0x2c00));
		ASSERT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
		ASSERT_EQ(gpa_of(page), run->memory_fault.gpa);
		ASSERT_EQ(0, run->memory_fault.flags);
		ASSERT_EQ(EFAULT, vcpu_continue(s, 0));
		ASSERT_EQ(0, run->memory_fault.flags);
		ASSERT_STATE(g, page, 1, PRIVATE);

		ASSERT_CONVERTS(g, page, 1, SHARED, ZERO);
		ASSERT_EQ(0, vcpu_continue(s, 0));
		ASSERT_EQ(0, s->cmds[0]->vector);
		ASSERT_EQ(0, s->cmds[0]->ret);
		ASSERT_EQ(accesses[i].op == OP_READ ? 0 : 0x2c00,
			  *first_word(g->mem + page * PAGE_SIZE));
	}
	ASSERT_GUEST_SEES(s, 9, 1, SECRET);
	ASSERT_GUEST_SEES(s, 1, NR_LAUNCHED - 1, LAUNCH_SEED);

	/* Processors let a read pass if the page is mapped: the guest sees ciphertext. */
	if (!vcpu_do(s, 0, OP_READ, shared_gva(9), 1, 0)) {
		ASSERT_EQ(0, s->cmds[0]->vector);
		ASSERT_NE(SECRET + 9, s->cmds[0]->ret);
		ASSERT_NE(0, s->cmds[0]->ret);
	}
	ASSERT_STATE(g, 9, 1, PRIVATE);
}

/*
 * Users of pages
 */
TEST_F_TIMEOUT(guest, pinned, SECONDS)
{
	static const enum pin_type types[] = {
		PIN_GUP, PIN_GUP_WRITE, PIN_GUP_FAST, PIN_IO_URING, PIN_VMSPLICE,
	};
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct pin p;
	int i, n = 0;

	make_private(s, 8, 1, SECRET);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		const char *reason;

		host_fill(g, 9, 7, 0x2d00);
		reason = pin_take(&p, types[i], g->mem + 13 * PAGE_SIZE, PAGE_SIZE);
		if (reason) {
			TH_LOG("%s", reason);
			continue;
		}
		ASSERT_CONVERT_FAILS(EAGAIN, 13, g, 8, 8, PRIVATE, UNSPECIFIED);
		ASSERT_STATE(g, 9, 7, SHARED);
		ASSERT_HOST_SEES(g, 9, 7, 0x2d00);
		ASSERT_GUEST_SEES_SHARED(s, 9, 7, 0x2d00);
		ASSERT_GUEST_SEES(s, 8, 1, SECRET);
		/* Other pages aren't affected. */
		ASSERT_GUEST_UNSHARES(s, 9, 4);
		ASSERT_GUEST_UNSHARES(s, 14, 2);
		pin_drop(&p);
		ASSERT_GUEST_UNSHARES(s, 13, 1);
		guest_fill(s, 8, 8, SECRET);
		ASSERT_GUEST_SEES(s, 8, 8, SECRET);
		ASSERT_GUEST_SHARES(s, 9, 7);
		n++;
	}
	ASSERT_LE(1, n);
}

/* A pin that was taken before the page was private for the last time, and after. */
TEST_F_TIMEOUT(guest, pin_outlives_hole, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u8 buf[PAGE_SIZE];
	struct pin p;

	host_fill(g, 8, 1, 0x2e00);
	pin_pages(&p, PIN_VMSPLICE, g, 8, 1);
	ASSERT_CONVERT_FAILS(EAGAIN, 8, g, 8, 1, PRIVATE, UNSPECIFIED);

	/* The pinned page isn't the file's any more, and another one becomes private. */
	punch_hole(g, 8, 1);
	ASSERT_GUEST_UNSHARES(s, 8, 1);
	guest_fill(s, 8, 1, SECRET);
	pin_read(&p, buf, PAGE_SIZE);
	ASSERT_EQ(0x2e08, *first_word(buf));
	ASSERT_EQ(0x2e08, *last_word(buf));
	pin_drop(&p);
	ASSERT_GUEST_SEES(s, 8, 1, SECRET);
}

static int child_reads(void *addr)
{
	return can_read(addr);
}

/* A mapping of another process is a mapping. */
TEST_F_TIMEOUT(guest, forked_mapping, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u8 *page = g->mem + 8 * PAGE_SIZE;
	int to_child[2], to_parent[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	host_fill(g, 8, 1, 0x2f00);
	ASSERT_EQ(1, run_in_child(child_reads, page));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		bool before = *first_word(page) == 0x2f08, after;

		if (write(to_parent[1], "", 1) != 1 || read(to_child[0], &c, 1) != 1)
			_exit(2);
		after = can_read(page);
		_exit(before && !after ? 0 : 1);
	}
	ASSERT_EQ(1, read(to_parent[0], &c, 1));
	ASSERT_GUEST_UNSHARES(s, 8, 1);
	guest_fill(s, 8, 1, SECRET);
	ASSERT_EQ(1, write(to_child[1], "", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(0, run_in_child(child_reads, page));
	ASSERT_GUEST_SEES(s, 8, 1, SECRET);

	close(to_child[0]);
	close(to_child[1]);
	close(to_parent[0]);
	close(to_parent[1]);
}

/*
 * The states that a page can be in, as far as host, guest and firmware are concerned
 */
enum page_state {
	SHARED_UNUSED,
	SHARED_USED,
	PRIVATE_UNUSED,
	PRIVATE_ALLOCATED,
	PRIVATE_ASSIGNED,	/* the guest has touched it, but not validated */
	PRIVATE_VALIDATED,
	PRIVATE_RESCINDED,
	NR_STATES,
};

/* Bring a page, which is shared and wasn't used, into the state. */
static void bring_into(struct guest *s, u64 page, enum page_state state)
{
	switch (state) {
	case SHARED_UNUSED:
		break;
	case SHARED_USED:
		host_fill(&s->g, page, 1, 0x3000);
		TEST_ASSERT_EQ(guest_match_shared(s, page, 1, 0x3000), ALL);
		break;
	case PRIVATE_ALLOCATED:
		kvm_fallocate(s->g.fd, FALLOC_FL_KEEP_SIZE, page * PAGE_SIZE, PAGE_SIZE);
		fallthrough;
	case PRIVATE_UNUSED:
		gmem_set_private(s->g.fd, page * PAGE_SIZE, PAGE_SIZE, UNSPECIFIED);
		break;
	case PRIVATE_ASSIGNED:
		gmem_set_private(s->g.fd, page * PAGE_SIZE, PAGE_SIZE, UNSPECIFIED);
		TEST_ASSERT(!guest_has_validated(s, page), "Page %lu is validated", page);
		break;
	case PRIVATE_VALIDATED:
		make_private(s, page, 1, SECRET);
		break;
	case PRIVATE_RESCINDED:
		make_private(s, page, 1, SECRET);
		TEST_ASSERT(!guest_rescind(s, page, 1), "PVALIDATE of page %lu failed", page);
		break;
	case NR_STATES:
		break;
	}
}

FIXTURE(state)
{
	struct guest s;
};

FIXTURE_VARIANT(state)
{
	enum page_state state;
};

FIXTURE_VARIANT_ADD(state, shared_unused) { .state = SHARED_UNUSED };
FIXTURE_VARIANT_ADD(state, shared_used) { .state = SHARED_USED };
FIXTURE_VARIANT_ADD(state, private_unused) { .state = PRIVATE_UNUSED };
FIXTURE_VARIANT_ADD(state, private_allocated) { .state = PRIVATE_ALLOCATED };
FIXTURE_VARIANT_ADD(state, private_assigned) { .state = PRIVATE_ASSIGNED };
FIXTURE_VARIANT_ADD(state, private_validated) { .state = PRIVATE_VALIDATED };
FIXTURE_VARIANT_ADD(state, private_rescinded) { .state = PRIVATE_RESCINDED };

FIXTURE_SETUP(state)
{
	guest_launch(&self->s);
	bring_into(&self->s, 8, variant->state);
}

FIXTURE_TEARDOWN(state)
{
	kvm_vm_free(self->s.g.vm);
	kvm_close(self->s.g.fd);
}

TEST_F_TIMEOUT(state, punch_hole, SECONDS)
{
	const bool private = variant->state >= PRIVATE_UNUSED;
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	/* A neighbour on each side, and pages of the image. */
	host_fill(g, 7, 1, 0x3100);
	make_private(s, 9, 1, SECRET);
	punch_hole(g, 8, 1);
	ASSERT_EQ(NR_LAUNCHED + 2, nr_allocated(g));
	ASSERT_STATE(g, 8, 1, private ? PRIVATE : SHARED);
	ASSERT_HOST_SEES(g, 7, 1, 0x3100);
	ASSERT_GUEST_SEES(s, 9, 1, SECRET);

	/* It's another page now, and the guest can tell. */
	if (private) {
		ASSERT_FALSE(guest_has_validated(s, 8));
		ASSERT_EQ(0, guest_validate(s, 8, 1));
		ASSERT_EQ(8, guest_match(s, 8, 1, SECRET));
		guest_fill(s, 8, 1, SECRET);
		ASSERT_GUEST_SEES(s, 8, 1, SECRET);
		punch_hole(g, 8, 1);
		ASSERT_CONVERTS(g, 8, 1, SHARED, ZERO);
	}
	ASSERT_EQ(ALL, guest_op(s, OP_MATCH_BYTE, shared_gva(8), 1, 0));
	ASSERT_HOST_SEES_BYTE(g, 8, 1, 0);

	punch_hole(g, 1, 8);
	ASSERT_EQ(2, nr_allocated(g));
	ASSERT_GUEST_SEES(s, 0, 1, LAUNCH_SEED);
	ASSERT_FALSE(guest_has_validated(s, 1));
	ASSERT_GUEST_SEES(s, 9, 1, SECRET);
}

/* From each state to the other side, and back. */
TEST_F_TIMEOUT(state, convert, SECONDS)
{
	const bool private = variant->state >= PRIVATE_UNUSED;
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	ASSERT_CONVERTS(g, 8, 1, private ? SHARED : PRIVATE, UNSPECIFIED);
	ASSERT_STATE(g, 8, 1, private ? SHARED : PRIVATE);
	if (!private)
		ASSERT_CONVERTS(g, 8, 1, SHARED, ZERO);
	host_fill(g, 8, 1, 0x3200);
	ASSERT_GUEST_SEES_SHARED(s, 8, 1, 0x3200);
	ASSERT_GUEST_UNSHARES(s, 8, 1);
	guest_fill(s, 8, 1, SECRET);
	ASSERT_GUEST_SEES(s, 8, 1, SECRET);
	ASSERT_GUEST_SHARES(s, 8, 1);
	ASSERT_HOST_SEES_BYTE(g, 8, 1, 0);
	ASSERT_EQ(NR_LAUNCHED + 1, nr_allocated(g));
}

/*
 * Memslots
 */
static void set_slot(struct guest *s, u32 slot, u64 page, u64 nr, u64 file_page)
{
	vm_set_user_memory_region2(s->g.vm, slot, KVM_MEM_GUEST_MEMFD, gpa_of(page),
				   nr * PAGE_SIZE, s->g.mem + file_page * PAGE_SIZE, s->g.fd,
				   file_page * PAGE_SIZE);
}

TEST_F_TIMEOUT(guest, memslot_deleted, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct kvm_run *run = s->vcpus[0]->run;

	make_private(s, 8, 2, SECRET);
	host_fill(g, 12, 1, 0x4000);
	ASSERT_GUEST_SEES_SHARED(s, 12, 1, 0x4000);

	set_slot(s, TEST_SLOT, 0, 0, 0);
	ASSERT_EQ(EFAULT, vcpu_do(s, 0, OP_READ, private_gva(8), 1, 0));
	ASSERT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
	ASSERT_EQ(gpa_of(8), run->memory_fault.gpa);
	ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, run->memory_fault.flags);

	/* The state and the contents are the file's, and may change meanwhile. */
	ASSERT_STATE(g, 8, 2, PRIVATE);
	ASSERT_CONVERTS(g, 9, 1, SHARED, ZERO);
	ASSERT_CONVERTS(g, 10, 1, PRIVATE, UNSPECIFIED);
	ASSERT_HOST_SEES_BYTE(g, 9, 1, 0);

	/* The same page at the same address is as the guest left it. */
	set_slot(s, TEST_SLOT, 0, NR_PAGES, 0);
	ASSERT_EQ(0, vcpu_continue(s, 0));
	ASSERT_EQ(0, s->cmds[0]->vector);
	ASSERT_EQ(SECRET + 8, s->cmds[0]->ret);
	ASSERT_GUEST_SEES(s, 8, 1, SECRET);
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);
	ASSERT_GUEST_SEES_SHARED(s, 12, 1, 0x4000);
	ASSERT_FALSE(guest_has_validated(s, 10));
}

/* Two parts of the file change places: what was validated was so at another address. */
TEST_F_TIMEOUT(guest, memslot_elsewhere, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	make_private(s, 8, 2, SECRET);
	host_fill(g, 12, 2, 0x4100);

	set_slot(s, TEST_SLOT, 0, 0, 0);
	set_slot(s, TEST_SLOT, 16, 16, 0);
	set_slot(s, OTHER_SLOT, 0, 16, 16);

	ASSERT_GUEST_SEES_SHARED(s, 28, 2, 0x4100 - 16);
	ASSERT_FALSE(guest_has_validated(s, 16 + 8));
	ASSERT_FALSE(guest_has_validated(s, 16));
	ASSERT_EQ(0, guest_validate(s, 24, 1));
	guest_fill(s, 24, 1, SECRET);
	ASSERT_GUEST_SEES(s, 24, 1, SECRET);
	ASSERT_CONVERTS(g, 16, 1, PRIVATE, UNSPECIFIED);
	ASSERT_FALSE(guest_has_validated(s, 0));

	/* And back: what the guest hasn't seen elsewhere is as it was. */
	set_slot(s, TEST_SLOT, 16, 0, 0);
	set_slot(s, OTHER_SLOT, 0, 0, 16);
	set_slot(s, TEST_SLOT, 0, NR_PAGES, 0);
	ASSERT_FALSE(guest_has_validated(s, 8));
	ASSERT_FALSE(guest_has_validated(s, 0));
	ASSERT_GUEST_SEES(s, 9, 1, SECRET);
	ASSERT_GUEST_SEES(s, 1, NR_LAUNCHED - 1, LAUNCH_SEED);
	ASSERT_FALSE(guest_has_validated(s, 16));
	ASSERT_CONVERTS(g, 0, NR_PAGES, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 8, 2, 0);
	ASSERT_HOST_SEES(g, 12, 2, 0x4100);
}

/* Without its file, memory isn't private: there is no state to look up. */
TEST_F_TIMEOUT(guest, file_closed_under_memslot, SECONDS)
{
	struct guest *s = &self->s;
	struct kvm_run *run = s->vcpus[0]->run;
	struct userspace_mem_region *region = memslot2region(s->g.vm, TEST_SLOT);
	u8 *anon;
	int fd;

	anon = kvm_mmap(s->g.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	make_private(s, 8, 2, SECRET);
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);

	/* Leave something for the library to close, and to unmap. */
	fd = open("/dev/zero", O_RDWR);
	ASSERT_EQ(region->region.guest_memfd, dup2(fd, region->region.guest_memfd));
	ASSERT_EQ(s->g.fd, dup2(fd, s->g.fd));
	close(fd);
	ASSERT_EQ(region->mmap_start, mmap(region->mmap_start, region->mmap_size, PROT_NONE,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));

	ASSERT_EQ(EFAULT, vcpu_do(s, 0, OP_READ, private_gva(8), 1, 0));
	ASSERT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
	ASSERT_EQ(gpa_of(8), run->memory_fault.gpa);
	ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, run->memory_fault.flags);
	kvm_munmap(anon, s->g.size);
}

/*
 * KVM_PRE_FAULT_MEMORY
 */
static int pre_fault(struct kvm_vcpu *vcpu, u64 page, u64 nr)
{
	struct kvm_pre_fault_memory range = {
		.gpa = gpa_of(page),
		.size = nr * PAGE_SIZE,
	};
	int ret;

	do {
		ret = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range) ? errno : 0;
	} while (range.size && (!ret || ret == EINTR || ret == EAGAIN));
	return ret;
}

TEST_F_TIMEOUT(guest, pre_fault_memory, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	u64 pages;

	if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "No KVM_PRE_FAULT_MEMORY");

	/* Private and shared pages, validated ones and such as were never used. */
	make_private(s, 9, 1, SECRET);
	host_fill(g, 12, 1, 0x4200);
	ASSERT_CONVERTS(g, 8, 4, PRIVATE, UNSPECIFIED);
	pages = vm_get_stat(g->vm, pages_4k);
	/* One of the eight is mapped already. */
	ASSERT_EQ(0, pre_fault(s->vcpus[0], 8, 8));
	ASSERT_EQ(pages + 7, vm_get_stat(g->vm, pages_4k));
	ASSERT_EQ(NR_LAUNCHED + 8, nr_allocated(g));

	/* To the guest, it is as if it came there first. */
	ASSERT_GUEST_SEES(s, 9, 1, SECRET);
	ASSERT_FALSE(guest_has_validated(s, 8));
	ASSERT_EQ(0, guest_validate(s, 8, 1));
	guest_fill(s, 8, 1, SECRET);
	ASSERT_GUEST_SEES(s, 8, 2, SECRET);
	ASSERT_GUEST_SEES_SHARED(s, 12, 1, 0x4200);

	/* What is mapped is converted as any other page, and unmapped by that. */
	pages = vm_get_stat(g->vm, pages_4k);
	ASSERT_CONVERTS(g, 8, 4, SHARED, ZERO);
	ASSERT_HOST_SEES_BYTE(g, 8, 4, 0);
	ASSERT_EQ(pages - 4, vm_get_stat(g->vm, pages_4k));
	ASSERT_EQ(0, pre_fault(s->vcpus[0], 8, 4));
	ASSERT_CONVERTS(g, 8, 8, PRIVATE, UNSPECIFIED);
	ASSERT_EQ(0, pre_fault(s->vcpus[0], 8, 8));
	ASSERT_FALSE(guest_has_validated(s, 9));
	ASSERT_FALSE(guest_has_validated(s, 12));
}

/*
 * A VMSA in guest_memfd: the first vCPU starts the second one
 */
#define VMSA_PAGE	8ul

FIXTURE(ap)
{
	struct guest s;
};

FIXTURE_SETUP(ap)
{
	struct guest *s = &self->s;

	guest_launch(s);
	make_private(s, VMSA_PAGE, 1, 0);
	make_private(s, 16, 8, SECRET);
}

FIXTURE_TEARDOWN(ap)
{
	kvm_vm_free(self->s.g.vm);
	kvm_close(self->s.g.fd);
}

static void start_ap(struct guest *s)
{
	u64 ret;

	s->started[1] = false;
	ret = guest_op(s, OP_AP_CREATE, private_gva(VMSA_PAGE), 0, 0);
	TEST_ASSERT(!ret, "Creation of vCPU 1 failed: %lu", ret);
	vcpu_start(s, 1);
}

/* The same with a page that isn't a VMSA any more. */
static void start_ap_again(struct guest *s)
{
	gmem_set_private(s->g.fd, VMSA_PAGE * PAGE_SIZE, PAGE_SIZE, UNSPECIFIED);
	TEST_ASSERT(!guest_validate(s, VMSA_PAGE, 1), "The VMSA should need validation");
	start_ap(s);
}

static u64 ap_op(struct guest *s, enum guest_op op, u64 page, u64 nr, u64 val)
{
	int ret = vcpu_do(s, 1, op, private_gva(page), nr, val);

	TEST_ASSERT(!ret, "Operation %d of vCPU 1: %d, errno or exit reason", op, ret);
	return s->cmds[1]->ret;
}

TEST_F_TIMEOUT(ap, create, SECONDS)
{
	const u64 features = GHCB_HV_FT_SNP | GHCB_HV_FT_SNP_AP_CREATION;
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	ASSERT_EQ(features, guest_op(s, OP_HV_FEATURES, private_gva(0), 0, 0) & features);
	start_ap(s);
	ASSERT_EQ(1, s->cmds[1]->nr_starts);

	/* Both vCPUs have the same memory. */
	ASSERT_EQ(ALL, ap_op(s, OP_MATCH, 16, 8, SECRET + 16));
	ap_op(s, OP_FILL, 16, 8, 0x4300);
	ASSERT_GUEST_SEES(s, 16, 8, 0x4300 - 16);
	ASSERT_EQ(0, ap_op(s, OP_SHARE, 20, 2, 0));
	ASSERT_HOST_SEES_BYTE(g, 20, 2, 0);
	ASSERT_FALSE(can_read(g->mem + VMSA_PAGE * PAGE_SIZE));
	ASSERT_CONVERT_FAILS(EOPNOTSUPP, VMSA_PAGE, g, VMSA_PAGE, 1, SHARED, PRESERVE);
	ASSERT_EQ(0, ap_op(s, OP_UNSHARE, 20, 2, 0));
	ASSERT_EQ(1, s->cmds[1]->nr_starts);
}

TEST_F_TIMEOUT(ap, create_errors, SECONDS)
{
	struct guest *s = &self->s;
	struct guest_cmd *c = s->cmds[0];

	/* At 2 MiB, which is where processors have an erratum. */
	ASSERT_EQ(GHCB_ERR_INVALID_INPUT,
		  guest_op(s, OP_AP_REQUEST, private_gva(0), 0, SVM_VMGEXIT_AP_CREATE));
	/* Not at a page; not the features that the VM has; no such request or vCPU. */
	ASSERT_EQ(GHCB_ERR_INVALID_INPUT,
		  guest_op(s, OP_AP_REQUEST, private_gva(VMSA_PAGE) + 8, 0,
			   SVM_VMGEXIT_AP_CREATE));
	ASSERT_EQ(GHCB_ERR_INVALID_INPUT,
		  guest_op(s, OP_AP_REQUEST, private_gva(VMSA_PAGE), 2,
			   SVM_VMGEXIT_AP_CREATE));
	ASSERT_EQ(GHCB_ERR_INVALID_INPUT,
		  guest_op(s, OP_AP_REQUEST, private_gva(VMSA_PAGE), 0, 9));
	c->apic_id = 7;
	ASSERT_EQ(GHCB_ERR_INVALID_INPUT,
		  guest_op(s, OP_AP_REQUEST, private_gva(VMSA_PAGE), 0,
			   SVM_VMGEXIT_AP_CREATE));

	/* That was no start. */
	c->apic_id = 1;
	ASSERT_NE(0, ap_op(s, OP_HV_FEATURES, 0, 0, 0));
	ASSERT_EQ(0, s->cmds[1]->nr_starts);
}

/* A shared page can't hold a VMSA. */
TEST_F_TIMEOUT(ap, vmsa_in_shared_page, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	host_fill(g, 9, 1, 0x4400);
	ASSERT_EQ(0, guest_op(s, OP_AP_REQUEST, private_gva(9), 0, SVM_VMGEXIT_AP_CREATE));
	ASSERT_EQ(-KVM_EXIT_FAIL_ENTRY, vcpu_continue(s, 1));
	ASSERT_EQ(-KVM_EXIT_FAIL_ENTRY, vcpu_continue(s, 1));
	ASSERT_HOST_SEES(g, 9, 1, 0x4400);

	/* The guest may do better. */
	start_ap(s);
	ASSERT_EQ(1, s->cmds[1]->nr_starts);
	ASSERT_EQ(ALL, ap_op(s, OP_MATCH, 16, 8, SECRET + 16));
}

TEST_F_TIMEOUT(ap, vmsa_converted, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	int i;

	start_ap(s);
	for (i = 0; i < 3; i++) {
		/* The vCPU isn't in the guest, and can't go there any more. */
		ASSERT_CONVERTS(g, VMSA_PAGE, 1, SHARED, i & 1 ? UNSPECIFIED : ZERO);
		host_fill(g, VMSA_PAGE, 1, 0x4500);
		ASSERT_EQ(-KVM_EXIT_FAIL_ENTRY, vcpu_continue(s, 1));
		ASSERT_HOST_SEES(g, VMSA_PAGE, 1, 0x4500);
		ASSERT_GUEST_SEES(s, 16, 8, SECRET);

		start_ap_again(s);
		ASSERT_EQ(2 + i, s->cmds[1]->nr_starts);
		ASSERT_EQ(ALL, ap_op(s, OP_MATCH, 16, 8, SECRET + 16));
	}
}

TEST_F_TIMEOUT(ap, vmsa_converted_in_use, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct runner r;
	int i;

	start_ap(s);
	for (i = 0; i < 10; i++) {
		runner_start(&r, s, 1, OP_LOOP, 16, 8, 0x100000);
		while (!runner_has_come_far(&r, 3))
			usleep(100);
		ASSERT_CONVERTS(g, VMSA_PAGE, 1, SHARED, ZERO);
		ASSERT_HOST_SEES_BYTE(g, VMSA_PAGE, 1, 0);
		ASSERT_EQ(VCPU_FAILED(KVM_EXIT_FAIL_ENTRY), runner_stop(&r));
		/* No #VMEXIT has written to it since. */
		ASSERT_HOST_SEES_BYTE(g, VMSA_PAGE, 1, 0);
		start_ap_again(s);
	}
	ASSERT_EQ(11, s->cmds[1]->nr_starts);
}

/* The page goes under a vCPU that runs; the one that comes instead is no VMSA. */
TEST_F_TIMEOUT(ap, vmsa_punched, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct runner r;
	int i;

	start_ap(s);
	for (i = 0; i < 5; i++) {
		runner_start(&r, s, 1, OP_LOOP, 16, 8, 0x100000);
		while (!runner_has_come_far(&r, 3))
			usleep(100);
		punch_hole(g, VMSA_PAGE, 1);
		ASSERT_EQ(VCPU_FAILED(KVM_EXIT_FAIL_ENTRY), runner_stop(&r));
		ASSERT_EQ(-KVM_EXIT_FAIL_ENTRY, vcpu_continue(s, 1));

		/* There is a new page, which the guest can make a VMSA of. */
		ASSERT_FALSE(guest_has_validated(s, VMSA_PAGE));
		ASSERT_EQ(0, guest_validate(s, VMSA_PAGE, 1));
		start_ap(s);
		ASSERT_EQ(2 + i, s->cmds[1]->nr_starts);
	}
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);
}

/* A page that was a VMSA can become shared like any other. */
TEST_F_TIMEOUT(ap, destroy, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	start_ap(s);
	ASSERT_EQ(0, guest_op(s, OP_AP_REQUEST, private_gva(VMSA_PAGE), 0,
			      SVM_VMGEXIT_AP_DESTROY));
	ASSERT_EQ(0, guest_op(s, OP_RMPADJUST, private_gva(VMSA_PAGE), 1, RMPADJUST_VMPL(1)));
	ASSERT_TRUE(guest_has_validated(s, VMSA_PAGE));
	guest_fill(s, VMSA_PAGE, 1, SECRET);
	ASSERT_GUEST_SEES(s, VMSA_PAGE, 1, SECRET);
	ASSERT_GUEST_SHARES(s, VMSA_PAGE, 1);
	ASSERT_HOST_SEES_BYTE(g, VMSA_PAGE, 1, 0);

	start_ap_again(s);
	ASSERT_EQ(2, s->cmds[1]->nr_starts);
	ASSERT_EQ(ALL, ap_op(s, OP_MATCH, 16, 8, SECRET + 16));
}

/*
 * Races
 */
#define NR_ROUNDS	20

/* The guest converts, and another vCPU uses what is next to that. */
TEST_F_TIMEOUT(guest, race_with_neighbours, SECONDS)
{
	struct runner converter, neighbour;
	struct guest *s = &self->s;
	struct gmem *g = &s->g;

	make_private(s, 8, 12, SECRET);
	runner_start(&neighbour, s, 1, OP_LOOP, 8, 4, 0x100000);
	runner_start(&converter, s, 0, OP_LOOP_CONVERT, 12, 4, 0x200000);
	while (!runner_has_come_far(&converter, NR_ROUNDS) ||
	       !runner_has_come_far(&neighbour, NR_ROUNDS))
		usleep(1000);
	ASSERT_EQ(0, runner_stop(&converter));
	ASSERT_EQ(0, runner_stop(&neighbour));
	ASSERT_GUEST_SEES(s, 16, 4, SECRET);
	ASSERT_EQ(NR_LAUNCHED + 12, nr_allocated(g));
}

TEST_F_TIMEOUT(guest, race_of_requests, SECONDS)
{
	struct runner r[NR_VCPUS];
	struct guest *s = &self->s;
	int i;

	make_private(s, 8, 12, SECRET);
	for (i = 0; i < NR_VCPUS; i++)
		runner_start(&r[i], s, i, OP_LOOP_CONVERT, 8 + 4 * i, 4, 0x100000 << i);
	while (!runner_has_come_far(&r[0], NR_ROUNDS) || !runner_has_come_far(&r[1], NR_ROUNDS))
		usleep(1000);
	for (i = 0; i < NR_VCPUS; i++)
		ASSERT_EQ(0, runner_stop(&r[i]));
	ASSERT_GUEST_SEES(s, 16, 4, SECRET);
}

struct host_user {
	struct gmem *g;
	u64 page;
	u64 nr;
	bool stop;
	u64 nr_sigbus;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
};

static void *host_user_thread(void *__u)
{
	struct host_user *u = __u;
	u64 i;

	for (i = 0; !READ_ONCE(u->stop); i++) {
		if (!host_access(HOST_ADD, u->g->mem + (u->page + i % u->nr) * PAGE_SIZE))
			u->nr_sigbus++;
	}
	return NULL;
}

/* Bring all pages to one state, and let the vCPU come to the end of its loop. */
static u64 stop_reader(struct runner *r, u64 page, u64 nr)
{
	WRITE_ONCE(r->s->cmds[r->cpu]->go_on, 0);
	gmem_set_private(r->s->g.fd, page * PAGE_SIZE, nr * PAGE_SIZE, UNSPECIFIED);
	return runner_stop(r);
}

/* The host converts as it likes, while both sides use the memory. */
TEST_F_TIMEOUT(guest, race_with_host, SECONDS)
{
	static const u64 modes[] = { UNSPECIFIED, ZERO };
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct host_user u = { .g = g, .page = 8, .nr = 4 };
	struct kvm_random_state rng = new_kvm_random_state(kvm_random_seed);
	struct runner r;
	u64 page, nr;
	int i;

	s->repeat_faults = true;
	ASSERT_CONVERTS(g, 8, 4, PRIVATE, UNSPECIFIED);
	runner_start(&r, s, 1, OP_LOOP_READ, 8, 4, 0);
	kvm_pthread_create(&u.thread, NULL, host_user_thread, &u);
	for (i = 0; i < 300 || !runner_has_come_far(&r, NR_ROUNDS); i++) {
		page = kvm_random_u32_in_range(&rng, 8, 11);
		nr = kvm_random_u32_in_range(&rng, 1, 12 - page);
		if (kvm_random_bool(&rng))
			ASSERT_CONVERTS(g, page, nr, PRIVATE, UNSPECIFIED);
		else
			ASSERT_CONVERTS(g, page, nr, SHARED, modes[kvm_random_bool(&rng)]);
	}
	WRITE_ONCE(u.stop, true);
	kvm_pthread_join(u.thread, NULL);
	ASSERT_EQ(0, stop_reader(&r, 8, 4));
	ASSERT_LE(1, u.nr_sigbus);
	ASSERT_LE(1, s->nr_faults);
	ASSERT_EQ(NR_LAUNCHED + 4, nr_allocated(g));
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);
}

TEST_F_TIMEOUT(guest, race_with_holes, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct runner r;
	int i;

	s->repeat_faults = true;
	make_private(s, 8, 4, SECRET);
	make_private(s, 16, 4, SECRET);
	runner_start(&r, s, 1, OP_LOOP_READ, 8, 4, 0);
	for (i = 0; i < 200 || !runner_has_come_far(&r, NR_ROUNDS); i++) {
		punch_hole(g, 8 + i % 4, 1);
		if (i % 3 == 0)
			ASSERT_CONVERTS(g, 8 + i % 2, 2, SHARED, i & 1 ? ZERO : UNSPECIFIED);
		else if (i % 3 == 1)
			ASSERT_CONVERTS(g, 8, 4, PRIVATE, UNSPECIFIED);
	}
	ASSERT_EQ(0, stop_reader(&r, 8, 4));
	ASSERT_GUEST_SEES(s, 16, 4, SECRET);
}

static void *pre_fault_thread(void *__u)
{
	struct host_user *u = __u;

	while (!READ_ONCE(u->stop))
		pre_fault(u->vcpu, u->page, u->nr);
	return NULL;
}

/* The first vCPU's thread maps what the second vCPU has converted. */
TEST_F_TIMEOUT(guest, race_with_pre_fault, SECONDS)
{
	struct guest *s = &self->s;
	struct host_user u = { .page = 8, .nr = 8, .vcpu = s->vcpus[0] };
	struct runner r;

	if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "No KVM_PRE_FAULT_MEMORY");

	make_private(s, 8, 8, SECRET);
	runner_start(&r, s, 1, OP_LOOP_CONVERT, 8, 4, 0x100000);
	kvm_pthread_create(&u.thread, NULL, pre_fault_thread, &u);
	while (!runner_has_come_far(&r, NR_ROUNDS))
		usleep(1000);
	ASSERT_EQ(0, runner_stop(&r));
	WRITE_ONCE(u.stop, true);
	kvm_pthread_join(u.thread, NULL);
	ASSERT_GUEST_SEES(s, 12, 4, SECRET);
}

/* The memory goes from under the guest and comes back, with what is in it. */
TEST_F_TIMEOUT(guest, race_with_memslot, SECONDS)
{
	struct guest *s = &self->s;
	struct gmem *g = &s->g;
	struct runner r;
	int i;

	s->repeat_faults = true;
	make_private(s, 8, 8, SECRET);
	runner_start(&r, s, 1, OP_LOOP, 8, 4, 0x100000);
	for (i = 0; i < 30 || !runner_has_come_far(&r, NR_ROUNDS); i++) {
		set_slot(s, TEST_SLOT, 0, 0, 0);
		ASSERT_CONVERTS(g, 16, 4, i & 1 ? SHARED : PRIVATE, UNSPECIFIED);
		set_slot(s, TEST_SLOT, 0, NR_PAGES, 0);
		usleep(1000);
	}
	ASSERT_EQ(0, runner_stop(&r));
	ASSERT_GUEST_SEES(s, 12, 4, SECRET);
	ASSERT_GUEST_SEES(s, 0, NR_LAUNCHED, LAUNCH_SEED);
}

/*
 * The end
 */

/* Have the next user of memory come to what was the guest's, and to what is next to it. */
static void use_memory_again(void)
{
	const size_t size = SZ_16M;
	u8 *mem;

	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memset(mem, 0x5a, size);
	kvm_munmap(mem, size);
}

/* Pages in all states, a VMSA in use, and one that firmware has launched. */
static void all_states(struct guest *s)
{
	enum page_state state;

	for (state = 0; state < NR_STATES; state++)
		bring_into(s, 32 + state, state);
	make_private(s, VMSA_PAGE, 1, 0);
	make_private(s, 16, 8, SECRET);
	start_ap(s);
}

enum part {
	PART_VCPUS,
	PART_VM,
	PART_FILE,
	PART_MAPPING,
	PART_SLOT,
	NR_PARTS,
};

FIXTURE(end)
{
	struct guest s;
};

FIXTURE_VARIANT(end)
{
	enum part order[NR_PARTS];
};

FIXTURE_VARIANT_ADD(end, vm_first) {
	.order = { PART_VM, PART_VCPUS, PART_MAPPING, PART_FILE, PART_SLOT },
};

FIXTURE_VARIANT_ADD(end, file_first) {
	.order = { PART_FILE, PART_MAPPING, PART_VCPUS, PART_VM, PART_SLOT },
};

FIXTURE_VARIANT_ADD(end, slot_first) {
	.order = { PART_SLOT, PART_FILE, PART_VM, PART_MAPPING, PART_VCPUS },
};

FIXTURE_VARIANT_ADD(end, mapping_last) {
	.order = { PART_VCPUS, PART_FILE, PART_SLOT, PART_VM, PART_MAPPING },
};

FIXTURE_SETUP(end)
{
	guest_launch(&self->s);
}

FIXTURE_TEARDOWN(end)
{
}

TEST_F_TIMEOUT(end, close, SECONDS)
{
	struct guest *s = &self->s;
	struct kvm_vm *vm = s->g.vm;
	struct userspace_mem_region *region = memslot2region(vm, TEST_SLOT);
	int i, j, run_size = __kvm_ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	bool has_vm = true;

	all_states(s);
	for (i = 0; i < NR_PARTS; i++) {
		switch (variant->order[i]) {
		case PART_VCPUS:
			for (j = 0; j < NR_VCPUS; j++) {
				kvm_munmap(s->vcpus[j]->run, run_size);
				kvm_close(s->vcpus[j]->stats.fd);
				kvm_close(s->vcpus[j]->fd);
			}
			break;
		case PART_VM:
			kvm_close(vm->stats.fd);
			kvm_close(vm->fd);
			has_vm = false;
			break;
		case PART_FILE:
			kvm_close(region->region.guest_memfd);
			kvm_close(s->g.fd);
			break;
		case PART_MAPPING:
			kvm_munmap(region->mmap_start, region->mmap_size);
			break;
		case PART_SLOT:
			if (has_vm)
				set_slot(s, TEST_SLOT, 0, 0, 0);
			break;
		case NR_PARTS:
			break;
		}
		use_memory_again();
	}
}

/* A process that dies of a signal in the midst of it all. */
static void run_until_killed(int fd)
{
	struct runner r[NR_VCPUS];
	struct guest s;
	u64 i;

	guest_launch(&s);
	all_states(&s);
	runner_start(&r[0], &s, 0, OP_LOOP_CONVERT, 20, 4, 0x100000);
	runner_start(&r[1], &s, 1, OP_LOOP, 16, 4, 0x200000);
	while (!runner_has_come_far(&r[0], 1) || !runner_has_come_far(&r[1], 1))
		usleep(1000);
	if (write(fd, "", 1) != 1)
		_exit(1);
	for (i = 0;; i++) {
		gmem_set_shared(s.g.fd, 48 * PAGE_SIZE, 16 * PAGE_SIZE, ZERO);
		gmem_set_private(s.g.fd, 48 * PAGE_SIZE, 16 * PAGE_SIZE, UNSPECIFIED);
		pre_fault(s.vcpus[0], 48, 16);
	}
}

static void launch_until_killed(int fd)
{
	struct gmem g;
	u64 i;

	image_create(&g);
	if (write(fd, "", 1) != 1)
		_exit(1);
	for (i = 0;; i++) {
		gmem_set_shared(g.fd, 0, 16 * PAGE_SIZE, ZERO);
		host_fill(&g, 0, 16, i);
		gmem_set_private(g.fd, 0, 16 * PAGE_SIZE, PRESERVE);
		launch(&g, 0, 16, KVM_SEV_SNP_PAGE_TYPE_NORMAL);
	}
}

/* Return the signal that the child has died of. */
static int kill_child(void (*fn)(int fd), u64 delay_us)
{
	int fds[2], status;
	pid_t pid;
	char c;

	TEST_ASSERT(!pipe(fds), "pipe() failed");
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		close(fds[0]);
		fn(fds[1]);
	}
	close(fds[1]);
	TEST_ASSERT(read(fds[0], &c, 1) == 1, "The child has died before it was killed");
	usleep(delay_us);
	kill(pid, SIGKILL);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid() failed");
	close(fds[0]);
	use_memory_again();
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_F_TIMEOUT(none, killed, 3 * SECONDS)
{
	struct kvm_random_state rng = new_kvm_random_state(kvm_random_seed);
	struct guest s;
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(SIGKILL, kill_child(run_until_killed,
					      kvm_random_u32_in_range(&rng, 0, 30000)));

	/* And everything is as ever for the next one. */
	guest_launch(&s);
	all_states(&s);
	ASSERT_GUEST_SEES(&s, 0, NR_LAUNCHED, LAUNCH_SEED);
	kvm_vm_free(s.g.vm);
	kvm_close(s.g.fd);
}

TEST_F_TIMEOUT(none, killed_during_launch, 2 * SECONDS)
{
	struct kvm_random_state rng = new_kvm_random_state(kvm_random_seed);
	struct gmem g;
	int i;

	for (i = 0; i < 5; i++)
		ASSERT_EQ(SIGKILL, kill_child(launch_until_killed,
					      kvm_random_u32_in_range(&rng, 0, 50000)));

	image_create(&g);
	ASSERT_CONVERTS(&g, 0, 1, PRIVATE, PRESERVE);
	ASSERT_EQ(0, launch(&g, 0, 1, KVM_SEV_SNP_PAGE_TYPE_NORMAL));
	gmem_close(&g);
}

/*
 * A random walk of both sides, against a model of what each may rely on
 */
#define WALK_PAGE	16ul
#define WALK_NR		12ul
#define WALK_STEPS	400

enum contents {
	NO_MEMORY,	/* which will read zero */
	ZEROS,
	FILLED,
	ANYTHING,
};

struct walk_page {
	bool private;
	bool validated;
	enum contents contents;
	u64 seed;
};

struct walk {
	struct guest *s;
	struct kvm_random_state rng;
	struct walk_page pages[WALK_NR];
	u64 nr_steps;
};

static u64 walk_random(struct walk *w, u64 n)
{
	return kvm_random_u32(&w->rng) % n;
}

static void walk_converted(struct walk *w, u64 i, bool private, u64 mode)
{
	struct walk_page *p = &w->pages[i];

	if (p->private == private)
		return;

	p->private = private;
	p->validated = false;
	if (p->contents != NO_MEMORY)
		p->contents = !private && mode == ZERO ? ZEROS : ANYTHING;
}

/* Both sides see the same shared memory, and the guest its private memory. */
static bool walk_check(struct walk *w, u64 i)
{
	struct walk_page *p = &w->pages[i];
	struct guest *s = w->s;
	struct gmem *g = &s->g;
	u64 page = WALK_PAGE + i;

	if (can_read(g->mem + page * PAGE_SIZE) == p->private ||
	    is_private(g->fd, page * PAGE_SIZE) != p->private)
		return false;

	if (p->private) {
		if (guest_has_validated(s, page) != p->validated)
			return false;
		if (p->contents == NO_MEMORY)
			p->contents = ANYTHING;
		return p->contents != FILLED || !p->validated ||
		       guest_match(s, page, 1, p->seed) == ALL;
	}

	if (p->contents == NO_MEMORY)
		p->contents = ZEROS;
	if (p->contents == ZEROS)
		return host_match_byte(g, page, 1, 0) == ALL &&
		       guest_op(s, OP_MATCH_BYTE, shared_gva(page), 1, 0) == ALL;
	return p->contents != FILLED || (host_match(g, page, 1, p->seed) == ALL &&
					 guest_match_shared(s, page, 1, p->seed) == ALL);
}

/* Fill a page, from whichever side can. */
static void walk_fill(struct walk *w, u64 i)
{
	struct walk_page *p = &w->pages[i];
	u64 page = WALK_PAGE + i;

	if (p->private && !p->validated)
		return;

	p->seed = (w->nr_steps << 32) + SECRET;
	p->contents = FILLED;
	if (p->private)
		guest_fill(w->s, page, 1, p->seed);
	else if (walk_random(w, 2))
		guest_fill_shared(w->s, page, 1, p->seed);
	else
		host_fill(&w->s->g, page, 1, p->seed);
}

static bool walk_convert(struct walk *w, u64 i, u64 nr)
{
	bool private = walk_random(w, 2);
	u64 mode = !private && walk_random(w, 2) ? ZERO : UNSPECIFIED;

	if (convert_pages(&w->s->g, WALK_PAGE + i, nr, private ? PRIVATE : SHARED, mode, NULL))
		return false;
	while (nr--)
		walk_converted(w, i + nr, private, mode);
	return true;
}

/* At the guest's request, who gives pages up first, or doesn't care. */
static bool walk_request(struct walk *w, u64 i, u64 nr)
{
	bool private = walk_random(w, 2);
	struct guest *s = w->s;
	u64 j;

	s->mode_to_shared = walk_random(w, 2) ? ZERO : UNSPECIFIED;
	if (walk_random(w, 2)) {
		if (guest_op(s, OP_PSC_MSR, private_gva(WALK_PAGE + i), nr,
			     private ? GHCB_MSR_PSC_PRIVATE : GHCB_MSR_PSC_SHARED))
			return false;
	} else {
		memset(&s->cmds[0]->psc, 0, sizeof(s->cmds[0]->psc));
		for (j = 0; j < nr; j++)
			psc_add(s, WALK_PAGE + i + j, private ? SNP_PSC_OP_PRIVATE :
							      SNP_PSC_OP_SHARED);
		if (psc_run(s))
			return false;
	}
	for (j = 0; j < nr; j++)
		walk_converted(w, i + j, private, s->mode_to_shared);
	return true;
}

/* What can't be done changes nothing, and says where. */
static bool walk_refused(struct walk *w, u64 i, u64 nr)
{
	bool private = walk_random(w, 2);
	u64 mode = private && walk_random(w, 2) ? ZERO : PRESERVE;
	u64 first, where;
	int ret;

	for (first = i; first < i + nr && w->pages[first].private == private; first++)
		;
	ret = convert_pages(&w->s->g, WALK_PAGE + i, nr, private ? PRIVATE : SHARED, mode,
			    &where);
	return first == i + nr ? !ret : ret == EOPNOTSUPP && where == WALK_PAGE + first;
}

static bool walk_pinned(struct walk *w, u64 i, u64 nr)
{
	struct gmem *g = &w->s->g;
	u64 page, where;
	struct pin p;
	int ret;

	page = i + walk_random(w, nr);
	if (w->pages[page].private)
		return true;

	pin_pages(&p, PIN_VMSPLICE, g, WALK_PAGE + page, 1);
	if (w->pages[page].contents == NO_MEMORY)
		w->pages[page].contents = ZEROS;
	ret = convert_pages(g, WALK_PAGE + i, nr, PRIVATE, UNSPECIFIED, &where);
	pin_drop(&p);
	return ret == EAGAIN && where == WALK_PAGE + page;
}

static void walk_hole(struct walk *w, u64 i, u64 nr)
{
	punch_hole(&w->s->g, WALK_PAGE + i, nr);
	while (nr--) {
		w->pages[i + nr].contents = NO_MEMORY;
		w->pages[i + nr].validated = false;
	}
}

static bool walk_pvalidate(struct walk *w, u64 i)
{
	struct walk_page *p = &w->pages[i];
	bool validate = walk_random(w, 3);
	int ret, want = p->validated == validate ? -1 : 0;

	if (!p->private)
		return true;

	/* The first touch of the guest, maybe. */
	if (p->contents == NO_MEMORY)
		p->contents = ANYTHING;
	p->validated = validate;
	ret = guest_op(w->s, OP_PVALIDATE, private_gva(WALK_PAGE + i), 1, validate);
	return ret == want;
}

/* An access that doesn't match the state, which the host takes for a request. */
static bool walk_implicit(struct walk *w, u64 i)
{
	struct walk_page *p = &w->pages[i];
	struct guest *s = w->s;
	struct kvm_run *run = s->vcpus[0]->run;
	u64 page = WALK_PAGE + i, mode = p->private ? ZERO : UNSPECIFIED;

	/* Reads of ciphertext may pass. */
	if (vcpu_do(s, 0, p->private ? OP_WRITE : OP_READ,
		    p->private ? shared_gva(page) : private_gva(page), 1, 0) != EFAULT ||
	    run->exit_reason != KVM_EXIT_MEMORY_FAULT ||
	    run->memory_fault.gpa != gpa_of(page) ||
	    run->memory_fault.flags != (p->private ? 0 : KVM_MEMORY_EXIT_FLAG_PRIVATE))
		return false;

	if (convert_pages(&s->g, page, 1, p->private ? SHARED : PRIVATE, mode, NULL))
		return false;
	walk_converted(w, i, !p->private, mode);
	if (vcpu_continue(s, 0))
		return false;

	if (!p->private)
		return !s->cmds[0]->vector && !s->cmds[0]->ret;
	if (p->contents == NO_MEMORY)
		p->contents = ANYTHING;
	return s->cmds[0]->vector == VC_VECTOR;
}

static bool walk_step(struct walk *w)
{
	u64 i = walk_random(w, WALK_NR);
	u64 nr = 1 + walk_random(w, min(4ul, WALK_NR - i)), j;

	switch (walk_random(w, 14)) {
	case 0 ... 3:
		walk_fill(w, i);
		return true;
	case 4 ... 5:
		return walk_convert(w, i, nr);
	case 6 ... 7:
		return walk_request(w, i, nr);
	case 8:
		return walk_refused(w, i, nr);
	case 9:
		return walk_pinned(w, i, nr);
	case 10:
		walk_hole(w, i, nr);
		return true;
	case 11 ... 12:
		return walk_pvalidate(w, i);
	case 13:
		switch (walk_random(w, 4)) {
		case 0:
			return walk_implicit(w, i);
		case 1:
			set_slot(w->s, TEST_SLOT, 0, 0, 0);
			set_slot(w->s, TEST_SLOT, 0, NR_PAGES, 0);
			return true;
		default:
			if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
				return true;
			if (pre_fault(w->s->vcpus[0], WALK_PAGE + i, nr))
				return false;
			for (j = i; j < i + nr; j++) {
				if (w->pages[j].contents == NO_MEMORY)
					w->pages[j].contents = w->pages[j].private ?
							       ANYTHING : ZEROS;
			}
			return true;
		}
	}
	return true;
}

TEST_F_TIMEOUT(guest, random_walk, 2 * SECONDS)
{
	struct walk w = {
		.s = &self->s,
		.rng = new_kvm_random_state(kvm_random_seed),
	};
	u64 i;

	TH_LOG("-s 0x%x", kvm_random_seed);
	for (w.nr_steps = 0; w.nr_steps < WALK_STEPS; w.nr_steps++) {
		ASSERT_TRUE(walk_step(&w)) {
			TH_LOG("step %lu, seed 0x%x", w.nr_steps, kvm_random_seed);
		}
		i = walk_random(&w, WALK_NR);
		ASSERT_TRUE(walk_check(&w, i)) {
			TH_LOG("page %lu after step %lu, seed 0x%x", i, w.nr_steps,
			       kvm_random_seed);
		}
	}
	for (i = 0; i < WALK_NR; i++) {
		ASSERT_TRUE(walk_check(&w, i)) {
			TH_LOG("page %lu, seed 0x%x", i, kvm_random_seed);
		}
	}
	ASSERT_GUEST_SEES(w.s, 0, NR_LAUNCHED, LAUNCH_SEED);
}

/* -s SEED repeats what is random.  The other arguments are those of the harness. */
int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SNP_VM));
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));

	if (argc > 2 && !strcmp(argv[1], "-s")) {
		kvm_random_seed = strtoul(argv[2], NULL, 0);
		argv[2] = argv[0];
		argc -= 2;
		argv += 2;
	}

	gmem_catch_sigbus();

	return test_harness_run(argc, argv);
}
