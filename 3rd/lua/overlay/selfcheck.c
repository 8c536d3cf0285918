/*
** Tells by its exit code whether an overlay that compiled with some release of
** Lua also works; see probe.sh. Needs nothing but Lua, and a folder to write to.
** What it tries are the points where the overlay relies on Lua's insides. The
** thorough tests are in test/unit.
*/

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lauxlib.h"
#include "lshare.h"
#include "lualib.h"

static void
check(int claim, const char *what) {
	if (!claim) {
		printf("%s\n", what);
		exit(1);
	}
}

static void
run(lua_State *L, const char *code) {
	if (luaL_dostring(L, code) != LUA_OK) {
		check(0, lua_tostring(L, -1));
	}
	lua_settop(L, 0);
}

static int
wanted(lua_State *L) {
	lua_pushinteger(L, lua_wantedresults(L));
	return 1;
}

static lua_State *
open_state(void) {
	lua_State *L = luaL_newstate();
	check(L != NULL, "no state");
	luaL_openlibs(L);
	lua_register(L, "wanted", wanted);
	return L;
}

static size_t
bytes_of(lua_State *L) {
	lua_gc(L, LUA_GCCOLLECT);
	return (size_t)lua_gc(L, LUA_GCCOUNT) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB);
}

static void
write_script(const char *name) {
	FILE *f = fopen(name, "w");
	check(f != NULL, "cannot write a script");
	fprintf(
	    f, "local t = ...\n"
	       "local function twice(x) return x .. x, 'a long constant of more than forty bytes' end\n"
	       "return t.selfcheck_key, twice, {selfcheck_key = 1, list = {1, 2, 3}}\n");
	fclose(f);
}

static void
check_code(const char *name) {
	lua_State *A = open_state(), *B = open_state(), *C = open_state();
	size_t before;
	run(C, "key = 'selfcheck' .. '_key' mine = {[key] = 5}");
	check(luaL_loadfile(A, name) == LUA_OK, "cannot load");
	before = bytes_of(B);
	check(luaL_loadfile(B, name) == LUA_OK, "cannot load again");
	check(bytes_of(B) < before + 200, "a second load costs memory");
	lua_setglobal(B, "f");
	run(B, "local k, twice, t = f({selfcheck_key = 7}) assert(k == 7 and twice('x') == 'xx') "
	       "assert(t['selfcheck' .. '_key'] == 1 and #t.list == 3) assert(load(string.dump(f)))");
	check(luaL_loadfile(C, name) == LUA_OK, "cannot load with twins");
	lua_setglobal(C, "f");
	run(C, "local k, twice, t = f(mine) assert(k == 5 and t[key] == 1) collectgarbage()");
	lua_close(A);
	lua_close(B);
	lua_close(C);
}

static void
check_table(void) {
	lua_State *A = open_state(), *B = open_state();
	const void *t;
	run(A, "t = {1, 2, 3, a = 'x', sub = {b = 1}, f = function(x) return x + 1 end} "
	       "for i = 1, 50 do t['key' .. i] = i end");
	lua_getglobal(A, "t");
	t = lua_sharetable(A, -1);
	lua_close(A);
	lua_clonetable(B, t);
	lua_setglobal(B, "t");
	run(B, "local n = 0 for k, v in pairs(t) do n = n + 1 end "
	       "assert(n == 56 and #t == 3 and t.sub.b == 1 and t.f(1) == 2 and t.key50 == 50)");
	run(B, "for _, w in ipairs{'t.a = 1', 't.new = 1', 't[1] = 1', 't[9] = 1', 't.sub.b = 2', "
	       "'local k = 1 t[k] = 1', 'local k = \"a\" t[k] = 1', 'rawset(t, 1, 1)', 'rawset(t, "
	       "\"a\", nil)', "
	       "'table.insert(t, 1)', 'table.remove(t)', 'local _ENV = t a = 1', 'setmetatable(t, "
	       "nil)'} do "
	       "local ok, m = pcall(load(w)) assert(not ok and m:find 'shared table', w) end");
	run(B, "for _, mode in ipairs{'incremental', 'generational'} do collectgarbage(mode) "
	       "local keep = setmetatable({}, {__mode = 'k'}) "
	       "for i = 1, 20000 do keep[t] = {t.sub, t.f, t.a, tostring(i)} end collectgarbage() "
	       "assert(keep[t][1] == t.sub) end");
	lua_close(B);
	lua_freeshared(t);
}

static void
check_image(void) {
	const char *error = "";
	lua_State *A = luaL_newstate(), *B = luaL_newstate();
	const void *image;
	check(A != NULL && B != NULL, "no state");
	luaL_openlibs(A);
	run(A, "string.list = {1, 2, 3, {x = ('long '):rep(20)}} string.self = string");
	image = lua_takeimage(A, &error);
	check(image != NULL, error);
	lua_close(A);
	check(lua_layimage(B, image) == LUA_OK, "an image cannot be laid");
	run(B,
	    "assert(string.list[4].x == ('long '):rep(20) and string.self == string and _G._G == _G) "
	    "for i = 1, 100 do string['k' .. i] = {i} _G['g' .. i] = i end "
	    "for k in pairs(math) do math[k] = nil end assert(io.type(io.stdout) == 'file')");
	lua_gcsettle(B);
	run(B, "for i = 1, 20 do for j = 1, 1000 do string['k' .. j % 100] = {j, tostring(j)} end "
	       "collectgarbage('step') end collectgarbage() collectgarbage 'incremental' "
	       "collectgarbage() assert(string.k99[1] == 999 and ('x'):rep(2) == 'xx' and g7 == 7)");
	lua_close(B);
	lua_freeimage(image);
}

int
main(int argc, char **argv) {
	char name[1024];
	lua_State *L;
	check(argc == 2, "usage: selfcheck FOLDER");
	luaL_initcodecache();
	L = open_state();
	check(bytes_of(L) < 14 * 1024, "a state is big");
	run(L, "local a, b = wanted() assert(a == 2)");
	run(L, "assert(({wanted()})[1] == -1)");
	lua_close(L);
	snprintf(name, sizeof(name), "%s/selfcheck.lua", argv[1]);
	write_script(name);
	check_code(name);
	check_table();
	check_image();
	remove(name);
	printf("good\n");
	return 0;
}
