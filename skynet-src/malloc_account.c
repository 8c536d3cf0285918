/*
 * Counters per handle (see malloc_account.h).
 *
 * DESIGN. One shared counter per handle costs more than the allocation it
 * counts as soon as two threads work for the same service. So each thread
 * counts in slots of its own, and what a slot must give up (another handle
 * needs it, or the thread ends) moves into a shared table. That table is split
 * into shards, each a hash table under a mutex. A sum is the table's figure
 * plus the slots of all threads.
 *
 * Invariant: all handles that fit in a slot belong to one shard, and the slot
 * gives up its figures only under that shard's lock. Whoever holds the lock and
 * adds the table's entry of a handle to all slots tagged with it sees every
 * charge exactly once; whoever holds all locks sees that for all handles.
 *
 * Owns: the shards' tables and the caches, all but first tables from mmap. Caches are recycled
 * by later threads and never unmapped, so that readers need no lock to walk
 * them. A handle that holds nothing has no entry.
 *
 * Lock order: registry, then shards in rising order. Neither is held while
 * anything allocates.
 */
#include "malloc_account.h"

#include "malloc_report.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SHARDS 32         /* few threads ever meet in one */
#define MIN_CAPACITY 128u /* entries of a first table */

struct shard {
	pthread_mutex_t lock;
	struct malloc_account *table; /* linear probing; handle 0 is an empty place */
	size_t capacity;              /* a power of two, or 0 */
	size_t used;
	int64_t bytes; /* sums over the table */
	int64_t blocks;
} __attribute__((aligned(64)));

/* Stands in for the cache of threads without one; never written. */
static struct malloc_account_cache no_cache;

__thread struct malloc_account_cache *malloc_account_tls
    __attribute__((tls_model("initial-exec"))) = &no_cache;
/* Has a cache, or is getting one, or has had one: a thread gets one once. */
static __thread bool was_attached __attribute__((tls_model("initial-exec")));

static struct shard shards[SHARDS] = {[0 ... SHARDS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};
/* The tables that shards begin with, so that small nodes need no memory for accounts. */
static struct malloc_account first_tables[SHARDS][MIN_CAPACITY];

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct malloc_account_cache *) all_caches; /* grows only */
static struct malloc_account_cache *free_caches;          /* under registry */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;
static bool has_exit_key; /* written under once */

/*------------------------------------------------------------------ memory */

/* What is mapped; relaxed: only a figure. */
static _Atomic(size_t) mapped;

size_t
malloc_account_overhead(void) {
	return atomic_load_explicit(&mapped, memory_order_relaxed);
}

static _Noreturn void
end_of_memory(void) {
	malloc_report("xmalloc: Out of memory for the accounts");
	abort();
}

/* NULL when memory has ended. */
static void *
pages_alloc(size_t bytes) {
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		return NULL;
	}
	atomic_fetch_add_explicit(&mapped, bytes, memory_order_relaxed);
	return p;
}

static void
pages_free(void *p, size_t bytes) {
	if (p != NULL) {
		munmap(p, bytes);
		atomic_fetch_sub_explicit(&mapped, bytes, memory_order_relaxed);
	}
}

/*------------------------------------------------------------ shards: table */

static struct shard *
shard_of(uint32_t handle) {
	return &shards[handle % SHARDS];
}

/* The shard took the low bits; spread what is left (Knuth's multiplier). */
static size_t
home_of(const struct shard *s, uint32_t handle) {
	return (size_t)((handle / SHARDS * 2654435769u) >> 7) & (s->capacity - 1);
}

/* The place of handle, or the empty place where it belongs. */
static size_t
table_find(const struct shard *s, uint32_t handle) {
	size_t i = home_of(s, handle);
	while (s->table[i].handle != 0 && s->table[i].handle != handle) {
		i = (i + 1) & (s->capacity - 1);
	}
	return i;
}

