# shellcheck shell=bash
# Kernels, selftests and the VM's own programs. All objects lie under build/x86 and build/arm64.

# use_arch x86|arm64: what is built and booted from here on.
use_arch()
{
	KARCH=$1
	OUT=$BUILD/$KARCH
	KVM_TESTS=$OUT/selftests/kselftest/kvm
	BASE_TESTS=$OUT/selftests-base/kselftest/kvm
	# The numbers are for the progress only: how many lines the logs of full builds had.
	case $KARCH in
	x86)
		IMAGE=arch/x86/boot/bzImage
		KERNEL_OBJECTS=1880 SELFTEST_OBJECTS=260
		ARCH_PACKAGES_BUILD=() ARCH_PACKAGES_VM=("${PACKAGES_VM_X86[@]}")
		;;
	arm64)
		IMAGE=arch/arm64/boot/Image
		KERNEL_OBJECTS=1700 SELFTEST_OBJECTS=140
		ARCH_PACKAGES_BUILD=("${PACKAGES_CROSS[@]}") ARCH_PACKAGES_VM=("${PACKAGES_VM_ARM64[@]}")
		;;
	esac
}

# The prefix of the cross tools, if any.
cross()
{
	[ "$KARCH" = x86 ] || echo aarch64-linux-gnu-
}

# The same input must give the same kernel, and the same ccache keys.
kernel_env()
{
	# Kbuild has the compiler write down what it included, so that ccache need not preprocess each file for itself:
	# a third less time with an empty cache.
	export CCACHE_DIR=$BUILD/ccache CCACHE_MAXSIZE=5G CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
	export KBUILD_BUILD_TIMESTAMP='2026-01-01' KBUILD_BUILD_USER=gmem KBUILD_BUILD_HOST=gmem
}

kmake()
{
	local cross

	cross=$(cross)
	make -C "$1" O="$2" ARCH="$KARCH" CROSS_COMPILE="$cross" CC="$HARNESS/lib/cached ${cross}gcc" HOSTCC='ccache gcc' "${@:3}"
}

# What the stack's tree holds now, committed or not, as one hash.
tree_state()
{
	{
		git -C "$STACK_TREE" rev-parse 'HEAD^{tree}'
		git -C "$STACK_TREE" diff HEAD
		git -C "$STACK_TREE" ls-files -o --exclude-standard -z | (cd "$STACK_TREE" && xargs -0r sha256sum)
		"$(cross)gcc" --version
	} | hash_stdin
}

