-- skynet.service: services made from functions.

local skynet = require "skynet"
local service = require "skynet.service"
local core = require "skynet.core"
local rt = require "rt"
local test = require "testlib"

-- Answers every call with the arguments it was started with, then the call's.
local function answer_arguments(...)
	local skynet = require "skynet"
	local words = table.pack(...)
	skynet.start(function()
		skynet.dispatch("lua", function(_, _, ...)
			skynet.retpack(words, SERVICE_NAME, ...)
		end)
	end)
end

local function info()
	local provider = skynet.uniqueservice "service_provider"
	return skynet.call(provider, "debug", "INFO")
end

test.case("new runs the function with its arguments, once per name", function()
	local handle = service.new("foo", answer_arguments, 1, nil, "x")
	local words, name, extra = skynet.call(handle, "lua", "more")
	test.eq(words, { 1, nil, "x", n = 3 })
	test.eq(name, "service_cell")
	test.eq(extra, "more")
	test.eq(service.new("foo", answer_arguments, 2), handle)
	test.eq(service.query "foo", handle)
end)

test.case("the main function may dispatch without skynet.start", function()
	local handle = service.new("direct", function()
		local skynet = require "skynet"
		skynet.dispatch("lua", function(_, _, a) skynet.retpack(a + 1) end)
	end)
	test.eq(skynet.call(handle, "lua", 4), 5)
end)

test.case("a service without a dispatcher fails its callers", function()
	local handle = service.new("nodispatch", function() local _ = _ENV end)
	test.err(function() skynet.call(handle, "lua") end, "No dispatch function: call failed")
end)

test.case("a function that captures a foreign local, or no global at all, is refused", function()
	local foreign = {}
	test.err(function()
		service.new("upvalue", function() print(foreign) end)
	end, "assertion failed!")
	test.err(function() service.new("noglobal", function() end) end, "assertion failed!")
	-- The check is made only for a real launch.
	test.ok(service.new("foo", function() return foreign end))
end)

test.case("a function that raises fails new and query, and may be tried again", function()
	local function picky()
		if not require "skynet".getenv "picky_works" then
			error "not yet"
		end
	end
	test.err(function() service.new("picky", picky) end, "call failed")
	test.err(function() service.new("picky", picky) end, "call failed")
	test.err(function() service.query "picky" end, "call failed")
	test.eq(service.close "picky", false)
	skynet.setenv("picky_works", "yes")
	local handle = service.new("picky", picky)
	test.eq(service.query "picky", handle)
end)

test.case("query waits for new; nothing is made by asking", function()
	local query = rt.start(service.query, "later")
	local second = rt.start(service.query, "later")
	skynet.sleep(1)
	test.eq(query.done, nil)
	for _, entry in pairs(info()) do
		test.ne(entry.name, "later")
	end
	local handle = service.new("later", answer_arguments)
	test.eq(select(2, rt.join(query)), handle)
	test.eq(select(2, rt.join(second)), handle)
end)

test.case("all who wait for a boot that fails are told", function()
	local function slow_failure()
		require "skynet".sleep(5)
		error "late"
	end
	local results = {}
	for i = 1, 3 do
		results[i] = rt.start(service.new, "slowfail", slow_failure)
	end
	for i = 1, 3 do
		test.eq(rt.join(results[i]), false)
	end
end)

test.case("concurrent new of one name boots once", function()
	local function slow_start()
		local skynet = require "skynet"
		skynet.start(function() skynet.sleep(3) end)
	end
	local results = {}
	for i = 1, 4 do
		results[i] = rt.start(service.new, "slowstart", slow_start)
	end
	local _, handle = rt.join(results[1])
	test.ok(handle)
	for i = 2, 4 do
		test.eq(select(2, rt.join(results[i])), handle)
	end
end)

test.case("close kills the instance once; a new one may follow", function()
	local handle = service.query "foo"
	test.eq(service.close "foo", true)
	test.eq(service.close "foo", false)
	test.eq(service.close "never was", false)
	test.err(function() skynet.call(handle, "lua") end, "call to invalid address")
	local again = service.new("foo", answer_arguments)
	test.ne(again, handle)
end)

test.case("the handle of a service that died, or was closed elsewhere, is not kept", function()
	local handle = service.query "foo"
	core.command("KILL", skynet.address(handle))
	test.wait_for(function() return not pcall(skynet.call, handle, "debug", "PING") end)
	local again = service.new("foo", answer_arguments)
	test.ne(again, handle)
	test.eq(service.query "foo", again)
	local closer = service.new("closer", function()
		local skynet = require "skynet"
		local service = require "skynet.service"
		skynet.dispatch("lua", function(_, _, name)
			skynet.retpack(service.close(name))
		end)
	end)
	test.eq(skynet.call(closer, "lua", "foo"), true)
	local query = rt.start(service.query, "foo")
	skynet.sleep(1)
	test.eq(query.done, nil)
	local third = service.new("foo", answer_arguments)
	test.eq(select(2, rt.join(query)), third)
end)

test.case("INFO of the provider lists what lives", function()
	local handle = service.new("shown", answer_arguments, "a", 2)
	local entry = info()[skynet.address(handle)]
	test.eq(entry.name, "shown")
	test.eq(entry.init, "a,2")
	test.match(entry.time, "%d%d:%d%d:%d%d")
	test.eq(entry.status, nil)
	local waiting = rt.start(service.new, "waiting", function()
		local skynet = require "skynet"
		skynet.start(function()
			while not skynet.getenv "waiting_may_start" do skynet.sleep(1) end
		end)
	end)
	test.wait_for(function()
		for _, e in pairs(info()) do
			if e.name == "waiting" and e.status == "booting" then
				return true
			end
		end
	end)
	skynet.setenv("waiting_may_start", "yes")
	test.eq(rt.join(waiting), true)
	test.err(function()
		skynet.call(skynet.uniqueservice "service_provider", "lua", "nosuch")
	end, "call failed")
end)

test.case("ten function services keep apart", function()
	local handles = {}
	for i = 1, 10 do
		handles[i] = service.new("kv" .. i, function()
			local skynet = require "skynet"
			local store = {}
			skynet.start(function()
				skynet.dispatch("lua", function(_, _, cmd, key, value)
					if cmd == "set" then
						store[key] = value
					end
					skynet.retpack(store[key])
				end)
			end)
		end)
		skynet.call(handles[i], "lua", "set", "k", i)
	end
	for i = 1, 10 do
		test.eq(skynet.call(handles[i], "lua", "get", "k"), i)
	end
end)

test.run()
