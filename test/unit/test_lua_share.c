/*
** Sharing between Lua states: strings, code, the code cache and frozen tables.
** Each test uses states of its own; shared strings and the cache are global, so
** names of strings and files are different in all tests.
*/

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

static char folder[] = "/tmp/lua_share_XXXXXX";

static const char *
path_of(const char *name) {
	static _Thread_local char path[256];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static const char *
write_file(const char *name, const char *text) {
	const char *path = path_of(name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return path;
}

static lua_State *
open_state(void) {
	lua_State *L = luaL_newstate();
	assert_non_null(L);
	luaL_openlibs(L);
	luaL_requiref(L, "skynet.codecache", luaopen_cache, 0);
	lua_settop(L, 0);
	return L;
}

/*
** Runs code; the test fails with its message when it raises an error.
*/
static void
run(lua_State *L, const char *code) {
	if (luaL_dostring(L, code) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	lua_settop(L, 0);
}

/*
** Runs code and checks that it raises an error that contains 'text'.
*/
static void
run_fails(lua_State *L, const char *code, const char *text) {
	if (luaL_dostring(L, code) == LUA_OK) {
		fail_msg("no error: %s", code);
	}
	if (strstr(luaL_tolstring(L, -1, NULL), text) == NULL) {
		fail_msg("%s: %s", code, lua_tostring(L, -1));
	}
	lua_settop(L, 0);
}

/*
** Evaluates an expression to a table and shares it.
*/
static const void *
share(lua_State *L, const char *expression) {
	const void *t;
	char code[4096];
	snprintf(code, sizeof(code), "return %s", expression);
	if (luaL_dostring(L, code) != LUA_OK) {
		fail_msg("%s", lua_tostring(L, -1));
	}
	t = lua_sharetable(L, -1);
	lua_settop(L, 0);
	return t;
}

/*
** Makes the shared table a global 't' of a state.
*/
static void
borrow(lua_State *L, const void *t) {
	lua_clonetable(L, t);
	lua_setglobal(L, "t");
}

static struct lua_ShareStats
stats(void) {
	struct lua_ShareStats s;
	lua_sharestats(&s);
	return s;
}

/*----------------------------------------------------------------- results */

static int
count_wanted(lua_State *L) {
	lua_pushinteger(L, lua_wantedresults(L));
	lua_pushinteger(L, lua_wantedresults(L));
	lua_pushinteger(L, lua_wantedresults(L));
	return 3;
}

static void
wantedresults_tells_what_the_caller_takes(void **state) {
	lua_State *L = open_state();
	(void)state;
	lua_register(L, "wanted", count_wanted);
	run(L, "local a = wanted() assert(a == 1)");
	run(L, "local a, b = wanted() assert(a == 2)");
	run(L, "local a, b, c, d, e = wanted() assert(a == 5 and e == nil)");
	run(L, "assert((wanted()) == 1)");
	run(L, "assert(select('#', wanted()) == 3 and select(1, wanted()) == -1)");
	run(L, "local t = {wanted()} assert(t[1] == -1)");
	run(L, "local function f() return (wanted()) end assert(f() == 1)");
	run(L, "local log = {} local w = setmetatable({}, {__index = function(_, k) return wanted end})"
		   "wanted() local x = w.x() assert(x == 1)");
	lua_pushcfunction(L, count_wanted);
	lua_call(L, 0, 2);
	assert_int_equal(lua_tointeger(L, -1), 2);
	lua_pushcfunction(L, count_wanted);
	lua_call(L, 0, LUA_MULTRET);
	assert_int_equal(lua_tointeger(L, -1), LUA_MULTRET);
	lua_close(L);
}

/*----------------------------------------------------------------- strings */

static void
sharestring_wants_a_string(void **state) {
	lua_State *L = open_state();
	(void)state;
	lua_pushliteral(L, "a string to share");
	lua_sharestring(L, -1);
	assert_string_equal(lua_tostring(L, -1), "a string to share");
	lua_pushfstring(L, "%s that is too long for a short string, really", "a string");
	lua_sharestring(L, -1);
	lua_close(L);
}

static int
share_number(lua_State *L) {
	lua_pushinteger(L, 1);
	lua_sharestring(L, -1);
	return 0;
}

static void
sharestring_of_a_number_raises(void **state) {
	lua_State *L = open_state();
	(void)state;
	lua_register(L, "f", share_number);
	run_fails(L, "f()", "need a string to share");
	lua_close(L);
}

static void
states_start_small(void **state) {
	lua_State *L;
	int bytes;
	(void)state;
	lua_close(open_state()); /* whatever happens only once */
	L = luaL_newstate();
	luaL_openlibs(L);
	lua_gc(L, LUA_GCCOLLECT);
	bytes = lua_gc(L, LUA_GCCOUNT) * 1024 + lua_gc(L, LUA_GCCOUNTB);
	print_message("# a state with all libraries: %d bytes\n", bytes);
#ifdef LUA_CACHELIB
	assert_true(bytes < 12 * 1024);
#endif
	lua_close(L);
}

/*--------------------------------------------------------------- functions */

static int
share_function(lua_State *L) {
	lua_pushlightuserdata(L, (void *)lua_sharefunction(L, 1));
	return 1;
}

static int
clone_function(lua_State *L) {
	lua_clonefunction(L, lua_touserdata(L, 1));
	return 1;
}

static void
shared_functions_have_fresh_upvalues(void **state) {
	lua_State *A = open_state(), *B = open_state();
	const void *f;
	(void)state;
	run(A, "n = 1 function f() n = n + 1 return n end");
	lua_getglobal(A, "f");
	f = lua_sharefunction(A, -1);
	assert_ptr_equal(lua_sharefunction(A, -1) != NULL ? f : NULL, f);
	run(B, "n = 10");
	lua_clonefunction(B, f);
	lua_setglobal(B, "f");
	run(B, "assert(f() == 11 and f() == 12)");
	run(A, "assert(f() == 2 and n == 2)");
	lua_close(B);
	lua_close(A);
}

static void
only_lua_functions_can_be_shared(void **state) {
	lua_State *L = open_state();
	(void)state;
	lua_register(L, "sharefunction", share_function);
	run_fails(L, "sharefunction(print)", "Only Lua function can share");
	run_fails(L, "sharefunction(1)", "Only Lua function can share");
	run_fails(L, "sharefunction()", "Only Lua function can share");
	lua_close(L);
}

static void
nested_functions_of_shared_code_can_be_shared(void **state) {
	lua_State *L = open_state();
	(void)state;
	lua_register(L, "sharefunction", share_function);
	lua_register(L, "clonefunction", clone_function);
	run(L, "local function outer(a) return function(b) return b end end "
		   "local c = clonefunction(sharefunction(outer)) "
		   "local d = clonefunction(sharefunction(c(1))) "
		   "assert(d(5) == 5)");
	lua_close(L);
}

/*--------------------------------------------------------------- code cache */

#ifdef LUA_CACHELIB

static void
a_changed_file_is_seen_after_clear(void **state) {
	lua_State *A = open_state(), *B = open_state();
	(void)state;
	write_file("changed.lua", "return 'old'");
	lua_pushstring(A, path_of("changed.lua"));
	lua_setglobal(A, "file");
	lua_pushstring(B, path_of("changed.lua"));
	lua_setglobal(B, "file");
	run(A, "assert(dofile(file) == 'old')");
	write_file("changed.lua", "return 'new'");
	run(A, "assert(dofile(file) == 'old')");
	run(B, "assert(dofile(file) == 'old')");
	run(B, "cache = require 'skynet.codecache' assert(cache.mode() == 'ON' and cache.mode(nil) == 'ON')");
	run(B, "cache.mode 'EXIST' assert(dofile(file) == 'old')");
	run(B, "cache.mode 'OFF' assert(cache.mode() == 'OFF' and dofile(file) == 'new')");
	run(B, "assert(select('#', cache.clear()) == 0 and select('#', cache.mode 'ON') == 0)");
	run(A, "assert(dofile(file) == 'new')");
	run(B, "assert(dofile(file) == 'new' and loadfile == cache.loadfile)");
	run_fails(B, "cache.mode 'SOME'", "invalid option");
	lua_close(A);
	lua_close(B);
}

static void
mode_exist_and_off_store_nothing(void **state) {
	lua_State *L = open_state();
	size_t cached;
	(void)state;
	lua_pushstring(L, write_file("private.lua", "return 1"));
	lua_setglobal(L, "file");
	cached = stats().cache_count;
	run(L, "cache = require 'skynet.codecache' cache.mode 'EXIST' assert(dofile(file) == 1)");
	run(L, "cache.mode 'OFF' assert(dofile(file) == 1)");
	assert_int_equal(stats().cache_count, cached);
	run(L, "cache.mode 'ON' assert(dofile(file) == 1)");
	assert_int_equal(stats().cache_count, cached + 1);
	lua_close(L);
}

static void
errors_are_not_cached(void **state) {
	lua_State *L = open_state();
	(void)state;
	lua_pushstring(L, path_of("broken.lua"));
	lua_setglobal(L, "file");
	run(L, "local f, m = loadfile(file) assert(f == nil and m:find('cannot open'), m)");
	write_file("broken.lua", "return return");
	run(L, "local f, m = loadfile(file) assert(f == nil and m:find('broken.lua:1:'), m)");
	write_file("broken.lua", "return ...");
	run(L, "assert(loadfile(file)(7) == 7)");
	run(L, "assert(loadfile(file, 'b')(8) == 8)");
	lua_close(L);
}

static void
each_load_is_a_new_closure(void **state) {
	lua_State *L = open_state();
	(void)state;
	lua_pushstring(L, write_file("counter.lua", "local n = ... return function() n = n + 1 return n end, x"));
	lua_setglobal(L, "file");
	run(L, "local f, g = loadfile(file), loadfile(file) assert(f ~= g) "
		   "f, g = f(1), g(10) assert(f() == 2 and g() == 11 and f() == 3)");
	run(L, "x = 5 local _, v = loadfile(file)(1) assert(v == 5) "
		   "_, v = loadfile(file, 't', {x = 6})(1) assert(v == 6) "
		   "_, v = loadfile(file)(1) assert(v == 5)");
	run(L, "local f = loadfile(file) local i = debug.getinfo(f, 'SL') "
		   "assert(i.source == '@' .. file and i.activelines[1]) "
		   "local g = load(string.dump(f), 'again', 'b') assert(g(3)() == 4)");
	lua_close(L);
}

static void
loading_again_costs_a_closure(void **state) {
	lua_State *A = open_state(), *B = open_state();
	FILE *f;
	int before, after;
	(void)state;
	f = fopen(path_of("long.lua"), "w");
	for (int i = 0; i < 1000; i++) {
		fprintf(f, "function f%d(a) return a.field%d .. 'literal %d' end\n", i, i, i);
	}
	fclose(f);
	assert_int_equal(luaL_loadfile(A, path_of("long.lua")), LUA_OK);
	lua_gc(B, LUA_GCCOLLECT);
	before = lua_gc(B, LUA_GCCOUNT) * 1024 + lua_gc(B, LUA_GCCOUNTB);
	assert_int_equal(luaL_loadfile(B, path_of("long.lua")), LUA_OK);
	after = lua_gc(B, LUA_GCCOUNT) * 1024 + lua_gc(B, LUA_GCCOUNTB);
	print_message("# loading 1000 lines again: %d bytes\n", after - before);
	assert_true(after - before < 200);
	assert_true(lua_sharedcode(B) > 50000);
	lua_close(A);
	lua_close(B);
}

static void
cleared_code_is_freed_with_its_last_user(void **state) {
	lua_State *A = open_state(), *B = open_state();
	struct lua_ShareStats before;
	(void)state;
	run(A, "require 'skynet.codecache'.clear()");
	before = stats();
	lua_pushstring(A, write_file("kept.lua", "local long = 'a string that is too long to be a short one, xxxx' return long"));
	lua_setglobal(A, "file");
	lua_pushstring(B, path_of("kept.lua"));
	lua_setglobal(B, "file");
	run(A, "f = loadfile(file)");
	run(B, "f = loadfile(file)");
	assert_int_equal(stats().chunk_count, before.chunk_count + 1);
	run(A, "require 'skynet.codecache'.clear()");
	assert_int_equal(stats().chunk_count, before.chunk_count + 1);
	run(A, "assert(f():find 'xxxx$')");
	lua_close(A);
	assert_int_equal(stats().chunk_count, before.chunk_count + 1);
	run(B, "assert(f():find 'xxxx$')");
	lua_close(B);
	assert_int_equal(stats().chunk_count, before.chunk_count);
	assert_int_equal(stats().chunk_bytes, before.chunk_bytes);
}

/*
** Code that was dropped from the cache goes when a collection finds it unused,
** which 'keep' delays. 'chunks' is the count without the file.
*/
static void
drop_while_used_by(lua_State *L, const char *keep, size_t chunks) {
	run(L, "require 'skynet.codecache'.clear() collectgarbage()");
	assert_int_equal(stats().chunk_count, chunks);
	run(L, keep);
	assert_int_equal(stats().chunk_count, chunks + 1);
	run(L, "require 'skynet.codecache'.clear() collectgarbage() collectgarbage()");
	assert_int_equal(stats().chunk_count, chunks + 1);
	run(L, "kept = nil for i = 1, 3 do collectgarbage() end");
	assert_int_equal(stats().chunk_count, chunks);
}

static void
unused_code_is_freed_while_the_state_lives(void **state) {
	static const char *const uses[] = {
		"kept = loadfile(file)",
		"kept = dofile(file)",
		"kept = dofile(file)(1)",
		"kept = select(2, dofile(file))",
		"kept = {select(2, dofile(file))}",
		"kept = {[select(2, dofile(file))] = true}",
		"kept = {{x = {dofile(file)}}}",
		"kept = setmetatable({}, {__gc = dofile(file)(2)})",
		"local s = select(2, dofile(file)) kept = function() return s end",
		("local s = select(2, dofile(file)) "
		 "kept = coroutine.create(function() local x = s coroutine.yield(x) end) "
		 "coroutine.resume(kept)"),
		"kept = string.gmatch(select(2, dofile(file)), 'x')",
	};
	lua_State *L = open_state();
	size_t chunks;
	(void)state;
	run(L, "require 'skynet.codecache'.clear()");
	chunks = stats().chunk_count;
	lua_pushstring(L, write_file("dropped.lua",
		"local function f(a) return function() return a end end "
		"return f, 'a constant that is longer than the forty bytes of short strings'"));
	lua_setglobal(L, "file");
	for (int mode = 0; mode < 2; mode++) {
		run(L, mode == 0 ? "collectgarbage 'incremental'" : "collectgarbage 'generational'");
		for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
			drop_while_used_by(L, uses[i], chunks);
		}
	}
	/* No full collection is needed. */
	run(L, "kept = dofile(file) require 'skynet.codecache'.clear() kept = nil "
		   "for i = 1, 100000 do local x = {i} end");
	assert_int_equal(stats().chunk_count, chunks);
	lua_close(L);
}

static void
private_code_keeps_its_chunk(void **state) {
	lua_State *A = open_state(), *B = open_state();
	size_t chunks;
	(void)state;
	run(B, "s = 'private' .. '_twin'");
	lua_pushstring(A, write_file("private_twin.lua", "return function() return 'private_twin' end"));
	lua_setglobal(A, "file");
	lua_pushstring(B, path_of("private_twin.lua"));
	lua_setglobal(B, "file");
	run(A, "require 'skynet.codecache'.clear()");
	chunks = stats().chunk_count;
	run(A, "f = loadfile(file)");
	run(B, "f = dofile(file)");
	lua_close(A);
	run(B, "require 'skynet.codecache'.clear() for i = 1, 3 do collectgarbage() end assert(f() == s)");
	assert_int_equal(stats().chunk_count, chunks + 1);
	run(B, "f = nil for i = 1, 3 do collectgarbage() end");
	assert_int_equal(stats().chunk_count, chunks);
	lua_close(B);
}

static void
own_copies_of_constants_get_private_code(void **state) {
	lua_State *A = open_state(), *B = open_state();
	(void)state;
	/* B has the strings before they are shared by A's load. */
	run(B, "s = 'twin' .. '_one' u = {} u['twin' .. '_key'] = 3");
	lua_pushstring(A, write_file("twins.lua", "local t = ... "
		"local function f() return t.twin_key, t.other_key end "
		"local function g() return 'other' end "
		"return s == 'twin_one', f, g, {twin_key = 4}"));
	lua_setglobal(A, "file");
	lua_pushstring(B, path_of("twins.lua"));
	lua_setglobal(B, "file");
	run(A, "s = 'twin_one' local eq, f = dofile(file) assert(eq)");
	run(B, "u.other_key = 5 local eq, f, g, t = loadfile(file)(u) "
		   "assert(eq) local a, b = f() assert(a == 3 and b == 5) assert(t['twin' .. '_key'] == 4) "
		   "assert(debug.getinfo(f, 'S').linedefined == 1 and g() == 'other') "
		   "collectgarbage() a, b = f() assert(a == 3) assert(load(string.dump(f)))");
	/* A state born later has no copies of its own. */
	lua_close(A);
	lua_close(B);
}

#endif

/*------------------------------------------------------------ frozen tables */

#define SAMPLE \
	"{10, 20, 30, name = 'sample', [2.5] = 'float', [true] = 'yes', [-7] = 'minus', " \
	"long = ('long '):rep(20), [('key '):rep(20)] = 1, sub = {x = {y = {z = 'deep'}}, 1, 2}, " \
	"f = function(a, b) return a + b end, max = math.max, empty = {}}"

static const char check_sample[] =
	"assert(t[1] == 10 and t[2] == 20 and t[3] == 30 and t[4] == nil)\n"
	"assert(t.name == 'sample' and t[2.5] == 'float' and t[true] == 'yes' and t[-7] == 'minus')\n"
	"assert(t[false] == nil and t[1.0] == 10 and t.nothing == nil)\n"
	"assert(t.long == ('long '):rep(20) and t[('key '):rep(20)] == 1)\n"
	"assert(t.sub.x.y.z == 'deep' and #t.sub == 2 and #t == 3 and #t.empty == 0)\n"
	"assert(next(t.empty) == nil)\n"
	"assert(t.f(2, 3) == 5 and t.max(1, 9) == 9)\n"
	"assert(rawlen(t) == 3 and rawget(t, 'name') == 'sample' and type(t) == 'table')\n"
	"assert(getmetatable(t) == nil and getmetatable(t.sub) == nil)\n"
	"assert(table.concat(t, ',') == '10,20,30' and select('#', table.unpack(t)) == 3)\n"
	"local n, keys = 0, {} for k, v in pairs(t) do n = n + 1 keys[k] = v end\n"
	"assert(n == 13, n) assert(keys.name == 'sample' and keys[2.5] == 'float')\n"
	"local sum = 0 for i, v in ipairs(t) do sum = sum + v end assert(sum == 60)\n"
	"local copy = table.move(t, 1, 3, 1, {}) assert(copy[3] == 30)\n"
	"assert(string.format('%s', t):find('^table: '))\n"
	"local local_table = {} for k, v in pairs(t) do if type(k) == 'string' then local_table[k] = v end end\n"
	"assert(local_table.name == 'sample' and local_table.sub == t.sub)\n"
	"assert(setmetatable({}, {__index = t}).name == 'sample')\n"
	"assert(setmetatable({}, t) and ({[t] = 1})[t] == 1)\n";

static void
shared_tables_read_like_tables(void **state) {
	lua_State *A = open_state(), *B = open_state();
	const void *t = share(A, SAMPLE);
	(void)state;
	lua_close(A); /* the copy belongs to no state */
	borrow(B, t);
	run(B, check_sample);
	run(B, "for i = 1, 3 do collectgarbage() end");
	run(B, check_sample);
	assert_true(lua_sharedsize(t) > 500);
	lua_close(B);
	lua_freeshared(t);
}

#ifdef LUA_CACHELIB

static void
every_write_raises(void **state) {
	static const char *const writes[] = {
		"t.name = 1", "t.name = nil", "t.new = 1", "t.new = nil", "t[1] = 1", "t[1] = nil",
		"t[4] = 1", "t[2.5] = 1", "t[9.5] = 1", "t[true] = 1", "local k = 1 t[k] = 2",
		"local k = 'name' t[k] = 2", "local k = {} t[k] = 2", "t[-7] = 0", "t[100] = 0",
		"t.sub.x = nil", "t.sub[1] = 2", "t.sub.x.y.z = 1", "t.empty[1] = 1", "t.empty.a = 1",
		"rawset(t, 'name', 1)", "rawset(t, 'new', 1)", "rawset(t, 1, 1)", "rawset(t, 10, 1)",
		"rawset(t, 'name', nil)", "rawset(t, 'new', nil)", "rawset(t.empty, 1, 1)",
		"rawset(t, ('key '):rep(20), 2)", "t[('key '):rep(20)] = 2",
		"table.insert(t, 1)", "table.insert(t, 1, 1)", "table.remove(t)", "table.remove(t, 1)",
		"table.move({1, 2}, 1, 2, 1, t)", "table.sort(t, function(a, b) return a > b end)",
		"setmetatable({}, {__newindex = t}).a = 1", "setmetatable({}, {__newindex = t})[1] = 1",
		"setmetatable({}, {__newindex = setmetatable({}, {__newindex = t})}).name = 1",
		"local _ENV = t name = 1", "local _ENV = t new = 1", "for i = 1, #t do t[i] = t[i] end",
		"local _ENV = {t = t, e = error} function t.f() end", "t[''] = 1", "t[t] = t",
	};
	lua_State *A = open_state(), *B = open_state();
	const void *t = share(A, SAMPLE);
	(void)state;
	borrow(A, t);
	borrow(B, t);
	for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
		run_fails(B, writes[i], "attempt to change a shared table");
		run_fails(A, writes[i], "attempt to change a shared table");
	}
	run_fails(B, "t[nil] = 1", "");
	run_fails(B, "t[0/0] = 1", "");
	run_fails(B, "setmetatable(t, {})", "can't setmetatable to shared table");
	run_fails(B, "setmetatable(t, nil)", "can't setmetatable to shared table");
	run_fails(B, "setmetatable(t.sub, t)", "can't setmetatable to shared table");
	run_fails(B, "debug.setmetatable(t, {})", "can't setmetatable to shared table");
	run(B, check_sample);
	lua_close(A);
	lua_close(B);
	lua_freeshared(t);
}

static int
raw_writes(lua_State *L) {
	int how = (int)lua_tointeger(L, 2);
	lua_settop(L, 1);
	lua_pushliteral(L, "name");
	lua_pushinteger(L, 1);
	switch (how) {
	case 1:
		lua_rawset(L, 1);
		break;
	case 2:
		lua_rawseti(L, 1, 1);
		break;
	case 3:
		lua_rawseti(L, 1, 1000);
		break;
	case 4:
		lua_rawsetp(L, 1, L);
		break;
	case 5:
		lua_settable(L, 1);
		break;
	case 6:
		lua_setfield(L, 1, "name");
		break;
	case 7:
		lua_seti(L, 1, 2);
		break;
	case 8:
		lua_seti(L, 1, 2000);
		break;
	case 9:
		luaL_ref(L, 1);
		break;
	default:
		return 0;
	}
	return 0;
}

static void
every_write_through_the_api_raises(void **state) {
	lua_State *L = open_state();
	const void *t = share(L, SAMPLE);
	(void)state;
	borrow(L, t);
	lua_register(L, "write", raw_writes);
	run(L, "for i = 1, 9 do local ok, m = pcall(write, t, i) "
		   "assert(not ok and m:find 'attempt to change a shared table', i) end");
	run(L, check_sample);
	lua_close(L);
	lua_freeshared(t);
}

static void
a_shared_table_is_the_same_everywhere(void **state) {
	lua_State *A = open_state(), *B = open_state();
	const void *t = share(A, "{a = {}, b = {1, 2, 3, x = 1, y = 2, z = 3}}");
	(void)state;
	borrow(A, t);
	borrow(B, t);
	lua_getglobal(A, "t");
	lua_getglobal(B, "t");
	assert_ptr_equal(lua_topointer(A, -1), t);
	assert_ptr_equal(lua_topointer(B, -1), t);
	assert_true(lua_issharedtable(B, -1));
	lua_getfield(B, -1, "a");
	assert_true(lua_issharedtable(B, -1));
	borrow(A, lua_topointer(B, -1)); /* a part of it can be handed on */
	run(A, "assert(next(t) == nil)");
	lua_newtable(B);
	assert_false(lua_issharedtable(B, -1));
	run(B, "weak = setmetatable({[t] = 1, [1] = t, [t.a] = t.b}, {__mode = 'kv'}) "
		   "collectgarbage() assert(weak[t] == 1 and weak[1] == t and weak[t.a] == t.b)");
	lua_close(A);
	lua_close(B);
	lua_freeshared(t);
}

#endif

static void
graphs_keep_their_identity(void **state) {
	lua_State *A = open_state(), *B = open_state();
	const void *t;
	(void)state;
	run(A, "g = {} g.self = g g.a = {} g.b = g.a g[g.a] = 'as key' g[1] = {up = g}");
	t = share(A, "g");
	lua_close(A);
	borrow(B, t);
	run(B, "assert(t.self == t and t.a == t.b and t[t.a] == 'as key' and t[1].up == t)");
	lua_close(B);
	lua_freeshared(t);
}

static int
share_argument(lua_State *L) {
	lua_sharetable(L, 1);
	return 0;
}

static void
what_cannot_be_shared_raises(void **state) {
	lua_State *L = open_state();
	struct lua_ShareStats before = stats();
	(void)state;
	lua_register(L, "share", share_argument);
	run_fails(L, "share(1)", "Not a table");
	run_fails(L, "share(setmetatable({}, {}))", "Can't share metatable");
	run_fails(L, "share({a = {b = setmetatable({}, {})}})", "Can't share metatable");
	run_fails(L, "share({print = function() print() end})", "Invalid function with upvalue");
	run_fails(L, "local x share({function() return x end})", "Invalid function with upvalue");
	run_fails(L, "share({string.gmatch('a', 'a')})", "Invalid function with upvalue");
	run_fails(L, "share({coroutine.create(print)})", "Invalid type [thread]");
	run_fails(L, "share({io.stdout})", "Invalid type [userdata]");
	run_fails(L, "share({[io.stdout] = 1})", "Invalid type [userdata]");
	assert_int_equal(stats().table_count, before.table_count);
	assert_int_equal(stats().table_bytes, before.table_bytes);
	lua_close(L);
}

static void
lengths_are_borders(void **state) {
	lua_State *A = open_state(), *B = open_state();
	const void *t;
	(void)state;
	t = share(A, "{1, 2, nil, 4, nil, nil, 7}");
	borrow(B, t);
	run(B, "local n = #t assert((n == 0 or t[n] ~= nil) and t[n + 1] == nil) assert(t[7] == 7 and t[4] == 4)");
	lua_freeshared(t);
	run(A, "s = {} for i = 0, 40 do s[1 << i] = i end");
	t = share(A, "s");
	borrow(B, t);
	run(B, "local n = #t assert(t[n] ~= nil and t[n + 1] == nil) "
		   "for i = 0, 40 do assert(t[1 << i] == i) end assert(t[3] == nil)");
	lua_freeshared(t);
	run(A, "big = {} for i = 1, 1000 do big[i] = i * 2 end for i = 1, 1000 do big['k' .. i] = i end");
	t = share(A, "big");
	borrow(B, t);
	run(B, "assert(#t == 1000) local n = 0 for k, v in pairs(t) do n = n + 1 end assert(n == 2000) "
		   "for i = 1, 1000 do assert(t[i] == i * 2 and t['k' .. i] == i) end");
	run(B, "local k, n = nil, 0 repeat k = next(t, k) n = n + 1 until k == nil assert(n == 2001)");
	lua_close(A);
	lua_close(B);
	lua_freeshared(t);
}

static void
twins_of_shared_strings_are_equal(void **state) {
	lua_State *A = open_state(), *B = open_state();
	const void *t;
	(void)state;
	run(B, "key, value = 'own' .. '_key', 'own' .. '_value' mine = {[value] = 'found', [key] = 1}");
	t = share(A, "{own_key = 'own_value', list = {'own_key'}, same = function(a) return a == 'own_value' end}");
	lua_close(A);
	borrow(B, t);
	run(B, "assert(t[key] == value and rawequal(t[key], value) and t.own_key == value)");
	run(B, "assert(mine[t.own_key] == 'found' and mine[t.list[1]] == 1)");
	run(B, "assert(next(t, key) ~= key) for k in pairs(t) do assert(t[k]) assert(next(t, k) ~= k) end");
	run(B, "assert(t.same(value) and t.same(t.own_key) and not t.same(key))");
	run(B, "mine[t.own_key] = 'again' local n = 0 for k in pairs(mine) do n = n + 1 end "
		   "assert(n == 2 and mine[value] == 'again')");
	run(B, "assert(not (t.own_key < value) and t.own_key <= value and #t.own_key == #value)");
	run(B, "assert(({[t.own_key] = true}).own_value)");
	lua_close(B);
	lua_freeshared(t);
}

/*-------------------------------------------------------- running out of memory */

/*
** Fails one allocation: the one that brings the countdown to zero.
*/
static atomic_long countdown = -1;

static int
must_fail(void) {
	return atomic_load(&countdown) >= 0 && atomic_fetch_sub(&countdown, 1) == 0;
}

static void *
share_allocator(void *block, size_t osize, size_t nsize) {
	(void)osize;
	if (nsize == 0) {
		free(block);
		return NULL;
	}
	return must_fail() ? NULL : realloc(block, nsize);
}

static void *
failing_allocator(void *ud, void *block, size_t osize, size_t nsize) {
	(void)ud;
	return nsize > osize || block == NULL ? share_allocator(block, osize, nsize)
										  : nsize == 0 ? (free(block), NULL) : realloc(block, nsize);
}

static int
share_function_global(lua_State *L) {
	lua_getglobal(L, "f");
	lua_clonefunction(L, lua_sharefunction(L, -1));
	return 0;
}

static int
share_table_global(lua_State *L) {
	lua_getglobal(L, "g");
	lua_freeshared(lua_sharetable(L, -1));
	return 0;
}

static int
load_file_global(lua_State *L) {
	lua_getglobal(L, "file");
	if (luaL_loadfile(L, lua_tostring(L, -1)) != LUA_OK) {
		lua_error(L);
	}
	return 0;
}

/*
** Calls a function again and again, each time letting a later allocation fail,
** until it succeeds.
*/
static void
call_until_it_succeeds(lua_State *L, lua_CFunction f) {
	struct lua_ShareStats before = stats(), now;
	int status, tries = 0;
	do {
		lua_settop(L, 0);
		lua_pushcfunction(L, f);
		atomic_store(&countdown, tries++);
		status = lua_pcall(L, 0, 0, 0);
		atomic_store(&countdown, -1);
		if (status != LUA_OK) {
			assert_string_equal(lua_tostring(L, -1), "not enough memory");
		}
		now = stats();
		assert_int_equal(now.table_bytes, before.table_bytes);
		assert_true(tries < 5000);
	} while (status != LUA_OK);
	lua_gc(L, LUA_GCCOLLECT);
}

static void
a_failed_allocation_leaves_nothing_behind(void **state) {
	lua_State *L = lua_newstate(failing_allocator, NULL, 0);
	struct lua_ShareStats before = stats();
	(void)state;
	assert_non_null(L);
	luaL_openlibs(L);
	luaL_requiref(L, "skynet.codecache", luaopen_cache, 0);
	run(L, "own = 'failing' .. '_twin'");
	run(L, "f = load [[local a = 'failing_twin' return function() return 'failing_twin', 'failing 2', "
		   "'a long constant of more than forty bytes, really' end]]");
	run(L, "g = {1, 2, 'failing 3', {x = ('long '):rep(20)}, f = function(a) return 'failing 4' end} g.g = g "
		   "for i = 1, 20 do g['failing key ' .. i] = {i} end");
	call_until_it_succeeds(L, share_table_global);
	call_until_it_succeeds(L, share_function_global);
	lua_pushstring(L, write_file("failing.lua", "local a = 'failing_twin' return function() return a, 'failing 5' end"));
	lua_setglobal(L, "file");
	call_until_it_succeeds(L, load_file_global);
	run(L, "require 'skynet.codecache'.clear()");
	call_until_it_succeeds(L, load_file_global);
	run(L, "require 'skynet.codecache'.clear()");
	lua_close(L);
#ifdef LUA_CACHELIB
	assert_int_equal(stats().chunk_count, before.chunk_count - before.cache_count);
#else
	(void)before;
#endif
}

static void
a_state_that_cannot_be_made_leaves_nothing_behind(void **state) {
	lua_State *L = NULL;
	(void)state;
	for (int tries = 0; L == NULL; tries++) {
		atomic_store(&countdown, tries);
		L = lua_newstate(failing_allocator, NULL, 0);
		atomic_store(&countdown, -1);
		assert_true(tries < 1000);
	}
	lua_close(L);
}

/*-------------------------------------------------------------- collectors */

static void
churn(lua_State *L, const char *mode) {
	char code[1024];
	snprintf(code, sizeof(code),
		"collectgarbage('%s') local keep = {} "
		"for i = 1, 250000 do "
		"  local o = {t, t.sub, name = t.name, f = t.f, s = 'churn' .. (i %% 1000)} "
		"  keep[i %% 500] = o keep[t] = o keep[t.sub] = o o.o = keep[(i * 7) %% 500] "
		"  if i %% 50000 == 0 then collectgarbage() end "
		"end "
		"for _, o in pairs(keep) do assert(o[1] == t and o[2].x.y.z == 'deep' and o.f(1, 1) == 2) end",
		mode);
	run(L, code);
}

static void
collectors_leave_shared_objects_alone(void **state) {
	lua_State *A = open_state(), *B = open_state();
	const void *t = share(A, SAMPLE);
	(void)state;
	lua_close(A);
	borrow(B, t);
	churn(B, "incremental");
	churn(B, "generational");
	churn(B, "incremental");
	churn(B, "generational");
	run(B, check_sample);
	lua_close(B);
	lua_freeshared(t);
}

static void
borrowing_costs_the_state_nothing(void **state) {
	lua_State *A = open_state(), *B = open_state();
	const void *t;
	int before, after;
	(void)state;
	run(A, "big = {} for i = 1, 20000 do big[i] = {id = i} end");
	t = share(A, "big");
	lua_close(A);
	lua_gc(B, LUA_GCCOLLECT);
	before = lua_gc(B, LUA_GCCOUNT);
	lua_clonetable(B, t);
	after = lua_gc(B, LUA_GCCOUNT);
	lua_setglobal(B, "t");
#ifdef LUA_CACHELIB
	assert_true(after - before <= 1);
#else
	assert_true(after > before);
#endif
	run(B, "assert(#t == 20000 and t[777].id == 777)");
	lua_close(B);
	lua_freeshared(t);
}

/*----------------------------------------------------------------- threads */

enum { THREADS = 4, ROUNDS = 40 };

static const void *threads_table;

static void *
use_everything(void *argument) {
	int id = (int)(intptr_t)argument;
	for (int round = 0; round < ROUNDS; round++) {
		char code[512];
		lua_State *L = open_state();
		for (int i = 0; i < 4; i++) {
			char name[32];
			snprintf(name, sizeof(name), "thread%d.lua", (round + i) % 6);
			lua_pushstring(L, path_of(name));
			lua_setglobal(L, "file");
			run(L, "local a, b = dofile(file)('x') assert(a == 'x1' and b > 0)");
		}
		borrow(L, threads_table);
		run(L, check_sample);
		snprintf(code, sizeof(code),
			"local own = {} for i = 1, 50 do own['thread %d ' .. i] = i end "
			"local n = 0 for k in pairs(own) do n = n + 1 end assert(n == 50)", id % 2);
		run(L, code);
		if (round % 8 == id) {
			run(L, "require 'skynet.codecache'.clear()");
		}
		lua_pushstring(L, code);
		lua_sharestring(L, -1);
		lua_close(L);
	}
	return NULL;
}

static void
threads_share_without_races(void **state) {
	pthread_t threads[THREADS];
	lua_State *L = open_state();
	(void)state;
	for (int i = 0; i < 6; i++) {
		char name[32], text[256];
		snprintf(name, sizeof(name), "thread%d.lua", i);
		snprintf(text, sizeof(text),
			"local words = {'w%d', 'thread 0 %d', 'thread 1 %d'} "
			"return function(a) return a .. 1, #words + #'%d' end", i, i * 3, i * 5, i);
		write_file(name, text);
	}
	threads_table = share(L, SAMPLE);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, use_everything, (void *)(intptr_t)i), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	run(L, "require 'skynet.codecache'.clear()");
	lua_close(L);
	lua_freeshared(threads_table);
#ifdef LUA_CACHELIB
	assert_int_equal(stats().chunk_count, stats().cache_count);
#endif
}

