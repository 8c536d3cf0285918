/*
 * DESIGN. Work made by a worker stays with it: caller and callee run in turn on
 * one core, with warm caches and without a wake-up (a futex wake costs 5 us).
 * Work moves only to a worker that has nothing to do, and of those only one at
 * a time, the watcher, looks around:
 *
 *   busy  -> nothing left -> watching (spins, then naps) -> steals -> busy
 *                         -> asleep (no time limit) <- somebody else watches,
 *                                                      or nobody is busy
 *
 * The watcher takes from the inject list, from a queue with two or more
 * waiting, and from a queue whose only item has not moved since it looked
 * before the last nap (its worker is stuck in a long callback). So a pair that
 * calls each other stays together, and a service behind a long callback still
 * starts within a nap or two. When nobody has time to watch, busy workers look
 * at each other's queues every now and then, and rescue what is stuck.
 *
 * Sleeping, watching and waking are in scheduler_idle.c.
 */
#include "scheduler_impl.h"

#include "malloc_hook.h"
#include "platform.h"
#include "skynet_malloc.h"
#include "skynet_monitor.h"

#include <stddef.h>
#include <stdio.h>

/* Turns between two looks at the inject list. */
#define INJECT_INTERVAL 16
/* At most this many are moved from the inject list at once. */
#define INJECT_BATCH 64
/* Turns between two looks at a queue that may be stuck behind a callback. */
#define RESCUE_INTERVAL 64
/* A queue is stuck when its first item has not moved for this long. */
#define RESCUE_NS 100000
struct scheduler sched = {
    .inject_mutex = PTHREAD_MUTEX_INITIALIZER,
    .sleep_mutex = PTHREAD_MUTEX_INITIALIZER,
};

static __thread struct worker *current;

static const int worker_weights[] = {
    -1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
    2,  2,  2,  2,  2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3,
};

/*------------------------------------------------------------------- set-up */

int
scheduler_weight_of(int index) {
	const int known = (int)(sizeof(worker_weights) / sizeof(worker_weights[0]));

	return index < known ? worker_weights[index] : 0;
}

static struct worker *
worker_new(int index) {
	struct worker *w = skynet_memalign(_Alignof(struct worker), sizeof(*w));

	runqueue_init(&w->queue);
	atomic_init(&w->signal, 0);
	atomic_init(&w->polling, 0);
	w->is_serving = false;
	w->index = index;
	w->weight = scheduler_weight_of(index);
	w->turn = 0;
	w->rests = 0;
	w->suspect = index;
	w->suspect_head = 0;
	w->suspect_ticks = 0;
	w->monitor = skynet_monitor_new();
	w->below = NULL;
	w->is_sleeping = false;
	w->is_seen = false;
	w->seen_head = 0;
	return w;
}

void
scheduler_init(int count) {
	int i;

	sched.workers = skynet_malloc((size_t)count * sizeof(*sched.workers));
	sched.count = count;
	atomic_store(&sched.is_stopping, false);
	atomic_store(&sched.watch, WATCH_NOBODY);
	atomic_store(&sched.sleeping, 0);
	sched.sleepers = NULL;
	for (i = 0; i < count; i++) {
		sched.workers[i] = worker_new(i);
	}
}

void
scheduler_exit(void) {
	int i;

	for (i = 0; i < sched.count; i++) {
		skynet_monitor_delete(sched.workers[i]->monitor);
		skynet_free(sched.workers[i]);
	}
	skynet_free(sched.workers);
	sched.workers = NULL;
	sched.count = 0;
	sched.inject_first = sched.inject_last = NULL;
	atomic_store(&sched.injected, 0);
}

void
scheduler_on_idle(int (*fn)(void *ud), void *ud) {
	sched.idle = fn;
	sched.idle_ud = ud;
}

void
scheduler_set_pollster(const struct scheduler_pollster *pollster) {
	sched.pollster = pollster;
}

void
scheduler_on_spare(bool (*fn)(void)) {
	sched.spare = fn;
}

void
scheduler_on_rouse(void (*fn)(void)) {
	sched.rouse = fn;
}

struct worker *
scheduler_current(void) {
	return current;
}

int
scheduler_weight(const struct worker *w) {
	return w->weight;
}

uint32_t
scheduler_rests(const struct worker *w) {
	return w->rests;
}

struct skynet_monitor *
scheduler_monitor(struct worker *w) {
	return w->monitor;
}

int
scheduler_count(void) {
	return sched.count;
}

struct skynet_monitor *
scheduler_monitor_at(int index) {
	return sched.workers[index]->monitor;
}

bool
scheduler_is_asleep(void) {
	return atomic_load(&sched.sleeping) == (uint32_t)sched.count;
}

/*-------------------------------------------------------------- inject list */

static void
inject(struct runnable *r) {
	r->next = NULL;
	pthread_mutex_lock(&sched.inject_mutex);
	if (sched.inject_last) {
		sched.inject_last->next = r;
	} else {
		sched.inject_first = r;
	}
	sched.inject_last = r;
	/* Sequentially consistent: see "Wake-ups". */
	atomic_fetch_add(&sched.injected, 1);
	pthread_mutex_unlock(&sched.inject_mutex);
}

