-- skynet.socket: blocking-style sockets; "blocking" suspends the calling task only.
-- Requiring the module takes protocol `socket` of the service, so it cannot live
-- together with a gate in one service.
--
-- Each id that the service uses has a record, see skynet.socket.records. One task at a time may
-- wait on an id. The kernel closes what is left when the service ends. A function that may
-- suspend the running task says "yields". A `timeout`, where there is one, is in 1/100 s; when
-- it passes, the function returns nil, "timeout" and what has arrived stays buffered.

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local inbox = require "skynet.socketinbox"
local NO_MEMORY = require "skynet.nomemory"
-- The sockets, who waits for them, and what events do to them.
local pool, onclose, wakeup, is_busy, wake_closers, resume_reading, suspend_for, suspend,
	pause, overflow, forget = require "skynet.socket.records"()
-- What every read needs.
local wait, readall, take_next = inbox.wait, inbox.readall, inbox.next

---@class skynet.socket : skynet.socket.udp
---@field resolve fun(host: string): string[] see skynet.socket.name
local socket = {}

local function check_id(where, id)
	if not math.tointeger(id) then
		require "skynet.misuse"(where, 1, "id of a socket", id, 1)
	end
end

local function check_function(where, func)
	-- A table may be one that can be called.
	if type(func) ~= "function" and type(func) ~= "table" then
		require "skynet.misuse"(where, 2, "function", func, 1)
	end
end

----------------------------------------------------------------- opening

-- Records of connections that were dropped, with their inboxes: what the collector has to
-- finalize is dear.
local spare = {}
local SPARE = 256

-- Keeps the record of a dropped connection, unless much has happened to it.
local function keep_record(s)
	local n = #spare
	if n < SPARE and not (s.paused or s.limit or s.overflow or s.sink or s.failure) then
		s.warning = nil
		s.is_closing = false
		spare[n + 1] = s
	end
end

-- The record of a connection that is open.
---@return skynet.socket.record
local function new_stream(id)
	local n = #spare
	local s = spare[n]
	if s then
		spare[n] = nil
		s.id = id
		inbox.reopen(s.inbox, id)
		return s
	end
	-- With all the fields that are used soon, so that the table need not grow.
	return {
		id = id,
		kind = "stream",
		inbox = inbox.open(id),
		connected = true,
		need = nil,
		warning = nil,
		is_closing = false,
	}
end

-- Take in a connection that is open already.
local function adopt(id, warning)
	local s = new_stream(id)
	s.warning = warning
	pool[id] = s
end

-- Nobody else knows the id, and here is no memory for it. Raises.
local function give_up(id, err)
	driver.close(id)
	pool[id] = nil
	error(err, 0)
end

local function await_connected(id, kind, callback, timeout)
	local s = {
		id = id,
		kind = kind,
		inbox = inbox.open(kind == "stream" and id or nil),
		connected = false,
		connecting = true,
		callback = callback,
		-- So that it need not grow while it is closed.
		need = nil,
		paused = nil,
		closers = nil,
		failure = nil,
		is_closing = false,
	}
	pool[id] = s
	if suspend(s, nil, timeout) then
		s.connecting = "timeout"
		driver.shutdown(id)
	end
	if s.connected then
		return id
	end
	if pool[id] == s then
		pool[id] = nil
	end
	if s.inbox then
		inbox.close(s.inbox)
	end
	return nil, s.connecting or "socket closed"
end

-- Waits until the id, whose request is under way, is connected. Yields.
local function connect(id, ...)
	local ok, result, why = pcall(await_connected, id, ...)
	if not ok then
		give_up(id, result)
	end
	return result, why
end

-- skynet.socket.name, once it is loaded.
local names

local function load_names()
	if not names then
		names = require "skynet.socket.name"(pool, connect)
		socket.resolve = names.resolve
	end
	return names
end

---Connect to a TCP server. Yields.
---@param addr string host, or "host:port" or "[v6]:port" without `port`
---@param port integer?
---@param timeout integer? 1/100 s
---@param options skynet.socket.options? see socket.option
---@return integer? # id, or nil
---@return string? # why not
function socket.open(addr, port, timeout, options)
	if type(addr) ~= "string" then
		require "skynet.misuse"("socket.open", 1, "host, or host:port", addr)
	elseif port ~= nil and not math.tointeger(port) then
		require "skynet.misuse"("socket.open", 2, "port", port)
	elseif timeout ~= nil and not math.tointeger(timeout) then
		require "skynet.misuse"("socket.open", 3, "whole number of 1/100 s", timeout)
	end
	local id = driver.connect(addr, port, options)
	if id < 0 then
		return nil, "invalid address or no free socket id"
	end
	return connect(id, "stream", nil, timeout)
