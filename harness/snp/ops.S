/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The code that the host and the guests run to try an instruction. Position-independent: it is copied.
 */
#include "ops.h"

	.text
	.balign 16
	.globl	ops_begin
ops_begin:

/* Does what the mailbox says and puts the outcome there. Interrupts are off. */
	.globl	ops_call
ops_call:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	movabs	$MBOX_VA, %r15
	movq	$-1, M_VECTOR(%r15)
	movq	$0, M_ERROR(%r15)
	mov	%rsp, M_RSP(%r15)
	lea	op_table(%rip), %r14
	mov	M_OP(%r15), %r13
	movslq	(%r14,%r13,4), %r13
	add	%r14, %r13
	mov	M_RAX(%r15), %rax
	mov	M_RBX(%r15), %rbx
	mov	M_RCX(%r15), %rcx
	mov	M_RDX(%r15), %rdx
	mov	M_RSI(%r15), %rsi
	mov	M_RDI(%r15), %rdi
	mov	M_R8(%r15), %r8
	pushq	M_FLAGS(%r15)
	popfq
	jmp	*%r13

op_done:
	movabs	$MBOX_VA, %r15
	mov	%rax, M_OUT_RAX(%r15)
	mov	%rbx, M_OUT_RBX(%r15)
	mov	%rcx, M_OUT_RCX(%r15)
	mov	%rdx, M_OUT_RDX(%r15)
	pushfq
	popq	M_OUT_FLAGS(%r15)
op_out:
	mov	M_RSP(%r15), %rsp
	cld
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* Where a guest starts. */
	.globl	ops_guest
ops_guest:
	mov	%rsp, %rbp
1:	mov	%rbp, %rsp
	call	ops_call
	movabs	$MBOX_VA, %r15
	incq	M_COUNT(%r15)
	rep; vmmcall
	jmp	1b

op_nop:
	jmp	op_done
op_load:
	mov	(%rdi), %rax
	jmp	op_done
op_store:
	mov	%rax, (%rdi)
	jmp	op_done
op_call:
	call	*%rdi
	jmp	op_done
op_rmpupdate:
	.byte	0xf2, 0x0f, 0x01, 0xfe
	jmp	op_done
op_psmash:
	.byte	0xf3, 0x0f, 0x01, 0xff
	jmp	op_done
op_pvalidate:
	.byte	0xf2, 0x0f, 0x01, 0xff
	jmp	op_done
op_rmpadjust:
	.byte	0xf3, 0x0f, 0x01, 0xfe
	jmp	op_done
op_rmpquery:
	.byte	0xf3, 0x0f, 0x01, 0xfd
	jmp	op_done
op_rmpread:
	.byte	0xf2, 0x0f, 0x01, 0xfd
	jmp	op_done
op_rdmsr:
	rdmsr
	jmp	op_done
op_wrmsr:
	wrmsr
	jmp	op_done
op_cpuid:
	cpuid
	jmp	op_done
op_in:
	in	%dx, %al
	jmp	op_done
op_out_port:
	out	%al, %dx
	jmp	op_done
op_hlt:
	hlt
	jmp	op_done
op_vmmcall:
	vmmcall
	jmp	op_done
op_vmgexit:
	rep; vmmcall
	jmp	op_done
op_vmsave:
	vmsave	%rax
	jmp	op_done
op_vmload:
	vmload	%rax
	jmp	op_done
op_copy:
	rep	movsb
	jmp	op_done
op_cr4:
	mov	%rax, %cr4
	jmp	op_done
op_cr3:
	mov	%cr3, %rax
	mov	%rax, %cr3
	jmp	op_done
op_rdtsc:
	rdtsc
	jmp	op_done
op_wbinvd:
	wbinvd
	jmp	op_done
op_invd:
	invd
	jmp	op_done
op_spin:
	incq	M_TICKS(%r15)
	cmpq	$0, M_STOP(%r15)
	je	op_spin
	jmp	op_done
op_ud2:
	ud2
op_pause:
	pause
	jmp	op_done
op_dr7:
	mov	%dr7, %rax
	jmp	op_done
op_invlpg:
	invlpg	(%rdi)
	jmp	op_done
op_invlpga:
	invlpga	%rax, %ecx
	jmp	op_done
op_from_cr0:
	mov	%cr0, %rbx
	jmp	op_done
op_to_cr0:
	mov	%rsi, %cr0
	jmp	op_done
op_to_cr3:
	mov	%rsi, %cr3
	jmp	op_done
op_from_dr3:
	mov	%dr3, %r9
	jmp	op_done
op_clts:
	clts
	jmp	op_done
op_int55:
	int	$0x55
	jmp	op_done
op_sti:
	sti
	nop
	rep; vmmcall
	cli
	jmp	op_done

/* The same code is mapped at its guest physical address as well, below 4 GiB. */
op_compat_pval:
	lea	compat_pval(%rip), %r9
	jmp	to_compat
op_compat_query:
	lea	compat_query(%rip), %r9
	jmp	to_compat
op_compat_upd:
	lea	compat_upd(%rip), %r9
to_compat:
	movabs	$PRIV_VA, %r10
	sub	%r10, %r9
	mov	%rsp, %r12
	push	$GUEST_CS32
	push	%r9
	lretq
	.code32
compat_pval:
	.byte	0xf2, 0x0f, 0x01, 0xff
	jmp	from_compat
