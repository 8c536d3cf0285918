/*
 * hash_mix: mixes the bits of a number, so that similar ones fall into different buckets of
 * a hash table. What somebody outside may choose is mixed with a random seed. Owns nothing;
 * any thread.
 */
#ifndef HASH_MIX_H
#define HASH_MIX_H

#include <stdint.h>

static inline uint64_t
hash_mix(uint64_t h) {
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

#endif
