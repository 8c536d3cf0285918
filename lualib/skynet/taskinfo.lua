-- skynet.taskinfo: dumps of the tasks of this service, for people and for the
-- debug console. Owns the notes about where timers were armed, while
-- skynet.trace_timeout is on.

local skynet = require "skynet"

local M = {}

-- At most this many sessions are listed per group; a larger group gets "...".
local LISTED = 9

-- Session -> text
local notes = {}

local noted, purge_at = 0, 256

-- Forget the notes of timers that have fired.
local function purge()
	local waiting = skynet._pending()
	noted = 0
	for session in pairs(notes) do
		if waiting[session] then
			noted = noted + 1
		else
			notes[session] = nil
		end
	end
	purge_at = math.max(256, noted * 2)
end

---Remember where the timer `session` was armed (internal).
---@param session integer
---@param text string
function M.note_timeout(session, text)
	notes[session] = text
	noted = noted + 1
	if noted > purge_at then
		purge()
	end
end

local function describe(session, entry)
	if not entry then
		return "BREAK"
	end
	if notes[session] then
		return notes[session]
	end
	if type(entry) == "thread" then
		return debug.traceback(entry)
	end
	local info = debug.getinfo(entry, "S")
	return string.format("timer of %s:%d", info.source, info.linedefined)
end

local function key_of(session, entry)
	if not entry then
		return string.format("BREAK session: %d", session)
	end
	local what = type(entry) == "thread" and "thread" or "timer"
	return string.format("%s: %p session: %d", what, entry, session)
end

---Look at waiting tasks.
--- nil: their number; a table: filled with key -> traceback; a session number: that
--- task's traceback; "init": the start-up task's; a coroutine: its session.
---@param what table|integer|"init"|thread|nil
---@return integer|string|nil
function M.task(what)
	if what == nil then
		return skynet._count()
	end
	if what == "init" then
		local co = skynet._init_thread()
		return co and debug.traceback(co)
	end
	local kind = type(what)
	if kind == "thread" then
		return skynet._session(what)
	elseif kind == "number" then
		local entry = skynet._pending()[what]
		if entry == nil then
			return "No session"
		end
		return describe(what, entry)
	elseif kind == "table" then
		for session, entry in pairs(skynet._pending()) do
			what[key_of(session, entry)] = describe(session, entry)
		end
	end
end

---Waiting tasks grouped by identical traceback.
---@return table<string, string> # "<count>\tsessions:[...]\n" -> traceback
function M.uniqtask()
	local groups = {}
	for session, entry in pairs(skynet._pending()) do
		if entry then
			local text = describe(session, entry)
			local group = groups[text] or { n = 0 }
			groups[text] = group
			group.n = group.n + 1
			if #group < LISTED then
				group[#group + 1] = session
			end
		end
	end
	local result = {}
	for text, group in pairs(groups) do
		local list = table.concat(group, ",") .. (group.n > LISTED + 1 and "..." or "")
		result[string.format("%d\tsessions:[%s]\n", group.n, list)] = text
	end
	return result
end

return M
