/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What gmem-vmm.c (x86) and gmem-vmm-arm64.c have in common, see demo.c.
 */
#ifndef DEMO_H
#define DEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE		4096UL
#define MIB		(1UL << 20)

#define PRESERVE	KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE
#define ZERO		KVM_SET_MEMORY_ATTRIBUTES2_ZERO

/* Guest memory that is converted: a guest_memfd, and the host's mapping of it. */
struct area {
	struct vm *vm;		/* each program has its own kind */
	uint64_t gpa;
	uint8_t *host;
	size_t size;
	int gmem;
};

/* Parts of a VM */
int create_gmem(int vm, size_t size, uint64_t flags);
void area_add(struct area *area, int vm, int slot);
void area_destroy(struct area *area);
struct kvm_run *map_run(int kvm, int vcpu, size_t *size);

/* Converting */
int convert_once(struct area *area, uint64_t offset, uint64_t size, bool private,
		 uint64_t mode, uint64_t *error_offset);
int area_convert_in_place(struct area *area, uint64_t offset, uint64_t size,
			  bool private, uint64_t mode);

/* Pins */
int pin_in_pipe(struct area *area, uint64_t offset);
int pin_in_ring(struct area *area, uint64_t offset);
int pins_left(void);

/* The table */
char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void heading(const char *title);
void row(const char *what, const char *want, const char *seen, bool pass);
void expect(const char *what, const char *want, const char *seen);
void note(const char *what, const char *seen);
const char *answer(int ret);
const char *answer_at(int ret, uint64_t where);
const char *hex(uint32_t value);
void progress(const char *what);
int sum_up(void);

/* Host accesses */
void catch_sigbus(void);
const char *host_get(struct area *area, uint64_t offset);
void host_set(struct area *area, uint64_t offset, uint32_t value);
const char *host_read_syscall(struct area *area, uint64_t offset);
size_t nonzero_bytes(const uint8_t *p, size_t size);
void get_pfns(const void *addr, size_t pages, uint64_t *pfns);
void expect_pfn(uint64_t before, const void *addr);

/* Capabilities */
int check_cap(int fd, long cap);
const char *modes(uint64_t mask);
void show_capabilities(int kvm, int vm, int plain);
void require_capability(const char *(*no_vm_type)(int kvm));

/* A large area flipped back and forth */
enum step {
	TO_PRIVATE,
	GUEST_PRIVATE,
	TO_SHARED,
	HOST_SHARED,
	GUEST_SHARED,
	NR_STEPS,
};

extern const char * const step_name[NR_STEPS];

struct flips {
	const char *name;
	double best[NR_STEPS];		/* ms */
	double conversions, total;	/* ms */
	long base;			/* KiB held by others */
	long rest, peak, after, closed;	/* KiB of guest memory held */
	size_t wrong;			/* pages whose contents did not survive */
	size_t moved;			/* pages that are other physical pages */
	bool pfns_known;
	int ret;
	size_t size;
	uint64_t *before, *now;		/* physical pages */
};

void flips_begin(struct flips *flips, size_t size);
void flips_run(struct flips *flips, struct area *area, int rounds);
void flips_end(struct flips *flips);
void flips_expect(const struct flips *flips, const char *what);

/* For these, each program has its own way. */
int flip_area(struct area *area, bool private);
size_t guest_touch(struct area *area, uint32_t expect, uint32_t leave);

/* Options */
struct options {
	const char *program;
	size_t max_mib;
	size_t mib;			/* these two with their defaults */
	int rounds;
};

void parse_options(struct options *options, int argc, char *argv[]);

#endif /* DEMO_H */
