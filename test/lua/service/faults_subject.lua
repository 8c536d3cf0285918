-- One of everything that talks to the network, echoing what it gets; and a line protocol
-- ("ctl") through which a test makes this node the client of its own servers.
--
-- Arguments: a folder of test certificates, a folder of files to serve, a port for UDP.
local skynet = require "skynet"
local httpc = require "http.httpc"
local kcp = require "skynet.kcp"
local netpack = require "skynet.netpack"
local driver = require "skynet.socketdriver"
local server = require "http.server"
local router = require "http.router"
local socket = require "skynet.socket"
local socketchannel = require "skynet.socketchannel"
local tls = require "skynet.tls"
local websocket = require "http.websocket"
local dns = require "skynet.dns"

local certs, folder, udp_port = ...
udp_port = math.tointeger(udp_port)
-- Longer than what a test waits for; 1/100 s.
local PATIENCE = 1000
local port = {}
local gate_commands = {}
-- Its id.
local udp

local function tell(name, number)
	port[name] = number
	skynet.error(("port %s %d"):format(name, number))
end

local function listen(name, serve)
	local id, _, number = socket.listen("127.0.0.1", 0)
	socket.start(id, serve)
	tell(name, number)
end

-- Echoes lines of what reads and writes as skynet.socket does.
local function echo_lines(read, write, close)
	local line = read()
	while line and write("echo " .. line .. "\n") do
		line = read()
	end
	close()
end

local function serve_line(id)
	socket.start(id)
	echo_lines(function() return socket.readline(id) end, function(text) return socket.write(id, text) end,
		function() socket.close(id) end)
end

---------------------------------------------------------------------- gate

function gate_commands.data(fd, text)
	driver.send(fd, netpack.pack("echo " .. text))
end

local function open_gate()
	local gate = skynet.newservice "gate"
	function gate_commands.open(fd)
		skynet.call(gate, "lua", "accept", fd)
	end
	local _, number = skynet.call(gate, "lua", "open", {
		address = "127.0.0.1", port = 0, watchdog = skynet.self(), linger = 1,
	})
	tell("gate", number)
end

------------------------------------------------------------------- servers

local function open_servers()
	listen("line", serve_line)
	local app = router.new()
	app:get("/hello", function(_, res) res:send(200, "hello\n") end)
	app:static("/files", folder)
	tell("http", server.listen("127.0.0.1", 0, app).port)
	listen("ws", function(id, addr)
		websocket.accept(id, { message = function(ws, text) websocket.write(ws, "echo " .. text) end }, "ws", addr)
	end)
	local ctx = tls.context { cert = certs .. "/server.pem", key = certs .. "/server.key" }
	listen("tls", function(id)
		local c = tls.accept(id, ctx)
		if c then
			echo_lines(function() return c:readline() end, function(text) return c:write(text) end,
				function() c:close() end)
		end
	end)
	udp = socket.udp_listen("127.0.0.1", udp_port, function(text, from)
		socket.sendto(udp, from, "echo " .. text)
	end)
	tell("udp", udp_port)
	local k = kcp.listen("127.0.0.1", 0, {}, function(c)
		local text = c:receive()
		while text do
			c:write("echo " .. text)
			text = c:receive()
		end
	end)
	tell("kcp", k.port)
end

------------------------------------------------------------------- clients

local client = {}

function client.line(host)
	local id, why = socket.open(host or "127.0.0.1", port.line)
	if not id then
		return why
	end
	socket.write(id, "one\n")
	local line = socket.readline(id)
	socket.close(id)
	return line
end

function client.channel(host)
	local c = socketchannel.channel { host = host or "127.0.0.1", port = port.line, timeout = PATIENCE }
	local ok, line = pcall(c.request, c, "one\n", function(s) return true, s:readline "\n" end)
	c:close()
	return line, ok
end

function client.http()
	local ok, status, body = pcall(httpc.get, "http://127.0.0.1:" .. port.http, "/hello")
	return ok and status .. " " .. body or status
end

function client.tls()
	local c, why = tls.connect("127.0.0.1", port.tls, { ca = certs .. "/ca.pem", server_name = "localhost", verify = false })
	if not c then
		return why
	end
	c:write "one\n"
	local line = c:readline()
	c:close()
	return line
end

-- Both sides of TLS, with files read anew.
function client.context(ca)
	return select(2, pcall(function()
		tls.context { cert = certs .. "/server.pem", key = certs .. "/server.key" }
		local c <close> = assert(tls.connect("127.0.0.1", port.tls, {
			ca = certs .. "/" .. (ca or "ca.pem"), server_name = "localhost" }))
		return "trusted"
	end))
end

function client.ws()
	local ok, id = pcall(websocket.connect, "ws://127.0.0.1:" .. port.ws)
	if not ok then
		return id
	end
	local text
	ok, text = pcall(function()
		websocket.write(id, "one")
		return websocket.read(id)
	end)
	websocket.close(id)
	return text
end

function client.kcp()
	local c, why = kcp.connect("127.0.0.1", port.kcp)
	if not c then
		return why
	end
	c:write "one"
	local text = c:receive(PATIENCE)
	c:close()
	return text
end

function client.resolve(name)
	return select(2, pcall(function() return table.concat(socket.resolve(name), " ") end))
end

-- By the file of hosts alone.
function client.hosts(name)
	dns.DEFAULT_HOSTS, dns.DEFAULT_RESOLV_CONF = certs .. "/hosts", nil
	return select(2, pcall(dns.resolve, name))
end

function client.listen()
	local ok, id = pcall(socket.listen, "127.0.0.1", 0)
	if ok and id then
		socket.close(id)
		return "listened"
	end
	return id
end

function client.udp()
	local ok, id = pcall(socket.udp, function() end, "127.0.0.1", 0)
	if ok and id then
		socket.close(id)
		return "bound"
	end
	return id
end

-- The timer wakes a node that is at rest.
function client.sleep()
	skynet.sleep(1)
	return "slept"
end

-- Waits for the end of what echoes datagrams.
function client.close()
	socket.close(udp)
	return "closed"
end

function client.netstat()
	return #socket.netstat()
end

local function serve_ctl(id)
	socket.start(id)
	local line = socket.readline(id)
	while line do
		local verb, arg = line:match "^(%S+) ?(.*)$"
		local ok, result = pcall(client[verb], arg ~= "" and arg or nil)
		socket.write(id, ("%s\n"):format((tostring(ok and result or "raised " .. tostring(result)):gsub("\n", " "))))
		line = socket.readline(id)
	end
	socket.close(id)
end

skynet.start(function()
	skynet.dispatch("lua", function(_, _, _, verb, ...)
		local f = gate_commands[verb]
		if f then
			f(...)
		end
	end)
	open_gate()
	open_servers()
	listen("ctl", serve_ctl)
	skynet.error "subject is up"
end)
