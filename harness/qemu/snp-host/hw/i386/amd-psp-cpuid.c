/*
 * AMD security processor: the CPUID page of SNP guests
 *
 * SNP_LAUNCH_UPDATE accepts a CPUID page only if it promises nothing that the
 * processor doesn't do.  How each register is compared follows what firmware
 * 1.55.25, as published by AMD, does (sanitize_cpuid_list()).  There the
 * values are constants of one processor model, here they are what CPUID
 * reports on the emulated processor.  Leaves outside 0..0xffff and
 * 0x80000000..0x8000ffff are the hypervisor's own and not checked (SEV-SNP
 * firmware ABI, 8.14.2.6).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "cpu.h"
#include "amd-psp.h"

/*
 * Rules:
 *   =  as the processor
 *   &  a subset of the processor's bits
 *   <  not more than the processor
 *   f  family, model and stepping not newer than the processor's
 *   x  size of the XSAVE area for xcr0_in and xss_in
 *   0  zero
 *   .  anything
 */
typedef struct CpuidLeaf {
    uint32_t leaf;
    uint32_t last;              /* subleaves up to this one */
    const char *rule;           /* of EAX, EBX, ECX, EDX */
} CpuidLeaf;

/* Leaves that aren't here have to be all zero. First match counts. */
static const CpuidLeaf leaves[] = {
    { 0x00000000, 0x0, "<..." },
    { 0x00000001, 0x0, "f.&&" },
    { 0x00000002, 0x0, "...." },
    { 0x00000004, 0x0, "...." },
    { 0x00000005, 0x0, "...." },
    { 0x00000006, 0x0, "&=&=" },
    { 0x00000007, 0x0, "<&&&" },
    { 0x00000007, 0x1, "&===" },
    { 0x0000000b, 0x2, "...." },
    { 0x0000000d, 0x0, "&x.=" },
    { 0x0000000d, 0x1, "&x&&" },
    { 0x0000000d, 0x2, "====" },
    { 0x0000000d, 0x4, "0000" },
    { 0x0000000d, 0x7, "==&=" },
    { 0x0000000d, 0x8, "0000" },
    { 0x0000000d, 0x9, "====" },
    { 0x0000000d, 0xa, "0000" },
    { 0x0000000d, 0xc, "====" },
    { 0x0000000f, 0x0, "=.=." },
    { 0x0000000f, 0x1, "...." },
    { 0x00000010, 0x0, "=.==" },
    { 0x00000010, 0x1, "...." },
    { 0x80000000, 0x0, "<..." },
    { 0x80000001, 0x0, "f.&&" },
    { 0x80000002, 0x0, "...." },
    { 0x80000003, 0x0, "...." },
    { 0x80000004, 0x0, "...." },
    { 0x80000005, 0x0, "...." },
    { 0x80000006, 0x0, "...." },
    { 0x80000007, 0x0, "=&.&" },
    { 0x80000008, 0x0, "0&.<" },
    { 0x8000000a, 0x0, "..=&" },
    { 0x80000019, 0x0, "..==" },
    { 0x8000001a, 0x0, ".===" },
    { 0x8000001b, 0x0, "&===" },
    { 0x8000001d, 0x3, "...." },
    { 0x8000001d, 0x4, ".=.=" },
    { 0x8000001e, 0x0, "...." },
    { 0x8000001f, 0x0, "&0.." },
    { 0x80000020, 0x0, "=.==" },
    { 0x80000020, 0x2, ".==." },
    { 0x80000020, 0x3, "=.&=" },
    { 0x80000021, 0x0, "&.==" },
    { 0x80000022, 0x0, "&..=" },
    { 0x80000023, 0x0, "&.==" },
    { 0x80000024, 0x0, "<&&=" },
    { 0x80000024, 0x1, "&===" },
    { 0x80000026, 0x3, "...." },
};

/* Fields that have another rule than the rest of their register. */
typedef struct CpuidField {
    uint32_t leaf;
    uint32_t sub;
    int reg;
    uint32_t mask;
    char rule;
} CpuidField;

enum { EAX, EBX, ECX, EDX };

