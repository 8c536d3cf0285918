-- The debug console, whose allocations fail, each in its turn: a command says how it ended or
-- the connection ends, and whoever comes next is served.

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local oom = require "oom"
local test = require "testlib"

-- Either an answer or the end of a connection comes: only bounds a failure, 1/100 s.
local PATIENCE = 3000

local console, port, target

-- What comes for a line up to its end, or that of the connection.
local function converse(line)
	local id = assert(socket.open("127.0.0.1", port))
	local text = ""
	pcall(socket.write, id, line)
	while not text:find "<CMD %u%l*>\n" and not text:find "<CMD OK>\n" do
		local data, why = socket.read(id, nil, PATIENCE)
		if not data then
			if why == "timeout" then
				oom.complain "neither an answer nor an end"
			end
			break
		end
		text = text .. data
	end
	socket.close(id)
	return text
end

-- Whoever starts a service by hand sees when that is not told.
local function end_started()
	for address, words in pairs(skynet.call(".launcher", "lua", "LIST")) do
		if words == "snlua sv_later" then
			skynet.kill(address)
		end
	end
end

local function sweep(line, want, step)
	local before = oom.services()
	local function exchange() return converse(line .. "\n") end
	oom.sweep {
		handle = console,
		exchange = exchange,
		check = function()
			end_started()
			test.match(exchange(), want)
			end_started()
			oom.only(before)
		end,
		step = step,
		burst = 3 * step,
		slack = 128,
	}
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
	console = oom.newservice("debug_console", 0)
	port = oom.port_of(console)
end)
