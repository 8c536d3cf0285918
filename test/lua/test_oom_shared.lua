-- Services that keep data for others, and their readers, whose allocations fail, each in its
-- turn: a request fails or is done, who waits hears of it, and nothing is kept.

local skynet = require "skynet.manager"
local datacenter = require "skynet.datacenter"
local sharedata = require "skynet.sharedata"
local builder = require "skynet.datasheet.builder"
local sharetable = require "skynet.sharetable"
local mc = require "skynet.multicast"
local core = require "skynet.multicast.core"
local oom = require "oom"
local rt = require "rt"
local test = require "testlib"

-- What does not come in this time does not come while allocations fail, 1/100 s.
local PATIENCE = 10

local reader, multicastd, sharedatad

local function sweep(handle, exchange, check)
	oom.sweep { handle = handle, exchange = exchange, check = check, burst = 3 }
end

test.case("datacenter, set, query and wait", function()
	local paths = { { "a", "b", "c" }, { "a", "b", "c" }, { "a", "d" } }
	local waits = {}
	local handle = oom.watched "DATACENTER"

	local function exchange()
		for i, path in ipairs(paths) do
			waits[i] = rt.start(datacenter.wait, table.unpack(path))
		end
		skynet.yield()
		datacenter.set("x", { y = { 1, 2, 3 } })
		test.eq(datacenter.get "x", { y = { 1, 2, 3 } })
		datacenter.set("a", "b", "c", "value")
		datacenter.set("a", { d = 5, b = { c = "value" } })
	end

	-- Who waits has got an answer or waits for something that is not there.
	local function settle()
		oom.collect(handle)
		for i, path in ipairs(paths) do
			local value = datacenter.get(table.unpack(path))
			test.ok(waits[i].done or value == nil, "waits for what is there")
		end
		local a = datacenter.get "a"
		test.ok(a == nil or next(a), "a branch without leaves")
		datacenter.set("a", nil)
		datacenter.set("a", { d = 5, b = { c = "value" } })
		for _, w in ipairs(waits) do
			rt.join(w)
		end
		datacenter.set("a", nil)
		datacenter.set("x", nil)
	end

	sweep(handle, exchange, function()
		settle()
		exchange()
		test.eq({ waits[1].value, waits[2].value, waits[3].value }, { "value", "value", 5 })
		settle()
		test.eq(datacenter.get "a", nil)
	end)
end)

local function ask(...)
	return skynet.call(reader, "lua", ...)
end

-- New, read, newer, read, and away.
local function sweep_data(handle)
	local version = 0

	local function data()
		version = version + 1
		return { v = version, sub = { list = { 1, 2, 3 } } }
	end

	local function exchange()
		sharedata.new("doc", data())
		ask("read", "doc")
		test.eq(ask("copy", "doc"), { 1, 2, 3 })
		sharedata.update("doc", data())
		ask("seen", "doc")
	end

	-- Whoever has it sees the version that there is, if an update failed or not.
	local function follows()
		local now
		test.wait_for(function()
			local ok
			ok, now = pcall(sharedata.deepcopy, "doc", "v")
			local seen = ask("seen", "doc")
			return seen == nil or not ok or seen == now
		end, nil, "the newest version")
		return now
	end

	local function settle()
		oom.collect(handle)
		follows()
		sharedata.update("doc", data())
		test.eq(follows(), version)
		test.eq(ask("read", "doc"), version)
		sharedata.delete "doc"
		ask("drop", "doc")
		test.wait_for(function() return not pcall(ask, "read", "doc") end)
	end

	sweep(handle, exchange, function()
		settle()
		exchange()
		settle()
	end)
end

test.case("sharedata, the service", function() sweep_data(oom.watched(sharedatad)) end)

test.case("sharedata, readers that end", function()
	sharedata.new("left", { v = 1 })
	local function is_forgotten()
		local ok, info = pcall(skynet.call, sharedatad, "debug", "INFO")
		return ok and info.left.monitors == 0
	end
	local function exchange()
		local short = skynet.newservice "oom_reader"
		pcall(skynet.call, short, "lua", "read", "left")
		skynet.kill(short)
		-- It says farewell a little after it is gone.
		rt.wait_gone(short)
		oom.await(is_forgotten, PATIENCE)
	end
	sweep(sharedatad, exchange, function()
		test.wait_for(is_forgotten)
		exchange()
	end)
	sharedata.delete "left"
end)