end

---Attach an OS descriptor; closing the id leaves it open. Yields.
---@param os_fd integer
---@return integer? # id, or nil
---@return string? # why not
function socket.bind(os_fd)
	if not math.tointeger(os_fd) then
		require "skynet.misuse"("socket.bind", 1, "descriptor", os_fd)
	end
	local id = driver.bind(os_fd)
	if id < 0 then
		return nil, "no free socket id"
	end
	return connect(id, "stream")
end

---Attach standard input. Yields.
---@return integer? # id, or nil
---@return string? # why not
function socket.stdin()
	return socket.bind(0)
end

---Open a listening port, not yet accepting: see start. Raises "Listen error". Yields.
---@param host string address to bind; "host:port" without `port`
---@param port integer? 0: any free one
---@param backlog integer|skynet.socket.options|nil default 32
---@return integer? id
---@return string # bound address, or why not
---@return integer? # bound port
function socket.listen(host, port, backlog)
	host, port = load_names().numeric(host, port, "Listen error")
	local listens, id = pcall(driver.listen, host, port, backlog)
	if not listens then
		error(id, 2)
	end
	local ok, err = connect(id, "listener")
	if not ok then
		return nil, err --[[@as string]]
	end
	local s = pool[id]
	if s == nil then
		return nil, "socket closed"
	end
	return id, s.addr, s.port
end

-- Of a table with the id of a connection, while the callback that got it runs: without it
-- nobody would close the connection, should there be no memory for it.
local serving = {
	__close = function(guard, err)
		local id = guard.id
		if err ~= NO_MEMORY then
			return
		elseif pool[id] then
			socket.drop(id)
		else
			driver.close(id)
		end
	end,
}

---Begin to accept on a listener; what it accepts is read at once and belongs to this
---service. Cheaper than start for each connection. Yields.
---@param id integer
---@param func fun(id: integer, addr: string) called for each connection, which is open; may yield
---@param warning fun(id: integer, kib: integer)? of each connection, see warning
---@param failed fun(text: string)? called when the system has no more descriptors or memory for
---connections, at most once a second; must not yield
---@return integer? # id, or nil
---@return string? # why not
function socket.accept(id, func, warning, failed)
	check_id("socket.accept", id)
	check_function("socket.accept", func)
	local old = pool[id]
	if old and (old.kind ~= "listener" or old.callback) then
		error("socket is not closed", 2)
	end
	driver.accept(id)
	local done, why = connect(id, "listener", function(new_id, addr)
		local guard <close> = setmetatable({ id = new_id }, serving)
		adopt(new_id, warning)
		func(new_id, addr)
	end)
	if pool[id] then
		pool[id].failed = failed
	end
	return done, why
end

---Begin to accept on a listener (with `func`), or take over a connection that was
---accepted here or given up by another service. Yields.
---@param id integer
---@param func fun(id: integer, addr: string)? called for each connection; may yield
---@return integer? # id, or nil
---@return string? # why not
function socket.start(id, func)
	check_id("socket.start", id)
	if func then
		check_function("socket.start", func)
	end
	local old = pool[id]
	if old and (old.kind ~= "listener" or old.callback) then
		error("socket is not closed", 2)
	end
	assert(onclose[id] == nil, "socket has an onclose callback")
	local callback = func and function(new_id, addr)
		local guard <close> = setmetatable({ id = new_id }, serving)
		func(new_id, addr)
	end
	driver.start(id)
	return connect(id, func and "listener" or "stream", callback)
end

----------------------------------------------------------------- reading

local function record(id)
	return pool[id]
		or error(string.format("socket is not open in this service: %s", tostring(id)), 3)
end

-- What is left after the end: false and the rest.
local function ended(s)
	return false, readall(s.inbox) or ""
end

-- Closes the socket of a task that asks for more than the limit allows. Yields.
local function refuse_size(s, n)
	overflow(s, n)
	if s.connected then
		suspend(s)
	end
	return ended(s)
end

