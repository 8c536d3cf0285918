/*
 * The register of shared objects; see lua-share.h. Owns the buckets and the one
 * lock. Invariant: an object is in its bucket exactly as long as it has an
 * owner or a user.
 */
#include "lua-share.h"

#include <assert.h>
#include <pthread.h>

#include <lauxlib.h>

/* Ids are consecutive, so they spread evenly. A node has some thousand objects. */
#define BUCKETS 1024

#define MAX_HOLDERS 10000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct share_object *buckets[BUCKETS];
static uint64_t last_id;

static struct share_object **
find(uint64_t id, const struct share_kind *kind) {
	struct share_object **link = &buckets[id % BUCKETS];
	while (*link != NULL && ((*link)->id != id || (*link)->kind != kind)) {
		link = &(*link)->next;
	}
	return link;
}

/* Takes the object out when nothing needs it; true: to be destroyed. Locked. */
static bool
take_out_unneeded(struct share_object *o) {
	if (o->owners > 0 || o->users > 0) {
		return false;
	}
	struct share_object **link = find(o->id, o->kind);
	assert(*link == o);
	*link = o->next;
	return true;
}

uint64_t
share_add(struct share_object *o, const struct share_kind *kind) {
	o->kind = kind;
	o->uses = NULL;
	o->owners = 1;
	o->users = 0;
	pthread_mutex_lock(&lock);
	uint64_t id = ++last_id;
	o->id = id;
	o->next = buckets[id % BUCKETS];
	buckets[id % BUCKETS] = o;
	pthread_mutex_unlock(&lock);
	return id;
}

struct share_object *
share_own(uint64_t id, const struct share_kind *kind) {
	pthread_mutex_lock(&lock);
	struct share_object *o = *find(id, kind);
	if (o != NULL) {
		o->owners++;
	}
	pthread_mutex_unlock(&lock);
	return o;
}

void
share_disown(struct share_object *o) {
	pthread_mutex_lock(&lock);
	assert(o->owners > 0);
	o->owners--;
	bool is_last = take_out_unneeded(o);
	pthread_mutex_unlock(&lock);
	if (is_last) {
		o->kind->destroy(o);
	}
}

bool
share_use(struct share_use *use, uint64_t id, const struct share_kind *kind, uint32_t holder) {
	pthread_mutex_lock(&lock);
	struct share_object *o = *find(id, kind);
	if (o != NULL) {
		o->users++;
		use->holder = holder;
		use->next = o->uses;
		use->link = &o->uses;
		if (o->uses != NULL) {
			o->uses->link = &use->next;
		}
		o->uses = use;
	}
	use->o = o;
	pthread_mutex_unlock(&lock);
	return o != NULL;
}

bool
share_unuse(struct share_use *use) {
	struct share_object *o = use->o;
	if (o == NULL) {
		return false;
	}
	use->o = NULL;
	pthread_mutex_lock(&lock);
	*use->link = use->next;
	if (use->next != NULL) {
		use->next->link = use->link;
	}
	o->users--;
	bool is_last = take_out_unneeded(o);
	pthread_mutex_unlock(&lock);
	if (is_last) {
		o->kind->destroy(o);
	}
	return is_last;
}

long long
share_count(uint64_t id, const struct share_kind *kind, int delta) {
	long long users = -1;
	pthread_mutex_lock(&lock);
	struct share_object *o = *find(id, kind);
	bool is_last = false;
	if (o != NULL) {
		if (delta > 0) {
			o->users++;
		} else if (delta < 0 && o->users > 0) {
			o->users--;
		}
		users = (long long)o->users;
		is_last = take_out_unneeded(o);
	}
	pthread_mutex_unlock(&lock);
	if (is_last) {
		o->kind->destroy(o);
	}
	return users;
}

void
share_push_holders(lua_State *L, struct share_object *o) {
	/* Copied first: Lua may raise, and must not while the lock is held. */
	uint32_t *holders = lua_newuserdatauv(L, MAX_HOLDERS * sizeof(*holders), 0);
	int n = 0;
	pthread_mutex_lock(&lock);
	for (const struct share_use *u = o->uses; u != NULL && n < MAX_HOLDERS; u = u->next) {
		holders[n++] = u->holder;
	}
	pthread_mutex_unlock(&lock);
	lua_createtable(L, n, 0);
	for (int i = 0; i < n; i++) {
		lua_pushinteger(L, holders[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_remove(L, -2);
}

size_t
share_list(const struct share_kind *kind, uint64_t *ids, size_t room) {
	size_t n = 0;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < BUCKETS; i++) {
		for (const struct share_object *o = buckets[i]; o != NULL && n < room; o = o->next) {
			if (o->kind == kind) {
				ids[n++] = o->id;
			}
		}
	}
	pthread_mutex_unlock(&lock);
	return n;
}

void
share_push_id(lua_State *L, uint64_t id) {
	lua_pushlightuserdata(L, (void *)(uintptr_t)id);
}

uint64_t
share_to_id(lua_State *L, int idx) {
	return lua_islightuserdata(L, idx) ? (uint64_t)(uintptr_t)lua_touserdata(L, idx) : 0;
}