test.case("sharedata, a reader", function() sweep_data(reader) end)

test.case("datasheet, a reader", function()
	local sheet = { list = { 1, 2, 3 } }
	for i = 1, 20 do
		sheet["key " .. i] = i
	end
	builder.new("sheet", sheet)
	sweep(reader, function()
		builder.update("sheet", sheet)
		test.eq(ask("sheet", "sheet"), sheet)
	end, function() test.eq(ask("sheet", "sheet"), sheet) end)
end)

local function sweep_tables(handle)
	local version = 0

	local function load()
		version = version + 1
		sharetable.loadtable("table", { list = { version, version, version } })
	end

	local function exchange()
		load()
		test.eq(ask("shared", "table"), { version, version, version })
		load()
		test.eq(ask("update", "table"), { version, version, version })
		sharetable.unload "table"
	end

	sweep(handle, exchange, function()
		-- Whatever it held on to, an update brings to the newest version.
		load()
		local list = ask("update", "table")
		test.eq(list, list and { version, version, version })
		exchange()
		test.eq(ask("release", "table"), 0)
	end)
end

test.case("sharetable, the service", function() sweep_tables(oom.watched(sharetable.address)) end)

test.case("sharetable, a reader", function() sweep_tables(reader) end)

-- Subscribe, publish, unsubscribe, on channels of their own.
local channel

local function talk(handle)
	channel = mc.new()
	skynet.call(handle, "lua", "listen", channel.channel)
	ask("listen", channel.channel)
	pcall(ask, "publish", channel.channel, "one")
	ask "leave"
	skynet.call(handle, "lua", "leave")
	mc.new():delete()
end

local function channels()
	return skynet.call(multicastd, "debug", "INFO")
end

-- Each subscriber of a channel is one, and so is nobody.
local function settle_channel(handle)
	local id = channel.channel
	-- What a service has said is heard, late at worst.
	for _, who in ipairs { reader, handle } do
		skynet.call(who, "lua", "leave")
	end
	test.wait_for(function()
		local info = channels()
		return info[id].subscribers == 0 and next(info) == id and next(info, id) == nil
	end, nil, "subscribers and channels to go")
	for _, who in ipairs { reader, handle } do
		skynet.call(who, "lua", "listen", id)
	end
	test.eq(channels()[id].subscribers, handle == reader and 1 or 2)
	ask("publish", id, "two")
	for _, who in ipairs { reader, handle } do
		test.wait_for(function() return skynet.call(who, "lua", "got") == "two" end, nil, "a message")
		skynet.call(who, "lua", "leave")
	end
	test.eq(channels()[id].subscribers, 0)
	channel:delete()
	test.eq(channels()[id], nil)
	test.wait_for(function() return core.live() == 0 end, nil, "payloads to be freed")
end

local function sweep_channel(handle, other)
	sweep(handle, function() talk(other) end, function()
		oom.collect(handle)
		if channel then
			settle_channel(other)
		end
		talk(other)
		settle_channel(other)
		channel = nil
	end)
end

test.case("multicast, the service", function()
	sweep_channel(oom.watched(multicastd), skynet.newservice "oom_reader")
end)

test.case("multicast, one that publishes and subscribes", function() sweep_channel(reader, reader) end)

-- A service that is gone is no subscriber any more and waits for no news.
test.case("multicast and sharedata, the first time in a service", function()
	sharedata.new("first", { v = 1 })
	local version = 1
	oom.fresh {
		make = function() return skynet.newservice "oom_reader" end,
		exchange = function(handle)
			pcall(skynet.call, handle, "lua", "read", "first")
			talk(handle)
		end,
		check = function(handle)
			skynet.call(handle, "lua", "read", "first")
			version = version + 1
			sharedata.update("first", { v = version })
			test.wait_for(function() return skynet.call(handle, "lua", "seen", "first") == version end)
			settle_channel(handle)
			channel = mc.new()
			skynet.call(handle, "lua", "listen", channel.channel)
			skynet.kill(handle)
			test.wait_for(function()
				local info = channels()
				return info[channel.channel].subscribers == 0
					and skynet.call(sharedatad, "debug", "INFO").first.monitors == 0
			end, nil, "what the service kept")
			channel:delete()
		end,
	}
	sharedata.delete "first"
end)

test.run(function()
	multicastd = skynet.uniqueservice "multicastd"
	sharedatad = skynet.uniqueservice "sharedatad"
	reader = oom.newservice "oom_reader"
end)
