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
 * Wake-ups. Nobody may sleep through work. Every pusher publishes its item and
 * then reads `watch` and `sleeping`; every worker that stops looking publishes
 * that (leaves `watch`, counts itself in `sleeping`) and then reads the queues.
 * All of these are sequentially consistent, so at least one side sees the
 * other. A watcher rests only when all others sleep; when it leaves with work
 * in hand and there is more, it calls the next one.
 */
#include "scheduler.h"

#include "malloc_hook.h"
#include "nodepool.h"
#include "platform.h"
#include "runqueue.h"
#include "skynet_malloc.h"
#include "skynet_monitor.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
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
/* How long a watcher spins before it naps: twice the price of a futex wake. */
#define SPIN_NS 10000
/* A nap doubles from the first to the second value while nothing is found. */
#define NAP_MIN_NS 50000
#define NAP_MAX_NS 200000

/* The word `watch`: (index + 1) << 2 | phase, or nobody. */
#define WATCH_NOBODY 0u
#define WATCH_SPINNING 1u /* will look before it stops; alone: on its way */
#define WATCH_NAPPING 2u  /* looks at the end of its nap */
#define WATCH_PHASE 3u

struct worker {
	struct runqueue queue;
	_Alignas(64) _Atomic(uint32_t) signal; /* changes to wake the worker */
	atomic_bool is_polling; /* sleeps in the pollster */
	bool is_serving;        /* this worker only: takes in, runs nothing yet */
	int index;
	int weight;
	uint32_t turn;          /* this worker only */
	uint32_t rests;         /* the same: times it ran out of work */
	/* The same: whose queue it suspects to be stuck, at which item, since when. */
	int suspect;
	uint32_t suspect_head;
	uint64_t suspect_ticks;
	struct skynet_monitor *monitor;
	struct worker *below;   /* in the stack of sleepers; under its mutex */
	bool is_sleeping;       /* the same */
	uint32_t seen_head;     /* the watcher only, whoever that is */
	bool is_seen;
};

static struct {
	struct worker **workers; /* constant while threads run */
	int count;
	atomic_bool is_stopping;
	int (*idle)(void *ud);
	void *idle_ud;
	void (*rouse)(void);
	const struct scheduler_pollster *pollster;

	_Alignas(64) _Atomic(uint32_t) watch;
	_Atomic(uint32_t) sleeping; /* workers in the stack */
	_Atomic(uint32_t) injected; /* items in the inject list */

	_Alignas(64) pthread_mutex_t inject_mutex; /* the next two */
	struct runnable *inject_first;
	struct runnable *inject_last;

	_Alignas(64) pthread_mutex_t sleep_mutex; /* the stack */
	struct worker *sleepers;
} S = {
	.inject_mutex = PTHREAD_MUTEX_INITIALIZER,
	.sleep_mutex = PTHREAD_MUTEX_INITIALIZER,
};

static __thread struct worker *current;

static const int worker_weights[] = {
	-1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
	2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3,
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
	atomic_init(&w->is_polling, false);
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

	S.workers = skynet_malloc((size_t)count * sizeof(*S.workers));
	S.count = count;
	atomic_store(&S.is_stopping, false);
	atomic_store(&S.watch, WATCH_NOBODY);
	atomic_store(&S.sleeping, 0);
	S.sleepers = NULL;
	for (i = 0; i < count; i++) {
		S.workers[i] = worker_new(i);
	}
}

void
scheduler_exit(void) {
	int i;

	for (i = 0; i < S.count; i++) {
		skynet_monitor_delete(S.workers[i]->monitor);
		skynet_free(S.workers[i]);
	}
	skynet_free(S.workers);
	S.workers = NULL;
	S.count = 0;
	S.inject_first = S.inject_last = NULL;
	atomic_store(&S.injected, 0);
}

void
scheduler_on_idle(int (*fn)(void *ud), void *ud) {
	S.idle = fn;
	S.idle_ud = ud;
}

void
scheduler_set_pollster(const struct scheduler_pollster *pollster) {
	S.pollster = pollster;
}

void
scheduler_on_rouse(void (*fn)(void)) {
	S.rouse = fn;
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
	return S.count;
}

struct skynet_monitor *
scheduler_monitor_at(int index) {
	return S.workers[index]->monitor;
}

