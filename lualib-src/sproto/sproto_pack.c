/*
 * Zero-packing: groups of 8 bytes become a mask and the bytes that are not zero.
 * A run of full groups is written raw, as ff, count - 1, bytes.
 */
#include "sproto_codec.h"
#include "sproto_error.h"

#include <lauxlib.h>
#include <string.h>

#define GROUP 8
#define RAW 0xff      /* the mask that starts a raw run */
#define MAX_RUN 256   /* groups in a raw run */
#define RUN_MINIMUM 6 /* bytes that are not zero, for a group to join a run */

/* A group alone never takes more: mark, count, bytes. */
#define MAX_PACKED_GROUP (2 + GROUP)

struct packer {
	uint8_t *out;
	uint8_t *run; /* the count of the raw run being written, or NULL */
};

static void
put_group(struct packer *p, const uint8_t *group) {
	unsigned mask = 0;
	int n = 0;
	for (int i = 0; i < GROUP; i++) {
		if (group[i] != 0) {
			mask |= 1u << i;
			n++;
		}
	}
	if (p->run != NULL && n >= RUN_MINIMUM && *p->run < MAX_RUN - 1) {
		++*p->run;
		memcpy(p->out, group, GROUP);
		p->out += GROUP;
		return;
	}
	p->run = NULL;
	*p->out++ = (uint8_t)mask;
	if (n == GROUP) {
		p->run = p->out;
		*p->out++ = 0;
		memcpy(p->out, group, GROUP);
		p->out += GROUP;
		return;
	}
	for (int i = 0; i < GROUP; i++) {
		if (group[i] != 0) {
			*p->out++ = group[i];
		}
	}
}

void
sproto_pack(lua_State *L, struct sproto_slice s) {
	size_t groups = s.size / GROUP + 1;
	if (groups > SIZE_MAX / MAX_PACKED_GROUP) {
		sproto_error(L, "data is too large to pack");
	}
	luaL_Buffer b;
	uint8_t *start = (uint8_t *)luaL_buffinitsize(L, &b, groups * MAX_PACKED_GROUP);
	struct packer p = {.out = start};
	size_t at = 0;
	for (; s.size - at >= GROUP; at += GROUP) {
		put_group(&p, s.data + at);
	}
	if (at < s.size) {
		uint8_t last[GROUP] = {0};
		memcpy(last, s.data + at, s.size - at);
		put_group(&p, last);
	}
	luaL_pushresultsize(&b, (size_t)(p.out - start));
}

static int
count_bits(unsigned mask) {
	int n = 0;
	for (; mask != 0; mask &= mask - 1) {
		n++;
	}
	return n;
}

/* Length of the unpacked form; the packed one is checked to be whole. */
static size_t
unpacked_size(lua_State *L, struct sproto_slice s) {
	size_t size = 0;
	size_t at = 0;
	while (at < s.size) {
		unsigned mask = s.data[at++];
		size_t need = (size_t)count_bits(mask);
		size_t groups = 1;
		if (mask == RAW) {
			if (at == s.size) {
				sproto_error(L, "Invalid unpack stream");
			}
			groups = (size_t)s.data[at++] + 1;
			need = groups * GROUP;
		}
		if (need > s.size - at) {
			sproto_error(L, "Invalid unpack stream");
		}
		at += need;
		size += groups * GROUP;
	}
	return size;
}

/* One group or run from *in to *out, which unpacked_size has checked. */
static void
get_group(const uint8_t **in, uint8_t **out) {
	unsigned mask = *(*in)++;
	if (mask == RAW) {
		size_t size = ((size_t) * (*in)++ + 1) * GROUP;
		memcpy(*out, *in, size);
		*in += size;
		*out += size;
		return;
	}
	for (int i = 0; i < GROUP; i++) {
		*(*out)++ = mask & (1u << i) ? *(*in)++ : 0;
	}
}

void
sproto_unpack(lua_State *L, struct sproto_slice s) {
	/* A packed byte stands for 8 at most, so no length here can wrap. */
	size_t size = unpacked_size(L, s);
	luaL_Buffer b;
	uint8_t *out = (uint8_t *)luaL_buffinitsize(L, &b, size);
	const uint8_t *in = s.data;
	const uint8_t *end = s.data + s.size;
	while (in < end) {
		get_group(&in, &out);
	}
	luaL_pushresultsize(&b, size);
}
