-- snax.gatelag: services that lag behind what a gate hands on to them. A gate soon has done
-- with what it receives, so that nothing would stop a peer from filling the mailbox of an
-- agent that is slow, or stuck; who sends to such a service is not read until it has caught
-- up. Nothing is lost: the peer has to wait.
--
-- Owns which connections wait; one gate per service uses this. Nothing here yields.

local skynet = require "skynet"
local netpack = require "skynet.netpack"

local gatelag = {}

-- How often services that lag behind are looked at, 1/100 s.
local PERIOD = 2
-- So many packages are handed on between two looks at who gets them.
local SHARE = 16

-- Bytes that may wait for a service unless `open` says otherwise; service-src/gate has the
-- same.
gatelag.DEFAULT_LIMIT = 16 * 1024 * 1024

-- Bytes that may wait for a service, 0 = any number.
local limit = 0
local handed_on = 0

---@class snax.gatelag.connection
---@field service integer|string
---@field go_on fun()

-- By fd.
---@type table<integer, snax.gatelag.connection>
local connections = {}
local is_looking = false

---@param bytes integer that may wait for a service; 0 = any number
function gatelag.set_limit(bytes)
	limit = bytes
end

---One more package was handed on to a service: whether it lags behind. Looks now and then.
---@param service integer|string
---@return boolean
function gatelag.is_behind(service)
	if limit == 0 then
		return false
	end
	handed_on = handed_on + 1
	return handed_on % SHARE == 0 and netpack.waiting(service) > limit
end

local look

local function look_later()
	if not is_looking and next(connections) then
		skynet.timeout(PERIOD, look)
		is_looking = true
	end
end

local function release_ready()
	for fd, c in pairs(connections) do
		if limit == 0 or netpack.waiting(c.service) <= limit // 2 then
			skynet.fork(c.go_on)
			connections[fd] = nil
		end
	end
end

-- Those that there is no memory for go on another time.
function look()
	is_looking = false
	pcall(release_ready)
	look_later()
end

---A connection is not read because of a service: call `go_on` when that has caught up, or is
---gone. The connection may have ended by then.
---@param fd integer
---@param service integer|string
---@param go_on fun()
function gatelag.wait(fd, service, go_on)
	connections[fd] = { service = service, go_on = go_on }
	look_later()
end

return gatelag
