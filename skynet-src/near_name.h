/*
 * Names that look like a slip of the pen for another: keys of the config file, options in
 * tables. Who finds a name that it does not know offers those that it knows, and gets the
 * one that was probably meant. Any thread may call it; it owns and allocates nothing.
 */
#ifndef NEAR_NAME_H
#define NEAR_NAME_H

#include <stddef.h>

/* Bytes of a name, with its end. Longer ones are near to nothing. */
#define NEAR_NAME_SIZE 32

struct near_name {
	const char *given; /* lent until the last look */
	size_t size;
	int slips;
	char name[NEAR_NAME_SIZE];
};

/* Begin with the name that was found. */
void near_begin(struct near_name *n, const char *given);
void near_offer(struct near_name *n, const char *known);
/* What was meant; NULL when none of the offered is near, or one is the name itself. */
const char *near_result(const struct near_name *n);

#endif