---Read exactly `n` bytes, or what there is without `n`. After the end: false and
---the rest. Yields.
---@param id integer
---@param n integer?
---@param timeout integer?
---@return string|false|nil
---@return string?
function socket.read(id, n, timeout)
	local s = pool[id] or record(id)
	if n == nil then
		if not timeout and not s.paused then
			local data = take_next(s.inbox, s.connected)
			if not s.connected and s.closers then
				wake_closers(s)
			end
			if data then
				return data
			end
			return false, ""
		end
		local data = readall(s.inbox)
		if data then
			return data
		end
		if s.connected and suspend_for(s, 1, timeout) then
			return nil, "timeout"
		end
		data = readall(s.inbox)
		if data then
			return data
		end
		return false, ""
	end
	if math.type(n) ~= "integer" or n < 0 then
		error("Invalid read size " .. tostring(n), 2)
	end
	if n == 0 then
		return ""
	end
	local data = inbox.pop(s.inbox, n)
	if data then
		return data
	end
	if not s.connected then
		return ended(s)
	end
	if s.limit and n > s.limit then
		return refuse_size(s, n)
	end
	if suspend_for(s, n, timeout) then
		return nil, "timeout"
	end
	data = inbox.pop(s.inbox, n)
	if data then
		return data
	end
	return ended(s)
end

---Have what arrives from now on given to `sink:feed(block, size)`, which takes the block of
---the allocator and returns how many bytes the sink holds, as it is taken in; what is
---buffered goes first, as a string. nil ends that. Wait with `await`. Does not yield.
---@param id integer
---@param sink table|userdata|nil
function socket.feed(id, sink)
	local s = record(id)
	local rest = sink and readall(s.inbox)
	if rest then
		sink:feed(rest)
	end
	-- One that does not know about inboxes is fed here.
	s.sink = not inbox.feed(s.inbox, sink) and sink or nil
	if s.sink then
		inbox.slow(s.inbox)
	end
end

---Wait until the sink was fed; false when the connection has ended, which the sink may have
---been fed before. Yields.
---@param id integer
---@return boolean
function socket.await(id)
	local s = pool[id] or record(id)
	if s.connected then
		if s.paused then
			resume_reading(s)
		end
		wait(s.inbox, 1)
		if s.closers then
			wake_closers(s)
		end
	end
	return s.connected
end

---What the codec that is the sink (of wscodec) gives next, as its `next` does; nothing at the
---end. Yields.
---@param id integer
---@return any
---@return any
---@return any
function socket.next(id)
	local s = pool[id] or record(id)
	local item, a, b = take_next(s.inbox, s.connected and not s.paused)
	while item == nil and s.connected do
		if s.paused then
			resume_reading(s)
		end
		item, a, b = take_next(s.inbox, true)
	end
	if not s.connected and s.closers then
		wake_closers(s)
	end
	return item, a, b
end

---Read everything until the peer closes. False if it has closed and nothing is
---left. Yields.
---@param id integer
---@param timeout integer?
---@return string|false|nil
---@return string?
function socket.readall(id, timeout)
	local s = record(id)
	if not s.connected then
		return readall(s.inbox) or false
	end
	if suspend(s, true, timeout) then
		return nil, "timeout"
	end
	return readall(s.inbox) or ""
end

---Read up to `sep`, which is not part of the result. After the end: false and the
---rest. Yields.
---@param id integer
---@param sep string? default "\n"
---@param timeout integer?
---@return string|false|nil
---@return string?
function socket.readline(id, sep, timeout)
	sep = sep or "\n"
	local s = record(id)
	local line = inbox.readline(s.inbox, sep)
	if line then
		return line
	end
	if not s.connected then
		return ended(s)
	end
	if suspend(s, sep, timeout) then
		return nil, "timeout"
	end
	line = inbox.readline(s.inbox, sep)
	if line then
		return line
	end
	return ended(s)
end

---Wait until something can be read, or the end. Yields.
---@param id integer
---@param timeout integer?
---@return boolean? # true if it is still connected
---@return string?
function socket.block(id, timeout)
	local s = pool[id]
	if s == nil or not s.connected then
		return false
	end
	local _, size = inbox.pop(s.inbox, 0)
	if size > 0 then
		return true
	end
	if suspend_for(s, 1, timeout) then
		return nil, "timeout"
	end
	return s.connected
end

---Stop reading until a task has to wait for data again. Yields.
---@param id integer
function socket.pause(id)
	local s = pool[id]
	if s and s.connected then
		pause(s)
	end
end

----------------------------------------------------------------- closing

