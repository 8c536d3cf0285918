/*
 * POSIX and Linux behind platform.h. Where there is no futex, sleepers wait on
 * one of a few condition variables, chosen by the address of the word.
 */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#endif

#define NS_PER_SECOND 1000000000ULL

/* Nanoseconds per tick as a 32.32 fixed point number; set before threads. */
static uint64_t tick_scale = 1ULL << 32;

static uint64_t
read_clock(clockid_t id) {
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SECOND + (uint64_t)ts.tv_nsec;
}

uint64_t
platform_monotonic_ns(void) {
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t
platform_wallclock_ns(void) {
	return read_clock(CLOCK_REALTIME);
}

uint64_t
platform_thread_cpu_ns(void) {
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t
platform_ticks_to_ns(uint64_t ticks) {
	return (uint64_t)(((unsigned __int128)ticks * tick_scale) >> 32);
}

uint64_t
platform_ns_to_ticks(uint64_t ns) {
	return (uint64_t)(((unsigned __int128)ns << 32) / tick_scale);
}

void
platform_init(void) {
#if defined(__aarch64__)
	uint64_t hz;

	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hz));
	tick_scale = (NS_PER_SECOND << 32) / hz;
#elif defined(__x86_64__)
	/* Long enough for an error below 1 in 10^4, short enough for a start. */
	const uint64_t sample_ns = 2000000;
	uint64_t t0 = platform_ticks();
	uint64_t ns0 = platform_monotonic_ns();
	uint64_t ns1, t1;

	do {
		ns1 = platform_monotonic_ns();
		t1 = platform_ticks();
	} while (ns1 - ns0 < sample_ns);
	if (t1 > t0) {
		tick_scale = (uint64_t)(((unsigned __int128)(ns1 - ns0) << 32) / (t1 - t0));
	}
#endif
}

uint64_t
platform_random(void) {
	uint64_t v;

#if defined(__linux__)
	if (getrandom(&v, sizeof(v), 0) == (ssize_t)sizeof(v)) {
		return v;
	}
	v = platform_monotonic_ns() * 0x9e3779b97f4a7c15ULL;
	return v ^ platform_wallclock_ns();
#else
	arc4random_buf(&v, sizeof(v));
	return v;
#endif
}

void
platform_yield(void) {
	sched_yield();
}

int
platform_lack_of_descriptors(void) {
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		close(fd);
		return 0;
	}
	return errno == EMFILE || errno == ENFILE ? errno : 0;
}

void
platform_thread_name(const char *name) {
	/* The kernel's limit, with the terminator. */
	char buf[16];
	size_t n = strlen(name);

	if (n >= sizeof(buf)) {
		n = sizeof(buf) - 1;
	}
	memcpy(buf, name, n);
	buf[n] = '\0';
#if defined(__linux__)
	pthread_setname_np(pthread_self(), buf);
#elif defined(__APPLE__)
	pthread_setname_np(buf);
#endif
}

void
platform_thread_precise(void) {
#if defined(__linux__)
	/* The default slack of 50 us would delay every timer by that much. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
#endif
}

#if defined(__has_feature)
#define HAS_THREAD_SANITIZER __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define HAS_THREAD_SANITIZER 1
#else
#define HAS_THREAD_SANITIZER 0
#endif

/*
 * Normally any thread may run our handlers, and a mask would be inherited by
 * the programs that services start. But the thread sanitizer runs a handler
 * only when its thread makes a call that the sanitizer knows; a thread that
 * sleeps in a bare futex would keep the signal for ever.
 */
void
platform_thread_signals(void) {
	if (HAS_THREAD_SANITIZER) {
		sigset_t handled;
		sigemptyset(&handled);
		sigaddset(&handled, SIGHUP);
		sigaddset(&handled, SIGTERM);
		sigaddset(&handled, SIGINT);
		pthread_sigmask(SIG_BLOCK, &handled, NULL);
	}
}

#if defined(__linux__)

bool
platform_wait(_Atomic(uint32_t) *word, uint32_t expected, uint64_t deadline_ns) {
	struct timespec ts;
	struct timespec *limit = NULL;

	if (deadline_ns != PLATFORM_FOREVER) {
		ts.tv_sec = (time_t)(deadline_ns / NS_PER_SECOND);
		ts.tv_nsec = (long)(deadline_ns % NS_PER_SECOND);
		limit = &ts;
	}
	/* WAIT_BITSET takes an absolute time on the monotonic clock. */
	long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, limit, NULL,
	                  FUTEX_BITSET_MATCH_ANY);
	return rc == 0 || errno != ETIMEDOUT;
}

void
platform_wake_one(_Atomic(uint32_t) *word) {
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void
platform_wake_all(_Atomic(uint32_t) *word) {
	/* INT32_MAX: the call takes an int. */
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

#else

#define PARKING_LOTS 64

static struct parking_lot {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
} lots[PARKING_LOTS] = {
    [0 ... PARKING_LOTS - 1] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER},
};

static struct parking_lot *
lot_of(_Atomic(uint32_t) *word) {
	/* 6: words that matter live in different cache lines. */
	return &lots[((uintptr_t)word >> 6) % PARKING_LOTS];
}

bool
platform_wait(_Atomic(uint32_t) *word, uint32_t expected, uint64_t deadline_ns) {
	struct parking_lot *lot = lot_of(word);
	bool in_time = true;

	pthread_mutex_lock(&lot->mutex);
	if (atomic_load(word) == expected) {
		if (deadline_ns == PLATFORM_FOREVER) {
			pthread_cond_wait(&lot->cond, &lot->mutex);
		} else {
			uint64_t now = platform_monotonic_ns();
			uint64_t wait = deadline_ns > now ? deadline_ns - now : 0;
			uint64_t end = platform_wallclock_ns() + wait;
			struct timespec ts = {
			    .tv_sec = (time_t)(end / NS_PER_SECOND),
			    .tv_nsec = (long)(end % NS_PER_SECOND),
			};
			in_time = pthread_cond_timedwait(&lot->cond, &lot->mutex, &ts) == 0;
		}
	}
	pthread_mutex_unlock(&lot->mutex);
	return in_time;
}

/* A lot is shared by several words, so that waking one would not do. */
void
platform_wake_all(_Atomic(uint32_t) *word) {
	struct parking_lot *lot = lot_of(word);

	pthread_mutex_lock(&lot->mutex);
	pthread_cond_broadcast(&lot->cond);
	pthread_mutex_unlock(&lot->mutex);
}

void
platform_wake_one(_Atomic(uint32_t) *word) {
	platform_wake_all(word);
}

#endif
