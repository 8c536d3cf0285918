-- wsgate and wsgateserver over real connections. The test is the watchdog, and its
-- clients are raw sockets of its own.

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local wsgate = require "snax.wsgate"
local test = require "testlib"
local watchdog = require "watchdog"
local raw = require "wsraw"

local told, expect, frame = watchdog.told, watchdog.expect, raw.frame

local function open_gate(conf)
	return watchdog.open("wsgate", conf)
end

-- A connection: client id, the gate's fd, the notice of its opening.
local function connect(port, header)
	local id, head = raw.connect(port, header)
	test.match(head, " 101 ")
	local notice = expect "open"
	return id, notice[2], notice
end

local function accept(gate, port)
	local id, fd = connect(port)
	skynet.call(gate, "lua", "accept", fd)
	return id, fd
end

test.case("open replies the actual address; a second open fails; close and reopen work", function()
	local gate, port, address = open_gate()
	test.eq(address, "127.0.0.1")
	test.ok(port > 0)
	local again = { address = "127.0.0.1", port = 0 }
	test.err(function() skynet.call(gate, "lua", "open", again) end, "call failed")
	local id, fd = accept(gate, port)
	skynet.call(gate, "lua", "close")
	test.eq((socket.open("127.0.0.1", port)), nil)
	socket.write(id, frame(1, "still here"))
	test.eq(expect "data", { "data", fd, "still here", n = 3 })
	test.err(function() skynet.call(gate, "lua", "close") end, "call failed")
	-- At once, on the same port.
	again.port = port
	local _, port2 = skynet.call(gate, "lua", "open", again)
	test.eq(port2, port)
	socket.close((accept(gate, port2)))
	socket.close(id)
	skynet.kill(gate)
end)

