-- share: data that one service publishes and another one reads while it changes.
-- Start it as a service (start = "share"). The host, which it starts with the
-- argument "host", publishes a record, changes it twice and deletes it; the reader
-- keeps proxies of two of its parts. See doc/reference/sharedata.md.

local skynet = require "skynet"
require "skynet.manager"
local sharedata = require "skynet.sharedata"

local host = {}

function host.publish()
	sharedata.new("record", { n = 1, list = { "sword", "shield" }, home = { x = 1, y = 2 } })
end

-- The home goes, the list stays.
function host.move_out()
	sharedata.update("record", { n = 2, list = { "sword", "shield", "horse" } })
end

-- Data may also be made by code.
function host.move_in()
	sharedata.update("record", "local x = ... n = 3 list = {} home = { x = x }", 5)
end

function host.delete()
	sharedata.delete "record"
end

local function run_host()
	skynet.dispatch("lua", function(_, _, command)
		skynet.retpack(host[command]())
	end)
end

local function say(...)
	skynet.error("share:", ...)
end

-- Wait for an update: it comes as a message of its own.
local function await(record, n)
	while record.n ~= n do
		skynet.sleep(1)
	end
end

local function read()
	local address = skynet.newservice("share", "host")
	skynet.call(address, "lua", "publish")
	local record = sharedata.query "record"
	local list, home = record.list, record.home
	say("first", record.n, #list, home.x, home.y)

	skynet.call(address, "lua", "move_out")
	await(record, 2)
	say("second", record.n, #list, list[3], record.home)
	-- The path of this proxy has gone.
	say("home", pcall(function() return home.x end))

	skynet.call(address, "lua", "move_in")
	await(record, 3)
	-- It has come back, with a proxy of its own; the old one stays dead.
	say("third", record.n, #list, record.home.x, (pcall(function() return home.x end)))
	-- A proxy travels as a plain table.
	local copy = skynet.unpack(skynet.packstring(record))
	say("packed", copy.n, copy.home.x, getmetatable(copy))

	skynet.call(address, "lua", "delete")
	while pcall(sharedata.query, "record") do
		skynet.sleep(1)
	end
	-- The name is gone; what was read stays.
	say("deleted", record.n)
	skynet.kill(address)
	say "done"
end

local mode = ...
skynet.start(mode == "host" and run_host or read)
