-- A service on bare skynet.core, without the framework: what it does with a
-- message of type 3 is its first word. Answers go out as type RESPONSE (1).

local core = require "skynet.core"

local PTYPE_RESPONSE <const> = 1
local PTYPE_CLIENT <const> = 3

local kept = {}
local is_forwarding = false
local command = {}

local function handle(type, ptr, size, session, source)
	if type ~= PTYPE_CLIENT then
		return
	end
	local name, rest = core.tostring(ptr, size):match "^(%S*) ?(.*)$"
	local is_mine = is_forwarding and name ~= "keep"
	local answer = command[name](rest, ptr, size)
	if is_mine then
		core.trash(ptr, size)
	end
	if session ~= 0 then
		core.send(source, PTYPE_RESPONSE, session, tostring(answer))
	end
end

local function handle_otherwise(type, ptr, size, session, source)
	if type == PTYPE_CLIENT then
		core.send(source, PTYPE_RESPONSE, session, "otherwise")
		core.callback(handle)
	end
end

function command.echo(text)
	return text
end

function command.raise_table()
	error({})
end

function command.raise(text)
	error(text)
end

-- The callback in progress goes on, collections included.
function command.replace()
	core.callback(handle_otherwise)
	for _ = 1, 3 do
		collectgarbage()
	end
	local t = {}
	for i = 1, 1000 do t[i] = { i } end
	return "replaced"
end

function command.forward(on)
	is_forwarding = on == "on"
	core.callback(handle, is_forwarding)
	return on
end

function command.keep(_, ptr, size)
	kept[#kept + 1] = { ptr, size }
	return #kept
end

function command.kept()
	local out = {}
	for i, m in ipairs(kept) do
		out[i] = core.tostring(m[1], m[2])
		core.trash(m[1], m[2])
	end
	kept = {}
	return table.concat(out, "|")
end

-- Fails with `not yieldable` in the answer: the callback's thread cannot yield.
function command.yield()
	local ok = pcall(coroutine.yield)
	return ok or not coroutine.isyieldable()
end

function command.quit()
	core.command "EXIT"
end

core.callback(handle)
