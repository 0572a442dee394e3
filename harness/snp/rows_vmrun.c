// SPDX-License-Identifier: GPL-2.0
/*
 * What VMRUN checks, and guests of the other kinds.
 */
#include <linux/mm.h>
#include <linux/workqueue.h>
#include <asm/svm.h>
#include "snp_rows.h"

#define NPF		0x400
#define NPF_RMP		BIT_ULL(31)
#define NPF_TABLES	BIT_ULL(33)
#define NPF_DATA_WRITE	(BIT_ULL(0) | BIT_ULL(1) | BIT_ULL(2) | BIT_ULL(32) | NPF_RMP)
#define NPF_RSVD	BIT_ULL(3)

static struct vm vm;

static bool need(enum kind kind)
{
	if (vm.ncr3 && vm.kind == kind)
		return true;
	vm_destroy(&vm);
	return vm_create(&vm, kind);
}

static void done(void)
{
	vm_destroy(&vm);
}

static struct vmcb_control_area *control(void)
{
	return &((struct vmcb *)page_va(vm.cpu[0].vmcb))->control;
}

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

/* ---- VMRUN ---- */

/* VMRUN fails as for any guest, SNP or not, which isn't in the log. */
static void invalid_svm(void)
{
	check(vm_enter(&vm, 0));
	same("exit", (s64)control()->exit_code, -1);
}

static void invalid(void)
{
	announce("vmrun");
	invalid_svm();
}

static void runs_again(void)
{
	completed(op(OP_NOP, 0, 0, 0, 0));
}

/* a: state of the VMCB's page */
static void vmcb_state(const struct row *r)
{
	if (!need(KIND_SNP))
		return;
	assign(vm.cpu[0].vmcb, r->a == ST_FIRMWARE ? 0 : vm.asid, 0, r->a == ST_FIRMWARE);
	announce("vmrun");
	check(!vm_enter(&vm, 0));
	same("vector", host_mbox->vector, 13);
	same("error code", host_mbox->error, 0);
	page_reset(vm.cpu[0].vmcb);
	runs_again();
}

static void no_hsave(const struct row *r)
{
	if (!need(KIND_SNP))
		return;
	vm_no_hsave = true;
	announce("vmrun");
	check(!vm_enter(&vm, 0));
	same("vector", host_mbox->vector, 13);
	vm_no_hsave = false;
	runs_again();
}

enum vmsa { NOT_ASSIGNED, OTHER_ASID, NO_VMSA, IMMUTABLE, IS_FIRMWARE };

/* a: what is wrong with the VMSA */
static void vmsa_state(const struct row *r)
{
	u64 pa = vm.cpu[1].vmsa;

	if (!need(KIND_SNP))
		return;
	pa = vm.cpu[1].vmsa;
	switch (r->a) {
	case NOT_ASSIGNED:
		unassign(pa);
		break;
	case OTHER_ASID:
		assign(pa, ASID_OTHER, 0xfffffffff000ULL, false);
		break;
	case NO_VMSA:
		pa = vm_spa(GPA_DATA);
		break;
	case IMMUTABLE:
		assign(pa, vm.asid, 0xfffffffff000ULL, true);
		break;
	case IS_FIRMWARE:
		unassign(pa);
		assign(pa, 0, 0, true);
		break;
	}
	control()->vmsa_pa = pa;
	invalid();
	control()->vmsa_pa = vm.cpu[0].vmsa;
	runs_again();
	/* That VMSA is spoilt. */
	vm_destroy(&vm);
}

enum field { NP_OFF, ASID_ZERO, ASID_HIGH, ASID_ANOTHER };

static void vmcb_field(const struct row *r)
{
	struct vmcb_control_area saved;

	if (!need(KIND_SNP))
		return;
	saved = *control();
	switch (r->a) {
	case NP_OFF:
		control()->misc_ctl &= ~SVM_MISC_ENABLE_NP;
		break;
	case ASID_ZERO:
		control()->asid = 0;
		break;
	case ASID_HIGH:
		control()->asid = MAX_ASID + 1;
		break;
	case ASID_ANOTHER:
		control()->asid = ASID_OTHER;
		break;
	}
	if (r->a == ASID_ZERO)
		invalid_svm();
	else
		invalid();
	*control() = saved;
	runs_again();
}

