-- cron: tasks at times of the calendar. A job belongs to the service that makes it and
-- ends with it. One task waits for each job; it follows the system's clock, steps
-- included, and computes each time from the expression, so that nothing drifts.

local skynet = require "skynet"
local calendar = require "skynet.cron.calendar"
local expression = require "skynet.cron.expression"
local check_names = require "skynet.options".check
local wallclock = require "skynet.wallclock"

local cron = {}

-- A step of the clock is noticed after this many seconds at the latest.
local LONGEST_SLEEP <const> = 60
-- A run counts as missed when it comes later than this.
local DEFAULT_GRACE <const> = 60
-- What Lua raises, and how long a job waits then until it tries again, 1/100 s.
local NO_MEMORY <const>, PAUSE <const> = require "skynet.nomemory", 100
local RULES <const> = { zone = "string|function", missed = "string", grace = "number|count", clock = "function" }
local MISSED <const> = { once = true, skip = true, all = true }

-- Jobs that wait, for cron.check.
local jobs = setmetatable({}, { __mode = "k" })

---@class cron.options
---@field zone? string|function "local" (default), "utc", "+HH:MM", or a function
---@field missed? "once"|"skip"|"all" what becomes of runs that could not start in time
---@field grace? number seconds a run may be late before it counts as missed, 60 by default
---@field clock? fun(): number seconds since 1970, the system's by default

---@class cron.job
---@field package expression table with next and previous
---@field package run fun(due: integer)
---@field package options cron.options
---@field package due integer? when it runs next
---@field package task thread
---@field package is_waiting boolean the task sleeps until `due`; otherwise it runs the function
local job = {}
job.__index = job

--------------------------------------------------------------------- schedule

local function call(self, due)
	local ok, err = xpcall(self.run, debug.traceback, due)
	if not ok then
		skynet.error(("cron job '%s': %s"):format(self.expression.text, err))
	end
end

