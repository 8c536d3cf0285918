-- skynet.tls and http.tlshelper over real sockets, both ends in this service.

local skynet = require "skynet"
local socket = require "skynet.socket"
local tls = require "skynet.tls"
local tlshelper = require "http.tlshelper"
local sockethelper = require "http.sockethelper"
local test = require "testlib"
local certs = require "certs"

local function server_options(more)
	local opts = { cert = certs.path "server.pem", key = certs.path "server.key" }
	for k, v in pairs(more or {}) do
		opts[k] = v
	end
	return opts
end

-- A listener; serve(connection, reason) runs for each handshake.
local function listen(opts, serve, server)
	local ctx = tls.context(server_options(opts))
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.start(id, function(fd)
		serve(tls.accept(fd, ctx, server))
	end)
	return port, id
end

local trust

-- Both ends.
local function pair(server, client)
	local accepted
	local port, listener = listen(server, function(c) accepted = c end)
	local opts = { ca = certs.path "ca.pem" }
	for k, v in pairs(client or {}) do
		opts[k] = v
	end
	local c = assert(tls.connect("127.0.0.1", port, opts))
	test.wait_for(function() return accepted end)
	socket.close(listener)
	return c, accepted
end

test.case("both ends read as skynet.socket does", function()
	local client, server = pair()
	client:write "helloline1\nline2\r\nrest"
	test.eq(server:read(5), "hello")
	test.eq(server:readline(), "line1")
	test.eq(server:readline "\r\n", "line2")
	test.eq(server:read(), "rest")
	test.eq(server:read(0), "")
	test.err(function() server:read(-1) end, "Invalid read size -1")
	server:write { "one", "two" }
	test.eq(client:block(), true)
	test.eq(client:read(6), "onetwo")
	client:write "tail"
	client:close()
	test.eq(server:read(10), false)
	local ok, rest, why = server:read()
	test.eq({ ok, rest, why }, { false, "" })
	test.eq(server:disconnected(), true)
	test.eq(server:block(), false)
	server:close()
	server:close()
	test.eq({ server:write "x" }, { false, "closed" })
	test.eq(server:read(), false)
end)

test.case("leftovers come with the end", function()
	local client, server = pair()
	client:write "no newline"
	client:close()
	local line, rest, why = server:readline()
	test.eq({ line, rest, why }, { false, "no newline" })
	server:close()
end)

test.case("readall: what the peer ended, or the reason why it may not be all", function()
	local client, server = pair()
	local big = ("x"):rep(300000)
	client:write(big)
	skynet.fork(function() client:close() end)
	test.ok(server:readall() == big)
	server:close()
	client, server = pair()
	client:write "part"
	test.eq(server:read(1), "p")
	-- Without the goodbye of TLS.
	socket.close(client.id)
	local data, why, rest = server:readall()
	test.eq(data, nil)
	test.match(why, "^truncated")
	test.eq(rest, "art")
	local ok, left, again = server:read()
	test.eq(ok, false)
	test.eq(left, "")
	test.match(again, "^truncated")
	server:close()
	client:close()
end)

