-- debug_agent: relay of one debugger session. Owns one side of the channel to
-- the target; the target writes its output to the console's socket itself.

local skynet = require "skynet"

-- The channel while a session is on, false after it.
local channel

local command = {}

-- Attach to `address`; answers when the session is over, then exits.
function command.start(address, fd)
	assert(channel == nil, "start more than once")
	skynet.error(string.format("Attach to :%08x", address))
	channel = false
	local ok, err = pcall(function()
		local pointer
		channel, pointer = require "skynet.debugchannel".create()
		skynet.call(address, "debug", "REMOTEDEBUG", fd, pointer)
	end)
	channel = false
	if ok then
		skynet.retpack(true)
	else
		skynet.error("debug_agent: " .. tostring(err))
		skynet.retpack(false, "Debugger attach failed")
	end
	skynet.exit()
end

function command.cmd(line)
	if channel then
		channel:write(line)
	end
end

-- The session is to end; one that has not begun never will.
function command.leave()
	if channel then
		channel:write "cont"
	elseif channel == nil then
		skynet.exit()
	end
end

function command.ping()
	skynet.ret()
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		local f = command[cmd] or error("Invalid command " .. tostring(cmd), 0)
		f(...)
	end)
end)
