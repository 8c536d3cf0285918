/*
 * Functions of skynet.memory that live in files of their own; lua-memory.c has
 * the module and what each of them does.
 */
#ifndef LUA_MEMORY_H
#define LUA_MEMORY_H

#include <lua.h>

/* lua-memory-ledger.c */
int memory_ledger(lua_State *L);
int memory_services(lua_State *L);
int memory_top(lua_State *L);

/* lua-heap.c */
int memory_snapshot(lua_State *L);
int memory_sample(lua_State *L);
int memory_sites(lua_State *L);

#endif
