-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- Everything at once: services that call, wait, select, kill tasks, exit and are
-- killed, at random. Nothing may be left pending, nothing may crash.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

local SERVICES = 24
local ROUNDS = 12

local function population(n)
	local list = {}
	for i = 1, n do
		list[i] = skynet.newservice("rt_chaos", 1000 + i)
	end
	return list
end

test.case("a random load ends with every request answered, one way or another", function()
	local list = population(SERVICES)
	for _, h in ipairs(list) do
		skynet.call(h, "lua", "peers", list)
	end
	local answered, failed = 0, 0
	for round = 1, ROUNDS do
		local set = skynet.request()
		for _, h in ipairs(list) do
			set { h, "lua", "work", 12 }
		end
		for _, resp in set:select() do
			if resp then answered = answered + 1 else failed = failed + 1 end
		end
		-- One leaves by itself, one is killed; new ones take their places.
		skynet.send(list[1], "lua", "exit")
		skynet.kill(list[2])
		local fresh = population(2)
		list[1], list[2] = fresh[1], fresh[2]
		for _, h in ipairs(list) do
			skynet.send(h, "lua", "peers", list)
		end
		if round % 4 == 0 then
			for _, h in ipairs(list) do
				skynet.send(h, "debug", "GC")
			end
		end
	end
	test.ok(answered > 0, "answered")
	-- What services still do among themselves dies down.
	for _, h in ipairs(list) do
		test.wait_for(function() return skynet.call(h, "lua", "idle") end, 2000, "an idle service")
		skynet.send(h, "lua", "exit")
	end
	-- The only errors are those that were made on purpose.
	for _, line in ipairs(rt.lines "error : ") do
		test.match(line, "error : a chaos error")
	end
end)

test.run()
