/*
 * Warnings of the VM in the service's log: errors in finalizers, which nothing else
 * would tell, and what `warn` says. As in standard Lua, "@off" and "@on" switch them,
 * and come alone.
 *
 * A finalizer that fails fails for every object of its kind, so of a service's
 * warnings the 1st, 2nd, 4th, 8th and so on are written.
 */
#include "snlua.h"

#include <string.h>

#include "skynet.h"
#include "skynet_malloc.h"

/* A warning is cut to this, its end included. */
#define TEXT_MAX 512

static void
add_piece(struct snlua_warning *w, const char *piece) {
	if (w->text == NULL) {
		w->text = skynet_malloc(TEXT_MAX);
	}
	size_t n = strnlen(piece, TEXT_MAX - 1 - w->size);
	memcpy(w->text + w->size, piece, n);
	w->size += n;
	w->text[w->size] = '\0';
}

static void
write_line(struct snlua *l) {
	struct snlua_warning *w = &l->warning;
	w->count++;
	if ((w->count & (w->count - 1)) != 0) {
		return;
	}
	if (w->count <= 2) {
		skynet_error(l->base.ctx, "Lua warning: %s", w->text);
	} else {
		skynet_error(l->base.ctx, "Lua warning: %s (number %u, not all are written)", w->text,
		             w->count);
	}
}

static void
on_warning(void *ud, const char *piece, int is_continued) {
	struct snlua *l = ud;
	struct snlua_warning *w = &l->warning;
	if (w->size == 0 && !is_continued && piece[0] == '@') {
		if (strcmp(piece, "@off") == 0) {
			w->is_off = true;
		} else if (strcmp(piece, "@on") == 0) {
			w->is_off = false;
		}
		return;
	}
	add_piece(w, piece);
	if (is_continued) {
		return;
	}
	if (!w->is_off) {
		write_line(l);
	}
	w->size = 0;
}

void
snlua_take_warnings(struct snlua *l) {
	lua_setwarnf(l->L, on_warning, l);
}

void
snlua_forget_warnings(struct snlua *l) {
	skynet_free(l->warning.text);
}
