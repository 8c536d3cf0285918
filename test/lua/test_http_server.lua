-- http.server over real sockets: keep-alive, pipelining, streams, limits, and what
-- happens to peers that misbehave (net.md 14.5 H1 to H4, H6; RFC 9112).

local skynet = require "skynet"
local socket = require "skynet.socket"
local test = require "testlib"
local http_server = require "http.server"

-- The lines logged while fn runs.
local function logged(fn)
	return test.logged("", fn)
end

local function has_line(lines, pattern)
	for _, line in ipairs(lines) do
		if line:find(pattern) then
			return line
		end
	end
end

-- Run fn(port, server) against a server; it must have no connections afterwards.
local function with(handler, options, fn)
	options = options or {}
	-- These clients wait for the server to close.
	options.linger_timeout = options.linger_timeout or 2
	local s = http_server.listen("127.0.0.1", 0, handler, options)
	local ok, err = pcall(fn, s.port, s)
	s:close()
	test.wait_for(function() return s.count == 0 end, nil, "the connections of the server to end")
	assert(ok, err)
end

local function connect(port)
	return assert(socket.open("127.0.0.1", port))
end

-- Send all of it, read until the server closes.
local function talk(port, text)
	local id = connect(port)
	socket.write(id, text)
	local got = socket.readall(id) or ""
	socket.close(id)
	return got
end

