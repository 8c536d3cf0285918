/*
 * Where the memory of a VM is allocated: while somebody asks, an allocator of its
 * own takes a sample every so many bytes and notes the running function and
 * line, and, for as long as the block lives, the block.
 *
 * A sample stands for all bytes since the one before, so the figures of a place
 * are estimates that get better with its share. Only new blocks are sampled: when
 * a stack is moved Lua's pointers into it are not valid, so nobody may ask who
 * runs; what blocks grow by counts with the next new one. The line is the last
 * one that the function saved, which is where it last called something or could
 * have failed: at most a few lines above.
 *
 * Costs two look-ups in a table for each block that is freed, some 20 ns, and
 * 100 bytes of C memory for each sample alive.
 */
#include "snlua.h"

#include <stdio.h>
#include <string.h>

#include "skynet_malloc.h"

/* Different places; what comes beyond counts with the first one. */
#define MAX_SITES 1024
#define TEXT_ROOM 80

struct site {
	char place[TEXT_ROOM];
	size_t live;
	size_t all;
};

struct sample {
	void *block; /* NULL: empty */
	size_t bytes;
	uint32_t site;
};

struct snlua_sites {
	size_t interval;
	size_t unseen; /* bytes since the last sample */
	struct site *site;
	uint32_t sites;
	struct sample *sample; /* open addressing */
	size_t room;           /* a power of two */
	size_t samples;
};

/*-------------------------------------------------------------------- samples */

static size_t
home_of(const struct snlua_sites *s, const void *block) {
	return (size_t)(((uintptr_t)block >> 4) * 0x9E3779B97F4A7C15u >> 20) & (s->room - 1);
}

static size_t
find(const struct snlua_sites *s, const void *block) {
	size_t i = home_of(s, block);
	while (s->sample[i].block != NULL && s->sample[i].block != block) {
		i = (i + 1) & (s->room - 1);
	}
	return i;
}

static void
grow(struct snlua_sites *s) {
	struct sample *old = s->sample;
	size_t old_room = s->room;
	s->room *= 2;
	s->sample = skynet_calloc(s->room, sizeof(s->sample[0]));
	for (size_t i = 0; i < old_room; i++) {
		if (old[i].block != NULL) {
			s->sample[find(s, old[i].block)] = old[i];
		}
	}
	skynet_free(old);
}

static void
add(struct snlua_sites *s, struct sample new) {
	if (++s->samples * 2 > s->room) {
		grow(s);
	}
	s->sample[find(s, new.block)] = new;
}

/* Empties place i and moves later ones of the same run back over it. */
static void
erase(struct snlua_sites *s, size_t i) {
	size_t mask = s->room - 1;
	for (size_t j = (i + 1) & mask; s->sample[j].block != NULL; j = (j + 1) & mask) {
		if (((j - home_of(s, s->sample[j].block)) & mask) >= ((j - i) & mask)) {
			s->sample[i] = s->sample[j];
			i = j;
		}
	}
	s->sample[i].block = NULL;
	s->samples--;
}

/* The block is gone, or has moved. */
static void
follow(struct snlua_sites *s, const void *block, void *moved) {
	size_t i = find(s, block);
	struct sample found = s->sample[i];
	if (found.block == NULL || block == moved) {
		return;
	}
	erase(s, i);
	if (moved != NULL) {
		found.block = moved;
		add(s, found);
	} else {
		s->site[found.site].live -= found.bytes;
	}
}

/*---------------------------------------------------------------------- sites */

/* Who runs: the innermost Lua function. */
static void
describe(struct snlua *l, char *text) {
	lua_State *L = atomic_load_explicit(&l->base.running, memory_order_relaxed);
	lua_Debug ar;
	for (int level = 0; L != NULL && lua_getstack(L, level, &ar); level++) {
		if (lua_getinfo(L, "Sl", &ar) && ar.currentline >= 0) {
			snprintf(text, TEXT_ROOM, "%s:%d", ar.short_src, ar.currentline);
			return;
		}
	}
	snprintf(text, TEXT_ROOM, "(no Lua function)");
}

static uint32_t
site_here(struct snlua *l) {
	struct snlua_sites *s = l->sites;
	char text[TEXT_ROOM];
	describe(l, text);
	for (uint32_t i = 0; i < s->sites; i++) {
		if (strcmp(s->site[i].place, text) == 0) {
			return i;
		}
	}
	if (s->sites == MAX_SITES) {
		return 0;
	}
	memcpy(s->site[s->sites].place, text, TEXT_ROOM);
	return s->sites++;
}

static void
take_sample(struct snlua *l, void *block) {
	struct snlua_sites *s = l->sites;
	struct sample new = {.block = block, .bytes = s->unseen, .site = site_here(l)};
	s->unseen = 0;
	s->site[new.site].live += new.bytes;
	s->site[new.site].all += new.bytes;
	add(s, new);
}

void *
snlua_alloc_sampled(void *ud, void *ptr, size_t osize, size_t nsize) {
	struct snlua *l = ud;
	struct snlua_sites *s = l->sites;
	bool has_quota = l->quota.hard != 0 || l->quota.warn != 0;
	size_t old = ptr != NULL ? osize : 0;
	void *block = has_quota ? snlua_alloc_in_quota(ud, ptr, osize, nsize)
	                        : snlua_alloc(ud, ptr, osize, nsize);
	/* Long strings are freed with the allocator that made them, when sampling may be over. */
	if (s == NULL || (block == NULL && nsize > 0)) {
		return block;
	}
	if (nsize > old) {
		s->unseen += nsize - old;
	}
	if (ptr != NULL) {
		follow(s, ptr, block);
	} else if (s->unseen >= s->interval && block != NULL) {
		take_sample(l, block);
	}
	return block;
}

/*------------------------------------------------------------------- settings */

static struct snlua_sites *
sites_new(size_t interval) {
	struct snlua_sites *s = skynet_calloc(1, sizeof(*s));
	s->interval = interval;
	s->site = skynet_calloc(MAX_SITES, sizeof(s->site[0]));
	s->sites = 1;
	strcpy(s->site[0].place, "(other places)");
	s->room = 1024;
	s->sample = skynet_calloc(s->room, sizeof(s->sample[0]));
	return s;
}

void
snlua_forget_sites(struct snlua *l) {
	struct snlua_sites *s = l->sites;
	l->sites = NULL;
	if (s != NULL) {
		skynet_free(s->site);
		skynet_free(s->sample);
		skynet_free(s);
	}
}

void
snlua_sample(struct lua_container *c, size_t interval) {
	struct snlua *l = snlua_of(c);
	snlua_forget_sites(l);
	l->sites = interval > 0 ? sites_new(interval) : NULL;
	snlua_choose_alloc(l);
}

void
snlua_list_sites(struct lua_container *c, lua_container_site f, void *ud) {
	const struct snlua_sites *s = snlua_of(c)->sites;
	for (uint32_t i = 0; s != NULL && i < s->sites; i++) {
		struct lua_container_sample sample = {
		    .place = s->site[i].place, .live = s->site[i].live, .all = s->site[i].all};
		if (sample.all > 0) {
			f(ud, &sample);
		}
	}
}
