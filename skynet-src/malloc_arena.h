/*
 * Which arena of jemalloc's a thread allocates from.
 *
 * DESIGN. By itself jemalloc makes an arena for each new thread, up to four for
 * each processor, when the thread allocates first; and if the system has no
 * memory then, it crashes. So here there is one arena that every thread starts
 * in, those that libraries make too, and the start of the node makes the arenas
 * of the threads that allocate much; they change to theirs as they begin. None
 * is made later. Threads that hardly allocate share the first one, which also
 * saves the 84 KB that an arena of its own takes.
 *
 * Who says MALLOC_CONF=narenas:N has jemalloc choose as it does by itself.
 */
#ifndef MALLOC_ARENA_H
#define MALLOC_ARENA_H

/*
 * Makes arenas for so many threads: one each, but not more than processors can
 * use. Returns 0 or an errno. Once, before the first malloc_arena_enter. Does
 * nothing without jemalloc.
 */
int malloc_arena_create(int threads);

/* The calling thread, number `thread` of those that malloc_arena_create was told of
 * (from 0), allocates from its arena from now on. */
void malloc_arena_enter(int thread);

#endif
