// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests for guest_memfd of Arm CCA realms, which KVM can't run: whether guest_memfd
 * is fit for firmware that hears of a page only by its being mapped and unmapped.
 *
 * There is no CCA code to be tested here, only guest_memfd.  What lies below it is made
 * up of two parts:
 *
 *  - rmm_*() and rsi_*(): a model of the Realm Management Monitor, which owns the
 *    granules.  Its rules are those of the RMM specification (Arm DEN0137), version 1.0,
 *    whose sections are given in brackets.  There are only pages, no blocks, and the
 *    tables (RTTs) are there from the start.
 *  - cca_*(): what KVM has to do with it, and when.  guest_memfd's hooks for
 *    architectures do nothing.
 *
 * A host access to a delegated granule is a granule protection fault, i.e. an oops.  The
 * model notices it as it knows what each of these pages holds.
 */
#include <linux/kthread.h>
#include <linux/vmalloc.h>

#include "guest_memfd_kunit.h"

#define RMM_GRANULES	(2 * GMEM_KUNIT_PAGES)
#define RMM_GFNS	(2 * GMEM_KUNIT_PAGES)

/* What is left of the contents of a granule that was delegated: not zeros [A2.2.4]. */
#define WIPED		0xd1

/* [B4.2], but for RMI_BUSY, which is new in version 2.0: the host repeats the call. */
enum rmi_status {
	RMI_SUCCESS,
	RMI_ERROR_INPUT,
	RMI_ERROR_REALM,
	RMI_ERROR_RTT,
	RMI_BUSY,
};

/* Lifecycle of a granule [A2.2.3], as far as it doesn't hold the RMM's own data. */
enum rmm_granule_state {
	GRANULE_UNDELEGATED,
	GRANULE_DELEGATED,
	GRANULE_DATA,
};

struct rmm_granule {
	kvm_pfn_t pfn;
	enum rmm_granule_state state;
	/* What all bytes of it are, for lack of a host that can change them. */
	u8 byte;
};

/* RIPAS [A5.2.2]. */
enum rmm_ripas {
	RIPAS_EMPTY,
	RIPAS_RAM,
	RIPAS_DESTROYED,
};

/* Entry of the RTT for a Protected IPA: HIPAS is ASSIGNED or UNASSIGNED [A5.3.1]. */
struct rmm_rtte {
	bool assigned;
	enum rmm_ripas ripas;
	kvm_pfn_t pfn;
};

/* Entry for the Unprotected IPA of the same gfn: ASSIGNED_NS or UNASSIGNED_NS. */
struct rmm_rtte_ns {
	bool assigned;
	kvm_pfn_t pfn;
};

struct cca_test {
	struct gmem_kunit g;	/* first, see there */
	struct kvm_memory_slot slot2;

	/* The RMM.  Each of its commands is atomic. */
	spinlock_t lock;
	struct rmm_granule granules[RMM_GRANULES];
	struct rmm_rtte rtt[RMM_GFNS];
	struct rmm_rtte_ns rtt_ns[RMM_GFNS];
	bool active;
	/* A request of the realm's for another RIPAS, [A5.4]. */
	struct {
		gfn_t addr;
		gfn_t top;
		enum rmm_ripas ripas;
		bool change_destroyed;
	} rec;
	/* The bytes that pages of the initial image were full of. */
	u8 measured[GMEM_KUNIT_PAGES];
	int nr_measured;
	int nr_calls, nr_delegate, nr_destroy;

	/* The first rule that was broken, and by which gfn or pfn. */
	const char *broken;
	u64 where;

	/* These commands fail on this pfn, and UNDELEGATE is busy so many times. */
	kvm_pfn_t fail_delegate, fail_destroy, fail_undelegate;
	int busy;

	/* A granule that the RMM didn't let go of. */
	kvm_pfn_t lost;
	/* What the conversion that is going on may unmap; 0 if none is. */
	enum kvm_gfn_range_filter leaving;
	/* How many pages were undelegated while guest_memfd had them as private. */
	int nr_undelegated_private;
	/* Successful faults of a thread. */
	int nr_faults[2];
};

static struct cca_test *cca_test_of(struct kunit *test)
{
	return test->priv;
}

/* Callers hold spinlocks, or aren't in the thread of the test, thus no assertions. */
static void broken(struct cca_test *t, const char *rule, u64 where)
{
	if (!cmpxchg(&t->broken, NULL, rule))
		t->where = where;
}

/* ---- the RMM ---- */

static struct rmm_granule *rmm_granule(struct cca_test *t, kvm_pfn_t pfn)
{
	int i;

	for (i = 0; i < RMM_GRANULES; i++) {
		if (t->granules[i].pfn == pfn)
			return &t->granules[i];
	}
	return NULL;
}

static enum rmm_granule_state rmm_granule_state(struct cca_test *t, kvm_pfn_t pfn)
{
	struct rmm_granule *g = rmm_granule(t, pfn);

	return g ? g->state : GRANULE_UNDELEGATED;
}

static struct rmm_rtte *rmm_rtte(struct cca_test *t, gfn_t gfn)
{
	return &t->rtt[(gfn - GMEM_KUNIT_GFN) % RMM_GFNS];
}

static struct rmm_rtte_ns *rmm_rtte_ns(struct cca_test *t, gfn_t gfn)
{
	return &t->rtt_ns[(gfn - GMEM_KUNIT_GFN) % RMM_GFNS];
}

static void rmm_fill(struct rmm_granule *g, u8 byte)
{
	memset(pfn_to_kaddr(g->pfn), byte, PAGE_SIZE);
	g->byte = byte;
}

/* What the hardware sees to as soon as it happens. */
static void rmm_check_host(struct cca_test *t, struct rmm_granule *g)
{
	if (!gmem_kunit_page_is(g->pfn, g->byte))
		broken(t, "the host has written to a delegated granule", g->pfn);
	if (folio_mapped(pfn_folio(g->pfn)))
		broken(t, "the host maps a delegated granule", g->pfn);
}

static void rmm_check_all(struct cca_test *t)
{
	int i;

	guard(spinlock)(&t->lock);

	for (i = 0; i < RMM_GRANULES; i++) {
		if (t->granules[i].pfn)
			rmm_check_host(t, &t->granules[i]);
	}
}

static int rmm_nr_delegated(struct cca_test *t)
{
	int i, nr = 0;

	for (i = 0; i < RMM_GRANULES; i++)
		nr += !!t->granules[i].pfn;
	return nr;
}

static bool rmm_is_mapped_shared(struct cca_test *t, kvm_pfn_t pfn)
{
	int i;

	for (i = 0; i < RMM_GFNS; i++) {
		if (t->rtt_ns[i].assigned && t->rtt_ns[i].pfn == pfn)
			return true;
	}
	return false;
}

static int rmm_nr_mapped_shared(struct cca_test *t)
{
	int i, nr = 0;

	for (i = 0; i < RMM_GFNS; i++)
		nr += t->rtt_ns[i].assigned;
	return nr;
}

/* RMI_GRANULE_DELEGATE [B4.3.5]. */
static enum rmi_status rmm_granule_delegate(struct cca_test *t, kvm_pfn_t pfn)
{
	struct rmm_granule *g;

	guard(spinlock)(&t->lock);
	t->nr_calls++;
	t->nr_delegate++;

	if (rmm_granule(t, pfn) || pfn == t->fail_delegate)
		return RMI_ERROR_INPUT;

	/* The realm's access to it would be a granule protection fault [A5.2.6]. */
	if (rmm_is_mapped_shared(t, pfn))
		broken(t, "granule is delegated while it is mapped as shared", pfn);

