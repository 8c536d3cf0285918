/*
 * bson, private to its files. The module keeps no state but two counters; every function may run on
 * any thread, nothing yields (a __pairs that does so raises).
 *
 * Values that Lua has no type for are strings: a zero byte, the type's code, the content ("typed
 * strings"). Text that begins with a zero byte, and is longer than that, would be taken for one; it
 * stands as a typed string of type BSON_STRING.
 */
#ifndef LUA_BSON_H
#define LUA_BSON_H

#include "bson_format.h"

#include <lauxlib.h>
#include <lua.h>

#include <stdbool.h>
#include <stddef.h>

/* The metatable of encoded documents. Their block is the bytes; user value 1 the index, or nil. */
#define BSON_META "bson"
#define TYPED_HEAD 2

extern const luaL_Reg bson_value_functions[];

/* Sets the constants null, minkey and maxkey in the table on top. */
void bson_set_constants(lua_State *L);

static inline bool
bson_is_typed(const char *s, size_t size) {
	return size >= TYPED_HEAD && s[0] == 0;
}

/* Raise unless the content of the typed string has a size that its type can have. */
void bson_check_typed(lua_State *L, const char *s, size_t size);

/* Milliseconds of a typed string of type BSON_DATE that was checked. */
int64_t bson_date_ms(const char *s, size_t size);

/* Push a typed string: `size` bytes of content. */
void bson_push_typed(lua_State *L, int type, const void *content, size_t size);

/* Push the one typed string that stands for a date. */
void bson_push_date(lua_State *L, int64_t ms);

/* Push the table of the document at `doc` of at most `limit` bytes; raises when it is malformed. */
void bson_push_document(lua_State *L, const uint8_t *doc, size_t limit);

/* encode(table) and encode_order(key, value, ...) -> bson */
int bson_encode(lua_State *L);
int bson_encode_order(lua_State *L);

int luaopen_bson(lua_State *L);

#endif
