-- snax.wsgaterate: how much the connections of a wsgate may send, each and by address.
-- Buckets of tokens: one message, or one byte, takes one; a second brings `rate` of them
-- up to `burst`.
--
-- Owns the buckets of addresses, which stay until they are full again: who comes back finds
-- what it left. An address is that of IPv4, or a /64 network of IPv6. Never yields.

local skynet = require "skynet"
local netpack = require "skynet.netpack"

local wsgaterate = {}

---@class wsgaterate.bucket
---@field name string of the setting
---@field rate number
---@field burst number
---@field left number may be negative: a debt
---@field at integer when `left` was right
---@field counts_bytes boolean

---@class wsgaterate.meter
---@field buckets wsgaterate.bucket[]
---@field shared wsgaterate.address? of its address

---@class wsgaterate.address
---@field buckets wsgaterate.bucket[]
---@field limits table that they were made of
---@field number integer of connections

---@type table<string, wsgaterate.address>
local addresses = {}
-- So many may be known before those that can be forgotten are looked for.
local FEW = 64
local known, room = 0, FEW

local function add_bucket(list, limits, prefix, what)
	local rate = limits[prefix .. what .. "_rate"]
	if rate and rate > 0 then
		local burst = math.max(1, limits[prefix .. what .. "_burst"] or rate)
		list[#list + 1] = {
			name = prefix .. what .. "_rate",
			rate = rate,
			burst = burst,
			left = burst,
			at = skynet.now(),
			counts_bytes = what == "byte",
		}
	end
end

local function add_buckets(list, limits, prefix)
	add_bucket(list, limits, prefix, "package")
	add_bucket(list, limits, prefix, "byte")
	return list
end

-- Nobody is connected from there, and new buckets would say the same.
local function is_forgettable(shared, now)
	if shared.number > 0 then
		return false
	end
	for _, b in ipairs(shared.buckets) do
		if b.left + (now - b.at) * b.rate / 100 < b.burst then
			return false
		end
	end
	return true
end

local function make_room()
	local now = skynet.now()
	known = 0
	for peer, shared in pairs(addresses) do
		if is_forgettable(shared, now) then
			addresses[peer] = nil
		else
			known = known + 1
		end
	end
	room = math.max(FEW, 2 * known)
end

-- The account of an address, new if there is none, or one of other limits. Nil if nothing
-- limits addresses.
local function account_of(peer, limits)
	local shared = addresses[peer]
	if shared and (shared.limits == limits or shared.number > 0) then
		return shared
	end
	local buckets = add_buckets({}, limits, "address_")
	if #buckets == 0 then
		return nil
	elseif not shared then
		if known >= room then
			make_room()
		end
		known = known + 1
	end
	shared = { buckets = buckets, limits = limits, number = 0 }
	addresses[peer] = shared
	return shared
end

---What a new connection is measured by; nil if nothing limits it.
---@param addr string "ip:port"
---@param settings table of wsgatesettings.new
---@return wsgaterate.meter?
function wsgaterate.new(addr, settings)
	local peer, is_near = netpack.peer(addr)
	local limits = is_near and settings.near_limits or settings.limits
	local list = add_buckets({}, limits, "")
	local shared = account_of(peer, limits)
	if shared then
		table.move(shared.buckets, 1, #shared.buckets, #list + 1, list)
		shared.number = shared.number + 1
	end
	return #list > 0 and { buckets = list, shared = shared } or nil
end

---The connection is gone.
---@param meter wsgaterate.meter
function wsgaterate.free(meter)
	local shared = meter.shared
	if shared then
		shared.number = shared.number - 1
	end
end

---A message has come. How long the next ones have to wait, 1/100 s, and the setting that
---says so; 0 = not at all.
---@param meter wsgaterate.meter
---@param size integer
---@return integer
---@return string?
function wsgaterate.take(meter, size)
	local now = skynet.now()
	local wait, name = 0, nil
	for _, b in ipairs(meter.buckets) do
		local left = b.left + (now - b.at) * b.rate / 100
		left = (left < b.burst and left or b.burst) - (b.counts_bytes and size or 1)
		b.left, b.at = left, now
		if left < 0 and -left / b.rate * 100 > wait then
			wait, name = math.ceil(-left / b.rate * 100), b.name
		end
	end
	return wait, name
end

return wsgaterate
