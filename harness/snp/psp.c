// SPDX-License-Identifier: GPL-2.0
/*
 * The security processor, by its registers: unlike the driver, this can do what is refused.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/pci.h>
#include <linux/smp.h>
#include <asm/smp.h>
#include "snp_rows.h"

#define REG_CMDRESP	0x10980
#define REG_ADDR_LO	0x109e0
#define REG_ADDR_HI	0x109e4
#define RESPONSE	BIT(31)

static void __iomem *regs;
struct sguest launch;
bool snp_up = true;

int psp_init(void)
{
	struct pci_dev *pdev = pci_get_device(PCI_VENDOR_ID_AMD, 0x14ca, NULL);

	if (!pdev)
		return -ENODEV;
	/* The driver holds the region, and issues no command while no VM and no ioctl wants one. */
	regs = ioremap(pci_resource_start(pdev, 2), pci_resource_len(pdev, 2));
	pci_dev_put(pdev);
	return regs ? 0 : -ENOMEM;
}

void psp_exit(void)
{
	if (regs)
		iounmap(regs);
}

u32 psp_raw(u32 cmd, u64 buf_pa)
{
	u32 v;
	int i;

	iowrite32(lower_32_bits(buf_pa), regs + REG_ADDR_LO);
	iowrite32(upper_32_bits(buf_pa), regs + REG_ADDR_HI);
	iowrite32(cmd << 16, regs + REG_CMDRESP);
	for (i = 0; i < 1000000; i++) {
		v = ioread32(regs + REG_CMDRESP);
		if (v & RESPONSE)
			return v & 0xffff;
		udelay(5);
	}
	check_at(__LINE__, "the security processor answers", false);
	return 0xffffffff;
}

const char *psp_name(u32 cmd)
{
	switch (cmd) {
#define NAME(c) case SEV_CMD_##c: return #c
	NAME(INIT); NAME(SHUTDOWN); NAME(PLATFORM_STATUS); NAME(DF_FLUSH); NAME(DECOMMISSION); NAME(ACTIVATE);
	NAME(DEACTIVATE); NAME(GUEST_STATUS); NAME(LAUNCH_START); NAME(LAUNCH_UPDATE_DATA);
	NAME(LAUNCH_UPDATE_VMSA); NAME(LAUNCH_MEASURE); NAME(LAUNCH_FINISH); NAME(DBG_DECRYPT); NAME(DBG_ENCRYPT);
	NAME(SNP_INIT); NAME(SNP_INIT_EX); NAME(SNP_SHUTDOWN_EX); NAME(SNP_PLATFORM_STATUS); NAME(SNP_DF_FLUSH);
	NAME(SNP_DECOMMISSION); NAME(SNP_ACTIVATE); NAME(SNP_GCTX_CREATE); NAME(SNP_GUEST_REQUEST);
	NAME(SNP_LAUNCH_START); NAME(SNP_LAUNCH_UPDATE); NAME(SNP_LAUNCH_FINISH); NAME(SNP_DBG_DECRYPT);
	NAME(SNP_PAGE_RECLAIM); NAME(SNP_FEATURE_INFO);
#undef NAME
	case SEV_CMD_LAUNCH_UPDATE_SECRET:
		return "LAUNCH_SECRET";
	}
	return "UNKNOWN";
}

/* FW sev_dispatch_master: legacy commands that write their buffer back. */
bool psp_writes_back(u32 cmd)
{
	switch (cmd) {
	case SEV_CMD_PLATFORM_STATUS:
	case SEV_CMD_GUEST_STATUS:
	case SEV_CMD_LAUNCH_START:
	case SEV_CMD_LAUNCH_MEASURE:
		return true;
	}
	return false;
}

/* Part of the protocol, and not in the log: the question for a length, and that to flush first. */
static bool psp_answer(u32 cmd, const void *buf, u32 want)
{
	const struct sev_data_launch_measure *measure = buf;

	return (cmd == SEV_CMD_LAUNCH_MEASURE && want == 4 && !measure->len) ||
	       (cmd == SEV_CMD_SNP_SHUTDOWN_EX && want == 0xf);
}

static u32 psp_run(u32 cmd, void *buf, size_t len)
{
	u64 pa = page_alloc();
	u32 status;

	memcpy(page_va(pa), buf, len);
	if (snp_up && psp_writes_back(cmd))
		assign(pa, 0, 0, true);
	status = psp_raw(cmd, pa);
	memcpy(buf, page_va(pa), len);
	page_free(pa);
	return status;
}

