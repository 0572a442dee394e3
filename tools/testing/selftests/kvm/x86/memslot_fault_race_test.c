// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPUs access a gfn whose memslot is deleted and created again, for which they get MMIO
 * exits while it isn't there.  One vCPU may find no memslot and be overtaken by another
 * one that finds and maps it.  KVM has to get by without a warning, and every access has
 * to end at the memory or at userspace.
 */
#include <pthread.h>

#include <linux/sizes.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#define TEST_GPA	((gpa_t)SZ_4G)
#define TEST_SLOT	10

#define FROM_MEMORY	0xbeef
#define FROM_USERSPACE	0xcafe

#define NR_VCPUS	2
#define NR_RELOADS	150

/* W in Documentation/admin-guide/tainted-kernels.rst */
#define TAINT_WARN	BIT(9)

static bool stop;

static void guest_code(void)
{
	u64 val, from_memory = 0, from_userspace = 0;

	while (!READ_ONCE(stop) || !from_memory || !from_userspace) {
		val = READ_ONCE(*(u64 *)TEST_GPA);
		GUEST_ASSERT(val == FROM_MEMORY || val == FROM_USERSPACE);
		if (val == FROM_MEMORY)
			from_memory++;
		else
			from_userspace++;
	}
	GUEST_DONE();
}

static void *vcpu_thread(void *__vcpu)
{
	struct kvm_vcpu *vcpu = __vcpu;
	struct kvm_run *run = vcpu->run;
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;

		TEST_ASSERT_EQ(run->mmio.phys_addr, TEST_GPA);
		TEST_ASSERT_EQ(run->mmio.is_write, false);
		*(u64 *)run->mmio.data = FROM_USERSPACE;
	}

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected exit, reason %s", exit_reason_str(run->exit_reason));
	}
	return NULL;
}

static unsigned long get_taint(void)
{
	char str[32];
	ssize_t len;
	int fd;

	fd = open("/proc/sys/kernel/tainted", O_RDONLY);
	TEST_ASSERT(fd >= 0, __KVM_SYSCALL_ERROR("open()", fd));
	len = read(fd, str, sizeof(str) - 1);
	TEST_ASSERT(len > 0, __KVM_SYSCALL_ERROR("read()", (int)len));
	close(fd);
	str[len] = '\0';

	return strtoul(str, NULL, 10);
}

int main(void)
{
	unsigned long taint = get_taint();
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS];
	struct kvm_vm *vm;
	int i;

	vm = vm_create_with_vcpus(NR_VCPUS, guest_code, vcpus);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, 1, 0);
	virt_map(vm, TEST_GPA, TEST_GPA, 1);
	*(u64 *)addr_gpa2hva(vm, TEST_GPA) = FROM_MEMORY;

	for (i = 0; i < NR_VCPUS; i++)
		kvm_pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]);

	for (i = 0; i < NR_RELOADS; i++)
		vm_mem_region_reload(vm, TEST_SLOT);

	/* The guest goes on until it has seen both. */
	WRITE_ONCE(*(bool *)addr_gva2hva(vm, (gva_t)&stop), true);
	for (i = 0; i < NR_VCPUS; i++) {
		while (pthread_tryjoin_np(threads[i], NULL))
			vm_mem_region_reload(vm, TEST_SLOT);
	}

	TEST_ASSERT(!(get_taint() & ~taint & TAINT_WARN), "KVM has warned, see the log");

	kvm_vm_free(vm);
	return 0;
}
