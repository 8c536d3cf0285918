-- Services that keep data for others, and their readers, whose allocations fail, each in its
-- turn: a request fails or is done, who waits hears of it, and nothing is kept.

local skynet = require "skynet"
local datacenter = require "skynet.datacenter"
local oom = require "oom"
local rt = require "rt"
local test = require "testlib"

-- Allocations that fail one after the other.
local BURST = 30

local function sweep(handle, exchange, check, more)
	local s = more or {}
	s.handle = handle
	s.exchange = function() pcall(exchange) end
	s.check = check or exchange
	test.ok(oom.sweep(s) > 1, "nothing failed")
	s.times = BURST
	oom.sweep(s)
end

---The handle of a service with a name, which is watched from now on. Yields.
local function watched(name)
	local handle = tonumber(oom.run(name, "print(require 'skynet'.self())"))
	oom.watch(handle)
	return handle
end

test.case("datacenter, set, query and wait", function()
	local paths = { { "a", "b", "c" }, { "a", "b", "c" }, { "a", "d" } }
	local waits = {}
	local handle = watched "DATACENTER"

	local function exchange()
		for i, path in ipairs(paths) do
			waits[i] = rt.start(datacenter.wait, table.unpack(path))
		end
		skynet.yield()
		datacenter.set("x", { y = { 1, 2, 3 } })
		test.eq(datacenter.get "x", { y = { 1, 2, 3 } })
		datacenter.set("a", "b", "c", "value")
		datacenter.set("a", { d = 5, b = { c = "value" } })
	end

	-- Who waits has got an answer or waits for something that is not there.
	local function settle()
		oom.collect(handle)
		for i, path in ipairs(paths) do
			local value = datacenter.get(table.unpack(path))
			test.ok(waits[i].done or value == nil, "waits for what is there")
		end
		local a = datacenter.get "a"
		test.ok(a == nil or next(a), "a branch without leaves")
		datacenter.set("a", nil)
		datacenter.set("a", { d = 5, b = { c = "value" } })
		for _, w in ipairs(waits) do
			rt.join(w)
		end
		datacenter.set("a", nil)
		datacenter.set("x", nil)
	end

	sweep(handle, exchange, function()
		settle()
		exchange()
		test.eq({ waits[1].value, waits[2].value, waits[3].value }, { "value", "value", 5 })
		settle()
		test.eq(datacenter.get "a", nil)
	end)
end)

test.run()
