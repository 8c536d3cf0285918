/*
 * The per-message path on the receiving side: a worker's turn at a service,
 * delivery to the callback with its accounting, and what becomes of messages
 * that cannot be delivered.
 *
 * A turn's budget is one message on workers of weight -1; on others what was
 * waiting behind the first one, shifted right by the weight. So some workers
 * keep the latency low while others clear long queues.
 */
#include "malloc_hook.h"
#include "platform.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_monitor.h"
#include "skynet_server.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Callbacks shorter than this are timed by the tick counter alone. */
#define LONG_CALLBACK_NS 100000
/* After a callback of this length the mailbox may have filled up. */
#define BUSY_CALLBACK_NS 20000
/* The relation of ticks to CPU time is refreshed at least this often. */
#define SYNC_INTERVAL_NS 10000000
/* Turns at one service before the worker looks around, nothing else waiting. */
#define LONELY_TURNS 16

/*
 * CPU clock of a thread. A tick counter costs some 10 ns, the system's CPU clock
 * 200. So the latter is read only now and then; `ticks` and `cpu_ns` are one
 * moment on both. Ticks since then are taken as CPU time, which is wrong when
 * the thread lost its CPU; that matters for long callbacks only, and those are
 * measured again.
 */
struct cpu_clock {
	uint64_t ticks;
	uint64_t cpu_ns;
	uint64_t begin; /* ticks when the current callback began */
	uint32_t rests; /* of the worker, at that moment */
};

static __thread struct cpu_clock cpu_clock;

static struct {
	bool is_on; /* the rest is set before threads start, too */
	uint64_t long_ticks;
	uint64_t busy_ticks;
	uint64_t sync_ticks;
} profile;

void
skynet_profile_enable(int enable) {
	profile.is_on = enable != 0;
	profile.long_ticks = platform_ns_to_ticks(LONG_CALLBACK_NS);
	profile.busy_ticks = platform_ns_to_ticks(BUSY_CALLBACK_NS);
	profile.sync_ticks = platform_ns_to_ticks(SYNC_INTERVAL_NS);
}

bool
context_profiling(void) {
	return profile.is_on;
}

/*----------------------------------------------------------------- CPU time */

static void
clock_sync(struct cpu_clock *c, uint64_t now) {
	c->ticks = now;
	c->cpu_ns = platform_thread_cpu_ns();
}

static void
clock_begin(struct worker *w) {
	struct cpu_clock *c = &cpu_clock;
	uint32_t rests = w ? scheduler_rests(w) : 0;
	uint64_t now = platform_ticks();

	if (now - c->ticks > profile.sync_ticks || c->rests != rests) {
		clock_sync(c, now);
		c->rests = rests;
	}
	c->begin = now;
}

/* CPU nanoseconds since the callback began, by the system's clock. */
static uint64_t
clock_measure(const struct cpu_clock *c, uint64_t cpu_now) {
	uint64_t before = c->cpu_ns + platform_ticks_to_ns(c->begin - c->ticks);

	return cpu_now > before ? cpu_now - before : 0;
}

/* Ticks of CPU time that the callback took; *whole becomes its whole time. */
static uint64_t
clock_end(uint64_t *whole) {
	struct cpu_clock *c = &cpu_clock;
	uint64_t now = platform_ticks();
	uint64_t spent = now - c->begin;

	*whole = spent;
	if (spent > profile.long_ticks) {
		uint64_t cpu_now = platform_thread_cpu_ns();
		uint64_t measured = platform_ns_to_ticks(clock_measure(c, cpu_now));
		if (measured < spent) {
			spent = measured;
		}
		c->ticks = now;
		c->cpu_ns = cpu_now;
	}
	return spent;
}

uint64_t
context_cpu_ns(struct skynet_context *ctx) {
	return platform_ticks_to_ns(atomic_load_explicit(&ctx->cpu_ticks, memory_order_relaxed));
}

uint64_t
context_message_cpu_ns(struct skynet_context *ctx) {
	(void)ctx;
	return profile.is_on ? clock_measure(&cpu_clock, platform_thread_cpu_ns()) : 0;
}

/* Of the message being delivered on this thread, see mailbox_node. */
static __thread uint64_t stamp;

uint64_t
skynet_context_message_time(struct skynet_context *ctx) {
	(void)ctx;
	return stamp ? stamp - 1 : skynet_now();
}

/*---------------------------------------------------------- the undelivered */

/* Counters have one writer, the running worker: a load and a store will do. */
static void
add_to(_Atomic(uint64_t) *counter, uint64_t n) {
	uint64_t v = atomic_load_explicit(counter, memory_order_relaxed);

	/* Release: pairs with the acquire in context_inside_bytes; free on x86. */
	atomic_store_explicit(counter, v + n, memory_order_release);
}

