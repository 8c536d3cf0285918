/*
 * lua-task-session: what a service waits for, by session number; new session
 * numbers; and Lua values that C memory refers to.
 *
 * DESIGN. One open-addressing table of 16-byte slots per VM holds calls,
 * timers, waits and tombstones. Session numbers are handed out in sequence, so
 * four neighbours share a cache line (the low two bits are kept) while the
 * groups are spread by multiplication: plain masking would let a long-pending
 * run of numbers be walked slot by slot each time the counter comes round.
 * Deletion moves later entries back, so there are no deleted marks.
 *
 * A tombstone remembers that an answer or a tick is not wanted any more. A
 * tick always comes; an answer may not, so those tombstones expire.
 */
#include "lua-task-imp.h"

#include <assert.h>
#include <string.h>

#include "skynet_malloc.h"
#include "skynet_server.h"
#include "skynet_timer.h"

#define MIN_SIZE 16
#define GROUP_BITS 2
/* An answer that comes later than this is logged as unknown. */
#define ANSWER_TTL_CS (10 * 60 * 100)
/* Fewer tombstones than this are not worth a scan. */
#define PURGE_MIN 256
/* A values table that grew past this is replaced when it gets empty. */
#define VALUES_SHRINK 1024

static inline uint32_t
home_of(const struct pending_table *p, int32_t session) {
	uint32_t group = ((uint32_t)session >> GROUP_BITS) * 2654435769u;
	return ((group >> p->shift) << GROUP_BITS | ((uint32_t)session & ((1u << GROUP_BITS) - 1)));
}

static void
set_size(struct pending_table *p, uint32_t size) {
	p->size = size;
	p->shift = 32 - (__builtin_ctz(size) - GROUP_BITS);
	p->slot = skynet_calloc(size, sizeof(struct pending));
}

void
pending_init(struct sched *S) {
	memset(&S->pending, 0, sizeof(S->pending));
	S->pending.purge_at = PURGE_MIN;
	set_size(&S->pending, MIN_SIZE);
}

void
pending_free(struct sched *S) {
	skynet_free(S->pending.slot);
	S->pending.slot = NULL;
}

struct pending *
pending_find(struct sched *S, int session) {
	struct pending_table *p = &S->pending;
	uint32_t mask = p->size - 1;
	uint32_t i = home_of(p, session);
	while (p->slot[i].session != 0) {
		if (p->slot[i].session == session) {
			return &p->slot[i];
		}
		i = (i + 1) & mask;
	}
	return NULL;
}

static struct pending *
free_slot(struct pending_table *p, int session) {
	uint32_t mask = p->size - 1;
	uint32_t i = home_of(p, session);
	while (p->slot[i].session != 0) {
		i = (i + 1) & mask;
	}
	return &p->slot[i];
}

static void
resize(struct pending_table *p, uint32_t size) {
	struct pending *old = p->slot;
	uint32_t n = p->size;
	set_size(p, size);
	for (uint32_t i = 0; i < n; i++) {
		if (old[i].session != 0) {
			*free_slot(p, old[i].session) = old[i];
		}
	}
	skynet_free(old);
}

void
pending_add(struct sched *S, int session, enum pending_kind kind, uintptr_t word, uint32_t aux) {
	struct pending_table *p = &S->pending;
	if ((p->count + 1) * 4 > p->size * 3) {
		resize(p, p->size * 2);
	}
	struct pending *slot = free_slot(p, session);
	slot->session = session;
	slot->aux = aux;
	slot->word = word | kind;
	p->count++;
}

/* Empty slot i, moving entries that were displaced past it back. */
static void
erase(struct pending_table *p, uint32_t i) {
	uint32_t mask = p->size - 1;
	uint32_t j = i;
	for (;;) {
		j = (j + 1) & mask;
		if (p->slot[j].session == 0) {
			break;
		}
		uint32_t home = home_of(p, p->slot[j].session);
		if (((j - home) & mask) >= ((j - i) & mask)) {
			p->slot[i] = p->slot[j];
			i = j;
		}
	}
	p->slot[i].session = 0;
	p->count--;
}

