-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- Code injection into services and into frames.

local skynet = require "skynet"
require "skynet.manager"
local inject = require "skynet.inject"
local injectcode = require "skynet.injectcode"
local test = require "testlib"
local rt = require "rt"

test.case("a patch of a command table is used by the next request", function()
	local h = skynet.newservice "rt_patch"
	rt.call_failed(skynet.call, h, "lua", "newcmd")
	local ok, out = skynet.call(h, "debug", "RUN", [[
		_P.lua.CMD.newcmd = function() return "patched" end
		print(_P.lua.counters.n, _P.lua.helper_state.tag, _P.lua.number)
	]])
	test.eq({ ok, out }, { true, "1\thelper" })
	test.eq(skynet.call(h, "lua", "newcmd"), "patched")
	skynet.kill(h)
end)

test.case("globals are read through, plain assignments stay private", function()
	local h = skynet.newservice "rt_patch"
	test.eq({ skynet.call(h, "debug", "RUN", "made_up = 1 print(SERVICE_NAME, made_up)") },
		{ true, "rt_patch\t1" })
	test.eq({ skynet.call(h, "debug", "RUN", "print(tostring(made_up)) _G.real = 2") }, { true, "nil" })
	test.eq({ skynet.call(h, "debug", "RUN", "print(real)") }, { true, "2" })
	skynet.kill(h)
end)

test.case("_U lists the tables behind the root functions", function()
	local state, number = { secret = true }, 5
	local function root() return state, number end
	local ok, out = inject(skynet, "print(_U.state.secret, _U.number == nil, type(_P.debug))", nil, { n = 0 }, root)
	test.eq({ ok, out }, { true, { "true\ttrue\ttable" } })
	local _, err = inject(skynet, "print 'before' error 'x'", nil, { n = 0 }, root)
	test.eq(err, { "before", "(load):1: x" })
end)

local up = 1

local function frame(a, f, n, s, ...)
	local hidden = "outer"
	do
		local hidden = "inner" -- luacheck: ignore
		coroutine.yield(hidden, ...)
	end
	return a, f, n, s, up, hidden
end

local function suspended()
	up = 1
	local co = coroutine.create(frame)
	coroutine.resume(co, 1, false, nil, "s", "va1", "va2")
	return co
end

test.case("locals, upvalues and varargs of a frame are seen as they are", function()
	local co = suspended()
	test.eq(table.pack(injectcode("return a, f, n, s, up, ...", co, 1)),
		{ true, 1, false, nil, "s", 1, "va1", "va2", n = 8 })
	test.eq({ injectcode("return hidden", co, 1) }, { true, "inner" })
	test.eq({ injectcode("return type(print)", co, 1) }, { true, "function" })
end)

test.case("assignments reach the frame, nil and false included", function()
	local co = suspended()
	test.eq({ injectcode("a = 10 f = true n = 'set' s = nil up = 99", co, 1) }, { true })
	test.eq(up, 99)
	test.eq(table.pack(coroutine.resume(co)), { true, 10, true, "set", nil, 99, "outer", n = 7 })
end)

test.case("a failing run writes no locals back", function()
	local co = suspended()
	local ok, err = injectcode("a = 5 error 'stop'", co, 1)
	test.eq(ok, false)
	test.match(err, "^%(debug%):1: stop")
	ok, err = injectcode("a = ", co, 1)
	test.eq(ok, false)
	test.match(err, "unexpected symbol")
	test.eq(select(2, coroutine.resume(co)), 1)
end)

test.case("levels without a Lua frame are reported", function()
	local co = suspended()
	test.eq(injectcode("return 1", co, 0), false)
	test.eq(injectcode("return 1", co, 50), false)
	test.eq(injectcode("return 1", nil, 500), false)
	test.eq(injectcode("return 1", co, -1), false)
end)

test.case("level 0 of the running coroutine is the caller", function()
	local mine, other = 5, 6
	test.eq({ injectcode "return mine, other" }, { true, 5, 6 })
	test.eq({ injectcode "mine = mine + other" }, { true })
	test.eq(mine, 11)
	local function deeper()
		local own = 7
		local ok, a, b = injectcode("return own, mine", nil, 1)
		return ok, own, a, b
	end
	test.eq({ deeper() }, { true, 7, nil, 11 })
end)

test.case("extra names hide nothing of the frame", function()
	local co = suspended()
	test.eq({ injectcode("return a, extra", co, 1, { a = "no", extra = "yes" }) }, { true, 1, "yes" })
	rt_inject_global = nil
	injectcode("rt_inject_global = 4", co, 1, {})
	test.eq(rt_inject_global, 4)
	rt_inject_global = nil
end)

test.case("the injected code may yield", function()
	local co = suspended()
	local ok, n = injectcode("require 'skynet'.sleep(1) return 8", co, 1)
	test.eq({ ok, n }, { true, 8 })
end)

test.run()
