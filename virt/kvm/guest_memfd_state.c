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
 * The tree only grows, up to 1.2 bits a page, and is freed with the file.  Memory
 * is added before a change, see gmem_state_prepare(), as a conversion must not
 * fail once it has started.  An xarray with multi-index entries would do nearly
 * the same, but can't promise that storing to a part of an entry needs no memory.
 *
 * Readers that want to know about a single page need no lock.  What they learn
 * may be stale by the time they use it: a guest fault relies on the MMU
 * invalidation sequence to notice, all others hold the lock.
 */
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

/* Number of blocks, of whatever size, that one call looks at or changes. */
#define GMEM_STATE_BATCH	1024

struct gmem_state_leaf {
	DECLARE_BITMAP(private, GMEM_LEAF_PAGES);
};

struct gmem_state_node {
	void *slots[GMEM_NODE_SLOTS];
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

/*
 * Go down the tree from the root to the block of @index that is kept as a tag or
 * as a leaf, and set @level to that of the block.  Pairs with the release in
 * gmem_state_split(); on the way down, the addresses depend on what is read.
 */
static void *gmem_state_block(const struct gmem_state *state, pgoff_t index,
			      unsigned int *level)
{
	void *entry = READ_ONCE(state->root);

	*level = state->level;
	while (*level && !gmem_is_tag(entry)) {
		struct gmem_state_node *node = entry;

		entry = READ_ONCE(node->slots[gmem_slot(index, --*level)]);
	}

	return entry;
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
	mutex_init(&state->grow);
	state->lock = lock;
	state->nr_pages = nr_pages;
	state->level = 0;

	while (gmem_block_pages(state->level) < nr_pages)
		state->level++;

	state->root = gmem_tag(private);
}

static void gmem_state_free(void *entry, unsigned int level)
{
	struct gmem_state_node *node = entry;
	int i;

	if (gmem_is_tag(entry))
		return;

	if (level) {
		for (i = 0; i < GMEM_NODE_SLOTS; i++)
			gmem_state_free(node->slots[i], level - 1);
		cond_resched();
	}

	kfree(entry);
}

/**
 * gmem_state_destroy() - free the memory of a state that isn't changed any more
 * @state: the state
 *
 * Sleeps for an RCU grace period: a reader that reaches @state by a pointer that is
 * cleared beforehand does so in an RCU read-side critical section.
 */
void gmem_state_destroy(struct gmem_state *state)
{
	if (gmem_is_tag(state->root))
		return;

	synchronize_rcu();
	gmem_state_free(state->root, state->level);
	state->root = gmem_tag(false);
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
	struct gmem_state_leaf *leaf;
	unsigned int level;
	void *entry;

	entry = gmem_state_block(state, index, &level);
	if (gmem_is_tag(entry))
		return gmem_tag_is_private(entry);

	leaf = entry;
	return test_bit(index & (GMEM_LEAF_PAGES - 1), leaf->private);
}

/**
 * gmem_state_next_run() - find the next run of pages in one state
 * @state: the state
 * @private: the state to look for
 * @start: in: the first index to look at; out: the first index of the run
 * @end: out: the first index beyond the run
 * @limit: the first index not to look at
 *
 * Looks at a bounded number of blocks, so that a caller can drop @state->lock, which
 * it holds, now and then: a run ends at the last one if not before, and without a run,
 * *@start is where to go on.
 *
 * Return: true if there is a run; if not, *@start is @limit unless there are more
 * blocks to look at.
 */
bool gmem_state_next_run(const struct gmem_state *state, bool private,
			 pgoff_t *start, pgoff_t *end, pgoff_t limit)
{
	pgoff_t index = *start, next;
	bool found = false;
	unsigned int i;

	lockdep_assert_held(state->lock);

	for (i = 0; i < GMEM_STATE_BATCH && index < limit; i++, index = next) {
		struct gmem_state_leaf *leaf;
		unsigned long bit;
		unsigned int level;
		void *entry;

		entry = gmem_state_block(state, index, &level);
		next = (index | (gmem_block_pages(level) - 1)) + 1;

		if (gmem_is_tag(entry)) {
			if (gmem_tag_is_private(entry) == private) {
				if (!found)
					*start = index;
				found = true;
			} else if (found) {
				break;
			}
			continue;
		}

		leaf = entry;
		bit = index & (GMEM_LEAF_PAGES - 1);

		if (!found) {
			bit = private ? find_next_bit(leaf->private, GMEM_LEAF_PAGES, bit) :
					find_next_zero_bit(leaf->private, GMEM_LEAF_PAGES, bit);
			if (bit == GMEM_LEAF_PAGES)
				continue;

			found = true;
			*start = next - GMEM_LEAF_PAGES + bit;
		}

		bit = private ? find_next_zero_bit(leaf->private, GMEM_LEAF_PAGES, bit) :
				find_next_bit(leaf->private, GMEM_LEAF_PAGES, bit);
		if (bit < GMEM_LEAF_PAGES) {
			index = next - GMEM_LEAF_PAGES + bit;
			break;
		}
	}

	if (found && *start < limit) {
		*end = min(index, limit);
		return true;
	}

	*start = min(index, limit);
	return false;
}

/*
 * Return a node or a leaf for a block of @level that is all in the state of @tag.
 */
static void *gmem_state_alloc(unsigned int level, void *tag)
{
	struct gmem_state_node *node;
	struct gmem_state_leaf *leaf;

	if (!level) {
		leaf = kmalloc_obj(*leaf, GFP_KERNEL_ACCOUNT);
		if (!leaf)
			return NULL;

		if (gmem_tag_is_private(tag))
			bitmap_fill(leaf->private, GMEM_LEAF_PAGES);
		else
			bitmap_zero(leaf->private, GMEM_LEAF_PAGES);
		return leaf;
	}

	node = kmalloc_obj(*node, GFP_KERNEL_ACCOUNT);
	if (node)
		memset_p(node->slots, tag, GMEM_NODE_SLOTS);
	return node;
}

/*
 * Split blocks until one of them begins at @index, or until all of the block around
 * @index is in the state of @tag already.
 */
static int gmem_state_split(struct gmem_state *state, pgoff_t index, void *tag)
{
	unsigned int level = state->level;
	void **slot = &state->root;
	void *entry;

	lockdep_assert_held(&state->grow);

	while (index & (gmem_block_pages(level) - 1)) {
		entry = READ_ONCE(*slot);

		if (entry == tag)
			break;

		if (gmem_is_tag(entry)) {
			entry = gmem_state_alloc(level, entry);
			if (!entry)
				return -ENOMEM;

			/* Pairs with gmem_state_block(). */
			smp_store_release(slot, entry);
		}

		if (!level)
			break;

		slot = &((struct gmem_state_node *)entry)->slots[gmem_slot(index, --level)];
	}

	return 0;
}

static bool gmem_state_must_split(const struct gmem_state *state, pgoff_t index, void *tag)
{
	unsigned int level;
	void *entry;

	entry = gmem_state_block(state, index, &level);

	return gmem_is_tag(entry) && entry != tag && (index & (gmem_block_pages(level) - 1));
}

/**
 * gmem_state_is_prepared() - whether a change of state takes no more memory
 * @state: the state
 * @start: first index of the change
 * @end: first index beyond the change
 * @private: the new state
 *
 * Like gmem_state_prepare(), which is not needed if this is true.
 */
bool gmem_state_is_prepared(const struct gmem_state *state, pgoff_t start, pgoff_t end,
			    bool private)
{
	void *tag = gmem_tag(private);

	return !gmem_state_must_split(state, start, tag) &&
	       (end == state->nr_pages || !gmem_state_must_split(state, end, tag));
}

/**
 * gmem_state_prepare() - add the memory that a change of state takes
 * @state: the state
 * @start: first index of the change
 * @end: first index beyond the change
 * @private: the new state
 *
 * The caller sees to it that the pages are its own to change until it has done so.
 * No other lock is needed, and changes of other pages may go on: they store to blocks
 * all of whose pages they change, and none of these blocks is split here.
 *
 * The memory is charged to the caller's memory cgroup.  It remains if the change is
 * called off.
 *
 * Return: 0, -ENOMEM, or -EINTR if a fatal signal is pending.
 */
int gmem_state_prepare(struct gmem_state *state, pgoff_t start, pgoff_t end,
		       bool private)
{
	void *tag = gmem_tag(private);
	int r;

	r = mutex_lock_killable(&state->grow);
	if (r)
		return r;

	r = gmem_state_split(state, start, tag);
	if (!r && end < state->nr_pages)
		r = gmem_state_split(state, end, tag);

	mutex_unlock(&state->grow);
	return r;
}

static void gmem_state_store_leaf(struct gmem_state_leaf *leaf, unsigned long start,
				  unsigned long end, bool private)
{
	unsigned long word;

	/* Readers look at the bits without a lock: write whole words. */
	for (word = BIT_WORD(start); word <= BIT_WORD(end - 1); word++) {
		unsigned long bits = leaf->private[word], mask = ~0UL;

		if (word == BIT_WORD(start))
			mask &= BITMAP_FIRST_WORD_MASK(start);
		if (word == BIT_WORD(end - 1))
			mask &= BITMAP_LAST_WORD_MASK(end);

		if (private)
			bits |= mask;
		else
			bits &= ~mask;

		WRITE_ONCE(leaf->private[word], bits);
	}
}

/* Store the state of the first block of [@start, @end), and return where it ends. */
static pgoff_t gmem_state_store(struct gmem_state *state, pgoff_t start, pgoff_t end,
				bool private)
{
	unsigned int level = state->level;
	void *tag = gmem_tag(private);
	void **slot = &state->root;
	pgoff_t mask, next;
	void *entry;

	for (;;) {
		mask = gmem_block_pages(level) - 1;
		next = min((start | mask) + 1, end);
		entry = READ_ONCE(*slot);

		if (entry == tag)
			return next;

		if (gmem_is_tag(entry)) {
			/* The block that the file ends in counts as whole. */
			if (!WARN_ON_ONCE((start & mask) ||
					  ((next & mask) && next != state->nr_pages)))
				WRITE_ONCE(*slot, tag);
			return next;
		}

		if (!level)
			break;

		slot = &((struct gmem_state_node *)entry)->slots[gmem_slot(start, --level)];
	}

	gmem_state_store_leaf(entry, start & mask, ((next - 1) & mask) + 1, private);
	return next;
}

/**
 * gmem_state_commit() - change the state of a range
 * @state: the state
 * @start: first index of the change
 * @end: first index beyond the change
 * @private: the new state
 *
 * Cannot fail after gmem_state_prepare() for the same change, or for one that this is
 * the rest of.  The caller write-holds @state->lock.  Lockless readers see each page
 * change once.
 *
 * Changes a bounded number of blocks, so that a caller can drop the lock in between.
 *
 * Return: the first index that has not been changed, @end if all have been.
 */
pgoff_t gmem_state_commit(struct gmem_state *state, pgoff_t start, pgoff_t end,
			  bool private)
{
	unsigned int i;

	lockdep_assert_held_write(state->lock);

	for (i = 0; i < GMEM_STATE_BATCH && start < end; i++)
		start = gmem_state_store(state, start, end, private);

	return start;
}
