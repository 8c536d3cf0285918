-- skynet.harbor: global names and the presence of other nodes, asked from the
-- service .cslave. Owns nothing.

local skynet = require "skynet"

local harbor = {}

---Give a service a global name. No confirmation: a taken name is reported in
---the log of .cslave; `skynet.call(".cslave", "lua", "REGISTER", name, handle)`
---fails instead. Does not yield.
---@param name string at most 15 bytes
---@param handle integer? default: the own service
function harbor.globalname(name, handle)
	if type(name) ~= "string" then
		require "skynet.misuse"("harbor.globalname", 1, "string", name)
	end
	skynet.send(".cslave", "lua", "REGISTER", name, handle or skynet.self())
end

---The handle behind a global name; waits until it is known. A local name
---(".x") is answered at once, nil if absent. Yields.
---@param name string
---@return integer?
function harbor.queryname(name)
	if type(name) ~= "string" then
		require "skynet.misuse"("harbor.queryname", 1, "string", name)
	end
	return skynet.call(".cslave", "lua", "QUERYNAME", name)
end

---Returns when node `id` is not connected (any more). Yields.
---@param id integer
function harbor.link(id)
	skynet.call(".cslave", "lua", "LINK", id)
end

---Returns when node `id` is connected; raises on a single node. Yields.
---@param id integer
function harbor.connect(id)
	skynet.call(".cslave", "lua", "CONNECT", id)
end

---Returns when the master is gone; raises on a single node. Yields.
function harbor.linkmaster()
	skynet.call(".cslave", "lua", "LINKMASTER")
end

return harbor
