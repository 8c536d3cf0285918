/*
 * Reading BSON: one document is a sequence of elements, each checked against its document before it
 * is given out. Knows nothing of Lua, allocates nothing and does not recurse, so that a fuzzer can
 * drive it directly. The bytes are lent by the caller, and what elements point to lies inside them.
 * Any thread.
 */
#ifndef BSON_READ_H
#define BSON_READ_H

#include "bson_format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why a document was refused, as text for the user. */
struct bson_fault {
	char text[80];
};

/* The elements of one document that were not read yet. */
struct bson_reader {
	const uint8_t *at;
	const uint8_t *end; /* the zero byte that ends the document */
};

/*
 * An element. `value` and `size` depend on its type: the bytes of a text without length and zero;
 * of a binary, its bytes; of a document or an array, the whole of it, still to be opened; of a
 * regex, both parts with their zeros; of the deprecated kinds 12 to 15, all that follows the key;
 * else the number as it stands.
 */
struct bson_element {
	int type;
	int subtype; /* of a binary */
	const char *key;
	size_t key_size;
	const uint8_t *value;
	size_t size;
};

/*
 * Begin the document at `doc`, which may be followed by other bytes up to `limit`. False with a
 * fault when its length is impossible or its end is missing.
 */
bool bson_open(struct bson_reader *r, const uint8_t *doc, size_t limit, struct bson_fault *fault);

/* The next element: 1; 0 at the end; -1 with a fault, after which the reader must not be used. */
int bson_next(struct bson_reader *r, struct bson_element *e, struct bson_fault *fault);

#endif
