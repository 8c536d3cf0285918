// The table of socket options.
#include "socket_option.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((int64_t)1024)
#define MIB (1024 * KIB)
#define SECOND ((int64_t)1000)
#define BYTES_MAX ((int64_t)UINT32_MAX)
// Half of what the counter of undelivered bytes holds.
#define RECEIVE_MAX ((int64_t)1 << 31)
#define TIME_MAX ((int64_t)INT_MAX)
// Of the kernel: seconds in 15 bits.
#define KEEPALIVE_MAX (32767 * SECOND)
#define KEEPALIVE_PROBES_MAX 127
#define RATE_MAX 1000000

#define SOCKET SOCKET_OPTION_OF_SOCKET
#define LISTENER SOCKET_OPTION_OF_LISTENER
#define MAKING SOCKET_OPTION_OF_NEW_LISTENER
#define NUMBER SOCKET_OPTION_IS_NUMBER
#define TIME SOCKET_OPTION_IS_TIME
#define FLAG SOCKET_OPTION_IS_FLAG
#define POLICY SOCKET_OPTION_IS_POLICY

// The presets bound what one peer can cost and are far from what a game needs: a
// player who is 64 MiB behind has left; four probes in four minutes unanswered
// mean the same. No number of seconds of silence fits every game, so the idle
// limit is off; no peer on the same machine counts for the limits per peer.
static const struct socket_option_info table[SOCKET_OPTION_COUNT] = {
    [SOCKET_OPTION_SEND_LIMIT] = {"send_limit", NUMBER, SOCKET, BYTES_MAX, 64 * MIB},
    [SOCKET_OPTION_SEND_POLICY] = {"send_policy", POLICY, SOCKET, SOCKET_SEND_DROP,
                                   SOCKET_SEND_CLOSE},
    [SOCKET_OPTION_RECEIVE_LIMIT] = {"receive_limit", NUMBER, SOCKET, RECEIVE_MAX, MIB},
    [SOCKET_OPTION_IDLE] = {"idle", TIME, SOCKET, TIME_MAX, 0},
    [SOCKET_OPTION_LINGER] = {"linger", TIME, SOCKET, TIME_MAX, 60 * SECOND},
    [SOCKET_OPTION_CONNECT_TIMEOUT] = {"connect_timeout", TIME, SOCKET, TIME_MAX, 60 * SECOND},
    [SOCKET_OPTION_NODELAY] = {"nodelay", FLAG, SOCKET, 1, 1},
    [SOCKET_OPTION_KEEPALIVE] = {"keepalive", TIME, SOCKET, KEEPALIVE_MAX, 120 * SECOND},
    [SOCKET_OPTION_KEEPALIVE_INTERVAL] = {"keepalive_interval", TIME, SOCKET, KEEPALIVE_MAX, 0},
    [SOCKET_OPTION_KEEPALIVE_COUNT] = {"keepalive_count", NUMBER, SOCKET, KEEPALIVE_PROBES_MAX, 4},
    [SOCKET_OPTION_EXCLUSIVE] = {"exclusive", FLAG, SOCKET, 1, 0},
    [SOCKET_OPTION_MAX_CONNECTIONS] = {"max_connections", NUMBER, LISTENER, INT_MAX, 65536},
    [SOCKET_OPTION_MAX_PER_PEER] = {"max_per_peer", NUMBER, LISTENER, INT_MAX, 16384},
    [SOCKET_OPTION_PEER_RATE] = {"peer_rate", NUMBER, LISTENER, RATE_MAX, 2000},
    [SOCKET_OPTION_PEER_BURST] = {"peer_burst", NUMBER, LISTENER, RATE_MAX, 16384},
    [SOCKET_OPTION_BACKLOG] = {"backlog", NUMBER, MAKING, INT_MAX, 32},
    [SOCKET_OPTION_REUSEPORT] = {"reuseport", FLAG, MAKING, 1, 0},
    [SOCKET_OPTION_V6ONLY] = {"v6only", FLAG, MAKING, 1, -1},
};

const struct socket_option_info *
socket_option_info(int name) {
	return name < 0 || name >= SOCKET_OPTION_COUNT ? NULL : &table[name];
}

int
socket_option_find(const char *key) {
	for (int i = 0; i < SOCKET_OPTION_COUNT; i++) {
		if (strcmp(table[i].key, key) == 0) {
			return i;
		}
	}
	return -1;
}

// The index of `text` in a list of two, or -1.
static int
choose(const char *text, const char *zero, const char *one) {
	return strcmp(text, zero) == 0 ? 0 : strcmp(text, one) == 0 ? 1 : -1;
}

bool
socket_option_parse(int name, const char *text, int64_t *value) {
	const struct socket_option_info *info = &table[name];
	if (info->kind == FLAG || info->kind == POLICY) {
		*value = info->kind == FLAG ? choose(text, "false", "true") : choose(text, "close", "drop");
		return *value >= 0;
	}
	char *end;
	double n = strtod(text, &end) * (info->kind == TIME ? (double)SECOND : 1);
	if (end == text || *end != '\0' || !(n >= 0) || n > (double)info->max) {
		return false;
	}
	*value = (int64_t)n;
	return info->kind == TIME || (double)*value == n;
}
