-- Loads a file on request, in the code cache mode given with it.

local skynet = require "skynet"
local cache = require "skynet.codecache"

skynet.start(function()
	skynet.dispatch("lua", function(_, _, name, mode)
		if name == "quit" then
			skynet.ignoreret()
			skynet.exit()
		end
		cache.mode(mode)
		skynet.ret(skynet.pack(assert(loadfile(name))()))
	end)
end)
