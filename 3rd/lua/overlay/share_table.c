/*
** Shared tables: freezing a graph of tables into one block, and giving it to
** states.
**
** Freezing walks the graph without recursion: its objects (tables, functions
** and long strings) get into a list in the order of discovery, and a place in
** the block each. The block is measured during the walk and filled afterwards.
** Nothing is allocated in the state, so nothing moves meanwhile. The block
** begins with a header, which the root table follows.
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

struct version {
	size_t size; /* of the block, this header included */
	Table root;
};

/*
** An object of the graph and what its copy needs.
*/
struct object {
	GCObject *original;
	size_t at;             /* offset of the copy in the block */
	unsigned asize, nhash; /* tables: entries in both parts */
};

struct freezer {
	lua_State *L;
	struct object *objects;
	size_t nobjects, room;
	/* Set of the objects: index + 1 by address, open-addressed. */
	size_t *set;
	size_t nset; /* a power of 2, at least twice 'nobjects' */
	size_t size; /* of the block so far */
	char *block;
	const char *error; /* why it failed, or NULL; a format for a type's name */
	int type;
};

static const char out_of_memory[] = "not enough memory";

/* For statistics only. */
static atomic_size_t table_count;
static atomic_size_t table_bytes;

/*----------------------------------------------------------------- objects */

