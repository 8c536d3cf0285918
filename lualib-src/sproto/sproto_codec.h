/*
 * Lua tables to bytes and back. Errors are raised as Lua errors; nothing yields
 * (metamethods of the tables must not either). A Lua state belongs to one
 * thread; the schema may be used by many at once.
 */
#ifndef SPROTO_CODEC_H
#define SPROTO_CODEC_H

#include "sproto_schema.h"
#include "sproto_wire.h"

#include <lua.h>

#define SPROTO_MAX_DEPTH 64         /* struct levels, counting the outermost */
#define SPROTO_MAX_SIZE (16u << 20) /* bytes of one encoded struct */

/* Pushes the encoding of the value at index as a string. */
void sproto_encode(lua_State *L, const struct sproto_type *t, int index);

/* Fills the table on the top of the stack from the struct that s begins with.
 * Returns how many bytes that was. */
size_t sproto_decode(lua_State *L, const struct sproto_type *t, struct sproto_slice s);

/* Pushes a table with an example value for each field. */
void sproto_default(lua_State *L, const struct sproto_type *t);

/* Zero-packing: push the packed, and the unpacked, form of s as a string. */
void sproto_pack(lua_State *L, struct sproto_slice s);
void sproto_unpack(lua_State *L, struct sproto_slice s);

#endif
