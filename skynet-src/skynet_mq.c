/*
 * Queues that modules make for themselves, over mailbox.h, and the register of
 * disposal functions.
 */
#include "skynet_mq.h"

#include "mailbox.h"
#include "scheduler.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>

struct message_queue {
	_Alignas(64) struct mailbox mailbox;
	/* Whether a worker has it queued, so that freeing must wait for it. */
	atomic_bool is_queued;
	atomic_bool is_released;
};

#define TYPES 256

/* Set before the first message of the type; read by every thread. */
static _Atomic(mq_dispose) disposers[TYPES];

void
skynet_message_disposer(int type, mq_dispose fn) {
	assert(type >= 0 && type < TYPES);
	atomic_store_explicit(&disposers[type], fn, memory_order_release);
}

typedef size_t (*mq_measure)(const void *data, size_t sz);

/* As disposers. */
static _Atomic(mq_measure) measurers[TYPES];

void
skynet_message_measurer(int type, mq_measure fn) {
	assert(type >= 0 && type < TYPES);
	atomic_store_explicit(&measurers[type], fn, memory_order_release);
}

size_t
mq_inside(const struct skynet_message *msg) {
	/* Acquire: pairs with the release above. */
	mq_measure fn =
	    atomic_load_explicit(&measurers[msg->sz >> MESSAGE_TYPE_SHIFT], memory_order_acquire);

	return fn && msg->data ? fn(msg->data, msg->sz & MESSAGE_TYPE_MASK) : 0;
}

mq_dispose
mq_disposer(const struct skynet_message *msg) {
	if (msg->source != 0) {
		return NULL;
	}
	/* Acquire: pairs with the release above. */
	return atomic_load_explicit(&disposers[msg->sz >> MESSAGE_TYPE_SHIFT], memory_order_acquire);
}

static void
queue_schedule(struct message_queue *q) {
	atomic_store(&q->is_queued, true);
	scheduler_push(&q->mailbox.run);
}

static void
queue_free(struct message_queue *q) {
	mailbox_destroy(&q->mailbox);
	skynet_free(q);
}

/* A worker visits: pass everything on to the service of the handle. */
static void
queue_run(struct runnable *r, struct worker *w) {
	struct message_queue *q =
	    (struct message_queue *)((char *)r - offsetof(struct message_queue, mailbox.run));
	struct skynet_message msg;

	(void)w;
	if (atomic_load(&q->is_released)) {
		queue_free(q);
		return;
	}
	atomic_store(&q->is_queued, false);
	while (skynet_mq_pop(q, &msg) == 0) {
		if (skynet_context_push(q->mailbox.owner, &msg) != 0) {
			mq_dispose fn = mq_disposer(&msg);
			if (fn && msg.data) {
				fn(msg.data, msg.sz & MESSAGE_TYPE_MASK);
			}
			skynet_free(msg.data);
		}
	}
}

struct message_queue *
skynet_mq_create(uint32_t handle) {
	struct message_queue *q = skynet_memalign(_Alignof(struct message_queue), sizeof(*q));

	mailbox_init(&q->mailbox);
	q->mailbox.run.run = queue_run;
	q->mailbox.owner = handle;
	atomic_init(&q->is_queued, false);
	atomic_init(&q->is_released, false);
	return q;
}

void
skynet_mq_push(struct message_queue *q, struct skynet_message *message) {
	struct mailbox_node *node = mailbox_node_new();

	node->msg = *message;
	switch (mailbox_push(&q->mailbox, node)) {
	case MAILBOX_SCHEDULE:
		queue_schedule(q);
		break;
	case MAILBOX_QUEUED:
		break;
	default:
		mailbox_node_free(node);
		skynet_free(message->data);
	}
}

int
skynet_mq_pop(struct message_queue *q, struct skynet_message *message) {
	bool is_idle;
	struct mailbox_node *node = mailbox_pop(&q->mailbox, &is_idle);

	if (node == NULL) {
		return 1;
	}
	*message = node->msg;
	mailbox_node_free(node);
	return 0;
}

int
skynet_mq_length(struct message_queue *q) {
	return (int)mailbox_length(&q->mailbox);
}

int
skynet_mq_overload(struct message_queue *q) {
	return (int)mailbox_overload(&q->mailbox);
}

uint32_t
skynet_mq_handle(struct message_queue *q) {
	return q->mailbox.owner;
}

void
skynet_mq_mark_release(struct message_queue *q) {
	mailbox_close(&q->mailbox);
}

void
skynet_mq_release(struct message_queue *q, message_drop drop, void *ud) {
	struct skynet_message msg;

	if (!mailbox_is_closed(&q->mailbox)) {
		queue_schedule(q);
		return;
	}
	while (skynet_mq_pop(q, &msg) == 0) {
		drop(&msg, ud);
	}
	atomic_store(&q->is_released, true);
	if (!atomic_load(&q->is_queued)) {
		queue_free(q);
	}
}
