-- A reader of shared documents for test_datasheet and test_sharedata: keeps proxies and
-- tells what they show. Its argument is the module that gives them.

local skynet = require "skynet"
local serve = require "serve"

local documents = require(...)
local held = {}
local command = {}

function command.query(name)
	held[name] = documents.query(name)
end

local function walk(v, ...)
	for _, key in ipairs { ... } do
		v = v[key]
	end
	return v
end

function command.get(name, ...)
	local ok, v = pcall(walk, held[name], ...)
	return ok, v
end

-- Keep the sub-table at a path under another name.
function command.keep(as, name, ...)
	held[as] = walk(held[name], ...)
end

function command.is_kept(as, name, ...)
	return rawequal(held[as], walk(held[name], ...))
end

function command.flush()
	documents.flush()
end

function command.drop()
	held = {}
	collectgarbage()
end

-- Read without yielding, then yield, again and again: count mixtures.
function command.watch(name, rounds)
	local root, mixtures, versions, last = documents.query(name), 0, 0, nil
	for _ = 1, rounds do
		local n = root.version
		if n ~= last then
			versions, last = versions + 1, n
		end
		for i, item in ipairs(root.list) do
			if item.version ~= n or root.list[i].text ~= "text " .. n then
				mixtures = mixtures + 1
			end
		end
		local count = 0
		for _, item in pairs(root.list) do
			count = count + (item.version == n and 1 or 0)
		end
		if count ~= 20 or root.last.version ~= n then
			mixtures = mixtures + 1
		end
		skynet.yield()
	end
	return mixtures, versions
end

serve(command)
