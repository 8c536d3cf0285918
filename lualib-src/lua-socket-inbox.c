// skynet.socketinbox: the receiving end of the connections of skynet.socket (internal).
//
// An inbox takes in what its connection receives, and wakes the task that waits for it,
// before a message gets as far as Lua: the usual case costs no task and no call. What is
// not usual (much is buffered, a limit, a long separator) is left to Lua, which does the
// same with `take`.
//
// A connection that was dropped is only an id here, until its CLOSE comes or another service
// has it: what the mailbox still has for it goes no further.
//
// An inbox is a userdata. It owns the blocks that were not read. The inboxes of a service are
// found by the ids of their connections; one that is collected or closed is taken out.
// Everything here runs on the thread of the service.
#include <lauxlib.h>
#include <lua.h>

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lshare.h"
#include "lua-nomem.h"
#include "lua-sink.h"
#include "lua-socket-lost.h"
#include "lua-task.h"
#include "skynet.h"
#include "skynet_malloc.h"
#include "skynet_socket.h"
#include "socket_chain.h"

#define INBOX_META "skynet.socketinbox"
// Buffered bytes that nobody asked for; beyond, Lua pauses the connection.
#define PAUSE_SIZE (128 * 1024)
#define FIRST_BUCKETS 8
// A wait for a line, and for one whose separator is too long to be kept.
#define NEED_LINE (SIZE_MAX - 1)
#define NEED_LUA SIZE_MAX

struct inboxes;

// What is found by the id of a connection: its inbox, or that it was dropped and its CLOSE
// has not come, which takes time where a peer reads slowly what it was sent.
struct entry {
	struct entry *next; // in its bucket
	int id;
	bool is_dropped; // nothing else belongs to it; by the allocator of the VM
};

struct inbox {
	struct entry entry;
	struct inboxes *home; // NULL: closed
	int session;          // of the task that waits, see task_wake
	size_t need;          // bytes it waits for, or NEED_...; 0: nobody waits for bytes
	bool is_slow;
	bool is_foreign;       // a sink of Lua's takes the bytes
	uint8_t separator_len; // with NEED_LINE
	char separator[CHAIN_MEMO_MAX];
	const struct stream_sink *sink; // what takes the bytes; lives in the user value
	void *sink_ud;
	struct chain chain;
	struct chain_node first; // the node of most blocks; unused while msg is NULL
};

// All entries of a service. User value 1 holds the buckets.
struct inboxes {
	lua_State *main;
	struct sched *sched;
	struct entry **bucket;
	size_t mask;
	size_t n;
};

int luaopen_skynet_socketinbox(lua_State *L);

//--------------------------------------------------------------------- table

static struct inboxes *
all_inboxes(lua_State *L) {
	return lua_touserdata(L, lua_upvalueindex(2));
}

// The link that leads to the entry, or to the end of its bucket.
static struct entry **
find(const struct inboxes *all, int id) {
	struct entry **link = &all->bucket[(unsigned)id & all->mask];
	while (*link != NULL && (*link)->id != id) {
		link = &(*link)->next;
	}
	return link;
}

// Give the table on the top of the stack its buckets.
static void
set_buckets(lua_State *L, struct inboxes *all, size_t n) {
	struct entry **bucket = lua_newuserdatauv(L, n * sizeof(bucket[0]), 0);
	memset(bucket, 0, n * sizeof(bucket[0]));
	for (size_t i = 0; all->bucket != NULL && i <= all->mask; i++) {
		struct entry *e = all->bucket[i];
		while (e != NULL) {
			struct entry *next = e->next;
			struct entry **b = &bucket[(unsigned)e->id & (n - 1)];
			e->next = *b;
			*b = e;
			e = next;
		}
	}
	all->bucket = bucket;
	all->mask = n - 1;
	lua_setiuservalue(L, -2, 1);
}

// The entry that `link` leads to is no more.
static void
remove_entry(struct inboxes *all, struct entry **link) {
	struct entry *e = *link;
	*link = e->next;
	all->n--;
	if (e->is_dropped) {
		void *ud;
		lua_getallocf(all->main, &ud)(ud, e, sizeof(*e), 0);
	} else {
		((struct inbox *)e)->home = NULL;
	}
}

