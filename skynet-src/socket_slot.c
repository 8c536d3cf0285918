// Ids, the slots behind them, and the index of who owns which.
//
// DESIGN. Ids count up from 1 and are never reused before 2^31 - 1 were handed out
// (then they start at 1 again, skipping those in use). A table of a power of two
// entries maps id -> slot by the low bits; an id whose entry is taken is skipped,
// so a look-up is one load and a comparison. The table doubles when it is half
// full: ids that differ in the low n bits differ in the low n + 1 as well, so
// growing moves nothing apart. Outgrown tables stay until the end, together as
// large as the last one, because a reader without a lock may still look at one;
// it finds the slot there, or an older one whose id tells that it is not the one.
// Slots live in chunks that are never given back before the end: a stale pointer
// always points to a slot. At rest there is neither table nor chunk.
#include "socket_impl.h"

#include <limits.h>
#include <string.h>

#include "skynet_malloc.h"

#define FIRST_TABLE 64
// With what a block carries besides, a chunk just fits the allocator's class of 14 KiB, the
// largest that is cut from slabs: a larger block takes a page more than its class says, as
// its start varies.
#define CHUNK_SLOTS 44
#define FIRST_BUCKETS 16

struct slot_table {
	struct slot_table *outgrown;
	unsigned mask;
	_Atomic(struct socket_slot *) entry[];
};

struct slot_chunk {
	struct slot_chunk *next;
	struct socket_slot slot[CHUNK_SLOTS];
};

//-------------------------------------------------------------------- owners

struct owner_entry {
	uintptr_t opaque;
	struct owner_entry *next; // in the bucket
	struct socket_slot *first;
	int n;
};

struct owner_index {
	int entries;
	unsigned mask;
	struct owner_entry **bucket;
};

static struct owner_entry **
owner_bucket(struct owner_index *x, uintptr_t opaque) {
	// Handles are consecutive numbers: their low bits spread well.
	return &x->bucket[opaque & x->mask];
}

static struct owner_entry *
owner_find(struct owner_index *x, uintptr_t opaque) {
	struct owner_entry *e = x->entries == 0 ? NULL : *owner_bucket(x, opaque);
	while (e != NULL && e->opaque != opaque) {
		e = e->next;
	}
	return e;
}

static void
owner_grow(struct owner_index *x) {
	struct owner_index bigger;
	unsigned size = x->bucket == NULL ? FIRST_BUCKETS : (x->mask + 1) * 2;
	bigger.entries = x->entries;
	bigger.mask = size - 1;
	bigger.bucket = skynet_calloc(size, sizeof(bigger.bucket[0]));
	for (unsigned i = 0; x->bucket != NULL && i <= x->mask; i++) {
		struct owner_entry *e = x->bucket[i];
		while (e != NULL) {
			struct owner_entry *next = e->next;
			struct owner_entry **b = owner_bucket(&bigger, e->opaque);
			e->next = *b;
			*b = e;
			e = next;
		}
	}
	skynet_free(x->bucket);
	*x = bigger;
}

static void
owner_link(struct owner_index *x, struct socket_slot *s, uintptr_t opaque) {
	struct owner_entry *e = owner_find(x, opaque);
	if (e == NULL) {
		if (x->bucket == NULL || (unsigned)x->entries > x->mask) {
			owner_grow(x);
		}
		struct owner_entry **b = owner_bucket(x, opaque);
		e = skynet_malloc(sizeof(*e));
		*e = (struct owner_entry){.opaque = opaque, .next = *b};
		*b = e;
		x->entries++;
	}
	s->owner_entry = e;
	s->owner_prev = NULL;
	s->owner_next = e->first;
	if (e->first != NULL) {
		e->first->owner_prev = s;
	}
	e->first = s;
	e->n++;
}

static void
owner_unlink(struct owner_index *x, struct socket_slot *s) {
	struct owner_entry *e = s->owner_entry;
	if (s->owner_next != NULL) {
		s->owner_next->owner_prev = s->owner_prev;
	}
	if (s->owner_prev != NULL) {
		s->owner_prev->owner_next = s->owner_next;
	} else {
		e->first = s->owner_next;
	}
	s->owner_entry = NULL;
	if (--e->n == 0) {
		struct owner_entry **p = owner_bucket(x, e->opaque);
		while (*p != e) {
			p = &(*p)->next;
		}
		*p = e->next;
		x->entries--;
		skynet_free(e);
	}
}

static void
owner_index_free(struct owner_index *x) {
	for (unsigned i = 0; x->bucket != NULL && i <= x->mask; i++) {
		while (x->bucket[i] != NULL) {
			struct owner_entry *e = x->bucket[i];
			x->bucket[i] = e->next;
			skynet_free(e);
		}
	}
	skynet_free(x->bucket);
	skynet_free(x);
}

