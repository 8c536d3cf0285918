-- http.checkoptions: refuses tables of options with names that do not exist, or values
-- that can't be meant, when they are given and not when they are used. Keeps nothing.

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

---Raises what is wrong with a table of options. Does not yield.
---@param who string whose options they are, for the error
---@param given any nil is right
---@param rules table<string, string> name -> types that fit, with `|` between; "number" is
---one above 0, "count" a whole one from 0 on, "false" that value
return function(who, given, rules)
	if given == nil then
		return
	elseif type(given) ~= "table" then
		error(string.format("%s: options must be a table, not %s", who, tostring(given)), 0)
	end
	for name, value in pairs(given) do
		local rule = rules[name]
		if not rule then
			error(string.format("%s: unknown option '%s'", who, tostring(name)), 0)
		elseif not fits(rule, value) then
			local wanted = rule:gsub("|", " or "):gsub("number", "number above 0")
			error(string.format("%s: option '%s' must be a %s, not %s", who, name, wanted,
				tostring(value)), 0)
		end
	end
end
