// Socket options from Lua tables: keys and ranges are those of socket_option.h.
#include "lua-socket-option.h"

#include <lauxlib.h>

#include <string.h>

#include "near_name.h"

#define MS_PER_CS 10

static int
bad_value(lua_State *L, const struct socket_option_info *info, const char *expected) {
	return luaL_error(L, "Invalid socket option %s: expected %s, got %s", info->key, expected,
	                  luaL_tolstring(L, -1, NULL));
}

static int64_t
number_of(lua_State *L, const struct socket_option_info *info, int64_t unit) {
	int is_integer;
	lua_Integer n = lua_tointegerx(L, -1, &is_integer);
	if (!is_integer || lua_type(L, -1) != LUA_TNUMBER || n < 0 || n > info->max / unit) {
		char expected[64];
		lua_pushfstring(L, "an integer, 0 to %I", (LUAI_UACINT)(info->max / unit));
		strncpy(expected, lua_tostring(L, -1), sizeof(expected) - 1);
		expected[sizeof(expected) - 1] = '\0';
		lua_pop(L, 1);
		bad_value(L, info, expected);
	}
	return n * unit;
}

// The value at the top of the stack.
static int64_t
value_of(lua_State *L, const struct socket_option_info *info) {
	switch (info->kind) {
	case SOCKET_OPTION_IS_NUMBER:
		return number_of(L, info, 1);
	case SOCKET_OPTION_IS_TIME:
		return number_of(L, info, MS_PER_CS);
	case SOCKET_OPTION_IS_FLAG:
		if (!lua_isboolean(L, -1)) {
			bad_value(L, info, "a boolean");
		}
		return lua_toboolean(L, -1);
	default: {
		const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
		if (strcmp(text, "close") != 0 && strcmp(text, "drop") != 0) {
			bad_value(L, info, "\"close\" or \"drop\"");
		}
		return strcmp(text, "drop") == 0 ? SOCKET_SEND_DROP : SOCKET_SEND_CLOSE;
	}
	}
}

// Its name is at the top of the stack.
static int
unknown(lua_State *L) {
	struct near_name n;
	near_begin(&n, lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "");
	const struct socket_option_info *info;
	for (int i = 0; (info = socket_option_info(i)) != NULL; i++) {
		near_offer(&n, info->key);
	}
	const char *meant = near_result(&n);
	if (meant != NULL) {
		return luaL_error(L, "Unknown socket option %s, did you mean %s?",
		                  luaL_tolstring(L, -1, NULL), meant);
	}
	return luaL_error(L, "Unknown socket option %s", luaL_tolstring(L, -1, NULL));
}

int
socket_option_check(lua_State *L, int index, bool is_new_listener, struct socket_option *out) {
	int n = 0;
	luaL_checktype(L, index, LUA_TTABLE);
	lua_pushnil(L);
	while (lua_next(L, index) != 0) {
		int name = lua_type(L, -2) == LUA_TSTRING ? socket_option_find(lua_tostring(L, -2)) : -1;
		if (name < 0) {
			lua_pop(L, 1);
			return unknown(L);
		}
		const struct socket_option_info *info = socket_option_info(name);
		if (info->scope == SOCKET_OPTION_OF_NEW_LISTENER && !is_new_listener) {
			return luaL_error(L, "Socket option %s is for listen only", info->key);
		}
		out[n++] = (struct socket_option){name, value_of(L, info)};
		lua_pop(L, 1);
	}
	return n;
}
