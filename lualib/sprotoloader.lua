-- sprotoloader: process-wide slots (0..15) for compiled schemas, so that all
-- services read one copy. A slot owns a reference: replacing its schema frees
-- the old one as soon as nobody uses it. Any service, any time; nothing yields.

local core = require "sproto.core"
local parser = require "sprotoparser"
local sproto = require "sproto"

local loader = {}

-- Takes the caller's reference.
local function save(schema, index)
	local ok, err = pcall(core.saveproto, schema, index)
	core.deleteproto(schema)
	if not ok then
		error(err, 3)
	end
end

---Parse a schema file, or several that are one schema, into a slot. Raises when one
---cannot be read or is wrong; the slot then stays as it is.
---@param filename string|string[]
---@param index? integer slot, 0 by default
function loader.register(filename, index)
	local names = type(filename) == "table" and filename or { filename }
	if #names == 0 then
		error("sprotoloader.register: the name of a file is a string, not a " .. type(filename), 2)
	end
	local ok, bundle = pcall(parser.parse_files, table.unpack(names))
	if not ok then
		error(bundle, 2)
	end
	loader.save(bundle, index)
end

---Put the compiled bundle in a file into a slot. Raises when it cannot be read or is
---malformed; the slot then stays as it is.
---@param filename string
---@param index? integer slot, 0 by default
function loader.register_bundle(filename, index)
	if type(filename) ~= "string" then
		require "skynet.misuse"("sprotoloader.register_bundle", 1, "string", filename)
	end
	local text, why = require "skynet.readfile"(filename)
	if not text then
		error(("Can't open sproto file %s: %s"):format(filename, why), 2)
	end
	local schema = core.newproto(text) or error(filename .. " is no sproto bundle", 2)
	save(schema, index)
end

---Put a compiled bundle into a slot.
---@param bundle string
---@param index? integer slot, 0 by default
function loader.save(bundle, index)
	if type(bundle) ~= "string" then
		require "skynet.misuse"("sprotoloader.save", 1, "string", bundle)
	end
	save(core.newproto(bundle) or error("invalid sproto bundle", 2), index)
end

---An object over the schema in a slot. Raises when the slot is empty.
---@param index? integer slot, 0 by default
---@return sproto
function loader.load(index)
	return sproto.adopt(core.loadproto(index))
end

return loader
