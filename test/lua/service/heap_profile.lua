-- heap_profile: switches jemalloc's profiling on, writes a profile, ends the node.
local skynet = require "skynet"
local core = require "skynet.core"
local memory = require "skynet.memory"
require "skynet.manager"

skynet.start(function()
	local was = memory.profactive(true)
	local kept = {}
	for i = 1, 100 do
		kept[i] = table.pack(core.pack(("x"):rep(10000)))
	end
	local states = { was, memory.profactive(), memory.dumpheap(), memory.profactive(false) }
	for i, state in ipairs(states) do states[i] = tostring(state) end
	print("profile " .. table.concat(states, " ") .. " current " .. memory.current())
	for _, m in ipairs(kept) do core.trash(m[1], m[2]) end
	skynet.abort()
end)
