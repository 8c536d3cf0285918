/*
 * The memory subsystem as the kernel and the Lua memory library see it: who is
 * charged, what is held, what happens when memory ends or a block is misused.
 * Users of memory include skynet_malloc.h instead.
 *
 * Any thread may call any of these functions unless its comment says otherwise.
 * Without jemalloc (NOUSE_JEMALLOC) nothing is charged: figures are 0, settings
 * are accepted and have no effect.
 */
#ifndef SKYNET_MALLOC_HOOK_H
#define SKYNET_MALLOC_HOOK_H

#include "malloc_account.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lua_State;

/*------------------------------------------------------------ current owner */

/* The calling thread's handles. Use the functions. */
struct malloc_thread {
	uint32_t owner;   /* 0 until it is set */
	uint32_t charged; /* the same, or MALLOC_ACCOUNT_PROCESS */
};
extern __thread struct malloc_thread malloc_thread_tls __attribute__((tls_model("initial-exec")));

/*
 * From now on this thread allocates for handle. Compilers know that malloc and calloc
 * read no variable of the program, which is not so here: without the fences they leave
 * out an owner that is set for one allocation, or set it back too early.
 */
static inline void
malloc_set_owner(uint32_t handle) {
	atomic_signal_fence(memory_order_seq_cst);
	malloc_thread_tls.owner = handle;
	malloc_thread_tls.charged = handle == 0 ? MALLOC_ACCOUNT_PROCESS : handle;
	atomic_signal_fence(memory_order_seq_cst);
}

/* What was set last on this thread, or 0. */
static inline uint32_t
malloc_owner(void) {
	return malloc_thread_tls.owner;
}

/* The handle that this thread's allocations are charged to: the owner, or
 * MALLOC_ACCOUNT_PROCESS while there is none. */
static inline uint32_t
malloc_charged(void) {
	return malloc_thread_tls.charged;
}

/*------------------------------------------------------------------ figures */

/*
 * A block counts as the size that was asked for plus this many bytes. Every
 * block of the malloc family counts, in whatever library it was made; Lua states
 * (skynet_lalloc) and mmap do not.
 */
#define MALLOC_COOKIE_SIZE 16

/* Bytes and blocks of the whole process. */
size_t malloc_used_memory(void);
size_t malloc_memory_block(void);

/* Bytes of the current handle, and of any handle. */
size_t malloc_current_memory(void);
size_t malloc_service_memory(uint32_t handle);

/* For listings use malloc_account_list (malloc_account.h). */

/*
 * Charges a block of the malloc family, which the caller owns, to another handle
 * (0: to none) from now on: it has changed hands. NULL is allowed.
 */
void malloc_give(void *p, uint32_t handle);

/*----------------------------------------------------------------- jemalloc */

/* jemalloc's statistics report on stderr; opts as in its manual, or NULL. */
void memory_info_dump(const char *opts);

/*
 * jemalloc controls of type size_t, int and bool. A null newval reads; otherwise
 * *newval is set and the previous value returned. Unknown names and controls of
 * another type give 0 (false). mallctl_opt logs whether setting succeeded.
 */
size_t mallctl_int64(const char *name, size_t *newval);
int mallctl_opt(const char *name, int *newval);
bool mallctl_bool(const char *name, bool *newval);

/* A control's value, of whatever type. */
enum malloc_control_type {
	MALLOC_CONTROL_NONE, /* to set: a control that is a command */
	MALLOC_CONTROL_INTEGER,
	MALLOC_CONTROL_BOOLEAN,
	MALLOC_CONTROL_TEXT,
};
struct malloc_control {
	enum malloc_control_type type;
	size_t size;
	union {
		uint64_t u64;
		uint32_t u32;
		bool is_on;
		const char *text; /* jemalloc's, or lent to be set */
	} value;
};

/*
 * Reads a control into *c, or sets it to *set if that is not NULL (*c is then
 * scratch). Returns 0 or an errno: ENOENT for an unknown name, EPERM for one that
 * cannot be set, EINVAL for a value of the wrong type.
 */
int malloc_control(const char *name, struct malloc_control *c, const struct malloc_control *set);

/* A control without value, such as "prof.dump": 0, or an errno. */
int mallctl_cmd(const char *name);

/*
 * Has every thread that calls malloc_rest give its caches of free blocks back the
 * next time it does.
 */
void malloc_recall_caches(void);

/* The calling thread is about to sleep. Costs two loads if nothing is recalled. */
void malloc_rest(void);

/*
 * Gives unused pages back to the system, those in the calling thread's caches of
 * free blocks too. The first does nothing without jemalloc; the second logs that
 * and returns an errno.
 */
void malloc_give_back(void);
int malloc_trim_unused(void);

/* Logs one line per handle and the total. */
void dump_c_mem(void);

/* Pushes a table handle -> bytes. Defined in the Lua library (lua-memory.c). */
int dump_mem_lua(struct lua_State *L);

/*----------------------------------------------------------------- disaster */

/*
 * Names a service for reports; returns NULL or "" when there is no name. It is
 * called in a process that is about to abort: it must neither lock nor
 * allocate.
 */
typedef const char *(*malloc_namer)(uint32_t handle);
void malloc_set_namer(malloc_namer f);

/*
 * Runs once when memory has ended, after the report line and with the reserve
 * given back, on the thread that failed; then the process aborts. It may
 * allocate as long as the reserve lasts. size: the bytes that could not be had;
 * owner: the handle they were for.
 */
typedef void (*malloc_oom_hook)(size_t size, uint32_t owner);
void malloc_set_oom_hook(malloc_oom_hook f);

/*
 * Keeps `bytes` of memory aside for the hook (0: none, the default); replaces
 * an earlier reserve. Returns 0, or a negative errno. Call it at start.
 */
int malloc_set_reserve(size_t bytes);

/*
 * Checked builds (MEMORY_CHECK) only: keeps freed blocks of up to `bytes` in
 * total from being used again, and reports when one was written to meanwhile.
 * 0, the default, keeps none.
 */
void malloc_set_quarantine(size_t bytes);

#endif
