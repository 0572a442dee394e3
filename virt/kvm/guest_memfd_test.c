// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for conversions: what is done to the guest's mappings, and when.
 * Selftests cover everything that userspace and the guest can see.
 *
 * This is part of guest_memfd.c.  The VM is as much of a VM as guest_memfd looks
 * at, and unmapping is replaced by a function that takes notes.
 */
#include <kunit/test.h>
#include <linux/fdtable.h>

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

	filemap_invalidate_lock(t->inode->i_mapping);
	r = kvm_gmem_convert(&t->c);
	filemap_invalidate_unlock(t->inode->i_mapping);

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

	if (!kvm_gmem_mnt)
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
	struct convert_test *t = test->priv;

	bind(test, 0x1000, 0, NR_PAGES);

	KUNIT_EXPECT_EQ(test, convert(test, 100, 200, true, 0), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 600, 1100, true, 0), 0);

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
	{}
};

static struct kunit_suite convert_test_suite = {
	.name = "guest_memfd_convert",
	.init = convert_test_init,
	.exit = convert_test_exit,
	.test_cases = convert_test_cases,
};

kunit_test_suite(convert_test_suite);
