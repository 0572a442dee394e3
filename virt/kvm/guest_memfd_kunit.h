/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the KUnit tests of the architectures' side of guest_memfd have in common: a
 * VM that is as much of a VM as guest_memfd looks at, with memory that the mm of the
 * test has mapped.  Conversions are made through the ioctl, host accesses through
 * page faults.  What is replaced is the guest's page tables, see
 * kvm_gmem_unmap_guest(), and what lies below: the firmware.
 */
#ifndef __KVM_GUEST_MEMFD_KUNIT_H__
#define __KVM_GUEST_MEMFD_KUNIT_H__

#include <kunit/static_stub.h>
#include <kunit/test-bug.h>
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/kvm_host.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>

#include "guest_memfd.h"
#include "kvm_mm.h"

struct file *kvm_gmem_kunit_bind_new(struct kvm *kvm, struct kvm_memory_slot *slot,
				     u64 flags);
int kvm_gmem_kunit_rebind(struct kvm *kvm, struct kvm_memory_slot *slot,
			  struct file *file, gfn_t base_gfn);
bool kvm_gmem_kunit_ready(void);
void kvm_gmem_kunit_poison(bool on);
void kvm_gmem_kunit_invalidated(struct kvm *kvm, gfn_t start, gfn_t end);
void kvm_gmem_kunit_invalidate(struct kvm *kvm, gfn_t start, gfn_t end);

#define GMEM_KUNIT_GFN		0x1000	/* converted in place */
#define GMEM_KUNIT_PAGES	64
#define GMEM_KUNIT_VM_GFN	0x2000	/* tracked by the VM, and private */
#define GMEM_KUNIT_VM_PAGES	4

/**
 * struct gmem_kunit - a VM, and its userspace; the first thing in kunit->priv
 * @kvm: the VM
 * @slots: its memslots: @slot, and @vm_slot if gmem_kunit_add_vm_slot() was called
 * @slot: memory that is converted in place
 * @vm_slot: memory whose state the VM keeps
 * @file: the guest_memfd of @slot
 * @vm_file: the guest_memfd of @vm_slot
 * @inode: of @file
 * @mem: mapping of @file
 * @args: a page of userspace memory for arguments of ioctls, and one more
 * @map: maps a page for the guest, under mmu_lock
 * @before_map: optional; called once by the next fault, between the lookup of the page
 *		and mmu_lock, when the fault holds no lock of guest_memfd
 */
struct gmem_kunit {
	struct kvm *kvm;
	struct kvm_memslots slots;
	struct kvm_memory_slot slot, vm_slot;
	struct file *file, *vm_file;
	struct inode *inode;
	void __user *mem;
	void __user *args;
	int (*map)(struct kunit *test, gfn_t gfn, kvm_pfn_t pfn, bool private);
	void (*before_map)(struct kunit *test);
};

KUNIT_DEFINE_ACTION_WRAPPER(gmem_kunit_cleanup_srcu, cleanup_srcu_struct,
			    struct srcu_struct *);

static inline void gmem_kunit_init_kvm(struct kunit *test, struct kvm *kvm,
				       unsigned long vm_type)
{
	KUNIT_ASSERT_EQ(test, init_srcu_struct(&kvm->srcu), 0);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, gmem_kunit_cleanup_srcu,
							&kvm->srcu), 0);

	KVM_MMU_LOCK_INIT(kvm);
	mutex_init(&kvm->lock);
	mutex_init(&kvm->slots_lock);
	refcount_set(&kvm->users_count, 1);
	xa_init(&kvm->vcpu_array);
	xa_init_flags(&kvm->mem_attr_array, XA_FLAGS_ACCOUNT);
	INIT_LIST_HEAD(&kvm->arch.tdp_mmu_roots);
	kvm->arch.vm_type = vm_type;
	kvm->arch.has_private_mem = true;
}

/* @kvm is zeroed, and part of whatever the vendor makes of it. */
static inline void gmem_kunit_init(struct kunit *test, struct gmem_kunit *g,
				   struct kvm *kvm, unsigned long vm_type, u64 flags)
{
	gmem_kunit_init_kvm(test, kvm, vm_type);
	g->kvm = kvm;
	kvm_gmem_kunit_poison(false);

	g->slot.base_gfn = GMEM_KUNIT_GFN;
	g->slot.npages = GMEM_KUNIT_PAGES;
	g->file = kvm_gmem_kunit_bind_new(kvm, &g->slot, flags | GUEST_MEMFD_FLAG_MMAP);
	if (IS_ERR(g->file)) {
		int err = PTR_ERR(g->file);

		g->file = NULL;
		KUNIT_ASSERT_EQ_MSG(test, err, 0, "no guest_memfd");
	}
	g->inode = file_inode(g->file);

	rb_link_node(&g->slot.gfn_node[0], NULL, &g->slots.gfn_tree.rb_node);
	rcu_assign_pointer(kvm->memslots[0], &g->slots);

