-- skynet.netpack over real connections: what a gate sees (net.md 6.2 to 6.4).
-- The raw driver delivers its events here; `queue` is what a gateserver keeps.
-- also with: socket_thread = 3

local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local netpack = require "skynet.netpack"
local test = require "testlib"

local state = { queue = nil, events = {} }

local function take_packages(kind, ...)
	if kind == "more" then
		for fd, msg, sz in netpack.pop, state.queue do
			table.insert(state.events, { "data", fd, netpack.tostring(msg, sz), more = true })
		end
	elseif kind == "data" then
		local fd, msg, sz = ...
		table.insert(state.events, { "data", fd, netpack.tostring(msg, sz) })
	elseif kind then
		table.insert(state.events, { kind, ... })
	end
end

skynet.register_protocol {
	name = "socket",
	id = skynet.PTYPE_SOCKET,
	unpack = function(msg, sz)
		return netpack.filter(state.queue, msg, sz)
	end,
	dispatch = function(_, _, q, ...)
		state.queue = q
		take_packages(...)
	end,
}

local function event(kind)
	local found
	test.wait_for(function()
		for i, e in ipairs(state.events) do
			if e[1] == kind then
				found = table.remove(state.events, i)
				return true
			end
		end
	end)
	return found
end

local listener, port

local function pair()
	local client = driver.connect("127.0.0.1", port)
	local accepted = event("open")
	test.match(accepted[3], "^127%.0%.0%.1:%d+$")
	local server = accepted[2]
	local init = event("init")
	test.eq(init[2], client)
	driver.start(server)
	test.eq(event("init")[3], "start")
	return client, server
end

test.case("a listener announces itself with init", function()
	listener = driver.listen("127.0.0.1", 0)
	local e = event("init")
	test.eq({ e[2], e[3] }, { listener, "127.0.0.1" })
	port = e[4]
	test.ok(port > 0)
	driver.start(listener)
	test.eq(event("init")[3], "start")
end)

test.case("one package in any split is one data", function()
	local client, server = pair()
	local wire = "\0\3abc"
	for cut = 1, #wire - 1 do
		driver.send(client, wire:sub(1, cut))
		skynet.sleep(1)
		driver.send(client, wire:sub(cut + 1))
		test.eq(event("data"), { "data", server, "abc" })
	end
	driver.close(client)
	driver.close(server)
end)

test.case("several packages in one read are more, popped in order", function()
	local client, server = pair()
	driver.send(client, "\0\1a\0\0\0\1b")
	test.eq(event("data"), { "data", server, "a", more = true })
	test.eq(event("data"), { "data", server, "", more = true })
	test.eq(event("data"), { "data", server, "b", more = true })
	test.eq(select("#", netpack.pop(state.queue)), 0)
	driver.close(client)
	driver.close(server)
end)

test.case("close tells the fd and forgets what is unfinished", function()
	local client, server = pair()
	driver.send(client, "\0\9half")
	driver.close(client)
	test.wait_for(function()
		for _, e in ipairs(state.events) do
			if e[1] == "close" and e[2] == server then
				test.eq(e[3], true) -- within a package
				return true
			end
		end
	end)
	driver.close(server)
end)

test.case("error tells the fd and the reason", function()
	driver.start(987654)
	test.eq(event("error"), { "error", 987654, "invalid socket" })
end)

test.case("pop of nothing is nothing", function()
	test.eq(select("#", netpack.pop(nil)), 0)
	netpack.clear(nil)
end)

test.case("pack prefixes the length, from strings and pointers", function()
	local p, n = netpack.pack("hello")
	test.eq(n, 7)
	test.eq(netpack.tostring(p, n), "\0\5hello")
	local msg, sz = skynet.pack("x")
	local packed = skynet.tostring(msg, sz)
	p, n = netpack.pack(msg, sz)
	test.eq(netpack.tostring(p, n), string.pack(">s2", packed))
	skynet.trash(msg, sz)
	p, n = netpack.pack("")
	test.eq(netpack.tostring(p, n), "\0\0")
end)

test.case("pack takes 65535 bytes and no more", function()
	local p, n = netpack.pack(("x"):rep(65535))
	test.eq(n, 65537)
	test.eq(netpack.tostring(p, n):sub(1, 2), "\xff\xff")
	test.err(function() netpack.pack(("x"):rep(65536)) end, "Invalid size (too long) of data : 65536")
end)

test.case("tostring of no block is empty", function()
	test.eq(netpack.tostring(nil, 0), "")
end)

test.case("a queue that nobody holds takes its packages along", function()
	local memory = require "skynet.memory"
	local function fill()
		for _ = 1, 20 do
			local q = netpack.guard(nil, { maxpackage = 65535 }, {})
			for fd = 1, 10 do
				-- Packages that nobody pops, and one that has no end.
				local wire = string.pack(">s2", ("x"):rep(1000)):rep(5) .. "\xff\xff" .. ("y"):rep(5000)
				netpack.feed(q, fd, driver.str2p(wire), #wire)
			end
		end
		collectgarbage()
		collectgarbage()
	end
	fill()
	local before = memory.current()
	fill()
	test.ok(memory.current() - before < 200 * 1000, "two megabytes of packages were not freed")
end)

test.case("an address comes back as it was, a short one as a number meanwhile", function()
	for _, text in ipairs { "0.0.0.0:0", "127.0.0.1:80", "1.20.255.9:1", "255.255.255.255:65535" } do
		test.eq(math.type(netpack.brief(text)), "integer")
		test.eq(netpack.address(netpack.brief(text)), text)
	end
	for _, text in ipairs { "", "1.2.3.4", "1.2.3.4:", "1.2.3:4", "1.2.3.4.5:6", "256.2.3.4:5", "1.2.3.4:65536",
		"01.2.3.4:5", "1.2.3.4:05", "1.2.3.4:5 ", " 1.2.3.4:5", "1.2.3.4:5\0", "1..3.4:5", "-1.2.3.4:5",
		"1.2.3.4:99999999999999999999", "[::1]:80", "[::ffff:1.2.3.4]:80", "x" } do
		test.eq(netpack.brief(text), text)
		test.eq(netpack.address(text), text)
	end
	-- Each number has its place.
	test.ok(netpack.brief "1.2.3.4:5" ~= netpack.brief "1.2.3.5:4")
	test.err(netpack.brief, "string expected")
	test.err(netpack.address, "number expected")
end)

test.case("a cleared queue works again", function()
	netpack.clear(state.queue)
	local client, server = pair()
	driver.send(client, "\0\1z")
	test.eq(event("data"), { "data", server, "z" })
	driver.close(client)
	driver.close(server)
	driver.close(listener)
end)

test.run()
