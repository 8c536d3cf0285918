/*
 * Bundles into schemas (see sproto_schema.h). A bundle may come from a file or a
 * peer: every length, number and order in it is checked.
 *
 * The work is done twice by the same code: the first pass counts what is needed,
 * the second fills one block of memory that holds everything.
 */
#include "sproto_schema.h"

#include "sproto_wire.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DIGITS 9 /* of a decimal: the factor must be exact in a double */

struct sproto_schema {
	_Atomic int refs;
	int types;
	int protocols;
	struct sproto_type *type;
	struct sproto_protocol *protocol;
};

/* A pass. The pointers are NULL in the first; the counters run in both. */
struct builder {
	struct sproto_schema *schema;
	struct sproto_field *field;
	char *text;
	int types;
	int protocols;
	int fields;
	size_t text_size;
};

/* Tags in a bundle. */
enum { GROUP_TYPE, GROUP_PROTOCOL, GROUP_TAGS };
enum { TYPE_NAME, TYPE_FIELDS, TYPE_TAGS };
enum {
	FIELD_NAME,
	FIELD_BUILTIN,
	FIELD_TYPE,
	FIELD_TAG,
	FIELD_ARRAY,
	FIELD_KEY,
	FIELD_MAP,
	FIELD_TAGS
};
enum {
	PROTOCOL_NAME,
	PROTOCOL_TAG,
	PROTOCOL_REQUEST,
	PROTOCOL_RESPONSE,
	PROTOCOL_CONFIRM,
	PROTOCOL_TAGS
};

/*---------------------------------------------------------------- primitives */

/* Reads a whole struct into item[tag]; a tag that is absent has tag -1. False
 * when it is malformed or has tags of `tags` and above. */
static bool
read_struct(struct sproto_slice s, struct sproto_item *item, int tags) {
	for (int i = 0; i < tags; i++) {
		item[i].tag = -1;
	}
	struct sproto_reader r;
	struct sproto_item next;
	if (!sproto_reader_open(&r, s)) {
		return false;
	}
	int more;
	while ((more = sproto_reader_next(&r, &next)) > 0) {
		if (next.tag >= tags) {
			return false;
		}
		item[next.tag] = next;
	}
	return more == 0;
}

static bool
is_present(const struct sproto_item *item) {
	return item->tag >= 0;
}

static bool
is_inline(const struct sproto_item *item) {
	return is_present(item) && item->value >= 0;
}

static bool
is_chunk(const struct sproto_item *item) {
	return is_present(item) && item->value < 0;
}

/* Absent, or an inline value. */
static bool
is_optional_inline(const struct sproto_item *item) {
	return !is_chunk(item);
}

static bool
is_set(const struct sproto_item *item) {
	return is_inline(item) && item->value != 0;
}

/* Keeps a name; false when it is no name at all. */
static bool
keep_name(struct builder *b, const struct sproto_item *item, const char **name) {
	if (!is_chunk(item) || item->chunk.size == 0 ||
	    memchr(item->chunk.data, '\0', item->chunk.size) != NULL) {
		return false;
	}
	if (b->text != NULL) {
		char *p = b->text + b->text_size;
		memcpy(p, item->chunk.data, item->chunk.size);
		p[item->chunk.size] = '\0';
		*name = p;
	}
	b->text_size += item->chunk.size + 1;
	return true;
}

/* Chunks in s; -1 when it is not made of chunks. */
static int
count_chunks(struct sproto_slice s) {
	int n = 0;
	struct sproto_slice chunk;
	while (s.size > 0) {
		/* Type numbers are inline values: no more than these can be named. */
		if (!sproto_slice_chunk(&s, &chunk) || n > SPROTO_INLINE_MAX) {
			return -1;
		}
		n++;
	}
	return n;
}

/*-------------------------------------------------------------------- fields */

static bool
read_builtin(const struct sproto_item *item, struct sproto_field *f) {
	if (item[FIELD_BUILTIN].value > SPROTO_DOUBLE) {
		return false;
	}
	f->code = (enum sproto_code)item[FIELD_BUILTIN].value;
	if (!is_present(&item[FIELD_TYPE])) {
		return true;
	}
	int extra = item[FIELD_TYPE].value;
	if (f->code == SPROTO_STRING) {
		f->is_binary = extra != 0;
	} else if (f->code == SPROTO_INTEGER) {
		if (extra > MAX_DIGITS) {
			return false;
		}
		f->is_decimal = true;
		f->factor = 1;
		for (int i = 0; i < extra; i++) {
			f->factor *= 10;
		}
	}
	return true;
}

