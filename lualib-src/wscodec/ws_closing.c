#include "ws_closing.h"

#include <stdatomic.h>

#define SLOTS 4096

static atomic_int closing[SLOTS];

static atomic_int *
slot_of(int id) {
	return &closing[(unsigned)id % SLOTS];
}

// Relaxed: only the id itself is handed over, and who looks a moment too early would
// have sent before the close frame as well.
void
ws_closing_mark(int id) {
	atomic_store_explicit(slot_of(id), id, memory_order_relaxed);
}

bool
ws_closing_has(int id) {
	return id != 0 && atomic_load_explicit(slot_of(id), memory_order_relaxed) == id;
}
