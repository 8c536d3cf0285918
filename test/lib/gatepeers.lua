-- gatepeers: clients of gates, one table for each way to talk to one: of packages (plain) or
-- WebSocket messages (ws), in the clear or over TLS (secure, secure_ws). They bear with a gate that
-- does not do its work: what comes is a text, false when the connection has ended (or there never
-- was one), nil when neither came in time. Limits are 1/100 s.

local socket = require "skynet.socket"
local tls = require "skynet.tls"
local certs = require "certs"
local watchdog = require "watchdog"
local wsraw = require "wsraw"

---@class gatepeer
---@field connect fun(port: integer, limit: integer): any # a connection of its own kind; yields
---@field pack fun(text: string): string # a package or a message
---@field write fun(c: any, bytes: string)
---@field read fun(c: any, n: integer, limit: integer): string|false|nil # yields
---@field hear fun(c: any, limit: integer): string|false|nil # the next text; yields
---@field close fun(c: any) yields

local function hear_package(peer)
	return function(c, limit)
		local head = peer.read(c, 2, limit)
		return head and peer.read(c, string.unpack(">I2", head), limit)
	end
end

-- A close frame is an end; texts are shorter than 64 KiB.
local function hear_message(peer)
	return function(c, limit)
		local head = peer.read(c, 2, limit)
		if not head or head:byte() == 0x88 then
			return head and false
		end
		local size = head:byte(2) & 0x7f
		if size == 126 then
			local more = peer.read(c, 2, limit)
			size = more and string.unpack(">I2", more)
		end
		return size and peer.read(c, size, limit)
	end
end

local function pack_message(text) return wsraw.frame(1, text) end

---@type gatepeer
local plain = {
	connect = function(port) return assert(socket.open("127.0.0.1", port)) end,
	pack = watchdog.frame,
	write = function(id, bytes) socket.write(id, bytes) end,
	read = function(id, n, limit) return (socket.read(id, n, limit)) end,
	close = socket.close,
}
plain.hear = hear_package(plain)

---@type gatepeer
local ws = {
	connect = function(port, limit)
		local id = plain.connect(port)
		socket.write(id, wsraw.request())
		socket.readline(id, "\r\n\r\n", limit)
		return id
	end,
	pack = pack_message,
	write = plain.write,
	read = plain.read,
	close = plain.close,
}
ws.hear = hear_message(ws)

---@type gatepeer
local secure = {
	connect = function(port, limit)
		return tls.connect("127.0.0.1", port, { ca = certs.path "ca.pem", timeout = limit }) or false
	end,
	pack = watchdog.frame,
	write = function(c, bytes) return c and c:write(bytes) end,
	read = function(c, n, limit)
		if c then
			return (c:read(n, limit))
		end
		return false
	end,
	close = function(c) return c and c:close() end,
}
secure.hear = hear_package(secure)

---@type gatepeer
local secure_ws = {
	connect = function(port, limit)
		local c = secure.connect(port, limit)
		if c then
			c:write(wsraw.request())
			c:readline("\r\n\r\n", limit)
		end
		return c
	end,
	pack = pack_message,
	write = secure.write,
	read = secure.read,
	close = secure.close,
}
secure_ws.hear = hear_message(secure_ws)

return { plain = plain, ws = ws, secure = secure, secure_ws = secure_ws }
