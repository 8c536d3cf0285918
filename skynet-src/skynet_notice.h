/*
 * Log lines that peers can make a service say at will, so many that they can't fill the
 * log: a hundred of a kind in a second. How many others there were says the next one.
 *
 * Owns nothing. A kind belongs to one service, whose thread alone uses it. (The socket
 * server's lines come from many threads, see socket_impl.h.)
 */
#ifndef SKYNET_NOTICE_H
#define SKYNET_NOTICE_H

#include <stdbool.h>
#include <stdint.h>

struct skynet_context;

/* Of one kind. Zeroed is none so far. */
struct skynet_notice {
	uint64_t since; /* skynet_now of the first line of this second */
	unsigned lines; /* in it */
	unsigned hidden;
};

/* Logs the line, of up to 512 bytes, or counts it. */
void skynet_notice(struct skynet_context *ctx, struct skynet_notice *n, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * For who writes the line itself: whether it may, or the line is counted. Then *hidden is
 * how many were not written before it, which it is to tell.
 */
bool skynet_notice_begin(struct skynet_notice *n, unsigned *hidden);

#endif
