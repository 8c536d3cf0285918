// http.gzip: the gzip coding with zlib (RFC 1952), piece by piece. A stream owns its
// zlib state and the input it has not yet worked on; nothing here yields.
#include <lauxlib.h>
#include <lua.h>

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include "skynet_malloc.h"
#include "../lua-nomem.h"

#define DEFLATER_META "http.deflater"
#define INFLATER_META "http.inflater"

// Output is made in steps of this size.
#define STEP (16 * 1024)
// zlib: window of 32 KiB, plus 16 for the gzip format, plus 32 to tell gzip and zlib apart.
#define GZIP_WINDOW (15 + 16)
#define ANY_WINDOW (15 + 32)
#define MEMORY_LEVEL 8
// Of a stream with a gap.
#define LOST "bytes of the stream were lost when memory was out"

int luaopen_http_gzip(lua_State *L);

static void *
zalloc(void *ud, uInt n, uInt size) {
	(void)ud;
	return skynet_malloc((size_t)n * size);
}

static void
zfree(void *ud, void *p) {
	(void)ud;
	skynet_free(p);
}

//------------------------------------------------------------------ deflater

struct deflater {
	z_stream z;
	bool live;
	bool is_lost; // output that Lua had no memory for, and so the stream
};

static int
ldeflater_gc(lua_State *L) {
	struct deflater *d = luaL_checkudata(L, 1, DEFLATER_META);
	if (d->live) {
		d->live = false;
		deflateEnd(&d->z);
	}
	return 0;
}

