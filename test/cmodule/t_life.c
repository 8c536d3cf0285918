/* Claims about the life and death of services. */
#include <string.h>

#include "claims.h"
#include "skynet_handle.h"
#include "t_probe.h"

int t_life_init(void *inst, struct skynet_context *ctx, const char *param);

static uint32_t victim;

static int
send_text(struct skynet_context *ctx, uint32_t to, int session, const char *text) {
	return skynet_send(ctx, 0, to, PTYPE_TEXT, session, DATA(text), strlen(text));
}

static void
kill(struct skynet_context *ctx, uint32_t handle) {
	char address[16];
	snprintf(address, sizeof(address), ":%x", handle);
	skynet_command(ctx, "KILL", address);
}

static bool
first_handles(struct skynet_context *ctx) {
	CLAIM(ctx, skynet_queryname(ctx, ".logger") == 1);
	CLAIM(ctx, skynet_context_handle(ctx) == 2);
	skynet_command(ctx, "REG", ".driver");
	return true;
}

static bool
failing_launch(struct skynet_context *ctx) {
	CLAIM(ctx, skynet_command(ctx, "LAUNCH", "t_probe fail") == NULL);
	return true;
}

static bool
failed_launch_is_cleaned_up(struct skynet_context *ctx) {
	struct probe_notes *probe = probe_notes();
	if (probe->released == 0 || claims.event_count == 0) {
		return false;
	}
	CLAIM(ctx, probe->created == 1 && probe->initialised == 1 && probe->released == 1);
	CLAIM(ctx, probe->messages == 0);
	CLAIM(ctx, claims.event_count == 1);
	CLAIM(ctx, claims.event[0].type == PTYPE_ERROR && claims.event[0].session == 77);
	CLAIM(ctx, claims.event[0].source == probe->failed);
	CLAIM(ctx, skynet_handle_grab(probe->failed) == NULL);
	CLAIM(ctx, probe->creating == probe->failed && probe->initialising == probe->failed);
	CLAIM(ctx, probe->releasing == probe->failed);
	return true;
}

static bool
busy_service_gets_messages(struct skynet_context *ctx) {
	victim = claims_launch(ctx, "t_probe");
	probe_notes()->gate = false;
	send_text(ctx, victim, 0, "wait");
	return true;
}

static bool
busy_service_is_killed(struct skynet_context *ctx) {
	struct probe_notes *probe = probe_notes();
	if (!probe->waiting) {
		return false;
	}
	const int sessions[] = {41, 0, 43, 44};
	claims.event_count = 0;
	/* A multicast is no request: it does not come back. */
	char text[] = "x";
	CLAIM(ctx, skynet_send(ctx, 0, victim, PTYPE_MULTICAST, 42, text, 1) == 42);
	for (int i = 0; i < 4; i++) {
		CLAIM(ctx, send_text(ctx, victim, sessions[i], "x") == sessions[i]);
	}
	kill(ctx, victim);
	CLAIM(ctx, send_text(ctx, victim, 45, "x") == -1);
	CLAIM(ctx, probe->released == 1);
	probe->gate = true;
	return true;
}

static bool
its_messages_come_back_in_order(struct skynet_context *ctx) {
	struct probe_notes *probe = probe_notes();
	if (claims.event_count < 4 || probe->released < 2) {
		return false;
	}
	const int sessions[] = {41, 0, 43, 44};
	for (int i = 0; i < 4; i++) {
		struct event *e = &claims.event[i];
		CLAIM(ctx, e->type == PTYPE_ERROR && e->session == sessions[i] && e->source == victim);
		CLAIM(ctx, e->msg == NULL && e->sz == 0);
	}
	CLAIM(ctx, probe->messages == 1);
	return true;
}

static bool
service_without_callback_answers_requests(struct skynet_context *ctx) {
	victim = claims_launch(ctx, "t_probe silent");
	claims.event_count = 0;
	CLAIM(ctx, send_text(ctx, victim, 5, "x") == 5);
	CLAIM(ctx, send_text(ctx, victim, 0, "x") == 0);
	CLAIM(ctx, send_text(ctx, victim, 6, "x") == 6);
	return true;
}

static bool
with_errors(struct skynet_context *ctx) {
	if (claims.event_count < 2) {
		return false;
	}
	CLAIM(ctx, claims.event[0].type == PTYPE_ERROR && claims.event[0].session == 5);
	CLAIM(ctx, claims.event[1].type == PTYPE_ERROR && claims.event[1].session == 6);
	return true;
}

static bool
exit_in_a_callback(struct skynet_context *ctx) {
	victim = claims_launch(ctx, "t_probe");
	claims.event_count = 0;
	send_text(ctx, victim, 0, "exit");
	for (int i = 1; i <= 9; i++) {
		send_text(ctx, victim, i, "x");
	}
	return true;
}

static bool
rest_of_the_queue_comes_back(struct skynet_context *ctx) {
	struct probe_notes *probe = probe_notes();
	/* Messages sent after its death were refused at once; no answer for those. */
	if (probe->released < 3) {
		return false;
	}
	CLAIM(ctx, probe->messages == 2);
	for (int i = 0; i < claims.event_count; i++) {
		CLAIM(ctx, claims.event[i].type == PTYPE_ERROR && claims.event[i].session == i + 1);
	}
	return true;
}

int
t_life_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {
	    first_handles,
	    failing_launch,
	    failed_launch_is_cleaned_up,
	    busy_service_gets_messages,
	    busy_service_is_killed,
	    its_messages_come_back_in_order,
	    service_without_callback_answers_requests,
	    with_errors,
	    exit_in_a_callback,
	    rest_of_the_queue_comes_back,
	    NULL,
	};
	return claims_init(ctx, steps);
}
