-- KCP in services whose allocations fail, every so many in turn: what is said comes back, in
-- order, or the connection ends or is not made; nobody waits for longer than the limits of time
-- say, and nothing is kept. What a datagram has no memory for is sent again, which takes time:
-- so not each allocation has its turn.

local skynet = require "skynet"
local kcp = require "skynet.kcp"
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

-- exchange returns what came, false or nil if nothing did, and what should.
local function sweep(step, exchange, handle)
	local wrong
	test.ok(oom.sweep {
		handle = handle or target,
		timers = true, -- of time limits
		step = step,
		slack = 128,
		exchange = function()
			local ok, got, want = pcall(exchange)
			if ok and got and got ~= want then
				wrong = string.format("%s in place of %s", got, want)
			end
		end,
		check = function()
			test.eq(wrong, nil)
			local got, want = exchange()
			test.eq(got, want)
		end,
	} > 1, "nothing failed")
end

test.case("a KCP server", function()
	local port = skynet.call(target, "lua", "kcp_listen")
	sweep(9, function()
		local c = assert(kcp.connect(HOST, port, { connect_timeout = PATIENCE, linger = 1 }))
		local last, want
		for _, text in ipairs(TEXTS) do
			c:write(text)
			last, want = c:receive(PATIENCE), text
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

-- A notice of the gate, nil if it does not come.
local function await(what, fd)
	local notice
	pcall(test.wait_for, function()
		notice = watchdog.take(what, fd)
		return notice
	end, PATIENCE)
	return notice
end

-- Every client that was announced is told to be gone.
test.case("a kcpgate", function()
	local gate, port = watchdog.open("kcpgate", { maxclient = 8, kcp = { linger = 1 } })
	oom.watch(gate)
	-- fd -> true
	local open = {}

	local function take_closes()
		local notice = watchdog.take "close"
		while notice do
			open[notice[2]] = nil
			notice = watchdog.take "close"
		end
	end

	local function talk(c, fd)
		local last, want
		skynet.call(gate, "lua", "accept", fd)
		for _, text in ipairs(TEXTS) do
			c:write(text)
			local notice = await("data", fd)
			if not notice then
				return nil
			end
			kcpgate.send(gate, fd, notice[3])
			last, want = c:receive(PATIENCE), text
			if last ~= want then
				break
			end
		end
		return last, want
	end

	sweep(3, function()
		local c = assert(kcp.connect(HOST, port, { connect_timeout = PATIENCE, linger = 1 }))
		local notice = await "open"
		local fd = notice and notice[2]
		if fd then
			open[fd] = true
		end
		local ok, last, want = pcall(talk, c, fd)
		c:shutdown()
		take_closes()
		return ok and last, want
	end, gate)
	test.wait_for(function()
		take_closes()
		return next(open) == nil
	end, 500, "the end of each client to be told")
	skynet.kill(gate)
end)

watchdog.run(function()
	certs.make()
	local folder = certs.path "ca.pem":match "^(.*)/"
	target = skynet.newservice("oom_net", folder)
	other = skynet.newservice("oom_net", folder)
	oom.watch(target)
end)
