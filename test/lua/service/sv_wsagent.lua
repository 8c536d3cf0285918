-- An agent of a wsgate: answers each message of its client; ask it for what it got.
local skynet = require "skynet"
local wsgate = require "snax.wsgate"

local notes = {}

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = skynet.tostring,
	dispatch = function(fd, source, text)
		skynet.ignoreret()
		notes[#notes + 1] = { fd, source, text or "" }
		wsgate.send(fd, "re:" .. (text or ""), "text")
	end,
}

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd)
		if cmd == "exit" then
			skynet.retpack()
			skynet.exit()
		else
			skynet.retpack(notes)
		end
	end)
end)
