/*
 * Claims about delivery: order, timers, overload, callbacks that spin. The
 * driver launches helpers from this same module, which share its variables.
 * The first word of the argument is the role.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "claims.h"
#include "skynet_handle.h"

int t_turns_init(void *inst, struct skynet_context *ctx, const char *param);

#define NUMBERED 20000
#define FLOOD 5000
/* The longest tail behind a removed message that is tolerated. */
#define TOLERATED 1024

static atomic_int gate;      /* sinks wait until it is open */
static atomic_int at_gate;   /* one does */
static atomic_int swallowed; /* messages that a sink has taken */
static atomic_int disorder;  /* numbered messages out of order */
static atomic_int last;
static atomic_int rounds; /* of the ping-pong */
static atomic_int is_spinning;
static atomic_int is_over;
static atomic_int flags[2]; /* STAT endless, asked twice */
static uint32_t helper;

static double
seconds(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Spin in the callback until *flag, for a generous time at most. */
static int
spin_until(atomic_int *flag) {
	double end = seconds() + 60;
	while (!atomic_load(flag) && seconds() < end) {
		sched_yield();
	}
	return atomic_load(flag);
}

/*--------------------------------------------------------------------- roles */

static int
sink_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
        const void *msg, size_t sz) {
	(void)ctx, (void)ud, (void)type, (void)source, (void)msg, (void)sz;
	if (!atomic_load(&gate)) {
		atomic_store(&at_gate, 1);
		spin_until(&gate);
		/* A busy service is one whose callback takes long. */
		for (double end = seconds() + 0.0005; seconds() < end;) {
		}
	}
	if (session > 0) {
		if (session <= atomic_load(&last)) {
			atomic_fetch_add(&disorder, 1);
		}
		atomic_store(&last, session);
	}
	atomic_fetch_add(&swallowed, 1);
	return 0;
}

static int
echo_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
        const void *msg, size_t sz) {
	(void)ud, (void)type, (void)session, (void)msg, (void)sz;
	atomic_fetch_add(&rounds, 1);
	if (!atomic_load(&is_over)) {
		skynet_send(ctx, 0, source, PTYPE_TEXT, 0, NULL, 0);
	}
	return 0;
}

/* Wakes the sink and spins until that has run: only another worker can do it. */
static int
spinner_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
           const void *msg, size_t sz) {
	(void)ud, (void)session, (void)source, (void)msg, (void)sz;
	if (type == PTYPE_TEXT) {
		skynet_send(ctx, 0, helper, PTYPE_TEXT, 0, NULL, 0);
		atomic_store(&is_spinning, spin_until(&swallowed) ? 2 : 1);
	} else if (type == PTYPE_CLIENT) {
		atomic_store(&is_spinning, 1);
		spin_until(&is_over);
		atomic_store(&is_spinning, 0);
	}
	return 0;
}

/* Spins until the monitor has found out. */
static int
endless_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
           const void *msg, size_t sz) {
	(void)ud, (void)type, (void)session, (void)source, (void)msg, (void)sz;
	double end = seconds() + 60;
	while (strcmp(skynet_command(ctx, "STAT", "endless"), "1") != 0 && seconds() < end) {
		sched_yield();
	}
	atomic_store(&flags[1], atoi(skynet_command(ctx, "STAT", "endless")));
	atomic_store(&flags[0], 1);
	return 0;
}

/* Told to end by the kernel: leaves, unless it is one of those that stay. */
static int
told_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
        const void *msg, size_t sz) {
	const char *name = ud;
	if (type == PTYPE_SYSTEM && session == 0 && source == 0) {
		skynet_error(ctx, "%s was told: %.*s", name, (int)sz, (const char *)msg);
		if (strcmp(name, "stayer") != 0) {
			skynet_command(ctx, "EXIT", NULL);
		}
	}
	return 0;
}

static int
stuck_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
         const void *msg, size_t sz) {
	(void)ud, (void)type, (void)session, (void)source, (void)msg, (void)sz;
	/* Not a log line: there may be no worker left to write it. */
	fprintf(stderr, "stuck is :%08x\n", skynet_context_handle(ctx));
	atomic_store(&is_spinning, 1);
	for (;;) {
		sched_yield();
	}
	return 0;
}

/*--------------------------------------------------------------------- claims */

static int sessions[8];
static uint64_t arming; /* how long it took, 1/100 s */

static bool
timers_are_armed(struct skynet_context *ctx) {
	static const char *delays[] = {"80", "80", "0", "-1", "5", "10", "15", "80"};
	uint64_t begin = skynet_now();
	claims.event_count = 0;
	for (int i = 0; i < 8; i++) {
		sessions[i] = atoi(skynet_command(ctx, "TIMEOUT", delays[i]));
	}
	arming = skynet_now() - begin;
	return true;
}

