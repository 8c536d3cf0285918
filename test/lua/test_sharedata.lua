-- skynet.sharedata: proxies, updates, life time, and corelib.

local skynet = require "skynet"
local sharedata = require "skynet.sharedata"
local corelib = require "skynet.sharedata.corelib"
local core = require "skynet.sharedata.core"
local memory = require "skynet.memory"
local test = require "testlib"
local rt = require "rt"

local SWAPS = skynet.getenv "test_variant" == "release" and 1000 or 100

local function reader()
	return assert(skynet.newservice("doc_reader", "skynet.sharedata"))
end

local function ask(service, ...)
	return skynet.call(service, "lua", ...)
end

local function get(service, ...)
	local ok, v = ask(service, "get", ...)
	if not ok then
		error(v, 0)
	end
	return v
end

local function wait_value(f, want)
	test.wait_for(function()
		return f() == want
	end, nil, "the update")
end

test.case("values come back as they went", function()
	local long = ("long\0"):rep(100)
	local data = {
		1, 2, 3, [-1] = "minus", [0] = "zero", [1 << 40] = "large", [math.mininteger] = "min",
		[math.maxinteger] = "max", [""] = "empty", ["a\0b"] = "c\0d", [long] = long, i = math.mininteger,
		f = 0.1, inf = math.huge, minus_inf = -math.huge, yes = true, no = false, sub = { x = { y = 2.0 } },
		list = { "a", "b", { "c" } }, none = {}, [7] = "seven",
	}
	sharedata.new("values", data)
	local obj = sharedata.query "values"
	for k, v in pairs(data) do
		if type(v) ~= "table" then
			test.eq(obj[k], v, tostring(k))
		end
	end
	test.eq(math.type(obj.sub.x.y), "float")
	test.eq(obj.list[3][1], "c")
	test.eq(obj.missing, nil)
	test.eq(obj[nil], nil)
	test.eq(obj[4], nil)
	test.eq(obj[-(1 << 40)], nil)
	test.eq(sharedata.deepcopy "values", data)
	test.eq(skynet.unpack(skynet.packstring(obj)), data)
	test.eq(skynet.unpack(skynet.packstring(obj)), sharedata.deepcopy "values")
end)

test.case("keys that differ only above 32 bits are different keys", function()
	sharedata.new("wide", { [5] = "a", [5 + (1 << 32)] = "b" })
	local obj = sharedata.query "wide"
	test.eq(obj[5], "a")
	test.eq(obj[5 + (1 << 32)], "b")
end)

test.case("no name is reserved", function()
	local data = { __obj = 1, __gcobj = 2, __parent = 3, __cache = 4, __key = 5 }
	sharedata.new("names", data)
	local obj = sharedata.query "names"
	for k, v in pairs(data) do
		test.eq(obj[k], v)
	end
end)

test.case("a float key with an integral value is that integer; other keys raise", function()
	local obj = sharedata.query "values"
	test.eq(obj[1.0], 1)
	test.err(function() return obj[1.5] end, "Invalid key 1.5")
	test.err(function() return obj[true] end, "Invalid key type boolean")
	test.err(function() return obj[{}] end, "Invalid key type table")
end)

