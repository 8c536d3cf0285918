-- Gates whose own callbacks need memory, and gates with TLS, whose allocations fail, each in its
-- turn or every so many: what a client gets back is how its answers begin, in order, and then
-- either goes on or ends. Time limits hold, and a gate that could not be opened can be opened then.

local skynet = require "skynet"
local certs = require "certs"
local gatepeers = require "gatepeers"
local oom = require "oom"
local test = require "testlib"
local watchdog = require "watchdog"

-- Either an answer or the end of a connection comes: only bounds a failure, 1/100 s.
local PATIENCE = 3000
-- Every so many allocations has its turn; all would take long.
local STEP = 2
-- A gate that counted connections that are gone would soon be full.
local CLIENTS = 8
-- KiB. Timers of handshakes stay for their time.
local SLACK = 96
-- What a block that is lost each time adds up to is more.
local FILLER = ("x"):rep(3000)
-- In one write, then in another.
local FIRST, LAST = 4, 6

local function text_of(i)
	return i .. " " .. FILLER
end

-- Whether those come, in order, up to the end of the connection.
local function expect(peer, c, first, last)
	for i = first, last do
		local text = peer.hear(c, PATIENCE)
		if text ~= text_of(i) then
			if text == nil then
				oom.complain "neither an answer comes nor does the connection end"
			elseif text then
				oom.complain("got %q in place of %d", text:sub(1, 10), i)
			end
			return false
		end
	end
	return true
end

local function say(peer, c, first, last)
	local packages = {}
	for i = first, last do
		packages[#packages + 1] = peer.pack(text_of(i))
	end
	peer.write(c, table.concat(packages))
end

-- True if all that was said came back.
local function talk(peer, port)
	local c = peer.connect(port, PATIENCE)
	say(peer, c, 1, FIRST)
	local ok = expect(peer, c, 1, 1)
	say(peer, c, FIRST + 1, LAST)
	ok = ok and expect(peer, c, 2, LAST)
	peer.close(c)
	return ok
end

-- exchange returns whether it went well. more: fields of the sweep
local function sweep(gate, exchange, more)
	local s = more or {}
	oom.watch(gate)
	s.handle = gate
	s.ask = function() return exchange(), true end
	oom.sweep(s)
	skynet.kill(gate)
end

local function sweep_own(what, conf, peer)
	conf.maxclient, conf.linger = CLIENTS, 5
	local gate, port = watchdog.open("oom_gate " .. what, conf)
	sweep(gate, function() return talk(peer, port) end, {
		step = STEP,
		slack = SLACK,
		each = function()
			test.wait_for(function() return skynet.call(gate, "lua", "count") == 0 end, nil,
				"the end of each connection to be told")
		end,
	})
end

test.case("gateserver", function() sweep_own("tcp", {}, gatepeers.plain) end)

test.case("gateserver in order, while message yields", function()
	sweep_own("tcp yield", { ordered = true }, gatepeers.plain)
end)

test.case("gateserver, where few packages may wait", function()
	sweep_own("tcp yield", { ordered = true, max_pending = 2 }, gatepeers.plain)
end)

local function with_tls()
	return { tls = { cert = certs.path "server.pem", key = certs.path "server.key" } }
end

test.case("gateserver with TLS", function() sweep_own("tcp", with_tls(), gatepeers.secure) end)

test.case("wsgateserver with TLS", function() sweep_own("ws", with_tls(), gatepeers.secure_ws) end)

test.case("wsgateserver", function() sweep_own("ws", {}, gatepeers.ws) end)

test.case("wsgateserver, while message yields", function() sweep_own("ws yield", {}, gatepeers.ws) end)

-- A client that says nothing is closed, also when there was no memory for somebody before.
local function sweep_silent(name, conf)
	local gate, port = watchdog.open(name, conf)
	local peer = gatepeers.plain
	sweep(gate, function()
		local c = peer.connect(port, PATIENCE)
		local rest = peer.read(c, 1, PATIENCE)
		peer.close(c)
		if rest == nil then
			oom.complain "a silent client stays"
		end
		return rest ~= nil
	end)
end

test.case("wsgateserver, a client that does not ask to be let in", function()
	sweep_silent("wsgate", { handshake_timeout = 1 })
end)

-- A gate that had no memory to open is as it was.
for _, name in ipairs { "gate", "wsgate" } do
	test.case(name .. ", while it opens", function()
		local gate = watchdog.open(name)
		skynet.call(gate, "lua", "close")
		sweep(gate, function()
			local ok = pcall(skynet.call, gate, "lua", "open", { address = "127.0.0.1", port = 0 })
			if ok and not pcall(skynet.call, gate, "lua", "close") then
				pcall(skynet.call, gate, "lua", "close")
			end
			return ok
		end)
	end)
end

test.case("(clean-up)", certs.remove)

watchdog.run(certs.make)
