/*
 * Serialisation of Lua values (lua-seri.h has the contract).
 *
 * A value starts with a tag byte: the low 3 bits are the type, the high 5 bits
 * the cookie, a small length or a form code. Multi-byte fields are little
 * endian and unaligned.
 *
 * Writing goes into a scratch block that belongs to the thread and is reused
 * for ever, then into one block of the exact size. The scratch block is not
 * charged to any service (skynet_lalloc). While no Lua code can run, an error
 * that leaves by longjmp simply abandons what is in it. A __pairs metamethod is
 * Lua code, which may pack something itself; so before the first one is called
 * the block moves into a userdata, and the thread starts a new scratch block
 * when it needs one.
 *
 * Reading takes two passes. The first checks every tag and length and counts
 * the pairs of each table; the second builds, without any check, tables that
 * have their final size from the start (growing a table step by step costs
 * more than the whole first pass).
 */
#include "lua-seri.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "skynet_malloc.h"

enum {
	TYPE_NIL = 0,
	TYPE_BOOLEAN = 1,
	TYPE_NUMBER = 2,
	TYPE_POINTER = 3,
	TYPE_SHORT_STRING = 4,
	TYPE_LONG_STRING = 5,
	TYPE_TABLE = 6,
};

/* Cookies of TYPE_NUMBER; those of TYPE_LONG_STRING are NUMBER_WORD and NUMBER_DWORD. */
enum {
	NUMBER_ZERO = 0,
	NUMBER_BYTE = 1,
	NUMBER_WORD = 2,
	NUMBER_DWORD = 4,
	NUMBER_QWORD = 6,
	NUMBER_REAL = 8,
};

#define TYPE_BITS 3
#define TYPE_MASK 7
/* The longest string whose length fits the cookie. */
#define SHORT_STRING_MAX 31
/* This cookie of a table says that the array length follows as a number. */
#define ARRAY_LENGTH_FOLLOWS 31

#define TAG(type, cookie) ((uint8_t)((type) | (cookie) << TYPE_BITS))

/* Most messages fit; a multiple of what allocators hand out anyway. */
#define SCRATCH_FIRST 1024
/* A scratch block that grew beyond this is given back after use. */
#define SCRATCH_KEEP (256 * 1024)

/* Stack slots that one level of packing needs, the call of an iterator included. */
#define PACK_SLOTS 8
/* Stack slots that one level of building needs: table, key, value. */
#define BUILD_SLOTS 3

/* ------------------------------------------------------------------ scratch */

struct block {
	uint8_t *data;
	size_t cap;
};

/* Only this thread touches its scratch block, and frees it when it ends. */
static _Thread_local struct block scratch;
static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void
block_free(struct block *b) {
	skynet_lalloc(b->data, b->cap, 0);
	b->data = NULL;
	b->cap = 0;
}

static void
scratch_release(void *b) {
	block_free(b);
}

static void
scratch_init(void) {
	pthread_key_create(&scratch_key, scratch_release);
}

