-- Does by hand what skynet.start does: installs the dispatcher and runs
-- init_service in a task of a zero-delay timer.

local skynet = require "skynet"

require "skynet.core".callback(skynet.dispatch_message)
skynet.timeout(0, function()
	skynet.init_service(function()
		skynet.dispatch("lua", function() skynet.retpack "ready" end)
	end)
end)
