/*
 * The sending side: checks, copies and routes a message. Ownership: with
 * PTYPE_TAG_DONTCOPY the data is the kernel's from the first line on, so every
 * way out of a send either queues it or frees it.
 */
#include "epoch.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_handle.h"
#include "skynet_harbor.h"
#include "skynet_mq.h"
#include "skynet_server.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TYPE_MASK 0xff
#define KNOWN_BITS (TYPE_MASK | PTYPE_TAG_DONTCOPY | PTYPE_TAG_ALLOCSESSION)

#define UNDELIVERABLE (-1)
#define TOO_LARGE (-2)

/* A send on its way through the steps below. */
struct parcel {
	struct skynet_context *ctx; /* may be NULL */
	uint32_t source;
	int type; /* 0..255 */
	int session;
	void *data; /* ours, or the caller's before pack() */
	size_t size;
	bool is_ours;
};

static int
fail(struct parcel *p, int code) {
	if (p->is_ours) {
		skynet_free(p->data);
	}
	return code;
}

/* Everything that can be wrong with the arguments, whoever the receiver is. */
static const char *
complaint(const struct parcel *p, int type) {
	if (type & ~KNOWN_BITS) {
		return "Invalid message type";
	}
	if (p->session < 0) {
		return "Negative session";
	}
	if ((type & PTYPE_TAG_ALLOCSESSION) && (p->session != 0 || p->ctx == NULL)) {
		return "A session was given and one to be allocated";
	}
	if (p->data == NULL && p->size != 0) {
		return "Size without data";
	}
	return NULL;
}

/* Check the arguments. 0, or the result of the failed send; frees then. Who knows the
 * receiver's address says what is TOO_LARGE. */
static int
check(struct parcel *p, int type) {
	const char *reason = complaint(p, type);

	p->is_ours = (type & PTYPE_TAG_DONTCOPY) != 0;
	if (p->size > MESSAGE_TYPE_MASK) {
		return fail(p, TOO_LARGE);
	}
	if (reason) {
		skynet_error(p->ctx, "error: %s (type %x, session %d)", reason, (unsigned)type, p->session);
		return fail(p, UNDELIVERABLE);
	}
	p->type = type & TYPE_MASK;
	return 0;
}

/* Allocate the session and make the data ours. */
static void
pack(struct parcel *p, int type) {
	if (type & PTYPE_TAG_ALLOCSESSION) {
		p->session = skynet_context_newsession(p->ctx);
	}
	if (!p->is_ours && p->data) {
		char *copy = skynet_malloc(p->size + 1);
		memcpy(copy, p->data, p->size);
		copy[p->size] = '\0';
		p->data = copy;
	}
	p->is_ours = true;
	if (p->source == 0 && p->ctx) {
		p->source = p->ctx->mailbox.owner;
	}
}

/*------------------------------------------------------------------ queueing */

/*
 * Push, and note what is inside of a message that has an inside. Counted before
 * it can be taken, as in mailbox_push; relaxed: a statistic.
 */
static enum mailbox_push
push(struct skynet_context *ctx, struct mailbox_node *node) {
	size_t inside = node->dispose ? mq_inside(&node->msg) : 0;
	enum mailbox_push result;

	if (inside > 0) {
		atomic_fetch_add_explicit(&ctx->mailbox.inside_in, inside, memory_order_relaxed);
	}
	result = mailbox_push(&ctx->mailbox, node);
	if (inside > 0 && result == MAILBOX_CLOSED) {
		atomic_fetch_sub_explicit(&ctx->mailbox.inside_in, inside, memory_order_relaxed);
	}
	return result;
}

int
context_post(struct skynet_context *ctx, const struct skynet_message *msg,
             void (*dispose)(void *data, size_t sz)) {
	struct mailbox_node *node = mailbox_node_new();

	node->msg = *msg;
	node->dispose = dispose;
	switch (push(ctx, node)) {
	case MAILBOX_SCHEDULE:
		scheduler_push(&ctx->mailbox.run);
		return 0;
	case MAILBOX_QUEUED:
		return 0;
	default:
		mailbox_node_free(node);
		return -1;
	}
}

/* Queue to a local handle; the receiver is only looked at inside the section. */
static int
post_to(uint32_t handle, const struct skynet_message *msg, void (*dispose)(void *data, size_t sz)) {
	struct mailbox_node *node = mailbox_node_new();
	enum mailbox_push result = MAILBOX_CLOSED;
	struct skynet_context *ctx;

	node->msg = *msg;
	node->dispose = dispose;
	epoch_enter();
	ctx = skynet_handle_peek(handle);
	if (ctx) {
		result = push(ctx, node);
	}
	epoch_exit();
	if (result == MAILBOX_CLOSED) {
		mailbox_node_free(node);
		return -1;
	}
	if (result == MAILBOX_SCHEDULE) {
		/* Alive until it has been run: nobody else may schedule it. */
		scheduler_push(&ctx->mailbox.run);
	}
	return 0;
}

int
skynet_context_push(uint32_t handle, struct skynet_message *msg) {
	return post_to(handle, msg, mq_disposer(msg));
}

