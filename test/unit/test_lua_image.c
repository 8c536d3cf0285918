/*
** Images of states: a state that one is laid into is like one that opened its
** libraries itself, and its own; and collectors that settle without a collection.
*/

#include <pthread.h>
#include <stdbool.h>

#include "lshare.h"
#include "lua_states.h"

/*------------------------------------------------------------------ memory */

/* Counts, and fails when the countdown says so. */
static void *
counting_alloc(void *ud, void *block, size_t osize, size_t nsize) {
	size_t *used = ud;
	size_t old = block != NULL ? osize : 0;
	void *p = NULL;
	if (nsize == 0) {
		free(block);
	} else {
		if (nsize > old && must_fail()) {
			return NULL;
		}
		p = realloc(block, nsize);
	}
	*used = *used - old + nsize;
	return p;
}

/*------------------------------------------------------------------ images */

#ifdef LUA_CACHELIB

static atomic_int finalized;
static char finalized_order[8];

static int
note_end(lua_State *L) {
	lua_getfield(L, 1, "name");
	finalized_order[atomic_fetch_add(&finalized, 1) % 8] = *lua_tostring(L, -1);
	return 0;
}

static const void *
take(lua_State *L) {
	const char *error = NULL;
	const void *image = lua_takeimage(L, &error);
	if (image == NULL) {
		fail_msg("%s", error);
	}
	return image;
}

/* Lua's libraries, and some of our own. */
static const void *
image_of_libraries(void) {
	lua_State *L = open_state();
	run(L, "string.own = {1, 2, 3, name = 'an image', long = ('long '):rep(20), list = {}} "
	       "string.own.self = string.own string.gone = 1 string.gone = nil");
	const void *image = take(L);
	lua_close(L);
	return image;
}

static lua_State *
lay_counted(const void *image, size_t *used) {
	lua_State *L = lua_newstate(counting_alloc, used, 0);
	assert_non_null(L);
	assert_int_equal(lua_layimage(L, image), LUA_OK);
	return L;
}

static size_t anywhere; /* bytes of states that nobody counts */

static lua_State *
lay(const void *image) {
	return lay_counted(image, &anywhere);
}

/*
** What there is, as lines of text: every table that can be reached, by its path. Which
** path that is, the seed of the state's hashes says; how many lines there are, it does not.
*/
static const char walk[] =
    "local lines, seen = {}, {} "
    "local function look(path, v) "
    "  lines[#lines + 1] = path .. ' ' .. (type(v) == 'string' and v or math.type(v) and v "
    "      or io.type(v) or type(v)) "
    "  if type(v) ~= 'table' or seen[v] then return end "
    "  seen[v] = true "
    "  for k, x in pairs(v) do look(path .. '.' .. tostring(k), x) end "
    "  local meta = getmetatable(v) if meta then look(path .. '!', meta) end "
    "end "
    "look('registry', debug.getregistry()) look('string', getmetatable('')) "
    "look('file', getmetatable(io.stdout)) "
    "table.sort(lines) count = #lines text = table.concat(lines, '\\n')";

static void
a_laid_state_is_like_an_opened_one(void **state) {
	lua_State *A = open_state(), *B;
	const void *image = take(A);
	(void)state;
	B = lay(image);
	run(A, walk);
	run(B, walk);
	lua_getglobal(A, "text");
	lua_getglobal(B, "text");
	assert_string_equal(lua_tostring(A, -1), lua_tostring(B, -1));
	lua_getglobal(A, "count");
	assert_true(lua_tointeger(A, -1) > 150);
	lua_close(A);
	lua_close(B);
	lua_freeimage(image);
}

static const char use_libraries[] =
    "assert(('x'):rep(3) == 'xxx' and _G._G == _G and _G.string == string) "
    "assert(package.loaded._G == _G and package.loaded.string == string) "
    "assert(getmetatable('').__index == string and _VERSION == 'Lua 5.5') "
    "assert(table.concat({3, 2, 1}, ',') == '3,2,1' and math.max(1, 7) == 7) "
    "assert(math.random(10) >= 1 and io.type(io.stdout) == 'file') "
    "assert(io.output() == io.stdout and io.stdin ~= io.stderr) "
    "assert(select(2, io.stdout:close()):find 'standard file') "
    "assert(coroutine.wrap(function() coroutine.yield(5) end)() == 5) "
    "assert(require 'string' == string and package.searchers[2]) "
    "package.preload.given = function(...) return {...} end "
    "assert(require 'given'[1] == 'given') "
    "assert(select(2, pcall(require, 'no.such')):find \"no field package.preload\") "
    "assert(string.own.self == string.own and #string.own == 3) "
    "assert(string.own.long == ('long '):rep(20) and string.gone == nil) "
    "assert(debug.getregistry()[2] == _G and coroutine.running() == debug.getregistry()[3]) ";

