// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for conversions: what is done to the guest's mappings, and when.
 * Selftests cover everything that userspace and the guest can see.
 *
 * This is part of guest_memfd.c.  The VM is as much of a VM as guest_memfd looks
 * at, and unmapping is replaced by a function that takes notes.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/fdtable.h>
#include <linux/kthread.h>
#include <linux/sched/signal.h>
#include <linux/workqueue.h>

#include "guest_memfd_kunit.h"

/**
 * kvm_gmem_kunit_bind_new() - Create a guest_memfd and bind it to a memslot, as userspace does
 * @kvm: the VM
 * @slot: the memslot, with its base and size
 * @flags: GUEST_MEMFD_FLAG_*
 *
 * Return: the file, which has the size of the memslot.
 */
struct file *kvm_gmem_kunit_bind_new(struct kvm *kvm, struct kvm_memory_slot *slot,
				     u64 flags)
{
	struct kvm_create_guest_memfd args = {
		.size = slot->npages << PAGE_SHIFT,
		.flags = flags,
	};
	struct file *file;
	int fd, r;

	fd = kvm_gmem_create(kvm, &args);
	if (fd < 0)
		return ERR_PTR(fd);

	slot->flags = KVM_MEM_GUEST_MEMFD;

	mutex_lock(&kvm->slots_lock);
	r = kvm_gmem_prepare_memory_region(kvm, slot, fd, 0);
	if (!r) {
		file = slot->gmem.file;
		r = kvm_gmem_commit_memory_region(kvm, slot);
		if (r)
			fput(file);
	}
	mutex_unlock(&kvm->slots_lock);

	close_fd(fd);
	return r ? ERR_PTR(r) : file;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_gmem_kunit_bind_new);

/**
 * kvm_gmem_kunit_rebind() - Delete a memslot and create it elsewhere, with the same file
 * @kvm: the VM
 * @slot: the memslot; what the guest maps of it is for the caller to unmap
 * @file: the guest_memfd
 * @base_gfn: where the memslot is to begin
 *
 * Return: 0 or an error.
 */
int kvm_gmem_kunit_rebind(struct kvm *kvm, struct kvm_memory_slot *slot,
			  struct file *file, gfn_t base_gfn)
{
	int fd = get_unused_fd_flags(0);
	int r;

	if (fd < 0)
		return fd;
	fd_install(fd, get_file(file));

	mutex_lock(&kvm->slots_lock);
	kvm_gmem_unbind(slot);
	slot->base_gfn = base_gfn;
	slot->flags = KVM_MEM_GUEST_MEMFD;
	r = kvm_gmem_prepare_memory_region(kvm, slot, fd, slot->gmem.pgoff << PAGE_SHIFT);
	if (!r) {
		r = kvm_gmem_commit_memory_region(kvm, slot);
		fput(file);
	}
	mutex_unlock(&kvm->slots_lock);

	close_fd(fd);
	return r;
}
EXPORT_SYMBOL_IF_KUNIT(kvm_gmem_kunit_rebind);

/* Whether files can be created: on x86, it takes a vendor module to initialize KVM. */
bool kvm_gmem_kunit_ready(void)
{
	return kvm_gmem_mnt;
}

/* Sets the module parameter; for the time of a test. */
void kvm_gmem_kunit_poison(bool on)
{
	WRITE_ONCE(gmem_poison_unspecified, on);
}
EXPORT_SYMBOL_IF_KUNIT(kvm_gmem_kunit_poison);

/* What unmapping leaves in the VM for faults to see, within an invalidation. */
void kvm_gmem_kunit_invalidated(struct kvm *kvm, gfn_t start, gfn_t end)
{
	lockdep_assert_held_write(&kvm->mmu_lock);
	kvm_mmu_invalidate_range_add(kvm, start, end);
}
EXPORT_SYMBOL_IF_KUNIT(kvm_gmem_kunit_invalidated);

/* A whole invalidation. */
void kvm_gmem_kunit_invalidate(struct kvm *kvm, gfn_t start, gfn_t end)
{
	KVM_MMU_LOCK(kvm);
	kvm_mmu_invalidate_start(kvm);
	kvm_mmu_invalidate_range_add(kvm, start, end);
	kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);
}
EXPORT_SYMBOL_IF_KUNIT(kvm_gmem_kunit_invalidate);

#define NR_PAGES	2048
#define PATTERN		0x5a

struct unmapped {
	struct kvm *kvm;
	gfn_t start;
	gfn_t end;
	enum kvm_gfn_range_filter filter;
};

struct convert_test {
	struct kvm *kvm;
	struct file *file;
	struct inode *inode;
	struct kvm_memory_slot *slots[3];
	int nr_slots;

	/* The conversion that is going on, and what it has unmapped so far. */
	struct gmem_conversion c;
	struct unmapped unmapped[16];
	int nr_unmapped;
	int nr_asked;

	/* What the TLB had been told by then, at each call and at the last one. */
	u64 flushes[16];
	u64 flushes_asked;
	/* Of which gfn on not to ask for a reschedule. */
	gfn_t last_gfn;
	/* Kill the VM while it is being unmapped. */
	bool kill;
};

KUNIT_DEFINE_ACTION_WRAPPER(vfree_action, vfree, const void *);

static struct kvm *make_vm(struct kunit *test)
{
	struct kvm *kvm = vzalloc(sizeof(*kvm));

	KUNIT_ASSERT_NOT_NULL(test, kvm);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, vfree_action, kvm), 0);

	KVM_MMU_LOCK_INIT(kvm);
	mutex_init(&kvm->slots_lock);
	refcount_set(&kvm->users_count, 1);
	xa_init(&kvm->vcpu_array);
	xa_init_flags(&kvm->mem_attr_array, XA_FLAGS_ACCOUNT);
	kvm->arch.vm_type = KVM_X86_SW_PROTECTED_VM;
	kvm->arch.has_private_mem = true;
	kvm->arch.pre_fault_allowed = true;
	return kvm;
}

