/*
 * An allocator for tests of data structures: counts the bytes that are not freed, checks
 * nothing is resized, and fails when it is told to. Include cmocka.h first.
 */
#ifndef LEDGER_H
#define LEDGER_H

#include <stddef.h>
#include <stdlib.h>

struct ledger {
	size_t bytes;
	long fail_after; /* allocations until one fails; negative: never */
};

/* ud: a struct ledger; size 0 frees p, which has old_size bytes. */
static inline void *
ledger_alloc(void *ud, void *p, size_t old_size, size_t size) {
	struct ledger *l = ud;
	if (size == 0) {
		if (p != NULL) {
			l->bytes -= old_size;
		}
		free(p);
		return NULL;
	}
	assert_null(p);
	if (l->fail_after >= 0 && l->fail_after-- == 0) {
		return NULL;
	}
	l->bytes += size;
	return malloc(size);
}

#endif
