-- main: starts the login server and one game server that is called `sample`.

local skynet = require "skynet"

skynet.start(function()
	local logind = skynet.newservice "logind"
	local gate = skynet.newservice("gated", logind)
	skynet.call(gate, "lua", "open", {
		port = tonumber(skynet.getenv "gate_port") or 8888,
		maxclient = 64,
		servername = "sample",
	})
	skynet.exit()
end)
