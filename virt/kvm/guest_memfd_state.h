/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_GUEST_MEMFD_STATE_H__
#define __KVM_GUEST_MEMFD_STATE_H__

#include <linux/rwsem.h>
#include <linux/types.h>

struct gmem_state_leaf;
struct gmem_state_node;

/**
 * struct gmem_state - which pages of a guest_memfd are private
 * @root: the state of the whole file if it is uniform, else a leaf or a node
 * @lock: write-held to change the state; held in any way to walk it
 * @nr_pages: size of the file, in pages
 * @level: level of @root, 0 if it is a leaf
 *
 * One bit for each page, kept as a tree of fixed geometry.  A block of pages
 * that are all in one state costs nothing below the slot that says so.
 */
struct gmem_state {
	void __rcu *root;
	struct rw_semaphore *lock;
	pgoff_t nr_pages;
	unsigned int level;
};

/**
 * struct gmem_state_reserve - memory set aside for one change of state
 * @nodes: list of unused nodes
 * @leaves: list of unused leaves
 */
struct gmem_state_reserve {
	struct gmem_state_node *nodes;
	struct gmem_state_leaf *leaves;
};

void gmem_state_init(struct gmem_state *state, struct rw_semaphore *lock,
		     pgoff_t nr_pages, bool private);
void gmem_state_destroy(struct gmem_state *state);

bool gmem_state_is_private(const struct gmem_state *state, pgoff_t index);
bool gmem_state_next_run(const struct gmem_state *state, bool private,
			 pgoff_t *start, pgoff_t *end, pgoff_t limit);

int gmem_state_prepare(const struct gmem_state *state, pgoff_t start,
		       pgoff_t end, bool private,
		       struct gmem_state_reserve *reserve);
void gmem_state_commit(struct gmem_state *state, pgoff_t start, pgoff_t end,
		       bool private, struct gmem_state_reserve *reserve);
void gmem_state_unprepare(struct gmem_state_reserve *reserve);

#if IS_ENABLED(CONFIG_KUNIT)
void gmem_state_free_block(void *block);
#endif

#endif /* __KVM_GUEST_MEMFD_STATE_H__ */
