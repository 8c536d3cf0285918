-- skynet.options: tables of options that users give. A name that does not exist, or a value
-- that can't be meant, is found when the table is given and not when it is used. Where
-- users may keep fields of their own beside the options, only names that look like a slip
-- of the pen are told, with a line. Keeps what it has told.

local near = require "skynet.near"

local options = {}

-- what .. name -> true
local told = {}

local function fits(rule, value)
	local kind = type(value)
	for one in rule:gmatch "[^|]+" do
		if one == "number" then
			if kind == "number" and value > 0 then
				return true
			end
		elseif one == "count" then
			if math.type(value) == "integer" and value >= 0 then
				return true
			end
		elseif one == kind or one == "false" and value == false then
			return true
		end
	end
	return false
end

---What to say behind an error about a name that does not exist. Does not yield.
---@param name any
---@param known table<string, any> the names that do, as keys
---@param more table<string, any>? others
---@return string # empty when none is like it
function options.hint(name, known, more)
	local meant = type(name) == "string" and near(name, known, more)
	return meant and string.format(", did you mean '%s'?", meant) or ""
end

---Raises what is wrong with a table of options. Does not yield.
---@param who string whose options they are, for the error
---@param given any nil is right
---@param rules table<string, string> name -> types that fit, with `|` between; "number" is
---one above 0, "count" a whole one from 0 on, "false" that value
---@param level integer? as for error, default 0
function options.check(who, given, rules, level)
	level = level and level > 0 and level + 1 or 0
	if given == nil then
		return
	elseif type(given) ~= "table" then
		error(string.format("%s: options must be a table, not %s", who, tostring(given)), level)
	end
	for name, value in pairs(given) do
		local rule = rules[name]
		if not rule then
			error(string.format("%s: unknown option '%s'%s", who, tostring(name), options.hint(name, rules)), level)
		elseif not fits(rule, value) then
			local wanted = rule:gsub("|", " or "):gsub("number", "number above 0")
				:gsub("count", "whole number from 0 on")
			error(string.format("%s: option '%s' must be a %s, not %s", who, name, wanted,
				tostring(value)), level)
		end
	end
end

---Log, once for each, the names in a table of a user that are nearly those of options. All
---others are the user's own. Does not yield.
---@param what string before the name, e.g. "gate option"
---@param given table
---@param known table<string, any> the names that exist, as keys
---@param more table<string, any>? others
function options.warn(what, given, known, more)
	for name in pairs(given) do
		if type(name) == "string" and known[name] == nil and not (more and more[name]) then
			local key = what .. " " .. name
			local meant = not told[key] and near(name, known, more)
			if meant then
				told[key] = true
				require "skynet".error(string.format("%s '%s' does not exist, did you mean '%s'?", what, name, meant))
			end
		end
	end
end

return options
