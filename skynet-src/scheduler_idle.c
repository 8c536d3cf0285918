/*
 * A worker with nothing to do: watching, sleeping, and being woken. The states
 * are drawn in scheduler.c.
 *
 * Wake-ups. Nobody may sleep through work. Every pusher publishes its item and
 * then reads `watch` and `sleeping`; every worker that stops looking publishes
 * that (leaves `watch`, counts itself in `sleeping`) and then reads the queues.
 * All of these are sequentially consistent, so at least one side sees the
 * other. A watcher rests only when all others sleep; when it leaves with work
 * in hand and there is more, it calls the next one.
 *
 * With a pollster, some of those asleep sleep there: what comes from outside is
 * then taken in and run by the same worker. A caller changes its signal and then
 * reads `polling`; it publishes `polling` and then reads its signal. Its own
 * queue is empty when it goes to sleep, or work would stay hidden.
 */
#include "scheduler_impl.h"

#include "malloc_hook.h"
#include "nodepool.h"
#include "platform.h"

#include <stddef.h>

/* How long a watcher spins before it naps: twice the price of a futex wake. */
#define SPIN_NS 10000
/* A nap doubles from the first to the second value while nothing is found. */
#define NAP_MIN_NS 50000
#define NAP_MAX_NS 200000

/*-------------------------------------------------------- waking and resting */

static uint32_t
watch_word(const struct worker *w, uint32_t phase) {
	return (uint32_t)(w->index + 1) << 2 | phase;
}

/*
 * Sequentially consistent: rest() publishes `polling` and then reads signal,
 * so that one side sees the other.
 */
