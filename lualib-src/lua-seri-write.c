/*
 * Packing, the writing half of lua-seri.h.
 *
 * Values are written into a scratch block that belongs to the thread and is
 * reused for ever, then copied into one block of the exact size. The scratch
 * block is not charged to any service (skynet_lalloc). While no Lua code can
 * run, an error that leaves by longjmp simply abandons what is in it. A __pairs
 * metamethod is Lua code, which may pack something itself; so before the first
 * one is called the block moves into a userdata, and the thread starts a new
 * scratch block when it needs one.
 *
 * Tables are read directly (lua-seri-walk.c). Only a value that contains a
 * __pairs metafield goes through the Lua API, here.
 */
#include "lua-seri.h"

#include <pthread.h>
#include <stdlib.h>

#include "lua-seri-writer.h"
#include "skynet_malloc.h"

/* Most messages fit; a multiple of what allocators hand out anyway. */
#define SCRATCH_FIRST 1024
/* A scratch block that grew beyond this is given back after use. */
#define SCRATCH_KEEP (256 * 1024)

/* Stack slots that one level of packing needs, the call of an iterator included. */
#define PACK_SLOTS 8

/* ------------------------------------------------------------------ scratch */

/*
 * Only this thread touches its scratch block, and frees it when it ends. It is in
 * the static storage of threads: sixteen bytes that a library loaded later may
 * still have there, and no call to find them.
 */
static _Thread_local struct block scratch __attribute__((tls_model("initial-exec")));
static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void
block_free(struct block *b) {
	skynet_lalloc(b->data, b->cap, 0);
	b->data = NULL;
	b->cap = 0;
}

static void
scratch_release(void *b) {
	block_free(b);
}

static void
scratch_init(void) {
	pthread_key_create(&scratch_key, scratch_release);
}

