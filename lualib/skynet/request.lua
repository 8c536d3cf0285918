-- skynet.request: several requests at once, answers as they come.
--
--   for req, resp in skynet.request { a, "lua", "get" } { b, "lua", "get" }:select(100) do
--
-- A set owns its outstanding requests and its timer until it is closed, which
-- leaving the loop does.

local skynet = require "skynet"

local proto = skynet._proto

---@class skynet.request_set
---@field timeout boolean? true once the time limit struck
local Set = {}
Set.__index = Set

---Append a request { addr, typename, args..., n = count if the last are nil }.
---@param item table further fields are the caller's
---@return skynet.request_set self
function Set:add(item)
	if type(item) ~= "table" then
		require "skynet.misuse"("skynet.request", 1, "a table { addr, typename, ... }", item, 0,
			": assertion failed!")
	elseif self._started then
		error("skynet.request: requests are added before select: assertion failed!", 2)
	end
	self[#self + 1] = item
	return self
end

Set.__call = Set.add

local function unpack_answer(class, msg, size)
	return table.pack(class.unpack(msg, size))
end

-- Function that gets the answers: (session, ok, ptr, size).
local function collector(set)
	local sent, results = set._sent, set._results
	return function(session, ok, msg, size)
		-- It is called once more if there was no memory.
		local item = sent[session]
		if item then
			local resp = false
			if ok then
				local good, packed = pcall(unpack_answer, proto[item[2]], msg, size)
				if good then
					resp = packed
				else
					skynet.error("unpack of an answer failed: " .. tostring(packed))
				end
			end
			results[#results + 1] = { item, resp }
			sent[session] = nil
		end
		skynet.wakeup(set)
	end
end

-- Next { item, answer }, or nil at the end. Yields.
local function take(set)
	while true do
		local missing = table.remove(set._missing)
		if missing then
			return missing, nil
		end
		local first = table.remove(set._results, 1)
		if first then
			return first[1], first[2]
		end
		if set.timeout or set._closed or next(set._sent) == nil then
			return nil
		end
		skynet.wait(set)
	end
end

local function send_all(set)
	for _, item in ipairs(set) do
		local session = skynet._request(set._ref, item[1], item[2],
			table.unpack(item, 3, item.n or #item))
		if session then
			set._sent[session] = item
		else
			set._missing[#set._missing + 1] = item
		end
	end
end

local function arm(set, timeout)
	if timeout and next(set._sent) ~= nil then
		set._timer = skynet._arm(timeout, function()
			set._timer = nil
			set.timeout = true
			skynet.wakeup(set)
		end)
	end
end

---Send everything. The results drive a generic `for` of (request, answer): the
---answer is a packed table, false when the answerer failed, nil when there is
---no such destination. Once. The loop yields.
---@param timeout integer? limit in cs
---@return fun(): table?, table|false|nil
---@return nil, nil
---@return skynet.request_set # closes the set
function Set:select(timeout)
	if self._started then
		error("skynet.request: a set is selected once: assertion failed!", 2)
	elseif timeout ~= nil and not math.tointeger(timeout) then
		require "skynet.misuse"("select", 1, "whole number of 1/100 s", timeout)
	end
	for _, item in ipairs(self) do
		local class = proto[item[2]]
		if not (class and class.unpack) then
			error("cannot request with protocol type " .. tostring(item[2]), 2)
		end
	end
	self._started = true
	self._sent, self._results, self._missing = {}, {}, {}
	self._ref = skynet._keep(collector(self))
	local ok, err = pcall(send_all, self)
	if not ok then
		self:close()
		error(err, 0)
	end
	arm(self, timeout)
	return function() return take(self) end, nil, nil, self
end

---Cancel what is outstanding. Leaving the loop does it; twice is harmless.
function Set:close()
	if not self._started or self._closed then
		return
	end
	self._closed = true
	for session in pairs(self._sent) do
		skynet._cancel(session)
	end
	if self._timer then
		skynet._cancel(self._timer)
	end
	skynet._drop(self._ref)
end

Set.__close = Set.close

---@param first table? the first request
---@return skynet.request_set
return function(first)
	local set = setmetatable({}, Set)
	if first ~= nil then
		if type(first) ~= "table" then
			require "skynet.misuse"("skynet.request", 1, "a request, { addr, typename, ... }", first, 1)
		end
		set:add(first)
	end
	return set
end