void
sched_signal(struct worker *w) {
	atomic_fetch_add(&w->signal, 1);
	int polling = atomic_load(&w->polling);
	if (polling > 0) {
		sched.pollster->wake(polling - 1);
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
	struct worker **p = &sched.sleepers;
	struct worker *w;
	bool was_asleep = false;

	pthread_mutex_lock(&sched.sleep_mutex);
	if (*p && (*p)->below && atomic_load_explicit(&(*p)->polling, memory_order_relaxed) > 0) {
		p = &(*p)->below;
	}
	w = *p;
	if (w) {
		*p = w->below;
		w->is_sleeping = false;
		was_asleep = atomic_fetch_sub(&sched.sleeping, 1) == (uint32_t)sched.count;
	}
	pthread_mutex_unlock(&sched.sleep_mutex);
	if (w == NULL) {
		return false;
	}
	atomic_store(&sched.watch, watch_word(w, WATCH_SPINNING));
	sched_signal(w);
	if (was_asleep && sched.rouse) {
		sched.rouse();
	}
	return true;
}

void
sched_rouse(bool is_urgent) {
	for (;;) {
		uint32_t watch = atomic_load(&sched.watch);
		uint32_t phase = watch & WATCH_PHASE;

		if (phase == WATCH_SPINNING || (phase == WATCH_NAPPING && !is_urgent)) {
			return;
		}
		if (phase == WATCH_NAPPING) {
			uint32_t spinning = watch - WATCH_NAPPING + WATCH_SPINNING;
			if (atomic_compare_exchange_strong(&sched.watch, &watch, spinning)) {
				sched_signal(sched.workers[(watch >> 2) - 1]);
				return;
			}
			continue;
		}
		if (atomic_load(&sched.sleeping) == 0) {
			return;
		}
		if (atomic_compare_exchange_strong(&sched.watch, &watch, WATCH_SPINNING)) {
			if (wake_sleeper()) {
				return;
			}
			/* Who went to sleep meanwhile may have trusted us: again. */
			atomic_store(&sched.watch, WATCH_NOBODY);
		}
	}
}

static bool
work_is_visible(void) {
	int i;

	if (atomic_load(&sched.injected) > 0) {
		return true;
	}
	for (i = 0; i < sched.count; i++) {
		if (runqueue_length(&sched.workers[i]->queue) > 0) {
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

	pthread_mutex_lock(&sched.sleep_mutex);
	was_sleeping = w->is_sleeping;
	if (was_sleeping) {
		for (p = &sched.sleepers; *p != w; p = &(*p)->below) {
		}
		*p = w->below;
		w->is_sleeping = false;
		was_asleep = atomic_fetch_sub(&sched.sleeping, 1) == (uint32_t)sched.count;
	}
	pthread_mutex_unlock(&sched.sleep_mutex);
	if (was_asleep && sched.rouse) {
		sched.rouse();
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
	if (n > 1 && atomic_load(&sched.watch) == WATCH_NOBODY && atomic_load(&sched.sleeping) > 0) {
		sched_rouse(false);
	}
	return is_found || n > 0;
}

static int
serve_ready(void *place) {
	return sched.pollster->serve((int)(intptr_t)place);
}

static int
serve_glance(void *unused) {
	(void)unused;
	sched.pollster->glance();
	return 0;
}

void
sched_glance(struct worker *w) {
	serve(w, serve_glance, NULL);
}

/* A turn that was given up in favour of work in hand: somebody else may look. */
static void
pass_watch(void) {
	atomic_store(&sched.watch, WATCH_NOBODY);
	if (atomic_load(&sched.sleeping) > 0 && work_is_visible()) {
		sched_rouse(false);
	}
}

/*
 * Back from sleeping in the pollster. True when called as the watcher, and
 * free for it.
 */
static bool
rest_is_over(struct worker *w, uint32_t seen, bool is_called) {
	void *place = (void *)(intptr_t)(atomic_load_explicit(&w->polling, memory_order_relaxed) - 1);

	atomic_store(&w->polling, 0);
	/* Who called is about to signal; only then the watch is ours. */
	while (is_called && atomic_load(&w->signal) == seen) {
		platform_wait(&w->signal, seen, PLATFORM_FOREVER);
	}
	bool is_watcher = is_called && atomic_load(&sched.watch) == watch_word(w, WATCH_SPINNING);
	if (serve(w, serve_ready, place) && is_watcher) {
		pass_watch();
		return false;
	}
	return is_watcher;
}

/* Sleep until called. True when called as the watcher. */
static bool
rest(struct worker *w) {
	uint32_t seen = atomic_load_explicit(&w->signal, memory_order_relaxed);
	int place = sched.pollster ? sched.pollster->take() : -1;
	bool is_polling = place >= 0;

	atomic_store(&w->polling, place + 1);
	pthread_mutex_lock(&sched.sleep_mutex);
	w->below = sched.sleepers;
	sched.sleepers = w;
	w->is_sleeping = true;
	atomic_fetch_add(&sched.sleeping, 1);
	pthread_mutex_unlock(&sched.sleep_mutex);

	if (atomic_load(&sched.is_stopping) ||
	    (atomic_load(&sched.watch) == WATCH_NOBODY && work_is_visible())) {
		if (leave_stack(w)) {
			return is_polling && rest_is_over(w, seen, false);
		}
	}
	if (is_polling) {
		if (atomic_load(&w->signal) == seen) {
			sched.pollster->wait(place);
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
	return atomic_load(&sched.watch) == watch_word(w, WATCH_SPINNING);
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

	if (atomic_load(&sched.injected) > 0) {
		sched_pull(w);
		r = runqueue_pop(&w->queue);
		if (r) {
			return r;
		}
	}
	for (i = 1; i < sched.count; i++) {
		struct worker *v = sched.workers[(w->index + i) % sched.count];
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
	uint32_t watch = atomic_load(&sched.watch);

	if ((watch & WATCH_PHASE) == WATCH_SPINNING) {
		return false;
	}
	/* From nobody, or from one that naps and will find out. */
	return atomic_compare_exchange_strong(&sched.watch, &watch, watch_word(w, WATCH_SPINNING));
}

static void
forget_seen(void) {
	int i;

	for (i = 0; i < sched.count; i++) {
		sched.workers[i]->is_seen = false;
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

	atomic_store(&sched.watch, napping);
	if (atomic_load(&sched.injected) == 0 && !atomic_load(&sched.is_stopping)) {
		platform_wait(&w->signal, seen, platform_monotonic_ns() + ns);
	}
	*is_called = false;
	if (atomic_compare_exchange_strong(&sched.watch, &napping, watch_word(w, WATCH_SPINNING))) {
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
	while (r == NULL && !atomic_load(&sched.is_stopping)) {
		if (atomic_load(&sched.sleeping) == (uint32_t)sched.count - 1) {
			break;
		}
		if (!is_called && sched.pollster) {
			sched.pollster->rescue();
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
		atomic_store(&sched.watch, WATCH_NOBODY);
	}
	return r;
}

/* Nothing to run at all: do what can wait, a piece of it. */
static bool
spend_spare_time(struct worker *w) {
	if (sched.spare == NULL || !sched.spare()) {
		return false;
	}
	if (sched.pollster) {
		sched_glance(w);
	}
	return true;
}

/* Nothing to run: find work, or sleep until there is some. */
struct runnable *
sched_idle(struct worker *w) {
	bool is_watcher;

	w->rests++;
	nodepool_rest();
	malloc_rest();
	if (sched.idle && serve(w, sched.idle, sched.idle_ud)) {
		return NULL;
	}
	/* A napping watcher may go on; this worker can sleep in the pollster. */
	is_watcher =
	    (sched.pollster == NULL || atomic_load(&sched.watch) == WATCH_NOBODY) && become_watcher(w);
	for (;;) {
		struct runnable *r = is_watcher ? watch_over(w) : NULL;
		if (r || atomic_load(&sched.is_stopping)) {
			return r;
		}
		if (spend_spare_time(w)) {
			return NULL;
		}
		is_watcher = rest(w);
		if (!is_watcher) {
			return NULL;
		}
	}
}
