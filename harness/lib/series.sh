# shellcheck shell=bash
# Stacks of patches: patches and files in this repository <-> commits in a git tree under build/.
#
# The series is the stack "kernel", which is meant unless in_stack says otherwise; each folder of harness/qemu is one on QEMU.
#
# Commits are made with plumbing, out of sight of the work tree, and with committer = author. So the same
# series gives the same hashes, comparing is cheap, and only files that change are touched.

# use_stack NAME: sets where a stack's git tree is and on which branch, where its patches, files and list lie, which source it is
# made for, and the command for it.
use_stack()
{
	STACK=$1
	case $STACK in
	kernel)
		STACK_TREE=$LINUX STACK_BRANCH=gmem STACK_SOURCE=linux
		STACK_HOME=$ROOT STACK_COVER=$HARNESS/cover-letter STACK_MAKE='./gmem tree' STACK_EXPORT='./gmem export'
		;;
	*)
		STACK_TREE=$BUILD/qemu/$STACK/src STACK_BRANCH=$STACK STACK_SOURCE=qemu
		STACK_HOME=$HARNESS/qemu/$STACK STACK_COVER=$STACK_HOME/cover-letter STACK_MAKE='./gmem qemu' STACK_EXPORT='./gmem qemu export'
		;;
	esac
	STACK_NAME=${STACK_TREE#"$ROOT/"}
}
use_stack kernel

# in_stack NAME COMMAND...: runs the function COMMAND for that stack.
in_stack()
{
	local STACK STACK_TREE STACK_BRANCH STACK_SOURCE STACK_HOME STACK_COVER STACK_MAKE STACK_EXPORT STACK_NAME

	use_stack "$1"
	shift
	"$@"
}

# Git in the stack's tree.
lgit()
{
	git -C "$STACK_TREE" -c core.quotePath=false -c core.abbrev=12 -c diff.noprefix=false -c diff.mnemonicPrefix=false \
		-c diff.interHunkContext=0 -c diff.context=3 -c core.commentChar='#' -c apply.whitespace=nowarn \
		-c apply.ignoreWhitespace=no -c log.showSignature=false -c format.notes=false "$@"
}

# Prints the lines of the series without comments, or of the given file.
series_lines()
{
	sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "${1:-$STACK_HOME/series}"
}

# patch_touches PATCH FILE
patch_touches()
{
	grep -qxF -e "+++ b/$2" -e "--- a/$2" "$1"
}