/* Bind @npages at @pgoff to @gfn. */
static struct kvm_memory_slot *bind(struct kunit *test, gfn_t gfn, pgoff_t pgoff,
				    unsigned long npages)
{
	struct convert_test *t = test->priv;
	struct kvm_memory_slot *slot;
	int r;

	slot = kunit_kzalloc(test, sizeof(*slot), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, slot);

	slot->base_gfn = gfn;
	slot->npages = npages;
	slot->flags = KVM_MEM_GUEST_MEMFD;
	slot->gmem.file = t->file;
	slot->gmem.pgoff = pgoff;

	mutex_lock(&t->kvm->slots_lock);
	r = kvm_gmem_commit_memory_region(t->kvm, slot);
	mutex_unlock(&t->kvm->slots_lock);

	KUNIT_ASSERT_EQ(test, r, 0);
	t->slots[t->nr_slots++] = slot;
	return slot;
}

static void fill(struct kunit *test, pgoff_t index)
{
	struct convert_test *t = test->priv;
	struct folio *folio = kvm_gmem_get_uptodate_folio(t->inode, index);

	KUNIT_ASSERT_FALSE(test, IS_ERR(folio));
	memset_page(folio_page(folio, 0), 0, PATTERN, PAGE_SIZE);
	folio_unlock(folio);
	folio_put(folio);

	/* So that no batch's reference gets in the way. */
	lru_cache_drain_for_folio(folio, 0, NULL);
}

static u8 first_byte(struct convert_test *t, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(t->inode->i_mapping, index);
	u8 byte;

	if (IS_ERR(folio))
		return 0;

	memcpy_from_page(&byte, folio_page(folio, 0), 0, 1);
	folio_put(folio);
	return byte;
}

static bool note_unmap(struct kvm *kvm, struct kvm_gfn_range *range)
{
	struct kunit *test = kunit_get_current_test();
	struct convert_test *t = test->priv;
	struct unmapped *u = &t->unmapped[t->nr_unmapped];
	pgoff_t pgoff = kvm_gmem_get_index(range->slot, range->start);
	pgoff_t end = pgoff + range->end - range->start;
	struct folio *folio;

	lockdep_assert_held_write(&kvm->mmu_lock);
	kvm_mmu_invalidate_range_add(kvm, range->start, range->end);

	if (t->nr_unmapped == ARRAY_SIZE(t->unmapped)) {
		KUNIT_FAIL(test, "too many ranges are unmapped");
		return false;
	}

	*u = (struct unmapped) { kvm, range->start, range->end, range->attr_filter };
	t->nr_unmapped++;

	KUNIT_EXPECT_EQ(test, kvm->mmu_invalidate_in_progress, 1);

	if (t->kill)
		kvm_vm_dead(kvm);

	for ( ; pgoff < end; pgoff++) {
		/* The mapping is that of the state which the page still is in. */
		KUNIT_EXPECT_EQ(test, gmem_state_is_private(&GMEM_I(t->inode)->state, pgoff),
				!t->c.to_private);

		/* The guest might still write: nothing may have been written yet. */
		folio = xa_load(&t->inode->i_mapping->i_pages, pgoff);
		if (folio)
			KUNIT_EXPECT_EQ(test, *(u8 *)folio_address(folio), PATTERN);
	}

	return false;
}

static bool unmap_nothing(struct kvm *kvm, struct kvm_gfn_range *range)
{
	kvm_gmem_kunit_invalidated(kvm, range->start, range->end);
	return false;
}

static int convert(struct kunit *test, pgoff_t start, pgoff_t end, bool to_private,
		   u64 mode)
{
	struct convert_test *t = test->priv;
	int r;

	t->nr_unmapped = 0;
	t->c = (struct gmem_conversion) {
		.inode = t->inode,
		.start = start,
		.end = end,
		.to_private = to_private,
		.mode = mode,
	};

	r = kvm_gmem_convert(&t->c);

	KUNIT_EXPECT_EQ(test, t->kvm->mmu_invalidate_in_progress, 0);
	return r;
}

static void expect_unmapped(struct kunit *test, int i, gfn_t start, gfn_t end,
			    enum kvm_gfn_range_filter filter)
{
	struct convert_test *t = test->priv;

	KUNIT_ASSERT_LT(test, i, t->nr_unmapped);
	KUNIT_EXPECT_EQ(test, t->unmapped[i].start, start);
	KUNIT_EXPECT_EQ(test, t->unmapped[i].end, end);
	KUNIT_EXPECT_EQ(test, (int)t->unmapped[i].filter, (int)filter);
}

static bool is_private(struct convert_test *t, pgoff_t index)
{
	return gmem_state_is_private(&GMEM_I(t->inode)->state, index);
}

static int convert_test_init(struct kunit *test)
{
	struct convert_test *t;
	int fd;

	if (!kvm_gmem_kunit_ready())
		kunit_skip(test, "no vendor module has initialized KVM");

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	test->priv = t;

	t->kvm = make_vm(test);

	fd = __kvm_gmem_create(t->kvm, NR_PAGES << PAGE_SHIFT,
			       GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
	if (fd < 0)
		return fd;

	t->file = fget(fd);
	close_fd(fd);
	t->inode = file_inode(t->file);

	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, note_unmap);
	return 0;
}

