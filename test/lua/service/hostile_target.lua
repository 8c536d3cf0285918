-- hostile_target CERTS PORT: a small echo server of every protocol, each with tight limits, for
-- test_hostile_peers. Says "port NAME NUMBER" of each. CERTS is a folder of make_certs.sh,
-- PORT that of the gate in C.

local skynet = require "skynet"
local socket = require "skynet.socket"
local server = require "http.server"
local tls = require "skynet.tls"
local websocket = require "http.websocket"
local wsgate = require "snax.wsgate"
local kcpgate = require "snax.kcpgate"
local cgate = require "cgate"
local port_of = require "sockets".port

local certs, cgate_port = ...
local certificate = { cert = certs .. "/server.pem", key = certs .. "/server.key" }
local HOST = "127.0.0.1"
-- 1/100 s in which a peer must have said something whole.
local TIME = 100

local function say(name, port)
	skynet.error(string.format("port %s %d", name, port))
end

-- How a gate's client is answered.
local echo = {}

function echo.gate(_, fd, text) socket.write(fd, string.pack(">s2", text)) end
echo.tlsgate = echo.gate
function echo.wsgate(_, fd, text) wsgate.send(fd, text) end
function echo.kcpgate(gate, fd, text) kcpgate.send(gate, fd, text) end

local names = {} -- of gates, by address

local function open_gate(name, service, conf)
	conf.address, conf.port, conf.linger = HOST, 0, 50
	local gate = skynet.newservice(service)
	names[gate] = name
	local _, port = skynet.call(gate, "lua", "open", conf)
	say(name, port)
end

local notice = {}

function notice.open(gate, fd)
	skynet.call(gate, "lua", "accept", fd)
end

function notice.data(gate, fd, text)
	echo[names[gate]](gate, fd, text)
end

local function gates()
	skynet.dispatch("lua", function(_, gate, _, what, ...)
		if notice[what] then
			notice[what](gate, ...)
		end
	end)
	local limits = { first_timeout = TIME, handshake_timeout = TIME, maxpackage = 1000, package_rate = 10000,
		rate_policy = "close", send_limit = 1024 * 1024 }
	local function copy(more)
		local all = {}
		for k, v in pairs(limits) do all[k] = v end
		for k, v in pairs(more) do all[k] = v end
		return all
	end
	open_gate("gate", "gate", copy {})
	open_gate("tlsgate", "gate", copy { tls = certificate })
	open_gate("wsgate", "wsgate", copy {})
	open_gate("kcpgate", "kcpgate", { rate = 50, first_timeout = TIME, idle_timeout = 5 * TIME })
end

local function listen(name, serve)
	local id, _, port = socket.listen(HOST, 0, { send_limit = 1024 * 1024, backlog = 100 })
	socket.start(id, serve)
	say(name, port)
end

-- Lines there and back.
local function lines(read, write)
	local line = read()
	while line and write(line .. "\n") do
		line = read()
	end
end

local function sockets()
	listen("socket", function(id)
		socket.start(id)
		socket.limit(id, 10000)
		lines(function() return (socket.readline(id)) end,
			function(text) return socket.write(id, text) end)
		socket.close(id)
	end)
	local ctx = tls.context(certificate)
	listen("tls", function(id, addr)
		local c, why = tls.accept(id, ctx, { timeout = TIME })
		if not c then
			skynet.error("tls: " .. addr .. ": " .. why)
			return
		end
		c:limit(10000)
		lines(function()
			local line, rest, reason = c:readline()
			if not line then
				skynet.error(string.format("tls: %s: %s", addr, reason or rest))
			end
			return line
		end, function(text) return c:write(text) end)
		c:close()
	end)
	listen("websocket", function(id, addr)
		websocket.accept(id, { message = function(ws, text) websocket.write(ws, text) end }, "ws", addr,
			{ handshake_timeout = TIME, max_message = 1000, send_limit = 1024 * 1024 })
	end)
	local udp
	udp = socket.udp(function(text, from)
		socket.sendto(udp, from, text)
	end, HOST, 0)
	say("udp", port_of(udp))
end

local function web()
	local limits = { header_timeout = TIME, body_timeout = TIME, send_timeout = TIME, linger_timeout = 50,
		body_limit = 1000, socket = { send_limit = 64 * 1024 * 1024, backlog = 100 } }
	local function serve(req, res)
		res:send(200, req:body())
	end
	say("http", server.listen(HOST, 0, serve, limits).port)
	limits.tls = certificate
	say("https", server.listen(HOST, 0, serve, limits).port)
end

skynet.start(function()
	gates()
	cgate(".hostile", string.format("%s:%s 0 100 1000", HOST, cgate_port), function(text) return text end)
	say("cgate", cgate_port)
	sockets()
	web()
	skynet.newservice("debug_console", 0)
end)
