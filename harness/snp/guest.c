// SPDX-License-Identifier: GPL-2.0
/*
 * Guests without KVM: nested page tables, VMCB and VMSA as a row wants them, and one instruction at a time.
 *
 * All guests run the code of ops.S on page tables that map the first GiB of guest memory twice, with and
 * without the C-bit. They begin in long mode.
 */
#include <linux/mm.h>
#include <asm/desc.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/msr.h>
#include <asm/svm.h>
#include "snp_rows.h"

#define C_BIT		BIT_ULL(51)
#define EVENT_GP	(13 | 3 << 8 | BIT(11) | BIT(31))
#define ABANDONED	0xdead		/* error code of the #GP that ends an operation */
#define EXIT_PF		0x4e
#define EXIT_VMMCALL	0x81
#define EXIT_VMGEXIT	0x403
#define ES_POLICY	BIT(2)

extern char ops_begin[], ops_end[], ops_guest[], ops_vectors[];

static u64 hsave;
u64 vm_features;
bool vm_unfinished, vm_no_hsave;

u64 vm_spa(u64 gpa)
{
	return guest_mem.pa + gpa;
}

void vm_npt(struct vm *vm, u64 gpa, u64 pte)
{
	u64 table = gpa < GPA_LARGE ? vm->npt0 : vm->npt1;

	((u64 *)page_va(table))[(gpa >> 12) & 511] = pte;
}

void vm_npt_large(struct vm *vm, bool large)
{
	u64 *pd = page_va(vm->npd);
	int i;

	if (large) {
		pd[1] = region.pa | NPT_RW | NPT_2M;
		return;
	}
	pd[1] = vm->npt1 | NPT_RW;
	for (i = 0; i < BLOCK_PAGES; i++)
		vm_npt(vm, GPA_LARGE + i * PAGE_SIZE, (region.pa + i * PAGE_SIZE) | NPT_RW);
}

static void guest_tables(u64 cbit)
{
	u64 *pml4 = page_va(vm_spa(GPA_PML4)), *pdpt = page_va(vm_spa(GPA_PDPT));
	u64 *p = page_va(vm_spa(GPA_PD_PRIV)), *s = page_va(vm_spa(GPA_PD_SHARED));
	gate_desc *idt = page_va(vm_spa(GPA_IDT));
	u64 *gdt = page_va(vm_spa(GPA_GDT));
	int i;

	/* By the high address and, for compatibility mode, by the guest physical one. */
	pml4[0] = pml4[(PRIV_VA >> 39) & 511] = GPA_PDPT | 3 | cbit;
	pdpt[0] = GPA_PD_PRIV | 3 | cbit;
	pdpt[1] = GPA_PD_SHARED | 3 | cbit;
	pdpt[2] = GPA_TABLE | 3 | cbit;
	for (i = 0; i < 512; i++) {
		p[i] = (u64)i << 21 | 0x83 | cbit;
		s[i] = (u64)i << 21 | 0x83;
	}
	for (i = 0; i < 32; i++)
		pack_gate(&idt[i], GATE_INTERRUPT, CODE_VA + (ops_vectors - ops_begin) + 16 * i, 0, 0, GUEST_CS);
	gdt[GUEST_CS / 8] = 0x00af9b000000ffffULL;
	gdt[GUEST_DS / 8] = 0x00cf93000000ffffULL;
	gdt[GUEST_CS32 / 8] = 0x00cf9b000000ffffULL;
	memcpy(page_va(vm_spa(GPA_CODE)), ops_begin, ops_end - ops_begin);
}

static void segment(struct vmcb_seg *s, u16 sel, u16 attrib, u32 limit, u64 base)
{
	s->selector = sel;
	s->attrib = attrib;
	s->limit = limit;
	s->base = base;
}

