/* Handles and names, over contexts that have no module behind them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "epoch.h"
#include "mailbox.h"
#include "platform.h"
#include "skynet_context.h"
#include "skynet_handle.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

#define HARBOR 3
#define BASE ((uint32_t)HARBOR << HANDLE_REMOTE_SHIFT)

/* A context that counts as scheduled: retiring it leaves it to the test. */
static struct skynet_context *
fake_context(void) {
	struct skynet_context *ctx = skynet_memalign(_Alignof(struct skynet_context), sizeof(*ctx));

	memset(ctx, 0, sizeof(*ctx));
	mailbox_init(&ctx->mailbox);
	atomic_store(&ctx->ref, 1);
	return ctx;
}

static void
free_context(struct skynet_context *ctx) {
	epoch_wait(epoch_retire());
	mailbox_destroy(&ctx->mailbox);
	skynet_free(ctx);
}

static uint32_t
live(struct skynet_context **ctx) {
	*ctx = fake_context();
	return skynet_handle_register(*ctx);
}

static int
fresh(void **state) {
	(void)state;
	skynet_handle_init(HARBOR, 1);
	skynet_handle_set_next(1);
	return 0;
}

static void
handles_grow_and_carry_the_node_id(void **state) {
	struct skynet_context *a, *b;
	uint32_t ha = live(&a), hb = live(&b);

	(void)state;
	assert_int_equal(ha, BASE | 1);
	assert_int_equal(hb, BASE | 2);
	assert_int_equal(a->mailbox.owner, ha);
	skynet_handle_retire(ha);
	skynet_handle_retire(hb);
	free_context(a);
	free_context(b);
}

static void
grab_takes_a_reference_to_the_living_only(void **state) {
	struct skynet_context *ctx;
	uint32_t h = live(&ctx);

	(void)state;
	assert_ptr_equal(skynet_handle_grab(h), ctx);
	assert_int_equal(atomic_load(&ctx->ref), 2);
	assert_null(skynet_handle_grab(h + 1));
	assert_null(skynet_handle_grab(h & HANDLE_MASK));
	assert_null(skynet_handle_grab(0));
	/* The last reference is gone: nothing brings it back. */
	atomic_store(&ctx->ref, 0);
	assert_null(skynet_handle_grab(h));
	assert_int_equal(skynet_handle_retire(h), 1);
	assert_int_equal(skynet_handle_retire(h), 0);
	assert_null(skynet_handle_grab(h));
	free_context(ctx);
}

static void
reserved_handle_resolves_to_nothing(void **state) {
	uint32_t h = skynet_handle_reserve();

	(void)state;
	assert_true(h != 0);
	assert_null(skynet_handle_grab(h));
	assert_int_equal(skynet_handle_retire(h), 0);
	skynet_handle_unreserve(h);
	assert_null(skynet_handle_grab(h));
}

static void
numbering_wraps_and_skips_the_living(void **state) {
	struct skynet_context *first, *last, *next;
	uint32_t h;

	(void)state;
	assert_int_equal(live(&first), BASE | 1);
	skynet_handle_set_next(HANDLE_MASK);
	assert_int_equal(live(&last), BASE | HANDLE_MASK);
	h = live(&next);
	assert_int_equal(h, BASE | 2);
	skynet_handle_retire(BASE | 1);
	skynet_handle_retire(BASE | HANDLE_MASK);
	skynet_handle_retire(h);
	free_context(first);
	free_context(last);
	free_context(next);
}

static void
retired_handle_is_not_reissued_soon(void **state) {
	struct skynet_context *ctx;
	uint32_t before = 0;
	int i;

	(void)state;
	/* Several pages of the table come and go. */
	for (i = 0; i < 2000; i++) {
		uint32_t h = live(&ctx);
		assert_true(h > before);
		before = h;
		assert_int_equal(skynet_handle_retire(h), 1);
		free_context(ctx);
	}
}

static void
names_belong_to_the_living(void **state) {
	struct skynet_context *a, *b;
	uint32_t ha = live(&a), hb = live(&b);

	(void)state;
	assert_int_equal(skynet_handle_findname("x"), 0);
	assert_string_equal(skynet_handle_namehandle(ha, "x"), "x");
	assert_int_equal(skynet_handle_findname("x"), ha);
	/* Taken, also for the same handle. */
	assert_null(skynet_handle_namehandle(hb, "x"));
	assert_null(skynet_handle_namehandle(ha, "x"));
	assert_string_equal(skynet_handle_namehandle(ha, "y"), "y");
	/* Empty, dead, foreign. */
	assert_null(skynet_handle_namehandle(ha, ""));
	assert_null(skynet_handle_namehandle(hb + 1, "z"));
	assert_null(skynet_handle_namehandle(0x01000001, "z"));
	assert_int_equal(skynet_handle_findname("z"), 0);
	skynet_handle_retire(ha);
	assert_int_equal(skynet_handle_findname("x"), 0);
	assert_int_equal(skynet_handle_findname("y"), 0);
	assert_string_equal(skynet_handle_namehandle(hb, "x"), "x");
	assert_int_equal(skynet_handle_findname("x"), hb);
	skynet_handle_retire(hb);
	free_context(a);
	free_context(b);
}

