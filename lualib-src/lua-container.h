/*
 * What the Lua container (service-src/snlua) offers to the C libraries inside
 * its VM. A VM made by another host has no container: lua_container is NULL
 * there, and libraries do without.
 *
 * All fields and functions belong to the thread that runs the service.
 */
#ifndef LUA_CONTAINER_H
#define LUA_CONTAINER_H

#include <stdatomic.h>
#include <stddef.h>

#include <lua.h>

#include "skynet.h"

/* Registry fields: light userdata, the context and the container. */
#define LUA_CONTEXT_FIELD "skynet_context"
#define LUA_CONTAINER_FIELD "skynet_container"
/* The scheduler's, once `skynet` is loaded (lua-task-module.c). */
#define LUA_SCHED_FIELD "skynet_sched"

/* Something to be done when a VM is gone; see lua_container.endings. */
struct lua_container_ending {
	struct lua_container_ending *next;
	/* Takes the struct. Called once, after lua_close. */
	void (*run)(struct lua_container_ending *e);
};

/* A place in the code and what was allocated there, as sampled; see list_sites. */
struct lua_container_sample {
	const char *place; /* source:line; good during the call */
	size_t live;       /* bytes that still exist */
	size_t all;        /* bytes since the sampling began */
};
typedef void (*lua_container_site)(void *ud, const struct lua_container_sample *s);

struct lua_container;

/* What a container can do; one table for all. */
struct lua_container_ops {
	/*
	 * As skynet_callback, but messages are delivered in such a way that
	 * interrupts work. L is the Lua thread on which cb starts; it must stay
	 * alive as long as cb is installed.
	 */
	void (*callback)(struct lua_container *c, lua_State *L, void *ud, skynet_cb cb);

	/* lua_resume of a thread while some thread is measured. */
	int (*resume_measured)(struct lua_container *c, lua_State *co, lua_State *from, int nargs,
	                       int *nresults);

	/* Stop measuring `co`, if it is measured, without a result. */
	void (*forget_measured)(struct lua_container *c, lua_State *co);

	/*
	 * Limit the VM's memory to `bytes` from now on (0: no limit), and log it.
	 * The limit may lie below what is in use: then only shrinking succeeds.
	 */
	void (*limit_memory)(struct lua_container *c, size_t bytes);

	/*
	 * Limit all memory of the service, its mailbox included, and say at which
	 * total to warn; 0: no limit, no warning.
	 */
	void (*set_quota)(struct lua_container *c, size_t hard, size_t warn);

	/* What was set, and the present total. */
	void (*get_quota)(struct lua_container *c, size_t *hard, size_t *warn, size_t *total);

	/*
	 * Note the place in the code of about one allocation in `interval` bytes
	 * from now on, anew; 0: stop and forget.
	 */
	void (*sample)(struct lua_container *c, size_t interval);

	/* Call f for each place, in no order. f must not allocate Lua memory. */
	void (*list_sites)(struct lua_container *c, lua_container_site f, void *ud);

	/* Bytes the VM holds. */
	size_t (*memory)(struct lua_container *c);

	/*
	 * The service has failed to start. If it is the one that boots the node,
	 * end the node with a nonzero exit status and return 1; otherwise 0.
	 */
	int (*start_failed)(struct lua_container *c);
};

/* The container's own fields follow: what each message needs comes first. */
struct lua_container {
	struct skynet_context *ctx;

	/*
	 * The Lua thread that executes: where an interrupt strikes. Whoever
	 * resumes a thread sets it, see lua_container_resume. Atomic because a
	 * signal handler on the same system thread reads it.
	 */
	_Atomic(lua_State *) running;

	/* How many Lua threads skynet.profile measures; usually 0. */
	int profiled;

	const struct lua_container_ops *ops;

	/*
	 * What the VM's last finalizer may still need, and so cannot be given
	 * back by a finalizer. Libraries put structs of theirs in front.
	 */
	struct lua_container_ending *endings;
};

/*
 * The container of L's VM, whose allocator it is. Only in a VM that has one, as
 * lua_container tells.
 */
static inline struct lua_container *
lua_container_here(lua_State *L) {
	void *c;
	lua_getallocf(L, &c);
	return c;
}

/* The container of L's VM, or NULL. Look it up once, when a library is opened. */
static inline struct lua_container *
lua_container(lua_State *L) {
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_CONTAINER_FIELD);
	struct lua_container *c = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return c;
}

/*
 * lua_resume for threads of a VM with container c (NULL allowed): keeps track
 * of the running thread and of measured time.
 */
static inline int
lua_container_resume(struct lua_container *c, lua_State *co, lua_State *from, int nargs,
                     int *nresults) {
	if (c == NULL) {
		return lua_resume(co, from, nargs, nresults);
	}
	/* Relaxed: the other side is a signal handler on this very thread. */
	lua_State *before = atomic_load_explicit(&c->running, memory_order_relaxed);
	atomic_store_explicit(&c->running, co, memory_order_relaxed);
	int status = c->profiled == 0 ? lua_resume(co, from, nargs, nresults)
	                              : c->ops->resume_measured(c, co, from, nargs, nresults);
	atomic_store_explicit(&c->running, before, memory_order_relaxed);
	return status;
}

/*
 * To be called when a pooled thread ends a task: what the task left behind in
 * the profiler must not disturb the next one.
 */
static inline void
lua_container_task_end(struct lua_container *c, lua_State *co) {
	if (c != NULL && c->profiled != 0) {
		c->ops->forget_measured(c, co);
	}
}

#endif
