# shellcheck shell=bash
# Mutants: does a test on the emulated SNP host notice each of the mistakes of harness/snp/mutants.patch, and by the emulator's doing?

MUTANTS=$BUILD/mutants
MUTANT_LIST=$HARNESS/tests/x86.mutants.list
MUTANT_PATCH=$HARNESS/snp/mutants.patch
MUTANT_SWITCH=/sys/module/kernel/parameters/gmem_mutant

test_mutants()
{
	local NO_KUNIT=1 lines

	start_results mutants
	use_arch x86
	LISTS=("$MUTANT_LIST")
	lines=$(sed '/^[^#]/!d' "$MUTANT_LIST" | named mutants_)
	[ -n "$lines" ] || return 0
	need "${PACKAGES_VM_SNP[@]}"
	build_qemu snp-host
	prepare_vm_tests
	build_mutants
	ACCEL=("${SNP_ACCEL[@]}")
	suite mutants_none mutants_none
	suite mutants_enforced mutants_enforced
	suite mutants_off mutants_off
}

# The debug kernel once more, with the mutants: from copies of its source and its objects, with the same paths, so that only what
# the patch changes is compiled.
build_mutants()
{
	local tree=$MUTANTS/linux obj=$MUTANTS/debug log=$MUTANTS/debug.log want own=()

	want="$(cat "$BUILD/stamps/kernel-$KARCH-debug") $(hash_stdin < "$MUTANT_PATCH")"
	if stamped mutants "$want" && [ -f "$obj/$IMAGE" ]; then
		say "The kernel with the mutants is built already"
		return
	fi
	unstamp mutants
	rm -rf "$tree"
	mkdir -p "$MUTANTS"
	# patch replaces files, and so leaves what they are linked with alone.
	cp -al "$LINUX" "$tree"
	rm -rf "$tree/.git"
	patch -d "$tree" -p1 -s --no-backup-if-mismatch < "$MUTANT_PATCH" ||
		die "harness/snp/mutants.patch does not apply to the series"
	[ -f "$obj/vmlinux" ] || cp -a "$OUT/debug/." "$obj"
	say "Building the kernel with the mutants (half a minute)"
	[ "$(id -u)" = 0 ] || own=(--map-root-user)
	kernel_env
	# shellcheck disable=SC2016 # the inner shell's
	with_progress "$log" objects 0 '^  (CC|AS|LD|AR)' unshare "${own[@]}" --mount bash -c \
		'mount --bind "$1" "$2" && mount --bind "$3" "$4" && shift 4 && exec "$@"' - "$tree" "$LINUX" "$obj" "$OUT/debug" \
		make -C "$LINUX" O="$OUT/debug" ARCH="$KARCH" CC="$HARNESS/lib/cached gcc" HOSTCC='ccache gcc' CROSS_COMPILE= -j"$JOBS" "${IMAGE##*/}" || {
		log_tail "$log"
		die "the kernel with the mutants does not build; the whole log is $log"
	}
	stamp mutants "$want"
}

# mutant_setting LINE NAME: what the list says
mutant_setting()
{
	tr -s ' \t' '\n' <<< "$1" | sed -n "s/^$2=//p"
}

# boot_mutants DIR OPTIONS NUMBER|'' LINES: runs the programs of LINES in one VM with these machine options, as mutant NUMBER or
# else each as its own. What they say and what the emulator says is in DIR, and so is the summary.
boot_mutants()
{
	local RESULTS=$1 SNP_OPTIONS=$2 SUMMARY=$1/summary.txt SUITE='' SUITE_PREFIX='' FILTER='' LOG_ALLOWED='' line done_mark=''
	local initrd=$OUT/tests.initrd seconds only program SUITE_CASES=() SUITE_BAD=0 SUITE_SKIPPED=0 SUITE_PROGRAM='' SKIPS=() FAILS=()

	mkdir -p "$RESULTS"
	: > "$SUMMARY"
	while read -r line; do
		echo "${line%% -- *} -- $MUTANT_SWITCH=$((10#${3:-${line:1:2}}))"
	done <<< "$4" > "$OUT/tests.list"
	# The log is judged as that of ./gmem test snp is, but no line has to be there.
	while read -r line; do
		only=$(mutant_setting "$line" only)
		program=$(awk '{ print $3 }' <<< "$line")
		[ -n "$only" ] && only="log?=$only" ||
			only=$(awk -v program="$program" '$3 == program' "$HARNESS/tests/x86.snp.list" |
				tr -s ' \t' '\n' | sed -nE 's/^log\??=/log?=/p' | paste -sd' ')
		echo "${line%% *} $only"
	done <<< "$4" > "$OUT/tests.list.log"
	[[ $2 != *x-snp-in-use* ]] || LOG_ALLOWED=$IN_USE_LINE
	cp "$OUT/test.initrd" "$initrd"
	append_file "$initrd" tests.list "$OUT/tests.list"
	seconds=$(awk -v b="$BOOT_SECONDS" '{ s += $2 } END { print b + s + 60 }' "$OUT/tests.list")
	# A kernel that has crashed has said what it had to say.
	start_vm "$MUTANTS/debug/$IMAGE" "$initrd" "$RESULTS" "gmem_mode=test kunit.enable=0 oops=panic"
	watch_vm "$RESULTS" "$seconds"
	read_results > "$RESULTS/output.txt" 2>&1
	wait "$VM" 2>/dev/null || true
	CHILDREN=()
}

