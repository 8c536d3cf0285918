/*
 * The harbor service of a node without a network (harbor = 0): it keeps the
 * table of global names and routes the envelopes that the kernel makes of
 * messages to such names. There is no other node, so a message to a remote
 * handle is dropped, and its sender told if it waits for an answer.
 *
 * Started as `harbor 0 SLAVE` by the service that answers to `.cslave`. That
 * one registers names with PTYPE_HARBOR texts `N NAME`, source = the named
 * handle, and is told with a text `Q NAME` when an unknown name is first used.
 *
 * It owns the messages that wait for a name; they move to their service when
 * the name appears.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "skynet.h"
#include "skynet_harbor.h"

/* Global names are few: one per service that plays a role in the whole game. */
#define BUCKETS 256

struct waiting {
	struct waiting *next;
	uint32_t source;
	int type;
	int session;
	void *msg;
	size_t sz;
};

struct name {
	struct name *next;
	char text[GLOBALNAME_LENGTH]; /* zero padded, not necessarily terminated */
	uint32_t handle;              /* 0 = not registered yet */
	struct waiting *first;        /* messages for it, oldest first */
	struct waiting **last;
};

struct harbor {
	struct skynet_context *ctx;
	uint32_t slave;
	struct name *bucket[BUCKETS];
};

struct harbor *harbor_create(void);
void harbor_release(struct harbor *h);
int harbor_init(struct harbor *h, struct skynet_context *ctx, const char *param);

struct harbor *
harbor_create(void) {
	return skynet_calloc(1, sizeof(struct harbor));
}

void
harbor_release(struct harbor *h) {
	for (int i = 0; i < BUCKETS; i++) {
		struct name *n;
		while ((n = h->bucket[i]) != NULL) {
			struct waiting *w;
			while ((w = n->first) != NULL) {
				n->first = w->next;
				skynet_free(w->msg);
				skynet_free(w);
			}
			h->bucket[i] = n->next;
			skynet_free(n);
		}
	}
	skynet_free(h);
}

/*--------------------------------------------------------------------- names */

/* The record of a name, made if there is none yet. */
static struct name *
find_name(struct harbor *h, const char text[GLOBALNAME_LENGTH]) {
	uint32_t hash = 2166136261u;
	for (int i = 0; i < GLOBALNAME_LENGTH; i++) {
		hash = (hash ^ (unsigned char)text[i]) * 16777619u;
	}
	struct name **bucket = &h->bucket[hash % BUCKETS];
	for (struct name *n = *bucket; n != NULL; n = n->next) {
		if (memcmp(n->text, text, GLOBALNAME_LENGTH) == 0) {
			return n;
		}
	}
	struct name *n = skynet_calloc(1, sizeof(*n));
	memcpy(n->text, text, GLOBALNAME_LENGTH);
	n->last = &n->first;
	n->next = *bucket;
	*bucket = n;
	return n;
}

static void
query_name(struct harbor *h, struct name *n) {
	char text[GLOBALNAME_LENGTH + 3];
	int length = snprintf(text, sizeof(text), "Q %.*s", GLOBALNAME_LENGTH, n->text);
	skynet_send(h->ctx, 0, h->slave, PTYPE_TEXT, 0, text, (size_t)length);
}

/*------------------------------------------------------------------ messages */

/* The message cannot be delivered: tell whoever waits for an answer to it. */
static void
refuse(struct harbor *h, uint32_t source, uint32_t destination, int type, int session) {
	if (source != 0 && session != 0 && type != PTYPE_ERROR && type != PTYPE_RESPONSE) {
		skynet_send(h->ctx, destination, source, PTYPE_ERROR, session, NULL, 0);
	}
}

