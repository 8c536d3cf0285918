/*
 * DESIGN. Each slice has a header with a link and a mark: FREE, or IN_USE mixed
 * with the pool's address, so that a foreign pointer is told from a slice without
 * a search. Freed slices are a list; slices that were never used are cut off the
 * newest block, only when the list is empty. So the number of slices ever cut is
 * the high-water mark, and creating a pool touches none of them.
 *
 * A list is counted by its slices: the mark of a free one holds how many slices
 * the list has from it on. A counter beside the head would be read, changed and
 * written by each call, and each would wait for the one before (5 of 8 ns).
 *
 * A pool for one thread keeps its list where pool_fast.h sees it; that of a pool
 * for many is in `shared`, and the other stays empty: one test picks the path.
 *
 * A pool for many threads has list and block under a mutex, and a stock for each
 * thread number. Numbers are small, dense and passed on when a thread ends, with
 * what is in the stock. A stock that runs over or dry exchanges half of what it
 * can hold at once. Threads with higher numbers than there are stocks use the
 * shared list.
 *
 * A shared pool has no stocks, and one block. A slice changes its mark and its
 * place under the lock, so that after the death of a process that held the lock
 * the marks alone tell what the list is, which is then made anew (mend).
 *
 * Owns: its blocks of slices. Invariant: a slice that was ever cut is in use, or
 * on the shared list, or in one stock.
 */
#include "pool_fixed.h"

#include "platform_process.h"
#include "pool_internal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define STOCKS 64
/* A slice that a checked build is freeing: not in use, on no list yet. */
#define MARK_CLAIMED ((uint64_t)0x0dead00d)
#define MAX_STOCK 256 /* slices a stock may hold: a burst of a busy service */
#define SHARE 32      /* of a pool that cannot grow, a stock holds 1/SHARE */

/* Kept out of the fast paths, which then need not save registers. */
#define SLOW __attribute__((noinline))

struct chunk {
	struct chunk *next;
};

/* The slices one thread has at hand. Only that thread changes it; pool_stats
 * reads the number. */
struct stock {
	_Alignas(64) struct pool_slice *list;
	atomic_size_t n;
};

struct fixed {
	struct pool head;
	/* With POOL_THREADS under the lock, down to chunks. */
	struct pool_slice *shared; /* freed; of a pool for one thread they are in `fast` */
	char *fresh;               /* the next slice of the newest block, up to fresh_end */
	char *fresh_end;
	size_t cut; /* slices ever cut: the high-water mark */
	struct chunk *chunks;
	struct stock *stocks; /* STOCKS of them, or NULL */
	void *stock_memory;   /* as drawn */
	size_t stock_limit;
	size_t slice_size; /* usable bytes */
	size_t stride;     /* header, slice and guard */
	size_t batch;      /* slices per block */
	atomic_size_t slices;
	bool is_lent; /* the first chunk is the caller's memory */
	pthread_mutex_t lock;
};

static struct fixed *
fixed_of(struct pool *pool) {
	return (struct fixed *)pool;
}

static bool
is_threaded(const struct fixed *f) {
	return (f->head.flags & (POOL_THREADS | POOL_SHARED)) != 0;
}

static uint64_t
mark_in_use(const struct fixed *f) {
	return (uintptr_t)f ^ POOL_MARK_IN_USE;
}

static bool mend(struct pool *pool);

/* False with errno for a broken pool only, which is a shared one. */
static bool
lock(struct fixed *f) {
	if (f->head.arena) {
		return pool_lock(&f->head, &f->lock, mend);
	}
	if (is_threaded(f)) {
		pthread_mutex_lock(&f->lock);
	}
	return true;
}

static void
unlock(struct fixed *f) {
	if (is_threaded(f)) {
		pthread_mutex_unlock(&f->lock);
	}
}

/*------------------------------------------------------------- thread numbers */

