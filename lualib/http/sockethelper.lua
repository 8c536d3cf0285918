-- http.sockethelper: sockets as the functions that the HTTP modules read and write
-- with. They raise one object, `socket_error`, when the connection is the reason, so
-- that a caller can tell a lost peer from a mistake by comparing. Owns the text of the
-- latest such error, nothing else.

local socket = require "skynet.socket"

---@class http.sockethelper
local sockethelper = {}

-- What tostring(socket_error) says next, once.
local detail

---Raised by everything here when the connection fails; compare with ==.
sockethelper.socket_error = setmetatable({}, {
	__name = "http.socket_error",
	__tostring = function()
		local text = "[Socket Error]"
		if detail then
			text = text .. " : " .. detail
			detail = nil
		end
		return text
	end,
})

---Raise `socket_error` with a text, formatted as string.format does.
---@param format string
---@param ... any
function sockethelper.raise(format, ...)
	detail = string.format(format, ...)
	error(sockethelper.socket_error, 0)
end

local fail = sockethelper.raise

-- Read from the socket or raise. Yields.
local function read(id, n, timeout)
	local data, why = socket.read(id, n, timeout)
	if data then
		return data
	end
	fail("read failed fd = %d%s", id, why == "timeout" and " timeout" or "")
end

---A function that reads: read() gives what there is, read(n) exactly n bytes. It
---yields, and raises `socket_error` when the peer is gone or the time is over.
---@param id integer
---@param already_read string? bytes of the peer that come first
---@param timeout integer? 1/100 s for each read
---@return fun(n: integer?): string
function sockethelper.readfunc(id, already_read, timeout)
	local first = already_read ~= "" and already_read or nil
	return function(n)
		if not first then
			return read(id, n, timeout)
		end
		local data = first
		if n == nil or n == #data then
			first = nil
			return data
		elseif n < #data then
			first = data:sub(n + 1)
			return data:sub(1, n)
		end
		first = nil
		return data .. read(id, n - #data, timeout)
	end
end

---A function that writes, without yielding; it raises `socket_error` when the
---socket takes nothing more.
---@param id integer
---@return fun(data: string|table)
function sockethelper.writefunc(id)
	return function(data)
		if not socket.write(id, data) then
			fail("write failed fd = %d", id)
		end
	end
end

---Everything until the peer closes. Yields.
---@param id integer
---@param timeout integer? 1/100 s; raises `socket_error` when it passes
---@return string
function sockethelper.readall(id, timeout)
	local data, why = socket.readall(id, timeout)
	if data == nil then
		fail("read failed fd = %d %s", id, why)
	end
	return data or ""
end

---Connect, or raise `socket_error`. Yields.
---@param host string
---@param port integer
---@param timeout integer? 1/100 s
---@return integer id
function sockethelper.connect(host, port, timeout)
	local id, err = socket.open(host, port, timeout)
	if id then
		return id
	end
	fail("connect failed host = %s port = %s timeout = %s err = %s is_time_out = %s", host, port,
		timeout, err, err == "timeout")
end

---Close; what was written still goes out. Yields.
sockethelper.close = socket.close
---Close at once. Does not yield.
sockethelper.shutdown = socket.shutdown

return sockethelper
