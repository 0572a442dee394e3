// SPDX-License-Identifier: GPL-2.0
/*
 * In an SNP guest: page validation, what its accesses meet, and how its instructions leave.
 */
#include <linux/mm.h>
#include <asm/cpuid/api.h>
#include <asm/msr.h>
#include <asm/svm.h>
#include "snp_rows.h"

#define NPF		0x400
#define NPF_P		BIT_ULL(0)
#define NPF_W		BIT_ULL(1)
#define NPF_U		BIT_ULL(2)
#define NPF_ID		BIT_ULL(4)
#define NPF_RMP		BIT_ULL(31)
#define NPF_FINAL	BIT_ULL(32)
#define NPF_TABLES	BIT_ULL(33)
#define NPF_ENC		BIT_ULL(34)
#define NPF_SIZEM	BIT_ULL(35)
#define NPF_VMPL	BIT_ULL(36)
/* A page that is there, by its final address. */
#define NPF_PAGE	(NPF_P | NPF_U | NPF_FINAL)

#define VC		29
#define VC_404		(BIT_ULL(63) | 0x404)	/* expected instead of a fault's bits */
#define OK		0

static struct vm vm;

static int init(void)
{
	return vm_create(&vm, KIND_SNP) ? 0 : -EIO;
}

static void done(void)
{
	vm_destroy(&vm);
}

static struct vmcb_control_area *control(int cpu)
{
	return &((struct vmcb *)page_va(vm.cpu[cpu].vmcb))->control;
}

/* Runs it on processor 0; with the exit or exception that has to be. */
static struct outcome op(int what, u64 rax, u64 rcx, u64 rdx, u64 rdi)
{
	return vm_op(&vm, 0, what, rax, rcx, rdx, rdi);
}

static void completed(struct outcome o)
{
	same("done", o.done, true);
	if (!same("exited", o.exited, false)) {
		same("exit", o.exit, 0);
		same("EXITINFO1", o.info1, 0);
		same("EXITINFO2", o.info2, 0);
	}
	same("vector", o.vector, -1);
}

static void raised(struct outcome o, s64 vector, u64 error)
{
	same("done", o.done, true);
	same("exited", o.exited, false);
	same("vector", o.vector, vector);
	same("error code", o.error, error);
}

static void npf(struct outcome o, u64 bits, u64 gpa)
{
	same("exit", o.exit, NPF);
	same("EXITINFO1", o.info1, bits);
	same("EXITINFO2", o.info2, gpa);
	same("done", o.done, true);
}

static void ends_as(struct outcome o, u64 want, u64 gpa, u64 va)
{
	if (want == OK) {
		completed(o);
	} else if (want == VC_404) {
		raised(o, VC, 0x404);
		same("CR2", o.cr2, va);
	} else {
		npf(o, want, gpa);
	}
}

static void announce_fault(u64 want)
{
	if (want == VC_404)
		announce("vc-404");
	else if (want & NPF_RMP)
		announce("npf-rmp");
}

/* ---- PVALIDATE, RMPADJUST ---- */

#define CF	BIT(0)

static struct outcome pvalidate(u64 gpa, u64 size, u64 validate)
{
	return op(OP_PVALIDATE, priv(gpa), size, validate, 0);
}

static bool valid_slot(u64 gpa)
{
	struct outcome o;

	if (!assign(vm_spa(gpa), vm.asid, gpa, false))
		return false;
	vm_npt(&vm, gpa, vm_spa(gpa) | NPT_RW);
	o = pvalidate(gpa, 0, 1);
	return same("PVALIDATE of a new page", o.rax & 0xffffffff, 0) && check(o.done);
}

static void drop_slot(u64 gpa)
{
	vm_npt(&vm, gpa, 0);
	check(page_reset(vm_spa(gpa)));
}

/* a: valid before, b: request, c: "no change" */
static void pval(const struct row *r)
{
	u64 gpa = GPA_SLOT;
	struct outcome o;

	if (r->a) {
		valid_slot(gpa);
	} else {
		assign(vm_spa(gpa), vm.asid, gpa, false);
		vm_npt(&vm, gpa, vm_spa(gpa) | NPT_RW);
	}
	o = pvalidate(gpa, 0, r->b);
	completed(o);
	same("EAX", o.rax & 0xffffffff, 0);
	same("CF", o.flags & CF, r->c ? CF : 0);
	same("entry", rmp_lo(vm_spa(gpa)), lo_entry(vm.asid, gpa, false) | (r->b ? LO_VALIDATED : 0));
	drop_slot(gpa);
}

/* a: rcx, b: offset of the address */
static void pval_input(const struct row *r)
{
	struct outcome o;

	valid_slot(GPA_SLOT);
	announce("pvalidate");
	o = op(OP_PVALIDATE, priv(GPA_SLOT) + r->b, r->a, 1, 0);
	completed(o);
	same("EAX", o.rax & 0xffffffff, 1);
	drop_slot(GPA_SLOT);
}

static void pval_flags(const struct row *r)
{
	struct outcome o;

	/* Success: ZF and PF as of zero, SF and OF clear. */
	valid_slot(GPA_SLOT);
	o = pvalidate(GPA_SLOT, 0, 0);
	same("ZF, PF, SF, OF", o.flags & 0x8c4, 0x44);
	drop_slot(GPA_SLOT);
}

enum slot {
	P_NONE, P_HV, P_FIRMWARE, P_OTHER_ASID, P_OTHER_GPA, P_IMMUTABLE, P_INVALID, P_VALID,
};

static void page_setup(enum slot p, u64 gpa)
{
	u64 pa = vm_spa(gpa);

	if (p == P_VALID) {
		valid_slot(gpa);
		return;
	}
	if (p == P_FIRMWARE)
		assign(pa, 0, 0, true);
	if (p == P_OTHER_ASID)
		assign(pa, ASID_OTHER, gpa, false);
	if (p == P_OTHER_GPA)
		assign(pa, vm.asid, gpa + PAGE_SIZE, false);
	if (p == P_IMMUTABLE)
		assign(pa, vm.asid, gpa, true);
	if (p == P_INVALID)
		assign(pa, vm.asid, gpa, false);
	vm_npt(&vm, gpa, p == P_NONE ? 0 : pa | NPT_RW);
}

