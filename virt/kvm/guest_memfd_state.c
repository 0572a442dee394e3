// SPDX-License-Identifier: GPL-2.0-only
/*
 * The private/shared state of the pages of a guest_memfd.
 *
 * The state is a radix tree whose geometry is fixed by the size of the file.  A
 * slot of the tree holds either a tag, "all of this block is private" or "all of
 * it is shared", or a pointer to the next level.  The lowest level is a bitmap,
 * a set bit being a private page.  A file in one state is a single tag, and a
 * contiguous change adds at most one path to the tree at each of its two ends,
 * however long it is.
 *
 * An xarray with multi-index entries would do nearly the same, but cannot
 * reserve the memory that splitting its entries takes, and a conversion must not
 * fail once it has started.
 *
 * Readers that want to know about a single page need only RCU.  What they learn
 * may be stale by the time they use it: a guest fault relies on the MMU
 * invalidation sequence to notice, everybody else holds the lock.
 */
#include <kunit/static_stub.h>
#include <kunit/visibility.h>
#include <linux/bitmap.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "guest_memfd_state.h"

/* 512 pages: the bitmap of a PMD-sized block on x86 takes 64 bytes. */
#define GMEM_LEAF_SHIFT		9
#define GMEM_LEAF_PAGES		BIT(GMEM_LEAF_SHIFT)
#define GMEM_NODE_SHIFT		6
#define GMEM_NODE_SLOTS		BIT(GMEM_NODE_SHIFT)

/* @next is for those that are reserved and not in use. */
struct gmem_state_leaf {
	union {
		struct gmem_state_leaf *next;
		DECLARE_BITMAP(private, GMEM_LEAF_PAGES);
	};
};

struct gmem_state_node {
	union {
		struct gmem_state_node *next;
		void __rcu *slots[GMEM_NODE_SLOTS];
	};
};

/* Tags are odd, pointers to nodes and leaves are not. */
static inline void *gmem_tag(bool private)
{
	return (void *)(private ? 3UL : 1UL);
}

static inline bool gmem_is_tag(const void *entry)
{
	return (unsigned long)entry & 1;
}

static inline bool gmem_tag_is_private(const void *entry)
{
	return (unsigned long)entry & 2;
}

/* Number of pages in a block that a slot of @level stands for. */
static inline pgoff_t gmem_block_pages(unsigned int level)
{
	return GMEM_LEAF_PAGES << (level * GMEM_NODE_SHIFT);
}

/* Which slot of a node above @level holds the block of @index. */
static inline unsigned int gmem_slot(pgoff_t index, unsigned int level)
{
	return (index >> (GMEM_LEAF_SHIFT + level * GMEM_NODE_SHIFT)) &
	       (GMEM_NODE_SLOTS - 1);
}

static inline void *gmem_deref(void __rcu *const *slot,
			       const struct gmem_state *state)
{
	return rcu_dereference_check(*slot, lockdep_is_held(state->lock));
}

/**
 * gmem_state_init() - set up the state of a file
 * @state: the state
 * @lock: the lock that serializes changes
 * @nr_pages: size of the file, in pages; at least 1
 * @private: the state of every page
 */
void gmem_state_init(struct gmem_state *state, struct rw_semaphore *lock,
		     pgoff_t nr_pages, bool private)
{
	state->lock = lock;
	state->nr_pages = nr_pages;
	state->level = 0;

	while (gmem_block_pages(state->level) < nr_pages)
		state->level++;

	RCU_INIT_POINTER(state->root, gmem_tag(private));
}

/*
 * Free a node or a leaf that readers can't find any more, but may have found before.
 * They are small powers of two and many, which is why they have no rcu_head.
 * Whoever changes the state can sleep.
 */
VISIBLE_IF_KUNIT void gmem_state_free_block(void *block)
{
	KUNIT_STATIC_STUB_REDIRECT(gmem_state_free_block, block);

	kfree_rcu_mightsleep(block);
}

static void gmem_state_free(void *entry, unsigned int level)
{
	struct gmem_state_node *node = entry;
	int i;

	if (gmem_is_tag(entry))
		return;

	if (!level) {
		gmem_state_free_block(entry);
		return;
	}

	for (i = 0; i < GMEM_NODE_SLOTS; i++)
		gmem_state_free(rcu_dereference_raw(node->slots[i]), level - 1);

	gmem_state_free_block(node);
	cond_resched();
}

