/*
** Loading files through the code cache: luaL_loadfilex, and the module
** skynet.codecache.
**
** A load costs one stat when the cache knows the name and the state of the file.
** Otherwise the file is read once; what was read is looked up in the cache by
** its digest, and compiled when it is new. Files are compiled without any lock,
** in a state of their own, so that no string of theirs gets into the state that
** asked first. What cannot be read, or is no ordinary file, is left to the stock
** function, which also words the errors.
*/

#define LUA_CORE
#define _GNU_SOURCE /* lprefix.h asks for less: no fractions of seconds in struct stat */

#include "lprefix.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lauxlib.h"
#include "lualib.h"
#include "share.h"

/* The order is that of 'mode_names'; a new state's mode is zero. */
enum { MODE_ON, MODE_EXIST, MODE_OFF };

static const char *const mode_names[] = {"ON", "EXIST", "OFF", NULL};

/* A file that changes while it is read is read again so many times. */
enum { READ_TRIES = 5 };

/*----------------------------------------------------------------- reading */

/*
** Two chains of multiplications. Contents that differ by accident have the same
** digest with a probability of 2^-128.
*/
static void
make_digest(const char *text, size_t size, uint64_t digest[2]) {
	uint64_t a = 0x9e3779b97f4a7c15u ^ size, b = 0xc2b2ae3d27d4eb4fu + size;
	while (size > 0) {
		uint64_t word = 0;
		size_t n = size < sizeof(word) ? size : sizeof(word);
		memcpy(&word, text, n);
		a = (a ^ word) * 0xff51afd7ed558ccdu;
		a ^= a >> 32;
		b = (b + word) * 0xc4ceb9fe1a85ec53u;
		b ^= b >> 29;
		text += n;
		size -= n;
	}
	digest[0] = a * 0x9e3779b97f4a7c15u;
	digest[1] = b ^ (a >> 31);
}

/*
** Reads 'size' bytes. Returns how many there were.
*/
static size_t
read_all(int fd, char *text, size_t size) {
	size_t n = 0;
	while (n < size) {
		ssize_t got = pread(fd, text + n, size - n, (off_t)n);
		if (got <= 0) {
			break;
		}
		n += (size_t)got;
	}
	return n;
}

enum outcome { READ, UNREADABLE, CHANGED, NO_MEMORY };

/*
** Reads an open file as it is at one moment. 'text' of the source is the
** caller's to free when the outcome is READ.
*/
static enum outcome
read_once(int fd, struct share_source *source) {
	struct stat after;
	size_t got;
	char past;
	if (fstat(fd, &source->st) != 0 || !S_ISREG(source->st.st_mode) ||
	    source->st.st_size > INT_MAX) {
		return UNREADABLE;
	}
	source->size = (size_t)source->st.st_size;
	source->text = share_alloc(source->size + 1);
	if (source->text == NULL) {
		return NO_MEMORY;
	}
	got = read_all(fd, source->text, source->size);
	if (got == source->size && pread(fd, &past, 1, (off_t)got) == 0 && fstat(fd, &after) == 0 &&
	    share_samestate(&source->st, &after)) {
		return READ;
	}
	share_free(source->text, source->size + 1);
	return CHANGED;
}

static enum outcome
read_file(const char *filename, struct share_source *source) {
	enum outcome outcome = CHANGED;
	int fd = open(filename, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || realpath(filename, source->path) == NULL) {
		outcome = UNREADABLE;
	}
	for (int i = 0; i < READ_TRIES && outcome == CHANGED; i++) {
		outcome = read_once(fd, source);
	}
	if (fd >= 0) {
		close(fd);
	}
	if (outcome == READ) {
		source->is_settled = share_issettled(&source->st);
		make_digest(source->text, source->size, source->digest);
	}
	return outcome;
}

/*
** Skips what luaL_loadfilex skips: a mark of UTF-8, and a first line that begins
** with '#', but for its end, so that lines are counted right. Binary code begins
** after that line.
*/
static const char *
code_of(const struct share_source *source, size_t *size) {
	static const char mark[] = "\xEF\xBB\xBF";
	const char *p = source->text, *end = p + source->size;
	if (source->size >= sizeof(mark) - 1 && memcmp(p, mark, sizeof(mark) - 1) == 0) {
		p += sizeof(mark) - 1;
	}
	if (p < end && *p == '#') {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		p = eol != NULL ? eol : end;
		if (end - p > 1 && p[1] == LUA_SIGNATURE[0]) {
			p++;
		}
	}
	*size = (size_t)(end - p);
	return p;
}

/*--------------------------------------------------------------- compiling */

static void *
scratch_alloc(void *ud, void *block, size_t osize, size_t nsize) {
	(void)ud;
	(void)osize;
	if (nsize == 0) {
		free(block);
		return NULL;
	}
	return realloc(block, nsize);
}

struct request {
	const char *filename, *mode;
	const struct share_source *source;
	int status;
	struct share_chunk *chunk;
};

/*
** Runs in the scratch state. Leaves an error message on the stack.
*/
static int
compile(lua_State *S) {
	struct request *r = lua_touserdata(S, 1);
	size_t size;
	const char *code = code_of(r->source, &size);
	const char *name = lua_pushfstring(S, "@%s", r->filename);
	r->status = luaL_loadbufferx(S, code, size, name, r->mode);
	if (r->status == LUA_OK) {
		const LClosure *cl = lua_topointer(S, -1);
		r->chunk = share_newchunk(cl->p);
		if (r->chunk == NULL) {
			r->status = LUA_ERRMEM;
			lua_pushliteral(S, "not enough memory");
		}
	}
	return 1;
}