/* a: page */
static void pval_fault(const struct row *r)
{
	u64 before;
	struct outcome o;

	page_setup(r->a, GPA_SLOT);
	before = rmp_lo(vm_spa(GPA_SLOT));
	if (r->a != P_NONE)
		announce("npf-rmp");
	o = pvalidate(GPA_SLOT, 0, 1);
	same("exit", o.exit, NPF);
	same("RMP, ENC, SIZEM, VMPL", o.info1 & (NPF_RMP | NPF_ENC | NPF_SIZEM | NPF_VMPL),
	     NPF_ENC | (r->a == P_NONE ? 0 : NPF_RMP));
	same("present", o.info1 & NPF_P, r->a == P_NONE ? 0 : NPF_P);
	same("EXITINFO2", o.info2, GPA_SLOT);
	same("entry", rmp_lo(vm_spa(GPA_SLOT)), before);
	drop_slot(GPA_SLOT);
}

/* a: RMP 2M, b: NPT 2M, c: asked 2M, d: EAX, or the #NPF's SIZEM bit */
static void pval_size(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .asid = vm.asid, .gpa = GPA_LARGE };
	struct outcome o;

	if (r->a)
		rmpupdate_raw(region.pa, a);
	else
		assign(region.pa, vm.asid, GPA_LARGE, false);
	vm_npt_large(&vm, r->b);
	if (r->d == NPF_SIZEM)
		announce("npf-rmp");
	else if (r->d)
		announce("pvalidate");
	o = pvalidate(GPA_LARGE, r->c, 1);
	if (r->d == NPF_SIZEM) {
		same("exit", o.exit, NPF);
		same("P, RMP, ENC, SIZEM", o.info1 & (NPF_P | NPF_RMP | NPF_ENC | NPF_SIZEM),
		     NPF_P | NPF_RMP | NPF_ENC | NPF_SIZEM);
		same("EXITINFO2", o.info2, GPA_LARGE);
	} else {
		completed(o);
		same("EAX", o.rax & 0xffffffff, r->d);
	}
	same("validated", !!(rmp_read(region.pa).lo & LO_VALIDATED), !r->d);
	vm_npt_large(&vm, false);
	check(block_reset(&region));
}

/* a: RMP 2M, b: NPT 2M, c: expected */
static void size_access(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .asid = vm.asid, .gpa = GPA_LARGE };
	struct outcome o;

	/* First validated with matching sizes. */
	if (r->a)
		rmpupdate_raw(region.pa, a);
	else
		assign(region.pa, vm.asid, GPA_LARGE, false);
	vm_npt_large(&vm, r->a);
	o = pvalidate(GPA_LARGE, r->a, 1);
	same("EAX of PVALIDATE", o.rax & 0xffffffff, 0);
	vm_npt_large(&vm, r->b);
	announce_fault(r->c);
	ends_as(op(OP_LOAD, 0, 0, 0, priv(GPA_LARGE) + 0x10), r->c, GPA_LARGE + 0x10, priv(GPA_LARGE) + 0x10);
	vm_npt_large(&vm, false);
	check(block_reset(&region));
}

static void smashed(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .asid = vm.asid, .gpa = GPA_LARGE };
	u64 va = priv(GPA_LARGE) + 5 * PAGE_SIZE + 8;
	struct outcome o;

	rmpupdate_raw(region.pa, a);
	vm_npt_large(&vm, true);
	o = pvalidate(GPA_LARGE, 1, 1);
	same("EAX of PVALIDATE", o.rax & 0xffffffff, 0);
	completed(op(OP_STORE, 0x1234, 0, 0, va));
	same("PSMASH", psmash_raw(region.pa), 0);
	vm_npt_large(&vm, false);
	o = op(OP_LOAD, 0, 0, 0, va);
	completed(o);
	same("value", o.rax, 0x1234);
	check(block_reset(&region));
}

static struct outcome rmpadjust(int cpu, u64 gpa, u64 size, u64 attributes)
{
	return vm_op(&vm, cpu, OP_RMPADJUST, priv(gpa), size, attributes, 0);
}

/* a: processor (= VMPL), b: attributes (vmpl, permissions, vmsa), c: EAX */
static void adjust(const struct row *r)
{
	u64 gpa = GPA_DATA + PAGE_SIZE, pa = vm_spa(gpa), before = rmp_read(pa).hi;
	int vmpl = r->b & 0xff;
	struct outcome o;

	if (r->a) {
		/* VMPL1 must be able to read and write. */
		rmpadjust(0, gpa, 0, 0x0301);
		before = rmp_read(pa).hi;
	}
	if (r->c)
		announce("rmpadjust");
	o = rmpadjust(r->a, gpa, 0, r->b);
	completed(o);
	same("EAX", o.rax & 0xffffffff, r->c);
	if (r->c)
		same("permissions", rmp_read(pa).hi, before);
	else
		same("permissions", rmp_read(pa).hi >> (8 * vmpl) & 0xff, r->b >> 8 & 0xff);
	same("VMSA", !!(rmp_read(pa).lo & LO_VMSA), !r->c && !r->a && r->b >> 16);
	/* Back: nothing for the others, no VMSA. */
	rmpadjust(0, gpa, 0, 0x0001);
	rmpadjust(0, gpa, 0, 0x0002);
	rmpadjust(0, gpa, 0, 0x0003);
	same("VMSA at the end", rmp_read(pa).lo & LO_VMSA, 0);
}

static void adjust_unvalidated(const struct row *r)
{
	page_setup(P_INVALID, GPA_SLOT);
	announce("vc-404");
	raised(rmpadjust(0, GPA_SLOT, 0, 0x0101), VC, 0x404);
	drop_slot(GPA_SLOT);
}

static void adjust_unassigned(const struct row *r)
{
	struct outcome o;

	page_setup(P_HV, GPA_SLOT);
	announce("npf-rmp");
	o = rmpadjust(0, GPA_SLOT, 0, 0x0101);
	same("exit", o.exit, NPF);
	same("RMP, ENC", o.info1 & (NPF_RMP | NPF_ENC), NPF_RMP | NPF_ENC);
	drop_slot(GPA_SLOT);
}

static void adjust_large_of_small(const struct row *r)
{
	struct outcome o;

	assign(region.pa, vm.asid, GPA_LARGE, false);
	pvalidate(GPA_LARGE, 0, 1);
	announce("rmpadjust");
	o = rmpadjust(0, GPA_LARGE, 1, 0x0101);
	completed(o);
	same("EAX", o.rax & 0xffffffff, 6);
	check(block_reset(&region));
}

