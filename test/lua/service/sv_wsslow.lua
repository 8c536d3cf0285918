-- A wsgateserver whose handler yields, and raises on the message "raise".
local skynet = require "skynet"
local driver = require "skynet.socketdriver"
local wsgate = require "snax.wsgate"
local wsgateserver = require "snax.wsgateserver"

local handler = {}

function handler.open(_, conf)
	return conf.address, conf.port
end

function handler.connect(fd)
	wsgateserver.openclient(fd)
end

function handler.message(fd, msg, sz)
	local text = skynet.tostring(msg, sz)
	driver.drop(msg, sz)
	skynet.sleep(text == "m1" and 5 or 0)
	if text == "raise" then
		error "as the test wants"
	end
	wsgate.send(fd, text)
end

wsgateserver.start(handler)