/* Small numbers for threads, passed on when a thread ends. */
static struct {
	pthread_mutex_t lock;
	uint64_t used; /* bit set of STOCKS */
} numbers = {.lock = PTHREAD_MUTEX_INITIALIZER};
_Static_assert(STOCKS == 64, "a number is a bit");

static pthread_once_t number_once = PTHREAD_ONCE_INIT;
static pthread_key_t number_key;
static bool has_number_key;

/* The number plus 1; 0 not asked for yet; beyond STOCKS: has none. */
static __thread unsigned my_number __attribute__((tls_model("initial-exec")));

#define NO_NUMBER (STOCKS + 1)

static void
number_give(void *arg) {
	unsigned n = (unsigned)(uintptr_t)arg - 1;

	my_number = NO_NUMBER;
	pthread_mutex_lock(&numbers.lock);
	numbers.used &= ~((uint64_t)1 << n);
	pthread_mutex_unlock(&numbers.lock);
}

static void
number_init(void) {
	has_number_key = pthread_key_create(&number_key, number_give) == 0;
}

/* The mutex orders what the last holder of the number did to its stocks. */
static SLOW unsigned
number_take(void) {
	unsigned n = STOCKS;

	pthread_once(&number_once, number_init);
	pthread_mutex_lock(&numbers.lock);
	if (has_number_key && ~numbers.used != 0) {
		n = (unsigned)__builtin_ctzll(~numbers.used);
		numbers.used |= (uint64_t)1 << n;
	}
	pthread_mutex_unlock(&numbers.lock);
	my_number = n + 1;
	if (n < STOCKS && pthread_setspecific(number_key, (void *)(uintptr_t)my_number) != 0) {
		number_give((void *)(uintptr_t)my_number);
	}
	return my_number;
}

/* The calling thread's stock, or NULL. */
static inline struct stock *
my_stock(struct fixed *f) {
	if (f->stocks == NULL) {
		return NULL;
	}
	unsigned n = my_number ? my_number : number_take();
	return n <= STOCKS ? &f->stocks[n - 1] : NULL;
}

/*--------------------------------------------------------------------- slices */

static void *
user_of(struct pool_slice *s) {
	return s + 1;
}

static struct pool_slice *
slice_of(void *p) {
	return (struct pool_slice *)p - 1;
}

static char *
first_slice(struct chunk *c) {
	return (char *)c + pool_round(sizeof(*c), POOL_ALIGN);
}

/* Makes a new block the one that slices are cut off. */
static void
add_chunk(struct fixed *f, struct chunk *c) {
	c->next = f->chunks;
	f->chunks = c;
	f->fresh = first_slice(c);
	f->fresh_end = f->fresh + f->batch * f->stride;
	atomic_fetch_add_explicit(&f->slices, f->batch, memory_order_relaxed);
}

static size_t
stride_of(size_t slice_size) {
	return pool_round(sizeof(struct pool_slice) + slice_size + (POOL_IS_CHECKED ? 1 : 0),
	                  POOL_ALIGN);
}

size_t
pool_fixed_footprint(size_t slice_size, size_t slices) {
	size_t bytes;

	if (slice_size > PTRDIFF_MAX / 2 ||
	    __builtin_mul_overflow(stride_of(slice_size), slices, &bytes) || bytes > PTRDIFF_MAX / 2) {
		return 0;
	}
	return pool_round(sizeof(struct chunk), POOL_ALIGN) + bytes;
}

static bool
grow(struct fixed *f) {
	struct chunk *c = pool_draw(&f->head, pool_fixed_footprint(f->slice_size, f->batch));

	if (c == NULL) {
		return false;
	}
	add_chunk(f, c);
	return true;
}

