/*
 * DESIGN. Nodes are cut from aligned blocks, so the block of a node is found
 * by masking its address. Free nodes travel in magazines: lists of
 * MAGAZINE nodes, linked through the nodes themselves.
 *
 *   thread cache            stock (mutex)                    blocks
 *   loaded 0..64 nodes <-> list of full magazines <-> free list of each block
 *   spare  0 or 64
 *
 * A thread touches the stock once per MAGAZINE operations at most, even when
 * it only takes and another only gives. The stock keeps STOCK_LIMIT magazines;
 * what comes beyond is sorted back into its blocks, and a block that is whole
 * again returns to the allocator.
 *
 * A few free nodes in a cache would keep their blocks, scattered all over what
 * was once a burst. So a thread about to sleep gives back everything it has if
 * most of the pool is free (nodepool_rest).
 */
#include "nodepool.h"

#include "mailbox.h"
#include "malloc_hook.h"
#include "skynet_malloc.h"
#include "timer_wheel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* A page: one block more or less should not matter to anybody's figures. */
#define BLOCK_BYTES 4096
/* Messages move between threads in flocks of this size. */
#define MAGAZINE 64
/* 8192 nodes, half a MB of messages: a burst of that size costs no malloc. */
#define STOCK_LIMIT 128
/* A pool of this many blocks is not worth trimming. */
#define SMALL_POOL 8

/* A free node. `magazine` is used in the first node of a full magazine. */
struct node {
	struct node *next;
	struct node *magazine;
};

struct block {
	struct block *next, *prev; /* list of blocks with free nodes */
	struct node *free;
	uint32_t free_count;
	uint32_t untouched; /* nodes at the end that were never handed out */
};

struct pool {
	size_t node_bytes;
	uint32_t per_block;
	pthread_mutex_t mutex; /* everything below */
	struct node *magazines;
	size_t magazine_count;
	struct block *partial;
	/* Written under mutex, read as a hint without it. */
	_Atomic(size_t) block_count;
	_Atomic(size_t) free_nodes; /* in the stock and in the blocks */
};

struct cache {
	struct node *loaded;
	struct node *spare;
	uint32_t loaded_count;
};

#define BLOCK_ROOM (BLOCK_BYTES - MALLOC_COOKIE_SIZE)
/* A cache line, so that nodes of 64 bytes do not straddle two. */
#define BLOCK_HEADER 64
#define POOL(type)                                                                                 \
	{                                                                                              \
		.node_bytes = sizeof(type), .per_block = (BLOCK_ROOM - BLOCK_HEADER) / sizeof(type),       \
		.mutex = PTHREAD_MUTEX_INITIALIZER,                                                        \
	}

static struct pool pools[NODEPOOL_KINDS] = {
    [NODEPOOL_MESSAGE] = POOL(struct mailbox_node),
    [NODEPOOL_TIMER] = POOL(struct timer_node),
};

_Static_assert(sizeof(struct block) <= BLOCK_HEADER, "block header");
_Static_assert(sizeof(struct timer_node) >= sizeof(struct node), "timer node");

static __thread struct cache caches[NODEPOOL_KINDS];
static __thread int is_watched;
static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;

static void
thread_ends(void *unused) {
	(void)unused;
	nodepool_flush();
}

static void
make_exit_key(void) {
	pthread_key_create(&exit_key, thread_ends);
}

/* See that the cache of this thread is given back when the thread ends. */
static void
watch_thread(void) {
	if (!is_watched) {
		is_watched = 1;
		pthread_once(&exit_once, make_exit_key);
		pthread_setspecific(exit_key, caches);
	}
}

/* Under mutex: plain arithmetic on counters that others only look at. */
static void
count(_Atomic(size_t) *counter, size_t plus, size_t minus) {
	size_t v = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, v + plus - minus, memory_order_relaxed);
}

static struct block *
block_of(void *node) {
	return (struct block *)((uintptr_t)node & ~(uintptr_t)(BLOCK_BYTES - 1));
}

static void
link_partial(struct pool *p, struct block *b) {
	b->prev = NULL;
	b->next = p->partial;
	if (p->partial) {
		p->partial->prev = b;
	}
	p->partial = b;
}

static void
unlink_partial(struct pool *p, struct block *b) {
	if (b->prev) {
		b->prev->next = b->next;
	} else {
		p->partial = b->next;
	}
	if (b->next) {
		b->next->prev = b->prev;
	}
}

static struct block *
block_new(struct pool *p) {
	uint32_t owner = malloc_owner();
	struct block *b;

	malloc_set_owner(0);
	b = skynet_memalign(BLOCK_BYTES, BLOCK_ROOM);
	malloc_set_owner(owner);
	b->free = NULL;
	b->free_count = p->per_block;
	b->untouched = p->per_block;
	return b;
}

static struct node *
block_take(struct pool *p, struct block *b) {
	struct node *n = b->free;

	b->free_count--;
	if (n) {
		b->free = n->next;
		return n;
	}
	size_t index = p->per_block - b->untouched--;
	return (struct node *)((char *)b + BLOCK_HEADER + index * p->node_bytes);
}

/* Up to MAGAZINE nodes out of the blocks; NULL when there is no free one. */
static struct node *
carve(struct pool *p, uint32_t *count) {
	struct node *list = NULL;
	uint32_t n = 0;

	while (n < MAGAZINE && p->partial) {
		struct block *b = p->partial;
		struct node *node = block_take(p, b);
		node->next = list;
		list = node;
		n++;
		if (b->free_count == 0) {
			unlink_partial(p, b);
		}
	}
	*count = n;
	return list;
}