	g->mem = (void __user *)kunit_vm_mmap(test, g->file, 0,
					      GMEM_KUNIT_PAGES << PAGE_SHIFT,
					      PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_OR_NULL((void __force *)g->mem));

	g->args = (void __user *)kunit_vm_mmap(test, NULL, 0, 2 * PAGE_SIZE,
					       PROT_READ | PROT_WRITE,
					       MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_OR_NULL((void __force *)g->args));
}

static inline void gmem_kunit_add_vm_slot(struct kunit *test, struct gmem_kunit *g)
{
	int i;

	g->vm_slot.base_gfn = GMEM_KUNIT_VM_GFN;
	g->vm_slot.npages = GMEM_KUNIT_VM_PAGES;
	g->vm_file = kvm_gmem_kunit_bind_new(g->kvm, &g->vm_slot, 0);
	if (IS_ERR(g->vm_file)) {
		g->vm_file = NULL;
		KUNIT_FAIL_AND_ABORT(test, "no second guest_memfd");
	}

	for (i = 0; i < GMEM_KUNIT_VM_PAGES; i++)
		KUNIT_ASSERT_EQ(test, 0, xa_err(xa_store(&g->kvm->mem_attr_array,
							 GMEM_KUNIT_VM_GFN + i,
							 xa_mk_value(KVM_MEMORY_ATTRIBUTE_PRIVATE),
							 GFP_KERNEL)));

	/* To the right of the other one, as its gfns are higher. */
	rb_link_node(&g->vm_slot.gfn_node[0], &g->slot.gfn_node[0],
		     &g->slot.gfn_node[0].rb_right);
}

/*
 * Close everything, so that the pages are freed here and now.  The mm of the test
 * is torn down at the same time by the thread that ran the test.
 */
static inline void gmem_kunit_exit(struct kunit *test, struct gmem_kunit *g)
{
	int i;

	if (!g->file)
		return;

	for (i = 0; i < 5000 && file_count(g->file) > 1; i++)
		fsleep(1000);
	KUNIT_EXPECT_EQ(test, (int)file_count(g->file), 1);

	__fput_sync(g->file);
	if (g->vm_file)
		__fput_sync(g->vm_file);

	xa_destroy(&g->kvm->mem_attr_array);
	KUNIT_EXPECT_EQ(test, refcount_read(&g->kvm->users_count), 1);
	KUNIT_EXPECT_EQ(test, g->kvm->mmu_invalidate_in_progress, 0);
}

/* KVM_SET_MEMORY_ATTRIBUTES2 on @nr pages from page @first on; @error: of error_offset. */
static inline int gmem_kunit_convert(struct kunit *test, pgoff_t first,
				     unsigned long nr, bool to_private, u64 mode,
				     pgoff_t *error)
{
	struct gmem_kunit *g = test->priv;
	struct kvm_memory_attributes2 attrs = {
		.offset = first << PAGE_SHIFT,
		.size = nr << PAGE_SHIFT,
		.attributes = to_private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
		.flags = mode,
		.error_offset = U64_MAX,
	};
	int r;

	KUNIT_ASSERT_EQ(test, 0, copy_to_user(g->args, &attrs, sizeof(attrs)));
	r = g->file->f_op->unlocked_ioctl(g->file, KVM_SET_MEMORY_ATTRIBUTES2,
					  (unsigned long)g->args);
	KUNIT_ASSERT_EQ(test, 0, copy_from_user(&attrs, g->args, sizeof(attrs)));
	if (error)
		*error = attrs.error_offset >> PAGE_SHIFT;
	return r;
}

static inline int gmem_kunit_punch(struct gmem_kunit *g, pgoff_t first, unsigned long nr)
{
	return g->file->f_op->fallocate(g->file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
					first << PAGE_SHIFT, nr << PAGE_SHIFT);
}

static inline int gmem_kunit_allocate(struct gmem_kunit *g, pgoff_t first, unsigned long nr)
{
	return g->file->f_op->fallocate(g->file, FALLOC_FL_KEEP_SIZE,
					first << PAGE_SHIFT, nr << PAGE_SHIFT);
}

/* Write a page of userspace memory; false if it gets a signal. */
static inline bool gmem_kunit_fill(void __user *page, u8 byte)
{
	u8 buf[64];
	int i;

	memset(buf, byte, sizeof(buf));
	for (i = 0; i < PAGE_SIZE; i += sizeof(buf)) {
		if (copy_to_user(page + i, buf, sizeof(buf)))
			return false;
	}
	return true;
}

static inline bool gmem_kunit_write(struct gmem_kunit *g, pgoff_t index, u8 byte)
{
	return gmem_kunit_fill(g->mem + (index << PAGE_SHIFT), byte);
}

