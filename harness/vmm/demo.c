// SPDX-License-Identifier: GPL-2.0
/*
 * What the VMMs of both architectures have in common.
 *
 * The first part, up to area_convert_in_place(), is what any VMM needs that converts
 * guest memory in place.  The rest is for showing it: a table, accesses of the host
 * that may fail, pins, counters.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>

#include "demo.h"

/* ------------------------------------------------------------------------ */
/* Parts of a VM								*/

int create_gmem(int vm, size_t size, uint64_t flags)
{
	struct kvm_create_guest_memfd gmem = {
		.size = size,
		.flags = flags,
	};

	return ioctl(vm, KVM_CREATE_GUEST_MEMFD, &gmem);
}

/*
 * Let the VM find the memory.  userspace_addr is for what is shared.  In place, it is a
 * mapping of the same file, so that KVM too finds shared memory where the VMM
 * sees it.
 */
void area_add(struct area *area, int vm, int slot)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = area->gpa,
		.memory_size = area->size,
		.userspace_addr = (uintptr_t)area->host,
		.guest_memfd = area->gmem,
	};

	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region))
		err(1, "KVM_SET_USER_MEMORY_REGION2");
}

void area_destroy(struct area *area)
{
	munmap(area->host, area->size);
	close(area->gmem);
}

struct kvm_run *map_run(int kvm, int vcpu, size_t *size)
{
	void *run;

	*size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "mmap of kvm_run");
	return run;
}

/* ------------------------------------------------------------------------ */
/* Converting								*/

/*
 * Host memory handed to a device or a system call that holds its pages.  A VMM
 * must know these, because a page that is held cannot become private.
 */
struct pin {
	int fd;
	bool ring;
	uint64_t offset;
	uint64_t size;
};

#define MAX_PINS	4
static struct pin pins[MAX_PINS];
static int nr_pins;

/* One attempt, as the kernel answers it: 0 or -errno, and the error's offset. */
int convert_once(struct area *area, uint64_t offset, uint64_t size,
		 bool private, uint64_t mode, uint64_t *error_offset)
{
	struct kvm_memory_attributes2 attr = {
		.offset = offset,
		.size = size,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
		.flags = mode,
		.error_offset = UINT64_MAX,
	};
	int ret;

	ret = ioctl(area->gmem, KVM_SET_MEMORY_ATTRIBUTES2, &attr) ? -errno : 0;
	*error_offset = attr.error_offset;
	return ret;
}

/* Give back every pin that covers @offset.  Returns how many there were. */
static int drop_pins(uint64_t offset)
{
	int i, dropped = 0;

	for (i = 0; i < nr_pins; ) {
		struct pin *pin = &pins[i];

		if (offset < pin->offset || offset - pin->offset >= pin->size) {
			i++;
			continue;
		}

		/* Closing a ring unpins its buffers some time later, this at once. */
		if (pin->ring)
			syscall(__NR_io_uring_register, pin->fd,
				IORING_UNREGISTER_BUFFERS, NULL, 0);
		close(pin->fd);
		*pin = pins[--nr_pins];
		dropped++;
	}
	return dropped;
}

/*
 * Convert a range of the file.  A conversion is all or nothing: after an error
 * every page has the state and the contents that it had before, and the same
 * call may simply be repeated.
 *
 * EAGAIN: a page on its way to private is in use, error_offset says which.  Drop
 * what this VMM holds there.  If it holds nothing, somebody else does, or the
 * release is still under way: give it a moment, but not for ever.  A VMM which
 * maps guest memory for devices unmaps the range from the IOMMU before it is
 * made private, and maps it again after it has been made shared.
 *
 * EINTR: a signal came before anything was done.
 *
 * ENOMEM may be repeated too, once there is memory again.  The other errors
 * tell of a wrong call, a dead VM or broken memory: repeating mends none of it.
 */
