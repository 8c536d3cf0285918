-- skynet.kcp.connection: one KCP connection with the face of skynet.socket, and the
-- clock that all connections of the service share.
--
-- Owns the conversation (kcp.core) and what was received and not read. It sends through
-- a UDP socket that its maker owns. One task at a time may wait on a connection. A
-- function that may suspend the running task says "yields"; timeouts are in 1/100 s.
--
-- While nothing is under way only a look at each connection once a second runs, and
-- without connections nothing at all.

local skynet = require "skynet"
local core = require "kcp.core"
local notice = require "skynet.notice"

---@class skynet.kcp.connection
---@field peer string "ip:port"
---@field package conv userdata
---@field package options table
---@field package chunks string[] received, not read
---@field package buffered integer bytes in chunks
---@field package reason string? why it ended
---@field package ended boolean? nothing more will come
local connection = {}
connection.__index = connection

-- Lines of a kind about what peers do, in a second.
local MAX_LINES = 100
-- One look at the conversations that have something to do.
local TICK = 1
-- Looks for silent connections.
local SWEEP = 100
-- Received and unread bytes beyond which no more are taken in: the peer's window closes.
local BUFFER_LIMIT = 256 * 1024

-- Connections with something to send, acknowledge or wait for.
local active = {}
-- All of them; the value is the time of the last datagram.
local heard = {}
local is_ticking, is_sweeping = false, false

----------------------------------------------------------------- the clock

local function wake(c)
	local co = c.waiter
	if co then
		c.waiter = nil
		skynet.wakeup(co)
	end
end

-- Tells who has to know that the connection has ended. Can begin again where it failed.
local function tell_end(c)
	c.conv:close()
	wake(c)
	if c.on_end then
		c.on_end(c, c.reason)
		c.on_end = nil
	end
	if c.close_listener then
		skynet.fork(c.close_listener, c.reason)
		c.close_listener = nil
	end
	heard[c] = nil
end

-- Ends the connection: readers get what is left, writers an error.
local function finish(c, reason)
	if c.ended then
		return
	end
	c.ended = true
	c.reason = reason
	active[c] = nil
	-- What there is no memory for is done by the next sweep.
	pcall(tell_end, c)
end

-- Sends what is due. False when that was the end.
local function flush(c)
	c.conv:flush()
	if c.conv:is_dead() then
		finish(c, "peer does not answer")
		return false
	end
	return true
end

local function look_at_active()
	for c in pairs(active) do
		local wait = c.conv:wait()
		if wait == nil then
			active[c] = nil
			if c.waits_for_drain then
				wake(c)
			end
		elseif wait == 0 then
			flush(c)
		end
	end
end

local tick, sweep

local function tick_later()
	if not is_ticking and next(active) then
		skynet.timeout(TICK, tick)
		is_ticking = true
	end
end

local function sweep_later()
	if not is_sweeping and next(heard) then
		skynet.timeout(SWEEP, sweep)
		is_sweeping = true
	end
end

-- What there is no memory for comes next time, here and in sweep.
function tick()
	is_ticking = false
	pcall(look_at_active)
	tick_later()
end

local function activate(c)
	active[c] = true
	tick_later()
end

local function look_at_silent()
	local now = skynet.now()
	for c, last in pairs(heard) do
		local silent = now - last
		if c.ended then
			tell_end(c)
		elseif silent >= c.options.idle_timeout then
			finish(c, "timeout")
		elseif silent >= c.options.keepalive then
			c.conv:probe()
			activate(c)
		end
	end
end

function sweep()
	is_sweeping = false
	pcall(look_at_silent)
	sweep_later()
end

local function watch(c)
	heard[c] = skynet.now()
	sweep_later()
end

----------------------------------------------------------------- making, input

---Not for users: see skynet.kcp.
---@param id integer UDP socket
---@param address string the peer's address blob
---@param peer string the same as text
---@param conv integer
---@param options table checked, defaults filled in
---@param on_end fun(c: skynet.kcp.connection, reason: string)
---@return skynet.kcp.connection
function connection.new(id, address, peer, conv, options, on_end)
	options.conv = conv
	-- With all its fields, so that it need not grow.
	local c = setmetatable({
		conv = core.new(options, id, address),
		options = options,
		peer = peer,
		on_end = nil,
		close_listener = nil,
		on_block = nil,
		waiter = nil,
		chunks = {},
		buffered = 0,
		ended = nil,
		reason = nil,
		closing = nil,
		will_flush = nil,
		waits_for_drain = nil,
	}, connection)
	watch(c)
	-- Nobody is told of one that was not made.
	c.on_end = on_end
	return c
