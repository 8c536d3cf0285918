-- sproto's RPC layer: the vectors, and what a peer may do wrong.
local sproto = require "sproto"
local test = require "testlib"
local vectors = require "vectors"

local hex = vectors.hex

local function eval(expr)
	if expr == nil then return nil end
	return vectors.eval(expr)[1]
end

local function check_answer(v, client, responder)
	local answer = responder(eval(v.response_args), v.response_ud)
	test.eq(hex(answer), v.response_packed, v.name)
	local kind, session, result, ud = client:dispatch(answer)
	test.eq({ kind, session }, { "RESPONSE", v.session }, v.name)
	test.eq(result, eval(v.client_result), v.name)
	test.eq(ud, eval(v.client_ud), v.name)
	test.err(function() client:dispatch(answer) end, "Unknown session")
end

test.case("every RPC vector", function()
	local suite = vectors.load "sproto_rpc"
	test.eq(#suite.vectors, 11)
	local sp = sproto.parse(suite.schema)
	for _, v in ipairs(suite.vectors) do
		local client, server = sp:host(), sp:host "package"
		local request = client:attach(sp)(v.proto, eval(v.args), v.session, v.ud)
		test.eq(hex(request), v.request_packed, v.name)
		test.eq(hex(sproto.unpack(request)), v.request_plain, v.name)
		local kind, name, args, responder, ud = server:dispatch(request)
		test.eq({ kind, name }, { v.dispatch_kind, v.dispatch_name }, v.name)
		test.eq(args, eval(v.dispatch_args), v.name)
		test.eq(ud, eval(v.dispatch_ud), v.name)
		test.eq(responder ~= nil, v.has_responder, v.name)
		if responder then check_answer(v, client, responder) end
	end
end)

local schema = [[
.package { type 0 : integer  session 1 : integer  ud 7 : Extra }
.Extra { trace 0 : string }
get 1 { request { key 0 : string } response { value 0 : string } }
ack 2 { request { n 0 : integer } response nil }
fire 3 {}
]]

test.case("user data may be of any type, tags of the header do not matter", function()
	local sp = sproto.parse(schema)
	local client, server = sp:host(), sp:host()
	local request = client:attach(sp)("get", { key = "k" }, 1, { trace = "abc" })
	local _, _, args, respond, ud = server:dispatch(request)
	test.eq({ args, ud }, { { key = "k" }, { trace = "abc" } })
	local _, _, result, back = client:dispatch(respond({ value = "v" }, { trace = "back" }))
	test.eq({ result, back }, { { value = "v" }, { trace = "back" } })
end)

test.case("protocols may be called by tag", function()
	local sp = sproto.parse(schema)
	local host = sp:host()
	local _, name = host:dispatch(host:attach(sp)(3))
	test.eq(name, "fire")
	test.err(function() host:attach(sp)("3") end, "3 not found")
end)

test.case("a one-way request has no responder", function()
	local sp = sproto.parse(schema)
	local host = sp:host()
	local _, _, _, responder = host:dispatch(host:attach(sp)("get", { key = "k" }))
	test.eq(responder, nil)
end)

test.case("a confirm carries nothing", function()
	local sp = sproto.parse(schema)
	local host = sp:host()
	local _, _, _, respond = host:dispatch(host:attach(sp)("ack", { n = 1 }, 9))
	test.err(function() respond { n = 1 } end, "a confirm has no content")
	local kind, session, result = host:dispatch(respond())
	test.eq({ kind, session, result }, { "RESPONSE", 9, nil })
end)

test.case("answers nobody waits for are refused", function()
	local sp = sproto.parse(schema)
	local host = sp:host()
	test.err(function() host:dispatch(sproto.pack "\0\0") end, "session not found")
	test.err(function() host:dispatch(sproto.pack "\2\0\1\0\12\0") end, "Unknown session")
end)

test.case("a bad answer leaves the session waiting", function()
	local sp = sproto.parse(schema)
	local client, server = sp:host(), sp:host()
	local _, _, _, respond = server:dispatch(client:attach(sp)("get", { key = "k" }, 5))
	local good = respond { value = "fine" }
	-- The header of the answer, then a body that ends too early.
	test.err(function() client:dispatch(sproto.pack "\2\0\1\0\12\0\1\0\0\0\255\0\0\0") end, "decode error")
	local _, session, result = client:dispatch(good)
	test.eq({ session, result }, { 5, { value = "fine" } })
end)

test.case("unknown and malformed requests raise", function()
	local sp = sproto.parse(schema)
	local host = sp:host()
	test.err(function() host:dispatch(sproto.pack "\1\0\10\0") end, "4 not found")
	test.err(function() host:dispatch "" end, "decode error")
	test.err(function() host:dispatch "\255" end, "Invalid unpack stream")
	test.err(function() host:attach(sp)("nope") end, "nope not found")
	test.err(function() host:attach(sp)("get", nil, 1) end, "table expected")
	test.err(function() sp:host "header" end, "type header not found")
	test.err(function() sproto.parse(".a{}"):host() end, "type package not found")
end)

test.case("a failed encode leaves nothing in the next header", function()
	local sp = sproto.parse(schema)
	local host = sp:host()
	pcall(host:attach(sp), "get", { key = 5 }, 77, { trace = "left over" })
	local _, _, _, responder, ud = host:dispatch(host:attach(sp)("fire"))
	test.eq({ responder, ud }, {})
end)

test.case("an answer can be read after the attached schema was dropped", function()
	local server = sproto.parse(schema):host()
	local client = sproto.parse(schema):host()
	local request
	do
		local peer = sproto.parse(schema)
		request = client:attach(peer)("get", { key = "k" }, 1)
	end
	collectgarbage()
	collectgarbage()
	local _, _, _, respond = server:dispatch(request)
	local _, _, result = client:dispatch(respond { value = "v" })
	test.eq(result, { value = "v" })
end)

test.case("sessions are any 64-bit integers", function()
	local sp = sproto.parse(schema)
	local client, server = sp:host(), sp:host()
	local call = client:attach(sp)
	for _, session in ipairs { 0, -1, 1, 32767, math.maxinteger, math.mininteger } do
		local _, _, _, respond = server:dispatch(call("get", { key = "k" }, session))
		local _, got = client:dispatch(respond { value = "v" })
		test.eq(got, session)
	end
end)

test.case("noise only ever returns or raises", function()
	local sp = sproto.parse(schema)
	local host = sp:host()
	local request = host:attach(sp)("get", { key = "key" }, 5, { trace = "t" })
	local seed = 11
	for _ = 1, 5000 do
		local bytes = { request:byte(1, -1) }
		for _ = 1, 3 do
			seed = (seed * 1103515245 + 12345) % 0x80000000
			bytes[(seed >> 8) % #bytes + 1] = (seed >> 16) % 256
		end
		pcall(host.dispatch, host, string.char(table.unpack(bytes)))
	end
end)

test.run()
