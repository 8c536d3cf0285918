-- wss: http.websocket over TLS on both sides, and the wsgate with TLS.

local skynet = require "skynet"
local socket = require "skynet.socket"
local router = require "http.router"
local server = require "http.server"
local sockethelper = require "http.sockethelper"
local tlshelper = require "http.tlshelper"
local websocket = require "http.websocket"
local wsgate = require "snax.wsgate"
require "skynet.manager"
local test = require "testlib"
local certs = require "certs"
local raw = require "wsraw"

certs.make()

local results = {}

local function serve(handle, options)
	-- Its own: of those before some may still be to come.
	local mine = {}
	results = mine
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id, addr)
		mine[#mine + 1] = table.pack(websocket.accept(id, handle, "wss", addr, options))
	end)
	return port
end

local echo = {}

function echo.message(id, data, kind)
	websocket.write(id, data, kind)
end

local function result(n)
	return test.wait_for(function() return results[n or 1] end)
end

test.case("wss: messages small and large, compressed and not, then an orderly end", function()
	local port = serve(echo, {
		certfile = certs.path "server.pem", keyfile = certs.path "server.key",
		max_message = 1000000, deflate = true,
	})
	for _, deflate in ipairs { false, true } do
		local id = websocket.connect("wss://localhost:" .. port .. "/x", nil, 1000,
			{ tls = { ca = certs.path "ca.pem" }, deflate = deflate })
		for _, n in ipairs { 0, 1, 200, 16384, 70000, 300 * 1024 } do
			local text = ("w"):rep(n)
			websocket.write(id, text)
			test.ok(websocket.read(id) == text, n)
		end
		websocket.ping(id)
		websocket.close(id, 1000)
	end
	test.eq(result(2), { true, nil, n = 2 })
end)

test.case("wss: a context may be made once for many connections", function()
	local ctx = tlshelper.newctx { cert = certs.path "server.pem", key = certs.path "server.key" }
	local port = serve(echo, { tls = ctx })
	local client = tlshelper.newctx { ca = certs.path "ca.pem" }
	for i = 1, 3 do
		local id = websocket.connect("wss://localhost:" .. port, nil, nil, { tls = client })
		websocket.write(id, "n" .. i)
		test.eq(websocket.read(id), "n" .. i)
		websocket.close(id)
	end
	result(3)
end)

test.case("wss: an unknown authority, another name and a lost peer", function()
	local port = serve(echo, { certfile = certs.path "server.pem", keyfile = certs.path "server.key" })
	local url = "wss://localhost:" .. port
	test.err(function() websocket.connect(url) end, "certificate")
	test.eq(result(1)[1], false)
	test.err(function()
		websocket.connect("wss://127.0.0.2:" .. port, nil, nil, { tls = { ca = certs.path "ca.pem" } })
	end, "")
	local id = websocket.connect(url, nil, nil, { tls = { verify = false } })
	websocket.write(id, "trusting")
	test.eq(websocket.read(id), "trusting")
	websocket.close(id)
end)

test.case("wss: what is no TLS ends with false, and the socket is closed", function()
	local port = serve(echo, { certfile = certs.path "server.pem", keyfile = certs.path "server.key" })
	local id = assert(socket.open("127.0.0.1", port))
	socket.write(id, raw.request())
	socket.readall(id)
	socket.close(id)
	test.eq(result(1)[1], false)
	-- A certificate that does not exist.
	port = serve(echo, { certfile = "/nowhere.pem", keyfile = "/nowhere.key" })
	id = assert(socket.open("127.0.0.1", port))
	test.eq(socket.read(id, 1), false)
	socket.close(id)
	test.eq(result(1)[1], false)
	-- A client of a server without TLS.
	local listener, _, plain = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(fd)
		socket.start(fd)
		socket.write(fd, "HTTP/1.1 400 Bad Request\r\n\r\n")
		socket.close(fd)
	end)
	test.eq((pcall(websocket.connect, "wss://localhost:" .. plain, nil, 500)), false)
end)

test.case("wss: a connection cut without TLS's end is an error, not a close", function()
	local lost
	local port = serve({ message = echo.message, error = function(_, err) lost = err end },
		{ certfile = certs.path "server.pem", keyfile = certs.path "server.key" })
	local id = websocket.connect("wss://localhost:" .. port, nil, nil, { tls = { ca = certs.path "ca.pem" } })
	websocket.write(id, "x")
	websocket.read(id)
	socket.shutdown(id)
	local ok, err = pcall(websocket.read, id)
	test.eq(ok, false)
	test.ok(err == sockethelper.socket_error)
	test.wait_for(function() return lost end)
	test.ok(lost == sockethelper.socket_error)
end)

