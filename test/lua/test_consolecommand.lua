-- skynet.consolecommand: how netstat shows amounts and times (lua-services.md 24.4, net.md
-- 3.3). The commands themselves are tested through the console, in test_console.py.

local skynet = require "skynet"
local socket = require "skynet.socket"
local console = require "skynet.consolecommand"
local test = require "testlib"

local netstat = socket.netstat

-- What netstat shows of a socket with these fields.
local function shown(fields)
	fields.id, fields.type, fields.address = 5, "TCP", 11
	socket.netstat = function() return { fields } end
	local list = console.command.netstat()
	socket.netstat = netstat
	test.eq(#list, 1)
	test.eq({ list[1].id, list[1].type, list[1].address }, { 5, "TCP", ":0000000b" })
	return list[1]
end

test.case("amounts of bytes are left out when 0, and scaled from 1024 on", function()
	for bytes, text in pairs {
		[1] = 1, [1023] = 1023, [1024] = "1.0K", [1536] = "1.5K", [1 << 20] = "1.0M",
		[5 << 30] = "5120.0M",
	} do
		local s = shown { read = bytes, write = bytes, wbuffer = bytes }
		test.eq({ s.read, s.write, s.wbuffer }, { text, text, text })
	end
	local s = shown { read = 0, write = 0, wbuffer = 0 }
	test.eq({ s.read, s.write, s.wbuffer }, {})
end)

test.case("times tell how long ago, in seconds, minutes and hours", function()
	local now = skynet.now
	-- Longer ago than this node has run.
	skynet.now = function() return 1000000 end
	local got = {}
	for ago in pairs { [0] = 1, [4] = 1, [20] = 1, [5999] = 1, [6000] = 1, [6700] = 1,
		[360000] = 1, [372500] = 1, [-5] = 1 } do
		local s = shown { rtime = 1000000 - ago, wtime = 1000000 - ago }
		test.eq(s.rtime, s.wtime)
		got[ago] = s.rtime
	end
	local never = shown { rtime = 0, wtime = 0 }
	skynet.now = now
	test.eq(got, {
		[0] = "0.0s", [4] = "0.04s", [20] = "0.2s", [5999] = "59.99s", [6000] = "1:0s",
		[6700] = "1:7s", [360000] = "1:0:0s", [372500] = "1:2:5s",
		[-5] = "0.0s",
	})
	test.eq({ never.rtime, never.wtime }, {})
end)

test.run()
