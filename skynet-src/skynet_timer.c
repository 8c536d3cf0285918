/*
 * The clock, the timers of all services and the thread that fires them.
 *
 * DESIGN. A tick is a centisecond of the monotonic clock, and its edges are
 * those of the wall clock's centiseconds at start. Nobody counts ticks: `now`
 * is computed when asked, and the timer thread sleeps until the deadline that
 * the wheels report. Services are spread over shards by handle, so the timers
 * of one service share a wheel and keep their order, while others do not wait.
 *
 * The timer thread publishes when it will wake in `next_wake`. Who arms an
 * earlier timer lowers it and wakes the thread if it sleeps already.
 */
#include "skynet_timer.h"

#include "nodepool.h"
#include "platform.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_handle.h"
#include "skynet_server.h"
#include "timer_wheel.h"

#include <pthread.h>
#include <stdatomic.h>

#define NS_PER_CS UINT64_C(10000000)
#define NS_PER_SECOND UINT64_C(1000000000)
#define CS_PER_SECOND 100

#define SHARDS 8
/* A wheel that is this many ticks late catches up before it is used. */
#define TOUCH_LAG 1000
#define NEVER UINT64_MAX

struct shard {
	_Alignas(64) pthread_mutex_t mutex;
	struct timer_wheel wheel; /* under mutex */
};

static struct {
	struct shard shards[SHARDS];
	uint32_t start_seconds; /* set before threads start */
	uint64_t start_cs;      /* `now` at tick 0; the same */
	/* Monotonic time of tick 0; moved only if the clock steps back. */
	_Atomic(uint64_t) base_ns;
	uint64_t last_ns; /* timer thread only: the clock at its last look */

	_Alignas(64) _Atomic(uint64_t) next_wake; /* tick */
	_Atomic(uint32_t) is_sleeping;
	_Atomic(uint32_t) signal; /* changes to wake the timer thread */
	atomic_bool is_stopping;
} T;

static uint64_t
tick_at(uint64_t ns) {
	return (ns - atomic_load_explicit(&T.base_ns, memory_order_relaxed)) / NS_PER_CS;
}

static uint64_t
tick_now(void) {
	return tick_at(platform_monotonic_ns());
}

uint64_t
skynet_now(void) {
	return T.start_cs + tick_now();
}

uint32_t
skynet_starttime(void) {
	return T.start_seconds;
}

uint64_t
skynet_thread_time(void) {
	return platform_thread_cpu_ns() / 1000;
}

void
skynet_timer_init(void) {
	uint64_t wall = platform_wallclock_ns();
	uint64_t mono = platform_monotonic_ns();
	int i;

	T.start_seconds = (uint32_t)(wall / NS_PER_SECOND);
	T.start_cs = wall / NS_PER_CS % CS_PER_SECOND;
	T.last_ns = mono;
	atomic_store(&T.base_ns, mono - wall % NS_PER_CS);
	atomic_store(&T.next_wake, NEVER);
	atomic_store(&T.is_stopping, false);
	for (i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&T.shards[i].mutex, NULL);
		timer_wheel_init(&T.shards[i].wheel, 0);
	}
}

void
skynet_timer_exit(void) {
	int i;

	for (i = 0; i < SHARDS; i++) {
		struct timer_list list = {NULL};
		struct timer_node *node;

		timer_wheel_clear(&T.shards[i].wheel, &list);
		while ((node = timer_list_pop(&list)) != NULL) {
			nodepool_give(NODEPOOL_TIMER, node);
		}
		pthread_mutex_destroy(&T.shards[i].mutex);
	}
}

/*------------------------------------------------------------------- arming */

static int
expire(uint32_t handle, int session) {
	struct skynet_message msg = {
	    .source = 0,
	    .session = session,
	    .data = NULL,
	    .sz = (size_t)PTYPE_RESPONSE << MESSAGE_TYPE_SHIFT,
	};

	return skynet_context_push(handle, &msg);
}

static void
rouse(void) {
	atomic_fetch_add(&T.signal, 1);
	platform_wake_one(&T.signal);
}

