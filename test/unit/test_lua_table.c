/*
** Shared tables: reading them in any state, refusing writes, freezing, collectors
** that leave them alone, and threads that use everything at once.
*/

#include <pthread.h>

#include "lua_states.h"

/*------------------------------------------------------------ frozen tables */

#define SAMPLE                                                                                     \
	"{10, 20, 30, name = 'sample', [2.5] = 'float', [true] = 'yes', [-7] = 'minus', "              \
	"long = ('long '):rep(20), [('key '):rep(20)] = 1, sub = {x = {y = {z = 'deep'}}, 1, 2}, "     \
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
    "local local_table = {} for k, v in pairs(t) do if type(k) == 'string' then local_table[k] = v "
    "end end\n"
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
/* Remembers the block that the last allocation gave. */
static char *last_block;
static size_t last_size;

static void *
remembering_allocator(void *block, size_t osize, size_t nsize) {
	void *p = share_allocator(block, osize, nsize);
	if (nsize > 0) {
		last_block = p;
		last_size = nsize;
	}
	return p;
}

/* Whoever asks what points into a table must not count what lies beside it. */
static void
a_shared_table_ends_where_its_block_does(void **state) {
	static const char *const tables[] = {"{}", "{n = 1, sub = {n = 1}}", SAMPLE};
	lua_State *L = open_state();
	(void)state;
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		lua_freeshared(share(L, tables[i])); /* its strings are known from now on */
		lua_setsharealloc(remembering_allocator);
		const void *t = share(L, tables[i]);
		lua_setsharealloc(share_allocator);
		assert_ptr_equal(lua_sharedend(t), last_block + last_size);
		assert_in_range((uintptr_t)t, (uintptr_t)last_block, (uintptr_t)last_block + last_size);
		lua_freeshared(t);
	}
	lua_close(L);
}
#endif

static const char check_copy[] =
    "assert(t[1] == 10 and t[3] == 30 and #t == 3 and t.name == 'sample' and t[2.5] == 'float')\n"
    "t.name = 'mine' t[4] = 40 t[2] = nil t.added = {} t[true] = nil\n"
    "for i = 1, 100 do t['k' .. i] = i end\n"
    "collectgarbage() collectgarbage()\n"
    "assert(t.name == 'mine' and t[4] == 40 and t[2] == nil and t[true] == nil and t.k77 == 77)\n"
    "assert(getmetatable(setmetatable(t, {__len = function() return 5 end})) and #t == 5)\n"
    "assert(setmetatable({}, t).anything == nil) t.__index = {anything = 1}\n"
    "assert(setmetatable({}, t).anything == 1)\n"
    "local n = 0 for k, v in pairs(t) do n = n + 1 end assert(n == 112, n)\n";

/* Copies into a fresh state, and into one that has the strings as its own. */
static void
a_copied_table_is_an_ordinary_one(void **state) {
	lua_State *A = open_state(), *B = open_state(), *C = open_state();
	const void *t;
	(void)state;
	run(C, "own = {'sample', 'float', 'copied_key_one', 'copied_key_two'}");
	t = share(A, "{10, 20, 30, name = 'sample', [2.5] = 'float', [true] = 1, max = math.max, "
	             "copied_key_one = 1, copied_key_two = 'sample', [-7] = 2, long = ('x'):rep(99)}");
	lua_close(A);
	for (int i = 0; i < 2; i++) {
		lua_copytable(B, t);
		lua_setglobal(B, "t");
		run(B, check_copy);
		lua_copytable(C, t);
		lua_setglobal(C, "t");
		run(C, "assert(t[own[3]] == 1 and t.copied_key_two == own[1] and t[own[4]] == 'sample')");
		run(C, check_copy);
	}
	lua_close(B);
	lua_close(C);
	lua_freeshared(t);
}

#ifdef LUA_CACHELIB

