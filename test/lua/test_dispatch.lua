-- config: logservice = "snlua"
-- config: logger = "rt_log"
-- Protocols, dispatch of messages, and messages that nobody handles.

local skynet = require "skynet"
require "skynet.manager"
local test = require "testlib"
local rt = require "rt"

test.case("register_protocol refuses what is taken or out of range", function()
	local bad = {
		{ name = "lua", id = 100 }, { name = "other", id = 10 }, { name = "other", id = 256 },
		{ name = "other", id = -1 }, { name = "other", id = 1.5 }, { id = 100 }, { name = "other" }, {},
	}
	for _, class in ipairs(bad) do
		test.err(function() skynet.register_protocol(class) end, "assertion failed!")
	end
	local class = { name = "edge", id = 255 }
	skynet.register_protocol(class)
	test.eq(rawequal(skynet._proto.edge, class) and rawequal(skynet._proto[255], class), true)
end)

test.case("dispatch reads and replaces the handler", function()
	skynet.register_protocol { name = "one", id = 200 }
	test.eq(skynet.dispatch "one", nil)
	local f, g = function() end, function() end
	test.eq(skynet.dispatch("one", f), nil)
	test.eq(skynet.dispatch "one", f)
	test.eq(skynet.dispatch("one", g), f)
	test.eq(skynet.dispatch "nosuch", nil)
	test.err(function() skynet.dispatch("nosuch", f) end)
end)

test.case("fields changed after registration take effect", function()
	local class = { name = "late", id = 201 }
	skynet.register_protocol(class)
	local got
	class.unpack = skynet.tostring
	class.pack = function(s) return "<" .. s .. ">" end
	class.dispatch = function(_, _, text) got = text end
	skynet.send(skynet.self(), "late", "hello")
	skynet.yield()
	test.eq(got, "<hello>")
	class.unpack = function(...) return "other", skynet.tostring(...) end
	class.dispatch = function(_, _, ...) got = table.pack(...) end
	skynet.send(skynet.self(), "late", "x")
	skynet.yield()
	test.eq(got, { "other", "<x>", n = 2 })
end)

test.case("a class with functions of its own works in call, both ways", function()
	skynet.register_protocol {
		name = "mine", id = 202,
		pack = function(...) return table.concat({ ... }, ",") end,
		unpack = function(msg, size) return skynet.tostring(msg, size) or "", size end,
		dispatch = function(_, _, text, size) skynet.ret(text .. "/" .. size) end,
	}
	test.eq({ skynet.call(skynet.self(), "mine", "a", "b") }, { "a,b/3", 5 })
	test.eq({ skynet.call(skynet.self(), "mine") }, { "/0", 2 })
end)

test.case("an unpack function may yield", function()
	skynet.register_protocol {
		name = "slowly", id = 203,
		pack = skynet.packstring,
		unpack = function(msg, size)
			local text = skynet.unpack(msg, size)
			skynet.sleep(1)
			return text
		end,
		dispatch = function(_, _, text) skynet.retpack(text .. "!") end,
	}
	test.eq(skynet.call(skynet.self(), "slowly", "hi"), "hi!")
end)

test.case("a type that the target has not registered fails the call, silently", function()
	local agent = rt.agent()
	local from = rt.mark()
	skynet.register_protocol { name = "foreign", id = 3, pack = skynet.pack, unpack = skynet.unpack }
	rt.call_failed(skynet.call, agent, "foreign", 1)
	rt.run(agent, [[
		skynet.register_protocol { name = "silent", id = 3, pack = skynet.pack, unpack = skynet.unpack }
		skynet.ret()
	]])
	rt.call_failed(skynet.call, agent, "foreign", 1)
	rt.run(agent, "skynet.ret()")
	test.eq(rt.lines("^%[" .. skynet.address(agent), from), {})
	skynet.kill(agent)
end)

test.case("a plain message of an unknown type is logged", function()
	local agent = rt.agent()
	local from = rt.mark()
	skynet.rawsend(agent, "foreign", "some bytes")
	rt.logged("Unknown request %(3%): some bytes", from)
	rt.logged(string.format("Unknown session : 0 from %x", skynet.self()), from)
	skynet.kill(agent)
end)

test.case("the handler of unknown requests can be replaced", function()
	local agent = rt.agent()
	rt.run(agent, [[
		skynet.dispatch_unknown_request(function(session, source, msg, size, what)
			SHARED.seen = { session, source, skynet.tostring(msg, size), what }
		end)
		skynet.ret()
	]])
	skynet.rawsend(agent, "foreign", "abc")
	test.eq(rt.run(agent, "skynet.retpack(SHARED.seen)"), { 0, skynet.self(), "abc", 3 })
	rt.run(agent, [[
		skynet.register_protocol { name = "named", id = 3 }
		skynet.ret()
	]])
	skynet.rawsend(agent, "foreign", "def")
	test.eq(rt.run(agent, "skynet.retpack(SHARED.seen)"), { 0, skynet.self(), "def", "named" })
	skynet.kill(agent)
end)

