/*
 * Fuzzer of descriptor sets: any bytes give a schema or an error; a schema's types are all usable.
 */
#include "fuzz_lua.h"

#include "protobuf/lua-protobuf.h"

static const char SETUP[] =
    "local core = require 'protobuf.core'\n"
    "return function(data)\n"
    "	local ok, schema = pcall(core.load, data)\n"
    "	if not ok then return end\n"
    "	for _, name in ipairs(schema:messages()) do\n"
    "		pcall(schema.encode, schema, name, schema:default(name))\n"
    "		pcall(schema.decode, schema, name, data, { defaults = true, unknown = true })\n"
    "	end\n"
    "end\n";

FUZZ_LUA(SETUP, "protobuf.core", luaopen_protobuf_core)
