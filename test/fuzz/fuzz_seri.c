/*
 * Fuzzer of unpack: any bytes give values or a Lua error. Values that came out
 * are packed and unpacked again, which must give as many values and the same
 * bytes on the next packing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "lua-seri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A table's order of traversal may change when it is built again. */
static int
has_table(lua_State *L) {
	for (int i = lua_gettop(L); i > 0; i--) {
		if (lua_istable(L, i)) {
			return 1;
		}
	}
	return 0;
}

static int
unpack_and_pack(lua_State *L) {
	const void *data = lua_touserdata(L, 1);
	size_t size = (size_t)lua_tointeger(L, 2);
	lua_settop(L, 0);
	int n = luaseri_unpack_buffer(L, data, size);
	if (n != lua_gettop(L)) {
		abort();
	}
	int is_flat = !has_table(L);
	void *first, *second;
	size_t first_size, second_size;
	luaL_checkstack(L, 10, NULL);
	luaseri_pack_range(L, 1, &first, &first_size);
	lua_settop(L, 0);
	/* The block is freed whatever the second round raises: nothing does, but memory. */
	if (luaseri_unpack_buffer(L, first, first_size) != n) {
		abort();
	}
	luaL_checkstack(L, 10, NULL);
	luaseri_pack_range(L, 1, &second, &second_size);
	if (is_flat && (first_size != second_size || memcmp(first, second, first_size) != 0)) {
		abort();
	}
	free(first);
	free(second);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static lua_State *L;
	if (L == NULL) {
		L = luaL_newstate();
		luaL_openlibs(L);
	}
	lua_settop(L, 0);
	lua_pushcfunction(L, unpack_and_pack);
	lua_pushlightuserdata(L, (void *)(uintptr_t)data);
	lua_pushinteger(L, (lua_Integer)size);
	lua_pcall(L, 2, 0, 0);
	return 0;
}
