-- skynet.service: named services made from functions, one per name and node.
-- Client side of service_provider. Owns a cache of handles that were queried.

local skynet = require "skynet"
require "skynet.manager"
local alive = require "skynet.alive"

local service = {}

-- Name -> handle.
local cache = {}
local provider

local function get_provider()
	provider = provider or skynet.uniqueservice "service_provider"
	return provider
end

-- The main function travels as bytes: it must not need anything from here.
local function check_upvalues(mainfunc)
	local first, second = debug.getupvalue(mainfunc, 1), debug.getupvalue(mainfunc, 2)
	if first ~= "_ENV" or second ~= nil then
		error("service.new: the main function may capture only _ENV: assertion failed!", 3)
	end
end

local function check_name(where, name)
	if type(name) ~= "string" then
		require "skynet.misuse"(where, 1, "string", name, 1)
	end
end

---Handle of the service `name`. If there is none, `mainfunc` is run in a fresh
---service with the arguments. Yields. Raises when the function fails.
---@param name string
---@param mainfunc function exactly one upvalue, _ENV
---@param ... any arguments of mainfunc
---@return integer
function service.new(name, mainfunc, ...)
	check_name("service.new", name)
	if type(mainfunc) ~= "function" then
		error("service.new: the main function is a " .. type(mainfunc), 2)
	end
	local address, booting = skynet.call(get_provider(), "lua", "test", name)
	if address then
		return address
	end
	if booting then
		return service.query(name)
	end
	check_upvalues(mainfunc)
	address = skynet.call(get_provider(), "lua", "launch", name, string.dump(mainfunc), ...)
	cache[name] = address
	return address
end

---Handle of the service `name`; waits until it is created. Yields. Raises when
---its last creation failed.
---@param name string
---@return integer
function service.query(name)
	check_name("service.query", name)
	local address = cache[name]
	if not address or not alive(address) then
		address = skynet.call(get_provider(), "lua", "query", name)
		cache[name] = address
	end
	return address
end

---Kill the service `name`. Yields.
---@param name string
---@return boolean # false when there was no live instance
function service.close(name)
	check_name("service.close", name)
	local address = skynet.call(get_provider(), "lua", "close", name)
	cache[name] = nil
	if not address then
		return false
	end
	skynet.kill(address)
	return true
end

return service