end

local function take_out(c)
	if c.on_block then
		local msg, sz = c.conv:take()
		while msg do
			c.on_block(msg, sz)
			if c.ended or not c.on_block then
				return
			end
			msg, sz = c.conv:take()
		end
		return
	elseif c.options.raw then
		return -- they wait, and close the window, until somebody wants them
	end
	while c.buffered < BUFFER_LIMIT do
		local text = c.conv:receive()
		if not text then
			break
		end
		c.chunks[#c.chunks + 1] = text
		c.buffered = c.buffered + #text
	end
	if c.buffered > 0 then
		wake(c)
	end
end

-- Moves complete messages out of the conversation: to `on_block`, or to the buffer as
-- far as it goes. When that fails one may be lost: it was the last one.
local function collect(c)
	local ok, err = pcall(take_out, c)
	if not ok then
		finish(c, tostring(err))
	end
end

---A datagram of this conversation came. Does not yield, but for what on_block does.
---@param datagram string
function connection:input(datagram)
	if self.ended then
		return
	end
	local ok, err = self.conv:input(datagram)
	if not ok then
		notice("kcp " .. err, MAX_LINES, "kcp: %s datagram from %s, the connection is closed", err, self.peer)
		finish(self, "protocol error")
		return
	end
	heard[self] = skynet.now()
	collect(self)
	if not self.ended and flush(self) then
		activate(self)
	end
end

---The peer said that it closed; it may do so more than once, and after our own end.
function connection:peer_closed()
	if self.ended then
		return
	end
	collect(self)
	finish(self, "closed by the peer")
end

---`f` is told why the connection ended, in a task of its own, once. If it has ended
---already, now.
---@param f fun(reason: string)
function connection:on_close(f)
	if self.ended then
		skynet.fork(f, self.reason)
	else
		self.close_listener = f
	end
end

---Messages go to `f` as blocks that it owns (skynet_free), from now on and those that
---wait. For gates, with the option `raw`: such a connection can't be read. Without `f` they
---wait again.
---@param f fun(msg: lightuserdata, sz: integer)?
function connection:on_messages(f)
	assert(self.options.raw, "the connection was not made with the option raw")
	self.on_block = f
	if not self.ended then
		collect(self)
	end
	if not self.ended then
		activate(self) -- its window is open again
	end
end

----------------------------------------------------------------- reading

-- Waits for something to happen. True if the time limit passed before. Yields.
local function suspend(c, timeout)
	assert(not c.waiter, "another task waits on this connection")
	local co = coroutine.running()
	c.waiter = co
	if timeout then
		skynet.sleep(timeout, co)
	else
		skynet.wait(co)
	end
	local timed_out = c.waiter == co
	c.waiter = nil
	return timed_out
end

-- Waits until `try` gives something, or the end. Yields.
local function read_with(c, timeout, try)
	local deadline = timeout and skynet.now() + timeout
	while true do
		local text = try()
		if text then
			return text
		elseif c.ended then
			return false, c:drain()
		end
		local left = deadline and deadline - skynet.now()
		if left and left <= 0 or suspend(c, left) and not c.ended then
			text = try()
			if text then
				return text
			end
			return nil, "timeout"
		end
	end
end

-- Takes the first n bytes that are buffered.
local function cut(c, n)
	local all = table.concat(c.chunks)
	local first = all:sub(1, n)
	c.chunks = { n < #all and all:sub(n + 1) or nil }
	c.buffered = #all - n
	if not c.ended then
		-- Its window is open again; if there is no memory for that, with the next datagram.
		collect(c)
		pcall(activate, c)
	end
	return first
end

---Everything that was received and not read.
---@return string
function connection:drain()
	return cut(self, self.buffered)
end

---The next message; with `stream`, the next piece. Yields.
---@param timeout integer? 1/100 s
---@return string|false|nil message false: the connection ended; nil: see err
---@return string? err why it ended, or "timeout"
function connection:receive(timeout)
	local text, err = read_with(self, timeout, function()
		local first = table.remove(self.chunks, 1)
		if first then
			self.buffered = self.buffered - #first
			if not self.ended then
				collect(self)
				pcall(activate, self)
			end
		end
		return first
	end)
	if text == false then
		return false, self.reason
	end
	return text, err
end

---As socket.read: n bytes, or whatever is there. Borders of messages do not count. Yields.
---@param n integer?
---@param timeout integer? 1/100 s
---@return string|false|nil data false: it ended before
---@return string? rest what was left, or "timeout"
function connection:read(n, timeout)
	if n == nil then
		return read_with(self, timeout, function()
			return self.buffered > 0 and self:drain() or nil
		end)
	end
	if math.type(n) ~= "integer" or n < 0 or n > BUFFER_LIMIT then
		error(string.format("kcp: can read 0 to %d bytes, not %s", BUFFER_LIMIT, n), 2)
	elseif n == 0 then
		return ""
	end
	return read_with(self, timeout, function()
		return self.buffered >= n and cut(self, n) or nil
	end)
end

---As socket.readline: up to the separator, which is taken and not returned. Yields.
---@param sep string? default "\n"
---@param timeout integer? 1/100 s
---@return string|false|nil line
---@return string? rest what was left, "timeout", or "line too long"
function connection:readline(sep, timeout)
	sep = sep or "\n"
	local too_long = false
	local line, err = read_with(self, timeout, function()
		local all = table.concat(self.chunks)
		self.chunks = { all ~= "" and all or nil }
		local at = all:find(sep, 1, true)
		if at then
			return cut(self, at + #sep - 1):sub(1, at - 1)
		elseif self.buffered >= BUFFER_LIMIT then
			too_long = true
			return ""
		end
	end)
	if too_long then
		return nil, "line too long"
	end
	return line, err
end

---As socket.readall: everything until the connection ends. Yields.
---@return string
function connection:readall()
	local parts = {}
	while true do
		local text, rest = self:read()
		if not text then
			parts[#parts + 1] = rest
			return table.concat(parts)
		end
		parts[#parts + 1] = text
	end
end

----------------------------------------------------------------- writing, closing

local function flush_later(c)
	skynet.fork(function()
		c.will_flush = nil
		if not c.ended then
			flush(c)
		end
	end)
end

---Send a message (with `stream`: bytes). It leaves at the end of this turn, together
---with others. Does not yield.
---@param data string|lightuserdata a block is lent
---@param sz integer? of a block
---@return boolean ok
---@return string? err why not: "full" (the peer does not keep up, nothing was taken),
---"too large", or why the connection ended
function connection:write(data, sz)
	if self.ended or self.closing then
		return false, self.reason or "closed"
	end
	activate(self)
	local ok, err = self.conv:send(data, sz)
	if not ok then
		return false, err
	end
	if not self.will_flush then
		-- Without memory the clock does it.
		self.will_flush = pcall(flush_later, self) or nil
	end
	return true
end

---Close once the peer has everything, or after `linger` of the options. Yields.
function connection:close()
	if self.ended or self.closing then
		return
	end
	self.closing = true
	local deadline = skynet.now() + self.options.linger
	self.waits_for_drain = true
	while not self.ended and self.conv:stats().send_bytes > 0 do
		activate(self)
		local left = deadline - skynet.now()
		if left <= 0 or self.waiter then
			break
		end
		suspend(self, left)
	end
	finish(self, "closed")
end

---Close at once; what was not acknowledged may be lost.
function connection:shutdown()
	finish(self, "closed")
end

---The socket that it used has ended, which was not its own doing.
function connection:lost()
	finish(self, "socket closed")
end

---@return boolean
function connection:disconnected()
	return self.ended == true
end

---Round trip, sizes and counts of the conversation: fields srtt and rto in ms,
---send_bytes, send_segments, ready_segments, transmissions, retransmissions.
---@return table? # nil: it ended
function connection:stats()
	return not self.ended and self.conv:stats() or nil
end

return connection
