-- skynet.socketdriver: buffers, addresses, raw events (net.md 1.22, 2.6, 3.4).
-- also with: socket_thread = 3

local skynet = require "skynet.manager"
local driver = require "skynet.socketdriver"
local test = require "testlib"

local DATA, CONNECT, CLOSE, ACCEPT, ERROR, UDP, WARNING, SEND = 1, 2, 3, 4, 5, 6, 7, 8

local events = {}

skynet.register_protocol {
	name = "socket",
	id = skynet.PTYPE_SOCKET,
	unpack = driver.unpack,
	dispatch = function(_, _, kind, id, ud, payload, from)
		if type(payload) == "userdata" then
			local text = skynet.tostring(payload, ud)
			driver.drop(payload, ud)
			payload = text
		end
		table.insert(events, { kind = kind, id = id, ud = ud, text = payload, from = from })
	end,
}

local function take(kind, id)
	for i, e in ipairs(events) do
		if e.kind == kind and e.id == id then
			return table.remove(events, i)
		end
	end
end

local function event(kind, id)
	local e
	test.wait_for(function()
		e = take(kind, id)
		return e
	end)
	return e
end

local function listen()
	local id = driver.listen("127.0.0.1", 0)
	local e = event(CONNECT, id)
	test.eq(e.text, "127.0.0.1")
	driver.start(id)
	test.eq(event(CONNECT, id).text, "start")
	return id, e.ud
end

local function pair()
	local listener, port = listen()
	local client = driver.connect("127.0.0.1", port)
	test.eq(event(CONNECT, client).text, "127.0.0.1")
	local server = event(ACCEPT, listener).ud
	driver.start(server)
	test.eq(event(CONNECT, server).text, "start")
	driver.close(listener)
	return client, server
end

local function wait_bytes(id, want)
	local got = 0
	test.wait_for(function()
		local e = take(DATA, id)
		while e do
			got = got + #e.text
			e = take(DATA, id)
		end
		return got == want
	end, 2000)
end

local function info_of(id)
	for _, v in ipairs(driver.info()) do
		if v.id == id then
			return v
		end
	end
end

------------------------------------------------------------------ buffers

local function buffer_of(...)
	local b, pool = driver.buffer(), {}
	for _, s in ipairs { ... } do
		driver.push(b, pool, driver.str2p(s))
	end
	return b, pool
end

test.case("push tells the bytes buffered", function()
	local b, pool = driver.buffer(), {}
	test.eq(driver.push(b, pool, driver.str2p "abc"), 3)
	test.eq(driver.push(b, pool, driver.str2p "de"), 5)
end)

test.case("pop cuts across blocks and refuses more than there is", function()
	local b, pool = buffer_of("ab", "cd", "ef")
	test.eq({ driver.pop(b, pool, 1) }, { "a", 5 })
	test.eq({ driver.pop(b, pool, 3) }, { "bcd", 2 })
	test.eq(select("#", driver.pop(b, pool, 3)), 2)
	local s, n = driver.pop(b, pool, 3)
	test.eq(s, nil)
	test.eq(n, 2)
	s, n = driver.pop(b, pool, 0)
	test.eq(s, nil)
	test.eq(n, 2)
	test.err(function() driver.pop(b, pool, -1) end, "out of range")
	test.eq({ driver.pop(b, pool, 2) }, { "ef", 0 })
end)

test.case("readall takes everything, which may be nothing", function()
	local b, pool = buffer_of("ab", "", "cd")
	test.eq(driver.readall(b, pool), "abcd")
	test.eq(driver.readall(b, pool), "")
end)

test.case("readline finds separators across blocks", function()
	local b, pool = buffer_of("ab", "c\r", "\nde")
	test.eq(driver.readline(b, nil, "\r\n"), true)
	test.eq(driver.readline(b, pool, "\r\n"), "abc")
	test.eq(select("#", driver.readline(b, pool, "\r\n")), 0)
	test.eq(driver.readall(b, pool), "de")
	test.err(function() driver.readline(b, pool, "") end, "empty separator")
end)

