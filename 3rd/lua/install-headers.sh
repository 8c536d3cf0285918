#!/bin/sh
# Puts the headers that modules need beside the interpreter.
# usage: install-headers.sh stock|share SRC DEST
# A file that would not change is left alone, so that nothing is rebuilt for it.
# Prints the names of those that changed.
set -eu

mode=$1 src=$2 dest=$3
mkdir -p "$dest"

# install NAME: standard input becomes $dest/NAME, at once or not at all.
install() {
	temp=$dest/.$1.$$
	cat >"$temp"
	if cmp -s "$temp" "$dest/$1"; then
		rm -f "$temp"
	else
		mv "$temp" "$dest/$1"
		echo "$1"
	fi
}

for header in lua.h luaconf.h lauxlib.h lua.hpp; do
	install "$header" <"$src/$header"
done
{
	cat "$src/lualib.h"
	cat <<END

/* Added by the build: sharing between states. */
#ifndef LUA_SHARE_H
#define LUA_SHARE_H
$([ "$mode" = stock ] || echo '#define LUA_CACHELIB	"skynet.codecache"')
#include "lshare.h"
#endif
END
} | install lualib.h
install lshare.h <"$(dirname "$0")/overlay/lshare.h"
