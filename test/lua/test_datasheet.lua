-- skynet.datasheet: documents as bytes, builder, reader.

local skynet = require "skynet"
-- Before any builder: requiring the reader must not wait for one.
local datasheet = require "skynet.datasheet"
local builder = require "skynet.datasheet.builder"
local dump = require "skynet.datasheet.dump"
local core = require "skynet.sharedata.core"
local memory = require "skynet.memory"
local vectors = require "vectors"
local test = require "testlib"
local rt = require "rt"

local SWAPS = skynet.getenv "test_variant" == "release" and 1000 or 100

local function ask(service, ...)
	return skynet.call(service, "lua", ...)
end

local function reader()
	return assert(skynet.newservice("doc_reader", "skynet.datasheet"))
end

local function get(service, ...)
	local ok, v = ask(service, "get", ...)
	if not ok then
		error(v, 0)
	end
	return v
end

local function wait_value(f, want)
	test.wait_for(function() return f() == want end, nil, "the update")
end

local function value(expr)
	return vectors.eval(expr)[1]
end

for _, v in ipairs(vectors.load "datasheet".vectors) do
	test.case("vector: " .. v.name, function()
		if v.error then
			test.err(function() dump.dump(value(v.expr)) end, (v.error:gsub("%(address%)", "")))
			return
		end
		local doc
		if v.op == "diff" then
			doc = dump.diff(dump.dump(value(v.last)), dump.dump(value(v.current)))
		else
			doc = dump.dump(value(v.expr))
		end
		test.eq(vectors.hex(doc), v.hex)
		test.eq((dump.undump(vectors.unhex(v.hex))), value(v.undump))
	end)
end

test.case("undump numbers the tables; diff keeps the numbers of paths that stay", function()
	local old = { a = { 1 }, b = { c = { 2 } }, d = { 3 } }
	local new = { b = { c = { 4 }, e = { 5 } }, f = { 6 } }
	local last = dump.dump(old)
	local t, numbers = dump.undump(last)
	local doc = dump.diff(last, dump.dump(new))
	local u, after = dump.undump(doc)
	test.eq(u, new)
	test.eq(after[u], 0)
	test.eq(after[u.b], numbers[t.b])
	test.eq(after[u.b.c], numbers[t.b.c])
	local fresh = { [after[u.f]] = true, [after[u.b.e]] = true }
	test.eq(fresh, { [5] = true, [6] = true })
	-- And once more: the vanished numbers are not used again.
	local again, map = dump.undump(dump.diff(doc, dump.dump { f = { 7 } }))
	test.eq(again, { f = { 7 } })
	test.eq(map[again.f], after[u.f])
end)

local EXACT = {
	1 << 40, math.mininteger, -(1 << 31), 1 << 31, 0.1, 3.0, -0.0, 0.5, math.huge, "a\0b", "", "text", true,
	{ x = 1e300, y = { "\0" } },
}

