-- The agent of one player: checks what the page says, tells the room what the player wants,
-- and keeps his identity while the connection is lost.
--
-- Owns the player's place in one room. The fd belongs to the gate; messages of another
-- fd than the present one come from a connection that was replaced, and are dropped.

local skynet = require "skynet"
local queue = require "skynet.queue"
local cjson = require "cjson"
local wsgate = require "snax.wsgate"
local rules = require "rules"

local token = ...

-- Chat: so many lines at once, and one more each second.
local CHAT_BURST = 5
-- Close codes of our own.
local REPLACED, BAD_MESSAGE = 4001, 4002

local gate, watchdog, rooms, fd
local name
local attached = 0
-- { name, address, id } of the room the player is in.
local place
local grace = math.tointeger(skynet.getenv "arena_grace") or 3000
local chat_left, chat_since = CHAT_BURST, 0

local function tell(message)
	if fd then
		wsgate.send(fd, cjson.encode(message), "text")
	end
end

local function leave()
	if place then
		skynet.send(place.address, "lua", "leave", place.id)
		place = nil
	end
end

-- Take a place in a room, or the old one again; the room tells the page. Yields.
local function enter(room_name)
	local room = rules.room(room_name) or rules.rooms[1]
	local this = fd
	if place and place.name ~= room.name then
		leave()
	end
	local id, why = skynet.call(rooms[room.name], "lua", "join", place and place.id, name, this, token)
	if not id then
		tell { t = "error", text = why }
		return
	end
	place = { name = room.name, address = rooms[room.name], id = id }
	if fd ~= this then
		-- Lost or replaced meanwhile.
		skynet.send(place.address, "lua", "connection", id, fd)
	end
end

-- Coming in and going elsewhere wait for each other.
local one_by_one = queue()

local on = {}

function on.input(message)
	local x, y = tonumber(message.x), tonumber(message.y)
	-- No number beyond is of use, and neither is NaN.
	if place and x and y and math.abs(x) <= 1 and math.abs(y) <= 1 then
		skynet.send(place.address, "lua", "input", place.id, x, y)
	end
end

function on.dash()
	if place then
		skynet.send(place.address, "lua", "dash", place.id)
	end
end

function on.chat(message)
	local now = skynet.now()
	chat_left = math.min(CHAT_BURST, chat_left + (now - chat_since) / 100)
	chat_since = now
	local text = rules.clean(message.text, rules.max_chat)
	if text == "" or not place then
		return
	elseif chat_left < 1 then
		tell { t = "error", text = "Not so fast: wait a moment before the next line." }
		return
	end
	chat_left = chat_left - 1
	skynet.send(place.address, "lua", "chat", place.id, text)
end

function on.room(message)
	local wanted = message.name
	if rules.room(wanted) then
		one_by_one(function()
			if not (place and place.name == wanted) then
				enter(wanted)
			end
		end)
	end
end

function on.ping(message)
	tell { t = "pong", c = tonumber(message.c) }
end

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = skynet.tostring,
	dispatch = function(from, _, text)
		skynet.ignoreret()
		if from ~= fd then
			return
		end
		local ok, message = pcall(cjson.decode, text)
		local handler = ok and type(message) == "table" and on[message.t]
		if handler then
			handler(message)
		else
			skynet.send(gate, "lua", "kick", fd, BAD_MESSAGE, "not a message of this game")
		end
	end,
}

-- Nobody has come back for a while.
local function give_up(since)
	if fd or attached ~= since then
		return
	end
	leave()
	if skynet.call(watchdog, "lua", "release", token, attached) then
		skynet.exit()
	end
end

local command = {}

function command.attach(conf)
	attached = attached + 1
	gate, watchdog, rooms = conf.gate, conf.watchdog, conf.rooms
	local old = fd
	fd = conf.fd
	if old then
		skynet.send(gate, "lua", "kick", old, REPLACED, "the game was opened elsewhere")
	end
	local wanted = rules.clean(conf.name, rules.max_name)
	name = wanted ~= "" and wanted or name or "Guest"
	one_by_one(function()
		if fd == conf.fd then
			enter(conf.room or place and place.name)
		end
	end)
	if fd == conf.fd then
		-- It may be gone already.
		pcall(skynet.call, gate, "lua", "forward", fd)
	end
end

function command.detach(old)
	if old ~= fd then
		return
	end
	fd = nil
	if place then
		skynet.send(place.address, "lua", "connection", place.id, nil)
	end
	local since = attached
	skynet.timeout(grace, function()
		give_up(since)
	end)
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		skynet.ignoreret()
		command[cmd](...)
	end)
end)
