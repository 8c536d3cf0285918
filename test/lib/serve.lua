-- serve: the main function of a test's service whose messages are commands.

local skynet = require "skynet"

---Start the service: each message names a function of `command` and is answered with its
---results; "exit" is answered, and ends the service.
---@param command table<string, function> may yield
return function(command)
	skynet.start(function()
		skynet.dispatch("lua", function(_, _, cmd, ...)
			if cmd == "exit" then
				skynet.retpack()
				skynet.exit()
			end
			skynet.retpack(command[cmd](...))
		end)
	end)
end
