/*
 * Lua tables into wire format. The buffer starts on the C stack; one that grows
 * beyond that is a userdata, so that an error anywhere leaves nothing behind and
 * no large buffer outlives its message.
 */
#include "sproto_codec.h"
#include "sproto_error.h"

#include <lauxlib.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define FIRST_BUFFER 2048

/* A header is reserved at full length and shortened when the struct is done, so
 * an unfinished object may be longer than the result: 64 levels of at most 64 KB. */
#define MAX_BUFFER (SPROTO_MAX_SIZE + SPROTO_MAX_DEPTH * 65536u)

/* Stack slots that a level of nesting needs at most. */
#define SLOTS_PER_LEVEL 12

#define TWO_TO_63 9223372036854775808.0

struct encoder {
	lua_State *L;
	uint8_t *data;
	size_t size;
	size_t capacity;
	int box; /* stack index of the userdata that holds data, or of nil */
};

/* The header of a struct in the making, at `offset`. */
struct header {
	size_t offset;
	unsigned words;
	int tag; /* of the last field */
};

/* What is being encoded, for messages and limits. */
struct place {
	const struct sproto_type *type;
	const struct sproto_field *field;
	lua_Integer index; /* in an array, else 0 */
	int level;
};

/*-------------------------------------------------------------------- buffer */

static void
grow(struct encoder *e, size_t need) {
	if (need > MAX_BUFFER) {
		sproto_error(e->L, "object is too large (>%d)", (int)SPROTO_MAX_SIZE);
	}
	size_t capacity = e->capacity;
	while (capacity < need) {
		capacity *= 2;
	}
	uint8_t *data = lua_newuserdatauv(e->L, capacity, 0);
	memcpy(data, e->data, e->size);
	lua_replace(e->L, e->box);
	e->data = data;
	e->capacity = capacity;
}

/* Room for n bytes at the end; their address lasts until the next call. */
static uint8_t *
extend(struct encoder *e, size_t n) {
	if (n > e->capacity - e->size) {
		/* Strings are bounded by memory: no sum of two lengths can wrap. */
		grow(e, e->size + n);
	}
	uint8_t *p = e->data + e->size;
	e->size += n;
	return p;
}

