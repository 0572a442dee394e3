# shellcheck shell=bash
# What the patches are made for: the kernel and QEMU, from Debian's packages or from GMEM_LINUX and GMEM_QEMU, each as one
# git commit with a hash that repeats. Which of the two: STACK_SOURCE, linux or qemu.

SOURCE_PACKAGE=linux-source-7.3
SOURCE_SUITE=trixie-backports
QEMU_SERIES=10.0
QEMU_SUITE=trixie

# The tree that the user names, if any.
given_source()
{
	case $STACK_SOURCE in
	linux) echo "${GMEM_LINUX:-}" ;;
	qemu) echo "${GMEM_QEMU:-}" ;;
	esac
}

source_name()
{
	case $STACK_SOURCE in
	linux) echo "the kernel source" ;;
	qemu) echo "QEMU's source" ;;
	esac
}

no_linux()
{
	die "there is no kernel source, and it could not be fetched ($1)." \
	    "Either put Debian's package ${SOURCE_PACKAGE}_7.3.*_all.deb (suite $SOURCE_SUITE or later)" \
	    "into $BUILD/dl/, or name a Linux 7.3 tree (a directory, git or not): GMEM_LINUX=DIR ./gmem ..."
}

# Prints the mirrors that this machine is set up with, one a line, those that hold Debian itself first.
mirrors()
{
	local f

	for f in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/*.sources; do
		[ -f "$f" ] && sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' "$f"
	done
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$f" ] && sed -n 's/^deb[[:space:]]\+\(\[[^]]*\][[:space:]]*\)\?\([^[:space:]]*\).*/\2/p' "$f"
	done
}

# private_apt COMMAND...: apt with a state of its own in APT, so that nothing changes on the machine.
private_apt()
{
	local cmd=$1

	shift
	"$cmd" -q -o Dir::Etc::sourcelist="$APT/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State::lists="$APT/lists" -o Dir::Cache="$APT/cache" \
		-o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

prepare_apt()
{
	command -v apt-get > /dev/null || return 1
	need "${PACKAGES_SOURCE[@]}"
	KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
	[ -f "$KEYRING" ] || KEYRING=${KEYRING%.gpg}.pgp
	mkdir -p "$BUILD/dl" "$APT/lists/partial" "$APT/cache/archives/partial"
}

# newest APT-CACHE-COMMAND...: the newest 7.3 version that it knows, if any.
newest()
{
	"$@" madison "$SOURCE_PACKAGE" 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $2); print $2 }' |
		{ grep '^7\.3\.' || true; } | sort -Vr | sed -n 1p
}

fetched_linux()
{
	[ ! -d "$BUILD/dl" ] || find "$BUILD/dl" -maxdepth 1 -name "${SOURCE_PACKAGE}_7.3.*_all.deb" | sort -V | tail -n 1
}

fetch_linux()
{
	local APT=$BUILD/apt log=$BUILD/apt/fetch.log KEYRING mirror v own got=''

	[ -z "$(fetched_linux)" ] || return 0
	prepare_apt || no_linux "there is no apt-get"
	say "Fetching $SOURCE_PACKAGE from this machine's Debian mirror (160 MB, usually under a minute)"
	: > "$log"
	own=$(newest apt-cache)
	while read -r mirror; do
		echo "deb [signed-by=$KEYRING] $mirror $SOURCE_SUITE main" > "$APT/sources.list"
		private_apt apt-get update >> "$log" 2>&1 < /dev/null || continue
		v=$(newest private_apt apt-cache)
		[ -n "$v" ] || continue
		if [ -n "$own" ] && dpkg --compare-versions "$own" gt "$v"; then
			break
		fi
		# apt leaves a partial file that it goes on with, then renames it: nothing to clean up here.
		(cd "$BUILD/dl" && private_apt apt-get download "$SOURCE_PACKAGE=$v") >> "$log" 2>&1 < /dev/null &&
			got=1
		break
	done < <(mirrors | awk '!seen[$0]++')
	if [ -z "$got" ] && [ -n "$own" ]; then
		(cd "$BUILD/dl" && apt-get -q download "$SOURCE_PACKAGE=$own") >> "$log" 2>&1 < /dev/null || true
	fi
	[ -n "$(fetched_linux)" ] || { tail -n 5 "$log" >&2; no_linux "see $log"; }
}

