/*
 * Processes that share memory: which one this is, whether another lives, and a
 * mutex that outlives the process that holds it. Owns nothing; any thread.
 *
 * Ids are those of one process namespace: processes of different ones must not
 * share what is built on them.
 */
#ifndef PLATFORM_PROCESS_H
#define PLATFORM_PROCESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

/* The id of this process, also after a fork; 0 before the first call of
 * platform_process_init. For loops in which a system call would cost too much. */
extern _Atomic(pid_t) platform_process_id;

/* Fills platform_process_id in, now and in children. Any number of times. False
 * when there is no memory. */
bool platform_process_init(void);

/* Whether the process is dead for certain, collected by its parent or not. An id
 * that was given to another process since then counts as alive. */
bool platform_process_is_dead(pid_t pid);

/* A mutex in memory that processes share. False when the system has none. */
bool platform_shared_mutex_init(pthread_mutex_t *m);

/*
 * Locks. 0; or EOWNERDEAD: locked, but the holder before died, and what the mutex
 * guards may be half changed. Mend that and call platform_shared_mutex_mended
 * before the unlock; else, and ever after, ENOTRECOVERABLE: not locked. Where the
 * system has no robust mutexes (macOS) a death is not seen, and this waits.
 */
int platform_shared_mutex_lock(pthread_mutex_t *m);
void platform_shared_mutex_mended(pthread_mutex_t *m);

#endif
