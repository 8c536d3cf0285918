-- skynet.notice: log lines about what peers do, so many that they can't fill the log. Of
-- a kind, some are written in a second; how many others there were says the next one.
--
-- Owns a counter per kind. Never yields.

local skynet = require "skynet"

-- A second, 1/100 s.
local PERIOD = 100

-- kind -> { since, lines, suppressed }
local notices = {}

---Log a line unless there were `max` of its kind just now.
---@param kind string
---@param max integer
---@param fmt string as for string.format
---@param ... any
---@return boolean # whether the line was written
return function(kind, max, fmt, ...)
	local n = notices[kind] or { since = -PERIOD, lines = 0, suppressed = 0 }
	notices[kind] = n
	local now = skynet.now()
	if now - n.since >= PERIOD then
		n.since, n.lines = now, 0
	end
	if n.lines >= max then
		n.suppressed = n.suppressed + 1
		return false
	end
	n.lines = n.lines + 1
	local text = string.format(fmt, ...)
	if n.suppressed > 0 then
		text = string.format("%s (and %d more of that kind before)", text, n.suppressed)
		n.suppressed = 0
	end
	skynet.error(text)
	return true
end
