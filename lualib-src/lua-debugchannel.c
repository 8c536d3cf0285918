/*
 * skynet.debugchannel: a pipe of strings between two Lua states of one
 * process, and a debug hook that can suspend the coroutine it watches. The
 * remote debugger is built on both.
 *
 * A channel is one queue with two ends, and either end reads what either end
 * wrote. It is shared by two threads under its mutex and lives as long as one
 * end does. All live channels are in one list, so that connecting to a pointer
 * that is no channel (any more) fails instead of touching freed memory.
 * Lock order: list, then channel.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include <lauxlib.h>
#include <lua.h>

#include "lua-weaktable.h"
#include "skynet_malloc.h"

#define METATABLE "debugchannel"
#define MAX_ENDS 2

/* What read() multiplies its argument with, nanoseconds. */
#define READ_UNIT_NS 100000000.0
#define NS_PER_SECOND 1000000000LL
/* The longest wait, seconds; keeps the arithmetic in range. */
#define READ_MAX_SECONDS 3600.0

struct text {
	struct text *next;
	size_t len;
	char bytes[];
};

struct channel {
	struct channel *next; /* under list_lock */
	int ends;             /* under list_lock */
	pthread_mutex_t lock;
	pthread_cond_t written;
	struct text *head; /* under lock, as the rest */
	struct text **tail;
};

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct channel *list;

/* Its address is the registry key of the table thread -> hook function. */
static const char hook_key;

/* ------------------------------------------------------------------- channel */

static struct channel *
channel_new(void) {
	struct channel *c = skynet_malloc(sizeof *c);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->written, &attr);
	pthread_condattr_destroy(&attr);
	c->head = NULL;
	c->tail = &c->head;
	c->ends = 1;
	pthread_mutex_lock(&list_lock);
	c->next = list;
	list = c;
	pthread_mutex_unlock(&list_lock);
	return c;
}

/* Become the second end of the channel at this address; NULL when that cannot be. */
static struct channel *
channel_join(const void *address) {
	pthread_mutex_lock(&list_lock);
	struct channel *c = list;
	while (c != NULL && c != address) {
		c = c->next;
	}
	if (c != NULL && c->ends == MAX_ENDS) {
		c = NULL;
	}
	if (c != NULL) {
		c->ends++;
	}
	pthread_mutex_unlock(&list_lock);
	return c;
}

static void
channel_free(struct channel *c) {
	struct text *t = c->head;
	while (t != NULL) {
		struct text *next = t->next;
		skynet_free(t);
		t = next;
	}
	pthread_cond_destroy(&c->written);
	pthread_mutex_destroy(&c->lock);
	skynet_free(c);
}

/* Give up one end. */
static void
channel_leave(struct channel *c) {
	pthread_mutex_lock(&list_lock);
	bool is_last = --c->ends == 0;
	if (is_last) {
		struct channel **link = &list;
		while (*link != c) {
			link = &(*link)->next;
		}
		*link = c->next;
	}
	pthread_mutex_unlock(&list_lock);
	if (is_last) {
		channel_free(c);
	}
}

static void
channel_write(struct channel *c, const char *s, size_t len) {
	struct text *t = skynet_malloc(sizeof *t + len);
	t->next = NULL;
	t->len = len;
	memcpy(t->bytes, s, len);
	pthread_mutex_lock(&c->lock);
	*c->tail = t;
	c->tail = &t->next;
	pthread_cond_signal(&c->written);
	pthread_mutex_unlock(&c->lock);
}

/* The oldest text, waiting up to wait_ns for one; NULL when there is none. */
static struct text *
channel_read(struct channel *c, int64_t wait_ns) {
	struct timespec deadline;
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	int64_t ns = deadline.tv_nsec + wait_ns;
	deadline.tv_sec += (time_t)(ns / NS_PER_SECOND);
	deadline.tv_nsec = (long)(ns % NS_PER_SECOND);
	pthread_mutex_lock(&c->lock);
	while (c->head == NULL && wait_ns > 0) {
		if (pthread_cond_timedwait(&c->written, &c->lock, &deadline) == ETIMEDOUT) {
			break;
		}
	}
	struct text *t = c->head;
	if (t != NULL) {
		c->head = t->next;
		if (c->head == NULL) {
			c->tail = &c->head;
		}
	}
	pthread_mutex_unlock(&c->lock);
	return t;
}

/* Put a text that was read back, as the oldest one. Takes it. */
static void
channel_unread(struct channel *c, struct text *t) {
	pthread_mutex_lock(&c->lock);
	t->next = c->head;
	c->head = t;
	if (t->next == NULL) {
		c->tail = &t->next;
	}
	pthread_mutex_unlock(&c->lock);
}

/* ------------------------------------------------------------ channel in Lua */

struct end {
	struct channel *channel; /* NULL after release */
};

static struct channel *
check_channel(lua_State *L) {
	struct end *e = luaL_checkudata(L, 1, METATABLE);
	if (e->channel == NULL) {
		luaL_error(L, "the channel has been released");
	}
	return e->channel;
}

/* ch:write(s) */
static int
lwrite(lua_State *L) {
	size_t len;
	struct channel *c = check_channel(L);
	const char *s = luaL_checklstring(L, 2, &len);
	channel_write(c, s, len);
	return 0;
}

