-- http.websocket, the client: against our own server, and against scripted ones that
-- are wrong in every way. Compression between both, with the examples of RFC 7692.

local skynet = require "skynet"
local socket = require "skynet.socket"
local sockethelper = require "http.sockethelper"
local websocket = require "http.websocket"
local handshake = require "http.wshandshake"
local wscodec = require "wscodec"
local test = require "testlib"
local raw = require "wsraw"

local function url_of(port)
	return "ws://127.0.0.1:" .. port
end

local function serve(handle, options)
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id, addr)
		websocket.accept(id, handle, "ws", addr, options)
	end)
	return url_of(port), port
end

local echo = {}

function echo.message(id, data, kind)
	websocket.write(id, data, kind)
end

-- A server by hand: `script` gets the id and the request's header as text. `answer`
-- may change the lines of the response; `behind` follows them at once.
local function scripted(script, answer, behind)
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id)
		socket.start(id)
		local head = socket.readline(id, "\r\n\r\n")
		local key = head:match "Sec%-WebSocket%-Key: (%S+)"
		local lines = {
			"HTTP/1.1 101 Switching Protocols",
			"Upgrade: websocket",
			"Connection: Upgrade",
			"Sec-WebSocket-Accept: " .. handshake.accept_key(key),
		}
		if answer then
			lines = answer(lines, head) or lines
		end
		socket.write(id, table.concat(lines, "\r\n") .. "\r\n\r\n" .. (behind or ""))
		if script then
			script(id, head)
		end
		socket.close(id)
	end)
	return url_of(port), port
end

local function server_frame(op, payload, how)
	how = how or {}
	how.mask = how.mask or false
	return raw.frame(op, payload, how)
end

--------------------------------------------------------------------- connect

test.case("the request is what RFC 6455 4.1 asks for", function()
	local seen
	local url, port = scripted(function(_, head) seen = head end)
	local id = websocket.connect(url .. "/a/b?c=d", { Cookie = "k=v", ["X-Two"] = { "1", "2" } })
	test.eq(websocket.addrinfo(id), "127.0.0.1:" .. port)
	websocket.close(id)
	test.match(seen, "^GET /a/b%?c=d HTTP/1.1\r\n")
	test.match(seen, "\r\nHost: 127.0.0.1:" .. port .. "\r\n")
	test.match(seen, "\r\nUpgrade: websocket\r\n")
	test.match(seen, "\r\nConnection: Upgrade\r\n")
	test.match(seen, "\r\nSec%-WebSocket%-Version: 13")
	test.match(seen, "\r\nCookie: k=v")
	test.match(seen, "\r\nX%-Two: 1\r\nX%-Two: 2")
	test.ok(not seen:find "Extensions" and not seen:find "Protocol")
end)

test.case("urls: a missing path, a query alone, IPv6, and what is no url", function()
	local seen
	local url = scripted(function(_, head) seen = head end)
	websocket.close(websocket.connect(url))
	test.match(seen, "^GET / HTTP")
	websocket.close(websocket.connect(url .. "?x=1#fragment"))
	test.match(seen, "^GET /%?x=1 HTTP")
	local listener, _, port = socket.listen("::1", 0)
	socket.start(listener, function(id, addr)
		websocket.accept(id, echo, "ws", addr)
	end)
	local id = websocket.connect("ws://[::1]:" .. port .. "/")
	test.eq(websocket.addrinfo(id), "[::1]:" .. port)
	websocket.close(id)
	socket.close(listener)
	for _, bad in ipairs { "http://127.0.0.1/", "ws:/x", "ws://", "ws://::1/", "ws://a b/", "127.0.0.1" } do
		test.err(function() websocket.connect(bad) end, "websocket: invalid")
	end
	test.err(function() websocket.connect(url .. "/a b") end, "invalid path")
end)

test.case("headers of the handshake are not the caller's; bad ones are refused", function()
	local url = serve(echo)
	test.err(function() websocket.connect(url, { upgrade = "x" }) end, "set by the handshake")
	test.err(function() websocket.connect(url, { ["Sec-WebSocket-Key"] = "x" }) end, "set by the handshake")
	test.err(function() websocket.connect(url, { X = "a\r\nY: b" }) end, "invalid name or value")
	test.err(function() websocket.connect(url, { ["a b"] = "c" }) end, "invalid name or value")
end)

