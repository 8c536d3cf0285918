#include "skynet_config_hint.h"

#include <stddef.h>
#include <stdio.h>

#include "near_name.h"
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
	struct near_name near;
	char name[SKYNET_CONFIG_KEY];
	near_begin(&near, key);
	for (size_t i = 0; key_at(i, name); i++) {
		near_offer(&near, name);
	}
	const char *meant = near_result(&near);
	if (meant != NULL) {
		snprintf(hint, SKYNET_CONFIG_KEY, "%s", meant);
	}
	return meant != NULL;
}
