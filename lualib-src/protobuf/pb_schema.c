/* Making schemas: names become types, fields get their order. See pb_schema.h. */
#include "pb_schema.h"

#include "pb_descriptor.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

struct owned_schema {
	struct pb_schema schema; /* first: users have its address */
	struct pb_arena arena;
	atomic_uint references;
};

static bool
is_dotted(const char *name, size_t size) {
	return size > 0 && name[0] == '.';
}

static int
compare_strings(const struct pb_string *a, const struct pb_string *b) {
	size_t size = a->size < b->size ? a->size : b->size;
	int order = memcmp(a->s, b->s, size);
	return order != 0 ? order : a->size < b->size ? -1 : a->size > b->size;
}

//------------------------------------------------------------- finding types

/* The one of the sorted `list` with the name; all kinds of types begin with their name. */
static void *
find_type(void *const *list, size_t count, const char *name, size_t size) {
	struct pb_string wanted = {name, size};
	if (is_dotted(name, size)) {
		wanted = (struct pb_string){name + 1, size - 1};
	}
	size_t low = 0, high = count;
	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = compare_strings(list[mid], &wanted);
		if (order == 0) {
			return list[mid];
		} else if (order < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return NULL;
}

const struct pb_message *
pb_schema_message(const struct pb_schema *s, const char *name, size_t size) {
	return find_type((void *const *)s->message, s->message_count, name, size);
}

const struct pb_enum *
pb_schema_enum(const struct pb_schema *s, const char *name, size_t size) {
	return find_type((void *const *)s->enums, s->enum_count, name, size);
}

const struct pb_enum_value *
pb_enum_by_name(const struct pb_enum *e, const char *name, size_t size) {
	struct pb_string wanted = {name, size};
	size_t low = 0, high = e->count;
	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = compare_strings(&e->by_name[mid]->name, &wanted);
		if (order == 0) {
			return e->by_name[mid];
		} else if (order < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return NULL;
}

const struct pb_enum_value *
pb_enum_by_number(const struct pb_enum *e, int32_t number) {
	size_t low = 0, high = e->number_count;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (e->by_number[mid]->number == number) {
			return e->by_number[mid];
		} else if (e->by_number[mid]->number < number) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	return NULL;
}

enum pb_wire
pb_type_wire(enum pb_type type) {
	switch (type) {
	case PB_TYPE_DOUBLE:
	case PB_TYPE_FIXED64:
	case PB_TYPE_SFIXED64:
		return PB_FIXED64;
	case PB_TYPE_FLOAT:
	case PB_TYPE_FIXED32:
	case PB_TYPE_SFIXED32:
		return PB_FIXED32;
	case PB_TYPE_STRING:
	case PB_TYPE_BYTES:
	case PB_TYPE_MESSAGE:
		return PB_BYTES;
	case PB_TYPE_GROUP:
		return PB_START_GROUP;
	default:
		return PB_VARINT;
	}
}

//------------------------------------------------------------------ defaults

static int
hex_digit(char c) {
	return c >= '0' && c <= '9'                 ? c - '0'
	       : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
	                                            : -1;
}

/* One character after a backslash; returns how many characters were read. */
static size_t
unescape_one(const char *s, size_t size, char *out) {
	static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
	const char *simple = s[0] != 0 ? strchr(from, s[0]) : NULL;
	if (simple != NULL) {
		*out = to[simple - from];
		return 1;
	}
	size_t n = 0;
	unsigned value = 0;
	if (s[0] == 'x' || s[0] == 'X') {
		for (n = 1; n < size && n < 3 && hex_digit(s[n]) >= 0; n++) {
			value = value * 16 + (unsigned)hex_digit(s[n]);
		}
	} else {
		for (; n < size && n < 3 && s[n] >= '0' && s[n] <= '7'; n++) {
			value = value * 8 + (unsigned)(s[n] - '0');
		}
	}
	*out = n > 0 ? (char)value : s[0];
	return n > 0 ? n : 1;
}

/* The default of a bytes field is written as in C. */
static struct pb_string
unescape(struct pb_builder *b, struct pb_string text) {
	char *out = pb_take(b, b->arena, text.size + 1);
	if (out == NULL) {
		return (struct pb_string){"", 0};
	}
	size_t n = 0;
	for (size_t i = 0; i < text.size;) {
		if (text.s[i] == '\\' && i + 1 < text.size) {
			i++;
			i += unescape_one(text.s + i, text.size - i, &out[n++]);
		} else {
			out[n++] = text.s[i++];
		}
	}
	out[n] = 0;
	return (struct pb_string){out, n};
}

static bool
read_default_number(struct pb_field *f, const char *text) {
	char *end;
	errno = 0;
	if (f->type == PB_TYPE_DOUBLE || f->type == PB_TYPE_FLOAT) {
		f->default_number = strtod(text, &end);
	} else if (text[0] == '-') {
		f->default_integer = strtoll(text, &end, 0);
	} else {
		f->default_integer = (int64_t)strtoull(text, &end, 0);
	}
	return end != text && *end == 0;
}

static bool
set_default(struct pb_builder *b, const struct pb_raw_field *raw, struct pb_field *f) {
	const struct pb_string *text = &raw->default_value;
	f->default_text = (struct pb_string){"", 0};
	if (f->type == PB_TYPE_ENUM) {
		f->default_integer = f->enum_type->value[0].number;
	}
	if (!raw->has_default || f->is_repeated) {
		return true;
	}
	bool ok = true;
	if (f->type == PB_TYPE_STRING) {
		f->default_text = *text;
	} else if (f->type == PB_TYPE_BYTES) {
		f->default_text = unescape(b, *text);
	} else if (f->type == PB_TYPE_BOOL) {
		f->default_integer = strcmp(text->s, "true") == 0;
		ok = f->default_integer != 0 || strcmp(text->s, "false") == 0;
	} else if (f->type == PB_TYPE_ENUM) {
		const struct pb_enum_value *v = pb_enum_by_name(f->enum_type, text->s, text->size);
		ok = v != NULL;
		f->default_integer = ok ? v->number : 0;
	} else {
		ok = f->message == NULL && read_default_number(f, text->s);
	}
	return ok || pb_fail(b, "field %s: \"%s\" is no default of its type", f->name.s, text->s);
}

//-------------------------------------------------------------------- fields

/* Finds the type that a field names, and the kind when the descriptor leaves that open. */
static bool
resolve_type(struct pb_builder *b, const struct pb_schema *s, const struct pb_raw_field *raw,
             struct pb_field *f) {
	const struct pb_string *name = &raw->type_name;
	if (name->size == 0) {
		bool needs_name = f->type == PB_TYPE_MESSAGE || f->type == PB_TYPE_GROUP ||
		                  f->type == PB_TYPE_ENUM || f->type == 0;
		return !needs_name || pb_fail(b, "field %s has no type", f->name.s);
	}
	f->message = find_type((void *const *)s->message, s->message_count, name->s, name->size);
	f->enum_type = find_type((void *const *)s->enums, s->enum_count, name->s, name->size);
	if (f->message == NULL && f->enum_type == NULL) {
		return pb_fail(b,
		               "field %s: type %s is not in the descriptor set (protoc --include_imports "
		               "puts it there)",
		               f->name.s, name->s);
	}
	if (f->type == 0) {
		f->type = f->message != NULL ? PB_TYPE_MESSAGE : PB_TYPE_ENUM;
	}
	bool is_message = f->type == PB_TYPE_MESSAGE || f->type == PB_TYPE_GROUP;
	if (is_message ? f->message == NULL : f->type != PB_TYPE_ENUM || f->enum_type == NULL) {
		return pb_fail(b, "field %s: type %s is of another kind", f->name.s, name->s);
	}
	if (is_message) {
		f->enum_type = NULL;
	} else {
		f->message = NULL;
	}
	return true;
}

static bool
resolve_field(struct pb_builder *b, const struct pb_schema *s, struct pb_raw_field *raw) {
	struct pb_field *f = &raw->field;
	if (f->number == 0 || f->number > PB_MAX_NUMBER) {
		return pb_fail(b, "field %s: number %u is out of range", f->name.s, f->number);
	} else if (f->type > PB_TYPE_SINT64 || (int)f->type < 0) {
		return pb_fail(b, "field %s: unknown type %d", f->name.s, (int)f->type);
	} else if (raw->label > PB_REPEATED) {
		return pb_fail(b, "field %s: unknown label %d", f->name.s, (int)raw->label);
	} else if (!resolve_type(b, s, raw, f)) {
		return false;
	}
	f->is_repeated = raw->label == PB_REPEATED;
	f->is_required = raw->label == PB_REQUIRED;
	f->is_packed = f->is_repeated && pb_type_is_packable(f->type) &&
	               (raw->has_packed ? raw->packed : raw->is_proto3);
	f->is_map = f->is_repeated && f->message != NULL && f->message->is_map_entry;
	f->is_utf8 = f->type == PB_TYPE_STRING && raw->is_proto3;
	if (raw->is_proto3_optional) {
		f->oneof = -1; // of one member, which says no more
	}
	f->is_implicit = raw->is_proto3 && !f->is_repeated && f->message == NULL && f->oneof < 0 &&
	                 raw->owner != NULL && !raw->is_proto3_optional;
	return set_default(b, raw, f);
}

/* The message that an extension belongs to; its name becomes "[full.name]". */
static struct pb_message *
resolve_extension(struct pb_builder *b, const struct pb_schema *s, struct pb_raw_field *raw) {
	const struct pb_string *to = &raw->extendee;
	struct pb_message *m = find_type((void *const *)s->message, s->message_count,
	                                 to->s != NULL ? to->s : "", to->size);
	if (m == NULL) {
		pb_fail(b, "extension %s: message %s is not in the descriptor set", raw->field.name.s,
		        to->s != NULL ? to->s : "");
		return NULL;
	}
	const char *dot = raw->scope.size > 0 ? "." : "";
	size_t size = raw->scope.size + strlen(dot) + raw->field.name.size + 2;
	char *name = pb_take(b, b->arena, size + 1);
	if (name == NULL) {
		return NULL;
	}
	snprintf(name, size + 1, "[%s%s%s]", raw->scope.s, dot, raw->field.name.s);
	raw->field.name = (struct pb_string){name, size};
	return m;
}

//------------------------------------------------------------------ messages

static int
by_field_number(const void *a, const void *b) {
	const struct pb_field *x = a, *y = b;
	return x->number < y->number ? -1 : x->number > y->number;
}

static int
by_field_name(const void *a, const void *b) {
	const struct pb_field *const *x = a, *const *y = b;
	return compare_strings(&(*x)->name, &(*y)->name);
}

static bool
check_names(struct pb_builder *b, struct pb_message *m) {
	const struct pb_field **list = pb_take(b, &b->scratch, m->count * sizeof(*list));
	if (list == NULL) {
		return false;
	}
	for (size_t i = 0; i < m->count; i++) {
		list[i] = &m->field[i];
	}
	qsort(list, m->count, sizeof(*list), by_field_name);
	for (size_t i = 1; i < m->count; i++) {
		if (compare_strings(&list[i]->name, &list[i - 1]->name) == 0) {
			return pb_fail(b, "message %s has two fields %s", m->name.s, list[i]->name.s);
		}
	}
	return true;
}

static bool
is_map_key(const struct pb_field *f) {
	return !f->is_repeated && f->message == NULL && f->type != PB_TYPE_DOUBLE &&
	       f->type != PB_TYPE_FLOAT && f->type != PB_TYPE_BYTES && f->type != PB_TYPE_ENUM;
}

static bool
finish_message(struct pb_builder *b, struct pb_message *m) {
	qsort(m->field, m->count, sizeof(*m->field), by_field_number);
	for (size_t i = 0; i < m->count; i++) {
		const struct pb_field *f = &m->field[i];
		if (i > 0 && f->number == f[-1].number) {
			return pb_fail(b, "message %s: fields %s and %s have number %u", m->name.s,
			               f[-1].name.s, f->name.s, f->number);
		}
		m->dense_count += f->number == i + 1;
		m->required_count += f->is_required;
	}
	if (m->is_map_entry && (m->count != 2 || m->dense_count != 2 || !is_map_key(&m->field[0]) ||
	                        m->field[1].is_repeated)) {
		return pb_fail(b, "message %s is no map entry", m->name.s);
	}
	return check_names(b, m);
}

/* Gives each message an array for its fields, and moves them there. */
static bool
distribute_fields(struct pb_builder *b, const struct pb_schema *s) {
	for (struct pb_raw_field *raw = b->fields; raw != NULL; raw = raw->next) {
		struct pb_message *m =
		    raw->owner != NULL ? raw->owner->message : resolve_extension(b, s, raw);
		if (m == NULL) {
			return false;
		}
		raw->target = m;
		m->count++;
	}
	for (size_t i = 0; i < s->message_count; i++) {
		struct pb_message *m = s->message[i];
		m->field = pb_take(b, b->arena, m->count * sizeof(*m->field));
		if (m->field == NULL) {
			return false;
		}
		m->count = 0;
	}
	for (struct pb_raw_field *raw = b->fields; raw != NULL; raw = raw->next) {
		if (!resolve_field(b, s, raw)) {
			return false;
		}
		struct pb_message *m = raw->target;
		s->name[raw->field.id] = raw->field.name;
		m->field[m->count++] = raw->field;
	}
	for (size_t i = 0; i < s->message_count; i++) {
		if (!finish_message(b, s->message[i])) {
			return false;
		}
	}
	return true;
}

//--------------------------------------------------------------------- enums

static int
by_number(const void *a, const void *b) {
	const struct pb_enum_value *x = *(struct pb_enum_value *const *)a;
	const struct pb_enum_value *y = *(struct pb_enum_value *const *)b;
	if (x->number != y->number) {
		return x->number < y->number ? -1 : 1;
	}
	return x < y ? -1 : x > y;
}

static int
by_value_name(const void *a, const void *b) {
	const struct pb_enum_value *const *x = a, *const *y = b;
	return compare_strings(&(*x)->name, &(*y)->name);
}

static bool
finish_enum(struct pb_builder *b, const struct pb_schema *s, struct pb_enum *e) {
	e->by_number = pb_take(b, b->arena, e->count * sizeof(*e->by_number));
	e->by_name = pb_take(b, b->arena, e->count * sizeof(*e->by_name));
	if (e->by_number == NULL || e->by_name == NULL) {
		return false;
	}
	for (size_t i = 0; i < e->count; i++) {
		e->by_number[i] = e->by_name[i] = &e->value[i];
		s->name[e->value[i].id] = e->value[i].name;
	}
	qsort(e->by_number, e->count, sizeof(*e->by_number), by_number);
	qsort(e->by_name, e->count, sizeof(*e->by_name), by_value_name);
	for (size_t i = 0; i < e->count; i++) {
		if (i > 0 && compare_strings(&e->by_name[i]->name, &e->by_name[i - 1]->name) == 0) {
			return pb_fail(b, "enum %s has two values %s", e->name.s, e->by_name[i]->name.s);
		}
		// The first name of a number stays.
		if (i == 0 || e->by_number[i]->number != e->by_number[e->number_count - 1]->number) {
			e->by_number[e->number_count++] = e->by_number[i];
		}
	}
	return true;
}

//------------------------------------------------------------------- schemas

/* All kinds of types begin with their name. */
static int
by_type_name(const void *a, const void *b) {
	return compare_strings(*(struct pb_string *const *)a, *(struct pb_string *const *)b);
}

static bool
sort_types(struct pb_builder *b, void **list, size_t count) {
	if (count > 0) {
		qsort(list, count, sizeof(*list), by_type_name);
	}
	for (size_t i = 1; i < count; i++) {
		if (by_type_name(&list[i], &list[i - 1]) == 0) {
			return pb_fail(b, "two types are called %s", ((struct pb_string *)list[i])->s);
		}
	}
	return true;
}

static bool
link_types(struct pb_builder *b, struct pb_schema *s) {
	s->message = pb_take(b, b->arena, b->message_count * sizeof(*s->message));
	s->enums = pb_take(b, b->arena, b->enum_count * sizeof(*s->enums));
	s->name = pb_take(b, b->arena, b->name_count * sizeof(*s->name));
	if (s->message == NULL || s->enums == NULL || s->name == NULL) {
		return false;
	}
	s->name_count = b->name_count;
	for (const struct pb_raw_message *m = b->messages; m != NULL; m = m->next) {
		s->message[s->message_count++] = m->message;
	}
	for (const struct pb_raw_enum *e = b->enums; e != NULL; e = e->next) {
		s->enums[s->enum_count++] = e->enum_type;
	}
	if (!sort_types(b, (void **)s->message, s->message_count) ||
	    !sort_types(b, (void **)s->enums, s->enum_count)) {
		return false;
	}
	for (size_t i = 0; i < s->enum_count; i++) {
		if (!finish_enum(b, s, s->enums[i])) {
			return false;
		}
	}
	return distribute_fields(b, s);
}

struct pb_schema *
pb_schema_new(const void *set, size_t size, struct pb_error *error) {
	struct owned_schema *o = calloc(1, sizeof(*o));
	error->text[0] = 0;
	struct pb_builder b = {.arena = o != NULL ? &o->arena : NULL, .error = error};
	if (o == NULL) {
		pb_fail(&b, "not enough memory for the schema");
		return NULL;
	}
	atomic_init(&o->references, 1);
	bool ok = pb_read_set(&b, set, size) && link_types(&b, &o->schema);
	pb_arena_free(&b.scratch);
	if (!ok) {
		pb_schema_unref(&o->schema);
		return NULL;
	}
	return &o->schema;
}

void
pb_schema_ref(struct pb_schema *s) {
	// Relaxed: whoever takes another reference has one already.
	atomic_fetch_add_explicit(&((struct owned_schema *)s)->references, 1, memory_order_relaxed);
}

void
pb_schema_unref(struct pb_schema *s) {
	struct owned_schema *o = (struct owned_schema *)s;
	// Release and acquire: what other owners read happens before the last one frees.
	if (atomic_fetch_sub_explicit(&o->references, 1, memory_order_acq_rel) == 1) {
		pb_arena_free(&o->arena);
		free(o);
	}
}
