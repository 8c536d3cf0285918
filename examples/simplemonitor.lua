-- simplemonitor: an exit monitor, started with skynet.monitor "simplemonitor".
-- `skynet.call(monitor, "lua", "WATCH", handle)` is true while the handle is
-- believed alive; its death then fails the calls that the asker has pending on
-- it. False: it is known to be dead.

local skynet = require "skynet"

-- Handle -> set of services that watch it; false once it died.
local watchers = {}

-- The node tells each exit by an empty message whose source is the dead one.
skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = function() end,
	dispatch = function(_, dead)
		local watching = watchers[dead]
		if watching then
			for watcher in pairs(watching) do
				skynet.redirect(watcher, dead, "error", 0, "")
			end
			watchers[dead] = false
		end
	end,
}

local function monitor(watcher, handle)
	local watching = watchers[handle]
	if watching == nil then
		watching = {}
		watchers[handle] = watching
	end
	if not watching then
		return false
	end
	watching[watcher] = true
	return true
end

skynet.start(function()
	skynet.dispatch("lua", function(_, source, cmd, handle)
		assert(cmd, "a command word is missing")
		skynet.retpack(monitor(source, handle))
	end)
end)
