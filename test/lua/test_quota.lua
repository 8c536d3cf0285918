-- skynet.memquota: limits over Lua heap, C memory, mailbox and socket buffers.
local skynet = require "skynet"
local core = require "skynet.core"
local memory = require "skynet.memory"
local socket = require "skynet.socket"
local test = require "testlib"

local KIB, MIB = 1024, 1024 * 1024
local HARD = 8 * MIB
local has_accounts = memory.total() > 0

local function target(hard, warn)
	local handle = skynet.newservice "quota_target"
	skynet.call(handle, "lua", "quota", hard, warn)
	return handle
end

-- Somebody else allocates a lot meanwhile, and is not hurt.
local function others_are_fine()
	local t = {}
	for i = 1, 100 do
		t[i] = ("o"):rep(100 * KIB) .. i
	end
	return #t == 100
end

test.case("without arguments it tells what is set and used", function()
	local handle = skynet.newservice "quota_target"
	local hard, warn, total = skynet.call(handle, "lua", "quota")
	test.eq(hard, 0)
	test.eq(warn, 0)
	test.ok(total > 10 * KIB and total < MIB, total)
	hard, warn = skynet.call(handle, "lua", "quota", HARD, MIB)
	test.eq(hard, HARD)
	test.eq(warn, MIB)
	hard, warn = skynet.call(handle, "lua", "quota", 0)
	test.eq(hard, 0)
	test.eq(warn, 0)
	skynet.send(handle, "debug", "EXIT")
end)

test.case("bad limits are refused", function()
	test.err(function() skynet.memquota(-1) end, "not a number of bytes")
	test.err(function() skynet.memquota("much") end, "number expected")
	test.err(function() skynet.memquota(0 / 0) end, "not a number of bytes")
end)

test.case("the Lua heap reaches the limit, as an error that can be caught", function()
	local handle = target(HARD)
	for _ = 1, 3 do
		local ok, err, n = skynet.call(handle, "lua", "lua")
		test.eq(ok, false)
		test.eq(err, "not enough memory")
		test.ok(n * 32 * KIB > HARD / 2 and n * 32 * KIB <= HARD, n)
	end
	skynet.send(handle, "debug", "EXIT")
end)