static void
the_libraries_of_a_laid_state_work(void **state) {
	const void *image = image_of_libraries();
	(void)state;
	for (int i = 0; i < 3; i++) {
		lua_State *L = lay(image);
		run(L, use_libraries);
		run(L, "collectgarbage() collectgarbage()");
		run(L, use_libraries);
		lua_close(L);
	}
	lua_freeimage(image);
}

static const char change_libraries[] =
    "string.upper = nil string.own.name = 'mine' string.own[4] = 4 string.own.list[1] = {} "
    "for i = 1, 200 do string['k' .. i] = i _G['g' .. i] = {i} package.loaded['m' .. i] = i end "
    "for k in pairs(math) do math[k] = nil end assert(next(math) == nil) "
    "table.insert = 5 print = nil getmetatable('').__len = 1 "
    "debug.getregistry().own = {} "
    "local n = 0 for k, v in pairs(string) do n = n + 1 end assert(n > 215, n) "
    "n = 0 for k in pairs(table) do n = n + 1 end assert(n >= 8, n)";

static void
changes_stay_in_the_state(void **state) {
	const char *modes[] = {"collectgarbage 'incremental'", "collectgarbage 'generational'"};
	const void *image = image_of_libraries();
	lua_State *other = lay(image);
	(void)state;
	for (int i = 0; i < 2; i++) {
		lua_State *L = lay(image), *later;
		run(L, modes[i]);
		run(L, change_libraries);
		run(L,
		    "for i = 1, 20 do collectgarbage 'step' local t = {} for j = 1, 1000 do t[j] = {j} end "
		    "string['s' .. i] = t end collectgarbage()");
		run(L, "assert(string.upper == nil and string.k77 == 77 and g100[1] == 100 and "
		       "string.s9[9][1] == 9) "
		       "assert(('x').k5 == 5 and string.own[4] == 4 and next(math) == nil)");
		run(other, use_libraries);
		later = lay(image);
		run(later, use_libraries);
		run(later, "assert(string.upper and string.own[4] == nil and print and table.insert ~= 5)");
		lua_close(later);
		lua_close(L);
	}
	run(other, use_libraries);
	lua_close(other);
	lua_freeimage(image);
}

static void
set_end(lua_State *L, const char *name) {
	lua_newtable(L);
	lua_pushstring(L, name);
	lua_setfield(L, -2, "name");
	luaL_newmetatable(L, "with an end");
	lua_pushcfunction(L, note_end);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	lua_setglobal(L, name);
}

static void
finalizers_run_in_each_state(void **state) {
	lua_State *L = open_state();
	(void)state;
	set_end(L, "a");
	set_end(L, "b");
	set_end(L, "c");
	const void *image = take(L);
	lua_close(L);
	assert_int_equal(atomic_exchange(&finalized, 0), 3);
	for (int i = 0; i < 2; i++) {
		L = lay(image);
		run(L, "b = nil collectgarbage()");
		assert_int_equal(atomic_load(&finalized), 1);
		run(L, "collectgarbage 'generational' collectgarbage()");
		lua_close(L);
		assert_int_equal(atomic_exchange(&finalized, 0), 3);
		assert_memory_equal(finalized_order, "bca", 3);
	}
	lua_freeimage(image);
}

static void
userdata_and_upvalues_are_copied(void **state) {
	lua_State *L = open_state(), *A, *B;
	(void)state;
	int *n = lua_newuserdatauv(L, sizeof(*n), 2);
	*n = 42;
	lua_newtable(L);
	lua_setiuservalue(L, -2, 1);
	lua_pushinteger(L, 7);
	lua_setiuservalue(L, -2, 2);
	lua_setglobal(L, "u");
	const void *image = take(L);
	lua_close(L);
	A = lay(image);
	B = lay(image);
	lua_getglobal(A, "u");
	lua_getglobal(B, "u");
	assert_int_equal(*(int *)lua_touserdata(A, -1), 42);
	*(int *)lua_touserdata(A, -1) = 1;
	assert_int_equal(*(int *)lua_touserdata(B, -1), 42);
	run(A, "local t = debug.getuservalue(u, 1) assert(next(t) == nil) t.x = 1 "
	       "assert(debug.getuservalue(u, 2) == 7) assert(math.randomseed(1, 2))");
	run(B, "assert(debug.getuservalue(u, 1).x == nil)");
	run(A, "r = math.random(1 << 40)");
	run(B, "math.randomseed(1, 2) r = math.random(1 << 40)");
	lua_getglobal(A, "r");
	lua_getglobal(B, "r");
	assert_int_equal(lua_tointeger(A, -1), lua_tointeger(B, -1));
	lua_close(A);
	lua_close(B);
	lua_freeimage(image);
}

