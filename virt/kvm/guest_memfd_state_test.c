// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for the private/shared state of a guest_memfd.
 */
#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/prandom.h>
#include <linux/rcupdate.h>
#include <linux/sizes.h>
#include <linux/vmalloc.h>

#include "guest_memfd_state.h"

/* What the unit under test promises: a leaf covers 512 pages, a node 64 blocks. */
#define LEAF	512UL
#define NODE	(64 * LEAF)

#define PAGES_64M	(SZ_64M >> PAGE_SHIFT)
#define PAGES_1T	(SZ_1T >> PAGE_SHIFT)

struct state_test {
	struct rw_semaphore lock;
	struct gmem_state state;
	bool alive;
};

static int state_test_init(struct kunit *test)
{
	struct state_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	if (!t)
		return -ENOMEM;

	init_rwsem(&t->lock);
	test->priv = t;
	return 0;
}

static void state_test_exit(struct kunit *test)
{
	struct state_test *t = test->priv;

	if (t && t->alive)
		gmem_state_destroy(&t->state);
}

static struct state_test *make_state(struct kunit *test, pgoff_t nr_pages,
				     bool private)
{
	struct state_test *t = test->priv;

	if (t->alive)
		gmem_state_destroy(&t->state);

	gmem_state_init(&t->state, &t->lock, nr_pages, private);
	t->alive = true;
	return t;
}

/* Is the whole file kept in the root, without a node or a leaf? */
static bool is_uniform(struct state_test *t)
{
	return (unsigned long)t->state.root & 1;
}

static void set_state(struct kunit *test, pgoff_t start, pgoff_t end,
		      bool private)
{
	struct state_test *t = test->priv;
	void *root = t->state.root;
	pgoff_t index;
	bool prepared;

	prepared = gmem_state_is_prepared(&t->state, start, end, private);
	KUNIT_ASSERT_EQ(test, gmem_state_prepare(&t->state, start, end, private), 0);
	KUNIT_EXPECT_TRUE(test, gmem_state_is_prepared(&t->state, start, end, private));
	if (prepared)
		KUNIT_EXPECT_PTR_EQ(test, root, t->state.root);

	for (index = start; index < end; ) {
		pgoff_t next;

		down_write(&t->lock);
		next = gmem_state_commit(&t->state, index, end, private);
		up_write(&t->lock);

		if (next <= index || next > end)
			KUNIT_FAIL_AND_ABORT(test, "stored up to %lu", next);
		index = next;
	}
}

/* Joins what gmem_state_next_run() has cut, as it looks at so many blocks only. */
static bool next_run(struct kunit *test, bool private, pgoff_t *start,
		     pgoff_t *end, pgoff_t limit)
{
	struct state_test *t = test->priv;
	pgoff_t s, e;
	bool found;

	down_read(&t->lock);
	do {
		found = gmem_state_next_run(&t->state, private, start, end, limit);
	} while (!found && *start < limit);

	while (found && *end < limit) {
		s = *end;
		if (!gmem_state_next_run(&t->state, private, &s, &e, limit) || s != *end)
			break;
		*end = e;
	}
	up_read(&t->lock);
	return found;
}

static void expect_run(struct kunit *test, bool private, pgoff_t from,
		       pgoff_t limit, pgoff_t start, pgoff_t end)
{
	pgoff_t s = from, e = 0;

	KUNIT_ASSERT_TRUE(test, next_run(test, private, &s, &e, limit));
	KUNIT_EXPECT_EQ(test, s, start);
	KUNIT_EXPECT_EQ(test, e, end);
}

static void expect_no_run(struct kunit *test, bool private, pgoff_t from,
			  pgoff_t limit)
{
	pgoff_t s = from, e;

	KUNIT_EXPECT_FALSE(test, next_run(test, private, &s, &e, limit));
}