static void
take_out(struct inbox *p) {
	if (p->home != NULL) {
		remove_entry(p->home, find(p->home, p->entry.id));
	}
}

// In place of what was known by that id. There is room, see reserve.
static void
put_in(struct inboxes *all, struct entry *e, int id) {
	struct entry **link = find(all, id);
	if (*link != NULL) {
		remove_entry(all, link);
	}
	struct entry **b = &all->bucket[(unsigned)id & all->mask];
	e->id = id;
	e->next = *b;
	*b = e;
	all->n++;
}

static void
put_inbox_in(struct inboxes *all, struct inbox *p, int id) {
	put_in(all, &p->entry, id);
	p->home = all;
}

//--------------------------------------------------------------------- nodes

static struct chain_node *
new_node(struct inbox *p, lua_State *L) {
	void *ud;
	if (p->first.msg == NULL) {
		return &p->first;
	}
	// By the allocator of the VM: it counts, and refuses beyond the limit.
	return lua_getallocf(L, &ud)(ud, NULL, 0, sizeof(struct chain_node));
}

static void
free_nodes(struct inbox *p, lua_State *L, struct chain_node *used) {
	while (used != NULL) {
		struct chain_node *next = used->next;
		if (used != &p->first) {
			void *ud;
			lua_getallocf(L, &ud)(ud, used, sizeof(*used), 0);
		}
		used = next;
	}
}

static void
consume(lua_State *L, struct inbox *p, size_t n) {
	free_nodes(p, L, chain_consume(&p->chain, n));
}

// False: no memory; the block is still the caller's.
static bool
take_in(struct inbox *p, lua_State *L, char *block, size_t size) {
	if (p->sink != NULL) {
		p->sink->feed(p->sink_ud, block, size);
		return true;
	}
	struct chain_node *n = new_node(p, L);
	if (n == NULL) {
		return false;
	}
	chain_append(&p->chain, n, block, size);
	return true;
}

static size_t
held(const struct inbox *p) {
	return p->sink != NULL ? p->sink->held(p->sink_ud) : p->chain.size;
}

// What the task waits for is there.
static bool
is_satisfied(struct inbox *p) {
	if (p->need == 0) {
		return false;
	}
	if (p->need == NEED_LINE) {
		return chain_search(&p->chain, p->separator, p->separator_len) >= 0;
	}
	return p->sink != NULL || p->chain.size >= p->need;
}

//-------------------------------------------------------------------- filter

// The last event of a connection that comes here: its end, or that another service has it.
static bool
is_last(const struct skynet_socket_message *m, size_t size) {
	static const char transferred[] = "transferred";
	const size_t len = sizeof(transferred) - 1;
	return m->type == SKYNET_SOCKET_TYPE_CLOSE ||
	       (m->type == SKYNET_SOCKET_TYPE_CONNECT && size == sizeof(*m) + len &&
	        memcmp(m + 1, transferred, len) == 0);
}

// An event of a connection that was dropped.
static void
pass_over(struct inboxes *all, struct entry **link, struct skynet_socket_message *m, size_t size) {
	if (is_last(m, size)) {
		remove_entry(all, link);
	}
	// Of data; texts lie behind the message.
	skynet_free(m->buffer);
	m->buffer = NULL;
}

// Takes in data, of which Lua hears only where something is out of the ordinary, and all for
// connections that were dropped. The filter of the service, see lua-task.h.
static bool
filter_event(void *ud, struct skynet_context *ctx, const void *msg, size_t size) {
	struct inboxes *all = ud;
	struct skynet_socket_message *m = (void *)(uintptr_t)msg;
	(void)ctx;
	if (size < sizeof(*m)) {
		return false;
	}
	struct entry **link = find(all, m->id);
	if (*link == NULL) {
		return false;
	}
	if ((*link)->is_dropped) {
		pass_over(all, link, m, size);
		return true;
	}
	struct inbox *p = (struct inbox *)*link;
	if (m->type != SKYNET_SOCKET_TYPE_DATA || m->buffer == NULL || p->is_foreign) {
		return false;
	}
	bool is_usual = !p->is_slow && p->need != NEED_LUA && held(p) + (size_t)m->ud <= PAUSE_SIZE;
	if (!take_in(p, all->main, m->buffer, (size_t)m->ud)) {
		return false;
	}
	// Whatever becomes of its task, Lua finds it here.
	m->buffer = NULL;
	if (!is_usual) {
		return false;
	}
	if (is_satisfied(p)) {
		p->need = 0;
		task_wake(all->sched, p->session);
	}
	return true;
}