static void not_finished(const struct row *r)
{
	vm_destroy(&vm);
	vm_unfinished = true;
	if (vm_create(&vm, KIND_SNP))
		invalid();
	vm_unfinished = false;
	if (check(sguest_finish(&vm.snp)))
		runs_again();
	vm_destroy(&vm);
}

static void decommissioned(const struct row *r)
{
	if (!need(KIND_SNP))
		return;
	runs_again();
	same("SNP_DECOMMISSION", snp_decommission(vm.snp.gctx), 0);
	invalid();
	page_free(vm.snp.gctx);
	vm.snp.gctx = 0;
	vm_destroy(&vm);
	df_flush();
}

static void injection_modes(const struct row *r)
{
	vm_destroy(&vm);
	vm_features = SVM_SEV_FEAT_RESTRICTED_INJECTION | SVM_SEV_FEAT_ALTERNATE_INJECTION;
	if (vm_create(&vm, KIND_SNP))
		invalid();
	vm_features = 0;
	vm_destroy(&vm);
}

/* ---- in use ---- */

struct runner {
	struct work_struct work;
	struct outcome o;
};

static void run_spin(struct work_struct *work)
{
	struct runner *r = container_of(work, struct runner, work);

	r->o = op(OP_SPIN, 0, 0, 0, 0);
}

/* Not by host_op(), whose mailbox the other processor uses. */
static u32 rmpupdate_inline(u64 spa, struct rmpupdate_arg *a)
{
	u64 rax = spa;

	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xfe" : "+a" (rax) : "c" (a) : "memory", "cc");
	return rax;
}

/* a: 0 VMCB, 1 VMSA, 2 another page of the guest's */
static void in_use(const struct row *r)
{
	struct rmpupdate_arg a = {};
	struct runner w = {};
	u64 pa, ticks;
	u32 status;
	int cpu, i;

	if (!need(KIND_SNP))
		return;
	pa = r->a == 0 ? vm.cpu[0].vmcb : r->a == 1 ? vm.cpu[0].vmsa : vm_spa(GPA_DATA + 5 * PAGE_SIZE);
	runs_again();
	migrate_disable();
	cpu = cpumask_any_but(cpu_online_mask, smp_processor_id());
	if (cpu >= nr_cpu_ids) {
		row_skip("one processor");
		migrate_enable();
		return;
	}
	vm.mbox->stop = 0;
	ticks = READ_ONCE(vm.mbox->ticks);
	INIT_WORK_ONSTACK(&w.work, run_spin);
	schedule_work_on(cpu, &w.work);
	for (i = 0; i < 10000000 && READ_ONCE(vm.mbox->ticks) == ticks; i++)
		cpu_relax();
	check(READ_ONCE(vm.mbox->ticks) != ticks);
	if (r->b)
		announce("rmpupdate spa %llx rmp", pa);
	if (!r->a)
		a = (struct rmpupdate_arg){ .assigned = 1, .asid = vm.asid };
	status = rmpupdate_inline(pa, &a);
	WRITE_ONCE(vm.mbox->stop, 1);
	flush_work(&w.work);
	destroy_work_on_stack(&w.work);
	migrate_enable();
	same("status", status, r->b);
	completed(w.o);
	if (r->b)
		runs_again();
	/* Not running any more: not in use. */
	same("status at the end", rmpupdate_raw(pa, a), 0);
	vm_destroy(&vm);
}

/* ---- guests without SNP ---- */

/* a: kind */
static void runs(const struct row *r)
{
	if (!need(r->a))
		return;
	runs_again();
	same("exit", control()->exit_code, r->a == KIND_PLAIN || r->a == KIND_SEV ? 0x81 : 0x403);
	runs_again();
}

/* a: kind, b: operation, c: state (ST_FIRMWARE or ST_INVALID), d: faults */
static void access(const struct row *r)
{
	u64 gpa = GPA_SLOT, pa;
	struct outcome o;

	if (!need(r->a))
		return;
	pa = vm_spa(gpa);
	*(u8 *)page_va(pa) = 0xc3;
	if (r->c != ST_HV)
		assign(pa, r->c == ST_FIRMWARE ? 0 : ASID_LAUNCH, r->c == ST_FIRMWARE ? 0 : gpa, r->c == ST_FIRMWARE);
	vm_npt(&vm, gpa, pa | NPT_RW);
	if (r->d)
		announce("npf-rmp");
	/* Fetches of a SEV guest are decrypted: no instruction of the host's makes sense there. */
	o = op(r->b, 0xc3, 0, 0, shared(gpa));
	if (r->d) {
		same("exit", o.exit, NPF);
		same("EXITINFO1", o.info1, NPF_DATA_WRITE);
		same("EXITINFO2", o.info2, gpa);
		same("done", o.done, true);
	} else {
		completed(o);
	}
	vm_npt(&vm, gpa, 0);
	check(page_reset(pa));
	*(u8 *)page_va(pa) = 0;
}

