/*
 * skynet.multicast.core: packages, the payloads that all subscribers of a
 * channel share.
 *
 * A package is known by its id, a number that is never used again; in Lua it is
 * a light userdata, in a message it is the whole body. So a message that is made
 * up finds nothing, and a package closed once too often raises.
 *
 * A package is made *unbound*: it belongs to whoever has its id. Delivering
 * binds it: from then on each message on its way holds one reference, and so
 * does each subscriber that works on it. The last one frees the payload. A
 * message that is discarded undelivered gives its reference back through the
 * disposal hook of the kernel.
 *
 * Owns the register of packages, in shards with a lock each. Any thread may call
 * anything. What a package contains never changes, so reading takes no lock.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "lua-task.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_handle.h"
#include "skynet_mq.h"
#include "skynet_server.h"

#define PACKAGE "skynet.multicast.package"

/* Ids are consecutive, so both spread evenly. */
#define SHARDS 64
#define BUCKETS 64

/* Channel ids are session numbers; the low byte is the node. */
#define ID_STEP 256
#define ID_MASK 0x7fffffff

struct package {
	struct package *next; /* in its bucket */
	uint64_t id;
	void *data;
	uint32_t size;
	uint32_t refs;
	bool is_bound;
};

struct shard {
	pthread_mutex_t lock;
	struct package *buckets[BUCKETS];
};

