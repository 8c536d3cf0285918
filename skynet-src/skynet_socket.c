// The socket server as a part of the node: events become messages, services become
// owners. See skynet_socket.h.
//
// Owns the one server. A message that cannot be delivered, because its service
// died, takes its socket with it.
#include "skynet_socket.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "malloc_hook.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_env.h"
#include "skynet_mq.h"
#include "skynet_outbox.h"
#include "skynet_server.h"
#include "socket_server.h"

// Set before any service runs, cleared after the last one is gone.
static struct socket_server *S;

//-------------------------------------------------------------------- events

static int
public_type(int type) {
	switch (type) {
	case SOCKET_DATA:
		return SKYNET_SOCKET_TYPE_DATA;
	case SOCKET_OPEN:
		return SKYNET_SOCKET_TYPE_CONNECT;
	case SOCKET_CLOSE:
		return SKYNET_SOCKET_TYPE_CLOSE;
	case SOCKET_ACCEPT:
		return SKYNET_SOCKET_TYPE_ACCEPT;
	case SOCKET_ERR:
		return SKYNET_SOCKET_TYPE_ERROR;
	case SOCKET_UDP:
		return SKYNET_SOCKET_TYPE_UDP;
	case SOCKET_SEND:
		return SKYNET_SOCKET_TYPE_SEND;
	default:
		return SKYNET_SOCKET_TYPE_WARNING;
	}
}

// Counts as received and not yet delivered.
static bool
was_received(int type) {
	return type == SKYNET_SOCKET_TYPE_DATA || type == SKYNET_SOCKET_TYPE_UDP;
}

static bool
carries_buffer(int type) {
	return was_received(type) || type == SKYNET_SOCKET_TYPE_SEND;
}

// The owner is dead: so is everything that it owns.
static void
close_orphan(const struct skynet_socket_message *sm) {
	if (sm->type == SKYNET_SOCKET_TYPE_CLOSE) {
		return;
	}
	socket_server_close(S, 0, sm->id);
	if (sm->type == SKYNET_SOCKET_TYPE_ACCEPT) {
		socket_server_close(S, 0, sm->ud);
	}
}

static void
forward(void *ud, int type, struct socket_message *m) {
	(void)ud;
	int public = public_type(type);
	bool has_text = !carries_buffer(public) && m->data != NULL;
	size_t text_size = has_text ? strlen(m->data) : 0;
	size_t sz = sizeof(struct skynet_socket_message) + text_size;
	uint32_t before = malloc_owner();
	malloc_set_owner((uint32_t)m->opaque);
	struct skynet_socket_message *sm = skynet_malloc(sz);
	malloc_set_owner(before);
	sm->type = public;
	sm->id = m->id;
	sm->ud = m->ud;
	sm->buffer = has_text ? NULL : m->data;
	if (has_text) {
		memcpy(sm + 1, m->data, text_size);
	}
	struct skynet_message message;
	memset(&message, 0, sizeof(message));
	message.data = sm;
	message.sz = sz | ((size_t)PTYPE_SOCKET << MESSAGE_TYPE_SHIFT);
	if (skynet_context_push((uint32_t)m->opaque, &message) != 0) {
		skynet_free(sm->buffer);
		close_orphan(sm);
		skynet_free(sm);
	}
}

void
skynet_socket_dispose(void *msg, size_t sz) {
	struct skynet_socket_message *sm = msg;
	if (sm != NULL && sz >= sizeof(*sm) && carries_buffer(sm->type)) {
		skynet_free(sm->buffer);
		if (S != NULL && was_received(sm->type)) {
			socket_server_delivered(S, sm->id, (size_t)sm->ud);
		}
	}
}

static void
on_delivery(int type, const void *msg, size_t sz) {
	const struct skynet_socket_message *sm = msg;
	if (type == PTYPE_SOCKET && sz >= sizeof(*sm) && was_received(sm->type)) {
		socket_server_delivered(S, sm->id, (size_t)sm->ud);
	}
}

size_t
skynet_socket_inside(const void *msg, size_t sz) {
	const struct skynet_socket_message *sm = msg;
	return sz >= sizeof(*sm) && carries_buffer(sm->type) ? (size_t)sm->ud : 0;
}

//---------------------------------------------------------------- life cycle

// What the configuration says, which has checked it, or the preset.
static void
set_default(int name) {
	char key[64];
	const struct socket_option_info *info = socket_option_info(name);
	struct socket_option o = {name, info->preset};
	snprintf(key, sizeof(key), "socket_%s", info->key);
	const char *text = skynet_getenv(key);
	bool is_preset = text == NULL || !socket_option_parse(name, text, &o.value);
	if (o.value >= 0) {
		socket_server_default(S, &o, is_preset);
	}
}

static void
after_delivery(void) {
	outbox_end(S);
}

