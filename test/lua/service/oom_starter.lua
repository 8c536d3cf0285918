-- oom_starter: a service whose n-th allocation fails while it starts.

local skynet = require "skynet"
local fault = require "t_oom"

local n = tonumber(...)

skynet.start(function()
	fault.watch(skynet.self())
	fault.arm(skynet.self(), n)
	local s = ""
	for i = 1, 10 do
		s = s .. i
	end
	skynet.dispatch("lua", function(_, _, cmd, ...)
		if cmd == "exit" then
			skynet.exit()
		end
		skynet.retpack(...)
	end)
	skynet.sleep(0)
	skynet.fork(function() fault.disarm(skynet.self()) end)
end)
