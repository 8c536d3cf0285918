/*
 * Routing of messages to other nodes: everything remote is wrapped in an
 * envelope and queued to the one harbor service of this node.
 */
#ifndef SKYNET_HARBOR_H
#define SKYNET_HARBOR_H

#include <stddef.h>
#include <stdint.h>

#define GLOBALNAME_LENGTH 16
#define REMOTE_MAX 256

struct remote_name {
	char name[GLOBALNAME_LENGTH]; /* zero padded, not always terminated */
	uint32_t handle;
};

/* Data of a PTYPE_SYSTEM message to the harbor service. */
struct remote_message {
	struct remote_name destination; /* handle 0: go by the name */
	const void *message;
	size_t sz;
	int type;
};

/* Before any service. harbor: id of this node. */
void skynet_harbor_init(int harbor);

/*
 * Called by the harbor service in its init: ctx becomes the target of all
 * envelopes and is reserved (see skynet_context_reserve).
 */
void skynet_harbor_start(void *ctx);

/* Release the harbor service. Main thread, after every worker ended. */
void skynet_harbor_exit(void);

/*
 * Takes the envelope (from skynet_malloc) and its message, which are freed
 * when there is no harbor service to take them.
 */
void skynet_harbor_send(struct remote_message *rmsg, uint32_t source, int session);

/* The same with the outcome: 0, or -1 when nobody takes it. */
int skynet_harbor_route(struct remote_message *rmsg, uint32_t source, int session);

/* Nonzero when the handle belongs to another node. */
int skynet_harbor_message_isremote(uint32_t handle);

#endif
