/*
 * Fuzzer of datasheet documents: any bytes give a table or an error that says malformed; a table
 * can be written again, and compared.
 */
#include "fuzz_lua.h"

/* The module is Lua alone. */

static const char SETUP[] =
    "local dump = require 'skynet.datasheet.dump'\n"
    "local other = dump.dump({ a = { 1, 'text', { b = true } }, c = 1 << 40 }, true)\n"
    "return function(data)\n"
    "	local ok, value = pcall(dump.undump, data)\n"
    "	if not ok then\n"
    "		assert(value:find('malformed', 1, true), value)\n"
    "		return\n"
    "	end\n"
    "	pcall(dump.dump, value, true)\n"
    "	for _, pair in ipairs { { data, other }, { other, data } } do\n"
    "		local ok, err = pcall(dump.diff, pair[1], pair[2])\n"
    "		assert(ok or err:find('malformed', 1, true), err)\n"
    "	end\n"
    "end\n";

FUZZ_LUA(SETUP, "unused", luaopen_base)
