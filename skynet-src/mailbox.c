/*
 * See mailbox.h. The head word and the counter of pushes share a line, which a
 * producer owns after its first atomic operation, so that knowing the length at
 * any time costs one more operation on a line already here.
 */
#include "mailbox.h"

#include "nodepool.h"

/* Values of head; nodes are aligned, so they never look like these. */
#define EMPTY ((uintptr_t)0)
#define CLOSED ((uintptr_t)1)
#define IDLE ((uintptr_t)2)

/*
 * One word counts both messages and bytes: 2^26 messages (4 GB of nodes) and
 * 2^38 bytes may wait before the figures wrap. Delivery does not depend on them.
 */
#define COUNT_SHIFT 38
#define BYTES_MASK ((UINT64_C(1) << COUNT_SHIFT) - 1)

/*
 * The length is looked at when the stack is taken, when the consumer asks for it
 * and every so many pops. At every pop, consumer and producers would pull the
 * line of `pushed` to and fro.
 */
#define CHECK_INTERVAL 8

_Static_assert(sizeof(struct mailbox_node) <= 64, "a node is a cache line");

void
mailbox_init(struct mailbox *m) {
	atomic_init(&m->head, EMPTY);
	atomic_init(&m->pushed, 0);
	m->run.next = NULL;
	m->run.run = NULL;
	atomic_init(&m->inside_in, 0);
	atomic_init(&m->peak_count, 0);
	atomic_init(&m->peak_bytes, 0);
	m->overload = 0;
	m->ready = NULL;
	atomic_init(&m->popped, 0);
	m->owner = 0;
	atomic_init(&m->is_shut, false);
	m->is_overloaded = false;
	m->doublings = 0;
	m->unchecked = 0;
}

struct mailbox_node *
mailbox_node_new(void) {
	struct mailbox_node *node = nodepool_take(NODEPOOL_MESSAGE);

	node->dispose = NULL;
	node->deadline = 0;
	node->trace = NULL;
	node->stamp = 0;
	node->lane = 0;
	return node;
}

void
mailbox_node_free(struct mailbox_node *node) {
	nodepool_give(NODEPOOL_MESSAGE, node);
}

static uint64_t
weight_of(const struct mailbox_node *node) {
	uint64_t bytes = (uint64_t)(node->msg.sz & MESSAGE_TYPE_MASK);

	return (UINT64_C(1) << COUNT_SHIFT) + (bytes & BYTES_MASK);
}

enum mailbox_push
mailbox_push(struct mailbox *m, struct mailbox_node *node) {
	/* Relaxed: only a hint, the exchange below decides. */
	uintptr_t head = atomic_load_explicit(&m->head, memory_order_relaxed);

	if (head & CLOSED) {
		return MAILBOX_CLOSED;
	}
	/* Before the message can be popped, so that the difference of the two
	   counters never goes below zero. Relaxed: a statistic. */
	atomic_fetch_add_explicit(&m->pushed, weight_of(node), memory_order_relaxed);
	do {
		if (head & CLOSED) {
			atomic_fetch_sub_explicit(&m->pushed, weight_of(node), memory_order_relaxed);
			return MAILBOX_CLOSED;
		}
		node->next = head == IDLE ? NULL : (struct mailbox_node *)head;
		/* Release: pairs with the acquire in take(); the acquire half
		   pairs with the release in mailbox_rest, so that who schedules
		   an idle owner sees what its last run did. */
	} while (!atomic_compare_exchange_weak_explicit(&m->head, &head, (uintptr_t)node,
	                                                memory_order_acq_rel, memory_order_relaxed));
	return head == IDLE ? MAILBOX_SCHEDULE : MAILBOX_QUEUED;
}

bool
mailbox_close(struct mailbox *m) {
	/* Acquire: as in mailbox_push, the caller may have to schedule. */
	bool is_mine = atomic_fetch_or_explicit(&m->head, CLOSED, memory_order_acq_rel) == IDLE;

	/* Afterwards: who sees it finds the mailbox closed for sure. Release: pairs
	   with the acquire in mailbox_is_shut. */
	atomic_store_explicit(&m->is_shut, true, memory_order_release);
	return is_mine;
}

bool
mailbox_is_closed(const struct mailbox *m) {
	return (atomic_load_explicit(&m->head, memory_order_relaxed) & CLOSED) != 0;
}

size_t
mailbox_length(const struct mailbox *m) {
	/* popped first: what is pushed meanwhile only adds. */
	uint64_t popped = atomic_load_explicit(&m->popped, memory_order_acquire);
	uint64_t pushed = atomic_load_explicit(&m->pushed, memory_order_relaxed);

	return (size_t)((pushed - popped) >> COUNT_SHIFT);
}

size_t
mailbox_bytes(const struct mailbox *m) {
	uint64_t popped = atomic_load_explicit(&m->popped, memory_order_acquire);
	uint64_t pushed = atomic_load_explicit(&m->pushed, memory_order_relaxed);

	return (size_t)((pushed - popped) & BYTES_MASK);
}

size_t
mailbox_peak_length(const struct mailbox *m) {
	return (size_t)atomic_load_explicit(&m->peak_count, memory_order_relaxed);
}

