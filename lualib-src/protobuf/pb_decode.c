/* Decoding, see lua-protobuf.h. */
#include "lua-protobuf.h"

/* Values on the Lua stack that one level needs, with room for errors. */
#define STACK_PER_LEVEL 12

struct decoder {
	lua_State *L;
	int names;
	struct pb_decode_options options;
	const uint8_t *start; /* of everything, for positions in errors */
};

/* One message in work. The stack holds its table and then the array in work, or nil. */
struct level {
	struct pb_place place;
	struct pb_reader reader;
	int table;
	const struct pb_field *array_field; /* whose array it is */
	lua_Integer array_size;
	int depth;      /* levels that may still be entered */
	uint32_t group; /* number of the group that this is, or 0 */
};

static void read_message(struct decoder *d, struct level *l);

static int __attribute__((noreturn))
malformed(struct decoder *d, const struct level *l, const char *what) {
	pb_raise(d->L, &l->place, "%s at byte %d", what, (int)(l->reader.at - d->start) + 1);
}

static void
push_name(struct decoder *d, uint32_t id) {
	lua_rawgeti(d->L, d->names, (lua_Integer)id + 1);
}

//------------------------------------------------------------------- scalars

static void
push_enum(lua_State *L, int names, const struct pb_enum *e, int32_t number) {
	const struct pb_enum_value *v = pb_enum_by_number(e, number);
	if (v != NULL) {
		lua_rawgeti(L, names, (lua_Integer)v->id + 1);
	} else {
		lua_pushinteger(L, number);
	}
}

static void
push_varint(struct decoder *d, const struct pb_field *f, uint64_t v) {
	lua_State *L = d->L;
	switch (f->type) {
	case PB_TYPE_INT32:
		lua_pushinteger(L, (int32_t)v);
		break;
	case PB_TYPE_UINT32:
		lua_pushinteger(L, (uint32_t)v);
		break;
	case PB_TYPE_SINT32:
		lua_pushinteger(L, (int32_t)((uint32_t)v >> 1 ^ (0 - ((uint32_t)v & 1))));
		break;
	case PB_TYPE_SINT64:
		lua_pushinteger(L, (lua_Integer)(v >> 1 ^ (0 - (v & 1))));
		break;
	case PB_TYPE_BOOL:
		lua_pushboolean(L, v != 0);
		break;
	case PB_TYPE_ENUM:
		push_enum(L, d->names, f->enum_type, (int32_t)v);
		break;
	default:
		lua_pushinteger(L, (lua_Integer)v);
		break;
	}
}

static bool
push_fixed32(struct decoder *d, const struct pb_field *f, struct pb_reader *r) {
	uint32_t v;
	if (!pb_read_fixed32(r, &v)) {
		return false;
	}
	if (f->type == PB_TYPE_FLOAT) {
		float number;
		memcpy(&number, &v, sizeof(number));
		lua_pushnumber(d->L, (lua_Number)number);
	} else {
		lua_pushinteger(d->L, f->type == PB_TYPE_SFIXED32 ? (int32_t)v : (lua_Integer)v);
	}
	return true;
}

static bool
push_fixed64(struct decoder *d, const struct pb_field *f, struct pb_reader *r) {
	uint64_t v;
	if (!pb_read_fixed64(r, &v)) {
		return false;
	}
	if (f->type == PB_TYPE_DOUBLE) {
		double number;
		memcpy(&number, &v, sizeof(number));
		lua_pushnumber(d->L, number);
	} else {
		lua_pushinteger(d->L, (lua_Integer)v);
	}
	return true;
}

/* Push a number, boolean or enum whose bytes are next in r. */
static void
push_scalar(struct decoder *d, const struct level *l, const struct pb_field *f,
            struct pb_reader *r) {
	bool ok;
	uint64_t v;
	switch (pb_type_wire(f->type)) {
	case PB_FIXED32:
		ok = push_fixed32(d, f, r);
		break;
	case PB_FIXED64:
		ok = push_fixed64(d, f, r);
		break;
	default:
		ok = pb_read_varint(r, &v);
		if (ok) {
			push_varint(d, f, v);
		}
		break;
	}
	if (!ok) {
		malformed(d, l, "a number is cut off or too long");
	}
}

static void
push_text(struct decoder *d, struct level *l, const struct pb_field *f) {
	struct pb_reader text;
	if (!pb_read_part(&l->reader, &text)) {
		malformed(d, l, "a length reaches beyond the data");
	}
	size_t size = (size_t)(text.end - text.at);
	if (f->is_utf8 && !pb_is_utf8(text.at, size)) {
		malformed(d, l, "a string that is not UTF-8 ends");
	}
	lua_pushlstring(d->L, (const char *)text.at, size);
}

//------------------------------------------------------------------ messages

