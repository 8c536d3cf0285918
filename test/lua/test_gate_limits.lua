-- Limits of a gate. The test is the watchdog, its clients are sockets of its own.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local test = require "testlib"
local rt = require "rt"
local watchdog = require "watchdog"

local told, take, expect = watchdog.told, watchdog.take, watchdog.expect
local frame, numbers = watchdog.frame, watchdog.numbers

local gate, port

local function open_gate(conf)
	gate, port = watchdog.open("gate", conf)
end

local function connect(host)
	return watchdog.connect(gate, host or "127.0.0.1", port, "accept")
end

local function close(...)
	watchdog.close({ ... }, gate)
end

-- Wait for n packages of fd, in order.
local function expect_numbers(fd, n)
	for i = 1, n do
		test.eq(expect("data", fd)[3], tostring(i))
	end
end

test.case("too many packages are slowed down, none is lost, and a line tells", function()
	local mark = rt.mark()
	open_gate { package_rate = 200, package_burst = 10 }
	local id, fd = connect()
	socket.write(id, numbers(1, 60))
	expect_numbers(fd, 60)
	socket.write(id, numbers(1, 5))
	expect_numbers(fd, 5)
	local line = rt.logged("slow down", mark)
	test.match(line, "gateserver: slow down %d+ of 127%.0%.0%.1:%d+: it sends more than its "
		.. "package_rate of 200 per second; raise it if that is meant")
	close(id)
end)

test.case("too many bytes are slowed down", function()
	local mark = rt.mark()
	open_gate { byte_rate = 20000, byte_burst = 5000 }
	local id, fd = connect()
	local all = {}
	for i = 1, 20 do
		all[i] = frame(tostring(i):rep(500))
	end
	-- Written one by one, a busy machine may spread them over the time that they may take.
	socket.write(id, table.concat(all))
	for i = 1, 20 do
		test.eq(expect("data", fd)[3], tostring(i):rep(500))
	end
	rt.logged("more than its byte_rate of 20000", mark)
	close(id)
end)

test.case("connections of one address share its rates", function()
	local mark = rt.mark()
	open_gate { address_package_rate = 2, address_package_burst = 10 }
	local id, fd = connect()
	local id2, fd2 = connect()
	socket.write(id, numbers(1, 8))
	socket.write(id2, numbers(1, 8))
	expect_numbers(fd, 8)
	expect_numbers(fd2, 8)
	rt.logged("more than its address_package_rate of 2 ", mark)
	close(id, id2)
end)

test.case("or the connection is closed, if that is the policy", function()
	local mark = rt.mark()
	open_gate { package_rate = 100, package_burst = 10, rate_policy = "close" }
	local id, fd = connect()
	socket.write(id, numbers(1, 10))
	expect_numbers(fd, 10)
	socket.write(id, numbers(1, 100))
	test.eq(socket.read(id, 1), false)
	expect("close", fd)
	rt.logged("close %d+ of 127.*: it sends more than its package_rate", mark)
	close(id)
end)

test.case("peers on this machine are free unless limits are given", function()
	local mark = rt.mark()
	open_gate {}
	local id, fd = connect()
	local n = 150000 -- more than the default burst
	socket.write(id, numbers(1, n))
	test.wait_for(function()
		return #told >= n
	end, 6000)
	expect_numbers(fd, 10)
	watchdog.forget()
	test.eq(rt.lines("slow down", mark), {})
	close(id)
end)

test.case("a package over the limit is refused by its length", function()
	local mark = rt.mark()
	open_gate { maxpackage = 100 }
	local id, fd = connect()
	-- The payload never comes.
	socket.write(id, frame "before" .. "\0\101")
	test.eq(socket.read(id, 1), false)
	test.eq(expect("data", fd)[3], "before")
	expect("close", fd)
	rt.logged("a package of 101 bytes is too large; raise maxpackage %(100%)", mark)
	close(id)
end)

test.case("a line has the address that was told, of whatever kind", function()
	for _, host in ipairs { "127.0.0.1", "::1" } do
		local mark = rt.mark()
		open_gate { address = host, maxpackage = 100 }
		local id = assert(socket.open(host, port))
		local opened = expect "open"
		skynet.call(gate, "lua", "accept", opened[2])
		socket.write(id, "\0\101")
		expect("close", opened[2])
		local line = rt.logged("is too large", mark)
		test.eq(line:match "close %d+ of (.*): a package", opened[3])
		close(id)
	end
end)

test.case("silence is ended, with the option to change in the log", function()
	local mark = rt.mark()
	open_gate { first_timeout = 60, idle_timeout = 60000 }
	local id, fd = connect()
	expect("close", fd)
	rt.logged("close silent connection %d+ of 127.*: no first package in 60/100 s; raise first_timeout", mark)
	close(id)
	open_gate { first_timeout = 60000, idle_timeout = 60 }
	id, fd = connect()
	-- A package that never ends is silence.
	socket.write(id, frame "hello" .. "\200\0")
	expect("data", fd)
	local is_dripping = true
	skynet.fork(function()
		while is_dripping and socket.write(id, "\0") do
			skynet.sleep(5)
		end
	end)
	expect("close", fd)
	is_dripping = false
	rt.logged("no package in 60/100 s; raise idle_timeout", mark)
	close(id)
end)

