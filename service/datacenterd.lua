-- datacenterd (DATACENTER): a tree of values for the whole harbor network.
-- Owns the tree and the waiters. A branch is a plain table; a waiter sits on
-- the path it waits for in a second tree of the same shape.
-- Invariant: a wait point is either a leaf (array of waiters) or a branch.

local skynet = require "skynet"

-- The data. Tables are branches, everything else is a leaf.
local database = {}
-- The wait points: branch = { branch = { key -> node } }, leaf = { replies = array }.
local wait_root = { branch = {} }

local command = {}

-- The node at a path, or nil. Raises when the path runs through a scalar.
local function find(node, key, ...)
	if key == nil then
		return node
	end
	if type(node) ~= "table" then
		if node == nil then
			return nil
		end
		error(string.format("datacenter: a %s has no field '%s'", type(node), tostring(key)), 0)
	end
	return find(node[key], ...)
end

function command.QUERY(key, ...)
	if key ~= nil then
		return find(database[key], ...)
	end
end

-- Set the leaf at path keys[1..n] to value; the old value. Missing branches
-- are made, unless there is nothing to put into them.
local function store(keys, n, value)
	local node = database
	for i = 1, n - 1 do
		local key = keys[i]
		local child = node[key]
		if child == nil then
			if value == nil then
				return nil
			end
			child = {}
			node[key] = child
		elseif type(child) ~= "table" then
			local reason = "datacenter: '%s' is a %s, no branch"
			error(reason:format(tostring(key), type(child)), 0)
		end
		node = child
	end
	local old = node[keys[n]]
	node[keys[n]] = value
	return old
end

-- All waiters at or below a wait point, failing the ones below.
local function fail_all(point)
	for _, reply in ipairs(point.replies or {}) do
		reply(false)
	end
	for _, child in pairs(point.branch or {}) do
		fail_all(child)
	end
end

-- Take the waiters that the creation of this path concerns out of the tree:
-- those of a shorter path fail. Result: those to be answered with the value.
local function take_waiters(point, key, ...)
	local child = point.branch[key]
	if not child then
		return
	end
	if select("#", ...) == 0 then
		if child.replies then
			point.branch[key] = nil
			return child.replies
		end
		return	-- somebody waits deeper; a set above does not concern him
	end
	if child.replies then
		-- The waited path becomes a branch.
		point.branch[key] = nil
		fail_all(child)
		return
	end
	local replies = take_waiters(child, ...)
	if next(child.branch) == nil then
		point.branch[key] = nil
	end
	return replies
end

local function check_key(n, ...)
	for i = 1, n do
		local key = select(i, ...)
		if key == nil or key ~= key then
			error("datacenter: a key of the path is " .. tostring(key), 0)
		end
	end
end

function command.UPDATE(...)
	local n = select("#", ...)
	if n == 0 then
		error("datacenter: set needs a key", 0)
	end
	-- A lone key is set to nil.
	local path_length = math.max(n - 1, 1)
	check_key(path_length, ...)
	local keys = { ... }
	local value
	if n > 1 then
		value = keys[n]
	end
	local old = store(keys, path_length, value)
	if old == nil and value ~= nil then
		local replies = take_waiters(wait_root, table.unpack(keys, 1, path_length))
		for _, reply in ipairs(replies or {}) do
			reply(true, value)
		end
	end
	return old
end

local function add_waiter(point, key, ...)
	local child = point.branch[key]
	if select("#", ...) == 0 then
		if not child then
			child = { replies = {} }
			point.branch[key] = child
		elseif not child.replies then
			error("datacenter: a longer path is being waited for", 0)
		end
		table.insert(child.replies, skynet.response())
		return
	end
	if not child then
		child = { branch = {} }
		point.branch[key] = child
	elseif not child.branch then
		error("datacenter: a shorter path is being waited for", 0)
	end
	add_waiter(child, ...)
end

-- Like find, but a scalar in the way means absent: it may still be replaced.
local function peek(node, key, ...)
	if key == nil or node == nil then
		return node
	elseif type(node) ~= "table" then
		return nil
	end
	return peek(node[key], ...)
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		if cmd == "WAIT" then
			local n = select("#", ...)
			check_key(n, ...)
			if n == 0 then
				error("datacenter: wait needs a key", 0)
			end
			local value = peek(database, ...)
			if value ~= nil then
				skynet.retpack(value)
			else
				add_waiter(wait_root, ...)
			end
		else
			local f = command[cmd] or error("Invalid command " .. tostring(cmd), 0)
			local value = f(...)
			if value == nil then
				skynet.ret()
			else
				skynet.retpack(value)
			end
		end
	end)
end)
