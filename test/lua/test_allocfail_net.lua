-- Allocations that fail in the C modules that handle what comes from the network.
local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local gateinbox = require "skynet.gateinbox"
local netpack = require "skynet.netpack"
local socketinbox = require "skynet.socketinbox"
local wscodec = require "wscodec"
local kcp = require "kcp.core"
local allocfail = require "allocfail"
local test = require "testlib"

local native = allocfail.native

local DATA, CONNECT, CLOSE, ACCEPT, ERROR, UDP, WARNING = 1, 2, 3, 4, 5, 6, 7
-- No connection has it.
local NOBODY = 0x7ffffff0
local LONG = ("x"):rep(100)

-- A block of C memory with that text.
local function block(text)
	local msg, size = driver.str2p(text)
	return msg, size
end

local function text_of(msg, size)
	local text = skynet.tostring(msg, size)
	skynet.trash(msg, size)
	return text
end

-------------------------------------------------------------------- skynet.netpack

allocfail.case("netpack.pack gives its block or nothing", {
	run = function() return netpack.pack(("x"):rep(100)) end,
	check = function(msg, size) test.eq(text_of(msg, size), "\0\100" .. LONG) end,
})

allocfail.case("netpack.tostring frees its block in any case", {
	make = function() return block(LONG) end,
	run = function(msg, size) return netpack.tostring(msg, size) end,
	check = function(_, _, text) test.eq(text, LONG) end,
	once = true,
})

-- Each event of a gate, with and without a queue.
local function netpack_event(name, message, check, queue)
	allocfail.case("netpack.filter, " .. name, {
		make = function()
			local msg, size = native.message(table.unpack(message, 1, 5))
			return { msg = msg, size = size, queue = queue and queue() }
		end,
		run = function(o) return netpack.filter(o.queue, o.msg, o.size) end,
		check = function(o, q, kind, ...)
			check(q, kind, ...)
			netpack.clear(q)
		end,
		over = function(o) native.dispose(o.msg) end,
		-- What could not be taken is freed.
		once = message[1] == DATA,
		failed = function(o) test.eq(native.holds(o.msg), false) end,
	})
end

local function guarded() return netpack.guard(nil, {}, {}) end

netpack_event("a package", { DATA, NOBODY, nil, "\0\3abc" }, function(q, kind, fd, msg, size)
	test.eq({ kind, fd, netpack.tostring(msg, size) }, { "data", NOBODY, "abc" })
	test.eq(type(q), "userdata")
end)
netpack_event("two packages", { DATA, NOBODY, nil, "\0\3abc\0\1d" }, function(q, kind)
	test.eq(kind, "more")
	local fd, msg, size = netpack.pop(q)
	test.eq({ fd, netpack.tostring(msg, size) }, { NOBODY, "abc" })
end)
netpack_event("half of a package", { DATA, NOBODY, nil, "\0\3a" }, function(_, kind)
	test.eq(kind, nil)
end)
netpack_event("a package of a guarded queue", { DATA, NOBODY, nil, "\0\3abc" },
	function(_, kind, _, msg, size)
		test.eq({ kind, netpack.tostring(msg, size) }, { "data", "abc" })
	end, guarded)
