/*
 * Says that it is up and then does nothing, or what its parameter asks for:
 * `abort`, `status` (abort with status 3) and `exit` at its first message;
 * anything else is logged.
 */
#include <string.h>

#include "skynet.h"

int t_idle_init(void *inst, struct skynet_context *ctx, const char *param);

static int
idle_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
        const void *msg, size_t sz) {
	(void)type, (void)session, (void)source, (void)msg, (void)sz;
	const char *param = ud;
	if (strcmp(param, "abort") == 0) {
		for (int i = 1; i <= 5; i++) {
			skynet_error(ctx, "last words %d", i);
		}
		skynet_command(ctx, "ABORT", NULL);
	} else if (strcmp(param, "status") == 0) {
		skynet_command(ctx, "ABORT", "3");
	} else if (strcmp(param, "exit") == 0) {
		skynet_command(ctx, "EXIT", NULL);
	}
	return 0;
}

int
t_idle_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst;
	static char behaviour[16];
	strncpy(behaviour, param == NULL ? "" : param, sizeof(behaviour) - 1);
	skynet_callback(ctx, behaviour, idle_cb);
	skynet_error(ctx, "idle ready: %s", param == NULL ? "(null)" : param);
	skynet_command(ctx, "TIMEOUT", "0");
	return 0;
}
