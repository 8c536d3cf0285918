-- A service of test_stress: does random things, with a seed of its own.

local skynet = require "skynet"
local queue = require "skynet.queue"
local sc = require "skynet.coroutine"

local seed = tonumber((...))
math.randomseed(seed)
local peers = {}
local tasks = {}
local cs = queue()
local working = 0

local function peer()
	return peers[math.random(#peers)]
end

local action = {}

function action.call()
	pcall(skynet.call, peer(), "lua", "echo", math.random(1000))
end

function action.call_fail()
	pcall(skynet.call, peer(), "lua", "fail")
end

function action.call_slow()
	pcall(skynet.call_timeout, math.random(0, 3), peer(), "lua", "slow", math.random(0, 4))
end

function action.sleep()
	skynet.sleep(math.random(0, 2))
end

function action.wait()
	local token = {}
	skynet.timeout(math.random(0, 2), function() skynet.wakeup(token) end)
	skynet.wait(token)
end

function action.fork()
	for _ = 1, math.random(5) do
		skynet.fork(skynet.sleep, math.random(0, 1))
	end
	tasks[#tasks + 1] = skynet.fork(function()
		local _ <close> = setmetatable({}, { __close = function() skynet.fork(function() end) end })
		skynet.sleep(math.random(0, 30))
	end)
end

function action.kill()
	if #tasks > 0 then
		skynet.killthread(table.remove(tasks, math.random(#tasks)))
	end
end

function action.queue()
	cs(skynet.sleep, math.random(0, 1))
end

function action.coroutine()
	local co = sc.create(function()
		skynet.yield()
		sc.yield(1)
		action.call()
		if math.random(3) == 1 then error "inside" end
	end)
	sc.resume(co)
	sc.resume(co)
end

function action.select()
	local set = skynet.request()
	for _ = 1, math.random(4) do
		set { peer(), "lua", "slow", math.random(0, 3) }
	end
	for _ in set:select(math.random(0, 4)) do
		if math.random(5) == 1 then break end
	end
end

function action.defer()
	pcall(skynet.call_timeout, 20, peer(), "lua", "defer")
end

function action.garbage()
	for _ = 1, 300 do
		local _ = { {} }
	end
	if math.random(20) == 1 then collectgarbage() end
end

local names = {}
for name in pairs(action) do
	names[#names + 1] = name
end
table.sort(names)

local command = {}

function command.peers(list)
	peers = list
	return true
end

function command.echo(...)
	return ...
end

function command.fail()
	error("a chaos error", 0)
end

function command.slow(ti)
	skynet.sleep(ti)
	return ti
end

function command.work(n)
	working = working + 1
	for _ = 1, n do
		action[names[math.random(#names)]]()
	end
	working = working - 1
	return n
end

function command.idle()
	tasks = {}
	return working == 0
end

function command.exit()
	skynet.exit()
end

skynet.start(function()
	skynet.dispatch("lua", function(session, _, cmd, ...)
		if cmd == "defer" then
			local reply = skynet.response()
			local how = math.random(4)
			if how == 1 then
				skynet.timeout(1, function() reply(true, 1) end)
			elseif how == 2 then
				reply(false)
			elseif how == 3 then
				reply(true)
			end
			return
		end
		if session == 0 then
			command[cmd](...)
		else
			skynet.retpack(command[cmd](...))
		end
	end)
end)
