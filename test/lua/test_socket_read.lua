-- skynet.socket: every way to read a stream, its limits and its pauses (net.md section 4;
-- 14.2).
-- also with: socket_thread = 3

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local socket = require "skynet.socket"
local sockets = require "sockets"
local test = require "testlib"
local wscodec = require "wscodec"

local pair, close = sockets.pair, sockets.close

local MiB = 1024 * 1024

test.case("who comes back after a time limit is not woken for what came then", function()
	local client, id = pair()
	local long = ("x"):rep(200 * 1024)
	local got, is_over = {}, false
	socket.write(client, long)
	skynet.fork(function()
		got[1] = table.pack(socket.readline(id, "\n", 20))
		got[2] = table.pack(socket.readline(id))
		got[3] = table.pack(socket.readline(id))
		is_over = true
	end)
	test.wait_for(function() return sockets.info(id).read == #long end)
	-- The end of the line comes, then the time passes; neither can be seen to yet.
	local late = skynet.now() + 30
	socket.write(client, "\n")
	while sockets.info(id).read == #long or skynet.now() < late do
	end
	test.wait_for(function() return got[1] end)
	skynet.sleep(2)
	socket.write(client, "next\nlast\n")
	test.wait_for(function() return is_over end)
	-- The line may have come in time after all: who is first is the scheduler's choice.
	local lines = { { n = 1, long }, { n = 1, "next" }, { n = 1, "last" } }
	local first = got[1][1] == long and 1 or 2
	for i = first, 3 do
		test.eq(got[i], lines[i - first + 1])
	end
	close(id, client)
end)

test.case("what a killed reader waited for does not hold up the next one", function()
	local client, id = pair()
	local size = 300 * 1024
	local reader = skynet.fork(socket.readline, id)
	skynet.yield()
	test.ok(skynet.killthread(reader))
	skynet.fork(socket.write, client, ("x"):rep(size))
	test.eq(#socket.read(id, size), size)
	-- The same where all that comes is looked at in Lua.
	socket.limit(id, size)
	reader = skynet.fork(socket.readline, id)
	skynet.yield()
	test.ok(skynet.killthread(reader))
	skynet.fork(socket.write, client, "no line")
	test.eq(socket.read(id), "no line")
	close(id, client)
end)

test.case("feed hands what arrives to a sink", function()
	local client, id = pair()
	local sink = { got = "", held = 0 }
	function sink:feed(data, size)
		local text = data
		if type(data) ~= "string" then
			text = skynet.tostring(data, size)
			driver.drop(data, size)
		end
		self.got = self.got .. text
		self.held = self.held + #text
		return self.held
	end
	socket.write(client, "line\nbuffered,")
	test.eq(socket.readline(id), "line")
	socket.feed(id, sink)
	skynet.fork(socket.write, client, "fed,")
	while #sink.got < #"buffered,fed," do
		test.eq(socket.await(id), true)
	end
	test.eq(sink.got, "buffered,fed,")
	-- Too much for a sink that nobody empties.
	local text = ("x"):rep(4 * 1024 * 1024)
	test.eq(#test.logged("Pause socket", function()
		socket.write(client, text)
		test.wait_for(function() return sink.held > 128 * 1024 end)
		skynet.sleep(5)
	end), 1)
	test.ok(sink.held < #text)
	while #sink.got < #text + #"buffered,fed," do
		sink.held = 0
		test.eq(socket.await(id), true)
	end
	-- The last bytes come with the end.
	socket.write(client, "end")
	socket.close(client)
	while socket.await(id) do
	end
	test.eq(sink.got:sub(-4), "xend")
	test.eq(socket.await(id), false)
	close(id)
	client, id = pair()
	socket.feed(id, sink)
	socket.feed(id, nil)
	socket.write(client, "as usual")
	test.eq(socket.read(id), "as usual")
	close(client, id)
end)

local function frame(text)
	return wscodec.new {}:frame(1, text)
end

test.case("next gives what the codec that is the sink makes of it", function()
	local client, id = pair()
	local codec = wscodec.new { server = true }
	socket.write(client, frame "buffered")
	test.ok(socket.block(id))
	socket.feed(id, codec)
	test.eq({ socket.next(id) }, { 1, "buffered" })
	local got
	skynet.fork(function() got = { socket.next(id) } end)
	local whole = frame "pieces" .. frame "more"
	socket.write(client, whole:sub(1, 9))
	test.wait_for(function() return codec:within() end)
	test.eq(got, nil)
	test.err(function() socket.next(id) end, "another task waits for this socket")
	socket.write(client, whole:sub(10))
	test.wait_for(function() return got end)
	test.eq(got, { 1, "pieces" })
	test.eq({ socket.next(id) }, { 1, "more" })
	-- The last one comes with the end.
	socket.write(client, frame "last")
	socket.close(client)
	test.wait_for(function() return socket.disconnected(id) end)
	test.eq({ socket.next(id) }, { 1, "last" })
	test.eq(socket.next(id), nil)
	close(id)
end)

test.case("next takes what is there before it goes on with a paused socket", function()
	local client, id = pair()
	local codec = wscodec.new { server = true }
	local text = ("x"):rep(60 * 1024)
	local resumed
	socket.feed(id, codec)
	test.logged("Pause socket", function(paused)
		for _ = 1, 5 do
			socket.write(client, frame(text))
		end
		test.wait_for(function() return paused[1] end)
	end)
	resumed = test.logged("Resume socket", function(lines)
		test.eq({ socket.next(id) }, { 1, text })
		test.eq(#lines, 0)
		for _ = 2, 5 do
			test.eq({ socket.next(id) }, { 1, text })
		end
	end)
	test.ok(#resumed <= 1)
	socket.write(client, frame "behind")
	test.eq({ socket.next(id) }, { 1, "behind" })
	close(id, client)
end)

test.case("a task that waits in next ends when the socket is closed, and close behind it", function()
	local client, id = pair()
	local order = {}
	socket.feed(id, wscodec.new { server = true })
	skynet.fork(function() order[1] = { item = socket.next(id) } end)
	skynet.yield()
	socket.close(id)
	test.eq(order, { {} })
	socket.close(client)
	-- One that was killed keeps nobody from it.
	client, id = pair()
	socket.feed(id, wscodec.new { server = true })
	local reader = skynet.fork(socket.next, id)
	skynet.yield()
	test.ok(skynet.killthread(reader))
	socket.write(client, frame "for the next one")
	test.eq({ socket.next(id) }, { 1, "for the next one" })
	close(id, client)
end)

test.case("read, readline and read of the rest share one stream", function()
	local client, server = pair()
	socket.write(client, "hello")
	socket.write(client, "line1\nline2\r\n")
	socket.write(client, "rest")
	socket.close(client)
	test.eq(socket.read(server, 5), "hello")
	test.eq(socket.readline(server), "line1")
	test.eq(socket.readline(server, "\r\n"), "line2")
	local rest = ""
	while #rest < 4 do
		rest = rest .. socket.read(server)
	end
	test.eq(rest, "rest")
	test.eq({ socket.read(server) }, { false, "" })
	socket.close(server)
end)

test.case("what is left at the end comes with false, once", function()
	local client, server = pair()
	socket.write(client, "abc")
	socket.close(client)
	test.eq({ socket.read(server, 10) }, { false, "abc" })
	test.eq({ socket.read(server, 10) }, { false, "" })
	test.eq({ socket.readline(server) }, { false, "" })
	socket.close(server)
end)

test.case("buffered data satisfies reads after the end", function()
	local client, server = pair()
	socket.write(client, "one\ntwo\nthree")
	socket.close(client)
	test.wait_for(function() return socket.disconnected(server) end)
	test.eq(socket.readline(server), "one")
	test.eq(socket.read(server, 4), "two\n")
	test.eq({ socket.readline(server) }, { false, "three" })
	socket.close(server)
end)

test.case("read sizes are checked", function()
	local client, server = pair()
	test.eq(socket.read(server, 0), "")
	test.err(function() socket.read(server, -1) end, "Invalid read size -1")
	test.err(function() socket.read(server, 1.5) end, "Invalid read size")
	test.err(function() socket.read(99999) end, "not open")
	close(client, server)
end)

test.case("block waits for data or the end", function()
	local client, server = pair()
	skynet.fork(function()
		socket.write(client, "x")
	end)
	test.eq(socket.block(server), true)
	test.eq(socket.block(server), true)
	test.eq(socket.read(server), "x")
	skynet.fork(function()
		socket.close(client)
	end)
	test.eq(socket.block(server), false)
	test.eq(socket.block(99999), false)
	socket.close(server)
end)

test.case("a second waiter is refused and disturbs nothing", function()
	local client, server = pair()
	local got
	skynet.fork(function()
		got = socket.readline(server)
	end)
	skynet.yield()
	local refusal = "another task waits for this socket"
	test.err(function() socket.read(server) end, refusal)
	test.err(function() socket.read(server, 2, 100) end, refusal)
	test.err(function() socket.readline(server, "i") end, refusal)
	test.err(function() socket.readall(server) end, refusal)
	socket.write(client, "line\n")
	test.wait_for(function() return got == "line" end)
	close(client, server)
end)

test.case("a separator may be digits", function()
	local client, server = pair()
	local got
	skynet.fork(function() got = socket.readline(server, "10") end)
	skynet.yield()
	socket.write(client, "more than ten bytes, and not the end, 1")
	socket.write(client, "0rest")
	test.wait_for(function() return got end)
	test.eq(got, "more than ten bytes, and not the end, ")
	test.eq(socket.read(server), "rest")
	close(client, server)
end)

test.case("sized reads join what came in many pieces", function()
	local client, server = pair()
	local SIZE, PIECES = 100, 300
	local piece = ("p"):rep(SIZE)
	skynet.fork(function()
		for _ = 1, PIECES do
			socket.write(client, piece)
			skynet.yield()
		end
	end)
	for n = 1, PIECES // 10 do
		test.eq(#assert(socket.read(server, 10 * SIZE), n), 10 * SIZE)
	end
	-- Nobody waits while these come.
	for i = 1, 20 do
		socket.write(client, tostring(i) .. " ")
		skynet.yield()
	end
	local text = ""
	while not text:find " 20 $" do
		text = text .. socket.read(server)
	end
	test.eq(select(2, text:gsub(" ", "")), 20)
	close(client, server)
end)

test.case("what comes after a timeout stays, and wakes nobody else", function()
	local client, server = pair()
	test.eq({ socket.read(server, 10, 1) }, { nil, "timeout" })
	test.eq({ socket.read(server, nil, 1) }, { nil, "timeout" })
	local woken
	skynet.fork(function() woken = skynet.sleep(20) or "slept" end)
	socket.write(client, "0123456789")
	test.eq(socket.read(server, 10, 6000), "0123456789")
	test.wait_for(function() return woken end)
	test.eq(woken, "slept")
	close(client, server)
end)

test.case("a reader that was killed leaves its socket to others", function()
	local client, server = pair()
	local reader = skynet.fork(function() socket.read(server) end)
	skynet.yield()
	test.eq(skynet.killthread(reader), reader)
	socket.write(client, "for the next")
	test.eq(socket.read(server), "for the next")
	reader = skynet.fork(function() socket.readline(server) end)
	skynet.yield()
	skynet.killthread(reader)
	close(client)
	test.eq({ socket.read(server) }, { false, "" })
	close(server)
end)

test.case("a connection that was given up and taken again has nothing of before", function()
	local client, server = pair()
	local first, old
	skynet.fork(function()
		first = socket.read(server, 2)
		old = { socket.read(server, 100) }
	end)
	-- One segment: the rest is there when the first bytes are.
	socket.write(client, "before")
	test.wait_for(function() return first end)
	socket.abandon(server)
	test.wait_for(function() return old end)
	test.eq(old, { false, "fore" })
	test.eq(socket.start(server), server)
	socket.write(client, "after")
	test.eq(socket.read(server), "after")
	close(client, server)
end)

test.case("limit closes a socket whose line does not end", function()
	local closes = 0
	local lines = test.logged("socket buffer overflow", function()
		local client, server = pair()
		socket.limit(server, 1000)
		socket.onclose(server, function(id)
			test.eq(id, server)
			closes = closes + 1
		end)
		socket.write(client, ("x"):rep(1500))
		test.eq({ socket.readline(server) }, { false, ("x"):rep(1500) })
		test.eq(socket.disconnected(server), true)
		test.eq({ socket.read(client) }, { false, "" })
		close(server, client)
	end)
	test.eq(#lines, 1)
	test.match(lines[1], "^socket buffer overflow: fd=%d+ size=1500 peer=127%.0%.0%.1:%d+$")
	test.eq(closes, 1)
end)

test.case("limit refuses reads that are larger", function()
	local client, server = pair()
	socket.limit(server, 1000)
	socket.write(client, "abc")
	test.eq(socket.read(server, 3), "abc")
	test.eq({ socket.read(server, 2000) }, { false, "" })
	test.eq(socket.disconnected(server), true)
	close(server, client)
end)

test.case("unread data pauses the socket once and is all there later", function()
	local size = 8 * MiB
	local lines = test.logged("Pause socket", function(found)
		local client, server = pair()
		skynet.fork(function()
			local piece = ("p"):rep(64 * 1024)
			for _ = 1, size // #piece do
				socket.write(client, piece)
			end
		end)
		test.wait_for(function() return #found > 0 end)
		-- What is under way comes in; then it stays as it is.
		skynet.sleep(5)
		test.eq(#found, 1)
		local got = 0
		while got < size do
			got = got + #socket.read(server)
		end
		test.eq(got, size)
		close(client, server)
	end)
	test.match(lines[1], "^Pause socket %(%d+%) size : %d+$")
end)

test.case("128 KiB that nobody asked for are the most without a pause", function()
	local client, server = pair()
	local size = 128 * 1024
	local lines = test.logged("Pause socket", function(found)
		socket.write(client, ("p"):rep(size))
		test.wait_for(function() return sockets.info(server).read == size end)
		-- What follows in the mailbox has its turn.
		skynet.yield()
		test.eq(found, {})
		socket.write(client, "p")
		test.wait_for(function() return #found > 0 end)
	end)
	test.eq(lines, { ("Pause socket (%d) size : %d"):format(server, size + 1) })
	test.eq(#socket.read(server), size + 1)
	-- The same of what is there beyond what somebody has asked for.
	lines = test.logged("Pause socket", function(found)
		local got
		skynet.fork(function() got = socket.read(server, 10) end)
		skynet.yield()
		socket.write(client, ("p"):rep(10 + size + 1))
		test.wait_for(function() return got end)
		test.wait_for(function() return #found > 0 end)
		test.eq(sockets.info(server).read, 2 * size + 12)
	end)
	test.eq(#lines, 1)
	close(client, server)
end)

test.case("readall takes any amount", function()
	local client, server = pair()
	local size = 4 * MiB
	skynet.fork(function()
		for i = 1, 64 do
			socket.write(client, string.char(64 + i % 26):rep(size // 64))
		end
		socket.close(client)
	end)
	local data = socket.readall(server)
	test.eq(#data, size)
	test.eq(data:sub(1, 1), "A")
	socket.close(server)
end)

test.case("a large sized read is not paused", function()
	local client, server = pair()
	local size = 4 * MiB
	socket.write(client, ("x"):rep(size))
	test.eq(#socket.read(server, size), size)
	close(client, server)
end)

test.case("a pause by hand ends with the next wait", function()
	local client, server = pair()
	local lines = test.logged("socket (", function()
		socket.pause(server)
		socket.write(client, "x")
		test.eq(socket.read(server), "x")
		socket.pause(99999)
	end)
	test.eq(lines, { ("Pause socket (%d)"):format(server), ("Resume socket (%d)"):format(server) })
	close(client, server)
end)

test.case("a very long line in small pieces is found in linear time", function()
	local client, server = pair()
	skynet.fork(function()
		for i = 1, 200 do
			socket.write(client, ("l"):rep(10000))
			if i % 20 == 0 then
				skynet.yield()
			end
		end
		socket.write(client, "\r\n")
	end)
	test.eq(#socket.readline(server, "\r\n"), 2000000)
	close(client, server)
end)

test.case("time limits end every wait and lose nothing", function()
	local client, server = pair()
	socket.write(client, "abc")
	test.eq({ socket.read(server, 10, 2) }, { nil, "timeout" })
	test.eq({ socket.readline(server, "\n", 2) }, { nil, "timeout" })
	test.eq({ socket.readall(server, 2) }, { nil, "timeout" })
	test.eq(socket.read(server, 3), "abc")
	test.eq({ socket.read(server, nil, 2) }, { nil, "timeout" })
	test.eq({ socket.block(server, 2) }, { nil, "timeout" })
	socket.write(client, "def\n")
	test.eq(socket.readline(server, "\n", 6000), "def")
	close(client, server)
end)

test.run()
