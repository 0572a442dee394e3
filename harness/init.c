// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the test VM.
 *
 * Mounts what the tests expect, runs each program of /tests.list under a time limit, turns what it
 * prints into cases, and powers the machine off. The first serial port belongs to the kernel; all that
 * is said here goes to the second one, a line a fact, fields separated by tabs:
 *
 *	N text				something worth knowing
 *	S suite seconds			a suite starts and has so long
 *	O text				a line of its output
 *	C verdict case seconds reason	a case is over; pass, fail or skip
 *	E suite seconds			the suite is over
 *	H				still alive
 *	Z				all done; without this line the run has failed
 *
 * The kernel command line says what to do: gmem_mode=test, run (the one program /demo, its output
 * unchanged, then "Z status") or shell; gmem_port=ttyS1 which port is the second one; gmem_log=0xe9 at which I/O
 * port an emulator takes lines for its log, so that what it writes there can be laid at the right suite.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <sys/io.h>
#endif

#define TESTS_DIR	"/tests"
#define CGROUP		"/sys/fs/cgroup/test"
#define HEARTBEAT_MS	10000
/* A program that prints for ever must not fill the disk of the machine outside. */
#define MAX_OUTPUT	(512 * 1024)
#define MAX_DEPTH	8
#define MAX_WORDS	64

static int results = -1;

/* ---- saying things ---- */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void put(const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(results, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		buf += n;
		len -= n;
	}
}

static void __attribute__((format(printf, 1, 2))) emit(const char *fmt, ...)
{
	char buf[4096];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf) - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(buf) - 2)
		n = sizeof(buf) - 2;
	buf[n++] = '\n';
	put(buf, n);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

/* Reads a small file and drops the newline at its end. */
static bool read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	buf[0] = '\0';
	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return false;
	buf[n] = '\0';
	while (n && buf[n - 1] == '\n')
		buf[--n] = '\0';
	return true;
}

/* A mark in the kernel's log, so that a kernel report can be laid at the right door. */
static void mark(const char *suite)
{
	char buf[256];

	snprintf(buf, sizeof(buf), "<5>gmem: now running %s\n", suite);
	write_file("/dev/kmsg", buf);
}

/* The same in the log of the emulator, if it has one. */
static void log_mark(const char *word, const char *suite)
{
#ifdef __x86_64__
	const char *port = getenv("gmem_log");
	char buf[256], *p = buf;

	if (!port || ioperm(strtoul(port, NULL, 0), 1, 1))
		return;
	snprintf(buf, sizeof(buf), "%s %s\n", word, suite);
	while (*p)
		outb(*p++, strtoul(port, NULL, 0));
#else
	(void)word;
	(void)suite;
#endif
}

/* ---- test output into cases ---- */

/* One level of nested TAP. */
struct level {
	char name[128];		/* of the "# Subtest:" that this level belongs to */
	int plan;		/* -1: none yet */
	int seen;
	int failed;
};

struct tap {
	const char *own_name;
	bool is_tap;
	bool skip_all;
	bool bailed;
	bool why_next;
	char reason[256];	/* why everything was skipped, or the last words of a failure */
	int cases;
	int failed;
	double last;		/* when the last case ended; 0: times are not known */
	struct level level[MAX_DEPTH + 1];
};

static void tap_init(struct tap *t, const char *own_name, double start)
{
	int i;

	memset(t, 0, sizeof(*t));
	t->own_name = own_name;
	t->last = start;
	for (i = 0; i <= MAX_DEPTH; i++)
		t->level[i].plan = -1;
}

/* Case names become one word: the summary is a table. */
static void one_word(char *s)
{
	char *start = s, *to = s;
	bool gap = false;

	for (; *s; s++) {
		if (isspace((unsigned char)*s)) {
			gap = true;
			continue;
		}
		if (gap && to != start)
			*to++ = '_';
		gap = false;
		*to++ = *s;
	}
	*to = '\0';
}

