/*
 * The socket API for C services: what each function answers at once, for ids
 * that live and for ids that do not.
 */
#include "claims.h"

#include "skynet_malloc.h"
#include "skynet_socket.h"

int t_socket_init(void *inst, struct skynet_context *ctx, const char *param);

/* Far beyond any id that was given out. */
#define DEAD_ID 0x7000000

static bool
sends_to_dead_ids_fail(struct skynet_context *ctx) {
	struct socket_sendbuffer raw = {
	    .id = DEAD_ID, .type = SOCKET_BUFFER_RAWPOINTER, .buffer = "abc", .sz = 3};

	CLAIM(ctx, skynet_socket_send(ctx, DEAD_ID, skynet_malloc(3), 3) == -1);
	CLAIM(ctx, skynet_socket_send_lowpriority(ctx, DEAD_ID, skynet_malloc(3), 3) == -1);
	CLAIM(ctx, skynet_socket_sendbuffer(ctx, &raw) == -1);
	CLAIM(ctx, skynet_socket_sendbuffer_lowpriority(ctx, &raw) == -1);
	CLAIM(ctx, skynet_socket_udp_connect(ctx, DEAD_ID, "127.0.0.1", 9) == -1);
	return true;
}

static bool
requests_for_dead_ids_are_ignored(struct skynet_context *ctx) {
	skynet_socket_close(ctx, DEAD_ID);
	skynet_socket_shutdown(ctx, DEAD_ID);
	skynet_socket_pause(ctx, DEAD_ID);
	skynet_socket_nodelay(ctx, DEAD_ID);
	return true;
}

static bool
live_ids_are_positive_and_different(struct skynet_context *ctx) {
	int listener = skynet_socket_listen(ctx, "127.0.0.1", 0, 8);
	int udp = skynet_socket_udp(ctx, "127.0.0.1", 0);
	int dial = skynet_socket_udp_dial(ctx, "127.0.0.1", 9);

	CLAIM(ctx, listener > 0 && udp > 0 && dial > 0);
	CLAIM(ctx, listener != udp && udp != dial && dial != listener);
	CLAIM(ctx, skynet_socket_udp_listen(ctx, "127.0.0.1", 0) == -1);
	CLAIM(ctx, skynet_socket_send(ctx, udp, skynet_malloc(3), 3) == -1);
	skynet_socket_close(ctx, listener);
	skynet_socket_shutdown(ctx, udp);
	skynet_socket_close(ctx, dial);
	return true;
}

static bool
only_datagrams_have_an_address(struct skynet_context *ctx) {
	struct skynet_socket_message data = {.type = SKYNET_SOCKET_TYPE_DATA};
	int size;

	CLAIM(ctx, skynet_socket_udp_address(&data, &size) == NULL);
	return true;
}

int
t_socket_init(void *inst, struct skynet_context *ctx, const char *param) {
	(void)inst, (void)param;
	static const claims_step steps[] = {
	    sends_to_dead_ids_fail,
	    requests_for_dead_ids_are_ignored,
	    live_ids_are_positive_and_different,
	    only_datagrams_have_an_address,
	    NULL,
	};
	return claims_init(ctx, steps);
}
