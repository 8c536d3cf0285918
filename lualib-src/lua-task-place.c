/*
 * lua-task-place: what an error says to the author of a service beyond its reason:
 * the line of his that it is about, and what he may have forgotten.
 */
#include "lua-task-imp.h"

#include <string.h>

#include "skynet_env.h"

void
task_push_place(lua_State *L) {
	const char *loader = skynet_getenv("lualoader");
	if (loader == NULL) {
		loader = "./lualib/loader.lua";
	}
	const char *slash = strrchr(loader, '/');
	size_t n = slash != NULL ? (size_t)(slash + 1 - loader) : 0;
	lua_Debug ar;
	for (int level = 1; n > 0 && lua_getstack(L, level, &ar); level++) {
		lua_getinfo(L, "Sl", &ar);
		if (ar.source[0] == '@' && strncmp(ar.source + 1, loader, n) == 0) {
			continue;
		}
		if (level == 1) {
			break;
		}
		if (ar.currentline > 0) {
			lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
			return;
		}
	}
	luaL_where(L, 1);
}

const char *
task_hint(lua_State *L, const char *message) {
	static const char call[] = "attempt to call a nil value (field '";
	const char *field = strstr(message, call);
	if (field == NULL) {
		return message;
	}
	field += sizeof(call) - 1;
	size_t n = strcspn(field, "'");
	const char *name = lua_pushlstring(L, field, n);
	/* What another service answered goes on behind it. */
	if (strcmp(field + n, "')") != 0 || !sched_needs_manager(sched_of(L), name)) {
		lua_pop(L, 1);
		return message;
	}
	return lua_pushfstring(L, "%s, skynet.%s comes with require \"skynet.manager\"", message, name);
}
