/* A log service that can be held up; drivers find its notes with dlsym. */
#ifndef T_SLOWLOGGER_H
#define T_SLOWLOGGER_H

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>

struct slowlogger_notes {
	atomic_bool waiting; /* it got the line `block` and waits */
	atomic_bool gate;    /* the driver lets it go on */
	atomic_int seen;     /* lines handled */
};

static inline struct slowlogger_notes *
slowlogger_notes(void) {
	return dlsym(RTLD_DEFAULT, "slowlogger");
}

#endif