static void test_initial(struct kunit *test)
{
	static const pgoff_t sizes[] = {
		1, LEAF - 1, LEAF, LEAF + 1, NODE, NODE + 1, PAGES_1T,
		1UL << (63 - PAGE_SHIFT),
	};
	int i, private;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (private = 0; private < 2; private++) {
			struct state_test *t = make_state(test, sizes[i], private);

			KUNIT_EXPECT_EQ(test, gmem_state_is_private(&t->state, 0), private);
			KUNIT_EXPECT_EQ(test, gmem_state_is_private(&t->state, sizes[i] - 1),
					private);
			expect_run(test, private, 0, sizes[i], 0, sizes[i]);
			expect_no_run(test, !private, 0, sizes[i]);
			KUNIT_EXPECT_TRUE(test, is_uniform(t));
		}
	}
}

static void test_one_page(struct kunit *test)
{
	static const pgoff_t pages[] = {
		0, 1, LEAF - 1, LEAF, NODE - 1, NODE, 64 * NODE - 1, 64 * NODE,
		PAGES_1T - 1,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		struct state_test *t = make_state(test, PAGES_1T, false);
		pgoff_t p = pages[i];

		set_state(test, p, p + 1, true);

		KUNIT_EXPECT_TRUE(test, gmem_state_is_private(&t->state, p));
		if (p)
			KUNIT_EXPECT_FALSE(test, gmem_state_is_private(&t->state, p - 1));
		if (p < PAGES_1T - 1)
			KUNIT_EXPECT_FALSE(test, gmem_state_is_private(&t->state, p + 1));

		expect_run(test, true, 0, PAGES_1T, p, p + 1);
		expect_no_run(test, true, p + 1, PAGES_1T);
		if (p)
			expect_run(test, false, 0, PAGES_1T, 0, p);

		/* Back to one state. */
		set_state(test, p, p + 1, false);
		expect_run(test, false, 0, PAGES_1T, 0, PAGES_1T);
	}
}

static void test_whole_file_is_uniform(struct kunit *test)
{
	/* Not a power of two, so that the last blocks reach beyond the end. */
	const pgoff_t nr_pages = 3 * NODE + 7 * LEAF + 11;
	struct state_test *t = make_state(test, nr_pages, false);

	set_state(test, 0, nr_pages, true);
	KUNIT_EXPECT_TRUE(test, is_uniform(t));
	expect_run(test, true, 0, nr_pages, 0, nr_pages);

	set_state(test, 5, nr_pages - 5, false);
	KUNIT_EXPECT_FALSE(test, is_uniform(t));
	expect_run(test, false, 0, nr_pages, 5, nr_pages - 5);

	set_state(test, 0, nr_pages, false);
	expect_run(test, false, 0, nr_pages, 0, nr_pages);

	set_state(test, nr_pages - 1, nr_pages, true);
	expect_run(test, true, 0, nr_pages, nr_pages - 1, nr_pages);

	set_state(test, 0, nr_pages - 1, true);
	expect_run(test, true, 0, nr_pages, 0, nr_pages);
}

static void test_split_and_merge(struct kunit *test)
{
	const pgoff_t nr_pages = 2 * 64 * NODE;

	make_state(test, nr_pages, true);

	/* A hole over a border of every level. */
	set_state(test, 64 * NODE - 3, 64 * NODE + 3, false);
	expect_run(test, true, 0, nr_pages, 0, 64 * NODE - 3);
	expect_run(test, false, 0, nr_pages, 64 * NODE - 3, 64 * NODE + 3);
	expect_run(test, true, 64 * NODE, nr_pages, 64 * NODE + 3, nr_pages);

	/* Aligned, next to it. */
	set_state(test, 63 * NODE, 64 * NODE - 3, false);
	expect_run(test, false, 0, nr_pages, 63 * NODE, 64 * NODE + 3);

	/* The parts of the hole that remain merge with the rest. */
	set_state(test, 63 * NODE, 64 * NODE, true);
	expect_run(test, false, 0, nr_pages, 64 * NODE, 64 * NODE + 3);
	set_state(test, 64 * NODE, 64 * NODE + 3, true);
	expect_run(test, true, 0, nr_pages, 0, nr_pages);
}

