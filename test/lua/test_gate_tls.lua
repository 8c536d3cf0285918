-- A gate that listens with TLS. The test is the watchdog; its clients are connections
-- of skynet.tls.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local tls = require "skynet.tls"
local test = require "testlib"
local certs = require "certs"
local rt = require "rt"
local sockets = require "sockets"
local watchdog = require "watchdog"

local told, expect, frame = watchdog.told, watchdog.expect, watchdog.frame

local gate, port

local function tls_options(more)
	local opts = { cert = certs.path "server.pem", key = certs.path "server.key" }
	for k, v in pairs(more or {}) do
		opts[k] = v
	end
	return opts
end

local function open_gate(conf, more)
	conf = conf or {}
	conf.tls = tls_options(more)
	gate, port = watchdog.open("gate", conf)
end

local function client(opts)
	opts = opts or {}
	opts.ca = opts.ca or certs.path "ca.pem"
	return tls.connect("127.0.0.1", port, opts)
end

-- A connection that the watchdog serves.
local function connect(opts)
	local c = assert(client(opts))
	local notice = expect "open"
	test.match(notice[3], "^127%.0%.0%.1:%d+$")
	return c, notice[2]
end

test.case("the watchdog's protocol is that of any gate", function()
	open_gate()
	local c, fd = connect()
	-- Sent before accept: it waits.
	c:write(frame "early" .. frame "bird")
	skynet.sleep(2)
	test.eq(#told, 0)
	skynet.call(gate, "lua", "accept", fd)
	test.eq(expect "data", { "data", fd, "early", n = 3 })
	test.eq(expect "data", { "data", fd, "bird", n = 3 })
	c:write(frame "" .. "\0\5fo")
	test.eq(expect "data"[3], "")
	c:write "ur!"
	test.eq(expect "data"[3], "four!")
	local big = ("x"):rep(65535)
	c:write(frame(big) .. frame(big))
	test.ok(expect "data"[3] == big)
	test.ok(expect "data"[3] == big)
	socket.write(fd, frame "an answer")
	socket.write(fd, { "in ", "pieces" })
	test.eq(c:read(11), frame "an answer")
	test.eq(c:read(9), "in pieces")
	c:close()
	expect("close", fd)
	test.eq(#told, 0)
	skynet.kill(gate)
end)

test.case("an agent gets packages, and writes from its own service", function()
	open_gate()
	local agent = skynet.newservice "sv_agent"
	local writer = rt.agent()
	local c, fd = connect()
	skynet.call(gate, "lua", "forward", fd, 0x77, agent)
	c:write(frame "hello" .. frame "")
	local notes = test.wait_for(function()
		local n = skynet.call(agent, "lua", "notes")
		return #n == 2 and n
	end)
	test.eq(notes, { { fd, 0x77, "hello" }, { fd, 0x77, "" } })
	rt.run(writer, [[
		local _, _, fd = ...
		local socket = require "skynet.socket"
		for i = 1, 100 do
			assert(socket.write(fd, string.pack(">s2", "n" .. i)))
		end
		socket.write(fd, string.rep("z", 1000000))
		skynet.retpack()
	]], fd)
	for i = 1, 100 do
		test.eq(c:read(2 + #("n" .. i)), frame("n" .. i))
	end
	test.ok(c:read(1000000) == ("z"):rep(1000000))
	c:close()
	expect("close", fd)
	skynet.kill(agent)
	skynet.kill(writer)
	skynet.kill(gate)
end)

test.case("kick sends what was written before, and ends the stream properly", function()
	open_gate()
	local c, fd = connect()
	skynet.call(gate, "lua", "accept", fd)
	socket.write(fd, "last words")
	skynet.call(gate, "lua", "kick", fd)
	test.eq({ c:readall() }, { "last words" })
	expect("close", fd)
	skynet.call(gate, "lua", "kick", fd)
	test.eq(#told, 0)
	c:close()
	skynet.kill(gate)
end)

test.case("nobody closes or takes a connection past the gate", function()
	local mark = rt.mark()
	open_gate()
	local c, fd = connect()
	skynet.call(gate, "lua", "accept", fd)
	socket.close_fd(fd)
	test.eq({ socket.start(fd) }, { nil, "invalid socket" })
	rt.logged("exclusive", mark)
	c:write(frame "still here")
	test.eq(expect("data", fd)[3], "still here")
	socket.write(fd, "yes")
	test.eq(c:read(3), "yes")
	c:close()
	expect("close", fd)
	skynet.kill(gate)
end)

test.case("after the peer closed it can be written to until the kick", function()
	open_gate()
	local c, fd = connect()
	skynet.call(gate, "lua", "accept", fd)
	c:write(frame "bye")
	c:close()
	expect("data", fd)
	expect("close", fd)
	socket.write(fd, "too late")
	skynet.call(gate, "lua", "kick", fd)
	test.wait_for(function() return not sockets.info(fd) end)
	test.eq(#told, 0)
	skynet.kill(gate)
end)

test.case("failed handshakes are not announced, but logged", function()
	local mark = rt.mark()
	open_gate { maxclient = 2 }
	-- Somebody who speaks no TLS.
	local plain = assert(socket.open("127.0.0.1", port))
	socket.write(plain, frame "hello")
	test.ok(socket.readall(plain, 6000) ~= nil)
	rt.logged("TLS handshake with 127%.0%.0%.1:%d+ failed: SSL_do_handshake error", mark)
	socket.close(plain)
	-- Somebody who does not trust us.
	local c, why = tls.connect("127.0.0.1", port)
	test.eq(c, nil)
	test.match(why, "certificate verify failed")
	-- Somebody who leaves.
	local gone = assert(socket.open("127.0.0.1", port))
	socket.write(gone, "\22\3\1")
	socket.close(gone)
	-- They do not count for maxclient when they are gone.
	local ids = {}
	for i = 1, 2 do
		test.wait_for(function()
			ids[i] = client()
			return ids[i]
		end)
		expect "open"
	end
	test.eq(#told, 0)
	ids[1]:close()
	ids[2]:close()
	skynet.kill(gate)
end)

test.case("a stalled handshake is told of with its option", function()
	local mark = rt.mark()
	open_gate({ handshake_timeout = 5 })
	local quiet = assert(socket.open("127.0.0.1", port))
	test.eq(socket.read(quiet, 1), false)
	rt.logged("takes too long; raise handshake_timeout %(5/100 s%)", mark)
	test.eq(#told, 0)
	socket.close(quiet)
	skynet.kill(gate)
end)

test.case("bytes that were tampered with end the connection", function()
	local mark = rt.mark()
	open_gate()
	local c, fd = connect()
	skynet.call(gate, "lua", "accept", fd)
	c:write(frame "good")
	socket.write(c.id, "\23\3\3\0\30" .. ("x"):rep(30))
	expect("data", fd)
	test.eq(c:read(), false)
	expect("close", fd)
	rt.logged("end %d+ of 127.*: SSL_read error", mark)
	c:close()
	skynet.kill(gate)
end)

test.case("the limits of a gate hold within TLS", function()
	open_gate { maxpackage = 100, first_timeout = 300, package_rate = 500, package_burst = 10 }
	local c, fd = connect()
	skynet.call(gate, "lua", "accept", fd)
	c:write(frame "1")
	local d, fd2 = connect()
	skynet.call(gate, "lua", "accept", fd2)
	for i = 2, 50 do
		c:write(frame(tostring(i)))
	end
	for i = 1, 50 do
		test.eq(expect("data", fd)[3], tostring(i))
	end
	c:write(frame(("x"):rep(101)))
	test.eq(c:read(), false)
	expect("close", fd)
	expect("close", fd2)
	c:close()
	d:close()
	skynet.kill(gate)
end)

test.case("client certificates, SNI, ALPN and resumption as in tls.context", function()
	open_gate({}, { ca = certs.path "ca.pem", client_auth = "required", alpn = { "game" },
		hosts = { ["two.test"] = { cert = certs.path "server2.pem",
			key = certs.path "server2.key" } } })
	local own = { cert = certs.path "client.pem", key = certs.path "client.key",
		alpn = { "game" }, server_name = "two.test" }
	local c, fd = connect(own)
	test.eq(c:alpn(), "game")
	test.eq(c:peer_certificate().subject, "CN=two.test")
	skynet.call(gate, "lua", "accept", fd)
	c:write(frame "x")
	expect("data", fd)
	c:close()
	expect("close", fd)
	-- Without one it is over as soon as it reads.
	local d = client()
	if d then
		test.eq(d:read(), false)
		d:close()
	end
	test.eq(#told, 0)
	skynet.kill(gate)
	open_gate()
	c, fd = connect()
	socket.write(fd, "hi")
	test.eq(c:read(2), "hi")
	local session = test.ok(c:session())
	d = connect { session = session }
	test.eq(d:resumed(), true)
	c:close()
	d:close()
	skynet.kill(gate)
end)

test.case("a gate may be opened again without TLS, old connections go on", function()
	open_gate()
	local c, fd = connect()
	skynet.call(gate, "lua", "accept", fd)
	skynet.call(gate, "lua", "close")
	local _, again = skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0 })
	local id = assert(socket.open("127.0.0.1", again))
	local plain_fd = expect "open"[2]
	skynet.call(gate, "lua", "accept", plain_fd)
	socket.write(id, frame "plain")
	test.eq(expect("data", plain_fd)[3], "plain")
	socket.write(plain_fd, "back")
	test.eq(socket.read(id, 4), "back")
	c:write(frame "secret")
	test.eq(expect("data", fd)[3], "secret")
	socket.write(fd, "too")
	test.eq(c:read(3), "too")
	c:close()
	socket.close(id)
	skynet.kill(gate)
end)

test.case("a handler may write and close at once", function()
	local echo
	echo, port = watchdog.open("sv_gate", { tls = tls_options() })
	local c = assert(client())
	c:write(frame "one" .. frame "two" .. frame "raise" .. frame "three")
	for _, text in ipairs { "one", "two", "three" } do
		test.eq(c:read(#text + 2), frame(text))
	end
	c:close()
	test.wait_for(function() return #skynet.call(echo, "lua", "seen") == 2 end)
	skynet.kill(echo)
end)

test.case("a gate that ends takes its connections along", function()
	for _, finish in ipairs { skynet.kill, function(g) skynet.send(g, "debug", "EXIT") end } do
		open_gate()
		local c, fd = connect()
		skynet.call(gate, "lua", "accept", fd)
		finish(gate)
		test.eq(c:read(), false)
		c:close()
	end
end)

watchdog.run(function()
	certs.make()
	test.case("(clean-up)", certs.remove)
end)
