-- service_provider: boots the function services of skynet.service and knows
-- them by name. Owns one entry per name that was ever booted successfully or is
-- booting, and the requests that wait for a name. Reading creates nothing.

local skynet = require "skynet"
local alive = require "skynet.alive"

-- Name -> { name, init, time, address, booting }.
local services = {}
-- Name -> text of the last boot failure, until the name is booted again or closed.
local failures = {}
-- Name -> array of response closures.
local waiting = {}

local command = {}

local function running(name)
	local entry = services[name]
	if entry and not entry.booting and not alive(entry.address) then
		services[name] = nil
		return nil
	end
	return entry
end

-- Whom there is no memory to tell the address gets an error.
local function answer(reply, ok, address)
	if not pcall(reply, ok, address) then
		reply(false)
	end
end

local function settle(name, ok, address)
	local replies = waiting[name]
	waiting[name] = nil
	for i = 1, replies and #replies or 0 do
		answer(replies[i], ok, address)
	end
end

local function wait_for(name)
	waiting[name] = waiting[name] or {}
	table.insert(waiting[name], skynet.response())
end

-- The arguments as shown by INFO, nil when there are none.
local function show_arguments(...)
	local n = select("#", ...)
	if n > 0 then
		local words = table.pack(...)
		for i = 1, n do
			words[i] = tostring(words[i])
		end
		return table.concat(words, ",")
	end
end

-- Start a cell and run the code in it. Yields. Raises on failure.
local function boot(entry, code, ...)
	services[entry.name] = entry
	local address = skynet.newservice("service_cell", entry.name)
	if not address then
		error("service_cell exited", 0)
	end
	entry.address = address
	local ok, err = pcall(skynet.call, address, "lua", "init", code, ...)
	if not ok then
		pcall(skynet.send, address, "debug", "EXIT")
		error(err, 0)
	end
end

function command.test(name)
	local entry = running(name)
	if not entry then
		skynet.retpack(nil)
	elseif entry.booting then
		skynet.retpack(nil, true)
	else
		skynet.retpack(entry.address)
	end
end

function command.query(name)
	local entry = running(name)
	if entry and not entry.booting then
		skynet.retpack(entry.address)
	elseif failures[name] then
		error(failures[name], 0)
	else
		wait_for(name)
	end
end

function command.launch(name, code, ...)
	local entry = running(name)
	if entry then
		command.query(name)
		return
	end
	entry = {
		name = name,
		init = show_arguments(...),
		time = skynet.time(),
		booting = true,
		address = false,
	}
	-- Its place: a failure is noted without memory.
	failures[name] = false
	local reply = skynet.response()
	local ok, err = pcall(boot, entry, code, ...)
	entry.booting = nil
	if ok then
		failures[name] = nil
		answer(reply, true, entry.address)
		settle(name, true, entry.address)
		return
	end
	services[name] = nil
	failures[name] = type(err) == "string" and err or tostring(err)
	reply(false)
	settle(name, false)
	skynet.error(string.format("service_provider: boot of '%s' failed: %s", name, err))
end

function command.close(name)
	failures[name] = nil
	local entry = running(name)
	if not entry or entry.booting then
		skynet.retpack(nil)
		return
	end
	services[name] = nil
	skynet.retpack(entry.address)
end

skynet.info_func(function()
	local info = {}
	for name in pairs(services) do
		local entry = running(name)
		if entry and entry.address then
			local status
			if entry.booting then
				status = waiting[name] and string.format("waiting(%d)", #waiting[name]) or "booting"
			end
			info[skynet.address(entry.address)] = {
				init = entry.init,
				name = entry.name,
				time = os.date("%Y-%m-%d %H:%M:%S", math.floor(entry.time)),
				status = status,
			}
		end
	end
	return info
end)

skynet.start(function()
	skynet.dispatch("lua", function(_, _, cmd, name, ...)
		local f = command[cmd] or error("Invalid command " .. tostring(cmd), 0)
		f(name, ...)
	end)
end)