/* Decodes a message or group of field f into the table on top. */
static void
read_inner(struct decoder *d, struct level *l, const struct pb_field *f) {
	if (l->depth == 0) {
		malformed(d, l, "too many levels of messages");
	}
	struct level inner = {
	    .place = {.outer = &l->place, .message = f->message},
	    .reader = l->reader,
	    .table = lua_gettop(d->L),
	    .depth = l->depth - 1,
	};
	if (f->type == PB_TYPE_GROUP) {
		inner.group = f->number;
		read_message(d, &inner);
		l->reader.at = inner.reader.at;
	} else {
		if (!pb_read_part(&l->reader, &inner.reader)) {
			malformed(d, l, "a length reaches beyond the data");
		}
		read_message(d, &inner);
	}
}

/* Push one value of a field. */
static void
push_value(struct decoder *d, struct level *l, const struct pb_field *f) {
	if (f->message != NULL) {
		lua_createtable(d->L, 0, 0);
		read_inner(d, l, f);
	} else if (f->type == PB_TYPE_STRING || f->type == PB_TYPE_BYTES) {
		push_text(d, l, f);
	} else {
		push_scalar(d, l, f, &l->reader);
	}
}

void
pb_push_default(lua_State *L, int names, const struct pb_field *f) {
	if (f->is_repeated) {
		lua_createtable(L, 0, 0);
	} else if (f->message != NULL) {
		lua_pushnil(L);
	} else if (f->type == PB_TYPE_STRING || f->type == PB_TYPE_BYTES) {
		lua_pushlstring(L, f->default_text.s, f->default_text.size);
	} else if (f->type == PB_TYPE_DOUBLE || f->type == PB_TYPE_FLOAT) {
		lua_pushnumber(L, f->default_number);
	} else if (f->type == PB_TYPE_BOOL) {
		lua_pushboolean(L, f->default_integer != 0);
	} else if (f->type == PB_TYPE_ENUM) {
		push_enum(L, names, f->enum_type, (int32_t)f->default_integer);
	} else {
		lua_pushinteger(L, f->default_integer);
	}
}

/* After a message: required fields must be there, defaults may come. */
static void
finish(struct decoder *d, struct level *l) {
	const struct pb_message *m = l->place.message;
	if (m->required_count == 0 && !d->options.defaults) {
		return;
	}
	for (size_t i = 0; i < m->count; i++) {
		const struct pb_field *f = &m->field[i];
		push_name(d, f->id);
		if (lua_rawget(d->L, l->table) == LUA_TNIL) {
			if (f->is_required) {
				l->place.field = f;
				malformed(d, l, "a required field is missing: the message ends");
			} else if (d->options.defaults && f->oneof < 0) {
				push_name(d, f->id);
				pb_push_default(d->L, d->names, f);
				lua_rawset(d->L, l->table);
			}
		}
		lua_pop(d->L, 1);
	}
}

//-------------------------------------------------------------------- fields

/* Makes the array of a repeated field the one in work. */
static void
use_array(struct decoder *d, struct level *l, const struct pb_field *f) {
	lua_State *L = d->L;
	if (l->array_field == f) {
		return;
	}
	push_name(d, f->id);
	lua_pushvalue(L, -1);
	if (lua_rawget(L, l->table) == LUA_TNIL) {
		lua_pop(L, 1);
		lua_createtable(L, 0, 0);
		lua_pushvalue(L, -2);
		lua_pushvalue(L, -2);
		lua_rawset(L, l->table);
	}
	lua_replace(L, l->table + 1);
	lua_pop(L, 1);
	l->array_field = f;
	l->array_size = (lua_Integer)lua_rawlen(L, l->table + 1);
}

static void
append(struct decoder *d, struct level *l) {
	lua_rawseti(d->L, l->table + 1, ++l->array_size);
}

/* An entry of a map: a message of key and value, of which either may be absent. */
static void
read_entry(struct decoder *d, struct level *l, const struct pb_field *f) {
	lua_State *L = d->L;
	lua_createtable(L, 0, 2);
	read_inner(d, l, f);
	int entry = lua_gettop(L);
	for (int i = 0; i < 2; i++) {
		const struct pb_field *part = &f->message->field[i];
		push_name(d, part->id);
		if (lua_rawget(L, entry) == LUA_TNIL) {
			lua_pop(L, 1);
			pb_push_default(L, d->names, part);
			if (lua_isnil(L, -1)) {
				lua_pop(L, 1);
				lua_createtable(L, 0, 0);
			}
		}
	}
	lua_rawset(L, l->table + 1);
	lua_pop(L, 1);
}

static void
clear_others(struct decoder *d, struct level *l, const struct pb_field *f) {
	const struct pb_message *m = l->place.message;
	for (size_t i = 0; i < m->count; i++) {
		if (m->field[i].oneof == f->oneof && &m->field[i] != f) {
			push_name(d, m->field[i].id);
			lua_pushnil(d->L);
			lua_rawset(d->L, l->table);
		}
	}
}

/* A field with one value: the last one counts, messages merge. */
static void
read_single(struct decoder *d, struct level *l, const struct pb_field *f) {
	lua_State *L = d->L;
	if (f->oneof >= 0) {
		clear_others(d, l, f);
	}
	push_name(d, f->id);
	if (f->message != NULL) {
		lua_pushvalue(L, -1);
		if (lua_rawget(L, l->table) == LUA_TTABLE) {
			read_inner(d, l, f);
			lua_pop(L, 2);
			return;
		}
		lua_pop(L, 1);
	}
	push_value(d, l, f);
	lua_rawset(L, l->table);
}

