-- A gate of its own kind, embedded: every package is echoed. Those that begin with "slow" wait
-- until it is told to `go`, and from then on no longer. It can be asked what it saw.
local skynet = require "skynet"
local gateserver = require "snax.gateserver"
local netpack = require "skynet.netpack"
local driver = require "skynet.socketdriver"

local seen = {}
local handler = { embed = true }
-- Tasks that wait; nil when none has to.
local waiting = {}

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
	if waiting and text:find "^slow" then
		waiting[#waiting + 1] = coroutine.running()
		skynet.wait()
	else
		-- A handler that yields.
		skynet.sleep(0)
	end
	driver.send(fd, netpack.pack(text))
end

function handler.disconnect()
	seen[#seen + 1] = "disconnect"
end

local command = {}

function command.seen()
	return seen
end

-- How many wait.
function command.waiting()
	return #waiting
end

function command.go()
	for _, co in ipairs(waiting) do
		skynet.wakeup(co)
	end
	waiting = nil
end

function handler.command(cmd)
	return command[cmd]()
end

gateserver.start(handler)
skynet.start(function() end)
