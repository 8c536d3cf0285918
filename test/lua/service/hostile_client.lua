-- hostile_client CERTS: clients of every protocol for test_hostile_servers. A connection to
-- its port says "KIND PORT" a line and is told "ok TEXT" or "failed WHY"; several at a time.

local skynet = require "skynet"
local socket = require "skynet.socket"
local httpc = require "http.httpc"
local tls = require "skynet.tls"
local websocket = require "http.websocket"
local socketchannel = require "skynet.socketchannel"

local certs = ...
local HOST = "127.0.0.1"
-- 1/100 s for each phase, bytes of an answer.
local TIME, MOST = 100, 100000
local trusting = { ca = certs .. "/ca.pem", server_name = "localhost", timeout = TIME }

local client = {}

function client.http(port)
	local r = assert(httpc.fetch(string.format("http://%s:%d/", HOST, port),
		{ timeout = TIME, body_limit = MOST }))
	return r.body
end

function client.httpc(port)
	httpc.timeout = TIME
	local _, body = httpc.get(HOST .. ":" .. port, "/")
	return body
end

function client.tls(port)
	local c = assert(tls.connect(HOST, port, trusting))
	local line, _, why = c:readline("\n", TIME)
	c:close()
	return assert(line, why)
end

function client.websocket(port)
	local id = websocket.connect(string.format("ws://%s:%d/", HOST, port), nil, TIME,
		{ max_message = 1000, idle_timeout = TIME })
	local ok, text, why = pcall(websocket.read, id)
	websocket.close(id)
	return assert(assert(ok and text, why or text))
end

-- Reads nothing for a while: what the server sends meanwhile has to wait.
function client.lazy(port)
	local id = websocket.connect(string.format("ws://%s:%d/", HOST, port), nil, TIME)
	skynet.sleep(TIME)
	local text = websocket.read(id)
	websocket.close(id)
	return text
end

local function request(port, read)
	local c = socketchannel.channel { host = HOST, port = port, timeout = TIME }
	local ok, text = pcall(c.request, c, "hello\n", read)
	c:close()
	return ok and text or error(text, 0)
end

function client.channel(port)
	return request(port, function(sock) return true, sock:readline() end)
end

-- An answer says how long it is.
function client.sized(port)
	return request(port, function(sock)
		return true, sock:read(assert(tonumber(sock:readline()), "no length"))
	end)
end

skynet.start(function()
	local id, _, port = socket.listen(HOST, 0)
	socket.accept(id, function(fd)
		local line = socket.readline(fd)
		while line do
			local kind, target = line:match "^(%w+) (%d+)$"
			local ok, text = pcall(client[kind], math.tointeger(tonumber(target)))
			text = tostring(text):gsub("%c", " "):sub(1, 500)
			socket.write(fd, (ok and "ok " or "failed ") .. text .. "\n")
			line = socket.readline(fd)
		end
		socket.close(fd)
	end)
	skynet.error("port " .. port)
end)