test.case("who speaks often enough stays", function()
	open_gate { first_timeout = 200, idle_timeout = 1000 }
	local id, fd = connect()
	socket.write(id, frame "1")
	local id2, fd2 = connect()
	for i = 2, 30 do
		socket.write(id, frame(tostring(i)))
		skynet.sleep(10)
	end
	expect_numbers(fd, 30)
	expect("close", fd2)
	test.eq(take("close", fd), nil)
	close(id, id2)
end)

test.case("refused clients are told of in the log, once for many", function()
	local mark = rt.mark()
	open_gate { maxclient = 1 }
	local id = connect()
	for _ = 1, 20 do
		local refused = socket.open("127.0.0.1", port)
		if refused then
			test.eq(socket.read(refused, 1), false)
			socket.close(refused)
		end
	end
	rt.logged("refuse 127.0.0.1:%d+, 1 clients are connected; raise maxclient if that is meant", mark)
	test.ok(#rt.lines("gateserver: refuse", mark) < 20)
	close(id)
end)

test.case("limits of the socket core are options of open", function()
	local mark = rt.mark()
	open_gate { max_per_peer = 1 }
	local id = connect()
	local refused = socket.open("127.0.0.1", port)
	test.ok(not refused or socket.read(refused, 1) == false)
	rt.logged("refuses 127.0.0.1:%d+.*max_per_peer is 1", mark)
	close(id, refused)
	open_gate { send_limit = 1000 }
	local fd
	id, fd = connect()
	socket.write(fd, ("x"):rep(100000000))
	expect("close", fd)
	close(id)
end)

-- A gate whose handler waits for a word, and a connection to it.
local function open_slow(conf)
	gate, port = watchdog.open("sv_gate", conf)
	return assert(socket.open("127.0.0.1", port))
end

test.case("packages that wait for a slow handler are bounded, none is lost", function()
	for _, ordered in ipairs { false, true } do
		local mark = rt.mark()
		local id = open_slow { max_pending = 10, ordered = ordered }
		-- One by one, so that reading can stop in between.
		for i = 1, 100 do
			socket.write(id, frame("slow" .. i))
			if i % 20 == 0 then
				skynet.sleep(1)
			end
		end
		rt.logged("stop reading %d+ of 127.* packages wait %(max_pending%)", mark)
		skynet.call(gate, "lua", "go")
		local seen = {}
		for _ = 1, 100 do
			local size = socket.header(socket.read(id, 2))
			seen[tonumber(socket.read(id, size):sub(5))] = true
		end
		test.eq(#seen, 100)
		-- It is read again.
		socket.write(id, frame "end")
		test.eq(socket.read(id, 5), frame "end")
		close(id)
	end
end)

test.case("a handler that raises does not count as one that waits", function()
	local id = open_slow { max_pending = 5 }
	for _ = 1, 50 do
		socket.write(id, frame "raise")
	end
	socket.write(id, frame "fine")
	test.eq(socket.read(id, 6), frame "fine")
	close(id)
end)

test.case("options are checked, and a wrong one opens nothing", function()
	gate = skynet.newservice "gate"
	-- What is wrong, and what the error says: the option and what it may be, or the reason.
	for _, case in ipairs {
		{ { maxclient = -1 }, "'maxclient' must be a whole number, 0 or more, got -1" },
		{ { maxpackage = "many" }, "'maxpackage' must be a whole number, 0 or more, got many" },
		{ { idle_timeout = 1.5 }, "'idle_timeout' must be a whole number, 0 or more, got 1.5" },
		{ { rate_policy = "shoot" }, "'rate_policy' must be 'delay' or 'close', got shoot" },
		{ { ordered = 3 }, "'ordered' must be true or false, got 3" },
		{ { send_limit = "x" }, "send_limit: expected an integer, 0 to 4294967295, got x" },
		{ { tls = true }, "'tls' must be a table with cert and key, got boolean" },
		{ { tls = {} }, "cert" },
		{ { tls = { cert = "/nowhere", key = "/nowhere" } }, "No such file or directory, calling fopen(/nowhere" },
		{ { address = 5 }, "'address' must be a text" },
		{ { port = "x" }, "'port' must be a whole number, 0 to 65535, got x" },
		{ { port = 65536 }, "'port' must be a whole number, 0 to 65535, got 65536" },
		{ { address = "192.0.2.1", port = 7 }, "Listen error: 192.0.2.1:7: Cannot assign requested address" },
	} do
		local conf, why = table.unpack(case)
		conf.address, conf.port = conf.address or "127.0.0.1", conf.port or 0
		test.err(function() skynet.call(gate, "lua", "open", conf) end, why)
	end
	test.err(function() skynet.call(gate, "lua", "open", {}) end, "the gate needs a port")
	test.err(function() skynet.call(gate, "lua", "open") end, "open needs a table with address and port")
	test.ok(skynet.call(gate, "lua", "open",
		{ address = "127.0.0.1", port = 0, maxclient = "100", backlog = 5.0, nodelay = 1 }))
	skynet.call(gate, "lua", "close")
	local mark = rt.mark()
	for _, value in ipairs { 3, true } do
		test.ok(skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0, nodelay = value }))
		skynet.call(gate, "lua", "close")
	end
	rt.logged("gate option 'nodelay' is true or false, 3 is taken for true", mark)
	test.eq(#rt.lines("nodelay", mark), 1)
	skynet.kill(gate)
end)

watchdog.run()
