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

struct skynet_context;

/*
 * A new session number of the service: from the kernel's counter, but never
 * one that something in this VM still waits for, also after the counter
 * wrapped round. Falls back to the bare counter in a VM without scheduler.
 */
int
task_new_session(lua_State *L, struct skynet_context *ctx);

int
luaopen_skynet_task(lua_State *L);
int
luaopen_skynet_task_coroutine(lua_State *L);

#endif
