-- Plays the service manager of another node.
local skynet = require "skynet"

local command = {}

function command.report()
	return skynet.call(".service", "lua", "REPORT", skynet.self())
end

function command.LIST()
	return { x = "some text" }
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd)
		skynet.retpack(command[cmd]())
	end)
end)