/* a: kind, b: 0 the page itself is assigned, 1 another one of the 2M mapping */
static void large(const struct row *r)
{
	struct outcome o;

	if (!need(r->a))
		return;
	vm_npt_large(&vm, true);
	completed(op(OP_STORE, 1, 0, 0, shared(GPA_LARGE) + 0x3000));
	assign(region.pa + (r->b ? 9 : 3) * PAGE_SIZE, 0, 0, true);
	announce("npf-rmp");
	o = op(OP_STORE, 1, 0, 0, shared(GPA_LARGE) + 0x3000);
	same("exit", o.exit, NPF);
	same("EXITINFO1", o.info1, NPF_DATA_WRITE);
	completed(op(OP_LOAD, 1, 0, 0, shared(GPA_LARGE) + 0x3000));
	vm_npt_large(&vm, false);
	if (r->b)
		completed(op(OP_STORE, 1, 0, 0, shared(GPA_LARGE) + 0x3000));
	check(block_reset(&region));
}

/* a: kind */
static void table(const struct row *r)
{
	struct outcome o;

	if (!need(r->a))
		return;
	assign(vm_spa(GPA_TABLE), ASID_LAUNCH, GPA_TABLE, false);
	vm_npt(&vm, GPA_TABLE, vm_spa(GPA_TABLE) | NPT_RW);
	announce("npf-rmp");
	o = op(OP_LOAD, 0, 0, 0, TABLE_VA);
	same("exit", o.exit, NPF);
	same("RMP, TABLES", o.info1 & (NPF_RMP | NPF_TABLES), NPF_RMP | NPF_TABLES);
	same("EXITINFO2", o.info2 & PAGE_MASK, GPA_TABLE);
	vm_npt(&vm, GPA_TABLE, 0);
	check(page_reset(vm_spa(GPA_TABLE)));
}

/* a: kind, b: operation; answers 2 */
static void host_insn(const struct row *r)
{
	struct outcome o;

	if (!need(r->a))
		return;
	announce(r->b == OP_PSMASH ? "psmash" : "rmpupdate");
	o = op(r->b, region.pa, priv(GPA_DATA), 0, 0);
	completed(o);
	same("EAX", o.rax & 0xffffffff, 2);
	same("entry", rmp_lo(region.pa), 0);
}

/* a: kind, b: operation; undefined outside SNP guests */
static void undefined(const struct row *r)
{
	struct outcome o;

	if (!need(r->a))
		return;
	o = op(r->b, priv(GPA_DATA), 0, 1, 0);
	same("done", o.done, true);
	same("vector", o.vector, 6);
}

/* a: kind, b: exit, or the error code of a #VC, c: #VC, d: 1 not intercepted */
static void cpuid_exit(const struct row *r)
{
	u32 *word, old;
	struct outcome o;

	if (!need(r->a))
		return;
	word = &control()->intercepts[INTERCEPT_WORD3];
	old = *word;
	if (r->d)
		*word &= ~BIT(INTERCEPT_CPUID - 96);
	o = op(OP_CPUID, 0, 0, 0, 0);
	same("done", o.done, true);
	same("exited", o.exited, r->b && !r->c);
	if (r->b && !r->c)
		same("exit", o.exit, r->b);
	same("vector", o.vector, r->c ? 29 : -1);
	if (r->c)
		same("error code", o.error, r->b);
	*word = old;
}

static void mmio(const struct row *r)
{
	struct outcome o;

	if (!need(r->a))
		return;
	o = op(OP_LOAD, 0, 0, 0, shared(GPA_MMIO));
	same("exit", o.exit, NPF);
	same("RSVD", o.info1 & NPF_RSVD, NPF_RSVD);
}

/* ---- decode assists ---- */

