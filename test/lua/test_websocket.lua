-- http.websocket, the server: a raw client sends right and wrong bytes. The groups
-- follow those of the well-known conformance suite, written from RFC 6455.

local skynet = require "skynet"
local socket = require "skynet.socket"
local internal = require "http.internal"
local sockethelper = require "http.sockethelper"
local websocket = require "http.websocket"
local test = require "testlib"
local raw = require "wsraw"
local sockets = require "sockets"

local frame = raw.frame

-- A listener that serves with `handle` and `options`; its port, and what accept
-- returned, in order of ending.
local function serve(handle, options)
	local results = {}
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id, addr)
		results[#results + 1] = table.pack(websocket.accept(id, handle, "ws", addr, options))
	end)
	return port, results, listener
end

local echo = {}

function echo.message(id, data, kind)
	websocket.write(id, data, kind)
end

local echo_port, echo_results

test.case("a server starts", function()
	echo_port, echo_results = serve(echo)
	test.ok(echo_port > 0)
end)

-- A handler that notes what is called.
local function recorder()
	local notes = {}
	local handle = {}
	for _, name in ipairs { "connect", "handshake", "message", "ping", "pong", "close", "error", "warning" } do
		handle[name] = function(id, ...)
			notes[#notes + 1] = table.pack(name, ...)
			notes.id = id
		end
	end
	return handle, notes
end

local function note(notes, name)
	return test.wait_for(function()
		for _, n in ipairs(notes) do
			if n[1] == name then
				return n
			end
		end
	end, nil, name)
end

--------------------------------------------------------------------- upgrade

test.case("the upgrade is answered as RFC 6455 1.3 shows", function()
	local handle, notes = recorder()
	local port = serve(handle)
	local id, head = raw.connect(port, { ["X-Real-IP"] = "10.1.2.3" })
	test.match(head, "^HTTP/1.1 101 Switching Protocols\r\n")
	test.match(head, "Upgrade: websocket\r\n")
	test.match(head, "Connection: Upgrade\r\n")
	test.match(head, "Sec%-WebSocket%-Accept: s3pPLMBiTxaQ9kYGzzhZRbK%+xOo=")
	test.ok(not head:find "Protocol:" and not head:find "Extensions")
	local n = note(notes, "handshake")
	test.eq(notes[1][1], "connect")
	test.eq(n[2].host, "test")
	test.eq(n[3], "/chat?x=1")
	test.eq(websocket.real_ip(notes.id), "10.1.2.3")
	test.match(websocket.addrinfo(notes.id), "^127.0.0.1:%d+$")
	test.eq(websocket.is_close(notes.id), false)
	socket.close(id)
	note(notes, "error")
	test.eq(websocket.is_close(notes.id), true)
end)

test.case("a bad request is refused with its status, and close is called", function()
	local cases = {
		{ { Upgrade = "h2c" }, "426", "Upgrade Required" },
		{ { Upgrade = false }, "426", "Upgrade Required" },
		{ { Host = false }, "400", "host Required" },
		{ { Connection = "keep-alive" }, "400", "Connection must Upgrade" },
		{ { Connection = false }, "400", "Connection must Upgrade" },
		{ { ["Sec-WebSocket-Key"] = false }, "400", "Sec-WebSocket-Key Required" },
		{ { ["Sec-WebSocket-Key"] = "c2hvcnQ=" }, "400", "Sec-WebSocket-Key invalid" },
		{ { ["Sec-WebSocket-Key"] = "!!" }, "400", "Sec-WebSocket-Key invalid" },
		{ { ["Sec-WebSocket-Version"] = "8" }, "400", "Sec-WebSocket-Version must 13" },
		{ { ["Sec-WebSocket-Version"] = false }, "400", "Sec-WebSocket-Version must 13" },
		{ {}, "400", "need GET method", "POST / HTTP/1.1" },
		{ {}, "505", "", "GET / HTTP/1.0" },
		{ {}, "400", "", "garbage" },
		{ { ["bad name"] = "x" }, "400", "" },
		{ { X = ("x"):rep(9000) }, "413", "" },
	}
	for _, c in ipairs(cases) do
		local handle, notes = recorder()
		local port, results = serve(handle)
		local id = assert(socket.open("127.0.0.1", port))
		socket.write(id, raw.request(c[1], c[4]))
		local answer = socket.readall(id)
		test.match(answer, "^HTTP/1.1 " .. c[2] .. " ")
		test.eq(answer:match "\r\n\r\n(.*)$", c[3])
		note(notes, "close")
		socket.close(id)
		test.wait_for(function() return results[1] end)
		test.eq(results[1][1], true)
	end
end)

test.case("a subprotocol is chosen from those of the caller; none is no error", function()
	local port = serve({})
	local id, head = raw.connect(port, { ["Sec-WebSocket-Protocol"] = "superchat, chat" })
	test.match(head, "Sec%-WebSocket%-Protocol: chat")
	socket.close(id)
	id, head = raw.connect(port, { ["Sec-WebSocket-Protocol"] = "mqtt" })
	test.match(head, "^HTTP/1.1 101 ")
	test.ok(not head:find "Protocol:")
	socket.close(id)
	local handle, notes = recorder()
	port = serve(handle, { protocols = { "game.v2", "game.v1" } })
	id, head = raw.connect(port, { ["Sec-WebSocket-Protocol"] = "x, game.v1" })
	test.match(head, "Sec%-WebSocket%-Protocol: game%.v1")
	note(notes, "handshake")
	test.eq(websocket.protocol(notes.id), "game.v1")
	socket.close(id)
end)

test.case("an origin that is not allowed is refused", function()
	local port = serve(echo, { origins = { "https://game.example" } })
	local id, head = raw.connect(port, { Origin = "https://GAME.example" })
	test.match(head, " 101 ")
	socket.close(id)
	for _, origin in ipairs { "https://evil.example", false } do
		id, head = raw.connect(port, { Origin = origin })
		test.match(head, "^HTTP/1.1 403 Forbidden")
		socket.close(id)
	end
end)

test.case("the request may have been read by the caller", function()
	local handle, notes = recorder()
	handle.message = echo.message
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id, addr)
		socket.start(id)
		local head = socket.readline(id, "\r\n\r\n")
		local lines = {}
		for line in (head .. "\r\n"):gmatch "(.-)\r\n" do
			lines[#lines + 1] = line
		end
		local header = internal.parseheader(lines, 2, {})
		websocket.accept(id, handle, "ws", addr, { upgrade = { header = header, method = "GET", url = "/mine" } })
	end)
	local id = raw.connect(port)
	test.eq(note(notes, "handshake")[3], "/mine")
	socket.write(id, frame(1, "hello"))
	test.eq(raw.next(id), "1:hello")
	socket.close(id)
end)