static const CpuidField fields[] = {
    { 0x00000001, 0, EAX, 0xf000f000, '0' },    /* reserved */
    { 0x00000001, 0, EBX, 0x0000ff00, '=' },    /* CLFLUSH size */
    { 0x00000001, 0, ECX, CPUID_EXT_OSXSAVE | CPUID_EXT_HYPERVISOR, '.' },
    { 0x00000007, 0, ECX, CPUID_7_0_ECX_OSPKE, '.' },
    { 0x0000000b, 0, EAX, 0xffffffe0, '0' },    /* reserved */
    { 0x0000000b, 0, EBX, 0xffff0000, '0' },
    { 0x0000000b, 0, ECX, 0xffff0000, '0' },
    { 0x0000000b, 1, EAX, 0xffffffe0, '0' },
    { 0x0000000b, 1, EBX, 0xffff0000, '0' },
    { 0x0000000b, 1, ECX, 0xffff0000, '0' },
    { 0x0000000d, 0, EAX, 0x00000003, '=' },    /* x87 and SSE */
    { 0x80000001, 0, EAX, 0xf000f000, '0' },    /* reserved */
    { 0x80000008, 0, EAX, 0x000000ff, '<' },    /* physical address */
    { 0x80000008, 0, EAX, 0x0000ff00, '<' },    /* linear address */
    { 0x80000008, 0, EAX, 0x00ff0000, '<' },    /* guest physical address */
    { 0x80000008, 0, EDX, 0x0000ffff, '<' },    /* INVLPGB pages */
    { 0x80000008, 0, EDX, 0xffff0000, '<' },    /* RDPRU registers */
    { 0x8000001e, 0, EBX, 0xffff0000, '0' },    /* reserved */
    { 0x8000001e, 0, ECX, 0xfffff800, '0' },
    { 0x8000001f, 0, EBX, 0x0000003f, '=' },    /* position of the C-bit */
    { 0x8000001f, 0, EBX, 0x00000fc0, '.' },    /* reduction of the address */
    { 0x8000001f, 0, EBX, 0x0000f000, '<' },    /* number of VMPLs */
    { 0x80000022, 0, EBX, 0x0000000f, '<' },    /* performance counters */
    { 0x80000022, 0, EBX, 0x000003f0, '<' },    /* LBR stack */
};

static uint32_t fms_order(uint32_t eax)
{
    uint32_t family = extract32(eax, 8, 4) + extract32(eax, 20, 8);
    uint32_t model = extract32(eax, 4, 4) | extract32(eax, 16, 4) << 4;

    return family << 16 | model << 8 | extract32(eax, 0, 4);
}

static uint32_t xsave_size(CPUX86State *env, uint32_t sub,
                           uint64_t xcr0, uint64_t xss)
{
    uint64_t components = sub ? xcr0 | xss : xcr0;
    uint32_t end = 0x240;       /* legacy area and header */
    int i;

    for (i = 2; i < 63; i++) {
        uint32_t size, offset, ecx, edx;

        if (!(components & BIT_ULL(i))) {
            continue;
        }
        cpu_x86_cpuid(env, 0xd, i, &size, &offset, &ecx, &edx);
        if (sub) {              /* compacted */
            end += size;
        } else {
            end = MAX(end, offset + size);
        }
    }
    return end;
}

/* What the bits @mask of a register have to be, if @val isn't allowed. */
static uint32_t apply_rule(char rule, uint32_t mask, uint32_t val,
                           uint32_t host)
{
    val &= mask;
    host &= mask;

    switch (rule) {
    case '=':
        return host;
    case '&':
        return val & host;
    case '<':
        return MIN(val, host);
    case 'f':
        return fms_order(val) > fms_order(host) ? host : val;
    case '0':
        return 0;
    case '.':
        return val;
    default:
        g_assert_not_reached();
    }
}

static const CpuidLeaf *find_leaf(uint32_t leaf, uint32_t sub)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(leaves); i++) {
        if (leaves[i].leaf == leaf && sub <= leaves[i].last) {
            return &leaves[i];
        }
    }
    return NULL;
}

static bool check_entry(CPUX86State *env, PspCpuidEntry *e)
{
    uint32_t leaf = le32_to_cpu(e->eax_in);
    uint32_t sub = le32_to_cpu(e->ecx_in);
    const CpuidLeaf *l;
    uint32_t host[4];
    bool ok;
    int r, i;

    if (leaf > 0xffff && (leaf < 0x80000000 || leaf > 0x8000ffff)) {
        return true;
    }

    ok = e->reserved == 0;
    l = find_leaf(leaf, sub);
    cpu_x86_cpuid(env, leaf, sub, &host[EAX], &host[EBX], &host[ECX],
                  &host[EDX]);

    for (r = EAX; r <= EDX; r++) {
        uint32_t val = le32_to_cpu(e->reg[r]);
        uint32_t rest = UINT32_MAX;
        uint32_t want = 0;
        char rule = l ? l->rule[r] : '0';

        if (rule == 'x') {
            want = xsave_size(env, sub, le64_to_cpu(e->xcr0_in),
                              le64_to_cpu(e->xss_in));
        } else {
            for (i = 0; i < ARRAY_SIZE(fields); i++) {
                const CpuidField *f = &fields[i];

                if (f->leaf == leaf && f->sub == sub && f->reg == r) {
                    want |= apply_rule(f->rule, f->mask, val, host[r]);
                    rest &= ~f->mask;
                }
            }
            want |= apply_rule(rule, rest, val, host[r]);
        }
        if (want != val) {
            e->reg[r] = cpu_to_le32(want);
            ok = false;
        }
    }
    return ok;
}

bool psp_cpuid_check(CPUX86State *env, PspCpuidPage *page)
{
    uint32_t count = le32_to_cpu(page->count);
    bool ok = true;
    int i;

    assert(count <= PSP_CPUID_ENTRIES);
    for (i = 0; i < count; i++) {
        ok &= check_entry(env, &page->entry[i]);
    }
    return ok;
}