/* a: kind, b: address, c: exit; the bytes are those of the instruction and of what follows it */
static void insn_bytes(const struct row *r)
{
	u32 old;
	struct outcome o;

	if (!need(r->a))
		return;
	old = control()->intercepts[INTERCEPT_EXCEPTION];
	if (r->c != NPF)
		control()->intercepts[INTERCEPT_EXCEPTION] |= BIT(r->c - 0x40);
	o = op(OP_LOAD, 0, 0, 0, r->b);
	control()->intercepts[INTERCEPT_EXCEPTION] = old;
	same("exit", o.exit, r->c);
	same("number of bytes", o.insn_len, 15);
	same("next RIP", o.next_rip, 0);
	if (check(o.rip >= CODE_VA && o.rip < CODE_VA + PAGE_SIZE))
		check(!memcmp(o.insn, vm_code(o.rip), 15));
	/* mov (%rdi), %rax */
	check(o.insn[0] == 0x48 && o.insn[1] == 0x8b && o.insn[2] == 0x07);
}

/* As many as there are before a page that is not mapped. */
static void insn_bytes_part(const struct row *r)
{
	/* mov (%rsi), %rax; ret */
	static const u8 code[] = { 0x48, 0x8b, 0x06, 0xc3 };
	u64 gpa = GPA_SLOT, end = PAGE_SIZE - sizeof(code);
	struct outcome o;

	if (!need(r->a))
		return;
	memcpy(page_va(vm_spa(gpa)) + end, code, sizeof(code));
	vm_npt(&vm, gpa, vm_spa(gpa) | NPT_RW);
	vm.mbox->rsi = shared(gpa + 2 * PAGE_SIZE);
	o = op(OP_CALL, 0, 0, 0, shared(gpa) + end);
	same("exit", o.exit, NPF);
	same("EXITINFO2", o.info2, gpa + 2 * PAGE_SIZE);
	same("RIP", o.rip, shared(gpa) + end);
	same("number of bytes", o.insn_len, sizeof(code));
	check(!memcmp(o.insn, code, sizeof(code)));
	vm_npt(&vm, gpa, 0);
	memset(page_va(vm_spa(gpa)) + end, 0, sizeof(code));
}

/* The second half of the instruction is on a page that is not mapped: a fetch, which has none, not the first half. */
static void insn_bytes_split(const struct row *r)
{
	/* mov (%rsi), %rax without its last byte */
	static const u8 code[] = { 0x48, 0x8b };
	u64 gpa = GPA_SLOT, end = PAGE_SIZE - sizeof(code);
	struct outcome o;

	if (!need(r->a))
		return;
	memcpy(page_va(vm_spa(gpa)) + end, code, sizeof(code));
	vm_npt(&vm, gpa, vm_spa(gpa) | NPT_RW);
	o = op(OP_CALL, 0, 0, 0, shared(gpa) + end);
	same("exit", o.exit, NPF);
	same("EXITINFO2", o.info2, gpa + PAGE_SIZE);
	same("RIP", o.rip, shared(gpa) + end);
	same("number of bytes", o.insn_len, 0);
	vm_npt(&vm, gpa, 0);
	memset(page_va(vm_spa(gpa)) + end, 0, sizeof(code));
}

/* a: kind; a fetch has none */
static void insn_bytes_fetch(const struct row *r)
{
	struct outcome o;

	if (!need(r->a))
		return;
	o = op(OP_CALL, 0, 0, 0, shared(GPA_SLOT));
	same("exit", o.exit, NPF);
	same("EXITINFO2", o.info2, GPA_SLOT);
	same("number of bytes", o.insn_len, 0);
}

enum assist { MOV_FROM_CR0, MOV_TO_CR0, MOV_TO_CR3, CLTS, MOV_FROM_DR3, INT_N, INVLPG, INVLPGA };

static const struct {
	int word, bit, op, exit;
	u64 info1;
	int len;
} assists[] = {
	[MOV_FROM_CR0] = { INTERCEPT_CR, INTERCEPT_CR0_READ, OP_FROM_CR0, 0x00, BIT_ULL(63) | 3, 3 },
	[MOV_TO_CR0] = { INTERCEPT_WORD3, INTERCEPT_SELECTIVE_CR0 - 96, OP_TO_CR0, 0x65, BIT_ULL(63) | 6, 3 },
	[MOV_TO_CR3] = { INTERCEPT_CR, INTERCEPT_CR3_WRITE, OP_TO_CR3, 0x13, BIT_ULL(63) | 6, 3 },
	[CLTS] = { INTERCEPT_CR, INTERCEPT_CR0_WRITE, OP_CLTS, 0x10, 0, 2 },
	[MOV_FROM_DR3] = { INTERCEPT_DR, INTERCEPT_DR3_READ - 32, OP_FROM_DR3, 0x23, 9, 4 },
	[INT_N] = { INTERCEPT_WORD3, INTERCEPT_INTn - 96, OP_INT55, 0x75, 0x55, 2 },
	[INVLPG] = { INTERCEPT_WORD3, INTERCEPT_INVLPG - 96, OP_INVLPG, 0x79, SHARED_VA + 0x12345, 3 },
	[INVLPGA] = { INTERCEPT_WORD3, INTERCEPT_INVLPGA - 96, OP_INVLPGA, 0x7a, 0, 3 },
};

