#!/bin/sh
# Prints the path of the lpeg source tarball (LPEG_SRC, cache, or archive).
here=$(dirname "$0")
exec sh "$here/../fetch-source.sh" lua-lpeg \
	4b155d67d2246c1ffa7ad7bc466c1ea899bbc40fef0257cc9c03cecbaed4352a LPEG_SRC
