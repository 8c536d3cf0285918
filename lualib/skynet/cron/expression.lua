-- expression: cron expressions, and when they are due. Pure: everything follows from
-- the arguments. See doc/reference/cron.md for the language.

local calendar = require "skynet.cron.calendar"

local DAY <const> = calendar.DAY
-- No expression waits longer: the fifth Friday of February comes within 40 years.
local HORIZON_DAYS <const> = 41 * 366

---@class cron.expression
---@field text string
---@field package seconds integer[] sorted, as minutes and hours
---@field package minutes integer[]
---@field package hours integer[]
---@field package months table<integer, boolean>
---@field package month_days cron.days
---@field package week_days cron.days
---@field package is_interval boolean the hour begins with *
local expression = {}
expression.__index = expression

---@class cron.days
---@field set table<integer, boolean>
---@field rules (fun(date: table): boolean)[]
---@field any boolean the field begins with * or is ?

local MONTHS <const> = { jan = 1, feb = 2, mar = 3, apr = 4, may = 5, jun = 6, jul = 7, aug = 8, sep = 9,
	oct = 10, nov = 11, dec = 12 }
local WEEK_DAYS <const> = { sun = 0, mon = 1, tue = 2, wed = 3, thu = 4, fri = 5, sat = 6 }

local FIELDS <const> = {
	{ name = "second", low = 0, high = 59 },
	{ name = "minute", low = 0, high = 59 },
	{ name = "hour", low = 0, high = 23 },
	{ name = "day of month", low = 1, high = 31 },
	{ name = "month", low = 1, high = 12, names = MONTHS },
	{ name = "day of week", low = 0, high = 7, names = WEEK_DAYS },
}

local MACROS <const> = {
	["@yearly"] = "0 0 1 1 *", ["@annually"] = "0 0 1 1 *", ["@monthly"] = "0 0 1 * *", ["@weekly"] = "0 0 * * 0",
	["@daily"] = "0 0 * * *", ["@midnight"] = "0 0 * * *", ["@hourly"] = "0 * * * *",
}

---------------------------------------------------------------------- parsing

-- A field while it is read: its kind, its text, its place in the expression.
---@class cron.source
---@field kind table of FIELDS
---@field number integer from 1
---@field column integer

local function fail(source, format, ...)
	error(("cron: %s (field %d, column %d): %s"):format(source.kind.name, source.number, source.column,
		format:format(...)), 0)
end

local function read_value(source, text)
	local kind = source.kind
	local value = kind.names and kind.names[text:lower()] or text:match "^%d+$" and math.tointeger(tonumber(text))
	if not value then
		fail(source, "'%s' is no value", text)
	elseif value < kind.low or value > kind.high then
		fail(source, "%s is out of range, %d to %d", text, kind.low, kind.high)
	end
	return value
end

-- The values from `low` to `high`: of "*", "a", "a-b", each with "/step" perhaps.
local function read_range(source, range, has_step)
	local kind = source.kind
	if range == "*" or range == "?" then
		return kind.low, kind.names == WEEK_DAYS and 6 or kind.high
	end
	local a, b = range:match "^([^-]+)%-([^-]+)$"
	if not a then
		local value = read_value(source, range)
		return value, has_step and kind.high or value
	end
	local low, high = read_value(source, a), read_value(source, b)
	if kind.names == WEEK_DAYS and high == 0 and low > 0 then
		high = 7 -- fri-sun
	end
	if low > high then
		fail(source, "the range %s runs backwards", range)
	end
	return low, high
end

local function read_set(source, item, set)
	local range, step_text = item:match "^([^/]*)/([^/]*)$"
	local step = 1
	if range then
		step = step_text:match "^%d+$" and math.tointeger(tonumber(step_text)) or 0
		if step < 1 then
			fail(source, "'%s' is no step", step_text)
		end
	end
	local low, high = read_range(source, range or item, range ~= nil)
	for value = low, high, step do
		set[value] = true
	end
end

-- The working day nearest to a day, in the same month.
local function nearest_working_day(date, day)
	day = math.min(day, date.month_length)
	local weekday = calendar.weekday(date.days - date.day + day)
	if weekday == 6 then
		return day > 1 and day - 1 or day + 2
	elseif weekday == 0 then
		return day < date.month_length and day + 1 or day - 2
	end
	return day
end

