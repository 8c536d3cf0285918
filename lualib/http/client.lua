-- http.client: the connections of an HTTP client: names are resolved, proxies passed,
-- TLS begun, each within its time; what is idle is kept for the next request to the
-- same place. Failures raise the socket_error of http.sockethelper.
--
-- Owns the sockets of its connections until client.close. Idle connections belong to
-- the pool, which closes them after a while and when their server does.

local skynet = require "skynet"
local socket = require "skynet.socket"
local codec = require "http.codec"
local deadline = require "http.deadline"
local exchange = require "http.exchange"
local flow = require "http.flow"
local sockethelper = require "http.sockethelper"

local client = {
	---How names become addresses: f(name) -> list of addresses; nil: the system's way.
	resolve = nil,
	---Idle connections that are kept: to one place, and altogether.
	pool_per_host = 8,
	pool_size = 64,
	---How long they are kept, 1/100 s.
	pool_time = 1500,
}

-- Limits of a response's header: bytes of a line and of all, lines.
local LINE_LIMIT, HEADER_LIMIT, HEADER_LINES = 16384, 65536, 200

---@class http.place where a request goes
---@field scheme "http"|"https"
---@field host string name or address, without brackets
---@field port integer
---@field authority string as the Host field has it
---@field is_address boolean

---@class http.client.connection: http.source, http.watched, http.flowing
---@field phase string what it waits for
---@field time_left integer? 1/100 s for that phase
---@field total_at integer? when everything must be over
---@field expired string?
---@field reused boolean?
local connection = {}
connection.__index = connection

------------------------------------------------------------------ addresses

local PORT = { http = 80, https = 443 }

local function check_port(text, scheme, host)
	if text == "" or text == nil then
		return PORT[scheme]
	end
	local port = #text <= 5 and math.tointeger(tonumber(text))
	if not port or port < 1 or port > 65535 then
		error(string.format("Invalid host: port of '%s'", host), 0)
	end
	return port
end

-- Host and port of "name", "name:port", "a.b.c.d", "[v6]", "[v6]:port".
local function split_host(text)
	local host, port = text:match "^%[([%x:.]+)%]:?(%d*)$"
	if host then
		return host, port, true
	elseif select(2, text:gsub(":", "")) > 1 then
		error(("Invalid host: bare IPv6 address '%s', use '[%s]' instead"):format(text, text), 0)
	end
	host, port = text:match "^([^:]+):?(%d*)$"
	if not host or host:find "[%c%s/@%[%]]" then
		error(string.format("Invalid host: '%s'", text), 0)
	end
	return host, port, host:find "^%d+%.%d+%.%d+%.%d+$" ~= nil
end

---Where a host, as httpc takes it, is. Raises when it is malformed.
---@param text string "name", "name:port", "[v6]:port" and so on, after an optional scheme
---@return http.place
function client.place(text)
	if type(text) ~= "string" then
		error('http: the host is a string such as "name:port", not a ' .. type(text), 0)
	end
	local scheme, rest = text:match "^(%a[%w+.-]*)://(.*)$"
	scheme, rest = scheme and scheme:lower() or "http", rest or text
	if not PORT[scheme] then
		error("Invalid protocol: " .. scheme, 0)
	end
	local host, port, is_address = split_host(rest)
	return {
		scheme = scheme,
		host = host,
		port = check_port(port, scheme, text),
		authority = rest,
		is_address = is_address,
	}
end

--------------------------------------------------------------------- waiting

---Begin a phase with a time of its own. Does not yield.
---@param phase string
---@param time integer? 1/100 s
function connection:enter(phase, time)
	self.phase = phase
	self.time_left = time
end

---The time for the current phase is over. Ends the wait of the connection's task.
function connection:expire()
	self.expired = self.phase
	flow.settle(self)
	-- A reader wakes when its socket ends.
	socket.shutdown(self.id)
end

-- Run something that waits for the peer in the time that is left. Yields.
local function timed(self, f, ...)
	local left = self.time_left
	if self.total_at then
		left = math.min(left or math.maxinteger, self.total_at - skynet.now())
	end
	if not left then
		return f(self, ...)
	end
	local begun = skynet.now()
	deadline.set(self, math.max(0, left))
	local data, rest, why = f(self, ...)
	self.deadline = nil
	if self.time_left then
		self.time_left = self.time_left - (skynet.now() - begun)
	end
	return data, rest, why
end

local function fail(self, why)
	self.broken = true
	if self.expired then
		sockethelper.raise("read failed fd = %d timeout in phase %s", self.id, self.expired)
	end
	sockethelper.raise("read failed fd = %d%s", self.id, why and ": " .. why or "")