/* The second pass leaves the key's tag in *f for link_field. */
static bool
read_field(struct builder *b, struct sproto_slice s, struct sproto_field *f) {
	struct sproto_item item[FIELD_TAGS];
	if (!read_struct(s, item, FIELD_TAGS) || !keep_name(b, &item[FIELD_NAME], &f->name)) {
		return false;
	}
	for (int i = FIELD_BUILTIN; i < FIELD_TAGS; i++) {
		if (!is_optional_inline(&item[i])) {
			return false;
		}
	}
	if (!is_inline(&item[FIELD_TAG])) {
		return false;
	}
	f->tag = item[FIELD_TAG].value;
	f->is_array = is_set(&item[FIELD_ARRAY]);
	f->is_map = is_set(&item[FIELD_MAP]);
	bool has_key = is_present(&item[FIELD_KEY]);
	if (is_present(&item[FIELD_BUILTIN])) {
		return !has_key && !f->is_map && read_builtin(item, f);
	}
	if (!is_inline(&item[FIELD_TYPE]) || item[FIELD_TYPE].value >= b->schema->types) {
		return false;
	}
	if ((has_key && !f->is_array) || (f->is_map && !has_key)) {
		return false;
	}
	f->code = SPROTO_STRUCT;
	if (b->field != NULL) {
		f->type = &b->schema->type[item[FIELD_TYPE].value];
	}
	/* Until all types are read, the key's tag travels in factor; -1: none. */
	f->factor = has_key ? item[FIELD_KEY].value : -1;
	return true;
}

static const struct sproto_field *
find_field(const struct sproto_type *t, int64_t tag) {
	for (int i = 0; i < t->n; i++) {
		if (t->field[i].tag == tag) {
			return &t->field[i];
		}
	}
	return NULL;
}

/* All types are there: finds the key field, and the value field of a map. */
static bool
link_field(struct sproto_field *f) {
	if (f->code != SPROTO_STRUCT || f->factor < 0) {
		return true;
	}
	f->key = find_field(f->type, f->factor);
	if (f->key == NULL || f->key->code == SPROTO_STRUCT || f->key->is_array) {
		return false;
	}
	if (f->is_map) {
		if (f->type->n != 2) {
			return false;
		}
		f->map_value = &f->type->field[f->key == &f->type->field[0] ? 1 : 0];
	}
	return true;
}

/*--------------------------------------------------------------------- types */

/* A struct needs a word for each field and one more for each hole in the tags;
 * skipping an absent field takes the word that it does not use. */
static unsigned
max_words(const struct sproto_type *t) {
	unsigned words = 0;
	int next = 0;
	for (int i = 0; i < t->n; i++) {
		words += t->field[i].tag > next ? 2 : 1;
		next = t->field[i].tag + 1;
	}
	return words;
}

static bool
read_fields(struct builder *b, struct sproto_slice s, struct sproto_type *t) {
	struct sproto_slice chunk;
	int last = -1;
	t->field = b->field == NULL ? NULL : b->field + b->fields;
	t->n = 0;
	while (s.size > 0) {
		struct sproto_field scratch = {0};
		struct sproto_field *f = b->field == NULL ? &scratch : &b->field[b->fields];
		if (!sproto_slice_chunk(&s, &chunk) || !read_field(b, chunk, f) || f->tag <= last) {
			return false;
		}
		last = f->tag;
		t->n++;
		b->fields++;
	}
	return true;
}

static bool
read_type(struct builder *b, struct sproto_slice s, struct sproto_type *t) {
	struct sproto_item item[TYPE_TAGS];
	if (!read_struct(s, item, TYPE_TAGS) || !keep_name(b, &item[TYPE_NAME], &t->name)) {
		return false;
	}
	if (!is_present(&item[TYPE_FIELDS])) {
		return true;
	}
	return is_chunk(&item[TYPE_FIELDS]) && read_fields(b, item[TYPE_FIELDS].chunk, t);
}