/* Without memory the table stays as it is. */
static void
table_resize(struct shard *s, size_t capacity) {
	struct malloc_account *old = s->table;
	size_t old_capacity = s->capacity;
	struct malloc_account *table = pages_alloc(capacity * sizeof(*table));
	if (table == NULL) {
		return;
	}
	s->table = table;
	s->capacity = capacity;
	for (size_t i = 0; i < old_capacity; i++) {
		if (old[i].handle != 0) {
			s->table[table_find(s, old[i].handle)] = old[i];
		}
	}
	if (old != first_tables[s - shards]) {
		pages_free(old, old_capacity * sizeof(*old));
	}
}

/* Room for one entry more. */
static void
shard_grow(struct shard *s) {
	if (s->capacity == 0) {
		s->table = first_tables[s - shards];
		s->capacity = MIN_CAPACITY;
		return;
	}
	table_resize(s, s->capacity * 2);
	/* One place must stay empty: searching ends there. */
	if (s->used + 1 >= s->capacity) {
		end_of_memory();
	}
}

/* Empties place i and moves later entries of the same run back over it. */
static void
table_remove(struct shard *s, size_t i) {
	size_t mask = s->capacity - 1;
	for (size_t j = (i + 1) & mask; s->table[j].handle != 0; j = (j + 1) & mask) {
		size_t home = home_of(s, s->table[j].handle);
		if (((j - home) & mask) >= ((j - i) & mask)) {
			s->table[i] = s->table[j];
			i = j;
		}
	}
	s->table[i] = (struct malloc_account){0};
	s->used--;
	if (s->capacity > MIN_CAPACITY && s->used < s->capacity / 8) {
		table_resize(s, s->capacity / 4);
	}
}

/* Under s->lock. */
static void
shard_add(struct shard *s, uint32_t handle, int64_t bytes, int64_t blocks) {
	if (s->used * 4 >= s->capacity * 3) {
		shard_grow(s);
	}
	size_t i = table_find(s, handle);
	struct malloc_account *e = &s->table[i];
	if (e->handle == 0) {
		e->handle = handle;
		s->used++;
	}
	e->bytes += bytes;
	e->blocks += blocks;
	s->bytes += bytes;
	s->blocks += blocks;
	if (e->bytes == 0 && e->blocks == 0) {
		table_remove(s, i);
	}
}

static void
shard_charge(uint32_t handle, int64_t bytes, int64_t blocks) {
	struct shard *s = shard_of(handle);
	pthread_mutex_lock(&s->lock);
	shard_add(s, handle, bytes, blocks);
	pthread_mutex_unlock(&s->lock);
}

static void
lock_all_shards(void) {
	for (int i = 0; i < SHARDS; i++) {
		pthread_mutex_lock(&shards[i].lock);
	}
}

static void
unlock_all_shards(void) {
	for (int i = SHARDS - 1; i >= 0; i--) {
		pthread_mutex_unlock(&shards[i].lock);
	}
}

/*------------------------------------------------------------------- slots */

/* Moves the slot's figures to the table and tags it with handle (0: free).
 * Only the thread that the cache belongs to calls it. */
static void
slot_retag(struct malloc_account_slot *slot, uint32_t handle) {
	uint32_t old = atomic_load_explicit(&slot->handle, memory_order_relaxed);
	int64_t bytes = atomic_load_explicit(&slot->bytes, memory_order_relaxed);
	int64_t blocks = atomic_load_explicit(&slot->blocks, memory_order_relaxed);
	struct shard *s = old == 0 ? NULL : shard_of(old);
	if (s != NULL) {
		pthread_mutex_lock(&s->lock);
		if (bytes != 0 || blocks != 0) {
			shard_add(s, old, bytes, blocks);
		}
	}
	atomic_store_explicit(&slot->bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&slot->blocks, 0, memory_order_relaxed);
	/* Release: pairs with the acquire in slot_read; a reader that sees the new
	 * tag must not see the old figures. */
	atomic_store_explicit(&slot->handle, handle, memory_order_release);
	if (s != NULL) {
		pthread_mutex_unlock(&s->lock);
	}
}

/* The slot's figures, or handle 0. The caller holds the lock of the shard that
 * it wants figures of, so a tag of that shard stays while we look. */
