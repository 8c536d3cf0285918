/*
 * Documents: immutable trees of plain data outside of all VMs, which any number
 * of services read at the same time, on any threads and without locks.
 *
 * A document is a shared object (lua-share.h): who reads it must use or own it.
 * Its tables know integer keys of 64 bits and strings of any bytes; values are
 * booleans, integers, floats, strings and tables. A table that is referenced
 * twice becomes two.
 */
#ifndef LUA_DOCUMENT_H
#define LUA_DOCUMENT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "lua-share.h"

/* How deeply tables may be nested; a cycle is too deep, too. */
#define DOC_MAX_DEPTH 200

enum doc_type { DOC_NIL, DOC_BOOLEAN, DOC_INTEGER, DOC_REAL, DOC_STRING, DOC_TABLE };

struct doc_string {
	size_t len;
	uint64_t hash;
	char text[];
};

struct doc_value {
	enum doc_type type;
	union {
		int b;
		lua_Integer i;
		lua_Number n;
		const struct doc_string *s;
		const struct doc_table *t;
	};
};

struct doc_node {
	struct doc_value key, value;
	uint32_t next; /* number + 1 of the next node in the bucket */
};

struct doc_table {
	const struct doc_value *array; /* keys 1 to narray, with DOC_NIL for holes */
	const struct doc_node *nodes;  /* the other keys */
	const uint32_t *buckets;       /* number + 1 of the first node */
	uint32_t narray, nnodes, mask; /* mask: number of buckets - 1 */
};

struct doc_block;

struct document {
	struct share_object head;
	const struct doc_table *root;
	struct doc_block *blocks;
	size_t size; /* bytes of memory */
	/* For corelib: set and read by any service; nothing depends on the order. */
	atomic_bool is_dirty;
	atomic_bool is_handmade; /* host.delete is still to come */
};

extern const struct share_kind doc_kind;

/* An empty, unregistered document to be filled in and destroyed or registered. */
struct document *doc_new(void);

/* Free an unregistered document. */
void doc_destroy(struct document *d);

/*
 * Fill in a document from the table at index `idx`; metatables are ignored.
 * Raises for keys and values it cannot hold and for too deep tables; the document
 * is then good for doc_destroy only.
 */
void doc_fill(lua_State *L, int idx, struct document *d);

/*
 * The value at the key at index `idx`, NULL when there is none. Raises when the
 * key is neither nil, a string, nor a number that is an integer.
 */
const struct doc_value *doc_get(lua_State *L, int idx, const struct doc_table *t);

/* The value at a position: the array first, then the other keys. NULL at the end. */
const struct doc_value *doc_at(const struct doc_table *t, uint64_t position);

/* Push the key at a position that exists. */
void doc_push_key(lua_State *L, const struct doc_table *t, uint64_t position);

/* The position of the key at index `idx`, or UINT64_MAX. Raises as doc_get. */
uint64_t doc_find(lua_State *L, int idx, const struct doc_table *t);

/* Push a value that is no table. */
void doc_push_scalar(lua_State *L, const struct doc_value *v);

/* Push a value; a table as a deep copy. */
void doc_push_copy(lua_State *L, const struct doc_value *v);

#endif