test.case("a response that is no upgrade is an error", function()
	local function replace(n, text)
		return function(lines)
			lines[n] = text
			if text == nil then
				table.remove(lines, n)
			end
			return lines
		end
	end
	local cases = {
		{ replace(1, "HTTP/1.1 403 Forbidden"), "websocket handshake error: code[403] info:Forbidden" },
		{ replace(1, "HTTP/1.1 200 OK"), "code[200]" },
		{ replace(1, "SSH-2.0"), "invalid response" },
		{ replace(2, "Upgrade: h2c"), "upgrade must websocket" },
		{ replace(2, "X: y"), "upgrade must websocket" },
		{ replace(3, "Connection: close"), "connection must upgrade" },
		{ replace(4, "X: y"), "need Sec-WebSocket-Accept" },
		{ replace(4, "Sec-WebSocket-Accept: AAAA"), "invalid Sec-WebSocket-Accept" },
		{ replace(5, "Sec-WebSocket-Protocol: mine"), "not offered" },
		{ replace(5, "Sec-WebSocket-Extensions: permessage-deflate"), "not offered" },
		{ replace(5, ("X"):rep(9000) .. ": y"), "header too long" },
		{ replace(5, "no colon"), "invalid response" },
	}
	for _, c in ipairs(cases) do
		local url = scripted(nil, c[1])
		test.err(function() websocket.connect(url) end, c[2])
	end
end)

test.case("connecting fails: refused, closed, late", function()
	-- A port that a listener has just left may be another test's by now.
	local ok, err = pcall(websocket.connect, url_of(1))
	test.eq(ok, false)
	test.ok(err == sockethelper.socket_error)
	local closing, _, port2 = socket.listen("127.0.0.1", 0)
	socket.start(closing, function(id)
		socket.close_fd(id)
	end)
	ok, err = pcall(websocket.connect, url_of(port2))
	test.eq(ok, false)
	test.ok(err == sockethelper.socket_error)
	local silent, _, port3 = socket.listen("127.0.0.1", 0)
	socket.start(silent, function(id)
		socket.start(id)
	end)
	test.err(function() websocket.connect(url_of(port3), nil, 10) end, "timeout")
end)

test.case("subprotocols are offered and the server's choice is kept", function()
	local url = serve(echo, { protocols = { "b" } })
	local id = websocket.connect(url, nil, nil, { protocols = { "a", "b" } })
	test.eq(websocket.protocol(id), "b")
	websocket.close(id)
	id = websocket.connect(url, { ["Sec-WebSocket-Protocol"] = "x, b" })
	test.eq(websocket.protocol(id), "b")
	websocket.close(id)
	id = websocket.connect(url, nil, nil, { protocols = { "none" } })
	test.eq(websocket.protocol(id), nil)
	websocket.close(id)
end)

------------------------------------------------------------------------ data

test.case("messages go there and back: text, binary, large", function()
	local url = serve(echo)
	local id = websocket.connect(url)
	for _, text in ipairs { "hello", "", "κόσμε", ("x"):rep(200), ("y"):rep(70000), ("z"):rep(262144) } do
		websocket.write(id, text)
		test.eq(websocket.read(id), text)
		websocket.write(id, text, "binary")
		test.eq(websocket.read(id), text)
	end
	websocket.close(id)
	test.eq(websocket.is_close(id), true)
	test.err(function() websocket.write(id, "x") end, "not open")
end)

test.case("clients mask, each frame with another key; a given key is used", function()
	local frames = {}
	local url = scripted(function(id)
		for i = 1, 3 do
			frames[i] = socket.read(id, 11)
		end
		socket.write(id, server_frame(8, "\3\xe8"))
		test.eq(raw.next(id), "8:1000:")
	end)
	local id = websocket.connect(url)
	websocket.write(id, "Hello")
	websocket.write(id, "Hello")
	websocket.write(id, "Hello", "text", 0x37fa213d)
	test.eq(websocket.read(id), false)
	test.ne(frames[1]:sub(3), frames[2]:sub(3))
	test.eq(frames[3], "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")
end)

