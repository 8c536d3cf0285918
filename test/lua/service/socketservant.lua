-- A service that uses the raw driver on behalf of a test.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local serve = require "serve"

local state = { listening = {} }

skynet.register_protocol {
	name = "socket",
	id = skynet.PTYPE_SOCKET,
	unpack = driver.unpack,
	dispatch = function(_, _, kind, id, ud, payload)
		if kind == 1 or kind == 6 then
			driver.drop(payload, ud)
		elseif kind == 2 and state.listening[id] == true then
			state.listening[id] = ud
			driver.start(id)
		elseif kind == 4 then
			driver.start(ud)
		end
	end,
}

local command = {}

function command.close(id)
	driver.close(id)
end

-- port, id of a new listener that accepts and reads
function command.listen(host)
	local id = driver.listen(host or "127.0.0.1", 0)
	state.listening[id] = true
	while state.listening[id] == true do
		skynet.yield()
	end
	return state.listening[id], id
end

serve(command)
