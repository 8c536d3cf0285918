/*
 * skynet.memory.snapshot: what the calling service's Lua heap consists of. See
 * lua-memory.c for the module and lua-heap.h for the walk.
 */
#include "lua-heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "lua-container.h"
#include "lua-memory.h"
#include "skynet_malloc.h"

/* Objects looked at, unless told otherwise: about two tenths of a second. */
#define DEFAULT_LIMIT 1000000
/* Places that the result lists, the largest ones. */
#define MAX_LISTED 1000
#define TEXT_ROOM 160

/* A walk and its texts, collectable if Lua runs out of memory. */
struct report {
	struct heap_walk walk;
	uint32_t *order; /* of places, by size */
	char (*text)[TEXT_ROOM];
};

static int
report_gc(lua_State *L) {
	struct report *r = lua_touserdata(L, 1);
	heap_walk_free(&r->walk);
	skynet_free(r->order);
	skynet_free(r->text);
	memset(r, 0, sizeof(*r));
	return 0;
}

static struct report *
report_new(lua_State *L) {
	struct report *r = lua_newuserdatauv(L, sizeof(*r), 0);
	memset(r, 0, sizeof(*r));
	if (luaL_newmetatable(L, "skynet.memory.report")) {
		lua_pushcfunction(L, report_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	return r;
}

/*--------------------------------------------------------------------- texts */

/* What a step adds to the text; %s is `what`, if there is one. */
static const char *const formats[] = {
    [HEAP_FIELD] = ".%s",
    [HEAP_INDEX] = "[]",
    [HEAP_KEY] = "[*]",
    [HEAP_META] = "<meta>",
    [HEAP_UPVALUE] = "^%s",
    [HEAP_STACK] = "<stack>",
    [HEAP_USERVALUE] = "<user value>",
};

static void
append(char *text, const char *format, const char *what) {
	size_t used = strlen(text);
	snprintf(text + used, TEXT_ROOM - used, format, what);
}

/* Names of chunks as people give them: "@file", "=name", or the code itself. */
static void
append_function(char *text, const struct heap_place *p) {
	size_t len;
	const char *source = heap_text(p->what, &len);
	char at[32];
	append(text, "%s", source[0] == '@' || source[0] == '=' ? source + 1 : "(string)");
	snprintf(at, sizeof(at), ":%d", p->line);
	append(text, "%s", at);
}

static void
append_step(char *text, const struct heap_place *p) {
	size_t len;
	switch (p->step) {
	case HEAP_ROOT:
		append(text, "%s", p->what);
		break;
	case HEAP_FUNCTION:
		append_function(text, p);
		break;
	default:
		append(text, formats[p->step], p->what != NULL ? heap_text(p->what, &len) : "");
		break;
	}
}

static void
make_text(char *text, const struct heap_walk *w, uint32_t i) {
	const struct heap_place *p = &w->place[i];
	if (p->step != HEAP_ROOT && p->step != HEAP_FUNCTION) {
		make_text(text, w, p->parent);
	}
	append_step(text, p);
}

/*-------------------------------------------------------------------- result */

static int
by_bytes(const void *a, const void *b, void *ud) {
	const struct heap_walk *w = ud;
	size_t x = w->place[*(const uint32_t *)a].bytes;
	size_t y = w->place[*(const uint32_t *)b].bytes;
	return (x < y) - (x > y);
}

/* Before Lua allocates anything: the places refer to its strings. */
static uint32_t
make_texts(struct report *r) {
	uint32_t n = r->walk.places;
	r->order = skynet_malloc(n * sizeof(r->order[0]));
	for (uint32_t i = 0; i < n; i++) {
		r->order[i] = i;
	}
	qsort_r(r->order, n, sizeof(r->order[0]), by_bytes, &r->walk);
	n = n < MAX_LISTED ? n : MAX_LISTED;
	r->text = skynet_calloc(n, sizeof(r->text[0]));
	for (uint32_t i = 0; i < n; i++) {
		make_text(r->text[i], &r->walk, r->order[i]);
	}
	return n;
}

static void
set_integer(lua_State *L, const char *name, size_t n) {
	lua_pushinteger(L, (lua_Integer)n);
	lua_setfield(L, -2, name);
}

static void
add_to_field(lua_State *L, const char *name, size_t n) {
	lua_getfield(L, -1, name);
	lua_Integer sum = lua_tointeger(L, -1) + (lua_Integer)n;
	lua_pop(L, 1);
	lua_pushinteger(L, sum);
	lua_setfield(L, -2, name);
}

/* Adds to entry `name` of the table on the top; texts may be alike. */
static void
add_entry(lua_State *L, const char *name, size_t count, size_t bytes) {
	if (lua_getfield(L, -1, name) == LUA_TNIL) {
		lua_pop(L, 1);
		lua_createtable(L, 0, 2);
		lua_pushvalue(L, -1);
		lua_setfield(L, -3, name);
	}
	add_to_field(L, "count", count);
	add_to_field(L, "bytes", bytes);
	lua_pop(L, 1);
}

static void
push_types(lua_State *L, const struct heap_walk *w) {
	static const char *const names[HEAP_TYPES] = {"table",      "string",   "function",
	                                              "C function", "userdata", "thread",
	                                              "code",       "upvalue",  "state"};
	lua_createtable(L, 0, HEAP_TYPES);
	for (int i = 0; i < HEAP_TYPES; i++) {
		add_entry(L, names[i], w->type[i].count, w->type[i].bytes);
	}
}

static void
push_places(lua_State *L, const struct report *r, uint32_t n) {
	lua_createtable(L, 0, (int)n);
	for (uint32_t i = 0; i < n; i++) {
		const struct heap_place *p = &r->walk.place[r->order[i]];
		if (p->count > 0) {
			add_entry(L, r->text[i], p->count, p->bytes);
		}
	}
}

int
memory_snapshot(lua_State *L) {
	lua_Integer limit = luaL_optinteger(L, 1, DEFAULT_LIMIT);
	luaL_argcheck(L, limit > 0, 1, "need a positive number of objects");
	struct report *r = report_new(L);
	luaL_checkstack(L, 8, NULL);
	r->walk.limit = (size_t)limit;
	heap_walk(L, &r->walk);
	uint32_t n = make_texts(r);
	lua_createtable(L, 0, 5);
	set_integer(L, "count", r->walk.total.count);
	set_integer(L, "bytes", r->walk.total.bytes);
	lua_pushboolean(L, r->walk.is_truncated);
	lua_setfield(L, -2, "truncated");
	push_types(L, &r->walk);
	lua_setfield(L, -2, "types");
	push_places(L, r, n);
	lua_setfield(L, -2, "places");
	return 1;
}

/*--------------------------------------------------------------------- sites */

/* A copy of the sites, because pushing them allocates. */
struct sites {
	size_t n;
	size_t room;
	struct site {
		char place[TEXT_ROOM];
		size_t live;
		size_t all;
	} * site;
};

static void
count_site(void *ud, const struct lua_container_sample *s) {
	struct sites *list = ud;
	(void)s;
	list->n++;
}

static void
copy_site(void *ud, const struct lua_container_sample *s) {
	struct sites *list = ud;
	if (list->n < list->room) {
		struct site *to = &list->site[list->n++];
		snprintf(to->place, sizeof(to->place), "%s", s->place);
		to->live = s->live;
		to->all = s->all;
	}
}

static struct lua_container *
check_container(lua_State *L) {
	struct lua_container *c = lua_container(L);
	if (c == NULL) {
		luaL_error(L, "this host does not sample allocations");
	}
	return c;
}

int
memory_sample(lua_State *L) {
	struct lua_container *c = check_container(L);
	lua_Integer interval = luaL_checkinteger(L, 1);
	luaL_argcheck(L, interval >= 0 && interval <= PTRDIFF_MAX, 1, "not a number of bytes");
	c->ops->sample(c, (size_t)interval);
	return 0;
}

int
memory_sites(lua_State *L) {
	struct lua_container *c = check_container(L);
	struct sites list = {0};
	c->ops->list_sites(c, count_site, &list);
	/* One more for the site that this allocation may add. */
	list.room = list.n + 1;
	list.n = 0;
	list.site = lua_newuserdatauv(L, list.room * sizeof(list.site[0]), 0);
	c->ops->list_sites(c, copy_site, &list);
	lua_createtable(L, 0, (int)list.n);
	for (size_t i = 0; i < list.n; i++) {
		lua_createtable(L, 0, 2);
		set_integer(L, "live", list.site[i].live);
		set_integer(L, "all", list.site[i].all);
		lua_setfield(L, -2, list.site[i].place);
	}
	return 1;
}
