-- A monitor: services watch handles, and hear of their death as a dead source.

local skynet = require "skynet"

local watchers = {}
local dead = {}

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = function() end,
	dispatch = function(_, handle)
		dead[handle] = true
		for service in pairs(watchers[handle] or {}) do
			skynet.redirect(service, handle, "error", 0, "")
		end
		watchers[handle] = nil
	end,
}

skynet.start(function()
	skynet.dispatch("lua", function(_, source, _, handle)
		if dead[handle] then
			skynet.retpack(false)
			return
		end
		watchers[handle] = watchers[handle] or {}
		watchers[handle][source] = true
		skynet.retpack(true)
	end)
end)
