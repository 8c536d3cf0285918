-- skynet.find: launching services and finding unique ones; functions of `skynet`.
-- Owns nothing.

local skynet = require "skynet"

---@class skynet.find
local M = {}

---Launch a Lua service and wait until it has started. Yields. Raises when it
---fails to start.
---@param name string script name
---@param ... string|number arguments of the script
---@return integer? handle nil when the service exited while it started
function M.newservice(name, ...)
	return skynet.call(".launcher", "lua", "LAUNCH", "snlua", name, ...)
end

local function ask(global_cmd, local_cmd, global, ...)
	local handle, why
	if global == true then
		handle, why = skynet.call(".service", "lua", global_cmd, ...)
	else
		handle, why = skynet.call(".service", "lua", local_cmd, global, ...)
	end
	-- The public function has left its place to this one.
	return handle or error(why, 2)
end

---The one instance of a service on this node, launched if it is not there yet;
---with true first, the one of the whole cluster. Yields. Raises when it fails.
---@param global string|true script name, or true and the script name follows
---@param ... any arguments for the launch
---@return integer handle
function M.uniqueservice(global, ...)
	return ask("GLAUNCH", "LAUNCH", global, ...)
end

---Wait for a unique service that somebody else launches. Yields.
---@param global string|true as for uniqueservice
---@param ... any
---@return integer handle
function M.queryservice(global, ...)
	return ask("GQUERY", "QUERY", global, ...)
end

return M
