#include "skynet_config_hint.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "socket_option.h"

/* The keys of the README's table, but for socket_*, of which socket_option.h has more. */
static const char *const keys[] = {
    "thread",
    "harbor",
    "start",
    "start_failure",
    "bootstrap",
    "cpath",
    "luaservice",
    "lua_path",
    "lua_cpath",
    "lualoader",
    "preload",
    "snax",
    "snax_loader",
    "snax_interface_g",
    "debug_console_secret",
    "debug_console_timeout",
    "debug_console_wait",
    "enablessl",
    "logger",
    "logservice",
    "logqueue",
    "logpath",
    "daemon",
    "profile",
    "endless_check",
    "idle_gc",
    "memory_quota",
    "memory_quota_warn",
    "memory_reserve",
    "memory_hugepages",
    "memory_quarantine",
    "socket_thread",
    "shutdown_timeout",
};

#define KEYS (sizeof(keys) / sizeof(keys[0]))

/* Shorter ones are near too many. */
#define MIN_KEY 4
/* From this length on two slips are believed. */
#define LONG_KEY 9
/* Three are no slips any more. */
#define TOO_MANY 3

static int
least(int a, int b) {
	return a < b ? a : b;
}

/* Slips between two texts: a byte too much, missing, wrong, or two that changed places. */
static int
slips(const char *a, size_t n, const char *b, size_t m) {
	int d[SKYNET_CONFIG_KEY][SKYNET_CONFIG_KEY];
	for (size_t i = 0; i <= n; i++) {
		d[i][0] = (int)i;
	}
	for (size_t j = 0; j <= m; j++) {
		d[0][j] = (int)j;
	}
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			int same = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			d[i][j] = least(same, least(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
			}
		}
	}
	return d[n][m];
}

/* The key with that number, written to `name`; false behind the last. */
static bool
key_at(size_t i, char name[SKYNET_CONFIG_KEY]) {
	if (i < KEYS) {
		snprintf(name, SKYNET_CONFIG_KEY, "%s", keys[i]);
		return true;
	}
	const struct socket_option_info *info = socket_option_info((int)(i - KEYS));
	if (info != NULL) {
		snprintf(name, SKYNET_CONFIG_KEY, "socket_%s", info->key);
	}
	return info != NULL;
}

bool
skynet_config_hint(const char *key, char hint[SKYNET_CONFIG_KEY]) {
	char name[SKYNET_CONFIG_KEY];
	size_t n = strlen(key);
	int fewest = TOO_MANY;
	if (n < MIN_KEY || n >= SKYNET_CONFIG_KEY) {
		return false;
	}
	for (size_t i = 0; key_at(i, name); i++) {
		size_t m = strlen(name);
		int wrong = slips(key, n, name, m);
		if (wrong == 0) {
			return false;
		}
		if (wrong < fewest && wrong <= (m < LONG_KEY ? 1 : 2)) {
			fewest = wrong;
			memcpy(hint, name, m + 1);
		}
	}
	return fewest < TOO_MANY;
}
