-- Gates whose allocations fail, each in its turn: a connection may end, but each one that was
-- announced is told to have gone, and none is left open.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local socket = require "skynet.socket"
local wsgate = require "snax.wsgate"
local gatepeers = require "gatepeers"
local oom = require "oom"
local test = require "testlib"
local watchdog = require "watchdog"

-- What does not come in this time does not come while allocations fail, 1/100 s.
local PATIENCE = 30
-- A connection is announced or ends: only bounds a failure.
local LIMIT = 3000
-- A gate that counted connections that are gone would soon be full.
local CLIENTS = 8

-- A notice about a connection, nil if that ends before.
local function await(limit, id, what, fd)
	local notice
	pcall(test.wait_for, function()
		notice = watchdog.take(what, fd)
		return notice or socket.disconnected(id)
	end, limit)
	return notice
end

-- How the watchdog answers.
local function answer_plain(fd, text) driver.send(fd, watchdog.frame(text)) end
local function answer_ws(fd, text) wsgate.send(fd, text, "text") end

-- One connection: it says something twice and is kicked. True if all of that came about.
local function talk(gate, peer, id, answer, agent)
	local opened = await(LIMIT, id, "open")
	local fd = opened and opened[2]
	if not fd then
		if not socket.disconnected(id) then
			oom.complain "a connection is neither announced nor ends"
		end
		return false
	end
	local ok = pcall(skynet.call, gate, "lua", agent and "forward" or "accept", fd, 0, agent)
	for _, text in ipairs { "one", "two" } do
		peer.write(id, peer.pack(text))
		if not agent then
			local data = await(oom.patience(PATIENCE), id, "data", fd)
			ok = ok and data and data[3] == text
			answer(fd, text)
		end
		ok = ok and peer.hear(id, oom.patience(PATIENCE)) == text
	end
	ok = pcall(skynet.call, gate, "lua", "kick", fd) and ok
	socket.read(id, 1, oom.patience(PATIENCE))
	return ok
end

-- agent: a service that answers, in place of the watchdog
local function sweep(name, conf, peer, answer, agent)
	conf.maxclient = CLIENTS
	conf.linger = 20
	local gate, port = watchdog.open(name, conf)
	oom.watch(gate)
	oom.sweep {
		handle = gate,
		ask = function()
			local id = peer.connect(port, LIMIT)
			local ok, good = pcall(talk, gate, peer, id, answer, agent)
			socket.close(id)
			assert(ok, good)
			return good, true
		end,
		each = watchdog.settle,
	}
	watchdog.settle()
	skynet.kill(gate)
end

test.case("gate, packages to the watchdog", function() sweep("gate", {}, gatepeers.plain, answer_plain) end)

test.case("gate, packages in order to the watchdog", function()
	sweep("gate", { ordered = true, idle_timeout = 1000 }, gatepeers.plain, answer_plain)
end)

test.case("gate, packages to an agent", function()
	sweep("gate", {}, gatepeers.plain, nil, skynet.newservice("netagent", "gate"))
end)

test.case("wsgate, messages to the watchdog", function() sweep("wsgate", {}, gatepeers.ws, answer_ws) end)

test.case("wsgate, messages to an agent", function()
	sweep("wsgate", {}, gatepeers.ws, nil, skynet.newservice("netagent", "wsgate"))
end)

watchdog.run()
