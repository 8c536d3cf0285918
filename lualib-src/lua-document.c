/*
 * Documents, see lua-document.h. A document owns a list of memory blocks, from
 * which everything in it is carved; they are freed together. Equal strings are
 * stored once. Nothing is written after doc_fill.
 */
#include "lua-document.h"

#include <string.h>

#include <lauxlib.h>

#include "skynet_malloc.h"

/* Blocks grow with the document, so that small ones stay small. */
#define MIN_BLOCK 512
#define MAX_BLOCK (1024 * 1024)

#define ALIGNMENT 8

struct doc_block {
	struct doc_block *next;
	size_t used, size;
	_Alignas(16) char bytes[];
};

/* While a document is filled; `interned` is the index of string -> its copy. */
struct filler {
	lua_State *L;
	struct document *d;
	int interned;
};

static void
destroy(struct share_object *o) {
	doc_destroy((struct document *)o);
}

const struct share_kind doc_kind = {destroy};

struct document *
doc_new(void) {
	struct document *d = skynet_malloc(sizeof(*d));
	memset(d, 0, sizeof(*d));
	d->size = sizeof(*d);
	return d;
}

void
doc_destroy(struct document *d) {
	struct doc_block *b = d->blocks;
	while (b != NULL) {
		struct doc_block *next = b->next;
		skynet_free(b);
		b = next;
	}
	skynet_free(d);
}

static void *
carve(struct document *d, size_t size) {
	size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	struct doc_block *b = d->blocks;
	if (b == NULL || b->size - b->used < size) {
		size_t room = d->size < MIN_BLOCK ? MIN_BLOCK : d->size > MAX_BLOCK ? MAX_BLOCK : d->size;
		room = room < size ? size : room;
		b = skynet_malloc(sizeof(*b) + room);
		b->next = d->blocks;
		b->used = 0;
		b->size = room;
		d->blocks = b;
		d->size += sizeof(*b) + room;
	}
	void *p = b->bytes + b->used;
	b->used += size;
	return p;
}

/* ------------------------------------------------------------------- hashing */

#define HASH_FACTOR 0x9e3779b97f4a7c15u

static inline uint64_t
mix(uint64_t h) {
	h *= HASH_FACTOR;
	return h ^ h >> 32;
}

static uint64_t
hash_string(const char *s, size_t len) {
	uint64_t h = len, word;
	for (; len >= sizeof(word); len -= sizeof(word), s += sizeof(word)) {
		memcpy(&word, s, sizeof(word));
		h = mix(h ^ word);
	}
	word = 0;
	memcpy(&word, s, len);
	return mix(h ^ word);
}

static uint64_t
hash_integer(lua_Integer i) {
	return mix((uint64_t)i);
}

static uint64_t
hash_key(const struct doc_value *key) {
	return key->type == DOC_STRING ? key->s->hash : hash_integer(key->i);
}

/* ------------------------------------------------------------------- filling */

static const struct doc_table *fill_table(struct filler *f, int t, int depth);

/* A copy of the string at absolute index `idx`, the same for equal strings. */
static const struct doc_string *
intern(struct filler *f, int idx) {
	lua_State *L = f->L;
	lua_pushvalue(L, idx);
	if (lua_rawget(L, f->interned) == LUA_TNIL) {
		size_t len;
		const char *text = lua_tolstring(L, idx, &len);
		struct doc_string *s = carve(f->d, sizeof(*s) + len);
		s->len = len;
		s->hash = hash_string(text, len);
		memcpy(s->text, text, len);
		lua_pushvalue(L, idx);
		lua_pushlightuserdata(L, s);
		lua_rawset(L, f->interned);
		lua_pop(L, 1);
		return s;
	}
	const struct doc_string *s = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return s;
}

static void
fill_key(struct filler *f, int idx, struct doc_value *key) {
	lua_State *L = f->L;
	if (lua_type(L, idx) == LUA_TSTRING) {
		key->type = DOC_STRING;
		key->s = intern(f, idx);
	} else if (lua_isinteger(L, idx)) {
		key->type = DOC_INTEGER;
		key->i = lua_tointeger(L, idx);
	} else if (lua_type(L, idx) == LUA_TNUMBER) {
		luaL_error(L, "Invalid key %f", lua_tonumber(L, idx));
	} else {
		luaL_error(L, "Invalid key type %s", luaL_typename(L, idx));
	}
}

