-- snax.gatesettings: what the table given to a gate's `open` means: the defaults, which
-- are generous and on, the checks, and who enforces what. Numbers of 0 switch a limit
-- off. Owns nothing.

local skynet = require "skynet"
local options = require "skynet.options"
local gatelag = require "snax.gatelag"

local gatesettings = {}

local MiB = 1024 * 1024
-- Never looks at time limits more often than this, 1/100 s.
local LOOK_MIN = 50
-- Of maxclient, as many connections that their peers ended may stay as a default.
local LINGER_SHARE = 1 / 4
-- Connections of a listener that may be waiting to go, beside those in use.
local LISTENER_ROOM = 65536

-- Whole numbers and their defaults.
local DEFAULTS = {
	maxclient = 1024,
	backlog = 32,
	maxpackage = 65535,
	linger = 1000,
	max_linger = 16, -- and a share of maxclient
	first_timeout = 12000,
	idle_timeout = 720000,
	handshake_timeout = 1000,
	max_pending = 1024,
	agent_limit = gatelag.DEFAULT_LIMIT,
	package_rate = 50000,
	package_burst = 100000,
	byte_rate = 64 * MiB,
	byte_burst = 128 * MiB,
	address_package_rate = 200000,
	address_package_burst = 400000,
	address_byte_rate = 256 * MiB,
	address_byte_burst = 512 * MiB,
}

-- Limits that do not hold for peers on this machine unless they were given.
local RATES = {
	"package_rate", "package_burst", "byte_rate", "byte_burst",
	"address_package_rate", "address_package_burst", "address_byte_rate", "address_byte_burst",
}

-- Options that the socket core enforces, see skynet.socket.
local OF_SOCKET = {
	"send_limit", "send_policy", "receive_limit", "keepalive", "keepalive_interval",
	"keepalive_count", "max_connections", "max_per_peer", "peer_rate", "peer_burst", "reuseport",
	"v6only", "exclusive",
}

-- All names that a gate knows.
local KNOWN = { address = true, port = true, watchdog = true, nodelay = true, tls = true, ordered = true,
	rate_policy = true }
for name in pairs(DEFAULTS) do
	KNOWN[name] = true
end
for _, name in ipairs(OF_SOCKET) do
	KNOWN[name] = true
end

-- A whole number. Texts of numbers were always taken.
local function number(conf, name)
	local v = conf[name]
	if v == nil then
		return DEFAULTS[name]
	end
	local n = math.tointeger(tonumber(v))
	if not n or n < 0 then
		error(string.format("gate option '%s' must be a whole number, 0 or more, got %s", name,
			tostring(v)), 0)
	end
	return n
end

local function numbers(conf)
	local s = {}
	for name in pairs(DEFAULTS) do
		s[name] = number(conf, name)
	end
	-- A rate without a burst of its own allows one second's worth at once.
	for _, rate in ipairs(RATES) do
		local burst = rate:gsub("_rate$", "_burst")
		if burst ~= rate and conf[rate] ~= nil and conf[burst] == nil then
			s[burst] = s[rate]
		end
	end
	if conf.first_timeout == nil and conf.idle_timeout ~= nil then
		s.first_timeout = s.idle_timeout
	end
	return s
end

local function flag(conf, name)
	local v = conf[name]
	if v ~= nil and type(v) ~= "boolean" then
		error(string.format("gate option '%s' must be true or false, got %s", name, tostring(v)), 0)
	end
	return v
end

local function policy(conf)
	local v = conf.rate_policy
	if v ~= nil and v ~= "delay" and v ~= "close" then
		error(string.format("gate option 'rate_policy' must be 'delay' or 'close', got %s",
			tostring(v)), 0)
	end
	return v or "delay"
end

-- How long to wait before looking at time limits when somebody new has come; nil = there
-- are none.
local function look_period(s)
	local first = s.first_timeout > 0 and s.first_timeout or math.huge
	local idle = s.idle_timeout > 0 and s.idle_timeout // 4 or math.huge
	local period = math.min(first, idle)
	return period < math.huge and math.max(period, LOOK_MIN) or nil
end

---Where to listen. Raises when that is no address and port.
---@param conf any
---@return string
---@return integer
function gatesettings.address(conf)
	if type(conf) ~= "table" then
		error("open needs a table with address and port, got " .. type(conf), 0)
	end
	local address = conf.address or "0.0.0.0"
	if type(address) ~= "string" then
		error("gate option 'address' must be a text such as \"0.0.0.0\", got " .. tostring(address), 0)
	elseif conf.port == nil then
		error("the gate needs a port", 0)
	end
	local port = math.tointeger(tonumber(conf.port))
	if not port or port < 0 or port > 65535 then
		error("gate option 'port' must be a whole number, 0 to 65535, got " .. tostring(conf.port), 0)
	end
	return address, port
end

---What the gate has to know. Raises when an option is wrong; a name that is nearly that of
---one is logged.
---@param conf table
---@param more table<string, any>? names of other options, as keys
---@return table
function gatesettings.new(conf, more)
	options.warn("gate option", conf, KNOWN, more)
	local s = numbers(conf)
	s.ordered = flag(conf, "ordered")
	s.rate_policy = policy(conf)
	s.look_period = look_period(s)
	s.look_min = LOOK_MIN
	if conf.max_linger == nil then
		s.max_linger = s.max_linger + s.maxclient * LINGER_SHARE
	elseif s.max_linger == 0 then
		s.max_linger = math.maxinteger
	end
	if s.max_pending == 0 then
		s.max_pending = math.maxinteger
	end
	return s
end

---The options of the listener.
---@param conf table
---@param s table of gatesettings.new
---@return table
function gatesettings.of_listener(conf, s)
	local listener = {
		backlog = s.backlog,
		max_connections = math.max(LISTENER_ROOM, s.maxclient * 2),
		-- Who closed or took over a connection with TLS past the gate would do harm.
		exclusive = conf.tls ~= nil,
	}
	for _, name in ipairs(OF_SOCKET) do
		if conf[name] ~= nil then
			listener[name] = conf[name]
		end
	end
	if conf.nodelay ~= nil then
		-- By contract as Lua sees it.
		listener.nodelay = conf.nodelay and true or false
		if conf.nodelay ~= listener.nodelay then
			skynet.error(string.format("gate option 'nodelay' is true or false, %s is taken for true",
				tostring(conf.nodelay)))
		end
	end
	return listener
end

---The limits that netpack.guard takes: those of strangers and those of peers on this
---machine.
---@param conf table
---@param s table
---@return table
---@return table
function gatesettings.of_guard(conf, s)
	local limits = {
		maxpackage = s.maxpackage,
		first_timeout = s.first_timeout,
		idle_timeout = s.idle_timeout,
		agent_limit = s.agent_limit,
	}
	local near = {}
	for _, name in ipairs(RATES) do
		limits[name] = s[name]
		if conf[name:gsub("_burst$", "_rate")] ~= nil then
			near[name] = s[name]
		end
	end
	return limits, near
end

return gatesettings
