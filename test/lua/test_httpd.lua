-- http.httpd (net.md 11.1, 11.8; 14.5 H1 to H4, H6).

local socket = require "skynet.socket"
local test = require "testlib"
local httpd = require "http.httpd"
local sockethelper = require "http.sockethelper"

-- A readfunc that gives these pieces, then raises "end of input".
local function feed(...)
	local pieces = { ... }
	return function(n)
		local data = assert(table.remove(pieces, 1), "end of input")
		if n and #data > n then
			table.insert(pieces, 1, data:sub(n + 1))
			data = data:sub(1, n)
		end
		assert(#data == (n or #data), "end of input")
		return data
	end
end

local function bytewise(text)
	local at = 0
	return function(n)
		n = n or 1
		assert(at + n <= #text, "end of input")
		at = at + n
		return text:sub(at - n + 1, at)
	end
end

local function read(text, limit)
	return table.pack(httpd.read_request(feed(text), limit))
end


test.case("a request comes as url, method, header and body", function()
	local text = "POST /x?y=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nA-b:  c\td \r\n\r\nhello"
	local want = { 200, "/x?y=1", "POST", { host = "h", ["content-length"] = "5", ["a-b"] = "c\td" }, "hello" }
	test.eq({ httpd.read_request(feed(text)) }, want)
	test.eq({ httpd.read_request(bytewise(text)) }, want)
	test.eq({ httpd.read_request(feed("GET / HTTP/1.0\r\n\r\n")) }, { 200, "/", "GET", {}, "" })
end)

test.case("repeated names have an array", function()
	local r = read("GET / HTTP/1.1\r\nX: a\r\nx: b\r\nX: c\r\n\r\n")
	test.eq(r[4], { x = { "a", "b", "c" } })
end)

test.case("a chunked body is joined and its trailers are merged", function()
	local text = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
		.. "5\r\nhello\r\n6;ext=\"1\"\r\n world\r\n0\r\nTrailer: t\r\nContent-Length: 3\r\n\r\n"
	for _, readfunc in ipairs { feed(text), bytewise(text) } do
		local code, _, _, header, body = httpd.read_request(readfunc, 11)
		test.eq({ code, body, header.trailer, header["content-length"] }, { 200, "hello world", "t", nil })
	end
end)

test.case("what is refused gets a code", function()
	local chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
	local function long_header(n) return "GET / HTTP/1.1\r\nA: " .. ("x"):rep(n) end
	for _, case in ipairs {
		{ 505, "GET / HTTP/2.0\r\n\r\n" },
		{ 505, "GET / HTTP/1.2\r\n\r\n" },
		{ 505, "GET / HTTP/0.9\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nno colon\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\n: x\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nA : x\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nA: x\r\n y\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nA: x\r\n\ty\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\n A: x\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nA: x\0y\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nA: x\ry\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nA: x\nB: y\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\n\n" },
		{ 400, "garbage\r\n\r\n" },
		{ 400, "GET /\r\n\r\n" },
		{ 400, "GET  / HTTP/1.1\r\n\r\n" },
		{ 400, "GET / HTTP/1.1 \r\n\r\n" },
		{ 400, "GET / http/1.1\r\n\r\n" },
		{ 400, "GET /a b HTTP/1.1\r\n\r\n" },
		{ 400, "G(T / HTTP/1.1\r\n\r\n" },
		{ 400, " GET / HTTP/1.1\r\n\r\n" },
		{ 400, "\22\3\1\2\0\1\0\1\252\3\3" },
		{ 400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nx" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\nx" },
		{ 400, "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
		{ 400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n" },
		{ 400, "POST / HTTP/1.1\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n" },
		{ 501, "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n" },
		{ 501, "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" },
		{ 501, "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n" },
		{ 413, "POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" },
		{ 413, long_header(9000) },
		{ 413, long_header(9000) .. "\r\n\r\n" },
		{ 413, "GET /" .. ("x"):rep(9000) },
		{ 413, "GET / HTTP/1.1\r\n" .. ("a:b\r\n"):rep(257) .. "\r\n" },
		{ 413, chunked .. "2001\r\n" },
		{ 413, chunked .. "1000\r\n" .. ("x"):rep(4096) .. "\r\n1001\r\n" },
		{ 413, chunked .. "x\r\n" },
		{ 413, chunked .. "-5\r\nhello\r\n" },
		{ 413, chunked .. "0x5\r\nhello\r\n" },
		{ 413, chunked .. "5\r\nhelloxx" },
		{ 413, chunked .. "5\nhello\r\n" },
		{ 413, chunked .. "5 \r\nhello\r\n" },
		{ 413, chunked .. "5;\0\r\nhello\r\n" },
		{ 413, chunked .. ("0"):rep(129) },
		{ 413, chunked .. "10000000000000005\r\nhello\r\n" },
		{ 413, chunked .. "0\r\nbad\r\n\r\n" },
	} do
		local r = read(case[2], 8192)
		test.eq({ r[1], r[2] }, { case[1] }, case[2]:sub(1, 200))
		r = table.pack(httpd.read_request(bytewise(case[2]), 8192))
		test.eq({ r[1], r[2] }, { case[1] }, "byte by byte: " .. case[2]:sub(1, 200))
	end
end)

test.case("transfer-encoding identity is no body", function()
	local r = read("GET / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n")
	test.eq(r[1], 200)
	test.eq(r[5], "")
end)

test.case("empty lines before a request are passed over", function()
	test.eq(read("\r\n\r\nGET / HTTP/1.1\r\n\r\n")[1], 200)
	test.eq((httpd.read_request(bytewise "\r\n\r\nGET / HTTP/1.1\r\n\r\n")), 200)
end)

test.case("pipelined requests are kept for the next call", function()
	local readfunc = feed("GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 HT",
		"TP/1.1\r\n\r\nmore")
	for i, body in ipairs { "", "abc", "" } do
		local code, url, _, _, got = httpd.read_request(readfunc)
		test.eq({ code, url, got }, { 200, "/" .. i, body })
	end
	test.eq(httpd.pending(readfunc), "more")
	test.eq(httpd.pending(readfunc), "")
end)

test.case("a body waits for 100 Continue when there is a way to ask", function()
	local sent = {}
	local readfunc = feed("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", "ok")
	local code, _, _, _, body = httpd.read_request(readfunc, nil, function(s) sent[#sent + 1] = s end)
	test.eq({ code, body, sent }, { 200, "ok", { "HTTP/1.1 100 Continue\r\n\r\n" } })
end)

test.case("an error of the reader is passed on", function()
	local code, err = httpd.read_request(feed "GET / HT")
	test.eq(code, nil)
	test.match(err, "end of input")
	local listener, _, port = socket.listen("127.0.0.1", 0)
	local result
	socket.start(listener, function(id)
		socket.start(id)
		result = table.pack(httpd.read_request(sockethelper.readfunc(id)))
		socket.close(id)
	end)
	local id = socket.open("127.0.0.1", port)
	socket.write(id, "GET / HTTP/1.1\r\n")
	socket.close(id)
	test.wait_for(function() return result end)
	test.eq(result[1], nil)
	assert(result[2] == sockethelper.socket_error)
	socket.close(listener)
end)

local function written(...)
	local out = {}
	local ok, err = httpd.write_response(function(s) out[#out + 1] = s end, ...)
	return table.concat(out), ok, err, #out
end

test.case("write_response writes exactly this", function()
	local text, ok, _, writes = written(200, "hello")
	test.eq({ text, ok, writes }, { "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", true, 1 })
	test.eq(written(404), "HTTP/1.1 404 Not Found\r\n\r\n")
	test.eq(written(599), "HTTP/1.1 599 \r\n\r\n")
	local pieces = { "ab", "", "cde" }
	test.eq(written(200, function() return table.remove(pieces, 1) end),
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")
	test.eq(written(200, function() end), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
	test.eq(written(200, nil, { a = { "1", 2 } }), "HTTP/1.1 200 OK\r\na: 1\r\na: 2\r\n\r\n")
	test.eq(written(200, "x", { ["Content-Length"] = 7 }), "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
	for code, text_of in pairs {
		[100] = "Continue", [101] = "Switching Protocols",
		[200] = "OK", [201] = "Created", [202] = "Accepted", [203] = "Non-Authoritative Information",
		[204] = "No Content", [205] = "Reset Content", [206] = "Partial Content",
		[300] = "Multiple Choices", [301] = "Moved Permanently", [302] = "Found", [303] = "See Other",
		[304] = "Not Modified", [305] = "Use Proxy", [306] = "", [307] = "Temporary Redirect",
		[400] = "Bad Request", [401] = "Unauthorized", [402] = "Payment Required", [403] = "Forbidden",
		[404] = "Not Found", [405] = "Method Not Allowed", [406] = "Not Acceptable",
		[407] = "Proxy Authentication Required", [408] = "Request Time-out", [409] = "Conflict",
		[410] = "Gone", [411] = "Length Required", [412] = "Precondition Failed",
		[413] = "Request Entity Too Large", [414] = "Request-URI Too Large",
		[415] = "Unsupported Media Type", [416] = "Requested range not satisfiable",
		[417] = "Expectation Failed", [500] = "Internal Server Error", [501] = "Not Implemented",
		[502] = "Bad Gateway", [503] = "Service Unavailable", [504] = "Gateway Time-out",
		[505] = "HTTP Version not supported",
	} do
		test.eq(written(code), "HTTP/1.1 " .. code .. " " .. text_of .. "\r\n\r\n")
	end
end)

test.case("write_response refuses other bodies and broken header lines", function()
	local text, ok, err = written(200, 42)
	test.eq({ text, ok }, { "", false })
	test.match(err, "body must be")
	for _, header in ipairs {
		{ a = "b\r\nc: d" }, { a = "b\nc" }, { a = "\0" }, { ["a b"] = "c" }, { ["a\r\nb"] = "c" }, { [""] = "c" },
		{ ["a:"] = "c" }, { a = { "b", "c\r" } }, { [1] = "x" },
	} do
		text, ok, err = written(200, "x", header)
		test.eq({ text, ok }, { "", false })
		test.match(err, "Invalid")
	end
end)

test.case("write_response tells that the socket failed", function()
	local ok, err = httpd.write_response(sockethelper.writefunc(-1), 200, "x")
	test.eq(ok, false)
	assert(err == sockethelper.socket_error)
end)

test.run()
