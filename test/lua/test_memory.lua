-- skynet.memory: what the accounts say of this service, and jemalloc's controls.
local skynet = require "skynet"
local core = require "skynet.core"
local memory = require "skynet.memory"
local socket = require "skynet.socket"
local test = require "testlib"

-- A build on the C library's malloc (sanitizers) accounts for nothing.
local has_accounts = memory.total() > 0

if has_accounts then
	-- Receivers of what this service sent before (the launcher, the log service)
	-- free those messages on other threads, any time: look until they are done.

	test.case("a packed message is charged with its header until it is freed", function()
		local text = ("x"):rep(100000)
		test.wait_for(function()
			local before = memory.current()
			local msg, size = core.pack(text)
			local charged = memory.current() - before
			core.trash(msg, size)
			test.eq(size, 100005)
			return charged == 100021 and memory.current() == before
		end)
	end)

	test.case("Lua memory is not charged", function()
		test.wait_for(function()
			local before = memory.current()
			local text = ("y"):rep(100000)
			return #text == 100000 and memory.current() == before
		end)
	end)

	test.case("info lists this service, and block and total count", function()
		local blocks, total = memory.block(), memory.total()
		test.ok(blocks > 0 and total > blocks)
		local msg, size = core.pack(("z"):rep(1000))
		local info
		test.wait_for(function()
			info = memory.info()
			return info[skynet.self()] == memory.current()
		end)
		local sum = 0
		for handle, bytes in pairs(info) do
			test.ok(handle > 0 and handle <= 0xffffffff and math.type(bytes) == "integer")
			sum = sum + bytes
		end
		test.ok(sum > 0)
		core.trash(msg, size)
	end)

	test.case("jestat has jemalloc's five figures", function()
		local stat = memory.jestat()
		for _, name in ipairs { "allocated", "resident", "retained", "mapped", "active" } do
			test.eq(math.type(stat["stats." .. name]), "integer")
		end
		test.ok(stat["stats.allocated"] >= memory.total() / 2)
		test.ok(stat["stats.resident"] >= stat["stats.active"])
	end)

	test.case("mallctl reads integers of any width", function()
		test.eq(memory.mallctl("arenas.page") % 4096, 0)
		test.ok(memory.mallctl("arenas.narenas") > 0)
		test.eq(memory.mallctl("no.such.control"), 0)
		test.err(function() memory.mallctl() end, "string expected")
	end)

	test.case("trim gives pages back", function()
		test.eq(memory.trim(), true)
	end)
else
	test.case("without jemalloc every figure is zero", function()
		test.eq(memory.total(), 0)
		test.eq(memory.block(), 0)
		test.eq(memory.current(), 0)
		test.eq(next(memory.info()), nil)
		test.eq(memory.mallctl("arenas.page"), 0)
		memory.dumpinfo()
	end)
end

test.case("what a socket received belongs to its service, before and after it gets it", function()
	local SIZE = 50000
	local listener, ip, port = socket.listen("127.0.0.1", 0)
	local accepted, may_read, got
	socket.start(listener, function(fd)
		socket.start(fd)
		accepted = fd
		test.wait_for(function() return may_read end)
		got = #assert(socket.read(fd, SIZE))
	end)
	local id = assert(socket.open(ip, port))
	test.wait_for(function() return accepted end)
	local function mine() return memory.services()[skynet.self()] end
	local before = mine()
	test.eq(before.undelivered, 0)
	-- What was sent before is freed meanwhile, see above.
	local function is_charged(m) return not has_accounts or m.c > before.c + SIZE // 2 end
	socket.write(id, ("u"):rep(SIZE))
	-- This message goes on: nothing is delivered, whatever arrives.
	local deadline = skynet.hpc() + 60 * 10 ^ 9
	local m
	repeat
		m = mine()
	until m.undelivered >= SIZE or skynet.hpc() > deadline
	test.eq(m.undelivered, SIZE)
	test.ok(m.messages > 0, "it waits in the mailbox")
	test.ok(is_charged(m), "it is C memory of its service")
	test.eq(memory.top(1, "socket")[1].handle, skynet.self())
	-- It waits in the service for somebody who reads it.
	test.wait_for(function() return mine().undelivered == 0 end)
	test.ok(is_charged(mine()), "it still is")
	may_read = true
	test.wait_for(function() return got end)
	test.eq(got, SIZE)
	if has_accounts then
		test.wait_for(function() return mine().c < before.c + SIZE // 2 end)
	end
	for _, fd in ipairs { listener, id, accepted } do
		socket.close(fd)
	end
end)

test.case("profiling is off and says so", function()
	test.eq(memory.profactive(), false)
	test.eq(memory.dumpheap(), false)
end)

test.run()
