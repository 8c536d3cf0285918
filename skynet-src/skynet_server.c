/*
 * Birth and death of services. Owns every context; see skynet_context.h for
 * the stages of its life. Delivery is in skynet_dispatch.c, sending in
 * skynet_send.c.
 */
#include "skynet_server.h"

#include "epoch.h"
#include "malloc_hook.h"
#include "platform.h"
#include "platform_memory.h"
#include "skynet.h"
#include "skynet_context.h"
#include "skynet_handle.h"
#include "skynet_imp.h"
#include "skynet_module.h"
#include "skynet_monitor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* About what a message costs beside its bytes, see skynet_context_waiting. */
#define MESSAGE_COST 64

static struct {
	_Atomic(int) total;                /* counted services that exist */
	void (*on_gone)(int total);        /* set before threads start */
	void (*on_death)(uint32_t handle); /* the same */
} N;

void
skynet_globalinit(void) {
	platform_init();
	skynet_initthread(THREAD_MAIN);
}

void
skynet_globalexit(void) {
	N.on_gone = NULL;
	N.on_death = NULL;
}

void
skynet_initthread(int kind) {
	malloc_set_owner((uint32_t)-kind);
	platform_note_stack();
	if (kind != THREAD_MAIN) {
		platform_thread_signals();
	}
}

uint32_t
skynet_current_handle(void) {
	return malloc_owner();
}

void
skynet_debug_memory(const char *info) {
	uint32_t handle = malloc_owner();

	fprintf(stderr, "[:%08" PRIx32 "] %s %zu\n", handle, info, malloc_current_memory());
}

int
skynet_context_total(void) {
	return atomic_load(&N.total);
}

void
context_on_gone(void (*fn)(int total)) {
	N.on_gone = fn;
}

void
context_on_death(void (*fn)(uint32_t handle)) {
	N.on_death = fn;
}

static void
count_down(void) {
	int total = atomic_fetch_sub(&N.total, 1) - 1;

	if (N.on_gone) {
		N.on_gone(total);
	}
}

void
context_notice_closing(void) {
	if (N.on_gone) {
		N.on_gone(skynet_context_total());
	}
}

/*------------------------------------------------- working for another one */

/* What the thread was doing before it turned to a module's create or release. */
struct detour {
	struct skynet_monitor *monitor; /* NULL outside workers */
	uint32_t owner, source, destination;
};

/* Charge to `handle` what follows, and have it watched. */
static void
detour_begin(struct detour *d, uint32_t handle) {
	struct worker *w = scheduler_current();

	d->owner = malloc_owner();
	d->monitor = w ? scheduler_monitor(w) : NULL;
	malloc_set_owner(handle);
	if (d->monitor) {
		d->source = atomic_load_explicit(&d->monitor->source, memory_order_relaxed);
		d->destination = atomic_load_explicit(&d->monitor->destination, memory_order_relaxed);
		skynet_monitor_mark(d->monitor, d->owner, handle);
	}
}

static void
detour_end(struct detour *d) {
	malloc_set_owner(d->owner);
	if (d->monitor) {
		skynet_monitor_mark(d->monitor, d->source, d->destination);
	}
}

/*-------------------------------------------------------------------- birth */

static struct skynet_context *
context_alloc(uint32_t handle, struct skynet_module *module, void *instance) {
	struct skynet_context *ctx = skynet_memalign(_Alignof(struct skynet_context), sizeof(*ctx));

	memset(ctx, 0, sizeof(*ctx));
	mailbox_init(&ctx->mailbox);
	ctx->mailbox.run.run = context_run;
	ctx->mailbox.owner = handle;
	/* One for the handle table, one for the launcher until init is done. */
	atomic_init(&ctx->ref, 2);
	ctx->module = module;
	ctx->instance = instance;
	return ctx;
}

/* Runs create and init for the account of the new service. NULL: no service. */
static struct skynet_context *
launch(struct skynet_module *module, uint32_t handle, const char *param, bool *is_up) {
	struct detour detour;
	struct skynet_context *ctx = NULL;
	void *instance;

	detour_begin(&detour, handle);
	instance = skynet_module_instance_create(module);
	if (instance) {
		ctx = context_alloc(handle, module, instance);
		atomic_fetch_add(&N.total, 1);
		skynet_handle_publish(handle, ctx);
		*is_up = skynet_module_instance_init(module, instance, ctx, param) == 0;
	}
	detour_end(&detour);
	return ctx;
}

uint32_t
skynet_context_new(const char *name, const char *param) {
	struct skynet_module *module = skynet_module_query(name);
	struct skynet_context *ctx;
	uint32_t handle;
	bool is_up = false;

	if (module == NULL) {
		return 0;
	}
	handle = skynet_handle_reserve();
	if (handle == 0) {
		skynet_error(NULL, "error: launch %s FAILED : %s", name,
		             skynet_handle_is_closing() ? "the node is closing" : "too many services");
		return 0;
	}
	ctx = launch(module, handle, param, &is_up);
	if (ctx == NULL) {
		skynet_handle_unreserve(handle);
		return 0;
	}
	if (is_up) {
		skynet_error(ctx, "LAUNCH %s %s", name, param ? param : "");
		/* Published too late for skynet_handle_retireall to see it? */
		if (skynet_handle_is_closing()) {
			skynet_handle_retire(handle);
		}
	} else {
		skynet_error(ctx, "error: launch %s FAILED", name);
		skynet_handle_retire(handle);
		handle = 0;
	}
	/* Until now the mailbox was marked as scheduled: its first visit. */
	scheduler_push(&ctx->mailbox.run);
	skynet_context_release(ctx);
	return handle;
}

