-- HTTP clients whose allocations fail, each in its turn: a request may fail, and no connection
-- is left open.

local skynet = require "skynet"
local oom = require "oom"
local test = require "testlib"

local target, other

local function sweep(step, question)
	oom.sweep { handle = target, ask = question, step = step, slack = 128 }
end

test.case("httpc", function()
	local their_port = skynet.call(other, "lua", "listen")
	sweep(1, function() return skynet.call(target, "lua", "get", "127.0.0.1:" .. their_port, "/hello"), "hello" end)
end)

test.case("httpc.fetch, with connections that are kept", function()
	local url = string.format("http://127.0.0.1:%d", skynet.call(other, "lua", "listen"))
	sweep(2, function()
		local function fetch(path) return skynet.call(target, "lua", "fetch", url .. path) end
		return { fetch "/hello", fetch "/stream" }, { "hello", "1,2,3," }
	end)
end)

test.run(function()
	target = oom.newservice("oom_http", ".")
	other = skynet.newservice("oom_http", ".")
end)