static void
read_field(struct decoder *d, struct level *l, const struct pb_field *f) {
	l->place.field = f;
	if (!f->is_repeated) {
		read_single(d, l, f);
	} else if (f->is_map) {
		use_array(d, l, f);
		read_entry(d, l, f);
	} else {
		use_array(d, l, f);
		push_value(d, l, f);
		append(d, l);
	}
	l->place.field = NULL;
}

/* Appends bytes to the list of unknown fields, if they are wanted. */
static void
keep_unknown(struct decoder *d, const struct level *l, const uint8_t *bytes, size_t size) {
	lua_State *L = d->L;
	if (!d->options.unknown) {
		return;
	}
	if (lua_rawgeti(L, l->table, PB_UNKNOWN_KEY) == LUA_TNIL) {
		lua_pop(L, 1);
		lua_createtable(L, 1, 0);
		lua_pushvalue(L, -1);
		lua_rawseti(L, l->table, PB_UNKNOWN_KEY);
	}
	lua_pushlstring(L, (const char *)bytes, size);
	lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	lua_pop(L, 1);
}

/*
 * A number of a closed enum that has no name counts as an unknown field (as the value of a map it
 * stays a number). Whether one is next in r, and its value.
 */
static bool
is_unknown_value(const struct level *l, const struct pb_field *f, struct pb_reader r, uint64_t *v) {
	return f->type == PB_TYPE_ENUM && f->enum_type->is_closed && !l->place.message->is_map_entry &&
	       pb_read_varint(&r, v) && pb_enum_by_number(f->enum_type, (int32_t)*v) == NULL;
}

/* Keeps an unknown value of a packed field, as a field of its own. */
static void
keep_packed_value(struct decoder *d, const struct level *l, uint32_t number, uint64_t v) {
	uint8_t bytes[2 * PB_VARINT_MAX];
	uint8_t *end = pb_write_varint(bytes, (uint64_t)number << 3 | PB_VARINT);
	end = pb_write_varint(end, v);
	keep_unknown(d, l, bytes, (size_t)(end - bytes));
}

static void
read_packed(struct decoder *d, struct level *l, const struct pb_field *f) {
	struct pb_reader part;
	if (!pb_read_part(&l->reader, &part)) {
		malformed(d, l, "a length reaches beyond the data");
	}
	use_array(d, l, f);
	while (!pb_at_end(&part)) {
		uint64_t v;
		if (is_unknown_value(l, f, part, &v)) {
			pb_read_varint(&part, &v);
			keep_packed_value(d, l, f->number, v);
		} else {
			push_scalar(d, l, f, &part);
			append(d, l);
		}
	}
}

/* Reads one field whose tag begins at `from` and was read. */
static void
read_any(struct decoder *d, struct level *l, const uint8_t *from, uint32_t number,
         enum pb_wire wire) {
	const struct pb_field *f = pb_message_field(l->place.message, number);
	uint64_t v;
	if (f != NULL && wire == pb_type_wire(f->type) && !is_unknown_value(l, f, l->reader, &v)) {
		read_field(d, l, f);
	} else if (f != NULL && wire == PB_BYTES && f->is_repeated && pb_type_is_packable(f->type)) {
		l->place.field = f;
		read_packed(d, l, f);
		l->place.field = NULL;
	} else {
		if (!pb_skip(&l->reader, number, wire, l->depth)) {
			malformed(d, l, "an unknown field is malformed");
		}
		keep_unknown(d, l, from, (size_t)(l->reader.at - from));
	}
}

static void
read_message(struct decoder *d, struct level *l) {
	lua_State *L = d->L;
	luaL_checkstack(L, STACK_PER_LEVEL, "message");
	lua_pushnil(L); // the array in work
	while (!pb_at_end(&l->reader)) {
		const uint8_t *from = l->reader.at;
		uint32_t number;
		enum pb_wire wire;
		if (!pb_read_tag(&l->reader, &number, &wire)) {
			malformed(d, l, "no field begins");
		}
		if (wire == PB_END_GROUP && number == l->group) {
			l->group = 0;
			break;
		}
		read_any(d, l, from, number, wire);
	}
	if (l->group != 0) {
		malformed(d, l, "a group has no end");
	}
	finish(d, l);
	lua_settop(L, l->table);
}

void
pb_decode(lua_State *L, int names, const struct pb_message *m, struct pb_reader r,
          const struct pb_decode_options *options) {
	struct decoder d = {.L = L, .names = names, .options = *options, .start = r.at};
	lua_createtable(L, 0, 0);
	struct level l = {
	    .place = {.message = m},
	    .reader = r,
	    .table = lua_gettop(L),
	    .depth = PB_MAX_DEPTH - 1,
	};
	read_message(&d, &l);
}
