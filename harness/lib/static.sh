# shellcheck shell=bash
# Checks that need no booted kernel. What the unpatched tree complains about already does not count; what
# the series adds does.

STATIC=$BUILD/static
TREE=$STATIC/linux	# a work tree of its own, moved from commit to commit
OBJ=$STATIC/obj
SEEN=$STATIC/sparse.seen

# check NAME COMMAND...: a case. The command prints what is wrong, and fails if anything is; it returns 77 to
# skip, with the reason as its output.
check()
{
	local name=$1 t0 rc=0 out first

	shift
	out=$RESULTS/$SUITE.check
	wanted_case "$SUITE.$name" || return 0
	t0=$(date +%s%3N)
	"$@" > "$out" 2>&1 || rc=$?
	first=$(grep -m1 . "$out" || true)
	sed "s|^|$name: |" "$out" >> "$RESULTS/$SUITE.out"
	rm -f "$out"
	t0=$(($(date +%s%3N) - t0))
	t0=$((t0 / 1000)).$(printf '%03d' $((t0 % 1000)))
	if [ "${t0%.*}" -ge 5 ]; then
		note "$SUITE.$name: $([ $rc -eq 0 ] && echo fine || echo "exit status $rc"), ${t0%.*} s"
	fi
	case $rc in
	0) add_case pass "$name" "$t0" '' ;;
	77) add_case skip "$name" "$t0" "$first" ;;
	*) add_case fail "$name" "$t0" "$first" ;;
	esac
}

# suite NAME FUNCTION: runs FUNCTION, whose checks are the suite's cases.
suite()
{
	local t0=$SECONDS

	begin_suite "$1"
	"$2"
	end_suite $((SECONDS - t0))
}

skip_empty()
{
	echo "the series is empty"
	return 77
}

# at COMMIT: has the work tree hold it. Whatever reads the tree in the background is waited for.
at()
{
	[ "$(git -C "$TREE" rev-parse HEAD)" != "$(lgit rev-parse "$1^{commit}")" ] || return 0
	wait
	git -C "$TREE" checkout -q -f --detach "$1"
}

prepare_static()
{
	need "${PACKAGES_SOURCE[@]}" "${PACKAGES_BUILD[@]}" "${PACKAGES_STATIC[@]}"
	kernel_env
	prepare_stack
}

# The stack's commits, and the work tree.
prepare_stack()
{
	prepare_tree
	TIP=$(lgit rev-parse "$STACK_BRANCH")
	mapfile -t COMMITS < <(lgit rev-list --reverse "base..$STACK_BRANCH")
	mapfile -t TOUCHED < <(lgit diff --no-renames --name-only --diff-filter=AM base "$STACK_BRANCH")
	mkdir -p "$STATIC"
	if [ ! -e "$TREE/.git" ]; then
		say "Making a work tree for the static checks (half a minute)"
		rm -rf "$TREE"
		lgit worktree prune
		lgit worktree add -q --detach "$TREE" base
	fi
	git -C "$TREE" am --abort > /dev/null 2>&1 || true
	git -C "$TREE" checkout -q -f --detach base || die "the work tree in $TREE is broken; remove it and try again"
	git -C "$TREE" clean -q -f -d
}

# touched PATTERN...: touched files that match one of the globs.
touched()
{
	local file pattern

	for file in "${TOUCHED[@]}"; do
		for pattern in "$@"; do
			# shellcheck disable=SC2254 # a glob is what is wanted
			case $file in
			$pattern) echo "$file"; break ;;
			esac
		done
	done
}

in_base()
{
	lgit cat-file -e "base:$1" 2>/dev/null
}

# new_lines BASE TIP: lines of TIP that BASE does not have as often, line numbers set aside.
new_lines()
{
	awk '
		{ key = $0; gsub(/:[0-9]+(:[0-9]+(-[0-9]+)?)?[: ]/, ":", key); gsub(/line [0-9]+/, "line", key) }
		NR == FNR && FILENAME == ARGV[1] { had[key]++; next }
		had[key]-- <= 0 { print; bad = 1 }
		END { exit bad }' "$1" "$2"
}

# ---- the harness itself ----

suite_harness()
{
	check shellcheck shellcheck -x -a "$ROOT/gmem" "$ROOT/.ci/run" "$HARNESS/lib/sparse-touched" "$HARNESS/lib/cached"
	check init gcc -fsyntax-only -O2 -std=gnu11 -Wall -Wextra -Werror "$HARNESS/init.c"
	check names no_foreign_names
}

