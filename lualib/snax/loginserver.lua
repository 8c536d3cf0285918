-- snax.loginserver: asks clients who they are and gives them a secret.
--
-- One service file, several services. The first one started is the master: it owns the
-- listener, starts the slaves and runs login_handler. A slave owns each connection that
-- the master hands to it, from the handshake to the result line, and closes it in every
-- case; it runs auth_handler. The wire format is in doc/reference/login.md.

local skynet = require "skynet"
require "skynet.manager"
local socket = require "skynet.socket"
local crypt = require "skynet.crypt"
local alive = require "skynet.alive"
local notice = require "skynet.notice"
local options = require "skynet.options"
local handshake = require "snax.loginhandshake"
local NO_MEMORY = require "skynet.nomemory"

-- Most a client may send ahead; its lines are far shorter.
local RECEIVE_LIMIT = 8192
-- What a configuration need not say: the whole handshake, 1/100 s; connections at a time.
local DEFAULT_TIMEOUT = 1000
local DEFAULT_MAXCLIENT = 4096
local DEFAULT_INSTANCE = 8
-- Connections that may wait to be accepted: when a server comes back so do all its players,
-- and who finds no room waits for a second or more.
local BACKLOG = 1024
-- Lines of a kind about what clients do, of each service in a second.
local MAX_LINES = 25

---@class snax.loginserver.conf
---@field host string? default 0.0.0.0
---@field port integer 0: any free one
---@field multilogin boolean? several logins of one uid at the same time
---@field name string? service name without dot, default login
---@field instance integer? slaves, default 8
---@field timeout integer? 1/100 s for the handshake, default 1000
---@field maxclient integer? connections at a time, default 4096
---@field suite "classic"|"modern"|"both"|nil default classic
---@field identity string? Ed25519 secret of the server, for the modern suite
---@field auth_handler fun(token: string): any, any server, uid; raising refuses
---@field login_handler fun(server: any, uid: any, secret: string): string|number|nil
---@field command_handler fun(command: string, ...): ...

local STATUS = {
	[401] = "401 Unauthorized\n",
	[403] = "403 Forbidden\n",
	[406] = "406 Not Acceptable\n",
}

--------------------------------------------------------------------- slave

-- The connection is lost: an error that is not the client's answer.
local lost = setmetatable({}, { __tostring = function() return "socket error" end })

-- Connections between token and result: id -> how to seal the answer.
local waiting = {}

-- Reads and writes lines until a common deadline.
local function line_io(id, timeout)
	local deadline = skynet.now() + timeout
	local io = {}
	function io.read()
		local line, why = socket.readline(id, "\n", math.max(0, deadline - skynet.now()))
		if line then
			return line
		elseif why == "timeout" then
			notice("slow", MAX_LINES, "auth failed: client is too slow (fd = %d)", id)
		else
			notice("closed", MAX_LINES, "auth failed: socket (fd = %d) closed", id)
		end
		error(lost)
	end
	function io.write(line)
		if not socket.write(id, line .. "\n") then
			error(lost)
		end
	end
	return io
end

local function authenticate(conf, id)
	socket.limit(id, RECEIVE_LIMIT)
	local result = handshake.run(line_io(id, conf.timeout), conf)
	local server, uid = conf.auth_handler(result.token)
	return result, server, uid
end

local function finish(id, line)
	local ok = pcall(socket.write, id, line) and pcall(socket.close, id)
	if not ok then
		socket.drop(id)
	end
end

local slave = {}

-- Handshake. Answers true, server, uid, secret; or false and the reason, and then the
-- connection is closed. Yields.
function slave.auth(conf, id, addr)
	notice("connect", MAX_LINES, "connect from %s (fd = %d)", addr, id)
	local started, why = socket.start(id)
	if not started then
		return false, "socket error: " .. why
	end
	local ok, result, server, uid = pcall(authenticate, conf, id)
	if ok then
		waiting[id] = result.seal
		return true, server, uid, result.secret
	elseif result == lost then
		socket.close(id)
	else
		skynet.fork(finish, id, STATUS[401])
	end
	return false, tostring(result)
end

-- The result of an accepted handshake.
function slave.finish(_, id, status, subid)
	local seal = waiting[id]
	if not seal then
		-- It was closed meanwhile.
		return
	end
	local line = STATUS[status] or "200 " .. crypt.base64encode(seal(subid)) .. "\n"
	waiting[id] = nil
	finish(id, line)
end

local function serve_master(conf, session, command, ...)
	local f = slave[command] or error("Invalid login command " .. tostring(command), 0)
	if session == 0 then
		f(conf, ...)
	else
		skynet.retpack(f(conf, ...))
	end
end

local function start_slave(conf)
	-- The connection would stay open.
	skynet._repeat "lua"
	skynet.dispatch("lua", function(session, _, command, id, ...)
		local ok, err = pcall(serve_master, conf, session, command, id, ...)
		if not ok then
			waiting[id] = nil
			socket.drop(id)
			error(err, 0)
		end
	end)
end

-------------------------------------------------------------------- master

-- uids inside login_handler.
local logging_in = {}

