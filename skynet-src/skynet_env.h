/*
 * The node environment: a process-wide map from string to string, filled from
 * the configuration file and extended by SETENV.
 *
 * An entry is written once and never changes or goes away, so a value that was
 * read stays valid until the process ends. Any thread may read and write;
 * reading takes no lock.
 */
#ifndef SKYNET_ENV_H
#define SKYNET_ENV_H

/* The value of `key`, or NULL when there is no such entry. Never freed. */
const char *skynet_getenv(const char *key);

/*
 * Add an entry; both strings are copied. A key that exists keeps its value and
 * the attempt is logged: callers that care use skynet_env_add.
 */
void skynet_setenv(const char *key, const char *value);

/* As skynet_setenv, atomically and silently: 0 when added, -1 when it exists. */
int skynet_env_add(const char *key, const char *value);

#endif
