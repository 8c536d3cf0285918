-- Agent of the runtime tests: runs the code that a lua message carries, in the
-- task of that message. The code sees (session, source, ...).

local skynet = require "skynet"
require "skynet.manager"

-- What chunks share between messages.
SHARED = {}

skynet.start(function()
	skynet.dispatch("lua", function(session, source, code, ...)
		assert(load(code, "=agent"))(session, source, ...)
	end)
end)
