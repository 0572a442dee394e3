# shellcheck shell=bash
# Words, times and locks that every other part uses.

BUILD=$ROOT/build
LINUX=$BUILD/linux
HARNESS=$ROOT/harness
JOBS=$(nproc)
# A gmem started by another one goes on with its clock.
STARTED_AT=${GMEM_STARTED:-$(date +%s)}
STARTED=$((SECONDS - $(date +%s) + STARTED_AT))

# Tests and patches are compared byte by byte; the user's locale and git habits must not matter.
export LC_ALL=C.UTF-8 TZ=UTC
export GIT_PAGER=cat GIT_TERMINAL_PROMPT=0
# What the Debian packages bring is what is used, whatever else is installed.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GREP_OPTIONS CDPATH MAKEFLAGS MAKELEVEL

if [ -t 1 ]; then
	BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
	BOLD='' RED='' GREEN='' YELLOW='' PLAIN=''
fi

clock()
{
	local s=$1

	printf '%d:%02d' $((s / 60)) $((s % 60))
}

# say TEXT: one line about what happens now, with the time since the start.
say()
{
	printf '%s[%s]%s %s\n' "$BOLD" "$(clock $((SECONDS - STARTED)))" "$PLAIN" "$*" >&2
}

note()
{
	printf '        %s\n' "$*" >&2
}

die()
{
	printf '%sgmem: %s%s\n' "$RED" "$1" "$PLAIN" >&2
	shift
	[ $# -eq 0 ] || printf '      %s\n' "$@" >&2
	exit 1
}

hash_stdin()
{
	sha256sum | cut -d' ' -f1
}

# Only one gmem at a time may change build/: two of them would build on each other's half-written files.
lock_build()
{
	mkdir -p "$BUILD"
	exec 9>"$BUILD/.lock"
	if ! flock -n 9; then
		say "Another ./gmem is at work in $BUILD; waiting for it"
		flock 9
	fi
}

# Children that a Ctrl-C or an error must not leave behind, by process id.
CHILDREN=()
reap()
{
	local pid

	for pid in "${CHILDREN[@]}"; do
		# One that has ended already must not turn into this program's exit status.
		kill -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null || true
	done
	CHILDREN=()
}
trap reap EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# stamped NAME HASH: true if NAME was finished with exactly this HASH of its inputs.
stamped()
{
	[ -f "$BUILD/stamps/$1" ] && [ "$(cat "$BUILD/stamps/$1")" = "$2" ]
}

stamp()
{
	mkdir -p "$BUILD/stamps"
	echo "$2" > "$BUILD/stamps/$1.tmp"
	mv "$BUILD/stamps/$1.tmp" "$BUILD/stamps/$1"
}

unstamp()
{
	rm -f "$BUILD/stamps/$1"
}

# with_progress LOG UNIT TOTAL COUNTER CMD...: runs CMD with its output in LOG and, every ten seconds,
# says how many lines of LOG match the regular expression COUNTER, out of about TOTAL (0: nobody knows).
with_progress()
{
	local log=$1 unit=$2 total=$3 counter=$4 pid t0=$SECONDS last=$SECONDS n left rc=0

	shift 4
	mkdir -p "$(dirname "$log")"
	set -m
	"$@" > "$log" 2>&1 9>&- < /dev/null &
	pid=$!
	set +m
	CHILDREN+=("$pid")
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.5
		[ $((SECONDS - last)) -ge 10 ] || continue
		last=$SECONDS
		n=$(grep -cE "$counter" "$log" || true)
		if [ "$n" -gt "$total" ]; then
			note "$n $unit, $(clock $((SECONDS - t0))) gone"
			continue
		fi
		left=''
		if [ "$n" -gt 20 ] && [ $((SECONDS - t0)) -ge 20 ]; then
			left=", about $(clock $(((total - n) * (SECONDS - t0) / n))) left"
		fi
		note "$n of about $total $unit, $(clock $((SECONDS - t0))) gone$left"
	done
	wait "$pid" || rc=$?
	CHILDREN=()
	return $rc
}
