/*
 * Memory of one VM: counts every byte that Lua holds, refuses growth beyond the
 * limit, and warns when a mark is passed. The memory itself is raw
 * (skynet_lalloc): Lua memory is not part of the C memory statistics.
 *
 * The mark starts at 32 MiB and doubles with each warning. When the figure has
 * fallen to half of the mark that was passed last, that mark is armed again.
 */
#include "snlua.h"

#include <stdlib.h>

#include "lshare.h"
#include "malloc_hook.h"
#include "skynet_module.h"

#define MEBIBYTE 1048576.0
#define FIRST_WARN_MARK ((size_t)32 * 1024 * 1024)
/* A mark of N was set by passing N/2; half of that is "well below". */
#define REARM_DIVISOR 4

void
snlua_memory_init(struct snlua *l) {
	atomic_init(&l->memory.used, 0);
	atomic_init(&l->memory.code, 0);
	l->memory.limit = SIZE_MAX;
	l->memory.warn_mark = FIRST_WARN_MARK;
	l->memory.rearm_mark = 0;
}

static void
set_warn_mark(struct snlua_memory *m, size_t mark) {
	m->warn_mark = mark;
	m->rearm_mark = mark > FIRST_WARN_MARK ? mark / REARM_DIVISOR : 0;
}

static void
warn(struct snlua *l, size_t used) {
	if (l->memory.warn_mark <= SIZE_MAX / 2) {
		set_warn_mark(&l->memory, l->memory.warn_mark * 2);
	}
	skynet_error(l->base.ctx, "Memory warning %.2f M", (double)used / MEBIBYTE);
}

static void
rearm(struct snlua_memory *m, size_t used) {
	while (used < m->rearm_mark) {
		set_warn_mark(m, m->warn_mark / 2);
	}
}

void *
snlua_alloc(void *ud, void *ptr, size_t osize, size_t nsize) {
	struct snlua *l = ud;
	struct snlua_memory *m = &l->memory;
	size_t old = ptr != NULL ? osize : 0; /* for a new block osize is a type */
	size_t used = atomic_load_explicit(&m->used, memory_order_relaxed) - old + nsize;
	if (nsize > old) {
		if (used > m->limit) {
			return NULL;
		}
		if (used > m->warn_mark) {
			warn(l, used);
		}
	} else if (used < m->rearm_mark) {
		rearm(m, used);
	}
	void *block = skynet_lalloc(ptr, old, nsize);
	if (block == NULL && nsize > 0) {
		return NULL;
	}
	/* Relaxed: only a figure for snlua_memory_used on other threads. */
	atomic_store_explicit(&m->used, used, memory_order_relaxed);
	return block;
}

void
snlua_choose_alloc(struct snlua *l) {
	lua_Alloc f = snlua_alloc;
	if (l->sites != NULL) {
		f = snlua_alloc_sampled;
	} else if (l->quota.hard != 0 || l->quota.warn != 0) {
		f = snlua_alloc_in_quota;
	}
	lua_setallocf(l->L, f, l);
}

void
snlua_limit_memory(struct lua_container *c, size_t bytes) {
	snlua_of(c)->memory.limit = bytes > 0 ? bytes : SIZE_MAX;
	skynet_error(c->ctx, "Set memory limit to %.2f M", (double)bytes / MEBIBYTE);
}

size_t
snlua_memory_used(struct lua_container *c) {
	return atomic_load_explicit(&snlua_of(c)->memory.used, memory_order_relaxed);
}

/* ------------------------------------------------------------- for the ledger */

void
snlua_measure_code(struct snlua *l) {
	/* Relaxed: a figure for other threads. */
	atomic_store_explicit(&l->memory.code, lua_sharedcode(l->L), memory_order_relaxed);
}

void snlua_memory(struct snlua *l, struct skynet_module_memory *out);

/* NAME_memory of the module; any thread. */
void
snlua_memory(struct snlua *l, struct skynet_module_memory *out) {
	out->heap = atomic_load_explicit(&l->memory.used, memory_order_relaxed);
	out->shared = atomic_load_explicit(&l->memory.code, memory_order_relaxed);
}

static void *
shared_alloc(void *block, size_t osize, size_t nsize) {
	(void)osize;
	if (nsize == 0) {
		free(block);
		return NULL;
	}
	uint32_t owner = malloc_owner();
	malloc_set_owner(0);
	void *p = realloc(block, nsize);
	malloc_set_owner(owner);
	return p;
}

void
snlua_charge_shared(void) {
	lua_setsharealloc(shared_alloc);
}
