/*
 * What the operating system says of the process's memory. Part of the one door
 * that platform.h describes. Owns the list of the node's thread stacks.
 */
#ifndef PLATFORM_MEMORY_H
#define PLATFORM_MEMORY_H

#include <stddef.h>

/* Resident bytes. */
struct platform_memory {
	size_t rss;    /* in all */
	size_t file;   /* pages of files: the program and its libraries */
	size_t data;   /* their writable parts */
	size_t stacks; /* of threads that called platform_note_stack */
};

/* A snapshot; fields that the system cannot tell are 0. Any thread. */
void platform_memory(struct platform_memory *out);

/* How much of a range is resident, in bytes. Any thread. */
size_t platform_resident(const void *start, size_t size);

/*
 * The calling thread's stack, with its thread-local variables, is to be counted.
 * The thread lives as long as the process; the first 2048 count.
 */
void platform_note_stack(void);

#endif