static void
many_names_are_all_found(void **state) {
	enum { NAMES = 20000 };
	struct skynet_context *ctx;
	uint32_t h = live(&ctx);
	char name[32];
	int i;

	(void)state;
	for (i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "name-%d", i);
		assert_non_null(skynet_handle_namehandle(h, name));
	}
	for (i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "name-%d", i);
		assert_int_equal(skynet_handle_findname(name), h);
	}
	skynet_handle_retire(h);
	assert_int_equal(skynet_handle_findname("name-0"), 0);
	free_context(ctx);
}

static void
snapshot_lists_the_living_in_order_of_launch(void **state) {
	struct skynet_context *c[5];
	uint32_t h[5], *list;
	int i;

	(void)state;
	skynet_handle_set_next(HANDLE_MASK - 1);
	for (i = 0; i < 5; i++) {
		h[i] = live(&c[i]);
	}
	skynet_handle_retire(h[1]);
	assert_int_equal(skynet_handle_snapshot(&list), 4);
	assert_int_equal(list[0], h[0]);
	assert_int_equal(list[1], h[2]);
	assert_int_equal(list[3], h[4]);
	skynet_free(list);
	for (i = 0; i < 5; i++) {
		skynet_handle_retire(h[i]);
		free_context(c[i]);
	}
	assert_int_equal(skynet_handle_snapshot(&list), 0);
	skynet_free(list);
}

/*--------------------------------------------------------------------- races */

#define READERS 3
#define LIVES 500
/* On a busy machine fewer lives have to do. */
#define LIVES_NS UINT64_C(1000000000)

static _Atomic(uint32_t) target;
static atomic_bool is_over;

/* Looks up, grabs and pushes at a service that comes and goes. */
static void *
pester(void *unused) {
	intptr_t bad = 0;

	(void)unused;
	while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
		uint32_t h = atomic_load(&target);
		struct skynet_context *ctx;

		epoch_enter();
		ctx = skynet_handle_peek(h);
		bad += ctx && ctx->mailbox.owner != h;
		epoch_exit();
		h = skynet_handle_findname("target");
		ctx = h ? skynet_handle_grab(h) : NULL;
		if (ctx) {
			struct mailbox_node *node = mailbox_node_new();
			node->msg = (struct skynet_message){0};
			if (mailbox_push(&ctx->mailbox, node) == MAILBOX_CLOSED) {
				mailbox_node_free(node);
			}
			atomic_fetch_sub(&ctx->ref, 1);
		}
	}
	return (void *)bad;
}

static void
lookups_race_with_lives_and_deaths(void **state) {
	pthread_t threads[READERS];
	uint64_t end = platform_monotonic_ns() + LIVES_NS;
	int i;

	(void)state;
	atomic_store(&is_over, false);
	for (i = 0; i < READERS; i++) {
		pthread_create(&threads[i], NULL, pester, NULL);
	}
	for (i = 0; i < LIVES && platform_monotonic_ns() < end; i++) {
		struct skynet_context *ctx;
		uint32_t h = live(&ctx);
		atomic_store(&target, h);
		assert_non_null(skynet_handle_namehandle(h, "target"));
		assert_int_equal(skynet_handle_retire(h), 1);
		/* The table's reference; then wait for the readers'. */
		atomic_fetch_sub(&ctx->ref, 1);
		while (atomic_load(&ctx->ref) > 0) {
			platform_yield();
		}
		free_context(ctx);
	}
	atomic_store(&is_over, true);
	for (i = 0; i < READERS; i++) {
		void *bad;
		pthread_join(threads[i], &bad);
		assert_null(bad);
	}
}

static _Atomic(int) wins;
static pthread_barrier_t barrier;

static void *
retire_target(void *handle) {
	pthread_barrier_wait(&barrier);
	atomic_fetch_add(&wins, skynet_handle_retire((uint32_t)(uintptr_t)handle));
	return NULL;
}

static void
retire_has_one_winner(void **state) {
	int i, t;

	(void)state;
	for (i = 0; i < 100; i++) {
		struct skynet_context *ctx;
		uint32_t h = live(&ctx);
		pthread_t threads[READERS];

		atomic_store(&wins, 0);
		pthread_barrier_init(&barrier, NULL, READERS);
		for (t = 0; t < READERS; t++) {
			pthread_create(&threads[t], NULL, retire_target, (void *)(uintptr_t)h);
		}
		for (t = 0; t < READERS; t++) {
			pthread_join(threads[t], NULL);
		}
		pthread_barrier_destroy(&barrier);
		assert_int_equal(atomic_load(&wins), 1);
		free_context(ctx);
	}
}

int
main(void) {
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(handles_grow_and_carry_the_node_id, fresh),
	    cmocka_unit_test_setup(grab_takes_a_reference_to_the_living_only, fresh),
	    cmocka_unit_test_setup(reserved_handle_resolves_to_nothing, fresh),
	    cmocka_unit_test_setup(numbering_wraps_and_skips_the_living, fresh),
	    cmocka_unit_test_setup(retired_handle_is_not_reissued_soon, fresh),
	    cmocka_unit_test_setup(names_belong_to_the_living, fresh),
	    cmocka_unit_test_setup(many_names_are_all_found, fresh),
	    cmocka_unit_test_setup(snapshot_lists_the_living_in_order_of_launch, fresh),
	    cmocka_unit_test_setup(lookups_race_with_lives_and_deaths, fresh),
	    cmocka_unit_test_setup(retire_has_one_winner, fresh),
	};

	return cmocka_run_group_tests_name("handle", tests, NULL, NULL);
}