/* a: instruction */
static void assist(const struct row *r)
{
	u32 *word, old;
	struct outcome o;

	if (!need(KIND_PLAIN))
		return;
	word = &control()->intercepts[assists[r->a].word];
	old = *word;
	*word |= BIT(assists[r->a].bit);
	/* For MOV to CR0, another value than the present one. */
	vm.mbox->rsi = X86_CR0_PG | X86_CR0_WP | X86_CR0_NE | X86_CR0_ET | X86_CR0_MP | X86_CR0_PE | X86_CR0_AM;
	o = op(assists[r->a].op, SHARED_VA + 0x6789, 7, 0, SHARED_VA + 0x12345);
	*word = old;
	same("exit", o.exit, assists[r->a].exit);
	same("EXITINFO1", o.info1, assists[r->a].info1);
	same("length by the next RIP", o.next_rip - o.rip, assists[r->a].len);
	same("number of bytes", o.insn_len, 0);
	same("done", o.done, true);
	same("vector", o.vector, -1);
	same("RCX", o.rcx, 7);
}

/* Not intercepted, in a guest and on the host; any ASID will do. */
static void invlpga(const struct row *r)
{
	if (!need(KIND_PLAIN))
		return;
	completed(op(OP_INVLPGA, shared(GPA_DATA), 1, 0, 0));
	completed(op(OP_LOAD, 0, 0, 0, shared(GPA_DATA)));
	host_op(OP_INVLPGA, shared(GPA_DATA), vm.asid, 0, 0);
	check(HOST_OK);
	runs_again();
}

/* a: kind, b: SEV_STATUS */
static void guest_sev_status(const struct row *r)
{
	struct outcome o;

	if (!need(r->a))
		return;
	o = op(OP_RDMSR, 0, 0xc0010131, 0, 0);
	completed(o);
	same("SEV_STATUS", o.rax & 0xffffffff, r->b);
}

/* A page of a SEV guest by both of its aliases, and what the host sees. */
static void aliases(const struct row *r)
{
	u64 gpa = GPA_DATA, *p, raw;
	int i;

	if (!need(r->a))
		return;
	p = page_va(vm_spa(gpa));
	same("with the C-bit", op(OP_LOAD, 0, 0, 0, priv(gpa)).rax, 0xd0d0d0d0d0d0d0d0ULL);
	raw = READ_ONCE(*p);
	check(raw != 0xd0d0d0d0d0d0d0d0ULL);
	for (i = 0; i < 3; i++) {
		same("without the C-bit", op(OP_LOAD, 0, 0, 0, shared(gpa)).rax, raw);
		completed(op(OP_STORE, 0x55555555 + i, 0, 0, priv(gpa)));
		raw = READ_ONCE(*p);
		check(raw != 0x55555555 + i);
		same("without the C-bit", op(OP_LOAD, 0, 0, 0, shared(gpa)).rax, raw);
		same("with the C-bit", op(OP_LOAD, 0, 0, 0, priv(gpa)).rax, 0x55555555 + i);
	}
	/* Plain text written without the C-bit is noise with it. */
	completed(op(OP_STORE, 0x77777777, 0, 0, shared(gpa)));
	same("the host's view", READ_ONCE(*p), 0x77777777);
	check(op(OP_LOAD, 0, 0, 0, priv(gpa)).rax != 0x77777777);
	/* Between the two in one instruction. */
	completed(op(OP_STORE, 0x12345678, 0, 0, priv(gpa)));
	raw = READ_ONCE(*p);
	vm.mbox->rsi = shared(gpa);
	completed(op(OP_COPY, 0, 8, 0, priv(gpa) + 0x100));
	same("copied ciphertext", op(OP_LOAD, 0, 0, 0, priv(gpa) + 0x100).rax, raw);
}