static void convert_test_exit(struct kunit *test)
{
	struct convert_test *t = test->priv;
	int i;

	if (!t || !t->file)
		return;

	kunit_deactivate_static_stub(test, kvm_gmem_unmap_guest);

	/* Closing the file unmaps what is bound to it, for real. */
	mutex_lock(&t->kvm->slots_lock);
	for (i = 0; i < t->nr_slots; i++)
		kvm_gmem_unbind(t->slots[i]);
	mutex_unlock(&t->kvm->slots_lock);

	__fput_sync(t->file);

	KUNIT_EXPECT_EQ(test, refcount_read(&t->kvm->users_count), 1);
}

static void test_unmaps_the_state_left(struct kunit *test)
{
	struct convert_test *t = test->priv;

	bind(test, 0x1000, 0, NR_PAGES);
	fill(test, 5);
	fill(test, 7);

	KUNIT_EXPECT_EQ(test, convert(test, 5, 20, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 1);
	expect_unmapped(test, 0, 0x1005, 0x1014, KVM_FILTER_SHARED);
	KUNIT_EXPECT_TRUE(test, is_private(t, 5));

	KUNIT_EXPECT_EQ(test, convert(test, 0, 10, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 1);
	expect_unmapped(test, 0, 0x1005, 0x100a, KVM_FILTER_PRIVATE);
	KUNIT_EXPECT_FALSE(test, is_private(t, 5));
	KUNIT_EXPECT_TRUE(test, is_private(t, 10));
}

static void test_unmaps_what_changes(struct kunit *test)
{
	static const pgoff_t there[] = { 20, 50, 99, 200, 300, 1100 };
	struct convert_test *t = test->priv;
	int i;

	bind(test, 0x1000, 0, NR_PAGES);
	for (i = 0; i < ARRAY_SIZE(there); i++)
		fill(test, there[i]);

	/* Where there are no pages, nothing is mapped. */
	KUNIT_EXPECT_EQ(test, convert(test, 100, 200, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 0);
	KUNIT_EXPECT_EQ(test, t->kvm->mmu_invalidate_seq, 1);
	KUNIT_EXPECT_EQ(test, convert(test, 600, 1100, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 0);

	KUNIT_EXPECT_EQ(test, convert(test, 50, NR_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 3);
	expect_unmapped(test, 0, 0x1000 + 50, 0x1000 + 100, KVM_FILTER_SHARED);
	expect_unmapped(test, 1, 0x1000 + 200, 0x1000 + 600, KVM_FILTER_SHARED);
	expect_unmapped(test, 2, 0x1000 + 1100, 0x1000 + NR_PAGES, KVM_FILTER_SHARED);
}

static void test_nothing_to_do(struct kunit *test)
{
	struct convert_test *t = test->priv;
	unsigned long seq;

	bind(test, 0x1000, 0, NR_PAGES);
	fill(test, 0);
	seq = t->kvm->mmu_invalidate_seq;

	/* Not even the mode matters. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, false,
				      KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 0);
	KUNIT_EXPECT_EQ(test, t->kvm->mmu_invalidate_seq, seq);
	KUNIT_EXPECT_EQ(test, first_byte(t, 0), PATTERN);
}

static void test_raises_the_sequence(struct kunit *test)
{
	struct convert_test *t = test->priv;
	unsigned long seq;

	bind(test, 0x1000, 0, NR_PAGES);
	seq = t->kvm->mmu_invalidate_seq;

	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->kvm->mmu_invalidate_seq, seq + 1);
}

/* note_unmap() looks at the contents while the guest can still write them. */
static void test_zeroes_after_unmapping(struct kunit *test)
{
	struct convert_test *t = test->priv;

	bind(test, 0x1000, 0, NR_PAGES);
	fill(test, 3);
	fill(test, 4);

	KUNIT_EXPECT_EQ(test, convert(test, 3, 4, true,
				      KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, first_byte(t, 3), PATTERN);

	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, false,
				      KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 1);
	KUNIT_EXPECT_EQ(test, first_byte(t, 3), 0);
	KUNIT_EXPECT_EQ(test, first_byte(t, 4), PATTERN);
}

static void test_busy_page(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct folio *folio;
	unsigned long seq;

	bind(test, 0x1000, 0, NR_PAGES);
	fill(test, 8);
	fill(test, 9);
	seq = t->kvm->mmu_invalidate_seq;

	folio = filemap_get_folio(t->inode->i_mapping, 9);
	KUNIT_ASSERT_FALSE(test, IS_ERR(folio));

	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, true, 0), -EAGAIN);
	KUNIT_EXPECT_EQ(test, t->c.error, 9);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 0);
	KUNIT_EXPECT_EQ(test, t->kvm->mmu_invalidate_seq, seq);
	KUNIT_EXPECT_FALSE(test, is_private(t, 0));

	folio_put(folio);
	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, true, 0), 0);
	KUNIT_EXPECT_TRUE(test, is_private(t, 9));
}

static void test_poisoned_page(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct folio *busy, *poisoned;

	bind(test, 0x1000, 0, NR_PAGES);
	fill(test, 1);
	fill(test, 2);

	busy = filemap_get_folio(t->inode->i_mapping, 1);
	poisoned = filemap_get_folio(t->inode->i_mapping, 2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(busy) || IS_ERR(poisoned));
	folio_set_hwpoison(poisoned);

	/* Poison comes first: there is no point in repeating the call. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, true, 0), -EHWPOISON);
	KUNIT_EXPECT_EQ(test, t->c.error, 2);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 0);

	folio_clear_hwpoison(poisoned);
	folio_put(poisoned);
	folio_put(busy);
}

static void test_bindings(struct kunit *test)
{
	struct convert_test *t = test->priv;
	unsigned long seq;

	/* Sizes and offsets that take several entries in the xarray each. */
	bind(test, 0x1000, 3, 501);
	bind(test, 0x8000, 1000, 77);
	fill(test, 3);
	fill(test, 1000);
	seq = t->kvm->mmu_invalidate_seq;

	KUNIT_EXPECT_EQ(test, convert(test, 600, 700, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 0);
	KUNIT_EXPECT_EQ(test, t->kvm->mmu_invalidate_seq, seq);
	KUNIT_EXPECT_TRUE(test, is_private(t, 600));

	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 2);
	expect_unmapped(test, 0, 0x1000, 0x1000 + 501, KVM_FILTER_SHARED);
	expect_unmapped(test, 1, 0x8000, 0x8000 + 77, KVM_FILTER_SHARED);
}

/* There is one file for an inode today, but nothing should rely on it. */
static void test_two_files(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct kvm *other = make_vm(test);
	struct gmem_file f = { .kvm = other };
	struct kvm_memory_slot slot = {
		.base_gfn = 0x4000,
		.npages = NR_PAGES,
	};
	int r;

	bind(test, 0x1000, 0, NR_PAGES);
	fill(test, 0);

	xa_init(&f.bindings);
	xa_store_range(&f.bindings, 0, NR_PAGES - 1, &slot, GFP_KERNEL);
	list_add_tail(&f.entry, &GMEM_I(t->inode)->gmem_file_list);

	r = convert(test, 0, 16, true, 0);

	list_del(&f.entry);
	xa_destroy(&f.bindings);

	KUNIT_EXPECT_EQ(test, r, 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 2);
	expect_unmapped(test, 0, 0x1000, 0x1010, KVM_FILTER_SHARED);
	expect_unmapped(test, 1, 0x4000, 0x4010, KVM_FILTER_SHARED);
	KUNIT_EXPECT_PTR_EQ(test, t->unmapped[1].kvm, other);
	KUNIT_EXPECT_EQ(test, other->mmu_invalidate_in_progress, 0);
	KUNIT_EXPECT_EQ(test, other->mmu_invalidate_seq, 1);
}

/* A fault that was in flight the first time has given page 4 to the guest since. */
static int yes_then_no(struct gmem_conversion *c)
{
	struct kunit *test = kunit_get_current_test();
	struct convert_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, t->kvm->mmu_invalidate_in_progress, t->nr_asked);
	if (!t->nr_asked++)
		return 0;

	c->error = 4;
	return -EPERM;
}