static struct malloc_account
slot_read(const struct malloc_account_slot *slot) {
	struct malloc_account a = {0};
	a.handle = atomic_load_explicit(&slot->handle, memory_order_acquire);
	if (a.handle != 0) {
		a.bytes = atomic_load_explicit(&slot->bytes, memory_order_relaxed);
		a.blocks = atomic_load_explicit(&slot->blocks, memory_order_relaxed);
	}
	return a;
}

/*----------------------------------------------------------------- threads */

static struct malloc_account_cache *
first_cache(void) {
	/* Acquire: pairs with the release in cache_take. */
	return atomic_load_explicit(&all_caches, memory_order_acquire);
}

/* NULL when memory has ended. */
static struct malloc_account_cache *
cache_take(void) {
	pthread_mutex_lock(&registry);
	struct malloc_account_cache *c = free_caches;
	if (c != NULL) {
		free_caches = c->next_free;
	} else if ((c = pages_alloc(sizeof(*c))) != NULL) {
		c->next = atomic_load_explicit(&all_caches, memory_order_relaxed);
		/* Release: pairs with the acquire in first_cache. */
		atomic_store_explicit(&all_caches, c, memory_order_release);
	}
	pthread_mutex_unlock(&registry);
	return c;
}

/* The thread ends. Whatever it still allocates or frees afterwards (other
 * destructors, the C library's own) is charged to the table directly. */
static void
thread_detach(void *arg) {
	struct malloc_account_cache *c = arg;
	malloc_account_tls = &no_cache;
	for (int i = 0; i < MALLOC_ACCOUNT_SLOTS; i++) {
		if (atomic_load_explicit(&c->slot[i].handle, memory_order_relaxed) != 0) {
			slot_retag(&c->slot[i], 0);
		}
	}
	pthread_mutex_lock(&registry);
	c->next_free = free_caches;
	free_caches = c;
	pthread_mutex_unlock(&registry);
}

static void
fork_prepare(void) {
	pthread_mutex_lock(&registry);
	lock_all_shards();
}

static void
fork_done(void) {
	unlock_all_shards();
	pthread_mutex_unlock(&registry);
}

static void
init_once(void) {
	/* A child keeps the figures of threads that it does not have: their blocks
	 * are in its memory too. */
	pthread_atfork(fork_prepare, fork_done, fork_done);
	has_exit_key = pthread_key_create(&exit_key, thread_detach) == 0;
}

/* Gives this thread a cache. The calls below may allocate; was_attached keeps
 * that from coming here again. */
static void
thread_attach(void) {
	was_attached = true;
	pthread_once(&once, init_once);
	if (!has_exit_key) {
		return; /* no way to learn of its end: stay without */
	}
	struct malloc_account_cache *c = cache_take();
	if (c == NULL) {
		return;
	}
	if (pthread_setspecific(exit_key, c) != 0) {
		thread_detach(c);
		return;
	}
	malloc_account_tls = c;
}

void
malloc_account_add(uint32_t handle, int64_t bytes, int64_t blocks) {
	if (malloc_account_try_add(handle, bytes, blocks)) {
		return;
	}
	if (!was_attached) {
		thread_attach();
	}
	struct malloc_account_cache *c = malloc_account_tls;
	if (c == &no_cache) {
		shard_charge(handle, bytes, blocks);
		return;
	}
	/* Attaching may have tagged the slot already. */
	struct malloc_account_slot *slot = &c->slot[handle % MALLOC_ACCOUNT_SLOTS];
	if (atomic_load_explicit(&slot->handle, memory_order_relaxed) != handle) {
		slot_retag(slot, handle);
	}
	malloc_account_try_add(handle, bytes, blocks);
}

/*----------------------------------------------------------------- reading */

