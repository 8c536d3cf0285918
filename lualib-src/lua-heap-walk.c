/*
 * See lua-heap.h. Breadth first, so that an object belongs to the shortest way
 * to it. Reads Lua's own structures, with the private headers of the Lua that is
 * built with us, and writes nothing. What is shared between states belongs to
 * none of them and is left out.
 *
 * Costs some 40 bytes of C memory and 100 to 200 ns an object while it runs.
 */
#include "lua-heap.h"

#include <string.h>

#include "lfunc.h"
#include "lgc.h"
#include "lobject.h"
#include "lstate.h"
#include "lstring.h"
#include "ltable.h"

#include <lauxlib.h>

#include "skynet_malloc.h"

/* Places: all, different fields of one, steps from a root. Beyond that things
 * are put together. */
#define MAX_PLACES 65536u
#define MAX_FIELDS 64
#define MAX_DEPTH 16

/* Set in what the overlay of 3rd/lua shares; stock Lua never sets it. */
#define is_shared(o) testbit((o)->marked, TESTBIT)

struct item {
	GCObject *o;
	uint32_t place;
};

struct heap_inside {
	struct item *queue;
	size_t head, n, room;
	GCObject **seen; /* open addressing */
	size_t seen_room;
	uint32_t *index; /* of places, the same; 0: empty, else place + 1 */
	size_t index_room;
	uint32_t place_room;
};

/*--------------------------------------------------------------------- sizes */

/* As objsize in lgc.c, which is not for us to call. */
static size_t
table_size(const Table *t) {
	size_t size = sizeof(Table);
	if (t->asize > 0) {
		size += t->asize * (sizeof(Value) + 1) + sizeof(unsigned);
	}
	if (!isdummy(t)) {
		/* Tables of 8 nodes and more have a pointer in front of them. */
		size += (size_t)sizenode(t) * sizeof(Node) + (t->lsizenode >= 3 ? sizeof(Node *) : 0);
	}
	return size;
}

static size_t
code_size(const Proto *p) {
	size_t size = sizeof(Proto) + (size_t)p->sizep * sizeof(Proto *) +
	              (size_t)p->sizek * sizeof(TValue) + (size_t)p->sizelocvars * sizeof(LocVar) +
	              (size_t)p->sizeupvalues * sizeof(Upvaldesc);
	if (!(p->flag & PF_FIXED)) {
		size += (size_t)p->sizecode * sizeof(Instruction) + (size_t)p->sizelineinfo +
		        (size_t)p->sizeabslineinfo * sizeof(AbsLineInfo);
	}
	return size;
}

static size_t
string_size(const TString *s) {
	if (s->tt == LUA_VSHRSTR) {
		return sizestrshr((unsigned)s->shrlen);
	}
	switch (s->shrlen) {
	case LSTRREG:
		return offsetof(TString, falloc) + s->u.lnglen + 1;
	case LSTRFIX:
		return offsetof(TString, falloc);
	default: /* LSTRMEM: a block of its own, as what is built in a buffer has */
		return sizeof(TString) + s->u.lnglen + 1;
	}
}

static size_t
thread_size(const lua_State *th) {
	size_t size = sizeof(LX) + (size_t)th->nci * sizeof(CallInfo);
	if (th->stack.p != NULL) {
		size += ((size_t)stacksize(th) + EXTRA_STACK) * sizeof(StackValue);
	}
	return size;
}

static size_t
size_of(GCObject *o, enum heap_type *type) {
	switch (o->tt) {
	case LUA_VTABLE:
		*type = HEAP_TABLE;
		return table_size(gco2t(o));
	case LUA_VLCL:
		*type = HEAP_CLOSURE;
		return (size_t)sizeLclosure(gco2lcl(o)->nupvalues);
	case LUA_VCCL:
		*type = HEAP_CFUNCTION;
		return (size_t)sizeCclosure(gco2ccl(o)->nupvalues);
	case LUA_VUSERDATA:
		*type = HEAP_USERDATA;
		return sizeudata(gco2u(o)->nuvalue, gco2u(o)->len);
	case LUA_VTHREAD:
		*type = HEAP_THREAD;
		return thread_size(gco2th(o));
	case LUA_VPROTO:
		*type = HEAP_CODE;
		return code_size(gco2p(o));
	case LUA_VUPVAL:
		*type = HEAP_UPVALUES;
		return sizeof(UpVal);
	default:
		*type = HEAP_STRING;
		return string_size(gco2ts(o));
	}
}