---Close gracefully: what was written still goes out. Waits until a reading task
---has got the rest. Unknown ids are ignored. Yields.
---@param id integer
function socket.close(id)
	local s = pool[id]
	if s == nil or s.is_refused then
		return
	end
	driver.close(id)
	if s.connecting == true then
		s.connecting = "socket closed"
		wakeup(s)
	elseif is_busy(s) then
		-- A reader that has just got what it needs must not wait again.
		s.connected = false
		local closers = s.closers or {}
		s.closers = closers
		local co = coroutine.running()
		closers[#closers + 1] = co
		skynet.wait(co)
	elseif s.connected then
		-- Not to be resumed by the wait for the end.
		s.paused = false
		s.is_closing = true
		suspend(s)
	end
	s.connected = false
	if s.inbox then
		inbox.close(s.inbox)
	end
	if pool[id] == s then
		pool[id] = nil
	end
end

---Close as close does, but without waiting for the end: what still arrives is thrown
---away. Unknown ids are ignored. Does not yield.
---@param id integer
function socket.drop(id)
	local s = pool[id]
	if s == nil or s.is_refused then
		return
	elseif is_busy(s) or s.connecting == true or s.kind ~= "stream" then
		skynet.fork(socket.close, id)
		return
	end
	driver.close(id)
	if not s.connected then
		-- CLOSE has come already.
		inbox.close(s.inbox)
		pool[id] = nil
	elseif not onclose[id] and inbox.drop(s.inbox) then
		pool[id] = nil
		keep_record(s)
	else
		inbox.close(s.inbox)
		s.inbox = nil
		s.is_refused = true
	end
end

---Close an id that is not used in this service. Does not yield.
---@param id integer
function socket.close_fd(id)
	check_id("socket.close_fd", id)
	assert(pool[id] == nil, "Use socket.close instead")
	driver.close(id)
end

---Close at once, dropping what was not sent. A reader wakes; close is still to be
---called. Does not yield.
---@param id integer
function socket.shutdown(id)
	if pool[id] then
		driver.shutdown(id)
	end
end

---Forget the id without closing it, so that another service can start it. Does not
---yield.
---@param id integer
function socket.abandon(id)
	local s = pool[id]
	if s then
		forget(s)
	end
end

----------------------------------------------------------------- writing

---Send `data`: a string, a list of strings, a userdata, or a block and its size.
---Never blocks. Does not yield.
---@type fun(id: integer, data: string|table|userdata|lightuserdata, size: integer?): boolean
socket.write = driver.send
---As write, but after everything that was written.
---@type fun(id: integer, data: string|table|userdata|lightuserdata, size: integer?): boolean
socket.lwrite = driver.lsend
---The integer that 1 to 4 bytes, most significant first, stand for.
---@type fun(s: string): integer
socket.header = driver.header

----------------------------------------------------------------- state

---True if the id is not used in this service. Does not yield.
---@param id integer
---@return boolean
function socket.invalid(id)
	return pool[id] == nil
end

---nil for an unknown id; else whether its peer has closed. Does not yield.
---@param id integer
---@return boolean?
function socket.disconnected(id)
	local s = pool[id]
	if s then
		return not (s.connected or s.connecting == true)
	end
end

---The error that ended a connection; nil while it goes on, and when its peer closed it
---in order. Does not yield.
---@param id integer
---@return string?
function socket.failure(id)
	local s = pool[id]
	return s and s.failure
end

---Close the socket when more than `n` bytes are buffered, or asked for. Does not
---yield.
---@param id integer
---@param n integer
function socket.limit(id, n)
	local s = record(id)
	s.limit = n
	if s.inbox then
		inbox.slow(s.inbox)
	end
end

---Set who is told about unsent data: cb(id, KiB), 0 when all is sent. Does not yield.
---@param id integer
---@param cb fun(id: integer, kib: integer)?
function socket.warning(id, cb)
	record(id).warning = cb
end

---Set what runs once when the socket has closed; nil removes it. Does not yield.
---@param id integer
---@param cb fun(id: integer)?
function socket.onclose(id, cb)
	onclose[id] = cb
end

---Every socket of the node.
---@type fun(): table[]
socket.netstat = driver.info

---Who is at the other end of a connection, also after that has closed: "ip:port". Of a
---listener its own address. nil for an unknown id.
---@type fun(id: integer): string?
socket.peer = driver.peer

---Change options of a socket; of a listener, also for the connections that it accepts from then on.
---False if the id does not exist. Does not yield.
---@type fun(id: integer, options: skynet.socket.options): boolean
socket.option = driver.option

------------------------------------------------ what few services use

-- It is loaded when a service first reads one of its names.
setmetatable(socket, { __index = function(_, name)
	if name == "resolve" then
		load_names()
	elseif name == "sendto" or tostring(name):find "^udp" then
		for key, f in pairs(require "skynet.socket.udp"(pool, load_names().numeric)) do
			socket[key] = f
		end
	end
	return rawget(socket, name)
end })

return socket
