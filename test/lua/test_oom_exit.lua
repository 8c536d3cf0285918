-- Services that end while their allocations fail, each in its turn: whoever waits for an answer
-- hears an error, whichever way they end.

local skynet = require "skynet.manager"
local core = require "skynet.core"
local oom = require "oom"
local rt = require "rt"
local test = require "testlib"

local WAITS = { "defer", "sleep", "queue", "queue", "call", "yield", "defer" }

local other

local function call(...)
	return skynet.call(...)
end

local ways = {
	exit = function(handle) pcall(call, handle, "lua", "exit") end,
	timer = function(handle) skynet.send(handle, "lua", "timer") end,
	["debug EXIT"] = function(handle) pcall(call, handle, "debug", "EXIT") end,
	kill = function(handle) skynet.kill(handle) end,
}

local function listed(handle)
	return skynet.call(".launcher", "lua", "LIST")[skynet.address(handle)]
end

for name, finish in pairs(ways) do
	test.case("a service that ends by " .. name, function()
		local waiters
		oom.fresh {
			make = function() return skynet.newservice("oom_exit", other) end,
			exchange = function(handle)
				waiters = {}
				for i, what in ipairs(WAITS) do
					waiters[i] = rt.start(call, handle, "lua", what)
				end
				skynet.yield()
				finish(handle)
			end,
			check = function(handle)
				-- Without memory it may have had to go on.
				for _ = 1, 3 do
					if core.alive(handle) then
						pcall(call, handle, "debug", "EXIT")
					end
				end
				rt.wait_gone(handle)
				for i, w in ipairs(waiters) do
					local ok, err = rt.join(w)
					test.eq(ok, false, WAITS[i])
					test.match(err, "call failed$")
				end
				test.eq(listed(handle), nil)
			end,
		}
	end)
end

test.run(function()
	other = skynet.newservice "oom_target"
end)
