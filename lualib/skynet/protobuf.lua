-- skynet.protobuf: messages of Protocol Buffers, by descriptor sets that protoc
-- writes. Works in services and in the plain interpreter. Nothing yields.

local core = require "protobuf.core"

local protobuf = {}

---@class protobuf.schema
---@field encode fun(self, type: string, value: table): string
---@field decode fun(self, type: string, bytes: string, options: protobuf.options?): table
---@field default fun(self, type: string): table
---@field enum fun(self, type: string, value: string|integer): (integer|string)?
---@field messages fun(self): string[]
---@field share fun(self, name: string)

---@class protobuf.options
---@field defaults? boolean give absent fields their defaults
---@field unknown? boolean keep unknown fields, as an array of byte strings at key 0

---A schema from descriptor sets (`protoc --include_imports --descriptor_set_out`).
---Raises with what is wrong.
---@param ... string
---@return protobuf.schema
function protobuf.load(...)
	-- Descriptor sets one after the other are one descriptor set.
	local ok, schema = pcall(core.load, table.concat({ ... }))
	return ok and schema or error(schema, 2)
end

---A schema from files of descriptor sets.
---@param ... string
---@return protobuf.schema
function protobuf.loadfile(...)
	local sets = { ... }
	for i, name in ipairs(sets) do
		if type(name) ~= "string" then
			require "skynet.misuse"("protobuf.loadfile", i, "string", name)
		end
		local text, why = require "skynet.readfile"(name)
		sets[i] = text or error(("protobuf: can't open %s: %s"):format(name, why), 2)
	end
	local ok, schema = pcall(core.load, table.concat(sets))
	return ok and schema or error(("%s (%s)"):format(schema, table.concat({ ... }, ", ")), 2)
end

---The schema that some service shared under this name. Raises when there is none.
---@param name string
---@return protobuf.schema
function protobuf.shared(name)
	return core.shared(name) or error(("protobuf: no schema is shared as '%s'"):format(name), 2)
end

return protobuf
