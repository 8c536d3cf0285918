-- Services that start with forward_type or filter.

local skynet = require "skynet"
require "skynet.manager"

local mode = ...

if mode == "forward" then
	skynet.register_protocol {
		name = "raw",
		id = 20,
		unpack = function(msg, size) return msg, size end,
		dispatch = function(_, _, msg, size)
			skynet.ret(msg, size)
		end,
	}
	skynet.forward_type({ [skynet.PTYPE_LUA] = 20 }, function() end)
else
	local seen = {}
	skynet.filter(function(type, msg, size, session, source)
		seen[type] = (seen[type] or 0) + 1
		return type, msg, size, session, source
	end, function()
		skynet.dispatch("lua", function(_, _, cmd, ...)
			if cmd == "seen" then
				skynet.retpack(seen)
			elseif cmd == "fail" then
				error "as asked"
			else
				skynet.retpack(cmd, ...)
			end
		end)
	end)
end
