-- WebSockets of services whose allocations fail, each in its turn: a connection may end, and
-- none is left open.

local skynet = require "skynet"
local socket = require "skynet.socket"
local oom = require "oom"
local sockets = require "sockets"
local test = require "testlib"
local wsraw = require "wsraw"

-- A peer waits so long for what may not come, 1/100 s.
local PATIENCE = 60

local target, other

local function sweep(exchange)
	oom.sweep { handle = target, exchange = exchange, slack = 128 }
end

test.case("a WebSocket server", function()
	local ws_port = skynet.call(target, "lua", "listen_ws")
	sweep(function()
		sockets.connected(ws_port, function(id)
			socket.write(id, wsraw.request())
			assert(socket.readline(id, "\r\n\r\n", oom.patience(PATIENCE)))
			for _ = 1, 2 do
				socket.write(id, wsraw.frame(1, "hello"))
				test.eq(socket.read(id, 7, oom.patience(PATIENCE)), "\x81\5hello")
			end
			socket.write(id, wsraw.frame(8))
			test.eq(socket.read(id, 2, oom.patience(PATIENCE)), "\x88\0")
		end)
	end)
end)

test.case("a WebSocket client", function()
	local url = string.format("ws://127.0.0.1:%d/", skynet.call(other, "lua", "listen_ws"))
	sweep(function() test.eq(skynet.call(target, "lua", "talk_ws", url), "hello") end)
end)

test.run(function()
	target = oom.newservice("oom_http", ".")
	other = skynet.newservice("oom_http", ".")
end)