static void test_permission_withdrawn(struct kunit *test)
{
	struct convert_test *t = test->priv;
	unsigned long seq;

	bind(test, 0x1000, 0, NR_PAGES);
	fill(test, 3);
	fill(test, 4);
	KUNIT_EXPECT_EQ(test, convert(test, 3, 5, true,
				      KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	seq = t->kvm->mmu_invalidate_seq;

	kunit_activate_static_stub(test, kvm_gmem_may_share, yes_then_no);
	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, false,
				      KVM_SET_MEMORY_ATTRIBUTES2_ZERO), -EPERM);
	kunit_deactivate_static_stub(test, kvm_gmem_may_share);

	KUNIT_EXPECT_EQ(test, t->nr_asked, 2);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 1);
	KUNIT_EXPECT_EQ(test, t->kvm->mmu_invalidate_seq, seq + 1);
	KUNIT_EXPECT_EQ(test, t->c.error, 4);
	KUNIT_EXPECT_TRUE(test, is_private(t, 3));
	KUNIT_EXPECT_TRUE(test, is_private(t, 4));
	KUNIT_EXPECT_EQ(test, first_byte(t, 3), PATTERN);
	KUNIT_EXPECT_EQ(test, first_byte(t, 4), PATTERN);
	KUNIT_EXPECT_FALSE(test, t->kvm->vm_dead);

	KUNIT_EXPECT_EQ(test, convert(test, 3, 5, false,
				      KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_FALSE(test, is_private(t, 4));
}

static u64 nr_flushes(struct kvm *kvm)
{
	return kvm->stat.generic.remote_tlb_flush_requests;
}

/* There was something to unmap, and somebody waits for the processor. */
static bool note_unmap_and_flush(struct kvm *kvm, struct kvm_gfn_range *range)
{
	struct convert_test *t = kunit_get_current_test()->priv;

	t->flushes[t->nr_unmapped] = nr_flushes(kvm);
	note_unmap(kvm, range);

	if (range->start < t->last_gfn) {
		set_tsk_need_resched(current);
		set_preempt_need_resched();
	}
	return true;
}

static int note_flushes(struct gmem_conversion *c)
{
	struct convert_test *t = kunit_get_current_test()->priv;

	t->flushes_asked = nr_flushes(t->kvm);
	return 0;
}

/*
 * The guest's TLB is flushed before mmu_lock is yielded, and before anything else is
 * done to the pages.
 */
static void test_flushes(struct kunit *test)
{
	struct convert_test *t = test->priv;
	const int nr = 6;
	int i;

	bind(test, 0x1000, 0, NR_PAGES);
	for (i = 0; i < nr; i++)
		fill(test, i * 600 % NR_PAGES);
	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ(test, convert(test, i * 600 % NR_PAGES, i * 600 % NR_PAGES + 2,
					      true, 0), 0);
	KUNIT_ASSERT_EQ(test, nr_flushes(t->kvm), 0);

	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, note_unmap_and_flush);
	kunit_activate_static_stub(test, kvm_gmem_may_share, note_flushes);
	t->last_gfn = 0x1000 + 3 * 600;
	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, false, 0), 0);

	KUNIT_ASSERT_EQ(test, t->nr_unmapped, nr);
	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_EQ(test, t->flushes[i], i);
	KUNIT_EXPECT_EQ(test, t->flushes_asked, nr);
	KUNIT_EXPECT_EQ(test, nr_flushes(t->kvm), nr);

	/* The same for a hole, where there is a page. */
	t->nr_unmapped = 0;
	t->c.to_private = true;
	KUNIT_EXPECT_EQ(test, kvm_gmem_punch_hole(t->inode, 0, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 1);
	KUNIT_EXPECT_EQ(test, nr_flushes(t->kvm), nr + 1);
}

