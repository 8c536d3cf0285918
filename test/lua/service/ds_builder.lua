-- A builder of datasheets other than the test itself, for test_datasheet.

local skynet = require "skynet"
local builder = require "skynet.datasheet.builder"

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		if cmd == "exit" then
			skynet.retpack()
			skynet.exit()
		end
		skynet.retpack(builder[cmd](...))
	end)
end)
