/*
 * Fuzzer of sproto data: any bytes give a table or an error, packed or not. What was decoded
 * encodes to bytes that decode.
 */
#include "fuzz_lua.h"

int luaopen_sproto_core(lua_State *L);

static const char SETUP[] =
    "local sproto = require 'sproto'\n"
    "local sp = sproto.parse [[\n"
    ".Leaf { n 0 : integer  s 1 : string }\n"
    ".Tree { left 0 : Tree  leaf 1 : Leaf  right 4 : *Tree  d 9 : double  m 10 : integer(9) }\n"
    ".Entry { k 0 : string  v 1 : Leaf }\n"
    ".IntEntry { v 3 : *integer  k 2 : integer }\n"
    ".Maps { a 0 : *Entry()  b 1 : *IntEntry()  c 2 : *Leaf(n) }\n"
    ".Values { r 0 : *double  t 1 : *integer(2)  b 2 : *boolean  x 3 : *binary  i 4 : *integer  o "
    "5 : boolean }]]\n"
    "local names = { 'Leaf', 'Tree', 'Entry', 'IntEntry', 'Maps', 'Values' }\n"
    "return function(data)\n"
    "	local name = names[(data:byte() or 0) % #names + 1]\n"
    "	data = data:sub(2)\n"
    "	pcall(sp.pdecode, sp, name, data)\n"
    "	local ok, value = pcall(sp.decode, sp, name, data)\n"
    "	if not ok then return end\n"
    "	local bytes\n"
    "	ok, bytes = pcall(sp.encode, sp, name, value)\n"
    "	if ok then sp:decode(name, bytes) end\n"
    "end\n";

FUZZ_LUA(SETUP, "sproto.core", luaopen_sproto_core)
