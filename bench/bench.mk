# Benchmarks: `make bench`. Figures only, never pass or fail.

.PHONY: bench
bench: products
	python3 bench/run.py
