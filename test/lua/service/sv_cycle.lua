-- Asks for the unique service named by its argument while it starts, and
-- answers every call with what came of it.
local skynet = require "skynet"

local wanted = ...

skynet.start(function()
	local ok, result = pcall(skynet.uniqueservice, wanted)
	skynet.dispatch("lua", function()
		skynet.retpack(ok and "got it" or result)
	end)
end)
