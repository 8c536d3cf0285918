/*
 * A compiled schema: types, their fields, protocols. Built from a bundle, then
 * never written again, so that any number of VMs and threads read it at once.
 * It is counted: whoever holds a reference may use everything reachable from it.
 */
#ifndef SPROTO_SCHEMA_H
#define SPROTO_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Type codes; the first four are what a bundle may say. */
enum sproto_code { SPROTO_INTEGER, SPROTO_BOOLEAN, SPROTO_STRING, SPROTO_DOUBLE, SPROTO_STRUCT };

struct sproto_field {
	const char *name;
	int tag;
	enum sproto_code code;
	bool is_array;
	bool is_binary;                       /* of a string */
	bool is_decimal;                      /* of an integer: stored times factor */
	bool is_map;                          /* of an array of structs: key field -> other field */
	int64_t factor;                       /* 10 to the number of digits */
	const struct sproto_type *type;       /* of a struct */
	const struct sproto_field *key;       /* main index or map key, in *type; or NULL */
	const struct sproto_field *map_value; /* of a map: the other field */
};

struct sproto_type {
	const char *name;
	int n;
	unsigned max_words;               /* of an encoded struct */
	const struct sproto_field *field; /* by rising tag */
};

struct sproto_protocol {
	const char *name;
	int tag;
	bool confirm;                       /* a response without content */
	const struct sproto_type *request;  /* or NULL */
	const struct sproto_type *response; /* or NULL */
};

struct sproto_schema;

/*
 * Builds a schema from a bundle (the bytes stay the caller's). Gives a reference,
 * or NULL when the bundle is malformed or there is no memory.
 */
struct sproto_schema *sproto_schema_new(const void *bundle, size_t size);

/* One reference more; returns s. Any thread. */
struct sproto_schema *sproto_schema_ref(struct sproto_schema *s);

/* Takes a reference; the last one frees the schema. NULL is allowed. Any thread. */
void sproto_schema_unref(struct sproto_schema *s);

/* Lookups: NULL when there is none. They lend: the result lives as the schema. */
const struct sproto_type *sproto_schema_type(const struct sproto_schema *s, const char *name);
const struct sproto_protocol *sproto_schema_protocol(const struct sproto_schema *s,
                                                     const char *name);
const struct sproto_protocol *sproto_schema_protocol_by_tag(const struct sproto_schema *s,
                                                            int64_t tag);

/* Prints the schema for people. */
void sproto_schema_dump(const struct sproto_schema *s, FILE *f);

#endif
