/*
 * skynet.crypt: the primitives of the login handshake, on values of 64 bits. They keep wire
 * compatibility with existing clients; none withstands a determined attacker.
 */
#include "lua-crypt.h"

#include <openssl/evp.h>

#define KEY_SIZE 8
#define MD5_SIZE 16
/* The largest prime below 2^64, and a generator of its group. */
#define DH_PRIME 0xffffffffffffffc5u
#define DH_GENERATOR 5

//---------------------------------------------------------------------- bytes

static uint32_t
get_u32(const uint8_t *p) {
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t
get_u64(const uint8_t *p) {
	return get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

static int
push_u64(lua_State *L, uint64_t v) {
	char out[KEY_SIZE];
	for (int i = 0; i < KEY_SIZE; i++) {
		out[i] = (char)(v >> (8 * i));
	}
	lua_pushlstring(L, out, sizeof(out));
	return 1;
}

static int
push_words(lua_State *L, uint32_t low, uint32_t high) {
	return push_u64(L, low | (uint64_t)high << 32);
}

/* An argument of exactly 8 bytes; `message` is raised otherwise. */
static const uint8_t *
check_key(lua_State *L, int arg, const char *message) {
	struct crypt_bytes b = crypt_check_bytes(L, arg);
	if (b.size != KEY_SIZE) {
		luaL_error(L, "%s", message);
	}
	return b.data;
}

//------------------------------------------------------------------- hashing

struct key {
	uint32_t low, high;
};

static struct key
hash_text(struct crypt_bytes text) {
	uint32_t a = 5381;
	uint32_t b = 1315423911;
	for (size_t i = 0; i < text.size; i++) {
		a = a * 33 + text.data[i];
		b ^= (b << 5) + text.data[i] + (b >> 2);
	}
	return (struct key){a, b};
}

/* hashkey(s) -> 8 bytes */
static int
lhashkey(lua_State *L) {
	struct key k = hash_text(crypt_check_bytes(L, 1));
	return push_words(L, k.low, k.high);
}

/* floor(2^32 * |sin(i + 1)|), from RFC 1321. */
static const uint32_t md5_constants[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};

/* The function of a step's round, and the word of the block that it takes. */
static uint32_t
md5_mix(int step, const uint32_t r[4], int *word) {
	uint32_t b = r[1], c = r[2], d = r[3];
	switch (step / 16) {
	case 0:
		*word = step;
		return (b & c) | (~b & d);
	case 1:
		*word = (5 * step + 1) % 16;
		return (d & b) | (~d & c);
	case 2:
		*word = (3 * step + 5) % 16;
		return b ^ c ^ d;
	default:
		*word = 7 * step % 16;
		return c ^ (b | ~d);
	}
}

/* The steps of MD5 on one block; the initial state is not added at the end, as hmac64 wants. */
static void
md5_steps(const uint32_t block[16], uint32_t r[4]) {
	static const uint8_t turns[4][4] = {
	    {7, 12, 17, 22},
	    {5, 9, 14, 20},
	    {4, 11, 16, 23},
	    {6, 10, 15, 21},
	};
	r[0] = 0x67452301;
	r[1] = 0xefcdab89;
	r[2] = 0x98badcfe;
	r[3] = 0x10325476;
	for (int i = 0; i < 64; i++) {
		int word;
		uint32_t f = md5_mix(i, r, &word) + r[0] + md5_constants[i] + block[word];
		int turn = turns[i / 16][i % 4];
		r[0] = r[3];
		r[3] = r[2];
		r[2] = r[1];
		r[1] += f << turn | f >> (32 - turn);
	}
}

static int
push_hmac64(lua_State *L, struct key x, struct key y) {
	uint32_t block[16];
	for (int i = 0; i < 16; i += 4) {
		block[i] = x.high;
		block[i + 1] = x.low;
		block[i + 2] = y.high;
		block[i + 3] = y.low;
	}
	uint32_t r[4];
	md5_steps(block, r);
	return push_words(L, r[2] ^ r[3], r[0] ^ r[1]);
}

static struct key
read_key(const uint8_t *p) {
	return (struct key){get_u32(p), get_u32(p + 4)};
}

/* hmac64(x, y) -> 8 bytes */
static int
lhmac64(lua_State *L) {
	const uint8_t *x = check_key(L, 1, "Invalid uint64 x");
	const uint8_t *y = check_key(L, 2, "Invalid uint64 y");
	return push_hmac64(L, read_key(x), read_key(y));
}

/* hmac_hash(key, text) -> 8 bytes */
static int
lhmac_hash(lua_State *L) {
	const uint8_t *key = check_key(L, 1, "Invalid uint64 key");
	return push_hmac64(L, hash_text(crypt_check_bytes(L, 2)), read_key(key));
}

/* hmac64_md5(x, y) -> 8 bytes */
static int
lhmac64_md5(lua_State *L) {
	const uint8_t *x = check_key(L, 1, "Invalid uint64 x");
	const uint8_t *y = check_key(L, 2, "Invalid uint64 y");
	uint8_t text[6 * KEY_SIZE];
	for (int i = 0; i < KEY_SIZE; i++) {
		for (int copy = 0; copy < 6; copy += 2) {
			text[copy * KEY_SIZE + i] = x[i];
			text[(copy + 1) * KEY_SIZE + i] = y[i];
		}
	}
	uint8_t digest[MD5_SIZE];
	if (EVP_Digest(text, sizeof(text), digest, NULL, EVP_md5(), NULL) != 1) {
		return crypt_openssl_error(L, "md5");
	}
	return push_u64(L, get_u64(digest) ^ get_u64(digest + 8));
}

//------------------------------------------------------------ Diffie-Hellman

static uint64_t
multiply(uint64_t a, uint64_t b) {
	return (uint64_t)((unsigned __int128)a * b % DH_PRIME);
}

static uint64_t
power(uint64_t base, uint64_t exponent) {
	uint64_t result = 1;
	for (; exponent > 0; exponent >>= 1) {
		if (exponent & 1) {
			result = multiply(result, base);
		}
		base = multiply(base, base);
	}
	return result;
}

static int
raise_zero(lua_State *L) {
	return luaL_error(L, "Can't be 0");
}

/* dhexchange(secret) -> public value */
static int
ldhexchange(lua_State *L) {
	uint64_t x = get_u64(check_key(L, 1, "Invalid dh uint64 key"));
	return x == 0 ? raise_zero(L) : push_u64(L, power(DH_GENERATOR, x));
}

/* dhsecret(public of the other side, own secret) -> common secret */
static int
ldhsecret(lua_State *L) {
	uint64_t x = get_u64(check_key(L, 1, "Invalid uint64 x")) % DH_PRIME;
	uint64_t y = get_u64(check_key(L, 2, "Invalid uint64 y"));
	return x == 0 || y == 0 ? raise_zero(L) : push_u64(L, power(x, y));
}

/* dhcheck(public) -> false for values that make the common secret known: 0, 1 and p - 1 */
static int
ldhcheck(lua_State *L) {
	uint64_t x = get_u64(check_key(L, 1, "Invalid dh uint64 key")) % DH_PRIME;
	lua_pushboolean(L, x > 1 && x != DH_PRIME - 1);
	return 1;
}

const luaL_Reg crypt_login_functions[] = {
    {"hashkey", lhashkey},       {"hmac64", lhmac64},
    {"hmac64_md5", lhmac64_md5}, {"hmac_hash", lhmac_hash},
    {"dhexchange", ldhexchange}, {"dhsecret", ldhsecret},
    {"dhcheck", ldhcheck},       {NULL, NULL},
};
