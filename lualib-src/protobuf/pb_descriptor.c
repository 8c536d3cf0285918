/* Reading descriptor.proto's messages, see pb_descriptor.h. Numbers of fields are those it gives.
 */
#include "pb_descriptor.h"

#include <stdarg.h>
#include <stdio.h>

/* A file that was read. */
struct pb_raw_file {
	struct pb_raw_file *next;
	struct pb_string name;
};

/* What a message or field inherits from where it stands. */
struct scope {
	struct pb_string name;          /* full name of the message or package around, perhaps empty */
	struct pb_raw_message *message; /* NULL in a file */
	bool is_proto3;
	int depth;
};

/* A field of a descriptor: a number, or bytes. */
struct item {
	uint32_t number;
	enum pb_wire wire;
	uint64_t value;
	struct pb_reader bytes;
};

bool
pb_fail(struct pb_builder *b, const char *format, ...) {
	if (b->error->text[0] == 0) {
		va_list args;
		va_start(args, format);
		vsnprintf(b->error->text, sizeof(b->error->text), format, args);
		va_end(args);
	}
	return false;
}

void *
pb_take(struct pb_builder *b, struct pb_arena *a, size_t size) {
	void *p = pb_arena_take(a, size);
	if (p == NULL) {
		pb_fail(b, "not enough memory for the schema");
	}
	return p;
}

/*
 * The next field of r into *item. False at the end, or when it is malformed, which is then an
 * error: the caller returns whether there was none.
 */
static bool
next_item(struct pb_builder *b, struct pb_reader *r, struct item *item) {
	if (pb_at_end(r) || b->error->text[0] != 0) {
		return false;
	}
	bool ok = pb_read_tag(r, &item->number, &item->wire);
	item->value = 0;
	item->bytes = (struct pb_reader){NULL, NULL};
	if (ok && item->wire == PB_VARINT) {
		ok = pb_read_varint(r, &item->value);
	} else if (ok && item->wire == PB_BYTES) {
		ok = pb_read_part(r, &item->bytes);
	} else if (ok) {
		ok = pb_skip(r, item->number, item->wire, PB_MAX_NESTING);
	}
	return ok || pb_fail(b, "the descriptor set is malformed or cut off");
}

static bool
no_error(const struct pb_builder *b) {
	return b->error->text[0] == 0;
}

/* The text of an item into the schema. */
static struct pb_string
take_text(struct pb_builder *b, const struct item *item) {
	size_t size = (size_t)(item->bytes.end - item->bytes.at);
	char *s = pb_take(b, b->arena, size + 1);
	if (s == NULL) {
		return (struct pb_string){"", 0};
	}
	if (size > 0) {
		memcpy(s, item->bytes.at, size);
	}
	return (struct pb_string){s, size};
}

static struct pb_string
join(struct pb_builder *b, struct pb_string scope, struct pb_string name) {
	if (scope.size == 0) {
		return name;
	}
	size_t size = scope.size + 1 + name.size;
	char *s = pb_take(b, b->arena, size + 1);
	if (s == NULL) {
		return (struct pb_string){"", 0};
	}
	memcpy(s, scope.s, scope.size);
	s[scope.size] = '.';
	memcpy(s + scope.size + 1, name.s, name.size);
	return (struct pb_string){s, size};
}

static bool
is_text(const struct item *item, uint32_t number) {
	return item->number == number && item->wire == PB_BYTES;
}

static bool
is_number(const struct item *item, uint32_t number) {
	return item->number == number && item->wire == PB_VARINT;
}

//--------------------------------------------------------------------- enums

static bool
read_enum_value(struct pb_builder *b, struct pb_reader r, struct pb_enum_value *v) {
	struct item item;
	while (next_item(b, &r, &item)) {
		if (is_text(&item, 1)) {
			v->name = take_text(b, &item);
		} else if (is_number(&item, 2)) {
			v->number = (int32_t)item.value;
		}
	}
	v->id = (uint32_t)b->name_count++;
	return no_error(b) && (v->name.size > 0 || pb_fail(b, "an enum value has no name"));
}

