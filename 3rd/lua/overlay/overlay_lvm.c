/*
** lvm.c, with writes into shared tables refused and twins of shared strings
** told from different strings.
*/

#define LUA_CORE

#include "lprefix.h"

#include "lstring.h"
#include "ltable.h"
#include "share.h"
#include "share_write.h"

#include "lvm.c"
