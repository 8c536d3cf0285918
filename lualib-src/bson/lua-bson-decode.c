/* bson: from bytes to tables. */
#include "bson_read.h"
#include "lua-bson.h"

#include <string.h>

static void push_elements(lua_State *L, const struct bson_element *doc, int depth);

/* The key of an array's element is its index, from 0 on, in decimal. */
static lua_Integer
array_index(lua_State *L, const struct bson_element *e) {
	// 18 digits cannot overflow, and nobody has as many elements.
	if (e->key_size == 0 || e->key_size > 18) {
		return luaL_error(L, "Invalid bson array key");
	}
	lua_Integer index = 0;
	for (size_t i = 0; i < e->key_size; i++) {
		if (e->key[i] < '0' || e->key[i] > '9') {
			return luaL_error(L, "Invalid bson array key");
		}
		index = index * 10 + (e->key[i] - '0');
	}
	return index + 1;
}

static void
push_text(lua_State *L, const struct bson_element *e) {
	if (bson_is_typed((const char *)e->value, e->size)) {
		bson_push_typed(L, BSON_STRING, e->value, e->size);
	} else {
		lua_pushlstring(L, (const char *)e->value, e->size);
	}
}

static void
push_binary(lua_State *L, const struct bson_element *e) {
	luaL_Buffer b;
	char *out = luaL_buffinitsize(L, &b, TYPED_HEAD + 1 + e->size);
	out[0] = 0;
	out[1] = BSON_BINARY;
	out[2] = (char)e->subtype;
	memcpy(out + TYPED_HEAD + 1, e->value, e->size);
	luaL_pushresultsize(&b, TYPED_HEAD + 1 + e->size);
}

static void
push_value(lua_State *L, const struct bson_element *e, int depth) {
	switch (e->type) {
	case BSON_DOUBLE: {
		uint64_t bits = bson_get_u64(e->value);
		double v;
		memcpy(&v, &bits, sizeof(v));
		lua_pushnumber(L, v);
		break;
	}
	case BSON_INT32:
		lua_pushinteger(L, (int32_t)bson_get_u32(e->value));
		break;
	case BSON_INT64:
		lua_pushinteger(L, (lua_Integer)bson_get_u64(e->value));
		break;
	case BSON_BOOLEAN:
		lua_pushboolean(L, e->value[0] != 0);
		break;
	case BSON_STRING:
		push_text(L, e);
		break;
	case BSON_DATE:
		bson_push_date(L, (int64_t)bson_get_u64(e->value));
		break;
	case BSON_BINARY:
		push_binary(L, e);
		break;
	case BSON_DOCUMENT:
	case BSON_ARRAY:
		push_elements(L, e, depth + 1);
		break;
	default:
		bson_push_typed(L, e->type, e->value, e->size);
		break;
	}
}

static void
push_elements(lua_State *L, const struct bson_element *doc, int depth) {
	struct bson_reader r;
	struct bson_element e;
	struct bson_fault fault;
	if (depth > BSON_MAX_DEPTH) {
		luaL_error(L, "Too depth while decoding bson");
	}
	luaL_checkstack(L, 8, "bson");
	int got = bson_open(&r, doc->value, doc->size, &fault) ? 1 : -1;
	lua_newtable(L);
	while (got > 0 && (got = bson_next(&r, &e, &fault)) > 0) {
		if (doc->type == BSON_ARRAY) {
			lua_Integer index = array_index(L, &e);
			push_value(L, &e, depth);
			lua_rawseti(L, -2, index);
		} else {
			lua_pushlstring(L, e.key, e.key_size);
			push_value(L, &e, depth);
			lua_rawset(L, -3);
		}
	}
	if (got < 0) {
		luaL_error(L, "%s", fault.text);
	}
}

void
bson_push_document(lua_State *L, const uint8_t *doc, size_t limit) {
	struct bson_element root = {.type = BSON_DOCUMENT, .value = doc, .size = limit};
	push_elements(L, &root, 0);
}
