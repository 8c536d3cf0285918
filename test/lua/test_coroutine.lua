-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- skynet.coroutine: user coroutines that may block.

local skynet = require "skynet"
require "skynet.manager"
local profile = require "skynet.profile"
local sc = require "skynet.coroutine"
local test = require "testlib"
local rt = require "rt"

test.case("values go through, blocking inside completes the resume later", function()
	local co = sc.create(function(...)
		test.eq(table.pack(...), { "a", nil, n = 2 })
		test.eq(table.pack(sc.yield(1, nil, 2)), { "b", n = 1 })
		skynet.sleep(2)
		sc.yield "x"
		return "end", nil
	end)
	test.eq(table.pack(sc.resume(co, "a", nil)), { true, 1, nil, 2, n = 4 })
	test.eq(sc.status(co), "suspended")
	local start = skynet.now()
	local status, refusal
	skynet.timeout(0, function()
		status = sc.status(co)
		refusal = table.pack(sc.resume(co))
	end)
	test.eq({ sc.resume(co, "b") }, { true, "x" })
	test.ok(skynet.now() - start >= 2)
	test.eq(status, "blocked")
	test.eq(refusal, { false, "cannot resume a skynet coroutine suspend by skynet framework", n = 2 })
	test.eq(table.pack(sc.resume(co)), { true, "end", nil, n = 3 })
	test.eq(sc.status(co), "dead")
	test.eq({ sc.resume(co) }, { false, "cannot resume dead coroutine" })
end)

test.case("coroutines nest, and block at any depth", function()
	local function nested(depth)
		if depth == 0 then
			skynet.sleep(1)
			return "bottom"
		end
		local co = sc.create(nested)
		local ok, value = sc.resume(co, depth - 1)
		skynet.yield()
		return ok and value .. depth
	end
	test.eq(nested(5), "bottom12345")
end)

test.case("status inside", function()
	local outer, inner
	outer = sc.create(function()
		inner = sc.create(function()
			test.eq(sc.status(inner), "running")
			test.eq(sc.status(outer), "normal")
			test.eq({ sc.resume(outer) }, { false, "cannot resume non-suspended coroutine" })
		end)
		test.eq(sc.status(inner), "suspended")
		return sc.resume(inner)
	end)
	test.eq({ sc.resume(outer) }, { true, true })
end)

test.case("thread tells the task at the root", function()
	local me = coroutine.running()
	test.eq({ sc.thread() }, { me, true })
	local co = sc.create(function()
		test.eq({ sc.thread() }, { me, false })
		test.eq(sc.running(), coroutine.running())
		test.ok(sc.isyieldable())
	end)
	test.eq(sc.resume(co), true)
	test.eq({ sc.thread(me) }, { me, true })
end)

test.case("what was not created here is refused", function()
	test.eq({ sc.resume(coroutine.create(print)) }, { false, "cannot resume none skynet coroutine" })
	test.eq({ sc.resume(coroutine.running()) }, { false, "cannot resume none skynet coroutine" })
	test.err(function() sc.resume(1) end)
	test.err(function() sc.create(1) end)
end)

test.case("errors are results of resume and raised by wrap", function()
	local co = sc.create(function() error("inside", 0) end)
	test.eq({ sc.resume(co) }, { false, "inside" })
	test.eq(sc.status(co), "dead")
	co = sc.create(function() skynet.call(0xffff, "lua") end)
	local ok, err = sc.resume(co)
	test.eq(ok, false)
	test.match(err, "call to invalid address :0000ffff")
	local f = sc.wrap(function(a)
		local b = sc.yield(a + 1)
		skynet.sleep(1)
		error("from wrap " .. b, 0)
	end)
	test.eq(f(1), 2)
	test.err(function() f(5) end, "from wrap 5")
	test.err(function() f() end, "dead coroutine")
end)

test.case("yield out of a resume raises", function()
	test.err(function() sc.yield(1) end, "Call skynet.coroutine.yield out of skynet.coroutine.resume")
	local from = rt.mark()
	skynet.fork(function() sc.yield() end)
	skynet.yield()
	rt.logged("out of skynet.coroutine.resume", from)
end)

test.case("the default token is the inner coroutine", function()
	local inner
	local r = rt.start(function()
		local co = sc.create(function()
			inner = coroutine.running()
			return skynet.sleep(100000)
		end)
		return select(2, sc.resume(co))
	end)
	skynet.yield()
	test.eq(skynet.wakeup(r.co), nil)
	test.eq(skynet.wakeup(inner), true)
	test.eq({ rt.join(r) }, { true, "BREAK" })
end)

test.case("calls inside get their answers and failures", function()
	local agent = rt.agent()
	local co = sc.wrap(function()
		local a = rt.run(agent, "skynet.sleep(1) skynet.retpack 'a'")
		sc.yield(a)
		local ok, err = pcall(rt.run, agent, "error 'no'")
		return ok, err
	end)
	test.eq(co(), "a")
	local ok, err = co()
	test.eq(ok, false)
	test.match(err, "call failed$")
	skynet.kill(agent)
end)

test.case("a coroutine may be resumed by one task after another", function()
	local co = sc.create(function()
		for i = 1, 3 do
			skynet.sleep(1)
			sc.yield(i, (sc.thread()))
		end
	end)
	for i = 1, 3 do
		local r = rt.start(sc.resume, co)
		test.eq(table.pack(rt.join(r)), { true, true, i, r.co, n = 4 })
	end
end)

test.case("killing the task closes what is blocked inside it", function()
	local closed = {}
	local function guard(name)
		return setmetatable({}, { __close = function() closed[#closed + 1] = name end })
	end
	local inner
	local r = rt.start(function()
		local _ <close> = guard "outer"
		inner = sc.create(function()
			local _ <close> = guard "inner"
			skynet.wait()
		end)
		sc.resume(inner)
	end)
	skynet.yield()
	test.eq(sc.status(inner), "blocked")
	test.eq(skynet.killthread(r.co), r.co)
	test.eq(closed, { "inner", "outer" })
	test.eq(sc.status(inner), "dead")
end)

test.case("resume across a C function that cannot yield refuses to block", function()
	local co = sc.create(function() skynet.sleep(1) end)
	local ok, err
	table.sort({ 1, 2 }, function()
		ok, err = sc.resume(co)
		return false
	end)
	test.eq(ok, false)
	test.match(err, "C%-call boundary")
	skynet.sleep(1)
end)

test.case("close ends a coroutine at rest", function()
	local closed
	local co = sc.create(function()
		local _ <close> = setmetatable({}, { __close = function() closed = true end })
		sc.yield()
	end)
	sc.resume(co)
	test.eq(sc.close(co), true)
	test.eq(closed, true)
	test.eq(sc.status(co), "dead")
	test.eq({ sc.resume(co) }, { false, "cannot resume dead coroutine" })
end)

test.case("a profile of the task includes its coroutines", function()
	-- What the profile of a coroutine's work says, which is next to nothing when it is left out.
	local function used_by(rounds)
		local used
		profile.start()
		local co = sc.create(function()
			for _ = 1, rounds do end
			used = profile.stop((sc.thread()))
		end)
		test.eq(sc.resume(co), true)
		return used
	end
	local rounds = 100000
	while used_by(rounds) < 0.005 do
		rounds = rounds * 2
		test.ok(rounds < 1 << 30, rounds)
	end
end)

test.run()
