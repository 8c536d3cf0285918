/*
 * sproto.core: the native part of sproto.lua, which is what users call. Schemas
 * and types are light userdata; whoever uses one keeps a reference to its schema
 * (newproto and loadproto give one, deleteproto takes it). Nothing yields.
 *
 * LuaLS:
 * ---@class sproto.core
 * ---@field newproto fun(bundle: string): lightuserdata?  a schema; nothing if refused
 * ---@field deleteproto fun(schema: lightuserdata)        gives a reference back
 * ---@field dumpproto fun(schema: lightuserdata)          prints it
 * ---@field querytype fun(schema: lightuserdata, name: string): lightuserdata?
 * ---@field protocol fun(schema: lightuserdata, key: string|integer): string|integer|nil,
 *           lightuserdata?, lightuserdata?     the other of tag and name, request, response
 * ---@field encode fun(type: lightuserdata, value: table?): string
 * ---@field decode fun(type: lightuserdata, blob: string|userdata, size?: integer,
 *           into?: table): table?, integer?
 * ---@field decodeat fun(type: lightuserdata, blob: string, offset: integer): table?, integer?
 * ---@field pack fun(blob: string|userdata, size?: integer): string
 * ---@field unpack fun(blob: string|userdata, size?: integer): string
 * ---@field default fun(type: lightuserdata): table?
 * ---@field saveproto fun(schema: lightuserdata, index: integer)
 * ---@field loadproto fun(index: integer): lightuserdata  with a reference
 *
 * A null pointer as type is the body of a confirm: it has no content.
 */
#include "sproto_codec.h"
#include "sproto_error.h"
#include "sproto_schema.h"
#include "sproto_slot.h"

#include <lauxlib.h>
#include <lua.h>

static struct sproto_schema *
check_schema(lua_State *L, int arg) {
	luaL_checktype(L, arg, LUA_TLIGHTUSERDATA);
	struct sproto_schema *s = lua_touserdata(L, arg);
	luaL_argcheck(L, s != NULL, arg, "schema is null");
	return s;
}

/* A type, or NULL for the body of a confirm. */
static const struct sproto_type *
check_type(lua_State *L, int arg) {
	luaL_checktype(L, arg, LUA_TLIGHTUSERDATA);
	return lua_touserdata(L, arg);
}

/* A string, or a pointer with its size in the next argument. */
static struct sproto_slice
check_slice(lua_State *L, int arg) {
	struct sproto_slice s;
	if (lua_type(L, arg) == LUA_TSTRING) {
		s.data = (const uint8_t *)lua_tolstring(L, arg, &s.size);
		return s;
	}
	if (!lua_isuserdata(L, arg)) {
		sproto_typeerror(L, arg, "string or userdata");
	}
	lua_Integer size = luaL_checkinteger(L, arg + 1);
	s.data = lua_touserdata(L, arg);
	luaL_argcheck(L, size >= 0 && (s.data != NULL || size == 0), arg + 1, "bad size");
	luaL_argcheck(L, lua_islightuserdata(L, arg) || (lua_Unsigned)size <= lua_rawlen(L, arg),
	              arg + 1, "size is beyond the block");
	s.size = (size_t)size;
	return s;
}

static int
core_newproto(lua_State *L) {
	size_t size;
	const char *bundle = luaL_checklstring(L, 1, &size);
	struct sproto_schema *s = sproto_schema_new(bundle, size);
	if (s == NULL) {
		return 0;
	}
	lua_pushlightuserdata(L, s);
	return 1;
}

static int
core_deleteproto(lua_State *L) {
	sproto_schema_unref(check_schema(L, 1));
	return 0;
}

static int
core_dumpproto(lua_State *L) {
	sproto_schema_dump(check_schema(L, 1), stdout);
	return 0;
}

static int
core_querytype(lua_State *L) {
	const struct sproto_type *t = sproto_schema_type(check_schema(L, 1), luaL_checkstring(L, 2));
	if (t == NULL) {
		return 0;
	}
	lua_pushlightuserdata(L, (void *)(uintptr_t)t);
	return 1;
}

static void
push_body(lua_State *L, const struct sproto_type *t) {
	if (t == NULL) {
		lua_pushnil(L);
	} else {
		lua_pushlightuserdata(L, (void *)(uintptr_t)t);
	}
}