# configure SOURCE OBJ FRAGMENT...: writes OBJ/.config from the tree's own tinyconfig and the fragments, and
# fails if Kconfig drops any line of theirs. With LENIENT set, options that SOURCE does not know at all (yet)
# are let pass.
configure()
{
	local src=$1 obj=$2 line name lost=() tiny

	shift 2
	mkdir -p "$obj"
	for tiny in "$src"/kernel/configs/tiny{-base,}.config "$src/arch/$KARCH/configs/tiny.config"; do
		[ ! -f "$tiny" ] || cat "$tiny"
	done > "$obj/wanted.config.new"
	cat "$@" >> "$obj/wanted.config.new"
	# A fresh .config makes everything look old to make; leave a good one alone.
	if [ -f "$obj/.config" ] && cmp -s "$obj/wanted.config.new" "$obj/wanted.config" &&
	   [ "$(cat "$obj/.config.made" 2>/dev/null)" = "$(kconfig_hash "$src")" ]; then
		rm "$obj/wanted.config.new"
		return
	fi
	rm -f "$obj/.config.made"
	mv "$obj/wanted.config.new" "$obj/wanted.config"
	cp -p "$obj/.config" "$obj/.config.before" 2>/dev/null || true
	kmake "$src" "$obj" -s KCONFIG_ALLCONFIG="$obj/wanted.config" allnoconfig > "$obj/config.log" 2>&1 || {
		tail -n 20 "$obj/config.log" >&2
		die "the kernel could not be configured"
	}
	# Later fragments win over earlier ones: look at the last word on each option only.
	while read -r line; do
		name=${line#\# }
		name=${name%%[= ]*}
		case $line in
		"# CONFIG_"*) ! grep -q "^$name=" "$obj/.config" || lost+=("$line") ;;
		*)
			grep -qxF "$line" "$obj/.config" && continue
			[ -n "${LENIENT:-}" ] && ! knows_option "$src" "${name#CONFIG_}" || lost+=("$line")
			;;
		esac
	done < <(cat "$@" | grep -E '^(CONFIG_[A-Z0-9_]+=|# CONFIG_[A-Z0-9_]+ is not set)' |
		awk '{ n = $0; sub(/^# /, "", n); sub(/[= ].*/, "", n); last[n] = $0 } END { for (n in last) print last[n] }')
	[ ${#lost[@]} -eq 0 ] ||
		die "the kernel's Kconfig did not accept these lines of harness/config:" "${lost[@]}"
	if cmp -s "$obj/.config" "$obj/.config.before"; then
		mv "$obj/.config.before" "$obj/.config"
	fi
	kconfig_hash "$src" > "$obj/.config.made"
}

knows_option()
{
	git -C "$1" grep -qE "^[[:space:]]*(menu)?config $2\$" -- '*Kconfig*'
}

kconfig_hash()
{
	git -C "$1" ls-files -z -- '*Kconfig*' | (cd "$1" && xargs -0 cat) | hash_stdin
}

log_tail()
{
	grep -nE 'error|Error|ERROR|undefined|warning:' "$1" | head -n 30 >&2 || true
	tail -n 15 "$1" >&2
}

# build_kernel debug|fast
build_kernel()
{
	local kind=$1 obj=$OUT/$1 log=$OUT/$1.log frags=() frag want total=$KERNEL_OBJECTS targets=("${IMAGE##*/}")

	need "${PACKAGES_BUILD[@]}" "${ARCH_PACKAGES_BUILD[@]}"
	kernel_env
	for frag in common "$KARCH" "$kind" "$kind-$KARCH"; do
		[ ! -f "$HARNESS/config/$frag.config" ] || frags+=("$HARNESS/config/$frag.config")
	done
	# What a module of our own is linked with comes from the target "modules", even where the kernel has none.
	! grep -qx CONFIG_MODULES=y "${frags[@]}" || targets+=(modules)
	want="$(tree_state) $(cat "${frags[@]}" | hash_stdin)"
	if stamped "kernel-$KARCH-$kind" "$want" && [ -f "$obj/$IMAGE" ]; then
		say "The $KARCH $kind kernel is built already"
		return
	fi
	unstamp "kernel-$KARCH-$kind"
	configure "$LINUX" "$obj" "${frags[@]}"
	say "Building the $KARCH $kind kernel (from nothing: 10 to 20 minutes on 2 cores; after a change, much less)"
	[ ! -f "$obj/vmlinux" ] || total=0
	with_progress "$log" objects "$total" '^  (CC|AS|LD|AR|HOSTCC|GEN|UPD)' \
		kmake "$LINUX" "$obj" -j"$JOBS" "${targets[@]}" || {
		log_tail "$log"
		die "the $KARCH $kind kernel does not build; the whole log is $log"
	}
	if grep -q 'warning:' "$log"; then
		grep 'warning:' "$log" >&2
		die "the $KARCH $kind kernel builds with warnings"
	fi
	stamp "kernel-$KARCH-$kind" "$want"
}

# The test module for the emulated SNP host, made for the debug kernel.
build_module()
{
	local out=$OUT/modules log=$OUT/modules.log want

	want="$(cat "$BUILD/stamps/kernel-$KARCH-debug") $(cd "$HARNESS/snp" && find . -type f -print0 | sort -z | xargs -0 sha256sum | hash_stdin)"
	if stamped "modules-$KARCH" "$want" && [ -d "$out" ]; then
		return
	fi
	unstamp "modules-$KARCH"
	rm -rf "$out"
	say "Building the test module for the SNP host"
	kmake "$LINUX" "$OUT/debug" -j"$JOBS" M="$HARNESS/snp" MO="$out" modules > "$log" 2>&1 < /dev/null || {
		log_tail "$log"
		die "the module in harness/snp does not build; the whole log is $log"
	}
	if grep -q 'warning:' "$log"; then
		grep 'warning:' "$log" >&2
		die "the module in harness/snp builds with warnings"
	fi
	stamp "modules-$KARCH" "$want"
}

# The uAPI headers, for the selftests and for the demonstration.
build_headers()
{
	local obj=$OUT/selftests log=$OUT/headers.log

	mkdir -p "$obj"
	kmake "$LINUX" "$obj" -s -j"$JOBS" headers > "$log" 2>&1 || {
		log_tail "$log"
		die "the kernel's headers cannot be exported; the log is $log"
	}
}

# make_selftests SOURCE OBJ [VARIABLE...], whose headers are exported. FORCE_TARGETS: fail if anything cannot be built, instead
# of leaving it out.
make_selftests()
{
	local cross

	cross=$(cross)
	make -C "$1/tools/testing/selftests" TARGETS=kvm O="$2" FORCE_TARGETS=1 ARCH="$KARCH" CROSS_COMPILE="$cross" \
		CC="ccache ${cross}gcc" USERLDFLAGS=-static -j"$JOBS" "${@:3}"
}

# build_selftests [PROGRAM...]: these, or all.
build_selftests()
{
	local obj=$OUT/selftests log=$OUT/selftests.log want what=${*:-all} before total=$SELFTEST_OBJECTS only=()

	need "${PACKAGES_BUILD[@]}" "${ARCH_PACKAGES_BUILD[@]}"
	kernel_env
	want=$(tree_state)
	if [ -d "$obj/kselftest/kvm" ] && { stamped "selftests-$KARCH" "$want all" || stamped "selftests-$KARCH" "$want $what"; }; then
		say "The $KARCH selftests are built already"
		return
	fi
	unstamp "selftests-$KARCH"
	if [ $# -gt 0 ]; then
		in_makefile "$LINUX" "$@"
		only=("TEST_GEN_PROGS_$KARCH=$*" "TEST_GEN_PROGS_EXTENDED_$KARCH=")
		total=$((2 * $# + 45))
		say "Building $# KVM selftests for $KARCH (from nothing: a minute)"
	else
		say "Building the KVM selftests for $KARCH (from nothing: two to three minutes)"
	fi
	before=$(git -C "$LINUX" status --porcelain)
	build_headers
	[ ! -f "$obj/kselftest/kvm/guest_memfd_test" ] || total=0
	with_progress "$log" objects "$total" ' -o [^ ]*/kselftest/kvm/[^ ]+' \
		make_selftests "$LINUX" "$obj" "${only[@]}" || {
		log_tail "$log"
		die "the selftests do not build; the whole log is $log"
	}
	# Some of the selftests' Makefiles write next to the sources. That must not get into a commit.
	[ "$(git -C "$LINUX" status --porcelain)" = "$before" ] ||
		die "building the selftests has left files in $LINUX; see git status there"
	stamp "selftests-$KARCH" "$want $what"
}

# in_makefile SOURCE PROGRAM...: the selftests' Makefile names them for this architecture.
in_makefile()
{
	local makefile=$1/$SELFTESTS/Makefile.kvm prog

	shift
	for prog in "$@"; do
		grep -qE "^TEST_GEN_PROGS(_EXTENDED)?_(COMMON|$KARCH) .*= *$prog\$" "$makefile" ||
			die "the test lists name $prog, but $makefile does not"
	done
}

# What the tests need of the series' own selftests: those that run, and those that it changes or adds, run or not.
own_programs()
{
	local prog

	{
		programs test "$HARNESS/tests/$KARCH".*list | grep -vE '^base/|\.ko$'
		lgit diff --no-renames --name-only --diff-filter=AM base -- "$SELFTESTS/*.c" |
			sed -nE "s,^$SELFTESTS/(($KARCH/)?[^/]+)\.c\$,\1,p" | while read -r prog; do
				if (in_makefile "$LINUX" "$prog") 2>/dev/null; then
					echo "$prog"
				fi
			done
	} | sort -u
}

# program_origins: what the series does to each program of this architecture's lists: "new", "changed" or "same" and its
# name. What counts is the program's own source: its .c, its architecture's .c if it is split in two, and headers that lie
# beside these. The library does not count: the base's programs are linked with the base's.
program_origins()
{
	{
		lgit ls-tree -r --name-only base -- "$SELFTESTS" | sed 's/^/base /'
		lgit diff --no-renames --name-only base -- "$SELFTESTS" | sed 's/^/differs /'
		lgit grep -E '^#include "' base -- "$SELFTESTS/*.c" |
			sed -E 's/^base:([^:]*\/)([^:]*):#include "([^"]*)".*/includes \1\2 \1\3/'
		listed_programs | sed 's/^/program /'
	} | awk -v dir="$SELFTESTS" -v arch="$KARCH" '
		$1 == "base" { base[$2] }
		$1 == "differs" { differs[$2] }
		$1 == "includes" { includes[$2] = includes[$2] " " $3 }
		$1 == "program" {
			origin = "new"
			for (n = split(dir "/" $2 ".c " dir "/" arch "/" $2 ".c", own); n > 0; n--) {
				if (!(own[n] in base))
					continue
				if (origin == "new")
					origin = "same"
				for (m = split(own[n] includes[own[n]], file); m > 0; m--)
					if (file[m] in differs)
						origin = "changed"
			}
			print origin, $2
		}'
}
SELFTESTS=tools/testing/selftests/kvm

# Whatever this architecture's lists name, in any version.
listed_programs()
{
	sed -e 's/^long[[:space:]]*//' -e '/^#/d' "$HARNESS/tests/$KARCH".*list | awk 'NF > 2 { print $3 }' | sort -u
}

# The base's own selftests, those that are listed, from its sources and with its uAPI headers.
build_base_selftests()
{
	local obj=$OUT/selftests-base log=$OUT/selftests-base.log want progs

	need "${PACKAGES_BUILD[@]}" "${ARCH_PACKAGES_BUILD[@]}"
	kernel_env
	mapfile -t progs < <(sed -n 's/^\(same\|changed\) //p' "$OUT/origins")
	want="$(lgit rev-parse 'base^{tree}') $({ printf '%s\n' "${progs[@]}"; "$(cross)gcc" --version; } | hash_stdin)"
	if stamped "selftests-base-$KARCH" "$want" && [ -d "$BASE_TESTS" ]; then
		say "The $KARCH selftests of the base are built already"
		return
	fi
	unstamp "selftests-base-$KARCH"
	say "Building ${#progs[@]} of the base's own KVM selftests for $KARCH (from nothing: a minute or two)"
	unpack_base
	in_makefile "$BASE" "${progs[@]}"
	rm -rf "$obj"
	mkdir -p "$obj"
	with_progress "$log" objects $((2 * ${#progs[@]} + 45)) ' -o [^ ]*/kselftest/kvm/[^ ]+' build_base_programs "$obj" "${progs[@]}" || {
		log_tail "$log"
		die "the base's selftests do not build; the whole log is $log"
	}
	stamp "selftests-base-$KARCH" "$want"
}

build_base_programs()
{
	local obj=$1

	shift
	kmake "$BASE" "$obj" -s -j"$JOBS" headers &&
		make_selftests "$BASE" "$obj" "TEST_GEN_PROGS_$KARCH=$*" "TEST_GEN_PROGS_EXTENDED_$KARCH="
}

# As much of the base as its selftests need; libvfio, which some of them are linked with, wants the headers of the
# devices that it has drivers for.
unpack_base()
{
	local want

	want=$(lgit rev-parse 'base^{tree}')
	! stamped base "$want" || [ ! -d "$BASE" ] || return 0
	rm -rf "$BASE"
	mkdir -p "$BASE"
	lgit archive base Makefile Kbuild include scripts usr tools arch/x86 arch/arm64 drivers/dma drivers/net/ethernet/intel \
		':!arch/arm64/boot' ':!tools/perf' ':!tools/testing/selftests/bpf' ':!tools/testing/selftests/net' |
		tar -x -C "$BASE" || die "the base's selftests could not be unpacked"
	stamp base "$want"
}
BASE=$BUILD/base

# cc_static SOURCE OUTPUT [FLAG...]: one of our own programs for the VM.
cc_static()
{
	"$(cross)gcc" -static -O2 -g -std=gnu11 -Wall -Wextra -Werror "${@:3}" -o "$2.tmp" "$1" && mv "$2.tmp" "$2"
}
