#!/bin/sh
# Finds the system packages that a build needs and installs the missing ones.
#
# usage: deps.sh build|test
#   build   what `make` needs: a C compiler, jemalloc, OpenSSL, zlib, SQLite
#   test    what `make test` needs on top: cmocka, Python 3, clang, strace,
#           curl, the openssl command, protoc, node with its ws, chromium, dnsmasq
#
# Prints nothing when everything is there. Missing packages are installed
# through apt when that is possible without asking (root, or sudo without a
# password); otherwise the one command to run is printed and the exit code is 1.
# Owns nothing but the system packages; safe to run twice at the same time
# because apt itself takes a lock.
set -u

CC=${CC:-cc}
missing=

need() { missing="$missing $1"; }

has_header() { echo "#include <$1>" | "$compiler" -E -x c - >/dev/null 2>&1; }

want_header() { has_header "$1" || need "$2"; }

want_command() { command -v "$1" >/dev/null 2>&1 || need "$2"; }

# CC may be a command with options, such as "ccache gcc".
compiler=
for word in $CC; do
	compiler=$word
	case $word in *ccache | env) ;; *) break ;; esac
done

find_missing() {
	missing=
	case $1 in
	build)
		want_command "$compiler" "$(case $compiler in *clang*) echo clang ;; *) echo gcc ;; esac)"
		[ -n "${NOUSE_JEMALLOC:-}" ] || want_header jemalloc/jemalloc.h libjemalloc-dev
		if command -v "$compiler" >/dev/null 2>&1; then
			has_header stdio.h || need libc6-dev
		else
			need libc6-dev
		fi
		want_header openssl/ssl.h libssl-dev
		want_header zlib.h zlib1g-dev
		want_header sqlite3.h libsqlite3-dev
		want_command tar tar
		want_command gzip gzip
		;;
	test)
		# Without stddef.h and friends cmocka's own header does not stand alone.
		printf '#include <%s>\n' stdarg.h stddef.h stdint.h setjmp.h cmocka.h |
			"$compiler" -E -x c - >/dev/null 2>&1 || need libcmocka-dev
		want_command python3 python3
		want_command clang clang
		want_command strace strace
		want_command node nodejs
		[ -d /usr/share/nodejs/ws ] || need node-ws
		want_command chromium chromium
		want_command chromedriver chromium-driver
		[ -x /usr/sbin/nginx ] || want_command nginx nginx-light
		want_command wrk wrk
		want_command slowhttptest slowhttptest
		want_command openssl openssl
		want_command curl curl
		want_command protoc protobuf-compiler
		[ -x /usr/sbin/dnsmasq ] || want_command dnsmasq dnsmasq-base
		;;
	*)
		echo "usage: $0 build|test" >&2
		exit 2
		;;
	esac
	missing=${missing# }
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

install_missing() {
	# shellcheck disable=SC2086  # the list is meant to be split
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
		-o DPkg::Lock::Timeout=300 install --no-install-recommends $missing >&2
}

find_missing "${1:-}"
[ -n "$missing" ] || exit 0

hint="sudo apt-get update && sudo apt-get install -y $missing"
if ! command -v apt-get >/dev/null 2>&1; then
	echo "Missing; install with your system's package manager" >&2
	echo "(Debian calls these packages): $missing" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ] && ! sudo -n true >/dev/null 2>&1; then
	echo "Packages are missing and installing them needs root. Run:" >&2
	echo "  $hint" >&2
	exit 1
fi
echo "Installing $missing" >&2
# A fresh machine has no package lists yet; one with third-party archives may
# fail to update some of them without harm.
install_missing 2>/dev/null || {
	as_root apt-get -qq update >&2
	install_missing
}
find_missing "$1"
[ -z "$missing" ] || {
	echo "Could not install: $missing. Run:" >&2
	echo "  $hint" >&2
	exit 1
}
