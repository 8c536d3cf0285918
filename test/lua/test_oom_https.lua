-- HTTPS and WebSockets over TLS, both ends, in services whose allocations fail, every so many in
-- turn: a request may fail, or its connection end, and no connection is left open.

local skynet = require "skynet"
local certs = require "certs"
local oom = require "oom"
local test = require "testlib"

-- There are many allocations.
local STEP = 2

local target, other

local function sweep(exchange)
	-- Time limits of handshakes, and of connections that are kept, stay for their time.
	oom.sweep { timers = true, step = STEP, handle = target, exchange = function() pcall(exchange) end,
		check = exchange, slack = 256 }
end

local function ask(handle, ...)
	return skynet.call(handle, "lua", ...)
end

local function url_of(scheme, port, path)
	return string.format("%s://localhost:%d%s", scheme, port, path)
end

test.case("an HTTPS server", function()
	local port = ask(target, "listen", true)
	sweep(function() test.eq(ask(other, "fetch", url_of("https", port, "/hello")), "hello") end)
end)

test.case("an HTTPS client", function()
	local port = ask(other, "listen", true)
	sweep(function() test.eq(ask(target, "fetch", url_of("https", port, "/stream")), "1,2,3,") end)
end)

test.case("a WebSocket server with TLS", function()
	local port = ask(target, "listen_ws", true)
	sweep(function() test.eq(ask(other, "talk_ws", url_of("wss", port, "/")), "hello") end)
end)

test.case("a WebSocket client with TLS", function()
	local port = ask(other, "listen_ws", true)
	sweep(function() test.eq(ask(target, "talk_ws", url_of("wss", port, "/")), "hello") end)
end)

test.run(function()
	certs.make()
	local folder = certs.path "ca.pem":match "^(.*)/"
	target = skynet.newservice("oom_http", ".", folder)
	other = skynet.newservice("oom_http", ".", folder)
	oom.watch(target)
end)
