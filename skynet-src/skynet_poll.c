// DESIGN. There is a loop of the socket server to poll, or several. Polling one is a
// duty that one thread has at a time (socket_server_hold):
//
//   a worker that runs dry       polls all once without waiting (look), and if nothing
//                                else is to be done, sleeps in one of them (wait)
//   a worker that is busy        polls now and then (glance)
//   the loop's socket thread     rests while a worker sleeps in its loop;
//                                otherwise ticks, and takes the duty for a round
//                                when nobody has polled since its last tick
//
// A thread hop between poller and worker costs 5 to 20 us of CPU for each packet under
// load; with the duty at the workers it is paid only when all of them are busy. A loop
// beyond the number of workers is its socket thread's alone to wait in.
//
// The ticks slow down while a worker attends to the loop, and end soon after, so
// that a node at rest makes no system calls. Whoever stops attending sees to it
// that the socket thread ticks:
//   leaver:         is_attended = false;  then look at `backup`
//   socket thread:  backup = RESTS;       then look at `is_attended`
// all sequentially consistent, so that one of the two sees the other.
#include "skynet_poll.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "malloc_hook.h"
#include "platform.h"
#include "scheduler.h"
#include "skynet_socket.h"

// Longest time without polling while every worker is busy; doubles, up to the
// second value, while a worker attends.
#define TICK_MIN_NS 1000000u
#define TICK_MAX_NS 64000000u
// Longest wait of a socket thread that polls in place of busy workers.
#define STAND_IN_MS 2
// How often busy workers poll, together.
#define GLANCE_NS 50000

#define BACKUP_RESTS 0u
#define BACKUP_TICKS 1u
#define BACKUP_ENDS 2u

struct duty {
	_Alignas(64) _Atomic(uint32_t) backup; // what the socket thread does
	atomic_bool is_attended;               // a worker sleeps in the loop
	atomic_bool stands_in;                 // the socket thread waits for events
	// Rounds of polling. Relaxed: only a change matters, some time.
	_Atomic(uint64_t) rounds;
	// Ticks of the last round. Relaxed: it spreads glances, nothing else.
	_Atomic(uint64_t) last_ticks;
};

// Constant while threads run.
static struct {
	uint64_t glance_ticks;
	int loops;
} P;
static struct duty duties[SKYNET_SOCKET_LOOPS_MAX];

// The loop in which this thread has found something last: it tries that first.
static __thread int favourite;

static void
count_round(struct duty *d) {
	atomic_fetch_add_explicit(&d->rounds, 1, memory_order_relaxed);
	atomic_store_explicit(&d->last_ticks, platform_ticks(), memory_order_relaxed);
}

// What is read is charged to nobody, not to the service that ran last.
static int
poll_now(int loop) {
	uint32_t owner = malloc_owner();
	malloc_set_owner(0);
	int n = skynet_socket_trypoll(loop, 0);
	malloc_set_owner(owner);
	if (n >= 0) {
		count_round(&duties[loop]);
	}
	if (n > 0) {
		favourite = loop;
	}
	return n;
}

//------------------------------------------------------------------- workers

// A worker found nothing to do. Nonzero: there may be something now.
static int
look(void *ud) {
	(void)ud;
	bool found = false;
	skynet_socket_flush();
	for (int i = 0; i < P.loops; i++) {
		found |= poll_now(i) > 0;
	}
	return found;
}

// A worker is busy.
static void
glance(void) {
	uint64_t now = platform_ticks();
	for (int i = 0; i < P.loops; i++) {
		uint64_t last = atomic_load_explicit(&duties[i].last_ticks, memory_order_relaxed);
		// Another thread may have a later time.
		if ((int64_t)(now - last) >= (int64_t)P.glance_ticks) {
			poll_now(i);
		}
	}
}

static int
take(void) {
	for (int i = 0; i < P.loops; i++) {
		int loop = (favourite + i) % P.loops;
		if (skynet_socket_hold(loop)) {
			atomic_store(&duties[loop].is_attended, true);
			return loop;
		}
	}
	return -1;
}