/**
 * gmem_state_destroy() - free the memory of a state that nobody changes any more
 * @state: the state
 *
 * Readers under RCU that still see @state find all pages shared.
 */
void gmem_state_destroy(struct gmem_state *state)
{
	void *root = rcu_dereference_raw(state->root);

	rcu_assign_pointer(state->root, gmem_tag(false));
	gmem_state_free(root, state->level);
}

/**
 * gmem_state_is_private() - whether a page is private
 * @state: the state
 * @index: index of the page in the file
 *
 * Needs no lock.  Without @state->lock the answer may be stale at once; a caller
 * that maps the page samples mmu_invalidate_seq before, with an smp_rmb() in between,
 * and looks at it again under mmu_lock: every conversion raises it after an smp_wmb()
 * that follows gmem_state_commit().
 */
bool gmem_state_is_private(const struct gmem_state *state, pgoff_t index)
{
	unsigned int level = state->level;
	void *entry;

	guard(rcu)();

	entry = gmem_deref(&state->root, state);

	while (!gmem_is_tag(entry)) {
		struct gmem_state_node *node = entry;
		struct gmem_state_leaf *leaf = entry;

		if (!level)
			return test_bit(index & (GMEM_LEAF_PAGES - 1),
					leaf->private);

		level--;
		entry = gmem_deref(&node->slots[gmem_slot(index, level)], state);
	}

	return gmem_tag_is_private(entry);
}

/* Return the tag or the leaf of @index, and the first index beyond its block. */
static void *gmem_state_block(const struct gmem_state *state, pgoff_t index,
			      pgoff_t *next)
{
	unsigned int level = state->level;
	void *entry;

	entry = gmem_deref(&state->root, state);

	while (level && !gmem_is_tag(entry)) {
		struct gmem_state_node *node = entry;

		level--;
		entry = gmem_deref(&node->slots[gmem_slot(index, level)], state);
	}

	*next = (index | (gmem_block_pages(level) - 1)) + 1;
	return entry;
}

/**
 * gmem_state_next_run() - find the next run of pages in one state
 * @state: the state
 * @private: the state to look for
 * @start: in: the first index to look at; out: the first index of the run
 * @end: out: the first index beyond the run
 * @limit: the first index not to look at
 *
 * The run is maximal but for @limit.  The caller holds @state->lock.
 *
 * Return: true if there is a run; if not, @start and @end mean nothing.
 */
bool gmem_state_next_run(const struct gmem_state *state, bool private,
			 pgoff_t *start, pgoff_t *end, pgoff_t limit)
{
	pgoff_t index = *start, next;
	bool found = false;

	lockdep_assert_held(state->lock);

	for ( ; index < limit; index = next) {
		struct gmem_state_leaf *leaf;
		unsigned long bit;
		pgoff_t base;
		void *entry;

		entry = gmem_state_block(state, index, &next);

		if (gmem_is_tag(entry)) {
			if (gmem_tag_is_private(entry) != private) {
				if (found)
					break;
				continue;
			}
			if (!found)
				*start = index;
			found = true;
			continue;
		}

		leaf = entry;
		base = round_down(index, GMEM_LEAF_PAGES);
		bit = index - base;

		if (!found) {
			bit = private ? find_next_bit(leaf->private, GMEM_LEAF_PAGES, bit) :
					find_next_zero_bit(leaf->private, GMEM_LEAF_PAGES, bit);
			if (bit == GMEM_LEAF_PAGES)
				continue;

			found = true;
			*start = base + bit;
		}

		bit = private ? find_next_zero_bit(leaf->private, GMEM_LEAF_PAGES, bit) :
				find_next_bit(leaf->private, GMEM_LEAF_PAGES, bit);
		if (bit < GMEM_LEAF_PAGES) {
			index = base + bit;
			break;
		}
	}

	if (!found || *start >= limit)
		return false;

	*end = min(index, limit);
	return true;
}

