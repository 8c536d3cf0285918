/*
 * bson: from tables to bytes. The document grows in a buffer on the C stack, later in a block owned
 * by Lua: an error on the way leaves nothing behind.
 */
#include "lua-bson.h"

#include <stdio.h>
#include <string.h>

#define FIRST_BUFFER 1024
/* Digits of the index of an array's element, and a zero. */
#define INDEX_SIZE 24

/* A key: `size` bytes, none of them zero. */
struct key {
	const char *text;
	size_t size;
	lua_Integer item;     /* of an array: its index in Lua; 0 of a document */
	const struct key *up; /* of the table around, or NULL; while its value is written */
};

struct writer {
	lua_State *L;
	const struct key *at; /* whose value is written; NULL: that of the root */
	uint8_t *data;
	size_t size;
	size_t cap;
	int slot; /* where the block is on the Lua stack, once there is one */
	uint8_t first[FIRST_BUFFER];
};

static void write_value(struct writer *w, const struct key *key, int index, int depth);

//------------------------------------------------------------------ refusals

/* Add how the key is written in Lua, after those around it. */
static void
add_path(luaL_Buffer *b, const struct key *key) {
	if (key->up != NULL) {
		add_path(b, key->up);
	}
	if (key->item > 0) {
		char text[INDEX_SIZE];
		luaL_addlstring(b, text,
		                (size_t)snprintf(text, sizeof(text), "[%lld]", (long long)key->item));
		return;
	}
	if (key->up != NULL) {
		luaL_addchar(b, '.');
	}
	luaL_addlstring(b, key->text, key->size);
}

/* Raise: the reason, and where in the table. */
static void
refuse(struct writer *w, const char *reason, const char *what) {
	lua_State *L = w->L;
	luaL_checkstack(L, 16, "bson");
	luaL_where(L, 1);
	lua_pushfstring(L, reason, what);
	if (w->at != NULL) {
		luaL_Buffer b;
		lua_pushliteral(L, " (at ");
		luaL_buffinit(L, &b);
		add_path(&b, w->at);
		luaL_addchar(&b, ')');
		luaL_pushresult(&b);
	} else {
		lua_pushliteral(L, "");
		lua_pushliteral(L, "");
	}
	lua_concat(L, 4);
	lua_error(L);
}

//-------------------------------------------------------------------- writing

static void
grow(struct writer *w, size_t more) {
	if (w->size + more > INT32_MAX) {
		luaL_error(w->L, "bson document too large");
	}
	size_t cap = w->cap * 2;
	while (cap < w->size + more) {
		cap *= 2;
	}
	uint8_t *data = lua_newuserdatauv(w->L, cap, 0);
	memcpy(data, w->data, w->size);
	lua_replace(w->L, w->slot);
	w->data = data;
	w->cap = cap;
}

/* Room for `size` bytes more, which the caller fills. */
static uint8_t *
reserve(struct writer *w, size_t size) {
	if (size > w->cap - w->size) {
		grow(w, size);
	}
	uint8_t *p = w->data + w->size;
	w->size += size;
	return p;
}

static void
write_bytes(struct writer *w, const void *bytes, size_t size) {
	memcpy(reserve(w, size), bytes, size);
}

static void
write_u32(struct writer *w, uint32_t v) {
	bson_put_u32(reserve(w, 4), v);
}

static void
write_u64(struct writer *w, uint64_t v) {
	bson_put_u64(reserve(w, 8), v);
}

static void
write_head(struct writer *w, int type, const struct key *key) {
	uint8_t *p = reserve(w, key->size + 2);
	p[0] = (uint8_t)type;
	memcpy(p + 1, key->text, key->size);
	p[key->size + 1] = 0;
}

/* A document begins with its length, which end_document fills in. */
static size_t
begin_document(struct writer *w) {
	reserve(w, 4);
	return w->size - 4;
}

static void
end_document(struct writer *w, size_t begin) {
	*reserve(w, 1) = 0;
	bson_put_u32(w->data + begin, (uint32_t)(w->size - begin));
}

//---------------------------------------------------------------------- text

