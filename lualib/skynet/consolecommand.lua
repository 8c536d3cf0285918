-- skynet.consolecommand: the commands of the debug console.
-- A command gets the words that follow its name, as strings, and returns what
-- is to be printed (nil, scalar, or table); it raises to report failure. A
-- command in `raw` gets the connection and the whole line instead. All of them
-- may yield. Owns nothing.

local skynet = require "skynet"
require "skynet.manager"
local core = require "skynet.core"
local alive = require "skynet.alive"

local M = {}

-- Time limit of `stat`, `mem` and `gc` unless one is given, cs.
local DEFAULT_LIMIT = 300
-- Longest wait for what a command has started, cs; nil = for ever.
local longest_wait = math.ceil(100 * (skynet.getenv "debug_console_wait" or 600))
longest_wait = longest_wait > 0 and longest_wait or nil
-- The same for facts that a service only has to look up.
local fact_wait = math.min(3000, longest_wait or 3000)
-- And for what a service in C may never answer.
local c_wait = math.min(DEFAULT_LIMIT, fact_wait)

---@type table<string, fun(...: string): any>
local command = {}
---@type table<string, fun(conn: table, line: string): any>
local raw = {}

M.command = command
M.raw = raw

M.help = {
	help = "This help message",
	list = "List all the services",
	stat = "Dump all stats: stat [ti]",
	info = "Get service information: info address [args]",
	exit = "Ask a lua service to exit: exit address",
	kill = "Kill a service: kill address",
	mem = "Show memory usage: mem [ti]",
	gc = "Force every lua service to collect garbage: gc [ti]",
	start = "Start a new lua service: start script [args]",
	log = "Start a new lua service with message log: log script [args]",
	snax = "Start a new snax service: snax type [args]",
	service = "List unique services",
	task = "Show the tasks of a service: task address [session]",
	uniqtask = "Show the tasks of a service, grouped: uniqtask address",
	killtask = "Kill a task: killtask address threadname",
	inject = "Run a lua file inside a service: inject address file [args]",
	dbgcmd = "Send a debug command: dbgcmd address COMMAND [args]",
	ping = "Round-trip time of a message in cs: ping address",
	call = "Call a service: call address expressions",
	trace = "Trace messages: trace address [proto] [on|off]",
	debug = "Debug a lua service: debug address",
	logon = "Log the messages of a service: logon address",
	logoff = "Stop logging messages: logoff address",
	signal = "Send a signal to a service: signal address [n]",
	clearcache = "Clear the lua code cache",
	cmem = "Show C memory by service",
	jmem = "Show the allocator's totals",
	memsnap = "Show what a service's Lua heap consists of: memsnap address [max objects]",
	memdiff = "Show what has changed since memsnap: memdiff address [max objects]",
	memsites = "The lines that allocate: memsites address [bytes between samples|off]",
	memory = "Show where the memory of the process is",
	memquota = "Show or set the memory limits of a service: memquota address [hard [warn]]",
	memtop = "The largest services: memtop [n] [total|lua|c|mailbox|socket|code]",
	netstat = "Show the sockets",
	dumpheap = "Dump a heap profile: dumpheap [file]",
	mallctl = "Read or set a control of jemalloc: mallctl name [value|run]",
	trim = "Give unused memory back to the system",
	profactive = "Show or switch heap profiling: profactive [on|off]",
	getenv = "Show an environment entry: getenv name",
	setenv = "Add an environment entry: setenv name value",
}

-- The handle that an address word means.
local function to_handle(word)
	if not word then
		error("Need an address", 0)
	end
	if word:sub(1, 1) == "." then
		return skynet.localname(word) or error("Not a valid name", 0)
	end
	local hex = word:match "^:(%x+)$"
	if hex then
		return tonumber(hex, 16)
	end
	local handle = tonumber(word:match "^%x+$" or "", 16) or error("Need an address", 0)
	local harbor = skynet.harbor(skynet.self())
	return handle | harbor << 24
end

