-- simpledb (SIMPLEDB): a table of strings, kept in memory.

local skynet = require "skynet"
require "skynet.manager"

local db = {}

local command = {}

function command.GET(key)
	return db[key]
end

-- The previous value.
function command.SET(key, value)
	local previous = db[key]
	db[key] = value
	return previous
end

function command.PING(text)
	skynet.error("ping " .. tostring(text))
end

skynet.start(function()
	skynet.dispatch("lua", function(session, _, cmd, ...)
		local f = command[tostring(cmd):upper()] or error("Unknown command " .. tostring(cmd))
		if session == 0 then
			f(...)
		else
			skynet.retpack(f(...))
		end
	end)
	skynet.register "SIMPLEDB"
end)
