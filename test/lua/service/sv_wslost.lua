-- A wsgateserver that answers each message itself, routes its last connection on command,
-- and raises when the service of a route is gone.
local skynet = require "skynet"
local wsgate = require "snax.wsgate"
local wsgateserver = require "snax.wsgateserver"

local handler = {}
local last

function handler.open(_, conf)
	return conf.address, conf.port
end

function handler.connect(fd)
	last = fd
	wsgateserver.openclient(fd)
end

function handler.message(fd, msg, sz)
	wsgate.send(fd, msg, sz)
end

function handler.lost(fd, service)
	error(string.format("lost %s of a connection (%s)", skynet.address(service), math.type(fd)))
end

function handler.command(_, _, ...)
	wsgateserver.route(last, ...)
	return last
end

wsgateserver.start(handler)