static bool
read_types(struct builder *b, struct sproto_slice s) {
	struct sproto_slice chunk;
	while (s.size > 0) {
		struct sproto_type scratch = {0};
		struct sproto_type *t = b->field == NULL ? &scratch : &b->schema->type[b->types];
		if (!sproto_slice_chunk(&s, &chunk) || !read_type(b, chunk, t)) {
			return false;
		}
		b->types++;
	}
	return true;
}

/*----------------------------------------------------------------- protocols */

/* An optional type number. */
static bool
read_body(struct builder *b, const struct sproto_item *item, const struct sproto_type **t) {
	if (!is_present(item)) {
		return true;
	}
	if (!is_inline(item) || item->value >= b->schema->types) {
		return false;
	}
	*t = b->field == NULL ? NULL : &b->schema->type[item->value];
	return true;
}

static bool
read_protocol(struct builder *b, struct sproto_slice s, struct sproto_protocol *p) {
	struct sproto_item item[PROTOCOL_TAGS];
	if (!read_struct(s, item, PROTOCOL_TAGS) || !keep_name(b, &item[PROTOCOL_NAME], &p->name)) {
		return false;
	}
	if (!is_inline(&item[PROTOCOL_TAG]) || !is_optional_inline(&item[PROTOCOL_CONFIRM])) {
		return false;
	}
	p->tag = item[PROTOCOL_TAG].value;
	p->confirm = is_set(&item[PROTOCOL_CONFIRM]);
	return read_body(b, &item[PROTOCOL_REQUEST], &p->request) &&
	       read_body(b, &item[PROTOCOL_RESPONSE], &p->response);
}

static bool
read_protocols(struct builder *b, struct sproto_slice s) {
	struct sproto_slice chunk;
	int last = -1;
	while (s.size > 0) {
		struct sproto_protocol scratch = {0};
		struct sproto_protocol *p =
		    b->field == NULL ? &scratch : &b->schema->protocol[b->protocols];
		if (!sproto_slice_chunk(&s, &chunk) || !read_protocol(b, chunk, p) || p->tag <= last) {
			return false;
		}
		last = p->tag;
		b->protocols++;
	}
	return true;
}

/*-------------------------------------------------------------------- schema */

/* The two arrays of a bundle; absent ones are empty. */
static bool
read_group(const void *bundle, size_t size, struct sproto_slice part[GROUP_TAGS]) {
	struct sproto_item item[GROUP_TAGS];
	if (!read_struct((struct sproto_slice){bundle, size}, item, GROUP_TAGS)) {
		return false;
	}
	for (int i = 0; i < GROUP_TAGS; i++) {
		part[i] = (struct sproto_slice){0};
		if (is_inline(&item[i])) {
			return false;
		}
		if (is_chunk(&item[i])) {
			part[i] = item[i].chunk;
		}
	}
	return part[GROUP_TYPE].size + part[GROUP_PROTOCOL].size > 0;
}

static bool
run_pass(struct builder *b, const struct sproto_slice part[GROUP_TAGS]) {
	return read_types(b, part[GROUP_TYPE]) && read_protocols(b, part[GROUP_PROTOCOL]);
}

/* One block: schema, types, protocols, fields, text. All alignments are those
 * of a pointer. */
static struct sproto_schema *
allocate(const struct builder *count, struct builder *b) {
	size_t types = (size_t)count->types * sizeof(struct sproto_type);
	size_t protocols = (size_t)count->protocols * sizeof(struct sproto_protocol);
	size_t fields = (size_t)count->fields * sizeof(struct sproto_field);
	struct sproto_schema *s =
	    calloc(1, sizeof(*s) + types + protocols + fields + count->text_size + 1);
	if (s == NULL) {
		return NULL;
	}
	char *p = (char *)(s + 1);
	atomic_init(&s->refs, 1);
	s->types = count->types;
	s->protocols = count->protocols;
	s->type = (struct sproto_type *)p;
	s->protocol = (struct sproto_protocol *)(p + types);
	b->schema = s;
	b->field = (struct sproto_field *)(p + types + protocols);
	b->text = p + types + protocols + fields;
	return s;
}