struct queued {
	struct convert_test *t;
	struct completion done;
	u64 error_offset;
	int r;
};

static int set_private(struct convert_test *t, u64 *error_offset)
{
	struct kvm_memory_attributes2 attrs = {
		.size = PAGE_SIZE,
		.attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE,
	};

	*error_offset = U64_MAX;
	return kvm_gmem_set_attributes(t->file, &attrs, error_offset);
}

static int convert_queued(void *arg)
{
	struct queued *q = arg;

	q->r = set_private(q->t, &q->error_offset);
	complete(&q->done);
	return 0;
}

/* Of two conversions, the first kills the VM while the second waits. */
static void test_dead_while_queued(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct rw_semaphore *lock = &t->inode->i_mapping->invalidate_lock;
	struct queued q = { .t = t };
	struct task_struct *task;
	bool contended;
	int i;

	init_completion(&q.done);

	down_write(lock);
	task = kthread_run(convert_queued, &q, "gmem-convert");
	for (i = 0; i < 5000 && !IS_ERR(task) && !rwsem_is_contended(lock); i++)
		fsleep(1000);
	contended = rwsem_is_contended(lock);
	kvm_vm_dead(t->kvm);
	up_write(lock);

	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	wait_for_completion(&q.done);

	KUNIT_EXPECT_TRUE(test, contended);
	KUNIT_EXPECT_EQ(test, q.r, -EIO);
	KUNIT_EXPECT_EQ(test, q.error_offset, U64_MAX);
	KUNIT_EXPECT_FALSE(test, is_private(t, 0));
}

/* So does the VM of another file, if there is one. */
static void test_other_vm_is_dead(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct gmem_file f = { .kvm = make_vm(test) };
	u64 error_offset;
	int r;

	xa_init(&f.bindings);
	list_add_tail(&f.entry, &GMEM_I(t->inode)->gmem_file_list);
	kvm_vm_dead(f.kvm);

	r = set_private(t, &error_offset);

	list_del(&f.entry);

	KUNIT_EXPECT_EQ(test, r, -EIO);
	KUNIT_EXPECT_EQ(test, error_offset, U64_MAX);
	KUNIT_EXPECT_FALSE(test, is_private(t, 0));
	KUNIT_EXPECT_FALSE(test, t->kvm->vm_dead);
}

/* Be it by this conversion or by another task. */
static void test_dies_meanwhile(struct kunit *test)
{
	struct convert_test *t = test->priv;

	bind(test, 0x1000, 0, NR_PAGES);
	fill(test, 3);
	t->kill = true;

	KUNIT_EXPECT_EQ(test, convert(test, 2, NR_PAGES, true, 0), -EIO);
	KUNIT_EXPECT_EQ(test, t->c.error, 2);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 1);
	KUNIT_EXPECT_FALSE(test, is_private(t, 2));
	KUNIT_EXPECT_FALSE(test, is_private(t, 3));
}

/* ---- references ---- */

struct allocation {
	struct inode *inode;
	pgoff_t index;
	struct folio *folio;
};

/* Allocate a page and leave it to the LRU batch of the processor that this runs on. */
static long allocate(void *arg)
{
	struct allocation *a = arg;

	a->folio = kvm_gmem_get_uptodate_folio(a->inode, a->index);
	if (IS_ERR(a->folio))
		return PTR_ERR(a->folio);

	folio_unlock(a->folio);
	folio_put(a->folio);
	return 0;
}

/* Bind the test to a processor, and find another one. */
static unsigned int two_cpus(struct kunit *test)
{
	unsigned int this_cpu, other;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs two processors");

	this_cpu = get_cpu();
	other = cpumask_any_but(cpu_online_mask, this_cpu);
	put_cpu();
	KUNIT_ASSERT_EQ(test, set_cpus_allowed_ptr(current, cpumask_of(this_cpu)), 0);
	return other;
}

/*
 * The first user has gone before anybody looked again, the second page is in a batch
 * of this processor's, and the third in one of another's.
 */
static void test_drains(struct kunit *test)
{
	struct convert_test *t = test->priv;
	unsigned int other = two_cpus(test);
	struct gmem_patience patience = { .drained = LRU_CACHE_NOT_DRAINED };
	struct allocation a = { .inode = t->inode };

	fill(test, 0);
	a.index = 2;
	KUNIT_ASSERT_EQ(test, work_on_cpu(other, allocate, &a), 0);
	a.index = 1;
	KUNIT_ASSERT_EQ(test, allocate(&a), 0);

	/* Nothing was drained, so nothing is to be counted as drained. */
	KUNIT_EXPECT_EQ(test, kvm_gmem_wait_for_user(t->inode, 0, &patience), 0);
	KUNIT_EXPECT_EQ(test, patience.drained, LRU_CACHE_NOT_DRAINED);

	KUNIT_EXPECT_EQ(test, kvm_gmem_wait_for_user(t->inode, 1, &patience), 0);
	KUNIT_EXPECT_EQ(test, kvm_gmem_wait_for_user(t->inode, 2, &patience), 0);
	KUNIT_EXPECT_EQ(test, patience.waits, 0);
	KUNIT_EXPECT_EQ(test, patience.waits_all, 3);

	/* How often to come back is bounded, whatever is found each time. */
	patience.waits_all = GMEM_USERS_WAITS_ALL;
	KUNIT_EXPECT_EQ(test, kvm_gmem_wait_for_user(t->inode, 0, &patience), -EAGAIN);
}

struct slow_fault {
	struct inode *inode;
	struct completion holds, done;
	bool waited_for;
	/* The conversion is over. */
	bool over;
	int r;
};

