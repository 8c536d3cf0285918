// http.codec, reading half: a reader takes the bytes of a connection as they arrive and
// gives heads and chunks out of them (http_head.h, http_chunk.h).
//
// A reader owns the bytes that were pushed and are not yet taken; they lie in the
// allocator while there are any, so that an idle connection costs only the userdata. A
// reader belongs to one VM. Nothing here yields.
#include "lua-http.h"

#include <lauxlib.h>

#include <string.h>

#include "../lua-nomem.h"
#include "lshare.h"
#include "http_chunk.h"
#include "http_head.h"
#include "skynet_malloc.h"

#define READER_META "http.reader"

#define DEFAULT_LINE 8192
#define DEFAULT_TOTAL 16384
#define DEFAULT_FIELDS 100
#define MAX_LIMIT (16 * 1024 * 1024)
// Names up to this length are lowered without an allocation.
#define SHORT_NAME 64
// Chunks up to this size are given as a whole to those who want them so.
#define WHOLE_MAX (1024 * 1024)

struct reader {
	char *data;
	size_t capacity;
	size_t from; // where the bytes begin in `data`
	size_t size; // how many there are
	struct http_limits limits;
	struct http_scan scan; // of the head or the trailers at the front
	struct http_chunk chunk;
	bool at_trailer; // behind the last chunk
};

//---------------------------------------------------------------------- bytes

static struct reader *
check_reader(lua_State *L) {
	struct reader *r = lua_testmeta(L, 1, lua_upvalueindex(1));
	if (r == NULL) {
		luaL_typeerror(L, 1, READER_META);
	}
	return r;
}

static void
release(struct reader *r) {
	skynet_free(r->data);
	r->data = NULL;
	r->capacity = r->from = r->size = 0;
}

// release(): forget everything; the reader can be used for another connection
static int
lrelease(lua_State *L) {
	struct reader *r = check_reader(L);
	release(r);
	memset(&r->scan, 0, sizeof(r->scan));
	memset(&r->chunk, 0, sizeof(r->chunk));
	r->at_trailer = false;
	return 0;
}

static const char *
front(const struct reader *r) {
	return r->data + r->from;
}

// Makes room for n bytes behind those that are there.
static bool
reserve(struct reader *r, size_t n) {
	if (r->capacity - r->from - r->size >= n && r->data != NULL) {
		return true;
	}
	size_t capacity = r->size + n;
	// Doubling makes many small pieces cost no more than a large one.
	capacity = capacity < 2 * r->size ? 2 * r->size : capacity;
	char *data = skynet_malloc(capacity);
	if (data == NULL) {
		return false;
	}
	if (r->size > 0) {
		memcpy(data, front(r), r->size);
	}
	skynet_free(r->data);
	r->data = data;
	r->capacity = capacity;
	r->from = 0;
	return true;
}

static void
append(lua_State *L, struct reader *r, const char *p, size_t n) {
	if (n == 0) {
		return;
	}
	if (!reserve(r, n)) {
		lua_nomem(L);
	}
	memcpy(r->data + r->from + r->size, p, n);
	r->size += n;
}

static void
consume(struct reader *r, size_t n) {
	r->from += n;
	r->size -= n;
	if (r->size == 0) {
		release(r);
	}
}

//----------------------------------------------------------------------- heads

