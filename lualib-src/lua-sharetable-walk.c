/*
 * Walks of a whole VM for shared tables: to replace them by a newer version's
 * (rebind), and to find out whether a version is still in use (release).
 *
 * The walk goes through the collector's lists of all objects, not along
 * references. So it needs no memory and no recursion, and it finds the locals
 * of every coroutine, also of those that wait for the one that asks. Uses the
 * private headers of the Lua that is built with us.
 *
 * Invariant: nothing is allocated during a walk, so the lists stay as they are.
 * What needs memory (a table whose keys are replaced) is done afterwards.
 */
#include "lua-sharetable.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "lfunc.h"
#include "lgc.h"
#include "lobject.h"
#include "lstate.h"
#include "ltable.h"

#include <lauxlib.h>
#include <lshare.h>
#include <lualib.h>

#define NO_STATE cast(lua_State *, NULL)

/* What a walk looks for, and what it does with it. */
struct walk {
	uintptr_t low, high; /* all of it is in between */
	/* Nonzero: `p` is looked for. What number is up to the functions below. */
	size_t (*match)(struct walk *w, const void *p);
	/* A value that matches. Other code than a table's entries may change it. */
	void (*value)(struct walk *w, size_t found, TValue *v);
	/* A table that is another's, a userdata's or a basic type's metatable. */
	void (*metatable)(struct walk *w, size_t found, Table **mt);
	/* A table with a key that matches. */
	void (*key)(struct walk *w, size_t found, Table *t);
	/* Code or constants of a closure or prototype. */
	void (*code)(struct walk *w, size_t found);
};

/* ---------------------------------------------------------------- the walk */

static inline size_t
match(struct walk *w, const void *p) {
	uintptr_t at = (uintptr_t)p;
	return at < w->low || at >= w->high ? 0 : w->match(w, p);
}

static inline void
walk_value(struct walk *w, TValue *v) {
	if (iscollectable(v)) {
		size_t found = match(w, val_(v).gc);
		if (found != 0) {
			w->value(w, found, v);
		}
	}
}

static void
walk_metatable(struct walk *w, Table **mt) {
	size_t found = *mt == NULL ? 0 : match(w, *mt);
	if (found != 0) {
		w->metatable(w, found, mt);
	}
}

static void
walk_table(struct walk *w, Table *t) {
	walk_metatable(w, &t->metatable);
	for (unsigned i = 0; i < t->asize; i++) {
		lu_byte tag = *getArrTag(t, i);
		if ((tag & BIT_ISCOLLECTABLE) != 0 && match(w, getArrVal(t, i)->gc) != 0) {
			TValue v;
			farr2val(t, i, tag, &v);
			walk_value(w, &v);
			obj2arr(t, i, &v);
		}
	}
	for (unsigned i = 0; i < sizenode(t); i++) {
		Node *n = gnode(t, i);
		size_t found = keyiscollectable(n) ? match(w, gckey(n)) : 0;
		if (isempty(gval(n))) {
			if (found != 0) {
				setdeadkey(n); /* as the collector would, sooner or later */
			}
			continue;
		}
		walk_value(w, gval(n));
		if (found != 0) {
			w->key(w, found, t);
		}
	}
}

static void
walk_thread(struct walk *w, lua_State *th) {
	if (th->stack.p == NULL) {
		return;
	}
	StkId o = th->stack.p;
	for (; o < th->top.p; o++) {
		walk_value(w, s2v(o));
	}
	/* Left-overs: nobody reads them, but the collector of a later frame would. */
	for (; o < th->stack_last.p + EXTRA_STACK; o++) {
		if (iscollectable(s2v(o)) && match(w, val_(s2v(o)).gc) != 0) {
			setnilvalue(s2v(o));
		}
	}
}

static void
walk_code(struct walk *w, const void *p) {
	size_t found = p == NULL ? 0 : match(w, p);
	if (found != 0) {
		w->code(w, found);
	}
}

static void
walk_proto(struct walk *w, const Proto *f) {
	walk_code(w, f->source);
	for (int i = 0; i < f->sizek; i++) {
		if (iscollectable(&f->k[i])) {
			walk_code(w, val_(&f->k[i]).gc);
		}
	}
	for (int i = 0; i < f->sizep; i++) {
		walk_code(w, f->p[i]);
	}
}

static void
walk_userdata(struct walk *w, Udata *u) {
	walk_metatable(w, &u->metatable);
	for (int i = 0; i < u->nuvalue; i++) {
		walk_value(w, &u->uv[i].uv);
	}
}

