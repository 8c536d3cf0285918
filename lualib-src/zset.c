/* Sorted sets, see zset.h. */
#include "zset.h"

#include <string.h>

#include "hash_mix.h"

/* A quarter of the entries of a level are on the next one: 16 levels serve 2^32 entries. */
#define MAX_LEVEL 16
#define FIRST_BUCKETS 8

/* The next entry on a level, and how many ranks it is away (to the end, when there is none). */
struct link {
	struct zset_node *next;
	size_t span;
};

/* In one block: the node, its links, the bytes of its member. */
struct zset_node {
	struct zset_node *chain;    /* the next one in the hash bucket */
	struct zset_node *previous; /* the head's is the last entry */
	uint64_t hash;
	uint64_t turn; /* when it got its score */
	struct zset_score score;
	struct zset_member member;
	int level;
	struct link link[];
};

struct zset {
	lua_Alloc alloc;
	void *alloc_ud;
	size_t memory;
	struct zset_node **bucket;
	size_t bucket_count; /* a power of two */
	size_t count;
	uint64_t turn;
	uint64_t version;
	uint64_t seed;
	uint64_t random;
	int level; /* levels in use, at least 1 */
	bool low_first;
	bool ties_by_member;
	struct zset_node *head; /* of all levels; no entry */
};

//-------------------------------------------------------------------- memory

static void *
take(struct zset *z, size_t size) {
	void *p = z->alloc(z->alloc_ud, NULL, 0, size);
	if (p != NULL) {
		z->memory += size;
	}
	return p;
}

static void
give(struct zset *z, void *p, size_t size) {
	z->memory -= size;
	z->alloc(z->alloc_ud, p, size, 0);
}

static size_t
node_size(int level, const struct zset_member *m) {
	size_t bytes = m->bytes != NULL ? m->size : 0;
	return sizeof(struct zset_node) + (size_t)level * sizeof(struct link) + bytes;
}

/* A node with a copy of the member, or NULL. */
static struct zset_node *
new_node(struct zset *z, int level, const struct zset_member *m) {
	struct zset_node *n = take(z, node_size(level, m));
	if (n == NULL) {
		return NULL;
	}
	n->level = level;
	n->member = *m;
	n->turn = 0;
	if (m->bytes != NULL) {
		char *copy = (char *)&n->link[level];
		memcpy(copy, m->bytes, m->size);
		n->member.bytes = copy;
	}
	return n;
}

static void
free_node(struct zset *z, struct zset_node *n) {
	give(z, n, node_size(n->level, &n->member));
}

//--------------------------------------------------------------------- order

