/*
 * Wire format into Lua tables. The bytes may come from anybody: whatever they
 * say, this reads inside them only, nests to a fixed depth and allocates in
 * proportion to their length.
 */
#include "sproto_codec.h"
#include "sproto_error.h"

#include <lauxlib.h>
#include <limits.h>
#include <string.h>

/* Stack slots that a level of nesting needs at most. */
#define SLOTS_PER_LEVEL 12

static void
malformed(lua_State *L) {
	sproto_error(L, "decode error");
}

/*------------------------------------------------------------------- scalars */

static void
push_integer(lua_State *L, const struct sproto_field *f, int64_t v) {
	if (f->is_decimal) {
		lua_pushnumber(L, (lua_Number)v / (lua_Number)f->factor);
	} else {
		lua_pushinteger(L, v);
	}
}

/* Four bytes are sign-extended. */
static int64_t
read_integer(const uint8_t *p, size_t width) {
	return width == 4 ? (int64_t)(int32_t)sproto_u32(p) : (int64_t)sproto_u64(p);
}

static lua_Number
read_double(const uint8_t *p) {
	uint64_t bits = sproto_u64(p);
	lua_Number v;
	memcpy(&v, &bits, sizeof(v));
	return v;
}

static void
push_inline(lua_State *L, const struct sproto_field *f, int value) {
	if (f->is_array) {
		malformed(L);
	} else if (f->code == SPROTO_INTEGER) {
		push_integer(L, f, value);
	} else if (f->code == SPROTO_BOOLEAN) {
		lua_pushboolean(L, value != 0);
	} else {
		malformed(L);
	}
}

/*------------------------------------------------------------------- structs */

static size_t fill(lua_State *L, const struct sproto_type *t, struct sproto_slice s, int level);
static void push_array(lua_State *L, const struct sproto_field *f, struct sproto_slice s,
                       int level);

/* A struct that is a whole chunk. */
static void
push_struct(lua_State *L, const struct sproto_type *t, struct sproto_slice s, int level) {
	luaL_checkstack(L, SLOTS_PER_LEVEL, NULL);
	lua_newtable(L);
	if (fill(L, t, s, level) != s.size) {
		malformed(L);
	}
}

static void
push_chunk(lua_State *L, const struct sproto_field *f, struct sproto_slice s, int level) {
	if (f->is_array) {
		push_array(L, f, s, level);
		return;
	}
	switch (f->code) {
	case SPROTO_INTEGER:
		if (s.size != 4 && s.size != 8) {
			malformed(L);
		}
		push_integer(L, f, read_integer(s.data, s.size));
		return;
	case SPROTO_DOUBLE:
		if (s.size != sizeof(lua_Number)) {
			malformed(L);
		}
		lua_pushnumber(L, read_double(s.data));
		return;
	case SPROTO_STRING:
		lua_pushlstring(L, (const char *)s.data, s.size);
		return;
	case SPROTO_STRUCT:
		push_struct(L, f->type, s, level + 1);
		return;
	case SPROTO_BOOLEAN:
		break;
	}
	malformed(L);
}

static void
push_item(lua_State *L, const struct sproto_field *f, const struct sproto_item *item, int level) {
	if (level > SPROTO_MAX_DEPTH) {
		sproto_error(L, "The table is too deep");
	}
	if (item->value >= 0) {
		push_inline(L, f, item->value);
	} else {
		push_chunk(L, f, item->chunk, level);
	}
}

/* A struct being read along the fields of its type: both have rising tags. */
struct walk {
	struct sproto_reader reader;
	const struct sproto_type *type;
	int next; /* the first field that can still come */
};

static void
walk_open(lua_State *L, struct walk *w, const struct sproto_type *t, struct sproto_slice s) {
	w->type = t;
	w->next = 0;
	if (!sproto_reader_open(&w->reader, s)) {
		malformed(L);
	}
}

/* The next field that the type knows, or NULL at the end. */
static const struct sproto_field *
walk_next(lua_State *L, struct walk *w, struct sproto_item *item) {
	int more;
	while ((more = sproto_reader_next(&w->reader, item)) > 0) {
		while (w->next < w->type->n && w->type->field[w->next].tag < item->tag) {
			w->next++;
		}
		if (w->next < w->type->n && w->type->field[w->next].tag == item->tag) {
			return &w->type->field[w->next];
		}
	}
	if (more < 0) {
		malformed(L);
	}
	return NULL;
}

/* Fills the table on the top; returns the bytes consumed. */
static size_t
fill(lua_State *L, const struct sproto_type *t, struct sproto_slice s, int level) {
	struct walk w;
	struct sproto_item item;
	const struct sproto_field *f;
	walk_open(L, &w, t, s);
	while ((f = walk_next(L, &w, &item)) != NULL) {
		push_item(L, f, &item, level);
		lua_setfield(L, -2, f->name);
	}
	return (size_t)(w.reader.rest.data - s.data);
}

/*-------------------------------------------------------------------- arrays */

static int
size_hint(size_t n) {
	return n > INT_MAX ? INT_MAX : (int)n;
}

