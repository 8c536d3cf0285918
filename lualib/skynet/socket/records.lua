-- skynet.socket.records: the sockets of a service, one record each; who waits for them, and
-- what the events of the socket core do to them. skynet.socket is its one user.
--
-- Owns the records and protocol `socket` of the service. Events are served between two tasks'
-- turns, so a task that goes on finds a record as the last event left it. The functions do not
-- check that the id is known: who calls has the record. A function that may suspend the running
-- task says "yields".

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
-- Not looked for when it is needed: then there may be no descriptor left to look with.
local notice = require "skynet.notice"
-- Takes in what arrives and wakes who waits for it, mostly without an event here.
local inbox = require "skynet.socketinbox"
local wait = inbox.wait

-- Buffered bytes that nobody asked for; beyond, the socket is paused.
local PAUSE_SIZE = inbox.PAUSE_SIZE
-- Lines of a kind about what peers do, in a second.
local MAX_LINES = 100
-- A line may not be longer than this, unless socket.limit says otherwise.
local LINE_LIMIT = 16 * 1024 * 1024

---@class skynet.socket.record
---@field id integer
---@field kind "stream"|"listener"|"udp"|"name"
---@field inbox userdata? of skynet.socketinbox: who waits, and of a stream what is received and
---not yet read; nil once nobody wants it
---@field connected boolean
---@field connecting true|string|nil true while it is under way, then the reason of its failure
---@field need string|true|nil what a task waits for, if not bytes: a separator, the end
---@field closers thread[]? tasks that wait in close for the reader
---@field paused boolean?
---@field limit integer?
---@field overflow boolean?
---@field sink table? what takes the bytes in place of the inbox
---@field is_closing boolean? closed by this service, where a task waits for CLOSE
---@field is_refused boolean? closed already; only CLOSE is awaited, by nobody
---@field failure string? the error that ended the connection
---@field callback function?
---@field warning function?
---@field failed function? of a listener that can't accept
---@field take (fun(block: lightuserdata, size: integer): string)? of a UDP socket: makes a string of
---the block, which is freed in any case
---@field running integer? callbacks of a UDP socket under way
---@field most_running integer? how many may be
---@field addr string? where it is bound; the addresses of a name
---@field port integer?

---@type table<integer, skynet.socket.record>
local pool = {}
---@type table<integer, function>
local onclose = {}

----------------------------------------------------------------- waiting

local function wakeup(s)
	s.need = nil
	if s.inbox then
		inbox.wake(s.inbox)
	end
end

-- A task waits, or was woken and has not gone on yet.
local function is_busy(s)
	return s.inbox and inbox.busy(s.inbox)
end

-- Tasks in close wait until the reader has had its turn.
local function wake_closers(s)
	local closers = s.closers
	s.closers = nil
	for i = 1, #closers do
		skynet.wakeup(closers[i])
	end
end

-- A line about what a peer did. Whatever it does, there are so many of a kind in a second.
local function tell(kind, fmt, ...)
	notice("socket " .. kind, MAX_LINES, fmt, ...)
end

local function resume_reading(s)
	if s.connected then
		s.paused = false
		tell("resume", "Resume socket (%d)", s.id)
		driver.start(s.id)
	end
end

-- Waits for so many bytes, or an event that wakes the socket's task. True if the time limit
-- passed before. Yields.
local function suspend_for(s, bytes, timeout)
	if s.paused then
		resume_reading(s)
	end
	local cause = wait(s.inbox, bytes, timeout)
	if s.closers then
		wake_closers(s)
	end
	return timeout and cause ~= "BREAK"
end

-- The same for what only Lua can tell: a separator, true for all until the end, nil for
-- events alone. Yields.
local function suspend(s, need, timeout)
	if is_busy(s) then
		error "another task waits for this socket"
	end
	s.need = need
	local timed_out = suspend_for(s, need, timeout)
	s.need = nil
	return timed_out
end

----------------------------------------------------------------- events

local function pause(s, size)
	if s.paused then
		return
	end
	s.paused = true
	if size then
		tell("pause", "Pause socket (%d) size : %d", s.id, size)
	else
		tell("pause", "Pause socket (%d)", s.id)
	end
	driver.pause(s.id)
	-- What is in the mailbox already is taken in before anybody goes on.
	skynet.yield()
end

-- Who is at the other end, for log lines.
local function peer_text(id)
	local peer = driver.peer(id)
	return peer and " peer=" .. peer or ""
end

local function overflow(s, size)
	if not s.overflow then
		s.overflow = true
		tell("overflow", "socket buffer overflow: fd=%d size=%d%s", s.id, size, peer_text(s.id))
		driver.close(s.id)
	end
end

-- Whether so much may be buffered with a task in need of that.
local function exceeds_limit(s, need, size)
	if math.type(need) == "integer" and need > 0 then
		-- Sized reads were checked when they began.
		return false
	end
	local limit = s.limit or (type(need) == "string" and LINE_LIMIT)
	return limit and size > limit
end

-- Satisfies the waiting task, if it can be. Returns the bytes buffered beyond its
-- need, or nil if it goes on waiting.
local function satisfied(s, need, size)
	if math.type(need) == "integer" then
		return size >= need and size - need or nil
	elseif type(need) == "string" then
		return inbox.has(s.inbox, need) and size or nil
	end
end

-- An event that finds no memory comes once more: each of these can begin again.
local on = {}