void
slot_set_owner(struct socket_server *ss, struct socket_slot *s, uintptr_t opaque) {
	struct slot_store *st = &ss->slots;
	pthread_mutex_lock(&st->lock);
	owner_unlink(st->owners, s);
	owner_link(st->owners, s, opaque);
	pthread_mutex_unlock(&st->lock);
	pthread_mutex_lock(&s->lock);
	s->owner = opaque;
	pthread_mutex_unlock(&s->lock);
}

bool
slot_owner_has_any(struct socket_server *ss, uintptr_t opaque) {
	struct slot_store *st = &ss->slots;
	pthread_mutex_lock(&st->lock);
	bool found = owner_find(st->owners, opaque) != NULL;
	pthread_mutex_unlock(&st->lock);
	return found;
}

int *
slot_owner_ids(struct socket_loop *loop, uintptr_t opaque, int *n) {
	struct slot_store *st = &loop->ss->slots;
	int *ids = NULL;
	*n = 0;
	pthread_mutex_lock(&st->lock);
	struct owner_entry *e = owner_find(st->owners, opaque);
	if (e != NULL) {
		ids = skynet_malloc((size_t)e->n * sizeof(ids[0]));
		for (struct socket_slot *s = e->first; s != NULL; s = s->owner_next) {
			if (s->loop == loop) {
				// Relaxed: ids of linked slots change under st->lock only.
				ids[(*n)++] = atomic_load_explicit(&s->id, memory_order_relaxed);
			}
		}
	}
	pthread_mutex_unlock(&st->lock);
	return ids;
}

//--------------------------------------------------------------------- slots

void
slot_store_init(struct slot_store *st) {
	memset(st, 0, sizeof(*st));
	pthread_mutex_init(&st->lock, NULL);
	st->limit = INT_MAX / 2;
	st->owners = skynet_calloc(1, sizeof(*st->owners));
}

void
slot_store_free(struct slot_store *st) {
	struct slot_table *t = atomic_load(&st->table);
	while (t != NULL) {
		struct slot_table *next = t->outgrown;
		skynet_free(t);
		t = next;
	}
	while (st->chunks != NULL) {
		struct slot_chunk *c = st->chunks;
		st->chunks = c->next;
		for (int i = 0; i < CHUNK_SLOTS; i++) {
			pthread_mutex_destroy(&c->slot[i].lock);
		}
		skynet_free(c);
	}
	owner_index_free(st->owners);
	pthread_mutex_destroy(&st->lock);
}

static struct slot_table *
grow_table(struct slot_store *st, struct slot_table *old) {
	unsigned size = old == NULL ? FIRST_TABLE : (old->mask + 1) * 2;
	struct slot_table *t = skynet_calloc(1, sizeof(*t) + size * sizeof(t->entry[0]));
	t->outgrown = old;
	t->mask = size - 1;
	for (unsigned i = 0; old != NULL && i <= old->mask; i++) {
		// Relaxed: entries are written under st->lock, which we hold; the new
		// table is published by the release store below.
		struct socket_slot *s = atomic_load_explicit(&old->entry[i], memory_order_relaxed);
		if (s != NULL) {
			unsigned id = (unsigned)atomic_load_explicit(&s->id, memory_order_relaxed);
			atomic_store_explicit(&t->entry[id & t->mask], s, memory_order_relaxed);
		}
	}
	// Release; partner: the acquire load in slot_find.
	atomic_store_explicit(&st->table, t, memory_order_release);
	return t;
}

static void
add_chunk(struct slot_store *st) {
	struct slot_chunk *c = skynet_memalign(_Alignof(struct slot_chunk), sizeof(*c));
	memset(c, 0, sizeof(*c));
	c->next = st->chunks;
	st->chunks = c;
	for (int i = CHUNK_SLOTS - 1; i >= 0; i--) {
		pthread_mutex_init(&c->slot[i].lock, NULL);
		c->slot[i].free_next = st->free_list;
		st->free_list = &c->slot[i];
	}
}

static int
next_id(struct slot_store *st, const struct slot_table *t) {
	int id = st->last_id;
	do {
		id = id == INT_MAX ? 1 : id + 1;
	} while (atomic_load_explicit(&t->entry[(unsigned)id & t->mask], memory_order_relaxed) != NULL);
	st->last_id = id;
	return id;
}

static void
reset(struct socket_slot *s, int kind, int state) {
	s->fd = -1;
	s->state = (uint8_t)state;
	s->kind = (uint8_t)kind;
	s->accept_share = 1;
	s->accept_failures = 0;
	s->reading = s->write_polled = false;
	atomic_store_explicit(&s->throttled, false, memory_order_relaxed);
	s->polled = 0;
	s->closing = s->draining = s->close_told = s->relays = false;
	s->writer_active = s->flush_posted = s->left_to_loop = s->reap = false;
	s->restore_blocking = s->starts_accepted = false;
	s->high.head = s->high.tail = NULL;
	s->low.head = s->low.tail = NULL;
	s->backlog = 0;
	s->warnings = 0;
	atomic_store_explicit(&s->read_count, 0, memory_order_relaxed);
	atomic_store_explicit(&s->read_time, 0, memory_order_relaxed);
	s->write_count = s->write_time = 0;
	s->linger_mark = s->active_ms = s->deadline_ms = s->report_ms = 0;
	s->deadline_index = -1;
	s->admission = NULL;
	s->attempt = NULL;
	memset(&s->peer, 0, sizeof(s->peer));
}