static void
walk_object(struct walk *w, GCObject *o) {
	switch (o->tt) {
	case LUA_VTABLE:
		walk_table(w, gco2t(o));
		break;
	case LUA_VLCL:
		walk_code(w, gco2lcl(o)->p);
		break;
	case LUA_VCCL:
		for (int i = 0; i < gco2ccl(o)->nupvalues; i++) {
			walk_value(w, &gco2ccl(o)->upvalue[i]);
		}
		break;
	case LUA_VUPVAL:
		/* An open one is a slot of a thread. */
		if (!upisopen(gco2upv(o))) {
			walk_value(w, &gco2upv(o)->u.value);
		}
		break;
	case LUA_VUSERDATA:
		walk_userdata(w, gco2u(o));
		break;
	case LUA_VPROTO:
		walk_proto(w, gco2p(o));
		break;
	case LUA_VTHREAD:
		walk_thread(w, gco2th(o));
		break;
	default: /* strings refer to nothing */
		break;
	}
}

/*
 * Objects that the sweep has not reached yet are left out: what they refer to
 * may be freed already.
 */
static void
walk_list(struct walk *w, global_State *g, GCObject *list) {
	for (GCObject *o = list; o != NULL; o = o->next) {
		if (!isdead(g, o)) {
			walk_object(w, o);
		}
	}
}

static void
walk_vm(struct walk *w, lua_State *L) {
	global_State *g = G(L);
	walk_list(w, g, g->allgc);
	walk_list(w, g, g->finobj);
	walk_list(w, g, g->tobefnz);
	walk_value(w, &g->l_registry);
	for (int i = 0; i < LUA_NUMTYPES; i++) {
		walk_metatable(w, &g->mt[i]);
	}
}

/* ------------------------------------------------------------------ release */

struct version_use {
	uintptr_t low, high;
	bool is_used;
};

struct search {
	struct walk base;
	struct version_use *versions;
	size_t n;
};

static size_t
match_version(struct walk *w, const void *p) {
	const struct search *s = (const struct search *)w;
	uintptr_t at = (uintptr_t)p;
	for (size_t i = 0; i < s->n; i++) {
		if (at >= s->versions[i].low && at < s->versions[i].high) {
			return i + 1;
		}
	}
	return 0;
}

static void
use(struct walk *w, size_t found) {
	((struct search *)w)->versions[found - 1].is_used = true;
}

static void
use_value(struct walk *w, size_t found, TValue *v) {
	(void)v;
	use(w, found);
}

static void
use_metatable(struct walk *w, size_t found, Table **mt) {
	(void)mt;
	use(w, found);
}

static void
use_key(struct walk *w, size_t found, Table *t) {
	(void)t;
	use(w, found);
}

static void
add_version(struct search *s, const void *table) {
	struct version_use *v = &s->versions[s->n++];
	*v = (struct version_use){.is_used = table == NULL};
	if (table != NULL) {
		/* Not a byte more: what the allocator put behind it may be this VM's. */
		v->low = (uintptr_t)table;
		v->high = (uintptr_t)lua_sharedend(table);
		s->base.low = v->low < s->base.low ? v->low : s->base.low;
		s->base.high = v->high > s->base.high ? v->high : s->base.high;
	}
}

int
lua_sharetable_release(lua_State *L) {
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
	struct search s = {
	    .base = {UINTPTR_MAX, 0, match_version, use_value, use_metatable, use_key, use},
	};
	s.versions = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof(*s.versions), 0);
	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, 1, i);
		add_version(&s, lua_sharetable_leased(L, -1));
		lua_pop(L, 1);
	}
	walk_vm(&s.base, L);
	lua_Integer kept = 0;
	for (lua_Integer i = 1; i <= n; i++) {
		if (s.versions[i - 1].is_used) {
			kept++;
		} else {
			lua_rawgeti(L, 1, i);
			lua_sharetable_close_lease(L, -1);
			lua_pop(L, 1);
		}
	}
	lua_pushinteger(L, kept);
	return 1;
}

/* ------------------------------------------------------------------- rebind */

/* A table of an old version, and what takes its place. */
struct pair {
	const Table *old;
	TValue new;
};

enum { NEW = 1, OLDS, PAIRS, SLOTS, REKEYED };

/* The map from old to new. Its memory is the userdata at PAIRS and SLOTS. */
struct rebind {
	struct walk base;
	lua_State *L;
	struct pair *pairs; /* in the order of discovery */
	size_t n, room;
	uint32_t *slots; /* index + 1 of a pair by address of the old table */
	size_t nslots;   /* a power of 2, at least twice `room` */
	size_t nrekey;   /* tables with keys to replace */
	bool is_listing; /* them, into the table at REKEYED */
};

