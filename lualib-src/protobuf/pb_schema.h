/*
 * Message types of Protocol Buffers, made from a FileDescriptorSet (what `protoc
 * --descriptor_set_out --include_imports` writes).
 *
 * A schema owns all of its types and names, in blocks that go at once with its last reference. It
 * never changes after it was made, so any number of threads may read one.
 *
 * DESIGN. Why our own codec: of the C libraries that every supported system has, protobuf-c and
 * nanopb want code generated and compiled for each schema, where a game loads its schema at run
 * time; upb is packaged as a snapshot that later systems dropped; libprotobuf is C++ and would put
 * a second compiler and runtime into each build. What is needed here, the wire format and
 * descriptor.proto, is small and will not change.
 */
#ifndef PB_SCHEMA_H
#define PB_SCHEMA_H

#include "pb_wire.h"

/* Types as descriptor.proto numbers them. */
enum pb_type {
	PB_TYPE_DOUBLE = 1,
	PB_TYPE_FLOAT,
	PB_TYPE_INT64,
	PB_TYPE_UINT64,
	PB_TYPE_INT32,
	PB_TYPE_FIXED64,
	PB_TYPE_FIXED32,
	PB_TYPE_BOOL,
	PB_TYPE_STRING,
	PB_TYPE_GROUP,
	PB_TYPE_MESSAGE,
	PB_TYPE_BYTES,
	PB_TYPE_UINT32,
	PB_TYPE_ENUM,
	PB_TYPE_SFIXED32,
	PB_TYPE_SFIXED64,
	PB_TYPE_SINT32,
	PB_TYPE_SINT64,
};

struct pb_string {
	const char *s; /* ends with a zero byte beyond its size */
	size_t size;
};

struct pb_enum_value {
	struct pb_string name;
	int32_t number;
	uint32_t id;
};

struct pb_enum {
	struct pb_string name;       /* full, without a dot in front */
	struct pb_enum_value *value; /* in the order of the schema; the first one is the default */
	size_t count;
	/* Values sorted by number; of equal numbers the first name. */
	struct pb_enum_value **by_number;
	size_t number_count;
	struct pb_enum_value **by_name;
	bool is_closed; /* numbers without a name do not belong to it */
};

struct pb_field {
	struct pb_string name; /* "[full.name]" for an extension */
	uint32_t id;           /* of the name, see pb_schema.name */
	uint32_t number;
	enum pb_type type;
	bool is_repeated; /* maps, too */
	bool is_required;
	bool is_packed;
	bool is_map;
	/* Absent and zero are the same. */
	bool is_implicit;
	bool is_utf8;
	int oneof; /* index in its message, or -1 */
	struct pb_message *message;
	struct pb_enum *enum_type;
	/* Of a scalar: text for strings and bytes, otherwise one of the others. */
	struct pb_string default_text;
	int64_t default_integer;
	double default_number;
};

struct pb_message {
	struct pb_string name;  /* full, without a dot in front */
	struct pb_field *field; /* sorted by number */
	size_t count;
	/* Fields 1 to dense_count are at field[number - 1]. */
	size_t dense_count;
	size_t required_count;
	bool is_map_entry;
};

struct pb_schema {
	struct pb_message **message; /* sorted by name */
	size_t message_count;
	struct pb_enum **enums; /* sorted by name */
	size_t enum_count;
	/* Names of fields and enum values by id, for users that keep them in another form. */
	struct pb_string *name;
	size_t name_count;
};

/* What is wrong with a descriptor set, as a sentence. */
struct pb_error {
	char text[512];
};

/* A schema with one reference, or NULL and what is wrong. */
struct pb_schema *pb_schema_new(const void *set, size_t size, struct pb_error *error);

/* One more reference, for somebody who is lent one. */
void pb_schema_ref(struct pb_schema *s);

/* Gives a reference back; with the last one the schema is freed. */
void pb_schema_unref(struct pb_schema *s);

/* A type by its full name, a dot in front or not; NULL when there is none. */
const struct pb_message *pb_schema_message(const struct pb_schema *s, const char *name,
                                           size_t size);

/* The same of an enum. */
const struct pb_enum *pb_schema_enum(const struct pb_schema *s, const char *name, size_t size);

/* The field of a number, or NULL. */
static inline const struct pb_field *
pb_message_field(const struct pb_message *m, uint32_t number) {
	if (number <= m->dense_count) {
		return &m->field[number - 1];
	}
	size_t low = m->dense_count, high = m->count;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (m->field[mid].number == number) {
			return &m->field[mid];
		} else if (m->field[mid].number < number) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return NULL;
}

/* The value of a number, or NULL. */
const struct pb_enum_value *pb_enum_by_number(const struct pb_enum *e, int32_t number);

/* The value of a name, or NULL. */
const struct pb_enum_value *pb_enum_by_name(const struct pb_enum *e, const char *name, size_t size);

/* The wire type of a single value. */
enum pb_wire pb_type_wire(enum pb_type type);

/* Whether values may be packed: all but texts and messages. */
static inline bool
pb_type_is_packable(enum pb_type type) {
	return type != PB_TYPE_STRING && type != PB_TYPE_BYTES && type != PB_TYPE_MESSAGE &&
	       type != PB_TYPE_GROUP;
}

#endif
