-- Gives many new object ids, for test_bson.

local skynet = require "skynet"
local bson = require "bson"

skynet.start(function()
	skynet.dispatch("lua", function(_, _, n)
		local ids = {}
		for i = 1, n do ids[i] = bson.objectid() end
		skynet.retpack(ids)
	end)
end)
