// SPDX-License-Identifier: GPL-2.0-only
/*
 * Helpers of tests of guest_memfd whose memory is converted in place.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/align.h>
#include <linux/falloc.h>
/* io_uring.h takes it for granted. */
#include <linux/stddef.h>
#include <linux/io_uring.h>
#include <linux/sizes.h>

#include "guest_memfd.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#include "../../../../../mm/gup_test.h"

#define page_size	((size_t)getpagesize())

void gmem_open(struct gmem *g, u64 size, u64 flags)
{
	g->vm = vm_create_barebones_type(IN_PLACE_VM_TYPE);
	g->size = size;
	g->fd = vm_create_guest_memfd(g->vm, g->size, flags);
}

void gmem_map(struct gmem *g)
{
	g->mem = kvm_mmap(g->size, PROT_READ | PROT_WRITE, MAP_SHARED, g->fd);
}

void gmem_close(struct gmem *g)
{
	if (g->mem)
		kvm_munmap(g->mem, g->size);
	if (g->fd >= 0)
		kvm_close(g->fd);
	kvm_vm_free(g->vm);
}

/* Convert, and return 0 or the errno. */
int convert(int fd, u64 offset, u64 size, u64 attributes, u64 flags,
	    u64 *error_offset)
{
	u64 where = UNTOUCHED;
	int ret;

	ret = __gmem_set_memory_attributes(fd, offset, size, attributes, flags,
					   &where) ? errno : 0;
	if (error_offset)
		*error_offset = where;
	return ret;
}

/* As above, in pages of a file. */
int convert_pages(struct gmem *g, u64 page, u64 nr, u64 attributes,
		  u64 flags, u64 *error_page)
{
	u64 where;
	int ret;

	ret = convert(g->fd, page * page_size, nr * page_size, attributes, flags,
		      &where);
	if (error_page)
		*error_page = where == UNTOUCHED ? UNTOUCHED : where / page_size;
	return ret;
}

/*
 * Find the first shared page without touching anything: ZERO isn't supported to
 * private, but a call that has nothing to do succeeds.
 */
u64 first_shared(int fd, u64 offset, u64 size)
{
	u64 where;
	int ret;

	ret = convert(fd, offset, size, PRIVATE, ZERO, &where);
	if (!ret)
		return offset + size;

	TEST_ASSERT(ret == EOPNOTSUPP, "Asking for the state failed, errno = %d", ret);
	TEST_ASSERT(where >= offset && where < offset + size,
		    "error_offset 0x%lx isn't in [0x%lx, 0x%lx)", where, offset,
		    offset + size);
	return where;
}

bool is_private(int fd, u64 offset)
{
	return first_shared(fd, offset, page_size) != offset;
}

static __thread sigjmp_buf sigbus_jmpbuf;
static __thread bool sigbus_expected;

static void sigbus_handler(int sig)
{
	if (READ_ONCE(sigbus_expected)) {
		WRITE_ONCE(sigbus_expected, false);
		siglongjmp(sigbus_jmpbuf, 1);
	}

	/* Die of the access when it is repeated. */
	signal(SIGBUS, SIG_DFL);
}

/* For host_access(), see below. */
void gmem_catch_sigbus(void)
{
	struct sigaction sa = { .sa_handler = sigbus_handler };

	sigaction(SIGBUS, &sa, NULL);
}

/* Skip the test unless there are VMs whose memory is converted in place. */
void gmem_require_in_place(void)
{
#ifdef __x86_64__
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(IN_PLACE_VM_TYPE));
#elif defined(__aarch64__)
	__TEST_REQUIRE(page_size == SZ_4K, "sizes are chosen for pages of 4 KiB");
	__TEST_REQUIRE(kvm_has_protected_vms(),
		       "protected VMs need kvm-arm.mode=protected");
#endif
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES) & PRIVATE);

	gmem_catch_sigbus();
}

