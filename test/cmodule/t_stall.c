/*
 * Holds its worker at its first message until it is signalled, so that what is
 * sent to it meanwhile stays in the mailbox.
 */
#include "skynet.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

int t_stall_init(void *inst, struct skynet_context *ctx, const char *param);
void t_stall_signal(void *inst, int signal);

static atomic_bool is_open;

static int
stall(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source, const void *msg,
      size_t sz) {
	(void)ctx, (void)ud, (void)type, (void)session, (void)source, (void)msg, (void)sz;
	while (!atomic_load(&is_open)) {
		struct timespec ts = {.tv_nsec = 1000000};
		nanosleep(&ts, NULL);
	}
	return 0;
}

int
t_stall_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	atomic_store(&is_open, false);
	skynet_callback(ctx, NULL, stall);
	return 0;
}

void
t_stall_signal(void *inst, int signal) {
	(void)inst, (void)signal;
	atomic_store(&is_open, true);
}
