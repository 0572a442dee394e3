// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that the counters of a protected VM are those of the host: userspace may write
 * them, as VMMs do that for every VM, but without any effect, and without a warning.
 */
#include <fcntl.h>
#include <unistd.h>

#include "kvm_util.h"
#include "test_util.h"

#define WARN_COUNT	"/sys/kernel/warn_count"

/* The number of warnings of the kernel so far. */
static unsigned long warnings(void)
{
	unsigned long count = 0;
	FILE *f;

	f = fopen(WARN_COUNT, "r");
	TEST_REQUIRE(f);
	TEST_ASSERT(fscanf(f, "%lu", &count) == 1, "Can't read " WARN_COUNT);
	fclose(f);
	return count;
}

static u64 get_counter(int vcpu_fd, u64 id)
{
	u64 val = 0;
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&val };

	TEST_ASSERT(!ioctl(vcpu_fd, KVM_GET_ONE_REG, &reg), "KVM_GET_ONE_REG: %s",
		    strerror(errno));
	return val;
}

static void test_counter(int vcpu_fd, u64 id)
{
	u64 val, before, after;
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&val };
	unsigned long warned = warnings();
	const u64 far = 1ull << 50;
	int i;

	/* The past and the future. */
	for (i = 0; i < 2; i++) {
		before = get_counter(vcpu_fd, id);
		val = i ? before + far : 0;
		TEST_ASSERT(!ioctl(vcpu_fd, KVM_SET_ONE_REG, &reg), "KVM_SET_ONE_REG: %s",
			    strerror(errno));
		after = get_counter(vcpu_fd, id);
		TEST_ASSERT(after >= before && after < before + far,
			    "Counter was 0x%lx and is 0x%lx", before, after);
	}
	TEST_ASSERT_EQ(warnings(), warned);
}

int main(void)
{
	unsigned long ipa_bits = kvm_check_cap(KVM_CAP_ARM_VM_IPA_SIZE);
	struct kvm_vcpu_init init;
	int kvm_fd, vm_fd, vcpu_fd;

	kvm_fd = open_kvm_dev_path_or_exit();
	vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, KVM_VM_TYPE_ARM_PROTECTED |
		      KVM_VM_TYPE_ARM_IPA_SIZE(min(ipa_bits, 40ul)));
	__TEST_REQUIRE(vm_fd >= 0, "protected VMs need kvm-arm.mode=protected");

	vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	TEST_ASSERT(vcpu_fd >= 0, "KVM_CREATE_VCPU: %s", strerror(errno));
	TEST_ASSERT(!ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init) &&
		    !ioctl(vcpu_fd, KVM_ARM_VCPU_INIT, &init),
		    "KVM_ARM_VCPU_INIT: %s", strerror(errno));

	test_counter(vcpu_fd, KVM_REG_ARM_TIMER_CNT);
	test_counter(vcpu_fd, KVM_REG_ARM_PTIMER_CNT);

	close(vcpu_fd);
	close(vm_fd);
	close(kvm_fd);
	return 0;
}
