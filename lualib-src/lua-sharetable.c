/*
 * skynet.sharetable.core: versions of shared tables.
 *
 * A version is a frozen table (lshare.h) in the register of lua-share.h. It is
 * made in a VM of its own, which is closed when the table is frozen. The
 * publishing service owns it through a *matrix*; a service that reads it holds
 * a *lease*. Reading goes to the frozen table itself, with no lock.
 *
 * A VM's collector knows nothing of frozen tables, so a lease may only end when
 * nothing in the VM points into the version: when release (lua-sharetable-walk.c) has
 * looked everywhere, or after the VM is closed. Therefore leases belong to a
 * list outside of the VM, which the container ends.
 *
 * Where sharing is off, a frozen table is a model that each reader copies, and
 * a lease only says who has a copy.
 */
#include "lua-sharetable.h"

#include <string.h>

#include <lauxlib.h>
#include <lshare.h>
#include <lualib.h>

#include "lua-container.h"
#include "lua-nomem.h"
#include "lua-seri.h"
#include "lua-share.h"
#include "lua-skynet.h"
#include "skynet.h"
#include "skynet_malloc.h"
#include "skynet_server.h"

#define MATRIX "skynet.sharetable.matrix"
#define LEASE "skynet.sharetable.lease"
#define BUILDER "skynet.sharetable.builder"

struct version {
	struct share_object head;
	const void *table;
	size_t size;
	char name[];
};

/* Userdata; `v` is NULL when it is closed. */
struct matrix {
	struct version *v;
};

/* The leases of one VM, outside of it. */
struct holdings {
	struct lua_container_ending ending;
	struct holding *list;
};

struct holding {
	struct share_use use;
	struct holding *next, **link;
};

/* Userdata. */
struct lease {
	struct holding *h; /* NULL: closed */
};

/* Userdata: what must not leak when building a version fails. */
struct builder {
	lua_State *P;
	void *args; /* packed */
};

static const char holdings_key;

static void
destroy_version(struct share_object *o) {
	struct version *v = (struct version *)o;
	lua_freeshared(v->table);
	skynet_free(v);
}

static const struct share_kind version_kind = {destroy_version};

/*------------------------------------------------------------------ building */

static int
builder_gc(lua_State *L) {
	struct builder *b = lua_touserdata(L, 1);
	if (b->P != NULL) {
		lua_close(b->P);
		b->P = NULL;
	}
	skynet_free(b->args);
	b->args = NULL;
	return 0;
}

