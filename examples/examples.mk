# The example game. `make run` starts the server; `make demo` plays a whole
# session, server and client, in one terminal.

.PHONY: run demo

run: products
	./skynet examples/config

demo: products
	sh examples/demo.sh

# The game for browsers: prints the address to open.
.PHONY: arena
arena: products
	./skynet examples/config.arena
