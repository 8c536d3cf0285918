/*
 * Figures of the memory subsystem, jemalloc's controls, and the log's memory
 * listing. Owns nothing; any thread.
 */
#include "malloc_hook.h"

#include <stdio.h>

static size_t
size_of(int64_t n) {
	return n < 0 ? 0 : (size_t)n;
}

size_t
malloc_used_memory(void) {
	return size_of(malloc_account_total().bytes);
}

size_t
malloc_memory_block(void) {
	return size_of(malloc_account_total().blocks);
}

size_t
malloc_service_memory(uint32_t handle) {
	return handle == 0 ? 0 : size_of(malloc_account_of(handle).bytes);
}

size_t
malloc_current_memory(void) {
	return malloc_service_memory(malloc_charged());
}
