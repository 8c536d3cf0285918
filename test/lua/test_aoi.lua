-- skynet.aoi: against an oracle that compares every pair; margins, cells, removal, errors.

local skynet = require "skynet"
local aoi = require "skynet.aoi"
local rt = require "rt"
local test = require "testlib"

-- A checker makes everything slow.
local ROUNDS <const> = skynet.getenv "test_variant" == "release" and 1500 or 300

local NAMES <const> = { [aoi.ENTER] = "enter", [aoi.MOVE] = "move", [aoi.LEAVE] = "leave" }

-- The events of an update as sorted texts.
local function update(space, list)
	local events, count = space:update(list)
	test.eq(#events, count * 3)
	local texts = {}
	for i = 1, #events, 3 do
		texts[#texts + 1] = ("%s %d %d"):format(NAMES[events[i]], events[i + 1], events[i + 2])
	end
	table.sort(texts)
	return texts
end

local function sorted(list)
	table.sort(list)
	return list
end

test.case("markers come into range, move there and leave", function()
	local space = aoi.new { cell = 10 }
	space:add(1, 0, 0, 15) -- sees 15 far, and is seen
	space:add(2, 100, 0)
	test.eq(update(space), {})
	space:move(2, 15, 0)
	test.eq(update(space), { "enter 1 2" })
	test.eq(update(space), {})
	space:move(2, 10, 5)
	test.eq(update(space), { "move 1 2" })
	space:move(2, 10, 5)
	test.eq(update(space), {})
	space:move(1, 1, 1) -- a watcher knows where it is itself
	test.eq(update(space), {})
	space:move(2, 100, 100)
	test.eq(update(space), { "leave 1 2" })
	space:move(1, 100, 90)
	test.eq(update(space), { "enter 1 2" })
	space:move(1, 100, 80)
	test.eq(update(space), { "leave 1 2" })
	test.eq({ space:place(1) }, { 100.0, 80.0 })
	test.eq(space:place(9), nil)
end)

test.case("several moves between updates are one event, and there and back is a move", function()
	local space = aoi.new { cell = 10 }
	space:add(1, 0, 0, 10, true)
	space:add(2, 5, 0)
	test.eq(update(space), { "enter 1 2" })
	space:move(2, 500, 0)
	space:move(2, 6, 0)
	space:move(2, 7, 0)
	test.eq(update(space), { "move 1 2" })
	space:move(1, 0, 1)
	space:move(2, 8, 0)
	test.eq(update(space), { "move 1 2" })
end)

test.case("with a margin a pair ends later than it began", function()
	local space = aoi.new { cell = 10, margin = 5 }
	space:add(1, 0, 0, 10, true)
	space:add(2, 12, 0)
	test.eq(update(space), {})
	space:move(2, 10, 0)
	test.eq(update(space), { "enter 1 2" })
	space:move(2, 15, 0)
	test.eq(update(space), { "move 1 2" })
	space:move(2, 15.01, 0)
	test.eq(update(space), { "leave 1 2" })
	space:move(2, 11, 0)
	test.eq(update(space), {})
end)

test.case("by_cells counts cells: 1 is the nine around", function()
	local space = aoi.new { cell = 10, by_cells = true, margin = 1 }
	space:add(1, 5, 5, 1, true)
	for i, place in ipairs { { 19, 19 }, { -10, -10 }, { 20, 5 }, { 0, 0 }, { -10.01, 0 } } do
		space:add(i + 1, place[1], place[2])
	end
	test.eq(update(space), { "enter 1 2", "enter 1 3", "enter 1 5" })
	space:move(2, 29, 19)
	space:move(3, -20.01, 0)
	test.eq(update(space), { "leave 1 3", "move 1 2" })
	test.eq(sorted(space:near(5, 5, 0)), { 5 })
	test.eq(sorted(space:near(5, 5, 2)), { 2, 4, 5, 6 })
end)

test.case("a range may change, and be of any size", function()
	local space = aoi.new { cell = 10 }
	space:add(1, 0, 0, 0, true)
	for i = 2, 50 do space:add(i, i * 100, 0) end
	space:add(100, 0, 0)
	test.eq(update(space), { "enter 1 100" })
	space:set_range(1, 1000)
	test.eq(#update(space), 9)
	space:set_range(1, 80000000)
	test.eq(#update(space), 40)
	space:set_range(1, 5)
	test.eq(#update(space), 49)
	test.eq(space:seen_by(1), { 100 })
end)

test.case("removal: who saw the marker is told, and ids can be used again", function()
	local space = aoi.new { cell = 10 }
	for i = 1, 3 do space:add(i, i, 0, 10) end
	test.eq(#update(space), 6)
	test.eq(sorted(space:seen_by(1)), { 2, 3 })
	test.eq(sorted(space:watchers_of(1)), { 2, 3 })
	space:remove(1)
	space:add(1, 1, 1)
	test.eq(update(space), { "enter 2 1", "enter 3 1", "leave 2 1", "leave 3 1" })
	space:remove(2)
	space:remove(1)
	space:remove(3)
	local events, count = space:update()
	test.eq(count, 2) -- to 3, before that went itself
	test.eq(#events, 6)
	local stat = space:stat()
	test.eq({ stat.objects, stat.pairs, stat.cells }, { 0, 0, 0 })
end)

test.case("memory goes back to what an empty space holds", function()
	local space = aoi.new { cell = 10 }
	local empty = space:stat().memory
	for round = 1, 3 do
		for i = 1, 2000 do space:add(i, i % 50 * 5, i // 50 * 5, i % 3 == 0 and 20 or nil) end
		test.ok(select(2, space:update()) > 2000)
		for i = 1, 2000 do space:move(i, i * round, -i * round) end
		space:update()
		test.ok(space:stat().memory > empty)
		for i = 1, 2000 do space:remove(i) end
		space:update()
		test.eq(space:stat().memory, empty)
	end
end)

test.case("a list can be used again", function()
	local space = aoi.new { cell = 10 }
	for i = 1, 10 do space:add(i, 0, 0, 5) end
	local list = {}
	local same, count = space:update(list)
	test.ok(same == list)
	test.eq({ #list, count }, { 270, 90 })
	space:move(1, 1, 0)
	test.eq(#update(space, list), 9)
	test.eq(#list, 27)
	test.eq(#update(space, list), 0)
	test.eq(next(list), nil)
end)

test.case("wrong arguments name themselves", function()
	local space = aoi.new { cell = 10 }
	space:add(1, 0, 0)
	test.err(function() aoi.new() end, "table expected")
	test.err(function() aoi.new {} end, "aoi option cell must be the size of a cell")
	test.err(function() aoi.new { cell = "x" } end, "aoi option cell must be a number")
	test.err(function() aoi.new { cell = 1, margin = -1 } end, "aoi option margin must be a number that is not negative")
	test.err(function() aoi.new { cell = 1 / 0 } end, "aoi option cell")
	test.err(function() space:add(1, 0, 0) end, "aoi: there is an object 1 already")
	test.err(function() space:add(2, 0 / 0, 0) end, "is not finite, or too many cells away")
	test.err(function() space:add(2, 0, math.huge) end, "is not finite")
	test.err(function() space:add(2, 1e300, 0) end, "too many cells away")
	test.err(function() space:add(2, 0, 0, -1) end, "range must be 0 or more")
	test.err(function() space:add(2, 0, 0, 1e10) end, "at most 2^23 cells")
	test.err(function() space:add(2, 0, 0, 0 / 0) end, "range must be 0 or more")
	test.err(function() space:add(2, 0, 0, nil, true) end, "a hidden object needs a range")
	test.err(function() space:move(2, 0, 0) end, "aoi: there is no object 2")
	test.err(function() space:set_range(1, 5) end, "aoi: object 1 does not watch")
	test.err(function() space:remove("x") end, "number expected")
	test.err(function() space:update(5) end, "table expected")
	local cells = aoi.new { cell = 1, by_cells = true }
	test.err(function() cells:add(1, 0, 0, 1.5) end, "whole when it counts cells")
	space:close()
	space:close()
	test.err(function() space:update() end, "the space is closed")
end)

-- The oracle: every pair is compared at each update.
local function oracle_update(model, options)
	local texts = {}
	for wid, w in pairs(model.objects) do
		for mid, m in pairs(w.range and model.objects or {}) do
			local key = wid .. " " .. mid
			local sees = model.pairs[key]
			local limit = w.range + (sees and options.margin or 0)
			local near
			if options.by_cells then
				local c = options.cell
				near = math.abs(w.x // c - m.x // c) <= limit and math.abs(w.y // c - m.y // c) <= limit
			else
				near = (w.x - m.x) ^ 2 + (w.y - m.y) ^ 2 <= limit ^ 2
			end
			near = near and wid ~= mid and not m.hidden
			if near and not sees then
				texts[#texts + 1] = "enter " .. key
				model.pairs[key] = true
			elseif sees and not near then
				texts[#texts + 1] = "leave " .. key
				model.pairs[key] = nil
			elseif near and m.moved then
				texts[#texts + 1] = "move " .. key
			end
		end
	end
	for _, o in pairs(model.objects) do o.moved = nil end
	for _, text in ipairs(model.left) do texts[#texts + 1] = text end
	model.left = {}
	return sorted(texts)
end

local function remove_from(model, id)
	for key in pairs(model.pairs) do
		local w, m = key:match "(%d+) (%d+)"
		if m == id then model.left[#model.left + 1] = "leave " .. key end
		if m == id or w == id then model.pairs[key] = nil end
	end
	model.objects[id] = nil
end

local function run_model(options)
	local R = math.random
	local space, model = aoi.new(options), { objects = {}, pairs = {}, left = {} }
	local function place() return R(-200, 200) / 2, R(-200, 200) / 2 end
	local function range() return R(0, options.by_cells and 4 or 120) end
	local removed = {} -- since the last update: not to be added again until then
	for _ = 1, ROUNDS do
		local id, what = R(1, 60), R(12)
		local name = tostring(id)
		local o = model.objects[name]
		if not o and not removed[id] then
			local x, y = place()
			local r = R(2) == 1 and range() or nil
			local hidden = r ~= nil and R(3) == 1
			space:add(id, x, y, r, hidden)
			model.objects[name] = { x = x, y = y, range = r, hidden = hidden }
		elseif o and what <= 7 then
			local x, y = place()
			if R(2) == 1 then x, y = o.x + R(-3, 3), o.y + R(-3, 3) end
			if x ~= o.x or y ~= o.y then o.moved = true end
			o.x, o.y = x, y
			space:move(id, x, y)
		elseif o and what == 8 and o.range then
			o.range = range()
			space:set_range(id, o.range)
		elseif o and what == 9 then
			remove_from(model, name)
			removed[id] = true
			space:remove(id)
		elseif what >= 11 then
			removed = {}
			test.eq(update(space), oracle_update(model, options))
		end
	end
	test.eq(update(space), oracle_update(model, options))
	for name, o in pairs(model.objects) do
		local want = {}
		for key in pairs(model.pairs) do
			local w, m = key:match "(%d+) (%d+)"
			if w == name then want[#want + 1] = m // 1 | 0 end
		end
		if o.range then test.eq(sorted(space:seen_by(name // 1 | 0)), sorted(want)) end
	end
end

test.case("random operations agree with comparing every pair", function()
	local seed = os.time()
	math.randomseed(seed)
	for _, options in ipairs {
		{ cell = 10, margin = 0 }, { cell = 7, margin = 4 }, { cell = 100, margin = 0.5 }, { cell = 1, margin = 10 },
		{ cell = 10, margin = 0, by_cells = true }, { cell = 25, margin = 1, by_cells = true },
	} do
		local ok, err = pcall(run_model, options)
		test.ok(ok, ("seed %d, cell %g, margin %g: %s"):format(seed, options.cell, options.margin, err))
	end
end)

test.case("the service's memory limit holds, and loses nothing", function()
	local agent = rt.agent()
	local ok, err, count, last = rt.run(agent, [[
		skynet.memlimit(4 * 1024 * 1024)
		local space = require "skynet.aoi".new { cell = 10 }
		local ok, err = pcall(function() for i = 1, 1000000 do space:add(i, i, i) end end)
		local count = space:stat().objects
		skynet.retpack(ok, err, count, space:place(count) == count and space:place(count + 1) == nil)
	]])
	test.eq(ok, false)
	test.match(err, "not enough memory")
	test.ok(count > 1000)
	test.eq(last, true)
	require "skynet.manager".kill(agent)
end)

test.run()
