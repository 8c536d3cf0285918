/*
 * Cumulative allocation counters for modules that keep their own books: plain
 * for one thread, atomic for many. Live bytes are alloc - free, live blocks
 * alloc_count - free_count. (The kernel's own accounts are malloc_account.h.)
 */
#ifndef MEM_INFO_H
#define MEM_INFO_H

#include <stdatomic.h>
#include <stddef.h>

typedef struct {
	size_t alloc;       /* bytes ever allocated */
	size_t alloc_count; /* blocks ever allocated */
	size_t free;        /* bytes ever freed */
	size_t free_count;  /* blocks ever freed */
} MemInfo;

/* The same; each field is exact, fields are not read at one instant. */
typedef struct {
	_Atomic size_t alloc;
	_Atomic size_t alloc_count;
	_Atomic size_t free;
	_Atomic size_t free_count;
} AtomicMemInfo;

/* All counters 0. */
static inline void
meminfo_init(MemInfo *info) {
	*info = (MemInfo){0};
}

/* A block of size bytes was allocated. */
static inline void
meminfo_alloc(MemInfo *info, size_t size) {
	info->alloc += size;
	info->alloc_count++;
}

/* A block of size bytes was freed. */
static inline void
meminfo_free(MemInfo *info, size_t size) {
	info->free += size;
	info->free_count++;
}

/* Adds src to dest. */
static inline void
meminfo_merge(MemInfo *dest, const MemInfo *src) {
	dest->alloc += src->alloc;
	dest->alloc_count += src->alloc_count;
	dest->free += src->free;
	dest->free_count += src->free_count;
}

/* Before any other thread knows of info. */
static inline void
atomic_meminfo_init(AtomicMemInfo *info) {
	atomic_init(&info->alloc, 0);
	atomic_init(&info->alloc_count, 0);
	atomic_init(&info->free, 0);
	atomic_init(&info->free_count, 0);
}

/* Relaxed, here and below: counters order nothing but themselves. Any thread. */
static inline void
atomic_meminfo_alloc(AtomicMemInfo *info, size_t size) {
	atomic_fetch_add_explicit(&info->alloc, size, memory_order_relaxed);
	atomic_fetch_add_explicit(&info->alloc_count, 1, memory_order_relaxed);
}

static inline void
atomic_meminfo_free(AtomicMemInfo *info, size_t size) {
	atomic_fetch_add_explicit(&info->free, size, memory_order_relaxed);
	atomic_fetch_add_explicit(&info->free_count, 1, memory_order_relaxed);
}

/* Adds src to the plain counters dest. Any thread. */
static inline void
atomic_meminfo_merge(MemInfo *dest, AtomicMemInfo *src) {
	dest->alloc += atomic_load_explicit(&src->alloc, memory_order_relaxed);
	dest->alloc_count += atomic_load_explicit(&src->alloc_count, memory_order_relaxed);
	dest->free += atomic_load_explicit(&src->free, memory_order_relaxed);
	dest->free_count += atomic_load_explicit(&src->free_count, memory_order_relaxed);
}

#endif