bool
scheduler_is_asleep(void) {
	return atomic_load(&S.sleeping) == (uint32_t)S.count;
}

/*-------------------------------------------------------------- inject list */

static void
inject(struct runnable *r) {
	r->next = NULL;
	pthread_mutex_lock(&S.inject_mutex);
	if (S.inject_last) {
		S.inject_last->next = r;
	} else {
		S.inject_first = r;
	}
	S.inject_last = r;
	/* Sequentially consistent: see "Wake-ups". */
	atomic_fetch_add(&S.injected, 1);
	pthread_mutex_unlock(&S.inject_mutex);
}

static struct runnable *
inject_take(void) {
	struct runnable *r = S.inject_first;

	if (r) {
		S.inject_first = r->next;
		if (S.inject_first == NULL) {
			S.inject_last = NULL;
		}
		atomic_fetch_sub(&S.injected, 1);
	}
	return r;
}

/* Move this worker's share of the inject list to the end of its queue. */
static void
pull(struct worker *w) {
	uint32_t n = atomic_load_explicit(&S.injected, memory_order_relaxed);
	uint32_t room = RUNQUEUE_SIZE - runqueue_length(&w->queue);
	struct runnable *r;

	if (n == 0) {
		return;
	}
	n = n / (uint32_t)S.count + 1;
	if (n > INJECT_BATCH) {
		n = INJECT_BATCH;
	}
	if (n > room) {
		n = room;
	}
	pthread_mutex_lock(&S.inject_mutex);
	while (n-- > 0 && (r = inject_take()) != NULL) {
		runqueue_push(&w->queue, r);
	}
	pthread_mutex_unlock(&S.inject_mutex);
}

/*
 * A busy worker's look at another one's queue: take from it if that worker has
 * not come to it for long. Looks at the same queue until it has moved.
 */
static struct runnable *
rescue(struct worker *w) {
	struct runqueue *q = &S.workers[w->suspect]->queue;
	uint32_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
	uint64_t now = platform_ticks();

	if (w->suspect == w->index || runqueue_length(q) == 0 || head != w->suspect_head) {
		w->suspect = (w->suspect + 1) % S.count;
		q = &S.workers[w->suspect]->queue;
		w->suspect_head = atomic_load_explicit(&q->head, memory_order_relaxed);
		w->suspect_ticks = now;
		return NULL;
	}
	if (now - w->suspect_ticks < platform_ns_to_ticks(RESCUE_NS)) {
		return NULL;
	}
	return runqueue_steal(q, &w->queue);
}

struct runnable *
scheduler_next(struct worker *w) {
	struct runnable *r = NULL;

	if (++w->turn % INJECT_INTERVAL == 0) {
		pull(w);
		if (w->turn % RESCUE_INTERVAL == 0 && (r = rescue(w)) != NULL) {
			return r;
		}
	}
	r = runqueue_pop(&w->queue);
	if (r == NULL && atomic_load_explicit(&S.injected, memory_order_relaxed) > 0) {
		pull(w);
		r = runqueue_pop(&w->queue);
	}
	return r;
}

bool
scheduler_has_waiting(struct worker *w) {
	uint32_t head = atomic_load_explicit(&w->queue.head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&w->queue.tail, memory_order_relaxed);

	return head != tail || atomic_load_explicit(&S.injected, memory_order_relaxed) > 0;
}

/*-------------------------------------------------------- waking and resting */

static uint32_t
watch_word(const struct worker *w, uint32_t phase) {
	return (uint32_t)(w->index + 1) << 2 | phase;
}

/*
 * Sequentially consistent: rest() publishes is_polling and then reads signal,
 * so that one side sees the other.
 */
static void
signal_worker(struct worker *w) {
	atomic_fetch_add(&w->signal, 1);
	if (atomic_load(&w->is_polling)) {
		S.pollster->wake();
	} else {
		platform_wake_one(&w->signal);
	}
}

/*
 * Take one out of the stack of sleepers and make it the watcher; the one that
 * sleeps in the pollster last.
 */