u32 psp_want(u32 cmd, void *buf, size_t len, u32 want)
{
	if (want && !psp_answer(cmd, buf, want))
		announce("psp:%s", psp_name(cmd));
	return psp_run(cmd, buf, len);
}

u32 psp_refuses(u32 cmd, void *buf, size_t len, const char *reason)
{
	announce("%s", reason);
	return psp_run(cmd, buf, len);
}

bool psp_ok(u32 cmd, void *buf, size_t len)
{
	return same_at(__LINE__, psp_name(cmd), psp_want(cmd, buf, len, 0), 0);
}

void wbinvd_all(void)
{
	wbinvd_on_all_cpus();
}

bool df_flush(void)
{
	wbinvd_all();
	return same_at(__LINE__, "SNP_DF_FLUSH", psp_raw(SEV_CMD_SNP_DF_FLUSH, 0), 0);
}

/* ---- SNP guests, as far as the security processor knows them ---- */

bool sguest_create(struct sguest *g)
{
	g->asid = 0;
	g->in_use = false;
	g->gctx = page_alloc();
	return state_make(g->gctx, ST_CONTEXT);
}

bool sguest_start(struct sguest *g, u64 policy)
{
	struct sev_data_snp_launch_start s = {};

	if (!sguest_create(g))
		return false;
	s.gctx_paddr = g->gctx;
	s.policy = policy;
	return psp_ok(SEV_CMD_SNP_LAUNCH_START, &s, sizeof(s));
}

bool sguest_activate(struct sguest *g, u32 asid)
{
	struct sev_data_snp_activate a = { .gctx_paddr = g->gctx, .asid = asid };

	g->asid = asid;
	return psp_ok(SEV_CMD_SNP_ACTIVATE, &a, sizeof(a));
}

bool sguest_finish(struct sguest *g)
{
	struct sev_data_snp_launch_finish f = { .gctx_paddr = g->gctx };

	g->in_use = true;
	return psp_ok(SEV_CMD_SNP_LAUNCH_FINISH, &f, sizeof(f));
}

u32 snp_decommission(u64 gctx)
{
	struct sev_data_snp_addr a = { .address = gctx };

	return psp_want(SEV_CMD_SNP_DECOMMISSION, &a, sizeof(a), 0);
}

void sguest_destroy(struct sguest *g)
{
	if (!g->gctx)
		return;
	same("SNP_DECOMMISSION", snp_decommission(g->gctx), 0);
	page_free(g->gctx);
	g->gctx = 0;
	if (g->in_use)
		df_flush();
}

u32 launch_update(struct sguest *g, u64 pa, int type, bool large, u64 perms, u32 want)
{
	struct sev_data_snp_launch_update u = {
		.gctx_paddr = g->gctx,
		.page_size = large,
		.page_type = type,
		.address = pa,
		.vmpl1_perms = perms & 0xff,
		.vmpl2_perms = perms >> 8 & 0xff,
		.vmpl3_perms = perms >> 16 & 0xff,
	};
	u32 status = psp_want(SEV_CMD_SNP_LAUNCH_UPDATE, &u, sizeof(u), want);

	same_at(__LINE__, "SNP_LAUNCH_UPDATE", status, want);
	return status;
}

u32 snp_reclaim(u64 pa, bool large)
{
	struct sev_data_snp_page_reclaim r = { .paddr = pa | large };

	return psp_want(SEV_CMD_SNP_PAGE_RECLAIM, &r, sizeof(r), 0);
}

bool guest_peek(struct sguest *g, u64 pa, void *buf)
{
	u64 dst = state_page(ST_FIRMWARE);
	struct sev_data_snp_dbg d = { .gctx_paddr = g->gctx, .src_addr = pa, .dst_addr = dst };
	bool ok = psp_ok(SEV_CMD_SNP_DBG_DECRYPT, &d, sizeof(d));

	memcpy(buf, page_va(dst), PAGE_SIZE);
	page_free(dst);
	return ok;
}

int launch_init(void)
{
	df_flush();
	return sguest_start(&launch, POLICY) && sguest_activate(&launch, ASID_LAUNCH) ? 0 : -EIO;
}

void launch_exit(void)
{
	sguest_destroy(&launch);
}