/* Make the block at least `need` bytes; false when there is no memory. */
static bool
block_grow(struct block *b, size_t need) {
	size_t cap = b->cap ? b->cap : SCRATCH_FIRST;
	while (cap < need) {
		if (cap > SIZE_MAX / 2) {
			return false;
		}
		cap *= 2;
	}
	uint8_t *data = skynet_lalloc(b->data, b->cap, cap);
	if (data == NULL) {
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

/* -------------------------------------------------------------------- writer */

static void
writer_refresh(struct writer *w) {
	w->data = w->block->data;
	w->cap = w->block->cap;
}

static void
writer_open(struct writer *w, lua_State *L) {
	luaL_checkstack(L, PACK_SLOTS, NULL);
	w->L = L;
	w->len = 0;
	w->block = &scratch;
	lua_pushnil(L);
	w->anchor = lua_gettop(L);
	if (scratch.data == NULL) {
		pthread_once(&scratch_once, scratch_init);
		if (!block_grow(&scratch, SCRATCH_FIRST)) {
			luaL_error(L, "not enough memory to pack");
		}
		pthread_setspecific(scratch_key, &scratch);
	}
	writer_refresh(w);
}

static int
anchored_gc(lua_State *L) {
	block_free(lua_touserdata(L, 1));
	return 0;
}

/* From here on the block survives whatever the called Lua code does. */
static void
writer_anchor(struct writer *w) {
	lua_State *L = w->L;
	if (w->block != &scratch) {
		return;
	}
	struct block *own = lua_newuserdatauv(L, sizeof *own, 0);
	own->data = NULL;
	own->cap = 0;
	if (luaL_newmetatable(L, "skynet.seri.block")) {
		lua_pushcfunction(L, anchored_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	lua_replace(L, w->anchor);
	*own = scratch;
	scratch.data = NULL;
	scratch.cap = 0;
	w->block = own;
}

/* What was written has been copied: the thread gets its block back. */
static void
writer_close(struct writer *w) {
	if (w->block != &scratch && scratch.data == NULL) {
		scratch = *w->block;
		w->block->data = NULL;
		w->block->cap = 0;
	}
	if (w->block->cap > SCRATCH_KEEP) {
		block_free(w->block);
	}
	if (scratch.cap > SCRATCH_KEEP) {
		block_free(&scratch);
	}
}

void
seri_writer_grow(struct writer *w, size_t need) {
	if (need < w->len || !block_grow(w->block, need)) {
		luaL_error(w->L, "not enough memory to pack");
	}
	writer_refresh(w);
}

void
seri_put_long_string(struct writer *w, const char *s, size_t len) {
	if (len <= UINT16_MAX) {
		seri_put_field(w, TAG(TYPE_LONG_STRING, NUMBER_WORD), len, 2);
	} else if (len <= UINT32_MAX) {
		seri_put_field(w, TAG(TYPE_LONG_STRING, NUMBER_DWORD), len, 4);
	} else {
		luaL_error(w->L, "string of %I bytes is too long to serialize", (lua_Integer)len);
	}
	memcpy(seri_reserve(w, len), s, len);
}

/* ------------------------------------------------------------------ refusals */

/* Push how the key at `index` is written after a table: .name or [key]. */
static void
push_step(lua_State *L, int index) {
	if (lua_type(L, index) == LUA_TSTRING) {
		lua_pushfstring(L, ".%s", lua_tostring(L, index));
	} else if (lua_isinteger(L, index)) {
		lua_pushfstring(L, "[%I]", lua_tointeger(L, index));
	} else {
		lua_pushfstring(L, "[a %s]", luaL_typename(L, index));
	}
}

/* So many tables are looked at for a path: a table that holds itself twice has no end of them. */
#define MAX_LOOKS 100000

/*
 * Look for a value of the type in the value at the top, which is popped. Pushes the steps that
 * lead to it, or returns false. What only a __pairs metamethod would tell is not looked at.
 */
static bool
push_path(lua_State *L, int type, int depth, int *looks) {
	if (lua_type(L, -1) == type) {
		lua_pop(L, 1);
		lua_pushliteral(L, "");
		return true;
	}
	int table = lua_gettop(L);
	if (lua_type(L, table) != LUA_TTABLE || depth > LUASERI_MAX_DEPTH || --*looks < 0 ||
	    !lua_checkstack(L, PACK_SLOTS) || luaL_getmetafield(L, table, "__pairs") != LUA_TNIL) {
		lua_settop(L, table - 1);
		return false;
	}
	lua_pushnil(L);
	while (lua_next(L, table)) {
		if (lua_type(L, -2) == type) {
			lua_settop(L, table - 1);
			lua_pushliteral(L, ", a key");
			return true;
		}
		if (push_path(L, type, depth + 1, looks)) {
			push_step(L, table + 1);
			lua_insert(L, -2);
			lua_concat(L, 2);
			lua_replace(L, table);
			lua_settop(L, table);
			return true;
		}
	}
	lua_settop(L, table - 1);
	return false;
}

void
seri_fail_depth(struct writer *w) {
	luaL_error(
	    w->L, "serialize can't pack too depth table (value %d has more than %d levels, or a cycle)",
	    w->index - w->from + 1, LUASERI_MAX_DEPTH);
	abort(); /* luaL_error does not return */
}

void
seri_fail_type(struct writer *w, int type) {
	lua_State *L = w->L;
	if (!lua_checkstack(L, PACK_SLOTS)) {
		luaL_error(L, "Unsupport type %s to serialize", lua_typename(L, type));
	}
	lua_pushvalue(L, w->index);
	int looks = MAX_LOOKS;
	const char *path = push_path(L, type, 0, &looks) ? lua_tostring(L, -1) : "";
	luaL_error(L, "Unsupport type %s to serialize (value %d%s)", lua_typename(L, type),
	           w->index - w->from + 1, path);
	abort(); /* luaL_error does not return */
}

/* ------------------------------------------------------- through the Lua API */

static void pack_value(struct writer *w, int index, int depth);

/* Write t[1..n]. */
static void
pack_array(struct writer *w, int index, int depth, lua_Integer n) {
	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(w->L, index, i);
		pack_value(w, lua_gettop(w->L), depth + 1);
		lua_pop(w->L, 1);
	}
}

/* Whether the key at stack index -2 is one of the n array keys. */
static bool
is_array_key(lua_State *L, lua_Integer n) {
	if (!lua_isinteger(L, -2)) {
		return false;
	}
	lua_Integer k = lua_tointeger(L, -2);
	return 0 < k && k <= n;
}

static void
pack_table(struct writer *w, int index, int depth) {
	lua_State *L = w->L;
	lua_Integer n = (lua_Integer)lua_rawlen(L, index);
	seri_put_table(w, (size_t)n);
	pack_array(w, index, depth, n);
	lua_pushnil(L);
	while (lua_next(L, index)) {
		if (!is_array_key(L, n)) {
			int top = lua_gettop(L);
			pack_value(w, top - 1, depth + 1);
			pack_value(w, top, depth + 1);
		}
		lua_pop(L, 1);
	}
	seri_put_table_end(w);
}

/* The metafield __pairs is at the top: the table is what its iterator says. */
static void
pack_table_pairs(struct writer *w, int index, int depth) {
	lua_State *L = w->L;
	writer_anchor(w);
	seri_put_table(w, 0);
	lua_pushvalue(L, index);
	lua_call(L, 1, 3);
	int iterator = lua_gettop(L) - 2;
	for (;;) {
		lua_pushvalue(L, iterator);
		lua_pushvalue(L, iterator + 1);
		lua_pushvalue(L, iterator + 2);
		lua_call(L, 2, 2);
		if (lua_isnil(L, -2)) {
			break;
		}
		pack_value(w, iterator + 3, depth + 1);
		pack_value(w, iterator + 4, depth + 1);
		lua_pop(L, 1);
		lua_replace(L, iterator + 2);
	}
	lua_settop(L, iterator - 1);
	seri_put_table_end(w);
}

static void
pack_any_table(struct writer *w, int index, int depth) {
	luaL_checkstack(w->L, PACK_SLOTS, NULL);
	if (luaL_getmetafield(w->L, index, "__pairs") != LUA_TNIL) {
		pack_table_pairs(w, index, depth);
	} else {
		pack_table(w, index, depth);
	}
}

/* `index` is absolute. */
static void
pack_value(struct writer *w, int index, int depth) {
	lua_State *L = w->L;
	if (depth > LUASERI_MAX_DEPTH) {
		seri_fail_depth(w);
	}
	int type = lua_type(L, index);
	switch (type) {
	case LUA_TNIL:
		seri_put_tag(w, TAG(TYPE_NIL, 0));
		break;
	case LUA_TBOOLEAN:
		seri_put_tag(w, TAG(TYPE_BOOLEAN, lua_toboolean(L, index)));
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(L, index)) {
			seri_put_integer(w, lua_tointeger(L, index));
		} else {
			seri_put_real(w, lua_tonumber(L, index));
		}
		break;
	case LUA_TSTRING: {
		size_t len;
		const char *s = lua_tolstring(L, index, &len);
		seri_put_string(w, s, len);
		break;
	}
	case LUA_TLIGHTUSERDATA:
		seri_put_pointer(w, lua_touserdata(L, index));
		break;
	case LUA_TTABLE:
		pack_any_table(w, index, depth);
		break;
	default:
		seri_fail_type(w, type);
	}
}

/* Write the values from stack index `from` to the top. */
static void
pack_stack(struct writer *w, lua_State *L, int from) {
	int top = lua_gettop(L);
	writer_open(w, L);
	w->from = from;
	for (int i = from; i <= top; i++) {
		w->index = i;
		size_t start = w->len;
		if (!seri_walk(w, i)) {
			w->len = start;
			pack_value(w, i, 0);
		}
	}
}

void
luaseri_pack_range(lua_State *L, int from, void **buf, size_t *sz) {
	struct writer w;
	pack_stack(&w, L, from);
	void *block = skynet_malloc(w.len);
	memcpy(block, w.data, w.len);
	*buf = block;
	*sz = w.len;
	writer_close(&w);
	lua_settop(L, w.anchor - 1);
}

int
luaseri_pack(lua_State *L) {
	void *buf;
	size_t sz;
	luaL_checkstack(L, 2, NULL);
	luaseri_pack_range(L, 1, &buf, &sz);
	lua_pushlightuserdata(L, buf);
	lua_pushinteger(L, (lua_Integer)sz);
	return 2;
}

int
luaseri_packstring(lua_State *L) {
	struct writer w;
	pack_stack(&w, L, 1);
	lua_pushlstring(L, (const char *)w.data, w.len);
	writer_close(&w);
	return 1;
}
