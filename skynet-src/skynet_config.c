/*
 * The configuration file runs in a private Lua state, closed before the node
 * starts. Its chunk sees an environment table that stays empty: reads and
 * writes are redirected to a second table, so that for each key the file and
 * line of its last assignment can be noted and named in errors.
 *
 * All text in flight is owned by the Lua state; an error unwinds to
 * skynet_config_load with a complete one-line message.
 */
#include "skynet_config.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "skynet.h"
#include "skynet_config_hint.h"
#include "skynet_env.h"
#include "skynet_module.h"
#include "skynet_socket.h"

/* Includes nested deeper than this include each other. */
#define MAX_DEPTH 64

struct loader {
	const char *main_file;
	const char *dir; /* of the file now being run, with its separator; on the Lua stack */
	int depth;
	struct skynet_config *config;
};

/* Registry keys, used by their addresses. */
static const char VALUES = 'v';    /* key -> value, what the chunk's globals are */
static const char POSITIONS = 'p'; /* key -> "FILE:LINE" of its last assignment */
static const char GLOBALS = 'g';   /* the chunk's empty environment table */
static const char LOADER = 'l';

static struct loader *
get_loader(lua_State *L) {
	lua_rawgetp(L, LUA_REGISTRYINDEX, &LOADER);
	struct loader *loader = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return loader;
}

/*-------------------------------------------------------------------- files */

/* Push the whole content of a file, or raise with the system's reason. */
static void
push_content(lua_State *L, const char *path) {
	FILE *f = fopen(path, "rb");
	if (f == NULL) {
		luaL_error(L, "cannot open %s: %s", path, strerror(errno));
	}
	luaL_Buffer b;
	luaL_buffinit(L, &b);
	size_t n;
	do {
		n = fread(luaL_prepbuffer(&b), 1, LUAL_BUFFERSIZE, f);
		luaL_addsize(&b, n);
	} while (n > 0);
	int failed = ferror(f) ? errno : 0;
	fclose(f);
	if (failed != 0) {
		luaL_error(L, "cannot read %s: %s", path, strerror(failed));
	}
	luaL_pushresult(&b);
}

