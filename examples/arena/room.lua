-- One room of the arena: moves its players 20 times a second and tells them.
--
-- Owns its players and sparks. Each tick it encodes one snapshot and sends that frame to
-- all connections, straight to the sockets. A room without connected players does not
-- tick at all.

local skynet = require "skynet"
local cjson = require "cjson"
local wsgate = require "snax.wsgate"
local rules = require "rules"

local room = rules.room(...)

local DT = 1 / rules.ticks
-- Hundredths of a second between two ticks.
local STEP = 100 // rules.ticks

---@class arena.player
---@field id integer
---@field name string
---@field hue integer
---@field fd integer? nil while the connection is lost
---@field x number
---@field y number
---@field vx number
---@field vy number
---@field ix number what the player wants: a vector no longer than 1
---@field iy number
---@field score integer
---@field dash integer ticks that a dash goes on
---@field cooldown integer ticks until the next one
---@field safe integer ticks in which no hit counts

---@type table<integer, arena.player>
local players = {}
local player_number = 0
local last_id = 0
-- id -> { x, y }
local sparks = {}
local spark_number, last_spark = 0, 0
-- What happened to sparks since the last snapshot.
local born, eaten = {}, {}
local history = {}
local tick_number = 0
local is_ticking = false

-------------------------------------------------------------------- telling

