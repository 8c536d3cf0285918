/*
** Images of states: what a new state consists of, taken once from a state that
** was made the usual way, and laid into further ones.
**
** An image is a list of *pieces*, each the bytes of one block of a state's
** memory: an object, or one of the two parts of the table before it; and of the long
** strings that these refer to, which all states use where they are. A *link* is
** a place in a piece that points to an object. Laying an image allocates every
** piece through the state, copies its bytes, sets the links, and only then lets the
** state refer to the objects; so a failed allocation leaves the state as it was, but
** for garbage.
**
** What makes the bytes valid in another state: short strings are shared, hence
** the same everywhere, and so are their hashes, on which places in tables depend;
** long strings are shared copies, too. Functions are C functions. An object as a
** key would be found by its address, so there is none.
**
** An image is immutable, and may be laid by many threads at once.
*/

#define LUA_CORE

#include "lprefix.h"

#include <string.h>

#include "ldo.h"
#include "lfunc.h"
#include "lmem.h"
#include "lstring.h"
#include "ltable.h"
#include "share.h"

/*
** The objects of a state's core libraries are some fifty.
*/
enum { MAX_PIECES = 256, MAX_LINKS = 1024 };

/* Pieces that every image begins with. */
enum { MAIN_THREAD, REGISTRY };

/* What begins every object and belongs to the collector. */
enum { HEADER = offsetof(GCObject, marked) + sizeof(lu_byte) };

enum piece_kind { EXISTING, OBJECT, ARRAY, NODES, STRING };

struct piece {
	enum piece_kind kind;
	size_t size;
	char *bytes;              /* without the rest: what the template has */
	const GCObject *original; /* while the image is taken */
};

struct link {
	unsigned short piece, target;
	unsigned offset;
};

struct image {
	int npieces, nlinks, nfinalized;
	struct piece pieces[MAX_PIECES];
	struct link links[MAX_LINKS];
	unsigned short finalized[MAX_PIECES];    /* objects to be finalized, oldest first */
	unsigned short metatables[LUA_NUMTYPES]; /* of basic types; 0 is none */
};

/*
** An image, and its pieces in a state.
*/
struct laying {
	const struct image *image;
	char *blocks[MAX_PIECES];
};

/*------------------------------------------------------------------- taking */

struct taker {
	struct image *image;
	const char *error;
};

/*
** Adds a piece with a copy of 'bytes', if any. Returns its number.
*/
static int
add_piece(struct taker *t, enum piece_kind kind, const void *bytes, size_t size) {
	struct piece *p = &t->image->pieces[t->image->npieces];
	if (t->image->npieces == MAX_PIECES) {
		t->error = "too many objects";
		return 0;
	}
	p->kind = kind;
	p->size = size;
	p->original = kind == OBJECT || kind == EXISTING ? bytes : NULL;
	p->bytes = NULL;
	if (kind != EXISTING) {
		p->bytes = share_alloc(size);
		if (p->bytes == NULL) {
			t->error = "not enough memory";
			return 0;
		}
		if (bytes != NULL) {
			memcpy(p->bytes, bytes, size);
		}
	}
	return t->image->npieces++;
}

static GCObject *
add_string(struct taker *t, const TString *ts) {
	size_t size = 0, used = 0;
	share_copylong(ts, NULL, &size);
	int n = add_piece(t, STRING, NULL, size);
	return t->error != NULL ? NULL
	                        : (GCObject *)share_copylong(ts, t->image->pieces[n].bytes, &used);
}

static size_t
size_of(const GCObject *o) {
	switch (o->tt) {
	case LUA_VTABLE:
		return sizeof(Table);
	case LUA_VCCL:
		return (size_t)sizeCclosure(gco2ccl(o)->nupvalues);
	case LUA_VUSERDATA:
		return sizeudata(gco2u(o)->nuvalue, gco2u(o)->len);
	default:
		return 0;
	}
}

