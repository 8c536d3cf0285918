-- skynet.socketchannel: requests and answers over one stream that reconnects.
--
-- A channel owns at most one usable connection (see skynet.channellink) and at most
-- one attempt to get one, which is a task of its own: tasks that need the connection
-- wait for the attempt and share its result. While `auth` runs, only its task may use
-- the new connection.
--
-- Whatever loses a connection (the peer, a failed write, close, changehost, a time
-- limit), requests raise one value, socketchannel.error; `reason` tells why. Only an
-- answer that cannot be read raises its own text. Nothing is ever sent twice.

local skynet = require "skynet"
local socket = require "skynet.socket"
local driver = require "skynet.socketdriver"
local channellink = require "skynet.channellink"
local options = require "skynet.options"

local socket_error = channellink.error
local report = channellink.report

-- Without a time limit of the caller, a host that does not answer is given up after
-- this, 1/100 s.
local CONNECT_TIMEOUT = 3000
-- Pause after the n-th failure in a row: n - 1 seconds, up to this; then from 1 again.
local LONGEST_PAUSE = 11

---@class skynet.socketchannel.desc
---@field host string may be "host:port" without `port`
---@field port integer?
---@field backup (string|{host: string, port: integer?})[]? other hosts to try
---@field auth fun(channel: skynet.socketchannel)? runs on each new connection
---@field response (fun(sock: table): any, boolean, any, boolean?)? session mode
---@field nodelay boolean?
---@field overload fun(is_overloaded: boolean)? told about unsent data
---@field timeout integer? 1/100 s a request waits for its answer
---@field connect_timeout integer? 1/100 s for one host, default 3000
---@field socket_read (fun(sock: table, n: integer?): string)? instead of sock:read
---@field socket_readline (fun(sock: table, sep: string?): string)? instead of sock:readline

---@class skynet.socketchannel.attempt
---@field is_endless boolean
---@field waiters table<integer, table> tokens of the tasks that wait, numbered in turn
---@field first integer the least number that may be in use
---@field last integer the number given out last
---@field co thread|false|nil the task that makes it
---@field link skynet.channellink? the connection that `auth` works on, then the result
---@field err string?
---@field is_done boolean
---@field is_cancelled boolean

---@class skynet.socketchannel
local channel = {}
channel.__index = channel

----------------------------------------------------------------- addresses

-- Host and port of "host", "host:port" or "[v6]:port"; a bare IPv6 address has no port.
local function split_address(text)
	local host, port = text:match "^%[(.*)%]:(%d+)$"
	if not host then
		host, port = text:match "^([^:]*):(%d+)$"
	end
	if host then
		return host, math.tointeger(port)
	end
	return text
end

---@return {host: string, port: integer}
local function address(host, port)
	if type(host) ~= "string" then
		error("a channel needs a host, got " .. tostring(host), 3)
	end
	if port == nil then
		host, port = split_address(host)
	end
	if math.type(port) ~= "integer" or port < 1 or port > 65535 then
		error(string.format("a channel needs a port, got %s for %s", tostring(port), host), 3)
	end
	return { host = host, port = port }
end

-- A list of hosts with their ports; what has none gets that of the channel.
local function addresses(list, port)
	local result = {}
	for i, item in ipairs(list or {}) do
		local host, own_port = item, nil
		if type(item) == "table" then
			host, own_port = item.host, item.port
		elseif type(item) == "string" then
			host, own_port = split_address(item)
		end
		result[i] = address(host, own_port or port)
	end
	return result
end

