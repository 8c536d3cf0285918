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
-- of { source, reply } }. All but the root have `parent` and the `key` that they have there.
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

-- The branch of the path keys[1..n], as far as there is one, and how many keys lead to it.
local function last_branch(keys, n)
	local node = database
	for i = 1, n do
		local child = node[keys[i]]
		if child == nil then
			return node, i - 1
		elseif type(child) ~= "table" then
			local reason = "datacenter: '%s' is a %s, no branch"
			error(reason:format(tostring(keys[i]), type(child)), 0)
		end
		node = child
	end
	return node, n
end

-- Set the leaf at path keys[1..n] to value; the old value. Missing branches
-- are made, unless there is nothing to put into them. All of it or, when it raises,
-- nothing.
local function store(keys, n, value)
	local node, depth = last_branch(keys, n - 1)
	local key = keys[depth + 1]
	local old
	if depth == n - 1 then
		old = node[key]
	elseif value ~= nil then
		for i = n, depth + 2, -1 do
			value = { [keys[i]] = value }
		end
	end
	node[key] = value
	return old
end

local function is_waiting(waiter)
	return waiter.reply "TEST" and alive(waiter.source)
end

-- Drop the waiters of services that died. True: nobody is left at the point. Needs no
-- memory but for the stack.
local function drop_dead(point)
	local waiters = point.waiters
	if waiters then
		local kept = 0
		for i = 1, #waiters do
			if is_waiting(waiters[i]) then
				kept = kept + 1
				waiters[kept], waiters[i] = waiters[i], waiters[kept]
			end
		end
		for i = #waiters, kept + 1, -1 do
			waiters[i] = nil
			waiting = waiting - 1
		end
		return kept == 0
	end
	for key, child in pairs(point.branch) do
		if drop_dead(child) then
			point.branch[key] = nil
		end
	end
	return next(point.branch) == nil
end

-- A value is to be set at the place of a wait point: `ended` gets the leaves where waiting
-- ends with it, that is those whose path is in it, and those whose path it cuts off, with
-- no value.
local function find_ended(ended, point, value)
	if point.waiters then
		ended[#ended + 1] = { point = point, value = value }
		return
	end
	local is_branch = type(value) == "table"
	for key, child in pairs(point.branch) do
		local inner
		if is_branch then
			inner = value[key]
		end
		if inner ~= nil or not is_branch then
			find_ended(ended, child, inner)
		end
	end
end

-- The same, for a value at a path. Who waits for a shorter path fails: that becomes a
-- branch.
local function ended_by(keys, n, value)
	local ended = {}
	local point = wait_root
	for i = 1, n do
		if point.waiters then
			find_ended(ended, point, nil)
			return ended
		end
		point = point.branch[keys[i]]
		if not point then
			return ended
		end
	end
	find_ended(ended, point, value)
	return ended
end

-- Take a point out, and the branches that only led to it. Needs no memory.
local function remove(point)
	local parent
	repeat
		parent = point.parent
		parent.branch[point.key] = nil
		point = parent
	until parent == wait_root or next(parent.branch) ~= nil
end

-- Who cannot be told the value, as there is no memory for it, fails.
local function answer(waiter, value)
	if value == nil or not pcall(waiter.reply, true, value) then
		waiter.reply(false)
	end
end

-- Answer all. They leave before, so that none is kept when there is no memory to go on: an
-- answer that is dropped is an error.
local function answer_all(ended)
	for _, e in ipairs(ended) do
		remove(e.point)
		waiting = waiting - #e.point.waiters
	end
	for _, e in ipairs(ended) do
		for _, waiter in ipairs(e.point.waiters) do
			answer(waiter, e.value)
		end
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
	-- First what may fail.
	local ended = value ~= nil and ended_by(keys, path_length, value) or {}
	local old = store(keys, path_length, value)
	answer_all(ended)
	return old
end

-- The leaf of a path, made if need be; or nil and why there can be none.
local function wait_leaf(keys)
	local point, made = wait_root, nil
	for i, key in ipairs(keys) do
		if point.waiters then
			return nil, "datacenter: a shorter path is being waited for"
		end
		local child = point.branch[key]
		if not child then
			child = { parent = point, key = key, [i == #keys and "waiters" or "branch"] = {} }
			-- The first one comes into the tree when all are there.
			made = made or child
			if made ~= child then
				point.branch[key] = child
			end
		end
		point = child
	end
	if made then
		made.parent.branch[made.key] = made
	end
	return point.waiters and point, "datacenter: a longer path is being waited for"
end

local function push_waiter(waiters, source)
	waiters[#waiters + 1] = { source = source, reply = skynet.response() }
end

local function add_waiter(source, keys)
	if waiting >= waiting_limit then
		drop_dead(wait_root)
		waiting_limit = math.max(WAITERS_MIN, waiting * 2)
	end
	local leaf, conflict = wait_leaf(keys)
	if not leaf then
		-- Perhaps with the dead only.
		drop_dead(wait_root)
		leaf = wait_leaf(keys) or error(conflict, 0)
	end
	local ok, err = pcall(push_waiter, leaf.waiters, source)
	if not ok then
		if #leaf.waiters == 0 then
			remove(leaf)
		end
		error(err, 0)
	end
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
		add_waiter(source, { ... })
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
