-- HTTP servers whose allocations fail, each in its turn: a request may fail, or its connection
-- end, and no connection is left open or uncounted.

local skynet = require "skynet"
local socket = require "skynet.socket"
local oom = require "oom"
local rt = require "rt"
local sockets = require "sockets"
local test = require "testlib"

-- A peer waits so long for what may not come, 1/100 s.
local PATIENCE = 60

local target, folder

-- Sends requests on one connection, each after the answer to the one before. Raises unless
-- each answer has what it should.
local function talk(port, requests)
	sockets.connected(port, function(id)
		for _, r in ipairs(requests) do
			socket.write(id, r[1])
			local text = ""
			while not text:find(r[2]) do
				local data = not text:find "^HTTP/1.1 5" and socket.read(id, nil, oom.patience(PATIENCE))
				if not data then
					error(string.format("no answer to %q, but %q", r[1], text))
				end
				text = text .. data
			end
		end
	end)
end

local function request(method, path, body)
	local length = body and "content-length: " .. #body .. "\r\n" or ""
	return method .. " " .. path .. " HTTP/1.1\r\nhost: x\r\n" .. length .. "\r\n" .. (body or "")
end

local port

for name, requests in pairs {
	["one after the other"] = {
		{ request("GET", "/hello"), "hello$" },
		{ request("POST", "/echo", "a body"), "a body$" },
	},
	["a chunked request and response"] = {
		{ "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc$" },
		{ request("GET", "/stream"), "0\r\n\r\n$" },
	},
	["a file"] = { { request("GET", "/files/text"), "this is a file\n$" } },
	["a handler that raises"] = {
		{ request("GET", "/raise"), "^HTTP/1.1 500 " },
		{ request("GET", "/hello"), "hello$" },
	},
	["no such thing"] = { { request("GET", "/nothing"), "^HTTP/1.1 404 " } },
	["a bad request"] = { { "nonsense\r\n\r\n", "^HTTP/1.1 400 " } },
} do
	test.case("http.server, " .. name, function()
		port = port or skynet.call(target, "lua", "listen")
		oom.sweep { handle = target, exchange = function() talk(port, requests) end, slack = 128 }
	end)
end

-- Its time limits begin to run, and what it does at times only is done.
test.case("http.server, its first request", function()
	local first_port
	local requests = { { request("GET", "/hello"), "hello$" }, { "nonsense\r\n\r\n", "^HTTP/1.1 400 " } }
	oom.fresh {
		make = function()
			local handle = skynet.newservice("oom_http", folder)
			first_port = skynet.call(handle, "lua", "listen")
			return handle
		end,
		exchange = function() talk(first_port, requests) end,
		check = function(handle)
			talk(first_port, requests)
			skynet.call(handle, "lua", "exit")
			rt.wait_gone(handle)
		end,
	}
end)

test.case("(clean-up)", function() assert(os.execute("rm -r " .. folder)) end)

test.run(function()
	folder = os.tmpname()
	os.remove(folder)
	assert(os.execute("mkdir " .. folder))
	local f = assert(io.open(folder .. "/text", "w"))
	f:write "this is a file\n"
	f:close()
	target = oom.newservice("oom_http", folder)
end)