-- DATA
on[1] = function(id, size, data)
	local s = pool[id]
	-- What comes behind what was lost is out of place.
	local target = s and s.kind == "stream" and not s.failure and s.inbox
	if not target then
		if not (s and (s.is_refused or s.failure)) then
			tell("drop", "socket: drop package from %d", id)
		end
		driver.drop(data, size)
		return
	end
	local sink = s.sink
	if sink then
		size = sink:feed(data, size)
	elseif data == "" then
		-- The inbox has it.
		size = inbox.held(target)
	else
		-- There was no memory for it a moment ago.
		local err
		size, err = inbox.take(target, data, size)
		if not size then
			-- What comes after it would be in the wrong place.
			return on[5](id, nil, err)
		end
	end
	-- What else there is may have been left by a task that was killed.
	local need = is_busy(s) and (inbox.need(target) or s.need) or nil
	if exceeds_limit(s, need, size) then
		overflow(s, size)
	elseif need == nil then
		if size > PAUSE_SIZE then
			pause(s, size)
		end
	else
		local beyond = satisfied(s, need, size)
		if beyond then
			-- It is woken before another message can be taken in.
			if beyond > PAUSE_SIZE then
				s.need = nil
				pause(s, size)
				if not s.paused then
					-- Meanwhile its time was over, and it came back to wait for something else.
					return
				end
			end
			wakeup(s)
		end
	end
end

local function forget(s)
	s.connected = false
	onclose[s.id] = nil
	pool[s.id] = nil
	if is_busy(s) then
		-- The reader empties the inbox; what comes from now on is not its own.
		inbox.leave(s.inbox)
		wakeup(s)
	elseif s.inbox then
		inbox.close(s.inbox)
	end
end

-- CONNECT
on[2] = function(id, port, addr)
	local s = pool[id]
	if s == nil then
		return
	end
	if s.connecting == true then
		if addr == "transferred" then
			-- From an earlier life of the id in this service.
			return
		end
		s.connected = true
		s.addr, s.port = addr, port
		wakeup(s)
		s.connecting = nil
	elseif addr == "transferred" and s.connected then
		-- Another service has taken it; no more events come here.
		forget(s)
	end
end

-- CLOSE
on[3] = function(id)
	local s = pool[id]
	if s == nil then
		driver.close(id)
	elseif s.is_refused then
		pool[id] = nil
	else
		s.connected = false
		if s.connecting == true then
			-- Its CONNECT was lost, in a service without memory: nobody else will close it.
			s.connecting = "socket closed"
			driver.close(id)
		end
		if s.is_closing and not is_busy(s) then
			-- The task that was to wait for this is dead.
			inbox.close(s.inbox)
			pool[id] = nil
		else
			wakeup(s)
		end
	end
	local cb = onclose[id]
	if cb then
		onclose[id] = nil
		cb(id)
	end
end

-- ACCEPT
on[4] = function(id, new_id, addr)
	local s = pool[id]
	if s == nil or s.callback == nil then
		-- It may be read already, see accept; CLOSE ends the record.
		pool[new_id] = { id = new_id, kind = "stream", connected = true, is_refused = true }
		driver.close(new_id)
		return
	end
	return s.callback(new_id, addr)
end

-- ERROR
on[5] = function(id, _, text)
	local s = pool[id]
	if s == nil then
		driver.shutdown(id)
		tell("unknown", "socket: error on unknown %d %s", id, text)
		return
	end
	if s.connecting == true then
		s.connecting = text
	elseif s.kind == "listener" then
		tell("accept", "socket: accept error: %s", text)
		if s.failed then
			s.failed(text)
		end
		return
	else
		tell("error", "socket: error on %d %s%s", id, text, peer_text(id))
		if s.kind == "udp" then
			return
		end
	end
	s.failure = text
	s.connected = false
	driver.shutdown(id)
	if s.inbox then
		inbox.leave(s.inbox)
	end
	wakeup(s)
end

-- UDP
on[6] = function(id, size, data, from)
	local s = pool[id]
	if s == nil or s.callback == nil then
		tell("drop udp", "socket: drop udp package from %d", id)
		driver.drop(data, size)
		return
	end
	if s.running >= s.most_running then
		driver.drop(data, size)
		notice("socket udp", 1, "socket: drop udp package of %s on %d, %d callbacks are under way; "
			.. "raise its udp_limit if that is meant", table.concat({ driver.udp_address(from) }, ":"), id, s.running)
		return
	end
	local text = s.take(data, size)
	s.running = s.running + 1
	local _ <close> = s
	s.callback(text, from)
end

-- WARNING
on[7] = function(id, kib)
	local s = pool[id]
	if s == nil then
		return
	end
	if s.warning then
		s.warning(id, kib)
	else
		tell("backlog", "WARNING: %d K bytes need to send out (fd = %d)%s", kib, id, peer_text(id))
	end
end

-- SEND: only for owners that ask to be given what others send
on[8] = function(id, size, data)
	tell("relay", "socket: drop a relayed send of %d", id)
	driver.drop(data, size)
end

skynet.register_protocol {
	name = "socket",
	id = skynet.PTYPE_SOCKET,
	unpack = driver.unpack,
	dispatch = function(_, _, event, id, ud, payload, from)
		return on[event](id, ud, payload, from)
	end,
}

---Not a table, which every service would keep.
---@return table<integer, skynet.socket.record> pool
---@return table<integer, function> onclose
return function()
	return pool, onclose, wakeup, is_busy, wake_closers, resume_reading, suspend_for, suspend,
		pause, overflow, forget
end