test.case("compile loses nothing", function()
	local back = dump.undump(builder.compile(EXACT))
	test.eq(back, EXACT)
	test.eq(1 / back[7], -math.huge)
	test.err(function() builder.compile { ["a\0"] = 1 } end, "zero byte")
	test.err(function() builder.compile { [5] = 1 } end, "assertion failed")
	local cycle = {}
	cycle.me = cycle
	test.err(function() builder.compile(cycle) end, "cycle")
	local large = {}
	for i = 1, 100000 do large[i] = i end
	test.eq(#dump.undump(builder.compile(large)), 100000)
end)

test.case("malformed documents are refused", function()
	local doc = builder.compile { a = { 1, "text", 1 << 40, "a\0b" }, b = 0.1 }
	local good, refused = 0, 0
	for i = 0, #doc do
		-- Every truncation, and every byte changed.
		if i < #doc then
			test.err(function() dump.undump(doc:sub(1, i)) end, "malformed")
		end
		for _, byte in ipairs { 0, 1, 0x7f, 0xff } do
			local changed = doc:sub(1, i) .. string.char(byte) .. doc:sub(i + 2)
			local ok, err = pcall(dump.undump, changed)
			if ok then
				good = good + 1
			else
				refused = refused + 1
				test.match(tostring(err), "malformed")
			end
		end
	end
	test.ok(good > 0 and refused > 0)
	-- A table that contains itself.
	local inner = dump.dump { {} }
	test.err(function() dump.undump((inner:gsub("\4\0\0\0\1\0\0\0", "\4\0\0\0\0\0\0\0"))) end, "malformed")
	test.err(function() builder.new("malformed", "nonsense") end, "malformed")
	builder.new("malformed", { "good" })
	test.eq(datasheet.query "malformed"[1], "good")
end)

test.case("a document nested 20 000 deep is refused, and bodies that overlap are", function()
	-- Tables of one item, the next table.
	local n, offsets, bodies = 20000, {}, {}
	for i = 1, n do
		offsets[i] = string.pack("<I4", (i - 1) * 16)
		bodies[i] = string.pack("<I4I4BxxxI4", 1, 0, i < n and 4 or 1, i)
	end
	local function document(offset_list)
		local body = table.concat(offset_list) .. table.concat(bodies)
		return string.pack("<I4I4", 8 + #body, n) .. body .. "\0"
	end
	test.err(function() dump.undump(document(offsets)) end, "malformed datasheet: it is nested too deep")
	-- Many names for one body would make gigabytes of a few kilobytes.
	for i = 1, n do offsets[i] = string.pack("<I4", 0) end
	bodies[1] = string.pack("<I4I4", 30000, 0)
	test.err(function() dump.undump(document(offsets)) end, "malformed datasheet: a table is too long")
end)

test.case("a missing name raises, and may be asked for again", function()
	test.err(function() datasheet.query "later" end, "create data first")
	builder.new("later", { n = 1 })
	test.eq(datasheet.query "later".n, 1)
	test.ok(rawequal(datasheet.query "later", datasheet.query "later"))
end)

test.case("tasks that ask for a name at once get one table", function()
	builder.new("at once", { n = 1 })
	local a, b = rt.start(datasheet.query, "at once"), rt.start(datasheet.query, "at once")
	rt.join(a)
	rt.join(b)
	test.eq(a.value.n, 1)
	test.ok(rawequal(a.value, b.value))
end)

test.case("values come back in full", function()
	builder.new("exact", EXACT)
	local t = datasheet.query "exact"
	test.eq(#t, #EXACT)
	for i = 1, #EXACT - 1 do
		test.eq(t[i], EXACT[i])
	end
	test.eq(t[#EXACT].x, 1e300)
	test.eq(t[#EXACT].y[1], "\0")
	builder.new("compiled", builder.compile(EXACT))
	test.eq(datasheet.query "compiled"[1], 1 << 40)
	test.eq(datasheet.query "compiled"[5], 0.1)
end)

test.case("what a datasheet cannot hold is refused, and changes nothing", function()
	builder.new("bad", { n = 1 })
	local t = datasheet.query "bad"
	for _, v in ipairs { { [5] = 1 }, { [1.5] = 1 }, { [true] = 1 }, { print }, { { [0] = 1 } }, { 1, nil, 3 } } do
		test.err(function() builder.update("bad", v) end)
		test.err(function() builder.new("never", v) end)
	end
	test.err(function() datasheet.query "never" end, "create data first")
	test.eq(t.n, 1)
	builder.new("never", { "now" })
	test.eq(datasheet.query "never"[1], "now")
	test.err(function() builder.new("bad", {}) end, "exists")
	test.err(function() builder.update("unknown", {}) end, "no datasheet of this service")
end)

test.case("a level is filled at its first touch", function()
	builder.new("lazy", { 1, 2, sub = { n = 1 }, x = "x" })
	local t = datasheet.query "lazy"
	test.eq(next(t), nil)
	test.eq(rawget(t, "x"), nil)
	t.x = "mine"
	t.own = "mine"
	test.eq(t[1], 1)
	test.eq(getmetatable(t), nil)
	test.eq(t.x, "x")
	test.eq(t.own, "mine")
	test.eq(rawlen(t), 2)
	local sub = t.sub
	test.eq(next(sub), nil)
	local seen = {}
	for k, v in pairs(sub) do seen[k] = v end
	test.eq(seen, { n = 1 })
	test.eq(#datasheet.query "lazy", 2)
	test.eq(sub.missing, nil)
end)

test.case("an update reaches tables that are there; local writes go", function()
	builder.new("up", { n = 1, sub = { n = 1, deep = { n = 1 } }, old = 1 })
	local r = reader()
	ask(r, "query", "up")
	ask(r, "keep", "deep", "up", "sub", "deep")
	local t = datasheet.query "up"
	local sub, deep = t.sub, t.sub.deep
	sub.mine = "mine"
	for i = 2, 30 do
		-- Builder and reader in one service: a long series keeps arriving.
		builder.update("up", { n = i, sub = { n = i, deep = { n = i } } })
		wait_value(function() return t.n end, i)
		test.eq(sub.n, i)
		test.eq(deep.n, i)
		wait_value(function() return get(r, "deep", "n") end, i)
	end
	test.eq(t.old, nil)
	test.eq(sub.mine, nil)
	test.ok(rawequal(t.sub, sub) and rawequal(sub.deep, deep))
	ask(r, "exit")
end)

test.case("a table whose path goes is dead for good, the root is not", function()
	builder.new("gone", { n = 1, a = { b = { 1 } }, c = { 2 } })
	local t = datasheet.query "gone"
	local a, b, c = t.a, t.a.b, t.c
	test.eq(b[1], 1)
	builder.update("gone", { n = 2, c = 5 })
	wait_value(function() return t.n end, 2)
	for _, dead in ipairs { a, b, c } do
		test.err(function() return dead.x end, "Invalid proxy (index = ")
		test.err(function() return #dead end, "Invalid proxy (index = ")
		test.err(function() dead.x = 1 end, "Invalid proxy (index = ")
		test.err(function() return pairs(dead) end, "Invalid proxy (index = ")
	end
	builder.update("gone", { n = 3, a = { b = { 3 } }, c = { 4 } })
	wait_value(function() return t.n end, 3)
	test.err(function() return b[1] end, "Invalid proxy")
	test.eq(t.a.b[1], 3)
end)

test.case("the data outlives its builder, and another may go on", function()
	local b = assert(skynet.newservice "ds_builder")
	ask(b, "new", "orphan", { n = 1, text = ("x"):rep(1000) })
	local r = reader()
	ask(r, "query", "orphan")
	ask(b, "exit")
	test.eq(#get(r, "orphan", "text"), 1000)
	test.eq(datasheet.query "orphan".n, 1)
	builder.new("orphan", { n = 2 })
	wait_value(function() return datasheet.query "orphan".n end, 2)
	wait_value(function() return get(r, "orphan", "n") end, 2)
	ask(r, "exit")
end)

local function info()
	return skynet.call(require "skynet.datasheet.address"(), "debug", "INFO")
end

test.case("old versions go when readers move on or exit", function()
	builder.new("life", { n = 1 })
	local before = rt.settled(core, info)
	local r = reader()
	ask(r, "query", "life")
	test.eq(get(r, "life", "n"), 1)
	builder.update("life", { n = 2 })
	test.wait_for(function() return core.count() == before end)
	ask(r, "exit")
	builder.update("life", { n = 3 })
	test.wait_for(function() return core.count() == before end)
	test.wait_for(function()
		local life = info().life
		return life.monitors == 0 and life.handle
	end)
end)

local function swapped(i)
	local t = { version = i, list = {}, last = { version = i } }
	for k = 1, 20 do
		t.list[k] = { version = i, text = "text " .. i }
	end
	return t
end

test.case("many swaps under load leak nothing, and nobody sees a mixture", function()
	builder.new("swap", swapped(0))
	local documents, bytes = rt.settled(core, info), memory.total()
	local readers, finished, mixtures = {}, 0, 0
	for i = 1, 3 do
		readers[i] = reader()
		skynet.fork(function()
			mixtures = mixtures + ask(readers[i], "watch", "swap", SWAPS)
			finished = finished + 1
		end)
	end
	for i = 1, SWAPS do
		builder.update("swap", swapped(i))
	end
	test.wait_for(function() return finished == 3 end, 6000)
	test.eq(mixtures, 0)
	for i = 1, 3 do
		ask(readers[i], "exit")
	end
	test.wait_for(function() return core.count() == documents end)
	-- Services end, and garbage goes, in their own time.
	test.wait_for(function()
		collectgarbage()
		return memory.total() - bytes < SWAPS * 1000 + 200000
	end, nil, "memory to be freed")
end)

test.run()
