-- A reader of shared tables for test_sharetable: keeps one table per name and
-- answers what it sees in it.

local sharetable = require "skynet.sharetable"
local serve = require "serve"

local tables = {}
local command = {}

function command.query(name)
	tables[name] = sharetable.query(name)
	return tables[name] ~= nil
end

function command.get(name, ...)
	local v = tables[name]
	for _, key in ipairs { ... } do
		v = v[key]
	end
	return v
end

function command.update(name)
	sharetable.update(name)
end

function command.drop(name)
	tables[name] = nil
	return sharetable.release(name)
end

-- Query again and again; each version must be of one piece.
function command.watch(name, rounds)
	local mixtures = 0
	for _ = 1, rounds do
		local t = sharetable.query(name)
		local n = t.version
		for _, item in ipairs(t.list) do
			if item.version ~= n then
				mixtures = mixtures + 1
			end
		end
		if t.last.version ~= n or #t.list ~= 20 then
			mixtures = mixtures + 1
		end
	end
	return mixtures
end

function command.memory(name)
	local t
	collectgarbage()
	local before = collectgarbage "count"
	t = sharetable.query(name)
	local sum = 0
	for i = 1, #t do
		sum = sum + (math.tointeger(t[i]) or 1)
	end
	collectgarbage()
	return collectgarbage "count" - before, sum
end

-- Its keys, as text, in the order of a loop.
function command.keys(name)
	local keys = {}
	for k in pairs(sharetable.query(name)) do
		keys[#keys + 1] = tostring(k)
	end
	return keys
end

function command.identity(name)
	return string.format("%p", sharetable.query(name))
end

serve(command)
