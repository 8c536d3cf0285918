-- skynet.cron: expressions against an oracle that tries every minute, clocks that
-- change, errors, and jobs with a clock of their own.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet"
local calendar = require "skynet.cron.calendar"
local cron = require "skynet.cron"
local rt = require "rt"
local test = require "testlib"

local DAY, HOUR = 86400, 3600

local function utc(text)
	local y, m, d, h, mi, s = text:match "^(%d+)-(%d+)-(%d+) (%d+):(%d+):?(%d*)$"
	return calendar.days(y // 1 | 0, m // 1 | 0, d // 1 | 0) * DAY + h * HOUR + mi * 60 + (s == "" and 0 or s) | 0
end

local function show(instant, zone)
	local wall = instant + calendar.zone(zone)(instant)
	local y, m, d = calendar.date(wall // DAY)
	local time = wall % DAY
	return ("%04d-%02d-%02d %02d:%02d:%02d"):format(y, m, d, time // HOUR, time // 60 % 60, time % 60)
end

-- Central Europe in 2026: clocks go 02:00 to 03:00 on March 29, 03:00 to 02:00 on October 25.
local SPRING, AUTUMN = utc "2026-03-29 01:00", utc "2026-10-25 01:00"
local function europe(t)
	return (t >= SPRING and t < AUTUMN) and 2 * HOUR or HOUR
end

test.case("the calendar agrees with the C library for 800 years", function()
	for days = -140000, 150000, 211 do
		local y, m, d = calendar.date(days)
		test.eq(calendar.days(y, m, d), days)
		local t = os.date("!*t", days * DAY)
		test.eq({ y, m, d, calendar.weekday(days) }, { t.year, t.month, t.day, t.wday - 1 })
	end
	test.eq(calendar.month_length(2024, 2), 29)
	test.eq(calendar.month_length(2100, 2), 28)
	test.eq(calendar.month_length(2000, 2), 29)
	test.eq(calendar.month_length(2026, 12), 31)
end)

-- Expression, time before, the next times.
local NEXT <const> = {
	{ "* * * * *", "2026-01-01 00:00:30", "2026-01-01 00:01:00", "2026-01-01 00:02:00" },
	{ "*/15 * * * * *", "2026-01-01 00:00:30", "2026-01-01 00:00:45", "2026-01-01 00:01:00" },
	{ "5 4 * * *", "2026-01-01 04:05:00", "2026-01-02 04:05:00" },
	{ "0 0 1 jan *", "2026-01-01 00:00:00", "2027-01-01 00:00:00" },
	{ "0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00:00", "2032-02-29 00:00:00" },
	{ "0 0 29 2 *", "2097-01-01 00:00", "2104-02-29 00:00:00" },
	{ "30 9 * * mon-fri", "2026-01-02 10:00", "2026-01-05 09:30:00", "2026-01-06 09:30:00" },
	{ "0 0 * * fri-sun", "2026-01-01 00:00", "2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-04 00:00:00",
		"2026-01-09 00:00:00" },
	{ "0 0 * * 7", "2026-01-01 00:00", "2026-01-04 00:00:00" },
	{ "0 0 * * 5-7", "2026-01-03 00:00", "2026-01-04 00:00:00", "2026-01-09 00:00:00" },
	{ "0 12 13 * FRI", "2026-01-01 00:00", "2026-01-02 12:00:00", "2026-01-09 12:00:00", "2026-01-13 12:00:00" },
	{ "0 12 ? * tue", "2026-01-01 00:00", "2026-01-06 12:00:00" },
	{ "10-12,50/5 0 * * *", "2026-01-01 00:00", "2026-01-01 00:10:00", "2026-01-01 00:11:00", "2026-01-01 00:12:00",
		"2026-01-01 00:50:00", "2026-01-01 00:55:00", "2026-01-02 00:10:00" },
	{ "0 8-18/4 * * *", "2026-01-01 00:00", "2026-01-01 08:00:00", "2026-01-01 12:00:00", "2026-01-01 16:00:00",
		"2026-01-02 08:00:00" },
	{ "0 0 L * *", "2026-02-01 00:00", "2026-02-28 00:00:00", "2026-03-31 00:00:00" },
	{ "0 0 l-2 * *", "2026-02-01 00:00", "2026-02-26 00:00:00", "2026-03-29 00:00:00" },
	{ "0 0 LW * *", "2026-02-01 00:00", "2026-02-27 00:00:00", "2026-03-31 00:00:00", "2026-04-30 00:00:00",
		"2026-05-29 00:00:00" },
	{ "0 0 15W * *", "2026-02-01 00:00", "2026-02-16 00:00:00", "2026-03-16 00:00:00", "2026-04-15 00:00:00" },
	{ "0 0 1W * *", "2026-07-31 00:00", "2026-08-03 00:00:00", "2026-09-01 00:00:00" },
	{ "0 0 31W * *", "2026-01-01 00:00", "2026-01-30 00:00:00", "2026-03-31 00:00:00" },
	{ "0 0 * * 5L", "2026-01-01 00:00", "2026-01-30 00:00:00", "2026-02-27 00:00:00" },
	{ "0 0 * * mon#1", "2026-01-01 00:00", "2026-01-05 00:00:00", "2026-02-02 00:00:00" },
	{ "0 0 * feb fri#5", "2026-01-01 00:00", "2036-02-29 00:00:00", "2064-02-29 00:00:00" },
	{ "@yearly", "2026-01-01 00:00", "2027-01-01 00:00:00" },
	{ "@Monthly", "2026-01-01 00:00", "2026-02-01 00:00:00" },
	{ "@weekly", "2026-01-01 00:00", "2026-01-04 00:00:00" },
	{ "@daily", "2026-01-01 00:00", "2026-01-02 00:00:00" },
	{ "@hourly", "2026-01-01 00:00", "2026-01-01 01:00:00" },
	{ "0 0 1 1 *", "1900-06-01 00:00", "1901-01-01 00:00:00" },
}

test.case("next times of many expressions, and previous ones back again", function()
	for _, row in ipairs(NEXT) do
		local e, t = cron.parse(row[1]), utc(row[2])
		for i = 3, #row do
			t = e:next(t, "utc")
			test.eq(show(t, "utc"), row[i], row[1])
		end
		for i = #row - 1, 3, -1 do
			t = e:previous(t, "utc")
			test.eq(show(t, "utc"), row[i], row[1])
		end
	end
	test.eq(cron.next("0 0 * * *", utc "2026-01-01 00:00", "utc"), utc "2026-01-02 00:00")
	test.eq(cron.previous("0 0 * * *", utc "2026-01-01 00:00", "utc"), utc "2025-12-31 00:00")
	test.eq(cron.next("0 0 * * *", utc "2026-01-01 00:00" - 0.5, "utc"), utc "2026-01-01 00:00")
	test.eq(cron.previous("0 0 * * *", utc "2026-01-01 00:00" + 0.5, "utc"), utc "2026-01-01 00:00")
	-- Asked before: the next minute may begin in between.
	local now = os.time()
	test.ok(cron.next "* * * * *" > now)
end)

test.case("zones: an offset, a function, wrong ones", function()
	local t = utc "2026-01-01 00:00"
	test.eq(cron.next("0 8 * * *", t, "+08:00"), t + DAY)
	test.eq(cron.next("0 9 * * *", t, "+0800"), t + HOUR)
	test.eq(cron.next("30 20 * * *", t, "-03:30"), t + DAY)
	test.eq(cron.next("0 9 * * *", t, function() return 8 * HOUR end), t + HOUR)
	for _, bad in ipairs { "Europe/Berlin", "+8", "+15:00", "+08:60", 8 } do
		test.err(function() cron.next("* * * * *", t, bad) end, 'is none of "local", "utc", "+HH:MM" or a function')
	end
end)

local function times(text, from, to, zone)
	local e, t, list = cron.parse(text), from, {}
	while true do
		t = e:next(t, zone)
		if t > to then return list end
		list[#list + 1] = t
	end
end

test.case("clocks set forward: a fixed time in the gap runs at the change, an interval goes on", function()
	test.eq(times("30 2 * * *", SPRING - DAY, SPRING + DAY, europe), 
		{ SPRING - DAY + 1800, SPRING, SPRING + DAY - 1800 })
	-- Several times in the gap are one run.
	test.eq(times("0,15,30 2 29 3 *", SPRING - DAY, SPRING + DAY, europe), { SPRING })
	test.eq(times("0 * * * *", SPRING - HOUR - 1, SPRING + 2 * HOUR, europe),
		{ SPRING - HOUR, SPRING, SPRING + HOUR, SPRING + 2 * HOUR })
	test.eq(times("0 3 29 3 *", SPRING - DAY, SPRING + DAY, europe), { SPRING })
	test.eq(cron.parse "30 2 * * *":previous(SPRING + 1, europe), SPRING)
	test.eq(cron.parse "30 2 * * *":previous(SPRING, europe), SPRING - DAY + 1800)
end)

test.case("clocks set back: a fixed time runs once, the first time; an interval each time", function()
	test.eq(times("30 2 * * *", AUTUMN - DAY, AUTUMN + 20 * HOUR, europe), { AUTUMN - 1800 })
	test.eq(times("30 * * * *", AUTUMN - 2 * HOUR, AUTUMN + 2 * HOUR, europe),
		{ AUTUMN - 5400, AUTUMN - 1800, AUTUMN + 1800, AUTUMN + 5400 })
	test.eq(times("*/30 */2 25 10 *", AUTUMN - HOUR - 1, AUTUMN + HOUR, europe),
		{ AUTUMN - HOUR, AUTUMN - 1800, AUTUMN, AUTUMN + 1800 })
	test.eq(times("0 2 25 10 *", AUTUMN - DAY, AUTUMN + DAY, europe), { AUTUMN - HOUR })
	test.eq(cron.parse "30 2 * * *":previous(AUTUMN + 3000, europe), AUTUMN - 1800)
end)

-- The oracle: reads the fields of a simple expression by itself, and looks at every minute.
local function oracle_field(text, low, high)
	local set = {}
	for item in text:gmatch "[^,]+" do
		local a, b, step = item:match "^(%d+)%-(%d+)/?(%d*)$"
		if item:sub(1, 1) == "*" then
			a, b, step = low, high, item:match "^%*/(%d+)$" or 1
		elseif not a then
			a, b, step = item, item, 1
		end
		for v = a // 1 | 0, b // 1 | 0, (step == "" and 1 or step) // 1 | 0 do set[v] = true end
	end
	return set
end

local function oracle(text, zone)
	local f = {}
	for word in text:gmatch "%S+" do f[#f + 1] = word end
	local minutes, hours = oracle_field(f[1], 0, 59), oracle_field(f[2], 0, 23)
	local days, months, week = oracle_field(f[3], 1, 31), oracle_field(f[4], 1, 12), oracle_field(f[5], 0, 7)
	local function matches(wall)
		local t = os.date("!*t", wall)
		local w = week[t.wday - 1] or (t.wday == 1 and week[7]) or false
		local d = days[t.day] or false
		local day_ok
		if f[3]:find "^%*" or f[5]:find "^%*" then day_ok = d and w else day_ok = d or w end
		return day_ok and minutes[t.min] and hours[t.hour] and months[t.month] or false
	end
	local fixed = not f[2]:find "^%*"
	return function(t) -- is t due?
		local wall = t + zone(t)
		if not fixed then
			return matches(wall)
		end
		local before = zone(t - 1)
		if before < zone(t) then -- the clocks were set forward now
			for w = t + before, wall, 60 do
				if matches(w) then return true end
			end
			return false
		end
		local earlier = t - HOUR
		return matches(wall) and not (earlier + zone(earlier) == wall)
	end
end

local function random_field(low, high)
	local kind = math.random(6)
	if kind <= 2 then return "*" end
	if kind == 3 then return "*/" .. math.random(2, 7) end
	local a, b = math.random(low, high), math.random(low, high)
	if kind == 4 then return ("%d-%d"):format(math.min(a, b), math.max(a, b)) end
	if kind == 5 then return ("%d,%d"):format(a, b) end
	return tostring(a)
end

test.case("random expressions agree with an oracle, forward and back, over both changes", function()
	local seed = os.time()
	math.randomseed(seed)
	for round = 1, skynet.getenv "test_variant" == "release" and 12 or 4 do
		local text = ("%s %s %s %s %s"):format(random_field(0, 59), random_field(0, 4), random_field(24, 30),
			math.random(3) == 1 and "3,10" or "*", random_field(0, 6))
		local middle = round % 2 == 0 and SPRING or AUTUMN
		local from, to = middle - 30 * HOUR, middle + 30 * HOUR
		local is_due = oracle(text, europe)
		local want = {}
		for t = from + 60, to, 60 do
			if is_due(t) then want[#want + 1] = t end
		end
		local what = ("seed %d, '%s'"):format(seed, text)
		test.eq(times(text, from, to, europe), want, what)
		local e, t = cron.parse(text), to + 1
		for i = #want, 1, -1 do
			t = e:previous(t, europe)
			test.eq(t, want[i], what)
		end
	end
end)

test.case("errors name the field and the column", function()
	local function bad(text, message)
		test.err(function() cron.parse(text) end, message)
	end
	bad("60 * * * *", "cron: minute (field 1, column 1): 60 is out of range, 0 to 59")
	bad("* 24 * * *", "cron: hour (field 2, column 3): 24 is out of range, 0 to 23")
	bad("* * 0 * *", "cron: day of month (field 3, column 5): 0 is out of range")
	bad("* * * 13 *", "cron: month (field 4, column 7): 13 is out of range, 1 to 12")
	bad("* * * * 8", "cron: day of week (field 5, column 9): 8 is out of range")
	bad("99 * * * * *", "cron: second (field 1, column 1)")
	bad("1,2,x * * * *", "cron: minute (field 1, column 5): 'x' is no value")
	bad("* * * foo *", "cron: month (field 4, column 7): 'foo' is no value")
	bad("* 5-2 * * *", "cron: hour (field 2, column 3): the range 5-2 runs backwards")
	bad("*/0 * * * *", "cron: minute (field 1, column 1): '0' is no step")
	bad("*/x * * * *", "'x' is no step")
	bad("1,, * * * *", "a value is missing")
	bad("? * * * *", "'?' stands alone, and for days only")
	bad("* * ?,1 * *", "'?' stands alone, and for days only")
	bad("* * * * mon#6", "'#6' must be #1 to #5")
	bad("* * L-31 * *", "L-31 is out of range, L-0 to L-30")
	bad("* * 32W * *", "32 is out of range")
	bad("* * * *", "has 4 fields; wanted are 5 (minute, hour, day of month, month, day of week) or 6")
	bad("", "has 0 fields")
	bad("@never", "cron: '@never' is unknown")
	bad("0 0 30 2 *", "cron: '0 0 30 2 *' never comes")
	bad("0 0 31 4,6 *", "never comes")
	bad(5, "expression must be a string, not a number")
	test.err(function() cron.schedule("* * * * *", 1) end, "a job needs a function")
	test.err(function() cron.schedule("* * * * *", print, 1) end, "options must be a table")
	test.err(function() cron.schedule("* * * * *", print, { missed = "x" }) end, [["once", "skip" or "all", not x]])
	test.err(function() cron.daily("25:00", print) end, "'25:00' is no time of day, wanted is HH:MM[:SS]")
	test.err(function() cron.daily("noon", print) end, "is no time of day")
	test.err(function() cron.weekly("monday", "10:00", print) end, "'monday' is no value")
	test.err(function() cron.at("tomorrow", print) end, "is no time, wanted is YYYY-MM-DD HH:MM[:SS]")
	test.err(function() cron.at("2026-02-30 10:00", print) end, "is out of range")
	test.err(function() cron.at({}, print) end, "time must be a number or a string")
end)

-- A clock for jobs, and a job that notes when it was due.
local function bench(options)
	local b = { now = utc "2026-01-01 00:00", runs = {} }
	b.options = { zone = "utc", clock = function() return b.now end }
	for k, v in pairs(options or {}) do b.options[k] = v end
	function b.note(due) b.runs[#b.runs + 1] = due - utc "2026-01-01 00:00" end
	-- Sets the clock, and waits until n runs were noted.
	function b.set(seconds, n)
		b.now = utc "2026-01-01 00:00" + seconds
		cron.check()
		test.wait_for(function() return #b.runs >= n end)
		skynet.yield()
		test.eq(#b.runs, n)
	end
	return b
end

test.case("a job runs when it is due, until it is cancelled", function()
	local b = bench()
	local job = cron.schedule("*/10 * * * *", b.note, b.options)
	test.eq(job:next(), b.now + 600)
	b.set(599.9, 0)
	b.set(600, 1)
	test.eq(job:next(), b.now + 600)
	b.set(601, 1)
	b.set(1200.5, 2)
	job:cancel()
	test.eq(job:next(), nil)
	b.set(1900, 2)
	test.eq(b.runs, { 600, 1200 })
	job:cancel()
end)

test.case("missed runs: once, skip, all", function()
	local once, skip, all = bench(), bench { missed = "skip" }, bench { missed = "all" }
	local jobs = {}
	for i, b in ipairs { once, skip, all } do jobs[i] = cron.schedule("*/10 * * * *", b.note, b.options) end
	once.set(1850, 1)
	test.eq(once.runs, { 1800 })
	skip.set(1850, 1) -- 50 s late is not missed
	test.eq(skip.runs, { 1800 })
	skip.set(2500, 1) -- 100 s late is
	skip.set(3000, 2)
	test.eq(skip.runs, { 1800, 3000 })
	all.set(1850, 3)
	test.eq(all.runs, { 600, 1200, 1800 })
	for _, job in ipairs(jobs) do job:cancel() end
end)

test.case("a clock that is set back repeats no run", function()
	local b = bench()
	local job = cron.schedule("0 1 * * *", b.note, b.options)
	b.set(3600, 1)
	b.set(1800, 1)
	b.set(3700, 1)
	b.set(90000, 2)
	test.eq(b.runs, { 3600, 90000 })
	job:cancel()
end)

test.case("a job never runs twice at once, and may cancel itself", function()
	local b, running, most = bench(), 0, 0
	local gate = {}
	local job
	job = cron.schedule("* * * * *", function(due)
		running = running + 1
		most = math.max(most, running)
		b.note(due)
		skynet.wait(gate)
		running = running - 1
		if #b.runs == 2 then job:cancel() end
	end, b.options)
	b.set(60, 1)
	b.set(200, 1) -- the first one still waits
	skynet.wakeup(gate)
	b.set(200, 2)
	test.eq(b.runs, { 60, 180 })
	test.eq(most, 1)
	cron.check()
	job:cancel() -- does not end the wait inside of the run
	skynet.yield()
	test.eq(running, 1)
	skynet.wakeup(gate)
	test.wait_for(function() return running == 0 end)
	b.set(1000, 2)
end)

test.case("an error in a run is logged, and the job goes on", function()
	local b, from = bench(), rt.mark()
	local job = cron.schedule("* * * * *", function(due)
		b.note(due)
		error "broken"
	end, b.options)
	b.set(60, 1)
	rt.logged("cron job '%* %* %* %* %*': .*broken", from)
	b.set(120, 2)
	job:cancel()
end)

test.case("at runs once; daily and weekly are expressions", function()
	local b = bench()
	local at = cron.at("2026-01-01 00:10:30", b.note, b.options)
	test.eq(at:next(), b.now + 630)
	b.set(630, 1)
	test.eq(at:next(), nil)
	b.set(2000, 1)
	cron.at(b.now - 1000, b.note, b.options)
	b.set(2000, 2)
	test.eq(b.runs, { 630, 1000 })
	b.options.missed = "skip"
	local late = cron.at(b.now - 1000, b.note, b.options)
	test.wait_for(function() return not late:next() end)
	test.eq(#b.runs, 2)
	local daily = cron.daily("10:30", b.note, b.options)
	test.eq(show(daily:next(), "utc"), "2026-01-01 10:30:00")
	local weekly = cron.weekly("sat,sun", "08:00:15", b.note, b.options)
	test.eq(show(weekly:next(), "utc"), "2026-01-03 08:00:15")
	test.eq(cron.at("2026-03-29 02:30", b.note, { zone = europe, clock = b.options.clock }):next(), SPRING)
	daily:cancel()
	weekly:cancel()
end)

test.case("the system's clock drives jobs second by second", function()
	local runs, begun = {}, os.time()
	local job = cron.schedule("* * * * * *", function(due) runs[#runs + 1] = due end)
	test.wait_for(function() return #runs >= 2 end)
	job:cancel()
	test.ok(runs[2] > runs[1])
	-- Clocks of the system may differ by a tick.
	test.ok(runs[1] >= begun and runs[2] <= os.time() + 1, runs[1] - begun)
end)

test.run()
