-- kcpgate: a gate for KCP (reliable messages over UDP) that hands messages to an agent
-- per connection, or to one watchdog, as snax.gateagents says; what service/gate.lua is
-- for TCP. Agents answer with snax.kcpgate. A message is a package; there is no length
-- before it.
--
-- Owns the server and its connections. Messages of a client that nobody accepted yet wait
-- in its KCP window, which then closes.

local skynet = require "skynet"
local kcp = require "skynet.kcp"
local driver = require "skynet.socketdriver"
local notice = require "skynet.notice"
local NO_MEMORY = require "skynet.nomemory"
local options = require "skynet.options"
local gateagents = require "snax.gateagents"
local gatelag = require "snax.gatelag"
local gatesettings = require "snax.gatesettings"

local DEFAULT_MAXCLIENT = 1024
-- Messages a second of one client, and as many at once after a pause. Above what any
-- player makes, below what fills a mailbox.
local DEFAULT_RATE = 1000
-- Lines of a kind about what clients do, in a second.
local MAX_LINES = 100

-- What had no memory is done again after so many 1/100 s.
local RETRY = 1

local server
local handler
local settings = {}
-- fd -> { conn, fd, tokens, refilled, is_open, is_resting, has_spoken }
local clients = {}
local last_fd = 0

----------------------------------------------------------------- messages

local function close(c)
	c.conn:shutdown()
end

-- Whether one more message is within the rate.
local function admit(c)
	local now = skynet.now()
	c.tokens = math.min(settings.burst, c.tokens + (now - c.refilled) * settings.rate / 100)
	c.refilled = now
	if c.tokens < 1 then
		return false
	end
	c.tokens = c.tokens - 1
	return true
end

local function deliver(c, msg, sz)
	c.has_spoken = true
	if not admit(c) then
		driver.drop(msg, sz)
		notice("rate", MAX_LINES,
			"kcpgate: %s sends more than %s messages a second, closed; see rate and burst of open", c.conn.peer,
			settings.rate)
		close(c)
	else
		handler.message(c.fd, msg, sz)
	end
end

----------------------------------------------------------------- connections

-- Calls a function of the handler, again and again while there is no memory for it. Yields.
local function tell(f, ...)
	local ok, err = pcall(f, ...)
	while err == NO_MEMORY do
		skynet.sleep(RETRY)
		ok, err = pcall(f, ...)
	end
	if not ok then
		skynet.error(err)
	end
end

-- Announce a client.
local function enter(conn, fd)
	local c = { conn = conn, fd = fd, tokens = settings.burst, refilled = skynet.now(), is_open = false,
		is_resting = nil, has_spoken = false }
	clients[fd] = c
	conn:on_close(function(reason)
		clients[fd] = nil
		if reason == "timeout" or reason == "protocol error" or reason == "peer does not answer" then
			tell(notice, reason, MAX_LINES, "kcpgate: %s: %s", conn.peer, reason)
			tell(handler.error, fd, reason)
		end
		tell(handler.disconnect, fd)
	end)
	handler.connect(fd, conn.peer)
end

local function on_connection(conn)
	last_fd = last_fd + 1
	local fd = last_fd
	local ok, err = pcall(enter, conn, fd)
	if not ok then
		conn:shutdown()
		error(err, 0)
	end
end

local function take_messages(c)
	c.is_resting = nil
	c.conn:on_messages(function(msg, sz)
		deliver(c, msg, sz)
	end)
end

-- See gateserver.rest: messages wait in the window of the client, which closes.
local function rest(fd, service)
	local c = clients[fd]
	if c and not c.is_resting then
		c.is_resting = true
		notice("behind", 1, "kcpgate: stop reading %s while more than %d bytes wait for %s (agent_limit)",
			c.conn.peer, settings.agent_limit, skynet.address(service))
		c.conn:on_messages(nil)
		gatelag.wait(fd, service, function() take_messages(c) end)
	end
end

local function open_client(fd)
	local c = clients[fd]
	if not c.is_open then
		take_messages(c)
		c.is_open = true
		if settings.first_timeout then
			skynet.timeout(settings.first_timeout, function()
				if clients[c.fd] == c and not c.has_spoken then
					notice("silent", MAX_LINES, "kcpgate: close silent connection of %s", c.conn.peer)
					close(c)
				end
			end)
		end
	end
end