	g = rmm_granule(t, 0);
	if (!g)
		return RMI_ERROR_INPUT;

	g->pfn = pfn;
	g->state = GRANULE_DELEGATED;
	/* Contents from before can't be read from now on, wiped or not [A2.2.4]. */
	rmm_fill(g, WIPED);
	rmm_check_host(t, g);
	return RMI_SUCCESS;
}

/* RMI_GRANULE_UNDELEGATE [B4.3.6]. */
static enum rmi_status rmm_granule_undelegate(struct cca_test *t, kvm_pfn_t pfn)
{
	struct rmm_granule *g;

	guard(spinlock)(&t->lock);
	t->nr_calls++;

	if (t->busy) {
		t->busy--;
		return RMI_BUSY;
	}

	g = rmm_granule(t, pfn);
	if (!g || g->state != GRANULE_DELEGATED || pfn == t->fail_undelegate)
		return RMI_ERROR_INPUT;

	rmm_check_host(t, g);
	*g = (struct rmm_granule) {};
	return RMI_SUCCESS;
}

/* RMI_DATA_CREATE [B4.3.1]: with contents, which are measured. */
static enum rmi_status rmm_data_create(struct cca_test *t, gfn_t gfn, kvm_pfn_t data,
				       kvm_pfn_t src)
{
	struct rmm_rtte *e = rmm_rtte(t, gfn);
	struct rmm_granule *g;

	guard(spinlock)(&t->lock);
	t->nr_calls++;

	/* The source has to be the host's.  So it can't be the destination. */
	g = rmm_granule(t, data);
	if (rmm_granule(t, src) || !g || g->state != GRANULE_DELEGATED)
		return RMI_ERROR_INPUT;
	if (t->active)
		return RMI_ERROR_REALM;
	if (e->assigned)
		return RMI_ERROR_RTT;

	rmm_check_host(t, g);
	g->state = GRANULE_DATA;
	rmm_fill(g, *(u8 *)pfn_to_kaddr(src));
	*e = (struct rmm_rtte) { .assigned = true, .ripas = RIPAS_RAM, .pfn = data };
	t->measured[t->nr_measured++ % GMEM_KUNIT_PAGES] = g->byte;
	return RMI_SUCCESS;
}

/* RMI_DATA_CREATE_UNKNOWN [B4.3.2]: without contents, and with the RIPAS as it was. */
static enum rmi_status rmm_data_create_unknown(struct cca_test *t, gfn_t gfn, kvm_pfn_t data)
{
	struct rmm_rtte *e = rmm_rtte(t, gfn);
	struct rmm_granule *g;

	guard(spinlock)(&t->lock);
	t->nr_calls++;

	g = rmm_granule(t, data);
	if (!g || g->state != GRANULE_DELEGATED)
		return RMI_ERROR_INPUT;
	if (e->assigned)
		return RMI_ERROR_RTT;

	rmm_check_host(t, g);
	g->state = GRANULE_DATA;
	e->assigned = true;
	e->pfn = data;
	return RMI_SUCCESS;
}

/* RMI_DATA_DESTROY [B4.3.3]: the contents are gone, and the realm is told [A5.3.5]. */
static enum rmi_status rmm_data_destroy(struct cca_test *t, gfn_t gfn)
{
	struct rmm_rtte *e = rmm_rtte(t, gfn);
	struct rmm_granule *g;

	guard(spinlock)(&t->lock);
	t->nr_calls++;
	t->nr_destroy++;

	if (!e->assigned)
		return RMI_ERROR_RTT;
	if (e->pfn == t->fail_destroy)
		return RMI_ERROR_INPUT;

	g = rmm_granule(t, e->pfn);
	rmm_check_host(t, g);
	g->state = GRANULE_DELEGATED;
	rmm_fill(g, WIPED);
	e->assigned = false;
	if (e->ripas == RIPAS_RAM)
		e->ripas = RIPAS_DESTROYED;
	return RMI_SUCCESS;
}

/* RMI_RTT_MAP_UNPROTECTED [B4.3.19]. */
static enum rmi_status rmm_map_unprotected(struct cca_test *t, gfn_t gfn, kvm_pfn_t pfn)
{
	struct rmm_rtte_ns *e = rmm_rtte_ns(t, gfn);

	guard(spinlock)(&t->lock);
	t->nr_calls++;

	if (e->assigned)
		return RMI_ERROR_RTT;
	*e = (struct rmm_rtte_ns) { .assigned = true, .pfn = pfn };
	return RMI_SUCCESS;
}

/* RMI_RTT_UNMAP_UNPROTECTED [B4.3.22]. */
static enum rmi_status rmm_unmap_unprotected(struct cca_test *t, gfn_t gfn)
{
	struct rmm_rtte_ns *e = rmm_rtte_ns(t, gfn);

	guard(spinlock)(&t->lock);
	t->nr_calls++;

	if (!e->assigned)
		return RMI_ERROR_RTT;
	e->assigned = false;
	return RMI_SUCCESS;
}

/* RMI_RTT_INIT_RIPAS [B4.3.18]. */
static enum rmi_status rmm_init_ripas(struct cca_test *t, gfn_t gfn)
{
	struct rmm_rtte *e = rmm_rtte(t, gfn);

	guard(spinlock)(&t->lock);
	t->nr_calls++;

	if (t->active)
		return RMI_ERROR_REALM;
	if (e->assigned)
		return RMI_ERROR_RTT;
	e->ripas = RIPAS_RAM;
	return RMI_SUCCESS;
}

/* RMI_REALM_ACTIVATE [B4.3.8]. */
static enum rmi_status rmm_realm_activate(struct cca_test *t)
{
	guard(spinlock)(&t->lock);

	if (t->active)
		return RMI_ERROR_REALM;
	t->active = true;
	return RMI_SUCCESS;
}

/* RMI_RTT_SET_RIPAS [B4.3.21], of one page: only what the realm has asked for. */
static enum rmi_status rmm_set_ripas(struct cca_test *t, gfn_t gfn)
{
	struct rmm_rtte *e = rmm_rtte(t, gfn);

	guard(spinlock)(&t->lock);
	t->nr_calls++;

	if (gfn != t->rec.addr || gfn >= t->rec.top)
		return RMI_ERROR_INPUT;
	if (e->ripas == RIPAS_DESTROYED && !t->rec.change_destroyed)
		return RMI_ERROR_RTT;
	e->ripas = t->rec.ripas;
	t->rec.addr++;
	return RMI_SUCCESS;
}

/* RSI_IPA_STATE_SET [B5.3.6]: the realm asks, which exits to the host. */
static void rsi_ipa_state_set(struct cca_test *t, gfn_t gfn, unsigned long nr,
			      enum rmm_ripas ripas, bool change_destroyed)
{
	t->rec.addr = gfn;
	t->rec.top = gfn + nr;
	t->rec.ripas = ripas;
	t->rec.change_destroyed = change_destroyed;
}

#define JUST_READ	(-1)
#define SEA		(-ENXIO)	/* the realm takes a synchronous external abort */
#define REC_EXIT	(-EINTR)	/* KVM has to do something */

/*
 * The realm reads or fills a page.  Returns what the page was full of before, or what
 * becomes of the access [A5.3.1].
 */