const char *
heap_text(const void *what, size_t *len) {
	TString *s = (TString *)(uintptr_t)what;
	const char *text = getlstr(s, *len);
	return text;
}

/*-------------------------------------------------------------------- tables */

static size_t
mix(uintptr_t a, uintptr_t b) {
	uint64_t h = ((uint64_t)a ^ ((uint64_t)b << 32 | (uint64_t)b >> 32)) * 0x9E3779B97F4A7C15u;
	return (size_t)(h >> 20);
}

static GCObject **
seen_find(const struct heap_inside *in, const GCObject *o) {
	size_t i = mix((uintptr_t)o >> 3, 0) & (in->seen_room - 1);
	while (in->seen[i] != NULL && in->seen[i] != o) {
		i = (i + 1) & (in->seen_room - 1);
	}
	return &in->seen[i];
}

static void
seen_grow(struct heap_inside *in) {
	struct heap_inside bigger = {.seen_room = in->seen_room * 2};
	bigger.seen = skynet_calloc(bigger.seen_room, sizeof(bigger.seen[0]));
	for (size_t i = 0; i < in->seen_room; i++) {
		if (in->seen[i] != NULL) {
			*seen_find(&bigger, in->seen[i]) = in->seen[i];
		}
	}
	skynet_free(in->seen);
	in->seen = bigger.seen;
	in->seen_room = bigger.seen_room;
}

/* True when it was not there yet. */
static bool
seen_add(struct heap_walk *w, GCObject *o) {
	struct heap_inside *in = w->inside;
	GCObject **slot = seen_find(in, o);
	if (*slot != NULL) {
		return false;
	}
	if (w->total.count == w->limit) {
		w->is_truncated = true;
		return false;
	}
	*slot = o;
	if (w->total.count * 2 >= in->seen_room) {
		seen_grow(in);
	}
	return true;
}

static void
enqueue(struct heap_inside *in, GCObject *o, uint32_t place) {
	if (in->n == in->room) {
		/* Most of it may be done with. */
		if (in->head > in->n / 2) {
			in->n -= in->head;
			memmove(in->queue, in->queue + in->head, in->n * sizeof(in->queue[0]));
			in->head = 0;
		} else {
			in->room *= 2;
			in->queue = skynet_realloc(in->queue, in->room * sizeof(in->queue[0]));
		}
	}
	in->queue[in->n++] = (struct item){.o = o, .place = place};
}

/*-------------------------------------------------------------------- places */

static bool
is_same(const struct heap_place *a, const struct heap_place *b) {
	return a->what == b->what && a->parent == b->parent && a->step == b->step && a->line == b->line;
}

static uint32_t *
place_find(const struct heap_walk *w, const struct heap_place *p) {
	const struct heap_inside *in = w->inside;
	size_t i =
	    mix((uintptr_t)p->what, (uintptr_t)p->parent * 16 + p->step + (uintptr_t)p->line * 64) &
	    (in->index_room - 1);
	while (in->index[i] != 0 && !is_same(&w->place[in->index[i] - 1], p)) {
		i = (i + 1) & (in->index_room - 1);
	}
	return &in->index[i];
}

static uint32_t
place_add(struct heap_walk *w, uint32_t *slot, const struct heap_place *p) {
	struct heap_inside *in = w->inside;
	if (w->places == in->place_room) {
		in->place_room *= 2;
		w->place = skynet_realloc(w->place, in->place_room * sizeof(w->place[0]));
	}
	w->place[w->places] = *p;
	*slot = ++w->places;
	return w->places - 1;
}

static uint32_t
place_of(struct heap_walk *w, uint32_t parent, enum heap_step step, const void *what, int line) {
	struct heap_place p = {.what = what, .parent = parent, .line = line, .step = (uint8_t)step};
	if (step != HEAP_ROOT && step != HEAP_FUNCTION) {
		p.depth = (uint8_t)(w->place[parent].depth + 1);
		if (p.depth > MAX_DEPTH) {
			return parent;
		}
	}
	uint32_t *slot = place_find(w, &p);
	if (*slot != 0) {
		return *slot - 1;
	}
	if (w->places == MAX_PLACES) {
		return parent;
	}
	if (step == HEAP_FIELD && ++w->place[parent].fields > MAX_FIELDS) {
		w->place[parent].fields = MAX_FIELDS;
		return place_of(w, parent, HEAP_KEY, NULL, 0);
	}
	return place_add(w, slot, &p);
}