static bool
wake_sleeper(void) {
	struct worker **p = &S.sleepers;
	struct worker *w;
	bool was_asleep = false;

	pthread_mutex_lock(&S.sleep_mutex);
	if (*p && (*p)->below && atomic_load_explicit(&(*p)->is_polling, memory_order_relaxed)) {
		p = &(*p)->below;
	}
	w = *p;
	if (w) {
		*p = w->below;
		w->is_sleeping = false;
		was_asleep = atomic_fetch_sub(&S.sleeping, 1) == (uint32_t)S.count;
	}
	pthread_mutex_unlock(&S.sleep_mutex);
	if (w == NULL) {
		return false;
	}
	atomic_store(&S.watch, watch_word(w, WATCH_SPINNING));
	signal_worker(w);
	if (was_asleep && S.rouse) {
		S.rouse();
	}
	return true;
}

/*
 * Something was queued: see that somebody is going to look, if anybody has
 * time. Unless it is urgent, a napping watcher may finish its nap.
 */
static void
rouse(bool is_urgent) {
	for (;;) {
		uint32_t watch = atomic_load(&S.watch);
		uint32_t phase = watch & WATCH_PHASE;

		if (phase == WATCH_SPINNING || (phase == WATCH_NAPPING && !is_urgent)) {
			return;
		}
		if (phase == WATCH_NAPPING) {
			uint32_t spinning = watch - WATCH_NAPPING + WATCH_SPINNING;
			if (atomic_compare_exchange_strong(&S.watch, &watch, spinning)) {
				signal_worker(S.workers[(watch >> 2) - 1]);
				return;
			}
			continue;
		}
		if (atomic_load(&S.sleeping) == 0) {
			return;
		}
		if (atomic_compare_exchange_strong(&S.watch, &watch, WATCH_SPINNING)) {
			if (wake_sleeper()) {
				return;
			}
			/* Who went to sleep meanwhile may have trusted us: again. */
			atomic_store(&S.watch, WATCH_NOBODY);
		}
	}
}

/*
 * Whether the worker should keep to its own queue. While others wait in the
 * inject list, half a queue is enough: the rest goes behind those, or else they
 * would never find room.
 */
static bool
has_room(struct worker *w) {
	return atomic_load_explicit(&S.injected, memory_order_relaxed) == 0 ||
	       runqueue_length(&w->queue) < RUNQUEUE_SIZE / 2;
}

void
scheduler_push(struct runnable *r) {
	struct worker *w = current;

	if (w && has_room(w) && runqueue_push(&w->queue, r)) {
		if (!w->is_serving && atomic_load(&S.watch) == WATCH_NOBODY && atomic_load(&S.sleeping) > 0) {
			rouse(false);
		}
		return;
	}
	inject(r);
	rouse(true);
}

static bool
work_is_visible(void) {
	int i;

	if (atomic_load(&S.injected) > 0) {
		return true;
	}
	for (i = 0; i < S.count; i++) {
		if (runqueue_length(&S.workers[i]->queue) > 0) {
			return true;
		}
	}
	return false;
}

/* Undo going to sleep. False: somebody is waking this worker already. */
static bool
leave_stack(struct worker *w) {
	struct worker **p;
	bool was_sleeping;
	bool was_asleep = false;

	pthread_mutex_lock(&S.sleep_mutex);
	was_sleeping = w->is_sleeping;
	if (was_sleeping) {
		for (p = &S.sleepers; *p != w; p = &(*p)->below) {
		}
		*p = w->below;
		w->is_sleeping = false;
		was_asleep = atomic_fetch_sub(&S.sleeping, 1) == (uint32_t)S.count;
	}
	pthread_mutex_unlock(&S.sleep_mutex);
	if (was_asleep && S.rouse) {
		S.rouse();
	}
	return was_sleeping;
}

/*
 * Take in what is ready, with `fn`. What is pushed meanwhile calls nobody: the
 * first of it is run by this worker at once, only others need help. True: there
 * may be something to run, which includes all that is in the own queue.
 */
static bool
serve(struct worker *w, int (*fn)(void *ud), void *ud) {
	bool is_found;
	uint32_t n;

	w->is_serving = true;
	is_found = fn(ud) > 0;
	w->is_serving = false;
	n = runqueue_length(&w->queue);
	if (n > 1 && atomic_load(&S.watch) == WATCH_NOBODY && atomic_load(&S.sleeping) > 0) {
		rouse(false);
	}
	return is_found || n > 0;
}