/* Return whether the access went without a SIGBUS. */
bool host_access(enum host_access access, void *addr)
{
	u64 *word = (u64 *)ALIGN_DOWN((uintptr_t)addr, sizeof(u64));

	if (sigsetjmp(sigbus_jmpbuf, 1))
		return false;

	WRITE_ONCE(sigbus_expected, true);

	switch (access) {
	case HOST_READ:
		(void)READ_ONCE(*word);
		break;
	case HOST_WRITE:
		WRITE_ONCE(*word, READ_ONCE(*word));
		break;
	case HOST_ADD:
		__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
		break;
	case HOST_POISON:
		(void)!madvise(addr, page_size, MADV_HWPOISON);
		break;
	}

	WRITE_ONCE(sigbus_expected, false);
	return true;
}

void host_fill(struct gmem *g, u64 page, u64 nr, u64 seed)
{
	u64 i;

	for (i = page; i < page + nr; i++) {
		WRITE_ONCE(*first_word(g->mem + i * page_size), seed + i);
		WRITE_ONCE(*last_word(g->mem + i * page_size), seed + i);
	}
}

/* Return the first page that isn't what host_fill() made it. */
u64 host_match(struct gmem *g, u64 page, u64 nr, u64 seed)
{
	u64 i;

	for (i = page; i < page + nr; i++) {
		if (READ_ONCE(*first_word(g->mem + i * page_size)) != seed + i ||
		    READ_ONCE(*last_word(g->mem + i * page_size)) != seed + i)
			return i;
	}
	return ALL;
}

u64 host_match_byte(struct gmem *g, u64 page, u64 nr, u8 byte)
{
	u64 i, j;

	for (i = page; i < page + nr; i++) {
		for (j = 0; j < page_size; j++) {
			if (READ_ONCE(g->mem[i * page_size + j]) != byte)
				return i;
		}
	}
	return ALL;
}

/* Return the first page that isn't in the given state as far as the host sees. */
u64 host_match_state(struct gmem *g, u64 page, u64 nr, u64 attributes)
{
	const bool private = attributes == PRIVATE;
	u64 i;

	for (i = page; i < page + nr; i++) {
		if (can_read(g->mem + i * page_size) == private ||
		    is_private(g->fd, i * page_size) != private)
			return i;
	}
	return ALL;
}

u64 pagemap_entry(const void *addr)
{
	u64 entry;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY);
	if (fd < 0)
		return 0;

	if (pread(fd, &entry, sizeof(entry),
		  (uintptr_t)addr / page_size * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry;
}

u64 nr_host_mapped(struct gmem *g)
{
	u64 i, nr = 0;

	for (i = 0; i < g->size / page_size; i++)
		nr += !!(pagemap_entry(g->mem + i * page_size) & PM_PRESENT);
	return nr;
}

/* How many pages the file has, be they private or shared. */
u64 nr_allocated(struct gmem *g)
{
	const u64 nr_pages = g->size / page_size;
	struct cachestat_range range = {};
	struct cachestat cs;
	u64 i, nr = 0;
	u8 *vec;

	if (!syscall(__NR_cachestat, g->fd, &range, &cs, 0))
		return cs.nr_cache;

	/* The next best: pages that have been used. */
	vec = malloc(nr_pages);
	TEST_ASSERT(vec && !mincore(g->mem, g->size, vec), "mincore() failed");
	for (i = 0; i < nr_pages; i++)
		nr += vec[i] & 1;
	free(vec);
	return nr;
}

void punch_hole(struct gmem *g, u64 page, u64 nr)
{
	kvm_fallocate(g->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
		      page * page_size, nr * page_size);
}

/* Run @fn in a child process, which shares all files, and return its exit code. */
int run_in_child(int (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid)
		_exit(fn(arg));

	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status),
		    "The child died, status = 0x%x", status);
	return WEXITSTATUS(status);
}

bool poison_shared(struct gmem *g, u64 page)
{
	/* The memory failure is reported to whoever has the page mapped. */
	host_access(HOST_POISON, g->mem + page * page_size);
	return !can_read(g->mem + page * page_size);
}