static size_t
name_length(const char *s) {
	return strspn(s, "0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static int
line_of(const char *text, const char *where) {
	int line = 1;
	for (const char *p = text; p < where; p++) {
		line += *p == '\n';
	}
	return line;
}

/* Replace the text on top by itself with every $NAME expanded. */
static void
expand_variables(lua_State *L, const char *path) {
	size_t size;
	const char *text = lua_tolstring(L, -1, &size);
	const char *end = text + size;
	luaL_Buffer b;
	luaL_buffinit(L, &b);
	for (const char *p = text; p < end;) {
		const char *dollar = memchr(p, '$', (size_t)(end - p));
		size_t length = dollar == NULL ? 0 : name_length(dollar + 1);
		if (length == 0) {
			const char *next = dollar == NULL ? end : dollar + 1;
			luaL_addlstring(&b, p, (size_t)(next - p));
			p = next;
			continue;
		}
		luaL_addlstring(&b, p, (size_t)(dollar - p));
		const char *name = lua_pushlstring(L, dollar + 1, length);
		const char *value = getenv(name);
		if (value == NULL) {
			luaL_error(L, "%s:%d: os.getenv() failed: %s", path, line_of(text, dollar), name);
		}
		lua_pop(L, 1);
		luaL_addstring(&b, value);
		p = dollar + 1 + length;
	}
	luaL_pushresult(&b);
	lua_remove(L, -2);
}

/* Push the directory of `name` by the include rule, separator included. */
static const char *
push_directory(lua_State *L, const char *current, const char *name) {
	const char *slash = strrchr(name, '/');
	if (slash == NULL) {
		return lua_pushstring(L, current);
	}
	const char *own = lua_pushlstring(L, name, (size_t)(slash - name) + 1);
	if (name[0] != '/') {
		own = lua_pushfstring(L, "%s%s", current, own);
		lua_remove(L, -2);
	}
	return own;
}

/*-------------------------------------------------------------------- chunks */

/*
 * Lua cuts long file names in its messages. Raise the message on top with the
 * full name in its place, and in front if the message names no file at all.
 */
static int
raise_with_path(lua_State *L, const char *path) {
	const char *message = luaL_tolstring(L, -1, NULL);
	lua_Debug ar;
	if (luaL_loadbuffer(L, "", 0, lua_pushfstring(L, "@%s", path)) != LUA_OK) {
		return lua_error(L);
	}
	lua_getinfo(L, ">S", &ar);
	size_t length = strlen(ar.short_src);
	if (strncmp(message, ar.short_src, length) == 0) {
		lua_pushfstring(L, "%s%s", path, message + length);
	} else if (strchr(message, ':') == NULL) {
		lua_pushfstring(L, "%s: %s", path, message);
	} else {
		lua_pushstring(L, message);
	}
	return lua_error(L);
}

/* Run file `name`, found from the directory of the one now being run. */
static void
run_file(lua_State *L, struct loader *loader, const char *name) {
	const char *saved = loader->dir;
	const char *dir = push_directory(L, saved, name);
	const char *slash = strrchr(name, '/');
	const char *path = lua_pushfstring(L, "%s%s", dir, slash == NULL ? name : slash + 1);
	push_content(L, path);
	expand_variables(L, path);
	size_t size;
	const char *text = lua_tolstring(L, -1, &size);
	if (luaL_loadbufferx(L, text, size, lua_pushfstring(L, "@%s", path), "t") != LUA_OK) {
		raise_with_path(L, path);
	}
	lua_rawgetp(L, LUA_REGISTRYINDEX, &GLOBALS);
	lua_setupvalue(L, -2, 1); /* the one upvalue of a chunk is its environment */
	loader->dir = dir;
	loader->depth++;
	if (lua_pcall(L, 0, 0, 0) != LUA_OK) {
		raise_with_path(L, path);
	}
	loader->depth--;
	loader->dir = saved;
}

static int
include(lua_State *L) {
	struct loader *loader = get_loader(L);
	const char *name = luaL_checkstring(L, 1);
	if (loader->depth >= MAX_DEPTH) {
		return luaL_error(L, "include %s: nested too deeply", name);
	}
	luaL_checkstack(L, 20, "too many includes");
	run_file(L, loader, name);
	return 0;
}

/*------------------------------------------------------------ chunk's globals */

static int
set_global(lua_State *L) {
	lua_Debug ar;
	if (lua_getstack(L, 1, &ar) && lua_getinfo(L, "Sl", &ar) && lua_type(L, 2) == LUA_TSTRING) {
		lua_rawgetp(L, LUA_REGISTRYINDEX, &POSITIONS);
		lua_pushvalue(L, 2);
		lua_pushfstring(L, "%s:%d", ar.source + 1, ar.currentline);
		lua_rawset(L, -3);
	}
	lua_rawgetp(L, LUA_REGISTRYINDEX, &VALUES);
	lua_pushvalue(L, 2);
	lua_pushvalue(L, 3);
	lua_rawset(L, -3);
	return 0;
}

/* Make the three tables and the one predefined name. */
static void
prepare_globals(lua_State *L) {
	lua_newtable(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &POSITIONS);
	lua_newtable(L); /* the environment */
	lua_newtable(L); /* its metatable */
	lua_newtable(L); /* the values */
	lua_pushcfunction(L, include);
	lua_setfield(L, -2, "include");
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &VALUES);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, set_global);
	lua_setfield(L, -2, "__newindex");
	lua_setmetatable(L, -2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &GLOBALS);
}

/* Push "FILE:LINE" of the last assignment to `key`, or the main file's name. */
static const char *
push_position(lua_State *L, const char *key) {
	lua_rawgetp(L, LUA_REGISTRYINDEX, &POSITIONS);
	lua_getfield(L, -1, key);
	lua_remove(L, -2);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		lua_pushstring(L, get_loader(L)->main_file);
	}
	return lua_tostring(L, -1);
}

