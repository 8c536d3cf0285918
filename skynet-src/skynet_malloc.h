/*
 * The allocation family of the C API.
 *
 * The seven names below are the standard names: a block from malloc, strdup or
 * asprintf anywhere in the process may be released with skynet_free, and the
 * reverse. The executable defines the standard symbols itself (malloc_hook.c),
 * so every block is charged to the service that allocates it. Built with
 * NOUSE_JEMALLOC they are the C library's and nothing is charged.
 *
 * Any thread may call any of them and release what another thread allocated.
 *
 *   void *skynet_malloc(size_t size)
 *       Uninitialised block. Size 0 gives a block of its own. Never NULL: out
 *       of memory ends the process with a report (malloc_hook.h).
 *   void *skynet_calloc(size_t count, size_t size)
 *       Zeroed block of count * size bytes; a product that overflows is out of
 *       memory.
 *   void *skynet_realloc(void *p, size_t size)
 *       Resizes and takes p; NULL is skynet_malloc. Size 0 gives a minimal
 *       block and does not free. The new block belongs to the current service.
 *   void skynet_free(void *p)
 *       Releases; NULL is allowed.
 *   void *skynet_memalign(size_t align, size_t size)
 *   void *skynet_aligned_alloc(size_t align, size_t size)
 *       Aligned block; align is a power of two, anything else gives NULL and
 *       EINVAL.
 *   int skynet_posix_memalign(void **out, size_t align, size_t size)
 *       0, or EINVAL when align is not a power of two times sizeof(void *);
 *       then *out is unchanged.
 *
 * Every block is aligned to 16 bytes at least, and the caller owns it.
 */
#ifndef SKYNET_MALLOC_H
#define SKYNET_MALLOC_H

#include <stddef.h>
#include <stdlib.h>
#if defined(__linux__)
#include <malloc.h>
#endif

#define skynet_malloc malloc
#define skynet_calloc calloc
#define skynet_realloc realloc
#define skynet_free free
#define skynet_memalign memalign
#define skynet_aligned_alloc aligned_alloc
#define skynet_posix_memalign posix_memalign

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The raw allocator for Lua states: not charged to anybody and not
 * interchangeable with the family above.
 * p: NULL or a block of this function; osize: its size as last requested
 * (ignored when p is NULL); nsize: the new size, 0 frees p and returns NULL.
 * Returns NULL when there is no memory; p then stays valid.
 */
void *skynet_lalloc(void *p, size_t osize, size_t nsize);

#ifdef __cplusplus
}
#endif

#endif
