/*
 * The message record, and message queues for modules that keep their own. The
 * kernel's services use mailbox.h directly.
 *
 * A message pushed into a queue of skynet_mq_create is either popped by its
 * owner or, when a worker visits the queue first, delivered to the service of
 * the queue's handle.
 */
#ifndef SKYNET_MQ_H
#define SKYNET_MQ_H

#include <stddef.h>
#include <stdint.h>

struct skynet_message {
	uint32_t source; /* sender, 0 = kernel */
	int session;     /* request number, >= 0 */
	void *data;      /* payload or NULL */
	size_t sz;       /* its size; the type sits in the highest byte */
};

#define MESSAGE_TYPE_MASK (SIZE_MAX >> 8)
#define MESSAGE_TYPE_SHIFT ((sizeof(size_t) - 1) * 8)

struct message_queue;

typedef void (*message_drop)(struct skynet_message *message, void *ud);

/* A new queue of service `handle`, marked "not to be scheduled yet". */
struct message_queue *skynet_mq_create(uint32_t handle);

/* Copy the record into the queue and schedule it if needed. Any thread. */
void skynet_mq_push(struct message_queue *q, struct skynet_message *message);

/* 0 = got one; 1 = empty, and the queue is no longer scheduled. Owner only. */
int skynet_mq_pop(struct message_queue *q, struct skynet_message *message);

/* Messages that wait. Any thread. */
int skynet_mq_length(struct message_queue *q);

/* The length at the last crossing of the overload threshold, once; else 0. */
int skynet_mq_overload(struct message_queue *q);

/* Whose queue it is. Any thread. */
uint32_t skynet_mq_handle(struct message_queue *q);

/* The owner is gone: pushing fails from here on. */
void skynet_mq_mark_release(struct message_queue *q);

/*
 * If marked: hand every remaining message to `drop` and free the queue. If
 * not: schedule it again.
 */
void skynet_mq_release(struct message_queue *q, message_drop drop, void *ud);

/*
 * Tell how to free what a message of `type` from the kernel (source 0, pushed
 * with skynet_context_push or skynet_context_send) owns beside its outer
 * block, for messages that are discarded undelivered. The kernel frees the
 * outer block itself. Call before the first such message.
 */
void skynet_message_disposer(int type, void (*fn)(void *data, size_t sz));

/*
 * Tell how many bytes a message of such a type owns beside its outer block.
 * Before the first message.
 */
void skynet_message_measurer(int type, size_t (*fn)(const void *data, size_t sz));

/* Bytes inside a message that has a disposer. Any thread. */
size_t mq_inside(const struct skynet_message *message);

/* What was registered for this message, or NULL. Any thread. */
typedef void (*mq_dispose)(void *data, size_t sz);
mq_dispose mq_disposer(const struct skynet_message *message);

#endif
