#!/bin/sh
# Gets the upstream tarball of one Debian source package, without unpacking it.
#
# usage: fetch-source.sh PACKAGE SHA256 VARIABLE
#   PACKAGE   name of the source package
#   SHA256    checksum of the tarball we know and test with
#   VARIABLE  name of the environment variable by which a user gives a file
#
# Prints the path of the tarball on stdout; messages go to stderr. Looks at, in
# this order: the file that $VARIABLE names; the cache
# (${XDG_CACHE_HOME:-~/.cache}/skynet-3rd/); the machine's own Debian archive, in
# its own suites first and then in forky and sid.
#
# A tarball from the archive is vouched for by apt's signed index. The one we
# know is preferred; when no suite has it, the first other one is accepted with a
# notice. The checksum is kept beside the tarball in the cache, so that later runs
# can still verify it.
#
# Runs of several builds at once are serialised by a lock in the cache folder,
# and a tarball appears there under its final name only when it is complete.
set -eu

package=$1 known=$2 variable=$3
eval "given=\${$variable:-}"

say() { echo "$package: $*" >&2; }

sum_of() { sha256sum "$1" | cut -d' ' -f1; }

give_up() {
	say "cannot get the source tarball: $1"
	say "download it on any machine (the official release has the same layout), then run:"
	say "  make $variable=path/to/the/tarball"
	exit 1
}

#------------------------------------------------------------- a given tarball

if [ -n "$given" ]; then
	[ -r "$given" ] || give_up "$variable=$given cannot be read"
	[ "$(sum_of "$given")" = "$known" ] ||
		say "notice: $given is not the version we test with"
	case $given in /*) echo "$given" ;; *) echo "$PWD/$given" ;; esac
	exit 0
fi

#------------------------------------------------------------------- the cache

cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/skynet-3rd
mkdir -p "$cache" 2>/dev/null || {
	cache=$PWD/build/cache
	mkdir -p "$cache"
}
exec 9>"$cache/$package.lock"
! command -v flock >/dev/null 2>&1 || flock 9

# The tarball we know is preferred to another one that apt gave us.
find_cached() {
	found=
	for file in "$cache/$package"_*.orig.tar.*; do
		case $file in *.sha256) continue ;; esac
		[ -f "$file" ] || continue
		sum=$(sum_of "$file")
		if [ "$sum" = "$known" ]; then
			found=$file
			return
		fi
		if [ -f "$file.sha256" ] && [ "$(cat "$file.sha256")" = "$sum" ]; then
			found=$file
		else
			say "$file is damaged; removing it"
			rm -f "$file" "$file.sha256"
		fi
	done
}

find_cached
if [ -n "$found" ]; then
	echo "$found"
	exit 0
fi

#-------------------------------------------------------- the machine's archive

command -v apt-get >/dev/null 2>&1 || give_up "this machine has no apt"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# apt downloads as an unprivileged user, who must be able to enter.
chmod 755 "$work"

# Prints "URI SUITE" for every enabled binary archive with a component main
# whose suite is one of Debian's own, from classic and from deb822 source files.
# Third-party archives use other suite names, and would fail the signature check.
own_archives() {
	codename=$(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ ! -r "$file" ] || sed -e 's/#.*//' -e 's/\[[^]]*\]//' "$file"
	done | awk '$1 == "deb" && / main( |$)/ { print $2, $3 }' >"$work/all"
	for file in /etc/apt/sources.list.d/*.sources; do
		[ ! -r "$file" ] || awk '
			function flush(   i, j) {
				if (f["types"] ~ /(^| )deb( |$)/ && f["components"] ~ /(^| )main( |$)/ &&
						tolower(f["enabled"]) !~ /no|false|off|0/) {
					nu = split(f["uris"], u, " "); ns = split(f["suites"], s, " ")
					for (i = 1; i <= nu; i++)
						for (j = 1; j <= ns; j++) print u[i], s[j]
				}
				split("", f)
			}
			/^#/ { next }
			/^[ \t]*$/ { flush(); next }
			/^[ \t]/ { f[field] = f[field] " " $0; next }
			{
				field = tolower($0); sub(/:.*/, "", field)
				value = $0; sub(/^[^:]*:[ \t]*/, "", value); f[field] = value
			}
			END { flush() }' "$file"
	done >>"$work/all"
	awk -v codename="$codename" '
		$2 == codename || $2 ~ /^(oldstable|stable|testing|unstable|sid)$/ { print }' "$work/all"
}

# The key of the archive, so that only Debian itself is believed.
keyring=
for file in /usr/share/keyrings/debian-archive-keyring.gpg \
	/usr/share/keyrings/debian-archive-keyring.pgp; do
	[ ! -r "$file" ] || keyring="[signed-by=$file]"
done

# try DIR URI SUITE: downloads the tarball into the new folder DIR. What apt says
# goes to DIR/log.
try() {
	dir=$1
	mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
	echo "deb-src $keyring $2 $3 main" >"$dir/sources.list"
	# Everything that apt writes goes to the private folder; the machine's
	# proxy and preference settings still apply, its update hooks do not. A mirror
	# that lags behind will do: the index is signed, and serves for one tarball
	# whose checksum we know.
	cat >"$dir/apt.conf" <<END
Dir::State "$dir/state";
Dir::Cache "$dir/cache";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "-";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "2";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END
	(
		cd "$dir"
		apt-get -qq -c apt.conf update &&
			apt-get -qq -c apt.conf source --tar-only --download-only "$package"
	) >"$dir/log" 2>&1
}

# tarball_in DIR: prints the path of the tarball in DIR, if there is one.
tarball_in() {
	for file in "$1/$package"_*.orig.tar.*; do
		case $file in *.asc) ;; *) [ ! -f "$file" ] || echo "$file" ;; esac
	done
}

# keep FILE: moves the tarball into the cache and prints where it is now.
keep() {
	name=${1##*/}
	cp "$1" "$cache/.$name.$$"
	sum_of "$1" >"$cache/$name.sha256"
	mv "$cache/.$name.$$" "$cache/$name"
	echo "$cache/$name"
}

own_archives >"$work/own"
[ -s "$work/own" ] || give_up "no Debian archive in this machine's apt sources"
uris=$(cut -d' ' -f1 "$work/own" | sort -u)
{
	cat "$work/own"
	for suite in forky sid; do
		for uri in $uris; do
			echo "$uri $suite"
		done
	done
} >"$work/candidates"

say "looking for the source tarball in this machine's Debian archive"
other=
tries=0
while read -r uri suite; do
	tries=$((tries + 1))
	dir=$work/try$tries
	if try "$dir" "$uri" "$suite"; then
		file=$(tarball_in "$dir")
		if [ -n "$file" ] && [ "$(sum_of "$file")" = "$known" ]; then
			say "got ${file##*/} from $suite"
			keep "$file"
			exit 0
		fi
		other=${other:-$file}
	fi
done <"$work/candidates"
if [ -n "$other" ]; then
	say "notice: ${other##*/} is not the version we test with"
	keep "$other"
	exit 0
fi
tail -n 3 "$dir/log" >&2
give_up "none of the suites $(cut -d' ' -f2 "$work/candidates" | tr '\n' ' ')has it"
