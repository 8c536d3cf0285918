-- A gate of its own kind, embedded: every package is echoed after a pause that
-- its first byte tells (in cs), and the gate can be asked what it saw.
local skynet = require "skynet"
local gateserver = require "snax.gateserver"
local netpack = require "skynet.netpack"
local driver = require "skynet.socketdriver"

local seen = {}
local handler = { embed = true }

function handler.open(_, conf)
	return conf.address, conf.port
end

function handler.connect(fd)
	seen[#seen + 1] = "connect"
	gateserver.openclient(fd)
end

function handler.message(fd, msg, sz)
	local text = netpack.tostring(msg, sz)
	if text == "raise" then
		error "message raises as asked"
	end
	skynet.sleep(text:byte(1) or 0)
	driver.send(fd, netpack.pack(text))
end

function handler.disconnect()
	seen[#seen + 1] = "disconnect"
end

function handler.command(cmd)
	assert(cmd == "seen")
	return seen
end

gateserver.start(handler)
skynet.start(function() end)
