-- http.server and http.httpc over TLS (net.md 14.5 T1, T4, T5).

local skynet = require "skynet"
local socket = require "skynet.socket"
local test = require "testlib"
local certs = require "certs"
local httpc = require "http.httpc"
local http_server = require "http.server"

local server
local trusting

local function listen(handler, header_timeout)
	return http_server.listen("127.0.0.1", 0, handler, {
		tls = { cert = certs.path "server.pem", key = certs.path "server.key" },
		body_limit = 4 << 20,
		header_timeout = header_timeout,
	})
end

test.case("an https server answers, with large bodies both ways", function()
	certs.make()
	trusting = { ca = certs.path "ca.pem" }
	server = listen(function(req, res)
		if req.path == "/close" then
			res:start(200)
			return res:write "abc"
		end
		res:send(200, req.method .. req:body(), { ["content-type"] = "text/plain" })
	end)
	httpc.tls = trusting
	local host = "https://localhost:" .. server.port
	test.eq({ httpc.get(host, "/") }, { 200, "GET" })
	local content = ("x"):rep(3 << 20)
	local status, body = httpc.request("POST", host, "/", nil, nil, content)
	test.eq({ status, body == "POST" .. content }, { 200, true })
	local pieces = {}
	for piece in httpc.request_stream("POST", host, "/", nil, nil, content) do
		pieces[#pieces + 1] = piece
	end
	assert(table.concat(pieces) == "POST" .. content)
end)

test.case("https connections are used again", function()
	local before = server.count
	for _ = 1, 3 do
		local r = assert(httpc.fetch("https://localhost:" .. server.port .. "/", { tls = trusting }))
		test.eq(r.body, "GET")
	end
	assert(server.count <= before + 1)
end)

test.case("clients verify unless told not to", function()
	local target = "https://localhost:" .. server.port .. "/"
	local none, err = httpc.fetch(target)
	test.eq(none, nil)
	test.match(err, "certificate verify failed")
	test.eq(httpc.fetch(target, { tls = { verify = false } }).body, "GET")
	httpc.tls = nil
	local ok, why = pcall(httpc.get, "https://localhost:" .. server.port, "/")
	test.eq(ok, false)
	test.match(tostring(why), "certificate verify failed")
	-- The kept connection that was not verified is not for those who want it verified.
	none = httpc.fetch(target)
	test.eq(none, nil)
end)

test.case("a kept connection is not for other options that lie where its own were", function()
	local target = "https://localhost:" .. server.port .. "/"
	local where
	local function careless()
		local options = { verify = false }
		where = tostring(options)
		test.eq(httpc.fetch(target, { tls = options }).body, "GET")
	end
	local again
	for _ = 1, 50 do
		careless()
		collectgarbage()
		collectgarbage()
		local others = {}
		for i = 1, 2000 do
			others[i] = { verify = true }
			again = tostring(others[i]) == where and others[i]
			if again then
				local none, err = httpc.fetch(target, { tls = again })
				test.eq(none, nil)
				test.match(err, "certificate verify failed")
				break
			end
		end
		httpc.flush()
	end
end)

test.case("peers that cannot agree are logged and closed", function()
	local strict = listen(function() end, 100)
	local lines = test.logged("", function()
		for _, text in ipairs { "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "" } do
			local id = assert(socket.open("127.0.0.1", strict.port))
			socket.write(id, text)
			while socket.read(id) do end
			socket.close(id)
		end
	end)
	test.match(table.concat(lines, "\n"), "http: 127.0.0.1:%d+: TLS: ")
	local ok = pcall(httpc.get, "http://127.0.0.1:" .. strict.port, "/")
	test.eq(ok, false)
	strict:close()
end)

test.case("TLS goes through a proxy that is asked for a way", function()
	local listener, _, port = socket.listen("127.0.0.1", 0)
	local asked
	socket.start(listener, function(id)
		socket.start(id)
		asked = socket.readline(id, "\r\n\r\n")
		local to = assert(socket.open("127.0.0.1", server.port))
		socket.write(id, "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
		local function pass(from, into)
			local data = socket.read(from)
			while data do
				socket.write(into, data)
				data = socket.read(from)
			end
			socket.close(into)
		end
		skynet.fork(pass, to, id)
		pass(id, to)
	end)
	local r = assert(httpc.fetch("https://localhost:" .. server.port .. "/", {
		proxy = "http://127.0.0.1:" .. port,
		tls = trusting,
		body = "through",
	}))
	test.eq(r.body, "POSTthrough")
	test.match(asked, "^CONNECT localhost:" .. server.port .. " HTTP/1.1")
	httpc.flush()
	socket.close(listener)
end)

test.case("end", function()
	httpc.flush()
	server:close()
	test.wait_for(function() return server.count == 0 end)
	certs.remove()
end)

test.run()