test.case("a path of an http.server becomes a websocket, with TLS and without", function()
	local web = router.new()
	local ended = 0
	web:get("/chat", function(req)
		local header, url, peer = req.header, req.url, req.peer
		local id, rest, session = req:detach()
		local ok, err = websocket.accept(id, echo, "ws", peer,
			{ upgrade = { header = header, url = url, rest = rest, session = session } })
		test.eq({ ok, err }, { true })
		ended = ended + 1
	end)
	local keys = { cert = certs.path "server.pem", key = certs.path "server.key" }
	for i, scheme in ipairs { "ws", "wss" } do
		local s = server.listen("127.0.0.1", 0, web, { tls = scheme == "wss" and keys or nil })
		local id = websocket.connect(scheme .. "://localhost:" .. s.port .. "/chat", nil, nil,
			{ tls = { ca = certs.path "ca.pem" } })
		for _, n in ipairs { 1, 1000, 100000 } do
			local text = ("h"):rep(n)
			websocket.write(id, text)
			test.ok(websocket.read(id) == text)
		end
		websocket.close(id, 1000)
		test.wait_for(function() return ended == i end)
		-- No upgrade: refused by the websocket.
		if scheme == "ws" then
			local plain = assert(socket.open("127.0.0.1", s.port))
			socket.write(plain, "GET /chat HTTP/1.1\r\nHost: x\r\n\r\n")
			test.match(socket.readall(plain), "^HTTP/1.1 426 ")
			socket.close(plain)
			test.wait_for(function() return ended == 2 end)
			ended = 1
		end
		s:close()
	end
end)

local told = {}

local function expect(what)
	return test.wait_for(function()
		for i, t in ipairs(told) do
			if t[1] == what then
				return table.remove(told, i)
			end
		end
	end, nil, what)
end

test.case("a gate with TLS: data, answers, kick, refusals, garbage", function()
	local gate = skynet.newservice "wsgate"
	local _, port = skynet.call(gate, "lua", "open", {
		address = "127.0.0.1", port = 0, path = "/ws", deflate = true,
		tls = { cert = certs.path "server.pem", key = certs.path "server.key" },
	})
	local function connect(path)
		return websocket.connect("wss://localhost:" .. port .. path, nil, nil,
			{ tls = { ca = certs.path "ca.pem" }, deflate = true })
	end
	local id = connect "/ws"
	local fd = expect "open"[2]
	websocket.write(id, "early")
	skynet.call(gate, "lua", "accept", fd)
	test.eq(expect "data"[3], "early")
	local big = ("b"):rep(60000)
	websocket.write(id, big)
	test.ok(expect "data"[3] == big)
	wsgate.send(fd, "one", "text")
	wsgate.broadcast({ fd }, big)
	test.eq(websocket.read(id), "one")
	test.ok(websocket.read(id) == big)
	skynet.call(gate, "lua", "kick", fd, 4000, "out")
	test.eq({ websocket.read(id) }, { false, "\x0f\xa0out" })
	test.eq(expect "close", { "close", fd, 4000, "out", n = 4 })
	-- The client closes.
	id = connect "/ws"
	fd = expect "open"[2]
	skynet.call(gate, "lua", "accept", fd)
	websocket.close(id, 4001, "me")
	test.eq(expect "close", { "close", fd, 4001, "me", n = 4 })
	test.err(function() connect "/other" end, "code[404]")
	local plain = assert(socket.open("127.0.0.1", port))
	socket.write(plain, raw.request())
	socket.readall(plain)
	socket.close(plain)
	test.eq(#told, 0)
	-- It still serves.
	id = connect "/ws"
	expect "open"
	websocket.close(id)
	expect "close"
	skynet.kill(gate)
end)

test.case("the certificates are removed", certs.remove)

test.run(function()
	skynet.dispatch("lua", function(session, _, cmd, ...)
		if cmd == "socket" then
			told[#told + 1] = table.pack(...)
		elseif session ~= 0 then
			skynet.retpack(nil)
		end
	end)
end)
