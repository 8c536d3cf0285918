-- gate and gateserver over real connections. The test is the watchdog, and its
-- clients are sockets of its own.
-- also with: socket_thread = 3
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local rt = require "rt"
local test = require "testlib"
local sockets = require "sockets"
local watchdog = require "watchdog"

local told, expect, frame = watchdog.told, watchdog.expect, watchdog.frame

local function open_gate(conf)
	return watchdog.open("gate", conf)
end

-- A connection: client id and the gate's fd.
local function connect(port)
	local id = assert(socket.open("127.0.0.1", port))
	return id, expect "open"[2]
end

local function is_closed(id)
	return socket.read(id, 1) == false
end

-- Wait until nobody listens there.
local function wait_refused(port)
	test.wait_for(function()
		local id = socket.open("127.0.0.1", port)
		return not id or socket.close(id)
	end)
end

test.case("open replies the actual address; a second open fails", function()
	local gate, port, address = open_gate()
	test.eq(address, "127.0.0.1")
	test.ok(port > 0)
	test.err(function()
		skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0 })
	end, "call failed")
	local other = skynet.newservice "gate"
	test.err(function()
		skynet.call(other, "lua", "open", { address = "192.0.2.1", port = 1 })
	end, "call failed")
	-- It may be opened after the failure.
	test.ok(skynet.call(other, "lua", "open", { address = "127.0.0.1", port = 0 }))
	skynet.kill(other)
	skynet.kill(gate)
end)

