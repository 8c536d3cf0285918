/*
 * skynet.stm: cells that one service writes and many read. A cell holds one
 * buffer of bytes, which the writer replaces as a whole and readers look at in
 * place.
 *
 * A cell is in the register of lua-share.h, owned by its writer and its readers.
 * What travels in a message is a *copy*: the cell's id and a number, which the
 * cell knows until the copy is used. So a copy works once, one that is never used
 * goes with the cell, and one that is made up finds nothing.
 *
 * A buffer never changes and is counted: by the cell while it is the present one,
 * and by each reader that took it. The cell's lock guards the present buffer and
 * the open copies; nothing is freed or called while it is held. Nothing yields.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "lua-share.h"
#include "skynet_malloc.h"

#define WRITER "skynet.stm.writer"
#define READER "skynet.stm.reader"

/* A copy as a number: the cell's id and, in the low bits, its own. */
#define SERIAL_BITS 28
#define SERIAL_MASK ((1u << SERIAL_BITS) - 1)

struct buffer {
	atomic_uint refs;
	void *data;
	size_t size;
};

struct copy {
	struct copy *next;
	uint32_t serial;
};

struct cell {
	struct share_object head;
	pthread_mutex_t lock;
	struct buffer *present; /* NULL: the writer is gone */
	struct copy *copies;    /* given out and not used */
	uint32_t last_serial;
};

/* Userdata. */
struct writer {
	struct cell *cell; /* NULL: closed */
};

struct reader {
	struct cell *cell;    /* NULL: closed, or the cell was gone before */
	struct buffer *taken; /* the last one, or NULL */
	bool is_read;         /* its callback has succeeded */
};

/*-------------------------------------------------------------------- buffers */

/* Takes the data. */
static struct buffer *
new_buffer(void *data, size_t size) {
	struct buffer *b = skynet_malloc(sizeof(*b));
	atomic_init(&b->refs, 1);
	b->data = data;
	b->size = size;
	return b;
}

static void
release_buffer(struct buffer *b) {
	/* Release: what this user read happens before the free of the last, who acquires. */
	if (b != NULL && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
		skynet_free(b->data);
		skynet_free(b);
	}
}

/* The buffer that the arguments from `idx` on describe: (ptr, size) or (string). */
static struct buffer *
check_buffer(lua_State *L, int idx) {
	if (lua_type(L, idx) == LUA_TSTRING) {
		size_t size;
		const char *s = lua_tolstring(L, idx, &size);
		void *data = skynet_malloc(size > 0 ? size : 1);
		memcpy(data, s, size);
		return new_buffer(data, size);
	}
	if (!lua_islightuserdata(L, idx)) {
		luaL_typeerror(L, idx, "string or light userdata");
	}
	lua_Integer size = luaL_checkinteger(L, idx + 1);
	luaL_argcheck(L, size >= 0, idx + 1, "a size expected");
	return new_buffer(lua_touserdata(L, idx), (size_t)size);
}

/*---------------------------------------------------------------------- cells */

static void
destroy_cell(struct share_object *o) {
	struct cell *c = (struct cell *)o;
	while (c->copies != NULL) {
		struct copy *next = c->copies->next;
		skynet_free(c->copies);
		c->copies = next;
	}
	release_buffer(c->present);
	pthread_mutex_destroy(&c->lock);
	skynet_free(c);
}

static const struct share_kind cell_kind = {destroy_cell};

static void
replace(struct cell *c, struct buffer *b) {
	pthread_mutex_lock(&c->lock);
	struct buffer *old = c->present;
	c->present = b;
	pthread_mutex_unlock(&c->lock);
	release_buffer(old);
}

/* Takes a reference of the present buffer; NULL: the writer is gone. */
static struct buffer *
take_present(struct cell *c) {
	pthread_mutex_lock(&c->lock);
	struct buffer *b = c->present;
	if (b != NULL) {
		/* The cell's own reference keeps it alive under the lock. */
		atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&c->lock);
	return b;
}

static struct copy **
find_copy(struct cell *c, uint32_t serial) {
	struct copy **link = &c->copies;
	while (*link != NULL && (*link)->serial != serial) {
		link = &(*link)->next;
	}
	return link;
}

static uint64_t
add_copy(struct cell *c) {
	struct copy *copy = skynet_malloc(sizeof(*copy));
	pthread_mutex_lock(&c->lock);
	c->last_serial = (c->last_serial + 1) & SERIAL_MASK;
	copy->serial = c->last_serial;
	copy->next = c->copies;
	c->copies = copy;
	pthread_mutex_unlock(&c->lock);
	return c->head.id << SERIAL_BITS | copy->serial;
}

static bool
use_copy(struct cell *c, uint32_t serial) {
	pthread_mutex_lock(&c->lock);
	struct copy **link = find_copy(c, serial);
	struct copy *copy = *link;
	if (copy != NULL) {
		*link = copy->next;
	}
	pthread_mutex_unlock(&c->lock);
	skynet_free(copy);
	return copy != NULL;
}

/*--------------------------------------------------------------------- writers */