static void
push_lower(lua_State *L, const struct http_text *t) {
	char small[SHORT_NAME];
	luaL_Buffer b;
	char *p = t->n <= sizeof(small) ? small : luaL_buffinitsize(L, &b, t->n);
	for (size_t i = 0; i < t->n; i++) {
		char c = t->p[i];
		p[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
	}
	if (p == small) {
		lua_pushlstring(L, p, t->n);
	} else {
		luaL_pushresultsize(&b, t->n);
	}
}

// Adds a field to the table at the top; a repeated name has an array of its values.
static void
add_field(lua_State *L, const struct http_field *f) {
	push_lower(L, &f->name);
	lua_pushvalue(L, -1);
	int type = lua_rawget(L, -3);
	if (type == LUA_TNIL) {
		lua_pop(L, 1);
		lua_pushlstring(L, f->value.p, f->value.n);
		lua_rawset(L, -3);
		return;
	}
	if (type != LUA_TTABLE) {
		lua_createtable(L, 2, 0);
		lua_insert(L, -2);
		lua_rawseti(L, -2, 1);
		lua_pushvalue(L, -2);
		lua_pushvalue(L, -2);
		lua_rawset(L, -5);
	}
	lua_pushlstring(L, f->value.p, f->value.n);
	lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	lua_pop(L, 2);
}

static void
push_fields(lua_State *L, const struct http_head *h) {
	lua_createtable(L, 0, h->fields);
	for (int i = 0; i < h->fields; i++) {
		add_field(L, &h->field[i]);
	}
}

static int
push_fault(lua_State *L, const struct http_fault *fault) {
	lua_pushboolean(L, 0);
	lua_pushinteger(L, fault->status);
	lua_pushstring(L, fault->why);
	return 3;
}

// length, flags, minor
static int
push_framing(lua_State *L, const struct http_head *h) {
	if (h->length < 0) {
		lua_pushnil(L);
	} else {
		lua_pushinteger(L, h->length);
	}
	lua_pushinteger(L, h->flags);
	lua_pushinteger(L, h->minor);
	return 3;
}

// Many handlers never look at the fields: they get the head, the bytes of which are at p.
static int
push_request(lua_State *L, const struct http_head *h, const char *p, size_t n) {
	size_t given;
	lua_pushlstring(L, h->method.p, h->method.n);
	lua_pushlstring(L, h->target.p, h->target.n);
	if (lua_tolstring(L, 2, &given) == p && given == n) {
		lua_pushvalue(L, 2);
	} else {
		lua_pushlstring(L, p, n);
	}
	return 3 + push_framing(L, h);
}

static int
push_response(lua_State *L, const struct http_head *h) {
	lua_pushinteger(L, h->status);
	lua_pushlstring(L, h->reason.p, h->reason.n);
	push_fields(L, h);
	return 3 + push_framing(L, h);
}

// Empty lines before a request are passed over (RFC 9112, 2.2).
static size_t
empty_lines(const char *p, size_t n) {
	size_t skip = 0;
	while (n - skip >= 2 && p[skip] == '\r' && p[skip + 1] == '\n') {
		skip += 2;
	}
	return skip;
}

// Something other than the start of a message can be told by its first byte.
static bool
wrong_start(const char *p, size_t n, struct http_fault *fault) {
	if (n == 0 || p[0] == '\r' || http_is_token(p, 1)) {
		return false;
	}
	fault->status = 400;
	fault->why = "not an HTTP message";
	return true;
}

// Takes a head from the front of the reader's bytes, or of the string at 2 when there
// are none; what is left of that string becomes the reader's.
static int
take_head(lua_State *L, bool is_request) {
	struct reader *r = check_reader(L);
	struct http_fault fault;
	struct http_head h;
	size_t n = 0;
	const char *p = luaL_optlstring(L, 2, "", &n);
	bool direct = r->size == 0;
	if (!direct) {
		append(L, r, p, n);
		if (is_request) {
			size_t skip = r->scan.seen == 0 ? empty_lines(front(r), r->size) : 0;
			consume(r, skip);
		}
		p = front(r);
		n = r->size;
	} else if (is_request) {
		size_t skip = empty_lines(p, n);
		p += skip;
		n -= skip;
	}
	ptrdiff_t end =
	    wrong_start(p, n, &fault) ? -1 : http_head_end(p, n, &r->limits, &r->scan, &fault);
	if (end < 0) {
		return push_fault(L, &fault);
	}
	if (end == 0) {
		if (direct) {
			append(L, r, p, n);
		}
		lua_pushnil(L);
		lua_pushinteger(L, (lua_Integer)r->size);
		return 2;
	}
	memset(&r->scan, 0, sizeof(r->scan));
	if (is_request && end == 2) {
		// An empty line that came in two pieces.
		consume(r, 2);
		lua_settop(L, 1);
		return take_head(L, true);
	}
	bool ok = is_request ? http_request_parse(p, (size_t)end, &h, &fault)
	                     : http_response_parse(p, (size_t)end, &h, &fault);
	int results = !ok          ? push_fault(L, &fault)
	              : is_request ? push_request(L, &h, p, (size_t)end)
	                           : push_response(L, &h);
	if (direct) {
		append(L, r, p + end, n - (size_t)end);
	} else {
		consume(r, (size_t)end);
	}
	memset(&r->chunk, 0, sizeof(r->chunk));
	r->at_trailer = false;
	return results;
}

// request([bytes]) -> method, target, head, length | nil, flags, minor; see header
//   nil, bytes held when more are needed; false, status, why when it is refused
static int
lrequest(lua_State *L) {
	return take_head(L, true);
}

// response([bytes]) -> status, reason, header, length | nil, flags, minor; likewise
static int
lresponse(lua_State *L) {
	return take_head(L, false);
}

// header(head of a request, as request gave it) -> the table of its fields
static int
lheader(lua_State *L) {
	static const struct http_limits limits = {MAX_LIMIT, MAX_LIMIT, HTTP_MAX_FIELDS};
	struct http_scan scan = {0, 0, 0};
	struct http_fault fault;
	struct http_head h;
	size_t n;
	const char *p = luaL_checklstring(L, 1, &n);
	ptrdiff_t end = http_head_end(p, n, &limits, &scan, &fault);
	bool is_head = end > 0 && (size_t)end == n && http_request_parse(p, n, &h, &fault);
	luaL_argcheck(L, is_head, 1, "not the head of a request");
	push_fields(L, &h);
	return 1;
}

//---------------------------------------------------------------------- bodies

// push(bytes) -> bytes held
static int
lpush(lua_State *L) {
	struct reader *r = check_reader(L);
	size_t n;
	const char *p = luaL_checklstring(L, 2, &n);
	append(L, r, p, n);
	lua_pushinteger(L, (lua_Integer)r->size);
	return 1;
}

// take([n]) -> up to n bytes, or all; nothing when there are none
static int
ltake(lua_State *L) {
	struct reader *r = check_reader(L);
	lua_Integer most = luaL_optinteger(L, 2, LUA_MAXINTEGER);
	luaL_argcheck(L, most >= 0, 2, "size out of range");
	if (r->size == 0 || most == 0) {
		return 0;
	}
	size_t n = (lua_Unsigned)most < r->size ? (size_t)most : r->size;
	lua_pushlstring(L, front(r), n);
	consume(r, n);
	return 1;
}

// size() -> bytes held
static int
lsize(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)check_reader(L)->size);
	return 1;
}

