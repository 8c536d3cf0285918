/* See skynet_monitor.h. */
#include "skynet_monitor.h"

#include "skynet.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

struct skynet_monitor *
skynet_monitor_new(void) {
	/* A line of its own: its worker writes it for every message. */
	struct skynet_monitor *m = skynet_memalign(64, 64);

	_Static_assert(sizeof(*m) <= 64, "a cache line");
	atomic_init(&m->version, 0);
	atomic_init(&m->source, 0);
	atomic_init(&m->destination, 0);
	m->checked = 0;
	return m;
}

void
skynet_monitor_delete(struct skynet_monitor *m) {
	skynet_free(m);
}

void
skynet_monitor_trigger(struct skynet_monitor *m, uint32_t source, uint32_t destination) {
	skynet_monitor_mark(m, source, destination);
}

void
skynet_monitor_check(struct skynet_monitor *m) {
	uint32_t version = atomic_load_explicit(&m->version, memory_order_relaxed);
	uint32_t source = atomic_load_explicit(&m->source, memory_order_relaxed);
	uint32_t destination = atomic_load_explicit(&m->destination, memory_order_relaxed);

	if (version == m->checked && destination != 0) {
		skynet_context_endless(destination);
		skynet_error(NULL,
		             "error: A message from [ :%08x ] to [ :%08x ] maybe in an endless "
		             "loop (version = %d)",
		             source, destination, (int)version);
	}
	m->checked = version;
}
