/*
** Private header of the overlay: what its translation units know of each other.
**
** A *shared object* (string, prototype, closure or table) belongs to no state
** and may be used by all of them at once, on any threads. The invariant that
** makes this safe without locks: from the moment it is published, nothing in it
** is written again. That covers the collector's mark byte too. It says "black,
** old, shared" for ever: never white, so no collector marks, sweeps or barriers
** it, and in no list of any state.
**
** Units that start with overlay_ compile one stock file with a few functions
** renamed to stock_*, and define the replacements; share_* are our own.
*/

#ifndef share_h
#define share_h

#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "lgc.h"
#include "lobject.h"
#include "lshare.h"
#include "lstate.h"

/*
** The topmost bit of the mark byte, which stock Lua leaves to its test library.
** The collector preserves it, and never sees it set.
*/
#define SHAREDBIT TESTBIT
#define SHAREDMARK cast_byte(bitmask(SHAREDBIT) | bitmask(BLACKBIT) | G_OLD)
#define isshared(o) testbit((o)->marked, SHAREDBIT)

/*
** What the overlay keeps for one state. Its memory is outside of the state; the
** first object in the state's list of fixed objects leads to it. Used by the
** state's own thread only.
*/
struct share_vm {
	struct share_held *held;
	unsigned nheld, room;
	int mode;             /* of the code cache, an index into its names */
	unsigned scan_pause;  /* collections from one look for unused code to the next */
	unsigned scan_wait;   /* collections still to wait */
	size_t strings_known; /* that many oldest shared strings have no twin here */
	size_t clears_known;  /* share_clears when all that was dropped had been let go */
	size_t clears_seen;   /* share_clears at the last look */
};

/*
** Shared code that a state uses; it owns a reference of the chunk.
*/
struct share_held {
	struct share_chunk *chunk;
	int is_pinned;             /* for the life of the state: a handle was given out */
	int is_candidate, is_used; /* while looking for unused code */
};

/*------------------------------------------------------------ share_memory.c */

/*
** Memory of everything shared. NULL when it runs out. Any thread.
*/
LUAI_FUNC void *share_alloc(size_t size);
LUAI_FUNC void share_free(void *block, size_t size);

/*------------------------------------------------------------ share_string.c */

/*
** Seed of all string hashes of the process, set by share_initstrings.
*/
LUAI_FUNC unsigned share_seed;

LUAI_FUNC void share_initstrings(unsigned seed);

/*
** Hash of a string in every state (lstring.c's own).
*/
LUAI_FUNC unsigned share_hash(const char *str, size_t len);

/*
** Returns the shared short string with this text, or NULL. Takes no lock.
*/
LUAI_FUNC TString *share_find(const char *str, size_t len, unsigned hash);

/*
** The same, but makes it when there is none. NULL when memory runs out.
*/
LUAI_FUNC TString *share_intern(const char *str, size_t len);

/*
** All shared strings in the order in which they were made; those below
** share_stringcount may be asked for.
*/
LUAI_FUNC size_t share_stringcount(void);
LUAI_FUNC TString *share_nthstring(size_t n);
LUAI_FUNC size_t share_stringbytes(void);

/*
** A *twin* is a short string of one state with the same text as a shared string:
** it was made before the shared one. Equality of strings is equality of
** pointers as long as a state never meets both. Code makes sure of that (see
** share_code.c); a shared table cannot, so taking one into a state that has
** twins sets this flag, once and for all, and from then on unequal pointers
** are compared by text as well. Readers need no order: the thread that has to
** see the flag is the one that set it.
*/
LUAI_FUNC atomic_bool share_twins;

#define share_meetstwins() l_unlikely(atomic_load_explicit(&share_twins, memory_order_relaxed))

LUAI_FUNC int share_istwin(const TString *a, const TString *b);

/*
** So many oldest shared strings have no twin in any state that is (see
** overlay_lstate.c). A shared string knows its place in the list of all, in the
** field that a state's own has for a link.
*/
LUAI_FUNC atomic_size_t share_twinless;

#define share_istwinless(ts)                                                                       \
	((ts)->u.lnglen < atomic_load_explicit(&share_twinless, memory_order_relaxed))

/*
** True when the state has a twin among the oldest 'upto' shared strings.
*/
LUAI_FUNC int share_hastwins(lua_State *L, size_t upto);

/*
** True when the state has its own string with the text of 'ts'.
*/
LUAI_FUNC int share_hastwin(lua_State *L, const TString *ts);

/*-------------------------------------------------------------- share_state.c */

/*
** True while luaL_initcodecache makes the strings that all states have.
*/
LUAI_FUNC int share_publishing;

/*
** Returns what the overlay keeps for a state, NULL while the state is not
** complete.
*/
LUAI_FUNC struct share_vm *share_vmof(global_State *g);

/*--------------------------------------------------------------- share_code.c */

/*
** A compiled chunk: one block of memory that holds a tree of prototypes with
** everything they point to but short strings. It lives as long as somebody
** holds a reference: the code cache, or a state.
*/
struct share_chunk {
	atomic_uint refs;
	atomic_int is_dropped; /* no longer in the code cache */
	size_t size;           /* of the block, this header included */
	size_t strings_needed; /* its strings are among so many oldest */
	Proto *root;
};

