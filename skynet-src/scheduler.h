/*
 * The scheduler: worker threads, their run queues, stealing and sleeping. It
 * knows nothing of services: what it runs is a `struct runnable`.
 *
 * Each worker has a bounded FIFO of its own; who makes something runnable from
 * a worker puts it there, everybody else (and what does not fit) uses the
 * inject list. At most one idle worker watches: it looks for work to steal,
 * while the others sleep without time limit. When nothing runs, nobody watches
 * and no thread makes system calls.
 *
 * A runnable is in at most one queue, and is run by one worker at a time; its
 * owner sees to that (mailbox.h).
 */
#ifndef SCHEDULER_H
#define SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

struct worker;
struct skynet_monitor;

/*
 * Lies in the first of a few cache lines that running it touches, of which the worker
 * fetches so many while it runs what comes before.
 */
#define RUNNABLE_LINES 4

struct runnable {
	struct runnable *next; /* while in the inject list */
	void (*run)(struct runnable *r, struct worker *w);
};

/* Make the workers (not their threads). 1 <= count <= SKYNET_MAXTHREAD. */
void scheduler_init(int count);

/* After every worker ended. Runnables still queued are forgotten. */
void scheduler_exit(void);

/* Body of worker `index`; returns after scheduler_stop. */
void scheduler_work(int index);

/* Make every worker return from scheduler_work after its present turn. */
void scheduler_stop(void);

/* Queue a runnable and see that somebody runs it. Any thread. */
void scheduler_push(struct runnable *r);

/* What the worker runs next, or NULL: its own queue, then the inject list. */
struct runnable *scheduler_next(struct worker *w);

/* Run everything queued on the calling thread. Only while no worker runs. */
void scheduler_drain(void);

/* The worker that runs on this thread, or NULL. */
struct worker *scheduler_current(void);

/* Whether something waits that this worker should turn to. That worker only. */
bool scheduler_has_waiting(struct worker *w);

/* Weight of a worker's turns (skynet_dispatch.c), by its number or itself. */
int scheduler_weight_of(int index);
int scheduler_weight(const struct worker *w);

/* How often the worker has run out of work. That worker only. */
uint32_t scheduler_rests(const struct worker *w);

/* The record in which the worker notes what it runs. */
struct skynet_monitor *scheduler_monitor(struct worker *w);

/* The workers, and the record of one by its number. Any thread. */
int scheduler_count(void);
struct skynet_monitor *scheduler_monitor_at(int index);

/* Wake every worker that sleeps: it looks for work and goes to sleep again. */
void scheduler_wake_all(void);

/* True when every worker sleeps. Any thread. */
bool scheduler_is_asleep(void);

/*
 * Called on a worker that found nothing, before it sleeps. Nonzero: there may
 * be work now, look again. Set before the workers start.
 */
void scheduler_on_idle(int (*fn)(void *ud), void *ud);

/*
 * Called by a worker that found nothing and would sleep now: a bounded piece of
 * work that can wait. True when it did something; the worker looks for real work
 * then before it comes again. Set before the workers start.
 */
void scheduler_on_spare(bool (*fn)(void));

/*
 * Other places to sleep in, besides waiting for a signal: where something
 * from outside becomes ready (skynet_poll.c). One worker at a time has a place.
 */
struct scheduler_pollster {
	int (*take)(void);       /* a place, from 0; -1: other threads have all */
	void (*wait)(int place); /* until something is ready, or wake */
	void (*wake)(int place); /* end the present or next wait. Any thread */
	int (*serve)(int place); /* push what is ready, give it back; how many */
	void (*glance)(void);    /* a busy worker may push what is ready */
	void (*rescue)(void);    /* see to what workers in long callbacks hold back */
};

/* Before the workers start; lent for ever. */
void scheduler_set_pollster(const struct scheduler_pollster *pollster);

/* Called by the thread that wakes the first worker of a sleeping node. */
void scheduler_on_rouse(void (*fn)(void));

#endif
