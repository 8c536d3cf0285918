/*
** Sharing between Lua states: strings, functions and the code cache. Shared
** tables are in test_lua_table.c.
*/

#include "lua_states.h"

#include <stdbool.h>

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

/*--------------------------------------------------------------- metatables */

static void
testmeta_knows_userdata_by_its_metatable(void **state) {
	lua_State *L = open_state();
	(void)state;
	lua_newtable(L);
	void *block = lua_newuserdatauv(L, 1, 1);
	assert_null(lua_testmeta(L, 2, 1));
	lua_pushvalue(L, 1);
	lua_setmetatable(L, 2);
	assert_ptr_equal(lua_testmeta(L, 2, 1), block);
	assert_ptr_equal(lua_testmeta(L, -1, -2), block);
	lua_newtable(L);
	assert_null(lua_testmeta(L, 2, 3));
	lua_pushvalue(L, 1);
	lua_setmetatable(L, 3);
	assert_null(lua_testmeta(L, 3, 1));
	lua_pushlightuserdata(L, block);
	assert_null(lua_testmeta(L, 4, 1));
	assert_null(lua_testmeta(L, 9, 1));
	assert_null(lua_testmeta(L, 2, 9));
	assert_int_equal(lua_gettop(L), 4);
	lua_close(L);
}

/*------------------------------------------------------------------- names */

static void
getnamed_is_getfield(void **state) {
	lua_State *L = open_state();
	(void)state;
	run(L, "t = {field = 7} u = setmetatable({}, {__index = t})"
	       "v = setmetatable({}, {__index = function(_, k) return k .. '!' end}) w = {}");
	lua_settop(L, 0);
	lua_pushliteral(L, "field");
	const void *name = lua_topointer(L, 1);
	lua_getglobal(L, "t");
	assert_int_equal(lua_getnamed(L, 2, name), LUA_TNUMBER);
	assert_int_equal(lua_tointeger(L, -1), 7);
	lua_getglobal(L, "u");
	assert_int_equal(lua_getnamed(L, -1, name), LUA_TNUMBER);
	assert_int_equal(lua_tointeger(L, -1), 7);
	lua_getglobal(L, "v");
	assert_int_equal(lua_getnamed(L, -1, name), LUA_TSTRING);
	assert_string_equal(lua_tostring(L, -1), "field!");
	lua_getglobal(L, "w");
	assert_int_equal(lua_getnamed(L, -1, name), LUA_TNIL);
	assert_int_equal(lua_gettop(L), 9);
	lua_close(L);
}

/*------------------------------------------------------------------ places */

static bool
is_place(const void *at, const struct lua_Place *place, int n) {
	for (int i = 0; i < n; i++) {
		if (place[i].at == at) {
			return true;
		}
	}
	return false;
}

