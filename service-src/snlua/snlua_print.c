/*
 * print: as Lua's own, but a line is one piece. Standard output belongs to all services
 * and, by default, to the log: what several threads write must not mix within lines.
 */
#include "snlua.h"

#include <stdio.h>

#include <lauxlib.h>

/* Lua: print(...) */
static int
print_line(lua_State *L) {
	int n = lua_gettop(L);
	size_t size;
	luaL_Buffer line;
	luaL_buffinit(L, &line);
	for (int i = 1; i <= n; i++) {
		if (i > 1) {
			luaL_addchar(&line, '\t');
		}
		luaL_tolstring(L, i, NULL);
		luaL_addvalue(&line);
	}
	luaL_addchar(&line, '\n');
	luaL_pushresult(&line);
	const char *text = lua_tolstring(L, -1, &size);
	fwrite(text, 1, size, stdout);
	fflush(stdout);
	return 0;
}

void
snlua_open_print(lua_State *L) {
	lua_pushcfunction(L, print_line);
	lua_setglobal(L, "print");
}
