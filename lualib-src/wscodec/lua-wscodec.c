// wscodec: WebSocket frames for Lua (doc/reference/websocket.md, "The codec").
//
// A codec is a userdata per connection. It owns what it was fed and has not decoded
// yet (ws_input.h), the message in the making, and the state of the compression, and frees all
// with its finaliser. Sending goes straight to the socket: no Lua string is made.
#include <lauxlib.h>
#include <lua.h>

#include <limits.h>
#include <string.h>

#include "../lua-owned.h"
#include "../lua-sink.h"
#include "lshare.h"
#include "skynet_malloc.h"
#include "skynet_socket.h"
#include "ws_closing.h"
#include "ws_encode.h"
#include "ws_input.h"

#define CODEC_META "skynet.wscodec"
#define DEFAULT_MESSAGE (256 * 1024)
// Frames up to this size are made on the stack; the socket layer copies what it can't
// send at once.
#define STACK_FRAME 4096
#define DEFAULT_THRESHOLD 128
#define DEFAULT_MEM_LEVEL 5
#define DEFAULT_LEVEL 6

struct codec {
	struct ws_input input;
	// Output.
	struct ws_flate deflate;
	size_t threshold;
	bool masks;
	bool compresses;
};

int luaopen_wscodec(lua_State *L);

//--------------------------------------------------------------------- create

static lua_Integer
integer_field(lua_State *L, int index, const char *name, lua_Integer otherwise, lua_Integer least,
              lua_Integer most) {
	lua_Integer v = otherwise;
	if (lua_getfield(L, index, name) != LUA_TNIL) {
		int is_integer;
		v = lua_tointegerx(L, -1, &is_integer);
		if (!is_integer || v < least || v > most) {
			luaL_error(L, "websocket option %s must be an integer from %I to %I, not %s", name,
			           (LUAI_UACINT)least, (LUAI_UACINT)most, luaL_tolstring(L, -1, NULL));
		}
	}
	lua_pop(L, 1);
	return v;
}

static bool
boolean_field(lua_State *L, int index, const char *name) {
	lua_getfield(L, index, name);
	bool v = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return v;
}

// Reads the table of one direction into f; false if there is none.
static bool
flate_field(lua_State *L, int index, const char *name, struct ws_flate *f, size_t *threshold) {
	if (lua_getfield(L, index, name) != LUA_TTABLE) {
		lua_pop(L, 1);
		return false;
	}
	int t = lua_gettop(L);
	f->window_bits = (int)integer_field(L, t, "window_bits", WS_MAX_WINDOW_BITS, WS_MIN_WINDOW_BITS,
	                                    WS_MAX_WINDOW_BITS);
	f->mem_level = (int)integer_field(L, t, "mem_level", DEFAULT_MEM_LEVEL, 1, 9);
	f->level = (int)integer_field(L, t, "level", DEFAULT_LEVEL, 1, 9);
	f->keeps_context = !boolean_field(L, t, "no_context");
	*threshold = (size_t)integer_field(L, t, "threshold", DEFAULT_THRESHOLD, 1, INT_MAX);
	lua_pop(L, 1);
	return true;
}

// new{server, max_message, unmasked, any_text, inflate = {}, deflate = {}} -> codec
static int
lnew(lua_State *L) {
	size_t unused;
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_Integer max = integer_field(L, 1, "max_message", DEFAULT_MESSAGE, 1, INT_MAX);
	bool is_server = boolean_field(L, 1, "server");
	struct codec *c = lua_newuserdatauv(L, sizeof(*c), 0);
	memset(c, 0, sizeof(*c));
	ws_decoder_init(&c->input.decoder, is_server, (size_t)max);
	luaL_setmetatable(L, CODEC_META);
	c->masks = !is_server;
	c->input.decoder.accepts_unmasked = boolean_field(L, 1, "unmasked");
	c->input.decoder.checks_utf8 = !boolean_field(L, 1, "any_text");
	c->input.decoder.has_deflate = flate_field(L, 1, "inflate", &c->input.decoder.inflate, &unused);
	c->compresses = flate_field(L, 1, "deflate", &c->deflate, &c->threshold);
	return 1;
}

static struct codec *
check_codec(lua_State *L) {
	struct codec *c = lua_testmeta(L, 1, lua_upvalueindex(2));
	if (c == NULL) {
		luaL_typeerror(L, 1, CODEC_META);
	}
	return c;
}

