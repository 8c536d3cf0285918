#include "near_name.h"

#include <string.h>

/* Shorter ones are near too many. */
#define MIN_NAME 4
/* From this length on two slips are believed. */
#define LONG_NAME 9
/* Three are no slips any more. */
#define TOO_MANY 3

static int
least(int a, int b) {
	return a < b ? a : b;
}

/* Slips between two texts: a byte too much, missing, wrong, or two that changed places. */
static int
slips(const char *a, size_t n, const char *b, size_t m) {
	int d[NEAR_NAME_SIZE][NEAR_NAME_SIZE];
	for (size_t i = 0; i <= n; i++) {
		d[i][0] = (int)i;
	}
	for (size_t j = 0; j <= m; j++) {
		d[0][j] = (int)j;
	}
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			int same = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			d[i][j] = least(same, least(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
			}
		}
	}
	return d[n][m];
}

void
near_begin(struct near_name *n, const char *given) {
	n->given = given;
	n->size = strlen(given);
	n->slips = TOO_MANY;
}

void
near_offer(struct near_name *n, const char *known) {
	size_t size = strlen(known);
	if (n->size < MIN_NAME || n->size >= NEAR_NAME_SIZE || size >= NEAR_NAME_SIZE) {
		return;
	}
	int wrong = slips(n->given, n->size, known, size);
	/* Of several that are as near it is not chance that decides. */
	if (wrong <= (size < LONG_NAME ? 1 : 2) &&
	    (wrong < n->slips || (wrong == n->slips && strcmp(known, n->name) < 0))) {
		n->slips = wrong;
		memcpy(n->name, known, size + 1);
	}
}

const char *
near_result(const struct near_name *n) {
	return n->slips > 0 && n->slips < TOO_MANY ? n->name : NULL;
}
