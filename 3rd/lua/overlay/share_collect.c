/*
** Finding shared code that a state no longer uses.
**
** The collector does not look into shared objects, so it cannot tell which of
** them a state still reaches. Nobody needs to know while code is in the cache;
** once it was dropped from there (the cache was cleared), each state that holds
** it should let it go. So after a clear, at the end of a collection, the
** state's objects are walked for pointers into the dropped chunks: prototypes of
** closures, code of private prototypes, and long strings, which may have gone
** anywhere. Dead objects that were not swept yet only delay the release.
**
** The walk costs less than the collection before it, and a state whose own main
** chunk was dropped will use it for good. So after a walk that found code still
** in use, the next one waits for twice as many collections, unless the program
** asks for a full collection or there was another clear.
*/

#define LUA_CORE

#include "lprefix.h"

#include <stdint.h>

#include "lfunc.h"
#include "lgc.h"
#include "lobject.h"
#include "lstate.h"
#include "ltable.h"
#include "share.h"

struct walk {
	struct share_vm *vm;
	uintptr_t low, high; /* all dropped chunks are in between */
};

/*
** Notes that the state has this pointer. Held chunks are few, and most pointers
** are out of bounds.
*/
static void
use(struct walk *w, const void *p) {
	uintptr_t at = (uintptr_t)p;
	if (at < w->low || at >= w->high) {
		return;
	}
	for (unsigned i = 0; i < w->vm->nheld; i++) {
		struct share_held *h = &w->vm->held[i];
		if (at - (uintptr_t)h->chunk < h->chunk->size) {
			h->is_used = 1;
			return;
		}
	}
}

static void
use_value(struct walk *w, const TValue *v) {
	if (iscollectable(v)) {
		use(w, val_(v).gc);
	}
}

static void
walk_table(struct walk *w, const Table *t) {
	for (unsigned i = 0; i < t->asize; i++) {
		if (*getArrTag(t, i) & BIT_ISCOLLECTABLE) {
			use(w, getArrVal(t, i)->gc);
		}
	}
	for (unsigned i = 0; i < sizenode(t); i++) {
		const Node *n = gnode(t, i);
		use_value(w, gval(n));
		if (keyiscollectable(n)) {
			use(w, gckey(n));
		}
	}
}

static void
walk_thread(struct walk *w, const lua_State *th) {
	if (th->stack.p != NULL) {
		for (StkId o = th->stack.p; o < th->stack_last.p + EXTRA_STACK; o++) {
			use_value(w, s2v(o));
		}
	}
}

static void
walk_proto(struct walk *w, const Proto *f) {
	use(w, f->code);
	use(w, f->source);
	for (int i = 0; i < f->sizek; i++) {
		use_value(w, &f->k[i]);
	}
	for (int i = 0; i < f->sizep; i++) {
		use(w, f->p[i]);
	}
}

static void
walk_object(struct walk *w, GCObject *o) {
	switch (o->tt) {
	case LUA_VTABLE:
		walk_table(w, gco2t(o));
		break;
	case LUA_VLCL:
		use(w, gco2lcl(o)->p);
		break;
	case LUA_VCCL:
		for (int i = 0; i < gco2ccl(o)->nupvalues; i++) {
			use_value(w, &gco2ccl(o)->upvalue[i]);
		}
		break;
	case LUA_VUPVAL:
		if (!upisopen(gco2upv(o))) {
			use_value(w, &gco2upv(o)->u.value);
		}
		break;
	case LUA_VUSERDATA:
		for (int i = 0; i < gco2u(o)->nuvalue; i++) {
			use_value(w, &gco2u(o)->uv[i].uv);
		}
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

static void
walk_list(struct walk *w, GCObject *list) {
	for (GCObject *o = list; o != NULL; o = o->next) {
		walk_object(w, o);
	}
}

/*
** Finds the dropped chunks that the state holds, and their bounds. Returns how
** many there are. Others may be dropped while the objects are walked: nobody has
** looked for those, so what counts is what was found here.
*/
static unsigned
find_candidates(struct walk *w) {
	unsigned n = 0;
	w->low = UINTPTR_MAX;
	w->high = 0;
	for (unsigned i = 0; i < w->vm->nheld; i++) {
		struct share_held *h = &w->vm->held[i];
		uintptr_t at = (uintptr_t)h->chunk;
		h->is_used = 0;
		/* Set before share_clears was counted up, which this thread has seen. */
		h->is_candidate =
		    !h->is_pinned && atomic_load_explicit(&h->chunk->is_dropped, memory_order_relaxed);
		if (h->is_candidate) {
			n++;
			w->low = at < w->low ? at : w->low;
			w->high = at + h->chunk->size > w->high ? at + h->chunk->size : w->high;
		}
	}
	return n;
}

/*
** Lets go of candidates that are not used. Returns how many remain.
*/
static unsigned
release_unused(struct share_vm *vm) {
	unsigned kept = 0, remaining = 0;
	for (unsigned i = 0; i < vm->nheld; i++) {
		struct share_held h = vm->held[i];
		if (h.is_candidate && !h.is_used) {
			share_release(h.chunk);
			continue;
		}
		remaining += (unsigned)h.is_candidate;
		vm->held[kept++] = h;
	}
	vm->nheld = kept;
	return remaining;
}

static unsigned
look(global_State *g, struct share_vm *vm) {
	struct walk w = {.vm = vm};
	if (find_candidates(&w) == 0) {
		return 0;
	}
	walk_list(&w, g->allgc);
	walk_list(&w, g->finobj);
	walk_list(&w, g->tobefnz);
	return release_unused(vm);
}

void
share_collect(lua_State *L, int is_full) {
	global_State *g = G(L);
	struct share_vm *vm = share_vmof(g);
	/* Pairs with the release where the cache is cleared. */
	size_t clears = atomic_load_explicit(&share_clears, memory_order_acquire);
	if (vm == NULL || vm->clears_known == clears || g->gcstp != 0) {
		return;
	}
	if (g->gckind != KGC_GENMINOR && g->gcstate != GCSpause) {
		return; /* in the middle of a collection */
	}
	if (vm->clears_seen != clears) {
		vm->clears_seen = clears;
		vm->scan_pause = 1;
	} else if (!is_full && vm->scan_wait > 0) {
		vm->scan_wait--;
		return;
	}
	if (look(g, vm) == 0) {
		vm->clears_known = clears;
	} else {
		vm->scan_wait = vm->scan_pause;
		vm->scan_pause += vm->scan_pause < UINT32_MAX / 2 ? vm->scan_pause : 0;
	}
}