static int
push_message(lua_State *L) {
	const char *message = lua_touserdata(L, 1);
	lua_pushstring(L, message != NULL ? message : "not enough memory");
	return 1;
}

/*
** Pushes a message that a state of ours may not survive. Returns the status.
*/
static int
fail(lua_State *L, const char *message, int status) {
	int failed;
	lua_pushcfunction(L, push_message);
	lua_pushlightuserdata(L, (void *)message);
	failed = lua_pcall(L, 1, 1, 0);
	return failed != LUA_OK ? failed : status;
}

/*
** Compiles the request. Without a chunk afterwards, a message is on the stack of
** L and the status in the request.
*/
static void
compile_source(lua_State *L, struct request *r) {
	lua_State *S = lua_newstate(scratch_alloc, NULL, 0);
	int status;
	if (S == NULL) {
		r->status = fail(L, NULL, LUA_ERRMEM);
		return;
	}
	lua_gc(S, LUA_GCSTOP);
	lua_pushcfunction(S, compile);
	lua_pushlightuserdata(S, r);
	status = lua_pcall(S, 1, 1, 0);
	if (status != LUA_OK) {
		r->status = status;
	}
	if (r->chunk == NULL) {
		r->status = fail(L, lua_tostring(S, -1), r->status);
	}
	lua_close(S);
}

/*----------------------------------------------------------------- loading */

/*
** The chunk of a file that was read, with a reference. Without one, the status
** is in the request: LUA_OK when the cache does not have it and shall not.
*/
static struct share_chunk *
find_or_compile(lua_State *L, struct request *r, int may_store) {
	struct share_chunk *chunk = share_cachematch(r->filename, r->source);
	r->status = LUA_OK;
	if (chunk != NULL || !may_store) {
		return chunk;
	}
	compile_source(L, r);
	return r->chunk == NULL ? NULL : share_cachestore(r->filename, r->source, r->chunk);
}

/*
** The long way: through the file itself. Returns a status as luaL_loadfilex.
*/
static int
load_read(lua_State *L, const char *filename, const char *mode, int may_store) {
	struct share_source source;
	struct request r = {.filename = filename, .mode = mode, .source = &source};
	struct share_chunk *chunk;
	switch (read_file(filename, &source)) {
	case READ:
		break;
	case NO_MEMORY:
		return fail(L, NULL, LUA_ERRMEM);
	default:
		return stock_loadfilex(L, filename, mode);
	}
	chunk = find_or_compile(L, &r, may_store);
	share_free(source.text, source.size + 1);
	if (chunk != NULL) {
		share_pushclosure(L, chunk, chunk->root);
		return LUA_OK;
	}
	return r.status != LUA_OK ? r.status : stock_loadfilex(L, filename, mode);
}

/*
** A file that is gone is as it was: nothing newer is known.
*/
LUALIB_API int
luaL_loadfilex(lua_State *L, const char *filename, const char *mode) {
	struct share_vm *vm = share_vmof(G(L));
	struct share_chunk *chunk;
	struct stat st;
	if (filename == NULL || vm->mode == MODE_OFF) {
		return stock_loadfilex(L, filename, mode);
	}
	chunk = share_cachefind(filename, stat(filename, &st) == 0 ? &st : NULL);
	if (chunk != NULL) {
		share_pushclosure(L, chunk, chunk->root);
		return LUA_OK;
	}
	return load_read(L, filename, mode, vm->mode == MODE_ON);
}

/*---------------------------------------------------- module skynet.codecache */

static int
cache_clear(lua_State *L) {
	(void)L;
	share_cacheclear();
	return 0;
}

static int
cache_mode(lua_State *L) {
	struct share_vm *vm = share_vmof(G(L));
	if (lua_isnoneornil(L, 1)) {
		lua_pushstring(L, mode_names[vm->mode]);
		return 1;
	}
	vm->mode = luaL_checkoption(L, 1, NULL, mode_names);
	return 0;
}

/*
** invalidate(filename): forget one file. Returns whether it was known.
*/
static int
cache_invalidate(lua_State *L) {
	const char *filename = luaL_checkstring(L, 1);
	char path[PATH_MAX];
	lua_pushboolean(L, share_cacheforget(filename, realpath(filename, path)));
	return 1;
}

/*
** users(filename): how many states (and, for moments, loads) use the code that
** the cache has for a file; nothing when it has none.
*/
static int
cache_users(lua_State *L) {
	const char *filename = luaL_checkstring(L, 1);
	char path[PATH_MAX];
	int users = share_cacheusers(filename, realpath(filename, path));
	if (users < 0) {
		return 0;
	}
	lua_pushinteger(L, users);
	return 1;
}

LUAMOD_API int
luaopen_cache(lua_State *L) {
	static const luaL_Reg functions[] = {{"clear", cache_clear},
	                                     {"mode", cache_mode},
	                                     {"invalidate", cache_invalidate},
	                                     {"users", cache_users},
	                                     {NULL, NULL}};
	luaL_newlib(L, functions);
	lua_getglobal(L, "loadfile");
	lua_setfield(L, -2, "loadfile");
	return 1;
}
