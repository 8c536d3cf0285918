/*
 * Where the loader (lualib/loader.lua) finds the script of a service: the words of
 * the launch argument, and the file that the first word means.
 */
#include "snlua.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>

#define SPACE " \f\n\r\t\v"

/* Stack: the argument, the templates, the name, and what follows. */
enum { ARG_ARGUMENT = 1, ARG_TEMPLATES, NAME };

/* A part of LUA_SERVICE. */
struct template {
	const char *text;
	size_t len;
};

/* Step to the next template of a list, the first one if t->text is NULL; false at the end. */
static bool
next_template(const char *list, struct template *t) {
	const char *p = t->text == NULL ? list : t->text + t->len;
	p += strspn(p, ";");
	t->text = p;
	t->len = strcspn(p, ";");
	return t->len > 0;
}

/* Whether the template gives `file` with `name` for each `?`. */
static bool
gives_file(const struct template *t, const char *name, const char *file) {
	size_t name_len = strlen(name);
	for (size_t i = 0; i < t->len; i++) {
		if (t->text[i] == '?') {
			if (strncmp(file, name, name_len) != 0) {
				return false;
			}
			file += name_len;
		} else if (*file++ != t->text[i]) {
			return false;
		}
	}
	return *file == '\0';
}

/*
 * Whether the template, such as dir/?/init.lua, gives a service a folder of its own:
 * there is a `?` before its last slash, and none after.
 */
static bool
gives_folder(const struct template *t) {
	const char *slash = memrchr(t->text, '/', t->len);
	return slash != NULL && memchr(t->text, '?', (size_t)(slash - t->text)) != NULL &&
	       memchr(slash, '?', (size_t)(t->text + t->len - slash)) == NULL;
}

/* Push the chunk of the file where the script was found before; false when there is none. */
static bool
push_known(lua_State *L, const char *name, const char *templates, struct template *t) {
	char file[SNLUA_FILE_MAX];
	if (!snlua_find_script(name, templates, file)) {
		return false;
	}
	while (next_template(templates, t)) {
		if (gives_file(t, name, file)) {
			lua_pushstring(L, file);
			if (luaL_loadfile(L, file) == LUA_OK) {
				return true;
			}
			lua_pop(L, 2);
			break;
		}
	}
	t->text = NULL;
	return false;
}

/* Push the name of the file and the chunk of the first template whose file loads, or raise. */
static void
push_first(lua_State *L, const char *name, const char *templates, struct template *t) {
	bool is_first = true; /* of those that are there */
	lua_pushliteral(L, "");
	while (next_template(templates, t)) {
		lua_pushlstring(L, t->text, t->len);
		const char *file = luaL_gsub(L, lua_tostring(L, -1), "?", name);
		lua_remove(L, -2);
		if (luaL_loadfile(L, file) == LUA_OK) {
			if (is_first) {
				snlua_note_script(name, templates, file);
			}
			return;
		}
		is_first = is_first && access(file, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR);
		lua_remove(L, -2);
		if (lua_rawlen(L, -2) > 0) {
			lua_pushliteral(L, "\n");
			lua_insert(L, -2);
			lua_concat(L, 3);
		} else {
			lua_remove(L, -2);
		}
	}
	lua_error(L);
}

/* Push the words of `text`. Returns how many there are. */
static int
push_words(lua_State *L, const char *text) {
	int n = 0;
	for (text += strspn(text, SPACE); *text != '\0'; text += strspn(text, SPACE)) {
		size_t len = strcspn(text, SPACE);
		luaL_checkstack(L, 2, "too many words");
		lua_pushlstring(L, text, len);
		text += len;
		n++;
	}
	return n;
}

int
snlua_script(lua_State *L) {
	const char *argument = luaL_checkstring(L, ARG_ARGUMENT);
	const char *templates = luaL_checkstring(L, ARG_TEMPLATES);
	struct template t = {NULL, 0};
	lua_settop(L, ARG_TEMPLATES);
	argument += strspn(argument, SPACE);
	if (*argument == '\0') {
		lua_pushliteral(L, "a Lua service needs the name of a script");
		return lua_error(L);
	}
	const char *name = lua_pushlstring(L, argument, strcspn(argument, SPACE));
	if (!push_known(L, name, templates, &t)) {
		push_first(L, name, templates, &t);
	}
	const char *file = lua_tostring(L, -2);
	const char *slash = strrchr(file, '/');
	if (slash != NULL) {
		lua_pushlstring(L, file, (size_t)(slash + 1 - file));
	} else {
		lua_pushnil(L);
	}
	lua_pushboolean(L, gives_folder(&t));
	return 3 + push_words(L, argument);
}
