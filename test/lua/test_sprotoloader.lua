-- sprotoloader: slots shared by services.
local skynet = require "skynet"
local core = require "sproto.core"
local loader = require "sprotoloader"
local parser = require "sprotoparser"
local sproto = require "sproto"
local test = require "testlib"

local schema = ".Point { x 0 : integer  y 1 : integer  name 5 : *string }"
local value = { x = 70000, y = -3, name = { "a", "b" } }

test.case("ten services encode the same through one slot", function()
	loader.save(parser.parse(schema), 3)
	local want = sproto.parse(schema):encode("Point", value)
	local services = {}
	for i = 1, 10 do services[i] = skynet.newservice("sproto_user", 3) end
	local done = 0
	for i = 1, 10 do
		skynet.fork(function()
			for _ = 1, 20 do
				test.eq(skynet.call(services[i], "lua", "encode", "Point", value), want)
			end
			done = done + 1
		end)
	end
	test.wait_for(function() return done == 10 end)
	for i = 1, 10 do skynet.send(services[i], "lua", "exit") end
end)

test.case("an object survives the replacement of its slot", function()
	loader.save(parser.parse ".A { a 0 : integer }", 4)
	local old = loader.load(4)
	loader.save(parser.parse ".B { b 0 : integer }", 4)
	local new = loader.load(4)
	test.eq(old:exist_type "A", true)
	test.eq((old:decode("A", old:encode("A", { a = 1 }))), { a = 1 })
	test.eq(new:exist_type "A", false)
	test.eq(new:exist_type "B", true)
end)

test.case("a replaced schema is freed once nobody uses it", function()
	local memory = require "skynet.memory"
	if memory.total() == 0 then test.skip "no accounting in this build" end
	local text = {}
	for i = 1, 300 do text[i] = ".t" .. i .. " { field 0 : integer }" end
	local bundle = parser.parse(table.concat(text))
	loader.save(bundle, 5)
	collectgarbage()
	local before = memory.current()
	for _ = 1, 20 do
		loader.save(bundle, 5)
		loader.load(5):encode("t1", { field = 1 })
	end
	collectgarbage()
	collectgarbage()
	-- One copy is larger than that; other small blocks come and go.
	test.ok(memory.current() - before < 10000, memory.current() - before)
end)

test.case("bad slots and files raise", function()
	test.err(function() loader.save(parser.parse(schema), 16) end, "Invalid global slot index 16")
	test.err(function() loader.save(parser.parse(schema), -1) end, "Invalid global slot index -1")
	test.err(function() loader.load(16) end, "Invalid global slot index 16")
	test.err(function() loader.load(15) end, "nil sproto at index 15: nothing was saved or registered there so far")
	test.err(function() loader.save("nonsense", 2) end, "invalid sproto bundle")
	test.err(function() loader.register("/no/such.sproto", 2) end, "Can't open sproto file")
end)

test.case("a file is parsed into a slot, the default is slot 0", function()
	local name = os.tmpname()
	local f = assert(io.open(name, "w"))
	f:write(schema)
	f:close()
	loader.register(name)
	test.eq(loader.load():exist_type "Point", true)
	f = assert(io.open(name, "w"))
	f:write ".Point {\n x 0 : nope }"
	f:close()
	test.err(function() loader.register(name) end, name .. "] line (2)")
	os.remove(name)
	test.eq(loader.load(0):exist_type "Point", true)
end)

-- A new file with this content.
local function file(content)
	local name = os.tmpname()
	local f <close> = assert(io.open(name, "wb"))
	f:write(content)
	return name
end

test.case("several files are one schema, and errors name the right one", function()
	local one = file ".Player {\n at 0 : Point\n}\np 1 {\n request Player\n}"
	local two = file "# the points\n.Point {\n x 0 : integer\n}"
	loader.register({ one, two }, 3)
	test.eq((loader.load(3):decode("Player", loader.load(3):encode("Player", { at = { x = 5 } }))), { at = { x = 5 } })
	local function fails(text, message)
		local bad = file(text)
		test.err(function() loader.register({ one, two, bad }, 3) end, message .. bad)
		os.remove(bad)
	end
	fails("\n.Point {}", "redefined Point at [")
	fails("q 1 {}", "redefined protocol tag 1 at q at [")
	fails(".X { y 0 : nope }", "Undefined type nope in type X (field y) at [")
	fails(".X { y 0 }", "syntax error at [")
	test.err(function() loader.register({ one, "/no/such" }, 3) end, "Can't open sproto file /no/such")
	test.err(function() loader.register(one, 3) end, "Undefined type Point in type Player (field at) at [" .. one .. "] line (2)")
	test.eq(loader.load(3):exist_proto "p", true)
	os.remove(one)
	os.remove(two)
end)

test.case("a compiled bundle is read from a file", function()
	local name = file(parser.parse(schema))
	loader.register_bundle(name, 4)
	test.eq(loader.load(4):exist_type "Point", true)
	os.remove(name)
	test.err(function() loader.register_bundle(name, 4) end, "Can't open sproto file " .. name)
	name = file "nonsense"
	test.err(function() loader.register_bundle(name, 4) end, name .. " is no sproto bundle")
	os.remove(name)
	name = file(parser.parse(schema))
	test.err(function() loader.register_bundle(name, 16) end, "Invalid global slot index 16")
	os.remove(name)
	test.eq(loader.load(4):exist_type "Point", true)
end)

test.case("a borrowed schema is not freed by its objects", function()
	local cobj = core.newproto(parser.parse(schema))
	for _ = 1, 10 do
		test.eq(sproto.sharenew(cobj):exist_type "Point", true)
		collectgarbage()
	end
	core.deleteproto(cobj)
end)

test.run()
