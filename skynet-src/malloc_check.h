/*
 * The checked build's view of every block (MEMORY_CHECK): a register of all
 * blocks that live, poison in what is new or freed, a quarantine. A block that
 * is freed twice, overrun, foreign or written to after its release stops the
 * process with a report. Private to malloc_hook.c.
 *
 * In other builds the functions are empty and cost nothing.
 */
#ifndef MALLOC_CHECK_H
#define MALLOC_CHECK_H

#include "malloc_front.h"

#include <stddef.h>

enum malloc_check_op { MALLOC_CHECK_FREE, MALLOC_CHECK_REALLOC };

#ifdef MEMORY_CHECK

#define MALLOC_IS_CHECKED 1

/* A block was made and its cookie written; its content is not needed. */
void malloc_check_born(void *p, size_t usable);

/* Somebody releases p, or has it moved: it must be a live and intact block. It
 * counts as freed from now on. Returns only if all is well. */
void malloc_check_claim(void *p, enum malloc_check_op op);

/* Bytes of the register. Any thread. */
size_t malloc_check_bytes(void);

/* The live block p belongs to another handle now; the cookie says so already. */
void malloc_check_given(void *p, uint32_t owner);

/* Takes a claimed block: poisons it and lets go of it, sooner or later. */
void malloc_check_bury(void *p, size_t usable);

#else

#define MALLOC_IS_CHECKED 0

static inline void
malloc_check_born(void *p, size_t usable) {
	(void)p;
	(void)usable;
}

static inline void
malloc_check_claim(void *p, enum malloc_check_op op) {
	(void)p;
	(void)op;
}

static inline size_t
malloc_check_bytes(void) {
	return 0;
}

static inline void
malloc_check_given(void *p, uint32_t owner) {
	(void)p;
	(void)owner;
}

static inline void
malloc_check_bury(void *p, size_t usable) {
	front_push_slow(p, usable);
}

#endif

#endif
