-- HTTP clients whose allocations fail, each in its turn: a request may fail, and no connection
-- is left open.

local skynet = require "skynet"
local oom = require "oom"
local test = require "testlib"

local target, other

local function sweep(exchange, step)
	-- Timers of connections that are kept stay when these are used again.
	oom.sweep { timers = true, step = step, handle = target, exchange = function() pcall(exchange) end, check = exchange, slack = 128 }
end

test.case("httpc", function()
	local their_port = skynet.call(other, "lua", "listen")
	sweep(function()
		test.eq(skynet.call(target, "lua", "get", "127.0.0.1:" .. their_port, "/hello"), "hello")
	end)
end)

test.case("httpc.fetch, with connections that are kept", function()
	local url = string.format("http://127.0.0.1:%d", skynet.call(other, "lua", "listen"))
	sweep(function()
		test.eq(skynet.call(target, "lua", "fetch", url .. "/hello"), "hello")
		test.eq(skynet.call(target, "lua", "fetch", url .. "/stream"), "1,2,3,")
	end, 2)
end)

test.run(function()
	target = skynet.newservice("oom_http", ".")
	other = skynet.newservice("oom_http", ".")
	oom.watch(target)
end)