/*
 * A host fault that has looked up its page and is then preempted, for longer than
 * anybody sleeps.  In the meantime another page gets into a batch.
 */
static int slow_fault(void *arg)
{
	struct slow_fault *s = arg;
	struct allocation a = { .inode = s->inode, .index = 3 };
	struct folio *folio;
	int i;

	folio = kvm_gmem_get_uptodate_folio(s->inode, 1);
	s->r = PTR_ERR_OR_ZERO(folio);
	complete(&s->holds);

	if (!s->r) {
		for (i = 0; i < 10000 && !folio_test_waiters(folio) && !READ_ONCE(s->over); i++)
			fsleep(1000);
		s->waited_for = folio_test_waiters(folio);
		msleep(50);
		s->r = allocate(&a);
		folio_unlock(folio);
		folio_put(folio);
	}
	complete(&s->done);
	return 0;
}

static void test_waits_for_folio_lock(struct kunit *test)
{
	struct convert_test *t = test->priv;
	unsigned int other = two_cpus(test);
	struct slow_fault s = { .inode = t->inode };
	struct task_struct *task;

	bind(test, 0x1000, 0, NR_PAGES);
	init_completion(&s.holds);
	init_completion(&s.done);

	task = kthread_create(slow_fault, &s, "gmem-fault");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	kthread_bind(task, other);
	wake_up_process(task);
	wait_for_completion(&s.holds);

	/* note_unmap() would look for a pattern in the pages. */
	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, unmap_nothing);
	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, true, 0), 0);

	WRITE_ONCE(s.over, true);
	wait_for_completion(&s.done);
	KUNIT_EXPECT_EQ(test, s.r, 0);
	KUNIT_EXPECT_TRUE(test, s.waited_for);
	KUNIT_EXPECT_TRUE(test, is_private(t, 1));
}

/* What nobody has ever used nobody has to be waited for. */
static void test_never_used(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct folio *folio = kvm_gmem_get_folio(t->inode, 4);
	int r;

	KUNIT_ASSERT_FALSE(test, IS_ERR(folio));
	folio_unlock(folio);

	/* There is nothing to lose: mm may evict it. */
	KUNIT_EXPECT_FALSE(test, folio_test_dirty(folio));
	r = convert(test, 0, NR_PAGES, true, 0);
	folio_put(folio);
	KUNIT_EXPECT_EQ(test, r, 0);

	fill(test, 4);
	KUNIT_EXPECT_TRUE(test, folio_test_dirty(folio));
}

/* ---- signals ---- */

/* Convert with a fatal signal pending. */
static int convert_killed(struct kunit *test, bool to_private, u64 mode)
{
	int r;

	sigaddset(&current->pending.signal, SIGKILL);
	set_thread_flag(TIF_SIGPENDING);
	r = convert(test, 0, NR_PAGES, to_private, mode);
	flush_signals(current);
	return r;
}

static void test_killed_checking_pages(struct kunit *test)
{
	struct convert_test *t = test->priv;
	pgoff_t i;

	bind(test, 0x1000, 0, NR_PAGES);

	KUNIT_ASSERT_EQ(test, convert(test, 0, NR_PAGES, true, 0), 0);
	for (i = 0; i < GMEM_LOCK_BATCH; i++)
		fill(test, i);
	KUNIT_EXPECT_EQ(test, convert_killed(test, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO),
			-EINTR);
	KUNIT_EXPECT_EQ(test, t->nr_unmapped, 0);
	KUNIT_EXPECT_TRUE(test, is_private(t, 0));
	KUNIT_EXPECT_EQ(test, first_byte(t, 0), PATTERN);
}

static void test_killed_checking_runs(struct kunit *test)
{
	struct convert_test *t = test->priv;
	pgoff_t i;

	BUILD_BUG_ON(NR_PAGES / 2 < GMEM_LOCK_BATCH / GMEM_WORK_RUN);
	for (i = 1; i < NR_PAGES; i += 2) {
		KUNIT_ASSERT_EQ(test, convert(test, i, i + 1, true, 0), 0);
		fill(test, i - 1);
	}

	KUNIT_EXPECT_EQ(test, convert_killed(test, true, 0), -EINTR);
	KUNIT_EXPECT_FALSE(test, is_private(t, 0));
}

static void test_killed_waiting(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct folio *folio;
	ktime_t start;
	s64 waited, killed;
	int i;

	fill(test, 0);
	folio = filemap_get_folio(t->inode->i_mapping, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR(folio));

	start = ktime_get();
	KUNIT_EXPECT_EQ(test, convert(test, 0, NR_PAGES, true, 0), -EAGAIN);
	waited = ktime_us_delta(ktime_get(), start);
	KUNIT_EXPECT_GE(test, waited, (GMEM_USERS_DELAY_US << GMEM_USERS_WAITS) / 2);

	/* The best of some, as something else may get in the way. */
	for (i = 0, killed = S64_MAX; i < 10; i++) {
		start = ktime_get();
		KUNIT_EXPECT_EQ(test, convert_killed(test, true, 0), -EINTR);
		killed = min(killed, ktime_us_delta(ktime_get(), start));
	}
	KUNIT_EXPECT_LT(test, killed, waited / 2);
	KUNIT_EXPECT_FALSE(test, is_private(t, 0));

	/* Nor is there a wait for whoever has locked the folio. */
	folio_lock(folio);
	KUNIT_EXPECT_EQ(test, convert_killed(test, true, 0), -EINTR);
	folio_unlock(folio);
	folio_put(folio);
}

/* ---- beside a conversion ---- */

/* What conversions do before and after they let others in. */
static void begin(struct convert_test *t, struct gmem_conversion *c, pgoff_t start,
		  pgoff_t end)
{
	*c = (struct gmem_conversion) { .inode = t->inode, .start = start, .end = end };

	filemap_invalidate_lock(t->inode->i_mapping);
	list_add(&c->entry, &GMEM_I(t->inode)->conversions);
	filemap_invalidate_unlock(t->inode->i_mapping);
}

