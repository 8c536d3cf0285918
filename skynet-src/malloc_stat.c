/*
 * Figures of the memory subsystem, jemalloc's controls, and the log's memory
 * listing. Owns nothing; any thread.
 */
#include "malloc_hook.h"

#include "skynet.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifdef NOUSE_JEMALLOC

size_t
malloc_used_memory(void) {
	return 0;
}

size_t
malloc_memory_block(void) {
	return 0;
}

size_t
malloc_service_memory(uint32_t handle) {
	(void)handle;
	return 0;
}

void
memory_info_dump(const char *opts) {
	(void)opts;
	skynet_error(NULL, "No jemalloc");
}

/* Says so once per call, as people expect it in the log. */
static void
no_jemalloc(const char *function, const char *name) {
	skynet_error(NULL, "No jemalloc : %s %s.", function, name);
}

size_t
mallctl_int64(const char *name, size_t *newval) {
	(void)newval;
	no_jemalloc("mallctl_int64", name);
	return 0;
}

int
mallctl_opt(const char *name, int *newval) {
	(void)newval;
	no_jemalloc("mallctl_opt", name);
	return 0;
}

bool
mallctl_bool(const char *name, bool *newval) {
	(void)newval;
	no_jemalloc("mallctl_bool", name);
	return false;
}

int
mallctl_cmd(const char *name) {
	no_jemalloc("mallctl_cmd", name);
	return 0;
}

void
malloc_give_back(void) {
}

int
malloc_trim_unused(void) {
	no_jemalloc("malloc_trim_unused", "");
	return ENOSYS;
}

#else

#include "jemalloc_api.h"
#include "malloc_front.h"

/* Frees that one thread counts before another's allocation is seen can make a
 * sum negative for a moment. */
static size_t
size_of(int64_t n) {
	return n < 0 ? 0 : (size_t)n;
}

size_t
malloc_used_memory(void) {
	return size_of(malloc_account_total().bytes);
}

size_t
malloc_memory_block(void) {
	return size_of(malloc_account_total().blocks);
}

size_t
malloc_service_memory(uint32_t handle) {
	return handle == 0 ? 0 : size_of(malloc_account_of(handle).bytes);
}

void
memory_info_dump(const char *opts) {
	je_malloc_stats_print(NULL, NULL, opts);
}

/* Reads a control of any integer width up to size_t. */
static size_t
read_integer(const char *name) {
	union {
		uint64_t u64;
		uint32_t u32;
		uint8_t u8;
	} value = {0};
	size_t len = sizeof(uint64_t);
	if (je_mallctl(name, &value, &len, NULL, 0) == 0) {
		return (size_t)value.u64;
	}
	len = sizeof(uint32_t);
	if (je_mallctl(name, &value, &len, NULL, 0) == 0) {
		return value.u32;
	}
	len = sizeof(uint8_t);
	return je_mallctl(name, &value, &len, NULL, 0) == 0 ? value.u8 : 0;
}

size_t
mallctl_int64(const char *name, size_t *newval) {
	if (newval == NULL) {
		return read_integer(name);
	}
	size_t old = 0;
	size_t len = sizeof(old);
	return je_mallctl(name, &old, &len, newval, sizeof(*newval)) == 0 ? old : 0;
}

int
mallctl_opt(const char *name, int *newval) {
	int old = 0;
	size_t len = sizeof(old);
	int err = je_mallctl(name, &old, &len, newval, newval == NULL ? 0 : sizeof(*newval));
	if (newval != NULL) {
		skynet_error(NULL, "mallctl: set %s to %d: %s", name, *newval,
		             err == 0 ? "ok" : strerror(err));
	}
	return err == 0 ? old : 0;
}

bool
mallctl_bool(const char *name, bool *newval) {
	bool old = false;
	size_t len = sizeof(old);
	int err = je_mallctl(name, &old, &len, newval, newval == NULL ? 0 : sizeof(*newval));
	return err == 0 && old;
}

int
mallctl_cmd(const char *name) {
	return je_mallctl(name, NULL, NULL, NULL, 0);
}

int
malloc_trim_unused(void) {
	front_drop();
	mallctl_cmd("thread.tcache.flush");
	/* 4096 stands for all arenas (jemalloc's MALLCTL_ARENAS_ALL). */
	return mallctl_cmd("arena.4096.purge");
}

void
malloc_give_back(void) {
	malloc_trim_unused();
}

#endif

size_t
malloc_current_memory(void) {
	return malloc_service_memory(malloc_charged());
}

void
dump_c_mem(void) {
	struct malloc_account *list;
	size_t n = malloc_account_list(&list);
	int64_t total = 0;
	skynet_error(NULL, "dump all service mem:");
	for (size_t i = 0; i < n; i++) {
		total += list[i].bytes;
		skynet_error(NULL, ":%08x -> %zukb %zub", list[i].handle, (size_t)list[i].bytes >> 10,
		             (size_t)list[i].bytes % 1024);
	}
	skynet_error(NULL, "+total: %zukb", (size_t)total >> 10);
	malloc_account_list_free(list, n);
}