static void add_case(struct tap *t, const char *verdict, const char *name, const char *reason)
{
	double s = t->last ? now() - t->last : 0;

	t->cases++;
	if (!strcmp(verdict, "fail"))
		t->failed++;
	if (t->last)
		t->last = now();
	emit("C\t%s\t%s\t%.3f\t%s", verdict, name, s, reason);
}

/* All results of a level are in: were there as many as it promised? */
static void close_level(struct tap *t, int depth, const char *name)
{
	struct level *l = &t->level[depth];

	if (l->plan >= 0 && l->plan != l->seen) {
		char full[512], why[400];

		snprintf(full, sizeof(full), "%s%splan", name, *name ? "." : "");
		one_word(full);
		snprintf(why, sizeof(why), "%d results of %d planned%s%s", l->seen, l->plan,
			 t->reason[0] ? "; " : "", t->reason);
		add_case(t, "fail", full, why);
	}
	l->plan = -1;
	l->seen = 0;
	l->failed = 0;
	l->name[0] = '\0';
}

static void path_of(struct tap *t, int depth, const char *leaf, char *buf, size_t size)
{
	size_t n = 0;
	int i;

	buf[0] = '\0';
	for (i = 1; i <= depth; i++) {
		const char *name = t->level[i].name;

		/* KUnit wraps a suite into a subtest of its own name. */
		if (!*name || (i == 1 && !strcmp(name, t->own_name)))
			continue;
		n += snprintf(buf + n, size - n, "%s.", name);
		if (n >= size)
			return;
	}
	snprintf(buf + n, size - n, "%s", leaf);
	one_word(buf);
}

static void tap_result(struct tap *t, int depth, bool ok, char *s)
{
	struct level *below = &t->level[depth + 1];
	char name[512], number[32], *hash, *reason = "", *end;
	bool skip = false;
	int i;

	/* Levels below the next one were left without a result of their own. */
	for (i = MAX_DEPTH; i > depth + 1; i--)
		close_level(t, i, t->level[i].name);

	/* "3 name # SKIP reason", "3 - name", "3 # SKIP reason", "name" */
	snprintf(number, sizeof(number), "%ld", strtol(s, &end, 10));
	if (end != s)
		s = end;
	while (isspace((unsigned char)*s))
		s++;
	if (!strncmp(s, "- ", 2))
		s += 2;
	hash = strstr(s, "# ");
	if (hash) {
		char *word = hash + 2;

		*hash = '\0';
		if (!strncasecmp(word, "SKIP", 4)) {
			skip = true;
			reason = word + 4;
			while (*reason == ' ' || *reason == ':' || *reason == '-')
				reason++;
		} else if (!strncasecmp(word, "XFAIL", 5)) {
			reason = word;
		}
	}
	for (i = strlen(s); i && isspace((unsigned char)s[i - 1]); i--)
		s[i - 1] = '\0';
	path_of(t, depth, *s ? s : number, name, sizeof(name));

	t->level[depth].seen++;
	if (!ok)
		t->level[depth].failed++;
	if (below->seen) {
		/* A line that sums up its subtests, which have been counted. */
		bool unexplained = !ok && !below->failed;

		close_level(t, depth + 1, name);
		if (unexplained)
			add_case(t, "fail", name, "failed as a whole, though none of its cases did");
		return;
	}
	close_level(t, depth + 1, name);
	if (!ok)
		add_case(t, "fail", name, t->reason);
	else
		add_case(t, skip ? "skip" : "pass", name, reason);
	t->reason[0] = '\0';
}

