/*
 * AMD security processor: what its source files share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_I386_AMD_PSP_H
#define HW_I386_AMD_PSP_H

#include "cpu.h"

/* The page that SNP_LAUNCH_UPDATE takes for the type CPUID. */
#define PSP_CPUID_ENTRIES   64

typedef struct QEMU_PACKED PspCpuidEntry {
    uint32_t eax_in;
    uint32_t ecx_in;
    uint64_t xcr0_in;
    uint64_t xss_in;
    uint32_t reg[4];            /* EAX, EBX, ECX, EDX */
    uint64_t reserved;
} PspCpuidEntry;

typedef struct QEMU_PACKED PspCpuidPage {
    uint32_t count;
    uint32_t reserved1;
    uint64_t reserved2;
    PspCpuidEntry entry[PSP_CPUID_ENTRIES];
} PspCpuidPage;

QEMU_BUILD_BUG_ON(sizeof(PspCpuidEntry) != 48);

/*
 * Compare what a guest is told of its processor with the processor. Entries
 * that promise something else are corrected in place; false is returned if
 * there is any. @page->count must not exceed PSP_CPUID_ENTRIES.
 */
bool psp_cpuid_check(CPUX86State *env, PspCpuidPage *page);

#endif
