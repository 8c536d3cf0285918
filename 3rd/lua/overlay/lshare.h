/*
** Sharing of code, constant strings and read-only tables between Lua states
** of one process, and a few questions that stock Lua's API cannot answer.
**
** All functions exist whether sharing was built in or not (LUA_CACHELIB, which
** lualib.h defines when it is); without sharing they do the same job with
** copies where a copy can do it, and raise an error where it cannot. Each
** lua_State is used by one thread at a time, as always in Lua; different states
** may use the same shared objects on different threads at the same moment.
*/

#ifndef lshare_h
#define lshare_h

#include <stddef.h>

#include "lua.h"

/*
** Prepares the process: the seed of all string hashes and the table of shared
** strings. To be called once before the first state is made; later calls do
** nothing. (A state made earlier by accident does the call itself.)
*/
LUALIB_API void(luaL_initcodecache)(void);

/*
** Sets where the memory of shared objects comes from: 'f' is like a lua_Alloc
** without its first argument, and is called on any thread. Without it, realloc
** and free are used. To be called before luaL_initcodecache.
*/
typedef void *(*lua_ShareAlloc)(void *block, size_t osize, size_t nsize);

LUA_API void(lua_setsharealloc)(lua_ShareAlloc f);

/*
** Opener of the module "skynet.codecache": a table with 'clear', 'mode' and
** 'loadfile'.
*/
LUAMOD_API int(luaopen_cache)(lua_State *L);

/*
** Returns how many results the caller of the running C function wants, or
** LUA_MULTRET when it takes all of them; that is also the answer when it was
** called in tail position ("return f()"), where the caller's wish is not known.
** Only meaningful inside a C function that Lua or lua_call called.
*/
LUA_API int(lua_wantedresults)(lua_State *L);

/*
** Makes room for so many calls, one within the other, and for so many slots of all of them:
** until something else is allocated, they need no memory. False: there is none.
*/
LUA_API int(lua_checkroom)(lua_State *L, int calls, int slots);

/*
** Returns the block of the full userdata at 'idx' if its metatable is the table
** at 'meta', and NULL for everything else: luaL_testudata for who has the
** metatable at hand.
*/
LUA_API void *(lua_testmeta)(lua_State *L, int idx, int meta);

/*
** lua_getfield for a name that was looked up before: 'name' is lua_topointer of
** a short string of this state, which must still be alive.
*/
LUA_API int(lua_getnamed)(lua_State *L, int idx, const void *name);

/*
** Makes the code of the Lua function at 'idx' shareable and returns a handle of
** it for lua_clonefunction, which is good as long as the state of L lives. The
** function itself is unchanged. Raises "Only Lua function can share" for
** anything else.
*/
LUA_API const void *(lua_sharefunction)(lua_State *L, int idx);

/*
** Pushes a new closure of the function that 'fp' (from lua_sharefunction, in
** any state) stands for. Its upvalues are fresh and nil, but the first one, if
** any, is the table of globals of L, as after lua_load.
*/
LUA_API void(lua_clonefunction)(lua_State *L, const void *fp);

/*
** Makes the string at 'idx' one that future states and shared objects use
** without a copy; the stack slot is unchanged. Long strings are not interned by
** Lua, so nothing happens to them. Raises "need a string to share".
*/
LUA_API void(lua_sharestring)(lua_State *L, int idx);

/*
** Makes a frozen copy of the table at 'idx' with everything reachable from it,
** owned by no state, and returns it; the table itself is unchanged. The copy lives until
** lua_freeshared. Tables reachable by several paths stay one table, and tables
** that are shared already are taken as they are (they must outlive the copy).
** Raises "Not a table", "Can't share metatable", "Invalid function with
** upvalue" or "Invalid type [...]"; nothing is left behind then.
*/
LUA_API const void *(lua_sharetable)(lua_State *L, int idx);

/*
** Frees a table made by lua_sharetable with all that belongs to it. The caller
** guarantees that no state can reach any part of it any more. NULL is allowed.
*/
LUA_API void(lua_freeshared)(const void *tp);