static int rmm_access(struct cca_test *t, gfn_t gfn, bool protected, int byte)
{
	struct rmm_rtte_ns *ns = rmm_rtte_ns(t, gfn);
	struct rmm_rtte *e = rmm_rtte(t, gfn);
	struct rmm_granule *g;
	u8 *contents;
	int old;

	guard(spinlock)(&t->lock);

	if (protected) {
		if (e->ripas == RIPAS_EMPTY)
			return SEA;
		if (e->ripas == RIPAS_DESTROYED || !e->assigned)
			return REC_EXIT;
		g = rmm_granule(t, e->pfn);
		rmm_check_host(t, g);
		old = g->byte;
		if (byte != JUST_READ)
			rmm_fill(g, byte);
		return old;
	}

	if (!ns->assigned)
		return REC_EXIT;
	if (rmm_granule(t, ns->pfn))
		broken(t, "what the realm maps as shared is delegated", gfn);
	contents = pfn_to_kaddr(ns->pfn);
	old = *contents;
	if (byte != JUST_READ)
		memset(contents, byte, PAGE_SIZE);
	return old;
}

/* ---- KVM ---- */

/* Contents don't outlive a conversion, unless they are part of the initial image. */
static u64 cca_content_modes(struct kvm *kvm)
{
	const u64 zero = KVM_SET_MEMORY_ATTRIBUTES2_ZERO;
	const u64 preserve = KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE;

	return (zero << KVM_MEMORY_ATTRIBUTES2_TO_SHARED_SHIFT) |
	       (zero << KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_SHARED_SHIFT) |
	       (preserve << KVM_MEMORY_ATTRIBUTES2_PRE_LAUNCH_TO_PRIVATE_SHIFT);
}

static bool cca_launched(struct kvm *kvm)
{
	return cca_test_of(kunit_get_current_test())->active;
}

#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_CONVERT
static int cca_make_private(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn, kvm_pfn_t nr_pages)
{
	return 0;
}

static int cca_make_shared(kvm_pfn_t pfn, kvm_pfn_t nr_pages)
{
	broken(cca_test_of(kunit_get_current_test()), "make_shared is called", pfn);
	return 0;
}
#endif

#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_RECLAIM
/* CCA doesn't need it, but it is where a page leaves the file. */
static int cca_reclaim(kvm_pfn_t pfn, kvm_pfn_t nr_pages)
{
	struct cca_test *t = cca_test_of(kunit_get_current_test());

	if (rmm_is_mapped_shared(t, pfn))
		broken(t, "page is freed while it is mapped as shared", pfn);
	if (pfn != t->lost && rmm_granule(t, pfn)) {
		broken(t, "page is freed while it is delegated", pfn);
		/* Leak it, so that the test fails and nothing else does. */
		folio_get(pfn_folio(pfn));
	}
	return 0;
}
#endif

/* Give a granule back to the host.  If the RMM refuses, then the page is lost for good. */
static void cca_undelegate(struct cca_test *t, kvm_pfn_t pfn)
{
	enum rmi_status r;

	do {
		r = rmm_granule_undelegate(t, pfn);
	} while (r == RMI_BUSY);

	if (r) {
		kvm_vm_bugged(t->g.kvm);
		folio_get(pfn_folio(pfn));
	}
}

static int cca_map(struct kunit *test, gfn_t gfn, kvm_pfn_t pfn, bool private)
{
	struct rmm_rtte_ns *ns = rmm_rtte_ns(cca_test_of(test), gfn);
	struct rmm_rtte *e = rmm_rtte(cca_test_of(test), gfn);
	struct cca_test *t = cca_test_of(test);

	/* Another vCPU may have been faster. */
	if (private ? e->assigned : ns->assigned) {
		if (pfn != (private ? e->pfn : ns->pfn))
			broken(t, "another page is still mapped", gfn);
		return 0;
	}

	if (!private)
		return rmm_map_unprotected(t, gfn, pfn) ? -EIO : 0;

	if (rmm_granule_delegate(t, pfn))
		return -EIO;
	if (rmm_data_create_unknown(t, gfn, pfn)) {
		cca_undelegate(t, pfn);
		return -EIO;
	}
	return 0;
}

static void cca_unmap_private(struct cca_test *t, struct kvm_memory_slot *slot, gfn_t gfn)
{
	kvm_pfn_t pfn = rmm_rtte(t, gfn)->pfn;

	if (!rmm_rtte(t, gfn)->assigned || (pfn == t->lost && t->g.kvm->vm_bugged))
		return;

	/* The host may touch what is shared, so it would be too late. */
	if (kvm_gmem_is_private(slot, gfn))
		t->nr_undelegated_private++;
	else if (rcu_access_pointer(slot->gmem.state))
		broken(t, "page was called shared before it is undelegated", gfn);

	if (rmm_data_destroy(t, gfn)) {
		kvm_vm_bugged(t->g.kvm);
		folio_get(pfn_folio(pfn));
		return;
	}
	cca_undelegate(t, pfn);
}

/* What kvm_unmap_gfn_range() does for a realm. */
static bool cca_unmap(struct kvm *kvm, struct kvm_gfn_range *range)
{
	struct cca_test *t = cca_test_of(kunit_get_current_test());
	gfn_t gfn;

	kvm_gmem_kunit_invalidated(kvm, range->start, range->end);

	if (t->leaving && range->attr_filter != t->leaving)
		broken(t, "not only mappings of the state that is left are unmapped", range->start);

	for (gfn = range->start; gfn < range->end; gfn++) {
		if (range->attr_filter & KVM_FILTER_PRIVATE)
			cca_unmap_private(t, range->slot, gfn);
		if ((range->attr_filter & KVM_FILTER_SHARED) && rmm_rtte_ns(t, gfn)->assigned)
			rmm_unmap_unprotected(t, gfn);
	}

	/* The RMM takes care of TLBs. */
	return false;
}

/* A page of the initial image.  It is measured as it is, or as @src is. */
static int cca_populate(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn, struct page *src,
			void *opaque)
{
	struct cca_test *t = opaque;
	struct page *copy = NULL;
	int r = -EIO;

	/* The host must not read a page of the realm, be it for a copy. */
	if (rmm_rtte(t, gfn)->assigned)
		return -EEXIST;

	if (!src) {
		copy = alloc_page(GFP_KERNEL);
		if (!copy)
			return -ENOMEM;
		copy_highpage(copy, pfn_to_page(pfn));
		src = copy;
	}

	if (!rmm_granule_delegate(t, pfn)) {
		if (!rmm_data_create(t, gfn, pfn, page_to_pfn(src)))
			r = 0;
		else
			cca_undelegate(t, pfn);
	}

	if (copy)
		__free_page(copy);
	return r;
}

static struct kvm_memory_slot *cca_slot(struct cca_test *t, gfn_t gfn)
{
	return t->slot2.npages && gfn >= t->slot2.base_gfn ? &t->slot2 : &t->g.slot;
}

/*
 * Run a vCPU again that has exited because of a request for another RIPAS.  As much is
 * granted as guest_memfd has in the wanted state by now.  KVM exits to the VMM before
 * that, so that it can convert.
 */
static void cca_complete_ripas(struct cca_test *t)
{
	bool private = t->rec.ripas == RIPAS_RAM;

	while (t->rec.addr < t->rec.top &&
	       kvm_gmem_is_private(cca_slot(t, t->rec.addr), t->rec.addr) == private) {
		if (rmm_set_ripas(t, t->rec.addr))
			break;
	}
}

/* ---- what tests have in common ---- */

/* The realm accesses a page, and KVM handles the fault if there is one. */
static int realm_access_gfn(struct kunit *test, gfn_t gfn, bool protected, int byte)
{
	struct cca_test *t = cca_test_of(test);
	int r;

	r = rmm_access(t, gfn, protected, byte);
	if (r != REC_EXIT)
		return r;

	r = gmem_kunit_fault_slot(test, cca_slot(t, gfn), gfn, protected);
	return r ? r : rmm_access(t, gfn, protected, byte);
}

