// socket_chain: the blocks that a connection received, in order, cut into strings on demand.
//
// A chain owns the blocks of its nodes; the nodes themselves belong to the user of the
// chain, who gives one with each block and gets the used ones back. Used by the thread
// that runs the service. It never allocates, but for the strings that it pushes.
#ifndef socket_chain_h
#define socket_chain_h

#include <lua.h>

#include <stddef.h>

// Longest separator whose search is resumed where it stopped.
#define CHAIN_MEMO_MAX 8

struct chain_node {
	char *msg; // skynet_malloc
	size_t sz;
	struct chain_node *next;
};

// A place in the chain.
struct chain_cursor {
	struct chain_node *node;
	size_t at;
};

// All zero: an empty chain.
struct chain {
	size_t size;   // bytes held
	size_t offset; // those of the first node begin here
	struct chain_node *head;
	struct chain_node *tail;
	// The separator `memo` is known not to begin before `seen`, which is
	// `seen_bytes` into the chain; valid while seen.node is not NULL.
	struct chain_cursor seen;
	size_t seen_bytes;
	size_t memo_len;
	char memo[CHAIN_MEMO_MAX];
};

// Add a block of sz bytes at the end, by a node that is in no chain. Takes the block.
void chain_append(struct chain *c, struct chain_node *n, char *block, size_t sz);
// Push the first n bytes, which must be there, as a string; they stay. May raise.
void chain_push_string(lua_State *L, const struct chain *c, size_t n);
// Drop the first n bytes, which must be there, and free blocks without any. Returns the
// nodes that are not used any more, linked by next.
struct chain_node *chain_consume(struct chain *c, size_t n);
// Bytes before the first separator of len > 0 bytes, or -1.
ptrdiff_t chain_search(struct chain *c, const char *sep, size_t len);

#endif
