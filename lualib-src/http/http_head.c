#include "http_head.h"

#include <string.h>

// What a byte may be part of.
enum { TOKEN = 1, VALUE = 2, TARGET = 4, HOST = 8 };

static const uint8_t class_of[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['"'] = VALUE | TARGET,
    ['('] = VALUE | TARGET | HOST,
    [')'] = VALUE | TARGET | HOST,
    [','] = VALUE | TARGET | HOST,
    ['/'] = VALUE | TARGET,
    [':'] = VALUE | TARGET | HOST,
    [';'] = VALUE | TARGET | HOST,
    ['<'] = VALUE | TARGET,
    ['='] = VALUE | TARGET | HOST,
    ['>'] = VALUE | TARGET,
    ['?'] = VALUE | TARGET,
    ['@'] = VALUE | TARGET,
    ['['] = VALUE | TARGET | HOST,
    ['\\'] = VALUE | TARGET,
    [']'] = VALUE | TARGET | HOST,
    ['{'] = VALUE | TARGET,
    ['}'] = VALUE | TARGET,
    ['#'] = TOKEN | VALUE | TARGET,
    ['^'] = TOKEN | VALUE | TARGET,
    ['`'] = TOKEN | VALUE | TARGET,
    ['|'] = TOKEN | VALUE | TARGET,
    ['!'] = TOKEN | VALUE | TARGET | HOST,
    ['$'] = TOKEN | VALUE | TARGET | HOST,
    ['%'] = TOKEN | VALUE | TARGET | HOST,
    ['&'] = TOKEN | VALUE | TARGET | HOST,
    ['\''] = TOKEN | VALUE | TARGET | HOST,
    ['*'] = TOKEN | VALUE | TARGET | HOST,
    ['+'] = TOKEN | VALUE | TARGET | HOST,
    ['-'] = TOKEN | VALUE | TARGET | HOST,
    ['.'] = TOKEN | VALUE | TARGET | HOST,
    ['_'] = TOKEN | VALUE | TARGET | HOST,
    ['~'] = TOKEN | VALUE | TARGET | HOST,
    ['0' ... '9'] = TOKEN | VALUE | TARGET | HOST,
    ['A' ... 'Z'] = TOKEN | VALUE | TARGET | HOST,
    ['a' ... 'z'] = TOKEN | VALUE | TARGET | HOST,
    // Not ASCII; people send such targets, and RFC 9110 lets values have them.
    [0x80 ... 0xff] = VALUE | TARGET,
};

static bool
all_of(const char *p, size_t n, int class) {
	for (size_t i = 0; i < n; i++) {
		if (!(class_of[(uint8_t)p[i]] & class)) {
			return false;
		}
	}
	return true;
}

bool
http_is_token(const char *p, size_t n) {
	return n > 0 && all_of(p, n, TOKEN);
}

bool
http_is_value(const char *p, size_t n) {
	return all_of(p, n, VALUE);
}

