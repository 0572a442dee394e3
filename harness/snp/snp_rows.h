/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of the emulated SNP host by itself: what each instruction and each command of the security processor
 * answers, and what it does to a page.
 *
 * The expectations come from documents, which each row names:
 *   APM x.y   AMD64 Architecture Programmer's Manual, volume 2
 *   MS name   Microsoft's documentation of the compiler intrinsic of that name
 *   FW name   function of AMD's published SEV firmware (amd/AMD-ASPFW)
 *   list ID, amdsev#N   kvm mailing list; issue of github.com/AMDESE/AMDSEV
 */
#ifndef SNP_ROWS_H
#define SNP_ROWS_H

#include <linux/types.h>
#include <linux/psp-sev.h>
#include "ops.h"

struct row {
	const char *name;
	const char *src;
	void (*run)(const struct row *r);
	u64 a, b, c, d;
};

struct group {
	const char *name;
	const struct row *rows;
	unsigned int n;
	/* Before the first and after the last row. */
	int (*init)(void);
	void (*exit)(void);
};

extern const struct group group_rmp, group_host, group_psp, group_legacy, group_guest, group_vmrun,
			  group_dma, group_global;

/* --- main.c --- */

/* Notes that the row has failed if the two differ. */
bool same_at(int line, const char *what, u64 got, u64 want);
bool check_at(int line, const char *what, bool ok);
#define same(what, got, want)	same_at(__LINE__, what, got, want)
#define check(cond)		check_at(__LINE__, #cond, cond)
void row_skip(const char *why);
/* Tells the watcher of QEMU's log that a line with this text is due. */
__printf(1, 2) void announce(const char *fmt, ...);

/* --- mem.c --- */

#define BLOCK_PAGES	512

/* 2 MiB, mapped with 4K page table entries; the kernel's own mapping of it stays unused. */
struct block {
	u64 pa;
	u8 *va;
	struct page *page;
};

/* region: for whatever; guest: memory of guests. */
extern struct block region, guest_mem, spare;

int rows_mem_init(void);
void rows_mem_exit(void);
/* Single pages out of a third block; zeroed. */
u64 page_alloc(void);
void page_free(u64 pa);
void *page_va(u64 pa);

struct rmp {
	u64 lo, hi;
};

extern u64 rmp_base, rmp_end, rmp_pages;

#define LO_ASSIGNED	BIT_ULL(0)
#define LO_2M		BIT_ULL(1)
#define LO_IMMUTABLE	BIT_ULL(2)
#define LO_COUNT	GENMASK_ULL(11, 3)
#define LO_GPA		GENMASK_ULL(50, 12)
#define LO_ASID		GENMASK_ULL(60, 51)
#define LO_VMSA		BIT_ULL(61)
#define LO_VALIDATED	BIT_ULL(62)
#define LO_LOCK		BIT_ULL(63)

struct rmp rmp_read(u64 pa);
u64 rmp_count(u32 asid);
static inline u32 rmp_subcount(u64 pa)
{
	return (rmp_read(pa & ~0x1fffffULL).lo & LO_COUNT) >> 3;
}

static inline u64 lo_entry(u32 asid, u64 gpa, bool immutable)
{
	return LO_ASSIGNED | (immutable ? LO_IMMUTABLE | LO_LOCK : 0) | gpa | (u64)asid << 51;
}

/* The entry without the count, which depends on the neighbours. */
static inline u64 rmp_lo(u64 pa)
{
	return rmp_read(pa).lo & ~LO_COUNT;
}

enum state {
	ST_HV, ST_FIRMWARE, ST_RECLAIM, ST_PRE_GUEST, ST_PRE_SWAP, ST_INVALID, ST_VALID, ST_CONTEXT,
	/* Pages that the machine has; never changed. */
	ST_FIXED, ST_IOMMU, ST_RMP,
	ST_MAX
};

/* What guest pages get. */
#define ST_GPA		0x123000ULL

