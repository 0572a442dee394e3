// SPDX-License-Identifier: GPL-2.0
/*
 * Accesses by a device: QEMU's "edu", which copies between memory and a buffer of its own, behind the IOMMU.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include "snp_rows.h"

#define EDU_SRC		0x80
#define EDU_DST		0x88
#define EDU_COUNT	0x90
#define EDU_CMD		0x98
#define EDU_RUN		1
#define EDU_TO_MEMORY	2
#define EDU_BUFFER	0x40000

/* A refused access is a line for each 4 bytes. */
#define LEN		4

static struct pci_dev *edu;
static void __iomem *bar;
static struct vm vm;
static u64 good, good_dma;

static bool edu_copy(u64 src, u64 dst, u64 cmd)
{
	int i;

	writeq(src, bar + EDU_SRC);
	writeq(dst, bar + EDU_DST);
	writeq(LEN, bar + EDU_COUNT);
	writeq(cmd | EDU_RUN, bar + EDU_CMD);
	for (i = 0; i < 500; i++) {
		if (!(readq(bar + EDU_CMD) & EDU_RUN))
			return true;
		msleep(10);
	}
	return check_at(__LINE__, "the device has done its DMA", false);
}

static u64 map(u64 pa)
{
	dma_addr_t a = dma_map_page(&edu->dev, pfn_to_page(pa >> PAGE_SHIFT), 0, PAGE_SIZE, DMA_BIDIRECTIONAL);

	return check_at(__LINE__, "the page is mapped for DMA", !dma_mapping_error(&edu->dev, a)) ? a : 0;
}

static void unmap(u64 a)
{
	dma_unmap_page(&edu->dev, a, PAGE_SIZE, DMA_BIDIRECTIONAL);
}

/* The device writes that to memory. */
static void dma_write(u64 a, u32 val)
{
	*(u32 *)page_va(good) = val;
	edu_copy(good_dma, EDU_BUFFER, 0);
	edu_copy(EDU_BUFFER, a, EDU_TO_MEMORY);
}

/* What the device reads from memory. */
static u32 dma_read(u64 a)
{
	edu_copy(a, EDU_BUFFER, 0);
	edu_copy(EDU_BUFFER, good_dma, EDU_TO_MEMORY);
	return *(u32 *)page_va(good);
}

static bool need_edu(void)
{
	if (!edu)
		row_skip("the machine has no edu device");
	return edu;
}

static void announce_dma(u64 pa)
{
	announce("dma spa %llx rmp", pa);
}

/* a: state of the page, b: refused. With what the page has in memory, be it ciphertext. */
static void read_row(const struct row *r)
{
	u64 pa = page_alloc(), a;
	u32 *p = page_va(pa), raw;

	if (need_edu()) {
		*p = 0x11223344;
		a = map(pa);
		state_make(pa, r->a);
		raw = READ_ONCE(*p);
		if (r->b)
			announce_dma(pa);
		if (r->b)
			check(dma_read(a) != raw);
		else
			same("value", dma_read(a), raw);
		check(page_reset(pa));
		/* The same mapping, once the page is the hypervisor's. */
		raw = READ_ONCE(*p);
		same("value at the end", dma_read(a), raw);
		unmap(a);
	}
	page_free(pa);
}

static void write_row(const struct row *r)
{
	u64 pa = page_alloc(), a;
	u32 *p = page_va(pa), raw;

	if (need_edu()) {
		a = map(pa);
		/* The device has used the mapping already. */
		dma_write(a, 0x1111);
		same("value at first", READ_ONCE(*p), 0x1111);
		state_make(pa, r->a);
		raw = READ_ONCE(*p);
		if (r->b)
			announce_dma(pa);
		dma_write(a, 0x2222);
		same("value", READ_ONCE(*p), r->b ? raw : 0x2222);
		check(page_reset(pa));
		dma_write(a, 0x3333);
		same("value at the end", READ_ONCE(*p), 0x3333);
		unmap(a);
	}
	page_free(pa);
}

/* One page of a 2M entry, and one outside of it. */
static void large(const struct row *r)
{
	struct rmpupdate_arg e = { .assigned = 1, .size = 1, .asid = ASID_LAUNCH, .gpa = 0x40000000 };
	u64 pa = region.pa + 7 * PAGE_SIZE, a;
	u32 raw, *p = page_va(pa);

	if (!need_edu())
		return;
	a = map(pa);
	same("RMPUPDATE", rmpupdate_raw(region.pa, e), 0);
	raw = READ_ONCE(*p);
	announce_dma(pa);
	dma_write(a, 0x2222);
	same("value", READ_ONCE(*p), raw);
	check(block_reset(&region));
	dma_write(a, 0x3333);
	same("value at the end", READ_ONCE(*p), 0x3333);
	unmap(a);
}