/* The oldest message, as mailbox_pop. */
static struct mailbox_node *
pop(struct skynet_context *ctx, bool *is_idle) {
	struct mailbox_node *node = mailbox_pop(&ctx->mailbox, is_idle);

	if (node && node->dispose) {
		add_to(&ctx->inside_out, mq_inside(&node->msg));
	}
	return node;
}

/* Free the message; with its inside, which nobody has looked at. */
static void
discard(struct mailbox_node *node) {
	if (node->dispose && node->msg.data) {
		node->dispose(node->msg.data, node->msg.sz & MESSAGE_TYPE_MASK);
	}
	skynet_free(node->msg.data);
	mailbox_node_free(node);
}

/*
 * Tell the sender that nobody will answer; never about answers themselves, nor
 * about multicasts, whose session is a channel and not the sender's.
 */
static void
answer_error(uint32_t handle, const struct skynet_message *msg) {
	int type = (int)(msg->sz >> MESSAGE_TYPE_SHIFT);

	if (msg->source != 0 && type != PTYPE_RESPONSE && type != PTYPE_ERROR &&
	    type != PTYPE_MULTICAST) {
		skynet_send(NULL, handle, msg->source, PTYPE_ERROR, msg->session, NULL, 0);
	}
}

/* The service is retired: return to sender what is left, then let it go. */
static void
reap(struct skynet_context *ctx) {
	struct mailbox_node *node;
	bool is_idle;

	malloc_set_owner(ctx->mailbox.owner);
	while ((node = pop(ctx, &is_idle)) != NULL) {
		answer_error(ctx->mailbox.owner, &node->msg);
		discard(node);
	}
	assert(!is_idle);
	context_bury(ctx);
}

/*----------------------------------------------------------------- delivery */

#ifdef CALLING_CHECK
#define CALLING_BEGIN(ctx) assert(!atomic_exchange(&(ctx)->calling, true))
#define CALLING_END(ctx) atomic_store(&(ctx)->calling, false)
#else
#define CALLING_BEGIN(ctx)
#define CALLING_END(ctx)
#endif

static __thread bool is_delivering;
static void (*after_delivery)(void); /* set before threads start, as is this: */
static void (*on_delivery)(int type, const void *data, size_t sz);

bool
context_is_delivering(void) {
	return is_delivering;
}

void
context_after_delivery(void (*fn)(void)) {
	after_delivery = fn;
}

void
context_on_delivery(void (*fn)(int type, const void *data, size_t sz)) {
	on_delivery = fn;
}

/* Hand one message to the callback. Takes the node. */
static void
deliver(struct skynet_context *ctx, struct mailbox_node *node, struct worker *w) {
	struct skynet_message msg = node->msg;
	int type = (int)(msg.sz >> MESSAGE_TYPE_SHIFT);
	size_t size = msg.sz & MESSAGE_TYPE_MASK;
	uint64_t outer_stamp = stamp;
	int is_taken;

	if (ctx->cb == NULL) {
		if (msg.session != 0) {
			answer_error(ctx->mailbox.owner, &msg);
		}
		discard(node);
		return;
	}
	stamp = node->stamp;
	if (node->dispose && on_delivery && msg.source == 0) {
		on_delivery(type, msg.data, size);
	}
	mailbox_node_free(node);
	add_to(&ctx->messages, 1);
	if (skynet_log_is_on(&ctx->log) &&
	    !skynet_log_message(&ctx->log, msg.source, type, msg.session, msg.data, size)) {
		skynet_error(ctx, "error: can't write the message log: %s", strerror(errno));
	}
	CALLING_BEGIN(ctx);
	is_delivering = true;
	if (profile.is_on) {
		uint64_t whole;
		clock_begin(w);
		is_taken = ctx->cb(ctx, ctx->cb_ud, type, msg.session, msg.source, msg.data, size);
		add_to(&ctx->cpu_ticks, clock_end(&whole));
		if (whole > profile.busy_ticks) {
			mailbox_check_soon(&ctx->mailbox);
		}
	} else {
		is_taken = ctx->cb(ctx, ctx->cb_ud, type, msg.session, msg.source, msg.data, size);
		mailbox_check_soon(&ctx->mailbox);
	}
	is_delivering = false;
	stamp = outer_stamp;
	if (after_delivery) {
		after_delivery();
	}
	CALLING_END(ctx);
	if (!is_taken) {
		skynet_free(msg.data);
	}
}

