/*
** Included before everything else when Lua is built for ThreadSanitizer, which
** follows longjmp but not _longjmp (each yield would leave its shadow stack
** deeper), and runs a signal handler that came at a bad moment at the next
** atomic operation: the flags that hooks set become atomic, so that a loop of
** plain Lua code has one.
*/

#ifndef lua_tsan_h
#define lua_tsan_h

#include <setjmp.h>
#include <signal.h>

#define LUAI_THROW(L, c) longjmp((c)->b, 1)
#define LUAI_TRY(L, c, f, ud)                                                                      \
	if (setjmp((c)->b) == 0)                                                                       \
	((f)(L, ud))

#define l_signalT _Atomic(int)

#endif