test.case("nothing is read before accept; then frames arrive whole and in order", function()
	local gate, port = open_gate { nodelay = true }
	local id = assert(socket.open("127.0.0.1", port))
	local notice = expect "open"
	local fd = notice[2]
	test.match(notice[3], "^127%.0%.0%.1:%d+$")
	socket.write(id, frame "one" .. frame "two" .. frame "" .. frame "three" .. "\0\5fo")
	skynet.sleep(2)
	test.eq(#told, 0)
	skynet.call(gate, "lua", "accept", fd)
	for _, text in ipairs { "one", "two", "", "three" } do
		test.eq(expect "data", { "data", fd, text, n = 3 })
	end
	socket.write(id, "ur!")
	test.eq(expect "data"[3], "four!")
	local big = string.rep("x", 65535)
	socket.write(id, frame(big))
	test.ok(expect "data"[3] == big)
	socket.close(id)
	expect("close", fd)
	skynet.kill(gate)
end)

test.case("forward hands the payload to an agent, in the name of a client", function()
	local gate, port = open_gate()
	local agent = skynet.newservice "sv_agent"
	local id, fd = connect(port)
	skynet.call(gate, "lua", "forward", fd, 0x77, agent)
	socket.write(id, frame "hello" .. frame "")
	local notes = test.wait_for(function()
		local n = skynet.call(agent, "lua", "notes")
		return #n == 2 and n
	end)
	test.eq(notes, { { fd, 0x77, "hello" }, { fd, 0x77, "" } })
	-- Without more words: the sender is the agent, the gate the source.
	local id2, fd2 = connect(port)
	skynet.call(agent, "lua", "forward", gate, fd2)
	socket.write(id2, frame "own")
	test.wait_for(function()
		local n = skynet.call(agent, "lua", "notes")
		return n[3]
	end)
	test.eq(skynet.call(agent, "lua", "notes")[3], { fd2, gate, "own" })
	-- Back to the watchdog.
	skynet.call(gate, "lua", "accept", fd2)
	socket.write(id2, frame "mine")
	test.eq(expect "data", { "data", fd2, "mine", n = 3 })
	socket.close(id)
	socket.close(id2)
	skynet.kill(gate)
	skynet.kill(agent)
end)

test.case("a connection whose agent is gone is closed", function()
	local gate, port = open_gate()
	local agent = skynet.newservice "sv_agent"
	local id, fd = connect(port)
	skynet.call(gate, "lua", "forward", fd, 0, agent)
	skynet.kill(agent)
	socket.write(id, frame "hello")
	test.ok(is_closed(id))
	expect("close", fd)
	socket.close(id)
	skynet.kill(gate)
end)

test.case("kick ends the connection: the client sees it, the watchdog is told", function()
	local gate, port = open_gate()
	local id, fd = connect(port)
	skynet.call(gate, "lua", "accept", fd)
	skynet.call(gate, "lua", "kick", fd)
	test.ok(is_closed(id))
	expect("close", fd)
	skynet.call(gate, "lua", "kick", fd)
	skynet.call(gate, "lua", "kick", 123456)
	test.eq(#told, 0)
	test.err(function() skynet.call(gate, "lua", "forward", fd) end, "call failed")
	test.err(function() skynet.call(gate, "lua", "accept", 123456) end, "call failed")
	test.err(function() skynet.call(gate, "lua", "nosuch") end, "call failed")
	socket.close(id)
	skynet.kill(gate)
end)

test.case("after the peer closed, the connection waits half closed for a kick", function()
	local gate, port = open_gate()
	local id, fd = connect(port)
	skynet.call(gate, "lua", "accept", fd)
	socket.close(id)
	expect("close", fd)
	test.eq(sockets.info(fd).type, "CLOSING")
	skynet.call(gate, "lua", "kick", fd)
	test.wait_for(function() return not sockets.info(fd) end)
	test.eq(#told, 0)
	skynet.kill(gate)
end)

test.case("without a kick it is closed when the time to linger is over", function()
	local gate, port = open_gate { linger = 1 }
	local id, fd = connect(port)
	skynet.call(gate, "lua", "accept", fd)
	socket.close(id)
	expect("close", fd)
	test.wait_for(function() return not sockets.info(fd) end)
	test.eq(#told, 0)
	skynet.kill(gate)
end)

-- As the core tells it when there are no descriptors.
local function tell_no_descriptors(gate)
	-- It is listed when its loop has started it.
	local listener = test.wait_for(function()
		for _, record in ipairs(socket.netstat()) do
			if record.type == "LISTEN" and record.address == gate then
				return record.id
			end
		end
	end)
	local event = string.pack("<i4i4i4xxxxI8", 5, listener, 0, 0) .. "Too many open files"
	skynet.rawsend(gate, "socket", event)
end

-- A connection that its client has closed.
local function half_closed(gate, port)
	local id, fd = connect(port)
	skynet.call(gate, "lua", "accept", fd)
	socket.close(id)
	expect("close", fd)
	test.eq(sockets.info(fd).type, "CLOSING")
	return fd
end

test.case("only so many that were closed by their peers stay, the oldest goes", function()
	local gate, port = open_gate { max_linger = 2, linger = 60000 }
	local first, second = half_closed(gate, port), half_closed(gate, port)
	-- One that is kicked makes room.
	skynet.call(gate, "lua", "kick", second)
	second = half_closed(gate, port)
	test.eq(sockets.info(first).type, "CLOSING")
	local third = half_closed(gate, port)
	test.wait_for(function() return not sockets.info(first) end)
	test.eq(sockets.info(second).type, "CLOSING")
	test.eq(sockets.info(third).type, "CLOSING")
	skynet.kill(gate)
end)

test.case("those that were closed by their peers go when there are no descriptors", function()
	local gate, port = open_gate { linger = 60000 }
	local first, second = half_closed(gate, port), half_closed(gate, port)
	tell_no_descriptors(gate)
	test.wait_for(function() return not sockets.info(first) and not sockets.info(second) end)
	test.eq(#told, 0)
	-- Half as many stay.
	first = half_closed(gate, port)
	second = half_closed(gate, port)
	test.wait_for(function() return not sockets.info(first) end)
	test.eq(sockets.info(second).type, "CLOSING")
	skynet.kill(gate)
end)

test.case("a backlog is told to the watchdog, and its end", function()
	local gate, port = open_gate()
	local id, fd = connect(port)
	skynet.call(gate, "lua", "accept", fd)
	socket.pause(id)
	socket.write(fd, ("w"):rep(32 << 20))
	local warning = expect("warning", fd)
	test.eq(warning.n, 3)
	test.ok(warning[3] >= 1024)
	local left = 32 << 20
	while left > 0 do
		left = left - #socket.read(id)
	end
	test.wait_for(function()
		local last = watchdog.take("warning", fd)
		return last and last[3] == 0
	end)
	socket.close(id)
	skynet.kill(gate)
end)

test.case("an error of the listener is logged, and it goes on", function()
	local gate, port = open_gate()
	local first = connect(port)
	local mark = rt.mark()
	tell_no_descriptors(gate)
	rt.logged("%[:%x+%] gateserver accept error: Too many open files$", mark)
	local id, fd = connect(port)
	skynet.call(gate, "lua", "kick", fd)
	test.ok(is_closed(id))
	socket.close(id)
	socket.close(first)
	skynet.kill(gate)
end)

test.case("close refuses new connections, serves the old, and open works again", function()
	local gate, port = open_gate()
	local id, fd = connect(port)
	skynet.call(gate, "lua", "accept", fd)
	skynet.call(gate, "lua", "close")
	wait_refused(port)
	socket.write(id, frame "still here")
	test.eq(expect "data"[3], "still here")
	test.err(function() skynet.call(gate, "lua", "close") end, "call failed")
	local _, again = skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0 })
	-- Of those who came while the listener was being closed.
	watchdog.forget()
	local id2, fd2 = connect(again)
	skynet.call(gate, "lua", "accept", fd2)
	socket.write(id2, frame "new")
	test.eq(expect "data", { "data", fd2, "new", n = 3 })
	socket.close(id)
	socket.close(id2)
	skynet.kill(gate)
end)

test.case("1024 clients fit unless told otherwise", function()
	local gate, port = open_gate()
	local mark = rt.mark()
	local ids = {}
	for i = 1, 1024 do
		ids[i] = assert(socket.open("127.0.0.1", port))
	end
	test.wait_for(function() return #told == 1024 end)
	local refused = socket.open("127.0.0.1", port)
	test.ok(not refused or is_closed(refused))
	rt.logged("refuse 127.0.0.1:%d+, 1024 clients are connected; raise maxclient", mark)
	if refused then
		socket.close(refused)
	end
	test.eq(#told, 1024)
	for _, id in ipairs(ids) do
		socket.close(id)
	end
	skynet.kill(gate)
end)

test.case("exactly maxclient fit, and the refused are never announced", function()
	local gate, port = open_gate { maxclient = 3 }
	local ids, fds = {}, {}
	for i = 1, 3 do
		ids[i], fds[i] = connect(port)
		skynet.call(gate, "lua", "accept", fds[i])
	end
	for _ = 1, 2 do
		local refused = socket.open("127.0.0.1", port)
		test.ok(not refused or is_closed(refused))
		if refused then
			socket.close(refused)
		end
	end
	test.eq(#told, 0)
	socket.close(ids[2])
	expect("close", fds[2])
	ids[2], fds[2] = connect(port)
	for i = 1, 3 do
		socket.close(ids[i])
		if i ~= 2 then
			expect("close", fds[i])
		end
	end
	skynet.kill(gate)
	test.eq(#told, 0)
end)

test.case("a gate that ends closes its listener and its connections", function()
	for _, finish in ipairs { skynet.kill, function(gate) skynet.send(gate, "debug", "EXIT") end } do
		local gate, port = open_gate()
		local id, fd = connect(port)
		skynet.call(gate, "lua", "accept", fd)
		local idle = connect(port)
		finish(gate)
		test.ok(is_closed(id))
		test.ok(is_closed(idle))
		test.wait_for(function() return not sockets.info(fd) end)
		wait_refused(port)
		socket.close(id)
		socket.close(idle)
	end
end)

test.case("a package over the limit closes its connection only", function()
	local gate, port = open_gate { maxpackage = 100 }
	local id, fd = connect(port)
	local id2, fd2 = connect(port)
	skynet.call(gate, "lua", "accept", fd)
	skynet.call(gate, "lua", "accept", fd2)
	socket.write(id, frame(("x"):rep(100)))
	test.eq(#expect("data", fd)[3], 100)
	socket.write(id, frame(("x"):rep(101)) .. frame "dropped")
	test.ok(is_closed(id))
	expect("close", fd)
	socket.write(id2, frame "fine")
	test.eq(expect "data", { "data", fd2, "fine", n = 3 })
	test.eq(#told, 0)
	socket.close(id)
	socket.close(id2)
	skynet.kill(gate)
end)

test.case("silent connections are closed when a limit is set", function()
	local gate, port = open_gate { first_timeout = 1, idle_timeout = 60000 }
	local id, fd = connect(port)
	test.ok(is_closed(id))
	expect("close", fd)
	skynet.kill(gate)
	gate, port = open_gate { first_timeout = 60000, idle_timeout = 1 }
	local id2, fd2 = connect(port)
	skynet.call(gate, "lua", "accept", fd2)
	socket.write(id2, frame "a" .. "\0\9half")
	expect("data", fd2)
	test.ok(is_closed(id2))
	expect("close", fd2)
	socket.close(id)
	socket.close(id2)
	skynet.kill(gate)
end)

-- A gate of the yielding kind and a connection to it.
local function open_echo(ordered)
	local gate, port = watchdog.open("sv_gate", { ordered = ordered })
	return gate, assert(socket.open("127.0.0.1", port))
end

test.case("a handler may yield: other packages go on, or wait when asked to", function()
	for _, ordered in ipairs { false, true } do
		local gate, id = open_echo(ordered)
		socket.write(id, frame "slow" .. frame "fast" .. frame "last")
		local order = {}
		for i = 1, 3 do
			if i == (ordered and 1 or 3) then
				test.wait_for(function() return skynet.call(gate, "lua", "waiting") == 1 end)
				skynet.call(gate, "lua", "go")
			end
			local size = socket.header(socket.read(id, 2))
			order[i] = socket.read(id, size)
		end
		test.eq(order, ordered and { "slow", "fast", "last" } or { "fast", "last", "slow" })
		socket.close(id)
		test.wait_for(function()
			return #skynet.call(gate, "lua", "seen") == 2
		end)
		test.eq(skynet.call(gate, "lua", "seen"), { "connect", "disconnect" })
		skynet.kill(gate)
	end
end)

test.case("a handler that raises loses its package, not the ones behind", function()
	local gate, id = open_echo()
	socket.write(id, frame "raise" .. frame "after")
	test.eq(socket.read(id, 7), frame "after")
	socket.close(id)
	skynet.kill(gate)
end)

watchdog.run()