compat_query:
	.byte	0xf3, 0x0f, 0x01, 0xfd
	jmp	from_compat
compat_upd:
	.byte	0xf2, 0x0f, 0x01, 0xfe
from_compat:
	ljmp	$GUEST_CS, $(GPA_CODE + back - ops_begin)
	.code64
back:
	mov	%r12, %rsp
	movabs	$MBOX_VA, %r15
	pushfq
	mov	%rax, M_OUT_RAX(%r15)
	popq	M_OUT_FLAGS(%r15)
	movabs	$(CODE_VA + op_out - ops_begin), %rax
	jmp	*%rax

/*
 * The segment registers and MSRs that VMRUN leaves alone are saved by VMSAVE where #VMEXIT of an SEV-ES guest
 * takes them from, and loaded from there in any case.
 */
op_vmrun:
	push	%rdi
	push	%rcx
	push	%rdx
	mov	%rax, %r9
	mov	%rdx, %rax
	vmsave	%rax
	mov	%r9, %rax
	test	%rcx, %rcx
	jz	1f
	vmload	%rax
1:	mov	R_RBX(%rdi), %rbx
	mov	R_RCX(%rdi), %rcx
	mov	R_RDX(%rdi), %rdx
	mov	R_RSI(%rdi), %rsi
	mov	R_RBP(%rdi), %rbp
	mov	R_R8(%rdi), %r8
	mov	R_R9(%rdi), %r9
	mov	R_R10(%rdi), %r10
	mov	R_R11(%rdi), %r11
	mov	R_R12(%rdi), %r12
	mov	R_R13(%rdi), %r13
	mov	R_R14(%rdi), %r14
	mov	R_R15(%rdi), %r15
	mov	R_RDI(%rdi), %rdi
	.globl	ops_vmrun_insn
ops_vmrun_insn:
	vmrun	%rax
	push	%rdi
	mov	24(%rsp), %rdi
	mov	%rbx, R_RBX(%rdi)
	mov	%rcx, R_RCX(%rdi)
	mov	%rdx, R_RDX(%rdi)
	mov	%rsi, R_RSI(%rdi)
	mov	%rbp, R_RBP(%rdi)
	mov	%r8, R_R8(%rdi)
	mov	%r9, R_R9(%rdi)
	mov	%r10, R_R10(%rdi)
	mov	%r11, R_R11(%rdi)
	mov	%r12, R_R12(%rdi)
	mov	%r13, R_R13(%rdi)
	mov	%r14, R_R14(%rdi)
	mov	%r15, R_R15(%rdi)
	popq	R_RDI(%rdi)
	cmpq	$0, 8(%rsp)
	je	2f
	vmsave	%rax
2:	mov	(%rsp), %rax
	vmload	%rax
	stgi
	jmp	op_done

	.balign 4
op_table:
	.long	op_nop - op_table
	.long	op_load - op_table
	.long	op_store - op_table
	.long	op_call - op_table
	.long	op_rmpupdate - op_table
	.long	op_psmash - op_table
	.long	op_pvalidate - op_table
	.long	op_rmpadjust - op_table
	.long	op_rmpquery - op_table
	.long	op_rmpread - op_table
	.long	op_rdmsr - op_table
	.long	op_wrmsr - op_table
	.long	op_cpuid - op_table
	.long	op_in - op_table
	.long	op_out_port - op_table
	.long	op_hlt - op_table
	.long	op_vmmcall - op_table
	.long	op_vmgexit - op_table
	.long	op_vmsave - op_table
	.long	op_vmload - op_table
	.long	op_vmrun - op_table
	.long	op_copy - op_table
	.long	op_cr4 - op_table
	.long	op_rdtsc - op_table
	.long	op_wbinvd - op_table
	.long	op_spin - op_table
	.long	op_ud2 - op_table
	.long	op_pause - op_table
	.long	op_invd - op_table
	.long	op_dr7 - op_table
	.long	op_sti - op_table
	.long	op_compat_pval - op_table
	.long	op_cr3 - op_table
	.long	op_compat_upd - op_table
	.long	op_invlpg - op_table
	.long	op_invlpga - op_table
	.long	op_from_cr0 - op_table
	.long	op_to_cr3 - op_table
	.long	op_from_dr3 - op_table
	.long	op_clts - op_table
	.long	op_int55 - op_table
	.long	op_compat_query - op_table
	.long	op_to_cr0 - op_table

/* One entry point for each vector, 16 bytes apart. */
	.balign 16
	.globl	ops_vectors
ops_vectors:
	.set	vector, 0
	.rept	32
	.balign 16
	.if	vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21 && vector != 29 && vector != 30
	push	$0
	.endif
	push	$vector
	jmp	caught
	.set	vector, vector + 1
	.endr

/* The instruction isn't repeated: what it raised goes to the mailbox. */
caught:
	movabs	$MBOX_VA, %r15
	popq	M_VECTOR(%r15)
	popq	M_ERROR(%r15)
	popq	M_RIP(%r15)
	popq	M_OUT_FLAGS(%r15)	/* CS */
	popq	M_OUT_FLAGS(%r15)
	mov	%rax, M_OUT_RAX(%r15)
	mov	%cr2, %rax
	mov	%rax, M_CR2(%r15)
	lea	op_out(%rip), %rax
	jmp	*%rax

	.globl	ops_end
ops_end:

	.section .note.GNU-stack, "", @progbits
