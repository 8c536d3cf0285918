-- Options and limits of sockets through skynet.socket (doc/reference/socket.md).
-- also with: socket_thread = 3

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local driver = require "skynet.socketdriver"
local sockets = require "sockets"
local test = require "testlib"

-- A listener with `options`; its connections go to `serve`, or are kept in a list.
local function listen(options, serve)
	local accepted = {}
	local id, _, port = socket.listen("127.0.0.1", 0, options)
	socket.start(id, serve or function(new)
		assert(socket.start(new))
		accepted[#accepted + 1] = new
	end)
	return port, id, accepted
end

local function raises(text, f, ...)
	local ok, err = pcall(f, ...)
	test.ok(not ok and tostring(err):find(text, 1, true), tostring(err))
end

test.case("bad options raise with the key and what is allowed", function()
	raises("Unknown socket option colour", socket.listen, "127.0.0.1", 0, { colour = 1 })
	raises("Unknown socket option 1", socket.listen, "127.0.0.1", 0, { 1 })
	raises("Invalid socket option send_limit: expected an integer, 0 to 4294967295, got -1",
		socket.listen, "127.0.0.1", 0, { send_limit = -1 })
	raises("Invalid socket option nodelay: expected a boolean, got 1",
		socket.open, "127.0.0.1", 1, nil, { nodelay = 1 })
	raises('Invalid socket option send_policy: expected "close" or "drop", got wait',
		socket.open, "127.0.0.1", 1, nil, { send_policy = "wait" })
	raises("Socket option backlog is for listen only", socket.open, "127.0.0.1", 1, nil,
		{ backlog = 1 })
	raises("0 to 214748364, got 1.5", socket.listen, "127.0.0.1", 0, { idle = 1.5 })
	test.eq(socket.option(123456, { nodelay = true }), false)
	test.eq(#socket.netstat(), 0)
end)

test.case("a backlog is a number or an option", function()
	local port, id = listen(7)
	test.ok(port > 0)
	socket.close(id)
	port, id = listen { backlog = 7 }
	test.ok(port > 0)
	socket.close(id)
	raises("backlog out of range", socket.listen, "127.0.0.1", 0, -1)
end)

test.case("a write beyond the limit is false and ends a slow reader", function()
	local port, listener, accepted = listen()
	local client = socket.open("127.0.0.1", port, nil, { send_limit = 200000 })
	test.wait_for(function() return accepted[1] end)
	socket.abandon(accepted[1])
	driver.pause(accepted[1])
	local closed
	socket.onclose(client, function() closed = true end)
	local block, n = ("x"):rep(50000), 0
	while socket.write(client, block) do
		n = n + 1
		skynet.yield()
	end
	test.ok(n >= 4)
	test.wait_for(function() return closed end)
	test.eq(socket.disconnected(client), true)
	test.eq(socket.read(client), false)
	socket.close(client)
	driver.shutdown(accepted[1])
	socket.close(listener)
end)

test.case("policy drop refuses writes until the reader has caught up", function()
	local port, listener, accepted = listen()
	local client = socket.open("127.0.0.1", port, nil, { send_limit = 200000, send_policy = "drop" })
	test.wait_for(function() return accepted[1] end)
	local peer = accepted[1]
	socket.pause(peer)
	local block, n = ("x"):rep(50000), 0
	while socket.write(client, block) do
		n = n + 1
		skynet.yield()
	end
	test.eq(#socket.read(peer, n * #block), n * #block)
	test.wait_for(function() return socket.write(client, "more") end)
	test.eq(socket.read(peer, 4), "more")
	socket.close(client)
	socket.close(peer)
	socket.close(listener)
end)

test.case("a busy service leaves what comes in the kernel", function()
	local port, listener, accepted = listen { receive_limit = 100000 }
	local client = socket.open("127.0.0.1", port)
	test.wait_for(function() return accepted[1] end)
	local peer = accepted[1]
	socket.write(client, ("y"):rep(4 * 1024 * 1024))
	-- Busy: none of what is delivered to this service meanwhile is taken in.
	local rested
	for _ = 1, 100000 do
		local v = sockets.info(peer)
		if not v.reading then
			rested = v
			break
		end
	end
	test.ok(rested == nil or rested.read <= 100000 + 65536)
	test.eq(#socket.read(peer, 4 * 1024 * 1024), 4 * 1024 * 1024)
	socket.close(client)
	socket.close(peer)
	socket.close(listener)
end)

test.case("a silent connection is closed", function()
	local port, listener, accepted = listen { idle = 2 }
	local client = socket.open("127.0.0.1", port)
	test.eq(socket.read(client), false)
	test.eq(socket.read(accepted[1]), false)
	socket.close(client)
	socket.close(accepted[1])
	socket.close(listener)
end)

test.case("a listener has a maximum, in total and per peer", function()
	for _, key in ipairs { "max_connections", "max_per_peer" } do
		local port, listener, accepted = listen { [key] = 2 }
		local a = socket.open("127.0.0.1", port)
		local b = socket.open("127.0.0.1", port)
		local c = socket.open("127.0.0.1", port)
		test.eq(socket.read(c), false)
		test.wait_for(function() return #accepted == 2 end)
		-- Raised while it runs.
		test.eq(socket.option(listener, { [key] = 3 }), true)
		local d = socket.open("127.0.0.1", port)
		test.wait_for(function() return #accepted == 3 end)
		for _, id in ipairs { a, b, c, d, accepted[1], accepted[2], accepted[3], listener } do
			socket.close(id)
		end
	end
end)

test.case("new connections of one peer are limited in time", function()
	local port, listener, accepted = listen { peer_rate = 1, peer_burst = 1 }
	local ids, refused = {}, 0
	-- Not even a busy machine takes a second for each.
	for _ = 1, 20 do
		local id = socket.open("127.0.0.1", port)
		ids[#ids + 1] = id
	end
	test.wait_for(function()
		for _, id in ipairs(ids) do
			refused = refused + (socket.read(id, nil, 1) == false and 1 or 0)
		end
		return refused > 0 and #accepted > 0
	end)
	for _, id in ipairs(ids) do socket.close(id) end
	for _, id in ipairs(accepted) do socket.close(id) end
	socket.close(listener)
end)

test.case("listeners with reuseport share a port", function()
	local port, first = listen { reuseport = true }
	raises("Listen error", socket.listen, "127.0.0.1", port)
	local second = socket.listen("127.0.0.1", port, { reuseport = true })
	test.ok(second)
	socket.close(first)
	socket.close(second)
end)

test.case("nothing is left", function()
	test.wait_for(function() return #socket.netstat() == 0 end)
end)

test.run()
