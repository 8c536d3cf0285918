-- A wsgate with an agent service per connection, which answers every message. Without an
-- argument the watchdog, which prints the port for bench/net.py; with one the agent.

local skynet = require "skynet"
local wsgate = require "snax.wsgate"

local role = ...

if role == "agent" then
	skynet.register_protocol {
		name = "client",
		id = skynet.PTYPE_CLIENT,
		unpack = skynet.tostring,
		dispatch = function(fd, _, text)
			skynet.ignoreret()
			wsgate.send(fd, text)
		end,
	}
	skynet.start(function()
		skynet.dispatch("lua", function(_, _, gate, fd)
			skynet.call(gate, "lua", "forward", fd)
			skynet.ret()
		end)
	end)
	return
end

local gate
local agents = {}
local event = {}

function event.open(fd)
	agents[fd] = skynet.newservice("wsagent", "agent")
	skynet.call(agents[fd], "lua", gate, fd)
end

function event.close(fd)
	skynet.send(agents[fd], "debug", "EXIT")
	agents[fd] = nil
end

function event.error() end
function event.warning() end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, _, kind, ...)
		event[kind](...)
	end)
	gate = skynet.newservice "wsgate"
	local _, port = skynet.call(gate, "lua", "open", {
		address = "127.0.0.1", port = 0, maxclient = 65536, backlog = 4096,
	})
	skynet.error("bench port " .. port)
end)
