/*
 * Packing by reading Lua's own structures, which takes a third of the time of
 * the Lua API (three calls for each key and each value). Uses the private
 * headers of the Lua that is built with us; nothing is written but the stack.
 *
 * A value is written as soon as it is found, so the Lua stack never holds more
 * than a table and an item, however deep the walk is.
 *
 * Invariant: between reading a table's fields and using them no Lua code runs
 * and nothing is collected. So the walk stops before the first __pairs.
 */
#include "lua-seri-writer.h"

#include "lstate.h"
#include "lobject.h"
#include "ltable.h"

#include "lua-seri.h"

static bool walk_table(struct writer *w, const Table *t, int depth);

static inline void
put_tstring(struct writer *w, const TString *ts) {
	size_t len;
	const char *s = getlstr(ts, len);
	seri_put_string(w, s, len);
}

static bool
walk_value(struct writer *w, lu_byte tag, const Value *v, int depth) {
	if (depth > LUASERI_MAX_DEPTH) {
		seri_fail_depth(w);
	}
	switch (tag & ~BIT_ISCOLLECTABLE) {
	case LUA_VNUMINT:
		seri_put_integer(w, v->i);
		return true;
	case LUA_VNUMFLT:
		seri_put_real(w, v->n);
		return true;
	case LUA_VSHRSTR:
	case LUA_VLNGSTR:
		put_tstring(w, gco2ts(v->gc));
		return true;
	case LUA_VFALSE:
	case LUA_VTRUE:
		seri_put_tag(w, TAG(TYPE_BOOLEAN, tag == LUA_VTRUE));
		return true;
	case LUA_VTABLE:
		return walk_table(w, gco2t(v->gc), depth);
	case LUA_VLIGHTUSERDATA:
		seri_put_pointer(w, v->p);
		return true;
	default:
		if (novariant(tag) != LUA_TNIL) {
			seri_fail_type(w, novariant(tag));
		}
		seri_put_tag(w, TAG(TYPE_NIL, 0));
		return true;
	}
}

/* Push the table; the walk never needs more than the two slots its caller left it. */
static void
push_table(lua_State *L, const Table *t) {
	sethvalue2s(L, L->top.p, (Table *)(uintptr_t)t);
	L->top.p++;
}

/*
 * Whether metatable `mt` has a field __pairs. Looked for by hand: making the
 * string for a look-up could start a collection, and with it finalizers.
 */
static bool
has_pairs_metafield(const Table *mt) {
	static const char name[] = "__pairs";
	unsigned size = sizenode(mt);
	for (unsigned i = 0; i < size; i++) {
		const Node *node = gnode(mt, i);
		if (!keyisshrstr(node) || isempty(gval(node))) {
			continue;
		}
		const TString *key = keystrval(node);
		if ((size_t)key->shrlen == sizeof name - 1 &&
		    memcmp(getshrstr(key), name, sizeof name - 1) == 0) {
			return true;
		}
	}
	return false;
}

/* Items beyond the array part of a table without holes. */
static bool
walk_hashed_items(struct writer *w, const Table *t, lua_Unsigned from, lua_Unsigned n, int depth) {
	lua_State *L = w->L;
	for (lua_Unsigned i = from; i < n; i++) {
		push_table(L, t);
		lua_rawgeti(L, -1, (lua_Integer)i + 1);
		const TValue *item = s2v(L->top.p - 1);
		lu_byte tag = rawtt(item);
		Value value = item->value_;
		lua_pop(L, 2); /* still reachable through the table */
		if (!walk_value(w, tag, &value, depth)) {
			return false;
		}
	}
	return true;
}

static bool
walk_items(struct writer *w, const Table *t, lua_Unsigned n, int depth) {
	lua_Unsigned in_array = n < t->asize ? n : t->asize;
	for (lua_Unsigned i = 0; i < in_array; i++) {
		if (!walk_value(w, *getArrTag(t, i), getArrVal(t, i), depth)) {
			return false;
		}
	}
	return walk_hashed_items(w, t, in_array, n, depth);
}

/* The array part behind a border, as pairs. */
static bool
walk_array_pairs(struct writer *w, const Table *t, lua_Unsigned n, int depth) {
	for (lua_Unsigned i = n; i < t->asize; i++) {
		lu_byte tag = *getArrTag(t, i);
		if (tagisempty(tag)) {
			continue;
		}
		seri_put_integer(w, (lua_Integer)i + 1);
		if (!walk_value(w, tag, getArrVal(t, i), depth)) {
			return false;
		}
	}
	return true;
}

static bool
walk_nodes(struct writer *w, const Table *t, lua_Unsigned n, int depth) {
	unsigned size = sizenode(t);
	for (unsigned i = 0; i < size; i++) {
		const Node *node = gnode(t, i);
		const TValue *value = gval(node);
		if (isempty(value)) {
			continue;
		}
		if (keyisshrstr(node) && depth <= LUASERI_MAX_DEPTH) {
			put_tstring(w, keystrval(node)); /* nearly every key */
		} else if (keyisinteger(node) && l_castS2U(keyival(node)) - 1 < n) {
			continue; /* an item, written before */
		} else if (!walk_value(w, keytt(node), &keyval(node), depth)) {
			return false;
		}
		if (!walk_value(w, rawtt(value), &value->value_, depth)) {
			return false;
		}
	}
	return true;
}

static bool
walk_table(struct writer *w, const Table *t, int depth) {
	lua_State *L = w->L;
	if (t->metatable != NULL && has_pairs_metafield(t->metatable)) {
		return false;
	}
	push_table(L, t);
	lua_Unsigned n = lua_rawlen(L, -1);
	lua_pop(L, 1);
	seri_put_table(w, n);
	if (!walk_items(w, t, n, depth + 1) || !walk_array_pairs(w, t, n, depth + 1) ||
	    !walk_nodes(w, t, n, depth + 1)) {
		return false;
	}
	seri_put_table_end(w);
	return true;
}

bool
seri_walk(struct writer *w, int index) {
	const TValue *v = s2v(w->L->ci->func.p + index);
	return walk_value(w, rawtt(v), &v->value_, 0);
}