static void adjust_small_of_large(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .asid = vm.asid, .gpa = GPA_LARGE };
	struct outcome o;

	rmpupdate_raw(region.pa, a);
	vm_npt_large(&vm, true);
	pvalidate(GPA_LARGE, 1, 1);
	announce("npf-rmp");
	o = rmpadjust(0, GPA_LARGE, 0, 0x0101);
	same("exit", o.exit, NPF);
	same("RMP, SIZEM", o.info1 & (NPF_RMP | NPF_SIZEM), NPF_RMP | NPF_SIZEM);
	vm_npt_large(&vm, false);
	check(block_reset(&region));
}

/* a: permissions for VMPL1, b: operation, c: expected */
static void vmpl(const struct row *r)
{
	u64 gpa = GPA_DATA + 2 * PAGE_SIZE, va = priv(gpa);

	completed(op(OP_STORE, 0xc3, 0, 0, va));
	if (r->a)
		completed(rmpadjust(0, gpa, 0, 1 | r->a << 8));
	announce_fault(r->c);
	ends_as(vm_op(&vm, 1, r->b, 0xc3, 0, 0, va), r->c, gpa, va);
	completed(rmpadjust(0, gpa, 0, 1));
}

/* rdx besides the VMPL: permissions, then the VMSA bit. a: processor (= VMPL), b: VMPL asked for, c: EAX, d: rdx */
static void rmpquery(const struct row *r)
{
	u64 gpa = GPA_DATA + 3 * PAGE_SIZE;
	struct outcome o;

	if (!(cpuid_eax(0x8000001f) & BIT(6))) {
		row_skip("the processor does not have RMPQUERY");
		return;
	}
	completed(rmpadjust(0, gpa, 0, 0x10301));
	completed(rmpadjust(0, gpa, 0, 0x10102));
	if (!(r->d >> 16))
		completed(rmpadjust(0, gpa, 0, 0x00003));
	if (r->c)
		announce("rmpquery");
	o = vm_op(&vm, r->a, OP_RMPQUERY, priv(gpa), 0x77, r->b, 0);
	completed(o);
	same("EAX", o.rax & 0xffffffff, r->c);
	same("RDX", o.rdx, r->c ? r->b : r->d);
	same("RCX", o.rcx, r->c ? 0x77 : 0);
	completed(rmpadjust(0, gpa, 0, 0x0001));
	completed(rmpadjust(0, gpa, 0, 0x0002));
	same("VMSA at the end", rmp_read(vm_spa(gpa)).lo & LO_VMSA, 0);
}

static void rmpquery_large(const struct row *r)
{
	struct rmpupdate_arg a = { .assigned = 1, .size = 1, .asid = vm.asid, .gpa = GPA_LARGE };
	struct outcome o;

	rmpupdate_raw(region.pa, a);
	vm_npt_large(&vm, true);
	pvalidate(GPA_LARGE, 1, 1);
	o = op(OP_RMPQUERY, priv(GPA_LARGE) + 5 * PAGE_SIZE, 0, 1, 0);
	completed(o);
	same("EAX", o.rax & 0xffffffff, 0);
	same("RDX", o.rdx, 1);
	same("RCX", o.rcx, 1);
	vm_npt_large(&vm, false);
	check(block_reset(&region));
}

/* a: page, b: expected */
static void rmpquery_fault(const struct row *r)
{
	struct outcome o;

	page_setup(r->a, GPA_SLOT);
	announce_fault(r->b);
	o = op(OP_RMPQUERY, priv(GPA_SLOT), 0, 1, 0);
	if (r->b == VC_404) {
		ends_as(o, r->b, GPA_SLOT, priv(GPA_SLOT));
	} else {
		same("exit", o.exit, NPF);
		same("RMP, ENC, SIZEM, VMPL", o.info1 & (NPF_RMP | NPF_ENC | NPF_SIZEM | NPF_VMPL), r->b);
		same("EXITINFO2", o.info2, GPA_SLOT);
	}
	drop_slot(GPA_SLOT);
}

/* ---- accesses ---- */

/* a: page, b: operation, c: private, d: expected */
static void access(const struct row *r)
{
	u64 gpa = GPA_SLOT + PAGE_SIZE, va = r->c ? priv(gpa) : shared(gpa);

	page_setup(r->a, gpa);
	if (r->a == P_VALID && r->b == OP_CALL)
		completed(op(OP_STORE, 0xc3, 0, 0, priv(gpa)));
	announce_fault(r->d);
	ends_as(op(r->b, 0xc3, 0, 0, va), r->d, gpa, va);
	drop_slot(gpa);
}

/* The page directory of TABLE_VA. a: page, b: RMP expected, or VC_404, or OK for an entry that isn't present */
static void table(const struct row *r)
{
	struct outcome o;

	page_setup(r->a, GPA_TABLE);
	if (r->a == P_VALID)
		completed(op(OP_STORE, 0, 0, 0, priv(GPA_TABLE)));
	announce_fault(r->b);
	o = op(OP_LOAD, 0, 0, 0, TABLE_VA);
	if (r->b == OK) {
		raised(o, 14, 0);
		same("CR2", o.cr2, TABLE_VA);
	} else if (r->b == VC_404) {
		raised(o, VC, 0x404);
		same("CR2", o.cr2, TABLE_VA);
	} else {
		same("exit", o.exit, NPF);
		same("RMP, FINAL, TABLES, ENC", o.info1 & (NPF_RMP | NPF_FINAL | NPF_TABLES | NPF_ENC),
		     NPF_RMP | NPF_TABLES | NPF_ENC);
		same("EXITINFO2", o.info2 & PAGE_MASK, GPA_TABLE);
	}
	drop_slot(GPA_TABLE);
}

/* The page directory is in plain text: what the guest walks is decrypted. */
static void table_is_private(const struct row *r)
{
	u64 gpa = GPA_TABLE;
	struct outcome o;

	assign(vm_spa(gpa), vm.asid, gpa, false);
	vm_npt(&vm, gpa, vm_spa(gpa) | NPT_RW);
	pvalidate(gpa, 0, 1);
	/* Written with the C-bit: the walk finds it, although nothing of the walk has a C-bit to say so. */
	completed(op(OP_STORE, 0x83 | BIT_ULL(51), 0, 0, priv(gpa)));
	o = op(OP_LOAD, 0, 0, 0, TABLE_VA + GPA_DATA);
	completed(o);
	same("value", o.rax, 0xd0d0d0d0d0d0d0d0ULL);
	drop_slot(gpa);
}

