/*
 * bson: the module, and the userdata that encode gives. doc/reference/bson.md describes it for
 * users; lua-bson.h what the files share.
 */
#include "bson_read.h"
#include "lua-bson.h"

#include <string.h>

/* Entries of the index: where the value is, and its type in the low byte. */
#define INDEX_TYPE_BITS 8

//------------------------------------------------------------------ decoding

/* decode(bson | string | userdata | lightuserdata [, size]) -> table; nothing for nil */
static int
ldecode(lua_State *L) {
	size_t limit = 0;
	const uint8_t *doc;
	switch (lua_type(L, 1)) {
	case LUA_TNONE:
	case LUA_TNIL:
		return 0;
	case LUA_TSTRING:
		doc = (const uint8_t *)lua_tolstring(L, 1, &limit);
		break;
	case LUA_TUSERDATA:
		doc = lua_touserdata(L, 1);
		limit = lua_rawlen(L, 1);
		break;
	case LUA_TLIGHTUSERDATA:
		doc = lua_touserdata(L, 1);
		luaL_argcheck(L, doc != NULL, 1, "null pointer");
		// Without a size, the document is believed.
		limit = SIZE_MAX;
		break;
	default:
		return luaL_typeerror(L, 1, "bson, string or pointer");
	}
	if (!lua_isnoneornil(L, 2)) {
		lua_Integer size = luaL_checkinteger(L, 2);
		luaL_argcheck(L, size >= 0, 2, "negative size");
		limit = (size_t)size < limit ? (size_t)size : limit;
	}
	bson_push_document(L, doc, limit);
	return 1;
}

//--------------------------------------------------------- replacing in place

static bool
is_replaceable(int type) {
	switch (type) {
	case BSON_DOUBLE:
	case BSON_BOOLEAN:
	case BSON_OBJECTID:
	case BSON_DATE:
	case BSON_TIMESTAMP:
	case BSON_INT32:
	case BSON_INT64:
		return true;
	default:
		return false;
	}
}

/* bson:makeindex() -> bson */
static int
lmakeindex(lua_State *L) {
	const uint8_t *doc = luaL_checkudata(L, 1, BSON_META);
	struct bson_reader r;
	struct bson_element e;
	struct bson_fault fault;
	lua_newtable(L);
	int got = bson_open(&r, doc, lua_rawlen(L, 1), &fault) ? 1 : -1;
	while (got > 0 && (got = bson_next(&r, &e, &fault)) > 0) {
		lua_pushlstring(L, e.key, e.key_size);
		if (is_replaceable(e.type)) {
			lua_pushinteger(L, (lua_Integer)(e.value - doc) << INDEX_TYPE_BITS | e.type);
		} else {
			lua_pushnil(L);
		}
		lua_rawset(L, -3);
	}
	if (got < 0) {
		return luaL_error(L, "%s", fault.text);
	}
	lua_setiuservalue(L, 1, 1);
	lua_settop(L, 1);
	return 1;
}

static int
mismatch(lua_State *L, int type) {
	return luaL_error(L, "Type mismatch, need bson type %d", type);
}

/* The new value, argument 3, as a checked typed string of this type. */
static const char *
check_typed_value(lua_State *L, int type, size_t *size) {
	const char *s = lua_type(L, 3) == LUA_TSTRING ? lua_tolstring(L, 3, size) : NULL;
	if (s == NULL || !bson_is_typed(s, *size) || (uint8_t)s[1] != type) {
		mismatch(L, type);
	}
	bson_check_typed(L, s, *size);
	return s;
}

static lua_Integer
check_integer_value(lua_State *L, int type) {
	if (!lua_isinteger(L, 3)) {
		mismatch(L, type);
	}
	lua_Integer v = lua_tointeger(L, 3);
	if (type == BSON_INT32 && (v < INT32_MIN || v > INT32_MAX)) {
		luaL_error(L, "Integer %I does not fit in an int32 field", v);
	}
	return v;
}

static void
replace_number(lua_State *L, uint8_t *at, int type) {
	if (type == BSON_INT32) {
		bson_put_u32(at, (uint32_t)check_integer_value(L, type));
		return;
	}
	if (type == BSON_INT64) {
		size_t size;
		if (lua_type(L, 3) == LUA_TSTRING) {
			memcpy(at, check_typed_value(L, type, &size) + TYPED_HEAD, 8);
		} else {
			bson_put_u64(at, (uint64_t)check_integer_value(L, type));
		}
		return;
	}
	if (lua_type(L, 3) != LUA_TNUMBER) {
		mismatch(L, type);
	}
	double v = lua_tonumber(L, 3);
	uint64_t bits;
	memcpy(&bits, &v, sizeof(bits));
	bson_put_u64(at, bits);
}

static void
replace_value(lua_State *L, uint8_t *at, int type) {
	size_t size;
	const char *s;
	switch (type) {
	case BSON_BOOLEAN:
		at[0] = (uint8_t)lua_toboolean(L, 3);
		break;
	case BSON_DATE:
		s = check_typed_value(L, type, &size);
		bson_put_u64(at, (uint64_t)bson_date_ms(s, size));
		break;
	case BSON_OBJECTID:
	case BSON_TIMESTAMP:
		s = check_typed_value(L, type, &size);
		memcpy(at, s + TYPED_HEAD, size - TYPED_HEAD);
		break;
	default:
		replace_number(L, at, type);
		break;
	}
}

/* bson.key = value */
static int
lnewindex(lua_State *L) {
	uint8_t *doc = luaL_checkudata(L, 1, BSON_META);
	luaL_checkany(L, 3);
	if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) {
		return luaL_error(L, "call makeindex first");
	}
	lua_pushvalue(L, 2);
	if (lua_rawget(L, -2) == LUA_TNIL) {
		return luaL_error(L, "Can't replace key : %s", luaL_tolstring(L, 2, NULL));
	}
	lua_Integer entry = lua_tointeger(L, -1);
	replace_value(L, doc + (entry >> INDEX_TYPE_BITS), (int)(entry & 0xff));
	return 0;
}

//------------------------------------------------------------------ userdata

static int
ltostring(lua_State *L) {
	const char *doc = luaL_checkudata(L, 1, BSON_META);
	lua_pushlstring(L, doc, lua_rawlen(L, 1));
	return 1;
}

static int
llen(lua_State *L) {
	luaL_checkudata(L, 1, BSON_META);
	lua_pushinteger(L, (lua_Integer)lua_rawlen(L, 1));
	return 1;
}

/* to_lightuserdata(bson) -> pointer to the bytes, valid while bson lives */
static int
lto_lightuserdata(lua_State *L) {
	lua_pushlightuserdata(L, luaL_checkudata(L, 1, BSON_META));
	return 1;
}

static void
make_metatable(lua_State *L) {
	static const luaL_Reg metamethods[] = {
	    {"__tostring", ltostring},
	    {"__len", llen},
	    {"__newindex", lnewindex},
	    {NULL, NULL},
	};
	static const luaL_Reg methods[] = {
	    {"decode", ldecode},
	    {"makeindex", lmakeindex},
	    {NULL, NULL},
	};
	if (luaL_newmetatable(L, BSON_META)) {
		luaL_setfuncs(L, metamethods, 0);
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	lua_pop(L, 1);
}

int
luaopen_bson(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"encode", bson_encode},
	    {"encode_order", bson_encode_order},
	    {"decode", ldecode},
	    {"to_lightuserdata", lto_lightuserdata},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	make_metatable(L);
	luaL_newlib(L, functions);
	luaL_setfuncs(L, bson_value_functions, 0);
	bson_set_constants(L);
	return 1;
}
