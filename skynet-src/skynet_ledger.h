/*
 * The ledger of services: what each of them holds, from the accounts of malloc,
 * from the container (module function NAME_memory), from its mailbox and from
 * its sockets. Owns nothing. Any thread, at any time; figures of a running
 * service are a moment old when they arrive.
 */
#ifndef SKYNET_LEDGER_H
#define SKYNET_LEDGER_H

#include <stddef.h>
#include <stdint.h>

struct skynet_context;

/* Bytes unless stated. */
struct service_memory {
	uint32_t handle;
	size_t heap;        /* of the container: Lua */
	size_t c;           /* blocks of the malloc family */
	size_t shared;      /* code shared with others that it uses */
	size_t messages;    /* how many wait in its mailbox */
	size_t mailbox;     /* their payload, which is C memory of the senders */
	size_t undelivered; /* of sockets, received; in c already */
	size_t unsent;      /* of sockets; in c already */
	size_t sockets;     /* how many it owns */
};

/* What the service is answerable for: heap, C memory, and what waits for it. */
size_t service_memory_total(const struct service_memory *m);

/*
 * All live services, by handle. Gives an array, to be freed with skynet_free, and
 * returns its length. Takes the locks of accounts and sockets one by one.
 */
size_t skynet_ledger_services(struct service_memory **list);

#endif
