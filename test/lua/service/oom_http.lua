-- oom_http FOLDER [CERTS]: an HTTP server and client, and WebSockets both ways, for test_oom_http*.lua
-- and test_oom_websocket.lua.

local skynet = require "skynet"
local socket = require "skynet.socket"
local httpc = require "http.httpc"
local router = require "http.router"
local server = require "http.server"
local websocket = require "http.websocket"
local fault = require "t_oom"
local serve = require "serve"

local folder, certs = ...
local app = router.new()

app:get("/hello", function(_, res)
	res:send(200, "hello", { ["content-type"] = "text/plain" })
end)

app:post("/echo", function(req, res)
	res:send(200, req:body())
end)

app:get("/stream", function(_, res)
	res:start(200, { ["content-type"] = "text/plain" })
	for i = 1, 3 do
		res:write(i .. ",")
		skynet.yield()
	end
end)

app:get("/raise", function()
	error "on purpose"
end)

app:static("/files", folder)

local command = {}

function command.listen(tls)
	local s = server.listen("127.0.0.1", 0, app, {
		max_connections = 8,
		idle_timeout = 3000,
		linger_timeout = 20,
		tls = tls and { cert = certs .. "/server.pem", key = certs .. "/server.key" },
	})
	return s.port
end

function command.get(host, path)
	local _, body = httpc.get(host, path)
	return body
end

-- The certificates of tests are nobody's.
local ANY = { verify = false }

function command.fetch(url)
	local r = assert(httpc.fetch(url, { timeout = fault.patience(300), tls = ANY }))
	assert(r.status == 200, r.status)
	return r.body
end

-- Each message comes back.
local echo = {
	message = function(id, text) websocket.write(id, text) end,
}

function command.listen_ws(tls)
	local listener, _, port = socket.listen("127.0.0.1", 0)
	socket.start(listener, function(id, addr)
		websocket.accept(id, echo, tls and "wss" or "ws", addr, tls and {
			tls = { cert = certs .. "/server.pem", key = certs .. "/server.key" },
		} or nil)
	end)
	return port
end

-- Closes what it has, also when there was no memory the first time.
local guard_meta = {
	__close = function(guard)
		if not pcall(websocket.close, guard.id) then
			websocket.close(guard.id)
		end
	end,
}

function command.talk_ws(url)
	local guard <close> = setmetatable({ id = -1 }, guard_meta)
	-- A limit is a timer that stays for its time.
	guard.id = websocket.connect(url, nil, fault.starving() and 200 or nil, url:find "^wss" and { tls = ANY } or nil)
	websocket.write(guard.id, "hello")
	return websocket.read(guard.id)
end

serve(command)
