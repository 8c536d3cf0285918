/*
 * protobuf.core, private to its files: messages as Lua tables. A schema object has, as its user
 * values, the names of fields and values as Lua strings (an array by id + 1) and the message types
 * by name. Nothing yields, and no metamethod is called.
 *
 * Fields are keys of a table by name: integers, floats, booleans and strings; enums are names, or
 * numbers that have none; repeated fields are arrays, maps tables, messages tables. What is absent
 * is nil. Unknown fields, when they are kept, are an array of byte strings at key 0.
 */
#ifndef LUA_PROTOBUF_H
#define LUA_PROTOBUF_H

#include "pb_schema.h"

#include <lauxlib.h>
#include <lua.h>

#define PB_UNKNOWN_KEY 0

/* What decoding is told: give absent fields their defaults; keep unknown fields. */
struct pb_decode_options {
	bool defaults;
	bool unknown;
};

/* What happens inside one message: where it is in those around it, for errors. */
struct pb_place {
	const struct pb_place *outer;
	const struct pb_message *message;
	const struct pb_field *field; /* the present one, or NULL */
	lua_Integer index;            /* in its array, or 0 */
};

/* Raises "Message.field[2].inner: text". */
int __attribute__((noreturn))
pb_raise(lua_State *L, const struct pb_place *place, const char *format, ...);

/* Push the table of a message; `names` is the index of the array of names. */
void pb_decode(lua_State *L, int names, const struct pb_message *m, struct pb_reader r,
               const struct pb_decode_options *options);

/* Push the default of a field: a scalar, an empty table for an array or map, nil for a message. */
void pb_push_default(lua_State *L, int names, const struct pb_field *f);

/* Bytes that grow; kept by a VM for its next message. */
struct pb_buffer {
	uint8_t *bytes;
	size_t size;
	size_t capacity;
};

/* Append the message of the table at index `table` to the buffer. */
void pb_encode(lua_State *L, int names, const struct pb_message *m, int table,
               struct pb_buffer *out);

/* Give the block back. */
void pb_buffer_free(lua_State *L, struct pb_buffer *b);

int luaopen_protobuf_core(lua_State *L);

#endif
