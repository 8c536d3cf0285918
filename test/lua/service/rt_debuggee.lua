-- The service that test_remotedebug debugs. Line numbers matter.

local skynet = require "skynet"

local function helper(a)
	local twice = a * 2
	return twice
end

local function handle(a)
	local b = 1
	local r = helper(a)
	b = b + r
	return b
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, a)
		local r = handle(a)
		skynet.retpack(cmd, r)
	end)
end)
