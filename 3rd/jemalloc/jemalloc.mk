# jemalloc comes from the system (libjemalloc-dev). Its archive has the plain
# names (malloc, free, ...), which our executable defines itself; so we link a
# private copy whose public names carry the prefix je_. A static copy also
# makes the calls direct.
#
# JEMALLOC_A is the system's archive; JEMALLOC_A=file on the command line takes
# another static, position-independent one.

JEMALLOC := $(BUILD)/3rd/jemalloc/libjemalloc_je.a
JEMALLOC_NAMES := $(BUILD)/3rd/jemalloc/names

JEMALLOC_PUBLIC := malloc calloc realloc free memalign aligned_alloc posix_memalign \
	valloc pvalloc malloc_usable_size mallocx rallocx xallocx sallocx dallocx sdallocx nallocx \
	mallctl mallctlnametomib mallctlbymib malloc_stats_print malloc_message malloc_conf \
	malloc_conf_2_conf_harder

# Calls of the system's that malloc_pages.c makes for jemalloc.
JEMALLOC_SYSTEM := mmap munmap madvise

# jemalloc_cpp defines the C++ operators; libstdc++'s call malloc, which is
# the one that counts.
$(JEMALLOC): 3rd/jemalloc/jemalloc.mk
	@mkdir -p $(@D)
	@if [ ! -f "$(JEMALLOC_A)" ]; then \
		echo "no jemalloc ($(JEMALLOC_A)): install libjemalloc-dev, or run make NOUSE_JEMALLOC=1" >&2; exit 1; fi
	@for n in $(JEMALLOC_PUBLIC) $(JEMALLOC_SYSTEM); do echo "$$n je_$$n"; done > $(JEMALLOC_NAMES)
	objcopy --redefine-syms=$(JEMALLOC_NAMES) $(JEMALLOC_A) $@.tmp
	ar d $@.tmp jemalloc_cpp.pic.o
	mv $@.tmp $@