static size_t
count_items(struct pb_builder *b, struct pb_reader r, uint32_t number) {
	struct item item;
	size_t count = 0;
	while (next_item(b, &r, &item)) {
		count += is_text(&item, number);
	}
	return count;
}

static bool
read_enum(struct pb_builder *b, struct pb_reader r, const struct scope *scope) {
	size_t count = count_items(b, r, 2);
	struct pb_enum *e = pb_take(b, b->arena, sizeof(*e));
	struct pb_raw_enum *raw = pb_take(b, &b->scratch, sizeof(*raw));
	struct pb_enum_value *value = pb_take(b, b->arena, count * sizeof(*value));
	if (e == NULL || raw == NULL || value == NULL) {
		return false;
	}
	*e = (struct pb_enum){.value = value, .is_closed = !scope->is_proto3};
	struct item item;
	while (next_item(b, &r, &item)) {
		if (is_text(&item, 1)) {
			e->name = take_text(b, &item);
		} else if (is_text(&item, 2)) {
			read_enum_value(b, item.bytes, &e->value[e->count++]);
		}
	}
	if (!no_error(b)) {
		return false;
	} else if (e->name.size == 0) {
		return pb_fail(b, "an enum in %s has no name", scope->name.s);
	} else if (count == 0) {
		return pb_fail(b, "enum %s has no values", e->name.s);
	}
	e->name = join(b, scope->name, e->name);
	*raw = (struct pb_raw_enum){b->enums, e};
	b->enums = raw;
	b->enum_count++;
	return no_error(b);
}

//-------------------------------------------------------------------- fields

static bool
read_field_options(struct pb_builder *b, struct pb_reader r, struct pb_raw_field *raw) {
	struct item item;
	while (next_item(b, &r, &item)) {
		if (is_number(&item, 2)) {
			raw->has_packed = true;
			raw->packed = item.value != 0;
		}
	}
	return no_error(b);
}

static void
read_field_text(struct pb_builder *b, const struct item *item, struct pb_raw_field *raw) {
	switch (item->number) {
	case 1:
		raw->field.name = take_text(b, item);
		break;
	case 2:
		raw->extendee = take_text(b, item);
		break;
	case 6:
		raw->type_name = take_text(b, item);
		break;
	case 7:
		raw->default_value = take_text(b, item);
		raw->has_default = true;
		break;
	case 8:
		read_field_options(b, item->bytes, raw);
		break;
	default:
		break;
	}
}

static void
read_field_number(const struct item *item, struct pb_raw_field *raw) {
	// Clamped, so that what is out of range stays so.
	uint32_t value = item->value > UINT32_MAX ? UINT32_MAX : (uint32_t)item->value;
	switch (item->number) {
	case 3:
		raw->field.number = value;
		break;
	case 4:
		raw->label = value;
		break;
	case 5:
		raw->field.type = (enum pb_type)value;
		break;
	case 9:
		raw->field.oneof = (int)(value & INT32_MAX);
		break;
	case 17:
		raw->is_proto3_optional = value != 0;
		break;
	default:
		break;
	}
}

/* Reads a FieldDescriptorProto: a field of scope->message, or an extension that stands there. */
static bool
read_field(struct pb_builder *b, struct pb_reader r, const struct scope *scope, bool is_extension) {
	struct pb_raw_field *raw = pb_take(b, &b->scratch, sizeof(*raw));
	if (raw == NULL) {
		return false;
	}
	raw->owner = is_extension ? NULL : scope->message;
	raw->scope = scope->name;
	raw->is_proto3 = scope->is_proto3;
	raw->field.oneof = -1;
	struct item item;
	while (next_item(b, &r, &item)) {
		if (item.wire == PB_BYTES) {
			read_field_text(b, &item, raw);
		} else if (item.wire == PB_VARINT) {
			read_field_number(&item, raw);
		}
	}
	if (no_error(b) && raw->field.name.size == 0) {
		return pb_fail(b, "a field in %s has no name", scope->name.s);
	}
	raw->field.id = (uint32_t)b->name_count++;
	raw->next = b->fields;
	b->fields = raw;
	b->field_count++;
	return no_error(b);
}

//------------------------------------------------------------------ messages

