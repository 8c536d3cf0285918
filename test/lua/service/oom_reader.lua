-- oom_reader: a service that uses data that are shared, in each way, and channels, for test_oom_shared.lua.

local skynet = require "skynet"
local sharedata = require "skynet.sharedata"
local datasheet = require "skynet.datasheet"
local sharetable = require "skynet.sharetable"
local mc = require "skynet.multicast"
local serve = require "serve"

local command = {}

-- Name -> proxy, which follows its updates.
local held = {}

---@return any # the field v of a name's present data
function command.read(name)
	held[name] = sharedata.query(name)
	return held[name].v
end

---The same, as the proxy of an earlier read shows it, nil if there was none.
function command.seen(name)
	return held[name] and held[name].v
end

function command.copy(name)
	return sharedata.deepcopy(name, "sub", "list")
end

function command.drop(name)
	held[name] = nil
	sharedata.flush()
end

---@return table # a copy of a datasheet
function command.sheet(name)
	local copy = {}
	for k, v in pairs(datasheet.query(name)) do
		copy[k] = type(v) == "table" and { table.unpack(v) } or v
	end
	return copy
end

local shared = {}

---@return table # what is shared under a name, as it is now
function command.shared(name)
	shared[name] = sharetable.query(name)
	return { table.unpack(shared[name].list) }
end

---The same, of the table of an earlier call.
function command.update(name)
	sharetable.update(name)
	return shared[name] and { table.unpack(shared[name].list) }
end

---@return integer # versions that are still there
function command.release(name)
	shared[name] = nil
	return sharetable.release(name)
end

local channel
local got

function command.listen(id)
	if not channel or channel.channel ~= id then
		channel = mc.new { channel = id, dispatch = function(_, _, text) got = text end }
	end
	channel:subscribe()
end

---@return string? # the last message
function command.got()
	return got
end

function command.publish(id, text)
	mc.new { channel = id }:publish(text)
end

function command.leave()
	if channel then
		channel:unsubscribe()
	end
end

serve(command)