static void not_mapped(const struct row *r)
{
	u64 va = r->a ? priv(GPA_SLOT) : shared(GPA_SLOT);
	struct outcome o;

	vm_npt(&vm, GPA_SLOT, 0);
	o = op(OP_STORE, 0, 0, 0, va + 0x20);
	npf(o, NPF_W | NPF_U | NPF_FINAL | (r->a ? NPF_ENC : 0), GPA_SLOT + 0x20);
}

static void no_insn_bytes(const struct row *r)
{
	struct outcome o;

	vm_npt(&vm, GPA_SLOT, 0);
	o = op(OP_STORE, 0, 0, 0, priv(GPA_SLOT));
	same("exit", o.exit, NPF);
	same("number of bytes", o.insn_len, 0);
}

static void flushed(const struct row *r)
{
	u64 gpa = GPA_SLOT, bits = NPF_PAGE | NPF_RMP | NPF_ENC;

	valid_slot(gpa);
	completed(op(OP_LOAD, 0, 0, 0, priv(gpa)));
	unassign(vm_spa(gpa));
	announce("npf-rmp");
	npf(op(OP_LOAD, 0, 0, 0, priv(gpa)), bits, gpa);
	assign(vm_spa(gpa), vm.asid, gpa, false);
	announce("vc-404");
	raised(op(OP_LOAD, 0, 0, 0, priv(gpa)), VC, 0x404);
	drop_slot(gpa);
}

static void rescinded(const struct row *r)
{
	valid_slot(GPA_SLOT);
	completed(op(OP_LOAD, 0, 0, 0, priv(GPA_SLOT)));
	completed(pvalidate(GPA_SLOT, 0, 0));
	announce("vc-404");
	raised(op(OP_STORE, 0, 0, 0, priv(GPA_SLOT)), VC, 0x404);
	drop_slot(GPA_SLOT);
}

/* ---- contents ---- */

static void host_sees_ciphertext(const struct row *r)
{
	u64 gpa = GPA_DATA + 4 * PAGE_SIZE, *p = page_va(vm_spa(gpa)), first, second;

	completed(op(OP_STORE, 0x1111111111111111, 0, 0, priv(gpa)));
	first = READ_ONCE(*p);
	check(first != 0x1111111111111111);
	same("second look", READ_ONCE(*p), first);
	completed(op(OP_STORE, 0x2222222222222222, 0, 0, priv(gpa)));
	second = READ_ONCE(*p);
	check(second != first && second != 0x2222222222222222);
	completed(op(OP_STORE, 0x1111111111111111, 0, 0, priv(gpa)));
	same("the first text again", READ_ONCE(*p), first);
	same("the guest's view", op(OP_LOAD, 0, 0, 0, priv(gpa)).rax, 0x1111111111111111);
}

static void guest_reads_ciphertext(const struct row *r)
{
	u64 gpa = GPA_DATA + 5 * PAGE_SIZE, *p = page_va(vm_spa(gpa));
	struct outcome o = op(OP_LOAD, 0, 0, 0, shared(gpa));

	completed(o);
	same("value", o.rax, READ_ONCE(*p));
	check(o.rax != 0xd5d5d5d5d5d5d5d5ULL);
	same("with the C-bit", op(OP_LOAD, 0, 0, 0, priv(gpa)).rax, 0xd5d5d5d5d5d5d5d5ULL);
}

static void shared_page(const struct row *r)
{
	u64 *p = page_va(vm_spa(GPA_GHCB));

	WRITE_ONCE(*p, 0x123456789abcdef0);
	same("the guest reads", op(OP_LOAD, 0, 0, 0, shared(GPA_GHCB)).rax, 0x123456789abcdef0);
	completed(op(OP_STORE, 0x0fedcba987654321, 0, 0, shared(GPA_GHCB)));
	same("the host reads", READ_ONCE(*p), 0x0fedcba987654321);
}

/* Host's write while shared. a: 0 zeroes, 1 none; b: the guest finds its old text */
static void converted(const struct row *r)
{
	u64 gpa = GPA_SLOT, *p = page_va(vm_spa(gpa)), raw;
	struct outcome o;

	valid_slot(gpa);
	completed(op(OP_STORE, 0x3333333333333333, 0, 0, priv(gpa)));
	raw = READ_ONCE(*p);
	unassign(vm_spa(gpa));
	same("what the host finds", READ_ONCE(*p), raw);
	if (!r->a)
		memset(p, 0, PAGE_SIZE);
	assign(vm_spa(gpa), vm.asid, gpa, false);
	same("PVALIDATE", pvalidate(gpa, 0, 1).rax & 0xffffffff, 0);
	o = op(OP_LOAD, 0, 0, 0, priv(gpa));
	completed(o);
	if (r->b) {
		same("old text", o.rax, 0x3333333333333333);
	} else {
		check(o.rax != 0x3333333333333333);
		check(o.rax != 0);
	}
	drop_slot(gpa);
	memset(p, 0, PAGE_SIZE);
}

static void copied(const struct row *r)
{
	u64 from = GPA_DATA + 6 * PAGE_SIZE;
	u8 *p = page_va(vm_spa(GPA_GHCB));
	struct outcome o;

	/* From private to shared memory. */
	vm.mbox->rsi = priv(from);
	o = op(OP_COPY, 0, PAGE_SIZE, 0, shared(GPA_GHCB));
	completed(o);
	check(!memchr_inv(p, 0xd6, PAGE_SIZE));
	memset(p, 0x7e, PAGE_SIZE);
	vm.mbox->rsi = shared(GPA_GHCB);
	completed(op(OP_COPY, 0, PAGE_SIZE, 0, priv(from)));
	same("value", op(OP_LOAD, 0, 0, 0, priv(from) + 0x800).rax, 0x7e7e7e7e7e7e7e7eULL);
	check(memchr_inv(page_va(vm_spa(from)), 0x7e, PAGE_SIZE));
}

/* ---- exits ---- */

static void nothing(const struct row *r)
{
	int i;

	for (i = 0; i < 10; i++)
		completed(op(OP_NOP, 0, 0, 0, 0));
	same("last exit", control(0)->exit_code, 0x403);
}