/* The VMCB's save area and the VMSA begin alike. */
static void registers(struct vmcb_save_area *s, int cpu)
{
	segment(&s->cs, GUEST_CS, 0xa9b, ~0u, 0);
	segment(&s->ds, GUEST_DS, 0xc93, ~0u, 0);
	segment(&s->es, GUEST_DS, 0xc93, ~0u, 0);
	segment(&s->ss, GUEST_DS, 0xc93, ~0u, 0);
	segment(&s->fs, GUEST_DS, 0xc93, ~0u, 0);
	segment(&s->gs, GUEST_DS, 0xc93, ~0u, 0);
	segment(&s->tr, 0, 0x08b, 0xffff, 0);
	segment(&s->ldtr, 0, 0x082, 0xffff, 0);
	segment(&s->gdtr, 0, 0, 0xff, PRIV_VA + GPA_GDT);
	segment(&s->idtr, 0, 0, 32 * sizeof(gate_desc) - 1, PRIV_VA + GPA_IDT);
	s->efer = EFER_SVME | EFER_NX | EFER_LMA | EFER_LME | EFER_SCE;
	s->cr0 = X86_CR0_PG | X86_CR0_WP | X86_CR0_NE | X86_CR0_ET | X86_CR0_MP | X86_CR0_PE;
	s->cr3 = GPA_PML4;
	s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	s->dr6 = 0xffff0ff0;
	s->dr7 = 0x400;
	s->rflags = X86_EFLAGS_FIXED;
	s->rip = CODE_VA + (ops_guest - ops_begin);
	s->rsp = PRIV_VA + GPA_STACK + (cpu + 1) * PAGE_SIZE - 16;
	s->g_pat = 0x0007040600070406ULL;
}

static void vmcb_make(struct vm *vm, int cpu)
{
	struct vmcb *v = page_va(vm->cpu[cpu].vmcb);
	struct vmcb_control_area *c = &v->control;

	/* CPUID, HLT, VMMCALL, SHUTDOWN; VMRUN as the architecture demands. */
	c->intercepts[INTERCEPT_WORD3] = BIT(INTERCEPT_CPUID - 96) | BIT(INTERCEPT_HLT - 96) |
					 BIT(INTERCEPT_SHUTDOWN - 96);
	c->intercepts[INTERCEPT_WORD4] = BIT(INTERCEPT_VMRUN - 128) | BIT(INTERCEPT_VMMCALL - 128);
	c->asid = vm->asid;
	c->tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	c->int_ctl = V_INTR_MASKING_MASK;
	c->misc_ctl = SVM_MISC_ENABLE_NP | (vm->kind >= KIND_SEV ? SVM_MISC_ENABLE_SEV : 0) |
		      (vm->kind >= KIND_ES ? SVM_MISC_ENABLE_SEV_ES : 0);
	c->misc_ctl2 = vm->kind >= KIND_ES ? SVM_MISC2_ENABLE_V_LBR : 0;
	c->nested_cr3 = vm->ncr3;
	c->vmsa_pa = vm->cpu[cpu].vmsa;
	registers(&v->save, cpu);
}

static void vmsa_make(struct vm *vm, int cpu)
{
	struct sev_es_save_area *s = page_va(vm->cpu[cpu].vmsa);

	registers((struct vmcb_save_area *)s, cpu);
	s->vmpl = cpu;
	s->xcr0 = 1;
	s->mxcsr = 0x1f80;
	s->x87_fcw = 0x37f;
	s->sev_features = vm->kind == KIND_SNP ? SVM_SEV_FEAT_SNP_ACTIVE | vm_features : 0;
}

static bool launch_snp(struct vm *vm)
{
	u64 gpa;
	int i;

	if (!sguest_start(&vm->snp, POLICY) || !sguest_activate(&vm->snp, vm->asid))
		return false;
	for (gpa = 0x1000; gpa < GPA_DATA + DATA_PAGES * PAGE_SIZE; gpa += PAGE_SIZE) {
		if (gpa == GPA_MBOX || gpa == GPA_GHCB)
			continue;
		/* VMPL1 may do all but with the data pages. */
		if (!assign(vm_spa(gpa), vm->asid, gpa, true) ||
		    launch_update(&vm->snp, vm_spa(gpa), SNP_PAGE_TYPE_NORMAL, false, gpa < GPA_DATA ? 0xf : 0, 0))
			return false;
	}
	for (i = 0; i < 2; i++)
		if (!assign(vm->cpu[i].vmsa, vm->asid, 0xfffffffff000ULL, true) ||
		    launch_update(&vm->snp, vm->cpu[i].vmsa, SNP_PAGE_TYPE_VMSA, false, 0, 0))
			return false;
	return vm_unfinished || sguest_finish(&vm->snp);
}

