-- skynet.debug: what a service answers to messages of class `debug`. Loaded by
-- the first of them. Owns the extra commands that the service registered.

local skynet = require "skynet"
local core = require "skynet.core"

local M = {}

-- Commands of the service itself (reg_debugcmd).
local extra = {}
-- Answers of LINK: they fail when this service ends.
local links = {}
local collecting = false

local command = {}

-- Of the Lua heap.
local function kibibytes()
	return core.heap() / 1024
end

function command.MEM()
	skynet.retpack(kibibytes())
end

function command.MEMQUOTA(hard, warn)
	local ok, now_hard, now_warn, total = pcall(skynet.memquota, hard, warn)
	if not ok then
		error(now_hard, 0)
	end
	skynet.retpack { hard = now_hard, warn = now_warn, total = total }
end

-- Snapshots and samples of the heap, see skynet.heap.
function command.HEAP(what, argument)
	skynet.retpack(require "skynet.heap".command(what, argument))
end

function command.GC()
	if not collecting then
		collecting = true
		local before, start = kibibytes(), skynet.now()
		collectgarbage "collect"
		-- Finalizers may have queued work: let it be done.
		skynet.yield()
		local after = kibibytes()
		collecting = false
		skynet.error(string.format("GC %.2f Kb -> %.2f Kb, cost %.2f sec", before, after,
			(skynet.now() - start) / 100))
	end
	skynet.ret()
end

function command.STAT()
	skynet.retpack {
		task = skynet.task(),
		mqlen = skynet.stat "mqlen",
		cpu = skynet.stat "cpu",
		message = skynet.stat "message",
	}
end

function command.TASK(what)
	if what then
		skynet.retpack(skynet.task(what))
	else
		local all = {}
		skynet.task(all)
		skynet.retpack(all)
	end
end

function command.UNIQTASK()
	skynet.retpack(skynet.uniqtask())
end

function command.KILLTASK(text)
	local co = skynet.killthread(text)
	if co then
		skynet.error(string.format("Kill %s", co))
		skynet.ret()
	else
		skynet.error(string.format("Kill %s : Not found", text))
		skynet.ret(skynet.pack "Not found")
	end
end

function command.INFO(...)
	local f = skynet._hooks.info
	if f then
		skynet.retpack(f(...))
	else
		skynet.retpack(nil)
	end
end

function command.EXIT()
	skynet.exit()
end

function command.RUN(source, filename, ...)
	local inject = require "skynet.inject"
	local args = table.pack(...)
	local ok, output = inject(skynet, source, filename, args, M.root_function(), skynet.register_protocol)
	collectgarbage "collect"
	skynet.retpack(ok, table.concat(output, "\n"))
end

function command.TERM(address)
	skynet.term(address)
	skynet.ret()
end

function command.REMOTEDEBUG(fd, pointer)
	require "skynet.remotedebug".start(fd, pointer)
end

function command.SUPPORT(name)
	skynet.retpack(skynet.dispatch(name) ~= nil)
end

function command.PING()
	skynet.ret()
end

function command.LINK()
	links[#links + 1] = skynet.response()
end

function command.TRACELOG(name, flag)
	if type(name) ~= "string" then
		name, flag = "lua", name
	end
	skynet.error(string.format("Turn trace log %s for %s", flag, name))
	skynet.traceproto(name, flag)
	skynet.ret()
end

---A function whose upvalues lead to what injected code may want to see.
---@return function
function M.root_function()
	return skynet.dispatch
end

---Handler of class `debug` (internal). Yields.
---@param cmd string
---@param ... any its arguments
function M.dispatch(_, _, cmd, ...)
	local f = command[cmd] or extra[cmd]
	if not f then
		error(tostring(cmd), 0)
	end
	f(...)
end

---Add a debug command to this service. Built-in names win.
---@param name string
---@param fn fun(...) runs in the request's task and answers by itself
function M.reg_debugcmd(name, fn)
	extra[name] = fn
end

return M
