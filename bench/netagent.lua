-- The agent of a connection of a gate or a wsgate (see netagents.lua), which is its
-- argument: answers every package or message.

local skynet = require "skynet"

local answer
if (...) == "wsgate" then
	answer = require "snax.wsgate".send
else
	local netpack = require "skynet.netpack"
	local driver = require "skynet.socketdriver"
	function answer(fd, text)
		driver.send(fd, netpack.pack(text))
	end
end

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = skynet.tostring,
	dispatch = function(fd, _, text)
		skynet.ignoreret()
		answer(fd, text)
	end,
}

skynet.start(function()
	skynet.dispatch("lua", function(_, _, gate, fd)
		skynet.call(gate, "lua", "forward", fd)
		skynet.ret()
	end)
end)
