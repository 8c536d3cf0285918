/*
 * skynet.sharedata.core: documents (lua-document.h) and the proxies through
 * which services read them.
 *
 * A proxy is a Lua table with one field, whose key is no Lua value that data
 * can have: its *node*. All nodes of a tree belong to one *box*, which uses one
 * version of the document, and perhaps has the next one at hand. The next access
 * through any node then moves the whole tree to it: a node whose path is no
 * table any more dies for good.
 *
 * Invariant: nothing in a VM points into a document but nodes, and those only
 * while their box uses it. So a document may go as soon as the box has moved.
 *
 * User values of a node: see the NODE_ names. Everything belongs to the thread
 * that runs the service; nothing yields.
 */
#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "lua-document.h"
#include "lua-share.h"
#include "skynet.h"

#define OWNER "skynet.sharedata.owner"
#define BOX "skynet.sharedata.box"
#define LOOP "skynet.sharedata.loop"
#define PROXY "skynet.sharedata.proxy"
#define NODE "skynet.sharedata.node"

/* Userdata: the right to publish a document; NULL: given up. */
struct owner {
	struct document *d;
	bool is_registered;
};

/* Userdata. uses[current] is read, the other one is the next version. */
struct box {
	struct share_use uses[2];
	int current;
};

/* Userdata. */
struct node {
	const struct doc_table *t; /* NULL: the path has gone */
	struct box *box;
};

enum { NODE_CHILDREN = 1, NODE_BOX, NODE_PARENT, NODE_KEY, NODE_VALUES = NODE_KEY };

/* Userdata: an iteration, which goes on in the version it began with. */
struct loop {
	struct share_use use;
	const struct doc_table *t;
	uint64_t position;
};

/* Its address is the key of the node in a proxy. */
static const char node_key;

/*-------------------------------------------------------------------- owners */

static struct owner *
push_owner(lua_State *L) {
	struct owner *o = lua_newuserdatauv(L, sizeof(*o), 0);
	o->d = NULL;
	o->is_registered = false;
	luaL_setmetatable(L, OWNER);
	return o;
}

/* new(table) -> owner */
static int
core_new(lua_State *L) {
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	struct owner *o = push_owner(L);
	o->d = doc_new();
	doc_fill(L, 1, o->d);
	share_add(&o->d->head, &doc_kind);
	o->is_registered = true;
	return 1;
}

/* adopt(id) -> owner, or nothing when the document is gone */
static int
core_adopt(lua_State *L) {
	struct owner *o = push_owner(L);
	o->d = (struct document *)share_own(share_to_id(L, 1), &doc_kind);
	o->is_registered = true;
	return o->d != NULL;
}

static int
owner_close(lua_State *L) {
	struct owner *o = luaL_checkudata(L, 1, OWNER);
	struct document *d = o->d;
	o->d = NULL;
	if (d != NULL && o->is_registered) {
		share_disown(&d->head);
	} else if (d != NULL) {
		doc_destroy(d);
	}
	return 0;
}

static struct document *
check_owner(lua_State *L) {
	struct owner *o = luaL_checkudata(L, 1, OWNER);
	luaL_argcheck(L, o->d != NULL, 1, "the document was given up");
	return o->d;
}

static int
owner_id(lua_State *L) {
	share_push_id(L, check_owner(L)->head.id);
	return 1;
}

static int
owner_size(lua_State *L) {
	lua_pushinteger(L, (lua_Integer)check_owner(L)->size);
	return 1;
}

/*--------------------------------------------------------------------- boxes */

static struct document *
read_document(const struct share_use *use) {
	return (struct document *)use->o;
}

static struct box *
push_box(lua_State *L) {
	struct box *b = lua_newuserdatauv(L, sizeof(*b), 0);
	memset(b, 0, sizeof(*b));
	luaL_setmetatable(L, BOX);
	return b;
}

static int
box_gc(lua_State *L) {
	struct box *b = luaL_checkudata(L, 1, BOX);
	share_unuse(&b->uses[0]);
	share_unuse(&b->uses[1]);
	return 0;
}