size_t
mailbox_peak_bytes(const struct mailbox *m) {
	return (size_t)atomic_load_explicit(&m->peak_bytes, memory_order_relaxed);
}

/* Keep the high-water marks. Single writer, so load and store will do. */
static void
note_peak(struct mailbox *m, uint64_t waiting) {
	uint64_t count = waiting >> COUNT_SHIFT;
	uint64_t bytes = waiting & BYTES_MASK;

	if (count > atomic_load_explicit(&m->peak_count, memory_order_relaxed)) {
		atomic_store_explicit(&m->peak_count, count, memory_order_relaxed);
	}
	if (bytes > atomic_load_explicit(&m->peak_bytes, memory_order_relaxed)) {
		atomic_store_explicit(&m->peak_bytes, bytes, memory_order_relaxed);
	}
}

/* Take the stack and turn it round into `ready`. False when it is empty. */
static bool
take(struct mailbox *m) {
	uintptr_t head = atomic_load_explicit(&m->head, memory_order_relaxed);
	struct mailbox_node *node, *list = NULL;

	if ((head & ~(CLOSED | IDLE)) == EMPTY) {
		return false;
	}
	/* Keeps CLOSED, takes the rest. Acquire: pairs with mailbox_push. */
	head = atomic_fetch_and_explicit(&m->head, CLOSED, memory_order_acquire);
	node = (struct mailbox_node *)(head & ~CLOSED);
	while (node) {
		struct mailbox_node *next = node->next;
		node->next = list;
		list = node;
		node = next;
	}
	m->ready = list;
	m->unchecked = CHECK_INTERVAL;
	return true;
}

bool
mailbox_rest(struct mailbox *m) {
	uintptr_t empty = EMPTY;

	if (m->ready) {
		return false;
	}
	/* Hint first: a failing exchange would take the line from producers. */
	if (atomic_load_explicit(&m->head, memory_order_relaxed) != EMPTY) {
		return false;
	}
	m->doublings = 0;
	/* Release: hands the owner to whoever replaces IDLE. */
	return atomic_compare_exchange_strong_explicit(&m->head, &empty, IDLE, memory_order_release,
	                                               memory_order_relaxed);
}

bool
mailbox_claim(struct mailbox *m) {
	uintptr_t idle = IDLE;

	/* Acquire: pairs with the release in mailbox_rest. */
	return atomic_compare_exchange_strong_explicit(&m->head, &idle, EMPTY, memory_order_acquire,
	                                               memory_order_relaxed);
}

/* Something was popped: every now and then compare the length with its marks. */
static void
check_length(struct mailbox *m, uint64_t popped, uint64_t weight) {
	uint64_t waiting, length;

	if (++m->unchecked < CHECK_INTERVAL) {
		return;
	}
	m->unchecked = 0;
	waiting = atomic_load_explicit(&m->pushed, memory_order_relaxed) - popped;
	note_peak(m, waiting + weight);
	length = waiting >> COUNT_SHIFT;
	if (length > (uint64_t)MAILBOX_OVERLOAD << m->doublings) {
		while (length > (uint64_t)MAILBOX_OVERLOAD << m->doublings) {
			m->doublings++;
		}
		m->overload = length;
		m->is_overloaded = true;
	}
}

static bool
is_closed_and_empty(struct mailbox *m) {
	uintptr_t head = atomic_load_explicit(&m->head, memory_order_relaxed);

	return (head & CLOSED) && (head & ~(CLOSED | IDLE)) == EMPTY;
}

/*
 * Of a long list the nodes are in no cache by the time they are popped: fetch the one
 * after the next, and what the next one carries. The next itself came with the last.
 */
static void
fetch_ahead(const struct mailbox_node *next) {
	if (next != NULL) {
		__builtin_prefetch(next->next);
		__builtin_prefetch(next->msg.data);
	}
}

struct mailbox_node *
mailbox_pop(struct mailbox *m, bool *is_idle) {
	struct mailbox_node *node;
	uint64_t weight, popped;

	*is_idle = false;
	while (m->ready == NULL && !take(m)) {
		if (is_closed_and_empty(m)) {
			return NULL;
		}
		if (mailbox_rest(m)) {
			*is_idle = true;
			return NULL;
		}
	}
	node = m->ready;
	m->ready = node->next;
	fetch_ahead(node->next);
	weight = weight_of(node);
	popped = atomic_load_explicit(&m->popped, memory_order_relaxed) + weight;
	/* Release: a reader that sees it also sees the push it counts. */
	atomic_store_explicit(&m->popped, popped, memory_order_release);
	check_length(m, popped, weight);
	return node;
}

uint64_t
mailbox_overload(struct mailbox *m) {
	if (!m->is_overloaded) {
		return 0;
	}
	m->is_overloaded = false;
	return m->overload;
}

void
mailbox_check_soon(struct mailbox *m) {
	m->unchecked = CHECK_INTERVAL;
}

void
mailbox_destroy(struct mailbox *m) {
	struct mailbox_node *node;
	bool is_idle;

	atomic_fetch_or_explicit(&m->head, CLOSED, memory_order_relaxed);
	while ((node = mailbox_pop(m, &is_idle)) != NULL) {
		mailbox_node_free(node);
	}
}
