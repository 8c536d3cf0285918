/* See bson_read.h. Invariant of all functions: r->at <= r->end, and nothing beyond is looked at. */
#include "bson_read.h"

#include <stdio.h>
#include <string.h>

/* Refuse: `have` bytes are left where `need` are wanted. */
static bool
too_short(struct bson_fault *fault, long long have, long long need) {
	snprintf(fault->text, sizeof(fault->text), "Invalid bson block (%lld:%lld)", have, need);
	return false;
}

static bool
refuse(struct bson_fault *fault, const char *text) {
	snprintf(fault->text, sizeof(fault->text), "%s", text);
	return false;
}

bool
bson_open(struct bson_reader *r, const uint8_t *doc, size_t limit, struct bson_fault *fault) {
	if (limit < 4) {
		return too_short(fault, (long long)limit, 4);
	}
	long long size = (int32_t)bson_get_u32(doc);
	if (size < BSON_MIN_DOCUMENT) {
		return too_short(fault, size - BSON_MIN_DOCUMENT, 1);
	}
	if ((unsigned long long)size > limit) {
		return too_short(fault, (long long)limit - 4, size - BSON_MIN_DOCUMENT);
	}
	r->at = doc + 4;
	r->end = doc + size - 1;
	return *r->end == 0 || refuse(fault, "Invalid document end");
}

static size_t
left(const struct bson_reader *r) {
	return (size_t)(r->end - r->at);
}

/* The next `size` bytes are the value. */
static bool
take(struct bson_reader *r, struct bson_element *e, size_t size, struct bson_fault *fault) {
	if (left(r) < size) {
		return too_short(fault, (long long)left(r), (long long)size);
	}
	e->value = r->at;
	e->size = size;
	r->at += size;
	return true;
}

/* A text that ends with a zero byte; gives its size without it. */
static bool
take_cstring(struct bson_reader *r, size_t *size, struct bson_fault *fault) {
	const uint8_t *zero = memchr(r->at, 0, left(r));
	if (zero == NULL) {
		return refuse(fault, "Invalid bson block : cstring");
	}
	*size = (size_t)(zero - r->at);
	r->at = zero + 1;
	return true;
}

static bool
take_length(struct bson_reader *r, int32_t *length, struct bson_fault *fault) {
	struct bson_element e;
	if (!take(r, &e, 4, fault)) {
		return false;
	}
	*length = (int32_t)bson_get_u32(e.value);
	return true;
}

/* Length with the zero, bytes, zero. */
static bool
take_string(struct bson_reader *r, struct bson_element *e, struct bson_fault *fault) {
	int32_t length;
	if (!take_length(r, &length, fault)) {
		return false;
	}
	if (length <= 0) {
		snprintf(fault->text, sizeof(fault->text), "Invalid bson string , length = %d",
		         (int)length);
		return false;
	}
	if (!take(r, e, (size_t)length, fault)) {
		return false;
	}
	e->size--;
	return e->value[e->size] == 0 || refuse(fault, "Invalid bson string : no end");
}

static bool
take_binary(struct bson_reader *r, struct bson_element *e, struct bson_fault *fault) {
	int32_t length;
	if (!take_length(r, &length, fault)) {
		return false;
	}
	if (length < 0) {
		return too_short(fault, (long long)left(r), length);
	}
	if (!take(r, e, 1, fault)) {
		return false;
	}
	e->subtype = e->value[0];
	return take(r, e, (size_t)length, fault);
}

/* A document inside, of which only the length is looked at. */
static bool
take_document(struct bson_reader *r, struct bson_element *e, struct bson_fault *fault) {
	const uint8_t *begin = r->at;
	int32_t length;
	if (!take_length(r, &length, fault)) {
		return false;
	}
	if (length < BSON_MIN_DOCUMENT) {
		return too_short(fault, (long long)length - BSON_MIN_DOCUMENT, 1);
	}
	if (left(r) < (size_t)length - 4) {
		return too_short(fault, (long long)left(r), (long long)length - BSON_MIN_DOCUMENT);
	}
	r->at = begin;
	return take(r, e, (size_t)length, fault);
}

static bool
take_regex(struct bson_reader *r, struct bson_element *e, struct bson_fault *fault) {
	size_t size;
	e->value = r->at;
	if (!take_cstring(r, &size, fault) || !take_cstring(r, &size, fault)) {
		return false;
	}
	e->size = (size_t)(r->at - e->value);
	return true;
}

/* The deprecated kinds: a string, and then `more` bytes; or a length that counts itself. */
static bool
take_raw(struct bson_reader *r, struct bson_element *e, struct bson_fault *fault) {
	const uint8_t *begin = r->at;
	if (e->type == BSON_CODE_SCOPE) {
		// At least its length, an empty string and an empty document.
		enum { MIN_CODE_SCOPE = 4 + BSON_MIN_DOCUMENT + BSON_MIN_DOCUMENT };
		int32_t length;
		if (!take_length(r, &length, fault)) {
			return false;
		}
		if (length < MIN_CODE_SCOPE) {
			return too_short(fault, length, MIN_CODE_SCOPE);
		}
		r->at = begin;
		return take(r, e, (size_t)length, fault);
	}
	size_t more = e->type == BSON_DBPOINTER ? BSON_OBJECTID_SIZE : 0;
	if (!take_string(r, e, fault) || !take(r, e, more, fault)) {
		return false;
	}
	e->value = begin;
	e->size = (size_t)(r->at - begin);
	return true;
}

static bool
take_value(struct bson_reader *r, struct bson_element *e, struct bson_fault *fault) {
	switch (e->type) {
	case BSON_DOUBLE:
	case BSON_DATE:
	case BSON_TIMESTAMP:
	case BSON_INT64:
		return take(r, e, 8, fault);
	case BSON_INT32:
		return take(r, e, 4, fault);
	case BSON_BOOLEAN:
		return take(r, e, 1, fault);
	case BSON_NULL:
	case BSON_MINKEY:
	case BSON_MAXKEY:
		return take(r, e, 0, fault);
	case BSON_OBJECTID:
		return take(r, e, BSON_OBJECTID_SIZE, fault);
	case BSON_STRING:
		return take_string(r, e, fault);
	case BSON_DOCUMENT:
	case BSON_ARRAY:
		return take_document(r, e, fault);
	case BSON_BINARY:
		return take_binary(r, e, fault);
	case BSON_REGEX:
		return take_regex(r, e, fault);
	case BSON_DBPOINTER:
	case BSON_CODE:
	case BSON_SYMBOL:
	case BSON_CODE_SCOPE:
		return take_raw(r, e, fault);
	default:
		snprintf(fault->text, sizeof(fault->text), "Invalid bson type : %d", e->type);
		return false;
	}
}

int
bson_next(struct bson_reader *r, struct bson_element *e, struct bson_fault *fault) {
	if (r->at == r->end) {
		return 0;
	}
	e->type = *r->at++;
	e->subtype = 0;
	e->key = (const char *)r->at;
	return take_cstring(r, &e->key_size, fault) && take_value(r, e, fault) ? 1 : -1;
}
