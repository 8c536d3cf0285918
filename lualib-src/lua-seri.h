/*
 * Serialisation of Lua values: skynet.pack and skynet.unpack, byte format in
 * doc/ and test/vectors/seri.json.
 *
 * Any thread may call these with a Lua state it runs. Every function raises
 * Lua errors and leaks nothing when it does, also when Lua itself runs out of
 * memory. Nothing here yields.
 */
#ifndef LUA_SERI_H
#define LUA_SERI_H

#include <stddef.h>

#include <lua.h>

/*
 * A value may be nested in this many tables. Deeper values are refused by both
 * directions; one more table is possible when it is empty.
 */
#define LUASERI_MAX_DEPTH 32

/* Lua: pack(...) -> light userdata, size. The block is the caller's to free or send. */
int luaseri_pack(lua_State *L);

/* Lua: packstring(...) -> string. */
int luaseri_packstring(lua_State *L);

/* Lua: unpack(string) or unpack(ptr, size) -> values. Frees nothing. */
int luaseri_unpack(lua_State *L);

/*
 * Pack the values from stack index `from` (absolute) to the top, which stay
 * where they are. Gives the caller a skynet_malloc block of exactly *sz bytes
 * (a real block even for no values). Call nothing that may raise before the
 * block has a new owner.
 */
void luaseri_pack_range(lua_State *L, int from, void **buf, size_t *sz);

/*
 * Push the values packed in the `sz` bytes at `buf` (lent) and return their
 * number. The whole stream is checked before the first table is made, so time
 * and memory are bounded by `sz` whatever the bytes say. Makes room on the
 * Lua stack for the values by itself.
 */
int luaseri_unpack_buffer(lua_State *L, const void *buf, size_t sz);

#endif