/* Pushes a proxy with a new node; the box is at index `box`. */
static struct node *
push_proxy(lua_State *L, int box, const struct doc_table *t) {
	box = lua_absindex(L, box);
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	lua_createtable(L, 0, 1);
	struct node *n = lua_newuserdatauv(L, sizeof(*n), NODE_VALUES);
	luaL_setmetatable(L, NODE);
	n->t = t;
	n->box = lua_touserdata(L, box);
	lua_pushvalue(L, box);
	lua_setiuservalue(L, -2, NODE_BOX);
	lua_rawsetp(L, -2, &node_key);
	luaL_setmetatable(L, PROXY);
	return n;
}

/* proxy(id) -> proxy of the root, or nothing when the document is gone */
static int
core_proxy(lua_State *L) {
	uint64_t id = share_to_id(L, 1);
	struct box *b = push_box(L);
	if (!share_use(&b->uses[0], id, &doc_kind, skynet_current_handle())) {
		return 0;
	}
	push_proxy(L, -1, read_document(&b->uses[0])->root);
	return 1;
}

/* The node of the proxy at `idx`, which is pushed. */
static struct node *
push_node(lua_State *L, int idx) {
	luaL_checktype(L, idx, LUA_TTABLE);
	lua_rawgetp(L, idx, &node_key);
	struct node *n = luaL_testudata(L, -1, NODE);
	luaL_argcheck(L, n != NULL, idx, "a proxy of shared data expected");
	return n;
}

/*------------------------------------------------------------------ switching */

/* Moves the children of the node at `node` to table `t`; NULL: they die. */
static void
move_children(lua_State *L, int node, const struct doc_table *t) {
	node = lua_absindex(L, node);
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	if (lua_getiuservalue(L, node, NODE_CHILDREN) != LUA_TTABLE) {
		lua_pop(L, 1);
		return;
	}
	int children = lua_gettop(L);
	lua_pushnil(L);
	while (lua_next(L, children)) {
		struct node *child = push_node(L, lua_gettop(L));
		const struct doc_value *v = t == NULL ? NULL : doc_get(L, children + 1, t);
		if (v != NULL && v->type == DOC_TABLE) {
			child->t = v->t;
			move_children(L, -1, v->t);
		} else {
			child->t = NULL;
			move_children(L, -1, NULL);
			/* A later table at this path gets a proxy of its own. */
			lua_pushvalue(L, children + 1);
			lua_pushnil(L);
			lua_rawset(L, children);
		}
		lua_pop(L, 2);
	}
	lua_pop(L, 1);
}

/* Pushes the node of a box's root, beginning at the node at `idx`. */
static struct node *
push_root(lua_State *L, int idx) {
	lua_pushvalue(L, idx);
	while (lua_getiuservalue(L, -1, NODE_PARENT) == LUA_TUSERDATA) {
		lua_remove(L, -2);
	}
	lua_pop(L, 1);
	return lua_touserdata(L, -1);
}

/* Moves the tree of the node at `idx` to the next version, if there is one. */
static void
move_tree(lua_State *L, int idx, struct box *b) {
	struct share_use *next = &b->uses[1 - b->current];
	if (next->o == NULL) {
		return;
	}
	struct node *root = push_root(L, idx);
	const struct doc_table *t = read_document(next)->root;
	/* May run out of memory half-way: then it begins again at the next access. */
	move_children(L, -1, t);
	root->t = t;
	share_unuse(&b->uses[b->current]);
	b->current = 1 - b->current;
	lua_pop(L, 1);
}

/* Pushes the path of the node at `idx`, e.g. ".list.3". */
static void
push_path(lua_State *L, int idx) {
	luaL_Buffer path;
	int n = 0;
	lua_newtable(L);
	int parts = lua_gettop(L);
	lua_pushvalue(L, idx);
	while (lua_getiuservalue(L, -1, NODE_PARENT) == LUA_TUSERDATA) {
		lua_getiuservalue(L, -2, NODE_KEY);
		lua_rawseti(L, parts, ++n);
		lua_remove(L, -2);
	}
	lua_settop(L, parts);
	luaL_buffinit(L, &path);
	for (; n > 0; n--) {
		luaL_addchar(&path, '.');
		lua_rawgeti(L, parts, n);
		luaL_tolstring(L, -1, NULL);
		lua_remove(L, -2);
		luaL_addvalue(&path);
	}
	luaL_pushresult(&path);
	lua_remove(L, parts);
}

/*
 * The node of the proxy at index 1, pushed, ready to be read: on the newest
 * version that is at hand. Raises when its path has gone.
 */