end

local function receive(self)
	if self.session then
		return self.session:read()
	end
	return socket.read(self.id)
end

---Some bytes, nil at the peer's proper end. Raises. Yields.
---@return string?
function connection:read()
	local data, _, why = timed(self, receive)
	if data then
		return data
	end
	self.broken = true
	why = why or socket.failure(self.id)
	if self.expired or why then
		fail(self, why)
	end
	return nil
end

---Write, and wait for a slow peer. Raises. Yields.
---@param data string
function connection:write(data)
	local ok
	if self.session then
		ok = self.session:write(data)
	else
		ok = socket.write(self.id, data)
	end
	if ok and self.congested then
		timed(self, flow.wait)
	end
	if not ok or self.expired or self.closed then
		fail(self, "the peer takes nothing more")
	end
end

------------------------------------------------------------------ connecting

-- The result of f(...), or nil and "timeout" if it takes too long; it is then left to
-- itself. Yields.
local function within(time, f, ...)
	if not time then
		return f(...)
	end
	local result
	local co = coroutine.running()
	skynet.fork(function(...)
		local r = table.pack(pcall(f, ...))
		if co then
			result = r
			skynet.wakeup(co)
		end
	end, ...)
	if not result then
		skynet.sleep(time, co)
	end
	co = nil
	if not result then
		return nil, "timeout"
	elseif not result[1] then
		return nil, tostring(result[2])
	end
	return table.unpack(result, 2, result.n)
end

-- Raises as sockethelper.connect does.
local function connect_failed(place, time, what, why)
	sockethelper.raise("connect failed host = %s port = %d timeout = %s err = %s%s is_time_out = %s",
		place.host, place.port, time, what, why, why == "timeout")
end

-- Addresses of one name that are tried.
local MAX_ADDRESSES = 4

-- What to connect to, one after the other. Raises. Yields.
local function addresses_of(place, time)
	local resolve = client.resolve
	if not resolve or place.is_address then
		-- The socket layer tries all addresses of a name.
		return { place.host }
	end
	local list, why = within(time, resolve, place.host)
	if not list then
		connect_failed(place, time, "dns: ", why)
	end
	return list
end

