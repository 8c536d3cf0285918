-- A service that says what its VM looks like and does what a test asks: spin,
-- allocate, limit its memory. Its first argument may ask for something in the
-- main chunk.

local skynet = require "skynet"
local core = require "skynet.core"

local args = table.pack(...)
local globals = { LUA_PATH, LUA_CPATH, LUA_SERVICE, LUA_PRELOAD }
local context = debug.getregistry().skynet_context

local MIB <const> = 1048576

if args[1] == "limit" then
	skynet.memlimit(2 * MIB)
elseif args[1] == "field" then
	debug.getregistry().memlimit = 2 * MIB
elseif args[1] == "overrun" then
	-- In force at once, in the main chunk too.
	core.memlimit(2 * MIB)
	args.overrun = { pcall(string.rep, "x", 4 * MIB) }
end

local command = {}

function command.args()
	return table.unpack(args, 1, args.n)
end

function command.globals()
	return next(globals) == nil, type(context), core.tostring(nil) == nil
end

function command.overrun()
	return table.unpack(args.overrun)
end

local function spin(tester)
	skynet.send(tester, "lua", "spinning")
	while true do end
end

local function spin_nested(tester)
	local co = coroutine.wrap(function()
		coroutine.wrap(spin)(tester)
	end)
	co()
end

command.spin = spin
command.spin_nested = spin_nested

function command.protected_spin(tester)
	return pcall(spin, tester)
end

-- The interrupt finds a debug hook, which must be in place again afterwards.
function command.hooked_spin(tester)
	local lines = 0
	local function hook() lines = lines + 1 end
	debug.sethook(hook, "l")
	local ok, msg = pcall(spin, tester)
	local same = debug.gethook() == hook
	local before = lines
	local x = 1
	x = x + 1
	debug.sethook()
	return ok, msg, same, lines > before
end

function command.allocate(bytes)
	return pcall(string.rep, "x", bytes)
end

function command.tables(n)
	return pcall(function()
		local t = {}
		for i = 1, n do t[i] = {} end
	end)
end

function command.collect()
	collectgarbage()
	return #string.rep("y", 1000)
end

function command.limit(bytes)
	core.memlimit(bytes)
end

function command.ping()
	return "pong"
end

function command.count(n)
	local sum = 0
	for i = 1, n do sum = sum + i end
	return sum
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, name, ...)
		if name == "quit" then
			skynet.ignoreret()
			skynet.exit()
		end
		-- One C function: an interrupt between packing and sending would lose the block.
		skynet.retpack(command[name](...))
	end)
end)
