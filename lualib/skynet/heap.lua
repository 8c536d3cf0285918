-- skynet.heap: what the Lua heap of this service consists of, and how it grows:
-- snapshots by type and by place, differences between them, and samples of the
-- lines that allocate. Owns the snapshots that were kept. No function yields; a
-- snapshot holds the service up for 100 to 200 ns an object.

local skynet = require "skynet"
local memory = require "skynet.memory"

local M = {}

---@class skynet.heap.figure
---@field count integer
---@field bytes integer

---@class skynet.heap.snapshot
---@field count integer objects
---@field bytes integer
---@field truncated boolean the limit of objects was reached, the rest is missing
---@field types table<string, skynet.heap.figure>
---@field places table<string, skynet.heap.figure> the 1000 largest

-- Kept ones, packed: as tables they would be a good part of a small heap.
local kept = {}

---@param limit integer? objects looked at, 1000000 unless given
---@return skynet.heap.snapshot
function M.snapshot(limit)
	return memory.snapshot(limit)
end

---Keep a snapshot for a later `compare`.
---@param name string
---@param snapshot skynet.heap.snapshot
function M.keep(name, snapshot)
	kept[name] = skynet.packstring(snapshot)
end

---Forget a snapshot that was kept.
---@param name string
function M.forget(name)
	kept[name] = nil
end

local NOTHING = { count = 0, bytes = 0 }

local function difference(before, after)
	local result = {}
	for name, a in pairs(after) do
		local b = before[name] or NOTHING
		if a.bytes ~= b.bytes or a.count ~= b.count then
			result[name] = { count = a.count - b.count, bytes = a.bytes - b.bytes }
		end
	end
	for name, b in pairs(before) do
		if not after[name] then
			result[name] = { count = -b.count, bytes = -b.bytes }
		end
	end
	return result
end

local function check_snapshot(where, index, s)
	if type(s) ~= "table" or not (s.count and s.bytes and s.types and s.places) then
		require "skynet.misuse"(where, index, "snapshot", s, 1)
	end
end

---What has changed. A place that left or entered the 1000 largest counts from, or
---to, nothing.
---@param before skynet.heap.snapshot
---@param after skynet.heap.snapshot
---@return skynet.heap.snapshot # of differences; equal figures are left out
function M.diff(before, after)
	check_snapshot("heap.diff", 1, before)
	check_snapshot("heap.diff", 2, after)
	return {
		count = after.count - before.count,
		bytes = after.bytes - before.bytes,
		truncated = before.truncated or after.truncated,
		types = difference(before.types, after.types),
		places = difference(before.places, after.places),
	}
end

---What has changed since the snapshot of this name was kept.
---@param name string
---@param limit integer?
---@return skynet.heap.snapshot
function M.compare(name, limit)
	local packed = kept[name]
	if not packed then
		error("no snapshot was kept under the name " .. tostring(name)
			.. ": call keep first (memsnap in the console)", 2)
	end
	-- The new one first: the old one shall not be in it.
	local after = memory.snapshot(limit)
	return M.diff(skynet.unpack(packed), after)
end

---Note the line of about one allocation in `interval` bytes from now on, anew.
---@param interval integer 0: stop and forget
function M.sample(interval)
	memory.sample(interval)
end

---@return table<string, {live: integer, all: integer}> # source:line to estimated bytes: alive, and ever
function M.sites()
	return memory.sites()
end

local function sorted(figures, key)
	local list = {}
	for name, figure in pairs(figures) do
		list[#list + 1] = { name = name, figure = figure }
	end
	table.sort(list, function(a, b)
		local x, y = math.abs(a.figure[key]), math.abs(b.figure[key])
		if x ~= y then
			return x > y
		end
		return a.name < b.name
	end)
	return list
end

local function add_lines(lines, title, figures, n, format)
	lines[#lines + 1] = title
	for i, entry in ipairs(sorted(figures, "bytes")) do
		if i > n then
			break
		end
		lines[#lines + 1] = string.format(format, entry.figure.bytes, entry.figure.count, entry.name)
	end
end

---A snapshot, or a difference, for people.
---@param s skynet.heap.snapshot
---@param n integer? places to name, 30 unless given
---@param is_diff boolean?
---@return string
function M.text(s, n, is_diff)
	check_snapshot("heap.text", 1, s)
	local format = is_diff and "%+12d %+9d  %s" or "%12d %9d  %s"
	local lines = { string.format(format, s.bytes, s.count, "bytes and objects in all") }
	if s.truncated then
		lines[1] = lines[1] .. ", which is not everything: the limit was reached"
	end
	add_lines(lines, "by type:", s.types, math.huge, format)
	add_lines(lines, "by place:", s.places, n or 30, format)
	return table.concat(lines, "\n")
end

---The sites, the largest first, for people.
---@param n integer? 30 unless given
---@return string
function M.sites_text(n)
	if n ~= nil and math.type(n) == nil then
		require "skynet.misuse"("heap.sites_text", 1, "number", n)
	end
	local lines = { "       alive         ever  line" }
	for i, entry in ipairs(sorted(M.sites(), "live")) do
		if i > (n or 30) then
			break
		end
		lines[#lines + 1] = string.format("%12d %12d  %s", entry.figure.live, entry.figure.all, entry.name)
	end
	return table.concat(lines, "\n")
end

local KEPT = "console"

---The debug command HEAP (internal). Does not yield.
---@param what string "snapshot", "diff", ...
---@param argument any of that
---@return string text
function M.command(what, argument)
	if what == "snapshot" then
		M.forget(KEPT)
		local s = M.snapshot(argument)
		M.keep(KEPT, s)
		return M.text(s)
	elseif what == "diff" then
		return M.text(M.compare(KEPT, argument), nil, true)
	elseif what == "sample" then
		M.sample(argument)
		return argument == 0 and "sampling is off" or string.format("sampling one allocation in %d bytes", argument)
	elseif what == "sites" then
		return M.sites_text(argument)
	end
	error("unknown request of HEAP: " .. tostring(what), 0)
end

return M