static int
serve_ready(void *unused) {
	(void)unused;
	return S.pollster->serve();
}

static int
serve_glance(void *unused) {
	(void)unused;
	S.pollster->glance();
	return 0;
}

/* A turn that was given up in favour of work in hand: somebody else may look. */
static void
pass_watch(void) {
	atomic_store(&S.watch, WATCH_NOBODY);
	if (atomic_load(&S.sleeping) > 0 && work_is_visible()) {
		rouse(false);
	}
}

/*
 * Back from sleeping in the pollster. True when called as the watcher, and
 * free for it.
 */
static bool
rest_is_over(struct worker *w, uint32_t seen, bool is_called) {
	atomic_store(&w->is_polling, false);
	/* Who called is about to signal; only then the watch is ours. */
	while (is_called && atomic_load(&w->signal) == seen) {
		platform_wait(&w->signal, seen, PLATFORM_FOREVER);
	}
	bool is_watcher = is_called && atomic_load(&S.watch) == watch_word(w, WATCH_SPINNING);
	if (serve(w, serve_ready, NULL) && is_watcher) {
		pass_watch();
		return false;
	}
	return is_watcher;
}

/* Sleep until called. True when called as the watcher. */
static bool
rest(struct worker *w) {
	uint32_t seen = atomic_load_explicit(&w->signal, memory_order_relaxed);
	bool is_polling = S.pollster && S.pollster->take();

	atomic_store(&w->is_polling, is_polling);
	pthread_mutex_lock(&S.sleep_mutex);
	w->below = S.sleepers;
	S.sleepers = w;
	w->is_sleeping = true;
	atomic_fetch_add(&S.sleeping, 1);
	pthread_mutex_unlock(&S.sleep_mutex);

	if (atomic_load(&S.is_stopping) ||
	    (atomic_load(&S.watch) == WATCH_NOBODY && work_is_visible())) {
		if (leave_stack(w)) {
			return is_polling && rest_is_over(w, seen, false);
		}
	}
	if (is_polling) {
		if (atomic_load(&w->signal) == seen) {
			S.pollster->wait();
		}
		return rest_is_over(w, seen, !leave_stack(w));
	}
	while (atomic_load(&w->signal) == seen) {
		platform_wait(&w->signal, seen, PLATFORM_FOREVER);
	}
	/* A late signal from the time of an earlier nap, or a stop. */
	if (leave_stack(w)) {
		return false;
	}
	return atomic_load(&S.watch) == watch_word(w, WATCH_SPINNING);
}

/*----------------------------------------------------------------- watching */

/*
 * Look for work once. A slow look also takes a lone item that was there at the
 * slow look before.
 */
static struct runnable *
look(struct worker *w, bool is_slow) {
	int i;
	struct runnable *r;

	if (atomic_load(&S.injected) > 0) {
		pull(w);
		r = runqueue_pop(&w->queue);
		if (r) {
			return r;
		}
	}
	for (i = 1; i < S.count; i++) {
		struct worker *v = S.workers[(w->index + i) % S.count];
		uint32_t n = runqueue_length(&v->queue);
		bool is_stuck = false;

		if (is_slow) {
			uint32_t head = atomic_load_explicit(&v->queue.head, memory_order_relaxed);
			is_stuck = n == 1 && v->is_seen && v->seen_head == head;
			v->is_seen = n == 1;
			v->seen_head = head;
		}
		if (n >= 2 || is_stuck) {
			r = runqueue_steal(&v->queue, &w->queue);
			if (r) {
				return r;
			}
		}
	}
	return NULL;
}

static bool
become_watcher(struct worker *w) {
	uint32_t watch = atomic_load(&S.watch);

	if ((watch & WATCH_PHASE) == WATCH_SPINNING) {
		return false;
	}
	/* From nobody, or from one that naps and will find out. */
	return atomic_compare_exchange_strong(&S.watch, &watch, watch_word(w, WATCH_SPINNING));
}

static void
forget_seen(void) {
	int i;

	for (i = 0; i < S.count; i++) {
		S.workers[i]->is_seen = false;
	}
}

/*
 * Sleep a little, callable. False: another worker took over the watch.
 * *is_called: somebody queued something urgent.
 */