// deflater([level 1 to 9]) -> stream
static int
ldeflater(lua_State *L) {
	lua_Integer level = luaL_optinteger(L, 1, 6);
	luaL_argcheck(L, level >= 1 && level <= 9, 1, "level out of range");
	struct deflater *d = lua_newuserdatauv(L, sizeof(*d), 0);
	memset(d, 0, sizeof(*d));
	luaL_setmetatable(L, DEFLATER_META);
	d->z.zalloc = zalloc;
	d->z.zfree = zfree;
	int r =
	    deflateInit2(&d->z, (int)level, Z_DEFLATED, GZIP_WINDOW, MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
	if (r != Z_OK) {
		return luaL_error(L, "gzip: %s", zError(r));
	}
	d->live = true;
	return 1;
}

// stream:write(bytes [, finish]) -> compressed bytes so far; with `finish`, all of them
static int
ldeflater_write(lua_State *L) {
	struct deflater *d = luaL_checkudata(L, 1, DEFLATER_META);
	size_t n;
	const char *p = luaL_checklstring(L, 2, &n);
	bool finish = lua_toboolean(L, 3);
	luaL_argcheck(L, n <= UINT_MAX, 2, "too long");
	luaL_argcheck(L, d->live, 1, "the stream has ended");
	luaL_argcheck(L, !d->is_lost, 1, LOST);
	d->z.next_in = (Bytef *)(uintptr_t)p;
	d->z.avail_in = (uInt)n;
	luaL_Buffer b;
	luaL_buffinit(L, &b);
	do {
		d->z.next_out = (Bytef *)luaL_prepbuffsize(&b, STEP);
		d->z.avail_out = STEP;
		d->is_lost = true;
		deflate(&d->z, finish ? Z_FINISH : Z_NO_FLUSH);
		luaL_addsize(&b, STEP - d->z.avail_out);
	} while (d->z.avail_out == 0);
	luaL_pushresult(&b);
	d->is_lost = false;
	if (finish) {
		d->live = false;
		deflateEnd(&d->z);
	}
	return 1;
}

//------------------------------------------------------------------ inflater

struct inflater {
	z_stream z;
	bool live;
	bool ended; // at the end of a gzip member; another may follow
	bool is_lost;
	char *input; // not yet worked on, from z.next_in
};

static void
inflater_end(struct inflater *i) {
	if (i->live) {
		i->live = false;
		inflateEnd(&i->z);
	}
	skynet_free(i->input);
	i->input = NULL;
}

static int
linflater_gc(lua_State *L) {
	inflater_end(luaL_checkudata(L, 1, INFLATER_META));
	return 0;
}

// inflater() -> stream, for gzip and zlib ("deflate") data
static int
linflater(lua_State *L) {
	struct inflater *i = lua_newuserdatauv(L, sizeof(*i), 0);
	memset(i, 0, sizeof(*i));
	luaL_setmetatable(L, INFLATER_META);
	i->z.zalloc = zalloc;
	i->z.zfree = zfree;
	int r = inflateInit2(&i->z, ANY_WINDOW);
	if (r != Z_OK) {
		return luaL_error(L, "gzip: %s", zError(r));
	}
	i->live = true;
	return 1;
}

// stream:push(bytes): the next input; the one before must be worked off
static int
linflater_push(lua_State *L) {
	struct inflater *i = luaL_checkudata(L, 1, INFLATER_META);
	size_t n;
	const char *p = luaL_checklstring(L, 2, &n);
	luaL_argcheck(L, n <= UINT_MAX, 2, "too long");
	luaL_argcheck(L, i->z.avail_in == 0, 1, "input is left");
	skynet_free(i->input);
	i->input = NULL;
	if (n > 0) {
		i->input = skynet_malloc(n);
		if (i->input == NULL) {
			return lua_nomem(L);
		}
		memcpy(i->input, p, n);
	}
	i->z.next_in = (Bytef *)i->input;
	i->z.avail_in = (uInt)n;
	return 0;
}

// Another member may follow the one that has ended (RFC 1952, 2.2).
static void
next_member(struct inflater *i) {
	if (i->ended && i->z.avail_in > 0) {
		i->ended = false;
		inflateReset(&i->z);
	}
}

// stream:pull() -> the next bytes, at most 16 KiB; nothing when more input is needed.
//   Raises on malformed data.
static int
linflater_pull(lua_State *L) {
	struct inflater *i = luaL_checkudata(L, 1, INFLATER_META);
	luaL_argcheck(L, i->live, 1, "the stream has ended");
	luaL_argcheck(L, !i->is_lost, 1, LOST);
	luaL_Buffer b;
	i->z.next_out = (Bytef *)luaL_buffinitsize(L, &b, STEP);
	i->z.avail_out = STEP;
	// Members may be empty.
	do {
		next_member(i);
		int r = i->ended ? Z_BUF_ERROR : inflate(&i->z, Z_NO_FLUSH);
		if (r == Z_STREAM_END) {
			i->ended = true;
		} else if (r != Z_OK && r != Z_BUF_ERROR) {
			return luaL_error(L, "malformed gzip data");
		}
	} while (i->ended && i->z.avail_in > 0 && i->z.avail_out == STEP);
	if (i->z.avail_out == STEP) {
		return 0;
	}
	i->is_lost = true;
	luaL_pushresultsize(&b, STEP - i->z.avail_out);
	i->is_lost = false;
	return 1;
}

// stream:complete() -> whether the data ended where gzip data may end
static int
linflater_complete(lua_State *L) {
	struct inflater *i = luaL_checkudata(L, 1, INFLATER_META);
	lua_pushboolean(L, i->ended && i->z.avail_in == 0);
	return 1;
}

static void
new_class(lua_State *L, const char *meta, const luaL_Reg *methods, lua_CFunction gc) {
	if (luaL_newmetatable(L, meta)) {
		lua_newtable(L);
		luaL_setfuncs(L, methods, 0);
		lua_setfield(L, -2, "__index");
		lua_pushcfunction(L, gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_pop(L, 1);
}

int
luaopen_http_gzip(lua_State *L) {
	static const luaL_Reg deflater_methods[] = {
	    {"write", ldeflater_write},
	    {NULL, NULL},
	};
	static const luaL_Reg inflater_methods[] = {
	    {"push", linflater_push},
	    {"pull", linflater_pull},
	    {"complete", linflater_complete},
	    {NULL, NULL},
	};
	static const luaL_Reg functions[] = {
	    {"deflater", ldeflater},
	    {"inflater", linflater},
	    {NULL, NULL},
	};
	luaL_checkversion(L);
	new_class(L, DEFLATER_META, deflater_methods, ldeflater_gc);
	new_class(L, INFLATER_META, inflater_methods, linflater_gc);
	luaL_newlib(L, functions);
	return 1;
}
