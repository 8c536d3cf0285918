/* Claims about STAT in a node that does not measure CPU time. */
#include "claims.h"
#include "skynet_timer.h"

int t_noprofile_init(void *inst, struct skynet_context *ctx, const char *param);

static bool
burn(struct skynet_context *ctx) {
	uint64_t start = skynet_thread_time();
	while (skynet_thread_time() - start < 20000) {
	}
	CLAIM_TEXT(ctx, skynet_command(ctx, "STAT", "time"), "0");
	return true;
}

static bool
look(struct skynet_context *ctx) {
	CLAIM_TEXT(ctx, skynet_command(ctx, "STAT", "cpu"), "0.000000");
	CLAIM_TEXT(ctx, skynet_command(ctx, "GETENV", "profile"), "1");
	return true;
}

int
t_noprofile_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {burn, look, NULL};
	return claims_init(ctx, steps);
}
