-- Connections that come and go, in every way a connection can end: descriptors, ids and
-- memory are as before. Two seconds in `make test`, or less; as long as SOAK_SECONDS says
-- in `make soak`.
-- also with: socket_thread = 3

local skynet = require "skynet"
local memory = require "skynet.memory"
local socket = require "skynet.socket"
local driver = require "skynet.socketdriver"
local test = require "testlib"

local LANES = 32
local SOAK_SECONDS = tonumber(skynet.getenv "soak_seconds")
local SECONDS = SOAK_SECONDS or 2
-- Each keeps a port of its client for a minute (TIME_WAIT). A fast machine would leave none
-- for the tests that come next.
local MOST = SOAK_SECONDS and math.huge or 6000

-- Errors of connections that were reset are expected, thousands of them.
skynet.error = function() end

local function serve(id)
	if not socket.start(id) then
		return
	end
	local line = socket.readline(id)
	if line == "drop" then
		driver.shutdown(id)
	elseif line then
		socket.write(id, line .. "\n")
		-- Or it is the peer that ends it.
		if line == "close" then
			socket.close(id)
			return
		end
		socket.readline(id)
	end
	socket.close(id)
end

local ends = {}

function ends.client_closes(id)
	socket.write(id, "hello\n")
	test.eq(socket.readline(id), "hello")
end

function ends.server_closes(id)
	socket.write(id, "close\n")
	test.eq(socket.readline(id), "close")
	test.eq(socket.readline(id), false)
end

function ends.server_drops(id)
	socket.write(id, "drop\n")
	test.eq(socket.readline(id), false)
end

function ends.client_resets(id)
	socket.write(id, "half of a li")
	driver.shutdown(id)
end

function ends.client_resets_with_unread_data(id)
	socket.write(id, ("x"):rep(100) .. "\n")
	driver.pause(id)
	driver.shutdown(id)
end

function ends.nobody_speaks() end

local function cycle(port, n)
	local names = {}
	for name in pairs(ends) do names[#names + 1] = name end
	table.sort(names)
	local id = assert(socket.open("127.0.0.1", port))
	ends[names[n % #names + 1]](id)
	socket.close(id)
end

local function run_lanes(port, seconds, most)
	local deadline = skynet.now() + seconds * 100
	local done, left, problem = 0, LANES, nil
	for lane = 1, LANES do
		skynet.fork(function()
			local n = lane
			local ok, err = pcall(function()
				repeat
					cycle(port, n)
					n = n + 1
					done = done + 1
				until skynet.now() >= deadline or done >= most
			end)
			problem = problem or (not ok and err or nil)
			left = left - 1
		end)
	end
	test.wait_for(function() return left == 0 end, seconds * 100 + 6000, "all lanes")
	test.eq(problem, nil)
	return done
end

local function descriptors()
	local stat <close> = assert(io.open "/proc/self/stat")
	local f <close> = assert(io.popen("ls /proc/" .. stat:read "n" .. "/fd"))
	local n = 0
	for _ in f:lines() do n = n + 1 end
	return n
end

local function counters()
	collectgarbage()
	collectgarbage()
	return #socket.netstat(), descriptors(), memory.total() + collectgarbage "count" * 1024
end

test.case("thousands of connections leave nothing behind", function()
	local listener, _, port = socket.listen("127.0.0.1", 0, 1024)
	socket.start(listener, serve)
	-- Before the first: one that nobody has started yet is not in netstat, and has a descriptor.
	local files = descriptors()
	run_lanes(port, 1, MOST // 2)
	test.wait_for(function() return #socket.netstat() == 1 and descriptors() == files end)
	local _, _, bytes = counters()
	local done = run_lanes(port, SECONDS, MOST)
	test.ok(done >= LANES)
	local s, f, b
	local ok = pcall(test.wait_for, function()
		s, f, b = counters()
		-- The gap is for tables and pools that grow in steps.
		return s == 1 and f == files and b <= bytes * 1.05 + 100000
	end, 2000)
	test.ok(ok, string.format("%d connections: sockets %d, descriptors %d (was %d), bytes %.0f (%.0f)",
		done, s, f, files, b, bytes))
	socket.close(listener)
end)

test.run()