netpack_event("a connection", { ACCEPT, 5, NOBODY, nil, "127.0.0.1:55555 and much more than a short string" },
	function(_, kind, fd, text) test.eq({ kind, fd, #text }, { "open", NOBODY, 49 }) end, guarded)
netpack_event("the end of a connection", { CLOSE, NOBODY },
	function(_, kind, fd) test.eq({ kind, fd }, { "close", NOBODY }) end, guarded)
netpack_event("an error", { ERROR, NOBODY, 0, nil, "refused" },
	function(_, kind, _, text) test.eq({ kind, text }, { "error", "refused" }) end)
netpack_event("a listener", { CONNECT, NOBODY, 80, nil, "127.0.0.1" },
	function(_, kind, _, text, port) test.eq({ kind, text, port }, { "init", "127.0.0.1", 80 }) end)
netpack_event("a warning", { WARNING, NOBODY, 64 },
	function(_, kind, _, size) test.eq({ kind, size }, { "warning", 64 }) end)

allocfail.case("netpack.receiver", {
	make = function() return guarded(), native.message(DATA, NOBODY, nil, "\0\3abc") end,
	run = function(q, msg, size)
		local receive = netpack.receiver(q)
		return receive(msg, size)
	end,
	check = function(_, _, _, kind, _, data, n)
		test.eq({ kind, netpack.tostring(data, n) }, { "data", "abc" })
	end,
	over = function(_, msg) native.dispose(msg) end,
})

allocfail.case("netpack.feed takes its block", {
	make = function() return guarded(), block "\0\3abc\0\1d" end,
	run = function(q, msg, size) return netpack.feed(q, NOBODY, msg, size) end,
	check = function(_, _, _, kind) test.eq(kind, "more") end,
	once = true,
})

allocfail.case("netpack.guard", {
	run = function()
		return netpack.guard(nil, { package_rate = 10, maxpackage = 100, agent_limit = 5 },
			{ byte_rate = 100 })
	end,
	check = function(q) test.eq(type(q), "userdata") end,
})

-- A queue with connections that were silent for too long.
local function silent_queue(n)
	local q = netpack.guard(nil, { first_timeout = 1 }, { first_timeout = 1 })
	for i = 1, n do
		local msg, size = native.message(ACCEPT, 5, NOBODY - i, nil, "127.0.0.1:5555")
		netpack.filter(q, msg, size)
		native.dispose(msg)
	end
	local deadline = skynet.hpc() + 25000000
	while skynet.hpc() < deadline do end
	return q
end

allocfail.case("netpack.sweep tells all who were silent, or raises and tells them later", {
	make = function() return silent_queue(20) end,
	run = function(q) return netpack.sweep(q) end,
	check = function(_, _, list) test.eq(#list, 40) end,
})

allocfail.case("netpack.brief and address", {
	run = function() return netpack.address(netpack.brief "127.0.0.1:5555") end,
	check = function(text) test.eq(text, "127.0.0.1:5555") end,
})

allocfail.case("netpack.room", { run = netpack.room })

allocfail.case("netpack.wait, route, waiting, discard", {
	make = function() return silent_queue(1) end,
	run = function(q)
		netpack.route(q, NOBODY - 1, skynet.self())
		netpack.route(q, NOBODY - 1)
		netpack.discard(q, NOBODY - 1)
		return netpack.wait(q, NOBODY - 1), netpack.waiting(skynet.self()), netpack.waiting ".launcher"
	end,
	check = function(_, wait) test.eq(wait, 0) end,
})

allocfail.case("netpack.pop and clear", {
	make = function()
		local q = guarded()
		netpack.feed(q, NOBODY, block "\0\3abc\0\1d")
		return q
	end,
	run = function(q)
		local fd, msg, size = netpack.pop(q)
		netpack.clear(q)
		return fd, msg, size
	end,
	check = function(_, _, msg, size) test.eq(netpack.tostring(msg, size), "abc") end,
})

----------------------------------------------------------------- skynet.gateinbox

-- Arguments of wscodec.new that say nothing.
local SERVER = { server = true }
local TEXT, BINARY, CLOSE_FRAME, PING = 1, 2, 8, 9

-- A masked frame; the mask is nothing.
local function frame(op, text)
	return string.char(0x80 | op, 0x80 | #text, 0, 0, 0, 0) .. text
end

local function line(codec)
	local l = gateinbox.enter(NOBODY, "127.0.0.1:55555", codec, true)
	return l
end

allocfail.case("gateinbox.enter and leave", {
	make = function() return wscodec.new(SERVER) end,
	run = function(codec)
		local l = gateinbox.enter(NOBODY, "127.0.0.1:55555", codec, true)
		gateinbox.leave(l)
		return l
	end,
	check = function(_, l) test.eq(type(l), "userdata") end,
})

allocfail.case("gateinbox.take gives a message to Lua", {
	make = function()
		local codec = wscodec.new(SERVER)
		codec:feed(frame(BINARY, "hello"))
		return line(codec)
	end,
	run = function(l) return gateinbox.take(l) end,
	check = function(_, kind, msg, size) test.eq({ kind, text_of(msg, size) }, { BINARY, "hello" }) end,
	over = function(l) gateinbox.leave(l) end,
})

allocfail.case("gateinbox.route, halt, count, limit, receiver", {
	make = function() return line(wscodec.new(SERVER)) end,
	run = function(l)
		gateinbox.route(l, skynet.self(), skynet.self())
		gateinbox.halt(l)
		gateinbox.limit({ package_rate = 100 }, {}, BINARY)
		gateinbox.limit({}, {})
		gateinbox.receiver()
		return gateinbox.count(l, 10)
	end,
	check = function(_, wait) test.eq(wait, 0) end,
	over = function(l) gateinbox.leave(l) end,
})

allocfail.case("an event of a gate that gateinbox.receiver unpacks", {
	make = function()
		return gateinbox.receiver(), native.message(ERROR, NOBODY, 0, nil, "a text that is longer than a short string")
	end,
	run = function(receive, msg, size) return receive(msg, size) end,
	check = function(_, _, _, event, fd) test.eq({ event, fd }, { ERROR, NOBODY }) end,
	over = function(_, msg) native.dispose(msg) end,
})

--------------------------------------------------------------- skynet.socketinbox

allocfail.case("socketinbox.open and close", {
	run = function()
		local p = socketinbox.open(NOBODY)
		socketinbox.close(p)
		return p
	end,
	check = function(p) test.eq(type(p), "userdata") end,
})

allocfail.case("many inboxes", {
	make = function() return {} end,
	run = function(list)
		for i = 1, 100 do
			list[i] = socketinbox.open(NOBODY - i)
		end
	end,
	over = function(list)
		for _, p in pairs(list) do
			socketinbox.close(p)
		end
	end,
})

local function filled(...)
	local p = socketinbox.open(NOBODY)
	for _, text in ipairs { ... } do
		socketinbox.take(p, block(text))
	end
	return p
end

local function close_inbox(p) socketinbox.close(p) end

allocfail.case("socketinbox.take takes its block, and may refuse", {
	make = function()
		local p = filled "first"
		return p, block "second"
	end,
	run = function(p, msg, size) return socketinbox.take(p, msg, size) end,
	check = function(p, _, _, held, why)
		test.ok(held == 11 or not held and why == "not enough memory", held)
		test.eq(socketinbox.readall(p), held and "firstsecond" or "first")
	end,
	over = close_inbox,
})

for name, run in pairs {
	pop = function(p) return socketinbox.pop(p, #LONG + 5) end,
	readline = function(p) return socketinbox.readline(p, "\n") end,
	readall = function(p) return socketinbox.readall(p) end,
	next = function(p) return (socketinbox.next(p)) end,
} do
	allocfail.case("socketinbox." .. name .. " loses nothing", {
		make = function() return filled(LONG, "hello\n", LONG) end,
		run = run,
		check = function(_, text)
			test.eq(text, (LONG .. "hello\n" .. LONG):sub(1, #text))
			test.ok(#text >= #LONG + 5)
		end,
		over = close_inbox,
	})
end

allocfail.case("socketinbox, what needs no memory", {
	make = function() return filled("hello\n") end,
	run = function(p)
		socketinbox.slow(p)
		socketinbox.wake(p)
		socketinbox.held(p)
		socketinbox.feed(p, nil)
		return socketinbox.busy(p), socketinbox.need(p), socketinbox.has(p, "\n")
	end,
	check = function(_, busy, need, has) test.eq({ busy, need, has }, { false, nil, true }) end,
	over = close_inbox,
})

allocfail.case("socketinbox.reopen and leave", {
	make = function() return filled("hello\n") end,
	run = function(p)
		socketinbox.reopen(p, NOBODY - 1)
		socketinbox.leave(p)
		return true
	end,
	check = function(p) test.eq(socketinbox.readall(p), nil) end,
	over = close_inbox,
})

allocfail.case("socketinbox.drop does it, or nothing", {
	make = function() return filled(LONG, LONG) end,
	run = function(p) return socketinbox.drop(p) end,
	check = function(p, done)
		if not done then
			test.eq(socketinbox.readall(p), LONG .. LONG)
		end
	end,
	-- Its place is taken by another one.
	over = function(p)
		socketinbox.close(p)
		socketinbox.close(socketinbox.open(NOBODY))
	end,
})

allocfail.case("a sink's next message is not lost", {
	make = function()
		local codec = wscodec.new(SERVER)
		local p = socketinbox.open(NOBODY)
		socketinbox.feed(p, codec)
		socketinbox.take(p, block(frame(TEXT, LONG) .. frame(PING, "0123456789") .. frame(TEXT, "b")))
		return p
	end,
	run = function(p)
		local got = {}
		for _ = 1, 3 do
			local kind, text = socketinbox.next(p)
			got[#got + 1] = kind .. text
		end
		return got
	end,
	once = true,
	over = close_inbox,
})

------------------------------------------------------------- skynet.socketdriver

allocfail.case("socketdriver.buffer", {
	run = function() return driver.buffer() end,
	check = function(b) test.eq(type(b), "userdata") end,
})

local function driver_buffer(...)
	local pool, b = {}, driver.buffer()
	for _, text in ipairs { ... } do
		assert(driver.push(b, pool, block(text)))
	end
	return b, pool
end

allocfail.case("socketdriver.push takes its block, and may refuse", {
	make = function()
		local b, pool = driver_buffer("first")
		return b, pool, block(LONG)
	end,
	run = function(b, pool, msg, size) return driver.push(b, pool, msg, size) end,
	check = function(b, pool, _, _, held)
		test.eq(driver.readall(b, pool), held and "first" .. LONG or "first")
	end,
	once = true,
})

allocfail.case("socketdriver.push into an empty pool", {
	make = function() return driver.buffer(), {}, block(LONG) end,
	run = function(b, pool, msg, size) return driver.push(b, pool, msg, size) end,
	check = function(b, pool, _, _, held)
		test.eq(driver.readall(b, pool), held and LONG or "")
	end,
	once = true,
})

for name, run in pairs {
	pop = function(b, pool) return driver.pop(b, pool, #LONG + 5) end,
	readline = function(b, pool) return driver.readline(b, pool, "\n") end,
	readall = function(b, pool) return driver.readall(b, pool) end,
} do
	allocfail.case("socketdriver." .. name .. " loses nothing", {
		make = function() return driver_buffer(LONG, "hello\n", LONG) end,
		run = run,
		check = function(_, _, text)
			test.eq(text, (LONG .. "hello\n" .. LONG):sub(1, #text))
			test.ok(#text >= #LONG + 5)
		end,
	})
end

allocfail.case("socketdriver, small functions", {
	make = function() return driver_buffer(LONG) end,
	run = function(b, pool)
		driver.clear(b, pool)
		driver.drop(driver.str2p("x"))
		return driver.header("\1\2"), driver.split("host:80"), driver.udp_address("\1\0\80\127\0\0\1"),
			driver.peer(NOBODY), driver.lookup("127.0.0.1")
	end,
	check = function(_, _, header) test.eq(header, 0x102) end,
})

for name, send in pairs {
	send = driver.send, lsend = driver.lsend, rawsend = driver.rawsend,
	udp_send = function(id, ...) return driver.udp_send(id, "\1\0\80\127\0\0\1", ...) end,
} do
	allocfail.case("socketdriver." .. name .. ", a table", {
		make = function() return { "a", 12, 1.5, LONG } end,
		run = function(t) return send(NOBODY, t) end,
		check = function(_, sent) test.eq(sent, false) end,
	})
	allocfail.case("socketdriver." .. name .. ", a table with metamethods", {
		make = function()
			return setmetatable({}, { __index = function(_, i) return i < 4 and ("x"):rep(50) .. i or nil end })
		end,
		run = function(t) return send(NOBODY, t) end,
		check = function(_, sent) test.eq(sent, false) end,
	})
	allocfail.case("socketdriver." .. name .. ", a string and a block", {
		make = function() return block(LONG) end,
		run = function(msg, size) return send(NOBODY, LONG), send(NOBODY, msg, size) end,
		check = function(_, _, a, b) test.eq({ a, b }, { false, false }) end,
		once = true,
	})
end

-- Ids of sockets that something was told of.
local told = {}

test.case("what a listener tells has come", function()
	local id = driver.listen("127.0.0.1", 0)
	driver.start(id)
	test.wait_for(function() return told[id] end)
end)

allocfail.case("socketdriver.info", {
	run = function() return driver.info() end,
	check = function(list) test.ok(#list >= 1) end,
})

allocfail.case("socketdriver.resolve", {
	run = function() return driver.resolve "127.0.0.1" end,
	check = function(list) test.eq(list, { "127.0.0.1" }) end,
})

allocfail.case("socketdriver, functions that open nothing when they fail", {
	run = function()
		driver.relay(NOBODY, true)
		return driver.option(NOBODY, { nodelay = true })
	end,
})

for name, open in pairs {
	listen = function() return driver.listen("127.0.0.1", 0, { backlog = 5 }) end,
	connect = function() return driver.connect("127.0.0.1:1") end,
	bind = function() return driver.bind(-1) end,
	udp = function()
		local id = driver.udp("127.0.0.1", 0)
		driver.udp_connect(id, "127.0.0.1", 1)
		return id
	end,
	udp_dial = function() return driver.udp_dial("127.0.0.1", 1) end,
} do
	allocfail.case("socketdriver." .. name .. " opens nothing that it does not tell", {
		run = function()
			local id = open()
			driver.nodelay(id)
			driver.pause(id)
			driver.start(id)
			driver.accept(id)
			driver.shutdown(id)
			driver.close(id)
			return id
		end,
		check = function(id) test.ok(name == "bind" or id >= 0, id) end,
		-- What it has told is gone then.
		over = function() skynet.sleep(1) end,
	})
end

for type, ud in pairs { [DATA] = 1, [CONNECT] = 2, [ERROR] = 0 } do
	allocfail.case("socketdriver.unpack, event " .. type, {
		make = function()
			return native.message(type, NOBODY, ud, type == DATA and "block" or nil,
				"a text that is longer than a short string")
		end,
		run = function(msg, size) return driver.unpack(msg, size) end,
		check = function(_, _, t, id, n, data)
			test.eq({ t, id }, { type, NOBODY })
			if t == DATA then
				driver.drop(data, n)
			end
		end,
		over = function(msg) native.dispose(msg) end,
	})
end

------------------------------------------------------------------------- wscodec

local FLATE = { window_bits = 10, threshold = 1 }

local function codecs(flate, reader)
	return wscodec.new { server = true, deflate = flate, inflate = flate },
		wscodec.new { inflate = flate, deflate = flate, max_message = 1000000, unmasked = true }
end

allocfail.case("wscodec.new", {
	run = function() return wscodec.new { server = true, deflate = FLATE, inflate = FLATE } end,
	check = function(c) test.eq(c:compresses(), true) end,
})

for name, flate in pairs { plain = false, compressed = FLATE } do
	allocfail.case("codec:frame, " .. name .. ", and what it leaves behind", {
		make = function()
			local a, b = codecs(flate or nil)
			-- The next one refers to it.
			b:feed(a:frame(TEXT, LONG .. "one"))
			local _, text = b:next()
			test.eq(text, LONG .. "one")
			return a, b
		end,
		run = function(a) return a:frame(TEXT, LONG .. "two") end,
		check = function(a, b, bytes)
			for _, want in ipairs { "two", "three" } do
				b:feed(want == "two" and bytes or a:frame(TEXT, LONG .. want))
				local kind, text = b:next()
				test.eq({ kind, text }, { TEXT, LONG .. want })
			end
		end,
	})

	allocfail.case("codec:next loses nothing, " .. name, {
		make = function()
			local a, b = codecs(flate or nil)
			b:feed(a:frame(TEXT, LONG) .. a:frame(PING, "0123456789") .. a:frame(BINARY, "b"))
			return b, { n = 1, 0, 0, 0, 0, 0, 0 }
		end,
		run = function(b, got)
			while got.n < 6 do
				local kind, text = b:next()
				got[got.n], got[got.n + 1] = kind, text
				got.n = got.n + 2
			end
		end,
		check = function(_, got)
			test.eq(got, { n = 7, TEXT, LONG, PING, "0123456789", BINARY, "b" })
		end,
	})
end

allocfail.case("codec:next tells the end", {
	make = function()
		local a, b = codecs()
		b:feed(a:frame(CLOSE_FRAME, "\3\232goodbye"))
		return b
	end,
	run = function(b) return b:next() end,
	check = function(_, kind, code, text)
		test.eq({ kind, code, text }, { CLOSE_FRAME, 1000, "goodbye" })
	end,
})

allocfail.case("codec:next tells what is wrong", {
	make = function()
		local c = wscodec.new(SERVER)
		c:feed("\255\255\255\255")
		return c
	end,
	run = function(c) return c:next() end,
	check = function(_, kind, code) test.eq({ kind < 0, code }, { true, 1002 }) end,
})

allocfail.case("codec:nextblock", {
	make = function()
		local a, b = codecs()
		b:feed(a:frame(TEXT, LONG))
		return b
	end,
	run = function(b) return b:nextblock() end,
	check = function(_, kind, msg, size) test.eq({ kind, text_of(msg, size) }, { TEXT, LONG }) end,
})

allocfail.case("codec:feed, pending, within", {
	make = function() return wscodec.new(SERVER), block "\129" end,
	run = function(c, msg, size)
		c:feed(msg, size)
		return c:feed("\129"), c:pending(), c:within()
	end,
	check = function(_, _, _, held) test.eq(held, 2) end,
	once = true,
})

allocfail.case("codec:send, wscodec.send, answer, close, sendframe", {
	make = function() return codecs(FLATE) end,
	run = function(a, b)
		test.eq(a:compresses(), true)
		a:send(NOBODY, TEXT, LONG)
		b:send(NOBODY, TEXT, LONG)
		wscodec.send(NOBODY, TEXT, LONG)
		wscodec.sendframe(NOBODY, "x")
		wscodec.answer(NOBODY, LONG, "text")
		return wscodec.opcode "text", wscodec.is_close_code(1000), wscodec.frame(TEXT, LONG),
			wscodec.close(NOBODY + 1, "")
	end,
	check = function(_, _, op) test.eq(op, TEXT) end,
})

------------------------------------------------------------------------ kcp.core

-- Two conversations: what the first sends is in `sent`, for the second.
local function conversations()
	local sent = {}
	local a = kcp.new({ conv = 1, no_congestion = true }, function(datagram) sent[#sent + 1] = datagram end)
	local b = kcp.new({ conv = 1 }, function() end)
	return a, b, sent
end

local function arrive(b, sent)
	for _, datagram in ipairs(sent) do
		assert(b:input(datagram, 100))
	end
end

allocfail.case("kcp.new and close", {
	run = function()
		local k = kcp.new({ conv = 1, mtu = 500 }, NOBODY, "\1\0\80\127\0\0\1")
		local a, b = kcp.new({ conv = 1 }, NOBODY), kcp.new({ conv = 2 }, print)
		k:close()
		return a, b
	end,
	check = function(a, b) test.eq({ type(a), type(b) }, { "userdata", "userdata" }) end,
})

allocfail.case("kcp: a flush that fails is like one whose datagrams were lost", {
	make = function()
		local a, b, sent = conversations()
		assert(a:send(LONG:rep(100)))
		a:probe()
		return a, b, sent
	end,
	run = function(a) a:flush(100) end,
	failed = function(a, b, sent)
		-- They are sent again, in time.
		for now = 200, 5000, 100 do
			a:flush(now)
		end
		arrive(b, sent)
		test.ok(b:receive() == LONG:rep(100), "the message")
	end,
	once = true,
})

for name, size in pairs { short = 10, medium = 500, long = 10000 } do
	allocfail.case("kcp:receive loses nothing, " .. name, {
		make = function()
			local a, b, sent = conversations()
			assert(a:send(("m"):rep(size)))
			assert(a:send("next"))
			a:flush(100)
			arrive(b, sent)
			return b
		end,
		run = function(b) return b:receive() end,
		check = function(b, text)
			test.ok(text == ("m"):rep(size), "the message")
			test.eq(b:receive(), "next")
			test.eq(b:receive(), nil)
		end,
	})
end

allocfail.case("kcp:take, input, stats and the rest", {
	make = function()
		local a, b, sent = conversations()
		assert(a:send("message"))
		a:flush(100)
		return a, b, sent[1]
	end,
	run = function(a, b, datagram)
		b:input(datagram, 100)
		a:probe()
		local stats, dead, wait = a:stats(), a:is_dead(), a:wait(100)
		return stats, dead, wait, b:take()
	end,
	check = function(_, _, _, stats, dead, _, msg, size)
		test.eq({ stats.send_segments, dead }, { 1, false })
		if msg then
			test.eq(text_of(msg, size), "message")
		end
	end,
})

allocfail.case("kcp to a socket", {
	make = function() return kcp.new({ conv = 1 }, NOBODY) end,
	run = function(k)
		k:send(LONG)
		k:flush(100)
	end,
})

allocfail.covers({
	netpack = netpack, gateinbox = gateinbox, socketinbox = socketinbox, socketdriver = driver, wscodec = wscodec,
	kcp = kcp, ["a line of gateinbox"] = debug.getregistry()["skynet.gateinbox.line"],
	conversation = debug.getregistry()["kcp.core"],
}, {
	["socketinbox.wait"] = "yields, see test_oom.lua",
	["netpack.dispatch"] = "yields, see test_oom_gate_own.lua",
	["wscodec.codec.__gc"] = "runs while every allocation fails, in each case",
	["socketdriver.udp_listen"] = "needs a port that is free, otherwise as udp",
})

test.run(function()
	-- Events of the listener.
	skynet.register_protocol {
		name = "socket",
		id = skynet.PTYPE_SOCKET,
		unpack = driver.unpack,
		dispatch = function(_, _, _, id) told[id] = true end,
	}
end)