# file_at_entry N FILE OUT: FILE as the Nth commit adds it, that is without what later patches change.
file_at_entry()
{
	local n=$1 file=$2 out=$3 i patch scratch

	for ((i = ${#SERIES[@]} - 1; i > n; i--)); do
		patch=$STACK_HOME/${SERIES[i]%% *}
		patch_touches "$patch" "$file" && break
	done
	if [ "$i" -le "$n" ]; then
		cp -p "$STACK_HOME/$file" "$out"
		return
	fi
	scratch=$BUILD/series.scratch
	rm -rf "$scratch"
	mkdir -p "$scratch/$(dirname "$file")"
	cp -p "$STACK_HOME/$file" "$scratch/$file"
	for ((; i > n; i--)); do
		patch=$STACK_HOME/${SERIES[i]%% *}
		patch_touches "$patch" "$file" || continue
		# The ceiling keeps git from taking the scratch directory for a part of this repository.
		(cd "$scratch" && GIT_CEILING_DIRECTORIES=$BUILD git apply -R --whitespace=nowarn --include="$file" "$patch") ||
			die "$file does not hold what ${SERIES[i]%% *} changes in it"
	done
	cp -p "$scratch/$file" "$out"
	rm -rf "$scratch"
}

# build_commits FROM [SERIES]: makes the commits of the series on top of FROM; sets TIP.
build_commits()
{
	local from=$1 n words patch file mode blob tree tmp=$BUILD/series.tmp

	mapfile -t SERIES < <(series_lines "${2:-$STACK_HOME/series}")
	rm -rf "$tmp"
	mkdir -p "$tmp"
	export GIT_INDEX_FILE=$tmp/index
	lgit read-tree "$from"
	TIP=$(lgit rev-parse "$from^{commit}")
	for n in "${!SERIES[@]}"; do
		read -r -a words <<< "${SERIES[n]}"
		patch=$STACK_HOME/${words[0]}
		[ -f "$patch" ] || die "the series names ${words[0]}, which is not there"
		lgit mailinfo "$tmp/body" "$tmp/diff" < "$patch" > "$tmp/info" || die "${words[0]} is not a patch"
		if grep -q '^diff --git ' "$tmp/diff"; then
			lgit apply --cached --whitespace=nowarn "$patch" || die "${words[0]} does not apply"
		fi
		for file in "${words[@]:1}"; do
			[ -f "$STACK_HOME/$file" ] || die "the series names $file, which is not there"
			[ -z "$(lgit ls-files -- "$file")" ] || die "$file is there already; it cannot be a new file"
			file_at_entry "$n" "$file" "$tmp/file"
			mode=100644
			[ ! -x "$tmp/file" ] || mode=100755
			blob=$(lgit hash-object -w --no-filters "$tmp/file")
			lgit update-index --add --cacheinfo "$mode,$blob,$file"
		done
		tree=$(lgit write-tree)
		{
			sed -n 's/^Subject: //p' "$tmp/info"
			if [ -s "$tmp/body" ]; then
				echo
				cat "$tmp/body"
			fi
		} | git stripspace > "$tmp/message"
		TIP=$(GIT_AUTHOR_NAME=$(sed -n 's/^Author: //p' "$tmp/info") \
		      GIT_AUTHOR_EMAIL=$(sed -n 's/^Email: //p' "$tmp/info") \
		      GIT_AUTHOR_DATE=$(sed -n 's/^Date: //p' "$tmp/info") \
		      bash -c 'export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL \
			       GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE; exec git -C "$1" commit-tree -p "$2" -F "$3" "$4"' \
		      - "$STACK_TREE" "$TIP" "$tmp/message" "$tree") || die "${words[0]} cannot be committed"
	done
	unset GIT_INDEX_FILE
	rm -rf "$tmp"
}

# The same, if it has not been done for just these files on just this base; a dozen seconds each time.
built_commits()
{
	local key tip

	key=$({
		lgit rev-parse base
		cat "$STACK_HOME/series" "$HARNESS/lib/series.sh"
		series_files | (cd "$STACK_HOME" && xargs -r -d '\n' sha256sum)
		series_files | (cd "$STACK_HOME" && xargs -r -d '\n' stat -c %A)
	} | hash_stdin) || die "the series names files that are not there"
	tip=$(sed -n "s/^$key //p" "$BUILD/stamps/series-$STACK" 2>/dev/null || true)
	if [ -n "$tip" ] && lgit cat-file -e "$tip^{commit}" 2>/dev/null; then
		TIP=$tip
		mapfile -t SERIES < <(series_lines)
		return
	fi
	build_commits base
	stamp "series-$STACK" "$key $TIP"
}

# State of the work in the stack's tree. Each prints why not.
unfinished()
{
	if [ -d "$STACK_TREE/.git/rebase-merge" ] || [ -d "$STACK_TREE/.git/rebase-apply" ]; then
		echo "a rebase is going on"
	elif [ "$(lgit symbolic-ref -q --short HEAD)" != "$STACK_BRANCH" ]; then
		echo "the branch $STACK_BRANCH is not checked out"
	elif [ -n "$(lgit status --porcelain)" ]; then
		echo "there are changes that are not committed (git status)"
	fi
}

unexported()
{
	[ "$(lgit rev-parse "$STACK_BRANCH")" = "$(lgit rev-parse -q --verify refs/gmem/exported)" ] ||
		echo "there are commits that are not exported"
}

have_tree()
{
	[ -d "$STACK_TREE/.git" ]
}

# The source may change under the patches: a newer package, another GMEM_LINUX or GMEM_QEMU.
fresh_base()
{
	local why

	have_tree || { import_base; return; }
	[ -n "$(given_source)" ] || [ -n "$("fetched_$STACK_SOURCE")" ] || return 0
	[ "$(source_id)" != "$(cat "$STACK_TREE/.git/gmem-source")" ] || return 0
	why=$(unfinished)$(unexported)
	[ -z "$why" ] || die "$(source_name) has changed, but in $STACK_TREE $why; export or drop that first"
	say "$(source_name) has changed; starting anew from it"
	rm -rf "$STACK_TREE"
	import_base
}

# make_tree [soft]: the stack's tree becomes what its list says. With "soft", work that is not exported yet
# is left as it is and used, and said so.
make_tree()
{
	local why soft=${1:-}

	fresh_base
	# b4 looks for its settings at the top of the tree it works in. The kernel ignores such files.
	if [ "$STACK" = kernel ] && [ -z "$(lgit ls-files -- .b4-config)" ]; then
		cp "$ROOT/.b4-config" "$STACK_TREE/.b4-config"
	fi
	built_commits
	if [ "$(lgit rev-parse "$STACK_BRANCH")" = "$TIP" ] && [ -z "$(unfinished)" ]; then
		lgit update-ref refs/gmem/exported "$TIP"
		[ -n "$soft" ] || say "$STACK_NAME is what the series says: ${#SERIES[@]} commits on $(base_name)"
		return
	fi
	why=$(unfinished)
	[ -n "$why" ] || why=$(unexported)
	if [ -n "$why" ]; then
		if [ -n "$soft" ]; then
			say "Using $STACK_NAME as it is: $why"
			return
		fi
		die "$STACK_NAME is left alone, since $why." \
		    "Keep that work with $STACK_EXPORT, or drop it with:" \
		    "git -C $STACK_NAME checkout -f $STACK_BRANCH && git -C $STACK_NAME reset --hard refs/gmem/exported && git -C $STACK_NAME clean -fd"
	fi
	lgit reset -q --keep "$TIP"
	lgit update-ref refs/gmem/exported "$TIP"
	say "$STACK_NAME now holds the series: ${#SERIES[@]} commits on $(base_name)"
}

base_name()
{
	lgit log -1 --format=%s base
}

prepare_tree()
{
	make_tree soft
}

# ---- export ----

# directory_for SUBJECT COMMIT: where the patch lies. QEMU's lie beside their list.
directory_for()
{
	[ "$STACK_SOURCE" = linux ] || { echo .; return; }
	case $1 in
	"KVM: selftests:"*) echo tools/testing/selftests/kvm ;;
	"KVM: SEV:"*|"KVM: SVM:"*|"KVM: SNP:"*) echo arch/x86/kvm/svm ;;
	"KVM: TDX:"*|"KVM: VMX:"*) echo arch/x86/kvm/vmx ;;
	"KVM: x86"*) echo arch/x86/kvm ;;
	"KVM: arm64:"*) echo arch/arm64/kvm ;;
	"x86/sev:"*) echo arch/x86/virt/svm ;;
	"Documentation:"*|"KVM: Documentation"*) echo Documentation/virt/kvm ;;
	"KVM:"*) echo virt/kvm ;;
	*) dirname "$(lgit diff-tree --no-commit-id --name-only -r "$2" | head -n 1)" ;;
	esac
}

