-- main: starts the services of the example game, then leaves.
-- Config keys: gate_port (8888), console_port (8000).

local skynet = require "skynet"

local MAX_CLIENT = 64

skynet.start(function()
	skynet.error "Server start"
	skynet.uniqueservice "protoloader"
	if not skynet.getenv "daemon" then
		skynet.newservice "console"
	end
	skynet.newservice("debug_console", skynet.getenv "console_port" or 8000)
	skynet.newservice "simpledb"
	local watchdog = skynet.newservice "watchdog"
	local address, port = skynet.call(watchdog, "lua", "start", {
		port = math.tointeger(tonumber(skynet.getenv "gate_port" or 8888)),
		maxclient = MAX_CLIENT,
		nodelay = true,
	})
	skynet.error(string.format("Watchdog listen on %s:%d", address, port))
	skynet.exit()
end)