/*
** Counts up whenever code leaves the cache, so that states notice.
*/
LUAI_FUNC atomic_size_t share_clears;

/*
** Copies a prototype tree. Returns a chunk with one reference, which the caller
** owns, or NULL when memory runs out.
*/
LUAI_FUNC struct share_chunk *share_newchunk(const Proto *f);
LUAI_FUNC void share_release(struct share_chunk *chunk);

/*
** Pushes a closure of 'f', a shared prototype. Takes over a reference of
** 'chunk', its chunk, also when it raises an error.
*/
LUAI_FUNC void share_pushclosure(lua_State *L, struct share_chunk *chunk, Proto *f);

/*
** Copies a prototype tree into memory that has room for it; with 'mem' NULL only
** the size is found out. *size grows by the bytes. Returns NULL when measuring
** or when memory for short strings runs out.
*/
LUAI_FUNC Proto *share_copyproto(const Proto *f, char *mem, size_t *size);

/*
** Likewise for a long string.
*/
LUAI_FUNC TString *share_copylong(const TString *ts, char *mem, size_t *size);

/*
** Gives back what a state holds; the state is gone.
*/
LUAI_FUNC void share_releaseheld(struct share_vm *vm);

LUAI_FUNC void share_codestats(struct lua_ShareStats *stats);

/*------------------------------------------------------------ share_collect.c */

/*
** Called when a collection may have ended: lets go of code that left the cache
** and that nothing in the state uses any more. 'is_full' says that the program
** asked for a full collection.
*/
LUAI_FUNC void share_collect(lua_State *L, int is_full);

/*-------------------------------------------------------------- share_table.c */

LUAI_FUNC void share_tablestats(struct lua_ShareStats *stats);

/*----------------------------------------------------------- overlay_ltable.c */

/*
** For building a frozen table in memory of ours: the bytes of the hash part for
** 'n' entries and of an array part of 'n'; giving a table both parts, which
** begin at these places (both aligned for pointers); entering a key that is not there yet.
*/
LUAI_FUNC size_t share_hashbytes(unsigned n);
LUAI_FUNC size_t share_arraybytes(unsigned n);
LUAI_FUNC void share_inittable(Table *t, char *array, unsigned asize, char *hash, unsigned n);
LUAI_FUNC void share_insert(Table *t, const TValue *key, TValue *value);

/*
** To be called when all is entered: no field of the table changes afterwards,
** not even the cache of absent metamethods.
*/
LUAI_FUNC void share_seal(Table *t);

/*
** For laying images: a table that is made has no hash part; it gets one of
** 2^'lsize' entries with the contents of 'nodes'. Raises when there is no memory.
*/
LUAI_FUNC void share_nonodes(Table *t);
LUAI_FUNC Node *share_newnodes(lua_State *L, Table *t, lu_byte lsize, const char *nodes);

/*---------------------------------------------------------- overlay_lauxlib.c */

LUALIB_API int(stock_loadfilex)(lua_State *L, const char *filename, const char *mode);

/*--------------------------------------------------------------- share_cache.c */

/*
** A file as it was read.
*/
struct share_source {
	char path[PATH_MAX]; /* resolved */
	struct stat st;      /* when it was read */
	int is_settled;      /* an equal 'st' will mean an equal content */
	uint64_t digest[2];
	char *text;
	size_t size;
};

/*
** Seconds that a file must have been left alone to be settled. For tests.
*/
LUAI_FUNC int share_settlingtime;

LUAI_FUNC int share_issettled(const struct stat *st);
LUAI_FUNC int share_samestate(const struct stat *a, const struct stat *b);

/*
** Returns the chunk of a file by a spelling of its name, if the file is in the
** state 'st' and that is trusted (NULL: in any state); with a reference for the
** caller. Otherwise NULL.
*/
LUAI_FUNC struct share_chunk *share_cachefind(const char *spelling, const struct stat *st);

/*
** Returns the chunk of a file with this path and content, with a reference for
** the caller, or NULL. Notes the file's state and the spelling.
*/
LUAI_FUNC struct share_chunk *share_cachematch(const char *spelling,
                                               const struct share_source *source);

/*
** Enters a chunk, in place of that of an older content, and returns the one to
** use, which may be another thread's. The caller's reference is passed through.
*/
LUAI_FUNC struct share_chunk *share_cachestore(const char *spelling,
                                               const struct share_source *source,
                                               struct share_chunk *chunk);

/*
** Forgets a file, by its resolved path (may be NULL) or else a spelling. Returns
** whether it was known. Chunks in use live on until their last user goes.
*/
LUAI_FUNC int share_cacheforget(const char *spelling, const char *path);
LUAI_FUNC void share_cacheclear(void);

/*
** Returns how many states use the chunk of a file, -1 when there is none.
*/
LUAI_FUNC int share_cacheusers(const char *spelling, const char *path);

LUAI_FUNC void share_cachestats(struct lua_ShareStats *stats);

#endif
