-- oom_filter: a service whose messages all pass through a function that needs memory.

local skynet = require "skynet.manager"

local last

skynet.filter(function(...)
	last = table.pack(...)
	return table.unpack(last, 1, last.n)
end, function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		if cmd == "call" then
			skynet.retpack(skynet.call((...), "lua", "echo", 5))
		else
			skynet.retpack(...)
		end
	end)
end)
