# Benchmarks: `make bench`. Figures only, never pass or fail.

.PHONY: bench
bench: products
	python3 bench/run.py

.PHONY: bench-data
bench-data: products
	python3 bench/run.py data

# Programs linked with the core: bench/X.c becomes $(OBJ)/bench/X.
BENCH_BIN := $(patsubst bench/%.c,$(OBJ)/bench/%,$(wildcard bench/*.c))
BENCH_CORE := $(filter-out $(OBJ)/skynet-src/skynet_main.o,$(CORE_OBJ))

$(BENCH_BIN): %: %.o $(BENCH_CORE) $(LUA_LIB) $(JEMALLOC_LIB)
	$(CC) $(SK_LDFLAGS) $(LDFLAGS) -o $@ $< $(BENCH_CORE) $(LUA_LIB) $(JEMALLOC_LIB) $(EXPORT) $(SYSLIBS)

# Gates under load, see bench/net.py; NAMES="echo-100x1 idle" for some of them.
.PHONY: bench-net
bench-net: products $(OBJ)/bench/netload $(OBJ)/bench/netbare
	NETLOAD=$(OBJ)/bench/netload python3 bench/net.py $(NAMES)

# malloc+free through the hook, and the pools, against raw jemalloc in one run.
.PHONY: bench-alloc bench-pool
bench-alloc bench-pool: bench-%: $(OBJ)/bench/%
	$<

# Requests per second of the HTTP server; needs wrk.
.PHONY: bench-http
bench-http: products
	python3 bench/http.py
