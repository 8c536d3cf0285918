-- The other half of a cycle: wants @sv_cycle while it starts.
local skynet = require "skynet"

skynet.start(function()
	local ok, result = pcall(skynet.uniqueservice, "@sv_cycle")
	skynet.dispatch("lua", function()
		skynet.retpack(ok and "got it" or result)
	end)
end)
