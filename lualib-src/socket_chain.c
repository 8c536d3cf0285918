#include "socket_chain.h"

#include <lauxlib.h>

#include <stdbool.h>
#include <string.h>

#include "skynet_malloc.h"

void
chain_append(struct chain *c, struct chain_node *n, char *block, size_t sz) {
	*n = (struct chain_node){block, sz, NULL};
	if (c->head == NULL) {
		c->head = n;
	} else {
		c->tail->next = n;
	}
	c->tail = n;
	c->size += sz;
}

void
chain_push_string(lua_State *L, const struct chain *c, size_t n) {
	const struct chain_node *node = c->head;
	size_t offset = c->offset;
	if (node != NULL && n <= node->sz - offset) {
		lua_pushlstring(L, node->msg + offset, n);
		return;
	}
	luaL_Buffer out;
	char *p = luaL_buffinitsize(L, &out, n);
	size_t done = 0;
	while (done < n) {
		size_t part = node->sz - offset;
		part = part < n - done ? part : n - done;
		memcpy(p + done, node->msg + offset, part);
		done += part;
		node = node->next;
		offset = 0;
	}
	luaL_pushresultsize(&out, n);
}

static void
forget_search(struct chain *c) {
	c->seen.node = NULL;
	c->seen_bytes = 0;
}

// The first node is used up.
static struct chain_node *
take_head(struct chain *c) {
	struct chain_node *n = c->head;
	c->head = n->next;
	if (c->head == NULL) {
		c->tail = NULL;
	}
	c->offset = 0;
	skynet_free(n->msg);
	n->msg = NULL;
	n->sz = 0;
	return n;
}

struct chain_node *
chain_consume(struct chain *c, size_t n) {
	struct chain_node *used = NULL;
	forget_search(c);
	c->size -= n;
	while (c->head != NULL) {
		size_t part = c->head->sz - c->offset;
		if (n < part) {
			c->offset += n;
			break;
		}
		n -= part;
		struct chain_node *node = take_head(c);
		node->next = used;
		used = node;
	}
	return used;
}

//-------------------------------------------------------------------- search

static bool
is_at(const struct chain_node *node, size_t at, const char *sep, size_t len) {
	while (len > 0) {
		if (node == NULL) {
			return false;
		}
		size_t part = node->sz - at;
		part = part < len ? part : len;
		if (memcmp(node->msg + at, sep, part) != 0) {
			return false;
		}
		sep += part;
		len -= part;
		node = node->next;
		at = 0;
	}
	return true;
}

// Where the search for this separator goes on.
static size_t
resume_search(const struct chain *b, struct chain_cursor *c, const char *sep, size_t len) {
	if (b->seen.node != NULL && len == b->memo_len && memcmp(sep, b->memo, len) == 0) {
		*c = b->seen;
		return b->seen_bytes;
	}
	c->node = b->head;
	c->at = b->offset;
	return 0;
}

static void
remember_search(struct chain *b, const struct chain_cursor *c, size_t bytes, const char *sep,
                size_t len) {
	if (len <= CHAIN_MEMO_MAX && c->node != NULL) {
		b->seen = *c;
		b->seen_bytes = bytes;
		b->memo_len = len;
		memcpy(b->memo, sep, len);
	}
}

ptrdiff_t
chain_search(struct chain *b, const char *sep, size_t len) {
	struct chain_cursor c;
	size_t bytes = resume_search(b, &c, sep, len);
	while (c.node != NULL && b->size - bytes >= len) {
		const char *from = c.node->msg + c.at;
		size_t rest = c.node->sz - c.at;
		const char *hit = rest == 0 ? NULL : memchr(from, sep[0], rest);
		size_t skipped = hit == NULL ? rest : (size_t)(hit - from);
		bytes += skipped;
		c.at += skipped;
		if (hit == NULL) {
			if (c.node->next == NULL) {
				break;
			}
			c.node = c.node->next;
			c.at = 0;
			continue;
		}
		if (b->size - bytes < len) {
			break;
		}
		if (is_at(c.node, c.at, sep, len)) {
			return (ptrdiff_t)bytes;
		}
		bytes++;
		c.at++;
	}
	remember_search(b, &c, bytes, sep, len);
	return -1;
}