/*
 * The index that ends a change for the purposes of the tree.  The block of the
 * root reaches beyond the file, and a change up to the end of the file may just
 * as well cover that.
 */
static pgoff_t gmem_state_end(const struct gmem_state *state, pgoff_t end)
{
	return end == state->nr_pages ? gmem_block_pages(state->level) : end;
}

static int gmem_state_alloc(struct gmem_state_reserve *reserve, unsigned int level)
{
	struct gmem_state_node *node;
	struct gmem_state_leaf *leaf;

	if (!level) {
		leaf = kmalloc_obj(*leaf, GFP_KERNEL_ACCOUNT);
		if (!leaf)
			return -ENOMEM;

		leaf->next = reserve->leaves;
		reserve->leaves = leaf;
		return 0;
	}

	node = kmalloc_obj(*node, GFP_KERNEL_ACCOUNT);
	if (!node)
		return -ENOMEM;

	node->next = reserve->nodes;
	reserve->nodes = node;
	return 0;
}

/*
 * Allocate what gmem_state_update() will need for the same arguments.  @start
 * and @end are relative to the block of @entry.  The depth of the recursion is
 * the height of the tree, at most 8, and only the two ends of the range go
 * below the first level.
 */
static int __gmem_state_prepare(const struct gmem_state *state, void *entry,
				unsigned int level, pgoff_t start, pgoff_t end,
				void *tag, struct gmem_state_reserve *reserve)
{
	struct gmem_state_node *node = entry;
	unsigned int i, first, last;
	pgoff_t size;
	void *child;
	int r;

	if (entry == tag || (!start && end == gmem_block_pages(level)))
		return 0;

	if (gmem_is_tag(entry)) {
		r = gmem_state_alloc(reserve, level);
		if (r)
			return r;
	}

	if (!level)
		return 0;

	size = gmem_block_pages(--level);
	first = gmem_slot(start, level);
	last = gmem_slot(end - 1, level);

	for (i = first; ; i = last) {
		child = gmem_is_tag(entry) ? entry : gmem_deref(&node->slots[i], state);

		r = __gmem_state_prepare(state, child, level,
					 i == first ? start - i * size : 0,
					 i == last ? end - i * size : size,
					 tag, reserve);
		if (r || i == last)
			return r;
	}
}

/**
 * gmem_state_prepare() - reserve the memory that a change of state takes
 * @state: the state
 * @start: first index of the change
 * @end: first index beyond the change
 * @private: the new state
 * @reserve: where to keep the memory; need not be initialized
 *
 * The reservation is good as long as @state->lock, write-held by the caller, is
 * not dropped.  The memory is charged to the caller's memory cgroup.
 *
 * Return: 0, or -ENOMEM, in which case nothing is reserved.
 */
int gmem_state_prepare(const struct gmem_state *state, pgoff_t start,
		       pgoff_t end, bool private,
		       struct gmem_state_reserve *reserve)
{
	int r;

	lockdep_assert_held_write(state->lock);

	*reserve = (struct gmem_state_reserve) {};

	r = __gmem_state_prepare(state, gmem_deref(&state->root, state),
				 state->level, start, gmem_state_end(state, end),
				 gmem_tag(private), reserve);
	if (r)
		gmem_state_unprepare(reserve);

	return r;
}

static struct gmem_state_leaf *gmem_state_new_leaf(struct gmem_state_reserve *reserve,
						   void *tag)
{
	struct gmem_state_leaf *leaf = reserve->leaves;

	reserve->leaves = leaf->next;

	if (gmem_tag_is_private(tag))
		bitmap_fill(leaf->private, GMEM_LEAF_PAGES);
	else
		bitmap_zero(leaf->private, GMEM_LEAF_PAGES);

	return leaf;
}

static struct gmem_state_node *gmem_state_new_node(struct gmem_state_reserve *reserve,
						   void *tag)
{
	struct gmem_state_node *node = reserve->nodes;
	int i;

	reserve->nodes = node->next;

	for (i = 0; i < GMEM_NODE_SLOTS; i++)
		RCU_INIT_POINTER(node->slots[i], tag);

	return node;
}

