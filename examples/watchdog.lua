-- watchdog: owns the gate and one agent per connection.

local skynet = require "skynet"

local gate
-- fd -> handle of the agent, or false while the agent is being started.
local agents = {}

-- What the gate tells.
local notice = {}
local command = {}

local function close_agent(fd)
	local agent = agents[fd]
	agents[fd] = nil
	-- The connection may be waiting half closed: the gate lets go of it.
	skynet.call(gate, "lua", "kick", fd)
	if agent then
		skynet.send(agent, "lua", "disconnect")
	end
end

function notice.open(fd, address)
	skynet.error("New client from : " .. address)
	agents[fd] = false
	local agent = skynet.newservice "agent"
	if agents[fd] == nil then
		-- It left before its agent was there.
		skynet.send(agent, "lua", "disconnect")
		return
	end
	agents[fd] = agent
	skynet.call(agent, "lua", "start", { gate = gate, client = fd, watchdog = skynet.self() })
end

function notice.close(fd)
	print("socket close", fd)
	close_agent(fd)
end

notice["error"] = function(fd, text)
	print("socket error", fd, text)
	close_agent(fd)
end

-- So many KiB wait to be sent: a slow client.
function notice.warning(fd, kib)
	print("socket warning", fd, kib)
end

-- Only connections without an agent send data here.
function notice.data()
end

function command.start(conf)
	return skynet.call(gate, "lua", "open", conf)
end

function command.close(fd)
	close_agent(fd)
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, what, ...)
		if cmd == "socket" then
			notice[what](...)	-- a plain send: no answer
			return
		end
		local f = command[cmd] or error("Unknown command " .. tostring(cmd))
		skynet.retpack(f(what, ...))
	end)
	gate = skynet.newservice "gate"
end)
