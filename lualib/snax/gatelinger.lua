-- snax.gatelinger: connections that their peer has ended and that can still be written to,
-- for some time. No limit of clients counts them, so that who connects and goes again and
-- again would take all descriptors: only so many stay, the oldest has to go first, and all
-- of them go when descriptors are short.
--
-- Owns their order, not the sockets; one gate per service uses this. Nothing here yields.

local skynet = require "skynet"

local gatelinger = {}

-- By age: fds[i] is closed at the time ends[i], for first <= i <= last. Those that were closed
-- before stay in here until then.
---@type integer[]
local fds, ends = {}, {}
local first, last = 1, 0
-- How many are not closed, how many may be at present, and at best.
local count, limit, most = 0, math.maxinteger, math.maxinteger
---@type fun(fd: integer) closes one if it is still there, and tells `gone`
local close
local is_waiting = false

local function close_oldest()
	local fd = fds[first]
	fds[first], ends[first] = nil, nil
	first = first + 1
	close(fd)
end

local look

local function wait()
	if is_waiting or first > last then
		return
	end
	skynet.timeout(math.max(ends[first] - skynet.now(), 0), look)
	is_waiting = true
end

function look()
	is_waiting = false
	local now = skynet.now()
	while first <= last and ends[first] <= now do
		close_oldest()
		limit = math.min(limit + 1, most)
	end
	wait()
end

---@param n number connections that may stay
---@param closer fun(fd: integer) closes one if it is still there, and calls `gone`
function gatelinger.set(n, closer)
	limit, most, close = n, n, closer
end

---A connection was ended by its peer: close it after `time`, or when too many others have
---come to the same.
---@param fd integer
---@param time integer 1/100 s
function gatelinger.add(fd, time)
	count = count + 1
	fds[last + 1], ends[last + 1] = fd, skynet.now() + time
	last = last + 1
	while count > limit do
		close_oldest()
	end
	wait()
end

---One that was added is closed, whoever did it.
function gatelinger.gone()
	count = count - 1
end

---There are no descriptors: close all of them. From now on half as many stay; with each one
---that stays its time there may be one more.
function gatelinger.make_room()
	limit = math.max(count // 2, 1)
	while first <= last do
		close_oldest()
	end
end

return gatelinger
