-- dbg: one launcher command from the start line, e.g. `start = "dbg list"`:
-- prints the resulting table sorted by key, then exits.

local skynet = require "skynet"

local words = table.pack(...)

local function sorted(t)
	local keys = {}
	for key in pairs(t) do
		keys[#keys + 1] = key
	end
	table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
	return ipairs(keys)
end

local function show(value)
	if type(value) ~= "table" then
		return tostring(value)
	end
	local fields = {}
	for _, key in sorted(value) do
		fields[#fields + 1] = tostring(key) .. ":" .. tostring(value[key])
	end
	return table.concat(fields, "\t")
end

skynet.start(function()
	local answer = skynet.call(".launcher", "lua", table.unpack(words, 1, words.n))
	if type(answer) == "table" then
		for _, key in sorted(answer) do
			print(key, show(answer[key]))
		end
	else
		print(show(answer))
	end
	skynet.exit()
end)
