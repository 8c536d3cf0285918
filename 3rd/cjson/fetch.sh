#!/bin/sh
# Prints the path of the cjson source tarball (CJSON_SRC, cache, or archive).
here=$(dirname "$0")
exec sh "$here/../fetch-source.sh" lua-cjson \
	94f1fce36742cf00e99c5071b309b9f71e6e7daf60a7151f7bf4ac0a97259ac4 CJSON_SRC
