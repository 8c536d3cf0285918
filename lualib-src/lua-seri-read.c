/*
 * Unpacking, the reading half of lua-seri.h.
 *
 * Two passes. The first checks every tag and length and counts the pairs of
 * each table; the second builds, without any check, tables that have their
 * final size from the start (growing a table step by step costs more than the
 * whole first pass).
 */
#include "lua-seri.h"

#include <stdlib.h>

#include <lauxlib.h>

#include "lua-seri-format.h"

/* Stack slots that one level of building needs: table, key, value. */
#define BUILD_SLOTS 3

/* ------------------------------------------------------------------ checking */

/* Tables counted without asking for memory. */
#define SHAPE_INLINE 64

struct reader {
	lua_State *L;
	const uint8_t *p; /* second pass only */
	const uint8_t *end;
	uint32_t *pairs; /* pairs of each table, in the order the tables start */
	size_t tables;   /* how many of them are filled (first pass), or used (second) */
	size_t tables_room;
	int anchor;    /* stack slot of the userdata that holds `pairs`; 0: it is `first` */
	int depth_max; /* deepest table seen */
	uint32_t first[SHAPE_INLINE];
};

#define INVALID_STREAM(r, p) invalid_stream((r), (p), __LINE__)

static const uint8_t *check_value(struct reader *r, const uint8_t *p, int depth);

static _Noreturn void
invalid_stream(struct reader *r, const uint8_t *p, int line) {
	luaL_error(r->L, "Invalid serialize stream %I (line:%d)", (lua_Integer)(r->end - p), line);
	abort(); /* luaL_error does not return */
}

static inline const uint8_t *
skip(struct reader *r, const uint8_t *p, size_t n, int line) {
	if (n > (size_t)(r->end - p)) {
		invalid_stream(r, p, line);
	}
	return p + n;
}

/* Bytes that follow a number's tag, by cookie; -1 where there is no such form. */
static inline int
number_width(unsigned cookie) {
	switch (cookie) {
	case NUMBER_ZERO:
		return 0;
	case NUMBER_BYTE:
		return 1;
	case NUMBER_WORD:
		return 2;
	case NUMBER_DWORD:
		return 4;
	case NUMBER_QWORD:
	case NUMBER_REAL:
		return 8;
	default:
		return -1;
	}
}

/* The integer of form `cookie` at p, where its bytes are known to be. */
static inline lua_Integer
load_integer(const uint8_t *p, unsigned cookie) {
	switch (cookie) {
	case NUMBER_ZERO:
		return 0;
	case NUMBER_BYTE:
		return *p;
	case NUMBER_WORD:
		return (lua_Integer)load_le(p, 2);
	case NUMBER_DWORD:
		return (int32_t)load_le(p, 4);
	default:
		return (lua_Integer)load_le(p, 8);
	}
}

/* The length field of a long string. */
static inline size_t
load_length(const uint8_t *p, unsigned cookie) {
	return cookie == NUMBER_WORD ? load_le(p, 2) : load_le(p, 4);
}

static inline const uint8_t *
check_number(struct reader *r, const uint8_t *p, unsigned cookie) {
	int width = number_width(cookie);
	if (width < 0) {
		INVALID_STREAM(r, p);
	}
	return skip(r, p, (size_t)width, __LINE__);
}

static const uint8_t *
check_long_string(struct reader *r, const uint8_t *p, unsigned cookie) {
	if (cookie != NUMBER_WORD && cookie != NUMBER_DWORD) {
		INVALID_STREAM(r, p);
	}
	const uint8_t *text = skip(r, p, cookie, __LINE__);
	return skip(r, text, load_length(p, cookie), __LINE__);
}