static int
lgc(lua_State *L) {
	struct codec *c = check_codec(L);
	ws_input_drop(&c->input);
	ws_decoder_free(&c->input.decoder);
	ws_deflate_free(&c->deflate);
	return 0;
}

//------------------------------------------------------------------ arguments
// A block is taken whatever the other arguments are: where one of them is wrong, the block
// at index `block` is freed before the error. Index 0: there is none.

static void
free_block(lua_State *L, int block) {
	if (block != 0 && lua_islightuserdata(L, block)) {
		skynet_free(lua_touserdata(L, block));
	}
}

static lua_Integer
check_integer(lua_State *L, int arg, int block) {
	int is_integer;
	lua_Integer n = lua_tointegerx(L, arg, &is_integer);
	if (!is_integer) {
		free_block(L, block);
		luaL_checkinteger(L, arg); // raises
	}
	return n;
}

static void
refuse_unless(lua_State *L, bool is_right, int arg, const char *why, int block) {
	if (!is_right) {
		free_block(L, block);
		luaL_argerror(L, arg, why);
	}
}

// The size of the block before it.
static size_t
check_size(lua_State *L, int arg) {
	lua_Integer n = check_integer(L, arg, arg - 1);
	refuse_unless(L, n >= 0, arg, "size out of range", arg - 1);
	return (size_t)n;
}

//-------------------------------------------------------------------- receive

// The string at 2, or the block at 2 with its size at 3: bytes that arrived.
static void
feed(lua_State *L, struct codec *c) {
	if (lua_islightuserdata(L, 2)) {
		size_t size = check_size(L, 3);
		ws_input_feed(&c->input, lua_touserdata(L, 2), size);
		return;
	}
	size_t n;
	const char *bytes = luaL_checklstring(L, 2, &n);
	ws_input_append(&c->input, bytes, n);
}

// feed(string) or feed(block, size) -> bytes held: what arrived. Takes the block.
static int
lfeed(lua_State *L) {
	struct codec *c = check_codec(L);
	feed(L, c);
	lua_pushinteger(L, (lua_Integer)c->input.left);
	return 1;
}

// As a sink of skynet.socket, see lua-sink.h.
static size_t
sink_held(const void *ud) {
	return ((const struct codec *)ud)->input.left;
}

static void
sink_feed(void *ud, char *block, size_t size) {
	struct codec *c = ud;
	ws_input_feed(&c->input, block, size);
}

static int
sink_message(void *ud, char **block, size_t *size) {
	struct codec *c = ud;
	return ws_input_message(&c->input, block, size);
}

// Number of bytes that were fed and not decoded.
static int
lpending(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)check_codec(L)->input.left);
	return 1;
}

// within(codec) -> whether the beginning of a frame or of a message has come, and not its end
static int
lwithin(lua_State *L) {
	lua_pushboolean(L, ws_is_within(&check_codec(L)->input.decoder));
	return 1;
}

static int
push_event(lua_State *L, int kind, const struct ws_event *ev) {
	lua_pushinteger(L, kind);
	switch (kind) {
	case WS_FAILED:
		lua_pushinteger(L, ev->code);
		lua_pushstring(L, ev->error);
		return 3;
	case WS_CLOSE:
		if (ev->code == 0) {
			lua_pushnil(L);
		} else {
			lua_pushinteger(L, ev->code);
		}
		lua_pushlstring(L, ev->size > 0 ? ev->data : "", ev->size);
		return 3;
	default:
		lua_pushlstring(L, ev->size > 0 ? ev->data : "", ev->size);
		return 2;
	}
}

// Decode on. True when a message is complete, whose kind is pushed, and which is to be taken;
// else what there is instead is pushed, an event or nothing, and its number of values is in
// *n. What cannot be pushed comes again.
static bool
next_message(lua_State *L, struct codec *c, int *n) {
	const struct ws_event *ev;
	int kind = ws_input_look(&c->input, &ev);
	if (kind == WS_TEXT || kind == WS_BINARY) {
		lua_pushinteger(L, kind);
		return true;
	}
	*n = kind == WS_MORE ? 0 : push_event(L, kind, ev);
	ws_input_take(&c->input);
	return false;
}

