-- skynet.snowflake: order, uniqueness across services, steps of the clock, decoding.

local skynet = require "skynet"
local snowflake = require "skynet.snowflake"
local rt = require "rt"
local test = require "testlib"

test.case("ids grow, and carry time, node and sequence", function()
	local g = snowflake.new { node = 7 }
	local before = os.time() * 1000
	local last = 0
	for _ = 1, 20000 do
		local id = g:next()
		test.ok(id > last)
		last = id
	end
	local ms, node = g:decode(last)
	test.eq(node, 7)
	test.ok(ms >= before and ms < before + 100000)
	test.eq({ snowflake.decode(last) }, { g:decode(last) })
	test.eq(snowflake.EPOCH, 1577836800000)
end)

test.case("the layout is 41, 10 and 12 bits", function()
	local now = 1000000
	local g = snowflake.new { node = 1023, epoch = 1000000 - 5, clock = function() return now end }
	test.eq(g:next(), 5 << 22 | 1023 << 12)
	test.eq(g:next(), 5 << 22 | 1023 << 12 | 1)
	test.eq({ g:decode(5 << 22 | 1023 << 12 | 1) }, { 1000000, 1023, 1 })
	test.eq({ snowflake.decode(5 << 22 | 3 << 12, 7) }, { 12, 3, 0 })
end)

test.case("a full millisecond goes over to the next one", function()
	local g = snowflake.new { node = 1, epoch = 0, clock = function() return 50 end }
	local ids = g:batch(10000)
	for i = 1, #ids do
		test.eq({ g:decode(ids[i]) }, { 50 + (i - 1) // 4096, 1, (i - 1) % 4096 })
	end
	test.ok(g:next() > ids[#ids])
end)

test.case("a clock that steps back, stands or jumps never repeats an id", function()
	local now = 1000000
	local g = snowflake.new { node = 1, epoch = 0, clock = function() return now end }
	local last = -1
	for _, time in ipairs { 1000000, 1000001, 999000, 0, -5, 1000001, 1000002, 5000000, 1 } do
		now = time
		for _ = 1, 3 do
			local id = g:next()
			test.ok(id > last)
			last = id
		end
	end
	test.eq((g:decode(last)), 5000000)
end)

test.case("after a restart ids go on above a stored one", function()
	local clock = function() return 1000 end
	local old = snowflake.new { node = 1, epoch = 0, clock = function() return 9000 end }:next()
	local g = snowflake.new { node = 1, epoch = 0, clock = clock, after = old }
	test.ok(g:next() > old)
	local id = g:next()
	test.eq({ g:decode(id) }, { 9000, 1, 2 })
end)

test.case("ids of all services with one node number differ", function()
	local seen, set = {}, skynet.request()
	for i = 1, 8 do
		set:add { rt.agent(), "lua", [[
			local skynet = require "skynet"
			local g = require "skynet.snowflake".new { node = 3 }
			local list = g:batch(1000)
			for i = 1, 1000 do list[#list + 1] = g:next() end
			skynet.retpack(list)
		]], token = i }
	end
	for _, answer in set:select() do
		for _, id in ipairs(answer[1]) do
			test.eq(seen[id], nil)
			seen[id] = true
		end
	end
	local count = 0
	for _ in pairs(seen) do count = count + 1 end
	test.eq(count, 16000)
end)

test.case("wrong arguments name themselves", function()
	test.err(function() snowflake.new {} end, "snowflake option node must be an integer from 0 to 1023")
	test.err(function() snowflake.new { node = 1024 } end, "snowflake option node")
	test.err(function() snowflake.new { node = "x" } end, "snowflake option node")
	test.err(function() snowflake.new { node = 1, epoch = -1 } end, "snowflake option epoch")
	test.err(function() snowflake.new { node = 1, clock = 5 } end, "clock must be a function")
	test.err(function() snowflake.new() end, "table expected")
	test.err(function() snowflake.decode(-1) end, "negative")
	local g = snowflake.new { node = 1, clock = function() return 1.5 end }
	test.err(function() g:next() end, "the clock must return an integer")
	g = snowflake.new { node = 1, epoch = 100, clock = function() return 50 end }
	test.err(function() g:next() end, "before the epoch")
	g = snowflake.new { node = 1, epoch = 0, clock = function() return 1 << 41 end }
	test.err(function() g:next() end, "2^41 ms since the epoch")
	test.err(function() g:batch(0) end, "1 to 1000000 ids")
end)

test.run()
