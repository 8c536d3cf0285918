/*
 * Services that went quiet: their containers are called to clean up, a little at
 * a time, by workers that have nothing else to do. For Lua that is the garbage
 * of the last messages, which nobody would collect before the next ones.
 *
 *   noted    a container said that there is something to clean (any worker)
 *   watched  seen at a look of the monitor thread, which compares the number of
 *            messages at the next look; if it stands still the service is
 *   ripe     until an idle worker has cleaned it up, in steps
 *
 * A step has the service to itself, as a message has; messages that arrive
 * meanwhile wait for the end of the step, and end the cleaning. Workers with
 * anything to run never come here. When nothing is listed nothing is done at
 * all: the monitor thread rests.
 *
 * Owns the three lists, which hold handles and no references.
 */
#ifndef SKYNET_QUIET_H
#define SKYNET_QUIET_H

#include <stdbool.h>
#include <stdint.h>

/* Before threads start. Without it nothing is ever cleaned. */
void skynet_quiet_init(void);
void skynet_quiet_exit(void);

/*
 * The service has something to clean up once it is quiet. To be called by its
 * container, in a callback, once until NAME_quiet said QUIET_DONE.
 */
void skynet_quiet_note(uint32_t handle);

/* One look at what is listed. Monitor thread, every second or so. */
void skynet_quiet_look(void);

/* Whether looks are needed. Sequentially consistent with skynet_quiet_note. */
bool skynet_quiet_is_pending(void);

#endif
