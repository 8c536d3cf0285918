-- launcher (.launcher): creates services and knows which are running.
-- Owns the list of services launched through it and the launches that are not
-- finished. Every handle in `pending` is in `services` too. Services that die
-- without telling (a kill by name, a core KILL) are noticed when the list is
-- next used.

local skynet = require "skynet"
require "skynet.manager"
local core = require "skynet.core"
local alive = require "skynet.alive"

-- Handle -> description, "snlua name args".
local services = {}
-- Handle -> { reply = response closure, session, source, ... } of unfinished launches.
local pending = {}
-- Handle -> why it is about to fail, told by its container.
local reasons = {}

-- Dead entries are dropped at least once in so many launches.
local PRUNE_PERIOD = 4096

-- Returned by a command that answers by itself or not at all.
local NORET = {}

local command = {}

-- The words of a launch as one line. Trailing nils are cut; anything that the
-- new service could not get as a word is refused.
local function join_words(words, n)
	while n > 0 and words[n] == nil do
		n = n - 1
	end
	for i = 1, n do
		local kind = type(words[i])
		if kind ~= "string" and kind ~= "number" then
			error(string.format("launch argument #%d is a %s, want a string or number", i, kind), 0)
		elseif kind == "string" and words[i]:find("\0", 1, true) then
			-- What follows it would be lost on the way.
			error(string.format("launch argument #%d contains a NUL byte", i), 0)
		end
	end
	return table.concat(words, " ", 1, n)
end

local function finish(handle, ok, ...)
	local unfinished = pending[handle]
	if unfinished then
		pending[handle] = nil
		unfinished.reply(ok, ...)
	end
end

-- Forget services that are gone; their unfinished launches fail. The list is
-- made anew, so that it also gives back the room of those that left earlier.
local function prune()
	local living, dead = {}, {}
	for handle, description in pairs(services) do
		if alive(handle) then
			living[handle] = description
		else
			dead[#dead + 1] = handle
		end
	end
	services = living
	for _, handle in ipairs(dead) do
		finish(handle, false)
	end
end

-- Launches until the list is looked through, though nobody asks for it.
local launches_left = PRUNE_PERIOD

local function count_launch()
	launches_left = launches_left - 1
	if launches_left == 0 then
		launches_left = PRUNE_PERIOD
		prune()
	end
end

-- The handle that any spelling of a local address means, or nil.
local function to_handle(address)
	if type(address) ~= "string" then
		return math.tointeger(address)
	end
	if address:sub(1, 1) == "." then
		return skynet.localname(address)
	end
	return tonumber(address:match "^:(%x+)$" or "", 16) or math.tointeger(tonumber(address))
end

-- Launches that have failed for want of memory, perhaps with their service there already:
-- the last one, and from each the `next`. nil but for a while.
local failed

-- End those services. Their own messages see to it that it does not take long.
local function end_failed()
	while failed do
		local handle = failed.handle
		if handle then
			services[handle], pending[handle] = nil, nil
			skynet.kill(handle)
		end
		failed = failed.next
	end
end

-- Create the service of a launch and note both.
local function create(launch, module, words, description)
	local handle = skynet.launch(module, words)
	launch.handle = handle
	if handle then
		services[handle] = description
		pending[handle] = launch
	else
		skynet.error("launcher: can't launch " .. description)
	end
end

local function launch(source, session, module, ...)
	local words = join_words({ ... }, select("#", ...))
	local description = module .. " " .. words
	count_launch()
	local reply = skynet.response()
	local this = { reply = reply, session = session, source = source, handle = false, next = failed }
	local ok, err = pcall(create, this, module, words, description)
	if not ok then
		failed = this
		reply(false, err)
		end_failed()
	elseif this.handle then
		return this.handle
	else
		reply(false)
	end
end

function command.LAUNCH(source, session, module, ...)
	launch(source, session, module, ...)
	return NORET
end

function command.LOGLAUNCH(source, session, module, ...)
	local handle = launch(source, session, module, ...)
	if handle then
		core.command("LOGON", skynet.address(handle))
	end
	return NORET
end

function command.LAUNCHOK(source)
	finish(source, true, source)
	return NORET
end

function command.ERROR(source, _, reason)
	services[source] = nil
	finish(source, false, reason or reasons[source])
	reasons[source] = nil
	return NORET
end

function command.REMOVE(_, _, handle, is_kill)
	services[handle] = nil
	-- A service that leaves by itself while starting is no failure: the
	-- requester gets "no address".
	finish(handle, not is_kill)
	return NORET
end

-- Sessions are numbers of the requester; `requester` tells whose is meant.
function command.QUERY(_, _, session, requester)
	for handle, unfinished in pairs(pending) do
		if unfinished.session == session and (requester or unfinished.source) == unfinished.source then
			return handle
		end
	end
end

function command.LIST()
	prune()
	local list = {}
	for handle, description in pairs(services) do
		list[skynet.address(handle)] = description
	end
	return list
end

-- Ask all services the debug command `what` at once. Result: address text ->
-- show(handle, answer); answer is "ERROR" or "TIMEOUT" where there is none.
local function ask_all(what, ti, show)
	prune()
	local request = skynet.request()
	local result = {}
	for handle in pairs(services) do
		request:add { handle, "debug", what }
		result[handle] = "TIMEOUT"
	end
	for req, resp in request:select(ti) do
		local handle = req[1]
		if resp == nil then
			result[handle] = nil -- it died after prune
		else
			result[handle] = resp and resp[1] or "ERROR"
		end
	end
	local list = {}
	for handle, answer in pairs(result) do
		list[skynet.address(handle)] = show(handle, answer)
	end
	return list
end

function command.STAT(_, _, ti)
	return ask_all("STAT", ti, function(_, answer)
		return answer
	end)
end

function command.MEM(_, _, ti)
	return ask_all("MEM", ti, function(handle, answer)
		local description = services[handle] or "gone"
		if type(answer) == "number" then
			return string.format("%.2f Kb (%s)", answer, description)
		end
		return string.format("%s (%s)", answer, description)
	end)
end

function command.GC(source, session, ti)
	prune()
	for handle in pairs(services) do
		skynet.send(handle, "debug", "GC")
	end
	return command.MEM(source, session, ti)
end

function command.KILL(_, _, address)
	local handle = to_handle(address)
	if not handle then
		return { [tostring(address)] = "nil" }
	end
	local description = services[handle] or "nil"
	services[handle] = nil
	finish(handle, false)
	skynet.kill(handle)
	return { [skynet.address(handle)] = description }
end

-- C services, and the container when a script can't be loaded, report by text.
skynet.register_protocol {
	name = "text",
	id = skynet.PTYPE_TEXT,
	unpack = skynet.tostring,
	dispatch = function(_, source, text)
		if failed then
			pcall(end_failed)
		end
		if text == nil or text == "" then
			command.LAUNCHOK(source)
		elseif text == "ERROR" then
			command.ERROR(source)
		elseif text:find "^REASON " then
			reasons[source] = pending[source] and text:sub(8)
		else
			error("Invalid text command " .. text)
		end
	end,
}

skynet.dispatch("lua", function(session, source, cmd, ...)
	if failed then
		pcall(end_failed)
	end
	local f = type(cmd) == "string" and command[cmd:upper()]
	if not f then
		skynet.retpack { "Unknown command" }
		return
	end
	local answer = f(source, session, ...)
	if answer ~= NORET then
		skynet.retpack(answer)
	end
end)

-- Who starts a service waits for what it says, so that must not be lost.
skynet._repeat "text"
skynet._repeat "lua"

skynet.start(function() end)
