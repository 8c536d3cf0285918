-- skynet.datasheet.dump: datasheets as bytes, see doc/reference/datasheet.md.
-- Owns nothing. Bytes are not trusted: whatever is wrong with them raises.

local dump = {}

local NO_TABLE <const> = 0xffffffff
local MIN_INT <const>, MAX_INT <const> = -(1 << 31), (1 << 31) - 1

-- Types; the last three are only written where the others would lose something.
local INTEGER <const>, REAL <const>, BOOLEAN <const>, TABLE <const>, STRING <const> = 1, 2, 3, 4, 5
local INTEGER64 <const>, DOUBLE <const>, BYTES <const> = 6, 7, 8

------------------------------------------------------------------- writing

-- Offset of a piece of the strings area, which is added if it is not there.
local function add_piece(out, piece)
	local offset = out.offsets[piece]
	if not offset then
		offset = out.size
		out.offsets[piece] = offset
		out.pieces[#out.pieces + 1] = piece
		out.size = offset + #piece + 1
	end
	return offset
end

local write_table

local function write_number(out, v)
	local i = math.tointeger(v)
	local is_small = i and i >= MIN_INT and i <= MAX_INT
	if is_small and not (out.is_exact and math.type(v) == "float") then
		return INTEGER, string.pack("<i4", i)
	end
	local single = string.pack("<f", v)
	if not out.is_exact then
		return REAL, single
	elseif math.type(v) == "integer" then
		return INTEGER64, string.pack("<I4", add_piece(out, string.pack("<i8", v)))
	elseif v ~= v or string.unpack("<f", single) == v then
		return REAL, single
	end
	return DOUBLE, string.pack("<I4", add_piece(out, string.pack("<d", v)))
end

local function write_value(out, v)
	local t = type(v)
	if t == "number" then
		return write_number(out, v)
	elseif t == "boolean" then
		return BOOLEAN, v and "\0\0\0\1" or "\0\0\0\0"
	elseif t == "string" then
		if out.is_exact and v:find("\0", 1, true) then
			return BYTES, string.pack("<I4", add_piece(out, string.pack("<s4", v)))
		end
		return STRING, string.pack("<I4", add_piece(out, v))
	elseif t == "table" then
		return TABLE, string.pack("<I4", write_table(out, v))
	end
	error("Unsupport value " .. tostring(v), 0)
end

-- string.char of many bytes, without overflowing the stack.
local CHUNK <const> = 200

local function bytes_of(list)
	local parts = {}
	for i = 1, #list, CHUNK do
		parts[#parts + 1] = string.char(table.unpack(list, i, math.min(i + CHUNK - 1, #list)))
	end
	return table.concat(parts)
end

local function body(types, n, values)
	return string.pack("<I4I4", n, #types - n) .. bytes_of(types)
		.. ("\0"):rep(-#types % 4) .. table.concat(values)
end

-- Write a table and those below it; its number.
function write_table(out, t)
	local index = out.n
	out.n = index + 1
	if out.depth >= 200 then
		error("datasheet: tables are nested too deep, or in a cycle", 0)
	end
	out.depth = out.depth + 1
	local types, values, n = {}, {}, 0
	for i, v in ipairs(t) do
		types[i], values[i] = write_value(out, v)
		n = i
	end
	for k, v in pairs(t) do
		local is_item = math.type(k) == "integer" and k > 0 and k <= n
		if not is_item then
			assert(type(k) == "string")
			if out.is_exact and k:find("\0", 1, true) then
				error("datasheet: a key contains a zero byte", 0)
			end
			local key = string.pack("<I4", add_piece(out, k))
			local kind, value = write_value(out, v)
			types[#types + 1], values[#values + 1] = kind, key .. value
		end
	end
	out.depth = out.depth - 1
	out.bodies[index] = body(types, n, values)
	return index
end

-- Put a document together. `order` maps the number of a body to that of its
-- table; there are `n` numbers.
local function assemble(bodies, order, n, strings)
	local offsets, offset = {}, 0
	for i = 0, n - 1 do
		offsets[i + 1] = string.pack("<I4", NO_TABLE)
	end
	for i = 0, #bodies do
		offsets[order[i] + 1] = string.pack("<I4", offset)
		offset = offset + #bodies[i]
	end
	return string.pack("<I4I4", 8 + 4 * n + offset, n) .. table.concat(offsets)
		.. table.concat(bodies, "", 0) .. strings
end

---A table as a document. Raises for what a datasheet cannot hold.
---@param tbl table
---@param is_exact boolean? write what needs 64 bits or zero bytes in full, as types 6 to 8
---@return string
function dump.dump(tbl, is_exact)
	local out = {
		is_exact = is_exact, n = 0, depth = 0, bodies = {}, offsets = {}, pieces = {}, size = 0,
	}
	write_table(out, tbl)
	local order = {}
	for i = 0, out.n - 1 do
		order[i] = i
	end
	return assemble(out.bodies, order, out.n, table.concat(out.pieces, "\0") .. "\0")
end

------------------------------------------------------------------- reading

local function malformed(what)
	error("malformed datasheet: " .. what, 0)
end

local function u32(doc, at, limit)
	if at < 0 or at + 4 > limit then
		malformed "too short"
	end
	return (string.unpack("<I4", doc, at + 1))
end

-- Split a table's body: { narray, types, values, keys, at, size }.
local function parse_table(doc, at, limit, left)
	local narray, ndict = u32(doc, at, limit), u32(doc, at + 4, limit)
	local n = narray + ndict
	local values = at + 8 + (n + 3) // 4 * 4
	local size = values - at + narray * 4 + ndict * 8
	if at + size > limit or size > left then
		malformed "a table is too long"
	end
	local t = { narray = narray, types = {}, values = {}, keys = {}, at = at, size = size }
	for i = 1, n do
		t.types[i] = doc:byte(at + 8 + i)
		if i > narray then
			t.keys[i] = u32(doc, values, limit)
			values = values + 4
		end
		t.values[i] = u32(doc, values, limit)
		values = values + 4
	end
	return t
end

-- { n, strings = offset, tables = number -> body }
local function parse(doc)
	local strings, n = u32(doc, 0, #doc), u32(doc, 4, #doc)
	local first = 8 + 4 * n
	if n == 0 or strings > #doc or first > strings or #doc == strings or doc:byte(-1) ~= 0 then
		malformed "the header"
	end
	local d = { doc = doc, n = n, strings = strings, tables = {} }
	local left = strings - first -- bodies that overlap could make much of few bytes
	for i = 0, n - 1 do
		local offset = u32(doc, 8 + 4 * i, strings)
		if offset ~= NO_TABLE then
			local t = parse_table(doc, first + offset, strings, left)
			left = left - t.size
			d.tables[i] = t
		end
	end
	return d
end

local function string_at(d, offset)
	local at = d.strings + offset
	if at >= #d.doc then
		malformed "a string"
	end
	return d.doc:sub(at + 1, d.doc:find("\0", at + 1, true) - 1)
end

local function piece_at(d, format, offset)
	local ok, v = pcall(string.unpack, format, d.doc, d.strings + offset + 1)
	if not ok then
		malformed "a long value"
	end
	return v
end

local decode = {
	[INTEGER] = function(_, v) return (string.unpack("<i4", string.pack("<I4", v))) end,
	[REAL] = function(_, v) return (string.unpack("<f", string.pack("<I4", v))) end,
	[BOOLEAN] = function(_, v) return v ~= 0 end,
	[STRING] = string_at,
	[INTEGER64] = function(d, v) return piece_at(d, "<i8", v) end,
	[DOUBLE] = function(d, v) return piece_at(d, "<d", v) end,
	[BYTES] = function(d, v) return piece_at(d, "<s4", v) end,
}

local function read_table(d, index, map)
	local body_of = d.tables[index]
	if not body_of or d.seen[index] then
		malformed "a table's number"
	end
	d.seen[index] = true
	d.depth = d.depth + 1
	if d.depth > 200 then
		malformed "it is nested too deep"
	end
	local t = {}
	map[t] = index
	for i, kind in ipairs(body_of.types) do
		local v = body_of.values[i]
		if kind == TABLE then
			v = read_table(d, v, map)
		else
			v = (decode[kind] or malformed "a type")(d, v)
		end
		t[body_of.keys[i] and string_at(d, body_of.keys[i]) or i] = v
	end
	d.depth = d.depth - 1
	return t
end

---The table of a document. Raises when it is malformed.
---@param doc string
---@return table
---@return table<table, integer> # number of each table in it
function dump.undump(doc)
	local d = parse(doc)
	d.seen, d.depth = {}, 0
	local map = {}
	return read_table(d, 0, map), map
end

---------------------------------------------------------------------- diff

-- Sub-tables of a body: key -> number.
local function children(d, index)
	local list = {}
	local t = d.tables[index] or malformed "a table's number"
	for i, kind in ipairs(t.types) do
		if kind == TABLE then
			list[t.keys[i] and string_at(d, t.keys[i]) or i] = t.values[i]
		end
	end
	return list
end

-- Enter into `order` the old numbers of the tables below a path that both have.
local function match(last, current, old, new, order)
	if order[new] then
		malformed "a table's number"
	end
	order[new] = old
	local before = children(last, old)
	for key, index in pairs(children(current, new)) do
		if before[key] then
			match(last, current, before[key], index, order)
		end
	end
end

-- The body with the numbers of sub-tables replaced.
local function renumber(t, order)
	local values = {}
	for i, kind in ipairs(t.types) do
		local v = t.values[i]
		if kind == TABLE then
			v = order[v] or malformed "a table's number"
		end
		values[i] = string.pack("<I4", v)
		if t.keys[i] then
			values[i] = string.pack("<I4", t.keys[i]) .. values[i]
		end
	end
	return body(t.types, t.narray, values)
end

---`current` with its tables numbered so that those at paths which `last` has, too,
---have the same numbers there.
---@param last string
---@param current string
---@return string
function dump.diff(last, current)
	dump.undump(last)
	dump.undump(current)
	local a, b = parse(last), parse(current)
	local order, bodies, present = {}, {}, {}
	match(a, b, 0, 0, order)
	local n = a.n
	for i = 0, b.n - 1 do
		if b.tables[i] then
			present[#present + 1] = i
			if not order[i] then
				order[i] = n
				n = n + 1
			end
		end
	end
	local numbers = {}
	for k, i in ipairs(present) do
		bodies[k - 1] = renumber(b.tables[i], order)
		numbers[k - 1] = order[i]
	end
	return assemble(bodies, numbers, n, current:sub(b.strings + 1))
end

return dump
