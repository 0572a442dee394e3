// SPDX-License-Identifier: GPL-2.0
/*
 * SEV commands while SNP is initialised.
 */
#include <linux/mm.h>
#include "snp_rows.h"

#define NODBG		BIT(0)
#define ES		BIT(2)

/* Runs the command in a page in that state; *after is the page's entry then. */
static u32 in_page(u32 cmd, void *buf, size_t len, enum state s, u32 want, u64 *after)
{
	u64 pa = page_alloc();
	u32 status;

	memcpy(page_va(pa), buf, len);
	state_make(pa, s);
	if (want)
		announce("psp:%s", psp_name(cmd));
	status = psp_raw(cmd, pa);
	*after = rmp_lo(pa);
	memcpy(buf, page_va(pa), len);
	page_free(pa);
	return status;
}

static u32 platform_state(void)
{
	struct sev_user_data_status s = {};

	psp_ok(SEV_CMD_PLATFORM_STATUS, &s, sizeof(s));
	return s.state;
}

static u32 launch_start(u32 policy)
{
	struct sev_data_launch_start c = { .policy = policy };

	psp_ok(SEV_CMD_LAUNCH_START, &c, sizeof(c));
	return c.handle;
}

static u32 want_activate(u32 h, u32 asid, u32 want)
{
	struct sev_data_activate c = { .handle = h, .asid = asid };

	return psp_want(SEV_CMD_ACTIVATE, &c, sizeof(c), want);
}

static u32 want_deactivate(u32 h, u32 want)
{
	struct sev_data_deactivate c = { .handle = h };

	return psp_want(SEV_CMD_DEACTIVATE, &c, sizeof(c), want);
}

static u32 want_decommission(u32 h, u32 want)
{
	struct sev_data_decommission c = { .handle = h };

	return psp_want(SEV_CMD_DECOMMISSION, &c, sizeof(c), want);
}

static u32 want_data(u32 h, u64 pa, u32 len, u32 want)
{
	struct sev_data_launch_update_data c = { .handle = h, .address = pa, .len = len };

	return psp_want(SEV_CMD_LAUNCH_UPDATE_DATA, &c, sizeof(c), want);
}

static u32 want_vmsa(u32 h, u64 pa, u32 want)
{
	struct sev_data_launch_update_vmsa c = { .handle = h, .address = pa, .len = PAGE_SIZE };

	return psp_want(SEV_CMD_LAUNCH_UPDATE_VMSA, &c, sizeof(c), want);
}

static u32 want_measure(u32 h, u64 pa, u32 *len, u32 want)
{
	struct sev_data_launch_measure c = { .handle = h, .address = pa, .len = *len };
	u32 status = psp_want(SEV_CMD_LAUNCH_MEASURE, &c, sizeof(c), want);

	*len = c.len;
	return status;
}

static u32 want_finish(u32 h, u32 want)
{
	struct sev_data_launch_finish c = { .handle = h };

	return psp_want(SEV_CMD_LAUNCH_FINISH, &c, sizeof(c), want);
}

static u32 want_dbg(u32 cmd, u32 h, u64 src, u64 dst, u32 len, u32 want)
{
	struct sev_data_dbg c = { .handle = h, .src_addr = src, .dst_addr = dst, .len = len };

	return psp_want(cmd, &c, sizeof(c), want);
}

static u32 guest_status(u32 h, u32 *policy, u32 *asid)
{
	struct sev_data_guest_status c = { .handle = h };

	psp_ok(SEV_CMD_GUEST_STATUS, &c, sizeof(c));
	if (policy)
		*policy = c.policy;
	if (asid)
		*asid = c.asid;
	return c.state;
}

static void end(u32 h, bool active)
{
	if (active)
		same("DEACTIVATE", want_deactivate(h, 0), 0);
	same("DECOMMISSION", want_decommission(h, 0), 0);
	df_flush();
}

/* ---- rows ---- */

/* a: state of the command page, b: status */
static void command_page(const struct row *r)
{
	struct sev_user_data_status s = {};
	u64 after;

	same("status", in_page(SEV_CMD_PLATFORM_STATUS, &s, sizeof(s), r->a, r->b, &after), r->b);
	if (!r->b) {
		same("page afterwards", after, LO_ASSIGNED);
		same("API major", s.api_major, 1);
	} else {
		same("API major", s.api_major, 0);
	}
}

