/* Encoding, see lua-protobuf.h. Equal tables give equal bytes: fields by number, maps by key. */
#include "lua-protobuf.h"
#include "../lua-nomem.h"

#include <math.h>
#include <stdlib.h>

#define STACK_PER_LEVEL 16
/* No reader takes a larger message. */
#define MAX_SIZE ((size_t)INT32_MAX)
#define FIRST_SIZE 256

struct encoder {
	lua_State *L;
	int names;
	struct pb_buffer *out;
};

/* One message in work. */
struct level {
	struct pb_place place;
	int table;
	int depth; /* levels that may still be entered */
};

static void write_message(struct encoder *e, struct level *l);

//-------------------------------------------------------------------- buffer

static void
resize(lua_State *L, struct pb_buffer *b, size_t capacity) {
	void *ud;
	lua_Alloc alloc = lua_getallocf(L, &ud);
	uint8_t *bytes = alloc(ud, b->bytes, b->capacity, capacity);
	if (bytes == NULL && capacity > 0) {
		lua_nomem(L);
	}
	b->bytes = bytes;
	b->capacity = capacity;
}

void
pb_buffer_free(lua_State *L, struct pb_buffer *b) {
	if (b->bytes != NULL) {
		resize(L, b, 0);
	}
	b->size = 0;
}

/* Room for `size` more bytes. */
static uint8_t *
reserve(struct encoder *e, size_t size) {
	struct pb_buffer *b = e->out;
	if (size > MAX_SIZE - b->size) {
		luaL_error(e->L, "the message is larger than 2 GiB");
	}
	if (size > b->capacity - b->size) {
		size_t capacity = b->capacity == 0 ? FIRST_SIZE : b->capacity;
		while (capacity < b->size + size) {
			capacity *= 2;
		}
		resize(e->L, b, capacity);
	}
	return b->bytes + b->size;
}

static void
write_varint(struct encoder *e, uint64_t v) {
	uint8_t *p = reserve(e, PB_VARINT_MAX);
	e->out->size += (size_t)(pb_write_varint(p, v) - p);
}

static void
write_bytes(struct encoder *e, const void *bytes, size_t size) {
	if (size > 0) {
		memcpy(reserve(e, size), bytes, size);
		e->out->size += size;
	}
}

static void
write_fixed(struct encoder *e, uint64_t v, size_t size) {
	uint8_t *p = reserve(e, size);
	for (size_t i = 0; i < size; i++) {
		p[i] = (uint8_t)(v >> (8 * i));
	}
	e->out->size += size;
}

static void
write_tag(struct encoder *e, const struct pb_field *f, enum pb_wire wire) {
	write_varint(e, (uint64_t)f->number << 3 | wire);
}

/* Starts something whose length comes in front; returns where. */
static size_t
begin_part(struct encoder *e) {
	reserve(e, 1);
	return ++e->out->size;
}

/* Puts the length of what was written since begin_part there. */
static void
end_part(struct encoder *e, size_t start) {
	size_t size = e->out->size - start;
	uint8_t length[PB_VARINT_MAX];
	size_t length_size = (size_t)(pb_write_varint(length, size) - length);
	if (length_size > 1) { // one byte was left free
		reserve(e, length_size - 1);
		memmove(e->out->bytes + start + length_size - 1, e->out->bytes + start, size);
		e->out->size += length_size - 1;
	}
	memcpy(e->out->bytes + start - 1, length, length_size);
}

//------------------------------------------------------------------- scalars

static int __attribute__((noreturn))
wrong_type(struct encoder *e, const struct level *l, const char *wanted, int value) {
	pb_raise(e->L, &l->place, "%s expected, got %s", wanted, luaL_typename(e->L, value));
}

/* The integer at an index, within the limits. */
static lua_Integer
check_integer(struct encoder *e, const struct level *l, int value, lua_Integer low,
              lua_Integer high) {
	int ok = 0;
	lua_Integer i = 0;
	if (lua_type(e->L, value) != LUA_TNUMBER) {
		wrong_type(e, l, "integer", value);
	}
	i = lua_tointegerx(e->L, value, &ok);
	if (!ok) {
		pb_raise(e->L, &l->place, "number has no integer representation");
	} else if (i < low || i > high) {
		pb_raise(e->L, &l->place, "%I is out of range", (LUAI_UACINT)i);
	}
	return i;
}

static lua_Number
check_number(struct encoder *e, const struct level *l, int value) {
	if (lua_type(e->L, value) != LUA_TNUMBER) {
		wrong_type(e, l, "number", value);
	}
	return lua_tonumber(e->L, value);
}