static int
core_protocol(lua_State *L) {
	const struct sproto_schema *s = check_schema(L, 1);
	const struct sproto_protocol *p;
	/* Not lua_isnumber: a string of digits is a name. */
	if (lua_type(L, 2) == LUA_TNUMBER) {
		p = sproto_schema_protocol_by_tag(s, luaL_checkinteger(L, 2));
		lua_pushstring(L, p == NULL ? "" : p->name);
	} else {
		p = sproto_schema_protocol(s, luaL_checkstring(L, 2));
		lua_pushinteger(L, p == NULL ? 0 : p->tag);
	}
	if (p == NULL) {
		return 0;
	}
	push_body(L, p->request);
	if (p->response == NULL && p->confirm) {
		lua_pushlightuserdata(L, NULL);
	} else {
		push_body(L, p->response);
	}
	return 3;
}

static int
core_encode(lua_State *L) {
	const struct sproto_type *t = check_type(L, 1);
	if (t == NULL) {
		luaL_argcheck(L, lua_isnoneornil(L, 2), 2, "a confirm has no content");
		lua_pushliteral(L, "");
		return 1;
	}
	/* A string would answer to indexing; it is no struct all the same. */
	if (lua_type(L, 2) == LUA_TSTRING ||
	    (!lua_istable(L, 2) && luaL_getmetafield(L, 2, "__index") == LUA_TNIL)) {
		sproto_typeerror(L, 2, "table");
	}
	sproto_encode(L, t, 2);
	return 1;
}

/* The last argument is filled if it is a table, else a new table. */
static int
decode(lua_State *L, struct sproto_slice s) {
	const struct sproto_type *t = check_type(L, 1);
	if (t == NULL) {
		return 0;
	}
	if (!lua_istable(L, -1)) {
		lua_newtable(L);
	}
	lua_Integer consumed = (lua_Integer)sproto_decode(L, t, s);
	lua_pushinteger(L, consumed);
	return 2;
}

static int
core_decode(lua_State *L) {
	return decode(L, check_slice(L, 2));
}

static int
core_decodeat(lua_State *L) {
	struct sproto_slice s;
	s.data = (const uint8_t *)luaL_checklstring(L, 2, &s.size);
	lua_Integer offset = luaL_checkinteger(L, 3);
	luaL_argcheck(L, offset >= 0 && (lua_Unsigned)offset <= s.size, 3, "bad offset");
	s.data += offset;
	s.size -= (size_t)offset;
	return decode(L, s);
}

static int
core_pack(lua_State *L) {
	sproto_pack(L, check_slice(L, 1));
	return 1;
}

static int
core_unpack(lua_State *L) {
	sproto_unpack(L, check_slice(L, 1));
	return 1;
}

static int
core_default(lua_State *L) {
	const struct sproto_type *t = check_type(L, 1);
	if (t == NULL) {
		return 0;
	}
	sproto_default(L, t);
	return 1;
}

static int
check_slot(lua_State *L, int arg) {
	lua_Integer index = luaL_optinteger(L, arg, 0);
	if (index < 0 || index >= SPROTO_SLOTS) {
		sproto_error(L, "Invalid global slot index %I", (LUAI_UACINT)index);
	}
	return (int)index;
}

static int
core_saveproto(lua_State *L) {
	struct sproto_schema *s = check_schema(L, 1);
	sproto_slot_save(s, check_slot(L, 2));
	return 0;
}

static int
core_loadproto(lua_State *L) {
	int index = check_slot(L, 1);
	struct sproto_schema *s = sproto_slot_load(index);
	if (s == NULL) {
		return sproto_error(
		    L, "nil sproto at index %d: nothing was saved or registered there so far", index);
	}
	lua_pushlightuserdata(L, s);
	return 1;
}

int luaopen_sproto_core(lua_State *L);

int
luaopen_sproto_core(lua_State *L) {
	luaL_checkversion(L);
	static const luaL_Reg functions[] = {
	    {"newproto", core_newproto},   {"deleteproto", core_deleteproto},
	    {"dumpproto", core_dumpproto}, {"querytype", core_querytype},
	    {"protocol", core_protocol},   {"encode", core_encode},
	    {"decode", core_decode},       {"decodeat", core_decodeat},
	    {"pack", core_pack},           {"unpack", core_unpack},
	    {"default", core_default},     {"saveproto", core_saveproto},
	    {"loadproto", core_loadproto}, {NULL, NULL},
	};
	luaL_newlib(L, functions);
	return 1;
}
