/*
 * Log lines about what peers do, so many that they can't fill the log: a hundred of a kind
 * in a second. How many others there were says the next one.
 *
 * Owns nothing. Used by one service only.
 */
#ifndef GATE_NOTICE_H
#define GATE_NOTICE_H

#include <stdint.h>

struct skynet_context;

/* Of one kind. Zeroed is none so far. */
struct gate_notice {
	uint64_t since; /* skynet_now of the first line of this second */
	unsigned lines; /* in it */
	unsigned hidden;
};

/* Logs the line, or counts it. */
void gate_notice(struct skynet_context *ctx, struct gate_notice *n, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
