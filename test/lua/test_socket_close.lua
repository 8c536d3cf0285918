-- skynet.socket: every way a connection ends, and who learns of it (net.md section 4; 14.2).
-- also with: socket_thread = 3

local skynet = require "skynet"
local inbox = require "skynet.socketinbox"
local socket = require "skynet.socket"
local sockets = require "sockets"
local test = require "testlib"

local pair, close = sockets.pair, sockets.close

test.case("drop closes without waiting", function()
	local client, id = pair()
	socket.write(id, "last words")
	local lines = test.logged("drop package", function()
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
	-- With somebody who wants to know of the end: close has nothing left to do.
	local ended
	close(client)
	client, id = pair()
	socket.onclose(id, function(closed) ended = closed end)
	socket.drop(id)
	socket.close(id)
	test.wait_for(function() return ended == id end)
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

test.case("many dropped connections whose peers take their time", function()
	local COUNT = 24
	local clients, servers = {}, {}
	local text = ("t"):rep(4 * 1024 * 1024)
	for i = 1, COUNT do
		clients[i], servers[i] = pair()
		socket.pause(clients[i])
		socket.write(servers[i], text)
	end
	for i = 1, COUNT do
		socket.drop(servers[i])
		test.eq(socket.invalid(servers[i]), true)
	end
	-- Others are served meanwhile.
	local client, server = pair()
	socket.write(client, "heard")
	test.eq(socket.read(server, 5), "heard")
	close(client, server)
	for i = COUNT, 1, -1 do
		test.eq(#socket.readall(clients[i]), #text)
		socket.close(clients[i])
	end
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
		return sockets.info(server).read == 7
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
	-- Nobody accepts: the start of an id that only exists as a request.
	local id = socket.listen("127.0.0.1", 0)
	skynet.fork(function()
		result = table.pack(socket.open(test.NO_HOST, 80))
	end)
	skynet.yield()
	socket.close(id + 1)
	test.wait_for(function() return result end)
	test.eq(result[1], nil)
	test.eq(type(result[2]), "string")
	socket.close(id)
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

test.case("a reader that got its data as the socket was closed ends, too", function()
	local client, server = pair()
	local held = inbox.held
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
	socket.limit(server, 1024)
	inbox.held = function(...)
		inbox.held = held
		skynet.wakeup(closer)
		return held(...)
	end
	socket.write(client, "data")
	test.wait_for(function() return closed and got[#got] == false end)
	test.eq(got, { "data", false })
	close(client)
end)

test.run()