/* SEV and SEV-ES. */
static bool launch_sev(struct vm *vm)
{
	struct sev_data_launch_start s = { .policy = vm->kind == KIND_ES ? ES_POLICY : 0 };
	struct sev_data_activate a;
	struct sev_data_launch_measure m = { .len = 0x30 };
	struct sev_data_launch_finish f;
	u64 gpa, pa;
	bool ok;
	int i;

	if (!psp_ok(SEV_CMD_LAUNCH_START, &s, sizeof(s)))
		return false;
	vm->handle = s.handle;
	a = (struct sev_data_activate){ .handle = s.handle, .asid = vm->asid };
	if (!psp_ok(SEV_CMD_ACTIVATE, &a, sizeof(a)))
		return false;
	for (gpa = 0x1000; gpa < GPA_DATA + DATA_PAGES * PAGE_SIZE; gpa += PAGE_SIZE) {
		struct sev_data_launch_update_data d = {
			.handle = s.handle, .address = vm_spa(gpa), .len = PAGE_SIZE
		};

		if (gpa == GPA_MBOX || gpa == GPA_GHCB)
			continue;
		if (!assign(vm_spa(gpa), 0, 0, true) ||
		    !psp_ok(SEV_CMD_LAUNCH_UPDATE_DATA, &d, sizeof(d)) || !page_reset(vm_spa(gpa)))
			return false;
	}
	for (i = 0; vm->kind == KIND_ES && i < 2; i++) {
		struct sev_data_launch_update_vmsa d = {
			.handle = s.handle, .address = vm->cpu[i].vmsa, .len = PAGE_SIZE
		};

		if (!assign(vm->cpu[i].vmsa, 0, 0, true) ||
		    !psp_ok(SEV_CMD_LAUNCH_UPDATE_VMSA, &d, sizeof(d)) || !page_reset(vm->cpu[i].vmsa))
			return false;
	}
	pa = state_page(ST_FIRMWARE);
	m.handle = s.handle;
	m.address = pa;
	f.handle = s.handle;
	ok = psp_ok(SEV_CMD_LAUNCH_MEASURE, &m, sizeof(m)) && psp_ok(SEV_CMD_LAUNCH_FINISH, &f, sizeof(f));
	page_free(pa);
	return ok;
}

bool vm_create(struct vm *vm, enum kind kind)
{
	static const u32 asids[] = { [KIND_PLAIN] = 1000, [KIND_SEV] = ASID_SEV, [KIND_ES] = ASID_OTHER, [KIND_SNP] = ASID_GUEST };
	u64 gpa, l3, l2;
	int i;

	memset(vm, 0, sizeof(*vm));
	vm->kind = kind;
	vm->asid = asids[kind];
	memset(guest_mem.va, 0, BLOCK_PAGES * PAGE_SIZE);
	memset(region.va, 0, BLOCK_PAGES * PAGE_SIZE);
	if (!hsave)
		hsave = page_alloc();

	vm->ncr3 = page_alloc();
	l3 = page_alloc();
	l2 = page_alloc();
	vm->npd = l2;
	vm->npt0 = page_alloc();
	vm->npt1 = page_alloc();
	((u64 *)page_va(vm->ncr3))[0] = l3 | NPT_RW;
	((u64 *)page_va(l3))[0] = l2 | NPT_RW;
	((u64 *)page_va(l2))[0] = vm->npt0 | NPT_RW;
	vm_npt_large(vm, false);
	for (gpa = 0; gpa < GPA_SLOT; gpa += PAGE_SIZE)
		vm_npt(vm, gpa, vm_spa(gpa) | NPT_RW);
	/* MMIO is a reserved bit, as KVM does it: bit 51 isn't the C-bit in a nested page table. */
	((u64 *)page_va(l2))[GPA_MMIO >> 21] = BIT_ULL(51) | 1;

	guest_tables(kind == KIND_PLAIN ? 0 : C_BIT);
	vm->mbox = page_va(vm_spa(GPA_MBOX));
	for (i = 0; i < DATA_PAGES; i++)
		memset(page_va(vm_spa(GPA_DATA + i * PAGE_SIZE)), 0xd0 + i, PAGE_SIZE);
	for (i = 0; i < 2; i++) {
		vm->cpu[i].vmcb = page_alloc();
		vm->cpu[i].vmsa = page_alloc();
		vmcb_make(vm, i);
		vmsa_make(vm, i);
	}
	if (kind == KIND_SNP)
		return launch_snp(vm);
	return kind == KIND_PLAIN || launch_sev(vm);
}

void vm_destroy(struct vm *vm)
{
	u64 l3;
	int i;

	if (!vm->ncr3)
		return;
	check_at(__LINE__, "guest memory is the hypervisor's again",
		 block_reset(&guest_mem) && block_reset(&region));
	for (i = 0; i < 2; i++) {
		page_free(vm->cpu[i].vmsa);
		page_free(vm->cpu[i].vmcb);
	}
	l3 = ((u64 *)page_va(vm->ncr3))[0] & GENMASK_ULL(51, 12);
	page_free(vm->ncr3);
	page_free(l3);
	page_free(vm->npd);
	page_free(vm->npt0);
	page_free(vm->npt1);
	if (vm->kind == KIND_SNP) {
		sguest_destroy(&vm->snp);
	} else if (vm->handle) {
		struct sev_data_deactivate d = { .handle = vm->handle };
		struct sev_data_decommission e = { .handle = vm->handle };

		psp_ok(SEV_CMD_DEACTIVATE, &d, sizeof(d));
		psp_ok(SEV_CMD_DECOMMISSION, &e, sizeof(e));
		df_flush();
	}
	vm->ncr3 = 0;
	page_free(hsave);
	hsave = 0;
}

