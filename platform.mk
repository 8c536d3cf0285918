# What differs between platforms. Third-party module makefiles include this
# file too, so the names are part of the contract: PLAT, CC, SHARED, EXPORT.

PLAT ?= $(if $(filter Darwin,$(shell uname -s)),macosx,$(if $(filter FreeBSD,$(shell uname -s)),freebsd,linux))

CC ?= gcc
SHARED := -fPIC -shared
EXPORT := -Wl,-E
# For a library with data per thread, which must not vanish with the last VM.
NODELETE := -Wl,-z,nodelete
# Libraries call the executable all the time: not through a table of jumps.
NOPLT := -fno-plt
SYSLIBS := -lpthread -lm -ldl
# The parser of name server answers (ns_initparse).
RESOLV := -lresolv

ifeq ($(PLAT),macosx)
SHARED := -fPIC -dynamiclib -Wl,-undefined,dynamic_lookup
EXPORT :=
NODELETE :=
NOPLT :=
NOUSE_JEMALLOC ?= 1
endif
ifeq ($(PLAT),freebsd)
SYSLIBS := -lpthread -lm
RESOLV :=
endif
