#!/bin/sh
# Prints the full path of the jemalloc archive that the given compiler finds.
# usage: find-jemalloc.sh CC [options]
# The position-independent archive is wanted: jemalloc.mk makes our private copy
# of it, with prefixed names.
file=$("$@" -print-file-name=libjemalloc_pic.a 2>/dev/null)
case $file in
/*) echo "$file" ;;
*) echo "libjemalloc-is-missing" ;;
esac
