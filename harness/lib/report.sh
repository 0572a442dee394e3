# shellcheck shell=bash
# Results: from what the VM says to KTAP files, a summary and something to read.

# What a kernel says when something is wrong with it.
KERNEL_TROUBLE='WARNING:|BUG:|BUG |Oops|Kernel panic|KASAN|KCSAN|UBSAN|KFENCE|Call [Tt]race|page allocation failure|hyp panic|stack backtrace|general protection|unable to handle|suspicious RCU usage|possible circular|possible recursive|possible irq|inconsistent lock|lock held when returning|locks? (still )?held|INFO: .*(deadlock|blocked for|stall|lock)|rcu: INFO|sleeping function called|scheduling while atomic|list_(add|del) corruption|bad page|Bad page|refcount_t|soft lockup|hard LOCKUP|hung task|kernel NULL pointer|page_poison|pagealloc: memory corruption|Out of memory|oom-kill|nobody cared|segfault in kernel|double fault|unchecked MSR|INTERNAL ERROR|Bad rss-counter|non-zero pgtables_bytes|workqueue lockup'

# scan_console DIR: lines of trouble on the console, each with the test that was running, as
# "test<TAB>line".
scan_console()
{
	sed 's/\r$//' "$1/console.log" 2>/dev/null | awk -v trouble="$KERNEL_TROUBLE" '
		BEGIN { test = "boot" }
		/gmem: now running / { test = $0; sub(/.*gmem: now running /, "", test); next }
		$0 ~ trouble && !/[Cc]ommand line:|Unknown kernel command line|page_poison=1/ {
			sub(/^\[ *[0-9.]+\](\[[^]]*\])? */, ""); print test "\t" $0
		}'
}

# start_results TARGET: an empty place for them. The old ones go away only now.
start_results()
{
	RESULTS=$BUILD/results/$1
	rm -rf "$RESULTS"
	mkdir -p "$RESULTS"
	SUMMARY=$RESULTS/summary.txt
	: > "$SUMMARY"
	SUITE=''
}

wanted_case()
{
	case ${FILTER:-} in
	'') return 0 ;;
	*) case $1 in *"$FILTER"*) return 0 ;; *) return 1 ;; esac ;;
	esac
}

begin_suite()
{
	SUITE=$1 SUITE_PROGRAM=''
	SUITE_CASES=() SUITE_BAD=0 SUITE_SKIPPED=0
	: > "$RESULTS/$SUITE.out"
}

# add_case VERDICT CASE SECONDS REASON
add_case()
{
	local n

	wanted_case "$SUITE.$2" || return 0
	printf '%s\t%s\t%s\n' "$1" "$SUITE.$2" "$3" >> "$SUMMARY"
	n=$((${#SUITE_CASES[@]} + 1))
	case $1 in
	pass) SUITE_CASES+=("ok $n $2${4:+ # $4}") ;;
	skip)
		SUITE_CASES+=("ok $n $2 # SKIP $4")
		SUITE_SKIPPED=$((SUITE_SKIPPED + 1))
		SKIPS+=("$2: ${4:-no reason given}")
		;;
	*)
		SUITE_CASES+=("not ok $n $2${4:+ # $4}")
		SUITE_BAD=$((SUITE_BAD + 1))
		FAILS+=("$2${4:+: $4}")
		;;
	esac
}

