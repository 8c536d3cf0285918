-- msgagent: serves one player of the login example; says everything back after a while.

local skynet = require "skynet"

local gate, uid, subid

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = skynet.tostring,
	dispatch = function(_, _, text)
		skynet.sleep(10)
		skynet.ret(text)
	end,
}

local command = {}

function command.login(source, ...)
	gate, uid, subid = source, ...
	skynet.error(string.format("%s is login", uid))
end

-- The player leaves, or is logged in anew.
function command.logout()
	skynet.error(string.format("%s is logout", uid))
	skynet.call(gate, "lua", "logout", uid, subid)
	-- Once this call is answered.
	skynet.fork(skynet.exit)
end

-- The connection is lost; the player may come back.
function command.afk()
	skynet.error "AFK"
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, name, ...)
		skynet.retpack(command[name](...))
	end)
end)
