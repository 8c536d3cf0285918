-- skynet.sharemap: a struct with one writer and many readers.

local skynet = require "skynet"
local sharemap = require "skynet.sharemap"
local test = require "testlib"

local SCHEMA = [[
.foobar {
	x 0 : integer
	y 1 : integer
	s 2 : string
	list 3 : *integer
}
.named {
	commit 0 : integer
	copy 1 : integer
	update 2 : integer
	__obj 3 : integer
	__data 4 : integer
	__typename 5 : integer
}
]]

local function ask(service, ...)
	return skynet.call(service, "lua", ...)
end

test.case("before a schema is registered, nothing can be made", function()
	for _, make in ipairs { sharemap.writer, sharemap.reader } do
		local err = test.err(function() make "foobar" end, "sharemap: call sharemap.register first, in any service")
		test.match(err, "test_sharemap.lua:%d+: .*nil sproto at index 0")
	end
	test.err(function() sharemap.register "/no/such/file" end, "/no/such/file")
	local name = os.tmpname()
	local f = assert(io.open(name, "w"))
	f:write(SCHEMA)
	f:close()
	sharemap.register(name)
	os.remove(name)
end)

test.case("readers see what was committed, when they update", function()
	local w = sharemap.writer("foobar", { x = 1, y = 2, s = "hello" })
	local r = sharemap.reader("foobar", w:copy())
	local service = skynet.newservice "stm_reader"
	ask(service, "map", "foobar", w:copy())
	test.eq({ r.x, r.y, r.s }, { 1, 2, "hello" })
	w.x, w.s, w.list = 10, nil, { 1, 2 }
	test.eq({ w.x, w.s }, { 10 })
	test.eq(r:update(), false)
	w:commit()
	test.eq(r.x, 1)
	local ok, data, consumed = r:update()
	test.eq(ok, true)
	test.ok(consumed > 0)
	test.eq(data, { x = 10, y = 2, list = { 1, 2 } })
	test.eq({ r.x, r.y, r.s }, { 10, 2 })
	test.eq(r.list, { 1, 2 })
	test.eq(table.pack(r:update()), { false, n = 1 })
	test.eq(ask(service, "field", "s"), "hello")
	test.eq(ask(service, "update"), true)
	test.eq(ask(service, "field", "s"), nil)
	test.eq(ask(service, "field", "x"), 10)
	test.eq(ask(service, "update"), false)
	ask(service, "exit")
end)

test.case("sub-tables of a reader are new after an update, the data is the same table", function()
	local w = sharemap.writer("foobar", { list = { 1 } })
	local r = sharemap.reader("foobar", w:copy())
	local list, data = r.list, sharemap.data(r)
	w.list[1] = 2
	w:commit()
	test.ok(r:update())
	test.ok(not rawequal(r.list, list))
	test.ok(rawequal(sharemap.data(r), data))
	local seen = {}
	for k, v in pairs(r) do seen[k] = v end
	test.eq(seen, { list = { 2 } })
	test.eq(skynet.unpack(skynet.packstring(r)), { list = { 2 } })
end)

test.case("init is the live data, and empty by default", function()
	local live = { x = 1 }
	local w = sharemap.writer("foobar", live)
	local r = sharemap.reader("foobar", w:copy())
	live.x = 5
	w:commit()
	r:update()
	test.eq(r.x, 5)
	local e = sharemap.writer "foobar"
	test.eq(sharemap.reader("foobar", e:copy()).x, nil)
end)

test.case("writing through a reader raises", function()
	local w = sharemap.writer("foobar", { x = 1 })
	local r = sharemap.reader("foobar", w:copy())
	test.err(function() r.x = 2 end, "field 'x'")
	test.err(function() r.new = 2 end, "field 'new'")
	test.eq(r.x, 1)
end)

test.case("data that does not fit raises, and the version stays", function()
	local w = sharemap.writer("foobar", { x = 1 })
	local r = sharemap.reader("foobar", w:copy())
	w.x = "text"
	test.err(function() w:commit() end)
	test.eq(r:update(), false)
	test.eq(r.x, 1)
	test.err(function() sharemap.writer("foobar", { x = {} }) end)
	w.x = 2
	w:commit()
	test.eq(r:update(), true)
	test.eq(r.x, 2)
end)

test.case("unknown types and copies used twice raise", function()
	local w = sharemap.writer("foobar", { x = 1 })
	test.err(function() sharemap.writer "nosuch" end, "type not found")
	local copy = w:copy()
	test.err(function() sharemap.reader("nosuch", copy) end, "type not found")
	sharemap.reader("foobar", copy)
	test.err(function() sharemap.reader("foobar", copy) end, "used already")
	test.err(function() sharemap.commit {} end, "a sharemap writer expected")
	test.err(function() sharemap.update(w) end, "a sharemap reader expected")
end)

test.case("no field name is lost to a method or to inner state", function()
	local names = { "commit", "copy", "update", "__obj", "__data", "__typename" }
	local w = sharemap.writer "named"
	for i, name in ipairs(names) do
		w[name] = i
	end
	w:commit()
	local r = sharemap.reader("named", w:copy())
	for i, name in ipairs(names) do
		test.eq(sharemap.data(w)[name], i)
		test.eq(sharemap.data(r)[name], i)
	end
	test.eq({ r.commit, r.copy, r.__obj, r.__data, r.__typename }, { 1, 2, 4, 5, 6 })
	test.eq({ w.update, w.__obj, w.__data, w.__typename }, { 3, 4, 5, 6 })
	test.eq(type(w.commit), "function")
end)

test.run()