if has_accounts then
	test.case("C memory reaches the limit, and the service recovers", function()
		local handle = target(HARD)
		for _ = 1, 3 do
			local ok, err, n = skynet.call(handle, "lua", "c")
			test.eq(ok, false)
			test.eq(err, "not enough memory")
			test.ok(n * 32 * KIB > HARD / 2 and n * 32 * KIB < HARD + MIB, n)
			test.ok(others_are_fine())
			-- What is allowed beyond the limit is C memory's as well.
			local _, _, more = skynet.call(handle, "lua", "c")
			test.ok(more * 32 * KIB < MIB // 2, more)
			skynet.call(handle, "lua", "free")
			local _, _, total = skynet.call(handle, "lua", "quota")
			test.ok(total < MIB, total)
		end
		skynet.send(handle, "debug", "EXIT")
	end)

	test.case("received data reaches the limit, and the service recovers", function()
		local CONNECTIONS, SIZE = 32, 64 * KIB
		local handle = target(CONNECTIONS * SIZE // 2)
		local port = skynet.call(handle, "lua", "listen")
		local text = ("r"):rep(SIZE)
		local ends = {}
		for i = 1, CONNECTIONS do
			ends[i] = assert(socket.open("127.0.0.1", port))
			socket.write(ends[i], text)
		end
		-- Whatever it fails at meanwhile, what arrives is charged to it.
		test.wait_for(function() return memory.services()[handle].c > CONNECTIONS * SIZE // 2 end)
		test.ok(others_are_fine())
		test.wait_for(function()
			local ok, err = pcall(skynet.call, handle, "lua", "lua")
			return not ok or err == false
		end)
		for i = 1, CONNECTIONS do
			socket.close(ends[i])
		end
		test.wait_for(function() return pcall(skynet.call, handle, "lua", "unlisten") end)
		test.wait_for(function() return memory.services()[handle].total < MIB // 2 end)
		local ok, err, n = skynet.call(handle, "lua", "lua")
		test.eq(ok, false)
		test.eq(err, "not enough memory")
		test.ok(n * 32 * KIB > MIB // 2, n)
		skynet.send(handle, "debug", "EXIT")
	end)

	test.case("unsent data reaches the limit, and the service recovers", function()
		local handle = target(HARD)
		local accepted = {}
		local listener, _, port = socket.listen("127.0.0.1", 0)
		socket.start(listener, function(fd)
			accepted[#accepted + 1] = fd -- nobody reads
		end)
		local ok, err, n = skynet.call(handle, "lua", "socket", port)
		test.eq(ok, false)
		test.eq(err, "not enough memory")
		test.ok(n * 32 * KIB > HARD / 2, n)
		test.ok(memory.services()[handle].unsent > HARD / 2)
		test.ok(others_are_fine())
		-- The connection breaks: what waited is gone.
		socket.close(listener)
		test.wait_for(function() return #accepted > 0 end)
		socket.close_fd(accepted[1])
		test.wait_for(function() return memory.services()[handle].unsent == 0 end)
		local _, _, total = skynet.call(handle, "lua", "quota")
		test.ok(total < 2 * MIB, total)
		ok, err, n = skynet.call(handle, "lua", "lua")
		test.eq(err, "not enough memory")
		test.ok(n * 32 * KIB > HARD / 2, n)
		skynet.send(handle, "debug", "EXIT")
	end)
end

-- Enough to come from no memory at all to what a connection takes.
local SQUEEZES = 256

test.case("a connection that is opened without memory for it is closed", function()
	local handle = skynet.newservice "quota_target"
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.accept(listener, function(id)
		socket.readall(id)
		socket.close(id)
	end)
	local failed, opened = skynet.call(handle, "lua", "squeeze_open", port, SQUEEZES)
	test.ok(failed > 0 and opened > 0, failed)
	socket.close(listener)
	test.wait_for(function() return #socket.netstat() == 0 end)
	skynet.send(handle, "debug", "EXIT")
end)

test.case("a connection that is accepted without memory for it is closed", function()
	local handle = skynet.newservice "quota_target"
	local port = skynet.call(handle, "lua", "squeeze_accept")
	local failed = 0
	for _ = 1, SQUEEZES do
		local id = socket.open("127.0.0.1", port)
		local line, problem = socket.readline(id, "\n", 6000)
		test.ne(problem, "timeout")
		if not line then
			failed = failed + 1
		end
		socket.close(id)
	end
	test.ok(failed > 0 and failed < SQUEEZES, failed)
	skynet.send(handle, "debug", "EXIT")
end)

test.case("a flood of messages reaches the limit, and the service recovers", function()
	local handle = target(HARD)
	local count = 3 * HARD // (4 * KIB)
	local text = ("m"):rep(4 * KIB)
	if skynet.getenv "thread" ~= "1" then
		-- With one worker it cannot run before all is sent.
		skynet.call(handle, "lua", "wait", count)
	end
	for _ = 1, count do
		skynet.send(handle, "lua", "flood", text)
	end
	test.ok(others_are_fine())
	-- Behind the flood. As long as it lasts messages fail; then they do not.
	local ok, handled
	test.wait_for(function()
		ok, handled = pcall(skynet.call, handle, "lua", "handled")
		return ok
	end)
	test.ok(handled < count, "some messages failed", handled)
	test.ok(handled >= HARD // (4 * KIB) // 2, "those that fit were handled", handled)
	test.wait_for(function() return memory.services()[handle].messages == 0 end)
	skynet.send(handle, "debug", "EXIT")
end)

test.run()