static struct builder *
new_builder(lua_State *L) {
	struct builder *b = lua_newuserdatauv(L, sizeof(*b), 0);
	b->P = NULL;
	b->args = NULL;
	if (luaL_newmetatable(L, BUILDER)) {
		lua_pushcfunction(L, builder_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	b->P = luaL_newstate();
	if (b->P == NULL) {
		lua_nomem(L);
	}
	return b;
}

/* What P needs to make the table; lent. */
struct recipe {
	const char *kind; /* "file", "string", "packed" */
	const char *source;
	size_t source_size;
	const char *name;
	const void *args;
	size_t args_size;
};

/* A data file is read again each time it is loaded, and so are those it loads. */
static void
turn_code_cache_off(lua_State *P) {
	luaL_requiref(P, "skynet.codecache", luaopen_cache, 0);
	lua_getfield(P, -1, "mode");
	lua_pushliteral(P, "OFF");
	lua_call(P, 1, 0);
	lua_pop(P, 1);
}

/* Runs in P, protected: (recipe) -> frozen table as a light userdata. */
static int
build(lua_State *P) {
	const struct recipe *r = lua_touserdata(P, 1);
	lua_settop(P, 0);
	luaL_openlibs(P);
	turn_code_cache_off(P);
	if (*r->kind == 'p') {
		luaseri_unpack_buffer(P, r->source, r->source_size);
		lua_settop(P, 1);
	} else {
		const char *name = lua_pushfstring(P, "=%s", r->name);
		int status = *r->kind == 'f' ? luaL_loadfile(P, r->source)
		                             : luaL_loadbuffer(P, r->source, r->source_size, name);
		lua_remove(P, 1);
		if (status != LUA_OK) {
			return lua_error(P);
		}
		lua_call(P, luaseri_unpack_buffer(P, r->args, r->args_size), 1);
	}
	if (!lua_istable(P, 1)) {
		return luaL_error(P, "Not a table, it's a %s.", luaL_typename(P, 1));
	}
	lua_pushlightuserdata(P, (void *)lua_sharetable(P, 1));
	return 1;
}

static struct version *
new_version(const char *name, const void *table) {
	size_t len = strlen(name);
	struct version *v = skynet_malloc(sizeof(*v) + len + 1);
	v->table = table;
	v->size = lua_sharedsize(table);
	memcpy(v->name, name, len + 1);
	share_add(&v->head, &version_kind);
	return v;
}

/* Pushes a closed matrix, so that nothing can fail once there is a version. */
static struct matrix *
push_matrix(lua_State *L) {
	struct matrix *m = lua_newuserdatauv(L, sizeof(*m), 0);
	m->v = NULL;
	luaL_setmetatable(L, MATRIX);
	return m;
}

/* matrix(name, "file"|"string"|"packed", source, ...) */
static int
core_matrix(lua_State *L) {
	static const char *const kinds[] = {"file", "string", "packed", NULL};
	struct recipe r = {.name = luaL_checkstring(L, 1)};
	r.kind = kinds[luaL_checkoption(L, 2, NULL, kinds)];
	if (*r.kind == 'p' && lua_islightuserdata(L, 3)) {
		r.source = lua_touserdata(L, 3);
		r.source_size = (size_t)luaL_checkinteger(L, 4);
		lua_settop(L, 3);
	} else {
		r.source = luaL_checklstring(L, 3, &r.source_size);
	}
	int top = lua_gettop(L);
	struct builder *b = new_builder(L);
	lua_insert(L, 4);
	struct matrix *m = push_matrix(L);
	lua_insert(L, 5);
	if (top > 3) {
		luaseri_pack_range(L, 6, &b->args, &r.args_size);
	}
	r.args = b->args;
	lua_pushcfunction(b->P, build);
	lua_pushlightuserdata(b->P, &r);
	if (lua_pcall(b->P, 1, 1, 0) != LUA_OK) {
		const char *why = lua_tostring(b->P, -1);
		lua_pushstring(L, why != NULL ? why : "the chunk raised an error that is no text");
		lua_pushcfunction(L, builder_gc);
		lua_pushvalue(L, 4);
		lua_call(L, 1, 0);
		return lua_error(L);
	}
	m->v = new_version(r.name, lua_touserdata(b->P, -1));
	lua_pushcfunction(L, builder_gc);
	lua_pushvalue(L, 4);
	lua_call(L, 1, 0);
	lua_settop(L, 5);
	return 1;
}

/*------------------------------------------------------------------ matrices */

static struct version *
check_matrix(lua_State *L) {
	struct matrix *m = luaL_checkudata(L, 1, MATRIX);
	luaL_argcheck(L, m->v != NULL, 1, "the matrix is closed");
	return m->v;
}

/* adopt(id) -> matrix, or nothing when the version is gone */
static int
core_adopt(lua_State *L) {
	struct matrix *m = push_matrix(L);
	m->v = (struct version *)share_own(share_to_id(L, 1), &version_kind);
	return m->v != NULL;
}

static int
matrix_close(lua_State *L) {
	struct matrix *m = luaL_checkudata(L, 1, MATRIX);
	if (m->v != NULL) {
		share_disown(&m->v->head);
		m->v = NULL;
	}
	return 0;
}

static int
matrix_id(lua_State *L) {
	share_push_id(L, check_matrix(L)->head.id);
	return 1;
}

static int
matrix_getptr(lua_State *L) {
	lua_pushlightuserdata(L, (void *)check_matrix(L)->table);
	return 1;
}

static int
matrix_size(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)check_matrix(L)->size);
	return 1;
}