static int realm_access(struct kunit *test, pgoff_t index, bool protected, int byte)
{
	return realm_access_gfn(test, GMEM_KUNIT_GFN + index, protected, byte);
}

/* The realm reads private memory, without the help of KVM. */
static int realm_read(struct kunit *test, pgoff_t index)
{
	return rmm_access(cca_test_of(test), GMEM_KUNIT_GFN + index, true, JUST_READ);
}

static int convert(struct kunit *test, pgoff_t first, unsigned long nr, bool to_private,
		   u64 mode)
{
	struct cca_test *t = cca_test_of(test);
	int r;

	t->leaving = to_private ? KVM_FILTER_SHARED : KVM_FILTER_PRIVATE;
	r = gmem_kunit_convert(test, first, nr, to_private, mode, NULL);
	t->leaving = 0;

	rmm_check_all(t);
	return r;
}

/* Private pages that the realm has written its own contents to. */
#define SECRET(index)	(0x40 + (index))

static void give(struct kunit *test, pgoff_t first, unsigned long nr)
{
	pgoff_t i;

	gmem_kunit_give(test, first, nr);
	for (i = first; i < first + nr; i++)
		KUNIT_ASSERT_GE(test, realm_access(test, i, true, SECRET(i)), 0);
}

static bool is_delegated(struct kunit *test, pgoff_t index)
{
	struct cca_test *t = cca_test_of(test);

	return rmm_granule_state(t, gmem_kunit_pfn(&t->g, index)) != GRANULE_UNDELEGATED;
}

static bool is_mapped_shared(struct kunit *test, pgoff_t index)
{
	return rmm_rtte_ns(cca_test_of(test), GMEM_KUNIT_GFN + index)->assigned;
}

static enum rmm_ripas ripas(struct kunit *test, pgoff_t index)
{
	return rmm_rtte(cca_test_of(test), GMEM_KUNIT_GFN + index)->ripas;
}

/* All memory that isn't part of the image is RAM, but there is nothing in it yet. */
static void activate(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	gfn_t gfn;

	for (gfn = GMEM_KUNIT_GFN; gfn < GMEM_KUNIT_GFN + RMM_GFNS; gfn++) {
		if (!rmm_rtte(t, gfn)->assigned)
			KUNIT_ASSERT_EQ(test, (int)rmm_init_ripas(t, gfn), RMI_SUCCESS);
	}
	KUNIT_ASSERT_EQ(test, (int)rmm_realm_activate(t), RMI_SUCCESS);
	t->nr_calls = 0;
}

KUNIT_DEFINE_ACTION_WRAPPER(cca_vfree, vfree, const void *);

static int cca_launch_test_init(struct kunit *test)
{
	struct cca_test *t;
	struct kvm *kvm;

	if (!kvm_gmem_kunit_ready())
		kunit_skip(test, "KVM has not been initialized");

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	test->priv = t;
	spin_lock_init(&t->lock);

	kvm = vzalloc(sizeof(*kvm));
	if (!kvm)
		return -ENOMEM;
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, cca_vfree, kvm), 0);

	kunit_activate_static_stub(test, kvm_gmem_unmap_guest, cca_unmap);
	kunit_activate_static_stub(test, kvm_arch_gmem_content_modes, cca_content_modes);
	kunit_activate_static_stub(test, kvm_arch_gmem_launched, cca_launched);
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_CONVERT
	kunit_activate_static_stub(test, kvm_arch_gmem_make_private, cca_make_private);
	kunit_activate_static_stub(test, kvm_arch_gmem_make_shared, cca_make_shared);
#endif
#ifdef CONFIG_HAVE_KVM_ARCH_GMEM_RECLAIM
	kunit_activate_static_stub(test, kvm_arch_gmem_reclaim, cca_reclaim);
#endif

	t->g.map = cca_map;
	gmem_kunit_init(test, &t->g, kvm, KVM_X86_SW_PROTECTED_VM, GUEST_MEMFD_FLAG_INIT_SHARED);
	return 0;
}

static int cca_test_init(struct kunit *test)
{
	int r = cca_launch_test_init(test);

	if (!r)
		activate(test);
	return r;
}

static void cca_test_exit(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	struct folio *folio;

	if (!t || !t->g.kvm)
		return;

	rmm_check_all(t);
	gmem_kunit_exit(test, &t->g);

	KUNIT_EXPECT_NULL_MSG(test, t->broken, "%s: 0x%llx", t->broken ?: "", t->where);
	KUNIT_EXPECT_EQ(test, t->g.kvm->vm_dead, !!t->lost);

	/* What is left of a granule that is lost is the reference that keeps it. */
	if (t->lost) {
		folio = pfn_folio(t->lost);
		KUNIT_EXPECT_NE(test, (int)rmm_granule_state(t, t->lost), GRANULE_UNDELEGATED);
		KUNIT_EXPECT_NULL(test, folio->mapping);
		KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
		*rmm_granule(t, t->lost) = (struct rmm_granule) {};
		folio_put(folio);
	}
	KUNIT_EXPECT_EQ(test, rmm_nr_delegated(t), 0);
	KUNIT_EXPECT_EQ(test, rmm_nr_mapped_shared(t), 0);
}

/* ---- the model itself ---- */

/* It refuses what the specification refuses. */
static void model_is_strict(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	gfn_t gfn = GMEM_KUNIT_GFN;
	kvm_pfn_t pfn, other;

	KUNIT_ASSERT_EQ(test, gmem_kunit_allocate(&t->g, 0, 2), 0);
	pfn = gmem_kunit_pfn(&t->g, 0);
	other = gmem_kunit_pfn(&t->g, 1);

	KUNIT_EXPECT_EQ(test, (int)rmm_granule_undelegate(t, pfn), RMI_ERROR_INPUT);
	KUNIT_EXPECT_EQ(test, (int)rmm_data_create_unknown(t, gfn, pfn), RMI_ERROR_INPUT);
	KUNIT_EXPECT_EQ(test, (int)rmm_data_destroy(t, gfn), RMI_ERROR_RTT);
	KUNIT_EXPECT_EQ(test, (int)rmm_unmap_unprotected(t, gfn), RMI_ERROR_RTT);

	KUNIT_EXPECT_EQ(test, (int)rmm_granule_delegate(t, pfn), RMI_SUCCESS);
	KUNIT_EXPECT_EQ(test, (int)rmm_granule_delegate(t, pfn), RMI_ERROR_INPUT);
	KUNIT_EXPECT_EQ(test, (int)rmm_data_create(t, gfn, pfn, pfn), RMI_ERROR_INPUT);
	KUNIT_EXPECT_EQ(test, (int)rmm_data_create(t, gfn, pfn, other), RMI_ERROR_REALM);
	KUNIT_EXPECT_EQ(test, (int)rmm_init_ripas(t, gfn), RMI_ERROR_REALM);
	KUNIT_EXPECT_EQ(test, (int)rmm_set_ripas(t, gfn), RMI_ERROR_INPUT);
	KUNIT_EXPECT_EQ(test, (int)rmm_data_create_unknown(t, gfn, pfn), RMI_SUCCESS);
	KUNIT_EXPECT_EQ(test, (int)rmm_granule_undelegate(t, pfn), RMI_ERROR_INPUT);
	KUNIT_EXPECT_EQ(test, rmm_access(t, gfn, true, SECRET(0)), WIPED);

	/* A second granule at the same address. */
	KUNIT_EXPECT_EQ(test, (int)rmm_granule_delegate(t, other), RMI_SUCCESS);
	KUNIT_EXPECT_EQ(test, (int)rmm_data_create_unknown(t, gfn, other), RMI_ERROR_RTT);
	KUNIT_EXPECT_EQ(test, (int)rmm_granule_undelegate(t, other), RMI_SUCCESS);

	KUNIT_EXPECT_EQ(test, (int)rmm_data_destroy(t, gfn), RMI_SUCCESS);
	KUNIT_EXPECT_EQ(test, (int)ripas(test, 0), RIPAS_DESTROYED);
	KUNIT_EXPECT_EQ(test, (int)rmm_granule_undelegate(t, pfn), RMI_SUCCESS);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_page_is(pfn, WIPED));
	KUNIT_EXPECT_EQ(test, (int)rmm_realm_activate(t), RMI_ERROR_REALM);
}

