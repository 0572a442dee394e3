/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers of tests of guest_memfd whose memory is converted in place.
 */
#ifndef SELFTEST_KVM_GUEST_MEMFD_H
#define SELFTEST_KVM_GUEST_MEMFD_H

#include "kvm_util.h"

#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE
#define SHARED		0ull

#define UNSPECIFIED	KVM_SET_MEMORY_ATTRIBUTES2_MODE_UNSPECIFIED
#define ZERO		KVM_SET_MEMORY_ATTRIBUTES2_ZERO
#define PRESERVE	KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE

#define IN_PLACE	(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)

#ifdef __x86_64__
#define IN_PLACE_VM_TYPE	KVM_X86_SW_PROTECTED_VM
#elif defined(__aarch64__)
#define IN_PLACE_VM_TYPE	KVM_VM_TYPE_ARM_PROTECTED
#endif

/* What error_offset is before a call, and after one that must not write it. */
#define UNTOUCHED	0xdeadbeefcafef00dull

/* As opposed to the first page that isn't as it should be. */
#define ALL		(-1ull)

struct gmem {
	struct kvm_vm *vm;
	int fd;
	u8 *mem;
	u64 size;
};

void gmem_require_in_place(void);
void gmem_catch_sigbus(void);

void gmem_open(struct gmem *g, u64 size, u64 flags);
void gmem_map(struct gmem *g);
void gmem_close(struct gmem *g);

/*
 * Conversions
 */
int convert(int fd, u64 offset, u64 size, u64 attributes, u64 flags,
	    u64 *error_offset);
int convert_pages(struct gmem *g, u64 page, u64 nr, u64 attributes,
		  u64 flags, u64 *error_page);
u64 first_shared(int fd, u64 offset, u64 size);
bool is_private(int fd, u64 offset);

#define ASSERT_CONVERTS(g, page, nr, attributes, flags)				\
do {										\
	u64 __where;								\
										\
	ASSERT_EQ(0, convert_pages(g, page, nr, attributes, flags, &__where)) {	\
		TH_LOG("failed at page %lu", __where);				\
	}									\
	ASSERT_EQ(UNTOUCHED, __where);						\
} while (0)

#define ASSERT_CONVERT_FAILS(err, error_page, g, page, nr, attributes, flags)	\
do {										\
	u64 __where;								\
										\
	ASSERT_EQ(err, convert_pages(g, page, nr, attributes, flags, &__where));\
	ASSERT_EQ(error_page, __where);						\
} while (0)

/*
 * Host accesses
 */
enum host_access {
	HOST_READ,
	HOST_WRITE,
	HOST_ADD,
	HOST_POISON,
};

bool host_access(enum host_access access, void *addr);

static inline bool can_read(void *addr)
{
	return host_access(HOST_READ, addr);
}

static inline bool can_write(void *addr)
{
	return host_access(HOST_WRITE, addr);
}

static inline u64 *first_word(u8 *page)
{
	return (u64 *)page;
}

static inline u64 *last_word(u8 *page)
{
	return (u64 *)(page + getpagesize()) - 1;
}

void host_fill(struct gmem *g, u64 page, u64 nr, u64 seed);
u64 host_match(struct gmem *g, u64 page, u64 nr, u64 seed);
u64 host_match_byte(struct gmem *g, u64 page, u64 nr, u8 byte);
u64 host_match_state(struct gmem *g, u64 page, u64 nr, u64 attributes);

#define ASSERT_HOST_SEES(g, page, nr, seed) \
	ASSERT_EQ(ALL, host_match(g, page, nr, seed))
#define ASSERT_HOST_SEES_BYTE(g, page, nr, byte) \
	ASSERT_EQ(ALL, host_match_byte(g, page, nr, byte))
#define ASSERT_STATE(g, page, nr, attributes) \
	ASSERT_EQ(ALL, host_match_state(g, page, nr, attributes))

#define PM_PRESENT	BIT(63)
#define PM_PFN(entry)	((entry) & GENMASK(54, 0))

u64 pagemap_entry(const void *addr);
u64 nr_host_mapped(struct gmem *g);
u64 nr_allocated(struct gmem *g);

void punch_hole(struct gmem *g, u64 page, u64 nr);
int run_in_child(int (*fn)(void *arg), void *arg);

/*
 * Poisoned memory
 */
bool poison_shared(struct gmem *g, u64 page);
bool poison_pfn(u64 pfn);

/*
 * Users of pages
 */
enum pin_type {
	PIN_GUP,
	PIN_GUP_WRITE,
	PIN_GUP_FAST,
	PIN_IO_URING,
	PIN_VMSPLICE,
};

struct pin {
	enum pin_type type;
	int fd;
	int pipe[2];
};

const char *pin_take(struct pin *p, enum pin_type type, void *addr, u64 size);
void pin_read(struct pin *p, u8 *buf, u64 size);
void pin_drop(struct pin *p);
void pin_pages(struct pin *p, enum pin_type type, struct gmem *g, u64 page, u64 nr);

#endif /* SELFTEST_KVM_GUEST_MEMFD_H */
