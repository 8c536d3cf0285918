-- A gate that answers every package itself. Prints its port for bench/net.py.

local skynet = require "skynet"
local gateserver = require "snax.gateserver"
local netpack = require "skynet.netpack"
local driver = require "skynet.socketdriver"

local handler = {}

function handler.connect(fd)
	gateserver.openclient(fd)
end

function handler.message(fd, msg, sz)
	driver.send(fd, netpack.pack(msg, sz))
	-- The package is ours.
	driver.drop(msg, sz)
end

function handler.open(_, conf)
	skynet.error("bench port " .. conf.port)
end

function handler.command()
end

handler.embed = true
skynet.start(function()
	gateserver.start(handler)
	skynet.timeout(0, function()
		skynet.call(skynet.self(), "lua", "open", {
			address = "127.0.0.1", port = 0, maxclient = 65536, backlog = 4096,
		})
	end)
end)
