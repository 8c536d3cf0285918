/* Areas of interest, see aoi.h. */
#include "aoi.h"

#include <math.h>
#include <string.h>

#include "hash_mix.h"

#define FIRST_BUCKETS 8
#define FIRST_EVENTS 16
/* Grids of watchers; the largest range is that of the last one. */
#define LEVELS 24
/* Level of the grid of markers. */
#define MARKERS (-1)
/* Cells are counted from the origin up to here. */
#define MAX_CELL 0x1p40

struct entry {
	struct entry *chain;
	uint64_t hash;
};

/* A hash table. Its entries are the first member of what it holds, and belong to the user. */
struct table {
	struct entry **bucket;
	size_t size; /* a power of two, or 0 */
	size_t count;
};

/* Who is in a cell of a grid. */
struct cell {
	struct entry entry;
	int level;
	int64_t x, y;
	struct aoi_object *first;
};

/* Where an object is in one of the grids. */
struct seat {
	struct cell *cell;
	struct aoi_object *next, *previous;
};

struct pair {
	struct entry entry;
	struct aoi_object *watcher, *marker;
	struct pair *watcher_next, *watcher_previous;
	struct pair *marker_next, *marker_previous;
	uint64_t tick; /* update of the last event */
};

struct aoi_object {
	struct entry entry;
	int64_t id;
	double x, y;
	struct aoi_role role;
	struct seat watcher_seat, marker_seat;
	struct pair *sees, *seen_by;
	struct aoi_object *changed_next, *changed_previous;
	bool is_changed;
	bool has_moved;
};

struct aoi {
	struct aoi_options options;
	size_t memory;
	struct table objects, cells, pairs;
	size_t watchers[LEVELS]; /* how many are on each level */
	struct aoi_object *changed, *changed_last;
	struct aoi_event *event;
	size_t event_count, event_capacity;
	uint64_t tick;
};

//-------------------------------------------------------------------- memory

static void *
take(struct aoi *a, size_t size) {
	void *p = a->options.alloc(a->options.alloc_ud, NULL, 0, size);
	if (p != NULL) {
		a->memory += size;
		memset(p, 0, size);
	}
	return p;
}

static void
give(struct aoi *a, void *p, size_t size) {
	if (p != NULL) {
		a->memory -= size;
		a->options.alloc(a->options.alloc_ud, p, size, 0);
	}
}

//---------------------------------------------------------------- hash table

static struct entry *
table_first(const struct table *t, uint64_t hash) {
	return t->size == 0 ? NULL : t->bucket[hash & (t->size - 1)];
}

static bool
table_resize(struct aoi *a, struct table *t, size_t size) {
	struct entry **bucket = take(a, size * sizeof(*bucket));
	if (bucket == NULL) {
		return false;
	}
	for (size_t i = 0; i < t->size; i++) {
		struct entry *e = t->bucket[i];
		while (e != NULL) {
			struct entry *next = e->chain;
			struct entry **to = &bucket[e->hash & (size - 1)];
			e->chain = *to;
			*to = e;
			e = next;
		}
	}
	give(a, t->bucket, t->size * sizeof(*t->bucket));
	t->bucket = bucket;
	t->size = size;
	return true;
}

/* False only when the table has no bucket at all and gets none. */
static bool
table_insert(struct aoi *a, struct table *t, struct entry *e) {
	if (t->count >= t->size && !table_resize(a, t, t->size == 0 ? FIRST_BUCKETS : t->size * 2) &&
	    t->size == 0) {
		return false;
	}
	struct entry **b = &t->bucket[e->hash & (t->size - 1)];
	e->chain = *b;
	*b = e;
	t->count++;
	return true;
}

static void
table_remove(struct aoi *a, struct table *t, struct entry *e) {
	struct entry **p = &t->bucket[e->hash & (t->size - 1)];
	while (*p != e) {
		p = &(*p)->chain;
	}
	*p = e->chain;
	t->count--;
	if (t->count == 0) {
		give(a, t->bucket, t->size * sizeof(*t->bucket));
		*t = (struct table){.bucket = NULL};
	} else if (t->size > FIRST_BUCKETS && t->count < t->size / 4) {
		table_resize(a, t, t->size / 2);
	}
}

