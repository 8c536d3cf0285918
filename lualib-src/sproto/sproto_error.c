#include "sproto_error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>

static bool
is_wrapper(const lua_Debug *ar) {
	static const char name[] = "sproto.lua";
	size_t n = sizeof(name) - 1;
	if (ar->srclen < n || strcmp(ar->source + ar->srclen - n, name) != 0) {
		return false;
	}
	return ar->srclen == n || strchr("@/", ar->source[ar->srclen - n - 1]) != NULL;
}

static void
push_place(lua_State *L) {
	lua_Debug ar;
	int level = 1;
	while (lua_getstack(L, level, &ar) && lua_getinfo(L, "S", &ar) && is_wrapper(&ar)) {
		level++;
	}
	luaL_where(L, level);
}

int
sproto_error(lua_State *L, const char *format, ...) {
	va_list ap;
	push_place(L);
	va_start(ap, format);
	lua_pushvfstring(L, format, ap);
	va_end(ap);
	lua_concat(L, 2);
	return lua_error(L);
}

int
sproto_typeerror(lua_State *L, int arg, const char *want) {
	lua_Debug ar;
	const char *name = lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) ? ar.name : NULL;
	return sproto_error(L, "bad argument #%d to '%s' (%s expected, got %s)", arg,
	                    name != NULL ? name : "?", want, luaL_typename(L, arg));
}
