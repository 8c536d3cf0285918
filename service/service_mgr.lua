-- service_mgr (.service, and SERVICE on a stand-alone or master node): the
-- registry of unique services. Owns one entry per key; an entry is
--   { handle = h }                        running (evicted when h is gone)
--   { err = text }                        the last launch failed
--   { launch = {...}, waiting = {...} }   being launched, or only waited for
-- Invariant: `launch` is set from the LAUNCH request that starts the service
-- until that launch ended, so at most one launch per key is under way.

local skynet = require "skynet"
require "skynet.manager"
local alive = require "skynet.alive"

-- How long LIST waits for the trace-backs of services that are starting, cs.
local TRACE_LIMIT = 100

-- Key -> entry.
local registry = {}
-- Harbor id -> handle of that node's manager (master only).
local slaves = {}

local command = {}

local function entry_of(key)
	local entry = registry[key]
	if entry and entry.handle and not alive(entry.handle) then
		registry[key] = nil
		return nil
	end
	return entry
end

-- The handle of the service that `launch` is starting, once it is created.
local function starting_handle(launch)
	if not launch.handle then
		local session = skynet.task(launch.thread)
		launch.handle = session and skynet.call(".launcher", "lua", "QUERY", session, skynet.self())
	end
	return launch.handle
end

