-- checkdeadloop: asks every listed service for its debug INFO and logs those
-- that have not answered after 1, 4 and 5 seconds.

local skynet = require "skynet"

-- Pauses before each look, cs.
local LOOKS = { 100, 300, 100 }

local waiting = {}

local function ask(address)
	waiting[address] = true
	pcall(skynet.call, address, "debug", "INFO")
	waiting[address] = nil
end

skynet.start(function()
	for address in pairs(skynet.call(".launcher", "lua", "LIST")) do
		local handle = tonumber(address:sub(2), 16)
		if handle ~= skynet.self() then
			skynet.fork(ask, address)
		end
	end
	skynet.fork(function()
		local elapsed = 0
		for _, pause in ipairs(LOOKS) do
			skynet.sleep(pause)
			elapsed = elapsed + pause
			for address in pairs(waiting) do
				local seconds = elapsed // 100
				skynet.error(string.format("%s has not answered for %d seconds", address, seconds))
			end
		end
		skynet.exit()
	end)
end)