/* Make the block at least `need` bytes; false when there is no memory. */
static bool
block_grow(struct block *b, size_t need) {
	size_t cap = b->cap ? b->cap : SCRATCH_FIRST;
	while (cap < need) {
		if (cap > SIZE_MAX / 2) {
			return false;
		}
		cap *= 2;
	}
	uint8_t *data = skynet_lalloc(b->data, b->cap, cap);
	if (data == NULL) {
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

/* ------------------------------------------------------------------- writing */

struct writer {
	lua_State *L;
	struct block *block; /* the thread's scratch, or one in a userdata */
	uint8_t *data;       /* = block->data */
	size_t len;
	size_t cap; /* = block->cap */
	int anchor; /* stack slot that keeps that userdata alive */
};

static void pack_value(struct writer *w, int index, int depth);

static void
writer_refresh(struct writer *w) {
	w->data = w->block->data;
	w->cap = w->block->cap;
}

static void
writer_open(struct writer *w, lua_State *L) {
	luaL_checkstack(L, PACK_SLOTS, NULL);
	w->L = L;
	w->len = 0;
	w->block = &scratch;
	lua_pushnil(L);
	w->anchor = lua_gettop(L);
	if (scratch.data == NULL) {
		pthread_once(&scratch_once, scratch_init);
		if (!block_grow(&scratch, SCRATCH_FIRST)) {
			luaL_error(L, "not enough memory to pack");
		}
		pthread_setspecific(scratch_key, &scratch);
	}
	writer_refresh(w);
}

static int
anchored_gc(lua_State *L) {
	block_free(lua_touserdata(L, 1));
	return 0;
}

/* From here on the block survives whatever the called Lua code does. */
static void
writer_anchor(struct writer *w) {
	lua_State *L = w->L;
	if (w->block != &scratch) {
		return;
	}
	struct block *own = lua_newuserdatauv(L, sizeof *own, 0);
	own->data = NULL;
	own->cap = 0;
	if (luaL_newmetatable(L, "skynet.seri.block")) {
		lua_pushcfunction(L, anchored_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	lua_replace(L, w->anchor);
	*own = scratch;
	scratch.data = NULL;
	scratch.cap = 0;
	w->block = own;
}

/* What was written has been copied: the thread gets its block back. */
static void
writer_close(struct writer *w) {
	if (w->block != &scratch && scratch.data == NULL) {
		scratch = *w->block;
		w->block->data = NULL;
		w->block->cap = 0;
	}
	if (w->block->cap > SCRATCH_KEEP) {
		block_free(w->block);
	}
	if (scratch.cap > SCRATCH_KEEP) {
		block_free(&scratch);
	}
}

static void
writer_grow(struct writer *w, size_t need) {
	if (need < w->len || !block_grow(w->block, need)) {
		luaL_error(w->L, "not enough memory to pack");
	}
	writer_refresh(w);
}

/* Room for `n` more bytes; they are counted as written. */
static inline uint8_t *
reserve(struct writer *w, size_t n) {
	if (n > w->cap - w->len) {
		writer_grow(w, w->len + n);
	}
	uint8_t *p = w->data + w->len;
	w->len += n;
	return p;
}

static inline void
put_tag(struct writer *w, uint8_t tag) {
	*reserve(w, 1) = tag;
}

/* Copy `n` low bytes of a value; a native field is stored little endian. */
static inline void
store_le(uint8_t *p, uint64_t v, size_t n) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
	memcpy(p, (const uint8_t *)&v + sizeof v - n, n);
#else
	memcpy(p, &v, n);
#endif
}

static inline void
put_field(struct writer *w, uint8_t tag, uint64_t v, size_t n) {
	uint8_t *p = reserve(w, 1 + n);
	*p = tag;
	store_le(p + 1, v, n);
}

static void
pack_integer(struct writer *w, lua_Integer v) {
	if (v == 0) {
		put_tag(w, TAG(TYPE_NUMBER, NUMBER_ZERO));
	} else if (v != (int32_t)v) {
		put_field(w, TAG(TYPE_NUMBER, NUMBER_QWORD), (uint64_t)v, 8);
	} else if (v < 0 || v > UINT16_MAX) {
		put_field(w, TAG(TYPE_NUMBER, NUMBER_DWORD), (uint64_t)v, 4);
	} else if (v > UINT8_MAX) {
		put_field(w, TAG(TYPE_NUMBER, NUMBER_WORD), (uint64_t)v, 2);
	} else {
		put_field(w, TAG(TYPE_NUMBER, NUMBER_BYTE), (uint64_t)v, 1);
	}
}

static void
pack_real(struct writer *w, lua_Number v) {
	uint64_t bits;
	_Static_assert(sizeof v == sizeof bits, "a float is IEEE-754 binary64");
	memcpy(&bits, &v, sizeof bits);
	put_field(w, TAG(TYPE_NUMBER, NUMBER_REAL), bits, 8);
}

static void
pack_string(struct writer *w, const char *s, size_t len) {
	if (len <= SHORT_STRING_MAX) {
		uint8_t *p = reserve(w, 1 + len);
		*p = TAG(TYPE_SHORT_STRING, len);
		memcpy(p + 1, s, len);
		return;
	}
	if (len <= UINT16_MAX) {
		put_field(w, TAG(TYPE_LONG_STRING, NUMBER_WORD), len, 2);
	} else if (len <= UINT32_MAX) {
		put_field(w, TAG(TYPE_LONG_STRING, NUMBER_DWORD), len, 4);
	} else {
		luaL_error(w->L, "string of %I bytes is too long to serialize", (lua_Integer)len);
	}
	memcpy(reserve(w, len), s, len);
}

static void
pack_table_head(struct writer *w, size_t n) {
	if (n < ARRAY_LENGTH_FOLLOWS) {
		put_tag(w, TAG(TYPE_TABLE, n));
	} else {
		put_tag(w, TAG(TYPE_TABLE, ARRAY_LENGTH_FOLLOWS));
		pack_integer(w, (lua_Integer)n);
	}
}

/* Whether the key at the top is one of the n array keys. */
static inline bool
is_array_key(lua_State *L, lua_Integer n) {
	if (!lua_isinteger(L, -2)) {
		return false;
	}
	lua_Integer k = lua_tointeger(L, -2);
	return 0 < k && k <= n;
}

/*
 * Write t[1..n]. As long as traversal yields exactly these, in order (it does
 * when they are in the array part), one walk serves the array and the rest;
 * true: the last array key is on the stack, to go on from. False: the rest has
 * to be looked for from the start.
 */
static bool
pack_array(struct writer *w, int index, int depth, lua_Integer n) {
	lua_State *L = w->L;
	lua_Integer i = 1;
	lua_pushnil(L);
	for (; i <= n && lua_next(L, index); i++) {
		if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) != i) {
			lua_pop(L, 2);
			break;
		}
		pack_value(w, lua_gettop(L), depth + 1);
		lua_pop(L, 1);
	}
	if (i > n) {
		return true;
	}
	for (; i <= n; i++) {
		lua_rawgeti(L, index, i);
		pack_value(w, lua_gettop(L), depth + 1);
		lua_pop(L, 1);
	}
	return false;
}

static void
pack_table(struct writer *w, int index, int depth) {
	lua_State *L = w->L;
	lua_Integer n = (lua_Integer)lua_rawlen(L, index);
	bool ordered = true;
	pack_table_head(w, (size_t)n);
	if (n > 0) {
		ordered = pack_array(w, index, depth, n);
	}
	if (n == 0 || !ordered) {
		lua_pushnil(L);
	}
	while (lua_next(L, index)) {
		if (ordered || !is_array_key(L, n)) {
			int top = lua_gettop(L);
			pack_value(w, top - 1, depth + 1);
			pack_value(w, top, depth + 1);
		}
		lua_pop(L, 1);
	}
	put_tag(w, TAG(TYPE_NIL, 0));
}

/* The metafield __pairs is at the top: the table is what its iterator says. */
static void
pack_table_pairs(struct writer *w, int index, int depth) {
	lua_State *L = w->L;
	writer_anchor(w);
	pack_table_head(w, 0);
	lua_pushvalue(L, index);
	lua_call(L, 1, 3);
	int iterator = lua_gettop(L) - 2;
	for (;;) {
		lua_pushvalue(L, iterator);
		lua_pushvalue(L, iterator + 1);
		lua_pushvalue(L, iterator + 2);
		lua_call(L, 2, 2);
		if (lua_isnil(L, -2)) {
			break;
		}
		pack_value(w, iterator + 3, depth + 1);
		pack_value(w, iterator + 4, depth + 1);
		lua_pop(L, 1);
		lua_replace(L, iterator + 2);
	}
	lua_settop(L, iterator - 1);
	put_tag(w, TAG(TYPE_NIL, 0));
}

static void
pack_any_table(struct writer *w, int index, int depth) {
	luaL_checkstack(w->L, PACK_SLOTS, NULL);
	if (luaL_getmetafield(w->L, index, "__pairs") != LUA_TNIL) {
		pack_table_pairs(w, index, depth);
	} else {
		pack_table(w, index, depth);
	}
}

/* `index` is absolute. */
static void
pack_value(struct writer *w, int index, int depth) {
	lua_State *L = w->L;
	if (depth > LUASERI_MAX_DEPTH) {
		luaL_error(L, "serialize can't pack too depth table");
	}
	int type = lua_type(L, index);
	switch (type) {
	case LUA_TNIL:
		put_tag(w, TAG(TYPE_NIL, 0));
		break;
	case LUA_TBOOLEAN:
		put_tag(w, TAG(TYPE_BOOLEAN, lua_toboolean(L, index)));
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(L, index)) {
			pack_integer(w, lua_tointeger(L, index));
		} else {
			pack_real(w, lua_tonumber(L, index));
		}
		break;
	case LUA_TSTRING: {
		size_t len;
		const char *s = lua_tolstring(L, index, &len);
		pack_string(w, s, len);
		break;
	}
	case LUA_TLIGHTUSERDATA:
		put_field(w, TAG(TYPE_POINTER, 0), (uint64_t)(uintptr_t)lua_touserdata(L, index),
		          sizeof(void *));
		break;
	case LUA_TTABLE:
		pack_any_table(w, index, depth);
		break;
	default:
		luaL_error(L, "Unsupport type %s to serialize", lua_typename(L, type));
	}
}

