-- One benchmark per start: `bench NAME [arguments]`. Prints one line of the
-- form `bench NAME key=value ...` and ends the node. bench/run.py repeats it.

local skynet = require "skynet"
local manager = require "skynet.manager"

local NS = 1e9

local function peers(n)
	local list = {}
	for i = 1, n do list[i] = skynet.newservice "peer" end
	return list
end

local function resident_bytes()
	local f <close> = assert(io.open "/proc/self/statm")
	local _, pages = f:read("n", "n")
	return pages * 4096
end

local bench = {}

-- Pairs of services, each pair makes `calls` round trips at the same time.
function bench.ping(pairs_count, calls)
	pairs_count, calls = pairs_count or 16, calls or 20000
	local callers, echoes = peers(pairs_count), peers(pairs_count)
	local set = skynet.request()
	for i = 1, pairs_count do
		set:add { callers[i], "lua", "call", echoes[i], calls }
	end
	local start = skynet.hpc()
	for _ in set:select() do end
	local seconds = (skynet.hpc() - start) / NS
	return { calls_per_s = pairs_count * calls / seconds }
end

-- Many senders, one receiver, one-way messages.
function bench.fan(senders, messages)
	senders, messages = senders or 8, messages or 50000
	local sink = skynet.newservice "peer"
	local sources = peers(senders)
	local start = skynet.hpc()
	for _, addr in ipairs(sources) do
		skynet.send(addr, "lua", "flood", sink, messages)
	end
	skynet.call(sink, "lua", "await", senders * messages)
	return { messages_per_s = senders * messages / ((skynet.hpc() - start) / NS) }
end

-- Launch idle services; what each costs in time and resident memory.
function bench.spawn(count)
	count = count or 2000
	local before, start = resident_bytes(), skynet.hpc()
	local list = peers(count)
	local seconds = (skynet.hpc() - start) / NS
	local each = (resident_bytes() - before) / count / 1024
	for _, addr in ipairs(list) do manager.kill(addr) end
	return { services_per_s = count / seconds, resident_kb = each }
end

-- Pending timeouts that all fire within a second.
function bench.timer(count)
	count = count or 200000
	local cpu, left, token = os.clock(), count, {}
	local function fire()
		left = left - 1
		if left == 0 then skynet.wakeup(token) end
	end
	for i = 1, count do skynet.timeout(i % 100 + 1, fire) end
	skynet.wait(token)
	return { timers_per_cpu_s = count / (os.clock() - cpu) }
end

local function read_fields(t, count)
	local sum = 0
	for _ = 1, count do
		sum = sum + t.hp + t.at.x + t.bag[3] + t.level
	end
	return sum
end

local function walk(t, count)
	local n = 0
	for _ = 1, count do
		for _ in pairs(t) do n = n + 1 end
		for _ in ipairs(t.bag) do n = n + 1 end
	end
	return n
end

-- CPU nanoseconds per round of `f` over the one and the other table, in turns.
local function compare(f, a, b, count)
	local spent = { 0, 0 }
	local rounds = 20
	for i = 1, rounds * 2 do
		local which = (i + i // 2) % 2 + 1
		local start = os.clock()
		f(which == 1 and a or b, count // rounds)
		spent[which] = spent[which] + os.clock() - start
	end
	return spent[1] * NS / count, spent[2] * NS / count
end

-- Reading a table that services share, and one of one's own with the same data.
function bench.share(count)
	count = count or 10000000
	local sharetable = require "skynet.sharetable"
	local own = { hp = 97, level = 3, at = { x = 10, y = -3 }, bag = { 12, 13, 500, 70000 }, name = "hero" }
	sharetable.loadtable("bench", own)
	local shared = sharetable.query "bench"
	assert(sharetable.is_sharedtable(shared))
	local own_fields, shared_fields = compare(read_fields, own, shared, count)
	local own_walk, shared_walk = compare(walk, own, shared, count // 10)
	return {
		own_fields_ns = own_fields, shared_fields_ns = shared_fields,
		fields_percent = shared_fields / own_fields * 100,
		own_walk_ns = own_walk, shared_walk_ns = shared_walk,
		walk_percent = shared_walk / own_walk * 100,
	}
end

-- Serialising and reading back a typical game message.
function bench.pack(count)
	count = count or 300000
	local player = {
		uid = 4711, name = "hero", hp = 97.5, alive = true,
		bag = { 12, 13, 500, 70000, 2 ^ 40 // 1 | 0 },
		at = { x = 10.25, y = -3.5 }, note = ("n"):rep(64),
	}
	local start = skynet.hpc()
	for i = 1, count do
		local msg, size = skynet.pack("update", i, player)
		skynet.unpack(msg, size)
		skynet.trash(msg, size)
	end
	return { pairs_per_s = count / ((skynet.hpc() - start) / NS) }
end

-- One lone call at a time on an otherwise idle node.
function bench.latency(count)
	count = count or 2000
	local echo, times = skynet.newservice "peer", {}
	for i = 1, count do
		local start = skynet.hpc()
		skynet.call(echo, "lua", "echo", i)
		times[i] = (skynet.hpc() - start) / 1000
		if i % 20 == 0 then skynet.sleep(1) end
	end
	table.sort(times)
	return { p50_us = times[count // 2], p99_us = times[count * 99 // 100] }
end

for name, run in pairs(require "data") do bench[name] = run end

local name, a, b = ...

skynet.start(function()
	local run = assert(bench[name], "no benchmark " .. tostring(name))
	local result = run(math.tointeger(tonumber(a)), math.tointeger(tonumber(b)))
	local out = {}
	for key, value in pairs(result) do
		out[#out + 1] = string.format("%s=%.1f", key, value)
	end
	table.sort(out)
	print("bench " .. name .. " " .. table.concat(out, " "))
	manager.abort()
end)
