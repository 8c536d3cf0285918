-- The debug console, whose allocations fail, each in its turn: a command says how it ended or
-- the connection ends, and whoever comes next is served.

local skynet = require "skynet.manager"
local driver = require "skynet.socketdriver"
local socket = require "skynet.socket"
local memory = require "skynet.memory"
local oom = require "oom"
local test = require "testlib"

-- A peer waits so long for what may not come, 1/100 s.
local PATIENCE = 300
-- Allocations that fail one after the other.
local BURST = 30

local console, port, target

local function living()
	local n = 0
	for _ in pairs(memory.services()) do
		n = n + 1
	end
	return n
end

-- What comes for a line up to its end, or that of the connection; nil when there is none.
local function converse(line)
	local id = assert(socket.open("127.0.0.1", port))
	local text = ""
	pcall(socket.write, id, line)
	while not text:find "<CMD %u%l*>\n" and not text:find "<CMD OK>\n" do
		local data, why = socket.read(id, nil, PATIENCE)
		if not data then
			text = why ~= "timeout" and text or nil
			break
		end
		text = text .. data
	end
	socket.close(id)
	return text
end

-- Whoever starts a service by hand sees when that is not told.
local function end_started()
	local started = false
	for address, words in pairs(skynet.call(".launcher", "lua", "LIST")) do
		if words == "snlua sv_later" then
			skynet.kill(address)
			started = true
		end
	end
	return started
end

local function sweep(line, want, step)
	local hung
	local before = living()
	local function exchange()
		local text = converse(line .. "\n")
		hung = hung or text == nil
		return text
	end
	local function check()
		test.ok(not hung, "neither an answer nor an end")
		end_started()
		test.match(exchange(), want)
		end_started()
		test.wait_for(function() return living() <= before end, 200, "services to be gone")
	end
	local s = { handle = console, exchange = exchange, check = check, step = step, slack = 128, timers = true }
	test.ok(oom.sweep(s) > 1, "nothing failed")
	-- As many fail, one would not be noticed by itself.
	s.times, s.step = BURST, 3 * step
	oom.sweep(s)
end

for line, want in pairs {
	["list"] = "snlua debug_console 0\n<CMD OK>",
	["stat"] = "task:%d+\n.*<CMD OK>",
	["mem 100"] = "Kb %(snlua .*<CMD OK>",
	["ping .launcher"] = "%d\n<CMD OK>",
	["task .launcher"] = "<CMD OK>",
	["start sv_later"] = ":%x+\tsv_later\n<CMD OK>",
	["start oom_failing"] = "Failed\n<CMD OK>",
	["snax nosuch"] = "Failed\n<CMD OK>",
	["call .launcher 'nosuch'"] = "1:Unknown command\n",
	["call .cslave 'nosuch'"] = "<CMD Error>",
	["nosuch"] = "<CMD Error>",
	["GET /netstat HTTP/1.0\r\n\r"] = "200 OK.*<CMD OK>",
} do
	test.case("debug_console, " .. line:match "[%C]+", function() sweep(line, want, 5) end)
end

test.case("debug_console, a session of the debugger", function()
	sweep("debug " .. skynet.address(target) .. "\ncont", "<CMD OK>", 7)
	test.eq(skynet.call(target, "lua", "echo", 1), 1)
end)

test.run(function()
	target = skynet.newservice "oom_target"
	console = skynet.newservice("debug_console", 0)
	for _, s in ipairs(driver.info()) do
		if s.type == "LISTEN" and s.address == console then
			port = tonumber(s.sock:match ":(%d+)$")
		end
	end
	oom.watch(console)
end)