static void expect_broken(struct kunit *test, bool expected)
{
	struct cca_test *t = cca_test_of(test);

	KUNIT_EXPECT_EQ_MSG(test, !!t->broken, expected, "%s", t->broken ?: "");
	t->broken = NULL;
}

static void model_notices_the_host(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	kvm_pfn_t pfn;
	u8 *contents;

	give(test, 0, 1);
	contents = pfn_to_kaddr(gmem_kunit_pfn(&t->g, 0));
	contents[PAGE_SIZE - 1] ^= 1;
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), SECRET(0));
	expect_broken(test, true);
	rmm_check_all(t);
	expect_broken(test, true);
	contents[PAGE_SIZE - 1] ^= 1;
	rmm_check_all(t);
	expect_broken(test, false);

	/* A page that the host maps is delegated, and one that the realm maps as shared. */
	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 1, 1));
	pfn = gmem_kunit_pfn(&t->g, 1);
	KUNIT_EXPECT_EQ(test, (int)rmm_granule_delegate(t, pfn), RMI_SUCCESS);
	expect_broken(test, true);
	KUNIT_EXPECT_EQ(test, (int)rmm_granule_undelegate(t, pfn), RMI_SUCCESS);
	expect_broken(test, true);

	KUNIT_ASSERT_EQ(test, gmem_kunit_allocate(&t->g, 2, 1), 0);
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 2, false), 0);
	pfn = gmem_kunit_pfn(&t->g, 2);
	KUNIT_EXPECT_EQ(test, (int)rmm_granule_delegate(t, pfn), RMI_SUCCESS);
	expect_broken(test, true);
	KUNIT_EXPECT_EQ(test, realm_access(test, 2, false, JUST_READ), WIPED);
	expect_broken(test, true);
	KUNIT_EXPECT_EQ(test, (int)rmm_granule_undelegate(t, pfn), RMI_SUCCESS);
}

/* ---- once the realm is active ---- */

static void to_private_delegates_nothing(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_EXPECT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_calls, 0);
	KUNIT_EXPECT_FALSE(test, is_delegated(test, 0));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), -EFAULT);
}

static void private_fault_delegates(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	KUNIT_ASSERT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, realm_access(test, 5, true, SECRET(5)), WIPED);
	KUNIT_EXPECT_EQ(test, t->nr_calls, 2);
	KUNIT_EXPECT_EQ(test, rmm_nr_delegated(t), 1);
	KUNIT_EXPECT_TRUE(test, is_delegated(test, 5));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 5), -EFAULT);
	KUNIT_EXPECT_EQ(test, realm_read(test, 5), SECRET(5));
}

static void shared_fault_delegates_nothing(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	/* The realm tries it as private memory first. */
	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_EXPECT_EQ(test, realm_access(test, 0, true, JUST_READ), -EACCES);
	KUNIT_EXPECT_EQ(test, t->nr_calls, 0);
	KUNIT_EXPECT_EQ(test, realm_access(test, 0, false, 2), 1);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 2);
	KUNIT_EXPECT_EQ(test, t->nr_calls, 1);
	KUNIT_EXPECT_EQ(test, t->nr_delegate, 0);
}

/* cca_unmap_private() and the model see to the order. */
static void to_shared_undelegates_first(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	pgoff_t i;
	int calls;

	give(test, 0, 4);
	calls = t->nr_calls;
	KUNIT_EXPECT_EQ(test, convert(test, 1, 2, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_calls, calls + 4);
	KUNIT_EXPECT_EQ(test, t->nr_undelegated_private, 2);

	for (i = 0; i < 4; i++) {
		bool shared = i == 1 || i == 2;

		KUNIT_EXPECT_EQ(test, is_delegated(test, i), !shared);
		KUNIT_EXPECT_EQ(test, realm_read(test, i), shared ? REC_EXIT : SECRET(i));
		KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, i), shared ? WIPED : -EFAULT);
	}
	KUNIT_EXPECT_TRUE(test, gmem_kunit_write(&t->g, 1, 0x11));
	KUNIT_EXPECT_EQ(test, realm_access(test, 1, false, 0x12), 0x11);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0x12);
}

static void what_stays_private_keeps_its_contents(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	pgoff_t i;

	give(test, 2, 3);
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 0, false), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_destroy, 0);
	KUNIT_EXPECT_FALSE(test, is_mapped_shared(test, 0));
	for (i = 2; i < 5; i++) {
		KUNIT_EXPECT_EQ(test, realm_read(test, i), SECRET(i));
		KUNIT_EXPECT_EQ(test, (int)ripas(test, i), RIPAS_RAM);
	}
}

static void what_stays_shared_stays_mapped(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	give(test, 2, 2);
	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, realm_access(test, 0, false, 2), 1);
	KUNIT_EXPECT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, false,
				      KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_destroy, 2);
	KUNIT_EXPECT_TRUE(test, is_mapped_shared(test, 0));
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 2);
}

static void no_change_calls_nothing(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	int calls;

	give(test, 0, 2);
	calls = t->nr_calls;
	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, true, 0), 0);
	KUNIT_EXPECT_EQ(test, convert(test, 2, 8, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->nr_calls, calls);
	KUNIT_EXPECT_EQ(test, realm_read(test, 1), SECRET(1));
}

/* What the RMM leaves behind isn't zeros, and it has never seen the last page. */
static void zero_is_left_to_software(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	int calls;

	give(test, 0, 2);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), WIPED);
	KUNIT_EXPECT_EQ(test, convert(test, 1, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 2, 7));
	KUNIT_ASSERT_EQ(test, convert(test, 2, 1, true, 0), 0);
	calls = t->nr_calls;
	KUNIT_EXPECT_EQ(test, convert(test, 2, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 2), 0);
	KUNIT_EXPECT_EQ(test, t->nr_calls, calls);
}

static void modes_once_active(struct kunit *test)
{
	give(test, 0, 4);
	gmem_kunit_unsupported(test, false, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_ZERO);
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), SECRET(0));
}

/* A pin fails the conversion before anything has happened to what is the realm's. */
static void pinned_page(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	struct page *page;
	pgoff_t error = 0;
	int calls;

	give(test, 0, 2);
	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 4, 9));
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 4, false), 0);
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 5, false), 0);
	KUNIT_ASSERT_EQ(test, 1, pin_user_pages_fast((unsigned long)t->g.mem + 4 * PAGE_SIZE, 1,
						     FOLL_WRITE, &page));
	calls = t->nr_calls;

	KUNIT_EXPECT_EQ(test, gmem_kunit_convert(test, 0, 8, true, 0, &error), -EAGAIN);
	KUNIT_EXPECT_EQ(test, error, 4);
	KUNIT_EXPECT_EQ(test, t->nr_calls, calls);
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), SECRET(0));
	KUNIT_EXPECT_EQ(test, realm_read(test, 1), SECRET(1));
	KUNIT_EXPECT_TRUE(test, is_mapped_shared(test, 5));
	KUNIT_EXPECT_EQ(test, realm_access(test, 4, false, 10), 9);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 4), 10);

	unpin_user_page(page);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 8, true, 0), 0);
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), SECRET(0));
	KUNIT_EXPECT_FALSE(test, is_mapped_shared(test, 4));
	KUNIT_EXPECT_EQ(test, t->nr_destroy, 0);
}