test.case("a proxy is a table with a length, loops and cached sub-tables", function()
	sharedata.new("proxy", "return { 10, 20, nil, 40, sub = { 1 }, k = 'v' }")
	local obj = sharedata.query "proxy"
	test.eq(type(obj), "table")
	test.ok(getmetatable(obj))
	test.ok(rawequal(obj, sharedata.query "proxy"))
	test.ok(rawequal(obj.sub, obj.sub))
	test.eq(#obj, #load "return { 10, 20, nil, 40, sub = { 1 }, k = 'v' }"())
	local seen, order = {}, {}
	for k, v in pairs(obj) do
		seen[k] = type(v) == "table" and "table" or v
		order[#order + 1] = k
	end
	test.eq(seen, { 10, 20, [4] = 40, sub = "table", k = "v" })
	test.eq({ order[1], order[2] }, { 1, 2 })
	local n = 0
	for i, v in ipairs(obj) do
		n = n + 1
		test.eq(v, i * 10)
	end
	test.eq(n, 2)
	for _, v in pairs(obj) do
		if type(v) == "table" then
			test.ok(rawequal(v, obj.sub))
		end
	end
end)

test.case("an assignment raises with the path", function()
	local obj = sharedata.query "values"
	test.err(function() obj.new = 1 end, "Error newindex, the key [.new]")
	test.err(function() obj.sub.x.y = 1 end, "Error newindex, the key [.sub.x.y]")
	test.err(function() obj[1] = 1 end, "Error newindex, the key [.1]")
end)

test.case("data is a table, nothing, code, or a file", function()
	sharedata.new "nothing"
	test.eq(#sharedata.query "nothing", 0)
	sharedata.new("code", "local a, b = ... x = a y = { b } z = tostring(5)", 1, "two")
	local obj = sharedata.query "code"
	test.eq(obj.x, 1)
	test.eq(obj.y[1], "two")
	test.eq(obj.z, "5")
	test.eq(obj.print, nil)
	sharedata.new("returned", "x = 1 return { y = 2 }")
	test.eq(sharedata.query "returned".x, nil)
	test.eq(sharedata.query "returned".y, 2)
	sharedata.new("binary", string.dump(load "q = 'binary' return 5"))
	test.eq(sharedata.query "binary".q, "binary")
	local name = os.tmpname()
	for i = 1, 2 do
		local f = assert(io.open(name, "w"))
		f:write("n = ", i, " arg = ...")
		f:close()
		sharedata.update("file", "@" .. name, "argument")
		wait_value(function() return sharedata.query "file".n end, i)
		test.eq(sharedata.query "file".arg, "argument")
	end
	os.remove(name)
end)

test.case("what is refused is told, and changes nothing", function()
	local bad = {
		{ 5, "Unknown data type number" },
		{ true, "Unknown data type boolean" },
		{ { [1.5] = 1 }, "Invalid key 1.5" },
		{ { [true] = 1 }, "Invalid key type boolean" },
		{ "f = print", "Unsupport value type function" },
		{ "error 'my reason'", "my reason" },
		{ "x = = 1", ":1: unexpected symbol" },
		{ "@/no/such/file", "/no/such/file" },
		{ "t = {} t.t = t", "nested" },
		{ "local t = {} for i = 1, 20000 do t = { t } end return t", "nested" },
	}
	sharedata.new("bad", { n = 1 })
	local obj = sharedata.query "bad"
	local r = reader()
	ask(r, "query", "bad")
	for i, case in ipairs(bad) do
		test.err(function() sharedata.new("bad" .. i, case[1]) end, case[2])
		test.err(function() sharedata.query("bad" .. i) end, "no shared data 'bad" .. i)
		test.err(function() sharedata.update("bad", case[1]) end, case[2])
	end
	test.eq(obj.n, 1)
	local r2 = reader()
	ask(r2, "query", "bad")
	test.eq(get(r2, "bad", "n"), 1)
	sharedata.update("bad", { n = 2 })
	wait_value(function() return obj.n end, 2)
	wait_value(function() return get(r, "bad", "n") end, 2)
	test.err(function() sharedata.new("bad", {}) end, "exists")
	test.err(function() sharedata.new(5, {}) end, "is a string")
	ask(r, "exit")
	ask(r2, "exit")
end)

test.case("tasks that ask for a name at once get one proxy", function()
	sharedata.new("at once", { 1 })
	local a, b = rt.start(sharedata.query, "at once", "of no", "meaning"), rt.start(sharedata.query, "at once")
	rt.join(a)
	rt.join(b)
	test.eq(a.value[1], 1)
	test.ok(rawequal(a.value, b.value) and rawequal(a.value, sharedata.query "at once"))
end)

test.case("a failed query may be repeated", function()
	test.err(function() sharedata.query "later" end, "no shared data 'later'")
	sharedata.new("later", { 1 })
	test.eq(sharedata.query "later"[1], 1)
end)

test.case("an update reaches proxies that were there before, which stay the same", function()
	sharedata.new("up", { n = 1, sub = { n = 1, deep = { n = 1 } } })
	local r = reader()
	ask(r, "query", "up")
	ask(r, "keep", "deep", "up", "sub", "deep")
	sharedata.update("up", { n = 2, sub = { n = 2, deep = { n = 2 } } })
	wait_value(function() return get(r, "deep", "n") end, 2)
	test.eq(get(r, "up", "sub", "n"), 2)
	test.eq(ask(r, "is_kept", "deep", "up", "sub", "deep"), true)
	ask(r, "exit")
end)

test.case("a path that goes takes its proxies with it, for good", function()
	sharedata.new("path", { a = { b = { 1 } }, c = { 2 }, n = 1 })
	local obj = sharedata.query "path"
	local a, b, c = obj.a, obj.a.b, obj.c
	sharedata.update("path", { c = "text", n = 2 })
	wait_value(function() return obj.n end, 2)
	test.err(function() return a.b end, "The key [.a] doesn't exist after update")
	test.err(function() return b[1] end, "The key [.a.b] doesn't exist after update")
	test.err(function() return #c end, "The key [.c] doesn't exist after update")
	test.err(function() return pairs(c) end, "doesn't exist after update")
	test.eq(obj.c, "text")
	sharedata.update("path", { a = { b = { 3 } }, c = { 4 }, n = 3 })
	wait_value(function() return obj.n end, 3)
	test.err(function() return b[1] end, "doesn't exist after update")
	test.eq(obj.a.b[1], 3)
	test.eq(obj.c[1], 4)
	test.ok(not rawequal(obj.a, a))
end)

test.case("a loop goes on in the version it began with", function()
	local function data(n)
		local t = { n = n }
		for i = 1, 20 do
			t["key" .. n .. "_" .. i] = { n = n }
		end
		return t
	end
	sharedata.new("loop", data(1))
	local obj = sharedata.query "loop"
	local count, subs = 0, {}
	for k, v in pairs(obj) do
		count = count + 1
		if count == 5 then
			sharedata.update("loop", data(2))
			wait_value(function() return obj.n end, 2)
		end
		if count > 5 and k ~= "n" then
			test.match(k, "^key1_")
			test.eq(v.n, 1)
			subs[#subs + 1] = v
		end
	end
	test.eq(count, 21)
	collectgarbage()
	test.eq(subs[1].n, 1)
end)

test.case("after delete proxies read on, queries raise, and the name is free", function()
	sharedata.new("del", { n = 1 })
	local obj = sharedata.query "del"
	local r = reader()
	ask(r, "query", "del")
	sharedata.delete "del"
	test.eq(obj.n, 1)
	test.wait_for(function() return not pcall(sharedata.query, "del") end)
	test.err(function() sharedata.delete "del" end, "no shared data 'del'")
	sharedata.new("del", { n = 2 })
	test.eq(sharedata.query "del".n, 2)
	sharedata.update("del", { n = 3 })
	wait_value(function() return sharedata.query "del".n end, 3)
	test.eq(obj.n, 1)
	test.eq(get(r, "del", "n"), 1)
	ask(r, "exit")
end)

test.case("a name deleted and made at once does not catch old readers", function()
	sharedata.new("quick", { n = 1 })
	local obj = sharedata.query "quick"
	for i = 2, 20 do
		skynet.send(skynet.uniqueservice "sharedatad", "lua", "update", "quick", { n = 1 })
		sharedata.delete "quick"
		sharedata.new("quick", { n = i })
		test.eq(obj.n, 1)
	end
	-- What the service has sent so far arrives before its answer.
	test.ok(skynet.call(skynet.uniqueservice "sharedatad", "debug", "INFO").quick)
	test.eq(obj.n, 1)
end)

test.case("deepcopy gives an independent table, a scalar, or nothing", function()
	sharedata.new("copy", { a = { b = { 1, 2 } }, s = "x", hole = { 1, nil, 3 } })
	local r = sharedata.deepcopy "copy"
	r.a.b[1] = "mine"
	test.eq(getmetatable(r.a), nil)
	test.eq(sharedata.deepcopy("copy", "a", "b"), { 1, 2 })
	test.eq(sharedata.deepcopy("copy", "a", "b", 2), 2)
	test.eq(sharedata.deepcopy("copy", "s"), "x")
	test.eq(select("#", sharedata.deepcopy("copy", "no")), 0)
	test.eq(select("#", sharedata.deepcopy("copy", "a", "no", "such")), 0)
	test.eq(select("#", sharedata.deepcopy("copy", "s", "x")), 0)
	test.eq(sharedata.deepcopy("copy", "hole"), { 1, nil, 3 })
	sharedata.query "copy"
	test.eq(sharedata.deepcopy("copy", "a", "b"), { 1, 2 })
	test.err(function() sharedata.deepcopy "no such name" end, "no shared data")
end)

local function info()
	return skynet.call(skynet.uniqueservice "sharedatad", "debug", "INFO")
end

test.case("flush lets go of old versions", function()
	sharedata.new("flush", { n = 1 })
	local before = rt.settled(core, info)
	local r = reader()
	ask(r, "query", "flush")
	test.eq(get(r, "flush", "n"), 1)
	for i = 2, 10 do
		sharedata.update("flush", { n = i })
	end
	test.wait_for(function()
		ask(r, "flush")
		return core.count() == before
	end)
	test.eq(get(r, "flush", "n"), 10)
	ask(r, "exit")
end)

local function monitors(name)
	return info()[name].monitors
end

test.case("a reader that dies leaves nothing behind", function()
	sharedata.new("die", { n = 1 })
	local before = rt.settled(core, info)
	local r = reader()
	ask(r, "query", "die")
	sharedata.update("die", { n = 2 })
	require "skynet.manager".kill(r)
	test.wait_for(function() return core.count() == before end)
	-- Watchers, too; and an answer that nobody confirmed refers to nothing.
	test.wait_for(function() return monitors "die" == 0 and monitors "flush" == 0 end)
	test.ok(skynet.call(skynet.uniqueservice "sharedatad", "lua", "query", "die"))
	sharedata.update("die", { n = 3 })
	test.eq(core.count(), before)
end)

local function swapped(i)
	local t = { version = i, list = {}, last = { version = i } }
	for k = 1, 20 do
		t.list[k] = { version = i, text = "text " .. i }
	end
	return t
end

test.case("many swaps under load leak nothing, and nobody sees a mixture", function()
	sharedata.new("swap", swapped(0))
	local documents, bytes = rt.settled(core, info), memory.total()
	local readers, finished, mixtures, versions = {}, 0, 0, 0
	for i = 1, 3 do
		readers[i] = reader()
		skynet.fork(function()
			local m, v = ask(readers[i], "watch", "swap", SWAPS)
			mixtures, versions = mixtures + m, versions + v
			finished = finished + 1
		end)
	end
	for i = 1, SWAPS do
		sharedata.update("swap", swapped(i))
	end
	test.wait_for(function() return finished == 3 end, 6000)
	test.eq(mixtures, 0)
	test.ok(versions >= 3)
	for i = 1, 3 do
		ask(readers[i], "exit")
	end
	test.wait_for(function() return core.count() == documents end)
	-- One version takes some 5 KB; queues and services account for the rest, of which the
	-- readers may still be ending.
	local grown
	local ok = pcall(test.wait_for, function()
		grown = memory.total() - bytes
		return grown < SWAPS * 1000 + 200000
	end)
	test.ok(ok, "bytes " .. grown)
end)

test.case("corelib: objects by hand", function()
	local host = corelib.host
	local obj = host.new { a = { b = 1 }, 5 }
	test.eq(host.getref(obj), 0)
	test.eq(host.incref(obj), 1)
	test.eq(host.decref(obj), 0)
	local box = corelib.box(obj)
	test.eq(host.getref(obj), 1)
	test.eq(box.a.b, 1)
	test.eq(corelib.copy(obj, "a"), { b = 1 })
	local newer = host.new { a = { b = 2 } }
	test.err(function() corelib.update(box, newer) end, "Only dirty object can be update")
	host.markdirty(obj)
	local a = box.a
	corelib.update(box, newer)
	test.eq(a.b, 2)
	test.eq(host.getref(obj), 0)
	local k, v = corelib.next(box)
	test.eq(k, "a")
	test.ok(rawequal(v, a))
	test.eq(corelib.next(box, "a"), nil)
	test.err(function() corelib.next(box, "no") end, "no such key")
	corelib.flush(box)
	host.delete(obj)
	test.err(function() host.getref(obj) end, "expected")
	test.err(function() host.delete(obj) end, "expected")
	host.delete(newer)
	test.eq(a.b, 2)
	test.err(function() corelib.box(obj) end, "expected")
	test.err(function() corelib.box(nil) end, "expected")
	test.err(function() corelib.copy(nil) end, "gone")
	test.err(function() corelib.flush {} end, "proxy")
	test.err(function() host.new { [1.5] = 1 } end, "Invalid key")
end)

test.run()
