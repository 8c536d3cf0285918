-- Allocations that fail in skynet.task and skynet.core: what a call has not done it has not
-- half done. Of messages and starting services see test_oom.lua.
local skynet = require "skynet"
local core = require "skynet.core"
local coroutine_lib = require "skynet.task.coroutine"
local task = require "skynet.task"
local allocfail = require "allocfail"
local test = require "testlib"

local LONG = ("x"):rep(100)
local PTYPE_TEXT = skynet.PTYPE_TEXT
-- Nobody has it, and it is no name.
local DEAD = 0xffff00

local echo

local function values(...)
	return { n = select("#", ...), ... }
end

----------------------------------------------------------------------------- pack

local VALUES = { 1, 2.5, "short", LONG, true, { a = { b = { 1, 2, 3, "four" } }, c = LONG }, n = 6 }

for name, pack in pairs { task = task.pack, core = core.pack } do
	allocfail.case("pack and unpack, " .. name, {
		run = function() return pack(table.unpack(VALUES, 1, 6)) end,
		check = function(msg, size)
			test.eq({ n = 6, skynet.unpack(msg, size) }, VALUES)
			skynet.trash(msg, size)
		end,
	})
end

allocfail.case("pack of a table with __pairs", {
	make = function()
		return setmetatable({}, { __pairs = function() return next, { a = LONG, b = { 1 } } end })
	end,
	run = function(t) return skynet.pack(t, LONG) end,
	check = function(_, msg, size)
		test.eq({ skynet.unpack(msg, size) }, { { a = LONG, b = { 1 } }, LONG })
		skynet.trash(msg, size)
	end,
})

allocfail.case("packstring and unpack", {
	run = function() return values(skynet.unpack(skynet.packstring(table.unpack(VALUES, 1, 6)))) end,
	check = function(got) test.eq(got, VALUES) end,
})

