// See netpack_frame.h. Unfinished packages sit in a hash table by connection id; most
// reads end with a whole package, so that it is nearly always small or empty.
#include "netpack_frame.h"

#include <stdint.h>
#include <string.h>

#include "skynet_malloc.h"

#define FIRST_BUCKETS 16
// First block for an unfinished package; it doubles as bytes come in.
#define FIRST_BLOCK 256

struct partial {
	struct partial *next;
	int id;
	bool has_size;   // false: only the first header byte came
	bool is_refused; // its bytes are of no more use
	uint8_t first;   // that byte
	size_t size;     // of the whole package
	size_t have;
	size_t cap;
	char *data;
};

struct frame_table {
	size_t n;
	size_t max; // bytes of a package
	size_t mask;
	struct partial **bucket;
};

struct frame_table *
frame_table_new(void) {
	struct frame_table *t = skynet_malloc(sizeof(*t));
	t->n = 0;
	t->max = FRAME_MAX;
	t->mask = FIRST_BUCKETS - 1;
	t->bucket = skynet_calloc(FIRST_BUCKETS, sizeof(t->bucket[0]));
	return t;
}

void
frame_limit(struct frame_table *t, size_t max) {
	t->max = max;
}

static void
partial_free(struct partial *p) {
	skynet_free(p->data);
	skynet_free(p);
}

void
frame_clear(struct frame_table *t) {
	for (size_t i = 0; i <= t->mask; i++) {
		while (t->bucket[i] != NULL) {
			struct partial *p = t->bucket[i];
			t->bucket[i] = p->next;
			partial_free(p);
		}
	}
	t->n = 0;
}

void
frame_table_free(struct frame_table *t) {
	frame_clear(t);
	skynet_free(t->bucket);
	skynet_free(t);
}

size_t
frame_unfinished(const struct frame_table *t, size_t *bytes) {
	*bytes = 0;
	for (size_t i = 0; i <= t->mask; i++) {
		for (struct partial *p = t->bucket[i]; p != NULL; p = p->next) {
			*bytes += p->cap;
		}
	}
	return t->n;
}

// The link that points to the partial of `id`, or to the end of its chain.
static struct partial **
find(struct frame_table *t, int id) {
	struct partial **p = &t->bucket[(unsigned)id & t->mask];
	while (*p != NULL && (*p)->id != id) {
		p = &(*p)->next;
	}
	return p;
}

static struct partial *
take(struct frame_table *t, int id) {
	if (t->n == 0) {
		return NULL;
	}
	struct partial **link = find(t, id);
	struct partial *p = *link;
	if (p != NULL) {
		*link = p->next;
		t->n--;
	}
	return p;
}

static void
grow(struct frame_table *t) {
	size_t size = (t->mask + 1) * 2;
	struct partial **bucket = skynet_calloc(size, sizeof(bucket[0]));
	for (size_t i = 0; i <= t->mask; i++) {
		struct partial *p = t->bucket[i];
		while (p != NULL) {
			struct partial *next = p->next;
			struct partial **b = &bucket[(unsigned)p->id & (size - 1)];
			p->next = *b;
			*b = p;
			p = next;
		}
	}
	skynet_free(t->bucket);
	t->bucket = bucket;
	t->mask = size - 1;
}

static void
keep(struct frame_table *t, struct partial *p) {
	if (t->n > t->mask) {
		grow(t);
	}
	struct partial **b = &t->bucket[(unsigned)p->id & t->mask];
	p->next = *b;
	*b = p;
	t->n++;
}

bool
frame_drop(struct frame_table *t, int id) {
	struct partial *p = take(t, id);
	if (p == NULL) {
		return false;
	}
	bool is_cut = !p->is_refused;
	partial_free(p);
	return is_cut;
}

static size_t
read_size(uint8_t high, uint8_t low) {
	return (size_t)high << 8 | low;
}

static void
reserve(struct partial *p, size_t want) {
	if (want <= p->cap) {
		return;
	}
	size_t cap = p->cap < FIRST_BLOCK ? FIRST_BLOCK : p->cap * 2;
	cap = cap < want ? want : cap;
	p->cap = cap > p->size ? p->size : cap;
	p->data = skynet_realloc(p->data, p->cap);
}

// Adds what belongs to the unfinished package. Returns the bytes used.
static size_t
fill(struct partial *p, size_t max, const char *bytes, size_t n) {
	size_t used = 0;
	if (!p->has_size) {
		p->size = read_size(p->first, (uint8_t)bytes[0]);
		p->has_size = true;
		used = 1;
	}
	p->is_refused = p->size > max;
	if (p->is_refused) {
		return n;
	}
	size_t want = p->size - p->have;
	size_t add = n - used < want ? n - used : want;
	if (add > 0) {
		reserve(p, p->have + add);
		memcpy(p->data + p->have, bytes + used, add);
		p->have += add;
	}
	return used + add;
}

// The rest of a read, which is not a whole package. Returns the length of a package
// that is refused, or 0.
static size_t
begin(struct frame_table *t, int id, const char *bytes, size_t n) {
	struct partial *p = skynet_calloc(1, sizeof(*p));
	p->id = id;
	p->first = (uint8_t)bytes[0];
	if (n > 1) {
		fill(p, t->max, bytes + 1, n - 1);
	}
	keep(t, p);
	return p->is_refused ? p->size : 0;
}

static void
finish(struct partial *p, frame_sink sink, void *ud) {
	char *data = p->data != NULL ? p->data : skynet_malloc(0);
	size_t size = p->size;
	int id = p->id;
	skynet_free(p);
	sink(ud, id, data, size);
}

// The part that was left unfinished before. Returns the bytes used.
static size_t
resume(struct frame_table *t, int id, const char *bytes, size_t n, frame_sink sink, void *ud,
       size_t *refused) {
	struct partial *p = take(t, id);
	if (p == NULL) {
		return 0;
	}
	bool was_refused = p->is_refused;
	size_t used = was_refused ? n : fill(p, t->max, bytes, n);
	if (!p->is_refused && p->have == p->size) {
		finish(p, sink, ud);
		return used;
	}
	*refused = p->is_refused && !was_refused ? p->size : 0;
	keep(t, p);
	return used;
}

size_t
frame_feed(struct frame_table *t, int id, const char *bytes, size_t n, frame_sink sink, void *ud) {
	if (n == 0) {
		return 0;
	}
	size_t refused = 0;
	size_t at = resume(t, id, bytes, n, sink, ud, &refused);
	while (n - at >= FRAME_HEADER) {
		size_t size = read_size((uint8_t)bytes[at], (uint8_t)bytes[at + 1]);
		if (n - at - FRAME_HEADER < size || size > t->max) {
			break;
		}
		char *data = skynet_malloc(size);
		memcpy(data, bytes + at + FRAME_HEADER, size);
		sink(ud, id, data, size);
		at += FRAME_HEADER + size;
	}
	return at < n ? begin(t, id, bytes + at, n - at) : refused;
}
