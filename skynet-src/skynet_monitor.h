/*
 * Watches for callbacks that do not return. One record per worker: the worker
 * counts every begin and end of a delivery, the monitor thread compares.
 * Nothing is interrupted; the service is flagged and a line is logged.
 */
#ifndef SKYNET_MONITOR_H
#define SKYNET_MONITOR_H

#include <stdatomic.h>
#include <stdint.h>

struct skynet_monitor {
	/* Written by the worker only, read by the monitor thread; relaxed, for
	   a torn pair only blurs one report. */
	_Atomic(uint32_t) version;
	_Atomic(uint32_t) source;
	_Atomic(uint32_t) destination;
	uint32_t checked; /* monitor thread: version at the previous look */
};

/* A record of a worker that runs nothing; the second frees it. */
struct skynet_monitor *skynet_monitor_new(void);
void skynet_monitor_delete(struct skynet_monitor *m);

/* Before a delivery with its two addresses, after it with zeros. Worker only. */
static inline void
skynet_monitor_mark(struct skynet_monitor *m, uint32_t source, uint32_t destination) {
	uint32_t v = atomic_load_explicit(&m->version, memory_order_relaxed);

	atomic_store_explicit(&m->source, source, memory_order_relaxed);
	atomic_store_explicit(&m->destination, destination, memory_order_relaxed);
	atomic_store_explicit(&m->version, v + 1, memory_order_relaxed);
}

/* As skynet_monitor_mark, out of line. */
void skynet_monitor_trigger(struct skynet_monitor *m, uint32_t source, uint32_t destination);

/* Report if nothing began or ended since the previous check. Monitor thread only. */
void skynet_monitor_check(struct skynet_monitor *m);

#endif