# Nothing here may depend on where the repository lies or on a certain mirror.
no_foreign_names()
{
	! git -C "$ROOT" grep --untracked -nE '(^|[^a-z.])/(work|home/[a-z]+)/|https?://(deb|ftp|security|snapshot)\.debian' -- \
		gmem .ci harness 'series*' README.md MAINTAINERS .b4-config
}

# ---- the series as a whole ----

suite_series()
{
	check tree series_matches
	check export export_repeats
	if [ ${#COMMITS[@]} -eq 0 ]; then
		check mbox skip_empty
		check b4 skip_empty
		check maintainers skip_empty
		return
	fi
	check mbox mbox_applies
	check b4 b4_applies
	check maintainers maintainers_cover
	check signoff no_signoff
}

series_matches()
{
	local why

	why=$(unfinished)
	[ -z "$why" ] || { echo "$STACK_NAME: $why"; return 1; }
	build_commits base
	[ "$(lgit rev-parse "$STACK_BRANCH")" = "$TIP" ] || { echo "$STACK_NAME holds other commits than the series"; return 1; }
}

export_repeats()
{
	local out=$STATIC/export file bad=0

	generate "$STACK_BRANCH" "$out"
	diff <(series_files "$out/series") <(series_files) || bad=1
	diff <(series_files | grep '\.patch$') <(stray_patches | sort) || bad=1
	while read -r file; do
		cmp "$out/$file" "$STACK_HOME/$file" || bad=1
	done < <(cd "$out" && find . -type f | sed 's,^\./,,')
	rm -rf "$out"
	return $bad
}

mbox_applies()
{
	make_mbox > "$STATIC/$STACK.mbox" || return 1
	am_gives_tree "$STATIC/$STACK.mbox" "$STACK_BRANCH" || return 1
	names_base "$STATIC/$STACK.mbox"
}

names_base()
{
	grep -q "^base-commit: $(lgit rev-parse base)" "$1" || {
		echo "the mailbox does not name its base"
		return 1
	}
}

# am_gives_tree MBOX COMMIT
am_gives_tree()
{
	at base || return 1
	git -C "$TREE" -c user.name=gmem -c user.email=gmem@localhost -c core.hooksPath=/dev/null -c commit.gpgSign=false \
		am -q --no-3way "$1" || {
		git -C "$TREE" am --abort
		return 1
	}
	if [ "$(git -C "$TREE" rev-parse 'HEAD^{tree}')" != "$(lgit rev-parse "$2^{tree}")" ]; then
		echo "git am of the mailbox gives another tree"
		return 1
	fi
}

# b4 takes the mailbox apart and writes one of its own.
b4_applies()
{
	local out=$STATIC/b4 id

	make_mbox > "$STATIC/gmem.mbox" || return 1
	id=$(sed -n 's/^Message-I[dD]: <\(.*\)>$/\1/p' "$STATIC/gmem.mbox" | tail -n 1)
	rm -rf "$out"
	mkdir -p "$out"
	(cd "$TREE" && timeout 120 b4 --no-interactive am -m "$STATIC/gmem.mbox" -o "$out" "$id") < /dev/null > "$out/log" 2>&1 || {
		cat "$out/log"
		return 1
	}
	[ -s "$(echo "$out"/*.cover)" ] || { echo "b4 finds no cover letter"; return 1; }
	am_gives_tree "$(echo "$out"/*.mbx)" gmem
}

# Our MAINTAINERS entry: in the kernel's form, its patterns match something, and each file that the series adds
# is in it or in an entry that the kernel has.
maintainers_cover()
{
	local file pattern patterns bad=0

	grep -nvE '^([A-Z][A-Z0-9 _()/-]+|[MRLSWQBCPTFXNK]:	[^ ].*|)$' "$ROOT/MAINTAINERS" && { echo "a line in another form"; bad=1; }
	grep -q '^S:	' "$ROOT/MAINTAINERS" || { echo "MAINTAINERS has no status"; bad=1; }
	mapfile -t patterns < <(sed -n 's/^F:	//p' "$ROOT/MAINTAINERS")
	at gmem || return 1
	for pattern in "${patterns[@]}"; do
		[ -n "$(git -C "$TREE" ls-files -- "$pattern")" ] || { echo "F: $pattern matches nothing"; bad=1; }
	done
	while read -r file; do
		in_base "$file" && continue
		! git -C "$TREE" ls-files -- "${patterns[@]}" | grep -qxF "$file" || continue
		if [ -z "$(cd "$TREE" && ./scripts/get_maintainer.pl --no-git --no-git-fallback --no-rolestats -f "$file" |
			   grep -v linux-kernel@vger)" ]; then
			echo "$file is in no MAINTAINERS entry"
			bad=1
		fi
	done < <(touched '*')
	return $bad
}

no_signoff()
{
	! lgit log --format='%h %s%n%B' "base..$STACK_BRANCH" | grep -i '^Signed-off-by:'
}

# ---- each patch ----

suite_checkpatch()
{
	local commit n=0 names=()

	[ ${#COMMITS[@]} -gt 0 ] || { check all skip_empty; return; }
	for commit in "${COMMITS[@]}"; do
		names+=("$(commit_name "$commit")")
	done
	[ -z "${FILTER:-}" ] || printf '%s\n' "${names[@]/#/checkpatch.}" | grep -qF -e "$FILTER" || return 0
	# checkpatch looks into the tree around the patch, for included files and names in mixed case: the end of the series has
	# what its commits have. The first run leaves notes on the tree for the others.
	at "$STACK_BRANCH"
	rm -rf "$STATIC/checkpatch"
	mkdir -p "$STATIC/checkpatch"
	checkpatch "${COMMITS[0]}"
	in_parallel checkpatch "${COMMITS[@]:1}"
	for commit in "${COMMITS[@]}"; do
		check "${names[n++]}" checkpatch_says "$commit"
	done
}

# in_parallel FUNCTION ARGUMENT...: FUNCTION ARGUMENT for each, as many at a time as there are processors.
in_parallel()
{
	local function=$1 argument n=0

	shift
	for argument in "$@"; do
		n=$((n + 1))
		[ $n -le "$JOBS" ] || wait -n || true
		"$function" "$argument" &
	done
	wait
}

commit_name()
{
	local n=1

	while [ "${COMMITS[n - 1]}" != "$1" ]; do
		n=$((n + 1))
	done
	printf '%04d-%s' "$n" "$(lgit log -1 --format=%f "$1" | cut -c1-52)"
}

# checkpatch COMMIT: leaves what it says in a file.
checkpatch()
{
	local out=$STATIC/checkpatch/$1

	# MISSING_SIGN_OFF: who sends the series signs it; until then nobody has.
	# FILE_PATH_CHANGES: asks about MAINTAINERS, which series.maintainers looks at.
	# UNKNOWN_COMMIT_ID: the base comes without the kernel's history.
	# The two types of layout: a TRACE_EVENT() has no other, see the rest of those files.
	# AVOID_BUG: MT_BUG_ON() is how the test of the maple tree counts what passes and what fails.
	{
		lgit format-patch -1 --stdout --no-signature "$1" > "$out.patch"
		(cd "$TREE" && ./scripts/checkpatch.pl -q --strict --no-summary --show-types --color=never \
			--ignore MISSING_SIGN_OFF,FILE_PATH_CHANGES,UNKNOWN_COMMIT_ID "$out.patch") ||
			[ $? -eq 1 ] || echo "ERROR: checkpatch.pl could not do its work"
	} 2>&1 | awk 'BEGIN { RS = ""; ORS = "\n\n" }
			/FILE: include\/trace\/events\// && /CHECK:(OPEN_ENDED_LINE|PARENTHESIS_ALIGNMENT):/ { next }
			/FILE: lib\/test_maple_tree.c/ && /WARNING:AVOID_BUG:/ && /MT_BUG_ON\(/ { next }
			{ print }' > "$out"
}

checkpatch_says()
{
	local out=$STATIC/checkpatch/$1

	[ -f "$out" ] || { echo "checkpatch did not run"; return 1; }
	grep -v '^$' "$out" || true
	! grep -qE '^(ERROR|WARNING|CHECK):' "$out"
}

# ---- the patches for QEMU ----

# in_stack: its commits and a work tree of its own, in its own style.
check_qemu()
{
	local TIP COMMITS TOUCHED TREE=$STATIC/qemu-$STACK commit n=0 name t0=$SECONDS

	begin_suite "qemu_$STACK"
	if [ -z "${FILTER:-}" ] || [[ $SUITE == *"$FILTER"* ]] || [[ $FILTER == "$SUITE".* ]]; then
		prepare_stack
		check tree series_matches
		check export export_repeats
		check mbox mbox_applies
		check signoff no_signoff
		at "$STACK_BRANCH"
		for commit in "${COMMITS[@]}"; do
			check "checkpatch-$(commit_name "$commit")" qemu_checkpatch "$commit"
		done
	fi
	end_suite $((SECONDS - t0))
}

# MAINTAINERS: QEMU's checkpatch asks about it with each new file; who sends the patches decides on that. Tabs: svm.h is
# indented with them all over.
qemu_checkpatch()
{
	local out

	out=$(lgit format-patch -1 --stdout --no-signature "$1" |
		(cd "$TREE" && ./scripts/checkpatch.pl -q --no-summary --no-signoff - 2>&1) |
		awk 'BEGIN { RS = ""; ORS = "\n\n" } !/MAINTAINERS need updating/ && !(/should never use tabs/ && /FILE: target\/i386\/svm.h:/)') || true
	printf '%s' "$out"
	[ -z "$out" ]
}

# in_stack: each of its commits builds, without a warning in what the stack changes.
build_qemu_commits()
{
	local TIP COMMITS TOUCHED TREE=$STATIC/qemu-$STACK QEMU_PROGRAM QEMU_OPTIONS MESON commit t0=$SECONDS

	begin_suite "qemu_$STACK"
	qemu_options
	need "${PACKAGES_QEMU[@]}"
	prepare_stack
	find_meson
	# The first commit adds the devices that the configuration names.
	at "${COMMITS[0]}"
	configure_qemu "$TREE" "$OBJ/qemu-$STACK" "$STATIC/build.log"
	say "Building QEMU at each of ${#COMMITS[@]} commits (the first from nothing)"
	for commit in "${COMMITS[@]}"; do
		check "$(commit_name "$commit")" build_qemu_commit "$commit"
	done
	end_suite $((SECONDS - t0))
}

build_qemu_commit()
{
	local log=$STATIC/build.log

	at "$1" || return 1
	make_qemu "$OBJ/qemu-$STACK" > "$log" 2>&1 || {
		grep -E 'error:|FAILED' "$log" || tail -n 5 "$log"
		return 1
	}
	! qemu_warnings "$log"
}

# ---- patches of other topics ----

suite_topics()
{
	local topic COMMITS commit

	mkdir -p "$STATIC/checkpatch"
	for topic in $(topics); do
		check "$topic.mbox" topic_applies "$topic"
		# If it cannot be built, that has been said.
		(build_topic "$topic") > /dev/null 2>&1 || continue
		mapfile -t COMMITS < <(lgit rev-list --reverse "base..refs/gmem/$topic")
		for commit in "${COMMITS[@]}"; do
			checkpatch "$commit"
			check "$topic.checkpatch-$(commit_name "$commit")" checkpatch_says "$commit"
		done
	done
}

topic_applies()
{
	local mbox=$STATIC/$1.mbox

	(make_topic_mbox "$1") > "$mbox" || return 1
	am_gives_tree "$mbox" "refs/gmem/$1" || return 1
	names_base "$mbox"
}

# ---- building ----

# with_variant NAME COMMAND...: runs "COMMAND source objects ..." for one configuration of harness/config.
configure_variant()
{
	local c=$HARNESS/config frags

	KARCH=x86
	case $1 in
	x86) frags=("$c/common.config" "$c/x86.config" "$c/static.config") ;;
	i386) frags=("$c/variants/i386.config") ;;
	arm64)
		KARCH=arm64
		frags=("$c/variants/arm64.config")
		;;
	*) frags=("$c/common.config" "$c/x86.config" "$c/static.config" "$c/variants/$1.config") ;;
	esac
	# Early commits do not know the options of later ones.
	LENIENT=1 configure "$TREE" "$OBJ/$1" "${frags[@]}"
}

# build_variant NAME TARGET...: builds in the work tree as it stands. Prints errors and warnings.
build_variant()
{
	local KARCH variant=$1 log=$STATIC/build.log rc=0

	shift
	configure_variant "$variant"
	kmake "$TREE" "$OBJ/$variant" -k -j"$JOBS" "$@" > "$log" 2>&1 || rc=$?
	grep -E '(warning|error):|\*\*\*|undefined reference' "$log" | sed "s,$TREE/,,g" || true
	[ $rc -eq 0 ] && ! grep -q 'warning:' "$log"
}

# What to make outside KVM's directories for the files that the series touches, for this architecture, at this commit.
# In arch/x86/virt it depends on the configuration which files are compiled.
outside_objects()
{
	local file virt=''

	while read -r file; do
		case $file in
		arch/x86/virt/*)
			[ -n "$virt" ] || echo arch/x86/virt/
			virt=1
			;;
		arch/x86/kvm/*|virt/*|arch/arm64/*|tools/*|samples/*|Documentation/*|scripts/*) ;;
		*) [ ! -f "$TREE/$file" ] || echo "${file%.c}.o" ;;
		esac
	done < <(touched '*.c')
}

build_x86()
{
	local objects

	mapfile -t objects < <(outside_objects)
	build_variant "$1" arch/x86/kvm/ virt/ "${objects[@]}"
}

build_arm64()
{
	build_variant arm64 arch/arm64/kvm/
}

# A commit in all that it can break: everything built in, KVM as modules, without software-protected VMs, arm64, and
# the selftests.
build_commit()
{
	local rc=0 files

	at "$1" || return 1
	files=$(lgit diff-tree --no-commit-id --name-only -r "$1")
	if grep -qE '^(arch/x86/|virt/kvm/|include/)' <<< "$files"; then
		build_x86 x86 || rc=1
		build_x86 modules || rc=1
		build_x86 no-sw-protected || rc=1
	fi
	if grep -qE '^(arch/arm64/|virt/kvm/|include/.*/kvm)' <<< "$files"; then
		build_arm64 || rc=1
	fi
	if grep -qE '^(tools/testing/selftests/kvm/|include/uapi/)' <<< "$files"; then
		build_commit_selftests || rc=1
	fi
	return $rc
}

