-- skynet.sharedata.publisher: names, their present documents, and who waits for
-- newer ones; for the services sharedatad and datasheet. Owns the present
-- documents and the owed answers. A name that is deleted and made again is
-- another one: nobody moves from the old data to the new.

local skynet = require "skynet"
local alive = require "skynet.alive"
local core = require "skynet.sharedata.core"

-- So many waiting answers per name are kept without looking for dead ones.
local WATCHERS_MIN = 16

---@class skynet.publisher
local Publisher = {}
Publisher.__index = Publisher

-- Answer all who wait for the name with the id, or with nothing.
local function wake(entry, ...)
	local watchers = entry.watchers
	entry.watchers = {}
	for _, watcher in ipairs(watchers) do
		watcher.reply(true, ...)
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
			document = document, first = id, watchers = {}, limit = WATCHERS_MIN,
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

local function drop_dead(entry)
	local kept = {}
	for _, watcher in ipairs(entry.watchers) do
		if watcher.reply "TEST" and alive(watcher.source) then
			kept[#kept + 1] = watcher
		end
	end
	entry.watchers = kept
	entry.limit = math.max(WATCHERS_MIN, #kept * 2)
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
		if #entry.watchers >= entry.limit then
			drop_dead(entry)
		end
		table.insert(entry.watchers, { source = source, reply = skynet.response() })
	end
end

---What the names stand for, for debug INFO.
---@return table<string, { handle: lightuserdata, size: integer, monitors: integer }>
function Publisher:info()
	local info = {}
	for name, entry in pairs(self.entries) do
		drop_dead(entry)
		info[name] = {
			handle = entry.document:id(),
			size = entry.document:size(),
			monitors = #entry.watchers,
		}
	end
	return info
end

---@return skynet.publisher
return function()
	return setmetatable({ entries = {} }, Publisher)
end