static uint32_t
function_place(struct heap_walk *w, uint32_t parent, const Proto *p) {
	if (p->source == NULL) {
		return parent;
	}
	return place_of(w, 0, HEAP_FUNCTION, p->source, p->linedefined);
}

/*--------------------------------------------------------------------- steps */

static bool
refers_to_others(const GCObject *o) {
	return o->tt != LUA_VSHRSTR && o->tt != LUA_VLNGSTR && o->tt != LUA_VUPVAL;
}

static void
count(struct heap_walk *w, uint32_t place, GCObject *o) {
	enum heap_type type;
	size_t size = size_of(o, &type);
	w->place[place].count++;
	w->place[place].bytes += size;
	w->type[type].count++;
	w->type[type].bytes += size;
	w->total.count++;
	w->total.bytes += size;
}

static void
visit(struct heap_walk *w, GCObject *o, uint32_t parent, enum heap_step step, const void *what) {
	if (is_shared(o) || !seen_add(w, o)) {
		return;
	}
	uint32_t place = o->tt == LUA_VLCL     ? function_place(w, parent, gco2lcl(o)->p)
	                 : o->tt == LUA_VPROTO ? function_place(w, parent, gco2p(o))
	                                       : place_of(w, parent, step, what, 0);
	count(w, place, o);
	if (refers_to_others(o)) {
		enqueue(w->inside, o, place);
	}
}

static void
visit_value(struct heap_walk *w, const TValue *v, uint32_t parent, enum heap_step step,
            const void *what) {
	if (iscollectable(v)) {
		visit(w, gcvalue(v), parent, step, what);
	}
}

static void
walk_node(struct heap_walk *w, const Node *node, uint32_t place) {
	if (isempty(gval(node))) {
		return;
	}
	if (keyisshrstr(node)) {
		visit_value(w, gval(node), place, HEAP_FIELD, keystrval(node));
	} else {
		visit_value(w, gval(node), place, keyisinteger(node) ? HEAP_INDEX : HEAP_KEY, NULL);
	}
	if (keyiscollectable(node)) {
		visit(w, gckey(node), place, HEAP_KEY, NULL);
	}
}

static void
walk_table(struct heap_walk *w, const Table *t, uint32_t place) {
	if (t->metatable != NULL) {
		visit(w, obj2gco(t->metatable), place, HEAP_META, NULL);
	}
	for (unsigned i = 0; i < t->asize; i++) {
		if (*getArrTag(t, i) & BIT_ISCOLLECTABLE) {
			visit(w, getArrVal(t, i)->gc, place, HEAP_INDEX, NULL);
		}
	}
	for (unsigned i = 0; i < (unsigned)sizenode(t); i++) {
		walk_node(w, gnode(t, i), place);
	}
}

static void
walk_closure(struct heap_walk *w, const LClosure *cl, uint32_t place) {
	if (cl->p == NULL) {
		return; /* being made */
	}
	visit(w, obj2gco(cl->p), place, HEAP_FUNCTION, NULL);
	for (int i = 0; i < cl->nupvalues; i++) {
		UpVal *uv = cl->upvals[i];
		if (uv != NULL) {
			const TString *name = i < cl->p->sizeupvalues ? cl->p->upvalues[i].name : NULL;
			visit(w, obj2gco(uv), place, HEAP_UPVALUE, name);
			visit_value(w, uv->v.p, place, HEAP_UPVALUE, name);
		}
	}
}

static void
walk_code(struct heap_walk *w, const Proto *p, uint32_t place) {
	if (p->source != NULL) {
		visit(w, obj2gco(p->source), place, HEAP_KEY, NULL);
	}
	for (int i = 0; i < p->sizek; i++) {
		visit_value(w, &p->k[i], place, HEAP_KEY, NULL);
	}
	for (int i = 0; i < p->sizep; i++) {
		if (p->p[i] != NULL) {
			visit(w, obj2gco(p->p[i]), place, HEAP_FUNCTION, NULL);
		}
	}
	for (int i = 0; i < p->sizeupvalues; i++) {
		if (p->upvalues[i].name != NULL) {
			visit(w, obj2gco(p->upvalues[i].name), place, HEAP_KEY, NULL);
		}
	}
	for (int i = 0; i < p->sizelocvars; i++) {
		if (p->locvars[i].varname != NULL) {
			visit(w, obj2gco(p->locvars[i].varname), place, HEAP_KEY, NULL);
		}
	}
}