/*
** Returns the piece of an object, which it enters unless it is known.
*/
static int
enter(struct taker *t, GCObject *o) {
	for (int i = 0; i < t->image->npieces; i++) {
		if (t->image->pieces[i].original == o) {
			return i;
		}
	}
	if (size_of(o) == 0) {
		t->error = "an object of a kind that cannot be copied";
		return 0;
	}
	int n = add_piece(t, OBJECT, o, size_of(o));
	if (t->error == NULL && o->tt == LUA_VTABLE) {
		const Table *h = gco2t(o);
		if (h->asize > 0) {
			add_piece(t, ARRAY, h->array - h->asize, share_arraybytes(h->asize));
		}
		if (t->error == NULL && !isdummy(h)) {
			add_piece(t, NODES, h->node, sizenode(h) * sizeof(Node));
		}
	}
	return n;
}

/*
** Makes what a state refers to at 'offset' of a piece good for all states. 'v' is
** the value there.
*/
static void
take_value(struct taker *t, int piece, size_t offset, lu_byte tt, GCObject *o) {
	char *place = t->image->pieces[piece].bytes + offset;
	GCObject *copy = NULL;
	if (!(tt & BIT_ISCOLLECTABLE) || isshared(o)) {
		return;
	}
	if (withvariant(tt) == LUA_VSHRSTR) {
		copy = (GCObject *)share_intern(getshrstr(gco2ts(o)), (size_t)gco2ts(o)->shrlen);
	} else if (withvariant(tt) == LUA_VLNGSTR) {
		copy = add_string(t, gco2ts(o));
	} else {
		int target = enter(t, o);
		if (t->error == NULL && t->image->nlinks == MAX_LINKS) {
			t->error = "too many references";
		} else if (t->error == NULL) {
			t->image->links[t->image->nlinks++] =
			    (struct link){(unsigned short)piece, (unsigned short)target, (unsigned)offset};
		}
		return;
	}
	if (copy == NULL) {
		t->error = t->error != NULL ? t->error : "not enough memory";
		return;
	}
	memcpy(place, &copy, sizeof(copy));
}

static void
take_tvalue(struct taker *t, int piece, size_t offset, const TValue *v) {
	take_value(t, piece, offset + offsetof(TValue, value_), rawtt(v),
	           iscollectable(v) ? gcvalue(v) : NULL);
}

static void
take_pointer(struct taker *t, int piece, size_t offset, GCObject *o) {
	if (o != NULL) {
		take_value(t, piece, offset, ctb(o->tt), o);
	}
}

static void
take_array(struct taker *t, int piece, const Table *h) {
	for (unsigned i = 0; i < h->asize && t->error == NULL; i++) {
		lu_byte tt = *getArrTag(h, i);
		size_t offset = (h->asize - 1 - i) * sizeof(Value);
		take_value(t, piece, offset, tt, tt & BIT_ISCOLLECTABLE ? getArrVal(h, i)->gc : NULL);
	}
}

/*
** An entry that was removed keeps the name that it had, so that it can come back in
** its place; any other key is only there to be passed by.
*/
static void
take_nodes(struct taker *t, int piece, const Table *h) {
	for (unsigned i = 0; i < sizenode(h) && t->error == NULL; i++) {
		const Node *n = gnode(h, i);
		size_t offset = i * sizeof(Node);
		if (isempty(gval(n)) && !keyisshrstr(n)) {
			Node *copy = (Node *)t->image->pieces[piece].bytes + i;
			if (keyiscollectable(n) || keyisdead(n)) {
				setdeadkey(copy);
				keyval(copy).gc = NULL;
			}
			continue;
		}
		take_tvalue(t, piece, offset + offsetof(Node, i_val), gval(n));
		if (keyiscollectable(n) && novariant(keytt(n)) != LUA_TSTRING) {
			t->error = "a table with an object as a key";
		} else if (t->error == NULL) {
			take_value(t, piece, offset + offsetof(Node, u.key_val), (lu_byte)keytt(n),
			           keyiscollectable(n) ? gckey(n) : NULL);
		}
	}
}

