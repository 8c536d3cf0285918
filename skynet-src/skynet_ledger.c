/* See skynet_ledger.h. */
#include "skynet_ledger.h"

#include "malloc_account.h"
#include "skynet_context.h"
#include "skynet_handle.h"
#include "skynet_malloc.h"
#include "skynet_module.h"
#include "skynet_server.h"
#include "skynet_socket.h"
#include "socket_info.h"

#include <stdlib.h>

size_t
service_memory_total(const struct service_memory *m) {
	return m->heap + m->c + m->mailbox;
}

static void
read_context(struct skynet_context *ctx, struct service_memory *out) {
	struct skynet_module_memory held;

	skynet_module_instance_memory(ctx->module, ctx->instance, &held);
	out->heap = held.heap;
	out->shared = held.shared;
	out->messages = mailbox_length(&ctx->mailbox);
	out->mailbox = mailbox_bytes(&ctx->mailbox);
	out->undelivered = context_inside_bytes(ctx);
}

static int
by_handle(const void *a, const void *b) {
	uint32_t x = ((const struct service_memory *)a)->handle;
	uint32_t y = ((const struct service_memory *)b)->handle;

	return (x > y) - (x < y);
}

static struct service_memory *
find(struct service_memory *list, size_t n, uint32_t handle) {
	struct service_memory key = {.handle = handle};

	return bsearch(&key, list, n, sizeof(key), by_handle);
}

static void
add_accounts(struct service_memory *list, size_t n) {
	struct malloc_account *accounts;
	size_t count = malloc_account_list(&accounts);
	size_t i;

	for (i = 0; i < count; i++) {
		struct service_memory *m = find(list, n, accounts[i].handle);
		if (m && accounts[i].bytes > 0) {
			m->c = (size_t)accounts[i].bytes;
		}
	}
	malloc_account_list_free(accounts, count);
}

static void
add_sockets(struct service_memory *list, size_t n) {
	struct socket_info *sockets = skynet_socket_info();
	const struct socket_info *s;

	for (s = sockets; s; s = s->next) {
		struct service_memory *m = find(list, n, (uint32_t)s->opaque);
		if (m) {
			m->sockets++;
			m->unsent += s->wbuffer > 0 ? (size_t)s->wbuffer : 0;
		}
	}
	socket_info_release(sockets);
}

size_t
skynet_ledger_services(struct service_memory **out) {
	uint32_t *handles;
	size_t count = skynet_handle_snapshot(&handles);
	struct service_memory *list = skynet_calloc(count, sizeof(*list));
	size_t n = 0;
	size_t i;

	for (i = 0; i < count; i++) {
		struct skynet_context *ctx = skynet_handle_grab(handles[i]);
		if (ctx) {
			list[n].handle = handles[i];
			read_context(ctx, &list[n]);
			skynet_context_release(ctx);
			n++;
		}
	}
	skynet_free(handles);
	qsort(list, n, sizeof(*list), by_handle);
	add_accounts(list, n);
	add_sockets(list, n);
	*out = list;
	return n;
}