test.case("readline goes on where it stopped, for any separator", function()
	local b, pool = driver.buffer(), {}
	for _ = 1, 100 do
		driver.push(b, pool, driver.str2p(("x"):rep(100)))
		test.eq(driver.readline(b, nil, "\r\n"), nil)
		test.eq(driver.readline(b, nil, "a long separator"), nil)
	end
	driver.push(b, pool, driver.str2p "\r")
	test.eq(driver.readline(b, nil, "\r\n"), nil)
	driver.push(b, pool, driver.str2p "\nrest")
	test.eq(driver.readline(b, nil, "xx\r"), true)
	test.eq(#driver.readline(b, pool, "\r\n"), 10000)
	test.eq(driver.readall(b, pool), "rest")
end)

test.case("readline agrees with string.find on random input", function()
	math.randomseed(20261121)
	for _ = 1, 300 do
		local b, pool, text = driver.buffer(), {}, ""
		local sep = ({ "a", "ab", "aab", "abab" })[math.random(4)]
		for _ = 1, math.random(30) do
			local piece = {}
			for i = 1, math.random(0, 4) do
				piece[i] = math.random(2) == 1 and "a" or "b"
			end
			piece = table.concat(piece)
			driver.push(b, pool, driver.str2p(piece))
			text = text .. piece
			local at = text:find(sep, 1, true)
			local line = driver.readline(b, pool, sep)
			if at then
				test.eq(line, text:sub(1, at - 1))
				text = text:sub(at + #sep)
			else
				test.eq(line, nil)
			end
		end
		test.eq(driver.readall(b, pool), text)
	end
end)

test.case("a push without memory frees the block and says so", function()
	local core = require "skynet.core"
	local memory = require "skynet.memory"
	local SIZE = 10000
	local text = ("x"):rep(SIZE)
	local b, pool = driver.buffer(), {}
	local before = memory.current()
	local pushed = 0
	local held, err
	collectgarbage()
	core.memlimit(memory.services()[skynet.self()].lua + 8000)
	for _ = 1, 1000 do
		held, err = driver.push(b, pool, driver.str2p(text))
		if not held then
			break
		end
		pushed = pushed + 1
	end
	core.memlimit(0)
	test.eq(held, nil)
	test.eq(err, "not enough memory")
	test.ok(pushed > 0)
	-- It still is what it was, and no block was left.
	test.eq(driver.push(b, pool, driver.str2p(text)), (pushed + 1) * SIZE)
	if memory.total() > 0 then
		test.wait_for(function()
			local grown = memory.current() - before
			return grown >= (pushed + 1) * SIZE and grown < (pushed + 2) * SIZE
		end)
	end
	test.eq(#driver.readall(b, pool), (pushed + 1) * SIZE)
end)

test.case("one pool serves many buffers", function()
	local pool, buffers = {}, {}
	for i = 1, 500 do
		buffers[i] = driver.buffer()
		driver.push(buffers[i], pool, driver.str2p("block " .. i))
	end
	for i = 1, 500 do
		test.eq(driver.readall(buffers[i], pool), "block " .. i)
	end
	local chunks = #pool
	for i = 1, 500 do
		driver.push(buffers[i], pool, driver.str2p("again"))
		driver.clear(buffers[i], pool)
	end
	test.eq(#pool, chunks)
	driver.clear(nil, pool)
end)

test.case("wrong arguments of the buffer functions raise", function()
	local p, n = driver.str2p "x"
	test.err(function() driver.push({}, {}, p, n) end, "need buffer object at param 1")
	driver.drop(p, n)
	test.err(function() driver.push(driver.buffer(), {}, nil, 1) end, "need message block at param 3")
end)

test.case("header is big-endian", function()
	test.eq(driver.header "\1\2", 258)
	test.eq(driver.header "\0\0\1\0", 256)
	test.eq(driver.header "\xff", 255)
	test.err(function() driver.header "" end, "Invalid read")
	test.err(function() driver.header "12345" end, "Invalid read 12345")
end)

test.case("the module opens in a service only", function()
	local registry = debug.getregistry()
	local path = assert(package.searchpath("skynet", package.cpath))
	local open = assert(package.loadlib(path, "luaopen_skynet_socketdriver"))
	local context = registry.skynet_context
	registry.skynet_context = nil
	local ok, err = pcall(open)
	registry.skynet_context = context
	test.eq(ok, false)
	test.match(err, "Init skynet context first")
	test.eq(type(open()), "table")
end)

---------------------------------------------------------------- addresses

test.case("address texts are checked", function()
	test.err(function() driver.connect "127.0.0.1" end, "Invalid address 127.0.0.1.")
	test.err(function() driver.connect "127.0.0.1:70000" end,
		"Invalid port in address 127.0.0.1:70000.")
	test.err(function() driver.connect ":80x" end, "Invalid port in address :80x.")
	test.err(function() driver.connect "127.0.0.1:" end, "Invalid port in address")
	test.err(function() driver.connect "127.0.0.1:0" end, "Invalid port")
	test.err(function() driver.connect("127.0.0.1", 0) end, "Invalid port")
	test.err(function() driver.connect("127.0.0.1", 65536) end, "Invalid port")
	test.err(function() driver.listen("127.0.0.1", -1) end, "Invalid port")
	test.err(function() driver.connect "[::1]80" end, "Invalid address [::1]80.")
	test.err(function() driver.connect "[::1" end, "Invalid address [::1.")
end)

test.case("listen on a foreign address raises", function()
	test.err(function() driver.listen("1.2.3.4", 9999) end, "Listen error")
end)

test.case("udp_address reads blobs and refuses others", function()
	test.eq({ driver.udp_address "\1\x49\x4d\127\0\0\1" }, { "127.0.0.1", 18765 })
	local v6 = "\2\0\80" .. ("\0"):rep(15) .. "\1"
	test.eq({ driver.udp_address(v6) }, { "::1", 80 })
	for _, bad in ipairs { "", "\1", "\1\0\0\1\2\3\4\5", "\3\0\0\1\2\3\4", "\2\0\0\1\2\3\4" } do
		test.err(function() driver.udp_address(bad) end, "Invalid udp address")
	end
end)

test.case("resolve gives each address once", function()
	test.eq(driver.resolve "127.0.0.1", { "127.0.0.1" })
	local seen = {}
	for _, a in ipairs(driver.resolve "localhost") do
		test.eq(seen[a], nil)
		seen[a] = true
	end
	test.ok(seen["127.0.0.1"])
	test.err(function() driver.resolve(test.NO_HOST) end, "Name or service not known")
end)

------------------------------------------------------------------ streams

test.case("every form of data is sent", function()
	local client, server = pair()
	local got = ""
	local function receive(want)
		got = ""
		test.wait_for(function()
			local e = take(DATA, server)
			got = got .. (e and e.text or "")
			return #got >= #want
		end)
		test.eq(got, want)
	end
	test.eq(driver.send(client, "string"), true)
	receive "string"
	test.eq(driver.send(client, 42), true)
	receive "42"
	test.eq(driver.send(client, { "tab", "le", 1 }), true)
	receive "table1"
	test.eq(driver.send(client, driver.str2p "block"), true)
	receive "block"
	test.eq(driver.lsend(client, "low"), true)
	receive "low"
	test.eq(driver.lsend(client, { "low", "table" }), true)
	receive "lowtable"
	test.eq(driver.send(client, {}), true)
	test.eq(driver.send(client, ""), true)
	driver.send(client, "x")
	receive "x"
	test.err(function() driver.send(client, { "a", true }) end, "boolean")
	test.err(function() driver.send(client, true) end, "")
	test.err(function() driver.send(client) end, "")
	driver.close(client)
	driver.close(server)
end)

test.case("sends to unknown ids are false, whatever they carry", function()
	test.eq(driver.send(99999, "x"), false)
	test.eq(driver.lsend(99999, "x"), false)
	test.eq(driver.send(99999, driver.str2p "x"), false)
	test.eq(driver.send(99999, { "x" }), false)
	test.eq(driver.send(0, "x"), false)
	test.eq(driver.send(-1, "x"), false)
	test.eq(driver.send(1 << 40, "x"), false)
end)

test.case("refused sends leak nothing", function()
	local memory = require "skynet.memory"
	local function send_all()
		for _ = 1, 1000 do
			driver.send(99999, driver.str2p(("x"):rep(1000)))
			driver.udp_send(99999, "\1\0\0\0\0\0\0", driver.str2p(("x"):rep(1000)))
		end
		collectgarbage()
	end
	send_all()
	local before = memory.current()
	send_all()
	test.ok(memory.current() - before < 100 * 1000, "refused blocks were not freed")
end)

test.case("a connect to nowhere is one error", function()
	-- A port that a listener has just left may be another test's by now.
	local id = driver.connect("127.0.0.1", 1)
	test.eq(event(ERROR, id).text, "Connection refused")
	id = driver.connect(test.NO_HOST, 80)
	test.eq(event(ERROR, id).text, "Name or service not known")
	test.eq(driver.connect(("a"):rep(232), 80), -1)
end)

test.case("a peer's close is told once and leaves the id writable", function()
	local client, server = pair()
	driver.close(client)
	event(CLOSE, client)
	event(CLOSE, server)
	test.eq(driver.send(server, "late"), true)
	driver.start(server)
	test.ok(event(ERROR, server))
	driver.close(server)
	skynet.sleep(2)
	test.eq(take(CLOSE, server), nil)
end)

test.case("closing with queued output tells CLOSING and delivers", function()
	local client, server = pair()
	driver.pause(server)
	-- More than the kernel takes.
	local size = 16 * 1024 * 1024
	test.eq(driver.send(client, ("z"):rep(size)), true)
	driver.close(client)
	event(CLOSE, client)
	test.eq(driver.send(client, "x"), false)
	test.eq(info_of(client).type, "CLOSING")
	driver.start(server)
	wait_bytes(server, size)
	event(CLOSE, server)
	-- The peer may hear of the end before the record is gone: another loop serves it.
	test.wait_for(function() return info_of(client) == nil end)
	driver.close(server)
end)

test.case("a stalled peer makes warnings that end with 0", function()
	local client, server = pair()
	driver.pause(server)
	local piece = ("w"):rep(128 * 1024)
	-- What the kernel takes in does not count.
	for _ = 1, 160 do
		driver.send(client, piece)
	end
	local first = event(WARNING, client).ud
	test.ok(first >= 1024 and first < 1024 + 256)
	local second = event(WARNING, client).ud
	test.ok(second >= 2048 and second < 2048 + 256)
	driver.start(server)
	wait_bytes(server, 160 * #piece)
	local last
	test.wait_for(function()
		last = (take(WARNING, client) or {}).ud
		return last == 0
	end)
	driver.close(client)
	driver.close(server)
end)

test.case("sending to a listener is accepted and dropped", function()
	local listener = listen()
	test.eq(driver.send(listener, "x"), true)
	driver.close(listener)
end)

test.case("info tells what a connection is", function()
	local client, server = pair()
	driver.send(client, "12345")
	event(DATA, server)
	local i = info_of(server)
	test.eq(i.type, "TCP")
	test.eq(i.address, skynet.self())
	test.eq(i.read, 5)
	test.eq(i.write, 0)
	test.eq(i.wbuffer, 0)
	test.eq(i.reading, true)
	test.eq(i.writing, false)
	test.ok(i.rtime > 0)
	test.match(i.peer, "^127%.0%.0%.1:%d+$")
	local listener, port = listen()
	i = info_of(listener)
	test.eq(i.type, "LISTEN")
	test.eq(i.sock, "127.0.0.1:" .. port)
	test.eq(i.accept, 0)
	for _, id in ipairs { client, server, listener } do
		driver.close(id)
	end
end)

test.case("another service may close what it does not own", function()
	local client, server = pair()
	local other = skynet.newservice("socketservant")
	skynet.call(other, "lua", "close", server)
	event(CLOSE, server)
	driver.close(client)
	skynet.send(other, "lua", "exit")
end)

test.case("a killed service takes its listener and connections along", function()
	local other = skynet.newservice("socketservant")
	-- An address of its own: nobody else listens there, even at the same port.
	local host = "127.0.0.9"
	local port, id = skynet.call(other, "lua", "listen", host)
	local client = driver.connect(host, port)
	event(CONNECT, client)
	-- It is listed once its loop has started it; the system connects before.
	test.eq(test.wait_for(function() return info_of(id) end).address, other)
	skynet.kill(other)
	event(CLOSE, client)
	driver.close(client)
	test.wait_for(function() return info_of(id) == nil end)
	local late = driver.connect(host, port)
	test.eq(event(ERROR, late).text, "Connection refused")
end)

---------------------------------------------------------------------- UDP

test.case("datagrams arrive with their sender", function()
	local server = driver.udp("127.0.0.1", 0)
	local probe = driver.udp()
	-- A TCP listener holds a port number that no other test uses. The port of
	-- the server: let it send to a socket that tells the sender.
	local holder, known_port = listen()
	local known = driver.udp_listen("127.0.0.1", known_port)
	local blob = string.pack(">BI2BBBB", 1, known_port, 127, 0, 0, 1)
	test.eq(driver.udp_send(server, blob, "hello"), true)
	local e = event(UDP, known)
	test.eq(e.text, "hello")
	test.eq(#e.from, 7)
	local ip, port = driver.udp_address(e.from)
	test.eq(ip, "127.0.0.1")
	test.eq(driver.udp_send(probe, e.from, ""), true)
	test.eq(event(UDP, server).ud, 0)
	driver.udp_connect(probe, "127.0.0.1", port)
	test.eq(driver.send(probe, "default"), true)
	test.eq(event(UDP, server).text, "default")
	for _, id in ipairs { server, probe, known, holder } do
		driver.close(id)
		event(CLOSE, id)
	end
end)

test.case("udp mistakes are told", function()
	local id = driver.udp()
	test.eq(driver.send(id, "x"), false)
	test.eq(driver.udp_send(id, "", "x"), false)
	test.eq(driver.udp_send(id, "\1\0\1", "x"), false)
	test.eq(driver.udp_send(id, "\9\0\0\0\0\0\0", "x"), false)
	test.eq(driver.udp_send(id, "\2\0\80" .. ("\0"):rep(16), "x"), false)
	driver.udp_connect(id, "::1", 9)
	test.eq(event(ERROR, id).text, "protocol mismatch")
	driver.udp_connect(id, "127.0.0.1", 9)
	test.eq(driver.send(id, ("x"):rep(70000)), false)
	test.err(function() driver.udp_listen("127.0.0.1", 0) end, "udp listen host failed")
	test.err(function() driver.udp_connect(99999, "127.0.0.1", 9) end, "udp connect failed")
	test.err(function() driver.udp("1.2.3.4", 9) end, "udp init failed")
	driver.close(id)
end)

test.case("an owner may have sends relayed to it", function()
	local client, server = pair()
	test.eq(driver.relay(server, true), true)
	test.eq(driver.send(server, "secret"), true)
	-- From another service, too, in the order of its sends.
	local other = skynet.newservice "rt_agent"
	skynet.call(other, "lua", [[
		local _, _, id = ...
		local driver = require "skynet.socketdriver"
		for i = 1, 3 do driver.send(id, "n" .. i) end
		require "skynet".retpack()
	]], server)
	for _, text in ipairs { "secret", "n1", "n2", "n3" } do
		test.eq(event(SEND, server).text, text)
	end
	test.eq(driver.rawsend(server, "cipher"), true)
	test.eq(event(DATA, client).text, "cipher")
	test.eq(driver.relay(server, false), true)
	driver.send(server, "plain")
	test.eq(event(DATA, client).text, "plain")
	test.eq(driver.relay(999999, true), false)
	test.eq(driver.rawsend(999999, "x"), false)
	skynet.kill(other)
	driver.close(client)
	driver.close(server)
end)

test.run()
