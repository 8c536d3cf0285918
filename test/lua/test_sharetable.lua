-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- skynet.sharetable: versions, readers, rebinding, life time.

local skynet = require "skynet"
require "skynet.manager"
local sharetable = require "skynet.sharetable"
local core = require "skynet.sharetable.core"
local test = require "testlib"
local rt = require "rt"

local is_shared = core.is_shared
local SWAPS = skynet.getenv "test_variant" == "release" and 1000 or 100

local function reader()
	return assert(skynet.newservice "st_reader")
end

local function ask(service, ...)
	return skynet.call(service, "lua", ...)
end

local function info(name)
	return skynet.call(sharetable.address, "debug", "INFO")[name]
end

-- Lines of the history of a name: one per version in use.
local function versions_in_use(name)
	local history = (info(name) or {}).history or ""
	return select(2, history:gsub("[^\n]+", ""))
end

local function publish(name, source, ...)
	sharetable.loadstring(name, source, ...)
end

local function exit(service)
	ask(service, "exit")
end

test.case("an unknown name gives no value", function()
	test.eq(select("#", sharetable.query "unknown"), 0)
end)

test.case("a string, a file and a table become shared tables", function()
	publish("s", "return { a = 1, list = { 1, 2, 3 }, [2.5] = true, arg = { ... } }", 1, 2.5, true)
	local t = sharetable.query "s"
	test.eq(t.a, 1)
	test.eq(#t.list, 3)
	test.eq(t.arg[2], 2.5)
	local name = os.tmpname()
	local f = assert(io.open(name, "w"))
	f:write "#!/usr/bin/lua\nreturn { file = true, n = select('#', ...) }"
	f:close()
	sharetable.loadfile(name, 1, 2)
	test.eq(sharetable.query(name).n, 2)
	f = assert(io.open(name, "w"))
	f:write "return { again = true }"
	f:close()
	sharetable.loadfile(name)
	test.eq(sharetable.query(name).again, true)
	publish("from file", "@" .. name)
	test.eq(sharetable.query "from file".again, true)
	os.remove(name)
	sharetable.loadtable("t", { x = { y = "z" } })
	test.eq(sharetable.query "t".x.y, "z")
	test.err(function() sharetable.loadtable("t", 5) end, "assertion failed")
end)

test.case("arguments of a chunk are whatever can be packed", function()
	publish("args", "local s, t, n, last = ... return { s = s, x = t.x, n = n == nil, last = last }",
		"text", { x = "deep" }, nil, 7)
	local t = sharetable.query "args"
	test.eq(t.s, "text")
	test.eq(t.x, "deep")
	test.eq(t.n, true)
	test.eq(t.last, 7)
end)

test.case("a source may contain zero bytes and be a binary chunk", function()
	publish("zero", "return { s = 'a\0b' }")
	test.eq(sharetable.query "zero".s, "a\0b")
	publish("binary", string.dump(function(...) return { binary = ... } end), 3)
	test.eq(sharetable.query "binary".binary, 3)
end)

test.case("two queries of a version give the same table", function()
	publish("same", "return { sub = {} }")
	local t = sharetable.query "same"
	test.ok(rawequal(t, sharetable.query "same"))
	test.eq(sharetable.is_sharedtable(t), is_shared)
	test.eq(sharetable.is_sharedtable {}, false)
	if is_shared then
		local r = reader()
		test.eq(ask(r, "identity", "same"), string.format("%p", t))
		exit(r)
	end
end)

test.case("queryall gives all names, or those asked for", function()
	publish("qa", "return { 1 }")
	test.eq(sharetable.queryall { "qa", "unknown" }.unknown, nil)
	test.eq(sharetable.queryall { "qa", "unknown" }.qa[1], 1)
	local all = sharetable.queryall()
	test.eq(all.qa[1], 1)
	test.eq(all.s.a, 1)
end)

test.case("a write raises an error that says so, and changes nothing", function()
	if not is_shared then
		test.skip "copies are private"
	end
	publish("frozen", "return { a = 1, list = { 3, 1, 2 }, sub = { b = 2 } }")
	local t = sharetable.query "frozen"
	test.err(function() t.a = 2 end, "shared")
	test.err(function() t.a = nil end, "shared")
	test.err(function() t.new = 2 end, "attempt to change a shared table (field 'new' is read-only)")
	test.err(function() t.list[2] = 2 end, "shared table (field [2] is read-only)")
	test.err(function() t[{}] = 2 end, "shared table (with a table as key)")
	test.err(function() t.sub.b = 1 end, "shared")
	test.err(function() rawset(t, "a", 2) end, "shared")
	test.err(function() rawset(t.list, 1, 2) end, "shared")
	test.err(function() table.insert(t.list, 4) end, "shared")
	test.err(function() table.remove(t.list) end, "shared")
	test.err(function() table.sort(t.list) end, "shared")
	test.err(function() setmetatable({}, { __newindex = t }).a = 2 end, "shared")
	test.err(function() setmetatable(t, {}) end, "shared")
	test.eq(t.a, 1)
	test.eq(table.concat(t.list, ","), "3,1,2")
end)

test.case("a shared table is packed and encoded like any other", function()
	publish("packed", "return { 1, 2.5, 'text', sub = { x = { y = true } }, long = ('long '):rep(50) }")
	local t = sharetable.query "packed"
	local plain = { 1, 2.5, "text", sub = { x = { y = true } }, long = ("long "):rep(50) }
	test.eq(skynet.unpack(skynet.packstring(t)), plain)
	local r = reader()
	ask(r, "query", "packed")
	test.eq(ask(r, "get", "packed"), plain)
	exit(r)
	local bson = require "bson"
	local doc = { sub = t.sub, long = t.long }
	test.eq(bson.decode(bson.encode(doc)), { sub = plain.sub, long = plain.long })
	local cjson = require "cjson"
	test.eq(cjson.decode(cjson.encode(t.sub)), plain.sub)
end)

-- What a service does that did not make the table.
local READS = [[
	local test, core = require "testlib", require "skynet.sharetable.core"
	local t = require "skynet.sharetable".query "reads"
	test.eq({ t[1], t.k, t[2.5], t[true], t.sub[1], t.missing }, { 10, "v", "f", "b", "s" })
	test.eq({ rawget(t, "k"), rawlen(t), #t, #t.sub, type(t), next(t) }, { "v", 3, 3, 1, "table", 1, 10 })
	test.eq({ table.unpack(t) }, { 10, 20, 30 })
	test.eq(table.concat(t, ","), "10,20,30")
	test.eq(table.move(t, 1, 3, 2, { 1 }), { 1, 10, 20, 30 })
	test.eq(select("#", t, table.unpack(t)), 4)
	test.match(string.format("%s", t), "^table: ")
	local items, keys = {}, 0
	for i, v in ipairs(t) do items[i] = v end
	for k, v in pairs(t) do
		keys = keys + 1
		test.ok(rawequal(t[k], v))
	end
	test.eq({ items, keys }, { { 10, 20, 30 }, 9 })
	test.eq({ getmetatable(t), getmetatable(t.sub) }, {})
	test.eq(setmetatable({}, { __index = t }).k, "v")
	test.eq(setmetatable({}, t.meta) .. "", "concatenated")
	test.eq(({ [t] = 1, [t.sub] = 2 })[t.sub], 2)
	local weak = setmetatable({ [t.sub] = t }, { __mode = "kv" })
	collectgarbage()
	test.eq({ rawequal(weak[t.sub], t), t.max(3, 4) }, { true, 4 })
	test.eq({ core.is_sharedtable(t), core.is_sharedtable {} }, { core.is_shared, false })
	skynet.ret()
]]

test.case("every way of reading works in a service that did not make the table", function()
	publish("reads", [[return { 10, 20, 30, k = "v", [2.5] = "f", [true] = "b", sub = { "s" }, max = math.max,
		meta = { __concat = function() return "concatenated" end } }]])
	local agent = rt.agent()
	rt.run(agent, READS)
	rt.tell(agent, "skynet.exit()")
end)

test.case("loadtable packs: __pairs decides, metatables and what is too deep stay behind", function()
	sharetable.loadtable("by pairs", setmetatable({ 1 }, { __pairs = function() return next, { a = 5 } end }))
	test.eq({ sharetable.query "by pairs".a, #sharetable.query "by pairs" }, { 5, 0 })
	sharetable.loadtable("plain", setmetatable({ x = 1 }, { __index = { y = 2 } }))
	test.eq({ sharetable.query "plain".x, sharetable.query "plain".y }, { 1 })
	local deep = {}
	for _ = 1, 40 do deep = { deep } end
	test.err(function() sharetable.loadtable("plain", deep) end, "too depth table")
	test.err(function() sharetable.loadtable("plain", { print }) end, "Unsupport type function")
	test.eq(sharetable.query "plain".x, 1)
end)

test.case("a chunk has the standard library, and nothing of the framework", function()
	publish("vm", [[local found = {} for name in pairs(package.loaded) do found[name] = true end
		return { found = found, has_skynet = pcall(require, "skynet.core") }]])
	local t, standard = sharetable.query "vm", { "string", "table", "math", "io", "os", "utf8", "debug", "coroutine" }
	for _, name in ipairs(standard) do
		test.ok(t.found[name], name)
	end
	for name in pairs(t.found) do
		-- The code cache belongs to the interpreter.
		test.ok(not name:find "skynet" or name == "skynet.codecache", name)
	end
	test.eq(t.has_skynet, false)
end)

test.case("a loop has one order in all services", function()
	local source = "local t = {} for i = 1, 200 do t['key ' .. i * 7919] = i t[i * 3.5] = i end return t"
	publish("order", source)
	local r, keys = reader(), {}
	for k in pairs(sharetable.query "order") do keys[#keys + 1] = tostring(k) end
	test.ok(#keys == 400)
	if is_shared then
		test.eq(ask(r, "keys", "order"), keys)
		test.eq(ask(r, "keys", "order"), keys)
	end
	exit(r)
end)

test.case("a key that came from a shared table is found by a local literal", function()
	publish("literal", "return { 'own_' .. 'literal', long = ('long key '):rep(10) }")
	local t, mine = sharetable.query "literal", {}
	mine[t[1]], mine[t.long] = 1, 2
	test.eq(mine.own_literal, 1)
	test.eq(mine[("long key "):rep(10)], 2)
	mine = { own_literal = 3, [("long key "):rep(10)] = 4 }
	test.eq(mine[t[1]], 3)
	test.eq(mine[t.long], 4)
end)

test.case("the service may be asked in messages", function()
	local service = sharetable.address
	test.eq(select("#", skynet.call(service, "lua", "loadtable", "raw", skynet.pack { n = 1 })), 0)
	test.eq(sharetable.query "raw".n, 1)
	test.eq(select("#", skynet.call(service, "lua", "query", "no such")), 0)
	local id = skynet.call(service, "lua", "query", "raw")
	test.eq(core.clone(id).n, 1)
	test.eq(skynet.call(service, "lua", "queryall", { "raw", "no such" }), { raw = id })
	local pointer, size = skynet.pack(5)
	test.err(function() skynet.call(service, "lua", "loadtable", "raw", pointer, size) end,
		"Not a table, it's a number.")
	test.eq(sharetable.query "raw".n, 1)
	test.err(function() skynet.call(service, "lua", "nosuch") end, "Invalid command nosuch")
	skynet.send(service, "lua", "close")
	test.eq(info("raw").current ~= nil, true)
end)

test.case("a failed load tells why and keeps the version", function()
	local bad = {
		{ "return 5", "Not a table, it's a number." },
		{ "return", "Not a table, it's a nil." },
		{ "return {", "unexpected symbol" },
		{ "error 'my reason'", "my reason" },
		{ "error {}", "an error that is no text" },
		{ "return setmetatable({}, {})", "Can't share metatable" },
		{ "return { { setmetatable({}, {}) } }", "Can't share metatable" },
		{ "return { f = function() return print end }", "Invalid function with upvalue" },
		{ "return { coroutine.create(print) }", "Invalid type [thread]" },
		{ "return { io.stdout }", "Invalid type [userdata]" },
	}
	for i, case in ipairs(bad) do
		-- Once with a version that nobody has asked for, once without any.
		local name = "failing" .. i
		test.err(function() publish(name, case[1]) end, case[2])
		test.eq(select("#", sharetable.query(name)), 0)
		publish(name, "return { good = 1 }")
		test.err(function() publish(name, case[1]) end, case[2])
		test.eq(sharetable.queryall()[name].good, 1)
		publish(name, "return { good = 2 }")
		test.eq(sharetable.query(name).good, 2)
	end
	test.err(function() sharetable.loadfile "/no/such/file" end, "/no/such/file")
	test.err(function() publish(nil, "return {}") end, "is a string")
	test.err(function() publish("x", nil) end, "is a string")
end)

test.case("a deep table is shared or refused, never fatal", function()
	local deep = "local t = {} local root = t for i = 1, 400000 do t.x = {} t = t.x end return root"
	publish("deep", deep)
	local t, n = sharetable.query "deep", 0
	while t do
		t, n = t.x, n + 1
	end
	test.eq(n, 400001)
	sharetable.unload "deep"
end)

test.case("tables given out stay as they are; queries see the new version", function()
	publish("v", "return { n = 1, sub = { n = 1 } }")
	local r1, r2 = reader(), reader()
	ask(r1, "query", "v")
	ask(r2, "query", "v")
	publish("v", "return { n = 2, sub = { n = 2 } }")
	test.eq(ask(r1, "get", "v", "sub", "n"), 1)
	test.eq(ask(r2, "get", "v", "n"), 1)
	test.eq(sharetable.query "v".n, 2)
	ask(r1, "update", "v")
	test.eq(ask(r1, "get", "v", "sub", "n"), 2)
	test.eq(ask(r2, "get", "v", "sub", "n"), 1)
	ask(r2, "query", "v")
	test.eq(ask(r2, "get", "v", "sub", "n"), 2)
	exit(r1)
	exit(r2)
end)

local function upvalue_user(t)
	return function() return t.n end
end

test.case("update rebinds locals, globals, upvalues, values, keys and coroutines", function()
	publish("u", "return { n = 1, sub = { n = 1, sub = { n = 1 } } }")
	local t = sharetable.query "u"
	local sub = t.sub
	_G.u_global = sub.sub
	local f = upvalue_user(sub)
	local holder = { value = sub, deep = { t } }
	local keys = { [sub] = "sub", [t] = "root", other = 1 }
	local meta = setmetatable({}, t)
	local index = setmetatable({}, { __index = sub })
	local co = coroutine.wrap(function()
		local mine = sub.sub
		coroutine.yield()
		coroutine.yield(mine.n)
	end)
	co()
	local weak = setmetatable({ sub }, { __mode = "v" })
	publish("u", "return { n = 2, sub = { n = 2, sub = { n = 2 } } }")
	sharetable.update("u", "unknown")
	local new = sharetable.query "u"
	test.eq(t.n, 2)
	test.ok(rawequal(t, new))
	test.eq(sub.n, 2)
	test.eq(_G.u_global.n, 2)
	test.eq(f(), 2)
	test.ok(rawequal(holder.value, new.sub))
	test.ok(rawequal(holder.deep[1], new))
	test.eq(keys[new.sub], "sub")
	test.eq(keys[new], "root")
	local n = 0
	for _ in pairs(keys) do n = n + 1 end
	test.eq(n, 3)
	test.ok(rawequal(getmetatable(meta), new))
	test.eq(index.n, 2)
	test.eq(co(), 2)
	test.ok(rawequal(weak[1], new.sub))
	_G.u_global = nil
end)

test.case("update rebinds metatables of basic types, user values and loops that stand still", function()
	publish("rest", "return { n = 1, sub = { 1, 1 } }")
	local pattern = require "lpeg".P "x" + "y"
	debug.setmetatable(true, sharetable.query "rest")
	test.ok(debug.setuservalue(pattern, sharetable.query "rest", 1))
	local loop = coroutine.wrap(function(sub)
		for _, v in ipairs(sub) do coroutine.yield(v) end
	end)
	test.eq(loop(sharetable.query "rest".sub), 1)
	publish("rest", "return { n = 2, sub = { 2, 2 } }")
	sharetable.update "rest"
	local meta = debug.getmetatable(true)
	debug.setmetatable(true, nil)
	test.eq({ meta.n, debug.getuservalue(pattern, 1).n, loop() }, { 2, 2, 2 })
end)

test.case("update reaches the locals of the coroutines that wait for the caller", function()
	publish("anc", "return { n = 1 }")
	local wrap = require "skynet.coroutine".wrap
	local seen
	wrap(function()
		local mine = sharetable.query "anc"
		publish("anc", "return { n = 2 }")
		wrap(function() sharetable.update "anc" end)()
		seen = mine.n
	end)()
	test.eq(seen, 2)
end)

test.case("update of a path that is gone gives nil, of one that is no table its value", function()
	publish("gone", "return { a = { 1 }, b = { 2 }, c = { x = { 3 } } }")
	local t = sharetable.query "gone"
	local a, b, x, holder = t.a, t.b, t.c.x, { a = t.a, b = t.b, [t.a] = 1, [t.b] = 2 }
	publish("gone", "return { b = 'text', c = 5 }")
	sharetable.update "gone"
	test.eq(a, nil)
	test.eq(b, "text")
	test.eq(x, nil)
	test.eq(holder, { b = "text", text = 2 })
	test.eq(t.c, 5)
end)

test.case("tables reachable by two paths and cycles keep their identity and update", function()
	local source = [[local n = ... local s = { n = n } local t = { a = s, b = s, n = n }
		t.me = t s.up = t return t]]
	publish("dag", source, 1)
	local t = sharetable.query "dag"
	test.ok(rawequal(t.a, t.b) and rawequal(t.me, t) and rawequal(t.a.up, t))
	local a, me = t.b, t.me
	publish("dag", source, 2)
	sharetable.update "dag"
	test.eq(a.n, 2)
	test.eq(me.n, 2)
	test.ok(rawequal(a, t.a) and rawequal(me, t))
end)

test.case("a handle takes the present version without a walk", function()
	test.err(function() sharetable.handle "nobody knows" end, "no shared table 'nobody knows'")
	publish("handle", "return { n = 1, sub = { n = 1 } }")
	local h = sharetable.handle "handle"
	test.eq(h().sub.n, 1)
	test.ok(rawequal(h(), sharetable.query "handle"))
	test.eq(h:update(), false)
	local old = h().sub
	publish("handle", "return { n = 2, sub = { n = 2 } }")
	test.eq(h().n, 1)
	test.eq(h:update(), true)
	test.eq(h().sub.n, 2)
	test.eq(old.n, 1)
	publish("handle", "return { n = 3, sub = { n = 3 } }")
	sharetable.update "handle"
	test.eq(h().n, 3)
	test.eq(old.n, 3)
	sharetable.unload "handle"
	test.eq(h:update(), false)
	test.eq(h().n, 3)
	-- The handle is a user of its version.
	test.eq(sharetable.release "handle", 1)
	old, h = nil, nil
	test.eq(old, h)
	test.eq(sharetable.release "handle", 0)
end)

test.case("a small version costs what it contains", function()
	publish("tiny", "return {}")
	if not is_shared then
		test.skip "every version is a VM then"
	end
	test.ok(info("tiny").size < 200, "size " .. info("tiny").size)
	local memory = require "skynet.memory"
	collectgarbage()
	skynet.call(sharetable.address, "debug", "GC")
	local before = memory.total()
	for i = 1, 200 do
		publish("tiny " .. i, "return { " .. i .. " }")
	end
	skynet.call(sharetable.address, "debug", "GC")
	collectgarbage()
	-- With its name, its id and its entry in the service; no VM, no library.
	test.ok(memory.total() - before < 200 * 1500, "bytes " .. (memory.total() - before))
	for i = 1, 200 do
		sharetable.unload("tiny " .. i)
	end
end)

test.case("functions in a shared table run in the reader", function()
	publish("fn", "return { add = function(a, b) return a + b end, max = math.max }")
	local t = sharetable.query "fn"
	test.eq(t.add(2, 3), 5)
	test.eq(t.max(2, 3), 3)
end)

test.case("an old version goes when its last holder exits", function()
	publish("life", "return { 1 }")
	local r = reader()
	ask(r, "query", "life")
	publish("life", "return { 2 }")
	test.eq(versions_in_use "life", 1)
	test.match(info("life").history, skynet.address(r))
	local from = rt.mark()
	exit(r)
	test.wait_for(function() return versions_in_use "life" == 0 end)
	rt.logged("Delete a version %(.*%) of life", from)
	test.eq(info("life").size > 0, true)
end)

test.case("an old version goes when its last holder was updated", function()
	publish("life2", "return { 1, sub = { 1 } }")
	local r = reader()
	ask(r, "query", "life2")
	publish("life2", "return { 2 }")
	ask(r, "update", "life2")
	test.eq(versions_in_use "life2", 1)
	test.eq(ask(r, "get", "life2", 1), 2)
	exit(r)
end)

test.case("release ends what is not in use, and nothing else", function()
	publish("rel", "return { 1, sub = { 'a' }, long = ('x'):rep(100), f = function() return 1 end }")
	local r = reader()
	ask(r, "query", "rel")
	test.eq(ask(r, "drop", "rel"), 0)
	test.eq(versions_in_use "rel", 0)
	exit(r)
	local keep = {}
	local function hold(what)
		keep[1] = sharetable.query "rel"[what]
	end
	for _, what in ipairs(is_shared and { "sub", "long", "f" } or { "sub" }) do
		hold(what)
		test.eq(sharetable.release "rel", 1, what)
		keep[1] = nil
		test.eq(sharetable.release "rel", 0, what)
	end
end)

test.case("a neighbour in memory does not keep a version", function()
	-- Strings of the same size as the versions: where an allocator keeps blocks of
	-- one size side by side, some lie directly behind a version.
	local header, names, strings = 33, {}, {}
	for i = 1, 64 do
		names[i] = "neighbour " .. i
		sharetable.loadtable(names[i], { n = i, sub = { n = i } })
		sharetable.query(names[i])
		strings[i] = ("x"):rep(info(names[i]).size - header)
	end
	test.eq(sharetable.release(table.unpack(names)), 0)
	test.eq(#strings, 64)
	for _, name in ipairs(names) do
		sharetable.unload(name)
	end
end)

test.case("unload takes a name away, holders keep the table", function()
	publish("un", "return { 'kept' }")
	local t = sharetable.query "un"
	test.eq(sharetable.unload "un", true)
	test.eq(sharetable.unload "un", false)
	test.eq(select("#", sharetable.query "un"), 0)
	test.eq(t[1], "kept")
	publish("un", "return { 'back' }")
	sharetable.update "un"
	test.eq(t[1], "back")
end)

test.case("a reader pays nothing for a large table", function()
	if not is_shared then
		test.skip "copies are private"
	end
	publish("large", "local t = {} for i = 1, 200000 do t[i] = i end return t")
	local r = reader()
	local grown, sum = ask(r, "memory", "large")
	test.eq(sum, 200000 * 200001 // 2)
	test.ok(grown < 100, "KiB " .. grown)
	exit(r)
	sharetable.unload "large"
end)

test.case("the core refuses pointers that mean nothing", function()
	test.err(function() core.clone(nil) end, "expected")
	test.err(function() core.clone(5) end, "expected")
	test.err(function() core.lease(nil):table() end)
	test.eq(core.lease(skynet.self()), nil)
end)

local SWAPPED = [[local version = ...
	local t = { version = version, list = {}, last = { version = version } }
	for i = 1, 20 do t.list[i] = { version = version, text = ("text "):rep(i) } end
	return t]]

local memory = require "skynet.memory"

local function frozen_tables()
	return (core.stats())
end

test.case("many swaps under load leak nothing, and nobody sees a mixture", function()
	publish("swap", SWAPPED, 0)
	collectgarbage()
	local before, bytes = frozen_tables(), memory.total()
	local readers, finished, mixtures = {}, 0, 0
	for i = 1, 4 do
		readers[i] = reader()
		skynet.fork(function()
			mixtures = mixtures + ask(readers[i], "watch", "swap", SWAPS)
			finished = finished + 1
		end)
	end
	local mine
	for i = 1, SWAPS do
		publish("swap", SWAPPED, i)
		if i % 50 == 0 then
			mine = sharetable.query "swap"
			test.eq(mine.version, i)
		end
	end
	test.wait_for(function() return finished == 4 end, 6000)
	test.eq(mixtures, 0)
	test.ok(frozen_tables() - before < 40, "a reader holds a few versions only")
	for i = 1, 4 do
		exit(readers[i])
	end
	mine = nil
	test.eq(mine, nil)
	test.wait_for(function()
		sharetable.release "swap"
		return versions_in_use "swap" == 0 and frozen_tables() <= before
	end)
	-- One version takes some 7 KB; queues and services account for the rest, of which the
	-- readers may still be ending.
	local grown
	local ok = pcall(test.wait_for, function()
		grown = memory.total() - bytes
		return grown < SWAPS * 1000 + 300000
	end)
	test.ok(ok, "bytes " .. grown)
end)

test.run()