static int
compare_mixed(int64_t i, double d) {
	if (d >= 0x1p63) {
		return -1;
	} else if (d < -0x1p63) {
		return 1;
	}
	int64_t whole = (int64_t)d;
	if (i != whole) {
		return i < whole ? -1 : 1;
	}
	double rest = d - (double)whole;
	return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

int
zset_compare_scores(struct zset_score a, struct zset_score b) {
	if (a.is_float && b.is_float) {
		return a.d < b.d ? -1 : a.d > b.d;
	} else if (a.is_float) {
		return -compare_mixed(b.i, a.d);
	} else if (b.is_float) {
		return compare_mixed(a.i, b.d);
	}
	return a.i < b.i ? -1 : a.i > b.i;
}

static int
compare_members(const struct zset_member *a, const struct zset_member *b) {
	if (a->bytes == NULL || b->bytes == NULL) {
		if (a->bytes != b->bytes) {
			return a->bytes == NULL ? -1 : 1;
		}
		return a->integer < b->integer ? -1 : a->integer > b->integer;
	}
	size_t size = a->size < b->size ? a->size : b->size;
	int order = memcmp(a->bytes, b->bytes, size);
	return order != 0 ? order : a->size < b->size ? -1 : a->size > b->size;
}

/* Where `score` stands to the one of n, in ranking order. */
static int
rank_score(const struct zset *z, const struct zset_node *n, struct zset_score score) {
	int order = zset_compare_scores(n->score, score);
	return z->low_first ? order : -order;
}

static bool
is_before(const struct zset *z, const struct zset_node *a, const struct zset_node *b) {
	int order = rank_score(z, a, b->score);
	if (order == 0 && z->ties_by_member) {
		order = compare_members(&a->member, &b->member);
	} else if (order == 0) {
		order = a->turn < b->turn ? -1 : a->turn > b->turn;
	}
	return order < 0;
}

//---------------------------------------------------------------------- hash

static uint64_t
hash_member(const struct zset *z, const struct zset_member *m) {
	if (m->bytes == NULL) {
		return hash_mix(z->seed ^ (uint64_t)m->integer);
	}
	uint64_t h = z->seed ^ m->size;
	const char *s = m->bytes;
	size_t left = m->size;
	for (; left >= sizeof(h); left -= sizeof(h), s += sizeof(h)) {
		uint64_t word;
		memcpy(&word, s, sizeof(word));
		h = hash_mix(h ^ word) + z->seed;
	}
	uint64_t word = 0;
	memcpy(&word, s, left);
	return hash_mix(h ^ word);
}

static struct zset_node **
bucket_of(const struct zset *z, uint64_t hash) {
	return &z->bucket[hash & (z->bucket_count - 1)];
}

/* Without memory the table stays as it is, and chains get longer. */
static void
resize_table(struct zset *z, size_t count) {
	struct zset_node **table = take(z, count * sizeof(*table));
	if (table == NULL) {
		return;
	}
	memset(table, 0, count * sizeof(*table));
	give(z, z->bucket, z->bucket_count * sizeof(*table));
	z->bucket = table;
	z->bucket_count = count;
	for (struct zset_node *n = z->head->link[0].next; n != NULL; n = n->link[0].next) {
		struct zset_node **b = bucket_of(z, n->hash);
		n->chain = *b;
		*b = n;
	}
}

static void
unhash(struct zset *z, struct zset_node *n) {
	struct zset_node **p = bucket_of(z, n->hash);
	while (*p != n) {
		p = &(*p)->chain;
	}
	*p = n->chain;
}

static struct zset_node *
find_hashed(const struct zset *z, const struct zset_member *m, uint64_t hash) {
	struct zset_node *n = *bucket_of(z, hash);
	while (n != NULL && (n->hash != hash || compare_members(&n->member, m) != 0)) {
		n = n->chain;
	}
	return n;
}

struct zset_node *
zset_find(const struct zset *z, const struct zset_member *m) {
	return find_hashed(z, m, hash_member(z, m));
}

//----------------------------------------------------------------- skip list

static int
random_level(struct zset *z) {
	z->random += 0x9e3779b97f4a7c15u;
	uint64_t r = hash_mix(z->random);
	int level = 1;
	for (; level < MAX_LEVEL && (r & 3) == 0; r >>= 2) {
		level++;
	}
	return level;
}

/* What comes before a place: on each level the node, and its rank (0 for the head). */
struct path {
	struct zset_node *node[MAX_LEVEL];
	size_t rank[MAX_LEVEL];
};

/* The path to the place of n, which is there or is to come there. */
static void
find_path(const struct zset *z, const struct zset_node *n, struct path *path) {
	struct zset_node *at = z->head;
	size_t rank = 0;
	for (int i = z->level - 1; i >= 0; i--) {
		while (at->link[i].next != NULL && is_before(z, at->link[i].next, n)) {
			rank += at->link[i].span;
			at = at->link[i].next;
		}
		path->node[i] = at;
		path->rank[i] = rank;
	}
}

static void
link_node(struct zset *z, struct zset_node *n) {
	struct path path;
	for (; z->level < n->level; z->level++) {
		z->head->link[z->level] = (struct link){NULL, z->count};
	}
	find_path(z, n, &path);
	for (int i = 0; i < n->level; i++) {
		struct link *before = &path.node[i]->link[i];
		size_t distance = path.rank[0] - path.rank[i];
		n->link[i] = (struct link){before->next, before->span - distance};
		*before = (struct link){n, distance + 1};
	}
	for (int i = n->level; i < z->level; i++) {
		path.node[i]->link[i].span++;
	}
	n->previous = path.node[0];
	struct zset_node *next = n->link[0].next;
	(next != NULL ? next : z->head)->previous = n;
	z->count++;
	z->version++;
}

static void
unlink_node(struct zset *z, struct zset_node *n) {
	struct path path;
	find_path(z, n, &path);
	for (int i = 0; i < z->level; i++) {
		struct link *before = &path.node[i]->link[i];
		if (i < n->level) {
			*before = (struct link){n->link[i].next, before->span + n->link[i].span - 1};
		} else {
			before->span--;
		}
	}
	struct zset_node *next = n->link[0].next;
	(next != NULL ? next : z->head)->previous = n->previous;
	while (z->level > 1 && z->head->link[z->level - 1].next == NULL) {
		z->level--;
	}
	z->count--;
	z->version++;
}

//---------------------------------------------------------------- operations

/* The head's links on the first levels; link_node sets the others when it starts to use them. */
static void
empty_list(struct zset *z) {
	z->head->link[0] = (struct link){NULL, 0};
	z->head->previous = z->head;
	z->level = 1;
	z->count = 0;
}

struct zset *
zset_new(const struct zset_options *options) {
	struct zset *z = options->alloc(options->alloc_ud, NULL, 0, sizeof(*z));
	if (z == NULL) {
		return NULL;
	}
	*z = (struct zset){
	    .alloc = options->alloc,
	    .alloc_ud = options->alloc_ud,
	    .memory = sizeof(*z),
	    .bucket_count = FIRST_BUCKETS,
	    .seed = options->seed,
	    .random = options->seed,
	    .low_first = options->low_first,
	    .ties_by_member = options->ties_by_member,
	};
	z->head = new_node(z, MAX_LEVEL, &(struct zset_member){.bytes = NULL});
	z->bucket = take(z, FIRST_BUCKETS * sizeof(*z->bucket));
	if (z->head == NULL || z->bucket == NULL) {
		if (z->head != NULL) {
			free_node(z, z->head);
		}
		if (z->bucket != NULL) {
			give(z, z->bucket, FIRST_BUCKETS * sizeof(*z->bucket));
		}
		options->alloc(options->alloc_ud, z, sizeof(*z), 0);
		return NULL;
	}
	memset(z->bucket, 0, FIRST_BUCKETS * sizeof(*z->bucket));
	empty_list(z);
	return z;
}

static void
free_entries(struct zset *z) {
	struct zset_node *n = z->head->link[0].next;
	while (n != NULL) {
		struct zset_node *next = n->link[0].next;
		free_node(z, n);
		n = next;
	}
}

void
zset_clear(struct zset *z) {
	free_entries(z);
	empty_list(z);
	z->version++;
	memset(z->bucket, 0, z->bucket_count * sizeof(*z->bucket));
	if (z->bucket_count > FIRST_BUCKETS) {
		resize_table(z, FIRST_BUCKETS);
	}
}

void
zset_delete(struct zset *z) {
	free_entries(z);
	free_node(z, z->head);
	give(z, z->bucket, z->bucket_count * sizeof(*z->bucket));
	z->alloc(z->alloc_ud, z, sizeof(*z), 0);
}

enum zset_result
zset_add(struct zset *z, const struct zset_member *m, struct zset_score score) {
	uint64_t hash = hash_member(z, m);
	struct zset_node *n = find_hashed(z, m, hash);
	if (n != NULL) {
		if (zset_compare_scores(n->score, score) == 0) {
			n->score = score; // 1 and 1.0 are one score; the last spelling stays
			return ZSET_SAME;
		}
		unlink_node(z, n);
		n->score = score;
		n->turn = ++z->turn;
		link_node(z, n);
		return ZSET_MOVED;
	}
	n = new_node(z, random_level(z), m);
	if (n == NULL) {
		return ZSET_NO_MEMORY;
	}
	n->hash = hash;
	n->score = score;
	n->turn = ++z->turn;
	struct zset_node **b = bucket_of(z, hash);
	n->chain = *b;
	*b = n;
	link_node(z, n);
	if (z->count > z->bucket_count) {
		resize_table(z, z->bucket_count * 2);
	}
	return ZSET_ADDED;
}

void
zset_remove(struct zset *z, struct zset_node *n) {
	unhash(z, n);
	unlink_node(z, n);
	free_node(z, n);
	if (z->bucket_count > FIRST_BUCKETS && z->count < z->bucket_count / 4) {
		resize_table(z, z->bucket_count / 2);
	}
}

size_t
zset_count(const struct zset *z) {
	return z->count;
}

bool
zset_is_low_first(const struct zset *z) {
	return z->low_first;
}

size_t
zset_memory(const struct zset *z) {
	return z->memory;
}

uint64_t
zset_version(const struct zset *z) {
	return z->version;
}

struct zset_score
zset_node_score(const struct zset_node *n) {
	return n->score;
}

struct zset_member
zset_node_member(const struct zset_node *n) {
	return n->member;
}

size_t
zset_rank(const struct zset *z, const struct zset_node *n) {
	struct path path;
	find_path(z, n, &path);
	return path.rank[0] + 1;
}

struct zset_node *
zset_at(const struct zset *z, size_t rank) {
	if (rank == 0 || rank > z->count) {
		return NULL;
	}
	struct zset_node *at = z->head;
	for (int i = z->level - 1; i >= 0; i--) {
		while (at->link[i].next != NULL && at->link[i].span <= rank) {
			rank -= at->link[i].span;
			at = at->link[i].next;
		}
	}
	return at;
}

struct zset_node *
zset_next(const struct zset_node *n) {
	return n->link[0].next;
}

struct zset_node *
zset_previous(const struct zset_node *n) {
	// Only the head never had a turn.
	return n->previous->turn == 0 ? NULL : n->previous;
}

size_t
zset_before(const struct zset *z, struct zset_score score, bool or_equal) {
	const struct zset_node *at = z->head;
	size_t rank = 0;
	for (int i = z->level - 1; i >= 0; i--) {
		while (at->link[i].next != NULL) {
			int order = rank_score(z, at->link[i].next, score);
			if (order > 0 || (order == 0 && !or_equal)) {
				break;
			}
			rank += at->link[i].span;
			at = at->link[i].next;
		}
	}
	return rank;
}
