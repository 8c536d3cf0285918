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

/*
 * A new session number of the service: from the kernel's counter, but never
 * one that something in this VM still waits for, also after the counter
 * wrapped round. Falls back to the bare counter in a VM without scheduler.
 */
int task_new_session(lua_State *L, struct skynet_context *ctx);

/*
 * A function that looks at messages of one type before a task is made for them.
 * True: it has done all there is to do; the message is freed as after a task. False:
 * it goes on as usual, also if it was changed. Runs outside of Lua, and may not use it.
 */
typedef bool (*task_filter)(void *ud, struct skynet_context *ctx, const void *msg, size_t sz);

/*
 * From now on messages of the type go through f; one filter in a VM, NULL = none. It
 * must stay callable as long as the VM takes messages. Services that take messages in
 * Lua (dispatch_message) have no use of it. Raises without a scheduler.
 */
void task_set_filter(lua_State *L, int type, task_filter f, void *ud);

int luaopen_skynet_task(lua_State *L);
int luaopen_skynet_task_coroutine(lua_State *L);

#endif
