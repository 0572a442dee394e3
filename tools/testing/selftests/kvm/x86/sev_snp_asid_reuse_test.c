// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that the memory of an SNP VM is free before its ASID is, also if the file of the
 * guest_memfd is what held the VM last: firmware refuses to activate an ASID as long as
 * any page is assigned to it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <linux/sizes.h>

#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "sev.h"
#include "test_util.h"

#define MEM_GPA		((gpa_t)SZ_4G)
#define MEM_SIZE	((u64)SZ_64K)
#define MEM_SLOT	0

/* SNP VMs have the ASIDs below the first one for SEV VMs without SEV-ES. */
static unsigned int nr_snp_asids(void)
{
	u32 eax, ebx, ecx, edx;

	cpuid(0x8000001f, &eax, &ebx, &ecx, &edx);
	return edx - 1;
}

static struct kvm_vm *start_launch(void)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SNP_VM);

	snp_vm_init(vm);
	snp_vm_launch_start(vm, snp_default_policy());
	return vm;
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm;
	int fd, inode_fd;
	char path[32];
	void *mem;

	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SEV_SNP));
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SNP_VM));

	vm = start_launch();
	fd = vm_create_guest_memfd(vm, MEM_SIZE, 0);
	mem = kvm_mmap(MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	/* Assign the memory to the VM's ASID. */
	vm_set_user_memory_region2(vm, MEM_SLOT, KVM_MEM_GUEST_MEMFD, MEM_GPA, MEM_SIZE,
				   mem, fd, 0);
	vm_mem_set_private(vm, MEM_GPA, MEM_SIZE);
	snp_launch_update_data(vm, MEM_GPA, (u64)mem, MEM_SIZE, KVM_SEV_SNP_PAGE_TYPE_NORMAL);

	/*
	 * O_PATH gives a reference to the inode, but none to the file or the VM.  It
	 * stands for the time that passes between the end of the VM and the eviction of
	 * the inode.
	 */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	inode_fd = open(path, O_PATH);
	TEST_ASSERT(inode_fd >= 0, __KVM_SYSCALL_ERROR("open()", inode_fd));

	kvm_munmap(mem, MEM_SIZE);
	kvm_vm_free(vm);
	kvm_close(fd);

	/*
	 * KVM uses an ASID again once there are no others left, so have it use up those
	 * that are left, and then all of them.
	 */
	for (int i = 0; i < 2 * nr_snp_asids(); i++)
		kvm_vm_free(start_launch());

	kvm_close(inode_fd);
	return 0;
}