/* Takes msg. */
static void
deliver(struct harbor *h, struct name *n, const struct waiting *w) {
	int tag = w->type | PTYPE_TAG_DONTCOPY;
	if (skynet_send(h->ctx, w->source, n->handle, tag, w->session, w->msg, w->sz) < 0) {
		skynet_error(h->ctx, "Drop message to global name %.*s, :%08x is gone", GLOBALNAME_LENGTH,
		             n->text, n->handle);
		refuse(h, w->source, n->handle, w->type, w->session);
	}
}

static void
to_name(struct harbor *h, struct name *n, const struct waiting *message) {
	if (n->handle != 0) {
		deliver(h, n, message);
		return;
	}
	struct waiting *w = skynet_malloc(sizeof(*w));
	*w = *message;
	w->next = NULL;
	bool is_first = n->first == NULL;
	*n->last = w;
	n->last = &w->next;
	if (is_first) {
		query_name(h, n);
	}
}

/* Takes the message inside the envelope; lends the envelope. */
static void
route(struct harbor *h, const struct remote_message *envelope, uint32_t source, int session) {
	struct waiting w = {
	    .source = source,
	    .type = envelope->type & 0xff,
	    .session = session,
	    .msg = (void *)(uintptr_t)envelope->message,
	    .sz = envelope->sz & (SIZE_MAX >> 8), /* without a type in its top byte */
	};
	uint32_t handle = envelope->destination.handle;
	if (handle == 0) {
		to_name(h, find_name(h, envelope->destination.name), &w);
		return;
	}
	skynet_error(h->ctx, "Drop message to harbor %u from %08x to %08x (session = %d, msgsz = %zu)",
	             handle >> 24, source, handle, session, w.sz);
	refuse(h, source, handle, w.type, session);
	skynet_free(w.msg);
}

static void
register_name(struct harbor *h, const char *text, size_t length, uint32_t handle) {
	if (length == 0 || length > GLOBALNAME_LENGTH || handle == 0) {
		skynet_error(h->ctx, "Invalid global name %.*s for :%08x", (int)length, text, handle);
		return;
	}
	char padded[GLOBALNAME_LENGTH] = {0};
	memcpy(padded, text, length);
	struct name *n = find_name(h, padded);
	n->handle = handle;
	struct waiting *w;
	while ((w = n->first) != NULL) {
		n->first = w->next;
		deliver(h, n, w);
		skynet_free(w);
	}
	n->last = &n->first;
}

static void
harbor_command(struct harbor *h, const char *text, size_t sz, uint32_t source) {
	if (sz > 2 && text[0] == 'N' && text[1] == ' ') {
		register_name(h, text + 2, sz - 2, source);
	} else {
		skynet_error(h->ctx, "Invalid harbor command in single node mode: %.*s", (int)sz,
		             sz == 0 ? "" : text);
	}
}

static int
harbor_cb(struct skynet_context *ctx, void *ud, int type, int session, uint32_t source,
          const void *msg, size_t sz) {
	struct harbor *h = ud;
	if (type == PTYPE_SYSTEM && sz == sizeof(struct remote_message) && msg != NULL) {
		route(h, msg, source, session);
	} else if (type == PTYPE_HARBOR) {
		harbor_command(h, msg, sz, source);
	} else {
		skynet_error(ctx, "Unknown message type %d from :%08x", type, source);
		refuse(h, source, 0, type, session);
	}
	return 0;
}

int
harbor_init(struct harbor *h, struct skynet_context *ctx, const char *param) {
	h->ctx = ctx;
	unsigned harbor = 0;
	unsigned slave = 0;
	if (param == NULL || sscanf(param, "%u %u", &harbor, &slave) != 2 || slave == 0) {
		skynet_error(ctx, "Invalid harbor arguments: %s", param == NULL ? "(none)" : param);
		return 1;
	}
	if (harbor != 0) {
		skynet_error(ctx, "Harbor networks are not available: harbor must be 0, got %u", harbor);
		return 1;
	}
	h->slave = slave;
	skynet_callback(ctx, h, harbor_cb);
	skynet_harbor_start(ctx);
	return 0;
}