/* A command that fails: the page becomes Reclaim all the same. */
static void command_page_failure(const struct row *r)
{
	struct sev_data_launch_measure c = { .handle = 0x7777, .len = 0x30 };
	u64 after;
	u32 h = launch_start(0);

	same("status", in_page(SEV_CMD_LAUNCH_MEASURE, &c, sizeof(c), ST_FIRMWARE, 0x10, &after), 0x10);
	same("page afterwards", after, LO_ASSIGNED);
	end(h, false);
}

/* One that writes nothing back works from the hypervisor's page, which stays. */
static void command_page_plain(const struct row *r)
{
	struct sev_data_decommission c = { .handle = launch_start(0) };
	u64 after;

	same("status", in_page(SEV_CMD_DECOMMISSION, &c, sizeof(c), ST_HV, 0, &after), 0);
	same("page afterwards", after, 0);
	df_flush();
}

static void working(const struct row *r)
{
	u32 h, h2;

	same("state before", platform_state(), 1);
	h = launch_start(0);
	same("state", platform_state(), 2);
	check(h >= 1);
	h2 = launch_start(0);
	check(h2 >= 1 && h2 != h);
	want_decommission(h, 0);
	same("state with one guest", platform_state(), 2);
	want_decommission(h2, 0);
	same("state at the end", platform_state(), 1);
}

/* a: command; without any guest */
static void not_working(const struct row *r)
{
	u8 buf[64] = {};

	same("status", psp_want(r->a, buf, sizeof(buf), 1), 1);
}

/* a: command; with a guest, but another handle */
static void bad_handle(const struct row *r)
{
	u32 h = launch_start(0);
	struct { u32 handle; u8 rest[60]; } buf = { .handle = 0x7777 };

	same("status", psp_want(r->a, &buf, sizeof(buf), 0x10), 0x10);
	end(h, false);
}

static void status_bad_handle(const struct row *r)
{
	same("state", guest_status(0x7777, NULL, NULL), 0);
}

/* a: policy, b: asid, c: status */
static void activate(const struct row *r)
{
	u32 h = launch_start(r->a);

	same("status", want_activate(h, r->b, r->c), r->c);
	end(h, !r->c);
}

static void activate_owned(const struct row *r)
{
	u32 h = launch_start(0), h2 = launch_start(0);

	same("status of the first", want_activate(h, ASID_SEV, 0), 0);
	same("status", want_activate(h2, ASID_SEV, 0xc), 0xc);
	want_deactivate(h, 0);
	want_decommission(h, 0);
	end(h2, false);
}

static void activate_twice(const struct row *r)
{
	u32 h = launch_start(0);

	want_activate(h, ASID_SEV, 0);
	same("status", want_activate(h, ASID_SEV + 1, 0x12), 0x12);
	end(h, true);
}

static void deactivate_inactive(const struct row *r)
{
	u32 h = launch_start(0);

	same("status", want_deactivate(h, 8), 8);
	end(h, false);
}

static void decommission_active(const struct row *r)
{
	u32 h = launch_start(0);

	want_activate(h, ASID_SEV, 0);
	same("status", want_decommission(h, 0x12), 0x12);
	end(h, true);
}

/* a: offset, b: length, c: status, d: state of the page */
static void update_data(const struct row *r)
{
	u32 h = launch_start(0);
	u64 pa = page_alloc();

	memset(page_va(pa), 0x5c, PAGE_SIZE);
	want_activate(h, ASID_SEV, 0);
	state_make(pa, r->d);
	same("status", want_data(h, pa + r->a, r->b, r->c), r->c);
	if (r->c)
		check(!memchr_inv(page_va(pa), 0x5c, PAGE_SIZE));
	else
		check(memchr_inv(page_va(pa) + r->a, 0x5c, r->b));
	page_free(pa);
	end(h, true);
}

static void update_data_inactive(const struct row *r)
{
	u32 h = launch_start(0);
	u64 pa = state_page(ST_FIRMWARE);

	same("status", want_data(h, pa, PAGE_SIZE, 8), 8);
	page_free(pa);
	end(h, false);
}

static void update_vmsa(const struct row *r)
{
	u32 h = launch_start(r->a);
	u64 pa = state_page(ST_FIRMWARE);

	want_activate(h, r->a & ES ? ASID_OTHER : ASID_SEV, 0);
	same("status", want_vmsa(h, pa, r->b), r->b);
	page_free(pa);
	end(h, true);
}

