-- multicastd: distributes the messages of skynet.multicast. Owns the channels of
-- this node and who subscribed to them. A channel id's low byte is the node that
-- owns it. Services say farewell when they end; those that do not leave with the
-- first message they do not get, or when a channel has grown to twice its size.

local skynet = require "skynet"
local alive = require "skynet.alive"
local core = require "skynet.multicast.core"

local NODE_MASK = 0xff
-- So many subscribers are kept without looking for dead ones.
local SUBSCRIBERS_MIN = 16

local node = skynet.harbor(skynet.self())
-- The first id is the node's own, but never 0: as a session that means none.
local last_id = (node - 256) & 0x7fffffff

-- Id -> { list = array of handles, places = { handle -> index }, limit = number }.
local channels = {}
-- Handle -> { id -> stamp of the last SUB }, of what it subscribed to as long as it lives.
local joined = {}

local command = {}

local function channel_name(id)
	return string.format("multicast channel %x", id)
end

local function remove(channel, handle)
	local i = channel.places[handle]
	if i then
		local list, n = channel.list, #channel.list
		list[i] = list[n]
		channel.places[list[i]] = i
		list[n] = nil
	end
	channel.places[handle] = nil
end

-- A service is gone.
local function forget(handle)
	for id in pairs(joined[handle] or {}) do
		if channels[id] then
			remove(channels[id], handle)
		end
	end
	joined[handle] = nil
end

local function drop_dead(channel)
	for i = #channel.list, 1, -1 do
		if not alive(channel.list[i]) then
			forget(channel.list[i])
		end
	end
	channel.limit = math.max(SUBSCRIBERS_MIN, #channel.list * 2)
end

function command.NEW()
	local id = last_id
	repeat
		id = core.nextid(id)
	until id ~= 0 and not channels[id]
	last_id = id
	channels[id] = { list = {}, places = {}, limit = SUBSCRIBERS_MIN }
	skynet.retpack(id)
end

function command.DEL(_, id)
	for _, handle in ipairs(channels[id] and channels[id].list or {}) do
		joined[handle][id] = nil
	end
	channels[id] = nil
end

-- A stamp is a number of the subscriber's own that grows: a USUB may come late.
function command.SUB(source, id, stamp)
	local channel = channels[id] or error("there is no " .. channel_name(id), 0)
	if not channel.places[source] then
		if #channel.list >= channel.limit then
			drop_dead(channel)
		end
		-- When there is no memory to go on, what is there so far does no harm.
		joined[source] = joined[source] or {}
		joined[source][id] = 0
		channel.places[source] = false
		local i = #channel.list + 1
		channel.list[i] = source
		channel.places[source] = i
	end
	joined[source][id] = math.tointeger(stamp) or 0
	skynet.ret()
end

function command.USUB(source, id, stamp)
	local since = joined[source] and joined[source][id]
	if since and stamp and since > stamp then
		return
	end
	if channels[id] then
		remove(channels[id], source)
	end
	if joined[source] then
		joined[source][id] = nil
	end
end

function command.CLOSE(source)
	forget(source)
end

function command.PUB(source, id, package)
	local channel = channels[id]
	if channel then
		local dead = core.deliver(package, id, source, channel.list)
		for i = 1, dead and #dead or 0 do
			forget(dead[i])
		end
	else
		core.bind(package, 0)
	end
	skynet.ret()
end

-- The same commands for channels of other nodes, by name. There are none to be
-- reached, so each request fails.
local foreign = {}

local function find_handler(cmd, id)
	local is_local = cmd == "NEW" or cmd == "CLOSE" or (math.type(id) == "integer" and id & NODE_MASK == node)
	if is_local then
		return command[cmd] or error("Invalid command " .. tostring(cmd), 0)
	elseif math.type(id) ~= "integer" then
		error("a multicast channel is an integer, not a " .. type(id), 0)
	end
	return foreign[cmd] or error(string.format("%s belongs to node %d, which cannot be reached",
		channel_name(id), id & NODE_MASK), 0)
end

skynet.start(function()
	skynet.info_func(function()
		local info = {}
		for id, channel in pairs(channels) do
			info[id] = { subscribers = #channel.list }
		end
		return info
	end)
	-- Who leaves or deletes a channel is not told that it failed.
	skynet._repeat "lua"
	skynet.dispatch("lua", function(_, source, cmd, id, ...)
		find_handler(cmd, id)(source, id, ...)
	end)
end)
