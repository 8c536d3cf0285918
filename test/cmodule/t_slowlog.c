/* Makes a line while the log service (t_slowlogger) is held up for a while. */
#include "claims.h"
#include "t_slowlogger.h"

/* How much later the line is handled than made, in centiseconds. */
#define DELAY 100

int t_slowlog_init(void *inst, struct skynet_context *ctx, const char *param);

/* When the line was made: between these. */
static uint64_t made, until;

static bool
hold_up(struct skynet_context *ctx) {
	skynet_error(ctx, "block");
	return true;
}

static bool
make_line(struct skynet_context *ctx) {
	if (!slowlogger_notes()->waiting) {
		return false;
	}
	made = skynet_now();
	skynet_error(ctx, "made at %llu", (unsigned long long)made);
	until = skynet_now();
	skynet_error(ctx, "or until %llu", (unsigned long long)until);
	return true;
}

static bool
let_go(struct skynet_context *ctx) {
	(void)ctx;
	if (skynet_now() < until + DELAY) {
		return false;
	}
	slowlogger_notes()->gate = true;
	return true;
}

int
t_slowlog_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {hold_up, make_line, let_go, NULL};
	return claims_init(ctx, steps);
}
