-- skynet.multicast: channels, subscriptions, and the life of shared payloads.

local skynet = require "skynet"
local mc = require "skynet.multicast"
local core = require "skynet.multicast.core"
local memory = require "skynet.memory"
local vectors = require "vectors"
local test = require "testlib"

local PUBLISHES = skynet.getenv "test_variant" == "release" and 100000 or 3000

-- Before the service has started, and with it the module.
local too_early = { pcall(mc.new) }

local function ask(service, ...)
	return skynet.call(service, "lua", ...)
end

local function subscriber(...)
	local s = assert(skynet.newservice "mc_subscriber")
	ask(s, "subscribe", ...)
	return s
end

-- A channel whose messages go into the list `got`.
local function listener(id)
	local got = {}
	local c = mc.new {
		channel = id,
		dispatch = function(c, source, ...)
			got[#got + 1] = table.pack(c, source, ...)
		end,
	}
	c:subscribe()
	return c, got
end

local function settled()
	test.wait_for(function() return core.live() == 0 end, nil, "payloads to be freed")
end

local function subscribers(id)
	local daemon = skynet.uniqueservice "multicastd"
	return skynet.call(daemon, "debug", "INFO")[id].subscribers
end

test.case("channel ids step by 256, are never 0, and wrap", function()
	for _, v in ipairs(vectors.load "multicast".vectors) do
		test.eq(core.nextid(v["in"]), v.result)
	end
	local a, b = mc.new(), mc.new()
	test.eq(a.channel, 256)
	test.eq(b.channel, 512)
	test.eq(tostring(a), "[Multicast:100]")
	a:delete()
	b:delete()
end)

test.case("ten services get one message with the publisher's address", function()
	local c = mc.new()
	local subs = {}
	for i = 1, 10 do
		subs[i] = subscriber(c.channel)
	end
	test.eq(select("#", c:publish("hello", nil, 3)), 0)
	for i = 1, 10 do
		test.wait_for(function() return ask(subs[i], "count") == 1 end)
		test.eq(ask(subs[i], "got"), { { skynet.self(), "hello", nil, 3 } })
	end
	ask(subs[1], "publish", c.channel, "from another")
	test.wait_for(function() return ask(subs[2], "count") == 2 end)
	test.eq(ask(subs[2], "got")[2], { subs[1], "from another" })
	test.wait_for(function() return ask(subs[1], "count") == 2 end)
	for i = 1, 10 do
		ask(subs[i], "exit")
	end
	c:delete()
	settled()
end)

test.case("a publisher that subscribed gets its own messages, in order", function()
	local c, got = listener()
	for i = 1, 100 do
		c:publish(i)
	end
	test.wait_for(function() return #got == 100 end)
	for i = 1, 100 do
		test.ok(rawequal(got[i][1], c))
		test.eq(got[i][2], skynet.self())
		test.eq(got[i][3], i)
	end
	c:delete()
	settled()
end)

test.case("unsubscribe ends it, twice is harmless, and it can begin again", function()
	local c, got = listener()
	c:unsubscribe()
	c:unsubscribe()
	c:publish "lost"
	c:subscribe()
	c:subscribe()
	test.eq(subscribers(c.channel), 1)
	c:publish "seen"
	test.wait_for(function() return #got == 1 end)
	test.eq(got[1][3], "seen")
	c:delete()
	settled()
end)

test.case("messages on their way to one who unsubscribed are dropped", function()
	local c, got = listener()
	local daemon = skynet.uniqueservice "multicastd"
	skynet.send(daemon, "lua", "PUB", c.channel, (core.pack(skynet.pack "late")))
	c:unsubscribe()
	c:publish "later"
	settled()
	test.eq(got, {})
	c:delete()
end)

test.case("two objects for one channel in one service are independent", function()
	local a, got_a = listener()
	local b, got_b = listener(a.channel)
	a:publish(1)
	test.wait_for(function() return #got_a == 1 and #got_b == 1 end)
	test.ok(rawequal(got_a[1][1], a))
	test.ok(rawequal(got_b[1][1], b))
	a:unsubscribe()
	a:publish(2)
	test.wait_for(function() return #got_b == 2 end)
	test.eq(#got_a, 1)
	test.eq(subscribers(b.channel), 1)
	b:unsubscribe()
	test.wait_for(function() return subscribers(b.channel) == 0 end)
	a:delete()
	settled()
end)

test.case("an object that another one unsubscribes meanwhile gets nothing", function()
	local second, got
	local first = mc.new { dispatch = function() second:unsubscribe() end }
	first:subscribe()
	second, got = listener(first.channel)
	first:publish(1)
	settled()
	test.eq(got, {})
	first:delete()
end)

test.case("a dispatch that fails or hangs disturbs nobody", function()
	local c, got = listener()
	local function fail() error "on purpose, in the same service" end
	local other = mc.new { channel = c.channel, dispatch = fail }
	other:subscribe()
	local failing, hanging = subscriber(c.channel, "fail"), subscriber(c.channel, "hang")
	for i = 1, 5 do
		c:publish(i)
	end
	test.wait_for(function() return #got == 5 end)
	test.wait_for(function() return ask(failing, "count") == 5 and ask(hanging, "count") == 5 end)
	-- The one that hangs still has its payloads; they go with it.
	test.eq(core.live(), 5)
	ask(failing, "exit")
	ask(hanging, "exit")
	settled()
	c:delete()
end)

test.case("publishing to nobody, and to a channel that is gone, is no error", function()
	local c = mc.new()
	c:publish "nobody"
	local other = mc.new { channel = c.channel }
	c:delete()
	other:publish "gone"
	settled()
	test.err(function() c:publish() end, "deleted")
	test.err(function() c:subscribe() end, "deleted")
	test.err(function() c:unsubscribe() end, "deleted")
	test.err(function() c:delete() end, "deleted")
	test.eq(tostring(c), "[Multicast:deleted]")
end)

test.case("delete ends the channel for all", function()
	local c = mc.new()
	local s = subscriber(c.channel)
	local other = mc.new { channel = c.channel }
	c:delete()
	other:publish "gone"
	test.eq(ask(s, "count"), 0)
	ask(s, "unsubscribe")
	ask(s, "exit")
end)

test.case("subscribing to what does not exist raises", function()
	local daemon = skynet.uniqueservice "multicastd"
	local c = mc.new { channel = 1 << 20, dispatch = print }
	test.err(function() c:subscribe() end, "there is no multicast channel 100000")
	test.err(function() c:subscribe() end, "there is no multicast channel 100000")
	local far = mc.new { channel = 0x105, dispatch = print }
	test.err(function() far:subscribe() end, "belongs to node 5")
	test.err(function() far:publish "x" end, "belongs to node 5")
	settled()
	test.err(function() skynet.call(daemon, "lua", "NOSUCH", 256) end, "Invalid command NOSUCH")
	test.err(function() skynet.call(daemon, "lua", "SUB") end, "is an integer")
end)

test.case("what is wrong with a channel is told early", function()
	test.eq(too_early[1], false)
	test.match(too_early[2], "Init first")
	local c = mc.new()
	test.err(function() c:subscribe() end, "dispatch")
	test.err(function() mc.new { dispatch = 5 } end, "`dispatch` is a function")
	test.err(function() mc.new { pack = "x" } end, "`pack` is a function")
	test.err(function() mc.new { channel = "x" } end, "`channel` is an integer")
	test.err(function() c:publish(print) end, "Unsupport type function")
	c:delete()
end)

test.case("pack and unpack of one's own", function()
	local got
	local c = mc.new {
		pack = function(s) return s:upper() end,
		unpack = skynet.tostring,
		dispatch = function(_, _, s) got = s end,
	}
	c:subscribe()
	c:publish "text\0"
	test.wait_for(function() return got end)
	test.eq(got, "TEXT\0")
	c:delete()
	settled()
end)

test.case("a payload stays until its last user is done with it", function()
	local texts, tokens = {}, {}
	local function keep(_, _, data, size)
		local token = {}
		tokens[#tokens + 1] = token
		skynet.wait(token)
		texts[#texts + 1] = skynet.tostring(data, size)
	end
	local function raw(...) return ... end
	local a = mc.new { unpack = raw, dispatch = keep, pack = function(s) return s end }
	local b = mc.new { channel = a.channel, unpack = raw, dispatch = keep }
	a:subscribe()
	b:subscribe()
	a:publish "payload"
	test.wait_for(function() return #tokens == 2 end)
	for i = 1, 2 do
		test.eq(core.live(), 1)
		skynet.wakeup(tokens[i])
		test.wait_for(function() return #texts == i end)
	end
	test.eq(texts, { "payload", "payload" })
	a:delete()
	settled()
end)

test.case("a service that dies with messages in its mailbox releases them", function()
	local c = mc.new()
	local s = subscriber(c.channel)
	ask(s, "die_loaded", c.channel, 50)
	settled()
	c:delete()
end)

test.case("a service that ends is a subscriber no longer", function()
	local c = mc.new()
	for _, how in ipairs { "exit", "kill" } do
		local s = subscriber(c.channel)
		test.eq(subscribers(c.channel), 1)
		if how == "exit" then
			ask(s, "exit")
		else
			require "skynet.manager".kill(s)
		end
		-- Nothing was published meanwhile.
		test.wait_for(function() return subscribers(c.channel) == 0 end)
	end
	c:delete()
end)

test.case("the core counts references, and refuses what is no package", function()
	local id, size = core.pack(skynet.pack(1, 2))
	test.eq(size, 8)
	test.eq(core.live(), 1)
	test.eq(core.bind(id, 2), id)
	test.err(function() core.bind(id, 1) end, "bound already")
	test.err(function() core.remote(id) end, "not delivered")
	test.eq(core.discard(id), false)
	core.close(id)
	core.close(id)
	test.err(function() core.close(id) end, "no such package")
	test.eq(core.live(), 0)
	local data, data_size = skynet.pack("far", "away")
	id = core.packremote(data, data_size)
	local copy, copy_size = core.remote(id)
	test.eq({ skynet.unpack(copy, copy_size) }, { "far", "away" })
	test.ne(copy, data)
	skynet.trash(copy, copy_size)
	skynet.trash(data, data_size)
	test.err(function() core.pack(nil, 5) end)
	test.err(function() core.pack(id, -1) end, "32 bits")
	test.err(function() core.pack(id, 1 << 32) end, "32 bits")
	test.err(function() core.bind(nil, 1) end)
	test.err(function() core.deliver(id, 1, 1, {}) end, "no such package")
	local junk, junk_size = skynet.pack "1234567"
	test.err(function() core.unpack(junk, junk_size) end, "Invalid multicast package")
	test.err(function() core.unpack(junk, 3) end, "Invalid multicast package size 3")
	test.err(function() core.open(junk, junk_size) end, "Invalid multicast package")
	skynet.trash(junk, junk_size)
	test.eq(core.live(), 0)
end)

test.case("subscribers that come, die and go leave nothing behind", function()
	local c, got = listener()
	local daemon = skynet.uniqueservice "multicastd"
	skynet.call(daemon, "debug", "GC")
	collectgarbage()
	local before = memory.total()
	local text = ("x"):rep(1000)
	for i = 1, PUBLISHES do
		c:publish(i, text)
		if i % (PUBLISHES // 50) == 0 then
			local s = subscriber(c.channel)
			c:publish(i, text)
			if i % 4 == 0 then
				ask(s, "exit")
			else
				ask(s, "die_loaded", c.channel, 3)
			end
			for k = 1, #got do got[k] = nil end
		end
	end
	settled()
	test.wait_for(function() return subscribers(c.channel) == 1 end)
	for k = 1, #got do got[k] = nil end
	skynet.call(daemon, "debug", "GC")
	collectgarbage()
	-- Each publish carried 1000 bytes; what is left is room in queues and VMs.
	test.ok(memory.total() - before < PUBLISHES * 100 + 2000000, "bytes " .. memory.total() - before)
	c:delete()
end)

test.run()