static bool
timers_arrive_by_delay_then_by_request(struct skynet_context *ctx) {
	static const int order[] = {2, 3, 4, 5, 6, 0, 1, 7};
	if (claims.event_count < 8) {
		return false;
	}
	/* On a machine that was busy with other things the long ones may come first. */
	if (arming > 50) {
		timers_are_armed(ctx);
		return false;
	}
	for (int i = 0; i < 8; i++) {
		struct event *e = &claims.event[i];
		CLAIM(ctx, e->session == sessions[order[i]]);
		CLAIM(ctx, e->type == PTYPE_RESPONSE && e->source == 0 && e->msg == NULL && e->sz == 0);
	}
	return true;
}

static bool
numbered_messages_are_sent(struct skynet_context *ctx) {
	atomic_store(&gate, 1);
	helper = claims_launch(ctx, "t_turns sink");
	for (int i = 1; i <= NUMBERED; i++) {
		skynet_send(ctx, 0, helper, PTYPE_TEXT, i, NULL, 0);
	}
	return true;
}

static bool
numbered_messages_arrive_in_order(struct skynet_context *ctx) {
	if (atomic_load(&swallowed) < NUMBERED) {
		return false;
	}
	CLAIM(ctx, atomic_load(&disorder) == 0);
	return true;
}

/* Occupies the sink with one message. */
static bool
sink_is_kept_busy(struct skynet_context *ctx) {
	atomic_store(&swallowed, 0);
	atomic_store(&at_gate, 0);
	atomic_store(&gate, 0);
	skynet_send(ctx, 0, helper, PTYPE_TEXT, 0, NULL, 0);
	return true;
}

/* Once it is busy: queues `count` behind that message, and lets it go on. */
static bool
flood(struct skynet_context *ctx, int count) {
	if (!atomic_load(&at_gate)) {
		return false;
	}
	for (int i = 0; i < count; i++) {
		skynet_send(ctx, 0, helper, PTYPE_TEXT, 0, NULL, 0);
	}
	atomic_store(&gate, 1);
	return true;
}

static bool
sink_is_flooded(struct skynet_context *ctx) {
	skynet_error(ctx, "flooding :%08x", helper);
	return flood(ctx, FLOOD);
}

static bool
flood_is_over(struct skynet_context *ctx) {
	(void)ctx;
	return atomic_load(&swallowed) >= FLOOD + 1;
}

/* The next one to be removed leaves one more than is tolerated. */
static bool
sink_is_just_too_full(struct skynet_context *ctx) {
	return flood(ctx, TOLERATED + 2);
}

static bool
excess_is_over(struct skynet_context *ctx) {
	(void)ctx;
	return atomic_load(&swallowed) >= TOLERATED + 3;
}

static bool
sink_is_tolerably_full(struct skynet_context *ctx) {
	return flood(ctx, TOLERATED + 1);
}

static bool
spinner_wakes_the_sink(struct skynet_context *ctx) {
	if (atomic_load(&swallowed) < TOLERATED + 2) {
		return false;
	}
	atomic_store(&swallowed, 0);
	uint32_t spinner = claims_launch(ctx, "t_turns spinner");
	skynet_send(ctx, 0, spinner, PTYPE_TEXT, 0, NULL, 0);
	return true;
}

static bool
sink_runs_while_the_spinner_spins(struct skynet_context *ctx) {
	if (atomic_load(&is_spinning) == 0) {
		return false;
	}
	CLAIM(ctx, atomic_load(&is_spinning) == 2);
	atomic_store(&is_spinning, 0);
	return true;
}

static bool
two_play_while_one_spins(struct skynet_context *ctx) {
	uint32_t a = claims_launch(ctx, "t_turns echo");
	uint32_t b = claims_launch(ctx, "t_turns echo");
	uint32_t spinner = claims_launch(ctx, "t_turns spinner");
	skynet_send(ctx, 0, spinner, PTYPE_CLIENT, 0, NULL, 0);
	skynet_send(ctx, a, b, PTYPE_TEXT, 0, NULL, 0);
	return true;
}

static bool
the_game_goes_on(struct skynet_context *ctx) {
	static int before = -1;
	if (!atomic_load(&is_spinning)) {
		return false;
	}
	if (before < 0) {
		before = atomic_load(&rounds);
	}
	if (atomic_load(&rounds) < before + 10000) {
		return false;
	}
	CLAIM(ctx, atomic_load(&is_spinning));
	atomic_store(&is_over, 1);
	return true;
}

static bool
endless_loop_begins(struct skynet_context *ctx) {
	uint32_t endless = claims_launch(ctx, "t_turns endless");
	skynet_error(ctx, "endless is :%08x", endless);
	skynet_send(ctx, 0, endless, PTYPE_TEXT, 0, NULL, 0);
	return true;
}

