/*
 * Fuzzer of cjson: any text gives a value or an error; a value that can be encoded decodes.
 */
#include "fuzz_lua.h"

int luaopen_cjson(lua_State *L);

static const char SETUP[] = "local cjson = require 'cjson'\n"
                            "return function(data)\n"
                            "	local ok, value = pcall(cjson.decode, data)\n"
                            "	if not ok then return end\n"
                            "	local text\n"
                            "	ok, text = pcall(cjson.encode, value)\n"
                            "	if ok then cjson.decode(text) end\n"
                            "end\n";

FUZZ_LUA(SETUP, "cjson", luaopen_cjson)