static struct node *
current_node(lua_State *L) {
	struct node *n = push_node(L, 1);
	struct box *b = n->box;
	move_tree(L, lua_gettop(L), b);
	if (n->t == NULL) {
		push_path(L, lua_gettop(L));
		luaL_error(L, "The key [%s] doesn't exist after update", lua_tostring(L, -1));
	}
	if (b->uses[b->current].o == NULL) {
		luaL_error(L, "the shared data is closed");
	}
	return n;
}

/*------------------------------------------------------------------- proxies */

/* Pushes the proxy of a sub-table: of the node at `node` at the key at `key`. */
static void
push_child(lua_State *L, int node, int key, const struct doc_table *t) {
	if (lua_getiuservalue(L, node, NODE_CHILDREN) != LUA_TTABLE) {
		lua_pop(L, 1);
		lua_newtable(L);
		lua_pushvalue(L, -1);
		lua_setiuservalue(L, node, NODE_CHILDREN);
	}
	int children = lua_gettop(L);
	lua_pushvalue(L, key);
	if (lua_rawget(L, children) != LUA_TTABLE) {
		lua_pop(L, 1);
		lua_getiuservalue(L, node, NODE_BOX);
		push_proxy(L, -1, t);
		lua_rawgetp(L, -1, &node_key);
		lua_pushvalue(L, node);
		lua_setiuservalue(L, -2, NODE_PARENT);
		lua_pushvalue(L, key);
		lua_setiuservalue(L, -2, NODE_KEY);
		lua_pop(L, 1);
		lua_pushvalue(L, key);
		lua_pushvalue(L, -2);
		lua_rawset(L, children);
	}
}

static int
proxy_index(lua_State *L) {
	lua_settop(L, 2);
	struct node *n = current_node(L);
	const struct doc_value *v = doc_get(L, 2, n->t);
	if (v == NULL) {
		lua_pushnil(L);
	} else if (v->type == DOC_TABLE) {
		push_child(L, 3, 2, v->t);
	} else {
		doc_push_scalar(L, v);
	}
	return 1;
}

static int
proxy_newindex(lua_State *L) {
	push_node(L, 1);
	push_path(L, lua_gettop(L));
	luaL_tolstring(L, 2, NULL);
	return luaL_error(L, "Error newindex, the key [%s.%s]", lua_tostring(L, -2),
	                  lua_tostring(L, -1));
}

static int
proxy_len(lua_State *L) {
	lua_pushinteger(L, current_node(L)->t->narray);
	return 1;
}

static int
loop_close(lua_State *L) {
	struct loop *l = luaL_checkudata(L, 1, LOOP);
	share_unuse(&l->use);
	return 0;
}

/* Pushes a proxy of table `t` in the version of a loop. */
static void
push_loop_child(lua_State *L, struct loop *l, int node, int key, const struct doc_table *t) {
	const struct node *n = lua_touserdata(L, node);
	const struct box *b = n->box;
	if (b->uses[b->current].o == l->use.o && n->t == l->t) {
		push_child(L, node, key, t);
		return;
	}
	/* The tree has moved on: a tree of its own, which stays. */
	struct box *own = push_box(L);
	share_use(&own->uses[0], l->use.o->id, &doc_kind, skynet_current_handle());
	push_proxy(L, -1, t);
}

/* The iterator; upvalues: the loop and the node where it began. */
static int
loop_next(lua_State *L) {
	struct loop *l = lua_touserdata(L, lua_upvalueindex(1));
	const struct doc_value *v;
	if (l->use.o == NULL) {
		return 0;
	}
	while ((v = doc_at(l->t, l->position)) != NULL && v->type == DOC_NIL) {
		l->position++;
	}
	if (v == NULL) {
		share_unuse(&l->use);
		return 0;
	}
	lua_settop(L, 0);
	lua_pushvalue(L, lua_upvalueindex(2));
	doc_push_key(L, l->t, l->position++);
	if (v->type == DOC_TABLE) {
		push_loop_child(L, l, 1, 2, v->t);
		lua_replace(L, 3);
		lua_settop(L, 3);
	} else {
		doc_push_scalar(L, v);
	}
	return 2;
}

