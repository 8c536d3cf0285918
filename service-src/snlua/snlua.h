/*
 * The inside of the Lua container: one struct snlua per Lua service, shared by
 * the files of this folder. Libraries in the VM see its first member only.
 *
 * One worker at a time runs the service and owns everything here; other
 * threads (signal, statistics) touch the atomic fields only.
 */
#ifndef SNLUA_H
#define SNLUA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "../../lualib-src/lua-container.h"

/* Signals as SIGNAL gives them; any other number is only logged. */
enum {
	SNLUA_SIGNAL_INTERRUPT = 0,
	SNLUA_SIGNAL_MEMORY = 1,
};

/* What an interrupt does to the running Lua thread. */
enum interrupt_kind {
	INTERRUPT_RAISE,
	INTERRUPT_TRACEBACK,
	INTERRUPT_KINDS,
};

/* Memory of the VM (snlua_memory.c). */
struct snlua_memory {
	_Atomic(size_t) used; /* written by the worker, read by anybody; relaxed */
	size_t limit;         /* growth beyond it is refused */
	size_t warn_mark;     /* warn when used exceeds it */
	size_t rearm_mark;    /* lower the mark when used falls below it */
	_Atomic(size_t) code; /* shared code that the VM holds, as it was lately */
};

/* Limits of all that the service is answerable for (snlua_quota.c). */
struct snlua_quota {
	size_t hard; /* 0: none, as for warn */
	size_t warn;
	size_t mark;      /* warn when the total exceeds it */
	size_t others;    /* C memory and mailbox, as they were at the last look */
	size_t unseen;    /* bytes allocated since then */
	size_t grace;     /* as far as the total may grow although that is too much */
	uint8_t refusals; /* in a row */
	bool is_over;     /* the hard limit was reached, which was logged */
};

struct snlua_sites; /* where memory is allocated (snlua_sites.c) */

/* The message in progress (snlua_interrupt.c). */
struct snlua_turn {
	_Atomic(uint64_t) serial;  /* odd while a message is being handled */
	_Atomic(pthread_t) thread; /* that handles it */
};

/* Who wants to interrupt it. */
struct snlua_interrupt {
	_Atomic(uint64_t) wanted[INTERRUPT_KINDS]; /* serial of the message it is meant for */
	lua_State *armed; /* where the hook was set last, and what it replaced */
	lua_Hook hook;
	int hook_mask;
	int hook_count;
};

/* As skynet.codecache.mode; ON is what a new VM starts with. */
enum cache_mode { CACHE_ON, CACHE_EXIST, CACHE_OFF };

/* Collecting the garbage of a quiet VM (snlua_quiet.c). */
struct snlua_quiet {
	bool is_ours;           /* incremental mode, entered by us */
	uint8_t cycles;         /* completed since the VM was found quiet */
	size_t before;          /* bytes used when the present cycle began; 0: none has */
	uint64_t spent_ns;      /* by these cycles */
	uint64_t not_before_ns; /* no other ones until then */
};

/* The warning that comes in pieces (snlua_warning.c). */
struct snlua_warning {
	char *text; /* NULL: there was none yet */
	size_t size;
	unsigned count; /* of all warnings */
	bool is_off;
};

/*
 * Each message touches the first two cache lines and no other: with many services
 * none of them is in a cache.
 */
struct snlua {
	_Alignas(64) struct lua_container base; /* first: libraries hold a pointer to it */
	lua_State *cb_thread;                   /* what skynet.core or skynet.task installed */
	void *cb_ud;
	skynet_cb cb;
	/* ---- 64 */
	struct snlua_turn turn;
	struct snlua_memory memory;
	enum cache_mode cache_mode;
	bool is_bootstrap;
	bool is_listed; /* the kernel knows that there may be garbage */
	/* ---- 128 */
	lua_State *L; /* NULL until the first message */
	char *args;
	struct snlua_sites *sites; /* NULL: nobody asked */
	struct snlua_quota quota;
	struct snlua_interrupt interrupt;
	struct snlua_quiet quiet;
	struct snlua_warning warning;
};

_Static_assert(offsetof(struct snlua, turn) == 64 && offsetof(struct snlua, L) == 128,
               "two lines for a message");

static inline struct snlua *
snlua_of(struct lua_container *c) {
	return (struct snlua *)c;
}

/* The container of the VM that runs; only inside one. */
static inline struct snlua *
snlua_here(lua_State *L) {
	return snlua_of(lua_container_here(L));
}

/* ------------------------------------------------------------- snlua_memory.c */

/* The allocator of a VM begins to count. */
void snlua_memory_init(struct snlua *l);

/* lua_Alloc; ud is the container. */
void *snlua_alloc(void *ud, void *ptr, size_t osize, size_t nsize);

/* Look anew how much shared code the VM holds. */
void snlua_measure_code(struct snlua *l);