local function is_in_c(handle)
	local figures = require "skynet.memory".services()[handle]
	return figures and figures.lua == 0
end

-- The handle of a service that can answer: one in C would never do.
local function to_lua_service(word)
	local handle = to_handle(word)
	if is_in_c(handle) then
		error(skynet.address(handle) .. " is no Lua service", 0)
	end
	return handle
end

-- skynet.call with a limit in cs, nil = none; errors name the service, a handle or name. Yields.
local function ask(limit, to, class, ...)
	if not limit then
		return skynet.call(to, class, ...)
	end
	local answer = table.pack(pcall(skynet.call_timeout, limit, to, class, ...))
	if answer[1] then
		return table.unpack(answer, 2, answer.n)
	end
	local err, handle = tostring(answer[2]), math.tointeger(to)
	local name = handle and skynet.address(handle) or to
	if not err:find "call timeout$" then
		local has_ended = err:find "call failed$" and handle and not alive(handle)
		error(has_ended and name .. " has ended meanwhile: " .. err or err, 0)
	elseif handle and is_in_c(handle) then
		error(string.format("%s gave no answer in %g s: it is written in C, and such a service answers "
			.. "only what it was made for; list shows those in Lua", name, limit / 100), 0)
	end
	error(string.format("%s gave no answer in %g s: it is busy or stuck; memtop shows what waits for it, "
		.. "signal %s 0 breaks off what it runs", name, limit / 100, name), 0)
end

local function do_work(work, f)
	work.result = table.pack(pcall(f, table.unpack(work.arguments, 1, work.arguments.n)))
end

-- f(...), awaited no longer than a command waits at most. Yields.
local function within_limit(what, f, ...)
	if not longest_wait then
		return f(...)
	end
	local work = { arguments = table.pack(...), result = false, is_over = false }
	skynet.fork(function()
		pcall(do_work, work, f)
		work.is_over = true
		skynet.wakeup(work)
	end)
	skynet.sleep(longest_wait, work)
	if not work.is_over then
		error(string.format("%s takes more than %g s and goes on; list and task show it", what,
			longest_wait / 100), 0)
	end
	if not work.result then
		error(what .. ": not enough memory", 0)
	elseif not work.result[1] then
		error(work.result[2], 0)
	end
	return table.unpack(work.result, 2, work.result.n)
end

-- Time limit of a query to all services; nil waits for ever.
local function to_limit(word)
	if not word then
		return DEFAULT_LIMIT
	end
	local limit = math.tointeger(tonumber(word)) or error("Need a number of centiseconds", 0)
	return limit > 0 and limit or nil
end

local function need(word, what)
	return word or error("Need " .. what, 0)
end

function command.help()
	return M.help
end

function command.list()
	return ask(fact_wait, ".launcher", "lua", "LIST")
end

-- Ask all services by way of the launcher, which waits for them.
local function ask_launcher(what, ti)
	local limit = to_limit(ti)
	return ask(limit and limit + fact_wait or longest_wait, ".launcher", "lua", what, limit)
end

function command.stat(ti)
	return ask_launcher("STAT", ti)
end

function command.mem(ti)
	return ask_launcher("MEM", ti)
end

function command.gc(ti)
	return ask_launcher("GC", ti)
end

-- One fact of a service.
local function ask_service(handle, ...)
	return (ask(fact_wait, handle, "debug", ...))
end

function command.info(address, ...)
	return ask_service(to_lua_service(address), "INFO", ...)
end

function command.exit(address)
	skynet.send(to_lua_service(address), "debug", "EXIT")
end

function command.kill(address)
	return ask(fact_wait, ".launcher", "lua", "KILL", to_handle(address))
end

function command.start(script, ...)
	local ok, handle = within_limit("the start of " .. need(script, "a script"), pcall, skynet.newservice,
		script, ...)
	if not ok then
		return "Failed"
	end
	return handle and { [skynet.address(handle)] = script } or "Exit"
end

