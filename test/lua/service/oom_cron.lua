-- oom_cron: a job for each second of a clock that stands, for test_oom.lua.

local cron = require "skynet.cron"
local serve = require "serve"

local now, runs = 1000000, 0
local command = {}

cron.schedule("* * * * * *", function(due)
	runs = runs + 1
	-- It may raise, too.
	return ("run %d at %d"):format(runs, due)
end, { clock = function() return now end, zone = "utc" })

---The next second comes.
function command.tick()
	now = now + 1
	cron.check()
end

---How often the job was run.
function command.runs()
	return runs
end

serve(command)