void
skynet_context_reserve(struct skynet_context *ctx) {
	if (!ctx->is_reserved) {
		ctx->is_reserved = true;
		skynet_context_grab(ctx);
		count_down();
	}
}

/*--------------------------------------------------------------- references */

void
skynet_context_grab(struct skynet_context *ctx) {
	/* Relaxed: who grabs holds a reference, or a lock that keeps one. */
	atomic_fetch_add_explicit(&ctx->ref, 1, memory_order_relaxed);
}

bool
context_try_grab(struct skynet_context *ctx) {
	int ref = atomic_load_explicit(&ctx->ref, memory_order_relaxed);

	while (ref > 0) {
		if (atomic_compare_exchange_weak_explicit(&ctx->ref, &ref, ref + 1, memory_order_relaxed,
		                                          memory_order_relaxed)) {
			return true;
		}
	}
	return false;
}

uint32_t
skynet_context_handle(struct skynet_context *ctx) {
	return ctx->mailbox.owner;
}

/*-------------------------------------------------------------------- death */

bool
context_close(struct skynet_context *ctx) {
	return mailbox_close(&ctx->mailbox);
}

static void
destroy(struct skynet_context *ctx) {
	bool is_counted = !ctx->is_reserved;
	struct detour detour;

	detour_begin(&detour, ctx->mailbox.owner);
	skynet_log_release(&ctx->log);
	skynet_module_instance_release(ctx->module, ctx->instance);
	mailbox_destroy(&ctx->mailbox);
	skynet_free(ctx->long_result);
	skynet_free(ctx);
	detour_end(&detour);
	if (is_counted) {
		count_down();
	}
}

/* Nobody holds the context any more; look-ups may still be on their way. */
static void
try_destroy(struct runnable *r, struct worker *w) {
	struct skynet_context *ctx =
	    (struct skynet_context *)((char *)r - offsetof(struct skynet_context, mailbox.run));

	if (epoch_passed(ctx->reap_epoch)) {
		destroy(ctx);
		return;
	}
	if (w && !scheduler_has_waiting(w)) {
		platform_yield();
	}
	scheduler_push(r);
}

/* Drops one reference; true when it was the last. */
static bool
drop_reference(struct skynet_context *ctx) {
	/* Release and acquire: what every holder did comes before the end. */
	if (atomic_fetch_sub_explicit(&ctx->ref, 1, memory_order_acq_rel) > 1) {
		return false;
	}
	ctx->reap_epoch = epoch_retire();
	ctx->mailbox.run.run = try_destroy;
	return true;
}

void
skynet_context_release(struct skynet_context *ctx) {
	if (drop_reference(ctx)) {
		/* Maybe inside a callback, maybe no worker at all: later, there. */
		scheduler_push(&ctx->mailbox.run);
	}
}

void
context_bury(struct skynet_context *ctx) {
	if (N.on_death) {
		N.on_death(ctx->mailbox.owner);
	}
	if (drop_reference(ctx)) {
		try_destroy(&ctx->mailbox.run, scheduler_current());
	}
}

/*---------------------------------------------------------------- the rest */

void
skynet_context_endless(uint32_t handle) {
	struct skynet_context *ctx = skynet_handle_grab(handle);

	if (ctx) {
		atomic_store_explicit(&ctx->endless, true, memory_order_relaxed);
		skynet_module_instance_stuck(ctx->module, ctx->instance);
		skynet_context_release(ctx);
	}
}

bool
context_take_endless(struct skynet_context *ctx) {
	return atomic_exchange_explicit(&ctx->endless, false, memory_order_relaxed);
}

size_t
context_queue_length(struct skynet_context *ctx) {
	return mailbox_length(&ctx->mailbox);
}

size_t
skynet_context_waiting(uint32_t handle) {
	size_t n = 0;

	epoch_enter();
	struct skynet_context *ctx = skynet_handle_peek(handle);
	if (ctx) {
		n = mailbox_bytes(&ctx->mailbox) + mailbox_length(&ctx->mailbox) * MESSAGE_COST;
	}
	epoch_exit();
	return n;
}

size_t
context_inside_bytes(struct skynet_context *ctx) {
	/* As mailbox_length: what came first is read last. Acquire pairs with the
	   release in skynet_dispatch.c. */
	uint64_t out = atomic_load_explicit(&ctx->inside_out, memory_order_acquire);
	uint64_t in = atomic_load_explicit(&ctx->mailbox.inside_in, memory_order_relaxed);

	return (size_t)(in - out);
}

void
context_signal(struct skynet_context *ctx, int signal) {
	skynet_module_instance_signal(ctx->module, ctx->instance, signal);
}

int
skynet_context_newsession(struct skynet_context *ctx) {
	ctx->session = (ctx->session + 1) & INT32_MAX;
	if (ctx->session == 0) {
		ctx->session = 1;
	}
	return (int)ctx->session;
}

void
context_set_session(struct skynet_context *ctx, uint32_t session) {
	ctx->session = session;
}

void
skynet_callback(struct skynet_context *ctx, void *ud, skynet_cb cb) {
#ifdef CALLING_CHECK
	/* Only the service itself may: a worker could see half of the change. */
	assert(malloc_owner() == ctx->mailbox.owner);
#endif
	ctx->cb = cb;
	ctx->cb_ud = ud;
}

char *
skynet_strdup(const char *str) {
	return skynet_strndup(str, strlen(str));
}

char *
skynet_strndup(const char *str, size_t size) {
	char *copy = skynet_malloc(size + 1);

	memcpy(copy, str, size);
	copy[size] = '\0';
	return copy;
}
