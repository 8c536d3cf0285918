/* Sequences, see snowflake.h. */
#include "snowflake.h"

/*
 * Relaxed everywhere: one variable's own order is all that matters. Who learns of an id from
 * another thread, by whatever means, sees at least the value that it came from.
 */
uint64_t
snowflake_take(struct snowflake_sequence *s, uint64_t now_ms, uint64_t count) {
	uint64_t last = atomic_load_explicit(&s->last, memory_order_relaxed);
	uint64_t first;
	do {
		uint64_t now = now_ms << SNOWFLAKE_SEQUENCE_BITS;
		first = now > last ? now : last + 1;
	} while (!atomic_compare_exchange_weak_explicit(&s->last, &last, first + count - 1,
	                                                memory_order_relaxed, memory_order_relaxed));
	return first;
}

void
snowflake_raise(struct snowflake_sequence *s, uint64_t pair) {
	uint64_t last = atomic_load_explicit(&s->last, memory_order_relaxed);
	while (last < pair && !atomic_compare_exchange_weak_explicit(
	                          &s->last, &last, pair, memory_order_relaxed, memory_order_relaxed)) {
	}
}
