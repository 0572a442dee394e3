/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One instruction at a time, on the host or in a guest, with whatever exception it raises.
 *
 * The code of ops.S lies at CODE_VA and takes its orders from the mailbox at MBOX_VA, on the host and in
 * every guest alike. Included by C and by assembly.
 */
#ifndef SNP_OPS_H
#define SNP_OPS_H

/*
 * Virtual addresses. All of it is in the second entry of the PML4, which the kernel doesn't use in its own
 * half. In a guest, PRIV_VA + gpa is a mapping with the C-bit and SHARED_VA + gpa one without.
 */
#define PRIV_VA		0x8000000000
#define SHARED_VA	0x8040000000

/* Guest physical addresses of what every guest has. */
#define GPA_CODE	0x1000		/* two pages */
#define GPA_PML4	0x3000
#define GPA_PDPT	0x4000
#define GPA_PD_PRIV	0x5000
#define GPA_PD_SHARED	0x6000
#define GPA_IDT		0x7000
#define GPA_GDT		0x8000
#define GPA_STACK	0x9000		/* one page each for two processors */
#define GPA_MBOX	0x10000		/* shared */
#define GPA_GHCB	0x11000		/* shared */

#define CODE_VA		(PRIV_VA + GPA_CODE)
#define MBOX_VA		(SHARED_VA + GPA_MBOX)

/* Offsets in the mailbox. */
#define M_OP		0x00
#define M_RAX		0x08
#define M_RBX		0x10
#define M_RCX		0x18
#define M_RDX		0x20
#define M_RSI		0x28
#define M_RDI		0x30
#define M_R8		0x38
#define M_FLAGS		0x40
#define M_OUT_RAX	0x48
#define M_OUT_RBX	0x50
#define M_OUT_RCX	0x58
#define M_OUT_RDX	0x60
#define M_OUT_FLAGS	0x68
#define M_VECTOR	0x70
#define M_ERROR		0x78
#define M_CR2		0x80
#define M_RIP		0x88
#define M_RSP		0x90
#define M_COUNT		0x98
#define M_STOP		0xa0
#define M_TICKS		0xa8

#define OP_NOP		0
#define OP_LOAD		1	/* rax = *rdi */
#define OP_STORE	2	/* *rdi = rax */
#define OP_CALL		3	/* call rdi */
#define OP_RMPUPDATE	4
#define OP_PSMASH	5
#define OP_PVALIDATE	6
#define OP_RMPADJUST	7
#define OP_RMPQUERY	8
#define OP_RMPREAD	9
#define OP_RDMSR	10
#define OP_WRMSR	11
#define OP_CPUID	12
#define OP_IN		13
#define OP_OUT		14
#define OP_HLT		15
#define OP_VMMCALL	16
#define OP_VMGEXIT	17
#define OP_VMSAVE	18
#define OP_VMLOAD	19
#define OP_VMRUN	20	/* rax = VMCB, rdi = registers, rdx = host save area, rcx = swap state by VMLOAD */
#define OP_COPY		21	/* rep movsb */
#define OP_CR4		22
#define OP_RDTSC	23
#define OP_WBINVD	24
#define OP_SPIN		25	/* until M_STOP */
#define OP_UD2		26
#define OP_PAUSE	27
#define OP_INVD		28
#define OP_DR7		29
#define OP_STI		30	/* leave with interrupts enabled */
#define OP_COMPAT_PVAL	31	/* PVALIDATE in compatibility mode */
#define OP_CR3		32	/* reload CR3 */
#define OP_COMPAT_UPD	33	/* RMPUPDATE in compatibility mode */
#define OP_INVLPG	34	/* (rdi) */
#define OP_INVLPGA	35	/* rax = address, ecx = ASID */
#define OP_FROM_CR0	36	/* to rbx */
#define OP_TO_CR3	37	/* from rsi */
#define OP_FROM_DR3	38	/* to r9 */
#define OP_CLTS		39
#define OP_INT55	40
#define OP_COMPAT_QUERY	41	/* RMPQUERY in compatibility mode */
#define OP_TO_CR0	42	/* from rsi */
#define OP_MAX		43

/* Registers of a guest while the host runs: struct regs. */
#define R_RBX		0x00
#define R_RCX		0x08
#define R_RDX		0x10
#define R_RSI		0x18
#define R_RDI		0x20
#define R_RBP		0x28
#define R_R8		0x30
#define R_R9		0x38
#define R_R10		0x40
#define R_R11		0x48
#define R_R12		0x50
#define R_R13		0x58
#define R_R14		0x60
#define R_R15		0x68

#define GUEST_CS	0x10	/* __KERNEL_CS, which pack_gate() takes */
#define GUEST_DS	0x18
#define GUEST_CS32	0x20

#endif