test.case("pings are answered, pongs passed over, frames behind the response read", function()
	local behind = server_frame(9, "early") .. server_frame(1, "first")
	local answer
	local url = scripted(function(id)
		answer = raw.read(id)
		socket.write(id, server_frame(10) .. server_frame(1, "a", { fin = false }) .. server_frame(9, "p")
			.. server_frame(0, "b"))
		raw.next(id)
		socket.write(id, raw.frame(8, "\x0f\xa1bye", { mask = false }))
		raw.next(id)
	end, nil, behind)
	local id = websocket.connect(url)
	test.eq(websocket.read(id), "first")
	test.eq(websocket.read(id), "ab")
	test.eq({ websocket.read(id) }, { false, "\x0f\xa1bye" })
	test.eq(answer.payload, "early")
	test.eq(answer.masked, true)
	test.eq(websocket.is_close(id), true)
	test.err(function() websocket.read(id) end, "not open")
end)

test.case("a server that breaks the rules is told so, and read raises", function()
	local cases = {
		{ server_frame(1, "x", { mask = true }), "8:1002:", "must not mask" },
		{ server_frame(1, "\xff"), "8:1007:", "UTF-8" },
		{ server_frame(3, ""), "8:1002:", "opcode" },
		{ server_frame(2, "", { length = 1 << 40 }), "8:1009:", "payload_len is too large" },
		{ server_frame(1, "x", { rsv = 4 }), "8:1002:", "reserved" },
	}
	for _, c in ipairs(cases) do
		local told
		local url = scripted(function(id)
			socket.write(id, c[1])
			told = raw.next(id):match "^8:%d+:"
		end)
		local id = websocket.connect(url)
		test.err(function() websocket.read(id) end, c[3])
		test.eq(websocket.is_close(id), true)
		test.wait_for(function() return told end)
		test.eq(told, c[2])
	end
end)

test.case("max_message is the client's limit, too", function()
	local url = serve(echo)
	local id = websocket.connect(url, nil, nil, { max_message = 100 })
	websocket.write(id, ("x"):rep(101))
	test.err(function() websocket.read(id) end, "payload_len is too large")
end)

test.case("16 MiB are a client's limit by default", function()
	local told
	for _, c in ipairs { { 0x1000000, "" }, { 0x1000001, "8:1009" } } do
		local length, answer = c[1], c[2]
		local url = scripted(function(id)
			socket.write(id, server_frame(2, "its beginning", { length = length }))
			told = answer ~= "" and raw.next(id):match "^8:%d+"
		end)
		local id = websocket.connect(url)
		local ok, err = pcall(websocket.read, id)
		test.eq(ok, false)
		-- The one that is allowed is awaited, and then it is cut off.
		test.eq(err == sockethelper.socket_error, answer == "", tostring(err))
		if answer ~= "" then
			test.match(err, "payload_len is too large")
			test.wait_for(function() return told end)
			test.eq(told, answer)
		end
		websocket.close(id)
	end
end)

test.case("a dropped connection: read raises the socket error", function()
	local url = scripted(function(id)
		socket.write(id, server_frame(1, "half", { length = 10 }))
	end)
	local id = websocket.connect(url)
	local ok, err = pcall(websocket.read, id)
	test.eq(ok, false)
	test.ok(err == sockethelper.socket_error)
	test.eq(websocket.is_close(id), true)
	websocket.close(id)
end)

test.case("close waits for the server's close frame, for a bounded time", function()
	local is_answered = false
	local url = scripted(function(id)
		test.eq(raw.next(id), "8:1000:done")
		skynet.sleep(5)
		is_answered = true
		socket.write(id, server_frame(1, "late") .. server_frame(8, "\3\xe8"))
	end)
	local id = websocket.connect(url)
	websocket.close(id, 1000, "done")
	test.eq(is_answered, true)
	url = scripted(function(other)
		raw.next(other)
		test.eq(raw.next(other), "end")
	end)
	id = websocket.connect(url, nil, nil, { close_timeout = 5 })
	websocket.close(id)
	test.eq(websocket.is_close(id), true)
end)