/* The array length in front of a table's items, each of which takes a byte at least. */
static const uint8_t *
check_array_length(struct reader *r, const uint8_t *p, size_t *n) {
	if (p == r->end) {
		INVALID_STREAM(r, p);
	}
	unsigned tag = *p++;
	unsigned cookie = tag >> TYPE_BITS;
	if ((tag & TYPE_MASK) != TYPE_NUMBER || cookie == NUMBER_REAL) {
		INVALID_STREAM(r, p);
	}
	const uint8_t *items = check_number(r, p, cookie);
	lua_Integer length = load_integer(p, cookie);
	if (length < 0 || length > r->end - items) {
		INVALID_STREAM(r, items);
	}
	*n = (size_t)length;
	return items;
}

/* Reserve the place of one more table in `pairs`. */
static size_t
add_table(struct reader *r) {
	if (r->tables == r->tables_room) {
		size_t room = r->tables_room * 4;
		uint32_t *bigger = lua_newuserdatauv(r->L, room * sizeof *bigger, 0);
		memcpy(bigger, r->pairs, r->tables * sizeof *bigger);
		if (r->anchor != 0) {
			lua_replace(r->L, r->anchor);
		} else {
			r->anchor = lua_gettop(r->L);
		}
		r->pairs = bigger;
		r->tables_room = room;
	}
	return r->tables++;
}

static const uint8_t *
check_table(struct reader *r, const uint8_t *p, unsigned cookie, int depth) {
	if (depth > LUASERI_MAX_DEPTH) {
		INVALID_STREAM(r, p);
	}
	if (depth > r->depth_max) {
		r->depth_max = depth;
	}
	size_t index = add_table(r);
	size_t n = cookie;
	if (cookie == ARRAY_LENGTH_FOLLOWS) {
		p = check_array_length(r, p, &n);
	}
	for (; n > 0; n--) {
		p = check_value(r, p, depth + 1);
	}
	uint32_t pairs = 0;
	while (p < r->end && (*p & TYPE_MASK) != TYPE_NIL) {
		p = check_value(r, p, depth + 1);
		p = check_value(r, p, depth + 1);
		pairs += pairs < UINT32_MAX;
	}
	if (p == r->end) {
		INVALID_STREAM(r, p);
	}
	r->pairs[index] = pairs;
	return p + 1;
}

/* Check one value and give the address behind it. */
static const uint8_t *
check_value(struct reader *r, const uint8_t *p, int depth) {
	if (p == r->end) {
		INVALID_STREAM(r, p);
	}
	unsigned tag = *p++;
	unsigned cookie = tag >> TYPE_BITS;
	switch (tag & TYPE_MASK) {
	case TYPE_NIL:
	case TYPE_BOOLEAN:
		return p;
	case TYPE_NUMBER:
		return check_number(r, p, cookie);
	case TYPE_POINTER:
		return skip(r, p, sizeof(void *), __LINE__);
	case TYPE_SHORT_STRING:
		return skip(r, p, cookie, __LINE__);
	case TYPE_LONG_STRING:
		return check_long_string(r, p, cookie);
	case TYPE_TABLE:
		return check_table(r, p, cookie, depth);
	default:
		INVALID_STREAM(r, p);
	}
}

/* ------------------------------------------------------------------ building */

static void build_value(struct reader *r);

static void
build_string(struct reader *r, size_t len) {
	lua_pushlstring(r->L, (const char *)r->p, len);
	r->p += len;
}

static void
build_number(struct reader *r, unsigned cookie) {
	if (cookie == NUMBER_REAL) {
		uint64_t bits = load_le(r->p, 8);
		lua_Number v;
		memcpy(&v, &bits, sizeof v);
		lua_pushnumber(r->L, v);
	} else {
		lua_pushinteger(r->L, load_integer(r->p, cookie));
	}
	r->p += number_width(cookie);
}

static int
size_hint(size_t n) {
	return n > INT32_MAX / 2 ? INT32_MAX / 2 : (int)n;
}

