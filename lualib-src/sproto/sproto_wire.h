/*
 * Reading the wire format, for compiled schemas and for data alike. Nothing here
 * reads outside the slice it was given, whatever the bytes say; nothing
 * allocates. Any thread.
 *
 *   struct = u16 n | u16 word[n] | chunks        chunk = u32 length | bytes
 *
 * Everything is little endian.
 */
#ifndef SPROTO_WIRE_H
#define SPROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPROTO_WORD_SIZE 2  /* of n and of each word */
#define SPROTO_CHUNK_SIZE 4 /* of a chunk's length */
#define SPROTO_INLINE_MAX 32766

/* Bytes of somebody else's. */
struct sproto_slice {
	const uint8_t *data;
	size_t size;
};

/* A struct being read, field by field. */
struct sproto_reader {
	const uint8_t *word;      /* the next word */
	unsigned words;           /* how many are left */
	int64_t tag;              /* of the field before the next word */
	struct sproto_slice rest; /* chunks not taken yet, and what follows */
};

/* One field. */
struct sproto_item {
	int64_t tag;
	int value; /* inline value, or -1: it is in the chunk */
	struct sproto_slice chunk;
};

static inline uint32_t
sproto_u16(const uint8_t *p) {
	return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t
sproto_u32(const uint8_t *p) {
	return sproto_u16(p) | sproto_u16(p + 2) << 16;
}

static inline uint64_t
sproto_u64(const uint8_t *p) {
	return (uint64_t)sproto_u32(p) | (uint64_t)sproto_u32(p + 4) << 32;
}

/* Cuts the first chunk off s into *chunk. False when s does not hold one. */
static inline bool
sproto_slice_chunk(struct sproto_slice *s, struct sproto_slice *chunk) {
	if (s->size < SPROTO_CHUNK_SIZE) {
		return false;
	}
	size_t size = sproto_u32(s->data);
	if (size > s->size - SPROTO_CHUNK_SIZE) {
		return false;
	}
	chunk->data = s->data + SPROTO_CHUNK_SIZE;
	chunk->size = size;
	s->data = chunk->data + size;
	s->size -= SPROTO_CHUNK_SIZE + size;
	return true;
}

/* Starts to read the struct that s begins with; false when it has no room for
 * one. */
static inline bool
sproto_reader_open(struct sproto_reader *r, struct sproto_slice s) {
	if (s.size < SPROTO_WORD_SIZE) {
		return false;
	}
	r->words = sproto_u16(s.data);
	size_t header = SPROTO_WORD_SIZE + (size_t)r->words * SPROTO_WORD_SIZE;
	if (s.size < header) {
		return false;
	}
	r->word = s.data + SPROTO_WORD_SIZE;
	r->tag = -1;
	r->rest.data = s.data + header;
	r->rest.size = s.size - header;
	return true;
}

/* The next field: 1 it is in *item, 0 there is none, -1 malformed. */
static inline int
sproto_reader_next(struct sproto_reader *r, struct sproto_item *item) {
	while (r->words > 0) {
		uint32_t word = sproto_u16(r->word);
		r->word += SPROTO_WORD_SIZE;
		r->words--;
		if (word % 2 == 1) {
			r->tag += (word + 1) / 2;
			continue;
		}
		r->tag++;
		item->tag = r->tag;
		item->value = (int)(word / 2) - 1;
		if (word == 0 && !sproto_slice_chunk(&r->rest, &item->chunk)) {
			return -1;
		}
		return 1;
	}
	return 0;
}

#endif