static void tap_line(struct tap *t, char *line)
{
	int indent = strspn(line, " "), depth = indent / 4;
	char *s = line + indent;

	if (depth >= MAX_DEPTH)
		return;
	if (!strncmp(s, "TAP version ", 12) || !strncmp(s, "KTAP version ", 13)) {
		t->is_tap = true;
	} else if (!strncmp(s, "1..", 3) && isdigit((unsigned char)s[3])) {
		char *skip = strcasestr(s, "# SKIP");

		t->is_tap = true;
		t->level[depth].plan = atoi(s + 3);
		if (!depth && !t->level[0].plan && skip) {
			t->skip_all = true;
			skip += 6;
			while (*skip == ' ' || *skip == ':' || *skip == '-')
				skip++;
			snprintf(t->reason, sizeof(t->reason), "%s", skip);
		}
	} else if (!strncmp(s, "# Subtest: ", 11)) {
		snprintf(t->level[depth].name, sizeof(t->level[depth].name), "%s", s + 11);
	} else if (!strncmp(s, "ok ", 3)) {
		tap_result(t, depth, true, s + 3);
	} else if (!strncmp(s, "not ok ", 7)) {
		tap_result(t, depth, false, s + 7);
	} else if (!strncmp(s, "Bail out!", 9)) {
		t->bailed = true;
		snprintf(t->reason, sizeof(t->reason), "%s", s);
	} else if (strstr(s, "Test Assertion Failure")) {
		/* KVM's selftests: the next line says where. */
		t->why_next = true;
	} else if (t->why_next || strstr(s, ": Expected ") || strstr(s, "EXPECTATION FAILED") ||
		   strstr(s, "ASSERTION FAILED") || (!t->is_tap && strcasestr(s, "skip"))) {
		t->why_next = false;
		while (*s == '#' || isspace((unsigned char)*s))
			s++;
		snprintf(t->reason, sizeof(t->reason), "%s", s);
	}
}

/* The program has ended: what else counts against it? */
static void tap_end(struct tap *t, int status, const char *killed)
{
	char why[320];
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (killed) {
		add_case(t, "fail", "timeout", killed);
		return;
	}
	if (WIFSIGNALED(status)) {
		snprintf(why, sizeof(why), "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
		add_case(t, "fail", "signal", why);
		return;
	}
	if (t->skip_all && !t->cases && (code == 4 || !code)) {
		add_case(t, "skip", "run", t->reason);
		return;
	}
	if (!t->is_tap) {
		if (code && code != 4 && !t->reason[0]) {
			snprintf(why, sizeof(why), "exit status %d", code);
			add_case(t, "fail", "run", why);
		} else {
			add_case(t, code == 0 ? "pass" : code == 4 ? "skip" : "fail", "run", code ? t->reason : "");
		}
		return;
	}
	if (t->bailed) {
		add_case(t, "fail", "bailed", t->reason);
		return;
	}
	close_level(t, 0, "");
	if (!t->cases) {
		snprintf(why, sizeof(why), "no results, exit status %d %s", code, t->reason);
		add_case(t, "fail", "run", why);
	} else if (code && code != 4 && !t->failed) {
		snprintf(why, sizeof(why), "exit status %d, though no case failed", code);
		add_case(t, "fail", "exit", why);
	}
}

/* ---- running programs ---- */

/* What a line of /tests.list says. */
struct test {
	char *suite;
	int seconds;
	char *argv[MAX_WORDS];
	char *settings[MAX_WORDS];	/* after "--": /path=text to write first, or NAME=value to export */
};

/* Returns false for an empty line or a comment. */
static bool parse_test(char *line, struct test *t)
{
	char *word, *save = NULL;
	int argc = 0, settings = -1;

	memset(t, 0, sizeof(*t));
	if (line[0] == '#')
		return false;
	for (word = strtok_r(line, " \t\n", &save); word; word = strtok_r(NULL, " \t\n", &save)) {
		if (!t->suite)
			t->suite = word;
		else if (!t->seconds)
			t->seconds = atoi(word);
		else if (settings < 0 && !strcmp(word, "--"))
			settings = 0;
		else if (settings >= 0 && settings < MAX_WORDS - 1)
			t->settings[settings++] = word;
		else if (settings < 0 && argc < MAX_WORDS - 1)
			t->argv[argc++] = word;
	}
	return t->suite && t->seconds > 0 && argc;
}

static void say_stacks(void)
{
	char path[64], buf[4096], name[64], *line, *save;
	FILE *f = fopen(CGROUP "/cgroup.threads", "re");
	int tid, left = 16;

	if (!f)
		return;
	while (left-- && fscanf(f, "%d", &tid) == 1) {
		snprintf(path, sizeof(path), "/proc/%d/comm", tid);
		read_file(path, name, sizeof(name));
		snprintf(path, sizeof(path), "/proc/%d/stack", tid);
		read_file(path, buf, sizeof(buf));
		emit("O\t# stack of %d (%s):", tid, name);
		for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
			emit("O\t#   %s", line);
	}
	fclose(f);
}

/* Kills everything the test started, and waits for it. False: something cannot be killed. */
static bool kill_all(void)
{
	char buf[256];
	int i;

	for (i = 0; i < 300; i++) {
		write_file(CGROUP "/cgroup.kill", "1");
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!read_file(CGROUP "/cgroup.events", buf, sizeof(buf)) || strstr(buf, "populated 0"))
			return true;
		usleep(i < 50 ? 10000 : 100000);
	}
	return false;
}

