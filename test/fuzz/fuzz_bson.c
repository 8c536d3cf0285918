/*
 * Fuzzer of bson: any bytes give a table or a Lua error. A table that came out
 * and can be encoded gives a document that decodes.
 */
#include <stdint.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lualib.h>

#include "bson/lua-bson.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
decode(lua_State *L) {
	bson_push_document(L, lua_touserdata(L, 1), (size_t)lua_tointeger(L, 2));
	return 1;
}

static void
decode_and_encode(lua_State *L, const uint8_t *data, size_t size) {
	lua_pushcfunction(L, decode);
	lua_pushlightuserdata(L, (void *)(uintptr_t)data);
	lua_pushinteger(L, (lua_Integer)size);
	if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
		return;
	}
	lua_pushcfunction(L, bson_encode);
	lua_insert(L, -2);
	if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
		return;
	}
	lua_pushcfunction(L, decode);
	lua_pushlightuserdata(L, lua_touserdata(L, -2));
	lua_pushinteger(L, (lua_Integer)lua_rawlen(L, -3));
	if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
		abort();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static lua_State *L;
	if (L == NULL) {
		L = luaL_newstate();
		luaL_openlibs(L);
		luaopen_bson(L);
	}
	lua_settop(L, 0);
	decode_and_encode(L, data, size);
	return 0;
}
