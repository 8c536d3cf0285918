/*
 * The part of jemalloc that we call, under the prefixed names that
 * 3rd/jemalloc/jemalloc.mk gives them. The system's header is not used because
 * it maps these names to the plain ones, which are ours.
 *
 * jemalloc reads its options from the environment variable MALLOC_CONF (for
 * example MALLOC_CONF=prof:true,lg_prof_sample:17), from the file that
 * /etc/malloc.conf points to, and from the variable je_malloc_conf.
 */
#ifndef JEMALLOC_API_H
#define JEMALLOC_API_H

#include <stddef.h>

/* Flag of the "x" functions: alignment of 1 << lg bytes. */
#define JE_LG_ALIGN(lg) ((int)(lg))
#define JE_ZERO 0x40

void *je_malloc(size_t size);
void *je_calloc(size_t count, size_t size);
void *je_realloc(void *p, size_t size);
void je_free(void *p);
void *je_mallocx(size_t size, int flags);
size_t je_sallocx(const void *p, int flags);
void je_sdallocx(void *p, size_t size, int flags);
size_t je_nallocx(size_t size, int flags);
int je_mallctl(const char *name, void *oldp, size_t *oldlenp, void *newp, size_t newlen);
void je_malloc_stats_print(void (*write_cb)(void *, const char *), void *ud, const char *opts);

#endif