local function run_login_handler(conf, server, uid, secret)
	logging_in[uid] = not conf.multilogin or nil
	return tostring(conf.login_handler(server, uid, secret) or "")
end

-- Status for the client, and the subid. Yields.
local function login(conf, server, uid, secret)
	if uid == nil or uid ~= uid then
		return 403, nil, "auth_handler gave no uid, but " .. tostring(uid)
	elseif not conf.multilogin and logging_in[uid] then
		return 406, nil, string.format("User %s is already login", uid)
	end
	local ok, subid = pcall(run_login_handler, conf, server, uid, secret)
	logging_in[uid] = nil
	if not ok then
		return 403, nil, tostring(subid)
	end
	return 200, subid
end

local function log_failure(id, addr, why)
	notice("invalid", MAX_LINES, "invalid client (fd = %d) error = %s (%s)", id, why, addr)
end

-- One connection, from accept to its result. Yields.
local function serve(conf, slaves, index, id, addr)
	local address = slaves[index]
	local called, ok, server, uid, secret = pcall(skynet.call, address, "lua", "auth", id, addr)
	if not called then
		socket.close_fd(id)
		if slaves[index] == address and not alive(address) then
			slaves[index] = skynet.newservice(SERVICE_NAME)
		end
		return log_failure(id, addr, "login slave failed: " .. tostring(ok))
	elseif not ok then
		return log_failure(id, addr, tostring(server))
	end
	local decided, status, subid, why = pcall(login, conf, server, uid, secret)
	if not decided then
		status, subid, why = 403, nil, tostring(status)
	end
	-- First of all: the slave keeps the connection for it.
	skynet.send(address, "lua", "finish", id, status, subid)
	if why then
		log_failure(id, addr, why)
	end
end

local function accept(conf, slaves)
	local n, count = 0, 0
	return function(id, addr)
		if count >= conf.maxclient then
			notice("full", MAX_LINES, "login server: refuse %s, %d clients are connected", addr, count)
			return socket.close_fd(id)
		end
		n = n % #slaves + 1
		local is_counted = false
		local ok, err = pcall(function(...)
			is_counted, count = true, count + 1
			serve(...)
		end, conf, slaves, n, id, addr)
		if is_counted then
			count = count - 1
		end
		if err == NO_MEMORY then
			-- Whoever accepts closes the connection.
			error(err, 0)
		elseif not ok then
			log_failure(id, addr, tostring(err))
		end
	end
end

local function start_master(conf)
	skynet.dispatch("lua", function(_, _, command, ...)
		skynet.retpack(conf.command_handler(command, ...))
	end)
	local id, host, port = socket.listen(conf.host, conf.port, BACKLOG)
	if not id then
		error("login server: " .. host, 0)
	end
	local slaves = {}
	for i = 1, conf.instance do
		slaves[i] = skynet.newservice(SERVICE_NAME)
	end
	skynet.error(string.format("login server listen at : %s %d", host, port))
	socket.start(id, accept(conf, slaves))
end

--------------------------------------------------------------------- start

local OPTIONS = { host = true, port = true, multilogin = true, name = true, instance = true, timeout = true,
	maxclient = true, suite = true, identity = true, auth_handler = true, login_handler = true,
	command_handler = true }
local SUITES = { classic = true, modern = true, both = true }

local function checked(conf)
	local function want(ok, text)
		return ok or error("login server: " .. text, 4)
	end
	want(type(conf) == "table", "it is configured with a table, got a " .. type(conf))
	options.warn("login server option", conf, OPTIONS)
	for _, key in ipairs { "auth_handler", "login_handler", "command_handler" } do
		want(type(conf[key]) == "function", key .. " must be a function")
	end
	want(math.type(tonumber(conf.port)) == "integer", "port must be an integer")
	local instance = conf.instance or DEFAULT_INSTANCE
	want(math.type(instance) == "integer" and instance > 0, "instance must be at least 1")
	local suite = conf.suite or "classic"
	want(SUITES[suite], "suite must be classic, modern or both")
	want(conf.identity == nil or type(conf.identity) == "string" and #conf.identity == 32,
		"identity must be 32 bytes")
	for _, key in ipairs { "timeout", "maxclient" } do
		local n = conf[key]
		want(n == nil or math.type(n) == "integer" and n > 0, key .. " must be a whole number above 0")
	end
	want(conf.name == nil or type(conf.name) == "string", "name must be a text")
	return setmetatable({
		host = conf.host or "0.0.0.0",
		port = math.tointeger(tonumber(conf.port)),
		instance = instance,
		suite = suite,
		timeout = conf.timeout or DEFAULT_TIMEOUT,
		maxclient = conf.maxclient or DEFAULT_MAXCLIENT,
	}, { __index = conf })
end

---Turn the service into a login server: the first one of that name into the master,
---which starts the others. Starts the service.
---@param conf snax.loginserver.conf
local function loginserver(conf)
	local settings = checked(conf)
	local name = "." .. (conf.name or "login")
	skynet.start(function()
		if skynet.localname(name) then
			start_slave(settings)
		else
			skynet.register(name)
			start_master(settings)
		end
	end)
end

return loginserver
