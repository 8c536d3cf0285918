-- The watchdog of a gate or a wsgate, which is its argument, with an agent service per
-- connection (netagent.lua). It prints the port for bench/net.py.

local skynet = require "skynet"

local kind = ...
local gate
local agents = {}
local event = {}

function event.open(fd)
	agents[fd] = skynet.newservice("netagent", kind)
	skynet.call(agents[fd], "lua", gate, fd)
end

function event.close(fd)
	skynet.call(gate, "lua", "kick", fd)
	skynet.send(agents[fd], "debug", "EXIT")
	agents[fd] = nil
end

function event.error() end
function event.warning() end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, _, what, ...)
		event[what](...)
	end)
	gate = skynet.newservice(kind)
	local _, port = skynet.call(gate, "lua", "open", {
		address = "127.0.0.1", port = 0, maxclient = 65536, backlog = 4096,
	})
	skynet.error("bench port " .. port)
end)
