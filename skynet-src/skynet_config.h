/*
 * Reads the configuration file, a Lua chunk, into the node environment and
 * into the record that starts the node. Main thread, once, at start.
 */
#ifndef SKYNET_CONFIG_H
#define SKYNET_CONFIG_H

#include "skynet_imp.h"

/* Upper bound of the key `thread`. */
#ifndef SKYNET_MAXTHREAD
#define SKYNET_MAXTHREAD 1024
#endif

/*
 * Evaluate `filename`, store every key in the environment, add the defaults of
 * the kernel's own keys and fill `config`, whose strings are environment
 * entries. Returns NULL on success. Otherwise one line of text, without a
 * newline, that names the file and, where they are known, line and key; free
 * it with skynet_free. After a failure the environment may be half filled.
 */
char *skynet_config_load(const char *filename, struct skynet_config *config);

#endif