// The configuration has checked it.
int
skynet_socket_loops(void) {
	const char *loops = skynet_getenv("socket_thread");
	return loops == NULL ? 1 : atoi(loops);
}

void
skynet_socket_init(void) {
	S = socket_server_create(skynet_socket_loops(), skynet_now, forward, NULL);
	if (S == NULL) {
		fprintf(stderr, "socket-server error: create failed: %s\n", strerror(errno));
		exit(1);
	}
	context_after_delivery(after_delivery);
	context_on_delivery(on_delivery);
	for (int i = 0; i < SOCKET_OPTION_COUNT; i++) {
		set_default(i);
	}
}

void
skynet_socket_exit(void) {
	socket_server_exit(S);
}

void
skynet_socket_free(void) {
	outbox_free();
	socket_server_release(S);
	S = NULL;
}

int
skynet_socket_poll(void) {
	return skynet_socket_poll_loop(0);
}

int
skynet_socket_poll_loop(int loop) {
	int n = socket_server_poll(S, loop, -1, false);
	if (n == SOCKET_POLL_EXIT) {
		return 0;
	}
	return n > 0 ? 1 : -1;
}

int
skynet_socket_trypoll(int loop, int timeout_ms) {
	if (S == NULL) {
		return -1;
	}
	if (timeout_ms == 0 && !socket_server_is_busy(S, loop)) {
		return 0;
	}
	int n = socket_server_poll(S, loop, timeout_ms, true);
	return n < 0 ? -1 : n;
}

bool
skynet_socket_hold(int loop) {
	return socket_server_hold(S, loop, true);
}

void
skynet_socket_wait(int loop) {
	socket_server_wait(S, loop, -1);
}

int
skynet_socket_serve(int loop) {
	int n = socket_server_serve(S, loop);
	return n < 0 ? -1 : n;
}

void
skynet_socket_unhold(int loop) {
	socket_server_unhold(S, loop);
}

void
skynet_socket_wakeup(int loop) {
	if (S != NULL) {
		socket_server_wake(S, loop);
	}
}

void
skynet_socket_flush(void) {
	outbox_flush(S);
}

void
skynet_socket_rescue(void) {
	outbox_rescue(S);
}

void
skynet_socket_updatetime(void) {
}

void
skynet_socket_owner_exit(uint32_t handle) {
	if (S != NULL) {
		socket_server_owner_exit(S, handle);
	}
}

//------------------------------------------------------------------- streams

static uintptr_t
owner_of(struct skynet_context *ctx) {
	return ctx == NULL ? 0 : skynet_context_handle(ctx);
}

int
skynet_socket_listen(struct skynet_context *ctx, const char *host, int port, int backlog) {
	return S == NULL ? -1 : socket_server_listen(S, owner_of(ctx), host, port, backlog);
}

int
skynet_socket_connect(struct skynet_context *ctx, const char *host, int port) {
	return S == NULL ? -1 : socket_server_connect(S, owner_of(ctx), host, port);
}

int
skynet_socket_listen_with(struct skynet_context *ctx, const char *host, int port,
                          const struct socket_option *options, int n) {
	return S == NULL ? -1 : socket_server_listen_with(S, owner_of(ctx), host, port, options, n);
}

int
skynet_socket_connect_with(struct skynet_context *ctx, const char *host, int port,
                           const struct socket_option *options, int n) {
	return S == NULL ? -1 : socket_server_connect_with(S, owner_of(ctx), host, port, options, n);
}

int
skynet_socket_option(struct skynet_context *ctx, int id, const struct socket_option *options,
                     int n) {
	return S == NULL ? -1 : socket_server_option(S, owner_of(ctx), id, options, n);
}

int
skynet_socket_bind(struct skynet_context *ctx, int fd) {
	return S == NULL ? -1 : socket_server_bind(S, owner_of(ctx), fd);
}

void
skynet_socket_close(struct skynet_context *ctx, int id) {
	if (S != NULL) {
		socket_server_close(S, owner_of(ctx), id);
	}
}

void
skynet_socket_shutdown(struct skynet_context *ctx, int id) {
	if (S != NULL) {
		socket_server_shutdown(S, owner_of(ctx), id);
	}
}

void
skynet_socket_start(struct skynet_context *ctx, int id) {
	if (S != NULL) {
		socket_server_start(S, owner_of(ctx), id);
	}
}

void
skynet_socket_accept(struct skynet_context *ctx, int id) {
	if (S != NULL) {
		socket_server_accept(S, owner_of(ctx), id);
	}
}

void
skynet_socket_pause(struct skynet_context *ctx, int id) {
	if (S != NULL) {
		socket_server_pause(S, owner_of(ctx), id);
	}
}

void
skynet_socket_nodelay(struct skynet_context *ctx, int id) {
	(void)ctx;
	if (S != NULL) {
		socket_server_nodelay(S, id);
	}
}