static char
lower_of(char c) {
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool
http_is_name(const struct http_text *t, const char *lower, size_t n) {
	if (t->n != n) {
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (lower_of(t->p[i]) != lower[i]) {
			return false;
		}
	}
	return true;
}

#define IS(text, literal) http_is_name(text, literal, sizeof(literal) - 1)

static bool
refuse(struct http_fault *fault, int status, const char *why) {
	fault->status = status;
	fault->why = why;
	return false;
}

//------------------------------------------------------------------- the end

// Whether the line so far, of n bytes, and the lines before it are within the limits.
static bool
within_limits(size_t line_bytes, const struct http_limits *limits, const struct http_scan *scan,
              struct http_fault *fault) {
	if (line_bytes > limits->line) {
		return scan->lines == 0 ? refuse(fault, 414, "first line too long")
		                        : refuse(fault, 431, "header line too long");
	}
	if (scan->line + line_bytes > limits->total) {
		return refuse(fault, 431, "header too long");
	}
	if (scan->lines > limits->fields + 1 || scan->lines > HTTP_MAX_FIELDS + 1) {
		return refuse(fault, 431, "too many header lines");
	}
	return true;
}

ptrdiff_t
http_head_end(const char *p, size_t n, const struct http_limits *limits, struct http_scan *scan,
              struct http_fault *fault) {
	while (scan->seen < n) {
		const char *lf = memchr(p + scan->seen, '\n', n - scan->seen);
		size_t end = lf == NULL ? n : (size_t)(lf - p) + 1;
		if (!within_limits(end - scan->line, limits, scan, fault)) {
			return -1;
		}
		scan->seen = end;
		if (lf == NULL) {
			return 0;
		}
		size_t bytes = end - scan->line;
		if (bytes < 2 || p[end - 2] != '\r') {
			refuse(fault, 400, "line feed without carriage return");
			return -1;
		}
		if (bytes == 2) {
			return (ptrdiff_t)end;
		}
		scan->line = end;
		scan->lines++;
	}
	return 0;
}

//-------------------------------------------------------------------- fields

static struct http_text
trim(const char *from, const char *to) {
	while (from < to && (*from == ' ' || *from == '\t')) {
		from++;
	}
	while (to > from && (to[-1] == ' ' || to[-1] == '\t')) {
		to--;
	}
	return (struct http_text){from, (size_t)(to - from)};
}

// Whether a comma-separated list has this member.
static bool
has_member(const struct http_text *list, const char *lower, size_t n) {
	const char *p = list->p;
	const char *end = p + list->n;
	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		struct http_text member = trim(p, comma == NULL ? end : comma);
		if (http_is_name(&member, lower, n)) {
			return true;
		}
		p = comma == NULL ? end : comma + 1;
	}
	return false;
}

#define HAS(list, literal) has_member(list, literal, sizeof(literal) - 1)

// More digits than that might not fit.
#define LENGTH_DIGITS 18

static bool
take_length(struct http_head *h, const struct http_text *v, struct http_fault *fault) {
	if (h->length >= 0) {
		return refuse(fault, 400, "repeated Content-Length");
	}
	if (v->n == 0 || v->n > LENGTH_DIGITS) {
		return refuse(fault, 400, "invalid Content-Length");
	}
	int64_t length = 0;
	for (size_t i = 0; i < v->n; i++) {
		if (v->p[i] < '0' || v->p[i] > '9') {
			return refuse(fault, 400, "invalid Content-Length");
		}
		length = length * 10 + (v->p[i] - '0');
	}
	h->length = length;
	return true;
}

// State of one message that is being taken apart.
struct framing {
	int hosts;
	int encodings;
};

static bool
take_encoding(struct http_head *h, const struct http_text *v, struct framing *f,
              struct http_fault *fault) {
	if (f->encodings++ > 0) {
		return refuse(fault, 400, "repeated Transfer-Encoding");
	}
	if (IS(v, "chunked")) {
		h->flags |= HTTP_CHUNKED;
	} else if (v->n == 0) {
		return refuse(fault, 400, "empty Transfer-Encoding");
	} else if (!IS(v, "identity")) {
		h->flags |= HTTP_CODED;
	}
	return true;
}

static void
take_connection(struct http_head *h, const struct http_text *v) {
	h->flags |= HAS(v, "close") ? HTTP_CLOSE : 0;
	h->flags |= HAS(v, "keep-alive") ? HTTP_KEEP_ALIVE : 0;
	h->flags |= HAS(v, "upgrade") ? HTTP_UPGRADE : 0;
}