//---------------------------------------------------------------------- grids

static int64_t
cell_number(const struct aoi *a, int level, double v) {
	double size = level == MARKERS ? a->options.cell : ldexp(a->options.cell, level);
	return (int64_t)floor(v / size);
}

static uint64_t
hash_cell(const struct aoi *a, int level, int64_t x, int64_t y) {
	return hash_mix(hash_mix(hash_mix(a->options.seed ^ (uint64_t)x) ^ (uint64_t)y) +
	                (uint64_t)(level + 1));
}

static struct cell *
find_cell(const struct aoi *a, int level, int64_t x, int64_t y) {
	uint64_t hash = hash_cell(a, level, x, y);
	struct cell *c = (struct cell *)table_first(&a->cells, hash);
	while (c != NULL && (c->entry.hash != hash || c->level != level || c->x != x || c->y != y)) {
		c = (struct cell *)c->entry.chain;
	}
	return c;
}

/* The cell of a place, made when there is none; NULL without memory. */
static struct cell *
need_cell(struct aoi *a, int level, double x, double y) {
	int64_t cx = cell_number(a, level, x), cy = cell_number(a, level, y);
	struct cell *c = find_cell(a, level, cx, cy);
	if (c != NULL) {
		return c;
	}
	c = take(a, sizeof(*c));
	if (c == NULL) {
		return NULL;
	}
	c->entry.hash = hash_cell(a, level, cx, cy);
	c->level = level;
	c->x = cx;
	c->y = cy;
	if (!table_insert(a, &a->cells, &c->entry)) {
		give(a, c, sizeof(*c));
		return NULL;
	}
	return c;
}

static void
drop_cell_if_empty(struct aoi *a, struct cell *c) {
	if (c->first == NULL) {
		table_remove(a, &a->cells, &c->entry);
		give(a, c, sizeof(*c));
	}
}

static struct seat *
seat_of(struct aoi_object *o, int level) {
	return level == MARKERS ? &o->marker_seat : &o->watcher_seat;
}

static void
sit_down(struct aoi *a, struct aoi_object *o, struct cell *c) {
	struct seat *s = seat_of(o, c->level);
	*s = (struct seat){c, c->first, NULL};
	if (c->first != NULL) {
		seat_of(c->first, c->level)->previous = o;
	}
	c->first = o;
	if (c->level != MARKERS) {
		a->watchers[c->level]++;
	}
}

static void
stand_up(struct aoi *a, struct aoi_object *o, struct seat *s) {
	struct cell *c = s->cell;
	if (c == NULL) {
		return;
	}
	if (s->next != NULL) {
		seat_of(s->next, c->level)->previous = s->previous;
	}
	if (s->previous != NULL) {
		seat_of(s->previous, c->level)->next = s->next;
	} else {
		c->first = s->next;
	}
	if (c->level != MARKERS) {
		a->watchers[c->level]--;
	}
	*seat_of(o, c->level) = (struct seat){.cell = NULL};
	drop_cell_if_empty(a, c);
}

/* How far a watcher of this range may see, as a distance. */
static double
reach(const struct aoi *a, double range) {
	return a->options.by_cells ? (range + 1) * a->options.cell : range;
}

static int
level_of(const struct aoi *a, double range) {
	int level = 0;
	while (level < LEVELS - 1 && ldexp(a->options.cell, level) < reach(a, range)) {
		level++;
	}
	return level;
}

bool
aoi_is_range(const struct aoi *a, double range) {
	return range >= 0 && reach(a, range) <= ldexp(a->options.cell, LEVELS - 1) &&
	       (!a->options.by_cells || range == floor(range));
}

bool
aoi_is_place(const struct aoi *a, double x, double y) {
	// Written so that NaN is refused, too.
	return fabs(x) / a->options.cell < MAX_CELL && fabs(y) / a->options.cell < MAX_CELL;
}