static void test_run_limits(struct kunit *test)
{
	make_state(test, 4 * LEAF, false);
	set_state(test, LEAF - 2, LEAF + 2, true);

	expect_run(test, true, LEAF - 1, LEAF + 1, LEAF - 1, LEAF + 1);
	expect_run(test, true, 0, LEAF, LEAF - 2, LEAF);
	expect_no_run(test, true, 0, LEAF - 2);
	expect_no_run(test, true, LEAF + 2, 4 * LEAF);
	expect_no_run(test, true, LEAF, LEAF);
	expect_run(test, false, LEAF - 2, 4 * LEAF, LEAF + 2, 4 * LEAF);
	expect_run(test, false, LEAF - 2, LEAF + 3, LEAF + 2, LEAF + 3);
	expect_no_run(test, false, LEAF - 2, LEAF + 2);
}

/* What is prepared and not carried out changes no page. */
static void test_called_off(struct kunit *test)
{
	struct state_test *t = make_state(test, PAGES_1T, false);

	KUNIT_EXPECT_FALSE(test, gmem_state_is_prepared(&t->state, 1, PAGES_1T, true));
	KUNIT_EXPECT_FALSE(test, gmem_state_is_prepared(&t->state, 0, PAGES_1T - 1, true));
	KUNIT_EXPECT_TRUE(test, gmem_state_is_prepared(&t->state, 0, PAGES_1T, true));
	KUNIT_EXPECT_EQ(test, gmem_state_prepare(&t->state, 1, PAGES_1T - 1, true), 0);
	KUNIT_EXPECT_FALSE(test, is_uniform(t));
	expect_no_run(test, true, 0, PAGES_1T);
	expect_run(test, false, 0, PAGES_1T, 0, PAGES_1T);
}

/* Nothing is split that needn't be. */
static void test_splits_only_at_the_ends(struct kunit *test)
{
	struct state_test *t = make_state(test, PAGES_1T, false);

	KUNIT_EXPECT_EQ(test, gmem_state_prepare(&t->state, 0, PAGES_1T, true), 0);
	KUNIT_EXPECT_TRUE(test, is_uniform(t));

	/* Already in that state. */
	KUNIT_EXPECT_EQ(test, gmem_state_prepare(&t->state, 1, PAGES_1T - 1, false), 0);
	KUNIT_EXPECT_TRUE(test, is_uniform(t));
}

/*
 * Two changes may be prepared at once, to be carried out in either order, as long as
 * they are about different pages: here, of one leaf.
 */
static void test_two_at_once(struct kunit *test)
{
	struct state_test *t = make_state(test, PAGES_1T, false);
	int i;

	for (i = 0; i < 2; i++) {
		pgoff_t border = LEAF / 2 + i, end = 3 * NODE + i;

		KUNIT_EXPECT_EQ(test, gmem_state_prepare(&t->state, 0, border, !i), 0);
		KUNIT_EXPECT_EQ(test, gmem_state_prepare(&t->state, border, end, !i), 0);

		down_write(&t->lock);
		KUNIT_EXPECT_EQ(test, gmem_state_commit(&t->state, border, end, !i), end);
		KUNIT_EXPECT_EQ(test, gmem_state_commit(&t->state, 0, border, !i), border);
		up_write(&t->lock);

		expect_run(test, !i, 0, end, 0, end);
	}
}

/* One call looks at or changes a bounded number of blocks. */
static void test_bounded(struct kunit *test)
{
	const pgoff_t nr_leaves = 3000, nr_pages = nr_leaves * LEAF;
	struct state_test *t = make_state(test, nr_pages, false);
	pgoff_t i, s, e = 0;

	for (i = 0; i < nr_leaves; i++)
		set_state(test, i * LEAF, i * LEAF + 1, true);
	for (i = 0; i < nr_leaves; i++)
		set_state(test, i * LEAF, i * LEAF + 1, false);

	down_write(&t->lock);
	s = 0;
	KUNIT_EXPECT_FALSE(test, gmem_state_next_run(&t->state, true, &s, &e, nr_pages));
	KUNIT_EXPECT_EQ(test, s, 1024 * LEAF);

	s = 0;
	KUNIT_EXPECT_TRUE(test, gmem_state_next_run(&t->state, false, &s, &e, nr_pages));
	KUNIT_EXPECT_EQ(test, s, 0);
	KUNIT_EXPECT_EQ(test, e, 1024 * LEAF);

	KUNIT_EXPECT_EQ(test, gmem_state_commit(&t->state, 0, nr_pages, true), 1024 * LEAF);
	up_write(&t->lock);

	expect_run(test, true, 0, nr_pages, 0, 1024 * LEAF);
	set_state(test, 0, nr_pages, true);
	expect_run(test, true, 0, nr_pages, 0, nr_pages);
}

