// Receive buffers: the blocks that the socket server hands over, chained as they come
// and cut into strings on demand (net.md 3.1).
//
// A buffer is a userdata with the ends of its chain. The nodes of the chain lie in chunks,
// userdata that the pool (a Lua table) keeps: slot 1 of the table is the list of
// free nodes, the chunks follow. A block belongs to its node; when a chunk dies,
// with its service, it frees the blocks that are still attached.
#include "lua-socket-buffer.h"

#include <lauxlib.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lua-udata.h"
#include "skynet.h"
#include "skynet_malloc.h"

#define BUFFER_META "skynet.socket.buffer"
#define CHUNK_META "skynet.socket.chunk"
// Nodes of the first chunk; each further one is twice as large, up to the maximum.
#define FIRST_CHUNK 16
#define MAX_CHUNK 4096
// More chunks than that are reported: somebody takes in data and reads none.
#define MANY_CHUNKS 32
// Longest separator whose search is resumed where it stopped.
#define MEMO_MAX 8

struct node {
	char *msg;
	size_t sz;
	struct node *next;
};

struct chunk {
	int n;
	struct node node[];
};

// A place in the chain.
struct cursor {
	struct node *node;
	size_t at;
};

struct buffer {
	size_t size;   // bytes held
	size_t offset; // of them, those of the first node begin here
	struct node *head;
	struct node *tail;
	// The separator `memo` is known not to begin before `seen`, which is
	// `seen_bytes` into the buffer; valid while seen.node is not NULL.
	struct cursor seen;
	size_t seen_bytes;
	size_t memo_len;
	char memo[MEMO_MAX];
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
static struct node *
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
		c->node[i] = (struct node){NULL, 0, i + 1 < n ? &c->node[i + 1] : NULL};
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
set_free_list(lua_State *L, int pool, struct node *n) {
	if (n == NULL) {
		lua_pushboolean(L, 0);
	} else {
		lua_pushlightuserdata(L, n);
	}
	lua_rawseti(L, pool, 1);
}

static struct node *
free_list(lua_State *L, int pool) {
	lua_rawgeti(L, pool, 1);
	struct node *n = lua_touserdata(L, -1);
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
static struct node *
take_node(lua_State *L, int pool) {
	struct node *n = free_list(L, pool);
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

// The first node is used up.
static void
return_head(lua_State *L, int pool, struct buffer *b) {
	struct node *n = b->head;
	b->head = n->next;
	if (b->head == NULL) {
		b->tail = NULL;
	}
	b->offset = 0;
	skynet_free(n->msg);
	n->msg = NULL;
	n->sz = 0;
	n->next = free_list(L, pool);
	set_free_list(L, pool, n);
}

//-------------------------------------------------------------------- buffer

static int
lbuffer(lua_State *L) {
	struct buffer *b = lua_newuserdatauv(L, sizeof(*b), 0);
	memset(b, 0, sizeof(*b));
	luaL_setmetatable(L, BUFFER_META);
	return 1;
}

static struct buffer *
check_buffer(lua_State *L) {
	struct buffer *b = udata_of(L, 1, 1);
	if (b == NULL) {
		luaL_error(L, "need buffer object at param 1");
	}
	return b;
}

static void
forget_search(struct buffer *b) {
	b->seen.node = NULL;
	b->seen_bytes = 0;
}

// push(buffer, pool, msg, size) -> bytes held; nil and why, if there is no memory for it.
// Takes msg in either case.
static int
lpush(lua_State *L) {
	struct buffer *b = check_buffer(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	char *msg = lua_touserdata(L, 3);
	if (msg == NULL) {
		return luaL_error(L, "need message block at param 3");
	}
	lua_Integer sz = luaL_checkinteger(L, 4);
	luaL_argcheck(L, sz >= 0, 4, "size out of range");
	struct node *n = take_node(L, 2);
	if (n == NULL) {
		skynet_free(msg);
		lua_pushnil(L);
		lua_insert(L, -2);
		return 2;
	}
	n->msg = msg;
	n->sz = (size_t)sz;
	if (b->head == NULL) {
		b->head = n;
	} else {
		b->tail->next = n;
	}
	b->tail = n;
	b->size += n->sz;
	lua_pushinteger(L, (lua_Integer)b->size);
	return 1;
}

// Pushes the first n bytes as a string; they stay in the buffer.
static void
push_front_string(lua_State *L, const struct buffer *b, size_t n) {
	const struct node *node = b->head;
	size_t offset = b->offset;
	if (node != NULL && n <= node->sz - offset) {
		lua_pushlstring(L, node->msg + offset, n);
		return;
	}
	luaL_Buffer out;
	char *p = luaL_buffinitsize(L, &out, n);
	size_t done = 0;
	while (done < n) {
		size_t part = node->sz - offset;
		part = part < n - done ? part : n - done;
		memcpy(p + done, node->msg + offset, part);
		done += part;
		node = node->next;
		offset = 0;
	}
	luaL_pushresultsize(&out, n);
}

// Drops the first n bytes.
static void
consume(lua_State *L, int pool, struct buffer *b, size_t n) {
	forget_search(b);
	b->size -= n;
	while (b->head != NULL) {
		size_t part = b->head->sz - b->offset;
		if (n < part) {
			b->offset += n;
			return;
		}
		n -= part;
		return_head(L, pool, b);
	}
}

// pop(buffer, pool, n) -> string, bytes left; or nil, bytes held
static int
lpop(lua_State *L) {
	struct buffer *b = check_buffer(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_Integer n = luaL_checkinteger(L, 3);
	luaL_argcheck(L, n >= 0, 3, "size out of range");
	if (n == 0 || (lua_Unsigned)n > b->size) {
		lua_pushnil(L);
	} else {
		push_front_string(L, b, (size_t)n);
		consume(L, 2, b, (size_t)n);
	}
	lua_pushinteger(L, (lua_Integer)b->size);
	return 2;
}

// readall(buffer, pool) -> string
static int
lreadall(lua_State *L) {
	struct buffer *b = check_buffer(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	push_front_string(L, b, b->size);
	consume(L, 2, b, b->size);
	return 1;
}

// clear(buffer | nil, pool)
static int
lclear(lua_State *L) {
	if (lua_isnil(L, 1)) {
		return 0;
	}
	struct buffer *b = check_buffer(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	consume(L, 2, b, b->size);
	return 0;
}

//------------------------------------------------------------------ readline

static bool
is_at(const struct node *node, size_t at, const char *sep, size_t len) {
	while (len > 0) {
		if (node == NULL) {
			return false;
		}
		size_t part = node->sz - at;
		part = part < len ? part : len;
		if (memcmp(node->msg + at, sep, part) != 0) {
			return false;
		}
		sep += part;
		len -= part;
		node = node->next;
		at = 0;
	}
	return true;
}

// Where the search for this separator goes on.
static size_t
resume_search(const struct buffer *b, struct cursor *c, const char *sep, size_t len) {
	if (b->seen.node != NULL && len == b->memo_len && memcmp(sep, b->memo, len) == 0) {
		*c = b->seen;
		return b->seen_bytes;
	}
	c->node = b->head;
	c->at = b->offset;
	return 0;
}

static void
remember_search(struct buffer *b, const struct cursor *c, size_t bytes, const char *sep,
                size_t len) {
	if (len <= MEMO_MAX && c->node != NULL) {
		b->seen = *c;
		b->seen_bytes = bytes;
		b->memo_len = len;
		memcpy(b->memo, sep, len);
	}
}

// Finds the separator. Returns the bytes before it, or -1.
static ptrdiff_t
search(struct buffer *b, const char *sep, size_t len) {
	struct cursor c;
	size_t bytes = resume_search(b, &c, sep, len);
	while (c.node != NULL && b->size - bytes >= len) {
		const char *from = c.node->msg + c.at;
		size_t rest = c.node->sz - c.at;
		const char *hit = rest == 0 ? NULL : memchr(from, sep[0], rest);
		size_t skipped = hit == NULL ? rest : (size_t)(hit - from);
		bytes += skipped;
		c.at += skipped;
		if (hit == NULL) {
			if (c.node->next == NULL) {
				break;
			}
			c.node = c.node->next;
			c.at = 0;
			continue;
		}
		if (b->size - bytes < len) {
			break;
		}
		if (is_at(c.node, c.at, sep, len)) {
			return (ptrdiff_t)bytes;
		}
		bytes++;
		c.at++;
	}
	remember_search(b, &c, bytes, sep, len);
	return -1;
}

// readline(buffer, pool, sep) -> line, or nothing
// readline(buffer, nil, sep) -> true, or nothing
static int
lreadline(lua_State *L) {
	struct buffer *b = check_buffer(L);
	size_t len;
	const char *sep = luaL_checklstring(L, 3, &len);
	luaL_argcheck(L, len > 0, 3, "empty separator");
	bool only_test = !lua_istable(L, 2);
	ptrdiff_t n = search(b, sep, len);
	if (n < 0) {
		return 0;
	}
	if (only_test) {
		lua_pushboolean(L, 1);
		return 1;
	}
	push_front_string(L, b, (size_t)n);
	consume(L, 2, b, (size_t)n + len);
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
