/*
 * Config keys that look like a slip of the pen. Every key is legal and belongs to the
 * node's environment, so a misspelt one is taken without a word and its default holds;
 * this finds the key of the framework that was probably meant. Any thread may call it; it
 * allocates nothing and reads no configuration.
 */
#ifndef skynet_config_hint_h
#define skynet_config_hint_h

#include <stdbool.h>

#include "near_name.h"

/* Bytes of any of the framework's keys, with its end. */
#define SKYNET_CONFIG_KEY NEAR_NAME_SIZE

/*
 * Whether `key` is nearly one of the framework's, which is written to `hint` then. False
 * for a key of the framework itself, and for one that is like none of them.
 */
bool skynet_config_hint(const char *key, char hint[SKYNET_CONFIG_KEY]);

#endif
