-- skynet.managing: what skynet.manager adds to `skynet`: launching, ending and naming
-- services. Many services require that module and never use it, so this one is loaded
-- when one of its functions is first read. Owns nothing.

local skynet = require "skynet"
local c = require "skynet.core"
local NO_MEMORY = require "skynet.nomemory"

---@class skynet.manager
local M = {}

---Create a service without waiting until it has started and without telling the
---launcher.
---@param module string C module, e.g. "snlua"
---@param ... string|number
---@return integer? handle nil when it could not be created
function M.launch(module, ...)
	return c.addresscommand("LAUNCH", table.concat({ module, ... }, " "))
end

-- The handle that a local address means, or nil.
local function to_handle(addr)
	if type(addr) == "number" then
		return math.tointeger(addr)
	elseif addr:byte() == 58 then -- ":"
		return tonumber(addr:match "^:(%x+)$", 16)
	end
	return c.addresscommand("QUERY", addr)
end

---End a service at once; its requesters get errors.
---@param addr integer|string handle, ":hex" or ".name"
function M.kill(addr)
	if type(addr) == "string" and not addr:find "^[.:]" then
		-- The kernel logs what is wrong with it.
		c.command("KILL", addr)
		return
	end
	local handle = to_handle(addr)
	if handle then
		skynet.send(".launcher", "lua", "REMOVE", handle, true)
		c.command("KILL", skynet.address(handle))
	end
end

---End all services and with them the process.
function M.abort()
	c.command "ABORT"
end

-- Give handle a name that all nodes know.
local function register_global(name, handle)
	if name:byte() == 58 then -- ":"
		error("Invalid name " .. name, 3)
	end
	if #name == 0 or #name > 15 or tonumber(name) then
		error(string.format("Invalid name '%s': a global name has 1 to 15 bytes and is no number: "
			.. "assertion failed!", name), 3)
	end
	require "skynet.harbor".globalname(name, handle)
	return true
end

---Name this service.
---@param name string ".local", or a global name
---@return boolean # false: the local name is taken. true for a global one: see harbor.globalname
function M.register(name)
	if type(name) ~= "string" then
		require "skynet.misuse"("skynet.register", 1, "string", name)
	end
	if name:byte() == 46 then -- "."
		return c.command("REG", name) ~= nil
	end
	return register_global(name, skynet.self())
end

---Name a service.
---@param name string ".local", or a global name
---@param handle integer|string handle; for local names ":hex" too
---@return boolean # false: the local name is taken, or there is no such service
function M.name(name, handle)
	if type(name) ~= "string" then
		require "skynet.misuse"("skynet.name", 1, "string", name)
	elseif type(handle) ~= "string" and math.type(handle) ~= "integer" then
		error(string.format("to name '%s' takes the handle of a service, not a %s", name,
			type(handle)), 2)
	end
	if name:byte() ~= 46 then
		return register_global(name, handle)
	end
	local text = skynet.address(handle)
	local number = to_handle(text)
	if not number or not c.alive(number) then
		return false
	end
	return c.command("NAME", name .. " " .. text) ~= nil
end

---Instead of skynet.start: messages of the types that are keys of map are
---handled as type map[type], and their memory is the handler's to pass on or to
---free with skynet.trash.
---@param map table<integer, integer>
---@param start_func fun()
function M.forward_type(map, start_func)
	if type(map) ~= "table" then
		require "skynet.misuse"("skynet.forward_type", 1, "table", map)
	elseif type(start_func) ~= "function" then
		require "skynet.misuse"("skynet.forward_type", 2, "function", start_func)
	end
	local dispatch = skynet.dispatch_message
	c.callback(function(ptype, msg, size, session, source)
		local mapped = map[ptype]
		if mapped then
			return dispatch(mapped, msg, size, session, source)
		end
		local ok, err = pcall(dispatch, ptype, msg, size, session, source)
		c.trash(msg, size)
		if not ok then
			error(err, 0)
		end
	end, true)
	skynet._begin(start_func)
end

---Instead of skynet.start: every message passes through f first. When f raises, a request is
---answered with the error, and an answer is one.
---@param f fun(type: integer, msg: lightuserdata, size: integer, session: integer, source: integer): ...
---@param start_func fun()
function M.filter(f, start_func)
	if type(f) ~= "function" then
		require "skynet.misuse"("skynet.filter", 1, "function", f)
	elseif type(start_func) ~= "function" then
		require "skynet.misuse"("skynet.filter", 2, "function", start_func)
	end
	local dispatch, send = skynet.dispatch_message, c.send
	local is_response, is_error = skynet.PTYPE_RESPONSE, skynet.PTYPE_ERROR
	-- What f gave; or it has raised, and whoever waits for an answer of this service, or here
	-- for the message, hears an error. What comes from nobody takes effect, as it means nothing
	-- to f. When memory is short there is some for calls as deep as that of f, and no more.
	local function filtered(message, session, source, ok, ...)
		if ok then
			return dispatch(...)
		end
		local err = ...
		if message == is_error or message == is_response then
			dispatch(source == 0 and message or is_error, nil, 0, session, source)
		elseif session ~= 0 then
			send(source, is_error, session, err == NO_MEMORY and err or tostring(err))
		end
		error(err, 0)
	end
	c.callback(function(message, msg, size, session, source)
		filtered(message, session, source, pcall(f, message, msg, size, session, source))
	end)
	skynet._begin(start_func)
end

---Make a global unique service the monitor of this node: it gets an empty message
---of type client from every service that ends. Yields.
---@param service string
---@param query boolean? true: somebody else launches it
---@return integer handle
function M.monitor(service, query)
	local find = query and skynet.queryservice or skynet.uniqueservice
	local monitor = assert(find(true, service), "Monitor launch failed")
	c.command("MONITOR", skynet.address(monitor))
	return monitor
end

return M