//----------------------------------------------------------------- functions

static struct inbox *
check_inbox(lua_State *L) {
	struct inbox *p = lua_testmeta(L, 1, lua_upvalueindex(1));
	if (p == NULL) {
		luaL_typeerror(L, 1, INBOX_META);
	}
	return p;
}

// Room for one more.
static void
reserve(lua_State *L) {
	struct inboxes *all = all_inboxes(L);
	if (all->n > all->mask) {
		lua_pushvalue(L, lua_upvalueindex(2));
		set_buckets(L, all, 2 * (all->mask + 1));
		lua_pop(L, 1);
	}
}

// open(id | nil) -> inbox. What comes for the connection goes there from now on; without
// an id nothing does, but a task can wait.
static int
lopen(lua_State *L) {
	bool has_id = !lua_isnil(L, 1);
	int id = has_id ? (int)luaL_checkinteger(L, 1) : 0;
	reserve(L);
	struct inbox *p = lua_newuserdatauv(L, sizeof(*p), 1);
	memset(p, 0, sizeof(*p));
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_setmetatable(L, -2);
	if (has_id) {
		put_inbox_in(all_inboxes(L), p, id);
	}
	return 1;
}

// reopen(inbox, id): a closed one, that nobody waits at, as open gives them
static int
lreopen(lua_State *L) {
	struct inbox *p = check_inbox(L);
	int id = (int)luaL_checkinteger(L, 2);
	take_out(p);
	consume(L, p, p->chain.size);
	if (p->sink != NULL) {
		lua_pushnil(L);
		lua_setiuservalue(L, 1, 1);
	}
	memset(p, 0, sizeof(*p));
	reserve(L);
	put_inbox_in(all_inboxes(L), p, id);
	return 0;
}

// take(inbox, block, size) -> bytes held; nil and why, if there is no memory for it. Takes
// the block in either case. What the filter does, for events in Lua.
static int
ltake(lua_State *L) {
	struct inbox *p = check_inbox(L);
	char *block = lua_touserdata(L, 2);
	lua_Integer size = luaL_checkinteger(L, 3);
	luaL_argcheck(L, block != NULL, 2, "need a block");
	luaL_argcheck(L, size >= 0, 3, "size out of range");
	if (!take_in(p, L, block, (size_t)size)) {
		skynet_free(block);
		lua_pushnil(L);
		lua_pushliteral(L, NO_MEMORY);
		return 2;
	}
	lua_pushinteger(L, (lua_Integer)held(p));
	return 1;
}

// What lwait waits for, at 2.
static void
set_need(lua_State *L, struct inbox *p) {
	size_t len;
	p->need = 0;
	if (lua_isinteger(L, 2)) {
		p->need = (size_t)lua_tointeger(L, 2);
	} else if (lua_type(L, 2) == LUA_TSTRING) {
		const char *separator = lua_tolstring(L, 2, &len);
		p->need = len > 0 && len <= sizeof(p->separator) ? NEED_LINE : NEED_LUA;
		if (p->need == NEED_LINE) {
			memcpy(p->separator, separator, len);
			p->separator_len = (uint8_t)len;
		}
	}
}

static void
check_alone(lua_State *L, const struct inbox *p) {
	if (task_waits(all_inboxes(L)->sched, p->session)) {
		luaL_error(L, "another task waits for this socket");
	}
}

// The time limit of a socket function, at `arg`; -1: none.
static lua_Integer
check_time(lua_State *L, int arg) {
	int is_integer;
	lua_Integer cs = lua_tointegerx(L, arg, &is_integer);
	if (is_integer) {
		return cs;
	}
	if (!lua_isnoneornil(L, arg)) {
		luaL_error(L, "the time limit of a socket function is a whole number of 1/100 s, not a %s",
		           luaL_typename(L, arg));
	}
	return -1;
}

