#!/bin/sh
# Unpacks one folder of a source tarball.
# usage: unpack.sh TARBALL DEST [FOLDER]
# FOLDER is relative to the tarball's top folder; without it the whole is taken.
# DEST is replaced only when everything went well.
set -eu

tarball=$1 dest=$2 folder=${3:-.}
temp=$dest.$$
rm -rf "$temp"
mkdir -p "$temp"
trap 'rm -rf "$temp"' EXIT
# The files are as new as the folder, so that what was made of older ones is made again.
tar -xmf "$tarball" -C "$temp" --strip-components 1 --no-same-owner
[ -d "$temp/$folder" ] || {
	echo "$tarball: no folder $folder in it; is it the right tarball?" >&2
	exit 1
}
rm -rf "$dest"
if [ "$folder" = . ]; then
	mv "$temp" "$dest"
else
	mv "$temp/$folder" "$dest"
fi
