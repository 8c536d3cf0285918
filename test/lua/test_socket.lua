-- skynet.socket (net.md section 4; 14.2).
-- also with: socket_thread = 3

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local test = require "testlib"

-- A listener whose connections `serve` handles, each in a task; returns its port.
local function listen(serve)
	local id, ip, port = socket.listen("127.0.0.1", 0)
	test.eq(ip, "127.0.0.1")
	socket.start(id, serve)
	return port, id
end

-- Both ends of a connection.
local function pair()
	local accepted
	local port, listener = listen(function(id)
		accepted = assert(socket.start(id))
	end)
	local client = assert(socket.open("127.0.0.1", port))
	test.wait_for(function() return accepted end)
	socket.close(listener)
	return client, accepted
end

local function close(...)
	for _, id in ipairs { ... } do
		socket.close(id)
	end
end

-- Log lines of this node that contain `text`, with fn running in between.
local function logged(text, fn)
	local error_of = skynet.error
	local lines = {}
	skynet.error = function(...)
		local line = table.concat({ ... }, " ")
		if line:find(text, 1, true) then
			lines[#lines + 1] = line
		end
		return error_of(...)
	end
	local ok, err = pcall(fn, lines)
	skynet.error = error_of
	assert(ok, err)
	return lines
end

test.case("an echo service greets, echoes and closes", function()
	local closed
	local port, listener = listen(function(id)
		socket.start(id)
		socket.write(id, "Hello Skynet\n")
		while true do
			local data = socket.read(id)
			if not data then
				break
			end
			socket.write(id, data)
		end
		socket.close(id)
		closed = true
	end)
	local id = socket.open("127.0.0.1:" .. port)
	test.eq(socket.readline(id), "Hello Skynet")
	for i = 1, 10 do
		socket.write(id, ("echo %d"):format(i))
		test.eq(socket.read(id, #("echo %d"):format(i)), ("echo %d"):format(i))
	end
	socket.close(id)
	test.wait_for(function() return closed end)
	socket.close(listener)
end)

test.case("accept: a connection is open when its function is called", function()
	local listener, _, port = socket.listen("127.0.0.1", 0, 64)
	local ends = {}
	socket.accept(listener, function(id, addr)
		test.eq(addr:match "^(.*):%d+$", "127.0.0.1")
		socket.write(id, "welcome\n")
		local line = socket.readline(id)
		socket.write(id, line .. "!")
		ends[#ends + 1] = id
		socket.close(id)
	end)
	test.err(function() socket.accept(listener, print) end, "socket is not closed")
	local clients = {}
	for i = 1, 20 do
		clients[i] = assert(socket.open("127.0.0.1", port))
		socket.write(clients[i], i .. "\n")
	end
	for i = 1, 20 do
		test.eq(socket.readline(clients[i]), "welcome")
		test.eq(socket.readall(clients[i]), i .. "!")
		socket.close(clients[i])
	end
	test.wait_for(function() return #ends == 20 and socket.invalid(ends[20]) end)
	socket.close(listener)
end)

test.case("accept: who connects while the listener is closed is closed without a word", function()
	local listener, _, port = socket.listen("127.0.0.1", 0, 64)
	local served = 0
	socket.accept(listener, function(id)
		served = served + 1
		socket.close(id)
	end)
	local lines = logged("drop package", function()
		local clients = {}
		for i = 1, 30 do
			local id = socket.open("127.0.0.1", port)
			if id then
				clients[#clients + 1] = id
				socket.write(id, "hello")
			end
			if i == 10 then
				skynet.fork(socket.close, listener)
			end
		end
		for _, id in ipairs(clients) do
			socket.readall(id)
			socket.close(id)
		end
	end)
	test.eq(lines, {})
	test.eq(served >= 1, true)
end)

test.case("accept: a connection can be given to somebody else", function()
	local listener, _, port = socket.listen("127.0.0.1", 0, 64)
	local got
	socket.accept(listener, function(id)
		socket.abandon(id)
		assert(socket.start(id))
		got = socket.read(id)
		socket.close(id)
	end)
	local client = socket.open("127.0.0.1", port)
	test.wait_for(function() return #socket.netstat() >= 3 end)
	repeat
		socket.write(client, "now")
		skynet.sleep(1)
	until got
	test.eq(got:sub(1, 3), "now")
	close(client, listener)
end)

test.case("feed hands what arrives to a sink", function()
	local client, id = pair()
	local driver = require "skynet.socketdriver"
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
	test.eq(#logged("Pause socket", function()
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

test.case("drop closes without waiting", function()
	local client, id = pair()
	socket.write(id, "last words")
	local lines = logged("drop package", function()
		socket.write(client, "unheard")
		socket.drop(id)
		test.eq(socket.write(id, "more"), false)
		socket.drop(id)
		socket.write(client, "unheard")
		test.eq(socket.readall(client), "last words")
		test.wait_for(function() return socket.invalid(id) end)
	end)
	test.eq(lines, {})
	socket.drop(id)
	-- After the peer has closed; and with a task that reads.
	close(client)
	client, id = pair()
	close(client)
	test.eq(socket.read(id), false)
	socket.drop(id)
	test.eq(socket.invalid(id), true)
	client, id = pair()
	local result
	skynet.fork(function() result = { socket.read(id, 100) } end)
	skynet.yield()
	socket.drop(id)
	test.wait_for(function() return result end)
	test.eq(result, { false, "" })
	test.wait_for(function() return socket.invalid(id) end)
	close(client)
end)

test.case("open tells why it failed", function()
	local port, listener = listen(function() end)
	socket.close(listener)
	test.eq({ socket.open("127.0.0.1", port) }, { nil, "Connection refused" })
	test.eq({ socket.open("no.such.host.invalid", 80) }, { nil, "Name or service not known" })
	local id, err = socket.open(("a"):rep(232), 80)
	test.eq(id, nil)
	test.eq(type(err), "string")
	test.err(function() socket.open("127.0.0.1") end, "Invalid address")
end)

test.case("listen tells the bound address", function()
	for _, case in ipairs { { "127.0.0.1", 0, "127.0.0.1" }, { "", 0, "0.0.0.0" },
		{ "::1", 0, "::1" }, { "[::1]:0", nil, "::1" }, { "127.0.0.1:0", nil, "127.0.0.1" } } do
		local id, ip, port = socket.listen(case[1], case[2])
		test.eq(ip, case[3])
		test.ok(port > 0)
		socket.close(id)
	end
	test.err(function() socket.listen("192.0.2.1", 9999) end,
		"Listen error: 192.0.2.1:9999: Cannot assign requested address")
	local id, _, port = socket.listen("::1", 0)
	test.err(function() socket.listen("::1", port) end,
		("Listen error: [::1]:%d: Address already in use"):format(port))
	test.match(tostring(socket.peer(id)), ":" .. port .. "$")
	test.eq(socket.peer(1 << 30), nil)
	socket.close(id)
end)

test.case("accept tells the peer's address", function()
	local got
	local port, listener = listen(function(id, addr)
		got = addr
		socket.close_fd(id)
	end)
	local id = socket.open("127.0.0.1", port)
	test.eq({ socket.read(id) }, { false, "" })
	test.match(got, "^127%.0%.0%.1:%d+$")
	close(id, listener)
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

test.case("after the end the id is known and writable until close", function()
	local client, server = pair()
	socket.close(client)
	test.eq({ socket.read(server) }, { false, "" })
	test.eq(socket.disconnected(server), true)
	test.eq(socket.invalid(server), false)
	test.eq(socket.block(server), false)
	test.eq(socket.readall(server), false)
	test.eq(socket.write(server, "x"), true)
	socket.close(server)
	test.eq(socket.invalid(server), true)
	test.eq(socket.disconnected(server), nil)
	test.eq(socket.write(server, "x"), false)
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
	test.err(function() socket.read(server) end, "assertion failed!")
	socket.write(client, "line\n")
	test.wait_for(function() return got == "line" end)
	close(client, server)
end)

test.case("close lets the reader go first", function()
	local client, server = pair()
	local order = {}
	socket.write(client, "partial")
	skynet.fork(function()
		local ok, rest = socket.read(server, 100)
		table.insert(order, { "reader", ok, rest })
		table.insert(order, { "again", socket.read(server) })
	end)
	test.wait_for(function()
		for _, v in ipairs(socket.netstat()) do
			if v.id == server and v.read == 7 then
				return true
			end
		end
	end)
	skynet.yield()
	socket.close(server)
	table.insert(order, "closed")
	test.eq(order, { { "reader", false, "partial" }, { "again", false, "" }, "closed" })
	socket.close(client)
end)

test.case("two tasks may close at once", function()
	local client, server = pair()
	local n = 0
	for _ = 1, 3 do
		skynet.fork(function()
			socket.close(server)
			n = n + 1
		end)
	end
	test.wait_for(function() return n == 3 end)
	socket.close(client)
end)

test.case("closing a connect under way wakes it with an error", function()
	local result
	local before = {}
	for _, v in ipairs(socket.netstat()) do
		before[v.id] = true
	end
	-- Nobody accepts: the start of an id that only exists as a request.
	local id = socket.listen("127.0.0.1", 0)
	skynet.fork(function()
		result = table.pack(socket.open("no.such.host.invalid", 80))
	end)
	skynet.yield()
	socket.close(id + 1)
	test.wait_for(function() return result end)
	test.eq(result[1], nil)
	test.eq(type(result[2]), "string")
	socket.close(id)
end)

test.case("limit closes a socket whose line does not end", function()
	local closes = 0
	local lines = logged("socket buffer overflow", function()
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

test.case("start twice is an error, start of nothing tells why", function()
	local client, server = pair()
	test.err(function() socket.start(server) end, "socket is not closed")
	test.eq({ socket.start(99999) }, { nil, "invalid socket" })
	close(client, server)
end)

test.case("start after the peer has closed works and reads the end", function()
	local accepted
	local port, listener = listen(function(id) accepted = id end)
	local client = socket.open("127.0.0.1", port)
	test.wait_for(function() return accepted end)
	socket.close(client)
	test.eq(socket.start(accepted), accepted)
	test.eq({ socket.read(accepted) }, { false, "" })
	close(accepted, listener)
end)

test.case("another service takes a connection with what was not read", function()
	local accepted
	local port, listener = listen(function(id) accepted = id end)
	local client = socket.open("127.0.0.1", port)
	test.wait_for(function() return accepted end)
	socket.write(client, "for the servant\n")
	local servant = skynet.newservice("socketreader")
	test.eq(skynet.call(servant, "lua", "readline", accepted), "for the servant")
	skynet.call(servant, "lua", "write", accepted, "answer\n")
	test.eq(socket.readline(client), "answer")
	skynet.send(servant, "lua", "exit")
	test.eq({ socket.read(client) }, { false, "" })
	close(client, listener)
end)

test.case("a socket that another service took is forgotten here", function()
	local client, server = pair()
	local servant = skynet.newservice("socketreader")
	local result
	skynet.fork(function()
		result = table.pack(socket.read(server))
	end)
	skynet.yield()
	skynet.call(servant, "lua", "start", server)
	test.wait_for(function() return result end)
	test.eq({ result[1], result[2] }, { false, "" })
	test.eq(socket.invalid(server), true)
	skynet.call(servant, "lua", "write", server, "still open")
	test.eq(socket.read(client), "still open")
	skynet.send(servant, "lua", "exit")
	socket.close(client)
end)

test.case("a killed service's sockets are closed", function()
	local accepted
	local port, listener = listen(function(id) accepted = id end)
	local client = socket.open("127.0.0.1", port)
	test.wait_for(function() return accepted end)
	local servant = skynet.newservice("socketreader")
	skynet.call(servant, "lua", "start", accepted)
	skynet.kill(servant)
	test.eq({ socket.read(client) }, { false, "" })
	close(client, listener)
end)

test.case("an abandoned id drops data until it is started again", function()
	local client, server = pair()
	socket.abandon(server)
	test.eq(socket.invalid(server), true)
	local lines = logged("socket: drop package from", function(found)
		socket.write(client, "lost")
		test.wait_for(function() return #found > 0 end)
	end)
	test.eq(lines, { "socket: drop package from " .. server })
	test.eq(socket.start(server), server)
	socket.write(client, "kept")
	test.eq(socket.read(server), "kept")
	close(client, server)
end)

test.case("abandon wakes the reader", function()
	local client, server = pair()
	local result
	skynet.fork(function()
		result = table.pack(socket.readline(server))
	end)
	skynet.yield()
	socket.abandon(server)
	test.wait_for(function() return result end)
	test.eq({ result[1], result[2] }, { false, "" })
	socket.close_fd(server)
	socket.close(client)
end)

local MiB = 1024 * 1024

test.case("unread data pauses the socket once and is all there later", function()
	local size = 8 * MiB
	local lines = logged("Pause socket", function(found)
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
	local lines = logged("socket (", function()
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
	test.eq(socket.readline(server, "\n", 500), "def")
	close(client, server)
end)

test.case("warnings go to their callback, or to the log", function()
	local client, server = pair()
	socket.pause(server)
	local told = {}
	socket.warning(client, function(id, kib)
		test.eq(id, client)
		told[#told + 1] = kib
	end)
	for _ = 1, 12 do
		socket.write(client, ("w"):rep(MiB))
	end
	test.wait_for(function() return (told[1] or 0) >= 1024 end)
	local got = 0
	while got < 12 * MiB do
		got = got + #socket.read(server)
	end
	test.wait_for(function() return told[#told] == 0 end)
	socket.warning(client, nil)
	socket.pause(server)
	local lines = logged("WARNING: ", function(found)
		for _ = 1, 12 do
			socket.write(client, ("w"):rep(MiB))
		end
		test.wait_for(function() return #found > 0 end)
	end)
	test.match(lines[1], "^WARNING: %d+ K bytes need to send out %(fd = " .. client .. "%) peer=127%.0%.0%.1:%d+$")
	socket.shutdown(client)
	close(client, server)
end)

test.case("shutdown wakes the reader; close is still needed", function()
	local client, server = pair()
	local result
	skynet.fork(function()
		result = table.pack(socket.read(server))
	end)
	skynet.yield()
	socket.shutdown(server)
	test.wait_for(function() return result end)
	test.eq(result[1], false)
	test.eq(socket.invalid(server), false)
	socket.close(server)
	test.eq(socket.invalid(server), true)
	socket.close(client)
end)

test.case("close_fd is for ids of nobody here", function()
	local client, server = pair()
	test.err(function() socket.close_fd(server) end, "Use socket.close instead")
	close(client, server)
	socket.close_fd(server)
	socket.close(server)
end)

test.case("onclose runs once, after a peer's close as after one's own", function()
	local client, server = pair()
	local n = { [client] = 0, [server] = 0 }
	for id in pairs(n) do
		socket.onclose(id, function(who) n[who] = n[who] + 1 end)
	end
	close(client, server)
	test.wait_for(function() return n[client] == 1 and n[server] == 1 end)
end)

test.case("closing in onclose leaves the reader its data", function()
	local client, server = pair()
	local result
	socket.onclose(server, function(id) socket.close(id) end)
	skynet.fork(function()
		result = table.pack(socket.read(server, 100))
	end)
	skynet.yield()
	socket.write(client, "tail")
	socket.close(client)
	test.wait_for(function() return result end)
	test.eq({ result[1], result[2] }, { false, "tail" })
	test.wait_for(function() return socket.invalid(server) end)
end)

test.case("an error in an accept callback leaves the listener", function()
	local n = 0
	local port, listener = listen(function(id)
		n = n + 1
		socket.close_fd(id)
		error("accept failed on purpose")
	end)
	for i = 1, 2 do
		local id = socket.open("127.0.0.1", port)
		socket.read(id)
		socket.close(id)
		test.eq(n, i)
	end
	socket.close(listener)
end)

test.case("header, write of tables and lwrite", function()
	local client, server = pair()
	test.eq(socket.header("\1\0"), 256)
	socket.write(client, { "a", "b", 1 })
	test.eq(socket.read(server, 3), "ab1")
	socket.lwrite(client, "low")
	test.eq(socket.read(server, 3), "low")
	close(client, server)
end)

test.case("many writes of one task to many sockets arrive whole and in order", function()
	local clients, servers = {}, {}
	for i = 1, 20 do
		clients[i], servers[i] = pair()
	end
	for round = 1, 50 do
		for i = 1, 20 do
			socket.write(clients[i], string.pack(">I2", round))
			socket.write(clients[i], { "-", string.pack(">I2", i) })
		end
	end
	for i = 1, 20 do
		socket.close(clients[i])
	end
	for i = 1, 20 do
		for round = 1, 50 do
			local a, b = string.unpack(">I2xI2", socket.read(servers[i], 5))
			test.eq({ a, b }, { round, i })
		end
		test.eq({ socket.read(servers[i]) }, { false, "" })
		socket.close(servers[i])
	end
end)

test.case("a long write of many pieces by one task", function()
	local client, server = pair()
	local piece = ("0123456789"):rep(1000)
	for _ = 1, 500 do
		socket.write(client, piece)
	end
	socket.close(client)
	test.eq(socket.readall(server), piece:rep(500))
	socket.close(server)
end)

test.case("resolve of numbers and names", function()
	test.eq(socket.resolve("::1"), { "::1" })
	test.err(function() socket.resolve("no.such.host.invalid") end, "Name or service not known")
end)

-- A port number that no other test uses, held by a TCP listener.
local function udp_port(host)
	local id, _, port = socket.listen(host, 0)
	return port, id
end

test.case("datagrams go to and fro over IPv4", function()
	local port, holder = udp_port("127.0.0.1")
	local server
	server = socket.udp(function(text, from)
		socket.sendto(server, from, "OK " .. text)
	end, "127.0.0.1", port)
	local got = {}
	local client = socket.udp(function(text, from)
		test.eq({ socket.udp_address(from) }, { "127.0.0.1", port })
		got[#got + 1] = text
	end)
	socket.udp_connect(client, "127.0.0.1", port)
	for i = 1, 20 do
		socket.write(client, "hello " .. i)
	end
	test.wait_for(function() return #got == 20 end)
	test.eq(got[20], "OK hello 20")
	close(server, client, holder)
end)

test.case("udp_listen and udp_dial over IPv6", function()
	local port, holder = udp_port("::1")
	local server
	server = socket.udp_listen("::1", port, function(text, from)
		socket.sendto(server, from, "OK " .. text)
	end)
	local got = {}
	local client = socket.udp_dial("::1", port, function(text)
		got[#got + 1] = text
	end)
	for i = 1, 20 do
		socket.write(client, "hello " .. i)
	end
	test.wait_for(function() return #got == 20 end)
	close(server, client, holder)
end)

test.case("a family that does not fit is logged and harmless", function()
	local id = socket.udp(function() end, "127.0.0.1", 0)
	local lines = logged("protocol mismatch", function(found)
		socket.udp_connect(id, "::1", 9)
		test.wait_for(function() return #found > 0 end)
	end)
	test.eq(lines, { ("socket: error on %d protocol mismatch"):format(id) })
	test.eq(socket.disconnected(id), false)
	socket.close(id)
end)

test.case("a reader that got its data as the socket was closed ends, too", function()
	local driver = require "skynet.socketdriver"
	local client, server = pair()
	local push = driver.push
	local closer, closed, got = nil, false, {}
	skynet.fork(function()
		closer = coroutine.running()
		skynet.wait(closer)
		socket.close(server)
		closed = true
	end)
	skynet.fork(function()
		repeat
			got[#got + 1] = socket.read(server)
		until not got[#got]
	end)
	test.wait_for(function() return closer end)
	-- The task that closes wakes just before the one that reads.
	driver.push = function(...)
		driver.push = push
		skynet.wakeup(closer)
		return push(...)
	end
	socket.write(client, "data")
	test.wait_for(function() return closed and got[#got] == false end)
	test.eq(got, { "data", false })
	close(client)
end)

test.run()
