/*
 * Fuzzer of messages, of the types of test/vectors/protobuf: any bytes give a table or an error.
 * What was decoded encodes to bytes that decode and encode to the same.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lualib.h>

#include "protobuf/lua-protobuf.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char SETUP[] =
    "local core = ...\n"
    "local set = assert(io.open('test/fuzz/corpus/protobuf_schema/all.pb', 'rb')):read 'a'\n"
    "local schema = core.load(set)\n"
    "local names = schema:messages()\n"
    "return function(data)\n"
    "	local name = names[(data:byte() or 0) % #names + 1]\n"
    "	data = data:sub(2)\n"
    "	local ok, value = pcall(schema.decode, schema, name, data, { unknown = true })\n"
    "	if not ok then return end\n"
    "	pcall(schema.decode, schema, name, data, { defaults = true })\n"
    "	local bytes = schema:encode(name, value)\n"
    "	local again = schema:encode(name, schema:decode(name, bytes, { unknown = true }))\n"
    "	assert(bytes == again)\n"
    "end\n";

static lua_State *
new_vm(void) {
	lua_State *L = luaL_newstate();
	luaL_openlibs(L);
	if (luaL_loadstring(L, SETUP) != LUA_OK) {
		abort();
	}
	luaL_requiref(L, "protobuf.core", luaopen_protobuf_core, 0);
	if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
	return L;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static lua_State *L;
	if (L == NULL) {
		L = new_vm();
	}
	lua_settop(L, 1);
	lua_pushvalue(L, 1);
	lua_pushlstring(L, (const char *)data, size);
	if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
	return 0;
}
