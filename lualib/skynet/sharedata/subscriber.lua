-- skynet.sharedata.subscriber: the proxies of a service, by name, and the tasks
-- that hear of newer versions. Reader's side of skynet.sharedata.publisher.
-- Invariant: a name in `entries` has a task that waits in a monitor call.

local skynet = require "skynet"
local core = require "skynet.sharedata.core"
local farewell = require "skynet.farewell"

---@class skynet.subscriber
local Subscriber = {}
Subscriber.__index = Subscriber

-- Runs until the name is deleted or the publisher is gone.
local function watch(self, name, proxy)
	local id = core.id(proxy)
	while true do
		local ok, newer = pcall(skynet.call, self.address(), "lua", "monitor", name, id)
		if not ok or not newer then
			break
		end
		if newer ~= id then
			id = newer
			-- A version that is gone already has a successor: ask again.
			if core.pend(proxy, id) and self.changed then
				self.changed(name, proxy)
			end
		end
	end
	if self.entries[name] == proxy then
		self.entries[name] = nil
	end
end

-- Let the publisher hear when this service is gone.
local function say_farewell(self)
	local address = self.address()
	if not self.has_farewell then
		self.has_farewell = true
		farewell(address, skynet.pack "close")
	end
end

---The proxy of a name. Yields the first time. Raises when there is no such name;
---asking again is allowed.
---@param name string
---@return table proxy
function Subscriber:query(name)
	local proxy = self.entries[name]
	if not proxy then
		say_farewell(self)
	end
	while not proxy do
		local id = skynet.call(self.address(), "lua", "query", name)
		-- Another task may have been faster.
		proxy = self.entries[name] or core.proxy(id)
		if proxy and not self.entries[name] then
			self.entries[name] = proxy
			skynet.fork(watch, self, name, proxy)
		end
	end
	return proxy
end

---@param address fun(): integer handle of the publishing service; may yield
---@param changed? fun(name: string, proxy: table) a newer version is at hand
---@return skynet.subscriber
return function(address, changed)
	return setmetatable({ address = address, changed = changed, entries = {} }, Subscriber)
end
