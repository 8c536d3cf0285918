/*
 * Objects that the services of one process share by reference: versions of
 * shared tables (lua-sharetable.c) and documents (lua-sharedata.c).
 *
 * An object is known by its id, a number that is never used again, so an id may
 * travel in a message: whoever takes it in gets the object, or learns that the
 * object is gone. In Lua an id is a light userdata.
 *
 * An object lives as long as it has an owner (the service that publishes it) or
 * a user. What it contains never changes after share_add, so reading needs no
 * lock; one lock for all guards ids and counts. Any thread may call anything.
 */
#ifndef LUA_SHARE_OBJECT_H
#define LUA_SHARE_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

struct share_object;

/* What kind of object it is; compared by address. */
struct share_kind {
	/* Free the object and what it contains. Called once, without the lock. */
	void (*destroy)(struct share_object *o);
};

/* The head of a shared object. The fields belong to lua-share.c. */
struct share_object {
	const struct share_kind *kind;
	struct share_object *next; /* in its bucket */
	struct share_use *uses;
	uint64_t id;
	size_t owners;
	size_t users;
};

/* One counted use, listed with its user. The struct's memory is the caller's. */
struct share_use {
	struct share_object *o; /* NULL: not in use */
	struct share_use *next, **link;
	uint32_t holder; /* handle of the service */
};

/*
 * Enter an object that is complete, with one owner, and return its id. Takes
 * the object.
 */
uint64_t share_add(struct share_object *o, const struct share_kind *kind);

/*
 * Be one more owner of the object with this id and kind. NULL when there is no
 * such object (any more).
 */
struct share_object *share_own(uint64_t id, const struct share_kind *kind);

/* Give the ownership back. Destroys the object when nothing needs it. */
void share_disown(struct share_object *o);

/* Use the object: fills in `use`. False when there is no such object. */
bool share_use(struct share_use *use, uint64_t id, const struct share_kind *kind, uint32_t holder);

/* End a use; true when this destroyed the object. Twice is harmless. */
bool share_unuse(struct share_use *use);

/*
 * Change the number of users by `delta` (0, 1 or -1, not below 0) without a
 * struct share_use, and return it; -1 when there is no such object.
 */
long long share_count(uint64_t id, const struct share_kind *kind, int delta);

/*
 * Push a table of the handles that use the object (which the caller owns), in
 * no order, with repetitions; the first 10000 at most.
 */
void share_push_holders(lua_State *L, struct share_object *o);

/* Fill in the ids of up to `room` objects of a kind, and return how many. */
size_t share_list(const struct share_kind *kind, uint64_t *ids, size_t room);

/* An id as Lua sees it, and back; 0 when it is none. */
void share_push_id(lua_State *L, uint64_t id);
uint64_t share_to_id(lua_State *L, int idx);

#endif
