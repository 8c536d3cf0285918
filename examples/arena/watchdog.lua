-- The watchdog of the arena's gate: finds the agent of each connection. A player is known
-- by a secret token, which the page keeps for its tab: who comes back with it in time gets
-- the same agent, and with it the same place, name and score.
--
-- Owns the gate and the table of players; an agent ends only with the watchdog's leave,
-- so that none is handed a connection while it goes away.

local skynet = require "skynet"
local crypt = require "skynet.crypt"
local url = require "http.url"

local gate, rooms
-- token -> { agent, attached = number of connections it was given }
local players = {}
-- fd -> agent, false while it is sought
local serving = {}

local function new_token()
	return crypt.hexencode(crypt.randomkey() .. crypt.randomkey())
end

local function parameters(info)
	local ok, query = pcall(function()
		local _, text = url.parse(info.url)
		return url.parse_query(text)
	end)
	return ok and query or {}
end

local SOCKET = {}

function SOCKET.open(fd, addr, info)
	serving[fd] = false
	local wanted = parameters(info)
	local token = wanted.token
	local player = type(token) == "string" and players[token]
	if not player then
		token = new_token()
		player = { attached = 0 }
		players[token] = player
		player.agent = skynet.newservice("agent", token)
	end
	player.attached = player.attached + 1
	skynet.error(string.format("player %s from %s", skynet.address(player.agent), addr))
	skynet.send(player.agent, "lua", "attach", {
		fd = fd,
		gate = gate,
		watchdog = skynet.self(),
		rooms = rooms,
		name = wanted.name,
		room = wanted.room,
	})
	if serving[fd] == nil then
		-- It has ended while the agent started.
		skynet.send(player.agent, "lua", "detach", fd)
	else
		serving[fd] = player.agent
	end
end

function SOCKET.close(fd)
	local agent = serving[fd]
	serving[fd] = nil
	if agent then
		skynet.send(agent, "lua", "detach", fd)
	end
end

function SOCKET.error(fd, text)
	skynet.error(string.format("connection %d: %s", fd, text))
end

function SOCKET.warning() end

local command = {}

function command.start(conf)
	rooms = conf.rooms
	gate = skynet.newservice "wsgate"
	local _, port = skynet.call(gate, "lua", "open", {
		watchdog = skynet.self(),
		address = conf.host,
		port = conf.port,
		path = "/ws",
		kind = "text",
		maxclient = 1000,
		maxpackage = 2048,
		package_rate = 80,
		rate_policy = "close",
		send_limit = 256 * 1024,
		ping_interval = 1000,
		idle_timeout = 3000,
	})
	return port
end

-- An agent wants to end: yes, unless a connection is on its way to it.
function command.release(token, attached)
	local player = players[token]
	if player and player.attached ~= attached then
		return false
	end
	players[token] = nil
	return true
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, sub, ...)
		if cmd == "socket" then
			SOCKET[sub](...)
		else
			skynet.retpack(command[cmd](sub, ...))
		end
	end)
end)
