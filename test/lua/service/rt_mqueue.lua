-- Message queue service of test_mqueue.

local skynet = require "skynet"
local mqueue = require "skynet.mqueue"

local go = {}

skynet.start(function()
	mqueue.register(function(cmd, ...)
		if cmd == "wait" then
			skynet.wait(go)
		elseif cmd == "err" then
			error "err fails on purpose"
		end
		return cmd, ...
	end)
	skynet.dispatch("lua", function(_, _, cmd)
		if cmd == "go" then
			skynet.wakeup(go)
		end
		skynet.retpack(mqueue.size())
	end)
end)
