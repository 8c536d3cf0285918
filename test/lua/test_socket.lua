-- skynet.socket: opening, listening, accepting, and ids that change their service
-- (net.md section 4; 14.2).
-- also with: socket_thread = 3

local skynet = require "skynet.manager"
local core = require "skynet.core"
local socket = require "skynet.socket"
local inbox = require "skynet.socketinbox"
local sockets = require "sockets"
local test = require "testlib"

local listen, pair, close = sockets.listen, sockets.pair, sockets.close

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
	local lines = test.logged("drop package", function()
		local clients = {}
		for i = 1, 30 do
			local id = socket.open("127.0.0.1", port)
			if id then
				clients[#clients + 1] = id
				socket.write(id, "hello")
			end
			if i == 10 then
				test.wait_for(function() return served > 0 end)
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

test.case("open tells why it failed", function()
	test.eq({ socket.open("127.0.0.1", 1) }, { nil, "Connection refused" })
	test.eq({ socket.open(test.NO_HOST, 80) }, { nil, "Name or service not known" })
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
	local lines = test.logged("socket: drop package from", function(found)
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

test.case("what comes after abandon is dropped, whether or not a task was reading", function()
	local client, server = pair()
	local rest
	skynet.fork(function() rest = { socket.read(server, 100) } end)
	skynet.yield()
	socket.abandon(server)
	local lines = test.logged("socket: drop package from", function(found)
		socket.write(client, "lost")
		test.wait_for(function() return #found > 0 end)
	end)
	test.eq(lines, { "socket: drop package from " .. server })
	test.eq(rest, { false, "" })
	test.eq(socket.start(server), server)
	close(client, server)
end)

-- An event of the socket core, of type CONNECT or ERROR.
local function send_event(kind, id, text)
	local event = string.pack("i4i4i4xxxxJ", kind, id, 0, 0) .. text
	core.send(skynet.self(), skynet.PTYPE_SOCKET, 0, event)
end

test.case("a connection that was dropped when another service took it is forgotten", function()
	-- Of nobody else, so that no CLOSE comes between the events below.
	local id = 0x7ffffff0
	test.ok(inbox.drop(inbox.open(id)))
	local lines = test.logged("socket: error on unknown", function(found)
		send_event(5, id, "before")
		send_event(2, id, "transferred")
		send_event(5, id, "after")
		test.wait_for(function() return #found > 0 end)
	end)
	test.eq(lines, { "socket: error on unknown " .. id .. " after" })
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

test.case("resolve of numbers and names", function()
	test.eq(socket.resolve("::1"), { "::1" })
	test.err(function() socket.resolve(test.NO_HOST) end, "Name or service not known")
end)

test.run()