/* The list is empty: a slice that was never used. Under the lock, if there is one. */
static struct pool_slice *
cut(struct fixed *f) {
	if (f->fresh == f->fresh_end && !((f->head.flags & POOL_GROWABLE) && grow(f))) {
		return NULL;
	}
	struct pool_slice *s = (struct pool_slice *)f->fresh;
	if (POOL_IS_CHECKED) {
		memset(user_of(s), POOL_POISON, f->stride - sizeof(*s));
	}
	pool_set_mark(s, POOL_MARK_FREE);
	POOL_STEP();
	f->fresh += f->stride;
	f->cut++;
	return s;
}

/* Of a pool for many threads, under the lock. */
static struct pool_slice *
shared_pop(struct fixed *f) {
	struct pool_slice *s = f->shared;

	if (s == NULL) {
		return cut(f);
	}
	f->shared = s->next;
	return s;
}

/* Relaxed: one writer; readers want a number. */
static inline void
stock_count(struct stock *k) {
	atomic_store_explicit(&k->n, pool_list_length(k->list), memory_order_relaxed);
}

static SLOW void
stock_fill(struct fixed *f, struct stock *k) {
	lock(f);
	for (size_t n = 0; n < f->stock_limit / 2 + 1; n++) {
		struct pool_slice *s = shared_pop(f);
		if (s == NULL) {
			break;
		}
		pool_list_push(&k->list, s);
	}
	unlock(f);
}

static SLOW void
stock_drain(struct fixed *f, struct stock *k) {
	lock(f);
	for (size_t n = f->stock_limit / 2; n > 0; n--) {
		struct pool_slice *s = k->list;
		k->list = s->next;
		pool_list_push(&f->shared, s);
	}
	unlock(f);
}

static inline struct pool_slice *
stock_pop(struct fixed *f, struct stock *k) {
	if (k->list == NULL) {
		stock_fill(f, k);
	}
	struct pool_slice *s = k->list;
	if (s) {
		k->list = s->next;
		stock_count(k);
	}
	return s;
}

static inline void
stock_push(struct fixed *f, struct stock *k, struct pool_slice *s) {
	if (pool_list_length(k->list) >= f->stock_limit) {
		stock_drain(f, k);
	}
	pool_list_push(&k->list, s);
	stock_count(k);
}

/*---------------------------------------------------------------- alloc, free */

static void
check_untouched(struct fixed *f, struct pool_slice *s) {
	if (!pool_is_filled(user_of(s), POOL_POISON, f->slice_size)) {
		pool_complain(&f->head, "write to a freed slice", user_of(s));
	}
}

static SLOW void
push_locked(struct fixed *f, struct pool_slice *s) {
	if (lock(f)) {
		pool_list_push(&f->shared, s);
		unlock(f);
	}
}

static inline void *
hand_out(struct fixed *f, struct pool_slice *s) {
	if (POOL_IS_CHECKED) {
		check_untouched(f, s);
		memset(user_of(s), POOL_GUARD, f->stride - sizeof(*s));
	}
	POOL_STEP();
	pool_set_mark(s, mark_in_use(f));
	return user_of(s);
}

static SLOW void *
alloc_locked(struct fixed *f) {
	if (!lock(f)) {
		return NULL;
	}
	struct pool_slice *s = shared_pop(f);
	POOL_STEP();
	void *p = s ? hand_out(f, s) : NULL;
	unlock(f);
	if (p == NULL) {
		errno = ENOMEM;
	}
	return p;
}

