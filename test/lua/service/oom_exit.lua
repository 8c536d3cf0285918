-- oom_exit OTHER: a service that owes answers, for test_oom_exit.lua.

local skynet = require "skynet"
local queue = require "skynet.queue"

local other = tonumber(...)
local deferred = {}
local cs = queue()
local command = {}

-- Never answered.
function command.defer()
	deferred[#deferred + 1] = skynet.response()
end

function command.sleep()
	local guard <close> = setmetatable({}, { __close = function() deferred = {} end })
	skynet.sleep(100000)
	return guard
end

function command.queue()
	return cs(skynet.wait, {})
end

function command.call()
	return skynet.call(other, "lua", "later")
end

function command.yield()
	while true do
		skynet.yield()
	end
end

function command.exit()
	skynet.fork(skynet.exit)
	skynet.exit()
end

-- What ends a service, if not a request.
function command.timer()
	skynet.timeout(0, skynet.exit)
	skynet.wait()
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd)
		local result = command[cmd]()
		if cmd ~= "defer" then
			skynet.retpack(result)
		end
	end)
end)
