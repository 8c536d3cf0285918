-- snax.wsgaterate: how much the connections of a wsgate may send, each and by address.
-- Buckets of tokens: one message, or one byte, takes one; a second brings `rate` of them
-- up to `burst`.
--
-- Owns the buckets of addresses, as long as one of their connections lives. Never yields.

local skynet = require "skynet"

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
---@field ip string

-- ip -> { buckets, number of connections }
local addresses = {}

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

---What a new connection is measured by; nil if nothing limits it.
---@param addr string "ip:port"
---@param settings table of wsgatesettings.new
---@return wsgaterate.meter?
function wsgaterate.new(addr, settings)
	local ip = addr:match "^(.*):%d+$" or addr
	local is_near = ip:find "^127%." or ip == "::1" or ip == "[::1]"
	local limits = is_near and settings.near_limits or settings.limits
	local list = add_buckets({}, limits, "")
	local shared = addresses[ip]
	if not shared then
		shared = { buckets = add_buckets({}, limits, "address_"), number = 0 }
	end
	table.move(shared.buckets, 1, #shared.buckets, #list + 1, list)
	if #list == 0 then
		return nil
	end
	addresses[ip] = shared
	shared.number = shared.number + 1
	return { buckets = list, ip = ip }
end

---The connection is gone.
---@param meter wsgaterate.meter
function wsgaterate.free(meter)
	local shared = addresses[meter.ip]
	shared.number = shared.number - 1
	if shared.number == 0 then
		addresses[meter.ip] = nil
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