int area_convert_in_place(struct area *area, uint64_t offset, uint64_t size,
			  bool private, uint64_t mode)
{
	const struct timespec moment = { .tv_nsec = 1000 * 1000 };
	int ret, tries = 1000;
	uint64_t where;

	for (;;) {
		ret = convert_once(area, offset, size, private, mode, &where);
		if (ret == -EINTR)
			continue;
		if (ret != -EAGAIN || !tries--)
			return ret;
		if (!drop_pins(where))
			nanosleep(&moment, NULL);
	}
}

/* ------------------------------------------------------------------------ */
/* The table								*/

static int nr_passed, nr_failed;

/* A string for a table cell.  This program is too short-lived to free them. */
char *text(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		err(1, "no memory");
	va_end(ap);
	return s;
}

void heading(const char *title)
{
	printf("\n%-56s  %-22s  %-22s\n", title, "expected", "seen");
	printf("--------------------------------------------------------"
	       "  ----------------------  ----------------------  ----\n");
}

void row(const char *what, const char *want, const char *seen, bool pass)
{
	printf("%-56s  %-22s  %-22s  %s\n", what, want, seen, pass ? "pass" : "FAIL");
	fflush(stdout);
	if (pass)
		nr_passed++;
	else
		nr_failed++;
}

/* A row passes if what was seen reads like what was expected. */
void expect(const char *what, const char *want, const char *seen)
{
	row(what, want, seen, !strcmp(want, seen));
}

void note(const char *what, const char *seen)
{
	printf("%-56s  %-22s  %-22s  skip\n", what, "", seen);
}

const char *answer(int ret)
{
	return ret ? strerrorname_np(-ret) : "done";
}

/* The answer to a conversion that fails for a page, and which page. */
const char *answer_at(int ret, uint64_t where)
{
	return ret ? text("%s at 0x%lx", strerrorname_np(-ret), where) : "done";
}

const char *hex(uint32_t value)
{
	return text("0x%x", value);
}

void progress(const char *what)
{
	fputs(what, stdout);
	fflush(stdout);
}

/* The last line.  Returns the exit status. */
int sum_up(void)
{
	printf("\n%d passed, %d failed\n", nr_passed, nr_failed);
	return nr_failed ? 1 : 0;
}

/* ------------------------------------------------------------------------ */
/* Host accesses that may fail						*/

static sigjmp_buf sigbus_env;

static void on_sigbus(int sig)
{
	(void)sig;
	siglongjmp(sigbus_env, 1);
}

void catch_sigbus(void)
{
	struct sigaction sa = { .sa_handler = on_sigbus };

	sigaction(SIGBUS, &sa, NULL);
}

/* What the host sees at @offset of the file: a value, or SIGBUS. */
const char *host_get(struct area *area, uint64_t offset)
{
	if (sigsetjmp(sigbus_env, 1))
		return "SIGBUS";

	return hex(*(volatile uint32_t *)(area->host + offset));
}

void host_set(struct area *area, uint64_t offset, uint32_t value)
{
	*(volatile uint32_t *)(area->host + offset) = value;
}

/* A system call that stores to @offset of the file. */
const char *host_read_syscall(struct area *area, uint64_t offset)
{
	int pipefd[2], ret;

	if (pipe(pipefd) || write(pipefd[1], "beef", 4) != 4)
		err(1, "pipe");
	ret = read(pipefd[0], area->host + offset, 4) == 4 ? 0 : -errno;
	close(pipefd[0]);
	close(pipefd[1]);
	return answer(ret);
}

size_t nonzero_bytes(const uint8_t *p, size_t size)
{
	size_t i, n = 0;

	for (i = 0; i < size; i++)
		n += p[i] != 0;
	return n;
}

/*
 * The physical pages behind a host mapping that has been touched, 0 where the
 * kernel does not tell (it tells root only).
 */