/* Once per process: what VMs share is charged to no service. */
void snlua_charge_shared(void);

/* Install the allocator that the present settings need. */
void snlua_choose_alloc(struct snlua *l);

/* Members of struct lua_container. */
void snlua_limit_memory(struct lua_container *c, size_t bytes);
size_t snlua_memory_used(struct lua_container *c);

/* -------------------------------------------------------------- snlua_quota.c */

/* Give a new VM the limits of the configuration. */
void snlua_quota_init(struct snlua *l);
/* No limit from now on. */
void snlua_lift_limits(struct snlua *l);

/* lua_Alloc that also heeds the quota. */
void *snlua_alloc_in_quota(void *ud, void *ptr, size_t osize, size_t nsize);

/* Members of struct lua_container. */
void snlua_set_quota(struct lua_container *c, size_t hard, size_t warn);
void snlua_get_quota(struct lua_container *c, size_t *hard, size_t *warn, size_t *total);

/* ---------------------------------------------------------- snlua_interrupt.c */

/* Once per process, before the first turn. */
void snlua_interrupt_init(void);

/*
 * Bracket the handling of a message that starts on Lua thread L. Turns of
 * different services may nest on one system thread; `outer` keeps the place.
 */
struct snlua *snlua_turn_begin(struct snlua *l, lua_State *L);
void snlua_turn_end(struct snlua *l, struct snlua *outer);

/*
 * Interrupt the message that the service handles right now, or do nothing.
 * Any thread that keeps the service alive.
 */
void snlua_interrupt(struct snlua *l, enum interrupt_kind kind);

/* -------------------------------------------------------------- snlua_sites.c */

/* Free what was noted, if anything; the allocator must not be ours any more. */
void snlua_forget_sites(struct snlua *l);

/* lua_Alloc that also notes who allocates. */
void *snlua_alloc_sampled(void *ud, void *ptr, size_t osize, size_t nsize);

/* Members of struct lua_container. */
void snlua_sample(struct lua_container *c, size_t interval);
void snlua_list_sites(struct lua_container *c, lua_container_site f, void *ud);

/* -------------------------------------------------------------- snlua_quiet.c */

/* A message was handled: there may be garbage. */
void snlua_quiet_note(struct snlua *l);

/* ------------------------------------------------------------ snlua_warning.c */

/* Write what a new VM warns of to the log, until it is closed; then forget. */
void snlua_take_warnings(struct snlua *l);
void snlua_forget_warnings(struct snlua *l);

/* ------------------------------------------------------------ snlua_profile.c */

/* Push the module skynet.profile. */
int snlua_open_profile(lua_State *L);

/* Members of struct lua_container. */
int snlua_resume_measured(struct lua_container *c, lua_State *co, lua_State *from, int nargs,
                          int *nresults);
void snlua_forget_measured(struct lua_container *c, lua_State *co);

/* --------------------------------------------------------------- snlua_libs.c */

/* Once per process, before the first VM is made. */
void snlua_init_libs(void);

/*
 * Lay the libraries into a VM that was just made; false when there is no memory.
 * Where there is no image to lay they are all opened later.
 */
bool snlua_lay_libs(lua_State *L);

/* Complete the libraries, in protected mode. */
void snlua_open_libs(lua_State *L);

/* ------------------------------------------------------------- snlua_search.c */

/* Gives L a global `print` whose lines are one piece each. */
void snlua_open_print(lua_State *L);
/* Remember where modules are; after package and skynet.codecache are loaded. */
void snlua_open_search(lua_State *L);

/*
 * Push the loader of a module that is known, and its datum, over the table
 * `package`, which is at the top. False when it is not known, or the VM has
 * searchers of its own; what lies over the table then is without meaning. May raise
 * for want of memory.
 */
bool snlua_push_known(lua_State *L, const char *name);

/* Longer names of files are not remembered. */
#define SNLUA_FILE_MAX 512

/* Where the script of a service was found: the file, which goes to `file`, or false. */
bool snlua_find_script(const char *name, const char *templates, char *file);
void snlua_note_script(const char *name, const char *templates, const char *file);

/* ------------------------------------------------------------- snlua_script.c */

/*
 * Lua: script(argument, templates) -> chunk, folder, is_own, word, ... For the loader:
 * the main chunk of the first file that loads, with the first word of the launch
 * argument for every `?` of the templates, which are separated by `;`; the folder of
 * the file up to its last slash, or nil; whether it is the service's own; and all
 * words. Raises the messages of all files when there is none.
 */
int snlua_script(lua_State *L);

/* ------------------------------------------------------------ snlua_require.c */

/*
 * Registry field: the functions that skynet.init registered on the main thread, or
 * nil; false once they have run.
 */
#define SNLUA_INIT_FIELD "skynet_init"

/* Push the module skynet.require. */
int snlua_open_require(lua_State *L);

#endif
