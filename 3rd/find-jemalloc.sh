#!/bin/sh
# Prints the full path of the jemalloc library that the given compiler links.
# usage: find-jemalloc.sh CC [options]
# The shared library is wanted, not the archive: the program defines malloc and
# its relatives itself, and the archive would define them a second time.
file=$("$@" -print-file-name=libjemalloc.so 2>/dev/null)
case $file in
/*) echo "$file" ;;
*) echo "-ljemalloc" ;;
esac
