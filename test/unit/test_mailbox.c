/* The mailbox: against a model, with many producers, and the node pool under it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "mailbox.h"
#include "nodepool.h"
#include "platform.h"
#include "unit_random.h"

static struct mailbox_node *
message(int session, size_t size) {
	struct mailbox_node *node = mailbox_node_new();

	node->msg.source = 1;
	node->msg.session = session;
	node->msg.data = NULL;
	node->msg.sz = size;
	return node;
}

/* Pops and frees; -1: idle, -2: closed. */
static int
pop(struct mailbox *m) {
	bool is_idle;
	struct mailbox_node *node = mailbox_pop(m, &is_idle);
	int session;

	if (node == NULL) {
		return is_idle ? -1 : -2;
	}
	session = node->msg.session;
	mailbox_node_free(node);
	return session;
}

static void
fresh_mailbox_counts_as_scheduled(void **state) {
	struct mailbox m;

	(void)state;
	mailbox_init(&m);
	assert_int_equal(mailbox_push(&m, message(1, 0)), MAILBOX_QUEUED);
	assert_int_equal(pop(&m), 1);
	assert_int_equal(pop(&m), -1);
	mailbox_destroy(&m);
}

static void
an_idle_mailbox_can_be_claimed(void **state) {
	struct mailbox m;

	(void)state;
	mailbox_init(&m);
	assert_false(mailbox_claim(&m)); /* scheduled */
	assert_true(mailbox_rest(&m));
	assert_true(mailbox_claim(&m));
	assert_false(mailbox_claim(&m));
	assert_true(mailbox_rest(&m));
	/* What comes meanwhile is for the claimer to schedule. */
	assert_true(mailbox_claim(&m));
	assert_int_equal(mailbox_push(&m, message(1, 0)), MAILBOX_QUEUED);
	assert_false(mailbox_rest(&m));
	assert_int_equal(pop(&m), 1);
	assert_int_equal(pop(&m), -1);
	/* So is its end. */
	assert_true(mailbox_claim(&m));
	assert_false(mailbox_close(&m));
	assert_false(mailbox_rest(&m));
	assert_int_equal(pop(&m), -2);
	assert_false(mailbox_claim(&m));
	mailbox_destroy(&m);
}

static void
only_the_push_that_ends_idleness_schedules(void **state) {
	struct mailbox m;

	(void)state;
	mailbox_init(&m);
	assert_int_equal(pop(&m), -1);
	assert_int_equal(mailbox_push(&m, message(1, 0)), MAILBOX_SCHEDULE);
	assert_int_equal(mailbox_push(&m, message(2, 0)), MAILBOX_QUEUED);
	assert_int_equal(pop(&m), 1);
	assert_int_equal(mailbox_push(&m, message(3, 0)), MAILBOX_QUEUED);
	assert_false(mailbox_rest(&m));
	assert_int_equal(pop(&m), 2);
	assert_int_equal(pop(&m), 3);
	assert_true(mailbox_rest(&m));
	assert_int_equal(mailbox_push(&m, message(4, 0)), MAILBOX_SCHEDULE);
	mailbox_destroy(&m);
}

static void
closed_mailbox_refuses_and_keeps_what_is_in(void **state) {
	struct mailbox m;
	struct mailbox_node *late = message(3, 0);

	(void)state;
	mailbox_init(&m);
	mailbox_push(&m, message(1, 0));
	mailbox_push(&m, message(2, 0));
	assert_false(mailbox_close(&m));
	assert_false(mailbox_close(&m));
	assert_true(mailbox_is_closed(&m));
	assert_int_equal(mailbox_push(&m, late), MAILBOX_CLOSED);
	mailbox_node_free(late);
	assert_int_equal(mailbox_length(&m), 2);
	assert_int_equal(pop(&m), 1);
	assert_false(mailbox_rest(&m));
	assert_int_equal(pop(&m), 2);
	assert_int_equal(pop(&m), -2);
	mailbox_destroy(&m);
}

