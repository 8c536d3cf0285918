-- memory_hog: takes C memory until there is none.
local skynet = require "skynet"
local core = require "skynet.core"
require "skynet.manager"

skynet.start(function()
	skynet.register ".hog"
	local text = ("x"):rep(8 << 20)
	skynet.fork(function()
		while true do
			core.pack(text)
		end
	end)
end)
