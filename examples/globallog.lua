-- globallog: a log that other services call by name, `.log` on this node and
-- `LOG` everywhere.

local skynet = require "skynet"
require "skynet.manager"

skynet.start(function()
	skynet.dispatch("lua", function(_, source, ...)
		print("[GLOBALLOG]", skynet.address(source), ...)
	end)
	skynet.register ".log"
	skynet.register "LOG"
end)
