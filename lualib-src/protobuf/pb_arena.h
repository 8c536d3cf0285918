/*
 * Memory that goes at once. One thread. An allocation that fails marks the arena; the user looks at
 * the end, and in between gets NULL.
 */
#ifndef PB_ARENA_H
#define PB_ARENA_H

#include <stddef.h>
#include <stdlib.h>

#define PB_ARENA_BLOCK 4096

struct pb_arena_block {
	struct pb_arena_block *next;
	_Alignas(max_align_t) char bytes[];
};

struct pb_arena {
	struct pb_arena_block *block;
	size_t used;
	size_t size;
};

/* Zeroed memory of its own, whatever the size; or NULL. */
static inline void *
pb_arena_take(struct pb_arena *a, size_t size) {
	size =
	    (size + (size == 0) + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
	if (size > a->size - a->used) {
		size_t block_size = size > PB_ARENA_BLOCK ? size : PB_ARENA_BLOCK;
		struct pb_arena_block *b = calloc(1, sizeof(*b) + block_size);
		if (b == NULL) {
			return NULL;
		}
		b->next = a->block;
		a->block = b;
		a->used = 0;
		a->size = block_size;
	}
	void *p = a->block->bytes + a->used;
	a->used += size;
	return p;
}

static inline void
pb_arena_free(struct pb_arena *a) {
	struct pb_arena_block *b = a->block;
	while (b != NULL) {
		struct pb_arena_block *next = b->next;
		free(b);
		b = next;
	}
	*a = (struct pb_arena){NULL, 0, 0};
}

#endif
