-- calendar: days, and time zones as functions. Pure but for the local zone.
--
-- A *wall time* is what clocks in a zone show, as seconds since 1970-01-01 00:00 on
-- such a clock; an *instant* is seconds since 1970-01-01 00:00 UTC.

local wallclock = require "skynet.wallclock"

local calendar = {}

local DAY <const> = 86400

calendar.DAY = DAY

---Days since 1970-01-01 of a date of the Gregorian calendar.
---@param year integer
---@param month integer 1 to 12
---@param day integer 1 to 31
---@return integer
function calendar.days(year, month, day)
	-- Years begin in March, so that the leap day is the last one.
	local y = month <= 2 and year - 1 or year
	local era = y // 400
	local year_of_era = y - era * 400
	local day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
	local day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
	return era * 146097 + day_of_era - 719468
end

---The date of a day since 1970-01-01.
---@param days integer
---@return integer year
---@return integer month
---@return integer day
function calendar.date(days)
	local z = days + 719468
	local era = z // 146097
	local day_of_era = z - era * 146097
	local year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
	local day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
	local month_from_march = (5 * day_of_year + 2) // 153
	local day = day_of_year - (153 * month_from_march + 2) // 5 + 1
	local month = month_from_march < 10 and month_from_march + 3 or month_from_march - 9
	return year_of_era + era * 400 + (month <= 2 and 1 or 0), month, day
end

---@param days integer
---@return integer # 0 for Sunday to 6
function calendar.weekday(days)
	return (days + 4) % 7
end

---@param year integer
---@param month integer
---@return integer
function calendar.month_length(year, month)
	if month == 12 then
		return 31
	end
	return calendar.days(year, month + 1, 1) - calendar.days(year, month, 1)
end

------------------------------------------------------------------------ zones

---@alias calendar.zone fun(instant: integer): integer seconds ahead of UTC

local function utc()
	return 0
end

---A zone: "local" (the process's TZ), "utc", an offset such as "+08:00", or a
---function from an instant to the seconds that the zone is ahead of UTC.
---@param zone string|function|nil "local" by default
---@return calendar.zone
function calendar.zone(zone)
	if zone == nil or zone == "local" then
		return wallclock.utc_offset
	elseif zone == "utc" then
		return utc
	elseif type(zone) == "function" then
		return zone
	end
	local sign, hours, minutes = tostring(zone):match "^([+-])(%d%d):?(%d%d)$"
	if not sign or tonumber(hours) > 14 or tonumber(minutes) > 59 then
		error(('cron: zone %s is none of "local", "utc", "+HH:MM" or a function'):format(tostring(zone)), 3)
	end
	local offset = (tonumber(hours) * 60 + tonumber(minutes)) * 60 * (sign == "-" and -1 or 1)
	return function()
		return offset
	end
end

-- The first instant of ]low, high] at which the zone has left its offset at `low`.
local function find_change(zone, low, high)
	local before = zone(low)
	while high - low > 1 do
		local middle = (low + high) // 2
		if zone(middle) == before then
			low = middle
		else
			high = middle
		end
	end
	return high
end

---When clocks in the zone show a wall time: once, twice when they were set back
---over it, never when they were set forward over it. Zones are taken to change at
---most once in two days.
---@param zone calendar.zone
---@param wall integer
---@return integer? first
---@return integer? second
---@return integer? change when the clocks were set forward over it
function calendar.instants(zone, wall)
	local low, high = wall - DAY, wall + DAY
	local before, after = zone(low), zone(high)
	if before == after then
		return wall - before
	end
	local first, second = wall - before, wall - after
	local is_first, is_second = zone(first) == before, zone(second) == after
	if is_first and is_second then
		return first, second
	elseif is_first or is_second then
		return is_first and first or second
	end
	return nil, nil, find_change(zone, low, high)
end

return calendar