-- L, L-n, LW, nW
local function read_month_day_rule(source, item)
	local back = item == "l" and "0" or item:match "^l%-(%d+)$"
	if back then
		back = math.tointeger(tonumber(back))
		if back > 30 then
			fail(source, "%s is out of range, L-0 to L-30", item:upper())
		end
		return function(date) return date.day == date.month_length - back end
	end
	local day = item:match "^(%w+)w$"
	if not day then
		return nil
	end
	day = day == "l" and 31 or read_value(source, day)
	return function(date)
		return (day <= date.month_length or item == "lw") and date.day == nearest_working_day(date, day)
	end
end

-- nL (the last one of the month), n#k (the k-th one)
local function read_week_day_rule(source, item)
	local name, nth = item:match "^(%w+)#(%w+)$"
	if name then
		local weekday = read_value(source, name) % 7
		local k = nth:match "^[1-5]$" and math.tointeger(tonumber(nth)) or
			fail(source, "'#%s' must be #1 to #5", nth)
		return function(date) return date.weekday == weekday and (date.day + 6) // 7 == k end
	end
	name = item:match "^(%w+)l$"
	if name then
		local weekday = read_value(source, name) % 7
		return function(date) return date.weekday == weekday and date.day + 7 > date.month_length end
	end
end

local RULES <const> = { ["day of month"] = read_month_day_rule, ["day of week"] = read_week_day_rule }

