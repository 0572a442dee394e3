# shellcheck shell=bash
# The unpatched kernel: from Debian's source package or from GMEM_LINUX, as one git commit with a hash
# that repeats.

SOURCE_PACKAGE=linux-source-7.3
SOURCE_SUITE=trixie-backports

no_source()
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

# private_apt COMMAND...: apt with a state of its own, so that nothing changes on the machine.
private_apt()
{
	local cmd=$1

	shift
	"$cmd" -q -o Dir::Etc::sourcelist="$BUILD/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State::lists="$BUILD/apt/lists" -o Dir::Cache="$BUILD/apt/cache" \
		-o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# newest APT-CACHE-COMMAND...: the newest 7.3 version that it knows, if any.
newest()
{
	"$@" madison "$SOURCE_PACKAGE" 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $2); print $2 }' |
		{ grep '^7\.3\.' || true; } | sort -Vr | sed -n 1p
}

fetched_deb()
{
	[ ! -d "$BUILD/dl" ] || find "$BUILD/dl" -maxdepth 1 -name "${SOURCE_PACKAGE}_7.3.*_all.deb" | sort -V | tail -n 1
}

fetch_source()
{
	local log=$BUILD/apt/fetch.log mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg v own got=''

	[ -z "$(fetched_deb)" ] || return 0
	command -v apt-get > /dev/null || no_source "there is no apt-get"
	need "${PACKAGES_SOURCE[@]}"
	[ -f "$keyring" ] || keyring=${keyring%.gpg}.pgp
	say "Fetching $SOURCE_PACKAGE from this machine's Debian mirror (160 MB, usually under a minute)"
	mkdir -p "$BUILD/dl" "$BUILD/apt/lists/partial" "$BUILD/apt/cache/archives/partial"
	: > "$log"
	own=$(newest apt-cache)
	while read -r mirror; do
		echo "deb [signed-by=$keyring] $mirror $SOURCE_SUITE main" > "$BUILD/apt/sources.list"
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
	[ -n "$(fetched_deb)" ] || { tail -n 5 "$log" >&2; no_source "see $log"; }
}

# What the base commit is made of; a change of it means a new base.
source_id()
{
	if [ -n "${GMEM_LINUX:-}" ]; then
		if [ -e "$GMEM_LINUX/.git" ]; then
			echo "git $(git -C "$GMEM_LINUX" rev-parse 'HEAD^{tree}')"
		else
			echo "dir $(realpath "$GMEM_LINUX")"
		fi
	else
		echo "deb $(basename "$(fetched_deb)")"
	fi
}

check_version()
{
	local v p

	v=$(sed -n 's/^VERSION = //p' "$1/Makefile" 2>/dev/null)
	p=$(sed -n 's/^PATCHLEVEL = //p' "$1/Makefile" 2>/dev/null)
	[ "$v.$p" = 7.3 ] || die "$2 is not a Linux 7.3 tree (its Makefile says '$v.$p')"
}

unpack_source()
{
	local to=$1 deb

	if [ -n "${GMEM_LINUX:-}" ]; then
		check_version "$GMEM_LINUX" "GMEM_LINUX=$GMEM_LINUX"
		if [ -e "$GMEM_LINUX/.git" ]; then
			git -C "$GMEM_LINUX" archive HEAD | tar -x -C "$to"
		else
			rsync -a --exclude=.git "$GMEM_LINUX/" "$to/"
		fi
	else
		deb=$(fetched_deb)
		# The tarball never touches the disk: deb -> tar -> tar.xz -> tree.
		dpkg-deb --fsys-tarfile "$deb" |
			tar -x -O --wildcards './usr/src/linux-source-7.3.tar.*' |
			xz -dc -T0 | tar -x -C "$to" --strip-components=1
		check_version "$to" "$deb"
	fi
}

# Makes build/linux with the base commit, tagged "base". Author and date are fixed, so that the same
# source gives the same hash everywhere.
import_base()
{
	local tmp=$BUILD/linux.tmp id

	need "${PACKAGES_SOURCE[@]}"
	[ -n "${GMEM_LINUX:-}" ] || fetch_source
	id=$(source_id)
	say "Unpacking the kernel source and importing it into git (about a minute and a half)"
	rm -rf "$tmp"
	mkdir -p "$tmp"
	unpack_source "$tmp" || die "the kernel source could not be unpacked"
	# Debian's .gitignore ends in a block that hides every file of the tree.
	sed -i -e '/^#$/{N;/\n# Debian packaging/{:a;N;$!ba;d}}' -e '/^\/\*$/d' "$tmp/.gitignore"
	git -C "$tmp" init -q -b gmem
	git -C "$tmp" config core.autocrlf false
	git -C "$tmp" config core.fileMode true
	git -C "$tmp" config core.hooksPath /dev/null
	git -C "$tmp" config gc.auto 0
	git -C "$tmp" config i18n.commitEncoding UTF-8
	git -C "$tmp" config commit.gpgSign false
	git -C "$tmp" config core.untrackedCache true
	# Forced: the kernel tracks a few files that its own .gitignore names.
	git -C "$tmp" -c core.bigFileThreshold=512m add -A -f . || die "git could not import the kernel source"
	GIT_AUTHOR_NAME='Linux source' GIT_AUTHOR_EMAIL='linux-source@localhost' \
	GIT_AUTHOR_DATE='2026-01-01T00:00:00+0000' GIT_COMMITTER_NAME='Linux source' \
	GIT_COMMITTER_EMAIL='linux-source@localhost' GIT_COMMITTER_DATE='2026-01-01T00:00:00+0000' \
		git -C "$tmp" commit -q --no-verify -m "Linux $(make -s -C "$tmp" kernelversion)" ||
		die "git could not commit the kernel source"
	git -C "$tmp" tag base
	git -C "$tmp" update-ref refs/gmem/exported HEAD
	echo "$id" > "$tmp/.git/gmem-source"
	[ -z "$(git -C "$tmp" status --porcelain)" ] || die "the import of the kernel source is not clean"
	mv "$tmp" "$LINUX"
}
