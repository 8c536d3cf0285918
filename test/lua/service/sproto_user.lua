-- sproto_user: encodes with the schema of the slot it is started with.
local skynet = require "skynet"
local loader = require "sprotoloader"

local slot = tonumber(...)

skynet.start(function()
	local sp = loader.load(slot)
	skynet.dispatch("lua", function(_, _, cmd, ...)
		if cmd == "exit" then
			skynet.exit()
		else
			skynet.retpack(sp:encode(...))
		end
	end)
end)