static void
shrink(struct pending_table *p) {
	if (p->size > MIN_SIZE * 4 && p->count * 8 < p->size) {
		resize(p, p->size / 4);
	}
}

static bool
is_void(const struct pending *e) {
	return pending_kind(e) == PENDING_TICK || pending_kind(e) == PENDING_ANSWER;
}

bool
pending_take(struct sched *S, int session, struct pending *out) {
	struct pending *e = pending_find(S, session);
	if (e == NULL) {
		return false;
	}
	*out = *e;
	if (is_void(e)) {
		S->pending.voids--;
	}
	erase(&S->pending, (uint32_t)(e - S->pending.slot));
	shrink(&S->pending);
	return true;
}

/* Drop tombstones of answers that are too late to be expected. */
static void
purge(struct sched *S) {
	struct pending_table *p = &S->pending;
	uint64_t now = skynet_now();
	uint32_t i = 0;
	while (i < p->size) {
		struct pending *e = &p->slot[i];
		bool late = e->session != 0 && pending_kind(e) == PENDING_ANSWER &&
		            now - (e->word >> 3) > ANSWER_TTL_CS;
		if (late) {
			/* Another entry may move into slot i: look again. */
			erase(p, i);
			p->voids--;
		} else {
			i++;
		}
	}
	p->purge_at = p->voids * 2 > PURGE_MIN ? p->voids * 2 : PURGE_MIN;
}

void
pending_void(struct sched *S, int session, enum pending_kind kind, uint32_t handle) {
	struct pending *e = pending_find(S, session);
	assert(e != NULL && !is_void(e));
	e->aux = handle;
	e->word = (uintptr_t)skynet_now() << 3 | kind;
	S->pending.voids++;
	if (kind == PENDING_ANSWER && S->pending.voids > S->pending.purge_at) {
		purge(S);
	}
}

int
sched_new_session(struct sched *S) {
	int session;
	do {
		session = skynet_context_newsession(S->ctx);
	} while (pending_find(S, session) != NULL);
	return session;
}

void
sched_arm(struct sched *S, int session, int cs) {
	skynet_timeout(S->handle, cs, session);
}

/* Free references form a list through the table itself, as integers. */
int
value_keep(lua_State *L, struct sched *S) {
	int ref = S->value_free;
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_values);
	if (ref != 0) {
		lua_rawgeti(L, -1, ref);
		S->value_free = (int)lua_tointeger(L, -1);
		lua_pop(L, 1);
		lua_pushvalue(L, -2);
		lua_rawseti(L, -2, ref);
	} else {
		lua_pushvalue(L, -2);
		lua_rawseti(L, -2, S->value_top + 1);
		ref = ++S->value_top;
	}
	S->value_n++;
	lua_pop(L, 2);
	return ref;
}

void
value_push(lua_State *L, struct sched *S, int ref) {
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_values);
	lua_rawgeti(L, -1, ref);
	lua_remove(L, -2);
}

static int
new_values(lua_State *L) {
	int ref = (int)lua_tointeger(L, 1);
	lua_newtable(L);
	lua_rawseti(L, LUA_REGISTRYINDEX, ref);
	return 0;
}

/* Give the memory of a burst back. */
static void
renew_values(lua_State *L, struct sched *S) {
	lua_pushcfunction(L, new_values);
	lua_pushinteger(L, S->ref_values);
	if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
		lua_pop(L, 1);
		return;
	}
	S->value_top = 0;
	S->value_free = 0;
}

void
value_drop(lua_State *L, struct sched *S, int ref) {
	lua_rawgeti(L, LUA_REGISTRYINDEX, S->ref_values);
	lua_pushinteger(L, S->value_free);
	/* The slot exists, so this cannot allocate. */
	lua_rawseti(L, -2, ref);
	lua_pop(L, 1);
	S->value_free = ref;
	S->value_n--;
	if (S->value_n == 0 && S->value_top > VALUES_SHRINK) {
		renew_values(L, S);
	}
}