bool poison_pfn(u64 pfn)
{
	const char *path = "/sys/kernel/debug/hwpoison/corrupt-pfn";
	char str[32];

	if (!pfn || access(path, W_OK))
		return false;

	/* The write fails if the page is still in use, as those of files are. */
	snprintf(str, sizeof(str), "0x%lx", pfn);
	write_str(path, str);
	return true;
}

/* Return NULL or the reason why there is no such way to pin pages here. */
const char *pin_take(struct pin *p, enum pin_type type, void *addr, u64 size)
{
	struct iovec iov = { .iov_base = addr, .iov_len = size };
	struct pin_longterm_test args = {
		.addr = (uintptr_t)addr,
		.size = size,
	};
	struct io_uring_params params = {};

	p->type = type;

	switch (type) {
	case PIN_GUP_FAST:
		args.flags |= PIN_LONGTERM_TEST_FLAG_USE_FAST;
		fallthrough;
	case PIN_GUP_WRITE:
		args.flags |= PIN_LONGTERM_TEST_FLAG_USE_WRITE;
		fallthrough;
	case PIN_GUP:
		p->fd = open("/sys/kernel/debug/gup_test", O_RDWR);
		if (p->fd < 0)
			return "CONFIG_GUP_TEST or root is missing";
		TEST_ASSERT(!ioctl(p->fd, PIN_LONGTERM_TEST_START, &args),
			    "PIN_LONGTERM_TEST_START failed, errno = %d", errno);
		break;
	case PIN_IO_URING:
		p->fd = syscall(__NR_io_uring_setup, 1, &params);
		if (p->fd < 0)
			return "io_uring is missing or forbidden";
		TEST_ASSERT(!syscall(__NR_io_uring_register, p->fd,
				     IORING_REGISTER_BUFFERS, &iov, 1),
			    "IORING_REGISTER_BUFFERS failed, errno = %d", errno);
		break;
	case PIN_VMSPLICE:
		TEST_ASSERT(!pipe(p->pipe), "pipe() failed");
		TEST_ASSERT(vmsplice(p->pipe[1], &iov, 1, 0) == (ssize_t)size,
			    "vmsplice() failed, errno = %d", errno);
		break;
	}
	return NULL;
}

/* What is in the pages, as seen by whoever holds on to them. */
void pin_read(struct pin *p, u8 *buf, u64 size)
{
	__u64 addr = (uintptr_t)buf;
	ssize_t ret;

	if (p->type == PIN_VMSPLICE) {
		for (; size; size -= ret, buf += ret) {
			ret = read(p->pipe[0], buf, size);
			TEST_ASSERT(ret > 0, "read() of a pipe failed");
		}
	} else if (p->type != PIN_IO_URING) {
		TEST_ASSERT(!ioctl(p->fd, PIN_LONGTERM_TEST_READ, &addr),
			    "PIN_LONGTERM_TEST_READ failed, errno = %d", errno);
	}
}

void pin_drop(struct pin *p)
{
	switch (p->type) {
	case PIN_IO_URING:
		TEST_ASSERT(!syscall(__NR_io_uring_register, p->fd,
				     IORING_UNREGISTER_BUFFERS, NULL, 0),
			    "IORING_UNREGISTER_BUFFERS failed, errno = %d", errno);
		kvm_close(p->fd);
		break;
	case PIN_VMSPLICE:
		kvm_close(p->pipe[0]);
		kvm_close(p->pipe[1]);
		break;
	default:
		TEST_ASSERT(!ioctl(p->fd, PIN_LONGTERM_TEST_STOP),
			    "PIN_LONGTERM_TEST_STOP failed, errno = %d", errno);
		kvm_close(p->fd);
		break;
	}
}

void pin_pages(struct pin *p, enum pin_type type, struct gmem *g, u64 page, u64 nr)
{
	const char *reason = pin_take(p, type, g->mem + page * page_size, nr * page_size);

	TEST_ASSERT(!reason, "Can't pin pages: %s", reason);
}
