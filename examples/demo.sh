#!/bin/sh
# demo: the example server and its real client in one terminal, as `make demo`
# shows them. Starts the server on a free port, plays a scripted session, prints
# both sides and ends with status 0, or with 1 when an expected line is missing.
# Usage: sh examples/demo.sh [skynet binary]

SKYNET=${1:-./skynet}
LUA=3rd/lua/lua
# Seconds after which a session that hangs is ended.
LIMIT=60

dir=$(mktemp -d) || exit 1
mkfifo "$dir/server" "$dir/ready" "$dir/in" "$dir/out" || exit 1

cleanup() {
	[ -n "$guard" ] && kill "$guard" 2>/dev/null
	[ -n "$client" ] && kill "$client" 2>/dev/null
	[ -n "$server" ] && kill "$server" 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT

fail() {
	echo "demo: $1" >&2
	exit 1
}
trap 'fail "no end after $LIMIT seconds"' ALRM
trap 'exit 1' INT TERM

# The server's lines go to the terminal; the one that tells the port also to us.
# An empty answer there: the server ended before it was ready.
{
	told=
	while IFS= read -r line; do
		echo "server | $line"
		case $line in
		*"Watchdog listen on"*)
			echo "${line##*:}" >"$dir/ready"
			told=1
			;;
		esac
	done
	[ -n "$told" ] || : >"$dir/ready"
} <"$dir/server" &
relay=$!
"$SKYNET" examples/config.demo >"$dir/server" 2>&1 </dev/null &
server=$!
main=$$
(
	trap 'kill $nap 2>/dev/null' EXIT
	trap 'exit 0' TERM
	sleep $LIMIT &
	nap=$!
	wait $nap
	kill -ALRM $main
) &
guard=$!

read -r port <"$dir/ready" || fail "the server did not start"
"$LUA" examples/client.lua 127.0.0.1 "$port" <"$dir/in" >"$dir/out" 2>&1 &
client=$!
exec 3>"$dir/in" 4<"$dir/out"

# Read the client's lines until one that contains the words of $1.
expect() {
	while IFS= read -r line <&4; do
		echo "client | $line"
		case $(echo "$line" | tr '\t' ' ') in
		*"$1"*) return ;;
		esac
	done
	fail "the client ended before saying: $1"
}

say() {
	echo "you    > $1"
	echo "$1" >&3
}

expect "msg Welcome to skynet"
expect "RESPONSE 2"
say hello
expect "result world"
expect "REQUEST heartbeat"
say quit
expect "Server closed"
while IFS= read -r line <&4; do
	echo "client | $line"
done
wait $client
client=

kill -TERM $server
wait $server || fail "the server ended with status $?"
server=
wait $relay
echo "demo: done"
