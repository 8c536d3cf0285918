-- skynet.socket.name: the addresses of host names for skynet.socket, which loads this file
-- when a service first listens, uses UDP or asks for a name.
--
-- Owns nothing. A name that is being resolved is a record of skynet.socket with an id of the
-- socket core, as a connection is; its answer comes as the event of one.

local driver = require "skynet.socketdriver"

---@class skynet.socket.name
---@field resolve fun(host: string): string[]
---@field numeric fun(host: string, port: integer?, problem: string): string, integer

---The functions for one service.
---@param pool table<integer, skynet.socket.record> its sockets
---@param connect fun(id: integer, kind: string): integer?, string? waits for the event; yields
---@return skynet.socket.name
return function(pool, connect)
	local M = {}

	-- The addresses of a host, or nil and the reason. Yields for a name, unless no task
	-- runs: then it waits.
	local function lookup(host)
		local id = coroutine.isyieldable() and driver.lookup(host)
		if not id then
			local ok, list = pcall(driver.resolve, host)
			if ok then
				return list
			end
			return nil, list
		end
		if id < 0 then
			return nil, "invalid name or no free socket id"
		end
		local ok, err = connect(id, "name")
		if not ok then
			return nil, err
		end
		local list = {}
		for text in pool[id].addr:gmatch "%S+" do
			list[#list + 1] = text
		end
		pool[id] = nil
		return list
	end

	-- An address to bind or to send to, and the port. Raises `problem`, in the name of the
	-- caller's caller, for a name without one. Yields for a name.
	function M.numeric(host, port, problem)
		if type(host) ~= "string" then
			error(string.format("%s: the host is a string, not a %s", problem, type(host)), 3)
		elseif port ~= nil and not math.tointeger(port) then
			error(string.format("%s: the port is a whole number, not a %s", problem, type(port)), 3)
		end
		host, port = driver.split(host, port)
		if host == "" then
			return host, port
		end
		local list, why = lookup(host)
		if not list then
			error(string.format("%s: %s: %s", problem, host, why), 3)
		end
		return list[1], port
	end

	---Numeric addresses of a host name, each once. Raises when there are none. Yields for a
	---name, not for an address.
	---@param host string
	---@return string[]
	function M.resolve(host)
		local list, err = lookup(host)
		if not list then
			error(err, 2)
		end
		return list
	end

	return M
end