const char *state_name(enum state s);
/* Brings a page that the hypervisor owns into the state; guest states are those of the launched guest. */
bool state_make(u64 pa, enum state s);
/* A page in that state, and back. */
u64 state_page(enum state s);
void state_free(u64 pa, enum state s);
/* Whatever the state: the hypervisor's again. */
bool page_reset(u64 pa);
bool block_reset(struct block *b);

/* Host page tables of the tests. */
#define HOST_4K_VA	(PRIV_VA + 0x80000000)		/* the region by 4K pages */
#define HOST_2M_VA	(PRIV_VA + 0x80200000)		/* the region by one 2M page */
#define HOST_PT_VA	(PRIV_VA + 0x80400000)		/* by 4K pages; host_pt is the page table */
#define HOST_ANY_VA	(PRIV_VA + 0x80600000)		/* 4K pages mapped by host_map() */
#define HOST_1G_VA	(PRIV_VA + 0xc0000000)		/* the gigabyte in which the region lies */
extern u64 host_pt, host_pd;
/* Maps one page at HOST_ANY_VA; returns its address. */
u64 host_map(u64 pa);

struct mbox {
	u64 op, rax, rbx, rcx, rdx, rsi, rdi, r8, flags;
	u64 out_rax, out_rbx, out_rcx, out_rdx, out_flags;
	s64 vector;
	u64 error, cr2, rip, rsp, count, stop, ticks;
};

extern struct mbox *host_mbox;

/* Runs the operation in host_mbox on this processor, interrupts off, on the page tables above. */
void host_run(void);
/* rax, rcx, rdx, rdi; returns rax. host_mbox has the rest. */
u64 host_op(int op, u64 rax, u64 rcx, u64 rdx, u64 rdi);
#define HOST_OK		(host_mbox->vector == -1)

struct rmpupdate_arg {
	u64 gpa;
	u8 assigned, size, immutable, rsvd;
	u32 asid;
} __packed;

/* Status; ~0 if it raised an exception. */
u64 rmpupdate_raw(u64 spa, struct rmpupdate_arg a);
/* The same, and announces a refusal. */
u64 rmpupdate_want(u64 spa, struct rmpupdate_arg a, u64 want);
u64 psmash_want(u64 spa, u64 want);
u64 psmash_raw(u64 spa);

/* Gives it to a guest or the firmware; checked. */
bool assign(u64 pa, u32 asid, u64 gpa, bool immutable);
bool unassign(u64 pa);

/* --- psp.c --- */

/* SNP is initialised. */
extern bool snp_up;
int psp_init(void);
void psp_exit(void);
/* Status of the command, with the buffer at that address. */
u32 psp_raw(u32 cmd, u64 buf_pa);
/*
 * Copies the buffer to a page, in the state that the command wants it, runs the command and copies it back.
 * Announces a refusal. Returns the status.
 */
u32 psp_want(u32 cmd, void *buf, size_t len, u32 want);
/* The same, for a refusal whose line in the log has to give that reason. */
u32 psp_refuses(u32 cmd, void *buf, size_t len, const char *reason);
/* For sequences that have to work: notes a failure. */
bool psp_ok(u32 cmd, void *buf, size_t len);
const char *psp_name(u32 cmd);
bool psp_writes_back(u32 cmd);
void wbinvd_all(void);
bool df_flush(void);

struct sguest {
	u64 gctx;
	u32 asid;
	bool in_use;		/* launch finished */
};

#define POLICY_SMT	BIT_ULL(16)
#define POLICY_RSVD1	BIT_ULL(17)
#define POLICY_DEBUG	BIT_ULL(19)
#define POLICY		(POLICY_SMT | POLICY_RSVD1 | POLICY_DEBUG)

/* ASIDs; no VM of KVM's runs meanwhile. */
#define ASID_LAUNCH	20	/* of the guest whose launch goes on while rows run */
#define ASID_GUEST	21
#define ASID_OTHER	22
#define ASID_SEV	40
#define MIN_SEV_ASID	32
#define MAX_ASID	63

