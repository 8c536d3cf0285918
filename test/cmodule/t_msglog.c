/* Claims about LOGON and LOGOFF; the test reads the file that they leave. */
#include <string.h>

#include "claims.h"
#include "skynet_socket.h"
#include "t_probe.h"

int t_msglog_init(void *inst, struct skynet_context *ctx, const char *param);

static uint32_t victim;
static char address[16];
static int expected;

static void
send_client(struct skynet_context *ctx, const char *text) {
	skynet_send(ctx, 0, victim, PTYPE_CLIENT, 0, DATA(text), strlen(text));
	expected++;
}

static void
send_socket(struct skynet_context *ctx, const char *text, char *buffer, int value) {
	size_t size = sizeof(struct skynet_socket_message) + strlen(text);
	struct skynet_socket_message *m = skynet_malloc(size);
	*m = (struct skynet_socket_message){.type = 2, .id = 1, .ud = value, .buffer = buffer};
	memcpy(m + 1, text, strlen(text)); /* not terminated */
	skynet_send(ctx, 0, victim, PTYPE_SOCKET | PTYPE_TAG_DONTCOPY, 0, m, size);
	expected++;
}

static bool
logged(struct skynet_context *ctx) {
	static char data[] = "ABC";
	victim = claims_launch(ctx, "t_probe");
	snprintf(address, sizeof(address), ":%08x", victim);
	skynet_command(ctx, "LOGON", address);
	skynet_command(ctx, "LOGON", address);
	send_client(ctx, "hello");
	send_client(ctx, "");
	send_socket(ctx, "127.0.0.1", NULL, 18999);
	send_socket(ctx, "", data, 3);
	return true;
}

static bool
stopped(struct skynet_context *ctx) {
	if (probe_notes()->messages < expected) {
		return false;
	}
	skynet_command(ctx, "LOGOFF", address);
	skynet_command(ctx, "LOGOFF", address);
	send_client(ctx, "not logged");
	return true;
}

static bool
again(struct skynet_context *ctx) {
	if (probe_notes()->messages < expected) {
		return false;
	}
	skynet_command(ctx, "LOGON", address);
	send_client(ctx, "again");
	return true;
}

static bool
until_death(struct skynet_context *ctx) {
	if (probe_notes()->messages < expected) {
		return false;
	}
	CLAIM(ctx, expected == 6);
	skynet_command(ctx, "KILL", address);
	return true;
}

static bool
died(struct skynet_context *ctx) {
	(void)ctx;
	return probe_notes()->released == 1;
}

int
t_msglog_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {logged, stopped, again, until_death, died, NULL};
	return claims_init(ctx, steps);
}
