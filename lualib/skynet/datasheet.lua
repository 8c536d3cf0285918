-- skynet.datasheet: the reader's side of datasheets. Owns the tables that this
-- service reads: each is filled from the shared document at its first touch, and
-- is a plain table from then on, until the next version empties it.
-- Invariant: a table of `places` has its lazy metatable, or is filled, or dead.

local address = require "skynet.datasheet.address"
local core = require "skynet.sharedata.core"
local new_subscriber = require "skynet.sharedata.subscriber"

local datasheet = {}

-- Table -> { proxy = where its data is, root = proxy of the document, index = number }.
local places = setmetatable({}, { __mode = "k" })
-- Proxy -> table, as long as somebody has the table.
local tables = setmetatable({}, { __mode = "kv" })
-- How many tables there were.
local count = 0

local lazy, dead = {}, {}

local function table_of(proxy, root)
	local t = tables[proxy]
	if not t then
		t = setmetatable({}, lazy)
		places[t] = { proxy = proxy, root = root, index = count }
		tables[proxy] = t
		count = count + 1
	end
	return t
end

local function fill(t)
	local place = places[t]
	for k, v in pairs(place.proxy) do
		t[k] = type(v) == "table" and table_of(v, place.root) or v
	end
	-- Now, as there may be no memory for all.
	setmetatable(t, nil)
end

function lazy.__index(t, key)
	fill(t)
	return t[key]
end

function lazy.__len(t)
	fill(t)
	return #t
end

function lazy.__pairs(t)
	fill(t)
	return next, t, nil
end

local function refuse(t)
	error(string.format("Invalid proxy (index = %d)", places[t].index), 2)
end

dead.__index, dead.__newindex, dead.__len, dead.__pairs = refuse, refuse, refuse, refuse

-- A newer version is at hand: begin with all tables of this document again.
local function refresh(_, root)
	core.flush(root)
	for t, place in pairs(places) do
		if place.root == root then
			setmetatable(t, nil)
			for k in next, t do
				t[k] = nil
			end
			setmetatable(t, core.is_alive(place.proxy) and lazy or dead)
		end
	end
end

local subscription = new_subscriber(address, refresh)

---The root table of a datasheet, always the same one. Yields the first time. Raises
---when there is no such name; asking again is allowed.
---@param name string
---@return table # a copy: what is written there is lost with the next version
function datasheet.query(name)
	local proxy = subscription:query(name)
	return table_of(proxy, proxy)
end

return datasheet
