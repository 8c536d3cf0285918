/*
 * The inside of a service, for the kernel's own files (skynet_server.c,
 * skynet_command.c, skynet_handle.c, snlua's statistics). Not for modules.
 *
 * Life: made by skynet_context_new with two references (the handle table's and
 * the launcher's); retired by skynet_handle_retire, which closes the mailbox;
 * reaped by the worker that runs it next, which bounces what is left and drops
 * the table's reference; destroyed on a worker once no reference is left and
 * every look-up that may have seen it has ended (epoch.h).
 */
#ifndef SKYNET_CONTEXT_H
#define SKYNET_CONTEXT_H

#include "mailbox.h"
#include "scheduler.h"
#include "skynet.h"
#include "skynet_log.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct skynet_module;
struct handle_name;

#define CONTEXT_RESULT_SIZE 32

/* Places that are noted of one service. */
#define CONTEXT_PLACES 32
/* Lines of one place at most. */
#define CONTEXT_PLACE_LINES 8

/*
 * A message touches the two lines that begin with the mailbox (see mailbox.h), and
 * the places; calls and texts use the line behind them.
 */
struct skynet_context {
	/* With the scheduler's hook, the handle (owner), and whether it is retired (shut). */
	_Alignas(64) struct mailbox mailbox;

	/* The running worker only (own callback); counters are readable by all. */
	skynet_cb cb;
	void *cb_ud;
	_Atomic(uint64_t) messages;  /* deliveries, the current one included */
	_Atomic(uint64_t) cpu_ticks; /* of completed messages */
	struct skynet_log_slot log;
	/* ---- 128; see context_note_places */
	int32_t places[CONTEXT_PLACES];
	/* ---- 256 */
	_Atomic(uint64_t) inside_out;     /* bytes inside of messages (mq_inside) that were taken */
	uint32_t session;                 /* last one allocated */
	bool is_reserved;                 /* not counted; set in its own init */
	char result[CONTEXT_RESULT_SIZE]; /* of the last text command */
	char *long_result;                /* one that did not fit; freed with the context */

	/* Many threads; set once unless stated. */
	_Alignas(64) _Atomic(int) ref;
	atomic_bool endless; /* set by the monitor, cleared by STAT */
	struct skynet_module *module;
	void *instance;
#ifdef CALLING_CHECK
	atomic_bool calling;
#endif

	/* Under the handle mutex. */
	struct handle_name *names;
	struct skynet_context *launched_before, *launched_after;

	uint64_t reap_epoch; /* once no reference is left */
};

_Static_assert(offsetof(struct skynet_context, places) == 128, "two lines for a message");
_Static_assert(offsetof(struct skynet_context, inside_out) == RUNNABLE_LINES * 64,
               "and the places");

/* Messages waiting, the current one excluded. Any thread with a reference. */
size_t context_queue_length(struct skynet_context *ctx);

/* Bytes inside of messages that wait, which the mailbox does not count. The same. */
size_t context_inside_bytes(struct skynet_context *ctx);

/* CPU nanoseconds of completed messages. Any thread with a reference. */
uint64_t context_cpu_ns(struct skynet_context *ctx);

/*
 * CPU nanoseconds of the message being delivered, 0 when profiling is off.
 * Own callback.
 */
uint64_t context_message_cpu_ns(struct skynet_context *ctx);

/*
 * Whether the calling thread is inside a callback, at whose end the function
 * set with context_after_delivery runs. The latter: before threads start.
 */
bool context_is_delivering(void);
/*
 * Told, on a worker, of each message whose type has a disposer and that comes
 * from the kernel, before its receiver sees it.
 */
void context_on_delivery(void (*fn)(int type, const void *data, size_t sz));
void context_after_delivery(void (*fn)(void));

/* The endless flag, cleared by reading. Any thread with a reference. */
bool context_take_endless(struct skynet_context *ctx);

/* A piece of memory. */
struct context_place {
	const void *at;
	size_t size;
};

/*
 * Note what the callback is going to touch with most messages, in place of what was
 * noted before. Where services are many none of it is in a cache when a message comes,
 * and one thing leads to the next; so it is all fetched at once, before the callback
 * runs. These are hints: what is no longer there does no harm, and what is too much or
 * too far is left out. Own callback; the addresses are not kept, nor used otherwise.
 */
void context_note_places(struct skynet_context *ctx, const struct context_place *place, size_t n);

/* Whether CPU accounting is on. */
bool context_profiling(void);

/* Ask the module to handle `signal`, on this thread. */
void context_signal(struct skynet_context *ctx, int signal);

/* Test hook: the session before the next one. Own callback. */
void context_set_session(struct skynet_context *ctx, uint32_t session);

/*
 * Queue a message whose inside `dispose` frees if it is never delivered (NULL:
 * nothing inside). 0, or -1 when dead: the caller keeps everything.
 */
int context_post(struct skynet_context *ctx, const struct skynet_message *msg,
                 void (*dispose)(void *data, size_t sz));

/*
 * Called by the handle table, which has just removed the entry: refuse further
 * messages. True when the caller must schedule ctx for its last visit. Inside
 * an epoch section.
 */
bool context_close(struct skynet_context *ctx);

/* Tell who listens to context_on_gone that the node is closing. */
void context_notice_closing(void);

/* Take a reference unless the last one is gone already. Inside an epoch section. */
bool context_try_grab(struct skynet_context *ctx);

/* Told of every service that has died, on a worker, before its release. */
void context_on_death(void (*fn)(uint32_t handle));

/*
 * Told the number of counted services whenever one is gone, on the thread that
 * destroyed it. Set before any worker starts.
 */
void context_on_gone(void (*fn)(int total));

/*
 * Have an idle service to oneself, as in a turn, until context_unclaim; false if
 * it is not idle. The latter is false when messages came meanwhile, or death: it
 * is scheduled then. Worker with a reference, outside callbacks.
 */
bool context_claim(struct skynet_context *ctx);
bool context_unclaim(struct skynet_context *ctx);

/* Body of struct runnable for a context: one turn (skynet_dispatch.c). */
void context_run(struct runnable *r, struct worker *w);

/*
 * Drop the handle table's reference of a retired, emptied context; destroys it
 * at once when that is possible. Worker only, outside callbacks.
 */
void context_bury(struct skynet_context *ctx);

#endif
