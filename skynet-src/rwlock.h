/*
 * A reader/writer lock for third-party C modules, over the POSIX one. Readers
 * and writers block instead of spinning. Not recursive.
 */
#ifndef SKYNET_RWLOCK_H
#define SKYNET_RWLOCK_H

#include <pthread.h>

struct rwlock {
	pthread_rwlock_t lock;
};

static inline void
rwlock_init(struct rwlock *lock) {
	pthread_rwlock_init(&lock->lock, NULL);
}

static inline void
rwlock_rlock(struct rwlock *lock) {
	pthread_rwlock_rdlock(&lock->lock);
}

static inline void
rwlock_runlock(struct rwlock *lock) {
	pthread_rwlock_unlock(&lock->lock);
}

static inline void
rwlock_wlock(struct rwlock *lock) {
	pthread_rwlock_wrlock(&lock->lock);
}

static inline void
rwlock_wunlock(struct rwlock *lock) {
	pthread_rwlock_unlock(&lock->lock);
}

#endif
