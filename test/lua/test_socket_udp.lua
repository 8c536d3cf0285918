-- skynet.socket: datagrams (net.md section 4).
-- also with: socket_thread = 3

local skynet = require "skynet"
local socket = require "skynet.socket"
local sockets = require "sockets"
local test = require "testlib"

local close = sockets.close

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
	local lines = test.logged("protocol mismatch", function(found)
		socket.udp_connect(id, "::1", 9)
		test.wait_for(function() return #found > 0 end)
	end)
	test.eq(lines, { ("socket: error on %d protocol mismatch"):format(id) })
	test.eq(socket.disconnected(id), false)
	socket.close(id)
end)

-- A socket whose callbacks wait until they are let go, and one that writes to it.
local function waiting_server()
	local port, holder = udp_port("127.0.0.1")
	local tokens, done, failed = {}, 0, 0
	local server = socket.udp_listen("127.0.0.1", port, function(text)
		if text == "fail" then
			failed = failed + 1
			error "a failing callback"
		end
		local token = {}
		tokens[#tokens + 1] = token
		skynet.wait(token)
		done = done + 1
	end)
	local client = socket.udp_dial("127.0.0.1", port, function() end)
	local self = { id = server, client = client, close = function() close(server, client, holder) end }
	function self.running() return #tokens end
	function self.fail()
		local n = failed + 1
		socket.write(client, "fail")
		test.wait_for(function() return failed == n end)
	end
	-- Not so many at once that some are lost.
	function self.fill(n)
		while #tokens < n do
			local want = math.min(n, #tokens + 32)
			for _ = #tokens + 1, want do
				socket.write(client, "x")
			end
			-- There may be one more that a full server has not dropped.
			test.wait_for(function() return #tokens >= want end)
		end
	end
	function self.let_go()
		local n = done + #tokens
		for _, token in ipairs(tokens) do
			skynet.wakeup(token)
		end
		tokens = {}
		test.wait_for(function() return done == n end)
	end
	return self
end

local DROP = "^socket: drop udp package of 127%.0%.0%.1:%d+ on %d+, (%d+) callbacks are under way"

-- What a full server does with a datagram more.
local function check_full(server, n)
	local lines = test.logged("drop udp package", function(found)
		test.wait_for(function()
			socket.write(server.client, "too much")
			return #found > 0
		end)
	end)
	test.eq(lines[1]:match(DROP), tostring(n))
	test.eq(server.running(), n)
end

test.case("so many callbacks may wait, what comes beside is dropped and told", function()
	local server = waiting_server()
	socket.udp_limit(server.id, 3)
	server.fill(3)
	check_full(server, 3)
	-- Once they are done there is room again.
	server.let_go()
	server.fill(3)
	-- A line a second, which says how many there were.
	local begin = skynet.now()
	local lines = test.logged("drop udp package", function(found)
		for _ = 1, 200 do
			socket.write(server.client, "too much")
			skynet.sleep(1)
		end
		test.wait_for(function() return #found > 0 end)
	end)
	test.ok(#lines <= (skynet.now() - begin) // 100 + 2, "a line for each")
	test.eq(server.running(), 3)
	socket.udp_limit(server.id, 0)
	server.fill(10)
	server.let_go()
	server.close()
end)

test.case("a callback that fails makes room, too", function()
	local server = waiting_server()
	socket.udp_limit(server.id, 1)
	for _ = 1, 5 do
		server.fail()
	end
	server.fill(1)
	check_full(server, 1)
	server.let_go()
	server.close()
end)

test.case("1024 callbacks may wait unless told otherwise", function()
	local server = waiting_server()
	server.fill(1024)
	check_full(server, 1024)
	server.let_go()
	server.close()
end)

test.case("udp_limit refuses what makes no sense", function()
	local id = socket.udp(function() end)
	test.err(function() socket.udp_limit(id, -1) end,
		"bad argument #2 to 'socket.udp_limit' (number of callbacks expected, got number -1)")
	test.err(function() socket.udp_limit(id) end, "got nil")
	test.err(function() socket.udp_limit(0xffffff, 1) end,
		"bad argument #1 to 'socket.udp_limit' (id of a UDP socket expected")
	socket.close(id)
end)

test.run()