/* How many bytes the character at `s` has; 0 when it is none. */
static size_t
utf8_length(const uint8_t *s, size_t left) {
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	if (s[0] < 0x80) {
		return 1;
	}
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || n > left) {
		return 0;
	}
	uint32_t code = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return 0;
		}
		code = code << 6 | (s[i] & 0x3f);
	}
	return code >= least[n] && code <= 0x10ffff ? n : 0;
}

static void
check_utf8(struct writer *w, const char *text, size_t size) {
	const uint8_t *s = (const uint8_t *)text;
	for (size_t i = 0; i < size;) {
		size_t n = utf8_length(s + i, size - i);
		if (n == 0) {
			refuse(w, "Invalid utf8 string", NULL);
		}
		i += n;
	}
}

/* The string at `index` as a key. */
static struct key
check_key(struct writer *w, int index) {
	struct key key = {0};
	key.text = lua_tolstring(w->L, index, &key.size);
	check_utf8(w, key.text, key.size);
	if (memchr(key.text, 0, key.size) != NULL) {
		refuse(w, "Bson key has a zero byte", NULL);
	}
	return key;
}

/* The same for a key of a table: no number passes for a string there. */
static struct key
check_table_key(struct writer *w, int index) {
	switch (lua_type(w->L, index)) {
	case LUA_TSTRING:
		return check_key(w, index);
	case LUA_TNUMBER:
		refuse(w, "Bson dictionary's key can't be number", NULL);
		break;
	default:
		refuse(w, "Invalid key type : %s", luaL_typename(w->L, index));
	}
	return (struct key){0};
}

/* An element of the document that is written. */
static void
write_element(struct writer *w, struct key *key, int index, int depth) {
	key->up = w->at;
	w->at = key;
	write_value(w, key, index, depth);
	w->at = key->up;
}

static void
write_string(struct writer *w, const struct key *key, const char *s, size_t size) {
	check_utf8(w, s, size);
	write_head(w, BSON_STRING, key);
	if (size >= INT32_MAX) {
		luaL_error(w->L, "bson document too large");
	}
	write_u32(w, (uint32_t)size + 1);
	write_bytes(w, s, size + 1);
}

//-------------------------------------------------------------- typed strings

/* Whether the content of a deprecated kind is what its type says, so that readers find the end. */
static bool
is_raw(int type, const uint8_t *s, size_t size) {
	size_t tail = type == BSON_DBPOINTER ? BSON_OBJECTID_SIZE : 0;
	if (size < 4 + tail) {
		return false;
	}
	uint32_t length = bson_get_u32(s);
	if (type == BSON_CODE_SCOPE) {
		return length == size && size >= 4 + 2 * BSON_MIN_DOCUMENT;
	}
	return length >= 1 && size - 4 - tail == length && s[4 + length - 1] == 0;
}

static void
write_raw(struct writer *w, const struct key *key, int type, const uint8_t *s, size_t size) {
	if (!is_raw(type, s, size)) {
		luaL_error(w->L, "Invalid content of subtype %d (%I bytes)", type, (lua_Integer)size);
	}
	write_head(w, type, key);
	write_bytes(w, s, size);
}

static void
write_typed(struct writer *w, const struct key *key, const char *s, size_t size) {
	bson_check_typed(w->L, s, size);
	int type = (uint8_t)s[1];
	const uint8_t *content = (const uint8_t *)s + TYPED_HEAD;
	size_t content_size = size - TYPED_HEAD;
	switch (type) {
	case BSON_STRING:
		write_string(w, key, s + TYPED_HEAD, content_size);
		break;
	case BSON_DBPOINTER:
	case BSON_CODE:
	case BSON_SYMBOL:
	case BSON_CODE_SCOPE:
		write_raw(w, key, type, content, content_size);
		break;
	case BSON_DATE:
		write_head(w, type, key);
		write_u64(w, (uint64_t)bson_date_ms(s, size));
		break;
	case BSON_BINARY:
		write_head(w, type, key);
		if (content_size > INT32_MAX) {
			luaL_error(w->L, "bson document too large");
		}
		write_u32(w, (uint32_t)content_size - 1);
		write_bytes(w, content, content_size);
		break;
	default:
		write_head(w, type, key);
		write_bytes(w, content, content_size);
		break;
	}
}

