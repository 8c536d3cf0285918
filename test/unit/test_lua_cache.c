/*
** The code cache: by what a file is known, when it is compiled again, and when
** its code goes. What shared code is, is in test_lua_share.c.
*/

#include "lua_states.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

/*
** A state with the path of a file in the folder as the global 'file'.
*/
static lua_State *
open_with(const char *name) {
	lua_State *L = open_state();
	lua_pushstring(L, path_of(name));
	lua_setglobal(L, "file");
	run(L, "cache = require 'skynet.codecache'");
	return L;
}

#ifdef LUA_CACHELIB

/* See share.h of the overlay. */
extern int share_settlingtime;

/*
** Runs a test with files that are never trusted, and with such that always are.
*/
static void
in_both_ways(void (*test)(void)) {
	test();
	share_settlingtime = -1000;
	test();
	share_settlingtime = 3;
}

/*----------------------------------------------------------------- changes */

/*
** Writes a file that there is already. Where files are trusted it gets another time,
** though the clock of many file systems goes in steps.
*/
static void
rewrite_file(const char *name, const char *text) {
	struct stat before, now;
	assert_int_equal(stat(path_of(name), &before), 0);
	do {
		write_file(name, text);
		assert_int_equal(stat(path_of(name), &now), 0);
	} while (share_settlingtime < 0 && now.st_mtim.tv_sec == before.st_mtim.tv_sec &&
	         now.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
}

static void
change(void) {
	lua_State *A = open_with("changed.lua"), *B = open_with("changed.lua");
	write_file("changed.lua", "return 'old'");
	run(A, "f = loadfile(file) assert(f() == 'old')");
	run(B, "assert(dofile(file) == 'old')");
	rewrite_file("changed.lua", "return 'new'");
	run(A, "assert(dofile(file) == 'new' and f() == 'old')");
	run(B, "assert(dofile(file) == 'new')");
	write_file("changed.lua", "return 'longer than before'");
	run(B, "assert(dofile(file) == 'longer than before')");
	/* In place of the old file, with its length and time. */
	struct stat st;
	assert_int_equal(stat(path_of("changed.lua"), &st), 0);
	write_file("next.lua", "return 'LONGER THAN BEFORE'");
	struct timespec times[2] = {st.st_atim, st.st_mtim};
	assert_int_equal(utimensat(AT_FDCWD, path_of("next.lua"), times, 0), 0);
	char from[256];
	snprintf(from, sizeof(from), "%s", path_of("next.lua"));
	assert_int_equal(rename(from, path_of("changed.lua")), 0);
	run(A, "assert(dofile(file) == 'LONGER THAN BEFORE')");
	run(B, "assert(dofile(file) == 'LONGER THAN BEFORE')");
	run(A, "assert(f() == 'old')");
	lua_close(A);
	lua_close(B);
}

static void
a_changed_file_gives_the_new_code(void **state) {
	(void)state;
	in_both_ways(change);
}

static void
touch(void) {
	lua_State *L = open_with("touched.lua");
	write_file("touched.lua", "return function() end");
	run(L, "kept = loadfile(file)");
	size_t chunks = stats().chunk_count;
	for (int i = 0; i < 3; i++) {
		write_file("touched.lua", "return function() end");
		run(L, "kept = {kept, loadfile(file)}");
	}
	assert_int_equal(stats().chunk_count, chunks);
	run(L, "assert(cache.users(file) == 1)");
	lua_close(L);
}

static void
a_file_with_the_same_content_is_the_same(void **state) {
	(void)state;
	in_both_ways(touch);
}

static void
replace_code(void) {
	lua_State *A = open_with("replaced.lua"), *B = open_with("replaced.lua");
	run(A, "cache.clear() collectgarbage() collectgarbage()");
	size_t chunks = stats().chunk_count;
	write_file("replaced.lua", "return 1");
	run(A, "f = loadfile(file)");
	run(B, "f = loadfile(file)");
	rewrite_file("replaced.lua", "return 2");
	run(B, "g = loadfile(file)");
	assert_int_equal(stats().chunk_count, chunks + 2);
	lua_close(A);
	run(B, "collectgarbage() collectgarbage() assert(f() == 1 and g() == 2)");
	assert_int_equal(stats().chunk_count, chunks + 2);
	/* The last user of the old code lets it go; nobody cleared anything. */
	run(B, "f = nil collectgarbage() collectgarbage() assert(g() == 2)");
	assert_int_equal(stats().chunk_count, chunks + 1);
	lua_close(B);
	assert_int_equal(stats().chunk_count, chunks + 1);
	/* Many versions that somebody uses for a moment leave nothing. */
	B = open_with("replaced.lua");
	for (int i = 0; i < 200; i++) {
		char text[64];
		snprintf(text, sizeof(text), "return %d", i);
		write_file("replaced.lua", text);
		run(B, "dofile(file)");
	}
	run(B, "collectgarbage() collectgarbage()");
	assert_true(stats().chunk_count <= chunks + 2);
	lua_close(B);
	assert_int_equal(stats().chunk_count, chunks + 1);
}

static void
old_code_goes_with_its_last_user(void **state) {
	(void)state;
	in_both_ways(replace_code);
}

static void
a_file_that_is_gone_stays_as_it_was(void **state) {
	lua_State *L = open_with("gone.lua");
	(void)state;
	write_file("gone.lua", "return 'kept'");
	run(L, "assert(dofile(file) == 'kept') assert(os.remove(file)) assert(dofile(file) == 'kept')");
	run(L, "assert(cache.invalidate(file)) local f, m = loadfile(file) "
	       "assert(f == nil and m:find 'cannot open')");
	lua_close(L);
}

/*------------------------------------------------------------------- paths */

static void
spell(void) {
	lua_State *L = open_with("spelled.lua");
	char link[256];
	snprintf(link, sizeof(link), "%s", path_of("link.lua"));
	write_file("spelled.lua", "return 'spelled'");
	unlink(link);
	assert_int_equal(symlink("spelled.lua", link), 0);
	run(L, "cache.clear()");
	run(L, "folder = file:match '(.*)/' "
	       "for _, name in ipairs {file, folder .. '/./spelled.lua', folder .. '/link.lua', "
	       "folder .. '//spelled.lua'} do assert(dofile(name) == 'spelled', name) end "
	       "kept = {}"
	       "for i = 1, 100 do kept[i] = loadfile(folder .. ('/.'):rep(i) .. '/spelled.lua') end");
	assert_int_equal(stats().cache_count, 1);
	run(L, "assert(cache.users(folder .. '/link.lua') == 1)");
	/* The link leads to another file now. */
	write_file("other.lua", "return 'other..'");
	unlink(link);
	assert_int_equal(symlink("other.lua", link), 0);
	run(L, "assert(dofile(folder .. '/link.lua') == 'other..' and dofile(file) == 'spelled')");
	assert_int_equal(stats().cache_count, 2);
	unlink(link);
	lua_close(L);
}

static void
spellings_of_a_file_share_its_code(void **state) {
	(void)state;
	in_both_ways(spell);
}

static void
one_file_can_be_invalidated(void **state) {
	lua_State *L = open_with("one.lua");
	(void)state;
	write_file("one.lua", "return 1");
	write_file("two.lua", "return 2");
	run(L,
	    "two = file:gsub('one', 'two') cache.clear() one_f, two_f = loadfile(file), loadfile(two)");
	size_t chunks = stats().chunk_count;
	assert_int_equal(stats().cache_count, 2);
	run(L, "assert(cache.users(file) == 1 and cache.users(two) == 1)");
	run(L, "assert(cache.invalidate(file) == true and cache.invalidate(file) == false)");
	run(L, "assert(cache.invalidate(file .. '.none') == false)");
	assert_int_equal(stats().cache_count, 1);
	run(L,
	    "assert(select('#', cache.users(file)) == 0 and cache.users(two) == 1 and one_f() == 1)");
	run(L, "local f = loadfile(file) assert(f() == 1 and f ~= one_f)");
	assert_int_equal(stats().chunk_count, chunks + 1);
	run(L, "one_f = nil collectgarbage() collectgarbage()");
	assert_int_equal(stats().chunk_count, chunks);
	run_fails(L, "cache.invalidate()", "string expected");
	run_fails(L, "cache.users {}", "string expected");
	lua_close(L);
}

static void
users_are_counted(void **state) {
	lua_State *A = open_with("counted.lua"), *B = open_with("counted.lua");
	(void)state;
	write_file("counted.lua", "return 1");
	run(A, "f, g = loadfile(file), loadfile(file) assert(cache.users(file) == 1)");
	run(B, "f = loadfile(file) assert(cache.users(file) == 2)");
	lua_close(A);
	run(B, "assert(cache.users(file) == 1)");
	lua_close(B);
}

static void
clearing_leaves_nothing_behind(void **state) {
	lua_State *L = open_with("cleared.lua");
	(void)state;
	write_file("cleared.lua", "return function(a) return {a, 'cleared'} end");
	run(L, "cache.clear() collectgarbage() collectgarbage()");
	struct lua_ShareStats before = stats();
	for (int i = 0; i < 100; i++) {
		run(L, "dofile(file)(1) cache.clear()");
	}
	run(L, "collectgarbage() collectgarbage()");
	assert_int_equal(stats().cache_count, 0);
	assert_int_equal(stats().chunk_count, before.chunk_count);
	assert_int_equal(stats().chunk_bytes, before.chunk_bytes);
	lua_close(L);
}

/*------------------------------------------------------------------ modes */

static void
modes_see_the_content(void **state) {
	lua_State *A = open_with("modes.lua"), *B = open_with("modes.lua");
	(void)state;
	write_file("modes.lua", "return 'one'");
	run(A,
	    "assert(cache.mode() == 'ON' and cache.mode(nil) == 'ON') assert(dofile(file) == 'one')");
	run(B, "cache.mode 'EXIST' assert(dofile(file) == 'one' and cache.users(file) == 2)");
	write_file("modes.lua", "return 'two'");
	/* Not what the cache has, and not to be entered. */
	run(B, "assert(dofile(file) == 'two')");
	run(B, "cache.mode 'OFF' assert(cache.mode() == 'OFF' and dofile(file) == 'two')");
	write_file("modes.lua", "return 'one'");
	run(A, "f = loadfile(file) assert(f() == 'one' and cache.users(file) == 2)");
	run(B, "assert(select('#', cache.clear()) == 0 and select('#', cache.mode 'ON') == 0)");
	run(B, "assert(dofile(file) == 'one' and loadfile == cache.loadfile)");
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

/*----------------------------------------------------------------- threads */

enum { REPLACEMENTS = 500, LOADERS = 3 };

static atomic_int replaced;

static void *
load_and_compare(void *faults) {
	lua_State *L = open_with("racing.lua");
	lua_Integer seen = 0;
	while (seen < REPLACEMENTS) {
		int at_least = atomic_load(&replaced);
		lua_settop(L, 0);
		lua_getglobal(L, "file");
		if (luaL_loadfile(L, lua_tostring(L, -1)) != LUA_OK || lua_pcall(L, 0, 2, 0) != LUA_OK) {
			atomic_fetch_add((atomic_int *)faults, 1);
			break;
		}
		/* A version of one piece, not older than the file was. */
		lua_Integer n = lua_tointeger(L, -1);
		if (n != lua_tointeger(L, -2) || n < at_least || n < seen) {
			atomic_fetch_add((atomic_int *)faults, 1);
			break;
		}
		seen = n;
	}
	lua_close(L);
	return NULL;
}

static void
loads_race_with_changes(void **state) {
	static atomic_int faults;
	pthread_t threads[LOADERS];
	char from[256];
	(void)state;
	write_file("racing.lua", "return 0, 0");
	for (int i = 0; i < LOADERS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, load_and_compare, &faults), 0);
	}
	snprintf(from, sizeof(from), "%s", path_of("racing.new"));
	for (int i = 1; i <= REPLACEMENTS; i++) {
		char text[64];
		snprintf(text, sizeof(text), "return %d, %d", i, i);
		write_file("racing.new", text);
		assert_int_equal(rename(from, path_of("racing.lua")), 0);
		atomic_store(&replaced, i);
	}
	for (int i = 0; i < LOADERS; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(atomic_load(&faults), 0);
}

#endif

/*------------------------------------------------------------------- forms */

static void
files_begin_as_in_stock_lua(void **state) {
	static const char *const texts[][2] = {
	    {"", "select('#', f()) == 0"},
	    {"# only a comment", "select('#', f()) == 0"},
	    {"#!/usr/bin/lua\nreturn debug.getinfo(1, 'l').currentline", "f() == 2"},
	    {"\xEF\xBB\xBFreturn debug.getinfo(1, 'l').currentline", "f() == 1"},
	    {"\xEF\xBB\xBF# line\nreturn debug.getinfo(1, 'l').currentline", "f() == 2"},
	    {"\xEF\xBB", "f == nil and m:find 'unexpected symbol'"},
	    {"#\n\nreturn (", "f == nil and m:find 'beginning.lua:3:'"},
	    {"return debug.getinfo(1, 'S').source", "f() == '@' .. file"},
	};
	lua_State *L = open_with("beginning.lua");
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char code[256];
		write_file("beginning.lua", texts[i][0]);
		snprintf(code, sizeof(code), "local f, m = loadfile(file) assert(%s, m)", texts[i][1]);
		run(L, code);
	}
	run(L, "local function write(s) local f <close> = io.open(file, 'wb') f:write(s) end "
	       "local code = string.dump(load 'return 7') "
	       "write(code) assert(loadfile(file, 'b')() == 7) "
	       "write('# a line\\n' .. code) assert(loadfile(file)() == 7) "
	       "cache.clear() local f, m = loadfile(file, 't') assert(f == nil and m:find 'binary') "
	       "write(code:sub(1, 20)) f, m = loadfile(file) assert(f == nil and m:find 'truncated')");
	run(L, "local f, m = loadfile(file:match '(.*)/') assert(f == nil and m:find 'cannot')");
	run(L, "assert(select('#', dofile '/dev/null') == 0)");
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
#ifdef LUA_CACHELIB
	run(L, "assert(loadfile(file, 'b')(8) == 8)"); /* compiled already */
#endif
	lua_close(L);
}

