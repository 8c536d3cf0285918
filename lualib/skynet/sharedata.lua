-- skynet.sharedata: named data that all services read through proxies, which
-- follow its updates by themselves. Owns the proxies of this service.

local skynet = require "skynet"
local core = require "skynet.sharedata.core"
local subscriber = require "skynet.sharedata.subscriber"

local service

skynet.init(function()
	service = skynet.uniqueservice "sharedatad"
end)

local subscription = subscriber(function() return service end)

---@class skynet.sharedata
local sharedata = {}

---Publish data under a new name. Yields. Raises when there is the name already,
---or the data is refused.
---@param name string
---@param v table|string|nil data; Lua code that makes it; "@" and a file's name
---@param ... any arguments of the code
function sharedata.new(name, v, ...)
	skynet.call(service, "lua", "new", name, v, ...)
end

---Publish data, new or in place of what the name stands for. Yields. Raises when
---the data is refused; nothing has changed then.
---@param name string
---@param v table|string|nil as for new
---@param ... any
function sharedata.update(name, v, ...)
	skynet.call(service, "lua", "update", name, v, ...)
end

---Take a name away. Proxies keep reading. Yields. Raises when there is none.
---@param name string
function sharedata.delete(name)
	skynet.call(service, "lua", "delete", name)
end

---The data of a name, read-only and always up to date. Yields the first time.
---Raises when there is no such name.
---@param name string
---@return table
function sharedata.query(name)
	return subscription:query(name)
end

---An ordinary copy of what is at a path, or nothing. Yields when the name was not
---queried here before. Raises when there is no such name.
---@param name string
---@param ... string|integer the path
---@return any
function sharedata.deepcopy(name, ...)
	local proxy = subscription.entries[name]
	if proxy then
		return core.copy(core.id(proxy), ...)
	end
	while true do
		-- A version may have been replaced while its id was on the way.
		local guard <const> = core.proxy(skynet.call(service, "lua", "query", name))
		if guard then
			return core.copy(core.id(guard), ...)
		end
	end
end

---Move all data of this service to the newest versions it has heard of, and
---collect garbage. Does not yield.
function sharedata.flush()
	for _, proxy in pairs(subscription.entries) do
		core.flush(proxy)
	end
	collectgarbage()
end

return sharedata
