/*
 * Figures of the memory subsystem, jemalloc's controls, and the log's memory
 * listing. Owns nothing; any thread.
 */
#include "malloc_hook.h"

#include "skynet.h"

#include <errno.h>
#include <stdatomic.h>
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

void
malloc_recall_caches(void) {
}

void
malloc_rest(void) {
}

int
malloc_control(const char *name, struct malloc_control *c, const struct malloc_control *set) {
	(void)name;
	(void)c;
	(void)set;
	return ENOSYS;
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

/* Through the stream, which holds nobody up (skynet_stdout.h). */
static void
print_text(void *ud, const char *text) {
	(void)ud;
	fputs(text, stderr);
}

void
memory_info_dump(const char *opts) {
	je_malloc_stats_print(print_text, NULL, opts);
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

/* Relaxed, both: a thread that sees the change late gives back late. */
static _Atomic(uint32_t) recalls;
static __thread uint32_t heeded __attribute__((tls_model("initial-exec")));

void
malloc_recall_caches(void) {
	atomic_fetch_add_explicit(&recalls, 1, memory_order_relaxed);
}

void
malloc_rest(void) {
	uint32_t n = atomic_load_explicit(&recalls, memory_order_relaxed);
	if (n != heeded) {
		heeded = n;
		malloc_trim_unused();
	}
}

/* Controls whose value is a text; jemalloc tells no types. */
static bool
is_text(const char *name) {
	static const char *const names[] = {"version",
	                                    "config.malloc_conf",
	                                    "opt.dss",
	                                    "opt.percpu_arena",
	                                    "opt.metadata_thp",
	                                    "opt.thp",
	                                    "opt.junk",
	                                    "opt.zero_realloc",
	                                    "opt.prof_prefix",
	                                    "opt.stats_print_opts",
	                                    "opt.stats_interval_opts",
	                                    "thread.prof.name",
	                                    "prof.dump",
	                                    "prof.prefix",
	                                    "prof.log_start"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0) {
			return true;
		}
	}
	size_t len = strlen(name);
	return strncmp(name, "arena.", 6) == 0 && len > 4 && strcmp(name + len - 4, ".dss") == 0;
}

/* Controls whose value is the address of a function or structure. A number would be
 * called, sooner or later. */
static bool
is_address(const char *name) {
	static const char hooks[] = ".extent_hooks";
	size_t len = strlen(name);
	return strncmp(name, "experimental.", 13) == 0 ||
	       (len >= sizeof(hooks) && strcmp(name + len - sizeof(hooks) + 1, hooks) == 0);
}

static int
read_as(const char *name, struct malloc_control *c, enum malloc_control_type type, size_t size) {
	size_t len = size;
	memset(&c->value, 0, sizeof(c->value));
	c->type = type;
	c->size = size;
	int err = je_mallctl(name, &c->value, &len, NULL, 0);
	return err == 0 && len != size ? EINVAL : err;
}

/* EINVAL is the answer to a wrong size. */
static int
read_control(const char *name, struct malloc_control *c) {
	if (is_text(name)) {
		return read_as(name, c, MALLOC_CONTROL_TEXT, sizeof(c->value.text));
	}
	int err = read_as(name, c, MALLOC_CONTROL_INTEGER, sizeof(uint64_t));
	if (err == EINVAL) {
		err = read_as(name, c, MALLOC_CONTROL_INTEGER, sizeof(uint32_t));
	}
	if (err == EINVAL) {
		err = read_as(name, c, MALLOC_CONTROL_BOOLEAN, sizeof(bool));
	}
	return err;
}

int
malloc_control(const char *name, struct malloc_control *c, const struct malloc_control *set) {
	if (set == NULL) {
		return read_control(name, c);
	}
	if (is_address(name)) {
		return EPERM;
	}
	if (set->type == MALLOC_CONTROL_NONE) {
		return je_mallctl(name, NULL, NULL, NULL, 0);
	}
	/* jemalloc checks the size of a value only, so the type must be checked here:
	 * a text is as long as a number. */
	struct malloc_control new = *set;
	bool is_known = read_control(name, c) == 0;
	if (is_text(name) != (set->type == MALLOC_CONTROL_TEXT) || (is_known && c->type != set->type)) {
		return EINVAL;
	}
	/* A number is as wide as what is there. */
	if (is_known && c->size == sizeof(uint32_t)) {
		new.size = sizeof(uint32_t);
		new.value.u32 = (uint32_t)set->value.u64;
	}
	return je_mallctl(name, NULL, NULL, &new.value, new.size);
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
