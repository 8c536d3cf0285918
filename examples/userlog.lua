-- userlog: a log service written in Lua (logservice = "snlua", logger =
-- "userlog"). Lines come as class TEXT; class SYSTEM means: reopen the log.

local skynet = require "skynet"

skynet.register_protocol {
	name = "text",
	id = skynet.PTYPE_TEXT,
	unpack = skynet.tostring,
	dispatch = function(_, source, line)
		print(string.format(":%08x(%.2f): %s", source, skynet.time(), line or ""))
	end,
}

skynet.register_protocol {
	name = "SYSTEM",
	id = skynet.PTYPE_SYSTEM,
	unpack = function() end,
	dispatch = function()
		-- A log that writes a file would reopen it here.
		print "SIGHUP"
	end,
}

skynet.start(function() end)
