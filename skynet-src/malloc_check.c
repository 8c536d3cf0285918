/*
 * The checked build's register of blocks (malloc_check.h).
 *
 * DESIGN. A cookie alone cannot tell a freed block from a foreign pointer, and
 * reading one in front of a foreign pointer may crash. So the checked build
 * keeps every block's address in a hash table, apart from the heap: a release
 * looks there before it touches the block. A freed block's entry stays, marked,
 * until its address is used again or the table is rebuilt; so a second release
 * is told from a foreign one and can name the owner. Costs 24 bytes a block and
 * some 50 ns a call.
 *
 * Owns: the tables and the quarantine's ring, from mmap. Any thread. Its locks
 * are held only around the tables, never while anything allocates or reports.
 */
#include "malloc_check.h"

#include "malloc_hook.h"

#if !defined(MEMORY_CHECK) || defined(NOUSE_JEMALLOC)

void
malloc_set_quarantine(size_t bytes) {
	(void)bytes;
}

#else

#include "malloc_cookie.h"
#include "malloc_report.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SHARDS 64
#define MIN_CAPACITY 1024u

#define POISON_NEW 0xcd   /* never written by its owner */
#define POISON_FREE 0xdd  /* released */
#define POISON_SLACK 0xfd /* between the block's end and its cookie */

enum state { EMPTY, LIVE, FREED };

struct entry {
	void *p;
	size_t size;
	uint32_t owner;
	enum state state;
};

struct shard {
	pthread_mutex_t lock;
	struct entry *table; /* linear probing */
	size_t capacity;     /* a power of two, or 0 */
	size_t used;         /* entries that are not EMPTY */
	size_t live;
};

