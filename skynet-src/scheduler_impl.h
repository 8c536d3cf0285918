/*
 * What scheduler.c and scheduler_idle.c share: the workers and the node-wide
 * state. Private to these two.
 */
#ifndef SCHEDULER_IMPL_H
#define SCHEDULER_IMPL_H

#include "runqueue.h"
#include "scheduler.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The executable exports its symbols, and modules have their own. */
#define SCHED_PRIVATE __attribute__((visibility("hidden")))

/* The word `watch`: (index + 1) << 2 | phase, or nobody. */
#define WATCH_NOBODY 0u
#define WATCH_SPINNING 1u /* will look before it stops; alone: on its way */
#define WATCH_NAPPING 2u  /* looks at the end of its nap */
#define WATCH_PHASE 3u

struct worker {
	struct runqueue queue;
	_Alignas(64) _Atomic(uint32_t) signal; /* changes to wake the worker */
	atomic_int polling; /* place in the pollster where it sleeps, from 1; 0 = none */
	bool is_serving;    /* this worker only: takes in, runs nothing yet */
	int index;
	int weight;
	uint32_t turn;  /* this worker only */
	uint32_t rests; /* the same: times it ran out of work */
	/* The same: whose queue it suspects to be stuck, at which item, since when. */
	int suspect;
	uint32_t suspect_head;
	uint64_t suspect_ticks;
	struct skynet_monitor *monitor;
	struct worker *below; /* in the stack of sleepers; under its mutex */
	bool is_sleeping;     /* the same */
	uint32_t seen_head;   /* the watcher only, whoever that is */
	bool is_seen;
};

struct scheduler {
	struct worker **workers; /* constant while threads run */
	int count;
	atomic_bool is_stopping;
	int (*idle)(void *ud);
	void *idle_ud;
	void (*rouse)(void);
	bool (*spare)(void);
	const struct scheduler_pollster *pollster;

	_Alignas(64) _Atomic(uint32_t) watch;
	_Atomic(uint32_t) sleeping; /* workers in the stack */
	_Atomic(uint32_t) injected; /* items in the inject list */

	_Alignas(64) pthread_mutex_t inject_mutex; /* the next two */
	struct runnable *inject_first;
	struct runnable *inject_last;

	_Alignas(64) pthread_mutex_t sleep_mutex; /* the stack */
	struct worker *sleepers;
};

extern struct scheduler sched SCHED_PRIVATE;

/* Move a worker's share of the inject list to the end of its queue. Its own. */
void sched_pull(struct worker *w) SCHED_PRIVATE;

/*
 * Something was queued: see that somebody is going to look, if anybody has
 * time. Unless it is urgent, a napping watcher may finish its nap. Any thread.
 */
void sched_rouse(bool is_urgent) SCHED_PRIVATE;

/* End the worker's present or next sleep. Any thread. */
void sched_signal(struct worker *w) SCHED_PRIVATE;

/* Nothing to run: find work, or sleep until there may be some. Its own. */
struct runnable *sched_idle(struct worker *w) SCHED_PRIVATE;

/* A busy worker takes in what is ready in the pollster. Its own. */
void sched_glance(struct worker *w) SCHED_PRIVATE;

#endif
