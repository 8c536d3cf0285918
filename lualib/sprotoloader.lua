-- sprotoloader: process-wide slots (0..15) for compiled schemas, so that all
-- services read one copy. A slot owns a reference: replacing its schema frees
-- the old one as soon as nobody uses it. Any service, any time; nothing yields.

local core = require "sproto.core"
local parser = require "sprotoparser"
local sproto = require "sproto"

local loader = {}

---Parse a schema file into a slot. Raises when it cannot be read or is wrong.
---@param filename string
---@param index? integer slot, 0 by default
function loader.register(filename, index)
	local f <close> = io.open(filename, "rb") or error("Can't open sproto file " .. filename, 2)
	loader.save(parser.parse(f:read "a", filename), index)
end

---Put a compiled bundle into a slot.
---@param bundle string
---@param index? integer slot, 0 by default
function loader.save(bundle, index)
	local schema = core.newproto(bundle) or error("invalid sproto bundle", 2)
	local ok, err = pcall(core.saveproto, schema, index)
	core.deleteproto(schema)
	if not ok then
		error(err, 2)
	end
end

---An object over the schema in a slot. Raises when the slot is empty.
---@param index? integer slot, 0 by default
---@return sproto
function loader.load(index)
	return sproto.adopt(core.loadproto(index))
end

return loader
