// Receive buffers: the blocks that the socket server hands over, chained as they come
// and cut into strings on demand (net.md 3.1).
//
// A buffer is a userdata that holds a chain. The nodes of the chain lie in chunks,
// userdata that the pool (a Lua table) keeps: slot 1 of the table is the list of
// free nodes, the chunks follow. A block belongs to its node; when a chunk dies,
// with its service, it frees the blocks that are still attached.
#include "lua-socket-buffer.h"

#include <lauxlib.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lshare.h"
#include "skynet.h"
#include "skynet_malloc.h"
#include "socket_chain.h"

#define BUFFER_META "skynet.socket.buffer"
#define CHUNK_META "skynet.socket.chunk"
// Nodes of the first chunk; each further one is twice as large, up to the maximum.
#define FIRST_CHUNK 16
#define MAX_CHUNK 4096
// More chunks than that are reported: somebody takes in data and reads none.
#define MANY_CHUNKS 32

struct chunk {
	int n;
	struct chain_node node[];
};

//---------------------------------------------------------------------- pool

static int
lchunk_gc(lua_State *L) {
	struct chunk *c = lua_touserdata(L, 1);
	for (int i = 0; i < c->n; i++) {
		skynet_free(c->node[i].msg);
		c->node[i].msg = NULL;
	}
	return 0;
}

static void
report_many_chunks(lua_State *L, int chunks) {
	lua_getfield(L, LUA_REGISTRYINDEX, "skynet_context");
	skynet_error(lua_touserdata(L, -1), "Too many socket pool (%d)", chunks);
	lua_pop(L, 1);
}

// A chunk of free nodes, entered into the pool at `pool`.
static struct chain_node *
new_chunk(lua_State *L, int pool) {
	int chunks = (int)lua_rawlen(L, pool) - 1;
	chunks = chunks < 0 ? 0 : chunks;
	int n = FIRST_CHUNK;
	for (int i = 0; i < chunks && n < MAX_CHUNK; i++) {
		n *= 2;
	}
	if (chunks + 1 > MANY_CHUNKS) {
		report_many_chunks(L, chunks + 1);
	}
	struct chunk *c = lua_newuserdatauv(L, sizeof(*c) + (size_t)n * sizeof(c->node[0]), 0);
	c->n = n;
	for (int i = 0; i < n; i++) {
		c->node[i] = (struct chain_node){NULL, 0, i + 1 < n ? &c->node[i + 1] : NULL};
	}
	luaL_setmetatable(L, CHUNK_META);
	if (chunks == 0) {
		// Slot 1 first: the table must stay a sequence.
		lua_pushboolean(L, 0);
		lua_rawseti(L, pool, 1);
	}
	lua_rawseti(L, pool, chunks + 2);
	return c->node;
}

static void
set_free_list(lua_State *L, int pool, struct chain_node *n) {
	if (n == NULL) {
		lua_pushboolean(L, 0);
	} else {
		lua_pushlightuserdata(L, n);
	}
	lua_rawseti(L, pool, 1);
}

static struct chain_node *
free_list(lua_State *L, int pool) {
	lua_rawgeti(L, pool, 1);
	struct chain_node *n = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return n;
}

// Argument: a pool without free nodes.
static int
grow_pool(lua_State *L) {
	set_free_list(L, 1, new_chunk(L, 1));
	return 0;
}

// NULL when there is no memory for more nodes; what was raised is then on the stack.
static struct chain_node *
take_node(lua_State *L, int pool) {
	struct chain_node *n = free_list(L, pool);
	if (n == NULL) {
		lua_pushcfunction(L, grow_pool);
		lua_pushvalue(L, pool);
		if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
			return NULL;
		}
		n = free_list(L, pool);
	}
	set_free_list(L, pool, n->next);
	n->next = NULL;
	return n;
}

// Nodes that are not used any more.
static void
give_nodes(lua_State *L, int pool, struct chain_node *used) {
	if (used == NULL) {
		return;
	}
	struct chain_node *last = used;
	while (last->next != NULL) {
		last = last->next;
	}
	last->next = free_list(L, pool);
	set_free_list(L, pool, used);
}

//-------------------------------------------------------------------- buffer

static int
lbuffer(lua_State *L) {
	struct chain *b = lua_newuserdatauv(L, sizeof(*b), 0);
	memset(b, 0, sizeof(*b));
	luaL_setmetatable(L, BUFFER_META);
	return 1;
}

static struct chain *
check_buffer(lua_State *L) {
	struct chain *b = lua_testmeta(L, 1, lua_upvalueindex(1));
	if (b == NULL) {
		luaL_error(L, "need buffer object at param 1");
	}
	return b;
}