/* a: state of the VMSA's page */
static void es_vmsa(const struct row *r)
{
	if (!need(KIND_ES))
		return;
	runs_again();
	assign(vm.cpu[0].vmsa, r->a == ST_FIRMWARE ? 0 : vm.asid, 0, r->a == ST_FIRMWARE);
	invalid();
	check(page_reset(vm.cpu[0].vmsa));
	runs_again();
}

#define T39	"APM table 15-39"
#define T41	"APM table 15-41"
#define V12	"APM 15.36.12"

static const struct row rows[] = {
	{ "vmrun.vmcb_firmware", T41, vmcb_state, ST_FIRMWARE },
	{ "vmrun.vmcb_guest", T41, vmcb_state, ST_INVALID },
	{ "vmrun.no_hsave", V12, no_hsave },
	{ "vmrun.np_off", V12, vmcb_field, NP_OFF },
	{ "vmrun.asid_0", "APM 15.5.1", vmcb_field, ASID_ZERO },
	{ "vmrun.asid_above_maximum", V12, vmcb_field, ASID_HIGH },
	{ "vmrun.asid_of_none", "FW sev_guest_activate", vmcb_field, ASID_ANOTHER },
	{ "vmrun.vmsa_unassigned", T41, vmsa_state, NOT_ASSIGNED },
	{ "vmrun.vmsa_other_asid", T41, vmsa_state, OTHER_ASID },
	{ "vmrun.vmsa_without_vmsa_bit", T41, vmsa_state, NO_VMSA },
	{ "vmrun.vmsa_immutable", T41, vmsa_state, IMMUTABLE },
	{ "vmrun.vmsa_firmware", T41, vmsa_state, IS_FIRMWARE },
	{ "vmrun.launch_not_finished", "FW snp_mcmd_launch_finish", not_finished },
	{ "vmrun.decommissioned", "FW snp_decommission_common", decommissioned },
	{ "vmrun.both_injection_modes", V12, injection_modes },
	{ "rmpupdate.vmcb_in_use", V12 "; mail 12978816358", in_use, 0, 3 },
	{ "rmpupdate.vmsa_in_use", V12 "; mail 12978816358", in_use, 1, 3 },
	{ "rmpupdate.page_of_running_guest", V12, in_use, 2, 0 },

	{ "plain.runs", "APM 15.36.12", runs, KIND_PLAIN },
	{ "plain.write_hypervisor", T39, access, KIND_PLAIN, OP_STORE, ST_HV, 0 },
	{ "plain.write_firmware", T39, access, KIND_PLAIN, OP_STORE, ST_FIRMWARE, 1 },
	{ "plain.write_guest", T39, access, KIND_PLAIN, OP_STORE, ST_INVALID, 1 },
	{ "plain.read_firmware", T39, access, KIND_PLAIN, OP_LOAD, ST_FIRMWARE, 0 },
	{ "plain.read_guest", T39, access, KIND_PLAIN, OP_LOAD, ST_INVALID, 0 },
	{ "plain.fetch_guest", T39, access, KIND_PLAIN, OP_CALL, ST_INVALID, 0 },
	{ "plain.write_2m_same_page", T39, large, KIND_PLAIN, 0 },
	{ "plain.write_2m_other_page", T39, large, KIND_PLAIN, 1 },
	{ "plain.table_guest", T39, table, KIND_PLAIN },
	{ "plain.rmpupdate", "MS rmpupdate", host_insn, KIND_PLAIN, OP_RMPUPDATE },
	{ "plain.psmash", "MS psmash", host_insn, KIND_PLAIN, OP_PSMASH },
	{ "plain.pvalidate", "assumed, in no public text", undefined, KIND_PLAIN, OP_PVALIDATE },
	{ "plain.rmpadjust", "assumed, in no public text", undefined, KIND_PLAIN, OP_RMPADJUST },
	{ "plain.cpuid", "APM 15.9", cpuid_exit, KIND_PLAIN, 0x72, 0 },
	{ "plain.rmpquery", "assumed, in no public text", undefined, KIND_PLAIN, OP_RMPQUERY },
	{ "plain.mmio", "APM 15.25.6", mmio, KIND_PLAIN },
	{ "plain.insn_bytes_npf", "APM 15.8.4", insn_bytes, KIND_PLAIN, SHARED_VA + GPA_SLOT, NPF },
	{ "plain.insn_bytes_mmio", "APM 15.8.4", insn_bytes, KIND_PLAIN, SHARED_VA + GPA_MMIO, NPF },
	{ "plain.insn_bytes_pf", "APM 15.8.4", insn_bytes, KIND_PLAIN, NO_TABLE_VA, 0x4e },
	{ "plain.insn_bytes_end_of_page", "APM 15.8.4", insn_bytes_part, KIND_PLAIN },
	{ "plain.insn_bytes_split", "APM 15.8.4", insn_bytes_split, KIND_PLAIN },
	{ "plain.insn_bytes_fetch", "APM 15.8.4", insn_bytes_fetch, KIND_PLAIN },
	{ "plain.mov_from_cr0", "APM 15.8.1", assist, MOV_FROM_CR0 },
	{ "plain.mov_to_cr0_selective", "APM 15.8.1", assist, MOV_TO_CR0 },
	{ "plain.mov_to_cr3", "APM 15.8.1", assist, MOV_TO_CR3 },
	{ "plain.clts", "APM 15.8.1", assist, CLTS },
	{ "plain.mov_from_dr3", "APM 15.8.1", assist, MOV_FROM_DR3 },
	{ "plain.int_n", "APM 15.8.2", assist, INT_N },
	{ "plain.invlpg", "APM 15.8.3", assist, INVLPG },
	{ "plain.invlpga", "APM 15.8.3", assist, INVLPGA },
	{ "plain.invlpga_not_intercepted", "APM 15.16.2", invlpga },

	{ "sev_guest.runs", "APM 15.34.3", runs, KIND_SEV },
	{ "sev_guest.sev_status", "APM 15.34.10", guest_sev_status, KIND_SEV, 1 },
	{ "sev_guest.aliases", "APM 15.34.1", aliases, KIND_SEV },
	{ "sev_guest.write_hypervisor", T39, access, KIND_SEV, OP_STORE, ST_HV, 0 },
	{ "sev_guest.write_firmware", T39, access, KIND_SEV, OP_STORE, ST_FIRMWARE, 1 },
	{ "sev_guest.read_guest", T39, access, KIND_SEV, OP_LOAD, ST_INVALID, 0 },
	{ "sev_guest.write_2m_other_page", T39, large, KIND_SEV, 1 },
	{ "sev_guest.cpuid", "APM 15.9", cpuid_exit, KIND_SEV, 0x72, 0 },
	{ "sev_guest.insn_bytes_npf", "APM 15.8.4, 15.34.5", insn_bytes, KIND_SEV, SHARED_VA + GPA_SLOT, NPF },
	{ "sev_guest.insn_bytes_mmio", "APM 15.8.4, 15.34.5", insn_bytes, KIND_SEV, SHARED_VA + GPA_MMIO, NPF },
	{ "sev_guest.insn_bytes_pf", "APM 15.8.4, 15.34.5", insn_bytes, KIND_SEV, NO_TABLE_VA, 0x4e },
	{ "sev_guest.insn_bytes_fetch", "APM 15.8.4", insn_bytes_fetch, KIND_SEV },
	{ "sev_guest.pvalidate", "assumed, in no public text", undefined, KIND_SEV, OP_PVALIDATE },

	{ "es_guest.runs", "APM 15.35", runs, KIND_ES },
	{ "es_guest.sev_status", "APM 15.34.10", guest_sev_status, KIND_ES, 3 },
	{ "es_guest.aliases", "APM 15.34.1", aliases, KIND_ES },
	{ "es_guest.vmsa_guest", T41, es_vmsa, ST_INVALID },
	{ "es_guest.vmsa_firmware", T41, es_vmsa, ST_FIRMWARE },
	{ "es_guest.cpuid", "APM table 15-33", cpuid_exit, KIND_ES, 0x72, 1 },
	{ "es_guest.cpuid_not_intercepted", "APM table 15-33", cpuid_exit, KIND_ES, 0, 0, 1 },
	{ "es_guest.write_firmware", T39, access, KIND_ES, OP_STORE, ST_FIRMWARE, 1 },
	{ "es_guest.read_guest", T39, access, KIND_ES, OP_LOAD, ST_INVALID, 0 },
	{ "es_guest.pvalidate", "assumed, in no public text", undefined, KIND_ES, OP_PVALIDATE },
};

const struct group group_vmrun = { "vmrun", rows, ARRAY_SIZE(rows), NULL, done };