static int32_t
check_enum(struct encoder *e, const struct level *l, const struct pb_enum *type, int value) {
	if (lua_type(e->L, value) != LUA_TSTRING) {
		if (lua_type(e->L, value) != LUA_TNUMBER) {
			wrong_type(e, l, "name or number of an enum", value);
		}
		return (int32_t)check_integer(e, l, value, INT32_MIN, INT32_MAX);
	}
	size_t size;
	const char *name = lua_tolstring(e->L, value, &size);
	const struct pb_enum_value *v = pb_enum_by_name(type, name, size);
	if (v == NULL) {
		pb_raise(e->L, &l->place, "enum %s has no value '%s'", type->name.s, name);
	}
	return v->number;
}

/* Bits of a number, boolean or enum, as they go out: a varint, or 4 or 8 bytes. */
static uint64_t
check_bits(struct encoder *e, const struct level *l, const struct pb_field *f, int value) {
	switch (f->type) {
	case PB_TYPE_DOUBLE: {
		double d = check_number(e, l, value);
		uint64_t bits;
		memcpy(&bits, &d, sizeof(bits));
		return bits;
	}
	case PB_TYPE_FLOAT: {
		float number = (float)check_number(e, l, value);
		uint32_t bits;
		memcpy(&bits, &number, sizeof(bits));
		return bits;
	}
	case PB_TYPE_BOOL:
		if (!lua_isboolean(e->L, value)) {
			wrong_type(e, l, "boolean", value);
		}
		return (uint64_t)lua_toboolean(e->L, value);
	case PB_TYPE_ENUM:
		return (uint64_t)(int64_t)check_enum(e, l, f->enum_type, value);
	case PB_TYPE_INT32:
	case PB_TYPE_SFIXED32:
		return (uint64_t)check_integer(e, l, value, INT32_MIN, INT32_MAX);
	case PB_TYPE_UINT32:
	case PB_TYPE_FIXED32:
		return (uint64_t)check_integer(e, l, value, 0, UINT32_MAX);
	case PB_TYPE_SINT32: {
		lua_Integer i = check_integer(e, l, value, INT32_MIN, INT32_MAX);
		return (uint32_t)i << 1 ^ (i < 0 ? UINT32_MAX : 0);
	}
	case PB_TYPE_SINT64: {
		lua_Integer i = check_integer(e, l, value, LUA_MININTEGER, LUA_MAXINTEGER);
		return (uint64_t)i << 1 ^ (i < 0 ? UINT64_MAX : 0);
	}
	default:
		return (uint64_t)check_integer(e, l, value, LUA_MININTEGER, LUA_MAXINTEGER);
	}
}

static void
write_bits(struct encoder *e, const struct pb_field *f, uint64_t bits) {
	switch (pb_type_wire(f->type)) {
	case PB_FIXED32:
		write_fixed(e, bits, 4);
		break;
	case PB_FIXED64:
		write_fixed(e, bits, 8);
		break;
	default:
		write_varint(e, bits);
		break;
	}
}

/* The text at an index; numbers are not taken for one. */
static const char *
check_text(struct encoder *e, const struct level *l, const struct pb_field *f, int value,
           size_t *size) {
	if (lua_type(e->L, value) != LUA_TSTRING) {
		wrong_type(e, l, "string", value);
	}
	const char *s = lua_tolstring(e->L, value, size);
	if (f->is_utf8 && !pb_is_utf8((const uint8_t *)s, *size)) {
		pb_raise(e->L, &l->place, "string is not UTF-8");
	}
	return s;
}

//-------------------------------------------------------------------- fields

static void
write_inner(struct encoder *e, struct level *l, const struct pb_field *f, int value) {
	if (lua_type(e->L, value) != LUA_TTABLE) {
		wrong_type(e, l, "table", value);
	} else if (l->depth == 0) {
		pb_raise(e->L, &l->place, "more than %d levels of messages", PB_MAX_DEPTH);
	}
	struct level inner = {
	    .place = {.outer = &l->place, .message = f->message},
	    .table = lua_absindex(e->L, value),
	    .depth = l->depth - 1,
	};
	if (f->type == PB_TYPE_GROUP) {
		write_tag(e, f, PB_START_GROUP);
		write_message(e, &inner);
		write_tag(e, f, PB_END_GROUP);
	} else {
		write_tag(e, f, PB_BYTES);
		size_t start = begin_part(e);
		write_message(e, &inner);
		end_part(e, start);
	}
}

