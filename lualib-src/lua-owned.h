/*
 * lua-owned: memory that is not Lua's, in the hands of a C function that needs Lua to make
 * something of it.
 *
 * Whatever needs memory of Lua may raise an error, and what a C function holds is lost then.
 * So it hands what it holds to these functions, which give it back in any case.
 */
#ifndef LUA_OWNED_H
#define LUA_OWNED_H

#include <stddef.h>

#include <lua.h>

#include "skynet_malloc.h"

/*
 * Calls f with ud, a light userdata, as its only argument, then release(ud), and leaves so
 * many results on the stack. What f raises is raised after that.
 */
static inline void
lua_owned_call(lua_State *L, lua_CFunction f, void *ud, int results, void (*release)(void *ud)) {
	lua_pushcfunction(L, f);
	lua_pushlightuserdata(L, ud);
	int status = lua_pcall(L, 1, results, 0);
	release(ud);
	if (status != LUA_OK) {
		lua_error(L);
	}
}

struct lua_owned_bytes {
	char *block;
	size_t size;
};

static inline int
lua_owned_push(lua_State *L) {
	const struct lua_owned_bytes *b = lua_touserdata(L, 1);
	lua_pushlstring(L, b->block, b->size);
	return 1;
}

static inline void
lua_owned_free(void *ud) {
	skynet_free(((struct lua_owned_bytes *)ud)->block);
}

/* Pushes what is in a block of skynet_malloc as a string, and frees the block in any case. */
static inline void
lua_owned_string(lua_State *L, char *block, size_t size) {
	struct lua_owned_bytes b = {block, size};
	lua_owned_call(L, lua_owned_push, &b, 1, lua_owned_free);
}

#endif