static void
expect_no_image(const char *code, const char *why) {
	const char *error = NULL;
	lua_State *L = open_state();
	run(L, code);
	assert_null(lua_takeimage(L, &error));
	assert_non_null(strstr(error, why));
	run(L, "assert(_G and string)");
	lua_close(L);
}

static void
what_cannot_be_copied_gives_no_image(void **state) {
	char code[] = "for i = 1, 1000 do _G['t' .. i] = {{}} end";
	(void)state;
	expect_no_image("function f() end", "kind");
	expect_no_image("co = coroutine.create(print)", "kind");
	expect_no_image("t = {[{}] = 1}", "key");
	expect_no_image("string.t = {[print] = {[io.stdout] = 1}}", "key");
	expect_no_image(code, "too many");
}

static void
only_new_states_take_an_image(void **state) {
	const void *image = image_of_libraries();
	lua_State *L = lay(image);
	(void)state;
	assert_int_equal(lua_layimage(L, image), LUA_ERRRUN);
	run(L, use_libraries);
	lua_close(L);
	L = luaL_newstate();
	lua_newtable(L);
	lua_setglobal(L, "a name that no other state has");
	assert_int_equal(lua_layimage(L, image), LUA_ERRRUN);
	lua_getglobal(L, "a name that no other state has");
	assert_true(lua_istable(L, -1));
	lua_close(L);
	lua_freeimage(image);
}

static void
every_byte_is_the_states_own(void **state) {
	const void *image = image_of_libraries();
	size_t used = 0;
	lua_State *L = lay_counted(image, &used);
	(void)state;
	assert_int_equal(used, (size_t)lua_gc(L, LUA_GCCOUNT) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB));
	run(L, "collectgarbage() collectgarbage()");
	run(L, use_libraries);
	lua_close(L);
	assert_int_equal(used, 0);
	lua_freeimage(image);
}

static void
failed_allocations_leave_nothing(void **state) {
	const void *image = image_of_libraries();
	int status = LUA_ERRMEM;
	(void)state;
	for (int tries = 0; status != LUA_OK; tries++) {
		size_t used = 0;
		lua_State *L = lua_newstate(counting_alloc, &used, 0);
		atomic_store(&countdown, tries);
		status = lua_layimage(L, image);
		atomic_store(&countdown, -1);
		if (status == LUA_OK) {
			assert_true(tries > 30);
			run(L, use_libraries);
		} else {
			assert_int_equal(status, LUA_ERRMEM);
			lua_gc(L, LUA_GCCOLLECT);
			luaL_openlibs(L);
			run(L, "assert(('x'):rep(2) == 'xx')");
		}
		lua_close(L);
		assert_int_equal(used, 0);
	}
	lua_freeimage(image);
}

static void
taking_an_image_may_fail_anywhere(void **state) {
	lua_State *L = open_state();
	const void *image = NULL;
	(void)state;
	run(L,
	    "string.own = {('long '):rep(20), ('longer '):rep(30), 'a name of the image', x = {{{}}}}");
	for (int tries = 0; image == NULL; tries++) {
		const char *error = NULL;
		atomic_store(&countdown, tries);
		image = lua_takeimage(L, &error);
		atomic_store(&countdown, -1);
		assert_true(image != NULL ? tries > 40 : strcmp(error, "not enough memory") == 0);
	}
	lua_close(L);
	L = lay(image);
	run(L,
	    "assert(string.own[2] == ('longer '):rep(30) and string.own[3] == 'a name of the image')");
	lua_close(L);
	lua_freeimage(image);
}

static const void *threads_image;

static void *
lay_often(void *arg) {
	(void)arg;
	for (int i = 0; i < 20; i++) {
		size_t used = 0;
		lua_State *L = lay_counted(threads_image, &used);
		run(L, use_libraries);
		run(L, change_libraries);
		lua_close(L);
	}
	return NULL;
}

static void
threads_lay_one_image(void **state) {
	pthread_t threads[4];
	(void)state;
	threads_image = image_of_libraries();
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, lay_often, NULL), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
	lua_freeimage(threads_image);
}

#else

static void
there_are_no_images(void **state) {
	const char *error = NULL;
	lua_State *L = open_state();
	(void)state;
	assert_null(lua_takeimage(L, &error));
	assert_non_null(error);
	assert_int_equal(lua_layimage(L, NULL), LUA_ERRRUN);
	lua_freeimage(NULL);
	lua_close(L);
}

#endif

/*---------------------------------------------------------------- settling */