/*
 * A program NAME.ko is a module with tests. It leaves their results in debugfs, in NAME/results; reading that may be what
 * runs them.
 */
static int module_child(const char *path, char *const argv[])
{
	char name[128], buf[4096], *args = argv[1] ? argv[1] : "";
	int fd = open(path, O_RDONLY | O_CLOEXEC), in;
	ssize_t n;

	snprintf(name, sizeof(name), "%s", argv[0]);
	name[strcspn(name, ".")] = '\0';
	if (fd < 0 || syscall(SYS_finit_module, fd, args, 0)) {
		printf("cannot load %s: %s\n", path, strerror(errno));
		return 1;
	}
	snprintf(buf, sizeof(buf), "/sys/kernel/debug/%s/results", name);
	in = open(buf, O_RDONLY | O_CLOEXEC);
	if (in < 0) {
		printf("cannot read %s: %s\n", buf, strerror(errno));
		return 1;
	}
	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (write(1, buf, n) != n)
			return 1;
	close(in);
	if (n < 0 || syscall(SYS_delete_module, name, O_NONBLOCK)) {
		printf("%s %s: %s\n", n < 0 ? "cannot read the results of" : "cannot unload", name, strerror(errno));
		return 1;
	}
	return 0;
}

static void child(struct test *t, int out)
{
	size_t len = strlen(t->argv[0]);
	char path[512];
	sigset_t none;
	int i;

	if (!write_file(CGROUP "/cgroup.procs", "0"))
		_exit(126);
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(open("/dev/null", O_RDONLY), 0);
	dup2(out, 1);
	dup2(out, 2);
	for (i = 0; t->settings[i]; i++)
		if (t->settings[i][0] != '/')
			putenv(t->settings[i]);
	snprintf(path, sizeof(path), TESTS_DIR "/%s", t->argv[0]);
	/* Where kselftest runs them, too: some open their own file again, by the name they were called by. */
	if (chdir(TESTS_DIR))
		_exit(127);
	if (len > 3 && !strcmp(t->argv[0] + len - 3, ".ko")) {
		int status = module_child(path, t->argv);

		/* Not exit(): that moves the file offset of the list, which the parent reads on. */
		fflush(stdout);
		_exit(status);
	}
	execv(path, t->argv);
	dprintf(2, "cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

static void output_line(struct tap *tap, char *line, size_t *budget)
{
	char *p;

	/* Colours, bells and tabs have no business in a table. */
	for (p = line; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	if (*budget) {
		size_t n = strlen(line) + 3;

		emit("O\t%s", line);
		*budget -= n < *budget ? n : *budget;
		if (!*budget)
			emit("O\t# (the rest of this output is cut)");
	}
	tap_line(tap, line);
}

static void run_test(struct test *t)
{
	char old[MAX_WORDS][256], line[2048], chunk[4096], why[128];
	double start = now(), deadline = start + t->seconds, beat = start;
	size_t fill = 0, budget = MAX_OUTPUT;
	const char *killed = NULL;
	int pipes[2], status = 0, pidfd, i;
	bool ended = false, eof = false;
	struct tap tap;
	pid_t pid;

	emit("S\t%s\t%d", t->suite, t->seconds);
	mark(t->suite);
	log_mark("begin", t->suite);
	tap_init(&tap, t->suite, start);

	for (i = 0; t->settings[i]; i++) {
		char *eq = strchr(t->settings[i], '=');

		old[i][0] = '\0';
		if (t->settings[i][0] != '/' || !eq)
			continue;
		*eq = '\0';
		if (!read_file(t->settings[i], old[i], sizeof(old[i])) || !write_file(t->settings[i], eq + 1)) {
			snprintf(why, sizeof(why), "cannot set %s to %s: %s", t->settings[i], eq + 1, strerror(errno));
			add_case(&tap, "fail", "setup", why);
		}
	}

	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		emit("N\tno control group: %s", strerror(errno));
	if (pipe2(pipes, O_CLOEXEC)) {
		add_case(&tap, "fail", "setup", "no pipe");
		return;
	}
	pid = fork();
	if (!pid)
		child(t, pipes[1]);
	close(pipes[1]);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);

	while (!ended || !eof) {
		struct pollfd p[2] = {
			{ .fd = eof ? -1 : pipes[0], .events = POLLIN },
			{ .fd = ended ? -1 : pidfd, .events = POLLIN },
		};
		double left = deadline - now();
		ssize_t n, k;

		if (left <= 0) {
			/* After the program's own end: somebody it left behind holds the pipe open. */
			if (ended)
				break;
			say_stacks();
			snprintf(why, sizeof(why), "still running after %d s", t->seconds);
			killed = why;
			kill_all();
			ended = true;
			deadline = now() + 2;
			continue;
		}
		if (now() - beat >= HEARTBEAT_MS / 1000.0) {
			beat = now();
			emit("H");
		}
		if (left > 1)
			left = 1;
		poll(p, 2, left * 1000 + 1);
		for (;;) {
			n = eof ? -1 : read(pipes[0], chunk, sizeof(chunk));
			if (n <= 0)
				break;
			for (k = 0; k < n; k++) {
				if (chunk[k] == '\n' || fill == sizeof(line) - 1) {
					line[fill] = '\0';
					fill = 0;
					output_line(&tap, line, &budget);
					if (chunk[k] == '\n')
						continue;
				}
				line[fill++] = chunk[k] ? chunk[k] : ' ';
			}
		}
		if (!n)
			eof = true;
		if (!ended && (p[1].revents & POLLIN) && waitpid(pid, &status, 0) == pid) {
			ended = true;
			kill_all();
			deadline = now() + 2;
		}
	}
	if (fill) {
		line[fill] = '\0';
		output_line(&tap, line, &budget);
	}
	close(pipes[0]);
	close(pidfd);
	tap_end(&tap, status, killed);
	if (!kill_all()) {
		say_stacks();
		add_case(&tap, "fail", "stuck", "a process of this test cannot be killed");
	}
	rmdir(CGROUP);
	for (i = 0; t->settings[i]; i++)
		if (t->settings[i][0] == '/' && old[i][0])
			write_file(t->settings[i], old[i]);
	log_mark("end", t->suite);
	emit("E\t%s\t%.3f", t->suite, now() - start);
}

/* KUnit ran while the kernel booted and left its results in debugfs. */
static void collect_kunit(void)
{
	char path[512], suite[300], line[2048];
	DIR *d = opendir("/sys/kernel/debug/kunit");
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		struct tap tap;
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/kernel/debug/kunit/%s/results", e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		snprintf(suite, sizeof(suite), "kunit_%s", e->d_name);
		emit("S\t%s\t0", suite);
		tap_init(&tap, e->d_name, 0);
		while (fgets(line, sizeof(line), f)) {
			line[strcspn(line, "\n")] = '\0';
			emit("O\t%s", line);
			tap_line(&tap, line);
		}
		fclose(f);
		tap_end(&tap, 0, NULL);
		emit("E\t%s\t0.000", suite);
	}
	closedir(d);
}

static void run_tests(void)
{
	FILE *f = fopen("/tests.list", "re");
	char *line = NULL;
	size_t size = 0;
	struct test t;

	collect_kunit();
	while (f && getline(&line, &size, f) > 0)
		if (parse_test(line, &t))
			run_test(&t);
	mark("nothing (all tests are over)");
	emit("Z");
}

static void run_demo(void)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		dup2(results, 1);
		dup2(results, 2);
		execl("/demo", "/demo", NULL);
		dprintf(2, "cannot run /demo: %s\n", strerror(errno));
		_exit(127);
	}
	waitpid(pid, &status, 0);
	emit("Z\t%d", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void run_shell(void)
{
	pid_t pid = fork();

	if (!pid) {
		int fd;

		setsid();
		fd = open("/dev/ttyS0", O_RDWR);
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		ioctl(0, TIOCSCTTY, 1);
		setenv("PATH", "/bin:" TESTS_DIR ":" TESTS_DIR "/x86", 1);
		setenv("PS1", "gmem:\\w# ", 1);
		if (chdir(TESTS_DIR))
			fd = -1;
		execl("/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin; exec sh", NULL);
		_exit(127);
	}
	while (waitpid(-1, NULL, 0) != pid)
		;
}

/* ---- the machine ---- */

static void mount_all(void)
{
	static const struct {
		const char *type, *where;
	} fs[] = {
		{ "proc", "/proc" },
		{ "sysfs", "/sys" },
		{ "devtmpfs", "/dev" },
		{ "tmpfs", "/tmp" },
		{ "tmpfs", "/dev/shm" },
		{ "hugetlbfs", "/dev/hugepages" },
		{ "devpts", "/dev/pts" },
		{ "debugfs", "/sys/kernel/debug" },
		{ "tracefs", "/sys/kernel/tracing" },
		{ "configfs", "/sys/kernel/config" },
		{ "cgroup2", "/sys/fs/cgroup" },
	};
	size_t i;

	for (i = 0; i < sizeof(fs) / sizeof(fs[0]); i++) {
		mkdir(fs[i].where, 0755);
		if (mount(fs[i].type, fs[i].where, fs[i].type, 0, NULL) && errno != EBUSY)
			dprintf(2, "init: cannot mount %s: %s\n", fs[i].where, strerror(errno));
	}
}

static void set_limits(void)
{
	struct rlimit lots = { 1 << 20, 1 << 20 }, none = { 0, 0 }, all = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_NOFILE, &lots);
	setrlimit(RLIMIT_MEMLOCK, &all);
	setrlimit(RLIMIT_CORE, &none);
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	/* The console is for what the kernel has to report; nothing of that may be held back. */
	write_file("/proc/sys/kernel/printk", "8");
	write_file("/proc/sys/kernel/printk_ratelimit", "0");
	write_file("/proc/sys/kernel/printk_devkmsg", "on");
}

static void open_results(void)
{
	const char *port = getenv("gmem_port");
	struct termios tio;
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", port ? port : "ttyS1");
	results = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (results < 0) {
		results = 2;
		return;
	}
	tcgetattr(results, &tio);
	cfmakeraw(&tio);
	cfsetspeed(&tio, B115200);
	tcsetattr(results, TCSANOW, &tio);
}

int main(void)
{
	const char *mode = getenv("gmem_mode");

	mount_all();
	set_limits();
	if (!mode)
		mode = "shell";
	if (!strcmp(mode, "shell")) {
		run_shell();
	} else {
		open_results();
		if (!strcmp(mode, "run"))
			run_demo();
		else
			run_tests();
		tcdrain(results);
	}
	sync();
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
	return 0;
}