# end_suite SECONDS: writes the KTAP file and says how it went.
end_suite()
{
	local n=${#SUITE_CASES[@]} f=$RESULTS/$SUITE.ktap line colour=$GREEN text

	if [ "$n" -gt 0 ]; then
		{
			echo "KTAP version 1"
			echo "# suite $SUITE, $1 seconds${SUITE_PROGRAM:+, program $SUITE_PROGRAM}"
			echo "1..$n"
			sed 's/^/# /' "$RESULTS/$SUITE.out"
			printf '%s\n' "${SUITE_CASES[@]}"
		} > "$f"
		text="$((n - SUITE_BAD - SUITE_SKIPPED)) passed"
		if [ "$SUITE_SKIPPED" -gt 0 ]; then
			text+=", $SUITE_SKIPPED skipped"
			colour=$YELLOW
		fi
		if [ "$SUITE_BAD" -gt 0 ]; then
			text+=", $SUITE_BAD FAILED"
			colour=$RED
		fi
		[ "${SUITE_PROGRAM#base/}" = "$SUITE_PROGRAM" ] || text+="  (the base's)"
		printf '%s[%s]%s %s%-44s%s %8.1f s  %s\n' "$BOLD" "$(clock $((SECONDS - STARTED)))" "$PLAIN" \
			"$colour" "$SUITE" "$PLAIN" "$1" "$text"
		for line in "${SKIPS[@]}"; do
			printf '          %sskip%s %s\n' "$YELLOW" "$PLAIN" "$line"
		done
		for line in "${FAILS[@]}"; do
			printf '          %sFAIL%s %s\n' "$RED" "$PLAIN" "$line"
		done
		if [ "$SUITE_BAD" -gt 0 ] && [ -s "$RESULTS/$SUITE.out" ]; then
			tail -n 40 "$RESULTS/$SUITE.out" | sed 's/^/          | /'
		fi
	fi
	rm -f "$RESULTS/$SUITE.out"
	SUITE='' SKIPS=() FAILS=()
}
SKIPS=() FAILS=() SUITE_PREFIX=''

# closing SUMMARY...: the last line. Fails if anything did, or if nothing passed.
closing()
{
	[ -z "${FILTER:-}" ] || cat "$@" 2>/dev/null | grep -q . || note "no case that has run has '$FILTER' in its name, which is SUITE.CASE"
	cat "$@" 2>/dev/null | awk -F'\t' '
		{ n[$1]++ }
		END {
			printf "%d passed, %d failed, %d skipped\n", n["pass"], n["fail"], n["skip"]
			exit n["fail"] > 0 || n["pass"] == 0
		}'
}

# The lists in harness/tests hold programs. Which of them run, and in whose version, follows from the target and from what the
# series changes: expand_tests LIST prints it, a line a suite, in the lists' own format, and what program_origins says has to be
# in $OUT/origins. The base's programs are in the folder "base" in the VM. So:
#
#	all	what the series leaves alone is run in the base's version, compiled from the base and linked with its library, and
#		what it changes or adds in its own; what it changes in the base's version as well, as suite compat_..., unless
#		the line says base=no
#	long	the same for the lines that start with "long"; and of the others, what the series leaves alone in its own version,
#		that is with the library that it does change
expand_tests()
{
	awk -v long="${LONG:-0}" '
		NR == FNR { origin[$2] = $1; next }
		/^#/ { next }
		{ only_long = sub(/^long[ \t]+/, ""); base = !sub(/[ \t]+base=no$/, "") }
		NF < 3 || only_long > long { next }
		long > only_long {
			if (origin[$3] == "same")
				print
			next
		}
		origin[$3] != "same"
		origin[$3] == "changed" && !base { next }
		origin[$3] == "changed" { $1 = "compat_" $1 }
		origin[$3] != "new" { $3 = "base/" $3; print }' "$OUT/origins" "$1"
}

# list_prefix LIST: suites of ARCH.MODE.list are called MODE_...
list_prefix()
{
	local name=${1##*/}

	name=${name%.list}
	case $name in
	*.*) echo "${name#*.}_" ;;
	esac
}

# named PREFIX: of the lines of a list, those whose suites FILTER names, or whose cases.
named()
{
	awk -v prefix="$1" -v f="${FILTER:-}" '
		f == "" || index(prefix $1, f) || index(f, $1 ".") == 1 || index(f, prefix $1 ".") == 1'
}

# Whether FILTER names any suite of the lists, whether it is run now or not.
named_in()
{
	local list

	for list in "$@"; do
		sed -e 's/^long[[:space:]]*//' -e '/^[^#]/!d' -e 'p; s/^/compat_/' "$list" | named "$(list_prefix "$list")"
	done | grep -q .
}

# select_tests LIST OUTPUT: the lines that are to run, for init. What they say about the emulator's log is in OUTPUT.log.
select_tests()
{
	expand_tests "$1" | named "$(list_prefix "$1")" > "$2"
	# The name of a case that no suite's name gives away, in none of the lists: it may be anywhere.
	[ -s "$2" ] || [[ ${FILTER:-} == *kunit* ]] || named_in "$HARNESS"/tests/*.list || expand_tests "$1" > "$2"
	[ -s "$2" ] || [ -n "${LONG:-}" ] || ! sed -n 's/^long[[:space:]]*//p' "$1" | named "$(list_prefix "$1")" | grep -q . ||
		note "$FILTER is in $(basename "$1"), but for ./gmem test long only"
	cp "$2" "$2.log"
	sed -Ei 's/[[:space:]]log\??=[^[:space:]]*//g' "$2"
}

# Nothing is built for tests of another part.
named_elsewhere()
{
	[ -n "${FILTER:-}" ] && ! named_in "${LISTS[@]}" || return 1
	! names_kunit || return 1
	[[ $FILTER == *kunit* ]] || named_in "$HARNESS"/tests/*.list
}

# FILTER is for KUnit's suites, which are called kunit_... on x86 and protected_kunit_... on arm64; and the kernel has KUnit.
names_kunit()
{
	[ -z "$NO_KUNIT" ] || return 1
	case ${FILTER:-}:$KARCH in
	kunit*|protected_kunit*:arm64) grep -qx CONFIG_KUNIT=y "$HARNESS/config/debug-$KARCH.config" ;;
	*) return 1 ;;
	esac
}

test_x86()
{
	start_results x86
	run_x86
}

test_snp()
{
	start_results snp
	run_snp
}

test_arm64()
{
	start_results arm64
	run_arm64
}

# What says nothing about guest_memfd and takes minutes, and what the series does not change, with the series' library.
test_long()
{
	local LONG=1

	start_results long
	run_x86
	run_arm64
}

run_x86()
{
	use_arch x86
	LISTS=("$HARNESS/tests/x86.list")
	! named_elsewhere || return 0
	prepare_vm_tests
	ACCEL=("${TCG[@]}")
	boot_tests '' x86.list ''
}

# Once with pKVM, and twice without, where nothing must have changed. KUnit's suites, if there are any, are for pKVM.
run_arm64()
{
	use_arch arm64
	LISTS=("$HARNESS"/tests/arm64.*list)
	! named_elsewhere || return 0
	prepare_vm_tests
	boot_tests protected arm64.protected.list kvm-arm.mode=protected 'Protected nVHE mode initialized'
	boot_tests nvhe arm64.nvhe.list 'kvm-arm.mode=nvhe kunit.enable=0' ': Hyp nVHE mode initialized'
	ARM64_CPU=$ARM64_VHE_CPU
	boot_tests vhe arm64.vhe.list kunit.enable=0 ': VHE mode initialized'
	ARM64_CPU=$ARM64_NVHE_CPU
}

# The emulated SNP host: as it is, and with RMP instructions that often say "in use", as they do on hardware, so that the
# kernel's loops around them turn.
run_snp()
{
	local NO_KUNIT=1

	use_arch x86
	LISTS=("$HARNESS"/tests/x86.{snp,inuse}.list)
	! named_elsewhere || return 0
	need "${PACKAGES_VM_SNP[@]}"
	build_qemu snp-host
	prepare_vm_tests
	ACCEL=("${SNP_ACCEL[@]}")
	boot_tests snp x86.snp.list kunit.enable=0 "$SNP_ENABLED"
	SNP_OPTIONS=${SNP_OPTIONS:+$SNP_OPTIONS,}x-snp-in-use=$IN_USE
	LOG_ALLOWED=$IN_USE_LINE
	boot_tests inuse x86.inuse.list kunit.enable=0 "$SNP_ENABLED"
}
SNP_ENABLED='SEV-SNP enabled'
IN_USE=5
IN_USE_LINE=injected
LOG_ALLOWED=''
# Which lists a part's programs are in, and whether they are all that it runs.
LISTS=() NO_KUNIT=''

prepare_vm_tests()
{
	need "${ARCH_PACKAGES_VM[@]}"
	build_vm_tests
	make_initrd "$OUT/test.initrd" test
}

# build_vm_tests: the kernel and the programs of LISTS.
build_vm_tests()
{
	local progs

	prepare_tree
	mkdir -p "$OUT"
	program_origins > "$OUT/origins"
	build_kernel debug
	if programs test "${LISTS[@]}" | grep -q '\.ko$'; then
		build_module
	fi
	mapfile -t progs < <(own_programs)
	build_selftests "${progs[@]}"
	build_base_selftests
}

# boot_tests MODE LIST APPEND [EXPECT]: boots the debug kernel for the programs of LIST. MODE is part of the suites'
# names, if there are several. EXPECT has to be on the console, so that it is known what was tested.
boot_tests()
{
	local mode=$1 list=$HARNESS/tests/$2 append=$3 expect=${4:-} dir=$RESULTS${1:+/$1} initrd=$OUT/tests.initrd
	local limit n base done_mark='' troubled=''

	SUITE_PREFIX=${mode:+${mode}_}
	select_tests "$list" "$OUT/tests.list"
	n=$(wc -l < "$OUT/tests.list")
	if [ "$n" -eq 0 ] && [ -n "$mode" ]; then
		names_kunit && [[ $append != *kunit.enable=0* ]] || return 0
	fi
	cp "$OUT/test.initrd" "$initrd"
	append_file "$initrd" tests.list "$OUT/tests.list"
	limit=$(awk -v b="$BOOT_SECONDS" '{ s += $2 } END { print b + s + 60 }' "$OUT/tests.list")
	[ "$limit" -le 2700 ] || limit=2700
	base=$(awk '$3 ~ "^base/"' "$OUT/tests.list" | wc -l)
	say "Starting the VM: $KARCH debug kernel${mode:+, $mode}, $n test programs, $base of them the base's (all of them: a few minutes)"
	start_vm "$OUT/debug/$IMAGE" "$initrd" "$dir" "gmem_mode=test $append"
	cp "$OUT/tests.list" "$dir/programs.txt"
	watch_vm "$dir" "$limit"
	read_results
	wait "$VM" 2>/dev/null || true
	CHILDREN=()

	begin_suite "${SUITE_PREFIX}kernel"
	if [ -n "$done_mark" ] && [ -z "$HUNG" ]; then
		[ -n "${FILTER:-}" ] || add_case pass end 0 ''
	else
		unfiltered add_case fail end 0 "${HUNG:-the VM stopped before the end}, while running ${RUNNING:-its boot}"
		tail -n 30 "$dir/console.log" > "$RESULTS/$SUITE.out" 2>/dev/null || true
	fi
	scan_console "$dir" > "$dir/reports.txt"
	if [ -s "$dir/reports.txt" ]; then
		troubled=$(awk -F'\t' '{ print $1 }' "$dir/reports.txt" | uniq | head -n 5 | paste -sd, | sed 's/,/, /g')
		unfiltered add_case fail report 0 "while running $troubled: $(head -n 1 "$dir/reports.txt" | cut -f2 | cut -c1-160)"
		head -n 40 "$dir/reports.txt" >> "$RESULTS/$SUITE.out"
	elif [ -z "${FILTER:-}" ]; then
		add_case pass report 0 ''
	fi
	if ! booted_what_was_built "$dir" debug; then
		unfiltered add_case fail image 0 "the kernel that ran is not the one that was built"
	elif [ -z "${FILTER:-}" ]; then
		add_case pass image 0 ''
	fi
	if [ -n "$EMULATOR" ]; then
		log_case ''
	fi
	if [ -n "$expect" ] && ! grep -qF "$expect" "$dir/console.log"; then
		unfiltered add_case fail mode 0 "the console does not say '$expect'"
		[ -z "$EMULATOR" ] || grep -aE 'SEV|SNP|ccp|AMD-Vi' "$dir/console.log" >> "$RESULTS/$SUITE.out" || true
	elif [ -n "$expect" ] && [ -z "${FILTER:-}" ]; then
		add_case pass mode 0 ''
	fi
	end_suite 0
}

# A dead or complaining kernel counts, whatever was asked for with -k.
unfiltered()
{
	local FILTER=''

	"$@"
}

# log_case SUITE: whether the emulator's log holds what was announced while SUITE ran, and nothing else; for '', the time when
# none did.
log_case()
{
	local out=$VM_DIR/log.check first

	check_log "$1" "$(suite_log_patterns "$1")" "$LOG_ALLOWED" < "$VM_DIR/snp.log" > "$out"
	if [ -s "$out" ]; then
		first=$(head -n 1 "$out" | cut -c1-200)
		sed 's/^/the log of the emulator: /' "$out" >> "$RESULTS/$SUITE.out"
		unfiltered add_case fail log 0 "$first"
	else
		add_case pass log 0 ''
	fi
	rm -f "$out"
}

# suite_log_patterns SUITE: what its line in the list says, "log=..." and "log?=...".
suite_log_patterns()
{
	awk -v suite="$1" '$1 == suite { for (i = 2; i <= NF; i++) if ($i ~ /^log\??=/) print $i; exit }' "$OUT/tests.list.log"
}

# check_log SUITE PATTERNS ALLOWED: reads the emulator's log and prints what is wrong with it. Init and tests write to it as well:
#
#	begin SUITE, end SUITE	what is between them belongs to this suite
#	expect: TEXT		one later line of the suite has TEXT in it
#
# PATTERNS, for programs that cannot announce: regular expressions for lines, log=REGEX if there has to be one at least, log?=REGEX if
# there may be. ALLOWED is the same as the latter, for the whole machine.
check_log()
{
	LOG_SUITE=$1 LOG_PATTERNS=$2 LOG_ALLOWED=$3 awk '
		BEGIN {
			suite = ENVIRON["LOG_SUITE"]
			allowed = ENVIRON["LOG_ALLOWED"]
			n = split(ENVIRON["LOG_PATTERNS"], pattern, "\n")
			for (i = 1; i <= n; i++)
				if (sub(/^log=/, "", pattern[i]))
					wanted[i]
				else
					sub(/^log\?=/, "", pattern[i])
		}
		# The guest writes its lines byte by byte; a line of QEMU, which is written at once, may lie in between.
		{
			line = held $0
			held = ""
			if ((at = index(line, "snp: cpu")) > 1) {
				held = substr(line, 1, at - 1)
				line = substr(line, at)
			}
		}
		line ~ /^begin / { now = substr(line, 7); next }
		line ~ /^end / { now = ""; next }
		now != suite || line == "" { next }
		line ~ /^expect: / { expected[++announced] = substr(line, 9); next }
		{
			for (i = 1; i <= announced; i++)
				if (i in expected && index(line, expected[i])) {
					delete expected[i]
					next
				}
			for (i = 1; i <= n; i++)
				if (line ~ pattern[i]) {
					delete wanted[i]
					next
				}
			if (allowed != "" && line ~ allowed)
				next
			print "not announced: " line
		}
		END {
			if (held != "")
				print "cut off: " held
			for (i = 1; i <= announced; i++)
				if (i in expected)
					print "announced, but not there: " expected[i]
			for (i = 1; i <= n; i++)
				if (i in wanted)
					print "no line matches: " pattern[i]
		}'
}

# Reads what init says until the VM is gone.
read_results()
{
	local word a b c d told=$SECONDS

	RUNNING=''
	while next_line; do
		word=${LINE%%$'\t'*}
		[ "$word" = O ] || IFS=$'\t' read -r word a b c d <<< "$LINE"
		case $word in
		O)
			[ -z "$SUITE" ] || printf '%s\n' "${LINE#O?}" >> "$RESULTS/$SUITE.out"
			;;
		S)
			SILENCE_LIMIT=$SILENCE_SECONDS
			RUNNING=$a
			told=$SECONDS
			begin_suite "$SUITE_PREFIX$a"
			SUITE_PROGRAM=$(awk -v suite="$a" '$1 == suite { print $3; exit }' "$OUT/tests.list")
			;;
		C)
			[ -z "$SUITE" ] || add_case "$a" "$b" "$c" "$d"
			;;
		E)
			[ -z "$SUITE" ] || {
				[ -z "$EMULATOR" ] || log_case "$a"
				end_suite "$b"
			}
			;;
		H)
			if [ $((SECONDS - told)) -ge 30 ]; then
				told=$SECONDS
				note "still running $RUNNING"
			fi
			;;
		N)
			note "$a"
			;;
		Z)
			done_mark=1
			RUNNING=''
			;;
		esac
	done
	# A suite that the VM's death cut short.
	if [ -n "$SUITE" ]; then
		unfiltered add_case fail cut-short 0 "the VM stopped while it ran"
		end_suite 0
	fi
}
