-- Says farewell to whoever asks; for test_farewell.

local skynet = require "skynet"
local farewell = require "skynet.farewell"

skynet.start(function()
	skynet.dispatch("lua", function(_, source, cmd, ...)
		if cmd == "exit" then
			skynet.exit()
		end
		farewell(source, skynet.pack("farewell", cmd, ...))
		skynet.ret()
	end)
end)
