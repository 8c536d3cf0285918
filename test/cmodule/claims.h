/*
 * A driver for tests of the C API, as a service: the node's bootstrap module
 * is a table of steps, run one after another in the service's own callback. A
 * step that returns false is run again a tick later, until it returns true.
 * Every claim is one log line; the process ends with status 1 if any failed.
 * Messages that arrive in between are noted for the steps to look at.
 */
#ifndef CLAIMS_H
#define CLAIMS_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "skynet.h"
#include "skynet_server.h"

/* The API takes data that it only reads as void *. */
#define DATA(text) ((void *)(uintptr_t)(text))

#define MAX_EVENTS 256
/* Ticks that a step may wait. Generous: it only bounds a failure. */
#define MAX_WAIT 6000

typedef bool (*claims_step)(struct skynet_context *ctx);

struct event {
	int type;
	int session;
	uint32_t source;
	const void *msg; /* for comparison with NULL only */
	size_t sz;
	char text[64]; /* what fits of the data, terminated */
};

static struct {
	const claims_step *steps; /* ends with NULL */
	int step;
	int session; /* of the timer that runs the next step */
	int waited;
	int made;
	int failed;
	int event_count;
	struct event event[MAX_EVENTS];
} claims;

#define CLAIM(ctx, condition) claims_check(ctx, condition, #condition, __LINE__)
#define CLAIM_TEXT(ctx, got, want) claims_text(ctx, got, want, #got, __LINE__)

static inline bool
claims_check(struct skynet_context *ctx, bool holds, const char *text, int line) {
	claims.made++;
	claims.failed += !holds;
	skynet_error(ctx, "%s %d - %s (line %d)", holds ? "ok" : "not ok", claims.made, text, line);
	return holds;
}

/* Equal texts, of which either may be NULL. */
static inline bool
claims_text(struct skynet_context *ctx, const char *got, const char *want, const char *text,
            int line) {
	bool same = got == want || (got != NULL && want != NULL && strcmp(got, want) == 0);
	if (!same) {
		skynet_error(ctx, "got %s, want %s", got == NULL ? "(null)" : got,
		             want == NULL ? "(null)" : want);
	}
	return claims_check(ctx, same, text, line);
}

static inline void
claims_arm(struct skynet_context *ctx, const char *delay) {
	const char *session = skynet_command(ctx, "TIMEOUT", delay);
	claims.session = 0;
	sscanf(session, "%d", &claims.session);
}

static inline void
claims_next(struct skynet_context *ctx) {
	if (claims.steps[claims.step](ctx)) {
		claims.step++;
		claims.waited = 0;
	} else if (++claims.waited > MAX_WAIT) {
		skynet_error(ctx, "step %d does not end", claims.step);
		claims_check(ctx, false, "every step ends", 0);
		claims.step++;
	}
	if (claims.steps[claims.step] != NULL) {
		claims_arm(ctx, claims.waited == 0 ? "0" : "1");
		return;
	}
	skynet_error(ctx, "claims: %d made, %d failed", claims.made, claims.failed);
	skynet_command(ctx, "ABORT", claims.failed == 0 ? "0" : "1");
}

static inline void
claims_note(int type, int session, uint32_t source, const void *msg, size_t sz) {
	if (claims.event_count == MAX_EVENTS) {
		return;
	}
	struct event *e = &claims.event[claims.event_count++];
	*e = (struct event){.type = type, .session = session, .source = source, .msg = msg, .sz = sz};
	if (msg != NULL && type != PTYPE_SOCKET) {
		memcpy(e->text, msg, sz < sizeof(e->text) ? sz : sizeof(e->text) - 1);
	}
}

static inline int
claims_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
          const void *msg, size_t sz) {
	(void)ud;
	if (type == PTYPE_RESPONSE && source == 0 && session == claims.session) {
		claims_next(ctx);
	} else {
		claims_note(type, session, source, msg, sz);
	}
	return 0;
}

/* For NAME_init. */
static inline int
claims_init(struct skynet_context *ctx, const claims_step *steps) {
	claims.steps = steps;
	skynet_callback(ctx, NULL, claims_cb);
	claims_arm(ctx, "0");
	return 0;
}

/* Handle of a service launched by text command, 0 if that failed. */
static inline uint32_t
claims_launch(struct skynet_context *ctx, const char *what) {
	const char *address = skynet_command(ctx, "LAUNCH", what);
	unsigned handle = 0;
	if (address != NULL) {
		sscanf(address, ":%x", &handle);
	}
	return handle;
}

#endif
