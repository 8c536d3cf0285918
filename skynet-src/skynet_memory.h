/*
 * Ties the memory subsystem to the node: names of services in its reports, the
 * listing that a node leaves behind when memory ends, and the config keys
 *
 *   memory_reserve      bytes kept aside for that listing (default 262144)
 *   memory_quarantine   bytes of freed blocks that a checked build holds back
 *                       to find late writes (default 0)
 */
#ifndef SKYNET_MEMORY_H
#define SKYNET_MEMORY_H

/* Once, at start, when the environment is there and before any thread is. */
void skynet_memory_init(void);

#endif