/* The byte that userspace finds all over the page, -EFAULT if it gets a signal. */
static inline int gmem_kunit_read(struct gmem_kunit *g, pgoff_t index)
{
	u8 buf[64];
	int i, byte = -1;

	for (i = 0; i < PAGE_SIZE; i += sizeof(buf)) {
		if (copy_from_user(buf, g->mem + (index << PAGE_SHIFT) + i, sizeof(buf)))
			return -EFAULT;
		if (byte < 0)
			byte = buf[0];
		if (memchr_inv(buf, byte, sizeof(buf)))
			return -EINVAL;
	}
	return byte;
}

/* The pfn of an allocated page, 0 if it isn't. */
static inline kvm_pfn_t gmem_kunit_pfn(struct gmem_kunit *g, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(g->inode->i_mapping, index);
	kvm_pfn_t pfn;

	if (IS_ERR(folio))
		return 0;

	pfn = folio_pfn(folio);
	folio_put(folio);
	return pfn;
}

static inline bool gmem_kunit_page_is(kvm_pfn_t pfn, u8 byte)
{
	return !memchr_inv(pfn_to_kaddr(pfn), byte, PAGE_SIZE);
}

/*
 * A guest access to a page of a slot that is converted in place: look the page up
 * and map it, if nothing has changed meanwhile.
 */
static inline int gmem_kunit_fault_slot(struct kunit *test, struct kvm_memory_slot *slot,
					gfn_t gfn, bool private)
{
	struct gmem_kunit *g = test->priv;
	void (*before_map)(struct kunit *test);
	struct kvm *kvm = g->kvm;
	unsigned long seq;
	kvm_pfn_t pfn;
	int r;

	/* Keeps the VM from changing its type, as being run by a vCPU does. */
	guard(mutex)(&kvm->lock);
	guard(mutex)(&kvm->slots_lock);

	seq = kvm->mmu_invalidate_seq;
	smp_rmb(); /* Pairs with the smp_wmb() in kvm_mmu_invalidate_end(). */

	r = kvm_gmem_get_pfn(kvm, slot, gfn, private, &pfn, NULL);
	if (r)
		return r;

	before_map = g->before_map;
	g->before_map = NULL;
	if (before_map)
		before_map(test);

	read_lock(&kvm->mmu_lock);
	if (mmu_invalidate_retry_gfn(kvm, seq, gfn))
		r = -EAGAIN;
	else
		r = g->map(test, gfn, pfn, private);
	read_unlock(&kvm->mmu_lock);

	return r;
}

static inline int gmem_kunit_fault(struct kunit *test, pgoff_t index, bool private)
{
	struct gmem_kunit *g = test->priv;

	return gmem_kunit_fault_slot(test, &g->slot, g->slot.base_gfn + index, private);
}

static inline bool gmem_kunit_is_private(struct kunit *test, pgoff_t index)
{
	struct gmem_kunit *g = test->priv;

	return kvm_gmem_is_private(&g->slot, g->slot.base_gfn + index);
}

/* Private pages @first and on, filled by the host and touched by the guest. */
static inline void gmem_kunit_give(struct kunit *test, pgoff_t first, unsigned long nr)
{
	struct gmem_kunit *g = test->priv;
	pgoff_t i;

	for (i = first; i < first + nr; i++)
		KUNIT_ASSERT_TRUE(test, gmem_kunit_write(g, i, i + 1));
	KUNIT_ASSERT_EQ(test, gmem_kunit_convert(test, first, nr, true, 0, NULL), 0);
	for (i = first; i < first + nr; i++)
		KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, i, true), 0);
}

/* A mode can't be kept for pages 0 to 7, of which the first four are private. */
static inline void gmem_kunit_unsupported(struct kunit *test, bool to_private, u64 mode)
{
	pgoff_t error = -1;

	KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 8, to_private, mode, &error),
			-EOPNOTSUPP);
	/* The first page that isn't in the wanted state yet. */
	KUNIT_EXPECT_EQ(test, error, to_private ? 4 : 0);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, 0));
	KUNIT_EXPECT_FALSE(test, gmem_kunit_is_private(test, 4));
}

/* Pages in all states, mapped and not, are there when the file is closed. */
static inline void gmem_kunit_mixture(struct kunit *test)
{
	struct gmem_kunit *g = test->priv;

	gmem_kunit_give(test, 0, 8);
	KUNIT_ASSERT_EQ(test, gmem_kunit_convert(test, 2, 2, false, 0, NULL), 0);
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 3, false), 0);
	KUNIT_ASSERT_EQ(test, gmem_kunit_convert(test, 8, 8, true, 0, NULL), 0);
	KUNIT_ASSERT_EQ(test, gmem_kunit_allocate(g, 8, 4), 0);
	KUNIT_ASSERT_EQ(test, gmem_kunit_convert(test, 2, 1, true, 0, NULL), 0);
}

#endif /* __KVM_GUEST_MEMFD_KUNIT_H__ */
