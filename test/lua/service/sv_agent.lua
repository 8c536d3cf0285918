-- An agent that notes what a gate forwards; ask it for the notes.
local skynet = require "skynet"

local notes = {}

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = skynet.tostring,
	dispatch = function(session, source, text)
		skynet.ignoreret()
		notes[#notes + 1] = { session, source, text or "" }
	end,
}

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		if cmd == "exit" then
			skynet.exit()
		elseif cmd == "forward" then
			local gate, fd = ...
			skynet.retpack(skynet.call(gate, "lua", "forward", fd))
		else
			skynet.retpack(notes)
		end
	end)
end)
