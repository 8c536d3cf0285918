/*
 * A node lives at the level of the highest group of bits in which its tick
 * differs from the current one:
 *
 *   31    26 25    20 19    14 13     8 7         0
 *   [far 3 ] [far 2 ] [far 1 ] [far 0 ] [  near   ]
 *
 * When the current tick enters the span of a far slot, that slot's nodes move
 * down. Nothing can have gone straight to the lower level before that moment,
 * which is why order survives. Bitmaps of used slots tell the next tick that
 * matters, so that time passes over empty stretches in one step.
 */
#include "timer_wheel.h"

#include <stddef.h>
#include <string.h>

static void
append(struct timer_list *list, struct timer_node *node) {
	if (list->tail) {
		node->next = list->tail->next;
		list->tail->next = node;
	} else {
		node->next = node;
	}
	list->tail = node;
}

/* Append all of `from`, which becomes empty. */
static void
splice(struct timer_list *list, struct timer_list *from) {
	if (from->tail == NULL) {
		return;
	}
	if (list->tail) {
		struct timer_node *first = list->tail->next;
		list->tail->next = from->tail->next;
		from->tail->next = first;
	}
	list->tail = from->tail;
	from->tail = NULL;
}

struct timer_node *
timer_list_pop(struct timer_list *list) {
	struct timer_node *node;

	if (list->tail == NULL) {
		return NULL;
	}
	node = list->tail->next;
	if (node == list->tail) {
		list->tail = NULL;
	} else {
		list->tail->next = node->next;
	}
	return node;
}

void
timer_wheel_init(struct timer_wheel *w, uint32_t now) {
	memset(w, 0, sizeof(*w));
	w->current = now;
}

/* Lowest bit of the tick that indexes far level `level`. */
static int
shift_of(int level) {
	return TIMER_NEAR_BITS + level * TIMER_FAR_BITS;
}

/* Put a node that expires at or after the current tick into its slot. */
static void
place(struct timer_wheel *w, struct timer_node *node) {
	uint32_t differ = node->expire ^ w->current;
	int level;

	if (differ < TIMER_NEAR) {
		uint32_t i = node->expire % TIMER_NEAR;
		append(&w->near[i], node);
		w->near_used[i / 64] |= UINT64_C(1) << (i % 64);
		return;
	}
	for (level = 0; level < TIMER_LEVELS - 1; level++) {
		if (differ >> shift_of(level + 1) == 0) {
			break;
		}
	}
	uint32_t i = (node->expire >> shift_of(level)) % TIMER_FAR;
	append(&w->far[level][i], node);
	w->far_used[level] |= UINT64_C(1) << i;
}

void
timer_wheel_add(struct timer_wheel *w, struct timer_node *node) {
	/* Not half of the range: a long delay may well look like the past. */
	if (w->current - node->expire < TIMER_LAG) {
		append(&w->due, node);
	} else {
		place(w, node);
	}
}

/* Index of the first used near slot after `from`, or -1. */
static int
next_near(const struct timer_wheel *w, uint32_t from) {
	uint32_t i = from + 1;

	while (i < TIMER_NEAR) {
		uint64_t bits = w->near_used[i / 64] >> (i % 64);
		if (bits) {
			return (int)(i + (uint32_t)__builtin_ctzll(bits));
		}
		i = (i / 64 + 1) * 64;
	}
	return -1;
}

bool
timer_wheel_next(const struct timer_wheel *w, uint32_t *ticks) {
	uint32_t current = w->current;
	int level, near;

	if (w->due.tail) {
		*ticks = 0;
		return true;
	}
	near = next_near(w, current % TIMER_NEAR);
	if (near >= 0) {
		*ticks = (uint32_t)near - current % TIMER_NEAR;
		return true;
	}
	for (level = 0; level < TIMER_LEVELS; level++) {
		uint32_t at = (current >> shift_of(level)) % TIMER_FAR;
		uint64_t used = w->far_used[level];
		/* Slots after the present one; only the top level wraps round. */
		uint64_t later = at == TIMER_FAR - 1 ? 0 : used >> (at + 1) << (at + 1);
		if (level == TIMER_LEVELS - 1 && later == 0) {
			later = used;
		}
		if (later) {
			uint32_t i = (uint32_t)__builtin_ctzll(later);
			uint32_t start = (current >> shift_of(level)) - at + i;
			*ticks = (start << shift_of(level)) - current;
			return true;
		}
	}
	return false;
}

/* The current tick has just become the first of some far slots: move them. */
static void
cascade(struct timer_wheel *w) {
	int level;

	for (level = TIMER_LEVELS - 1; level >= 0; level--) {
		struct timer_list list;
		struct timer_node *node;
		uint32_t i;

		if (w->current & ((UINT32_C(1) << shift_of(level)) - 1)) {
			continue;
		}
		i = (w->current >> shift_of(level)) % TIMER_FAR;
		list = w->far[level][i];
		w->far[level][i].tail = NULL;
		w->far_used[level] &= ~(UINT64_C(1) << i);
		while ((node = timer_list_pop(&list)) != NULL) {
			place(w, node);
		}
	}
}

void
timer_wheel_advance(struct timer_wheel *w, uint32_t now, struct timer_list *out) {
	uint32_t ticks, slot;

	splice(out, &w->due);
	while (timer_wheel_next(w, &ticks)) {
		if ((int32_t)(now - w->current) < 0 || ticks > now - w->current) {
			break;
		}
		w->current += ticks;
		cascade(w);
		slot = w->current % TIMER_NEAR;
		splice(out, &w->near[slot]);
		w->near_used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
	}
	if ((int32_t)(now - w->current) > 0) {
		w->current = now;
	}
}

void
timer_wheel_touch(struct timer_wheel *w, uint32_t now) {
	struct timer_list list = {NULL};

	timer_wheel_advance(w, now, &list);
	w->due = list;
}

void
timer_wheel_clear(struct timer_wheel *w, struct timer_list *out) {
	int level, i;

	splice(out, &w->due);
	for (i = 0; i < TIMER_NEAR; i++) {
		splice(out, &w->near[i]);
	}
	for (level = 0; level < TIMER_LEVELS; level++) {
		for (i = 0; i < TIMER_FAR; i++) {
			splice(out, &w->far[level][i]);
		}
	}
	timer_wheel_init(w, w->current);
}