// The fields that frame or route the message.
static bool
take_field(struct http_head *h, const struct http_field *field, struct framing *f,
           struct http_fault *fault) {
	const struct http_text *name = &field->name;
	const struct http_text *v = &field->value;
	switch (name->n) {
	case sizeof("host") - 1:
		if (IS(name, "host")) {
			f->hosts++;
			if (!all_of(v->p, v->n, HOST)) {
				return refuse(fault, 400, "invalid Host");
			}
		}
		break;
	case sizeof("expect") - 1:
		if (IS(name, "expect")) {
			h->flags |= IS(v, "100-continue") ? HTTP_EXPECT : HTTP_EXPECT_OTHER;
		}
		break;
	case sizeof("connection") - 1:
		if (IS(name, "connection")) {
			take_connection(h, v);
		}
		break;
	case sizeof("content-length") - 1:
		return !IS(name, "content-length") || take_length(h, v, fault);
	case sizeof("transfer-encoding") - 1:
		return !IS(name, "transfer-encoding") || take_encoding(h, v, f, fault);
	default:
		break;
	}
	return true;
}

// One field line without its end.
static bool
parse_field(const char *p, size_t n, struct http_field *field, struct http_fault *fault) {
	if (p[0] == ' ' || p[0] == '\t') {
		return refuse(fault, 400, "folded header line");
	}
	const char *colon = memchr(p, ':', n);
	if (colon == NULL) {
		return refuse(fault, 400, "header line without colon");
	}
	field->name = (struct http_text){p, (size_t)(colon - p)};
	if (!http_is_token(p, field->name.n)) {
		return refuse(fault, 400, "invalid header name");
	}
	field->value = trim(colon + 1, p + n);
	if (!http_is_value(field->value.p, field->value.n)) {
		return refuse(fault, 400, "invalid byte in a header value");
	}
	return true;
}

// The next line without its end; http_head_end has seen that it has one.
static struct http_text
next_line(const char **p, const char *end) {
	const char *from = *p;
	const char *lf = memchr(from, '\n', (size_t)(end - from));
	*p = lf + 1;
	return (struct http_text){from, (size_t)(lf - 1 - from)};
}

static bool
parse_fields(const char *p, const char *end, struct http_head *h, struct framing *f,
             struct http_fault *fault) {
	for (struct http_text line = next_line(&p, end); line.n > 0; line = next_line(&p, end)) {
		struct http_field *field = &h->field[h->fields];
		if (h->fields == HTTP_MAX_FIELDS) {
			return refuse(fault, 431, "too many header lines");
		}
		if (!parse_field(line.p, line.n, field, fault) || !take_field(h, field, f, fault)) {
			return false;
		}
		h->fields++;
	}
	return true;
}

static void
clear(struct http_head *h) {
	memset(h, 0, offsetof(struct http_head, field));
	h->length = -1;
}

// Lengths that two readers could understand in two ways (RFC 9112, 6.3).
static bool
check_framing(const struct http_head *h, const struct framing *f, struct http_fault *fault) {
	if (f->encodings > 0 && h->length >= 0) {
		return refuse(fault, 400, "both Content-Length and Transfer-Encoding");
	}
	if (f->encodings > 0 && h->minor == 0) {
		return refuse(fault, 400, "Transfer-Encoding in HTTP/1.0");
	}
	return true;
}

//------------------------------------------------------------------ messages

#define VERSION_BYTES (sizeof("HTTP/1.1") - 1)

// "HTTP/1.0" or "HTTP/1.1" at p, where n bytes are.
static bool
parse_version(const char *p, size_t n, struct http_head *h, struct http_fault *fault) {
	if (n < VERSION_BYTES || memcmp(p, "HTTP/", 5) != 0 || p[5] < '0' || p[5] > '9' ||
	    p[6] != '.' || p[7] < '0' || p[7] > '9') {
		return refuse(fault, 400, "malformed first line");
	}
	if (p[5] != '1' || p[7] > '1') {
		return refuse(fault, 505, "HTTP version not supported");
	}
	h->minor = p[7] - '0';
	return true;
}