/*
** Follows the references of the n-th piece, an object. The parts of a table come
** after it.
*/
static void
take_object(struct taker *t, int n) {
	const struct piece *p = &t->image->pieces[n];
	GCObject *o = (GCObject *)p->original;
	switch (o->tt) {
	case LUA_VTABLE: {
		const Table *h = gco2t(o);
		take_pointer(t, n, offsetof(Table, metatable), (GCObject *)h->metatable);
		if (h->asize > 0) {
			take_array(t, n + 1, h);
		}
		if (!isdummy(h)) {
			take_nodes(t, n + 1 + (h->asize > 0), h);
		}
		break;
	}
	case LUA_VCCL:
		for (int i = 0; i < gco2ccl(o)->nupvalues && t->error == NULL; i++) {
			take_tvalue(t, n, offsetof(CClosure, upvalue) + (size_t)i * sizeof(TValue),
			            &gco2ccl(o)->upvalue[i]);
		}
		break;
	default:
		take_pointer(t, n, offsetof(Udata, metatable), (GCObject *)gco2u(o)->metatable);
		for (int i = 0; i < gco2u(o)->nuvalue && t->error == NULL; i++) {
			take_tvalue(t, n, offsetof(Udata, uv) + (size_t)i * sizeof(UValue),
			            &gco2u(o)->uv[i].uv);
		}
	}
}

/*
** The list begins with the object that was marked for finalization last.
*/
static void
take_finalizers(struct taker *t, const GCObject *list) {
	struct image *im = t->image;
	for (const GCObject *o = list; o != NULL; o = o->next) {
		for (int i = 0; i < im->npieces; i++) {
			if (im->pieces[i].original == o) {
				memmove(im->finalized + 1, im->finalized,
				        (size_t)im->nfinalized++ * sizeof(im->finalized[0]));
				im->finalized[0] = (unsigned short)i;
			}
		}
	}
}

static void
take(struct taker *t, global_State *g) {
	add_piece(t, EXISTING, mainthread(g), 0);
	enter(t, gcvalue(&g->l_registry));
	for (int i = 0; i < LUA_NUMTYPES && t->error == NULL; i++) {
		if (g->mt[i] != NULL) {
			t->image->metatables[i] = (unsigned short)enter(t, (GCObject *)g->mt[i]);
		}
	}
	for (int i = REGISTRY; i < t->image->npieces && t->error == NULL; i++) {
		if (t->image->pieces[i].kind == OBJECT) {
			take_object(t, i);
		}
	}
	take_finalizers(t, g->finobj);
}

LUA_API const void *
lua_takeimage(lua_State *L, const char **error) {
	struct taker t = {.image = share_alloc(sizeof(struct image)), .error = NULL};
	if (t.image == NULL) {
		*error = "not enough memory";
		return NULL;
	}
	memset(t.image, 0, sizeof(*t.image));
	take(&t, G(L));
	if (t.error == NULL) {
		return t.image;
	}
	lua_freeimage(t.image);
	*error = t.error;
	return NULL;
}

LUA_API void
lua_freeimage(const void *image) {
	struct image *im = (struct image *)image;
	if (im == NULL) {
		return;
	}
	for (int i = 0; i < im->npieces; i++) {
		share_free(im->pieces[i].bytes, im->pieces[i].size);
	}
	share_free(im, sizeof(*im));
}

/*------------------------------------------------------------------- laying */

/*
** Makes an object. Until its parts are there, a table has none, so that it can be
** freed.
*/
static char *
lay_object(lua_State *L, const struct piece *p) {
	const GCObject *from = (const GCObject *)p->bytes;
	GCObject *o = luaC_newobj(L, from->tt, p->size);
	memcpy((char *)o + HEADER, p->bytes + HEADER, p->size - HEADER);
	if (o->tt == LUA_VTABLE) {
		gco2t(o)->asize = 0;
		gco2t(o)->array = NULL;
		share_nonodes(gco2t(o));
	}
	return (char *)o;
}

