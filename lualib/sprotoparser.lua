-- sprotoparser: schema text into a compiled bundle, the string that sproto.new
-- takes. Two steps: a recursive descent parser makes a tree that remembers where
-- each thing was written; then names are resolved and the rules checked, so that
-- every error names file, line and what is wrong.
--
-- It owns nothing and nothing yields.

local parser = {}

-- Type codes of a bundle; a user type has none.
local BUILTIN <const> = { integer = 0, boolean = 1, string = 2, binary = 2, double = 3 }
-- Tags and numbers are inline values.
local MAX_TAG <const> = 32766
-- A decimal's factor must be exact in a double.
local MAX_DIGITS <const> = 9

----------------------------------------------------------------------- source

---@class sprotoparser.source
---@field text string
---@field name string
---@field pos integer      the next byte

local function line_of(source, pos)
	local _, breaks = source.text:sub(1, pos - 1):gsub("\n", "")
	return breaks + 1
end

local function place(source, pos)
	return string.format("[%s] line (%d)", source.name, line_of(source, pos))
end

local function syntax_error(source, wanted)
	-- The line reached is that of the thing in the way, after blanks.
	local text = string.format("syntax error at %s: %s expected",
		place(source, source.pos), wanted)
	error(text, 0)
end

-- A rule is broken by what stands at pos.
local function schema_error(source, pos, fmt, ...)
	error(string.format(fmt, ...) .. " at " .. place(source, pos), 0)
end

-- Skips blanks; returns whether there were any.
local function skip_blanks(source)
	local text, start = source.text, source.pos
	local pos = start
	while true do
		local c = text:sub(pos, pos)
		if c == "#" then
			pos = text:find("\n", pos, true) or #text + 1
		elseif c == " " or c == "\t" or c == "\n" then
			pos = pos + 1
		elseif c == "\r" and text:sub(pos + 1, pos + 1) == "\n" then
			pos = pos + 2
		else
			source.pos = pos
			return pos > start
		end
	end
end

local function need_blanks(source, after)
	if not skip_blanks(source) then
		syntax_error(source, "a blank after " .. after)
	end
end

-- Takes what the pattern (anchored, with one capture) matches here.
local function take(source, pattern)
	local found, stop = source.text:match(pattern, source.pos)
	if found then
		source.pos = stop
	end
	return found
end

local function take_word(source)
	return take(source, "^([%a_][%w_]*)()")
end

local function take_symbol(source, symbol)
	if source.text:sub(source.pos, source.pos) == symbol then
		source.pos = source.pos + 1
		return true
	end
	return false
end

local function need_symbol(source, symbol)
	if not take_symbol(source, symbol) then
		syntax_error(source, "'" .. symbol .. "'")
	end
end

-- A tag of something called `name`, 0..MAX_TAG.
local function need_tag(source, name)
	local start = source.pos
	local digits = take(source, "^(%d+)()")
	if not digits then
		syntax_error(source, "the tag of " .. name)
	end
	local tag = math.tointeger(tonumber(digits))
	if not tag or tag > MAX_TAG then
		schema_error(source, start, "unsigned overflow: tag %s of %s is above %d", digits, name, MAX_TAG)
	end
	return tag
end

local function need_type_name(source)
	local name = take_word(source)
	if not name then
		syntax_error(source, "a type name")
	end
	while source.text:find("^%.[%a_]", source.pos) do
		source.pos = source.pos + 1
		name = name .. "." .. take_word(source)
	end
	return name
end

---------------------------------------------------------------------- grammar

---@class sprotoparser.field
---@field name string
---@field tag integer
---@field pos integer
---@field is_array boolean
---@field typename string
---@field paren? string    what the first parenthesis holds

---@class sprotoparser.type
---@field name string      full name
---@field source sprotoparser.source  where it is written
---@field pos integer
---@field fields sprotoparser.field[]

local parse_type

-- "(word)", "(digits)" or "()".
local function take_paren(source)
	if not take_symbol(source, "(") then
		return nil
	end
	skip_blanks(source)
	local inside = take_word(source) or take(source, "^(%d+)()") or ""
	skip_blanks(source)
	need_symbol(source, ")")
	return inside
