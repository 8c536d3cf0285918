-- snax.wsgatesettings: what the table given to a wsgate's `open` means. The limits are
-- those of the TCP gate, by the same names (snax.gatesettings); what only browsers need
-- comes on top. Keeps no state.

local gatesettings = require "snax.gatesettings"
local handshake = require "http.wshandshake"
local wscodec = require "wscodec"

local wsgatesettings = {}

-- What a codec can count.
local MOST_PACKAGE = 0x7fffffff
-- What the limits of rates can count (netpack_guard.h).
local MOST_RATE = 1 << 40

---@class wsgate.conf
---@field address string? default 0.0.0.0
---@field port integer
---@field watchdog integer? of the service wsgate
---@field maxclient integer? default 1024, those within the upgrade included
---@field maxpackage integer? bytes of a message; default 65535
---@field handshake_timeout integer? 1/100 s for TLS and the upgrade; default 1000
---@field first_timeout integer? 1/100 s from openclient to the first message
---@field idle_timeout integer? 1/100 s without a byte received
---@field package_rate integer? messages, pings included, a second; with package_burst
---@field byte_rate integer? their bytes; with byte_burst
---@field address_package_rate integer? the same of one address; with address_package_burst
---@field address_byte_rate integer? with address_byte_burst
---@field agent_limit integer? bytes that may wait for the service that messages are handed on to
---@field rate_policy "delay"|"close"|nil what happens beyond; default delay
---@field max_per_peer integer? and the other options of a listener of skynet.socket
---@field ping_interval integer? 1/100 s between pings to all; default none
---@field kind "text"|"binary"|nil the only kind that is accepted
---@field path string? the only path that is served; default any
---@field origins string[]? see http.wshandshake
---@field protocols string[]? subprotocols
---@field deflate boolean|websocket.deflate? accept compressed messages
---@field unmasked boolean? accept clients that do not mask
---@field any_text boolean? no check that text is UTF-8
---@field tls skynet.tls.options? encrypt (wss); with cert and key

-- Names that the TCP gate does not have.
local OWN = {}
for _, name in ipairs { "ping_interval", "kind", "path", "origins", "protocols", "deflate", "unmasked",
	"any_text" } do
	OWN[name] = true
end

local function wrong(name, what, v)
	error(string.format("gate option '%s' must be %s, got %s", name, what, tostring(v)), 0)
end

-- The limits as they are counted: without a limit above what can be counted, and with a burst
-- of one at least.
local function countable(limits)
	for name, v in pairs(limits) do
		limits[name] = math.min(math.max(v, name:find "_burst$" and 1 or 0), MOST_RATE)
	end
	return limits
end

local function check_list(conf, name)
	local list = conf[name]
	if list == nil then
		return
	end
	if type(list) ~= "table" then
		wrong(name, "a list of texts", list)
	end
	for _, v in ipairs(list) do
		if type(v) ~= "string" then
			wrong(name, "a list of texts", v)
		end
	end
end

---What the gate has to know. Raises when an option is wrong.
---@param conf wsgate.conf
---@return table
function wsgatesettings.new(conf)
	local s = gatesettings.new(conf, OWN)
	local interval = conf.ping_interval
	if interval ~= nil and (math.type(interval) ~= "integer" or interval < 1) then
		wrong("ping_interval", "a whole number, 1 or more", interval)
	end
	if conf.kind ~= nil and conf.kind ~= "text" and conf.kind ~= "binary" then
		wrong("kind", "'text' or 'binary'", conf.kind)
	end
	if conf.path ~= nil and type(conf.path) ~= "string" then
		wrong("path", "a text", conf.path)
	end
	-- What compression needs is checked where it is used: use it once.
	wscodec.new { deflate = handshake.deflate(conf.deflate) }
	if s.maxpackage == 0 or s.maxpackage > MOST_PACKAGE then
		s.maxpackage = MOST_PACKAGE
	end
	check_list(conf, "origins")
	check_list(conf, "protocols")
	for name in pairs(OWN) do
		s[name] = conf[name]
	end
	local limits, near = gatesettings.of_guard(conf, s)
	s.limits, s.near_limits = countable(limits), countable(near)
	return s
end

---The options of the listener.
---@param conf wsgate.conf
---@param s table of wsgatesettings.new
---@return table
function wsgatesettings.of_listener(conf, s)
	local options = gatesettings.of_listener(conf, s)
	options.idle = s.idle_timeout
	return options
end

return wsgatesettings