static bool
link_all(struct builder *b) {
	for (int i = 0; i < b->fields; i++) {
		if (!link_field(&b->field[i])) {
			return false;
		}
	}
	for (int i = 0; i < b->types; i++) {
		b->schema->type[i].max_words = max_words(&b->schema->type[i]);
	}
	return true;
}

struct sproto_schema *
sproto_schema_new(const void *bundle, size_t size) {
	struct sproto_slice part[GROUP_TAGS];
	if (!read_group(bundle, size, part)) {
		return NULL;
	}
	struct sproto_schema limits = {.types = count_chunks(part[GROUP_TYPE])};
	struct builder count = {.schema = &limits};
	struct builder b = {0};
	if (limits.types < 0 || !run_pass(&count, part)) {
		return NULL;
	}
	struct sproto_schema *s = allocate(&count, &b);
	if (s == NULL) {
		return NULL;
	}
	if (!run_pass(&b, part) || !link_all(&b)) {
		free(s);
		return NULL;
	}
	return s;
}

struct sproto_schema *
sproto_schema_ref(struct sproto_schema *s) {
	/* Relaxed: the caller holds a reference or the lock of the slot that does. */
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void
sproto_schema_unref(struct sproto_schema *s) {
	/* Acquire-release among all who let go: the last one frees after the reads
	 * of all others. */
	if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
		free(s);
	}
}

const struct sproto_type *
sproto_schema_type(const struct sproto_schema *s, const char *name) {
	for (int i = 0; i < s->types; i++) {
		if (strcmp(s->type[i].name, name) == 0) {
			return &s->type[i];
		}
	}
	return NULL;
}

const struct sproto_protocol *
sproto_schema_protocol(const struct sproto_schema *s, const char *name) {
	for (int i = 0; i < s->protocols; i++) {
		if (strcmp(s->protocol[i].name, name) == 0) {
			return &s->protocol[i];
		}
	}
	return NULL;
}

const struct sproto_protocol *
sproto_schema_protocol_by_tag(const struct sproto_schema *s, int64_t tag) {
	int low = 0;
	int high = s->protocols;
	while (low < high) {
		int mid = low + (high - low) / 2;
		if (s->protocol[mid].tag < tag) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	bool found = low < s->protocols && s->protocol[low].tag == tag;
	return found ? &s->protocol[low] : NULL;
}

/*---------------------------------------------------------------------- dump */

static const char *
code_name(const struct sproto_field *f) {
	static const char *const names[] = {"integer", "boolean", "string", "double"};
	if (f->code == SPROTO_STRUCT) {
		return f->type->name;
	}
	return f->is_binary ? "binary" : names[f->code];
}

static void
dump_field(const struct sproto_field *f, FILE *out) {
	fprintf(out, "\t%s %d : %s%s", f->name, f->tag, f->is_array ? "*" : "", code_name(f));
	if (f->is_map) {
		fprintf(out, "()");
	} else if (f->key != NULL) {
		fprintf(out, "(%s)", f->key->name);
	} else if (f->is_decimal) {
		int digits = 0;
		for (int64_t i = f->factor; i > 1; i /= 10) {
			digits++;
		}
		fprintf(out, "(%d)", digits);
	}
	fprintf(out, "\n");
}

static void
dump_protocol(const struct sproto_protocol *p, FILE *out) {
	fprintf(out, "%s %d {", p->name, p->tag);
	if (p->request != NULL) {
		fprintf(out, " request %s", p->request->name);
	}
	if (p->response != NULL) {
		fprintf(out, " response %s", p->response->name);
	} else if (p->confirm) {
		fprintf(out, " response nil");
	}
	fprintf(out, " }\n");
}

void
sproto_schema_dump(const struct sproto_schema *s, FILE *out) {
	for (int i = 0; i < s->types; i++) {
		fprintf(out, ".%s {\n", s->type[i].name);
		for (int j = 0; j < s->type[i].n; j++) {
			dump_field(&s->type[i].field[j], out);
		}
		fprintf(out, "}\n");
	}
	for (int i = 0; i < s->protocols; i++) {
		dump_protocol(&s->protocol[i], out);
	}
	fflush(out);
}