static void
fill_value(struct filler *f, int idx, struct doc_value *v, int depth) {
	lua_State *L = f->L;
	switch (lua_type(L, idx)) {
	case LUA_TBOOLEAN:
		v->type = DOC_BOOLEAN;
		v->b = lua_toboolean(L, idx);
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(L, idx)) {
			v->type = DOC_INTEGER;
			v->i = lua_tointeger(L, idx);
		} else {
			v->type = DOC_REAL;
			v->n = lua_tonumber(L, idx);
		}
		break;
	case LUA_TSTRING:
		v->type = DOC_STRING;
		v->s = intern(f, idx);
		break;
	case LUA_TTABLE:
		v->type = DOC_TABLE;
		v->t = fill_table(f, idx, depth + 1);
		break;
	default:
		luaL_error(L, "Unsupport value type %s", luaL_typename(L, idx));
	}
}

static int
is_in_array(lua_State *L, int idx, size_t narray) {
	return lua_isinteger(L, idx) && (lua_Unsigned)lua_tointeger(L, idx) - 1u < narray;
}

/* The length `#t`, unless most of it would be holes. */
static uint32_t
array_length(lua_State *L, int t, size_t *entries) {
	size_t narray = lua_rawlen(L, t), n = 0, in_array = 0;
	lua_pushnil(L);
	while (lua_next(L, t)) {
		n++;
		in_array += (size_t)is_in_array(L, -2, narray);
		lua_pop(L, 1);
	}
	if (n - in_array > UINT32_MAX / 4 || narray > UINT32_MAX) {
		luaL_error(L, "too many keys in a table");
	}
	*entries = n - in_array;
	return (uint32_t)narray;
}

static uint32_t *
new_buckets(struct document *d, struct doc_table *t) {
	uint32_t n = 1;
	while (n < t->nnodes) {
		n *= 2;
	}
	uint32_t *buckets = carve(d, n * sizeof(*buckets));
	memset(buckets, 0, n * sizeof(*buckets));
	t->mask = n - 1;
	return buckets;
}

static void
fill_entries(struct filler *f, int t, struct doc_table *table, int depth) {
	lua_State *L = f->L;
	struct doc_value *array = carve(f->d, table->narray * sizeof(*array));
	struct doc_node *nodes = carve(f->d, table->nnodes * sizeof(*nodes));
	uint32_t *buckets = new_buckets(f->d, table);
	table->array = array;
	table->nodes = nodes;
	table->buckets = buckets;
	memset(array, 0, table->narray * sizeof(*array));
	uint32_t n = 0;
	int key = lua_gettop(L) + 1;
	lua_pushnil(L);
	while (lua_next(L, t)) {
		if (is_in_array(L, key, table->narray)) {
			fill_value(f, key + 1, &array[lua_tointeger(L, key) - 1], depth);
		} else {
			struct doc_node *node = &nodes[n++];
			fill_key(f, key, &node->key);
			fill_value(f, key + 1, &node->value, depth);
			uint32_t *bucket = &buckets[hash_key(&node->key) & table->mask];
			node->next = *bucket;
			*bucket = n;
		}
		lua_pop(L, 1);
	}
}

static const struct doc_table *
fill_table(struct filler *f, int t, int depth) {
	size_t entries;
	if (depth > DOC_MAX_DEPTH) {
		luaL_error(f->L, "tables are nested more than %d deep, or in a cycle", DOC_MAX_DEPTH);
	}
	luaL_checkstack(f->L, LUA_MINSTACK, NULL);
	struct doc_table *table = carve(f->d, sizeof(*table));
	table->narray = array_length(f->L, t, &entries);
	table->nnodes = (uint32_t)entries;
	fill_entries(f, t, table, depth);
	return table;
}