static struct shard shards[SHARDS] = {[0 ... SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

/* Freed blocks in the order of their release. */
static struct {
	pthread_mutex_t lock;
	size_t limit; /* bytes; 0 is off */
	size_t bytes;
	size_t head; /* the oldest */
	size_t n;
	struct corpse {
		void *p;
		size_t usable;
	} ring[1 << 16];
} quarantine = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define RING_SIZE (sizeof(quarantine.ring) / sizeof(quarantine.ring[0]))

/*------------------------------------------------------------------- fork */

static void
fork_prepare(void) {
	pthread_mutex_lock(&quarantine.lock);
	for (int i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&shards[i].lock);
	}
}

static void
fork_done(void) {
	for (int i = SHARDS - 1; i >= 0; i--) {
		pthread_mutex_unlock(&shards[i].lock);
	}
	pthread_mutex_unlock(&quarantine.lock);
}

static __attribute__((constructor)) void
guard_fork(void) {
	pthread_atfork(fork_prepare, fork_done, fork_done);
}

/*---------------------------------------------------------------- register */

static size_t
hash_of(const void *p) {
	return (size_t)(((uintptr_t)p >> 4) * 0x9E3779B97F4A7C15u >> 20);
}

static struct shard *
shard_of(const void *p) {
	return &shards[hash_of(p) % SHARDS];
}

/* The entry of p, or the empty one where it belongs. */
static struct entry *
table_find(struct shard *s, const void *p) {
	size_t i = hash_of(p) / SHARDS & (s->capacity - 1);
	while (s->table[i].state != EMPTY && s->table[i].p != p) {
		i = (i + 1) & (s->capacity - 1);
	}
	return &s->table[i];
}

/* What the tables take; relaxed: only a figure. */
static _Atomic(size_t) mapped;

size_t
malloc_check_bytes(void) {
	return atomic_load_explicit(&mapped, memory_order_relaxed);
}

/* Makes room, and forgets the freed blocks. */
static void
table_rebuild(struct shard *s) {
	struct entry *old = s->table;
	size_t old_capacity = s->capacity;
	size_t capacity = old_capacity == 0 ? MIN_CAPACITY : old_capacity;
	if (s->live * 2 >= capacity) {
		capacity *= 2;
	}
	s->table = mmap(NULL, capacity * sizeof(*s->table), PROT_READ | PROT_WRITE,
	                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->table == MAP_FAILED) {
		malloc_report("xmalloc: Out of memory for the register of blocks");
		abort();
	}
	atomic_fetch_add_explicit(&mapped, (capacity - old_capacity) * sizeof(*s->table),
	                          memory_order_relaxed);
	s->capacity = capacity;
	s->used = s->live;
	for (size_t i = 0; i < old_capacity; i++) {
		if (old[i].state == LIVE) {
			*table_find(s, old[i].p) = old[i];
		}
	}
	if (old != NULL) {
		munmap(old, old_capacity * sizeof(*old));
	}
}

static void
register_live(void *p, const struct malloc_cookie *c) {
	struct shard *s = shard_of(p);
	pthread_mutex_lock(&s->lock);
	if (s->used * 4 >= s->capacity * 3) {
		table_rebuild(s);
	}
	struct entry *e = table_find(s, p);
	if (e->state == EMPTY) {
		s->used++;
	}
	s->live++;
	*e = (struct entry){.p = p, .size = c->size, .owner = c->owner, .state = LIVE};
	pthread_mutex_unlock(&s->lock);
}

/* What the register knew of p; marks it freed if it was live. */
static struct entry
register_free(void *p) {
	struct entry was = {.p = p, .state = EMPTY};
	struct shard *s = shard_of(p);
	pthread_mutex_lock(&s->lock);
	if (s->capacity != 0) {
		struct entry *e = table_find(s, p);
		was = *e;
		was.p = p;
		if (e->state == LIVE) {
			e->state = FREED;
			s->live--;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return was;
}

/*----------------------------------------------------------------- reports */

static __thread bool is_reporting;

static __attribute__((noreturn)) void
die(const char *what, const struct entry *e) {
	if (is_reporting) {
		abort(); /* reporting itself allocates, and hit the damage again */
	}
	is_reporting = true;
	uint32_t me = malloc_charged();
	malloc_report("xmalloc: %s in :%08x %s", what, e->owner, malloc_report_name(e->owner));
	malloc_report("xmalloc: block %p of %zu bytes, owner :%08x; found by :%08x %s", e->p, e->size,
	              e->owner, me, malloc_report_name(me));
	malloc_report_backtrace();
	abort();
}

static bool
is_filled(const unsigned char *p, unsigned char value, size_t n) {
	for (size_t i = 0; i < n; i++) {
		if (p[i] != value) {
			return false;
		}
	}
	return true;
}

/* The register says what the cookie must be. */
static void
check_intact(const struct entry *e) {
	size_t usable = je_sallocx(e->p, 0);
	const struct malloc_cookie *c = malloc_cookie_of(e->p, usable);
	if (c->tag != MALLOC_TAG_LIVE || c->size != e->size || c->owner != e->owner) {
		die("overrun into the cookie", e);
	}
	const unsigned char *slack = (const unsigned char *)e->p + e->size;
	if (!is_filled(slack, POISON_SLACK, usable - sizeof(*c) - e->size)) {
		die("overrun", e);
	}
}

/*--------------------------------------------------------------- interface */

void
malloc_check_born(void *p, size_t usable) {
	const struct malloc_cookie *c = malloc_cookie_of(p, usable);
	memset(p, POISON_NEW, c->size);
	memset((char *)p + c->size, POISON_SLACK, usable - sizeof(*c) - c->size);
	register_live(p, c);
}

void
malloc_check_claim(void *p, enum malloc_check_op op) {
	struct entry was = register_free(p);
	if (was.state == LIVE) {
		check_intact(&was);
		return;
	}
	bool is_free = op == MALLOC_CHECK_FREE;
	if (was.state == FREED) {
		die(is_free ? "double free" : "realloc of a freed block", &was);
	}
	was.owner = malloc_charged();
	die(is_free ? "free of a foreign pointer" : "realloc of a foreign pointer", &was);
}

void
malloc_check_given(void *p, uint32_t owner) {
	struct shard *s = shard_of(p);
	pthread_mutex_lock(&s->lock);
	if (s->capacity != 0) {
		struct entry *e = table_find(s, p);
		if (e->state == LIVE) {
			e->owner = owner;
		}
	}
	pthread_mutex_unlock(&s->lock);
}

/* The oldest corpse, when there are more than allowed. */
static bool
quarantine_evict(struct corpse *out) {
	bool found = false;
	pthread_mutex_lock(&quarantine.lock);
	if (quarantine.bytes > quarantine.limit || quarantine.n == RING_SIZE) {
		*out = quarantine.ring[quarantine.head];
		quarantine.head = (quarantine.head + 1) % RING_SIZE;
		quarantine.n--;
		quarantine.bytes -= out->usable;
		found = true;
	}
	pthread_mutex_unlock(&quarantine.lock);
	return found;
}

static bool
quarantine_add(struct corpse c) {
	bool added = false;
	pthread_mutex_lock(&quarantine.lock);
	if (c.usable <= quarantine.limit && quarantine.n < RING_SIZE) {
		quarantine.ring[(quarantine.head + quarantine.n++) % RING_SIZE] = c;
		quarantine.bytes += c.usable;
		added = true;
	}
	pthread_mutex_unlock(&quarantine.lock);
	return added;
}

static void
release(struct corpse c) {
	const struct malloc_cookie *k = malloc_cookie_of(c.p, c.usable);
	size_t body = c.usable - sizeof(*k);
	if (k->tag != MALLOC_TAG_FREE || !is_filled(c.p, POISON_FREE, body)) {
		struct entry e = {.p = c.p, .size = k->size, .owner = k->owner};
		die("write to a freed block", &e);
	}
	je_sdallocx(c.p, c.usable, 0);
}

static void
quarantine_trim(void) {
	struct corpse c;
	while (quarantine_evict(&c)) {
		release(c);
	}
}

void
malloc_check_bury(void *p, size_t usable) {
	struct malloc_cookie *k = malloc_cookie_of(p, usable);
	memset(p, POISON_FREE, usable - sizeof(*k));
	k->tag = MALLOC_TAG_FREE;
	struct corpse c = {.p = p, .usable = usable};
	if (!quarantine_add(c)) {
		je_sdallocx(p, usable, 0);
		return;
	}
	quarantine_trim();
}

void
malloc_set_quarantine(size_t bytes) {
	pthread_mutex_lock(&quarantine.lock);
	quarantine.limit = bytes;
	pthread_mutex_unlock(&quarantine.lock);
	quarantine_trim();
}

#endif