void get_pfns(const void *addr, size_t pages, uint64_t *pfns)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	size_t i;

	memset(pfns, 0, pages * sizeof(*pfns));
	if (fd < 0)
		return;
	if (pread(fd, pfns, pages * sizeof(*pfns),
		  (uintptr_t)addr / PAGE * sizeof(*pfns)) < 0)
		warn("/proc/self/pagemap");
	close(fd);

	/* Bit 63: present.  Bits 0-54: page frame number. */
	for (i = 0; i < pages; i++)
		pfns[i] = pfns[i] >> 63 ? pfns[i] & ((1ULL << 55) - 1) : 0;
}

/* Show that the page at @addr is the physical page that it was @before. */
void expect_pfn(uint64_t before, const void *addr)
{
	uint64_t after;

	get_pfns(addr, 1, &after);
	if (before)
		expect("physical page", text("pfn 0x%lx", before), text("pfn 0x%lx", after));
	else
		note("physical page", "not root");
}

/* ------------------------------------------------------------------------ */
/* Pins									*/

static void remember_pin(int fd, bool ring, uint64_t offset, uint64_t size)
{
	if (nr_pins == MAX_PINS)
		errx(1, "too many pins");
	pins[nr_pins++] = (struct pin){
		.fd = fd, .ring = ring, .offset = offset, .size = size,
	};
}

/* A pipe holds the page until somebody reads it. */
int pin_in_pipe(struct area *area, uint64_t offset)
{
	struct iovec iov = { .iov_base = area->host + offset, .iov_len = PAGE };
	int pipefd[2];

	if (pipe(pipefd))
		return -errno;
	if (vmsplice(pipefd[1], &iov, 1, 0) != (ssize_t)PAGE)
		return -errno;
	close(pipefd[1]);
	remember_pin(pipefd[0], false, offset, PAGE);
	return 0;
}

/* A registered buffer is pinned for good, as for DMA. */
int pin_in_ring(struct area *area, uint64_t offset)
{
	struct iovec iov = { .iov_base = area->host + offset, .iov_len = PAGE };
	struct io_uring_params params = { };
	int ring;

	ring = syscall(__NR_io_uring_setup, 1, &params);
	if (ring < 0)
		return -errno;
	if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1)) {
		int ret = -errno;

		close(ring);
		return ret;
	}
	remember_pin(ring, true, offset, PAGE);
	return 0;
}

int pins_left(void)
{
	return nr_pins;
}

/* ------------------------------------------------------------------------ */
/* What is shown: capabilities						*/

int check_cap(int fd, long cap)
{
	int ret = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	return ret < 0 ? 0 : ret;
}

const char *modes(uint64_t mask)
{
	switch (mask) {
	case 0:
		return "none";
	case ZERO:
		return "ZERO";
	case PRESERVE:
		return "PRESERVE";
	case ZERO | PRESERVE:
		return "ZERO, PRESERVE";
	default:
		return text("0x%lx", mask);
	}
}

/* @plain: a VM of a type that has no private memory */
void show_capabilities(int kvm, int vm, int plain)
{
	int attrs = KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES;
	int flags = KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS;
	int host, cap;

	if (plain < 0)
		err(1, "KVM_CREATE_VM");

	heading("What the kernel says it can do");

	expect("/dev/kvm: attributes that a file may hold", "0x8 (private)",
	       text("0x%x (private)", check_cap(kvm, attrs)));
	expect("this VM: attributes that a file may hold", "0x8 (private)",
	       text("0x%x (private)", check_cap(vm, attrs)));
	expect("a VM without private memory: the same", "0x0",
	       text("0x%x", check_cap(plain, attrs)));

	cap = check_cap(vm, flags);
	expect("this VM: content modes to shared", "ZERO, PRESERVE",
	       modes(KVM_MEMORY_ATTRIBUTES2_TO_SHARED(cap)));
	expect("this VM: content modes to private", "PRESERVE",
	       modes(KVM_MEMORY_ATTRIBUTES2_TO_PRIVATE(cap)));

	host = check_cap(kvm, flags);
	row("/dev/kvm: at least these modes", text("0x%x", cap), text("0x%x", host),
	    host && (host & cap) == cap);

	expect("this VM: files that can be mapped and start shared", "0x3",
	       text("0x%x", check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS)));
}

