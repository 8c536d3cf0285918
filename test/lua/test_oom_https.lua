-- HTTPS and WebSockets over TLS, both ends, in services whose allocations fail, every so many in
-- turn: a request may fail, or its connection end, and no connection is left open.

local skynet = require "skynet"
local certs = require "certs"
local oom = require "oom"
local test = require "testlib"

-- There are many allocations.
local STEP = 2

local target, other

local function sweep(question)
	oom.sweep { handle = target, ask = question, step = STEP, slack = 256 }
end

local function ask(handle, ...)
	return skynet.call(handle, "lua", ...)
end

local function url_of(scheme, port, path)
	return string.format("%s://localhost:%d%s", scheme, port, path)
end

test.case("an HTTPS server", function()
	local port = ask(target, "listen", true)
	sweep(function() return ask(other, "fetch", url_of("https", port, "/hello")), "hello" end)
end)

test.case("an HTTPS client", function()
	local port = ask(other, "listen", true)
	sweep(function() return ask(target, "fetch", url_of("https", port, "/stream")), "1,2,3," end)
end)

test.case("a WebSocket server with TLS", function()
	local port = ask(target, "listen_ws", true)
	sweep(function() return ask(other, "talk_ws", url_of("wss", port, "/")), "hello" end)
end)

test.case("a WebSocket client with TLS", function()
	local port = ask(other, "listen_ws", true)
	sweep(function() return ask(target, "talk_ws", url_of("wss", port, "/")), "hello" end)
end)

test.case("(clean-up)", certs.remove)

test.run(function()
	local folder = certs.make()
	target = oom.newservice("oom_http", ".", folder)
	other = skynet.newservice("oom_http", ".", folder)
end)