# mutant_verdict DIR NAME: pass, fail or none
mutant_verdict()
{
	awk -F'\t' -v s="$2." 'index($2, s) == 1 { n[$1]++ }
		END { print n["fail"] ? "fail" : n["pass"] ? "pass" : "none" }' "$1/summary.txt"
}

# mutant_log DIR NAME REGEX: what the emulator has said while NAME ran
mutant_log()
{
	REGEX=$3 awk -v s="$2" '/^begin / { on = $2 == s; next } on && $0 ~ ENVIRON["REGEX"]' "$1/snp.log"
}

# The kernel of the mutants without a mistake: everything passes, whether the emulator refuses accesses or not.
mutants_none()
{
	local mode dir line name verdict what lines=$lines

	for mode in enforced off; do
		dir=$RESULTS/none-$mode
		what=''
		if [ "$mode" = off ]; then
			what=x-snp-enforce=off
			lines=$(grep -E '[[:space:]]off=pass' <<< "$lines") || return 0
		fi
		boot_mutants "$dir" "$what" 0 "$lines"
		while read -r line; do
			name=${line%% *}
			verdict=$(mutant_verdict "$dir" "$name")
			[ "$verdict" = pass ] || verdict=fail
			add_case "$verdict" "$name.$mode" 0 \
				"$(mutant_log "$dir" "$name" "$(mutant_setting "$line" log)" | wc -l) such lines in the log"
		done <<< "$lines"
	done
}

# Each mistake by itself turns its test red, and the emulator's log says why.
mutants_enforced()
{
	local line name dir first n t0 times

	while read -r line <&7; do
		name=${line%% *}
		dir=$RESULTS/$name
		t0=$SECONDS
		boot_mutants "$dir" "$(mutant_setting "$line" machine)" '' "$line"
		mutant_log "$dir" "$name" "$(mutant_setting "$line" log)" > "$dir/lines.txt"
		n=$(wc -l < "$dir/lines.txt")
		times=$(mutant_setting "$line" times)
		first=$(head -n 1 "$dir/lines.txt" | cut -c1-150)
		if [ "$(mutant_verdict "$dir" "$name")" != fail ]; then
			add_case fail "$name" $((SECONDS - t0)) "no test has noticed it; $n such lines in the log${first:+, first $first}"
		elif [ "$n" -lt "${times:-1}" ]; then
			add_case fail "$name" $((SECONDS - t0)) "a test has failed, but the log has only $n such lines"
		else
			add_case pass "$name" $((SECONDS - t0)) "$n times $first"
			note "$name: noticed, $n times $first"
		fi
	done 7<<< "$lines"
}

# The same where every access is allowed: the tests pass, and so it was the emulator that has noticed. Each in a VM of its own,
# as a mistake leaves pages in a state that nothing expects.
mutants_off()
{
	local dir line name t0

	while read -r line <&7; do
		name=${line%% *}
		case $(mutant_setting "$line" off) in
		pass)
			dir=$RESULTS/$name-off
			t0=$SECONDS
			boot_mutants "$dir" x-snp-enforce=off '' "$line"
			if [ "$(mutant_verdict "$dir" "$name")" = pass ]; then
				add_case pass "$name" $((SECONDS - t0)) ''
			else
				add_case fail "$name" $((SECONDS - t0)) "something else has noticed it"
			fi
			;;
		instruction) add_case skip "$name" 0 "an instruction refuses it, whatever accesses are allowed" ;;
		exit) add_case skip "$name" 0 "the test asks for an exit, and an access that passes does not cause one" ;;
		validated) add_case skip "$name" 0 "the test asks what is validated, and only accesses show that" ;;
		*) add_case skip "$name" 0 "the guest decrypts what was not encrypted, whoever has access" ;;
		esac
	done 7<<< "$lines"
}