-- One response with a Content-Length or chunks: status, header text, body.
local function read_response(id)
	local head = socket.readline(id, "\r\n\r\n")
	assert(head, "closed")
	local status = tonumber(head:match "^HTTP/1%.1 (%d+)")
	local length = head:match "content%-length: (%d+)"
	if length then
		return status, head, length == "0" and "" or socket.read(id, tonumber(length))
	elseif head:find "chunked" then
		local body = {}
		while true do
			local size = tonumber(socket.readline(id, "\r\n"), 16)
			local data = socket.read(id, size + 2):sub(1, -3)
			if size == 0 then
				return status, head, table.concat(body), #body
			end
			body[#body + 1] = data
		end
	end
	return status, head, ""
end

local function echo(req, res)
	res:send(200, req.method .. " " .. req.url .. " " .. req:body(), { ["content-type"] = "text/plain" })
end

test.case("requests of one connection are served in turn", function()
	with(echo, nil, function(port, s)
		local id = connect(port)
		for i = 1, 3 do
			socket.write(id, "GET /" .. i .. " HTTP/1.1\r\nHost: h\r\n\r\n")
			local status, head, body = read_response(id)
			test.eq({ status, body }, { 200, "GET /" .. i .. " " })
			test.match(head, "\r\ndate: %a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT")
		end
		test.eq(s.count, 1)
		socket.close(id)
	end)
end)

test.case("pipelined requests are answered in order", function()
	with(function(req, res)
		if req.url == "/slow" then
			skynet.sleep(5)
		end
		echo(req, res)
	end, nil, function(port)
		local got = talk(port, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"
			.. "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
			.. "POST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n"
			.. ("GET /n HTTP/1.1\r\nHost: h\r\n\r\n"):rep(200)
			.. "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n\r\n")
		local bodies = {}
		for body in got:gmatch "\r\n\r\n(%u+ /%w* %w*)" do
			bodies[#bodies + 1] = body:gsub("HTTP$", "")
		end
		test.eq({ bodies[1], bodies[2], bodies[3], bodies[204], #bodies },
			{ "GET /slow ", "POST /2 abc", "POST /3 def", "GET /last ", 204 })
		test.match(got, "connection: close\r\n\r\nGET /last $")
	end)
end)

test.case("a request that comes byte by byte is served", function()
	with(echo, nil, function(port)
		local id = connect(port)
		for byte in ("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
			.. "5;a=b\r\nhello\r\n0\r\nT: 1\r\n\r\n"):gmatch "." do
			socket.write(id, byte)
			skynet.yield()
		end
		test.eq(select(3, read_response(id)), "POST /x hello")
		socket.close(id)
	end)
end)

test.case("a response goes out in one write", function()
	local write = socket.write
	local writes = 0
	with(function(req, res)
		if req.url == "/stream" then
			res:start(200)
			res:write "piece"
		else
			res:send(200, ("x"):rep(tonumber(req.query)), { a = "b" })
		end
	end, nil, function(port)
		local id = connect(port)
		for _, case in ipairs { { "/?5", 1 }, { "/?100000", 1 }, { "/stream", 2 } } do
			write(id, "GET " .. case[1] .. " HTTP/1.1\r\nHost: h\r\n\r\n")
			writes = 0
			socket.write = function(...)
				writes = writes + 1
				return write(...)
			end
			read_response(id)
			socket.write = write
			test.eq(writes, case[2], case[1])
		end
		socket.close(id)
	end)
end)

test.case("HTTP/1.0 closes unless it asks to keep the connection", function()
	with(echo, nil, function(port)
		test.match(talk(port, "GET / HTTP/1.0\r\n\r\n"), "connection: close\r\n\r\nGET / $")
		local id = connect(port)
		socket.write(id, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
		test.match(select(2, read_response(id)), "connection: keep%-alive")
		socket.write(id, "GET / HTTP/1.0\r\n\r\n")
		read_response(id)
		test.eq({ socket.read(id) }, { false, "" })
		socket.close(id)
	end)
end)

test.case("HEAD has the length of the body and no body", function()
	with(echo, nil, function(port)
		local id = connect(port)
		socket.write(id, "HEAD /x HTTP/1.1\r\nHost: h\r\n\r\nGET /y HTTP/1.1\r\nHost: h\r\n\r\n")
		test.match(socket.readline(id, "\r\n\r\n"), "content%-length: 8")
		test.eq(select(3, read_response(id)), "GET /y ")
		socket.close(id)
	end)
end)

test.case("a response can be streamed, chunked or with a length", function()
	with(function(req, res)
		res:start(200, { a = "b" }, req.url == "/sized" and 6 or nil)
		for _, piece in ipairs { "ab", "", "cdef" } do
			res:write(piece)
		end
		if req.url == "/head" then
			res:finish()
		end
	end, nil, function(port)
		local id = connect(port)
		socket.write(id, "GET /chunked HTTP/1.1\r\nHost: h\r\n\r\n")
		local status, head, body, chunks = read_response(id)
		test.eq({ status, body, chunks }, { 200, "abcdef", 2 })
		test.match(head, "a: b")
		socket.write(id, "GET /sized HTTP/1.1\r\nHost: h\r\n\r\n")
		test.eq(select(3, read_response(id)), "abcdef")
		socket.write(id, "HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n")
		test.match(socket.readline(id, "\r\n\r\n"), "chunked")
		socket.write(id, "GET /sized HTTP/1.1\r\nHost: h\r\n\r\n")
		test.eq(select(3, read_response(id)), "abcdef")
		socket.close(id)
		test.match(talk(port, "GET /chunked HTTP/1.0\r\n\r\n"), "\r\n\r\nabcdef$")
	end)
end)

test.case("a request body can be read as it comes", function()
	local pieces = {}
	with(function(req, res)
		for piece in req.read, req do
			pieces[#pieces + 1] = piece
		end
		res:send(200, req.header.trailer or "")
	end, nil, function(port)
		local id = connect(port)
		socket.write(id, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		test.wait_for(function() return #pieces == 1 end)
		socket.write(id, "5\r\nde")
		test.wait_for(function() return #pieces == 2 end)
		socket.write(id, "fgh\r\n0\r\nTrailer: t\r\n\r\n")
		test.eq(select(3, read_response(id)), "t")
		test.eq(pieces, { "abc", "de", "fgh" })
		socket.close(id)
	end)
end)

test.case("100 Continue is sent when the handler asks for the body, else not", function()
	with(function(req, res)
		if req.url == "/take" then
			echo(req, res)
		else
			res:send(403)
		end
	end, nil, function(port)
		local id = connect(port)
		local head = " HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
		socket.write(id, "POST /take" .. head)
		test.eq(socket.readline(id, "\r\n\r\n"), "HTTP/1.1 100 Continue")
		socket.write(id, "ok")
		test.eq(select(3, read_response(id)), "POST /take ok")
		socket.write(id, "POST /refuse" .. head)
		local status, text = read_response(id)
		test.eq(status, 403)
		test.match(text, "connection: close")
		test.eq({ socket.read(id) }, { false, "" })
		socket.close(id)
		test.match(talk(port, "GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n"), "^HTTP/1.1 417 ")
	end)
end)

test.case("a body that the handler did not read does not spoil the next request", function()
	with(function(_, res) res:send(200, "done") end, nil, function(port)
		local id = connect(port)
		socket.write(id, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\nGET /smuggled")
		test.eq(select(3, read_response(id)), "done")
		socket.write(id, " HTTP/1.1\r\n\r\n1234")
		socket.write(id, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		test.eq(select(3, read_response(id)), "done")
		socket.write(id, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n")
		test.match(select(2, read_response(id)), "connection: close")
		socket.close(id)
	end)
end)

-- What must be refused: {status, bytes, what is logged}; the rest of the connection is
-- closed, others go on.
local GET = "GET / HTTP/1.1\r\nHost: h\r\n"
local POST = "POST / HTTP/1.1\r\nHost: h\r\n"
local CHUNKED = POST .. "Transfer-Encoding: chunked\r\n\r\n"
local bad = {
	{ 400, "garbage\r\n\r\n", "malformed request line" },
	{ 400, "\22\3\1\2\0\1\0", "not an HTTP message" },
	{ 400, "GET / HTTP/1.1\r\n\r\n", "no Host" },
	{ 400, GET .. "Host: h\r\n\r\n", "repeated Host" },
	{ 400, "GET / HTTP/1.1\nHost: h\n\n", "line feed" },
	{ 400, GET .. "a b\r\n\r\n", "without colon" },
	{ 400, GET .. "A : b\r\n\r\n", "header name" },
	{ 400, GET .. "A: b\r\n c\r\n\r\n", "folded" },
	{ 400, GET .. "A: b\0\r\n\r\n", "invalid byte" },
	{ 400, POST .. "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "repeated Content%-Length" },
	{ 400, POST .. "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both" },
	{ 400, POST .. "Content-Length: -3\r\n\r\n", "invalid Content%-Length" },
	{ 501, POST .. "Transfer-Encoding: gzip, chunked\r\n\r\n", "transfer coding" },
	{ 505, "GET / HTTP/3.0\r\n\r\n", "version" },
	{ 400, CHUNKED .. "5\r\nhelloGET", "malformed chunk" },
	{ 400, CHUNKED .. "zz\r\n", "malformed chunk" },
	{ 400, CHUNKED .. "0\r\nbad trailer\r\n\r\n", "without colon" },
	{ 414, "GET /" .. ("x"):rep(3000), "first line too long" },
	{ 431, GET .. "A: " .. ("x"):rep(3000), "header line too long" },
	{ 431, GET .. ("A: " .. ("x"):rep(900) .. "\r\n"):rep(5), "header too long" },
	{ 431, GET .. ("A: b\r\n"):rep(20), "too many header lines" },
	{ 413, POST .. "Content-Length: 1001\r\n\r\n", "body too large" },
	{ 413, CHUNKED .. "3e8\r\n" .. ("x"):rep(1000) .. "\r\n1\r\n", "body too large" },
	{ 413, CHUNKED .. "ffffffff\r\n", "body too large" },
}
local small = { line_limit = 1024, header_limit = 4096, header_lines = 10, body_limit = 1000 }

test.case("malformed and oversized requests get the right status, and others go on", function()
	with(echo, small, function(port)
		local other = connect(port)
		for _, case in ipairs(bad) do
			local lines = logged(function()
				local got = talk(port, case[2])
				test.match(got, "^HTTP/1.1 " .. case[1] .. " ", case[2]:sub(1, 80))
				test.match(got, "connection: close")
				test.eq(select(2, got:gsub("HTTP/1%.1", "")), 1, case[2]:sub(1, 80))
			end)
			assert(has_line(lines, "http: 127%.0%.0%.1:%d+: .*" .. case[3]), case[3] .. ": " .. table.concat(lines, "\n"))
			socket.write(other, GET .. "\r\n")
			test.eq((read_response(other)), 200)
		end
		socket.close(other)
	end)
end)

test.case("a refused peer that goes on sending gets its answer", function()
	with(echo, { body_limit = 1000, linger_timeout = 6000 }, function(port)
		for _ = 1, 20 do
			local id = connect(port)
			socket.write(id, POST .. "Content-Length: 900000\r\n\r\n")
			for _ = 1, 8 do
				socket.write(id, ("x"):rep(100000))
			end
			test.eq((read_response(id)), 413)
			socket.close(id)
		end
	end)
end)

test.case("a refused request behind a good one is refused behind its answer", function()
	with(echo, small, function(port)
		local got = talk(port, GET .. "\r\n" .. GET .. "a b\r\n\r\n" .. GET .. "\r\n")
		test.match(got, "^HTTP/1.1 200 .*GET / HTTP/1.1 400 ")
		test.eq(select(2, got:gsub("HTTP/1%.1 ", "")), 2)
	end)
end)

test.case("peers that are too slow are told, logged and closed", function()
	with(echo, { header_timeout = 20, body_timeout = 20, idle_timeout = 200 }, function(port)
		for _, case in ipairs {
			{ GET, "^HTTP/1.1 408 ", "no complete header in time" },
			{ POST .. "Content-Length: 10\r\n\r\nabc", "^HTTP/1.1 408 ", "no complete body in time" },
			{ CHUNKED .. "5\r\nab", "^HTTP/1.1 408 ", "no complete body in time" },
			{ "", "^$", nil },
			{ GET .. "\r\n", "^HTTP/1.1 200 [^%z]*GET / $", nil },
		} do
			local lines = logged(function()
				test.match(talk(port, case[1]), case[2])
			end)
			if case[3] then
				assert(has_line(lines, "http: 127%.0%.0%.1:%d+: " .. case[3]), table.concat(lines, "\n"))
			else
				assert(not has_line(lines, "http: 127"), table.concat(lines, "\n"))
			end
		end
	end)
end)

test.case("one byte at a time does not prolong the time for a header", function()
	with(echo, { header_timeout = 20 }, function(port)
		local id = connect(port)
		local sent = 0
		while socket.write(id, ("A"):rep(1)) and not socket.disconnected(id) do
			sent = sent + 1
			skynet.sleep(1)
		end
		test.match(socket.readall(id), "^HTTP/1.1 408 ")
		assert(sent < 8000)
		socket.close(id)
	end)
end)

test.case("a peer that is lost in the middle ends its handler only", function()
	local ended = 0
	with(function(req, res)
		local _ <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
		echo(req, res)
	end, nil, function(port)
		local lines = logged(function()
			for i, text in ipairs { POST .. "Content-Length: 10\r\n\r\nabc", CHUNKED .. "5\r\nab" } do
				local id = connect(port)
				socket.write(id, text)
				socket.shutdown(id)
				socket.close(id)
				test.wait_for(function() return ended == i end)
			end
			for _, text in ipairs { "", "GET", GET } do
				local id = connect(port)
				socket.write(id, text)
				socket.close(id)
			end
			test.match(talk(port, GET .. "Connection: close\r\n\r\n"), "^HTTP/1.1 200")
		end)
		assert(not has_line(lines, "traceback"), table.concat(lines, "\n"))
	end)
end)

test.case("a handler that raises gives 500, or ends what it has begun", function()
	with(function(req, res)
		if req.url == "/begun" then
			res:start(200)
			res:write "abc"
		elseif req.url == "/none" then
			return
		elseif req.url == "/bad" then
			res:send(200, "x", { a = "b\r\nc: d" })
		end
		error "oops"
	end, nil, function(port)
		local lines = logged(function()
			local id = connect(port)
			for _, url in ipairs { "/", "/none", "/bad", "/" } do
				socket.write(id, "GET " .. url .. " HTTP/1.1\r\nHost: h\r\n\r\n")
				test.eq((read_response(id)), 500, url)
			end
			socket.write(id, "GET /begun HTTP/1.1\r\nHost: h\r\n\r\n")
			test.match(socket.readall(id), "3\r\nabc\r\n$")
			socket.close(id)
		end)
		test.match(has_line(lines, "oops"), "^http: 127.0.0.1:%d+: GET / ?[^\n]*: .*oops")
		assert(has_line(lines, "Invalid value of HTTP header 'a'"))
		assert(has_line(lines, "gave no response to GET /none"))
	end)
end)

test.case("an on_error that raises ends its connection only", function()
	local told
	with(function(req, res)
		if req.url == "/bad" then
			error "oops"
		end
		res:send(200, "good")
	end, {
		on_error = function(err, req)
			told = req.url .. " " .. err:match "oops"
			error "worse"
		end,
	}, function(port)
		local lines = logged(function()
			test.eq(talk(port, "GET /bad HTTP/1.1\r\nHost: h\r\n\r\n"), "")
		end)
		test.eq(told, "/bad oops")
		assert(has_line(lines, "worse"), table.concat(lines, "\n"))
		test.match(talk(port, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), "good$")
	end)
end)

test.case("a handler that has detached its connection and raises leaves it alone", function()
	with(function(req)
		local id = req:detach()
		socket.write(id, "raw")
		skynet.fork(socket.close, id)
		error "oops"
	end, nil, function(port)
		logged(function()
			test.eq(talk(port, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"), "raw")
		end)
	end)
end)

test.case("a peer that reads nothing bounds what is kept for it", function()
	local written, ended = 0, false
	with(function(_, res)
		local _ <close> = setmetatable({}, { __close = function() ended = true end })
		res:start(200)
		local piece = ("x"):rep(64 * 1024)
		while written < 1 << 30 do
			res:write(piece)
			written = written + #piece
		end
	end, { send_timeout = 30 }, function(port)
		local id = connect(port)
		socket.pause(id)
		local lines = logged(function()
			socket.write(id, GET .. "\r\n")
			test.wait_for(function() return ended end)
		end)
		assert(written < 64 << 20, written)
		assert(has_line(lines, "http: 127%.0%.0%.1:%d+: peer does not take the response"))
		socket.close(id)
	end)
end)

test.case("a slow peer gets all of a long response", function()
	local size = 8 << 20
	with(function(_, res)
		res:start(200, nil, size)
		for _ = 1, size // 65536 do
			res:write(("y"):rep(65536))
		end
	end, nil, function(port)
		local id = connect(port)
		socket.write(id, GET .. "\r\n")
		test.match(socket.readline(id, "\r\n\r\n"), "content%-length: " .. size)
		local got = 0
		while got < size do
			got = got + #assert(socket.read(id))
		end
		test.eq(got, size)
		socket.close(id)
	end)
end)

test.case("a client that ends its side first still gets the answer", function()
	with(function(req, res)
		skynet.sleep(2)
		echo(req, res)
	end, nil, function(port)
		local id = connect(port)
		socket.write(id, GET .. "Connection: close\r\n\r\n")
		test.match(socket.readall(id), "GET / $")
		socket.close(id)
	end)
end)

-- Answers when it is told to.
local function waiting_handler()
	local waiting = {}
	return function(_, res)
		waiting.token = {}
		skynet.wait(waiting.token)
		res:send(200, "at last")
	end, waiting
end

test.case("too many connections are turned away", function()
	local handler, waiting = waiting_handler()
	with(handler, { max_connections = 1 }, function(port, s)
		local id = connect(port)
		socket.write(id, GET .. "\r\n")
		test.wait_for(function() return waiting.token end)
		local lines = logged(function()
			test.match(talk(port, ""), "^HTTP/1.1 503 ")
		end)
		assert(has_line(lines, "http: 127%.0%.0%.1:%d+: more than 1 connections"))
		skynet.wakeup(waiting.token)
		test.eq((read_response(id)), 200)
		socket.close(id)
		test.wait_for(function() return s.count == 0 end)
	end)
end)

test.case("connections handed over all at once are no more than may be", function()
	local s = http_server.new(echo, { max_connections = 1, linger_timeout = 2 })
	local listener, _, port = socket.listen("127.0.0.1", 0)
	local handed_over = {}
	socket.start(listener, function(id, addr) handed_over[#handed_over + 1] = { id, addr } end)
	local clients = {}
	for i = 1, 4 do
		clients[i] = connect(port)
		socket.write(clients[i], GET .. "Connection: close\r\n\r\n")
	end
	test.wait_for(function() return #handed_over == #clients end)
	for _, c in ipairs(handed_over) do
		skynet.fork(s.serve, s, c[1], c[2])
	end
	local served = 0
	for _, id in ipairs(clients) do
		served = served + (socket.readall(id):find "^HTTP/1.1 200 " and 1 or 0)
		socket.close(id)
	end
	test.eq(served, 1)
	socket.close(listener)
	test.wait_for(function() return s.count == 0 end)
end)

test.case("idle connections give way when there are too many, busy ones stay", function()
	local handler, waiting = waiting_handler()
	with(handler, { max_connections = 2, idle_timeout = 60000 }, function(port, s)
		local idle, busy = connect(port), connect(port)
		socket.write(busy, GET .. "\r\n")
		test.wait_for(function() return waiting.token and s.count == 2 end)
		local token, lines, new = waiting.token, nil, nil
		lines = logged(function()
			test.wait_for(function()
				new = connect(port)
				socket.write(new, GET .. "\r\n")
				test.wait_for(function() return waiting.token ~= token or socket.disconnected(new) end)
				return waiting.token ~= token or socket.close(new)
			end)
		end)
		assert(has_line(lines, "http: more than 2 connections %(max_connections%), end 1 idle connections"))
		test.eq({ socket.read(idle) }, { false, "" })
		skynet.wakeup(token)
		skynet.wakeup(waiting.token)
		test.eq((read_response(busy)), 200)
		test.eq((read_response(new)), 200)
		for _, id in ipairs { idle, busy, new } do
			socket.close(id)
		end
	end)
end)

test.case("idle connections give way when there are no descriptors", function()
	with(echo, { idle_timeout = 60000 }, function(port, s)
		local idle = connect(port)
		test.wait_for(function() return s.count == 1 end)
		test.wait_for(function()
			-- As the core tells it.
			skynet.rawsend(skynet.self(), "socket",
				string.pack("<i4i4i4xxxxI8", 5, s.listener, 0, 0) .. "Too many open files")
			return s.count == 0
		end)
		test.eq({ socket.read(idle) }, { false, "" })
		socket.close(idle)
	end)
end)

test.case("close lets a running request end", function()
	local release
	local s = http_server.listen("127.0.0.1", 0, function(_, res)
		release = coroutine.running()
		skynet.wait(release)
		res:send(200, "late")
	end)
	local idle, busy = connect(s.port), connect(s.port)
	socket.write(busy, GET .. "\r\n")
	test.wait_for(function() return release and s.count == 2 end)
	s:close()
	test.eq({ socket.read(idle) }, { false, "" })
	skynet.wakeup(release)
	local status, head, body = read_response(busy)
	test.eq({ status, body }, { 200, "late" })
	assert(head)
	test.wait_for(function() return s.count == 0 end)
	socket.close(idle)
	socket.close(busy)
end)

test.case("a detached connection is the handler's", function()
	local got
	with(function(req)
		local id, rest = req:detach()
		got = rest
		socket.write(id, "raw")
		socket.close(id)
	end, nil, function(port)
		test.eq(talk(port, GET .. "\r\nbytes"), "raw")
		test.eq(got, "bytes")
	end)
end)

test.case("a server for connections that are handed over", function()
	local s = http_server.new(echo)
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id, peer) s:serve(id, peer) end)
	test.match(talk(port, GET .. "Connection: close\r\n\r\n"), "GET / $")
	socket.close(listener)
end)

test.case("wrong options are refused at once", function()
	test.match(select(2, pcall(http_server.new, echo, { header_lines = 1000 })), "limit out of range")
	for pattern, options in pairs {
		["unknown option 'body_limt'"] = { body_limt = 5 },
		["unknown option 'serve'"] = { serve = print },
		["'header_timeout' must be a number above 0, not x"] = { header_timeout = "x" },
		["'max_connections' must be a number above 0, not %-5"] = { max_connections = -5 },
		["'gzip' must be a number above 0 or false, not true"] = { gzip = true },
		["options must be a table, not 5"] = 5,
	} do
		test.match(select(2, pcall(http_server.new, echo, options)), "^http.server: .*" .. pattern)
	end
	test.match(select(2, pcall(http_server.new)), "the handler must be a function or a router, not nil")
	local s = http_server.listen("127.0.0.1", 0, echo)
	test.match(select(2, pcall(http_server.listen, "127.0.0.1", s.port, echo)), "Address already in use")
	s:close()
end)

-- The last one: it uses up the lines of its second.
test.case("a flood of bad requests is no flood of lines", function()
	with(function(_, res) res:send(200, "fine") end, {}, function(port)
		local from = skynet.now()
		local function complain()
			assert(talk(port, "NONSENSE\r\n\r\n"):find "^HTTP/1.1 400")
		end
		test.logged("", function(lines)
			for _ = 1, 300 do
				complain()
			end
			local seconds = (skynet.now() - from) // 100 + 1
			assert(#lines >= 100 and #lines <= 100 * (seconds + 1), #lines .. " lines")
			if #lines < 300 then
				-- The next second's first line says so.
				test.wait_for(function()
					complain()
					return has_line(lines, "%(and %d+ more of that kind before%)")
				end)
			end
		end)
	end)
end)

test.run()
