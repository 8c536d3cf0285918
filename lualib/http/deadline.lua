-- http.deadline: one timer for the time limits of many connections. A limit that is
-- set for each request must cost next to nothing when it is not reached, so it is a
-- field of the object, looked at when the earliest of them may have passed. Owns the
-- set of watched objects; while none has a limit no timer runs.

local notice = require "skynet.notice"
local NO_MEMORY = require "skynet.nomemory"
local skynet = require "skynet"

---@class http.deadline
local deadline = {}

---@class http.watched
---@field deadline integer? when it expires, in terms of skynet.now
---@field expire fun(self: http.watched) called once the deadline has passed; must not yield

---@type table<http.watched, http.watched>
local watched = {}
-- Tables whose values are watched.
local groups = setmetatable({ [watched] = true }, { __mode = "k" })
-- When the next look is due; nil while none is.
local due

-- Many objects are looked at no more often than that, in 1/100 s.
local MANY, SPACING = 100, 20
-- Lines about what goes wrong then, in a second.
local MAX_LINES = 100

local look

local function schedule(at, now)
	if not due or at < due then
		skynet.timeout(math.max(0, at - now), function() look(at) end)
		due = at
	end
end

local function expire(object)
	object.deadline = nil
	local ok, err = pcall(object.expire, object)
	if err == NO_MEMORY then
		deadline.set(object, SPACING)
	elseif not ok then
		notice("http deadline", MAX_LINES, "http.deadline: %s", err)
	end
end

local function look_at_all()
	local now = skynet.now()
	local passed, earliest, count = {}, nil, 0
	for group in pairs(groups) do
		for _, object in pairs(group) do
			local t = object.deadline
			count = count + 1
			if t and t <= now then
				passed[#passed + 1] = object
			elseif t and (not earliest or t < earliest) then
				earliest = t
			end
		end
	end
	if earliest then
		schedule(count > MANY and math.max(earliest, now + SPACING) or earliest, now)
	end
	for i = 1, #passed do
		local t = passed[i].deadline
		if t and t <= now then
			expire(passed[i])
		end
	end
end

-- Without memory it is tried again; what it is to call is there already.
local function look_anyway()
	if not pcall(look_at_all) then
		skynet.timeout(SPACING, look_anyway)
	end
end

look = function(at)
	if at == due then
		due = nil
		look_anyway()
	end
end

---Watch an object. It must be forgotten when it ends.
---@param object http.watched
function deadline.watch(object)
	watched[object] = object
end

---@param object http.watched
function deadline.forget(object)
	watched[object] = nil
end

---Watch whatever is in a table, for as long as it is there.
---@param objects table<any, http.watched>
function deadline.watch_all(objects)
	groups[objects] = true
end

---Set when a watched object expires.
---@param object http.watched
---@param after integer? 1/100 s from now; nil: never
function deadline.set(object, after)
	if not after then
		object.deadline = nil
		return
	end
	local now = skynet.now()
	local at = now + after
	object.deadline = at
	if not due or at < due then
		schedule(at, now)
	end
end

return deadline