static int
matrix_holders(lua_State *L) {
	share_push_holders(L, &check_matrix(L)->head);
	return 1;
}

/* More versions than that are not listed. */
#define MAX_LISTED 4096

/* versions(): array of { name, pointer, size, holders } of all that are in use */
static int
core_versions(lua_State *L) {
	lua_settop(L, 0);
	uint64_t *ids = lua_newuserdatauv(L, MAX_LISTED * sizeof(*ids), 0);
	struct matrix *m = push_matrix(L);
	size_t n = share_list(&version_kind, ids, MAX_LISTED);
	lua_newtable(L);
	lua_Integer listed = 0;
	for (size_t i = 0; i < n; i++) {
		m->v = (struct version *)share_own(ids[i], &version_kind);
		if (m->v == NULL) {
			continue;
		}
		lua_createtable(L, 0, 4);
		share_push_holders(L, &m->v->head);
		bool is_used = lua_rawlen(L, -1) > 0;
		lua_setfield(L, -2, "holders");
		lua_pushstring(L, m->v->name);
		lua_setfield(L, -2, "name");
		lua_pushfstring(L, "%p", m->v->table);
		lua_setfield(L, -2, "pointer");
		lua_pushinteger(L, (lua_Integer)m->v->size);
		lua_setfield(L, -2, "size");
		share_disown(&m->v->head);
		m->v = NULL;
		if (is_used) {
			lua_rawseti(L, 3, ++listed);
		} else {
			lua_pop(L, 1);
		}
	}
	return 1;
}

/*-------------------------------------------------------------------- leases */

static void
drop(struct holding *h) {
	struct version *v = (struct version *)h->use.o;
	const void *table = v->table;
	size_t len = strlen(v->name);
	char *name = skynet_malloc(len + 1);
	memcpy(name, v->name, len + 1);
	if (share_unuse(&h->use)) {
		skynet_error(NULL, "Delete a version (%p) of %s", table, name);
	}
	skynet_free(name);
	*h->link = h->next;
	if (h->next != NULL) {
		h->next->link = h->link;
	}
	skynet_free(h);
}

/* The VM is closed. */
static void
end_holdings(struct lua_container_ending *e) {
	struct holdings *all = (struct holdings *)e;
	while (all->list != NULL) {
		drop(all->list);
	}
	skynet_free(all);
}

static struct holdings *
holdings_of(lua_State *L) {
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &holdings_key) != LUA_TLIGHTUSERDATA) {
		struct lua_container *c = lua_container(L);
		if (c == NULL) {
			luaL_error(L, "shared tables are for the VMs of services");
			return NULL;
		}
		/* Makes the slot, so that nothing below raises. */
		lua_pushboolean(L, 0);
		lua_rawsetp(L, LUA_REGISTRYINDEX, &holdings_key);
		struct holdings *all = skynet_malloc(sizeof(*all));
		all->list = NULL;
		all->ending.run = end_holdings;
		all->ending.next = c->endings;
		c->endings = &all->ending;
		lua_pop(L, 1);
		lua_pushlightuserdata(L, all);
		lua_pushvalue(L, -1);
		lua_rawsetp(L, LUA_REGISTRYINDEX, &holdings_key);
	}
	struct holdings *all = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return all;
}

/* lease(id) -> lease, or nothing when the version is gone */
static int
core_lease(lua_State *L) {
	uint64_t id = share_to_id(L, 1);
	struct holdings *all = holdings_of(L);
	struct lease *l = lua_newuserdatauv(L, sizeof(*l), 0);
	l->h = NULL;
	luaL_setmetatable(L, LEASE);
	uint32_t self = skynet_context_handle(lua_skynet_context(L));
	struct holding *h = skynet_malloc(sizeof(*h));
	if (!share_use(&h->use, id, &version_kind, self)) {
		skynet_free(h);
		return 0;
	}
	h->next = all->list;
	h->link = &all->list;
	if (h->next != NULL) {
		h->next->link = &h->next;
	}
	all->list = h;
	l->h = h;
	return 1;
}

