-- skynet.remotedebug: the debugged side of a debug session (debug command
-- REMOTEDEBUG). Command lines come through a channel and are read before every
-- message of this service, at least every 0.1 s; output goes to a socket. Other
-- messages are handled meanwhile, also while a task is stopped.
--
-- Owns the session: the channel, the stopped task, and the hooks in tasks.

local skynet = require "skynet"
local c = require "skynet.core"
local debugchannel = require "skynet.debugchannel"
local injectcode = require "skynet.injectcode"
local socketdriver = require "skynet.socketdriver"

local M = {}

-- How often command lines are looked for when no message comes, in cs.
local POLL = 10
-- Frames above the hooked function, as depth_of sees them from its line hook:
-- getinfo, depth_of and the hook.
local HOOK_FRAMES = 3
-- Code of the framework, in which stepping does not stop.
local FRAMEWORK = "lualib/skynet[/.]"

-- { fd, channel, reply, stopped = task or nil } of the session in progress.
local session
-- Coroutine -> { mode = "step" or "next", depth } of tasks with a hook.
local hooked = {}

local function send(text)
	socketdriver.send(session.fd, text)
end

local function print_values(...)
	local words = {}
	for i = 1, select("#", ...) do
		words[i] = tostring((select(i, ...)))
	end
	send(table.concat(words, "\t") .. "\t\n")
end

local function prompt()
	local stopped = session.stopped
	if stopped then
		send(string.format("%s(%d)>", stopped.file, stopped.line))
	else
		send(skynet.address(skynet.self()) .. ">")
	end
end

-------------------------------------------------------------------- stopping

local function depth_of(co)
	local depth = 0
	while debug.getinfo(co, depth, "l") do
		depth = depth + 1
	end
	return depth
end

-- Line hook of a task. Returning true suspends it.
local function on_line(_, line)
	local co = coroutine.running()
	local state = hooked[co]
	local info = debug.getinfo(2, "S")
	if not state or not session or info.source:find(FRAMEWORK) then
		return false
	end
	if state.mode == "next" and depth_of(co) - HOOK_FRAMES > state.depth then
		return false
	end
	session.stopped = { co = co, file = info.short_src, line = line }
	return true
end

local function hook(co, mode, depth)
	hooked[co] = { mode = mode, depth = depth }
	debugchannel.sethook(co, on_line, "l")
end

local function unhook(co)
	if hooked[co] then
		hooked[co] = nil
		debugchannel.sethook(co)
	end
end

local function finish(co, ...)
	unhook(co)
	return ...
end

---Stop at the first line of the handler of the next message of a protocol for
---which cond(session, source, ...) is true. Once.
---@param name string
---@param cond (fun(...): any)?
---@return string? # why not
local function watch(name, cond)
	local class = skynet._proto[name]
	if not class then
		return "No " .. name
	end
	local handler = class.dispatch
	if not handler then
		return "No dispatch"
	end
	local function stop_once(...)
		if cond and not cond(...) then
			return handler(...)
		end
		if class.dispatch == stop_once then
			class.dispatch = handler
		end
		if not session then
			return handler(...)
		end
		local co = coroutine.running()
		hook(co, "step")
		return finish(co, handler(...))
	end
	class.dispatch = stop_once
end

-- Let the stopped task go on; it may stop again.
local function continue(mode)
	local co = session.stopped.co
	session.stopped = nil
	if mode then
		-- Suspended by a hook: level 0 is the function itself.
		hook(co, mode, depth_of(co))
	else
		unhook(co)
	end
	local ok, err = pcall(skynet._unpark, co)
	if not ok then
		skynet.error(err)
	end
end

------------------------------------------------------------------ evaluation

-- An expression if it is one, else statements; compiled first, run once.
local function as_chunk(line)
	return load("return " .. line) and "return " .. line or line
end

local function report(ok, ...)
	if not ok or select("#", ...) > 0 then
		print_values(...)
	end
end

local function evaluate_stopped(line)
	local co = session.stopped.co
	report(injectcode(as_chunk(line), co, 0, { print = print_values, _CO = co }))
end

-- `...` is the message being handled: type, pointer, size, session, source.
local function evaluate(line, ...)
	local env = setmetatable({ print = print_values, watch = watch },
		{ __index = _ENV, __newindex = _ENV })
	local f, err = load(as_chunk(line), "=(debug)", "t", env)
	if not f then
		print_values(err)
	else
		report(pcall(f, ...))
	end
end

-------------------------------------------------------------------- session

local function leave()
	local stopped, reply = session.stopped, session.reply
	for co in pairs(hooked) do
		debugchannel.sethook(co)
	end
	hooked = {}
	session = nil
	skynet.error "Leave debug mode"
	skynet._debugger(false)
	reply(true, true)
	if stopped then
		local ok, err = pcall(skynet._unpark, stopped.co)
		if not ok then
			skynet.error(err)
		end
	end
end

local STEP = { s = "step", n = "next" }

local function run_line(line, ...)
	line = line:match "^%s*(.-)%s*$"
	if line == "cont" then
		leave()
		return
	end
	if session.stopped and (STEP[line] or line == "c") then
		continue(STEP[line])
	elseif line ~= "" then
		if session.stopped then
			evaluate_stopped(line)
		else
			evaluate(line, ...)
		end
	end
	prompt()
end

-- Every message of the service comes here while the session lasts.
local function dispatch(...)
	while session do
		local line = session.channel:read()
		if not line then
			break
		end
		run_line(line, ...)
	end
	local before = session and session.stopped
	local ok, err = pcall(skynet.dispatch_message, ...)
	if session and session.stopped ~= before then
		prompt()
	end
	if not ok then
		error(err, 0)
	end
end

local function poll()
	if session then
		skynet.timeout(POLL, poll)
	end
end

---Begin a session; the request of the running task is answered when it ends.
---@param fd integer socket that gets the output
---@param pointer lightuserdata the channel
function M.start(fd, pointer)
	if session then
		error("Already in debug mode", 0)
	end
	local channel = debugchannel.connect(pointer)
	skynet._debugger(true)
	session = { fd = fd, channel = channel, reply = skynet.response() }
	skynet.error "Enter debug mode"
	c.callback(dispatch)
	prompt()
	poll()
end

return M
