// DESIGN. A service that answers sixteen requests which came in one packet, or writes a
// head and a body, would pay for a write call, and its peer for a wake-up, each
// time. So only the first send of a callback to a socket is made at once: a lone
// answer loses no time. The further ones are queued at the socket, and the thread
// remembers to flush it. Nothing waits longer than until the end of the callback, nor
// behind more than HOLD_BYTES.
#include "skynet_outbox.h"

#include <stdbool.h>
#include <stddef.h>

#include "skynet_context.h"
#include "socket_server.h"

// Sockets that one callback's sends are gathered for; with more, the oldest
// is flushed and forgotten.
#define BOX_SIZE 16
// Held back per socket at most.
#define HOLD_BYTES (64 * 1024)

struct held {
	int id;
	size_t bytes;	// queued and not flushed
};

static __thread struct {
	int n;
	int oldest;
	struct held socket[BOX_SIZE];
} box;

static struct held *
find(int id) {
	for (int i = 0; i < box.n; i++) {
		if (box.socket[i].id == id) {
			return &box.socket[i];
		}
	}
	return NULL;
}

static void
release(struct socket_server *ss, struct held *h) {
	if (h->bytes > 0) {
		h->bytes = 0;
		socket_server_flush(ss, h->id);
	}
}

static void
remember(struct socket_server *ss, int id) {
	struct held *h;
	if (box.n < BOX_SIZE) {
		h = &box.socket[box.n++];
	} else {
		h = &box.socket[box.oldest];
		box.oldest = (box.oldest + 1) % BOX_SIZE;
		release(ss, h);
	}
	h->id = id;
	h->bytes = 0;
}

int
outbox_send(struct socket_server *ss, struct socket_sendbuffer *b) {
	int id = b->id;
	if (!context_is_delivering()) {
		return socket_server_send(ss, b);
	}
	struct held *h = find(id);
	if (h == NULL) {
		int r = socket_server_send(ss, b);
		if (r == 0) {
			remember(ss, id);
		}
		return r;
	}
	// What is large gains nothing by waiting, and would count as backlog. An object
	// does not tell its size here.
	if (b->type == SOCKET_BUFFER_OBJECT || b->sz + h->bytes >= HOLD_BYTES) {
		release(ss, h);
		return socket_server_send(ss, b);
	}
	size_t bytes = b->sz;
	int r = socket_server_send_later(ss, b);
	h->bytes += r == 0 ? bytes : 0;
	return r;
}

void
outbox_flush(struct socket_server *ss) {
	for (int i = 0; i < box.n; i++) {
		release(ss, &box.socket[i]);
	}
	box.n = box.oldest = 0;
}