test.case("bytes behind the request belong to the frames", function()
	local id = assert(socket.open("127.0.0.1", echo_port))
	socket.write(id, raw.request() .. frame(1, "early"))
	socket.readline(id, "\r\n\r\n")
	test.eq(raw.next(id), "1:early")
	socket.close(id)
end)

test.case("an upgrade that does not end is cut off", function()
	local handle, notes = recorder()
	local port = serve(handle, { handshake_timeout = 10 })
	local id = assert(socket.open("127.0.0.1", port))
	socket.write(id, "GET / HTTP/1.1\r\nHost: x\r\n")
	test.eq(socket.read(id, 1), false)
	socket.close(id)
	note(notes, "error")
end)

---------------------------------------------------------------- conformance

-- Sends bytes, at once or one by one, and compares what comes back. A server that
-- refuses them waits for our end; otherwise the close handshake must work.
local function run_case(port, bytes, want, split)
	local id = raw.connect(port)
	if split then
		for i = 1, #bytes do
			socket.write(id, bytes:sub(i, i))
		end
	else
		socket.write(id, bytes)
	end
	for i, text in ipairs(want) do
		local got = raw.next(id)
		if got:sub(1, 7) == text and text:sub(1, 2) == "8:" then
			got = text -- the reason is free
		end
		test.eq(got, text, string.format("answer %d", i))
	end
	local last = want[#want] or ""
	if last:sub(1, 2) ~= "8:" then
		socket.write(id, raw.close_frame(1000))
		test.eq(raw.next(id), "8:1000:")
	end
	if not (last == "8:1002:" or last == "8:1007:" or last == "8:1009:") then
		test.eq(raw.next(id), "end")
	end
	socket.close(id)
end

local function conform(group, cases)
	for _, c in ipairs(cases) do
		test.case(group .. ": " .. c[1], function()
			local bytes = table.concat(c[2])
			run_case(echo_port, bytes, c[3], false)
			if #bytes < 1000 then
				run_case(echo_port, bytes, c[3], true)
			end
		end)
	end
end

local function echoes(op)
	local list = {}
	for _, n in ipairs { 0, 1, 125, 126, 127, 128, 65535, 65536, 262144 } do
		local text = ("*"):rep(n)
		list[#list + 1] = { n .. " bytes", { frame(op, text) }, { op .. ":" .. text } }
	end
	return list
end

conform("framing text", echoes(1))
conform("framing binary", echoes(2))

conform("ping and pong", {
	{ "an empty ping", { frame(9) }, { "10:" } },
	{ "a ping with text", { frame(9, "Hello, world!") }, { "10:Hello, world!" } },
	{ "a ping with bytes that are no text", { frame(9, "\0\xff\xfe\xfd\xfc\xfb\0\xff") }, { "10:\0\xff\xfe\xfd\xfc\xfb\0\xff" } },
	{ "a ping of 125 bytes", { frame(9, ("\xfe"):rep(125)) }, { "10:" .. ("\xfe"):rep(125) } },
	{ "a ping of 126 bytes", { frame(9, ("\xfe"):rep(126)) }, { "8:1002:" } },
	{ "pongs that nobody asked for", { frame(10), frame(10, "x"), frame(9, "mine") }, { "10:mine" } },
	{ "ten pings", (function()
		local list = {}
		for i = 1, 10 do list[i] = frame(9, "p" .. i) end
		return list
	end)(), { "10:p1", "10:p2", "10:p3", "10:p4", "10:p5", "10:p6", "10:p7", "10:p8", "10:p9", "10:p10" } },
})

conform("reserved bits", {
	{ "rsv3", { frame(1, "x", { rsv = 1 }) }, { "8:1002:" } },
	{ "rsv2 after a good message", { frame(1, "ok"), frame(1, "x", { rsv = 2 }) }, { "1:ok", "8:1002:" } },
	{ "rsv2 and rsv3", { frame(2, "x", { rsv = 3 }) }, { "8:1002:" } },
	{ "rsv1 without compression", { frame(1, "x", { rsv = 4 }) }, { "8:1002:" } },
	{ "rsv1 on a ping", { frame(9, "x", { rsv = 4 }) }, { "8:1002:" } },
	{ "all on a close", { frame(8, "", { rsv = 7 }) }, { "8:1002:" } },
})

conform("opcodes", (function()
	local list = {}
	for _, op in ipairs { 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 } do
		list[#list + 1] = { "reserved " .. op, { frame(1, "ok"), frame(op, "x") }, { "1:ok", "8:1002:" } }
		list[#list + 1] = { "reserved and empty " .. op, { frame(op) }, { "8:1002:" } }
	end
	return list
end)())

local first, more = { fin = false }, { fin = false }

conform("fragments", {
	{ "a ping in two", { frame(9, "a", first), frame(0, "b") }, { "8:1002:" } },
	{ "a pong in two", { frame(10, "a", first), frame(0, "b") }, { "8:1002:" } },
	{ "a close in two", { frame(8, "\3\xe8", first), frame(0, "b") }, { "8:1002:" } },
	{ "a text in two", { frame(1, "fragment1", first), frame(0, "fragment2") }, { "1:fragment1fragment2" } },
	{ "a binary in three, two of them empty", { frame(2, "", first), frame(0, "middle", more), frame(0, "") }, { "2:middle" } },
	{ "a text of empty ones", { frame(1, "", first), frame(0, "", more), frame(0, "") }, { "1:" } },
	{ "pings in between", { frame(1, "abc", first), frame(0, "def", more), frame(9, "ping!"), frame(0, "ghi") },
		{ "10:ping!", "1:abcdefghi" } },
	{ "a pong in between", { frame(1, "a", first), frame(10, "x"), frame(0, "b") }, { "1:ab" } },
	{ "a continuation of nothing", { frame(0, "x") }, { "8:1002:" } },
	{ "a continuation after the end", { frame(1, "a", first), frame(0, "b"), frame(0, "c") }, { "1:ab", "8:1002:" } },
	{ "an open continuation of nothing", { frame(0, "x", more), frame(1, "y") }, { "8:1002:" } },
	{ "a message within a message", { frame(1, "a", first), frame(1, "b") }, { "8:1002:" } },
	{ "a binary within a text", { frame(1, "a", first), frame(2, "b", first) }, { "8:1002:" } },
	{ "hundred fragments", (function()
		local list = { frame(1, "x", first) }
		for i = 2, 99 do list[i] = frame(0, "x", more) end
		list[100] = frame(0, "x")
		return list
	end)(), { "1:" .. ("x"):rep(100) } },
})

-- κόσμε and friends; a piece of text in every kind of wrong.
local VALID = {
	"Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\0", "\u{7f}", "\u{80}", "\u{7ff}", "\u{800}", "\u{ffff}",
	"\u{10000}", "\u{10ffff}", "\u{d7ff}", "\u{e000}", "\u{fffd}", "\u{fffe}", "\u{1fffe}", "",
}
local INVALID = {
	lonely_tail = "\x80", lonely_tail_2 = "abc\xbf", many_tails = ("\x80"):rep(8),
	start_2 = "\xc0 ", start_3 = "\xe1 x", start_4 = "\xf1 xx", cut_2 = "\xce", cut_3 = "\xe1\xbd",
	cut_4 = "\xf4\x80\x80", byte_fe = "\xfe", byte_ff = "\xff", five_bytes = "\xf8\x88\x80\x80\x80",
	six_bytes = "\xfc\x84\x80\x80\x80\x80", overlong_2 = "\xc0\xaf", overlong_3 = "\xe0\x80\xaf",
	overlong_4 = "\xf0\x80\x80\xaf", overlong_max = "\xc1\xbf", surrogate_low = "\xed\xa0\x80",
	surrogate_high = "\xed\xbf\xbf", pair = "\xed\xa0\x80\xed\xb0\x80", beyond = "\xf4\x90\x80\x80",
	kosme = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
}

conform("UTF-8", (function()
	local list = {}
	for i, text in ipairs(VALID) do
		list[#list + 1] = { "valid " .. i, { frame(1, text) }, { "1:" .. text } }
		local pieces = {}
		for k = 1, #text do
			pieces[k] = frame(k == 1 and 1 or 0, text:sub(k, k), { fin = k == #text })
		end
		if #text > 0 then
			list[#list + 1] = { "valid byte by byte " .. i, pieces, { "1:" .. text } }
		end
	end
	local names = {}
	for name in pairs(INVALID) do names[#names + 1] = name end
	table.sort(names)
	for _, name in ipairs(names) do
		list[#list + 1] = { "invalid " .. name, { frame(1, INVALID[name]) }, { "8:1007:" } }
		list[#list + 1] = { "no text, " .. name, { frame(2, INVALID[name]) }, { "2:" .. INVALID[name] } }
	end
	list[#list + 1] = { "cut within a character at the end", { frame(1, "\xce", first), frame(0, "") }, { "8:1007:" } }
	list[#list + 1] = { "a ping within a character", { frame(1, "\xce", first), frame(9, "p"), frame(0, "\xba") },
		{ "10:p", "1:\xce\xba" } }
	return list
end)())

test.case("the server ends a connection that it refused, if the client does not", function()
	local id = raw.connect(echo_port)
	socket.write(id, frame(3))
	test.match(raw.next(id), "^8:1002:unknown opcode")
	test.eq(raw.next(id), "end")
	socket.close(id)
end)

test.case("UTF-8: wrong text is refused before its message is complete", function()
	local id = raw.connect(echo_port)
	-- The frame announces more than is ever sent.
	socket.write(id, frame(1, "\xed\xa0\x80", { length = 1000 }))
	test.match(raw.next(id), "^8:1007:")
	socket.close(id)
end)

conform("close", (function()
	local list = {
		{ "without a code", { frame(8) }, { "8:" } },
		{ "one byte", { frame(8, "\3") }, { "8:1002:" } },
		{ "with the longest reason", { raw.close_frame(1000, ("*"):rep(123)) }, { "8:1000:" } },
		{ "too long", { raw.close_frame(1000, ("*"):rep(124)) }, { "8:1002:" } },
		{ "a reason that is no text", { raw.close_frame(1000, "\xce\xba\xff") }, { "8:1007:" } },
		{ "nothing is answered after it", { frame(8, "\3\xe8"), frame(9, "p"), frame(1, "x") }, { "8:1000:" } },
		{ "within a message", { frame(1, "a", first), frame(8, "\3\xe8"), frame(0, "b") }, { "8:1000:" } },
	}
	for _, code in ipairs { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999 } do
		list[#list + 1] = { "code " .. code, { raw.close_frame(code) }, { "8:" .. code .. ":" } }
	end
	for _, code in ipairs { 0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535 } do
		list[#list + 1] = { "invalid code " .. code, { raw.close_frame(code) }, { "8:1002:" } }
	end
	return list
end)())

local LARGE = 262145
conform("limits", {
	{ "a message over the limit", { frame(2, ("x"):rep(LARGE)) }, { "8:1009:" } },
	{ "a length that is never sent", { frame(2, "", { length = LARGE }) }, { "8:1009:" } },
	{ "a length of 2^62", { frame(2, "", { length = 1 << 62 }) }, { "8:1009:" } },
	{ "a length of 2^63", { frame(2, "", { length = math.mininteger, form = 64 }) }, { "8:1002:" } },
	{ "fragments over the limit", { frame(2, ("x"):rep(200000), first), frame(0, ("x"):rep(62145)) }, { "8:1009:" } },
	{ "16 bits for 125", { frame(2, ("x"):rep(125), { form = 16 }) }, { "8:1002:" } },
	{ "64 bits for 65535", { frame(2, ("x"):rep(65535), { form = 64 }) }, { "8:1002:" } },
	{ "a client that does not mask", { frame(1, "x", { mask = false }) }, { "8:1002:" } },
})

------------------------------------------------------------------- behaviour

test.case("the callbacks get what the peer sent, and accept returns true", function()
	local handle, notes = recorder()
	local port, results = serve(handle)
	local id = raw.connect(port)
	socket.write(id, frame(1, "abc", first) .. frame(0, "def", more) .. frame(9, "p") .. frame(0, "ghi")
		.. frame(2, "\0\1") .. frame(10) .. raw.close_frame(1000, "bye"))
	test.eq(raw.next(id), "10:p")
	test.eq(raw.next(id), "8:1000:")
	test.eq(note(notes, "message"), { "message", "abcdefghi", "text", n = 3 })
	test.eq(note(notes, "close"), { "close", 1000, "bye", n = 3 })
	note(notes, "ping")
	note(notes, "pong")
	test.eq(notes[5], { "message", "\0\1", "binary", n = 3 })
	socket.close(id)
	test.wait_for(function() return results[1] end)
	test.eq(results[1], { true, nil, n = 2 })
end)

test.case("a handler that waits: what arrives meanwhile is kept in order, and the peer waits", function()
	local got, go_on = {}, false
	local port, results = serve {
		message = function(_, data)
			if not go_on then
				go_on = coroutine.running()
				skynet.wait(go_on)
			end
			got[#got + 1] = data
		end,
	}
	local id = raw.connect(port)
	local count, body = 0, ("x"):rep(1500)
	local function write()
		local list = {}
		for i = 1, 1000 do
			list[i] = frame(2, string.pack(">I4", count + i) .. body)
		end
		count = count + 1000
		local bytes = table.concat(list)
		-- In pieces that end anywhere in a frame.
		for i = 1, #bytes, 997 do
			socket.write(id, bytes:sub(i, i + 996))
		end
		return #bytes
	end
	write()
	test.wait_for(function() return go_on end)
	-- The server reads no further.
	sockets.fill(id, write)
	skynet.wakeup(go_on)
	test.wait_for(function() return #got == count end)
	for i = 1, count do
		test.eq(string.unpack(">I4", got[i]), i)
		test.eq(#got[i], 4 + #body)
	end
	socket.close(id)
	test.eq(test.wait_for(function() return results[1] end)[1], true)
end)

test.case("a code of two bytes without a reason is a code", function()
	local handle, notes = recorder()
	local port = serve(handle)
	local id = raw.connect(port)
	socket.write(id, raw.close_frame(4001))
	test.eq(raw.next(id), "8:4001:")
	test.eq(note(notes, "close"), { "close", 4001, "", n = 3 })
	socket.close(id)
end)

test.case("a lost connection is an error callback, and accept returns true", function()
	local handle, notes = recorder()
	local port, results = serve(handle)
	local id = raw.connect(port)
	note(notes, "handshake")
	socket.write(id, frame(1, "half", { length = 100 }))
	socket.close(id)
	test.ok(note(notes, "error")[2] == sockethelper.socket_error)
	test.wait_for(function() return results[1] end)
	test.eq(results[1][1], true)
end)

test.case("an error in a handler: accept returns false, the client is told 1011", function()
	local port, results = serve { message = function() error "oops" end }
	local id = raw.connect(port)
	socket.write(id, frame(1, "x"))
	test.match(raw.next(id), "^8:1011:")
	socket.write(id, raw.close_frame(1011))
	test.eq(raw.next(id), "end")
	socket.close(id)
	test.wait_for(function() return results[1] end)
	test.eq(results[1][1], false)
	test.match(results[1][2], "oops")
end)

test.case("an oversized message: accept returns false and payload_len is too large", function()
	local port, results = serve({}, { max_message = 10 })
	local id = raw.connect(port)
	socket.write(id, frame(1, "12345678901"))
	test.match(raw.next(id), "^8:1009:payload_len is too large")
	socket.close(id)
	test.wait_for(function() return results[1] end)
	test.eq(results[1], { false, "payload_len is too large", n = 2 })
end)

test.case("close from a handler sends the code and waits for the peer's", function()
	local handle, notes = recorder()
	handle.message = function(id, data)
		websocket.close(id, 4000, data)
		test.eq(websocket.is_close(id), true)
		test.err(function() websocket.write(id, "late") end, "not open")
	end
	local port, results = serve(handle)
	local id = raw.connect(port)
	socket.write(id, frame(1, "done") .. frame(1, "dropped"))
	test.eq(raw.next(id), "8:4000:done")
	test.eq(#results, 0)
	socket.write(id, frame(1, "dropped, too") .. raw.close_frame(4000))
	test.eq(raw.next(id), "end")
	test.eq(note(notes, "close"), { "close", n = 1 })
	socket.close(id)
	test.wait_for(function() return results[1] end)
	test.eq(results[1][1], true)
end)

test.case("close by another task; a peer that does not answer is dropped in time", function()
	local handle, notes = recorder()
	local port, results = serve(handle, { close_timeout = 10 })
	local id = raw.connect(port)
	note(notes, "handshake")
	websocket.close(notes.id)
	test.eq(raw.next(id), "8:")
	test.eq(raw.next(id), "end")
	socket.close(id)
	test.wait_for(function() return results[1] end)
	test.eq(results[1][1], true)
	note(notes, "close")
	websocket.close(notes.id) -- unknown by now
end)

test.case("mistakes of the caller are errors that say so", function()
	local handle, notes = recorder()
	local port = serve(handle)
	local id = raw.connect(port)
	note(notes, "handshake")
	test.err(function() websocket.write(notes.id, "\xff") end, "not valid UTF-8")
	test.err(function() websocket.write(notes.id, "x", "json") end, "invalid format json")
	test.err(function() websocket.close(notes.id, 1005) end, "invalid close code 1005")
	test.err(function() websocket.ping(notes.id, ("x"):rep(126)) end, "125 bytes")
	test.err(function() websocket.write(-1, "x") end, "not open")
	test.err(function() websocket.accept(1, {}, "http") end, "ws or wss")
	test.err(function() websocket.accept(1, {}, "ws", nil, { max_message = -1 }) end, "max_message")
	websocket.write(notes.id, "\xff", "binary")
	test.eq(raw.next(id), "2:\xff")
	socket.close(id)
end)

test.case("any_text and unmasked let old clients in", function()
	local port = serve(echo, { any_text = true, unmasked = true })
	local id = raw.connect(port)
	socket.write(id, frame(1, "\xff", { mask = false }) .. frame(1, "b"))
	test.eq(raw.next(id), "1:\xff")
	test.eq(raw.next(id), "1:b")
	socket.close(id)
end)

test.case("silent peers are pinged, and dropped when they stay silent", function()
	local handle, notes = recorder()
	local port, results = serve(handle, { ping_interval = 5, idle_timeout = 200 })
	local id = raw.connect(port)
	test.eq(raw.next(id), "9:")
	socket.write(id, frame(10))
	note(notes, "pong")
	local text
	repeat
		text = raw.next(id)
	until text ~= "9:"
	test.eq(text, "end")
	socket.close(id)
	test.wait_for(function() return results[1] end)
	note(notes, "error")
end)

test.case("a peer that reads nothing is dropped at the limit", function()
	local handle, notes = recorder()
	local port, results = serve(handle, { send_limit = 1024 * 1024 })
	local id = raw.connect(port)
	note(notes, "handshake")
	socket.pause(id)
	local piece = ("x"):rep(100000)
	test.wait_for(function()
		return not pcall(websocket.write, notes.id, piece, "binary") or results[1]
	end)
	socket.close(id)
	test.wait_for(function() return results[1] end)
	note(notes, "error")
end)

test.case("no record, socket or finaliser is left behind", function()
	test.wait_for(function()
		for _, s in ipairs(socket.netstat()) do
			if s.address == skynet.self() and s.type == "TCP" then
				return false
			end
		end
		return true
	end)
	test.ok(#echo_results > 100)
end)

test.run()