-- Closed once the client has everything, or after `linger`.
local function close_client(fd)
	local c = clients[fd]
	if c then
		skynet.fork(c.conn.close, c.conn)
	end
end

handler = gateagents("kcpgate", { openclient = open_client, closeclient = close_client, rest = rest })

----------------------------------------------------------------- commands

-- What of the configuration is for KCP; the rest of `kcp` is checked there.
local function kcp_options(conf)
	local kcp_conf = {}
	for name, value in pairs(conf.kcp or {}) do
		kcp_conf[name] = value
	end
	kcp_conf.raw = true
	kcp_conf.max_connections = conf.maxclient or DEFAULT_MAXCLIENT
	kcp_conf.max_per_address = conf.max_per_address
	kcp_conf.idle_timeout = conf.idle_timeout or kcp_conf.idle_timeout
	return kcp_conf
end

-- Least values.
local LEAST = { maxclient = 1, max_per_address = 1, rate = 0.01, burst = 1, first_timeout = 1,
	idle_timeout = 1, agent_limit = 0 }

-- All names that this gate knows.
local KNOWN = { address = true, port = true, watchdog = true, kcp = true }
for name in pairs(LEAST) do
	KNOWN[name] = true
end

-- Raises what is wrong with numbers, or was meant for another gate.
local function check(conf)
	options.warn("gate option", conf, KNOWN)
	for name, least in pairs(LEAST) do
		local v = conf[name]
		if v ~= nil and (type(v) ~= "number" or v < least) then
			error(string.format("gate option '%s' must be a number, %s or more, got %s", name, least,
				tostring(v)), 0)
		end
	end
	if conf.tls then
		error("a kcpgate encrypts nothing: it has no option 'tls'", 0)
	elseif conf.kcp ~= nil and type(conf.kcp) ~= "table" then
		error("gate option 'kcp' must be a table of options of skynet.kcp, got " .. type(conf.kcp), 0)
	end
end

local command = {}

---@class kcpgate.conf
---@field address string? default 0.0.0.0
---@field port integer 0: any free one
---@field watchdog integer? default: the sender of open
---@field maxclient integer? default 1024
---@field max_per_address integer? default 1000
---@field rate number? messages a second of one client; default 1000
---@field burst integer? as many at once after a pause; default twice the rate
---@field first_timeout integer? 1/100 s from forward or accept to the first message
---@field idle_timeout integer? 1/100 s without a datagram; default 3000
---@field agent_limit integer? bytes that may wait for the service that messages are handed on to
---@field kcp table? options of skynet.kcp: nodelay, resend, mtu, plain, ...

---@param conf kcpgate.conf
function command.open(source, conf)
	if server then
		error("the gate is open already", 0)
	end
	local address, port = gatesettings.address(conf)
	check(conf)
	local rate = conf.rate or DEFAULT_RATE
	settings = { rate = rate, burst = conf.burst or math.max(1, 2 * rate),
		first_timeout = conf.first_timeout, agent_limit = conf.agent_limit or gatelag.DEFAULT_LIMIT }
	gatelag.set_limit(settings.agent_limit)
	server = kcp.listen(address, port, kcp_options(conf), on_connection)
	skynet.error(string.format("Listen on %s %d (KCP)", address, server.port))
	conf.address, conf.port = address, server.port
	return handler.open(source, conf)
end

function command.close()
	local this = server or error("the gate is not open", 0)
	server = nil
	this:close()
end

skynet.register_protocol {
	name = "client",
	id = skynet.PTYPE_CLIENT,
	unpack = function(msg, sz)
		return msg, sz
	end,
	-- From an agent: the session is the fd. The block is freed by the framework.
	dispatch = function(fd, _, msg, sz)
		skynet.ignoreret()
		local c = clients[fd]
		if not c or sz == 0 then
			return
		end
		local called, ok, err = pcall(c.conn.write, c.conn, msg, sz)
		if not called then
			-- The next ones may depend on it.
			close(c)
		elseif not ok and (err == "full" or err == "too large") then
			notice(err, MAX_LINES, "kcpgate: message of %d bytes for %s: %s, closed; see send_limit", sz,
				c.conn.peer, err)
			close(c)
		end
	end,
}

skynet.start(function()
	skynet.dispatch("lua", function(_, source, cmd, ...)
		local f = command[cmd]
		if f then
			skynet.retpack(f(source, ...))
		else
			skynet.retpack(handler.command(cmd, source, ...))
		end
	end)
end)