static int
proxy_pairs(lua_State *L) {
	lua_settop(L, 1);
	struct node *n = current_node(L);
	struct loop *l = lua_newuserdatauv(L, sizeof(*l), 0);
	memset(l, 0, sizeof(*l));
	luaL_setmetatable(L, LOOP);
	l->t = n->t;
	uint64_t id = n->box->uses[n->box->current].o->id;
	share_use(&l->use, id, &doc_kind, skynet_current_handle());
	lua_pushvalue(L, -1);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, loop_next, 2);
	lua_insert(L, 3);
	lua_pushvalue(L, 1);
	lua_insert(L, 4);
	lua_pushnil(L);
	lua_insert(L, 5);
	return 4;
}

/* next(proxy, key) -> key, value */
static int
core_next(lua_State *L) {
	lua_settop(L, 2);
	struct node *n = current_node(L);
	uint64_t position = 0;
	if (!lua_isnil(L, 2)) {
		position = doc_find(L, 2, n->t);
		luaL_argcheck(L, position != UINT64_MAX, 2, "no such key");
		position++;
	}
	const struct doc_value *v;
	while ((v = doc_at(n->t, position)) != NULL && v->type == DOC_NIL) {
		position++;
	}
	if (v == NULL) {
		return 0;
	}
	doc_push_key(L, n->t, position);
	if (v->type == DOC_TABLE) {
		int key = lua_gettop(L);
		push_child(L, 3, key, v->t);
		lua_pushvalue(L, key);
		lua_insert(L, -2);
	} else {
		doc_push_scalar(L, v);
	}
	return 2;
}

/*------------------------------------------------------------- whole versions */

/* pend(proxy, id): the next access moves to version `id`. False: it is gone. */
static int
core_pend(lua_State *L) {
	struct box *b = push_node(L, 1)->box;
	struct share_use *next = &b->uses[1 - b->current];
	struct share_use taken;
	if (!share_use(&taken, share_to_id(L, 2), &doc_kind, skynet_current_handle())) {
		lua_pushboolean(L, 0);
		return 1;
	}
	/* A use cannot be moved, so it is taken twice; the first keeps it alive. */
	uint64_t id = taken.o->id;
	share_unuse(next);
	share_use(next, id, &doc_kind, skynet_current_handle());
	share_unuse(&taken);
	lua_pushboolean(L, 1);
	return 1;
}

/* flush(proxy): move now, if there is a next version. */
static int
core_flush(lua_State *L) {
	struct node *n = push_node(L, 1);
	move_tree(L, lua_gettop(L), n->box);
	return 0;
}

/* id(proxy): the newest version at hand */
static int
core_id(lua_State *L) {
	const struct box *b = push_node(L, 1)->box;
	const struct share_use *next = &b->uses[1 - b->current];
	const struct share_use *use = next->o != NULL ? next : &b->uses[b->current];
	luaL_argcheck(L, use->o != NULL, 1, "the shared data is closed");
	share_push_id(L, use->o->id);
	return 1;
}

/* is_alive(proxy): can it be read */
static int
core_is_alive(lua_State *L) {
	const struct node *n = push_node(L, 1);
	lua_pushboolean(L, n->t != NULL);
	return 1;
}

/* copy(id, key...) -> a deep copy of what is at the path, or nothing */
static int
core_copy(lua_State *L) {
	int n = lua_gettop(L);
	struct box *b = push_box(L);
	if (!share_use(&b->uses[0], share_to_id(L, 1), &doc_kind, skynet_current_handle())) {
		return luaL_error(L, "the shared data is gone");
	}
	struct doc_value root = {.type = DOC_TABLE, .t = read_document(&b->uses[0])->root};
	const struct doc_value *v = &root;
	for (int i = 2; i <= n && v != NULL; i++) {
		v = v->type == DOC_TABLE ? doc_get(L, i, v->t) : NULL;
	}
	bool is_found = v != NULL && v->type != DOC_NIL;
	if (is_found) {
		doc_push_copy(L, v);
	}
	share_unuse(&b->uses[0]);
	return is_found;
}

/* is_before(a, b): is version a older than b */
static int
core_is_before(lua_State *L) {
	lua_pushboolean(L, share_to_id(L, 1) < share_to_id(L, 2));
	return 1;
}

/* count() -> documents that live in the process (at most 65536 are counted) */
static int
core_count(lua_State *L) {
	enum { MOST = 65536 };
	uint64_t *ids = lua_newuserdatauv(L, MOST * sizeof(*ids), 0);
	lua_pushinteger(L, (lua_Integer)share_list(&doc_kind, ids, MOST));
	return 1;
}

