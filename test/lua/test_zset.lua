-- skynet.zset: against a model (a sorted Lua table), its edges, its errors, its memory.

local skynet = require "skynet"
local zset = require "skynet.zset"
local rt = require "rt"
local test = require "testlib"

-- A checker makes everything slow.
local SCALE <const> = skynet.getenv "test_variant" == "release" and 1 or 10

local function filled(options, ...)
	local z = zset.new(options)
	for _, entry in ipairs { ... } do z:add(entry[1], entry[2]) end
	return z
end

test.case("rank 1 is the highest score, the first one to reach it before the others", function()
	local z = filled(nil, { "a", 10 }, { "b", 30 }, { "c", 10 }, { "d", 20.5 })
	test.eq({ z:range() }, { { "b", "d", "a", "c" }, { 30, 20.5, 10, 10 } })
	test.eq({ z:rank "b" }, { 1, 30 })
	test.eq({ z:rev_rank "b" }, { 4, 30 })
	test.eq({ z:rank "c" }, { 4, 10 })
	test.eq(z:rank "nobody", nil)
	test.eq(z:rev_rank "nobody", nil)
	test.eq(#z, 4)
	-- Reaching a score anew is a new time; getting the score one has is not.
	test.eq(z:add("a", 10), false)
	test.eq(z:rank "a", 3)
	z:add("a", 11)
	test.eq(z:add("a", 10), false)
	test.eq(z:rank "a", 4)
	test.eq(z:rank "c", 3)
end)

test.case("order low and ties by member", function()
	local z = filled({ order = "low", ties = "member" }, { "b", 1 }, { 9, 1 }, { "a", 1 }, { -3, 1 }, { "", 1 }, { "z", 0 })
	test.eq((z:range()), { "z", -3, 9, "", "a", "b" })
	test.eq((z:rev_range()), { "b", "a", "", 9, -3, "z" })
	test.eq({ z:pop_min() }, { "z", 0 })
	test.eq({ z:pop_max() }, { "b", 1 })
	local by_time = filled({ order = "low" }, { "y", 5 }, { "x", 5 }, { "w", 4 })
	test.eq((by_time:range()), { "w", "y", "x" })
end)

test.case("re-adding in ranking order rebuilds the board", function()
	local z = zset.new()
	for i = 1, 200 do z:add(i, i * 7919 % 13) end
	local copy = zset.new()
	for _, member, score in z:each() do copy:add(member, score) end
	test.eq({ copy:range() }, { z:range() })
end)

test.case("integers and floats compare exactly", function()
	local big = 1 << 53
	local z = filled({ order = "low" }, { "f", big + 0.0 }, { "i", big + 1 }, { "max", math.maxinteger },
		{ "2^63", 2.0 ^ 63 }, { "min", math.mininteger }, { "-2^63", -2.0 ^ 63 }, { "inf", math.huge },
		{ "-inf", -math.huge }, { "half", 0.5 }, { "zero", 0 }, { "-half", -0.5 })
	test.eq((z:range()), { "-inf", "min", "-2^63", "-half", "zero", "half", "f", "i", "max", "2^63", "inf" })
	test.eq(z:score "i", big + 1)
	test.eq(z:count(math.mininteger, math.maxinteger), 8)
	test.eq(z:add("zero", 0.0), false)
	test.eq(z:score "zero", 0.0)
end)

test.case("ranges by rank take negative ranks and stop at the ends", function()
	local z = zset.new()
	for i = 1, 10 do z:add(i, -i) end
	test.eq((z:range(2, 4)), { 2, 3, 4 })
	test.eq((z:range(-2)), { 9, 10 })
	test.eq((z:range(-100, 2)), { 1, 2 })
	test.eq((z:range(9, 100)), { 9, 10 })
	test.eq((z:range(0, 1)), { 1 })
	test.eq((z:range(5, 4)), {})
	test.eq((z:range(1, -11)), {})
	test.eq((z:range(11)), {})
	test.eq((z:rev_range(1, 3)), { 10, 9, 8 })
	test.eq((z:rev_range(-2)), { 2, 1 })
	test.eq((z:range(math.mininteger, math.maxinteger)), (z:range()))
	test.eq({ z:at(1) }, { 1, -1 })
	test.eq({ z:at(-1) }, { 10, -10 })
	test.eq(z:at(0), nil)
	test.eq(z:at(11), nil)
	test.eq(z:at(math.mininteger), nil)
end)

test.case("ranges by score take bounds, offset and limit", function()
	local z = zset.new()
	for i = 1, 10 do z:add(i, i) end
	test.eq((z:range_by_score(3, 5)), { 5, 4, 3 })
	test.eq((z:rev_range_by_score(3, 5)), { 3, 4, 5 })
	test.eq((z:range_by_score(8)), { 10, 9, 8 })
	test.eq((z:range_by_score(nil, 2)), { 2, 1 })
	test.eq((z:range_by_score(5, 3)), {})
	test.eq((z:range_by_score(nil, nil, 1, 2)), { 9, 8 })
	test.eq((z:rev_range_by_score(nil, nil, 1, 2)), { 2, 3 })
	test.eq((z:rev_range_by_score(nil, nil, 9, 5)), { 10 })
	test.eq((z:range_by_score(nil, nil, 10, 5)), {})
	test.eq((z:range_by_score(nil, nil, 0, 0)), {})
	test.eq((z:range_by_score(2.5, 3.5)), { 3 })
	test.eq(z:count(), 10)
	test.eq(z:count(2, 4), 3)
	test.eq(z:count(11), 0)
end)

test.case("removing: one, a range, by score, from both ends, all", function()
	local z = zset.new()
	for i = 1, 20 do z:add(i, i) end
	test.eq(z:remove(7), 7)
	test.eq(z:remove(7), nil)
	test.eq(z:remove_range(1, 3), 3) -- 20, 19, 18
	test.eq({ z:pop_max() }, { 17, 17 })
	test.eq({ z:pop_min() }, { 1, 1 })
	test.eq(z:remove_by_score(2, 5), 4)
	test.eq((z:range()), { 16, 15, 14, 13, 12, 11, 10, 9, 8, 6 })
	test.eq(z:remove_by_score(nil, nil), 10)
	test.eq(z:pop_min(), nil)
	test.eq(z:pop_max(), nil)
	z:add("again", 1)
	z:clear()
	test.eq(#z, 0)
	test.eq((z:range()), {})
	z:add("after", 1)
	test.eq(z:rank "after", 1)
end)

test.case("incr starts at 0 and refuses what it cannot add", function()
	local z = zset.new()
	test.eq(z:incr("a", 5), 5)
	test.eq(z:incr("a", -7), -2)
	test.eq(z:incr("a", 0.5), -1.5)
	z:add("big", math.maxinteger)
	test.err(function() z:incr("big", 1) end, "leaves the range of integers")
	z:add("inf", math.huge)
	test.err(function() z:incr("inf", -math.huge) end, "becomes NaN")
	test.eq(z:score "inf", math.huge)
end)

test.case("iteration gives rank, member and score, and notices changes", function()
	local z = filled(nil, { "a", 1 }, { "b", 2 }, { "c", 3 })
	local seen = {}
	for rank, member, score in z:each(2) do seen[#seen + 1] = { rank, member, score } end
	test.eq(seen, { { 2, "b", 2 }, { 3, "a", 1 } })
	seen = {}
	for rank, member in z:rev_each() do seen[#seen + 1] = { rank, member } end
	test.eq(seen, { { 1, "a" }, { 2, "b" }, { 3, "c" } })
	test.err(function()
		for _, member in z:each() do z:remove(member) end
	end, "changed during the iteration")
	test.err(function()
		for _ in z:each() do z:close() end
	end, "changed during the iteration")
end)

test.case("wrong arguments name themselves", function()
	local z = zset.new()
	test.err(function() z:add({}, 1) end, "member: string or integer expected, got table")
	test.err(function() z:add(1.5, 1) end, "member: string or integer expected")
	test.err(function() z:add("a", "1") end, "number expected, got string")
	test.err(function() z:add("a", 0 / 0) end, "score is NaN")
	test.err(function() z:add("a") end, "number expected, got no value")
	test.err(function() zset.new { order = "up" } end, [[zset option order must be "high" or "low", not "up"]])
	test.err(function() zset.new { ties = 1 } end, [[zset option ties must be]])
	test.err(function() zset.new(1) end, "table expected")
	test.err(function() z.add(1, 2, 3) end, "skynet.zset expected")
	test.err(function() z:remove_range() end, "number expected")
	test.err(function() z:remove_by_score(1) end, "value expected")
	test.err(function() z:range_by_score(1, 2, -1) end, "negative offset")
	z:close()
	z:close()
	test.err(function() z:add("a", 1) end, "the zset is closed")
end)

test.case("an integral float is the integer", function()
	local z = zset.new()
	z:add(2.0, 1)
	test.eq(z:score(2), 1)
	test.eq((z:range()), { 2 })
end)

-- The model: a table of entries, sorted when asked.
local function model_sorted(model, low_first, by_member)
	local list = {}
	for _, e in pairs(model) do list[#list + 1] = e end
	table.sort(list, function(a, b)
		if a.score ~= b.score then
			return (a.score < b.score) == low_first
		elseif by_member then
			return a.member < b.member
		end
		return a.turn < b.turn
	end)
	return list
end

local function compare(z, model, low_first, by_member)
	local list = model_sorted(model, low_first, by_member)
	local members, scores = z:range()
	test.eq(#members, #list)
	for i, e in ipairs(list) do
		test.eq(members[i], e.member)
		test.eq(scores[i], e.score)
		test.eq(z:rank(e.member), i)
		test.eq(z:rev_rank(e.member), #list - i + 1)
	end
	local a, b = math.random(0, 30), math.random(0, 30)
	local n = 0
	for _, e in ipairs(list) do n = n + (e.score >= a and e.score <= b and 1 or 0) end
	test.eq(z:count(a, b), n)
	test.eq(#z:range_by_score(a, b), n)
end

local function run_model(low_first, by_member)
	local z = zset.new { order = low_first and "low" or "high", ties = by_member and "member" or "time" }
	local model, turn = {}, 0
	for round = 1, 6000 // SCALE do
		local member, what = math.random(1, 300), math.random(10)
		if what <= 6 then
			local score = math.random(0, 30)
			if not model[member] or model[member].score ~= score then
				turn = turn + 1
				model[member] = { member = member, score = score, turn = turn }
			end
			z:add(member, score)
		elseif what <= 8 then
			test.eq(z:remove(member), model[member] and model[member].score)
			model[member] = nil
		elseif what == 9 then
			local list = model_sorted(model, low_first, by_member)
			local e = round % 2 == 0 and list[1] or list[#list]
			local popped = (round % 2 == 0) == low_first and z:pop_min() or z:pop_max()
			test.eq(popped, e and e.member)
			if e then model[e.member] = nil end
		end
		if round % 150 == 0 then
			compare(z, model, low_first, by_member)
		end
	end
end

test.case("random operations agree with a sorted table, in each order", function()
	local seed = os.time()
	math.randomseed(seed)
	for _, low_first in ipairs { true, false } do
		for _, by_member in ipairs { true, false } do
			local ok, err = pcall(run_model, low_first, by_member)
			test.ok(ok, ("seed %d: %s"):format(seed, err))
		end
	end
end)

test.case("many members rank right, and give their memory back", function()
	local z = zset.new()
	local empty = z:memory()
	local n = 200000 // SCALE
	for i = 1, n do z:add(i * 7919 % n, i * 7919 % n) end
	test.eq(#z, n)
	for i = 1, n, 997 do
		test.eq(z:rank(i), n - i)
		test.eq(z:at(n - i), i)
	end
	test.ok(z:memory() > n * 64)
	while z:pop_min() do end
		test.eq(z:memory(), empty)
end)

test.case("the service's memory limit holds, and loses nothing", function()
	local agent = rt.agent()
	local ok, err, count, last = rt.run(agent, [[
		skynet.memlimit(4 * 1024 * 1024)
		local z = require "skynet.zset".new()
		local ok, err = pcall(function() for i = 1, 1000000 do z:add(i, i) end end)
		local count = #z
		skynet.retpack(ok, err, count, z:at(1) == count and z:rank(count) == 1 and z:rank(count + 1) == nil)
	]])
	test.eq(ok, false)
	test.match(err, "not enough memory")
	test.ok(count > 1000)
	test.eq(last, true)
	require "skynet.manager".kill(agent)
end)

test.run()