static void states(const struct row *r)
{
	u32 h = launch_start(NODBG), policy, asid, len = 0x30;
	u64 pa = state_page(ST_FIRMWARE), m = state_page(ST_FIRMWARE);

	same("LUPDATE", guest_status(h, &policy, &asid), 1);
	same("policy", policy, NODBG);
	same("asid", asid, 0);
	same("LAUNCH_FINISH before LAUNCH_MEASURE", want_finish(h, 2), 2);
	want_activate(h, ASID_SEV, 0);
	same("LAUNCH_UPDATE_DATA", want_data(h, pa, PAGE_SIZE, 0), 0);
	same("LAUNCH_MEASURE", want_measure(h, m, &len, 0), 0);
	same("LSECRET", guest_status(h, NULL, &asid), 2);
	same("asid", asid, ASID_SEV);
	same("LAUNCH_UPDATE_DATA after LAUNCH_MEASURE", want_data(h, pa, PAGE_SIZE, 2), 2);
	same("LAUNCH_FINISH", want_finish(h, 0), 0);
	same("RUNNING", guest_status(h, NULL, NULL), 3);
	same("LAUNCH_FINISH again", want_finish(h, 2), 2);
	page_free(pa);
	page_free(m);
	end(h, true);
}

/* With a session, the guest's owner would have keys that the platform does not have. */
static void session(const struct row *r)
{
	u64 pa = page_alloc();
	struct sev_data_launch_start c = { .session_address = pa, .session_len = 0x80 };

	same("status", psp_refuses(SEV_CMD_LAUNCH_START, &c, sizeof(c), "a session needs the platform's certificates"),
	     0x15);
	same("handle", c.handle, 0);
	page_free(pa);
}

/* a: state, 1 before LAUNCH_MEASURE; b: status */
static void secret(const struct row *r)
{
	u32 h = launch_start(0), len = 0x30, status;
	u64 pa = page_alloc(), m = state_page(ST_FIRMWARE);
	struct sev_data_launch_secret c = {
		.handle = h, .hdr_address = pa, .hdr_len = 52, .guest_address = pa + 0x100, .guest_len = 16,
		.trans_address = pa + 0x200, .trans_len = 16,
	};

	want_activate(h, ASID_SEV, 0);
	if (r->a == 2)
		want_measure(h, m, &len, 0);
	if (r->a == 2)
		status = psp_refuses(SEV_CMD_LAUNCH_UPDATE_SECRET, &c, sizeof(c), "launch secrets are not emulated");
	else
		status = psp_want(SEV_CMD_LAUNCH_UPDATE_SECRET, &c, sizeof(c), r->b);
	same("status", status, r->b);
	check(!memchr_inv(page_va(pa), 0, PAGE_SIZE));
	same("state", guest_status(h, NULL, NULL), r->a);
	page_free(pa);
	page_free(m);
	end(h, true);
}

static void measure_short(const struct row *r)
{
	u32 h = launch_start(0), len = r->a;
	u64 pa = state_page(ST_FIRMWARE);

	want_activate(h, ASID_SEV, 0);
	same("status", want_measure(h, pa, &len, 4), 4);
	same("length", len, 0x30);
	same("state", guest_status(h, NULL, NULL), 1);
	page_free(pa);
	end(h, true);
}

static void measure_to_hypervisor(const struct row *r)
{
	u32 h = launch_start(0), len = 0x30;
	u64 pa = page_alloc();

	want_activate(h, ASID_SEV, 0);
	same("status", want_measure(h, pa, &len, 0x1a), 0x1a);
	page_free(pa);
	end(h, true);
}

/* a: policy, b: offset of the source, c: length, d: status; with the destination in Firmware */
static void dbg(const struct row *r)
{
	u32 h = launch_start(r->a);
	u64 src = state_page(ST_FIRMWARE), dst = state_page(ST_FIRMWARE);

	want_activate(h, ASID_SEV, 0);
	same("status", want_dbg(SEV_CMD_DBG_DECRYPT, h, src + r->b, dst, r->c, r->d), r->d);
	same("destination", rmp_lo(dst), LO_ASSIGNED | LO_IMMUTABLE | LO_LOCK);
	page_free(src);
	page_free(dst);
	end(h, true);
}