static void
closing_an_idle_mailbox_asks_for_a_last_visit_once(void **state) {
	struct mailbox m;

	(void)state;
	mailbox_init(&m);
	assert_int_equal(pop(&m), -1);
	assert_true(mailbox_close(&m));
	assert_false(mailbox_close(&m));
	assert_int_equal(pop(&m), -2);
	mailbox_destroy(&m);
}

static void
length_and_bytes_are_exact_and_peaks_stay(void **state) {
	struct mailbox m;
	int i;

	(void)state;
	mailbox_init(&m);
	for (i = 1; i <= 10; i++) {
		/* The type in the highest byte is no size. */
		mailbox_push(&m, message(i, (size_t)i | (size_t)10 << MESSAGE_TYPE_SHIFT));
	}
	assert_int_equal(mailbox_length(&m), 10);
	assert_int_equal(mailbox_bytes(&m), 55);
	assert_int_equal(pop(&m), 1);
	assert_int_equal(mailbox_length(&m), 9);
	assert_int_equal(mailbox_bytes(&m), 54);
	while (pop(&m) > 0) {
	}
	assert_int_equal(mailbox_length(&m), 0);
	assert_int_equal(mailbox_bytes(&m), 0);
	assert_int_equal(mailbox_peak_length(&m), 10);
	assert_int_equal(mailbox_peak_bytes(&m), 55);
	mailbox_destroy(&m);
}

static void
fill(struct mailbox *m, int count) {
	while (count-- > 0) {
		mailbox_push(m, message(1, 0));
	}
}

static void
overload_is_told_once_per_doubling_until_empty(void **state) {
	struct mailbox m;

	(void)state;
	mailbox_init(&m);
	/* 1024 left after the first pop: not yet. */
	fill(&m, MAILBOX_OVERLOAD + 1);
	pop(&m);
	assert_int_equal(mailbox_overload(&m), 0);
	while (pop(&m) > 0) {
	}
	fill(&m, MAILBOX_OVERLOAD + 2);
	pop(&m);
	assert_int_equal(mailbox_overload(&m), MAILBOX_OVERLOAD + 1);
	assert_int_equal(mailbox_overload(&m), 0);
	while (pop(&m) > 0) {
	}
	assert_int_equal(mailbox_overload(&m), 0);
	/* Emptied: the threshold is back, and doubles past a higher length. */
	fill(&m, 5 * MAILBOX_OVERLOAD);
	pop(&m);
	assert_int_equal(mailbox_overload(&m), 5 * MAILBOX_OVERLOAD - 1);
	fill(&m, 2 * MAILBOX_OVERLOAD);
	while (pop(&m) > 0) {
		assert_int_equal(mailbox_overload(&m), 0);
	}
	mailbox_destroy(&m);
}

/* Random pushes, pops and rests against a counter pair as the model. */
static void
random_operations_match_a_model(void **state) {
	struct unit_random r = unit_random_seed();
	struct mailbox m;
	int pushed = 0, popped = 0, i;
	bool is_scheduled = true;

	(void)state;
	mailbox_init(&m);
	for (i = 0; i < 300000; i++) {
		switch (unit_random_below(&r, 5)) {
		case 0:
		case 1: {
			enum mailbox_push got = mailbox_push(&m, message(++pushed, 1));
			assert_int_equal(got, is_scheduled ? MAILBOX_QUEUED : MAILBOX_SCHEDULE);
			is_scheduled = true;
			break;
		}
		case 2:
		case 3:
			if (is_scheduled) {
				int got = pop(&m);
				assert_int_equal(got, popped < pushed ? popped + 1 : -1);
				is_scheduled = got > 0;
				popped += got > 0;
			}
			break;
		default:
			if (is_scheduled) {
				bool rested = mailbox_rest(&m);
				assert_int_equal(rested, popped == pushed);
				is_scheduled = !rested;
			}
		}
		assert_int_equal(mailbox_length(&m), pushed - popped);
		assert_int_equal(mailbox_bytes(&m), pushed - popped);
	}
	mailbox_destroy(&m);
}

/*---------------------------------------------------------------- concurrency */

#define PRODUCERS 4
#define EACH 50000

