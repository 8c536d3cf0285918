-- skynet.extra: the functions of `skynet` that most services never call. Loaded
-- when a name is read that nothing else knows. Owns nothing.

local c = require "skynet.core"
local skynet = require "skynet"

---@class skynet.extra
local M = {}

local hooks = skynet._hooks

M.cache = require "skynet.codecache"
---@deprecated use pcall
M.pcall = pcall

------------------------------------------------------------------- handlers

local function check_function(where, fn)
	local meta = type(fn) == "table" and getmetatable(fn)
	if type(fn) ~= "function" and not (meta and meta.__call) then
		require "skynet.misuse"(where, 1, "function", fn, 1)
	end
end

local function set_hook(name, fn)
	local before = hooks[name] or require "skynet.hooks"[name]
	hooks[name] = fn
	return before
end

---Replace what happens to a plain message that nobody handles.
---@param fn fun(session: integer, source: integer, msg: lightuserdata, size: integer, type: string|integer)
---@return function # the function so far
function M.dispatch_unknown_request(fn)
	check_function("skynet.dispatch_unknown_request", fn)
	return set_hook("unknown_request", fn)
end

---Replace what happens to an answer that nobody waits for.
---@param fn fun(session: integer, source: integer, msg: lightuserdata, size: integer)
---@return function # the function so far
function M.dispatch_unknown_response(fn)
	check_function("skynet.dispatch_unknown_response", fn)
	return set_hook("unknown_response", fn)
end

---Do something when the node is shut down, before the service exits. Functions
---run in the order of registration, in one task, and may yield; the kernel waits
---for the service for a limited time.
---@param fn fun()
function M.on_shutdown(fn)
	check_function("skynet.on_shutdown", fn)
	local list = hooks.on_shutdown
	if not list then
		list = {}
		hooks.on_shutdown = list
	end
	list[#list + 1] = fn
end

---Set the function behind the debug command INFO; nil removes it.
---@param fn (fun(...): any)?
function M.info_func(fn)
	if fn ~= nil then
		check_function("skynet.info_func", fn)
	end
	hooks.info = fn
end

------------------------------------------------------------ node and clock

---@param name string local name with its dot
---@return integer? # handle; nil for what is unknown or no such name
function M.localname(name)
	if name ~= nil and type(name) ~= "string" then
		require "skynet.misuse"("skynet.localname", 1, "string", name)
	end
	-- The command takes addresses as well.
	if name == nil or name:sub(1, 1) == "." then
		return c.addresscommand("QUERY", name)
	end
end

local starttime

---@return integer # UNIX time of the start of the node, in seconds
function M.starttime()
	starttime = starttime or c.intcommand "STARTTIME"
	return starttime
end

---@return number # UNIX time in seconds, with a resolution of 1/100
function M.time()
	return c.now() / 100 + M.starttime()
end

---Add a value to the node's configuration. A key is set once.
---@param key string without blanks
---@param value string|number
function M.setenv(key, value)
	if type(key) ~= "string" or key == "" or key:find "%s" then
		error("the key of skynet.setenv is a string without blanks", 2)
	end
	if type(value) ~= "string" and type(value) ~= "number" then
		error("the value of skynet.setenv is a string or a number, not a " .. type(value), 2)
	end
	if c.command("GETENV", key) ~= nil then
		error("Can't setenv exist key : " .. key, 2)
	end
	c.command("SETENV", key .. " " .. value)
	if c.command("GETENV", key) ~= tostring(value) then
		-- Another service was faster.
		error("Can't setenv exist key : " .. key, 2)
	end
end

---A figure of this service.
---@param what "mqlen"|"endless"|"cpu"|"time"|"message"
---@return number # 0 for an unknown name
function M.stat(what)
	if what ~= nil and type(what) ~= "string" then
		require "skynet.misuse"("skynet.stat", 1, "string", what)
	end
	return c.intcommand("STAT", what)
end

---@return integer # messages that wait
function M.mqlen()
	return c.intcommand("STAT", "mqlen")
end

---Was this service found in an endless loop since the last time this was asked?
---@return boolean
function M.endless()
	return c.intcommand("STAT", "endless") == 1
end

---Limit the memory of this service from now on; 0 lifts the limit.
---@param bytes number
function M.memlimit(bytes)
	c.memlimit(bytes)
end

---Limit all that this service is answerable for: Lua heap, C memory (buffers of
---its sockets included) and the messages that wait for it. At `warn` a line is
---logged, once for each doubling; what would exceed `hard` fails with Lua's error
---"not enough memory". 0 or nil: no limit. Without arguments nothing changes.
---@param hard number? bytes
---@param warn number? bytes
---@return integer hard
---@return integer warn
---@return integer total bytes now
function M.memquota(hard, warn)
	return c.memquota(hard, warn)
end

-------------------------------------------------------------------- tracing

---A rawcall with its own trace tag: `tag` travels to the callee, and the call is
---bracketed by the lines "tracecall begin" and "tracecall end". Yields.
---@param tag string
---@param addr integer|string
---@param typename string
---@param msg string|lightuserdata
---@param size integer?
---@return lightuserdata, integer
function M.tracecall(tag, addr, typename, msg, size)
	if type(tag) ~= "string" then
		require "skynet.misuse"("skynet.tracecall", 1, "string", tag)
	end
	skynet.tracelog(tag, "tracecall begin")
	if not c.send(addr, skynet.PTYPE_TRACE, 0, tag) then
		error("call to invalid address " .. skynet.address(addr), 2)
	end
	local answer, answer_size = skynet.rawcall(addr, typename, msg, size)
	skynet.tracelog(tag, "tracecall end")
	return answer, answer_size
end

------------------------------------------------------------ lazily, further

---A set of requests that are sent at once, see skynet.request.
---@param first table?
---@return skynet.request_set
function M.request(first)
	return require "skynet.request"(first)
end

---Number of waiting tasks, or a dump; see skynet.taskinfo.
---@param what table|integer|"init"|thread|nil
---@return integer|string|nil
function M.task(what)
	return require "skynet.taskinfo".task(what)
end

---Waiting tasks grouped by traceback; see skynet.taskinfo.
---@return table<string, string>
function M.uniqtask()
	return require "skynet.taskinfo".uniqtask()
end

---Remember where timers are armed from now on; task dumps show it.
---@param on boolean
function M.trace_timeout(on)
	skynet._trace_timeout(on)
end


return M
