-- skynet.sharetable: a large table that many services read costs its size once.
-- SHARE_MB and SHARE_SERVICES in the environment make it larger: 100 and 1000 are
-- what the design promises.

local skynet = require "skynet"
local sharetable = require "skynet.sharetable"
local core = require "skynet.sharetable.core"
local memory = require "skynet.memory"
local test = require "testlib"

local is_release = skynet.getenv "test_variant" == "release"
local BYTES = (tonumber(os.getenv "SHARE_MB") or (is_release and 4 or 1)) * 1024 * 1024
local SERVICES = tonumber(os.getenv "SHARE_SERVICES") or (is_release and 200 or 50)

-- What one row of the table below takes.
local ROW = 225

local SOURCE = [[
local rows = ...
local t = { rows = rows }
for i = 1, rows do
	t[i] = { id = i, name = "row " .. i % 1000, at = { i, i * 2 }, open = i % 2 == 0 }
end
return t]]

local function readers()
	local list = {}
	for i = 1, SERVICES do
		list[i] = assert(skynet.newservice "st_reader")
		-- So that each has the module, and the service behind it is there.
		skynet.call(list[i], "lua", "query", "no such table")
	end
	return list
end

-- All readers at the same time.
local function each(list, ...)
	local request = skynet.request()
	for _, r in ipairs(list) do
		request:add { r, "lua", ... }
	end
	local n = 0
	for _, answer in request:select() do
		n = n + 1
		test.ok(answer, "an answer")
	end
	test.eq(n, #list)
end

test.case("a large table that many services read costs its size once", function()
	if not core.is_shared then
		test.skip "copies are private"
	end
	local list = readers()
	-- What idle workers would collect sooner or later is not to be missed below.
	skynet.call(".launcher", "lua", "GC")
	collectgarbage()
	local before, frozen = memory.total(), core.stats()
	sharetable.loadstring("large", SOURCE, BYTES // ROW)
	local size = skynet.call(sharetable.address, "debug", "INFO").large.size
	test.ok(size > BYTES * 0.8 and size < BYTES * 1.5, "size " .. size)
	each(list, "query", "large")
	each(list, "get", "large", BYTES // ROW, "at", 2)
	local grown = memory.total() - before
	-- A copy for each would be SERVICES times the size.
	test.ok(grown < size * 1.25 + SERVICES * 10000, string.format("%d bytes for %d", grown, size))
	if memory.total() > 0 then
		test.ok(grown > size * 0.9, string.format("%d bytes for %d", grown, size))
	end
	-- The readers' own VMs have not grown, and their collectors do not walk it.
	for i = 1, 5 do
		local kib = skynet.call(list[i], "lua", "memory", "large")
		test.ok(kib < 100, "KiB " .. kib)
	end
	each(list, "drop", "large")
	sharetable.unload "large"
	test.wait_for(function() return core.stats() == frozen end)
	for _, r in ipairs(list) do
		skynet.call(r, "lua", "exit")
	end
	test.wait_for(function() return memory.total() - before < size / 2 end)
end)

test.run()