static int
serve(int loop) {
	struct duty *d = &duties[loop];
	uint32_t ticks = BACKUP_RESTS;
	atomic_store(&d->is_attended, false);
	if (atomic_load(&d->backup) == BACKUP_RESTS &&
	    atomic_compare_exchange_strong(&d->backup, &ticks, BACKUP_TICKS)) {
		platform_wake_one(&d->backup);
	}
	uint32_t owner = malloc_owner();
	malloc_set_owner(0);
	int n = skynet_socket_serve(loop);
	malloc_set_owner(owner);
	skynet_socket_unhold(loop);
	count_round(d);
	if (n > 0) {
		favourite = loop;
	}
	return n;
}

static const struct scheduler_pollster pollster = {
    .take = take,
    .wait = skynet_socket_wait,
    .wake = skynet_socket_wakeup,
    .serve = serve,
    .glance = glance,
    .rescue = skynet_socket_rescue,
};

//------------------------------------------------------------- socket thread

static void
rest(struct duty *d) {
	uint32_t ticks = BACKUP_TICKS;
	if (!atomic_compare_exchange_strong(&d->backup, &ticks, BACKUP_RESTS)) {
		return;
	}
	if (!atomic_load(&d->is_attended)) {
		uint32_t rests = BACKUP_RESTS;
		atomic_compare_exchange_strong(&d->backup, &rests, BACKUP_TICKS);
		return;
	}
	while (atomic_load(&d->backup) == BACKUP_RESTS) {
		platform_wait(&d->backup, BACKUP_RESTS, PLATFORM_FOREVER);
	}
}

// Waits for events here: every worker sleeps elsewhere, or is busy for long. Busy ones
// may hold back what they have sent, so this must not take long then. Sequentially
// consistent: either this sees that a worker has been woken, or skynet_poll_rouse sees
// that the thread waits.
static void
stand_in(int loop) {
	struct duty *d = &duties[loop];
	atomic_store(&d->stands_in, true);
	if (scheduler_is_asleep()) {
		skynet_socket_poll_loop(loop);
	} else {
		skynet_socket_trypoll(loop, STAND_IN_MS);
	}
	atomic_store(&d->stands_in, false);
	count_round(d);
}

void
skynet_poll_rouse(void) {
	for (int i = 0; i < P.loops; i++) {
		if (atomic_load(&duties[i].stands_in)) {
			skynet_socket_wakeup(i);
		}
	}
}

void
skynet_poll_thread(int loop) {
	struct duty *d = &duties[loop];
	bool is_surplus = loop >= scheduler_count();
	uint64_t tick = TICK_MIN_NS;
	uint64_t seen = 0;
	while (atomic_load(&d->backup) != BACKUP_ENDS) {
		if (is_surplus && !atomic_load(&d->is_attended)) {
			skynet_socket_poll_loop(loop);
			count_round(d);
			continue;
		}
		platform_wait(&d->backup, BACKUP_TICKS, platform_monotonic_ns() + tick);
		skynet_socket_rescue();
		uint64_t rounds = atomic_load_explicit(&d->rounds, memory_order_relaxed);
		if (atomic_load(&d->is_attended)) {
			tick *= 2;
			if (tick > TICK_MAX_NS) {
				rest(d);
				tick = TICK_MIN_NS;
			}
		} else {
			tick = TICK_MIN_NS;
			if (rounds == seen) {
				stand_in(loop);
			}
		}
		seen = atomic_load_explicit(&d->rounds, memory_order_relaxed);
	}
}

void
skynet_poll_exit(void) {
	for (int i = 0; i < P.loops; i++) {
		atomic_store(&duties[i].backup, BACKUP_ENDS);
		platform_wake_all(&duties[i].backup);
		skynet_socket_wakeup(i);
	}
}

void
skynet_poll_init(void) {
	P.loops = skynet_socket_loops();
	for (int i = 0; i < P.loops; i++) {
		atomic_store(&duties[i].backup, BACKUP_TICKS);
		atomic_store(&duties[i].is_attended, false);
		atomic_store(&duties[i].stands_in, false);
	}
	P.glance_ticks = platform_ns_to_ticks(GLANCE_NS);
	scheduler_on_idle(look, NULL);
	scheduler_set_pollster(&pollster);
}