static void
build_table(struct reader *r, unsigned cookie) {
	lua_State *L = r->L;
	lua_Integer n = cookie;
	if (cookie == ARRAY_LENGTH_FOLLOWS) {
		unsigned form = *r->p++ >> TYPE_BITS;
		n = load_integer(r->p, form);
		r->p += number_width(form);
	}
	uint32_t pairs = r->pairs[r->tables++];
	lua_createtable(L, size_hint((size_t)n), size_hint(pairs));
	for (lua_Integer i = 1; i <= n; i++) {
		build_value(r);
		lua_rawseti(L, -2, i);
	}
	for (unsigned tag; ((tag = *r->p) & TYPE_MASK) != TYPE_NIL;) {
		if ((tag & TYPE_MASK) == TYPE_SHORT_STRING) {
			r->p++;
			build_string(r, tag >> TYPE_BITS); /* nearly every key */
		} else {
			build_value(r);
		}
		build_value(r);
		lua_rawset(L, -3);
	}
	r->p++;
}

/* Push the next value of a stream that was checked. */
static void
build_value(struct reader *r) {
	unsigned tag = *r->p++;
	unsigned cookie = tag >> TYPE_BITS;
	switch (tag & TYPE_MASK) {
	case TYPE_NIL:
		lua_pushnil(r->L);
		break;
	case TYPE_BOOLEAN:
		lua_pushboolean(r->L, (int)cookie);
		break;
	case TYPE_NUMBER:
		build_number(r, cookie);
		break;
	case TYPE_POINTER:
		lua_pushlightuserdata(r->L, (void *)(uintptr_t)load_le(r->p, sizeof(void *)));
		r->p += sizeof(void *);
		break;
	case TYPE_SHORT_STRING:
		build_string(r, cookie);
		break;
	case TYPE_LONG_STRING: {
		size_t len = load_length(r->p, cookie);
		r->p += cookie;
		build_string(r, len);
		break;
	}
	default:
		build_table(r, cookie);
		break;
	}
}

int
luaseri_unpack_buffer(lua_State *L, const void *buf, size_t sz) {
	struct reader r;
	if (sz == 0) {
		return 0;
	}
	if (buf == NULL) {
		return luaL_error(L, "deserialize null pointer");
	}
	const uint8_t *p = buf;
	r.L = L;
	r.p = p;
	r.end = p + sz;
	r.pairs = r.first;
	r.tables = 0;
	r.tables_room = SHAPE_INLINE;
	r.depth_max = 0;
	luaL_checkstack(L, 2, NULL);
	r.anchor = 0;
	size_t count = 0;
	while (p < r.end) {
		p = check_value(&r, p, 0);
		count++;
	}
	if (count > INT32_MAX / 2) {
		luaL_error(L, "too many values to unpack");
	}
	luaL_checkstack(L, (int)count + (r.depth_max + 1) * BUILD_SLOTS, "too many values to unpack");
	r.tables = 0;
	for (size_t i = 0; i < count; i++) {
		build_value(&r);
	}
	if (r.anchor != 0) {
		lua_remove(L, r.anchor);
	}
	return (int)count;
}

int
luaseri_unpack(lua_State *L) {
	const void *buf;
	size_t sz;
	switch (lua_type(L, 1)) {
	case LUA_TNIL:
	case LUA_TNONE:
		return 0;
	case LUA_TSTRING:
		buf = lua_tolstring(L, 1, &sz);
		break;
	default: {
		lua_Integer size = luaL_checkinteger(L, 2);
		luaL_argcheck(L, size >= 0, 2, "negative size");
		sz = (size_t)size;
		if (sz == 0) {
			return 0;
		}
		luaL_argcheck(L, lua_type(L, 1) != LUA_TUSERDATA, 1,
		              "light userdata expected, got userdata");
		buf = lua_touserdata(L, 1);
	}
	}
	if (buf == NULL) {
		return luaL_error(L, "deserialize null pointer");
	}
	return luaseri_unpack_buffer(L, buf, sz);
}
