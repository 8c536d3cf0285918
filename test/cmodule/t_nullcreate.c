/* A module that refuses to make an instance. */
#include <stddef.h>

#include "skynet.h"

void *t_nullcreate_create(void);
int t_nullcreate_init(void *inst, struct skynet_context *ctx, const char *param);

void *
t_nullcreate_create(void) {
	return NULL;
}

int
t_nullcreate_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	skynet_error(ctx, "must not be called");
	return 0;
}