static uint32_t *
slot_of(const struct rebind *r, const void *old) {
	size_t i = ((uintptr_t)old >> 4) * 0x9e3779b97f4a7c15u >> 20;
	for (;; i++) {
		uint32_t *slot = &r->slots[i & (r->nslots - 1)];
		if (*slot == 0 || r->pairs[*slot - 1].old == old) {
			return slot;
		}
	}
}

static void
grow(struct rebind *r) {
	size_t room = r->room == 0 ? 64 : r->room * 2;
	struct pair *pairs = lua_newuserdatauv(r->L, room * sizeof(*pairs), 0);
	size_t nslots = room * 2;
	uint32_t *slots = lua_newuserdatauv(r->L, nslots * sizeof(*slots), 0);
	if (r->n > 0) {
		memcpy(pairs, r->pairs, r->n * sizeof(*pairs));
	}
	memset(slots, 0, nslots * sizeof(*slots));
	r->pairs = pairs;
	r->room = room;
	r->slots = slots;
	r->nslots = nslots;
	for (size_t i = 0; i < r->n; i++) {
		*slot_of(r, pairs[i].old) = (uint32_t)i + 1;
	}
	lua_replace(r->L, SLOTS);
	lua_replace(r->L, PAIRS);
}

/* Pairs the old table at -2 with the value at -1; the first path to it counts. */
static void
add_pair(struct rebind *r) {
	const void *old = lua_topointer(r->L, -2);
	if (old == lua_topointer(r->L, -1)) {
		return;
	}
	if (r->n == r->room) {
		grow(r);
	}
	uint32_t *slot = slot_of(r, old);
	if (*slot != 0) {
		return;
	}
	struct pair *p = &r->pairs[r->n];
	p->old = old;
	setobj(NO_STATE, &p->new, s2v(r->L->top.p - 1));
	*slot = (uint32_t)++r->n;
	uintptr_t at = (uintptr_t)old;
	r->base.low = at < r->base.low ? at : r->base.low;
	r->base.high = at >= r->base.high ? at + 1 : r->base.high;
}

static void
push_value(lua_State *L, const TValue *v) {
	setobj(NO_STATE, s2v(L->top.p), v);
	L->top.p++;
}