static void two_slots(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	const gfn_t base2 = GMEM_KUNIT_GFN + GMEM_KUNIT_PAGES + GMEM_KUNIT_PAGES / 2;
	const unsigned long half = GMEM_KUNIT_PAGES / 2;
	struct kvm_memory_slot bound = t->g.slot;
	pgoff_t i;

	/* Split the slot in two, with a hole between them. */
	mutex_lock(&t->g.kvm->slots_lock);
	kvm_gmem_unbind(&t->g.slot);
	t->g.slot = bound;
	t->g.slot.npages = half;
	t->slot2 = t->g.slot;
	t->slot2.base_gfn = base2;
	t->slot2.gmem.pgoff = half;
	KUNIT_EXPECT_EQ(test, kvm_gmem_commit_memory_region(t->g.kvm, &t->g.slot), 0);
	KUNIT_EXPECT_EQ(test, kvm_gmem_commit_memory_region(t->g.kvm, &t->slot2), 0);
	mutex_unlock(&t->g.kvm->slots_lock);

	KUNIT_ASSERT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	for (i = 0; i < 4; i++) {
		KUNIT_ASSERT_EQ(test, realm_access(test, half - 4 + i, true, SECRET(i)), WIPED);
		KUNIT_ASSERT_EQ(test, realm_access_gfn(test, base2 + i, true, SECRET(4 + i)),
				WIPED);
	}
	KUNIT_EXPECT_EQ(test, rmm_nr_delegated(t), 8);

	/* The last two pages of one, the first two of the other. */
	KUNIT_EXPECT_EQ(test, convert(test, half - 2, 4, false, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_destroy, 4);
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, realm_read(test, half - 4 + i), SECRET(i));
		KUNIT_EXPECT_EQ(test, realm_read(test, half - 2 + i), REC_EXIT);
		KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, half - 2 + i), WIPED);
		KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, half + i), WIPED);
		KUNIT_EXPECT_EQ(test, rmm_access(t, base2 + i, true, JUST_READ), REC_EXIT);
		KUNIT_EXPECT_EQ(test, rmm_access(t, base2 + 2 + i, true, JUST_READ), SECRET(6 + i));
	}
}

/* ---- firmware that fails ---- */

/* RMI_BUSY is between KVM and the RMM: guest_memfd goes on when the page is free. */
static void busy_granule(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	give(test, 0, 2);
	t->busy = 3;
	KUNIT_EXPECT_EQ(test, convert(test, 0, 2, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, t->busy, 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), 0);
}

/* The host must reach none of the pages, and the one that fails is never used again. */
static void unmapping_fails(struct kunit *test, kvm_pfn_t *fail)
{
	struct cca_test *t = cca_test_of(test);
	pgoff_t i;

	give(test, 0, 4);
	t->lost = gmem_kunit_pfn(&t->g, 1);
	*fail = t->lost;
	KUNIT_EXPECT_EQ(test, convert(test, 0, 4, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), -EIO);
	for (i = 0; i < 4; i++) {
		KUNIT_EXPECT_TRUE(test, gmem_kunit_is_private(test, i));
		KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, i), -EFAULT);
		KUNIT_EXPECT_EQ(test, is_delegated(test, i), i == 1);
	}
	KUNIT_EXPECT_EQ(test, t->g.kvm->mmu_invalidate_in_progress, 0);
	KUNIT_EXPECT_EQ(test, convert(test, 2, 1, false, 0), -EIO);
}

static void undelegate_fails(struct kunit *test)
{
	unmapping_fails(test, &cca_test_of(test)->fail_undelegate);
}

static void destroy_fails(struct kunit *test)
{
	unmapping_fails(test, &cca_test_of(test)->fail_destroy);
}

static void undelegate_fails_for_hole(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	give(test, 0, 2);
	t->lost = gmem_kunit_pfn(&t->g, 0);
	t->fail_undelegate = t->lost;
	KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 0, 2), 0);
	KUNIT_EXPECT_EQ(test, folio_ref_count(pfn_folio(t->lost)), 1);
	KUNIT_EXPECT_EQ(test, rmm_nr_delegated(t), 1);
	KUNIT_EXPECT_EQ(test, gmem_kunit_pfn(&t->g, 0), 0);
}

static void delegate_fails(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 5));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->fail_delegate = gmem_kunit_pfn(&t->g, 0);
	KUNIT_EXPECT_EQ(test, realm_access(test, 0, true, JUST_READ), -EIO);

	/* The page is the host's, and no reference to it is left. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 5);
	t->fail_delegate = 0;
	give(test, 0, 1);
}

/* ---- RIPAS ---- */

/* The realm gives memory back, and takes it again. */
static void ripas_changes(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	int i, delegated;

	give(test, 0, 4);
	for (i = 0; i < 3; i++) {
		rsi_ipa_state_set(t, GMEM_KUNIT_GFN + 1, 2, RIPAS_EMPTY, true);
		KUNIT_ASSERT_EQ(test, convert(test, 1, 2, false, 0), 0);
		cca_complete_ripas(t);
		KUNIT_EXPECT_EQ(test, t->rec.addr, t->rec.top);
		KUNIT_EXPECT_EQ(test, realm_access(test, 1, true, JUST_READ), SEA);
		KUNIT_EXPECT_TRUE(test, gmem_kunit_write(&t->g, 1, i + 1));
		KUNIT_EXPECT_EQ(test, realm_access(test, 1, false, i + 2), i + 1);
		KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), i + 2);

		rsi_ipa_state_set(t, GMEM_KUNIT_GFN + 1, 2, RIPAS_RAM, true);
		delegated = t->nr_delegate;
		KUNIT_ASSERT_EQ(test, convert(test, 1, 2, true, 0), 0);
		cca_complete_ripas(t);
		KUNIT_EXPECT_EQ(test, t->rec.addr, t->rec.top);
		KUNIT_EXPECT_EQ(test, t->nr_delegate, delegated);
		KUNIT_EXPECT_FALSE(test, is_mapped_shared(test, 1));

		/* What the host wrote meanwhile isn't what the realm reads. */
		KUNIT_EXPECT_EQ(test, realm_access(test, 1, true, SECRET(1)), WIPED);
		KUNIT_EXPECT_EQ(test, realm_access(test, 2, true, SECRET(2)), WIPED);
		KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 1), -EFAULT);
	}
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), SECRET(0));
	KUNIT_EXPECT_EQ(test, realm_read(test, 3), SECRET(3));
}

/* What is answered is what guest_memfd says, not what the VMM was asked for. */
static void ripas_waits_for_the_vmm(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	int calls;

	give(test, 0, 4);
	rsi_ipa_state_set(t, GMEM_KUNIT_GFN, 4, RIPAS_EMPTY, true);
	calls = t->nr_calls;
	cca_complete_ripas(t);
	KUNIT_EXPECT_EQ(test, t->rec.addr, GMEM_KUNIT_GFN);
	KUNIT_EXPECT_EQ(test, t->nr_calls, calls);
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), SECRET(0));

	/* The VMM does half of it, and then the rest. */
	KUNIT_ASSERT_EQ(test, convert(test, 0, 2, false, 0), 0);
	cca_complete_ripas(t);
	KUNIT_EXPECT_EQ(test, t->rec.addr, GMEM_KUNIT_GFN + 2);
	KUNIT_EXPECT_EQ(test, realm_read(test, 1), SEA);
	KUNIT_EXPECT_EQ(test, realm_read(test, 2), SECRET(2));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 4, false, 0), 0);
	cca_complete_ripas(t);
	KUNIT_EXPECT_EQ(test, t->rec.addr, t->rec.top);
	KUNIT_EXPECT_EQ(test, realm_read(test, 3), SEA);
}

