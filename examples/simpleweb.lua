-- simpleweb [http|https [PORT]]: a web server on httpd and twenty agents, port 8001.
-- It tells what it was asked. For https it takes the certificate of the configuration
-- keys certfile (default ./server-cert.pem) and keyfile (./server-key.pem). For most
-- uses webserver.lua is the shorter way.

local skynet = require "skynet"
local socket = require "skynet.socket"
local httpd = require "http.httpd"
local sockethelper = require "http.sockethelper"
local urllib = require "http.url"

local AGENTS = 20
local BODY_LIMIT = 8192
-- 1/100 s that a peer may be silent.
local READ_TIMEOUT = 3000

local mode, protocol, port = ...
if mode ~= "agent" then
	protocol, port = mode or "http", math.tointeger(tonumber(protocol)) or 8001
end

-------------------------------------------------------------------- an agent

-- A name that came more than once has an array.
local function joined(value)
	return type(value) == "table" and table.concat(value, ",") or value
end

local function describe(url, method, header, body)
	local path, query = urllib.parse(url)
	local lines = {}
	if header.host then
		lines[1] = "host: " .. tostring(header.host)
	end
	lines[#lines + 1] = "path: " .. path
	lines[#lines + 1] = "method: " .. method
	for name, value in pairs(urllib.parse_query(query)) do
		lines[#lines + 1] = string.format("query: %s= %s", name, joined(value))
	end
	lines[#lines + 1] = "-----header----"
	for name, value in pairs(header) do
		lines[#lines + 1] = name .. " = " .. joined(value)
	end
	lines[#lines + 1] = "-----body----\n" .. body
	return table.concat(lines, "\n") .. "\n"
end

-- The functions that read from a started connection and write to it.
local function plain(id)
	return sockethelper.readfunc(id, nil, READ_TIMEOUT), sockethelper.writefunc(id), function() end
end

local context

-- Before the first connection: a missing file ends the start.
local function load_certificate()
	context = require "http.tlshelper".newctx {
		cert = skynet.getenv "certfile" or "./server-cert.pem",
		key = skynet.getenv "keyfile" or "./server-key.pem",
	}
end

local function encrypted(id)
	local tls = require "http.tlshelper"
	local session = tls.newtls("server", context)
	tls.init_responsefunc(id, session, READ_TIMEOUT)()
	local read = tls.readfunc(id, session, READ_TIMEOUT)
	return read, tls.writefunc(id, session), tls.closefunc(session)
end

local function answer(id)
	local read, write, close = (protocol == "https" and encrypted or plain)(id)
	local code, url, method, header, body = httpd.read_request(read, BODY_LIMIT, write)
	local ok, err = true, nil
	if code == 200 then
		local described, text = pcall(describe, url, method, header, body)
		code = described and 200 or 400
		ok, err = httpd.write_response(write, code, text, { connection = "close" })
	elseif code then
		ok, err = httpd.write_response(write, code)
	elseif url == sockethelper.socket_error then
		skynet.error "socket closed"
	else
		skynet.error(url)
	end
	if not ok then
		skynet.error(string.format("fd = %d, %s", id, err))
	end
	close()
end

local function serve(id)
	if socket.start(id) then
		local ok, err = pcall(answer, id)
		if not ok then
			skynet.error(string.format("fd = %d, %s", id, err))
		end
		socket.close(id)
	end
end

----------------------------------------------------------------- the listener

local function listen()
	local agents = {}
	for i = 1, AGENTS do
		agents[i] = skynet.newservice("simpleweb", "agent", protocol)
	end
	local id, _, bound = socket.listen("0.0.0.0", port)
	skynet.error(string.format("Listen web port %d, protocol %s", bound, protocol))
	local turn = 0
	socket.start(id, function(fd, peer)
		local agent = agents[turn + 1]
		skynet.error(peer .. " connected, pass it to agent " .. skynet.address(agent))
		skynet.send(agent, "lua", fd)
		turn = (turn + 1) % AGENTS
	end)
end

if mode == "agent" then
	skynet.start(function()
		if protocol == "https" then
			load_certificate()
		end
		skynet.dispatch("lua", function(_, _, id) serve(id) end)
	end)
else
	skynet.start(listen)
end