/*
 * Without the capability nothing makes sense.  @no_vm_type says why there are no VMs
 * of the type that the program needs, if so.
 */
void require_capability(const char *(*no_vm_type)(int kvm))
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	const char *problem;

	if (kvm < 0)
		problem = text("There is no usable /dev/kvm: %s.", strerror(errno));
	else
		problem = no_vm_type(kvm);

	if (!problem && !(check_cap(kvm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES) &
			  KVM_MEMORY_ATTRIBUTE_PRIVATE))
		problem = "This kernel cannot convert a guest_memfd in place: "
			  "KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES is missing.";

	if (kvm >= 0)
		close(kvm);
	if (problem) {
		printf("%s\n0 passed, 1 failed\n", problem);
		exit(1);
	}
}

/* ------------------------------------------------------------------------ */
/* What is shown: a large area flipped back and forth			*/

const char * const step_name[NR_STEPS] = {
	[TO_PRIVATE]	= "convert to private",
	[GUEST_PRIVATE]	= "guest touches every page",
	[TO_SHARED]	= "convert to shared",
	[HOST_SHARED]	= "host touches every page",
	[GUEST_SHARED]	= "guest touches every page",
};

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

/*
 * Pages that hold guest memory: those of guest_memfd are file pages, the other
 * backing is anonymous memory.  Counted for the whole machine, because the
 * private pages of the two-backings way belong to no process's counters.
 */
static long backing_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	long kib, sum = 0;
	char line[128];

	if (!f)
		err(1, "/proc/meminfo");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Cached: %ld", &kib) == 1 ||
		    sscanf(line, "AnonPages: %ld", &kib) == 1)
			sum += kib;
	fclose(f);
	return sum;
}

/* How much there is above @base.  The counters lag a little, either way. */
static long held_kib(long base)
{
	long kib = backing_kib() - base;

	return kib > 0 ? kib : 0;
}

/* Check the first word of each page, and leave another.  guest_touch() does the same. */
static size_t host_touch(struct area *area, uint32_t expect, uint32_t leave)
{
	size_t offset, wrong = 0;

	for (offset = 0; offset < area->size; offset += PAGE) {
		volatile uint32_t *word = (uint32_t *)(area->host + offset);
		uint32_t gpa = area->gpa + offset;

		wrong += *word != expect + gpa;
		*word = leave + gpa;
	}
	return wrong;
}

static void do_step(struct area *area, enum step step, struct flips *flips)
{
	/* Each side leaves something else, so that stale contents show. */
	const uint32_t by_host = 0xa0000000, by_guest = 0xb0000000;

	switch (step) {
	case TO_PRIVATE:
		flips->ret = flip_area(area, true);
		break;
	case GUEST_PRIVATE:
		flips->wrong += guest_touch(area, by_host, by_guest);
		break;
	case TO_SHARED:
		flips->ret = flip_area(area, false);
		break;
	case HOST_SHARED:
		flips->wrong += host_touch(area, by_guest, by_host);
		break;
	case GUEST_SHARED:
		flips->wrong += guest_touch(area, by_host, by_host);
		break;
	default:
		break;
	}
}

/* To be called before there is any guest memory. */
void flips_begin(struct flips *flips, size_t size)
{
	flips->size = size;
	flips->before = calloc(size / PAGE, sizeof(*flips->before));
	flips->now = calloc(size / PAGE, sizeof(*flips->now));
	if (!flips->before || !flips->now)
		err(1, "no memory");

	/* Have these arrays counted before, not as guest memory. */
	memset(flips->before, 1, size / PAGE * sizeof(*flips->before));
	memset(flips->now, 1, size / PAGE * sizeof(*flips->now));

	flips->base = backing_kib();
}

