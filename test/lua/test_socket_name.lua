-- Host names in skynet.socket: other tasks run while one is resolved, and calls that
-- need no resolver do not yield (net.md 14.1 C2, 14.2 S7).
-- also with: socket_thread = 3

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local driver = require "skynet.socketdriver"
local test = require "testlib"

-- Whether another task had its turn while fn ran, and what fn returned.
local function yields(fn)
	local has_run = false
	skynet.fork(function() has_run = true end)
	local result = table.pack(pcall(fn))
	return has_run, table.unpack(result, 1, result.n)
end

test.case("a name is resolved while other tasks run", function()
	local has_run, ok, list = yields(function() return socket.resolve "localhost" end)
	test.eq({ has_run, ok }, { true, true })
	test.ok(#list >= 1)
	local seen = {}
	for _, text in ipairs(list) do
		test.ok(text == "127.0.0.1" or text == "::1", text)
		test.ok(not seen[text], "twice")
		seen[text] = true
	end
end)

test.case("an address is its own answer at once", function()
	local has_run, ok, list = yields(function() return socket.resolve "::1" end)
	test.eq({ has_run, ok, list }, { false, true, { "::1" } })
	test.eq(socket.resolve "127.0.0.1", { "127.0.0.1" })
end)

test.case("an unknown name raises the reason", function()
	local has_run, ok, err = yields(function() return socket.resolve(test.NO_HOST) end)
	test.eq({ has_run, ok }, { true, false })
	test.ok(err:find("Name or service not known", 1, true), err)
	ok, err = pcall(socket.resolve, ("x"):rep(232))
	test.ok(not ok and err:find("invalid name", 1, true), err)
end)

test.case("a listener is bound by name", function()
	local has_run, ok, id, ip, port = yields(function() return socket.listen("localhost", 0) end)
	test.eq({ has_run, ok }, { true, true })
	test.ok(ip == "127.0.0.1" or ip == "::1")
	socket.close(id)
	id, ip, port = socket.listen("localhost:0")
	test.ok(ip == "127.0.0.1" or ip == "::1")
	test.ok(port > 0)
	socket.close(id)
	local ok2, err = pcall(socket.listen, test.NO_HOST, 0)
	test.ok(not ok2 and err:find("Listen error: " .. test.NO_HOST .. ": Name", 1, true), err)
end)

test.case("datagrams travel between names", function()
	local got = {}
	local host = socket.resolve("localhost")[1]
	local has_run, ok, server = yields(function()
		return socket.udp(function(data, from)
			got[#got + 1] = data
			test.ok(socket.udp_address(from) == host)
		end, "localhost", 0)
	end)
	test.eq({ has_run, ok }, { true, true })
	socket.close(server)
	-- A number that no other test uses: a TCP listener holds it.
	local holder, _, port = socket.listen("localhost", 0)
	server = socket.udp_listen("localhost", port, function(data) got[#got + 1] = data end)
	local dialled = socket.udp_dial("localhost", port, function() end)
	test.ok(socket.write(dialled, "one"))
	test.wait_for(function() return got[1] == "one" end)
	local other = socket.udp(function() end, host, 0)
	socket.udp_connect(other, "localhost", port)
	test.ok(socket.write(other, "two"))
	test.wait_for(function() return got[2] == "two" end)
	for _, f in ipairs {
		{ "udp init failed", socket.udp, print, test.NO_HOST, 1 },
		{ "udp connect failed", socket.udp_connect, other, test.NO_HOST, 1 },
		{ "udp dial host failed", socket.udp_dial, test.NO_HOST, 1, print },
		{ "udp listen host failed", socket.udp_listen, test.NO_HOST, 1, print },
	} do
		local good, err = pcall(table.unpack(f, 2))
		test.ok(not good and err:find(f[1], 1, true), tostring(err))
	end
	for _, id in ipairs { server, dialled, other, holder } do
		socket.close(id)
	end
end)

test.case("many names at once", function()
	local n = 0
	for _ = 1, 50 do
		skynet.fork(function()
			socket.resolve "localhost"
			n = n + 1
		end)
	end
	test.wait_for(function() return n == 50 end)
end)

test.case("without a task the driver waits itself", function()
	local co = coroutine.running()
	test.ok(co)
	test.ok(#driver.resolve "localhost" >= 1)
	test.eq(driver.lookup "127.0.0.1", nil)
	test.eq({ driver.split("[::1]:80") }, { "::1", 80 })
	test.eq({ driver.split("host", 80) }, { "host", 80 })
end)

test.case("nothing is left", function()
	test.wait_for(function() return #socket.netstat() == 0 end)
end)

test.run()