static void alternate(struct kunit *test, pgoff_t nr_pages, pgoff_t step)
{
	struct state_test *t = make_state(test, nr_pages, false);
	pgoff_t i, nr = 0, s, e;

	for (i = 0; i < nr_pages; i += step)
		set_state(test, i, i + 1, true);

	for (s = 0; next_run(test, true, &s, &e, nr_pages); s = e) {
		KUNIT_ASSERT_EQ(test, s, nr * step);
		KUNIT_ASSERT_EQ(test, e, s + 1);
		nr++;
	}
	KUNIT_EXPECT_EQ(test, nr, DIV_ROUND_UP(nr_pages, step));
	KUNIT_EXPECT_FALSE(test, gmem_state_is_private(&t->state, 1));

	/* With everything in place, so that the teardown has work to do. */
	gmem_state_destroy(&t->state);
	t->alive = false;
	KUNIT_EXPECT_TRUE(test, is_uniform(t));
}

static void test_alternate_pages(struct kunit *test)
{
	alternate(test, PAGES_64M, 2);
	alternate(test, SZ_1G >> PAGE_SHIFT, 62);
	alternate(test, PAGES_1T, LEAF * 61 + 1);
}

static void test_fill_alternate_pages(struct kunit *test)
{
	struct state_test *t = make_state(test, PAGES_64M, true);
	pgoff_t i;

	for (i = 0; i < PAGES_64M; i += 2)
		set_state(test, i, i + 1, false);
	KUNIT_EXPECT_FALSE(test, is_uniform(t));

	for (i = 0; i < PAGES_64M; i += 2)
		set_state(test, i, i + 1, true);
	expect_run(test, true, 0, PAGES_64M, 0, PAGES_64M);
}

static void compare(struct kunit *test, const unsigned long *model,
		    pgoff_t nr_pages)
{
	struct state_test *t = test->priv;
	pgoff_t i, s, e, from = 0;
	int private;

	for (i = 0; i < nr_pages; i++)
		if (gmem_state_is_private(&t->state, i) != test_bit(i, model))
			KUNIT_FAIL_AND_ABORT(test, "page %lu is %s", i,
					     test_bit(i, model) ? "not private" : "private");

	for (private = 0; private < 2; private++) {
		for (from = 0, s = 0; ; from = e, s = from) {
			pgoff_t ms = private ? find_next_bit(model, nr_pages, from) :
					       find_next_zero_bit(model, nr_pages, from);
			bool found = next_run(test, private, &s, &e, nr_pages);

			KUNIT_ASSERT_EQ(test, found, ms < nr_pages);
			if (!found)
				break;

			KUNIT_ASSERT_EQ(test, s, ms);
			KUNIT_ASSERT_EQ(test, e, private ?
					find_next_zero_bit(model, nr_pages, ms) :
					find_next_bit(model, nr_pages, ms));
		}
	}
}

/* Random changes, long and short, aligned and not, against a plain bitmap. */
static void test_against_bitmap(struct kunit *test)
{
	const pgoff_t nr_pages = NODE + 5 * LEAF + 77;
	struct rnd_state rnd;
	unsigned long *model;
	int i;

	model = kunit_kzalloc(test, BITS_TO_LONGS(nr_pages) * sizeof(long), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, model);

	make_state(test, nr_pages, false);
	prandom_seed_state(&rnd, 7);

	for (i = 0; i < 2000; i++) {
		u32 order = prandom_u32_state(&rnd) % 16;
		pgoff_t start = prandom_u32_state(&rnd) % nr_pages;
		pgoff_t nr = 1 + prandom_u32_state(&rnd) % (1U << order);
		bool private = prandom_u32_state(&rnd) & 1;

		if (prandom_u32_state(&rnd) & 1) {
			start = round_down(start, LEAF);
			nr = round_up(nr, LEAF);
		}
		nr = min(nr, nr_pages - start);

		set_state(test, start, start + nr, private);
		if (private)
			bitmap_set(model, start, nr);
		else
			bitmap_clear(model, start, nr);

		if (!(i % 100))
			compare(test, model, nr_pages);
	}
	compare(test, model, nr_pages);
}