/* Pairs the tables in the n-th pair's old table with what its new one has there. */
static void
add_children(struct rebind *r, size_t n) {
	lua_State *L = r->L;
	int old = lua_gettop(L) + 1;
	sethvalue2s(L, L->top.p, (Table *)(uintptr_t)r->pairs[n].old);
	L->top.p++;
	push_value(L, &r->pairs[n].new);
	bool is_table = lua_istable(L, -1);
	lua_pushnil(L);
	while (lua_next(L, old)) {
		if (lua_istable(L, -1)) {
			if (is_table) {
				lua_pushvalue(L, -2);
				lua_rawget(L, old + 1);
			} else {
				lua_pushnil(L);
			}
			add_pair(r);
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
	lua_settop(L, old - 1);
}

static void
add_version_pairs(struct rebind *r) {
	const void *table = lua_sharetable_leased(r->L, -1);
	if (table != NULL) {
		lua_clonetable(r->L, table);
		lua_replace(r->L, -2);
	}
	if (lua_istable(r->L, -1)) {
		lua_pushvalue(r->L, NEW);
		add_pair(r);
		lua_pop(r->L, 1);
	}
}

static size_t
match_table(struct walk *w, const void *p) {
	return *slot_of((struct rebind *)w, p);
}

static void
replace_value(struct walk *w, size_t found, TValue *v) {
	setobj(NO_STATE, v, &((struct rebind *)w)->pairs[found - 1].new);
}

static void
replace_metatable(struct walk *w, size_t found, Table **mt) {
	const TValue *v = &((struct rebind *)w)->pairs[found - 1].new;
	*mt = ttistable(v) ? hvalue(v) : NULL;
}

static void
note_key(struct walk *w, size_t found, Table *t) {
	struct rebind *r = (struct rebind *)w;
	(void)found;
	if (!r->is_listing) {
		r->nrekey++;
	} else if (r->nrekey > 0) {
		/* There is room in the list, so this allocates nothing. */
		lua_State *L = r->L;
		sethvalue2s(L, L->top.p, t);
		L->top.p++;
		lua_rawseti(L, REKEYED, (lua_Integer)r->nrekey--);
	}
}

static void
ignore_code(struct walk *w, size_t found) {
	(void)w;
	(void)found;
}

static void
ignore_value(struct walk *w, size_t found, TValue *v) {
	(void)w;
	(void)found;
	(void)v;
}

static void
ignore_metatable(struct walk *w, size_t found, Table **mt) {
	(void)w;
	(void)found;
	(void)mt;
}

/* Replaces the keys of the table on the top of the stack. */
static void
rekey_table(struct rebind *r) {
	lua_State *L = r->L;
	int t = lua_gettop(L), found = t + 1;
	lua_Integer n = 0;
	lua_newtable(L);
	lua_pushnil(L);
	while (lua_next(L, t)) {
		if (lua_istable(L, -2) && match(&r->base, lua_topointer(L, -2)) != 0) {
			lua_pushvalue(L, -2);
			lua_rawseti(L, found, ++n);
			lua_rawseti(L, found, ++n);
		} else {
			lua_pop(L, 1);
		}
	}
	for (lua_Integer i = 1; i < n; i += 2) {
		lua_rawgeti(L, found, i);
		size_t pair = match(&r->base, lua_topointer(L, -1));
		lua_pushnil(L);
		lua_rawset(L, t);
		const TValue *new = &r->pairs[pair - 1].new;
		bool is_key = !ttisnil(new) && !(ttisfloat(new) && fltvalue(new) != fltvalue(new));
		if (is_key) {
			push_value(L, new);
			lua_rawgeti(L, found, i + 1);
			lua_rawset(L, t);
		}
		lua_settop(L, found);
	}
	for (lua_Integer i = 1; i <= n; i++) {
		/* Garbage that refers to the old version would count as its user. */
		lua_pushnil(L);
		lua_rawseti(L, found, i);
	}
	lua_settop(L, t);
}

/* Enters the tables whose keys are to be replaced into a list, and replaces them. */
static void
rekey(struct rebind *r) {
	lua_State *L = r->L;
	if (r->nrekey == 0) {
		return;
	}
	lua_Integer n = (lua_Integer)r->nrekey;
	lua_createtable(L, (int)n, 0);
	lua_replace(L, REKEYED);
	for (lua_Integer i = 1; i <= n; i++) {
		lua_pushboolean(L, 0); /* the list's memory may not be an array before */
		lua_rawseti(L, REKEYED, i);
	}
	r->is_listing = true;
	r->base.value = ignore_value;
	r->base.metatable = ignore_metatable;
	walk_vm(&r->base, L);
	for (lua_Integer i = 1; i <= n; i++) {
		if (lua_rawgeti(L, REKEYED, i) == LUA_TTABLE) {
			rekey_table(r);
		}
		lua_pop(L, 1);
	}
}

/*
 * The walk writes without the collector's barriers. What is shared needs none.
 * Where sharing is off, a full collection in incremental mode leaves all objects
 * white, between two collections, and then nothing else needs one either.
 */
static void
replace_everywhere(struct rebind *r) {
#ifdef LUA_CACHELIB
	walk_vm(&r->base, r->L);
#else
	lua_State *L = r->L;
	bool is_running = lua_gc(L, LUA_GCISRUNNING);
	int mode = lua_gc(L, LUA_GCINC);
	if (mode < 0) {
		luaL_error(L, "shared tables cannot be updated in a finalizer");
	}
	lua_gc(L, LUA_GCCOLLECT);
	lua_gc(L, LUA_GCSTOP);
	walk_vm(&r->base, L);
	if (is_running) {
		lua_gc(L, LUA_GCRESTART);
	}
	if (mode == LUA_GCGEN) {
		lua_gc(L, LUA_GCGEN);
	}
#endif
}

int
lua_sharetable_rebind(lua_State *L) {
	luaL_checktype(L, NEW, LUA_TTABLE);
	luaL_checktype(L, OLDS, LUA_TTABLE);
	lua_settop(L, REKEYED);
	struct rebind r = {
	    .base = {UINTPTR_MAX, 0, match_table, replace_value, replace_metatable, note_key,
	             ignore_code},
	    .L = L,
	};
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	lua_Integer n = (lua_Integer)lua_rawlen(L, OLDS);
	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, OLDS, i);
		add_version_pairs(&r);
		lua_pop(L, 1);
	}
	for (size_t i = 0; i < r.n; i++) {
		add_children(&r, i);
	}
	if (r.n > 0) {
		replace_everywhere(&r);
		rekey(&r);
	}
	return 0;
}
