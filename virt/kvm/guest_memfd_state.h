/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_GUEST_MEMFD_STATE_H__
#define __KVM_GUEST_MEMFD_STATE_H__

#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/types.h>

/**
 * struct gmem_state - which pages of a guest_memfd are private
 * @root: the state of the whole file if it is uniform, else a leaf or a node
 * @lock: write-held to change the state; held in any way to look for runs
 * @grow: held to add nodes and leaves
 * @nr_pages: size of the file, in pages
 * @level: level of @root, 0 if it is a leaf
 *
 * One bit for each page, kept as a tree of fixed geometry.  A block of pages
 * that have always been in one state costs nothing below the slot that says so.
 */
struct gmem_state {
	void *root;
	struct rw_semaphore *lock;
	/* Serializes those who add to the tree. */
	struct mutex grow;
	pgoff_t nr_pages;
	unsigned int level;
};

void gmem_state_init(struct gmem_state *state, struct rw_semaphore *lock,
		     pgoff_t nr_pages, bool private);
void gmem_state_destroy(struct gmem_state *state);

bool gmem_state_is_private(const struct gmem_state *state, pgoff_t index);
bool gmem_state_next_run(const struct gmem_state *state, bool private,
			 pgoff_t *start, pgoff_t *end, pgoff_t limit);

bool gmem_state_is_prepared(const struct gmem_state *state, pgoff_t start, pgoff_t end,
			    bool private);
int gmem_state_prepare(struct gmem_state *state, pgoff_t start, pgoff_t end,
		       bool private);
pgoff_t gmem_state_commit(struct gmem_state *state, pgoff_t start, pgoff_t end,
			  bool private);

#endif /* __KVM_GUEST_MEMFD_STATE_H__ */