/* Only the page itself counts, not its neighbours: unlike for the processor, the size of the mapping does not matter. */
static void neighbour(const struct row *r)
{
	u64 pa = region.pa + 7 * PAGE_SIZE, a;

	if (!need_edu())
		return;
	a = map(pa);
	assign(pa + PAGE_SIZE, 0, 0, true);
	assign(region.pa, 0, 0, true);
	dma_write(a, 0x3333);
	same("value", *(u32 *)page_va(pa), 0x3333);
	unmap(a);
	check(block_reset(&region));
}

/* Pages of the RMP and of the IOMMU are assigned, too. a: page */
static void write_special(const struct row *r)
{
	u64 pa = state_page(r->a), a;
	dma_addr_t d;

	if (!need_edu())
		return;
	/* The RMP is no memory of the kernel's: mapped like a device's. */
	d = dma_map_resource(&edu->dev, pa, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
	if (!check(!dma_mapping_error(&edu->dev, d)))
		return;
	a = rmp_read(pa).lo;
	announce_dma(pa);
	dma_write(d, 0x2222);
	same("entry", rmp_read(pa).lo, a);
	dma_unmap_resource(&edu->dev, d, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
}

/* A page that a SEV guest has used last, as it is not assigned. */
static void encrypted(const struct row *r)
{
	u64 pa, a;
	u32 raw, *p;

	if (!need_edu() || !vm_create(&vm, KIND_SEV))
		return;
	pa = vm_spa(GPA_DATA);
	p = page_va(pa);
	a = map(pa);
	raw = READ_ONCE(*p);
	same("the host's view, by DMA", dma_read(a), raw);
	same("the guest's view", vm_op(&vm, 0, OP_LOAD, 0, 0, 0, priv(GPA_DATA)).rax, 0xd0d0d0d0d0d0d0d0ULL);
	announce("page is encrypted, which is not emulated for DMA");
	dma_read(a);
	same("the host's view", READ_ONCE(*p), raw);
	same("the host's view, by DMA", dma_read(a), raw);
	unmap(a);
	vm_destroy(&vm);
}

static int init(void)
{
	edu = pci_get_device(0x1234, 0x11e8, NULL);
	if (!edu)
		return 0;
	good = page_alloc();
	if (pci_enable_device(edu) || dma_set_mask_and_coherent(&edu->dev, DMA_BIT_MASK(48)))
		return -EIO;
	pci_set_master(edu);
	bar = pci_iomap(edu, 0, 0);
	if (!bar)
		return -EIO;
	good_dma = map(good);
	return launch_init();
}

static void done(void)
{
	if (!edu)
		return;
	launch_exit();
	if (good_dma)
		unmap(good_dma);
	if (bar)
		pci_iounmap(edu, bar);
	pci_clear_master(edu);
	pci_disable_device(edu);
	pci_dev_put(edu);
	page_free(good);
	edu = NULL;
	bar = NULL;
	good_dma = 0;
}

#define SHARED	"amdsev#109"

static const struct row rows[] = {
	{ "dma.read_hypervisor", SHARED, read_row, ST_HV, 0 },
	{ "dma.read_firmware", SHARED, read_row, ST_FIRMWARE, 1 },
	{ "dma.read_reclaim", SHARED, read_row, ST_RECLAIM, 1 },
	{ "dma.read_pre_guest", SHARED, read_row, ST_PRE_GUEST, 1 },
	{ "dma.read_guest_invalid", SHARED, read_row, ST_INVALID, 1 },
	{ "dma.read_guest_valid", SHARED, read_row, ST_VALID, 1 },
	{ "dma.write_hypervisor", SHARED, write_row, ST_HV, 0 },
	{ "dma.write_firmware", SHARED, write_row, ST_FIRMWARE, 1 },
	{ "dma.write_reclaim", SHARED, write_row, ST_RECLAIM, 1 },
	{ "dma.write_pre_guest", SHARED, write_row, ST_PRE_GUEST, 1 },
	{ "dma.write_guest_invalid", SHARED, write_row, ST_INVALID, 1 },
	{ "dma.write_guest_valid", SHARED, write_row, ST_VALID, 1 },
	{ "dma.write_large", SHARED, large },
	{ "dma.write_neighbour", SHARED, neighbour },
	{ "dma.write_rmp", SHARED "; FW configure_rmp", write_special, ST_RMP },
	{ "dma.write_iommu", SHARED "; FW set_iommu_table_state", write_special, ST_IOMMU },
	{ "dma.encrypted", "not emulated", encrypted },
};

const struct group group_dma = { "dma", rows, ARRAY_SIZE(rows), init, done };