-- Reads a field into a set of values and a list of rules.
local function read_field(source, text)
	local set, rules = {}, {}
	local column = source.column
	for item, place in (text .. ","):gmatch "([^,]*),()" do
		source.column = column + place - #item - 2
		if item == "" then
			fail(source, "a value is missing")
		elseif item:find("?", 1, true) and (text ~= "?" or not RULES[source.kind.name]) then
			fail(source, "'?' stands alone, and for days only")
		end
		local read_rule = RULES[source.kind.name]
		local rule = read_rule and read_rule(source, item:lower())
		if rule then
			rules[#rules + 1] = rule
		else
			read_set(source, item, set)
		end
	end
	return set, rules
end

local function sorted(set, low, high)
	local list = {}
	for value = low, high do
		if set[value] then list[#list + 1] = value end
	end
	return list
end

local function read_days(source, text)
	local set, rules = read_field(source, text)
	if source.kind.names == WEEK_DAYS and set[7] then
		set[0] = true
	end
	return { set = set, rules = rules, any = text:find "^[*?]" ~= nil }
end

local function split(text)
	local words = {}
	for column, word in text:gmatch "()(%S+)" do
		words[#words + 1] = { text = word, column = column }
	end
	return words
end

---Read a cron expression. Raises with the field and the column of what is wrong.
---@param text string
---@return cron.expression
function expression.parse(text)
	if type(text) ~= "string" then
		error(("cron: expression must be a string, not a %s"):format(type(text)), 0)
	end
	local words = split(text)
	local macro = #words == 1 and words[1].text:sub(1, 1) == "@"
	if macro then
		words = split(MACROS[words[1].text:lower()] or error(("cron: '%s' is unknown"):format(words[1].text), 0))
	elseif #words ~= 5 and #words ~= 6 then
		error(("cron: '%s' has %d fields; wanted are 5 (minute, hour, day of month, month, day of week)"
			.. " or 6 with the second in front"):format(text, #words), 0)
	end
	local first = 7 - #words
	local function source(i)
		local word = words[i - first + 1]
		return { kind = FIELDS[i], number = i - first + 1, column = word.column }, word.text
	end
	local e = setmetatable({ text = text }, expression)
	e.seconds = first == 1 and sorted(read_field(source(1)), 0, 59) or { 0 }
	e.minutes = sorted(read_field(source(2)), 0, 59)
	e.hours = sorted(read_field(source(3)), 0, 23)
	e.month_days = read_days(source(4))
	e.months = read_field(source(5))
	e.week_days = read_days(source(6))
	local _, hour = source(3)
	e.is_interval = hour:sub(1, 1) == "*"
	if not e:next_wall(0) then
		error(("cron: '%s' never comes: no such day in the months given"):format(text), 0)
	end
	return e
end

------------------------------------------------------------------ wall times

local function days_match(days, value, date)
	if days.set[value] then
		return true
	end
	for _, rule in ipairs(days.rules) do
		if rule(date) then return true end
	end
	return false
end

---Is the day (since 1970) one of the expression? Also says whether its month is.
---@private
---@param days integer
---@return boolean
---@return boolean
function expression:matches_day(days)
	local year, month, day = calendar.date(days)
	if not self.months[month] then
		return false, false
	end
	local date = {
		days = days, day = day, weekday = calendar.weekday(days), month_length = calendar.month_length(year, month),
	}
	local by_month = days_match(self.month_days, day, date)
	local by_week = days_match(self.week_days, date.weekday, date)
	if self.month_days.any or self.week_days.any then
		return by_month and by_week, true
	end
	return by_month or by_week, true
end

---The first time of day that is not before `from`, or nil.
---@private
---@param from integer seconds
---@return integer?
function expression:first_time(from)
	for _, hour in ipairs(self.hours) do
		if (hour + 1) * 3600 > from then
			for _, minute in ipairs(self.minutes) do
				local start = hour * 3600 + minute * 60
				if start + 60 > from then
					for _, second in ipairs(self.seconds) do
						if start + second >= from then return start + second end
					end
				end
			end
		end
	end
end

---The last time of day that is not after `to`, or nil.
---@private
---@param to integer seconds
---@return integer?
function expression:last_time(to)
	for h = #self.hours, 1, -1 do
		if self.hours[h] * 3600 <= to then
			for m = #self.minutes, 1, -1 do
				local start = self.hours[h] * 3600 + self.minutes[m] * 60
				if start <= to then
					for s = #self.seconds, 1, -1 do
						if start + self.seconds[s] <= to then return start + self.seconds[s] end
					end
				end
			end
		end
	end
end

local function next_month(days)
	local year, month, day = calendar.date(days)
	return days - day + 1 + calendar.month_length(year, month)
end

local function previous_month(days)
	local _, _, day = calendar.date(days)
	return days - day
end

---The first wall time that is not before `from`; nil when there is none for decades.
---@param from integer
---@return integer?
function expression:next_wall(from)
	local days = from // DAY
	local time, limit = from - days * DAY, days + HORIZON_DAYS
	while days < limit do
		local is_day, is_month = self:matches_day(days)
		local found = is_day and self:first_time(time)
		if found then
			return days * DAY + found
		end
		days = is_month and days + 1 or next_month(days)
		time = 0
	end
end

---The last wall time that is not after `to`; nil when there is none for decades.
---@param to integer
---@return integer?
function expression:previous_wall(to)
	local days = to // DAY
	local time, limit = to - days * DAY, days - HORIZON_DAYS
	while days > limit do
		local is_day, is_month = self:matches_day(days)
		local found = is_day and self:last_time(time)
		if found then
			return days * DAY + found
		end
		days = is_month and days - 1 or previous_month(days)
		time = DAY - 1
	end
end

--------------------------------------------------------------------- instants

---The instants at which a wall time is due. An interval runs whenever the clock
---shows it; a fixed time runs once, at the change if the clock was set over it.
---@private
---@param zone any as calendar.zone gives it
---@param wall integer seconds since 1970, as that zone's clock shows them
---@return integer? first
---@return integer? second when the clock shows it twice
function expression:due(zone, wall)
	local first, second, change = calendar.instants(zone, wall)
	if self.is_interval then
		return first, second
	end
	return first or change
end

local function smallest_and_largest(zone, instant)
	local before, after = zone(instant - DAY), zone(instant + DAY)
	return math.min(before, after), math.max(before, after)
end

---The first instant after `after` that is due; nil when there is none for decades.
---@param after number seconds since 1970 UTC
---@param zone? string|function see calendar.zone
---@return integer?
function expression:next(after, zone)
	zone = calendar.zone(zone)
	after = math.floor(after)
	-- Around a change of the zone wall times and instants have different orders: go
	-- on until no later wall time can be due before the best one.
	local wall = self:next_wall(after + smallest_and_largest(zone, after))
	local best
	while wall do
		local low, high = smallest_and_largest(zone, wall)
		for _, instant in ipairs { self:due(zone, wall) } do
			if instant > after and (not best or instant < best) then best = instant end
		end
		if best and (low == high or wall - high >= best) then
			break
		end
		wall = self:next_wall(wall + 1)
	end
	return best
end

---The last instant before `before` that was due; nil when there was none for decades.
---@param before number seconds since 1970 UTC
---@param zone? string|function see calendar.zone
---@return integer?
function expression:previous(before, zone)
	zone = calendar.zone(zone)
	before = math.ceil(before)
	local _, largest = smallest_and_largest(zone, before)
	local wall = self:previous_wall(before + largest)
	local best
	while wall do
		local low, high = smallest_and_largest(zone, wall)
		for _, instant in ipairs { self:due(zone, wall) } do
			if instant < before and (not best or instant > best) then best = instant end
		end
		if best and (low == high or wall - low <= best) then
			break
		end
		wall = self:previous_wall(wall - 1)
	end
	return best
end

return expression
