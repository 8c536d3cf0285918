-- Message queue service of test_mqueue.

local skynet = require "skynet"
local mqueue = require "skynet.mqueue"

skynet.start(function()
	mqueue.register(function(cmd, ...)
		if cmd == "sleep" then
			skynet.sleep(...)
		elseif cmd == "err" then
			error "err fails on purpose"
		end
		return cmd, ...
	end)
	skynet.dispatch("lua", function()
		skynet.retpack(mqueue.size())
	end)
end)