local function connections()
	local fds = {}
	for _, p in pairs(players) do
		fds[#fds + 1] = p.fd
	end
	return fds
end

local function tell_all(message)
	wsgate.broadcast(connections(), cjson.encode(message), "text")
end

local function say(line)
	history[#history + 1] = line
	if #history > rules.chat_history then
		table.remove(history, 1)
	end
	line.t = "chat"
	tell_all(line)
end

local function card(p)
	return { id = p.id, name = p.name, hue = p.hue }
end

local function round(v)
	return math.tointeger(math.floor(v * 10 + 0.5)) / 10
end

-- id, x, y, vx, vy, score, what it does: 1 dashes, 2 is safe, 4 is away, 8 could dash
local function row(p)
	local flags = (p.dash > 0 and 1 or 0) | (p.safe > 0 and 2 or 0) | (p.fd and 0 or 4)
		| (p.cooldown == 0 and 8 or 0)
	return { p.id, round(p.x), round(p.y), round(p.vx), round(p.vy), p.score, flags }
end

local function list(of, make)
	local out = {}
	for id, v in pairs(of) do
		out[#out + 1] = make(v, id)
	end
	return out
end

local function spark_row(s, id)
	return { id, s.x, s.y }
end

--------------------------------------------------------------------- sparks

local function add_spark(x, y)
	last_spark = last_spark + 1
	local margin = rules.spark_radius * 2
	local s = {
		x = math.floor(math.max(margin, math.min(rules.width - margin, x))),
		y = math.floor(math.max(margin, math.min(rules.height - margin, y))),
	}
	sparks[last_spark] = s
	spark_number = spark_number + 1
	born[#born + 1] = spark_row(s, last_spark)
end

local function fill_sparks()
	while spark_number < rules.sparks do
		add_spark(math.random() * rules.width, math.random() * rules.height)
	end
end

local function eat_sparks(p)
	local reach = rules.radius + rules.spark_radius
	for id, s in pairs(sparks) do
		local dx, dy = s.x - p.x, s.y - p.y
		if dx * dx + dy * dy < reach * reach then
			sparks[id] = nil
			spark_number = spark_number - 1
			p.score = p.score + 1
			eaten[#eaten + 1] = { id, p.id }
		end
	end
end

------------------------------------------------------------------- movement

local function move(p)
	if p.dash > 0 then
		p.dash = p.dash - 1
	else
		p.vx = p.vx + (p.ix * rules.speed - p.vx) * rules.grip
		p.vy = p.vy + (p.iy * rules.speed - p.vy) * rules.grip
	end
	p.cooldown = math.max(0, p.cooldown - 1)
	p.safe = math.max(0, p.safe - 1)
	local r = rules.radius
	p.x = math.max(r, math.min(rules.width - r, p.x + p.vx * DT))
	p.y = math.max(r, math.min(rules.height - r, p.y + p.vy * DT))
end

-- `a` ran into `b` in a dash, in the direction dx, dy.
local function hit(a, b, dx, dy)
	local lost = math.min(rules.stolen, b.score)
	b.score = b.score - lost
	b.safe = rules.safe_ticks
	b.dash = 0
	b.vx, b.vy = dx * rules.knock, dy * rules.knock
	a.dash = 0
	for i = 1, lost do
		local angle = i / lost * 2 * math.pi + math.random()
		add_spark(b.x + math.cos(angle) * 90, b.y + math.sin(angle) * 90)
	end
	tell_all { t = "hit", by = a.id, id = b.id, lost = lost }
end

-- Two players never stand on each other.
local function collide(a, b)
	local dx, dy = b.x - a.x, b.y - a.y
	local distance = math.sqrt(dx * dx + dy * dy)
	local overlap = rules.radius * 2 - distance
	if overlap <= 0 then
		return
	end
	if distance < 0.01 then
		dx, dy, distance = 1, 0, 1
	end
	dx, dy = dx / distance, dy / distance
	a.x, a.y = a.x - dx * overlap / 2, a.y - dy * overlap / 2
	b.x, b.y = b.x + dx * overlap / 2, b.y + dy * overlap / 2
	if a.dash > 0 and b.safe == 0 then
		hit(a, b, dx, dy)
	elseif b.dash > 0 and a.safe == 0 then
		hit(b, a, -dx, -dy)
	end
end

local function simulate()
	local all = {}
	for _, p in pairs(players) do
		move(p)
		all[#all + 1] = p
	end
	for i = 1, #all do
		for k = i + 1, #all do
			collide(all[i], all[k])
		end
	end
	for _, p in ipairs(all) do
		eat_sparks(p)
	end
	fill_sparks()
end

local function tick(due)
	local fds = connections()
	if #fds == 0 then
		is_ticking = false
		return
	end
	tick_number = tick_number + 1
	simulate()
	wsgate.broadcast(fds, cjson.encode {
		t = "s",
		k = tick_number,
		p = list(players, row),
		b = #born > 0 and born or nil,
		e = #eaten > 0 and eaten or nil,
	}, "text")
	born, eaten = {}, {}
	-- By the clock, so that lateness does not add up; but no burst after a pause.
	local now = skynet.now()
	local next_due = math.max(due + STEP, now)
	skynet.timeout(next_due - now, function()
		tick(next_due)
	end)
end

local function start_ticking()
	if not is_ticking then
		is_ticking = true
		tick(skynet.now())
	end
end

------------------------------------------------------------------- commands

local command = {}

local function new_player(name)
	last_id = last_id + 1
	player_number = player_number + 1
	local p = {
		id = last_id,
		name = name,
		hue = last_id * 137 % 360, -- neighbours in number are far apart in colour
		x = rules.width * (0.25 + math.random() / 2),
		y = rules.height * (0.25 + math.random() / 2),
		vx = 0, vy = 0, ix = 0, iy = 0,
		score = 0, dash = 0, cooldown = 0, safe = rules.safe_ticks,
	}
	players[p.id] = p
	return p
end

-- All that a page needs to begin. (An empty list is encoded as {}; the page knows.)
local function hello(p, token)
	return cjson.encode {
		t = "hello",
		id = p.id,
		token = token,
		room = room.name,
		rooms = rules.rooms,
		rules = rules.page,
		players = list(players, card),
		rows = list(players, row),
		sparks = list(sparks, spark_row),
		chat = history,
	}
end

-- A player comes in, or comes back to his place. His id, or nil and why not.
function command.join(id, name, fd, token)
	local p = id and players[id]
	if not p then
		if player_number >= rules.max_players then
			return nil, room.title .. " is full."
		end
		p = new_player(name)
		say { text = name .. " came in" }
	end
	p.name = name
	p.fd = nil
	tell_all { t = "enter", player = card(p) }
	fill_sparks()
	-- From the state on, the page gets every change in order.
	p.ix, p.iy = 0, 0
	p.fd = fd
	if fd then
		wsgate.send(fd, hello(p, token), "text")
	end
	skynet.fork(start_ticking)
	return p.id
end

function command.leave(id)
	local p = players[id]
	if p then
		players[id] = nil
		player_number = player_number - 1
		tell_all { t = "leave", id = id }
		say { text = p.name .. " left" }
	end
end

function command.connection(id, fd)
	local p = players[id]
	if p then
		p.fd = fd
		p.ix, p.iy = 0, 0
	end
end

function command.input(id, x, y)
	local p = players[id]
	if p then
		local length = math.sqrt(x * x + y * y)
		if length > 1 then
			x, y = x / length, y / length
		end
		p.ix, p.iy = x, y
	end
end

function command.dash(id)
	local p = players[id]
	if not p or p.cooldown > 0 then
		return
	end
	local x, y = p.ix, p.iy
	local length = math.sqrt(x * x + y * y)
	if length < 0.1 then
		x, y = p.vx, p.vy
		length = math.sqrt(x * x + y * y)
	end
	if length < 0.1 then
		return
	end
	p.vx, p.vy = x / length * rules.dash_speed, y / length * rules.dash_speed
	p.dash = rules.dash_ticks
	p.cooldown = rules.dash_cooldown
end

function command.chat(id, text)
	local p = players[id]
	if p then
		say { id = id, name = p.name, hue = p.hue, text = text }
	end
end

skynet.start(function()
	skynet.dispatch("lua", function(session, _, cmd, ...)
		local f = command[cmd]
		if session ~= 0 then
			skynet.retpack(f(...))
		else
			f(...)
		end
	end)
end)
