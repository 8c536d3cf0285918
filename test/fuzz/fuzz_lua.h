/* Fuzzers that are a Lua function over the input: a VM, and the call. One thread. */
#ifndef FUZZ_LUA_H
#define FUZZ_LUA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lualib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Calls what is on the stack, as lua_pcall; an error is a finding. */
static inline void
fuzz_call(lua_State *L, int arguments, int results) {
	if (lua_pcall(L, arguments, results, 0) != LUA_OK) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
}

/*
 * A VM in which `require` finds lualib and, as `name`, the module that `open` makes. `setup` is the
 * text of a chunk that returns the function to fuzz.
 */
static inline lua_State *
fuzz_vm(const char *setup, const char *name, lua_CFunction open) {
	lua_State *L = luaL_newstate();
	luaL_openlibs(L);
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
	lua_pushcfunction(L, open);
	lua_setfield(L, -2, name);
	lua_settop(L, 0);
	if (luaL_loadstring(L, "package.path = 'lualib/?.lua'") != LUA_OK) {
		abort();
	}
	fuzz_call(L, 0, 0);
	if (luaL_loadstring(L, setup) != LUA_OK) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
	fuzz_call(L, 0, 1);
	return L;
}

/* Calls the function of fuzz_vm with the input. */
static inline void
fuzz_input(lua_State *L, const uint8_t *data, size_t size) {
	lua_settop(L, 1);
	lua_pushvalue(L, 1);
	lua_pushlstring(L, (const char *)data, size);
	fuzz_call(L, 1, 0);
}

/* The entry of a fuzzer that is a Lua function and one module. */
#define FUZZ_LUA(setup, name, open)                                                                \
	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {                                 \
		static lua_State *L;                                                                       \
		if (L == NULL) {                                                                           \
			L = fuzz_vm(setup, name, open);                                                        \
		}                                                                                          \
		fuzz_input(L, data, size);                                                                 \
		return 0;                                                                                  \
	}

#endif
