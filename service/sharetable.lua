-- sharetable: publishes shared tables by name, see skynet.sharetable. Owns the
-- present version of each name, and what is left of the older ones for INFO.
-- A new version is complete before it replaces the old one, so a failed load
-- changes nothing.

local skynet = require "skynet"
local core = require "skynet.sharetable.core"

-- Name -> matrix of the present version.
local current = {}

local command = {}

local function publish(name, matrix)
	local old = current[name]
	current[name] = matrix
	if old then
		old:close()
	end
end

local function check_name(name)
	if type(name) ~= "string" then
		error("the name of a shared table is a string, not a " .. type(name), 0)
	end
end

function command.loadfile(name, ...)
	check_name(name)
	publish(name, core.matrix(name, "file", name, ...))
end

function command.loadstring(name, source, ...)
	check_name(name)
	if type(source) ~= "string" then
		error("the source of a shared table is a string, not a " .. type(source), 0)
	end
	local file = source:match "^@(.*)"
	if file then
		publish(name, core.matrix(name, "file", file, ...))
	else
		publish(name, core.matrix(name, "string", source, ...))
	end
end

function command.loadtable(name, msg, size)
	check_name(name)
	local ok, matrix = pcall(core.matrix, name, "packed", msg, size)
	skynet.trash(msg, size)
	if not ok then
		error(matrix, 0)
	end
	publish(name, matrix)
end

function command.publish(name, id)
	check_name(name)
	publish(name, core.adopt(id) or error("no such version", 0))
end

function command.unload(name)
	local old = current[name]
	if not old then
		return false
	end
	current[name] = nil
	old:close()
	return true
end

function command.query(name)
	return current[name] and current[name]:id()
end

function command.queryall(list)
	local ids = {}
	if list then
		for _, name in ipairs(list) do
			ids[name] = command.query(name)
		end
	else
		for name, matrix in pairs(current) do
			ids[name] = matrix:id()
		end
	end
	return ids
end

-- Leases end by themselves with the VM that has them.
function command.close()
end

skynet.start(function()
	skynet.info_func(function()
		local info = {}
		for name, matrix in pairs(current) do
			info[name] = { current = matrix:getptr(), size = matrix:size() }
		end
		for _, version in ipairs(core.versions()) do
			local entry = info[version.name] or {}
			info[version.name] = entry
			local holders = {}
			for i, handle in ipairs(version.holders) do
				holders[i] = skynet.address(handle)
			end
			table.sort(holders)
			local line = string.format("%s %d [%s]", version.pointer, version.size,
				table.concat(holders, ","))
			entry.history = entry.history and entry.history .. "\n" .. line or line
		end
		return info
	end)
	skynet.dispatch("lua", function(_, _, cmd, ...)
		local f = command[cmd] or error("Invalid command " .. tostring(cmd), 0)
		local result = f(...)
		if result == nil then
			skynet.ret()
		else
			skynet.retpack(result)
		end
	end)
end)
