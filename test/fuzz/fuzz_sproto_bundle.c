/*
 * Fuzzer of compiled schemas: any bytes give a schema or an error, and the types of a schema
 * encode, decode and give their defaults or raise.
 */
#include "fuzz_lua.h"

int luaopen_sproto_core(lua_State *L);

static const char SETUP[] = "local sproto = require 'sproto'\n"
                            "return function(data)\n"
                            "	local ok, sp = pcall(sproto.new, data)\n"
                            "	if not ok then return end\n"
                            "	for name in data:gmatch '[%w_.]+' do\n"
                            "		if sp:exist_type(name) then\n"
                            "			local _, value = pcall(sp.default, sp, name)\n"
                            "			pcall(sp.encode, sp, name, value)\n"
                            "			pcall(sp.decode, sp, name, data)\n"
                            "		end\n"
                            "		pcall(sp.request_decode, sp, name, data)\n"
                            "		pcall(sp.response_decode, sp, name, data)\n"
                            "	end\n"
                            "	for tag = 0, 20 do sp:exist_proto(tag) end\n"
                            "end\n";

FUZZ_LUA(SETUP, "sproto.core", luaopen_sproto_core)