static void finish(struct gmem_conversion *c)
{
	filemap_invalidate_lock(c->inode->i_mapping);
	kvm_gmem_finish(c);
	filemap_invalidate_unlock(c->inode->i_mapping);
}

/* Whoever wants nothing of the range doesn't wait; as for a range, so for its borders. */
static void test_lets_others_go_on(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct gmem_conversion c;
	static const struct { pgoff_t start, end; } outside[] = {
		{ 0, 100 }, { 200, NR_PAGES },
	};
	int i;

	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, unmap_nothing);
	fill(test, 0);
	fill(test, 200);
	begin(t, &c, 100, 200);

	for (i = 0; i < ARRAY_SIZE(outside); i++) {
		pgoff_t start = outside[i].start, end = outside[i].end;
		loff_t offset = start << PAGE_SHIFT, len = (end - start) << PAGE_SHIFT;

		bind(test, 0x1000 + start, start, end - start);
		KUNIT_EXPECT_EQ(test, convert(test, start, end, true, 0), 0);
		KUNIT_EXPECT_TRUE(test, is_private(t, start));
		KUNIT_EXPECT_TRUE(test, is_private(t, end - 1));

		KUNIT_EXPECT_EQ(test, kvm_gmem_lock_state(t->inode, end - 1), 0);
		kvm_gmem_unlock_state(t->inode);

		KUNIT_EXPECT_EQ(test, kvm_gmem_allocate(t->inode, offset, len), 0);
		KUNIT_EXPECT_EQ(test, kvm_gmem_punch_hole(t->inode, offset, len), 0);
	}
	KUNIT_EXPECT_FALSE(test, is_private(t, 100));
	KUNIT_EXPECT_FALSE(test, is_private(t, 199));

	finish(&c);
}

enum { FAULT, ALLOCATE, PUNCH, CONVERT, BIND, UNBIND, NR_WAYS };

struct waiter {
	struct convert_test *t;
	struct kvm_memory_slot *slot;
	struct completion done;
	int way;
	int r;
};

static int wait_beside(void *arg)
{
	struct waiter *w = arg;
	struct inode *inode = w->t->inode;
	struct kvm_memory_slot *slot = w->slot;
	struct gmem_conversion c = {
		.inode = inode,
		.start = 99,
		.end = 101,
		.to_private = true,
	};

	allow_signal(SIGKILL);

	switch (w->way) {
	case FAULT:
		w->r = kvm_gmem_lock_state(inode, 100);
		if (!w->r)
			kvm_gmem_unlock_state(inode);
		break;
	case ALLOCATE:
		w->r = kvm_gmem_allocate(inode, 199 << PAGE_SHIFT, 2 << PAGE_SHIFT);
		break;
	case PUNCH:
		w->r = kvm_gmem_punch_hole(inode, 0, NR_PAGES << PAGE_SHIFT);
		break;
	case CONVERT:
		w->r = kvm_gmem_convert(&c);
		break;
	case BIND:
		mutex_lock(&w->t->kvm->slots_lock);
		w->r = kvm_gmem_commit_memory_region(w->t->kvm, slot);
		mutex_unlock(&w->t->kvm->slots_lock);
		break;
	case UNBIND:
		mutex_lock(&w->t->kvm->slots_lock);
		kvm_gmem_unbind(slot);
		mutex_unlock(&w->t->kvm->slots_lock);
		break;
	}

	complete(&w->done);
	return 0;
}

static bool is_waiting(struct convert_test *t, pgoff_t start, pgoff_t end)
{
	const struct gmem_waiter any = { .start = start, .end = end };
	int i;

	for (i = 0; i < 5000 && !kvm_gmem_has_waiters(GMEM_I(t->inode), &any); i++)
		fsleep(1000);

	return kvm_gmem_has_waiters(GMEM_I(t->inode), &any);
}

static void wait_in_range(struct kunit *test, int way, bool kill)
{
	struct convert_test *t = test->priv;
	struct gmem_inode *gi = GMEM_I(t->inode);
	struct kvm_memory_slot slot = {
		.base_gfn = 0x1000 + 150,
		.npages = 1,
		.flags = KVM_MEM_GUEST_MEMFD,
		.gmem.file = t->file,
		.gmem.pgoff = 150,
	};
	struct waiter w = { .t = t, .slot = &slot, .way = way };
	struct gmem_conversion c, other;
	struct task_struct *task;
	bool waits;

	if (way == UNBIND) {
		mutex_lock(&t->kvm->slots_lock);
		KUNIT_ASSERT_EQ(test, kvm_gmem_commit_memory_region(t->kvm, &slot), 0);
		mutex_unlock(&t->kvm->slots_lock);
	}

	init_completion(&w.done);
	begin(t, &c, 100, 200);

	task = kthread_run(wait_beside, &w, "gmem-beside");
	waits = !IS_ERR(task) && is_waiting(t, 0, NR_PAGES);

	/* Another one that ends is not what it waits for. */
	if (!IS_ERR(task)) {
		begin(t, &other, 10, 20);
		finish(&other);
		KUNIT_EXPECT_EQ(test, wait_for_completion_timeout(&w.done, HZ / 20), 0);
	}

	if (!IS_ERR(task) && kill) {
		send_sig(SIGKILL, task, 1);
		KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&w.done, 60 * HZ), 0);
		KUNIT_EXPECT_EQ(test, w.r, -EINTR);
		finish(&c);
	} else {
		finish(&c);
		if (!IS_ERR(task))
			wait_for_completion(&w.done);
		KUNIT_EXPECT_EQ(test, w.r, 0);
	}
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	KUNIT_EXPECT_TRUE(test, waits);

	if (way == BIND && !w.r) {
		mutex_lock(&t->kvm->slots_lock);
		kvm_gmem_unbind(&slot);
		mutex_unlock(&t->kvm->slots_lock);
	}
	convert(test, 0, NR_PAGES, false, 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&gi->conversions));
	KUNIT_EXPECT_TRUE(test, list_empty(&gi->waiters));
}