//-------------------------------------------------------------------- tables

/* The pairs that the metamethod __pairs, which is on top, gives for the table; pops it. */
static void
write_meta_pairs(struct writer *w, int table, int depth) {
	lua_State *L = w->L;
	lua_pushvalue(L, table);
	lua_call(L, 1, 3);
	int control = lua_gettop(L);
	for (;;) {
		lua_pushvalue(L, control - 2);
		lua_pushvalue(L, control - 1);
		lua_pushvalue(L, control);
		lua_call(L, 2, 2);
		if (lua_isnil(L, -2)) {
			break;
		}
		struct key key = check_table_key(w, -2);
		write_element(w, &key, lua_gettop(L), depth);
		lua_pop(L, 1);
		lua_replace(L, control);
	}
	lua_settop(L, control - 3);
}

static void
write_pairs(struct writer *w, int table, int depth) {
	lua_State *L = w->L;
	size_t begin = begin_document(w);
	if (luaL_getmetafield(L, table, "__pairs") != LUA_TNIL) {
		write_meta_pairs(w, table, depth);
	} else {
		lua_pushnil(L);
		while (lua_next(L, table)) {
			struct key key = check_table_key(w, -2);
			write_element(w, &key, lua_gettop(L), depth);
			lua_pop(L, 1);
		}
	}
	end_document(w, begin);
}

static void
write_items(struct writer *w, int table, lua_Integer n, int depth) {
	lua_State *L = w->L;
	size_t begin = begin_document(w);
	for (lua_Integer i = 1; i <= n; i++) {
		char text[INDEX_SIZE];
		struct key key = {.text = text, .item = i};
		key.size = (size_t)snprintf(text, sizeof(text), "%lld", (long long)i - 1);
		lua_geti(L, table, i);
		write_element(w, &key, lua_gettop(L), depth);
		lua_pop(L, 1);
	}
	end_document(w, begin);
}

/* How many items an array has; -1 when the table is a document. Raises for a mixture and for holes.
 */
static lua_Integer
count_items(struct writer *w, int table) {
	lua_State *L = w->L;
	lua_Integer count = 0;
	lua_Integer max = 0;
	bool has_first = false;
	lua_pushnil(L);
	while (lua_next(L, table)) {
		lua_pop(L, 1);
		lua_Integer key = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
		if (key < 1) {
			if (count > 0) {
				refuse(w, "Bson table has both items and other keys", NULL);
			}
			// A document, which raises at the first key that is no string.
			lua_pop(L, 1);
			return -1;
		}
		count++;
		max = key > max ? key : max;
		has_first = has_first || key == 1;
	}
	if (count > 0 && !has_first) {
		refuse(w, "Bson dictionary's key can't be number", NULL);
	}
	if (max != count) {
		refuse(w, "Bson array has a hole (nil), Use bson.null instead", NULL);
	}
	return count > 0 ? count : -1;
}

/* As count_items; metamethods decide before the content does. */
static lua_Integer
array_length(struct writer *w, int table) {
	lua_State *L = w->L;
	if (luaL_getmetafield(L, table, "__len") != LUA_TNIL) {
		lua_pushvalue(L, table);
		lua_call(L, 1, 1);
		if (!lua_isinteger(L, -1)) {
			refuse(w, "__len should return integer", NULL);
		}
		lua_Integer n = lua_tointeger(L, -1);
		lua_pop(L, 1);
		return n < 0 ? 0 : n;
	}
	if (luaL_getmetafield(L, table, "__pairs") != LUA_TNIL) {
		lua_pop(L, 1);
		return -1;
	}
	return count_items(w, table);
}

static void
write_table(struct writer *w, const struct key *key, int table, int depth) {
	if (depth > BSON_MAX_DEPTH) {
		refuse(w, "Too depth while encoding bson", NULL);
	}
	luaL_checkstack(w->L, 16, "bson");
	lua_Integer n = array_length(w, table);
	write_head(w, n >= 0 ? BSON_ARRAY : BSON_DOCUMENT, key);
	if (n >= 0) {
		write_items(w, table, n, depth);
	} else {
		write_pairs(w, table, depth);
	}
}