struct arena {
	struct mailbox m;
	_Atomic(uint32_t) scheduled; /* tokens handed out and not yet taken */
	_Atomic(int) refused;
};

struct producer {
	struct arena *arena;
	uint32_t id;
};

static void *
produce(void *arg) {
	struct producer *p = arg;
	int i;

	for (i = 1; i <= EACH; i++) {
		struct mailbox_node *node = message(i, 8);
		node->msg.source = p->id;
		switch (mailbox_push(&p->arena->m, node)) {
		case MAILBOX_SCHEDULE:
			/* Two tokens at a time would mean two consumers. */
			if (atomic_fetch_add(&p->arena->scheduled, 1) != 0) {
				abort();
			}
			break;
		case MAILBOX_CLOSED:
			mailbox_node_free(node);
			atomic_fetch_add(&p->arena->refused, 1);
			break;
		default:
			break;
		}
	}
	return NULL;
}

/* Pop what is there; returns how many. Order per producer is asserted. */
static int
consume(struct arena *a, int last[], bool *is_idle) {
	struct mailbox_node *node;
	int n = 0;

	while ((node = mailbox_pop(&a->m, is_idle)) != NULL) {
		assert_true(node->msg.session > last[node->msg.source]);
		last[node->msg.source] = node->msg.session;
		mailbox_node_free(node);
		n++;
	}
	return n;
}

static void
start(pthread_t *threads, struct producer *producers, struct arena *a) {
	uint32_t i;

	for (i = 0; i < PRODUCERS; i++) {
		producers[i] = (struct producer){a, i};
		pthread_create(&threads[i], NULL, produce, &producers[i]);
	}
}

static void
nothing_is_lost_between_many_producers_and_one_consumer(void **state) {
	static struct arena a;
	struct producer producers[PRODUCERS];
	pthread_t threads[PRODUCERS];
	int last[PRODUCERS] = {0};
	int total = 0, i;
	bool is_idle;

	(void)state;
	mailbox_init(&a.m);
	atomic_store(&a.scheduled, 1);
	start(threads, producers, &a);
	while (total < PRODUCERS * EACH) {
		if (atomic_load(&a.scheduled) == 0) {
			platform_yield();
			continue;
		}
		/* Take the token first: the pushes that follow idleness hand out
		   the next one. */
		atomic_store(&a.scheduled, 0);
		total += consume(&a, last, &is_idle);
		assert_true(is_idle);
	}
	for (i = 0; i < PRODUCERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(last[i], EACH);
	}
	assert_int_equal(mailbox_length(&a.m), 0);
	mailbox_destroy(&a.m);
}

static void
closing_amid_pushes_loses_nothing_and_accepts_nothing(void **state) {
	static struct arena a;
	struct producer producers[PRODUCERS];
	pthread_t threads[PRODUCERS];
	int last[PRODUCERS] = {0};
	int total = 0, i;
	bool is_idle = false;

	(void)state;
	mailbox_init(&a.m);
	atomic_store(&a.scheduled, 1);
	atomic_store(&a.refused, 0);
	start(threads, producers, &a);
	while (mailbox_length(&a.m) < EACH / 10) {
		platform_yield();
	}
	mailbox_close(&a.m);
	for (i = 0; i < PRODUCERS; i++) {
		pthread_join(threads[i], NULL);
	}
	total = consume(&a, last, &is_idle);
	assert_false(is_idle);
	assert_int_equal(total + atomic_load(&a.refused), PRODUCERS * EACH);
	mailbox_destroy(&a.m);
}

/*--------------------------------------------------------- queues of modules */

static void
count_drop(struct skynet_message *msg, void *ud) {
	int *sum = ud;

	*sum += msg->session;
}