/* @area is all shared. */
void flips_run(struct flips *flips, struct area *area, int rounds)
{
	enum step step;
	long held;
	int round;
	size_t i;

	/* Start populated, and mapped by host and guest. */
	do_step(area, HOST_SHARED, flips);
	do_step(area, GUEST_SHARED, flips);
	flips->wrong = 0;
	get_pfns(area->host, area->size / PAGE, flips->before);
	flips->rest = held_kib(flips->base);
	flips->peak = flips->rest;

	for (round = 0; round < rounds && !flips->ret; round++) {
		for (step = 0; step < NR_STEPS && !flips->ret; step++) {
			double start = now_ms(), ms;

			do_step(area, step, flips);
			ms = now_ms() - start;
			if (!round || ms < flips->best[step])
				flips->best[step] = ms;

			held = held_kib(flips->base);
			if (held > flips->peak)
				flips->peak = held;
		}
	}
	for (step = 0; step < NR_STEPS; step++)
		flips->total += flips->best[step];
	flips->conversions = flips->best[TO_PRIVATE] + flips->best[TO_SHARED];

	flips->after = held_kib(flips->base);
	get_pfns(area->host, area->size / PAGE, flips->now);
	flips->pfns_known = flips->before[0];
	for (i = 0; i < area->size / PAGE; i++)
		flips->moved += flips->before[i] != flips->now[i];
}

/* To be called when the memory and its VM are gone. */
void flips_end(struct flips *flips)
{
	flips->closed = held_kib(flips->base);
	free(flips->before);
	free(flips->now);
}

/* @what: how many conversions these were */
void flips_expect(const struct flips *flips, const char *what)
{
	/* The kernel's counters are exact to some pages for each CPU only. */
	const long slack = 4 * 1024, size_kib = flips->size / 1024;

	expect(what, "done", answer(flips->ret));
	expect("pages whose contents were lost on the way", "0", text("%zu", flips->wrong));
	if (flips->pfns_known)
		expect("pages that are other physical pages now", "0",
		       text("%zu", flips->moved));
	else
		note("pages that are other physical pages now", "not root");
	row("memory held at most", text("up to %ld MiB", (size_kib + slack) / 1024),
	    text("%.0f MiB", flips->peak / 1024.0), flips->peak <= size_kib + slack);
	row("memory held after closing", text("up to %ld MiB", slack / 1024),
	    text("%.0f MiB", flips->closed / 1024.0), flips->closed <= slack);
}

/* ------------------------------------------------------------------------ */
/* Options								*/

static void usage(const struct options *options, FILE *to)
{
	fprintf(to,
		"usage: %s [--size MiB] [--rounds N] [--help]\n"
		"\n"
		"Shows how a guest_memfd is converted in place between private and shared.\n"
		"\n"
		"  --size MiB   guest memory to flip back and forth, 1 to %zu (%zu)\n"
		"  --rounds N   round trips to make with it (%d)\n"
		"  --help       this text\n"
		"\n"
		"The exit status is 0 if everything is as expected.\n",
		options->program, options->max_mib, options->mib, options->rounds);
}

static long number(const struct options *options, const char *arg, long max)
{
	char *end;
	long n = strtol(arg, &end, 0);

	if (end == arg || *end || n < 1 || n > max) {
		usage(options, stderr);
		exit(2);
	}
	return n;
}

/* Ends the program if there is a mistake, or a call for help. */
void parse_options(struct options *options, int argc, char *argv[])
{
	static const struct option known[] = {
		{ "size", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	const struct options defaults = *options;
	int opt;

	while ((opt = getopt_long(argc, argv, "s:r:h", known, NULL)) != -1) {
		switch (opt) {
		case 's':
			options->mib = number(&defaults, optarg, options->max_mib);
			break;
		case 'r':
			options->rounds = number(&defaults, optarg, 1000);
			break;
		case 'h':
			usage(&defaults, stdout);
			exit(0);
		default:
			usage(&defaults, stderr);
			exit(2);
		}
	}
	if (optind != argc) {
		usage(&defaults, stderr);
		exit(2);
	}
}