// wait(inbox, need [, time]) -> "BREAK" when a task with a time was woken. Suspends the task
// until that many bytes are there, or wake. need: a number of bytes; a string = a line that
// ends with it; nil and true = what comes does not end it. Raises when a task waits already.
// Yields.
static int
lwait(lua_State *L) {
	struct inbox *p = check_inbox(L);
	lua_Integer cs = check_time(L, 3);
	luaL_argcheck(L, cs <= INT_MAX, 3, "time out of range");
	if (cs < 0 && !lua_isnoneornil(L, 3)) {
		cs = 0;
	}
	check_alone(L, p);
	set_need(L, p);
	return task_wait_session(L, "a socket function", (int)cs, &p->session, NULL);
}

// All that is buffered, as a string.
static int
push_all(lua_State *L, struct inbox *p) {
	size_t n = p->chain.size;
	if (n > 0) {
		chain_push_string(L, &p->chain, n);
	}
	// Without bytes there may be blocks nevertheless.
	consume(L, p, n);
	return n > 0;
}

static int
push_next(lua_State *L, struct inbox *p) {
	return p->sink != NULL ? p->sink->next(L, p->sink_ud) : push_all(L, p);
}

static int
next_over(lua_State *L, int status, lua_KContext ctx) {
	(void)status;
	(void)ctx;
	task_wait_end(L);
	// The stack has kept it.
	return push_next(L, lua_touserdata(L, 1));
}

// next(inbox, waits) -> ...: the next item of the sink, see lua-sink.h, or without a sink all
// that is buffered, as a string. If there is none yet, nothing, or with `waits` what there is
// after more came, or wake. Raises when a task waits already. Yields.
static int
lnext(lua_State *L) {
	struct inbox *p = check_inbox(L);
	int n = push_next(L, p);
	if (n > 0 || !lua_toboolean(L, 2)) {
		return n;
	}
	check_alone(L, p);
	p->need = 1;
	return task_wait_session(L, "a socket function", -1, &p->session, next_over);
}

// wake(inbox): the task that waits, if any, goes on
static int
lwake(lua_State *L) {
	struct inbox *p = check_inbox(L);
	p->need = 0;
	task_wake(all_inboxes(L)->sched, p->session);
	return 0;
}

// busy(inbox) -> whether a task waits, or was woken and has not gone on yet
static int
lbusy(lua_State *L) {
	struct inbox *p = check_inbox(L);
	lua_pushboolean(L, task_waits(all_inboxes(L)->sched, p->session));
	return 1;
}

// need(inbox) -> bytes that a task waits for, or nil
static int
lneed(lua_State *L) {
	struct inbox *p = check_inbox(L);
	if (p->need == 0 || p->need >= NEED_LINE || !task_waits(all_inboxes(L)->sched, p->session)) {
		return 0;
	}
	lua_pushinteger(L, (lua_Integer)p->need);
	return 1;
}

// pop(inbox, n) -> string; or nil, bytes held
static int
lpop(lua_State *L) {
	struct inbox *p = check_inbox(L);
	lua_Integer n = luaL_checkinteger(L, 2);
	luaL_argcheck(L, n >= 0, 2, "size out of range");
	if (n > 0 && (lua_Unsigned)n <= p->chain.size) {
		chain_push_string(L, &p->chain, (size_t)n);
		consume(L, p, (size_t)n);
		return 1;
	}
	lua_pushnil(L);
	lua_pushinteger(L, (lua_Integer)p->chain.size);
	return 2;
}

// readall(inbox) -> string, or nil when there is nothing
static int
lreadall(lua_State *L) {
	if (push_all(L, check_inbox(L)) == 0) {
		lua_pushnil(L);
	}
	return 1;
}

static const char *
check_separator(lua_State *L, size_t *len) {
	const char *sep = luaL_checklstring(L, 2, len);
	luaL_argcheck(L, *len > 0, 2, "empty separator");
	return sep;
}

// has(inbox, sep) -> whether a line is complete
static int
lhas(lua_State *L) {
	size_t len;
	struct inbox *p = check_inbox(L);
	const char *sep = check_separator(L, &len);
	lua_pushboolean(L, chain_search(&p->chain, sep, len) >= 0);
	return 1;
}

// readline(inbox, sep) -> line without sep, or nothing
static int
lreadline(lua_State *L) {
	size_t len;
	struct inbox *p = check_inbox(L);
	const char *sep = check_separator(L, &len);
	ptrdiff_t n = chain_search(&p->chain, sep, len);
	if (n < 0) {
		return 0;
	}
	chain_push_string(L, &p->chain, (size_t)n);
	consume(L, p, (size_t)n + len);
	return 1;
}