/*-------------------------------------------------------------------- main */

static int
set_up(void **state) {
	(void)state;
	lua_setsharealloc(share_allocator);
	luaL_initcodecache();
	luaL_initcodecache();
	return mkdtemp(folder) == NULL;
}

static int
tear_down(void **state) {
	char command[300];
	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

int
main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wantedresults_tells_what_the_caller_takes),
		cmocka_unit_test(sharestring_wants_a_string),
		cmocka_unit_test(sharestring_of_a_number_raises),
		cmocka_unit_test(states_start_small),
		cmocka_unit_test(shared_functions_have_fresh_upvalues),
		cmocka_unit_test(only_lua_functions_can_be_shared),
		cmocka_unit_test(nested_functions_of_shared_code_can_be_shared),
#ifdef LUA_CACHELIB
		cmocka_unit_test(a_changed_file_is_seen_after_clear),
		cmocka_unit_test(mode_exist_and_off_store_nothing),
		cmocka_unit_test(errors_are_not_cached),
		cmocka_unit_test(each_load_is_a_new_closure),
		cmocka_unit_test(loading_again_costs_a_closure),
		cmocka_unit_test(cleared_code_is_freed_with_its_last_user),
		cmocka_unit_test(unused_code_is_freed_while_the_state_lives),
		cmocka_unit_test(private_code_keeps_its_chunk),
		cmocka_unit_test(own_copies_of_constants_get_private_code),
		cmocka_unit_test(every_write_raises),
		cmocka_unit_test(every_write_through_the_api_raises),
		cmocka_unit_test(a_shared_table_is_the_same_everywhere),
#endif
		cmocka_unit_test(shared_tables_read_like_tables),
		cmocka_unit_test(graphs_keep_their_identity),
		cmocka_unit_test(what_cannot_be_shared_raises),
		cmocka_unit_test(lengths_are_borders),
		cmocka_unit_test(a_failed_allocation_leaves_nothing_behind),
		cmocka_unit_test(a_state_that_cannot_be_made_leaves_nothing_behind),
		cmocka_unit_test(collectors_leave_shared_objects_alone),
		cmocka_unit_test(borrowing_costs_the_state_nothing),
		cmocka_unit_test(threads_share_without_races),
		cmocka_unit_test(twins_of_shared_strings_are_equal),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