static int reader(void *arg)
{
	struct state_test *t = arg;
	unsigned long wrong = 0;
	pgoff_t i = 0;

	while (!kthread_should_stop()) {
		/* Pages 0 modulo 3 never change; the rest may be anything. */
		wrong += gmem_state_is_private(&t->state, i * 3);
		gmem_state_is_private(&t->state, i * 3 + 1);
		i = (i + 1) % (PAGES_64M / 3);
		cond_resched();
	}

	return wrong;
}

/* A reader without a lock sees no page change that is not being changed. */
static void test_lockless_reader(struct kunit *test)
{
	struct state_test *t = make_state(test, PAGES_64M, false);
	struct task_struct *task;
	pgoff_t i;
	int round;

	task = kthread_run(reader, t, "gmem-state-reader");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);

	for (round = 0; round < 4; round++) {
		for (i = 1; i + 1 < PAGES_64M; i += 3)
			set_state(test, i, i + 2, true);
		for (i = 1; i + 1 < PAGES_64M; i += 3)
			set_state(test, i, i + 2, false);
	}

	KUNIT_EXPECT_EQ(test, kthread_stop(task), 0);
	expect_run(test, false, 0, PAGES_64M, 0, PAGES_64M);
}

struct slow_reader {
	struct state_test *t;
	struct completion reading, done;
	bool destroyed;
	bool changed;
};

static int slow_reader(void *arg)
{
	unsigned long before[BITS_TO_LONGS(LEAF)], *leaf;
	struct slow_reader *s = arg;
	int i;

	rcu_read_lock();
	leaf = READ_ONCE(s->t->state.root);
	memcpy(before, leaf, sizeof(before));
	complete(&s->reading);

	/* Bounded, as this is what freeing should wait for. */
	for (i = 0; i < 200 && !READ_ONCE(s->destroyed); i++)
		mdelay(1);

	/* For KASAN, too. */
	s->changed = memcmp(before, leaf, sizeof(before));
	rcu_read_unlock();

	complete(&s->done);
	return 0;
}

/* A reader that has found a leaf may take its time, even if the file goes meanwhile. */
static void test_slow_reader(struct kunit *test)
{
	struct slow_reader s = { .t = make_state(test, LEAF, true) };
	struct task_struct *task;

	init_completion(&s.reading);
	init_completion(&s.done);
	set_state(test, 5, 6, false);
	KUNIT_ASSERT_FALSE(test, is_uniform(s.t));

	task = kthread_run(slow_reader, &s, "gmem-state-reader");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	wait_for_completion(&s.reading);

	gmem_state_destroy(&s.t->state);
	s.t->alive = false;
	WRITE_ONCE(s.destroyed, true);
	wait_for_completion(&s.done);

	KUNIT_EXPECT_FALSE(test, s.changed);
}

static struct kunit_case state_test_cases[] = {
	KUNIT_CASE(test_initial),
	KUNIT_CASE(test_one_page),
	KUNIT_CASE(test_whole_file_is_uniform),
	KUNIT_CASE(test_split_and_merge),
	KUNIT_CASE(test_run_limits),
	KUNIT_CASE(test_called_off),
	KUNIT_CASE(test_splits_only_at_the_ends),
	KUNIT_CASE(test_two_at_once),
	KUNIT_CASE(test_bounded),
	KUNIT_CASE(test_alternate_pages),
	KUNIT_CASE(test_fill_alternate_pages),
	KUNIT_CASE(test_against_bitmap),
	KUNIT_CASE(test_lockless_reader),
	KUNIT_CASE(test_slow_reader),
	{}
};

static struct kunit_suite state_test_suite = {
	.name = "guest_memfd_state",
	.init = state_test_init,
	.exit = state_test_exit,
	.test_cases = state_test_cases,
};

kunit_test_suite(state_test_suite);
