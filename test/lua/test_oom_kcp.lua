-- KCP in services whose allocations fail, every so many in turn: what is said comes back, in
-- order, or the connection ends or is not made; nobody waits for longer than the limits of time
-- say, and nothing is kept. What a datagram has no memory for is sent again, which takes time:
-- so not each allocation has its turn.

local skynet = require "skynet"
local kcp = require "skynet.kcp"
local socket = require "skynet.socket"
local kcpgate = require "snax.kcpgate"
local certs = require "certs"
local oom = require "oom"
local test = require "testlib"
local watchdog = require "watchdog"

local HOST = "127.0.0.1"
-- What does not come in this time does not come, 1/100 s.
local PATIENCE = 60
local TEXTS = { "one", "two", "three" }

local target, other

local function sweep(step, question, handle)
	oom.sweep { handle = handle or target, ask = question, step = step, slack = 128 }
end

local function connect(port)
	return assert(kcp.connect(HOST, port, { connect_timeout = oom.patience(PATIENCE), linger = 1 }))
end

test.case("a KCP server", function()
	local port = skynet.call(target, "lua", "kcp_listen")
	sweep(9, function()
		local c = connect(port)
		local last, want
		for _, text in ipairs(TEXTS) do
			c:write(text)
			last, want = c:receive(oom.patience(PATIENCE)), text
			if last ~= want then
				break
			end
		end
		c:shutdown()
		return last, want
	end)
end)

test.case("a KCP client", function()
	local port = skynet.call(other, "lua", "kcp_listen")
	sweep(4, function() return skynet.call(target, "lua", "kcp_talk", port, TEXTS), TEXTS[#TEXTS] end)
end)

-- The port of the client that was made last.
local function last_port()
	local last = { id = -1, sock = "" }
	for _, s in ipairs(socket.netstat()) do
		if s.type == "UDP" and s.address == skynet.self() and s.id > last.id then
			last = s
		end
	end
	return last.sock:match ":%d+$"
end

-- What the gate calls a client, nil if it does not say. Others may be announced late.
local function fd_of(client_port)
	for i, t in ipairs(watchdog.told) do
		if t[1] == "open" and t[3]:sub(-#client_port) == client_port then
			return table.remove(watchdog.told, i)[2]
		end
	end
end

-- What a client hears last, and what it should.
local function talk(gate, c, fd)
	local last, want
	skynet.call(gate, "lua", "accept", fd)
	for _, text in ipairs(TEXTS) do
		c:write(text)
		local notice = oom.await(function() return watchdog.take("data", fd) end, PATIENCE)
		if not notice then
			return nil
		end
		kcpgate.send(gate, fd, notice[3])
		last, want = c:receive(oom.patience(PATIENCE)), text
		if last ~= want then
			break
		end
	end
	return last, want
end

-- Every client that was announced is told to be gone.
test.case("a kcpgate", function()
	local gate, port = watchdog.open("kcpgate", { maxclient = 8, kcp = { linger = 1 } })
	oom.watch(gate)
	sweep(3, function()
		local c = connect(port)
		local client_port = last_port()
		local fd = oom.await(function() return fd_of(client_port) end, PATIENCE)
		local ok, last, want = pcall(talk, gate, c, fd)
		c:shutdown()
		return ok and last, want
	end, gate)
	watchdog.settle()
	skynet.kill(gate)
end)

test.case("(clean-up)", certs.remove)

watchdog.run(function()
	local folder = certs.make()
	target = oom.newservice("oom_net", folder)
	other = skynet.newservice("oom_net", folder)
end)
