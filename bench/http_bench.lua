-- The server of bench/http.py: a small answer. Says its port.

local skynet = require "skynet"
local server = require "http.server"

skynet.start(function()
	local s = server.listen("127.0.0.1", 0, function(_, res)
		res:send(200, "hello world\n", { ["content-type"] = "text/plain" })
	end)
	skynet.error("http on port " .. s.port)
end)
