// DESIGN. Polling is a duty that one thread has at a time (socket_server_hold):
//
//   a worker that runs dry       polls once without waiting (look), and if nothing
//                                else is to be done, sleeps in the poller (wait)
//   a worker that is busy        polls now and then (glance)
//   the socket thread            rests while a worker sleeps in the poller;
//                                otherwise ticks, and takes the duty for a round
//                                when nobody has polled since its last tick
//
// A thread hop between poller and worker costs 5 to 20 us of CPU for each packet under
// load; with the duty at the workers it is paid only when all of them are busy.
//
// The ticks slow down while a worker attends to the poller, and end soon after, so
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
// How often busy workers poll, together.
#define GLANCE_NS 50000

#define BACKUP_RESTS 0u
#define BACKUP_TICKS 1u
#define BACKUP_ENDS 2u

static struct {
	_Atomic(uint32_t) backup;	// what the socket thread does
	atomic_bool is_attended;	// a worker sleeps in the poller
	// Rounds of polling. Relaxed: only a change matters, some time.
	_Atomic(uint64_t) rounds;
	// Ticks of the last round. Relaxed: it spreads glances, nothing else.
	_Atomic(uint64_t) last_ticks;
	uint64_t glance_ticks;		// constant while threads run
} P;

static void
count_round(void) {
	atomic_fetch_add_explicit(&P.rounds, 1, memory_order_relaxed);
	atomic_store_explicit(&P.last_ticks, platform_ticks(), memory_order_relaxed);
}

// What is read is charged to nobody, not to the service that ran last.
static int
poll_now(void) {
	uint32_t owner = malloc_owner();
	malloc_set_owner(0);
	int n = skynet_socket_trypoll(0);
	malloc_set_owner(owner);
	if (n >= 0) {
		count_round();
	}
	return n;
}

//------------------------------------------------------------------- workers

// A worker found nothing to do. Nonzero: there may be something now.
static int
look(void *ud) {
	(void)ud;
	return poll_now() > 0;
}

// A worker is busy.
static void
glance(void) {
	uint64_t last = atomic_load_explicit(&P.last_ticks, memory_order_relaxed);
	if (platform_ticks() - last >= P.glance_ticks) {
		poll_now();
	}
}

static bool
take(void) {
	if (!skynet_socket_hold()) {
		return false;
	}
	atomic_store(&P.is_attended, true);
	return true;
}

static int
serve(void) {
	uint32_t ticks = BACKUP_RESTS;
	atomic_store(&P.is_attended, false);
	if (atomic_load(&P.backup) == BACKUP_RESTS &&
	    atomic_compare_exchange_strong(&P.backup, &ticks, BACKUP_TICKS)) {
		platform_wake_one(&P.backup);
	}
	uint32_t owner = malloc_owner();
	malloc_set_owner(0);
	int n = skynet_socket_serve();
	malloc_set_owner(owner);
	skynet_socket_unhold();
	count_round();
	return n;
}

static const struct scheduler_pollster pollster = {
	.take = take,
	.wait = skynet_socket_wait,
	.wake = skynet_socket_wakeup,
	.serve = serve,
	.glance = glance,
};

//------------------------------------------------------------- socket thread

static void
rest(void) {
	uint32_t ticks = BACKUP_TICKS;
	if (!atomic_compare_exchange_strong(&P.backup, &ticks, BACKUP_RESTS)) {
		return;
	}
	if (!atomic_load(&P.is_attended)) {
		uint32_t rests = BACKUP_RESTS;
		atomic_compare_exchange_strong(&P.backup, &rests, BACKUP_TICKS);
		return;
	}
	while (atomic_load(&P.backup) == BACKUP_RESTS) {
		platform_wait(&P.backup, BACKUP_RESTS, PLATFORM_FOREVER);
	}
}

void
skynet_poll_thread(void) {
	uint64_t tick = TICK_MIN_NS;
	uint64_t seen = 0;
	while (atomic_load(&P.backup) != BACKUP_ENDS) {
		platform_wait(&P.backup, BACKUP_TICKS, platform_monotonic_ns() + tick);
		uint64_t rounds = atomic_load_explicit(&P.rounds, memory_order_relaxed);
		if (atomic_load(&P.is_attended)) {
			tick *= 2;
			if (tick > TICK_MAX_NS) {
				rest();
				tick = TICK_MIN_NS;
			}
		} else {
			tick = TICK_MIN_NS;
			if (rounds == seen) {
				// Waits for events here: every worker is busy for long.
				skynet_socket_poll();
				count_round();
			}
		}
		seen = atomic_load_explicit(&P.rounds, memory_order_relaxed);
	}
}

void
skynet_poll_exit(void) {
	atomic_store(&P.backup, BACKUP_ENDS);
	platform_wake_all(&P.backup);
	skynet_socket_wakeup();
}

void
skynet_poll_init(void) {
	atomic_store(&P.backup, BACKUP_TICKS);
	atomic_store(&P.is_attended, false);
	P.glance_ticks = platform_ns_to_ticks(GLANCE_NS);
	scheduler_on_idle(look, NULL);
	scheduler_set_pollster(&pollster);
}