static void
pack_stack(struct writer *w, lua_State *L, int from) {
	int top = lua_gettop(L);
	writer_open(w, L);
	for (int i = from; i <= top; i++) {
		pack_value(w, i, 0);
	}
}

void
luaseri_pack_range(lua_State *L, int from, void **buf, size_t *sz) {
	struct writer w;
	pack_stack(&w, L, from);
	void *block = skynet_malloc(w.len);
	memcpy(block, w.data, w.len);
	*buf = block;
	*sz = w.len;
	writer_close(&w);
	lua_settop(L, w.anchor - 1);
}

int
luaseri_pack(lua_State *L) {
	void *buf;
	size_t sz;
	luaL_checkstack(L, 2, NULL);
	luaseri_pack_range(L, 1, &buf, &sz);
	lua_pushlightuserdata(L, buf);
	lua_pushinteger(L, (lua_Integer)sz);
	return 2;
}

int
luaseri_packstring(lua_State *L) {
	struct writer w;
	pack_stack(&w, L, 1);
	lua_pushlstring(L, (const char *)w.data, w.len);
	writer_close(&w);
	return 1;
}

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
	int anchor;    /* stack slot of the userdata that holds `pairs`, when it outgrew `first` */
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

static inline uint64_t
load_le(const uint8_t *p, size_t n) {
	uint64_t v = 0;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	memcpy((uint8_t *)&v + sizeof v - n, p, n);
	v = __builtin_bswap64(v);
#else
	memcpy(&v, p, n);
#endif
	return v;
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
		lua_replace(r->L, r->anchor);
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
	while ((*r->p & TYPE_MASK) != TYPE_NIL) {
		build_value(r);
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
	const uint8_t *p = buf;
	r.L = L;
	r.p = p;
	r.end = p + sz;
	r.pairs = r.first;
	r.tables = 0;
	r.tables_room = SHAPE_INLINE;
	r.depth_max = 0;
	luaL_checkstack(L, 2, NULL);
	lua_pushnil(L);
	r.anchor = lua_gettop(L);
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
	lua_remove(L, r.anchor);
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
		luaL_argcheck(L, lua_type(L, 1) != LUA_TUSERDATA, 1, "light userdata expected, got userdata");
		buf = lua_touserdata(L, 1);
	}
	}
	if (buf == NULL) {
		return luaL_error(L, "deserialize null pointer");
	}
	return luaseri_unpack_buffer(L, buf, sz);
}
