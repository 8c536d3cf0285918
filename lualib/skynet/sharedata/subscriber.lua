-- skynet.sharedata.subscriber: the proxies of a service, by name, and the tasks
-- that hear of newer versions. Reader's side of skynet.sharedata.publisher.
-- Invariant: a name in `entries` has a task that waits in a monitor call.

local skynet = require "skynet"
local alive = require "skynet.alive"
local core = require "skynet.sharedata.core"
local farewell = require "skynet.farewell"
local NO_MEMORY = require "skynet.nomemory"

-- After a request that failed though the publisher lives, as there was no memory for it; 1/100 s.
local PAUSE = 10

---@class skynet.subscriber
local Subscriber = {}
Subscriber.__index = Subscriber

-- Wait for the version after `id`; nil: the name is deleted. Yields.
local function next_version(self, publisher, name, proxy, id)
	local newer = skynet.call(publisher, "lua", "monitor", name, id)
	-- A version that is gone already has a successor: ask again.
	if newer and newer ~= id and core.pend(proxy, newer) and self.changed then
		self.changed(name, proxy)
	end
	return newer
end

-- Gives the name its proxy, unless another task was faster, and runs until the name is
-- deleted or the publisher is gone.
local function watch(self, publisher, name, new)
	local proxy = new.proxy
	if not proxy then
		-- It begins so late, for want of memory, that nobody counts on it any more.
		return
	end
	local id = core.id(proxy)
	new.is_followed = true
	if self.entries[name] then
		return
	end
	self.entries[name] = proxy
	while id do
		local ok, newer = pcall(next_version, self, publisher, name, proxy, id)
		if ok then
			id = newer
		elseif not alive(publisher) then
			break
		else
			-- Not in a pcall: so it needs no memory, as that had this call's frame.
			skynet.sleep(PAUSE)
		end
	end
	self.entries[name] = nil
end

-- Let the publisher hear when this service is gone.
local function say_farewell(self, publisher)
	if not self.has_farewell then
		farewell(publisher, skynet.pack "close")
		self.has_farewell = true
	end
end

---The proxy of a name. Yields the first time. Raises when there is no such name;
---asking again is allowed.
---@param name string
---@return table proxy
function Subscriber:query(name)
	local publisher = self.entries[name] == nil and self.address()
	if publisher then
		say_farewell(self, publisher)
	end
	while not self.entries[name] do
		local new = { proxy = core.proxy(skynet.call(publisher, "lua", "query", name)) }
		if new.proxy and not self.entries[name] then
			skynet.fork(watch, self, publisher, name, new)
			skynet.yield()
			if not new.is_followed then
				new.proxy = nil
				error(NO_MEMORY, 0)
			end
			return self.entries[name] or new.proxy
		end
	end
	return self.entries[name]
end

---@param address fun(): integer handle of the publishing service; may yield
---@param changed? fun(name: string, proxy: table) a newer version is at hand
---@return skynet.subscriber
return function(address, changed)
	return setmetatable({ address = address, changed = changed, entries = {} }, Subscriber)
end