/*---------------------------------------------------------------- environment */

/* Keys of the kernel and of snlua whose value is text. */
static const char *const text_keys[] = {
    "cpath",     "bootstrap",  "daemon",    "logger",  "logservice", "logpath", "lua_path",
    "lua_cpath", "luaservice", "lualoader", "preload", "start",      "snax",
};

static void
check_text_key(lua_State *L, const char *key, int value) {
	if (lua_type(L, value) == LUA_TSTRING) {
		return;
	}
	for (size_t i = 0; i < sizeof(text_keys) / sizeof(text_keys[0]); i++) {
		if (strcmp(text_keys[i], key) == 0) {
			const char *at = push_position(L, key);
			luaL_error(L, "%s: wrong type of %s: expected a string, got a %s", at, key,
			           luaL_typename(L, value));
		}
	}
}

/* Store the pair at the top of the stack, as lua_next left it. */
static void
store_pair(lua_State *L) {
	int value = lua_gettop(L);
	if (lua_type(L, value - 1) != LUA_TSTRING) {
		luaL_error(L, "%s: Invalid config table (a key is a %s, expected a string)",
		           get_loader(L)->main_file, luaL_typename(L, value - 1));
	}
	size_t key_size, size;
	const char *key = lua_tolstring(L, value - 1, &key_size);
	switch (lua_type(L, value)) {
	case LUA_TSTRING:
	case LUA_TNUMBER:
	case LUA_TBOOLEAN:
		break;
	default:
		luaL_error(L,
		           "%s: Invalid config table key = %s (a %s, expected a string, number or boolean)",
		           push_position(L, key), key, luaL_typename(L, value));
	}
	check_text_key(L, key, value);
	const char *text = luaL_tolstring(L, value, &size);
	if (strlen(text) != size || strlen(key) != key_size) {
		luaL_error(L, "%s: Invalid config table key = %s (contains a NUL byte)",
		           push_position(L, key), key);
	}
	skynet_env_add(key, text);
	lua_settop(L, value);
}

/* A misspelt key is legal, so only a line tells. */
static void
warn_of_slip(lua_State *L, const char *key) {
	char meant[SKYNET_CONFIG_KEY];
	if (skynet_config_hint(key, meant)) {
		fprintf(stderr, "%s: warning: the framework has no key %s, did you mean %s?\n",
		        push_position(L, key), key, meant);
		lua_pop(L, 1);
	}
}

