/*
 * Emulation of a host with AMD SEV, SEV-ES and SEV-SNP: contents of encrypted
 * memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "cpu.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "snp-host.h"

/* splitmix64: each bit of the input changes about half of the output's */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

/* Between a view and RAW: the same operation both ways. */
static void apply_key(uint64_t *page, hwaddr spa, uint32_t asid)
{
    uint64_t key = snp_host->key[asid];

    for (int i = 0; i < TARGET_PAGE_SIZE / sizeof(*page); i++) {
        page[i] ^= cpu_to_le64(mix(mix(spa + i * sizeof(*page)) ^ key));
    }
}

/*
 * Only RAM has views: registers of devices are the same with and without the
 * C-bit, and ROM cannot be converted.
 */
static bool is_ram(hwaddr spa)
{
    MemoryRegion *mr;
    hwaddr xlat, len = 1;

    RCU_READ_LOCK_GUARD();
    mr = address_space_translate(&address_space_memory, spa, &xlat, &len,
                                 true, MEMTXATTRS_UNSPECIFIED);
    return memory_region_is_ram(mr) && !mr->readonly && !mr->rom_device;
}

uint32_t snp_view(hwaddr spa)
{
    return snp_rmp_covers(spa) ? snp_host->view[spa >> TARGET_PAGE_BITS]
                               : SNP_VIEW_RAW;
}

bool snp_view_is(hwaddr spa, uint32_t asid)
{
    return snp_view(spa) == asid || !snp_rmp_covers(spa) || !is_ram(spa);
}

void snp_view_set(hwaddr spa, uint32_t asid)
{
    uint64_t page[TARGET_PAGE_SIZE / sizeof(uint64_t)];
    uint32_t old = snp_view(spa);

    if (snp_view_is(spa, asid)) {
        return;
    }

    spa = QEMU_ALIGN_DOWN(spa, TARGET_PAGE_SIZE);
    address_space_read(&address_space_memory, spa, MEMTXATTRS_UNSPECIFIED,
                       page, sizeof(page));
    if (old != SNP_VIEW_RAW) {
        apply_key(page, spa, old);
    }
    if (asid != SNP_VIEW_RAW) {
        apply_key(page, spa, asid);
    }
    /* Invalidates the TBs of the page as well. */
    address_space_write(&address_space_memory, spa, MEMTXATTRS_UNSPECIFIED,
                        page, sizeof(page));
    snp_view_relabel(spa, asid);
}

void snp_view_relabel(hwaddr spa, uint32_t asid)
{
    assert(snp_rmp_covers(spa));
    snp_host->view[spa >> TARGET_PAGE_BITS] = asid;
    snp_host->generation++;
    snp_flush_all();
}

void snp_exclusive_begin(CPUState *cs, SnpExclusive *x)
{
    x->nested = cpu_in_exclusive_context(cs);
    if (x->nested) {
        return;
    }
    /*
     * start_exclusive() waits for each running vCPU, also if that one waits
     * for the BQL.
     */
    x->bql = bql_locked();
    if (x->bql) {
        bql_unlock();
    }
    g_assert(cs->running);
    cpu_exec_end(cs);
    start_exclusive();
}

void snp_exclusive_end(CPUState *cs, SnpExclusive *x)
{
    if (x->nested) {
        return;
    }
    end_exclusive();
    cpu_exec_start(cs);
    if (x->bql) {
        bql_lock();
    }
}

void snp_view_want(CPUState *cs, hwaddr spa, uint32_t asid)
{
    SnpExclusive x;

    /* cpu_exec_start() may wait for another vCPU that changes the view. */
    while (!snp_view_is(spa, asid)) {
        snp_exclusive_begin(cs, &x);
        snp_view_set(spa, asid);
        snp_exclusive_end(cs, &x);
    }
}

static void drop_views(uint32_t asid)
{
    for (uint64_t pfn = 0; pfn < snp_host->pages; pfn++) {
        if (snp_host->view[pfn] == asid) {
            snp_view_set(pfn << TARGET_PAGE_BITS, SNP_VIEW_RAW);
        }
    }
}

void snp_key_new(uint32_t asid)
{
    assert(asid && asid <= SNP_MAX_ASID);
    drop_views(asid);
    snp_host->key[asid] = mix(++snp_host->keys_made);
}

void snp_asid_enable(uint32_t asid, bool on)
{
    assert(asid && asid <= SNP_MAX_ASID);
    snp_host->asid_enabled[asid] = on;
    if (!on) {
        drop_views(asid);
    }
}

bool snp_asid_enabled(uint32_t asid)
{
    return asid <= SNP_MAX_ASID && snp_host->asid_enabled[asid];
}

static bool access_as(uint32_t asid, hwaddr spa, uint8_t *buf, size_t len,
                      bool is_write)
{
    while (len) {
        size_t n = MIN(len, TARGET_PAGE_SIZE - (spa & ~TARGET_PAGE_MASK));

        if (!is_ram(spa)) {
            return false;
        }
        snp_view_set(spa, asid);
        if (address_space_rw(&address_space_memory, spa,
                             MEMTXATTRS_UNSPECIFIED, buf, n, is_write)) {
            return false;
        }
        spa += n;
        buf += n;
        len -= n;
    }
    return true;
}

bool snp_phys_read(hwaddr spa, void *buf, size_t len)
{
    return access_as(SNP_VIEW_RAW, spa, buf, len, false);
}

bool snp_phys_write(hwaddr spa, const void *buf, size_t len)
{
    return access_as(SNP_VIEW_RAW, spa, (void *)buf, len, true);
}

bool snp_guest_read(uint32_t asid, hwaddr spa, void *buf, size_t len)
{
    return access_as(asid, spa, buf, len, false);
}

bool snp_guest_write(uint32_t asid, hwaddr spa, const void *buf, size_t len)
{
    return access_as(asid, spa, (void *)buf, len, true);
}
