# shellcheck shell=bash
# QEMU with a stack of patches (harness/qemu), where Debian's own lacks what is to be emulated.

# Whatever is there with a list of patches.
qemu_stacks()
{
	local list

	for list in "$HARNESS"/qemu/*/series; do
		[ ! -f "$list" ] || basename "$(dirname "$list")"
	done
}

# qemu_command [export|mbox|build] [STACK]
qemu_command()
{
	local what='' stack=snp-host word

	for word in "$@"; do
		case $word in
		export|mbox|build) what=$word ;;
		*) stack=$word ;;
		esac
	done
	qemu_stacks | grep -qxF -e "$stack" || die "there are no patches '$stack' for QEMU" "There are: $(qemu_stacks | tr '\n' ' ')"
	case $what in
	'') in_stack "$stack" make_tree ;;
	export) in_stack "$stack" export_series ;;
	mbox) in_stack "$stack" write_mbox ;;
	build) build_qemu "$stack" ;;
	esac
}

# build_qemu STACK: sets EMULATOR, the program.
build_qemu()
{
	in_stack "$1" build_qemu_tree
}

# What a stack's emulator is called and how it is configured: nothing but what it needs.
qemu_options()
{
	QEMU_OPTIONS=(--without-default-features --without-default-devices --enable-system --enable-tcg --disable-kvm
		--disable-docs --disable-tools --disable-download --disable-install-blobs --disable-werror
		--python=/usr/bin/python3 --cc='ccache gcc')
	case $STACK in
	snp-host)
		QEMU_PROGRAM=qemu-system-x86_64
		QEMU_OPTIONS+=(--target-list=x86_64-softmmu --with-devices-x86_64=snp)
		;;
	*) die "harness/lib/qemu.sh does not say how to configure '$STACK'" ;;
	esac
}

build_qemu_tree()
{
	local obj=${STACK_TREE%/src}/obj log=${STACK_TREE%/src}/build.log QEMU_PROGRAM QEMU_OPTIONS MESON want total=1293

	qemu_options
	EMULATOR=$obj/$QEMU_PROGRAM
	prepare_tree
	need "${PACKAGES_QEMU[@]}"
	kernel_env
	want="$(KARCH=x86 tree_state) $(hash_stdin <<< "${QEMU_OPTIONS[*]}")"
	if stamped "qemu-$STACK" "$want" && [ -x "$EMULATOR" ]; then
		say "QEMU with $STACK is built already"
		return
	fi
	unstamp "qemu-$STACK"
	find_meson
	configure_qemu "$STACK_TREE" "$obj" "$log"
	say "Building QEMU with $STACK (from nothing: two to three minutes on 2 cores; after a change, seconds)"
	[ ! -f "$EMULATOR" ] || total=0
	with_progress "$log" steps "$total" '^\[[0-9]+/' make_qemu "$obj" || {
		log_tail "$log"
		die "QEMU with $STACK does not build; the whole log is $log"
	}
	! qemu_warnings "$log" >&2 || die "QEMU with $STACK builds with warnings in the files that it changes"
	stamp "qemu-$STACK" "$want"
}

# configure_qemu SOURCE OBJ LOG: once for these options and tools.
configure_qemu()
{
	local key name=qemu-configured-${2//\//_}

	key=$({
		echo "$1 ${QEMU_OPTIONS[*]} $MESON"
		python3 --version
	} | hash_stdin)
	if stamped "$name" "$key" && [ -f "$2/build.ninja" ]; then
		return
	fi
	unstamp "$name"
	say "Configuring QEMU with $STACK (20 seconds)"
	rm -rf "$2"
	mkdir -p "$2"
	(cd "$2" && PYTHONPATH=$MESON "$1/configure" "${QEMU_OPTIONS[@]}") > "$3" 2>&1 < /dev/null || {
		tail -n 20 "$3" >&2
		die "QEMU cannot be configured; the whole output is in $3"
	}
	stamp "$name" "$key"
}

make_qemu()
{
	PYTHONPATH=$MESON ninja -C "$1" -j"$JOBS" "$QEMU_PROGRAM"
}

# qemu_warnings LOG: prints those in files that the stack changes. Of the rest, a newer compiler may think what it wants.
qemu_warnings()
{
	grep 'warning:' "$1" | grep -F -f <(lgit diff --name-only base "$STACK_BRANCH")
}

MESON_WANTED=1.5

# find_meson: MESON is where Python finds Debian's, unpacked for this build alone, if the machine's own is missing or too old.
find_meson()
{
	local own APT=$BUILD/apt/qemu KEYRING deb

	MESON=''
	own=$(python3 -c 'import mesonbuild.coredata; print(mesonbuild.coredata.version)' 2> /dev/null || echo 0)
	! dpkg --compare-versions "$own" ge "$MESON_WANTED" || return 0
	MESON=$BUILD/qemu/meson/usr/lib/python3/dist-packages
	[ ! -d "$MESON" ] || return 0
	deb=$(fetched_meson)
	if [ -z "$deb" ]; then
		prepare_apt || no_meson
		say "Fetching meson from this machine's Debian mirror (QEMU wants $MESON_WANTED; here is $own)"
		debian_has deb get_meson || no_meson
		deb=$(fetched_meson)
	fi
	rm -rf "$BUILD/qemu/meson.tmp" "$BUILD/qemu/meson"
	mkdir -p "$BUILD/qemu/meson.tmp"
	dpkg-deb -x "$deb" "$BUILD/qemu/meson.tmp" || die "$deb cannot be unpacked"
	mv "$BUILD/qemu/meson.tmp" "$BUILD/qemu/meson"
}

fetched_meson()
{
	[ ! -d "$BUILD/dl" ] || find "$BUILD/dl" -maxdepth 1 -name 'meson_*_all.deb' | sort -V | tail -n 1
}

get_meson()
{
	(cd "$BUILD/dl" && private_apt apt-get download meson) >> "$APT/fetch.log" 2>&1 < /dev/null && [ -n "$(fetched_meson)" ]
}

no_meson()
{
	die "QEMU is built with meson $MESON_WANTED or later, which this machine does not have and which could not be fetched." \
	    "Put Debian's package meson_*_all.deb (suite $QEMU_SUITE or later) into $BUILD/dl/; see also $BUILD/apt/qemu/fetch.log"
}
