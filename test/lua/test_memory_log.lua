-- skynet.memory: what it writes to the log (core.md 9.2).
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet"
local memory = require "skynet.memory"
local rt = require "rt"
local test = require "testlib"

local has_accounts = memory.total() > 0

test.case("dump has a line for each service, and the total", function()
	if not has_accounts then
		test.skip "no accounting in this build"
	end
	local mark = rt.mark()
	memory.dump()
	rt.logged("^%[:00000000%] %+total: %d+kb$", mark)
	-- The node may complain of something meanwhile, as of a callback that does not end.
	local lines = rt.lines("^%[:00000000%] [d:+]", mark)
	test.eq(lines[1], "[:00000000] dump all service mem:")
	local seen, sum = {}, 0
	for i = 2, #lines - 1 do
		local handle, kib, rest = lines[i]:match "^%[:0+%] :(%x+) %-> (%d+)kb (%d+)b$"
		test.eq({ #handle, seen[handle] }, { 8 }, lines[i])
		seen[handle] = true
		sum = sum + kib * 1024 + rest
	end
	test.ok(seen[skynet.address(skynet.self()):sub(2)])
	test.eq(lines[#lines], ("[:00000000] +total: %dkb"):format(sum // 1024))
end)

test.case("without jemalloc each question is answered by a line", function()
	if has_accounts then
		test.skip "this build has jemalloc"
	end
	local mark = rt.mark()
	memory.dumpinfo()
	rt.logged("^%[:00000000%] No jemalloc$", mark)
	test.eq(memory.mallctl "arenas.page", 0)
	rt.logged("^%[:00000000%] No jemalloc : mallctl_int64 arenas%.page%.$", mark)
	test.eq(memory.profactive(), false)
	rt.logged("^%[:00000000%] No jemalloc : mallctl_%w+ ", mark)
end)

test.run()
