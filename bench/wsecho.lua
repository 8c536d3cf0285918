-- WebSocket echo: http.websocket in four agents, or with the word `gate` a gate that
-- answers every message itself. Prints its port for bench/net.py.

local skynet = require "skynet"

local mode = ...
local AGENTS = 4

local function agent()
	local websocket = require "http.websocket"
	local handle = { message = websocket.write }
	skynet.dispatch("lua", function(_, _, id)
		skynet.ignoreret()
		websocket.accept(id, handle)
	end)
end

local function agents()
	local socket = require "skynet.socket"
	local list = {}
	for i = 1, AGENTS do
		list[i] = skynet.newservice("wsecho", "agent")
	end
	local listener, _, port = socket.listen("127.0.0.1", 0, 4096)
	local turn = 0
	socket.start(listener, function(id)
		turn = turn % AGENTS + 1
		skynet.send(list[turn], "lua", id)
	end)
	skynet.error("bench port " .. port)
end

local function gate()
	local wsgate = require "snax.wsgate"
	local wsgateserver = require "snax.wsgateserver"
	wsgateserver.start {
		embed = true,
		connect = function(fd)
			wsgateserver.openclient(fd)
		end,
		message = function(fd, msg, sz)
			wsgate.send(fd, msg, sz)
		end,
		open = function(_, conf)
			skynet.error("bench port " .. conf.port)
		end,
	}
	skynet.timeout(0, function()
		skynet.call(skynet.self(), "lua", "open", {
			address = "127.0.0.1", port = 0, maxclient = 65536, backlog = 4096,
		})
	end)
end

skynet.start(mode == "agent" and agent or mode == "gate" and gate or agents)