/*
 * Puts an object, with its new place and role, into the cells where it belongs. False without
 * memory, and then nothing has changed.
 */
static bool
reseat(struct aoi *a, struct aoi_object *o, double x, double y, double range) {
	struct cell *w = NULL, *m = NULL;
	if (o->role.is_watcher) {
		w = need_cell(a, level_of(a, range), x, y);
		if (w == NULL) {
			return false;
		}
	}
	if (o->role.is_marker) {
		m = need_cell(a, MARKERS, x, y);
		if (m == NULL) {
			if (w != NULL) {
				drop_cell_if_empty(a, w);
			}
			return false;
		}
	}
	if (w != o->watcher_seat.cell) {
		stand_up(a, o, &o->watcher_seat);
		sit_down(a, o, w);
	}
	if (m != o->marker_seat.cell) {
		stand_up(a, o, &o->marker_seat);
		sit_down(a, o, m);
	}
	return true;
}

//------------------------------------------------------------------- visibility

static double
square(double v) {
	return v * v;
}

/* Whether the marker is within the range and `margin` of the watcher. */
static bool
is_within(const struct aoi *a, const struct aoi_object *w, const struct aoi_object *m,
          double margin) {
	double limit = w->role.range + margin;
	if (a->options.by_cells) {
		double dx = floor(w->x / a->options.cell) - floor(m->x / a->options.cell);
		double dy = floor(w->y / a->options.cell) - floor(m->y / a->options.cell);
		return fabs(dx) <= limit && fabs(dy) <= limit;
	}
	return square(w->x - m->x) + square(w->y - m->y) <= square(limit);
}

static uint64_t
hash_pair(const struct aoi *a, const struct aoi_object *w, const struct aoi_object *m) {
	return hash_mix(hash_mix(a->options.seed ^ (uint64_t)w->id) ^ (uint64_t)m->id);
}

static struct pair *
find_pair(const struct aoi *a, const struct aoi_object *w, const struct aoi_object *m) {
	struct pair *p = (struct pair *)table_first(&a->pairs, hash_pair(a, w, m));
	while (p != NULL && (p->watcher != w || p->marker != m)) {
		p = (struct pair *)p->entry.chain;
	}
	return p;
}

static void
unlink_pair(struct aoi *a, struct pair *p) {
	if (p->watcher_previous != NULL) {
		p->watcher_previous->watcher_next = p->watcher_next;
	} else {
		p->watcher->sees = p->watcher_next;
	}
	if (p->watcher_next != NULL) {
		p->watcher_next->watcher_previous = p->watcher_previous;
	}
	if (p->marker_previous != NULL) {
		p->marker_previous->marker_next = p->marker_next;
	} else {
		p->marker->seen_by = p->marker_next;
	}
	if (p->marker_next != NULL) {
		p->marker_next->marker_previous = p->marker_previous;
	}
	table_remove(a, &a->pairs, &p->entry);
	give(a, p, sizeof(*p));
}

static bool
new_pair(struct aoi *a, struct aoi_object *w, struct aoi_object *m) {
	struct pair *p = take(a, sizeof(*p));
	if (p == NULL) {
		return false;
	}
	p->entry.hash = hash_pair(a, w, m);
	p->watcher = w;
	p->marker = m;
	p->tick = a->tick;
	if (!table_insert(a, &a->pairs, &p->entry)) {
		give(a, p, sizeof(*p));
		return false;
	}
	p->watcher_next = w->sees;
	if (w->sees != NULL) {
		w->sees->watcher_previous = p;
	}
	w->sees = p;
	p->marker_next = m->seen_by;
	if (m->seen_by != NULL) {
		m->seen_by->marker_previous = p;
	}
	m->seen_by = p;
	return true;
}

//-------------------------------------------------------------------- events

