/*
 * Fuzzer of messages, of the types of test/vectors/protobuf: any bytes give a table or an error.
 * What was decoded encodes to bytes that decode and encode to the same.
 */
#include "fuzz_lua.h"

#include "protobuf/lua-protobuf.h"

static const char SETUP[] =
    "local core = require 'protobuf.core'\n"
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
    "	assert(bytes == schema:encode(name, schema:decode(name, bytes, { unknown = true })))\n"
    "end\n";

FUZZ_LUA(SETUP, "protobuf.core", luaopen_protobuf_core)