//-------------------------------------------------------------------- values

/* A document that was encoded before. */
static void
write_embedded(struct writer *w, const struct key *key, int index) {
	lua_State *L = w->L;
	const uint8_t *doc = lua_touserdata(L, index);
	bool full = lua_type(L, index) == LUA_TUSERDATA;
	size_t limit = full ? lua_rawlen(L, index) : INT32_MAX;
	int32_t size = doc != NULL && limit >= BSON_MIN_DOCUMENT ? (int32_t)bson_get_u32(doc) : 0;
	if (size < BSON_MIN_DOCUMENT || (size_t)size > limit || doc[size - 1] != 0) {
		refuse(w, "Invalid bson document in a userdata", NULL);
	}
	write_head(w, BSON_DOCUMENT, key);
	write_bytes(w, doc, (size_t)size);
}

static void
write_number(struct writer *w, const struct key *key, int index) {
	if (!lua_isinteger(w->L, index)) {
		double v = lua_tonumber(w->L, index);
		uint64_t bits;
		memcpy(&bits, &v, sizeof(bits));
		write_head(w, BSON_DOUBLE, key);
		write_u64(w, bits);
		return;
	}
	lua_Integer v = lua_tointeger(w->L, index);
	if (v >= INT32_MIN && v <= INT32_MAX) {
		write_head(w, BSON_INT32, key);
		write_u32(w, (uint32_t)v);
	} else {
		write_head(w, BSON_INT64, key);
		write_u64(w, (uint64_t)v);
	}
}

/* One element; `depth` is that of the document it is in. */
static void
write_value(struct writer *w, const struct key *key, int index, int depth) {
	lua_State *L = w->L;
	size_t size;
	const char *s;
	switch (lua_type(L, index)) {
	case LUA_TNIL:
		refuse(w, "Bson array has a hole (nil), Use bson.null instead", NULL);
		break;
	case LUA_TNUMBER:
		write_number(w, key, index);
		break;
	case LUA_TBOOLEAN:
		write_head(w, BSON_BOOLEAN, key);
		*reserve(w, 1) = (uint8_t)lua_toboolean(L, index);
		break;
	case LUA_TSTRING:
		s = lua_tolstring(L, index, &size);
		if (bson_is_typed(s, size)) {
			write_typed(w, key, s, size);
		} else {
			write_string(w, key, s, size);
		}
		break;
	case LUA_TTABLE:
		write_table(w, key, index, depth + 1);
		break;
	case LUA_TUSERDATA:
	case LUA_TLIGHTUSERDATA:
		write_embedded(w, key, index);
		break;
	default:
		refuse(w, "Invalid value type : %s", luaL_typename(L, index));
	}
}

//----------------------------------------------------------------- functions

/* The slot for the block is pushed. */
static void
writer_init(struct writer *w, lua_State *L) {
	lua_pushnil(L);
	w->L = L;
	w->at = NULL;
	w->data = w->first;
	w->size = 0;
	w->cap = sizeof(w->first);
	w->slot = lua_gettop(L);
}

static int
push_bson(struct writer *w) {
	uint8_t *doc = lua_newuserdatauv(w->L, w->size, 1);
	memcpy(doc, w->data, w->size);
	luaL_setmetatable(w->L, BSON_META);
	return 1;
}

int
bson_encode(lua_State *L) {
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	struct writer w;
	writer_init(&w, L);
	write_pairs(&w, 1, 0);
	return push_bson(&w);
}

int
bson_encode_order(lua_State *L) {
	int n = lua_gettop(L);
	if (n % 2 != 0) {
		return luaL_error(L, "Invalid ordered dict");
	}
	struct writer w;
	writer_init(&w, L);
	luaL_checkstack(L, 16, "bson");
	size_t begin = begin_document(&w);
	for (int i = 1; i <= n; i += 2) {
		if (!lua_isstring(L, i)) {
			return luaL_error(L, "Argument %d need a string", i);
		}
		struct key key = check_key(&w, i);
		write_element(&w, &key, i + 1, 0);
	}
	end_document(&w, begin);
	return push_bson(&w);
}