const u8 *vm_code(u64 rip)
{
	return (const u8 *)ops_begin + (rip - CODE_VA);
}

bool vm_enter(struct vm *vm, int cpu)
{
	struct vcpu *c = &vm->cpu[cpu];
	struct sev_es_save_area *host = page_va(hsave) + 0x400;
	unsigned long flags;
	u64 old;

	kernel_fpu_begin();
	local_irq_save(flags);
	rdmsrq(MSR_VM_HSAVE_PA, old);
	wrmsrq(MSR_VM_HSAVE_PA, vm_no_hsave ? 0 : hsave);
	/* What #VMEXIT of an SEV-ES guest loads and VMRUN doesn't save. */
	memset(host, 0, PAGE_SIZE - 0x400);
	host->xcr0 = boot_cpu_has(X86_FEATURE_OSXSAVE) ? xgetbv(XCR_XFEATURE_ENABLED_MASK) : 1;
	host->pkru = cpu_feature_enabled(X86_FEATURE_OSPKE) ? rdpkru() : 0;
	host_mbox->r8 = 0;
	host_op(OP_VMRUN, c->vmcb, vm->kind < KIND_ES, hsave, (unsigned long)&c->regs);
	wrmsrq(MSR_VM_HSAVE_PA, old);
	local_irq_restore(flags);
	kernel_fpu_end();
	return HOST_OK;
}

struct outcome vm_op(struct vm *vm, int cpu, int op, u64 rax, u64 rcx, u64 rdx, u64 rdi)
{
	struct vmcb_control_area *ctl = &((struct vmcb *)page_va(vm->cpu[cpu].vmcb))->control;
	struct mbox *m = vm->mbox;
	struct outcome o = { .vector = -2 };
	u64 count = m->count;
	int i;

	m->op = op;
	m->rax = rax;
	m->rcx = rcx;
	m->rdx = rdx;
	m->rdi = rdi;
	m->flags = X86_EFLAGS_FIXED;
	for (i = 0; i < 20; i++) {
		/* Written by each exit. */
		ctl->insn_len = 0xff;
		if (!vm_enter(vm, cpu)) {
			o.exit = ~0ULL;
			o.exited = true;
			return o;
		}
		ctl->event_inj = 0;
		if (m->count != count)
			break;
		if (!o.exited) {
			o.exited = true;
			o.exit = ctl->exit_code;
			o.info1 = ctl->exit_info_1;
			o.info2 = ctl->exit_info_2;
			o.rip = ((struct vmcb *)page_va(vm->cpu[cpu].vmcb))->save.rip;
			o.next_rip = ctl->next_rip;
			o.insn_len = ctl->insn_len;
			memcpy(o.insn, ctl->insn_bytes, sizeof(o.insn));
		}
		/* The first VMRUN of a processor runs up to what the mailbox says; shutdown is the end. */
		if (ctl->exit_code == SVM_EXIT_SHUTDOWN || ctl->exit_code == SVM_EXIT_ERR ||
		    (s32)ctl->exit_code == -1)
			return o;
		/* The instruction would fault for ever. */
		if (ctl->exit_code == SVM_EXIT_NPF || ctl->exit_code == EXIT_PF) {
			ctl->event_inj = EVENT_GP;
			ctl->event_inj_err = ABANDONED;
		}
		/* Intercepted instructions of guests whose state is at hand: APM 15.7.1. */
		if (vm->kind < KIND_ES && ctl->next_rip)
			((struct vmcb *)page_va(vm->cpu[cpu].vmcb))->save.rip = ctl->next_rip;
	}
	/* A guest whose state is at hand stands at its last VMMCALL, not behind it. */
	if (vm->kind < KIND_ES && ctl->exit_code == EXIT_VMMCALL)
		((struct vmcb *)page_va(vm->cpu[cpu].vmcb))->save.rip = ctl->next_rip;
	o.done = m->count != count;
	o.vector = m->vector;
	o.error = m->error;
	o.cr2 = m->cr2;
	o.rax = m->out_rax;
	o.rbx = m->out_rbx;
	o.rcx = m->out_rcx;
	o.rdx = m->out_rdx;
	o.flags = m->out_flags;
	return o;
}
