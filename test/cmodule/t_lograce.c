/*
 * Switches the message log of a service on and off while that service handles
 * messages on another worker; the test looks at what the file holds.
 */
#include <string.h>

#include "claims.h"
#include "t_probe.h"

#define ROUNDS 100
#define MESSAGES 20

int t_lograce_init(void *inst, struct skynet_context *ctx, const char *param);

static uint32_t victim;
static char address[16];

static bool
start(struct skynet_context *ctx) {
	victim = claims_launch(ctx, "t_probe");
	snprintf(address, sizeof(address), ":%x", victim);
	return true;
}

static bool
toggle(struct skynet_context *ctx) {
	static int round;
	for (int i = 0; i < MESSAGES; i++) {
		skynet_send(ctx, 0, victim, PTYPE_CLIENT, 0, DATA("0123456789"), 10);
	}
	skynet_command(ctx, round % 2 == 0 ? "LOGON" : "LOGOFF", address);
	return ++round == ROUNDS;
}

static bool
all_handled(struct skynet_context *ctx) {
	if (probe_notes()->messages < ROUNDS * MESSAGES) {
		return false;
	}
	CLAIM(ctx, probe_notes()->messages == ROUNDS * MESSAGES);
	skynet_command(ctx, "KILL", address);
	return true;
}

int
t_lograce_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {start, toggle, all_handled, NULL};
	return claims_init(ctx, steps);
}
