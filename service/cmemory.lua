-- cmemory: prints the C memory of every service and the totals, then exits.

local skynet = require "skynet"
local memory = require "skynet.memory"

local KIB = 1024

skynet.start(function()
	memory.dumpinfo()
	local info = memory.info()
	local handles = {}
	for handle in pairs(info) do
		handles[#handles + 1] = handle
	end
	table.sort(handles)
	for _, handle in ipairs(handles) do
		print(string.format(":%08x %gK", handle, info[handle] / KIB))
	end
	print("Total memory:", memory.total())
	print("Total block:", memory.block())
	skynet.exit()
end)