static int
refuse(struct socket_sendbuffer *buffer) {
	if (buffer->type == SOCKET_BUFFER_MEMORY) {
		skynet_free((void *)(uintptr_t)buffer->buffer);
	}
	return -1;
}

int
skynet_socket_sendbuffer(struct skynet_context *ctx, struct socket_sendbuffer *buffer) {
	(void)ctx;
	return S == NULL ? refuse(buffer) : outbox_send(S, buffer);
}

int
skynet_socket_sendbuffer_lowpriority(struct skynet_context *ctx, struct socket_sendbuffer *buffer) {
	(void)ctx;
	return S == NULL ? refuse(buffer) : socket_server_send_lowpriority(S, buffer);
}

int
skynet_socket_relay(struct skynet_context *ctx, int id, bool on) {
	(void)ctx;
	return S == NULL ? -1 : socket_server_relay(S, id, on);
}

int
skynet_socket_send_raw(struct skynet_context *ctx, struct socket_sendbuffer *buffer) {
	(void)ctx;
	return S == NULL ? refuse(buffer) : socket_server_send_raw(S, buffer);
}

static struct socket_sendbuffer
owned_buffer(int id, void *buffer, int sz) {
	struct socket_sendbuffer b;
	b.id = id;
	b.type = sz < 0 ? SOCKET_BUFFER_OBJECT : SOCKET_BUFFER_MEMORY;
	b.buffer = buffer;
	b.sz = sz < 0 ? 0 : (size_t)sz;
	return b;
}

int
skynet_socket_send(struct skynet_context *ctx, int id, void *buffer, int sz) {
	struct socket_sendbuffer b = owned_buffer(id, buffer, sz);
	return skynet_socket_sendbuffer(ctx, &b);
}

int
skynet_socket_send_lowpriority(struct skynet_context *ctx, int id, void *buffer, int sz) {
	struct socket_sendbuffer b = owned_buffer(id, buffer, sz);
	return skynet_socket_sendbuffer_lowpriority(ctx, &b);
}

//----------------------------------------------------------------------- UDP

int
skynet_socket_udp(struct skynet_context *ctx, const char *addr, int port) {
	return S == NULL ? -1 : socket_server_udp(S, owner_of(ctx), addr, port);
}

int
skynet_socket_udp_connect(struct skynet_context *ctx, int id, const char *addr, int port) {
	(void)ctx;
	return S == NULL ? -1 : socket_server_udp_connect(S, id, addr, port);
}

int
skynet_socket_udp_dial(struct skynet_context *ctx, const char *addr, int port) {
	return S == NULL ? -1 : socket_server_udp_dial(S, owner_of(ctx), addr, port);
}

int
skynet_socket_udp_listen(struct skynet_context *ctx, const char *addr, int port) {
	return S == NULL ? -1 : socket_server_udp_listen(S, owner_of(ctx), addr, port);
}

int
skynet_socket_udp_sendbuffer(struct skynet_context *ctx, const char *address,
                             struct socket_sendbuffer *buffer) {
	(void)ctx;
	if (S == NULL) {
		return refuse(buffer);
	}
	return socket_server_udp_send(S, (const struct socket_udp_address *)address, buffer);
}

int
skynet_socket_udp_send(struct skynet_context *ctx, int id, const char *address, const void *buffer,
                       int sz) {
	struct socket_sendbuffer b;
	b.id = id;
	b.type = sz < 0 ? SOCKET_BUFFER_OBJECT : SOCKET_BUFFER_RAWPOINTER;
	b.buffer = buffer;
	b.sz = sz < 0 ? 0 : (size_t)sz;
	return skynet_socket_udp_sendbuffer(ctx, address, &b);
}

const char *
skynet_socket_udp_address(struct skynet_socket_message *msg, int *addrsz) {
	if (msg->type != SKYNET_SOCKET_TYPE_UDP) {
		return NULL;
	}
	struct socket_message m = {.id = msg->id, .ud = msg->ud, .data = msg->buffer};
	return (const char *)socket_server_udp_address(S, &m, addrsz);
}

//---------------------------------------------------------------------- misc

struct socket_info *
skynet_socket_info(void) {
	return S == NULL ? NULL : socket_server_info(S);
}

bool
skynet_socket_peer(int id, char *text, size_t size) {
	return S != NULL && socket_server_peer(S, id, text, size);
}

int
skynet_socket_lookup(struct skynet_context *ctx, const char *host) {
	return S == NULL ? -1 : socket_server_lookup(S, owner_of(ctx), host);
}

bool
skynet_socket_is_numeric(const char *host) {
	return socket_server_is_numeric(host);
}

char *
skynet_socket_resolve(const char *host, const char **error) {
	return socket_server_resolve(S, host, error);
}
