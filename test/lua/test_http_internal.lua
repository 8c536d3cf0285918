-- http.internal, http.url and http.sockethelper (net.md 11.2, 11.3, 11.6).

local socket = require "skynet.socket"
local test = require "testlib"
local internal = require "http.internal"
local url = require "http.url"
local sockethelper = require "http.sockethelper"

-- A readbytes function that gives these pieces, then raises.
local function feed(...)
	local pieces = { ... }
	local joined
	return function(n)
		if n then
			joined = (joined or "") .. table.concat(pieces)
			pieces = {}
			assert(#joined >= n, "end of input")
			local data = joined:sub(1, n)
			joined = joined:sub(n + 1)
			return data
		end
		if joined and joined ~= "" then
			local data = joined
			joined = nil
			return data
		end
		return assert(table.remove(pieces, 1), "end of input")
	end
end

local function bytewise(text)
	local pieces = {}
	for i = 1, #text do
		pieces[i] = text:sub(i, i)
	end
	return feed(table.unpack(pieces))
end

test.case("recvheader gives the lines and the bytes behind them", function()
	local head = "GET / HTTP/1.1\r\na: 1\r\n\r\n"
	for _, read in ipairs { feed(head .. "rest"), feed("GET / HTTP/1.1\r\na: 1\r", "\n\r\nrest") } do
		local lines = {}
		test.eq(internal.recvheader(read, lines, ""), "rest")
		test.eq(lines, { "GET / HTTP/1.1", "a: 1" })
	end
	local lines = {}
	test.eq(internal.recvheader(bytewise(head), lines, ""), "")
	test.eq(lines, { "GET / HTTP/1.1", "a: 1" })
	lines = {}
	test.eq(internal.recvheader(feed(), lines, "\r\nbody"), "body")
	test.eq(lines, {})
	lines = {}
	test.eq(internal.recvheader(feed(": 1\r\n\r\n"), lines, "a"), "")
	test.eq(lines, { "a: 1" })
end)

test.case("a header over 8192 bytes is refused, however it comes", function()
	local long = "a: " .. ("x"):rep(9000)
	test.eq(internal.recvheader(feed(long), {}, ""), nil)
	test.eq(internal.recvheader(feed(long .. "\r\n\r\n"), {}, ""), nil)
	test.eq(internal.recvheader(bytewise(long), {}, ""), nil)
	local fits = "a: " .. ("x"):rep(8192 - 7) .. "\r\n\r\n"
	test.eq(internal.recvheader(feed(fits), {}, ""), "")
end)

test.case("parseheader lowers names, collects repeats, joins tab lines", function()
	local header = internal.parseheader({ "GET / HTTP/1.1", "X: a", "x:b", "X:  c ", "Y: a", "\tb" }, 2, {})
	test.eq(header, { x = { "a", "b", "c " }, y = "ab" })
	for _, line in ipairs { "no colon", ": empty", "a b: c", "a : b", "a: b\rc", "a: b\nc", "a: \0", "\tx" } do
		test.eq(internal.parseheader({ line }, 1, {}), nil, line)
	end
end)

test.case("recvchunkedbody reads chunks, extensions and trailers", function()
	local text = "5\r\nhello\r\n6;name=\"v\"\r\n world\r\n0\r\nTrailer: t\r\n\r\nnext"
	local body, header, rest = internal.recvchunkedbody(feed(), nil, {}, text)
	test.eq({ body, header, rest }, { "hello world", { trailer = "t" }, "next" })
	body, header = internal.recvchunkedbody(bytewise(text), 11, {}, "")
	test.eq({ body, header }, { "hello world", { trailer = "t" } })
	test.eq(internal.recvchunkedbody(feed(text), 10, {}, ""), nil)
end)

test.case("recvchunkedbody refuses what is malformed", function()
	for _, text in ipairs {
		"x\r\n", "-1\r\n", "5\r\nhelloxx0\r\n\r\n", "5 \r\nhello\r\n", "0x5\r\nhello\r\n", "\r\n", "5\nhello\r\n",
		("0"):rep(129), "1000000000000000\r\n", " 5\r\nhello\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n", "0\r\nbad\r\n\r\n",
	} do
		text = text .. ("z"):rep(200)
		test.eq(internal.recvchunkedbody(feed(text), nil, {}, ""), nil, text)
	end
end)

local function exchange(response, ...)
	local sent = {}
	local read = feed(response)
	local interface = {
		read = read,
		write = function(s) sent[#sent + 1] = s end,
		readall = function() return read() end,
	}
	local code, extra, header = internal.request(interface, ...)
	return table.concat(sent), code, extra, header, interface
end

test.case("request sends one block and gives the head of the response", function()
	local sent, code, extra, header, interface = exchange(
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 2\r\n\r\nokmore",
		"POST", "h:1", "/x", nil, nil, "body")
	test.eq(sent, "POST /x HTTP/1.1\r\nhost:h:1\r\nContent-length:4\r\n\r\nbody")
	test.eq({ code, extra, header }, { 200, "okmore", { ["content-length"] = "2" } })
	test.eq(internal.response(interface, code, extra, header), "ok")
end)

test.case("request leaves the caller's header alone and has one Host", function()
	local mine = { host = "other", a = { "1", "2" } }
	local sent = exchange("HTTP/1.1 204 No Content\r\n\r\n", "GET", "h", "/", nil, mine)
	test.eq(mine, { host = "other", a = { "1", "2" } })
	test.eq(select(2, sent:lower():gsub("\nhost:", "")), 1)
	test.match(sent, "a:1\r\na:2\r\n")
end)

test.case("request refuses line breaks in what it sends", function()
	for _, args in ipairs {
		{ "GET", "h", "/ x" }, { "GET", "h", "/\r\nx" }, { "G T", "h", "/" }, { "GET", "h\r\n", "/" },
		{ "GET", "h", "/", nil, { a = "b\r\nc: d" } }, { "GET", "h", "/", nil, { ["a\nb"] = "c" } },
	} do
		local ok, err = pcall(exchange, "", table.unpack(args, 1, 5))
		test.eq(ok, false)
		test.match(err, "Invalid .* in an HTTP request")
	end
end)

test.case("responses with two lengths, folded lines or strange codings are refused", function()
	for _, case in ipairs {
		{ "Content-Length: 2\r\nContent-Length: 2\r\n", "Content%-Length" },
		{ "Content-Length: -2\r\n", "Content%-Length" },
		{ "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "both" },
		{ "Transfer-Encoding: gzip\r\n", "Unsupport transfer%-encoding" },
		{ "A: b\r\n c\r\n", "folded" },
		{ "A: b\r\n\tc\r\n", "folded" },
		{ "A : b\r\n", "Invalid HTTP response header" },
	} do
		local ok, err = pcall(function()
			local _, code, extra, header, interface = exchange("HTTP/1.1 200 OK\r\n" .. case[1] .. "\r\nok",
				"GET", "h", "/")
			internal.response(interface, code, extra, header)
		end)
		test.eq(ok, false, case[1])
		test.match(err, case[2])
	end
end)

test.case("a body that ends too early raises", function()
	for _, text in ipairs { "Content-Length: 5\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nab" } do
		local ok = pcall(function()
			local _, code, extra, header, interface = exchange("HTTP/1.1 200 OK\r\n" .. text, "GET", "h", "/")
			return internal.response(interface, code, extra, header)
		end)
		test.eq(ok, false)
	end
end)

test.case("response_stream gives the body in pieces", function()
	local function stream_of(response)
		local _, code, extra, header, interface = exchange(response, "GET", "h", "/")
		return internal.response_stream(interface, code, extra, header)
	end
	local s = stream_of "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\nT: 1\r\n\r\n"
	local got = {}
	for piece in s do
		got[#got + 1] = piece
	end
	test.eq({ got, s.header.t, s.status }, { { "a", "bc", "" }, "1", 200 })
	s = stream_of "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
	test.eq({ (s()), s.connected, (s()) }, { "abc", nil, nil })
	s = stream_of "HTTP/1.1 204 No Content\r\n\r\n"
	test.eq({ (s()), (s()) }, { "", nil })
	s = stream_of "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
	test.eq({ (s()), s.connected }, { nil, false })
	s:close()
	s:close()
end)

test.case("url.parse decodes the path and leaves the query", function()
	test.eq({ url.parse "/a%20b+c?x=1" }, { "/a b c", "x=1" })
	test.eq({ url.parse "/plain" }, { "/plain", "" })
	test.eq({ url.parse "/%4" }, { "/%4", "" })
	test.eq({ url.parse "/a?b?c" }, { "/a", "b?c" })
	test.match(select(2, pcall(url.parse, "/%zz")), "Invalid percent%-encoding %%zz")
end)

test.case("url.parse_query collects repeats and bare names", function()
	test.eq(url.parse_query "a=1&a=2&a=3&b=%26+x&c&d=", { a = { "1", "2", "3" }, b = "& x", c = "", d = "" })
	test.eq(url.parse_query "", {})
	test.eq(url.parse_query(url.encode "a b" .. "=" .. url.encode "1&2=3"), { ["a b"] = "1&2=3" })
end)

-- Both ends of a connection.
local function pair()
	local accepted
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id) accepted = assert(socket.start(id)) end)
	local client = sockethelper.connect("127.0.0.1", port)
	test.wait_for(function() return accepted end)
	socket.close(listener)
	return client, accepted
end

test.case("readfunc gives the bytes read before first, then the socket's", function()
	local client, server = pair()
	local read = sockethelper.readfunc(server, "abcde")
	test.eq({ read(2), read(1) }, { "ab", "c" })
	sockethelper.writefunc(client)("fgh")
	test.eq(read(4), "defg")
	test.eq(read(), "h")
	sockethelper.close(client)
	sockethelper.close(server)
end)

test.case("a lost peer raises socket_error, with its text once", function()
	local client, server = pair()
	local read = sockethelper.readfunc(server)
	sockethelper.close(client)
	local ok, err = pcall(read)
	test.eq(ok, false)
	assert(err == sockethelper.socket_error)
	test.eq(tostring(err), "[Socket Error] : read failed fd = " .. server)
	test.eq(tostring(err), "[Socket Error]")
	socket.close(server)
	ok, err = pcall(sockethelper.writefunc(server), "x")
	test.eq(ok, false)
	test.eq(tostring(err), "[Socket Error] : write failed fd = " .. server)
	ok, err = pcall(sockethelper.connect, "127.0.0.1", 1)
	test.eq(ok, false)
	test.match(tostring(err), "connect failed host = 127.0.0.1 port = 1"
		.. " timeout = nil err = Connection refused is_time_out = false")
end)

test.case("a connect that takes too long is told as such, and ends", function()
	-- Nobody accepts: what the system keeps waiting is soon full, and answers no more.
	local listener, _, port = socket.listen("127.0.0.1", 0, 1)
	local ids, ok, err = {}, nil, nil
	for i = 1, 20 do
		ok, err = pcall(sockethelper.connect, "127.0.0.1", port, 20)
		if not ok then
			break
		end
		ids[i] = err
	end
	test.eq(ok, false)
	assert(err == sockethelper.socket_error)
	test.match(tostring(err), "connect failed host = 127.0.0.1 port = " .. port
		.. " timeout = 20 err = .* is_time_out = true")
	for _, id in ipairs(ids) do
		sockethelper.close(id)
	end
	socket.close(listener)
	test.wait_for(function() return #socket.netstat() == 0 end)
end)

test.case("readfunc with a time limit raises when it passes", function()
	local client, server = pair()
	local ok, err = pcall(sockethelper.readfunc(server, nil, 2))
	test.eq(ok, false)
	assert(err == sockethelper.socket_error)
	test.match(tostring(err), "timeout")
	sockethelper.close(client)
	sockethelper.close(server)
end)

test.case("codec.header takes the head of a request, and nothing else", function()
	local codec = require "http.codec"
	local text = "GET / HTTP/1.1\r\nHost: h\r\nA-b: 1\r\na-B: 2\r\n\r\n"
	local method, target, head, length, _, minor = codec.reader():request(text .. "rest")
	test.eq({ method, target, head, minor }, { "GET", "/", text, 1 })
	test.eq(length, nil)
	test.eq(codec.header(head), { host = "h", ["a-b"] = { "1", "2" } })
	-- In pieces, and with an empty line before.
	local reader, piece = codec.reader(), nil
	for byte in ("\r\n" .. text):gmatch "." do
		test.eq(piece, nil)
		piece = select(3, reader:request(byte))
	end
	test.eq(piece, text)
	for _, wrong in ipairs { "", "GET", text:sub(1, -2), text .. "x", "\r\n" .. text, "\0", "a\r\n\r\n",
		("x"):rep(1000), text:gsub("Host: h", "Host") } do
		test.match(select(2, pcall(codec.header, wrong)), "head of a request")
	end
end)

test.run()