static void
every_write_raises(void **state) {
	static const char *const writes[] = {
	    "t.name = 1",
	    "t.name = nil",
	    "t.new = 1",
	    "t.new = nil",
	    "t[1] = 1",
	    "t[1] = nil",
	    "t[4] = 1",
	    "t[2.5] = 1",
	    "t[9.5] = 1",
	    "t[true] = 1",
	    "local k = 1 t[k] = 2",
	    "local k = 'name' t[k] = 2",
	    "local k = {} t[k] = 2",
	    "t[-7] = 0",
	    "t[100] = 0",
	    "t.sub.x = nil",
	    "t.sub[1] = 2",
	    "t.sub.x.y.z = 1",
	    "t.empty[1] = 1",
	    "t.empty.a = 1",
	    "rawset(t, 'name', 1)",
	    "rawset(t, 'new', 1)",
	    "rawset(t, 1, 1)",
	    "rawset(t, 10, 1)",
	    "rawset(t, 'name', nil)",
	    "rawset(t, 'new', nil)",
	    "rawset(t.empty, 1, 1)",
	    "rawset(t, ('key '):rep(20), 2)",
	    "t[('key '):rep(20)] = 2",
	    "table.insert(t, 1)",
	    "table.insert(t, 1, 1)",
	    "table.remove(t)",
	    "table.remove(t, 1)",
	    "table.move({1, 2}, 1, 2, 1, t)",
	    "table.sort(t, function(a, b) return a > b end)",
	    "setmetatable({}, {__newindex = t}).a = 1",
	    "setmetatable({}, {__newindex = t})[1] = 1",
	    "setmetatable({}, {__newindex = setmetatable({}, {__newindex = t})}).name = 1",
	    "local _ENV = t name = 1",
	    "local _ENV = t new = 1",
	    "for i = 1, #t do t[i] = t[i] end",
	    "local _ENV = {t = t, e = error} function t.f() end",
	    "t[''] = 1",
	    "t[t] = t",
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
	run(B, "local n = #t assert((n == 0 or t[n] ~= nil) and t[n + 1] == nil) assert(t[7] == 7 and "
	       "t[4] == 4)");
	lua_freeshared(t);
	run(A, "s = {} for i = 0, 40 do s[1 << i] = i end");
	t = share(A, "s");
	borrow(B, t);
	run(B, "local n = #t assert(t[n] ~= nil and t[n + 1] == nil) "
	       "for i = 0, 40 do assert(t[1 << i] == i) end assert(t[3] == nil)");
	lua_freeshared(t);
	run(A,
	    "big = {} for i = 1, 1000 do big[i] = i * 2 end for i = 1, 1000 do big['k' .. i] = i end");
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
	t = share(A, "{own_key = 'own_value', list = {'own_key'}, same = function(a) return a == "
	             "'own_value' end}");
	lua_close(A);
	borrow(B, t);
	run(B, "assert(t[key] == value and rawequal(t[key], value) and t.own_key == value)");
	run(B, "assert(mine[t.own_key] == 'found' and mine[t.list[1]] == 1)");
	run(B, "assert(next(t, key) ~= key) for k in pairs(t) do assert(t[k]) assert(next(t, k) ~= k) "
	       "end");
	run(B, "assert(t.same(value) and t.same(t.own_key) and not t.same(key))");
	run(B, "mine[t.own_key] = 'again' local n = 0 for k in pairs(mine) do n = n + 1 end "
	       "assert(n == 2 and mine[value] == 'again')");
	run(B, "assert(not (t.own_key < value) and t.own_key <= value and #t.own_key == #value)");
	run(B, "assert(({[t.own_key] = true}).own_value)");
	lua_close(B);
	lua_freeshared(t);
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
	         "for _, o in pairs(keep) do assert(o[1] == t and o[2].x.y.z == 'deep' and o.f(1, 1) "
	         "== 2) end",
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

static int
clone_nothing(lua_State *L) {
	lua_clonetable(L, NULL);
	return 1;
}

static int
clone_own_table(lua_State *L) {
	lua_newtable(L);
	lua_clonetable(L, lua_topointer(L, -1));
	return 1;
}

static void
what_is_no_shared_table_is_refused(void **state) {
	static const lua_CFunction wrong[] = {clone_nothing, clone_own_table};
	lua_State *L = open_state();
	(void)state;
	for (int i = 0; i < 2; i++) {
		lua_pushcfunction(L, wrong[i]);
		assert_int_equal(lua_pcall(L, 0, 1, 0), LUA_ERRRUN);
		assert_non_null(strstr(lua_tostring(L, -1), "Not a shared table"));
		lua_pop(L, 1);
	}
	lua_close(L);
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
		         "local n = 0 for k in pairs(own) do n = n + 1 end assert(n == 50)",
		         id % 2);
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
		         "return function(a) return a .. 1, #words + #'%d' end",
		         i, i * 3, i * 5, i);
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

int
main(void) {
	/* States that share a table and borrow it too meet twins; that changes the process. */
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(collectors_leave_shared_objects_alone),
	    cmocka_unit_test(borrowing_costs_the_state_nothing),

	    cmocka_unit_test(what_is_no_shared_table_is_refused),
	    cmocka_unit_test(threads_share_without_races),
#ifdef LUA_CACHELIB
	    cmocka_unit_test(every_write_raises),
	    cmocka_unit_test(every_write_through_the_api_raises),
	    cmocka_unit_test(a_shared_table_is_the_same_everywhere),
	    cmocka_unit_test(a_shared_table_ends_where_its_block_does),
#endif
	    cmocka_unit_test(a_copied_table_is_an_ordinary_one),
	    cmocka_unit_test(shared_tables_read_like_tables),
	    cmocka_unit_test(graphs_keep_their_identity),
	    cmocka_unit_test(what_cannot_be_shared_raises),
	    cmocka_unit_test(lengths_are_borders),
	    cmocka_unit_test(twins_of_shared_strings_are_equal),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
