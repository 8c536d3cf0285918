/*
 * Each thread has a slot with the epoch it entered at, 0 outside sections.
 *
 * Correctness rests on one total order: entering is a sequentially consistent
 * store to the slot before the look-up, retiring is a sequentially consistent
 * increment after the unlinking. So either the scan in epoch_passed sees the
 * section, or the section's look-ups see the unlinking. Look-ups of retired
 * things must therefore be sequentially consistent loads, and unlinking a
 * sequentially consistent store.
 */
#include "epoch.h"

#include "malloc_hook.h"
#include "platform.h"
#include "skynet_malloc.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

struct slot {
	_Alignas(64) _Atomic(uint64_t) entered;
	atomic_bool is_taken;
	struct slot *next; /* set before the slot is published */
};

/* 1: so that 0 can mean "outside". */
static _Atomic(uint64_t) global = 1;
/* Every slot ever made; slots of ended threads are taken again. */
static _Atomic(struct slot *) slots;

static __thread struct slot *mine;
static __thread unsigned depth;

static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;

static void
thread_ends(void *ud) {
	struct slot *s = ud;

	/* Release: pairs with the exchange in take_slot. */
	atomic_store_explicit(&s->is_taken, false, memory_order_release);
	mine = NULL;
}

static void
make_exit_key(void) {
	pthread_key_create(&exit_key, thread_ends);
}

/* A slot that an ended thread left, or NULL. */
static struct slot *
take_slot(void) {
	struct slot *s;

	/* Acquire: pairs with the release in new_slot. */
	for (s = atomic_load_explicit(&slots, memory_order_acquire); s; s = s->next) {
		if (!atomic_load_explicit(&s->is_taken, memory_order_relaxed) &&
		    !atomic_exchange_explicit(&s->is_taken, true, memory_order_acquire)) {
			return s;
		}
	}
	return NULL;
}

static struct slot *
new_slot(void) {
	uint32_t owner = malloc_owner();
	struct slot *s;

	malloc_set_owner(0);
	s = skynet_memalign(_Alignof(struct slot), sizeof(*s));
	malloc_set_owner(owner);
	atomic_init(&s->entered, 0);
	atomic_init(&s->is_taken, true);
	s->next = atomic_load_explicit(&slots, memory_order_relaxed);
	/* Release and sequentially consistent: a scan that misses the slot comes
	   before the first section of its thread. */
	while (!atomic_compare_exchange_weak(&slots, &s->next, s)) {
	}
	return s;
}

static void
register_thread(void) {
	pthread_once(&exit_once, make_exit_key);
	mine = take_slot();
	if (mine == NULL) {
		mine = new_slot();
	}
	pthread_setspecific(exit_key, mine);
}

void
epoch_enter(void) {
	if (depth++ > 0) {
		return;
	}
	if (mine == NULL) {
		register_thread();
	}
	/* Relaxed: an old value only makes writers wait longer. */
	uint64_t e = atomic_load_explicit(&global, memory_order_relaxed);
	atomic_store(&mine->entered, e);
}

void
epoch_exit(void) {
	assert(depth > 0);
	if (--depth == 0) {
		/* Release: pairs with the load in epoch_passed; what the section
		   read is read before the object is freed. */
		atomic_store_explicit(&mine->entered, 0, memory_order_release);
	}
}

uint64_t
epoch_retire(void) {
	return atomic_fetch_add(&global, 1) + 1;
}

bool
epoch_passed(uint64_t epoch) {
	struct slot *s;

	for (s = atomic_load(&slots); s; s = s->next) {
		uint64_t entered = atomic_load(&s->entered);
		if (entered != 0 && entered < epoch) {
			return false;
		}
	}
	return true;
}

void
epoch_wait(uint64_t epoch) {
	/* Sections last well under a microsecond unless their thread lost its
	   CPU, in which case giving ours up is what helps. */
	enum { TRIES = 32 };
	int i;

	assert(depth == 0);
	for (i = 0; !epoch_passed(epoch); i++) {
		if (i < TRIES) {
			platform_cpu_relax();
		} else {
			platform_yield();
		}
	}
}
