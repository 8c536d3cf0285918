-- cdummy: the .cslave of a single node. Keeps the global names of the process
-- and tells them to the harbor service, which holds messages to names that
-- nobody has registered yet.

local skynet = require "skynet"
require "skynet.manager"

-- Global name -> handle.
local globalname = {}
-- Global name -> array of response closures waiting for it.
local queries = {}
-- Handle of the harbor service.
local harbor_service

local command = {}

skynet.register_protocol {
	name = "harbor",
	id = skynet.PTYPE_HARBOR,
	pack = function(...) return ... end,
	unpack = skynet.tostring,
}

-- cs after which somebody is told that a message waits for a name, which may be a typo.
local PATIENCE <const> = 200

-- Unregistered names that were asked for -> true.
local awaited = {}

local function await(name)
	if awaited[name] then
		return
	end
	awaited[name] = true
	skynet.timeout(PATIENCE, function()
		if not globalname[name] then
			skynet.error(string.format("error: no service has registered the name %s so far, "
				.. "what is sent to it waits", name))
		end
	end)
end

-- The harbor service asks by text for names it does not know, "Q name"; here it will
-- be told anyway as soon as they are registered.
skynet.register_protocol {
	name = "text",
	id = skynet.PTYPE_TEXT,
	pack = function(...) return ... end,
	unpack = skynet.tostring,
	dispatch = function(_, _, text)
		local name = text:match "^Q (.+)$"
		if name and not globalname[name] then
			await(name)
		end
	end,
}

-- Once more by the same service does no harm: it is how a registration is repeated that found
-- no memory.
function command.REGISTER(name, handle)
	if globalname[name] and globalname[name] ~= handle then
		error(string.format("global name %s is %s's, %s does not get it", name,
			skynet.address(globalname[name]), skynet.address(handle)), 0)
	end
	skynet.redirect(harbor_service, handle, "harbor", 0, "N " .. name)
	globalname[name] = handle
	awaited[name] = nil
	local waiting = queries[name]
	queries[name] = nil
	for i = 1, waiting and #waiting or 0 do
		if not pcall(waiting[i], true, handle) then
			waiting[i](false)
		end
	end
	-- Usually a plain send; whoever calls learns that it worked.
	skynet.ret()
end

function command.QUERYNAME(name)
	if name:sub(1, 1) == "." then
		skynet.retpack(skynet.localname(name))
	elseif globalname[name] then
		skynet.retpack(globalname[name])
	else
		queries[name] = queries[name] or {}
		table.insert(queries[name], skynet.response())
		await(name)
	end
end

-- No other node is ever connected: its loss is immediate.
function command.LINK()
	skynet.ret()
end

function command.CONNECT()
	error("Can't connect to other harbor in single node mode", 0)
end

function command.LINKMASTER()
	error("There is no master in single node mode", 0)
end

skynet.start(function()
	local id = tonumber(skynet.getenv "harbor")
	assert(id == 0, "cdummy serves harbor = 0 only")
	skynet.dispatch("lua", function(_, _, cmd, ...)
		local f = command[cmd] or error("Invalid command " .. tostring(cmd), 0)
		f(...)
	end)
	-- Who registers a name is not told that it failed.
	skynet._repeat "lua"
	harbor_service = assert(skynet.launch("harbor", id, skynet.self()), "can't launch harbor")
end)
