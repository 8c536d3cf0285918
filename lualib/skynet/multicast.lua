-- skynet.multicast: channels that carry messages to all who subscribed. Owns the
-- subscriptions of this service: per channel the objects that take part. The
-- service multicastd knows the services, this module the objects in one.
-- Invariant: a service is a subscriber of every channel that has objects here.

local skynet = require "skynet"
local core = require "skynet.multicast.core"
local farewell = require "skynet.farewell"
local options = require "skynet.options"

local multicastd
local has_farewell = false
-- Of the last SUB.
local stamp = 0

-- Channel id -> array of objects, in the order in which they subscribed.
local subscribed = {}

---@class skynet.multicast.channel
---@field channel? integer id, to be given to others; nil after delete
---@field private __pack fun(...): string|lightuserdata, integer?
---@field private __unpack fun(data: lightuserdata, size: integer): ...
---@field private __dispatch? fun(channel: skynet.multicast.channel, source: integer, ...)
local channel = {}

local meta = {
	__index = channel,
	__name = "Multicast",
	__tostring = function(self)
		return self.channel and string.format("[Multicast:%x]", self.channel) or "[Multicast:deleted]"
	end,
}

local function check(self)
	return self.channel or error("the multicast channel is deleted", 3)
end

local function position(id, object)
	for i, o in ipairs(subscribed[id] or {}) do
		if o == object then
			return i
		end
	end
end

local function enter(id, object)
	subscribed[id] = subscribed[id] or {}
	table.insert(subscribed[id], object)
end

-- Take an object out; the service leaves the channel with its last object.
local function leave(id, object)
	local i = position(id, object)
	if i then
		table.remove(subscribed[id], i)
		if #subscribed[id] == 0 then
			subscribed[id] = nil
			skynet.send(multicastd, "lua", "USUB", id, stamp)
		end
	end
end

---Send to all subscribers. Yields until the message is on its way to each of
---them; nobody being there is no error. Raises when packing does.
---@param ... any
function channel:publish(...)
	local id = check(self)
	local package, size = core.pack(self.__pack(...))
	local ok, err = pcall(skynet.call, multicastd, "lua", "PUB", id, package, size)
	if not ok then
		core.discard(package)
		error(err, 0)
	end
end

---Take part, from when this returns. Nothing happens when the object does so
---already. Yields. Raises when there is no such channel, or no `dispatch`.
function channel:subscribe()
	local id = check(self)
	if not self.__dispatch then
		error("a subscriber needs the function `dispatch`", 2)
	end
	if position(id, self) then
		return
	end
	enter(id, self)
	if not has_farewell then
		has_farewell = true
		farewell(multicastd, skynet.pack "CLOSE")
	end
	-- Joining twice is harmless, and each object learns whether it worked.
	stamp = stamp + 1
	local ok, err = pcall(skynet.call, multicastd, "lua", "SUB", id, stamp)
	if not ok then
		leave(id, self)
		error(err, 0)
	end
end

---Take part no longer: messages on their way are dropped. Does not yield.
function channel:unsubscribe()
	leave(check(self), self)
end

---Delete the channel for everybody. Does not yield.
function channel:delete()
	local id = check(self)
	leave(id, self)
	skynet.send(multicastd, "lua", "DEL", id)
	self.channel = nil
end

-- One object's share of a message. The payload stays as long as this runs.
local function handle(object, source, package)
	local guard <close> = package
	object:__dispatch(source, object.__unpack(guard:data()))
end

-- As handle, for an object that may have left since the message came.
local function handle_later(id, object, source, package)
	if position(id, object) then
		handle(object, source, package)
	else
		package:close()
	end
end

local function dispatch(id, source, package)
	skynet.ignoreret()
	local objects = subscribed[id]
	if not objects then
		package:close()
		return
	end
	-- Others in tasks of their own: none waits for another, or fails with it.
	for i = 2, #objects do
		skynet.fork(handle_later, id, objects[i], source, package:again())
	end
	handle(objects[1], source, package)
end

skynet.register_protocol {
	name = "multicast",
	id = skynet.PTYPE_MULTICAST,
	unpack = core.open,
	dispatch = dispatch,
}

skynet.init(function()
	multicastd = skynet.uniqueservice "multicastd"
end)

local multicast = {}

---@class skynet.multicast.conf
---@field channel? integer
---@field dispatch? fun(channel: skynet.multicast.channel, source: integer, ...)
---@field pack? fun(...): string|lightuserdata, integer?
---@field unpack? fun(data: lightuserdata, size: integer): ...

local OPTIONS = { channel = true, dispatch = true, pack = true, unpack = true }

local function check_function(conf, name)
	local f = conf[name]
	if f ~= nil and type(f) ~= "function" then
		error(string.format("`%s` is a function, not a %s", name, type(f)), 3)
	end
	return f
end

---A channel, new or with the id `conf.channel`. Yields when it makes one.
---@param conf? skynet.multicast.conf
---@return skynet.multicast.channel
function multicast.new(conf)
	assert(multicastd, "Init first")
	conf = conf or {}
	if type(conf) ~= "table" then
		require "skynet.misuse"("multicast.new", 1, "table", conf)
	end
	options.warn("multicast.new option", conf, OPTIONS)
	local id = conf.channel
	if id ~= nil and math.type(id) ~= "integer" then
		error("`channel` is an integer, not a " .. type(id), 2)
	end
	local object = setmetatable({
		__pack = check_function(conf, "pack") or skynet.pack,
		__unpack = check_function(conf, "unpack") or skynet.unpack,
		__dispatch = check_function(conf, "dispatch"),
	}, meta)
	object.channel = id or skynet.call(multicastd, "lua", "NEW")
	return object
end

return multicast
