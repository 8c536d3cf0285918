/*
 * Who owns how much memory: exact byte and block counts for every handle, any
 * number of them, summed on demand.
 *
 * It knows nothing of allocators; malloc_hook.c tells it about each block. It
 * never calls malloc itself (its tables come from mmap), so it may be used from
 * inside an allocator, before main and while a thread ends.
 *
 * Any thread may call anything here.
 */
#ifndef MALLOC_ACCOUNT_H
#define MALLOC_ACCOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What belongs to no service (foreign threads, start-up) is charged to this. */
#define MALLOC_ACCOUNT_PROCESS 0xffffffffu

/* One line of a listing. */
struct malloc_account {
	uint32_t handle;
	int64_t bytes;
	int64_t blocks;
};

/* Charges bytes and blocks (negative: credits) to handle, which is not 0. */
void malloc_account_add(uint32_t handle, int64_t bytes, int64_t blocks);

/* The fast path of the same: false when nothing was done and malloc_account_add
 * must be called. */
static inline bool malloc_account_try_add(uint32_t handle, int64_t bytes, int64_t blocks);

/* What handle holds now; both are 0 when nothing is known of it. */
struct malloc_account malloc_account_of(uint32_t handle);

/* The sum over all handles; .handle is 0. */
struct malloc_account malloc_account_total(void);

/*
 * All handles that hold something, in rising order. Gives an array (release it
 * with malloc_account_list_free) and returns its length; *list is NULL when
 * there is none. Each line is exact, but lines are not taken at one instant.
 */
size_t malloc_account_list(struct malloc_account **list);
void malloc_account_list_free(struct malloc_account *list, size_t n);

/* Bytes that the accounts themselves take. */
size_t malloc_account_overhead(void);

/*
 * Private part: what the inline function needs.
 *
 * Each thread has a direct-mapped cache of slots, written by that thread only
 * and read by anybody. A slot's handle changes only under the lock of the
 * shard that the slot belongs to (malloc_account.c).
 */
#define MALLOC_ACCOUNT_SLOTS 256 /* neighbouring handles never share a slot */

struct malloc_account_slot {
	_Atomic uint32_t handle; /* 0: free */
	_Atomic int64_t bytes;
	_Atomic int64_t blocks;
} __attribute__((aligned(32))); /* a shift finds it */

struct malloc_account_cache {
	struct malloc_account_slot slot[MALLOC_ACCOUNT_SLOTS];
	struct malloc_account_cache *next;      /* all caches; set before publishing */
	struct malloc_account_cache *next_free; /* under the registry lock */
};

/* The thread's cache; one whose slots are all free while it has none.
 * Initial-exec: an access is one instruction and can never allocate. */
extern __thread struct malloc_account_cache *malloc_account_tls
    __attribute__((tls_model("initial-exec")));

static inline bool
malloc_account_try_add(uint32_t handle, int64_t bytes, int64_t blocks) {
	struct malloc_account_slot *s = &malloc_account_tls->slot[handle % MALLOC_ACCOUNT_SLOTS];
	/* Relaxed, here and below: this thread is the only writer, so load and
	 * store need not be one operation. Readers want each word whole, not in
	 * step with others. */
	if (__builtin_expect(atomic_load_explicit(&s->handle, memory_order_relaxed) != handle, 0)) {
		return false;
	}
	int64_t b = atomic_load_explicit(&s->bytes, memory_order_relaxed);
	int64_t n = atomic_load_explicit(&s->blocks, memory_order_relaxed);
	atomic_store_explicit(&s->bytes, b + bytes, memory_order_relaxed);
	atomic_store_explicit(&s->blocks, n + blocks, memory_order_relaxed);
	return true;
}

#endif
