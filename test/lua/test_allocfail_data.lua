-- Allocations that fail in the C modules that hold data: sharedata, sharetable, stm, multicast,
-- zset, aoi, snowflake, and in those that look at a service: memory, profile, debugchannel.
local skynet = require "skynet"
local core = require "skynet.core"
local aoi = require "skynet.aoi"
local debugchannel = require "skynet.debugchannel"
local memory = require "skynet.memory"
local multicast = require "skynet.multicast.core"
local profile = require "skynet.profile"
local sharedata = require "skynet.sharedata.core"
local sharetable = require "skynet.sharetable.core"
local snowflake = require "skynet.snowflake"
local socketdriver = require "skynet.socketdriver"
local stm = require "skynet.stm"
local zset = require "skynet.zset"
local allocfail = require "allocfail"
local test = require "testlib"

local LONG = ("x"):rep(100)
local DATA = { a = 1, list = { 1, 2, { x = LONG, y = { 1, 2 } } }, [LONG] = "long key", [7] = 2.5, t = true }
-- Nobody has it.
local DEAD = 0xffff00

--------------------------------------------------------------------- sharedata

local function closed(o)
	if o then o:close() end
end

allocfail.case("sharedata.new", {
	run = function() return sharedata.new(DATA) end,
	check = function(o)
		test.eq(sharedata.copy(o:id()), DATA)
		test.ok(o:size() > 100)
		o:close()
	end,
})
allocfail.case("sharedata.adopt and copy", {
	make = function() return sharedata.new(DATA) end,
	run = function(o)
		local other = sharedata.adopt(o:id())
		return sharedata.copy(o:id()), sharedata.copy(o:id(), "list", 3, "y"), other
	end,
	check = function(_, a, b) test.eq({ a, b }, { DATA, { 1, 2 } }) end,
	over = closed,
})

local function read_all(p)
	local n = 0
	for _, v in pairs(p) do
		n = n + 1 + (type(v) == "table" and read_all(v) or 0)
	end
	return n
end

allocfail.case("a proxy of shared data is read", {
	make = function()
		local o = sharedata.new(DATA)
		return o, sharedata.proxy(o:id())
	end,
	run = function(_, p)
		return p.list[3].x, #p.list, read_all(p), p[LONG], sharedata.next(p), sharedata.next(p.list, 2)
	end,
	check = function(_, p, x, n, all)
		test.eq({ x, n, all }, { LONG, 3, 12 })
		test.eq(p.list[3].y[2], 2)
	end,
	over = closed,
})
allocfail.case("a proxy of shared data moves to the next version, in the end", {
	make = function()
		local o = sharedata.new(DATA)
		local p = sharedata.proxy(o:id())
		test.eq(p.list[3].y[1], 1)
		local new = sharedata.new { list = { 1, 2, { x = "new", y = { 5 } } } }
		return o, p, new, p.list[3].y
	end,
	run = function(_, p, new)
		sharedata.pend(p, new:id())
		sharedata.flush(p)
		return sharedata.id(p) == new:id(), sharedata.is_alive(p), sharedata.is_dirty(p),
			sharedata.is_before(p, p)
	end,
	check = function(_, p, _, y, same)
		test.eq({ same, p.list[3].x, y[1], p.a }, { true, "new", 5, nil })
	end,
	over = function(o, _, new)
		o:close()
		new:close()
	end,
})
allocfail.case("a path of shared data that has gone is told", {
	make = function()
		local o, new = sharedata.new(DATA), sharedata.new { list = 1 }
		local p = sharedata.proxy(o:id())
		local y = p.list[3].y
		sharedata.pend(p, new:id())
		return o, new, y
	end,
	run = function(_, _, y) return pcall(function() return y[1] end) end,
	check = function(_, _, _, ok, why)
		test.ok(not ok and (why:find "doesn't exist after update" or why:find "memory"), why)
	end,
	over = function(o, new)
		o:close()
		new:close()
	end,
})
allocfail.case("sharedata.host", {
	run = function()
		local id = sharedata.host_new(DATA)
		sharedata.host_incref(id)
		sharedata.host_markdirty(id)
		local n = sharedata.host_getref(id)
		sharedata.host_decref(id)
		sharedata.host_delete(id)
		return n
	end,
	check = function(n) test.eq(n, 1) end,
})
allocfail.case("sharedata.proxy", {
	make = function() return sharedata.new(DATA) end,
	run = function(o) return sharedata.proxy(o:id()) end,
	check = function(_, p) test.eq(p.a, 1) end,
	over = closed,
})
allocfail.case("sharedata.count", { run = function() return sharedata.count() end })

