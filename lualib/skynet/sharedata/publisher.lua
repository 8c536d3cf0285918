-- skynet.sharedata.publisher: names, their present documents, and who waits for
-- newer ones; for the services sharedatad and datasheet. Owns the present
-- documents and the owed answers. Readers say farewell (see subscriber.lua), so
-- nobody waits who is gone. A name that is deleted and made again is
-- another one: nobody moves from the old data to the new.

local skynet = require "skynet"
local alive = require "skynet.alive"
local core = require "skynet.sharedata.core"

-- So many who wait for a name are kept without looking for those who said nothing
-- when they died.
local WATCHERS_MIN = 16

---@class skynet.publisher
local Publisher = {}
Publisher.__index = Publisher

-- Answer all who wait for the name with the id, or with nothing. Needs no memory but for
-- the answers; whom there is none for asks again.
local function wake(entry, ...)
	for source, replies in pairs(entry.watchers) do
		entry.watchers[source] = nil
		entry.count = entry.count - 1
		for _, reply in ipairs(replies) do
			if not pcall(reply, true, ...) then
				reply(false)
			end
		end
	end
end

---@param name string
---@return boolean
function Publisher:has(name)
	return self.entries[name] ~= nil
end

---Make `document` what the name stands for. Takes the document.
---@param name string
---@param document userdata owner of skynet.sharedata.core
function Publisher:publish(name, document)
	local entry = self.entries[name]
	local id = document:id()
	if not entry then
		self.entries[name] = {
			document = document, first = id, watchers = {}, count = 0, limit = WATCHERS_MIN,
		}
		return
	end
	local old = entry.document
	entry.document = document
	old:close()
	wake(entry, id)
end

---@param name string
---@return boolean # false: there is no such name
function Publisher:delete(name)
	local entry = self.entries[name]
	if not entry then
		return false
	end
	self.entries[name] = nil
	entry.document:close()
	wake(entry)
	return true
end

---@param name string
---@return lightuserdata? id
function Publisher:query(name)
	local entry = self.entries[name]
	return entry and entry.document:id()
end

local function remove(entry, source)
	if entry.watchers[source] then
		entry.watchers[source] = nil
		entry.count = entry.count - 1
	end
end

---A service is gone: nobody waits in its name.
---@param source integer
function Publisher:forget(source)
	for name in pairs(self.watched[source] or {}) do
		if self.entries[name] then
			remove(self.entries[name], source)
		end
	end
	self.watched[source] = nil
end

local function drop_dead(self, entry)
	for source in pairs(entry.watchers) do
		if not alive(source) then
			self:forget(source)
		end
	end
	entry.limit = math.max(WATCHERS_MIN, entry.count * 2)
end

-- Owe the running request an answer.
local function add_watcher(self, name, source)
	local entry = self.entries[name]
	local replies = entry.watchers[source]
	if not replies then
		if entry.count >= entry.limit then
			drop_dead(self, entry)
		end
		-- First, so that its farewell finds whatever is there.
		self.watched[source] = self.watched[source] or {}
		self.watched[source][name] = true
		replies = {}
		entry.watchers[source] = replies
		entry.count = entry.count + 1
	end
	table.insert(replies, skynet.response())
end

---Answer the running request when there is a newer version than `id`: its id, or
---nothing when the name that `id` belonged to is gone.
---@param name string
---@param id lightuserdata
---@param source integer who asks
function Publisher:monitor(name, id, source)
	local entry = self.entries[name]
	if not entry or core.is_before(id, entry.first) then
		skynet.ret()
	elseif entry.document:id() ~= id then
		skynet.retpack(entry.document:id())
	else
		add_watcher(self, name, source)
	end
end

---What the names stand for, for debug INFO.
---@return table<string, { handle: lightuserdata, size: integer, monitors: integer }>
function Publisher:info()
	local info = {}
	for name, entry in pairs(self.entries) do
		info[name] = {
			handle = entry.document:id(),
			size = entry.document:size(),
			monitors = entry.count,
		}
	end
	return info
end

---@return skynet.publisher
return function()
	-- watched: service -> set of the names it has asked about.
	return setmetatable({ entries = {}, watched = {} }, Publisher)
end