-- What an attempt tries: where it was connected last, the backups, the first host.
local function candidates(self)
	local list, seen = {}, {}
	local function add(target)
		local key = target.host .. " " .. target.port
		if not seen[key] then
			seen[key] = true
			list[#list + 1] = target
		end
	end
	add(self.target)
	for _, target in ipairs(self.backup) do
		add(target)
	end
	add(self.configured)
	return list
end

---------------------------------------------------------------- connecting

-- Tells desc.overload about unsent data. `flow` outlives connections, so that an
-- overload that a lost connection left behind is taken back on the next one.
local function watch_backlog(flow, id)
	local overload = flow.overload
	if overload == nil then
		return
	end
	socket.warning(id, function(_, kib)
		if kib == 0 then
			if flow.is_overloaded then
				flow.is_overloaded = false
				overload(false)
			end
		elseif flow.is_overloaded then
			report("backlog", "WARNING: %d K bytes need to send out (fd = %d) peer=%s", kib, id,
				driver.peer(id))
		else
			flow.is_overloaded = true
			overload(true)
		end
	end)
	if flow.is_overloaded then
		flow.is_overloaded = false
		overload(false)
	end
end

local function link_of(self, id, target)
	if self.desc.nodelay then
		driver.nodelay(id)
	end
	watch_backlog(self.flow, id)
	return channellink.new(id, self.desc, target.host, target.port)
end

local function open(self, target)
	local desc = self.desc
	local ok, id, err = pcall(socket.open, target.host, target.port,
		desc.connect_timeout or CONNECT_TIMEOUT)
	if not ok then
		return nil, id
	elseif not id then
		return nil, err
	end
	local link
	ok, link = pcall(link_of, self, id, target)
	if not ok then
		socket.close(id)
		return nil, link
	end
	return link
end

-- Whether the link is ready to be used; a false one has been ended.
local function authenticate(self, attempt, link)
	local auth = self.desc.auth
	if auth == nil then
		return true
	end
	attempt.link = link
	local ok, err = pcall(auth, self)
	attempt.link = nil
	if not ok then
		link:fail(socket_error)
		if err ~= socket_error then
			report("auth", "socket: auth failed %s (%s %d)", err, link.host, link.port)
		end
	end
	return link.err == nil
end

-- A link to one of the hosts, or nil and why there is none.
local function try_hosts(self, attempt)
	local generation = self.generation
	local err
	for i, target in ipairs(candidates(self)) do
		if i > 1 then
			report("backup", "socket: connect to backup host %s %d", target.host, target.port)
		end
		local link, why = open(self, target)
		if link then
			local usable = not attempt.is_cancelled and generation == self.generation
				and authenticate(self, attempt, link)
			if attempt.is_cancelled or generation ~= self.generation then
				link:fail(socket_error)
				return nil, "changed"
			elseif usable then
				self.target = target
				return link
			end
			why = "no more backup host"
		elseif attempt.is_cancelled or generation ~= self.generation then
			return nil, "changed"
		end
		err = why
	end
	return nil, err
end

-- One pass over the hosts; starts again if they are changed meanwhile.
local function one_pass(self, attempt)
	local link, err
	repeat
		local generation = self.generation
		link, err = try_hosts(self, attempt)
	until attempt.is_cancelled or generation == self.generation
	return link, err
end

local function endless_passes(self, attempt)
	local pause = 0
	while true do
		local link, err = one_pass(self, attempt)
		if attempt.is_cancelled then
			return nil, err
		elseif link then
			report("connect", "socket: connect to %s %d", link.host, link.port)
			return link
		end
		report("attempt", "socket: connect %s", err)
		if pause == LONGEST_PAUSE then
			report("reconnect", "socket: try to reconnect %s %d", self.target.host, self.target.port)
		end
		-- close and changehost cut the pause short.
		skynet.sleep(pause * 100, attempt)
		pause = pause % LONGEST_PAUSE + 1
	end
end

-- In turn: what they have to say goes out in that order.
local function wake_waiters(attempt)
	for i = attempt.first, attempt.last do
		local waiter = attempt.waiters[i]
		if waiter then
			skynet.wakeup(waiter)
		end
	end
end

-- One waits no longer.
local function leave(attempt, number)
	local waiters = attempt.waiters
	waiters[number] = nil
	while attempt.first <= attempt.last and waiters[attempt.first] == nil do
		attempt.first = attempt.first + 1
	end
end

local function make_attempt(self, attempt)
	attempt.co = coroutine.running()
	local passes = attempt.is_endless and endless_passes or one_pass
	local ok, link, err = pcall(passes, self, attempt)
	if not ok then
		link, err = nil, link
	end
	attempt.co = nil
	attempt.is_done = true
	attempt.link = link
	attempt.err = err
	local is_ours = self.attempt == attempt
	if is_ours then
		self.attempt = nil
		self.link = link
	elseif link then
		-- There was no memory for the channel to know of it.
		link:fail(socket_error)
	end
	wake_waiters(attempt)
	if is_ours and not link then
		report("failed", "Connect failed %s %s %d", err, self.target.host, self.target.port)
	end
end

local function cancel_attempt(self)
	local attempt = self.attempt
	if attempt == nil then
		return
	end
	self.attempt = nil
	attempt.is_cancelled = true
	skynet.wakeup(attempt)
	if attempt.link then
		attempt.link:fail(socket_error)
	end
	wake_waiters(attempt)
end

-- The attempt under way, or a new one.
local function the_attempt(self, is_endless)
	local attempt = self.attempt
	if attempt == nil then
		-- With all its fields, so that it need not grow.
		attempt = { is_endless = is_endless, waiters = {}, first = 1, last = 0, co = false, link = nil,
			err = nil, is_done = false, is_cancelled = false }
		skynet.fork(make_attempt, self, attempt)
		self.attempt = attempt
	end
	return attempt
end

--------------------------------------------------------------- connections

local function time_left(deadline)
	return deadline and math.max(0, deadline - skynet.now())
end

-- The channel's connection if a request can go out on it now.
local function current_link(self)
	local link = self.link
	if link == nil or link.err ~= nil then
		self.link = nil
		return nil
	end
	if socket.disconnected(link.id) ~= false then
		-- Answers that have arrived are still read, by the old link itself.
		report("lost", "socket: disconnect detected  %s %d", link.host, link.port)
		self.link = nil
		return nil
	end
	return link
end

-- The connection that `auth` works on, for a call from within auth.
local function link_of_auth(self)
	local attempt = self.attempt
	if attempt and attempt.link and attempt.co == coroutine.running() then
		return attempt.link
	end
end

local function fail(self, why)
	self.why = why
	error(socket_error, 0)
end

-- Wait until the attempt is over, or the channel closed. False: not in time.
local function await_attempt(attempt, deadline)
	local token = {}
	local number = attempt.last + 1
	attempt.last = number
	attempt.waiters[number] = token
	while not (attempt.is_done or attempt.is_cancelled) do
		if deadline == nil then
			skynet.wait(token)
		else
			local left = time_left(deadline)
			if left == 0 then
				leave(attempt, number)
				return false
			end
			skynet.sleep(left, token)
		end
	end
	return true
end

-- The connection, made first if there is none. Raises the socket error. Yields.
local function ensure(self, is_endless, deadline)
	if self.closed then
		error("the channel is closed; call connect first", 3)
	end
	local link = link_of_auth(self)
	if link then
		return link
	end
	while true do
		local attempt = self.attempt
		if attempt == nil then
			link = current_link(self)
			if link then
				return link
			end
			attempt = the_attempt(self, is_endless)
		end
		if not await_attempt(attempt, deadline) then
			fail(self, "timeout")
		elseif self.closed then
			fail(self, "the channel was closed")
		elseif attempt.link and attempt.link.err == nil then
			return attempt.link
		elseif attempt.is_done and not is_endless then
			self.why = attempt.err and tostring(attempt.err) or "connection lost"
			error(socket_error, 0)
		end
	end
end

-- Wait for the answer and return it. Yields.
local function await_answer(self, link, request, deadline)
	while not request.done do
		if deadline == nil then
			skynet.wait(request)
		else
			local left = time_left(deadline)
			if left == 0 then
				report("timeout", "socket: request timeout %s %d", link.host, link.port)
				link:give_up(request)
				fail(self, "timeout")
			end
			skynet.sleep(left, request)
		end
	end
	if request.ok then
		return request.result
	elseif request.result == socket_error then
		self.why = self.closed and "the channel was closed" or "connection lost"
	end
	error(request.result, 0)
end

local function deadline_of(self, timeout)
	timeout = timeout or self.desc.timeout
	return timeout and skynet.now() + timeout
end

local function check_session(link, resp)
	if link:is_waiting(resp) then
		error("a request with session " .. tostring(resp) .. " is waiting already", 3)
	end
end

------------------------------------------------------------------- methods

---Make sure that there is a connection. Raises the socket error. Yields.
---@param once boolean? one pass over the hosts; otherwise goes on for ever
---@return true
function channel:connect(once)
	self.closed = false
	ensure(self, not once)
	return true
end

---Send a request and wait for its answer. A time limit that passes raises the socket
---error, and ends the connection in order mode. Yields.
---@param data string|table|userdata
---@param resp any nil: no answer. Order mode: fun(sock) -> ok, data, more. Session
---mode: the session
---@param padding table? further pieces of the request; all go out with low priority
---@param timeout integer? 1/100 s
---@return any
function channel:request(data, resp, padding, timeout)
	local deadline = deadline_of(self, timeout)
	local link = ensure(self, false, deadline)
	if resp ~= nil then
		check_session(link, resp)
	end
	if resp == nil then
		if not link:write(data, padding) then
			fail(self, "connection lost")
		end
		return
	end
	local request = link:ask(data, padding, resp)
	if not request then
		fail(self, "connection lost")
	end
	return await_answer(self, link, request, deadline)
end

---Wait for an answer that needs no request. Connects for as long as it takes. Yields.
---@param resp any as of `request`
---@param timeout integer? 1/100 s
---@return any
function channel:response(resp, timeout)
	local deadline = deadline_of(self, timeout)
	local link = ensure(self, true, deadline)
	check_session(link, resp)
	return await_answer(self, link, link:expect(resp), deadline)
end

local function drop_link(self)
	local link = self.link
	if link then
		self.link = nil
		link:fail(socket_error)
	end
end

---Close. Waiting requests raise the socket error; later ones are refused until
---`connect`. Does not yield.
function channel:close()
	self.closed = true
	cancel_attempt(self)
	drop_link(self)
end

---Another host for the next request; the present connection is dropped. Does not
---yield.
---@param host string
---@param port integer?
function channel:changehost(host, port)
	self.target = address(host, port)
	self.configured = self.target
	self.generation = self.generation + 1
	drop_link(self)
	local attempt = self.attempt
	if attempt then
		if attempt.link then
			attempt.link:fail(socket_error)
		end
		skynet.wakeup(attempt)
	end
end

---Other backup hosts. Does not yield.
---@param list (string|{host: string, port: integer?})[]?
function channel:changebackup(list)
	self.backup = addresses(list, self.target.port)
end

---Why the last request or connect raised the socket error, as a text.
---@return string?
function channel:reason()
	return self.why
end

-- Nobody waits: a task that does holds the channel.
function channel:__gc()
	local link = self.link
	if link and link.err == nil then
		link.err = socket_error
		driver.close(link.id)
	end
end

local OPTIONS = { host = true, port = true, backup = true, auth = true, response = true, nodelay = true,
	overload = true, timeout = true, connect_timeout = true, socket_read = true, socket_readline = true }

local socketchannel = {
	---Raised for every lost or failed connection.
	error = socket_error,
}

---A channel, not yet connected. Does not yield.
---@param desc skynet.socketchannel.desc
---@return skynet.socketchannel
function socketchannel.channel(desc)
	if type(desc) ~= "table" then
		error("a channel needs a table with host and port, got " .. tostring(desc), 2)
	end
	options.warn("channel option", desc, OPTIONS)
	for _, name in ipairs { "timeout", "connect_timeout" } do
		local time = desc[name]
		if time ~= nil and (math.type(time) ~= "integer" or time < 1) then
			error(string.format("channel option '%s' must be a whole number above 0, got %s", name,
				tostring(time)), 2)
		end
	end
	local target = address(desc.host, desc.port)
	return setmetatable({
		desc = desc,
		target = target,
		configured = target,
		backup = addresses(desc.backup, target.port),
		-- Counts changes of the host.
		generation = 0,
		flow = { overload = desc.overload, is_overloaded = false },
		closed = false,
		-- Of which there is one or none: so the table need not grow.
		attempt = nil,
		link = nil,
		why = nil,
	}, channel)
end

return socketchannel