static void
module_queue_is_a_fifo_until_released(void **state) {
	struct message_queue *q = skynet_mq_create(0x1234);
	struct skynet_message msg = {.source = 5};
	int sum = 0;

	(void)state;
	assert_int_equal(skynet_mq_handle(q), 0x1234);
	for (msg.session = 1; msg.session <= 4; msg.session++) {
		skynet_mq_push(q, &msg);
	}
	assert_int_equal(skynet_mq_length(q), 4);
	assert_int_equal(skynet_mq_pop(q, &msg), 0);
	assert_int_equal(msg.session, 1);
	assert_int_equal(msg.source, 5);
	assert_int_equal(skynet_mq_overload(q), 0);
	skynet_mq_mark_release(q);
	msg.data = NULL;
	skynet_mq_push(q, &msg);
	assert_int_equal(skynet_mq_length(q), 3);
	skynet_mq_release(q, count_drop, &sum);
	assert_int_equal(sum, 2 + 3 + 4);
}

static void
dispose_nothing(void *data, size_t sz) {
	(void)data;
	(void)sz;
}

static void
disposer_is_for_messages_of_the_kernel(void **state) {
	struct skynet_message msg = {.sz = (size_t)200 << MESSAGE_TYPE_SHIFT | 8};

	(void)state;
	assert_null(mq_disposer(&msg));
	skynet_message_disposer(200, dispose_nothing);
	assert_ptr_equal(mq_disposer(&msg), dispose_nothing);
	/* Anybody can send bytes of that type; they mean nothing. */
	msg.source = 7;
	assert_null(mq_disposer(&msg));
	skynet_message_disposer(200, NULL);
}

/*------------------------------------------------------------------ node pool */

#define BURST 200000

static void
pool_returns_its_blocks_after_a_burst(void **state) {
	static void *nodes[BURST];
	struct nodepool_stats peak, after;
	int i;

	(void)state;
	for (i = 0; i < BURST; i++) {
		nodes[i] = nodepool_take(NODEPOOL_MESSAGE);
		memset(nodes[i], 0x55, sizeof(struct mailbox_node));
	}
	nodepool_stats(NODEPOOL_MESSAGE, &peak);
	assert_true(peak.reserved_bytes >= BURST * sizeof(struct mailbox_node));
	for (i = 0; i < BURST; i++) {
		nodepool_give(NODEPOOL_MESSAGE, nodes[i]);
	}
	nodepool_stats(NODEPOOL_MESSAGE, &after);
	assert_true(after.reserved_bytes < peak.reserved_bytes / 5);
	nodepool_rest();
	nodepool_stats(NODEPOOL_MESSAGE, &after);
	assert_int_equal(after.reserved_bytes, 0);
}

static void
pool_nodes_are_distinct(void **state) {
	enum { COUNT = 5000 };
	static uint64_t *nodes[COUNT];
	uint64_t i;

	(void)state;
	for (i = 0; i < COUNT; i++) {
		nodes[i] = nodepool_take(NODEPOOL_TIMER);
		nodes[i][0] = i;
		nodes[i][2] = ~i;
	}
	for (i = 0; i < COUNT; i++) {
		assert_true(nodes[i][0] == i && nodes[i][2] == ~i);
		nodepool_give(NODEPOOL_TIMER, nodes[i]);
	}
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(fresh_mailbox_counts_as_scheduled),
	    cmocka_unit_test(an_idle_mailbox_can_be_claimed),
	    cmocka_unit_test(only_the_push_that_ends_idleness_schedules),
	    cmocka_unit_test(closed_mailbox_refuses_and_keeps_what_is_in),
	    cmocka_unit_test(closing_an_idle_mailbox_asks_for_a_last_visit_once),
	    cmocka_unit_test(length_and_bytes_are_exact_and_peaks_stay),
	    cmocka_unit_test(overload_is_told_once_per_doubling_until_empty),
	    cmocka_unit_test(random_operations_match_a_model),
	    cmocka_unit_test(nothing_is_lost_between_many_producers_and_one_consumer),
	    cmocka_unit_test(closing_amid_pushes_loses_nothing_and_accepts_nothing),
	    cmocka_unit_test(module_queue_is_a_fifo_until_released),
	    cmocka_unit_test(disposer_is_for_messages_of_the_kernel),
	    cmocka_unit_test(pool_returns_its_blocks_after_a_burst),
	    cmocka_unit_test(pool_nodes_are_distinct),
	};

	return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
