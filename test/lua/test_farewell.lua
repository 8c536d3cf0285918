-- skynet.farewell: what a service says when it is gone.

local skynet = require "skynet"
local farewell = require "skynet.farewell"
local manager = require "skynet.manager"
local test = require "testlib"

local heard = {}

local function speaker(...)
	local s = assert(skynet.newservice "fw_speaker")
	skynet.call(s, "lua", ...)
	return s
end

test.case("a service that exits says farewell", function()
	local s = speaker("one", nil, 3)
	skynet.send(s, "lua", "exit")
	test.wait_for(function() return heard[s] end)
	test.eq(heard[s], { { "farewell", "one", nil, 3, n = 4 } })
end)

test.case("so does one that is killed, and each farewell is said", function()
	local s = speaker "one"
	skynet.call(s, "lua", "two")
	skynet.yield()
	test.eq(heard[s], nil)
	manager.kill(s)
	test.wait_for(function() return heard[s] and #heard[s] == 2 end)
end)

test.case("a farewell to one who is gone before is lost", function()
	local first = assert(skynet.newservice "sv_helper")
	local s = assert(skynet.newservice "fw_speaker")
	skynet.call(first, "lua", "call", s, "lua", "to the helper")
	manager.kill(first)
	manager.kill(s)
	local after = speaker "after"
	manager.kill(after)
	test.wait_for(function() return heard[after] end)
end)

test.case("arguments are checked", function()
	test.err(function() farewell(nil) end, "number expected")
	test.err(function() farewell(1, "text") end, "userdata expected")
	local msg, size = skynet.pack(1)
	test.err(function() farewell(1, msg, -1) end, "a size expected")
	skynet.trash(msg, size)
end)

test.run(function()
	skynet.dispatch("lua", function(_, source, ...)
		heard[source] = heard[source] or {}
		table.insert(heard[source], table.pack(...))
	end)
end)
