#!/bin/sh
# Prints the path of the Lua 5.5 source tarball (LUA_SRC, cache, or archive).
here=$(dirname "$0")
exec sh "$here/../fetch-source.sh" lua5.5 \
	1c4b4068d67061f2a2231ad2b5422e77acea1487ea9890f6320af614f4373dce LUA_SRC