void
doc_fill(lua_State *L, int idx, struct document *d) {
	struct filler f = {.L = L, .d = d};
	idx = lua_absindex(L, idx);
	lua_newtable(L);
	f.interned = lua_gettop(L);
	d->root = fill_table(&f, idx, 1);
	lua_pop(L, 1);
}

/* ------------------------------------------------------------------- reading */

static uint64_t
find_integer(const struct doc_table *t, lua_Integer key) {
	if ((lua_Unsigned)key - 1u < t->narray) {
		return (lua_Unsigned)key - 1u;
	}
	if (t->nnodes == 0) {
		return UINT64_MAX;
	}
	uint32_t n = t->buckets[hash_integer(key) & t->mask];
	while (n != 0) {
		const struct doc_node *node = &t->nodes[n - 1];
		if (node->key.type == DOC_INTEGER && node->key.i == key) {
			return (uint64_t)t->narray + n - 1;
		}
		n = node->next;
	}
	return UINT64_MAX;
}

static uint64_t
find_string(const struct doc_table *t, const char *text, size_t len) {
	if (t->nnodes == 0) {
		return UINT64_MAX;
	}
	uint64_t hash = hash_string(text, len);
	uint32_t n = t->buckets[hash & t->mask];
	while (n != 0) {
		const struct doc_node *node = &t->nodes[n - 1];
		if (node->key.type == DOC_STRING && node->key.s->hash == hash && node->key.s->len == len &&
		    memcmp(node->key.s->text, text, len) == 0) {
			return (uint64_t)t->narray + n - 1;
		}
		n = node->next;
	}
	return UINT64_MAX;
}

uint64_t
doc_find(lua_State *L, int idx, const struct doc_table *t) {
	size_t len;
	const char *text;
	int is_integer;
	lua_Integer i;
	switch (lua_type(L, idx)) {
	case LUA_TNIL:
		return UINT64_MAX;
	case LUA_TSTRING:
		text = lua_tolstring(L, idx, &len);
		return find_string(t, text, len);
	case LUA_TNUMBER:
		i = lua_tointegerx(L, idx, &is_integer);
		if (!is_integer) {
			luaL_error(L, "Invalid key %f", lua_tonumber(L, idx));
		}
		return find_integer(t, i);
	default:
		luaL_error(L, "Invalid key type %s", luaL_typename(L, idx));
		return UINT64_MAX;
	}
}

const struct doc_value *
doc_at(const struct doc_table *t, uint64_t position) {
	if (position < t->narray) {
		return &t->array[position];
	}
	position -= t->narray;
	return position < t->nnodes ? &t->nodes[position].value : NULL;
}

const struct doc_value *
doc_get(lua_State *L, int idx, const struct doc_table *t) {
	uint64_t position = doc_find(L, idx, t);
	return position == UINT64_MAX ? NULL : doc_at(t, position);
}

void
doc_push_scalar(lua_State *L, const struct doc_value *v) {
	switch (v->type) {
	case DOC_BOOLEAN:
		lua_pushboolean(L, v->b);
		break;
	case DOC_INTEGER:
		lua_pushinteger(L, v->i);
		break;
	case DOC_REAL:
		lua_pushnumber(L, v->n);
		break;
	case DOC_STRING:
		lua_pushlstring(L, v->s->text, v->s->len);
		break;
	default:
		lua_pushnil(L);
	}
}

void
doc_push_key(lua_State *L, const struct doc_table *t, uint64_t position) {
	if (position < t->narray) {
		lua_pushinteger(L, (lua_Integer)position + 1);
	} else {
		doc_push_scalar(L, &t->nodes[position - t->narray].key);
	}
}

void
doc_push_copy(lua_State *L, const struct doc_value *v) {
	if (v->type != DOC_TABLE) {
		doc_push_scalar(L, v);
		return;
	}
	const struct doc_table *t = v->t;
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	lua_createtable(L, t->narray < INT32_MAX ? (int)t->narray : 0, (int)t->nnodes);
	const struct doc_value *item;
	for (uint64_t i = 0; (item = doc_at(t, i)) != NULL; i++) {
		if (item->type != DOC_NIL) {
			doc_push_key(L, t, i);
			doc_push_copy(L, item);
			lua_rawset(L, -3);
		}
	}
}
