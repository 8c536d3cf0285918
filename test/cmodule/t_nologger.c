/* Kills the log service, logs, and puts another one in its place. */
#include <stdio.h>

#include "claims.h"

int t_nologger_init(void *inst, struct skynet_context *ctx, const char *param);

static bool
without(struct skynet_context *ctx) {
	skynet_command(ctx, "KILL", ".logger");
	skynet_error(ctx, "after its death");
	return true;
}

static bool
with_another(struct skynet_context *ctx) {
	char param[32];
	snprintf(param, sizeof(param), ".logger :%x", claims_launch(ctx, "logger new.log"));
	skynet_command(ctx, "NAME", param);
	skynet_error(ctx, "found again");
	return true;
}

int
t_nologger_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {without, with_another, NULL};
	return claims_init(ctx, steps);
}