/*
** Pushes the shared table that 'tp' (from lua_sharetable, or lua_topointer of a
** shared table) stands for. Raises "Not a shared table". Without sharing, a
** fresh copy is pushed.
*/
LUA_API void(lua_clonetable)(lua_State *L, const void *tp);

/*
** Pushes an ordinary table of the state with the entries of the shared table
** 'tp' (see lua_clonetable); tables among its values stay the shared ones. Much
** cheaper than filling a new table. Raises "Not a shared table".
*/
LUA_API void(lua_copytable)(lua_State *L, const void *tp);

/*
** Takes an image of L's state, with all that is reachable from its registry, its
** globals and the metatables of basic types; the state itself is unchanged. Only
** tables, C functions, userdata and strings can be in it; userdata are copied by
** their bytes. Returns NULL, with the reason in *error, when there is something
** else, an object is a key, there is no memory, or sharing is not built in. An
** image lives until lua_freeimage.
*/
LUA_API const void *(lua_takeimage)(lua_State *L, const char **error);

/*
** Frees an image. The caller guarantees that all states that it was laid into are
** closed. NULL is allowed.
*/
LUA_API void(lua_freeimage)(const void *image);

/*
** Makes L's state, which must be just as lua_newstate returned it, what an image
** (from lua_takeimage) shows: much cheaper than opening libraries. Each state owns
** its objects, as if it had made them. Returns LUA_OK; LUA_ERRMEM when there is no
** memory, or LUA_ERRRUN when the state is not new, and nothing changed then.
** Never raises.
*/
LUA_API int(lua_layimage)(lua_State *L, const void *image);

/*
** Puts the collector into the generational mode with everything that the state
** has made so far taken for old, whether it is still used or not: for a state
** that has just made what it will keep. Much cheaper than entering that mode
** with a collection; what is garbage already waits for the next major one.
*/
LUA_API void(lua_gcsettle)(lua_State *L);

/*
** Returns 1 when the collector of L's state is in the generational mode, else 0.
*/
LUA_API int(lua_isgenerational)(lua_State *L);

/*
** Returns 1 when the value at 'idx' is a shared table, else 0.
*/
LUA_API int(lua_issharedtable)(lua_State *L, int idx);

/*
** Returns the bytes that a table made by lua_sharetable occupies, without the
** short strings in it, which are part of the process-wide string table.
*/
LUA_API size_t(lua_sharedsize)(const void *tp);

/*
** Returns the first byte behind a table made by lua_sharetable: all that belongs
** to it, but those strings, lies from 'tp' to there, and nothing else does.
** Without sharing, 'tp' itself.
*/
LUA_API const void *(lua_sharedend)(const void *tp);

/*
** A piece of memory, by address and bytes.
*/
struct lua_Place {
	const void *at;
	size_t size;
};

/*
** Fills 'place', which has room for n, with what a thread touches when it runs from
** where it is now, so that it can be fetched ahead: parts of the thread, of its state,
** of the table at 'table' (0 = none) and of the Lua function at 'function' (0 = none)
** with its upvalues and the fields of their tables that it names. Returns how many
** there are. The addresses are not to be used otherwise, as they may be gone soon.
*/
LUA_API int(lua_places)(lua_State *L, int table, int function, struct lua_Place *place, int n);

/*
** What sharing holds in the whole process, in bytes and pieces.
*/
struct lua_ShareStats {
	size_t string_count; /* short strings in the shared table */
	size_t string_bytes; /* and their memory, the table included */
	size_t chunk_count;  /* shared code chunks alive, cached or still in use */
	size_t chunk_bytes;
	size_t table_count; /* results of lua_sharetable not yet freed */
	size_t table_bytes;
	size_t cache_count; /* files in the code cache */
};

/*
** Fills 'stats'. Any thread.
*/
LUA_API void(lua_sharestats)(struct lua_ShareStats *stats);

/*
** Returns the bytes of shared code that L's state holds on to (each state
** counts the whole of a chunk, however many others use it too).
*/
LUA_API size_t(lua_sharedcode)(lua_State *L);

#endif
