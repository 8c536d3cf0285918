-- skynet.core, function by function; what it logs is asserted in
-- test/process/test_snlua.py.

local skynet = require "skynet"
local core = require "skynet.core"
local test = require "testlib"

local PTYPE_CLIENT <const> = 3
local DEAD <const> = 0xffff

local function results(...)
	return select("#", ...), ...
end

local received = {}
skynet.register_protocol {
	name = "client",
	id = PTYPE_CLIENT,
	pack = function(s) return s end,
	unpack = core.tostring,
	dispatch = function(session, source, text)
		skynet.ignoreret()
		received[#received + 1] = { session = session, source = source, text = text }
	end,
}

-- Timers that nobody waits for are part of the tests.
skynet.dispatch_unknown_response(function() end)

local function wait_received(n)
	test.wait_for(function() return #received >= n end, nil, n .. " messages")
	local got = received
	received = {}
	return got
end

local raw
local function ask(text)
	return skynet.tostring(skynet.rawcall(raw, "client", text))
end

test.case("an address of 0 or of another type raises", function()
	test.err(function() core.send(0, 3, 0, "") end, "Invalid service address 0")
	test.err(function() core.send(8.5, 3, 0, "") end, "Invalid service address 0")
	test.err(function() core.send("0", 3, 0, "") end, "Invalid service address 0")
	test.err(function() core.send(nil, 3, 0, "") end,
		"dest address type (nil) must be a string or number.")
	test.err(function() core.send({}, 3, 0, "") end,
		"dest address type (table) must be a string or number.")
end)

test.case("a send to nobody returns nothing", function()
	test.eq(results(core.send(".no", 3, nil, "")), 0)
	test.eq(results(core.send(DEAD, 3, 0, "")), 0)
	local ptr, size = core.pack("lost")
	test.eq(results(core.send(DEAD, 3, 0, ptr, size)), 0)
end)

test.case("a send to a numeric string, a name and an address text arrives", function()
	local self = skynet.self()
	test.eq(core.send(tostring(self), 3, 0, "a"), 0)
	test.eq(core.send(string.format(":%x", self), 3, 0, "b"), 0)
	core.command("REG", ".core_test")
	test.eq(core.send(".core_test", 3, 0, "c"), 0)
	local got = wait_received(3)
	test.eq({ got[1].text, got[2].text, got[3].text }, { "a", "b", "c" })
	test.eq(got[1].source, self)
end)

test.case("an empty string arrives as no data", function()
	core.send(skynet.self(), 3, 0, "")
	test.eq(wait_received(1)[1].text, "")
end)

test.case("sessions increase, and genid continues the series", function()
	local a = core.send(1, 3, nil, "")
	local b = core.send(1, 3, nil, "")
	local c = core.genid()
	test.ok(a > 0 and b > a and c > b, "increasing")
	test.eq(core.send(1, 3, 77, ""), 77)
end)

test.case("a message that is no string and no pointer raises", function()
	test.err(function() core.send(1, 3, 0) end, "invalid param no value")
	test.err(function() core.send(1, 3, 0, nil) end, "invalid param nil")
	test.err(function() core.send(1, 3, 0, 5) end, "invalid param number")
	test.err(function() core.send(1, 3, 0, {}) end, "invalid param table")
	local ptr, size = core.pack()
	test.err(function() core.send(1, 3, 0, ptr) end, "#5")
	core.trash(ptr, size)
end)

test.case("a negative size is too large", function()
	local ptr = core.pack("x")
	test.eq({ results(core.send(skynet.self(), 3, 0, ptr, -1)) }, { 1, false })
end)

test.case("the kernel's tag bits cannot be smuggled in, other types raise", function()
	local self = skynet.self()
	test.eq(core.send(self, 3 | 0x10000 | 0x20000, 5, "tagged"), 5)
	test.eq(wait_received(1)[1].text, "tagged")
	test.err(function() core.send(self, 256, 0, "") end, "out of range")
	test.err(function() core.send(self, -1, 0, "") end, "out of range")
end)

test.case("sessions that could be mistaken for failures raise", function()
	test.err(function() core.send(1, 3, -1, "") end, "session out of range")
	test.err(function() core.send(1, 3, 1 << 31, "") end, "session out of range")
	test.err(function() core.send(1, 3) end, "#3")
end)

test.case("redirect forges the source", function()
	test.eq(core.redirect(skynet.self(), 0x1234, 3, 9, "forged"), 9)
	core.redirect(skynet.self(), 0, 3, 0, "own")
	local got = wait_received(2)
	test.eq(got[1], { session = 9, source = 0x1234, text = "forged" })
	test.eq(got[2].source, skynet.self())
end)

test.case("command returns text or nothing, and bears a missing parameter", function()
	test.eq(results(core.command("XX")), 0)
	test.eq(core.command("REG"), string.format(":%x", skynet.self()))
	test.eq(core.command("GETENV", "test_variant") ~= nil, true)
	test.eq(results(core.command("GETENV")), 0)
	test.eq(results(core.command("KILL")), 0)
	test.eq(core.command("GETENV", "test_variant", nil), core.command("GETENV", "test_variant"))
end)

test.case("intcommand converts both ways", function()
	test.err(function() core.intcommand "REG" end, "Invalid result :")
	test.eq(core.intcommand("STAT", "foo"), 0)
	test.eq(results(core.intcommand "XX"), 0)
	test.eq(math.type(core.intcommand("STAT", "message")), "integer")
	test.eq(math.type(core.intcommand("STAT", "cpu")), "float")
	test.err(function() core.intcommand("TIMEOUT", 1.5) end, "integer representation")
	local a = core.intcommand("TIMEOUT", "2")
	local b = core.intcommand("TIMEOUT", 2)
	test.ok(b > a, "two sessions")
	skynet.sleep(5) -- both tick
end)

test.case("a delay beyond 32 bits does not become a short one", function()
	local fired = false
	skynet.dispatch_unknown_response(function() fired = true end)
	core.intcommand("TIMEOUT", (1 << 32) + 1)
	core.intcommand("TIMEOUT", 1 << 31)
	skynet.sleep(5)
	skynet.dispatch_unknown_response(function() end)
	test.eq(fired, false)
end)

test.case("addresscommand gives a handle or nothing", function()
	test.eq(core.addresscommand "REG", skynet.self())
	test.eq(results(core.addresscommand("QUERY", "launcher")), 0)
	test.eq(results(core.addresscommand("QUERY", ".nobody")), 0)
	test.ok(core.addresscommand("QUERY", ".launcher") > 0)
	test.eq(results(core.addresscommand("QUERY", skynet.address(skynet.self()))), 0)
end)

test.case("alive tells live services from others", function()
	local helper = skynet.newservice "sv_helper"
	test.eq(core.alive(skynet.self()), true)
	test.eq(core.alive(helper), true)
	core.command("KILL", skynet.address(helper))
	test.eq(core.alive(helper), false)
	test.eq(core.alive(0), false)
	test.err(function() core.alive(".launcher") end, "bad argument #1")
end)

test.case("tostring copies memory and refuses what is no memory", function()
	local ptr, size = core.pack("abc")
	test.eq(core.tostring(ptr, size), "\x1cabc")
	test.eq(core.tostring(ptr, 0), "")
	test.eq(results(core.tostring(nil, 5)), 0)
	test.eq(results(core.tostring()), 0)
	test.err(function() core.tostring("abc", 3) end, "#1")
	test.err(function() core.tostring(ptr, -1) end, "negative size")
	core.trash(ptr, size)
end)

test.case("trash takes pointers and strings only", function()
	core.trash("text")
	core.trash(core.pack("x"))
	test.err(function() core.trash(5) end, "skynet.trash invalid param number")
	test.err(function() core.trash() end, "skynet.trash invalid param no value")
end)

test.case("harbor takes a handle apart", function()
	test.eq({ core.harbor(0x02000001) }, { 2, true })
	test.eq({ core.harbor(1) }, { 0, false })
end)

test.case("clocks are integers that do not run backwards", function()
	local n, h = core.now(), core.hpc()
	test.eq({ math.type(n), math.type(h) }, { "integer", "integer" })
	test.ok(core.now() >= n and core.hpc() >= h)
end)

test.case("callback wants a function", function()
	test.err(function() core.callback(5) end, "#1")
	test.err(function() core.callback() end, "#1")
end)

test.case("a bare callback answers, cannot yield, and survives errors", function()
	raw = core.addresscommand("LAUNCH", "snlua core_raw")
	test.eq(ask "echo 1 2", "1 2")
	test.eq(ask "yield", "true")
	core.send(raw, 3, 0, "raise_table")
	core.send(raw, 3, 0, "raise oops")
	test.eq(ask "echo again", "again")
end)

test.case("a callback can be replaced while it runs", function()
	for _ = 1, 3 do
		test.eq(ask "replace", "replaced")
		test.eq(ask "echo x", "otherwise")
		test.eq(ask "echo y", "y")
	end
end)

test.case("in forward mode messages stay until they are trashed", function()
	test.eq(ask "forward on", "on")
	test.eq(ask "keep one", "1")
	test.eq(ask "keep two", "2")
	test.eq(ask "kept", "keep one|keep two")
	test.eq(ask "forward off", "off")
	test.eq(ask "echo z", "z")
	core.send(raw, 3, 0, "quit")
end)

test.run()
