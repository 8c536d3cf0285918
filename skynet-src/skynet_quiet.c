/* See skynet_quiet.h. */
#include "skynet_quiet.h"

#include "malloc_hook.h"
#include "scheduler.h"
#include "skynet_context.h"
#include "skynet_handle.h"
#include "skynet_malloc.h"
#include "skynet_module.h"
#include "skynet_monitor.h"
#include "skynet_server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

/* Freed by cleaning: give the pages back to the system at the end. */
#define TRIM_BYTES (1 << 20)

struct entry {
	uint32_t handle;
	uint64_t messages; /* delivered when it was looked at; watched only */
};

struct list {
	struct entry *entry;
	size_t n;
	size_t room;
};

static struct {
	pthread_mutex_t mutex; /* the next three */
	struct list noted;
	struct list ripe;
	size_t freed;
	struct list watched; /* monitor thread */

	atomic_int pending;    /* services in any list, or being cleaned */
	atomic_int ripe_count; /* hint for workers */
	struct runnable nudge; /* wakes a worker */
	atomic_bool is_nudging;
} Q = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/*-------------------------------------------------------------------- lists */

static void
list_push(struct list *l, uint32_t handle, uint64_t messages) {
	if (l->n == l->room) {
		uint32_t owner = malloc_owner();
		malloc_set_owner(0);
		l->room = l->room == 0 ? 64 : l->room * 2;
		l->entry = skynet_realloc(l->entry, l->room * sizeof(l->entry[0]));
		malloc_set_owner(owner);
	}
	l->entry[l->n++] = (struct entry){.handle = handle, .messages = messages};
}

static void
list_free(struct list *l) {
	skynet_free(l->entry);
	*l = (struct list){0};
}

static void
note(uint32_t handle) {
	pthread_mutex_lock(&Q.mutex);
	list_push(&Q.noted, handle, 0);
	pthread_mutex_unlock(&Q.mutex);
}

void
skynet_quiet_note(uint32_t handle) {
	if (Q.nudge.run == NULL) {
		return; /* switched off */
	}
	note(handle);
	atomic_fetch_add(&Q.pending, 1);
}

static void
ripen(uint32_t handle) {
	pthread_mutex_lock(&Q.mutex);
	list_push(&Q.ripe, handle, 0);
	pthread_mutex_unlock(&Q.mutex);
	atomic_fetch_add(&Q.ripe_count, 1);
}

static uint32_t
take_ripe(void) {
	uint32_t handle = 0;

	pthread_mutex_lock(&Q.mutex);
	if (Q.ripe.n > 0) {
		handle = Q.ripe.entry[--Q.ripe.n].handle;
		atomic_fetch_sub(&Q.ripe_count, 1);
	}
	if (Q.ripe.n == 0) {
		list_free(&Q.ripe);
	}
	pthread_mutex_unlock(&Q.mutex);
	return handle;
}

bool
skynet_quiet_is_pending(void) {
	return atomic_load(&Q.pending) > 0;
}

/*----------------------------------------------------------------- cleaning */

static void
forget(void) {
	atomic_fetch_sub(&Q.pending, 1);
}

/* One step at a service that is ours. */
static enum skynet_quiet
clean(struct skynet_context *ctx) {
	struct skynet_monitor *monitor = scheduler_monitor(scheduler_current());
	uint32_t owner = malloc_owner();
	enum skynet_quiet result;
	size_t freed = 0;

	malloc_set_owner(ctx->mailbox.owner);
	skynet_monitor_mark(monitor, 0, ctx->mailbox.owner);
	result = skynet_module_instance_quiet(ctx->module, ctx->instance, &freed);
	skynet_monitor_mark(monitor, 0, 0);
	malloc_set_owner(owner);
	pthread_mutex_lock(&Q.mutex);
	Q.freed += freed;
	pthread_mutex_unlock(&Q.mutex);
	return result;
}

/* What becomes of a service after a step. */
static void
put_back(uint32_t handle, enum skynet_quiet result, bool was_left_alone) {
	if (result == QUIET_DONE) {
		forget();
	} else if (result == QUIET_MORE && was_left_alone) {
		ripen(handle);
	} else {
		note(handle);
	}
}

/* Everything is clean: what that freed shall not stay with the process. */
static void
trim(void) {
	bool is_worth_it = false;

	pthread_mutex_lock(&Q.mutex);
	if (Q.ripe.n == 0 && Q.freed >= TRIM_BYTES) {
		Q.freed = 0;
		is_worth_it = true;
	}
	pthread_mutex_unlock(&Q.mutex);
	if (is_worth_it) {
		malloc_give_back();
	}
}

/* A worker has nothing to do: one step. False when there is none to be made. */
static bool
spare_time(void) {
	struct skynet_context *ctx;
	uint32_t handle;

	/* Relaxed: a hint; who made something ripe wakes a worker afterwards. */
	if (atomic_load_explicit(&Q.ripe_count, memory_order_relaxed) <= 0) {
		return false;
	}
	handle = take_ripe();
	if (handle == 0) {
		return false;
	}
	ctx = skynet_handle_grab(handle);
	if (ctx == NULL) {
		forget();
	} else if (context_claim(ctx)) {
		enum skynet_quiet result = clean(ctx);
		put_back(handle, result, context_unclaim(ctx));
		skynet_context_release(ctx);
	} else {
		note(handle); /* it is busy again */
		skynet_context_release(ctx);
	}
	trim();
	return true;
}

/*------------------------------------------------------------------ looking */

static void
look_at(struct entry e, struct list *still) {
	struct skynet_context *ctx = skynet_handle_grab(e.handle);
	uint64_t messages;

	if (ctx == NULL) {
		forget();
		return;
	}
	messages = atomic_load_explicit(&ctx->messages, memory_order_relaxed);
	skynet_context_release(ctx);
	if (messages == e.messages) {
		ripen(e.handle);
	} else {
		list_push(still, e.handle, messages);
	}
}

static void
run_nudge(struct runnable *r, struct worker *w) {
	(void)r;
	(void)w;
	atomic_store(&Q.is_nudging, false);
}

void
skynet_quiet_look(void) {
	struct list before = Q.watched;
	struct list noted;
	size_t i;

	Q.watched = (struct list){0};
	for (i = 0; i < before.n; i++) {
		look_at(before.entry[i], &Q.watched);
	}
	list_free(&before);
	pthread_mutex_lock(&Q.mutex);
	noted = Q.noted;
	Q.noted = (struct list){0};
	pthread_mutex_unlock(&Q.mutex);
	for (i = 0; i < noted.n; i++) {
		/* Not a number of messages: it is never ripe at once. */
		noted.entry[i].messages = UINT64_MAX;
		look_at(noted.entry[i], &Q.watched);
	}
	list_free(&noted);
	if (atomic_load(&Q.ripe_count) > 0 && !atomic_exchange(&Q.is_nudging, true)) {
		scheduler_push(&Q.nudge);
	}
}

void
skynet_quiet_init(void) {
	Q.nudge.run = run_nudge;
	scheduler_on_spare(spare_time);
}

void
skynet_quiet_exit(void) {
	list_free(&Q.noted);
	list_free(&Q.ripe);
	list_free(&Q.watched);
}