/* A guest whose launch has started: pages become Guest-valid by it. */
extern struct sguest launch;
bool sguest_create(struct sguest *g);				/* context only */
bool sguest_start(struct sguest *g, u64 policy);		/* and LAUNCH_START */
bool sguest_activate(struct sguest *g, u32 asid);
bool sguest_finish(struct sguest *g);
void sguest_destroy(struct sguest *g);				/* its ASID is clean afterwards */
u32 launch_update(struct sguest *g, u64 pa, int type, bool large, u64 perms, u32 want);
u32 snp_reclaim(u64 pa, bool large);
u32 snp_decommission(u64 gctx);
int launch_init(void);
void launch_exit(void);
/* What the guest sees in its page, by SNP_DBG_DECRYPT. */
bool guest_peek(struct sguest *g, u64 pa, void *buf);

/* --- guest.c --- */

enum kind { KIND_PLAIN, KIND_SEV, KIND_ES, KIND_SNP };

struct regs {
	u64 rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
};

struct vcpu {
	u64 vmcb, vmsa;
	struct regs regs;
};

struct vm {
	enum kind kind;
	struct sguest snp;
	u32 handle, asid;
	u64 ncr3, npd, npt0, npt1;
	struct vcpu cpu[2];		/* in SNP guests, the second one is at VMPL1 */
	struct mbox *mbox;
};

/* Slots in the guest's first 2 MiB: data pages that it can use from the start... */
#define GPA_DATA	0x20000
#define DATA_PAGES	16
/* ... and addresses where rows map what they like. */
#define GPA_SLOT	0x40000
/* One of these is a page directory, that of TABLE_VA. */
#define GPA_TABLE	(GPA_SLOT + 0xf000)
#define TABLE_VA	(PRIV_VA + 0x80000000)
/* Behind the last page directory: #PF. */
#define NO_TABLE_VA	(PRIV_VA + 0xc0000000)
/* 2 MiB of guest memory, mapped to "region" by 4K or 2M nested entries. */
#define GPA_LARGE	0x200000
/* Never mapped: MMIO. */
#define GPA_MMIO	0x3000000

/* How a guest's operation ended. */
struct outcome {
	u64 exit, info1, info2;		/* first exit that wasn't the end of the operation */
	u64 rip, next_rip;		/* at that exit; RIP is not known of SEV-ES guests */
	u8 insn_len, insn[15];
	bool exited;
	bool done;
	s64 vector;
	u64 error, cr2, rax, rbx, rcx, rdx, flags;
};

bool vm_create(struct vm *vm, enum kind kind);
/* For the next vm_create(): SEV features besides SNP; and stop before LAUNCH_FINISH. */
extern u64 vm_features;
extern bool vm_unfinished;
/* VMRUN with VM_HSAVE_PA = 0. */
extern bool vm_no_hsave;
void vm_destroy(struct vm *vm);
void vm_npt(struct vm *vm, u64 gpa, u64 pte);
#define NPT_RW	7ULL
#define NPT_2M	0x80ULL
/* 4K: gpa .. gpa+2M by "region"'s pages; else one 2M entry. */
void vm_npt_large(struct vm *vm, bool large);
u64 vm_spa(u64 gpa);
/* One VMRUN. False if VMRUN itself raised an exception. */
bool vm_enter(struct vm *vm, int cpu);
/* The code of ops.S at a guest's RIP. */
const u8 *vm_code(u64 rip);
struct outcome vm_op(struct vm *vm, int cpu, int op, u64 rax, u64 rcx, u64 rdx, u64 rdi);

static inline u64 priv(u64 gpa)
{
	return PRIV_VA + gpa;
}

static inline u64 shared(u64 gpa)
{
	return SHARED_VA + gpa;
}

#endif