static bool
read_message_options(struct pb_builder *b, struct pb_reader r, struct pb_message *m) {
	struct item item;
	while (next_item(b, &r, &item)) {
		if (is_number(&item, 1) && item.value != 0) {
			return pb_fail(b, "message %s uses message_set_wire_format, which is not supported",
			               m->name.s);
		} else if (is_number(&item, 7)) {
			m->is_map_entry = item.value != 0;
		}
	}
	return no_error(b);
}

/* The first text of a number, empty when there is none. */
static struct pb_string
find_text(struct pb_builder *b, struct pb_reader r, uint32_t number) {
	struct item item;
	while (next_item(b, &r, &item)) {
		if (is_text(&item, number)) {
			return take_text(b, &item);
		}
	}
	return (struct pb_string){"", 0};
}

static bool
read_message(struct pb_builder *b, struct pb_reader r, const struct scope *scope) {
	if (scope->depth >= PB_MAX_NESTING) {
		return pb_fail(b, "more than %d message types inside each other", PB_MAX_NESTING);
	}
	struct pb_message *m = pb_take(b, b->arena, sizeof(*m));
	struct pb_raw_message *raw = pb_take(b, &b->scratch, sizeof(*raw));
	if (m == NULL || raw == NULL) {
		return false;
	}
	m->name = find_text(b, r, 1);
	if (no_error(b) && m->name.size == 0) {
		return pb_fail(b, "a message type in %s has no name", scope->name.s);
	}
	m->name = join(b, scope->name, m->name);
	*raw = (struct pb_raw_message){b->messages, m};
	b->messages = raw;
	b->message_count++;
	struct scope inner = {m->name, raw, scope->is_proto3, scope->depth + 1};
	struct item item;
	while (next_item(b, &r, &item)) {
		if (is_text(&item, 2) || is_text(&item, 6)) {
			read_field(b, item.bytes, &inner, item.number == 6);
		} else if (is_text(&item, 3)) {
			read_message(b, item.bytes, &inner);
		} else if (is_text(&item, 4)) {
			read_enum(b, item.bytes, &inner);
		} else if (is_text(&item, 7)) {
			read_message_options(b, item.bytes, m);
		}
	}
	return no_error(b);
}

//--------------------------------------------------------------------- files

/* Whether a file of this name was read; if not, it counts as read from now on. */
static bool
was_read(struct pb_builder *b, struct pb_string name) {
	for (const struct pb_raw_file *f = b->files; f != NULL; f = f->next) {
		if (f->name.size == name.size && memcmp(f->name.s, name.s, name.size) == 0) {
			return true;
		}
	}
	struct pb_raw_file *f = pb_take(b, &b->scratch, sizeof(*f));
	if (f != NULL) {
		*f = (struct pb_raw_file){b->files, name};
		b->files = f;
	}
	return false;
}

static bool
read_file(struct pb_builder *b, struct pb_reader r) {
	struct pb_string name = find_text(b, r, 1);
	struct pb_string syntax = find_text(b, r, 12);
	struct scope scope = {.name = find_text(b, r, 2), .is_proto3 = strcmp(syntax.s, "proto3") == 0};
	if (!scope.is_proto3 && syntax.size > 0 && strcmp(syntax.s, "proto2") != 0) {
		return pb_fail(b, "file %s: syntax \"%s\" is not supported, only proto2 and proto3", name.s,
		               syntax.s);
	} else if (name.size > 0 && was_read(b, name)) {
		return no_error(b);
	}
	struct item item;
	while (next_item(b, &r, &item)) {
		if (is_text(&item, 4)) {
			read_message(b, item.bytes, &scope);
		} else if (is_text(&item, 5)) {
			read_enum(b, item.bytes, &scope);
		} else if (is_text(&item, 7)) {
			read_field(b, item.bytes, &scope, true);
		}
	}
	return no_error(b);
}

bool
pb_read_set(struct pb_builder *b, const void *set, size_t size) {
	struct pb_reader r = {set, (const uint8_t *)set + size};
	struct item item;
	while (next_item(b, &r, &item)) {
		if (is_text(&item, 1)) {
			read_file(b, item.bytes);
		}
	}
	return no_error(b);
}
