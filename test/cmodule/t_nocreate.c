/* A module without a create function: init must get the all-ones pointer. */
#include "skynet.h"

int t_nocreate_init(void *inst, struct skynet_context *ctx, const char *param);

int
t_nocreate_init(void *inst, struct skynet_context *ctx, const char *param) {
	skynet_error(ctx, "instance %s, param %s", inst == (void *)~(uintptr_t)0 ? "ones" : "wrong",
	             param == NULL ? "(null)" : param);
	return 0;
}