function command.log(script, ...)
	local ok, handle = within_limit("the start of " .. need(script, "a script"), pcall, skynet.call,
		".launcher", "lua", "LOGLAUNCH", "snlua", script, ...)
	if not ok or not handle then
		return "Failed"
	end
	return { [skynet.address(handle)] = script }
end

function command.snax(name, ...)
	local snax = require "skynet.snax"
	local ok, object = within_limit("the start of " .. need(name, "a snax type"), pcall, snax.newservice,
		name, ...)
	if not ok then
		return "Failed"
	end
	return { [skynet.address(object.handle)] = name }
end

function command.service()
	return ask(fact_wait, "SERVICE", "lua", "LIST")
end

-- A session number reaches the service as a number.
local function to_task(word)
	return word and (math.tointeger(tonumber(word)) or word)
end

function command.task(address, task)
	return ask_service(to_lua_service(address), "TASK", to_task(task))
end

function command.uniqtask(address)
	return ask_service(to_lua_service(address), "UNIQTASK")
end

function command.killtask(address, thread)
	return ask_service(to_lua_service(address), "KILLTASK", need(thread, "a thread name"))
end

function command.inject(address, filename, ...)
	local handle = to_lua_service(address)
	local source, why, is_missing = require "skynet.readfile"(need(filename, "a file name"))
	if not source then
		return "Can't open " .. filename .. (is_missing and "" or ": " .. why)
	end
	local ok, output = ask(longest_wait, handle, "debug", "RUN", source, filename, ...)
	if not ok then
		error(output, 0)
	end
	return output
end

function command.dbgcmd(address, cmd, ...)
	local handle = to_lua_service(address)
	need(cmd, "a debug command")
	if cmd == "TASK" then
		return ask_service(handle, cmd, to_task((...)))
	end
	return (ask(longest_wait, handle, "debug", cmd, ...))
end

function command.ping(address)
	local handle = to_lua_service(address)
	local start = skynet.now()
	ask_service(handle, "PING")
	return tostring(skynet.now() - start)
end

local SWITCH = { on = true, off = false }

function command.trace(address, proto, flag)
	local handle = to_lua_service(address)
	if flag == nil and SWITCH[proto] ~= nil then
		proto, flag = nil, proto
	end
	local value
	if flag ~= nil then
		value = SWITCH[flag]
		if value == nil then
			error("Need on or off", 0)
		end
	end
	if proto then
		ask_service(handle, "TRACELOG", proto, value)
	else
		ask_service(handle, "TRACELOG", value)
	end
end

function command.logon(address)
	core.command("LOGON", skynet.address(to_handle(address)))
end

function command.logoff(address)
	core.command("LOGOFF", skynet.address(to_handle(address)))
end

function command.signal(address, n)
	local text = skynet.address(to_handle(address))
	if n then
		text = string.format("%s %d", text,
			math.tointeger(tonumber(n)) or error("Need a signal number", 0))
	end
	core.command("SIGNAL", text)
end

function command.clearcache()
	require "skynet.codecache".clear()
end

function command.cmem()
	local memory = require "skynet.memory"
	local result = {}
	for handle, bytes in pairs(memory.info()) do
		result[skynet.address(handle)] = bytes
	end
	result.total = memory.total()
	result.block = memory.block()
	return result
end

-- A line for people and for programs: bytes, then the same in MiB.
local function bytes_line(bytes)
	return string.format("%12d  %9.2f Mb", bytes, bytes / 1048576)
end

function command.memory()
	local ledger = require "skynet.memory".ledger()
	local result = {}
	for name, bytes in pairs(ledger.parts) do
		result[name] = bytes_line(bytes)
	end
	-- Sorted behind the parts.
	result["~ sum"] = bytes_line(ledger.sum)
	result["~ RSS"] = bytes_line(ledger.rss)
	result["~ retained address space, not in the sum"] = bytes_line(ledger.retained)
	return result
end