no_qemu()
{
	die "there is no QEMU source, and it could not be fetched ($1)." \
	    "Either put the three files of Debian's source package qemu $QEMU_SERIES.* (suite $QEMU_SUITE; .dsc, .orig.tar.xz and" \
	    ".debian.tar.xz) into $BUILD/dl/, or name a QEMU $QEMU_SERIES tree (a directory, git or not): GMEM_QEMU=DIR ./gmem ..."
}

fetched_qemu()
{
	[ ! -d "$BUILD/dl" ] || find "$BUILD/dl" -maxdepth 1 -name "qemu_$QEMU_SERIES.*.dsc" | sort -V | tail -n 1
}

# debian_has KIND COMMAND...: for the mirrors of this machine, one after the other, until COMMAND finds what it wants. KIND: deb
# or deb-src.
debian_has()
{
	local kind=$1 mirror

	shift
	while read -r mirror; do
		echo "$kind [signed-by=$KEYRING] $mirror $QEMU_SUITE main" > "$APT/sources.list"
		private_apt apt-get update > "$APT/fetch.log" 2>&1 < /dev/null || continue
		! "$@" || return 0
	done < <(mirrors | awk '!seen[$0]++')
	return 1
}

# apt knows the files' checksums from the signed list of the suite, and looks.
get_qemu()
{
	local v

	v=$(private_apt apt-cache madison qemu 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $2); print $2 }' |
		{ grep -E "^([0-9]+:)?${QEMU_SERIES//./\\.}\\." || true; } | sort -Vr | sed -n 1p)
	[ -n "$v" ] || return 1
	rm -rf "$APT/got"
	mkdir -p "$APT/got"
	(cd "$APT/got" && private_apt apt-get source --download-only "qemu=$v") >> "$APT/fetch.log" 2>&1 < /dev/null || return 1
	# The .dsc last: it is what says that all are there.
	mv "$APT"/got/*.tar.* "$BUILD/dl/" && mv "$APT"/got/*.dsc "$BUILD/dl/"
}

fetch_qemu()
{
	local APT=$BUILD/apt/qemu KEYRING

	[ -z "$(fetched_qemu)" ] || return 0
	prepare_apt || no_qemu "there is no apt-get"
	say "Fetching the source of QEMU $QEMU_SERIES from this machine's Debian mirror (40 MB, usually under a minute)"
	debian_has deb-src get_qemu || {
		tail -n 5 "$APT/fetch.log" >&2
		no_qemu "see $APT/fetch.log"
	}
}

# What the base commit is made of; a change of it means a new base.
source_id()
{
	local given

	given=$(given_source)
	if [ -z "$given" ]; then
		echo "deb $(basename "$("fetched_$STACK_SOURCE")")"
	elif [ -e "$given/.git" ]; then
		echo "git $(git -C "$given" rev-parse 'HEAD^{tree}')"
	else
		echo "dir $(realpath "$given")"
	fi
}

# check_version DIR NAME: it is what the patches are made for.
check_version()
{
	local v p

	case $STACK_SOURCE in
	linux)
		v=$(sed -n 's/^VERSION = //p' "$1/Makefile" 2>/dev/null)
		p=$(sed -n 's/^PATCHLEVEL = //p' "$1/Makefile" 2>/dev/null)
		[ "$v.$p" = 7.3 ] || die "$2 is not a Linux 7.3 tree (its Makefile says '$v.$p')"
		;;
	qemu)
		v=$(cat "$1/VERSION" 2>/dev/null || true)
		case $v in
		"$QEMU_SERIES".*) ;;
		*) die "$2 is not a QEMU $QEMU_SERIES tree (its VERSION says '$v')" ;;
		esac
		;;
	esac
}

# unpack_linux DIR, unpack_qemu DIR: Debian's.
unpack_linux()
{
	# The tarball never touches the disk: deb -> tar -> tar.xz -> tree.
	dpkg-deb --fsys-tarfile "$(fetched_linux)" |
		tar -x -O --wildcards './usr/src/linux-source-7.3.tar.*' |
		xz -dc -T0 | tar -x -C "$1" --strip-components=1
}

# dpkg-source compares the files with the checksums in the .dsc, and applies Debian's patches.
unpack_qemu()
{
	need "${PACKAGES_SOURCE[@]}" dpkg-dev
	rmdir "$1"
	dpkg-source --no-copy -x "$(fetched_qemu)" "$1" > "$BUILD/qemu/unpack.log" 2>&1 || {
		tail -n 5 "$BUILD/qemu/unpack.log" >&2
		return 1
	}
	rm -rf "$1/.pc" "$1/debian"
}

unpack_source()
{
	local to=$1 given

	given=$(given_source)
	if [ -z "$given" ]; then
		"unpack_$STACK_SOURCE" "$to" || return 1
		check_version "$to" "$("fetched_$STACK_SOURCE")"
		return
	fi
	check_version "$given" "GMEM_${STACK_SOURCE^^}=$given"
	if [ -e "$given/.git" ]; then
		git -C "$given" archive HEAD | tar -x -C "$to"
	else
		rsync -a --exclude=.git "$given/" "$to/"
	fi
}

source_version()
{
	case $STACK_SOURCE in
	linux) echo "Linux $(make -s -C "$1" kernelversion)" ;;
	qemu) echo "QEMU $(cat "$1/VERSION")" ;;
	esac
}

# Makes the stack's tree with the base commit, tagged "base". Author and date are fixed, so that the same
# source gives the same hash everywhere.
import_base()
{
	local tmp=$STACK_TREE.tmp id who=Linux how='about a minute and a half'

	[ "$STACK_SOURCE" = linux ] || who=QEMU how='half a minute'
	need "${PACKAGES_SOURCE[@]}"
	[ -n "$(given_source)" ] || "fetch_$STACK_SOURCE"
	id=$(source_id)
	say "Unpacking $(source_name) and importing it into git ($how)"
	rm -rf "$tmp"
	mkdir -p "$tmp"
	unpack_source "$tmp" || die "$(source_name) could not be unpacked"
	# Debian's .gitignore ends in a block that hides every file of the tree.
	[ "$STACK_SOURCE" != linux ] ||
		sed -i -e '/^#$/{N;/\n# Debian packaging/{:a;N;$!ba;d}}' -e '/^\/\*$/d' "$tmp/.gitignore"
	git -C "$tmp" init -q -b "$STACK_BRANCH"
	git -C "$tmp" config core.autocrlf false
	git -C "$tmp" config core.fileMode true
	git -C "$tmp" config core.hooksPath /dev/null
	git -C "$tmp" config gc.auto 0
	git -C "$tmp" config i18n.commitEncoding UTF-8
	git -C "$tmp" config commit.gpgSign false
	git -C "$tmp" config core.untrackedCache true
	# Forced: both track a few files that their own .gitignore names.
	git -C "$tmp" -c core.bigFileThreshold=512m add -A -f . || die "git could not import $(source_name)"
	GIT_AUTHOR_NAME="$who source" GIT_AUTHOR_EMAIL="$STACK_SOURCE-source@localhost" \
	GIT_AUTHOR_DATE='2026-01-01T00:00:00+0000' GIT_COMMITTER_NAME="$who source" \
	GIT_COMMITTER_EMAIL="$STACK_SOURCE-source@localhost" GIT_COMMITTER_DATE='2026-01-01T00:00:00+0000' \
		git -C "$tmp" commit -q --no-verify -m "$(source_version "$tmp")" ||
		die "git could not commit $(source_name)"
	git -C "$tmp" tag base
	git -C "$tmp" update-ref refs/gmem/exported HEAD
	echo "$id" > "$tmp/.git/gmem-source"
	[ -z "$(git -C "$tmp" status --porcelain)" ] || die "the import of $(source_name) is not clean"
	mv "$tmp" "$STACK_TREE"
}
