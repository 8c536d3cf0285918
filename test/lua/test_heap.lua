-- skynet.heap: snapshots of the own heap, differences, samples of what allocates.
local skynet = require "skynet"
local heap = require "skynet.heap"
local memory = require "skynet.memory"
local test = require "testlib"

-- Places: a global, and an upvalue of the functions of this chunk.
marker = {}
local hidden = {}

local function place(snapshot, pattern)
	local count, bytes = 0, 0
	for name, figure in pairs(snapshot.places) do
		if name:find(pattern) then
			count = count + figure.count
			bytes = bytes + figure.bytes
		end
	end
	return count, bytes
end

-- What the allocator has handed out. Lua's own count has not the bytes of long strings.
local function allocated()
	return memory.services()[skynet.self()].lua
end

test.case("a snapshot adds up to the heap", function()
	marker[1] = ("built in a buffer"):rep(10000)
	collectgarbage()
	collectgarbage()
	local used = allocated()
	local s = heap.snapshot()
	test.eq(s.truncated, false)
	-- The walk itself leaves a little behind.
	test.ok(math.abs(s.bytes - used) < used * 0.01 + 2048, s.bytes .. " of " .. used)
	local count, bytes = 0, 0
	for _, figure in pairs(s.types) do
		count = count + figure.count
		bytes = bytes + figure.bytes
	end
	test.eq(bytes, s.bytes)
	test.eq(count, s.count + 1) -- the state itself is no object
end)

test.case("objects are found by type and by place", function()
	for i = 1, 1000 do
		marker[i] = { name = "name " .. i, sub = {} }
		hidden["key " .. i] = { i }
	end
	local s = heap.snapshot()
	test.eq((place(s, "^_G%.marker$")), 1)
	test.eq((place(s, "^_G%.marker%[%]$")), 1000)
	test.eq((place(s, "^_G%.marker%[%]%.name$")), 1000)
	test.eq((place(s, "^_G%.marker%[%]%.sub$")), 1000)
	-- Too many different keys to name each.
	test.ok((place(s, "test_heap.lua:%d+%^hidden%[%*%]$")) >= 1900)
	local _, bytes = place(s, "^_G%.marker%[%]$")
	test.ok(bytes >= 1000 * 56 and bytes <= 1000 * 200, bytes)
	test.ok(s.types.table.count >= 3000, s.types.table.count)
end)

test.case("sizes are those that the allocator sees", function()
	local long = ("long "):rep(20)
	marker = {}
	collectgarbage()
	collectgarbage()
	collectgarbage "stop"
	local before = heap.snapshot().bytes
	local used = allocated()
	for i = 1, 100 do
		marker[i] = { [i] = i, x = { i, i, i }, s = long .. i, f = function() return i end }
	end
	marker[101] = coroutine.create(function() end)
	marker[102] = ("very long"):rep(1000)
	local grown = allocated() - used
	local seen = heap.snapshot().bytes - before
	collectgarbage "restart"
	-- The first snapshot has become garbage, as old arrays have that grew.
	test.ok(seen <= grown + 2048 and seen > grown * 0.8, seen .. " of " .. grown)
end)

test.case("a difference names what grew and what went", function()
	marker = {}
	collectgarbage()
	heap.keep("mine", heap.snapshot())
	for i = 1, 500 do
		marker[i] = { i }
	end
	local d = heap.compare "mine"
	test.eq((place(d, "^_G%.marker%[%]$")), 500)
	test.ok(d.bytes > 500 * 56)
	heap.keep("mine", heap.snapshot())
	marker = {}
	collectgarbage()
	d = heap.compare "mine"
	test.eq((place(d, "^_G%.marker%[%]$")), -500)
	heap.forget "mine"
	test.err(function() heap.compare "mine" end, "no snapshot was kept under the name mine")
	test.err(function() heap.compare() end, "no snapshot")
end)

test.case("a limit of objects ends the walk", function()
	local s = heap.snapshot(100)
	test.eq(s.count, 100)
	test.eq(s.truncated, true)
	test.ok(heap.text(s):find "not everything")
	test.err(function() heap.snapshot(0) end, "positive number")
	test.err(function() heap.snapshot "all" end, "number expected")
end)