# put_file TMP DEST: replaces DEST only if that changes it.
put_file()
{
	mkdir -p "$(dirname "$2")"
	if cmp -s "$1" "$2" && [ "$(stat -c %A "$1")" = "$(stat -c %A "$2")" ]; then
		return
	fi
	cp -p "$1" "$2.tmp.$$"
	mv "$2.tmp.$$" "$2"
}

check_exportable()
{
	local why commit subject wrong=()

	have_tree || die "there is no $STACK_NAME; $STACK_MAKE makes it"
	why=$(unfinished)
	[ -z "$why" ] || die "nothing is exported: in $STACK_NAME $why"
	lgit merge-base --is-ancestor base "$STACK_BRANCH" || die "nothing is exported: the branch $STACK_BRANCH does not start at base"
	[ -z "$(lgit rev-list --merges "base..$STACK_BRANCH")" ] || die "nothing is exported: the branch $STACK_BRANCH has merges"
	for commit in $(lgit rev-list --reverse "base..$STACK_BRANCH"); do
		subject=$(lgit log -1 --format=%s "$commit")
		case $subject in
		fixup!*|squash!*|amend!*) wrong+=("$subject") ;;
		esac
		if lgit log -1 --format=%B "$commit" | grep -qi '^Signed-off-by:'; then
			wrong+=("$subject (has a Signed-off-by)")
		fi
		[ "$(lgit rev-parse "$commit^{tree}")" != "$(lgit rev-parse "$commit^^{tree}")" ] ||
			wrong+=("$subject (changes nothing)")
	done
	[ ${#wrong[@]} -eq 0 ] || die "nothing is exported; these commits are not ready:" "${wrong[@]}"
}

# generate TIP OUT: the commits base..TIP as patches, new files and series, in the directory OUT.
generate()
{
	local tip=$1 out=$2 commit subject dir name n=0 status file fresh changed

	rm -rf "$out"
	mkdir -p "$out"
	sed '/^[^#]/,$d' "$STACK_HOME/series" > "$out/series"
	for commit in $(lgit rev-list --reverse "base..$tip"); do
		n=$((n + 1))
		subject=$(lgit log -1 --format=%s "$commit")
		dir=$(directory_for "$subject" "$commit")
		name=$(lgit log -1 --format=%f "$commit" | cut -c1-52 | sed 's/[-.]*$//')
		name=$(printf '%04d' "$n")-$name.patch
		[ "$dir" = . ] || name=$dir/$name
		fresh=() changed=()
		while IFS=$'\t' read -r status file; do
			if lgit cat-file -e "base:$file" 2>/dev/null; then
				# Whatever happens to a file of the source is a change.
				changed+=("$file")
				continue
			fi
			case $status in
			A) fresh+=("$file") ;;
			M) changed+=("$file") ;;
			*) die "\"$subject\" removes $file, which an earlier commit adds, or changes what it is" ;;
			esac
		done < <(lgit diff-tree --no-commit-id --no-renames --name-status -r "$commit")
		mkdir -p "$out/$dir"
		{
			lgit show -s --format=email "$commit"
			echo ---
			echo
			[ ${#changed[@]} -eq 0 ] ||
				lgit diff-tree --no-commit-id -p --full-index --binary --no-renames --no-color --no-ext-diff \
					--no-textconv --diff-algorithm=myers --src-prefix=a/ --dst-prefix=b/ "$commit" -- "${changed[@]}"
		} | sed '1s/^From [0-9a-f]* /From 0000000000000000000000000000000000000000 /' > "$out/$name"
		for file in "${fresh[@]}"; do
			mkdir -p "$out/$(dirname "$file")"
			lgit show "$tip:$file" > "$out/$file"
			[ "$(lgit ls-tree "$tip" -- "$file" | cut -d' ' -f1)" != 100755 ] || chmod 755 "$out/$file"
		done
		echo "$name${fresh[*]:+ ${fresh[*]}}" >> "$out/series"
	done
}

# series_files [SERIES]: every file that belongs to it.
series_files()
{
	series_lines "${1:-$STACK_HOME/series}" | tr ' ' '\n' | sort
}

# Patches that lie with the stack, named in the series or not. Those of other topics are none of the series' business.
stray_patches()
{
	cd "$STACK_HOME" || return 1
	find . \( -path ./build -o -path ./harness -o -path ./.git \) -prune -o \
		-name '[0-9][0-9][0-9][0-9]-*.patch' -print | sed 's,^\./,,' |
		grep -vxF -f <(for topic in $(topics); do series_files "series.$topic"; done) || true
}

export_series()
{
	local out=$BUILD/export file new

	check_exportable
	generate "$STACK_BRANCH" "$out"
	new=$(series_files "$out/series")
	while read -r file; do
		if ! grep -qxF "$file" <<< "$new"; then
			rm -f "$STACK_HOME/$file"
			(cd "$STACK_HOME" && rmdir -p --ignore-fail-on-non-empty "$(dirname "$file")") 2>/dev/null || true
		fi
	done < <(series_files; stray_patches)
	while read -r file; do
		put_file "$out/$file" "$STACK_HOME/$file"
	done < <(cd "$out" && find . -type f | sed 's,^\./,,')
	rm -rf "$out"

	# What was written must give back what was there.
	build_commits base
	[ "$(lgit rev-parse "$TIP^{tree}")" = "$(lgit rev-parse "$STACK_BRANCH^{tree}")" ] ||
		die "the exported series does not give the tree that was exported; this is a bug of $STACK_EXPORT"
	[ "$(lgit log --format='%an %ae %at%n%B' "base..$TIP")" = "$(lgit log --format='%an %ae %at%n%B' "base..$STACK_BRANCH")" ] ||
		die "the exported series does not give the commit messages that were exported." \
		    "A message must not hold a line that is --- or that starts a diff, nor begin with a [tag]."
	# Same commits, the committer set to the author: from here on hashes repeat.
	lgit update-ref "refs/heads/$STACK_BRANCH" "$TIP"
	lgit update-ref refs/gmem/exported "$TIP"
	say "Exported ${#SERIES[@]} commits"
}

# ---- mailbox ----

# mbox_of LETTERS OPTION...: what git format-patch makes of these, in a form that does not depend on the run. LETTERS: 1 if a
# cover letter is the first message. The date of the last patch is in LAST.
mbox_of()
{
	local letters=$1

	shift
	# Message-Ids hold the time of day, which must not make two runs differ.
	lgit -c format.outputDirectory= -c format.signOff=false -c format.subjectPrefix=PATCH -c format.signature= -c diff.renames=true \
		format-patch --stdout --base=base --thread=shallow --no-signature --full-index --binary --stat=72 "$@" |
		sed -E "/^(Message-I[dD]|In-Reply-To|References): /s/\.[0-9]{9,}\.git\./.$LAST.git./" |
		tidy_mbox "$letters"
}

# make_mbox: to stdout, the stack's branch with its cover letter.
make_mbox()
{
	local LAST

	[ "$(lgit rev-list --count "base..$STACK_BRANCH")" -gt 0 ] || die "the series is empty: there is nothing to put in a mailbox"
	LAST=$(lgit log -1 --format=%at "$STACK_BRANCH")
	# The cover letter is the description of the branch, dated as the last patch. Its author is theirs.
	GIT_COMMITTER_NAME=$(lgit log -1 --format=%an "$STACK_BRANCH") GIT_COMMITTER_EMAIL=$(lgit log -1 --format=%ae "$STACK_BRANCH") \
	GIT_COMMITTER_DATE=$(lgit log -1 --format=%aD "$STACK_BRANCH") \
	GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=branch.$STACK_BRANCH.description GIT_CONFIG_VALUE_0=$(cat "$STACK_COVER") \
		mbox_of 1 --cover-letter --cover-from-description=subject "base..$STACK_BRANCH"
}

# git am stops at a message without a patch, as the cover letter is one. At the end of the mailbox, behind a
# "From " line with a time zone, it is a message for mail readers and for b4; git, which expects the year in
# that place, takes it for text that follows the last patch, and lets it be.
# Subjects and authors come on one line each: b4 0.12 cannot take folded ones.
tidy_mbox()
{
	awk -v letters="$1" '
		function out(line) {
			if (n > letters)
				print line
			else
				cover[++lines] = line
		}
		/^From [0-9a-f]+ Mon Sep 17 00:00:00 2001$/ { n++; header = 1 }
		held != "" && /^[ \t]/ { held = held $0; next }
		held != "" { out(held); held = "" }
		header && /^(From|Subject): / { held = $0; next }
		/^$/ { header = 0 }
		{ out($0) }
		END {
			if (!letters)
				exit
			sub(/2001$/, "UTC 2001", cover[1])
			print ""
			for (i = 1; i <= lines; i++)
				print cover[i]
		}'
}

# Patches that are not a part of the series but for the same base: each topic has a file series.TOPIC, in the format of
# series, and a mailbox without a cover letter.
topics()
{
	local file

	for file in "$STACK_HOME"/series.*; do
		[ ! -f "$file" ] || echo "${file##*/series.}"
	done
}

# build_topic TOPIC: makes its commits, which refs/gmem/TOPIC then names.
build_topic()
{
	build_commits base "$STACK_HOME/series.$1"
	lgit update-ref "refs/gmem/$1" "$TIP"
}

make_topic_mbox()
{
	local LAST

	build_topic "$1"
	LAST=$(lgit log -1 --format=%at "refs/gmem/$1")
	GIT_COMMITTER_NAME=$(lgit log -1 --format=%an "refs/gmem/$1") GIT_COMMITTER_EMAIL=$(lgit log -1 --format=%ae "refs/gmem/$1") \
		mbox_of 0 --no-cover-letter "base..refs/gmem/$1"
}

# write_mbox [TOPIC]
write_mbox()
{
	local name=${1:-$STACK_BRANCH} make=(make_mbox)

	if [ $# -gt 0 ]; then
		topics | grep -qxF -e "$1" || die "there is no topic '$1'" "There are: $(topics | tr '\n' ' ')"
		make=(make_topic_mbox "$1")
	fi
	make_tree
	if [ -t 1 ]; then
		"${make[@]}" > "$BUILD/$name.mbox.tmp"
		mv "$BUILD/$name.mbox.tmp" "$BUILD/$name.mbox"
		say "The mailbox is build/$name.mbox"
	else
		"${make[@]}"
	fi
}