/* Lua: (text) -> string */
static int
push_text(lua_State *L) {
	const struct text *t = lua_touserdata(L, 1);
	lua_pushlstring(L, t->bytes, t->len);
	return 1;
}

/* ch:read([timeout]). What there is no memory for comes again. */
static int
lread(lua_State *L) {
	struct channel *c = check_channel(L);
	double wait_ns = luaL_optnumber(L, 2, 0) * READ_UNIT_NS;
	double max = READ_MAX_SECONDS * (double)NS_PER_SECOND;
	if (!(wait_ns > 0)) {
		wait_ns = 0;
	} else if (wait_ns > max) {
		wait_ns = max;
	}
	struct text *t = channel_read(c, (int64_t)wait_ns);
	if (t == NULL) {
		return 0;
	}
	lua_pushcfunction(L, push_text);
	lua_pushlightuserdata(L, t);
	if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
		channel_unread(c, t);
		return lua_error(L);
	}
	skynet_free(t);
	return 1;
}

/* release(ch); also the finalizer. Harmless when repeated. */
static int
lrelease(lua_State *L) {
	struct end *e = luaL_checkudata(L, 1, METATABLE);
	struct channel *c = e->channel;
	if (c != NULL) {
		e->channel = NULL;
		channel_leave(c);
	}
	return 0;
}

static struct end *
push_end(lua_State *L) {
	static const luaL_Reg methods[] = {
	    {"read", lread},
	    {"write", lwrite},
	    {NULL, NULL},
	};
	struct end *e = lua_newuserdatauv(L, sizeof *e, 0);
	e->channel = NULL;
	if (luaL_newmetatable(L, METATABLE)) {
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
		lua_pushcfunction(L, lrelease);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	return e;
}

/* create() -> channel, pointer */
static int
lcreate(lua_State *L) {
	struct end *e = push_end(L);
	e->channel = channel_new();
	lua_pushlightuserdata(L, e->channel);
	return 2;
}

/* connect(pointer) -> channel */
static int
lconnect(lua_State *L) {
	void *address = lua_islightuserdata(L, 1) ? lua_touserdata(L, 1) : NULL;
	if (address == NULL) {
		return luaL_error(L, "Invalid channel pointer");
	}
	struct end *e = push_end(L);
	e->channel = channel_join(address);
	if (e->channel == NULL) {
		return luaL_error(L, "new channel failed");
	}
	return 1;
}

/* ---------------------------------------------------------------------- hook */

static void
hook(lua_State *L, lua_Debug *ar) {
	static const char *const names[] = {"call", "return", "line", "count", "tail call"};
	lua_rawgetp(L, LUA_REGISTRYINDEX, &hook_key);
	lua_pushthread(L);
	if (lua_rawget(L, -2) != LUA_TFUNCTION) {
		lua_pop(L, 2);
		return;
	}
	lua_pushstring(L, names[ar->event]);
	if (ar->currentline >= 0) {
		lua_pushinteger(L, ar->currentline);
	} else {
		lua_pushnil(L);
	}
	lua_call(L, 2, 1);
	bool wants_yield = lua_toboolean(L, -1);
	lua_pop(L, 2);
	bool can_yield = ar->event == LUA_HOOKLINE || ar->event == LUA_HOOKCOUNT;
	if (wants_yield && can_yield && lua_isyieldable(L)) {
		lua_yield(L, 0);
	}
}

static int
parse_mask(const char *letters, lua_Integer count) {
	int mask = 0;
	if (strchr(letters, 'c') != NULL) {
		mask |= LUA_MASKCALL;
	}
	if (strchr(letters, 'r') != NULL) {
		mask |= LUA_MASKRET;
	}
	if (strchr(letters, 'l') != NULL) {
		mask |= LUA_MASKLINE;
	}
	if (count > 0) {
		mask |= LUA_MASKCOUNT;
	}
	return mask;
}

/* sethook([thread,] f, mask [, count]) or sethook([thread]) */
static int
lsethook(lua_State *L) {
	lua_State *thread = L;
	int arg = 0;
	if (lua_isthread(L, 1)) {
		thread = lua_tothread(L, 1);
		arg = 1;
	}
	bool is_off = lua_isnoneornil(L, arg + 1);
	const char *letters = "";
	lua_Integer count = 0;
	if (!is_off) {
		luaL_checktype(L, arg + 1, LUA_TFUNCTION);
		letters = luaL_checkstring(L, arg + 2);
		count = luaL_optinteger(L, arg + 3, 0);
		luaL_argcheck(L, count <= INT32_MAX, arg + 3, "count too large");
	}
	lua_settop(L, arg + 1);
	luaL_checkstack(L, 3, NULL);
	if (thread != L && !lua_checkstack(thread, 1)) {
		return luaL_error(L, "stack overflow");
	}
	lua_pushweaktable(L, &hook_key);
	lua_pushthread(thread);
	lua_xmove(thread, L, 1);
	lua_pushvalue(L, arg + 1);
	lua_rawset(L, -3);
	int mask = parse_mask(letters, count);
	lua_sethook(thread, mask != 0 ? hook : NULL, mask, (int)count);
	return 0;
}

int luaopen_skynet_debugchannel(lua_State *L);

int
luaopen_skynet_debugchannel(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"create", lcreate},   {"connect", lconnect}, {"release", lrelease},
	    {"sethook", lsethook}, {NULL, NULL},
	};
	luaL_checkversion(L);
	luaL_newlib(L, functions);
	return 1;
}
