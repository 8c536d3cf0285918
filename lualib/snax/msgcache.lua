-- snax.msgcache: the requests of one login and the answers it may ask for again.
--
-- Owns the answers, as strings. An entry is pending until `complete`, then stays for a
-- client that comes back on another connection and repeats its request. Completed
-- entries form a list, oldest first; the oldest are dropped when there are too many,
-- they are too large together, or too old. Pending entries are bounded by their number.
-- The generation is the index of the handshake, so a later connection has a larger one.

---@class snax.msgcache.limits
---@field count integer completed entries
---@field bytes integer of all answers
---@field age integer 1/100 s
---@field pending integer requests without an answer yet

---@class snax.msgcache.entry
---@field session integer
---@field fd integer where the answer goes
---@field generation integer under which it was last asked for
---@field answer string|false false while pending
---@field time integer of the answer
---@field is_repeated boolean? asked again under this generation while pending
---@field newer snax.msgcache.entry?
---@field older snax.msgcache.entry?

---@class snax.msgcache
local cache = {}
cache.__index = cache

---@param limits snax.msgcache.limits
---@return snax.msgcache
function cache.new(limits)
	return setmetatable({
		limits = limits,
		entries = {},
		count = 0,
		bytes = 0,
		pending = 0,
	}, cache)
end

local function append(self, entry)
	local newest = self.newest
	entry.older, entry.newer = newest, nil
	if newest then
		newest.newer = entry
	else
		self.oldest = entry
	end
	self.newest = entry
	self.count = self.count + 1
	self.bytes = self.bytes + #entry.answer
end

local function unlink(self, entry)
	local older, newer = entry.older, entry.newer
	if older then
		older.newer = newer
	else
		self.oldest = newer
	end
	if newer then
		newer.older = older
	else
		self.newest = older
	end
	self.count = self.count - 1
	self.bytes = self.bytes - #entry.answer
end

local function drop(self, entry)
	unlink(self, entry)
	self.entries[entry.session] = nil
end

---Drop what is beyond the limits; true if completed entries are left.
---@param now integer 1/100 s
---@return boolean
function cache:trim(now)
	local limits = self.limits
	local entry = self.oldest
	while entry and (self.count > limits.count or self.bytes > limits.bytes
			or now - entry.time >= limits.age) do
		drop(self, entry)
		entry = self.oldest
	end
	return entry ~= nil
end

---A request has come. Results: "new" and the entry, run the handler; "resend" and the
---entry, send its answer; "wait", the answer will come here; "conflict", the session was
---repeated too often; "full", too many requests are pending.
---@param session integer
---@param fd integer
---@param generation integer
---@return "new"|"resend"|"wait"|"conflict"|"full"
---@return snax.msgcache.entry?
function cache:ask(session, fd, generation)
	local entry = self.entries[session]
	if entry and entry.answer then
		if entry.generation ~= generation then
			entry.generation, entry.fd = generation, fd
			-- Asked for again: the last to be dropped.
			unlink(self, entry)
			append(self, entry)
			return "resend", entry
		end
		-- Sessions may be used again on one connection.
		drop(self, entry)
	elseif entry then
		if entry.generation == generation and entry.is_repeated then
			return "conflict"
		end
		entry.is_repeated = true
		entry.generation, entry.fd = generation, fd
		return "wait"
	end
	if self.pending >= self.limits.pending then
		return "full"
	end
	-- With room for all fields: to be complete it needs no memory.
	entry = { session = session, fd = fd, generation = generation, answer = false, time = 0 }
	self.entries[session] = entry
	self.pending = self.pending + 1
	return "new", entry
end

---A new entry is to have no answer: its request has not been made.
---@param entry snax.msgcache.entry
function cache:forget(entry)
	self.pending = self.pending - 1
	self.entries[entry.session] = nil
end

---The answer of a new entry is there.
---@param entry snax.msgcache.entry
---@param answer string
---@param now integer 1/100 s
function cache:complete(entry, answer, now)
	self.pending = self.pending - 1
	entry.answer = answer
	entry.time = now
	append(self, entry)
	self:trim(now)
end

return cache