static const char build[] =
    "kept = {} for i = 1, 500 do kept[i] = {i, tostring(i) .. ' text', function() return i end} "
    "end "
    "weak = setmetatable({}, {__mode = 'k'}) for i = 1, 50 do weak[kept[i]] = kept[i + 1] end "
    "weak_values = setmetatable({kept[1], {}}, {__mode = 'v'}) "
    "local up = {} counter = function(v) if v then up = {v} end return up[1] end "
    "co = coroutine.wrap(function(x) local t = {x} local function f() return t[1] end "
    "  while true do t = {f(coroutine.yield(f()))} t[1] = f and #kept end end) co(1) "
    "ended = 0 held = setmetatable({}, {__gc = function() ended = ended + 1 end}) ";

static const char use[] =
    "for round = 1, 30 do "
    "  for i = 1, 500 do kept[i][1] = {i, round} kept[i][4] = i .. ' ' .. round end "
    "  counter('v' .. round) co(round) weak[{}] = {} "
    "  for i = 1, 200 do local garbage = {{}, {}, 'x' .. i} end "
    "  collectgarbage 'step' "
    "  for i = 1, 500 do assert(kept[i][1][2] == round and kept[i][3]() == i) end "
    "  assert(counter() == 'v' .. round and weak[kept[7]] == kept[8] and ended == 0) "
    "end "
    "assert(weak_values[1] == kept[1]) "
    "collectgarbage() assert(weak_values[2] == nil) "
    "local n = 0 for k in pairs(weak) do n = n + 1 end assert(n == 50, n) "
    "held = nil collectgarbage() assert(ended == 1)";

static void
a_settled_state_is_collected_rightly(void **state) {
	(void)state;
	for (int i = 0; i < 4; i++) {
		size_t used = 0;
		lua_State *L = lua_newstate(counting_alloc, &used, 0);
		lua_gc(L, LUA_GCSTOP);
		luaL_openlibs(L);
		if (i % 2 == 1) {
			lua_gcsettle(L); /* before anything was made */
			assert_true(lua_isgenerational(L));
		}
		run(L, build);
		lua_gcsettle(L);
		assert_true(lua_isgenerational(L));
		if (i / 2 == 1) {
			lua_gcsettle(L);
		}
		lua_gc(L, LUA_GCRESTART);
		run(L, use);
		run(L, "collectgarbage 'incremental'");
		assert_false(lua_isgenerational(L));
		run(L, build);
		run(L, use);
		lua_close(L);
		assert_int_equal(used, 0);
	}
}

static void
settling_in_the_middle_of_a_collection(void **state) {
	size_t used = 0;
	lua_State *L = lua_newstate(counting_alloc, &used, 0);
	(void)state;
	luaL_openlibs(L);
	run(L, "collectgarbage 'incremental' collectgarbage('param', 'stepsize', 64)");
	run(L, build);
	run(L, "for i = 1, 5 do collectgarbage('step', 1) end");
	lua_gcsettle(L);
	run(L, use);
	lua_close(L);
	assert_int_equal(used, 0);
}

static void
garbage_from_before_goes_in_the_end(void **state) {
	size_t used = 0, settled;
	lua_State *L = lua_newstate(counting_alloc, &used, 0);
	(void)state;
	lua_gc(L, LUA_GCSTOP);
	luaL_openlibs(L);
	run(L, "local t = {} for i = 1, 1000 do t[i] = {i} end");
	lua_gcsettle(L);
	lua_gc(L, LUA_GCRESTART);
	settled = used;
	lua_gc(L, LUA_GCCOLLECT);
	assert_true(used < settled - 50000);
	lua_close(L);
	assert_int_equal(used, 0);
}

/*-------------------------------------------------------------------- main */

int
main(void) {
	const struct CMUnitTest tests[] = {
#ifdef LUA_CACHELIB
	    cmocka_unit_test(a_laid_state_is_like_an_opened_one),
	    cmocka_unit_test(the_libraries_of_a_laid_state_work),
	    cmocka_unit_test(changes_stay_in_the_state),
	    cmocka_unit_test(finalizers_run_in_each_state),
	    cmocka_unit_test(userdata_and_upvalues_are_copied),
	    cmocka_unit_test(what_cannot_be_copied_gives_no_image),
	    cmocka_unit_test(only_new_states_take_an_image),
	    cmocka_unit_test(every_byte_is_the_states_own),
	    cmocka_unit_test(failed_allocations_leave_nothing),
	    cmocka_unit_test(taking_an_image_may_fail_anywhere),
	    cmocka_unit_test(threads_lay_one_image),
#else
	    cmocka_unit_test(there_are_no_images),
#endif
	    cmocka_unit_test(a_settled_state_is_collected_rightly),
	    cmocka_unit_test(settling_in_the_middle_of_a_collection),
	    cmocka_unit_test(garbage_from_before_goes_in_the_end),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
