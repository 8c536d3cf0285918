/*
 * Message log of a service (text commands LOGON and LOGOFF): every message
 * handed to its callback is appended to LOGPATH/HANDLE.log.
 *
 * A context embeds a `struct skynet_log_slot`, zeroed at birth. The worker that
 * runs the service asks skynet_log_is_on (one relaxed load) and writes through
 * the slot; LOGON and LOGOFF may come from any thread at any time. The slot's
 * functions exclude each other, so a stream is never closed under its writer.
 */
#ifndef SKYNET_LOG_H
#define SKYNET_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct skynet_context;

struct skynet_log_slot {
	_Atomic(FILE *) file; /* NULL = off; changed under the lock in skynet_log.c */
};

/* Whether messages should be written at all; a hint for the hot path. */
static inline bool
skynet_log_is_on(struct skynet_log_slot *slot) {
	/* Relaxed: skynet_log_message looks again under its lock. */
	return atomic_load_explicit(&slot->file, memory_order_relaxed) != NULL;
}

/*
 * Start the log of service `handle`; `ctx` is the requester, as which the
 * outcome is logged. Returns 1 when this call started it, 0 when it was on
 * already, -1 when it cannot be opened or `logpath` is not configured.
 */
int skynet_log_on(struct skynet_log_slot *slot, struct skynet_context *ctx, uint32_t handle);

/* Stop it with a closing record. Returns 1, or 0 when it was off. */
int skynet_log_off(struct skynet_log_slot *slot, struct skynet_context *ctx, uint32_t handle);

/*
 * Write one message, if the log is (still) on. Lends `buffer`, which may be NULL. False
 * with errno: it could not be written, and the one before could.
 */
bool skynet_log_message(struct skynet_log_slot *slot, uint32_t source, int type, int session,
                        const void *buffer, size_t sz);

/* The service dies: close the file without a closing record. */
void skynet_log_release(struct skynet_log_slot *slot);

/*
 * The pieces, for callers that keep the stream themselves and serialise its
 * use. open: NULL when `logpath` is absent or the file cannot be opened.
 */
FILE *skynet_log_open(struct skynet_context *ctx, uint32_t handle);
void skynet_log_close(struct skynet_context *ctx, FILE *f, uint32_t handle);
/* False with errno: not all of it could be written. */
bool skynet_log_output(FILE *f, uint32_t source, int type, int session, void *buffer, size_t sz);

#endif