// held(inbox) -> bytes that it has
static int
lheld(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)held(check_inbox(L)));
	return 1;
}

// slow(inbox): from now on Lua looks at all that comes
static int
lslow(lua_State *L) {
	check_inbox(L)->is_slow = true;
	return 0;
}

// feed(inbox, sink | nil) -> whether it is one that takes blocks here, see lua-sink.h
static int
lfeed(lua_State *L) {
	struct inbox *p = check_inbox(L);
	lua_settop(L, 2);
	p->sink = NULL;
	p->sink_ud = NULL;
	if (lua_type(L, 2) == LUA_TUSERDATA && luaL_getmetafield(L, 2, STREAM_SINK_FIELD) != LUA_TNIL) {
		p->sink = lua_touserdata(L, -1);
		p->sink_ud = lua_touserdata(L, 2);
	}
	p->is_foreign = p->sink == NULL && lua_toboolean(L, 2);
	// It lives as long as the inbox.
	lua_pushvalue(L, 2);
	lua_setiuservalue(L, 1, 1);
	lua_pushboolean(L, p->sink != NULL);
	return 1;
}

// close(inbox): nothing comes any more, and what was not read is freed
static int
lclose(lua_State *L) {
	struct inbox *p = check_inbox(L);
	take_out(p);
	consume(L, p, p->chain.size);
	return 0;
}

// leave(inbox): nothing comes any more; what was not read can still be
static int
lleave(lua_State *L) {
	take_out(check_inbox(L));
	return 0;
}

// drop(inbox) -> true. As close, and events of the connection go nowhere from now on, up
// to its CLOSE or to where another service has it. Nothing is done, and nothing returned, if there
// is no memory for it.
static int
ldrop(lua_State *L) {
	struct inbox *p = check_inbox(L);
	struct inboxes *all = all_inboxes(L);
	void *ud;
	struct entry *e = p->home == NULL ? NULL : lua_getallocf(L, &ud)(ud, NULL, 0, sizeof(*e));
	if (e == NULL) {
		return 0;
	}
	e->is_dropped = true;
	// It takes the place of the inbox.
	put_in(all, e, p->entry.id);
	consume(L, p, p->chain.size);
	lua_pushboolean(L, 1);
	return 1;
}

// The VM ends.
static int
release(lua_State *L) {
	struct inboxes *all = lua_touserdata(L, 1);
	for (size_t i = 0; i <= all->mask; i++) {
		while (all->bucket[i] != NULL) {
			remove_entry(all, &all->bucket[i]);
		}
	}
	return 0;
}

static void
new_inboxes(lua_State *L) {
	struct inboxes *all = lua_newuserdatauv(L, sizeof(*all), 1);
	memset(all, 0, sizeof(*all));
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
	all->main = lua_tothread(L, -1);
	lua_pop(L, 1);
	set_buckets(L, all, FIRST_BUCKETS);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, release);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	// The filter needs it as long as the VM lives.
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, (const void *)filter_event);
	all->sched = task_set_filter(L, PTYPE_SOCKET, filter_event, all);
	task_set_lost(all->sched, PTYPE_SOCKET, socket_event_lost);
}

int
luaopen_skynet_socketinbox(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"open", lopen},   {"reopen", lreopen},   {"take", ltake},   {"wait", lwait},
	    {"next", lnext},   {"wake", lwake},       {"busy", lbusy},   {"need", lneed},
	    {"pop", lpop},     {"readall", lreadall}, {"has", lhas},     {"readline", lreadline},
	    {"slow", lslow},   {"feed", lfeed},       {"close", lclose}, {"drop", ldrop},
	    {"leave", lleave}, {"held", lheld},       {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlibtable(L, functions);
	luaL_newmetatable(L, INBOX_META);
	lua_pushvalue(L, -1);
	lua_pushnil(L);
	lua_pushcclosure(L, lclose, 2);
	lua_setfield(L, -2, "__gc");
	new_inboxes(L);
	luaL_setfuncs(L, functions, 2);
	lua_pushinteger(L, PAUSE_SIZE);
	lua_setfield(L, -2, "PAUSE_SIZE");
	return 1;
}
