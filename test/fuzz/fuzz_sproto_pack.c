/*
 * Fuzzer of zero-packing: any bytes unpack or raise; whatever is packed comes back with less than
 * eight zero bytes more, and what was unpacked packs.
 */
#include "fuzz_lua.h"

int luaopen_sproto_core(lua_State *L);

static const char SETUP[] = "local sproto = require 'sproto'\n"
                            "return function(data)\n"
                            "	local function same(s)\n"
                            "		local back = sproto.unpack(sproto.pack(s))\n"
                            "		assert(back == s .. ('\\0'):rep(-#s % 8))\n"
                            "	end\n"
                            "	same(data)\n"
                            "	local ok, plain = pcall(sproto.unpack, data)\n"
                            "	if ok then same(plain) end\n"
                            "end\n";

FUZZ_LUA(SETUP, "sproto.core", luaopen_sproto_core)
