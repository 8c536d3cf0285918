-- skynet.sharetable: Lua tables that all services of the process read in place.
-- Owns the leases of this service: per name, one for each version it was given.
-- Invariant: while anything in this VM may refer to a version, its lease is open.

local skynet = require "skynet"
local core = require "skynet.sharetable.core"

-- With so many outdated leases, a query looks for those that can end. Looking
-- costs as much as a collection, so the limit doubles when they are in use.
local OUTDATED_MIN = 4

local provider

local function address()
	provider = provider or skynet.uniqueservice "sharetable"
	return provider
end

---@class skynet.sharetable
---@field address integer handle of the service; reading it may yield
local sharetable = setmetatable({}, {
	__index = function(_, key)
		if key == "address" then
			return address()
		end
	end,
})

-- Name -> { current = id, leases = { id -> lease }, copies = { id -> table } };
-- copies is for builds without sharing, where every reader has a copy.
local held = {}
local outdated, outdated_limit = 0, OUTDATED_MIN

local function ask(...)
	return skynet.call(address(), "lua", ...)
end

---Run a file in a VM of its own; the table it returns becomes the present
---version of `filename`. Yields. Raises what is wrong with the file; the version
---so far stays then.
---@param filename string relative to the working directory
---@param ... any arguments of the chunk: whatever can be packed
function sharetable.loadfile(filename, ...)
	ask("loadfile", filename, ...)
end

---As loadfile, with the text (or binary chunk) at hand.
---@param filename string the name
---@param source string code, or "@" and the name of a file
---@param ... any arguments of the chunk
function sharetable.loadstring(filename, source, ...)
	ask("loadstring", filename, source, ...)
end

---Publish a copy of a table, with the limits of skynet.pack. Yields.
---@param filename string the name
---@param tbl table
function sharetable.loadtable(filename, tbl)
	if type(filename) ~= "string" then
		require "skynet.misuse"("sharetable.loadtable", 1, "string", filename)
	elseif type(tbl) ~= "table" then
		require "skynet.misuse"("sharetable.loadtable", 2, "table", tbl, 0, ": assertion failed!")
	end
	local matrix = core.matrix(filename, "packed", skynet.packstring(tbl))
	local ok, err = pcall(ask, "publish", filename, matrix:id())
	matrix:close()
	if not ok then
		error(err, 0)
	end
end

---Take a name away: queries find nothing, readers keep what they have. Yields.
---@param filename string
---@return boolean # false when there was no such name
function sharetable.unload(filename)
	return ask("unload", filename)
end

local function count_outdated(entry)
	local n = 0
	for id in pairs(entry.leases) do
		if id ~= entry.current then
			n = n + 1
		end
	end
	return n
end

-- Forget the leases that are closed.
local function prune()
	outdated = 0
	for name, entry in pairs(held) do
		for id, lease in pairs(entry.leases) do
			if not lease:is_open() then
				entry.leases[id] = nil
				entry.copies[id] = nil
			end
		end
		if next(entry.leases) == nil then
			held[name] = nil
		else
			outdated = outdated + count_outdated(entry)
		end
	end
end

-- Enter all tables of a copy into `alive`.
local function note_tables(alive, copy, lease)
	alive[copy] = { lease = lease, is_root = true }
	local list, n = { copy }, 1
	local function add(t)
		if type(t) == "table" and not alive[t] then
			alive[t] = { lease = lease }
			n = n + 1
			list[n] = t
		end
	end
	local i = 1
	while i <= n do
		for k, v in pairs(list[i]) do
			add(k)
			add(v)
		end
		i = i + 1
	end
end

-- Without sharing: a version is done with when no table of its copy is alive.
-- `places` is lease -> { entry, id }.
local function release_copies(places)
	local alive = setmetatable({}, { __mode = "k" })
	for lease, place in pairs(places) do
		if place.entry.copies[place.id] then
			note_tables(alive, place.entry.copies[place.id], lease)
			place.entry.copies[place.id] = nil
		end
	end
	collectgarbage()
	local used = {}
	for t, note in pairs(alive) do
		used[note.lease] = true
		if note.is_root then
			local place = places[note.lease]
			place.entry.copies[place.id] = t
		end
	end
	for lease in pairs(places) do
		if not used[lease] then
			core.abandon(lease)
		end
	end
end

