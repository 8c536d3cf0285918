-- http.httpc against scripted servers and http.server (net.md 11.4, 11.8; 14.5 H4 to H6).

local skynet = require "skynet"
local socket = require "skynet.socket"
local test = require "testlib"
local httpc = require "http.httpc"
local client = require "http.client"
local http_server = require "http.server"
local url = require "http.url"
local sockethelper = require "http.sockethelper"
local sockets = require "sockets"

-- A server that reads a head and then runs script(id, head) for each connection; its
-- host text. What it was sent is in `seen`.
local seen
local listeners = {}
local function scripted(script)
	seen = {}
	local listener, _, port = socket.listen("127.0.0.1", 0)
	listeners[#listeners + 1] = listener
	socket.start(listener, function(id)
		socket.start(id)
		local head = socket.readline(id, "\r\n\r\n")
		seen[#seen + 1] = head
		if head then
			script(id, head)
		end
		socket.close(id)
	end)
	return "127.0.0.1:" .. port, port
end

-- A server that says this and closes; with pieces, one after another.
local function says(...)
	local pieces = { ... }
	return scripted(function(id)
		for _, piece in ipairs(pieces) do
			socket.write(id, piece)
			skynet.sleep(1)
		end
	end)
end

-- A server that says this and waits for the client to close.
local function says_and_waits(text)
	return scripted(function(id)
		socket.write(id, text)
		socket.read(id)
	end)
end

local function fails(pattern, f, ...)
	local ok, err = pcall(f, ...)
	test.eq(ok, false)
	test.match(tostring(err), pattern)
	return err
end

test.case("a body with a length, more bytes being ignored", function()
	local header = {}
	local host = says_and_waits "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\nx: b\r\n\r\nhelloextra"
	test.eq({ httpc.get(host, "/p?q", header) }, { 200, "hello" })
	test.eq(header, { ["content-length"] = "5", x = { "a", "b" } })
	test.eq(seen[1], "GET /p?q HTTP/1.1\r\nhost:" .. host .. "\r\nContent-length:0")
	host = says("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhe", "llo")
	test.eq({ httpc.get("http://" .. host, "/") }, { 200, "hello" })
end)

test.case("chunked bodies, empty ones, those until the end", function()
	test.eq({ httpc.get(says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r", "\nhel", "lo\r\n0\r\n",
		"\r\n"), "/") }, { 200, "hello" })
	test.eq({ httpc.get(says_and_waits "HTTP/1.1 204 No Content\r\n\r\n", "/") }, { 204, "" })
	test.eq({ httpc.get(says_and_waits "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "/") }, { 304, "" })
	test.eq({ httpc.get(says("HTTP/1.0 200 OK\r\n\r\nhel", "lo"), "/") }, { 200, "hello" })
	local long = ("x"):rep(1 << 20)
	test.eq({ httpc.get(says("HTTP/1.0 200 OK\r\n\r\n" .. long), "/") }, { 200, long })
	test.eq(httpc.head(says_and_waits "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "/"), 200)
end)

test.case("interim responses are passed over", function()
	test.eq({ httpc.get(says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "/") }, { 200, "ok" })
	fails("too many interim", httpc.get, says(("HTTP/1.1 100 Continue\r\n\r\n"):rep(40)), "/")
end)

test.case("what is broken, ambiguous or cut off raises", function()
	for response, pattern in pairs {
		[""] = "Recv header failed",
		["HTTP/1.1 200 OK\r\nA: b"] = "Recv header failed",
		["HTTP/2.0 200 OK\r\n\r\n"] = "Invalid HTTP response header",
		["nonsense\r\n\r\n"] = "Invalid HTTP response header",
		["HTTP/1.1 20 OK\r\n\r\n"] = "Invalid HTTP response header",
		["HTTP/1.1 200 OK\r\nA : b\r\n\r\n"] = "Invalid HTTP response header",
		["HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"] = "Invalid HTTP response header: folded",
		["HTTP/1.1 200 OK\nA: b\n\n"] = "Invalid HTTP response header: line feed",
		["HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n"] = "Invalid HTTP response header",
		["HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"] = "repeated Content%-Length",
		["HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab"] = "invalid Content%-Length",
		["HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] = "both",
		["HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab"] = "Unsupport transfer%-encoding",
		["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"] = "Invalid response body",
		["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"] = "Invalid response body",
		["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"] = "Invalid response body: malformed",
		["HTTP/1.1 200 OK\r\nA: " .. ("x"):rep(70000) .. "\r\n\r\n"] = "Recv header failed: .*too long",
		["HTTP/1.1 200 OK\r\n" .. ("A: x\r\n"):rep(300) .. "\r\n"] = "Recv header failed: too many",
	} do
		fails(pattern, httpc.get, says(response), "/")
	end
end)

test.case("a connection that is lost raises socket_error", function()
	test.eq(fails("connect failed .* Connection refused", httpc.get, "127.0.0.1:1", "/"), sockethelper.socket_error)
	-- No name, which no name server is asked for.
	test.eq(fails("connect failed", httpc.get, ("x"):rep(64) .. ".invalid", "/"), sockethelper.socket_error)
	-- A reset is not the end of a body.
	local host = scripted(function(id)
		socket.write(id, "HTTP/1.0 200 OK\r\n\r\nabc")
		-- Nobody reads the body, and so much of it waits that the rest does in the system.
		test.wait_for(function() return not sockets.info(id).reading end)
		socket.shutdown(id)
	end)
	test.eq(fails("read failed", httpc.request, "POST", host, "/", nil, nil, ("x"):rep(8 << 20)),
		sockethelper.socket_error)
end)

test.case("the time limit holds for the header, the body, and its end", function()
	httpc.timeout = 20
	for _, text in ipairs { "", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "HTTP/1.0 200 OK\r\n\r\nab" } do
		local begun = skynet.now()
		test.eq(fails("timeout", httpc.get, says_and_waits(text), "/"), sockethelper.socket_error)
		assert(skynet.now() - begun >= 20)
	end
	httpc.timeout = nil
end)

test.case("a body over the limit raises", function()
	httpc.body_limit = 4
	fails("too large", httpc.get, says_and_waits "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "/")
	fails("too large", httpc.get, says_and_waits "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n", "/")
	fails("too large", httpc.get, says "HTTP/1.0 200 OK\r\n\r\nhello", "/")
	httpc.body_limit = 64 << 20
end)

test.case("requests carry header, content and one Host", function()
	local got
	local function take(id, head)
		local n = tonumber(head:lower():match "content%-length:(%d+)")
		got = n and n > 0 and socket.read(id, n) or ""
		socket.write(id, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	end
	local host = scripted(take)
	local mine = { Host = "other.example", A = { "1", "2" } }
	httpc.request("PUT", host, "/", nil, mine, "content")
	test.eq(got, "content")
	test.eq(mine, { Host = "other.example", A = { "1", "2" } })
	test.match(seen[1], "^PUT / HTTP/1.1\r\n")
	test.match(seen[1], "A:1\r\nA:2")
	test.eq(select(2, seen[1]:lower():gsub("\nhost:", "")), 1)
	httpc.request("POST", host, "/", nil, { ["transfer-encoding"] = "chunked" }, "0\r\n\r\n")
	assert(not seen[2]:lower():find "content%-length")
	httpc.post(host, "/form", { ["a b"] = "ä&-_" })
	test.eq(got, "a%20b=%C3%A4%26%2D_")
	test.match(seen[3], "content%-type:application/x%-www%-form%-urlencoded")
	fails("Invalid header value", httpc.get, host, "/", nil, { a = "b\r\nc: d" })
	fails("Invalid url", httpc.get, host, "/ HTTP/1.1\r\nX: y")
end)

test.case("hosts", function()
	for text, want in pairs {
		["name"] = { "http", "name", 80, false, "name" },
		["name:81"] = { "http", "name", 81, false, "name:81" },
		["HTTPS://name"] = { "https", "name", 443, false, "name" },
		["http://10.0.0.1:8080"] = { "http", "10.0.0.1", 8080, true, "10.0.0.1:8080" },
		["[::1]"] = { "http", "::1", 80, true, "[::1]" },
		["[::1]:8080"] = { "http", "::1", 8080, true, "[::1]:8080" },
		["10.0.0.1.nip.io"] = { "http", "10.0.0.1.nip.io", 80, false, "10.0.0.1.nip.io" },
		["svc1.ns2"] = { "http", "svc1.ns2", 80, false, "svc1.ns2" },
	} do
		local p = client.place(text)
		test.eq({ p.scheme, p.host, p.port, p.is_address, p.authority }, want)
	end
	fails("Invalid host: bare IPv6 address '::1', use '%[::1%]' instead", httpc.get, "::1", "/")
	fails("Invalid protocol: ftp", httpc.get, "ftp://name", "/")
	fails("Invalid host: port", httpc.get, "name:70000", "/")
	for _, bad in ipairs { "", "a b", "a\r\nb", "[::1", "user@name", "name:x" } do
		fails("Invalid host", httpc.get, bad, "/")
	end
end)

test.case("a stream gives the pieces and ends with nil", function()
	local function pieces_of(...)
		local s <close> = httpc.request_stream("GET", says(...), "/")
		test.eq(s.connected, true)
		local list = {}
		for piece in s do
			list[#list + 1] = piece
		end
		return list, s
	end
	local list, s = pieces_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1", "\r\nc", "\r\n3\r\nd",
		"ef\r\n0\r\nT: 1\r\n\r\n")
	test.eq(list, { "ab", "c", "def", "" })
	test.eq({ s.status, s.connected, s.header.t }, { 200, nil, "1" })
	test.eq(table.concat((pieces_of("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", "cd"))), "abcd")
	test.eq(table.concat((pieces_of("HTTP/1.0 200 OK\r\n\r\nab", "cd"))), "abcd")
	test.eq((pieces_of "HTTP/1.1 204 No Content\r\n\r\n"), { "" })
	list, s = pieces_of "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
	test.eq({ list, s.connected }, { {}, false })
	s:close()
	fails("Invalid response body", pieces_of, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
	s = httpc.request_stream("GET", says_and_waits "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", "/")
	test.eq((s:padding()), "ab")
	s:close()
	s:close()
	test.eq(s(), nil)
end)

------------------------------------------------------------------------ fetch

local server, base
local long = ("0123456789"):rep(10000)
local peers, accepted = {}, 0

local function handle(req, res)
	local path = req.path
	if not peers[req.peer] then
		peers[req.peer] = true
		accepted = accepted + 1
	end
	if path == "/hello" then
		res:send(200, "hello " .. req.method)
	elseif path == "/echo" then
		res:send(200, req:body(), { ["x-type"] = req.header["content-type"], ["x-te"] = req.header["transfer-encoding"] })
	elseif path == "/long" then
		res:send(200, long, { ["content-type"] = "text/plain" })
	elseif path == "/header" then
		res:send(200, (req.header.authorization or "-") .. (req.header["x-a"] or "-") .. req.header.host)
	elseif path == "/stream" then
		res:start(200)
		for i = 1, 5 do
			res:write(("x"):rep(i))
			skynet.sleep(1)
		end
	elseif path == "/slow" then
		skynet.sleep(100)
	elseif path == "/loop" then
		res:redirect "/loop"
	elseif path == "/relative" then
		res:redirect("sub/../hello?x#y", 301)
	elseif path:find "^/to/%d+" then
		res:redirect(url.decode(req.query), tonumber(path:match "%d+"))
	elseif path == "/close" then
		res.keep_alive = false
		res:send(200, "closing")
	else
		res:send(404)
	end
end

test.case("fetch answers and uses its connection again", function()
	server = http_server.listen("127.0.0.1", 0, handle)
	base = "http://127.0.0.1:" .. server.port
	for _ = 1, 3 do
		local r = assert(httpc.fetch(base .. "/hello"))
		test.eq({ r.status, r.reason, r.body, r.url }, { 200, "OK", "hello GET", base .. "/hello" })
	end
	test.eq(accepted, 1)
	test.eq(httpc.fetch(base .. "/missing").status, 404)
	test.eq(httpc.fetch(base .. "/hello", { method = "HEAD" }).body, "")
	test.eq(accepted, 1)
	test.eq(httpc.fetch(base .. "/close").body, "closing")
	test.eq(httpc.fetch(base .. "/hello", { keepalive = false }).body, "hello GET")
	test.eq(accepted, 2)
	httpc.flush()
	test.wait_for(function() return server.count == 0 end)
end)

test.case("fetch tries again when the kept connection has ended", function()
	httpc.fetch(base .. "/hello")
	for id in pairs(server.connections) do
		socket.shutdown(id)
	end
	test.eq(httpc.fetch(base .. "/hello").body, "hello GET")
	-- The server ends it while the next request is under way.
	local times = 0
	local host = scripted(function(id)
		times = times + 1
		socket.write(id, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		socket.readline(id, "\r\n\r\n")
		socket.shutdown(id)
	end)
	test.eq(httpc.fetch("http://" .. host .. "/").body, "ok")
	test.eq(httpc.fetch("http://" .. host .. "/").body, "ok")
	test.eq(times, 2)
	local _, err = httpc.fetch("http://" .. host .. "/", { body = "not sent twice" })
	assert(err)
	test.eq(times, 2)
end)

test.case("bytes that nobody asked for are not the next response", function()
	local good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	local evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	local answered
	local host = scripted(function(id)
		socket.write(id, good)
		test.wait_for(function() return answered end)
		socket.write(id, evil)
		socket.read(id)
	end)
	test.eq(httpc.fetch("http://" .. host .. "/").body, "ok")
	answered = true
	test.wait_for(function()
		for _, info in ipairs(socket.netstat()) do
			if info.peer == host and info.read >= #good + #evil then
				return true
			end
		end
	end)
	-- Who has counted the bytes tells of them before it tells of this.
	socket.close(assert(socket.open("127.0.0.1", server.port)))
	test.eq(httpc.fetch("http://" .. host .. "/").body, "ok")
	test.eq(#seen, 2)
end)

test.case("fetch sends bodies, whole and in pieces", function()
	local r = httpc.fetch(base .. "/echo", { body = "abc", header = { ["Content-Type"] = "text/x" } })
	test.eq({ r.body, r.header["x-type"] }, { "abc", "text/x" })
	local pieces = { "de", "", "f" }
	r = httpc.fetch(base .. "/echo", { method = "PUT", body = function() return table.remove(pieces, 1) end })
	test.eq({ r.body, r.header["x-te"] }, { "def", "chunked" })
	r = httpc.fetch(base .. "/echo", { body = ("x"):rep(2 << 20) })
	test.eq(r.status, 413)
end)

test.case("fetch unpacks compressed bodies within its limit", function()
	local r = httpc.fetch(base .. "/long")
	test.eq({ r.header["content-encoding"], r.body }, { "gzip", long })
	r = httpc.fetch(base .. "/long", { gzip = false })
	test.eq({ r.header["content-encoding"], r.body }, { nil, long })
	local none, err = httpc.fetch(base .. "/long", { body_limit = #long - 1 })
	test.eq({ none, err }, { nil, "Invalid response body: too large" })
	none, err = httpc.fetch("http://" .. says "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnot gzip" .. "/")
	test.eq(none, nil)
	test.match(err, "malformed gzip")
end)

test.case("a compressed body may be made of members, empty ones too", function()
	local gzip = require "http.gzip"
	local function member(text)
		return gzip.deflater():write(text, true)
	end
	for _, body in ipairs {
		member "" .. member "hello",
		member "" .. member "" .. member "hel" .. member "" .. member "lo" .. member "",
		member "hello" .. member "",
	} do
		local r, err = httpc.fetch("http://" .. says("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
			.. "Content-Length: " .. #body .. "\r\n\r\n" .. body) .. "/")
		test.eq({ r and r.body, err }, { "hello" })
	end
end)

test.case("fetch follows redirects", function()
	test.eq(httpc.fetch(base .. "/relative").url, base .. "/hello?x")
	local r = httpc.fetch(base .. "/to/303?" .. url.encode(base .. "/echo"), { body = "abc" })
	test.eq({ r.status, r.body }, { 200, "" })
	test.eq(httpc.fetch(base .. "/to/302?/hello", { body = "abc" }).body, "hello GET")
	test.eq(httpc.fetch(base .. "/to/308?/echo", { body = "abc" }).body, "abc")
	test.eq(httpc.fetch(base .. "/to/307?/hello", { method = "DELETE" }).body, "hello DELETE")
	test.eq(httpc.fetch(base .. "/to/302?/hello", { redirects = 0 }).status, 302)
	test.match(select(2, httpc.fetch(base .. "/loop")), "too many redirects, the last one to http.*/loop")
	test.match(select(2, httpc.fetch(base .. "/to/302?" .. url.encode "ftp://x/")), "Invalid protocol: ftp")
	test.match(select(2, httpc.fetch(base .. "/to/307?/echo", { body = function() end })), "streamed body again")
end)

test.case("what is private does not go to another place", function()
	local other = "http://localhost:" .. server.port .. "/header"
	local header = { Authorization = "secret", ["X-A"] = "a" }
	test.eq(httpc.fetch(base .. "/to/302?/header", { header = header }).body, "secreta127.0.0.1:" .. server.port)
	test.eq(httpc.fetch(base .. "/to/302?" .. url.encode(other), { header = header }).body,
		"-alocalhost:" .. server.port)
	test.eq(header, { Authorization = "secret", ["X-A"] = "a" })
end)

test.case("fetch streams", function()
	local r <close> = assert(httpc.fetch(base .. "/stream", { stream = true }))
	test.eq(r.status, 200)
	local pieces = {}
	for piece in r.read, r do
		pieces[#pieces + 1] = piece
	end
	test.eq(table.concat(pieces), ("x"):rep(15))
	test.eq({ r:read() }, {})
	local cut = assert(httpc.fetch("http://" .. says "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab" .. "/",
		{ stream = true }))
	test.eq(cut:read(), "ab")
	test.match(select(2, cut:read()), "ended too early")
	assert(select(2, cut:read()))
	cut:close()
end)

test.case("each phase has its own time", function()
	local function late(phase, target, timeout)
		local none, err = httpc.fetch(target, { timeout = timeout })
		test.eq(none, nil)
		test.match(err, phase)
	end
	for _, timeout in ipairs { { header = 10 }, 10, { total = 10 } } do
		-- With a connection that is kept no time goes into another phase.
		httpc.fetch(base .. "/hello")
		late("timeout in phase header", base .. "/slow", timeout)
	end
	late("timeout in phase body", "http://" .. says_and_waits "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" .. "/",
		{ body = 10 })
	late("timeout in phase body", "http://" .. says_and_waits "HTTP/1.1 200 OK\r\n\r\nx" .. "/", { body = 10 })
	late("TLS: timeout", "https://" .. scripted(function() end) .. "/", { tls = 10 })
	client.resolve = function() skynet.sleep(1000) end
	late("dns: timeout", "http://name.example/", { dns = 10 })
	client.resolve = function() error("no such name", 0) end
	late("dns: no such name", "http://name.example/", { dns = 1000 })
	client.resolve = function(name)
		return name == "name.example" and { "127.0.0.1" }
	end
	test.eq(httpc.fetch("http://name.example:" .. server.port .. "/header").body,
		"--name.example:" .. server.port)
	client.resolve = nil
	late("connect failed .*is_time_out = false", "http://127.0.0.1:1/", { connect = 1000 })
end)

-- A name server that knows this of every name: two addresses, on the first of which
-- nobody listens.
local function name_server()
	local asked = {}
	local id
	id = socket.udp(function(query, from)
		local question = query:match("^[^\0]*\0....", 13)
		asked[#asked + 1] = question
		local is_a = question:byte(-3) == 1
		local answer = ""
		if is_a then
			for _, last in ipairs { 2, 1 } do
				answer = answer .. "\xc0\x0c\0\1\0\1\0\0\0\60\0\4\127\0\0" .. string.char(last)
			end
		end
		socket.sendto(id, from, query:sub(1, 2) .. "\x81\x80\0\1\0" .. (is_a and "\2" or "\0") .. "\0\0\0\0"
			.. question .. answer)
	end, "127.0.0.1", 0)
	for _, info in ipairs(socket.netstat()) do
		if info.id == id then
			return id, tonumber((info.sock or info.peer):match ":(%d+)$"), asked
		end
	end
end

test.case("names are resolved by skynet.dns when told so", function()
	local id, port, asked = name_server()
	httpc.dns("127.0.0.1", port)
	local r = assert(httpc.fetch("http://web.test:" .. server.port .. "/header"))
	test.eq(r.body, "--web.test:" .. server.port)
	assert(#asked > 0)
	test.eq({ httpc.get("web.test:" .. server.port, "/hello") }, { 200, "hello GET" })
	-- No name: not even asked for.
	local before = #asked
	test.eq({ httpc.get("127.0.0.1:" .. server.port, "/hello") }, { 200, "hello GET" })
	test.eq(#asked, before)
	fails("illegal name", httpc.get, "web_$.test", "/")
	client.resolve = nil
	socket.close(id)
end)

test.case("a proxy gets absolute targets, or is asked for a way through", function()
	local through
	local function proxy(id, head)
		through = head
		if head:find "^CONNECT" then
			if head:find "refused" then
				socket.write(id, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			else
				socket.write(id, "HTTP/1.1 200 OK\r\n\r\n")
				socket.read(id)
			end
			return
		end
		socket.write(id, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nproxied")
	end
	local host = scripted(proxy)
	local options = { proxy = "http://user:p%40ss@" .. host, timeout = { tls = 100 } }
	test.eq(httpc.fetch("http://name.example/x?y", options).body, "proxied")
	test.match(through, "^GET http://name.example/x%?y HTTP/1.1\r\n")
	test.match(through, "\r\nhost: name.example\r\n")
	test.match(through, "proxy%-authorization: Basic dXNlcjpwQHNz")
	test.match(select(2, httpc.fetch("https://refused.example/", options)), "proxy refused the connection: 403")
	test.match(through, "^CONNECT refused.example:443 HTTP/1.1\r\nhost: refused.example:443\r\n")
	test.match(select(2, httpc.fetch("https://name.example/", options)), "TLS: ")
	test.match(select(2, httpc.fetch("http://h/", { proxy = "socks5://h" })), "Invalid protocol: socks5")
end)

test.case("wrong arguments are told", function()
	for target, pattern in pairs {
		["/path"] = "Invalid URL", ["http://"] = "Invalid URL", ["http://h/a b"] = "Invalid URL",
		["http://h:0/"] = "Invalid host",
	} do
		test.match(select(2, httpc.fetch(target)), pattern)
	end
	test.match(select(2, httpc.fetch(base .. "/hello", { header = { a = "b\nc" } })), "Invalid value of HTTP header")
	test.match(select(2, httpc.fetch(base .. "/hello", { method = "G T" })), "Invalid HTTP method")
	for pattern, options in pairs {
		["unknown option 'timout'"] = { timout = 5 },
		["'timeout' must be a number above 0 or table, not x"] = { timeout = "x" },
		["timeout: unknown option 'conect'"] = { timeout = { conect = 5 } },
		["timeout: option 'total' must be a number above 0, not %-1"] = { timeout = { total = -1 } },
		["'redirects' must be a whole number from 0 on, not %-1"] = { redirects = -1 },
		["options must be a table, not 5"] = 5,
	} do
		test.match(select(2, httpc.fetch(base .. "/hello", options)), "^http.fetch.*" .. pattern)
	end
end)

test.case("url.resolve", function()
	for reference, want in pairs {
		["g"] = "http://a/b/c/g", ["./g"] = "http://a/b/c/g", ["g/"] = "http://a/b/c/g/", ["/g"] = "http://a/g",
		["//g"] = "http://g", ["?y"] = "http://a/b/c/d;p?y", ["g?y"] = "http://a/b/c/g?y", ["#s"] = "http://a/b/c/d;p?q",
		["g#s"] = "http://a/b/c/g", ["."] = "http://a/b/c/", ["./"] = "http://a/b/c/", [".."] = "http://a/b/",
		["../g"] = "http://a/b/g", ["../.."] = "http://a/", ["../../../g"] = "http://a/g", ["/./g"] = "http://a/g",
		["https://x/y"] = "https://x/y", [""] = "http://a/b/c/d;p?q",
	} do
		test.eq(url.resolve("http://a/b/c/d;p?q", reference), want, reference)
	end
	test.eq(url.resolve("nowhere", "g"), nil)
end)

test.case("nothing is left open", function()
	httpc.flush()
	server:close()
	test.wait_for(function() return server.count == 0 end)
	for _, id in ipairs(listeners) do
		socket.close(id)
	end
	test.wait_for(function()
		local open = 0
		for _, info in ipairs(socket.netstat()) do
			if info.address == skynet.self() then
				open = open + 1
			end
		end
		return open == 0
	end)
end)

test.run()
