-- sockets: what tests of skynet.socket begin and end with: listeners, both ends of a
-- connection, and what the node knows about an id.

local socket = require "skynet.socket"
local test = require "testlib"

local sockets = {}

---A listener whose connections `serve` handles, each in a task. Yields.
---@param serve fun(id: integer, addr: string)
---@return integer port
---@return integer id
function sockets.listen(serve)
	local id, ip, port = socket.listen("127.0.0.1", 0)
	test.eq(ip, "127.0.0.1")
	socket.start(id, serve)
	return port, id
end

---Both ends of a connection. Yields.
---@return integer client
---@return integer accepted
function sockets.pair()
	local accepted
	local port, listener = sockets.listen(function(id)
		accepted = assert(socket.start(id))
	end)
	local client = assert(socket.open("127.0.0.1", port))
	test.wait_for(function() return accepted end)
	socket.close(listener)
	return client, accepted
end

---What f gives of a new connection, which is closed then, whether f raises or not. Yields.
---@param port integer
---@param f fun(id: integer, ...): ...
---@param ... any
---@return any ...
function sockets.connected(port, f, ...)
	local id = assert(socket.open("127.0.0.1", port))
	local result = table.pack(pcall(f, id, ...))
	socket.close(id)
	assert(result[1], result[2])
	return table.unpack(result, 2, result.n)
end

---Close ids, in that order. Yields.
function sockets.close(...)
	for _, id in ipairs { ... } do
		socket.close(id)
	end
end

---The record of one id in netstat; nil when it is gone.
---@param id integer
---@return table?
function sockets.info(id)
	for _, record in ipairs(socket.netstat()) do
		if record.id == id then
			return record
		end
	end
end

---The port that a socket is bound to.
---@param id integer
---@return integer
function sockets.port(id)
	return math.tointeger(tonumber(sockets.info(id).sock:match ":(%d+)$")) --[[@as integer]]
end

-- More than any system takes; from a peer that is said not to read.
local MOST <const> = 256 * 1024 * 1024

---Write until neither the system nor the peer takes more: how much they do is the system's
---choice, and changes with how fast a peer has read so far. Yields.
---@param id integer
---@param write fun(): integer writes some data; tells how many bytes
function sockets.fill(id, write)
	local written, last, same = 0, 0, 0
	test.wait_for(function()
		local left = sockets.info(id).wbuffer
		if left == 0 then
			written = written + write()
			test.ok(written < MOST, "the peer reads on")
		end
		same = left == last and same + 1 or 0
		last = left
		return left > 0 and same >= 20
	end)
end

return sockets
