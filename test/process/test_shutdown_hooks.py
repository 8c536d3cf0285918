"""skynet.on_shutdown: what services do when the node is told to stop."""

import signal

from harness import Node

SERVICE = '''
local skynet = require "skynet"
local name = ...
skynet.start(function()
	skynet.on_shutdown(function()
		skynet.sleep(2)
		skynet.error("first hook of " .. name)
	end)
	skynet.on_shutdown(function() skynet.error("second hook of " .. name) end)
	if name == "a" then
		skynet.newservice("hooked", "b")
		skynet.error "ready"
	end
end)
'''


def test_hooks_run_in_reverse_launch_order_before_the_end():
    with Node('start = "hooked a"\nluaservice = luaservice .. ";./?.lua"\n',
              files={"hooked.lua": SERVICE}) as node:
        node.wait_for("ready")
        node.signal(signal.SIGTERM)
        assert node.wait_exit() == 0
        order = [node.text.index(f"{which} hook of {name}")
                 for name in "ba" for which in ("first", "second")]
        assert order == sorted(order), node.text
