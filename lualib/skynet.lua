-- skynet: the module that every service uses. Messages, tasks, waiting and
-- answering are C functions (lualib-src/lua-task*.c) in this same table; what is
-- written here is protocols, start-up and finding services. Functions that most
-- services never use live in skynet.extra, which the first access loads.
--
-- Everything belongs to the one service that required it. A function that may
-- suspend the running task, so that other messages of the service are handled
-- before it returns, says "yields".

local c = require "skynet.core"
local skynet_require = require "skynet.require"

---@class skynet
local skynet = require "skynet.task"

local hooks = skynet._hooks
local proto = skynet._proto
local begin = skynet._begin

skynet.error = c.error
skynet.now = c.now
skynet.hpc = c.hpc
skynet.harbor = c.harbor
skynet.pack = c.pack
skynet.packstring = c.packstring
skynet.unpack = c.unpack
skynet.tostring = c.tostring
skynet.trash = c.trash

----------------------------------------------------------------- protocols

---Add a message class. Its table is kept: later changes of fields take effect.
---@param class { name: string, id: integer, pack: function?, unpack: function?, dispatch: function?, trace: boolean? }
function skynet.register_protocol(class)
	local name, id = class.name, class.id
	assert(type(name) == "string" and math.type(id) == "integer" and id >= 0 and id <= 255)
	assert(proto[name] == nil and proto[id] == nil)
	proto[name] = class
	proto[id] = class
end

---Read or replace the handler of a message class.
---@param typename string
---@param func (fun(session: integer, source: integer, ...: any))? new handler
---@return function? # the handler so far
function skynet.dispatch(typename, func)
	local class = proto[typename]
	if not func then
		return class and class.dispatch
	end
	if not class then
		error("unknown protocol type: " .. tostring(typename), 2)
	end
	local before = class.dispatch
	class.dispatch = func
	return before
end

skynet.register_protocol {
	name = "lua",
	id = skynet.PTYPE_LUA,
	pack = c.pack,
	unpack = c.unpack,
}

skynet.register_protocol {
	name = "response",
	id = skynet.PTYPE_RESPONSE,
}

skynet.register_protocol {
	name = "error",
	id = skynet.PTYPE_ERROR,
	unpack = function(...) return ... end,
	dispatch = skynet._on_error,
}

skynet.register_protocol {
	name = "debug",
	id = skynet.PTYPE_DEBUG,
	pack = c.pack,
	unpack = c.unpack,
	dispatch = function(...)
		local dispatch = require "skynet.debug".dispatch
		proto.debug.dispatch = dispatch
		return dispatch(...)
	end,
}

function hooks.unknown_request(session, source, msg, sz, name)
	c.error(string.format("Unknown request (%s): ", name) .. (c.tostring(msg, sz) or ""))
	error(string.format("Unknown session : %d from %x", session, source))
end

function hooks.unknown_response(session, source, msg, sz)
	c.error("Response message : " .. (c.tostring(msg, sz) or ""))
	error(string.format("Unknown session : %d from %x", session, source))
end

-- The node goes down (kernel message to every service, in reverse launch order).
function hooks.shutdown()
	for _, f in ipairs(hooks.on_shutdown or {}) do
		local ok, err = xpcall(f, debug.traceback)
		if not ok then
			c.error("on_shutdown: " .. tostring(err))
		end
	end
	skynet.exit()
end

------------------------------------------------------------------ start-up

---Register start-up work of a service or module that may yield. Main chunk of a
---service, or of a module being required: f runs before the start function,
---or before require returns. In a running task: f runs at once.
---@param f fun()
skynet.init = skynet_require.init

---Run the module-init functions and start_func in the running task, and tell
---the launcher how it went. Yields.
---@param start_func fun()
function skynet.init_service(start_func)
	local ok, err = xpcall(function()
		skynet_require.init_all()
		start_func()
	end, debug.traceback)
	if ok then
		skynet.send(".launcher", "lua", "LAUNCHOK")
		return
	end
	c.error("init service failed: " .. tostring(err))
	if not c.startfailed() then
		skynet.send(".launcher", "lua", "ERROR", tostring(err))
	end
	skynet.exit()
end

---Begin to handle messages; start_func runs as the first task, and the service
---counts as started when it returns. Once, in the main chunk.
---@param start_func fun()
function skynet.start(start_func)
	begin(function()
		skynet.init_service(start_func)
	end)
end

----------------------------------------------------------- other services

---Launch a Lua service and wait until it has started. Yields. Raises when it
---fails to start.
---@param name string script name
---@param ... string|number arguments of the script
---@return integer? handle nil when the service exited while it started
function skynet.newservice(name, ...)
	return skynet.call(".launcher", "lua", "LAUNCH", "snlua", name, ...)
end

local function service_request(global_cmd, local_cmd, global, ...)
	if global == true then
		return assert(skynet.call(".service", "lua", global_cmd, ...))
	end
	return assert(skynet.call(".service", "lua", local_cmd, global, ...))
end

---The one instance of a service on this node, launched if it is not there yet;
---with true first, the one of the whole cluster. Yields. Raises when it fails.
---@param global string|true script name, or true and the script name follows
---@param ... any arguments for the launch
---@return integer handle
function skynet.uniqueservice(global, ...)
	return service_request("GLAUNCH", "LAUNCH", global, ...)
end

---Wait for a unique service that somebody else launches. Yields.
---@param global string|true as for uniqueservice
---@return integer handle
function skynet.queryservice(global, ...)
	return service_request("GQUERY", "QUERY", global, ...)
end

---An address as text.
---@param addr integer|string
---@return string # ":%08x" for a handle, else tostring(addr)
function skynet.address(addr)
	if math.type(addr) == "integer" then
		return string.format(":%08x", addr & 0xffffffff)
	end
	return tostring(addr)
end

---A value of the node's configuration.
---@param key string
---@return string?
function skynet.getenv(key)
	if type(key) ~= "string" then
		error("the key of skynet.getenv is a string, not a " .. type(key), 2)
	end
	return (c.command("GETENV", key))
end

----------------------------------------------------------------- the rest

local function load_extra()
	setmetatable(skynet, nil)
	require "skynet.extra"
end

return setmetatable(skynet, {
	__index = function(_, key)
		load_extra()
		return skynet[key]
	end,
	__pairs = function()
		load_extra()
		return next, skynet, nil
	end,
})