/* A pool for many threads, or one whose list is empty. */
static SLOW void *
alloc_elsewhere(struct fixed *f) {
	struct stock *k = my_stock(f);

	if (k == NULL && is_threaded(f)) {
		return alloc_locked(f);
	}
	struct pool_slice *s = k ? stock_pop(f, k) : cut(f);
	if (s == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	return hand_out(f, s);
}

void *
pool_fixed_alloc(struct pool *pool) {
	struct fixed *f = fixed_of(pool);
	struct pool_slice *s = f->head.fast.list;

	if (s == NULL) {
		return alloc_elsewhere(f);
	}
	f->head.fast.list = s->next;
	return hand_out(f, s);
}

/* Whether the slice is ours to free; it is pushed on a list next, which marks it.
 * Two threads that free one slice at the same instant are told apart in checked
 * builds only: the atomic exchange would double the cost. */
static inline bool
claim(struct fixed *f, struct pool_slice *s) {
	if (POOL_IS_CHECKED) {
		uint64_t in_use = mark_in_use(f);
		return atomic_compare_exchange_strong_explicit(&s->mark, &in_use, MARK_CLAIMED,
		                                               memory_order_relaxed, memory_order_relaxed);
	}
	return pool_mark_of(s) == mark_in_use(f);
}

static void
check_overrun(struct fixed *f, void *p) {
	size_t room = f->stride - sizeof(struct pool_slice);

	if (!pool_is_filled((char *)p + f->slice_size, POOL_GUARD, room - f->slice_size)) {
		pool_complain(&f->head, "overrun", p);
	}
	memset(p, POOL_POISON, room);
}

static SLOW void
refuse(struct pool *pool, void *p) {
	uint32_t mark = (uintptr_t)p % POOL_ALIGN == 0 ? (uint32_t)pool_mark_of(slice_of(p)) : 0;
	bool is_free = mark == POOL_MARK_FREE || mark == MARK_CLAIMED;

	pool_complain(pool, is_free ? "double free" : "free of a foreign pointer", p);
}

static SLOW void
push_threaded(struct fixed *f, struct pool_slice *s) {
	struct stock *k = my_stock(f);

	if (k) {
		stock_push(f, k, s);
	} else {
		push_locked(f, s);
	}
}

void
pool_fixed_free(struct pool *pool, void *p) {
	struct fixed *f = fixed_of(pool);
	struct pool_slice *s = slice_of(p);

	if ((uintptr_t)p % POOL_ALIGN != 0 || !claim(f, s)) {
		refuse(pool, p);
		return;
	}
	if (POOL_IS_CHECKED) {
		check_overrun(f, p);
	}
	if (is_threaded(f)) {
		push_threaded(f, s);
	} else {
		pool_list_push(&f->head.fast.list, s);
	}
}

/*------------------------------------------------------------------- deaths */

/* A process died under the lock of a shared pool: what its list was is told by the
 * marks of the slices. One that the process was putting there or taking off may
 * be on it or not; it was no other's. */
static bool
mend(struct pool *pool) {
	struct fixed *f = fixed_of(pool);
	char *first = first_slice(f->chunks);
	size_t done = (size_t)(f->fresh - first);

	if (f->fresh < first || f->fresh > f->fresh_end || done % f->stride != 0) {
		return false;
	}
	f->shared = NULL;
	f->cut = done / f->stride;
	for (char *at = first; at < f->fresh; at += f->stride) {
		struct pool_slice *s = (struct pool_slice *)at;
		if ((uint32_t)pool_mark_of(s) != POOL_MARK_FREE) {
			continue;
		}
		if (POOL_IS_CHECKED) {
			memset(user_of(s), POOL_POISON, f->stride - sizeof(*s));
		}
		pool_list_push(&f->shared, s);
	}
	return true;
}

/*------------------------------------------------------------------- the pool */

static void *
fixed_alloc(struct pool *pool, size_t size) {
	if (size == 0 || size > fixed_of(pool)->slice_size) {
		errno = size == 0 ? EINVAL : E2BIG;
		return NULL;
	}
	return pool_fixed_alloc(pool);
}

size_t
pool_fixed_slice_use(struct pool *pool) {
	struct fixed *f = fixed_of(pool);

	if (!lock(f)) {
		return 0;
	}
	size_t n = f->cut - pool_list_length(f->head.fast.list) - pool_list_length(f->shared);
	unlock(f);
	for (int i = 0; f->stocks && i < STOCKS; i++) {
		n -= atomic_load_explicit(&f->stocks[i].n, memory_order_relaxed);
	}
	return n;
}

size_t
pool_fixed_slice_num(const struct pool *pool) {
	return atomic_load_explicit(&((const struct fixed *)pool)->slices, memory_order_relaxed);
}

size_t
pool_fixed_slice_size(const struct pool *pool) {
	return ((const struct fixed *)pool)->slice_size;
}

/* With stocks, the peak counts what was in them as used. */
static void
fixed_stats(struct pool *pool, struct pool_stats *out) {
	struct fixed *f = fixed_of(pool);

	out->reserved = sizeof(*f) + pool_fixed_slice_num(pool) * f->stride;
	if (!lock(f)) {
		return;
	}
	out->peak = f->cut * f->slice_size;
	unlock(f);
	out->blocks = pool_fixed_slice_use(pool);
	out->used = out->blocks * f->slice_size;
}

static void
fixed_destroy(struct pool *pool) {
	struct fixed *f = fixed_of(pool);
	size_t footprint = pool_fixed_footprint(f->slice_size, f->batch);

	while (pool->arena == NULL && f->chunks) {
		struct chunk *next = f->chunks->next;
		/* The lent one is the first, and so the last on the list. */
		if (next || !f->is_lent) {
			pool_return(pool, f->chunks, footprint);
		}
		f->chunks = next;
	}
	if (pool->arena == NULL) {
		pthread_mutex_destroy(&f->lock);
		pool_return(pool, f->stock_memory, 0);
	}
	pool_discard(pool);
}

static const struct pool_ops fixed_ops = {
    .kind = "fixed",
    .alloc = fixed_alloc,
    .free = pool_fixed_free,
    .destroy = fixed_destroy,
    .stats = fixed_stats,
};

static bool
open_stocks(struct fixed *f) {
	size_t fit = f->batch / SHARE;
	size_t size = STOCKS * sizeof(struct stock) + alignof(struct stock);

	if (f->head.flags & POOL_GROWABLE) {
		fit = MAX_STOCK;
	}
	f->stock_limit = fit > MAX_STOCK ? MAX_STOCK : fit;
	if (f->stock_limit == 0) {
		return true;
	}
	f->stock_memory = pool_draw(&f->head, size);
	if (f->stock_memory == NULL) {
		return false;
	}
	memset(f->stock_memory, 0, size);
	f->stocks = (struct stock *)pool_round((uintptr_t)f->stock_memory, alignof(struct stock));
	return true;
}

static bool
init_lock(struct fixed *f) {
	return f->head.arena ? platform_shared_mutex_init(&f->lock)
	                     : pthread_mutex_init(&f->lock, NULL) == 0;
}

static bool
add_first(struct fixed *f, void *memory) {
	if (memory == NULL) {
		return grow(f);
	}
	f->is_lent = true;
	add_chunk(f, memory);
	return true;
}

struct pool *
pool_fixed_create(const struct pool_options *options, size_t slice_size, size_t slices,
                  void *memory) {
	bool is_shared = (options->flags & POOL_SHARED) != 0;

	if (slice_size == 0 || slices == 0 || pool_fixed_footprint(slice_size, slices) == 0 ||
	    (is_shared && (memory || (options->flags & POOL_GROWABLE)))) {
		errno = EINVAL;
		return NULL;
	}
	struct fixed *f = pool_create(&fixed_ops, options, sizeof(*f));
	if (f == NULL) {
		return NULL;
	}
	f->slice_size = slice_size;
	f->stride = stride_of(slice_size);
	f->batch = slices;
	f->head.fast.in_use = is_threaded(f) ? ~mark_in_use(f) : mark_in_use(f);
	bool wants_stocks = (options->flags & POOL_THREADS) && !is_shared;
	if (!init_lock(f) || (wants_stocks && !open_stocks(f)) || !add_first(f, memory)) {
		fixed_destroy(&f->head);
		errno = ENOMEM;
		return NULL;
	}
	return &f->head;
}