-------------------------------------------------------------------- sharetable

for kind, source in pairs {
	string = "return { a = 1, list = { 1, 2, { x = '" .. LONG .. "' } }, args = { ... } }",
	packed = skynet.packstring { a = 1, list = { 1, 2, { x = LONG } } },
} do
	allocfail.case("sharetable.matrix of a " .. kind, {
		run = function()
			if kind == "string" then
				return sharetable.matrix("allocfail", kind, source, LONG, 2)
			end
			return sharetable.matrix("allocfail", kind, source)
		end,
		check = function(m)
			test.ok(m:size() > 100)
			m:close()
		end,
	})
end
allocfail.case("sharetable.matrix that fails", {
	run = function() return pcall(sharetable.matrix, "allocfail", "string", "error 'no table'") end,
	check = function(ok, why) test.ok(not ok and tostring(why):find "no table" or tostring(why):find "memory") end,
})
allocfail.case("sharetable.lease", {
	make = function() return sharetable.matrix("allocfail", "string", "return { x = { 1 } }") end,
	run = function(m) return sharetable.lease(m:id()) end,
	check = function(_, lease)
		test.eq(lease:table().x[1], 1)
		sharetable.release { lease }
		test.eq(lease:is_open(), false)
	end,
	over = function(m) m:close() end,
})
allocfail.case("sharetable, what asks and what releases", {
	make = function()
		local m = sharetable.matrix("allocfail", "string", "return { x = { 1 } }")
		return m, sharetable.lease(m:id()), { x = 1 }
	end,
	run = function(m, lease, t)
		sharetable.rebind(lease:table(), lease:table())
		sharetable.release { lease }
		return m:holders(), m:getptr(), sharetable.versions(), sharetable.stats(), sharetable.adopt(m:id()),
			sharetable.is_sharedtable(t)
	end,
	once = true,
	over = function(m, lease)
		m:close()
		sharetable.release { lease }
		test.eq(lease:is_open(), false)
	end,
})

--------------------------------------------------------------------------- stm

allocfail.case("stm", {
	run = function()
		local writer = stm.new(skynet.pack(LONG))
		local reader = stm.newcopy(stm.copy(writer))
		writer(LONG)
		local ok, text = reader(core.tostring)
		return ok, text, reader(core.tostring)
	end,
	check = function(ok, text, again) test.eq({ ok, text, again }, { true, LONG, false }) end,
})
allocfail.case("stm, a reader that fails has not read", {
	make = function()
		local writer = stm.new(LONG)
		return writer, stm.newcopy(stm.copy(writer))
	end,
	run = function(_, reader) return reader(core.tostring) end,
	check = function(_, _, ok, text) test.eq({ ok, text }, { true, LONG }) end,
})

--------------------------------------------------------------------- multicast

local live = multicast.live

allocfail.case("multicast, packages", {
	make = function() return live(), skynet.pack(LONG) end,
	run = function()
		local id = multicast.pack(LONG)
		local other = multicast.packremote(LONG)
		multicast.discard(id)
		multicast.bind(other, 1)
		multicast.close(other)
		return multicast.remote(multicast.pack "remote")
	end,
	check = function(n, _, _, msg, size)
		test.eq(core.tostring(msg, size), "remote")
		skynet.trash(msg, size)
		test.eq(live(), n)
	end,
	over = function(_, msg, size) skynet.trash(msg, size) end,
})

-- The id as a message brings it.
local function message_of(id)
	return string.pack("J", tonumber(tostring(id):match "0x%x+" or 0))
end

allocfail.case("multicast.deliver to the dead leaves nothing", {
	make = function() return live(), multicast.pack(LONG), { DEAD, DEAD + 1, DEAD + 2 } end,
	run = function(_, id, handles) return multicast.deliver(id, 1, skynet.self(), handles) end,
	failed = function(_, id) multicast.discard(id) end,
	once = true,
	over = function(n, id)
		multicast.discard(id)
		test.eq(live(), n)
	end,
})

