# shellcheck shell=bash
# The virtual machine: what goes into its initramfs, how it is started and watched.

BOOT_SECONDS=240	# the debug kernel takes 15 s here; a machine may be slow, but not that slow
SILENCE_SECONDS=120	# init says something every 10 s
TEST_MEMORY=4G
TEST_MEMORY_ARM64=3G
TEST_CPUS=2

# initrd OUTPUT MODE: everything but the list of tests.
make_initrd()
{
	local out=$1 mode=$2 work=$OUT/initrd spec prog built base

	mkdir -p "$work/bin"
	spec=$work/$mode.spec
	cc_static "$HARNESS/init.c" "$work/init" || die "harness/init.c does not compile"
	[ "$work/gen_init_cpio" -nt "$LINUX/usr/gen_init_cpio.c" ] ||
		gcc -O2 -o "$work/gen_init_cpio" "$LINUX/usr/gen_init_cpio.c"
	{
		for base in proc sys dev tmp root bin tests "tests/$KARCH" tests/base "tests/base/$KARCH"; do
			echo "dir /$base 0755 0 0"
		done
		echo "nod /dev/console 0600 0 0 c 5 1"
		echo "file /init $work/init 0755 0 0"
		case $mode in
		run)
			echo "file /demo $OUT/demo 0755 0 0"
			;;
		test|shell)
			while read -r prog; do
				base=$work/bin/${prog//\//__}
				case $prog in
				base/*) built=$BASE_TESTS/${prog#base/} ;;
				*.ko) built=$OUT/modules/$prog base=$OUT/modules/$prog ;;
				*) built=$KVM_TESTS/$prog ;;
				esac
				[ -f "$built" ] ||
					die "the test list names $prog, but the selftests have no such program"
				[ "$base" = "$built" ] || [ "$base" -nt "$built" ] || "$(cross)strip" -o "$base" "$built"
				echo "file /tests/$prog $base 0755 0 0"
			done < <(programs "$mode" "${LISTS[@]}")
			;;
		esac
		[ "$mode" != shell ] || echo "file /bin/busybox $(command -v busybox) 0755 0 0"
	} > "$spec"
	"$work/gen_init_cpio" "$spec" > "$out.tmp" || die "the initramfs cannot be written"
	mv "$out.tmp" "$out"
}

# programs MODE LIST...: what of these test lists is to run; a shell gets all that were built.
programs()
{
	local mode=$1 list

	shift
	if [ "$mode" = shell ]; then
		(cd "$KVM_TESTS" && find . -type f -perm -100 ! -name '*.o' ! -name '*.so' | sed 's,^\./,,' | sort)
	else
		for list in "$@"; do
			expand_tests "$list"
		done | awk '{ print $3 }' | sort -u
	fi
}

# append_file INITRD NAME FILE: one more file; the kernel unpacks archives that follow each other.
append_file()
{
	local spec=$OUT/initrd/append.spec pad

	# Each archive starts at a multiple of 4 bytes, which gen_init_cpio takes care of (512).
	echo "file /$2 $3 0644 0 0" > "$spec"
	pad=$(($(stat -c %s "$1") % 4))
	[ $pad -eq 0 ] || die "the initramfs has an odd size"
	"$OUT/initrd/gen_init_cpio" "$spec" >> "$1"
}

# Without la57: identify_cpu() forgets for a moment that the kernel runs on five-level page tables, and an
# interrupt in that moment makes KASAN report its own per-CPU data, about once in ten boots.
TCG=(-accel "tcg,thread=multi" -cpu "max,la57=off")

# A processor without VHE: on any that has it, the kernel chooses hVHE for pKVM, and QEMU before 8.2 does not flush
# the TLB of that mode, so that EL2 scrubs the wrong pages. Its IPA space is small, too, and all of it is walked
# whenever a protected VM is closed.
ARM64_NVHE_CPU=cortex-a72
# For what has nothing to do with pKVM. The largest IPA space that "max" has makes every VM take seconds.
ARM64_VHE_CPU=neoverse-n1
ARM64_CPU=$ARM64_NVHE_CPU

# accel: KVM if this machine can run nested guests, software emulation otherwise. Sets ACCEL.
choose_accel()
{
	local m

	ACCEL=("${TCG[@]}")
	ACCEL_NAME='software emulation'
	[ -r /dev/kvm ] && [ -w /dev/kvm ] || return 0
	for m in kvm_amd kvm_intel; do
		case $(cat "/sys/module/$m/parameters/nested" 2>/dev/null) in
		1|Y|y)
			ACCEL=(-accel kvm -cpu host)
			ACCEL_NAME='KVM with nested virtualization'
			;;
		esac
	done
}

# An emulated host with SEV-SNP: EMULATOR, QEMU with the patches of harness/qemu/snp-host, whose log counts. Empty: Debian's QEMU.
EMULATOR=''
SNP_ACCEL=(-accel "tcg,thread=multi" -cpu "EPYC-Milan,-hypervisor,+svm,+npt,check=off")
# More machine options for it: GMEM_SNP=x-snp-enforce=off has every access allowed.
SNP_OPTIONS=${GMEM_SNP:-}

# x86_machine DIR: sets MACHINE.
x86_machine()
{
	MACHINE=("${EMULATOR:-qemu-system-x86_64}" "${ACCEL[@]}" -m "$TEST_MEMORY")
	if [ -z "$EMULATOR" ]; then
		MACHINE+=(-machine q35)
		return
	fi
	# Debian's firmware, as QEMU's source comes without. The log goes to stderr, and what is written to port 0xe9 goes to the
	# same file: both append and neither buffers, so that the order is that of the events.
	# "edu" does DMA when harness/snp tells it to, and nothing otherwise.
	MACHINE+=(-L /usr/share/seabios -L /usr/share/qemu -machine "q35,x-snp-host=on${SNP_OPTIONS:+,$SNP_OPTIONS}"
		-device "amd-iommu,intremap=on,x-snp=on" -device amd-psp -device "edu,dma_mask=0xffffffffffffffff" -d guest_errors
		-chardev "file,id=log,path=$1/snp.log,append=on" -device "isa-debugcon,iobase=0xe9,chardev=log")
}

# start_vm KERNEL INITRD DIR APPEND: in the background; sets VM and VM_DIR.
start_vm()
{
	local kernel=$1 initrd=$2 dir=$3 append=$4 machine=() errors=$3/qemu.log MACHINE

	VM_DIR=$dir
	mkdir -p "$dir"
	rm -f "$dir/console.log" "$dir/raw.log" "$dir/output.txt" "$dir/snp.log"
	: > "$dir/raw.log"
	: > "$dir/qemu.log"
	case $KARCH in
	x86)
		x86_machine "$dir"
		machine=("${MACHINE[@]}" -serial "file:$dir/console.log" -serial "file:$dir/raw.log")
		append="console=ttyS0 earlyprintk=serial tsc=reliable gmem_port=ttyS1 $append"
		if [ -n "$EMULATOR" ]; then
			errors=$dir/snp.log
			append+=" gmem_log=0xe9"
		fi
		;;
	arm64)
		machine=(qemu-system-aarch64 -accel "tcg,thread=multi" -machine "virt,virtualization=on,gic-version=3"
			-cpu "$ARM64_CPU" -m "$TEST_MEMORY_ARM64" -net none
			-serial "file:$dir/console.log" -chardev "file,id=raw,path=$dir/raw.log" -device "pci-serial,chardev=raw")
		append="console=ttyAMA0 earlycon=pl011,0x9000000 gmem_port=ttyS0 $append"
		;;
	esac
	set -m
	"${machine[@]}" -smp "$TEST_CPUS" -nodefaults -display none -monitor none -no-reboot \
		-kernel "$kernel" -initrd "$initrd" \
		-append "panic=-1 page_poison=1 numa=fake=2 null_blk.nr_devices=0 $append" \
		< /dev/null >> "$dir/qemu.log" 2>> "$errors" 9>&- &
	VM=$!
	set +m
	CHILDREN+=("$VM")
}

# booted_what_was_built DIR KERNEL: whether the banner on the console has the number that the last link of this kernel was given.
booted_what_was_built()
{
	local version

	version=$(sed -n 's/^#define UTS_VERSION "\(#[0-9]* .*\)"$/\1/p' "$OUT/$2/include/generated/utsversion.h")
	[ -n "$version" ] && grep -aF 'Linux version ' "$1/console.log" | grep -qF -e "$version"
}

stop_vm()
{
	kill "$VM" 2>/dev/null
	wait "$VM" 2>/dev/null
	CHILDREN=()
}

# Reads one line of the VM's second port into LINE; fails when the VM is gone and all is read.
# Sets IDLE to the seconds without a line.
next_line()
{
	local part rc

	while :; do
		part=''
		IFS= read -r -t 1 -u 8 part && rc=0 || rc=$?
		LINE=$PARTIAL$part
		if [ $rc -eq 0 ]; then
			PARTIAL=''
			LAST_LINE=$SECONDS
			LINE=${LINE%$'\r'}
			return 0
		fi
		PARTIAL=$LINE
		[ $rc -gt 128 ] || return 1
		if [ $((SECONDS - LAST_LINE)) -ge "$SILENCE_LIMIT" ]; then
			HUNG="the VM has said nothing for $SILENCE_LIMIT s"
			stop_vm
		elif [ $SECONDS -ge "$VM_DEADLINE" ]; then
			HUNG="the VM has used up its time"
			stop_vm
		fi
	done
}

watch_vm()
{
	PARTIAL='' LAST_LINE=$SECONDS HUNG='' SILENCE_LIMIT=$BOOT_SECONDS VM_DEADLINE=$((SECONDS + $2))
	exec 8< <(exec tail -n +1 -s 0.2 -f --pid="$VM" "$1/raw.log" 9>&-)
}

# run_program RESULTS KERNEL SECONDS TEXT SOURCE...: builds a program of harness/vmm and a kernel, fast or debug, for the
# architecture in use, and runs the one in the other.
run_program()
{
	local dir=$BUILD/results/$1 kernel=$2 seconds=$3 what=$4 status='' append='gmem_mode=run' src

	shift 4
	src=("${@/#/$HARNESS/vmm/}")
	need "${ARCH_PACKAGES_VM[@]}"
	prepare_tree
	build_kernel "$kernel"
	build_headers
	cc_static "${src[0]}" "$OUT/demo" -isystem "$OUT/selftests/usr/include" -pthread "${src[@]:1}" ||
		die "${src[0]} does not compile"
	make_initrd "$OUT/demo.initrd" run
	say "Starting the VM ($ACCEL_NAME; $what)"
	[ "$KARCH" = x86 ] || append+=' kvm-arm.mode=protected'
	[ "$kernel" != debug ] || append+=' kunit.enable=0'
	start_vm "$OUT/$kernel/$IMAGE" "$OUT/demo.initrd" "$dir" "$append"
	watch_vm "$dir" "$seconds"
	while next_line; do
		SILENCE_LIMIT=300
		case $LINE in
		Z$'\t'*) status=${LINE#Z?} ;;
		*) printf '%s\n' "$LINE" | tee -a "$dir/output.txt" ;;
		esac
	done
	wait "$VM" 2>/dev/null || true
	CHILDREN=()
	scan_console "$dir" > "$dir/reports.txt"
	if [ -z "$status" ]; then
		tail -n 30 "$dir/console.log" >&2
		die "the VM stopped before the program was over${HUNG:+: $HUNG}; its console is in $dir/console.log"
	fi
	if [ -s "$dir/reports.txt" ]; then
		cat "$dir/reports.txt" >&2
		die "the kernel reported a problem; its console is in $dir/console.log"
	fi
	booted_what_was_built "$dir" "$kernel" || die "the kernel that ran is not the one that was built"
	[ "$KARCH" = x86 ] || grep -q 'Protected nVHE mode initialized' "$dir/console.log" ||
		die "the VM's kernel has not enabled pKVM; its console is in $dir/console.log"
	[ -z "$EMULATOR" ] || grep -q "$SNP_ENABLED" "$dir/console.log" ||
		die "the VM's kernel has not enabled SEV-SNP; its console is in $dir/console.log"
	[ "$status" = 0 ] || die "the program failed (exit status $status)"
	[ -n "$EMULATOR" ] || return 0
	check_log '' '' '' < "$dir/snp.log" > "$dir/log.check"
	if [ -s "$dir/log.check" ]; then
		cat "$dir/log.check" >&2
		die "the emulator's log is not what the program announced; it is $dir/snp.log"
	fi
}

# run_demo x86|snp|arm64
run_demo()
{
	local what="the demonstration takes a minute or two"

	case $1 in
	x86)
		use_arch x86
		choose_accel
		run_program run fast 900 "$what" gmem-vmm.c demo.c
		;;
	snp)
		# On the kernel that the tests use: it has what shows physical memory and the RMP, /dev/mem and MSRs.
		use_arch x86
		need "${PACKAGES_VM_SNP[@]}"
		build_qemu snp-host
		ACCEL=("${SNP_ACCEL[@]}")
		ACCEL_NAME='an emulated host with SEV-SNP'
		run_program run-snp debug 900 "$what" gmem-vmm-snp.c demo.c
		;;
	arm64)
		use_arch arm64
		ACCEL_NAME='software emulation'
		run_program run-arm64 fast 900 "$what" gmem-vmm-arm64.c demo.c
		;;
	esac
}

# With one processor and a counter that counts instructions, the numbers do not depend on the machine.
run_bench()
{
	ACCEL=(-accel "tcg,thread=single" -icount "shift=0,sleep=off" -cpu "max,la57=off")
	ACCEL_NAME='software emulation, counting instructions'
	TEST_CPUS=1
	use_arch x86
	run_program bench fast 1800 "the measurements take a few minutes" gmem-bench.c
}

run_shell()
{
	use_arch x86
	need "${ARCH_PACKAGES_VM[@]}" "${PACKAGES_SHELL[@]}"
	[ -t 0 ] || die "a shell needs a terminal"
	prepare_tree
	build_kernel debug
	build_selftests
	make_initrd "$OUT/shell.initrd" shell
	choose_accel
	say "Starting the VM ($ACCEL_NAME). 'exit' or Ctrl-A X ends it; the selftests are in /tests"
	qemu-system-x86_64 "${ACCEL[@]}" -machine q35 -smp 2 -m "$TEST_MEMORY" -nodefaults -display none -no-reboot \
		-serial mon:stdio -kernel "$OUT/debug/$IMAGE" -initrd "$OUT/shell.initrd" \
		-append "console=ttyS0 panic=-1 tsc=reliable numa=fake=2 page_poison=1 null_blk.nr_devices=0 gmem_mode=shell"
}