static void dbg_to_hypervisor(const struct row *r)
{
	u32 h = launch_start(0);
	u64 src = page_alloc(), dst = page_alloc();

	want_activate(h, ASID_SEV, 0);
	same("status", want_dbg(SEV_CMD_DBG_DECRYPT, h, src, dst, 64, 0x1a), 0x1a);
	page_free(src);
	page_free(dst);
	end(h, true);
}

static void dbg_inactive(const struct row *r)
{
	u32 h = launch_start(0);
	u64 src = page_alloc(), dst = state_page(ST_FIRMWARE);

	same("status", want_dbg(SEV_CMD_DBG_DECRYPT, h, src, dst, 64, 8), 8);
	page_free(src);
	page_free(dst);
	end(h, false);
}

/* What was launched is decrypted; what was encrypted, too. */
static void dbg_round_trip(const struct row *r)
{
	u32 h = launch_start(0);
	u64 data = page_alloc(), out = state_page(ST_FIRMWARE), in = page_alloc();

	memset(page_va(data), 0x17, PAGE_SIZE);
	memset(page_va(in), 0x18, PAGE_SIZE);
	want_activate(h, ASID_SEV, 0);
	state_make(data, ST_FIRMWARE);
	want_data(h, data, PAGE_SIZE, 0);
	page_reset(data);
	check(memchr_inv(page_va(data), 0x17, PAGE_SIZE));
	same("DBG_DECRYPT", want_dbg(SEV_CMD_DBG_DECRYPT, h, data, out, PAGE_SIZE, 0), 0);
	check(!memchr_inv(page_va(out), 0x17, PAGE_SIZE));
	state_make(data, ST_FIRMWARE);
	same("DBG_ENCRYPT", want_dbg(SEV_CMD_DBG_ENCRYPT, h, in, data, PAGE_SIZE, 0), 0);
	page_reset(data);
	same("DBG_DECRYPT", want_dbg(SEV_CMD_DBG_DECRYPT, h, data, out, PAGE_SIZE, 0), 0);
	check(!memchr_inv(page_va(out), 0x18, PAGE_SIZE));
	page_free(data);
	page_free(in);
	page_free(out);
	end(h, true);
}

/* ASIDs: from the launch on, an ASID that has been active in a finished guest is dirty. */
static void asid_dirty(const struct row *r)
{
	u32 h = launch_start(0), len = 0x30;
	u64 m = state_page(ST_FIRMWARE);

	want_activate(h, ASID_SEV, 0);
	want_measure(h, m, &len, 0);
	want_finish(h, 0);
	want_deactivate(h, 0);
	want_decommission(h, 0);
	h = launch_start(0);
	same("status", want_activate(h, ASID_SEV, 0xf), 0xf);
	announce("psp:DF_FLUSH");
	same("DF_FLUSH without WBINVD", psp_raw(SEV_CMD_DF_FLUSH, 0), 0xe);
	df_flush();
	same("status after DF_FLUSH", want_activate(h, ASID_SEV, 0), 0);
	page_free(m);
	end(h, true);
}

static int init(void)
{
	return df_flush() ? 0 : -EIO;
}

#define D	"FW sev_dispatch_master"
#define S	"FW sev_mcmd_"

