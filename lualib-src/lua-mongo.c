/*
 * skynet.mongo.driver: frames of the MongoDB wire protocol, OP_MSG only. Documents are those of
 * bson; this file reads no more of them than their length. Keeps no state, never yields.
 *
 *   i32 length | i32 request id | i32 response to | i32 opcode | i32 flags | u8 kind | document
 */
#include <lauxlib.h>
#include <lua.h>

#include <limits.h>
#include <stdint.h>
#include <string.h>

#define OP_MSG 2013
#define FLAG_CHECKSUM 1u
#define FLAG_MORE_TO_COME 2u
/* Up to the document, with the length and without. */
#define HEAD_SIZE 21
#define REPLY_HEAD (HEAD_SIZE - 4)
/* A reply must contain request id, response to, opcode and flags to be looked at. */
#define REPLY_MIN 16
#define MIN_DOCUMENT 5

int luaopen_skynet_mongo_driver(lua_State *L);

static uint32_t
get_u32(const uint8_t *p) {
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void
put_u32(uint8_t *p, uint32_t v) {
	for (int i = 0; i < 4; i++) {
		p[i] = (uint8_t)(v >> (8 * i));
	}
}

/* The document of argument `arg`, a userdata or a light userdata. */
static const uint8_t *
check_document(lua_State *L, int arg, size_t *size) {
	const uint8_t *doc = lua_touserdata(L, arg);
	if (doc == NULL) {
		luaL_error(L, "opmsg require cmd document");
	}
	size_t limit = lua_type(L, arg) == LUA_TUSERDATA ? lua_rawlen(L, arg) : INT32_MAX;
	int32_t length = limit >= MIN_DOCUMENT ? (int32_t)get_u32(doc) : 0;
	if (length < MIN_DOCUMENT || (size_t)length > limit || length > INT32_MAX - HEAD_SIZE) {
		luaL_argerror(L, arg, "no bson document");
	}
	*size = (size_t)length;
	return doc;
}

static uint32_t
check_u32(lua_State *L, int arg) {
	lua_Integer v = luaL_checkinteger(L, arg);
	luaL_argcheck(L, v >= INT32_MIN && v <= UINT32_MAX, arg, "not a number of 32 bits");
	return (uint32_t)v;
}

/* op_msg(id, flags, document) -> request */
static int
lop_msg(lua_State *L) {
	uint32_t id = check_u32(L, 1);
	uint32_t flags = check_u32(L, 2);
	size_t size;
	const uint8_t *doc = check_document(L, 3, &size);
	luaL_Buffer b;
	uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, HEAD_SIZE + size);
	put_u32(out, (uint32_t)(HEAD_SIZE + size));
	put_u32(out + 4, id);
	put_u32(out + 8, 0);
	put_u32(out + 12, OP_MSG);
	put_u32(out + 16, flags);
	out[20] = 0;
	memcpy(out + HEAD_SIZE, doc, size);
	luaL_pushresultsize(&b, HEAD_SIZE + size);
	return 1;
}

/* length(four bytes) -> how many bytes follow them */
static int
llength(lua_State *L) {
	size_t size;
	const uint8_t *s = (const uint8_t *)luaL_checklstring(L, 1, &size);
	luaL_argcheck(L, size >= 4, 1, "4 bytes expected");
	int32_t length = (int32_t)get_u32(s);
	if (length < 4) {
		return luaL_error(L, "Invalid length of a message : %d", (int)length);
	}
	lua_pushinteger(L, (lua_Integer)length - 4);
	return 1;
}

static void
check_flags(lua_State *L, uint32_t flags) {
	if (flags & FLAG_CHECKSUM) {
		luaL_error(L, "Unsupported OP_MSG flag checksumPresent");
	}
	if (flags != 0 && flags != FLAG_MORE_TO_COME) {
		luaL_error(L, "Unsupported OP_MSG flag:%d", (int)flags);
	}
}

/*
 * reply(data) -> false when it is too short; or true, response to, pointer to the document, its
 * size. The pointer is into the string, which the caller keeps.
 */
static int
lreply(lua_State *L) {
	size_t size;
	const uint8_t *s = (const uint8_t *)luaL_checklstring(L, 1, &size);
	if (size < REPLY_MIN) {
		lua_pushboolean(L, 0);
		return 1;
	}
	if (get_u32(s + 8) != OP_MSG) {
		return luaL_error(L, "Unsupported opcode:%d", (int)get_u32(s + 8));
	}
	check_flags(L, get_u32(s + 12));
	if (size < REPLY_HEAD + MIN_DOCUMENT) {
		return luaL_error(L, "Invalid OP_MSG reply: no document");
	}
	if (s[REPLY_HEAD - 1] != 0) {
		return luaL_error(L, "Unsupported OP_MSG payload type: %d", s[REPLY_HEAD - 1]);
	}
	if (get_u32(s + REPLY_HEAD) != size - REPLY_HEAD) {
		return luaL_error(L, "Unsupported OP_MSG reply: >1 section");
	}
	lua_pushboolean(L, 1);
	lua_pushinteger(L, (int32_t)get_u32(s + 4));
	lua_pushlightuserdata(L, (void *)(uintptr_t)(s + REPLY_HEAD));
	lua_pushinteger(L, (lua_Integer)(size - REPLY_HEAD));
	return 4;
}

int
luaopen_skynet_mongo_driver(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"op_msg", lop_msg},
	    {"length", llength},
	    {"reply", lreply},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlib(L, functions);
	return 1;
}
