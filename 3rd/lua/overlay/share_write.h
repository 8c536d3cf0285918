/*
** For the units of stock Lua that write table entries without a call: takes the
** array part of a shared table out of their reach. The write then goes the way
** of a missing key, into luaH_finishset, which raises the error.
*/

#ifndef share_write_h
#define share_write_h

#include "ltable.h"
#include "share.h"

#undef luaH_fastseti
#define luaH_fastseti(t, k, val, hres)                                                             \
	{                                                                                              \
		Table *h = t;                                                                              \
		lua_Unsigned u = l_castS2U(k) - 1u;                                                        \
		if (l_unlikely(isshared(h)))                                                               \
			hres = HNOTFOUND;                                                                      \
		else if ((u < h->asize)) {                                                                 \
			lu_byte *tag = getArrTag(h, u);                                                        \
			if (checknoTM(h->metatable, TM_NEWINDEX) || !tagisempty(*tag)) {                       \
				fval2arr(h, u, tag, val);                                                          \
				hres = HOK;                                                                        \
			} else                                                                                 \
				hres = ~cast_int(u);                                                               \
		} else {                                                                                   \
			hres = luaH_psetint(h, k, val);                                                        \
		}                                                                                          \
	}

#endif