static void
places_are_what_a_call_touches_and_fit(void **state) {
	struct lua_Place place[32];
	lua_State *L = open_state();
	(void)state;
	run(L, "t = {field = 1} local u = {other = 2} function f() return u.other end");
	lua_getglobal(L, "t");
	lua_getglobal(L, "f");
	int n = lua_places(L, -2, -1, place, 32);
	assert_in_range(n, 1, 32);
#ifdef LUA_CACHELIB
	assert_true(is_place(lua_topointer(L, -2), place, n));
	assert_true(is_place(lua_topointer(L, -1), place, n));
	lua_getupvalue(L, -1, 1);
	assert_true(is_place(lua_topointer(L, -1), place, n));
	lua_pop(L, 1);
#else
	assert_true(is_place(L, place, n));
#endif
	for (int i = 0; i < n; i++) {
		assert_non_null(place[i].at);
		assert_int_not_equal(place[i].size, 0);
	}
	assert_int_equal(lua_places(L, -2, -1, place, 3), n < 3 ? n : 3);
	assert_int_equal(lua_places(L, 0, 0, place, 0), 0);
	lua_State *co = lua_newthread(L);
	assert_in_range(lua_places(co, 0, 0, place, 32), 1, 32);
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

/* One text, at one address, in states that are older and younger than its sharing. */
static void
a_state_finds_its_own_copy_of_a_name_that_became_shared(void **state) {
	static const char name[] = "a_name_that_one_test_has";
	lua_State *old = open_state();
	lua_State *sharer = open_state();
	(void)state;
	lua_newtable(old);
	lua_pushinteger(old, 1);
	lua_setfield(old, -2, name);
	lua_pushstring(sharer, name);
	lua_sharestring(sharer, -1);
	lua_State *young = open_state();
	lua_newtable(young);
	lua_pushinteger(young, 2);
	lua_setfield(young, -2, name);
	assert_int_equal(lua_getfield(old, -1, name), LUA_TNUMBER);
	assert_int_equal(lua_getfield(young, -1, name), LUA_TNUMBER);
	assert_int_equal(lua_tointeger(old, -1), 1);
	assert_int_equal(lua_tointeger(young, -1), 2);
	lua_close(old);
	lua_close(sharer);
	lua_close(young);
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

/*------------------------------------------------------------- shared code */

#ifdef LUA_CACHELIB

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
	lua_pushstring(
	    A,
	    write_file("kept.lua",
	               "local long = 'a string that is too long to be a short one, xxxx' return long"));
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
	lua_pushstring(
	    L,
	    write_file("dropped.lua",
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
	lua_pushstring(A,
	               write_file("private_twin.lua", "return function() return 'private_twin' end"));
	lua_setglobal(A, "file");
	lua_pushstring(B, path_of("private_twin.lua"));
	lua_setglobal(B, "file");
	run(A, "require 'skynet.codecache'.clear()");
	chunks = stats().chunk_count;
	run(A, "f = loadfile(file)");
	run(B, "f = dofile(file)");
	lua_close(A);
	run(B,
	    "require 'skynet.codecache'.clear() for i = 1, 3 do collectgarbage() end assert(f() == s)");
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
	lua_pushstring(A,
	               write_file("twins.lua", "local t = ... "
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

/*-------------------------------------------------------- running out of memory */

static void *
failing_allocator(void *ud, void *block, size_t osize, size_t nsize) {
	(void)ud;
	return nsize > osize || block == NULL ? share_allocator(block, osize, nsize)
	       : nsize == 0                   ? (free(block), NULL)
	                                      : realloc(block, nsize);
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
calls_that_room_was_made_for_need_no_memory(void **state) {
	lua_State *L = lua_newstate(failing_allocator, NULL, 0);
	(void)state;
	assert_non_null(L);
	run(L, "function deep(n) if n > 1 then deep(n - 1) end end");
	lua_State *co = lua_newthread(L);
	for (int calls = 1; calls < 40; calls++) {
		lua_gc(L, LUA_GCCOLLECT);
		lua_getglobal(co, "deep");
		lua_pushinteger(co, calls);
		assert_true(lua_checkroom(co, calls, 8 * calls + LUA_MINSTACK));
		atomic_store(&countdown, 0);
		assert_int_equal(lua_pcall(co, 1, 0, 0), LUA_OK);
		assert_int_equal(atomic_exchange(&countdown, -1), 0);
	}
	lua_close(L);
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
	run(L,
	    "f = load [[local a = 'failing_twin' return function() return 'failing_twin', 'failing 2', "
	    "'a long constant of more than forty bytes, really' end]]");
	run(L, "g = {1, 2, 'failing 3', {x = ('long '):rep(20)}, f = function(a) return 'failing 4' "
	       "end} g.g = g "
	       "for i = 1, 20 do g['failing key ' .. i] = {i} end");
	call_until_it_succeeds(L, share_table_global);
	call_until_it_succeeds(L, share_function_global);
	lua_pushstring(
	    L, write_file("failing.lua",
	                  "local a = 'failing_twin' return function() return a, 'failing 5' end"));
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

/*-------------------------------------------------------------------- main */

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(wantedresults_tells_what_the_caller_takes),
	    cmocka_unit_test(testmeta_knows_userdata_by_its_metatable),
	    cmocka_unit_test(getnamed_is_getfield),
	    cmocka_unit_test(places_are_what_a_call_touches_and_fit),
	    cmocka_unit_test(a_state_finds_its_own_copy_of_a_name_that_became_shared),
	    cmocka_unit_test(sharestring_wants_a_string),
	    cmocka_unit_test(sharestring_of_a_number_raises),
	    cmocka_unit_test(states_start_small),
	    cmocka_unit_test(shared_functions_have_fresh_upvalues),
	    cmocka_unit_test(only_lua_functions_can_be_shared),
	    cmocka_unit_test(nested_functions_of_shared_code_can_be_shared),
#ifdef LUA_CACHELIB
	    cmocka_unit_test(loading_again_costs_a_closure),
	    cmocka_unit_test(cleared_code_is_freed_with_its_last_user),
	    cmocka_unit_test(unused_code_is_freed_while_the_state_lives),
	    cmocka_unit_test(private_code_keeps_its_chunk),
	    cmocka_unit_test(own_copies_of_constants_get_private_code),
#endif
	    cmocka_unit_test(calls_that_room_was_made_for_need_no_memory),
	    cmocka_unit_test(a_failed_allocation_leaves_nothing_behind),
	    cmocka_unit_test(a_state_that_cannot_be_made_leaves_nothing_behind),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
