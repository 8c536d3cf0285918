-- A short-lived service of the soak test: echoes messages of any size, talks
-- to itself through a real socket, loads code, fails on demand.

local skynet = require "skynet"
local socket = require "skynet.socket"
local codecache = require "skynet.codecache"

local command = {}

function command.echo(text)
	return text
end

-- Sends `text` through a loopback connection and returns what came out. It is the client that
-- ends it: whoever does keeps its port for a minute (TIME_WAIT), and while a client's port can
-- be had again for another listener, a listener's can't. There are ten thousands of them.
function command.loopback(text)
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id)
		socket.start(id)
		local data = socket.read(id, #text)
		if data then
			socket.write(id, data)
			socket.read(id)
		end
		socket.close(id)
	end)
	local id = assert(socket.open("127.0.0.1", port))
	socket.write(id, text)
	local answer = socket.read(id, #text)
	socket.close(id)
	socket.close(listener)
	return answer
end

-- Loads a file of the test, after having dropped the cache now and then.
function command.reload(path, clear)
	if clear then
		codecache.clear()
	end
	return assert(loadfile(path))()
end

function command.fail()
	error "asked to fail"
end

function command.exit()
	skynet.exit()
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		skynet.retpack(command[cmd](...))
	end)
end)