/* Room for `count` more events. */
static bool
reserve_events(struct aoi *a, size_t count) {
	if (count <= a->event_capacity - a->event_count) {
		return true;
	}
	size_t capacity = a->event_capacity == 0 ? FIRST_EVENTS : a->event_capacity;
	while (capacity - a->event_count < count) {
		capacity *= 2;
	}
	struct aoi_event *list = take(a, capacity * sizeof(*list));
	if (list == NULL) {
		return false;
	}
	if (a->event_count > 0) {
		memcpy(list, a->event, a->event_count * sizeof(*list));
	}
	give(a, a->event, a->event_capacity * sizeof(*list));
	a->event = list;
	a->event_capacity = capacity;
	return true;
}

/* Room was reserved. */
static void
tell(struct aoi *a, enum aoi_kind kind, const struct aoi_object *w, const struct aoi_object *m) {
	a->event[a->event_count++] = (struct aoi_event){kind, w->id, m->id};
}

const struct aoi_event *
aoi_events(const struct aoi *a, size_t *count) {
	*count = a->event_count;
	return a->event;
}

void
aoi_clear_events(struct aoi *a) {
	give(a, a->event, a->event_capacity * sizeof(*a->event));
	a->event = NULL;
	a->event_count = a->event_capacity = 0;
	a->tick++;
}

//-------------------------------------------------------------------- update

static bool
enter_if_near(struct aoi *a, struct aoi_object *w, struct aoi_object *m) {
	if (w == m || !is_within(a, w, m, 0) || find_pair(a, w, m) != NULL) {
		return true;
	}
	if (!reserve_events(a, 1) || !new_pair(a, w, m)) {
		return false;
	}
	tell(a, AOI_ENTER, w, m);
	return true;
}

static bool
end_if_far(struct aoi *a, struct pair *p, bool *ended) {
	*ended = !is_within(a, p->watcher, p->marker, a->options.margin);
	if (*ended) {
		if (!reserve_events(a, 1)) {
			return false;
		}
		tell(a, AOI_LEAVE, p->watcher, p->marker);
		unlink_pair(a, p);
	}
	return true;
}

/* Something done with a marker or a watcher; false ends the search. */
typedef bool (*visit)(struct aoi *a, struct aoi_object *o, void *ud);

static bool
visit_cell(struct aoi *a, const struct cell *c, visit fn, void *ud) {
	struct aoi_object *o = c != NULL ? c->first : NULL;
	while (o != NULL) {
		struct aoi_object *next = seat_of(o, c->level)->next;
		if (!fn(a, o, ud)) {
			return false;
		}
		o = next;
	}
	return true;
}

static bool
visit_all_markers(struct aoi *a, visit fn, void *ud) {
	for (size_t i = 0; i < a->cells.size; i++) {
		for (const struct entry *e = a->cells.bucket[i]; e != NULL; e = e->chain) {
			const struct cell *c = (const struct cell *)e;
			if (c->level == MARKERS && !visit_cell(a, c, fn, ud)) {
				return false;
			}
		}
	}
	return true;
}

/* Visits the markers of all cells that are within `r` of a place. fn must not move anything. */
static bool
visit_markers(struct aoi *a, double x, double y, double r, visit fn, void *ud) {
	int64_t x1 = cell_number(a, MARKERS, x - r), x2 = cell_number(a, MARKERS, x + r);
	int64_t y1 = cell_number(a, MARKERS, y - r), y2 = cell_number(a, MARKERS, y + r);
	if ((double)(x2 - x1 + 1) * (double)(y2 - y1 + 1) > (double)a->cells.size) {
		return visit_all_markers(a, fn, ud); // fewer than would be tried
	}
	for (int64_t cy = y1; cy <= y2; cy++) {
		for (int64_t cx = x1; cx <= x2; cx++) {
			if (!visit_cell(a, find_cell(a, MARKERS, cx, cy), fn, ud)) {
				return false;
			}
		}
	}
	return true;
}

/* Visits the watchers that may see a place. */
static bool
visit_watchers(struct aoi *a, double x, double y, visit fn, void *ud) {
	for (int level = 0; level < LEVELS; level++) {
		if (a->watchers[level] == 0) {
			continue;
		}
		int64_t cx = cell_number(a, level, x), cy = cell_number(a, level, y);
		for (int i = 0; i < 9; i++) {
			if (!visit_cell(a, find_cell(a, level, cx - 1 + i % 3, cy - 1 + i / 3), fn, ud)) {
				return false;
			}
		}
	}
	return true;
}

