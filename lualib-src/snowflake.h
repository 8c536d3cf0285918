/*
 * Ids of 64 bits that sort by time: 1 zero bit, 41 bits of milliseconds since an epoch, 10 bits of
 * node, 12 bits of sequence. Any thread.
 *
 * A sequence gives ever larger pairs of time and number, whatever the clock does: when the clock
 * stands, runs back or is outrun, the pairs go on from the last one.
 */
#ifndef SNOWFLAKE_H
#define SNOWFLAKE_H

#include <stdatomic.h>
#include <stdint.h>

#define SNOWFLAKE_TIME_BITS 41
#define SNOWFLAKE_NODE_BITS 10
#define SNOWFLAKE_SEQUENCE_BITS 12

/* The last pair: milliseconds since 1970, then the sequence bits. */
struct snowflake_sequence {
	_Atomic(uint64_t) last;
};

/* Takes `count` pairs at the time now_ms; returns the first one, the others follow it. */
uint64_t snowflake_take(struct snowflake_sequence *s, uint64_t now_ms, uint64_t count);

/* Later pairs will be above this one. */
void snowflake_raise(struct snowflake_sequence *s, uint64_t pair);

#endif
