-- Its start function waits for the message `go`.
local skynet = require "skynet"

local token = {}

skynet.start(function()
	skynet.dispatch("lua", function()
		skynet.wakeup(token)
	end)
	skynet.wait(token)
end)
