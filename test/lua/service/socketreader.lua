-- A service that takes over connections of a test.

local skynet = require "skynet"
local socket = require "skynet.socket"

local command = {}

function command.start(id)
	return socket.start(id)
end

function command.readline(id)
	socket.start(id)
	return socket.readline(id)
end

function command.write(id, data)
	return socket.write(id, data)
end

function command.exit()
	skynet.exit()
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		skynet.retpack(command[cmd](...))
	end)
end)