static void
store_values(lua_State *L) {
	lua_rawgetp(L, LUA_REGISTRYINDEX, &VALUES);
	lua_pushnil(L);
	lua_setfield(L, -2, "include");
	lua_pushnil(L);
	while (lua_next(L, -2) != 0) {
		store_pair(L);
		warn_of_slip(L, lua_tostring(L, -2));
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}

/* The entry for `key`, made from the default if the file has none. */
static const char *
env_default(const char *key, const char *value) {
	skynet_env_add(key, value);
	return skynet_getenv(key);
}

/*--------------------------------------------------------- the kernel's own keys */

/* Leading decimal integer of a text, as atoi has it but defined for all input. */
static int
leading_integer(const char *text) {
	long n = strtol(text, NULL, 10);
	return n > INT_MAX ? INT_MAX : n < INT_MIN ? INT_MIN : (int)n;
}

static bool
is_number(const char *text) {
	char *end;
	strtod(text, &end);
	return end != text && *end == '\0';
}

static int
get_thread(lua_State *L) {
	const char *text = env_default("thread", "8");
	int thread = leading_integer(text);
	if (thread < 1 || thread > SKYNET_MAXTHREAD) {
		luaL_error(L, "%s: Invalid thread %d , should be in [1,%d] (thread = %s%s)",
		           push_position(L, "thread"), thread, SKYNET_MAXTHREAD, text,
		           is_number(text) ? "" : ", expected an integer");
	}
	return thread;
}

/*
 * Only single-node operation exists so far. A config that wants more must not
 * start half-way: its remote calls would fail one by one later.
 */
static int
get_harbor(lua_State *L) {
	const char *text = skynet_getenv("harbor");
	if (text == NULL) {
		luaL_error(L,
		           "%s: harbor is missing and would default to 1, "
		           "but harbor networks are not available yet: set harbor = 0",
		           get_loader(L)->main_file);
	}
	int harbor = leading_integer(text);
	if (!is_number(text) || harbor < 0 || harbor > 255) {
		luaL_error(L, "%s: Invalid harbor %s , should be an integer in [0,255]",
		           push_position(L, "harbor"), text);
	}
	static const char *const network_keys[] = {"cluster", "standalone"};
	for (size_t i = 0; i < sizeof(network_keys) / sizeof(network_keys[0]); i++) {
		if (skynet_getenv(network_keys[i]) != NULL) {
			luaL_error(L,
			           "%s: key %s needs cluster or harbor networks, "
			           "which are not available yet: remove it",
			           push_position(L, network_keys[i]), network_keys[i]);
		}
	}
	if (harbor != 0) {
		luaL_error(L,
		           "%s: harbor = %d needs a harbor network, which is not available yet: "
		           "set harbor = 0",
		           push_position(L, "harbor"), harbor);
	}
	return harbor;
}

static const char *
get_module_path(lua_State *L) {
	const char *path = env_default("cpath", "./cservice/?.so");
	if (skynet_module_path_count(path) == 0) {
		luaL_error(L, "%s: Invalid C service path (cpath = \"%s\" has no template with a ?)",
		           push_position(L, "cpath"), path);
	}
	return path;
}

/* Without a template nothing is found, and no attempt can be named. */
static void
check_luaservice(lua_State *L) {
	const char *path = skynet_getenv("luaservice");
	if (path != NULL && skynet_module_path_count(path) == 0) {
		luaL_error(L, "%s: Invalid luaservice (luaservice = \"%s\" has no template with a ?)",
		           push_position(L, "luaservice"), path);
	}
}

static void
check_start_failure(lua_State *L) {
	const char *text = skynet_getenv("start_failure");
	if (text != NULL && strcmp(text, "abort") != 0) {
		luaL_error(L, "%s: Invalid start_failure %s , should be \"abort\" or absent",
		           push_position(L, "start_failure"), text);
	}
}

static void
check_socket_thread(lua_State *L) {
	const char *text = env_default("socket_thread", "1");
	int n = leading_integer(text);
	if (!is_number(text) || n < 1 || n > SKYNET_SOCKET_LOOPS_MAX) {
		luaL_error(L, "%s: Invalid socket_thread %s , should be an integer in [1,%d]",
		           push_position(L, "socket_thread"), text, SKYNET_SOCKET_LOOPS_MAX);
	}
}

/* More bytes, or lines, than any machine has. */
#define MAX_AMOUNT 1e15
/* Longer is for ever. */
#define MAX_SECONDS 86400

/* Keys that other parts of the kernel read from the environment as they need them. */
static void
check_number(lua_State *L, const char *key, double least, double most) {
	const char *text = skynet_getenv(key);
	if (text == NULL) {
		return;
	}
	double n = strtod(text, NULL);
	/* Not the other way round: a NaN is in no range. */
	if (!is_number(text) || !(n >= least && n <= most)) {
		luaL_error(L, "%s: Invalid %s %s , should be a number in [%f,%f]", push_position(L, key),
		           key, text, least, most);
	}
}

static void
check_flag(lua_State *L, const char *key) {
	const char *text = env_default(key, "false");
	if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
		luaL_error(L, "%s: Invalid %s %s , should be true or false", push_position(L, key), key,
		           text);
	}
}

