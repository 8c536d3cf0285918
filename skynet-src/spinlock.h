/*
 * A lock for very short critical sections: nothing inside may block, allocate
 * or log. It spins briefly and then gives up the CPU between tries, so a
 * preempted owner does not burn the others' time. With USE_PTHREAD_LOCK it is
 * a mutex. Not recursive.
 */
#ifndef SKYNET_SPINLOCK_H
#define SKYNET_SPINLOCK_H

/* For a member named lock. Modules write these without a semicolon of their own. */
#define SPIN_INIT(q) spinlock_init(&(q)->lock);
#define SPIN_LOCK(q) spinlock_lock(&(q)->lock);
#define SPIN_UNLOCK(q) spinlock_unlock(&(q)->lock);
#define SPIN_DESTROY(q) spinlock_destroy(&(q)->lock);

#ifndef USE_PTHREAD_LOCK

#include <sched.h>
#include <stdatomic.h>

struct spinlock {
	atomic_int lock;
};

static inline void
spinlock_init(struct spinlock *lock) {
	atomic_init(&lock->lock, 0);
}

static inline int
spinlock_trylock(struct spinlock *lock) {
	return atomic_load_explicit(&lock->lock, memory_order_relaxed) == 0 &&
	       /* Acquire: pairs with the release in spinlock_unlock. */
	       !atomic_exchange_explicit(&lock->lock, 1, memory_order_acquire);
}

static inline void
spinlock_lock(struct spinlock *lock) {
	/* About a microsecond of trying, more than any section should last. */
	enum { TRIES = 64 };
	int i;

	for (;;) {
		for (i = 0; i < TRIES; i++) {
			if (spinlock_trylock(lock)) {
				return;
			}
#if defined(__x86_64__) || defined(__i386__)
			__builtin_ia32_pause();
#endif
		}
		sched_yield();
	}
}

static inline void
spinlock_unlock(struct spinlock *lock) {
	atomic_store_explicit(&lock->lock, 0, memory_order_release);
}

static inline void
spinlock_destroy(struct spinlock *lock) {
	(void)lock;
}

#else

#include <pthread.h>

struct spinlock {
	pthread_mutex_t lock;
};

static inline void
spinlock_init(struct spinlock *lock) {
	pthread_mutex_init(&lock->lock, NULL);
}

static inline int
spinlock_trylock(struct spinlock *lock) {
	return pthread_mutex_trylock(&lock->lock) == 0;
}

static inline void
spinlock_lock(struct spinlock *lock) {
	pthread_mutex_lock(&lock->lock);
}

static inline void
spinlock_unlock(struct spinlock *lock) {
	pthread_mutex_unlock(&lock->lock);
}

static inline void
spinlock_destroy(struct spinlock *lock) {
	pthread_mutex_destroy(&lock->lock);
}

#endif
#endif