/* Write the value on top of the stack, with its tag. */
static void
write_value(struct encoder *e, struct level *l, const struct pb_field *f, bool skip_zero) {
	if (f->message != NULL) {
		write_inner(e, l, f, -1);
	} else if (f->type == PB_TYPE_STRING || f->type == PB_TYPE_BYTES) {
		size_t size;
		const char *s = check_text(e, l, f, -1, &size);
		if (size > 0 || !skip_zero) {
			write_tag(e, f, PB_BYTES);
			write_varint(e, size);
			write_bytes(e, s, size);
		}
	} else {
		uint64_t bits = check_bits(e, l, f, -1);
		if (bits != 0 || !skip_zero) {
			write_tag(e, f, pb_type_wire(f->type));
			write_bits(e, f, bits);
		}
	}
}

static void
write_array(struct encoder *e, struct level *l, const struct pb_field *f) {
	lua_State *L = e->L;
	if (lua_type(L, -1) != LUA_TTABLE) {
		wrong_type(e, l, "table", -1);
	}
	lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
	size_t start = 0;
	if (f->is_packed && count > 0) {
		write_tag(e, f, PB_BYTES);
		start = begin_part(e);
	}
	for (lua_Integer i = 1; i <= count; i++) {
		l->place.index = i;
		lua_rawgeti(L, -1, i);
		if (f->is_packed) {
			write_bits(e, f, check_bits(e, l, f, -1));
		} else {
			write_value(e, l, f, false);
		}
		lua_pop(L, 1);
	}
	if (f->is_packed && count > 0) {
		end_part(e, start);
	}
	l->place.index = 0;
}

//---------------------------------------------------------------------- maps

/* A key of a map: text (which the map keeps alive), or the bits of an integer or boolean. */
struct key {
	const char *text;
	size_t size;
	uint64_t bits;
};

static int
by_text(const void *a, const void *b) {
	const struct key *x = a, *y = b;
	size_t size = x->size < y->size ? x->size : y->size;
	int order = memcmp(x->text, y->text, size);
	return order != 0 ? order : x->size < y->size ? -1 : x->size > y->size;
}

static int
by_signed(const void *a, const void *b) {
	int64_t x = (int64_t)((const struct key *)a)->bits, y = (int64_t)((const struct key *)b)->bits;
	return x < y ? -1 : x > y;
}

static int
by_unsigned(const void *a, const void *b) {
	uint64_t x = ((const struct key *)a)->bits, y = ((const struct key *)b)->bits;
	return x < y ? -1 : x > y;
}

static size_t
count_pairs(lua_State *L) {
	size_t count = 0;
	for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
		count++;
	}
	return count;
}

/* The key at an index. */
static void
check_key(struct encoder *e, const struct level *l, const struct pb_field *f, int value,
          struct key *k) {
	if (f->type == PB_TYPE_STRING) {
		k->text = check_text(e, l, f, value, &k->size);
		return;
	}
	check_bits(e, l, f, value); // the range
	k->bits = f->type == PB_TYPE_BOOL ? (uint64_t)lua_toboolean(e->L, value)
	                                  : (uint64_t)lua_tointeger(e->L, value);
}

static void
push_key(lua_State *L, const struct pb_field *f, const struct key *k) {
	if (k->text != NULL) {
		lua_pushlstring(L, k->text, k->size);
	} else if (f->type == PB_TYPE_BOOL) {
		lua_pushboolean(L, k->bits != 0);
	} else {
		lua_pushinteger(L, (lua_Integer)k->bits);
	}
}

/* Push a block with the sorted keys of the map below it. */
static struct key *
sort_keys(struct encoder *e, const struct level *l, const struct pb_field *f, size_t *count) {
	lua_State *L = e->L;
	*count = count_pairs(L);
	struct key *list = lua_newuserdatauv(L, *count * sizeof(*list), 0);
	struct key *k = list;
	for (lua_pushnil(L); lua_next(L, -3) != 0; lua_pop(L, 1)) {
		*k = (struct key){.text = NULL};
		check_key(e, l, f, -2, k++);
	}
	bool is_unsigned = f->type == PB_TYPE_UINT64 || f->type == PB_TYPE_FIXED64;
	if (*count > 0) {
		qsort(list, *count, sizeof(*list),
		      f->type == PB_TYPE_STRING ? by_text
		      : is_unsigned             ? by_unsigned
		                                : by_signed);
	}
	return list;
}

