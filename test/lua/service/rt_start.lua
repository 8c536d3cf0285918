-- Services of test_start, one per mode.

local skynet = require "skynet"
require "skynet.manager"

local words = { ... }
local mode = words[1]
local result
local go = {}

local command = {}

function command.result()
	return result
end

function command.tasks()
	return skynet.task()
end

function command.go()
	skynet.wakeup(go)
end

local function serve()
	skynet.dispatch("lua", function(_, _, cmd, ...)
		skynet.retpack(command[cmd](...))
	end)
end

local function add(name)
	result = result or {}
	result[#result + 1] = name
end

local start = {}

function start.slow()
	skynet.sleep(5)
end

function start.suspended()
	skynet.register ".rt_start_suspended"
	skynet.wait(go)
	result = "started"
end

function start.raise()
	error "start fails on purpose"
end

function start.exit()
	skynet.exit()
end

function start.exit_later()
	skynet.sleep(2)
	skynet.exit()
end

function start.order()
	add "start"
end

start.fork_in_main = start.order

local main = {}

function main.block_in_main()
	for _, f in ipairs { skynet.sleep, skynet.wait, skynet.call, skynet.exit } do
		local _, err = pcall(f, 1, "lua")
		add(err)
	end
end

function main.order()
	add "main"
	skynet.init(function()
		skynet.sleep(1)
		add "init 1"
	end)
	skynet.init(function() add "init 2" end)
end

function main.init_raise()
	skynet.init(function() error "init fails on purpose" end)
end

function main.main_raise()
	error "main chunk fails on purpose"
end

function main.fork_in_main()
	skynet.fork(add, "fork")
end

function main.words()
	result = words
end

if main[mode] then
	main[mode]()
end
skynet.start(function()
	serve()
	if start[mode] then
		start[mode]()
	end
end)
if mode == "order" then
	add "behind start"
elseif mode == "twice" then
	local _, err = pcall(skynet.start, print)
	result = err
end