static bool
enter_marker(struct aoi *a, struct aoi_object *m, void *watcher) {
	return enter_if_near(a, watcher, m);
}

static bool
enter_watcher(struct aoi *a, struct aoi_object *w, void *marker) {
	return enter_if_near(a, w, marker);
}

/* The object as a watcher: pairs that end, then pairs that begin. */
static bool
update_watcher(struct aoi *a, struct aoi_object *w) {
	struct pair *next;
	bool ended;
	for (struct pair *p = w->sees; p != NULL; p = next) {
		next = p->watcher_next;
		if (!end_if_far(a, p, &ended)) {
			return false;
		}
	}
	return visit_markers(a, w->x, w->y, reach(a, w->role.range), enter_marker, w);
}

/* The object as a marker: pairs that end, those who see it move, pairs that begin. */
static bool
update_marker(struct aoi *a, struct aoi_object *m) {
	struct pair *next;
	bool ended;
	for (struct pair *p = m->seen_by; p != NULL; p = next) {
		next = p->marker_next;
		if (!end_if_far(a, p, &ended)) {
			return false;
		}
		if (!ended && m->has_moved && p->tick != a->tick) {
			if (!reserve_events(a, 1)) {
				return false;
			}
			tell(a, AOI_MOVE, p->watcher, m);
			p->tick = a->tick;
		}
	}
	return visit_watchers(a, m->x, m->y, enter_watcher, m);
}

static void
mark_changed(struct aoi *a, struct aoi_object *o) {
	if (o->is_changed) {
		return;
	}
	o->is_changed = true;
	o->changed_next = NULL;
	o->changed_previous = a->changed_last;
	*(a->changed_last != NULL ? &a->changed_last->changed_next : &a->changed) = o;
	a->changed_last = o;
}

static void
forget_change(struct aoi *a, struct aoi_object *o) {
	if (!o->is_changed) {
		return;
	}
	*(o->changed_previous != NULL ? &o->changed_previous->changed_next : &a->changed) =
	    o->changed_next;
	*(o->changed_next != NULL ? &o->changed_next->changed_previous : &a->changed_last) =
	    o->changed_previous;
	o->is_changed = o->has_moved = false;
}

bool
aoi_update(struct aoi *a) {
	while (a->changed != NULL) {
		struct aoi_object *o = a->changed;
		if ((o->role.is_watcher && !update_watcher(a, o)) ||
		    (o->role.is_marker && !update_marker(a, o))) {
			return false; // o stays changed; what was done for it is not done again
		}
		forget_change(a, o);
	}
	return true;
}

//------------------------------------------------------------------- objects

struct aoi *
aoi_new(const struct aoi_options *options) {
	struct aoi *a = options->alloc(options->alloc_ud, NULL, 0, sizeof(*a));
	if (a != NULL) {
		*a = (struct aoi){.options = *options, .memory = sizeof(*a), .tick = 1};
	}
	return a;
}

struct aoi_object *
aoi_find(const struct aoi *a, int64_t id) {
	uint64_t hash = hash_mix(a->options.seed ^ (uint64_t)id);
	struct aoi_object *o = (struct aoi_object *)table_first(&a->objects, hash);
	while (o != NULL && o->id != id) {
		o = (struct aoi_object *)o->entry.chain;
	}
	return o;
}

struct aoi_object *
aoi_add(struct aoi *a, int64_t id, const struct aoi_role *role, double x, double y) {
	struct aoi_object *o = take(a, sizeof(*o));
	if (o == NULL) {
		return NULL;
	}
	o->entry.hash = hash_mix(a->options.seed ^ (uint64_t)id);
	o->id = id;
	o->role = *role;
	o->x = x;
	o->y = y;
	if (!table_insert(a, &a->objects, &o->entry)) {
		give(a, o, sizeof(*o));
		return NULL;
	}
	if (!reseat(a, o, x, y, role->range)) {
		table_remove(a, &a->objects, &o->entry);
		give(a, o, sizeof(*o));
		return NULL;
	}
	mark_changed(a, o);
	return o;
}

