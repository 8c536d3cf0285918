/*
 * Errors that begin with the place of the user's code: functions of sproto.lua, which call
 * the library for it, are passed over. Nothing is owned; each raises.
 */
#ifndef SPROTO_ERROR_H
#define SPROTO_ERROR_H

#include <lua.h>

/* As luaL_error. */
int sproto_error(lua_State *L, const char *format, ...);
/* As luaL_typeerror. */
int sproto_typeerror(lua_State *L, int arg, const char *want);

#endif