/* A conversion that the realm didn't ask for costs it its memory, but no secret. */
static void unasked_conversion(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	give(test, 0, 1);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), WIPED);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_write(&t->g, 0, 0x66));
	KUNIT_EXPECT_EQ(test, realm_access(test, 0, true, JUST_READ), -EACCES);

	/* It isn't given other contents behind its back either. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_EXPECT_EQ(test, realm_access(test, 0, true, JUST_READ), REC_EXIT);
	KUNIT_EXPECT_EQ(test, (int)ripas(test, 0), RIPAS_DESTROYED);
}

/* ---- memory goes away ---- */

static void punch_hole(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	give(test, 0, 4);
	KUNIT_ASSERT_EQ(test, convert(test, 2, 1, false, 0), 0);
	KUNIT_ASSERT_EQ(test, gmem_kunit_fault(test, 2, false), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&t->g, 1, 2), 0);
	KUNIT_EXPECT_EQ(test, rmm_nr_delegated(t), 2);
	KUNIT_EXPECT_FALSE(test, is_mapped_shared(test, 2));
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), SECRET(0));
	KUNIT_EXPECT_EQ(test, realm_read(test, 3), SECRET(3));

	/* The realm can't go on with a fresh page unless it agrees. */
	KUNIT_EXPECT_EQ(test, realm_access(test, 1, true, JUST_READ), REC_EXIT);
	KUNIT_EXPECT_TRUE(test, is_delegated(test, 1));
	rsi_ipa_state_set(t, GMEM_KUNIT_GFN + 1, 1, RIPAS_RAM, false);
	cca_complete_ripas(t);
	KUNIT_EXPECT_EQ(test, realm_access(test, 1, true, JUST_READ), REC_EXIT);
	rsi_ipa_state_set(t, GMEM_KUNIT_GFN + 1, 1, RIPAS_RAM, true);
	cca_complete_ripas(t);
	KUNIT_EXPECT_EQ(test, realm_access(test, 1, true, JUST_READ), WIPED);
}

static void file_is_closed(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	gmem_kunit_mixture(test);
	KUNIT_EXPECT_EQ(test, rmm_nr_delegated(t), 6);
	KUNIT_EXPECT_EQ(test, vm_munmap((unsigned long)t->g.mem, GMEM_KUNIT_PAGES << PAGE_SHIFT),
			0);
	gmem_kunit_exit(test, &t->g);
	t->g.file = NULL;

	KUNIT_EXPECT_EQ(test, rmm_nr_delegated(t), 0);
	KUNIT_EXPECT_FALSE(test, is_mapped_shared(test, 3));
	KUNIT_EXPECT_EQ(test, realm_access(test, 0, true, JUST_READ), -EFAULT);
	KUNIT_EXPECT_FALSE(test, gmem_kunit_is_private(test, 0));
}

/* cca_test_exit() sees that nothing remains. */
static void close_in_every_state(struct kunit *test)
{
	gmem_kunit_mixture(test);
}

/* ---- races ---- */

static void convert_to_shared(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, 0), 0);
}

static void convert_to_private(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, true, 0), 0);
}

static void punch_a_hole(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, gmem_kunit_punch(&cca_test_of(test)->g, 0, 1), 0);
}

/* A page that isn't the realm's any more is not delegated. */
static void fault_loses_race(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	t->g.before_map = convert_to_shared;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EAGAIN);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EACCES);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 1);

	t->g.before_map = convert_to_private;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, false), -EAGAIN);
	KUNIT_EXPECT_FALSE(test, is_mapped_shared(test, 0));

	t->g.before_map = punch_a_hole;
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), -EAGAIN);
	KUNIT_EXPECT_EQ(test, t->nr_calls, 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_fault(test, 0, true), 0);
	KUNIT_EXPECT_EQ(test, rmm_nr_delegated(t), 1);
}

#define RACE_PAGES	4
#define RACE_ROUNDS	20
#define RACE_TRIES	10000

struct cca_thread {
	struct kunit *test;
	struct task_struct *task;
	struct mm_struct *mm;
	int id;
};

/* A vCPU that touches all pages in both ways, or, with an mm, userspace that reads them. */
static int race_thread(void *arg)
{
	struct cca_thread *thread = arg;
	struct cca_test *t = cca_test_of(thread->test);
	int r, i;

	/* So that stubs are in effect for this thread, too. */
	current->kunit_test = thread->test;

	if (thread->mm)
		kthread_use_mm(thread->mm);

	for (i = 0; !kthread_should_stop(); i = (i + 1) % (2 * RACE_PAGES)) {
		if (thread->mm)
			r = gmem_kunit_read(&t->g, i / 2) == -EFAULT ? -EACCES : 0;
		else
			r = gmem_kunit_fault(thread->test, i / 2, (i + thread->id) % 2);
		if (!r)
			WRITE_ONCE(t->nr_faults[thread->id], t->nr_faults[thread->id] + 1);
		else if (r != -EAGAIN && r != -EACCES)
			broken(t, "fault fails", -r);
		cond_resched();
	}

	if (thread->mm)
		kthread_unuse_mm(thread->mm);
	return 0;
}

static bool race_wait_for_fault(struct cca_test *t, int id)
{
	int tries, before = READ_ONCE(t->nr_faults[id]);

	for (tries = 0; tries < RACE_TRIES; tries++) {
		if (READ_ONCE(t->nr_faults[id]) != before)
			return true;
		fsleep(100);
	}
	return false;
}

/* There and back while a vCPU and a second thread, of either kind, use the pages. */
static void race(struct kunit *test, struct mm_struct *mm)
{
	struct cca_test *t = cca_test_of(test);
	struct cca_thread threads[2];
	int i, r, tries, nr_threads;
	kvm_pfn_t pfn;
	pgoff_t index;

	for (nr_threads = 0; nr_threads < 2; nr_threads++) {
		struct cca_thread *thread = &threads[nr_threads];

		*thread = (struct cca_thread) {
			.test = test,
			.mm = nr_threads ? mm : NULL,
			.id = nr_threads,
		};
		thread->task = kthread_run(race_thread, thread, "cca_race%d", nr_threads);
		if (IS_ERR(thread->task)) {
			KUNIT_FAIL(test, "no thread");
			goto out;
		}
	}

	for (i = 0; i < RACE_ROUNDS && !t->broken; i++) {
		bool to_private = !(i % 2);

		/* Only userspace that touches the page right now is a user of it. */
		tries = 0;
		do {
			r = convert(test, 0, RACE_PAGES, to_private, 0);
		} while (mm && to_private && r == -EAGAIN && tries++ < RACE_TRIES);
		KUNIT_EXPECT_EQ(test, r, 0);

		for (index = 0; index < RACE_PAGES && to_private; index++) {
			pfn = gmem_kunit_pfn(&t->g, index);
			if (pfn && folio_mapped(pfn_folio(pfn)))
				broken(t, "the host maps a private page", index);
		}

		/* The next conversion is only of interest if something is mapped. */
		KUNIT_EXPECT_TRUE(test, race_wait_for_fault(t, to_private ? 0 : 1));
	}

out:
	while (nr_threads--)
		kthread_stop(threads[nr_threads].task);

	KUNIT_EXPECT_GT(test, t->nr_destroy, 0);
}

