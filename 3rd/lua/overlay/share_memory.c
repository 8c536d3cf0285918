/*
** Where shared objects get their memory: libc, or what the program set.
*/

#define LUA_CORE

#include "lprefix.h"

#include <stdlib.h>

#include "share.h"

static void *
default_alloc(void *block, size_t osize, size_t nsize) {
	(void)osize;
	if (nsize == 0) {
		free(block);
		return NULL;
	}
	return realloc(block, nsize);
}

static lua_ShareAlloc current_alloc = default_alloc;

LUA_API void
lua_setsharealloc(lua_ShareAlloc f) {
	current_alloc = f != NULL ? f : default_alloc;
}

void *
share_alloc(size_t size) {
	return current_alloc(NULL, 0, size);
}

void
share_free(void *block, size_t size) {
	if (block != NULL) {
		current_alloc(block, size, 0);
	}
}