static struct shard shards[SHARDS] = {[0 ... SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};
static _Atomic(uint64_t) last_id;
static _Atomic(size_t) live;

/* Userdata: one reference of a bound package; NULL: given back. */
struct hold {
	struct package *p;
};

/*------------------------------------------------------------------ register */

static struct shard *
shard_of(uint64_t id) {
	return &shards[id % SHARDS];
}

static struct package **
find(struct shard *s, uint64_t id) {
	struct package **link = &s->buckets[id / SHARDS % BUCKETS];
	while (*link != NULL && (*link)->id != id) {
		link = &(*link)->next;
	}
	return link;
}

/* Takes the data. */
static uint64_t
add(void *data, uint32_t size) {
	struct package *p = skynet_malloc(sizeof(*p));
	/* Only the value counts, nothing is published by it. */
	uint64_t id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
	struct shard *s = shard_of(id);
	p->id = id;
	p->data = data;
	p->size = size;
	p->refs = 1;
	p->is_bound = false;
	atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
	pthread_mutex_lock(&s->lock);
	struct package **link = find(s, id);
	p->next = NULL;
	*link = p;
	pthread_mutex_unlock(&s->lock);
	return id;
}

/* Frees a package that is out of the register; the data unless it was given away. */
static void
destroy(struct package *p) {
	skynet_free(p->data);
	skynet_free(p);
	atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
}

/* Takes an unbound package out; NULL when there is none with this id. */
static struct package *
take_unbound(uint64_t id) {
	struct shard *s = shard_of(id);
	pthread_mutex_lock(&s->lock);
	struct package **link = find(s, id);
	struct package *p = *link;
	if (p != NULL && p->is_bound) {
		p = NULL;
	}
	if (p != NULL) {
		*link = p->next;
	}
	pthread_mutex_unlock(&s->lock);
	return p;
}

enum binding { BOUND, BOUND_BEFORE, UNKNOWN };

/* Gives an unbound package `refs` references, at least one. */
static enum binding
bind_package(uint64_t id, uint32_t refs) {
	struct shard *s = shard_of(id);
	enum binding result = UNKNOWN;
	pthread_mutex_lock(&s->lock);
	struct package *p = *find(s, id);
	if (p != NULL) {
		result = p->is_bound ? BOUND_BEFORE : BOUND;
	}
	if (result == BOUND) {
		p->is_bound = true;
		p->refs = refs;
	}
	pthread_mutex_unlock(&s->lock);
	return result;
}

/* Changes the references of a bound package; NULL when there is none. */
static struct package *
count(uint64_t id, int delta) {
	struct shard *s = shard_of(id);
	pthread_mutex_lock(&s->lock);
	struct package **link = find(s, id);
	struct package *p = *link;
	bool is_last = false;
	if (p != NULL && !p->is_bound) {
		p = NULL;
	}
	if (p != NULL) {
		p->refs += (uint32_t)delta;
		is_last = p->refs == 0;
	}
	if (is_last) {
		*link = p->next;
	}
	pthread_mutex_unlock(&s->lock);
	if (is_last) {
		destroy(p);
	}
	return p;
}

/* The kernel discards a message to a subscriber. */
static void
dispose(void *msg, size_t sz) {
	uint64_t id;
	if (sz == sizeof(id)) {
		memcpy(&id, msg, sizeof(id));
		count(id, -1);
	}
}

/*-------------------------------------------------------------------- packing */

static void
push_id(lua_State *L, uint64_t id) {
	lua_pushlightuserdata(L, (void *)(uintptr_t)id);
}

static uint64_t
check_id(lua_State *L, int idx) {
	luaL_checktype(L, idx, LUA_TLIGHTUSERDATA);
	return (uint64_t)(uintptr_t)lua_touserdata(L, idx);
}

static uint32_t
check_size(lua_State *L, int idx) {
	lua_Integer size = luaL_checkinteger(L, idx);
	luaL_argcheck(L, size >= 0 && size <= UINT32_MAX, idx, "a size of 32 bits expected");
	return (uint32_t)size;
}

static int
new_package(lua_State *L, void *data, uint32_t size) {
	push_id(L, add(data, size));
	lua_pushinteger(L, (lua_Integer)sizeof(uint64_t));
	return 2;
}

static int
pack_copy(lua_State *L, const void *data, uint32_t size) {
	void *copy = skynet_malloc(size > 0 ? size : 1);
	if (size > 0) {
		memcpy(copy, data, size);
	}
	return new_package(L, copy, size);
}

static int
pack_string(lua_State *L) {
	size_t size;
	const char *s = lua_tolstring(L, 1, &size);
	luaL_argcheck(L, size <= UINT32_MAX, 1, "a size of 32 bits expected");
	return pack_copy(L, s, (uint32_t)size);
}

/* pack(ptr, size) or pack(string) -> id, 8. Takes the memory unless it raises. */
static int
core_pack(lua_State *L) {
	if (lua_type(L, 1) == LUA_TSTRING) {
		return pack_string(L);
	}
	luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
	return new_package(L, lua_touserdata(L, 1), check_size(L, 2));
}

/* packremote(ptr, size) -> id, 8. The memory stays the caller's. */
static int
core_packremote(lua_State *L) {
	if (lua_type(L, 1) == LUA_TSTRING) {
		return pack_string(L);
	}
	luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
	return pack_copy(L, lua_touserdata(L, 1), check_size(L, 2));
}

/* remote(id) -> ptr, size: what an unbound package contains, as the caller's */
static int
core_remote(lua_State *L) {
	struct package *p = take_unbound(check_id(L, 1));
	luaL_argcheck(L, p != NULL, 1, "a package that was not delivered expected");
	lua_pushlightuserdata(L, p->data);
	lua_pushinteger(L, p->size);
	p->data = NULL;
	destroy(p);
	return 2;
}

/* discard(id) -> was it there: frees a package unless it was delivered. */
static int
core_discard(lua_State *L) {
	struct package *p = take_unbound(check_id(L, 1));
	if (p != NULL) {
		destroy(p);
	}
	lua_pushboolean(L, p != NULL);
	return 1;
}

static void
check_bound(lua_State *L, enum binding b) {
	luaL_argcheck(L, b != UNKNOWN, 1, "no such package");
	luaL_argcheck(L, b != BOUND_BEFORE, 1, "the package is bound already");
}

/* bind(id, n) -> id: n receivers are going to close it. */
static int
core_bind(lua_State *L) {
	uint64_t id = check_id(L, 1);
	uint32_t refs = check_size(L, 2);
	check_bound(L, bind_package(id, refs > 0 ? refs : 1));
	if (refs == 0) {
		count(id, -1);
	}
	lua_settop(L, 1);
	return 1;
}

/* close(id): one receiver is done. */
static int
core_close(lua_State *L) {
	luaL_argcheck(L, count(check_id(L, 1), -1) != NULL, 1, "no such package");
	return 0;
}

/* nextid(id) -> the id after it on the same node */
static int
core_nextid(lua_State *L) {
	lua_Unsigned id = (lua_Unsigned)luaL_checkinteger(L, 1);
	lua_pushinteger(L, (lua_Integer)((id + ID_STEP) & ID_MASK));
	return 1;
}

/*------------------------------------------------------------------- delivery */

/* Sends the id to a service. False when that is dead: the reference stays. */
static bool
post(uint64_t id, int channel, uint32_t source, uint32_t handle) {
	struct skynet_context *ctx = skynet_handle_grab(handle);
	if (ctx == NULL) {
		return false;
	}
	struct skynet_message msg = {
	    .source = source,
	    .session = channel,
	    .data = skynet_malloc(sizeof(id)),
	    .sz = sizeof(id) | (size_t)PTYPE_MULTICAST << MESSAGE_TYPE_SHIFT,
	};
	memcpy(msg.data, &id, sizeof(id));
	bool is_posted = context_post(ctx, &msg, dispose) == 0;
	skynet_context_release(ctx);
	if (!is_posted) {
		skynet_free(msg.data);
	}
	return is_posted;
}

static uint32_t *
copy_handles(lua_State *L, int idx, uint32_t *n) {
	luaL_checktype(L, idx, LUA_TTABLE);
	lua_Unsigned length = lua_rawlen(L, idx);
	luaL_argcheck(L, length < UINT32_MAX, idx, "too many subscribers");
	*n = (uint32_t)length;
	uint32_t *handles = lua_newuserdatauv(L, (size_t)(length + 1) * sizeof(*handles), 0);
	for (uint32_t i = 0; i < *n; i++) {
		lua_rawgeti(L, idx, (lua_Integer)i + 1);
		handles[i] = (uint32_t)luaL_checkinteger(L, -1);
		lua_pop(L, 1);
	}
	return handles;
}

struct dead {
	const uint32_t *handle;
	uint32_t n;
};

/* Lua: (dead) -> array */
static int
push_dead(lua_State *L) {
	const struct dead *d = lua_touserdata(L, 1);
	lua_createtable(L, (int)d->n, 0);
	for (uint32_t i = 0; i < d->n; i++) {
		lua_pushinteger(L, d->handle[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/*
 * deliver(id, channel, source, handles) -> array of those that are dead, or
 * nothing, also without memory for it: the package is delivered, and the dead are told
 * next time. Binds the package. Nothing that may raise happens in between.
 */
static int
core_deliver(lua_State *L) {
	uint64_t id = check_id(L, 1);
	lua_Integer channel = luaL_checkinteger(L, 2);
	uint32_t source = (uint32_t)luaL_checkinteger(L, 3);
	uint32_t n, dead = 0;
	luaL_argcheck(L, channel >= 0 && channel <= ID_MASK, 2, "a channel expected");
	uint32_t *handles = copy_handles(L, 4, &n);
	check_bound(L, bind_package(id, n + 1));
	for (uint32_t i = 0; i < n; i++) {
		if (!post(id, (int)channel, source, handles[i])) {
			handles[dead++] = handles[i];
			count(id, -1);
		}
	}
	count(id, -1);
	if (dead == 0) {
		return 0;
	}
	struct dead d = {handles, dead};
	lua_pushcfunction(L, push_dead);
	lua_pushlightuserdata(L, &d);
	return lua_pcall(L, 1, 1, 0) == LUA_OK ? 1 : 0;
}

/* The bound package whose id is the message (ptr, size) at index 1. */
static struct package *
check_message(lua_State *L) {
	uint64_t id;
	const void *msg = lua_touserdata(L, 1);
	lua_Integer size = luaL_checkinteger(L, 2);
	if (size != sizeof(id) || msg == NULL) {
		luaL_error(L, "Invalid multicast package size %I", (LUAI_UACINT)size);
		return NULL;
	}
	memcpy(&id, msg, sizeof(id));
	/* The message has a reference, so the package stays. */
	struct package *p = count(id, 0);
	if (p == NULL) {
		luaL_error(L, "Invalid multicast package");
	}
	return p;
}

/* The reference that the message at index 1 has had is somebody's now: it has none. */
static void
take_reference(lua_State *L) {
	memset(lua_touserdata(L, 1), 0, sizeof(uint64_t));
}

/* A message that no task took: its reference is given back, see lua-task.h. */
static void
message_lost(struct sched *S, struct skynet_context *ctx, void *msg, size_t sz) {
	(void)S;
	(void)ctx;
	if (msg != NULL) {
		dispose(msg, sz);
	}
}

/* unpack(ptr, size) -> id, data pointer, data size; to be closed. Once. */
static int
core_unpack(lua_State *L) {
	struct package *p = check_message(L);
	take_reference(L);
	push_id(L, p->id);
	lua_pushlightuserdata(L, p->data);
	lua_pushinteger(L, p->size);
	return 3;
}

/*---------------------------------------------------------------------- holds */

static struct hold *
push_hold(lua_State *L) {
	struct hold *h = lua_newuserdatauv(L, sizeof(*h), 0);
	h->p = NULL;
	luaL_setmetatable(L, PACKAGE);
	return h;
}

/* Lua: () -> closed hold */
static int
new_hold(lua_State *L) {
	push_hold(L);
	return 1;
}

/*
 * open(ptr, size) -> hold, which takes over the reference of the message. Once. Without memory
 * for a hold the reference is given back.
 */
static int
core_open(lua_State *L) {
	struct package *p = check_message(L);
	take_reference(L);
	lua_pushcfunction(L, new_hold);
	if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
		count(p->id, -1);
		return lua_error(L);
	}
	((struct hold *)lua_touserdata(L, -1))->p = p;
	return 1;
}

static struct package *
check_hold(lua_State *L) {
	struct hold *h = luaL_checkudata(L, 1, PACKAGE);
	luaL_argcheck(L, h->p != NULL, 1, "the package is closed");
	return h->p;
}

/* hold:again() -> another hold of the same package */
static int
hold_again(lua_State *L) {
	struct package *p = check_hold(L);
	struct hold *h = push_hold(L);
	h->p = count(p->id, 1);
	return 1;
}

/* hold:data() -> pointer, size; for as long as a hold is open */
static int
hold_data(lua_State *L) {
	const struct package *p = check_hold(L);
	lua_pushlightuserdata(L, p->data);
	lua_pushinteger(L, p->size);
	return 2;
}

static int
hold_close(lua_State *L) {
	struct hold *h = luaL_checkudata(L, 1, PACKAGE);
	if (h->p != NULL) {
		count(h->p->id, -1);
		h->p = NULL;
	}
	return 0;
}

/* live() -> packages that exist in the process */
static int
core_live(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)atomic_load_explicit(&live, memory_order_relaxed));
	return 1;
}

/*----------------------------------------------------------------- the module */

int luaopen_skynet_multicast_core(lua_State *L);

int
luaopen_skynet_multicast_core(lua_State *L) {
	luaL_checkversion(L);
	static const luaL_Reg functions[] = {
	    {"pack", core_pack},     {"packremote", core_packremote},
	    {"remote", core_remote}, {"discard", core_discard},
	    {"bind", core_bind},     {"close", core_close},
	    {"nextid", core_nextid}, {"deliver", core_deliver},
	    {"unpack", core_unpack}, {"open", core_open},
	    {"live", core_live},     {NULL, NULL},
	};
	static const luaL_Reg hold_methods[] = {
	    {"again", hold_again}, {"data", hold_data},     {"close", hold_close},
	    {"__gc", hold_close},  {"__close", hold_close}, {NULL, NULL},
	};
	struct sched *S = task_scheduler(L);
	if (S != NULL) {
		task_set_lost(S, PTYPE_MULTICAST, message_lost);
	}
	luaL_newmetatable(L, PACKAGE);
	luaL_setfuncs(L, hold_methods, 0);
	lua_pushvalue(L, -1);
	lua_setfield(L, -2, "__index");
	luaL_newlib(L, functions);
	return 1;
}
