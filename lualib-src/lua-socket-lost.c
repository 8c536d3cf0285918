/*
 * lua-socket-lost: see lua-socket-lost.h. Keeps nothing.
 */
#include "lua-socket-lost.h"

#include <string.h>

#include "lshare.h"
#include "lua-nomem.h"
#include "skynet.h"
#include "skynet_malloc.h"
#include "skynet_socket.h"

/* From here to a handler of gates, with TLS, and what that calls. */
#define BLOCK_CALLS 10
#define BLOCK_SLOTS 120

static void
fail(struct sched *S, int id) {
	static const char text[] = NO_MEMORY;
	struct {
		struct skynet_socket_message m;
		char text[sizeof(text) - 1];
	} e = {.m = {.type = SKYNET_SOCKET_TYPE_ERROR, .id = id}};
	memcpy(&e.m + 1, text, sizeof(e.text));
	task_deliver_again(S, PTYPE_SOCKET, &e, sizeof(e.m) + sizeof(e.text));
}

void
socket_event_lost(struct sched *S, struct skynet_context *ctx, void *msg, size_t size) {
	struct skynet_socket_message *m = msg;
	if (size < sizeof(*m)) {
		return;
	}
	/* Taken by Lua, or still here. */
	skynet_free(m->buffer);
	m->buffer = NULL;
	switch (m->type) {
	case SKYNET_SOCKET_TYPE_UDP:
		break;
	case SKYNET_SOCKET_TYPE_DATA:
	case SKYNET_SOCKET_TYPE_SEND:
		fail(S, m->id);
		break;
	case SKYNET_SOCKET_TYPE_ACCEPT:
		skynet_socket_close(ctx, m->ud);
		break;
	default:
		task_deliver_again(S, PTYPE_SOCKET, msg, size);
		break;
	}
}

void
socket_block_room(lua_State *L) {
	if (!lua_checkroom(L, BLOCK_CALLS, BLOCK_SLOTS)) {
		lua_nomem(L);
	}
}