test.case("close while another task reads: that one gets false", function()
	local url = serve(echo)
	local id = websocket.connect(url)
	local result
	skynet.fork(function()
		result = { websocket.read(id) }
	end)
	skynet.sleep(1)
	test.err(function() websocket.read(id) end, "another task reads")
	websocket.close(id, 4000)
	test.wait_for(function() return result end)
	test.eq(result, { false, "\x0f\xa0" })
end)

test.case("a silent server is dropped by idle_timeout", function()
	local url = scripted(function(id)
		socket.read(id, 1000)
	end)
	local id = websocket.connect(url, nil, nil, { idle_timeout = 10 })
	local ok, err = pcall(websocket.read, id)
	test.eq(ok, false)
	test.ok(err == sockethelper.socket_error)
end)

----------------------------------------------------------------- compression

local function extension(head)
	return head:match "Sec%-WebSocket%-Extensions: ([^\r]*)"
end

test.case("compression is agreed on as RFC 7692 7.1 has it", function()
	local deflate15 = { window_bits = 15 }
	local cases = {
		{ "permessage-deflate", deflate15, "permessage-deflate" },
		{ "permessage-deflate", true, "permessage-deflate; server_max_window_bits=12" },
		{ "permessage-deflate; client_max_window_bits", true,
			"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12" },
		{ "permessage-deflate; client_max_window_bits=10; server_max_window_bits=\"9\"", deflate15,
			"permessage-deflate; server_max_window_bits=9; client_max_window_bits=10" },
		{ "permessage-deflate; server_no_context_takeover; client_no_context_takeover", deflate15,
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover" },
		{ "permessage-deflate", { window_bits = 15, no_context_takeover = true },
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover" },
		-- The second offer, because the first can't be met.
		{ "permessage-deflate; server_max_window_bits=8, permessage-deflate", deflate15, "permessage-deflate" },
		{ "x-webkit-deflate-frame, permessage-deflate; unknown, permessage-deflate", deflate15, "permessage-deflate" },
		{ "permessage-deflate; server_max_window_bits=16", deflate15 },
		{ "permessage-deflate; server_max_window_bits", deflate15 },
		{ "permessage-deflate; server_max_window_bits=010", deflate15 },
		{ "permessage-deflate; client_max_window_bits=7", deflate15 },
		{ "permessage-deflate; server_no_context_takeover=1", deflate15 },
		{ "permessage-deflate; server_no_context_takeover; server_no_context_takeover", deflate15 },
		{ "permessage-deflate", false },
		{ "; ,", deflate15 },
	}
	for i, c in ipairs(cases) do
		local _, port = serve(echo, { deflate = c[2] })
		local id, head = raw.connect(port, { ["Sec-WebSocket-Extensions"] = c[1] })
		test.match(head, " 101 ")
		test.eq(extension(head), c[3], "case " .. i)
		socket.close(id)
	end
end)

-- A raw client with compression; our answers below the threshold come plain.
local function deflating(options, params)
	options = options or { window_bits = 15 }
	local _, port = serve(echo, { deflate = options, max_message = 1000000 })
	return raw.connect(port, { ["Sec-WebSocket-Extensions"] = "permessage-deflate" .. (params or "") })
end

local HELLO = "\xf2\x48\xcd\xc9\xc9\x07\x00"

test.case("the examples of RFC 7692 7.2.3", function()
	local id = deflating()
	local compressed = { rsv = 4 }
	local function expect_hello(...)
		for _, bytes in ipairs { ... } do
			socket.write(id, bytes)
		end
		test.eq(raw.next(id), "1:Hello")
	end
	expect_hello(raw.frame(1, HELLO, compressed))
	-- Fragmented, with a ping between.
	socket.write(id, raw.frame(1, HELLO:sub(1, 3), { rsv = 4, fin = false }) .. raw.frame(9, "p"))
	test.eq(raw.next(id), "10:p")
	expect_hello(raw.frame(0, HELLO:sub(4)))
	-- The window of the messages before.
	expect_hello(raw.frame(1, "\xf2\x00\x11\x00\x00", compressed))
	-- A stored block, a final block, two blocks, and plain in between.
	expect_hello(raw.frame(1, "\x00\x05\x00\xfa\xffHello\x00", compressed))
	expect_hello(raw.frame(1, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", compressed))
	expect_hello(raw.frame(1, "\xf3\x48\xcd\xc9\xc9\x07\x00", compressed))
	expect_hello(raw.frame(1, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", compressed))
	expect_hello(raw.frame(1, "Hello"))
	expect_hello(raw.frame(1, "\xf2\x00\x11\x00\x00", compressed))
	-- An empty message.
	socket.write(id, raw.frame(1, "\x00", compressed))
	test.eq(raw.next(id), "1:")
	socket.close(id)
end)

test.case("compressed garbage, bad text and bombs are refused", function()
	local compressor = wscodec.new { deflate = { window_bits = 15 } }
	local function masked(text, kind)
		return compressor:frame(kind, text)
	end
	local bomb = masked(("\0"):rep(50000000), 2)
	test.ok(#bomb < 100000)
	local cases = {
		{ raw.frame(1, "\xff\xff\xff\xff", { rsv = 4 }), "8:1007:" },
		{ raw.frame(1, "\x00\x05\x00\x00\x00Hello\x00", { rsv = 4 }), "8:1007:" },
		{ bomb, "8:1009:" },
		{ raw.frame(2, bomb:sub(1, 200), { rsv = 4, length = 1100000 }), "8:1009:" },
		{ raw.frame(0, HELLO, { rsv = 4 }), "8:1002:" },
		{ raw.frame(1, "\xf2", { fin = false, rsv = 4 }) .. raw.frame(0, "x", { rsv = 4 }), "8:1002:" },
		{ raw.frame(9, HELLO, { rsv = 4 }), "8:1002:" },
	}
	for i, c in ipairs(cases) do
		local id = deflating()
		socket.write(id, c[1])
		test.eq(raw.next(id):match "^8:%d+:", c[2], "case " .. i)
		socket.close(id)
	end
	-- Text that is wrong only when it is inflated.
	local id = deflating()
	local bad = wscodec.new { any_text = true, deflate = { window_bits = 15, threshold = 1 } }
	socket.write(id, bad:frame(1, ("x"):rep(1000) .. "\xed\xa0\x80"))
	test.eq(raw.next(id):match "^8:%d+:", "8:1007:")
	socket.close(id)
end)

local function random_text(n)
	local out = {}
	for i = 1, n do
		out[i] = ("%x"):format(math.random(0, 15))
	end
	return table.concat(out)
end

test.case("compressed messages between both sides, for every setting", function()
	for _, server in ipairs { { window_bits = 15 }, { window_bits = 9 }, { no_context_takeover = true },
		{ level = 1, mem_level = 1, threshold = 1 }, { level = 9, mem_level = 9 } } do
		local url = serve(echo, { deflate = server, max_message = 2000000 })
		for _, client in ipairs { true, { window_bits = 15, no_context_takeover = true, threshold = 1 } } do
			local id = websocket.connect(url, nil, nil, { deflate = client })
			for _, n in ipairs { 1, 100, 128, 1000, 5000, 70000 } do
				local text = random_text(n)
				for _ = 1, 3 do
					websocket.write(id, text)
					test.ok(websocket.read(id) == text, n)
				end
			end
			local zeros = ("\0"):rep(1000000)
			websocket.write(id, zeros, "binary")
			test.ok(websocket.read(id) == zeros)
			websocket.close(id)
		end
	end
end)

test.case("the server's frames are compressed, above the threshold", function()
	local id = deflating()
	socket.write(id, raw.frame(1, ("a"):rep(100)) .. raw.frame(1, ("a"):rep(1000)))
	test.eq(raw.read(id).rsv, 0)
	local f = raw.read(id)
	test.eq(f.rsv, 4)
	test.ok(#f.payload < 30)
	test.ok(f.payload:sub(-4) ~= "\0\0\xff\xff")
	socket.close(id)
end)

test.case("a client holds the server to what was offered", function()
	local cases = {
		{ "permessage-deflate; server_max_window_bits=15", "larger than offered" },
		{ "permessage-deflate", "larger than offered" },
		{ "permessage-deflate; client_max_window_bits", "not offered" },
		{ "permessage-deflate; x", "not offered" },
		{ "permessage-deflate, permessage-deflate", "not offered" },
		{ "other", "not offered" },
	}
	for _, c in ipairs(cases) do
		local url = scripted(nil, function(lines)
			lines[#lines + 1] = "Sec-WebSocket-Extensions: " .. c[1]
		end)
		test.err(function() websocket.connect(url, nil, nil, { deflate = true }) end, c[2])
	end
	-- A window that zlib has not: our messages go out as they are.
	local f
	local url = scripted(function(id)
		f = raw.read(id)
		socket.write(id, server_frame(8))
		raw.next(id)
	end, function(lines)
		lines[#lines + 1] = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9; client_max_window_bits=8"
	end)
	local id = websocket.connect(url, nil, nil, { deflate = true })
	websocket.write(id, ("a"):rep(1000))
	test.eq({ websocket.read(id) }, { false, "" })
	test.eq(f.rsv, 0)
	test.eq(#f.payload, 1000)
end)

test.case("wrong settings are errors that name the option", function()
	local url = serve(echo)
	test.err(function() websocket.connect(url, nil, nil, { deflate = { window_bits = 16 } }) end, "window_bits")
	test.err(function() websocket.connect(url, nil, nil, { max_mesage = 5 }) end, "unknown websocket option 'max_mesage'")
	test.err(function() websocket.connect(url, nil, nil, { max_message = "5" }) end,
		"websocket option max_message must be a positive number, not 5")
	test.err(function() wscodec.new { deflate = { level = 10 } } end, "level must be an integer from 1 to 9")
	test.err(function() wscodec.new { max_message = 0 } end, "max_message")
	test.err(function() wscodec.new { max_message = "x" } end, "max_message")
end)

----------------------------------------------------------------------- codec

test.case("the codec cuts the same messages from any pieces", function()
	local stream = {}
	local sender = wscodec.new { deflate = { window_bits = 15, threshold = 10 } }
	for i = 1, 20 do
		stream[i] = sender:frame(i % 2 + 1, ("m"):rep(i * 7)) .. raw.frame(9, "p" .. i)
	end
	stream = table.concat(stream)
	for _, piece in ipairs { 1, 2, 3, 7, 64, 1000, #stream } do
		local codec = wscodec.new { server = true, inflate = { window_bits = 15 } }
		local n = 0
		for at = 1, #stream, piece do
			codec:feed(stream:sub(at, at + piece - 1))
			while true do
				local kind, data = codec:next()
				if not kind then
					break
				end
				n = n + 1
				if n % 2 == 1 then
					test.eq(kind, ((n + 1) // 2) % 2 + 1)
					test.eq(#data, (n + 1) // 2 * 7)
				else
					test.eq(kind, 9)
				end
			end
		end
		test.eq(n, 40)
	end
end)

test.case("what was fed and not asked for yet is kept", function()
	local codec = wscodec.new { server = true }
	for i = 1, 10 do
		codec:feed(raw.frame(1, "m" .. i))
	end
	test.ok(codec:pending() > 50)
	for i = 1, 10 do
		test.eq({ codec:next() }, { 1, "m" .. i })
	end
	test.eq(codec:next(), nil)
	test.eq(codec:pending(), 0)
end)

test.case("after a failure a codec decodes nothing", function()
	for _, bytes in ipairs { raw.frame(3), "\x81\x00", raw.frame(2, "", { length = 1 << 40 }) } do
		local codec = wscodec.new { server = true }
		codec:feed(bytes)
		test.eq((codec:next()), -1)
		for _ = 1, 100 do
			codec:feed(raw.frame(1, "x"))
			test.eq({ codec:next() }, { -1, 1002, "the stream has failed before" })
		end
	end
end)

test.run()
