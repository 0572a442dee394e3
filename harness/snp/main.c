// SPDX-License-Identifier: GPL-2.0
/*
 * Reading debugfs' snp_rows/results runs the rows, one after the other as it is read, and gives KTAP. The
 * machine is left as it was found: SNP and SEV initialised, all pages the hypervisor's, all ASIDs clean.
 */
#include <linux/debugfs.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include "snp_rows.h"

static char *only = "";
module_param(only, charp, 0);
MODULE_PARM_DESC(only, "run only rows whose name begins so");

static const struct row *current_row;
static bool failed;

/* What is to be read next. */
#define TEXT_SIZE	8192
static char text[TEXT_SIZE];
static size_t text_len, text_pos;
static const char *skipped;

static __printf(1, 2) void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	text_len += vscnprintf(text + text_len, TEXT_SIZE - text_len, fmt, ap);
	va_end(ap);
}

bool check_at(int line, const char *what, bool ok)
{
	if (ok)
		return true;
	failed = true;
	say("# %s: Expected %s (line %d)\n", current_row ? current_row->name : "setup", what, line);
	return false;
}

bool same_at(int line, const char *what, u64 got, u64 want)
{
	if (got == want)
		return true;
	failed = true;
	say("# %s: Expected %s == %#llx, is %#llx (line %d)\n", current_row ? current_row->name : "setup",
		what, want, got, line);
	return false;
}

void row_skip(const char *why)
{
	skipped = why;
}

void announce(const char *fmt, ...)
{
	char buf[128];
	va_list ap;
	int n, i;

	va_start(ap, fmt);
	n = scnprintf(buf, sizeof(buf), "expect: ");
	n += vscnprintf(buf + n, sizeof(buf) - n - 1, fmt, ap);
	va_end(ap);
	buf[n++] = '\n';
	for (i = 0; i < n; i++)
		outb(buf[i], 0xe9);
}

static const struct group * const groups[] = {
	&group_rmp, &group_host, &group_psp, &group_legacy, &group_guest, &group_vmrun,
	&group_dma, &group_global,
};

static bool wanted(const struct row *r)
{
	return !strncmp(r->name, only, strlen(only));
}

static bool group_wanted(const struct group *g)
{
	unsigned int i;

	for (i = 0; i < g->n; i++)
		if (wanted(&g->rows[i]))
			return true;
	return false;
}

static unsigned int total, number, at_group, at_row;
static bool started, broken;

static void begin(void)
{
	unsigned int g, i;

	total = number = at_group = at_row = 0;
	for (g = 0; g < ARRAY_SIZE(groups); g++)
		for (i = 0; i < groups[g]->n; i++)
			total += wanted(&groups[g]->rows[i]);
	say("KTAP version 1\n1..%u\n", total);
	started = true;
}

static void run_row(const struct row *r)
{
	current_row = r;
	failed = broken;
	skipped = NULL;
	if (!broken)
		r->run(r);
	if (skipped && !failed)
		say("ok %u %s # SKIP %s\n", ++number, r->name, skipped);
	else
		say("%sok %u %s # %s\n", failed ? "not " : "", ++number, r->name, r->src);
	current_row = NULL;
}

/* Runs the next row; false if there is none. */
static bool step(void)
{
	while (at_group < ARRAY_SIZE(groups)) {
		const struct group *g = groups[at_group];

		if (!at_row && group_wanted(g)) {
			failed = false;
			broken = (g->init && g->init()) || failed;
		}
		while (at_row < g->n) {
			const struct row *r = &g->rows[at_row++];

			if (wanted(r)) {
				run_row(r);
				return true;
			}
		}
		if (group_wanted(g) && g->exit)
			g->exit();
		at_group++;
		at_row = 0;
		if (text_len)
			return true;
	}
	started = false;
	return false;
}

static DEFINE_MUTEX(lock);

static ssize_t results_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	ssize_t n = 0;

	mutex_lock(&lock);
	if (text_pos == text_len) {
		text_pos = text_len = 0;
		if (!*pos && !started)
			begin();
		else if (!started || !step())
			goto out;
	}
	n = min(size, text_len - text_pos);
	if (copy_to_user(buf, text + text_pos, n)) {
		n = -EFAULT;
		goto out;
	}
	text_pos += n;
	*pos += n;
out:
	mutex_unlock(&lock);
	return n;
}

static const struct file_operations results_fops = {
	.owner = THIS_MODULE,
	.read = results_read,
	.llseek = noop_llseek,
};

static struct dentry *dir;

static int __init snp_rows_init(void)
{
	int ret = rows_mem_init();

	if (!ret)
		ret = psp_init();
	if (ret) {
		rows_mem_exit();
		psp_exit();
		return ret;
	}
	dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("results", 0400, dir, NULL, &results_fops);
	return 0;
}

static void __exit snp_rows_exit(void)
{
	debugfs_remove(dir);
	rows_mem_exit();
	psp_exit();
}

module_init(snp_rows_init);
module_exit(snp_rows_exit);

MODULE_DESCRIPTION("Tests of the emulated SNP host");
MODULE_LICENSE("GPL");
