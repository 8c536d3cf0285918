/*
 * A sorted set: members with a score each, in ranking order. For leaderboards.
 *
 * A set owns its memory, which comes from the allocator it was made with and goes back to the byte:
 * members are copied. One thread at a time. It never calls back, and never fails half-way: an
 * operation that lacks memory changes nothing.
 *
 * DESIGN. A skip list whose links count the entries they pass gives order and ranks in O(log n); a
 * hash table finds the entry of a member. The order is total, so equal sets look equal: by score,
 * then by the time at which the score was reached (a counter, not a clock) or by member.
 */
#ifndef ZSET_H
#define ZSET_H

#include <lua.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A score keeps the kind it came with; comparing is exact between the kinds. No NaN. */
struct zset_score {
	bool is_float;
	union {
		int64_t i;
		double d;
	};
};

/* A member: bytes, or an integer when `bytes` is NULL. Integers sort before bytes. */
struct zset_member {
	const char *bytes;
	size_t size;
	int64_t integer;
};

struct zset_options {
	/* Rank 1 has the lowest score instead of the highest. */
	bool low_first;
	/* Equal scores sort by member instead of by who came first. */
	bool ties_by_member;
	uint64_t seed;
	/* As of lua_newstate; must return NULL rather than raise. */
	lua_Alloc alloc;
	void *alloc_ud;
};

struct zset;
struct zset_node;

/* A new set, or NULL without memory. */
struct zset *zset_new(const struct zset_options *options);

/* Frees the set with its members. Not NULL. */
void zset_delete(struct zset *z);

/* Remove all members. */
void zset_clear(struct zset *z);

/* Its members. */
size_t zset_count(const struct zset *z);

/* Whether rank 1 has the lowest score. */
bool zset_is_low_first(const struct zset *z);

/* Bytes that the set holds. */
size_t zset_memory(const struct zset *z);

/* A number that changes whenever entries come, go or move. */
uint64_t zset_version(const struct zset *z);

enum zset_result { ZSET_NO_MEMORY = -1, ZSET_SAME, ZSET_MOVED, ZSET_ADDED };

/* Give a member a score. With the score that it has it keeps its place. Lends the member. */
enum zset_result zset_add(struct zset *z, const struct zset_member *m, struct zset_score score);

/* The entry of a member, or NULL. Entries live until they are removed; moving keeps them. */
struct zset_node *zset_find(const struct zset *z, const struct zset_member *m);

/* Removes and frees an entry. */
void zset_remove(struct zset *z, struct zset_node *n);

/* What the member has. */
struct zset_score zset_node_score(const struct zset_node *n);

/* Lends the entry's own member. */
struct zset_member zset_node_member(const struct zset_node *n);

/* Rank of an entry: 1 is the first one. */
size_t zset_rank(const struct zset *z, const struct zset_node *n);

/* The entry of a rank, or NULL beyond the ends. */
struct zset_node *zset_at(const struct zset *z, size_t rank);

/* The neighbour in ranking order, or NULL. */
struct zset_node *zset_next(const struct zset_node *n);

/* The other way. */
struct zset_node *zset_previous(const struct zset_node *n);

/*
 * How many entries come before the score, in ranking order; with `or_equal` those that have it
 * count, too.
 */
size_t zset_before(const struct zset *z, struct zset_score score, bool or_equal);

/* -1, 0 or 1. */
int zset_compare_scores(struct zset_score a, struct zset_score b);

#endif
