/* Fuzzer of descriptor sets: any bytes give a schema or an error; a schema's types are all usable.
 */
#include <stdint.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lualib.h>

#include "protobuf/lua-protobuf.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char USE[] =
    "local ok, schema = pcall(load, ...)\n"
    "if not ok then return end\n"
    "for _, name in ipairs(schema:messages()) do\n"
    "	pcall(schema.encode, schema, name, schema:default(name))\n"
    "	pcall(schema.decode, schema, name, ..., { defaults = true, unknown = true })\n"
    "end\n";

static lua_State *
new_vm(void) {
	lua_State *L = luaL_newstate();
	luaL_openlibs(L);
	luaL_requiref(L, "protobuf.core", luaopen_protobuf_core, 0);
	lua_getfield(L, -1, "load");
	lua_setglobal(L, "load");
	lua_settop(L, 0);
	if (luaL_loadstring(L, USE) != LUA_OK) {
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
		abort();
	}
	return 0;
}
