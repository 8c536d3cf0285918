/*
 * Owns the address of the one harbor service. It is reserved, so its context
 * outlives every sender; after its death pushes to it simply fail.
 */
#include "skynet_harbor.h"

#include "skynet.h"
#include "skynet_context.h"
#include "skynet_handle.h"
#include "skynet_server.h"

#include <stdatomic.h>

static struct {
	/* Written once, by the harbor service's init; read by all senders. */
	_Atomic(struct skynet_context *) service;
	uint32_t harbor; /* this node, in place; set before threads start */
} R;

void
skynet_harbor_init(int harbor) {
	R.harbor = (uint32_t)(harbor & 0xff) << HANDLE_REMOTE_SHIFT;
	atomic_store(&R.service, NULL);
}

void
skynet_harbor_start(void *ctx) {
	skynet_context_reserve(ctx);
	/* Release: pairs with the acquire in skynet_harbor_route. */
	atomic_store_explicit(&R.service, ctx, memory_order_release);
}

void
skynet_harbor_exit(void) {
	struct skynet_context *ctx = atomic_exchange(&R.service, NULL);

	if (ctx) {
		skynet_handle_retire(ctx->mailbox.owner);
		skynet_context_release(ctx);
	}
}

int
skynet_harbor_message_isremote(uint32_t handle) {
	uint32_t harbor = handle & ~(uint32_t)HANDLE_MASK;

	return harbor != 0 && harbor != R.harbor;
}

/* Frees what an undelivered envelope carries. */
static void
dispose_envelope(void *data, size_t sz) {
	struct remote_message *rmsg = data;

	(void)sz;
	skynet_free((void *)rmsg->message);
}

int
skynet_harbor_route(struct remote_message *rmsg, uint32_t source, int session) {
	struct skynet_context *ctx = atomic_load_explicit(&R.service, memory_order_acquire);
	struct skynet_message msg = {
	    .source = source,
	    .session = session,
	    .data = rmsg,
	    .sz = sizeof(*rmsg) | (size_t)PTYPE_SYSTEM << MESSAGE_TYPE_SHIFT,
	};

	if (ctx == NULL || context_post(ctx, &msg, dispose_envelope) != 0) {
		dispose_envelope(rmsg, sizeof(*rmsg));
		skynet_free(rmsg);
		return -1;
	}
	return 0;
}

void
skynet_harbor_send(struct remote_message *rmsg, uint32_t source, int session) {
	skynet_harbor_route(rmsg, source, session);
}
