/*
** Shared code: chunks, the references of states to them, and making closures.
**
** A chunk is one block, measured first and then filled: a header and the tree
** of prototypes with all arrays and long strings. Short strings are in the
** shared table. Reference counts: one for the code cache while the chunk is in
** it, one for each state that made a closure of it. Any thread may count.
**
** A state that has its own copy of a short string among the constants cannot
** run the shared prototype, because its strings are equal by address. It gets a
** private prototype, which differs in the constants only: code and line numbers
** stay in the chunk. Names of variables need no such care, nobody compares them
** by address.
*/

#define LUA_CORE

#include "lprefix.h"

#include <string.h>

#include "ldebug.h"
#include "ldo.h"
#include "lfunc.h"
#include "lmem.h"
#include "lstring.h"
#include "ltable.h"
#include "share.h"

atomic_size_t share_clears;

/* For statistics only. */
static atomic_size_t chunk_count;
static atomic_size_t chunk_bytes;

/*----------------------------------------------------------------- copying */

/*
** Cuts the next piece of a block, or only measures when there is no block.
*/
static void *
cut(char *mem, size_t *size, size_t piece) {
	size_t at = (*size + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
	*size = at + piece;
	return mem == NULL ? NULL : mem + at;
}

TString *
share_copylong(const TString *ts, char *mem, size_t *size) {
	size_t len = ts->u.lnglen;
	TString *copy = cut(mem, size, luaS_sizelngstr(len, LSTRREG));
	if (copy == NULL) {
		return NULL;
	}
	copy->next = NULL;
	copy->tt = LUA_VLNGSTR;
	copy->marked = SHAREDMARK;
	copy->shrlen = LSTRREG;
	copy->u.lnglen = len;
	copy->contents = (char *)copy + offsetof(TString, falloc);
	memcpy(copy->contents, ts->contents, len);
	copy->contents[len] = '\0';
	/* The hash is made now, as no reader may add it later. */
	copy->extra = 0;
	copy->hash = share_seed;
	luaS_hashlongstr(copy);
	return copy;
}

struct copier {
	char *mem; /* NULL while measuring */
	size_t *size;
	int failed; /* no memory for a short string */
	/* The source name is the same in the whole tree. */
	const TString *source;
	TString *source_copy;
};

static TString *
copy_string(struct copier *c, const TString *ts) {
	TString *copy;
	if (ts == NULL) {
		return NULL;
	}
	if (!strisshr(ts)) {
		return share_copylong(ts, c->mem, c->size);
	}
	if (isshared(ts)) {
		return (TString *)ts;
	}
	if (c->mem == NULL) {
		return NULL;
	}
	copy = share_intern(getshrstr(ts), (size_t)ts->shrlen);
	if (copy == NULL) {
		c->failed = 1;
	}
	return copy;
}

static TString *
copy_source(struct copier *c, const TString *source) {
	if (source != c->source) {
		c->source = source;
		c->source_copy = copy_string(c, source);
	}
	return c->source_copy;
}

static void *
copy_array(struct copier *c, const void *array, int n, size_t each) {
	void *copy = n > 0 ? cut(c->mem, c->size, (size_t)n * each) : NULL;
	if (copy != NULL) {
		memcpy(copy, array, (size_t)n * each);
	}
	return copy;
}

static void
copy_constants(struct copier *c, const Proto *f, Proto *copy) {
	TValue *k = copy_array(c, f->k, f->sizek, sizeof(TValue));
	for (int i = 0; i < f->sizek; i++) {
		if (ttisstring(&f->k[i])) {
			TString *ts = copy_string(c, tsvalue(&f->k[i]));
			if (k != NULL && ts != NULL) {
				setsvalue(cast(lua_State *, NULL), &k[i], ts);
			}
		}
	}
	copy->k = k;
}

static void
copy_names(struct copier *c, const Proto *f, Proto *copy) {
	copy->upvalues = copy_array(c, f->upvalues, f->sizeupvalues, sizeof(Upvaldesc));
	for (int i = 0; i < f->sizeupvalues; i++) {
		TString *name = copy_string(c, f->upvalues[i].name);
		if (copy->upvalues != NULL) {
			copy->upvalues[i].name = name;
		}
	}
	copy->locvars = copy_array(c, f->locvars, f->sizelocvars, sizeof(LocVar));
	for (int i = 0; i < f->sizelocvars; i++) {
		TString *name = copy_string(c, f->locvars[i].varname);
		if (copy->locvars != NULL) {
			copy->locvars[i].varname = name;
		}
	}
	copy->source = copy_source(c, f->source);
}

static Proto *
copy_tree(struct copier *c, const Proto *f) {
	Proto measured = *f;
	Proto *copy = cut(c->mem, c->size, sizeof(Proto));
	Proto *result = copy;
	if (copy == NULL) {
		copy = &measured;
	} else {
		*copy = *f;
	}
	copy->next = NULL;
	copy->marked = SHAREDMARK;
	copy->gclist = NULL;
	copy->flag &= cast_byte(~PF_FIXED);
	copy->code = copy_array(c, f->code, f->sizecode, sizeof(Instruction));
	copy->lineinfo = copy_array(c, f->lineinfo, f->sizelineinfo, sizeof(ls_byte));
	copy->abslineinfo = copy_array(c, f->abslineinfo, f->sizeabslineinfo, sizeof(AbsLineInfo));
	copy_constants(c, f, copy);
	copy_names(c, f, copy);
	copy->p = copy_array(c, f->p, f->sizep, sizeof(Proto *));
	for (int i = 0; i < f->sizep; i++) {
		Proto *nested = copy_tree(c, f->p[i]);
		if (copy->p != NULL) {
			copy->p[i] = nested;
		}
	}
	return result;
}

Proto *
share_copyproto(const Proto *f, char *mem, size_t *size) {
	struct copier c = {.mem = mem, .size = size};
	Proto *copy = copy_tree(&c, f);
	return c.failed ? NULL : copy;
}

/*------------------------------------------------------------------ chunks */

/*
** Lets each prototype of the tree tell its chunk. Shared ones are never in a
** list of gray objects, so the field is free.
*/
static void
set_chunk(Proto *f, struct share_chunk *chunk) {
	f->gclist = (GCObject *)chunk;
	for (int i = 0; i < f->sizep; i++) {
		set_chunk(f->p[i], chunk);
	}
}

static struct share_chunk *
chunk_of(const Proto *f) {
	return (struct share_chunk *)f->gclist;
}

struct share_chunk *
share_newchunk(const Proto *f) {
	size_t size = sizeof(struct share_chunk), used = size;
	struct share_chunk *chunk;
	share_copyproto(f, NULL, &size);
	chunk = share_alloc(size);
	if (chunk == NULL) {
		return NULL;
	}
	chunk->root = share_copyproto(f, (char *)chunk, &used);
	if (chunk->root == NULL) {
		share_free(chunk, size);
		return NULL;
	}
	lua_assert(used == size);
	set_chunk(chunk->root, chunk);
	chunk->size = size;
	chunk->strings_needed = share_stringcount();
	atomic_init(&chunk->refs, 1);
	atomic_init(&chunk->is_dropped, 0);
	atomic_fetch_add_explicit(&chunk_count, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&chunk_bytes, size, memory_order_relaxed);
	return chunk;
}

void
share_release(struct share_chunk *chunk) {
	/* Release: what this user read happens before the free of the last one, who acquires. */
	if (atomic_fetch_sub_explicit(&chunk->refs, 1, memory_order_acq_rel) == 1) {
		atomic_fetch_sub_explicit(&chunk_count, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&chunk_bytes, chunk->size, memory_order_relaxed);
		share_free(chunk, chunk->size);
	}
}

static int
grow_held(struct share_vm *vm) {
	unsigned room = vm->room == 0 ? 4 : vm->room * 2;
	struct share_held *held = share_alloc(room * sizeof(*held));
	if (held == NULL) {
		return 0;
	}
	if (vm->nheld > 0) {
		memcpy(held, vm->held, vm->nheld * sizeof(*held));
	}
	share_free(vm->held, vm->room * sizeof(*held));
	vm->held = held;
	vm->room = room;
	return 1;
}

/*
** Hands the caller's reference to the state, which needs only one. Returns NULL
** when memory runs out; the reference is gone then.
*/
static struct share_held *
hold(struct share_vm *vm, struct share_chunk *chunk) {
	struct share_held *h;
	for (unsigned i = 0; i < vm->nheld; i++) {
		if (vm->held[i].chunk == chunk) {
			share_release(chunk);
			return &vm->held[i];
		}
	}
	if (vm->nheld == vm->room && !grow_held(vm)) {
		share_release(chunk);
		return NULL;
	}
	h = &vm->held[vm->nheld++];
	h->chunk = chunk;
	h->is_pinned = h->is_candidate = h->is_used = 0;
	return h;
}

void
share_releaseheld(struct share_vm *vm) {
	for (unsigned i = 0; i < vm->nheld; i++) {
		share_release(vm->held[i].chunk);
	}
	share_free(vm->held, vm->room * sizeof(*vm->held));
}

LUA_API size_t
lua_sharedcode(lua_State *L) {
	struct share_vm *vm = share_vmof(G(L));
	size_t size = 0;
	for (unsigned i = 0; i < vm->nheld; i++) {
		size += vm->held[i].chunk->size;
	}
	return size;
}

void
share_codestats(struct lua_ShareStats *stats) {
	stats->chunk_count = atomic_load_explicit(&chunk_count, memory_order_relaxed);
	stats->chunk_bytes = atomic_load_explicit(&chunk_bytes, memory_order_relaxed);
}

/*------------------------------------------------------- private prototypes */

/*
** True when the tree has a constant of which the state has its own copy.
*/
static int
has_twins(lua_State *L, const Proto *f) {
	for (int i = 0; i < f->sizek; i++) {
		if (ttisshrstring(&f->k[i]) && share_hastwin(L, tsvalue(&f->k[i]))) {
			return 1;
		}
	}
	for (int i = 0; i < f->sizep; i++) {
		if (has_twins(L, f->p[i])) {
			return 1;
		}
	}
	return 0;
}

/*
** Gives 'f', a new prototype, its own array of constants. 'f' is anchored; as a
** collection may have turned it black, every store has its barrier.
*/
static void
private_constants(lua_State *L, Proto *f, const Proto *shared) {
	f->k = luaM_newvectorchecked(L, shared->sizek, TValue);
	f->sizek = shared->sizek;
	for (int i = 0; i < f->sizek; i++) {
		setnilvalue(&f->k[i]);
	}
	for (int i = 0; i < f->sizek; i++) {
		const TValue *k = &shared->k[i];
		if (ttisshrstring(k)) {
			TString *ts = luaS_newlstr(L, getshrstr(tsvalue(k)), (size_t)tsvalue(k)->shrlen);
			setsvalue2n(L, &f->k[i], ts);
			luaC_objbarrier(L, f, ts);
		} else {
			setobj2n(L, &f->k[i], k);
		}
	}
}

/*
** Fills 'f', a new prototype that is anchored, from a shared one. Prototypes
** without twins in their tree stay shared.
*/
static void
fill_private(lua_State *L, Proto *f, const Proto *shared) {
	f->numparams = shared->numparams;
	f->flag = shared->flag | PF_FIXED;
	f->maxstacksize = shared->maxstacksize;
	f->linedefined = shared->linedefined;
	f->lastlinedefined = shared->lastlinedefined;
	f->code = shared->code;
	f->sizecode = shared->sizecode;
	f->lineinfo = shared->lineinfo;
	f->sizelineinfo = shared->sizelineinfo;
	f->abslineinfo = shared->abslineinfo;
	f->sizeabslineinfo = shared->sizeabslineinfo;
	f->source = shared->source;
	private_constants(L, f, shared);
	f->upvalues = luaM_newvectorchecked(L, shared->sizeupvalues, Upvaldesc);
	f->sizeupvalues = shared->sizeupvalues;
	for (int i = 0; i < f->sizeupvalues; i++) {
		f->upvalues[i] = shared->upvalues[i];
	}
	f->locvars = luaM_newvectorchecked(L, shared->sizelocvars, LocVar);
	f->sizelocvars = shared->sizelocvars;
	for (int i = 0; i < f->sizelocvars; i++) {
		f->locvars[i] = shared->locvars[i];
	}
	f->p = luaM_newvectorchecked(L, shared->sizep, Proto *);
	f->sizep = shared->sizep;
	for (int i = 0; i < f->sizep; i++) {
		f->p[i] = NULL;
	}
	for (int i = 0; i < f->sizep; i++) {
		if (!has_twins(L, shared->p[i])) {
			f->p[i] = shared->p[i];
			continue;
		}
		f->p[i] = luaF_newproto(L);
		luaC_objbarrier(L, f, f->p[i]);
		fill_private(L, f->p[i], shared->p[i]);
	}
}

/*---------------------------------------------------------------- closures */

/*
** Sets the table of globals as the first upvalue, as lua_load does.
*/
static void
set_environment(lua_State *L, LClosure *cl) {
	if (cl->nupvalues >= 1) {
		TValue globals;
		luaH_getint(hvalue(&G(L)->l_registry), LUA_RIDX_GLOBALS, &globals);
		setobj(L, cl->upvals[0]->v.p, &globals);
		luaC_barrier(L, cl->upvals[0], &globals);
	}
}

/*
** The chunk is held before anything in the state refers to it. That is safe
** because only a collection at luaC_checkGC lets go of unused code; one that
** runs in need of memory does not.
*/
void
share_pushclosure(lua_State *L, struct share_chunk *chunk, Proto *f) {
	LClosure *cl;
	if (hold(share_vmof(G(L)), chunk) == NULL) {
		luaM_error(L);
	}
	luaD_checkstack(L, 1);
	cl = luaF_newLclosure(L, f->sizeupvalues);
	setclLvalue2s(L, L->top.p, cl);
	L->top.p++;
	if (share_hastwins(L, chunk->strings_needed) && has_twins(L, f)) {
		cl->p = luaF_newproto(L);
		luaC_objbarrier(L, cl, cl->p);
		fill_private(L, cl->p, f);
	} else {
		cl->p = f;
	}
	luaF_initupvals(L, cl);
	set_environment(L, cl);
	luaC_checkGC(L);
}

LUA_API const void *
lua_sharefunction(lua_State *L, int idx) {
	const LClosure *cl =
	    lua_isfunction(L, idx) && !lua_iscfunction(L, idx) ? lua_topointer(L, idx) : NULL;
	struct share_chunk *chunk;
	struct share_held *h;
	const Proto *f;
	if (cl == NULL) {
		luaG_runerror(L, "Only Lua function can share");
	}
	f = cl->p;
	if (isshared(f) && chunk_of(f) != NULL) {
		chunk = chunk_of(f);
		atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);
	} else {
		chunk = share_newchunk(f);
		if (chunk == NULL) {
			luaM_error(L);
		}
		f = chunk->root;
	}
	h = hold(share_vmof(G(L)), chunk);
	if (h == NULL) {
		luaM_error(L);
	}
	h->is_pinned = 1;
	return f;
}

LUA_API void
lua_clonefunction(lua_State *L, const void *fp) {
	Proto *f = (Proto *)fp;
	if (f == NULL || f->tt != LUA_VPROTO || !isshared(f) || chunk_of(f) == NULL) {
		luaG_runerror(L, "Not a shared function");
	}
	/* The state that shared it holds a reference, so the chunk is alive. */
	atomic_fetch_add_explicit(&chunk_of(f)->refs, 1, memory_order_relaxed);
	share_pushclosure(L, chunk_of(f), f);
}
