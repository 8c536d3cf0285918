-- Gates whose own callbacks need memory, and gates with TLS, whose allocations fail, each in its
-- turn or every so many: what a client gets back is how its answers begin, in order, and then either goes on or
-- ends. Time limits hold, and a gate that could not be opened can be opened then.

local skynet = require "skynet"
local socket = require "skynet.socket"
local tls = require "skynet.tls"
local certs = require "certs"
local oom = require "oom"
local test = require "testlib"
local watchdog = require "watchdog"
local wsraw = require "wsraw"

local frame = watchdog.frame

-- What does not come in this time does not come, 1/100 s.
local PATIENCE = 100
-- Every so many allocations has its turn; all would take long.
local STEP = 2
-- A gate that counted connections that are gone would soon be full.
local CLIENTS = 8
-- What a block that is lost each time adds up to is more than the slack.
local FILLER = ("x"):rep(3000)
-- In one write, then in another.
local FIRST, LAST = 4, 6

local function text_of(i)
	return i .. " " .. FILLER
end

-- Ways to talk to a gate. hear: a text; false: it has ended; nil: not in time.
local plain = {
	connect = function(port) return assert(socket.open("127.0.0.1", port)) end,
	pack = frame,
	write = socket.write,
	read = function(id, n) return (socket.read(id, n, PATIENCE)) end,
	close = socket.close,
}

function plain.hear(proto, id)
	local head = proto.read(id, 2)
	return head and proto.read(id, string.unpack(">I2", head))
end

local secure = {
	connect = function(port)
		return tls.connect("127.0.0.1", port, { ca = certs.path "ca.pem", timeout = PATIENCE })
	end,
	pack = frame,
	write = function(c, text) return c and c:write(text) end,
	read = function(c, n)
		if not c then
			return false
		end
		return (c:read(n, PATIENCE))
	end,
	hear = plain.hear,
	close = function(c) return c and c:close() end,
}

local ws = {
	connect = function(port)
		local id = plain.connect(port)
		socket.write(id, wsraw.request())
		assert(socket.readline(id, "\r\n\r\n", PATIENCE) ~= nil, "no answer, and no end")
		return id
	end,
	pack = function(text) return wsraw.frame(1, text) end,
	write = socket.write,
	read = plain.read,
	hear = function(proto, id)
		local head = proto.read(id, 2)
		if head and head:byte() == 0x88 then
			return false
		end
		local size = head and proto.read(id, 2)
		return size and proto.read(id, string.unpack(">I2", size))
	end,
	close = socket.close,
}

local secure_ws = {
	connect = function(port)
		local c = secure.connect(port)
		if c then
			c:write(wsraw.request())
			c:readline("\r\n\r\n", PATIENCE)
		end
		return c
	end,
	pack = ws.pack,
	write = secure.write,
	read = secure.read,
	hear = ws.hear,
	close = secure.close,
}

-- What a client met that it must not.
local wrong = {}

local function expect(proto, id, first, last)
	for i = first, last do
		local text = proto:hear(id)
		if text ~= text_of(i) then
			if text == nil then
				wrong[#wrong + 1] = "neither an answer comes nor does the connection end"
			elseif text then
				wrong[#wrong + 1] = string.format("got %q in place of %d", text:sub(1, 10), i)
			end
			return false
		end
	end
	return true
end

local function say(proto, id, first, last)
	local packages = {}
	for i = first, last do
		packages[#packages + 1] = proto.pack(text_of(i))
	end
	proto.write(id, table.concat(packages))
end

-- True if all that was said came back.
local function talk(proto, port)
	local id = proto.connect(port)
	say(proto, id, 1, FIRST)
	local ok = expect(proto, id, 1, 1)
	say(proto, id, FIRST + 1, LAST)
	ok = ok and expect(proto, id, 2, LAST)
	proto.close(id)
	return ok
end

-- Its exchange returns whether it went well.
local function sweep(s)
	local exchange = s.exchange
	function s.check()
		local text = table.concat(wrong, "; ")
		wrong = {}
		test.eq(text, "")
		test.ok(exchange(), "the gate does not work")
	end
	oom.watch(s.handle)
	test.ok(oom.sweep(s) > 1, "nothing failed")
	skynet.kill(s.handle)
end

local function sweep_own(what, conf, proto)
	conf.maxclient, conf.linger = CLIENTS, 5
	local gate, port = watchdog.open("oom_gate " .. what, conf)
	sweep {
		handle = gate,
		step = STEP,
		timers = true, -- of handshakes
		exchange = function() return talk(proto, port) end,
		each = function()
			test.wait_for(function() return skynet.call(gate, "lua", "count") == 0 end, 300,
				"the end of each connection to be told")
		end,
	}
end

test.case("gateserver", function() sweep_own("tcp", {}, plain) end)

test.case("gateserver in order, while message yields", function()
	sweep_own("tcp yield", { ordered = true }, plain)
end)

test.case("gateserver, where few packages may wait", function()
	sweep_own("tcp yield", { ordered = true, max_pending = 2 }, plain)
end)

local function with_tls()
	return { tls = { cert = certs.path "server.pem", key = certs.path "server.key" } }
end

test.case("gateserver with TLS", function() sweep_own("tcp", with_tls(), secure) end)

test.case("wsgateserver with TLS", function() sweep_own("ws", with_tls(), secure_ws) end)

test.case("wsgateserver", function() sweep_own("ws", {}, ws) end)

test.case("wsgateserver, while message yields", function() sweep_own("ws yield", {}, ws) end)

-- A client that says nothing is closed, also when there was no memory for somebody before.
local function sweep_silent(name, conf)
	local gate, port = watchdog.open(name, conf)
	sweep {
		handle = gate,
		exchange = function()
			local id = plain.connect(port)
			local rest = plain.read(id, 1)
			socket.close(id)
			if rest == nil then
				wrong[#wrong + 1] = "a silent client stays"
			end
			return rest ~= nil
		end,
	}
end

test.case("wsgateserver, a client that does not ask to be let in", function()
	sweep_silent("wsgate", { handshake_timeout = 1 })
end)

-- A gate that had no memory to open is as it was.
for _, name in ipairs { "gate", "wsgate" } do
	test.case(name .. ", while it opens", function()
		local gate = watchdog.open(name)
		skynet.call(gate, "lua", "close")
		sweep {
			handle = gate,
			exchange = function()
				local ok = pcall(skynet.call, gate, "lua", "open", { address = "127.0.0.1", port = 0 })
				if ok and not pcall(skynet.call, gate, "lua", "close") then
					pcall(skynet.call, gate, "lua", "close")
				end
				return ok
			end,
		}
	end)
end

watchdog.run(certs.make)
