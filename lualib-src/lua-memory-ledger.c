/*
 * skynet.memory.ledger and services: who holds the memory of the process, for
 * Lua. See lua-memory.c for the module and skynet_ledger.h for the figures.
 */
#include "lua-memory.h"

#include "lshare.h"
#include "malloc_account.h"
#include "malloc_ledger.h"
#include "nodepool.h"
#include "skynet_ledger.h"
#include "skynet_malloc.h"

#include <lauxlib.h>
#include <stdlib.h>

/* The services of a snapshot, collectable if Lua runs out of memory. */
struct snapshot {
	struct service_memory *list;
	size_t n;
};

static int
snapshot_gc(lua_State *L) {
	struct snapshot *s = lua_touserdata(L, 1);
	skynet_free(s->list);
	s->list = NULL;
	return 0;
}

static struct snapshot *
snapshot_new(lua_State *L) {
	struct snapshot *s = lua_newuserdatauv(L, sizeof(*s), 0);
	s->list = NULL;
	s->n = 0;
	if (luaL_newmetatable(L, "skynet.memory.snapshot")) {
		lua_pushcfunction(L, snapshot_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	s->n = skynet_ledger_services(&s->list);
	return s;
}

static void
set_bytes(lua_State *L, const char *name, size_t bytes) {
	lua_pushinteger(L, (lua_Integer)bytes);
	lua_setfield(L, -2, name);
}

static void
push_service(lua_State *L, const struct service_memory *m) {
	lua_createtable(L, 0, 9);
	set_bytes(L, "total", service_memory_total(m));
	set_bytes(L, "lua", m->heap);
	set_bytes(L, "c", m->c);
	set_bytes(L, "code", m->shared);
	set_bytes(L, "messages", m->messages);
	set_bytes(L, "mailbox", m->mailbox);
	set_bytes(L, "undelivered", m->undelivered);
	set_bytes(L, "unsent", m->unsent);
	set_bytes(L, "sockets", m->sockets);
}

static void
push_services(lua_State *L, const struct snapshot *s) {
	lua_createtable(L, 0, (int)s->n);
	for (size_t i = 0; i < s->n; i++) {
		push_service(L, &s->list[i]);
		lua_rawseti(L, -2, s->list[i].handle);
	}
}

/*------------------------------------------------------------------ ranking */

/* What services can be ranked by; the first is the default. */
static const char *const ranks[] = {"total", "lua", "c", "mailbox", "socket", "code", NULL};
enum rank { RANK_TOTAL, RANK_LUA, RANK_C, RANK_MAILBOX, RANK_SOCKET, RANK_CODE };

static size_t
rank_of(const struct service_memory *m, enum rank by) {
	switch (by) {
	case RANK_LUA:
		return m->heap;
	case RANK_C:
		return m->c;
	case RANK_MAILBOX:
		return m->mailbox;
	case RANK_SOCKET:
		return m->unsent + m->undelivered;
	case RANK_CODE:
		return m->shared;
	default:
		return service_memory_total(m);
	}
}

/* The largest first. */
static int
compare(const void *a, const void *b, void *by) {
	size_t x = rank_of(a, *(enum rank *)by);
	size_t y = rank_of(b, *(enum rank *)by);
	return (x < y) - (x > y);
}

int
memory_top(lua_State *L) {
	lua_Integer n = luaL_optinteger(L, 1, 10);
	enum rank by = (enum rank)luaL_checkoption(L, 2, ranks[0], ranks);
	luaL_argcheck(L, n > 0, 1, "need a positive number");
	struct snapshot *s = snapshot_new(L);
	qsort_r(s->list, s->n, sizeof(s->list[0]), compare, &by);
	lua_newtable(L);
	for (size_t i = 0; i < s->n && i < (size_t)n; i++) {
		push_service(L, &s->list[i]);
		set_bytes(L, "handle", s->list[i].handle);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

int
memory_services(lua_State *L) {
	push_services(L, snapshot_new(L));
	return 1;
}

/* Fields of the part table on the top of the stack; `sum` adds them up. */
static void
add_part(lua_State *L, const char *name, size_t bytes, size_t *sum) {
	set_bytes(L, name, bytes);
	*sum += bytes;
}

/* a - b, not below 0: figures are not of one instant. */
static size_t
less(size_t a, size_t b) {
	return a > b ? a - b : 0;
}

/* C memory: of live services, of dead ones, of the node itself. */
struct owners {
	size_t heap;
	size_t live;
	size_t node;
};

/* Handles of threads that run no service, and of nobody, are negative numbers. */
static bool
is_node(uint32_t handle) {
	return handle >= 0xffffff00u;
}

static void
sum_owners(struct owners *o, const struct snapshot *s) {
	*o = (struct owners){0};
	for (size_t i = 0; i < s->n; i++) {
		o->heap += s->list[i].heap;
		o->live += s->list[i].c;
	}
	struct malloc_account *accounts;
	size_t n = malloc_account_list(&accounts);
	for (size_t i = 0; i < n; i++) {
		if (is_node(accounts[i].handle) && accounts[i].bytes > 0) {
			o->node += (size_t)accounts[i].bytes;
		}
	}
	malloc_account_list_free(accounts, n);
}

static size_t
nodepool_bytes(void) {
	size_t bytes = 0;
	for (int kind = 0; kind < NODEPOOL_KINDS; kind++) {
		struct nodepool_stats stats;
		nodepool_stats(kind, &stats);
		bytes += stats.reserved_bytes;
	}
	return bytes;
}

static void
push_parts(lua_State *L, const struct malloc_ledger *m, const struct owners *o, size_t *sum) {
	struct lua_ShareStats share;
	lua_sharestats(&share);
	size_t code = share.string_bytes + share.chunk_bytes;
	size_t nodes = nodepool_bytes();
	size_t handed_out = m->accounted + o->heap + m->stocks + m->cached;
	lua_createtable(L, 0, 20);
	add_part(L, "services: Lua heaps", o->heap, sum);
	add_part(L, "services: C memory", o->live, sum);
	add_part(L, "services that are gone: C memory", less(m->accounted, o->live + o->node), sum);
	add_part(L, "shared code and strings", code, sum);
	add_part(L, "shared tables", share.table_bytes, sum);
	add_part(L, "message and timer nodes", nodes, sum);
	add_part(L, "core structures", less(o->node, code + share.table_bytes + nodes), sum);
	add_part(L, "rounding of sizes", less(m->allocated, handed_out), sum);
	add_part(L, "stocks of threads", m->stocks, sum);
	add_part(L, "jemalloc: thread caches", m->cached, sum);
	add_part(L, "jemalloc: fragments", less(m->active, m->allocated), sum);
	add_part(L, "jemalloc: dirty pages", m->dirty, sum);
	add_part(L, "jemalloc: metadata", m->metadata, sum);
	lua_pushinteger(L, -(lua_Integer)m->untouched);
	lua_setfield(L, -2, "jemalloc: counted but never touched");
	*sum -= m->untouched;
	add_part(L, "jemalloc: filled up by huge pages", m->filled_up, sum);
	add_part(L, "accounts and page map", m->tables, sum);
	add_part(L, "memory_reserve", m->reserve, sum);
	add_part(L, "thread stacks", m->stacks, sum);
	add_part(L, "program: variables", m->data, sum);
	add_part(L, "program: files", m->file, sum);
}

int
memory_ledger(lua_State *L) {
	struct malloc_ledger m;
	struct owners o;
	size_t sum = 0;
	struct snapshot *s = snapshot_new(L);
	malloc_ledger(&m);
	sum_owners(&o, s);
	lua_createtable(L, 0, 5);
	push_parts(L, &m, &o, &sum);
	lua_setfield(L, -2, "parts");
	push_services(L, s);
	lua_setfield(L, -2, "services");
	set_bytes(L, "sum", sum);
	set_bytes(L, "rss", m.rss);
	set_bytes(L, "retained", m.retained);
	return 1;
}