static void
put_u16(uint8_t *p, uint32_t v) {
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void
put_u32(uint8_t *p, uint32_t v) {
	put_u16(p, v);
	put_u16(p + 2, v >> 16);
}

static void
put_u64(uint8_t *p, uint64_t v) {
	put_u32(p, (uint32_t)v);
	put_u32(p + 4, (uint32_t)(v >> 32));
}

static size_t
chunk_begin(struct encoder *e) {
	size_t at = e->size;
	extend(e, SPROTO_CHUNK_SIZE);
	return at;
}

static void
chunk_end(struct encoder *e, size_t at) {
	put_u32(e->data + at, (uint32_t)(e->size - at - SPROTO_CHUNK_SIZE));
}

/*-------------------------------------------------------------------- header */

static struct header
header_begin(struct encoder *e, const struct sproto_type *t) {
	struct header h = {.offset = e->size, .tag = -1};
	extend(e, SPROTO_WORD_SIZE + (size_t)t->max_words * SPROTO_WORD_SIZE);
	return h;
}

static void
header_word(struct encoder *e, struct header *h, uint32_t word) {
	h->words++;
	put_u16(e->data + h->offset + (size_t)h->words * SPROTO_WORD_SIZE, word);
}

/* The word of the field with this tag, after one to skip to it if need be.
 * value -1: it is in the next chunk. */
static void
header_field(struct encoder *e, struct header *h, int tag, int value) {
	int gap = tag - h->tag - 1;
	if (gap > 0) {
		header_word(e, h, (uint32_t)(gap - 1) * 2 + 1);
	}
	header_word(e, h, (uint32_t)(value + 1) * 2);
	h->tag = tag;
}

/* Closes the room that was not needed. */
static void
header_end(struct encoder *e, const struct sproto_type *t, const struct header *h) {
	put_u16(e->data + h->offset, h->words);
	size_t used = h->offset + SPROTO_WORD_SIZE + (size_t)h->words * SPROTO_WORD_SIZE;
	size_t reserved = h->offset + SPROTO_WORD_SIZE + (size_t)t->max_words * SPROTO_WORD_SIZE;
	if (used < reserved) {
		memmove(e->data + used, e->data + reserved, e->size - reserved);
		e->size -= reserved - used;
	}
}

/*------------------------------------------------------------------- scalars */

static int
wrong_type(lua_State *L, const struct place *at, const char *wanted) {
	return sproto_error(L, "%s.%s[%I] is not %s (Is a %s)", at->type->name, at->field->name,
	                    (LUAI_UACINT)at->index, wanted, luaL_typename(L, -1));
}

static lua_Number
to_number(lua_State *L, const struct place *at) {
	int ok;
	lua_Number v = lua_tonumberx(L, -1, &ok);
	if (!ok) {
		wrong_type(L, at, "a number");
	}
	return v;
}

/* The value on the top, as an integer or a decimal is stored. */
static int64_t
to_integer(lua_State *L, const struct place *at) {
	if (at->field->is_decimal) {
		lua_Number v = round(to_number(L, at) * (lua_Number)at->field->factor);
		/* Also false for what is not a number at all. */
		if (!(v >= -TWO_TO_63 && v < TWO_TO_63)) {
			sproto_error(L, "%s.%s[%I] is out of range", at->type->name, at->field->name,
			             (LUAI_UACINT)at->index);
		}
		return (int64_t)v;
	}
	int ok;
	lua_Integer i = lua_tointegerx(L, -1, &ok);
	if (!ok) {
		wrong_type(L, at, "an integer");
	}
	return i;
}

static void
put_double(uint8_t *p, lua_Number v) {
	uint64_t bits;
	_Static_assert(sizeof(bits) == sizeof(v), "a double has 64 bits");
	memcpy(&bits, &v, sizeof(bits));
	put_u64(p, bits);
}

static bool
to_boolean(lua_State *L, const struct place *at) {
	if (!lua_isboolean(L, -1)) {
		wrong_type(L, at, "a boolean");
	}
	return lua_toboolean(L, -1);
}

/* A chunk of the string on the top. */
static void
put_string(struct encoder *e, const struct place *at) {
	/* Not lua_isstring: that is true of numbers. */
	if (lua_type(e->L, -1) != LUA_TSTRING) {
		wrong_type(e->L, at, "a string");
	}
	size_t size;
	const char *s = lua_tolstring(e->L, -1, &size);
	if (size > SPROTO_MAX_SIZE) {
		sproto_error(e->L, "object is too large (>%d)", (int)SPROTO_MAX_SIZE);
	}
	uint8_t *p = extend(e, SPROTO_CHUNK_SIZE + size);
	put_u32(p, (uint32_t)size);
	memcpy(p + SPROTO_CHUNK_SIZE, s, size);
}

static bool
fits_32_bits(int64_t v) {
	return v >= INT32_MIN && v <= INT32_MAX;
}

static void
put_integer(struct encoder *e, int64_t v) {
	size_t size = fits_32_bits(v) ? 4 : 8;
	uint8_t *p = extend(e, SPROTO_CHUNK_SIZE + size);
	put_u32(p, (uint32_t)size);
	if (size == 4) {
		put_u32(p + SPROTO_CHUNK_SIZE, (uint32_t)v);
	} else {
		put_u64(p + SPROTO_CHUNK_SIZE, (uint64_t)v);
	}
}

/*------------------------------------------------------------------- structs */

static void put_struct(struct encoder *e, const struct sproto_type *t, int index, int level);
static void put_array(struct encoder *e, const struct place *at);

/* What a struct can be read from: a table, or what answers to indexing. */
static void
check_struct(lua_State *L, const struct place *at) {
	if (lua_istable(L, -1)) {
		return;
	}
	if (lua_type(L, -1) == LUA_TSTRING || luaL_getmetafield(L, -1, "__index") == LUA_TNIL) {
		wrong_type(L, at, "a table");
	}
	lua_pop(L, 1);
}

static void
put_struct_chunk(struct encoder *e, const struct place *at) {
	check_struct(e->L, at);
	size_t chunk = chunk_begin(e);
	put_struct(e, at->field->type, lua_gettop(e->L), at->level + 1);
	chunk_end(e, chunk);
}

/* The value on the top, which is not nil. */
static void
put_field(struct encoder *e, struct header *h, const struct place *at) {
	const struct sproto_field *f = at->field;
	if (at->level > SPROTO_MAX_DEPTH) {
		sproto_error(e->L, "The table is too deep");
	}
	if (f->is_array) {
		header_field(e, h, f->tag, -1);
		put_array(e, at);
		return;
	}
	if (f->code == SPROTO_BOOLEAN) {
		header_field(e, h, f->tag, to_boolean(e->L, at));
		return;
	}
	if (f->code == SPROTO_INTEGER) {
		int64_t v = to_integer(e->L, at);
		bool is_inline = v >= 0 && v <= SPROTO_INLINE_MAX;
		header_field(e, h, f->tag, is_inline ? (int)v : -1);
		if (!is_inline) {
			put_integer(e, v);
		}
		return;
	}
	header_field(e, h, f->tag, -1);
	if (f->code == SPROTO_STRING) {
		put_string(e, at);
	} else if (f->code == SPROTO_DOUBLE) {
		lua_Number v = to_number(e->L, at);
		uint8_t *p = extend(e, SPROTO_CHUNK_SIZE + sizeof(v));
		put_u32(p, sizeof(v));
		put_double(p + SPROTO_CHUNK_SIZE, v);
	} else {
		put_struct_chunk(e, at);
	}
}

static void
put_struct(struct encoder *e, const struct sproto_type *t, int index, int level) {
	lua_State *L = e->L;
	luaL_checkstack(L, SLOTS_PER_LEVEL, NULL);
	struct header h = header_begin(e, t);
	struct place at = {.type = t, .level = level};
	for (int i = 0; i < t->n; i++) {
		at.field = &t->field[i];
		if (lua_getfield(L, index, at.field->name) != LUA_TNIL) {
			put_field(e, &h, &at);
		}
		lua_pop(L, 1);
	}
	header_end(e, t, &h);
}

/*-------------------------------------------------------------------- arrays */

/* Items already written with 4 bytes each get 8. */
static void
widen(struct encoder *e, size_t items, size_t n) {
	extend(e, n * 4);
	for (size_t i = n; i-- > 0;) {
		int32_t v = (int32_t)sproto_u32(e->data + items + i * 4);
		put_u64(e->data + items + i * 8, (uint64_t)(int64_t)v);
	}
}

/* Pushes item at->index of the table below; false at the end. */
static bool
next_item(struct encoder *e, struct place *at, int table) {
	at->index++;
	if (lua_geti(e->L, table, at->index) != LUA_TNIL) {
		return true;
	}
	lua_pop(e->L, 1);
	return false;
}

static void
put_integers(struct encoder *e, struct place *at, int table) {
	if (!next_item(e, at, table)) {
		return;
	}
	size_t width_at = e->size;
	size_t width = 4;
	extend(e, 1);
	do {
		int64_t v = to_integer(e->L, at);
		if (width == 4 && !fits_32_bits(v)) {
			widen(e, width_at + 1, (size_t)at->index - 1);
			width = 8;
		}
		uint8_t *p = extend(e, width);
		if (width == 4) {
			put_u32(p, (uint32_t)v);
		} else {
			put_u64(p, (uint64_t)v);
		}
		lua_pop(e->L, 1);
	} while (next_item(e, at, table));
	e->data[width_at] = (uint8_t)width;
}

static void
put_doubles(struct encoder *e, struct place *at, int table) {
	if (!next_item(e, at, table)) {
		return;
	}
	*extend(e, 1) = sizeof(lua_Number);
	do {
		lua_Number v = to_number(e->L, at);
		put_double(extend(e, sizeof(v)), v);
		lua_pop(e->L, 1);
	} while (next_item(e, at, table));
}

static void
put_list(struct encoder *e, struct place *at, int table) {
	switch (at->field->code) {
	case SPROTO_INTEGER:
		put_integers(e, at, table);
		return;
	case SPROTO_DOUBLE:
		put_doubles(e, at, table);
		return;
	default:
		break;
	}
	while (next_item(e, at, table)) {
		if (at->field->code == SPROTO_BOOLEAN) {
			bool v = to_boolean(e->L, at);
			*extend(e, 1) = v;
		} else if (at->field->code == SPROTO_STRING) {
			put_string(e, at);
		} else {
			put_struct_chunk(e, at);
		}
		lua_pop(e->L, 1);
	}
}

/* An entry of a map as a struct; key and value are the two values on the top. */
static void
put_map_entry(struct encoder *e, const struct place *at) {
	lua_State *L = e->L;
	const struct sproto_type *t = at->field->type;
	size_t chunk = chunk_begin(e);
	struct header h = header_begin(e, t);
	struct place inside = {.type = t, .level = at->level + 1};
	for (int i = 0; i < 2; i++) {
		inside.field = &t->field[i];
		lua_pushvalue(L, inside.field == at->field->key ? -2 : -1);
		put_field(e, &h, &inside);
		lua_pop(L, 1);
	}
	header_end(e, t, &h);
	chunk_end(e, chunk);
}

/* The entry on the top: key, value. Pops the value. */
static void
put_entry(struct encoder *e, struct place *at) {
	at->index++;
	if (at->field->is_map) {
		put_map_entry(e, at);
	} else {
		put_struct_chunk(e, at);
	}
	lua_pop(e->L, 1);
}

/* Both map forms; the table is traversed as pairs does. */
static void
put_map(struct encoder *e, struct place *at, int table) {
	lua_State *L = e->L;
	luaL_checkstack(L, SLOTS_PER_LEVEL, NULL);
	if (luaL_getmetafield(L, table, "__pairs") == LUA_TNIL) {
		lua_pushnil(L);
		while (lua_next(L, table)) {
			put_entry(e, at);
		}
		return;
	}
	lua_pushvalue(L, table);
	lua_call(L, 1, 3);
	/* iterator, state, control */
	int iterator = lua_gettop(L) - 2;
	for (;;) {
		lua_pushvalue(L, iterator);
		lua_pushvalue(L, iterator + 1);
		lua_pushvalue(L, iterator + 2);
		lua_call(L, 2, 2);
		if (lua_isnil(L, -2)) {
			break;
		}
		if (lua_isnil(L, -1)) {
			lua_pop(L, 1);
		} else {
			put_entry(e, at);
		}
		lua_replace(L, iterator + 2);
	}
	lua_settop(L, iterator - 1);
}

/* The array on the top. */
static void
put_array(struct encoder *e, const struct place *at) {
	lua_State *L = e->L;
	int table = lua_gettop(L);
	if (!lua_istable(L, table)) {
		if (luaL_getmetafield(L, table, "__pairs") == LUA_TNIL) {
			sproto_error(L, "%s.%s(%d) should be a table or an userdata with metamethods (Is a %s)",
			             at->type->name, at->field->name, 1, luaL_typename(L, table));
		}
		lua_pop(L, 1);
	}
	struct place item = *at;
	item.index = 0;
	size_t chunk = chunk_begin(e);
	if (at->field->key != NULL) {
		put_map(e, &item, table);
	} else {
		put_list(e, &item, table);
	}
	chunk_end(e, chunk);
}

/*--------------------------------------------------------------------- entry */

void
sproto_encode(lua_State *L, const struct sproto_type *t, int index) {
	uint8_t first[FIRST_BUFFER];
	index = lua_absindex(L, index);
	lua_pushnil(L);
	struct encoder e = {
	    .L = L,
	    .data = first,
	    .capacity = sizeof(first),
	    .box = lua_gettop(L),
	};
	put_struct(&e, t, index, 1);
	if (e.size > SPROTO_MAX_SIZE) {
		sproto_error(L, "object is too large (>%d)", (int)SPROTO_MAX_SIZE);
	}
	lua_pushlstring(L, (const char *)e.data, e.size);
	lua_remove(L, e.box);
}