allocfail.case("multicast.open takes the reference of its message", {
	make = function()
		local n, id = live(), multicast.pack(LONG)
		multicast.bind(id, 1)
		return n, socketdriver.str2p(message_of(id))
	end,
	run = function(_, msg, size) return multicast.open(msg, size) end,
	check = function(_, _, _, hold)
		test.eq(core.tostring(hold:data()), LONG)
		hold:close()
	end,
	once = true,
	over = function(n, msg, size)
		skynet.trash(msg, size)
		test.eq(live(), n)
	end,
})
allocfail.case("multicast.unpack", {
	make = function()
		local id = multicast.pack(LONG)
		multicast.bind(id, 1)
		return id, socketdriver.str2p(message_of(id))
	end,
	run = function(_, msg, size) return multicast.unpack(msg, size) end,
	check = function(_, _, _, _, data, n) test.eq(core.tostring(data, n), LONG) end,
	over = function(id, msg, size)
		skynet.trash(msg, size)
		multicast.close(id)
	end,
})
test.case("a package that a service has no memory to take is given back", function()
	local failed
	skynet.register_protocol {
		name = "multicast",
		id = skynet.PTYPE_MULTICAST,
		unpack = multicast.open,
		dispatch = function(_, _, hold)
			skynet.ignoreret()
			hold:close()
		end,
	}
	local function one(n, mode)
		local before = live()
		multicast.deliver(multicast.pack(LONG), 1, skynet.self(), { skynet.self() })
		allocfail.native.arm(n, mode)
		skynet.sleep(0)
		failed = allocfail.native.disarm()
		-- Holds that nobody has closed.
		collectgarbage()
		allocfail.native.collect()
		test.eq(live(), before, ("allocation %d (%s)"):format(n, mode))
		return failed
	end
	one(1000, "once")
	for _, mode in ipairs { "once", "always" } do
		local n = 1
		while one(n, mode) do
			n = n + 1
		end
		test.ok(n > 1, "some failed")
	end
end)

allocfail.case("multicast, holds", {
	make = function()
		local n, id = live(), multicast.pack(LONG)
		multicast.bind(id, 1)
		local msg, size = socketdriver.str2p(message_of(id))
		local hold = multicast.open(msg, size)
		skynet.trash(msg, size)
		return n, hold
	end,
	run = function(_, hold) return hold:again(), hold:data(), multicast.live(), multicast.nextid(1) end,
	check = function(_, _, again) again:close() end,
	over = function(n, hold)
		hold:close()
		collectgarbage()
		test.eq(live(), n)
	end,
})

-------------------------------------------------------------------- zset, aoi

local function filled_set(n)
	local set = zset.new()
	for i = 1, n do
		set:add("member " .. i, i)
	end
	return set
end