static bool
parse_request_line(const struct http_text *line, struct http_head *h, struct http_fault *fault) {
	const char *end = line->p + line->n;
	const char *first = memchr(line->p, ' ', line->n);
	if (first == NULL) {
		return refuse(fault, 400, "malformed request line");
	}
	const char *second = memchr(first + 1, ' ', (size_t)(end - first - 1));
	if (second == NULL || (size_t)(end - second - 1) != VERSION_BYTES) {
		return refuse(fault, 400, "malformed request line");
	}
	h->method = (struct http_text){line->p, (size_t)(first - line->p)};
	h->target = (struct http_text){first + 1, (size_t)(second - first - 1)};
	if (!http_is_token(h->method.p, h->method.n) || h->target.n == 0 ||
	    !all_of(h->target.p, h->target.n, TARGET)) {
		return refuse(fault, 400, "malformed request line");
	}
	return parse_version(second + 1, VERSION_BYTES, h, fault);
}

bool
http_request_parse(const char *p, size_t n, struct http_head *h, struct http_fault *fault) {
	struct framing f = {0, 0};
	const char *end = p + n;
	clear(h);
	struct http_text line = next_line(&p, end);
	if (!parse_request_line(&line, h, fault) || !parse_fields(p, end, h, &f, fault) ||
	    !check_framing(h, &f, fault)) {
		return false;
	}
	if (h->flags & HTTP_CODED) {
		return refuse(fault, 501, "transfer coding not supported");
	}
	if (f.hosts > 1) {
		return refuse(fault, 400, "repeated Host");
	}
	if (f.hosts == 0 && h->minor > 0) {
		h->flags |= HTTP_NO_HOST;
	}
	return true;
}

// "HTTP/1.1 200 OK"; servers leave out the reason and even the blank before it.
static bool
parse_status_line(const struct http_text *line, struct http_head *h, struct http_fault *fault) {
	const char *p = line->p + VERSION_BYTES;
	if (!parse_version(line->p, line->n, h, fault)) {
		return false;
	}
	size_t n = line->n - VERSION_BYTES;
	if (n < 4 || p[0] != ' ' || (n > 4 && p[4] != ' ') || !all_of(p, n, VALUE)) {
		return refuse(fault, 400, "malformed status line");
	}
	for (int i = 1; i <= 3; i++) {
		if (p[i] < '0' || p[i] > '9') {
			return refuse(fault, 400, "malformed status line");
		}
		h->status = h->status * 10 + (p[i] - '0');
	}
	if (h->status < 100) {
		return refuse(fault, 400, "malformed status line");
	}
	h->reason = trim(p + 4, p + n);
	return true;
}

bool
http_response_parse(const char *p, size_t n, struct http_head *h, struct http_fault *fault) {
	struct framing f = {0, 0};
	const char *end = p + n;
	clear(h);
	struct http_text line = next_line(&p, end);
	return parse_status_line(&line, h, fault) && parse_fields(p, end, h, &f, fault) &&
	       check_framing(h, &f, fault);
}

static bool
may_trail(const struct http_text *name) {
	static const char *const kept_out[] = {
	    "authorization",
	    "connection",
	    "content-encoding",
	    "content-length",
	    "content-range",
	    "content-type",
	    "cookie",
	    "expect",
	    "host",
	    "set-cookie",
	    "te",
	    "transfer-encoding",
	    "upgrade",
	};
	for (size_t i = 0; i < sizeof(kept_out) / sizeof(kept_out[0]); i++) {
		if (http_is_name(name, kept_out[i], strlen(kept_out[i]))) {
			return false;
		}
	}
	return true;
}

bool
http_trailer_parse(const char *p, size_t n, struct http_head *h, struct http_fault *fault) {
	const char *end = p + n;
	clear(h);
	for (struct http_text line = next_line(&p, end); line.n > 0; line = next_line(&p, end)) {
		struct http_field *field = &h->field[h->fields];
		if (h->fields == HTTP_MAX_FIELDS) {
			return refuse(fault, 431, "too many trailers");
		}
		if (!parse_field(line.p, line.n, field, fault)) {
			return false;
		}
		h->fields += may_trail(&field->name);
	}
	return true;
}
