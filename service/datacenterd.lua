-- datacenterd (DATACENTER): a tree of values for the whole harbor network.
-- Owns the tree and the waiters. A branch is a plain table; a waiter sits on
-- the path it waits for in a second tree of the same shape.
-- Invariants: a wait point is either a leaf (array of waiters) or a branch. What
-- is waited for is absent, and no scalar is in the way to it.

local skynet = require "skynet"
local alive = require "skynet.alive"

-- So many waiters are kept without looking for those of dead services.
local WAITERS_MIN = 16

-- The data. Tables are branches, everything else is a leaf.
local database = {}
-- The wait points: branch = { branch = { key -> node } }, leaf = { waiters = array
-- of { source, reply } }.
local wait_root = { branch = {} }
local waiting, waiting_limit = 0, WAITERS_MIN

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

-- Answer the waiters of a leaf: with a value, or with an error.
local function answer(point, ...)
	waiting = waiting - #point.waiters
	for _, waiter in ipairs(point.waiters) do
		waiter.reply(...)
	end
end

local function fail_all(point)
	if point.waiters then
		answer(point, false)
		return
	end
	for _, child in pairs(point.branch) do
		fail_all(child)
	end
end

local function is_waiting(waiter)
	return waiter.reply "TEST" and alive(waiter.source)
end

-- Drop the waiters of services that died. True: nobody is left at the point.
local function drop_dead(point)
	if point.waiters then
		local kept = {}
		for _, waiter in ipairs(point.waiters) do
			if is_waiting(waiter) then
				kept[#kept + 1] = waiter
			end
		end
		waiting = waiting - #point.waiters + #kept
		point.waiters = kept
		return #kept == 0
	end
	for key, child in pairs(point.branch) do
		if drop_dead(child) then
			point.branch[key] = nil
		end
	end
	return next(point.branch) == nil
end

-- A value has been set at a wait point: answer all whose path is in it, and fail
-- those whose path it cuts off. True: nobody waits there any more.
local function satisfy(point, value)
	if point.waiters then
		answer(point, true, value)
		return true
	elseif type(value) ~= "table" then
		fail_all(point)
		return true
	end
	for key, child in pairs(point.branch) do
		if value[key] ~= nil and satisfy(child, value[key]) then
			point.branch[key] = nil
		end
	end
	return next(point.branch) == nil
end

-- A value has been set at a path. Who waits for a shorter path fails: that has
-- become a branch.
local function notify(point, value, key, ...)
	local child = point.branch[key]
	if not child then
		return
	end
	local is_done
	if select("#", ...) == 0 then
		is_done = satisfy(child, value)
	elseif child.waiters then
		answer(child, false)
		is_done = true
	else
		notify(child, value, ...)
		is_done = next(child.branch) == nil
	end
	if is_done then
		point.branch[key] = nil
	end
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
	if value ~= nil then
		notify(wait_root, value, table.unpack(keys, 1, path_length))
	end
	return old
end

-- The wait point of a path, made if need be; or nil and why there can be none.
local function wait_point(point, key, ...)
	local child = point.branch[key]
	local is_leaf = select("#", ...) == 0
	if not child then
		child = is_leaf and { waiters = {} } or { branch = {} }
		point.branch[key] = child
	end
	if is_leaf then
		return child.waiters and child, "datacenter: a longer path is being waited for"
	elseif not child.branch then
		return nil, "datacenter: a shorter path is being waited for"
	end
	return wait_point(child, ...)
end

local function add_waiter(source, ...)
	if waiting >= waiting_limit then
		drop_dead(wait_root)
		waiting_limit = math.max(WAITERS_MIN, waiting * 2)
	end
	local point, conflict = wait_point(wait_root, ...)
	if not point then
		-- Perhaps with the dead only.
		drop_dead(wait_root)
		point = wait_point(wait_root, ...) or error(conflict, 0)
	end
	table.insert(point.waiters, { source = source, reply = skynet.response() })
	waiting = waiting + 1
end

function command.WAIT(source, ...)
	local n = select("#", ...)
	check_key(n, ...)
	if n == 0 then
		error("datacenter: wait needs a key", 0)
	end
	local value = find(database, ...)
	if value ~= nil then
		skynet.retpack(value)
	else
		add_waiter(source, ...)
	end
end

skynet.start(function()
	skynet.info_func(function()
		drop_dead(wait_root)
		return { waiters = waiting }
	end)
	skynet.dispatch("lua", function(_, source, cmd, ...)
		local f = command[cmd] or error("Invalid command " .. tostring(cmd), 0)
		if cmd == "WAIT" then
			f(source, ...)
			return
		end
		local value = f(...)
		if value == nil then
			skynet.ret()
		else
			skynet.retpack(value)
		end
	end)
end)
