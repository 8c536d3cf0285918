-- oom_agent: an agent that sends back what its client says, by way of a gate or a wsgate.

local skynet = require "skynet"
local socketdriver = require "skynet.socketdriver"
local wsgate = require "snax.wsgate"

local speaks_ws = ... == "ws"

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = skynet.tostring,
	dispatch = function(fd, _, text)
		skynet.ignoreret()
		if speaks_ws then
			wsgate.send(fd, text, "text")
		else
			socketdriver.send(fd, string.pack(">s2", text))
		end
	end,
}

skynet.start(function() end)
