-- skynet.datasheet.builder: publishes datasheets. Owns the list of names that this
-- service made.

local skynet = require "skynet"
local address = require "skynet.datasheet.address"
local core = require "skynet.sharedata.core"
local dump = require "skynet.datasheet.dump"

local builder = {}

-- Name -> true.
local made = {}

-- A datasheet has arrays and strings as keys, nothing else.
local function check(t)
	local n = 0
	for i, v in ipairs(t) do
		n = i
		if type(v) == "table" then
			check(v)
		end
	end
	for k, v in next, t do
		local is_item = math.type(k) == "integer" and k > 0 and k <= n
		if not is_item then
			if type(k) ~= "string" then
				error(string.format("a key of a datasheet is a string or in an array, not %s", k), 0)
			end
			if type(v) == "table" then
				check(v)
			end
		end
	end
end

local function publish(name, v)
	if type(v) == "string" then
		v = dump.undump(v)
	elseif type(v) ~= "table" then
		error(string.format("the data of the datasheet '%s' are a table, not a %s", name, type(v)), 0)
	end
	-- First: it refuses cycles.
	local document = core.new(v)
	local ok, err = pcall(function()
		check(v)
		skynet.call(address(), "lua", "update", name, document:id())
	end)
	document:close()
	if not ok then
		error(err, 0)
	end
end

---Publish under a name that this service has not used. Yields. Raises for data
---that a datasheet cannot hold.
---@param name string
---@param v table|string data, or what compile made of it
function builder.new(name, v)
	if type(name) ~= "string" then
		error("the name of a datasheet is a string, not a " .. type(name), 2)
	end
	if made[name] then
		error("the datasheet exists: " .. name, 2)
	end
	made[name] = true
	local ok, err = pcall(publish, name, v)
	if not ok then
		made[name] = nil
		error(err, 0)
	end
end

---Publish a new version. Yields. Raises when this service did not make the name,
---or the data is refused; readers keep the version so far then.
---@param name string
---@param v table|string
function builder.update(name, v)
	if not made[name] then
		error("no datasheet of this service: " .. tostring(name), 2)
	end
	publish(name, v)
end

---Data as bytes, for new and update. Nothing is lost: what the original format
---has no room for is written in types of our own.
---@param v table
---@return string
function builder.compile(v)
	if type(v) ~= "table" then
		require "skynet.misuse"("builder.compile", 1, "table", v)
	end
	return dump.dump(v, true)
end

return builder
