/*
 * Process-wide places for compiled schemas, so that services share one copy.
 * Any thread.
 */
#ifndef SPROTO_SLOT_H
#define SPROTO_SLOT_H

#include "sproto_schema.h"

#define SPROTO_SLOTS 16

/* Puts s into a slot (0 <= index < SPROTO_SLOTS), which takes a reference of its
 * own and lets go of what was there. */
void sproto_slot_save(struct sproto_schema *s, int index);

/* A new reference to the schema in a slot, or NULL. */
struct sproto_schema *sproto_slot_load(int index);

#endif
