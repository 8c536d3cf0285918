-- skynet.tlsstream: a TLS session over a socket id, for skynet.tls and
-- http.tlshelper. It moves bytes between the two and keeps what was decrypted and
-- not yet read; output of the session never waits for a later write.
--
-- Owns that buffer. It owns neither the socket, which must be started in this service,
-- nor the session; who made them closes them. One task at a time may read.

local skynet = require "skynet"
local socket = require "skynet.socket"
local driver = require "skynet.socketdriver"

---@class skynet.tlsstream
---@field id integer
---@field session userdata
---@field buffer userdata
---@field ended boolean nothing more will arrive
---@field broken string? why nothing more can be sent: something before it was not
---@field reason string? why, unless the peer has ended the stream as TLS demands
local stream = {}
stream.__index = stream

-- Nodes of all buffers.
local nodes = {}

---@param id integer
---@param session userdata of ltls.c
---@return skynet.tlsstream
function stream.new(id, session)
	-- With all its fields, so that it need not grow.
	return setmetatable({ id = id, session = session, buffer = driver.buffer(), ended = false, reason = nil,
		broken = nil }, stream)
end

-- Send what the session wants to tell its peer.
local function flush(self)
	local ok, bytes = pcall(self.session.write, self.session)
	if ok and bytes ~= "" then
		socket.write(self.id, bytes)
	end
end

local function finish(self, reason)
	self.ended = true
	self.reason = self.reason or reason
end

-- Decrypt the peer's bytes.
local function take_in(self, bytes)
	local session = self.session
	local ok, block, size, ended, has_output, failure = pcall(session.pull, session, bytes)
	if not ok then
		flush(self)
		finish(self, block)
		return
	end
	if block then
		local held, err = driver.push(self.buffer, nodes, block, size)
		if not held then
			finish(self, err)
			return
		end
	end
	if has_output then
		flush(self)
	end
	if ended or failure then
		finish(self, failure)
	end
end

-- 1/100 s until then; nil for no limit, false when it has passed.
local function time_left(deadline)
	if deadline then
		local left = deadline - skynet.now()
		return left > 0 and left
	end
end

-- Some bytes of the socket, false at its end, nil when the time is over. Yields.
local function receive(self, deadline)
	local left = time_left(deadline)
	if left == false then
		return nil
	elseif socket.invalid(self.id) then
		return false
	end
	return (socket.read(self.id, nil, left))
end

---Wait for more plaintext, or the end. Yields.
---@param deadline integer? as skynet.now
---@return boolean # false if the time is over
function stream:fill(deadline)
	if self.ended then
		return true
	end
	local bytes = receive(self, deadline)
	if bytes then
		take_in(self, bytes)
	elseif bytes == false then
		finish(self, "truncated: the peer closed the connection without ending the TLS stream")
	else
		return false
	end
	return true
end

---Do the handshake. Yields.
---@param deadline integer?
---@return boolean? # true, or nil
---@return string? # why not
function stream:handshake(deadline)
	local session = self.session
	local bytes
	repeat
		local ok, out = pcall(session.handshake, session, bytes)
		if not ok then
			flush(self)
			return nil, out
		end
		if out then
			socket.write(self.id, out)
		end
		if session:finished() then
			break
		end
		bytes = receive(self, deadline)
		if bytes == false then
			return nil, "the peer closed the connection during the TLS handshake"
		elseif bytes == nil then
			return nil, "timeout"
		end
	until false
	-- Records may have come with the last of the handshake.
	take_in(self)
	return true
end

---Everything decrypted, perhaps "".
---@return string
function stream:take()
	return driver.readall(self.buffer, nodes)
end

---Exactly n bytes, or nil.
---@param n integer
---@return string?
function stream:pop(n)
	return (driver.pop(self.buffer, nodes, n))
end

---A line, or nil.
---@param sep string
---@return string?
function stream:line(sep)
	return driver.readline(self.buffer, nodes, sep)
end

---Bytes decrypted and not yet read.
---@return integer
function stream:size()
	local _, size = driver.pop(self.buffer, nodes, 0)
	return size
end

---Encrypt and send. Does not yield.
---@param data string
---@return boolean # false if the connection takes nothing more
---@return string? # why
function stream:write(data)
	if self.broken then
		return false, self.broken
	end
	local ok, bytes = pcall(self.session.write, self.session, data)
	if not ok then
		self.broken = bytes
		flush(self)
		finish(self, bytes)
		return false, bytes
	end
	return bytes == "" or socket.write(self.id, bytes)
end

---Tell the peer that nothing follows, and forget what was not read. Does not yield.
function stream:finish()
	-- What is not all must not look so.
	local ok, bytes = not self.broken, ""
	if ok then
		ok, bytes = pcall(self.session.shutdown, self.session)
	end
	if ok and bytes ~= "" then
		socket.write(self.id, bytes)
	end
	finish(self, "closed")
	driver.clear(self.buffer, nodes)
end

return stream
