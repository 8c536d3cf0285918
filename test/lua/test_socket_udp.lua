-- skynet.socket: datagrams (net.md section 4).
-- also with: socket_thread = 3

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

test.run()