static const struct row rows[] = {
	{ "sev.command_page_firmware", D, command_page, ST_FIRMWARE, 0 },
	{ "sev.command_page_hypervisor", D, command_page, ST_HV, 0x5a },
	{ "sev.command_page_reclaim", D, command_page, ST_RECLAIM, 0x5a },
	{ "sev.command_page_after_failure", D, command_page_failure },
	{ "sev.command_page_no_output", D, command_page_plain },
	{ "sev.init_and_working", S "launch_start", working },
	{ "sev.activate_not_working", S "activate", not_working, SEV_CMD_ACTIVATE },
	{ "sev.deactivate_not_working", S "deactivate", not_working, SEV_CMD_DEACTIVATE },
	{ "sev.update_data_not_working", S "launch_update_data", not_working, SEV_CMD_LAUNCH_UPDATE_DATA },
	{ "sev.update_vmsa_not_working", S "launch_update_vmsa", not_working, SEV_CMD_LAUNCH_UPDATE_VMSA },
	{ "sev.measure_not_working", S "launch_measure", not_working, SEV_CMD_LAUNCH_MEASURE },
	{ "sev.finish_not_working", S "launch_finish", not_working, SEV_CMD_LAUNCH_FINISH },
	{ "sev.dbg_decrypt_not_working", S "dbg_decrypt", not_working, SEV_CMD_DBG_DECRYPT },
	{ "sev.activate_bad_handle", S "activate", bad_handle, SEV_CMD_ACTIVATE },
	{ "sev.deactivate_bad_handle", S "deactivate", bad_handle, SEV_CMD_DEACTIVATE },
	{ "sev.decommission_bad_handle", S "decommission", bad_handle, SEV_CMD_DECOMMISSION },
	{ "sev.finish_bad_handle", S "launch_finish", bad_handle, SEV_CMD_LAUNCH_FINISH },
	{ "sev.guest_status_bad_handle", S "guest_status", status_bad_handle },
	{ "sev.activate", S "activate", activate, 0, MIN_SEV_ASID, 0 },
	{ "sev.activate_highest", S "activate", activate, 0, MAX_ASID, 0 },
	{ "sev.activate_0", S "activate", activate, 0, 0, 0xd },
	{ "sev.activate_out_of_range", S "activate", activate, 0, MAX_ASID + 1, 0xd },
	{ "sev.activate_es_asid", "FW sev_es_validate_asid", activate, 0, MIN_SEV_ASID - 1, 0xd },
	{ "sev.activate_es", "FW sev_es_validate_asid", activate, ES, ASID_OTHER, 0 },
	{ "sev.activate_es_sev_asid", "FW sev_es_validate_asid", activate, ES, MIN_SEV_ASID, 0xd },
	{ "sev.activate_owned", "FW activate_common", activate_owned },
	{ "sev.activate_twice", "FW activate_common", activate_twice },
	{ "sev.asid_dirty", "FW activate_common; FW mcmd_df_flush_common", asid_dirty },
	{ "sev.deactivate_inactive", S "deactivate", deactivate_inactive },
	{ "sev.decommission_active", S "decommission", decommission_active },
	{ "sev.update_data", S "launch_update_data", update_data, 0, PAGE_SIZE, 0, ST_FIRMWARE },
	{ "sev.update_data_part", S "launch_update_data", update_data, 0x100, 0x200, 0, ST_FIRMWARE },
	{ "sev.update_data_misaligned", S "launch_update_data", update_data, 8, 16, 9, ST_FIRMWARE },
	{ "sev.update_data_length_0", S "launch_update_data", update_data, 0, 0, 4, ST_FIRMWARE },
	{ "sev.update_data_length_odd", S "launch_update_data", update_data, 0, 24, 4, ST_FIRMWARE },
	{ "sev.update_data_hypervisor", S "launch_update_data", update_data, 0, PAGE_SIZE, 0x1a, ST_HV },
	{ "sev.update_data_reclaim", S "launch_update_data", update_data, 0, PAGE_SIZE, 0x1a, ST_RECLAIM },
	{ "sev.update_data_inactive", S "launch_update_data", update_data_inactive },
	{ "sev.update_vmsa_without_es", S "launch_update_vmsa", update_vmsa, 0, 0x15 },
	{ "sev.update_vmsa_es", S "launch_update_vmsa", update_vmsa, ES, 0 },
	{ "sev.guest_states", S "launch_*", states },
	{ "sev.session", "not emulated", session },
	{ "sev.secret_before_measure", S "launch_secret", secret, 1, 2 },
	{ "sev.secret", "not emulated", secret, 2, 0xb },
	{ "sev.measure_short", S "launch_measure", measure_short, 0x10 },
	{ "sev.measure_length_0", S "launch_measure", measure_short, 0 },
	{ "sev.measure_to_hypervisor", S "launch_measure", measure_to_hypervisor },
	{ "sev.dbg_decrypt", S "dbg_decrypt", dbg, 0, 0, 64, 0 },
	{ "sev.dbg_decrypt_misaligned", S "dbg_decrypt", dbg, 0, 4, 64, 9 },
	{ "sev.dbg_decrypt_length", S "dbg_decrypt", dbg, 0, 0, 15, 4 },
	{ "sev.dbg_decrypt_nodbg", S "dbg_decrypt", dbg, NODBG, 0, 64, 7 },
	{ "sev.dbg_decrypt_to_hypervisor", S "dbg_decrypt", dbg_to_hypervisor },
	{ "sev.dbg_decrypt_inactive", S "dbg_decrypt", dbg_inactive },
	{ "sev.dbg_round_trip", S "dbg_decrypt; APM 15.34.1", dbg_round_trip },
};

const struct group group_legacy = { "sev", rows, ARRAY_SIZE(rows), init, NULL };
