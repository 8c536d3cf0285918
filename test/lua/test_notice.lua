-- Lines that peers can cause at will: of each kind a hundred are written in a second, and
-- the next one tells how many were not; none is lost, and each names the peer.
-- config: logservice = "snlua"
-- config: logger = "rt_log"

local skynet = require "skynet.manager"
local socket = require "skynet.socket"
local websocket = require "http.websocket"
local channels = require "channels"
local raw = require "wsraw"
local rt = require "rt"
local test = require "testlib"

local LINES = 100 -- in a second

-- Let `cause` happen until lines about it were left out, and told. Each line is written or
-- told, and there are no more of them than may be. Yields.
local function flood(pattern, cause)
	local mark, from, caused = rt.mark(), skynet.now(), 0
	local function count()
		local lines = rt.lines(pattern, mark)
		local hidden = 0
		for _, line in ipairs(lines) do
			hidden = hidden + (tonumber(line:match "%(and (%d+) more of that kind before%)$") or 0)
		end
		return #lines, hidden
	end
	for _ = 1, 20 do
		for _ = 1, 3 * LINES do
			cause()
		end
		caused = caused + 3 * LINES + 1
		skynet.sleep(101)
		cause()
		if select(2, count()) > 0 then
			break
		end
	end
	-- On a busy machine the last line may come so late that it is left out, too: one more, after
	-- a second, tells of it.
	local written
	local function is_complete()
		local hidden
		written, hidden = count()
		return written + hidden == caused
	end
	for _ = 1, 20 do
		if pcall(test.wait_for, is_complete, 200) then
			break
		end
		cause()
		caused = caused + 1
	end
	test.wait_for(is_complete, nil, "lines: " .. pattern)
	local seconds = (skynet.now() - from) // 100 + 2
	test.ok(written <= LINES * seconds, written .. " lines in " .. seconds .. " s")
end

-- A gate of that kind within a service of its own, whose callbacks are `code`, and its port.
local function open_gate(kind, code)
	local gate = rt.agent()
	rt.run(gate, "local netpack = require 'skynet.netpack' local server = require 'snax." .. kind
		.. "' server.start {" .. code .. [[
		embed = true,
		open = function(_, conf) return conf.port end,
	} skynet.ret()]])
	return gate, skynet.call(gate, "lua", "open", { address = "127.0.0.1", port = 0 })
end

test.case("a gate whose handler raises at packages", function()
	local gate, port = open_gate("gateserver", [[
		connect = function(fd) server.openclient(fd) end,
		message = function(_, msg, sz) error(netpack.tostring(msg, sz) .. " not in the mood") end,]])
	local id = socket.open("127.0.0.1", port)
	flood("gateserver: message from %d+ of 127%.0%.0%.1:%d+: .*not in the mood", function()
		socket.write(id, "\0\1x")
	end)
	socket.close(id)
	skynet.kill(gate)
end)

test.case("a gate for browsers whose handler raises at messages, connections and agents that are gone", function()
	local gate, port = open_gate("wsgateserver", [[
		connect = function(fd, _, info)
			if info.url == "/bad" then
				error "no such place"
			end
			server.openclient(fd)
		end,
		message = function(fd, msg, sz)
			if netpack.tostring(msg, sz) == "route" then
				return server.route(fd, skynet.self() + 1000)
			end
			error "not in the mood"
		end,
		lost = function(fd)
			server.route(fd)
			error "where is it?"
		end,]])
	local id = raw.connect(port)
	flood("wsgate: message of %d+ of 127%.0%.0%.1:%d+: .*not in the mood", function()
		socket.write(id, raw.frame(1, "x"))
	end)
	flood("wsgate: lost of %d+ of 127%.0%.0%.1:%d+: .*where is it", function()
		socket.write(id, raw.frame(1, "route") .. raw.frame(1, "y"))
	end)
	socket.close(id)
	flood("wsgate: connect of %d+ of 127%.0%.0%.1:%d+: .*no such place", function()
		local bad = socket.open("127.0.0.1", port)
		socket.write(bad, raw.request({}, "GET /bad HTTP/1.1"))
		socket.close(bad)
	end)
	skynet.kill(gate)
end)

test.case("a WebSocket that is closed when its peer is gone", function()
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id, addr)
		websocket.accept(id, {
			handshake = function()
				socket.shutdown(id)
				websocket.close(id)
			end,
		}, "ws", addr)
	end)
	flood("websocket: close %d+ of 127%.0%.0%.1:%d+: %[Socket Error%]", function()
		local id = socket.open("127.0.0.1", port)
		socket.write(id, raw.request())
		socket.close(id)
	end)
	socket.close(listener)
end)

test.case("a channel whose server is down, or talks nonsense", function()
	local down = channels.channel { port = channels.CLOSED_PORT }
	flood("Connect failed Connection refused 127%.0%.0%.1 %d+", function()
		pcall(down.connect, down, true)
	end)
	local s = channels.server(function(id)
		for line in channels.lines_of(id) do
			socket.write(id, line .. "\n")
		end
	end)
	local chatty = channels.channel(s, {
		response = function(sock)
			return sock:readline "\n", true, "nobody asked"
		end,
	})
	flood("socket: unknown session : x from 127%.0%.0%.1 %d+", function()
		chatty:request "x\n"
	end)
	chatty:close()
	channels.stop(s)
end)

test.case("a service that fails at messages, or forgets to answer", function()
	local agent = rt.agent()
	flood("lua call %[.*%] error : .*the dog ate it", function()
		rt.tell(agent, "error 'the dog ate it'")
	end)
	flood("Maybe forgot response session", function()
		pcall(rt.run, agent, "")
	end)
	skynet.kill(agent)
end)

test.run()