static size_t
reserve(struct freezer *fz, size_t size) {
	size_t at = (fz->size + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
	fz->size = at + size;
	return at;
}

static size_t *
set_slot(const struct freezer *fz, const GCObject *o) {
	size_t i = ((size_t)o >> 4) * 0x9e3779b1u;
	for (;; i++) {
		size_t *slot = &fz->set[i & (fz->nset - 1)];
		if (*slot == 0 || fz->objects[*slot - 1].original == o) {
			return slot;
		}
	}
}

/*
** Doubles the room for objects. Returns 0 when memory runs out.
*/
static int
grow(struct freezer *fz) {
	size_t room = fz->room == 0 ? 16 : fz->room * 2;
	struct object *objects = share_alloc(room * sizeof(*objects));
	size_t *set = share_alloc(room * 2 * sizeof(*set));
	if (objects == NULL || set == NULL) {
		share_free(objects, room * sizeof(*objects));
		share_free(set, room * 2 * sizeof(*set));
		return 0;
	}
	if (fz->nobjects > 0) {
		memcpy(objects, fz->objects, fz->nobjects * sizeof(*objects));
	}
	share_free(fz->objects, fz->room * sizeof(*objects));
	share_free(fz->set, fz->nset * sizeof(*set));
	memset(set, 0, room * 2 * sizeof(*set));
	fz->objects = objects;
	fz->room = room;
	fz->set = set;
	fz->nset = room * 2;
	for (size_t i = 0; i < fz->nobjects; i++) {
		*set_slot(fz, objects[i].original) = i + 1;
	}
	return 1;
}

/*
** Enters an object unless it is known.
*/
static void
discover(struct freezer *fz, GCObject *o) {
	size_t *slot;
	if (fz->nobjects == fz->room && !grow(fz)) {
		fz->error = out_of_memory;
		return;
	}
	slot = set_slot(fz, o);
	if (*slot == 0) {
		fz->objects[fz->nobjects].original = o;
		*slot = ++fz->nobjects;
	}
}

static void *
copy_of(const struct freezer *fz, const GCObject *o) {
	return fz->block + fz->objects[*set_slot(fz, o) - 1].at;
}

/*------------------------------------------------------------------- walk */

static void
check_value(struct freezer *fz, const TValue *v) {
	switch (ttypetag(v)) {
	case LUA_VFALSE:
	case LUA_VTRUE:
	case LUA_VNUMINT:
	case LUA_VNUMFLT:
	case LUA_VLIGHTUSERDATA:
	case LUA_VLCF:
	case LUA_VSHRSTR:
		break;
	case LUA_VLNGSTR:
	case LUA_VTABLE:
	case LUA_VLCL:
		if (!isshared(gcvalue(v))) {
			discover(fz, gcvalue(v));
		}
		break;
	case LUA_VCCL:
		fz->error = "Invalid function with upvalue";
		break;
	default:
		fz->error = "Invalid type [%s]";
		fz->type = ttype(v);
	}
}

/*
** Goes to the next entry of a table. *i is the position, zero at first; an
** array part counts before the hash part. Returns 0 at the end.
*/
static int
next_entry(const Table *t, unsigned *i, TValue *key, TValue *value) {
	for (; *i < t->asize; (*i)++) {
		lu_byte tag = *getArrTag(t, *i);
		if (!tagisempty(tag)) {
			farr2val(t, *i, tag, value);
			(*i)++;
			setivalue(key, *i);
			return 1;
		}
	}
	for (; *i - t->asize < sizenode(t); (*i)++) {
		const Node *n = gnode(t, *i - t->asize);
		if (!isempty(gval(n))) {
			getnodekey(cast(lua_State *, NULL), key, n);
			setobj(cast(lua_State *, NULL), value, gval(n));
			(*i)++;
			return 1;
		}
	}
	return 0;
}

/*
** Returns the length that the copy will have, which must be a border of the
** table and the size of its array part. The border that Lua finds is taken
** unless the array would be less than half full.
*/
static unsigned
frozen_length(struct freezer *fz, Table *t, unsigned entries) {
	lua_Unsigned n = luaH_getn(fz->L, t);
	TValue v;
	if (n <= (lua_Unsigned)entries * 2) {
		return (unsigned)n;
	}
	for (n = 0; !tagisempty(luaH_getint(t, (lua_Integer)n + 1, &v)); n++) {
	}
	return (unsigned)n;
}

static void
measure_table(struct freezer *fz, struct object *o) {
	Table *t = gco2t(o->original);
	unsigned entries = 0, in_array = 0, asize, i = 0;
	TValue key, value;
	while (next_entry(t, &i, &key, &value)) {
		entries++;
	}
	asize = frozen_length(fz, t, entries);
	for (i = 0; next_entry(t, &i, &key, &value);) {
		if (ttisinteger(&key) && l_castS2U(ivalue(&key)) - 1u < asize) {
			in_array++;
		}
	}
	o->asize = asize;
	o->nhash = entries - in_array;
	o->at = reserve(fz, sizeof(Table));
	reserve(fz, share_arraybytes(asize));
	reserve(fz, share_hashbytes(o->nhash));
}

static void
walk_table(struct freezer *fz, const Table *t) {
	unsigned i = 0;
	TValue key, value;
	if (t->metatable != NULL) {
		fz->error = "Can't share metatable";
	}
	while (fz->error == NULL && next_entry(t, &i, &key, &value)) {
		check_value(fz, &key);
		if (fz->error == NULL) {
			check_value(fz, &value);
		}
	}
}

/*
** Gives the n-th object its place and discovers what it refers to.
*/
static void
visit(struct freezer *fz, size_t n) {
	struct object *o = &fz->objects[n];
	GCObject *original = o->original;
	switch (original->tt) {
	case LUA_VTABLE:
		measure_table(fz, o);
		walk_table(fz, gco2t(original)); /* may move the objects */
		break;
	case LUA_VLCL:
		if (gco2lcl(original)->nupvalues > 0) {
			fz->error = "Invalid function with upvalue";
			break;
		}
		o->at = reserve(fz, sizeLclosure(0));
		share_copyproto(gco2lcl(original)->p, NULL, &fz->size);
		break;
	default:
		o->at = reserve(fz, 0);
		share_copylong(gco2ts(original), NULL, &fz->size);
	}
}

/*-------------------------------------------------------------------- fill */

/*
** Makes 'copy' what 'v' is in the block. Returns 0 when memory runs out.
*/
static int
copy_value(struct freezer *fz, TValue *copy, const TValue *v) {
	TString *ts;
	setobj(cast(lua_State *, NULL), copy, v);
	switch (ttypetag(v)) {
	case LUA_VSHRSTR:
		ts = tsvalue(v);
		ts = share_intern(getshrstr(ts), (size_t)ts->shrlen);
		if (ts == NULL) {
			fz->error = out_of_memory;
			return 0;
		}
		setsvalue(cast(lua_State *, NULL), copy, ts);
		break;
	case LUA_VLNGSTR:
	case LUA_VTABLE:
	case LUA_VLCL:
		if (!isshared(gcvalue(v))) {
			val_(copy).gc = copy_of(fz, gcvalue(v));
		}
		break;
	default:
		break;
	}
	return 1;
}

static Table *
table_at(const struct freezer *fz, const struct object *o) {
	return (Table *)(fz->block + o->at);
}

static void
init_table(struct freezer *fz, const struct object *o) {
	char *array, *hash;
	fz->size = o->at + sizeof(Table);
	array = fz->block + reserve(fz, share_arraybytes(o->asize));
	hash = fz->block + reserve(fz, share_hashbytes(o->nhash));
	share_inittable(table_at(fz, o), array, o->asize, hash, o->nhash);
}

static void
fill_table(struct freezer *fz, const struct object *o) {
	const Table *t = gco2t(o->original);
	Table *copy = table_at(fz, o);
	unsigned i = 0;
	TValue key, value, copied_key, copied_value;
	while (next_entry(t, &i, &key, &value)) {
		if (!copy_value(fz, &copied_key, &key) || !copy_value(fz, &copied_value, &value)) {
			return;
		}
		share_insert(copy, &copied_key, &copied_value);
	}
	share_seal(copy);
}

static void
fill_function(struct freezer *fz, const struct object *o) {
	const LClosure *cl = gco2lcl(o->original);
	LClosure *copy = (LClosure *)(fz->block + o->at);
	size_t at = o->at + sizeLclosure(0);
	copy->next = NULL;
	copy->tt = LUA_VLCL;
	copy->marked = SHAREDMARK;
	copy->nupvalues = 0;
	copy->gclist = NULL;
	copy->p = share_copyproto(cl->p, fz->block, &at);
	if (copy->p == NULL) {
		fz->error = out_of_memory;
	}
}

/*
** Makes all objects before any is entered into a table: being a key needs the
** hash of a string, and being a value at least a valid header.
*/
static void
fill(struct freezer *fz) {
	for (size_t i = 0; i < fz->nobjects && fz->error == NULL; i++) {
		const struct object *o = &fz->objects[i];
		size_t at = o->at;
		switch (o->original->tt) {
		case LUA_VTABLE:
			init_table(fz, o);
			break;
		case LUA_VLCL:
			fill_function(fz, o);
			break;
		default:
			share_copylong(gco2ts(o->original), fz->block, &at);
		}
	}
	for (size_t i = 0; i < fz->nobjects && fz->error == NULL; i++) {
		if (fz->objects[i].original->tt == LUA_VTABLE) {
			fill_table(fz, &fz->objects[i]);
		}
	}
}

/*--------------------------------------------------------------------- API */

static struct version *
freeze(struct freezer *fz, GCObject *root) {
	struct version *v;
	size_t size;
	fz->size = offsetof(struct version, root);
	discover(fz, root);
	for (size_t i = 0; i < fz->nobjects && fz->error == NULL; i++) {
		visit(fz, i);
	}
	if (fz->error != NULL) {
		return NULL;
	}
	size = fz->size;
	v = share_alloc(size);
	if (v == NULL) {
		fz->error = out_of_memory;
		return NULL;
	}
	fz->block = (char *)v;
	v->size = size;
	fill(fz);
	if (fz->error != NULL) {
		share_free(v, size);
		return NULL;
	}
	return v;
}

LUA_API const void *
lua_sharetable(lua_State *L, int idx) {
	struct freezer fz = {.L = L};
	struct version *v;
	if (!lua_istable(L, idx)) {
		luaG_runerror(L, "Not a table");
	}
	if (lua_issharedtable(L, idx)) {
		luaG_runerror(L, "Table is shared already");
	}
	v = freeze(&fz, (GCObject *)lua_topointer(L, idx));
	share_free(fz.objects, fz.room * sizeof(*fz.objects));
	share_free(fz.set, fz.nset * sizeof(*fz.set));
	if (fz.error == out_of_memory) {
		luaM_error(L);
	} else if (fz.error != NULL) {
		luaG_runerror(L, fz.error, lua_typename(L, fz.type));
	}
	atomic_fetch_add_explicit(&table_count, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&table_bytes, v->size, memory_order_relaxed);
	return &v->root;
}

static struct version *
version_of(const void *tp) {
	return (struct version *)((char *)tp - offsetof(struct version, root));
}

LUA_API void
lua_freeshared(const void *tp) {
	if (tp != NULL) {
		struct version *v = version_of(tp);
		atomic_fetch_sub_explicit(&table_count, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&table_bytes, v->size, memory_order_relaxed);
		share_free(v, v->size);
	}
}

LUA_API size_t
lua_sharedsize(const void *tp) {
	return tp == NULL ? 0 : version_of(tp)->size;
}

LUA_API const void *
lua_sharedend(const void *tp) {
	const struct version *v = version_of(tp);
	return (const char *)v + v->size;
}

/*
** Enters a short string of a shared object as the one that the state uses, and
** keeps it on the stack.
*/
static void
push_as_own(lua_State *L, TValue *v) {
	if (ttypetag(v) == LUA_VSHRSTR) {
		const TString *ts = tsvalue(v);
		setsvalue(L, v, luaS_newlstr(L, getshrstr(ts), (size_t)ts->shrlen));
	}
	setobj2s(L, L->top.p, v);
	L->top.p++;
}

/*
** The slow way to fill a copy: the state has some of the strings as its own.
*/
static void
copy_entries(lua_State *L, Table *t, const Table *from) {
	unsigned i = 0;
	TValue key, value;
	while (next_entry(from, &i, &key, &value)) {
		push_as_own(L, &key);
		push_as_own(L, &value);
		luaH_set(L, t, &key, &value);
		luaC_barrierback(L, obj2gco(t), &value);
		L->top.p -= 2;
	}
}

/*
** The fast way. Both tables have the same sizes, and positions in the hash part
** are relative.
*/
static void
copy_parts(Table *t, const Table *from) {
	unsigned n = from->asize;
	if (n > 0) {
		memcpy(t->array - n, from->array - n, n * sizeof(Value));
		memcpy(getArrTag(t, 0), getArrTag(from, 0), n);
		*lenhint(t) = *lenhint(from);
	}
	if (!isdummy(from)) {
		memcpy(t->node, from->node, sizenode(from) * sizeof(Node));
	}
}

LUA_API void
lua_copytable(lua_State *L, const void *tp) {
	const Table *from = tp;
	Table *t;
	if (from == NULL || from->tt != LUA_VTABLE || !isshared(from)) {
		luaG_runerror(L, "Not a shared table");
	}
	luaD_checkstack(L, 3);
	t = luaH_new(L);
	sethvalue2s(L, L->top.p, t);
	L->top.p++;
	luaH_resize(L, t, from->asize, isdummy(from) ? 0 : sizenode(from));
	if (share_hastwins(L, share_stringcount())) {
		copy_entries(L, t, from);
	} else {
		copy_parts(t, from);
	}
	invalidateTMcache(t);
	luaC_checkGC(L);
}

LUA_API void
lua_clonetable(lua_State *L, const void *tp) {
	Table *t = (Table *)tp;
	if (t == NULL || t->tt != LUA_VTABLE || !isshared(t)) {
		luaG_runerror(L, "Not a shared table");
	}
	if (!share_meetstwins() && share_hastwins(L, share_stringcount())) {
		atomic_store_explicit(&share_twins, 1, memory_order_relaxed);
	}
	sethvalue2s(L, L->top.p, t);
	L->top.p++;
}

void
share_tablestats(struct lua_ShareStats *stats) {
	stats->table_count = atomic_load_explicit(&table_count, memory_order_relaxed);
	stats->table_bytes = atomic_load_explicit(&table_bytes, memory_order_relaxed);
}

LUA_API void
lua_sharestats(struct lua_ShareStats *stats) {
	stats->string_count = share_stringcount();
	stats->string_bytes = share_stringbytes();
	share_codestats(stats);
	share_tablestats(stats);
	share_cachestats(stats);
}