static void
lay(lua_State *L, void *ud) {
	struct laying *l = ud;
	const GCObject *template = NULL;
	Table *h = NULL;
	for (int i = REGISTRY; i < l->image->npieces; i++) {
		const struct piece *p = &l->image->pieces[i];
		switch (p->kind) {
		case ARRAY:
			l->blocks[i] = luaM_newblock(L, p->size);
			memcpy(l->blocks[i], p->bytes, p->size);
			h->asize = gco2t(template)->asize;
			h->array = (Value *)l->blocks[i] + h->asize;
			break;
		case NODES:
			l->blocks[i] = (char *)share_newnodes(L, h, gco2t(template)->lsizenode, p->bytes);
			break;
		case STRING:
			break;
		default:
			template = (const GCObject *)p->bytes;
			l->blocks[i] = lay_object(L, p);
			h = template->tt == LUA_VTABLE ? (Table *)l->blocks[i] : NULL;
		}
	}
}

static void
set_links(const struct laying *l) {
	const struct image *im = l->image;
	for (int i = 0; i < im->nlinks; i++) {
		const struct link *k = &im->links[i];
		memcpy(l->blocks[k->piece] + k->offset, &l->blocks[k->target], sizeof(void *));
	}
}

/*
** Moves what has a finalizer to where such objects are. All of 'allgc' before
** 'old' was just laid.
*/
static void
set_finalizers(global_State *g, const struct laying *l, const GCObject *old) {
	const struct image *im = l->image;
	if (im->nfinalized == 0) {
		return;
	}
	for (int i = 0; i < im->nfinalized; i++) {
		l_setbit(((GCObject *)l->blocks[im->finalized[i]])->marked, FINALIZEDBIT);
	}
	for (GCObject **p = &g->allgc; *p != old;) {
		if (tofinalize(*p)) {
			*p = (*p)->next;
		} else {
			p = &(*p)->next;
		}
	}
	for (int i = 0; i < im->nfinalized; i++) {
		GCObject *o = (GCObject *)l->blocks[im->finalized[i]];
		o->next = g->finobj;
		g->finobj = o;
	}
}

/*
** A new state's only objects are its thread, its registry and its globals, made in
** this order.
*/
static int
is_new(global_State *g) {
	const GCObject *registry = gcvalue(&g->l_registry);
	const GCObject *globals = g->allgc;
	return globals->tt == LUA_VTABLE && globals->next == registry &&
	       registry->next == obj2gco(mainthread(g)) && g->finobj == NULL && g->gckind == KGC_INC &&
	       g->gcstate == GCSpause && g->strt.nuse == 0;
}

/*
** Gives the state what was laid, in place of its first registry and globals, which
** come right after the new objects. Cannot fail.
*/
static void
install(lua_State *L, const struct laying *l) {
	global_State *g = G(L);
	GCObject *last = (GCObject *)l->blocks[REGISTRY]; /* it was laid first */
	GCObject *globals = last->next, *registry = globals->next;
	lua_assert(registry == gcvalue(&g->l_registry));
	set_links(l);
	sethvalue(L, &g->l_registry, gco2t(last));
	for (int i = 0; i < LUA_NUMTYPES; i++) {
		if (l->image->metatables[i] != 0) {
			g->mt[i] = (Table *)l->blocks[l->image->metatables[i]];
		}
	}
	last->next = registry->next;
	luaH_free(L, gco2t(registry));
	luaH_free(L, gco2t(globals));
	set_finalizers(g, l, last->next);
}

LUA_API int
lua_layimage(lua_State *L, const void *image) {
	global_State *g = G(L);
	struct laying l = {.image = image};
	lu_byte stopped = g->gcstp;
	int status;
	if (!is_new(g)) {
		return LUA_ERRRUN;
	}
	l.blocks[MAIN_THREAD] = (char *)mainthread(g);
	g->gcstp |= GCSTPGC;
	g->gcstopem = 1; /* nothing refers to the new objects yet */
	status = luaD_rawrunprotected(L, lay, &l);
	g->gcstopem = 0;
	g->gcstp = stopped;
	if (status == LUA_OK) {
		install(L, &l);
	}
	return status;
}