// As a sink: the next message or control frame.
static int
sink_next(lua_State *L, void *ud) {
	struct codec *c = ud;
	int n;
	if (!next_message(L, c, &n)) {
		return n;
	}
	struct ws_buffer *message = &c->input.decoder.message;
	lua_pushlstring(L, message->size > 0 ? message->data : "", message->size);
	ws_buffer_clear(message);
	ws_input_take(&c->input);
	return 2;
}

static const struct stream_sink sink = {sink_held, sink_feed, sink_next, sink_message};

// next() -> kind, ...: the next message or control frame, nothing = needs more bytes
static int
lnext(lua_State *L) {
	return sink_next(L, check_codec(L));
}

// nextblock(): as next, but a message is given as block and size
static int
lnextblock(lua_State *L) {
	struct codec *c = check_codec(L);
	int n;
	if (!next_message(L, c, &n)) {
		return n;
	}
	size_t size;
	lua_pushlightuserdata(L, ws_buffer_take(&c->input.decoder.message, &size));
	ws_input_take(&c->input);
	lua_pushinteger(L, (lua_Integer)size);
	return 3;
}

//----------------------------------------------------------------------- send

struct payload {
	const char *data;
	size_t size;
	// To be freed: a block of the caller, or what was compressed.
	void *owned;
};

// A frame on its way into a string.
struct new_frame {
	struct payload payload;
	uint8_t start;
	const uint8_t *key;
};

// The payload at `index`: nil, a string, or a block with its size, which is taken.
static struct payload
check_payload(lua_State *L, int index) {
	struct payload p = {"", 0, NULL};
	if (lua_islightuserdata(L, index)) {
		p.size = check_size(L, index + 1);
		p.owned = lua_touserdata(L, index);
		p.data = p.owned;
	} else if (!lua_isnoneornil(L, index)) {
		p.data = luaL_checklstring(L, index, &p.size);
	}
	return p;
}

static int
check_opcode(lua_State *L, int arg, int block) {
	lua_Integer op = check_integer(L, arg, block);
	bool is_kind = op == WS_TEXT || op == WS_BINARY || (op >= WS_CLOSE && op <= WS_PONG);
	refuse_unless(L, is_kind, arg, "not the kind of a frame", block);
	return (int)op;
}

// NULL, or what is wrong with the payload.
static const char *
check_content(int op, const struct payload *p, bool checks_utf8) {
	if (op >= WS_CLOSE) {
		return p->size > WS_CONTROL_MAX ? "control frames carry 125 bytes at most" : NULL;
	}
	if (op == WS_TEXT && checks_utf8) {
		struct ws_utf8 u;
		ws_utf8_reset(&u);
		if (!ws_utf8_feed(&u, p->data, p->size) || !ws_utf8_at_end(&u)) {
			return "text is not valid UTF-8; send it as binary";
		}
	}
	return NULL;
}

// Replaces the payload by its compressed form. False if memory is out.
static bool
compress(struct ws_flate *f, struct payload *p) {
	struct ws_buffer out = {NULL, 0, 0};
	bool ok = ws_deflate(f, p->data, p->size, &out);
	if (!ok) {
		ws_buffer_free(&out);
		return false;
	}
	skynet_free(p->owned);
	p->owned = ws_buffer_take(&out, &p->size);
	p->data = p->owned;
	return true;
}

// Checks and compresses; the first byte of the frame. `c` NULL: a server's frame,
// never compressed. Raises, after freeing the payload.
static uint8_t
prepare(lua_State *L, struct codec *c, int op, struct payload *p) {
	const char *wrong = check_content(op, p, c == NULL || c->input.decoder.checks_utf8);
	uint8_t start = (uint8_t)(WS_FIN | op);
	if (wrong == NULL && c != NULL && c->compresses && op < WS_CLOSE && p->size >= c->threshold) {
		start |= WS_COMPRESSED;
		if (!compress(&c->deflate, p)) {
			wrong = "no memory to compress";
		}
	}
	if (wrong != NULL) {
		skynet_free(p->owned);
		luaL_error(L, "websocket: %s", wrong);
	}
	return start;
}