allocfail.case("tostring of a message", {
	make = function() return skynet.pack(LONG) end,
	run = function(msg, size) return core.tostring(msg, size) end,
	check = function(_, size, text) test.eq(#text, size) end,
	over = skynet.trash,
})

---------------------------------------------------------------------------- sending

for name, send in pairs {
	["task.send"] = function() return task.send(DEAD, "lua", LONG, { 1 }) end,
	["task.rawsend"] = function() return task.rawsend(DEAD, "lua", skynet.pack(LONG)) end,
	["task.rawsend, a string"] = function() return task.rawsend(DEAD, "lua", LONG) end,
	["task.redirect"] = function() return task.redirect(DEAD, DEAD, "lua", 1, skynet.pack(LONG)) end,
	["core.send"] = function() return core.send(DEAD, PTYPE_TEXT, 0, core.pack(LONG)) end,
	["core.redirect"] = function() return core.redirect(DEAD, DEAD, PTYPE_TEXT, 0, LONG) end,
	["task.send to a missing name"] = function() return task.send(".nobody", "lua", LONG) end,
} do
	allocfail.case(name, { run = send })
end

allocfail.case("a set of requests", {
	make = function() return task._keep(function() end) end,
	run = function(ref)
		local session = task._request(ref, echo, "lua", "echo", LONG)
		task._cancel(session)
		return session
	end,
	check = function(_, session) test.ok(session > 0) end,
	over = function(ref)
		task._drop(ref)
		-- The answer.
		skynet.call(echo, "lua", "echo")
	end,
})

---------------------------------------------------------------------- small functions

allocfail.case("commands", {
	run = function()
		core.command "NOSUCH"
		return core.command("GETENV", "lualoader"), core.intcommand "NOW", core.addresscommand "REG",
			core.intcommand("STAT", "mqlen")
	end,
	check = function(loader) test.match(loader, "loader") end,
})

allocfail.case("core, what asks", {
	run = function()
		return core.genid(), core.harbor(skynet.self()), core.alive(skynet.self()), core.now(), core.hpc(),
			core.heap(), core.memquota(), core.trash "string"
	end,
})

allocfail.case("task, what asks", {
	run = function()
		return task.genid(), task.getenv "lualoader", task.now(), task.hpc(), task.self(), task.address(10),
			task.address ".x", task.tracetag(), task._pending(), task._count(), task._session(coroutine.running()),
			task._init_thread(), task._root(), task.context(), task.wakeup {}, task.term(DEAD)
	end,
})

allocfail.case("error and trace write their line or raise", {
	run = function()
		core.error(LONG, 1, 2.5)
		core.error(1.5)
		core.trace("tag", "text", 1)
		task.tracelog("tag", "text", 1)
	end,
})

for name, get in pairs {
	["a field of skynet"] = function(m) return m.PTYPE_CLIENT and m.hpc and m.newservice end,
	["all fields of skynet"] = function(m)
		local n = 0
		for _ in pairs(m) do
			n = n + 1
		end
		return n
	end,
} do
	allocfail.case(name, {
		make = function()
			local m = setmetatable({}, getmetatable(skynet))
			return m
		end,
		run = get,
		check = function(_, value) test.ok(value) end,
	})
end

------------------------------------------------------------------------------ classes

-- A table with what classes are known, as they were.
local known = skynet._proto

local function forget(name, id)
	rawset(known, name, nil)
	rawset(known, id, nil)
end

-- So many that the table has to grow.
local FIRST, LAST = 100, 180

-- The table grows while a name is stored, or while an id is.
for _, filler in ipairs { 0, 1 } do
	allocfail.case("register_protocol does it or can be repeated, " .. filler, {
		make = function()
			local classes = {}
			known[-FIRST] = filler == 1 or nil
			for id = FIRST, LAST do
				classes[id] = { name = "a class with a name of its own " .. id, id = id }
			end
			return classes
		end,
		run = function(classes)
			for id = FIRST, LAST do
				local class = classes[id]
				if not (rawget(known, class.name) and rawget(known, id)) then
					skynet.register_protocol(class)
				end
			end
		end,
		check = function(classes)
			for id = FIRST, LAST do
				local class = classes[id]
				test.ok(rawequal(known[class.name], class) and rawequal(known[id], class))
			end
			local class = classes[FIRST]
			test.err(function() skynet.register_protocol(class) end, "taken")
			test.err(function() skynet.register_protocol { name = "other", id = FIRST } end, "taken")
			test.err(function() skynet.register_protocol { name = class.name, id = 99 } end, "taken")
		end,
		over = function(classes)
			for id = FIRST, LAST do
				forget(classes[id].name, id)
			end
			known[-FIRST] = nil
			-- So that the table gets small again.
			for i = 1, 300 do
				known[-i] = true
				known[-i] = nil
			end
		end,
	})
end

for name, id in pairs { error = skynet.PTYPE_ERROR, debug = 9, response = skynet.PTYPE_RESPONSE } do
	allocfail.case("class " .. name .. " is one, whichever way it is asked for", {
		make = function() forget(name, id) end,
		run = function() return known[name], known[id] end,
		check = function(a, b)
			test.ok(rawequal(a, b) and rawequal(rawget(known, name), a) and rawequal(rawget(known, id), a))
			test.eq({ a.name, a.id }, { name, id })
		end,
	})
end

allocfail.case("_repeat", {
	make = function() return { name = "another class", id = 30 } end,
	run = function(class)
		known[class.name] = class
		task._repeat(class.name)
	end,
	over = function(class) forget(class.name, 30) end,
})

allocfail.case("dispatch sets a function or raises", {
	make = function() return { name = "another class", id = 202 } end,
	run = function(class)
		if known[202] == nil then
			known[202], known[class.name] = class, class
		end
		return skynet.dispatch(class.name, print), skynet.traceproto(class.name, true)
	end,
	check = function(class) test.eq({ class.dispatch == print, class.trace }, { true, true }) end,
	over = function(class) forget(class.name, 202) end,
})

------------------------------------------------------------------------------- errors

-- An unchanged Lua makes something else of it.
if require "skynet.sharetable.core".is_shared then
	allocfail.case("an error that there is no memory for is that one", {
		run = function() return select(2, pcall(core.redirect, {}, 1, 2, 3, LONG)) end,
		check = function(why)
			test.ok(why == "dest address type (table) must be a string or number." or why == "not enough memory", why)
		end,
	})
end

--------------------------------------------------------------------------- tasks, timers

local ran = 0
local function count() ran = ran + 1 end

allocfail.case("fork makes a task that runs, or none", {
	make = function()
		ran = 0
		return {}
	end,
	run = function(o)
		o.co = skynet.fork(count, LONG, 1, 2)
		skynet.fork(count)
	end,
	over = function()
		local before = ran
		skynet.sleep(0)
		test.ok(before == 0 and ran >= 0 and ran <= 4, ran)
	end,
})

allocfail.case("fork with many arguments", {
	make = function() return table.pack(table.unpack(allocfail.numbers(300))) end,
	run = function(t) skynet.killthread((skynet.fork(count, table.unpack(t, 1, t.n)))) end,
})

allocfail.case("timeout arms a timer or none", {
	make = function()
		ran = 0
		return task._count(), {}
	end,
	run = function(_, o)
		o.n = (o.n or 0) + 1
		skynet.timeout(0, count)
		o.n = o.n + 1
		return (skynet.timeout(0, count))
	end,
	over = function(n)
		test.wait_for(function() return task._count() <= n end)
		skynet.sleep(0)
	end,
})

-- The word for it is nowhere in this service, so that it is not there by chance.
test.case("a sleep that is woken needs no memory to say so", function()
	local token = {}
	local ok, word
	skynet.fork(function()
		ok, word = pcall(skynet.sleep, 6000, token)
	end)
	skynet.sleep(0)
	collectgarbage()
	collectgarbage()
	skynet.wakeup(token)
	allocfail.native.arm(1, "always")
	skynet.sleep(0)
	allocfail.native.disarm()
	test.eq(ok, true, tostring(word))
	test.eq(#word, 5)
end)

allocfail.case("_arm, _cancel, _keep and _drop", {
	make = function() return task._count() end,
	run = function()
		local ref = task._keep {}
		task._drop(ref)
		task._cancel(task._arm(100000, count))
	end,
	check = function(n) test.eq(task._count(), n) end,
})

allocfail.case("killthread by its names", {
	make = function()
		local co = skynet.fork(skynet.wait)
		skynet.sleep(0)
		return co, tostring(co)
	end,
	run = function(_, name) return skynet.killthread(name) end,
	check = function(co, _, killed) test.ok(killed == co) end,
})

allocfail.case("a coroutine of skynet.coroutine", {
	run = function()
		local co = coroutine_lib.create(function(a)
			local b = coroutine_lib.yield(a .. LONG)
			return b .. LONG
		end)
		local status = coroutine_lib.status(co)
		local _, x = assert(coroutine_lib.resume(co, "a"))
		local _, y = assert(coroutine_lib.resume(co, "b"))
		return x, y, status, coroutine_lib.thread(co), coroutine_lib.close(co)
	end,
	check = function(x, y)
		test.eq({ x, y }, { "a" .. LONG, "b" .. LONG })
	end,
})

------------------------------------------------------------------------------- traces

allocfail.case("a trace has its tag, the one before or the new one", {
	make = function() skynet.trace "made" end,
	run = function()
		skynet.trace(LONG)
		task._settag("a tag that is longer than a short string is, and more")
	end,
	failed = function() test.match(task.tracetag(), "^[:a]") end,
	check = function() test.match(task.tracetag(), "^a tag") end,
})

local YIELDS = "yields, see test_oom.lua"

allocfail.covers({ task = task, core = core, coroutine = coroutine_lib }, {
	["core.callback"] = "would take the messages of this service, see test_oom.lua",
	["core.memlimit"] = "would put its own allocator in place",
	["core.startfailed"] = "would end the node",
	["task.start"] = "once in a service, see test_oom.lua",
	["task.call"] = YIELDS, ["task.sleep"] = YIELDS, ["task.wait"] = YIELDS, ["task.yield"] = YIELDS,
	["task.call_timeout"] = YIELDS, ["task.rawcall"] = YIELDS, ["task.exit"] = YIELDS, ["task.ret"] = YIELDS,
	["task.retpack"] = YIELDS, ["task.response"] = YIELDS, ["task.init_service"] = YIELDS,
})

test.run(function()
	echo = skynet.newservice "oom_target"
end)
