-- vectors: reads the machine-readable test vectors, test/vectors/NAME.json.
-- Holds just enough of a JSON reader for them (no escapes beyond the usual,
-- no surrogate pairs) and the environment in which their expressions run.

local vectors = {}

local escapes = { n = "\n", t = "\t", r = "\r", b = "\b", f = "\f" }

local read_value

local function read_string(text, pos)
	local out = {}
	while true do
		local stop = text:find('["\\]', pos)
		out[#out + 1] = text:sub(pos, stop - 1)
		if text:sub(stop, stop) == '"' then
			return table.concat(out), stop + 1
		end
		local e = text:sub(stop + 1, stop + 1)
		if e == "u" then
			out[#out + 1] = utf8.char(tonumber(text:sub(stop + 2, stop + 5), 16))
			pos = stop + 6
		else
			out[#out + 1] = escapes[e] or e
			pos = stop + 2
		end
	end
end

local function read_list(text, pos, close, add)
	pos = text:find("%S", pos)
	if text:sub(pos, pos) == close then
		return pos + 1
	end
	while true do
		pos = add(pos)
		pos = text:find("%S", pos)
		local c = text:sub(pos, pos)
		if c == close then
			return pos + 1
		end
		assert(c == ",", "comma expected")
		pos = pos + 1
	end
end

local function read_array(text, pos)
	local t = {}
	pos = read_list(text, pos, "]", function(at)
		t[#t + 1], at = read_value(text, at)
		return at
	end)
	return t, pos
end

local function read_object(text, pos)
	local t = {}
	pos = read_list(text, pos, "}", function(at)
		local key
		key, at = read_value(text, at)
		at = text:match("^%s*:()", at)
		t[key], at = read_value(text, at)
		return at
	end)
	return t, pos
end

local words = { ["true"] = true, ["false"] = false }

function read_value(text, pos)
	pos = text:find("%S", pos)
	local c = text:sub(pos, pos)
	if c == '"' then
		return read_string(text, pos + 1)
	elseif c == "[" then
		return read_array(text, pos + 1)
	elseif c == "{" then
		return read_object(text, pos + 1)
	end
	local word, stop = text:match("^([%w%.%+%-]+)()", pos)
	if word == "null" then
		return nil, stop
	elseif words[word] ~= nil then
		return words[word], stop
	end
	return assert(tonumber(word), word), stop
end

---Read test/vectors/NAME.json.
---@param name string
---@return table suite with the field `vectors`
function vectors.load(name)
	local f <close> = assert(io.open("test/vectors/" .. name .. ".json", "rb"))
	return (read_value(f:read "a", 1))
end

---Evaluate an expression list of a vector.
---@param expr string
---@param env table? names it may use besides the standard library
---@return table values packed, with field n
function vectors.eval(expr, env)
	local scope = setmetatable({ inf = math.huge, nan = 0 / 0 }, {
		__index = function(_, k)
			local v = env and env[k]
			if v == nil then v = _G[k] end
			return v
		end,
	})
	return table.pack(assert(load("return " .. expr, "=vector", "t", scope))())
end

---@param s string
---@return string lower-case hex
function vectors.hex(s)
	return (s:gsub(".", function(c) return string.format("%02x", c:byte()) end))
end

---@param h string hex
---@return string
function vectors.unhex(h)
	return (h:gsub("%x%x", function(d) return string.char(tonumber(d, 16)) end))
end

return vectors