function command.memtop(n, by)
	if n and not tonumber(n) then
		n, by = by, n
	end
	local count = n and (math.tointeger(tonumber(n)) or error("Need a number of services", 0))
	local lines = {}
	for i, s in ipairs(require "skynet.memory".top(count, by)) do
		lines[i] = string.format(
			"%s total:%d lua:%d c:%d mailbox:%d/%d unsent:%d undelivered:%d sockets:%d code:%d",
			skynet.address(s.handle), s.total, s.lua, s.c, s.messages, s.mailbox, s.unsent,
			s.undelivered, s.sockets, s.code)
	end
	return table.concat(lines, "\n")
end

-- "64M" is a number of bytes, too.
local UNITS = { [""] = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30 }

local function to_bytes(word)
	local number, unit = word:upper():match "^([%d.]+)([KMG]?)$"
	local bytes = tonumber(number or "") or error("Need a number of bytes, as 1000 or 64M", 0)
	return bytes * UNITS[unit] // 1
end

function command.memquota(address, hard, warn)
	local handle = to_lua_service(address)
	return ask_service(handle, "MEMQUOTA", hard and to_bytes(hard), warn and to_bytes(warn))
end

local function to_count(word, what)
	return word and (math.tointeger(tonumber(word)) or error("Need a number of " .. what, 0))
end

local function ask_heap(address, what, argument)
	return (ask(longest_wait, to_lua_service(address), "debug", "HEAP", what, argument))
end

function command.memsnap(address, limit)
	return ask_heap(address, "snapshot", to_count(limit, "objects"))
end

function command.memdiff(address, limit)
	return ask_heap(address, "diff", to_count(limit, "objects"))
end

-- Without a number: what was sampled so far.
function command.memsites(address, interval)
	if interval == nil then
		return ask_heap(address, "sites")
	end
	return ask_heap(address, "sample", interval == "off" and 0 or to_count(interval, "bytes"))
end

function command.jmem()
	local info = require "skynet.memory".jestat()
	local result = {}
	for name, bytes in pairs(info) do
		result[name] = string.format("%11d  %8.2f Mb", bytes, bytes / 1048576)
	end
	return result
end

local PROFILE_HINT = "start the node with MALLOC_CONF=prof:true,prof_active:false in its environment"

function command.dumpheap(file)
	local memory = require "skynet.memory"
	if memory.dumpheap(file) then
		return
	end
	local ok, is_profiling = pcall(memory.control, "opt.prof")
	if ok and is_profiling then
		error("No heap profile was written: can " .. (file or "the current folder") .. " be written to?", 0)
	end
	return "No heap profile was written: profiling is off, " .. PROFILE_HINT
end

function command.profactive(flag)
	local memory = require "skynet.memory"
	if flag ~= nil then
		if SWITCH[flag] == nil then
			error("Need on or off", 0)
		end
		memory.profactive(SWITCH[flag])
	end
	local active = memory.profactive()
	-- Always spelt like this; scripts look for it.
	local line = "heap profilling is " .. (active and "active" or "deactive")
	if flag == "on" and not active then
		line = line .. ": " .. PROFILE_HINT
	end
	return line
end

function command.trim()
	local memory = require "skynet.memory"
	local before = memory.ledger().rss
	if not memory.trim() then
		error("nothing can be given back in this build", 0)
	end
	return string.format("RSS %s -> %s; workers that are busy give back when they come to rest",
		bytes_line(before), bytes_line(memory.ledger().rss))
end

-- jemalloc's controls are named by paths, as in its manual.
function command.mallctl(name, value)
	local memory = require "skynet.memory"
	need(name, "the name of a control")
	if value == "true" or value == "false" then
		memory.control(name, value == "true")
	elseif value ~= nil then
		memory.control(name, math.tointeger(tonumber(value)) or value)
	end
	if value == nil then
		return tostring(memory.control(name))
	end
	-- Some can only be set, or run.
	local ok, now = pcall(memory.control, name)
	return ok and value ~= "run" and tostring(now) or nil
end