/* All others wait, and until the conversion is over, unless they are killed. */
static void test_waits_in_range(struct kunit *test)
{
	int way;

	for (way = 0; way < NR_WAYS; way++) {
		wait_in_range(test, way, false);
		/* Who deletes a memslot or closes a file can't fail. */
		if (way != UNBIND)
			wait_in_range(test, way, true);
	}
}

/*
 * Who waits gets its turn before a conversion that comes later, even one that could begin
 * at once; but nobody else waits for those who wait.
 */
static void test_takes_turns(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct waiter punch = { .t = t, .way = PUNCH }, later = { .t = t, .way = CONVERT };
	struct task_struct *task[2];
	struct gmem_conversion c;

	init_completion(&punch.done);
	init_completion(&later.done);
	/* wait_beside() converts 99 and 100. */
	begin(t, &c, 150, 200);

	task[0] = kthread_run(wait_beside, &punch, "gmem-punch");
	KUNIT_EXPECT_TRUE(test, is_waiting(t, 0, 1));
	task[1] = kthread_run(wait_beside, &later, "gmem-later");
	KUNIT_EXPECT_EQ(test, wait_for_completion_timeout(&later.done, HZ / 20), 0);
	KUNIT_EXPECT_FALSE(test, completion_done(&punch.done));

	KUNIT_EXPECT_EQ(test, kvm_gmem_lock_state(t->inode, 99), 0);
	kvm_gmem_unlock_state(t->inode);
	KUNIT_EXPECT_EQ(test, kvm_gmem_allocate(t->inode, 99 << PAGE_SHIFT, PAGE_SIZE), 0);

	finish(&c);
	if (!IS_ERR(task[0]))
		wait_for_completion(&punch.done);
	if (!IS_ERR(task[1]))
		wait_for_completion(&later.done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(task[0]) || IS_ERR(task[1]));

	KUNIT_EXPECT_EQ(test, punch.r, 0);
	KUNIT_EXPECT_EQ(test, later.r, 0);
	KUNIT_EXPECT_TRUE(test, is_private(t, 99));
	KUNIT_EXPECT_TRUE(test, list_empty(&GMEM_I(t->inode)->waiters));
}

/* ---- the end of files ---- */

static void expect_unbound(struct kunit *test, struct kvm_memory_slot *slot)
{
	/* The inode has been freed by now.  For KASAN to see. */
	rcu_barrier();

	KUNIT_EXPECT_FALSE(test, kvm_gmem_is_private(slot, slot->base_gfn));
	KUNIT_EXPECT_NULL(test, rcu_access_pointer(slot->gmem.state));
	KUNIT_EXPECT_NULL(test, slot->gmem.file);
}

static void test_closed_under_memslot(struct kunit *test)
{
	struct convert_test *t = test->priv;
	struct kvm_memory_slot *slot;
	struct file *file;
	int i;

	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, unmap_nothing);

	for (i = 0; i < 2; i++) {
		slot = kunit_kzalloc(test, sizeof(*slot), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, slot);
		slot->base_gfn = 0x8000;
		slot->npages = NR_PAGES;

		file = kvm_gmem_kunit_bind_new(t->kvm, slot, GUEST_MEMFD_FLAG_MMAP);
		KUNIT_ASSERT_FALSE(test, IS_ERR(file));
		KUNIT_EXPECT_TRUE(test, kvm_gmem_is_private(slot, slot->base_gfn));

		/* The memslot goes first, or the file does. */
		if (i) {
			mutex_lock(&t->kvm->slots_lock);
			kvm_gmem_unbind(slot);
			mutex_unlock(&t->kvm->slots_lock);
		}
		__fput_sync(file);
		expect_unbound(test, slot);
	}
}

static struct kunit_case convert_test_cases[] = {
	KUNIT_CASE(test_unmaps_the_state_left),
	KUNIT_CASE(test_unmaps_what_changes),
	KUNIT_CASE(test_nothing_to_do),
	KUNIT_CASE(test_raises_the_sequence),
	KUNIT_CASE(test_zeroes_after_unmapping),
	KUNIT_CASE(test_busy_page),
	KUNIT_CASE(test_poisoned_page),
	KUNIT_CASE(test_bindings),
	KUNIT_CASE(test_two_files),
	KUNIT_CASE(test_permission_withdrawn),
	KUNIT_CASE(test_flushes),
	KUNIT_CASE(test_dead_while_queued),
	KUNIT_CASE(test_other_vm_is_dead),
	KUNIT_CASE(test_dies_meanwhile),
	KUNIT_CASE(test_drains),
	KUNIT_CASE(test_waits_for_folio_lock),
	KUNIT_CASE(test_never_used),
	KUNIT_CASE(test_killed_checking_pages),
	KUNIT_CASE(test_killed_checking_runs),
	KUNIT_CASE(test_killed_waiting),
	KUNIT_CASE(test_lets_others_go_on),
	KUNIT_CASE(test_waits_in_range),
	KUNIT_CASE(test_takes_turns),
	KUNIT_CASE(test_closed_under_memslot),
	{}
};

static struct kunit_suite convert_test_suite = {
	.name = "guest_memfd_convert",
	.init = convert_test_init,
	.exit = convert_test_exit,
	.test_cases = convert_test_cases,
};

kunit_test_suite(convert_test_suite);