/*--------------------------------------------------------------------- by hand */

/* host_new(table) -> id */
static int
host_new(lua_State *L) {
	core_new(L);
	struct owner *o = lua_touserdata(L, -1);
	atomic_store_explicit(&o->d->is_handmade, true, memory_order_relaxed);
	share_push_id(L, o->d->head.id);
	o->d = NULL; /* owned by whoever has the id */
	return 1;
}

/* The document with the id at index 1, owned. */
static struct document *
own_handmade(lua_State *L) {
	struct document *d = (struct document *)share_own(share_to_id(L, 1), &doc_kind);
	luaL_argcheck(L, d != NULL, 1, "id of a shared object expected");
	return d;
}

static int
host_delete(lua_State *L) {
	struct document *d = own_handmade(L);
	if (atomic_exchange_explicit(&d->is_handmade, false, memory_order_relaxed)) {
		share_disown(&d->head);
	}
	share_disown(&d->head);
	return 0;
}

static int
host_count(lua_State *L, int delta) {
	long long n = share_count(share_to_id(L, 1), &doc_kind, delta);
	luaL_argcheck(L, n >= 0, 1, "id of a shared object expected");
	lua_pushinteger(L, n);
	return 1;
}

static int
host_getref(lua_State *L) {
	return host_count(L, 0);
}

static int
host_incref(lua_State *L) {
	return host_count(L, 1);
}

static int
host_decref(lua_State *L) {
	return host_count(L, -1);
}

static int
host_markdirty(lua_State *L) {
	struct document *d = own_handmade(L);
	atomic_store_explicit(&d->is_dirty, true, memory_order_relaxed);
	share_disown(&d->head);
	return 0;
}

static int
core_is_dirty(lua_State *L) {
	struct box *b = push_node(L, 1)->box;
	struct document *d = read_document(&b->uses[b->current]);
	lua_pushboolean(L, d != NULL && atomic_load_explicit(&d->is_dirty, memory_order_relaxed));
	return 1;
}

/*----------------------------------------------------------------- the module */

static void
new_class(lua_State *L, const char *name, const luaL_Reg *methods) {
	luaL_newmetatable(L, name);
	luaL_setfuncs(L, methods, 0);
	lua_pop(L, 1);
}

static void
make_classes(lua_State *L) {
	static const luaL_Reg owner_methods[] = {
	    {"close", owner_close}, {"id", owner_id}, {"size", owner_size},
	    {"__gc", owner_close},  {NULL, NULL},
	};
	static const luaL_Reg box_methods[] = {{"__gc", box_gc}, {NULL, NULL}};
	static const luaL_Reg loop_methods[] = {
	    {"__gc", loop_close},
	    {"__close", loop_close},
	    {NULL, NULL},
	};
	static const luaL_Reg node_methods[] = {{NULL, NULL}};
	static const luaL_Reg proxy_methods[] = {
	    {"__index", proxy_index},
	    {"__newindex", proxy_newindex},
	    {"__len", proxy_len},
	    {"__pairs", proxy_pairs},
	    {NULL, NULL},
	};
	new_class(L, OWNER, owner_methods);
	luaL_getmetatable(L, OWNER);
	lua_pushvalue(L, -1);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	new_class(L, BOX, box_methods);
	new_class(L, LOOP, loop_methods);
	new_class(L, NODE, node_methods);
	new_class(L, PROXY, proxy_methods);
}

int luaopen_skynet_sharedata_core(lua_State *L);

int
luaopen_skynet_sharedata_core(lua_State *L) {
	luaL_checkversion(L);
	static const luaL_Reg functions[] = {
	    {"new", core_new},
	    {"adopt", core_adopt},
	    {"proxy", core_proxy},
	    {"pend", core_pend},
	    {"flush", core_flush},
	    {"id", core_id},
	    {"is_alive", core_is_alive},
	    {"copy", core_copy},
	    {"next", core_next},
	    {"is_before", core_is_before},
	    {"is_dirty", core_is_dirty},
	    {"count", core_count},
	    {"host_new", host_new},
	    {"host_delete", host_delete},
	    {"host_getref", host_getref},
	    {"host_incref", host_incref},
	    {"host_decref", host_decref},
	    {"host_markdirty", host_markdirty},
	    {NULL, NULL},
	};
	make_classes(L);
	luaL_newlib(L, functions);
	return 1;
}
