-- Tables of options: names that look like a slip of the pen are told, by an error where a
-- table has nothing but options, by one line where users keep fields of their own beside.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local rt = require "rt"
local test = require "testlib"
local watchdog = require "watchdog"

-- The lines that tell of `name` once f has run. Yields.
local function told(f, name)
	local mark = rt.mark()
	f()
	skynet.call(1, "lua", "count") -- what was logged has arrived
	return rt.lines("'" .. name .. "' does not exist", mark)
end

local function told_once(f, line)
	local lines = told(f, line:match "'(.-)'")
	test.eq(#lines, 1)
	test.match(lines[1], line:gsub("%p", "%%%0") .. "$")
end

test.case("a gate tells of names that are nearly those of options, and takes the player's own", function()
	for _, kind in ipairs { "gate", "wsgate" } do
		local slips = { maxclients = "maxclient", idel_timeout = "idle_timeout", receive_limits = "receive_limit" }
		local conf = { mine = 5, watchdogs = 6, level = "hard", servername = "s", [1] = 7 }
		slips.watchdogs = "watchdog"
		for slip in pairs(slips) do
			conf[slip] = 10
		end
		local mark = rt.mark()
		skynet.kill((watchdog.open(kind, conf)))
		local lines = rt.lines("does not exist", mark)
		test.eq(#lines, 4)
		for slip, meant in pairs(slips) do
			test.eq(#rt.lines(("gate option '%s' does not exist, did you mean '%s'%%?$"):format(slip, meant), mark), 1)
		end
	end
	told_once(function()
		skynet.kill((watchdog.open("wsgate", { pathh = "/" })))
	end, "gate option 'pathh' does not exist, did you mean 'path'?")
	told_once(function()
		skynet.kill((watchdog.open("kcpgate", { max_per_addres = 5, kcp = {} })))
	end, "gate option 'max_per_addres' does not exist, did you mean 'max_per_address'?")
end)

test.case("a name is told once in a service, not at each opening", function()
	local gate = watchdog.open("gate", { maxclients = 5 })
	skynet.call(gate, "lua", "close")
	test.eq(#told(function()
		skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0, maxclients = 5 })
	end, "maxclients"), 0)
	skynet.kill(gate)
end)

test.case("callbacks of a gate", function()
	told_once(function()
		local agent = rt.agent()
		rt.run(agent, [[
			require "snax.gateserver".start { embed = true, connect = print, message = print,
				disconect = print, level = print }
			skynet.ret()]])
		skynet.kill(agent)
	end, "gateserver callback 'disconect' does not exist, did you mean 'disconnect'?")
end)

test.case("channels and their like", function()
	local socketchannel = require "skynet.socketchannel"
	for _ = 1, 2 do
		socketchannel.channel { host = "h", port = 1, conect_timeout = 5, mine = 6 }
	end
	test.eq(#rt.lines "channel option 'conect_timeout' does not exist, did you mean 'connect_timeout'%?$", 1)
	local agent = rt.agent()
	told_once(function()
		rt.run(agent, "require 'skynet.multicast'.new { channel = 1, dispatchs = print } skynet.ret()")
	end, "multicast.new option 'dispatchs' does not exist, did you mean 'dispatch'?")
	skynet.kill(agent)
end)

test.case("callbacks of a websocket", function()
	local websocket = require "http.websocket"
	told_once(function()
		pcall(websocket.accept, 123456, { mesage = print, mine = print })
		local listener, _, port = require "skynet.socket".listen("127.0.0.1", 0)
		require "skynet.socket".start(listener, function(id)
			websocket.accept(id, { mesage = print, mine = print })
		end)
		pcall(websocket.connect, "ws://127.0.0.1:" .. port)
		require "skynet.socket".close(listener)
	end, "websocket callback 'mesage' does not exist, did you mean 'message'?")
end)

test.case("where there is nothing but options, an error names what was meant", function()
	local file = arg and arg[0] or "."
	for text, f in pairs {
		["http.server: unknown option 'idel_timeout', did you mean 'idle_timeout'?"] = function()
			require "http.server".new(print, { idel_timeout = 5 })
		end,
		["http.fetch: unknown option 'redirect', did you mean 'redirects'?"] = function()
			error(select(2, require "http.httpc".fetch("http://127.0.0.1:1", { redirect = 1 })), 0)
		end,
		["unknown websocket option 'max_mesage', did you mean 'max_message'?"] = function()
			require "http.websocket".connect("ws://127.0.0.1:1", nil, nil, { max_mesage = 1 })
		end,
		["unknown option 'windowbits' of the websocket option deflate, did you mean 'window_bits'?"] = function()
			require "http.websocket".connect("ws://127.0.0.1:1", nil, nil, { deflate = { windowbits = 10 } })
		end,
		["unknown tls option 'cipher', did you mean 'ciphers'?"] = function()
			require "skynet.tls".context { cipher = "x" }
		end,
		["unknown tls option 'severname', did you mean 'server_name'?"] = function()
			require "skynet.tls".connect("127.0.0.1", 1, { severname = "x" })
		end,
		["unknown tls option 'zzz'"] = function()
			require "skynet.tls".context { zzz = "x" }
		end,
		["unknown kcp option 'noDelay', did you mean 'nodelay'?"] = function()
			require "skynet.kcp".connect("127.0.0.1", 1, { noDelay = true })
		end,
		["Unknown socket option send_limits, did you mean send_limit?"] = function()
			require "skynet.socket".listen("127.0.0.1", 0, { send_limits = 1 })
		end,
		["cron: unknown option 'misssed', did you mean 'missed'?"] = function()
			require "skynet.cron".schedule("* * * * *", print, { misssed = "all" })
		end,
		["cron: option 'grace' must be a number above 0 or whole number from 0 on, not x"] = function()
			require "skynet.cron".daily("10:00", print, { grace = "x" })
		end,
		["http.static: unknown option 'indx', did you mean 'index'?"] = function()
			require "http.static".handler(file, { indx = "x" })
		end,
		["dns.server: unknown option 'attemps', did you mean 'attempts'?"] = function()
			require "skynet.dns".server("127.0.0.1", 53, { attemps = 1 })
		end,
		["dns.server: option 'timeout' must be a number above 0, not 0"] = function()
			require "skynet.dns".server("127.0.0.1", 53, { timeout = 0 })
		end,
		["unknown zset option 'orders', did you mean 'order'?"] = function()
			require "skynet.zset".new { orders = "low" }
		end,
		["unknown aoi option 'cells', did you mean 'cell'?"] = function()
			require "skynet.aoi".new { cells = 5 }
		end,
		["unknown aoi option '1'"] = function()
			require "skynet.aoi".new { 5 }
		end,
		["unknown snowflake option 'epohc', did you mean 'epoch'?"] = function()
			require "skynet.snowflake".new { node = 1, epohc = 5 }
		end,
		["unknown field 'N'; a cost has ln, r and p)"] = function()
			require "skynet.crypt".scrypt("p", "s", 16, { N = 5 })
		end,
	} do
		local ok, err = pcall(f)
		test.eq(ok, false)
		test.ok(tostring(err):sub(-#text) == text, tostring(err))
	end
end)

test.run()