end

local function parse_field(source, name, pos)
	need_blanks(source, "field " .. name)
	local field = { name = name, pos = pos }
	field.tag = need_tag(source, "field " .. name)
	skip_blanks(source)
	need_symbol(source, ":")
	skip_blanks(source)
	field.is_array = take_symbol(source, "*")
	field.typename = need_type_name(source)
	field.paren = take_paren(source)
	-- Further parentheses have no meaning, but are allowed.
	repeat until not take_paren(source)
	return field
end

-- The braces of a type called `name`; adds it and what is inside to schema.
local function parse_struct(source, schema, name, pos)
	need_symbol(source, "{")
	local t = { name = name, source = source, pos = pos, fields = {} }
	schema.types[#schema.types + 1] = t
	while true do
		skip_blanks(source)
		local start = source.pos
		if take_symbol(source, "}") then
			return t
		elseif take_symbol(source, ".") then
			parse_type(source, schema, name, start)
		else
			local word = take_word(source)
			if not word then
				syntax_error(source, "a field, a type or '}'")
			end
			t.fields[#t.fields + 1] = parse_field(source, word, start)
		end
	end
end

-- After the dot.
function parse_type(source, schema, outer, pos)
	local name = take_word(source)
	if not name then
		syntax_error(source, "the name of a type")
	end
	skip_blanks(source)
	parse_struct(source, schema, outer and outer .. "." .. name or name, pos)
end

-- One body of a protocol.
local function parse_body(source, schema, protocol, kind, pos)
	if protocol[kind] then
		schema_error(source, pos, "redefine %s in protocol %s", kind, protocol.name)
	end
	need_blanks(source, kind)
	local start = source.pos
	if source.text:sub(start, start) == "{" then
		local t = parse_struct(source, schema, protocol.name .. "." .. kind, pos)
		protocol[kind] = { name = t.name, pos = start }
	else
		protocol[kind] = { name = need_type_name(source), pos = start }
	end
end

local function parse_protocol(source, schema, name, pos)
	need_blanks(source, "protocol " .. name)
	local protocol = { name = name, source = source, pos = pos }
	protocol.tag = need_tag(source, "protocol " .. name)
	skip_blanks(source)
	need_symbol(source, "{")
	while true do
		skip_blanks(source)
		local start = source.pos
		if take_symbol(source, "}") then
			break
		end
		local kind = take_word(source)
		if kind ~= "request" and kind ~= "response" then
			source.pos = start
			syntax_error(source, "'request', 'response' or '}'")
		end
		parse_body(source, schema, protocol, kind, start)
	end
	schema.protocols[#schema.protocols + 1] = protocol
end

-- Adds what the source contains to schema.
local function parse_schema(source, schema)
	while true do
		skip_blanks(source)
		local start = source.pos
		if start > #source.text then
			return
		elseif take_symbol(source, ".") then
			parse_type(source, schema, nil, start)
		else
			local word = take_word(source)
			if not word then
				syntax_error(source, "a type or a protocol")
			end
			parse_protocol(source, schema, word, start)
		end
	end
end

------------------------------------------------------------------------ rules

local function check_fields(t)
	local by_name, by_tag = {}, {}
	for _, f in ipairs(t.fields) do
		if by_name[f.name] then
			schema_error(t.source, f.pos, "redefine %s in type %s", f.name, t.name)
		elseif by_tag[f.tag] then
			schema_error(t.source, f.pos, "redefine tag %d in type %s", f.tag, t.name)
		end
		by_name[f.name], by_tag[f.tag] = f, f
	end
	t.by_name = by_name
	table.sort(t.fields, function(a, b) return a.tag < b.tag end)
end

-- The type that `name` means inside the type `outer`: the innermost one wins.
local function find_type(types, outer, name)
	while outer do
		local t = types[outer .. "." .. name]
		if t then
			return t
		end
		outer = outer:match "^(.*)%.[^.]*$"
	end
	return types[name]
end

-- What a parenthesis says of a built-in type; only integers have one.
local function check_builtin(t, f)
	f.builtin = BUILTIN[f.typename]
	if f.typename == "binary" then
		f.extra = 1
	end
	if not f.paren then
		return
	end
	local digits = tonumber(f.paren)
	if f.typename ~= "integer" or not digits then
		schema_error(t.source, f.pos, "Invalid (%s) on %s field %s of type %s",
			f.paren, f.typename, f.name, t.name)
	elseif digits > MAX_DIGITS then
		schema_error(t.source, f.pos, "Too many decimal digits (%s) in field %s of type %s, at most %d",
			f.paren, f.name, t.name, MAX_DIGITS)
	end
	f.extra = math.tointeger(digits)
end

-- A key must be one value: of a built-in type, and no array.
local function check_key(t, f, key, shown)
	if not key or not BUILTIN[key.typename] or key.is_array then
		schema_error(t.source, f.pos, "Invalid map index :%s in field %s of type %s",
			shown, f.name, t.name)
	end
	f.key = key.tag
end

-- What a parenthesis says of an array of a user type.
local function check_index(t, f)
	if not f.is_array then
		schema_error(t.source, f.pos, "Invalid (%s): field %s of type %s is not an array",
			f.paren, f.name, t.name)
	end
	local fields = f.target.fields
	if f.paren ~= "" then
		check_key(t, f, f.target.by_name[f.paren], f.paren)
		return
	end
	if #fields ~= 2 then
		schema_error(t.source, f.pos, "Invalid map definition: %s, must only have two fields, type %s",
			f.name, t.name)
	end
	check_key(t, f, fields[1], fields[1].name)
	f.is_map = true
end

local function resolve_field(types, t, f)
	if BUILTIN[f.typename] then
		check_builtin(t, f)
		return
	end
	f.target = find_type(types, t.name, f.typename)
	if not f.target then
		schema_error(t.source, f.pos, "Undefined type %s in type %s (field %s)",
			f.typename, t.name, f.name)
	end
	if f.paren then
		check_index(t, f)
	end
end

local function collect_types(schema)
	local types = {}
	for _, t in ipairs(schema.types) do
		if types[t.name] then
			schema_error(t.source, t.pos, "redefined %s", t.name)
		end
		types[t.name] = t
		check_fields(t)
	end
	table.sort(schema.types, function(a, b) return a.name < b.name end)
	for i, t in ipairs(schema.types) do
		t.number = i - 1
	end
	if #schema.types > MAX_TAG + 1 then
		error("sproto: too many types", 0)
	end
	return types
end

-- A body's type, or nil for `nil`; says whether there was a body at all.
local function resolve_body(types, protocol, kind)
	local body = protocol[kind]
	protocol[kind] = nil
	if not body or body.name == "nil" then
		return body ~= nil
	end
	local t = types[body.name]
	if not t then
		schema_error(protocol.source, body.pos, "Undefined %s type %s in protocol %s",
			kind, body.name, protocol.name)
	end
	protocol[kind] = t.number
	return true
end

local function check_protocols(schema, types)
	local by_name, by_tag = {}, {}
	for _, p in ipairs(schema.protocols) do
		if by_name[p.name] then
			schema_error(p.source, p.pos, "redefined %s", p.name)
		elseif by_tag[p.tag] then
			schema_error(p.source, p.pos, "redefined protocol tag %d at %s", p.tag, p.name)
		end
		by_name[p.name], by_tag[p.tag] = p, p
		resolve_body(types, p, "request")
		local has_response = resolve_body(types, p, "response")
		p.confirm = has_response and not p.response
	end
	table.sort(schema.protocols, function(a, b) return a.tag < b.tag end)
end

local function check_schema(schema)
	local types = collect_types(schema)
	for _, t in ipairs(schema.types) do
		for _, f in ipairs(t.fields) do
			resolve_field(types, t, f)
		end
	end
	check_protocols(schema, types)
end

----------------------------------------------------------------------- bundle

local SKIP <const> = 1 -- the word that leaves out one tag

local function inline(v)
	return (v + 1) * 2
end

-- A struct from its words, and its chunks in order.
local function pack_struct(words, ...)
	local out = { string.pack("<I2", #words) }
	for i, word in ipairs(words) do
		out[i + 1] = string.pack("<I2", word)
	end
	for i = 1, select("#", ...) do
		out[#out + 1] = string.pack("<s4", (select(i, ...)))
	end
	return table.concat(out)
end

local function pack_array(list, pack)
	local out = {}
	for i, item in ipairs(list) do
		out[i] = string.pack("<s4", pack(item))
	end
	return table.concat(out)
end

-- Words of values by tag, the first one 0: nil is left out, with one skip word
-- for each run of absent tags.
local function words_of(values, last)
	local words, gap = {}, 0
	for tag = 0, last do
		local v = values[tag]
		if v == nil then
			gap = gap + 1
		else
			if gap > 0 then
				words[#words + 1] = (gap - 1) * 2 + 1
				gap = 0
			end
			words[#words + 1] = v
		end
	end
	return words
end

local function pack_field(f)
	return pack_struct(words_of({
		[0] = 0,
		[1] = f.builtin and inline(f.builtin),
		[2] = f.target and inline(f.target.number) or f.extra and inline(f.extra),
		[3] = inline(f.tag),
		[4] = f.is_array and inline(1) or nil,
		[5] = f.key and inline(f.key),
		[6] = f.is_map and inline(1) or nil,
	}, 6), f.name)
end

local function pack_type(t)
	if #t.fields == 0 then
		return pack_struct({ 0 }, t.name)
	end
	return pack_struct({ 0, 0 }, t.name, pack_array(t.fields, pack_field))
end

-- Here words are positional: an absent value in between is one skip word.
local function pack_protocol(p)
	local words = { 0, inline(p.tag) }
	if p.request or p.response or p.confirm then
		words[3] = p.request and inline(p.request) or SKIP
	end
	if p.response or p.confirm then
		words[4] = p.response and inline(p.response) or SKIP
	end
	if p.confirm then
		words[5] = inline(1)
	end
	return pack_struct(words, p.name)
end

local function pack_schema(schema)
	local types = pack_array(schema.types, pack_type)
	local protocols = pack_array(schema.protocols, pack_protocol)
	if #schema.protocols == 0 then
		return #schema.types == 0 and pack_struct {} or pack_struct({ 0 }, types)
	elseif #schema.types == 0 then
		return pack_struct({ SKIP, 0 }, protocols)
	end
	return pack_struct({ 0, 0 }, types, protocols)
end

------------------------------------------------------------------------- API

local function compile(sources)
	local schema = { types = {}, protocols = {} }
	for _, source in ipairs(sources) do
		parse_schema(source, schema)
	end
	check_schema(schema)
	return pack_schema(schema)
end

---Compile a schema. Raises with file, line and cause when it is wrong.
---@param text string the schema
---@param name? string shown in errors, "=text" by default
---@return string bundle
function parser.parse(text, name)
	if type(text) ~= "string" then
		error("the schema of sproto is a text, not a " .. type(text), 2)
	end
	return compile { { text = text, name = name or "=text", pos = 1 } }
end

---Compile schema files into one bundle; each may use what the others define.
---Raises with file, line and cause when one is wrong.
---@param ... string names of files
---@return string bundle
function parser.parse_files(...)
	local sources = {}
	for i, name in ipairs { ... } do
		if type(name) ~= "string" then
			error("the name of a sproto file is a string, not a " .. type(name), 2)
		end
		local text, why = require "skynet.readfile"(name)
		if not text then
			error(("Can't open sproto file %s: %s"):format(name, why), 2)
		end
		sources[i] = { text = text, name = name, pos = 1 }
	end
	return compile(sources)
end

---Print bytes in hexadecimal, 16 a line.
---@param s string
function parser.dump(s)
	if type(s) ~= "string" then
		require "skynet.misuse"("sprotoparser.dump", 1, "string", s)
	end
	for i = 1, #s, 16 do
		local row = s:sub(i, i + 15):gsub(".", function(c)
			return string.format("%02X ", c:byte())
		end)
		print(row)
	end
end

return parser