bool
aoi_move(struct aoi *a, struct aoi_object *o, double x, double y) {
	if (o->x == x && o->y == y) {
		return true;
	}
	if (!reseat(a, o, x, y, o->role.range)) {
		return false;
	}
	o->x = x;
	o->y = y;
	mark_changed(a, o);
	o->has_moved = true;
	return true;
}

bool
aoi_set_range(struct aoi *a, struct aoi_object *o, double range) {
	if (!reseat(a, o, o->x, o->y, range)) {
		return false;
	}
	o->role.range = range;
	mark_changed(a, o);
	return true;
}

bool
aoi_remove(struct aoi *a, struct aoi_object *o) {
	size_t count = 0;
	for (const struct pair *p = o->seen_by; p != NULL; p = p->marker_next) {
		count++;
	}
	if (!reserve_events(a, count)) {
		return false;
	}
	while (o->seen_by != NULL) {
		tell(a, AOI_LEAVE, o->seen_by->watcher, o);
		unlink_pair(a, o->seen_by);
	}
	while (o->sees != NULL) {
		unlink_pair(a, o->sees);
	}
	forget_change(a, o);
	stand_up(a, o, &o->watcher_seat);
	stand_up(a, o, &o->marker_seat);
	table_remove(a, &a->objects, &o->entry);
	give(a, o, sizeof(*o));
	return true;
}

/* Frees the entries of a table, all of one size, and the table. */
static void
free_table(struct aoi *a, struct table *t, size_t entry_size) {
	for (size_t i = 0; i < t->size; i++) {
		struct entry *e = t->bucket[i];
		while (e != NULL) {
			struct entry *next = e->chain;
			give(a, e, entry_size);
			e = next;
		}
	}
	give(a, t->bucket, t->size * sizeof(*t->bucket));
}

void
aoi_delete(struct aoi *a) {
	free_table(a, &a->pairs, sizeof(struct pair));
	free_table(a, &a->cells, sizeof(struct cell));
	free_table(a, &a->objects, sizeof(struct aoi_object));
	give(a, a->event, a->event_capacity * sizeof(*a->event));
	a->options.alloc(a->options.alloc_ud, a, sizeof(*a), 0);
}

//------------------------------------------------------------------- queries

void
aoi_object_place(const struct aoi_object *o, double *x, double *y) {
	*x = o->x;
	*y = o->y;
}

bool
aoi_object_is_watcher(const struct aoi_object *o) {
	return o->role.is_watcher;
}

void
aoi_seen_by(const struct aoi_object *o, aoi_visit fn, void *ud) {
	for (const struct pair *p = o->sees; p != NULL; p = p->watcher_next) {
		fn(ud, p->marker->id);
	}
}

void
aoi_watchers_of(const struct aoi_object *o, aoi_visit fn, void *ud) {
	for (const struct pair *p = o->seen_by; p != NULL; p = p->marker_next) {
		fn(ud, p->watcher->id);
	}
}

struct near {
	struct aoi_object place; /* a watcher that is not in the space */
	aoi_visit fn;
	void *ud;
};

static bool
visit_if_near(struct aoi *a, struct aoi_object *m, void *ud) {
	const struct near *n = ud;
	if (is_within(a, &n->place, m, 0)) {
		n->fn(n->ud, m->id);
	}
	return true;
}

void
aoi_near(struct aoi *a, double x, double y, double range, aoi_visit fn, void *ud) {
	struct near n = {.place = {.x = x, .y = y, .role.range = range}, .fn = fn, .ud = ud};
	visit_markers(a, x, y, reach(a, range), visit_if_near, &n);
}

struct aoi_stat
aoi_stat(const struct aoi *a) {
	return (struct aoi_stat){
	    .objects = a->objects.count,
	    .pairs = a->pairs.count,
	    .cells = a->cells.count,
	    .memory = a->memory,
	};
}
