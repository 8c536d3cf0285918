/*
** What the tests of sharing have in common: making states, running code in them,
** writing scripts to a folder of their own, and an allocator that fails on demand.
** Shared strings and the cache are global, so names of strings and files must be
** different in all tests of a program.
*/

#ifndef lua_states_h
#define lua_states_h

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

static char folder[] = "/tmp/lua_share_XXXXXX";

static inline const char *
path_of(const char *name) {
	static _Thread_local char path[256];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static inline const char *
write_file(const char *name, const char *text) {
	const char *path = path_of(name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return path;
}

static inline lua_State *
open_state(void) {
	lua_State *L = luaL_newstate();
	assert_non_null(L);
	luaL_openlibs(L);
	luaL_requiref(L, "skynet.codecache", luaopen_cache, 0);
	lua_settop(L, 0);
	return L;
}

/*
** Runs code; the test fails with its message when it raises an error.
*/
static inline void
run(lua_State *L, const char *code) {
	if (luaL_dostring(L, code) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	lua_settop(L, 0);
}

/*
** Runs code and checks that it raises an error that contains 'text'.
*/
static inline void
run_fails(lua_State *L, const char *code, const char *text) {
	if (luaL_dostring(L, code) == LUA_OK) {
		fail_msg("no error: %s", code);
	}
	if (strstr(luaL_tolstring(L, -1, NULL), text) == NULL) {
		fail_msg("%s: %s", code, lua_tostring(L, -1));
	}
	lua_settop(L, 0);
}

/*
** Evaluates an expression to a table and shares it.
*/
static inline const void *
share(lua_State *L, const char *expression) {
	const void *t;
	char code[4096];
	snprintf(code, sizeof(code), "return %s", expression);
	if (luaL_dostring(L, code) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	t = lua_sharetable(L, -1);
	lua_settop(L, 0);
	return t;
}

/*
** Makes the shared table a global 't' of a state.
*/
static inline void
borrow(lua_State *L, const void *t) {
	lua_clonetable(L, t);
	lua_setglobal(L, "t");
}

static inline struct lua_ShareStats
stats(void) {
	struct lua_ShareStats s;
	lua_sharestats(&s);
	return s;
}

/*
** Fails one allocation: the one that brings the countdown to zero.
*/
static atomic_long countdown = -1;

static inline int
must_fail(void) {
	return atomic_load(&countdown) >= 0 && atomic_fetch_sub(&countdown, 1) == 0;
}

static inline void *
share_allocator(void *block, size_t osize, size_t nsize) {
	(void)osize;
	if (nsize == 0) {
		free(block);
		return NULL;
	}
	return must_fail() ? NULL : realloc(block, nsize);
}

static inline int
set_up(void **state) {
	(void)state;
	lua_setsharealloc(share_allocator);
	luaL_initcodecache();
	luaL_initcodecache();
	return mkdtemp(folder) == NULL;
}

static inline int
tear_down(void **state) {
	char command[300];
	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

#endif