static void guest_sev_status(const struct row *r)
{
	struct outcome o = op(OP_RDMSR, 0, 0xc0010131, 0, 0);

	completed(o);
	same("SEV, SEV-ES, SNP", o.rax & 0xffffffff, 7);
}

/* a: word of the intercepts, b: bits, c: operation, d: error code of the #VC */
static void nae(const struct row *r)
{
	u32 *word = &control(0)->intercepts[r->a], old = *word;

	*word |= r->b;
	raised(op(r->c, 0, 0, 0x80, 0), VC, r->d);
	*word = old;
}

static void nae_no_intercept(const struct row *r)
{
	u32 *word = &control(0)->intercepts[r->a], old = *word;

	*word &= ~r->b;
	raised(op(r->c, 0, 0, 0x80, 0), VC, r->d);
	*word = old;
}

/* a: word of the intercepts, b: bits, c: operation, d: exit code; the guest goes on behind the instruction */
static void automatic(const struct row *r)
{
	u32 *word = &control(0)->intercepts[r->a], old = *word;
	struct outcome o;

	*word |= r->b;
	o = op(r->c, 0, 0, 0, 0);
	same("exit", o.exit, r->d);
	same("done", o.done, true);
	same("vector", o.vector, -1);
	*word = old;
}

static void cr4_trap(const struct row *r)
{
	u32 *word = &control(0)->intercepts[INTERCEPT_WORD4], old = *word;
	u64 cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	struct outcome o;

	*word |= BIT(TRAP_CR4_WRITE - 128);
	o = op(OP_CR4, cr4 | X86_CR4_DE, 0, 0, 0);
	same("exit", o.exit, 0x94);
	same("EXITINFO1", o.info1, cr4 | X86_CR4_DE);
	same("done", o.done, true);
	same("vector", o.vector, -1);
	*word = old;
	completed(op(OP_CR4, cr4, 0, 0, 0));
}

static void efer_trap(const struct row *r)
{
	u32 *word = &control(0)->intercepts[INTERCEPT_WORD4], old = *word;
	u32 efer = EFER_SVME | EFER_NX | EFER_LMA | EFER_LME;
	struct outcome o;

	*word |= BIT(TRAP_EFER_WRITE - 128);
	o = op(OP_WRMSR, efer, MSR_EFER, 0, 0);
	same("exit", o.exit, 0x8f);
	same("EXITINFO1", o.info1, efer);
	same("done", o.done, true);
	same("vector", o.vector, -1);
	*word = old;
	completed(op(OP_WRMSR, efer | EFER_SCE, MSR_EFER, 0, 0));
}

static void efer_svme(const struct row *r)
{
	u32 efer = EFER_NX | EFER_LMA | EFER_LME | EFER_SCE;

	completed(op(OP_WRMSR, efer, MSR_EFER, 0, 0));
	same("EFER", op(OP_RDMSR, 0, MSR_EFER, 0, 0).rax & 0xffffffff, efer | EFER_SVME);
}

static void ghcb_msr_out(const struct row *r)
{
	completed(op(OP_WRMSR, 0x1234002, 0xc0010130, 0x5, 0));
	same("VMCB", control(0)->ghcb_gpa, 0x501234002);
}

static void ghcb_msr_in(const struct row *r)
{
	struct outcome o;

	control(0)->ghcb_gpa = 0x300004711;
	o = op(OP_RDMSR, 0, 0xc0010130, 0, 0);
	completed(o);
	same("low half", o.rax & 0xffffffff, 0x4711);
	same("high half", o.rdx & 0xffffffff, 3);
}

/* All MSRs intercepted. a: MSR, b: error code of the #VC, 0: none */
static void msr(const struct row *r)
{
	struct vmcb_control_area *c = control(0);
	u32 old = c->intercepts[INTERCEPT_WORD3];
	struct outcome o;

	/* The map has two pages. */
	memset(region.va, 0xff, 2 * PAGE_SIZE);
	c->msrpm_base_pa = region.pa;
	c->intercepts[INTERCEPT_WORD3] |= BIT(INTERCEPT_MSR_PROT - 96);
	o = op(OP_RDMSR, 0, r->a, 0, 0);
	if (r->b)
		raised(o, VC, r->b);
	else
		completed(o);
	c->intercepts[INTERCEPT_WORD3] = old;
	memset(region.va, 0, 2 * PAGE_SIZE);
}

static void mmio(const struct row *r)
{
	struct outcome o = op(OP_LOAD, 0, 0, 0, shared(GPA_MMIO));

	raised(o, VC, 0x400);
}

static void interrupt_flag(const struct row *r)
{
	struct outcome o;

	op(OP_NOP, 0, 0, 0, 0);
	same("int_state with IF clear", control(0)->int_state & 2, 0);
	/* The first exit is the one within. */
	vm.mbox->op = OP_STI;
	vm.mbox->flags = 2;
	check(vm_enter(&vm, 0));
	same("exit", control(0)->exit_code, 0x403);
	same("int_state with IF set", control(0)->int_state & 2, 2);
	o = op(OP_NOP, 0, 0, 0, 0);
	same("done", o.done, true);
}

static void vmsa_fields(const struct row *r)
{
	struct sev_es_save_area *s = page_va(spare.pa);

	op(OP_NOP, 0, 0, 0, 0);
	guest_peek(&vm.snp, vm.cpu[0].vmsa, s);
	same("GUEST_EXIT_CODE", s->guest_exit_code, 0x403);
	check(s->rip > CODE_VA && s->rip < CODE_VA + 2 * PAGE_SIZE);
	same("R15", s->r15, MBOX_VA);
	same("SEV_FEATURES", s->sev_features, 1);
	vm_npt(&vm, GPA_SLOT, 0);
}

static void vmsa_encrypted(const struct row *r)
{
	struct sev_es_save_area *raw = page_va(vm.cpu[0].vmsa);
	u64 before = READ_ONCE(raw->rip);

	check(before < CODE_VA || before >= CODE_VA + 2 * PAGE_SIZE);
	check(READ_ONCE(raw->r15) != MBOX_VA);
}

/* What a VMCB shows of an SNP guest: nothing. */
static void vmcb_hidden(const struct row *r)
{
	struct vmcb *v = page_va(vm.cpu[0].vmcb);

	v->save.rip = 0x1111;
	v->save.rax = 0x2222;
	v->save.cr3 = 0x3333;
	completed(op(OP_NOP, 0x4444, 0, 0, 0));
	same("RIP", v->save.rip, 0x1111);
	same("RAX", v->save.rax, 0x2222);
	same("CR3", v->save.cr3, 0x3333);
}