/* See that the timer thread is up at `tick`. */
static void
wake_at(uint64_t tick) {
	uint64_t next = atomic_load(&T.next_wake);

	while (tick < next) {
		if (atomic_compare_exchange_weak(&T.next_wake, &next, tick)) {
			/* It publishes is_sleeping before it reads next_wake. */
			if (atomic_load(&T.is_sleeping)) {
				rouse();
			}
			return;
		}
	}
}

int
skynet_timeout(uint32_t handle, int time, int session) {
	struct shard *shard = &T.shards[handle % SHARDS];
	struct timer_node *node;
	uint64_t now, tick;

	if (time <= 0) {
		return expire(handle, session) == 0 ? session : -1;
	}
	node = nodepool_take(NODEPOOL_TIMER);
	now = tick_now();
	tick = now + (uint64_t)time;
	node->expire = (uint32_t)tick;
	node->handle = handle;
	node->session = session;
	pthread_mutex_lock(&shard->mutex);
	/* Nobody visits a wheel that needs nothing: it may be days behind. */
	if ((int32_t)((uint32_t)now - shard->wheel.current) > TOUCH_LAG) {
		timer_wheel_touch(&shard->wheel, (uint32_t)now);
	}
	timer_wheel_add(&shard->wheel, node);
	pthread_mutex_unlock(&shard->mutex);
	wake_at(tick);
	return session;
}

/*------------------------------------------------------------------- firing */

/* The clock must not step back; if it does, go on from where we were. */
static void
check_clock(uint64_t now) {
	if (now < T.last_ns) {
		uint64_t tick = tick_at(T.last_ns);
		skynet_error(NULL, "time diff error: change from %lld to %lld",
		             (long long)(T.last_ns / NS_PER_CS), (long long)(now / NS_PER_CS));
		atomic_store(&T.base_ns, now - tick * NS_PER_CS);
	}
	T.last_ns = now;
}

/* Fire what is due in a shard; the tick at which it wants the next visit. */
static uint64_t
visit(struct shard *shard, uint64_t now) {
	struct timer_list list = {NULL};
	struct timer_node *node;
	uint64_t next = NEVER;
	uint32_t ticks;

	pthread_mutex_lock(&shard->mutex);
	timer_wheel_advance(&shard->wheel, (uint32_t)now, &list);
	if (timer_wheel_next(&shard->wheel, &ticks)) {
		next = now + ticks;
	}
	pthread_mutex_unlock(&shard->mutex);
	while ((node = timer_list_pop(&list)) != NULL) {
		expire(node->handle, node->session);
		nodepool_give(NODEPOOL_TIMER, node);
	}
	return next;
}

static uint64_t
visit_all(void) {
	uint64_t now = platform_monotonic_ns();
	uint64_t next = NEVER;
	int i;

	check_clock(now);
	now = tick_at(now);
	for (i = 0; i < SHARDS; i++) {
		uint64_t tick = visit(&T.shards[i], now);
		if (tick < next) {
			next = tick;
		}
	}
	return next;
}

void
skynet_updatetime(void) {
	visit_all();
}

/* Sleep until `next_wake`, which others may lower at any time. */
static void
sleep_until_next(void) {
	uint32_t seen = atomic_load(&T.signal);
	uint64_t next;

	nodepool_rest();
	atomic_store(&T.is_sleeping, 1);
	next = atomic_load(&T.next_wake);
	if (!atomic_load(&T.is_stopping)) {
		uint64_t base = atomic_load_explicit(&T.base_ns, memory_order_relaxed);
		platform_wait(&T.signal, seen, next == NEVER ? PLATFORM_FOREVER : base + next * NS_PER_CS);
	}
	atomic_store(&T.is_sleeping, 0);
}

void
skynet_timer_loop(void) {
	platform_thread_precise();
	while (!atomic_load(&T.is_stopping)) {
		/* From here on, who arms a timer that the visit below does not see
		   lowers this value. */
		atomic_store(&T.next_wake, NEVER);
		wake_at(visit_all());
		sleep_until_next();
	}
}

void
skynet_timer_stop(void) {
	atomic_store(&T.is_stopping, true);
	rouse();
}
