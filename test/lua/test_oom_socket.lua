-- Sockets of services whose allocations fail, each in its turn: a connection may end, but
-- none is left that nobody reads or closes.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local socket = require "skynet.socket"
local oom = require "oom"
local sockets = require "sockets"
local test = require "testlib"

-- A peer waits so long for what may not come, 1/100 s.
local PATIENCE = 30

local target

local function sweep(exchange)
	oom.sweep { handle = target, exchange = exchange }
end

-- Says something on a new connection. Raises unless it comes back.
local function say(port, text, answer)
	sockets.connected(port, function(id)
		for _ = 1, 2 do
			socket.write(id, text)
			test.eq(socket.readline(id, "\n", oom.patience(PATIENCE)), answer)
		end
	end)
end

local function say_once(port, text, answer)
	sockets.connected(port, function(id)
		socket.write(id, text)
		test.eq(socket.readline(id, "\n", oom.patience(PATIENCE)), answer)
	end)
end

for _, how in ipairs { "accept", "start" } do
	test.case("a server that uses socket." .. how, function()
		local port = skynet.call(target, "lua", "listen", how)
		sweep(function() say(port, "hello\n", "hello") end)
	end)
end

test.case("a server that has Lua look at what comes", function()
	local port = skynet.call(target, "lua", "listen_sizes")
	local text = ("x"):rep(20)
	sweep(function() say_once(port, "20" .. text .. "line<the end of the line>", text .. "line") end)
end)

-- Bytes that came to connections of the service.
local function received()
	local n = 0
	for _, s in ipairs(driver.info()) do
		if s.address == target then
			n = n + (s.read or 0)
		end
	end
	return n
end

test.case("a server that gets a line in pieces, of which none may be missing", function()
	local port = skynet.call(target, "lua", "listen", "accept")
	local pieces = { "one ", "two ", "three ", "four ", "five\n" }
	local line = table.concat(pieces):sub(1, -2)
	local function write_pieces(id)
		local sent = 0
		for _, piece in ipairs(pieces) do
			socket.write(id, piece)
			sent = sent + #piece
			test.wait_for(function() return received() >= sent or socket.disconnected(id) end)
		end
		return (socket.readline(id, "\n", oom.patience(PATIENCE)))
	end
	oom.sweep { handle = target, ask = function() return sockets.connected(port, write_pieces), line end }
end)

test.case("a client", function()
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.accept(listener, function(id)
		local line = socket.readline(id)
		if line then
			socket.write(id, line .. "\n")
			socket.readline(id)
		end
		socket.close(id)
	end)
	sweep(function() test.eq(skynet.call(target, "lua", "talk", port, "hello"), "hello") end)
	socket.close(listener)
end)

test.run(function()
	target = oom.newservice "oom_socket"
end)