// A look-up that guesses the id waits for the lock until slot_publish.
struct socket_slot *
slot_reserve(struct socket_server *ss, uintptr_t opaque, int kind, int state) {
	struct slot_store *st = &ss->slots;
	pthread_mutex_lock(&st->lock);
	if (st->live >= st->limit) {
		pthread_mutex_unlock(&st->lock);
		return NULL;
	}
	struct slot_table *t = atomic_load_explicit(&st->table, memory_order_relaxed);
	if (t == NULL || (unsigned)st->live * 2 > t->mask) {
		t = grow_table(st, t);
	}
	if (st->free_list == NULL) {
		add_chunk(st);
	}
	struct socket_slot *s = st->free_list;
	st->free_list = s->free_next;
	st->live++;
	int id = next_id(st, t);
	pthread_mutex_lock(&s->lock);
	reset(s, kind, state);
	slot_configure(s, &ss->settings);
	atomic_store(&s->undelivered, (uint64_t)id << 32);
	s->owner = opaque;
	s->loop = loop_for_new(ss);
	// Release; partner: the acquire load in slot_of_loop.
	atomic_store_explicit(&s->id, id, memory_order_release);
	atomic_store_explicit(&t->entry[(unsigned)id & t->mask], s, memory_order_release);
	owner_link(st->owners, s, opaque);
	pthread_mutex_unlock(&st->lock);
	return s;
}

void
slot_configure(struct socket_slot *s, const struct socket_settings *settings) {
	s->settings = *settings;
	atomic_store_explicit(&s->receive_limit, settings->receive_limit, memory_order_relaxed);
}

int
slot_publish(struct socket_slot *s) {
	int id = atomic_load_explicit(&s->id, memory_order_relaxed);
	pthread_mutex_unlock(&s->lock);
	return id;
}

struct socket_slot *
slot_find(struct socket_server *ss, int id) {
	// Acquire; partners: the release stores in grow_table and slot_reserve.
	struct slot_table *t = atomic_load_explicit(&ss->slots.table, memory_order_acquire);
	if (t == NULL || id <= 0) {
		return NULL;
	}
	return atomic_load_explicit(&t->entry[(unsigned)id & t->mask], memory_order_acquire);
}

struct socket_slot *
slot_lock(struct socket_server *ss, int id) {
	struct socket_slot *s = slot_find(ss, id);
	if (s == NULL) {
		return NULL;
	}
	pthread_mutex_lock(&s->lock);
	if (atomic_load_explicit(&s->id, memory_order_relaxed) != id) {
		pthread_mutex_unlock(&s->lock);
		return NULL;
	}
	return s;
}

void
slot_unlock(struct socket_slot *s) {
	pthread_mutex_unlock(&s->lock);
}

struct socket_slot *
slot_of_loop(struct socket_loop *loop, int id) {
	struct socket_slot *s = slot_find(loop->ss, id);
	if (s == NULL || atomic_load_explicit(&s->id, memory_order_acquire) != id) {
		return NULL;
	}
	return s;
}

void
slot_free(struct socket_server *ss, struct socket_slot *s) {
	struct slot_store *st = &ss->slots;
	pthread_mutex_lock(&st->lock);
	struct slot_table *t = atomic_load_explicit(&st->table, memory_order_relaxed);
	unsigned id = (unsigned)atomic_load_explicit(&s->id, memory_order_relaxed);
	atomic_store_explicit(&t->entry[id & t->mask], NULL, memory_order_relaxed);
	owner_unlink(st->owners, s);
	pthread_mutex_lock(&s->lock);
	s->state = SLOT_FREE;
	atomic_store_explicit(&s->id, 0, memory_order_release);
	pthread_mutex_unlock(&s->lock);
	s->free_next = st->free_list;
	st->free_list = s;
	st->live--;
	pthread_mutex_unlock(&st->lock);
}

void
slot_each(struct socket_server *ss, void (*fn)(struct socket_slot *s, void *ud), void *ud) {
	struct slot_store *st = &ss->slots;
	pthread_mutex_lock(&st->lock);
	struct slot_table *t = atomic_load_explicit(&st->table, memory_order_relaxed);
	for (unsigned i = 0; t != NULL && i <= t->mask; i++) {
		struct socket_slot *s = atomic_load_explicit(&t->entry[i], memory_order_relaxed);
		if (s == NULL) {
			continue;
		}
		pthread_mutex_lock(&s->lock);
		if (atomic_load_explicit(&s->id, memory_order_relaxed) != 0) {
			fn(s, ud);
		}
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_unlock(&st->lock);
}