test.case("an unknown answer reaches its handler", function()
	local from = rt.mark()
	skynet.redirect(skynet.self(), skynet.self(), "response", 999999, "payload")
	skynet.yield()
	rt.logged("Response message : payload", from)
	rt.logged(string.format("Unknown session : 999999 from %x", skynet.self()), from)
	local seen
	local before = skynet.dispatch_unknown_response(function(session, source, msg, size)
		seen = { session, source, skynet.tostring(msg, size) }
	end)
	skynet.redirect(skynet.self(), 7, "response", 999, "x")
	skynet.yield()
	test.eq(seen, { 999, 7, "x" })
	test.eq(type(skynet.dispatch_unknown_response(before)), "function")
end)

test.case("a request that cannot be unpacked is answered with ERROR", function()
	local agent = rt.agent()
	local from = rt.mark()
	rt.call_failed(skynet.rawcall, agent, "lua", "\7\7\7")
	rt.logged("Invalid serialize stream", from)
	test.eq(rt.run(agent, "skynet.retpack(skynet.task())"), 0)
	skynet.kill(agent)
end)

test.case("an answer that cannot be unpacked raises in the requester", function()
	local agent = rt.agent()
	test.err(function() rt.run(agent, "skynet.ret '\\7\\7\\7'") end, "Invalid serialize stream")
	skynet.kill(agent)
end)

test.case("dispatch_message handles a message given by hand", function()
	local got
	skynet.register_protocol {
		name = "byhand", id = 210, unpack = skynet.tostring,
		dispatch = function(session, source, text) got = { session, source, text } end,
	}
	local msg, size = skynet.pack "x"
	skynet.dispatch_message(210, msg, size, 0, 77)
	test.eq({ got[1], got[2] }, { 0, 77 })
	skynet.dispatch("byhand", function() error "by hand" end)
	test.err(function() skynet.dispatch_message(210, msg, size, 0, 77) end, "by hand")
	skynet.trash(msg, size)
end)

test.case("messages of many classes, ticks and forks use the same coroutines", function()
	local got = {}
	local function note(name)
		return function(_, _, text) got[#got + 1] = name .. text end
	end
	local classes = {}
	for i = 1, 3 do
		classes[i] = { name = "mixed" .. i, id = 219 + i, pack = skynet.packstring,
			unpack = skynet.unpack, dispatch = note("m" .. i .. ":") }
		skynet.register_protocol(classes[i])
	end
	local want = {}
	for round = 1, 20 do
		for i = 1, 3 do
			skynet.send(skynet.self(), "mixed" .. (round * i % 3 + 1), round)
			want[#want + 1] = "m" .. (round * i % 3 + 1) .. ":" .. round
			skynet.fork(function(a, b, ...)
				assert(a == round and b == nil and select("#", ...) == 1)
			end, round, nil, false)
			skynet.timeout(0, function(...) assert(select("#", ...) == 0) end)
		end
		skynet.sleep(0)
		classes[1].dispatch = note "m1:"
		skynet.dispatch("mixed2", note "m2:")
	end
	test.wait_for(function() return #got == #want end)
	test.eq(got, want)
end)

test.case("a coroutine that forgot an answer serves the next message", function()
	local got = {}
	skynet.register_protocol {
		name = "forgets", id = 230, pack = skynet.packstring, unpack = skynet.unpack,
		dispatch = function(session, _, text)
			got[#got + 1] = text
			if session ~= 0 and text ~= 2 then
				skynet.retpack(text)
			end
		end,
	}
	test.eq(skynet.call(skynet.self(), "forgets", 1), 1)
	test.err(function() skynet.call(skynet.self(), "forgets", 2) end, "without an answer")
	test.eq(skynet.call(skynet.self(), "forgets", 3), 3)
	test.eq(got, { 1, 2, 3 })
end)

test.case("a size without data is taken for no data", function()
	local null
	skynet.register_protocol {
		name = "null", id = 211,
		unpack = function(msg, size) return msg, size end,
		dispatch = function(_, _, msg, size) null = { msg, size } end,
	}
	skynet.rawsend(skynet.self(), "null", "")
	skynet.yield()
	test.eq({ type(null[1]), null[2] }, { "userdata", 0 })
	local pointer = null[1]
	null = nil
	skynet.dispatch_message(211, pointer, 100, 0, 1)
	test.eq(null[2], 0)
	local got
	skynet.dispatch("lua", function(...) got = table.pack(...) end)
	skynet.dispatch_message(skynet.PTYPE_LUA, nil, 100, 0, 1)
	test.eq(got, { 0, 1, n = 2 })
	skynet.dispatch_message(skynet.PTYPE_SYSTEM, nil, 8, 5, 0xffff)
	test.err(function() skynet.unpack(pointer, 5) end, "deserialize null pointer")
end)

test.run()
