// SPDX-License-Identifier: GPL-2.0-only
/*
 * An ASID is free for another VM once no page is assigned to it any more, also
 * if the last reference to its VM is that of a guest_memfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <linux/sizes.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "sev.h"

/* Freeing the file takes a while, and comes to the assigned pages at the end. */
#define FILE_SIZE	((u64)SZ_128M)
#define ASSIGNED_SIZE	((u64)SZ_64K)
#define ASSIGNED_OFFSET	(FILE_SIZE - ASSIGNED_SIZE)

/* More VMs than this are not created to use up the ASIDs. */
#define MAX_VMS		128
#define NR_ROUNDS	3

static int try_init(struct kvm_vm *vm)
{
	struct kvm_sev_init init = {};

	return __vm_sev_ioctl(vm, KVM_SEV_INIT2, &init) ? errno : 0;
}

static int try_launch_start(struct kvm_vm *vm)
{
	struct kvm_sev_snp_launch_start start = {
		.policy = snp_default_policy(),
	};

	return __vm_sev_ioctl(vm, KVM_SEV_SNP_LAUNCH_START, &start);
}

/* Returns the file, whose last pages are assigned to the ASID of @vm. */
static int assign_pages(struct kvm_vm *vm)
{
	void *mem = kvm_mmap(ASSIGNED_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int fd = vm_create_guest_memfd(vm, FILE_SIZE, 0);

	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, FILE_SIZE);
	vm_set_user_memory_region2(vm, 0, KVM_MEM_GUEST_MEMFD, 0, ASSIGNED_SIZE,
				   mem, fd, ASSIGNED_OFFSET);
	vm_mem_set_private(vm, 0, ASSIGNED_SIZE);
	snp_launch_update_data(vm, 0, (u64)mem, ASSIGNED_SIZE,
			       KVM_SEV_SNP_PAGE_TYPE_NORMAL);
	kvm_munmap(mem, ASSIGNED_SIZE);

	return fd;
}

static void *close_fd(void *fd)
{
	kvm_close(*(int *)fd);
	return NULL;
}

int main(int argc, char *argv[])
{
	struct kvm_vm *others[MAX_VMS], *vm, *next;
	pthread_t thread;
	int nr = 0, r, fd, i;

	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SEV_SNP));
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SNP_VM));

	vm = vm_create_barebones_type(KVM_X86_SNP_VM);
	TEST_ASSERT_EQ(try_init(vm), 0);

	/* With one ASID for two VMs, the next one has to be that of the last one. */
	for (;;) {
		__TEST_REQUIRE(nr < MAX_VMS, "There are more than %d ASIDs", MAX_VMS);
		others[nr] = vm_create_barebones_type(KVM_X86_SNP_VM);
		r = try_init(others[nr]);
		if (r)
			break;
		nr++;
	}
	TEST_ASSERT(r == EBUSY, "KVM_SEV_INIT2 failed with errno %d", r);
	next = others[nr];

	r = try_launch_start(vm);
	TEST_ASSERT(!r, "KVM_SEV_SNP_LAUNCH_START failed with %d, errno %d", r, errno);

	for (i = 0; i < NR_ROUNDS; i++) {
		fd = assign_pages(vm);
		TEST_ASSERT_EQ(try_init(next), EBUSY);

		/* From here on, the file is all that the VM lives by. */
		kvm_vm_free(vm);
		kvm_pthread_create(&thread, NULL, close_fd, &fd);
		do {
			r = try_init(next);
		} while (r == EBUSY);
		TEST_ASSERT(!r, "KVM_SEV_INIT2 failed with errno %d", r);

		vm = next;
		r = try_launch_start(vm);
		TEST_ASSERT(!r, "KVM_SEV_SNP_LAUNCH_START with the ASID of a VM that is gone failed with %d, errno %d",
			    r, errno);
		kvm_pthread_join(thread, NULL);
		next = vm_create_barebones_type(KVM_X86_SNP_VM);
	}

	kvm_vm_free(next);
	kvm_vm_free(vm);
	while (nr--)
		kvm_vm_free(others[nr]);

	return 0;
}
