/*
 * lua-task: the scheduler of one Lua service, module `skynet.task`.
 *
 * This header is what other C libraries of skynet.so may use. A VM has at
 * most one scheduler, created when `skynet.task` is first required. All
 * functions here belong to the thread that runs the service.
 */
#ifndef LUA_TASK_H
#define LUA_TASK_H

#include <lua.h>

#include <stdbool.h>
#include <stddef.h>

struct skynet_context;
struct sched; /* the scheduler of a VM */

/*
 * A new session number of the service: from the kernel's counter, but never
 * one that something in this VM still waits for, also after the counter
 * wrapped round. Falls back to the bare counter in a VM without scheduler.
 */
int task_new_session(lua_State *L, struct skynet_context *ctx);

/*
 * A function that looks at messages of one type before a task is made for them.
 * True: it has done all there is to do; the message is freed as after a task, and tasks
 * that it woke run. False: it goes on as usual, also if it was changed. Runs outside of
 * Lua, and may not use it.
 */
typedef bool (*task_filter)(void *ud, struct skynet_context *ctx, const void *msg, size_t sz);

/*
 * From now on messages of the type go through f; one filter in a VM, NULL = none. It
 * must stay callable as long as the VM takes messages. Services that take messages in
 * Lua (dispatch_message) have no use of it. Returns the scheduler, which lives as long as
 * the VM. Raises without one.
 */
struct sched *task_set_filter(lua_State *L, int type, task_filter f, void *ud);

/*
 * A function that is told of messages that came to nothing: there was no memory to make their
 * task, or it ended with that error before it was suspended. It may change the message, and
 * have something delivered again. Runs outside of Lua, and may not use it.
 */
typedef void (*task_lost)(struct sched *S, struct skynet_context *ctx, void *msg, size_t sz);

/* From now on of that type. A few types can have one. */
void task_set_lost(struct sched *S, int type, task_lost f);

/* The scheduler of L's VM, which lives as long as that; NULL without one. */
struct sched *task_scheduler(lua_State *L);

/*
 * Deliver a message a little later, as if it came from nobody and wanted no answer, through
 * the filter. Copies it.
 */
void task_deliver_again(struct sched *S, int type, const void *msg, size_t sz);

/*
 * Suspend the running task as skynet.wait() does, or as skynet.sleep(cs) when cs >= 0, but
 * so that task_wake ends it, too; its coroutine is the token. To be called as `return
 * task_wait_session(...)`. *session gets the number for task_wake before the task is
 * suspended. what: for the message when it can't be. The task goes on in k, with the stack
 * as it was, which has to call task_wait_end first; k NULL: the results are those of wait
 * or sleep.
 */
int task_wait_session(lua_State *L, const char *what, int cs, int *session, lua_KFunction k);
/* Raises when the task may not go on. */
void task_wait_end(lua_State *L);
/*
 * The task that waits under that number will go on, as after skynet.wakeup. No effect if
 * none does, any more. May be called by a filter.
 */
void task_wake(struct sched *S, int session);
/* Whether a task waits under that number, woken or not. */
bool task_waits(struct sched *S, int session);

int luaopen_skynet_task(lua_State *L);
int luaopen_skynet_task_coroutine(lua_State *L);

#endif