static bool
endless_loop_is_noticed(struct skynet_context *ctx) {
	if (!atomic_load(&flags[0])) {
		return false;
	}
	CLAIM(ctx, atomic_load(&flags[1]) == 0);
	return true;
}

static bool
silent_service_gets_requests(struct skynet_context *ctx) {
	claims.event_count = 0;
	helper = claims_launch(ctx, "t_turns silent");
	CLAIM(ctx, skynet_send(ctx, 0, helper, PTYPE_TEXT, 0, DATA("x"), 1) == 0);
	CLAIM(ctx, skynet_send(ctx, 0, helper, PTYPE_RESPONSE, 8, DATA("x"), 1) == 8);
	CLAIM(ctx, skynet_send(ctx, 0, helper, PTYPE_TEXT, 9, DATA("x"), 1) == 9);
	return true;
}

static bool
only_the_request_is_bounced(struct skynet_context *ctx) {
	if (claims.event_count == 0) {
		return false;
	}
	CLAIM(ctx, claims.event_count == 1);
	CLAIM(ctx, claims.event[0].type == PTYPE_ERROR && claims.event[0].session == 9);
	CLAIM(ctx, claims.event[0].source == helper);
	return true;
}

/* With one worker nothing can run beside a spinning callback. */
static const claims_step alone[] = {
    timers_are_armed,
    timers_arrive_by_delay_then_by_request,
    numbered_messages_are_sent,
    numbered_messages_arrive_in_order,
    endless_loop_begins,
    endless_loop_is_noticed,
    silent_service_gets_requests,
    only_the_request_is_bounced,
    NULL,
};

static const claims_step all[] = {
    timers_are_armed,
    timers_arrive_by_delay_then_by_request,
    numbered_messages_are_sent,
    numbered_messages_arrive_in_order,
    sink_is_kept_busy,
    sink_is_flooded,
    flood_is_over,
    sink_is_kept_busy,
    sink_is_just_too_full,
    excess_is_over,
    sink_is_kept_busy,
    sink_is_tolerably_full,
    spinner_wakes_the_sink,
    sink_runs_while_the_spinner_spins,
    two_play_while_one_spins,
    the_game_goes_on,
    endless_loop_begins,
    endless_loop_is_noticed,
    silent_service_gets_requests,
    only_the_request_is_bounced,
    NULL,
};

/*----------------------------------------------------------------- the end */

static int
stop_when_stuck(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
                const void *msg, size_t sz) {
	(void)ud, (void)type, (void)session, (void)source, (void)msg, (void)sz;
	if (atomic_load(&is_spinning)) {
		skynet_command(ctx, "ABORT", NULL);
	} else {
		skynet_command(ctx, "TIMEOUT", "1");
	}
	return 0;
}

static int
launch_stuck(struct skynet_context *ctx) {
	helper = claims_launch(ctx, "t_turns stuck");
	skynet_send(ctx, 0, helper, PTYPE_TEXT, 0, NULL, 0);
	skynet_callback(ctx, NULL, stop_when_stuck);
	skynet_command(ctx, "TIMEOUT", "1");
	return 0;
}

/* A reference that nobody will release. */
static int
launch_held(struct skynet_context *ctx) {
	helper = claims_launch(ctx, "t_turns silent");
	skynet_handle_grab(helper);
	skynet_command(ctx, "ABORT", NULL);
	return 0;
}

static int
launch_told(struct skynet_context *ctx) {
	claims_launch(ctx, "t_turns first");
	claims_launch(ctx, "t_turns stayer");
	claims_launch(ctx, "t_turns second");
	skynet_callback(ctx, DATA("root"), told_cb);
	skynet_error(ctx, "ready to be told");
	return 0;
}

static const struct role {
	const char *name;
	skynet_cb cb;
} roles[] = {
    {"sink", sink_cb},       {"echo", echo_cb},   {"spinner", spinner_cb},
    {"endless", endless_cb}, {"silent", NULL},    {"first", told_cb},
    {"second", told_cb},     {"stayer", told_cb}, {"stuck", stuck_cb},
};

int
t_turns_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst;
	if (strcmp(param, "all") == 0 || strcmp(param, "alone") == 0) {
		return claims_init(ctx, strcmp(param, "all") == 0 ? all : alone);
	}
	if (strcmp(param, "launch_stuck") == 0) {
		return launch_stuck(ctx);
	}
	if (strcmp(param, "launch_held") == 0) {
		return launch_held(ctx);
	}
	if (strcmp(param, "launch_told") == 0) {
		return launch_told(ctx);
	}
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (strcmp(param, roles[i].name) == 0) {
			skynet_callback(ctx, DATA(roles[i].name), roles[i].cb);
			return 0;
		}
	}
	return 1;
}
