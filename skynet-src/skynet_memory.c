/*
 * See skynet_memory.h. Owns nothing. What it registers runs in a process that is
 * about to abort, on the thread that failed: no locks, and memory only as far as
 * the reserve goes.
 */
#include "skynet_memory.h"

#include "epoch.h"
#include "malloc_hook.h"
#include "malloc_pages.h"
#include "malloc_report.h"
#include "skynet_context.h"
#include "skynet_env.h"
#include "skynet_handle.h"
#include "skynet_module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_RESERVE (256 << 10)
#define RANKING 10 /* services listed when memory has ended */
#define NAME_ROOM 80

/* "module", or "module .name". */
static const char *
describe(uint32_t handle) {
	static __thread char text[NAME_ROOM];
	struct skynet_context *ctx;

	text[0] = '\0';
	epoch_enter();
	ctx = skynet_handle_peek(handle);
	if (ctx) {
		const char *name = skynet_handle_peekname(handle);
		snprintf(text, sizeof(text), "%s%s%s", ctx->module->name, name ? " ." : "",
		         name ? name : "");
	}
	epoch_exit();
	return text;
}

static int
by_bytes(const void *a, const void *b) {
	int64_t x = ((const struct malloc_account *)a)->bytes;
	int64_t y = ((const struct malloc_account *)b)->bytes;

	return (x < y) - (x > y);
}

/* Where did the memory go? */
static void
list_largest(size_t size, uint32_t owner) {
	struct malloc_account *list;
	size_t n = malloc_account_list(&list);
	size_t i;

	(void)size;
	(void)owner;
	qsort(list, n, sizeof(*list), by_bytes);
	for (i = 0; i < n && i < RANKING; i++) {
		malloc_report("xmalloc: :%08x holds %lld bytes in %lld blocks %s", list[i].handle,
		              (long long)list[i].bytes, (long long)list[i].blocks,
		              describe(list[i].handle));
	}
}

/* A plain number, as the configuration has checked. */
static size_t
env_bytes(const char *key, size_t fallback) {
	const char *text = skynet_getenv(key);

	return text ? (size_t)strtod(text, NULL) : fallback;
}

static bool
env_flag(const char *key) {
	const char *text = skynet_getenv(key);

	return text && strcmp(text, "true") == 0;
}

void
skynet_memory_init(void) {
	size_t reserve = env_bytes("memory_reserve", DEFAULT_RESERVE);

	malloc_set_namer(describe);
	malloc_set_oom_hook(list_largest);
	if (env_flag("memory_hugepages") && !malloc_pages_huge()) {
		fprintf(stderr, "memory_hugepages needs a build with jemalloc\n");
	}
	malloc_set_quarantine(env_bytes("memory_quarantine", 0));
	if (malloc_set_reserve(reserve) != 0) {
		fprintf(stderr, "Can't reserve %zu bytes of memory\n", reserve);
	}
}