static void
deliver_watched(struct skynet_context *ctx, struct mailbox_node *node, struct worker *w) {
	struct skynet_monitor *monitor = scheduler_monitor(w);

	malloc_set_owner(ctx->mailbox.owner);
	skynet_monitor_mark(monitor, node->msg.source, ctx->mailbox.owner);
	deliver(ctx, node, w);
	skynet_monitor_mark(monitor, 0, 0);
}

/*------------------------------------------------------------------- places */

/* A place in a word: its distance from the context in lines, and its lines less one. */
#define PLACE_SHIFT 3
#define LINE 64

_Static_assert(CONTEXT_PLACE_LINES == 1 << PLACE_SHIFT, "low bits of a place");

void
context_note_places(struct skynet_context *ctx, const struct context_place *place, size_t n) {
	size_t kept = 0;

	for (size_t i = 0; i < n && kept < CONTEXT_PLACES; i++) {
		intptr_t first = (intptr_t)place[i].at / LINE;
		intptr_t lines = ((intptr_t)place[i].at + (intptr_t)place[i].size - 1) / LINE - first + 1;
		intptr_t distance = first - (intptr_t)ctx / LINE;
		if (place[i].at == NULL || lines <= 0 || distance == 0 ||
		    distance > INT32_MAX >> PLACE_SHIFT || distance < INT32_MIN >> PLACE_SHIFT) {
			continue;
		}
		if (lines > CONTEXT_PLACE_LINES) {
			lines = CONTEXT_PLACE_LINES;
		}
		ctx->places[kept++] = (int32_t)(distance * CONTEXT_PLACE_LINES + lines - 1);
	}
	if (kept < CONTEXT_PLACES) {
		ctx->places[kept] = 0;
	}
}

static void
fetch_places(struct skynet_context *ctx) {
	for (int i = 0; i < CONTEXT_PLACES && ctx->places[i] != 0; i++) {
		int32_t place = ctx->places[i];
		const char *at = (const char *)ctx + (intptr_t)(place >> PLACE_SHIFT) * LINE;
		for (int lines = place & (CONTEXT_PLACE_LINES - 1); lines >= 0; lines--) {
			__builtin_prefetch(at + lines * LINE);
		}
	}
}

static size_t
turn_budget(struct skynet_context *ctx, int weight) {
	size_t waiting, budget;

	if (weight < 0) {
		return 1;
	}
	/* The first message is about to be taken and does not count. */
	waiting = mailbox_length(&ctx->mailbox);
	budget = waiting > 0 ? (waiting - 1) >> weight : 0;
	return budget > 0 ? budget : 1;
}

/*
 * One turn. False when the service is no longer ours: idle, or gone. Every
 * delivery is preceded by a look at whether the service still lives.
 */
static bool
turn(struct skynet_context *ctx, struct worker *w) {
	size_t budget = turn_budget(ctx, scheduler_weight(w));
	bool is_idle;

	while (budget-- > 0) {
		struct mailbox_node *node;
		if (mailbox_is_shut(&ctx->mailbox)) {
			reap(ctx);
			return false;
		}
		node = pop(ctx, &is_idle);
		if (node == NULL) {
			if (!is_idle) {
				reap(ctx);
			}
			return false;
		}
		if (ctx->mailbox.is_overloaded) {
			skynet_error(ctx, "error: May overload, message queue length = %d",
			             (int)mailbox_overload(&ctx->mailbox));
		}
		deliver_watched(ctx, node, w);
	}
	return !mailbox_rest(&ctx->mailbox);
}

void
context_run(struct runnable *r, struct worker *w) {
	struct skynet_context *ctx =
	    (struct skynet_context *)((char *)r - offsetof(struct skynet_context, mailbox.run));
	int turns;

	fetch_places(ctx);
	for (turns = 0; turns < LONELY_TURNS; turns++) {
		if (!turn(ctx, w)) {
			return;
		}
		if (scheduler_has_waiting(w)) {
			break;
		}
	}
	scheduler_push(r);
}

bool
context_claim(struct skynet_context *ctx) {
	return mailbox_claim(&ctx->mailbox);
}

bool
context_unclaim(struct skynet_context *ctx) {
	if (mailbox_rest(&ctx->mailbox)) {
		return true;
	}
	scheduler_push(&ctx->mailbox.run);
	return false;
}

void
skynet_context_dispatchall(struct skynet_context *ctx) {
	uint32_t owner = malloc_owner();

	malloc_set_owner(ctx->mailbox.owner);
	while (mailbox_length(&ctx->mailbox) > 0) {
		bool is_idle;
		deliver(ctx, pop(ctx, &is_idle), NULL);
	}
	malloc_set_owner(owner);
}
