-- skynet.mongo.driver: the vectors, and replies good and bad.

local bson = require "bson"
local driver = require "skynet.mongo.driver"
local test = require "testlib"
local vectors = require "vectors"

test.case("every vector passes", function()
	for i, v in ipairs(vectors.load("mongo").vectors) do
		if v.op == "length" then
			test.eq(driver.length(vectors.unhex(v.hex)), v.result, i)
		else
			local doc = bson.encode_order(table.unpack(vectors.eval(v.doc)[1]))
			test.eq(vectors.hex(driver.op_msg(v.id, v.flags, doc)), v.hex, i)
			test.eq(vectors.hex(driver.op_msg(v.id, v.flags, bson.to_lightuserdata(doc))), v.hex, i)
		end
	end
end)

local function reply(t)
	return string.pack("<i4i4i4I4B", 1, t.to or 7, t.opcode or 2013, t.flags or 0, t.kind or 0)
		.. (t.doc or tostring(bson.encode { ok = 1 }))
end

test.case("a reply gives its request and its document", function()
	for _, flags in ipairs { 0, 2 } do
		local data = reply { flags = flags, to = -5 }
		local ok, to, ptr, size = driver.reply(data)
		test.eq({ ok, to }, { true, -5 })
		test.eq(bson.decode(ptr, size), { ok = 1 })
	end
end)

test.case("requests can be read as replies", function()
	local frame = driver.op_msg(3, 0, bson.encode { a = 1 })
	test.eq(driver.length(frame), #frame - 4)
	local ok, to = driver.reply(frame:sub(5))
	test.eq({ ok, to }, { true, 0 })
end)

test.case("bad replies raise", function()
	test.eq(driver.reply(reply {}:sub(1, 15)), false)
	test.err(function() driver.reply(reply { opcode = 1 }) end, "Unsupported opcode:1")
	test.err(function() driver.reply(reply { flags = 1 }) end, "Unsupported OP_MSG flag checksumPresent")
	test.err(function() driver.reply(reply { flags = 3 }) end, "Unsupported OP_MSG flag checksumPresent")
	test.err(function() driver.reply(reply { flags = 4 }) end, "Unsupported OP_MSG flag:4")
	test.err(function() driver.reply(reply { flags = 6 }) end, "Unsupported OP_MSG flag:6")
	test.err(function() driver.reply(reply { kind = 1 }) end, "Unsupported OP_MSG payload type: 1")
	test.err(function() driver.reply(reply {} .. "x") end, "Unsupported OP_MSG reply: >1 section")
	test.err(function() driver.reply(reply { doc = "\9\0\0\0\0" }) end, "Unsupported OP_MSG reply: >1 section")
	local whole = reply {}
	local header = #reply { doc = "" }
	for n = 16, #whole - 1 do
		local reason = n < header + 5 and "Invalid OP_MSG reply: no document" or "Unsupported OP_MSG reply: >1 section"
		test.err(function() driver.reply(whole:sub(1, n)) end, reason)
	end
end)

test.case("arguments are checked", function()
	test.err(function() driver.op_msg(1, 0) end, "opmsg require cmd document")
	test.err(function() driver.op_msg(1, 0, {}) end, "opmsg require cmd document")
	test.err(function() driver.op_msg(1, 0, io.stdout) end, "no bson document")
	test.err(function() driver.op_msg(1 << 40, 0, bson.encode {}) end, "not a number of 32 bits")
	test.err(function() driver.length "abc" end, "4 bytes expected")
	test.err(function() driver.length "\3\0\0\0" end, "Invalid length of a message : 3")
	test.err(function() driver.length "\xff\xff\xff\xff" end, "Invalid length of a message : -1")
end)

test.run()
