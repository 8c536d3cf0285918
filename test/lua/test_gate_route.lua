-- Packages that a gate sends to agents without looking at them: what is told of a
-- connection is the same as without agents. The test is the watchdog.
-- also with: socket_thread = 3
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local test = require "testlib"
local rt = require "rt"
local watchdog = require "watchdog"

local expect, frame, numbers = watchdog.expect, watchdog.frame, watchdog.numbers

local gate, port, agent

local function open_gate(conf)
	gate, port = watchdog.open("gate", conf)
	agent = skynet.newservice "sv_agent"
end

local function connect(address)
	return watchdog.connect(gate, "127.0.0.1", port, "forward", 0, address or agent)
end

local function close(...)
	watchdog.close({ ... }, gate, agent)
end

-- Wait for packages 1 to n of fd at the agent, in order.
local function expect_numbers(fd, n)
	local notes = test.wait_for(function()
		local list = skynet.call(agent, "lua", "notes")
		return #list >= n and list
	end, 6000)
	for i, note in ipairs(notes) do
		test.eq(note, { fd, gate, tostring(i) })
	end
	test.eq(#notes, n)
end

test.case("packages in any pieces arrive once and in order", function()
	open_gate {}
	local id, fd = connect()
	local bytes = numbers(1, 2000)
	local at = 1
	while at <= #bytes do
		local n = math.random(1, 40)
		socket.write(id, bytes:sub(at, at + n - 1))
		at = at + n
	end
	expect_numbers(fd, 2000)
	close(id)
end)

test.case("what came before an agent was named goes to the watchdog", function()
	open_gate {}
	local id = assert(socket.open("127.0.0.1", port))
	local fd = expect "open"[2]
	skynet.call(gate, "lua", "accept", fd)
	socket.write(id, frame "early" .. "\0\4l")
	test.eq(expect("data", fd)[3], "early")
	skynet.call(gate, "lua", "forward", fd, 0x77, agent)
	socket.write(id, "ate")
	test.eq(test.wait_for(function()
		return skynet.call(agent, "lua", "notes")[1]
	end), { fd, 0x77, "late" })
	skynet.call(gate, "lua", "accept", fd)
	socket.write(id, frame "again")
	test.eq(expect("data", fd)[3], "again")
	close(id)
end)

test.case("an agent may be known by name", function()
	open_gate {}
	skynet.name(".route_agent", agent)
	local id, fd = connect ".route_agent"
	socket.write(id, numbers(1, 3))
	expect_numbers(fd, 3)
	close(id)
end)

test.case("too many packages are slowed down, none is lost, and a line tells", function()
	local mark = rt.mark()
	open_gate { package_rate = 200, package_burst = 10 }
	local id, fd = connect()
	socket.write(id, numbers(1, 60))
	expect_numbers(fd, 60)
	socket.write(id, numbers(61, 65))
	expect_numbers(fd, 65)
	rt.logged("slow down %d+ of 127.*: it sends more than its package_rate of 200", mark)
	close(id)
end)

test.case("or the connection is closed, if that is the policy", function()
	local mark = rt.mark()
	open_gate { package_rate = 100, package_burst = 10, rate_policy = "close" }
	local id, fd = connect()
	socket.write(id, numbers(1, 100))
	test.eq(socket.read(id, 1), false)
	expect("close", fd)
	rt.logged("close %d+ of 127.*: it sends more than its package_rate", mark)
	close(id)
end)

test.case("a package over the limit is refused by its length", function()
	local mark = rt.mark()
	open_gate { maxpackage = 100 }
	local id, fd = connect()
	socket.write(id, frame "1" .. "\0\101")
	test.eq(socket.read(id, 1), false)
	expect_numbers(fd, 1)
	expect("close", fd)
	rt.logged("a package of 101 bytes is too large; raise maxpackage %(100%)", mark)
	close(id)
end)

test.case("who speaks to an agent is not silent", function()
	local mark = rt.mark()
	open_gate { first_timeout = 300, idle_timeout = 300 }
	local id, fd = connect()
	local silent, silent_fd = connect()
	local n = 0
	test.wait_for(function()
		n = n + 1
		socket.write(id, numbers(n, n))
		return #rt.lines("close silent connection " .. silent_fd, mark) > 0
	end)
	expect_numbers(fd, n)
	test.eq(rt.lines("close silent connection " .. fd .. " ", mark), {})
	close(id, silent)
end)

test.case("a line names the agent that is gone, and the connection ends", function()
	local mark = rt.mark()
	open_gate {}
	local id, fd = connect()
	local other = skynet.newservice "sv_agent"
	local id2 = connect(other)
	skynet.kill(other)
	socket.write(id2, numbers(1, 100))
	test.eq(socket.read(id2, 1), false)
	rt.logged("gate: agent " .. skynet.address(other) .. " of fd %(%d+%) is gone", mark)
	socket.write(id, numbers(1, 2))
	expect_numbers(fd, 2)
	close(id, id2)
end)

test.case("what arrives after a kick reaches nobody", function()
	open_gate {}
	local id, fd = connect()
	socket.write(id, numbers(1, 1))
	expect_numbers(fd, 1)
	-- The gate has both before it looks at either.
	skynet.send(gate, "lua", "kick", fd)
	socket.write(id, numbers(2, 50))
	expect("close", fd)
	test.ok(#skynet.call(agent, "lua", "notes") <= 50)
	socket.close(id)
	local id2, fd2 = connect()
	socket.write(id2, frame "new")
	test.wait_for(function()
		local notes = skynet.call(agent, "lua", "notes")
		return notes[#notes][1] == fd2
	end)
	close(id2)
end)

watchdog.run()