struct malloc_account
malloc_account_of(uint32_t handle) {
	struct malloc_account sum = {.handle = handle};
	struct shard *s = shard_of(handle);
	pthread_mutex_lock(&s->lock);
	if (s->capacity != 0) {
		const struct malloc_account *e = &s->table[table_find(s, handle)];
		sum.bytes = e->bytes;
		sum.blocks = e->blocks;
	}
	for (struct malloc_account_cache *c = first_cache(); c != NULL; c = c->next) {
		struct malloc_account a = slot_read(&c->slot[handle % MALLOC_ACCOUNT_SLOTS]);
		if (a.handle == handle) {
			sum.bytes += a.bytes;
			sum.blocks += a.blocks;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return sum;
}

struct malloc_account
malloc_account_total(void) {
	struct malloc_account sum = {0};
	lock_all_shards();
	for (int i = 0; i < SHARDS; i++) {
		sum.bytes += shards[i].bytes;
		sum.blocks += shards[i].blocks;
	}
	for (struct malloc_account_cache *c = first_cache(); c != NULL; c = c->next) {
		for (int i = 0; i < MALLOC_ACCOUNT_SLOTS; i++) {
			struct malloc_account a = slot_read(&c->slot[i]);
			sum.bytes += a.bytes;
			sum.blocks += a.blocks;
		}
	}
	unlock_all_shards();
	return sum;
}

/* A growing array on pages of its own. */
struct listing {
	struct malloc_account *line;
	size_t n;
	size_t capacity;
};

static void
listing_push(struct listing *l, struct malloc_account a) {
	if (l->n == l->capacity) {
		size_t capacity = l->capacity == 0 ? 512 : l->capacity * 2;
		struct malloc_account *line = pages_alloc(capacity * sizeof(*line));
		if (line == NULL) {
			end_of_memory();
		}
		if (l->n > 0) {
			memcpy(line, l->line, l->n * sizeof(*line));
		}
		pages_free(l->line, l->capacity * sizeof(*line));
		l->line = line;
		l->capacity = capacity;
	}
	l->line[l->n++] = a;
}

static void
listing_collect(struct listing *l, struct shard *s) {
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->capacity; i++) {
		if (s->table[i].handle != 0) {
			listing_push(l, s->table[i]);
		}
	}
	for (struct malloc_account_cache *c = first_cache(); c != NULL; c = c->next) {
		for (int i = (int)(s - shards); i < MALLOC_ACCOUNT_SLOTS; i += SHARDS) {
			struct malloc_account a = slot_read(&c->slot[i]);
			if (a.bytes != 0 || a.blocks != 0) {
				listing_push(l, a);
			}
		}
	}
	pthread_mutex_unlock(&s->lock);
}
_Static_assert(MALLOC_ACCOUNT_SLOTS % SHARDS == 0, "a slot must belong to one shard");

static int
compare_handles(const void *a, const void *b) {
	uint32_t ha = ((const struct malloc_account *)a)->handle;
	uint32_t hb = ((const struct malloc_account *)b)->handle;
	return (ha > hb) - (ha < hb);
}

/* Adds up the lines of one handle and leaves out those that hold nothing. */
static void
listing_merge(struct listing *l) {
	qsort(l->line, l->n, sizeof(*l->line), compare_handles);
	size_t out = 0;
	for (size_t i = 0; i < l->n;) {
		struct malloc_account sum = l->line[i++];
		while (i < l->n && l->line[i].handle == sum.handle) {
			sum.bytes += l->line[i].bytes;
			sum.blocks += l->line[i].blocks;
			i++;
		}
		if (sum.bytes != 0 || sum.blocks != 0) {
			l->line[out++] = sum;
		}
	}
	l->n = out;
}

size_t
malloc_account_list(struct malloc_account **list) {
	struct listing l = {0};
	for (int i = 0; i < SHARDS; i++) {
		listing_collect(&l, &shards[i]);
	}
	if (l.n > 0) {
		listing_merge(&l);
	}
	/* An exact copy, so that the length alone tells how much to unmap. */
	*list = NULL;
	if (l.n > 0) {
		*list = pages_alloc(l.n * sizeof(**list));
		if (*list == NULL) {
			end_of_memory();
		}
		memcpy(*list, l.line, l.n * sizeof(**list));
	}
	pages_free(l.line, l.capacity * sizeof(*l.line));
	return l.n;
}

void
malloc_account_list_free(struct malloc_account *list, size_t n) {
	pages_free(list, n * sizeof(*list));
}