static void *gmem_state_update_leaf(void *entry, pgoff_t start, pgoff_t end,
				    void *tag, struct gmem_state_reserve *reserve)
{
	struct gmem_state_leaf *leaf = entry;
	unsigned long word;

	if (gmem_is_tag(entry))
		leaf = gmem_state_new_leaf(reserve, entry);

	/* Readers look at the bits without a lock: write whole words. */
	for (word = BIT_WORD(start); word <= BIT_WORD(end - 1); word++) {
		unsigned long bits = leaf->private[word], mask = ~0UL;

		if (word == BIT_WORD(start))
			mask &= BITMAP_FIRST_WORD_MASK(start);
		if (word == BIT_WORD(end - 1))
			mask &= BITMAP_LAST_WORD_MASK(end);

		if (gmem_tag_is_private(tag))
			bits |= mask;
		else
			bits &= ~mask;

		WRITE_ONCE(leaf->private[word], bits);
	}

	if (gmem_tag_is_private(tag) ? bitmap_full(leaf->private, GMEM_LEAF_PAGES) :
				       bitmap_empty(leaf->private, GMEM_LEAF_PAGES))
		return tag;

	return leaf;
}

/*
 * Store @tag in [@start, @end), relative to the block of @entry, and return the
 * entry that stands for the block from now on: a new node or leaf, the old one
 * changed in place, or a tag.  It is for the caller to publish that, and only
 * then to free the old one.
 */
static void *gmem_state_update(struct gmem_state *state, void *entry,
			       unsigned int level, pgoff_t start, pgoff_t end,
			       void *tag, struct gmem_state_reserve *reserve)
{
	struct gmem_state_node *node = entry;
	unsigned int i, first, last;
	pgoff_t size;

	if (entry == tag || (!start && end == gmem_block_pages(level)))
		return tag;

	if (!level)
		return gmem_state_update_leaf(entry, start, end, tag, reserve);

	if (gmem_is_tag(entry))
		node = gmem_state_new_node(reserve, entry);

	size = gmem_block_pages(--level);
	first = gmem_slot(start, level);
	last = gmem_slot(end - 1, level);

	for (i = first; i <= last; i++) {
		void *old = gmem_deref(&node->slots[i], state);
		void *new = gmem_state_update(state, old, level,
					      i == first ? start - i * size : 0,
					      i == last ? end - i * size : size,
					      tag, reserve);

		if (new == old)
			continue;

		rcu_assign_pointer(node->slots[i], new);
		gmem_state_free(old, level);
	}

	for (i = 0; i < GMEM_NODE_SLOTS; i++) {
		if (gmem_deref(&node->slots[i], state) != tag)
			return node;
	}

	return tag;
}

/**
 * gmem_state_commit() - change the state of a range
 * @state: the state
 * @start: first index of the change
 * @end: first index beyond the change
 * @private: the new state
 * @reserve: the memory that gmem_state_prepare() reserved for the same change;
 *	     what was not needed is freed
 *
 * Cannot fail.  The caller write-holds @state->lock.  Lockless readers see each
 * page change once.
 */
void gmem_state_commit(struct gmem_state *state, pgoff_t start, pgoff_t end,
		       bool private, struct gmem_state_reserve *reserve)
{
	void *old, *new;

	lockdep_assert_held_write(state->lock);

	old = gmem_deref(&state->root, state);
	new = gmem_state_update(state, old, state->level, start,
				gmem_state_end(state, end), gmem_tag(private),
				reserve);
	if (new != old) {
		rcu_assign_pointer(state->root, new);
		gmem_state_free(old, state->level);
	}

	/* The reservation is exact, see __gmem_state_prepare(). */
	WARN_ON_ONCE(reserve->nodes || reserve->leaves);
	gmem_state_unprepare(reserve);
}

/**
 * gmem_state_unprepare() - give back a reservation that was not used
 * @reserve: what gmem_state_prepare() reserved
 */
void gmem_state_unprepare(struct gmem_state_reserve *reserve)
{
	while (reserve->nodes) {
		struct gmem_state_node *node = reserve->nodes;

		reserve->nodes = node->next;
		kfree(node);
	}

	while (reserve->leaves) {
		struct gmem_state_leaf *leaf = reserve->leaves;

		reserve->leaves = leaf->next;
		kfree(leaf);
	}
}
