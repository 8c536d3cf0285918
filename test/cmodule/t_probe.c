/*
 * A service that notes what happens to it, where drivers can see it (they find
 * `probe` with dlsym). Its parameter tells how to behave:
 *   fail       init queues two messages to itself, one in the name of the
 *              service that is registered as .driver, and fails
 *   silent     no callback
 *   otherwise  a callback; text messages are commands, see run_text
 */
#include "t_probe.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "skynet.h"
#include "skynet_server.h"

struct probe_notes probe;

void *t_probe_create(void);
int t_probe_init(void *inst, struct skynet_context *ctx, const char *param);
void t_probe_release(void *inst);
void t_probe_signal(void *inst, int signal);

void *
t_probe_create(void) {
	probe.creating = skynet_current_handle();
	atomic_fetch_add(&probe.created, 1);
	return malloc(8);
}

static void
wait_for_gate(void) {
	while (!atomic_load(&probe.gate)) {
		usleep(1000);
	}
}

static void
run_text(struct skynet_context *ctx, uint32_t source, int session, const char *text) {
	if (strcmp(text, "exit") == 0) {
		skynet_command(ctx, "EXIT", NULL);
	} else if (strcmp(text, "wait") == 0) {
		/* Stay in this callback until the driver opens the gate. */
		atomic_store(&probe.waiting, true);
		wait_for_gate();
		atomic_store(&probe.waiting, false);
	} else if (strcmp(text, "echo") == 0) {
		skynet_send(ctx, 0, source, PTYPE_RESPONSE, session, (void *)(uintptr_t)text, 4);
	} else if (strcmp(text, "stop") == 0) {
		skynet_callback(ctx, NULL, NULL);
	}
}

static int
probe_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
         const void *msg, size_t sz) {
	(void)ud;
	atomic_store(&probe.type, type);
	atomic_store(&probe.session, session);
	atomic_store(&probe.source, source);
	atomic_store(&probe.size, sz);
	atomic_store(&probe.is_null, msg == NULL);
	atomic_store(&probe.first, msg == NULL ? -1 : (int)*(const unsigned char *)msg);
	/* Last: whoever sees the count finds the rest. */
	atomic_fetch_add(&probe.messages, 1);
	if (type == PTYPE_TEXT && sz == 4 && memcmp(msg, "keep", 4) == 0) {
		atomic_store(&probe.kept, (char *)(uintptr_t)msg);
		return 1;
	}
	if (type == PTYPE_TEXT && msg != NULL) {
		run_text(ctx, source, session, msg);
	}
	return 0;
}

int
t_probe_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst;
	atomic_fetch_add(&probe.initialised, 1);
	atomic_store(&probe.param_is_null, param == NULL);
	strncpy(probe.param, param == NULL ? "" : param, sizeof(probe.param) - 1);
	probe.initialising = skynet_current_handle();
	uint32_t self = skynet_context_handle(ctx);
	if (strcmp(probe.param, "fail") == 0) {
		uint32_t driver = skynet_queryname(ctx, ".driver");
		skynet_send(ctx, 0, self, PTYPE_TEXT, 0, NULL, 0);
		skynet_send(ctx, driver, self, PTYPE_TEXT, 77, NULL, 0);
		probe.failed = self;
		return 1;
	}
	if (strcmp(probe.param, "silent") != 0) {
		skynet_callback(ctx, NULL, probe_cb);
	}
	return 0;
}

void
t_probe_release(void *inst) {
	free(inst);
	probe.releasing = skynet_current_handle();
	atomic_fetch_add(&probe.released, 1);
}

void
t_probe_signal(void *inst, int signal) {
	(void)inst;
	atomic_store(&probe.signal, signal);
}
