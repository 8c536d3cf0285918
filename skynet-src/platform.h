/*
 * The one door to the operating system for time, randomness and the parking of
 * threads. A simulator replaces this file's .c and nothing else.
 */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Nanoseconds: of a clock that never jumps, of the wall clock since 1970 UTC,
   and of CPU used by the calling thread. */
uint64_t platform_monotonic_ns(void);
uint64_t platform_wallclock_ns(void);
uint64_t platform_thread_cpu_ns(void);

/*
 * A cheap counter that advances at a constant rate, for short intervals on one
 * thread. platform_init measures the rate; before that a tick is taken as 1 ns.
 */
static inline uint64_t
platform_ticks(void) {
#if defined(__x86_64__)
	uint32_t lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
#elif defined(__aarch64__)
	uint64_t v;
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
	return v;
#else
	return platform_monotonic_ns();
#endif
}

/* What the ticks of platform_ticks are in nanoseconds, and back. Any thread. */
uint64_t platform_ticks_to_ns(uint64_t ticks);
uint64_t platform_ns_to_ticks(uint64_t ns);

/* Once, before threads are made. */
void platform_init(void);

/* 64 unpredictable bits. Any thread. */
uint64_t platform_random(void);

static inline void
platform_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Let another thread run. */
void platform_yield(void);

/*
 * EMFILE or ENFILE when no file can be opened at the moment, else 0. For those who were
 * told that something does not exist, which the system says of that, too.
 */
int platform_lack_of_descriptors(void);

/* Name of the calling thread for system tools; cut to 15 bytes. */
void platform_thread_name(const char *name);

/* Ask for precise wake-ups of the calling thread. */
void platform_thread_precise(void);

/*
 * Called by every thread but the main one: signals to the process should rather
 * be handled there.
 */
void platform_thread_signals(void);

/*
 * Block while *word == expected, until woken or until the monotonic clock
 * reaches deadline_ns (PLATFORM_FOREVER: no limit). May return early for no
 * reason: callers look again. Returns false when the deadline passed.
 */
#define PLATFORM_FOREVER UINT64_MAX
bool platform_wait(_Atomic(uint32_t) *word, uint32_t expected, uint64_t deadline_ns);

/* Wake one, or all, of those that wait on word. */
void platform_wake_one(_Atomic(uint32_t) *word);
void platform_wake_all(_Atomic(uint32_t) *word);

#endif
