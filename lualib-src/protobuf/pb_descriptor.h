/*
 * Reading a FileDescriptorSet into lists, the first step of making a schema; private to
 * pb_descriptor.c, which reads, and pb_schema.c, which links names and types. One thread.
 */
#ifndef PB_DESCRIPTOR_H
#define PB_DESCRIPTOR_H

#include "pb_arena.h"
#include "pb_schema.h"

/* Message types inside each other in a descriptor. */
#define PB_MAX_NESTING 64

enum pb_label { PB_OPTIONAL = 1, PB_REQUIRED, PB_REPEATED };

/* A field as its descriptor has it. */
struct pb_raw_field {
	struct pb_raw_field *next;
	struct pb_field field;        /* name, number, type, oneof */
	struct pb_raw_message *owner; /* NULL for an extension */
	struct pb_message *target;    /* set by pb_schema.c: whose field it becomes */
	struct pb_string scope;       /* of an extension */
	struct pb_string extendee;
	struct pb_string type_name;
	struct pb_string default_value;
	uint64_t label;
	bool has_default;
	bool has_packed;
	bool packed;
	bool is_proto3;
	bool is_proto3_optional;
};

struct pb_raw_message {
	struct pb_raw_message *next;
	struct pb_message *message;
};

struct pb_raw_enum {
	struct pb_raw_enum *next;
	struct pb_enum *enum_type;
};

struct pb_builder {
	struct pb_arena *arena;  /* of the schema */
	struct pb_arena scratch; /* for the lists */
	struct pb_raw_field *fields;
	struct pb_raw_message *messages;
	struct pb_raw_enum *enums;
	struct pb_raw_file *files; /* seen before */
	size_t field_count, message_count, enum_count, name_count;
	struct pb_error *error;
};

/* Says what is wrong, unless something was wrong before; false. */
bool __attribute__((format(printf, 2, 3))) pb_fail(struct pb_builder *b, const char *format, ...);

/* Memory, zeroed; NULL and an error when there is none. */
void *pb_take(struct pb_builder *b, struct pb_arena *a, size_t size);

/* Reads all files of the set into the lists. */
bool pb_read_set(struct pb_builder *b, const void *set, size_t size);

#endif