const void *
lua_sharetable_leased(lua_State *L, int idx) {
	const struct lease *l = luaL_testudata(L, idx, LEASE);
	if (l == NULL || l->h == NULL) {
		return NULL;
	}
	return ((const struct version *)l->h->use.o)->table;
}

void
lua_sharetable_close_lease(lua_State *L, int idx) {
	struct lease *l = luaL_checkudata(L, idx, LEASE);
	if (l->h != NULL) {
		drop(l->h);
		l->h = NULL;
	}
}

/* lease:table(): the shared table (sharing off: a new copy) */
static int
lease_table(lua_State *L) {
	luaL_checkudata(L, 1, LEASE);
	const void *table = lua_sharetable_leased(L, 1);
	luaL_argcheck(L, table != NULL, 1, "the lease has ended");
	lua_clonetable(L, table);
	return 1;
}

static int
lease_is_open(lua_State *L) {
	const struct lease *l = luaL_checkudata(L, 1, LEASE);
	lua_pushboolean(L, l->h != NULL);
	return 1;
}

/* abandon(lease): where sharing is off a version may be left at any time. */
static int
core_abandon(lua_State *L) {
#ifdef LUA_CACHELIB
	return luaL_error(L, "a shared table can only be released");
#else
	lua_sharetable_close_lease(L, 1);
	return 0;
#endif
}

/*----------------------------------------------------------------- the module */

/* clone(pointer from getptr): the shared table, for as long as the VM lives */
static int
core_clone(lua_State *L) {
	luaL_checkany(L, 1);
	uint64_t id = share_to_id(L, 1);
	luaL_argcheck(L, id != 0, 1, "id of a version expected");
	if (core_lease(L) == 0) {
		return luaL_error(L, "Not a shared table");
	}
	lua_insert(L, 1);
	lua_settop(L, 1);
	return lease_table(L);
}

static int
core_is_sharedtable(lua_State *L) {
	luaL_checkany(L, 1);
	lua_pushboolean(L, lua_issharedtable(L, 1));
	return 1;
}

/* stats() -> live frozen tables of the process, their bytes */
static int
core_stats(lua_State *L) {
	struct lua_ShareStats s;
	lua_sharestats(&s);
	lua_pushinteger(L, (lua_Integer)s.table_count);
	lua_pushinteger(L, (lua_Integer)s.table_bytes);
	return 2;
}

static void
new_class(lua_State *L, const char *name, const luaL_Reg *methods) {
	luaL_newmetatable(L, name);
	luaL_setfuncs(L, methods, 0);
	lua_pushvalue(L, -1);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
}

int luaopen_skynet_sharetable_core(lua_State *L);

int
luaopen_skynet_sharetable_core(lua_State *L) {
	luaL_checkversion(L);
	static const luaL_Reg functions[] = {
	    {"matrix", core_matrix},
	    {"adopt", core_adopt},
	    {"lease", core_lease},
	    {"abandon", core_abandon},
	    {"clone", core_clone},
	    {"rebind", lua_sharetable_rebind},
	    {"release", lua_sharetable_release},
	    {"is_sharedtable", core_is_sharedtable},
	    {"versions", core_versions},
	    {"stats", core_stats},
	    {NULL, NULL},
	};
	static const luaL_Reg matrix_methods[] = {
	    {"close", matrix_close},
	    {"id", matrix_id},
	    {"getptr", matrix_getptr},
	    {"size", matrix_size},
	    {"holders", matrix_holders},
	    {"__gc", matrix_close},
	    {NULL, NULL},
	};
	static const luaL_Reg lease_methods[] = {
	    {"table", lease_table},
	    {"is_open", lease_is_open},
	    {NULL, NULL},
	};
	new_class(L, MATRIX, matrix_methods);
	new_class(L, LEASE, lease_methods);
	luaL_newlib(L, functions);
#ifdef LUA_CACHELIB
	lua_pushboolean(L, 1);
#else
	lua_pushboolean(L, 0);
#endif
	lua_setfield(L, -2, "is_shared");
	return 1;
}
