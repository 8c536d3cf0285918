-- skynet.sharemap: a struct of a sproto schema that one service writes and many
-- read, over a cell of skynet.stm. Owns nothing beyond its objects. Their inner
-- state is kept apart from them, so that no field name is taken by it; methods do
-- come before fields, and the functions of the module work on any object.

local loader = require "sprotoloader"
local stm = require "skynet.stm"

-- The schema's slot, for all services of the process.
local SLOT = 0

local sharemap = {}

-- Object -> { typename, data, cell }; the cell is its writer or reader in skynet.stm.
local states = setmetatable({}, { __mode = "k" })

local schema

local function check_type(typename)
	if not schema then
		local ok, result = pcall(loader.load, SLOT)
		if not ok then
			error(string.format("sharemap: call sharemap.register first, in any service: there is no schema (%s)",
				result), 3)
		end
		schema = result
	end
	if not schema:exist_type(typename) then
		error(string.format("sharemap: type not found: %s", tostring(typename)), 3)
	end
end

local function state_of(object, kind)
	local state = states[object]
	if not state or (kind and state.kind ~= kind) then
		error("a sharemap " .. (kind or "object") .. " expected", 3)
	end
	return state
end

local function encode(state)
	return schema:encode(state.typename, state.data)
end

-- Reads a whole version before it touches what the reader shows.
local function decode(pointer, size, state)
	local fresh, consumed = schema:decode(state.typename, pointer, size)
	local data = state.data
	for k in next, data do
		data[k] = nil
	end
	for k, v in next, fresh do
		data[k] = v
	end
	return data, consumed
end

local function get(methods)
	return function(object, key)
		local method = methods[key]
		if method ~= nil then
			return method
		end
		return states[object].data[key]
	end
end

local function iterate(object)
	return next, states[object].data, nil
end

local writer_meta = {
	__index = get {
		commit = function(object) sharemap.commit(object) end,
		copy = function(object) return sharemap.copy(object) end,
	},
	__newindex = function(object, key, value)
		states[object].data[key] = value
	end,
	__pairs = iterate,
}

local reader_meta = {
	__index = get { update = function(object) return sharemap.update(object) end },
	__newindex = function(_, key)
		error(string.format("attempt to change a sharemap reader (field '%s')", tostring(key)), 2)
	end,
	__pairs = iterate,
}

local function new_object(kind, meta, typename, data, cell)
	local object = setmetatable({}, meta)
	states[object] = { kind = kind, typename = typename, data = data, cell = cell }
	return object
end

---Read a sproto schema file for all services of the process. Once, before anything
---else here. Raises when it cannot be read or is wrong.
---@param filename string
function sharemap.register(filename)
	loader.register(filename, SLOT)
	schema = nil
end

---Publish a struct. Raises when the type is unknown or `init` does not fit it.
---@param typename string
---@param init? table the live data from now on
---@return table # fields are the live data; commit and copy are methods
function sharemap.writer(typename, init)
	check_type(typename)
	local data = init or {}
	return new_object("writer", writer_meta, typename, data, stm.new(schema:encode(typename, data)))
end

---Read a struct, the present version at first. Raises when the type is unknown or
---the pointer was used already.
---@param typename string
---@param pointer lightuserdata from copy, for one reader
---@return table # fields are those of the version taken last; update is a method
function sharemap.reader(typename, pointer)
	check_type(typename)
	local object = new_object("reader", reader_meta, typename, {}, stm.newcopy(pointer))
	sharemap.update(object)
	return object
end

---Publish the live data of a writer. When it does not fit the type, this raises,
---and the version so far stays.
---@param writer table
function sharemap.commit(writer)
	local state = state_of(writer, "writer")
	state.cell(encode(state))
end

---@param object table writer or reader
---@return lightuserdata # for one sharemap.reader, in any service
function sharemap.copy(object)
	return stm.copy(state_of(object).cell)
end

---Take the newest version, if there is one that was not taken.
---@param reader table
---@return boolean # true: taken
---@return table? # the data
---@return integer? # its bytes
function sharemap.update(reader)
	local state = state_of(reader, "reader")
	return state.cell(decode, state)
end

---The fields themselves, also those named like a method. Not to be written through
---a reader.
---@param object table writer or reader
---@return table
function sharemap.data(object)
	return state_of(object).data
end

return sharemap
