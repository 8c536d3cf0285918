// Snapshots of the table: each record is copied under its socket's lock. Any thread.
#include "socket_impl.h"

#include <stdio.h>
#include <string.h>

#include "skynet_malloc.h"

struct socket_info *
socket_info_create(struct socket_info *last) {
	struct socket_info *si = skynet_calloc(1, sizeof(*si));
	si->next = last;
	return si;
}

void
socket_info_release(struct socket_info *list) {
	while (list != NULL) {
		struct socket_info *next = list->next;
		skynet_free(list);
		list = next;
	}
}

static int
type_of(const struct socket_slot *s) {
	if (s->closing) {
		return SOCKET_INFO_CLOSING;
	}
	switch (s->state) {
	case SLOT_LISTEN:
		return SOCKET_INFO_LISTEN;
	case SLOT_HALFCLOSE_READ:
	case SLOT_HALFCLOSE_WRITE:
		return SOCKET_INFO_CLOSING;
	case SLOT_CONNECTED:
		if (s->kind == KIND_STREAM) {
			return SOCKET_INFO_TCP;
		}
		return s->kind == KIND_FOREIGN ? SOCKET_INFO_BIND : SOCKET_INFO_UDP;
	default:
		return SOCKET_INFO_UNKNOWN;
	}
}

static void
add_record(struct socket_slot *s, void *ud) {
	struct socket_info **list = ud;
	int type = type_of(s);
	if (type == SOCKET_INFO_UNKNOWN) {
		return;
	}
	struct socket_info *si = socket_info_create(*list);
	si->id = atomic_load_explicit(&s->id, memory_order_relaxed);
	si->type = type;
	si->opaque = s->owner;
	si->read = atomic_load_explicit(&s->read_count, memory_order_relaxed);
	si->rtime = atomic_load_explicit(&s->read_time, memory_order_relaxed);
	si->write = s->write_count;
	si->wtime = s->write_time;
	si->wbuffer = (int64_t)s->backlog;
	si->reading = s->reading && !atomic_load(&s->throttled);
	si->writing = s->write_polled;
	_Static_assert(sizeof(si->name) >= ADDRESS_TEXT_SIZE, "an address must fit");
	address_text(&s->peer, si->name);
	if (type == SOCKET_INFO_UDP) {
		struct socket_udp_address local = {0};
		address_of_socket(s->fd, &local);
		address_text(&local, si->local);
	}
	*list = si;
}

bool
socket_server_peer(struct socket_server *ss, int id, char *text, size_t size) {
	struct socket_slot *s = slot_lock(ss, id);
	if (s == NULL) {
		return false;
	}
	struct socket_udp_address peer = s->peer;
	slot_unlock(s);
	char full[ADDRESS_TEXT_SIZE];
	address_text(&peer, full);
	snprintf(text, size, "%s", full);
	return text[0] != '\0';
}

struct socket_info *
socket_server_info(struct socket_server *ss) {
	struct socket_info *list = NULL;
	slot_each(ss, add_record, &list);
	return list;
}
