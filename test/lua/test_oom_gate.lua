-- Gates whose allocations fail, each in its turn: a connection may end, but each one that was
-- announced is told to have gone, and none is left open.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local socket = require "skynet.socket"
local wsgate = require "snax.wsgate"
local oom = require "oom"
local test = require "testlib"
local watchdog = require "watchdog"
local wsraw = require "wsraw"

local told, frame = watchdog.told, watchdog.frame

-- What does not come in this time does not come, 1/100 s.
local PATIENCE = 30
-- A gate that counted connections that are gone would soon be full.
local CLIENTS = 8

-- Waits for something of a connection, in vain if that ends.
local function await(id, what)
	local found
	pcall(test.wait_for, function()
		found = what()
		return found or socket.disconnected(id)
	end, PATIENCE)
	return found
end

local function opened()
	for i, t in ipairs(told) do
		if t[1] == "open" then
			return table.remove(told, i)[2]
		end
	end
end

-- Every connection that was told to be open is told to be gone.
local open = {}

local function settle()
	test.wait_for(function()
		for i = #told, 1, -1 do
			local what, fd = told[i][1], told[i][2]
			if what == "open" then
				open[fd] = true
			elseif what == "close" then
				open[fd] = nil
				table.remove(told, i)
			end
		end
		for i = #told, 1, -1 do
			if not open[told[i][2]] then
				table.remove(told, i)
			end
		end
		return next(open) == nil
	end, 500, "the end of a connection to be told")
	watchdog.forget()
end

-- A protocol: connect(port) -> id, say(id, text), hear(id) -> text or nil, answer(fd, text)
local plain = {
	connect = function(port) return assert(socket.open("127.0.0.1", port)) end,
	say = function(id, text) socket.write(id, frame(text)) end,
	hear = function(id)
		local head = socket.read(id, 2, PATIENCE)
		return head and socket.read(id, string.unpack(">I2", head), PATIENCE)
	end,
	answer = function(fd, text) driver.send(fd, frame(text)) end,
}

local ws = {
	connect = function(port)
		local id = assert(socket.open("127.0.0.1", port))
		socket.write(id, wsraw.request())
		socket.readline(id, "\r\n\r\n", PATIENCE)
		return id
	end,
	say = function(id, text) socket.write(id, wsraw.frame(1, text)) end,
	hear = function(id)
		local head = socket.read(id, 2, PATIENCE)
		return head and socket.read(id, head:byte(2) & 0x7f, PATIENCE)
	end,
	answer = function(fd, text) wsgate.send(fd, text, "text") end,
}

-- One connection: it says something twice and is kicked. True if all of that came about.
local function talk(gate, port, proto, agent, id)
	local fd = await(id, opened)
	if not fd then
		return false
	end
	open[fd] = true
	local ok = pcall(skynet.call, gate, "lua", agent and "forward" or "accept", fd, 0, agent)
	for _, text in ipairs { "one", "two" } do
		proto.say(id, text)
		if not agent then
			local data = await(id, function() return watchdog.take("data", fd) end)
			ok = ok and data and data[3] == text
			proto.answer(fd, text)
		end
		ok = ok and proto.hear(id) == text
	end
	ok = pcall(skynet.call, gate, "lua", "kick", fd) and ok
	socket.read(id, 1, PATIENCE)
	return ok
end

local function exchange_with(gate, port, proto, agent)
	return function()
		local id = proto.connect(port)
		local ok, good = pcall(talk, gate, port, proto, agent, id)
		socket.close(id)
		assert(ok, good)
		return good
	end
end

local function sweep(name, conf, proto, agent)
	conf = conf or {}
	conf.maxclient = CLIENTS
	conf.linger = 20
	local gate, port = watchdog.open(name, conf)
	local exchange = exchange_with(gate, port, proto, agent)
	oom.watch(gate)
	oom.sweep {
		handle = gate,
		exchange = exchange,
		each = settle,
		check = function()
			test.ok(exchange(), "the gate does not work")
			settle()
		end,
	}
	skynet.kill(gate)
end

test.case("gate, packages to the watchdog", function() sweep("gate", nil, plain) end)

test.case("gate, packages in order to the watchdog", function()
	sweep("gate", { ordered = true, idle_timeout = 200 }, plain)
end)

test.case("gate, packages to an agent", function()
	sweep("gate", nil, plain, skynet.newservice "oom_agent")
end)

test.case("wsgate, messages to the watchdog", function() sweep("wsgate", nil, ws) end)

test.case("wsgate, messages to an agent", function()
	sweep("wsgate", nil, ws, skynet.newservice("oom_agent", "ws"))
end)

watchdog.run()
