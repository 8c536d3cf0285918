/*
 * Areas of interest: who sees whom in a plane. Watchers see markers that are near; an update tells
 * what came, moved and went since the last one.
 *
 * A space owns its memory, which comes from the allocator it was made with and goes back to the
 * byte: objects, cells of the grid that have something in them, pairs that see each other, events
 * that were not taken. One thread at a time. It never calls back. What lacks memory changes
 * nothing, but for an update, which can be called again and then goes on.
 *
 * DESIGN. Markers are in the cells of a grid. Watchers are in grids of their own, one for each
 * power of two of the range, with cells at least as large: so a marker that moved finds all who may
 * see it in nine cells of each grid in use, however different the ranges are. Only what changed is
 * looked at. A pair that sees each other is a record, which makes hysteresis possible: it forms
 * within the range, and ends beyond range and margin.
 */
#ifndef AOI_H
#define AOI_H

#include <lua.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aoi_options {
	double cell;   /* size of a cell, positive */
	double margin; /* added to the range until a pair ends; in cells when by_cells */
	/* Ranges count cells, and distance is that of the cells: 1 is the nine cells around. */
	bool by_cells;
	uint64_t seed;
	/* As of lua_newstate; must return NULL rather than raise. */
	lua_Alloc alloc;
	void *alloc_ud;
};

/* What an object is: does it see, and how far; is it seen. */
struct aoi_role {
	bool is_watcher;
	bool is_marker;
	double range;
};

enum aoi_kind { AOI_ENTER = 1, AOI_MOVE, AOI_LEAVE };

struct aoi_event {
	enum aoi_kind kind;
	int64_t watcher;
	int64_t marker;
};

struct aoi_stat {
	size_t objects;
	size_t pairs;
	size_t cells;
	size_t memory; /* bytes */
};

struct aoi;
struct aoi_object;

/* A new space, or NULL without memory. */
struct aoi *aoi_new(const struct aoi_options *options);

/* Frees the space with its objects. Not NULL. */
void aoi_delete(struct aoi *a);

/* Whether a position, or a range, can be used: finite, and not too many cells away. */
bool aoi_is_place(const struct aoi *a, double x, double y);

/* The same of a range: finite, not negative, and not too many cells wide. */
bool aoi_is_range(const struct aoi *a, double range);

/* The object of an id, or NULL. */
struct aoi_object *aoi_find(const struct aoi *a, int64_t id);

/* A new object with an id that no object has; NULL without memory. */
struct aoi_object *aoi_add(struct aoi *a, int64_t id, const struct aoi_role *role, double x,
                           double y);

/* False without memory. */
bool aoi_move(struct aoi *a, struct aoi_object *o, double x, double y);

/* Change the range of a watcher. False without memory. */
bool aoi_set_range(struct aoi *a, struct aoi_object *o, double range);

/*
 * Removes and frees an object. The next update tells those who saw it. False without memory for
 * that.
 */
bool aoi_remove(struct aoi *a, struct aoi_object *o);

/* Where the object is. */
void aoi_object_place(const struct aoi_object *o, double *x, double *y);

/* Whether it sees others. */
bool aoi_object_is_watcher(const struct aoi_object *o);

/*
 * Finds out what changed since the last update. False without memory; what was found so far is
 * among the events.
 */
bool aoi_update(struct aoi *a);

/* The events that were found; they stay until aoi_clear_events. Lends. */
const struct aoi_event *aoi_events(const struct aoi *a, size_t *count);

/* The events that were found are taken. */
void aoi_clear_events(struct aoi *a);

/* Calls fn with each id. */
typedef void (*aoi_visit)(void *ud, int64_t id);

/* The markers that a watcher sees, and the watchers that see a marker, as of the last update. */
void aoi_seen_by(const struct aoi_object *o, aoi_visit fn, void *ud);

/* The other side of it: who sees a marker. */
void aoi_watchers_of(const struct aoi_object *o, aoi_visit fn, void *ud);

/* The markers within a range of a place now. */
void aoi_near(struct aoi *a, double x, double y, double range, aoi_visit fn, void *ud);

/* Numbers about the space. */
struct aoi_stat aoi_stat(const struct aoi *a);

#endif
