#!/bin/sh
# Decides whether the overlay fits the unpacked Lua.
#
# usage: probe.sh SRC WORK CC [options]
#   SRC   folder with Lua's sources
#   WORK  folder to work in; made, and removed again
# The environment gives the names of the units: LUA_STOCK (compiled as they
# are), LUA_OURS (in the overlay folder).
#
# Prints "share" or "stock". The release that the overlay was written for needs
# no check. Any other one is built with the overlay and Lua's assertions, and has
# to pass selfcheck.c; if it does not, a notice says so and sharing stays off.
set -u

verified="5.5.1"
src=$1 work=$2
shift 2
overlay=$(dirname "$0")/overlay

number() { sed -n "s/^#define LUA_VERSION_$1_N[[:space:]]*\([0-9]*\).*/\1/p" "$src/lua.h"; }

release=$(number MAJOR).$(number MINOR).$(number RELEASE)
case " $verified " in *" $release "*)
	echo share
	exit 0
	;;
esac

say() { echo "lua: $*" >&2; }

mkdir -p "$work"
trap 'rm -rf "$work"' EXIT

files=
for unit in $LUA_STOCK; do
	files="$files $src/$unit.c"
done
for unit in $LUA_OURS; do
	files="$files $overlay/$unit.c"
done

say "checking whether the overlay fits Lua $release"
# shellcheck disable=SC2086  # a list of files
if ! "$@" -std=gnu11 -O0 -DLUAI_ASSERT -DLUA_USE_POSIX -DLUA_USE_DLOPEN \
	-Werror=implicit-function-declaration -Werror=incompatible-pointer-types -Werror=int-conversion \
	-I"$src" $files "$overlay/selfcheck.c" -o "$work/selfcheck" -lpthread -lm -ldl \
	>"$work/log" 2>&1; then
	why="it does not compile: $(grep -m 1 error "$work/log")"
elif ! "$work/selfcheck" "$work" >"$work/log" 2>&1; then
	why="its check fails: $(tail -n 1 "$work/log")"
else
	say "it does"
	echo share
	exit 0
fi
say "notice: the overlay does not fit Lua $release, $why"
say "notice: building Lua $release without sharing between states"
echo stock
