/*
** The short strings that all states share: an append-only hash set.
**
** Looking up takes no lock: the table is open-addressed, a slot changes once,
** from NULL to a string, and a table that became too small is replaced by a
** bigger one and never changed again. A reader with the older table at worst
** misses strings made since, and then makes one of its own, which is allowed
** (see share_twins). Making a string takes the lock. Strings live as long as the
** process; so do outgrown tables, which together are smaller than the last one.
*/

#define LUA_CORE

#include "lprefix.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lstring.h"
#include "share.h"

/*
** The table is at most half full, so that a miss ends after two or three slots.
*/
enum { FIRST_SLOTS = 2048 };

/* The hash stands beside the pointer so that a miss touches no string. */
struct slot {
	_Atomic(TString *) string;
	unsigned hash; /* written before 'string' */
};

struct table {
	struct table *older;
	size_t nslots; /* a power of 2 */
	struct slot slots[];
};

/*
** The list of all strings by age. Segment n has FIRST_SEGMENT << n entries.
*/
enum { FIRST_SEGMENT = 1024, MAX_SEGMENTS = 32 };

/*
** Strings are cut from blocks of this size, which is small against the table.
*/
enum { ARENA_BLOCK = 32 * 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Written under the lock, read without. */
static _Atomic(struct table *) current;
static atomic_size_t count;
static TString **segments[MAX_SEGMENTS]; /* entries below 'count' are read */

/* Only under the lock. */
static char *arena;
static size_t arena_left;
static size_t bytes;

unsigned share_seed;
atomic_bool share_twins;

static void *
alloc_counted(size_t size) {
	void *block = share_alloc(size);
	if (block != NULL) {
		bytes += size;
	}
	return block;
}

static TString *
search(const struct table *t, const char *str, size_t len, unsigned hash) {
	size_t mask = t->nslots - 1;
	for (size_t i = hash & mask;; i = (i + 1) & mask) {
		const struct slot *s = &t->slots[i];
		/* Pairs with the release in fill_slot: the string and its hash are complete. */
		TString *ts = atomic_load_explicit(&s->string, memory_order_acquire);
		if (ts == NULL) {
			return NULL;
		}
		if (s->hash == hash && (size_t)ts->shrlen == len && memcmp(getshrstr(ts), str, len) == 0) {
			return ts;
		}
	}
}

TString *
share_find(const char *str, size_t len, unsigned hash) {
	/* Pairs with the release in grow: the table is complete. */
	return search(atomic_load_explicit(&current, memory_order_acquire), str, len, hash);
}

static void
fill_slot(struct table *t, TString *ts) {
	size_t mask = t->nslots - 1;
	size_t i = ts->hash & mask;
	while (atomic_load_explicit(&t->slots[i].string, memory_order_relaxed) != NULL) {
		i = (i + 1) & mask;
	}
	t->slots[i].hash = ts->hash;
	/* Pairs with the acquire in search. */
	atomic_store_explicit(&t->slots[i].string, ts, memory_order_release);
}

/*
** Replaces the table by one of 'nslots'. Returns 0 when memory runs out.
*/
static int
grow(size_t nslots) {
	size_t size = sizeof(struct table) + nslots * sizeof(struct slot);
	size_t n = atomic_load_explicit(&count, memory_order_relaxed);
	struct table *t = alloc_counted(size);
	if (t == NULL) {
		return 0;
	}
	memset(t, 0, size);
	t->nslots = nslots;
	t->older = atomic_load_explicit(&current, memory_order_relaxed);
	for (size_t i = 0; i < n; i++) {
		fill_slot(t, share_nthstring(i));
	}
	/* Pairs with the acquire in share_find. */
	atomic_store_explicit(&current, t, memory_order_release);
	return 1;
}

void
share_initstrings(unsigned seed) {
	share_seed = seed;
	if (!grow(FIRST_SLOTS)) {
		lua_writestringerror("%s\n", "not enough memory for shared strings");
		abort();
	}
}

/*
** Splits a position in the list of all strings.
*/
static unsigned
segment_of(size_t n, size_t *offset) {
	unsigned segment = 0;
	size_t size = FIRST_SEGMENT;
	while (n >= size) {
		n -= size;
		size *= 2;
		segment++;
	}
	*offset = n;
	return segment;
}

TString *
share_nthstring(size_t n) {
	size_t offset;
	unsigned segment = segment_of(n, &offset);
	return segments[segment][offset];
}

/*
** Makes room in the list for one more. Returns 0 when memory runs out.
*/
static int
reserve_in_list(void) {
	size_t offset, n = atomic_load_explicit(&count, memory_order_relaxed);
	unsigned segment = segment_of(n, &offset);
	if (segments[segment] == NULL) {
		segments[segment] = alloc_counted(((size_t)FIRST_SEGMENT << segment) * sizeof(TString *));
	}
	return segments[segment] != NULL;
}

/*
** A string is counted only when it can be found: whoever has seen the count and
** then finds no such string in the table may rely on it. (share_hastwins does.)
*/
static void
append_to_list(TString *ts) {
	size_t offset, n = atomic_load_explicit(&count, memory_order_relaxed);
	unsigned segment = segment_of(n, &offset);
	segments[segment][offset] = ts;
	/* Pairs with the acquire in share_stringcount. */
	atomic_store_explicit(&count, n + 1, memory_order_release);
}

static void *
alloc_in_arena(size_t size) {
	void *p;
	size = (size + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
	if (size > arena_left) {
		char *block = alloc_counted(ARENA_BLOCK);
		if (block == NULL) {
			return NULL;
		}
		arena = block;
		arena_left = ARENA_BLOCK;
	}
	p = arena;
	arena += size;
	arena_left -= size;
	return p;
}

/*
** Makes a string that is known to be missing. The lock is held.
*/
static TString *
make_string(const char *str, size_t len, unsigned hash) {
	TString *ts;
	struct table *t = atomic_load_explicit(&current, memory_order_relaxed);
	if ((atomic_load_explicit(&count, memory_order_relaxed) + 1) * 2 > t->nslots) {
		if (!grow(t->nslots * 2)) {
			return NULL;
		}
		t = atomic_load_explicit(&current, memory_order_relaxed);
	}
	ts = reserve_in_list() ? alloc_in_arena(sizestrshr(len)) : NULL;
	if (ts == NULL) {
		return NULL;
	}
	ts->next = NULL;
	ts->tt = LUA_VSHRSTR;
	ts->marked = SHAREDMARK;
	ts->extra = 0;
	ts->shrlen = cast(ls_byte, len);
	ts->hash = hash;
	ts->u.lnglen = atomic_load_explicit(&count, memory_order_relaxed); /* see share_istwinless */
	memcpy(getshrstr(ts), str, len);
	getshrstr(ts)[len] = '\0';
	fill_slot(t, ts);
	append_to_list(ts);
	return ts;
}

TString *
share_intern(const char *str, size_t len) {
	unsigned hash = share_hash(str, len);
	TString *ts = share_find(str, len, hash);
	if (ts != NULL) {
		return ts;
	}
	pthread_mutex_lock(&lock);
	ts = share_find(str, len, hash);
	if (ts == NULL) {
		ts = make_string(str, len, hash);
	}
	pthread_mutex_unlock(&lock);
	return ts;
}

size_t
share_stringcount(void) {
	/* Pairs with the release in append_to_list: list and table are complete up to here. */
	return atomic_load_explicit(&count, memory_order_acquire);
}

size_t
share_stringbytes(void) {
	size_t n;
	pthread_mutex_lock(&lock);
	n = bytes;
	pthread_mutex_unlock(&lock);
	return n;
}

/*------------------------------------------------------------------- twins */

int
share_istwin(const TString *a, const TString *b) {
	return a->hash == b->hash && a->shrlen == b->shrlen && isshared(a) != isshared(b) &&
	       memcmp(getshrstr(a), getshrstr(b), (size_t)a->shrlen) == 0;
}

int
share_hastwin(lua_State *L, const TString *ts) {
	const stringtable *own = &G(L)->strt;
	const TString *s = own->hash[lmod(ts->hash, own->size)];
	for (; s != NULL; s = s->u.hnext) {
		if (share_istwin(s, ts)) {
			return 1;
		}
	}
	return 0;
}

/*
** Looks up the strings of the state among the shared ones.
*/
static int
own_are_shared(const stringtable *own) {
	for (int i = 0; i < own->size; i++) {
		for (const TString *s = own->hash[i]; s != NULL; s = s->u.hnext) {
			if (share_find(getshrstr(s), (size_t)s->shrlen, s->hash) != NULL) {
				return 1;
			}
		}
	}
	return 0;
}

/*
** Only strings that became shared since the last look can be twins: once a
** string is shared, the state makes none with that text. So the cost is that of
** the fewer: the state's strings, or the new shared ones.
*/
int
share_hastwins(lua_State *L, size_t upto) {
	struct share_vm *vm = share_vmof(G(L));
	size_t n = share_stringcount();
	if (vm->strings_known >= upto) {
		return 0;
	}
	if (n - vm->strings_known > (size_t)G(L)->strt.nuse) {
		if (own_are_shared(&G(L)->strt)) {
			return 1;
		}
	} else {
		for (size_t i = vm->strings_known; i < n; i++) {
			if (share_hastwin(L, share_nthstring(i))) {
				return 1;
			}
		}
	}
	vm->strings_known = n;
	return 0;
}