test.case("the watchdog is told of an upgraded connection, with its request", function()
	local gate, port = open_gate { protocols = { "game" } }
	local tcp = assert(socket.open("127.0.0.1", port))
	socket.write(tcp, "GET / HTTP/1.1\r\n")
	local id, _, notice = connect(port, {
		Cookie = "who=me", Origin = "http://here", ["X-Real-IP"] = "10.0.0.9", ["Sec-WebSocket-Protocol"] = "game",
	})
	test.match(notice[3], "^127%.0%.0%.1:%d+$")
	local info = notice[4]
	test.eq(info.url, "/chat?x=1")
	test.eq(info.header.cookie, "who=me")
	test.eq(info.origin, "http://here")
	test.eq(info.real_ip, "10.0.0.9")
	test.eq(info.protocol, "game")
	test.eq(#told, 0)
	socket.close(id)
	socket.close(tcp)
	skynet.kill(gate)
end)

test.case("nothing is delivered before accept; then messages come whole and in order", function()
	local gate, port = open_gate()
	local id, fd = connect(port)
	socket.write(id, frame(1, "one") .. frame(2, "two", { fin = false }) .. frame(9, "p") .. frame(0, "!") .. frame(1, ""))
	skynet.sleep(2)
	test.eq(#told, 0)
	skynet.call(gate, "lua", "accept", fd)
	for _, text in ipairs { "one", "two!", "" } do
		test.eq(expect "data", { "data", fd, text, n = 3 })
	end
	test.eq(raw.next(id), "10:p")
	local big = ("x"):rep(65535)
	local bytes = frame(2, big)
	socket.write(id, bytes:sub(1, 40000))
	skynet.sleep(1)
	socket.write(id, bytes:sub(40001))
	test.ok(expect "data"[3] == big)
	socket.close(id)
	test.eq(expect "close", { "close", fd, nil, nil, n = 4 })
	skynet.kill(gate)
end)

test.case("forward hands the payload to an agent, which answers to the fd", function()
	local gate, port = open_gate()
	local agent = skynet.newservice "sv_wsagent"
	local id, fd = connect(port)
	skynet.call(gate, "lua", "forward", fd, 0x77, agent)
	socket.write(id, frame(1, "hello") .. frame(2, ""))
	test.eq(raw.next(id), "1:re:hello")
	test.eq(raw.next(id), "1:re:")
	test.eq(skynet.call(agent, "lua", "notes"), { { fd, 0x77, "hello" }, { fd, 0x77, "" } })
	-- Without a client the gate is the source; then back to the watchdog.
	local id2, fd2 = connect(port)
	skynet.call(gate, "lua", "forward", fd2, nil, agent)
	socket.write(id2, frame(1, "own"))
	test.eq(raw.next(id2), "1:re:own")
	test.eq(skynet.call(agent, "lua", "notes")[3], { fd2, gate, "own" })
	skynet.call(gate, "lua", "accept", fd2)
	socket.write(id2, frame(1, "mine"))
	test.eq(expect "data", { "data", fd2, "mine", n = 3 })
	-- An agent that is gone.
	skynet.call(agent, "lua", "exit")
	socket.write(id, frame(1, "anybody?"))
	test.match(raw.next(id), "^8:1011:")
	socket.write(id, raw.close_frame(1011))
	test.eq(raw.next(id), "end")
	test.eq(expect("close", fd)[3], 1011)
	test.err(function() skynet.call(gate, "lua", "forward", 99999) end, "call failed")
	test.err(function() skynet.call(gate, "lua", "accept", 99999) end, "call failed")
	test.err(function() skynet.call(gate, "lua", "dance") end, "call failed")
	skynet.call(gate, "lua", "kick", 99999)
	socket.close(id)
	socket.close(id2)
	skynet.kill(gate)
end)

test.case("answers: text, binary, blocks, to many at once", function()
	local gate, port = open_gate()
	local a, fa = accept(gate, port)
	local b, fb = accept(gate, port)
	test.eq(wsgate.send(fa, "bin"), true)
	test.eq(wsgate.send(fa, "text", "text"), true)
	local msg, sz = skynet.pack("block")
	local text = skynet.tostring(msg, sz)
	test.eq(wsgate.send(fa, msg, sz), true)
	test.eq(raw.next(a), "2:bin")
	test.eq(raw.next(a), "1:text")
	test.eq(raw.next(a), "2:" .. text)
	wsgate.broadcast({ fa, fb, 99999 }, "all", "text")
	test.eq(raw.next(a), "1:all")
	test.eq(raw.next(b), "1:all")
	test.eq(wsgate.send(99999, "x"), false)
	test.err(function() wsgate.send(fa, "\xff", "text") end, "UTF-8")
	test.err(function() wsgate.send(fa, "x", "json") end, "text or binary")
	socket.close(a)
	socket.close(b)
	skynet.kill(gate)
end)

test.case("kick sends a close frame, and the watchdog is told when it is over", function()
	local gate, port = open_gate()
	local id, fd = accept(gate, port)
	skynet.call(gate, "lua", "kick", fd, 4002, "bye")
	-- Nothing may follow the close frame, whoever sends.
	test.eq(wsgate.send(fd, "late"), false)
	test.eq(wsgate.send(fd, skynet.pack "late"), false)
	wsgate.broadcast({ fd }, "late")
	test.eq(raw.next(id), "8:4002:bye")
	socket.write(id, frame(1, "late") .. raw.close_frame(4002))
	test.eq(raw.next(id), "end")
	test.eq(expect "close", { "close", fd, 4002, "bye", n = 4 })
	test.eq(#told, 0)
	socket.close(id)
	-- Before accept, too; and without an answer it ends in time.
	id, fd = connect(port)
	skynet.call(gate, "lua", "kick", fd)
	test.eq(raw.next(id), "8:1000:")
	test.eq(raw.next(id), "end")
	expect("close", fd)
	socket.close(id)
	skynet.kill(gate)
end)

test.case("the peer's close: code and reason for the watchdog", function()
	local gate, port = open_gate()
	local id, fd = accept(gate, port)
	socket.write(id, frame(1, "last") .. raw.close_frame(1001, "away"))
	test.eq(raw.next(id), "8:1001:")
	test.eq(raw.next(id), "end")
	test.eq(expect "data"[3], "last")
	test.eq(expect "close", { "close", fd, 1001, "away", n = 4 })
	socket.close(id)
	skynet.kill(gate)
end)

test.case("what is no upgrade is refused, and the watchdog hears nothing", function()
	local gate, port = open_gate { path = "/ws", origins = { "http://good" }, maxclient = 20 }
	local good = { Origin = "http://good" }
	local cases = {
		{ { Upgrade = false, Origin = "http://good" }, "426", "GET /ws HTTP/1.1" },
		{ good, "404", "GET /other HTTP/1.1" },
		{ { Origin = "http://evil" }, "403", "GET /ws HTTP/1.1" },
		{ {}, "403", "GET /ws HTTP/1.1" },
		{ good, "505", "GET /ws HTTP/1.0" },
		{ good, "400", "POST /ws HTTP/1.1" },
		{ good, "400", "\0\1\2" },
		{ { X = ("x"):rep(9000) }, "413", "GET /ws HTTP/1.1" },
		{ { ["a b"] = "x" }, "400", "GET /ws HTTP/1.1" },
	}
	for _, c in ipairs(cases) do
		local id = assert(socket.open("127.0.0.1", port))
		socket.write(id, raw.request(c[1], c[3]))
		test.match(socket.readall(id), "^HTTP/1.1 " .. c[2] .. " ")
		socket.close(id)
	end
	local id = assert(socket.open("127.0.0.1", port))
	for c in raw.request(good, "GET /ws?a=b HTTP/1.1"):gmatch "." do
		socket.write(id, c)
	end
	test.eq(#told, 0)
	test.match(socket.readline(id, "\r\n\r\n"), " 101 ")
	expect "open"
	socket.close(id)
	expect "close"
	test.eq(#told, 0)
	skynet.kill(gate)
end)

test.case("exactly maxclient fit, the next is closed at once", function()
	local gate, port = open_gate { maxclient = 2 }
	local a = connect(port)
	local b = connect(port)
	local c = assert(socket.open("127.0.0.1", port))
	test.eq(socket.read(c, 1), false)
	socket.close(c)
	socket.close(a)
	expect "close"
	c = connect(port)
	socket.close(b)
	socket.close(c)
	skynet.kill(gate)
end)

test.case("connections of one address are limited", function()
	local gate, port = open_gate { max_per_peer = 2 }
	local a = connect(port)
	local b = connect(port)
	local c = socket.open("127.0.0.1", port)
	if c then
		test.eq(socket.read(c, 1), false)
		socket.close(c)
	end
	socket.close(a)
	socket.close(b)
	skynet.kill(gate)
end)

test.case("slow upgrades, silent clients and those without a first message are dropped", function()
	local gate, port = open_gate { handshake_timeout = 10 }
	local id = assert(socket.open("127.0.0.1", port))
	socket.write(id, "GET / HTTP/1.1\r\n")
	test.match(socket.readall(id), "^HTTP/1.1 408 ")
	socket.close(id)
	skynet.kill(gate)
	gate, port = open_gate { first_timeout = 100 }
	local fd
	id, fd = accept(gate, port)
	test.match(raw.next(id), "^8:1008:no message in time")
	socket.close(id)
	test.eq(expect("close", fd)[3], 1008)
	-- One that has spoken may be silent.
	id, fd = connect(port)
	socket.write(id, frame(9, "sync") .. frame(1, "in time"))
	skynet.call(gate, "lua", "accept", fd)
	test.eq(raw.next(id), "10:sync")
	expect "data"
	skynet.sleep(150)
	socket.write(id, frame(1, "later"))
	test.eq(expect "data", { "data", fd, "later", n = 3 })
	socket.close(id)
	skynet.kill(gate)
	gate, port = open_gate { idle_timeout = 200, ping_interval = 3 }
	id, fd = accept(gate, port)
	test.eq(raw.next(id), "9:")
	repeat until raw.next(id) == "end"
	expect("close", fd)
	socket.close(id)
	skynet.kill(gate)
end)

local function flood(id, n)
	local pieces = {}
	for i = 1, n do
		pieces[i] = frame(i % 2 == 0 and 1 or 10, "m" .. i)
	end
	socket.write(id, table.concat(pieces))
end

local function data_number()
	local n = 0
	for _, t in ipairs(told) do
		n = n + (t[1] == "data" and 1 or 0)
	end
	return n
end

test.case("a client that floods is closed with 1008, or slowed down", function()
	local gate, port = open_gate { package_rate = 1, package_burst = 5, rate_policy = "close" }
	local id, fd = accept(gate, port)
	flood(id, 50)
	test.match(raw.next(id), "^8:1008:too many messages")
	socket.close(id)
	test.eq(expect("close", fd)[3], 1008)
	test.eq(data_number(), 3)
	skynet.kill(gate)
	gate, port = open_gate { package_rate = 200, package_burst = 10 }
	id, fd = accept(gate, port)
	local from = skynet.now()
	flood(id, 110)
	test.wait_for(function() return data_number() == 55 end)
	test.ok(skynet.now() - from >= 45)
	socket.write(id, raw.close_frame(1000))
	test.eq(raw.next(id), "8:1000:")
	expect("close", fd)
	socket.close(id)
	skynet.kill(gate)
	-- By bytes, of both connections of the address.
	gate, port = open_gate { address_byte_rate = 10000 }
	local a, fa = accept(gate, port)
	local b, fb = accept(gate, port)
	from = skynet.now()
	socket.write(a, frame(1, ("x"):rep(9000)))
	expect "data"
	socket.write(b, frame(1, ("x"):rep(6000)))
	expect "data"
	socket.write(b, frame(1, "later"))
	expect "data"
	test.ok(skynet.now() - from >= 40)
	socket.close(a)
	socket.close(b)
	expect("close", fa)
	expect("close", fb)
	skynet.kill(gate)
end)

test.case("who comes back finds what is left of its address's share", function()
	local gate, port = open_gate { address_package_rate = 1, address_package_burst = 100, rate_policy = "close" }
	local id, fd = accept(gate, port)
	flood(id, 120)
	test.match(raw.next(id), "^8:1008:too many messages")
	socket.close(id)
	expect("close", fd)
	id, fd = accept(gate, port)
	flood(id, 60)
	test.match(raw.next(id), "^8:1008:too many messages")
	socket.close(id)
	expect("close", fd)
	skynet.kill(gate)
end)

test.case("bad input: each is answered with its code, and others go on", function()
	local gate, port = open_gate { maxpackage = 100, kind = "text", deflate = { window_bits = 15 } }
	local other, other_fd = accept(gate, port)
	local cases = {
		{ frame(1, ("x"):rep(101)), "8:1009:" },
		{ frame(1, "", { length = 1 << 50 }), "8:1009:" },
		{ frame(2, "x"), "8:1003:" },
		{ frame(1, "\xff"), "8:1007:" },
		{ frame(1, "x", { mask = false }), "8:1002:" },
		{ frame(1, "\xff\xff\xff\xff", { rsv = 4 }), "8:1007:" },
		{ frame(5, "x"), "8:1002:" },
		{ frame(9, ("x"):rep(126)), "8:1002:" },
		{ "\xff" .. ("\xff"):rep(5000), "8:1002:" },
	}
	for i, c in ipairs(cases) do
		local id, head = raw.connect(port, { ["Sec-WebSocket-Extensions"] = "permessage-deflate" })
		test.match(head, "permessage%-deflate")
		local fd = expect "open"[2]
		skynet.call(gate, "lua", "accept", fd)
		socket.write(id, c[1])
		test.eq(raw.next(id):match "^8:%d+:", c[2], "case " .. i)
		socket.write(id, ("junk"):rep(1000))
		test.eq(raw.next(id), "end")
		socket.close(id)
		expect("close", fd)
	end
	socket.write(other, frame(1, "\xf2\x48\xcd\xc9\xc9\x07\x00", { rsv = 4 }))
	test.match(raw.next(other), "^8:1002:") -- it has not agreed on compression
	socket.close(other)
	expect("close", other_fd)
	test.eq(#told, 0)
	-- Half-closed, and reset within a message.
	local id, fd = accept(gate, port)
	socket.write(id, frame(1, "half", { length = 50 }))
	socket.close(id)
	expect("close", fd)
	id, fd = connect(port, { ["Sec-WebSocket-Extensions"] = "permessage-deflate" })
	skynet.call(gate, "lua", "accept", fd)
	socket.write(id, frame(1, "\xf2\x48\xcd\xc9\xc9\x07\x00", { rsv = 4 }))
	test.eq(expect "data"[3], "Hello")
	socket.write(id, frame(1, "x", { length = 50 }))
	socket.shutdown(id)
	socket.close(id)
	expect("close", fd)
	skynet.kill(gate)
end)

test.case("a client that reads nothing is dropped at send_limit", function()
	local gate, port = open_gate { send_limit = 100000 }
	local id, fd = accept(gate, port)
	socket.pause(id)
	local piece = ("x"):rep(50000)
	test.wait_for(function()
		return not wsgate.send(fd, piece)
	end)
	expect("close", fd)
	socket.close(id)
	skynet.kill(gate)
end)

test.case("what comes before accept has a bound", function()
	local gate, port = open_gate()
	local id, fd = connect(port)
	local piece = frame(2, ("x"):rep(60000))
	for _ = 1, 200 do
		socket.write(id, piece)
	end
	skynet.sleep(10)
	skynet.call(gate, "lua", "accept", fd)
	for _ = 1, 200 do
		test.eq(#expect "data"[3], 60000)
	end
	socket.close(id)
	expect("close", fd)
	skynet.kill(gate)
end)

test.case("wrong settings are refused by name", function()
	local gate = skynet.newservice "wsgate"
	for _, conf in ipairs { { maxpackage = -1 }, { package_rate = -1 }, { kind = "json" }, { maxclient = "x" },
		{ ping_interval = 0 }, { path = 1 }, { origins = "x" }, { protocols = { 1 } }, { rate_policy = "x" },
		{ deflate = true, tls = {} }, { deflate = 1 }, { deflate = { window_bits = 20 } }, { deflate = { level = 0 } } } do
		conf.address, conf.port = "127.0.0.1", 0
		test.err(function() skynet.call(gate, "lua", "open", conf) end, "call failed")
	end
	test.err(function() skynet.call(gate, "lua", "open", {}) end, "call failed")
	test.ok(skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0 }))
	skynet.kill(gate)
end)

test.case("the end of the gate closes its connections", function()
	local gate, port = open_gate()
	local id = accept(gate, port)
	skynet.kill(gate)
	test.eq(raw.next(id), "end")
	socket.close(id)
	test.eq((socket.open("127.0.0.1", port)), nil)
end)

test.case("a handler that yields keeps the order, and errors end nothing", function()
	local gate, port = watchdog.open "sv_wsslow"
	local id = raw.connect(port)
	local want = {}
	for i = 1, 20 do
		socket.write(id, frame(1, i == 7 and "raise" or "m" .. i))
		want[i] = i ~= 7 and "m" .. i or nil
	end
	for i = 1, 20 do
		if want[i] then
			test.eq(raw.next(id), "2:" .. want[i])
		end
	end
	socket.close(id)
	skynet.kill(gate)
end)

watchdog.run()