function command.getenv(name)
	local value = skynet.getenv(need(name, "a name"))
	return { [name] = tostring(value) }
end

function command.setenv(name, value)
	skynet.setenv(need(name, "a name"), need(value, "a value"))
end

-- A byte count for people, nil for none.
local function show_bytes(bytes)
	if not bytes or bytes == 0 then
		return nil
	elseif bytes < 1024 then
		return bytes
	elseif bytes < 1048576 then
		return string.format("%.1fK", bytes / 1024)
	end
	return string.format("%.1fM", bytes / 1048576)
end

-- How long ago, nil for never. Both in cs.
local function show_elapsed(since, now)
	if not since or since == 0 then
		return nil
	end
	local seconds = math.max(now - since, 0) / 100
	if seconds < 60 then
		return seconds .. "s"
	end
	local minutes = seconds // 60
	local rest = string.format("%.2gs", seconds % 60)
	if minutes < 60 then
		return string.format("%d:%s", minutes, rest)
	end
	return string.format("%d:%d:%s", minutes // 60, minutes % 60, rest)
end

function command.netstat()
	local sockets = require "skynet.socket".netstat()
	local now = skynet.now()
	for _, s in ipairs(sockets) do
		s.address = skynet.address(s.address)
		s.read = show_bytes(s.read)
		s.write = show_bytes(s.write)
		s.wbuffer = show_bytes(s.wbuffer)
		s.rtime = show_elapsed(s.rtime, now)
		s.wtime = show_elapsed(s.wtime, now)
	end
	return sockets
end

function raw.call(_, line)
	local address, expressions = line:match "^%s*%S+%s+(%S+)%s*(.*)$"
	local handle = to_handle(address)
	if expressions == "" then
		error("need arguments", 0)
	end
	local chunk, err = load("return " .. expressions, "=(call)", "t", {})
	if not chunk then
		error("Invalid arguments: " .. err, 0)
	end
	local arguments = table.pack(pcall(chunk))
	if not arguments[1] then
		error(arguments[2], 0)
	end
	return table.pack(ask(is_in_c(handle) and c_wait or longest_wait, handle, "lua",
		table.unpack(arguments, 2, arguments.n)))
end

-- Attach and wait for the end of the session. Yields.
local function attach(session, handle, agent, fd)
	local ok, attached, err = pcall(skynet.call, agent, "lua", "start", handle, fd)
	session.over = true
	session.err = not ok and attached or not attached and err
	skynet.wakeup(session)
	if not ok then
		skynet.send(agent, "lua", "leave")
	end
end

-- Hand the connection's lines to the agent until the session ends. Yields.
local function relay(conn, session, handle, agent)
	skynet.fork(attach, session, handle, agent, conn.fd)
	-- A failing attach ends before the user could type anything.
	skynet.sleep(10, session)
	while not session.over do
		local input = conn:read_line()
		if not input or session.over then
			skynet.send(agent, "lua", "leave")
			break
		end
		skynet.send(agent, "lua", "cmd", input)
		if input == "cont" then
			break
		end
	end
	if not session.over then
		skynet.sleep(fact_wait, session)
	end
	if session.err or not session.over then
		error(session.err or skynet.address(handle) .. " is still in the debugger: what it runs there does "
			.. "not end", 0)
	end
end

-- Hand the connection's lines to a debugger session until it ends.
function raw.debug(conn, line)
	local handle = to_lua_service(line:match "^%s*%S+%s+(%S+)")
	if not conn.interactive then
		error("debug needs a console connection", 0)
	end
	if alive(handle) then
		-- Who does not answer would hold the connection and not be attached to.
		ask_service(handle, "PING")
	end
	local session = { over = false, err = false }
	local agent = assert(skynet.newservice "debug_agent", "debug_agent exited")
	local ok, err = pcall(relay, conn, session, handle, agent)
	if not ok then
		-- Nobody else would end it.
		skynet.send(agent, "lua", "leave")
		error(err, 0)
	end
end

return M