static int
send_frame(lua_State *L, struct codec *c, int id, int op, struct payload *p, const uint8_t *key) {
	char small[STACK_FRAME];
	struct socket_sendbuffer b;
	uint8_t start = prepare(L, c, op, p);
	size_t size = ws_header_size(p->size, key != NULL) + p->size;
	char *to = size <= sizeof(small) ? small : skynet_malloc(size);
	ws_write_frame(to, start, key, p->data, p->size);
	skynet_free(p->owned);
	b.id = id;
	b.type = to == small ? SOCKET_BUFFER_RAWPOINTER : SOCKET_BUFFER_MEMORY;
	b.buffer = to;
	b.sz = size;
	struct skynet_context *ctx = lua_touserdata(L, lua_upvalueindex(1));
	lua_pushboolean(L, skynet_socket_sendbuffer(ctx, &b) == 0);
	return 1;
}

static int
check_id(lua_State *L, int arg, int block) {
	lua_Integer id = check_integer(L, arg, block);
	return id < 0 || id > INT_MAX ? -1 : (int)id;
}

// The masking key at `arg` as the reference takes it, or a random one.
static void
choose_key(lua_State *L, int arg, uint8_t key[4], int block) {
	if (lua_isnoneornil(L, arg)) {
		ws_random_key(key);
		return;
	}
	uint32_t k = (uint32_t)check_integer(L, arg, block);
	for (int i = 0; i < 4; i++) {
		key[i] = (uint8_t)(k >> (24 - 8 * i));
	}
}

// codec:send(id, kind [, string [, masking_key]]) or (id, kind, block, size) -> boolean
static int
lcodec_send(lua_State *L) {
	uint8_t key[4];
	struct codec *c = check_codec(L);
	int id = check_id(L, 2, 4);
	int op = check_opcode(L, 3, 4);
	if (c->masks) {
		choose_key(L, lua_islightuserdata(L, 4) ? 6 : 5, key, 4);
	}
	struct payload p = check_payload(L, 4);
	return send_frame(L, c, id, op, &p, c->masks ? key : NULL);
}

// A server's frame with the payload at `index`; none after close.
static int
answer(lua_State *L, int id, int op, int index) {
	struct payload p = check_payload(L, index);
	if (ws_closing_has(id)) {
		skynet_free(p.owned);
		lua_pushboolean(L, 0);
		return 1;
	}
	return send_frame(L, NULL, id, op, &p, NULL);
}

// send(id, kind [, string | block, size]) -> boolean: a server's frame; none after close
static int
lsend(lua_State *L) {
	int id = check_id(L, 1, 3);
	return answer(L, id, check_opcode(L, 2, 3), 3);
}

// The opcode of a kind of message by name, default binary.
static int
check_kind(lua_State *L, int arg, int block) {
	if (!lua_toboolean(L, arg)) {
		return WS_BINARY;
	}
	if (lua_type(L, arg) == LUA_TSTRING) {
		const char *kind = lua_tostring(L, arg);
		if (strcmp(kind, "text") == 0) {
			return WS_TEXT;
		}
		if (strcmp(kind, "binary") == 0) {
			return WS_BINARY;
		}
	}
	free_block(L, block);
	return luaL_error(L, "wsgate: kind must be text or binary, not %s",
	                  luaL_tolstring(L, arg, NULL));
}

// opcode([kind: "text" | "binary"]) -> the opcode
static int
lopcode(lua_State *L) {
	lua_pushinteger(L, check_kind(L, 1, 0));
	return 1;
}

// answer(id, string [, kind]) or (id, block, size [, kind]) -> boolean: send for snax.wsgate,
// with the kind of the message as lopcode takes it
static int
lanswer(lua_State *L) {
	int id = check_id(L, 1, 2);
	int op = check_kind(L, lua_islightuserdata(L, 2) ? 4 : 3, 2);
	return answer(L, id, op, 2);
}

// close(id [, payload]) -> boolean: a server's close frame, its last one
static int
lclose(lua_State *L) {
	int id = check_id(L, 1, 2);
	struct payload p = check_payload(L, 2);
	ws_closing_mark(id);
	return send_frame(L, NULL, id, WS_CLOSE, &p, NULL);
}

// sendframe(id, frame) -> boolean: what frame() gave; nothing after close
static int
lsendframe(lua_State *L) {
	struct socket_sendbuffer b;
	b.id = check_id(L, 1, 0);
	b.type = SOCKET_BUFFER_RAWPOINTER;
	b.buffer = luaL_checklstring(L, 2, &b.sz);
	struct skynet_context *ctx = lua_touserdata(L, lua_upvalueindex(1));
	bool ok = !ws_closing_has(b.id) && skynet_socket_sendbuffer(ctx, &b) == 0;
	lua_pushboolean(L, ok);
	return 1;
}