/* Items of one width, after a byte that tells it. */
static void
push_numbers(lua_State *L, const struct sproto_field *f, struct sproto_slice s) {
	size_t width = s.data[0];
	bool is_valid = width == 8 || (width == 4 && f->code == SPROTO_INTEGER);
	if (!is_valid || (s.size - 1) % width != 0) {
		malformed(L);
	}
	size_t n = (s.size - 1) / width;
	lua_createtable(L, size_hint(n), 0);
	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = s.data + 1 + i * width;
		if (f->code == SPROTO_INTEGER) {
			push_integer(L, f, read_integer(p, width));
		} else {
			lua_pushnumber(L, read_double(p));
		}
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

static void
push_booleans(lua_State *L, struct sproto_slice s) {
	lua_createtable(L, size_hint(s.size), 0);
	for (size_t i = 0; i < s.size; i++) {
		lua_pushboolean(L, s.data[i] != 0);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

static bool
next_chunk(lua_State *L, struct sproto_slice *s, struct sproto_slice *chunk) {
	if (s->size == 0) {
		return false;
	}
	if (!sproto_slice_chunk(s, chunk)) {
		malformed(L);
	}
	return true;
}

static void
push_list(lua_State *L, const struct sproto_field *f, struct sproto_slice s, int level) {
	struct sproto_slice chunk;
	lua_newtable(L);
	for (lua_Integer i = 1; next_chunk(L, &s, &chunk); i++) {
		if (f->code == SPROTO_STRING) {
			lua_pushlstring(L, (const char *)chunk.data, chunk.size);
		} else {
			push_struct(L, f->type, chunk, level + 1);
		}
		lua_rawseti(L, -2, i);
	}
}

/* A table of structs, keyed by one of their fields. */
static void
push_index(lua_State *L, const struct sproto_field *f, struct sproto_slice s, int level) {
	struct sproto_slice chunk;
	lua_newtable(L);
	while (next_chunk(L, &s, &chunk)) {
		push_struct(L, f->type, chunk, level + 1);
		if (lua_getfield(L, -1, f->key->name) == LUA_TNIL) {
			sproto_error(L, "Can't find main index (tag=%d) in [%s]", f->key->tag, f->name);
		}
		lua_insert(L, -2);
		lua_rawset(L, -3);
	}
}

/* Pushes key and value of one entry of a map. */
static void
push_entry(lua_State *L, const struct sproto_field *f, struct sproto_slice s, int level) {
	struct walk w;
	struct sproto_item item;
	const struct sproto_field *part;
	luaL_checkstack(L, SLOTS_PER_LEVEL, NULL);
	lua_pushnil(L);
	lua_pushnil(L);
	walk_open(L, &w, f->type, s);
	while ((part = walk_next(L, &w, &item)) != NULL) {
		push_item(L, part, &item, level);
		lua_replace(L, part == f->key ? -3 : -2);
	}
	if (w.reader.rest.size != 0) {
		malformed(L);
	}
	if (lua_isnil(L, -2)) {
		sproto_error(L, "Can't find key field in [%s]", f->name);
	}
	if (lua_isnil(L, -1)) {
		sproto_error(L, "Can't find value field in [%s]", f->name);
	}
}

static void
push_map(lua_State *L, const struct sproto_field *f, struct sproto_slice s, int level) {
	struct sproto_slice chunk;
	lua_newtable(L);
	while (next_chunk(L, &s, &chunk)) {
		push_entry(L, f, chunk, level + 1);
		lua_rawset(L, -3);
	}
}

static void
push_array(lua_State *L, const struct sproto_field *f, struct sproto_slice s, int level) {
	luaL_checkstack(L, SLOTS_PER_LEVEL, NULL);
	if (s.size == 0) {
		lua_newtable(L);
	} else if (f->code == SPROTO_INTEGER || f->code == SPROTO_DOUBLE) {
		push_numbers(L, f, s);
	} else if (f->code == SPROTO_BOOLEAN) {
		push_booleans(L, s);
	} else if (f->is_map) {
		push_map(L, f, s, level);
	} else if (f->key != NULL) {
		push_index(L, f, s, level);
	} else {
		push_list(L, f, s, level);
	}
}

size_t
sproto_decode(lua_State *L, const struct sproto_type *t, struct sproto_slice s) {
	luaL_checkstack(L, SLOTS_PER_LEVEL, NULL);
	return fill(L, t, s, 1);
}

/*------------------------------------------------------------------ defaults */

static void
push_default(lua_State *L, const struct sproto_field *f) {
	switch (f->code) {
	case SPROTO_INTEGER:
		push_integer(L, f, 0);
		break;
	case SPROTO_BOOLEAN:
		lua_pushboolean(L, 0);
		break;
	case SPROTO_STRING:
		lua_pushliteral(L, "");
		break;
	case SPROTO_DOUBLE:
		lua_pushnumber(L, 0.0);
		break;
	case SPROTO_STRUCT:
		lua_pushstring(L, f->type->name);
		break;
	}
}

void
sproto_default(lua_State *L, const struct sproto_type *t) {
	luaL_checkstack(L, SLOTS_PER_LEVEL, NULL);
	lua_createtable(L, 0, t->n);
	for (int i = 0; i < t->n; i++) {
		const struct sproto_field *f = &t->field[i];
		bool is_nested = f->is_array || f->code == SPROTO_STRUCT;
		if (is_nested) {
			lua_createtable(L, 0, 1);
		}
		push_default(L, f);
		if (is_nested) {
			lua_setfield(L, -2, f->is_array ? "__array" : "__type");
		}
		lua_setfield(L, -2, f->name);
	}
}