build_commit_selftests()
{
	local KARCH log=$STATIC/build.log rc=0

	: > "$log"
	for KARCH in x86 arm64; do
		mkdir -p "$OBJ/selftests-$KARCH"
		{
			kmake "$TREE" "$OBJ/selftests-$KARCH" -s -j"$JOBS" headers &&
				make_selftests "$TREE" "$OBJ/selftests-$KARCH"
		} >> "$log" 2>&1 || rc=$?
	done
	grep -E '(warning|error):|\*\*\*|undefined reference' "$log" | sed "s,$TREE/,,g" || true
	[ $rc -eq 0 ] && ! grep -q 'warning:' "$log"
}

suite_patches()
{
	local commit

	[ ${#COMMITS[@]} -gt 0 ] || { check all skip_empty; return; }
	say "Building each of ${#COMMITS[@]} commits (up to five minutes each on 2 cores, most of them less)"
	for commit in "${COMMITS[@]}"; do
		check "$(commit_name "$commit")" build_commit "$commit"
	done
}

suite_variants()
{
	local variant

	[ ${#COMMITS[@]} -gt 0 ] || { check all skip_empty; return; }
	at gmem
	say "Building KVM in other configurations (about a minute each)"
	for variant in no-sw-protected no-sev-tdx sev-only tdx-only no-private amd-only i386; do
		check "$variant" build_x86 "$variant"
	done
	check arm64 build_arm64
	check modules build_x86 modules
	check module-symbols module_symbols
}

# Without linking a kernel: whatever one module takes from another one, or from the kernel, is exported.
module_symbols()
{
	local dir=$OBJ/modules/arch/x86/kvm bad=0 m

	[ -f "$dir/kvm.o" ] || { echo "the modules are not built"; return 1; }
	nm "$dir/kvm.o" | sed -n 's/.* __export_symbol_//p' | sort > "$STATIC/exported"
	nm --defined-only "$dir/kvm.o" | awk '{ print $3 }' | sort > "$STATIC/defined"
	git -C "$TREE" grep -ohE 'EXPORT[A-Z_]*\([A-Za-z0-9_]+' -- '*.[chS]' | sed 's/.*(//' | sort -u > "$STATIC/kernel-exports"
	for m in kvm kvm-amd kvm-intel; do
		nm -u "$dir/$m.o" | awk '{ print $2 }' | sort > "$STATIC/undefined"
		comm -12 "$STATIC/undefined" "$STATIC/defined" | comm -23 - "$STATIC/exported" |
			sed "s/^/$m takes from kvm, which does not export it: /" > "$STATIC/missing"
		# The rest comes from the kernel; what macros and assembly export there cannot be found by name.
		comm -23 "$STATIC/undefined" "$STATIC/defined" | comm -23 - "$STATIC/kernel-exports" |
			grep -vE "$MACRO_EXPORTS" | sed "s/^/$m takes from the kernel, which does not export it: /" >> "$STATIC/missing"
		[ ! -s "$STATIC/missing" ] || bad=1
		cat "$STATIC/missing"
	done
	return $bad
}
MACRO_EXPORTS='^__this_module$|^param_(ops|get|set)_|^__(x86_|fentry__|SCT__|SCK__|tracepoint_|traceiter_|get_user_|put_user_|stack_chk|warn_|ref_stack)'

# ---- tools, compared with the base ----

# Sparse on the touched files, in the configuration that compiles most of them. KVM's generic files are
# compiled from the architecture's directory, so that is what is built.
run_sparse()
{
	local KARCH

	export GMEM_SOURCE=$TREE GMEM_TOUCHED=$STATIC/sparse.touched GMEM_SEEN=$SEEN
	touched '*.c' > "$GMEM_TOUCHED"
	: > "$GMEM_SEEN"
	{
		configure_variant x86
		sparse_make x86 arch/x86/kvm/ virt/
		if grep -q '^arch/arm64/' "$GMEM_TOUCHED"; then
			configure_variant arm64
			sparse_make arm64 arch/arm64/kvm/
			sparse_hyp
		fi
	} 2>&1 | sed -e "s,$TREE/,,g" -e 's,arch/[a-z0-9]*/kvm/\(\.\./\)*virt,virt,g' |
		# What sparse 0.6.4 says to each module_param(); the compiler knows better.
		grep -E '(warning|error):' | grep -v 'error: bad constant expression$' || true
}

sparse_make()
{
	local objects

	mapfile -t objects < <([ "$1" = arm64 ] || outside_objects)
	kmake "$TREE" "$OBJ/$1" -k -s -j"$JOBS" --output-sync=target C=2 CHECK="$HARNESS/lib/sparse-touched" \
		"${@:2}" "${objects[@]}" || echo "make: error: exit status $?"
}

# The hypervisor of arm64 has a rule of its own for its objects, which checks those alone that are compiled.
sparse_hyp()
{
	local file

	while read -r file; do
		rm -f "$OBJ/arm64/${file%.c}.nvhe.o"
	done < <(touched 'arch/arm64/kvm/hyp/nvhe/*.c')
	kmake "$TREE" "$OBJ/arm64" -k -s -j"$JOBS" --output-sync=target C=1 CHECK="$HARNESS/lib/sparse-touched" \
		arch/arm64/kvm/ || echo "make: error: exit status $?"
}

compare_sparse()
{
	case $1 in
	*.c) sparse_saw "$1" || { echo "$1 is not compiled, or sparse gave up on it"; return 1; } ;;
	esac
	compare sparse "$1"
}

# By itself, or as a part of a file that includes it.
sparse_saw()
{
	local file

	while read -r file; do
		[ "$file" != "$1" ] || return 0
		! grep -qE "^#include \"(.*/)?$(basename "$1")\"" "$TREE/$file" || return 0
	done < "$SEEN"
	return 1
}

# All of the tree's coccinelle scripts that can report. Parsing the files takes as long as many a script; the first
# one keeps the result for the others.
run_cocci()
{
	local files scripts

	mapfile -t files < <(touched '*.c' '*.h' | while read -r f; do [ ! -f "$TREE/$f" ] || echo "$f"; done)
	[ ${#files[@]} -gt 0 ] || return 0
	rm -rf "$STATIC/cocci"
	mkdir -p "$STATIC/cocci/cache"
	mapfile -t scripts < <(cd "$TREE" && grep -lr --include='*.cocci' '^virtual report' scripts/coccinelle | sort -r)
	cocci_scripts 1 scripts/coccinelle/misc/semicolon.cocci
	cocci_scripts "$JOBS" "${scripts[@]}"
	cat "$STATIC"/cocci/*.cocci | grep -E '^[^ :]+:[0-9]+' | sort || true
	# A script that cannot run has found nothing, and nobody should think it had.
	sed 's/^/script:0: /' "$STATIC/cocci/failed" 2>/dev/null || true
}

# cocci_scripts JOBS SCRIPT...: on "files", at most so many at a time. Coccinelle parses each file that it is given, even
# one that has none of the words that the script looks for; it says which these are. And it gets slower with each file: fifty
# in one process take nine times as long as a dozen at a time.
cocci_scripts()
{
	local jobs=$1

	shift
	# shellcheck disable=SC2016 # for the inner shell
	(cd "$TREE" && printf '%s\n' "$@" |
		xargs -P "$jobs" -I{} bash -c '
			script=$1 log=$2; shift 2
			out=$log/${script//\//_}
			words=$(spatch -D report --parse-cocci "$script" 2>/dev/null < /dev/null | sed "1,/^Grep query/d")
			words=$(printf %s "$words" | tr -d " \n")
			if [[ $words =~ ^[A-Za-z0-9_|]+$ ]]; then
				mapfile -t files < <(grep -lwE "${words//||/|}" "$@")
				set -- "${files[@]}"
			fi
			[ $# -gt 0 ] || exit 0
			read -r -a options < <(sed -n "s,^// Options: *,,p" "$script" | tr "\n" " "; echo)
			printf "%s\n" "$@" | xargs -n 12 timeout 300 spatch -D report --no-show-diff --very-quiet \
				--use-cache --cache-prefix "$log/cache" --cocci-file "$script" "${options[@]}" > "$out" 2> "$out.err" ||
				echo "$script: exit status $?" >> "$log/failed"
		' - {} "$STATIC/cocci" "${files[@]}")
}

run_kerneldoc()
{
	local file

	while read -r file; do
		[ -f "$TREE/$file" ] || continue
		{
			(cd "$TREE" && ./scripts/kernel-doc -none "$file" 2>&1) || echo "make: error: exit status $? for $file"
		} | sed 's/^\(Warning\|Error\|Info\): *//'
	done < <(touched '*.c' '*.h')
}

run_docs()
{
	local dirs

	mapfile -t dirs < <(touched 'Documentation/*.rst' | sed 's,^Documentation/,,; s,/[^/]*$,,' | sort -u)
	[ ${#dirs[@]} -gt 0 ] || return 0
	{
		make -C "$TREE" -s O="$OBJ/docs" SPHINXDIRS="${dirs[*]}" htmldocs 2>&1 || echo "make: error: exit status $?"
	} | sed "s,$TREE/,,g" | grep -E '(WARNING|ERROR|[Ww]arning|[Ee]rror)' || true
}

findings()
{
	grep -E "(^|[ /])$2:" "$1"
}

# on_base TOOL FILE...: Coccinelle looks at each file by itself; what the others say about a file may come from
# another one that includes it.
on_base()
{
	local TOUCHED=("${TOUCHED[@]}") SEEN=$STATIC/sparse.seen.base name=$1

	shift
	[ "$name" != cocci ] || TOUCHED=("$@")
	"run_$name"
}

# base_findings KEPT KEY FILE...: what was found on the base in an earlier run, if the base, the tool and its configuration are
# the same, and these files were looked at.
base_findings()
{
	local kept=$1 key=$2 file

	shift 2
	grep -sqxF "key $key" "$kept" || return 1
	for file in "$@"; do
		grep -qxF "file $file" "$kept" || return 1
	done
	sed -E '/^(key|file) /d' "$kept"
}

# What its findings depend on besides what it reads.
tool_version()
{
	case $1 in
	cocci) spatch --version ;;
	sparse)
		sparse --version
		gcc --version
		aarch64-linux-gnu-gcc --version
		cat "$HARNESS"/config/{common,x86,static,variants/arm64}.config "$HARNESS/lib/sparse-touched"
		;;
	docs) sphinx-build --version; python3 --version ;;
	esac
	declare -f "run_$1"
}

# compare TOOL FILE: what TOOL says about FILE at the end of the series and did not at its base. The outputs
# hold the file's name at the start of the line, or after a word such as WARNING:.
compare()
{
	local out=$STATIC/$1

	findings "$out.base" "$2" > "$out.base.file" || true
	findings "$out.tip" "$2" > "$out.tip.file" || true
	new_lines "$out.base.file" "$out.tip.file"
}

# What a tool says that belongs to no touched file, if it starts with PREFIX: it could not do its work.
tool_works()
{
	local out=$STATIC/$1

	! grep -hE "^$2" "$out.base" "$out.tip"
}

# wanted_tool NAME FILE...
wanted_tool()
{
	[ -z "${FILTER:-}" ] || printf '%s\n' "${@/#/$1.}" | grep -qF -e "$FILTER"
}

# start_tool NAME PATTERN...: begins in the background what tool_suite then waits for. Sphinx uses one processor alone.
start_tool()
{
	local name=$1 files

	shift
	mapfile -t files < <(touched "$@")
	[ ${#COMMITS[@]} -gt 0 ] && [ ${#files[@]} -gt 0 ] && wanted_tool "$name" "${files[@]}" || return 0
	at gmem
	set -m
	"run_$name" > "$STATIC/$name.tip" 9>&- &
	set +m
	CHILDREN+=("$!")
	STARTED_TOOLS+=" $name"
}
STARTED_TOOLS=''

# tool_suite NAME PREFIX PATTERN...: one case for each touched file that matches.
tool_suite()
{
	local name=$1 prefix=$2 file files suspects t0=$SECONDS key

	shift 2
	begin_suite "$name"
	mapfile -t files < <(touched "$@")
	# Programs for user space are not sparse's business.
	[ "$name" != sparse ] ||
		mapfile -t files < <(touched "$@" | grep -vE '^(tools|samples|Documentation|scripts)/')
	if [ ${#COMMITS[@]} -eq 0 ]; then
		check all skip_empty
	elif [ ${#files[@]} -eq 0 ]; then
		check all skip_untouched
	elif wanted_tool "$name" "${files[@]}"; then
		say "Running $name on ${#files[@]} files"
		case " $STARTED_TOOLS " in
		*" $name "*)
			wait
			CHILDREN=()
			;;
		*)
			at gmem
			"run_$name" > "$STATIC/$name.tip"
			;;
		esac
		# Where the series has no findings, there is nothing to compare with the base, and it is not looked at.
		suspects=()
		for file in "${files[@]}"; do
			! findings "$STATIC/$name.tip" "$file" > /dev/null || suspects+=("$file")
		done
		key=$({
			lgit rev-parse 'base^{tree}'
			tool_version "$name"
		} | hash_stdin)
		if [ ${#suspects[@]} -eq 0 ]; then
			: > "$STATIC/$name.base"
		elif ! base_findings "$HARNESS/findings/$name" "$key" "${suspects[@]}" > "$STATIC/$name.base" &&
		     ! base_findings "$STATIC/$name.findings" "$key" "${suspects[@]}" > "$STATIC/$name.base"; then
			say "Running $name on the base as well, for ${suspects[*]}"
			at base
			on_base "$name" "${suspects[@]}" > "$STATIC/$name.base"
			at gmem
			[ "$name" = cocci ] || suspects=("${files[@]}")
			{
				echo "key $key"
				printf 'file %s\n' "${suspects[@]}"
				cat "$STATIC/$name.base"
			} > "$STATIC/$name.findings"
			if grep -qE "^$prefix" "$STATIC/$name.base"; then
				rm "$STATIC/$name.findings"
			else
				note "cp build/static/$name.findings harness/findings/$name makes it known everywhere"
			fi
		fi
		check works tool_works "$name" "$prefix"
		for file in "${files[@]}"; do
			if [ "$name" = sparse ]; then
				check "$file" compare_sparse "$file"
			else
				check "$file" compare "$name" "$file"
			fi
		done
	fi
	end_suite $((SECONDS - t0))
}

skip_untouched()
{
	echo "the series touches no such file"
	return 77
}

test_static()
{
	local stack

	start_results static
	prepare_static
	suite harness suite_harness
	suite series suite_series
	suite checkpatch suite_checkpatch
	suite topics suite_topics
	for stack in $(qemu_stacks); do
		in_stack "$stack" check_qemu
	done
	start_tool docs 'Documentation/*.rst'
	tool_suite kerneldoc 'make: error' '*.c' '*.h'
	tool_suite cocci 'script:0:' '*.c' '*.h'
	tool_suite docs 'make: error' 'Documentation/*.rst'
	tool_suite sparse 'make: error' '*.c' '*.h'
}

# Not part of "all": an hour and more of compiling, which is for whoever changes the series.
test_builds()
{
	local stack

	start_results builds
	prepare_static
	suite patches suite_patches
	suite variants suite_variants
	for stack in $(qemu_stacks); do
		in_stack "$stack" build_qemu_commits
	done
}
