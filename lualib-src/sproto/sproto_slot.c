/*
 * The slots (see sproto_slot.h). They own a reference each. A mutex, because
 * taking a reference of what a slot holds must not meet its replacement; slots
 * are used when services start, so nobody waits for it.
 */
#include "sproto_slot.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sproto_schema *slot[SPROTO_SLOTS]; /* under lock */

void
sproto_slot_save(struct sproto_schema *s, int index) {
	sproto_schema_ref(s);
	pthread_mutex_lock(&lock);
	struct sproto_schema *old = slot[index];
	slot[index] = s;
	pthread_mutex_unlock(&lock);
	sproto_schema_unref(old);
}

struct sproto_schema *
sproto_slot_load(int index) {
	pthread_mutex_lock(&lock);
	struct sproto_schema *s = slot[index];
	if (s != NULL) {
		sproto_schema_ref(s);
	}
	pthread_mutex_unlock(&lock);
	return s;
}
