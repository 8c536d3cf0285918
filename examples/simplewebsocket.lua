-- A WebSocket echo server on port 9948 (config item websocket_port; 20 agents take the
-- connections in turn), and a client in the same node that says hello once a second.
-- Start it with `start = "simplewebsocket"` in a config. With `simplewebsocket wss` it
-- speaks TLS, with the certificate that the config items certfile and keyfile name.

local skynet = require "skynet"
local socket = require "skynet.socket"
local websocket = require "http.websocket"

local mode, protocol = ...
if mode == "wss" then
	mode, protocol = nil, "wss"
end
protocol = protocol or "ws"

local AGENTS = 20

local handle = {}

function handle.handshake(id, header, url)
	skynet.error(string.format("handshake of %s: %s, host %s", websocket.addrinfo(id), url, header.host))
end

function handle.message(id, data, kind)
	websocket.write(id, data, kind)
end

function handle.close(id, code, reason)
	skynet.error("close:", id, code, reason)
end

function handle.error(id)
	skynet.error("lost:", id)
end

local function agent()
	local options = {}
	skynet.start(function()
		if protocol == "wss" then
			-- Here, so that a missing file ends the start and not each connection.
			options.tls = require "http.tlshelper".newctx {
				cert = skynet.getenv "certfile" or "./server-cert.pem",
				key = skynet.getenv "keyfile" or "./server-key.pem",
			}
		end
		skynet.dispatch("lua", function(_, _, id, addr)
			skynet.ignoreret()
			local ok, err = websocket.accept(id, handle, protocol, addr, options)
			if not ok then
				skynet.error(err)
			end
		end)
	end)
end

local function client()
	skynet.start(function()
		skynet.dispatch("lua", function(_, _, url)
			skynet.ignoreret()
			-- The sample's certificate is its own.
			local id = websocket.connect(url, nil, nil, { tls = { verify = false } })
			for n = 1, math.huge do
				local text = "hello world! " .. n
				skynet.error(">: " .. text)
				websocket.write(id, text)
				local answer, reason = websocket.read(id)
				if not answer then
					skynet.error("<: [Close] " .. reason)
					break
				end
				skynet.error("<: " .. answer)
				websocket.ping(id)
				skynet.sleep(100)
			end
		end)
	end)
end

local function main()
	skynet.start(function()
		local agents = {}
		for i = 1, AGENTS do
			agents[i] = skynet.newservice("simplewebsocket", "agent", protocol)
		end
		local port = math.tointeger(skynet.getenv "websocket_port") or 9948
		local listener, address, bound = socket.listen("127.0.0.1", port)
		local turn = 0
		socket.start(listener, function(id, addr)
			turn = turn % AGENTS + 1
			skynet.send(agents[turn], "lua", id, addr)
		end)
		skynet.error(string.format("listen on %s://%s:%d", protocol, address, bound))
		skynet.send(skynet.newservice("simplewebsocket", "client", protocol), "lua",
			string.format("%s://%s:%d/test", protocol, address, bound))
	end)
end

if mode == "agent" then
	agent()
elseif mode == "client" then
	client()
else
	main()
end
