/*
 * Limits of all that a service is answerable for: its heap, the C memory that is
 * charged to it (buffers of its sockets included), and what waits in its mailbox.
 *
 * Only the service can be made to stop, and only where it allocates: a growing
 * Lua allocation that would exceed the hard limit fails, as one that exceeds
 * skynet.memlimit does. Lua collects garbage, tries once more, and raises "not
 * enough memory" in the running task. After that some small change is allowed,
 * or a service full of C memory could not even free it.
 *
 * C memory and mailbox are looked up anew after each LOOK_BYTES of allocations
 * and before each refusal. Services without limits keep the plain allocator and
 * pay nothing.
 */
#include "snlua.h"

#include <stdlib.h>

#include "malloc_hook.h"
#include "skynet_context.h"
#include "skynet_env.h"

#define MEBIBYTE 1048576.0
#define LOOK_BYTES ((size_t)16 * 1024)
#define GRACE_BYTES ((size_t)64 * 1024)
/* Lua asks again after it has collected garbage, so two refusals make an error. */
#define REFUSALS 2
/* A mark that was set by passing half of it is armed again below half of that. */
#define REARM_DIVISOR 4

/*-------------------------------------------------------------------- figures */

static void
look(struct snlua *l) {
	struct skynet_context *ctx = l->base.ctx;
	l->quota.unseen = 0;
	l->quota.others = malloc_service_memory(ctx->mailbox.owner) + mailbox_bytes(&ctx->mailbox);
}

static size_t
total(struct snlua *l) {
	return snlua_memory_used(&l->base) + l->quota.others;
}

static void
log_figures(struct snlua *l, const char *what, size_t limit) {
	struct skynet_context *ctx = l->base.ctx;
	skynet_error(ctx, "%s: %.2f M of %.2f M in use (Lua %.2f M, C %.2f M, %zu messages of %.2f M)",
	             what, (double)total(l) / MEBIBYTE, (double)limit / MEBIBYTE,
	             (double)snlua_memory_used(&l->base) / MEBIBYTE,
	             (double)malloc_service_memory(ctx->mailbox.owner) / MEBIBYTE,
	             mailbox_length(&ctx->mailbox), (double)mailbox_bytes(&ctx->mailbox) / MEBIBYTE);
}

/*-------------------------------------------------------------------- warning */

static void
check_warning(struct snlua *l) {
	struct snlua_quota *q = &l->quota;
	size_t now = total(l);
	if (q->warn == 0) {
		return;
	}
	if (now > q->mark) {
		while (q->mark < now && q->mark <= SIZE_MAX / 2) {
			q->mark *= 2;
		}
		log_figures(l, "Memory quota warning", q->hard != 0 ? q->hard : q->warn);
	}
	while (q->mark > q->warn && now < q->mark / REARM_DIVISOR) {
		q->mark /= 2;
	}
}

/*------------------------------------------------------------------- refusing */

static bool
fits(struct snlua *l, size_t more) {
	return l->quota.hard == 0 || total(l) + more <= l->quota.hard;
}

/* C memory counts here as well, or it could grow on while the small change lasts. */
static bool
is_small_change(struct snlua *l, size_t more) {
	return total(l) + more <= l->quota.grace;
}

static bool
refuse(struct snlua *l) {
	struct snlua_quota *q = &l->quota;
	if (!q->is_over) {
		q->is_over = true;
		log_figures(l, "Memory quota reached", q->hard);
	}
	if (++q->refusals == REFUSALS) {
		q->refusals = 0;
		q->grace = total(l) + GRACE_BYTES;
	}
	return false;
}

static bool
allows(struct snlua *l, size_t more) {
	struct snlua_quota *q = &l->quota;
	q->unseen += more;
	if (q->unseen >= LOOK_BYTES) {
		look(l);
		check_warning(l);
	}
	if (!fits(l, more)) {
		look(l);
		if (!fits(l, more)) {
			return is_small_change(l, more) || refuse(l);
		}
	}
	q->refusals = 0;
	q->grace = 0;
	q->is_over = q->is_over && total(l) > q->hard / 8 * 7;
	return true;
}

void *
snlua_alloc_in_quota(void *ud, void *ptr, size_t osize, size_t nsize) {
	size_t old = ptr != NULL ? osize : 0;
	if (nsize > old && !allows(ud, nsize - old)) {
		return NULL;
	}
	return snlua_alloc(ud, ptr, osize, nsize);
}

/*------------------------------------------------------------------- settings */

static void
set(struct snlua *l, size_t hard, size_t warn) {
	l->quota = (struct snlua_quota){.hard = hard, .warn = warn, .mark = warn};
	look(l);
	snlua_choose_alloc(l);
}

/* A plain number, as the configuration has checked; not so if a script has set it. */
static size_t
env_bytes(const char *key) {
	const char *text = skynet_getenv(key);
	double bytes = text != NULL ? strtod(text, NULL) : 0;
	return bytes > 0 && bytes < 0x1p62 ? (size_t)bytes : 0;
}

void
snlua_lift_limits(struct snlua *l) {
	l->memory.limit = SIZE_MAX;
	set(l, 0, 0);
}

void
snlua_quota_init(struct snlua *l) {
	size_t hard = env_bytes("memory_quota");
	size_t warn = env_bytes("memory_quota_warn");
	if (hard != 0 || warn != 0) {
		set(l, hard, warn);
	}
}

void
snlua_set_quota(struct lua_container *c, size_t hard, size_t warn) {
	set(snlua_of(c), hard, warn);
	skynet_error(c->ctx, "Set memory quota to %.2f M, warning at %.2f M", (double)hard / MEBIBYTE,
	             (double)warn / MEBIBYTE);
}

void
snlua_get_quota(struct lua_container *c, size_t *hard, size_t *warn, size_t *now) {
	struct snlua *l = snlua_of(c);
	look(l);
	*hard = l->quota.hard;
	*warn = l->quota.warn;
	*now = total(l);
}
