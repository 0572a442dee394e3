# shellcheck shell=bash
# Results: from what the VM says to KTAP files, a summary and something to read.

# What a kernel says when something is wrong with it.
KERNEL_TROUBLE='WARNING:|BUG:|BUG |Oops|Kernel panic|KASAN|KCSAN|UBSAN|KFENCE|Call Trace|stack backtrace|general protection|unable to handle|suspicious RCU usage|possible circular|possible recursive|possible irq|inconsistent lock|lock held when returning|locks? (still )?held|INFO: .*(deadlock|blocked for|stall|lock)|rcu: INFO|sleeping function called|scheduling while atomic|list_(add|del) corruption|bad page|Bad page|refcount_t|soft lockup|hard LOCKUP|hung task|kernel NULL pointer|page_poison|pagealloc: memory corruption|Out of memory|oom-kill|nobody cared|segfault in kernel|double fault|unchecked MSR|INTERNAL ERROR|Bad rss-counter|non-zero pgtables_bytes|workqueue lockup'

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
	SUITE=$1
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
			echo "# suite $SUITE, $1 seconds"
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
SKIPS=() FAILS=()

# closing SUMMARY...: the last line. Fails if anything did, or if nothing passed.
closing()
{
	cat "$@" 2>/dev/null | awk -F'\t' '
		{ n[$1]++ }
		END {
			printf "%d passed, %d failed, %d skipped\n", n["pass"], n["fail"], n["skip"]
			exit n["fail"] > 0 || n["pass"] == 0
		}'
}

# The lines of the test list that are to run, for init.
select_tests()
{
	local all=$1 to=$2

	grep -v '^[[:space:]]*\(#\|$\)' "$all" > "$to.all"
	awk -v f="${FILTER:-}" 'f == "" || index($1, f) || index(f, $1 ".") == 1' "$to.all" > "$to"
	# The name of a case that no suite's name gives away: it may be anywhere.
	[ -s "$to" ] || [[ ${FILTER:-} == kunit* ]] || cp "$to.all" "$to"
	rm "$to.all"
}

test_x86()
{
	local limit n done_mark='' troubled=''

	start_results x86
	need "${PACKAGES_VM[@]}"
	prepare_tree
	build_kernel debug
	build_selftests
	make_initrd "$X86/test.initrd" test
	select_tests "$HARNESS/tests/x86.list" "$X86/tests.list"
	append_file "$X86/test.initrd" tests.list "$X86/tests.list"
	ACCEL=("${TCG[@]}")
	n=$(wc -l < "$X86/tests.list")
	limit=$(awk -v b="$BOOT_SECONDS" '{ s += $2 } END { print b + s + 60 }' "$X86/tests.list")
	[ "$limit" -le 2700 ] || limit=2700
	say "Starting the VM: debug kernel, $n test programs (all of them: a few minutes)"
	start_vm "$X86/debug/arch/x86/boot/bzImage" "$X86/test.initrd" "$RESULTS" gmem_mode=test
	watch_vm "$RESULTS" "$limit"
	read_results
	wait "$VM" 2>/dev/null || true
	CHILDREN=()

	begin_suite kernel
	if [ -n "$done_mark" ] && [ -z "$HUNG" ]; then
		[ -n "${FILTER:-}" ] || add_case pass end 0 ''
	else
		unfiltered add_case fail end 0 "${HUNG:-the VM stopped before the end}, while running ${RUNNING:-its boot}"
		tail -n 30 "$RESULTS/console.log" > "$RESULTS/kernel.out" 2>/dev/null || true
	fi
	scan_console "$RESULTS" > "$RESULTS/reports.txt"
	if [ -s "$RESULTS/reports.txt" ]; then
		troubled=$(awk -F'\t' '{ print $1 }' "$RESULTS/reports.txt" | uniq | head -n 5 | paste -sd, | sed 's/,/, /g')
		unfiltered add_case fail report 0 "while running $troubled: $(head -n 1 "$RESULTS/reports.txt" | cut -f2 | cut -c1-160)"
		head -n 40 "$RESULTS/reports.txt" >> "$RESULTS/kernel.out"
	elif [ -z "${FILTER:-}" ]; then
		add_case pass report 0 ''
	fi
	end_suite 0
}

# A dead or complaining kernel counts, whatever was asked for with -k.
unfiltered()
{
	local FILTER=''

	"$@"
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
			begin_suite "$a"
			;;
		C)
			[ -z "$SUITE" ] || add_case "$a" "$b" "$c" "$d"
			;;
		E)
			[ -z "$SUITE" ] || end_suite "$b"
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