void
skynet_context_send(struct skynet_context *ctx, void *data, size_t sz, uint32_t source, int type,
                    int session) {
	struct skynet_message msg = {
	    .source = source,
	    .session = session,
	    .data = data,
	    .sz = sz | (size_t)(type & TYPE_MASK) << MESSAGE_TYPE_SHIFT,
	};
	void (*dispose)(void *, size_t) = mq_disposer(&msg);

	if (context_post(ctx, &msg, dispose) != 0) {
		if (dispose && data) {
			dispose(data, sz);
		}
		skynet_free(data);
	}
}

/*------------------------------------------------------------------- routing */

/* To a remote handle, or to a global name when handle is 0. Takes the data. */
static int
send_remote(struct parcel *p, uint32_t handle, const char *name) {
	struct remote_message *rmsg;

	if (p->type == PTYPE_SYSTEM || p->type == PTYPE_HARBOR) {
		skynet_error(p->ctx, "error: Type %d can't leave the node", p->type);
		return fail(p, UNDELIVERABLE);
	}
	rmsg = skynet_calloc(1, sizeof(*rmsg));
	rmsg->destination.handle = handle;
	if (name) {
		memcpy(rmsg->destination.name, name, strlen(name));
	}
	rmsg->message = p->data;
	rmsg->sz = p->size;
	rmsg->type = p->type;
	if (skynet_harbor_route(rmsg, p->source, p->session) != 0) {
		if (name) {
			skynet_error(p->ctx, "error: No harbor service to reach %s", name);
		} else {
			skynet_error(p->ctx, "error: No harbor service to reach :%08" PRIx32, handle);
		}
		return UNDELIVERABLE;
	}
	return p->session;
}

static int
send_local(struct parcel *p, uint32_t handle) {
	struct skynet_message msg = {
	    .source = p->source,
	    .session = p->session,
	    .data = p->data,
	    .sz = p->size | (size_t)p->type << MESSAGE_TYPE_SHIFT,
	};

	if (post_to(handle, &msg, NULL) != 0) {
		return fail(p, UNDELIVERABLE);
	}
	return p->session;
}

static int
send_packed(struct parcel *p, uint32_t handle) {
	if (handle == 0) {
		if (p->data == NULL) {
			return p->session;
		}
		skynet_error(p->ctx, "error: Destination address can't be 0");
		return fail(p, UNDELIVERABLE);
	}
	if (skynet_harbor_message_isremote(handle)) {
		return send_remote(p, handle, NULL);
	}
	return send_local(p, handle);
}

int
skynet_send(struct skynet_context *ctx, uint32_t source, uint32_t destination, int type,
            int session, void *data, size_t sz) {
	struct parcel p = {.ctx = ctx, .source = source, .session = session, .data = data, .size = sz};
	int code = check(&p, type);

	if (code != 0) {
		if (code == TOO_LARGE) {
			skynet_error(ctx, "error: The message to %" PRIx32 " is too large", destination);
		}
		return code;
	}
	pack(&p, type);
	return send_packed(&p, destination);
}

/* To a name without prefix, which only the harbor service can resolve. */
static int
send_global(struct parcel *p, const char *name, int type) {
	size_t length = strlen(name);

	if (length == 0 || length > GLOBALNAME_LENGTH) {
		skynet_error(p->ctx, "error: Invalid global name %s", name);
		return fail(p, UNDELIVERABLE);
	}
	pack(p, type);
	return send_remote(p, 0, name);
}

int
skynet_sendname(struct skynet_context *ctx, uint32_t source, const char *address, int type,
                int session, void *data, size_t sz) {
	struct parcel p = {.ctx = ctx, .source = source, .session = session, .data = data, .size = sz};
	uint32_t handle = 0;
	int code = check(&p, type);

	if (code != 0) {
		if (code == TOO_LARGE) {
			skynet_error(ctx, "error: The message to %s is too large", address);
		}
		return code;
	}
	if (address[0] == ':') {
		handle = (uint32_t)strtoul(address + 1, NULL, 16);
	} else if (address[0] == '.') {
		handle = skynet_handle_findname(address + 1);
		if (handle == 0) {
			return fail(&p, UNDELIVERABLE);
		}
	} else {
		return send_global(&p, address, type);
	}
	pack(&p, type);
	return send_packed(&p, handle);
}

/*--------------------------------------------------------------- addresses */

uint32_t
skynet_queryname(struct skynet_context *ctx, const char *name) {
	switch (name[0]) {
	case ':':
		return (uint32_t)strtoul(name + 1, NULL, 16);
	case '.':
		return skynet_handle_findname(name + 1);
	default:
		skynet_error(ctx, "error: Don't support query global name %s", name);
		return 0;
	}
}

int
skynet_isremote(struct skynet_context *ctx, uint32_t handle, int *harbor) {
	(void)ctx;
	if (harbor) {
		*harbor = (int)(handle >> HANDLE_REMOTE_SHIFT);
	}
	return skynet_harbor_message_isremote(handle);
}
