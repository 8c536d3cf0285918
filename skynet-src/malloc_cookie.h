/*
 * The last bytes of every block: who owns it and how big it is. Private to
 * malloc_hook.c and malloc_check.c.
 *
 *   p                     p + size        p + usable - 16    p + usable
 *   | what was asked for  | slack          | owner, tag, size |
 *
 * The cookie sits at the end of jemalloc's size class rather than in front of
 * the block, so that every block has jemalloc's natural alignment, whichever
 * function made it, and an overrun meets it. jemalloc tells the class of any
 * block (je_sallocx) and takes it back faster when it is told (je_sdallocx).
 */
#ifndef MALLOC_COOKIE_H
#define MALLOC_COOKIE_H

#include "malloc_hook.h"

#include <stddef.h>
#include <stdint.h>

#define MALLOC_TAG_LIVE 0x20140605u
#define MALLOC_TAG_FREE 0x0badf00du

struct malloc_cookie {
	uint32_t owner;
	uint32_t tag;
	size_t size; /* as asked for, without the cookie */
};
_Static_assert(sizeof(struct malloc_cookie) == MALLOC_COOKIE_SIZE, "accounted size of a header");

static inline struct malloc_cookie *
malloc_cookie_of(void *p, size_t usable) {
	return (struct malloc_cookie *)((char *)p + usable - sizeof(struct malloc_cookie));
}

#endif