-- End the leases that pass the filter and are not in use.
local function release(filter)
	local leases, places = {}, {}
	for name, entry in pairs(held) do
		for id, lease in pairs(entry.leases) do
			if filter(name, entry, id) then
				leases[#leases + 1] = lease
				places[lease] = { entry = entry, id = id }
			end
		end
	end
	if #leases == 0 then
		return
	end
	if core.is_shared then
		core.release(leases)
	else
		release_copies(places)
	end
	prune()
end

local function is_outdated(_, entry, id)
	return id ~= entry.current
end

-- The table of a version this service has a lease of.
local function table_of(entry, id)
	if core.is_shared then
		return entry.leases[id]:table()
	end
	local copy = entry.copies[id] or entry.leases[id]:table()
	entry.copies[id] = copy
	return copy
end

-- Note that a name's present version is `id`. False when that is history already.
local function take(name, id)
	local entry = held[name]
	if not (entry and entry.leases[id]) then
		local lease = core.lease(id)
		if not lease then
			return false
		end
		entry = entry or { leases = {}, copies = {} }
		held[name] = entry
		entry.leases[id] = lease
		outdated = outdated + (entry.current and 1 or 0)
	end
	entry.current = id
	if outdated >= outdated_limit then
		release(is_outdated)
		outdated_limit = math.max(OUTDATED_MIN, outdated * 2)
	end
	return true
end

-- Ask for the present version and take it. The entry, or nil. Yields.
local function refresh(name)
	while true do
		local id = ask("query", name)
		if not id then
			return nil
		end
		if take(name, id) then
			return held[name]
		end
	end
end

---The present version of a table, read-only and shared with all who asked for the
---same version. Yields.
---@param filename string
---@return table? # no value when the name is unknown
function sharetable.query(filename)
	local entry = refresh(filename)
	if entry then
		return table_of(entry, entry.current)
	end
end

---The present versions of several tables. Yields.
---@param list string[]? default: all
---@return table<string, table>
function sharetable.queryall(list)
	if list ~= nil and type(list) ~= "table" then
		require "skynet.misuse"("sharetable.queryall", 1, "list of names", list)
	end
	local result = {}
	for name, id in pairs(ask("queryall", list)) do
		local entry
		if take(name, id) then
			entry = held[name]
		else
			entry = refresh(name)
		end
		result[name] = entry and table_of(entry, entry.current)
	end
	return result
end

-- Replace the tables of all older versions of a name by those of the present one.
local function rebind(entry)
	local olds = {}
	for id, lease in pairs(entry.leases) do
		if id ~= entry.current then
			olds[#olds + 1] = core.is_shared and lease or entry.copies[id]
		end
	end
	if #olds == 0 then
		return false
	end
	core.rebind(table_of(entry, entry.current), olds)
	if not core.is_shared then
		-- What is left of the copies is the reader's own.
		for id, lease in pairs(entry.leases) do
			if id ~= entry.current then
				core.abandon(lease)
			end
		end
		prune()
	end
	return true
end

---Replace, everywhere in this service, the tables of older versions of these names
---by what is at the same path of the present version. Stops the service for
---about the time of a full collection. Yields before, not while it replaces.
---@param ... string names; those never queried here are ignored
function sharetable.update(...)
	local names, is_stale = {}, false
	for _, name in ipairs { ... } do
		if held[name] and refresh(name) then
			names[name] = true
		end
	end
	for name in pairs(names) do
		if held[name] then
			is_stale = rebind(held[name]) or is_stale
		end
	end
	if is_stale then
		release(function(name, entry, id)
			return names[name] and id ~= entry.current
		end)
	end
end

---Let go of the versions that nothing in this service refers to any more, among
---them current ones. Collects garbage first. Does not yield.
---@param ... string names; none: all
---@return integer # versions of these names that are still in use
function sharetable.release(...)
	local names
	if select("#", ...) > 0 then
		names = {}
		for _, name in ipairs { ... } do
			names[name] = true
		end
	end
	collectgarbage()
	release(function(name)
		return not names or names[name]
	end)
	local n = 0
	for name, entry in pairs(held) do
		if not names or names[name] then
			for _ in pairs(entry.leases) do
				n = n + 1
			end
		end
	end
	return n
end

---@class skynet.sharetable.handle
---@field private name string
---@field private table table
---@overload fun(): table
local handle = {}
handle.__index = handle

-- The version taken last. Does not yield.
function handle:__call()
	return self.table
end

---Take the present version: constant time, whatever the sizes of the table and of
---this VM. Yields. The version so far stays when the name was taken away.
---@return boolean # is it another one
function handle:update()
	local entry = refresh(self.name)
	local before = self.table
	if entry then
		self.table = table_of(entry, entry.current)
	end
	return self.table ~= before
end

---A handle of a table: calling it gives the version it took last, for code that
---keeps no sub-tables and so needs no `sharetable.update`. Yields. Raises when the
---name is unknown.
---@param filename string
---@return skynet.sharetable.handle
function sharetable.handle(filename)
	local entry = refresh(filename) or error("no shared table '" .. tostring(filename) .. "'", 2)
	return setmetatable({ name = filename, table = table_of(entry, entry.current) }, handle)
end

---Is this a table (or a sub-table) that services share?
---@param value any
---@return boolean
sharetable.is_sharedtable = core.is_sharedtable

return sharetable
