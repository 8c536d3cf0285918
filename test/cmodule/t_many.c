/* Launches services of forty different modules, m0.t_nocreate and so on. */
#include <stdio.h>

#include "claims.h"

int t_many_init(void *inst, struct skynet_context *ctx, const char *param);

static bool
launch_all(struct skynet_context *ctx) {
	for (int i = 0; i < 40; i++) {
		char name[32];
		snprintf(name, sizeof(name), "m%d.t_nocreate", i);
		CLAIM(ctx, claims_launch(ctx, name) != 0);
	}
	return true;
}

int
t_many_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {launch_all, NULL};
	return claims_init(ctx, steps);
}
