-- A service with a folder of its own, found through dir/?/init.lua.

local skynet = require "skynet"
local part = require "part"

local first_path = package.path:match "^[^;]*"

skynet.start(function()
	skynet.dispatch("lua", function(_, _, what)
		if what == "quit" then
			skynet.ignoreret()
			skynet.exit()
		end
		skynet.ret(skynet.pack(SERVICE_NAME, SERVICE_PATH, first_path, part))
	end)
end)