/* Lua: () -> closed writer */
static int
push_writer(lua_State *L) {
	struct writer *w = lua_newuserdatauv(L, sizeof(*w), 0);
	w->cell = NULL;
	luaL_setmetatable(L, WRITER);
	return 1;
}

/*
 * new(ptr, size) or new(string) -> writer. Takes the memory unless an argument is wrong, also
 * if there is none for a writer.
 */
static int
stm_new(lua_State *L) {
	struct buffer *b = check_buffer(L, 1);
	lua_pushcfunction(L, push_writer);
	if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
		release_buffer(b);
		return lua_error(L);
	}
	struct writer *w = lua_touserdata(L, -1);
	struct cell *c = skynet_malloc(sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	c->present = b;
	c->copies = NULL;
	c->last_serial = 0;
	share_add(&c->head, &cell_kind);
	w->cell = c;
	return 1;
}

/* writer(ptr, size) or writer(string): publish. */
static int
writer_call(lua_State *L) {
	struct writer *w = luaL_checkudata(L, 1, WRITER);
	luaL_argcheck(L, w->cell != NULL, 1, "the writer is closed");
	replace(w->cell, check_buffer(L, 2));
	return 0;
}

static int
writer_gc(lua_State *L) {
	struct writer *w = luaL_checkudata(L, 1, WRITER);
	if (w->cell != NULL) {
		replace(w->cell, NULL);
		share_disown(&w->cell->head);
		w->cell = NULL;
	}
	return 0;
}

/*--------------------------------------------------------------------- readers */

/* copy(writer or reader) -> light userdata for one newcopy, in any service */
static int
stm_copy(lua_State *L) {
	const struct writer *w = luaL_testudata(L, 1, WRITER);
	const struct reader *r = w != NULL ? NULL : luaL_testudata(L, 1, READER);
	if (w == NULL && r == NULL) {
		return luaL_typeerror(L, 1, "writer or reader");
	}
	struct cell *c = w != NULL ? w->cell : r->cell;
	share_push_id(L, c != NULL ? add_copy(c) : 0);
	return 1;
}

/* newcopy(copy) -> reader. Raises when the copy was used already. */
static int
stm_newcopy(lua_State *L) {
	luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
	uint64_t copy = share_to_id(L, 1);
	struct reader *r = lua_newuserdatauv(L, sizeof(*r), 0);
	memset(r, 0, sizeof(*r));
	luaL_setmetatable(L, READER);
	r->cell = (struct cell *)share_own(copy >> SERIAL_BITS, &cell_kind);
	if (r->cell != NULL && !use_copy(r->cell, (uint32_t)(copy & SERIAL_MASK))) {
		return luaL_argerror(L, 1, "the copy was used already");
	}
	return 1;
}

/* Takes the present buffer. False: there is none, or it was read already. */
static bool
take(struct reader *r) {
	struct buffer *b = r->cell != NULL ? take_present(r->cell) : NULL;
	if (b != NULL && b == r->taken) {
		release_buffer(b);
		return !r->is_read;
	}
	release_buffer(r->taken);
	r->taken = b;
	r->is_read = false;
	return b != NULL;
}

/*
 * reader(f, ud) -> true and the results of f(pointer, size, ud), or false. When
 * f raises, the buffer counts as not read.
 */
static int
reader_call(lua_State *L) {
	struct reader *r = luaL_checkudata(L, 1, READER);
	luaL_checkany(L, 2);
	lua_settop(L, 3);
	if (!take(r)) {
		lua_pushboolean(L, 0);
		return 1;
	}
	const struct buffer *b = r->taken;
	lua_pushvalue(L, 2);
	lua_pushlightuserdata(L, b->data);
	lua_pushinteger(L, (lua_Integer)b->size);
	lua_pushvalue(L, 3);
	lua_call(L, 3, LUA_MULTRET);
	/* f may have read on through this very reader. */
	if (r->taken == b) {
		r->is_read = true;
	}
	lua_pushboolean(L, 1);
	lua_insert(L, 4);
	return lua_gettop(L) - 3;
}

static int
reader_gc(lua_State *L) {
	struct reader *r = luaL_checkudata(L, 1, READER);
	release_buffer(r->taken);
	r->taken = NULL;
	if (r->cell != NULL) {
		share_disown(&r->cell->head);
		r->cell = NULL;
	}
	return 0;
}

/*----------------------------------------------------------------- the module */

static void
new_class(lua_State *L, const char *name, lua_CFunction call, lua_CFunction gc) {
	luaL_newmetatable(L, name);
	lua_pushcfunction(L, call);
	lua_setfield(L, -2, "__call");
	lua_pushcfunction(L, gc);
	lua_setfield(L, -2, "__gc");
	lua_pop(L, 1);
}

int luaopen_skynet_stm(lua_State *L);

int
luaopen_skynet_stm(lua_State *L) {
	luaL_checkversion(L);
	static const luaL_Reg functions[] = {
	    {"new", stm_new},
	    {"copy", stm_copy},
	    {"newcopy", stm_newcopy},
	    {NULL, NULL},
	};
	new_class(L, WRITER, writer_call, writer_gc);
	new_class(L, READER, reader_call, reader_gc);
	luaL_newlib(L, functions);
	return 1;
}
