/* Logs a numbered line every centisecond, for ever. */
#include "skynet.h"

int t_ticker_init(void *inst, struct skynet_context *ctx, const char *param);

static int
ticker_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
          const void *msg, size_t sz) {
	(void)session, (void)source, (void)msg, (void)sz;
	int *count = ud;
	if (type == PTYPE_RESPONSE) {
		skynet_error(ctx, "tick %d", ++*count);
		skynet_command(ctx, "TIMEOUT", "1");
	}
	return 0;
}

int
t_ticker_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static int count;
	skynet_callback(ctx, &count, ticker_cb);
	skynet_command(ctx, "TIMEOUT", "1");
	return 0;
}