static int
write_frame(lua_State *L) {
	luaL_Buffer b;
	const struct new_frame *f = lua_touserdata(L, 1);
	size_t size = ws_header_size(f->payload.size, f->key != NULL) + f->payload.size;
	char *to = luaL_buffinitsize(L, &b, size);
	ws_write_frame(to, f->start, f->key, f->payload.data, f->payload.size);
	luaL_pushresultsize(&b, size);
	return 1;
}

static void
free_frame(void *ud) {
	skynet_free(((struct new_frame *)ud)->payload.owned);
}

static int
push_frame(lua_State *L, struct codec *c, int op, struct payload *p, const uint8_t *key) {
	struct new_frame f = {.start = prepare(L, c, op, p), .key = key};
	f.payload = *p;
	bool is_compressed = (f.start & WS_COMPRESSED) != 0;
	if (is_compressed) {
		c->deflate.is_lost = true;
	}
	lua_owned_call(L, write_frame, &f, 1, free_frame);
	if (is_compressed) {
		c->deflate.is_lost = false;
	}
	return 1;
}

// codec:frame(kind [, string [, masking_key]]) -> the frame as a string
static int
lcodec_frame(lua_State *L) {
	uint8_t key[4];
	struct codec *c = check_codec(L);
	int op = check_opcode(L, 2, 0);
	size_t size;
	struct payload p = {luaL_optlstring(L, 3, "", &size), 0, NULL};
	p.size = size;
	if (c->masks) {
		choose_key(L, 4, key, 0);
	}
	return push_frame(L, c, op, &p, c->masks ? key : NULL);
}

// frame(kind [, string]) -> a server's frame as a string
static int
lframe(lua_State *L) {
	int op = check_opcode(L, 1, 0);
	size_t size;
	struct payload p = {luaL_optlstring(L, 2, "", &size), 0, NULL};
	p.size = size;
	return push_frame(L, NULL, op, &p, NULL);
}

// codec:compresses() -> whether messages may go out compressed
static int
lcompresses(lua_State *L) {
	lua_pushboolean(L, check_codec(L)->compresses);
	return 1;
}

// is_close_code(code): whether a close frame may carry it
static int
lis_close_code(lua_State *L) {
	int is_integer;
	lua_Integer code = lua_tointegerx(L, 1, &is_integer);
	lua_pushboolean(L, is_integer && code > 0 && code < 5000 && ws_is_close_code((int)code));
	return 1;
}

int
luaopen_wscodec(lua_State *L) {
	static const luaL_Reg functions[] = {
	    {"new", lnew},       {"send", lsend},
	    {"answer", lanswer}, {"opcode", lopcode},
	    {"close", lclose},   {"sendframe", lsendframe},
	    {"frame", lframe},   {"is_close_code", lis_close_code},
	    {NULL, NULL},
	};
	static const luaL_Reg methods[] = {
	    {"feed", lfeed},
	    {"pending", lpending},
	    {"within", lwithin},
	    {"next", lnext},
	    {"nextblock", lnextblock},
	    {"send", lcodec_send},
	    {"frame", lcodec_frame},
	    {"compresses", lcompresses},
	    {"__gc", lgc},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	lua_getfield(L, LUA_REGISTRYINDEX, "skynet_context");
	if (lua_touserdata(L, -1) == NULL) {
		return luaL_error(L, "wscodec works inside a service only");
	}
	int context = lua_gettop(L);
	if (luaL_newmetatable(L, CODEC_META)) {
		lua_pushvalue(L, context);
		lua_pushvalue(L, -2);
		luaL_setfuncs(L, methods, 2);
		lua_pushvalue(L, -1);
		lua_setfield(L, -2, "__index");
		lua_pushlightuserdata(L, (void *)&sink);
		lua_setfield(L, -2, STREAM_SINK_FIELD);
	}
	luaL_newlibtable(L, functions);
	lua_pushvalue(L, context);
	luaL_setfuncs(L, functions, 1);
	// The methods, for who calls them by every message.
	lua_pushvalue(L, context + 1);
	lua_setfield(L, -2, "codec");
	return 1;
}
