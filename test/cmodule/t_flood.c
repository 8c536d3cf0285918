/* Makes more lines than may wait for a log service (t_slowlogger) that is held up. */
#include "claims.h"
#include "t_slowlogger.h"

#define LINES 200

int t_flood_init(void *inst, struct skynet_context *ctx, const char *param);

static int seen;

static bool
hold_up(struct skynet_context *ctx) {
	skynet_error(ctx, "block");
	return true;
}

static bool
flood(struct skynet_context *ctx) {
	if (!slowlogger_notes()->waiting) {
		return false;
	}
	for (int i = 1; i <= LINES; i++) {
		skynet_error(ctx, "flood %d", i);
	}
	seen = slowlogger_notes()->seen;
	slowlogger_notes()->gate = true;
	return true;
}

/* Once lines get through again, one is made that reports the loss. */
static bool
go_on(struct skynet_context *ctx) {
	if (slowlogger_notes()->seen < seen + LINES / 2) {
		return false;
	}
	skynet_error(ctx, "flood is over");
	return true;
}

int
t_flood_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {hold_up, flood, go_on, NULL};
	return claims_init(ctx, steps);
}
