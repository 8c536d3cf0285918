-- What the log says of requests and events of sockets that come to nothing (net.md 1.8,
-- 1.13, 1.18, 3.1, 4.7).
-- also with: socket_thread = 3
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local socket = require "skynet.socket"
local rt = require "rt"
local sockets = require "sockets"
local test = require "testlib"

local close = sockets.close

-- The lines that match, of what fn logs: at least one, for which this waits.
local function lines_of(fn, pattern)
	local mark = rt.mark()
	fn()
	rt.logged(pattern, mark)
	return rt.lines(pattern, mark)
end

local function eq_line(fn, line)
	local lines = lines_of(fn, line:match "^[^.]*":gsub("%p", "%%%0"))
	test.eq(#lines, 1)
	test.eq(lines[1]:match "^%[:%x+%] (.*)$", line)
end

-- A datagram socket whose address others know: a TCP listener holds the number.
local function udp_pair(cb)
	local holder, _, port = socket.listen("127.0.0.1", 0)
	return socket.udp_listen("127.0.0.1", port, cb), port, holder
end

test.case("a host that is too long", function()
	local host = ("h"):rep(232)
	eq_line(function() test.eq(driver.connect(host, 80), -1) end,
		"socket-server error: Invalid addr " .. host .. ".")
end)

test.case("a send to a listener", function()
	local id = socket.listen("127.0.0.1", 0)
	eq_line(function() test.eq(driver.send(id, "x"), true) end,
		("socket-server error: write to listen fd %d."):format(id))
	eq_line(function() test.eq(driver.lsend(id, "x"), true) end,
		("socket-server error: write to listen fd %d."):format(id))
	socket.close(id)
end)

test.case("datagrams without a destination, of another family, or too long", function()
	local id = socket.udp(function() end)
	eq_line(function() test.eq(driver.send(id, "x"), false) end,
		("socket-server : set udp (%d) error: address first."):format(id))
	local six = "\2\0\80" .. ("\0"):rep(15) .. "\1"
	eq_line(function() test.eq(socket.sendto(id, six, "x"), false) end,
		("socket-server: udp socket (%d) error: type mismatch."):format(id))
	local long = ("x"):rep(65508)
	local too_long = ("socket-server : udp (%d) sendto error Message too long."):format(id)
	local four = "\1\0\9\127\0\0\1"
	eq_line(function() test.eq(socket.sendto(id, four, long), false) end, too_long)
	socket.udp_connect(id, "127.0.0.1", 9)
	test.eq(socket.write(id, long), false)
	-- A datagram as such is no mismatch; a stream has no use for one.
	local stream = socket.listen("127.0.0.1", 0)
	eq_line(function() test.eq(socket.sendto(stream, four, "x"), false) end,
		("socket-server: udp socket (%d) error: type mismatch."):format(stream))
	close(id, stream)
end)

test.case("datagrams that can't be sent are told once a second", function()
	local id = socket.udp(function() end)
	local function fail(n)
		for _ = 1, n do
			test.eq(socket.sendto(id, "\1\0\0\127\0\0\1", "to port 0"), false)
		end
	end
	local begin, mark = skynet.now(), rt.mark()
	fail(1000)
	local lines = rt.lines(("udp %%(%d%%) sendto error"):format(id), mark)
	test.ok(#lines <= (skynet.now() - begin) // 100 + 2, "a line for each")
	-- The next one says how many there were.
	test.wait_for(function()
		fail(1)
		lines = rt.lines("more since the last such line", mark)
		return #lines > 0
	end)
	test.match(lines[1], ("udp %%(%d%%) sendto error Invalid argument%%. %%(and %%d+ times more"):format(id))
	socket.close(id)
end)

test.case("the longest datagram arrives, and says nothing", function()
	local got
	local server, port, holder = udp_pair(function(text) got = text end)
	local mark = rt.mark()
	local client = socket.udp_dial("127.0.0.1", port, function() end)
	local text = ("0123456789"):rep(6550) .. "0123456"
	test.eq(#text, 65507)
	test.eq(socket.write(client, text), true)
	test.wait_for(function() return got end)
	test.ok(got == text)
	test.eq(rt.lines("udp", mark), {})
	close(client, server, holder)
end)

test.case("a datagram for an id that nobody here receives for", function()
	local server, port, holder = udp_pair(function() end)
	local client = socket.udp_dial("127.0.0.1", port, function() end)
	socket.abandon(server)
	eq_line(function() socket.write(client, "x") end,
		"socket: drop udp package from " .. server)
	-- One that is known without a callback.
	socket.udp_connect(server, "127.0.0.1", port)
	eq_line(function() socket.write(client, "x") end,
		"socket: drop udp package from " .. server)
	local got
	socket.udp_connect(server, "127.0.0.1", port, function(text) got = text end)
	socket.write(client, "heard")
	test.wait_for(function() return got == "heard" end)
	close(client, server, holder)
end)

test.case("an error of an id that is not managed here", function()
	eq_line(function() driver.start(99999) end, "socket: error on unknown 99999 invalid socket")
end)

test.case("an error of a listener, which goes on", function()
	local port, id = sockets.listen(function(new)
		socket.start(new)
		socket.write(new, "served")
	end)
	-- As the core tells it when there are no descriptors.
	local error_event = string.pack("<i4i4i4xxxxI8", 5, id, 0, 0) .. "Too many open files"
	eq_line(function()
		skynet.rawsend(skynet.self(), "socket", error_event)
	end, "socket: accept error: Too many open files")
	local client = assert(socket.open("127.0.0.1", port))
	test.eq(socket.read(client, 6), "served")
	close(client, id)
end)

test.case("buffers that only grow", function()
	local b, pool = driver.buffer(), {}
	local CHUNKS = 33
	local nodes = 0
	for i = 1, CHUNKS - 1 do
		nodes = nodes + math.min(16 << (i - 1), 4096)
	end
	local mark = rt.mark()
	for _ = 1, nodes do
		driver.push(b, pool, driver.str2p "x")
	end
	test.eq(#pool, CHUNKS)
	test.eq(rt.lines("socket pool", mark), {})
	eq_line(function() driver.push(b, pool, driver.str2p "x") end, "Too many socket pool (33)")
	driver.clear(b, pool)
end)

test.run()