static void
each_load_is_a_new_closure(void **state) {
	lua_State *L = open_state();
	(void)state;
	lua_pushstring(
	    L, write_file("counter.lua", "local n = ... return function() n = n + 1 return n end, x"));
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

int
main(void) {
	const struct CMUnitTest tests[] = {
#ifdef LUA_CACHELIB
	    cmocka_unit_test(a_changed_file_gives_the_new_code),
	    cmocka_unit_test(a_file_with_the_same_content_is_the_same),
	    cmocka_unit_test(old_code_goes_with_its_last_user),
	    cmocka_unit_test(a_file_that_is_gone_stays_as_it_was),
	    cmocka_unit_test(spellings_of_a_file_share_its_code),
	    cmocka_unit_test(one_file_can_be_invalidated),
	    cmocka_unit_test(users_are_counted),
	    cmocka_unit_test(clearing_leaves_nothing_behind),
	    cmocka_unit_test(modes_see_the_content),
	    cmocka_unit_test(mode_exist_and_off_store_nothing),
	    cmocka_unit_test(loads_race_with_changes),
#endif
	    cmocka_unit_test(files_begin_as_in_stock_lua),
	    cmocka_unit_test(errors_are_not_cached),
	    cmocka_unit_test(each_load_is_a_new_closure),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
