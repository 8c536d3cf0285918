/*
 * A hierarchical timer wheel over a 32-bit tick counter that may wrap. A pure
 * data structure: no clock, no lock, no allocation; skynet_timer.c brings them.
 *
 * Nodes that expire on the same tick come out in the order they went in.
 */
#ifndef TIMER_WHEEL_H
#define TIMER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

struct timer_node {
	struct timer_node *next;
	uint32_t expire; /* tick */
	uint32_t handle;
	int session;
};

/* A FIFO of nodes: tail->next is the first. tail NULL: empty. */
struct timer_list {
	struct timer_node *tail;
};

#define TIMER_NEAR_BITS 8
#define TIMER_FAR_BITS 6
#define TIMER_NEAR (1 << TIMER_NEAR_BITS)
#define TIMER_FAR (1 << TIMER_FAR_BITS)
#define TIMER_LEVELS 4 /* above the near one: 8 + 4 * 6 = 32 bits */

struct timer_wheel {
	uint32_t current;      /* everything up to this tick has been taken out */
	struct timer_list due; /* added too late to wait for a tick */
	struct timer_list near[TIMER_NEAR];
	struct timer_list far[TIMER_LEVELS][TIMER_FAR];
	uint64_t near_used[TIMER_NEAR / 64];
	uint64_t far_used[TIMER_LEVELS];
};

/* An empty wheel; `now`: the tick of the caller's clock. */
void timer_wheel_init(struct timer_wheel *w, uint32_t now);

/* Ticks that the wheel may be behind the caller's clock. */
#define TIMER_LAG (1 << 24)

/*
 * Takes the node, whose expire lies at most 2^31 - 1 ticks ahead of a clock
 * that current lags behind by TIMER_LAG at most. A tick that has passed means:
 * due at once.
 */
void timer_wheel_add(struct timer_wheel *w, struct timer_node *node);

/* Catch up with the clock; what expires is due at the next advance. */
void timer_wheel_touch(struct timer_wheel *w, uint32_t now);

/*
 * Ticks from current to the next one that needs timer_wheel_advance: an expiry,
 * or the rearrangement of far timers. False when the wheel is empty.
 */
bool timer_wheel_next(const struct timer_wheel *w, uint32_t *ticks);

/* Move on to tick `now`; gives what expired, appended to `out` in order. */
void timer_wheel_advance(struct timer_wheel *w, uint32_t now, struct timer_list *out);

/* The first node of the list, removed from it, or NULL. */
struct timer_node *timer_list_pop(struct timer_list *list);

/* Every node left in the wheel, in no useful order. */
void timer_wheel_clear(struct timer_wheel *w, struct timer_list *out);

#endif