/* The model sees to it that no page is in two states, and no vCPU fails a conversion. */
static void vcpus_race(struct kunit *test)
{
	race(test, NULL);
}

static void host_races(struct kunit *test)
{
	race(test, current->mm);
}

/* ---- launch ---- */

static long populate(struct kunit *test, pgoff_t first, long nr, void __user *src)
{
	struct cca_test *t = cca_test_of(test);

	guard(mutex)(&t->g.kvm->slots_lock);

	return kvm_gmem_populate(t->g.kvm, GMEM_KUNIT_GFN + first, src, nr, false,
				 cca_populate, t);
}

static void launch_from_source(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	void __user *src = t->g.args + PAGE_SIZE;

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 2, true, 0), 0);
	KUNIT_ASSERT_TRUE(test, gmem_kunit_fill(src, 0x77));

	KUNIT_EXPECT_EQ(test, populate(test, 0, 1, src), 1);
	KUNIT_EXPECT_EQ(test, t->measured[0], 0x77);
	activate(test);
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), 0x77);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), -EFAULT);
}

/* The page can't be its own source, so it is copied aside first. */
static void launch_in_place(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);
	kvm_pfn_t pfn;
	int i;

	for (i = 0; i < 4; i++) {
		/* One of them is never touched, and is measured as zeros. */
		if (i != 2)
			KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, i, 0x10 + i));
	}
	pfn = gmem_kunit_pfn(&t->g, 3);
	KUNIT_ASSERT_EQ(test, convert(test, 0, 4, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, t->nr_calls, 0);

	KUNIT_EXPECT_EQ(test, populate(test, 0, 4, NULL), 4);
	KUNIT_EXPECT_EQ(test, t->nr_measured, 4);
	activate(test);
	for (i = 0; i < 4; i++) {
		KUNIT_EXPECT_EQ(test, t->measured[i], i == 2 ? 0 : 0x10 + i);
		KUNIT_EXPECT_EQ(test, realm_read(test, i), i == 2 ? 0 : 0x10 + i);
	}
	KUNIT_EXPECT_EQ(test, gmem_kunit_pfn(&t->g, 3), pfn);
}

static void launch_from_the_same_file(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 8, 0x88));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 2, true, 0), 0);

	/* The host can't read private memory, be it in its own mapping. */
	KUNIT_EXPECT_EQ(test, populate(test, 0, 1, t->g.mem), -EFAULT);
	KUNIT_EXPECT_EQ(test, t->nr_calls, 0);

	KUNIT_EXPECT_EQ(test, populate(test, 0, 1, t->g.mem + 8 * PAGE_SIZE), 1);
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), 0x88);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 8), 0x88);
}

static void launch_of_shared_page(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 1));
	KUNIT_EXPECT_EQ(test, populate(test, 0, 1, NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, t->nr_calls, 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 1);
}

static void launch_twice(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 5));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_EXPECT_EQ(test, populate(test, 0, 1, NULL), 1);
	KUNIT_EXPECT_EQ(test, populate(test, 0, 1, NULL), -EEXIST);
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), 5);
	KUNIT_EXPECT_EQ(test, t->nr_measured, 1);

	/* The VMM changes its mind. */
	KUNIT_EXPECT_EQ(test, convert(test, 0, 1, false, KVM_SET_MEMORY_ATTRIBUTES2_ZERO), 0);
	KUNIT_EXPECT_EQ(test, gmem_kunit_read(&t->g, 0), 0);
	KUNIT_EXPECT_TRUE(test, gmem_kunit_write(&t->g, 0, 6));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
	KUNIT_EXPECT_EQ(test, populate(test, 0, 1, NULL), 1);
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), 6);
}

/* More memory becomes private, and the image is still there. */
static void launch_then_convert(struct kunit *test)
{
	struct cca_test *t = cca_test_of(test);

	KUNIT_ASSERT_TRUE(test, gmem_kunit_write(&t->g, 0, 5));
	KUNIT_ASSERT_EQ(test, convert(test, 0, 1, true, 0), 0);
	KUNIT_ASSERT_EQ(test, populate(test, 0, 1, NULL), 1);
	activate(test);

	KUNIT_EXPECT_EQ(test, convert(test, 0, GMEM_KUNIT_PAGES, true, 0), 0);
	KUNIT_EXPECT_EQ(test, t->nr_calls, 0);
	KUNIT_EXPECT_EQ(test, realm_read(test, 0), 5);
	KUNIT_EXPECT_EQ(test, realm_access(test, 1, true, SECRET(1)), WIPED);
}

static void modes_before_launch(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, convert(test, 0, 4, true, 0), 0);
	gmem_kunit_unsupported(test, false, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE);
	gmem_kunit_unsupported(test, true, KVM_SET_MEMORY_ATTRIBUTES2_ZERO);
	KUNIT_EXPECT_EQ(test, convert(test, 0, 8, true, KVM_SET_MEMORY_ATTRIBUTES2_PRESERVE), 0);
}

static struct kunit_case cca_test_cases[] = {
	KUNIT_CASE(model_is_strict),
	KUNIT_CASE(model_notices_the_host),
	KUNIT_CASE(to_private_delegates_nothing),
	KUNIT_CASE(private_fault_delegates),
	KUNIT_CASE(shared_fault_delegates_nothing),
	KUNIT_CASE(to_shared_undelegates_first),
	KUNIT_CASE(what_stays_private_keeps_its_contents),
	KUNIT_CASE(what_stays_shared_stays_mapped),
	KUNIT_CASE(no_change_calls_nothing),
	KUNIT_CASE(zero_is_left_to_software),
	KUNIT_CASE(modes_once_active),
	KUNIT_CASE(pinned_page),
	KUNIT_CASE(two_slots),
	KUNIT_CASE(busy_granule),
	KUNIT_CASE(undelegate_fails),
	KUNIT_CASE(destroy_fails),
	KUNIT_CASE(undelegate_fails_for_hole),
	KUNIT_CASE(delegate_fails),
	KUNIT_CASE(ripas_changes),
	KUNIT_CASE(ripas_waits_for_the_vmm),
	KUNIT_CASE(unasked_conversion),
	KUNIT_CASE(punch_hole),
	KUNIT_CASE(file_is_closed),
	KUNIT_CASE(close_in_every_state),
	KUNIT_CASE(fault_loses_race),
	KUNIT_CASE(vcpus_race),
	KUNIT_CASE(host_races),
	{}
};

static struct kunit_case cca_launch_test_cases[] = {
	KUNIT_CASE(launch_from_source),
	KUNIT_CASE(launch_in_place),
	KUNIT_CASE(launch_from_the_same_file),
	KUNIT_CASE(launch_of_shared_page),
	KUNIT_CASE(launch_twice),
	KUNIT_CASE(launch_then_convert),
	KUNIT_CASE(modes_before_launch),
	{}
};

static struct kunit_suite cca_test_suite = {
	.name = "guest_memfd_cca",
	.init = cca_test_init,
	.exit = cca_test_exit,
	.test_cases = cca_test_cases,
};

static struct kunit_suite cca_launch_test_suite = {
	.name = "guest_memfd_cca_launch",
	.init = cca_launch_test_init,
	.exit = cca_test_exit,
	.test_cases = cca_launch_test_cases,
};

kunit_test_suites(&cca_test_suite, &cca_launch_test_suite);
