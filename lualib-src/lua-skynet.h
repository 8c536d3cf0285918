/*
 * Pieces of skynet.core that other C libraries in skynet.so use. Own callback.
 */
#ifndef LUA_SKYNET_H
#define LUA_SKYNET_H

#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "skynet.h"

struct skynet_notice;

/* The context of L's service. Raises "Init skynet context first" outside one. */
struct skynet_context *lua_skynet_context(lua_State *L);

/*
 * Message handler for lua_pcall: a string becomes the string with a traceback,
 * anything else "(no error message)".
 */
int lua_skynet_traceback(lua_State *L);

/*
 * Log what happened to a message whose handler failed with `status` (from
 * lua_pcall or lua_resume, not LUA_OK) and the error value at the top of L,
 * which stays there. With `notice`, unless there were too many just now.
 */
void lua_skynet_log_failure(struct skynet_context *ctx, struct skynet_notice *notice, lua_State *L,
                            int status, uint32_t source, int session, size_t sz);

/*
 * The address argument of a send at stack index `idx`: returns the handle, or
 * 0 with *name set when it has to go through skynet_sendname. Raises the
 * documented errors for anything else.
 */
uint32_t lua_skynet_checkaddress(lua_State *L, int idx, const char **name);
/* Raises for the number at `idx`, which as an integer is 0. */
void lua_skynet_refuseaddress(lua_State *L, int idx);

#endif