/* By contract anything but the exact text `true` is taken for false, here with a word. */
static bool
is_true(lua_State *L, const char *key, const char *otherwise) {
	const char *text = env_default(key, otherwise);
	if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
		fprintf(stderr, "%s: warning: %s is true or false, %s is taken for false\n",
		        push_position(L, key), key, text);
		lua_pop(L, 1);
	}
	return strcmp(text, "true") == 0;
}

/* The defaults of sockets; skynet_socket.c reads them. */
static void
check_socket_options(lua_State *L) {
	for (int i = 0; i < SOCKET_OPTION_COUNT; i++) {
		const struct socket_option_info *info = socket_option_info(i);
		const char *key = lua_pushfstring(L, "socket_%s", info->key);
		const char *text = skynet_getenv(key);
		int64_t value;
		if (text == NULL || socket_option_parse(i, text, &value)) {
			lua_pop(L, 1);
			continue;
		}
		const char *at = push_position(L, key);
		if (info->kind == SOCKET_OPTION_IS_FLAG) {
			luaL_error(L, "%s: Invalid %s %s , should be true or false", at, key, text);
		} else if (info->kind == SOCKET_OPTION_IS_POLICY) {
			luaL_error(L, "%s: Invalid %s %s , should be \"close\" or \"drop\"", at, key, text);
		}
		bool is_time = info->kind == SOCKET_OPTION_IS_TIME;
		luaL_error(L, "%s: Invalid %s %s , should be %s, 0 to %I", at, key, text,
		           is_time ? "a number of seconds" : "an integer",
		           (LUAI_UACINT)(is_time ? info->max / 1000 : info->max));
	}
}

static void
fill_config(lua_State *L, struct skynet_config *config) {
	config->thread = get_thread(L);
	config->module_path = get_module_path(L);
	config->harbor = get_harbor(L);
	check_luaservice(L);
	check_start_failure(L);
	config->bootstrap = env_default("bootstrap", "snlua bootstrap");
	config->daemon = skynet_getenv("daemon");
	config->logger = skynet_getenv("logger");
	config->logservice = env_default("logservice", "logger");
	config->profile = is_true(L, "profile", "true");
	/* Read by service/bootstrap.lua. */
	is_true(L, "enablessl", "false");
	check_number(L, "shutdown_timeout", 0, MAX_SECONDS);
	check_number(L, "debug_console_timeout", 1, MAX_SECONDS);
	check_number(L, "debug_console_wait", 0, MAX_SECONDS);
	check_socket_options(L);
	check_socket_thread(L);
	check_number(L, "logqueue", 1, MAX_AMOUNT);
	check_number(L, "endless_check", 0, MAX_SECONDS);
	check_number(L, "memory_reserve", 0, MAX_AMOUNT);
	check_number(L, "idle_gc", 0, MAX_SECONDS);
	check_number(L, "memory_quota", 0, MAX_AMOUNT);
	check_number(L, "memory_quota_warn", 0, MAX_AMOUNT);
	check_number(L, "memory_quarantine", 0, MAX_AMOUNT);
	check_flag(L, "memory_hugepages");
}

static int
load_protected(lua_State *L) {
	struct loader *loader = lua_touserdata(L, 1);
	luaL_openlibs(L);
	lua_pushlightuserdata(L, loader);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &LOADER);
	prepare_globals(L);
	run_file(L, loader, loader->main_file);
	store_values(L);
	fill_config(L, loader->config);
	return 0;
}

char *
skynet_config_load(const char *filename, struct skynet_config *config) {
	lua_State *L = luaL_newstate();
	if (L == NULL) {
		return skynet_strdup("not enough memory to read the configuration");
	}
	struct loader loader = {.main_file = filename, .dir = "./", .config = config};
	lua_pushcfunction(L, load_protected);
	lua_pushlightuserdata(L, &loader);
	char *message = NULL;
	if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
		message = skynet_strdup(luaL_tolstring(L, -1, NULL));
		for (char *p = message; *p != '\0'; p++) {
			*p = *p == '\n' ? ' ' : *p; /* one line, whatever was quoted in it */
		}
	}
	lua_close(L);
	return message;
}