-- Learn the handles of all services that are being started. Yields.
local function find_starting_handles()
	local unfinished = {}
	for _, entry in pairs(registry) do
		if entry.launch and not entry.launch.handle then
			unfinished[#unfinished + 1] = entry.launch
		end
	end
	for _, starting in ipairs(unfinished) do
		starting_handle(starting)
	end
end

-- The keys that the service with this handle launches or waits for.
local function keys_wanted_by(handle)
	local keys = {}
	for key, entry in pairs(registry) do
		local wanted = entry.launch and entry.launch.source == handle
		for _, token in ipairs(entry.waiting or {}) do
			wanted = wanted or token.source == handle
		end
		if wanted then
			keys[#keys + 1] = key
		end
	end
	return keys
end

-- The chain of keys from `key` to one that `handle` is being started as, each
-- wanted by the service that is being started as the one before; or nil.
local function find_cycle(key, handle, visited)
	local entry = registry[key]
	local starting = not visited[key] and entry and entry.launch and entry.launch.handle
	if not starting then
		return nil
	end
	visited[key] = true
	if starting == handle then
		return { key }
	end
	for _, next_key in ipairs(keys_wanted_by(starting)) do
		local chain = find_cycle(next_key, handle, visited)
		if chain then
			table.insert(chain, 1, key)
			return chain
		end
	end
end

-- Wait until the launch of the entry is over. Yields. A service that would in
-- the end wait for its own start gets an error instead.
local function wait_entry(key, entry, context)
	find_starting_handles()
	local chain = find_cycle(key, context.source, {})
	if chain then
		table.insert(chain, 1, chain[#chain])
		error("unique services wait for each other: " .. table.concat(chain, " -> "), 0)
	end
	if entry.waiting then
		local token = { session = context.session, source = context.source }
		table.insert(entry.waiting, token)
		skynet.wait(token)
	end
	if entry.err then
		error(entry.err, 0)
	end
	return entry.handle
end

-- With all its fields, so that the end of a launch needs no memory.
local function new_entry()
	return { handle = false, err = false, launch = false, waiting = {} }
end

-- The launch of an entry is under way from here on.
local function start_one(entry, context, start, ...)
	entry.launch = {
		thread = coroutine.running(),
		session = context.session,
		source = context.source,
	}
	-- Called by pcall, so that an error does not begin with a line of this file.
	return pcall(start, ...)
end

local function launch(key, context, start, ...)
	local entry = entry_of(key)
	if entry and entry.handle then
		return entry.handle
	end
	if entry and entry.launch then
		return wait_entry(key, entry, context)
	end
	local exited = string.format("unique service %s exited during its start", key)
	if not entry or entry.err then
		entry = new_entry()
		registry[key] = entry
	end
	local called, ok, result = pcall(start_one, entry, context, start, ...)
	if not called then
		ok, result = false, ok
	elseif ok and not result then
		ok, result = false, exited
	end
	-- Tell everybody. There is a frame for each call here, as pcall had one: whoever waits does
	-- not wait for ever, should there be no memory for another.
	local waiting = entry.waiting
	entry.handle = ok and result
	entry.err = not ok and (type(result) == "string" and result or tostring(result))
	entry.launch, entry.waiting = nil, nil
	for i = 1, #waiting do
		skynet.wakeup(waiting[i])
	end
	return entry.handle or error(entry.err, 0)
end

local function query(key, context)
	local entry = entry_of(key)
	if not entry then
		entry = new_entry()
		registry[key] = entry
	end
	if entry.handle then
		return entry.handle
	end
	return wait_entry(key, entry, context)
end

-- Registry key and script of a request; for snax the type follows the name.
local function split_name(service_name, sub_name)
	local script = service_name:match "^@?(.*)$"
	if script == "snaxd" then
		if type(sub_name) ~= "string" then
			error("the name of the snax service is missing", 0)
		end
		return service_name .. "." .. sub_name, script, true
	end
	return service_name, script, false
end

local function check_name(service_name)
	if type(service_name) ~= "string" then
		error("service name must be a string, got " .. type(service_name), 0)
	end
end

function command.LAUNCH(context, service_name, sub_name, ...)
	check_name(service_name)
	local key, script, is_snax = split_name(service_name, sub_name)
	if is_snax then
		return launch(key, context, require "skynet.snax".rawnewservice, sub_name, ...)
	end
	return launch(key, context, skynet.call, ".launcher", "lua", "LAUNCH", "snlua", script, sub_name, ...)
end

function command.QUERY(context, service_name, sub_name)
	check_name(service_name)
	return query((split_name(service_name, sub_name)), context)
end

-- Traces are asked for all at once and within TRACE_LIMIT, since the services
-- concerned may be stuck. `ask(address, arg)` notes a request; `get(...)` reads it.
local function trace_collector()
	local request, answers, wanted = skynet.request(), {}, false
	local collector = {}
	function collector.ask(handle, arg)
		request:add { handle, "debug", "TASK", arg, id = handle .. "/" .. tostring(arg) }
		wanted = true
	end
	function collector.run()
		if wanted then
			for req, resp in request:select(TRACE_LIMIT) do
				answers[req.id] = resp and resp[1]
			end
		end
	end
	function collector.get(handle, arg)
		return tostring(answers[handle .. "/" .. tostring(arg)] or "no trace")
	end
	return collector
end

local function ask_traces(collector, entry)
	if entry.launch then
		local handle = starting_handle(entry.launch)
		if handle then
			collector.ask(handle, "init")
		end
		collector.ask(entry.launch.source, entry.launch.session)
	end
	for _, token in ipairs(entry.waiting or {}) do
		collector.ask(token.source, token.session)
	end
end

local function describe(collector, entry)
	if entry.handle then
		return skynet.address(entry.handle)
	elseif entry.err then
		return "Error: " .. entry.err
	end
	local lines = {}
	local starting = entry.launch
	if starting then
		if starting.handle then
			table.insert(lines, "Init as " .. skynet.address(starting.handle))
			table.insert(lines, collector.get(starting.handle, "init"))
		end
		table.insert(lines, "Launching from " .. skynet.address(starting.source))
		table.insert(lines, collector.get(starting.source, starting.session))
	end
	if entry.waiting and #entry.waiting > 0 then
		table.insert(lines, "Querying:")
		for _, token in ipairs(entry.waiting) do
			local trace = collector.get(token.source, token.session)
			table.insert(lines, skynet.address(token.source) .. " " .. trace)
		end
	end
	return table.concat(lines, "\n")
end

-- Entries of this node. Yields when some are unfinished.
local function list_local()
	local entries = {}
	for key in pairs(registry) do
		entries[key] = entry_of(key)
	end
	local collector = trace_collector()
	for _, entry in pairs(entries) do
		ask_traces(collector, entry)
	end
	collector.run()
	local result = {}
	for key, entry in pairs(entries) do
		result[key] = describe(collector, entry)
	end
	return result
end

-- The registry of a stand-alone or master node also holds the cluster-wide
-- services, under "@name".
local function serve_master()
	function command.GLAUNCH(context, name, ...)
		check_name(name)
		return command.LAUNCH(context, "@" .. name, ...)
	end

	function command.GQUERY(context, name, ...)
		check_name(name)
		return command.QUERY(context, "@" .. name, ...)
	end

	function command.REPORT(_, handle)
		slaves[skynet.harbor(handle)] = handle
		return true
	end

	function command.LIST()
		local result = list_local()
		for id, handle in pairs(slaves) do
			local ok, list = pcall(skynet.call, handle, "lua", "LIST")
			for key, value in pairs(ok and list or {}) do
				result[key .. "@" .. id] = value
			end
		end
		return result
	end
end

-- Other nodes ask the master and keep its answers.
local function serve_slave()
	local function forward(key, context, cmd, ...)
		return launch(key, context, function(...)
			local handle, err = skynet.call("SERVICE", "lua", cmd, ...)
			return handle or error(err or "no answer from SERVICE", 0)
		end, ...)
	end

	function command.GLAUNCH(context, name, ...)
		check_name(name)
		local global_name = "@" .. name
		return forward((split_name(global_name, ...)), context, "LAUNCH", global_name, ...)
	end

	function command.GQUERY(context, name, ...)
		check_name(name)
		local global_name = "@" .. name
		return forward((split_name(global_name, ...)), context, "QUERY", global_name, ...)
	end

	function command.LIST()
		return list_local()
	end
end

skynet.start(function()
	skynet.dispatch("lua", function(session, source, cmd, ...)
		local f = command[cmd]
		if not f then
			skynet.retpack(nil, "Invalid command " .. tostring(cmd))
			return
		end
		local ok, result = pcall(f, { session = session, source = source }, ...)
		if ok then
			skynet.retpack(result)
		else
			skynet.retpack(nil, result)
		end
	end)
	local taken = skynet.localname ".service"
	if taken then
		skynet.error(".service is already register by " .. skynet.address(taken))
		skynet.exit()
	end
	skynet.register ".service"
	if skynet.getenv "standalone" then
		serve_master()
		skynet.register "SERVICE"
	else
		serve_slave()
		skynet.call("SERVICE", "lua", "REPORT", skynet.self())
	end
end)
