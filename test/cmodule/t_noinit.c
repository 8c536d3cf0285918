/* A library that is no module: it has no init function. */
#include "skynet.h"

void *t_noinit_create(void);

void *
t_noinit_create(void) {
	return skynet_malloc(1);
}
