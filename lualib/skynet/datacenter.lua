-- skynet.datacenter: client of the tree of values kept by the service
-- DATACENTER. Every function is one call to it. Owns nothing.

local skynet = require "skynet"

local datacenter = {}

---The value at the path, nothing if absent; a branch comes as a copy. Yields.
---@param ... any keys
---@return any
function datacenter.get(...)
	return skynet.call("DATACENTER", "lua", "QUERY", ...)
end

---Set the value at the path; the previous value. nil removes. Yields.
---@param ... any keys, then the value
---@return any
function datacenter.set(...)
	return skynet.call("DATACENTER", "lua", "UPDATE", ...)
end

---The value at the path; waits until it is set. Yields.
---@param ... any keys
---@return any
function datacenter.wait(...)
	return skynet.call("DATACENTER", "lua", "WAIT", ...)
end

return datacenter