/* a: EVENTINJ */
static void bad_injection(const struct row *r)
{
	control(0)->event_inj = r->a;
	announce("vmrun");
	check(vm_enter(&vm, 0));
	same("exit", (s64)control(0)->exit_code, -1);
	control(0)->event_inj = 0;
	completed(op(OP_NOP, 0, 0, 0, 0));
}

static void good_injection(const struct row *r)
{
	struct outcome o;

	/* #GP before the first instruction: the operation isn't begun. */
	vm_npt(&vm, GPA_SLOT, 0);
	o = op(OP_LOAD, 0, 0, 0, priv(GPA_SLOT));
	same("vector", o.vector, 13);
	same("error code", o.error, 0xdead);
}

static void ud2(const struct row *r)
{
	raised(op(OP_UD2, 0, 0, 0, 0), 6, 0);
}

/* a: operation */
static void host_insn(const struct row *r)
{
	u64 before = rmp_read(vm_spa(GPA_DATA)).lo;
	struct outcome o;

	announce(r->a == OP_PSMASH ? "psmash" : "rmpupdate");
	o = op(r->a, vm_spa(GPA_DATA), priv(GPA_DATA), 0, 0);
	completed(o);
	same("EAX", o.rax & 0xffffffff, 2);
	same("entry", rmp_read(vm_spa(GPA_DATA)).lo, before);
}

static void compat_pvalidate(const struct row *r)
{
	struct outcome o;

	assign(vm_spa(GPA_SLOT), vm.asid, GPA_SLOT, false);
	vm_npt(&vm, GPA_SLOT, vm_spa(GPA_SLOT) | NPT_RW);
	o = op(OP_COMPAT_PVAL, GPA_SLOT, 0, 1, 0);
	completed(o);
	same("EAX", o.rax & 0xffffffff, 0);
	same("validated", rmp_read(vm_spa(GPA_SLOT)).lo & LO_VALIDATED, LO_VALIDATED);
	drop_slot(GPA_SLOT);
}

static void compat_rmpquery(const struct row *r)
{
	raised(op(OP_COMPAT_QUERY, GPA_DATA, 0, 1, 0), 6, 0);
}

static void compat_rmpupdate(const struct row *r)
{
	raised(op(OP_COMPAT_UPD, 0, GPA_DATA, 0, 0), 6, 0);
}

static void cr3_cbit(const struct row *r)
{
	struct outcome o = op(OP_CR3, 0, 0, 0, 0);

	completed(o);
	same("CR3", o.rax, GPA_PML4);
}

#define T39	"APM table 15-39"
#define T33	"APM table 15-33"
#define ENCRMP	(NPF_RMP | NPF_ENC)

