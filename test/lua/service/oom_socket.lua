-- oom_socket: lines over sockets, both ends, for test_oom_socket.lua.

local skynet = require "skynet"
local socket = require "skynet.socket"
local patience = require "t_oom".patience
local serve = require "serve"

local command = {}

local function echo(id)
	while true do
		local line = socket.readline(id)
		if not line then
			break
		end
		socket.write(id, line .. "\n")
	end
	socket.close(id)
end

---A port whose connections get each line back. how: accept, or start for each connection
function command.listen(how)
	local listener, _, port = socket.listen("127.0.0.1", 0)
	if how == "accept" then
		socket.accept(listener, echo)
	else
		socket.start(listener, function(id)
			if socket.start(id) then
				echo(id)
			end
		end)
	end
	return port
end

-- Reads with a size and a limit, a long separator and the rest.
function command.listen_sizes()
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.accept(listener, function(id)
		socket.limit(id, 1000)
		local n = socket.read(id, 2)
		local body = n and socket.read(id, tonumber(n))
		local line = body and socket.readline(id, "<the end of the line>")
		if line then
			socket.write(id, body .. line .. "\n")
		end
		socket.close(id)
	end)
	return port
end

---One line to a port and back.
function command.talk(port, line)
	local guard <close> = setmetatable({ id = -1 }, { __close = function(g) socket.close(g.id) end })
	guard.id = assert(socket.open("127.0.0.1", port, patience(200)))
	socket.write(guard.id, line .. "\n")
	return socket.readline(guard.id, "\n", patience(200))
end

serve(command)
