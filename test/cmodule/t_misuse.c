/*
 * Misuses memory in the way its parameter names, at its first message; for
 * test_dogtag.py. A misuse that a later release finds allocates until then.
 */
#include "skynet.h"
#include "skynet_imp.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

#include <string.h>

int t_misuse_init(void *inst, struct skynet_context *ctx, const char *param);

/* Hides a pointer from the compiler, which knows malloc by name. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))

#define SIZE 77

static void
misuse(const char *how) {
	char *p = skynet_malloc(SIZE);
	char *q = p;
	OPAQUE(q);
	if (strcmp(how, "double") == 0) {
		skynet_free(p);
		skynet_free(q);
	} else if (strcmp(how, "overrun") == 0) {
		q[SIZE] = 0;
		skynet_free(q);
	} else if (strcmp(how, "cookie") == 0) {
		memset(q + SIZE, 0, 24);
		skynet_free(q);
	} else if (strcmp(how, "foreign") == 0) {
		q += 16;
		OPAQUE(q);
		skynet_free(q);
	} else if (strcmp(how, "realloc") == 0) {
		skynet_free(p);
		p = skynet_realloc(q, 2 * SIZE);
		OPAQUE(p);
	} else if (strcmp(how, "late") == 0) {
		skynet_free(p);
		q[SIZE / 2] = 'x';
		for (int i = 0; i < 10000; i++) {
			p = skynet_malloc(1000);
			OPAQUE(p);
			skynet_free(p);
		}
	}
}

static int
on_message(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
           const void *msg, size_t sz) {
	(void)ctx, (void)type, (void)session, (void)source, (void)msg, (void)sz;
	misuse(ud);
	return 0;
}

int
t_misuse_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst;
	char *copy = skynet_strdup(param);
	skynet_command(ctx, "REG", ".misuser");
	skynet_callback(ctx, copy, on_message);
	skynet_send(ctx, 0, skynet_context_handle(ctx), PTYPE_TEXT, 0, NULL, 0);
	return 0;
}
