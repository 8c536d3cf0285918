-- skynet.socket: writing (net.md section 4).
-- also with: socket_thread = 3

local socket = require "skynet.socket"
local sockets = require "sockets"
local test = require "testlib"

local pair, close = sockets.pair, sockets.close

local MiB = 1024 * 1024

test.case("warnings go to their callback, or to the log", function()
	local client, server = pair()
	socket.pause(server)
	local told = {}
	socket.warning(client, function(id, kib)
		test.eq(id, client)
		told[#told + 1] = kib
	end)
	-- Until the system has taken what it takes.
	local written, got = 0, 0
	test.wait_for(function()
		socket.write(client, ("w"):rep(MiB))
		written = written + MiB
		return (told[1] or 0) >= 1024
	end)
	while got < written do
		got = got + #socket.read(server)
	end
	test.wait_for(function() return told[#told] == 0 end)
	socket.warning(client, nil)
	socket.pause(server)
	local lines = test.logged("WARNING: ", function(found)
		test.wait_for(function()
			socket.write(client, ("w"):rep(MiB))
			return #found > 0
		end)
	end)
	test.match(lines[1], "^WARNING: %d+ K bytes need to send out %(fd = " .. client .. "%) peer=127%.0%.0%.1:%d+$")
	socket.shutdown(client)
	close(client, server)
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

test.run()