-- Runs what is due now, and finds out when the next run is. May yield.
local function run_due(self)
	local options, due, now = self.options, self.due, self.options.clock()
	local policy = options.missed
	if policy == "all" then
		self.due = self.expression:next(due, options.zone)
		call(self, due)
		return
	end
	-- Of several runs that are due the last one stands for all.
	due = math.max(due, self.expression:previous(now // 1 + 1, options.zone) or due)
	self.due = self.expression:next(due, options.zone)
	if policy == "once" or now - due <= options.grace then
		call(self, due)
	end
end

-- Runs what is due. How long to wait, in 1/100 s; 0 if that has changed. May yield.
local function step(self)
	local left = self.due - self.options.clock()
	if left > 0 then
		return math.ceil(math.min(left, LONGEST_SLEEP) * 100)
	end
	run_due(self)
	return 0
end

local function loop(self)
	while self.due do
		local ok, wait = pcall(step, self)
		if not ok then
			if wait ~= NO_MEMORY then
				error(wait, 0)
			end
			wait = PAUSE
		end
		if wait > 0 then
			self.is_waiting = true
			skynet.sleep(wait)
			self.is_waiting = false
		end
	end
	jobs[self] = nil
end

local function wake(self)
	if self.is_waiting then
		self.is_waiting = false
		skynet.wakeup(self.task)
	end
end

local function check_options(options)
	local checked = {}
	check_names("cron", options, RULES, 3)
	for k, v in pairs(options or {}) do checked[k] = v end
	checked.missed = checked.missed or "once"
	if not MISSED[checked.missed] then
		error(([[cron: missed must be "once", "skip" or "all", not %s]]):format(tostring(checked.missed)), 3)
	end
	checked.zone = calendar.zone(checked.zone)
	checked.grace = checked.grace or DEFAULT_GRACE
	checked.clock = checked.clock or wallclock.now
	return checked
end

local function start(when, run, options, due)
	if type(run) ~= "function" then
		error("cron: a job needs a function", 3)
	end
	local self = setmetatable({ expression = when, run = run, options = options }, job)
	self.due = due or when:next(options.clock(), options.zone)
	jobs[self] = true
	self.task = skynet.fork(loop, self)
	return self
end

local function parse(text, level)
	local ok, e = pcall(expression.parse, text)
	return ok and e or error(e, level + 1)
end

-------------------------------------------------------------------------- API

---Read an expression, for its `next` and `previous`. Raises with field and column.
---@param text string
---@return cron.expression
function cron.parse(text)
	return parse(text, 2)
end

---The first time after `after` (now by default) that an expression is due.
---@param text string
---@param after? number seconds since 1970
---@param zone? string|function
---@return integer? # seconds since 1970
function cron.next(text, after, zone)
	return parse(text, 2):next(after or wallclock.now(), zone)
end

---The last time before `before` (now by default) that an expression was due.
---@param text string
---@param before? number seconds since 1970
---@param zone? string|function
---@return integer?
function cron.previous(text, before, zone)
	return parse(text, 2):previous(before or wallclock.now(), zone)
end

---Run a function by a cron expression, each time in the job's own task: it may
---yield, and never runs twice at once. It gets the time that it was due at.
---@param text string
---@param run fun(due: integer)
---@param options? cron.options
---@return cron.job
function cron.schedule(text, run, options)
	return start(parse(text, 2), run, check_options(options))
end

-- A time that comes once, with the interface of an expression.
local moment = {}
moment.__index = moment

function moment:next(after) return self.time > after and self.time or nil end
function moment:previous(before) return self.time < before and self.time or nil end

-- Year, month, day, hour, minute, second of a text; nothing when it is none.
local function split_moment(text)
	local parts = { text:match "^(%d%d%d%d)-(%d%d?)-(%d%d?)[ T](%d%d?):(%d%d)$" }
	if not parts[1] then
		parts = { text:match "^(%d%d%d%d)-(%d%d?)-(%d%d?)[ T](%d%d?):(%d%d):(%d%d)$" }
	end
	for i, digits in ipairs(parts) do parts[i] = math.tointeger(tonumber(digits)) end
	return table.unpack(parts)
end

local function read_moment(text, zone, level)
	local year, month, day, hour, minute, second = split_moment(text)
	if not year then
		error(("cron: '%s' is no time, wanted is YYYY-MM-DD HH:MM[:SS]"):format(text), level + 1)
	end
	second = second or 0
	if month < 1 or month > 12 or day < 1 or day > calendar.month_length(year, month)
		or hour > 23 or minute > 59 or second > 59 then
		error(("cron: '%s' is out of range"):format(text), level + 1)
	end
	local wall = calendar.days(year, month, day) * calendar.DAY + hour * 3600 + minute * 60 + second
	local first, _, change = calendar.instants(zone, wall)
	return first or change
end

---Run a function once. A time in the past is missed, and so runs at once unless
---options.missed is "skip".
---@param time number|string seconds since 1970, or "YYYY-MM-DD HH:MM[:SS]" in the zone
---@param run fun(due: integer)
---@param options? cron.options
---@return cron.job
function cron.at(time, run, options)
	local checked = check_options(options)
	if type(time) == "string" then
		time = read_moment(time, checked.zone, 2)
	elseif type(time) ~= "number" then
		error("cron: time must be a number or a string", 2)
	end
	return start(setmetatable({ time = time, text = "at " .. time }, moment), run, checked, time)
end

-- "HH:MM[:SS]" as the first fields of an expression.
local function time_fields(text, level)
	local hour, minute, rest = tostring(text):match "^(%d%d?):(%d%d)(.*)$"
	local second = rest == "" and "0" or (rest or ""):match "^:(%d%d)$"
	if not second or tonumber(hour) > 23 or tonumber(minute) > 59 or tonumber(second) > 59 then
		error(("cron: '%s' is no time of day, wanted is HH:MM[:SS]"):format(tostring(text)), level + 1)
	end
	return ("%s %s %s"):format(second, minute, hour)
end

---Run a function each day.
---@param time string "HH:MM[:SS]"
---@param run fun(due: integer)
---@param options? cron.options
---@return cron.job
function cron.daily(time, run, options)
	return start(parse(time_fields(time, 2) .. " * * *", 2), run, check_options(options))
end

---Run a function on some days of the week.
---@param days string as in an expression: "mon", "sat,sun", "mon-fri", 1
---@param time string "HH:MM[:SS]"
---@param run fun(due: integer)
---@param options? cron.options
---@return cron.job
function cron.weekly(days, time, run, options)
	local text = ("%s ? * %s"):format(time_fields(time, 2), days)
	return start(parse(text, 2), run, check_options(options))
end

---Look at the clock again, after it was set: otherwise that takes up to a minute.
function cron.check()
	for self in pairs(jobs) do
		wake(self)
	end
end

---End the job. A run that has begun goes on to its end.
function job:cancel()
	self.due = nil
	wake(self)
end

---When the job runs next: seconds since 1970, or nil when it has ended.
---@return integer?
function job:next()
	return self.due
end

return cron
