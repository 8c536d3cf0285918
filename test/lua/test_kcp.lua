-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- skynet.kcp and the kcpgate: over loopback, and through a relay that loses, repeats and
-- reorders datagrams. The protocol itself is tested in test/unit/test_kcp.c.

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local driver = require "skynet.socketdriver"
local kcp = require "skynet.kcp"
local core = require "kcp.core"
local packet = require "skynet.kcp.packet"
local kcpgate = require "snax.kcpgate"
local rt = require "rt"
local test = require "testlib"

local HOST = "127.0.0.1"

-- A server that keeps its connections; accepted[1] is the first.
local function serve(options, on_connection)
	local accepted = {}
	local server = kcp.listen(HOST, 0, options, on_connection or function(c)
		accepted[#accepted + 1] = c
	end)
	return server, accepted
end

-- Both ends of a connection.
local function pair(options)
	local server, accepted = serve(options)
	local client = assert(kcp.connect(HOST, server.port, options))
	test.wait_for(function() return accepted[1] end)
	return client, accepted[1], server
end

-- A port whose datagrams go to `port` and back, with `percent` lost, as many said twice,
-- and each late by up to `delay`.
local function bad_link(port, percent, delay)
	local out = {}
	local id
	local function pass(send)
		if math.random(100) <= percent then
			return
		end
		for _ = 1, math.random(100) <= percent and 2 or 1 do
			skynet.timeout(math.random(0, delay), send)
		end
	end
	local relay = {}
	id = socket.udp(function(datagram, from)
		local up = out[from]
		if not up then
			up = socket.udp_dial(HOST, port, function(answer)
				pass(function()
					if id then
						socket.sendto(id, from, answer)
					end
				end)
			end)
			out[from] = up
		end
		pass(function()
			if id then
				socket.write(up, datagram)
			end
		end)
	end, HOST, 0)
	for _, info in ipairs(socket.netstat()) do
		if info.id == id then
			relay.port = tonumber(info.sock:match(":(%d+)$"))
		end
	end
	function relay.close()
		local old = id
		id = nil
		socket.close(old)
		for _, up in pairs(out) do
			socket.close(up)
		end
	end
	return relay
end

local function open_sockets()
	return #socket.netstat()
end

----------------------------------------------------------------- connections

test.case("messages arrive whole and in order, both ways", function()
	local client, peer, server = pair()
	for i = 1, 200 do
		test.ok(client:write("message " .. i))
	end
	for i = 1, 200 do
		test.eq(peer:receive(), "message " .. i)
		test.ok(peer:write(("x"):rep(i * 50)))
	end
	for i = 1, 200 do
		test.eq(#client:receive(), i * 50)
	end
	test.ok(client:stats().srtt >= 0)
	client:close()
	test.eq(table.pack(peer:receive()), table.pack(false, "closed by the peer"))
	test.wait_for(function() return server:connection_count() == 0 end)
	server:close()
end)

test.case("a bad link only takes longer", function()
	local server, accepted = serve { dead_link = 1000 }
	local link = bad_link(server.port, 20, 5)
	local client
	repeat -- an OPENED may be lost five seconds long, though hardly twice
		accepted[1] = nil
		client = kcp.connect(HOST, link.port, { dead_link = 1000 })
	until client
	local peer = test.wait_for(function() return accepted[1] end)
	local sums = { 0, 0 }
	local done = 0
	for n, end_of in ipairs { { client, peer }, { peer, client } } do
		skynet.fork(function()
			for i = 1, 100 do
				test.ok(end_of[1]:write(string.pack("<I4", i) .. ("z"):rep(i * 50)))
			end
		end)
		skynet.fork(function()
			for i = 1, 100 do
				local text = end_of[2]:receive()
				assert(string.unpack("<I4", text) == i and #text == 4 + i * 50)
				sums[n] = sums[n] + i
			end
			done = done + 1
		end)
	end
	test.wait_for(function() return done == 2 end, 18000)
	test.eq(sums, { 5050, 5050 })
	client:close()
	link.close()
	server:close()
end)

test.case("a stream is read as a socket is", function()
	local client, peer, server = pair { stream = true }
	client:write("one\ntwo\r\n")
	client:write("0123456789")
	test.eq(peer:readline(), "one")
	test.eq(peer:readline("\r\n"), "two")
	test.eq(peer:read(4), "0123")
	test.eq(peer:read(0), "")
	test.eq(peer:read(), "456789")
	test.eq(table.pack(peer:read(1, 1)), table.pack(nil, "timeout"))
	test.err(function() peer:read(-1) end, "can read 0 to")
	client:write("the rest")
	client:close()
	test.eq(peer:readall(), "the rest")
	test.eq(table.pack(peer:read(5)), table.pack(false, ""))
	server:close()
end)

test.case("what was written before close arrives", function()
	local client, peer, server = pair { stream = true }
	local blob = ("0123456789abcdef"):rep(16384)
	local got
	skynet.fork(function() got = peer:readall() end)
	test.ok(client:write(blob))
	client:close()
	test.wait_for(function() return got end)
	test.ok(got == blob, "all of it")
	server:close()
end)

test.case("a peer that reads nothing costs its window and its buffer", function()
	local client, peer, server = pair { send_limit = 2 * 1024 * 1024 }
	local message = ("m"):rep(1000)
	local sent = 0
	while client:write(message) do
		sent = sent + 1
	end
	test.eq(table.pack(client:write(message)), table.pack(false, "full"))
	test.eq(sent, 2097)
	for _ = 1, sent do
		test.eq(peer:receive(), message)
	end
	client:close()
	server:close()
end)

test.case("messages have a largest size", function()
	local client, _, server = pair()
	local most = 128 * (1400 - 24)
	test.eq(table.pack(client:write(("x"):rep(most + 1))), table.pack(false, "too large"))
	test.ok(client:write(("x"):rep(most)))
	test.err(function() client:write("") end, "empty")
	client:shutdown()
	test.eq(table.pack(client:write("x")), table.pack(false, "closed"))
	test.eq(client:stats(), nil)
	server:close()
end)

test.case("a silent peer is noticed, a live one is not", function()
	local options = { idle_timeout = 500, keepalive = 50 }
	local client, peer, server = pair(options)
	-- A client that vanishes without a word.
	local gone, left, other = pair(options)
	local say_end = gone.on_end
	gone.on_end = function() end
	gone:shutdown()
	skynet.sleep(600) -- longer than idle_timeout: only the probes keep one alive
	test.ok(client:write("still there"))
	test.eq(peer:receive(), "still there")
	test.eq(table.pack(left:receive()), table.pack(false, "timeout"))
	client:close()
	test.wait_for(function() return server:connection_count() == 0 end)
	server:close()
	other:close()
	say_end(gone, "closed by the peer")
end)

test.case("a peer that says twice that it closed", function()
	local client, peer, server = pair()
	client:close()
	test.wait_for(function() return peer:disconnected() end)
	peer:peer_closed()
	server:close()
	-- Here and in the cases before: what a callback raises is only in the log.
	test.eq(rt.lines("bad self", 1), {})
end)

test.case("a flood of bad datagrams is no flood of lines", function()
	local N, MAX_LINES = 110, 100
	local server, accepted = serve { max_per_address = N }
	local clients = {}
	for i = 1, N do
		clients[i] = assert(kcp.connect(HOST, server.port))
	end
	test.wait_for(function() return #accepted == N end)
	local from, begin = rt.mark(), skynet.now()
	for i = 1, N do
		accepted[i]:input "garbage"
	end
	local seconds = (skynet.now() - begin) // 100 + 1 -- one, unless the machine stops meanwhile
	local lines = #rt.lines("datagram from", from)
	test.ok(lines >= MAX_LINES and lines <= seconds * MAX_LINES, "lines: " .. lines)
	for i = 1, N do
		clients[i]:shutdown()
	end
	server:close()
end)

test.case("nobody answers: connect gives up", function()
	-- What the cases before had open is closed in the background.
	test.wait_for(function() return open_sockets() == 0 end)
	local silent = socket.udp(function() end, HOST, 0)
	local port
	for _, info in ipairs(socket.netstat()) do
		port = info.id == silent and tonumber(info.sock:match(":(%d+)$")) or port
	end
	test.eq(table.pack(kcp.connect(HOST, port, { connect_timeout = 30 })),
		table.pack(nil, "connect timeout"))
	test.wait_for(function() return open_sockets() == 1 end)
	socket.close(silent)
end)

test.case("limits refuse with a reason", function()
	local server = serve { max_connections = 1 }
	local client = assert(kcp.connect(HOST, server.port))
	test.eq(table.pack(kcp.connect(HOST, server.port)),
		table.pack(nil, "the server takes no more connections"))
	client:close()
	test.wait_for(function() return server:connection_count() == 0 end)
	test.ok(kcp.connect(HOST, server.port)):close()
	server:close()
	server = serve { max_per_address = 1 }
	client = assert(kcp.connect(HOST, server.port))
	test.ok(not kcp.connect(HOST, server.port))
	client:close()
	test.eq(table.pack(kcp.connect(HOST, server.port, { stream = true })),
		table.pack(nil, "one side wants a stream, the other messages"))
	server:close()
end)

test.case("options are checked", function()
	test.err(function() kcp.connect(HOST, 1, { windows = 1 }) end, "unknown kcp option 'windows'")
	test.err(function() kcp.connect(HOST, 1, { mtu = "1400" }) end, "'mtu' must be a number")
	test.err(function() kcp.connect(HOST, 1, { plain = true }) end, "needs 'conv'")
	test.err(function() serve { mtu = 10 } end, "kcp option 'mtu' is out of range: 64 to 65507, got 10")
	test.err(function() serve { interval = 0 } end, "kcp option 'interval' is out of range: 10 to 5000")
	test.err(function() serve { send_limit = -1 } end, "kcp option 'send_limit' is out of range: 0 to")
	test.eq(table.pack(kcp.connect(test.NO_HOST, 1)), table.pack(nil,
		"udp dial host failed: " .. test.NO_HOST .. ": Name or service not known"))
end)

----------------------------------------------------------------- strangers

-- Sends datagrams to a server and collects what comes back.
local function stranger(port)
	local s = { answers = {} }
	s.id = socket.udp_dial(HOST, port, function(datagram)
		s.answers[#s.answers + 1] = datagram
	end)
	function s:send(datagram) socket.write(self.id, datagram) end
	function s:close() socket.close(self.id) end
	return s
end

-- Waits until the server has looked at all that was sent before.
local function settle(port)
	local c = assert(kcp.connect(HOST, port))
	c:close()
end

test.case("the server remembers nothing of who did not show a cookie", function()
	local server = serve()
	local s = stranger(server.port)
	local nonce = ("n"):rep(16)
	for _ = 1, 100 do
		s:send(packet.pack(packet.HELLO, nonce))
	end
	s:send(packet.pack(packet.OPEN, nonce .. ("c"):rep(16)))
	s:send(packet.pack(packet.CLOSE, "\1\0\0\0" .. ("c"):rep(16)))
	s:send("")
	s:send("short")
	s:send(("\0"):rep(65000))
	s:send(string.pack("<I4BBI2I4I4I4I4", 99, 81, 0, 128, 0, 0, 0, 0))
	settle(server.port)
	test.wait_for(function() return #s.answers == 100 end)
	for _, answer in ipairs(s.answers) do
		test.ok(#answer < #packet.pack(packet.HELLO, nonce), "an answer is shorter than its question")
	end
	test.wait_for(function() return server:connection_count() == 0 end)
	test.eq(next(server.opened), nil)
	test.eq(next(server.cookies), nil)
	s:close()
	server:close()
end)

test.case("garbage in a conversation ends that one only", function()
	local client, peer, server = pair()
	local other = assert(kcp.connect(HOST, server.port))
	-- From a stranger's address: not even looked at.
	local s = stranger(server.port)
	for key in pairs(server.connections) do
		s:send(key:sub(1, 4) .. ("\xff"):rep(20))
	end
	settle(server.port)
	test.eq(server:connection_count() >= 2, true)
	-- From the client's own.
	peer:input(string.pack("<I4", peer.options.conv) .. ("\xff"):rep(20))
	test.eq(table.pack(peer:receive()), table.pack(false, "protocol error"))
	test.ok(other:write("fine"))
	client:shutdown()
	other:close()
	s:close()
	server:close()
end)

-- A word each way, then the client goes.
local function greet(client, accepted)
	client:write("hello")
	test.wait_for(function() return accepted[1] end)
	test.eq(accepted[1]:receive(), "hello")
	accepted[1]:write("welcome")
	test.eq(client:receive(), "welcome")
	client:shutdown()
end

test.case("plain KCP, without the handshake", function()
	local server, accepted = serve { plain = true }
	local client = assert(kcp.connect(HOST, server.port, { plain = true, conv = 4711 }))
	greet(client, accepted)
	server:close()
end)

test.case("a plain client waits for somebody who knows the conversation", function()
	local server, accepted = serve { plain = true }
	local stranger = socket.udp(function() end, HOST, 0)
	local front, back, of_client
	front = socket.udp(function(datagram, from)
		if not of_client then
			of_client = from
			socket.sendto(stranger, from, "garbage")
			socket.sendto(stranger, from, ("x"):rep(24))
			skynet.sleep(5)
		end
		socket.write(back, datagram)
	end, HOST, 0)
	back = socket.udp_dial(HOST, server.port, function(datagram)
		socket.sendto(front, of_client, datagram)
	end)
	local port
	for _, info in ipairs(socket.netstat()) do
		port = info.id == front and tonumber(info.sock:match ":(%d+)$") or port
	end
	local client = assert(kcp.connect(HOST, port, { plain = true, conv = 4711 }))
	greet(client, accepted)
	server:close()
	for _, id in ipairs { stranger, front, back } do
		socket.close(id)
	end
end)

test.case("the core tells errors of its output function", function()
	local k = core.new({ conv = 1 }, function() error("no network", 0) end)
	k:send("x")
	test.err(function() k:flush(0) end, "no network")
	test.ok(k:wait(0))
	k:close()
	test.err(function() k:flush(0) end, "closed")
	test.err(function() core.new({ conv = -1 }, print) end, "conv must be")
	test.err(function() core.new({}, 1, "x") end, "not the address")
end)

----------------------------------------------------------------- gate

local watched = {}

local function next_notice()
	test.wait_for(function() return watched[1] end)
	return table.remove(watched, 1)
end

local function open_gate(conf)
	local gate = skynet.newservice "kcpgate"
	conf.address, conf.port = HOST, 0
	local _, port = skynet.call(gate, "lua", "open", conf)
	return gate, port
end

test.case("a gate tells its watchdog and hands messages to agents", function()
	local gate, port = open_gate {}
	local client = assert(kcp.connect(HOST, port))
	local open = next_notice()
	test.eq({ open[1], open[2] }, { "socket", "open" })
	local fd = open[3]
	test.ok(open[4]:match("^127%.0%.0%.1:%d+$"))
	client:write("before accept")
	skynet.call(gate, "lua", "accept", fd)
	test.eq(next_notice(), { "socket", "data", fd, "before accept" })
	local agent = rt.agent()
	rt.run(agent, [[
		local kcpgate = require "snax.kcpgate"
		local gate = select(3, ...)
		skynet.register_protocol {
			name = "client",
			id = skynet.PTYPE_CLIENT,
			unpack = skynet.tostring,
			dispatch = function(fd, source, text)
				skynet.ignoreret()
				kcpgate.send(gate, fd, text:upper())
			end,
		}
		skynet.retpack()
	]], gate)
	skynet.call(gate, "lua", "forward", fd, nil, agent)
	client:write("to the agent")
	test.eq(client:receive(), "TO THE AGENT")
	skynet.call(gate, "lua", "kick", fd)
	test.eq(table.pack(client:receive()), table.pack(false, "closed by the peer"))
	test.eq(next_notice(), { "socket", "close", fd })
	test.err(function() skynet.call(gate, "lua", "forward", fd) end)
	skynet.call(gate, "lua", "kick", fd) -- unknown: no error
	skynet.kill(agent)
	skynet.call(gate, "lua", "close")
	skynet.kill(gate)
end)

test.case("a gate bounds what a client may do", function()
	local gate, port = open_gate { rate = 10, burst = 5, maxclient = 1 }
	local client = assert(kcp.connect(HOST, port))
	local fd = next_notice()[3]
	skynet.call(gate, "lua", "accept", fd)
	test.ok(not kcp.connect(HOST, port), "a second one is refused")
	for i = 1, 50 do
		client:write("flood " .. i)
	end
	local last
	repeat
		last = next_notice()
	until last[2] ~= "data"
	test.eq(last, { "socket", "close", fd })
	test.err(function() skynet.call(gate, "lua", "open", { port = 0 }) end)
	skynet.call(gate, "lua", "close")
	test.err(function() skynet.call(gate, "lua", "close") end)
	for why, conf in pairs {
		["'rate' must be a number, 0.01 or more, got 0"] = { rate = 0 },
		["'burst' must be a number, 1 or more, got x"] = { burst = "x" },
		["'maxclient' must be a number, 1 or more, got many"] = { maxclient = "many" },
		["it has no option 'tls'"] = { tls = {} },
		["'kcp' must be a table of options"] = { kcp = 5 },
		["unknown kcp option 'windows'"] = { kcp = { windows = 5 } },
		["'port' must be a whole number"] = { port = "x" },
	} do
		conf.port = conf.port or 0
		test.err(function() skynet.call(gate, "lua", "open", conf) end, why)
	end
	skynet.kill(gate)
end)

test.case("a client is not read while its watchdog lags behind, and nothing is lost", function()
	local mark = rt.mark()
	local gate, port = open_gate { rate = 1000000, agent_limit = 1 }
	local client = assert(kcp.connect(HOST, port))
	local fd = next_notice()[3]
	skynet.call(gate, "lua", "accept", fd)
	local sent, got = 0, 0
	test.wait_for(function()
		for _ = 1, 50 do
			if client:write(tostring(sent + 1)) then
				sent = sent + 1
			end
		end
		return #rt.lines("kcpgate: stop reading 127.* while more than 1 bytes wait for .* %(agent_limit%)", mark) > 0
	end)
	while got < sent do
		got = got + 1
		test.eq(next_notice(), { "socket", "data", fd, tostring(got) })
	end
	client:close()
	test.eq(next_notice(), { "socket", "close", fd })
	skynet.kill(gate)
end)

test.case("a peer is an IPv4 address, or the /64 network of an IPv6 one", function()
	local function v6(hex)
		return "\2\1\2" .. hex:gsub("%x%x", function(b) return string.char(tonumber(b, 16)) end)
	end
	local host = v6 "20010db8000100010000000000000001"
	test.eq(packet.peer_of(host), packet.peer_of(v6 "20010db800010001ffff000000000002"))
	test.ok(packet.peer_of(host) ~= packet.peer_of(v6 "20010db8000100020000000000000001"))
	local v4 = "\1\1\2\192\0\2\1"
	test.eq(packet.peer_of(v4), packet.peer_of(v6 "00000000000000000000ffffc0000201"))
	test.ok(packet.peer_of(v4) ~= packet.peer_of(v6 "00000000000000000000ffffc0000202"))
	test.ok(packet.peer_of(v4) ~= packet.peer_of("\1\1\2\192\0\2\2"))
end)

-- Of the UDP sockets of this service; what the system ends looks the same.
local function end_socket(port)
	for _, info in ipairs(socket.netstat()) do
		if info.type == "UDP" and info.address == skynet.self() and (not port or info.sock == HOST .. ":" .. port) then
			driver.shutdown(info.id)
		end
	end
end

test.case("what becomes of connections whose socket the system ends", function()
	local mark = rt.mark()
	local client, accepted, server = pair()
	local why
	client:on_close(function(reason) why = reason end)
	end_socket(server.port)
	test.eq(table.pack(accepted:receive()), table.pack(false, "socket closed"))
	test.wait_for(function() return rt.logged("kcp: the socket of 127.0.0.1:" .. server.port .. " has ended, and with it 1 connections", mark) end)
	test.eq(server:connection_count(), 0)
	server:close()
	end_socket()
	test.wait_for(function() return why end)
	test.eq(why, "socket closed")
	-- Nobody answers.
	local silent = socket.udp(function() end, HOST, 0)
	local port
	for _, info in ipairs(socket.netstat()) do
		port = info.id == silent and info.sock:match ":(%d+)$" or port
	end
	local begin = skynet.now()
	skynet.timeout(5, end_socket)
	test.eq(table.pack(kcp.connect(HOST, tonumber(port), { connect_timeout = 6000 })), table.pack(nil, "socket closed"))
	test.ok(skynet.now() - begin < 3000)
	socket.close(silent)
end)

test.case("a dead agent ends its connection; a silent client is closed", function()
	local gate, port = open_gate { first_timeout = 20 }
	local client = assert(kcp.connect(HOST, port))
	local fd = next_notice()[3]
	local agent = rt.agent()
	skynet.call(gate, "lua", "forward", fd, nil, agent)
	skynet.kill(agent)
	client:write("anybody?")
	test.eq(next_notice(), { "socket", "close", fd })
	local silent = assert(kcp.connect(HOST, port))
	fd = next_notice()[3]
	skynet.call(gate, "lua", "accept", fd)
	test.eq(next_notice(), { "socket", "close", fd })
	test.eq(table.pack(silent:receive()), table.pack(false, "closed by the peer"))
	skynet.kill(gate)
end)

skynet.init(function()
	skynet.dispatch("lua", function(_, _, ...)
		watched[#watched + 1] = { ... }
	end)
end)

test.run()