static const struct row rows[] = {
	{ "snp.runs", "APM 15.36.12", nothing },

	{ "pvalidate.validate", "MS pvalidate; APM 15.36.6", pval, 0, 1, 0 },
	{ "pvalidate.validate_again", "MS pvalidate", pval, 1, 1, 1 },
	{ "pvalidate.rescind", "MS pvalidate; APM 15.36.6", pval, 1, 0, 0 },
	{ "pvalidate.rescind_again", "MS pvalidate", pval, 0, 0, 1 },
	{ "pvalidate.flags", "MS pvalidate", pval_flags },
	{ "pvalidate.large_unaligned", "MS pvalidate", pval_input, 1, 0 },
	{ "pvalidate.not_mapped", "APM table 15-39", pval_fault, P_NONE },
	{ "pvalidate.hypervisor", "APM table 15-40", pval_fault, P_HV },
	{ "pvalidate.firmware", "APM table 15-40", pval_fault, P_FIRMWARE },
	{ "pvalidate.other_asid", "APM table 15-40", pval_fault, P_OTHER_ASID },
	{ "pvalidate.other_gpa", "APM table 15-40", pval_fault, P_OTHER_GPA },
	{ "pvalidate.immutable", "APM table 15-40", pval_fault, P_IMMUTABLE },
	{ "pvalidate.size_2m_2m_2m", "APM table 15-40", pval_size, 1, 1, 1, 0 },
	{ "pvalidate.size_2m_2m_4k", "APM table 15-40", pval_size, 1, 1, 0, NPF_SIZEM },
	{ "pvalidate.size_4k_4k_2m", "APM table 15-40", pval_size, 0, 0, 1, 6 },
	{ "pvalidate.size_4k_2m_4k", "APM 15.36.6", pval_size, 0, 1, 0, NPF_SIZEM },
	{ "pvalidate.size_2m_4k_2m", "APM 15.36.6", pval_size, 1, 0, 1, 6 },
	{ "pvalidate.compatibility_mode", "LLVM D141458", compat_pvalidate },

	{ "rmpadjust.read", "MS rmpadjust; APM 15.36.7", adjust, 0, 0x0101, 0 },
	{ "rmpadjust.all", "MS rmpadjust; APM 15.36.7", adjust, 0, 0x0f02, 0 },
	{ "rmpadjust.vmpl3", "MS rmpadjust; APM 15.36.7", adjust, 0, 0x0303, 0 },
	{ "rmpadjust.vmsa", "MS rmpadjust; APM 15.36.7", adjust, 0, 0x10001, 0 },
	{ "rmpadjust.own_vmpl", "MS rmpadjust", adjust, 0, 0x0f00, 2 },
	{ "rmpadjust.write_only", "APM 15.36.7", adjust, 0, 0x0201, 1 },
	{ "rmpadjust.vmpl1_to_vmpl1", "MS rmpadjust", adjust, 1, 0x0101, 2 },
	{ "rmpadjust.vmpl1_to_vmpl0", "MS rmpadjust", adjust, 1, 0x0100, 2 },
	{ "rmpadjust.vmpl1_to_vmpl2", "MS rmpadjust", adjust, 1, 0x0302, 0 },
	{ "rmpadjust.vmpl1_more_than_own", "MS rmpadjust", adjust, 1, 0x0f02, 2 },
	{ "rmpadjust.vmpl1_vmsa_ignored", "MS rmpadjust", adjust, 1, 0x10102, 0 },
	{ "rmpadjust.not_validated", "APM 15.36.7", adjust_unvalidated },
	{ "rmpadjust.hypervisor", "APM 15.36.7", adjust_unassigned },
	{ "rmpadjust.size_4k_2m", "MS rmpadjust", adjust_large_of_small },
	{ "rmpadjust.size_2m_4k", "MS rmpadjust; APM 15.36.10", adjust_small_of_large },
	{ "rmpquery.permissions", "MS rmpquery", rmpquery, 0, 1, 0, 0x0301 },
	{ "rmpquery.another_vmpl", "MS rmpquery", rmpquery, 0, 2, 0, 0x0102 },
	{ "rmpquery.nothing", "MS rmpquery", rmpquery, 0, 3, 0, 0x0003 },
	{ "rmpquery.vmsa", "MS rmpquery", rmpquery, 0, 1, 0, 0x10301 },
	{ "rmpquery.vmpl1_asks_vmpl2", "MS rmpquery", rmpquery, 1, 2, 0, 0x0102 },
	{ "rmpquery.own_vmpl", "assumed, as MS rmpadjust", rmpquery, 0, 0, 2 },
	{ "rmpquery.vmpl1_asks_vmpl1", "assumed, as MS rmpadjust", rmpquery, 1, 1, 2 },
	{ "rmpquery.vmpl1_asks_vmpl0", "assumed, as MS rmpadjust", rmpquery, 1, 0, 2 },
	{ "rmpquery.no_such_vmpl", "assumed, in no public text", rmpquery, 0, 4, 2 },
	{ "rmpquery.size_2m", "MS rmpquery", rmpquery_large },
	{ "rmpquery.not_validated", "project-oak rmpquery()", rmpquery_fault, P_INVALID, VC_404 },
	{ "rmpquery.hypervisor", "APM table 15-39", rmpquery_fault, P_HV, NPF_RMP | NPF_ENC },
	{ "rmpquery.other_asid", "APM table 15-39", rmpquery_fault, P_OTHER_ASID, NPF_RMP | NPF_ENC },
	{ "rmpquery.other_gpa", "APM table 15-39", rmpquery_fault, P_OTHER_GPA, NPF_RMP | NPF_ENC },
	{ "rmpquery.immutable", "APM table 15-39", rmpquery_fault, P_IMMUTABLE, NPF_RMP | NPF_ENC },
	{ "rmpquery.not_mapped", "APM table 15-39", rmpquery_fault, P_NONE, NPF_ENC },
	{ "rmpquery.compatibility_mode", "LLVM RMPQUERY", compat_rmpquery },

	{ "vmpl.read_none", T39, vmpl, 0, OP_LOAD, NPF_PAGE | ENCRMP | NPF_VMPL },
	{ "vmpl.write_none", T39, vmpl, 0, OP_STORE, NPF_PAGE | NPF_W | ENCRMP | NPF_VMPL },
	{ "vmpl.read_read", T39, vmpl, 1, OP_LOAD, OK },
	{ "vmpl.write_read", T39, vmpl, 1, OP_STORE, NPF_PAGE | NPF_W | ENCRMP | NPF_VMPL },
	{ "vmpl.write_write", T39, vmpl, 3, OP_STORE, OK },
	{ "vmpl.fetch_write", T39, vmpl, 3, OP_CALL, NPF_PAGE | NPF_ID | ENCRMP | NPF_VMPL },
	{ "vmpl.fetch_user_only", T39, vmpl, 7, OP_CALL, NPF_PAGE | NPF_ID | ENCRMP | NPF_VMPL },
	{ "vmpl.fetch_supervisor", T39, vmpl, 0xb, OP_CALL, OK },

	{ "snp.read_hypervisor", T39, access, P_HV, OP_LOAD, 1, NPF_PAGE | ENCRMP },
	{ "snp.write_hypervisor", T39, access, P_HV, OP_STORE, 1, NPF_PAGE | NPF_W | ENCRMP },
	{ "snp.fetch_hypervisor", T39, access, P_HV, OP_CALL, 1, NPF_PAGE | NPF_ID | ENCRMP },
	{ "snp.read_firmware", T39, access, P_FIRMWARE, OP_LOAD, 1, NPF_PAGE | ENCRMP },
	{ "snp.read_other_asid", T39, access, P_OTHER_ASID, OP_LOAD, 1, NPF_PAGE | ENCRMP },
	{ "snp.write_other_asid", T39, access, P_OTHER_ASID, OP_STORE, 1, NPF_PAGE | NPF_W | ENCRMP },
	{ "snp.read_other_gpa", T39, access, P_OTHER_GPA, OP_LOAD, 1, NPF_PAGE | ENCRMP },
	{ "snp.read_immutable", T39, access, P_IMMUTABLE, OP_LOAD, 1, NPF_PAGE | ENCRMP },
	{ "snp.read_not_validated", T39, access, P_INVALID, OP_LOAD, 1, VC_404 },
	{ "snp.write_not_validated", T39, access, P_INVALID, OP_STORE, 1, VC_404 },
	{ "snp.fetch_not_validated", T39, access, P_INVALID, OP_CALL, 1, VC_404 },
	{ "snp.read_valid", T39, access, P_VALID, OP_LOAD, 1, OK },
	{ "snp.write_valid", T39, access, P_VALID, OP_STORE, 1, OK },
	{ "snp.fetch_valid", T39, access, P_VALID, OP_CALL, 1, OK },
	{ "snp.read_shared_hypervisor", T39, access, P_HV, OP_LOAD, 0, OK },
	{ "snp.write_shared_hypervisor", T39, access, P_HV, OP_STORE, 0, OK },
	{ "snp.fetch_shared_hypervisor", "APM 15.34.5", access, P_HV, OP_CALL, 0, NPF_PAGE | NPF_ID | ENCRMP },
	{ "snp.read_shared_valid", T39, access, P_VALID, OP_LOAD, 0, OK },
	{ "snp.write_shared_valid", T39, access, P_VALID, OP_STORE, 0, NPF_PAGE | NPF_W | NPF_RMP },
	{ "snp.write_shared_not_validated", T39, access, P_INVALID, OP_STORE, 0, NPF_PAGE | NPF_W | NPF_RMP },
	{ "snp.write_shared_firmware", T39, access, P_FIRMWARE, OP_STORE, 0, NPF_PAGE | NPF_W | NPF_RMP },
	{ "snp.write_shared_other_asid", T39, access, P_OTHER_ASID, OP_STORE, 0, NPF_PAGE | NPF_W | NPF_RMP },
	{ "snp.fetch_shared_valid", "APM 15.34.5", access, P_VALID, OP_CALL, 0, OK },
	{ "snp.not_mapped_private", "APM 15.36.10", not_mapped, 1 },
	{ "snp.not_mapped_shared", "APM 15.36.10", not_mapped, 0 },
	{ "snp.table_hypervisor", T39, table, P_HV, NPF_RMP },
	{ "snp.table_other_gpa", T39, table, P_OTHER_GPA, NPF_RMP },
	{ "snp.table_not_validated", T39, table, P_INVALID, VC_404 },
	{ "snp.table_valid", T39, table, P_VALID, OK },
	{ "snp.table_is_private", "APM 15.34.5", table_is_private },
	{ "snp.size_2m_2m", T39, size_access, 1, 1, OK },
	{ "snp.size_2m_4k", "APM 15.36.10", size_access, 1, 0, NPF_PAGE | ENCRMP },
	{ "snp.size_4k_2m", "APM 15.36.10", size_access, 0, 1, NPF_PAGE | ENCRMP },
	{ "snp.size_after_psmash", "APM 15.36.11", smashed },
	{ "snp.tlb_after_rmpupdate", "MIT 1721.1/164204", flushed },
	{ "snp.tlb_after_rescind", "APM 15.36.6", rescinded },

	{ "contents.host_sees_ciphertext", "APM 15.34.1; MIT 1721.1/164204", host_sees_ciphertext },
	{ "contents.guest_reads_ciphertext", T39, guest_reads_ciphertext },
	{ "contents.shared_page", "APM 15.34.1", shared_page },
	{ "contents.copied_between", "APM 15.34.1", copied },
	{ "contents.converted_and_zeroed", "MIT 1721.1/164204", converted, 0, 0 },
	{ "contents.converted_untouched", "MIT 1721.1/164204", converted, 1, 1 },

	{ "exit.cpuid", T33, nae, INTERCEPT_WORD3, BIT(INTERCEPT_CPUID - 96), OP_CPUID, 0x72 },
	{ "exit.cpuid_not_intercepted", "APM 15.36.12", nae_no_intercept, INTERCEPT_WORD3,
	  BIT(INTERCEPT_CPUID - 96), OP_CPUID, 0x72 },
	{ "exit.in_not_intercepted", "APM 15.36.12", nae_no_intercept, INTERCEPT_WORD3,
	  BIT(INTERCEPT_IOIO_PROT - 96), OP_IN, 0x7b },
	{ "exit.out_not_intercepted", "APM 15.36.12", nae_no_intercept, INTERCEPT_WORD3,
	  BIT(INTERCEPT_IOIO_PROT - 96), OP_OUT, 0x7b },
	{ "exit.rdtsc", T33, nae, INTERCEPT_WORD3, BIT(INTERCEPT_RDTSC - 96), OP_RDTSC, 0x6e },
	{ "exit.invd", T33, nae, INTERCEPT_WORD3, BIT(INTERCEPT_INVD - 96), OP_INVD, 0x76 },
	{ "exit.wbinvd", T33, nae, INTERCEPT_WORD4, BIT(INTERCEPT_WBINVD - 128), OP_WBINVD, 0x89 },
	{ "exit.vmmcall", T33, nae, INTERCEPT_WORD4, BIT(INTERCEPT_VMMCALL - 128), OP_VMMCALL, 0x81 },
	{ "exit.dr7_read", T33, nae, INTERCEPT_DR, BIT(7), OP_DR7, 0x27 },
	{ "exit.rdmsr", T33, msr, MSR_STAR, 0x7c },
	{ "exit.sev_status_not_intercepted", "APM 15.34.10", msr, 0xc0010131, 0 },
	{ "exit.mmio", T33, mmio },
	{ "exit.hlt", T33, automatic, INTERCEPT_WORD3, BIT(INTERCEPT_HLT - 96), OP_HLT, 0x78 },
	{ "exit.pause", T33, automatic, INTERCEPT_WORD3, BIT(INTERCEPT_PAUSE - 96), OP_PAUSE, 0x77 },
	{ "exit.vmgexit", T33, automatic, INTERCEPT_WORD3, 0, OP_VMGEXIT, 0x403 },
	{ "exit.cr4_write_trap", T33 "; APM 15.36.9", cr4_trap },
	{ "exit.efer_write_trap", T33 "; APM 15.36.9", efer_trap },
	{ "exit.no_instruction_bytes", "APM 15.35", no_insn_bytes },
	{ "exit.interrupt_flag", "APM 15.35", interrupt_flag },
	{ "exit.vmsa_fields", "APM 15.36.9", vmsa_fields },
	{ "exit.vmsa_encrypted", "APM 15.35", vmsa_encrypted },
	{ "exit.vmcb_hidden", "APM 15.35", vmcb_hidden },

	{ "snp.sev_status", "APM 15.34.10", guest_sev_status },
	{ "snp.efer_svme_ignored", "APM 15.35.8", efer_svme },
	{ "snp.ghcb_msr_to_vmcb", "APM 15.35.7", ghcb_msr_out },
	{ "snp.ghcb_msr_from_vmcb", "APM 15.35.7", ghcb_msr_in },
	{ "snp.inject_exception", "APM 15.35.8", good_injection },
	{ "snp.inject_vector_3", "APM 15.35.8", bad_injection, 3 | 3 << 8 | BIT(31) },
	{ "snp.inject_vector_4", "APM 15.35.8", bad_injection, 4 | 3 << 8 | BIT(31) },
	{ "snp.inject_soft_interrupt", "APM 15.35.8", bad_injection, 0x80 | 4 << 8 | BIT(31) },
	{ "snp.undefined_opcode", T33, ud2 },
	{ "snp.cr3_reload", "APM 15.34.4", cr3_cbit },
	{ "snp.rmpupdate_in_guest", "MS rmpupdate", host_insn, OP_RMPUPDATE },
	{ "snp.psmash_in_guest", "MS psmash", host_insn, OP_PSMASH },
	{ "snp.rmpupdate_compatibility_mode", "MS rmpupdate", compat_rmpupdate },
};

const struct group group_guest = { "snp guest", rows, ARRAY_SIZE(rows), init, done };
