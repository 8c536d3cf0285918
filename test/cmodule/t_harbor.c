/* Claims about the harbor service of a single node; the driver is its slave. */
#include <string.h>

#include "claims.h"

int t_harbor_init(void *inst, struct skynet_context *ctx, const char *param);

static uint32_t harbor;

static int
send_global(struct skynet_context *ctx, const char *name, int session, const char *text) {
	return skynet_sendname(ctx, 0, name, PTYPE_CLIENT, session, DATA(text), strlen(text));
}

static void
register_global(struct skynet_context *ctx, const char *text) {
	skynet_send(ctx, 0, harbor, PTYPE_HARBOR, 0, DATA(text), strlen(text));
}

static bool
bad_arguments_are_refused(struct skynet_context *ctx) {
	CLAIM(ctx, claims_launch(ctx, "harbor") == 0);
	CLAIM(ctx, claims_launch(ctx, "harbor x") == 0);
	CLAIM(ctx, claims_launch(ctx, "harbor 1 2") == 0);
	CLAIM(ctx, claims_launch(ctx, "harbor 0 0") == 0);
	harbor = claims_launch(ctx, "harbor 0 2");
	CLAIM(ctx, harbor != 0);
	return true;
}

static bool
messages_to_an_unknown_name(struct skynet_context *ctx) {
	CLAIM(ctx, send_global(ctx, "LATER", 0, "one") == 0);
	CLAIM(ctx, send_global(ctx, "LATER", 8, "two") == 8);
	CLAIM(ctx, send_global(ctx, "SIXTEEN_BYTES_OK", 0, "sixteen") == 0);
	CLAIM(ctx, send_global(ctx, "SEVENTEEN_IS_MORE", 0, "x") == -1);
	CLAIM(ctx, send_global(ctx, "NEVER", 0, "freed at the end") == 0);
	return true;
}

static bool
are_asked_for_once_each(struct skynet_context *ctx) {
	if (claims.event_count < 3) {
		return false;
	}
	CLAIM(ctx, claims.event_count == 3);
	CLAIM(ctx, claims.event[0].type == PTYPE_TEXT && claims.event[0].source == harbor);
	CLAIM_TEXT(ctx, claims.event[0].text, "Q LATER");
	CLAIM_TEXT(ctx, claims.event[1].text, "Q SIXTEEN_BYTES_OK");
	CLAIM_TEXT(ctx, claims.event[2].text, "Q NEVER");
	claims.event_count = 0;
	register_global(ctx, "N LATER");
	register_global(ctx, "N SIXTEEN_BYTES_OK");
	register_global(ctx, "N SEVENTEEN_IS_MORE");
	register_global(ctx, "S 1 2");
	return true;
}

static bool
and_arrive_once_it_is_known(struct skynet_context *ctx) {
	if (claims.event_count < 3) {
		return false;
	}
	CLAIM_TEXT(ctx, claims.event[0].text, "one");
	CLAIM(ctx, claims.event[0].type == PTYPE_CLIENT && claims.event[0].session == 0);
	CLAIM_TEXT(ctx, claims.event[1].text, "two");
	CLAIM(ctx, claims.event[1].session == 8);
	CLAIM(ctx, claims.event[1].source == skynet_context_handle(ctx));
	CLAIM_TEXT(ctx, claims.event[2].text, "sixteen");
	claims.event_count = 0;
	CLAIM(ctx, send_global(ctx, "LATER", 9, "three") == 9);
	return true;
}

static bool
at_once_from_then_on(struct skynet_context *ctx) {
	if (claims.event_count < 1) {
		return false;
	}
	CLAIM_TEXT(ctx, claims.event[0].text, "three");
	claims.event_count = 0;
	CLAIM(ctx, skynet_send(ctx, 0, 0x05000001, PTYPE_CLIENT, 0, DATA("x"), 1) == 0);
	CLAIM(ctx, skynet_send(ctx, 0, 0x05000001, PTYPE_CLIENT, 11, DATA("x"), 1) == 11);
	return true;
}

static bool
remote_handles_are_answered_with_an_error(struct skynet_context *ctx) {
	if (claims.event_count < 1) {
		return false;
	}
	CLAIM(ctx, claims.event_count == 1);
	CLAIM(ctx, claims.event[0].type == PTYPE_ERROR && claims.event[0].session == 11);
	CLAIM(ctx, claims.event[0].source == 0x05000001);
	return true;
}

static bool
dead_harbor_refuses_sends(struct skynet_context *ctx) {
	char address[16];
	snprintf(address, sizeof(address), ":%x", harbor);
	skynet_command(ctx, "KILL", address);
	CLAIM(ctx, send_global(ctx, "LATER", 12, "x") == -1);
	CLAIM(ctx, skynet_send(ctx, 0, 0x05000001, PTYPE_CLIENT, 1, DATA("x"), 1) == -1);
	return true;
}

int
t_harbor_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {
	    bad_arguments_are_refused, messages_to_an_unknown_name,
	    are_asked_for_once_each,   and_arrive_once_it_is_known,
	    at_once_from_then_on,      remote_handles_are_answered_with_an_error,
	    dead_harbor_refuses_sends, NULL,
	};
	return claims_init(ctx, steps);
}
