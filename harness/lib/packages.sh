# shellcheck shell=bash
# Debian packages that the steps need; nothing else is asked of the machine.

PACKAGES_SOURCE=(git xz-utils rsync ca-certificates debian-archive-keyring)
PACKAGES_BUILD=(build-essential flex bison bc libelf-dev libssl-dev uuid-dev libcap-ng-dev
	cpio xz-utils kmod rsync ccache python3)
PACKAGES_CROSS=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
PACKAGES_VM_X86=(qemu-system-x86)
PACKAGES_VM_ARM64=(qemu-system-arm)
PACKAGES_QEMU=(build-essential dpkg-dev flex bison ccache ninja-build pkgconf python3 python3-venv python3-setuptools
	zlib1g-dev libglib2.0-dev)
PACKAGES_VM_SNP=(seabios qemu-system-data)
PACKAGES_SHELL=(busybox-static)
PACKAGES_STATIC=(sparse coccinelle b4 python3-sphinx python3-yaml python3-ply python3-git shellcheck perl
	ocaml "${PACKAGES_CROSS[@]}")

# need PACKAGE...: installs those that are missing, saying so.
need()
{
	local missing=() p sudo=()

	for p in "$@"; do
		# shellcheck disable=SC2016 # the ${} is dpkg-query's own
		case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) in
		installed) ;;
		*) missing+=("$p") ;;
		esac
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	command -v apt-get > /dev/null ||
		die "these programs are missing, and there is no apt-get to install them with:" "${missing[*]}"
	if [ "$(id -u)" != 0 ]; then
		command -v sudo > /dev/null ||
			die "please install these packages as root (there is no sudo here):" \
			    "apt-get install --no-install-recommends ${missing[*]}"
		sudo=(sudo)
	fi
	say "Installing ${missing[*]} (usually under two minutes)"
	if ! install_packages; then
		# The package lists may be missing or old; one refresh, then once more.
		"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update > "$BUILD/apt-install.log" 2>&1 < /dev/null || true
		install_packages || {
			tail -n 20 "$BUILD/apt-install.log" >&2
			die "could not install ${missing[*]}; the whole output is in $BUILD/apt-install.log"
		}
	fi
}

install_packages()
{
	mkdir -p "$BUILD"
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
		-o DPkg::Lock::Timeout=300 install "${missing[@]}" >> "$BUILD/apt-install.log" 2>&1 < /dev/null
}
