-- skynet.snax: client side of snax services, objects whose methods are
-- messages. Registers the protocol `snax`. Owns the caches of interfaces (per
-- type) and of objects (per handle, weak).

local skynet = require "skynet"
local interface = require "snax.interface"

local snax = {}

skynet.register_protocol {
	name = "snax",
	id = skynet.PTYPE_SNAX,
	pack = skynet.pack,
	unpack = skynet.unpack,
}

---@class snax.interface
---@field name string
---@field accept table<string, integer>
---@field response table<string, integer>
---@field system table<string, integer>
---@field signature string

---@class snax.object
---@field post table<string, fun(...)> accept methods: send
---@field req table<string, fun(...): ...> response methods: call, yields
---@field type string
---@field handle integer

-- Type name -> interface.
local interfaces = {}
-- Handle -> object.
local objects = setmetatable({}, { __mode = "v" })

---The methods of a type and their numbers. Runs the type file the first time.
---@param name string
---@return snax.interface
function snax.interface(name)
	local found = interfaces[name]
	if found then
		return found
	end
	if type(name) ~= "string" then
		error("the name of a snax type is a string, not a " .. type(name), 3)
	end
	local methods = interface.client(name)
	found = {
		name = name,
		accept = {},
		response = {},
		system = {},
		signature = interface.signature(methods),
	}
	for id, method in ipairs(methods) do
		found[method.group][method.name] = id
	end
	interfaces[name] = found
	return found
end

-- A table of functions that are made when first used.
local function method_table(ids, make, complaint, type_name)
	return setmetatable({}, { __index = function(self, name)
		local id = ids[name]
		if not id then
			error(string.format("%s %s:%s no exist", complaint, type_name, tostring(name)), 2)
		end
		local f = make(id)
		rawset(self, name, f)
		return f
	end })
end

local function new_object(handle, kind)
	local function post(id)
		return function(...)
			skynet.send(handle, "snax", id, ...)
		end
	end
	local function req(id)
		return function(...)
			return skynet.call(handle, "snax", id, ...)
		end
	end
	return setmetatable({
		post = method_table(kind.accept, post, "post", kind.name),
		req = method_table(kind.response, req, "request", kind.name),
		type = kind.name,
		handle = handle,
	}, { __tostring = function()
		return string.format("[%s:%x]", kind.name, handle)
	end })
end

---Object for an existing service.
---@param handle integer
---@param name string type
---@return snax.object
function snax.bind(handle, name)
	local object = objects[handle]
	if object then
		assert(object.type == name)
		return object
	end
	object = new_object(handle, snax.interface(name))
	objects[handle] = object
	return object
end

-- Client and service number the methods by reading the type file each for
-- itself; a service that read another version must not be talked to.
local function check_interface(handle, kind)
	local signature = skynet.call(handle, "debug", "SNAXSIGNATURE")
	if signature ~= kind.signature then
		error(string.format("interface of snax type %s differs: service has [%s], client has [%s]",
			kind.name, signature, kind.signature), 0)
	end
end

-- What pcall gave, or a service ends that nobody will know.
local function or_end(handle, ok, result)
	if not ok then
		skynet.send(handle, "debug", "EXIT")
		error(result, 0)
	end
	return result
end

local function init(handle, kind, ...)
	check_interface(handle, kind)
	skynet.call(handle, "snax", kind.system.init, ...)
	return handle
end

---Start a service of the type and run its init; its handle. Yields.
---@param name string
---@param ... any arguments of init
---@return integer handle
function snax.rawnewservice(name, ...)
	local kind = snax.interface(name)
	local handle = assert(skynet.newservice("snaxd", name))
	return or_end(handle, pcall(init, handle, kind, ...))
end

---Start a service of the type and run its init; an object for it. Yields.
---@param name string
---@param ... any arguments of init
---@return snax.object
function snax.newservice(name, ...)
	local handle = snax.rawnewservice(name, ...)
	return or_end(handle, pcall(snax.bind, handle, name))
end

-- The service manager answers a value, or nil and a message.
local function ask_manager(...)
	return assert(skynet.call(".service", "lua", ...))
end

---The node's unique service of the type, started when needed. Yields.
---@param name string
---@param ... any arguments of init
---@return snax.object
function snax.uniqueservice(name, ...)
	return snax.bind(ask_manager("LAUNCH", "snaxd", name, ...), name)
end

---The unique service of the type in the harbor network. Yields.
---@param name string
---@param ... any arguments of init
---@return snax.object
function snax.globalservice(name, ...)
	return snax.bind(ask_manager("GLAUNCH", "snaxd", name, ...), name)
end

---Wait for the node's unique service of the type. Yields.
---@param name string
---@return snax.object
function snax.queryservice(name)
	return snax.bind(ask_manager("QUERY", "snaxd", name), name)
end

---Wait for the network's unique service of the type. Yields.
---@param name string
---@return snax.object
function snax.queryglobal(name)
	return snax.bind(ask_manager("GQUERY", "snaxd", name), name)
end

-- The interface of an object that a caller gave.
local function interface_of(object)
	if type(object) ~= "table" or object.type == nil then
		error("a snax object is wanted, see snax.newservice and snax.bind; got a " .. type(object), 3)
	end
	return snax.interface(object.type)
end

---Run the exit function of a service and end it. Yields.
---@param object snax.object
---@param ... any arguments of exit
function snax.kill(object, ...)
	local kind = interface_of(object)
	skynet.call(object.handle, "snax", kind.system.exit, ...)
end

---Object for the service itself, inside a snax service.
---@return snax.object
function snax.self()
	return snax.bind(skynet.self(), SERVICE_NAME)
end

---End the own snax service. Never returns.
---@param ... any arguments of exit
function snax.exit(...)
	snax.kill(snax.self(), ...)
end

local function check_result(ok, ...)
	if not ok then
		error((...), 0)
	end
	return ...
end

---Patch a running service: all of it or nothing. Yields. Raises the reason.
---@param object snax.object
---@param source string text of the patch
---@param ... any arguments of the patch's hotfix function
---@return any ... its results
function snax.hotfix(object, source, ...)
	local kind = interface_of(object)
	return check_result(skynet.call(object.handle, "snax", kind.system.hotfix, source, ...))
end

---Log a formatted line.
---@param fmt string
---@param ... any
function snax.printf(fmt, ...)
	if type(fmt) ~= "string" then
		require "skynet.misuse"("snax.printf", 1, "string", fmt)
	end
	skynet.error(string.format(fmt, ...))
end

---Calls and CPU seconds per method. Yields.
---@param object snax.object
---@return table<string, { count: integer, time: number }>
function snax.profile_info(object)
	local kind = interface_of(object)
	return skynet.call(object.handle, "snax", kind.system.profile)
end

return snax