// The trailers are merged into the table at 2, if there is one.
static int
take_trailers(lua_State *L, struct reader *r) {
	struct http_fault fault;
	struct http_head h;
	struct http_scan scan = r->scan;
	ptrdiff_t end = http_head_end(front(r), r->size, &r->limits, &scan, &fault);
	if (end == 0) {
		r->scan = scan;
		return 0;
	}
	if (end < 0 || !http_trailer_parse(front(r), (size_t)end, &h, &fault)) {
		return push_fault(L, &fault);
	}
	if (lua_istable(L, 2)) {
		lua_pushvalue(L, 2);
		for (int i = 0; i < h.fields; i++) {
			add_field(L, &h.field[i]);
		}
		lua_pop(L, 1);
	}
	consume(r, (size_t)end);
	memset(&r->scan, 0, sizeof(r->scan));
	memset(&r->chunk, 0, sizeof(r->chunk));
	r->at_trailer = false;
	lua_pushliteral(L, "");
	return 1;
}

// A chunk that was begun is only given as a whole, if the caller wants it so and it is
// not too large to be waited for.
static bool
must_wait(const struct http_chunk *next, const struct http_chunk_part *part, bool whole) {
	uint64_t left = http_chunk_left(next);
	return whole && left > 0 && part->size + left <= WHOLE_MAX;
}

