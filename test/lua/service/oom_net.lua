-- oom_net CERTS: servers and clients over TLS, channels, name queries, UDP and KCP, for
-- test_oom_net.lua and test_oom_kcp.lua. CERTS: the folder of the certificates.

local skynet = require "skynet"
local dns = require "skynet.dns"
local kcp = require "skynet.kcp"
local socket = require "skynet.socket"
local socketchannel = require "skynet.socketchannel"
local tls = require "skynet.tls"
local patience = require "t_oom".patience
local channels = require "channels"
local serve = require "serve"
local sockets = require "sockets"

local certs = ...
-- What does not come in this time does not come while allocations fail, 1/100 s.
local PATIENCE = 100
-- Of limits that nothing that fails has to wait for: only bounds a failure.
local LIMIT = 3000
local HOST = "127.0.0.1"

local command = {}

-- Closes what it has, also when there was no memory the first time.
local guard_meta = { __close = function(guard)
	local it = guard.it
	if it and not pcall(it.close, it) then
		it:close()
	end
end }

local server_context, client_context

---A port that sends lines back over TLS.
function command.tls_listen()
	server_context = tls.context { cert = certs .. "/server.pem", key = certs .. "/server.key" }
	local listener, _, port = socket.listen(HOST, 0)
	socket.accept(listener, function(id)
		local guard <close> = setmetatable({ it = false }, guard_meta)
		guard.it = tls.accept(id, server_context, { timeout = patience(PATIENCE) })
		local c = guard.it
		local line = c and c:readline("\n", patience(PATIENCE))
		while line and c:write(line .. "\n") do
			line = c:readline("\n", patience(PATIENCE))
		end
	end)
	return port
end

---Lines to such a port; the last one that comes back.
function command.tls_talk(port, lines)
	client_context = client_context or tls.context { ca = certs .. "/ca.pem" }
	local guard <close> = setmetatable({ it = false }, guard_meta)
	local c = assert(tls.connect(HOST, port, { context = client_context, timeout = patience(PATIENCE) }))
	guard.it = c
	local last
	for _, line in ipairs(lines) do
		assert(c:write(line .. "\n"))
		last = assert(c:readline("\n", patience(PATIENCE)))
	end
	return last
end

local function read_session(sock)
	local session, text = sock:readline():match "^(%d+) (.*)$"
	return tonumber(session), true, text
end

-- name -> channel
local open = {}

---A channel under a name. how: session; auth; backup: its host refuses.
function command.channel(name, port, how)
	open[name] = socketchannel.channel {
		host = HOST,
		port = how.backup and channels.CLOSED_PORT or port,
		backup = how.backup and { { host = HOST, port = port } } or nil,
		response = how.session and read_session or nil,
		auth = how.auth and function(c)
			assert(c:request("let me in\n", channels.read_line) == "let me in")
		end or nil,
		connect_timeout = LIMIT,
	}
end

-- Requests that wait for their answers.
local under_way = 0

---Requests at once; their answers, or false for one that failed.
function command.request(name, texts)
	-- Those of a call that failed, which have the same sessions.
	while under_way > 0 do
		skynet.sleep(1)
	end
	local c = open[name]
	local answers, done = {}, {}
	local limit = patience(PATIENCE)
	for i, text in ipairs(texts) do
		answers[i], done[i] = false, false
		local line, session = text .. "\n", tonumber(text:match "^%d+")
		skynet.fork(function()
			under_way = under_way + 1
			local ok, answer = pcall(c.request, c, line, session or channels.read_line, nil, limit)
			under_way = under_way - 1
			answers[i], done[i] = ok and answer, true
		end)
	end
	local deadline = skynet.now() + 3 * limit
	for i = 1, #texts do
		while not done[i] and skynet.now() < deadline do
			skynet.sleep(1)
		end
	end
	return answers
end

function command.resolve(port, name)
	dns.server(HOST, port, { timeout = patience(10), attempts = 2 })
	dns.flush()
	return (dns.resolve(name))
end

---A port that sends datagrams back.
function command.udp_listen()
	local id
	id = socket.udp(function(text, from)
		socket.sendto(id, from, text)
	end, HOST, 0)
	return sockets.port(id)
end

local function kcp_options()
	local limit = patience(PATIENCE)
	return { connect_timeout = limit, idle_timeout = limit, keepalive = PATIENCE, linger = 1 }
end

---A port that sends messages back over KCP.
function command.kcp_listen()
	return kcp.listen(HOST, 0, kcp_options(), function(c)
		local guard <close> = setmetatable({ it = c }, guard_meta)
		local text = c:receive(patience(PATIENCE))
		while text and c:write(text) do
			text = c:receive(patience(PATIENCE))
		end
	end).port
end

---Messages to such a port; the last one that comes back.
function command.kcp_talk(port, texts)
	local guard <close> = setmetatable({ it = false }, guard_meta)
	local c = assert(kcp.connect(HOST, port, kcp_options()))
	guard.it = c
	local last
	for _, text in ipairs(texts) do
		assert(c:write(text))
		last = assert(c:receive(patience(PATIENCE)))
	end
	return last
end

serve(command)