static bool
nap(struct worker *w, uint64_t ns, bool *is_called) {
	uint32_t seen = atomic_load_explicit(&w->signal, memory_order_relaxed);
	uint32_t napping = watch_word(w, WATCH_NAPPING);

	atomic_store(&S.watch, napping);
	if (atomic_load(&S.injected) == 0 && !atomic_load(&S.is_stopping)) {
		platform_wait(&w->signal, seen, platform_monotonic_ns() + ns);
	}
	*is_called = false;
	if (atomic_compare_exchange_strong(&S.watch, &napping, watch_word(w, WATCH_SPINNING))) {
		return true;
	}
	*is_called = napping == watch_word(w, WATCH_SPINNING);
	return *is_called;
}

/* One spell of spinning: looks until something turns up or time is over. */
static struct runnable *
spin(struct worker *w) {
	/* Some 0.5 us between looks, not to tear at the lines of busy workers. */
	enum { PAUSES = 16 };
	uint64_t start = platform_ticks();
	uint64_t length = platform_ns_to_ticks(SPIN_NS);
	struct runnable *r;
	int i;

	while ((r = look(w, false)) == NULL && platform_ticks() - start < length) {
		for (i = 0; i < PAUSES; i++) {
			platform_cpu_relax();
		}
	}
	return r;
}

/* The watcher's life. Returns work, or NULL to rest; no longer watching. */
static struct runnable *
watch_over(struct worker *w) {
	uint64_t nap_ns = NAP_MIN_NS;
	struct runnable *r;
	bool is_called = false;

	forget_seen();
	r = spin(w);
	while (r == NULL && !atomic_load(&S.is_stopping)) {
		if (atomic_load(&S.sleeping) == (uint32_t)S.count - 1) {
			break;
		}
		r = is_called ? spin(w) : look(w, true);
		if (r) {
			break;
		}
		if (!nap(w, nap_ns, &is_called)) {
			return NULL;
		}
		nap_ns = is_called ? NAP_MIN_NS : nap_ns * 2;
		if (nap_ns > NAP_MAX_NS) {
			nap_ns = NAP_MAX_NS;
		}
	}
	if (r) {
		pass_watch();
	} else {
		atomic_store(&S.watch, WATCH_NOBODY);
	}
	return r;
}

/* Nothing to run: find work, or sleep until there is some. */
static struct runnable *
idle(struct worker *w) {
	bool is_watcher;

	w->rests++;
	nodepool_rest();
	if (S.idle && serve(w, S.idle, S.idle_ud)) {
		return NULL;
	}
	/* A napping watcher may go on; this worker can sleep in the pollster. */
	is_watcher = (S.pollster == NULL || atomic_load(&S.watch) == WATCH_NOBODY) && become_watcher(w);
	for (;;) {
		struct runnable *r = is_watcher ? watch_over(w) : NULL;
		if (r || atomic_load(&S.is_stopping)) {
			return r;
		}
		is_watcher = rest(w);
		if (!is_watcher) {
			return NULL;
		}
	}
}

/*------------------------------------------------------------------ working */

void
scheduler_work(int index) {
	struct worker *w = S.workers[index];
	char name[32];

	snprintf(name, sizeof(name), "worker-%d", index);
	platform_thread_name(name);
	current = w;
	/* Relaxed: a stop is also signalled to who sleeps. */
	while (!atomic_load_explicit(&S.is_stopping, memory_order_relaxed)) {
		struct runnable *r;
		if (S.pollster && w->turn % INJECT_INTERVAL == 0) {
			serve(w, serve_glance, NULL);
		}
		r = scheduler_next(w);
		if (r == NULL) {
			r = idle(w);
		}
		if (r) {
			r->run(r, w);
		}
	}
	current = NULL;
}

void
scheduler_stop(void) {
	int i;

	atomic_store(&S.is_stopping, true);
	for (i = 0; i < S.count; i++) {
		signal_worker(S.workers[i]);
	}
}

void
scheduler_drain(void) {
	struct worker *before = current;
	bool is_found = true;
	int i;

	while (is_found && S.count > 0) {
		is_found = false;
		for (i = 0; i < S.count; i++) {
			struct runnable *r;
			current = S.workers[i];
			while ((r = scheduler_next(current)) != NULL) {
				is_found = true;
				r->run(r, current);
			}
		}
	}
	current = before;
}