// push(buffer, pool, msg, size) -> bytes held; nil and why, if there is no memory for it.
// Takes msg in either case.
static int
lpush(lua_State *L) {
	struct chain *b = check_buffer(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	char *msg = lua_touserdata(L, 3);
	if (msg == NULL) {
		return luaL_error(L, "need message block at param 3");
	}
	lua_Integer sz = luaL_checkinteger(L, 4);
	luaL_argcheck(L, sz >= 0, 4, "size out of range");
	struct chain_node *n = take_node(L, 2);
	if (n == NULL) {
		skynet_free(msg);
		lua_pushnil(L);
		lua_insert(L, -2);
		return 2;
	}
	chain_append(b, n, msg, (size_t)sz);
	lua_pushinteger(L, (lua_Integer)b->size);
	return 1;
}

// pop(buffer, pool, n) -> string, bytes left; or nil, bytes held
static int
lpop(lua_State *L) {
	struct chain *b = check_buffer(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_Integer n = luaL_checkinteger(L, 3);
	luaL_argcheck(L, n >= 0, 3, "size out of range");
	if (n == 0 || (lua_Unsigned)n > b->size) {
		lua_pushnil(L);
	} else {
		chain_push_string(L, b, (size_t)n);
		give_nodes(L, 2, chain_consume(b, (size_t)n));
	}
	lua_pushinteger(L, (lua_Integer)b->size);
	return 2;
}

// readall(buffer, pool) -> string
static int
lreadall(lua_State *L) {
	struct chain *b = check_buffer(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	chain_push_string(L, b, b->size);
	give_nodes(L, 2, chain_consume(b, b->size));
	return 1;
}

// clear(buffer | nil, pool)
static int
lclear(lua_State *L) {
	if (lua_isnil(L, 1)) {
		return 0;
	}
	struct chain *b = check_buffer(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	give_nodes(L, 2, chain_consume(b, b->size));
	return 0;
}

// readline(buffer, pool, sep) -> line, or nothing
// readline(buffer, nil, sep) -> true, or nothing
static int
lreadline(lua_State *L) {
	struct chain *b = check_buffer(L);
	size_t len;
	const char *sep = luaL_checklstring(L, 3, &len);
	luaL_argcheck(L, len > 0, 3, "empty separator");
	bool only_test = !lua_istable(L, 2);
	ptrdiff_t n = chain_search(b, sep, len);
	if (n < 0) {
		return 0;
	}
	if (only_test) {
		lua_pushboolean(L, 1);
		return 1;
	}
	chain_push_string(L, b, (size_t)n);
	give_nodes(L, 2, chain_consume(b, (size_t)n + len));
	return 1;
}

//-------------------------------------------------------------------- blocks

// drop(msg, size)
static int
ldrop(lua_State *L) {
	skynet_free(lua_touserdata(L, 1));
	return 0;
}

// str2p(string) -> msg, size
static int
lstr2p(lua_State *L) {
	size_t n;
	const char *text = luaL_checklstring(L, 1, &n);
	char *block = skynet_malloc(n);
	memcpy(block, text, n);
	lua_pushlightuserdata(L, block);
	lua_pushinteger(L, (lua_Integer)n);
	return 2;
}

// header(string of 1 to 4 bytes) -> integer
static int
lheader(lua_State *L) {
	size_t n;
	const uint8_t *s = (const uint8_t *)luaL_checklstring(L, 1, &n);
	if (n < 1 || n > 4) {
		return luaL_error(L, "Invalid read %s", (const char *)s);
	}
	lua_Integer v = 0;
	for (size_t i = 0; i < n; i++) {
		v = v << 8 | s[i];
	}
	lua_pushinteger(L, v);
	return 1;
}

static void
new_meta(lua_State *L, const char *name, lua_CFunction gc) {
	if (luaL_newmetatable(L, name) && gc != NULL) {
		lua_pushcfunction(L, gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_pop(L, 1);
}

void
socket_buffer_register(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"buffer", lbuffer},     {"push", lpush},   {"pop", lpop},   {"readall", lreadall},
	    {"readline", lreadline}, {"clear", lclear}, {"drop", ldrop}, {"str2p", lstr2p},
	    {"header", lheader},     {NULL, NULL},
	};
	new_meta(L, CHUNK_META, lchunk_gc);
	new_meta(L, BUFFER_META, NULL);
	luaL_getmetatable(L, BUFFER_META);
	luaL_setfuncs(L, functions, 1);
}
