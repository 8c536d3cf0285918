/* What t_probe.c notes; counters over all instances, the rest of the last one. */
#ifndef T_PROBE_H
#define T_PROBE_H

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct probe_notes {
	atomic_int created, initialised, released, messages;
	atomic_int signal;
	atomic_int type, session, first;
	_Atomic(uint32_t) source;
	atomic_size_t size;
	atomic_bool is_null;
	atomic_bool param_is_null;
	atomic_bool gate;     /* the driver opens it */
	atomic_bool waiting;  /* in a callback, for the gate */
	_Atomic(char *) kept; /* data of the message `keep`, for the driver to free */
	/* For whom the thread worked, and so allocated, in each of the functions. */
	_Atomic(uint32_t) creating, initialising, releasing;
	uint32_t failed; /* handle of the instance that failed */
	char param[64];
};

/* The notes, once the module is loaded. */
static inline struct probe_notes *
probe_notes(void) {
	return dlsym(RTLD_DEFAULT, "probe");
}

#endif
