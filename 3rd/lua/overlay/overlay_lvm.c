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

/*
** Short strings are equal when their addresses are, unless there are twins.
*/
#undef eqshrstr
#define eqshrstr(a,b) \
  ((a) == (b) || (share_meetstwins() && share_istwin(a, b)))

#include "lvm.c"