local function connect_to(list, port, time)
	local count = math.min(#list, MAX_ADDRESSES)
	for i = 1, count - 1 do
		local ok, id = pcall(sockethelper.connect, list[i], port, time and time // count)
		if ok then
			return id
		end
	end
	return sockethelper.connect(list[count], port, time)
end

---@class http.timeouts 1/100 s; none where nil
---@field dns integer?
---@field connect integer?
---@field tls integer?
---@field header integer? from the request to the end of the response's header
---@field body integer? waiting for the response's body
---@field total integer? everything together, redirects too

local function new_connection(id, key, total_at)
	local self = setmetatable({
		id = id,
		key = key,
		reader = codec.reader(LINE_LIMIT, HEADER_LIMIT, HEADER_LINES),
		phase = "connect",
		total_at = total_at,
	}, connection)
	deadline.watch(self)
	flow.attach(self)
	return self
end

-- The connection of a socket that is open. Yields.
local function take_over(id, key, total_at)
	local ok, self = pcall(new_connection, id, key, total_at)
	if not ok then
		socket.close(id)
		error(self, 0)
	end
	return self
end

---Close a connection. Yields.
---@param self http.client.connection
function client.close(self)
	deadline.forget(self)
	flow.detach(self)
	self.reader:release()
	if self.session then
		-- Whatever it fails at, the socket is closed.
		pcall(self.session.close, self.session)
	end
	socket.close(self.id)
end

-- Ask a proxy for a way to the place (RFC 9110, 9.3.6). Yields.
local function tunnel(self, place, proxy, timeouts)
	local to = place.is_address and place.host:find ":" and "[" .. place.host .. "]" or place.host
	to = to .. ":" .. place.port
	local extra = "host: " .. to .. "\r\n"
	if proxy.authorization then
		extra = extra .. "proxy-authorization: " .. proxy.authorization .. "\r\n"
	end
	self:enter("proxy", timeouts.header)
	self:write(codec.message("CONNECT " .. to .. " HTTP/1.1", nil, extra))
	local head = exchange.head(self, "CONNECT")
	if head.status < 200 or head.status > 299 then
		error("proxy refused the connection: " .. head.status .. " " .. head.reason, 0)
	elseif self.reader:size() > 0 then
		error("proxy sent bytes of its own", 0)
	end
end

-- Contexts by the options they were made of.
local contexts = setmetatable({}, { __mode = "k" })
local default_options = {}

-- Names of options, or of contexts, for the pool. Not their addresses: those come back
-- when a table was collected, and its connections must not be taken for another's.
local tls_names = setmetatable({}, { __mode = "k" })
local tls_count = 0

---What tells the connections of some TLS options from those of others. Does not yield.
---@param options table|userdata
---@return integer
function client.tls_name(options)
	local name = tls_names[options]
	if not name then
		tls_count = tls_count + 1
		name = tls_count
		tls_names[options] = name
	end
	return name
end

local function start_tls(self, place, options, timeouts)
	local tls = require "skynet.tls"
	options = options or default_options
	contexts[options] = contexts[options] or tls.context(options)
	local time = timeouts.tls
	if self.total_at then
		time = math.max(0, math.min(time or math.maxinteger, self.total_at - skynet.now()))
	end
	local context = contexts[options]
	local session, why = tls.client(self.id, place.host, { context = context, timeout = time })
	if not session then
		self.broken = true
		connect_failed(place, time, "TLS: ", why)
	end
	self.session = session
end

-- What comes before the first request. Raises. Yields.
local function prepare(self, place, options)
	local proxy, timeouts = options.proxy, options.timeouts
	if place.scheme == "https" then
		if proxy then
			tunnel(self, place, proxy, timeouts)
		end
		start_tls(self, place, options.tls, timeouts)
	end
end

---Connect. Raises. Yields.
---@param place http.place
---@param options {timeouts: http.timeouts, proxy: table?, tls: table?, total_at: integer?}
---@param key string? of the pool
---@return http.client.connection
function client.connect(place, options, key)
	local timeouts = options.timeouts
	local proxy = options.proxy
	local first = proxy and proxy.place or place
	local function bounded(time)
		if options.total_at then
			return math.max(1, math.min(time or math.maxinteger, options.total_at - skynet.now()))
		end
		return time
	end
	local list = addresses_of(first, bounded(timeouts.dns))
	local id = connect_to(list, first.port, bounded(timeouts.connect))
	local self = take_over(id, key, options.total_at)
	local ok, err = pcall(prepare, self, place, options)
	if not ok then
		client.close(self)
		error(err, 0)
	end
	return self
end

------------------------------------------------------------------------ pool

-- Lists of idle connections by key; the last one was used last.
---@type table<string, http.client.connection[]>
local idle = {}
local idle_count = 0

local function remove_idle(self)
	local list = idle[self.key]
	for i = 1, list and #list or 0 do
		if list[i] == self then
			table.remove(list, i)
			idle_count = idle_count - 1
			break
		end
	end
	if list and #list == 0 then
		idle[self.key] = nil
	end
end

local function drop_idle(self)
	skynet.fork(client.close, self)
	remove_idle(self)
end

-- Nothing of it is done before what may fail for want of memory.
local function keep(self, list)
	self.total_at = nil
	self.expire = drop_idle
	socket.onclose(self.id, function() drop_idle(self) end)
	deadline.set(self, client.pool_time)
	list = list or {}
	list[#list + 1] = self
	idle_count = idle_count + 1
	idle[self.key] = list
end

---Keep a connection whose exchange is complete for the next one, or close it. Does not
---yield.
---@param self http.client.connection
function client.release(self)
	local list = self.key and idle[self.key]
	if not self.key or self.broken or self.reader:size() > 0 or idle_count >= client.pool_size
		or list and #list >= client.pool_per_host or socket.disconnected(self.id) ~= false
		or not pcall(keep, self, list) then
		drop_idle(self)
	end
end

-- Whether nothing has come from the server meanwhile. Yields.
local function is_quiet(self)
	local some
	if self.session then
		some = self.session:block(0)
	else
		some = socket.block(self.id, 0)
	end
	return some == nil
end

-- An idle connection is used again. Raises if it does not work any more. Yields.
local function take_up(self)
	self.expire = nil
	deadline.set(self, nil)
	flow.detach(self)
	assert(is_quiet(self))
	self.reused = true
	flow.attach(self)
end

---An idle connection, if there is one that still works. Yields.
---@param key string
---@return http.client.connection?
function client.reuse(key)
	while idle[key] do
		local list = idle[key]
		local self = list[#list]
		remove_idle(self)
		if pcall(take_up, self) then
			return self
		end
		-- Nobody asked for what it says.
		client.close(self)
	end
end

---Close all idle connections. Does not yield.
function client.flush()
	for _, list in pairs(idle) do
		for i = #list, 1, -1 do
			drop_idle(list[i])
		end
	end
end

return client