static struct runnable *
inject_take(void) {
	struct runnable *r = sched.inject_first;

	if (r) {
		sched.inject_first = r->next;
		if (sched.inject_first == NULL) {
			sched.inject_last = NULL;
		}
		atomic_fetch_sub(&sched.injected, 1);
	}
	return r;
}

/* Move this worker's share of the inject list to the end of its queue. */
void
sched_pull(struct worker *w) {
	uint32_t n = atomic_load_explicit(&sched.injected, memory_order_relaxed);
	uint32_t room = RUNQUEUE_SIZE - runqueue_length(&w->queue);
	struct runnable *r;

	if (n == 0) {
		return;
	}
	n = n / (uint32_t)sched.count + 1;
	if (n > INJECT_BATCH) {
		n = INJECT_BATCH;
	}
	if (n > room) {
		n = room;
	}
	pthread_mutex_lock(&sched.inject_mutex);
	while (n-- > 0 && (r = inject_take()) != NULL) {
		runqueue_push(&w->queue, r);
	}
	pthread_mutex_unlock(&sched.inject_mutex);
}

/*
 * A busy worker's look at another one's queue: take from it if that worker has
 * not come to it for long. Looks at the same queue until it has moved.
 */
static struct runnable *
rescue(struct worker *w) {
	struct runqueue *q = &sched.workers[w->suspect]->queue;
	uint32_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
	uint64_t now = platform_ticks();

	if (w->suspect == w->index || runqueue_length(q) == 0 || head != w->suspect_head) {
		w->suspect = (w->suspect + 1) % sched.count;
		q = &sched.workers[w->suspect]->queue;
		w->suspect_head = atomic_load_explicit(&q->head, memory_order_relaxed);
		w->suspect_ticks = now;
		return NULL;
	}
	if (now - w->suspect_ticks < platform_ns_to_ticks(RESCUE_NS)) {
		return NULL;
	}
	return runqueue_steal(q, &w->queue);
}

/* Fetch what the oldest item begins with: by address, since it may be another's now. */
static void
fetch_ahead(struct worker *w) {
	const char *next = runqueue_peek(&w->queue);
	int i;

	for (i = 0; next != NULL && i < RUNNABLE_LINES; i++) {
		__builtin_prefetch(next + i * 64);
	}
}

struct runnable *
scheduler_next(struct worker *w) {
	struct runnable *r = NULL;

	if (++w->turn % INJECT_INTERVAL == 0) {
		sched_pull(w);
		if (w->turn % RESCUE_INTERVAL == 0 && (r = rescue(w)) != NULL) {
			return r;
		}
	}
	r = runqueue_pop(&w->queue);
	if (r == NULL && atomic_load_explicit(&sched.injected, memory_order_relaxed) > 0) {
		sched_pull(w);
		r = runqueue_pop(&w->queue);
	}
	fetch_ahead(w);
	return r;
}

bool
scheduler_has_waiting(struct worker *w) {
	uint32_t head = atomic_load_explicit(&w->queue.head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&w->queue.tail, memory_order_relaxed);

	return head != tail || atomic_load_explicit(&sched.injected, memory_order_relaxed) > 0;
}

/*
 * Whether the worker should keep to its own queue. While others wait in the
 * inject list, half a queue is enough: the rest goes behind those, or else they
 * would never find room.
 */
static bool
has_room(struct worker *w) {
	return atomic_load_explicit(&sched.injected, memory_order_relaxed) == 0 ||
	       runqueue_length(&w->queue) < RUNQUEUE_SIZE / 2;
}

void
scheduler_push(struct runnable *r) {
	struct worker *w = current;

	if (w && has_room(w) && runqueue_push(&w->queue, r)) {
		/* Sequentially consistent: see scheduler_idle.c. */
		if (!w->is_serving && atomic_load(&sched.watch) == WATCH_NOBODY &&
		    atomic_load(&sched.sleeping) > 0) {
			sched_rouse(false);
		}
		return;
	}
	inject(r);
	sched_rouse(true);
}

/*------------------------------------------------------------------ working */

void
scheduler_work(int index) {
	struct worker *w = sched.workers[index];
	char name[32];

	snprintf(name, sizeof(name), "worker-%d", index);
	platform_thread_name(name);
	current = w;
	/* Relaxed: a stop is also signalled to who sleeps. */
	while (!atomic_load_explicit(&sched.is_stopping, memory_order_relaxed)) {
		struct runnable *r;
		if (sched.pollster && w->turn % INJECT_INTERVAL == 0) {
			sched_glance(w);
		}
		r = scheduler_next(w);
		if (r == NULL) {
			r = sched_idle(w);
		}
		if (r) {
			r->run(r, w);
		}
	}
	current = NULL;
}

void
scheduler_wake_all(void) {
	int i;

	for (i = 0; i < sched.count; i++) {
		sched_signal(sched.workers[i]);
	}
}

void
scheduler_stop(void) {
	atomic_store(&sched.is_stopping, true);
	scheduler_wake_all();
}

void
scheduler_drain(void) {
	struct worker *before = current;
	bool is_found = true;
	int i;

	while (is_found && sched.count > 0) {
		is_found = false;
		for (i = 0; i < sched.count; i++) {
			struct runnable *r;
			current = sched.workers[i];
			while ((r = scheduler_next(current)) != NULL) {
				is_found = true;
				r->run(r, current);
			}
		}
	}
	current = before;
}
