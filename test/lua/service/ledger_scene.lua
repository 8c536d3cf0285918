-- ledger_scene: for test_ledger.py. Brings the node into several states and
-- logs for each what the ledger and the system say.

local skynet = require "skynet"
require "skynet.manager"
local core = require "skynet.core"
local memory = require "skynet.memory"
local socket = require "skynet.socket"

local MIB = 1024 * 1024
local role = ...

-- A service that hoards.
if role then
	local hoard = {}
	local command = {}

	function command.lua(bytes)
		for i = 1, bytes // 1024 do
			hoard[i] = { ("x"):rep(900) .. i }
		end
	end

	function command.small(n)
		for i = 1, n do
			hoard[i] = { i }
		end
	end

	function command.c(bytes)
		for i = 1, bytes // 65536 do
			hoard[i] = table.pack(core.pack(("y"):rep(65000)))
		end
	end

	function command.free()
		for _, block in pairs(hoard) do
			if type(block[1]) == "userdata" then
				core.trash(block[1], block[2])
			end
		end
		hoard = {}
		collectgarbage()
	end

	skynet.start(function()
		skynet.dispatch("lua", function(_, _, cmd, ...)
			command[cmd](...)
			skynet.retpack(true)
		end)
	end)
	return
end

-- Pages that somebody is just giving back are already in no figure.
local function settled()
	local l
	for _ = 1, 400 do
		l = memory.ledger()
		if math.abs(l.sum - l.rss) < l.rss / 20 then
			break
		end
		skynet.sleep(5)
	end
	return l
end

local function report(scene)
	local l = settled()
	local parts = {}
	for name, bytes in pairs(l.parts) do
		assert(bytes >= 0 or name:find "never touched", name)
		parts[#parts + 1] = string.format("%s=%d", name, bytes)
	end
	table.sort(parts)
	skynet.error("parts " .. scene .. ": " .. table.concat(parts, "; "))
	skynet.error(string.format("scene %s sum %d rss %d", scene, l.sum, l.rss))
	return l
end

local function service(arg)
	return skynet.newservice(SERVICE_NAME, arg or "helper")
end

-- Of one service, once the messages that concern it have settled.
local function figures(handle)
	return memory.services()[handle]
end

local function check(claim, ...)
	if not claim then
		skynet.error("claim failed: " .. table.concat({ ... }, " "))
	end
end

local scene = {}

function scene.idle()
	report "idle"
end

function scene.services()
	local list = {}
	for i = 1, 1000 do
		list[i] = service()
	end
	report "services"
	check(figures(list[1]).lua > 1000 and figures(list[1]).code > 1000, "a small service")
	for _, handle in ipairs(list) do
		skynet.kill(handle)
	end
end

function scene.lua()
	local big, small = service(), service()
	skynet.call(big, "lua", "lua", 64 * MIB)
	skynet.call(small, "lua", "small", 500000)
	local l = report "lua"
	check(l.services[big].lua > 60 * MIB, "Lua heap", l.services[big].lua)
	check(l.services[big].c < MIB, "no C memory")
	skynet.kill(big)
	skynet.kill(small)
end

function scene.c()
	local hog = service()
	skynet.call(hog, "lua", "c", 64 * MIB)
	local l = report "c"
	check(l.services[hog].c > 60 * MIB, "C memory", l.services[hog].c)
	check(l.services[hog].lua < 4 * MIB, "no Lua heap")
	skynet.call(hog, "lua", "free")
	check(figures(hog).c < MIB, "freed again")
	report "freed"
	check(memory.trim(), "trim works")
	-- Other workers give back what they keep meanwhile.
	while memory.ledger().rss > l.rss - 40 * MIB do
		skynet.sleep(5)
	end
	report "trimmed"
	skynet.kill(hog)
end

-- A service that does nothing: what is sent to it stays.
function scene.mailbox()
	local full = core.addresscommand("LAUNCH", "t_stall")
	local text = ("z"):rep(1000)
	for _ = 1, 30000 do
		core.send(full, skynet.PTYPE_TEXT, 0, text)
	end
	local m = figures(full)
	check(m.messages >= 29999 and m.messages <= 30000, "messages", m.messages)
	check(m.mailbox == m.messages * 1000, "mailbox", m.mailbox)
	check(figures(skynet.self()).c > 30000 * 1000, "sender is charged until it is freed")
	report "mailbox"
	core.command("SIGNAL", skynet.address(full) .. " 1")
	core.command("KILL", skynet.address(full))
end

function scene.sockets()
	local listener, ip, port = socket.listen("127.0.0.1", 0)
	local ends = {}
	socket.start(listener, function(fd)
		ends[#ends + 1] = fd
		socket.start(fd)
		socket.pause(fd)
	end)
	local clients = {}
	local block = ("s"):rep(64 * 1024)
	for i = 1, 20 do
		clients[i] = assert(socket.open(ip, port))
	end
	-- How much the system's buffers take differs from run to run.
	local m
	repeat
		for _ = 1, 40 do
			for i = 1, #clients do
				socket.write(clients[i], block)
			end
		end
		m = figures(skynet.self())
	until m.unsent > 10 * MIB
	check(m.sockets >= 21, "sockets", m.sockets)
	check(m.c >= m.unsent, "unsent data is C memory of the owner", m.c, m.unsent)
	report "sockets"
	for _, fd in ipairs(clients) do
		socket.abandon(fd)
		skynet.fork(socket.close, fd)
	end
end

skynet.start(function()
	for _, name in ipairs { "idle", "services", "lua", "c", "mailbox", "sockets" } do
		local ok, err = pcall(scene[name])
		if not ok then
			skynet.error("claim failed: " .. name .. ": " .. tostring(err))
		end
	end
	skynet.error "scenes are over"
end)
