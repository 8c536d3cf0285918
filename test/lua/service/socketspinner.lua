-- Holds its worker in one callback, from the moment data comes until the environment
-- has the key `spinner_may_end`; answers to `port` with the port of its listener.

local skynet = require "skynet"
local socket = require "skynet.socket"

local LIMIT = 6000 -- 1/100 s: then the test has failed

skynet.start(function()
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.start(id, function(client)
		socket.start(client)
		socket.read(client)
		local deadline = skynet.now() + LIMIT
		socket.write(client, "spinning")
		while not skynet.getenv "spinner_may_end" and skynet.now() < deadline do
			-- as busy as can be
		end
		socket.write(client, skynet.now() < deadline and "ended" or "gave up")
	end)
	skynet.dispatch("lua", function()
		skynet.retpack(port)
	end)
end)
