/*
 * Pools of equal small nodes for the kernel's own structures (messages,
 * timers): a per-thread cache over a shared stock, so that taking and giving a
 * node is a few instructions without a lock, and a node may be given back by
 * another thread than the one that took it. Memory is charged to nobody's
 * service, and goes back to the allocator after a burst.
 */
#ifndef NODEPOOL_H
#define NODEPOOL_H

#include <stddef.h>

/* The pools there are: each thread keeps one cache per kind. */
enum nodepool_kind {
	NODEPOOL_MESSAGE,
	NODEPOOL_TIMER,
	NODEPOOL_KINDS,
};

/* A node of the kind's size, uninitialised. Never NULL. Any thread. */
void *nodepool_take(enum nodepool_kind kind);

/* Takes the node back. Any thread. */
void nodepool_give(enum nodepool_kind kind, void *node);

/* Give the cache of the calling thread back to the stock. */
void nodepool_flush(void);

/*
 * The calling thread is about to sleep: the same, and the stock as well, if the
 * pool holds much more than is in use. Costs two loads if not.
 */
void nodepool_rest(void);

struct nodepool_stats {
	size_t reserved_bytes; /* in blocks */
	size_t stock_nodes;    /* free, in the shared stock */
	size_t blocks;
};

/* A snapshot of the shared part. Any thread. */
void nodepool_stats(enum nodepool_kind kind, struct nodepool_stats *out);

#endif