allocfail.case("zset.new", {
	run = function() return zset.new() end,
	check = function(s) test.eq(#s, 0) end,
})
allocfail.case("zset, changes are whole", {
	make = function() return filled_set(50) end,
	run = function(s)
		s:add(LONG, 5)
		s:incr("member 1", 3)
		s:incr("a new member", 3)
		s:remove "member 2"
		s:pop_min()
		s:pop_max()
		s:remove_range(1, 2)
		s:remove_by_score(10, 11)
		return true
	end,
	failed = function(s)
		-- What has a score has a rank, and the other way round.
		for i = 1, #s do
			local member, score = s:at(i)
			test.eq(s:score(member), score)
			test.eq(s:rank(member), i)
		end
	end,
	once = true,
})
allocfail.case("zset, what asks", {
	make = function() return filled_set(50) end,
	run = function(s)
		return s:range(1, 10), s:rev_range(1, 10), s:range_by_score(5, 20), s:rev_range_by_score(20, 5),
			s:score "member 1", s:rank "member 1", s:rev_rank "member 1", s:at(3), s:count(1, 5), s:memory()
	end,
	check = function(_, members) test.eq(#members, 10) end,
})
allocfail.case("zset.clear and close", {
	make = function() return filled_set(50) end,
	run = function(s)
		s:clear()
		s:close()
	end,
	once = true,
})

local function space(n)
	local s = aoi.new { cell = 10 }
	for i = 1, n do
		s:add(i, i, i, 10)
	end
	return s
end

allocfail.case("aoi, objects come and go", {
	make = function() return space(20) end,
	run = function(s)
		s:add(100, 5, 5, 10)
		s:move(100, 6, 6)
		s:set_range(100, 20)
		s:remove(100)
		return s:place(1), s:stat().objects
	end,
	check = function(_, x, n) test.eq({ x, n }, { 1.0, 20 }) end,
})
allocfail.case("aoi.update tells each event once", {
	make = function() return space(20) end,
	run = function(s) return s:update() end,
	check = function(s, list, n)
		test.ok(n > 0 and #list == 3 * n or #list >= n)
		test.eq(select(2, s:update()), 0)
	end,
})
allocfail.case("aoi, what asks", {
	make = function()
		local s = space(20)
		s:update()
		return s
	end,
	run = function(s) return s:seen_by(1), s:watchers_of(1), s:near(1, 1, 5), s:stat() end,
	check = function(_, seen, _, near) test.ok(#seen > 0 and #near > 0) end,
})
allocfail.case("aoi.new and close", {
	run = function()
		local s = aoi.new { cell = 10 }
		s:close()
		return s
	end,
})

--------------------------------------------------------------------- snowflake

allocfail.case("snowflake", {
	run = function()
		local g = snowflake.new { node = 5, clock = function() return 1700000000000 end }
		local id = g:next()
		return g:decode(id), snowflake.decode(id), #g:batch(100)
	end,
	check = function(ms) test.eq(ms, 1700000000000) end,
})

------------------------------------------------- memory, profile, debugchannel

allocfail.case("memory, figures", {
	run = function()
		return memory.total(), memory.block(), memory.current(), memory.info(), memory.jestat(),
			memory.mallctl "stats.allocated", memory.profactive(), pcall(memory.control, "opt.abort")
	end,
})
allocfail.case("memory, services", {
	run = function() return memory.services(), memory.top(5), memory.top(5, "lua"), memory.ledger() end,
	check = function(services) test.ok(services[skynet.self()]) end,
})
if memory.snapshot then
	allocfail.case("memory.snapshot", {
		-- Few objects, since it lists places.
		run = function() return memory.snapshot(30) end,
		check = function(s) test.eq({ s.count, s.truncated }, { 30, true }) end,
	})
end
allocfail.case("memory.sites", { run = function() return memory.sites() end })

allocfail.case("profile", {
	run = function()
		local co = coroutine.create(function() return 1 end)
		profile.start(co)
		local ok = assert(profile.resume(co))
		local time = profile.stop(co)
		return ok, time, profile.wrap(function() return LONG end)()
	end,
	check = function(ok, _, text) test.eq({ ok, text }, { true, LONG }) end,
})

allocfail.case("debugchannel loses nothing", {
	make = function()
		local a, address = debugchannel.create()
		local b = debugchannel.connect(address)
		a:write(LONG)
		a:write "next"
		return a, b
	end,
	run = function(_, b) return b:read() end,
	check = function(_, b, text) test.eq({ text, b:read() }, { LONG, "next" }) end,
	over = function(a, b)
		debugchannel.release(a)
		debugchannel.release(b)
	end,
})
allocfail.case("debugchannel.create, connect, sethook", {
	run = function()
		local a, address = debugchannel.create()
		local b = debugchannel.connect(address)
		local co = coroutine.create(print)
		debugchannel.sethook(co, function() end, "l")
		debugchannel.sethook(co)
		a:write(LONG)
		debugchannel.release(a)
		return a, b
	end,
})

test.case("a finalizer that there is no memory to call is called later", function()
	collectgarbage()
	local bytes = memory.current()
	collectgarbage "stop"
	for _ = 1, 10 do
		stm.new(LONG)
	end
	test.ok(coroutine.wrap(allocfail.native.collect)(true), "an allocation failed")
	local held = memory.current()
	collectgarbage "restart"
	collectgarbage()
	collectgarbage()
	test.ok(held > bytes or bytes == 0, "it was not called before")
	test.ok(memory.current() <= bytes, memory.current() - bytes)
end)

allocfail.covers({
	aoi = aoi, debugchannel = debugchannel, memory = memory, multicast = multicast, profile = profile,
	sharedata = sharedata, sharetable = sharetable, snowflake = snowflake, stm = stm, zset = zset,
}, {
	["memory.dump"] = "logs, without memory of Lua",
	["memory.dumpheap"] = "writes a file, likewise",
	["memory.dumpinfo"] = "prints, likewise",
	["memory.trim"] = "has nothing to do with Lua",
	["memory.sample"] = "would put its own allocator in place",
	["sharetable.abandon"] = "raises where tables are shared",
	["sharetable.clone"] = "a lease that lasts as long as the service, otherwise as lease",
})

test.run()
