-- oom_starter: a service whose n-th allocation fails while it starts.

local skynet = require "skynet"
local fault = require "t_oom"

local n = tonumber(...)
local failed	-- how many did

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
		elseif cmd == "failed" then
			skynet.retpack(failed)
		else
			skynet.retpack(...)
		end
	end)
	skynet.sleep(0)
	skynet.fork(function() failed = fault.disarm(skynet.self()) end)
end)