// chunk([header [, limit [, whole]]]) -> bytes of the body, "" at its end, when trailers
//   were merged into `header`; nothing when more bytes are needed; false, status, why
//   when it is malformed or this chunk has more than `limit` bytes
static int
lchunk(lua_State *L) {
	struct reader *r = check_reader(L);
	lua_Integer limit = luaL_optinteger(L, 3, LUA_MAXINTEGER);
	bool whole = lua_toboolean(L, 4);
	while (r->size > 0 && !r->at_trailer) {
		struct http_chunk next = r->chunk;
		struct http_chunk_part part;
		enum http_chunk_result result = http_chunk_next(&next, front(r), r->size, &part);
		if (result == HTTP_CHUNK_BAD) {
			return push_fault(L, &(struct http_fault){400, "malformed chunk"});
		}
		bool has_data = result == HTTP_CHUNK_DATA;
		uint64_t bytes = (has_data ? part.size : 0) + http_chunk_left(&next);
		if (limit < 0 || bytes > (uint64_t)limit) {
			return push_fault(L, &(struct http_fault){413, "body too large"});
		}
		if (has_data) {
			if (must_wait(&next, &part, whole)) {
				return 0;
			}
			lua_pushlstring(L, part.data, part.size);
		}
		r->chunk = next;
		r->at_trailer = result == HTTP_CHUNK_LAST;
		consume(r, part.used);
		if (has_data) {
			return 1;
		}
	}
	return r->at_trailer ? take_trailers(L, r) : 0;
}

//--------------------------------------------------------------------- readers

static size_t
check_limit(lua_State *L, int index, lua_Integer most, lua_Integer otherwise) {
	lua_Integer n = luaL_optinteger(L, index, otherwise);
	luaL_argcheck(L, n > 0 && n <= most, index, "limit out of range");
	return (size_t)n;
}

// reader([line [, total [, fields]]]): limits of a head, in bytes and lines
static int
lreader(lua_State *L) {
	size_t line = check_limit(L, 1, MAX_LIMIT, DEFAULT_LINE);
	size_t total = check_limit(L, 2, MAX_LIMIT, DEFAULT_TOTAL);
	size_t fields = check_limit(L, 3, HTTP_MAX_FIELDS, DEFAULT_FIELDS);
	struct reader *r = lua_newuserdatauv(L, sizeof(*r), 0);
	memset(r, 0, sizeof(*r));
	r->limits = (struct http_limits){line, total, (int)fields};
	luaL_setmetatable(L, READER_META);
	return 1;
}

static void
set_flag(lua_State *L, const char *name, int flag) {
	lua_pushinteger(L, flag);
	lua_setfield(L, -2, name);
}

void
http_reader_register(lua_State *L) {
	static const luaL_Reg methods[] = {
	    {"request", lrequest}, {"response", lresponse}, {"push", lpush},       {"take", ltake},
	    {"size", lsize},       {"chunk", lchunk},       {"release", lrelease}, {NULL, NULL},
	};
	if (luaL_newmetatable(L, READER_META)) {
		luaL_newlibtable(L, methods);
		lua_pushvalue(L, -2);
		luaL_setfuncs(L, methods, 1);
		lua_setfield(L, -2, "__index");
		lua_pushvalue(L, -1);
		lua_pushcclosure(L, lrelease, 1);
		lua_setfield(L, -2, "__gc");
	}
	// For who calls them by every request.
	lua_getfield(L, -1, "__index");
	lua_setfield(L, -3, "methods");
	lua_pop(L, 1);
	lua_pushcfunction(L, lreader);
	lua_setfield(L, -2, "reader");
	lua_pushcfunction(L, lheader);
	lua_setfield(L, -2, "header");
	set_flag(L, "CHUNKED", HTTP_CHUNKED);
	set_flag(L, "CODED", HTTP_CODED);
	set_flag(L, "CLOSE", HTTP_CLOSE);
	set_flag(L, "KEEP_ALIVE", HTTP_KEEP_ALIVE);
	set_flag(L, "UPGRADE", HTTP_UPGRADE);
	set_flag(L, "EXPECT", HTTP_EXPECT);
	set_flag(L, "EXPECT_OTHER", HTTP_EXPECT_OTHER);
	set_flag(L, "NO_HOST", HTTP_NO_HOST);
}
