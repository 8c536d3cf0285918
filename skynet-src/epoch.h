/*
 * Epochs: who may still look at something that was unlinked.
 *
 * A reader brackets its look-ups with epoch_enter and epoch_exit; sections are
 * short and never contain user code. A writer unlinks an object, takes an epoch
 * with epoch_retire, and may free the object once epoch_passed says that every
 * section that began before has ended. Any number of threads; a thread is
 * registered at its first section and forgotten when it ends.
 */
#ifndef EPOCH_H
#define EPOCH_H

#include <stdbool.h>
#include <stdint.h>

/* Begin and end a section. Sections nest. */
void epoch_enter(void);
void epoch_exit(void);

/* Epoch after which nothing unlinked before this call is seen any more. */
uint64_t epoch_retire(void);

/* Whether every section that began before `epoch` was retired has ended. */
bool epoch_passed(uint64_t epoch);

/* Wait for that, giving up the CPU. Not inside a section. */
void epoch_wait(uint64_t epoch);

#endif