static void
write_map(struct encoder *e, struct level *l, const struct pb_field *f) {
	lua_State *L = e->L;
	if (lua_type(L, -1) != LUA_TTABLE) {
		wrong_type(e, l, "table", -1);
	} else if (l->depth == 0) {
		pb_raise(L, &l->place, "more than %d levels of messages", PB_MAX_DEPTH);
	}
	struct level entry = {
	    .place = {.outer = &l->place, .message = f->message},
	    .depth = l->depth - 1,
	};
	const struct pb_field *key = &f->message->field[0], *value = &f->message->field[1];
	entry.place.field = key;
	size_t count;
	const struct key *list = sort_keys(e, &entry, key, &count);
	for (size_t i = 0; i < count; i++) {
		write_tag(e, f, PB_BYTES);
		size_t start = begin_part(e);
		push_key(L, key, &list[i]);
		entry.place.field = key;
		write_value(e, &entry, key, false);
		lua_rawget(L, -3);
		entry.place.field = value;
		write_value(e, &entry, value, false);
		lua_pop(L, 1);
		end_part(e, start);
	}
	lua_pop(L, 1);
}

//------------------------------------------------------------------ messages

/* Fields of one oneof must not stand side by side. */
static void
check_oneof(struct encoder *e, const struct level *l, const struct pb_field *f) {
	const struct pb_message *m = l->place.message;
	for (const struct pb_field *other = m->field; other < f; other++) {
		if (other->oneof != f->oneof) {
			continue;
		}
		lua_rawgeti(e->L, e->names, (lua_Integer)other->id + 1);
		if (lua_rawget(e->L, l->table) != LUA_TNIL) {
			pb_raise(e->L, &l->place, "field %s of the same oneof is set, too", other->name.s);
		}
		lua_pop(e->L, 1);
	}
}

static void
write_field(struct encoder *e, struct level *l, const struct pb_field *f) {
	l->place.field = f;
	lua_rawgeti(e->L, e->names, (lua_Integer)f->id + 1);
	if (lua_rawget(e->L, l->table) == LUA_TNIL) {
		if (f->is_required) {
			pb_raise(e->L, &l->place, "required field is missing");
		}
	} else if (f->is_map) {
		write_map(e, l, f);
	} else if (f->is_repeated) {
		write_array(e, l, f);
	} else {
		if (f->oneof >= 0) {
			check_oneof(e, l, f);
		}
		write_value(e, l, f, f->is_implicit);
	}
	lua_pop(e->L, 1);
}

/* Whether the bytes are whole fields: otherwise readers could not tell where ours are. */
static bool
is_fields(const char *s, size_t size, int depth) {
	struct pb_reader r = {(const uint8_t *)s, (const uint8_t *)s + size};
	uint32_t number;
	enum pb_wire wire;
	while (!pb_at_end(&r)) {
		if (!pb_read_tag(&r, &number, &wire) || !pb_skip(&r, number, wire, depth)) {
			return false;
		}
	}
	return true;
}

/* Write the array of what decoding kept, which is on top of the stack. */
static void
write_unknown_list(struct encoder *e, const struct level *l) {
	lua_State *L = e->L;
	lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
	for (lua_Integer i = 1; i <= count; i++) {
		size_t size = 0;
		const char *s = lua_rawgeti(L, -1, i) == LUA_TSTRING ? lua_tolstring(L, -1, &size) : NULL;
		if (s == NULL || !is_fields(s, size, l->depth)) {
			pb_raise(L, &l->place, "item %I of the unknown fields (key 0) is no field",
			         (LUAI_UACINT)i);
		}
		write_bytes(e, s, size);
		lua_pop(L, 1);
	}
}

static void
write_unknown(struct encoder *e, struct level *l) {
	l->place.field = NULL;
	int type = lua_rawgeti(e->L, l->table, PB_UNKNOWN_KEY);
	if (type == LUA_TTABLE) {
		write_unknown_list(e, l);
	} else if (type != LUA_TNIL) {
		pb_raise(e->L, &l->place, "the unknown fields (key 0) must be an array of strings");
	}
	lua_pop(e->L, 1);
}

static void
write_message(struct encoder *e, struct level *l) {
	luaL_checkstack(e->L, STACK_PER_LEVEL, "message");
	const struct pb_message *m = l->place.message;
	for (size_t i = 0; i < m->count; i++) {
		write_field(e, l, &m->field[i]);
	}
	write_unknown(e, l);
}

void
pb_encode(lua_State *L, int names, const struct pb_message *m, int table, struct pb_buffer *out) {
	struct encoder e = {.L = L, .names = names, .out = out};
	struct level l = {
	    .place = {.message = m},
	    .table = lua_absindex(L, table),
	    .depth = PB_MAX_DEPTH - 1,
	};
	write_message(&e, &l);
}
