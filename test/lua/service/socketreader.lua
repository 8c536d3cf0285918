-- A service that takes over connections of a test.

local socket = require "skynet.socket"
local serve = require "serve"

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

serve(command)
