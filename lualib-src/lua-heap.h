/*
 * A walk over everything that is reachable in a Lua state, with sizes. Shared by
 * lua-heap-walk.c, which knows Lua's structures, and lua-heap.c, which makes a
 * Lua table of the result. Runs on the thread that owns the state; makes no Lua
 * allocation, so nothing is collected meanwhile.
 */
#ifndef LUA_HEAP_H
#define LUA_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

/* How one comes to an object from the place of its holder. */
enum heap_step {
	HEAP_ROOT,     /* what: its name in C */
	HEAP_FUNCTION, /* what: the source, a Lua string; line */
	HEAP_FIELD,    /* what: the key, a Lua string */
	HEAP_INDEX,    /* an integer key */
	HEAP_KEY,      /* any other key, one too many, or the key itself */
	HEAP_META,
	HEAP_UPVALUE, /* what: its name, a Lua string, or NULL */
	HEAP_STACK,
	HEAP_USERVALUE,
};

/*
 * A place: objects that are alike because one comes to them in the same way. A
 * function's place is where it was written.
 */
struct heap_place {
	const void *what;
	uint32_t parent; /* index of a place; roots and functions: none */
	int line;
	uint8_t step;
	uint8_t depth;
	uint16_t fields; /* different ones so far */
	size_t count;    /* objects, as for bytes: without what they refer to */
	size_t bytes;
};

enum heap_type {
	HEAP_TABLE,
	HEAP_STRING,
	HEAP_CLOSURE,
	HEAP_CFUNCTION,
	HEAP_USERDATA,
	HEAP_THREAD,
	HEAP_CODE,
	HEAP_UPVALUES,
	HEAP_STATE,
	HEAP_TYPES,
};

struct heap_sum {
	size_t count;
	size_t bytes;
};

struct heap_walk {
	struct heap_place *place;
	uint32_t places;
	struct heap_sum type[HEAP_TYPES];
	struct heap_sum total;
	bool is_truncated; /* the limit of objects was reached */
	size_t limit;
	struct heap_inside *inside; /* of the walk in progress */
};

/* Fill in a zeroed struct whose limit is set. */
void heap_walk(lua_State *L, struct heap_walk *w);

/* Free everything. Twice is harmless. */
void heap_walk_free(struct heap_walk *w);

/* A Lua string that a place refers to; as long as the state runs nothing. */
const char *heap_text(const void *what, size_t *len);

#endif