/* Sort a magazine back into the blocks; returns the blocks that became whole. */
static struct block *
disperse(struct pool *p, struct node *list) {
	struct block *whole = NULL;

	while (list) {
		struct node *node = list;
		struct block *b = block_of(node);
		list = node->next;
		node->next = b->free;
		b->free = node;
		if (b->free_count++ == 0) {
			link_partial(p, b);
		}
		if (b->free_count == p->per_block) {
			unlink_partial(p, b);
			count(&p->block_count, 0, 1);
			count(&p->free_nodes, 0, p->per_block);
			b->next = whole;
			whole = b;
		}
	}
	return whole;
}

static void
free_blocks(struct block *b) {
	while (b) {
		struct block *next = b->next;
		skynet_free(b);
		b = next;
	}
}

/* Fill the empty cache. */
static void
refill(struct pool *p, struct cache *c) {
	watch_thread();
	pthread_mutex_lock(&p->mutex);
	for (;;) {
		struct node *m = p->magazines;
		if (m) {
			p->magazines = m->magazine;
			p->magazine_count--;
			c->loaded = m;
			c->loaded_count = MAGAZINE;
			break;
		}
		c->loaded = carve(p, &c->loaded_count);
		if (c->loaded) {
			break;
		}
		/* Not under the lock: the allocator may take its time. */
		pthread_mutex_unlock(&p->mutex);
		struct block *b = block_new(p);
		pthread_mutex_lock(&p->mutex);
		count(&p->block_count, 1, 0);
		count(&p->free_nodes, p->per_block, 0);
		link_partial(p, b);
	}
	count(&p->free_nodes, 0, c->loaded_count);
	pthread_mutex_unlock(&p->mutex);
}

/* Takes a full magazine into the stock. */
static void
stock(struct pool *p, struct node *magazine) {
	struct block *whole = NULL;

	pthread_mutex_lock(&p->mutex);
	count(&p->free_nodes, MAGAZINE, 0);
	if (p->magazine_count < STOCK_LIMIT) {
		magazine->magazine = p->magazines;
		p->magazines = magazine;
		p->magazine_count++;
	} else {
		whole = disperse(p, magazine);
	}
	pthread_mutex_unlock(&p->mutex);
	free_blocks(whole);
}

void *
nodepool_take(enum nodepool_kind kind) {
	struct cache *c = &caches[kind];
	struct node *n;

	if (c->loaded_count == 0) {
		if (c->spare) {
			c->loaded = c->spare;
			c->loaded_count = MAGAZINE;
			c->spare = NULL;
		} else {
			refill(&pools[kind], c);
		}
	}
	n = c->loaded;
	c->loaded = n->next;
	c->loaded_count--;
	return n;
}

void
nodepool_give(enum nodepool_kind kind, void *node) {
	struct cache *c = &caches[kind];
	struct node *n = node;

	if (c->loaded_count == MAGAZINE) {
		watch_thread();
		if (c->spare) {
			stock(&pools[kind], c->spare);
		}
		c->spare = c->loaded;
		c->loaded = NULL;
		c->loaded_count = 0;
	}
	n->next = c->loaded;
	c->loaded = n;
	c->loaded_count++;
}

/* Sort everything this thread has back into the blocks. */
static void
flush(struct pool *p, struct cache *c) {
	struct block *whole;

	if (c->spare) {
		stock(p, c->spare);
		c->spare = NULL;
	}
	pthread_mutex_lock(&p->mutex);
	count(&p->free_nodes, c->loaded_count, 0);
	whole = disperse(p, c->loaded);
	pthread_mutex_unlock(&p->mutex);
	c->loaded = NULL;
	c->loaded_count = 0;
	free_blocks(whole);
}

/* Sort the stock back into the blocks. */
static void
clear_stock(struct pool *p) {
	struct node *magazines;

	pthread_mutex_lock(&p->mutex);
	magazines = p->magazines;
	p->magazines = NULL;
	p->magazine_count = 0;
	pthread_mutex_unlock(&p->mutex);
	while (magazines) {
		struct node *m = magazines;
		struct block *whole;
		magazines = m->magazine;
		pthread_mutex_lock(&p->mutex);
		whole = disperse(p, m);
		pthread_mutex_unlock(&p->mutex);
		free_blocks(whole);
	}
}

void
nodepool_flush(void) {
	int kind;

	for (kind = 0; kind < NODEPOOL_KINDS; kind++) {
		flush(&pools[kind], &caches[kind]);
	}
}

void
nodepool_rest(void) {
	int kind;

	for (kind = 0; kind < NODEPOOL_KINDS; kind++) {
		struct pool *p = &pools[kind];
		size_t blocks = atomic_load_explicit(&p->block_count, memory_order_relaxed);
		size_t spare = atomic_load_explicit(&p->free_nodes, memory_order_relaxed);

		if (blocks > SMALL_POOL && spare > blocks * p->per_block / 2) {
			flush(p, &caches[kind]);
			clear_stock(p);
		}
	}
}

void
nodepool_stats(enum nodepool_kind kind, struct nodepool_stats *out) {
	struct pool *p = &pools[kind];

	pthread_mutex_lock(&p->mutex);
	out->blocks = atomic_load_explicit(&p->block_count, memory_order_relaxed);
	out->reserved_bytes = out->blocks * BLOCK_BYTES;
	out->stock_nodes = p->magazine_count * MAGAZINE;
	pthread_mutex_unlock(&p->mutex);
}