static void
walk_userdata(struct heap_walk *w, Udata *u, uint32_t place) {
	if (u->metatable != NULL) {
		visit(w, obj2gco(u->metatable), place, HEAP_META, NULL);
	}
	for (int i = 0; i < u->nuvalue; i++) {
		visit_value(w, &u->uv[i].uv, place, HEAP_USERVALUE, NULL);
	}
}

static void
walk_thread(struct heap_walk *w, lua_State *th, uint32_t place) {
	if (th->stack.p == NULL) {
		return;
	}
	for (StkId o = th->stack.p; o < th->top.p; o++) {
		visit_value(w, s2v(o), place, HEAP_STACK, NULL);
	}
}

static void
walk_object(struct heap_walk *w, GCObject *o, uint32_t place) {
	switch (o->tt) {
	case LUA_VTABLE:
		walk_table(w, gco2t(o), place);
		break;
	case LUA_VLCL:
		walk_closure(w, gco2lcl(o), place);
		break;
	case LUA_VCCL:
		for (int i = 0; i < gco2ccl(o)->nupvalues; i++) {
			visit_value(w, &gco2ccl(o)->upvalue[i], place, HEAP_UPVALUE, NULL);
		}
		break;
	case LUA_VPROTO:
		walk_code(w, gco2p(o), place);
		break;
	case LUA_VUSERDATA:
		walk_userdata(w, gco2u(o), place);
		break;
	default:
		walk_thread(w, gco2th(o), place);
		break;
	}
}

/*----------------------------------------------------------------- the walk */

static void
visit_root(struct heap_walk *w, GCObject *o, const char *name) {
	uint32_t place = place_of(w, 0, HEAP_ROOT, name, 0);
	if (!is_shared(o) && seen_add(w, o)) {
		count(w, place, o);
		enqueue(w->inside, o, place);
	}
}

/* An entry of the registry that deserves a name of its own. */
static void
visit_entry(lua_State *L, struct heap_walk *w, const char *name) {
	const TValue *v = s2v(L->top.p - 1);
	if (ttistable(v)) {
		visit_root(w, gcvalue(v), name);
	}
	lua_pop(L, 1);
}

static void
visit_roots(lua_State *L, struct heap_walk *w) {
	const global_State *g = G(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
	visit_entry(L, w, "_G");
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	visit_entry(L, w, "loaded");
	visit_root(w, gcvalue(&g->l_registry), "registry");
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
	visit_root(w, gcvalue(s2v(L->top.p - 1)), "main thread");
	lua_pop(L, 1);
	for (int i = 0; i < LUA_NUMTYPES; i++) {
		if (g->mt[i] != NULL) {
			visit_root(w, obj2gco(g->mt[i]), "metatables of types");
		}
	}
}

/*
 * The state itself with its table of short strings. The main thread counts for
 * itself. What comes from strcache on is not where the header says: its size is
 * an option of the build.
 */
static void
count_state(lua_State *L, struct heap_walk *w) {
	const global_State *g = G(L);
	size_t size = offsetof(global_State, strcache) + (size_t)g->strt.size * sizeof(TString *);
	uint32_t place = place_of(w, 0, HEAP_ROOT, "Lua state", 0);
	w->place[place].count++;
	w->place[place].bytes += size;
	w->type[HEAP_STATE].count++;
	w->type[HEAP_STATE].bytes += size;
	w->total.bytes += size;
}

void
heap_walk(lua_State *L, struct heap_walk *w) {
	struct heap_inside *in = skynet_calloc(1, sizeof(*in));
	w->inside = in;
	in->room = 1024;
	in->queue = skynet_malloc(in->room * sizeof(in->queue[0]));
	in->seen_room = 4096;
	in->seen = skynet_calloc(in->seen_room, sizeof(in->seen[0]));
	in->index_room = 2 * MAX_PLACES;
	in->index = skynet_calloc(in->index_room, sizeof(in->index[0]));
	in->place_room = 256;
	w->place = skynet_malloc(in->place_room * sizeof(w->place[0]));
	count_state(L, w);
	visit_roots(L, w);
	while (in->head < in->n) {
		struct item item = in->queue[in->head++];
		walk_object(w, item.o, item.place);
	}
}

void
heap_walk_free(struct heap_walk *w) {
	if (w->inside != NULL) {
		skynet_free(w->inside->queue);
		skynet_free(w->inside->seen);
		skynet_free(w->inside->index);
		skynet_free(w->inside);
		w->inside = NULL;
	}
	skynet_free(w->place);
	w->place = NULL;
}