test.case("eight megabytes both ways at once arrive whole", function()
	local client, server = pair()
	local size = 8 * 1024 * 1024
	local piece = ("0123456789abcdef"):rep(4096)
	local done = 0
	local function pump(c)
		skynet.fork(function()
			for _ = 1, size // #piece do
				c:write(piece)
			end
		end)
		skynet.fork(function()
			local got = 0
			while got < size do
				local data = assert(c:read())
				assert(data == piece:rep(2 + #data // #piece):sub(got % 16 + 1, got % 16 + #data))
				got = got + #data
			end
			done = done + 1
		end)
	end
	pump(client)
	pump(server)
	test.wait_for(function() return done == 2 end, 6000)
	client:close()
	server:close()
end)

test.case("every wait has a deadline", function()
	local client, server = pair()
	client:write "abc"
	for _, call in ipairs {
		function() return server:read(10, 1) end,
		function() return server:readline("\n", 1) end,
		function() return server:readall(1) end,
	} do
		test.eq({ call() }, { nil, "timeout" })
	end
	test.eq(server:read(), "abc")
	test.eq({ server:read(nil, 1) }, { nil, "timeout" })
	test.eq({ server:block(1) }, { nil, "timeout" })
	client:close()
	server:close()
end)

test.case("a limit ends the connection", function()
	for _, call in ipairs {
		function(c) return c:read(2000) end,
		function(c) return c:readline() end,
		function(c) return select(2, c:readall()) == "limit" and false, nil, "limit" end,
	} do
		local client, server = pair()
		server:limit(1000)
		client:write(("x"):rep(5000))
		local ok, _, why = call(server)
		test.eq(ok, false)
		test.eq(why, "limit")
		server:close()
		client:close()
	end
end)

test.case("close wakes a reader", function()
	local client, server = pair()
	local got
	skynet.fork(function() got = table.pack(server:read(5)) end)
	skynet.yield()
	server:close()
	test.wait_for(function() return got end)
	test.eq(got[1], false)
	client:close()
end)

test.case("facts of a connection", function()
	local client, server = pair({ alpn = { "a", "b" } }, { alpn = { "b" }, server_name = "localhost" })
	test.eq(client:alpn(), "b")
	test.eq(server:alpn(), "b")
	test.eq(server:server_name(), "localhost")
	test.eq(client:version(), "TLSv1.3")
	test.ok(client:cipher())
	test.eq(client:peer_certificate().subject, "CN=localhost")
	test.eq(server:peer_certificate(), nil)
	client:close()
	test.eq(client:alpn(), "b")
	server:close()
end)

test.case("a session is resumed", function()
	local port, listener = listen(nil, function(c)
		c:write "hi"
		c:read()
		c:close()
	end)
	local ctx = tls.context { ca = certs.path "ca.pem" }
	local first = assert(tls.connect("127.0.0.1", port, { context = ctx }))
	test.eq(first:read(2), "hi")
	local ticket = test.ok(first:session())
	first:close()
	local second = assert(tls.connect("127.0.0.1", port, { context = ctx, session = ticket }))
	test.eq(second:resumed(), true)
	test.eq(second:read(2), "hi")
	second:close()
	socket.close(listener)
end)

-- How many sockets this service has.
local function count()
	local n = 0
	for _, r in ipairs(socket.netstat()) do
		n = n + (r.address == skynet.self() and r.type ~= "LISTEN" and 1 or 0)
	end
	return n
end

test.case("failures tell the reason on both sides and leave no socket", function()
	local reasons = {}
	local port, listener = listen(nil, function(c, why)
		reasons[#reasons + 1] = why or "none"
		if c then
			c:close()
		end
	end)
	local c, why = tls.connect("127.0.0.1", port)
	test.eq(c, nil)
	test.match(why, "certificate verify failed: unable to get local issuer certificate")
	test.wait_for(function() return reasons[1] end)
	test.match(reasons[1], "alert unknown ca")
	c, why = tls.connect("127.0.0.1", port, { ca = certs.path "ca.pem", server_name = "x.test" })
	test.eq(c, nil)
	test.match(why, "hostname mismatch")
	c = assert(tls.connect("127.0.0.1", port, { verify = false }))
	test.eq({ c:read() }, { false, "" })
	c:close()
	-- Nobody there.
	socket.close(listener)
	c, why = tls.connect("127.0.0.1", 1)
	test.eq({ c, why }, { nil, "Connection refused" })
	test.wait_for(function() return count() == 0 end)
end)

test.case("a peer that stalls, leaves or talks nonsense is done with in time", function()
	local reasons = {}
	local function note(_, why) reasons[#reasons + 1] = why end
	local port, listener = listen(nil, note, { timeout = 5 })
	local quiet = assert(socket.open("127.0.0.1", port))
	test.eq(socket.read(quiet), false)
	test.wait_for(function() return reasons[1] end)
	test.eq(reasons[1], "timeout")
	socket.close(listener)
	port, listener = listen(nil, note)
	local gone = assert(socket.open("127.0.0.1", port))
	socket.write(gone, "\22\3\1")
	socket.close(gone)
	test.wait_for(function() return reasons[2] end)
	test.match(reasons[2], "closed the connection during the TLS handshake")
	local odd = assert(socket.open("127.0.0.1", port))
	socket.write(odd, "hello, who is there?\n")
	test.ok(socket.readall(odd))
	test.wait_for(function() return reasons[3] end)
	test.match(reasons[3], "SSL_do_handshake error:1 ret:%-1 %(")
	socket.close(quiet)
	socket.close(odd)
	socket.close(listener)
	-- A server that never answers.
	local mute, _, mute_port = socket.listen("127.0.0.1", 0)
	local c, why = tls.connect("127.0.0.1", mute_port, { timeout = 5 })
	test.eq({ c, why }, { nil, "timeout" })
	socket.close(mute)
	test.wait_for(function() return count() == 0 end)
end)

test.case("TLS can begin on a connection that is in use", function()
	local accepted
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.start(id, function(fd)
		socket.start(fd)
		test.eq(socket.readline(fd), "STARTTLS")
		socket.write(fd, "go\n")
		accepted = tls.accept(fd, server_options())
	end)
	local fd = assert(socket.open("127.0.0.1", port))
	socket.write(fd, "STARTTLS\n")
	test.eq(socket.readline(fd), "go")
	local c = assert(tls.client(fd, "localhost", { ca = certs.path "ca.pem" }))
	c:write "secret"
	test.wait_for(function() return accepted end)
	test.eq(accepted:read(6), "secret")
	c:close()
	accepted:close()
	socket.close(id)
end)

test.case("a write without memory is the last one, and the stream has no proper end", function()
	local native = require "allocfail".native
	local first = ("x"):rep(5000)
	local n, failed = 0, true
	while failed do
		n = n + 1
		local client, server = pair()
		local ok, is_sent
		failed, ok, is_sent = native.attempt(n, "once", client.write, client, first)
		local follows = client:write "more"
		client:close()
		local text, why, rest = server:readall(6000)
		server:close()
		if not ok then
			-- It was not begun.
			test.eq({ follows, text }, { true, "more" })
		elseif is_sent then
			test.eq({ follows, text }, { true, first .. "more" })
		else
			test.eq({ follows, text }, { false, nil })
			test.match(why, "truncated")
			test.ok(rest == first or rest == "", #rest)
		end
	end
end)

test.case("options are checked by name and type", function()
	for opts, text in pairs {
		[{ nosuch = 1 }] = "unknown tls option 'nosuch'",
		[{ verify = "no" }] = "tls option 'verify' must be a boolean, got a string",
		[{ cert = "/no.pem", key = "/no.key" }] = "can't use the certificate /no.pem with the key /no.key: ",
		[{ cert = "x" }] = "'cert' needs 'key'",
		[{ key = "x" }] = "'key' needs 'cert'",
		[{ cert = "-----BEGIN X", key = "file" }] = "must both be",
		[{ client_auth = "required" }] = "set_ca",
		[{ client_auth = "always" }] = "invalid option 'always'",
		[{ min_version = "1.0" }] = "invalid option '1.0'",
	} do
		test.err(function() tls.context(opts) end, text)
	end
	test.err(function() tls.connect("127.0.0.1", 1, { port = 1 }) end, "unknown tls option 'port'")
	test.err(function() tls.connect("127.0.0.1", 1, { context = tls.context(), ca = "x" }) end,
		"'ca' belongs to the context")
	tls.context { hosts = { ["two.test"] = { cert = certs.path "server2.pem",
		key = certs.path "server2.key" } }, refuse_unknown_host = true, ciphers = "HIGH",
		ticket_keys = ("k"):rep(80), capath = "/tmp", min_version = "1.3",
		cert = certs.text "server.pem", key = certs.text "locked.key", password = "secret" }
end)

----------------------------------------------------------------- tlshelper

-- The functions of one end.
local function functions(id, session)
	return {
		read = tlshelper.readfunc(id, session, 1000),
		write = tlshelper.writefunc(id, session),
		readall = tlshelper.readallfunc(id, session),
		close = tlshelper.closefunc(session),
	}
end

-- Ends as the HTTP modules make them.
local function helper_pair()
	local sctx = tlshelper.newctx(server_options())
	local server
	local id, _, port = socket.listen("127.0.0.1", 0)
	socket.start(id, function(fd)
		socket.start(fd)
		local session = tlshelper.newtls("server", sctx)
		tlshelper.init_responsefunc(fd, session)()
		server = functions(fd, session)
		server.id = fd
	end)
	local fd = assert(socket.open("127.0.0.1", port))
	local session = tlshelper.newtls("client", trust)
	tlshelper.init_requestfunc(fd, session, 1000)("localhost")
	local client = functions(fd, session)
	client.id = fd
	test.wait_for(function() return server end)
	socket.close(id)
	return client, server
end

test.case("tlshelper: read, write, readall, close", function()
	local client, server = helper_pair()
	client.write "hello world"
	test.eq(server.read(5), "hello")
	test.eq(server.read(), " world")
	test.eq(server.read(0), "")
	server.write { "a", "b" }
	server.write(("c"):rep(100000))
	server.close()
	socket.close(server.id)
	test.eq(client.read(2), "ab")
	test.eq(#client.readall(), 100000)
	local ok, err = pcall(client.read)
	test.ok(not ok and err == sockethelper.socket_error)
	client.close()
	test.eq(pcall(client.read), false)
	socket.close(client.id)
end)

test.case("tlshelper: a stream that breaks off raises", function()
	local client, server = helper_pair()
	server.write "part"
	socket.close(server.id)
	test.eq(client.read(1), "p")
	local ok, err = pcall(client.readall)
	test.ok(not ok and err == sockethelper.socket_error)
	client.close()
	socket.close(client.id)
end)

test.case("tlshelper: a wrong certificate raises its reason", function()
	local port, listener = listen(nil, function() end)
	local fd = assert(socket.open("127.0.0.1", port))
	local session = tlshelper.newtls("client", trust)
	test.err(function() tlshelper.init_requestfunc(fd, session)() end, "no host name to verify")
	test.err(function() tlshelper.init_requestfunc(fd, session)("wrong.test") end,
		"hostname mismatch")
	socket.close(fd)
	fd = assert(socket.open("127.0.0.1", port))
	session = tlshelper.newtls("server", tlshelper.newctx(server_options()))
	local ok, err = pcall(tlshelper.init_responsefunc(fd, session, 1))
	test.ok(not ok and err == sockethelper.socket_error)
	socket.close(fd)
	socket.close(listener)
end)

test.run(function()
	certs.make()
	trust = tls.context { ca = certs.path "ca.pem" }
	test.case("(clean-up)", certs.remove)
end)