test.case("cycles, deep chains, threads and metatables are walked", function()
	local chain = {}
	marker.chain = chain
	for _ = 1, 20000 do
		chain.next = { back = chain }
		chain = chain.next
	end
	marker.self = marker
	local co = coroutine.wrap(function(...)
		local held = { ... }
		coroutine.yield(held)
	end)
	co(1, 2, 3)
	marker.co = co
	marker.meta = setmetatable({}, { __index = { deep = {} } })
	local s = heap.snapshot()
	test.ok(s.types.table.count >= 20000)
	test.eq((place(s, "^_G%.marker%.meta<meta>%.__index%.deep$")), 1)
	for name in pairs(s.places) do
		test.ok(#name < 200)
	end
	marker = {}
end)

test.case("samples name the lines that allocate", function()
	heap.sample(256)
	local keep, line = {}
	for i = 1, 2000 do
		keep[i] = { i, { i } }
	end
	line = debug.getinfo(1, "l").currentline - 2
	local function sum(field)
		local bytes = 0
		for name, site in pairs(heap.sites()) do
			local at = tonumber(name:match "test_heap%.lua:(%d+)$")
			if at and math.abs(at - line) <= 1 then
				bytes = bytes + site[field]
			end
		end
		return bytes
	end
	local all, live = sum "all", sum "live"
	test.ok(all > 2000 * 100, all)
	test.ok(live > 2000 * 100 and live <= all, live)
	keep = nil
	collectgarbage()
	collectgarbage()
	test.ok(sum "live" < live / 10, sum "live")
	test.eq(sum "all", all)
	test.ok(heap.sites_text():find "test_heap.lua")
	heap.sample(0)
	test.eq(next(heap.sites()), nil)
	test.err(function() heap.sample(-1) end, "not a number of bytes")
end)

test.case("sampling survives stacks, coroutines, errors and a quota", function()
	heap.sample(16)
	skynet.memquota(1 << 40)
	local function deep(n)
		return n == 0 and {} or { deep(n - 1) }
	end
	for i = 1, 50 do
		local co = coroutine.wrap(function()
			deep(100)
			coroutine.yield()
			error { ("e"):rep(i * 100) }
		end)
		co()
		pcall(co)
		pcall(string.rep, "x", -1)
		skynet.fork(deep, 50)
	end
	skynet.sleep(0)
	collectgarbage()
	test.ok(next(heap.sites()) ~= nil)
	skynet.memquota(0)
	heap.sample(0)
end)

test.case("long strings may outlive the sampling, or the quota, that saw them made", function()
	local function strings()
		local list = {}
		for i = 1, 100 do
			list[i] = ("sampled"):rep(1000 + i)
		end
		return list
	end
	local before = allocated()
	local plain = strings()
	heap.sample(64)
	local sampled = strings()
	skynet.memquota(1 << 40)
	local limited = strings()
	heap.sample(0)
	local last = strings()
	skynet.memquota(0)
	test.ok(allocated() > before + 4 * 100 * 7000)
	test.eq({ #plain, #sampled, #limited, #last }, { 100, 100, 100, 100 })
	plain, sampled, limited, last = nil, nil, nil, nil
	collectgarbage()
	test.ok(allocated() < before + 100 * 7000, allocated() - before)
end)

test.case("the debug class takes them in a running service", function()
	local target = skynet.newservice "quota_target"
	local text = skynet.call(target, "debug", "HEAP", "snapshot")
	test.ok(text:find "by type:" and text:find "by place:" and text:find "_G", text)
	skynet.call(target, "lua", "c")
	text = skynet.call(target, "debug", "HEAP", "diff")
	test.ok(text:find "%^hold", text)
	test.ok(not pcall(skynet.call, target, "debug", "HEAP", "nothing"))
	skynet.call(target, "lua", "free")
	skynet.send(target, "debug", "EXIT")
end)

test.run()
