-- A service to be patched by test_inject.

local skynet = require "skynet"

local counters = { n = 0 }
local helper_state = { tag = "helper" }
local number = 1
local CMD = {}

local function helper(cmd)
	counters.n = counters.n + number
	return helper_state.tag and CMD[cmd]
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		skynet.retpack(helper(cmd)(...), CMD ~= nil and nil)
	end)
end)
