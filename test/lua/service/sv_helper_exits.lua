-- Exits in its start function, a little later.
local skynet = require "skynet"

skynet.start(function()
	skynet.sleep(1)
	skynet.exit()
end)
